/* test_cpu_ops.c - every operator of the CPU backend against ref, on every instruction set that
 * this processor has: odd sizes, one token, one head, lengths that are no multiple of anything,
 * poisoned outputs. Each result is computed with 1, 2, 4 and 8 threads, which must give the same
 * bytes. */
/* SPDX-License-Identifier: MIT */
#include "compare.h"

#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "cpu/cpu.h"

static const struct t5_backend *const ref = &t5_backend_ref, *const cpu = &t5_backend_cpu;
static struct t5_device *ref_dev, *devs[4]; /* cpu devices of 1, 2, 4, 8 threads */
static const char *isa;

static void *fresh(size_t bytes)
{
    void *p = malloc(bytes + 1);
    memset(p, 0xff, bytes + 1);
    return p;
}

static float *floats(int64_t n, uint64_t seed, float size)
{
    float *x = fresh((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++)
        x[i] = size * ((float)(t5_mix(seed, (uint64_t)i) >> 40) * 0x1p-23f - 1);
    return x;
}

static float *copy(const float *x, int64_t n)
{
    float *y = fresh((size_t)n * sizeof *y);
    memcpy(y, x, (size_t)n * sizeof *y);
    return y;
}

/* ---- packed batches ---- */

struct batch {
    struct t5_pack pack;
    int32_t offsets[9], seq[400];
    uint32_t record[8];
};

static void batch_init(struct batch *b, const int *lengths, int n)
{
    memset(b, 0, sizeof *b);
    for (int i = 0; i < n; i++) {
        b->record[i] = 1000u + 7u * (uint32_t)i;
        b->offsets[i + 1] = b->offsets[i] + lengths[i];
        for (int t = 0; t < lengths[i]; t++)
            b->seq[b->offsets[i] + t] = i;
        b->pack.longest = lengths[i] > b->pack.longest ? lengths[i] : b->pack.longest;
    }
    b->pack.n_tokens = b->offsets[n];
    b->pack.n_seqs = n;
    b->pack.offsets = b->offsets;
    b->pack.seq = b->seq;
    b->pack.record = b->record;
}

static const int one[] = {1}, some[] = {5, 1, 60, 13}, other[] = {3, 50, 7, 1};
static const struct {
    const int *q, *k;
    int n;
} batches[] = {{one, one, 1}, {some, other, 4}, {other, some, 4}};
enum { N_BATCHES = sizeof batches / sizeof *batches };

static struct t5_dropout dropout(float p, uint32_t site)
{
    return (struct t5_dropout){p, {0x1234567, 0x89abcdef}, site};
}

/* ---- one comparison: a buffer that ref and the four cpu devices fill ---- */

/* runs body with ops, dev and out set for ref, then for each cpu device; out starts as a copy of
 * `start` (poison where NULL). Compares all n floats. */
#define COMPARE(what, n, start, atol, rtol, ...)                                                   \
    do {                                                                                           \
        float *want_ = NULL, *first_ = NULL;                                                       \
        for (int who_ = -1; who_ < 4; who_++) {                                                    \
            const struct t5_backend *ops = who_ < 0 ? ref : cpu;                                   \
            struct t5_device *dev = who_ < 0 ? ref_dev : devs[who_];                               \
            float *out = (start) ? copy(start, n) : fresh((size_t)(n) * sizeof(float));            \
            (void)ops;                                                                             \
            (void)dev;                                                                             \
            __VA_ARGS__;                                                                           \
            if (who_ < 0) {                                                                        \
                want_ = out;                                                                       \
            } else if (who_ == 0) {                                                                \
                char label_[80];                                                                   \
                snprintf(label_, sizeof label_, "%s %s", isa, what);                               \
                assert_close(out, want_, n, atol, rtol, label_);                                   \
                first_ = out;                                                                      \
            } else {                                                                               \
                assert_memory_equal(out, first_, (size_t)(n) * sizeof(float));                     \
                free(out);                                                                         \
            }                                                                                      \
        }                                                                                          \
        free(want_);                                                                               \
        free(first_);                                                                              \
    } while (0)

#define POISON ((const float *)NULL)

/* ---- embedding and norm ---- */

static void check_embed(const struct batch *b, int64_t d, float p)
{
    enum { V = 11 };
    const int64_t n = b->pack.n_tokens;
    struct t5_dropout drop = dropout(p, 3);
    float *table = floats(V * d, 1, 2), *dx = floats(n * d, 2, 1), *dtable = floats(V * d, 3, 1);
    int32_t ids[400];
    for (int64_t i = 0; i < n; i++)
        ids[i] = (int32_t)(t5_mix(4, (uint64_t)i) % V);
    for (int type = 0; type < 4; type++) { /* F32, F16, BF16, and bound */
        void *stored = fresh((size_t)(V * d) * 4);
        t5_from_f32(stored, table, type < 3 ? type : T5_F32, (size_t)(V * d));
        struct t5_matrix m = {stored, type < 3 ? type : T5_F32, NULL, V, d, NULL};
        COMPARE("embed_fwd", n * d, POISON, 1e-7, 1e-6, {
            struct t5_weight *w;
            struct t5_err err;
            assert_int_equal(type < 3 ? ops->weight_freeze(dev, &w, &m, 1, T5_USE_GATHER, &err)
                                      : ops->weight_bind(dev, &w, table, V, d, &err),
                             0);
            ops->embed_fwd(dev, out, w, ids, &b->pack, &drop);
            ops->weight_free(dev, w);
        });
        free(stored);
    }
    COMPARE("embed_bwd", V * d, dtable, 1e-5, 1e-5,
            ops->embed_bwd(dev, out, dx, ids, V, d, &b->pack, &drop));
    free(table);
    free(dx);
    free(dtable);
}

static void check_norm(const struct batch *b, int64_t d, float p)
{
    const int64_t n = b->pack.n_tokens;
    struct t5_dropout delta_drop = dropout(p, 5), y_drop = dropout(p, 6);
    float *x = floats(n * d, 1, 3), *delta = floats(n * d, 2, 2), *w = floats(d, 3, 1);
    float *dy = floats(n * d, 4, 1), *dx = floats(n * d, 5, 1), *dw = floats(d, 6, 1);
    for (int with = 0; with < 2; with++) {
        COMPARE("norm_fwd", 2 * n * d, POISON, 1e-6, 2e-6,
                ops->norm_fwd(dev, out, out + n * d, x, with ? delta : NULL, w, n, d, 1e-6f,
                              &b->pack, &delta_drop, &y_drop, NULL));
        float *both = floats(2 * n * d, 1, 3); /* the first half is x: updated in place */
        COMPARE("norm_fwd in place", 2 * n * d, both, 1e-6, 2e-6,
                ops->norm_fwd(dev, out, out + n * d, out, with ? delta : NULL, w, n, d, 1e-6f,
                              &b->pack, &delta_drop, &y_drop, NULL));
        free(both);
    }
    float *start = fresh((size_t)(2 * n * d + d) * sizeof *start); /* dx, ddelta, dw */
    memcpy(start, dx, (size_t)(n * d) * sizeof *dx);
    memcpy(start + 2 * n * d, dw, (size_t)d * sizeof *dw);
    COMPARE("norm_bwd", 2 * n * d + d, start, 1e-5, 1e-5,
            ops->norm_bwd(dev, out, out + n * d, out + 2 * n * d, dy, x, w, n, d, 1e-6f, &b->pack,
                          &delta_drop, &y_drop, NULL));
    COMPARE(
        "norm_bwd dx", n * d, dx, 1e-5, 1e-5,
        ops->norm_bwd(dev, out, NULL, NULL, dy, x, w, n, d, 1e-6f, &b->pack, &delta_drop, &y_drop, NULL));
    free(start);
    free(x);
    free(delta);
    free(w);
    free(dy);
    free(dx);
    free(dw);
}

static void test_rows(void **state)
{
    (void)state;
    static const int64_t widths[] = {1, 4, 10, 96, 261};
    for (int i = 0; i < N_BATCHES; i++)
        for (size_t d = 0; d < sizeof widths / sizeof *widths; d++)
            for (int p = 0; p < 2; p++) {
                struct batch b;
                batch_init(&b, batches[i].q, batches[i].n);
                check_embed(&b, widths[d], p ? 0.3f : 0);
                check_norm(&b, widths[d], p ? 0.3f : 0);
            }
}

/* ---- activation ---- */

static void test_glu(void **state)
{
    (void)state;
    static const int64_t widths[] = {1, 7, 64, 131};
    for (int i = 0; i < N_BATCHES; i++)
        for (size_t c = 0; c < sizeof widths / sizeof *widths; c++)
            for (int kind = T5_GLU_RELU; kind <= T5_GLU_SILU; kind++)
                for (int gated = 0; gated < 2; gated++)
                    for (int p = 0; p < 2; p++) {
                        struct batch b;
                        batch_init(&b, batches[i].q, batches[i].n);
                        const int64_t n = b.pack.n_tokens, f = widths[c], ld = f * (1 + gated);
                        struct t5_dropout drop = dropout(p ? 0.1f : 0, 8);
                        float *g = floats(n * ld, 1, 12), *dh = floats(n * f, 2, 1);
                        COMPARE("glu_fwd", n * f, POISON, 2e-6, 2e-6,
                                ops->glu_fwd(dev, out, g, n, f, kind, gated, &b.pack, &drop, NULL));
                        COMPARE("glu_bwd", n * ld, POISON, 5e-6, 5e-6,
                                ops->glu_bwd(dev, out, dh, g, n, f, kind, gated, &b.pack, &drop, NULL));
                        free(g);
                        free(dh);
                    }
}

/* ---- products ---- */

static void check_linear(int64_t n, int64_t rows, int64_t cols)
{
    const int64_t ldx = cols + 3, ldy = rows + 2;
    float *w = floats(rows * cols, 1, 1), *x = floats(n * ldx, 2, 1), *dy = floats(n * ldy, 3, 1);
    float *dw = floats(rows * cols, 4, 1), *dx = floats(n * ldx, 5, 1);
    struct t5_matrix m = {w, T5_F32, NULL, rows, cols, NULL};
    float *y = floats(n * ldy, 6, 1); /* so that what lies between rows can be compared */
    for (int bound = 0; bound < 2; bound++)
        for (int add = 0; add < 2; add++) {
            struct t5_weight *ws[2];
            struct t5_err err;
            const unsigned use = T5_USE_FORWARD | T5_USE_INPUT_GRAD;
            for (int i = 0; i < 2; i++) {
                const struct t5_backend *ops = i ? cpu : ref;
                struct t5_device *dev = i ? devs[0] : ref_dev;
                assert_int_equal(bound ? ops->weight_bind(dev, &ws[i], w, rows, cols, &err)
                                       : ops->weight_freeze(dev, &ws[i], &m, 1, use, &err),
                                 0);
                if (i && !bound) /* the other devices need their scratch too */
                    for (int t = 1; t < 4; t++) {
                        struct t5_weight *same;
                        assert_int_equal(cpu->weight_freeze(devs[t], &same, &m, 1, use, &err), 0);
                        cpu->weight_free(devs[t], same);
                    }
            }
            COMPARE("linear_fwd", n * ldy, y, 1e-5, 1e-5,
                    ops->linear_fwd(dev, out, ldy, x, ldx, ws[ops == cpu], n));
            COMPARE("logits_fwd", n * rows, POISON, 1e-5, 1e-5,
                    ops->logits_fwd(dev, out, x, ldx, ws[ops == cpu], n, add ? 0.25f : 1));
            COMPARE("linear_bwd_input", n * ldx, dx, 1e-5, 1e-5,
                    ops->linear_bwd_input(dev, out, ldx, dy, ldy, ws[ops == cpu], n, add));
            ref->weight_free(ref_dev, ws[0]);
            cpu->weight_free(devs[0], ws[1]);
        }
    COMPARE("linear_bwd_weight", rows * cols, dw, 1e-5, 1e-5,
            ops->linear_bwd_weight(dev, out, dy, ldy, x, ldx, rows, cols, n));
    free(w);
    free(x);
    free(dy);
    free(dw);
    free(dx);
    free(y);
}

static void test_linear(void **state)
{
    (void)state;
    check_linear(1, 1, 1);
    check_linear(1, 70, 33);
    check_linear(79, 130, 65);
    check_linear(200, 16, 129);
}

static void check_lora(const struct batch *b, int64_t cols, float p)
{
    enum { RANK0 = 4, RANK1 = 9, ROWS0 = 33, ROWS1 = 20, LDU = RANK0 + RANK1, WIDE = 70 };
    const int64_t n = b->pack.n_tokens, na = LDU * cols, nb = RANK0 * ROWS0 + RANK1 * ROWS1;
    float *a = floats(na, 1, 1), *bs = floats(nb, 2, 1), *x = floats(n * cols, 3, 1);
    float *y = floats(n * WIDE, 4, 1), *dy = floats(n * WIDE, 5, 1), *dx = floats(n * cols, 6, 1);
    float *u = fresh((size_t)(n * LDU) * sizeof *u);
    struct t5_lora lora[2] = {
        {a, bs, NULL, NULL, RANK0, ROWS0, 1, 2.0f, dropout(p, 21)},
        {a + RANK0 * cols, bs + RANK0 * ROWS0, NULL, NULL, RANK1, ROWS1, 40, 0.5f, dropout(p, 22)}};
    ref->lora_fwd(ref_dev, y, WIDE, u, x, cols, cols, lora, 2, n, &b->pack);
    float *start = fresh((size_t)(n * WIDE + n * LDU) * sizeof *start);
    memcpy(start, y, (size_t)(n * WIDE) * sizeof *y);
    COMPARE("lora_fwd", n * WIDE + n * LDU, start, 2e-5, 2e-5,
            ops->lora_fwd(dev, out, WIDE, out + n * WIDE, x, cols, cols, lora, 2, n, &b->pack));
    free(start);
    start = fresh((size_t)(n * cols + na + nb) * sizeof *start); /* dx, da, db */
    memcpy(start, dx, (size_t)(n * cols) * sizeof *dx);
    for (int64_t i = 0; i < na + nb; i++)
        start[n * cols + i] = 0.5f;
    for (int wanted = 0; wanted < 2; wanted++)
        COMPARE("lora_bwd", n * cols + na + nb, start, 5e-5, 5e-5, {
            struct t5_lora at[2] = {lora[0], lora[1]};
            float *work = fresh((size_t)(n * LDU) * sizeof *work);
            at[0].da = out + n * cols;
            at[1].da = at[0].da + RANK0 * cols;
            at[0].db = at[0].da + na;
            at[1].db = at[0].db + RANK0 * ROWS0;
            if (!wanted)
                memset(out, 0, (size_t)(n * cols) * sizeof *out);
            ops->lora_bwd(dev, wanted ? out : NULL, cols, work, dy, WIDE, u, x, cols, cols, at, 2,
                          n, &b->pack);
            free(work);
        });
    free(start);
    free(a);
    free(bs);
    free(x);
    free(y);
    free(dy);
    free(dx);
    free(u);
}

static void test_lora(void **state)
{
    (void)state;
    for (int i = 0; i < N_BATCHES; i++)
        for (int p = 0; p < 2; p++) {
            struct batch b;
            static const int long_ones[] = {300, 99};
            batch_init(&b, batches[i].q, batches[i].n);
            check_lora(&b, 17, p ? 0.05f : 0);
            check_lora(&b, 100, p ? 0.5f : 0);
            batch_init(&b, long_ones, 2); /* more than one block of draws */
            check_lora(&b, 70, p ? 0.05f : 0);
        }
}

/* ---- attention ---- */

static void bucket_table(int32_t *bucket, int64_t far, int64_t buckets)
{
    for (int64_t r = -far; r <= far; r++)
        bucket[far + r] = (int32_t)(t5_mix(77, (uint64_t)(r + far)) % (uint64_t)buckets);
}

static void check_attention(const struct batch *qb, const struct batch *kb, int64_t heads,
                            int64_t d_kv, int causal, int biased, float p)
{
    enum { BUCKETS = 9, FAR = 6 };
    const int64_t width = heads * d_kv, nq = qb->pack.n_tokens, nk = kb->pack.n_tokens;
    const int64_t ldq = width + 1, ldkv = 2 * width + 3, nb = BUCKETS * heads;
    int32_t bucket[2 * FAR + 1];
    bucket_table(bucket, FAR, BUCKETS);
    float *q = floats(nq * ldq, 1, 1), *kv = floats(nk * ldkv, 2, 1), *bias = floats(nb, 3, 1);
    float *dout = floats(nq * width, 4, 1), *fwd = fresh((size_t)(nq * (width + heads)) * 4);
    struct t5_attention shape = {
        heads,  d_kv,    &qb->pack, &kb->pack,     causal, biased ? bias : NULL,
        bucket, BUCKETS, FAR,       dropout(p, 30)};
    COMPARE(
        "attention_fwd", nq * (width + heads), POISON, 1e-5, 1e-5,
        ops->attention_fwd(dev, out, out + nq * width, q, ldq, kv, ldkv, kv + width, ldkv, &shape));
    COMPARE("attention_fwd without lse", nq * width, POISON, 1e-5, 1e-5,
            ops->attention_fwd(dev, out, NULL, q, ldq, kv, ldkv, kv + width, ldkv, &shape));
    ref->attention_fwd(ref_dev, fwd, fwd + nq * width, q, ldq, kv, ldkv, kv + width, ldkv, &shape);
    /* dq (ldq), dk and dv (ldkv), dbias: what lies between the rows must stay */
    const int64_t total = nq * ldq + nk * ldkv + nb;
    float *start = floats(total, 5, 1);
    for (int wanted = 0; wanted <= biased; wanted++)
        COMPARE("attention_bwd", total, start, 3e-5, 3e-5, {
            float *dkv = out + nq * ldq;
            ops->attention_bwd(dev, out, ldq, dkv, ldkv, dkv + width, ldkv,
                               wanted ? dkv + nk * ldkv : NULL, dout, fwd, fwd + nq * width, q, ldq,
                               kv, ldkv, kv + width, ldkv, &shape);
        });
    free(start);
    free(q);
    free(kv);
    free(bias);
    free(dout);
    free(fwd);
}

static void test_attention(void **state)
{
    (void)state;
    static const int64_t shapes[][2] = {{1, 1}, {3, 8}, {2, 13}, {2, 64}};
    for (int i = 0; i < N_BATCHES; i++)
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
            for (int p = 0; p < 2; p++) {
                struct batch q, k;
                batch_init(&q, batches[i].q, batches[i].n);
                batch_init(&k, batches[i].k, batches[i].n);
                const float drop = p ? 0.2f : 0;
                check_attention(&q, &q, shapes[s][0], shapes[s][1], 0, 1, drop);
                check_attention(&q, &q, shapes[s][0], shapes[s][1], 1, 1, drop);
                check_attention(&q, &k, shapes[s][0], shapes[s][1], 0, 0, drop);
            }
}

/* ---- loss and token selection ---- */

static void test_loss(void **state)
{
    (void)state;
    static const int64_t sizes[][2] = {{1, 1}, {1, 5}, {3, 77}, {20, 300}};
    for (size_t s = 0; s < 2 * sizeof sizes / sizeof *sizes; s++) {
        const int64_t n = sizes[s / 2][0], v = sizes[s / 2][1];
        const float smoothing = s % 2 ? 0.2f : 0;
        float *logits = floats(n * v, 1, 30);
        int32_t labels[20];
        for (int64_t i = 0; i < n; i++)
            labels[i] = (int32_t)(t5_mix(2, (uint64_t)i) % (uint64_t)v);
        COMPARE("nll", n, POISON, 1e-5, 1e-6,
                ops->cross_entropy(dev, out, NULL, logits, labels, n, v, 1, smoothing));
        COMPARE("nll and gradient", n + n * v, POISON, 1e-5, 1e-5,
                ops->cross_entropy(dev, out, out + n, logits, labels, n, v, 0.3f, smoothing));
        float *start = fresh((size_t)(n + n * v) * sizeof *start);
        memcpy(start + n, logits, (size_t)(n * v) * sizeof *start);
        COMPARE("gradient in place", n + n * v, start, 1e-5, 1e-5,
                ops->cross_entropy(dev, out, out + n, out + n, labels, n, v, 0.3f, smoothing));
        free(start);
        free(logits);
    }
}

static void test_topk(void **state)
{
    (void)state;
    static const int64_t sizes[][3] = {{1, 1, 1}, {2, 9, 9}, {3, 1000, 8}, {5, 333, 50}};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        const int64_t n = sizes[s][0], v = sizes[s][1], k = sizes[s][2];
        float *logits = floats(n * v, 1, 5);
        for (int64_t i = 0; i < n * v; i++)
            logits[i] = rintf(logits[i] * 20) / 20; /* many ties */
        int32_t row[2] = {0, (int32_t)(n - 1)}, id[2] = {0, (int32_t)(v - 1)};
        float *edited[2] = {copy(logits, n * v), copy(logits, n * v)};
        for (int i = 0; i < 2; i++) {
            const struct t5_backend *ops = i ? cpu : ref;
            ops->logits_edit(i ? devs[1] : ref_dev, edited[i], v, row, id, n * v > 1 ? 2 : 1, 0);
            row[0] = row[1], id[0] = (int32_t)(v / 2);
            ops->logits_edit(i ? devs[1] : ref_dev, edited[i], v, row, id, 1, 1.5f);
            row[0] = 0, id[0] = 0;
        }
        assert_memory_equal(edited[0], edited[1], (size_t)(n * v) * sizeof(float));
        float value[2][250], lse[2][5];
        int32_t ids[2][250];
        memset(value, 0xff, sizeof value);
        memset(ids, 0xff, sizeof ids);
        for (int i = 0; i < 2; i++)
            (i ? cpu : ref)
                ->topk(i ? devs[2] : ref_dev, value[i], ids[i], lse[i], edited[0], n, v, k);
        assert_memory_equal(value[0], value[1], (size_t)(n * k) * sizeof(float));
        assert_memory_equal(ids[0], ids[1], (size_t)(n * k) * sizeof(int32_t));
        if (v > 1)
            assert_close(lse[1], lse[0], n, 1e-5, 1e-6, "lse");
        free(edited[0]);
        free(edited[1]);
        free(logits);
    }
}

/* ---- optimiser ---- */

static void test_optimiser(void **state)
{
    (void)state;
    static const int64_t sizes[] = {1, 50, 1000, 200001};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        const int64_t n = sizes[s];
        float *g = floats(n, 1, 1), *start = floats(3 * n, 2, 1);
        for (int64_t i = 2 * n; i < 3 * n; i++)
            start[i] = fabsf(start[i]); /* the second moment */
        double sums[5][2];
        for (int i = 0; i < 5; i++) {
            const struct t5_backend *ops = i ? cpu : ref;
            struct t5_device *dev = i ? devs[i - 1] : ref_dev;
            sums[i][0] = 5;
            ops->sum(dev, &sums[i][0], g, n, 1);
            ops->sum_squares(dev, &sums[i][1], g, n);
            double kept = 7, spoilt = 7, high = 7;
            ops->spoil(dev, &kept, &(double){-3}, -3);
            ops->spoil(dev, &spoilt, &(double){INFINITY}, INFINITY);
            ops->spoil(dev, &high, &(double){3}, 2.99);
            assert_true(kept == 7 && isnan(spoilt) && isnan(high));
        }
        for (int i = 1; i < 5; i++) {
            assert_memory_equal(sums[i], sums[1], sizeof sums[1]);
            assert_true(t5_close(sums[i][0], sums[0][0], 1e-9, 1e-9));
            assert_true(t5_close(sums[i][1], sums[0][1], 1e-9, 1e-9));
        }
        for (int clipped = 0; clipped < 2; clipped++) {
            struct t5_adamw how = {1e-3f, 0.9f, 0.999f, 1e-8f, 0.01f, clipped ? 0.5f : 0, 3};
            COMPARE("adamw", 3 * n, start, 1e-7, 1e-6,
                    ops->adamw(dev, out, g, out + n, out + 2 * n, n, &how, &sums[0][1]));
        }
        const double infinite = INFINITY;
        const struct t5_adamw how = {1e-3f, 0.9f, 0.999f, 1e-8f, 0, 0, 1};
        float *same = copy(start, 3 * n);
        cpu->adamw(devs[1], same, g, same + n, same + 2 * n, n, &how, &infinite);
        assert_memory_equal(same, start, (size_t)(3 * n) * sizeof *same);
        free(same);
        free(g);
        free(start);
    }
}

/* ---- decode step ---- */

static void check_decode(int64_t heads, int64_t d_kv)
{
    enum { ROWS = 9, T = 21, SLOTS = 11, BUCKETS = 9, FAR = 6, SOURCE = 40 };
    const int64_t width = heads * d_kv, cache = SLOTS * T * width;
    static const int32_t slot[ROWS] = {6, 0, 2, 3, 5, 7, 8, 9, 10},
                         position[ROWS] = {0, 20, 7, 1, 12, 3, 3, 19, 16};
    static const int32_t begin[ROWS] = {0, 3, 3, 39, 10, 0, 7, 8, 0},
                         count[ROWS] = {3, 30, 7, 1, 29, 40, 16, 17, 33};
    int32_t history[ROWS * T], bucket[2 * FAR + 1];
    for (int r = 0; r < ROWS; r++)
        for (int s = 0; s < T; s++)
            history[r * T + s] =
                r == 1 ? slot[r] : (int32_t)(t5_mix(8, (uint64_t)(r * 10 + s / 3)) % SLOTS);
    bucket_table(bucket, FAR, BUCKETS);
    float *bias = floats(BUCKETS * heads, 3, 1), *qkv = floats(ROWS * 3 * width, 1, 1);
    float *kv = floats(SOURCE * 2 * width, 2, 1), *start = floats(2 * cache + ROWS * width, 4, 1);
    struct t5_attention self = {.heads = heads,
                                .d_kv = d_kv,
                                .causal = 1,
                                .bias = bias,
                                .bucket = bucket,
                                .buckets = BUCKETS,
                                .max_distance = FAR};
    struct t5_attention cross = {.heads = heads, .d_kv = d_kv};
    struct t5_decode_rows rows = {ROWS, T, slot, position, history, begin, count, SOURCE, 1};
    COMPARE("decode_self", 2 * cache + ROWS * width, start, 1e-5, 1e-5,
            ops->decode_self(dev, out + 2 * cache, out, out + cache, qkv, &rows, &self));
    COMPARE("decode_cross", ROWS * width, POISON, 1e-5, 1e-5,
            ops->decode_cross(dev, out, qkv, kv, &rows, &cross));
    /* one row alone: the same bytes */
    float *all = copy(start, 2 * cache + ROWS * width), *alone = copy(start, 2 * cache + width);
    cpu->decode_self(devs[1], all + 2 * cache, all, all + cache, qkv, &rows, &self);
    struct t5_decode_rows single = {1,           T,         slot + 1, position + 1,
                                    history + T, begin + 1, count + 1, SOURCE,  1};
    cpu->decode_self(devs[1], alone + 2 * cache, alone, alone + cache, qkv + 3 * width, &single,
                     &self);
    assert_memory_equal(alone + 2 * cache, all + 2 * cache + width, (size_t)width * sizeof(float));
    cpu->decode_cross(devs[1], all, qkv, kv, &rows, &cross);
    cpu->decode_cross(devs[1], alone, qkv + width, kv, &single, &cross);
    assert_memory_equal(alone, all + width, (size_t)width * sizeof(float));
    free(all);
    free(alone);
    free(bias);
    free(qkv);
    free(kv);
    free(start);
}

static void test_decode(void **state)
{
    (void)state;
    check_decode(1, 1);
    check_decode(3, 13);
    check_decode(2, 64);
}

/* ---- weights ---- */

enum { ROWS = 130, COLS = 67 };

/* Products with a weight of any stored type in any compute type; int8 compute on int8 quantises
 * both sides, so a coarse bound. */
static void check_frozen(const struct t5_matrix *part, enum t5_compute compute, const float *x)
{
    struct t5_device *dev;
    struct t5_weight *want, *got;
    struct t5_err err;
    float y[3 * ROWS], z[3 * ROWS], dx[3 * COLS], dz[3 * COLS];
    const unsigned use = T5_USE_FORWARD | T5_USE_INPUT_GRAD;
    const struct t5_device_options options = {.threads = 2, .compute = compute};
    const double bound = compute == T5_COMPUTE_F32 ? 1e-5 : 0.08;
    assert_int_equal(cpu->open(&dev, &options, &err), 0);
    assert_int_equal(ref->weight_freeze(ref_dev, &want, part, 1, use, &err), 0);
    assert_int_equal(cpu->weight_freeze(dev, &got, part, 1, use, &err), 0);
    assert_true(cpu->weight_bytes(dev, part->type, ROWS, COLS, use) ==
                t5_packed_size(got->forward.math, 0, ROWS, COLS) +
                    t5_packed_size(got->input.math, 1, ROWS, COLS));
    assert_int_equal(got->forward.math, compute == T5_COMPUTE_INT8 && part->type != T5_I8
                                            ? T5_COMPUTE_BF16
                                            : compute);
    ref->linear_fwd(ref_dev, y, ROWS, x, COLS, want, 3);
    memset(z, 0xff, sizeof z);
    cpu->linear_fwd(dev, z, ROWS, x, COLS, got, 3);
    assert_close(z, y, 3 * ROWS, bound, 0, "forward");
    ref->linear_bwd_input(ref_dev, dx, COLS, y, ROWS, want, 3, 0);
    memset(dz, 0xff, sizeof dz);
    cpu->linear_bwd_input(dev, dz, COLS, y, ROWS, got, 3, 0);
    assert_close(dz, dx, 3 * COLS, 20 * bound, 1e-2, "back");
    ref->weight_free(ref_dev, want);
    cpu->weight_free(dev, got);
    cpu->close(dev);
}

/* Rows of it as embeddings: exactly what it means. */
static void check_gathered(const struct t5_matrix *part)
{
    struct t5_device *dev;
    struct t5_weight *w;
    struct t5_err err;
    int32_t ids[] = {ROWS - 1, 0, 64};
    float x[3 * COLS], want[COLS];
    const struct t5_device_options options = {.threads = 1};
    const struct t5_pack pack = {.n_tokens = 3};
    const struct t5_dropout none = {0};
    assert_int_equal(cpu->open(&dev, &options, &err), 0);
    assert_int_equal(cpu->weight_freeze(dev, &w, part, 1, T5_USE_GATHER, &err), 0);
    memset(x, 0xff, sizeof x);
    cpu->embed_fwd(dev, x, w, ids, &pack, &none);
    for (int i = 0; i < 3; i++) {
        t5_matrix_read_rows(want, part, ids[i], 1);
        assert_memory_equal(x + i * COLS, want, sizeof want);
    }
    cpu->weight_free(dev, w);
    cpu->close(dev);
}

static void test_weights(void **state)
{
    (void)state;
    int8_t q[ROWS * COLS];
    uint8_t codes[ROWS * COLS];
    float nf4_scale[2], scale[ROWS], *w = floats(ROWS * COLS, 1, 1), *x = floats(3 * COLS, 2, 1);
    for (int i = 0; i < ROWS * COLS; i++)
        q[i] = (int8_t)((int)(t5_mix(3, (uint64_t)i) % 255) - 127);
    for (int i = 0; i < ROWS; i++)
        scale[i] = 1e-2f;
    for (int i = 0; i < ROWS * COLS; i++) /* as E4M3: any, but not NaN; as NF4: any */
        codes[i] = (uint8_t)(t5_mix(4, (uint64_t)i) % 0x40);
    memcpy(nf4_scale, (float[]){0.5f, 0.4f}, sizeof nf4_scale);
    const struct t5_matrix parts[] = {{q, T5_I8, scale, ROWS, COLS, NULL},
                                      {w, T5_F32, NULL, ROWS, COLS, NULL},
                                      {codes, T5_F8, scale, ROWS, COLS, NULL},
                                      {codes, T5_NF4, nf4_scale, ROWS, COLS, codes}};
    for (int part = 0; part < 4; part++) {
        for (int compute = 0; compute < 3; compute++)
            check_frozen(&parts[part], compute, x);
        check_gathered(&parts[part]);
    }
    free(w);
    free(x);
}

/* ---- memory that an operator lacks ---- */

static void test_recover(void **state)
{
    (void)state;
#ifdef __SANITIZE_ADDRESS__
    skip(); /* it ends the program */
#endif
    struct t5_err err = {0};
    size_t stride;
    assert_null(cpu_work(devs[0], 1, SIZE_MAX / 64, &stride));
    assert_int_equal(cpu->check(devs[0], &err), -1);
    assert_true(err.out_of_memory && err.status == T5_ENVIRONMENT);
    assert_int_equal(cpu->recover(devs[0], &err), 0);
    assert_int_equal(cpu->check(devs[0], &err), 0);
    assert_non_null(cpu_work(devs[0], 1, 100, &stride));
    t5_fail(&devs[0]->failure, "another kind");
    assert_int_equal(cpu->recover(devs[0], &err), -1);
    assert_string_equal(err.text, "another kind");
    devs[0]->failure = err = (struct t5_err){0};
}

/* ---- */

static int open_devices(void **state)
{
    const char *name = *state;
    struct t5_err err;
    if (t5_gemm_force(name) < 0)
        return 1;
    isa = name;
    struct t5_device_options options = {0};
    if (ref->open(&ref_dev, &options, &err) < 0)
        return -1;
    for (int i = 0; i < 4; i++) {
        options.threads = 1 << i;
        if (cpu->open(&devs[i], &options, &err) < 0)
            return -1;
    }
    return 0;
}

static int close_devices(void **state)
{
    (void)state;
    struct t5_err err;
    int rc = 0;
    for (int i = 0; i < 4; i++) {
        rc |= cpu->sync(devs[i], &err);
        cpu->close(devs[i]);
    }
    ref->close(ref_dev);
    return rc;
}

#define ON(name, test)                                                                             \
    {                                                                                              \
#test " on " name, test, open_devices, close_devices, (void *)(uintptr_t)name              \
    }
#define ALL_ON(name)                                                                               \
    ON(name, test_rows), ON(name, test_glu), ON(name, test_linear), ON(name, test_lora),           \
        ON(name, test_attention), ON(name, test_loss), ON(name, test_topk),                        \
        ON(name, test_optimiser), ON(name, test_decode), ON(name, test_weights), ON(name, test_recover)

int main(void)
{
    static const struct CMUnitTest avx512[] = {ALL_ON("avx512")}, avx2[] = {ALL_ON("avx2")},
                                   portable[] = {ALL_ON("portable")};
    int failed = 0;
    if (t5_gemm_force("avx512") == 0)
        failed += cmocka_run_group_tests(avx512, NULL, NULL);
    if (t5_gemm_force("avx2") == 0)
        failed += cmocka_run_group_tests(avx2, NULL, NULL);
    failed += cmocka_run_group_tests(portable, NULL, NULL);
    return failed != 0;
}
