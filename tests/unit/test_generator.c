/* test_generator.c - batches where memory runs out: smaller ones from then on, with the same
 * answers; where not even one source fits, the failure itself. */
/* SPDX-License-Identifier: MIT */
#include "golden.h"
#include "t5/generator.h"

#define NEW 12

static size_t most; /* bytes that an allocation may ask for */
static int (*alloc)(struct t5_device *, void **, size_t, const char *, struct t5_err *);

static int scarce(struct t5_device *dev, void **out, size_t bytes, const char *what,
                  struct t5_err *err)
{
    return bytes > most ? t5_fail_memory(err, bytes, what) : alloc(dev, out, bytes, what, err);
}

struct answers {
    int32_t ids[GOLDEN_RECORDS][NEW];
    int n;
};

static int keep(void *context, int64_t which, const struct t5_hypothesis *h, struct t5_err *err)
{
    struct answers *a = context;
    (void)err;
    memcpy(a->ids[which], h->ids, (size_t)h->n * sizeof *h->ids);
    a->n++;
    return 0;
}

/* Answers every record in batches of `tokens` with `bytes` at most at a time; the status. */
static int answer(struct answers *a, int64_t *tokens, size_t bytes, struct t5_err *err)
{
    struct golden_model g;
    struct records r;
    struct t5_generator *generator;
    struct t5_prompt prompts[GOLDEN_RECORDS];
    struct t5_search_options greedy = {
        .kind = T5_GREEDY, .returned = 1, .max_new = NEW, .repetition_penalty = 1};
    records_load(&r);
    memset(a, 0, sizeof *a);
    golden_open(&g, "ref", "gated", "none", T5_INFER);
    alloc = g.backend.ops.alloc, g.backend.ops.alloc = scarce, most = bytes;
    for (int i = 0; i < r.n; i++)
        prompts[i] = (struct t5_prompt){r.input + r.input_offsets[i],
                                        r.input_offsets[i + 1] - r.input_offsets[i], -1};
    assert_int_equal(t5_generator_open(&generator, g.model, &greedy, *tokens, err), 0);
    int rc = t5_generator_run(generator, prompts, r.n, keep, NULL, a, err);
    *tokens = t5_generator_batch_tokens(generator);
    t5_generator_close(generator);
    golden_close(&g);
    return rc;
}

static void test_memory(void **state)
{
    struct answers all, few;
    struct t5_err err = {0};
    int64_t tokens = 1 << 20;
    (void)state;
    OK(answer(&all, &tokens, SIZE_MAX, &err));
    assert_int_equal(all.n, GOLDEN_RECORDS);
    assert_int_equal(tokens, 1 << 20);
    OK(answer(&few, &tokens, 150000, &err));
    assert_true(tokens < 1000);
    assert_memory_equal(&few, &all, sizeof all);
}

static void test_too_little(void **state)
{
    struct answers none;
    struct t5_err err = {0};
    int64_t tokens = 1 << 20;
    (void)state;
    assert_int_equal(answer(&none, &tokens, 1000, &err), -1);
    assert_true(err.out_of_memory && strstr(err.text, "asked "));
    assert_int_equal(none.n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_memory),
                                       cmocka_unit_test(test_too_little)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
