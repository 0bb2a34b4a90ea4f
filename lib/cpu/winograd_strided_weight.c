/*
 * The gradient of a 4x4 convolution of stride 2 for its weights by Winograd's algorithm: in each of the four phases
 * (winograd_strided.h), as in winograd_weight.c,
 *
 *   dg += G^T [ sum over tiles of (A dY A^T) . (B^T d B) ] G
 *
 * with 5x5 inputs d of the phase and 4x4 output gradients dY, which all phases share.
 */
#include "cpu/columns.h"
#include "cpu/onednn/onednn.h"
#include "cpu/winograd_strided.h"

/* ---------------------------------------------------------------- plan */

/* Fewer tiles do not repay the way back through G. */
#define FEWEST_TILES 16
#define MOST_TILES 64
/* Cache for the sums of a strip. */
#define STRIP_BYTES ((int64_t)256 << 10)

/* Distances in floats. */
typedef struct plan {
    ed_strided g;
    int64_t block;                   /* tiles */
    int64_t rows, columns;           /* o made even, c in whole panels */
    int64_t strip;                   /* rows of a strip, an even number */
    int64_t input_pitch, grad_pitch; /* from one tile to the next */
    int64_t input_plane, grad_plane, sum_plane;
} plan;

/* x dy dw db? */
static bool make_plan(const ed_graph *graph, const ed_node *node, plan *p)
{
    *p = (plan){.block = 0};
    if (!ed_strided_describe(graph, node, node->in[0], node->in[2], node->in[1], &p->g)) return false;
    const ed_strided *g = &p->g;
    p->rows = ed_whole(g->o, 2), p->columns = ed_whole(g->c, ED_PRODUCT_COLUMNS);
    p->input_pitch = ed_tile_pitch(p->columns), p->grad_pitch = ed_tile_pitch(p->rows);
    int64_t blocks = (g->tiles + MOST_TILES - 1) / MOST_TILES;
    p->block = (g->tiles + blocks - 1) / blocks;
    int64_t high = STRIP_BYTES / (ED_STRIDED_PLANES * (int64_t)sizeof(float) * ED_PRODUCT_COLUMNS);
    p->strip = ED_MIN(high / ED_PRODUCT_ROWS * ED_PRODUCT_ROWS, p->rows);
    p->input_plane = p->block * p->input_pitch + ED_PLANE_GAP;
    p->grad_plane = p->block * p->grad_pitch + ED_PLANE_GAP;
    p->sum_plane = p->strip * ED_PRODUCT_COLUMNS + ED_PLANE_GAP;
    return g->tiles >= FEWEST_TILES;
}

/* Scratch, cut in this order. `outside` is read as zeros for pixels that an image lacks. */
typedef struct work {
    float *inputs, *grads, *sums, *outside;
    double *bias;
} work;

static size_t work_size(const plan *p)
{
    return ed_cut_size((size_t)(ED_STRIDED_PLANES * p->input_plane), sizeof(float)) +
           ed_cut_size((size_t)(ED_STRIDED_PLANES * p->grad_plane), sizeof(float)) +
           ed_cut_size((size_t)(ED_STRIDED_PLANES * p->sum_plane), sizeof(float)) +
           ed_cut_size((size_t)ED_MAX(p->g.c, p->g.o), sizeof(float)) + ed_cut_size((size_t)p->g.o, sizeof(double));
}

/* Where a plane has more columns than there are channels, the rest is zeros, which the transforms leave alone. */
static work cut(const plan *p, char *scratch)
{
    work s;
    size_t inputs = (size_t)(ED_STRIDED_PLANES * p->input_plane), grads = (size_t)(ED_STRIDED_PLANES * p->grad_plane);
    s.inputs = ed_cut(&scratch, inputs, sizeof(float));
    s.grads = ed_cut(&scratch, grads, sizeof(float));
    s.sums = ed_cut(&scratch, (size_t)(ED_STRIDED_PLANES * p->sum_plane), sizeof(float));
    s.outside = ed_cut(&scratch, (size_t)ED_MAX(p->g.c, p->g.o), sizeof(float));
    s.bias = ed_cut(&scratch, (size_t)p->g.o, sizeof(double));
    if (p->columns > p->g.c) memset(s.inputs, 0, inputs * sizeof(float));
    if (p->rows > p->g.o) memset(s.grads, 0, grads * sizeof(float));
    memset(s.outside, 0, (size_t)ED_MAX(p->g.c, p->g.o) * sizeof(float));
    return s;
}

/* ---------------------------------------------------------------- transforms */

static void input_tiles(const plan *p, const work *s, int phase, int64_t first, int64_t count, const ed_item *x)
{
    const int64_t c = p->g.c;
    float *to = s->inputs;
    ed_strided_tile at = ed_strided_number(&p->g, first);
    for (int64_t t = 0; t < count; t++, ed_strided_next(&p->g, &at), to += p->input_pitch) {
        const ed_item *pixels[25];
        int64_t j = 0;
        ed_phase_pixels(&p->g, &at, phase, x, (const ed_item *)s->outside, pixels);
        for (; j + ED_LANES <= c; j += ED_LANES) ed_strided_input_lanes(pixels, j, to, p->input_plane, ED_LANES);
        if (j < c) ed_strided_input_lanes(pixels, j, to, p->input_plane, (int)(c - j));
    }
}

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
ED_INLINE void grad_lanes(const ed_item *const pixels[16], int64_t j, float *to, int64_t plane, int lanes)
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

static void grad_tiles(const plan *p, const work *s, int64_t first, int64_t count, const ed_item *dy)
{
    const ed_strided *g = &p->g;
    float *to = s->grads;
    ed_strided_tile at = ed_strided_number(g, first);
    for (int64_t t = 0; t < count; t++, ed_strided_next(g, &at), to += p->grad_pitch) {
        const ed_item *pixels[16];
        int64_t j = 0;
        for (int i = 0; i < 16; i++) {
            int64_t row = 4 * at.y + i / 4, column = 4 * at.x + i % 4;
            bool inside = row < g->oh && column < g->ow;
            pixels[i] = inside ? dy + ((at.image * g->oh + row) * g->ow + column) * g->o : (const ed_item *)s->outside;
        }
        for (; j + ED_LANES <= g->o; j += ED_LANES) grad_lanes(pixels, j, to, p->grad_plane, ED_LANES);
        if (j < g->o) grad_lanes(pixels, j, to, p->grad_plane, (int)(g->o - j));
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

/* `rows` output channels of a panel's input channels from .. to-1. dw[o][16][c] begins at a phase of the first row. */
static void add_strip(const plan *p, const float *sums, int64_t rows, int64_t from, int64_t to, float *dw)
{
    const int64_t c = p->g.c;
    for (int64_t i = 0; i < rows; i++, sums += ED_PRODUCT_COLUMNS, dw += ED_STRIDED_TAPS * c) {
        int64_t j = from;
        for (; j + ED_LANES <= to; j += ED_LANES) kernel_lanes(sums + j - from, p->sum_plane, dw + j, c, ED_LANES);
        if (j < to) kernel_lanes(sums + j - from, p->sum_plane, dw + j, c, (int)(to - j));
    }
}

/* ---------------------------------------------------------------- kernel */

static void add_block(const plan *p, const work *s, int64_t tiles, float *dw)
{
    const ed_outer shape = {tiles, p->grad_pitch, p->input_pitch};
    for (int64_t j = 0; j < p->columns; j += ED_PRODUCT_COLUMNS) {
        for (int64_t i = 0; i < p->rows; i += p->strip) {
            int64_t rows = ED_MIN(p->strip, p->rows - i), end = ED_MIN(j + ED_PRODUCT_COLUMNS, p->g.c);
            for (int q = 0; q < ED_STRIDED_PLANES; q++)
                ed_outer_rows(&shape, s->grads + q * p->grad_plane + i, rows, s->inputs + q * p->input_plane + j,
                              s->sums + q * p->sum_plane);
            add_strip(p, s->sums, ED_MIN(rows, p->g.o - i), j, end, dw + i * ED_STRIDED_TAPS * p->g.c);
        }
    }
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
    if (call->in[3]) ed_add_bias(IN(1), p.g.n * p.g.oh * p.g.ow, p.g.o, s.bias, IN_F32(3));
    for (int64_t first = 0; first < p.g.tiles; first += p.block) {
        int64_t count = ED_MIN(p.block, p.g.tiles - first);
        grad_tiles(&p, &s, first, count, IN(1));
        for (int b = 0; b < ED_STRIDED_PHASES; b++) {
            input_tiles(&p, &s, b, first, count, IN(0));
            add_block(&p, &s, count, IN_F32(2) + ed_phase_tap(b) * p.g.c);
        }
    }
    return ENCDIFF_OK;
}

static void release(ed_env *env, void *state) { ed_other_release(&ed_onednn_conv2d_grad_weight, env, state); }

const ed_kernel ED_CPU(conv2d_strided_grad_weight) = {.prepare = prepare, .run = run, .release = release};
