/*
 * An operator in bf16 by a kernel for f32: activations are widened to f32 copies in scratch, results rounded back. What
 * a backend gets whose table has no kernel of its own for an operator in bf16, and the definition of what such a kernel
 * computes. exec.c includes it, and kernels that leave some shapes to another.
 */
#ifndef ED_WIDEN_H
#define ED_WIDEN_H

#include "graph/backend.h"

/* The kernel for f32, and the backend's conversions. */
typedef struct ed_widening {
    const ed_kernel *kernel;
    void (*widen)(const uint16_t *from, float *to, size_t count);
    void (*narrow)(const float *from, uint16_t *to, size_t count);
} ed_widening;

/* run and release of states that ed_widened_create made. */
extern const ed_kernel ed_widened;
encdiff_status ed_widened_create(ed_env *env, const ed_widening *how, const ed_graph *graph, const ed_node *node,
                                 size_t *scratch, void **state);

#endif
