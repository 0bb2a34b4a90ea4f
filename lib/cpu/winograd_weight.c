/*
 * The gradient of a 3x3 convolution for its weights by Winograd's algorithm (winograd.h). The forward transform is
 * linear in the kernel g, so its adjoint is, exactly,
 *
 *   dg += G^T [ sum over tiles of (A dY A^T) . (B^T d B) ] G
 *
 * with 4x4 inputs d and 2x2 output gradients dY: what Lavin and Gray call F(3x3,2x2). In every plane the sum is a
 * matrix product, [o,tiles] by [tiles,c]. It is made for a block of tiles and a strip of input channels at once, and
 * taken back through G while it is in the cache: dw is then all that is kept between the blocks.
 */
#include "cpu/winograd.h"
#include "cpu/columns.h"
#include "cpu/onednn/onednn.h"

/* ---------------------------------------------------------------- plan */

/* Cache for a block's inputs and gradients, and for the sums of a strip. Fewer tiles do not repay the way back through
 * G, more make the rounding error of a sum grow. All of it is measured, and the speed is flat around these numbers. */
#define BLOCK_BYTES ((int64_t)1 << 20)
#define FEWEST_TILES 64
#define MOST_TILES 128
#define STRIP_BYTES ((int64_t)256 << 10)

typedef struct plan {
    ed_winograd g;
    int64_t block;                   /* tiles */
    int64_t rows, columns;           /* o made even, c in whole panels */
    int64_t strip;                   /* columns of a strip */
    int64_t input_pitch, grad_pitch; /* floats from one tile to the next */
    int64_t input_plane, grad_plane, sum_plane;
} plan;

/* A tile's row in a plane; rows a multiple of 256 bytes apart would share a few cache sets. */
static int64_t pitch(int64_t columns) { return columns % 64 ? columns : columns + 16; }

static bool make_plan(const ed_graph *graph, const ed_node *node, plan *p)
{
    if (!ed_winograd_suits(graph, node, node->in[0], node->in[2], &p->g)) return false;
    const ed_winograd *g = &p->g;
    p->rows = ed_whole(g->o, 2), p->columns = ed_whole(g->c, ED_PRODUCT_COLUMNS);
    p->input_pitch = pitch(p->columns), p->grad_pitch = pitch(p->rows);
    int64_t tile = ED_PLANES * (int64_t)sizeof(float) * (p->input_pitch + p->grad_pitch);
    int64_t most = ED_MIN(ED_MAX(BLOCK_BYTES / tile, FEWEST_TILES), MOST_TILES);
    int64_t blocks = (g->tiles + most - 1) / most;
    p->block = (g->tiles + blocks - 1) / blocks;
    int64_t wide = STRIP_BYTES / (ED_PLANES * (int64_t)sizeof(float) * p->rows);
    p->strip = ED_MIN(ED_MAX(wide / ED_PRODUCT_COLUMNS, 1) * ED_PRODUCT_COLUMNS, p->columns);
    p->input_plane = p->block * p->input_pitch + ED_PLANE_GAP;
    p->grad_plane = p->block * p->grad_pitch + ED_PLANE_GAP;
    p->sum_plane = p->rows * p->strip + ED_PLANE_GAP;
    return true;
}

/* Scratch, cut in this order. `outside` is read as zeros for pixels that an image lacks. */
typedef struct work {
    float *inputs, *grads, *sums, *outside;
    double *bias;
} work;

static size_t work_size(const plan *p)
{
    return ed_cut_size((size_t)(ED_PLANES * p->input_plane), sizeof(float)) +
           ed_cut_size((size_t)(ED_PLANES * p->grad_plane), sizeof(float)) +
           ed_cut_size((size_t)(ED_PLANES * p->sum_plane), sizeof(float)) +
           ed_cut_size((size_t)ED_MAX(p->g.c, p->g.o), sizeof(float)) + ed_cut_size((size_t)p->g.o, sizeof(double));
}

/* Where a plane has more columns than there are channels, the rest is zeros, which the transforms leave alone. */
static work cut(const plan *p, char *scratch)
{
    work s;
    size_t inputs = (size_t)(ED_PLANES * p->input_plane), grads = (size_t)(ED_PLANES * p->grad_plane);
    s.inputs = ed_cut(&scratch, inputs, sizeof(float));
    s.grads = ed_cut(&scratch, grads, sizeof(float));
    s.sums = ed_cut(&scratch, (size_t)(ED_PLANES * p->sum_plane), sizeof(float));
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

/* ---------------------------------------------------------------- products: sums over a block's tiles */

/* `rows` output channels by two vectors of input channels. */
ED_INLINE void product_tile(const plan *p, const float *grads, const float *inputs, int64_t tiles, int rows, float *to)
{
    ed_vec sum[ED_PRODUCT_ROWS][2] = {{{0}}};
    for (int64_t t = 0; t < tiles; t++, grads += p->grad_pitch, inputs += p->input_pitch) {
        ed_vec b0 = ed_load(inputs), b1 = ed_load(inputs + ED_LANES);
        for (int r = 0; r < rows; r++) {
            sum[r][0] += grads[r] * b0;
            sum[r][1] += grads[r] * b1;
        }
    }
    for (int r = 0; r < rows; r++) {
        ed_store(to + r * p->strip, sum[r][0]);
        ed_store(to + r * p->strip + ED_LANES, sum[r][1]);
    }
}

/* One panel of columns in one plane; the number of rows is even. */
static void products(const plan *p, const float *grads, const float *inputs, int64_t tiles, float *to)
{
    int64_t i = 0;
    for (; i + 6 <= p->rows; i += 6) product_tile(p, grads + i, inputs, tiles, 6, to + i * p->strip);
    if (p->rows - i == 4) product_tile(p, grads + i, inputs, tiles, 4, to + i * p->strip);
    if (p->rows - i == 2) product_tile(p, grads + i, inputs, tiles, 2, to + i * p->strip);
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

/* The strip of input channels from .. to-1 of dw[o][9][c]. */
static void add_strip(const plan *p, const float *sums, int64_t from, int64_t to, float *dw)
{
    const int64_t c = p->g.c;
    for (int64_t i = 0; i < p->g.o; i++, sums += p->strip, dw += 9 * c) {
        int64_t j = from;
        for (; j + ED_LANES <= to; j += ED_LANES) kernel_lanes(sums + j - from, p->sum_plane, dw + j, c, ED_LANES);
        if (j < to) kernel_lanes(sums + j - from, p->sum_plane, dw + j, c, (int)(to - j));
    }
}

/* ---------------------------------------------------------------- kernel */

static void add_block(const plan *p, const work *s, int64_t tiles, float *dw)
{
    for (int64_t j = 0; j < p->columns; j += p->strip) {
        int64_t end = ED_MIN(j + p->strip, p->columns);
        for (int q = 0; q < ED_PLANES; q++)
            for (int64_t k = j; k < end; k += ED_PRODUCT_COLUMNS)
                products(p, s->grads + q * p->grad_plane, s->inputs + q * p->input_plane + k, tiles,
                         s->sums + q * p->sum_plane + k - j);
        add_strip(p, s->sums, j, ED_MIN(end, p->g.c), dw);
    }
}

static void add_bias(const plan *p, const work *s, const ed_item *dy, float *db)
{
    memset(s->bias, 0, (size_t)p->g.o * sizeof *s->bias);
    ed_column_sums(dy, p->g.n * p->g.h * p->g.w, p->g.o, s->bias);
    for (int64_t j = 0; j < p->g.o; j++) db[j] += (float)s->bias[j];
}

static encdiff_status prepare(ed_env *env, const ed_graph *graph, const ed_node *node, size_t *scratch, void **state)
{
    plan p;
    if (!make_plan(graph, node, &p))
        return ed_other_prepare(&ed_onednn_conv2d_grad_weight, env, graph, node, scratch, state);
    *scratch = work_size(&p);
    return ENCDIFF_OK;
}

/* x dy dw+= db+=? */
static encdiff_status run(const ed_call *call)
{
    plan p;
    if (!make_plan(call->graph, call->node, &p)) return ed_other_run(&ed_onednn_conv2d_grad_weight, call);
    work s = cut(&p, call->scratch);
    if (call->in[3]) add_bias(&p, &s, IN(1), IN_F32(3));
    for (int64_t first = 0; first < p.g.tiles; first += p.block) {
        int64_t count = ED_MIN(p.block, p.g.tiles - first);
        ed_input_tiles(&p.g, p.g.c, IN(0), (const ed_item *)s.outside, first, count, s.inputs, p.input_pitch,
                       p.input_plane);
        grad_tiles(&p, &s, IN(1), first, count);
        add_block(&p, &s, count, IN_F32(2));
    }
    return ENCDIFF_OK;
}

static void release(ed_env *env, void *state) { ed_other_release(&ed_onednn_conv2d_grad_weight, env, state); }

const ed_kernel ED_CPU(conv2d_grad_weight) = {.prepare = prepare, .run = run, .release = release};
