/*
 * Batch normalisation (Ioffe and Szegedy 2015) with an activation: u = (x - mean) / sqrt(var + eps),
 * y = act(u gamma + beta), statistics per channel over the rows of all ranks that run the step together.
 *
 * x, y [rows, c]; gamma, beta, running mean and variance [c]; stats [2, c] holds mean and 1/sqrt(var + eps).
 * Each rank gives its rows, its sums and its second moments about zero, in double: one collective, whatever the sizes
 * of the shards, and differences of means far from zero keep 16 digits.
 *
 * Gradient, with dt = dy act'(t), A = sum dt, B = sum dt u over all ranks' N rows:
 *   dx = gamma (dt - A/N - u B/N) / std,  dgamma += B and dbeta += A of this rank alone (gradients are summed later).
 */
#include "cpu/activation.h"
#include "cpu/columns.h"

typedef struct layer {
    int64_t rows, c;
    float slope;
    ed_activation kind;
} layer;

static layer layer_of(const ed_call *call)
{
    const ed_shape *x = ed_in_shape(call, 0);
    return (layer){ed_shape_rows(x), ed_shape_last(x), call->node->attr.batch_norm.slope,
                   call->node->attr.batch_norm.activation};
}

/* `sums` is [2, c] followed by the number of rows: what the ranks add up. Its meaning is the pass's affair. */
typedef struct work {
    double *sums;
    float *centre, *inverse, *weight, *offset, *k1, *k2;
} work;

static work cut_work(char *scratch, size_t c)
{
    work w;
    float **floats[] = {&w.centre, &w.inverse, &w.weight, &w.offset, &w.k1, &w.k2};
    w.sums = ed_cut(&scratch, 2 * c + 1, sizeof(double));
    for (size_t i = 0; i < ED_COUNT(floats); i++) *floats[i] = ed_cut(&scratch, c, sizeof(float));
    return w;
}

static encdiff_status prepare(ed_env *env, const ed_graph *graph, const ed_node *node, size_t *scratch, void **state)
{
    (void)env, (void)state;
    size_t c = (size_t)ed_shape_last(&graph->values[node->in[0]].shape);
    *scratch = ed_cut_size(2 * c + 1, sizeof(double)) + 6 * ed_cut_size(c, sizeof(float));
    return ENCDIFF_OK;
}

static void start_sums(const work *w, int64_t rows, int64_t c)
{
    memset(w->sums, 0, (size_t)(2 * c) * sizeof(double));
    w->sums[2 * c] = (double)rows;
}

static void sum_over_ranks(const ed_call *call, const work *w, int64_t c)
{
    ed_comm *comm = call->run ? call->run->comm : NULL;
    if (comm) comm->sum_f64(comm, call->run->rank, w->sums, (size_t)(2 * c + 1));
}

/* ---------------------------------------------------------------- forward */

/* Mean and variance of the batch into sums[0 .. c) and sums[c .. 2c). */
static void batch_statistics(const ed_call *call, const layer *a, const work *w)
{
    double *sum = w->sums, *square = w->sums + a->c;
    start_sums(w, a->rows, a->c);
    ed_column_shift(IN(0), a->c, a->rows, a->c, w->centre);
    ed_column_moments(IN(0), a->c, a->rows, a->c, w->centre, sum, square);
    for (int64_t j = 0; j < a->c; j++) {
        double shift = w->centre[j], about_shift = sum[j];
        sum[j] += (double)a->rows * shift;
        square[j] += shift * (about_shift + sum[j]); /* sum x^2 = sum (x-s)^2 + s (sum (x-s) + sum x) */
    }
    sum_over_ranks(call, w, a->c);
    double count = w->sums[2 * a->c];
    for (int64_t j = 0; j < a->c; j++) {
        sum[j] /= count;
        square[j] = ED_MAX(square[j] / count - sum[j] * sum[j], 0);
    }
}

static void update_running(const ed_call *call, const layer *a, const work *w)
{
    double momentum = call->node->attr.batch_norm.momentum, count = w->sums[2 * a->c];
    double unbiased = count > 1 ? count / (count - 1) : 1;
    for (int64_t j = 0; j < a->c; j++) {
        IN_F32(3)[j] += (float)(momentum * (w->sums[j] - IN_F32(3)[j]));
        IN_F32(4)[j] += (float)(momentum * (w->sums[a->c + j] * unbiased - IN_F32(4)[j]));
    }
}

/* y = act((x - centre) * weight + offset); what rounding the mean to f32 left joins the offset. */
static void coefficients(const ed_call *call, const layer *a, const work *w)
{
    float eps = call->node->attr.batch_norm.eps, *stats = call->part == 0 ? OUT_F32(1) : NULL;
    for (int64_t j = 0; j < a->c; j++) {
        double mean = w->sums[j], inverse = 1 / sqrt(w->sums[a->c + j] + eps), weight = IN_F32(1)[j] * inverse;
        w->centre[j] = (float)mean;
        if (stats) stats[j] = (float)mean, stats[a->c + j] = (float)inverse;
        w->weight[j] = (float)weight;
        w->offset[j] = (float)(IN_F32(2)[j] + (w->centre[j] - mean) * weight);
    }
}

ED_INLINE void apply_some(const work *w, const ed_item *x, ed_item *y, int64_t j, ed_activation kind, float slope,
                          int lanes)
{
    ed_vec d = ed_load_some(x + j, lanes) - ed_load_some(w->centre + j, lanes);
    ed_vec t = d * ed_load_some(w->weight + j, lanes) + ed_load_some(w->offset + j, lanes);
    ed_store_some(y + j, ed_vactivate(kind, slope, t), lanes);
}

ED_INLINE void apply(const layer *a, const work *w, const ed_item *x, ed_item *y, int64_t rows, ed_activation kind)
{
    for (int64_t i = 0; i < rows; i++, x += a->c, y += a->c) {
        int64_t j = 0;
        for (; j + ED_LANES <= a->c; j += ED_LANES) apply_some(w, x, y, j, kind, a->slope, ED_LANES);
        if (j < a->c) apply_some(w, x, y, j, kind, a->slope, (int)(a->c - j));
    }
}

static encdiff_status run(const ed_call *call)
{
    layer a = layer_of(call);
    work w = cut_work(call->scratch, (size_t)a.c);
    ed_range part = ed_part_of_rows(call);
    if (call->node->attr.batch_norm.training) {
        if (call->part > 0) return ENCDIFF_OK; /* part 0 does everything: training divides the images, not the rows */
        part = (ed_range){0, a.rows};
        batch_statistics(call, &a, &w);
        if (!call->run || call->run->rank == 0) update_running(call, &a, &w);
    } else {
        for (int64_t j = 0; j < a.c; j++) w.sums[j] = IN_F32(3)[j], w.sums[a.c + j] = IN_F32(4)[j];
    }
    coefficients(call, &a, &w);
    const ed_item *x = IN(0) + part.first * a.c;
    ed_item *y = OUT(0) + part.first * a.c;
    switch (a.kind) {
#define CASE(kind)                                                                                                     \
    case kind: apply(&a, &w, x, y, part.last - part.first, kind); break;
        ED_EACH_ACTIVATION(CASE)
#undef CASE
    }
    return ENCDIFF_OK;
}

const ed_kernel ED_CPU(batch_norm) = {.prepare = prepare, .run = run, .parts = true};

/* ---------------------------------------------------------------- gradient */

/* Sums of dt and dt u of a strip of columns over a chunk of rows. */
ED_INLINE void strip_sums(const layer *a, const work *w, const ed_item *x, const ed_item *dy, int64_t rows, int64_t j,
                          int lanes, ed_activation kind)
{
    ed_vec mean = ed_load_some(w->centre + j, lanes), inverse = ed_load_some(w->inverse + j, lanes);
    ed_vec gamma = ed_load_some(w->weight + j, lanes), beta = ed_load_some(w->offset + j, lanes);
    ed_vec sum = {0}, product = {0};
    for (int64_t i = 0, at = j; i < rows; i++, at += a->c) {
        ed_vec u = (ed_load_some(x + at, lanes) - mean) * inverse;
        ed_vec d = ed_vactivate_grad(kind, a->slope, u * gamma + beta, ed_load_some(dy + at, lanes));
        sum += d;
        product += d * u;
    }
    ed_add_lanes(w->sums + j, sum, lanes);
    ed_add_lanes(w->sums + a->c + j, product, lanes);
}

ED_INLINE void all_sums(const layer *a, const work *w, const ed_item *x, const ed_item *dy, ed_activation kind)
{
    for (int64_t first = 0; first < a->rows; first += ED_CHUNK_ROWS) {
        int64_t rows = ED_MIN(ED_CHUNK_ROWS, a->rows - first), at = first * a->c, j = 0;
        for (; j + ED_LANES <= a->c; j += ED_LANES) strip_sums(a, w, x + at, dy + at, rows, j, ED_LANES, kind);
        if (j < a->c) strip_sums(a, w, x + at, dy + at, rows, j, (int)(a->c - j), kind);
    }
}

/* dt is computed again, which costs less than to store it, and leaves dx free to be the memory of dy. */
ED_INLINE void input_some(const work *w, const ed_item *x, const ed_item *dy, ed_item *dx, int64_t j, float slope,
                          ed_activation kind, int lanes)
{
    ed_vec inverse = ed_load_some(w->inverse + j, lanes), gamma = ed_load_some(w->weight + j, lanes);
    ed_vec u = (ed_load_some(x + j, lanes) - ed_load_some(w->centre + j, lanes)) * inverse;
    ed_vec t = u * gamma + ed_load_some(w->offset + j, lanes);
    ed_vec d = ed_vactivate_grad(kind, slope, t, ed_load_some(dy + j, lanes));
    d -= ed_load_some(w->k1 + j, lanes) + u * ed_load_some(w->k2 + j, lanes);
    ed_store_some(dx + j, d * gamma * inverse, lanes);
}

ED_INLINE void input_gradient(const layer *a, const work *w, const ed_item *x, const ed_item *dy, ed_item *dx,
                              ed_activation kind)
{
    for (int64_t i = 0; i < a->rows; i++, x += a->c, dy += a->c, dx += a->c) {
        int64_t j = 0;
        for (; j + ED_LANES <= a->c; j += ED_LANES) input_some(w, x, dy, dx, j, a->slope, kind, ED_LANES);
        if (j < a->c) input_some(w, x, dy, dx, j, a->slope, kind, (int)(a->c - j));
    }
}

static encdiff_status run_grad(const ed_call *call)
{
    layer a = layer_of(call);
    work w = cut_work(call->scratch, (size_t)a.c);
    memcpy(w.centre, IN_F32(3), (size_t)a.c * sizeof(float));
    memcpy(w.inverse, IN_F32(3) + a.c, (size_t)a.c * sizeof(float));
    memcpy(w.weight, IN_F32(1), (size_t)a.c * sizeof(float));
    memcpy(w.offset, IN_F32(2), (size_t)a.c * sizeof(float));
    start_sums(&w, a.rows, a.c);
    switch (a.kind) {
#define CASE(kind)                                                                                                     \
    case kind: all_sums(&a, &w, IN(0), IN(4), kind); break;
        ED_EACH_ACTIVATION(CASE)
#undef CASE
    }
    for (int64_t j = 0; j < a.c; j++) {
        if (IN_F32(6)) IN_F32(6)[j] += (float)w.sums[j];
        if (IN_F32(5)) IN_F32(5)[j] += (float)w.sums[a.c + j];
    }
    sum_over_ranks(call, &w, a.c);
    for (int64_t j = 0; j < a.c; j++) {
        w.k1[j] = (float)(w.sums[j] / w.sums[2 * a.c]);
        w.k2[j] = (float)(w.sums[a.c + j] / w.sums[2 * a.c]);
    }
    switch (a.kind) {
#define CASE(kind)                                                                                                     \
    case kind: input_gradient(&a, &w, IN(0), IN(4), OUT(0), kind); break;
        ED_EACH_ACTIVATION(CASE)
#undef CASE
    }
    return ENCDIFF_OK;
}

const ed_kernel ED_CPU(batch_norm_grad) = {.prepare = prepare, .run = run_grad};
