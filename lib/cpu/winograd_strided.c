/*
 * conv2d with a 4x4 kernel, stride 2 and padding 1, by Winograd's algorithm.
 *
 * Output row y reads input rows 2 y - 1 .. 2 y + 2. Of the odd rows, X_0[i] = x[2 i - 1], and the even ones,
 * X_1[i] = x[2 i], it reads two each: y = X_b[y] g[b] + X_b[y + 1] g[2 + b], summed over both b. Along both sides of
 * the image that makes four phases of 2x2 kernels with stride 1, which F(2x2,2x2) computes with 9 products instead of
 * 16:
 *
 *   B^T = 1 -1  0     G = 1  0     A^T = 1  1  0
 *         0  1  0         1  1           0  1  1
 *         0 -1  1         0  1
 *
 * There is no multiplication in it, and the rounding error is that of a direct sum. The phases are more input
 * channels of one product; a block of tiles takes one phase after the other, so that what is transformed stays in the
 * cache.
 */
#include "cpu/winograd.h"
#include "cpu/attention_tile.h" /* ed_transpose8 */
#include "cpu/onednn/onednn.h"

#define PLANES 9
#define PHASES 4
#define TAPS 16

/* ---------------------------------------------------------------- plan */

/* Tiles of 2x2 outputs; distances in floats. */
typedef struct plan {
    int64_t n, h, w, c, oh, ow, o; /* x[n,h,w,c], y[n,oh,ow,o] */
    int64_t high, wide, tiles;
    int64_t out, columns; /* of the call's part: channels, and as whole panels */
    int64_t block;        /* tiles, an even number */
    int64_t kernel_plane, panel, phase, input_plane, output_plane;
} plan;

/* More tiles read the kernels less often, fewer leave room for them in the cache; flat around this. */
#define MOST_TILES 64

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

/* Measured with AVX-512, one thread, eight images of 128 channels, times as fast as lib/cpu/onednn: 32x32 1.2,
 * 16x16 1.6 and 8x8 1.0. */
static bool make_plan(const ed_graph *graph, const ed_node *node, plan *p)
{
    const int64_t *x = ed_graph_shape(graph, node->in[0])->dim, *w = ed_graph_shape(graph, node->in[1])->dim;
    const int64_t *y = ed_graph_shape(graph, node->out[0])->dim;
    *p = (plan){.n = x[0], .h = x[1], .w = x[2], .c = x[3], .oh = y[1], .ow = y[2], .o = w[0]};
    p->high = (p->oh + 1) / 2, p->wide = (p->ow + 1) / 2;
    p->tiles = p->n * p->high * p->wide;
    lay_out(p, p->o);
    bool suits = node->attr.conv.stride == 2 && node->attr.conv.pad_top == 1 && node->attr.conv.pad_left == 1;
    return suits && w[1] == 4 && w[2] == 4 && p->c >= 32 && p->o >= 32 && p->tiles >= 16;
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

/* Eight kernels side by side, g[row * 2 + column], to the planes. */
ED_INLINE void transform_kernels(const ed_row8 g[4], float *to, int64_t plane)
{
    const ed_row8 rows[3][2] = {{g[0], g[1]}, {g[0] + g[2], g[1] + g[3]}, {g[2], g[3]}};
    for (int i = 0; i < 3; i++, to += 3 * plane) {
        ed_store8(to, rows[i][0]);
        ed_store8(to + plane, rows[i][0] + rows[i][1]);
        ed_store8(to + 2 * plane, rows[i][1]);
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

/* B^T d B at channels j .. j+lanes-1. */
ED_INLINE void input_lanes(const ed_item *const pixels[9], int64_t j, float *to, int64_t plane, int lanes)
{
    ed_vec t[3][3];
    for (int k = 0; k < 3; k++) {
        ed_vec d0 = ed_load_some(pixels[k] + j, lanes), d1 = ed_load_some(pixels[3 + k] + j, lanes),
               d2 = ed_load_some(pixels[6 + k] + j, lanes);
        t[0][k] = d0 - d1;
        t[1][k] = d1;
        t[2][k] = d2 - d1;
    }
    for (int i = 0; i < 3; i++, to += 3 * plane) {
        ed_store_some(to + j, t[i][0] - t[i][1], lanes);
        ed_store_some(to + plane + j, t[i][1], lanes);
        ed_store_some(to + 2 * plane + j, t[i][2] - t[i][1], lanes);
    }
}

/* The 3x3 pixels of a phase that a tile reads. */
static inline void phase_pixels(const plan *p, const work *s, const tile *at, int phase, const ed_item *x,
                                const ed_item *pixels[9])
{
    for (int i = 0; i < 3; i++) {
        int64_t row = 4 * at->y + 2 * i - 1 + phase / 2;
        const ed_item *line = x + (at->image * p->h + row) * p->w * p->c;
        for (int k = 0; k < 3; k++) {
            int64_t column = 4 * at->x + 2 * k - 1 + phase % 2;
            bool inside = row >= 0 && row < p->h && column >= 0 && column < p->w;
            pixels[3 * i + k] = inside ? line + column * p->c : (const ed_item *)s->outside;
        }
    }
}

static void input_tiles(const plan *p, const work *s, int phase, int64_t first, int64_t count, const ed_item *x)
{
    float *to = s->inputs;
    tile at = tile_number(p, first);
    for (int64_t t = 0; t < count; t++, tile_next(p, &at), to += p->c) {
        const ed_item *pixels[9];
        int64_t j = 0;
        phase_pixels(p, s, &at, phase, x, pixels);
        for (; j + ED_LANES <= p->c; j += ED_LANES) input_lanes(pixels, j, to, p->input_plane, ED_LANES);
        if (j < p->c) input_lanes(pixels, j, to, p->input_plane, (int)(p->c - j));
    }
    /* products take rows in pairs */
    if (count % 2)
        for (int q = 0; q < PLANES; q++) memset(to + q * p->input_plane, 0, (size_t)p->c * sizeof(float));
}

/* A^T M A + b + r at channels j .. */
ED_INLINE void output_lanes(const float *from, int64_t plane, const float *bias, const ed_item *const residual[4],
                            ed_item *const pixels[4], int64_t j, int lanes)
{
    ed_vec t[2][3], b = ed_load_some(bias + j, lanes);
    for (int k = 0; k < 3; k++) {
        ed_vec m0 = ed_load(from + k * plane + j), m1 = ed_load(from + (3 + k) * plane + j),
               m2 = ed_load(from + (6 + k) * plane + j);
        t[0][k] = m0 + m1;
        t[1][k] = m1 + m2;
    }
    for (int i = 0; i < 4; i++) {
        ed_vec sum = t[i / 2][i % 2] + t[i / 2][i % 2 + 1];
        ed_store_some(pixels[i] + j, sum + (b + ed_load_some(residual[i] + j, lanes)), lanes);
    }
}

/* b and r may be NULL; they and y begin at the part's first channel. */
static void output_tiles(const plan *p, const work *s, int64_t first, int64_t count, const float *b, const ed_item *r,
                         ed_item *y)
{
    const float *from = s->outputs;
    tile at = tile_number(p, first);
    for (int64_t t = 0; t < count; t++, tile_next(p, &at), from += p->columns) {
        ed_item *pixels[4];
        const ed_item *residual[4];
        int64_t j = 0;
        for (int i = 0; i < 4; i++) {
            int64_t row = 2 * at.y + i / 2, column = 2 * at.x + i % 2;
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
static void products(const plan *p, const work *s, int phase, int64_t rows)
{
    const ed_product shape = {.depth = p->c, .pitch_v = p->c, .pitch_m = p->columns, .add = phase > 0};
    for (int q = 0; q < PLANES; q++) {
        const float *panel = s->kernels + phase * p->phase + q * p->kernel_plane;
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
    lay_out(&p, part.last - part.first);
    memset(s.outside, 0, (size_t)ED_MAX(p.c, p.o) * sizeof(float));
    make_panels(&p, IN_F32(1) + part.first * TAPS * p.c, s.kernels);
    for (int64_t first = 0; first < p.tiles; first += p.block) {
        int64_t count = ED_MIN(p.block, p.tiles - first);
        for (int b = 0; b < PHASES; b++) {
            input_tiles(&p, &s, b, first, count, IN(0));
            products(&p, &s, b, ed_whole(count, 2));
        }
        output_tiles(&p, &s, first, count, IN_F32(2) ? IN_F32(2) + part.first : NULL, IN(3) ? IN(3) + part.first : NULL,
                     OUT(0) + part.first);
    }
    return ENCDIFF_OK;
}

/* Of what goes on to others: they are few tiles, whose time is in reading the weights. */
static const ed_packing *packing(const ed_graph *graph, const ed_node *node)
{
    plan p;
    if (make_plan(graph, node, &p) || !ED_OTHER_CONV2D.packing) return NULL;
    return ED_OTHER_CONV2D.packing(graph, node);
}

static void release(ed_env *env, void *state) { ed_other_release(&ED_OTHER_CONV2D, env, state); }

const ed_kernel ED_CPU(conv2d_strided) = {.prepare = prepare,
                                          .run = run,
                                          .release = release,
                                          .parts = ED_CONV_PARTS,
                                          .part_scratch = ED_CONV_PARTS ? part_scratch : NULL,
                                          .packing = packing};
