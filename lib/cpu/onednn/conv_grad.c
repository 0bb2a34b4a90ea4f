/*
 * Gradients of a convolution. For the input: the gradients of all patches are a product with the weights, and each is
 * added back where its patch came from; or oneDNN's primitive. For the weights: a product of dy with the patches, added
 * up over the blocks, which is faster than the primitive at every size.
 */
#include "cpu/onednn/internal.h"

/* ---------------------------------------------------------------- dy w -> dx */

static ed_conv describe_input(const ed_graph *graph, const ed_node *node)
{
    return ed_conv_describe(graph, node, node->out[0], node->in[1], node->in[0]);
}

/* Measured with AVX2, one thread, GF/s of the primitive and of patches: 64->64 at 16x16 98 and 87, 128->128 at 8x8 102
 * and 90, 256->256 at 4x4 92 and 104 (bands counted as whole); 4x4 stride 2, 128->128 at 32x32 83 and 90; 3->32 at
 * 64x64 26 and 41. */
static bool prefers_primitive(const ed_conv *g)
{
    bool strided = g->stride > 1 && g->c > 64;
    return !ed_conv_is_product(g) && g->oh * g->ow >= 64 && g->c % 8 == 0 && !strided;
}

/* Parts of scratch, in floats: weights in a good pitch, a block of patches, a block of dy. */
typedef struct input_plan {
    int count;
    ed_band bands[ED_MAX_BANDS];
    bool product, copies;
    int64_t ldw;
    size_t weights, patches, packed;
} input_plan;

static input_plan plan_input(const ed_conv *g)
{
    input_plan p = {.product = ed_conv_is_product(g), .ldw = g->patch};
    p.count = ed_conv_bands(g, p.bands);
    ed_layer all = {g->pixels, g->patch, g->o, g->patch, g->o, g->patch};
    p.copies = ed_layer_copies_weights(&all);
    if (p.copies) {
        p.ldw = ed_pitch(g->patch);
        p.weights = ed_part(g->o, p.ldw);
    }
    for (int i = 0; i < p.count && !p.product; i++) {
        int64_t block = ed_conv_block(&p.bands[i].g);
        p.patches = ED_MAX(p.patches, ed_part(block, p.bands[i].g.patch));
        if (!ed_band_is_whole(&p.bands[i])) p.packed = ED_MAX(p.packed, ed_part(block, g->o));
    }
    return p;
}

static encdiff_status prepare_input(ed_env *env, const ed_graph *graph, const ed_node *node, size_t *scratch,
                                    void **state)
{
    ed_conv g = describe_input(graph, node);
    ed_direct *direct = NULL;
    if (prefers_primitive(&g)) ED_TRY(ed_direct_create(env, &g, ED_DIRECT_GRAD_INPUT, false, false, &direct));
    *state = direct;
    input_plan p = plan_input(&g);
    *scratch = direct ? ed_direct_scratch(direct) : (p.weights + p.patches + p.packed) * sizeof(float);
    return ENCDIFF_OK;
}

static encdiff_status run_input_band(const ed_call *call, const input_plan *p, const ed_band *band, const float *w)
{
    const ed_conv *g = &band->g;
    float *col = (float *)call->scratch + p->weights, *packed = col + p->patches;
    int64_t block = ed_conv_block(g);
    for (int64_t first = 0; first < g->pixels; first += block) {
        int64_t rows = ED_MIN(block, g->pixels - first);
        ed_layer l = {rows, g->patch, g->o, g->patch, g->o, p->ldw};
        const float *dy = (const float *)call->in[0] + first * g->o;
        if (!ed_band_is_whole(band)) {
            ed_band_gather(band, call->in[0], first, rows, packed, g->o);
            dy = packed;
        }
        ED_TRY(ed_layer_grad_input(call->env, &l, dy, w + band->weights, col));
        ed_col2im(g, col, first, rows, call->out[0]);
    }
    return ENCDIFF_OK;
}

static encdiff_status run_input(const ed_call *call)
{
    ed_conv g = describe_input(call->graph, call->node);
    const float *w = call->in[1];
    if (call->state) return ed_direct_run(call->env, call->state, call->in[0], w, NULL, call->out[0], call->scratch);
    input_plan p = plan_input(&g);
    if (p.copies) {
        ed_copy_rows(g.o, g.patch, w, g.patch, call->scratch, p.ldw);
        w = call->scratch;
    }
    if (p.product) {
        ed_layer l = {g.pixels, g.patch, g.o, g.patch, g.o, p.ldw};
        return ed_layer_grad_input(call->env, &l, call->in[0], w, call->out[0]);
    }
    memset(call->out[0], 0, (size_t)(g.n * g.h * g.w * g.c) * sizeof(float));
    for (int i = 0; i < p.count; i++) ED_TRY(run_input_band(call, &p, &p.bands[i], w));
    return ENCDIFF_OK;
}

static void release_input(ed_env *env, void *state) { ed_direct_free(env, state); }

/* ---------------------------------------------------------------- x dy dw+= db+=? */

static ed_conv describe_weight(const ed_graph *graph, const ed_node *node)
{
    return ed_conv_describe(graph, node, node->in[0], node->in[2], node->in[1]);
}

/* A block of a band as a layer: patches in a good pitch, dy in place or gathered in a good pitch. */
static ed_layer weight_layer(const ed_band *band, int64_t rows)
{
    int64_t ldy = ed_band_is_whole(band) ? band->g.o : ed_pitch(band->g.o);
    return (ed_layer){rows, band->g.patch, band->g.o, ed_pitch(band->g.patch), ldy, band->kernel};
}

/* Scratch of a band: patches, then dy or what the product asks for to read it in place. */
static size_t weight_size(const ed_band *band)
{
    ed_layer l = weight_layer(band, ed_conv_block(&band->g));
    size_t packed = ed_band_is_whole(band) ? ed_layer_grad_weight_size(&l) : ed_part(l.rows, l.ldy);
    return ed_part(l.rows, l.ldx) + packed;
}

static encdiff_status prepare_weight(ed_env *env, const ed_graph *graph, const ed_node *node, size_t *scratch,
                                     void **state)
{
    (void)env, (void)state;
    ed_conv g = describe_weight(graph, node);
    ed_layer all = {g.pixels, g.patch, g.o, g.patch, g.o, g.patch};
    ed_band bands[ED_MAX_BANDS];
    size_t most = 0;
    if (ed_conv_is_product(&g))
        most = ed_layer_grad_weight_size(&all);
    else
        for (int i = 0, count = ed_conv_bands(&g, bands); i < count; i++) most = ED_MAX(most, weight_size(&bands[i]));
    *scratch = most * sizeof(float);
    return ENCDIFF_OK;
}

static encdiff_status run_weight_band(const ed_call *call, const ed_band *band)
{
    const ed_conv *g = &band->g;
    int64_t block = ed_conv_block(g);
    float *col = call->scratch, *rest = col + ed_part(block, ed_pitch(g->patch));
    for (int64_t first = 0; first < g->pixels; first += block) {
        ed_layer l = weight_layer(band, ED_MIN(block, g->pixels - first));
        const float *dy = (const float *)call->in[1] + first * g->o;
        if (!ed_band_is_whole(band)) {
            ed_band_gather(band, call->in[1], first, l.rows, rest, l.ldy);
            dy = rest;
        }
        if (call->in[3]) ed_layer_grad_bias(&l, dy, call->in[3]);
        ed_im2col(g, call->in[0], first, l.rows, col, l.ldx);
        ED_TRY(ed_layer_grad_weight(call->env, &l, col, dy, (float *)call->in[2] + band->weights,
                                    ed_band_is_whole(band) ? rest : NULL));
    }
    return ENCDIFF_OK;
}

static encdiff_status run_weight(const ed_call *call)
{
    ed_conv g = describe_weight(call->graph, call->node);
    if (ed_conv_is_product(&g)) {
        ed_layer l = {g.pixels, g.patch, g.o, g.patch, g.o, g.patch};
        if (call->in[3]) ed_layer_grad_bias(&l, call->in[1], call->in[3]);
        return ed_layer_grad_weight(call->env, &l, call->in[0], call->in[1], call->in[2], call->scratch);
    }
    ed_band bands[ED_MAX_BANDS];
    for (int i = 0, count = ed_conv_bands(&g, bands); i < count; i++) ED_TRY(run_weight_band(call, &bands[i]));
    return ENCDIFF_OK;
}

const ed_kernel ed_onednn_conv2d_grad_input = {.prepare = prepare_input, .run = run_input, .release = release_input};
const ed_kernel ed_onednn_conv2d_grad_weight = {.prepare = prepare_weight, .run = run_weight};
