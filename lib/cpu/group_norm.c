/*
 * Group normalisation (Wu and He 2018) over channels-last images, with the scale and shift of a timestep embedding
 * and SiLU fused in:
 *
 *   u = (x - mean_g) / sqrt(var_g + eps),   h = u gamma + beta,   t = h (1 + scale) + shift,   y = t or silu(t)
 *
 * x, y [n, l, c]; gamma, beta [c]; scale | shift = ss [n, 2c]; mean and variance over the l positions and the c/groups
 * channels of a group; stats [n, groups, 2] holds mean and 1/sqrt(var + eps).
 *
 * Gradient, with dt = dy silu'(t), A = sum_l dt, B = sum_l dt u per channel, w = gamma (1 + scale), N = l c / groups:
 *
 *   dx = (w dt - sum_g(w A)/N - u sum_g(w B)/N) / std + r
 *   dgamma += (1 + scale) B,  dbeta += (1 + scale) A,  dscale = gamma B + beta A,  dshift = A
 */
#include "cpu/columns.h"

typedef struct layer {
    int64_t n, l, c, groups;
    int64_t stride; /* floats from a position to the next: c, but where c is a part of the channels */
    float eps;
    bool silu;
} layer;

static layer layer_of(const ed_graph *graph, const ed_node *node)
{
    const ed_shape *x = &graph->values[node->in[0]].shape;
    int64_t c = ed_shape_last(x);
    return (layer){.n = ed_images(x),
                   .l = ed_per_image(x) / c,
                   .c = c,
                   .stride = c,
                   .groups = node->attr.group_norm.groups,
                   .eps = node->attr.group_norm.eps,
                   .silu = node->attr.group_norm.activation == ED_ACT_SILU};
}

/* ---------------------------------------------------------------- forward */

/* What is kept of one image, per channel. t = (x - centre) * slope + offset. */
typedef struct work {
    double *sum, *square;
    float *centre, *slope, *offset;
} work;

static work cut_work(char *scratch, size_t c)
{
    work w;
    w.sum = ed_cut(&scratch, c, sizeof(double));
    w.square = ed_cut(&scratch, c, sizeof(double));
    w.centre = ed_cut(&scratch, c, sizeof(float));
    w.slope = ed_cut(&scratch, c, sizeof(float));
    w.offset = ed_cut(&scratch, c, sizeof(float));
    return w;
}

static encdiff_status prepare(ed_env *env, const ed_graph *graph, const ed_node *node, size_t *scratch, void **state)
{
    (void)env, (void)state;
    size_t c = (size_t)layer_of(graph, node).c;
    *scratch = 2 * ed_cut_size(c, sizeof(double)) + 3 * ed_cut_size(c, sizeof(float));
    return ENCDIFF_OK;
}

/* The moments of the channels of a group about their own shifts -> mean and variance of the group. */
static void join_channels(const work *w, int64_t first, int64_t last, int64_t l, double *mean, double *variance)
{
    double total = 0, spread = 0, per_channel = 1 / (double)l, per_group = 1 / (double)(last - first);
    for (int64_t j = first; j < last; j++) total += w->centre[j] + w->sum[j] * per_channel;
    *mean = total * per_group;
    for (int64_t j = first; j < last; j++) {
        double off = w->sum[j] * per_channel, from_mean = w->centre[j] + off - *mean;
        spread += w->square[j] * per_channel - off * off + from_mean * from_mean;
    }
    *variance = ED_MAX(spread * per_group, 0);
}

static void group_statistics(const layer *a, const work *w, const ed_item *x, float *stats)
{
    memset(w->sum, 0, (size_t)a->c * sizeof(double));
    memset(w->square, 0, (size_t)a->c * sizeof(double));
    ed_column_shift(x, a->stride, a->l, a->c, w->centre);
    ed_column_moments(x, a->stride, a->l, a->c, w->centre, w->sum, w->square);
    int64_t size = a->c / a->groups;
    for (int64_t g = 0; g < a->groups; g++) {
        double mean, variance;
        join_channels(w, g * size, (g + 1) * size, a->l, &mean, &variance);
        double inverse = 1 / sqrt(variance + a->eps);
        stats[2 * g] = (float)mean;
        stats[2 * g + 1] = (float)inverse;
        for (int64_t j = g * size; j < (g + 1) * size; j++) w->sum[j] = mean, w->square[j] = inverse;
    }
}

/* The centre is the mean rounded to f32, so that x - centre is exact near it; what was rounded off joins the offset. */
static void coefficients(const layer *a, const work *w, const float *gamma, const float *beta, const ed_item *ss)
{
    for (int64_t j = 0; j < a->c; j++) {
        double mean = w->sum[j], slope = gamma[j] * w->square[j], offset = beta[j],
               scale = ss ? 1.0 + ed_get(ss + j) : 1;
        w->centre[j] = (float)mean;
        offset += (w->centre[j] - mean) * slope;
        w->slope[j] = (float)(slope * scale);
        w->offset[j] = (float)(offset * scale + (ss ? ed_get(ss + a->stride + j) : 0));
    }
}

ED_INLINE void apply_some(const work *w, const ed_item *x, ed_item *y, int64_t j, bool silu, int lanes)
{
    ed_vec d = ed_load_some(x + j, lanes) - ed_load_some(w->centre + j, lanes);
    ed_vec t = d * ed_load_some(w->slope + j, lanes) + ed_load_some(w->offset + j, lanes);
    ed_store_some(y + j, silu ? ed_vsilu(t) : t, lanes);
}

ED_INLINE void apply(const layer *a, const work *w, const ed_item *x, ed_item *y, bool silu)
{
    for (int64_t i = 0; i < a->l; i++, x += a->stride, y += a->stride) {
        int64_t j = 0;
        for (; j + ED_LANES <= a->c; j += ED_LANES) apply_some(w, x, y, j, silu, ED_LANES);
        if (j < a->c) apply_some(w, x, y, j, silu, (int)(a->c - j));
    }
}

static encdiff_status run(const ed_call *call)
{
    layer all = layer_of(call->graph, call->node), a = all;
    ed_range part = ed_call_range(call, all.groups, 1);
    int64_t channel = all.c / all.groups * part.first;
    a.groups = part.last - part.first;
    a.c = all.c / all.groups * a.groups;
    work w = cut_work(call->scratch, (size_t)a.c);
    for (int64_t n = 0; n < a.n && a.groups; n++) {
        int64_t at = n * a.l * all.c + channel;
        group_statistics(&a, &w, IN(0) + at, OUT_F32(1) + (n * all.groups + part.first) * 2);
        coefficients(&a, &w, IN_F32(1) + channel, IN_F32(2) + channel, IN(3) ? IN(3) + n * 2 * all.c + channel : NULL);
        if (a.silu)
            apply(&a, &w, IN(0) + at, OUT(0) + at, true);
        else
            apply(&a, &w, IN(0) + at, OUT(0) + at, false);
    }
    return ENCDIFF_OK;
}

const ed_kernel ED_CPU(group_norm) = {.prepare = prepare, .run = run, .parts = true};

/* ---------------------------------------------------------------- gradient */

/* Per channel of one image: u = (x - mean) * inverse, t = u * slope + offset; k1, k2 are the group's sums. */
typedef struct grad_work {
    double *a, *b;             /* sums of dt and of dt u over the positions */
    double *total_a, *total_b; /* of (1 + scale) times them, over the images */
    float *mean, *inverse, *slope, *offset, *k1, *k2;
} grad_work;

static grad_work cut_grad_work(char *scratch, size_t c)
{
    grad_work w;
    double **doubles[] = {&w.a, &w.b, &w.total_a, &w.total_b};
    float **floats[] = {&w.mean, &w.inverse, &w.slope, &w.offset, &w.k1, &w.k2};
    for (size_t i = 0; i < ED_COUNT(doubles); i++) *doubles[i] = ed_cut(&scratch, c, sizeof(double));
    for (size_t i = 0; i < ED_COUNT(floats); i++) *floats[i] = ed_cut(&scratch, c, sizeof(float));
    return w;
}

static encdiff_status prepare_grad(ed_env *env, const ed_graph *graph, const ed_node *node, size_t *scratch,
                                   void **state)
{
    (void)env, (void)state;
    size_t c = (size_t)layer_of(graph, node).c;
    *scratch = 4 * ed_cut_size(c, sizeof(double)) + 6 * ed_cut_size(c, sizeof(float));
    return ENCDIFF_OK;
}

static void grad_coefficients(const layer *a, const grad_work *w, const float *gamma, const float *beta,
                              const ed_item *ss, const float *stats)
{
    int64_t size = a->c / a->groups;
    for (int64_t j = 0; j < a->c; j++) {
        float scale = ss ? 1 + ed_get(ss + j) : 1, shift = ss ? ed_get(ss + a->c + j) : 0;
        w->a[j] = w->b[j] = 0;
        w->mean[j] = stats[2 * (j / size)];
        w->inverse[j] = stats[2 * (j / size) + 1];
        w->slope[j] = gamma[j] * scale;
        w->offset[j] = beta[j] * scale + shift;
    }
}

/* dt into `dt` and its sums, for a strip of columns that fits a register. dt may be the memory of dy. */
ED_INLINE void strip_sums(const layer *a, const grad_work *w, const ed_item *x, const ed_item *dy, ed_item *dt,
                          int64_t rows, int64_t j, int lanes, bool silu)
{
    ed_vec mean = ed_load_some(w->mean + j, lanes), inverse = ed_load_some(w->inverse + j, lanes);
    ed_vec slope = ed_load_some(w->slope + j, lanes), offset = ed_load_some(w->offset + j, lanes);
    ed_vec sum = {0}, product = {0};
    for (int64_t i = 0, at = j; i < rows; i++, at += a->c) {
        ed_vec u = (ed_load_some(x + at, lanes) - mean) * inverse, d = ed_load_some(dy + at, lanes);
        if (silu) {
            d *= ed_vsilu_slope(u * slope + offset);
            ed_store_some(dt + at, d, lanes);
        }
        sum += d;
        product += d * u;
    }
    ed_add_lanes(w->a + j, sum, lanes);
    ed_add_lanes(w->b + j, product, lanes);
}

ED_INLINE void image_sums(const layer *a, const grad_work *w, const ed_item *x, const ed_item *dy, ed_item *dt,
                          bool silu)
{
    for (int64_t first = 0; first < a->l; first += ED_CHUNK_ROWS) {
        int64_t rows = ED_MIN(ED_CHUNK_ROWS, a->l - first), at = first * a->c, j = 0;
        for (; j + ED_LANES <= a->c; j += ED_LANES) strip_sums(a, w, x + at, dy + at, dt + at, rows, j, ED_LANES, silu);
        if (j < a->c) strip_sums(a, w, x + at, dy + at, dt + at, rows, j, (int)(a->c - j), silu);
    }
}

/* The group sums, what the parameters get, and dss (which may be NULL). */
static void finish_sums(const layer *a, const grad_work *w, const float *gamma, const float *beta, const ed_item *ss,
                        ed_item *dss)
{
    int64_t size = a->c / a->groups;
    for (int64_t g = 0; g < a->groups; g++) {
        double k1 = 0, k2 = 0, count = (double)(size * a->l);
        for (int64_t j = g * size; j < (g + 1) * size; j++) {
            k1 += w->slope[j] * w->a[j];
            k2 += w->slope[j] * w->b[j];
        }
        for (int64_t j = g * size; j < (g + 1) * size; j++) {
            w->k1[j] = (float)(k1 / count);
            w->k2[j] = (float)(k2 / count);
        }
    }
    for (int64_t j = 0; j < a->c; j++) {
        double scale = ss ? 1.0 + ed_get(ss + j) : 1;
        w->total_a[j] += scale * w->a[j];
        w->total_b[j] += scale * w->b[j];
        if (dss) ed_put(dss + j, (float)(gamma[j] * w->b[j] + beta[j] * w->a[j]));
        if (dss) ed_put(dss + a->c + j, (float)w->a[j]);
    }
}

/* dx = (slope dt - k1 - u k2) inverse + r; dt may be the memory of dx. */
static void input_gradient(const layer *a, const grad_work *w, const ed_item *x, const ed_item *dt, const ed_item *r,
                           ed_item *dx)
{
    const float *restrict mean = w->mean, *restrict inverse = w->inverse, *restrict slope = w->slope;
    const float *restrict k1 = w->k1, *restrict k2 = w->k2;
    for (int64_t i = 0; i < a->l; i++) {
        const ed_item *xi = x + i * a->c, *di = dt + i * a->c, *ri = r ? r + i * a->c : NULL;
        ed_item *to = dx + i * a->c;
        if (r) ED_VECTORISE for (int64_t j = 0; j < a->c; j++)
            {
                float u = (ed_get(xi + j) - mean[j]) * inverse[j];
                ed_put(to + j, (slope[j] * ed_get(di + j) - k1[j] - u * k2[j]) * inverse[j] + ed_get(ri + j));
            }
        else
            ED_VECTORISE for (int64_t j = 0; j < a->c; j++)
            {
                float u = (ed_get(xi + j) - mean[j]) * inverse[j];
                ed_put(to + j, (slope[j] * ed_get(di + j) - k1[j] - u * k2[j]) * inverse[j]);
            }
    }
}

static encdiff_status run_grad(const ed_call *call)
{
    layer a = layer_of(call->graph, call->node);
    grad_work w = cut_grad_work(call->scratch, (size_t)a.c);
    const float *gamma = IN_F32(1), *beta = IN_F32(2);
    for (int64_t j = 0; j < a.c; j++) w.total_a[j] = w.total_b[j] = 0;
    for (int64_t n = 0; n < a.n; n++) {
        int64_t at = n * a.l * a.c;
        const ed_item *x = IN(0) + at, *dy = IN(5) + at, *ss = IN(3) ? IN(3) + n * 2 * a.c : NULL;
        ed_item *dx = OUT(0) + at, *dss = OUT(1) ? OUT(1) + n * 2 * a.c : NULL;
        grad_coefficients(&a, &w, gamma, beta, ss, IN_F32(4) + n * a.groups * 2);
        if (a.silu)
            image_sums(&a, &w, x, dy, dx, true);
        else
            image_sums(&a, &w, x, dy, dx, false);
        finish_sums(&a, &w, gamma, beta, ss, dss);
        input_gradient(&a, &w, x, a.silu ? dx : dy, IN(8) ? IN(8) + at : NULL, dx);
    }
    for (int64_t j = 0; j < a.c; j++) {
        if (IN_F32(6)) IN_F32(6)[j] += (float)w.total_b[j];
        if (IN_F32(7)) IN_F32(7)[j] += (float)w.total_a[j];
    }
    return ENCDIFF_OK;
}

const ed_kernel ED_CPU(group_norm_grad) = {.prepare = prepare_grad, .run = run_grad};
