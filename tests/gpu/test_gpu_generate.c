/* test_gpu_generate.c - greedy search, beams and samples of the golden models on the GPU: in f32
 * the ids of ref; in f32 and bf16, steps recorded and replayed give the bytes of steps queued one
 * operator at a time. */
/* SPDX-License-Identifier: MIT */
#include "../unit/golden.h"
#include "t5/search.h"

#define MOST_NEW 20
#define LANES 4

static struct records records;

struct found {
    int32_t ids[GOLDEN_RECORDS * LANES][MOST_NEW];
    float logprobs[GOLDEN_RECORDS * LANES][MOST_NEW];
    int64_t n[GOLDEN_RECORDS * LANES];
};

enum { GREEDY, RULED, BEAM, SAMPLES, KINDS };

static struct t5_search_options options_of(int kind)
{
    struct t5_search_options o = {.kind = kind == BEAM      ? T5_BEAM
                                          : kind == SAMPLES ? T5_SAMPLE
                                                            : T5_GREEDY,
                                  .returned = kind == BEAM || kind == SAMPLES ? LANES : 1,
                                  .max_new = MOST_NEW,
                                  .repetition_penalty = 1,
                                  .beams = LANES,
                                  .length_penalty = 1,
                                  .sampling = {.temperature = 1, .top_k = 12, .top_p = 0.9},
                                  .seed = 7};
    if (kind == RULED) {
        o.min_new = 9;
        o.no_repeat = 2;
        o.repetition_penalty = 1.3;
    }
    return o;
}

/* Two batches, the second smaller; then the first once more, which must not change a byte. */
static void search_all(struct found *out, struct golden_model *g, int kind)
{
    struct t5_err err = {0};
    struct t5_search_options o = options_of(kind);
    struct t5_search *search;
    static struct t5_hypothesis h[GOLDEN_RECORDS * LANES];
    static const int cuts[] = {0, 17, GOLDEN_RECORDS, 0, 17};
    memset(out, 0, sizeof *out);
    OK(t5_search_open(&search, g->model, &o, records.n, records.input_offsets[records.n], &err));
    for (int cut = 0; cut < 4; cut++) {
        int32_t in[GOLDEN_RECORDS + 1], lab[GOLDEN_RECORDS + 1];
        int first = cuts[cut], n = cuts[cut + 1] - first;
        if (n <= 0)
            continue;
        struct t5_batch batch = records_batch(&records, first, n, in, lab);
        OK(t5_search_batch(search, h, batch.input, in, NULL, n, &err));
        for (int i = 0; i < n * (int)o.returned; i++) {
            int at = first * (int)o.returned + i;
            if (cut > 1) {
                assert_int_equal(h[i].n, out->n[at]);
                assert_memory_equal(h[i].ids, out->ids[at], (size_t)h[i].n * sizeof *h[i].ids);
                assert_memory_equal(h[i].logprobs, out->logprobs[at],
                                    (size_t)h[i].n * sizeof *h[i].logprobs);
            }
            out->n[at] = h[i].n;
            memcpy(out->ids[at], h[i].ids, (size_t)h[i].n * sizeof *h[i].ids);
            memcpy(out->logprobs[at], h[i].logprobs, (size_t)h[i].n * sizeof *h[i].logprobs);
        }
    }
    t5_search_close(search);
}

/* golden_open with the arithmetic to choose, and without recording if asked. */
static void open_as(struct golden_model *g, const char *geometry, const char *adapter,
                    enum t5_compute compute, int record)
{
    struct t5_err err = {0};
    struct t5_device_options options = {.compute = compute};
    golden_open(g, "ref", geometry, adapter, T5_INFER);
    t5_model_close(g->model);
    t5_backend_close(&g->backend);
    OK(t5_backend_open(&g->backend, "cuda", &options, &err));
    assert_non_null(g->backend.ops.record_begin);
    if (!record)
        g->backend.ops.record_begin = NULL;
    OK(t5_model_open(&g->model, &g->backend, g->checkpoint, g->has_adapter ? &g->adapter : NULL,
                     T5_INFER, &err));
}

static struct found want, got, direct;

static void test_ids(void **state)
{
    (void)state;
    for (int kind = 0; kind < KINDS; kind++)
        for (size_t i = 0; i < 3; i++)
            for (size_t a = 0; a < 2; a++) {
                struct golden_model g;
                golden_open(&g, "ref", geometries[i], adapters[a], T5_INFER);
                search_all(&want, &g, kind);
                golden_close(&g);
                golden_open(&g, "cuda", geometries[i], adapters[a], T5_INFER);
                search_all(&got, &g, kind);
                golden_close(&g);
                assert_memory_equal(got.n, want.n, sizeof got.n);
                assert_memory_equal(got.ids, want.ids, sizeof got.ids);
                assert_close(got.logprobs[0], want.logprobs[0], sizeof got.logprobs / sizeof(float),
                             1e-4, 1e-4, geometries[i]);
            }
}

static void test_replay(void **state)
{
    (void)state;
    for (int kind = 0; kind < KINDS; kind++)
        for (size_t i = 0; i < 3; i++)
            for (int half = 0; half < 2; half++) {
                struct golden_model g;
                enum t5_compute compute = half ? T5_COMPUTE_BF16 : T5_COMPUTE_F32;
                open_as(&g, geometries[i], "all", compute, 1);
                search_all(&got, &g, kind);
                golden_close(&g);
                open_as(&g, geometries[i], "all", compute, 0);
                search_all(&direct, &g, kind);
                golden_close(&g);
                assert_memory_equal(&got, &direct, sizeof got);
            }
}

static int setup(void **state)
{
    (void)state;
    records_load(&records);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ids), cmocka_unit_test(test_replay)};
    return cmocka_run_group_tests(tests, setup, NULL);
}
