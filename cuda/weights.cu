/* weights.cu - matrices on the device: frozen ones in the activation type (int8 as they came where
 * no gradient goes through them, or with T5_USE_COMPACT; for products of 8 bits on both sides they
 * are weights_q8.cu's), trainable ones as views of their f32 masters with a copy in the activation
 * type. */
/* SPDX-License-Identifier: MIT */
#include "q8.h"
#include "load.h"

/* out = in x scale[row], from whatever type a file holds */
template <typename T, typename S>
__global__ void convert(T *out, const S *in, const float *scale, int64_t n, int64_t cols)
{
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        from_float(out + i, (float)in[i] * (scale ? scale[i / cols] : 1));
}

/* Four int8 at a time: the expansion before a product. */
__global__ void expand(bf16 *out, const int8_t *q, const float *scale, int64_t quads, int64_t cols)
{
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= quads)
        return;
    char4 c = reinterpret_cast<const char4 *>(q)[i];
    float s = scale[i * 4 / cols];
    quad v = {{c.x * s, c.y * s, c.z * s, c.w * s}};
    store_quad(out + i * 4, 0, 4, true, v);
}

template <typename T>
static void convert_from(t5_device *dev, T *out, const void *in, t5_dtype type, const float *scale,
                         int64_t n, int64_t cols)
{
#define CONVERT(S)                                                                                 \
    launch_kernel(dev, convert<T, S>, blocks_for(n, 256), 256, 0, out, (const S *)in, scale, n,    \
                  cols)
    switch (type) {
    case T5_F32:
        CONVERT(float);
        break;
    case T5_F16:
        CONVERT(__half);
        break;
    case T5_BF16:
        CONVERT(bf16);
        break;
    case T5_F64:
        CONVERT(double);
        break;
    case T5_F8:
        CONVERT(__nv_fp8_e4m3);
        break;
    default:
        CONVERT(int8_t);
    }
    T5_LAUNCHED(dev);
}

static size_t act_size(const t5_device *dev)
{
    return dev->bf16 ? sizeof(bf16) : sizeof(float);
}

static int keeps_int8(const t5_device *dev, t5_dtype type, int64_t cols, unsigned use)
{
    return dev->bf16 && type == T5_I8 && cols % 4 == 0 && !(use & T5_USE_GATHER) &&
           (use & T5_USE_COMPACT || !(use & T5_USE_INPUT_GRAD));
}

static int load_part(t5_device *dev, char *out, const t5_matrix *part, t5_err *err)
{
    return t5_cuda_each_slice(dev, part, err, [&](const t5_slice &s) {
        T5_WITH_ACT(dev, convert_from(dev, (T *)out + s.first * part->cols, s.data, s.type, s.scale,
                                      s.n * part->cols, part->cols));
    });
}

int t5_cuda_need_expanded(t5_device *dev, size_t bytes, t5_err *err)
{
    if (bytes <= dev->expanded_bytes)
        return 0;
    cudaStreamSynchronize(dev->stream);
    cudaFree(dev->expanded);
    dev->expanded = nullptr;
    dev->expanded_bytes = 0;
    if (t5_cuda_alloc(dev, (void **)&dev->expanded, bytes, "an expanded weight", err))
        return -1;
    dev->expanded_bytes = bytes;
    return 0;
}

static int load_int8(t5_device *dev, t5_weight *w, const t5_matrix *parts, int n_parts, t5_err *err)
{
    size_t bytes = (size_t)(w->rows * w->cols), wide = bytes * sizeof(bf16);
    if (t5_cuda_alloc(dev, (void **)&w->q, bytes, "a weight", err) ||
        t5_cuda_alloc(dev, (void **)&w->scale, (size_t)w->rows * 4, "a weight", err))
        return -1;
    for (int64_t i = 0, row = 0; i < n_parts; row += parts[i].rows, i++) {
        t5_cuda_upload(dev, w->q + row * w->cols, parts[i].data, (size_t)(parts[i].rows * w->cols));
        t5_cuda_upload(dev, w->scale + row, parts[i].scale, (size_t)parts[i].rows * 4);
    }
    return t5_cuda_need_expanded(dev, wide, err);
}

int t5_cuda_weight_freeze(t5_device *dev, t5_weight **out, const t5_matrix *parts, int n_parts,
                          unsigned use, t5_err *err)
{
    t5_weight *w = (t5_weight *)t5_alloc_zeroed(1, sizeof *w, "a weight", err);
    int keep = 1;
    *out = nullptr;
    if (!w)
        return -1;
    w->cols = parts[0].cols;
    for (int i = 0; i < n_parts; i++) {
        w->rows += parts[i].rows;
        keep = keep && keeps_int8(dev, parts[i].type, w->cols, use);
    }
    w->few = !(use & T5_USE_INPUT_GRAD);
    if (t5_cuda_q8_keeps(dev, w->rows, w->cols, use)) {
        if (t5_cuda_q8_load(dev, w, parts, n_parts, use, err))
            goto fail;
    } else if (keep) {
        w->steps = use & T5_USE_STEP;
        w->lasts = !(use & T5_USE_COMPACT);
        if (load_int8(dev, w, parts, n_parts, err))
            goto fail;
    } else {
        size_t bytes = (size_t)(w->rows * w->cols) * act_size(dev);
        if (t5_cuda_alloc(dev, &w->owned, bytes, "a weight", err))
            goto fail;
        w->values = w->owned;
        char *at = (char *)w->owned;
        for (int i = 0; i < n_parts; i++) {
            if (load_part(dev, at, &parts[i], err))
                goto fail;
            at += (size_t)(parts[i].rows * w->cols) * act_size(dev);
        }
    }
    *out = w;
    return 0;
fail:
    t5_cuda_weight_free(dev, w);
    return -1;
}

int t5_cuda_weight_bind(t5_device *dev, t5_weight **out, const float *values, int64_t rows,
                        int64_t cols, t5_err *err)
{
    t5_weight *w = (t5_weight *)t5_alloc_zeroed(1, sizeof *w, "a weight", err);
    *out = nullptr;
    if (!w)
        return -1;
    w->rows = rows;
    w->cols = cols;
    w->master = values;
    w->values = values;
    if (dev->bf16) {
        if (t5_cuda_alloc(dev, &w->owned, (size_t)(rows * cols) * sizeof(bf16), "a weight", err)) {
            free(w);
            return -1;
        }
        w->values = w->owned;
    }
    *out = w;
    return 0;
}

void t5_cuda_weight_refresh(t5_device *dev, t5_weight *w)
{
    if (w->master && w->owned)
        convert_from(dev, (bf16 *)w->owned, w->master, T5_F32, nullptr, w->rows * w->cols, w->cols);
}

void t5_cuda_weight_free(t5_device *dev, t5_weight *w)
{
    if (!w)
        return;
    cudaStreamSynchronize(dev->stream);
    cudaFree(w->owned);
    cudaFree(w->q);
    cudaFree(w->scale);
    cudaFree(w->e4m3);
    cudaFree(w->transposed);
    free(w);
}

int64_t t5_cuda_weight_bytes(const t5_device *dev, t5_dtype type, int64_t rows, int64_t cols,
                             unsigned use)
{
    if (t5_cuda_q8_keeps(dev, rows, cols, use))
        return rows * cols * (t5_cuda_q8_transposes(use) ? 2 : 1) + rows * 4;
    if (keeps_int8(dev, type, cols, use))
        return rows * cols + rows * 4;
    return rows * cols * (int64_t)act_size(dev);
}

/* Memory for all of w as bf16, or NULL: if afterwards an eighth of what there is remains free, and
 * half of it where decode steps, which need theirs more, do not read w. */
static void *room_to_keep(t5_device *dev, const t5_weight *w)
{
    int64_t bytes = w->rows * w->cols * (int64_t)sizeof(bf16);
    void *p = nullptr;
    t5_err err;
    if (t5_cuda_memory_free(dev) < bytes + dev->at_open / (w->steps ? 8 : 2) ||
        t5_cuda_alloc(dev, &p, (size_t)bytes, "a weight", &err))
        return nullptr;
    return p;
}

const void *t5_cuda_weight_values(t5_device *dev, const t5_weight *weight)
{
    t5_weight *w = const_cast<t5_weight *>(weight);
    if (w->values)
        return w->values;
    if (w->lasts && !dev->recording) {
        w->values = w->owned = room_to_keep(dev, w);
        w->lasts = w->owned != nullptr; /* asked once */
    }
    bf16 *to = w->owned ? (bf16 *)w->owned : (bf16 *)dev->expanded;
    int64_t quads = w->rows * w->cols / 4;
    launch_kernel(dev, expand, blocks_for(quads, 256), 256, 0, to, w->q, w->scale, quads, w->cols);
    T5_LAUNCHED(dev);
    return to;
}
