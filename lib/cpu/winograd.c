/*
 * conv2d, y = x * w + b + r, and its gradient for the input, by Winograd's F(2x2,3x3) (winograd.h) or F(4x4,3x3)
 * (winograd_four.h).
 *
 * The kernels are transformed to panels [panel][plane][in][columns], the order in which a product reads them: to
 * scratch at every call, which is a percent of the work where there are 128 tiles or more, or once where the execution
 * keeps packed weights. The product is our own, since everything it reads is already packed and its matrices are small.
 */
#include "cpu/winograd_four.h"
#include "cpu/onednn/onednn.h"

/* ---------------------------------------------------------------- plan */

/* A convolution of `in` to `out` channels; distances in floats. */
typedef struct plan {
    ed_winograd g;
    int planes;
    int64_t in, out;
    int64_t pitch;   /* from a pixel of y to the next: `out`, but where that is a part of the channels */
    int64_t columns; /* out in whole panels */
    int64_t block;   /* tiles, an even number */
    int64_t blocks;
    int64_t kernel_plane, panel, input_plane, output_plane;
} plan;

/* Cache that a block's inputs and outputs may take. */
#define BLOCK_BYTES ((int64_t)512 << 10)

static int64_t kernel_plane(int64_t in) { return in * ED_PRODUCT_COLUMNS + ED_PLANE_GAP; }
static int planes_of(int64_t side) { return (int)((side + 2) * (side + 2)); }

static plan make_plan(const ed_winograd *g, int64_t in, int64_t out)
{
    plan p = {.g = *g, .planes = planes_of(g->side), .in = in, .out = out, .pitch = out};
    p.columns = ed_whole(out, ED_PRODUCT_COLUMNS);
    int64_t most = ED_MAX(BLOCK_BYTES / (p.planes * (int64_t)sizeof(float) * (in + p.columns)), 48);
    p.blocks = (g->tiles + most - 1) / most;
    p.block = ed_whole((g->tiles + p.blocks - 1) / p.blocks, p.blocks == 1 ? 2 : ED_PRODUCT_ROWS);
    p.kernel_plane = kernel_plane(in);
    p.panel = p.planes * p.kernel_plane;
    p.input_plane = p.block * in + ED_PLANE_GAP;
    p.output_plane = p.block * p.columns + ED_PLANE_GAP;
    return p;
}

/* One block has each panel of kernels transformed when its turn comes, and keeps no other. */
static size_t kernel_floats(const plan *p)
{
    return (size_t)(p->blocks == 1 ? p->panel : p->columns / ED_PRODUCT_COLUMNS * p->panel);
}

/* Scratch, cut in this order. `outside` is read as zeros and `dump` written for pixels that an image lacks. */
typedef struct work {
    float *kernels, *inputs, *outputs, *outside, *dump;
} work;

static work cut(const plan *p, char *scratch)
{
    work s;
    s.kernels = ed_cut(&scratch, kernel_floats(p), sizeof(float));
    s.inputs = ed_cut(&scratch, (size_t)(p->planes * p->input_plane), sizeof(float));
    s.outputs = ed_cut(&scratch, (size_t)(p->planes * p->output_plane), sizeof(float));
    s.outside = ed_cut(&scratch, (size_t)ED_MAX(p->in, p->out), sizeof(float));
    s.dump = ed_cut(&scratch, (size_t)p->out, sizeof(float));
    return s;
}

static size_t work_size(const plan *p)
{
    return ed_cut_size(kernel_floats(p), sizeof(float)) +
           ed_cut_size((size_t)(p->planes * p->input_plane), sizeof(float)) +
           ed_cut_size((size_t)(p->planes * p->output_plane), sizeof(float)) +
           ed_cut_size((size_t)ED_MAX(p->in, p->out), sizeof(float)) + ed_cut_size((size_t)p->out, sizeof(float));
}

/* ---------------------------------------------------------------- kernels: U = G g G^T */

/* To 16 planes. */
ED_INLINE void transform_kernels(const ed_row8 g[9], float *to, int64_t plane)
{
    ed_row8 t[4][3];
    for (int k = 0; k < 3; k++) {
        ed_row8 outer = 0.5f * (g[k] + g[6 + k]), middle = 0.5f * g[3 + k];
        t[0][k] = g[k];
        t[1][k] = outer + middle;
        t[2][k] = outer - middle;
        t[3][k] = g[6 + k];
    }
    for (int i = 0; i < 4; i++, to += 4 * plane) {
        ed_row8 outer = 0.5f * (t[i][0] + t[i][2]), middle = 0.5f * t[i][1];
        ed_store8(to, t[i][0]);
        ed_store8(to + plane, outer + middle);
        ed_store8(to + 2 * plane, outer - middle);
        ed_store8(to + 3 * plane, t[i][2]);
    }
}

/* A block of 8 x 8 channels of w[o][9][c], zeros where w ends, read with a distance of 9 * 8 between rows. */
static const float *whole_block(const ed_winograd *g, const float *w, int64_t i, int64_t j, float block[8 * 9 * 8])
{
    int64_t rows = ED_MIN(ED_MAX(g->o - i, 0), 8), columns = ED_MIN(g->c - j, 8);
    memset(block, 0, 8 * 9 * 8 * sizeof *block);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t k = 0; k < 9; k++)
            memcpy(block + (r * 9 + k) * 8, w + ((i + r) * 9 + k) * g->c + j, (size_t)columns * sizeof *block);
    return block;
}

/* Transforms eight kernels side by side, g[row * 3 + column], to the planes. */
typedef void (*transform_function)(const ed_row8 g[9], float *to, int64_t plane);

/* Makes the panel of output columns first .. first + ED_PRODUCT_COLUMNS - 1. */
typedef void (*kernel_function)(const plan *p, const float *w, int64_t first, float *panel);

/* For y = x * w: rows of a panel are input channels c, columns are o, which lie far apart in w and are turned. */
ED_INLINE void forward_panel(const plan *p, const float *w, int64_t first, float *panel, transform_function transform)
{
    const ed_winograd *g = &p->g;
    float block[8 * 9 * 8], turned[9][8 * 8];
    for (int64_t j = 0; j < g->c; j += 8) {
        for (int64_t k = 0; k < ED_PRODUCT_COLUMNS; k += 8) {
            int64_t i = first + k;
            bool whole = i + 8 <= g->o && j + 8 <= g->c;
            const float *from = whole ? w + i * 9 * g->c + j : whole_block(g, w, i, j, block);
            int64_t pitch = whole ? g->c : 8;
            for (int q = 0; q < 9; q++) ed_transpose8(from + q * pitch, 9 * pitch, turned[q], 8);
            for (int64_t r = 0; r < ED_MIN(g->c - j, 8); r++) {
                ed_row8 kernel[9];
                for (int q = 0; q < 9; q++) kernel[q] = ed_load8(turned[q] + 8 * r);
                transform(kernel, panel + (j + r) * ED_PRODUCT_COLUMNS + k, p->kernel_plane);
            }
        }
    }
}

/* Nine rows of eight channels, c apart, of which those from `count` on are zero. */
static const float *whole_rows(const float *w, int64_t c, int64_t count, float rows[9 * 8])
{
    memset(rows, 0, 9 * 8 * sizeof *rows);
    for (int k = 0; k < 9 && count > 0; k++) memcpy(rows + 8 * k, w + k * c, (size_t)count * sizeof *rows);
    return rows;
}

/* For dx = dy * w turned by half a circle: rows of a panel are o, columns are c as in w. */
ED_INLINE void backward_panel(const plan *p, const float *w, int64_t first, float *panel, transform_function transform)
{
    const int64_t c = p->g.c;
    float rows[9 * 8];
    for (int64_t i = 0; i < p->g.o; i++, w += 9 * c, panel += ED_PRODUCT_COLUMNS) {
        for (int64_t k = 0; k < ED_PRODUCT_COLUMNS; k += 8) {
            int64_t j = first + k;
            bool whole = j + 8 <= c;
            const float *from = whole ? w + j : whole_rows(w + ED_MIN(j, c), c, c - j, rows);
            int64_t pitch = whole ? c : 8;
            ed_row8 kernel[9];
            for (int q = 0; q < 9; q++) kernel[8 - q] = ed_load8(from + q * pitch);
            transform(kernel, panel + k, p->kernel_plane);
        }
    }
}

static void forward_panel_of_two(const plan *p, const float *w, int64_t first, float *panel)
{
    forward_panel(p, w, first, panel, transform_kernels);
}

static void forward_panel_of_four(const plan *p, const float *w, int64_t first, float *panel)
{
    forward_panel(p, w, first, panel, ed_four_kernels);
}

static void backward_panel_of_two(const plan *p, const float *w, int64_t first, float *panel)
{
    backward_panel(p, w, first, panel, transform_kernels);
}

static void backward_panel_of_four(const plan *p, const float *w, int64_t first, float *panel)
{
    backward_panel(p, w, first, panel, ed_four_kernels);
}

static kernel_function forward_function(const plan *p)
{
    return p->g.side == 4 ? forward_panel_of_four : forward_panel_of_two;
}

static kernel_function backward_function(const plan *p)
{
    return p->g.side == 4 ? backward_panel_of_four : backward_panel_of_two;
}

/* All panels of the output channels of p. */
static void make_panels(const plan *p, kernel_function make, const float *w, float *panels)
{
    for (int64_t j = 0; j < p->columns; j += ED_PRODUCT_COLUMNS, panels += p->panel) make(p, w, j, panels);
}

/* What is kept of weights w[o][9][c] for the forward convolution. */
static plan pack_plan(const ed_shape *w, int64_t side)
{
    plan p = {.g = {.o = w->dim[0], .c = w->dim[3], .side = side}, .planes = planes_of(side), .in = w->dim[3]};
    p.out = w->dim[0];
    p.columns = ed_whole(p.out, ED_PRODUCT_COLUMNS);
    p.kernel_plane = kernel_plane(p.in);
    p.panel = p.planes * p.kernel_plane;
    return p;
}

static size_t pack_bytes(const ed_shape *w, int64_t side)
{
    plan p = pack_plan(w, side);
    return (size_t)(p.columns / ED_PRODUCT_COLUMNS * p.panel) * sizeof(float);
}

static void pack(const ed_shape *w, int64_t side, const float *from, void *to)
{
    plan p = pack_plan(w, side);
    make_panels(&p, forward_function(&p), from, to);
}

static size_t pack_bytes_of_two(const ed_shape *w) { return pack_bytes(w, 2); }
static size_t pack_bytes_of_four(const ed_shape *w) { return pack_bytes(w, 4); }
static void pack_of_two(const ed_shape *w, const float *from, void *to) { pack(w, 2, from, to); }
static void pack_of_four(const ed_shape *w, const float *from, void *to) { pack(w, 4, from, to); }

static const ed_packing panels_of_two = {pack_bytes_of_two, pack_of_two};
static const ed_packing panels_of_four = {pack_bytes_of_four, pack_of_four};

/* ---------------------------------------------------------------- products: M = V U in every plane */

/* Columns first .. of one plane; rows is even. */
static void product(const plan *p, const work *s, const float *panel, int plane, int64_t first, int64_t rows)
{
    const ed_product shape = {.depth = p->in, .pitch_v = p->in, .pitch_m = p->columns};
    ed_product_rows(&shape, s->inputs + plane * p->input_plane, rows, panel + plane * p->kernel_plane,
                    s->outputs + plane * p->output_plane + first);
}

/* A block's products with all kernels. */
static void products(const plan *p, const work *s, const float *kernels, int64_t rows)
{
    for (int q = 0; q < p->planes; q++) {
        const float *panel = kernels;
        for (int64_t j = 0; j < p->columns; j += ED_PRODUCT_COLUMNS, panel += p->panel)
            product(p, s, panel, q, j, rows);
    }
}

/* The same where there is one block: a panel is used while it is in the cache. */
static void products_of_panels(const plan *p, const work *s, kernel_function make, const float *w, int64_t rows)
{
    for (int64_t j = 0; j < p->columns; j += ED_PRODUCT_COLUMNS) {
        make(p, w, j, s->kernels);
        for (int q = 0; q < p->planes; q++) product(p, s, s->kernels, q, j, rows);
    }
}

/* ---------------------------------------------------------------- outputs: Y = A^T M A + b + r */

ED_INLINE void output_lanes(const float *from, int64_t plane, const float *bias, const ed_item *const residual[4],
                            ed_item *const pixels[4], int64_t j, int lanes)
{
    ed_vec t[2][4];
    for (int k = 0; k < 4; k++) {
        ed_vec m0 = ed_load(from + k * plane + j), m1 = ed_load(from + (4 + k) * plane + j),
               m2 = ed_load(from + (8 + k) * plane + j), m3 = ed_load(from + (12 + k) * plane + j);
        t[0][k] = m0 + (m1 + m2);
        t[1][k] = (m1 - m2) - m3;
    }
    ed_vec b = ed_load_some(bias + j, lanes);
    for (int i = 0; i < 2; i++) {
        ed_vec left = t[i][0] + (t[i][1] + t[i][2]), right = (t[i][1] - t[i][2]) - t[i][3];
        left += b + ed_load_some(residual[2 * i] + j, lanes);
        right += b + ed_load_some(residual[2 * i + 1] + j, lanes);
        ed_store_some(pixels[2 * i] + j, left, lanes);
        ed_store_some(pixels[2 * i + 1] + j, right, lanes);
    }
}

/* b and r may be NULL. */
static void output_tiles(const plan *p, const work *s, int64_t first, int64_t count, const float *b, const ed_item *r,
                         ed_item *y)
{
    const int64_t c = p->out;
    const float *bias = b ? b : s->outside, *from = s->outputs;
    ed_tile_at at = ed_tile_number(&p->g, first);
    for (int64_t t = 0; t < count; t++, ed_tile_next(&p->g, &at), from += p->columns) {
        ed_item *pixels[4];
        const ed_item *residual[4];
        int64_t offset[4], j = 0;
        ed_tile_pixels(&p->g, &at, p->pitch, 2, 0, offset);
        for (int k = 0; k < 4; k++) {
            pixels[k] = offset[k] < 0 ? (ed_item *)s->dump : y + offset[k];
            residual[k] = offset[k] < 0 || !r ? (const ed_item *)s->outside : r + offset[k];
        }
        for (; j + ED_LANES <= c; j += ED_LANES)
            output_lanes(from, p->output_plane, bias, residual, pixels, j, ED_LANES);
        if (j < c) output_lanes(from, p->output_plane, bias, residual, pixels, j, (int)(c - j));
    }
}

static void output_tiles_of_four(const plan *p, const work *s, int64_t first, int64_t count, const float *b,
                                 const ed_item *r, ed_item *y)
{
    const int64_t c = p->out;
    const float *bias = b ? b : s->outside, *from = s->outputs;
    ed_tile_at at = ed_tile_number(&p->g, first);
    for (int64_t t = 0; t < count; t++, ed_tile_next(&p->g, &at), from += p->columns) {
        ed_item *pixels[16];
        const ed_item *residual[16];
        int64_t offset[16], j = 0;
        ed_tile_pixels(&p->g, &at, p->pitch, 4, 0, offset);
        for (int k = 0; k < 16; k++) {
            pixels[k] = offset[k] < 0 ? (ed_item *)s->dump : y + offset[k];
            residual[k] = offset[k] < 0 || !r ? (const ed_item *)s->outside : r + offset[k];
        }
        for (; j + ED_LANES <= c; j += ED_LANES)
            ed_four_output_lanes(from, p->output_plane, bias, residual, pixels, j, ED_LANES);
        if (j < c) ed_four_output_lanes(from, p->output_plane, bias, residual, pixels, j, (int)(c - j));
    }
}

/* ---------------------------------------------------------------- both convolutions */

static void transform_inputs(const plan *p, const work *s, const ed_item *x, int64_t first, int64_t count)
{
    const ed_item *zeros = (const ed_item *)s->outside;
    if (p->g.side == 4)
        ed_transform_tiles(&p->g, 6, 1, ed_four_input_lanes, p->in, x, zeros, first, count, s->inputs, p->in,
                           p->input_plane);
    else
        ed_transform_tiles(&p->g, 4, 1, ed_input_lanes, p->in, x, zeros, first, count, s->inputs, p->in,
                           p->input_plane);
}

static void transform_outputs(const plan *p, const work *s, int64_t first, int64_t count, const float *b,
                              const ed_item *r, ed_item *y)
{
    if (p->g.side == 4)
        output_tiles_of_four(p, s, first, count, b, r, y);
    else
        output_tiles(p, s, first, count, b, r, y);
}

/* `kernels` are all panels, or NULL where they are made of w here. */
static void convolve(const plan *p, const work *s, kernel_function make, const ed_item *x, const float *w,
                     const float *kernels, const float *b, const ed_item *r, ed_item *y)
{
    memset(s->outside, 0, (size_t)ED_MAX(p->in, p->out) * sizeof(float));
    if (!kernels && p->blocks > 1) {
        make_panels(p, make, w, s->kernels);
        kernels = s->kernels;
    }
    for (int64_t first = 0; first < p->g.tiles; first += p->block) {
        int64_t count = ED_MIN(p->block, p->g.tiles - first), rows = ed_whole(count, 2);
        transform_inputs(p, s, x, first, count);
        for (int q = 0; q < p->planes; q++)
            memset(s->inputs + q * p->input_plane + count * p->in, 0, (size_t)((rows - count) * p->in) * sizeof(float));
        if (kernels)
            products(p, s, kernels, rows);
        else
            products_of_panels(p, s, make, w, rows);
        transform_outputs(p, s, first, count, b, r, y);
    }
}

/* Tiles of 4x4 where little of them is outside of the image. */
static bool describe(const ed_graph *graph, const ed_node *node, ed_value x, ed_value w, ed_winograd *g)
{
    bool suits = ed_winograd_describe(graph, node, x, w, 4, g) && g->h >= 8 && g->w >= 8 && g->tiles >= 16;
    if (suits && 16 * g->high * g->wide * 8 <= g->h * g->w * 9) return true;
    return ed_winograd_suits(graph, node, x, w, g);
}

static bool forward_plan(const ed_graph *graph, const ed_node *node, plan *p)
{
    ed_winograd g;
    if (!describe(graph, node, node->in[0], node->in[1], &g)) return false;
    *p = make_plan(&g, g.c, g.o);
    return true;
}

static encdiff_status prepare(ed_env *env, const ed_graph *graph, const ed_node *node, size_t *scratch, void **state)
{
    plan p;
    if (!forward_plan(graph, node, &p)) return ED_CPU(conv2d_strided).prepare(env, graph, node, scratch, state);
    *scratch = work_size(&p);
    return ENCDIFF_OK;
}

static size_t part_scratch(const ed_graph *graph, const ed_node *node, int parts)
{
    plan p;
    return forward_plan(graph, node, &p) ? work_size(&p) : ED_CPU(conv2d_strided).part_scratch(graph, node, parts);
}

static const ed_packing *packing(const ed_graph *graph, const ed_node *node)
{
    plan p;
    if (!forward_plan(graph, node, &p)) return ED_CPU(conv2d_strided).packing(graph, node);
    return p.g.side == 4 ? &panels_of_four : &panels_of_two;
}

/* Leave of the plan the output channels that the call's part has, in blocks as before; the first of them. */
static int64_t take_part(const ed_call *call, plan *p)
{
    ed_range part = ed_call_range(call, p->out, ED_PRODUCT_COLUMNS);
    p->out = p->g.o = part.last - part.first;
    p->columns = ed_whole(p->out, ED_PRODUCT_COLUMNS);
    p->output_plane = p->block * p->columns + ED_PLANE_GAP;
    return part.first;
}

/* x w b? r? -> y */
static encdiff_status run(const ed_call *call)
{
    plan p;
    if (!forward_plan(call->graph, call->node, &p)) return ED_CPU(conv2d_strided).run(call);
    int64_t first = take_part(call, &p);
    if (p.out == 0) return ENCDIFF_OK;
    work s = cut(&p, call->scratch);
    const float *kernels = call->packed ? (const float *)call->packed + first / ED_PRODUCT_COLUMNS * p.panel : NULL;
    convolve(&p, &s, forward_function(&p), IN(0), IN_F32(1) + first * 9 * p.in, kernels,
             IN_F32(2) ? IN_F32(2) + first : NULL, IN(3) ? IN(3) + first : NULL, OUT(0) + first);
    return ENCDIFF_OK;
}

static void release(ed_env *env, void *state) { ED_CPU(conv2d_strided).release(env, state); }

static bool backward_plan(const ed_graph *graph, const ed_node *node, plan *p)
{
    ed_winograd g;
    if (!describe(graph, node, node->out[0], node->in[1], &g)) return false;
    *p = make_plan(&g, g.o, g.c);
    return true;
}

static encdiff_status prepare_grad(ed_env *env, const ed_graph *graph, const ed_node *node, size_t *scratch,
                                   void **state)
{
    plan p;
    if (!backward_plan(graph, node, &p))
        return ed_other_prepare(&ED_OTHER_CONV2D_GRAD_INPUT, env, graph, node, scratch, state);
    *scratch = work_size(&p);
    return ENCDIFF_OK;
}

/* dy w -> dx */
static encdiff_status run_grad(const ed_call *call)
{
    plan p;
    if (!backward_plan(call->graph, call->node, &p)) return ed_other_run(&ED_OTHER_CONV2D_GRAD_INPUT, call);
    work s = cut(&p, call->scratch);
    convolve(&p, &s, backward_function(&p), IN(0), IN_F32(1), NULL, NULL, NULL, OUT(0));
    return ENCDIFF_OK;
}

static void release_grad(ed_env *env, void *state) { ed_other_release(&ED_OTHER_CONV2D_GRAD_INPUT, env, state); }

const ed_kernel ED_CPU(conv2d) = {.prepare = prepare,
                                  .run = run,
                                  .release = release,
                                  .parts = ED_CONV_PARTS,
                                  .part_scratch = ED_CONV_PARTS ? part_scratch : NULL,
                                  .packing = packing};
const ed_kernel ED_CPU(conv2d_grad_input) = {.prepare = prepare_grad, .run = run_grad, .release = release_grad};
