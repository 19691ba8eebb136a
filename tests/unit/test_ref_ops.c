/* test_ref_ops.c - the reference backend: every operator's gradient against finite differences of
 * its own forward; dropout's rate and mean; AdamW, clipping and selection against hand-worked
 * values; the comparator itself. */
/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"
#include "base/rng.h"
#include "compare.h"

static const struct t5_backend *ops = &t5_backend_ref;
static struct t5_device *dev;

/* ---- a packed batch of three sequences, one of them a single token ---- */

#define N 11
#define M 9
static const int32_t q_offsets[] = {0, 4, 5, 11}, k_offsets[] = {0, 1, 6, 9};
static const int32_t q_seq[] = {0, 0, 0, 0, 1, 2, 2, 2, 2, 2, 2};
static const int32_t k_seq[] = {0, 1, 1, 1, 1, 1, 2, 2, 2};
static const uint32_t record[] = {5, 0, 9};
static const struct t5_pack q_pack = {N, 3, 6, q_offsets, q_seq, record};
static const struct t5_pack k_pack = {M, 3, 5, k_offsets, k_seq, record};
static const struct t5_dropout drop = {.p = 0.3f, .key = {1, 2}, .site = 7};
static const struct t5_dropout drop_y = {.p = 0.2f, .key = {1, 2}, .site = 8};

static float random_value(uint32_t tag, uint32_t i)
{
    uint32_t counter[4] = {i, tag, 0, 0}, key[2] = {3, 4};
    return 2 * t5_uniform(t5_philox(counter, key).v[0]) - 1;
}

static void randomise(float *x, int64_t n, uint32_t tag)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = random_value(tag, (uint32_t)i);
}

/* sum of out x fixed random weights: a scalar to differentiate */
static double weigh(const float *out, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)out[i] * (double)random_value(99, (uint32_t)i);
    return sum;
}

static void weights(float *dout, int64_t n)
{
    randomise(dout, n, 99);
}

/* Every element of grad against (f(x + h) - f(x - h)) / 2h. */
static void check(double (*f)(void), float *x, const float *grad, int64_t n, const char *what)
{
    for (int64_t i = 0; i < n; i++) {
        float was = x[i], h = 4e-3f;
        x[i] = was + h;
        double up = f(), step = (double)x[i];
        x[i] = was - h;
        double down = f();
        step -= (double)x[i];
        x[i] = was;
        double want = (up - down) / step;
        if (!t5_close((double)grad[i], want, 2e-4, 1e-3))
            fail_msg("%s: gradient %lld is %.8g, finite difference %.8g", what, (long long)i,
                     (double)grad[i], want);
    }
}

/* ---- norm ---- */

#define D 7
static float x[N * D], delta[N * D], x_out[N * D], y[N * D], w[D];

static double norm_loss(void)
{
    ops->norm_fwd(dev, x_out, y, x, delta, w, N, D, 1e-6f, &q_pack, &drop, &drop_y, NULL);
    /* the stream goes on below the norm too: both outputs count */
    return weigh(y, N * D) + 0.5 * weigh(x_out, N * D);
}

static void test_norm(void **state)
{
    (void)state;
    float dx[N * D], ddelta[N * D], dw[D] = {0}, dy[N * D];
    randomise(x, N * D, 1);
    randomise(delta, N * D, 2);
    randomise(w, D, 3);
    norm_loss();
    weights(dy, N * D);
    for (int i = 0; i < N * D; i++)
        dx[i] = 0.5f * dy[i];
    memset(ddelta, 0xff, sizeof ddelta); /* poisoned */
    ops->norm_bwd(dev, dx, ddelta, dw, dy, x_out, w, N, D, 1e-6f, &q_pack, &drop, &drop_y, NULL);
    check(norm_loss, x, dx, N * D, "norm x");
    check(norm_loss, delta, ddelta, N * D, "norm delta");
    check(norm_loss, w, dw, D, "norm w");
}

/* ---- products ---- */

#define ROWS 5
static float lw[ROWS * D], ly[N * ROWS];
static struct t5_weight *weight;

static double linear_loss(void)
{
    ops->linear_fwd(dev, ly, ROWS, x, D, weight, N);
    return weigh(ly, N * ROWS);
}

static void test_linear(void **state)
{
    (void)state;
    struct t5_err err;
    float dx[N * D], dw[ROWS * D] = {0}, dy[N * ROWS];
    randomise(x, N * D, 1);
    randomise(lw, ROWS * D, 4);
    assert_int_equal(ops->weight_bind(dev, &weight, lw, ROWS, D, &err), 0);
    weights(dy, N * ROWS);
    memset(dx, 0xff, sizeof dx);
    ops->linear_bwd_input(dev, dx, D, dy, ROWS, weight, N, 0);
    check(linear_loss, x, dx, N * D, "linear x");
    ops->linear_bwd_weight(dev, dw, dy, ROWS, x, D, ROWS, D, N);
    check(linear_loss, lw, dw, ROWS * D, "linear w");
    float twice[N * D];
    memcpy(twice, dx, sizeof dx);
    ops->linear_bwd_input(dev, twice, D, dy, ROWS, weight, N, 1);
    for (int i = 0; i < N * D; i++)
        assert_true(t5_close((double)twice[i], 2 * (double)dx[i], 1e-6, 1e-6));
    ops->weight_free(dev, weight);
}

/* ---- LoRA: two modules on one input, different ranks, columns apart ---- */

static float a0[3 * D], b0[2 * 3], a1[2 * D], b1[2 * 2], da0[3 * D], db0[2 * 3], da1[2 * D],
    db1[2 * 2], u[N * 5];
static struct t5_lora lora[2] = {
    {a0, b0, da0, db0, 3, 2, 0, 1.5f, {.p = 0.3f, .key = {1, 2}, .site = 20}},
    {a1, b1, da1, db1, 2, 2, 3, 0.5f, {.p = 0.3f, .key = {1, 2}, .site = 21}},
};

static double lora_loss(void)
{
    memset(ly, 0, sizeof ly);
    ops->lora_fwd(dev, ly, ROWS, u, x, D, D, lora, 2, N, &q_pack);
    return weigh(ly, N * ROWS);
}

static void test_lora(void **state)
{
    (void)state;
    float dx[N * D] = {0}, dy[N * ROWS], work[N * 5];
    randomise(x, N * D, 1);
    randomise(a0, 3 * D, 5);
    randomise(b0, 6, 6);
    randomise(a1, 2 * D, 7);
    randomise(b1, 4, 8);
    lora_loss();
    weights(dy, N * ROWS);
    ops->lora_bwd(dev, dx, D, work, dy, ROWS, u, x, D, D, lora, 2, N, &q_pack);
    check(lora_loss, x, dx, N * D, "lora x");
    check(lora_loss, a0, da0, 3 * D, "lora a0");
    check(lora_loss, b0, db0, 6, "lora b0");
    check(lora_loss, a1, da1, 2 * D, "lora a1");
    check(lora_loss, b1, db1, 4, "lora b1");
}

/* ---- attention ---- */

#define H 2
#define K 3
#define W (H * K)
#define FAR 3
#define BUCKETS 5
static float q[N * W], k[N * W], v[N * W], bias[BUCKETS * H], ao[N * W], lse[N * H];
static const int32_t bucket[2 * FAR + 1] = {4, 3, 1, 0, 2, 4, 3};
static struct t5_attention shape;

static double attention_loss(void)
{
    ops->attention_fwd(dev, ao, lse, q, W, k, W, v, W, &shape);
    return weigh(ao, N * W);
}

static void check_attention(int causal, int cross, const char *what)
{
    float dq[N * W], dk[N * W], dv[N * W], dbias[BUCKETS * H] = {0}, dout[N * W];
    int64_t keys = cross ? M : N;
    shape = (struct t5_attention){.heads = H,
                                  .d_kv = K,
                                  .q_pack = &q_pack,
                                  .k_pack = cross ? &k_pack : &q_pack,
                                  .causal = causal,
                                  .bias = cross ? NULL : bias,
                                  .bucket = bucket,
                                  .buckets = BUCKETS,
                                  .max_distance = FAR,
                                  .dropout = drop};
    randomise(q, N * W, 10);
    randomise(k, N * W, 11);
    randomise(v, N * W, 12);
    randomise(bias, BUCKETS * H, 13);
    attention_loss();
    weights(dout, N * W);
    memset(dq, 0xff, sizeof dq);
    memset(dk, 0xff, sizeof dk);
    memset(dv, 0xff, sizeof dv);
    ops->attention_bwd(dev, dq, W, dk, W, dv, W, cross ? NULL : dbias, dout, ao, lse, q, W, k, W, v,
                       W, &shape);
    check(attention_loss, q, dq, N * W, what);
    check(attention_loss, k, dk, keys * W, what);
    check(attention_loss, v, dv, keys * W, what);
    if (!cross)
        check(attention_loss, bias, dbias, BUCKETS * H, what);
}

static void test_attention(void **state)
{
    (void)state;
    check_attention(0, 0, "encoder self-attention");
    check_attention(1, 0, "decoder self-attention");
    check_attention(0, 1, "cross-attention");
}

/* ---- gated activation ---- */

#define F 5
static float g[N * 2 * F], h[N * F];
static enum t5_glu glu_kind;
static int glu_gated;

static double glu_loss(void)
{
    ops->glu_fwd(dev, h, g, N, F, glu_kind, glu_gated, &q_pack, &drop, NULL);
    return weigh(h, N * F);
}

static void test_glu(void **state)
{
    (void)state;
    static const enum t5_glu kinds[] = {T5_GLU_RELU, T5_GLU_GELU_NEW, T5_GLU_SILU};
    for (int i = 0; i < 3; i++)
        for (glu_gated = 0; glu_gated < 2; glu_gated++) {
            float dg[N * 2 * F], dh[N * F];
            glu_kind = kinds[i];
            randomise(g, N * 2 * F, 14);
            for (int c = 0; c < N * 2 * F; c++) /* away from ReLU's corner */
                g[c] += g[c] < 0 ? -0.01f : 0.01f;
            weights(dh, N * F);
            memset(dg, 0xff, sizeof dg);
            ops->glu_bwd(dev, dg, dh, g, N, F, glu_kind, glu_gated, &q_pack, &drop, NULL);
            check(glu_loss, g, dg, N * F * (glu_gated ? 2 : 1), "glu");
        }
}

/* ---- loss and embedding ---- */

#define V 6
static float logits[N * V], nll[N];
static const int32_t labels[N] = {0, 5, 2, 2, 1, 3, 4, 0, 1, 5, 2};

static float smoothing;

static double entropy_loss(void)
{
    double sum = 0;
    ops->cross_entropy(dev, nll, NULL, logits, labels, N, V, 0, smoothing);
    for (int i = 0; i < N; i++)
        sum += 0.25 * (double)nll[i];
    return sum;
}

static void test_cross_entropy(void **state)
{
    (void)state;
    float dlogits[N * V], in_place[N * V];
    for (smoothing = 0; smoothing < 0.5f; smoothing += 0.3f) {
        randomise(logits, N * V, 15);
        memset(dlogits, 0xff, sizeof dlogits);
        ops->cross_entropy(dev, nll, dlogits, logits, labels, N, V, 0.25f, smoothing);
        check(entropy_loss, logits, dlogits, N * V, "cross-entropy");
        memcpy(in_place, logits, sizeof logits);
        ops->cross_entropy(dev, nll, in_place, in_place, labels, N, V, 0.25f, smoothing);
        assert_memory_equal(in_place, dlogits, sizeof dlogits);
    }
}

/* transformers 5.23's LabelSmoother(epsilon=0.1) on these logits, labels 2, 0, 3. */
static void test_label_smoothing(void **state)
{
    static const float rows[] = {1, 2, 3, 4, 0.5f, -1, 0, 2, -3, 0.25f, 1, 1.5f};
    static const int32_t wanted[] = {2, 0, 3};
    float each[3];
    (void)state;
    ops->cross_entropy(dev, each, NULL, rows, wanted, 3, 4, 0, 0.1f);
    assert_true(t5_close((double)(each[0] + each[1] + each[2]) / 3, 1.3817740166885943, 0, 1e-6));
}

static float table[V * D];
static struct t5_weight *table_weight;

static double embed_loss(void)
{
    ops->embed_fwd(dev, x, table_weight, labels, &q_pack, &drop);
    return weigh(x, N * D);
}

static void test_embed(void **state)
{
    (void)state;
    struct t5_err err;
    float dtable[V * D] = {0}, dx[N * D];
    randomise(table, V * D, 16);
    assert_int_equal(ops->weight_bind(dev, &table_weight, table, V, D, &err), 0);
    weights(dx, N * D);
    ops->embed_bwd(dev, dtable, dx, labels, V, D, &q_pack, &drop);
    check(embed_loss, table, dtable, V * D, "embedding");
    ops->weight_free(dev, table_weight);
}

/* ---- dropout ---- */

/* Rate within five standard deviations; each element's mean over many keys converges to the
 * undropped value. */
static void test_dropout(void **state)
{
    (void)state;
    enum { RUNS = 4000, FF = 8 };
    static float in[N * FF], out[N * FF];
    static double mean[N * FF];
    long dropped = 0;
    for (int i = 0; i < N * FF; i++)
        in[i] = 1 + 0.01f * (float)i;
    for (uint32_t run = 0; run < RUNS; run++) {
        struct t5_dropout d = {.p = 0.3f, .site = 2};
        t5_rng_key(d.key, 42, T5_RNG_DROPOUT, run);
        ops->glu_fwd(dev, out, in, N, FF, T5_GLU_RELU, 0, &q_pack, &d, NULL);
        for (int i = 0; i < N * FF; i++) {
            dropped += out[i] == 0;
            mean[i] += (double)out[i] / RUNS;
        }
    }
    double all = (double)RUNS * N * FF, rate = (double)dropped / all;
    assert_true(fabs(rate - 0.3) < 5 * sqrt(0.21 / all));
    for (int i = 0; i < N * FF; i++)
        assert_true(fabs(mean[i] / (double)in[i] - 1) < 5.5 * sqrt(0.3 / 0.7 / RUNS));
}

/* The same element draws the same, whatever stands beside it in the batch. */
static void test_dropout_is_keyed_by_record(void **state)
{
    (void)state;
    static const int32_t offsets[] = {0, 6}, seq[6] = {0};
    static const uint32_t alone_record[] = {9};
    struct t5_pack alone = {6, 1, 6, offsets, seq, alone_record};
    float in[N * F], packed[N * F], single[6 * F];
    randomise(in, N * F, 17);
    ops->glu_fwd(dev, packed, in, N, F, T5_GLU_RELU, 0, &q_pack, &drop, NULL);
    ops->glu_fwd(dev, single, in + 5 * F, 6, F, T5_GLU_RELU, 0, &alone, &drop, NULL);
    assert_memory_equal(single, packed + 5 * F, sizeof single);
}

/* ---- optimiser and selection ---- */

static void test_adamw(void **state)
{
    (void)state;
    float p[2] = {1, -2}, grad[2] = {3, 4}, m[2] = {0}, var[2] = {0};
    double sum_squares;
    struct t5_adamw how = {.lr = 0.1f,
                           .beta1 = 0.9f,
                           .beta2 = 0.999f,
                           .eps = 1e-8f,
                           .weight_decay = 0.5f,
                           .clip = 1,
                           .step = 1};
    ops->sum_squares(dev, &sum_squares, grad, 2);
    assert_true(sum_squares == 25);
    ops->adamw(dev, p, grad, m, var, 2, &how, &sum_squares);
    /* clipped gradient (0.6, 0.8); the first step moves lr x sign, after decay by 1 - 0.05 */
    assert_true(t5_close((double)p[0], 0.95 - 0.1, 1e-6, 0));
    assert_true(t5_close((double)p[1], -1.9 - 0.1, 1e-6, 0));
    assert_true(t5_close((double)m[0], 0.06, 1e-6, 0) &&
                t5_close((double)var[1], 0.00064, 1e-8, 0));
    float before = p[0];
    sum_squares = NAN;
    ops->adamw(dev, p, grad, m, var, 2, &how, &sum_squares);
    assert_true(p[0] == before);
}

static void test_topk(void **state)
{
    (void)state;
    float row[2 * V] = {1, 3, -1, 3, 0, 2, -5, -4, -3, -2, -1, 0}, value[8], top_lse[2];
    int32_t id[8], edit_row[] = {0, 1}, edit_id[] = {1, 5};
    ops->topk(dev, value, id, top_lse, row, 2, V, 4);
    const int32_t want[] = {1, 3, 5, 0, 5, 4, 3, 2};
    assert_memory_equal(id, want, sizeof want);
    assert_true(value[0] == 3 && value[1] == 3 && value[7] == -3);
    double sum = 0;
    for (int i = 0; i < V; i++)
        sum += exp((double)row[i]);
    assert_true(t5_close((double)top_lse[0], log(sum), 1e-6, 0));
    ops->logits_edit(dev, row, V, edit_row, edit_id, 2, 2);
    assert_true(row[1] == 1.5f && row[V + 5] == 0);
    ops->logits_edit(dev, row, V, edit_row, edit_id, 2, 0);
    ops->topk(dev, value, id, top_lse, row, 2, V, 4);
    assert_int_equal(id[0], 3);
    assert_int_equal(id[4], 4);
}

static void test_comparator_rejects(void **state)
{
    (void)state;
    assert_false(t5_close(NAN, NAN, 1, 1));
    assert_false(t5_close(NAN, 0, 1, 1));
    assert_false(t5_close(0, NAN, 1, 1));
    assert_false(t5_close(INFINITY, INFINITY, 1, 1));
    assert_false(t5_close(1.1, 1, 0.01, 0.01));
    assert_true(t5_close(1.001, 1, 0.01, 0));
}

static int setup(void **state)
{
    (void)state;
    struct t5_device_options options = {0};
    struct t5_err err;
    return ops->open(&dev, &options, &err);
}

static int teardown(void **state)
{
    (void)state;
    ops->close(dev);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_norm),
        cmocka_unit_test(test_linear),
        cmocka_unit_test(test_lora),
        cmocka_unit_test(test_attention),
        cmocka_unit_test(test_glu),
        cmocka_unit_test(test_cross_entropy),
        cmocka_unit_test(test_label_smoothing),
        cmocka_unit_test(test_embed),
        cmocka_unit_test(test_dropout),
        cmocka_unit_test(test_dropout_is_keyed_by_record),
        cmocka_unit_test(test_adamw),
        cmocka_unit_test(test_topk),
        cmocka_unit_test(test_comparator_rejects),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
