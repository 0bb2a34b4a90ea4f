/*
 * What training adds to a network: losses per image, the vector quantiser (van den Oord et al. 2017), the Gaussian
 * sample of the KL autoencoder (Kingma and Welling 2014), LPIPS (Zhang et al. 2018), and the adaptive weight of the
 * adversarial loss (Esser et al. 2021, equation 7).
 */
#include <math.h>

#include "reference/reference.h"

static int64_t items_per_image(const ed_shape *shape) { return ed_shape_count(shape) / shape->dim[0]; }

/* ---------------------------------------------------------------- difference loss */

static encdiff_status run_difference_loss(const ed_call *call)
{
    int64_t n = ed_ref_shape(call, 0)->dim[0], items = items_per_image(ed_ref_shape(call, 0));
    const float *x = call->in[0], *y = call->in[1];
    float *loss = call->out[0];
    for (int64_t image = 0; image < n; image++) {
        double sum = 0;
        for (int64_t i = image * items; i < (image + 1) * items; i++) {
            double off = (double)x[i] - y[i];
            sum += call->node->attr.difference.kind == ED_LOSS_L1 ? fabs(off) : off * off;
        }
        loss[image] = (float)(sum / (double)items);
    }
    return ENCDIFF_OK;
}

/* x y dloss[n] -> dx */
static encdiff_status run_difference_loss_grad(const ed_call *call)
{
    int64_t count = ed_shape_count(ed_ref_shape(call, 0)), items = items_per_image(ed_ref_shape(call, 0));
    const float *x = call->in[0], *y = call->in[1], *dloss = call->in[2];
    float *dx = call->out[0];
    for (int64_t i = 0; i < count; i++) {
        double off = (double)x[i] - y[i];
        double slope = call->node->attr.difference.kind == ED_LOSS_L1 ? (off > 0) - (off < 0) : 2 * off;
        dx[i] = (float)(dloss[i / items] * slope / (double)items);
    }
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- mean loss */

/* log(1 + exp(x)) without overflow */
static double softplus(double x) { return ED_MAX(x, 0) + log1p(exp(-fabs(x))); }

static double mean_function(ed_mean_kind kind, double x)
{
    switch (kind) {
    case ED_MEAN_NEGATIVE: return -x;
    case ED_MEAN_HINGE_REAL: return ED_MAX(0, 1 - x);
    case ED_MEAN_HINGE_FAKE: return ED_MAX(0, 1 + x);
    case ED_MEAN_SOFTPLUS_REAL: return softplus(-x);
    case ED_MEAN_SOFTPLUS_FAKE: return softplus(x);
    }
    return 0;
}

static double mean_derivative(ed_mean_kind kind, double x)
{
    switch (kind) {
    case ED_MEAN_NEGATIVE: return -1;
    case ED_MEAN_HINGE_REAL: return x < 1 ? -1 : 0;
    case ED_MEAN_HINGE_FAKE: return x > -1 ? 1 : 0;
    case ED_MEAN_SOFTPLUS_REAL: return -1 / (1 + exp(x));
    case ED_MEAN_SOFTPLUS_FAKE: return 1 / (1 + exp(-x));
    }
    return 0;
}

static encdiff_status run_mean_loss(const ed_call *call)
{
    int64_t n = ed_ref_shape(call, 0)->dim[0], items = items_per_image(ed_ref_shape(call, 0));
    const float *x = call->in[0];
    float *loss = call->out[0];
    for (int64_t image = 0; image < n; image++) {
        double sum = 0;
        for (int64_t i = image * items; i < (image + 1) * items; i++)
            sum += mean_function(call->node->attr.mean.kind, x[i]);
        loss[image] = (float)(sum / (double)items);
    }
    return ENCDIFF_OK;
}

/* x dloss[n] -> dx */
static encdiff_status run_mean_loss_grad(const ed_call *call)
{
    int64_t count = ed_shape_count(ed_ref_shape(call, 0)), items = items_per_image(ed_ref_shape(call, 0));
    const float *x = call->in[0], *dloss = call->in[1];
    float *dx = call->out[0];
    for (int64_t i = 0; i < count; i++)
        dx[i] = (float)(dloss[i / items] * mean_derivative(call->node->attr.mean.kind, x[i]) / (double)items);
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- quantisation */

static double squared_distance(const float *a, const float *b, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
    return sum;
}

static int32_t nearest(const float *z, const float *codes, int64_t count, int64_t channels)
{
    int32_t best = 0;
    for (int32_t k = 1; k < count; k++)
        if (squared_distance(z, codes + k * channels, channels) <
            squared_distance(z, codes + best * channels, channels))
            best = k;
    return best;
}

/* z[n,h,w,c] e[k,c] -> y, index, loss */
static encdiff_status run_quantize(const ed_call *call)
{
    ed_ref_extent s = ed_ref_split(ed_ref_shape(call, 0));
    const float *z = call->in[0], *codes = call->in[1];
    float *y = call->out[0], *loss = call->out[2];
    int32_t *index = call->out[1];
    double weight = (double)call->node->attr.quantize.commitment + call->node->attr.quantize.codebook;
    for (int64_t n = 0; n < s.images; n++) {
        double sum = 0;
        for (int64_t at = n * s.positions; at < (n + 1) * s.positions; at++) {
            const float *here = z + at * s.channels;
            index[at] = nearest(here, codes, ed_ref_shape(call, 1)->dim[0], s.channels);
            const float *code = codes + index[at] * s.channels;
            sum += squared_distance(here, code, s.channels);
            memcpy(y + at * s.channels, code, (size_t)s.channels * sizeof *y);
        }
        loss[n] = (float)(weight * sum / (double)(s.positions * s.channels));
    }
    return ENCDIFF_OK;
}

/* z e index dy? dloss[n]? de+=? -> dz: the straight-through gradient, and each half of the loss to its own side */
static encdiff_status run_quantize_grad(const ed_call *call)
{
    ed_ref_extent s = ed_ref_split(ed_ref_shape(call, 0));
    const float *z = call->in[0], *codes = call->in[1], *dy = call->in[3], *dloss = call->in[4];
    const int32_t *index = call->in[2];
    float *de = call->in[5], *dz = call->out[0];
    for (int64_t i = 0; i < s.images * s.positions * s.channels; i++) {
        int64_t c = i % s.channels, code = index[i / s.channels] * s.channels + c;
        double items = (double)(s.positions * s.channels), off = (double)z[i] - codes[code];
        double slope = dloss ? 2 * off * dloss[i / (s.positions * s.channels)] / items : 0;
        dz[i] = (float)((dy ? dy[i] : 0) + call->node->attr.quantize.commitment * slope);
        if (de) de[code] -= (float)(call->node->attr.quantize.codebook * slope);
    }
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- Gaussian sample */

#define LOGVAR_LOW (-30.0)
#define LOGVAR_HIGH 20.0

/* moments[n,h,w,2c] noise[n,h,w,c] -> z, kl */
static encdiff_status run_gaussian_sample(const ed_call *call)
{
    ed_ref_extent s = ed_ref_split(ed_ref_shape(call, 1));
    const float *moments = call->in[0], *noise = call->in[1];
    float *z = call->out[0], *kl = call->out[1];
    for (int64_t n = 0; n < s.images; n++) {
        double sum = 0;
        for (int64_t at = n * s.positions; at < (n + 1) * s.positions; at++)
            for (int64_t c = 0; c < s.channels; c++) {
                double mean = moments[at * 2 * s.channels + c], logvar = moments[(at * 2 + 1) * s.channels + c];
                logvar = ED_MIN(ED_MAX(logvar, LOGVAR_LOW), LOGVAR_HIGH);
                z[at * s.channels + c] = (float)(mean + exp(0.5 * logvar) * noise[at * s.channels + c]);
                sum += mean * mean + exp(logvar) - 1 - logvar;
            }
        kl[n] = (float)(0.5 * sum);
    }
    return ENCDIFF_OK;
}

/* moments noise dz? dkl[n]? -> dmoments */
static encdiff_status run_gaussian_sample_grad(const ed_call *call)
{
    ed_ref_extent s = ed_ref_split(ed_ref_shape(call, 1));
    const float *moments = call->in[0], *noise = call->in[1], *dz = call->in[2], *dkl = call->in[3];
    float *dmoments = call->out[0];
    for (int64_t i = 0; i < s.images * s.positions * s.channels; i++) {
        int64_t at = i / s.channels, mean_at = at * 2 * s.channels + i % s.channels, logvar_at = mean_at + s.channels;
        double mean = moments[mean_at], logvar = moments[logvar_at];
        double d = dz ? dz[i] : 0, d_kl = dkl ? dkl[at / s.positions] : 0;
        bool clamped = logvar < LOGVAR_LOW || logvar > LOGVAR_HIGH;
        dmoments[mean_at] = (float)(d + d_kl * mean);
        dmoments[logvar_at] = clamped ? 0
                                      : (float)(0.5 * (d * exp(0.5 * logvar) * noise[i] + d_kl * (exp(logvar) - 1)));
    }
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- LPIPS */

static double norm_of(const float *v, int64_t count) { return sqrt(ed_ref_dot(v, v, count)); }

/* x y w[c] -> d[n]: mean over positions of sum_c w (x/(|x| + eps) - y/(|y| + eps))^2 */
#define LPIPS_EPS 1e-10

static encdiff_status run_lpips_distance(const ed_call *call)
{
    ed_ref_extent s = ed_ref_split(ed_ref_shape(call, 0));
    const float *x = call->in[0], *y = call->in[1], *w = call->in[2];
    float *distance = call->out[0];
    for (int64_t n = 0; n < s.images; n++) {
        double sum = 0;
        for (int64_t at = n * s.positions; at < (n + 1) * s.positions; at++) {
            const float *a = x + at * s.channels, *b = y + at * s.channels;
            double a_norm = norm_of(a, s.channels) + LPIPS_EPS, b_norm = norm_of(b, s.channels) + LPIPS_EPS;
            for (int64_t c = 0; c < s.channels; c++) {
                double off = a[c] / a_norm - b[c] / b_norm;
                sum += w[c] * off * off;
            }
        }
        distance[n] = (float)(sum / (double)s.positions);
    }
    return ENCDIFF_OK;
}

/*
 * With u = y/s, s = |y| + eps: du_i/dy_j = (i == j)/s - y_i y_j / (s^2 |y|), so dy = (g - y (g . y) / (s |y|)) / s for
 * the gradient g at u.
 */
static void lpips_position(int64_t channels, const float *x, const float *y, const float *w, double d, float *dy)
{
    double x_scale = norm_of(x, channels) + LPIPS_EPS, length = norm_of(y, channels), y_scale = length + LPIPS_EPS;
    double along = 0;
    for (int64_t c = 0; c < channels; c++) along += -2 * d * w[c] * (x[c] / x_scale - y[c] / y_scale) * y[c];
    for (int64_t c = 0; c < channels; c++) {
        double g = -2 * d * w[c] * (x[c] / x_scale - y[c] / y_scale);
        /* A zero vector has no direction: its norm gets no gradient. */
        dy[c] = (float)((g - (length > 0 ? y[c] * along / (y_scale * length) : 0)) / y_scale);
    }
}

/* x y w dd[n] -> dy */
static encdiff_status run_lpips_distance_grad(const ed_call *call)
{
    ed_ref_extent s = ed_ref_split(ed_ref_shape(call, 0));
    const float *x = call->in[0], *y = call->in[1], *w = call->in[2], *dd = call->in[3];
    float *dy = call->out[0];
    for (int64_t at = 0; at < s.images * s.positions; at++)
        lpips_position(s.channels, x + at * s.channels, y + at * s.channels, w,
                       dd[at / s.positions] / (double)s.positions, dy + at * s.channels);
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- adaptive weight */

static double length_of_sum(const ed_call *call, const float *part, int64_t count)
{
    double *sum = call->scratch, squares = 0;
    for (int64_t i = 0; i < count; i++) sum[i] = part[i];
    ed_ref_sum_over_ranks(call, sum, (size_t)count);
    for (int64_t i = 0; i < count; i++) squares += sum[i] * sum[i];
    return sqrt(squares);
}

static encdiff_status run_adaptive_weight(const ed_call *call)
{
    const float *factor = call->in[2];
    double a = length_of_sum(call, call->in[0], ed_shape_count(ed_ref_shape(call, 0)));
    double b = length_of_sum(call, call->in[1], ed_shape_count(ed_ref_shape(call, 1)));
    double ratio = a / (b + 1e-4);
    *(float *)call->out[0] = (float)(factor[0] * ED_MIN(ratio, 1e4));
    return ENCDIFF_OK;
}

static encdiff_status prepare_adaptive_weight(ed_env *env, const ed_graph *graph, const ed_node *node, size_t *scratch,
                                              void **state)
{
    (void)env;
    (void)state;
    int64_t a = ed_shape_count(ed_graph_shape(graph, node->in[0])),
            b = ed_shape_count(ed_graph_shape(graph, node->in[1]));
    *scratch = (size_t)ED_MAX(a, b) * sizeof(double);
    return ENCDIFF_OK;
}

const ed_kernel ed_ref_difference_loss = {.run = run_difference_loss};
const ed_kernel ed_ref_difference_loss_grad = {.run = run_difference_loss_grad};
const ed_kernel ed_ref_mean_loss = {.run = run_mean_loss};
const ed_kernel ed_ref_mean_loss_grad = {.run = run_mean_loss_grad};
const ed_kernel ed_ref_quantize = {.run = run_quantize};
const ed_kernel ed_ref_quantize_grad = {.run = run_quantize_grad};
const ed_kernel ed_ref_gaussian_sample = {.run = run_gaussian_sample};
const ed_kernel ed_ref_gaussian_sample_grad = {.run = run_gaussian_sample_grad};
const ed_kernel ed_ref_lpips_distance = {.run = run_lpips_distance};
const ed_kernel ed_ref_lpips_distance_grad = {.run = run_lpips_distance_grad};
const ed_kernel ed_ref_adaptive_weight = {.prepare = prepare_adaptive_weight, .run = run_adaptive_weight};
