/*
 * Gradients of a convolution. For the input: the gradients of all patches are a product with the weights, and each is
 * added back where its patch came from; or oneDNN's primitive. For the weights: a product of dy with the patches, added
 * up over the blocks, which is faster than the primitive at every size.
 */
#include "cpu/onednn/internal.h"

/* One block of output pixels as a layer of patches. */
static ed_layer block_layer(const ed_conv *g, int64_t first, int64_t block, int64_t pitch)
{
    return (ed_layer){ED_MIN(block, g->pixels - first), g->patch, g->o, pitch, g->o};
}

/* ---------------------------------------------------------------- dy w -> dx */

static ed_conv describe_input(const ed_graph *graph, const ed_node *node)
{
    return ed_conv_describe(graph, node, node->out[0], node->in[1], node->in[0]);
}

/* All pixels, which is what decides whether the weights are worth copying. */
static ed_layer whole_layer(const ed_conv *g) { return block_layer(g, 0, g->pixels, g->patch); }

/* Scratch: weights in a good pitch (whole vectors), then a block of patches. */
static size_t weights_size(const ed_conv *g)
{
    ed_layer whole = whole_layer(g);
    return (ed_layer_weights_size(&whole) + 15) / 16 * 16;
}

/* Measured with AVX2, one thread, GF/s of the primitive and of patches: 64->64 at 16x16 98 and 87, 128->128 at 8x8 102
 * and 90, 256->256 at 4x4 92 and 91; 4x4 stride 2, 128->128 at 32x32 83 and 90; 3->32 at 64x64 26 and 41. */
static bool prefers_primitive(const ed_conv *g)
{
    bool strided = g->stride > 1 && g->c > 64;
    return !ed_conv_is_product(g) && g->oh * g->ow >= 64 && g->c % 8 == 0 && !strided;
}

static encdiff_status prepare_input(ed_env *env, const ed_graph *graph, const ed_node *node, size_t *scratch,
                                    void **state)
{
    ed_conv g = describe_input(graph, node);
    ed_direct *direct = NULL;
    if (prefers_primitive(&g)) ED_TRY(ed_direct_create(env, &g, ED_DIRECT_GRAD_INPUT, false, false, &direct));
    *state = direct;
    size_t patches = ed_conv_is_product(&g) ? 0 : (size_t)(ed_conv_block(&g) * g.patch);
    *scratch = direct ? ed_direct_scratch(direct) : (weights_size(&g) + patches) * sizeof(float);
    return ENCDIFF_OK;
}

static encdiff_status run_input_patches(const ed_call *call, const ed_conv *g)
{
    const float *dy = call->in[0];
    float *dx = call->out[0];
    bool product = ed_conv_is_product(g);
    int64_t block = product ? g->pixels : ed_conv_block(g), ldw;
    ed_layer whole = whole_layer(g);
    const float *w = ed_layer_weights(&whole, call->in[1], call->scratch, &ldw);
    float *col = product ? dx : (float *)call->scratch + weights_size(g);
    if (!product) memset(dx, 0, (size_t)(g->n * g->h * g->w * g->c) * sizeof *dx);
    for (int64_t first = 0; first < g->pixels; first += block) {
        ed_layer l = block_layer(g, first, block, g->patch);
        ED_TRY(ed_layer_grad_input(call->env, &l, dy + first * g->o, w, ldw, col));
        if (!product) ed_col2im(g, col, first, l.rows, dx);
    }
    return ENCDIFF_OK;
}

static encdiff_status run_input(const ed_call *call)
{
    ed_conv g = describe_input(call->graph, call->node);
    if (!call->state) return run_input_patches(call, &g);
    return ed_direct_run(call->env, call->state, call->in[0], call->in[1], NULL, call->out[0], call->scratch);
}

static void release_input(ed_env *env, void *state) { ed_direct_free(env, state); }

/* ---------------------------------------------------------------- x dy dw+= db+=? */

/* Scratch: a block of patches in a good pitch (nothing when x is the patches), then what the product asks for. */
typedef struct weight_plan {
    int64_t block, pitch;
    size_t patches; /* floats */
    size_t total;
} weight_plan;

static weight_plan plan_weight(const ed_conv *g)
{
    weight_plan p = {.block = g->pixels, .pitch = g->patch};
    if (!ed_conv_is_product(g)) {
        p.block = ed_conv_block(g);
        p.pitch = ed_pitch(g->patch);
        p.patches = (size_t)(p.block * p.pitch + 15) / 16 * 16;
    }
    ed_layer l = block_layer(g, 0, p.block, p.pitch);
    p.total = p.patches + ed_layer_grad_weight_size(&l);
    return p;
}

static ed_conv describe_weight(const ed_graph *graph, const ed_node *node)
{
    return ed_conv_describe(graph, node, node->in[0], node->in[2], node->in[1]);
}

static encdiff_status prepare_weight(ed_env *env, const ed_graph *graph, const ed_node *node, size_t *scratch,
                                     void **state)
{
    (void)env, (void)state;
    ed_conv g = describe_weight(graph, node);
    *scratch = plan_weight(&g).total * sizeof(float);
    return ENCDIFF_OK;
}

static encdiff_status run_weight(const ed_call *call)
{
    ed_conv g = describe_weight(call->graph, call->node);
    weight_plan p = plan_weight(&g);
    const float *x = call->in[0], *dy = call->in[1];
    float *col = call->scratch;
    for (int64_t first = 0; first < g.pixels; first += p.block, dy += p.block * g.o) {
        ed_layer l = block_layer(&g, first, p.block, p.pitch);
        if (p.patches) ed_im2col(&g, x, first, l.rows, col, p.pitch);
        if (call->in[3]) ed_layer_grad_bias(&l, dy, call->in[3]);
        ED_TRY(ed_layer_grad_weight(call->env, &l, p.patches ? col : x, dy, call->in[2], col ? col + p.patches : NULL));
    }
    return ENCDIFF_OK;
}

const ed_kernel ed_cpu_conv2d_grad_input = {.prepare = prepare_input, .run = run_input, .release = release_input};
const ed_kernel ed_cpu_conv2d_grad_weight = {.prepare = prepare_weight, .run = run_weight};
