/*
 * Convolution: y[n,oh,ow,o] = x[n,h,w,c] * w[o,kh,kw,c] + b + r.
 *
 * Two ways. Patches are gathered block by block and multiplied by the weights as they are; this works for every shape
 * and is best where the images are small. oneDNN's primitive needs no patches and is best where they are large. Its
 * objects serve one thread at a time, so that the parts of a call always go by patches.
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

/* Scratch of patches: a block of them, then a block of products where those do not go to y directly. */
static size_t patches_size(const ed_conv *g)
{
    if (ed_conv_is_product(g)) return 0;
    ed_band bands[ED_MAX_BANDS];
    size_t most = 0;
    for (int i = 0, count = ed_conv_bands(g, bands); i < count; i++) {
        int64_t block = ed_conv_block(&bands[i].g);
        size_t size = ed_part(block, bands[i].g.patch) + (ed_band_is_whole(&bands[i]) ? 0 : ed_part(block, g->o));
        most = ED_MAX(most, size);
    }
    return most;
}

static encdiff_status prepare(ed_env *env, const ed_graph *graph, const ed_node *node, size_t *scratch, void **state)
{
    ed_conv g = describe(graph, node);
    ed_direct *direct = NULL;
    if (prefers_primitive(&g))
        ED_TRY(ed_direct_create(env, &g, ED_DIRECT_FORWARD, node->in[2] != ED_NONE, node->in[3] != ED_NONE, &direct));
    *state = direct;
    *scratch = direct ? ed_direct_scratch(direct) : patches_size(&g) * sizeof(float);
    return ENCDIFF_OK;
}

static size_t part_scratch(const ed_graph *graph, const ed_node *node, int parts)
{
    (void)parts;
    ed_conv g = describe(graph, node);
    return patches_size(&g) * sizeof(float);
}

/* Put rows of products, of `count` channels each, where their pixels are, with bias and residual. */
static void scatter(const ed_band *band, int64_t first, int64_t rows, const float *packed, int64_t count,
                    const float *b, const float *r, float *y)
{
    for (int64_t done = 0, offset, run; done < rows; done += run) {
        run = ed_band_run(band, first + done, rows - done, &offset);
        for (int64_t i = 0; i < run; i++, packed += count, offset += band->g.o)
            for (int64_t j = 0; j < count; j++) y[offset + j] = packed[j] + (b ? b[j] : 0) + (r ? r[offset + j] : 0);
    }
}

static encdiff_status run_band(const ed_call *call, const ed_band *band)
{
    const ed_conv *g = &band->g;
    ed_layer l = {g->pixels, g->patch, g->o, g->patch, g->o, band->kernel};
    ed_range pixels, channels;
    ed_layer_share(call, &l, &pixels, &channels);
    if (channels.first == channels.last) return ENCDIFF_OK;
    const float *x = call->in[0], *w = (const float *)call->in[1] + band->weights + channels.first * band->kernel;
    const float *b = call->in[2] ? (const float *)call->in[2] + channels.first : NULL;
    const float *r = call->in[3] ? (const float *)call->in[3] + channels.first : NULL;
    float *y = (float *)call->out[0] + channels.first, *col = call->scratch;
    bool whole = ed_band_is_whole(band);
    int64_t block = ed_conv_block(g), count = channels.last - channels.first;
    float *packed = col + ed_part(block, g->patch);
    for (int64_t first = pixels.first; first < pixels.last; first += block) {
        int64_t rows = ED_MIN(block, pixels.last - first), at = first * g->o;
        l.rows = rows, l.out = count, l.ldy = whole ? g->o : count;
        ed_im2col(g, x, first, rows, col, g->patch);
        if (whole) {
            ED_TRY(ed_layer_forward(call->env, &l, col, w, b, r ? r + at : NULL, y + at));
        } else {
            ED_TRY(ed_layer_forward(call->env, &l, col, w, NULL, NULL, packed));
            scatter(band, first, rows, packed, count, b, r, y);
        }
    }
    return ENCDIFF_OK;
}

static encdiff_status run_patches(const ed_call *call, const ed_conv *g)
{
    if (ed_conv_is_product(g)) {
        ed_layer l = {g->pixels, g->patch, g->o, g->patch, g->o, g->patch};
        return ed_layer_call(call, &l);
    }
    ed_band bands[ED_MAX_BANDS];
    for (int i = 0, count = ed_conv_bands(g, bands); i < count; i++) ED_TRY(run_band(call, &bands[i]));
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

const ed_kernel ed_onednn_conv2d = {
    .prepare = prepare, .run = run, .release = release, .parts = true, .part_scratch = part_scratch};
