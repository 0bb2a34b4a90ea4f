/*
 * Convolution: y[n,oh,ow,o] = x[n,h,w,c] * w[o,kh,kw,c] + b + r.
 *
 * Two ways. Patches are gathered block by block and multiplied by the weights as they are; this works for every shape
 * and is best where the images are small. oneDNN's primitive needs no patches and is best where they are large.
 */
#include "cpu/onednn/internal.h"

static ed_conv describe(const ed_graph *graph, const ed_node *node)
{
    return ed_conv_describe(graph, node, node->in[0], node->in[1], node->out[0]);
}

/* Measured with AVX2, one thread, GF/s of the primitive and of patches: 64->64 at 16x16 91 and 86, 128->128 at 8x8 85
 * and 90, 256->256 at 4x4 70 and 90; 3->32 at 64x64 85 and 41; 32->3 at 64x64 14 and 15. */
static bool prefers_primitive(const ed_conv *g)
{
    return !ed_conv_is_product(g) && g->oh * g->ow >= 144 && g->o % 8 == 0;
}

static encdiff_status prepare(ed_env *env, const ed_graph *graph, const ed_node *node, size_t *scratch, void **state)
{
    ed_conv g = describe(graph, node);
    ed_direct *direct = NULL;
    if (prefers_primitive(&g))
        ED_TRY(ed_direct_create(env, &g, ED_DIRECT_FORWARD, node->in[2] != ED_NONE, node->in[3] != ED_NONE, &direct));
    *state = direct;
    if (direct)
        *scratch = ed_direct_scratch(direct);
    else
        *scratch = ed_conv_is_product(&g) ? 0 : (size_t)(ed_conv_block(&g) * g.patch) * sizeof(float);
    return ENCDIFF_OK;
}

static encdiff_status run_patches(const ed_call *call, const ed_conv *g)
{
    bool product = ed_conv_is_product(g);
    int64_t block = product ? g->pixels : ed_conv_block(g);
    const float *x = call->in[0], *r = call->in[3];
    float *y = call->out[0];
    for (int64_t first = 0; first < g->pixels; first += block) {
        ed_layer l = {ED_MIN(block, g->pixels - first), g->patch, g->o, g->patch, g->o};
        if (!product) ed_im2col(g, x, first, l.rows, call->scratch, g->patch);
        ED_TRY(ed_layer_forward(call->env, &l, product ? x : call->scratch, call->in[1], call->in[2],
                                r ? r + first * g->o : NULL, y + first * g->o));
    }
    return ENCDIFF_OK;
}

static encdiff_status run(const ed_call *call)
{
    ed_conv g = describe(call->graph, call->node);
    if (!call->state) return run_patches(call, &g);
    if (call->in[3]) memcpy(call->out[0], call->in[3], (size_t)(g.pixels * g.o) * sizeof(float));
    return ed_direct_run(call->env, call->state, call->in[0], call->in[1], call->in[2], call->out[0], call->scratch);
}

static void release(ed_env *env, void *state) { ed_direct_free(env, state); }

const ed_kernel ed_cpu_conv2d = {.prepare = prepare, .run = run, .release = release};
