/*
 * Linear layers whose activations are bf16: y = x w^T + b + r, dx = dy w, dw += dy^T x, db += sum of dy; x [rows, c],
 * w [o, c]. Blocks of rows are widened to f32 in scratch, multiplied by the f32 weights and rounded back, all of it in
 * the cache. Products in f32 are what is fast here: on processors that have AVX512-BF16 alone a bf16 product takes
 * twice the time of an f32 one, since vdpbf16ps starts every second cycle (Sapphire Rapids: 93 GFLOP/s against 187).
 */
#include "cpu/columns.h"
#include "cpu/onednn/onednn.h"

typedef struct layer {
    int64_t rows, in, out;
} layer;

static layer layer_of(const ed_graph *graph, ed_value x, ed_value y)
{
    const ed_shape *xs = ed_graph_shape(graph, x), *ys = ed_graph_shape(graph, y);
    return (layer){ed_shape_rows(xs), ed_shape_last(xs), ed_shape_last(ys)};
}

/* Rows a block: both sides of it take half of a second-level cache of one megabyte. */
static int64_t block_of(const layer *l)
{
    enum { FLOATS = 128 << 10, FEWEST = 32 };
    int64_t most = ED_MAX(FLOATS / (l->in + l->out), FEWEST), blocks = ED_MAX((l->rows + most - 1) / most, 1);
    return (l->rows + blocks - 1) / blocks;
}

/* Floats from a row of a block to the next: rows whole powers of two apart would share a few cache sets. */
static int64_t pitch_of(int64_t columns) { return columns % 64 ? columns : columns + 16; }

/* Scratch: a block of rows of `in`, and one of `out`. */
typedef struct work {
    float *x, *y;
    int64_t ldx, ldy;
} work;

static size_t work_size(const layer *l)
{
    size_t rows = (size_t)block_of(l);
    return ed_cut_size(rows * (size_t)pitch_of(l->in), sizeof(float)) +
           ed_cut_size(rows * (size_t)pitch_of(l->out), sizeof(float));
}

static work cut_work(const layer *l, char *scratch)
{
    work w = {.ldx = pitch_of(l->in), .ldy = pitch_of(l->out)};
    w.x = ed_cut(&scratch, (size_t)(block_of(l) * w.ldx), sizeof(float));
    w.y = ed_cut(&scratch, (size_t)(block_of(l) * w.ldy), sizeof(float));
    return w;
}

ED_INLINE void widen_rows(const ed_item *from, int64_t rows, int64_t columns, float *to, int64_t pitch)
{
    for (int64_t i = 0; i < rows; i++, from += columns, to += pitch) {
        int64_t j = 0;
        for (; j + ED_LANES <= columns; j += ED_LANES) ed_store(to + j, ed_load(from + j));
        for (; j < columns; j++) to[j] = ed_get(from + j);
    }
}

/* `stride` numbers from a row of `to` to the next. */
ED_INLINE void narrow_rows(const float *from, int64_t pitch, int64_t rows, int64_t columns, ed_item *to, int64_t stride)
{
    for (int64_t i = 0; i < rows; i++, from += pitch, to += stride) {
        int64_t j = 0;
        for (; j + ED_LANES <= columns; j += ED_LANES) ed_store(to + j, ed_load(from + j));
        for (; j < columns; j++) ed_put(to + j, from[j]);
    }
}

static encdiff_status multiply(const ed_call *call, char ta, char tb, int64_t m, int64_t n, int64_t k, const float *a,
                               int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc)
{
    encdiff_status status = ed_sgemm(ta, tb, m, n, k, 1, a, lda, b, ldb, beta, c, ldc);
    if (status == ENCDIFF_OK) return ENCDIFF_OK;
    return ed_fail(call->env, status, "a matrix product of %lld x %lld x %lld failed in oneDNN", (long long)m,
                   (long long)n, (long long)k);
}

/* ---------------------------------------------------------------- x w b? r? -> y */

static layer forward_layer(const ed_graph *graph, const ed_node *node)
{
    return layer_of(graph, node->in[0], node->out[0]);
}

static encdiff_status prepare(ed_env *env, const ed_graph *graph, const ed_node *node, size_t *scratch, void **state)
{
    (void)env, (void)state;
    layer l = forward_layer(graph, node);
    *scratch = work_size(&l);
    return ENCDIFF_OK;
}

/* b + r of `count` outputs, to which the product is added. */
ED_INLINE void preset(const float *b, const ed_item *r, int64_t rows, int64_t count, int64_t stride, float *y,
                      int64_t pitch)
{
    for (int64_t i = 0; i < rows; i++, y += pitch) {
        int64_t j = 0;
        for (; j + ED_LANES <= count; j += ED_LANES) {
            ed_vec sum = b ? ed_load(b + j) : (ed_vec){0};
            if (r) sum += ed_load(r + j);
            ed_store(y + j, sum);
        }
        for (; j < count; j++) y[j] = (b ? b[j] : 0) + (r ? ed_get(r + j) : 0);
        if (r) r += stride;
    }
}

/* The part of a call is a share of its rows, or of its outputs where there are more of them. */
static encdiff_status run(const ed_call *call)
{
    layer l = forward_layer(call->graph, call->node);
    work s = cut_work(&l, call->scratch);
    ed_range rows = {0, l.rows}, outputs = {0, l.out};
    if (l.rows >= l.out)
        rows = ed_call_range(call, l.rows, 8);
    else
        outputs = ed_call_range(call, l.out, 16);
    int64_t count = outputs.last - outputs.first, block = block_of(&l);
    const float *w = IN_F32(1) + outputs.first * l.in, *b = IN_F32(2) ? IN_F32(2) + outputs.first : NULL;
    for (int64_t first = rows.first; first < rows.last && count; first += block) {
        int64_t n = ED_MIN(block, rows.last - first), at = first * l.out + outputs.first;
        widen_rows(IN(0) + first * l.in, n, l.in, s.x, s.ldx);
        bool added = b || IN(3);
        if (added) preset(b, IN(3) ? IN(3) + at : NULL, n, count, l.out, s.y, s.ldy);
        ED_TRY(multiply(call, 'N', 'T', n, count, l.in, s.x, s.ldx, w, l.in, added ? 1 : 0, s.y, s.ldy));
        narrow_rows(s.y, s.ldy, n, count, OUT(0) + at, l.out);
    }
    return ENCDIFF_OK;
}

const ed_kernel ED_CPU(linear) = {.prepare = prepare, .run = run, .parts = true};

/* ---------------------------------------------------------------- dy w -> dx */

static layer input_layer(const ed_graph *graph, const ed_node *node)
{
    return layer_of(graph, node->out[0], node->in[0]);
}

static encdiff_status prepare_input(ed_env *env, const ed_graph *graph, const ed_node *node, size_t *scratch,
                                    void **state)
{
    (void)env, (void)state;
    layer l = input_layer(graph, node);
    *scratch = work_size(&l);
    return ENCDIFF_OK;
}

static encdiff_status run_input(const ed_call *call)
{
    layer l = input_layer(call->graph, call->node);
    work s = cut_work(&l, call->scratch);
    int64_t block = block_of(&l);
    for (int64_t first = 0; first < l.rows; first += block) {
        int64_t n = ED_MIN(block, l.rows - first);
        widen_rows(IN(0) + first * l.out, n, l.out, s.y, s.ldy);
        ED_TRY(multiply(call, 'N', 'N', n, l.in, l.out, s.y, s.ldy, IN_F32(1), l.in, 0, s.x, s.ldx));
        narrow_rows(s.x, s.ldx, n, l.in, OUT(0) + first * l.in, l.in);
    }
    return ENCDIFF_OK;
}

const ed_kernel ED_CPU(linear_grad_input) = {.prepare = prepare_input, .run = run_input};

/* ---------------------------------------------------------------- x dy dw+= db+=? */

static layer weight_layer(const ed_graph *graph, const ed_node *node)
{
    return layer_of(graph, node->in[0], node->in[1]);
}

static encdiff_status prepare_weight(ed_env *env, const ed_graph *graph, const ed_node *node, size_t *scratch,
                                     void **state)
{
    (void)env, (void)state;
    layer l = weight_layer(graph, node);
    *scratch = ed_cut_size((size_t)l.out, sizeof(double)) + work_size(&l);
    return ENCDIFF_OK;
}

static encdiff_status run_weight(const ed_call *call)
{
    layer l = weight_layer(call->graph, call->node);
    char *scratch = call->scratch;
    double *sums = ed_cut(&scratch, (size_t)l.out, sizeof(double));
    work s = cut_work(&l, scratch);
    int64_t block = block_of(&l);
    memset(sums, 0, (size_t)l.out * sizeof *sums);
    for (int64_t first = 0; first < l.rows; first += block) {
        int64_t n = ED_MIN(block, l.rows - first);
        const ed_item *dy = IN(1) + first * l.out;
        if (IN_F32(3)) ed_column_sums(dy, n, l.out, sums);
        widen_rows(IN(0) + first * l.in, n, l.in, s.x, s.ldx);
        widen_rows(dy, n, l.out, s.y, s.ldy);
        ED_TRY(multiply(call, 'T', 'N', l.out, l.in, n, s.y, s.ldy, s.x, s.ldx, 1, IN_F32(2), l.in));
    }
    for (int64_t j = 0; IN_F32(3) && j < l.out; j++) IN_F32(3)[j] += (float)sums[j];
    return ENCDIFF_OK;
}

const ed_kernel ED_CPU(linear_grad_weight) = {.prepare = prepare_weight, .run = run_weight};
