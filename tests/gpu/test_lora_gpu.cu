/* test_lora_gpu.cu - lora_fwd and lora_bwd of the CUDA backend against the reference: a line a
 * case, exit status 1 when one is off. With --time it then times FLAN-T5-XXL shapes and prints the
 * memory floor beside each.
 *   test_lora_gpu [--time] [--small] */
/* SPDX-License-Identifier: MIT */
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "device.h"

extern "C" {
extern const struct t5_backend t5_backend_cuda;
}

#define MODULES 3
#define SPARE_ROWS 3 /* behind every output: must stay as they were */

static const t5_backend *const gpu = &t5_backend_cuda, *const ref = &t5_backend_ref;
static t5_device *gpu_dev, *ref_dev;
static int failures;

typedef std::vector<float> floats;

/* ---- data ---- */

static uint64_t seed = 1;
static float uniform()
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (float)(seed >> 40) * 0x1p-24f;
}
static float round_bf16(float x)
{
    return __bfloat162float(__float2bfloat16(x));
}
/* About normal, scaled; on the bf16 grid where the device will hold it so. */
static floats random_floats(int64_t n, float scale, bool grid)
{
    floats v((size_t)n);
    for (float &x : v) {
        x = (uniform() + uniform() + uniform() + uniform() - 2) * 1.732f * scale;
        x = grid ? round_bf16(x) : x;
    }
    return v;
}

static void must(int rc, const t5_err *err)
{
    if (!rc)
        return;
    fprintf(stderr, "test_lora_gpu: %s\n", err->text);
    exit(1);
}

/* A buffer on the device, freed with its owner. */
struct buffer {
    void *p = nullptr;
    size_t bytes;
    explicit buffer(size_t size) : bytes(size)
    {
        t5_err err = {};
        must(gpu->alloc(gpu_dev, &p, size, "test", &err), &err);
    }
    buffer(const buffer &) = delete;
    ~buffer() { gpu->release(gpu_dev, p); }
    void put(const void *from) { gpu->upload(gpu_dev, p, from, bytes); }
    void poison() { cudaMemsetAsync(p, 0xff, bytes, gpu_dev->stream); }
    std::vector<char> get() const
    {
        std::vector<char> out(bytes);
        t5_err err = {};
        must(gpu->download(gpu_dev, out.data(), p, bytes, &err), &err);
        return out;
    }
};

static size_t act_size()
{
    return gpu->activation_size(gpu_dev);
}

static std::vector<char> to_acts(const floats &v)
{
    std::vector<char> out(v.size() * act_size());
    for (size_t i = 0; i < v.size(); i++)
        if (gpu_dev->bf16)
            reinterpret_cast<bf16 *>(out.data())[i] = __float2bfloat16(v[i]);
        else
            reinterpret_cast<float *>(out.data())[i] = v[i];
    return out;
}
static floats from_acts(const std::vector<char> &v)
{
    floats out(v.size() / act_size());
    for (size_t i = 0; i < out.size(); i++)
        out[i] = gpu_dev->bf16 ? __bfloat162float(reinterpret_cast<const bf16 *>(v.data())[i])
                               : reinterpret_cast<const float *>(v.data())[i];
    return out;
}
static floats from_floats(const std::vector<char> &v)
{
    const float *p = reinterpret_cast<const float *>(v.data());
    return floats(p, p + v.size() / sizeof(float));
}

/* ---- one case ---- */

struct shape {
    int64_t n, cols, rows, rank;
    int modules;
    float p;
    bool dx;
};

struct problem {
    shape s;
    int64_t ldx, ldy, ldu;
    floats x, y, dy, dx, a[MODULES], b[MODULES], da[MODULES], db[MODULES];
    std::vector<int32_t> offsets, seq;
    std::vector<uint32_t> record;
    t5_lora lora[MODULES];
};

static problem make_problem(const shape &s)
{
    problem q = {};
    bool grid = gpu_dev->bf16;
    int64_t gap = s.rows % 8 ? 3 : 8, all = s.n + SPARE_ROWS;
    q.s = s;
    q.ldx = s.cols + (s.cols % 8 ? 1 : 8);
    q.ldy = gap + s.modules * (s.rows + gap);
    q.ldu = s.modules * s.rank;
    q.x = random_floats(all * q.ldx, 1, grid);
    q.y = random_floats(all * q.ldy, 1, grid);
    q.dy = random_floats(all * q.ldy, 1, grid);
    q.dx = random_floats(all * q.ldx, 1, grid);
    for (int i = 0; i < s.modules; i++) {
        q.a[i] = random_floats(s.rank * s.cols, 1 / sqrtf((float)s.cols), false);
        q.b[i] = random_floats(s.rows * s.rank, 1 / sqrtf((float)s.rank), false);
        q.da[i] = random_floats(s.rank * s.cols, 1, false);
        q.db[i] = random_floats(s.rows * s.rank, 1, false);
        q.lora[i] = {};
        q.lora[i].rank = s.rank;
        q.lora[i].rows = s.rows;
        q.lora[i].column = gap + i * (s.rows + gap);
        q.lora[i].scale = 1.5f + 0.5f * (float)i;
        q.lora[i].dropout = {s.p, {0x12345678u, 0x9abcdef0u}, 40u + 3u * (uint32_t)i};
    }
    for (int64_t at = 0, length = 1; at < s.n; at += length, length = 1 + (length * 7 + 5) % 61) {
        q.offsets.push_back((int32_t)at);
        q.record.push_back((uint32_t)(1000 + 17 * q.offsets.size()));
        for (int64_t t = at; t < at + length && t < s.n; t++)
            q.seq.push_back((int32_t)q.offsets.size() - 1);
    }
    q.offsets.push_back((int32_t)s.n);
    return q;
}

struct results {
    floats y, u, dx, da[MODULES], db[MODULES];
    std::vector<std::vector<char>> bytes; /* everything written, as it lies on the device */
};

static results run_ref(problem q)
{
    results r;
    floats u((size_t)((q.s.n + SPARE_ROWS) * q.ldu)), work(u.size());
    t5_pack pack = {q.s.n,        (int64_t)q.record.size(), 0, q.offsets.data(),
                    q.seq.data(), q.record.data()};
    for (int i = 0; i < q.s.modules; i++) {
        q.lora[i].a = q.a[i].data(), q.lora[i].b = q.b[i].data();
        q.lora[i].da = q.da[i].data(), q.lora[i].db = q.db[i].data();
    }
    ref->lora_fwd(ref_dev, q.y.data(), q.ldy, u.data(), q.x.data(), q.ldx, q.s.cols, q.lora,
                  q.s.modules, q.s.n, &pack);
    ref->lora_bwd(ref_dev, q.s.dx ? q.dx.data() : nullptr, q.ldx, work.data(), q.dy.data(), q.ldy,
                  u.data(), q.x.data(), q.ldx, q.s.cols, q.lora, q.s.modules, q.s.n, &pack);
    r.y = q.y, r.u = u, r.dx = q.dx;
    for (int i = 0; i < q.s.modules; i++)
        r.da[i] = q.da[i], r.db[i] = q.db[i];
    return r;
}

static void poison_scratch()
{
    size_t bytes = (size_t)256 << 20;
    float *p = t5_cuda_scratch(gpu_dev, bytes);
    if (p)
        cudaMemsetAsync(p, 0xff, bytes, gpu_dev->stream);
}

/* Rows begin .. begin + n - 1 of the problem, without the pack where nothing is dropped. */
static results run_gpu(const problem &q, int64_t begin, int64_t n)
{
    results r;
    int64_t all = n + SPARE_ROWS;
    auto rows = [&](const floats &v, int64_t ld) {
        return to_acts(floats(v.begin() + begin * ld, v.begin() + (begin + all) * ld));
    };
    std::vector<char> hx = rows(q.x, q.ldx), hy = rows(q.y, q.ldy), hdy = rows(q.dy, q.ldy),
                      hdx = rows(q.dx, q.ldx);
    buffer x(hx.size()), y(hy.size()), dy(hdy.size()), dx(hdx.size());
    buffer u((size_t)(all * q.ldu) * act_size()), work(u.bytes);
    buffer offsets(q.offsets.size() * 4), seq(q.seq.size() * 4), record(q.record.size() * 4);
    std::vector<buffer *> params;
    t5_lora lora[MODULES];
    x.put(hx.data()), y.put(hy.data()), dy.put(hdy.data()), dx.put(hdx.data());
    offsets.put(q.offsets.data()), seq.put(q.seq.data()), record.put(q.record.data());
    u.poison(), work.poison();
    for (int i = 0; i < q.s.modules; i++) {
        const floats *from[4] = {&q.a[i], &q.b[i], &q.da[i], &q.db[i]};
        for (const floats *f : from) {
            params.push_back(new buffer(f->size() * sizeof(float)));
            params.back()->put(f->data());
        }
        buffer **at = &params[(size_t)i * 4];
        lora[i] = q.lora[i];
        lora[i].a = (const float *)at[0]->p, lora[i].b = (const float *)at[1]->p;
        lora[i].da = (float *)at[2]->p, lora[i].db = (float *)at[3]->p;
    }
    t5_pack pack = {n,
                    (int64_t)q.record.size(),
                    0,
                    (const int32_t *)offsets.p,
                    (const int32_t *)seq.p,
                    (const uint32_t *)record.p};
    const t5_pack *used = q.s.p > 0 ? &pack : nullptr;
    poison_scratch();
    gpu->lora_fwd(gpu_dev, y.p, q.ldy, u.p, x.p, q.ldx, q.s.cols, lora, q.s.modules, n, used);
    poison_scratch();
    gpu->lora_bwd(gpu_dev, q.s.dx ? dx.p : nullptr, q.ldx, work.p, dy.p, q.ldy, u.p, x.p, q.ldx,
                  q.s.cols, lora, q.s.modules, n, used);
    r.bytes = {y.get(), u.get(), dx.get()};
    r.y = from_acts(r.bytes[0]), r.u = from_acts(r.bytes[1]), r.dx = from_acts(r.bytes[2]);
    for (int i = 0; i < q.s.modules; i++) {
        r.bytes.push_back(params[(size_t)i * 4 + 2]->get());
        r.da[i] = from_floats(r.bytes.back());
        r.bytes.push_back(params[(size_t)i * 4 + 3]->get());
        r.db[i] = from_floats(r.bytes.back());
    }
    std::vector<char> w = work.get();
    r.bytes.emplace_back(w.end() - (std::ptrdiff_t)((size_t)(SPARE_ROWS * q.ldu) * act_size()),
                         w.end());
    for (buffer *b : params)
        delete b;
    return r;
}

/* The largest |got - want| / (rms(want) + |want|) over rows of `used` of `ld` columns from `column`
 * on; infinity where one is not finite. */
static double worst(const floats &got, const floats &want, int64_t n, int64_t ld, int64_t column,
                    int64_t used)
{
    double squares = 0, most = 0;
    for (int64_t i = 0; i < n; i++)
        for (int64_t c = column; c < column + used; c++)
            squares += (double)want[(size_t)(i * ld + c)] * want[(size_t)(i * ld + c)];
    double rms = sqrt(squares / (double)(n * used)) + 1e-30;
    for (int64_t i = 0; i < n; i++)
        for (int64_t c = column; c < column + used; c++) {
            double g = got[(size_t)(i * ld + c)], w = want[(size_t)(i * ld + c)];
            double off = fabs(g - w) / (rms + fabs(w));
            most = std::isfinite(off) ? fmax(most, off) : INFINITY;
        }
    return most;
}

/* 1 - cosine of the angle between the two */
static double angle(const floats &got, const floats &want)
{
    double gw = 0, gg = 0, ww = 0;
    for (size_t i = 0; i < want.size(); i++) {
        gw += (double)got[i] * want[i];
        gg += (double)got[i] * got[i];
        ww += (double)want[i] * want[i];
    }
    return 1 - gw / sqrt(gg * ww);
}

/* What lies beside and behind the modules' columns is still there. */
static bool untouched(const problem &q, const results &r)
{
    for (int64_t i = 0; i < q.s.n + SPARE_ROWS; i++)
        for (int64_t c = 0; c < q.ldy; c++) {
            bool inside = false;
            for (int m = 0; m < q.s.modules; m++)
                inside |= c >= q.lora[m].column && c < q.lora[m].column + q.s.rows;
            if ((i >= q.s.n || !inside) &&
                r.y[(size_t)(i * q.ldy + c)] != q.y[(size_t)(i * q.ldy + c)])
                return false;
        }
    for (int64_t i = 0; i < q.s.n + SPARE_ROWS; i++)
        for (int64_t c = 0; c < q.ldx; c++)
            if ((i >= q.s.n || c >= q.s.cols || !q.s.dx) &&
                r.dx[(size_t)(i * q.ldx + c)] != q.dx[(size_t)(i * q.ldx + c)])
                return false;
    for (size_t i = (size_t)(q.s.n * q.ldu); i < r.u.size(); i++)
        if (!std::isnan(r.u[i]))
            return false;
    for (char c : r.bytes.back())
        if (c != (char)0xff)
            return false;
    return true;
}

/* Without dropout a row alone gives the bytes it gives among others. */
static bool row_stands_alone(const problem &q, const results &r)
{
    int64_t i = q.s.n / 2;
    results one = run_gpu(q, i, 1);
    size_t y = (size_t)q.ldy * act_size(), u = (size_t)q.ldu * act_size();
    return !memcmp(one.bytes[0].data(), r.bytes[0].data() + (size_t)i * y, y) &&
           !memcmp(one.bytes[1].data(), r.bytes[1].data() + (size_t)i * u, u);
}

static void test(const shape &s)
{
    problem q = make_problem(s);
    results want = run_ref(q), got = run_gpu(q, 0, s.n), again = run_gpu(q, 0, s.n);
    double y = 0, da = 0, db = 0, turn = 0, limit = gpu_dev->bf16 ? 0.03 : 1e-4;
    double u = worst(got.u, want.u, s.n, q.ldu, 0, q.ldu);
    double dx = s.dx ? worst(got.dx, want.dx, s.n, q.ldx, 0, s.cols) : 0;
    for (int m = 0; m < s.modules; m++) {
        y = fmax(y, worst(got.y, want.y, s.n, q.ldy, q.lora[m].column, s.rows));
        da = fmax(da, worst(got.da[m], want.da[m], s.rank, s.cols, 0, s.cols));
        db = fmax(db, worst(got.db[m], want.db[m], s.rows, s.rank, 0, s.rank));
        turn = fmax(turn, fmax(angle(got.da[m], want.da[m]), angle(got.db[m], want.db[m])));
    }
    bool near = u <= limit && y <= limit && dx <= limit && da <= limit && db <= limit &&
                turn <= (gpu_dev->bf16 ? 2e-5 : 1e-9);
    bool same = got.bytes == again.bytes, kept = untouched(q, got);
    bool alone = s.p > 0 || row_stands_alone(q, got);
    bool ok = near && same && kept && alone;
    failures += !ok;
    printf(
        "%s %s n %lld K %lld N %lld R %lld x %d drop %g%s: u %.1e y %.1e dx %.1e da %.1e db %.1e "
        "1-cos %.0e%s%s%s\n",
        ok ? "ok    " : "NOT OK", gpu_dev->bf16 ? "bf16" : "f32 ", (long long)s.n,
        (long long)s.cols, (long long)s.rows, (long long)s.rank, s.modules, (double)s.p,
        s.dx ? "" : " no dx", u, y, dx, da, db, turn, same ? "" : ", differs between two runs",
        kept ? "" : ", wrote beside its outputs", alone ? "" : ", a row depends on its neighbours");
    fflush(stdout);
}

/* ---- times ---- */

/* Copies of the activations are used in turn, so that none is found in the cache of 50 MB. */
static void time_shape(int64_t n, float p, bool backward)
{
    const int64_t K = 4096, N = 4096, LD = 3 * N, R = 16;
    size_t x_bytes = (size_t)(n * K * 2), y_bytes = (size_t)(n * LD * 2);
    int copies = (int)(((size_t)192 << 20) / (x_bytes + y_bytes)) + 1;
    std::vector<char> noise = to_acts(random_floats(1 << 20, 1, true));
    auto fill = [&](buffer &b) {
        for (size_t at = 0; at < b.bytes; at += noise.size())
            gpu->upload(gpu_dev, (char *)b.p + at, noise.data(),
                        b.bytes - at < noise.size() ? b.bytes - at : noise.size());
    };
    buffer x(x_bytes * (size_t)copies), y(y_bytes * (size_t)copies), dx(x_bytes * (size_t)copies);
    buffer u((size_t)(n * 2 * R * 2)), work(u.bytes), offsets(8), seq((size_t)n * 4), record(4);
    buffer a((size_t)(2 * R * K) * 4), b((size_t)(2 * N * R) * 4), da(a.bytes), db(b.bytes);
    fill(x), fill(y), fill(dx), fill(u);
    floats ha = random_floats(2 * R * K, 0.02f, false), hb = random_floats(2 * N * R, 0.02f, false);
    a.put(ha.data()), b.put(hb.data());
    int32_t ends[2] = {0, (int32_t)n};
    uint32_t number = 7;
    offsets.put(ends), record.put(&number);
    gpu->zero(gpu_dev, seq.p, seq.bytes);
    gpu->zero(gpu_dev, da.p, da.bytes);
    gpu->zero(gpu_dev, db.p, db.bytes);
    t5_pack pack = {
        n, 1, n, (const int32_t *)offsets.p, (const int32_t *)seq.p, (const uint32_t *)record.p};
    t5_lora lora[2] = {};
    for (int i = 0; i < 2; i++) {
        lora[i].a = (float *)a.p + i * R * K, lora[i].b = (float *)b.p + i * N * R;
        lora[i].da = (float *)da.p + i * R * K, lora[i].db = (float *)db.p + i * N * R;
        lora[i].rank = R, lora[i].rows = N, lora[i].column = i * 2 * N, lora[i].scale = 2;
        lora[i].dropout = {p, {1, 2}, 3u + (uint32_t)i};
    }
    cudaEvent_t start, stop;
    cudaEventCreate(&start);
    cudaEventCreate(&stop);
    int runs = 40;
    for (int i = -5; i < runs; i++) {
        if (i == 0)
            cudaEventRecord(start, gpu_dev->stream);
        size_t c = (size_t)((i + 5) % copies);
        char *xc = (char *)x.p + c * x_bytes, *yc = (char *)y.p + c * y_bytes;
        if (backward)
            gpu->lora_bwd(gpu_dev, (char *)dx.p + c * x_bytes, K, work.p, yc, LD, u.p, xc, K, K,
                          lora, 2, n, &pack);
        else
            gpu->lora_fwd(gpu_dev, yc, LD, u.p, xc, K, K, lora, 2, n, &pack);
    }
    cudaEventRecord(stop, gpu_dev->stream);
    t5_err err = {};
    must(gpu->sync(gpu_dev, &err), &err);
    float ms = 0;
    cudaEventElapsedTime(&ms, start, stop);
    cudaEventDestroy(start);
    cudaEventDestroy(stop);
    /* x, y twice for two modules; or dy of two modules, x, dx twice. A draw of four columns takes
     * about 54 instructions. */
    double bytes = (double)n * 2 * (double)(backward ? 2 * N + 3 * K : K + 4 * N);
    double draws = p > 0 ? (double)n * (double)K / 4 * 2 * 54 / (132 * 128 * 1.7e9) : 0;
    printf("%s n %5lld drop %.1f: %8.1f us; memory floor %6.1f us at 4.2 TB/s, draws %6.1f us\n",
           backward ? "lora_bwd" : "lora_fwd", (long long)n, (double)p, (double)ms * 1e3 / runs,
           bytes / 4.2e12 * 1e6, draws * 1e6);
    fflush(stdout);
}

/* ---- all ---- */

static void open_devices(t5_compute compute)
{
    t5_device_options options = {};
    t5_err err = {};
    options.compute = compute;
    must(gpu->open(&gpu_dev, &options, &err), &err);
    must(ref->open(&ref_dev, &options, &err), &err);
}
static void close_devices()
{
    gpu->close(gpu_dev);
    ref->close(ref_dev);
}

static const shape small_shapes[] = {
    {1, 18, 10, 3, 1, 0, true},       {1, 64, 64, 16, 2, 0.1f, true},
    {5, 64, 72, 4, 1, 0.1f, true},    {17, 72, 64, 16, 3, 0.25f, true},
    {33, 64, 64, 32, 2, 0.1f, true},  {40, 128, 136, 64, 1, 0.5f, true},
    {19, 200, 72, 48, 1, 0.1f, true}, {50, 96, 40, 16, 2, 0, false},
    {23, 18, 24, 16, 2, 0.1f, true},  {70, 520, 520, 8, 2, 0.1f, true},
    {31, 64, 64, 12, 3, 0, true},     {20, 72, 64, 32, 3, 0.1f, true},
    {18, 64, 64, 100, 1, 0.1f, true}, {29, 64, 64, 5, 3, 0.1f, false},
    {411, 64, 64, 16, 2, 0.1f, true}, {600, 64, 128, 16, 1, 0, true},
    {2500, 64, 64, 16, 3, 0.1f, true},
};
static const shape large_shapes[] = {
    {1, 4096, 4096, 16, 2, 0, true},      {16, 4096, 4096, 16, 2, 0.1f, true},
    {61, 4096, 4096, 16, 2, 0, true},     {77, 4096, 1024, 16, 3, 0.1f, true},
    {40, 1024, 4096, 64, 2, 0.1f, true},  {90, 2048, 512, 32, 2, 0.1f, true},
    {24, 10240, 4096, 16, 1, 0.1f, true}, {1300, 256, 256, 16, 2, 0.1f, true},
    {5003, 64, 64, 16, 2, 0.1f, true},    {16500, 64, 64, 4, 1, 0.1f, true},
};

int main(int argc, char **argv)
{
    bool timed = false, small = false;
    for (int i = 1; i < argc; i++) {
        timed |= !strcmp(argv[i], "--time");
        small |= !strcmp(argv[i], "--small");
    }
    for (t5_compute compute : {T5_COMPUTE_BF16, T5_COMPUTE_F32}) {
        open_devices(compute);
        for (const shape &s : small_shapes)
            test(s);
        if (!small)
            for (const shape &s : large_shapes)
                test(s);
        close_devices();
    }
    if (timed && !failures) {
        open_devices(T5_COMPUTE_BF16);
        for (int64_t n : {1, 16, 64, 220, 300, 1300, 9000, 16384}) {
            time_shape(n, 0, false);
            if (n < 220 || n > 10000)
                continue;
            time_shape(n, 0.1f, false);
            time_shape(n, 0, true);
            time_shape(n, 0.1f, true);
        }
        close_devices();
    }
    printf(failures ? "%d cases failed\n" : "all cases passed\n", failures);
    return failures != 0;
}
