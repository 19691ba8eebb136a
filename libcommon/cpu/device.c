/* device.c - the CPU backend's table, its device and its memory. */
/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/memory.h"
#include "cpu/cpu.h"

static int cpu_open(struct t5_device **out, const struct t5_device_options *options,
                    struct t5_err *err)
{
    struct t5_device *dev = t5_alloc_zeroed(1, sizeof *dev, "a device", err);
    if (!dev)
        return -1;
    dev->compute = options->compute;
    dev->max_memory = options->max_memory;
    dev->threads = options->threads > 0 ? options->threads : omp_get_max_threads();
    omp_set_num_threads(dev->threads); /* for the packing of weights, which knows no device */
    const char *isa = t5_gemm_isa_name();
    dev->rows = !strcmp(isa, "avx512") ? &t5_rows_avx512
                : !strcmp(isa, "avx2") ? &t5_rows_avx2
                                       : &t5_rows_portable;
    *out = dev;
    return 0;
}

static void cpu_close(struct t5_device *dev)
{
    if (!dev)
        return;
    t5_gemm_scratch_free(&dev->scratch);
    free(dev->work);
    free(dev);
}

static size_t cpu_activation_size(const struct t5_device *dev)
{
    (void)dev;
    return sizeof(float);
}

static int cpu_alloc(struct t5_device *dev, void **out, size_t bytes, const char *what,
                     struct t5_err *err)
{
    (void)dev;
    const size_t rounded = (bytes + 256) & ~(size_t)255;
    *out = rounded < bytes ? NULL : aligned_alloc(256, rounded);
    return *out ? 0 : t5_fail_memory(err, bytes, what);
}

static void cpu_release(struct t5_device *dev, void *p)
{
    (void)dev;
    free(p);
}

static void cpu_upload(struct t5_device *dev, void *dst, const void *host, size_t bytes)
{
    (void)dev;
    if (bytes)
        memcpy(dst, host, bytes);
}

static int cpu_sync(struct t5_device *dev, struct t5_err *err)
{
    if (!dev->failure.text[0])
        return 0;
    *err = dev->failure;
    return -1;
}

static int cpu_recover(struct t5_device *dev, struct t5_err *err)
{
    if (dev->failure.out_of_memory)
        dev->failure = (struct t5_err){0};
    return cpu_sync(dev, err);
}

static int cpu_download(struct t5_device *dev, void *host, const void *src, size_t bytes,
                        struct t5_err *err)
{
    if (bytes)
        memcpy(host, src, bytes);
    return cpu_sync(dev, err);
}

static void cpu_zero(struct t5_device *dev, void *dst, size_t bytes)
{
    (void)dev;
    if (bytes)
        memset(dst, 0, bytes);
}

static int64_t cpu_memory_free(struct t5_device *dev)
{
    int64_t there = t5_memory_available();
    return dev->max_memory && dev->max_memory < there ? dev->max_memory : there;
}

/* Threads' workspaces are small change. */
static int64_t cpu_memory_own(struct t5_device *dev, int64_t *now, const struct t5_work *work)
{
    (void)dev, (void)work;
    return *now = 0;
}

float *cpu_work(struct t5_device *dev, int parts, size_t floats, size_t *stride)
{
    *stride = (floats + 63) & ~(size_t)63; /* threads never share a cache line */
    const size_t need = *stride * (size_t)parts;
    if (need <= dev->work_floats)
        return dev->work;
    free(dev->work);
    dev->work = aligned_alloc(256, need * sizeof(float));
    dev->work_floats = dev->work ? need : 0;
    if (!dev->work && !dev->failure.text[0])
        t5_fail_memory(&dev->failure, need * sizeof(float), "an operator's workspace");
    return dev->work;
}

const struct t5_backend t5_backend_cpu = {
    .build = T5_BACKEND_BUILD,
    .name = "cpu",
    .open = cpu_open,
    .close = cpu_close,
    .activation_size = cpu_activation_size,
    .alloc = cpu_alloc,
    .release = cpu_release,
    .upload = cpu_upload,
    .download = cpu_download,
    .zero = cpu_zero,
    .sync = cpu_sync,
    .check = cpu_sync, /* nothing runs behind the host's back */
    .recover = cpu_recover,
    .memory_free = cpu_memory_free,
    .memory_own = cpu_memory_own,
    .weight_freeze = cpu_weight_freeze,
    .weight_bind = cpu_weight_bind,
    .weight_refresh = cpu_weight_refresh,
    .weight_free = cpu_weight_free,
    .weight_bytes = cpu_weight_bytes,
    .embed_fwd = cpu_embed_fwd,
    .norm_fwd = cpu_norm_fwd,
    .linear_fwd = cpu_linear_fwd,
    .logits_fwd = cpu_logits_fwd,
    .lora_fwd = cpu_lora_fwd,
    .attention_fwd = cpu_attention_fwd,
    .glu_fwd = cpu_glu_fwd,
    .cross_entropy = cpu_cross_entropy,
    .embed_bwd = cpu_embed_bwd,
    .norm_bwd = cpu_norm_bwd,
    .linear_bwd_input = cpu_linear_bwd_input,
    .linear_bwd_weight = cpu_linear_bwd_weight,
    .lora_bwd = cpu_lora_bwd,
    .attention_bwd = cpu_attention_bwd,
    .glu_bwd = cpu_glu_bwd,
    .sum = cpu_sum,
    .sum_squares = cpu_sum_squares,
    .spoil = cpu_spoil,
    .adamw = cpu_adamw,
    .adafactor = cpu_adafactor,
    .adamw8 = cpu_adamw8,
    .decode_self = cpu_decode_self,
    .decode_cross = cpu_decode_cross,
    .logits_edit = cpu_logits_edit,
    .topk = cpu_topk,
};
