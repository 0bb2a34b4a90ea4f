/* One function per operator: operands and attributes into a node. */
#include <math.h>

#include "graph/build.h"

#define NODE(op, attr, shape, ...) ed_graph_node(graph, ED_OP_##op, (const ed_value[]){__VA_ARGS__}, attr, shape, NULL)

ed_value ed_conv2d(ed_graph *graph, ed_value x, ed_value w, ed_value b, ed_value residual, ed_conv c)
{
    ed_attributes attr = {.conv = {c.stride, c.pad_top, c.pad_left, c.pad_bottom, c.pad_right}};
    return NODE(CONV2D, &attr, NULL, x, w, b, residual);
}

ed_value ed_linear(ed_graph *graph, ed_value x, ed_value w, ed_value b, ed_value residual)
{
    return NODE(LINEAR, NULL, NULL, x, w, b, residual);
}

ed_value ed_batched_linear(ed_graph *graph, ed_value x, ed_value w, ed_value b)
{
    return NODE(BATCHED_LINEAR, NULL, NULL, x, w, b);
}

ed_value ed_group_norm(ed_graph *graph, ed_value x, ed_value gamma, ed_value beta, ed_value scale_shift, int groups,
                       float eps, ed_activation activation)
{
    ed_attributes attr = {.group_norm = {groups, eps, activation}};
    return NODE(GROUP_NORM, &attr, NULL, x, gamma, beta, scale_shift);
}

ed_value ed_layer_norm(ed_graph *graph, ed_value x, ed_value gamma, ed_value beta, float eps)
{
    ed_attributes attr = {.layer_norm = {eps}};
    return NODE(LAYER_NORM, &attr, NULL, x, gamma, beta);
}

ed_value ed_batch_norm(ed_graph *graph, ed_value x, const ed_value p[4], bool training, ed_activation activation,
                       float slope)
{
    ed_attributes attr = {.batch_norm = {1e-5f, 0.1f, training, activation, slope}};
    return NODE(BATCH_NORM, &attr, NULL, x, p[0], p[1], p[2], p[3]);
}

static ed_attributes attention_attributes(const ed_graph *graph, ed_value q, int heads)
{
    int64_t c = q == ED_NONE || heads < 1 ? 1 : ed_shape_last(ed_graph_shape(graph, q));
    return (ed_attributes){.attention = {heads, 1.0f / sqrtf((float)c / (float)ED_MAX(heads, 1))}};
}

ed_value ed_attention(ed_graph *graph, ed_value q, ed_value k, ed_value v, int heads)
{
    ed_attributes attr = attention_attributes(graph, q, heads);
    return NODE(ATTENTION, &attr, NULL, q, k, v);
}

ed_value ed_attention_map(ed_graph *graph, ed_value q, ed_value k, int heads)
{
    ed_attributes attr = attention_attributes(graph, q, heads);
    return NODE(ATTENTION_MAP, &attr, NULL, q, k);
}

ed_value ed_activate(ed_graph *graph, ed_value x, ed_activation kind, float slope)
{
    ed_attributes attr = {.activation = {kind, slope}};
    return NODE(ACTIVATION, &attr, NULL, x);
}

ed_value ed_geglu(ed_graph *graph, ed_value x) { return NODE(GEGLU, NULL, NULL, x); }

ed_value ed_add_values(ed_graph *graph, ed_value a, ed_value b) { return NODE(ADD, NULL, NULL, a, b); }

ed_value ed_add_vector(ed_graph *graph, ed_value x, ed_value e) { return NODE(ADD_VECTOR, NULL, NULL, x, e); }

ed_value ed_channel_affine(ed_graph *graph, ed_value x, ed_value s, ed_value t)
{
    return NODE(CHANNEL_AFFINE, NULL, NULL, x, s, t);
}

ed_value ed_scale(ed_graph *graph, ed_value x, float alpha)
{
    ed_attributes attr = {.scale = {alpha}};
    return NODE(SCALE, &attr, NULL, x);
}

ed_value ed_scale_by(ed_graph *graph, ed_value x, ed_value s) { return NODE(SCALE_BY, NULL, NULL, x, s); }

ed_value ed_concat(ed_graph *graph, ed_value a, ed_value b) { return NODE(CONCAT, NULL, NULL, a, b); }

ed_value ed_slice(ed_graph *graph, ed_value x, int from, int to)
{
    ed_attributes attr = {.slice = {from, to}};
    return NODE(SLICE, &attr, NULL, x);
}

ed_value ed_upsample(ed_graph *graph, ed_value x, int factor, float alpha)
{
    ed_attributes attr = {.resample = {factor, alpha}};
    return NODE(UPSAMPLE, &attr, NULL, x);
}

ed_value ed_sum_pool(ed_graph *graph, ed_value x, int factor, float alpha)
{
    ed_attributes attr = {.resample = {factor, alpha}};
    return NODE(POOL, &attr, NULL, x);
}

ed_value ed_max_pool(ed_graph *graph, ed_value x) { return NODE(MAX_POOL, NULL, NULL, x); }

ed_value ed_window_pool(ed_graph *graph, ed_value x, ed_window_kind kind, int size, int stride, int pad)
{
    ed_attributes attr = {.window = {kind, size, stride, pad}};
    return NODE(WINDOW_POOL, &attr, NULL, x);
}

ed_value ed_timestep_embedding(ed_graph *graph, ed_value t, int dim)
{
    if (t == ED_NONE) return ED_NONE;
    ed_shape shape = ED_SHAPE2(ed_graph_shape(graph, t)->dim[0], dim);
    return NODE(TIMESTEP_EMBEDDING, NULL, &shape, t);
}

ed_value ed_noise_latents(ed_graph *graph, ed_value x0, ed_value noise, ed_value k)
{
    return NODE(Q_SAMPLE, NULL, NULL, x0, noise, k);
}

ed_value ed_difference_loss(ed_graph *graph, ed_value x, ed_value y, ed_loss_kind kind)
{
    ed_attributes attr = {.difference = {kind}};
    return NODE(DIFFERENCE_LOSS, &attr, NULL, x, y);
}

ed_value ed_mean_loss(ed_graph *graph, ed_value x, ed_mean_kind kind)
{
    ed_attributes attr = {.mean = {kind}};
    return NODE(MEAN_LOSS, &attr, NULL, x);
}

void ed_quantize(ed_graph *graph, ed_value z, ed_value codebook, float commitment, float codebook_weight,
                 ed_value out[3])
{
    ed_attributes attr = {.quantize = {commitment, codebook_weight}};
    ed_graph_node(graph, ED_OP_QUANTIZE, (const ed_value[]){z, codebook}, &attr, NULL, out);
}

void ed_gaussian_sample(ed_graph *graph, ed_value moments, ed_value noise, ed_value out[2])
{
    ed_graph_node(graph, ED_OP_GAUSSIAN_SAMPLE, (const ed_value[]){moments, noise}, NULL, NULL, out);
}

ed_value ed_lpips_distance(ed_graph *graph, ed_value x, ed_value y, ed_value w)
{
    return NODE(LPIPS_DISTANCE, NULL, NULL, x, y, w);
}

ed_value ed_dropout(ed_graph *graph, ed_value x, float rate, int stream)
{
    ed_attributes attr = {.dropout = {rate, stream}};
    return NODE(DROPOUT, &attr, NULL, x);
}

ed_value ed_adaptive_weight(ed_graph *graph, ed_value a, ed_value b, ed_value factor)
{
    return NODE(ADAPTIVE_WEIGHT, NULL, NULL, a, b, factor);
}

ed_value ed_zeros(ed_graph *graph, ed_shape shape, ed_type type)
{
    ed_attributes attr = {.typed = {type}};
    return ed_graph_node(graph, ED_OP_ZEROS, NULL, &attr, &shape, NULL);
}

ed_value ed_convert(ed_graph *graph, ed_value x, ed_type type)
{
    if (x == ED_NONE || ed_graph_value(graph, x)->type == type) return x;
    ed_attributes attr = {.typed = {type}};
    return NODE(CONVERT, &attr, NULL, x);
}

ed_value ed_to_compute(ed_graph *graph, ed_value x) { return ed_convert(graph, x, graph->compute); }

ed_value ed_to_f32(ed_graph *graph, ed_value x) { return ed_convert(graph, x, ED_F32); }

ed_value ed_reshape(ed_graph *graph, ed_value x, ed_shape shape) { return NODE(RESHAPE, NULL, &shape, x); }

ed_value ed_conv2d_grad_input(ed_graph *graph, ed_value dy, ed_value w, const ed_attributes *attr, ed_shape shape)
{
    return NODE(CONV2D_GRAD_INPUT, attr, &shape, dy, w);
}

void ed_conv2d_grad_weight(ed_graph *graph, ed_value x, ed_value dy, ed_value dw, ed_value db,
                           const ed_attributes *attr)
{
    NODE(CONV2D_GRAD_WEIGHT, attr, NULL, x, dy, dw, db);
}
