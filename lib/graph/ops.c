/*
 * The shape and cost rules of the operator table (ops.def describes the operators). A shape rule refuses what a kernel
 * could not compute, so that kernels only assume. Gradient rules: gradient_rules.c.
 */
#include "graph/graph.h"

static const ed_op_info table[] = {
#define ED_OP(id, name_, inputs_, outputs_, accumulated_, in_place_)                                                   \
    {.name = #name_, .inputs = inputs_, .outputs = outputs_, .accumulated = accumulated_, .in_place = in_place_},
#include "graph/ops.def"
#undef ED_OP
};

const ed_op_info *ed_op_describe(ed_op op) { return &table[op]; }

/* What a rule sees: the node, its input shapes, and where the outputs' shapes go. */
typedef struct rule {
    ed_graph *graph;
    ed_node *node;
    const ed_shape *given;
    const ed_shape *in[ED_MAX_INPUTS]; /* NULL where absent */
    ed_shape *out;
    ed_type *type;
} rule;

static encdiff_status refuse(const rule *r, const char *what)
{
    ed_text text = {0};
    char shape[64];
    for (int i = 0; i < ED_MAX_INPUTS; i++)
        if (r->in[i]) (void)ed_text_add(r->graph->env, &text, "%s%s", i ? " " : "", ed_shape_text(r->in[i], shape));
    encdiff_status status = ed_fail(r->graph->env, ENCDIFF_ERROR_SHAPE, "operator %s, node %zu: %s; its inputs are %s",
                                    table[r->node->op].name, r->graph->node_count, what,
                                    text.data ? text.data : "none");
    ed_text_free(r->graph->env, &text);
    return status;
}

#define NEED(condition, what)                                                                                          \
    do {                                                                                                               \
        if (!(condition)) return refuse(r, what);                                                                      \
    } while (0)

static bool is_vector(const ed_shape *s, int64_t n) { return s->rank == 1 && s->dim[0] == n; }
static bool optional_vector(const ed_shape *s, int64_t n) { return !s || is_vector(s, n); }
static bool optional_same(const ed_shape *s, const ed_shape *as) { return !s || ed_shape_equal(s, as); }

static ed_shape with_last(const ed_shape *s, int64_t last)
{
    ed_shape result = *s;
    result.dim[s->rank - 1] = last;
    return result;
}

/* [count / last rows] of a weight: w[o, ...] holds o rows of the product of the rest. */
static int64_t row_size(const ed_shape *w) { return w->dim[0] ? ed_shape_count(w) / w->dim[0] : 0; }

/* ---------------------------------------------------------------- convolution and linear */

static int64_t conv_extent(int64_t in, int kernel, int stride, int before, int after)
{
    int64_t room = in + before + after - kernel;
    return room < 0 ? 0 : room / stride + 1;
}

static ed_shape conv_output(const ed_shape *x, const ed_shape *w, const ed_attributes *a)
{
    return ED_SHAPE4(
        x->dim[0], conv_extent(x->dim[1], (int)w->dim[1], a->conv.stride, a->conv.pad_top, a->conv.pad_bottom),
        conv_extent(x->dim[2], (int)w->dim[2], a->conv.stride, a->conv.pad_left, a->conv.pad_right), w->dim[0]);
}

static encdiff_status shape_conv2d(rule *r)
{
    const ed_shape *x = r->in[0], *w = r->in[1];
    NEED(x->rank == 4 && w->rank == 4, "x and w must have four dimensions");
    NEED(x->dim[3] == w->dim[3], "x has another number of channels than w reads");
    NEED(r->node->attr.conv.stride >= 1, "the stride must be at least 1");
    r->out[0] = conv_output(x, w, &r->node->attr);
    NEED(r->out[0].dim[1] > 0 && r->out[0].dim[2] > 0, "the kernel is larger than the padded image");
    NEED(optional_vector(r->in[2], w->dim[0]), "the bias must be [o]");
    NEED(optional_same(r->in[3], &r->out[0]), "the residual must have the output's shape");
    return ENCDIFF_OK;
}

static encdiff_status shape_conv2d_grad_input(rule *r)
{
    NEED(r->given, "the shape of dx must be given");
    ed_shape y = conv_output(r->given, r->in[1], &r->node->attr);
    NEED(ed_shape_equal(&y, r->in[0]), "dy does not fit dx");
    r->out[0] = *r->given;
    return ENCDIFF_OK;
}

static encdiff_status shape_conv2d_grad_weight(rule *r)
{
    ed_shape y = conv_output(r->in[0], r->in[2], &r->node->attr);
    NEED(ed_shape_equal(&y, r->in[1]), "dy does not fit x and dw");
    NEED(optional_vector(r->in[3], r->in[2]->dim[0]), "db must be [o]");
    return ENCDIFF_OK;
}

static encdiff_status shape_linear(rule *r)
{
    const ed_shape *x = r->in[0], *w = r->in[1];
    NEED(x->rank >= 1 && w->rank >= 2 && row_size(w) == ed_shape_last(x), "w must be [o, c] with the c of x");
    r->out[0] = with_last(x, w->dim[0]);
    NEED(optional_vector(r->in[2], w->dim[0]), "the bias must be [o]");
    NEED(optional_same(r->in[3], &r->out[0]), "the residual must have the output's shape");
    return ENCDIFF_OK;
}

static encdiff_status shape_linear_grad_input(rule *r)
{
    NEED(ed_shape_last(r->in[0]) == r->in[1]->dim[0], "dy must end in the o of w");
    r->out[0] = with_last(r->in[0], row_size(r->in[1]));
    return ENCDIFF_OK;
}

static encdiff_status shape_linear_grad_weight(rule *r)
{
    NEED(ed_shape_rows(r->in[0]) == ed_shape_rows(r->in[1]), "x and dy must have equally many rows");
    NEED(r->in[2]->dim[0] == ed_shape_last(r->in[1]) && row_size(r->in[2]) == ed_shape_last(r->in[0]),
         "dw must be [o, c]");
    NEED(optional_vector(r->in[3], r->in[2]->dim[0]), "db must be [o]");
    return ENCDIFF_OK;
}

static encdiff_status shape_batched_linear(rule *r)
{
    const ed_shape *x = r->in[0], *w = r->in[1], *b = r->in[2];
    NEED(x->rank == 3 && w->rank == 3 && x->dim[1] == w->dim[0] && x->dim[2] == w->dim[2],
         "x must be [n, g, c], w [g, o, c]");
    NEED(b->rank == 2 && b->dim[0] == w->dim[0] && b->dim[1] == w->dim[1], "the bias must be [g, o]");
    r->out[0] = with_last(x, w->dim[1]);
    return ENCDIFF_OK;
}

static encdiff_status shape_batched_linear_grad_input(rule *r)
{
    NEED(r->in[0]->dim[1] == r->in[1]->dim[0] && r->in[0]->dim[2] == r->in[1]->dim[1], "dy must be [n, g, o]");
    r->out[0] = with_last(r->in[0], r->in[1]->dim[2]);
    return ENCDIFF_OK;
}

static encdiff_status shape_batched_linear_grad_weight(rule *r)
{
    const ed_shape *x = r->in[0], *dy = r->in[1], *dw = r->in[2];
    NEED(x->dim[0] == dy->dim[0] && dw->dim[0] == x->dim[1] && dw->dim[1] == dy->dim[2] && dw->dim[2] == x->dim[2],
         "dw must be [g, o, c]");
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- normalisation */

static encdiff_status shape_group_norm(rule *r)
{
    const ed_shape *x = r->in[0];
    int64_t c = ed_shape_last(x), groups = r->node->attr.group_norm.groups;
    NEED(x->rank >= 2 && groups >= 1 && c % groups == 0, "the channels must be a multiple of the groups");
    NEED(is_vector(r->in[1], c) && is_vector(r->in[2], c), "gamma and beta must be [c]");
    NEED(!r->in[3] || (r->in[3]->rank == 2 && r->in[3]->dim[0] == x->dim[0] && r->in[3]->dim[1] == 2 * c),
         "scale and shift must be [n, 2c]");
    r->out[0] = *x;
    r->out[1] = ED_SHAPE3(x->dim[0], groups, 2);
    return ENCDIFF_OK;
}

static encdiff_status shape_group_norm_grad(rule *r)
{
    NEED(ed_shape_equal(r->in[0], r->in[5]) && optional_same(r->in[8], r->in[0]), "dy and r must have the shape of x");
    r->out[0] = *r->in[0];
    if (r->in[3]) r->out[1] = *r->in[3];
    return ENCDIFF_OK;
}

static encdiff_status shape_layer_norm(rule *r)
{
    int64_t c = ed_shape_last(r->in[0]);
    NEED(is_vector(r->in[1], c) && is_vector(r->in[2], c), "gamma and beta must be [c]");
    r->out[0] = *r->in[0];
    r->out[1] = ED_SHAPE2(ed_shape_rows(r->in[0]), 2);
    return ENCDIFF_OK;
}

static encdiff_status shape_layer_norm_grad(rule *r)
{
    NEED(ed_shape_equal(r->in[0], r->in[3]) && optional_same(r->in[6], r->in[0]), "dy and r must have the shape of x");
    r->out[0] = *r->in[0];
    return ENCDIFF_OK;
}

static encdiff_status shape_batch_norm(rule *r)
{
    int64_t c = ed_shape_last(r->in[0]);
    for (int i = 1; i < 5; i++) NEED(is_vector(r->in[i], c), "gamma, beta and the running statistics must be [c]");
    r->out[0] = *r->in[0];
    r->out[1] = ED_SHAPE2(2, c);
    return ENCDIFF_OK;
}

static encdiff_status shape_batch_norm_grad(rule *r)
{
    NEED(r->node->attr.batch_norm.training, "there is a gradient in training only");
    NEED(ed_shape_equal(r->in[0], r->in[4]), "dy must have the shape of x");
    r->out[0] = *r->in[0];
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- attention */

static encdiff_status check_attention(rule *r)
{
    const ed_shape *q = r->in[0], *k = r->in[1];
    int heads = r->node->attr.attention.heads;
    NEED(q->rank == 3 && k->rank == 3 && q->dim[0] == k->dim[0] && q->dim[2] == k->dim[2],
         "q must be [n, l, c], k [n, m, c]");
    NEED(heads >= 1 && q->dim[2] % heads == 0, "the channels must be a multiple of the heads");
    return ENCDIFF_OK;
}

static encdiff_status shape_attention(rule *r)
{
    ED_TRY(check_attention(r));
    NEED(ed_shape_equal(r->in[1], r->in[2]), "k and v must have one shape");
    r->out[0] = *r->in[0];
    r->out[1] = ED_SHAPE3(r->in[0]->dim[0], r->node->attr.attention.heads, r->in[0]->dim[1]);
    return ENCDIFF_OK;
}

static encdiff_status shape_attention_map(rule *r)
{
    ED_TRY(check_attention(r));
    r->out[0] = ED_SHAPE3(r->in[0]->dim[0], r->in[0]->dim[1], r->in[1]->dim[1]);
    return ENCDIFF_OK;
}

static encdiff_status shape_attention_grad(rule *r)
{
    NEED(ed_shape_equal(r->in[0], r->in[5]), "dy must have the shape of q");
    for (int i = 0; i < 3; i++) r->out[i] = *r->in[i];
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- elementwise */

static encdiff_status same_as_first(rule *r)
{
    r->out[0] = *r->in[0];
    return ENCDIFF_OK;
}
#define shape_activation same_as_first
#define shape_scale same_as_first
#define shape_convert same_as_first

static encdiff_status same_as_both(rule *r)
{
    NEED(ed_shape_equal(r->in[0], r->in[1]), "both must have one shape");
    return same_as_first(r);
}
#define shape_add same_as_both
#define shape_activation_grad same_as_both

static encdiff_status shape_dropout(rule *r)
{
    NEED(r->node->attr.dropout.rate >= 0 && r->node->attr.dropout.rate < 1, "the rate must be in [0, 1)");
    NEED(r->node->attr.dropout.stream >= 0 && r->node->attr.dropout.stream < 4096, "the stream must be below 4096");
    return same_as_first(r);
}

static encdiff_status shape_scale_by(rule *r)
{
    NEED(ed_shape_count(r->in[1]) == 1, "s must be one number");
    return same_as_first(r);
}

static encdiff_status shape_geglu(rule *r)
{
    NEED(ed_shape_last(r->in[0]) % 2 == 0, "the channels must be even");
    r->out[0] = with_last(r->in[0], ed_shape_last(r->in[0]) / 2);
    return ENCDIFF_OK;
}

static encdiff_status shape_geglu_grad(rule *r)
{
    NEED(ed_shape_count(r->in[0]) == 2 * ed_shape_count(r->in[1]), "dy must have half of x's channels");
    return same_as_first(r);
}

static encdiff_status shape_add_vector(rule *r)
{
    const ed_shape *x = r->in[0], *e = r->in[1];
    NEED(e->rank == 2 && e->dim[0] == x->dim[0] && e->dim[1] == ed_shape_last(x), "e must be [n, c]");
    return same_as_first(r);
}

static encdiff_status shape_sum_positions(rule *r)
{
    r->out[0] = ED_SHAPE2(r->in[0]->dim[0], ed_shape_last(r->in[0]));
    return ENCDIFF_OK;
}

static encdiff_status shape_channel_affine(rule *r)
{
    int64_t c = ed_shape_last(r->in[0]);
    NEED(is_vector(r->in[1], c) && is_vector(r->in[2], c), "s and t must be [c]");
    return same_as_first(r);
}

static encdiff_status shape_channel_scale(rule *r)
{
    NEED(is_vector(r->in[1], ed_shape_last(r->in[0])), "s must be [c]");
    return same_as_first(r);
}

static encdiff_status shape_concat(rule *r)
{
    ed_shape like = with_last(r->in[1], ed_shape_last(r->in[0]));
    NEED(ed_shape_equal(&like, r->in[0]), "all but the channels must agree");
    r->out[0] = with_last(r->in[0], ed_shape_last(r->in[0]) + ed_shape_last(r->in[1]));
    return ENCDIFF_OK;
}

static encdiff_status shape_slice(rule *r)
{
    int from = r->node->attr.slice.from, to = r->node->attr.slice.to;
    NEED(from >= 0 && from < to && to <= ed_shape_last(r->in[0]), "the range must lie within the channels");
    r->out[0] = with_last(r->in[0], to - from);
    return ENCDIFF_OK;
}

static encdiff_status shape_zeros(rule *r)
{
    NEED(r->given, "the shape must be given");
    r->out[0] = *r->given;
    return ENCDIFF_OK;
}

static encdiff_status shape_reshape(rule *r)
{
    NEED(r->given && ed_shape_count(r->given) == ed_shape_count(r->in[0]), "the number of elements must stay");
    r->out[0] = *r->given;
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- resampling */

static encdiff_status shape_upsample(rule *r)
{
    const ed_shape *x = r->in[0];
    int f = r->node->attr.resample.factor;
    NEED(x->rank == 4 && f >= 1, "x must be [n, h, w, c] and the factor positive");
    r->out[0] = ED_SHAPE4(x->dim[0], x->dim[1] * f, x->dim[2] * f, x->dim[3]);
    return ENCDIFF_OK;
}

static encdiff_status shape_pool(rule *r)
{
    const ed_shape *x = r->in[0];
    int f = r->node->attr.resample.factor;
    NEED(x->rank == 4 && f >= 1 && x->dim[1] % f == 0 && x->dim[2] % f == 0,
         "height and width must be multiples of the factor");
    r->out[0] = ED_SHAPE4(x->dim[0], x->dim[1] / f, x->dim[2] / f, x->dim[3]);
    return ENCDIFF_OK;
}

static encdiff_status shape_max_pool(rule *r)
{
    const ed_shape *x = r->in[0];
    NEED(x->rank == 4 && x->dim[1] >= 2 && x->dim[2] >= 2, "x must be [n, h, w, c] with at least 2x2 pixels");
    r->out[0] = ED_SHAPE4(x->dim[0], x->dim[1] / 2, x->dim[2] / 2, x->dim[3]);
    return ENCDIFF_OK;
}

#define shape_max_pool_grad same_as_first

static encdiff_status shape_window_pool(rule *r)
{
    const ed_shape *x = r->in[0];
    int size = r->node->attr.window.size, stride = r->node->attr.window.stride, pad = r->node->attr.window.pad;
    NEED(x->rank == 4, "x must have four dimensions");
    NEED(size >= 1 && stride >= 1 && pad >= 0 && 2 * pad <= size, "padding reaches over more than half of the window");
    r->out[0] = ED_SHAPE4(x->dim[0], conv_extent(x->dim[1], size, stride, pad, pad),
                          conv_extent(x->dim[2], size, stride, pad, pad), x->dim[3]);
    NEED(r->out[0].dim[1] > 0 && r->out[0].dim[2] > 0, "the window is larger than the padded image");
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- diffusion, losses, quantisation */

static encdiff_status shape_timestep_embedding(rule *r)
{
    NEED(r->in[0]->rank == 1 && r->given && r->given->rank == 2 && r->given->dim[0] == r->in[0]->dim[0] &&
             r->given->dim[1] > 1,
         "t must be [n], the given shape [n, dim]");
    r->out[0] = *r->given;
    return ENCDIFF_OK;
}

static encdiff_status shape_q_sample(rule *r)
{
    const ed_shape *k = r->in[2];
    NEED(k->rank == 2 && k->dim[0] == r->in[0]->dim[0] && k->dim[1] == 2, "k must be [n, 2]");
    return same_as_both(r);
}

static encdiff_status per_image(rule *r)
{
    NEED(r->in[0]->rank >= 1, "the first dimension must be the images");
    r->out[0] = ED_SHAPE1(r->in[0]->dim[0]);
    return ENCDIFF_OK;
}
#define shape_mean_loss per_image

static encdiff_status shape_difference_loss(rule *r)
{
    NEED(ed_shape_equal(r->in[0], r->in[1]), "both must have one shape");
    return per_image(r);
}

static encdiff_status shape_difference_loss_grad(rule *r)
{
    NEED(is_vector(r->in[2], r->in[0]->dim[0]), "dloss must be [n]");
    return same_as_both(r);
}

static encdiff_status shape_mean_loss_grad(rule *r)
{
    NEED(is_vector(r->in[1], r->in[0]->dim[0]), "dloss must be [n]");
    return same_as_first(r);
}

static encdiff_status shape_quantize(rule *r)
{
    const ed_shape *z = r->in[0], *e = r->in[1];
    NEED(z->rank == 4 && e->rank == 2 && e->dim[0] >= 1 && e->dim[1] == z->dim[3], "z must be [n, h, w, c], e [k, c]");
    r->out[0] = *z;
    r->out[1] = ED_SHAPE3(z->dim[0], z->dim[1], z->dim[2]);
    r->type[1] = ED_I32;
    r->out[2] = ED_SHAPE1(z->dim[0]);
    return ENCDIFF_OK;
}

#define shape_quantize_grad same_as_first

static encdiff_status shape_gaussian_sample(rule *r)
{
    ed_shape z = with_last(r->in[0], ed_shape_last(r->in[0]) / 2);
    NEED(ed_shape_last(r->in[0]) % 2 == 0 && ed_shape_equal(&z, r->in[1]),
         "the noise must have half of the moments' channels");
    r->out[0] = z;
    r->out[1] = ED_SHAPE1(z.dim[0]);
    return ENCDIFF_OK;
}

#define shape_gaussian_sample_grad same_as_first

static encdiff_status shape_lpips_distance(rule *r)
{
    NEED(ed_shape_equal(r->in[0], r->in[1]) && is_vector(r->in[2], ed_shape_last(r->in[0])),
         "x and y must agree, w must be [c]");
    return per_image(r);
}

#define shape_lpips_distance_grad same_as_first

static encdiff_status shape_adaptive_weight(rule *r)
{
    NEED(ed_shape_count(r->in[2]) == 1, "factor must be one number");
    r->out[0] = ED_SHAPE1(1);
    return ENCDIFF_OK;
}

typedef encdiff_status shape_rule(rule *r);

static shape_rule *const shape_rules[] = {
#define ED_OP(id, name, inputs, outputs, accumulated, in_place) shape_##name,
#include "graph/ops.def"
#undef ED_OP
};

/* Inputs that an operator can do without, as a bit mask. */
static uint32_t optional_inputs(ed_op op)
{
    switch (op) {
    case ED_OP_CONV2D:
    case ED_OP_LINEAR: return 0xC;
    case ED_OP_GROUP_NORM: return 0x8;
    case ED_OP_CONV2D_GRAD_WEIGHT:
    case ED_OP_LINEAR_GRAD_WEIGHT: return 0x8;
    case ED_OP_GROUP_NORM_GRAD: return 0x8 | 0xC0 | 0x100;
    case ED_OP_LAYER_NORM_GRAD: return 0x30 | 0x40;
    case ED_OP_BATCH_NORM_GRAD: return 0x60;
    case ED_OP_QUANTIZE_GRAD: return 0x38;
    case ED_OP_GAUSSIAN_SAMPLE_GRAD: return 0xC;
    default: return 0;
    }
}

encdiff_status ed_op_infer(ed_graph *graph, ed_node *node, const ed_shape *given, ed_shape *shapes, ed_type *types)
{
    rule r = {.graph = graph, .node = node, .given = given, .out = shapes, .type = types};
    for (int i = 0; i < table[node->op].inputs; i++) {
        if (node->in[i] != ED_NONE)
            r.in[i] = &graph->values[node->in[i]].shape;
        else if (!(optional_inputs(node->op) >> i & 1))
            return ed_fail(graph->env, ENCDIFF_ERROR_INTERNAL, "operator %s, node %zu: input %d is missing",
                           table[node->op].name, graph->node_count, i);
    }
    ED_TRY(ed_op_infer_types(graph, node, types));
    return shape_rules[node->op](&r);
}

/* ---------------------------------------------------------------- cost */

static double count_of(const ed_graph *graph, ed_value value)
{
    return value == ED_NONE ? 0 : (double)ed_shape_count(&graph->values[value].shape);
}

static double bytes_of(const ed_graph *graph, ed_value value)
{
    return value == ED_NONE ? 0 : count_of(graph, value) * (double)ed_type_size(graph->values[value].type);
}

/* Floating-point operations per element of the first input, for what is not a product; exp and erf count ten. */
static double flops_per_element(ed_op op)
{
    switch (op) {
    case ED_OP_GROUP_NORM:
    case ED_OP_LAYER_NORM:
    case ED_OP_BATCH_NORM: return 8;
    case ED_OP_GROUP_NORM_GRAD:
    case ED_OP_LAYER_NORM_GRAD:
    case ED_OP_BATCH_NORM_GRAD: return 16;
    case ED_OP_GEGLU:
    case ED_OP_ACTIVATION: return 12;
    case ED_OP_GEGLU_GRAD:
    case ED_OP_ACTIVATION_GRAD: return 20;
    case ED_OP_ZEROS:
    case ED_OP_CONVERT:
    case ED_OP_RESHAPE:
    case ED_OP_CONCAT:
    case ED_OP_SLICE: return 0;
    default: return 2;
    }
}

ed_cost ed_op_cost(const ed_graph *graph, const ed_node *node)
{
    ed_cost cost = {0};
    if (node->op == ED_OP_RESHAPE) return cost;
    for (int i = 0; i < ED_MAX_INPUTS; i++)
        cost.bytes += bytes_of(graph, node->in[i]) * (table[node->op].accumulated >> i & 1 ? 2 : 1);
    for (int i = 0; i < ED_MAX_OUTPUTS; i++) cost.bytes += bytes_of(graph, node->out[i]);
    const ed_value *in = node->in;
    const ed_shape *second = in[1] == ED_NONE ? NULL : &graph->values[in[1]].shape;
    switch (node->op) {
    case ED_OP_CONV2D:
    case ED_OP_LINEAR: cost.flops = 2 * count_of(graph, node->out[0]) * (double)row_size(second); break;
    case ED_OP_CONV2D_GRAD_INPUT:
    case ED_OP_LINEAR_GRAD_INPUT: cost.flops = 2 * count_of(graph, in[0]) * (double)row_size(second); break;
    case ED_OP_CONV2D_GRAD_WEIGHT:
    case ED_OP_LINEAR_GRAD_WEIGHT:
        cost.flops = 2 * count_of(graph, in[1]) * (double)row_size(&graph->values[in[2]].shape);
        break;
    case ED_OP_BATCHED_LINEAR: cost.flops = 2 * count_of(graph, node->out[0]) * (double)second->dim[2]; break;
    case ED_OP_BATCHED_LINEAR_GRAD_INPUT:
        cost.flops = 2 * count_of(graph, node->out[0]) * (double)second->dim[1];
        break;
    case ED_OP_BATCHED_LINEAR_GRAD_WEIGHT: cost.flops = 2 * count_of(graph, in[0]) * (double)second->dim[2]; break;
    case ED_OP_ATTENTION: cost.flops = 4 * count_of(graph, in[0]) * (double)second->dim[1]; break;
    case ED_OP_ATTENTION_MAP: cost.flops = 2 * count_of(graph, in[0]) * (double)second->dim[1]; break;
    case ED_OP_ATTENTION_GRAD: cost.flops = 10 * count_of(graph, in[0]) * (double)second->dim[1]; break;
    case ED_OP_QUANTIZE: cost.flops = 2 * count_of(graph, in[0]) * (double)second->dim[0]; break;
    default: cost.flops = flops_per_element(node->op) * count_of(graph, in[0] == ED_NONE ? node->out[0] : in[0]); break;
    }
    return cost;
}
