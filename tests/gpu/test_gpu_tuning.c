/* test_gpu_tuning.c - products whose algorithm is timed and written down: near the untimed ones,
 * the same bytes from the file, nothing timed where nothing can be written, a damaged file
 * replaced. 8-bit ones are never timed. */
/* SPDX-License-Identifier: MIT */
#include "ok.h"

#include <glob.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"
#include "base/rng.h"

enum { N = 512, ROWS = 1024, COLS = 2048 }; /* just above what is worth timing */
static char root[] = "/tmp/t5-tuning-XXXXXX";

static uint16_t *halves(int64_t n, uint64_t seed)
{
    uint16_t *x = malloc((size_t)n * 2);
    assert_non_null(x);
    for (int64_t i = 0; i < n; i++)
        x[i] = t5_f32_to_bf16((float)(t5_mix(seed, (uint64_t)i) >> 40) * 0x1p-23f - 1);
    return x;
}

/* y (N, ROWS), then dx (N, COLS) added to: bf16, owned */
static uint16_t *products(enum t5_compute compute, int tuning)
{
    struct t5_device_options options = {.compute = compute, .tuning = tuning};
    struct t5_backend_handle b;
    uint16_t *w = halves(ROWS * COLS, 1), *x = halves(N * COLS, 2), *dy = halves(N * ROWS, 3);
    uint16_t *out = malloc((N * ROWS + N * COLS) * 2);
    struct t5_matrix m = {.data = w, .type = T5_BF16, .rows = ROWS, .cols = COLS};
    struct t5_weight *frozen;
    void *on[3];
    assert_non_null(out);
    OK(t5_backend_open(&b, "cuda", &options, &err));
    OK(b.ops.weight_freeze(b.dev, &frozen, &m, 1, T5_USE_FORWARD | T5_USE_INPUT_GRAD, &err));
    const size_t bytes[] = {N * COLS * 2, N * ROWS * 2, N * ROWS * 2};
    for (int i = 0; i < 3; i++)
        OK(b.ops.alloc(b.dev, &on[i], bytes[i], "a test", &err));
    b.ops.upload(b.dev, on[0], x, bytes[0]);
    b.ops.upload(b.dev, on[2], dy, bytes[2]);
    b.ops.linear_fwd(b.dev, on[1], ROWS, on[0], COLS, frozen, N);
    b.ops.linear_bwd_input(b.dev, on[0], COLS, on[2], ROWS, frozen, N, 1);
    OK(b.ops.download(b.dev, out, on[1], bytes[1], &err));
    OK(b.ops.download(b.dev, out + N * ROWS, on[0], bytes[0], &err));
    for (int i = 0; i < 3; i++)
        b.ops.release(b.dev, on[i]);
    b.ops.weight_free(b.dev, frozen);
    t5_backend_close(&b);
    free(w);
    free(x);
    free(dy);
    return out;
}

static void expect(enum t5_compute compute, int tuning, const uint16_t *want, int same)
{
    uint16_t *got = products(compute, tuning);
    for (int64_t i = 0; i < N * ROWS + N * COLS; i++) {
        double a = (double)t5_bf16_to_f32(got[i]), b = (double)t5_bf16_to_f32(want[i]);
        if (same ? got[i] != want[i] : !t5_close(a, b, 0.05, 0.01))
            fail_msg("element %lld: got %g, want %g", (long long)i, a, b);
    }
    free(got);
}

/* Answers in all files; their first file's name in `path`. */
static int answers(char path[200])
{
    char pattern[100], line[1024];
    glob_t found;
    int n = 0;
    snprintf(pattern, sizeof pattern, "%s/t5-tools/products-????????", root);
    path[0] = 0;
    if (glob(pattern, 0, NULL, &found) == 0) {
        snprintf(path, 200, "%.190s", found.gl_pathv[0]);
        FILE *f = fopen(path, "r");
        assert_non_null(f);
        while (fgets(line, sizeof line, f))
            n += strchr(line, '\t') != NULL;
        fclose(f);
        globfree(&found);
    }
    return n;
}

static void check(enum t5_compute compute)
{
    char path[200];
    setenv("XDG_CACHE_HOME", "/dev/null/nowhere", 1);
    uint16_t *plain = products(compute, 0);
    expect(compute, 1, plain, 1); /* nowhere to write */
    setenv("XDG_CACHE_HOME", root, 1);
    expect(compute, 0, plain, 1);
    int before = answers(path);
    uint16_t *tuned = products(compute, 1);
    int after = answers(path);
    assert_int_equal(after, before + 2);
    expect(compute, 1, plain, 0);
    expect(compute, 1, tuned, 1);
    assert_int_equal(answers(path), after);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs("not ours\n", f);
    fclose(f);
    expect(compute, 1, plain, 0);
    assert_int_equal(answers(path), 2);
    free(plain);
    free(tuned);
}

static void test_tuning(void **state)
{
    (void)state;
    char path[200];
    check(T5_COMPUTE_BF16);
    uint16_t *plain = products(T5_COMPUTE_FP8, 0);
    expect(T5_COMPUTE_FP8, 1, plain, 1);
    assert_int_equal(answers(path), 2);
    free(plain);
}

static int setup(void **state)
{
    (void)state;
    return mkdtemp(root) ? 0 : -1;
}

static int teardown(void **state)
{
    char command[64];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", root);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_tuning)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
