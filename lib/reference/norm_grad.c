/*
 * Gradients of the norms. With xh = (x - mean)/std over a set of `count` items and dxh the gradient for xh,
 *
 *   dx = (dxh - mean(dxh) - xh * mean(dxh * xh)) / std
 *
 * and the gradients of the affine map are plain sums. dx may take the memory of dy, so everything else that reads dy
 * is computed first.
 */
#include "reference/reference.h"

/* ---------------------------------------------------------------- group norm */

typedef struct group_norm {
    const ed_call *call;
    ed_ref_extent e;
    int64_t groups, width; /* channels of a group */
    const float *x, *gamma, *beta, *ss, *stats, *dy, *r;
} group_norm;

static group_norm group_norm_of(const ed_call *call)
{
    ed_ref_extent e = ed_ref_split(ed_ref_shape(call, 0));
    int64_t groups = call->node->attr.group_norm.groups;
    return (group_norm){call,        e,           groups,      e.channels / groups, call->in[0], call->in[1],
                        call->in[2], call->in[3], call->in[4], call->in[5],         call->in[8]};
}

/* The item's way forward, xh -> affine = xh gamma + beta -> scaled = affine (1 + s) + t -> act, and back. */
typedef struct group_norm_item {
    double xh, affine, d_scaled, d_affine, d_xh;
} group_norm_item;

static group_norm_item group_norm_at(const group_norm *g, int64_t image, int64_t p, int64_t c)
{
    int64_t at = (image * g->e.positions + p) * g->e.channels + c;
    const float *stats = g->stats + (image * g->groups + c / g->width) * 2;
    double one_plus_s = g->ss ? 1.0 + g->ss[image * 2 * g->e.channels + c] : 1;
    double t = g->ss ? g->ss[(image * 2 + 1) * g->e.channels + c] : 0;
    group_norm_item i;
    i.xh = ((double)g->x[at] - stats[0]) * stats[1];
    i.affine = i.xh * g->gamma[c] + g->beta[c];
    i.d_scaled = g->dy[at] *
                 ed_ref_activate_derivative(g->call->node->attr.group_norm.activation, 0, i.affine * one_plus_s + t);
    i.d_affine = i.d_scaled * one_plus_s;
    i.d_xh = i.d_affine * g->gamma[c];
    return i;
}

static void group_norm_parameters(const group_norm *g, float *dgamma, float *dbeta)
{
    for (int64_t c = 0; c < g->e.channels; c++) {
        double gamma_sum = 0, beta_sum = 0;
        for (int64_t image = 0; image < g->e.images; image++)
            for (int64_t p = 0; p < g->e.positions; p++) {
                group_norm_item i = group_norm_at(g, image, p, c);
                gamma_sum += i.d_affine * i.xh;
                beta_sum += i.d_affine;
            }
        if (dgamma) dgamma[c] += (float)gamma_sum;
        if (dbeta) dbeta[c] += (float)beta_sum;
    }
}

static void group_norm_scale_shift(const group_norm *g, float *dss)
{
    for (int64_t image = 0; image < g->e.images; image++)
        for (int64_t c = 0; c < g->e.channels; c++) {
            double scale = 0, shift = 0;
            for (int64_t p = 0; p < g->e.positions; p++) {
                group_norm_item i = group_norm_at(g, image, p, c);
                scale += i.d_scaled * i.affine;
                shift += i.d_scaled;
            }
            dss[image * 2 * g->e.channels + c] = (float)scale;
            dss[(image * 2 + 1) * g->e.channels + c] = (float)shift;
        }
}

static void group_norm_input(const group_norm *g, int64_t image, int64_t first, float *dx)
{
    double mean = 0, projection = 0, count = (double)(g->e.positions * g->width);
    for (int64_t p = 0; p < g->e.positions; p++)
        for (int64_t c = first; c < first + g->width; c++) {
            group_norm_item i = group_norm_at(g, image, p, c);
            mean += i.d_xh / count;
            projection += i.d_xh * i.xh / count;
        }
    double inverse = g->stats[(image * g->groups + first / g->width) * 2 + 1];
    for (int64_t p = 0; p < g->e.positions; p++)
        for (int64_t c = first; c < first + g->width; c++) {
            int64_t at = (image * g->e.positions + p) * g->e.channels + c;
            group_norm_item i = group_norm_at(g, image, p, c);
            dx[at] = (float)((i.d_xh - mean - i.xh * projection) * inverse + (g->r ? g->r[at] : 0));
        }
}

/* x gamma beta ss? stats dy dgamma+=? dbeta+=? r? -> dx, dss? */
static encdiff_status run_group_norm_grad(const ed_call *call)
{
    group_norm g = group_norm_of(call);
    group_norm_parameters(&g, call->in[6], call->in[7]);
    if (call->out[1]) group_norm_scale_shift(&g, call->out[1]);
    for (int64_t image = 0; image < g.e.images; image++)
        for (int64_t first = 0; first < g.e.channels; first += g.width)
            group_norm_input(&g, image, first, call->out[0]);
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- layer norm */

static void layer_norm_parameters(const ed_call *call, int64_t rows, int64_t channels)
{
    const float *x = call->in[0], *stats = call->in[2], *dy = call->in[3];
    float *dgamma = call->in[4], *dbeta = call->in[5];
    for (int64_t c = 0; c < channels; c++) {
        double gamma_sum = 0, beta_sum = 0;
        for (int64_t row = 0; row < rows; row++) {
            double xh = ((double)x[row * channels + c] - stats[row * 2]) * stats[row * 2 + 1];
            gamma_sum += dy[row * channels + c] * xh;
            beta_sum += dy[row * channels + c];
        }
        if (dgamma) dgamma[c] += (float)gamma_sum;
        if (dbeta) dbeta[c] += (float)beta_sum;
    }
}

static void layer_norm_row(int64_t channels, const float *x, const float *gamma, const float *stats, const float *dy,
                           const float *r, float *dx)
{
    double mean = 0, projection = 0;
    for (int64_t c = 0; c < channels; c++) {
        double d_xh = (double)dy[c] * gamma[c];
        mean += d_xh / (double)channels;
        projection += d_xh * ((double)x[c] - stats[0]) * stats[1] / (double)channels;
    }
    for (int64_t c = 0; c < channels; c++) {
        double xh = ((double)x[c] - stats[0]) * stats[1];
        dx[c] = (float)(((double)dy[c] * gamma[c] - mean - xh * projection) * stats[1] + (r ? r[c] : 0));
    }
}

/* x gamma stats dy dgamma+=? dbeta+=? r? -> dx */
static encdiff_status run_layer_norm_grad(const ed_call *call)
{
    int64_t rows = ed_shape_rows(ed_ref_shape(call, 0)), channels = ed_shape_last(ed_ref_shape(call, 0));
    const float *x = call->in[0], *gamma = call->in[1], *stats = call->in[2], *dy = call->in[3], *r = call->in[6];
    float *dx = call->out[0];
    layer_norm_parameters(call, rows, channels);
    for (int64_t row = 0; row < rows; row++) {
        int64_t at = row * channels;
        layer_norm_row(channels, x + at, gamma, stats + row * 2, dy + at, r ? r + at : NULL, dx + at);
    }
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- batch norm */

/* The gradient for xh gamma + beta of one item, and its xh. */
static double batch_norm_at(const ed_call *call, int64_t row, int64_t c, double *xh)
{
    const float *x = call->in[0], *gamma = call->in[1], *beta = call->in[2], *stats = call->in[3], *dy = call->in[4];
    int64_t channels = ed_shape_last(ed_ref_shape(call, 0)), at = row * channels + c;
    *xh = ((double)x[at] - stats[c]) * stats[channels + c];
    return dy[at] * ed_ref_activate_derivative(call->node->attr.batch_norm.activation,
                                               call->node->attr.batch_norm.slope, *xh * gamma[c] + beta[c]);
}

/* sums: for each channel the sum of d and of d * xh, then the number of rows */
static void batch_norm_sums(const ed_call *call, int64_t rows, int64_t channels, double *sums)
{
    for (int64_t c = 0; c < channels; c++) {
        sums[c] = sums[channels + c] = 0;
        for (int64_t row = 0; row < rows; row++) {
            double xh, d = batch_norm_at(call, row, c, &xh);
            sums[c] += d;
            sums[channels + c] += d * xh;
        }
    }
    sums[2 * channels] = (double)rows;
}

/* x gamma beta stats dy dgamma+=? dbeta+=? -> dx. The parameters get this rank's part, dx needs the sums of all. */
static encdiff_status run_batch_norm_grad(const ed_call *call)
{
    int64_t rows = ed_shape_rows(ed_ref_shape(call, 0)), channels = ed_shape_last(ed_ref_shape(call, 0));
    const float *gamma = call->in[1], *stats = call->in[3];
    float *dgamma = call->in[5], *dbeta = call->in[6], *dx = call->out[0];
    double *sums = call->scratch;
    batch_norm_sums(call, rows, channels, sums);
    for (int64_t c = 0; c < channels; c++) {
        if (dgamma) dgamma[c] += (float)sums[channels + c];
        if (dbeta) dbeta[c] += (float)sums[c];
    }
    ed_ref_sum_over_ranks(call, sums, 2 * (size_t)channels + 1);
    double count = sums[2 * channels];
    for (int64_t row = 0; row < rows; row++)
        for (int64_t c = 0; c < channels; c++) {
            double xh, d = batch_norm_at(call, row, c, &xh);
            dx[row * channels + c] = (float)((d - sums[c] / count - xh * sums[channels + c] / count) * gamma[c] *
                                             stats[channels + c]);
        }
    return ENCDIFF_OK;
}

static encdiff_status prepare_batch_norm_grad(ed_env *env, const ed_graph *graph, const ed_node *node, size_t *scratch,
                                              void **state)
{
    (void)env;
    (void)state;
    *scratch = (2 * (size_t)ed_shape_last(ed_graph_shape(graph, node->in[0])) + 1) * sizeof(double);
    return ENCDIFF_OK;
}

const ed_kernel ed_ref_group_norm_grad = {.run = run_group_norm_grad};
const ed_kernel ed_ref_layer_norm_grad = {.run = run_layer_norm_grad};
const ed_kernel ed_ref_batch_norm_grad = {.prepare = prepare_batch_norm_grad, .run = run_batch_norm_grad};
