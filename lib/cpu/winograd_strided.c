/*
 * conv2d with a 4x4 kernel, stride 2 and padding 1, by Winograd's algorithm.
 *
 * Output row y reads input rows 2 y - 1 .. 2 y + 2. Of the odd rows, X_0[i] = x[2 i - 1], and the even ones,
 * X_1[i] = x[2 i], it reads two each: y = X_b[y] g[b] + X_b[y + 1] g[2 + b], summed over both b. Along both sides of
 * the image that makes four phases of 2x2 kernels with stride 1, which F(4x4,2x2) computes with 25 products instead of
 * 64. Evaluated at a, -a, b, -b and infinity, a = 1/2 and b = 3/2, s = a^2 + b^2, q = a^2 b^2:
 *
 *   B^T = -a b^2  -b^2   a  1  0     G = -1/2 -1/4     A^T = 1    1    1    1   0
 *          a b^2  -b^2  -a  1  0          1/2 -1/4           a   -a    b   -b   0
 *         -a^2 b  -a^2   b  1  0          1/6  1/4           a^2  a^2  b^2  b^2 0
 *          a^2 b  -a^2  -b  1  0         -1/6  1/4           a^3 -a^3  b^3 -b^3 1
 *            q      0   -s  0  1           0    1
 *
 * These points have an error of 1.0e-6 (256 channels, root of the mean square), 0, 1, -1 and 2 have 1.9e-6 and a direct
 * sum 0.6e-6. The phases are more input channels of one product; a block of tiles takes one phase after the other, so
 * that what is transformed stays in the cache.
 */
#include "cpu/winograd.h"
#include "cpu/onednn/onednn.h"

#define SIDE 4 /* outputs along a tile's, and one more input of a phase */
#define PLANES 25
#define PHASES 4
#define TAPS 16

#define A 0.5f
#define B 1.5f
#define A2 0.25f
#define B2 2.25f

/* ---------------------------------------------------------------- plan */

/* Tiles of 4x4 outputs; distances in floats. */
typedef struct plan {
    int64_t n, h, w, c, oh, ow, o; /* x[n,h,w,c], y[n,oh,ow,o] */
    int64_t high, wide, tiles;
    int64_t out, columns; /* of the call's part: channels, and as whole panels */
    int64_t block;        /* tiles, an even number */
    int64_t kernel_plane, panel, phase, input_plane, output_plane;
} plan;

/* More tiles read the kernels less often, fewer leave room for them in the cache; flat around this. */
#define MOST_TILES 32

static void lay_out(plan *p, int64_t out)
{
    int64_t blocks = (p->tiles + MOST_TILES - 1) / MOST_TILES;
    p->out = out, p->columns = ed_whole(out, ED_PRODUCT_COLUMNS);
    p->block = ed_whole((p->tiles + blocks - 1) / blocks, 2);
    p->kernel_plane = p->c * ED_PRODUCT_COLUMNS + ED_PLANE_GAP;
    p->panel = PLANES * p->kernel_plane;
    p->phase = p->columns / ED_PRODUCT_COLUMNS * p->panel;
    p->input_plane = p->block * p->c + ED_PLANE_GAP;
    p->output_plane = p->block * p->columns + ED_PLANE_GAP;
}

/* Few tiles do not repay reading the transformed kernels, which are six times as large as the kernels; nor do tiles
 * that are mostly outside of the image. */
static bool make_plan(const ed_graph *graph, const ed_node *node, plan *p)
{
    const int64_t *x = ed_graph_shape(graph, node->in[0])->dim, *w = ed_graph_shape(graph, node->in[1])->dim;
    const int64_t *y = ed_graph_shape(graph, node->out[0])->dim;
    *p = (plan){.n = x[0], .h = x[1], .w = x[2], .c = x[3], .oh = y[1], .ow = y[2], .o = w[0]};
    p->high = (p->oh + SIDE - 1) / SIDE, p->wide = (p->ow + SIDE - 1) / SIDE;
    p->tiles = p->n * p->high * p->wide;
    lay_out(p, p->o);
    bool suits = node->attr.conv.stride == 2 && node->attr.conv.pad_top == 1 && node->attr.conv.pad_left == 1;
    bool filled = p->high * p->wide * SIDE * SIDE * 4 <= p->oh * p->ow * 9;
    return suits && w[1] == 4 && w[2] == 4 && p->c >= 32 && p->o >= 32 && p->tiles >= 12 && filled;
}

/* Scratch, cut in this order. `outside` is read as zeros and `dump` written for pixels that an image lacks. */
typedef struct work {
    float *kernels, *inputs, *outputs, *outside, *dump;
} work;

static size_t sizes(const plan *p, size_t count[5])
{
    const size_t floats[5] = {(size_t)(PHASES * p->phase), (size_t)(PLANES * p->input_plane),
                              (size_t)(PLANES * p->output_plane), (size_t)ED_MAX(p->c, p->o), (size_t)p->o};
    size_t total = 0;
    for (int i = 0; i < 5; i++) total += ed_cut_size(count[i] = floats[i], sizeof(float));
    return total;
}

static work cut(const plan *p, char *scratch)
{
    size_t count[5];
    float *piece[5];
    sizes(p, count);
    for (int i = 0; i < 5; i++) piece[i] = ed_cut(&scratch, count[i], sizeof(float));
    return (work){piece[0], piece[1], piece[2], piece[3], piece[4]};
}

/* ---------------------------------------------------------------- kernels: U = G g G^T */

ED_INLINE void transform_kernel(ed_row8 g0, ed_row8 g1, ed_row8 out[5])
{
    ed_row8 quarter = 0.25f * g1, half = 0.5f * g0, sixth = (1.0f / 6.0f) * g0;
    out[0] = -half - quarter;
    out[1] = half - quarter;
    out[2] = quarter + sixth;
    out[3] = quarter - sixth;
    out[4] = g1;
}

/* Eight kernels side by side, g[row * 2 + column], to the planes. */
ED_INLINE void transform_kernels(const ed_row8 g[4], float *to, int64_t plane)
{
    ed_row8 left[5], right[5];
    transform_kernel(g[0], g[2], left);
    transform_kernel(g[1], g[3], right);
    for (int i = 0; i < 5; i++, to += 5 * plane) {
        ed_row8 out[5];
        transform_kernel(left[i], right[i], out);
        for (int k = 0; k < 5; k++) ed_store8(to + k * plane, out[k]);
    }
}

/* A block of 8 x 8 channels of w[o][16][c], zeros where w ends, [8][16][8]. */
static void copy_block(const plan *p, const float *w, int64_t i, int64_t j, float block[8 * TAPS * 8])
{
    int64_t rows = ED_MIN(ED_MAX(p->out - i, 0), 8), columns = ED_MIN(p->c - j, 8);
    memset(block, 0, 8 * TAPS * 8 * sizeof *block);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t k = 0; k < TAPS; k++)
            memcpy(block + (r * TAPS + k) * 8, w + ((i + r) * TAPS + k) * p->c + j, (size_t)columns * sizeof *block);
}

/* Eight columns of a panel at eight input channels j .., of all phases. */
static void make_kernels(const plan *p, const float *w, int64_t i, int64_t j, float *panel)
{
    float block[8 * TAPS * 8], turned[TAPS][8 * 8];
    bool whole = i + 8 <= p->out && j + 8 <= p->c;
    const float *from = whole ? w + i * TAPS * p->c + j : block;
    int64_t pitch = whole ? p->c : 8;
    if (!whole) copy_block(p, w, i, j, block);
    for (int q = 0; q < TAPS; q++) ed_transpose8(from + q * pitch, TAPS * pitch, turned[q], 8);
    for (int b = 0; b < PHASES; b++) {
        int tap = b / 2 * 4 + b % 2;
        for (int64_t r = 0; r < ED_MIN(p->c - j, 8); r++) {
            const ed_row8 g[4] = {ed_load8(turned[tap] + 8 * r), ed_load8(turned[tap + 2] + 8 * r),
                                  ed_load8(turned[tap + 8] + 8 * r), ed_load8(turned[tap + 10] + 8 * r)};
            transform_kernels(g, panel + b * p->phase + (j + r) * ED_PRODUCT_COLUMNS, p->kernel_plane);
        }
    }
}

/* To panels [phase][panel][plane][c][columns]. */
static void make_panels(const plan *p, const float *w, float *kernels)
{
    for (int64_t i = 0; i < p->columns; i += 8)
        for (int64_t j = 0; j < p->c; j += 8)
            make_kernels(p, w, i, j, kernels + i / ED_PRODUCT_COLUMNS * p->panel + i % ED_PRODUCT_COLUMNS);
}

/* ---------------------------------------------------------------- tiles */

typedef struct tile {
    int64_t image, y, x;
} tile;

static inline tile tile_number(const plan *p, int64_t i)
{
    return (tile){i / (p->high * p->wide), i / p->wide % p->high, i % p->wide};
}

static inline void tile_next(const plan *p, tile *at)
{
    if (++at->x < p->wide) return;
    at->x = 0;
    if (++at->y < p->high) return;
    at->y = 0;
    at->image++;
}

/* out = B^T in, of vectors `pitch` apart. */
ED_INLINE void transform_inputs(const ed_vec *in, int pitch, ed_vec out[5])
{
    ed_vec d0 = in[0], d1 = in[pitch], d2 = in[2 * pitch], d3 = in[3 * pitch], d4 = in[4 * pitch];
    ed_vec even = d3 - B2 * d1, odd = A * d2 - A * B2 * d0;
    out[0] = even + odd;
    out[1] = even - odd;
    even = d3 - A2 * d1, odd = B * d2 - B * A2 * d0;
    out[2] = even + odd;
    out[3] = even - odd;
    out[4] = d4 + (A2 * B2 * d0 - (A2 + B2) * d2);
}

/* B^T d B at channels j .. j+lanes-1. */
ED_INLINE void input_lanes(const ed_item *const pixels[25], int64_t j, float *to, int64_t plane, int lanes)
{
    ed_vec columns[5][5];
    for (int k = 0; k < 5; k++) {
        ed_vec d[5];
        for (int i = 0; i < 5; i++) d[i] = ed_load_some(pixels[5 * i + k] + j, lanes);
        transform_inputs(d, 1, columns[k]);
    }
    for (int i = 0; i < 5; i++, to += 5 * plane) {
        ed_vec out[5];
        transform_inputs(&columns[0][i], 5, out);
        for (int k = 0; k < 5; k++) ed_store_some(to + k * plane + j, out[k], lanes);
    }
}

/* The 5x5 pixels of a phase that a tile reads. */
static inline void phase_pixels(const plan *p, const work *s, const tile *at, int phase, const ed_item *x,
                                const ed_item *pixels[25])
{
    for (int i = 0; i < 5; i++) {
        int64_t row = 2 * (SIDE * at->y + i) - 1 + phase / 2;
        const ed_item *line = x + (at->image * p->h + row) * p->w * p->c;
        for (int k = 0; k < 5; k++) {
            int64_t column = 2 * (SIDE * at->x + k) - 1 + phase % 2;
            bool inside = row >= 0 && row < p->h && column >= 0 && column < p->w;
            pixels[5 * i + k] = inside ? line + column * p->c : (const ed_item *)s->outside;
        }
    }
}

static void input_tiles(const plan *p, const work *s, int phase, int64_t first, int64_t count, const ed_item *x)
{
    float *to = s->inputs;
    tile at = tile_number(p, first);
    for (int64_t t = 0; t < count; t++, tile_next(p, &at), to += p->c) {
        const ed_item *pixels[25];
        int64_t j = 0;
        phase_pixels(p, s, &at, phase, x, pixels);
        for (; j + ED_LANES <= p->c; j += ED_LANES) input_lanes(pixels, j, to, p->input_plane, ED_LANES);
        if (j < p->c) input_lanes(pixels, j, to, p->input_plane, (int)(p->c - j));
    }
    /* products take rows in pairs */
    if (count % 2)
        for (int q = 0; q < PLANES; q++) memset(to + q * p->input_plane, 0, (size_t)p->c * sizeof(float));
}

/* out = A^T m. */
ED_INLINE void transform_outputs(const ed_vec m[5], ed_vec out[4])
{
    ed_vec even_a = m[0] + m[1], odd_a = m[0] - m[1], even_b = m[2] + m[3], odd_b = m[2] - m[3];
    out[0] = even_a + even_b;
    out[1] = A * odd_a + B * odd_b;
    out[2] = A2 * even_a + B2 * even_b;
    out[3] = m[4] + (A * A2 * odd_a + B * B2 * odd_b);
}

/* A^T M A + b + r at channels j .. */
ED_INLINE void output_lanes(const float *from, int64_t plane, const float *bias, const ed_item *const residual[16],
                            ed_item *const pixels[16], int64_t j, int lanes)
{
    ed_vec columns[5][4], b = ed_load_some(bias + j, lanes);
    for (int k = 0; k < 5; k++) {
        ed_vec m[5];
        for (int i = 0; i < 5; i++) m[i] = ed_load(from + (5 * i + k) * plane + j);
        transform_outputs(m, columns[k]);
    }
    for (int i = 0; i < SIDE; i++) {
        ed_vec m[5], out[4];
        for (int k = 0; k < 5; k++) m[k] = columns[k][i];
        transform_outputs(m, out);
        for (int k = 0; k < SIDE; k++)
            ed_store_some(pixels[SIDE * i + k] + j, out[k] + (b + ed_load_some(residual[SIDE * i + k] + j, lanes)),
                          lanes);
    }
}

/* b and r may be NULL; they and y begin at the part's first channel. */
static void output_tiles(const plan *p, const work *s, int64_t first, int64_t count, const float *b, const ed_item *r,
                         ed_item *y)
{
    const float *from = s->outputs;
    tile at = tile_number(p, first);
    for (int64_t t = 0; t < count; t++, tile_next(p, &at), from += p->columns) {
        ed_item *pixels[SIDE * SIDE];
        const ed_item *residual[SIDE * SIDE];
        int64_t j = 0;
        for (int i = 0; i < SIDE * SIDE; i++) {
            int64_t row = SIDE * at.y + i / SIDE, column = SIDE * at.x + i % SIDE;
            int64_t offset = ((at.image * p->oh + row) * p->ow + column) * p->o;
            bool inside = row < p->oh && column < p->ow;
            pixels[i] = inside ? y + offset : (ed_item *)s->dump;
            residual[i] = inside && r ? r + offset : (const ed_item *)s->outside;
        }
        for (; j + ED_LANES <= p->out; j += ED_LANES)
            output_lanes(from, p->output_plane, b ? b : s->outside, residual, pixels, j, ED_LANES);
        if (j < p->out) output_lanes(from, p->output_plane, b ? b : s->outside, residual, pixels, j, (int)(p->out - j));
    }
}

/* ---------------------------------------------------------------- kernel */

/* M += V U of one phase. */
static void products(const plan *p, const work *s, const float *kernels, int phase, int64_t rows)
{
    const ed_product shape = {.depth = p->c, .pitch_v = p->c, .pitch_m = p->columns, .add = phase > 0};
    for (int q = 0; q < PLANES; q++) {
        const float *panel = kernels + phase * p->phase + q * p->kernel_plane;
        for (int64_t j = 0; j < p->columns; j += ED_PRODUCT_COLUMNS, panel += p->panel)
            ed_product_rows(&shape, s->inputs + q * p->input_plane, rows, panel, s->outputs + q * p->output_plane + j);
    }
}

static encdiff_status prepare(ed_env *env, const ed_graph *graph, const ed_node *node, size_t *scratch, void **state)
{
    plan p;
    size_t count[5];
    if (!make_plan(graph, node, &p)) return ed_other_prepare(&ED_OTHER_CONV2D, env, graph, node, scratch, state);
    *scratch = sizes(&p, count);
    return ENCDIFF_OK;
}

static size_t part_scratch(const ed_graph *graph, const ed_node *node, int parts)
{
    plan p;
    size_t count[5];
    return make_plan(graph, node, &p) ? sizes(&p, count) : ED_OTHER_CONV2D.part_scratch(graph, node, parts);
}

/* x w b? r? -> y; a part is some of the output channels */
static encdiff_status run(const ed_call *call)
{
    plan p;
    if (!make_plan(call->graph, call->node, &p)) return ed_other_run(&ED_OTHER_CONV2D, call);
    ed_range part = ed_call_range(call, p.o, ED_PRODUCT_COLUMNS);
    if (part.first == part.last) return ENCDIFF_OK;
    work s = cut(&p, call->scratch);
    int64_t whole_phase = p.phase;
    lay_out(&p, part.last - part.first);
    memset(s.outside, 0, (size_t)ED_MAX(p.c, p.o) * sizeof(float));
    const float *kernels = s.kernels;
    if (call->packed) {
        kernels = (const float *)call->packed + part.first / ED_PRODUCT_COLUMNS * p.panel;
        p.phase = whole_phase;
    } else {
        make_panels(&p, IN_F32(1) + part.first * TAPS * p.c, s.kernels);
    }
    for (int64_t first = 0; first < p.tiles; first += p.block) {
        int64_t count = ED_MIN(p.block, p.tiles - first);
        for (int b = 0; b < PHASES; b++) {
            input_tiles(&p, &s, b, first, count, IN(0));
            products(&p, &s, kernels, b, ed_whole(count, 2));
        }
        output_tiles(&p, &s, first, count, IN_F32(2) ? IN_F32(2) + part.first : NULL, IN(3) ? IN(3) + part.first : NULL,
                     OUT(0) + part.first);
    }
    return ENCDIFF_OK;
}

static plan pack_plan(const ed_shape *w)
{
    plan p = {.c = w->dim[3], .o = w->dim[0], .tiles = 1};
    lay_out(&p, p.o);
    return p;
}

static size_t pack_bytes(const ed_shape *w)
{
    plan p = pack_plan(w);
    return (size_t)(PHASES * p.phase) * sizeof(float);
}

static void pack(const ed_shape *w, const float *from, void *to)
{
    plan p = pack_plan(w);
    make_panels(&p, from, to);
}

static const ed_packing panels = {pack_bytes, pack};

static const ed_packing *packing(const ed_graph *graph, const ed_node *node)
{
    plan p;
    if (make_plan(graph, node, &p)) return &panels;
    return ED_OTHER_CONV2D.packing ? ED_OTHER_CONV2D.packing(graph, node) : NULL;
}

static void release(ed_env *env, void *state) { ed_other_release(&ED_OTHER_CONV2D, env, state); }

const ed_kernel ED_CPU(conv2d_strided) = {.prepare = prepare,
                                          .run = run,
                                          .release = release,
                                          .parts = ED_CONV_PARTS,
                                          .part_scratch = ED_CONV_PARTS ? part_scratch : NULL,
                                          .packing = packing};
