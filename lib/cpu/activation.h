/*
 * The activations that operators fuse or stand for: none, relu, leaky relu (slope), silu, elu (alpha 1).
 */
#ifndef ED_CPU_ACTIVATION_H
#define ED_CPU_ACTIVATION_H

#include "cpu/vector.h"
#include "graph/graph.h"

/* Comparisons are written so that NaN stays NaN. */
ED_INLINE float ed_activation_value(ed_activation kind, float slope, float x)
{
    switch (kind) {
    case ED_ACT_RELU: return x < 0 ? 0 : x;
    case ED_ACT_LEAKY_RELU: return x < 0 ? slope * x : x;
    case ED_ACT_SILU: return x * ed_sigmoid(x);
    case ED_ACT_ELU: return x < 0 ? ed_expm1(x) : x;
    default: return x;
    }
}

ED_INLINE float ed_activation_slope(ed_activation kind, float slope, float x)
{
    switch (kind) {
    case ED_ACT_RELU: return x > 0 ? 1.0f : 0.0f;
    case ED_ACT_LEAKY_RELU: return x > 0 ? 1.0f : slope;
    case ED_ACT_SILU: return ed_silu_slope(x);
    case ED_ACT_ELU: return x > 0 ? 1.0f : ed_exp(x);
    default: return 1;
    }
}

/* CASE(kind) for every activation: calling an inlined loop with a constant kind takes the branch out of the loop. */
#define ED_EACH_ACTIVATION(CASE)                                                                                       \
    CASE(ED_ACT_NONE) CASE(ED_ACT_RELU) CASE(ED_ACT_LEAKY_RELU) CASE(ED_ACT_SILU) CASE(ED_ACT_ELU)

#endif
