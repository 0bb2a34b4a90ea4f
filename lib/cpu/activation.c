/*
 * Activations and their gradients: y = f(x), dx = f'(x) dy, elementwise over any shape. See activation.h for f.
 */
#include "cpu/activation.h"
#include "cpu/kernel.h"

ED_INLINE void forward(const float *x, float *y, int64_t count, ed_activation kind, float slope)
{
    ED_VECTORISE for (int64_t i = 0; i < count; i++) y[i] = ed_activation_value(kind, slope, x[i]);
}

ED_INLINE void backward(const float *x, const float *dy, float *dx, int64_t count, ed_activation kind, float slope)
{
    ED_VECTORISE for (int64_t i = 0; i < count; i++) dx[i] = ed_activation_slope(kind, slope, x[i]) * dy[i];
}

static encdiff_status run(const ed_call *call)
{
    int64_t count = ed_shape_count(ed_in_shape(call, 0));
    float slope = call->node->attr.activation.slope;
    switch (call->node->attr.activation.kind) {
#define CASE(kind)                                                                                                     \
    case kind: forward(IN(0), OUT(0), count, kind, slope); break;
        ED_EACH_ACTIVATION(CASE)
#undef CASE
    }
    return ENCDIFF_OK;
}

static encdiff_status run_grad(const ed_call *call)
{
    int64_t count = ed_shape_count(ed_in_shape(call, 0));
    float slope = call->node->attr.activation.slope;
    switch (call->node->attr.activation.kind) {
#define CASE(kind)                                                                                                     \
    case kind: backward(IN(0), IN(1), OUT(0), count, kind, slope); break;
        ED_EACH_ACTIVATION(CASE)
#undef CASE
    }
    return ENCDIFF_OK;
}

const ed_kernel ED_CPU(activation) = {.run = run};
const ed_kernel ED_CPU(activation_grad) = {.run = run_grad};
