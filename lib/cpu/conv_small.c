/*
 * conv2d of small images, y = x * w + b + r, and its gradient for the input: sums of products tap by tap, of the pixels
 * where they are. Rows of a product are output pixels, in the order position, image, so that all rows of a tile meet
 * the same taps and those outside of the image are left out: 5 of 9 for every pixel of a 2x2 image.
 *
 * Weights are panels (product.h) of depth taps * channels. Where none are kept, each is packed when its turn comes,
 * which pays where patches would be mostly padding. Measured with AVX-512, one thread, eight images of 2x2, 256
 * channels: lib/cpu/onednn 0.40 ms, packing on the way 0.29 ms, kept panels 0.23 ms.
 */
#include "cpu/onednn/onednn.h"
#include "cpu/product.h"

/* Sums in registers: rows by two vectors, and a pointer to each row's pixel. */
#define ROWS (ED_LANES == 16 ? 8 : 6)
#define MOST_PIXELS 16 /* of an image */

/* Outputs of `out` channels from pixels of `in` channels, stride 1 in the gradient's case. */
typedef struct plan {
    int64_t n, h, w, in;    /* what is read */
    int64_t oh, ow, out;    /* what is written */
    int64_t kh, kw, stride; /* output y reads rows y * stride - top + k */
    int64_t top, left;
    bool turned; /* tap k is the weights' last but k */
} plan;

static bool fits(const plan *p) { return p->in >= 32 && p->out >= 32 && p->oh * p->ow <= MOST_PIXELS; }

static bool forward_plan(const ed_graph *graph, const ed_node *node, plan *p)
{
    const int64_t *x = ed_graph_shape(graph, node->in[0])->dim, *w = ed_graph_shape(graph, node->in[1])->dim;
    const int64_t *y = ed_graph_shape(graph, node->out[0])->dim;
    *p = (plan){.n = x[0], .h = x[1], .w = x[2], .in = x[3], .oh = y[1], .ow = y[2], .out = w[0]};
    p->kh = w[1], p->kw = w[2], p->stride = node->attr.conv.stride;
    p->top = node->attr.conv.pad_top, p->left = node->attr.conv.pad_left;
    return fits(p) && p->kh * p->kw > 1;
}

/* dx at y is the sum of dy at y + top - k. */
static bool backward_plan(const ed_graph *graph, const ed_node *node, plan *p)
{
    const int64_t *dy = ed_graph_shape(graph, node->in[0])->dim, *w = ed_graph_shape(graph, node->in[1])->dim;
    const int64_t *dx = ed_graph_shape(graph, node->out[0])->dim;
    *p = (plan){.n = dy[0], .h = dy[1], .w = dy[2], .in = dy[3], .oh = dx[1], .ow = dx[2], .out = w[3]};
    p->kh = w[1], p->kw = w[2], p->stride = 1, p->turned = true;
    p->top = p->kh - 1 - node->attr.conv.pad_top, p->left = p->kw - 1 - node->attr.conv.pad_left;
    return fits(p) && p->kh * p->kw > 1 && node->attr.conv.stride == 1;
}

/* Without kept panels: where half of the taps or more are outside, and the rows repay packing. */
static bool repays(const plan *p)
{
    return p->oh <= 2 && p->ow <= 2 && p->kh == 3 && p->kw == 3 && p->n * p->oh * p->ow >= 16;
}

static int64_t depth_of(const plan *p) { return p->kh * p->kw * p->in; }

/* ---------------------------------------------------------------- panels */

/* Of w[in][taps][out], whose columns are columns here too: [turned tap][in][columns], zeros beyond `out`. */
static void backward_panel(const plan *p, const float *w, int64_t first, float *panel)
{
    int64_t taps = p->kh * p->kw, count = ED_MIN(p->out - first, ED_PRODUCT_COLUMNS);
    for (int64_t i = 0; i < p->in; i++)
        for (int64_t t = 0; t < taps; t++) {
            const float *from = w + (i * taps + taps - 1 - t) * p->out + first;
            float *to = panel + (t * p->in + i) * ED_PRODUCT_COLUMNS;
            if (count < ED_PRODUCT_COLUMNS) memset(to, 0, ED_PRODUCT_COLUMNS * sizeof *to);
            memcpy(to, from, (size_t)count * sizeof *to);
        }
}

/* ---------------------------------------------------------------- tiles */

/* What a panel's outputs are made of; b and r may be NULL. `zeros` has `in` floats. */
typedef struct work {
    const float *x, *panel, *zeros, *b, *r;
    float *y;
    int lanes[2];
} work;

/* The pixels of a tile's rows. */
typedef struct rows {
    int64_t image[ROWS], y[ROWS], x[ROWS];
} rows;

/* Row i of all: position by position, image by image. */
static void rows_at(const plan *p, int64_t first, int count, rows *at)
{
    for (int i = 0; i < count; i++) {
        int64_t row = first + i, position = row / p->n;
        at->image[i] = row % p->n;
        at->y[i] = position / p->ow, at->x[i] = position % p->ow;
    }
}

/* Where the rows' pixels under a tap are, zeros for those outside; false where all are. */
ED_INLINE bool pixels_under(const plan *p, const work *s, const rows *at, int64_t ky, int64_t kx, int count,
                            const float *pixel[ROWS])
{
    bool any = false;
    for (int i = 0; i < count; i++) {
        int64_t y = at->y[i] * p->stride - p->top + ky, x = at->x[i] * p->stride - p->left + kx;
        bool inside = y >= 0 && y < p->h && x >= 0 && x < p->w;
        pixel[i] = inside ? s->x + ((at->image[i] * p->h + y) * p->w + x) * p->in : s->zeros;
        any |= inside;
    }
    return any;
}

ED_INLINE void add_tap(int64_t depth, const float *const pixel[ROWS], const float *panel, int count,
                       ed_vec sum[ROWS][2])
{
    for (int64_t k = 0; k < depth; k++, panel += ED_PRODUCT_COLUMNS) {
        ed_vec b0 = ed_load(panel), b1 = ed_load(panel + ED_LANES);
        __builtin_prefetch(panel + ED_PRODUCT_AHEAD);
        if (ED_LANES == 16) __builtin_prefetch(panel + ED_PRODUCT_AHEAD + ED_LANES);
        for (int i = 0; i < count; i++) {
            float a = pixel[i][k];
            sum[i][0] += a * b0;
            sum[i][1] += a * b1;
        }
    }
}

ED_INLINE void tile(const plan *p, const work *s, int64_t first, int count)
{
    ed_vec sum[ROWS][2] = {{{0}}};
    rows at;
    rows_at(p, first, count, &at);
    for (int64_t t = 0; t < p->kh * p->kw; t++) {
        const float *pixel[ROWS];
        if (pixels_under(p, s, &at, t / p->kw, t % p->kw, count, pixel))
            add_tap(p->in, pixel, s->panel + t * ed_panel_floats(p->in), count, sum);
    }
    for (int i = 0; i < count; i++) {
        int64_t to = ((at.image[i] * p->oh + at.y[i]) * p->ow + at.x[i]) * p->out;
        for (int v = 0; v < 2; v++) {
            int lanes = s->lanes[v];
            if (s->b) sum[i][v] += ed_load_some(s->b + v * ED_LANES, lanes);
            if (s->r) sum[i][v] += ed_load_some(s->r + to + v * ED_LANES, lanes);
            ed_store_some(s->y + to + v * ED_LANES, sum[i][v], lanes);
        }
    }
}

/* Rows first .. last-1 of one position, or of all. */
static void tiles(const plan *p, const work *s, int64_t first, int64_t last)
{
    for (; first + ROWS <= last; first += ROWS) tile(p, s, first, ROWS);
    for (; first + 4 <= last; first += 4) tile(p, s, first, 4);
    for (; first + 2 <= last; first += 2) tile(p, s, first, 2);
    for (; first < last; first++) tile(p, s, first, 1);
}

/* Tiles of few images take rows of several positions: they then meet more taps, in fewer passes over the panel. */
static void all_tiles(const plan *p, const work *s)
{
    int64_t count = p->oh * p->ow * p->n, step = p->n >= 4 ? p->n : count;
    for (int64_t first = 0; first < count; first += step) tiles(p, s, first, first + step);
}

/* ---------------------------------------------------------------- kernels */

/* Scratch: zeros, then a panel. */
static size_t scratch_of(const plan *p)
{
    return ed_cut_size((size_t)p->in, sizeof(float)) + ed_cut_size((size_t)ed_panel_floats(depth_of(p)), sizeof(float));
}

/* `panels` are kept ones of the outputs first .., or NULL. */
static void convolve(const plan *p, const ed_call *call, const float *panels, ed_range outputs, const float *b,
                     const float *r)
{
    char *scratch = call->scratch;
    float *zeros = ed_cut(&scratch, (size_t)p->in, sizeof(float)), *panel = (float *)scratch;
    const float *w = call->in[1];
    memset(zeros, 0, (size_t)p->in * sizeof *zeros);
    for (int64_t j = outputs.first; j < outputs.last; j += ED_PRODUCT_COLUMNS) {
        int64_t left = ED_MIN(outputs.last - j, ED_PRODUCT_COLUMNS), depth = depth_of(p);
        if (!panels && p->turned)
            backward_panel(p, w, j, panel);
        else if (!panels)
            ed_panel_make(w + j * depth, depth, left, depth, panel);
        work s = {.x = call->in[0],
                  .panel = panels ? panels + j / ED_PRODUCT_COLUMNS * ed_panel_floats(depth) : panel,
                  .zeros = zeros,
                  .b = b ? b + j : NULL,
                  .r = r ? r + j : NULL,
                  .y = (float *)call->out[0] + j,
                  .lanes = {(int)ED_MIN(left, ED_LANES), (int)ED_MAX(left - ED_LANES, 0)}};
        all_tiles(p, &s);
    }
}

static const ed_packing *packing(const ed_graph *graph, const ed_node *node)
{
    plan p;
    return forward_plan(graph, node, &p) ? &ED_CPU(panels) : NULL;
}

static encdiff_status prepare(ed_env *env, const ed_graph *graph, const ed_node *node, size_t *scratch, void **state)
{
    plan p;
    ED_TRY(ed_onednn_conv2d.prepare(env, graph, node, scratch, state));
    if (forward_plan(graph, node, &p)) *scratch = ED_MAX(*scratch, scratch_of(&p));
    return ENCDIFF_OK;
}

static size_t part_scratch(const ed_graph *graph, const ed_node *node, int parts)
{
    plan p;
    size_t other = ed_onednn_conv2d.part_scratch(graph, node, parts);
    return forward_plan(graph, node, &p) ? ED_MAX(other, scratch_of(&p)) : other;
}

/* x w b? r? -> y */
static encdiff_status run(const ed_call *call)
{
    plan p;
    bool suits = forward_plan(call->graph, call->node, &p) && (call->packed || repays(&p));
    if (!suits) return ed_onednn_conv2d.run(call);
    convolve(&p, call, call->packed, ed_call_range(call, p.out, ED_PRODUCT_COLUMNS), call->in[2], call->in[3]);
    return ENCDIFF_OK;
}

static void release(ed_env *env, void *state) { ed_onednn_conv2d.release(env, state); }

const ed_kernel ED_CPU(conv2d_small) = {.prepare = prepare,
                                        .run = run,
                                        .release = release,
                                        .parts = true,
                                        .part_scratch = part_scratch,
                                        .packing = packing};

static encdiff_status prepare_grad(ed_env *env, const ed_graph *graph, const ed_node *node, size_t *scratch,
                                   void **state)
{
    plan p;
    if (!backward_plan(graph, node, &p) || !repays(&p))
        return ed_onednn_conv2d_grad_input.prepare(env, graph, node, scratch, state);
    *scratch = scratch_of(&p);
    return ENCDIFF_OK;
}

/* dy w -> dx */
static encdiff_status run_grad(const ed_call *call)
{
    plan p;
    if (!backward_plan(call->graph, call->node, &p) || !repays(&p)) return ed_onednn_conv2d_grad_input.run(call);
    convolve(&p, call, NULL, (ed_range){0, p.out}, NULL, NULL);
    return ENCDIFF_OK;
}

static void release_grad(ed_env *env, void *state) { ed_onednn_conv2d_grad_input.release(env, state); }

const ed_kernel ED_CPU(conv2d_small_grad_input) = {.prepare = prepare_grad, .run = run_grad, .release = release_grad};
