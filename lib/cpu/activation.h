/*
 * The activations that operators fuse or stand for: none, relu, leaky relu (slope), silu, elu (alpha 1).
 */
#ifndef ED_CPU_ACTIVATION_H
#define ED_CPU_ACTIVATION_H

#include "cpu/vector.h"
#include "graph/graph.h"

/* f(x). NaN stays NaN. */
ED_INLINE ed_vec ed_vactivate(ed_activation kind, float slope, ed_vec x)
{
    switch (kind) {
    case ED_ACT_RELU: return ed_vmax((ed_vec){0}, x);
    case ED_ACT_LEAKY_RELU: return ed_select(x < 0, slope * x, x);
    case ED_ACT_SILU: return ed_vsilu(x);
    case ED_ACT_ELU: return ed_select(x < 0, ed_vexpm1(x), x);
    default: return x;
    }
}

/* f'(x) dy. */
ED_INLINE ed_vec ed_vactivate_grad(ed_activation kind, float slope, ed_vec x, ed_vec dy)
{
    switch (kind) {
    case ED_ACT_RELU: return ed_select(x > 0, dy, (ed_vec){0});
    case ED_ACT_LEAKY_RELU: return ed_select(x > 0, dy, slope * dy);
    case ED_ACT_SILU: return ed_vsilu_slope(x) * dy;
    case ED_ACT_ELU: return ed_select(x > 0, dy, ed_vexp(x) * dy);
    default: return dy;
    }
}

/* CASE(kind) for every activation: calling an inlined loop with a constant kind takes the branch out of the loop. */
#define ED_EACH_ACTIVATION(CASE)                                                                                       \
    CASE(ED_ACT_NONE) CASE(ED_ACT_RELU) CASE(ED_ACT_LEAKY_RELU) CASE(ED_ACT_SILU) CASE(ED_ACT_ELU)

#endif
