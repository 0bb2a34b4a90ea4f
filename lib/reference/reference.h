/*
 * reference: the plain C backend. Every operator of ops.def once more, as the loop nest that its formula says: f32 in
 * and out, sums in double, no blocking, no vector code, one image after the other. It is what the fast backends are
 * tested against, and where to look up what an operator means.
 *
 *   conv.c linear.c      convolutions and products with weights
 *   norm.c norm_grad.c   group, layer and batch norm
 *   attention.c          softmax attention and its gradient
 *   pointwise.c          activations, sums, scales, dropout and other operators without neighbours
 *   resample.c           upsampling and pooling; concatenation and slices
 *   loss.c               losses, quantisation, the Gaussian sample, LPIPS; the adaptive weight
 *   backend.c            the table, memory, AdamW
 *
 * Shapes were checked when the graph was built; kernels assume them. Stands on graph; only tests and tools that ask
 * for ed_backend_reference() call it.
 */
#ifndef ED_REFERENCE_H
#define ED_REFERENCE_H

#include "graph/backend.h"

#define ED_OP(id, name, inputs, outputs, accumulated, in_place) extern const ed_kernel ed_ref_##name;
#include "graph/ops.def"
#undef ED_OP

static inline const ed_shape *ed_ref_shape(const ed_call *call, int input)
{
    return ed_graph_shape(call->graph, call->node->in[input]);
}

static inline const ed_shape *ed_ref_out_shape(const ed_call *call, int output)
{
    return ed_graph_shape(call->graph, call->node->out[output]);
}

/* x[n,...,c] as images, positions and channels. */
typedef struct ed_ref_extent {
    int64_t images, positions, channels;
} ed_ref_extent;

static inline ed_ref_extent ed_ref_split(const ed_shape *shape)
{
    int64_t positions = 1;
    for (int i = 1; i + 1 < shape->rank; i++) positions *= shape->dim[i];
    return (ed_ref_extent){shape->dim[0], positions, ed_shape_last(shape)};
}

static inline double ed_ref_dot(const float *a, const float *b, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += (double)a[i] * b[i];
    return sum;
}

/* act(x) and its derivative; `slope` is leaky ReLU's. */
double ed_ref_activate(ed_activation kind, double slope, double x);
double ed_ref_activate_derivative(ed_activation kind, double slope, double x);

/* Replace data by its sum over the ranks of the run. */
void ed_ref_sum_over_ranks(const ed_call *call, double *data, size_t count);

#endif
