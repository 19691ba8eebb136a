/* test_gpu_ops.c - every operator of the CUDA backend against ref, in f32 and bf16: odd sizes, one
 * token, one head, a head of 64, poisoned outputs, and the same bytes twice. 8-bit products:
 * test_gpu_q8_ops.c. A missing GPU fails. */
/* SPDX-License-Identifier: MIT */
#include "gpu_ops.h"

/* ---- rows ---- */

static void check_norm(struct batch *b, int64_t d, float p)
{
    int64_t n = b->host.n_tokens;
    struct t5_dropout d1 = dropout(p, 3), d2 = dropout(p / 2, 4);
    float *x = floats(n * d, 1, 2), *delta = acts(n * d, 2, 1), *w = floats(d, 3, 1),
          *dw = floats(d, 4, 1);
    float *dy = acts(n * d, 5, 1), *dx = floats(n * d, 6, 1);
    float *x_out = fresh((size_t)(n * d) * 4), *y = fresh((size_t)(n * d) * 4),
          *dd = fresh((size_t)(n * d) * 4);
    float *gx = up_f(x, n * d), *gw = up_f(w, d), *gdw = up_f(dw, d), *gdx = up_f(dx, n * d);
    float *gxo = poison((size_t)(n * d) * 4);
    void *gdelta = up_act(delta, n * d), *gdy = up_act(dy, n * d), *gy = poison(act_bytes(n * d)),
         *gdd = poison(act_bytes(n * d));
    ref->norm_fwd(ref_dev, x_out, y, x, delta, w, n, d, 1e-6f, &b->host, &d1, &d2, NULL);
    gpu.ops.norm_fwd(gpu.dev, gxo, gy, gx, gdelta, gw, n, d, 1e-6f, &b->dev, &d1, &d2, NULL);
    same(down_f(gxo, n * d), x_out, n * d, 0.01, "norm x_out");
    same(down_act(gy, n * d), y, n * d, 1, "norm y");
    ref->norm_bwd(ref_dev, dx, dd, dw, dy, x_out, w, n, d, 1e-6f, &b->host, &d1, &d2, NULL);
    gpu.ops.norm_bwd(gpu.dev, gdx, gdd, gdw, gdy, gxo, gw, n, d, 1e-6f, &b->dev, &d1, &d2, NULL);
    /* |dx| <= 5; at d = 1 it is what is left of 20 - 20 */
    same(down_f(gdx, n * d), dx, n * d, d == 1 ? 0.2 : 0.1, "norm dx");
    same(down_act(gdd, n * d), dd, n * d, 1, "norm ddelta");
    float *got = down_f(gdw, d);
    assert_close(got, dw, d, 1e-3, 1e-4, "norm dw");
    free(got);
    void *const dev[] = {gx, gw, gdw, gdx, gxo, gdelta, gdy, gy, gdd};
    void *const host[] = {x, delta, w, dw, dy, dx, x_out, y, dd};
    for (int i = 0; i < 9; i++)
        drop_dev(dev[i]), free(host[i]);
}

static void test_norm(void **state)
{
    (void)state;
    static const int64_t widths[] = {1, 7, 64, 513, 4096};
    for (int i = 0; i < N_BATCHES; i++) {
        struct batch b;
        batch_init(&b, batches[i].q, batches[i].n);
        for (int k = 0; k < 5; k++)
            for (int p = 0; p < 2; p++)
                check_norm(&b, widths[k], 0.3f * (float)p);
        batch_free(&b);
    }
}

static void check_glu(struct batch *b, int64_t f, enum t5_glu kind, int gated, float p)
{
    int64_t n = b->host.n_tokens, wide = f * (gated ? 2 : 1);
    struct t5_dropout d = dropout(p, 5);
    float *g = acts(n * wide, 1, 3), *dh = acts(n * f, 2, 1);
    float *h = fresh((size_t)(n * f) * 4), *dg = fresh((size_t)(n * wide) * 4);
    void *gg = up_act(g, n * wide), *gdh = up_act(dh, n * f), *gh = poison(act_bytes(n * f)),
         *gdg = poison(act_bytes(n * wide));
    ref->glu_fwd(ref_dev, h, g, n, f, kind, gated, &b->host, &d, NULL);
    gpu.ops.glu_fwd(gpu.dev, gh, gg, n, f, kind, gated, &b->dev, &d, NULL);
    same(down_act(gh, n * f), h, n * f, 0.1, "glu h");
    ref->glu_bwd(ref_dev, dg, dh, g, n, f, kind, gated, &b->host, &d, NULL);
    gpu.ops.glu_bwd(gpu.dev, gdg, gdh, gg, n, f, kind, gated, &b->dev, &d, NULL);
    same(down_act(gdg, n * wide), dg, n * wide, 0.1, "glu dg");
    void *const dev[] = {gg, gdh, gh, gdg}, *const host[] = {g, dh, h, dg};
    for (int i = 0; i < 4; i++)
        drop_dev(dev[i]), free(host[i]);
}

static void test_glu(void **state)
{
    (void)state;
    for (int i = 0; i < N_BATCHES; i++) {
        struct batch b;
        batch_init(&b, batches[i].q, batches[i].n);
        for (int kind = 0; kind < 3; kind++)
            for (int gated = 0; gated < 2; gated++)
                for (int64_t f = 5; f < 1100; f *= 11)
                    check_glu(&b, f, kind, gated, 0.2f * (float)gated);
        batch_free(&b);
    }
}

static void test_embed(void **state)
{
    (void)state;
    enum { V = 37 };
    for (int i = 0; i < N_BATCHES; i++) {
        struct batch b;
        batch_init(&b, batches[i].q, batches[i].n);
        for (int64_t d = 6; d < 300; d *= 8) {
            int64_t n = b.host.n_tokens;
            struct t5_dropout drop = dropout(0.25f, 6);
            float *table = acts(V * d, 1, 2), *dx = floats(n * d, 2, 1),
                  *dtable = floats(V * d, 3, 1);
            float *x = fresh((size_t)(n * d) * 4);
            int32_t *ids = fresh((size_t)n * 4);
            for (int64_t t = 0; t < n; t++)
                ids[t] = (int32_t)(t5_mix(9, (uint64_t)t) % V);
            struct t5_matrix m = {table, T5_F32, NULL, V, d, NULL};
            struct t5_weight *rw, *gw;
            OK(ref->weight_freeze(ref_dev, &rw, &m, 1, T5_USE_GATHER, &err));
            OK(gpu.ops.weight_freeze(gpu.dev, &gw, &m, 1, T5_USE_GATHER, &err));
            int32_t *gids = up(ids, (size_t)n * 4);
            float *gx = poison((size_t)(n * d) * 4), *gdx = up_f(dx, n * d),
                  *gdt = up_f(dtable, V * d);
            ref->embed_fwd(ref_dev, x, rw, ids, &b.host, &drop);
            gpu.ops.embed_fwd(gpu.dev, gx, gw, gids, &b.dev, &drop);
            same(down_f(gx, n * d), x, n * d, 0.01, "embed");
            ref->embed_bwd(ref_dev, dtable, dx, ids, V, d, &b.host, &drop);
            gpu.ops.embed_bwd(gpu.dev, gdt, gdx, gids, V, d, &b.dev, &drop);
            same(down_f(gdt, V * d), dtable, V * d, 1, "embed gradient");
            ref->weight_free(ref_dev, rw);
            gpu.ops.weight_free(gpu.dev, gw);
            void *const dev[] = {gids, gx, gdx, gdt}, *const host[] = {ids, x, dx, dtable};
            for (int k = 0; k < 4; k++)
                drop_dev(dev[k]), free(host[k]);
            free(table);
        }
        batch_free(&b);
    }
}

/* ---- products ---- */

static void check_linear(int64_t n, int64_t rows, int64_t cols, enum t5_dtype type)
{
    float *w = acts(rows * cols, 1, 0.1f), *scale = floats(rows, 8, 0.01f);
    uint8_t *q = fresh((size_t)(rows * cols)), *block = fresh((size_t)t5_nf4_blocks(rows * cols));
    float *groups = floats(t5_nf4_scales(rows * cols), 9, 0.1f);
    float *x = acts(n * cols, 2, 1), *dy = acts(n * rows, 3, 1), *dx0 = acts(n * cols, 4, 1);
    float *dw = floats(rows * cols, 5, 1);
    float *y = fresh((size_t)(n * rows) * 4), *logits = fresh((size_t)(n * rows) * 4);
    for (int64_t i = 0; i < rows * cols; i++)
        q[i] = (uint8_t)(t5_mix(7, (uint64_t)i) % 127 | (t5_mix(8, (uint64_t)i) & 0x80));
    for (int64_t i = 0; i < t5_nf4_blocks(rows * cols); i++)
        block[i] = (uint8_t)t5_mix(10, (uint64_t)i);
    int64_t top = type == T5_NF4 ? 0 : rows / 3; /* NF4 cannot be cut between rows */
    struct t5_matrix parts[2] = {{w, T5_F32, NULL, top, cols, NULL},
                                 {w + top * cols, T5_F32, NULL, rows - top, cols, NULL}};
    if (type != T5_F32) {
        parts[0] = (struct t5_matrix){q, type, scale, top, cols, NULL};
        parts[1] = (struct t5_matrix){q + top * cols, type, scale + top, rows - top, cols, NULL};
    }
    if (type == T5_NF4)
        parts[1].scale = groups, parts[1].block = block;
    int first = top == 0;
    struct t5_weight *rw, *gw;
    unsigned use = T5_USE_FORWARD | T5_USE_INPUT_GRAD;
    OK(ref->weight_freeze(ref_dev, &rw, parts + first, 2 - first, use, &err));
    OK(gpu.ops.weight_freeze(gpu.dev, &gw, parts + first, 2 - first, use, &err));
    void *gx = up_act(x, n * cols), *gdy = up_act(dy, n * rows), *gy = poison(act_bytes(n * rows));
    void *gdx = up_act(dx0, n * cols);
    float *gl = poison((size_t)(n * rows) * 4), *gdw = up_f(dw, rows * cols);
    double largest = type == T5_F32 ? 0.2 : type == T5_F8 ? 4.5 : 1.5; /* of a weight */
    double size = largest * sqrt((double)cols), back = largest * sqrt((double)rows);
    ref->linear_fwd(ref_dev, y, rows, x, cols, rw, n);
    gpu.ops.linear_fwd(gpu.dev, gy, rows, gx, cols, gw, n);
    same(down_act(gy, n * rows), y, n * rows, size, "linear");
    ref->logits_fwd(ref_dev, logits, x, cols, rw, n, 0.5f);
    gpu.ops.logits_fwd(gpu.dev, gl, gx, cols, gw, n, 0.5f);
    same(down_f(gl, n * rows), logits, n * rows, size, "logits");
    ref->linear_bwd_input(ref_dev, dx0, cols, dy, rows, rw, n, 1);
    gpu.ops.linear_bwd_input(gpu.dev, gdx, cols, gdy, rows, gw, n, 1);
    same(down_act(gdx, n * cols), dx0, n * cols, back, "linear dx");
    ref->linear_bwd_weight(ref_dev, dw, dy, rows, x, cols, rows, cols, n);
    gpu.ops.linear_bwd_weight(gpu.dev, gdw, gdy, rows, gx, cols, rows, cols, n);
    same(down_f(gdw, rows * cols), dw, rows * cols, 0.5 * sqrt((double)n), "linear dw");
    ref->weight_free(ref_dev, rw);
    gpu.ops.weight_free(gpu.dev, gw);
    void *const dev[] = {gx, gdy, gy, gdx, gl, gdw}, *const host[] = {x, dy, y, dx0, logits, dw};
    for (int i = 0; i < 6; i++)
        drop_dev(dev[i]), free(host[i]);
    free(w);
    free(scale);
    free(groups);
    free(block);
    free(q);
}

static void test_linear(void **state)
{
    (void)state;
    static const int64_t sizes[][3] = {{1, 1, 1},    {3, 5, 7},     {11, 18, 27},
                                       {1, 192, 64}, {130, 96, 20}, {257, 128, 512}};
    static const enum t5_dtype types[] = {T5_F32, T5_I8, T5_F8, T5_NF4};
    for (int i = 0; i < 6; i++)
        for (int k = 0; k < 4; k++)
            check_linear(sizes[i][0], sizes[i][1], sizes[i][2], types[k]);
}

/* ---- LoRA ---- */

static void check_lora(struct batch *b, int64_t cols, int64_t rows, int64_t rank, int modules,
                       float p)
{
    int64_t n = b->host.n_tokens, ldy = rows * 3, ranks = rank * modules;
    float *x = acts(n * cols, 1, 1), *y = acts(n * ldy, 2, 1), *dy = acts(n * ldy, 3, 1),
          *dx = acts(n * cols, 4, 1);
    float *u = fresh((size_t)(n * ranks) * 4), *work = fresh((size_t)(n * ranks) * 4);
    struct t5_lora host[3], dev[3];
    for (int i = 0; i < modules; i++) {
        host[i] =
            (struct t5_lora){.a = floats(rank * cols, 10 + (uint64_t)i, 1 / sqrtf((float)cols)),
                             .b = floats(rows * rank, 20 + (uint64_t)i, 0.5f),
                             .da = floats(rank * cols, 30, 0.1f),
                             .db = floats(rows * rank, 31, 0.1f),
                             .rank = rank,
                             .rows = rows,
                             .column = (modules == 2 ? 2 * i : i) * rows,
                             .scale = 1.5f,
                             .dropout = dropout(p, 40 + (uint32_t)i)};
        dev[i] = host[i];
        dev[i].a = up_f(host[i].a, rank * cols);
        dev[i].b = up_f(host[i].b, rows * rank);
        dev[i].da = up_f(host[i].da, rank * cols);
        dev[i].db = up_f(host[i].db, rows * rank);
    }
    void *gx = up_act(x, n * cols), *gy = up_act(y, n * ldy), *gdy = up_act(dy, n * ldy),
         *gdx = up_act(dx, n * cols);
    void *gu = poison(act_bytes(n * ranks)), *gwork = poison(act_bytes(n * ranks));
    ref->lora_fwd(ref_dev, y, ldy, u, x, cols, cols, host, modules, n, &b->host);
    gpu.ops.lora_fwd(gpu.dev, gy, ldy, gu, gx, cols, cols, dev, modules, n, &b->dev);
    same(down_act(gu, n * ranks), u, n * ranks, 1, "lora u");
    same(down_act(gy, n * ldy), y, n * ldy, 1.5, "lora y");
    ref->lora_bwd(ref_dev, dx, cols, work, dy, ldy, u, x, cols, cols, host, modules, n, &b->host);
    gpu.ops.lora_bwd(gpu.dev, gdx, cols, gwork, gdy, ldy, gu, gx, cols, cols, dev, modules, n,
                     &b->dev);
    same(down_act(gdx, n * cols), dx, n * cols, 1 + sqrt((double)rows * 0.1), "lora dx");
    double many = sqrt((double)n);
    for (int i = 0; i < modules; i++) {
        same(down_f(dev[i].da, rank * cols), host[i].da, rank * cols, many * sqrt((double)rows),
             "lora da");
        same(down_f(dev[i].db, rows * rank), host[i].db, rows * rank, many, "lora db");
        drop_dev((void *)dev[i].a), drop_dev((void *)dev[i].b), drop_dev(dev[i].da),
            drop_dev(dev[i].db);
        free((void *)host[i].a), free((void *)host[i].b), free(host[i].da), free(host[i].db);
    }
    void *const d[] = {gx, gy, gdy, gdx, gu, gwork}, *const h[] = {x, y, dy, dx, u, work};
    for (int i = 0; i < 6; i++)
        drop_dev(d[i]), free(h[i]);
}

static void test_lora(void **state)
{
    (void)state;
    for (int i = 0; i < N_BATCHES; i++) {
        struct batch b;
        batch_init(&b, batches[i].q, batches[i].n);
        for (int p = 0; p < 2; p++) {
            check_lora(&b, 18, 9, 3, 3, 0.3f * (float)p);
            check_lora(&b, 64, 64, 16, 2, 0.3f * (float)p);
            check_lora(&b, 256, 128, 32, 1, 0.3f * (float)p);
            check_lora(&b, 192, 66, 4, 2, 0.3f * (float)p);
        }
        batch_free(&b);
    }
}

/* ---- attention ---- */

static void check_attention(struct batch *qb, struct batch *kb, int64_t heads, int64_t d_kv,
                            int causal, int cross, float p, int with_bias_gradient)
{
    enum { BUCKETS = 6, FAR = 9 };
    int64_t nq = qb->host.n_tokens, nk = kb->host.n_tokens, w = heads * d_kv, ld = 3 * w;
    float size = 1.5f / sqrtf(sqrtf((float)d_kv));
    int32_t bucket[2 * FAR + 1];
    for (int i = 0; i <= 2 * FAR; i++)
        bucket[i] = (int32_t)(t5_mix(3, (uint64_t)i) % BUCKETS);
    float *q = acts(nq * ld, 1, size), *k = acts(nk * ld, 2, size), *v = acts(nk * ld, 3, 1),
          *dout = acts(nq * w, 4, 1);
    float *bias = floats(BUCKETS * heads, 5, 1), *dbias = floats(BUCKETS * heads, 6, 1);
    float *out = fresh((size_t)(nq * w) * 4), *lse = fresh((size_t)(nq * heads) * 4);
    float *dq = floats(nq * ld, 7, 1), *dk = floats(nk * ld, 7, 1), *dv = floats(nk * ld, 7, 1);
    if (half) /* columns that are not written keep what they hold; make that exact */
        for (int64_t i = 0; i < (nq > nk ? nq : nk) * ld; i++) {
            float x = t5_bf16_to_f32(t5_f32_to_bf16(i < nq * ld ? dq[i] : dk[i]));
            if (i < nq * ld)
                dq[i] = x;
            if (i < nk * ld)
                dk[i] = dv[i] = x;
        }
    void *gq = up_act(q, nq * ld), *gk = up_act(k, nk * ld), *gv = up_act(v, nk * ld),
         *gdo = up_act(dout, nq * w);
    void *go = poison(act_bytes(nq * w)), *gdq = up_act(dq, nq * ld), *gdk = up_act(dk, nk * ld),
         *gdv = up_act(dv, nk * ld);
    float *gl = poison((size_t)(nq * heads) * 4), *gbias = up_f(bias, BUCKETS * heads),
          *gdb = up_f(dbias, BUCKETS * heads);
    int32_t *gbucket = up(bucket, sizeof bucket);
    struct t5_attention s = {.heads = heads,
                             .d_kv = d_kv,
                             .q_pack = &qb->host,
                             .k_pack = &kb->host,
                             .causal = causal,
                             .bias = cross ? NULL : bias,
                             .bucket = bucket,
                             .buckets = BUCKETS,
                             .max_distance = FAR,
                             .dropout = dropout(p, 50)};
    struct t5_attention g = s;
    g.q_pack = &qb->dev, g.k_pack = &kb->dev, g.bias = cross ? NULL : gbias, g.bucket = gbucket;
    ref->attention_fwd(ref_dev, out, lse, q, ld, k, ld, v, ld, &s);
    gpu.ops.attention_fwd(gpu.dev, go, gl, gq, ld, gk, ld, gv, ld, &g);
    same(down_act(go, nq * w), out, nq * w, 1, "attention out");
    same(down_f(gl, nq * heads), lse, nq * heads, half ? 0.1 : 1, "attention lse");
    int bias_gradient = with_bias_gradient && !cross;
    ref->attention_bwd(ref_dev, dq, ld, dk, ld, dv, ld, bias_gradient ? dbias : NULL, dout, out,
                       lse, q, ld, k, ld, v, ld, &s);
    gpu.ops.attention_bwd(gpu.dev, gdq, ld, gdk, ld, gdv, ld, bias_gradient ? gdb : NULL, gdo, go,
                          gl, gq, ld, gk, ld, gv, ld, &g);
    const double root = sqrt((double)qb->host.longest), grow = 2 + root * 0.2;
    same(down_act(gdq, nq * ld), dq, nq * ld, grow, "attention dq");
    /* a key that many queries see alone has a gradient of 0, but for the rounding of out in bf16 */
    same(down_act(gdk, nk * ld), dk, nk * ld, half ? 2 + root * 0.3 : grow, "attention dk");
    same(down_act(gdv, nk * ld), dv, nk * ld, grow, "attention dv");
    if (bias_gradient)
        same(down_f(gdb, BUCKETS * heads), dbias, BUCKETS * heads, 5 * sqrt((double)(nq + nk)),
             "attention dbias");
    void *const dev[] = {gq, gk, gv, gdo, go, gdq, gdk, gdv, gl, gbias, gdb, gbucket};
    void *const host[] = {q, k, v, dout, bias, dbias, out, lse, dq, dk, dv};
    for (int i = 0; i < 12; i++)
        drop_dev(dev[i]);
    for (int i = 0; i < 11; i++)
        free(host[i]);
}

static void test_attention(void **state)
{
    (void)state;
    for (int i = 0; i < N_BATCHES; i++) {
        struct batch q, k;
        batch_init(&q, batches[i].q, batches[i].n);
        batch_init(&k, batches[i].k, batches[i].n);
        for (int p = 0; p < 2; p++) {
            static const int64_t shapes[][2] = {{1, 3}, {3, 9}, {2, 64}};
            for (int s = 0; s < 3; s++) {
                float drop = 0.2f * (float)p;
                int64_t heads = shapes[s][0], d_kv = shapes[s][1];
                check_attention(&q, &q, heads, d_kv, 0, 0, drop, p);
                check_attention(&q, &q, heads, d_kv, 1, 0, drop, p);
                check_attention(&q, &k, heads, d_kv, 0, 1, drop, p);
            }
        }
        batch_free(&q);
        batch_free(&k);
    }
}

/* ---- loss, optimiser, selection ---- */

static void test_loss(void **state)
{
    (void)state;
    static const int64_t sizes[][2] = {{1, 2}, {7, 97}, {33, 1000}, {5, 32128}};
    for (int i = 0; i < 8; i++) { /* without smoothing, then with it */
        int64_t n = sizes[i / 2][0], v = sizes[i / 2][1];
        float *logits = floats(n * v, 1, 8), *nll = fresh((size_t)n * 4),
              *dl = fresh((size_t)(n * v) * 4);
        int32_t labels[33];
        for (int64_t t = 0; t < n; t++)
            labels[t] = (int32_t)(t5_mix(5, (uint64_t)t) % (uint64_t)v);
        float *gl = up_f(logits, n * v), *gn = poison((size_t)n * 4);
        void *gd = half ? poison(act_bytes(n * v)) : gl;
        int32_t *glab = up(labels, (size_t)n * 4);
        ref->cross_entropy(ref_dev, nll, dl, logits, labels, n, v, 0.25f, i % 2 ? 0.1f : 0);
        gpu.ops.cross_entropy(gpu.dev, gn, gd, gl, glab, n, v, 0.25f, i % 2 ? 0.1f : 0);
        float *got = down_f(gn, n);
        assert_close(got, nll, n, 2e-5, 1e-5, "nll");
        free(got);
        same(down_act(gd, n * v), dl, n * v, 0.01, "dlogits");
        drop_dev(gl), drop_dev(gn), drop_dev(glab);
        if (half)
            drop_dev(gd);
        free(logits), free(nll), free(dl);
    }
}

static void test_optimizer(void **state)
{
    (void)state;
    enum { N = 10007 };
    float *p = floats(N, 1, 1), *g = floats(N, 2, 3), *m = floats(N, 3, 0.1f),
          *v = floats(N, 4, 0.1f);
    double squares, got_squares, total, got_total;
    for (int i = 0; i < N; i++)
        v[i] = fabsf(v[i]);
    float *gp = up_f(p, N), *gg = up_f(g, N), *gm = up_f(m, N), *gv = up_f(v, N);
    double *gs = poison(8), *gt = poison(8);
    struct t5_adamw how = {.lr = 0.01f,
                           .beta1 = 0.9f,
                           .beta2 = 0.999f,
                           .eps = 1e-8f,
                           .weight_decay = 0.1f,
                           .clip = 1,
                           .step = 3};
    ref->sum_squares(ref_dev, &squares, g, N);
    gpu.ops.sum_squares(gpu.dev, gs, gg, N);
    OK(gpu.ops.download(gpu.dev, &got_squares, gs, 8, &err));
    assert_true(t5_close(got_squares, squares, 0, 1e-12));
    ref->sum(ref_dev, &total, g, N, 0);
    gpu.ops.sum(gpu.dev, gt, gg, N, 0);
    gpu.ops.sum(gpu.dev, gt, gg, N, 1);
    OK(gpu.ops.download(gpu.dev, &got_total, gt, 8, &err));
    assert_true(t5_close(got_total, 2 * total, 1e-9, 1e-12));
    /* fetched later, while other work is queued */
    double seen = 0, bad = INFINITY;
    gpu.ops.spoil(gpu.dev, gs, gt, INFINITY);
    gpu.ops.download_later(gpu.dev, gs, 8, 0);
    gpu.ops.download_later(gpu.dev, gt, 8, 1);
    gpu.ops.upload(gpu.dev, gt, &bad, 8);
    OK(gpu.ops.fetch(gpu.dev, &seen, 8, 1, &err));
    assert_true(seen == got_total);
    OK(gpu.ops.fetch(gpu.dev, &seen, 8, 0, &err));
    assert_true(seen == got_squares);
    gpu.ops.zero(gpu.dev, gs, 8);
    gpu.ops.spoil(gpu.dev, gs, gt, INFINITY);
    OK(gpu.ops.download(gpu.dev, &seen, gs, 8, &err));
    assert_true(isnan(seen));
    gpu.ops.upload(gpu.dev, gs, &got_squares, 8);
    ref->adamw(ref_dev, p, g, m, v, N, &how, &squares);
    gpu.ops.adamw(gpu.dev, gp, gg, gm, gv, N, &how, gs);
    float *a = down_f(gp, N), *b = down_f(gm, N), *c = down_f(gv, N);
    assert_close(a, p, N, 1e-6, 1e-5, "adamw p");
    assert_close(b, m, N, 1e-6, 1e-5, "adamw m");
    assert_close(c, v, N, 1e-7, 1e-5, "adamw v");
    squares = NAN;
    gpu.ops.upload(gpu.dev, gs, &squares, 8);
    gpu.ops.adamw(gpu.dev, gp, gg, gm, gv, N, &how, gs);
    float *again = down_f(gp, N);
    assert_memory_equal(again, a, N * 4);
    free(a), free(b), free(c), free(again), free(p), free(g), free(m), free(v);
    drop_dev(gp), drop_dev(gg), drop_dev(gm), drop_dev(gv), drop_dev(gs), drop_dev(gt);
}

static void test_topk(void **state)
{
    (void)state;
    static const int64_t sizes[][3] = {
        {1, 5, 5},     {3, 97, 1},     {4, 1000, 17},    {6, 32128, 8},
        {9, 32128, 1}, {1, 32128, 64}, {2, 2049, 1000}, {2, 32128, 1000}};
    for (int i = 0; i < 8; i++) {
        int64_t n = sizes[i][0], v = sizes[i][1], k = sizes[i][2];
        float *x = floats(n * v, 1, 8), *value = fresh((size_t)(n * k) * 4),
              *lse = fresh((size_t)n * 4);
        int32_t *id = fresh((size_t)(n * k) * 4), *got_id = fresh((size_t)(n * k) * 4);
        for (int64_t c = 0; c < n * v; c += 3)
            x[c] = floorf(x[c]); /* many equal ones */
        int32_t row[] = {0, (int32_t)n - 1}, at[] = {1, (int32_t)v - 1};
        float *gx = up_f(x, n * v), *gval = poison((size_t)(n * k) * 4),
              *glse = poison((size_t)n * 4);
        int32_t *gid = poison((size_t)(n * k) * 4), *grow = up(row, 8), *gat = up(at, 8);
        for (int pass = 0; pass < 2; pass++) {
            float penalty = pass ? 0 : 1.7f;
            ref->logits_edit(ref_dev, x, v, row, at, 2, penalty);
            gpu.ops.logits_edit(gpu.dev, gx, v, grow, gat, 2, penalty);
            ref->topk(ref_dev, value, id, lse, x, n, v, k);
            gpu.ops.topk(gpu.dev, gval, gid, glse, gx, n, v, k);
            float *a = down_f(gval, n * k), *b = down_f(glse, n);
            OK(gpu.ops.download(gpu.dev, got_id, gid, (size_t)(n * k) * 4, &err));
            assert_memory_equal(a, value, (size_t)(n * k) * 4);
            assert_memory_equal(got_id, id, (size_t)(n * k) * 4);
            assert_close(b, lse, n, 1e-5, 1e-5, "lse");
            free(a), free(b);
        }
        drop_dev(gx), drop_dev(gval), drop_dev(glse), drop_dev(gid), drop_dev(grow), drop_dev(gat);
        free(x), free(value), free(lse), free(id), free(got_id);
    }
}

/* ---- decode step ---- */

static void check_decode(int64_t heads, int64_t d_kv)
{
    enum { ROWS = 5, SLOTS = 6, T = 40, SRC = 90, BUCKETS = 6, FAR = 9 };
    int64_t w = heads * d_kv;
    int32_t bucket[2 * FAR + 1], history[ROWS * T];
    int32_t slot[ROWS] = {0, 2, 5, 1, 3}, position[ROWS] = {0, 39, 12, 1, 20},
            begin[ROWS] = {0, 3, 3, 3, 13}, count[ROWS] = {3, 77, 77, 77, 1};
    for (int i = 0; i <= 2 * FAR; i++)
        bucket[i] = (int32_t)(t5_mix(3, (uint64_t)i) % BUCKETS);
    for (int i = 0; i < ROWS * T; i++)
        history[i] = (int32_t)(t5_mix(4, (uint64_t)i) % 2 ? 4 : slot[i / T]);
    float *qkv = acts(ROWS * 3 * w, 1, 1), *kc = acts(SLOTS * T * w, 2, 1),
          *vc = acts(SLOTS * T * w, 3, 1);
    float *kv = acts(SRC * 2 * w, 4, 1), *bias = floats(BUCKETS * heads, 5, 1),
          *out = fresh((size_t)(ROWS * w) * 4);
    void *gqkv = up_act(qkv, ROWS * 3 * w), *gkc = up_act(kc, SLOTS * T * w),
         *gvc = up_act(vc, SLOTS * T * w);
    void *gkv = up_act(kv, SRC * 2 * w), *go = poison(act_bytes(ROWS * w));
    float *gbias = up_f(bias, BUCKETS * heads);
    int32_t *gbucket = up(bucket, sizeof bucket);
    struct t5_attention s = {.heads = heads,
                             .d_kv = d_kv,
                             .causal = 1,
                             .bias = bias,
                             .bucket = bucket,
                             .buckets = BUCKETS,
                             .max_distance = FAR};
    struct t5_attention g = s;
    g.bias = gbias, g.bucket = gbucket;
    struct t5_decode_rows rows = {.n_rows = ROWS,
                                  .length = T,
                                  .slot = slot,
                                  .position = position,
                                  .history = history,
                                  .source_begin = begin,
                                  .source_count = count,
                                  .longest_source = 77};
    struct t5_decode_rows grows = rows;
    grows.slot = up(slot, sizeof slot), grows.position = up(position, sizeof position);
    grows.history = up(history, sizeof history);
    grows.source_begin = up(begin, sizeof begin), grows.source_count = up(count, sizeof count);
    ref->decode_self(ref_dev, out, kc, vc, qkv, &rows, &s);
    gpu.ops.decode_self(gpu.dev, go, gkc, gvc, gqkv, &grows, &g);
    same(down_act(go, ROWS * w), out, ROWS * w, 1, "decode self");
    same(down_act(gkc, SLOTS * T * w), kc, SLOTS * T * w, 1e-9, "key cache");
    same(down_act(gvc, SLOTS * T * w), vc, SLOTS * T * w, 1e-9, "value cache");
    s.bias = g.bias = NULL;
    ref->decode_cross(ref_dev, out, qkv, kv, &rows, &s);
    for (grows.sharing = 1; grows.sharing <= 4; grows.sharing += 3) {
        gpu.ops.decode_cross(gpu.dev, go, gqkv, gkv, &grows, &g);
        same(down_act(go, ROWS * w), out, ROWS * w, 1, "decode cross");
    }
    void *const dev[] = {gqkv,
                         gkc,
                         gvc,
                         gkv,
                         go,
                         gbias,
                         gbucket,
                         (void *)grows.slot,
                         (void *)grows.position,
                         (void *)grows.history,
                         (void *)grows.source_begin,
                         (void *)grows.source_count};
    void *const host[] = {qkv, kc, vc, kv, bias, out};
    for (int i = 0; i < 12; i++)
        drop_dev(dev[i]);
    for (int i = 0; i < 6; i++)
        free(host[i]);
}

static void test_decode(void **state)
{
    (void)state;
    check_decode(1, 3);
    check_decode(3, 9);
    check_decode(2, 16);
    check_decode(5, 64);
}

static int setup(void **state)
{
    (void)state;
    return setup_as(half ? T5_COMPUTE_BF16 : T5_COMPUTE_F32);
}

static int setup_fp8(void **state)
{
    (void)state;
    return setup_as(T5_COMPUTE_FP8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_norm),  cmocka_unit_test(test_glu),
        cmocka_unit_test(test_embed), cmocka_unit_test(test_linear),
        cmocka_unit_test(test_lora),  cmocka_unit_test(test_attention),
        cmocka_unit_test(test_loss),  cmocka_unit_test(test_optimizer),
        cmocka_unit_test(test_topk),  cmocka_unit_test(test_decode),
    };
    /* leave their results in 8 bits beside */
    const struct CMUnitTest eight[] = {
        cmocka_unit_test(test_norm),
        cmocka_unit_test(test_glu),
    };
    int failed = 0;
    for (half = 0; half < 2; half++)
        failed += cmocka_run_group_tests_name(half ? "bf16" : "f32", tests, setup, teardown);
    half = 1;
    return failed + cmocka_run_group_tests_name("fp8", eight, setup_fp8, teardown);
}
