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
uint8_t t5_f32_to_f8(float f); /* round to nearest even, saturating at 448; NaN stays NaN */

/* n elements of a floating type (F32, F16, BF16, F64, F8), from any alignment, to float. */
void t5_to_f32(float *out, const void *in, enum t5_dtype type, size_t n);
/* and back; type F32, F16 or BF16 */
void t5_from_f32(void *out, const float *in, enum t5_dtype type, size_t n);

#endif
