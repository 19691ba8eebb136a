/* activation.h - the activations of feed-forward layers and their slopes: ReLU, gelu_new
 * (arXiv:1606.08415, tanh form), SiLU. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_CUDA_ACTIVATION_H
#define T5_CUDA_ACTIVATION_H

#include "device.h"

/* 1 / (1 + exp(-x)). For bf16 results by the special-function unit: some 2^-21 off, where bf16
 * rounds at 2^-9. f32 is for proof. */
template <typename T> __device__ inline float logistic(float x)
{
    return sizeof(T) == 2 ? __fdividef(1, 1 + __expf(-x)) : 1 / (1 + expf(-x));
}

struct activated {
    float value, slope;
};

/* gelu_new: (1 + tanh z) / 2 is the logistic function of 2z, and does not cancel where z < 0. */
template <typename T> __device__ inline activated activate(float x, t5_glu kind)
{
    if (kind == T5_GLU_RELU)
        return {fmaxf(x, 0), x > 0 ? 1.0f : 0.0f};
    if (kind == T5_GLU_SILU) {
        float s = logistic<T>(x);
        return {x * s, s * (1 + x * (1 - s))};
    }
    const float a = 2 * 0.79788456080286535588f, b = 0.044715f, square = x * x;
    float s = logistic<T>(a * x * (1 + b * square));
    return {x * s, s + x * s * (1 - s) * a * (1 + 3 * b * square)};
}

#endif
