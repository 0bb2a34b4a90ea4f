/*
 * The gradient of a 4x4 convolution of stride 2 for its weights by Winograd's algorithm: in each of the four phases
 * (winograd_strided.h), as in winograd_weight.c,
 *
 *   dg += G^T [ sum over tiles of (A dY A^T) . (B^T d B) ] G
 *
 * with 5x5 inputs d of the phase and 4x4 output gradients dY, which all phases share.
 */
#include "cpu/onednn/onednn.h"
#include "cpu/winograd_strided.h"
#include "cpu/winograd_weight.h"

/* ---------------------------------------------------------------- plan */

/* Fewer tiles do not repay the way back through G. */
#define FEWEST_TILES 16
#define BLOCK_TILES 64

/* x dy dw db? */
static bool make_plan(const ed_graph *graph, const ed_node *node, ed_strided *g, ed_weight_plan *p)
{
    if (!ed_strided_describe(graph, node, node->in[0], node->in[2], node->in[1], g)) return false;
    *p = ed_weight_describe(g->c, g->o, ED_STRIDED_PLANES, g->y.tiles, BLOCK_TILES, BLOCK_TILES);
    return g->y.tiles >= FEWEST_TILES;
}

/* ---------------------------------------------------------------- transforms */

/* out = A y, of vectors `pitch` apart. */
ED_INLINE void transform_grads(const ed_vec *y, int pitch, ed_vec out[5])
{
    ed_vec y0 = y[0], y1 = y[pitch], y2 = y[2 * pitch], y3 = y[3 * pitch];
    ed_vec even = y0 + ED_STRIDED_A2 * y2, odd = ED_STRIDED_A * y1 + ED_STRIDED_A * ED_STRIDED_A2 * y3;
    out[0] = even + odd;
    out[1] = even - odd;
    even = y0 + ED_STRIDED_B2 * y2, odd = ED_STRIDED_B * y1 + ED_STRIDED_B * ED_STRIDED_B2 * y3;
    out[2] = even + odd;
    out[3] = even - odd;
    out[4] = y3;
}

/* A dY A^T at channels j .. j+lanes-1. */
ED_INLINE void grad_lanes(const ed_item *const *pixels, int64_t j, float *to, int64_t plane, int lanes)
{
    ed_vec columns[4][5];
    for (int k = 0; k < 4; k++) {
        ed_vec y[4];
        for (int i = 0; i < 4; i++) y[i] = ed_load_some(pixels[4 * i + k] + j, lanes);
        transform_grads(y, 1, columns[k]);
    }
    for (int i = 0; i < 5; i++, to += 5 * plane) {
        ed_vec out[5];
        transform_grads(&columns[0][i], 5, out);
        for (int k = 0; k < 5; k++) ed_store_some(to + k * plane + j, out[k], lanes);
    }
}

/* ---------------------------------------------------------------- dg += G^T S G */

ED_INLINE void transform_sums(const ed_vec s[5], ed_vec out[2])
{
    out[0] = 0.5f * (s[1] - s[0]) + (1.0f / 6.0f) * (s[2] - s[3]);
    out[1] = s[4] + 0.25f * ((s[2] + s[3]) - (s[0] + s[1]));
}

/* To the four taps of a phase, the first of which dw points to. */
ED_INLINE void kernel_lanes(const float *sums, int64_t plane, float *dw, int64_t c, int lanes)
{
    ed_vec columns[5][2];
    for (int k = 0; k < 5; k++) {
        ed_vec s[5];
        for (int i = 0; i < 5; i++) s[i] = ed_load(sums + (5 * i + k) * plane);
        transform_sums(s, columns[k]);
    }
    for (int i = 0; i < 2; i++, dw += 8 * c) {
        ed_vec s[5], out[2];
        for (int k = 0; k < 5; k++) s[k] = columns[k][i];
        transform_sums(s, out);
        ed_store_some(dw, ed_load_some(dw, lanes) + out[0], lanes);
        ed_store_some(dw + 2 * c, ed_load_some(dw + 2 * c, lanes) + out[1], lanes);
    }
}

/* ---------------------------------------------------------------- kernel */

static encdiff_status prepare(ed_env *env, const ed_graph *graph, const ed_node *node, size_t *scratch, void **state)
{
    ed_strided g;
    ed_weight_plan p;
    if (!make_plan(graph, node, &g, &p))
        return ed_other_prepare(&ed_onednn_conv2d_grad_weight, env, graph, node, scratch, state);
    *scratch = ed_weight_scratch(&p);
    return ENCDIFF_OK;
}

/* x dy dw+= db+=? */
static encdiff_status run(const ed_call *call)
{
    ed_strided g;
    ed_weight_plan p;
    if (!make_plan(call->graph, call->node, &g, &p)) return ed_other_run(&ed_onednn_conv2d_grad_weight, call);
    ed_weight_work s = ed_weight_cut(&p, call->scratch);
    const ed_item *zeros = (const ed_item *)s.outside;
    if (call->in[3]) ed_add_bias(IN(1), g.y.n * g.y.h * g.y.w, g.o, s.bias, IN_F32(3));
    for (int64_t first = 0; first < g.y.tiles; first += p.block) {
        int64_t count = ED_MIN(p.block, g.y.tiles - first);
        ed_transform_tiles(&g.y, ED_STRIDED_SIDE, 0, grad_lanes, g.o, IN(1), zeros, first, count, s.grads, p.grad_pitch,
                           p.grad_plane);
        for (int b = 0; b < ED_STRIDED_PHASES; b++) {
            ed_strided_input_tiles(&g, b, IN(0), zeros, first, count, s.inputs, p.input_pitch, p.input_plane);
            ed_weight_add_block(&p, &s, count, IN_F32(2) + ed_phase_tap(b) * g.c, ED_STRIDED_TAPS, false, kernel_lanes);
        }
    }
    return ENCDIFF_OK;
}

static void release(ed_env *env, void *state) { ed_other_release(&ed_onednn_conv2d_grad_weight, env, state); }

const ed_kernel ED_CPU(conv2d_strided_grad_weight) = {.prepare = prepare, .run = run, .release = release};
