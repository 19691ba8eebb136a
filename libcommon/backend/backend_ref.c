/* backend_ref.c - the readable reference: plain loops, double accumulation, one thread. It defines
 * each operator and is the oracle of every test; speed is not its business. act is float. */
/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/ref.h"
#include "base/buf.h"
#include "base/memory.h"

static void starve(struct t5_device *dev)
{
    const char *bytes = getenv("T5_REF_ALLOC"), *scratch = getenv("T5_REF_SCRATCH");
    char *end;
    dev->most_bytes = bytes ? strtoull(bytes, NULL, 10) : SIZE_MAX;
    dev->calls_left = scratch ? strtoll(scratch, &end, 10) : INT64_MAX;
    dev->most_tokens = scratch && *end == ':' ? strtoll(end + 1, NULL, 10) : INT64_MAX;
}

static int ref_open(struct t5_device **out, const struct t5_device_options *options,
                    struct t5_err *err)
{
    *out = t5_alloc_zeroed(1, sizeof **out, "a device", err);
    if (!*out)
        return -1;
    (*out)->max_memory = options->max_memory;
    starve(*out);
    return 0;
}

static void ref_close(struct t5_device *dev)
{
    free(dev);
}

static size_t ref_activation_size(const struct t5_device *dev)
{
    (void)dev;
    return sizeof(float);
}

static int ref_alloc(struct t5_device *dev, void **out, size_t bytes, const char *what,
                     struct t5_err *err)
{
    size_t rounded = (bytes + 256) & ~(size_t)255;
    *out = rounded < bytes || bytes > dev->most_bytes ? NULL : aligned_alloc(256, rounded);
    return *out ? 0 : t5_fail_memory(err, bytes, what);
}

static void ref_release(struct t5_device *dev, void *p)
{
    (void)dev;
    free(p);
}

static void ref_upload(struct t5_device *dev, void *dst, const void *host, size_t bytes)
{
    (void)dev;
    if (bytes)
        memcpy(dst, host, bytes);
}

static int ref_sync(struct t5_device *dev, struct t5_err *err)
{
    if (!dev->failure.text[0])
        return 0;
    *err = dev->failure;
    return -1;
}

static int ref_recover(struct t5_device *dev, struct t5_err *err)
{
    if (dev->failure.out_of_memory)
        dev->failure = (struct t5_err){0};
    return ref_sync(dev, err);
}

static int ref_download(struct t5_device *dev, void *host, const void *src, size_t bytes,
                        struct t5_err *err)
{
    if (bytes)
        memcpy(host, src, bytes);
    return ref_sync(dev, err);
}

static void ref_zero(struct t5_device *dev, void *dst, size_t bytes)
{
    (void)dev;
    if (bytes)
        memset(dst, 0, bytes);
}

static int64_t ref_memory_free(struct t5_device *dev)
{
    int64_t there = t5_memory_available();
    return dev->max_memory && dev->max_memory < there ? dev->max_memory : there;
}

static int64_t ref_memory_own(struct t5_device *dev, int64_t *now, const struct t5_work *work)
{
    (void)dev, (void)work;
    return *now = 0;
}

/* ---- weights and products ---- */

static int ref_weight_freeze(struct t5_device *dev, struct t5_weight **out,
                             const struct t5_matrix *parts, int n_parts, unsigned use,
                             struct t5_err *err)
{
    (void)dev;
    (void)use;
    struct t5_weight *w = t5_alloc_zeroed(1, sizeof *w, "a weight", err);
    if (!w)
        return -1;
    for (int i = 0; i < n_parts; i++)
        w->rows += parts[i].rows;
    w->cols = parts[0].cols;
    w->owned = t5_alloc((size_t)(w->rows * w->cols), sizeof(float), "a weight", err);
    if (!w->owned) {
        free(w);
        return -1;
    }
    float *at = w->owned;
    for (int i = 0; i < n_parts; i++) {
        t5_matrix_read_rows(at, &parts[i], 0, parts[i].rows);
        at += parts[i].rows * parts[i].cols;
    }
    w->values = w->owned;
    *out = w;
    return 0;
}

static int ref_weight_bind(struct t5_device *dev, struct t5_weight **out, const float *values,
                           int64_t rows, int64_t cols, struct t5_err *err)
{
    (void)dev;
    struct t5_weight *w = t5_alloc_zeroed(1, sizeof *w, "a weight", err);
    if (!w)
        return -1;
    *w = (struct t5_weight){.values = values, .rows = rows, .cols = cols};
    *out = w;
    return 0;
}

static void ref_weight_refresh(struct t5_device *dev, struct t5_weight *w)
{
    (void)dev;
    (void)w;
}

static void ref_weight_free(struct t5_device *dev, struct t5_weight *w)
{
    (void)dev;
    if (w)
        free(w->owned);
    free(w);
}

static int64_t ref_weight_bytes(const struct t5_device *dev, enum t5_dtype type, int64_t rows,
                                int64_t cols, unsigned use)
{
    (void)dev;
    (void)type;
    (void)use;
    return rows * cols * (int64_t)sizeof(float);
}

static void product(float *y, int64_t ldy, const float *x, int64_t ldx, const struct t5_weight *w,
                    int64_t n, double scale)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t r = 0; r < w->rows; r++) {
            double sum = 0;
            for (int64_t c = 0; c < w->cols; c++)
                sum += (double)x[i * ldx + c] * w->values[r * w->cols + c];
            y[i * ldy + r] = (float)(scale * sum);
        }
}

static void ref_linear_fwd(struct t5_device *dev, act *y, int64_t ldy, const act *x, int64_t ldx,
                           const struct t5_weight *w, int64_t n)
{
    (void)dev;
    product(y, ldy, x, ldx, w, n, 1);
}

static void ref_logits_fwd(struct t5_device *dev, float *logits, const act *x, int64_t ldx,
                           const struct t5_weight *w, int64_t n, float scale)
{
    (void)dev;
    product(logits, w->rows, x, ldx, w, n, (double)scale);
}

static void ref_linear_bwd_input(struct t5_device *dev, act *dx, int64_t lddx, const act *dy,
                                 int64_t lddy, const struct t5_weight *w, int64_t n, int accumulate)
{
    (void)dev;
    for (int64_t i = 0; i < n; i++)
        for (int64_t c = 0; c < w->cols; c++) {
            float *to = (float *)dx + i * lddx + c;
            double sum = accumulate ? (double)*to : 0;
            for (int64_t r = 0; r < w->rows; r++)
                sum += (double)((const float *)dy)[i * lddy + r] * w->values[r * w->cols + c];
            *to = (float)sum;
        }
}

static void ref_linear_bwd_weight(struct t5_device *dev, float *dw, const act *dy, int64_t lddy,
                                  const act *x, int64_t ldx, int64_t rows, int64_t cols, int64_t n)
{
    (void)dev;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++) {
            double sum = (double)dw[r * cols + c];
            for (int64_t i = 0; i < n; i++)
                sum += (double)((const float *)dy)[i * lddy + r] * ((const float *)x)[i * ldx + c];
            dw[r * cols + c] = (float)sum;
        }
}

/* ---- LoRA ---- */

static int64_t rank_sum(const struct t5_lora *lora, int n)
{
    int64_t sum = 0;
    for (int i = 0; i < n; i++)
        sum += lora[i].rank;
    return sum;
}

static void ref_lora_fwd(struct t5_device *dev, act *y, int64_t ldy, act *u, const act *x,
                         int64_t ldx, int64_t cols, const struct t5_lora *lora, int n_lora,
                         int64_t n, const struct t5_pack *pack)
{
    (void)dev;
    int64_t ldu = rank_sum(lora, n_lora), first = 0;
    for (int l = 0; l < n_lora; first += lora[l].rank, l++)
        for (int64_t i = 0; i < n; i++) {
            const float *xi = (const float *)x + i * ldx;
            float *ui = (float *)u + i * ldu + first, *yi = (float *)y + i * ldy + lora[l].column;
            for (int64_t r = 0; r < lora[l].rank; r++) {
                double sum = 0;
                for (int64_t c = 0; c < cols; c++)
                    sum += xi[c] * ref_mask(&lora[l].dropout, pack, i, c) * lora[l].a[r * cols + c];
                ui[r] = (float)sum;
            }
            for (int64_t c = 0; c < lora[l].rows; c++) {
                double sum = 0;
                for (int64_t r = 0; r < lora[l].rank; r++)
                    sum += (double)ui[r] * lora[l].b[c * lora[l].rank + r];
                yi[c] = (float)(yi[c] + lora[l].scale * sum);
            }
        }
}

static void ref_lora_bwd(struct t5_device *dev, act *dx, int64_t lddx, act *work, const act *dy,
                         int64_t lddy, const act *u, const act *x, int64_t ldx, int64_t cols,
                         const struct t5_lora *lora, int n_lora, int64_t n,
                         const struct t5_pack *pack)
{
    (void)dev;
    int64_t ldu = rank_sum(lora, n_lora), first = 0;
    for (int l = 0; l < n_lora; first += lora[l].rank, l++)
        for (int64_t i = 0; i < n; i++) {
            int64_t rank = lora[l].rank;
            const float *dyi = (const float *)dy + i * lddy + lora[l].column;
            const float *ui = (const float *)u + i * ldu + first;
            const float *xi = (const float *)x + i * ldx;
            float *du = (float *)work + i * ldu + first;
            for (int64_t r = 0; r < rank; r++) {
                double sum = 0;
                for (int64_t c = 0; c < lora[l].rows; c++)
                    sum += (double)dyi[c] * lora[l].b[c * rank + r];
                du[r] = (float)(lora[l].scale * sum);
            }
            for (int64_t c = 0; c < lora[l].rows; c++)
                for (int64_t r = 0; r < rank; r++)
                    lora[l].db[c * rank + r] += lora[l].scale * dyi[c] * ui[r];
            for (int64_t c = 0; c < cols; c++) {
                double mask = ref_mask(&lora[l].dropout, pack, i, c), sum = 0;
                for (int64_t r = 0; r < rank; r++) {
                    lora[l].da[r * cols + c] += (float)(du[r] * xi[c] * mask);
                    sum += (double)du[r] * lora[l].a[r * cols + c];
                }
                if (dx)
                    ((float *)dx)[i * lddx + c] += (float)(sum * mask);
            }
        }
}

const struct t5_backend t5_backend_ref = {
    .name = "ref",
    .open = ref_open,
    .close = ref_close,
    .activation_size = ref_activation_size,
    .alloc = ref_alloc,
    .release = ref_release,
    .upload = ref_upload,
    .download = ref_download,
    .zero = ref_zero,
    .sync = ref_sync,
    .check = ref_sync, /* nothing runs behind the host's back */
    .recover = ref_recover,
    .memory_free = ref_memory_free,
    .memory_own = ref_memory_own,
    .weight_freeze = ref_weight_freeze,
    .weight_bind = ref_weight_bind,
    .weight_refresh = ref_weight_refresh,
    .weight_free = ref_weight_free,
    .weight_bytes = ref_weight_bytes,
    .embed_fwd = ref_embed_fwd,
    .norm_fwd = ref_norm_fwd,
    .linear_fwd = ref_linear_fwd,
    .logits_fwd = ref_logits_fwd,
    .lora_fwd = ref_lora_fwd,
    .attention_fwd = ref_attention_fwd,
    .glu_fwd = ref_glu_fwd,
    .cross_entropy = ref_cross_entropy,
    .embed_bwd = ref_embed_bwd,
    .norm_bwd = ref_norm_bwd,
    .linear_bwd_input = ref_linear_bwd_input,
    .linear_bwd_weight = ref_linear_bwd_weight,
    .lora_bwd = ref_lora_bwd,
    .attention_bwd = ref_attention_bwd,
    .glu_bwd = ref_glu_bwd,
    .sum = ref_sum,
    .sum_squares = ref_sum_squares,
    .spoil = ref_spoil,
    .adamw = ref_adamw,
    .adafactor = ref_adafactor,
    .adamw8 = ref_adamw8,
    .decode_self = ref_decode_self,
    .decode_cross = ref_decode_cross,
    .logits_edit = ref_logits_edit,
    .topk = ref_topk,
};
