/* load.h - a matrix of a file onto the device, a slice of rows at a time. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_CUDA_LOAD_H
#define T5_CUDA_LOAD_H

#include <cstdlib>

#include "device.h"

extern "C" {
#include "base/matrix.h"
#include "base/buf.h"
}

/* n rows on the device from row `first` on: values x scale[row], scale NULL where there is none. */
struct t5_slice {
    const void *data;
    t5_dtype type; /* F32, F16, BF16, F64, I8 or F8 */
    const float *scale;
    int64_t first, n;
};

/* Calls use(slice) for all of the matrix, in scratch; what it launches is done before the next is
 * copied there. NF4 is made float on the host: its blocks run across rows. */
template <typename F>
static int t5_cuda_each_slice(t5_device *dev, const t5_matrix *part, t5_err *err, F use)
{
    const bool expand = part->type == T5_NF4, scaled = part->type == T5_I8 || part->type == T5_F8;
    const t5_dtype type = expand ? T5_F32 : part->type;
    const int64_t row = part->cols * (int64_t)t5_dtype_size(type), most = 1 + T5_LOAD_SLICE / row;
    const size_t raw = (size_t)(most * row + 255) / 256 * 256;
    char *scratch = (char *)t5_cuda_scratch(dev, raw + (size_t)most * sizeof(float));
    float *host = expand ? (float *)t5_alloc((size_t)most, (size_t)row, "a weight", err) : nullptr;
    if (expand && !host)
        return -1;
    for (int64_t first = 0; scratch && first < part->rows; first += most) {
        int64_t n = part->rows - first < most ? part->rows - first : most;
        const char *from = (const char *)part->data + first * row;
        float *scale = scaled ? (float *)(scratch + raw) : nullptr;
        if (expand) {
            t5_matrix_read_rows(host, part, first, n);
            from = (const char *)host;
        }
        t5_cuda_upload(dev, scratch, from, (size_t)(n * row));
        if (scale)
            t5_cuda_upload(dev, scale, (const char *)part->scale + 4 * first, (size_t)n * 4);
        use(t5_slice{scratch, type, scale, first, n});
    }
    free(host);
    if (!dev->failure.text[0])
        return 0;
    *err = dev->failure;
    return -1;
}

#endif
