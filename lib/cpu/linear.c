/*
 * y = x w^T + b + r, with x [rows, in] and w [out, in]: a product of rows by panels (product.h) that adds bias and
 * residual before it writes y, once.
 *
 * Where the execution keeps packed weights they are read from there. Otherwise a panel is packed when its turn comes,
 * which takes rows enough to pay and something to add; the others go to oneDNN, which packs less. Measured with
 * AVX-512, one thread, GFLOP/s of oneDNN with the bias written first, of packing on the way and of kept panels: 2048
 * rows, 64 to 512 features 143, 170, 170; 512 rows, 128 to 1024 156, 169, 174; 128 rows, 256 to 2048 147, 151, 161; 64
 * rows, 256 to 2048 127, 113, 171; 16 rows, 256 to 2048 77, 57, 142.
 */
#include "cpu/product.h"
#include "cpu/onednn/onednn.h"

#define FEWEST_ROWS 96

typedef struct layer {
    int64_t rows, in, out;
} layer;

static layer layer_of(const ed_graph *graph, const ed_node *node)
{
    const ed_shape *x = ed_graph_shape(graph, node->in[0]), *y = ed_graph_shape(graph, node->out[0]);
    return (layer){ed_shape_rows(x), ed_shape_last(x), ed_shape_last(y)};
}

/* ---------------------------------------------------------------- packing: [panel][in][columns] */

static int64_t inputs_of(const ed_shape *w) { return ed_shape_count(w) / w->dim[0]; }

static size_t pack_bytes(const ed_shape *w)
{
    int64_t panels = ed_whole(w->dim[0], ED_PRODUCT_COLUMNS) / ED_PRODUCT_COLUMNS;
    return (size_t)(panels * ed_panel_floats(inputs_of(w))) * sizeof(float);
}

static void pack(const ed_shape *w, const float *from, void *to)
{
    int64_t in = inputs_of(w);
    float *panel = to;
    for (int64_t j = 0; j < w->dim[0]; j += ED_PRODUCT_COLUMNS, panel += ed_panel_floats(in))
        ed_panel_make(from + j * in, in, w->dim[0] - j, in, panel);
}

const ed_packing ED_CPU(panels) = {pack_bytes, pack};

static const ed_packing *packing(const ed_graph *graph, const ed_node *node)
{
    (void)graph, (void)node;
    return &ED_CPU(panels);
}

/* ---------------------------------------------------------------- tiles */

/* What a column of panels reads and writes; b and r may be NULL. `lanes` of each vector are columns of y. */
typedef struct strip {
    const layer *l;
    const float *panel, *b, *r;
    float *y;
    int lanes[2];
} strip;

ED_INLINE void tile(const strip *s, const float *x, int64_t row, int rows, int lanes0, int lanes1)
{
    ed_vec sum[ED_PRODUCT_ROWS][2] = {{{0}}};
    ed_product_sums(s->l->in, x + row * s->l->in, s->l->in, s->panel, rows, sum);
    ed_vec b0 = s->b ? ed_load_some(s->b, lanes0) : (ed_vec){0};
    ed_vec b1 = s->b ? ed_load_some(s->b + ED_LANES, lanes1) : (ed_vec){0};
    int64_t at = row * s->l->out;
    for (int i = 0; i < rows; i++, at += s->l->out) {
        sum[i][0] += b0, sum[i][1] += b1;
        if (s->r) {
            sum[i][0] += ed_load_some(s->r + at, lanes0);
            sum[i][1] += ed_load_some(s->r + at + ED_LANES, lanes1);
        }
        ed_store_some(s->y + at, sum[i][0], lanes0);
        ed_store_some(s->y + at + ED_LANES, sum[i][1], lanes1);
    }
}

ED_INLINE void tiles(const strip *s, const float *x, ed_range rows, int lanes0, int lanes1)
{
    int64_t i = rows.first;
    for (; i + ED_PRODUCT_ROWS <= rows.last; i += ED_PRODUCT_ROWS) tile(s, x, i, ED_PRODUCT_ROWS, lanes0, lanes1);
    for (; i + 6 <= rows.last; i += 6) tile(s, x, i, 6, lanes0, lanes1);
    for (; i + 4 <= rows.last; i += 4) tile(s, x, i, 4, lanes0, lanes1);
    for (; i + 2 <= rows.last; i += 2) tile(s, x, i, 2, lanes0, lanes1);
    for (; i < rows.last; i++) tile(s, x, i, 1, lanes0, lanes1);
}

static void whole_strip(const strip *s, const float *x, ed_range rows) { tiles(s, x, rows, ED_LANES, ED_LANES); }

static void last_strip(const strip *s, const float *x, ed_range rows) { tiles(s, x, rows, s->lanes[0], s->lanes[1]); }

/* ---------------------------------------------------------------- kernel */

/* Cache that a block of rows of x and y may take: rows of y are then written while all of them is in the cache, though
 * every panel writes two lines of each. */
#define BLOCK_BYTES ((int64_t)512 << 10)

/* Where activations are kept, as in training, a layer with more outputs than inputs waits for memory, and what follows
 * it finds more of them in the cache after oneDNN. */
static bool suits(const layer *l, const ed_call *call)
{
    bool added = call->in[2] || call->in[3];
    return call->packed || (l->rows >= FEWEST_ROWS && l->out <= l->in && added);
}

static int64_t block_of(const layer *l)
{
    int64_t most = BLOCK_BYTES / ((l->in + l->out) * (int64_t)sizeof(float));
    return ED_MAX(most / ED_PRODUCT_ROWS, 8) * ED_PRODUCT_ROWS;
}

/* Panels to pack on the way: one at a time where there is one block of rows, else all. */
static int64_t scratch_panels(const layer *l)
{
    return l->rows <= block_of(l) ? 1 : ed_whole(l->out, ED_PRODUCT_COLUMNS) / ED_PRODUCT_COLUMNS;
}

static encdiff_status prepare(ed_env *env, const ed_graph *graph, const ed_node *node, size_t *scratch, void **state)
{
    (void)env, (void)state;
    layer l = layer_of(graph, node);
    *scratch = l.rows < FEWEST_ROWS ? 0 : (size_t)(scratch_panels(&l) * ed_panel_floats(l.in)) * sizeof(float);
    return ENCDIFF_OK;
}

/* A call's part is a share of the rows, or of the outputs where there are more of them. */
static void shares(const ed_call *call, const layer *l, ed_range *rows, ed_range *outputs)
{
    *rows = (ed_range){0, l->rows};
    *outputs = (ed_range){0, l->out};
    if (l->rows >= l->out)
        *rows = ed_call_range(call, l->rows, ED_PRODUCT_ROWS);
    else
        *outputs = ed_call_range(call, l->out, ED_PRODUCT_COLUMNS);
}

/* Outputs j .. of a block of rows. */
static void multiply(const ed_call *call, const layer *l, const float *panel, int64_t j, int64_t left, ed_range rows)
{
    const float *x = call->in[0], *b = call->in[2], *r = call->in[3];
    strip s = {.l = l,
               .panel = panel,
               .b = b ? b + j : NULL,
               .r = r ? r + j : NULL,
               .y = (float *)call->out[0] + j,
               .lanes = {(int)ED_MIN(left, ED_LANES), (int)ED_MIN(ED_MAX(left - ED_LANES, 0), ED_LANES)}};
    if (left >= ED_PRODUCT_COLUMNS)
        whole_strip(&s, x, rows);
    else
        last_strip(&s, x, rows);
}

/* x w b? r? -> y */
static encdiff_status run(const ed_call *call)
{
    layer l = layer_of(call->graph, call->node);
    if (!suits(&l, call)) return ed_onednn_linear.run(call);
    ed_range rows, outputs;
    shares(call, &l, &rows, &outputs);
    const float *w = call->in[1], *kept = call->packed;
    int64_t block = block_of(&l), size = ed_panel_floats(l.in), step = scratch_panels(&l) > 1 ? size : 0;
    for (int64_t i = rows.first; i < rows.last; i += block) {
        ed_range some = {i, ED_MIN(i + block, rows.last)};
        for (int64_t j = outputs.first; j < outputs.last; j += ED_PRODUCT_COLUMNS) {
            int64_t left = outputs.last - j, number = j / ED_PRODUCT_COLUMNS;
            float *made = (float *)call->scratch + (number - outputs.first / ED_PRODUCT_COLUMNS) * step;
            if (!kept && i == rows.first) ed_panel_make(w + j * l.in, l.in, left, l.in, made);
            multiply(call, &l, kept ? kept + number * size : made, j, left, some);
        }
    }
    return ENCDIFF_OK;
}

const ed_kernel ED_CPU(linear) = {.prepare = prepare, .run = run, .parts = true, .packing = packing};
