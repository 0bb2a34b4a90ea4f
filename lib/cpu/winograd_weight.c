/*
 * The gradient of a 3x3 convolution for its weights by Winograd's algorithm (winograd.h, winograd_four.h). The forward
 * transform is linear in the kernel g, so its adjoint is, exactly,
 *
 *   dg += G^T [ sum over tiles of (A dY A^T) . (B^T d B) ] G
 *
 * with 4x4 inputs d and 2x2 output gradients dY, what Lavin and Gray call F(3x3,2x2), or 6x6 and 4x4.
 */
#include "cpu/winograd_four.h"
#include "cpu/winograd_weight.h"

/* ---------------------------------------------------------------- plan */

#define TAPS 9
/* Of a block. Fewer tiles do not repay the way back through G, more make the rounding error of a sum grow. */
#define FEWEST_TILES 64
#define FEWEST_TILES_OF_FOUR 32
#define MOST_TILES 128
/* Of a batch, from which tiles of 4x4 are quicker than four times as many of 2x2. */
#define FEWEST_OF_FOUR 16

static bool make_plan(const ed_graph *graph, const ed_node *node, ed_winograd *g, ed_weight_plan *p)
{
    ed_winograd four;
    if (!ed_winograd_suits(graph, node, node->in[0], node->in[2], g)) return false;
    ed_winograd_describe(graph, node, node->in[0], node->in[2], 4, &four);
    if (four.h % 4 == 0 && four.w % 4 == 0 && four.tiles >= FEWEST_OF_FOUR) *g = four;
    bool of_four = g->side == 4;
    *p = ed_weight_describe(g->c, g->o, of_four ? ED_FOUR_PLANES : ED_PLANES, g->tiles,
                            of_four ? FEWEST_TILES_OF_FOUR : FEWEST_TILES, MOST_TILES);
    return true;
}

/* ---------------------------------------------------------------- A dY A^T */

ED_INLINE void grad_lanes(const ed_item *const *pixels, int64_t j, float *to, int64_t plane, int lanes)
{
    ed_vec t[4][2];
    for (int k = 0; k < 2; k++) {
        ed_vec above = ed_load_some(pixels[k] + j, lanes), below = ed_load_some(pixels[2 + k] + j, lanes);
        t[0][k] = above;
        t[1][k] = above + below;
        t[2][k] = above - below;
        t[3][k] = -below;
    }
    for (int i = 0; i < 4; i++, to += 4 * plane) {
        ed_store_some(to + j, t[i][0], lanes);
        ed_store_some(to + plane + j, t[i][0] + t[i][1], lanes);
        ed_store_some(to + 2 * plane + j, t[i][0] - t[i][1], lanes);
        ed_store_some(to + 3 * plane + j, -t[i][1], lanes);
    }
}

/* Both operands of a block's products, by tiles of `side` x `side` outputs. */
ED_INLINE void transform_block(const ed_winograd *g, const ed_weight_plan *p, const ed_weight_work *s, int side,
                               ed_tile_lanes inputs, ed_tile_lanes grads, const ed_item *x, const ed_item *dy,
                               int64_t first, int64_t count)
{
    const ed_item *zeros = (const ed_item *)s->outside;
    ed_transform_tiles(g, side + 2, 1, inputs, g->c, x, zeros, first, count, s->inputs, p->input_pitch, p->input_plane);
    ed_transform_tiles(g, side, 0, grads, g->o, dy, zeros, first, count, s->grads, p->grad_pitch, p->grad_plane);
}

/* ---------------------------------------------------------------- dg += G^T S G */

ED_INLINE void kernel_lanes(const float *sums, int64_t plane, float *dw, int64_t c, int lanes)
{
    ed_vec t[3][4];
    for (int k = 0; k < 4; k++) {
        ed_vec s0 = ed_load(sums + k * plane), s1 = ed_load(sums + (4 + k) * plane),
               s2 = ed_load(sums + (8 + k) * plane), s3 = ed_load(sums + (12 + k) * plane);
        ed_vec even = 0.5f * (s1 + s2);
        t[0][k] = s0 + even;
        t[1][k] = 0.5f * (s1 - s2);
        t[2][k] = even + s3;
    }
    for (int i = 0; i < 3; i++, dw += 3 * c) {
        ed_vec even = 0.5f * (t[i][1] + t[i][2]), odd = 0.5f * (t[i][1] - t[i][2]);
        ed_store_some(dw, ed_load_some(dw, lanes) + (t[i][0] + even), lanes);
        ed_store_some(dw + c, ed_load_some(dw + c, lanes) + odd, lanes);
        ed_store_some(dw + 2 * c, ed_load_some(dw + 2 * c, lanes) + (even + t[i][3]), lanes);
    }
}

/* ---------------------------------------------------------------- kernel */

static void add_block_of_two(const ed_winograd *g, const ed_weight_plan *p, const ed_weight_work *s, const ed_item *x,
                             const ed_item *dy, int64_t first, int64_t count, float *dw)
{
    transform_block(g, p, s, 2, ed_input_lanes, grad_lanes, x, dy, first, count);
    ed_weight_add_block(p, s, count, dw, TAPS, true, kernel_lanes);
}

static void add_block_of_four(const ed_winograd *g, const ed_weight_plan *p, const ed_weight_work *s, const ed_item *x,
                              const ed_item *dy, int64_t first, int64_t count, float *dw)
{
    transform_block(g, p, s, 4, ed_four_input_lanes, ed_four_grad_lanes, x, dy, first, count);
    ed_weight_add_block(p, s, count, dw, TAPS, true, ed_four_weight_lanes);
}

static encdiff_status prepare(ed_env *env, const ed_graph *graph, const ed_node *node, size_t *scratch, void **state)
{
    ed_winograd g;
    ed_weight_plan p;
    if (!make_plan(graph, node, &g, &p))
        return ED_CPU(conv2d_strided_grad_weight).prepare(env, graph, node, scratch, state);
    *scratch = ed_weight_scratch(&p);
    return ENCDIFF_OK;
}

/* x dy dw+= db+=? */
static encdiff_status run(const ed_call *call)
{
    ed_winograd g;
    ed_weight_plan p;
    if (!make_plan(call->graph, call->node, &g, &p)) return ED_CPU(conv2d_strided_grad_weight).run(call);
    ed_weight_work s = ed_weight_cut(&p, call->scratch);
    if (call->in[3]) ed_add_bias(IN(1), g.n * g.h * g.w, g.o, s.bias, IN_F32(3));
    for (int64_t first = 0; first < g.tiles; first += p.block) {
        int64_t count = ED_MIN(p.block, g.tiles - first);
        if (g.side == 4)
            add_block_of_four(&g, &p, &s, IN(0), IN(1), first, count, IN_F32(2));
        else
            add_block_of_two(&g, &p, &s, IN(0), IN(1), first, count, IN_F32(2));
    }
    return ENCDIFF_OK;
}

static void release(ed_env *env, void *state) { ED_CPU(conv2d_strided_grad_weight).release(env, state); }

const ed_kernel ED_CPU(conv2d_grad_weight) = {.prepare = prepare, .run = run, .release = release};
