/* test_attention_gpu.cu - the tensor-core attention against the reference backend, then its speed.
 * Inputs are rounded to bf16 first, so that both sides see the same numbers; the reference's
 * backward pass gets the device's own out and log-sum-exp. Outputs are poisoned, rows have gaps
 * that must stay as they were. Exits 1 when anything is off, 4 without a device.
 *   test_attention_gpu [check|time] */
/* SPDX-License-Identifier: MIT */
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "device.h"

extern "C" const t5_backend t5_backend_cuda;
static const t5_backend *gpu = &t5_backend_cuda, *ref = &t5_backend_ref;
static t5_device *dev, *ref_dev;
static int failures;

#define K 64
#define MAX_DISTANCE 128
#define BUCKETS 32

static void must(bool ok, const char *what, const t5_err *err)
{
    if (ok)
        return;
    fprintf(stderr, "test_attention_gpu: %s: %s\n", what, err ? err->text : "failed");
    exit(4);
}

static float uniform(uint32_t tag, uint32_t i)
{
    uint32_t counter[4] = {i / 4, tag, 0, 0}, key[2] = {3, 4};
    return t5_uniform(t5_philox(counter, key).v[i % 4]);
}

static float normal(uint32_t tag, uint32_t i)
{
    float a = uniform(tag, 2 * i), b = uniform(tag, 2 * i + 1);
    return sqrtf(-2 * logf(1 - a)) * cosf(6.2831853f * b);
}

/* One of 65,536 normal values picked by a hash: large matrices are filled in no time. */
static float quick_normal(uint32_t tag, uint32_t i)
{
    static std::vector<float> values;
    if (values.empty())
        for (uint32_t j = 0; j < 65536; j++)
            values.push_back(normal(0, j));
    uint32_t x = (i + tag * 0x9E3779B9u) * 0x85EBCA6Bu;
    x = (x ^ x >> 15) * 0xC2B2AE35u;
    return values[x >> 16];
}

/* ---- device memory ---- */

struct memory {
    void *p = nullptr;
    size_t bytes = 0;
    explicit memory(size_t n) : bytes(n ? n : 1)
    {
        t5_err err = {};
        must(gpu->alloc(dev, &p, bytes, "a test", &err) == 0, "alloc", &err);
        /* NaN in f32 and bf16 */
        must(cudaMemset(p, 0xff, bytes) == cudaSuccess, "poison", nullptr);
    }
    memory(const memory &) = delete;
    ~memory() { gpu->release(dev, p); }
};

template <typename T> static void put(memory &to, const std::vector<T> &from)
{
    gpu->upload(dev, to.p, from.data(), from.size() * sizeof(T));
}

template <typename T> static std::vector<T> get(const memory &from)
{
    std::vector<T> host(from.bytes / sizeof(T));
    t5_err err = {};
    must(gpu->download(dev, host.data(), from.p, host.size() * sizeof(T), &err) == 0, "download",
         &err);
    return host;
}

/* A matrix on both sides: floats (n, width) and bf16 with `ld`. */
struct matrix {
    int64_t n, width, ld;
    std::vector<float> host;
    memory device;
    matrix(int64_t rows, int64_t columns, int64_t gap)
        : n(rows), width(columns), ld(columns + gap), device((size_t)(rows * (columns + gap)) * 2)
    {
    }
    void fill(uint32_t tag, float scale)
    {
        std::vector<uint16_t> raw((size_t)(n * ld), 0xffff);
        host.resize((size_t)(n * width));
        for (int64_t i = 0; i < n * width; i++) {
            bf16 x = __float2bfloat16(quick_normal(tag, (uint32_t)i) * scale);
            host[(size_t)i] = __bfloat162float(x);
            memcpy(&raw[(size_t)(i / width * ld + i % width)], &x, 2);
        }
        put(device, raw);
    }
    /* What the device made of it; false where it wrote beyond its columns */
    bool fetch(std::vector<float> &out) const
    {
        std::vector<uint16_t> raw = get<uint16_t>(device);
        bool clean = true;
        out.resize((size_t)(n * width));
        for (int64_t i = 0; i < n * ld; i++) {
            uint16_t x = raw[(size_t)i];
            if (i % ld >= width)
                clean &= x == 0xffff;
            else {
                uint32_t bits = (uint32_t)x << 16;
                memcpy(&out[(size_t)(i / ld * width + i % ld)], &bits, 4);
            }
        }
        return clean;
    }
};

/* A packed batch on both sides. */
struct packed {
    std::vector<int32_t> offsets, seq;
    std::vector<uint32_t> record;
    t5_pack host = {}, device = {};
    memory d_offsets, d_seq, d_record;
    static int64_t total(const std::vector<int> &lengths)
    {
        int64_t n = 0;
        for (int x : lengths)
            n += x;
        return n;
    }
    explicit packed(const std::vector<int> &lengths, uint32_t first_record = 0)
        : d_offsets((lengths.size() + 1) * 4), d_seq((size_t)total(lengths) * 4),
          d_record(lengths.size() * 4)
    {
        offsets.push_back(0);
        for (size_t b = 0; b < lengths.size(); b++) {
            offsets.push_back(offsets.back() + lengths[b]);
            for (int i = 0; i < lengths[b]; i++)
                seq.push_back((int32_t)b);
            record.push_back(first_record + 17 * (uint32_t)b);
            host.longest = lengths[b] > host.longest ? lengths[b] : host.longest;
        }
        host.n_tokens = offsets.back();
        host.n_seqs = (int64_t)lengths.size();
        device = host;
        put(d_offsets, offsets);
        put(d_seq, seq);
        put(d_record, record);
        host.offsets = offsets.data(), host.seq = seq.data(), host.record = record.data();
        device.offsets = (const int32_t *)d_offsets.p, device.seq = (const int32_t *)d_seq.p;
        device.record = (const uint32_t *)d_record.p;
    }
};

struct position_bias {
    std::vector<float> bias;
    std::vector<int32_t> bucket;
    memory d_bias, d_bucket;
    explicit position_bias(int heads)
        : d_bias((size_t)(BUCKETS * heads) * 4), d_bucket((2 * MAX_DISTANCE + 1) * 4)
    {
        for (int i = 0; i < BUCKETS * heads; i++)
            bias.push_back(1.5f * normal(77, (uint32_t)i));
        /* near ones apart, far ones together */
        for (int i = -MAX_DISTANCE; i <= MAX_DISTANCE; i++) {
            int far = abs(i), x = far < 8 ? far : 8 + (int)(8 * log2(far / 8.0) / 4.001);
            bucket.push_back(x + (i > 0 ? BUCKETS / 2 : 0));
        }
        put(d_bias, bias);
        put(d_bucket, bucket);
    }
};

/* ---- one case ---- */

struct test_case {
    const char *name;
    int heads, causal, bias;
    float p;
    std::vector<int> nq, nk;
    int gap;
};

/* Largest error against the largest value, and the error's norm against the norm; NaN fails. */
static bool compare(const std::vector<float> &got, const std::vector<float> &want, double worst[2])
{
    double top = 0, off = 0, square = 0, off_square = 0;
    bool finite = got.size() == want.size();
    for (size_t i = 0; i < want.size() && finite; i++) {
        double d = fabs((double)got[i] - want[i]);
        finite = std::isfinite(got[i]) && std::isfinite(want[i]);
        top = fmax(top, fabs((double)want[i]));
        off = fmax(off, d);
        square += (double)want[i] * want[i];
        off_square += d * d;
    }
    worst[0] = finite ? off / (top + 1e-3) : INFINITY;
    worst[1] = finite ? sqrt(off_square) / (sqrt(square) + 1e-3 * sqrt((double)want.size() + 1))
                      : INFINITY;
    return worst[0] <= 2e-2 && worst[1] <= 8e-3;
}

struct operands {
    packed qp, kp;
    matrix q, k, v, out, dout, dq, dk, dv;
    memory lse;
    position_bias table;
    t5_attention shape = {}, host_shape = {};
    operands(const std::vector<int> &nq, const std::vector<int> &nk, int heads, int gap,
             uint32_t first_record)
        : qp(nq, first_record), kp(nk, first_record), q(qp.host.n_tokens, heads * K, gap),
          k(kp.host.n_tokens, heads * K, 2 * gap), v(kp.host.n_tokens, heads * K, gap),
          out(qp.host.n_tokens, heads * K, 0), dout(qp.host.n_tokens, heads * K, 0),
          dq(qp.host.n_tokens, heads * K, gap), dk(kp.host.n_tokens, heads * K, gap),
          dv(kp.host.n_tokens, heads * K, 3 * gap), lse((size_t)qp.host.n_tokens * heads * 4),
          table(heads)
    {
        shape.heads = heads, shape.d_kv = K;
        shape.buckets = BUCKETS, shape.max_distance = MAX_DISTANCE;
        host_shape = shape;
        shape.q_pack = &qp.device, shape.k_pack = &kp.device;
        host_shape.q_pack = &qp.host, host_shape.k_pack = &kp.host;
    }
    void choose(int causal, int bias, float p)
    {
        t5_dropout drop = {p, {11, 12}, 7};
        shape.causal = host_shape.causal = causal;
        shape.dropout = host_shape.dropout = drop;
        shape.bias = bias ? (const float *)table.d_bias.p : nullptr;
        shape.bucket = bias ? (const int32_t *)table.d_bucket.p : nullptr;
        host_shape.bias = bias ? table.bias.data() : nullptr;
        host_shape.bucket = bias ? table.bucket.data() : nullptr;
    }
    void randomise()
    {
        q.fill(1, 0.35f); /* scores of about 2.8, as sharp as T5's */
        k.fill(2, 1);
        v.fill(3, 1);
        dout.fill(4, 1);
    }
    bool forward(bool with_lse = true)
    {
        return t5_cuda_attention_fwd_64(dev, out.device.p, with_lse ? (float *)lse.p : nullptr,
                                        q.device.p, q.ld, k.device.p, k.ld, v.device.p, v.ld,
                                        &shape);
    }
    bool backward()
    {
        return t5_cuda_attention_bwd_64(dev, dq.device.p, dq.ld, dk.device.p, dk.ld, dv.device.p,
                                        dv.ld, nullptr, dout.device.p, out.device.p,
                                        (const float *)lse.p, q.device.p, q.ld, k.device.p, k.ld,
                                        v.device.p, v.ld, &shape);
    }
};

static void report(const char *name, bool ok, const char *detail)
{
    printf("%s %s: %s\n", ok ? "ok    " : "not ok", name, detail);
    fflush(stdout);
    failures += !ok;
}

static void check_case(const test_case &t)
{
    operands x(t.nq, t.nk, t.heads, t.gap, 100);
    x.randomise();
    x.choose(t.causal, t.bias, t.p);
    bool ok = x.forward() && x.backward();
    int64_t nq = x.qp.host.n_tokens, nk = x.kp.host.n_tokens, width = t.heads * K;
    std::vector<float> out, dq, dk, dv, lse;
    ok = x.out.fetch(out) & x.dq.fetch(dq) & x.dk.fetch(dk) & x.dv.fetch(dv) & ok;
    lse = get<float>(x.lse);
    lse.resize((size_t)(nq * t.heads));
    std::vector<float> r_out(out.size()), r_lse(lse.size()), r_dq(dq.size()), r_dk(dk.size()),
        r_dv(dv.size());
    ref->attention_fwd(ref_dev, r_out.data(), r_lse.data(), x.q.host.data(), width, x.k.host.data(),
                       width, x.v.host.data(), width, &x.host_shape);
    ref->attention_bwd(ref_dev, r_dq.data(), width, r_dk.data(), width, r_dv.data(), width, nullptr,
                       x.dout.host.data(), out.data(), lse.data(), x.q.host.data(), width,
                       x.k.host.data(), width, x.v.host.data(), width, &x.host_shape);
    double e[5][2];
    ok &= compare(out, r_out, e[0]);
    ok &= compare(lse, r_lse, e[1]) && e[1][0] < 1e-4;
    ok &= compare(dq, r_dq, e[2]);
    ok &= compare(dk, r_dk, e[3]);
    ok &= compare(dv, r_dv, e[4]);
    char text[256];
    snprintf(text, sizeof text,
             "%lld x %lld  max/norm error: out %.1e/%.1e lse %.1e/%.1e dq %.1e/%.1e dk %.1e/%.1e "
             "dv %.1e/%.1e",
             (long long)nq, (long long)nk, e[0][0], e[0][1], e[1][0], e[1][1], e[2][0], e[2][1],
             e[3][0], e[3][1], e[4][0], e[4][1]);
    report(t.name, ok, text);
}

static std::vector<uint16_t> rows_of(const matrix &m, int64_t first, int64_t n)
{
    std::vector<uint16_t> all = get<uint16_t>(m.device);
    return std::vector<uint16_t>(all.begin() + first * m.ld, all.begin() + (first + n) * m.ld);
}

/* Twice the same bytes; and the same for a sequence alone as behind others. */
static void check_bytes()
{
    const std::vector<int> lengths = {129, 40, 200};
    operands x(lengths, lengths, 3, 8, 100), one({200}, {200}, 3, 8, 100 + 2 * 17);
    x.randomise();
    x.choose(0, 1, 0.1f);
    one.choose(0, 1, 0.1f);
    bool ok = x.forward() && x.backward();
    matrix *from[] = {&x.q, &x.k, &x.v, &x.dout}, *to[] = {&one.q, &one.k, &one.v, &one.dout};
    matrix *made[] = {&x.out, &x.dq, &x.dk, &x.dv},
           *alone[] = {&one.out, &one.dq, &one.dk, &one.dv};
    std::vector<uint16_t> first[4];
    for (int i = 0; i < 4; i++) {
        first[i] = get<uint16_t>(made[i]->device);
        put(to[i]->device, rows_of(*from[i], 169, 200));
    }
    ok = ok && x.forward() && x.backward();
    ok = ok && one.forward() && one.backward();
    bool same = true, independent = true;
    for (int i = 0; i < 4; i++) {
        same &= first[i] == get<uint16_t>(made[i]->device);
        independent &= rows_of(*made[i], 169, 200) == get<uint16_t>(alone[i]->device);
    }
    report("twice", ok && same, "same bytes in two runs");
    report("alone", ok && independent, "same bytes for a sequence alone and in a batch");
}

/* What is not theirs is left untouched. */
static void check_declined()
{
    operands x({5}, {5}, 1, 8, 0);
    x.randomise();
    x.choose(0, 0, 0);
    bool ok = true;
    x.shape.d_kv = 32;
    ok &= !x.forward() && !x.backward();
    x.shape.d_kv = K;
    x.q.ld += 4;
    ok &= !x.forward() && !x.backward();
    x.q.ld -= 4;
    ok &= !t5_cuda_attention_fwd_64(dev, x.out.device.p, nullptr, (char *)x.q.device.p + 2, x.q.ld,
                                    x.k.device.p, x.k.ld, x.v.device.p, x.v.ld, &x.shape);
    std::vector<float> out;
    x.out.fetch(out);
    for (float v : out)
        ok &= std::isnan(v);
    report("declined", ok, "head size, row distance and alignment that are not theirs");
    ok = x.forward(false);
    x.out.fetch(out);
    for (float v : out)
        ok &= std::isfinite(v);
    for (float v : get<float>(x.lse))
        ok &= std::isnan(v);
    report("inference", ok, "no log-sum-exp wanted, none written");
}

static void check()
{
    const std::vector<int> one = {1}, odd = {1, 7, 8, 9, 15, 16, 17, 31, 33}, small = {27, 1, 20};
    const std::vector<int> wide = {63, 64, 65, 127, 128, 129}, most = {255, 256, 200};
    const std::vector<int> over = {257, 30, 320}, long1 = {600}, long2 = {2000};
    /* with 64 heads so many blocks that one takes all strips of its sequence */
    const std::vector<int> many = {60, 33, 1, 2, 3, 4, 5, 40, 7, 8, 9, 1, 1, 16, 17, 1};
    const std::vector<int> many_keys = {150, 9, 1, 2, 3, 140, 5, 70, 1, 8, 9, 200, 1, 1, 1, 30};
    const test_case cases[] = {
        {"one token", 1, 0, 0, 0, one, one, 0},
        {"one token, dropout", 5, 0, 1, 0.5f, one, one, 8},
        {"one query", 3, 0, 0, 0.2f, one, {300}, 8},
        {"one key", 3, 0, 0, 0.2f, {300}, one, 8},
        {"odd lengths", 3, 0, 0, 0, odd, odd, 8},
        {"odd lengths, bias", 3, 0, 1, 0, odd, odd, 8},
        {"odd lengths, dropout", 3, 0, 0, 0.25f, odd, odd, 8},
        {"odd lengths, causal", 3, 1, 1, 0.1f, odd, odd, 16},
        {"decoder, causal", 4, 1, 1, 0.1f, small, small, 0},
        {"cross", 4, 0, 0, 0.1f, small, {137, 200, 61}, 8},
        {"cross, reversed", 2, 0, 1, 0.1f, {137, 200, 61}, small, 8},
        {"tile edges", 2, 0, 1, 0.1f, wide, wide, 8},
        {"tile edges, causal", 2, 1, 1, 0.1f, wide, wide, 8},
        {"256 tokens", 2, 0, 1, 0.1f, most, most, 24},
        {"256 tokens, causal", 2, 1, 1, 0, most, most, 24},
        {"beyond 256", 2, 0, 1, 0.1f, over, over, 8},
        {"beyond 256, causal", 2, 1, 1, 0.1f, over, over, 8},
        {"long beside short, cross", 2, 0, 0, 0.1f, {300, 27, 5}, {40, 700, 3}, 8},
        {"many blocks, causal", 64, 1, 1, 0.1f, many, many, 8},
        {"many blocks, cross", 64, 0, 0, 0.1f, many, many_keys, 8},
        {"many blocks, cross, reversed", 64, 0, 1, 0.1f, many_keys, many, 8},
        {"causal, fewer keys", 2, 1, 1, 0, {300, 20}, {70, 9}, 8},
        {"causal, more keys", 2, 1, 1, 0, {70, 9}, {300, 20}, 8},
        {"600 tokens", 2, 0, 1, 0.1f, long1, long1, 8},
        {"2,000 tokens", 2, 0, 1, 0.1f, long2, long2, 8},
        {"2,000 tokens, causal", 1, 1, 1, 0.1f, long2, long2, 8},
        {"8,192 keys", 1, 0, 1, 0.1f, {20}, {8192}, 8},
        {"8,192 queries", 1, 0, 1, 0.1f, {8192}, {20}, 8},
    };
    for (const test_case &t : cases)
        check_case(t);
    check_bytes();
    check_declined();
}

/* ---- speed at XXL's 64 heads and SAMSum's lengths ---- */

/* Lengths between low and high, skewed as dialogues are, about `mean` on average. */
static std::vector<int> lengths_like(int n, double mean, double spread, int low, int high,
                                     uint32_t tag)
{
    std::vector<int> x;
    for (int i = 0; i < n; i++) {
        double v = mean * exp(spread * normal(tag, (uint32_t)i) - spread * spread / 2);
        x.push_back((int)fmin(fmax(v, low), high));
    }
    return x;
}

template <typename F> static double microseconds(F run)
{
    const int rounds = 20;
    cudaEvent_t start, stop;
    cudaEventCreate(&start);
    cudaEventCreate(&stop);
    for (int i = 0; i < 3; i++)
        run();
    cudaEventRecord(start, dev->stream);
    for (int i = 0; i < rounds; i++)
        run();
    cudaEventRecord(stop, dev->stream);
    cudaEventSynchronize(stop);
    float ms = 0;
    cudaEventElapsedTime(&ms, start, stop);
    cudaEventDestroy(start);
    cudaEventDestroy(stop);
    return ms * 1000 / rounds;
}

/* Adds the time of forward and backward to us[0] (no dropout) and us[1]. */
static void time_one(double us[2], const char *name, const std::vector<int> &nq,
                     const std::vector<int> &nk, int causal, int bias)
{
    const int heads = 64;
    operands x(nq, nk, heads, 0, 0);
    x.randomise();
    double pairs = 0;
    for (size_t b = 0; b < nq.size(); b++)
        pairs += causal ? nq[b] * (nq[b] + 1.0) / 2 : (double)nq[b] * nk[b];
    double flop = 4.0 * K * heads * pairs;
    for (int i = 0; i < 2; i++) {
        float p = i ? 0.1f : 0;
        x.choose(causal, bias, p);
        double fwd = microseconds([&] { x.forward(); });
        double bwd = microseconds([&] { x.backward(); });
        printf("batch %zu, %s, dropout %g: forward %.1f us (%.0f TFLOP/s), backward %.1f us "
               "(%.0f TFLOP/s)\n",
               nq.size(), name, p, fwd, flop / fwd * 1e-6, bwd, 2.5 * flop / bwd * 1e-6);
        fflush(stdout);
        us[i] += fwd + bwd;
    }
}

static void time_all()
{
    for (int batch : {8, 64}) {
        double us[2] = {0, 0};
        std::vector<int> s = lengths_like(batch, 142, 0.6, 20, 255, 5);
        std::vector<int> t = lengths_like(batch, 27.4, 0.45, 5, 56, 6);
        time_one(us, "encoder", s, s, 0, 1);
        time_one(us, "decoder", t, t, 1, 1);
        time_one(us, "cross", t, s, 0, 0);
        printf("batch %d: source %.0f, target %.1f tokens on average; 24 layers of each: %.2f ms, "
               "with dropout %.2f ms\n",
               batch, (double)packed::total(s) / batch, (double)packed::total(t) / batch,
               us[0] * 24e-3, us[1] * 24e-3);
    }
    double us[2] = {0, 0};
    time_one(us, "one source of 8,192", {8192}, {8192}, 0, 1);
}

int main(int argc, char **argv)
{
    std::string what = argc > 1 ? argv[1] : "all";
    t5_device_options options = {0, 1, T5_COMPUTE_BF16};
    t5_err err = {};
    must(gpu->open(&dev, &options, &err) == 0 && ref->open(&ref_dev, &options, &err) == 0, "open",
         &err);
    if (what != "time")
        check();
    if (what != "check")
        time_all();
    must(gpu->sync(dev, &err) == 0, "run", &err);
    gpu->close(dev);
    ref->close(ref_dev);
    printf("%d failed\n", failures);
    return failures != 0;
}
