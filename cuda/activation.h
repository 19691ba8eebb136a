/* activation.h - the activations of feed-forward layers and their slopes: ReLU, gelu_new
 * (arXiv:1606.08415, tanh form), SiLU. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_CUDA_ACTIVATION_H
#define T5_CUDA_ACTIVATION_H

#include "device.h"
#include "instructions.h"

/* What makes expf(-x) of x where it is a factor of x: for bf16 results the special-function unit
 * takes powers of 2, some 2^-21 off, where bf16 rounds at 2^-9. f32 is for proof. */
template <typename T> __device__ constexpr float exponent_factor()
{
    return sizeof(T) == 2 ? -1.44269504088896340736f : -1;
}
/* 1 / (1 + exp(-x)), of exponent_factor() x */
template <typename T> __device__ inline float logistic(float x)
{
    return sizeof(T) == 2 ? reciprocal_fast(1 + exp2_fast(x)) : 1 / (1 + expf(x));
}

struct activated {
    float value, slope;
};

/* x s and its slope, s + x s (1 - s) inner, where s is the logistic function of something that has
 * the slope `inner`. gelu_new: (1 + tanh z) / 2 is the logistic function of 2z, and does not cancel
 * where z < 0. */
template <typename T> __device__ inline activated activate(float x, t5_glu kind)
{
    if (kind == T5_GLU_RELU)
        return {fmaxf(x, 0), x > 0 ? 1.0f : 0.0f};
    const float a = 2 * 0.79788456080286535588f, b = 0.044715f * a, factor = exponent_factor<T>();
    float square = x * x, exponent = factor * x, inner = 1;
    if (kind == T5_GLU_GELU_NEW) {
        exponent = x * (factor * a + factor * b * square);
        inner = a + 3 * b * square;
    }
    float s = logistic<T>(exponent), value = x * s;
    return {value, s + (value - value * s) * inner};
}

#endif
