/* test_dataset.c - records in memory, epoch order, the limits of a pass, and packing. */
/* SPDX-License-Identifier: MIT */
#include "compare.h"

#include <stdlib.h>
#include <string.h>

#include "t5/pass_limits.h"
#include "t5/train_plan.h"
#include "t5/trainer.h"

#define OK(call)                                                                                   \
    do {                                                                                           \
        if (call)                                                                                  \
            fail_msg("%s", err.text);                                                              \
    } while (0)

/* Record i: i + 1 inputs of value 100 i and up, 1 + i % 3 labels. */
static void fill(struct t5_dataset *data, int n)
{
    struct t5_err err = {0};
    int32_t ids[256];
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < 256; k++)
            ids[k] = 100 * i + k;
        struct t5_token_record r = {
            .input = ids, .n_input = i + 1, .labels = ids + 7, .n_labels = 1 + i % 3};
        OK(t5_dataset_add(data, &r, &err));
    }
}

static void test_records(void **state)
{
    struct t5_dataset data = {0};
    (void)state;
    fill(&data, 200);
    assert_int_equal(data.n, 200);
    assert_int_equal(data.longest_input, 200);
    assert_int_equal(data.longest_labels, 3);
    for (int i = 0; i < 200; i++) {
        assert_int_equal(t5_dataset_inputs(&data, i), i + 1);
        assert_int_equal(t5_dataset_labels(&data, i), 1 + i % 3);
        assert_int_equal(data.input[data.input_offsets[i] + i], 100 * i + i);
        assert_int_equal(data.labels[data.label_offsets[i]], 100 * i + 7);
    }
    t5_dataset_free(&data);
    assert_int_equal(data.n, 0);
}

/* Any changed id, length or order changes it. */
static void test_digest(void **state)
{
    struct t5_dataset a = {0}, b = {0};
    char x[65], y[65];
    (void)state;
    fill(&a, 9);
    fill(&b, 9);
    t5_dataset_digest(x, &a);
    t5_dataset_digest(y, &b);
    assert_int_equal(strlen(x), 64);
    assert_string_equal(x, y);
    b.labels[3]++;
    t5_dataset_digest(y, &b);
    assert_string_not_equal(x, y);
    b.labels[3]--;
    b.label_offsets[2]++; /* the same ids, cut elsewhere */
    t5_dataset_digest(y, &b);
    assert_string_not_equal(x, y);
    t5_dataset_free(&a);
    t5_dataset_free(&b);
}

static struct t5_order order_of(enum t5_order_kind kind, uint64_t seed,
                                const struct t5_dataset *data, int64_t batch)
{
    struct t5_err err = {0};
    struct t5_order order;
    OK(t5_order_init(&order, kind, seed, data, batch, &err));
    return order;
}

/* Every epoch is a permutation, epochs and seeds differ, the file's order is the file's order. */
static void test_order(void **state)
{
    enum { N = 1000 };
    static char seen[N];
    struct t5_dataset data = {.n = N}, one = {.n = 1};
    struct t5_order shuffle = order_of(T5_ORDER_SHUFFLE, 42, &data, 8);
    struct t5_order file = order_of(T5_ORDER_FILE, 42, &data, 8);
    struct t5_order single = order_of(T5_ORDER_SHUFFLE, 1, &one, 8);
    int differ = 0, moved = 0;
    (void)state;
    for (int64_t epoch = 0; epoch < 3; epoch++) {
        memset(seen, 0, sizeof seen);
        for (int64_t i = 0; i < N; i++) {
            int64_t r = t5_order_at(&shuffle, epoch, i);
            assert_true(r >= 0 && r < N && !seen[r]);
            seen[r] = 1;
            moved += r != i;
            differ += r != t5_order_at(&shuffle, epoch + 1, i);
            assert_int_equal(t5_order_at(&file, epoch, i), i);
        }
    }
    assert_true(moved > 2900);
    assert_true(differ > 2900);
    assert_int_equal(t5_order_at(&single, 0, 0), 0);
}

/* Grouped by length: still a permutation, any place can be asked for at any time, batches hold like
 * lengths and do not come in order of length. */
static void test_order_by_length(void **state)
{
    enum { N = 203, BATCH = 4 };
    static int64_t at[3][N];
    struct t5_dataset data = {0};
    (void)state;
    fill(&data, N); /* record i has about i tokens; 200 of them are one group */
    struct t5_order a = order_of(T5_ORDER_LENGTH, 42, &data, BATCH);
    struct t5_order b = order_of(T5_ORDER_LENGTH, 42, &data, BATCH);
    int64_t spread = 0, falls = 0, differ = 0;
    for (int64_t epoch = 0; epoch < 3; epoch++) {
        char seen[N] = {0};
        for (int64_t i = 0; i < N; i++) {
            at[epoch][i] = t5_order_at(&a, epoch, i);
            assert_true(at[epoch][i] >= 0 && at[epoch][i] < N && !seen[at[epoch][i]]++);
            differ += epoch > 0 && at[epoch][i] != at[0][i];
            if (i % BATCH == 0 && i + BATCH <= 200)
                falls += i > 0 && at[epoch][i] < at[epoch][i - BATCH];
            else if (i < 200 && epoch == 0)
                spread += llabs(at[epoch][i] - at[epoch][i - 1]);
        }
    }
    assert_true(spread < 50 * BATCH * 3); /* neighbours in a batch are neighbours in length */
    assert_true(falls > 30 && falls < 120 && differ > 300);
    for (int64_t i = N - 1; i >= 0; i -= 7) /* epochs asked for in any order */
        for (int64_t epoch = 2; epoch >= 0; epoch--)
            assert_int_equal(t5_order_at(&b, epoch, i), at[epoch][i]);
    t5_order_free(&a);
    t5_order_free(&b);
    t5_dataset_free(&data);
}

/* Whatever the order, what is packed fits the limits, and every record is packed once. */
static void test_packing(void **state)
{
    struct t5_err err = {0};
    struct t5_dataset data = {0};
    (void)state;
    fill(&data, 50);
    struct t5_order order = order_of(T5_ORDER_SHUFFLE, 3, &data, 8);
    for (int64_t micro = 1; micro < 400; micro += 37) {
        struct t5_pass_limits limits = {0};
        struct t5_packer p;
        int64_t packed = 0;
        OK(t5_limits_add(&limits, &data, 8, micro, &err));
        OK(t5_packer_init(&p, &limits, micro, &err));
        for (int64_t i = 0; i < data.n;) {
            t5_packer_clear(&p);
            while (i < data.n && t5_packer_add(&p, &data, t5_order_at(&order, 0, i)))
                i++;
            const struct t5_batch *b = &p.batch;
            int64_t n = b->n_seqs;
            int32_t in = b->input_offsets[b->n_seqs], out = b->label_offsets[b->n_seqs];
            t5_packer_longest_first(&p, &data);
            assert_int_equal(b->n_seqs, n);
            assert_int_equal(b->input_offsets[n], in);
            assert_int_equal(b->label_offsets[n], out);
            for (int64_t k = 2; k <= n; k++)
                assert_true(b->input_offsets[k] - b->input_offsets[k - 1] <=
                            b->input_offsets[k - 1] - b->input_offsets[k - 2]);
            assert_true(b->n_seqs >= 1 && b->n_seqs <= limits.seqs);
            assert_true(in <= limits.input_tokens && out <= limits.label_tokens);
            assert_true(in + out <= micro || b->n_seqs == 1);
            for (int64_t k = 0; k < b->n_seqs; k++)
                assert_int_equal(b->input[b->input_offsets[k]], 100 * (int)b->record[k]);
            packed += b->n_seqs;
        }
        assert_int_equal(packed, data.n);
        t5_packer_free(&p);
    }
    t5_dataset_free(&data);
}

/* The largest passes that a run packs: what it holds of each, step by step. */
static void pack_run(struct t5_pass_limits *most, const struct t5_passes *s)
{
    struct t5_err err = {0};
    struct t5_packer p;
    struct t5_order order = order_of(s->order, s->seed, s->train, s->batch);
    struct t5_pass_limits room = {.input_tokens = 4096, .label_tokens = 4096, .seqs = most->seqs};
    int64_t n = s->train->n, epoch_steps = (n + s->batch - 1) / s->batch;
    OK(t5_packer_init(&p, &room, s->micro_tokens, &err));
    *most = (struct t5_pass_limits){.seqs = most->seqs};
    for (int64_t step = 0; step < s->steps; step++) {
        int64_t i = step % epoch_steps * s->batch, end = i + s->batch < n ? i + s->batch : n;
        while (i < end) {
            t5_packer_clear(&p);
            while (i < end && t5_packer_add(&p, s->train, t5_order_at(&order, step / epoch_steps, i)))
                i++;
            const struct t5_batch *b = &p.batch;
            if (b->input_offsets[b->n_seqs] > most->input_tokens)
                most->input_tokens = b->input_offsets[b->n_seqs];
            if (b->label_offsets[b->n_seqs] > most->label_tokens)
                most->label_tokens = b->label_offsets[b->n_seqs];
        }
    }
    t5_packer_free(&p);
    t5_order_free(&order);
}

/* The limits of a run are exactly its largest passes, in any order, cut anywhere. */
static void test_limits_of_a_run(void **state)
{
    struct t5_err err = {0};
    struct t5_dataset train = {0}, eval = {0};
    struct t5_pass_limits exact, packed, bound = {0};
    (void)state;
    fill(&train, 60);
    for (int kind = T5_ORDER_SHUFFLE; kind <= T5_ORDER_LENGTH; kind++)
        for (int64_t micro = 1; micro < 600; micro += 71)
            for (int64_t steps = 1; steps < 30; steps += 9) {
                struct t5_passes s = {&train, &eval, (enum t5_order_kind)kind, 5, 8, steps, micro};
                OK(t5_passes_limits(&exact, &s, &err));
                packed = exact;
                pack_run(&packed, &s);
                assert_int_equal(exact.input_tokens, packed.input_tokens);
                assert_int_equal(exact.label_tokens, packed.label_tokens);
                assert_int_equal(exact.seqs, 8);
            }
    struct t5_passes s = {&train, &eval, T5_ORDER_SHUFFLE, 5, 8, T5_PASSES_MOST, 4096};
    OK(t5_passes_limits(&exact, &s, &err)); /* too long to walk */
    OK(t5_limits_add(&bound, &train, 8, 4096, &err));
    assert_int_equal(exact.input_tokens, bound.input_tokens);
    s.steps = 8;
    OK(t5_passes_limits(&exact, &s, &err));
    assert_true(exact.input_tokens < bound.input_tokens);
    fill(&eval, 200); /* evaluation goes through the file as it is */
    s.eval = &eval;
    OK(t5_passes_limits(&exact, &s, &err));
    assert_int_equal(exact.input_tokens, 193 * 8 + 28);
    t5_dataset_free(&train);
    t5_dataset_free(&eval);
}

static void test_steps(void **state)
{
    (void)state;
    assert_int_equal(t5_total_steps(14732, 8, 5, 0), 9210);
    assert_int_equal(t5_total_steps(9, 8, 2, 0), 4);
    assert_int_equal(t5_total_steps(9, 8, 2, 3), 3);
}

/* FLAN-T5-XXL with LoRA r 16 on q and v: the counts that PEFT prints. */
static void test_counts_of_xxl(void **state)
{
    static const char text[] =
        "{\"model_type\":\"t5\",\"d_model\":4096,\"d_kv\":64,\"d_ff\":10240,\"num_heads\":64,"
        "\"num_layers\":24,\"num_decoder_layers\":24,\"vocab_size\":32128,"
        "\"relative_attention_num_buckets\":32,\"relative_attention_max_distance\":128,"
        "\"layer_norm_epsilon\":1e-06,\"dropout_rate\":0.1,\"feed_forward_proj\":\"gated-gelu\","
        "\"tie_word_embeddings\":false,\"pad_token_id\":0,\"eos_token_id\":1,"
        "\"decoder_start_token_id\":0}";
    struct t5_err err = {0};
    struct t5_config config;
    struct t5_adapter adapter;
    struct t5_backend_handle backend;
    struct t5_device_options options = {.threads = 1};
    struct t5_dataset train = {0}, eval = {0};
    struct t5_train_plan plan;
    (void)state;
    fill(&train, 20);
    OK(t5_backend_open(&backend, "ref", &options, &err));
    OK(t5_config_parse(&config, text, (int64_t)strlen(text), &err));
    OK(t5_adapter_init(&adapter, "q,v", 16, 32, 0.05, 0, &config, &err));
    struct t5_train_shape shape = {.backend = &backend,
                                   .config = &config,
                                   .adapter = &adapter,
                                   .mode = T5_TRAIN_LORA,
                                   .train = &train,
                                   .eval = &eval,
                                   .batch = 8};
    OK(t5_train_plan_make(&plan, &shape, 64, 1, &err));
    assert_int_equal(plan.trainable, 18874368);
    assert_int_equal(plan.parameters, 11154206720);
    assert_int_equal(plan.limits.input_tokens, 64);
    t5_adapter_free(&adapter);
    t5_backend_close(&backend);
    t5_dataset_free(&train);
}

static int64_t little;
static int64_t little_free(struct t5_device *dev)
{
    (void)dev;
    return little;
}

/* Where memory is short the cut gets finer, but never finer than one record, and not at all when it
 * must be kept; what that does not save, recomputation does. */
static void test_short_memory(void **state)
{
    struct t5_err err = {0};
    struct t5_config config = {.d_model = 16,
                               .d_kv = 4,
                               .d_ff = 32,
                               .n_heads = 4,
                               .n_encoder = 2,
                               .n_decoder = 2,
                               .vocab = 96,
                               .buckets = 8,
                               .max_distance = 20,
                               .eps = 1e-6f,
                               .gated = 1};
    struct t5_backend_handle backend;
    struct t5_device_options options = {.threads = 1};
    struct t5_dataset train = {0}, eval = {0};
    struct t5_train_plan plan, smaller, smallest;
    (void)state;
    fill(&train, 100);
    OK(t5_backend_open(&backend, "ref", &options, &err));
    backend.ops.memory_free = little_free;
    struct t5_train_shape shape = {.backend = &backend,
                                   .config = &config,
                                   .mode = T5_TRAIN_FULL,
                                   .train = &train,
                                   .eval = &eval,
                                   .batch = 8};
    little = INT64_MAX;
    OK(t5_train_plan_make(&plan, &shape, 4096, 0, &err));
    assert_true(plan.fits);
    assert_int_equal(plan.micro_tokens, 4096);
    little = plan.bytes * 3 / 4;
    OK(t5_train_plan_make(&smaller, &shape, 4096, 0, &err));
    assert_true(smaller.fits && smaller.bytes <= little && smaller.micro_tokens < 4096);
    assert_int_equal(smaller.limits.recompute, T5_RECOMPUTE_NORMS);
    OK(t5_train_plan_make(&smaller, &shape, 4096, 1, &err));
    assert_true(smaller.fits && smaller.micro_tokens == 4096 &&
                smaller.limits.recompute == T5_RECOMPUTE_BLOCKS);
    assert_true(smaller.bytes <= little);
    OK(t5_train_plan_make(&smallest, &shape, 100, 0, &err)); /* no record is longer */
    for (int i = 0; i < smallest.n_rows; i++) /* less than records that pass alone, tapes kept */
        if (strcmp(smallest.rows[i].what, "activations") == 0)
            little = smallest.bytes - smallest.rows[i].bytes / 4;
    OK(t5_train_plan_make(&smaller, &shape, 4096, 0, &err));
    assert_true(smaller.fits && smaller.limits.recompute == T5_RECOMPUTE_BLOCKS &&
                smaller.micro_tokens > 100);
    little = 1;
    OK(t5_train_plan_make(&smaller, &shape, 4096, 0, &err));
    assert_true(!smaller.fits && smaller.bytes == plan.bytes && !smaller.limits.recompute);
    t5_backend_close(&backend);
    t5_dataset_free(&train);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_records),       cmocka_unit_test(test_digest),
        cmocka_unit_test(test_order),         cmocka_unit_test(test_order_by_length),
        cmocka_unit_test(test_packing),       cmocka_unit_test(test_steps),
        cmocka_unit_test(test_limits_of_a_run),
        cmocka_unit_test(test_counts_of_xxl), cmocka_unit_test(test_short_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
