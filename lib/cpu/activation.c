/*
 * Activations and their gradients: y = f(x), dx = f'(x) dy, elementwise over any shape. See activation.h for f.
 */
#include "cpu/activation.h"
#include "cpu/kernel.h"

ED_INLINE void forward(const ed_item *x, ed_item *y, int64_t count, ed_activation kind, float slope)
{
    int64_t i = 0;
    for (; i + ED_LANES <= count; i += ED_LANES) ed_store(y + i, ed_vactivate(kind, slope, ed_load(x + i)));
    int rest = (int)(count - i);
    if (rest) ed_store_some(y + i, ed_vactivate(kind, slope, ed_load_some(x + i, rest)), rest);
}

ED_INLINE void backward_some(const ed_item *x, const ed_item *dy, ed_item *dx, ed_activation kind, float slope,
                             int lanes)
{
    ed_store_some(dx, ed_vactivate_grad(kind, slope, ed_load_some(x, lanes), ed_load_some(dy, lanes)), lanes);
}

ED_INLINE void backward(const ed_item *x, const ed_item *dy, ed_item *dx, int64_t count, ed_activation kind,
                        float slope)
{
    int64_t i = 0;
    for (; i + ED_LANES <= count; i += ED_LANES) backward_some(x + i, dy + i, dx + i, kind, slope, ED_LANES);
    if (i < count) backward_some(x + i, dy + i, dx + i, kind, slope, (int)(count - i));
}

static encdiff_status run(const ed_call *call)
{
    ed_range part = ed_part_of_items(call);
    const ed_item *x = IN(0) + part.first;
    ed_item *y = OUT(0) + part.first;
    float slope = call->node->attr.activation.slope;
    switch (call->node->attr.activation.kind) {
#define CASE(kind)                                                                                                     \
    case kind: forward(x, y, part.last - part.first, kind, slope); break;
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

const ed_kernel ED_CPU(activation) = {.run = run, .parts = true};
const ed_kernel ED_CPU(activation_grad) = {.run = run_grad};
