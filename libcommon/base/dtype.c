/* dtype.c - element sizes, names and conversions. Quantised types: see io/quant_*.c. */
/* SPDX-License-Identifier: MIT */
#include "base/dtype.h"

#include <math.h>

#include "base/nf4.h"

static const struct {
    const char *name;
    size_t size;
} types[] = {
    [T5_F32] = {"F32", 4}, [T5_F16] = {"F16", 2}, [T5_BF16] = {"BF16", 2}, [T5_F64] = {"F64", 8},
    [T5_I8] = {"I8", 1},   [T5_U8] = {"U8", 1},   [T5_I16] = {"I16", 2},   [T5_I32] = {"I32", 4},
    [T5_I64] = {"I64", 8}, [T5_BOOL] = {"BOOL", 1}, [T5_F8] = {"F8_E4M3", 1}, [T5_NF4] = {"NF4", 0},
};

size_t t5_dtype_size(enum t5_dtype type) { return types[type].size; }
int64_t t5_dtype_bytes(enum t5_dtype type, int64_t elements)
{
    return type == T5_NF4 ? t5_nf4_bytes(elements) : elements * (int64_t)types[type].size;
}
const char *t5_dtype_name(enum t5_dtype type) { return types[type].name; }

int t5_dtype_parse(enum t5_dtype *out, const char *name, size_t n)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (i != T5_NF4 && strlen(types[i].name) == n && memcmp(types[i].name, name, n) == 0) {
            *out = (enum t5_dtype)i;
            return 0;
        }
    return -1;
}

float t5_f16_to_f32(uint16_t h)
{
    _Float16 x;
    memcpy(&x, &h, 2);
    return (float)x;
}

uint16_t t5_f32_to_f16(float f)
{
    _Float16 x = (_Float16)f;
    uint16_t h;
    memcpy(&h, &x, 2);
    return h;
}

/* The seven bits placed in a float's exponent and fraction stand 120 powers of two too low, those
 * below the smallest normal value too: one exact product puts both right. */
float t5_f8_to_f32(uint8_t h)
{
    uint32_t bits = (uint32_t)(h & 0x7f) << 20;
    float f;
    memcpy(&f, &bits, 4);
    f *= 0x1p120f;
    if ((h & 0x7f) == 0x7f)
        return NAN;
    return h & 0x80 ? -f : f;
}

void t5_to_f32(float *out, const void *in, enum t5_dtype type, size_t n)
{
    const char *p = in;
    uint16_t h;
    double d;
    switch (type) {
    case T5_F32:
        memcpy(out, in, 4 * n);
        break;
    case T5_BF16:
#pragma omp simd private(h)
        for (size_t i = 0; i < n; i++)
            memcpy(&h, p + 2 * i, 2), out[i] = t5_bf16_to_f32(h);
        break;
    case T5_F16:
        for (size_t i = 0; i < n; i++)
            memcpy(&h, p + 2 * i, 2), out[i] = t5_f16_to_f32(h);
        break;
    case T5_F8:
        for (size_t i = 0; i < n; i++)
            out[i] = t5_f8_to_f32((uint8_t)p[i]);
        break;
    case T5_F64:
        for (size_t i = 0; i < n; i++)
            memcpy(&d, p + 8 * i, 8), out[i] = (float)d;
        break;
    default: /* integers are not weights: callers check the type first */
        memset(out, 0xff, 4 * n);
    }
}

void t5_from_f32(void *out, const float *in, enum t5_dtype type, size_t n)
{
    uint16_t *h = out;
    if (type == T5_F32)
        memcpy(out, in, 4 * n);
    else if (type == T5_BF16)
#pragma omp simd
        for (size_t i = 0; i < n; i++)
            h[i] = t5_f32_to_bf16(in[i]);
    else
        for (size_t i = 0; i < n; i++)
            h[i] = t5_f32_to_f16(in[i]);
}
