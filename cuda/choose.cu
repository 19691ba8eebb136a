/* choose.cu - which of cuBLASLt's algorithms multiplies a shape. It orders its candidates by a
 * model of the card; for products that cost something its first are timed on the operands at
 * hand, and the fastest is written down (io/choices.h), keyed by card, driver and library.
 *
 * Two runs of one command must give the same bits, and another algorithm may sum in another order.
 * So what is written down holds for every later run; where nothing can be written down nothing is
 * timed, and the library's own first candidate is taken. A choice never changes within a run.
 *
 * A size that is new costs some ms, most of it the loading of kernels that are never used again. So
 * packed batches share sizes: four of them from one power of two to the next. 8-bit products are
 * not timed: on an H200 the library's first was the fastest at FLAN-T5-XXL's shapes. */
/* SPDX-License-Identifier: MIT */
#include <cstdio>
#include <cstring>

#include "matmul.h"

extern "C" {
#include "io/choices.h"
}

#define CANDIDATES 20
#define LEAST_WORK 2e9   /* operations: below, a product is over in a few us whichever is taken */
#define LEAST_TOKENS 128 /* below, decoding: few rows, whose weights' bytes are the cost */
#define CLOSE 1.1f       /* times the best of the first round: those that are timed again */

/* At most so many candidates in the library's order; their number. Parts of a sum that is split are
 * added in f32: cuBLASLt may otherwise round each to the output's bf16. */
static int ask(t5_device *dev, cublasLtMatmulHeuristicResult_t *out, int most, const shape_key *key,
               const operands *o)
{
    call x = {};
    cublasLtMatmulPreference_t want = nullptr;
    int n = 0;
    uint32_t reduction = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    uint32_t a = (uint32_t)key->align_b, b = (uint32_t)key->align_a, c = (uint32_t)key->align_c;
    auto set = [&](cublasLtMatmulPreferenceAttributes_t what, const void *value, size_t size) {
        return cublasLtMatmulPreferenceSetAttribute(want, what, value, size) == 0;
    };
    bool ok = t5_cuda_call_open(&x, key, key_tokens(key), o) &&
              cublasLtMatmulPreferenceCreate(&want) == 0 &&
              set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &dev->workspace_bytes,
                  sizeof dev->workspace_bytes) &&
              set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reduction, sizeof reduction) &&
              set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &a, sizeof a) &&
              set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &b, sizeof b) &&
              set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &c, sizeof c) &&
              set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &c, sizeof c) &&
              cublasLtMatmulAlgoGetHeuristic(dev->lt, x.desc, x.a, x.b, x.c, x.c, want, most, out,
                                             &n) == CUBLAS_STATUS_SUCCESS;
    if (want)
        cublasLtMatmulPreferenceDestroy(want);
    t5_cuda_call_close(&x);
    return ok ? n : 0;
}

/* ---- timing ---- */

struct trial {
    call x;
    operands o; /* c: a copy where the product adds to it */
    cudaEvent_t start, end;
    void *own;
};

static bool trial_open(t5_device *dev, trial *t, const shape_key *key, const operands *o,
                       int64_t tokens)
{
    *t = {};
    t->o = *o;
    if (key->accumulate) {
        int64_t rows = key->kind == T5_TN ? key->m : tokens;
        size_t bytes = (size_t)(rows * key->ldc) * (key->c_float ? 4 : 2);
        t5_err err;
        if (t5_cuda_alloc(dev, &t->own, bytes, "a trial", &err))
            return false;
        t->o.c = t->own;
    }
    return t5_cuda_call_open(&t->x, key, tokens, o) && cudaEventCreate(&t->start) == cudaSuccess &&
           cudaEventCreate(&t->end) == cudaSuccess;
}

static void trial_close(trial *t)
{
    t5_cuda_call_close(&t->x);
    if (t->start)
        cudaEventDestroy(t->start);
    if (t->end)
        cudaEventDestroy(t->end);
    cudaFree(t->own);
}

/* Milliseconds of one launch among `times`; INFINITY: it does not run. */
static float timed(t5_device *dev, trial *t, const cublasLtMatmulAlgo_t *algorithm, int times)
{
    float ms = INFINITY;
    if (t5_cuda_call_run(dev, &t->x, &t->o, 0, algorithm) != CUBLAS_STATUS_SUCCESS)
        return INFINITY;
    cudaEventRecord(t->start, dev->stream);
    for (int i = 0; i < times; i++)
        if (t5_cuda_call_run(dev, &t->x, &t->o, 0, algorithm) != CUBLAS_STATUS_SUCCESS)
            return INFINITY;
    cudaEventRecord(t->end, dev->stream);
    if (cudaEventSynchronize(t->end) != cudaSuccess ||
        cudaEventElapsedTime(&ms, t->start, t->end) != cudaSuccess)
        return INFINITY;
    return ms / (float)times;
}

/* Index of the fastest of n; 0 where nothing could be timed. Some 40 launches. */
static int fastest(t5_device *dev, const cublasLtMatmulHeuristicResult_t *found, int n,
                   const shape_key *key, const operands *o, int64_t tokens)
{
    trial t;
    float ms[CANDIDATES], best = INFINITY;
    int which = 0;
    if (trial_open(dev, &t, key, o, tokens)) {
        timed(dev, &t, &found[0].algo, 1); /* the clock rises first */
        for (int i = 0; i < n; i++) {
            ms[i] = timed(dev, &t, &found[i].algo, 1);
            best = fminf(best, ms[i]);
        }
        const float limit = best * CLOSE;
        best = INFINITY;
        for (int i = 0; i < n; i++) {
            if (ms[i] <= limit)
                ms[i] = timed(dev, &t, &found[i].algo, 3);
            if (ms[i] < best)
                best = ms[i], which = i;
        }
    }
    trial_close(&t);
    return which;
}

/* ---- writing down ---- */

#define HEX (2 * sizeof(cublasLtMatmulAlgo_t))

static void to_hex(char out[HEX + 1], const cublasLtMatmulAlgo_t *algorithm)
{
    const unsigned char *byte = reinterpret_cast<const unsigned char *>(algorithm);
    for (size_t i = 0; i < HEX / 2; i++)
        snprintf(out + 2 * i, 3, "%02x", byte[i]);
}

static bool from_hex(cublasLtMatmulAlgo_t *out, const char *text)
{
    unsigned char *byte = reinterpret_cast<unsigned char *>(out);
    unsigned value;
    if (strlen(text) != HEX)
        return false;
    for (size_t i = 0; i < HEX / 2; i++) {
        if (sscanf(text + 2 * i, "%2x", &value) != 1)
            return false;
        byte[i] = (unsigned char)value;
    }
    return true;
}

static void open_choices(t5_device *dev)
{
    cudaDeviceProp p;
    char identity[400];
    int driver = 0;
    t5_err err;
    dev->asked_choices = 1;
    if (cudaGetDeviceProperties(&p, dev->index) != cudaSuccess ||
        cudaDriverGetVersion(&driver) != cudaSuccess)
        return;
    snprintf(identity, sizeof identity, "products %s %d SMs driver %d cuBLASLt %zu workspace %zu",
             p.name, p.multiProcessorCount, driver, cublasLtGetVersion(), dev->workspace_bytes);
    if (t5_choices_open(&dev->choices, "products", identity, &err))
        dev->choices = nullptr; /* nowhere to keep them: nothing is timed */
}

static bool worth_it(const shape_key *key)
{
    return 2.0 * (double)key->m * (double)key->n * (double)key->k >= LEAST_WORK &&
           key_tokens(key) >= LEAST_TOKENS && key->in != CUDA_R_8F_E4M3;
}

/* The size that stands for it: rounded up to a quarter of the power of two below. */
static shape_key shared_size(const shape_key *key)
{
    shape_key shared = *key;
    int64_t tokens = key_tokens(key), step = TOKEN_STEP;
    while (step * 8 <= tokens)
        step *= 2;
    tokens = (tokens + step - 1) / step * step;
    (key->kind == T5_TN ? shared.k : shared.m) = tokens;
    return shared;
}

/* A step that is recorded runs nothing now, so nothing can be timed. */
static bool may_time(t5_device *dev)
{
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    return cudaStreamIsCapturing(dev->stream, &status) == cudaSuccess &&
           status == cudaStreamCaptureStatusNone;
}

/* The library's own first. */
static bool first(t5_device *dev, cublasLtMatmulAlgo_t *out, const shape_key *key,
                  const operands *o)
{
    cublasLtMatmulHeuristicResult_t found[1] = {};
    int n = ask(dev, found, 1, key, o);
    *out = found[0].algo;
    return n > 0;
}

/* The fastest, from the file or timed now; false: it cannot be kept, so it is not to be used. */
static bool tuned(t5_device *dev, cublasLtMatmulAlgo_t *out, const shape_key *exact,
                  const operands *o, int64_t tokens)
{
    cublasLtMatmulHeuristicResult_t found[CANDIDATES] = {};
    char name[200], hex[HEX + 1];
    const shape_key shared = shared_size(exact), *key = &shared;
    const int n = ask(dev, found, CANDIDATES, key, o);
    if (n == 0)
        return false;
    snprintf(name, sizeof name, "%d.%d.%d.%d.%d.%d.%d.%lldx%lldx%lld.%lld.%lld.%lld", key->kind,
             key->in, key->c_float, key->align_a, key->align_b, key->align_c, key->accumulate,
             (long long)key->m, (long long)key->n, (long long)key->k, (long long)key->lda,
             (long long)key->ldb, (long long)key->ldc);
    if (!t5_choices_find(hex, sizeof hex, dev->choices, name)) {
        to_hex(hex, &found[fastest(dev, found, n, key, o, tokens)].algo);
        if (!t5_choices_keep(hex, sizeof hex, dev->choices, name)) {
            t5_choices_close(dev->choices);
            dev->choices = nullptr;
            return false;
        }
    }
    /* only what is still among the candidates: the bytes are the library's own affair */
    cublasLtMatmulAlgo_t kept;
    *out = found[0].algo;
    for (int i = 0; from_hex(&kept, hex) && i < n; i++)
        if (memcmp(&kept, &found[i].algo, sizeof kept) == 0)
            *out = found[i].algo;
    return true;
}

bool t5_cuda_choose(t5_device *dev, cublasLtMatmulAlgo_t *out, const shape_key *key,
                    const operands *o, int64_t tokens)
{
    if (dev->tuning && worth_it(key) && may_time(dev)) {
        if (!dev->asked_choices)
            open_choices(dev);
        if (dev->choices && tuned(dev, out, key, o, tokens))
            return true;
    }
    return first(dev, out, key, o);
}
