/*
 * Convolution: y[n,oh,ow,o] = x[n,h,w,c] * w[o,kh,kw,c] + b + r. Patches are gathered block by block and multiplied by
 * the weights as they are, so there is no second copy of them.
 */
#include "cpu/onednn/internal.h"

static ed_conv describe(const ed_graph *graph, const ed_node *node)
{
    return ed_conv_describe(graph, node, node->in[0], node->in[1], node->out[0]);
}

static encdiff_status prepare(ed_env *env, const ed_graph *graph, const ed_node *node, size_t *scratch, void **state)
{
    (void)env, (void)state;
    ed_conv g = describe(graph, node);
    *scratch = ed_conv_is_product(&g) ? 0 : (size_t)(ed_conv_block(&g) * g.patch) * sizeof(float);
    return ENCDIFF_OK;
}

static encdiff_status run(const ed_call *call)
{
    ed_conv g = describe(call->graph, call->node);
    bool product = ed_conv_is_product(&g);
    int64_t block = product ? g.pixels : ed_conv_block(&g);
    const float *x = call->in[0], *r = call->in[3];
    float *y = call->out[0];
    for (int64_t first = 0; first < g.pixels; first += block) {
        ed_layer l = {ED_MIN(block, g.pixels - first), g.patch, g.o, g.patch, g.o};
        if (!product) ed_im2col(&g, x, first, l.rows, call->scratch, g.patch);
        ED_TRY(ed_layer_forward(call->env, &l, product ? x : call->scratch, call->in[1], call->in[2],
                                r ? r + first * g.o : NULL, y + first * g.o));
    }
    return ENCDIFF_OK;
}

const ed_kernel ed_cpu_conv2d = {.prepare = prepare, .run = run};
