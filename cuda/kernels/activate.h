/*
 * The activations that operators stand for or fuse: none, relu, leaky relu (slope), silu, elu (alpha 1). The kind is
 * the same for a whole launch, so that the switch costs no divergence.
 */
#ifndef ED_CUDA_ACTIVATE_H
#define ED_CUDA_ACTIVATE_H

#include "cuda/gpu.h"

__device__ static inline float ed_activate(ed_activation kind, float slope, float x)
{
    switch (kind) {
    case ED_ACT_RELU: return x > 0 ? x : x != x ? x : 0; /* NaN stays NaN */
    case ED_ACT_LEAKY_RELU: return x > 0 ? x : slope * x;
    case ED_ACT_SILU: return x / (1 + __expf(-x));
    case ED_ACT_ELU: return x > 0 ? x : expm1f(x);
    default: return x;
    }
}

/* f'(x) */
__device__ static inline float ed_activate_slope(ed_activation kind, float slope, float x)
{
    switch (kind) {
    case ED_ACT_RELU: return x > 0 ? 1.0f : 0.0f;
    case ED_ACT_LEAKY_RELU: return x > 0 ? 1.0f : slope;
    case ED_ACT_SILU: {
        float s = 1 / (1 + __expf(-x));
        return s * (1 + x * (1 - s));
    }
    case ED_ACT_ELU: return x > 0 ? 1.0f : __expf(x);
    default: return 1;
    }
}

#endif
