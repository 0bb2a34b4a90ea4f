/*
 * conv2d with a 4x4 kernel, stride 2 and padding 1 (winograd_strided.h). The phases are more input channels of one
 * product; a block of tiles takes one phase after the other, so that what is transformed stays in the cache.
 */
#include "cpu/winograd_strided.h"
#include "cpu/onednn/onednn.h"

/* ---------------------------------------------------------------- plan */

/* Tiles of 4x4 outputs; distances in floats. */
typedef struct plan {
    ed_strided g;
    int64_t out, columns; /* of the call's part: channels, and as whole panels */
    int64_t block;        /* tiles, an even number */
    int64_t kernel_plane, panel, phase, input_plane, output_plane;
} plan;

/* More tiles read the kernels less often, fewer leave room for them in the cache; flat around this. */
#define MOST_TILES 32

static void lay_out(plan *p, int64_t out)
{
    int64_t blocks = (p->g.y.tiles + MOST_TILES - 1) / MOST_TILES;
    p->out = out, p->columns = ed_whole(out, ED_PRODUCT_COLUMNS);
    p->block = ed_whole((p->g.y.tiles + blocks - 1) / blocks, 2);
    p->kernel_plane = p->g.c * ED_PRODUCT_COLUMNS + ED_PLANE_GAP;
    p->panel = ED_STRIDED_PLANES * p->kernel_plane;
    p->phase = p->columns / ED_PRODUCT_COLUMNS * p->panel;
    p->input_plane = p->block * p->g.c + ED_PLANE_GAP;
    p->output_plane = p->block * p->columns + ED_PLANE_GAP;
}

/* Few tiles do not repay reading the transformed kernels, which are six times as large as the kernels. */
static bool make_plan(const ed_graph *graph, const ed_node *node, plan *p)
{
    *p = (plan){.block = 0};
    bool suits = ed_strided_describe(graph, node, node->in[0], node->in[1], node->out[0], &p->g);
    lay_out(p, p->g.o);
    return suits && p->g.y.tiles >= 12;
}

/* Scratch, cut in this order. `outside` is read as zeros and `dump` written for pixels that an image lacks. */
typedef struct work {
    float *kernels, *inputs, *outputs, *outside, *dump;
} work;

static size_t sizes(const plan *p, size_t count[5])
{
    const size_t floats[5] = {(size_t)(ED_STRIDED_PHASES * p->phase), (size_t)(ED_STRIDED_PLANES * p->input_plane),
                              (size_t)(ED_STRIDED_PLANES * p->output_plane), (size_t)ED_MAX(p->g.c, p->g.o),
                              (size_t)p->g.o};
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
static void copy_block(const plan *p, const float *w, int64_t i, int64_t j, float block[8 * ED_STRIDED_TAPS * 8])
{
    int64_t rows = ED_MIN(ED_MAX(p->out - i, 0), 8), columns = ED_MIN(p->g.c - j, 8);
    memset(block, 0, 8 * ED_STRIDED_TAPS * 8 * sizeof *block);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t k = 0; k < ED_STRIDED_TAPS; k++)
            memcpy(block + (r * ED_STRIDED_TAPS + k) * 8, w + ((i + r) * ED_STRIDED_TAPS + k) * p->g.c + j,
                   (size_t)columns * sizeof *block);
}

/* Eight columns of a panel at eight input channels j .., of all phases. */
static void make_kernels(const plan *p, const float *w, int64_t i, int64_t j, float *panel)
{
    float block[8 * ED_STRIDED_TAPS * 8], turned[ED_STRIDED_TAPS][8 * 8];
    bool whole = i + 8 <= p->out && j + 8 <= p->g.c;
    const float *from = whole ? w + i * ED_STRIDED_TAPS * p->g.c + j : block;
    int64_t pitch = whole ? p->g.c : 8;
    if (!whole) copy_block(p, w, i, j, block);
    for (int q = 0; q < ED_STRIDED_TAPS; q++) ed_transpose8(from + q * pitch, ED_STRIDED_TAPS * pitch, turned[q], 8);
    for (int b = 0; b < ED_STRIDED_PHASES; b++) {
        int tap = ed_phase_tap(b);
        for (int64_t r = 0; r < ED_MIN(p->g.c - j, 8); r++) {
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
        for (int64_t j = 0; j < p->g.c; j += 8)
            make_kernels(p, w, i, j, kernels + i / ED_PRODUCT_COLUMNS * p->panel + i % ED_PRODUCT_COLUMNS);
}

/* ---------------------------------------------------------------- tiles */

static void input_tiles(const plan *p, const work *s, int phase, int64_t first, int64_t count, const ed_item *x)
{
    float *to = s->inputs + count * p->g.c;
    ed_strided_input_tiles(&p->g, phase, x, (const ed_item *)s->outside, first, count, s->inputs, p->g.c,
                           p->input_plane);
    /* products take rows in pairs */
    if (count % 2)
        for (int q = 0; q < ED_STRIDED_PLANES; q++) memset(to + q * p->input_plane, 0, (size_t)p->g.c * sizeof(float));
}

/* out = A^T m. */
ED_INLINE void transform_outputs(const ed_vec m[5], ed_vec out[4])
{
    ed_vec even_a = m[0] + m[1], odd_a = m[0] - m[1], even_b = m[2] + m[3], odd_b = m[2] - m[3];
    out[0] = even_a + even_b;
    out[1] = ED_STRIDED_A * odd_a + ED_STRIDED_B * odd_b;
    out[2] = ED_STRIDED_A2 * even_a + ED_STRIDED_B2 * even_b;
    out[3] = m[4] + (ED_STRIDED_A * ED_STRIDED_A2 * odd_a + ED_STRIDED_B * ED_STRIDED_B2 * odd_b);
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
    for (int i = 0; i < ED_STRIDED_SIDE; i++) {
        ed_vec m[5], out[4];
        for (int k = 0; k < 5; k++) m[k] = columns[k][i];
        transform_outputs(m, out);
        for (int k = 0; k < ED_STRIDED_SIDE; k++)
            ed_store_some(pixels[ED_STRIDED_SIDE * i + k] + j,
                          out[k] + (b + ed_load_some(residual[ED_STRIDED_SIDE * i + k] + j, lanes)), lanes);
    }
}

/* b and r may be NULL; they and y begin at the part's first channel. */
static void output_tiles(const plan *p, const work *s, int64_t first, int64_t count, const float *b, const ed_item *r,
                         ed_item *y)
{
    const float *from = s->outputs;
    ed_tile_at at = ed_tile_number(&p->g.y, first);
    for (int64_t t = 0; t < count; t++, ed_tile_next(&p->g.y, &at), from += p->columns) {
        ed_item *pixels[ED_STRIDED_SIDE * ED_STRIDED_SIDE];
        const ed_item *residual[ED_STRIDED_SIDE * ED_STRIDED_SIDE];
        int64_t offset[ED_STRIDED_SIDE * ED_STRIDED_SIDE], j = 0;
        ed_tile_pixels(&p->g.y, &at, p->g.o, ED_STRIDED_SIDE, 0, offset);
        for (int i = 0; i < ED_STRIDED_SIDE * ED_STRIDED_SIDE; i++) {
            pixels[i] = offset[i] >= 0 ? y + offset[i] : (ed_item *)s->dump;
            residual[i] = offset[i] >= 0 && r ? r + offset[i] : (const ed_item *)s->outside;
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
    const ed_product shape = {.depth = p->g.c, .pitch_v = p->g.c, .pitch_m = p->columns, .add = phase > 0};
    for (int q = 0; q < ED_STRIDED_PLANES; q++) {
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
    ed_range part = ed_call_range(call, p.g.o, ED_PRODUCT_COLUMNS);
    if (part.first == part.last) return ENCDIFF_OK;
    work s = cut(&p, call->scratch);
    int64_t whole_phase = p.phase;
    lay_out(&p, part.last - part.first);
    memset(s.outside, 0, (size_t)ED_MAX(p.g.c, p.g.o) * sizeof(float));
    const float *kernels = s.kernels;
    if (call->packed) {
        kernels = (const float *)call->packed + part.first / ED_PRODUCT_COLUMNS * p.panel;
        p.phase = whole_phase;
    } else {
        make_panels(&p, IN_F32(1) + part.first * ED_STRIDED_TAPS * p.g.c, s.kernels);
    }
    for (int64_t first = 0; first < p.g.y.tiles; first += p.block) {
        int64_t count = ED_MIN(p.block, p.g.y.tiles - first);
        for (int b = 0; b < ED_STRIDED_PHASES; b++) {
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
    plan p = {.g = {.c = w->dim[3], .o = w->dim[0], .y.tiles = 1}};
    lay_out(&p, p.g.o);
    return p;
}

static size_t pack_bytes(const ed_shape *w)
{
    plan p = pack_plan(w);
    return (size_t)(ED_STRIDED_PHASES * p.phase) * sizeof(float);
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
