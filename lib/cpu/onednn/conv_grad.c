/*
 * Gradients of a convolution. For the input: the gradients of all patches are a product with the weights, and each is
 * added back where its patch came from. For the weights: a product of dy with the patches, added up over the blocks.
 */
#include "cpu/onednn/internal.h"

static size_t block_bytes(const ed_conv *g)
{
    return ed_conv_is_product(g) ? 0 : (size_t)(ed_conv_block(g) * g->patch) * sizeof(float);
}

/* ---------------------------------------------------------------- dy w -> dx */

static ed_conv describe_input(const ed_graph *graph, const ed_node *node)
{
    return ed_conv_describe(graph, node, node->out[0], node->in[1], node->in[0]);
}

static encdiff_status prepare_input(ed_env *env, const ed_graph *graph, const ed_node *node, size_t *scratch,
                                    void **state)
{
    (void)env, (void)state;
    ed_conv g = describe_input(graph, node);
    *scratch = block_bytes(&g);
    return ENCDIFF_OK;
}

static encdiff_status run_input(const ed_call *call)
{
    ed_conv g = describe_input(call->graph, call->node);
    const float *dy = call->in[0];
    float *dx = call->out[0];
    bool product = ed_conv_is_product(&g);
    int64_t block = product ? g.pixels : ed_conv_block(&g);
    if (!product) memset(dx, 0, (size_t)(g.n * g.h * g.w * g.c) * sizeof *dx);
    for (int64_t first = 0; first < g.pixels; first += block) {
        ed_layer l = {ED_MIN(block, g.pixels - first), g.patch, g.o, g.patch, g.o};
        ED_TRY(ed_layer_grad_input(call->env, &l, dy + first * g.o, call->in[1], product ? dx : call->scratch));
        if (!product) ed_col2im(&g, call->scratch, first, l.rows, dx);
    }
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- x dy dw+= db+=? */

static ed_conv describe_weight(const ed_graph *graph, const ed_node *node)
{
    return ed_conv_describe(graph, node, node->in[0], node->in[2], node->in[1]);
}

static encdiff_status prepare_weight(ed_env *env, const ed_graph *graph, const ed_node *node, size_t *scratch,
                                     void **state)
{
    (void)env, (void)state;
    ed_conv g = describe_weight(graph, node);
    *scratch = block_bytes(&g);
    return ENCDIFF_OK;
}

static encdiff_status run_weight(const ed_call *call)
{
    ed_conv g = describe_weight(call->graph, call->node);
    const float *x = call->in[0], *dy = call->in[1];
    bool product = ed_conv_is_product(&g);
    int64_t block = product ? g.pixels : ed_conv_block(&g);
    for (int64_t first = 0; first < g.pixels; first += block, dy += block * g.o) {
        ed_layer l = {ED_MIN(block, g.pixels - first), g.patch, g.o, g.patch, g.o};
        if (!product) ed_im2col(&g, x, first, l.rows, call->scratch);
        if (call->in[3]) ed_layer_grad_bias(&l, dy, call->in[3]);
        ED_TRY(ed_layer_grad_weight(call->env, &l, product ? x : call->scratch, dy, call->in[2]));
    }
    return ENCDIFF_OK;
}

const ed_kernel ed_cpu_conv2d_grad_input = {.prepare = prepare_input, .run = run_input};
const ed_kernel ed_cpu_conv2d_grad_weight = {.prepare = prepare_weight, .run = run_weight};
