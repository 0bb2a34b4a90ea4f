/*
 * One function per operator, so that layers read like equations. Semantics: ops.def. Each returns output 0, or ED_NONE
 * after a failure, which the graph keeps.
 */
#ifndef ED_BUILD_H
#define ED_BUILD_H

#include "graph/graph.h"

typedef struct ed_conv {
    int stride, pad_top, pad_left, pad_bottom, pad_right;
} ed_conv;

ed_value ed_conv2d(ed_graph *graph, ed_value x, ed_value w, ed_value b, ed_value residual, ed_conv conv);
ed_value ed_linear(ed_graph *graph, ed_value x, ed_value w, ed_value b, ed_value residual);
ed_value ed_batched_linear(ed_graph *graph, ed_value x, ed_value w, ed_value b);
ed_value ed_group_norm(ed_graph *graph, ed_value x, ed_value gamma, ed_value beta, ed_value scale_shift, int groups,
                       float eps, ed_activation activation);
ed_value ed_layer_norm(ed_graph *graph, ed_value x, ed_value gamma, ed_value beta, float eps);
ed_value ed_batch_norm(ed_graph *graph, ed_value x, const ed_value parameters[4], bool training,
                       ed_activation activation, float slope);
ed_value ed_attention(ed_graph *graph, ed_value q, ed_value k, ed_value v, int heads);
ed_value ed_attention_map(ed_graph *graph, ed_value q, ed_value k, int heads);
ed_value ed_activate(ed_graph *graph, ed_value x, ed_activation kind, float slope);
ed_value ed_geglu(ed_graph *graph, ed_value x);
ed_value ed_add_values(ed_graph *graph, ed_value a, ed_value b);
ed_value ed_add_vector(ed_graph *graph, ed_value x, ed_value e);
ed_value ed_channel_affine(ed_graph *graph, ed_value x, ed_value s, ed_value t);
ed_value ed_scale(ed_graph *graph, ed_value x, float alpha);
ed_value ed_scale_by(ed_graph *graph, ed_value x, ed_value s);
ed_value ed_concat(ed_graph *graph, ed_value a, ed_value b);
ed_value ed_slice(ed_graph *graph, ed_value x, int from, int to);
ed_value ed_upsample(ed_graph *graph, ed_value x, int factor, float alpha);
ed_value ed_sum_pool(ed_graph *graph, ed_value x, int factor, float alpha);
ed_value ed_max_pool(ed_graph *graph, ed_value x);
ed_value ed_window_pool(ed_graph *graph, ed_value x, ed_window_kind kind, int size, int stride, int pad);
ed_value ed_timestep_embedding(ed_graph *graph, ed_value t, int dim);
ed_value ed_noise_latents(ed_graph *graph, ed_value x0, ed_value noise, ed_value k);
ed_value ed_difference_loss(ed_graph *graph, ed_value x, ed_value y, ed_loss_kind kind);
ed_value ed_mean_loss(ed_graph *graph, ed_value x, ed_mean_kind kind);
/* out: the quantised latent, the indices, the loss. */
void ed_quantize(ed_graph *graph, ed_value z, ed_value codebook, float commitment, float codebook_weight,
                 ed_value out[3]);
/* out: the sample, the KL divergence per image. */
void ed_gaussian_sample(ed_graph *graph, ed_value moments, ed_value noise, ed_value out[2]);
ed_value ed_lpips_distance(ed_graph *graph, ed_value x, ed_value y, ed_value w);
ed_value ed_dropout(ed_graph *graph, ed_value x, float rate, int stream);
ed_value ed_adaptive_weight(ed_graph *graph, ed_value a, ed_value b, ed_value factor);
ed_value ed_zeros(ed_graph *graph, ed_shape shape, ed_type type);
/* x itself where it has the type. */
ed_value ed_convert(ed_graph *graph, ed_value x, ed_type type);
/* Into and out of a network: to the type that the graph computes with, and to f32. */
ed_value ed_to_compute(ed_graph *graph, ed_value x);
ed_value ed_to_f32(ed_graph *graph, ed_value x);
ed_value ed_reshape(ed_graph *graph, ed_value x, ed_shape shape);

/* For gradient rules and the adaptive weight. */
ed_value ed_conv2d_grad_input(ed_graph *graph, ed_value dy, ed_value w, const ed_attributes *attr, ed_shape shape);
void ed_conv2d_grad_weight(ed_graph *graph, ed_value x, ed_value dy, ed_value dw, ed_value db,
                           const ed_attributes *attr);
/* The gradient that has reached `value` so far, taken away, for an operator that adds it to its own. */
ed_value ed_graph_take_grad(ed_graph *graph, ed_value value);

#endif
