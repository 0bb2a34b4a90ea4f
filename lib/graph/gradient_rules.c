/*
 * The gradient rule of each operator: given the gradients of its outputs (ED_NONE where none arrived), append the
 * gradient operators of ops.def and add what they make to the gradients of the inputs.
 */
#include "graph/build.h"

typedef struct rule {
    ed_graph *graph;
    ed_node node; /* a copy: appending may move the nodes */
    const ed_value *dout;
} rule;

#define NEEDS(i) ed_graph_needs_grad(r->graph, r->node.in[i])
#define GIVE(i, value) ed_graph_add_grad(r->graph, r->node.in[i], value)
#define NODE(op, ...) ed_graph_node(r->graph, ED_OP_##op, (const ed_value[]){__VA_ARGS__}, &r->node.attr, NULL, NULL)
#define IN(i) (r->node.in[i])
#define DY (r->dout[0])

static ed_shape shape_of(const rule *r, ed_value value) { return *ed_graph_shape(r->graph, value); }

/*
 * Where the gradient of weight operand `i` is added: the parameter's own buffer, or, for a weight that is itself
 * computed, fresh zeros, which give_weights() makes its gradient once they are filled.
 */
static ed_value weight_grad(const rule *r, int i)
{
    ed_value w = r->node.in[i];
    if (!ed_graph_needs_grad(r->graph, w)) return ED_NONE;
    if (r->graph->values[w].storage == ED_PARAM) return ed_graph_param_grad(r->graph, w);
    return ed_zeros(r->graph, *ed_graph_shape(r->graph, w), ED_F32);
}

static void give_weights(const rule *r, int first, ed_value dfirst, ed_value dsecond)
{
    const ed_value grads[] = {dfirst, dsecond};
    for (int i = 0; i < 2; i++)
        if (grads[i] != ED_NONE && r->graph->values[grads[i]].storage != ED_GRAD)
            ed_graph_add_grad(r->graph, r->node.in[first + i], grads[i]);
}

static void gradient_conv2d(rule *r)
{
    if (NEEDS(3)) GIVE(3, DY);
    ed_value dw = weight_grad(r, 1), db = weight_grad(r, 2);
    if (dw != ED_NONE) ed_conv2d_grad_weight(r->graph, IN(0), DY, dw, db, &r->node.attr);
    give_weights(r, 1, dw, db);
    if (NEEDS(0)) GIVE(0, ed_conv2d_grad_input(r->graph, DY, IN(1), &r->node.attr, shape_of(r, IN(0))));
}

static void gradient_linear(rule *r)
{
    if (NEEDS(3)) GIVE(3, DY);
    ed_value dw = weight_grad(r, 1), db = weight_grad(r, 2);
    if (dw != ED_NONE) NODE(LINEAR_GRAD_WEIGHT, IN(0), DY, dw, db);
    give_weights(r, 1, dw, db);
    if (NEEDS(0)) GIVE(0, NODE(LINEAR_GRAD_INPUT, DY, IN(1)));
}

static void gradient_batched_linear(rule *r)
{
    ed_value dw = weight_grad(r, 1), db = weight_grad(r, 2);
    if (dw != ED_NONE) NODE(BATCHED_LINEAR_GRAD_WEIGHT, IN(0), DY, dw, db);
    give_weights(r, 1, dw, db);
    if (NEEDS(0)) GIVE(0, NODE(BATCHED_LINEAR_GRAD_INPUT, DY, IN(1)));
}

static void gradient_group_norm(rule *r)
{
    ed_value dgamma = weight_grad(r, 1), dbeta = weight_grad(r, 2), out[ED_MAX_OUTPUTS];
    ed_value reached = NEEDS(0) ? ed_graph_take_grad(r->graph, IN(0)) : ED_NONE;
    const ed_value in[] = {IN(0), IN(1), IN(2), IN(3), r->node.out[1], DY, dgamma, dbeta, reached};
    ed_graph_node(r->graph, ED_OP_GROUP_NORM_GRAD, in, &r->node.attr, NULL, out);
    give_weights(r, 1, dgamma, dbeta);
    GIVE(0, out[0]);
    if (NEEDS(3)) GIVE(3, out[1]);
}

static void gradient_layer_norm(rule *r)
{
    ed_value dgamma = weight_grad(r, 1), dbeta = weight_grad(r, 2);
    ed_value reached = NEEDS(0) ? ed_graph_take_grad(r->graph, IN(0)) : ED_NONE;
    GIVE(0, NODE(LAYER_NORM_GRAD, IN(0), IN(1), r->node.out[1], DY, dgamma, dbeta, reached));
    give_weights(r, 1, dgamma, dbeta);
}

static void gradient_batch_norm(rule *r)
{
    ed_value dgamma = weight_grad(r, 1), dbeta = weight_grad(r, 2);
    GIVE(0, NODE(BATCH_NORM_GRAD, IN(0), IN(1), IN(2), r->node.out[1], DY, dgamma, dbeta));
    give_weights(r, 1, dgamma, dbeta);
}

static void gradient_attention(rule *r)
{
    ed_value out[ED_MAX_OUTPUTS];
    const ed_value in[] = {IN(0), IN(1), IN(2), r->node.out[0], r->node.out[1], DY};
    ed_graph_node(r->graph, ED_OP_ATTENTION_GRAD, in, &r->node.attr, NULL, out);
    for (int i = 0; i < 3; i++) GIVE(i, out[i]);
}

static void gradient_activation(rule *r) { GIVE(0, NODE(ACTIVATION_GRAD, IN(0), DY)); }
static void gradient_geglu(rule *r) { GIVE(0, NODE(GEGLU_GRAD, IN(0), DY)); }

static void gradient_add(rule *r)
{
    GIVE(0, DY);
    GIVE(1, DY);
}

static void gradient_add_vector(rule *r)
{
    GIVE(0, DY);
    if (NEEDS(1)) GIVE(1, NODE(SUM_POSITIONS, DY));
}

static void gradient_channel_affine(rule *r) { GIVE(0, NODE(CHANNEL_SCALE, DY, IN(1))); }
static void gradient_scale(rule *r) { GIVE(0, NODE(SCALE, DY)); }
static void gradient_scale_by(rule *r) { GIVE(0, NODE(SCALE_BY, DY, IN(1))); } /* s counts as a constant */

static void gradient_concat(rule *r)
{
    int a = (int)ed_shape_last(ed_graph_shape(r->graph, IN(0))),
        b = (int)ed_shape_last(ed_graph_shape(r->graph, IN(1)));
    if (NEEDS(0)) GIVE(0, ed_slice(r->graph, DY, 0, a));
    if (NEEDS(1)) GIVE(1, ed_slice(r->graph, DY, a, a + b));
}

/* Zeros before and behind the range that was taken. */
static void gradient_slice(rule *r)
{
    ed_shape before = shape_of(r, IN(0)), behind = before;
    int64_t *first = &before.dim[before.rank - 1], *last = &behind.dim[behind.rank - 1];
    *last -= r->node.attr.slice.to;
    *first = r->node.attr.slice.from;
    ed_value dx = DY;
    ed_type type = ed_graph_value(r->graph, IN(0))->type;
    if (*first) dx = ed_concat(r->graph, ed_zeros(r->graph, before, type), dx);
    if (*last) dx = ed_concat(r->graph, dx, ed_zeros(r->graph, behind, type));
    GIVE(0, dx);
}

static void gradient_upsample(rule *r)
{
    GIVE(0, ed_sum_pool(r->graph, DY, r->node.attr.resample.factor, r->node.attr.resample.alpha));
}

static void gradient_pool(rule *r)
{
    GIVE(0, ed_upsample(r->graph, DY, r->node.attr.resample.factor, r->node.attr.resample.alpha));
}

static void gradient_max_pool(rule *r) { GIVE(0, NODE(MAX_POOL_GRAD, IN(0), r->node.out[0], DY)); }

/* Latents and noise are data; only pixel-space tests differentiate through the mix, and k is a constant per image. */
static void gradient_q_sample(rule *r)
{
    r->graph->status = ed_fail(r->graph->env, ENCDIFF_ERROR_INTERNAL,
                               "operator q_sample, node output %d: it has no gradient", r->node.out[0]);
}

static void gradient_difference_loss(rule *r) { GIVE(0, NODE(DIFFERENCE_LOSS_GRAD, IN(0), IN(1), DY)); }
static void gradient_mean_loss(rule *r) { GIVE(0, NODE(MEAN_LOSS_GRAD, IN(0), DY)); }

static void gradient_quantize(rule *r)
{
    ed_value de = r->dout[2] == ED_NONE ? ED_NONE : weight_grad(r, 1);
    GIVE(0, NODE(QUANTIZE_GRAD, IN(0), IN(1), r->node.out[1], DY, r->dout[2], de));
    give_weights(r, 1, de, ED_NONE);
}

static void gradient_gaussian_sample(rule *r)
{
    GIVE(0, NODE(GAUSSIAN_SAMPLE_GRAD, IN(0), IN(1), r->dout[0], r->dout[1]));
}
static void gradient_lpips_distance(rule *r) { GIVE(1, NODE(LPIPS_DISTANCE_GRAD, IN(0), IN(1), IN(2), DY)); }
static void gradient_dropout(rule *r) { GIVE(0, NODE(DROPOUT, DY)); } /* the same stream makes the same mask */
static void gradient_convert(rule *r) { GIVE(0, ed_convert(r->graph, DY, ed_graph_value(r->graph, IN(0))->type)); }
static void gradient_reshape(rule *r) { GIVE(0, ed_reshape(r->graph, DY, shape_of(r, IN(0)))); }

encdiff_status ed_op_gradient(ed_graph *graph, int node, const ed_value *grad_out)
{
    rule r = {.graph = graph, .node = graph->nodes[node], .dout = grad_out};
    switch (r.node.op) {
#define RULE(id, name)                                                                                                 \
    case ED_OP_##id: gradient_##name(&r); break;
        RULE(CONV2D, conv2d)
        RULE(LINEAR, linear)
        RULE(BATCHED_LINEAR, batched_linear)
        RULE(GROUP_NORM, group_norm)
        RULE(LAYER_NORM, layer_norm)
        RULE(BATCH_NORM, batch_norm)
        RULE(ATTENTION, attention)
        RULE(ACTIVATION, activation)
        RULE(GEGLU, geglu)
        RULE(ADD, add)
        RULE(ADD_VECTOR, add_vector)
        RULE(CHANNEL_AFFINE, channel_affine)
        RULE(SCALE, scale)
        RULE(SCALE_BY, scale_by)
        RULE(CONCAT, concat)
        RULE(SLICE, slice)
        RULE(UPSAMPLE, upsample)
        RULE(POOL, pool)
        RULE(MAX_POOL, max_pool)
        RULE(Q_SAMPLE, q_sample)
        RULE(DIFFERENCE_LOSS, difference_loss)
        RULE(MEAN_LOSS, mean_loss)
        RULE(QUANTIZE, quantize)
        RULE(GAUSSIAN_SAMPLE, gaussian_sample)
        RULE(LPIPS_DISTANCE, lpips_distance)
        RULE(DROPOUT, dropout)
        RULE(CONVERT, convert)
        RULE(RESHAPE, reshape)
#undef RULE
    default:
        graph->status = ed_fail(graph->env, ENCDIFF_ERROR_INTERNAL, "operator %s has no gradient",
                                ed_op_describe(r.node.op)->name);
    }
    return graph->status;
}
