/*
 * Sums, scalings and rearrangements, bound by memory: add, add_vector and its gradient sum_positions, channel_affine
 * and its gradient channel_scale, scale, scale_by, concat, slice, zeros, reshape. Formulas and shapes: ops.def.
 */
#include "cpu/columns.h"

static encdiff_status run_add(const ed_call *call)
{
    ed_range part = ed_part_of_items(call);
    const ed_item *a = IN(0), *b = IN(1);
    ed_item *y = OUT(0);
    ED_VECTORISE for (int64_t i = part.first; i < part.last; i++) ed_put(y + i, ed_get(a + i) + ed_get(b + i));
    return ENCDIFF_OK;
}

static encdiff_status run_add_vector(const ed_call *call)
{
    const ed_shape *shape = ed_in_shape(call, 0);
    int64_t c = ed_shape_last(shape), l = ed_per_image(shape) / c;
    ed_range part = ed_part_of_rows(call);
    for (int64_t row = part.first; row < part.last; row++) {
        const ed_item *x = IN(0) + row * c, *e = IN(1) + row / l * c;
        ed_item *y = OUT(0) + row * c;
        ED_VECTORISE for (int64_t j = 0; j < c; j++) ed_put(y + j, ed_get(x + j) + ed_get(e + j));
    }
    return ENCDIFF_OK;
}

static encdiff_status prepare_sum_positions(ed_env *env, const ed_graph *graph, const ed_node *node, size_t *scratch,
                                            void **state)
{
    (void)env, (void)state;
    *scratch = ed_cut_size((size_t)ed_shape_last(&graph->values[node->in[0]].shape), sizeof(double));
    return ENCDIFF_OK;
}

static encdiff_status run_sum_positions(const ed_call *call)
{
    const ed_shape *shape = ed_in_shape(call, 0);
    int64_t c = ed_shape_last(shape), n = ed_images(shape), l = ed_per_image(shape) / c;
    double *sum = call->scratch;
    for (int64_t i = 0; i < n; i++) {
        memset(sum, 0, (size_t)c * sizeof *sum);
        ed_column_sums(IN(0) + i * l * c, l, c, sum);
        for (int64_t j = 0; j < c; j++) ed_put(OUT(0) + i * c + j, (float)sum[j]);
    }
    return ENCDIFF_OK;
}

static encdiff_status run_channel_affine(const ed_call *call)
{
    const ed_shape *shape = ed_in_shape(call, 0);
    int64_t c = ed_shape_last(shape);
    ed_range part = ed_part_of_rows(call);
    const float *s = IN_F32(1), *t = IN_F32(2);
    for (int64_t i = part.first; i < part.last; i++) {
        const ed_item *x = IN(0) + i * c;
        ed_item *y = OUT(0) + i * c;
        ED_VECTORISE for (int64_t j = 0; j < c; j++) ed_put(y + j, ed_get(x + j) * s[j] + t[j]);
    }
    return ENCDIFF_OK;
}

static encdiff_status run_channel_scale(const ed_call *call)
{
    const ed_shape *shape = ed_in_shape(call, 0);
    int64_t c = ed_shape_last(shape), rows = ed_shape_rows(shape);
    const float *s = IN_F32(1);
    for (int64_t i = 0; i < rows; i++) {
        const ed_item *x = IN(0) + i * c;
        ed_item *y = OUT(0) + i * c;
        ED_VECTORISE for (int64_t j = 0; j < c; j++) ed_put(y + j, ed_get(x + j) * s[j]);
    }
    return ENCDIFF_OK;
}

static encdiff_status scale_all(const ed_call *call, float alpha)
{
    ed_range part = ed_part_of_items(call);
    const ed_item *x = IN(0);
    ed_item *y = OUT(0);
    ED_VECTORISE for (int64_t i = part.first; i < part.last; i++) ed_put(y + i, alpha * ed_get(x + i));
    return ENCDIFF_OK;
}

static encdiff_status run_scale(const ed_call *call) { return scale_all(call, call->node->attr.scale.alpha); }
static encdiff_status run_scale_by(const ed_call *call) { return scale_all(call, IN_F32(1)[0]); }

static encdiff_status run_concat(const ed_call *call)
{
    const ed_shape *shape = ed_in_shape(call, 0);
    int64_t a = ed_shape_last(shape), b = ed_shape_last(ed_in_shape(call, 1));
    ed_range part = ed_part_of_rows(call);
    for (int64_t i = part.first; i < part.last; i++) {
        ed_item *y = OUT(0) + i * (a + b);
        memcpy(y, IN(0) + i * a, (size_t)a * sizeof *y);
        memcpy(y + a, IN(1) + i * b, (size_t)b * sizeof *y);
    }
    return ENCDIFF_OK;
}

static encdiff_status run_slice(const ed_call *call)
{
    const ed_shape *shape = ed_in_shape(call, 0);
    int64_t c = ed_shape_last(shape), from = call->node->attr.slice.from, size = call->node->attr.slice.to - from;
    ed_range part = ed_part_of_rows(call);
    for (int64_t i = part.first; i < part.last; i++)
        memcpy(OUT(0) + i * size, IN(0) + i * c + from, (size_t)size * sizeof(ed_item));
    return ENCDIFF_OK;
}

static encdiff_status run_zeros(const ed_call *call)
{
    const ed_value_info *y = &call->graph->values[call->node->out[0]];
    memset(OUT(0), 0, (size_t)ed_shape_count(&y->shape) * ed_type_size(y->type));
    return ENCDIFF_OK;
}

/* The output is the input's memory. */
static encdiff_status run_reshape(const ed_call *call)
{
    (void)call;
    return ENCDIFF_OK;
}

const ed_kernel ED_CPU(add) = {.run = run_add, .parts = true};
const ed_kernel ED_CPU(add_vector) = {.run = run_add_vector, .parts = true};
const ed_kernel ED_CPU(sum_positions) = {.prepare = prepare_sum_positions, .run = run_sum_positions};
const ed_kernel ED_CPU(channel_affine) = {.run = run_channel_affine, .parts = true};
const ed_kernel ED_CPU(channel_scale) = {.run = run_channel_scale};
const ed_kernel ED_CPU(scale) = {.run = run_scale, .parts = true};
const ed_kernel ED_CPU(scale_by) = {.run = run_scale_by, .parts = true};
const ed_kernel ED_CPU(concat) = {.run = run_concat, .parts = true};
const ed_kernel ED_CPU(slice) = {.run = run_slice, .parts = true};
const ed_kernel ED_CPU(zeros) = {.run = run_zeros};
const ed_kernel ED_CPU(reshape) = {.run = run_reshape};
