/*
 * Group norm (Wu and He 2018), layer norm (Ba et al. 2016) and batch norm (Ioffe and Szegedy 2015): subtract the mean,
 * divide by the standard deviation sqrt(var + eps) with the biased variance, then an affine map per channel. They
 * differ in what the mean is taken over: a group of channels of an image, a position, a channel of the whole batch.
 */
#include <math.h>

#include "reference/reference.h"

/* Mean and 1/std of channels first .. last-1 over all positions of one image [positions, channels]. */
static void moments(const float *x, int64_t positions, int64_t channels, int64_t first, int64_t last, double eps,
                    double *mean, double *inverse)
{
    double count = (double)(positions * (last - first)), sum = 0, squares = 0;
    for (int64_t p = 0; p < positions; p++)
        for (int64_t c = first; c < last; c++) sum += x[p * channels + c];
    *mean = sum / count;
    for (int64_t p = 0; p < positions; p++)
        for (int64_t c = first; c < last; c++) {
            double off = x[p * channels + c] - *mean;
            squares += off * off;
        }
    *inverse = 1 / sqrt(squares / count + eps);
}

/* ---------------------------------------------------------------- group norm */

/* y = act(((x - mean)/std * gamma + beta) * (1 + ss[:, :c]) + ss[:, c:]) for one group of one image */
static void normalise_group(const ed_call *call, int64_t image, int64_t first, int64_t last, double mean,
                            double inverse)
{
    ed_ref_extent e = ed_ref_split(ed_ref_shape(call, 0));
    const float *x = call->in[0], *gamma = call->in[1], *beta = call->in[2], *ss = call->in[3];
    float *y = call->out[0];
    for (int64_t p = 0; p < e.positions; p++)
        for (int64_t c = first; c < last; c++) {
            int64_t at = (image * e.positions + p) * e.channels + c;
            double value = (x[at] - mean) * inverse * gamma[c] + beta[c];
            if (ss) value = value * (1.0 + ss[image * 2 * e.channels + c]) + ss[(image * 2 + 1) * e.channels + c];
            y[at] = (float)ed_ref_activate(call->node->attr.group_norm.activation, 0, value);
        }
}

static encdiff_status run_group_norm(const ed_call *call)
{
    ed_ref_extent e = ed_ref_split(ed_ref_shape(call, 0));
    int64_t groups = call->node->attr.group_norm.groups, width = e.channels / groups;
    const float *x = call->in[0];
    float *stats = call->out[1];
    for (int64_t image = 0; image < e.images; image++)
        for (int64_t g = 0; g < groups; g++) {
            double mean, inverse;
            moments(x + image * e.positions * e.channels, e.positions, e.channels, g * width, (g + 1) * width,
                    call->node->attr.group_norm.eps, &mean, &inverse);
            normalise_group(call, image, g * width, (g + 1) * width, mean, inverse);
            stats[(image * groups + g) * 2] = (float)mean;
            stats[(image * groups + g) * 2 + 1] = (float)inverse;
        }
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- layer norm */

static encdiff_status run_layer_norm(const ed_call *call)
{
    int64_t rows = ed_shape_rows(ed_ref_shape(call, 0)), channels = ed_shape_last(ed_ref_shape(call, 0));
    const float *x = call->in[0], *gamma = call->in[1], *beta = call->in[2];
    float *y = call->out[0], *stats = call->out[1];
    for (int64_t row = 0; row < rows; row++) {
        double mean, inverse;
        moments(x + row * channels, 1, channels, 0, channels, call->node->attr.layer_norm.eps, &mean, &inverse);
        for (int64_t c = 0; c < channels; c++)
            y[row * channels + c] = (float)((x[row * channels + c] - mean) * inverse * gamma[c] + beta[c]);
        stats[row * 2] = (float)mean;
        stats[row * 2 + 1] = (float)inverse;
    }
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- batch norm */

/* mean[c], variance[c] over the rows of every rank, and their number. Scratch: mean and the number, then variance. */
static double batch_moments(const ed_call *call, double *mean, double *variance)
{
    int64_t rows = ed_shape_rows(ed_ref_shape(call, 0)), channels = ed_shape_last(ed_ref_shape(call, 0));
    const float *x = call->in[0];
    for (int64_t c = 0; c < channels; c++) {
        mean[c] = 0;
        for (int64_t row = 0; row < rows; row++) mean[c] += x[row * channels + c];
    }
    mean[channels] = (double)rows;
    ed_ref_sum_over_ranks(call, mean, (size_t)channels + 1);
    double count = mean[channels];
    for (int64_t c = 0; c < channels; c++) {
        mean[c] /= count;
        variance[c] = 0;
        for (int64_t row = 0; row < rows; row++)
            variance[c] += (x[row * channels + c] - mean[c]) * (x[row * channels + c] - mean[c]);
    }
    ed_ref_sum_over_ranks(call, variance, (size_t)channels);
    for (int64_t c = 0; c < channels; c++) variance[c] /= count;
    return count;
}

/* r += momentum * (s - r), with the unbiased variance */
static void update_running(const ed_call *call, const double *mean, const double *variance, double count)
{
    float *running_mean = call->in[3], *running_var = call->in[4];
    double momentum = call->node->attr.batch_norm.momentum, unbias = count / ED_MAX(count - 1, 1);
    for (int64_t c = 0; c < ed_shape_last(ed_ref_shape(call, 0)); c++) {
        running_mean[c] += (float)(momentum * (mean[c] - running_mean[c]));
        running_var[c] += (float)(momentum * (variance[c] * unbias - running_var[c]));
    }
}

static encdiff_status prepare_batch_norm(ed_env *env, const ed_graph *graph, const ed_node *node, size_t *scratch,
                                         void **state)
{
    (void)env;
    (void)state;
    *scratch = (2 * (size_t)ed_shape_last(ed_graph_shape(graph, node->in[0])) + 1) * sizeof(double);
    return ENCDIFF_OK;
}

static encdiff_status run_batch_norm(const ed_call *call)
{
    int64_t rows = ed_shape_rows(ed_ref_shape(call, 0)), channels = ed_shape_last(ed_ref_shape(call, 0));
    const float *x = call->in[0], *gamma = call->in[1], *beta = call->in[2];
    const float *running_mean = call->in[3], *running_var = call->in[4];
    float *y = call->out[0], *stats = call->out[1];
    double *mean = call->scratch, *variance = mean + channels + 1;
    if (call->node->attr.batch_norm.training) {
        double count = batch_moments(call, mean, variance);
        if (call->run->rank == 0) update_running(call, mean, variance, count);
    } else {
        for (int64_t c = 0; c < channels; c++) mean[c] = running_mean[c], variance[c] = running_var[c];
    }
    for (int64_t c = 0; c < channels; c++) {
        double inverse = 1 / sqrt(variance[c] + call->node->attr.batch_norm.eps);
        for (int64_t row = 0; row < rows; row++)
            y[row * channels + c] = (float)ed_ref_activate(
                call->node->attr.batch_norm.activation, call->node->attr.batch_norm.slope,
                (x[row * channels + c] - mean[c]) * inverse * gamma[c] + beta[c]);
        stats[c] = (float)mean[c];
        stats[channels + c] = (float)inverse;
    }
    return ENCDIFF_OK;
}

const ed_kernel ed_ref_group_norm = {.run = run_group_norm};
const ed_kernel ed_ref_layer_norm = {.run = run_layer_norm};
const ed_kernel ed_ref_batch_norm = {.prepare = prepare_batch_norm, .run = run_batch_norm};
