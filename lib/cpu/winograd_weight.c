/*
 * The gradient of a 3x3 convolution for its weights by Winograd's algorithm (winograd.h, winograd_four.h). The forward
 * transform is linear in the kernel g, so its adjoint is, exactly,
 *
 *   dg += G^T [ sum over tiles of (A dY A^T) . (B^T d B) ] G
 *
 * with 4x4 inputs d and 2x2 output gradients dY, what Lavin and Gray call F(3x3,2x2), or 6x6 and 4x4. In every plane
 * the sum is a matrix product, [o,tiles] by [tiles,c]. It is made for a block of tiles and a strip of some output
 * channels by a panel of input channels at once, and taken back through G while it is in the cache: dw is then all that
 * is kept between the blocks.
 */
#include "cpu/columns.h"
#include "cpu/winograd_four.h"

/* ---------------------------------------------------------------- plan */

/* Cache for a block's inputs and gradients, and for the sums of a strip. Fewer tiles do not repay the way back through
 * G, more make the rounding error of a sum grow. All of it is measured, and the speed is flat around these numbers. */
#define BLOCK_BYTES ((int64_t)512 << 10)
#define FEWEST_TILES 64
#define MOST_TILES 128
#define STRIP_BYTES ((int64_t)256 << 10)
/* Of a batch, from which tiles of 4x4 are quicker than four times as many of 2x2. */
#define FEWEST_OF_FOUR 16

typedef struct plan {
    ed_winograd g;
    int planes;
    int64_t block;                   /* tiles */
    int64_t rows, columns;           /* o made even, c in whole panels */
    int64_t strip;                   /* rows of a strip, an even number */
    int64_t input_pitch, grad_pitch; /* floats from one tile to the next */
    int64_t input_plane, grad_plane, sum_plane;
} plan;

static bool make_plan(const ed_graph *graph, const ed_node *node, plan *p)
{
    if (!ed_winograd_suits(graph, node, node->in[0], node->in[2], &p->g)) return false;
    ed_winograd *g = &p->g, four;
    ed_winograd_describe(graph, node, node->in[0], node->in[2], 4, &four);
    if (four.h % 4 == 0 && four.w % 4 == 0 && four.tiles >= FEWEST_OF_FOUR) *g = four;
    p->planes = (int)((g->side + 2) * (g->side + 2));
    p->rows = ed_whole(g->o, 2), p->columns = ed_whole(g->c, ED_PRODUCT_COLUMNS);
    p->input_pitch = ed_tile_pitch(p->columns), p->grad_pitch = ed_tile_pitch(p->rows);
    int64_t tile = p->planes * (int64_t)sizeof(float) * (p->input_pitch + p->grad_pitch);
    int64_t fewest = g->side == 4 ? FEWEST_TILES / 2 : FEWEST_TILES;
    int64_t most = ED_MIN(ED_MAX(BLOCK_BYTES / tile, fewest), MOST_TILES);
    int64_t blocks = (g->tiles + most - 1) / most;
    p->block = (g->tiles + blocks - 1) / blocks;
    int64_t high = STRIP_BYTES / (p->planes * (int64_t)sizeof(float) * ED_PRODUCT_COLUMNS);
    p->strip = ED_MIN(high / ED_PRODUCT_ROWS * ED_PRODUCT_ROWS, p->rows);
    p->input_plane = p->block * p->input_pitch + ED_PLANE_GAP;
    p->grad_plane = p->block * p->grad_pitch + ED_PLANE_GAP;
    p->sum_plane = p->strip * ED_PRODUCT_COLUMNS + ED_PLANE_GAP;
    return true;
}

/* Scratch, cut in this order. `outside` is read as zeros for pixels that an image lacks. */
typedef struct work {
    float *inputs, *grads, *sums, *outside;
    double *bias;
} work;

static size_t work_size(const plan *p)
{
    return ed_cut_size((size_t)(p->planes * p->input_plane), sizeof(float)) +
           ed_cut_size((size_t)(p->planes * p->grad_plane), sizeof(float)) +
           ed_cut_size((size_t)(p->planes * p->sum_plane), sizeof(float)) +
           ed_cut_size((size_t)ED_MAX(p->g.c, p->g.o), sizeof(float)) + ed_cut_size((size_t)p->g.o, sizeof(double));
}

/* Where a plane has more columns than there are channels, the rest is zeros, which the transforms leave alone. */
static work cut(const plan *p, char *scratch)
{
    work s;
    size_t inputs = (size_t)(p->planes * p->input_plane), grads = (size_t)(p->planes * p->grad_plane);
    s.inputs = ed_cut(&scratch, inputs, sizeof(float));
    s.grads = ed_cut(&scratch, grads, sizeof(float));
    s.sums = ed_cut(&scratch, (size_t)(p->planes * p->sum_plane), sizeof(float));
    s.outside = ed_cut(&scratch, (size_t)ED_MAX(p->g.c, p->g.o), sizeof(float));
    s.bias = ed_cut(&scratch, (size_t)p->g.o, sizeof(double));
    if (p->columns > p->g.c) memset(s.inputs, 0, inputs * sizeof(float));
    if (p->rows > p->g.o) memset(s.grads, 0, grads * sizeof(float));
    memset(s.outside, 0, (size_t)ED_MAX(p->g.c, p->g.o) * sizeof(float));
    return s;
}

/* ---------------------------------------------------------------- A dY A^T */

ED_INLINE void grad_lanes(const ed_item *const pixels[4], int64_t j, float *to, int64_t plane, int lanes)
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

static void grad_tiles(const plan *p, const work *s, const ed_item *dy, int64_t first, int64_t count)
{
    const int64_t c = p->g.o;
    float *to = s->grads;
    ed_tile_at at = ed_tile_number(&p->g, first);
    for (int64_t t = 0; t < count; t++, ed_tile_next(&p->g, &at), to += p->grad_pitch) {
        const ed_item *pixels[4];
        int64_t offset[4], j = 0;
        ed_tile_pixels(&p->g, &at, c, 2, 0, offset);
        for (int k = 0; k < 4; k++) pixels[k] = offset[k] < 0 ? (const ed_item *)s->outside : dy + offset[k];
        for (; j + ED_LANES <= c; j += ED_LANES) grad_lanes(pixels, j, to, p->grad_plane, ED_LANES);
        if (j < c) grad_lanes(pixels, j, to, p->grad_plane, (int)(c - j));
    }
}

static void grad_tiles_of_four(const plan *p, const work *s, const ed_item *dy, int64_t first, int64_t count)
{
    const int64_t c = p->g.o;
    float *to = s->grads;
    ed_tile_at at = ed_tile_number(&p->g, first);
    for (int64_t t = 0; t < count; t++, ed_tile_next(&p->g, &at), to += p->grad_pitch) {
        const ed_item *pixels[16];
        int64_t offset[16], j = 0;
        ed_tile_pixels(&p->g, &at, c, 4, 0, offset);
        for (int k = 0; k < 16; k++) pixels[k] = offset[k] < 0 ? (const ed_item *)s->outside : dy + offset[k];
        for (; j + ED_LANES <= c; j += ED_LANES) ed_four_grad_lanes(pixels, j, to, p->grad_plane, ED_LANES);
        if (j < c) ed_four_grad_lanes(pixels, j, to, p->grad_plane, (int)(c - j));
    }
}

/* Both operands of a block's products. */
static void transform_block(const plan *p, const work *s, const ed_item *x, const ed_item *dy, int64_t first,
                            int64_t count)
{
    const ed_item *outside = (const ed_item *)s->outside;
    if (p->g.side == 4) {
        ed_four_input_tiles(&p->g, p->g.c, x, outside, first, count, s->inputs, p->input_pitch, p->input_plane);
        grad_tiles_of_four(p, s, dy, first, count);
    } else {
        ed_input_tiles(&p->g, p->g.c, x, outside, first, count, s->inputs, p->input_pitch, p->input_plane);
        grad_tiles(p, s, dy, first, count);
    }
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

typedef void (*kernel_function)(const float *sums, int64_t plane, float *dw, int64_t c, int lanes);

/* `rows` output channels of a panel's input channels from .. to-1. dw[o][9][c] begins at the first of the rows. */
ED_INLINE void add_strip(const plan *p, const float *sums, int64_t rows, int64_t from, int64_t to, float *dw,
                         kernel_function add)
{
    const int64_t c = p->g.c;
    for (int64_t i = 0; i < rows; i++, sums += ED_PRODUCT_COLUMNS, dw += 9 * c) {
        int64_t j = from;
        if (i + ED_ROWS_AHEAD < rows) ed_prefetch_row(dw + ED_ROWS_AHEAD * 9 * c + from, 9, c);
        for (; j + ED_LANES <= to; j += ED_LANES) add(sums + j - from, p->sum_plane, dw + j, c, ED_LANES);
        if (j < to) add(sums + j - from, p->sum_plane, dw + j, c, (int)(to - j));
    }
}

static void add_strip_of_two(const plan *p, const float *sums, int64_t rows, int64_t from, int64_t to, float *dw)
{
    add_strip(p, sums, rows, from, to, dw, kernel_lanes);
}

static void add_strip_of_four(const plan *p, const float *sums, int64_t rows, int64_t from, int64_t to, float *dw)
{
    add_strip(p, sums, rows, from, to, dw, ed_four_weight_lanes);
}

/* ---------------------------------------------------------------- kernel */

static void add_block(const plan *p, const work *s, int64_t tiles, float *dw)
{
    const ed_outer shape = {tiles, p->grad_pitch, p->input_pitch};
    for (int64_t j = 0; j < p->columns; j += ED_PRODUCT_COLUMNS) {
        for (int64_t i = 0; i < p->rows; i += p->strip) {
            int64_t rows = ED_MIN(p->strip, p->rows - i), end = ED_MIN(j + ED_PRODUCT_COLUMNS, p->g.c);
            for (int q = 0; q < p->planes; q++)
                ed_outer_rows(&shape, s->grads + q * p->grad_plane + i, rows, s->inputs + q * p->input_plane + j,
                              s->sums + q * p->sum_plane);
            rows = ED_MIN(rows, p->g.o - i);
            float *at = dw + i * 9 * p->g.c;
            if (p->g.side == 4)
                add_strip_of_four(p, s->sums, rows, j, end, at);
            else
                add_strip_of_two(p, s->sums, rows, j, end, at);
        }
    }
}

static encdiff_status prepare(ed_env *env, const ed_graph *graph, const ed_node *node, size_t *scratch, void **state)
{
    plan p;
    if (!make_plan(graph, node, &p))
        return ED_CPU(conv2d_strided_grad_weight).prepare(env, graph, node, scratch, state);
    *scratch = work_size(&p);
    return ENCDIFF_OK;
}

/* x dy dw+= db+=? */
static encdiff_status run(const ed_call *call)
{
    plan p;
    if (!make_plan(call->graph, call->node, &p)) return ED_CPU(conv2d_strided_grad_weight).run(call);
    work s = cut(&p, call->scratch);
    if (call->in[3]) ed_add_bias(IN(1), p.g.n * p.g.h * p.g.w, p.g.o, s.bias, IN_F32(3));
    for (int64_t first = 0; first < p.g.tiles; first += p.block) {
        int64_t count = ED_MIN(p.block, p.g.tiles - first);
        transform_block(&p, &s, IN(0), IN(1), first, count);
        add_block(&p, &s, count, IN_F32(2));
    }
    return ENCDIFF_OK;
}

static void release(ed_env *env, void *state) { ED_CPU(conv2d_strided_grad_weight).release(env, state); }

const ed_kernel ED_CPU(conv2d_grad_weight) = {.prepare = prepare, .run = run, .release = release};
