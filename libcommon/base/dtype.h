/* dtype.h - element types of tensors, named as safetensors names them, and their conversions. NF4
 * alone is no type of a file: it stands for a matrix as base/nf4.h describes, kept there as U8. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_BASE_DTYPE_H
#define T5_BASE_DTYPE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum t5_dtype {
    T5_F32,
    T5_F16,
    T5_BF16,
    T5_F64,
    T5_I8,
    T5_U8,
    T5_I16,
    T5_I32,
    T5_I64,
    T5_BOOL,
    T5_F8,  /* E4M3: 4 bits of exponent (bias 7), 3 of fraction, no infinities, NaN 0x7f, 0xff */
    T5_NF4, /* two in a byte */
};

size_t t5_dtype_size(enum t5_dtype type);      /* bytes an element; 0 for NF4 */
int64_t t5_dtype_bytes(enum t5_dtype type, int64_t elements); /* NF4: of its codes */
static inline int t5_dtype_quantised(enum t5_dtype type) /* has scales beside its data */
{
    return type == T5_I8 || type == T5_F8 || type == T5_NF4;
}
const char *t5_dtype_name(enum t5_dtype type); /* "F32", "F8_E4M3" */
/* A name in a file. 0, or -1: unknown */
int t5_dtype_parse(enum t5_dtype *out, const char *name, size_t n);

/* Reads without alignment: a tensor in a file may start anywhere. */
static inline float t5_bf16_to_f32(uint16_t h)
{
    uint32_t bits = (uint32_t)h << 16;
    float f;
    memcpy(&f, &bits, 4);
    return f;
}
/* Round to nearest even; NaN stays NaN. */
static inline uint16_t t5_f32_to_bf16(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, 4);
    if ((bits & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
float t5_f16_to_f32(uint16_t h);
uint16_t t5_f32_to_f16(float f); /* round to nearest even, overflow to infinity */

float t5_f8_to_f32(uint8_t h);
/* Round to nearest even, saturating at 448; NaN stays NaN. Without branches, for loops over rows. */
static inline uint8_t t5_f32_to_f8(float f)
{
    uint32_t bits, sum_bits, code;
    float sum;
    memcpy(&bits, &f, 4);
    uint32_t sign = bits >> 24 & 0x80;
    bits &= 0x7fffffff;
    memcpy(&sum, &bits, 4);
    sum += 0x1p14f; /* whose last place is 2^-9, the step below 2^-6 */
    memcpy(&sum_bits, &sum, 4);
    code = ((bits + 0x7ffff + (bits >> 20 & 1)) >> 20) - (120 << 3); /* a carry is right */
    code = bits < 0x3c800000 ? sum_bits - 0x46800000 : code;         /* 2^-6, 2^14 */
    code = bits >= 0x43e00000 ? 0x7e : code;                         /* 448 */
    code = bits > 0x7f800000 ? 0x7f : code;
    return (uint8_t)(sign | code);
}

/* n elements of a floating type (F32, F16, BF16, F64, F8), from any alignment, to float. */
void t5_to_f32(float *out, const void *in, enum t5_dtype type, size_t n);
/* and back; type F32, F16 or BF16 */
void t5_from_f32(void *out, const float *in, enum t5_dtype type, size_t n);

#endif
