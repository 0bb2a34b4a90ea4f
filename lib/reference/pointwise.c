/* Operators in which an item depends on the items at its own position alone. Formulas: ops.def. */
#include <math.h>

#include "reference/reference.h"

static int64_t count_of(const ed_call *call) { return ed_shape_count(ed_ref_out_shape(call, 0)); }

/* ---------------------------------------------------------------- activations */

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }

double ed_ref_activate(ed_activation kind, double slope, double x)
{
    switch (kind) {
    case ED_ACT_NONE: return x;
    case ED_ACT_RELU: return x > 0 ? x : 0;
    case ED_ACT_LEAKY_RELU: return x > 0 ? x : slope * x;
    case ED_ACT_SILU: return x * sigmoid(x);
    case ED_ACT_ELU: return x > 0 ? x : expm1(x);
    }
    return x;
}

double ed_ref_activate_derivative(ed_activation kind, double slope, double x)
{
    switch (kind) {
    case ED_ACT_NONE: return 1;
    case ED_ACT_RELU: return x > 0 ? 1 : 0;
    case ED_ACT_LEAKY_RELU: return x > 0 ? 1 : slope;
    case ED_ACT_SILU: return sigmoid(x) * (1 + x * (1 - sigmoid(x)));
    case ED_ACT_ELU: return x > 0 ? 1 : exp(x);
    }
    return 1;
}

static encdiff_status run_activation(const ed_call *call)
{
    const float *x = call->in[0];
    float *y = call->out[0];
    for (int64_t i = 0, count = count_of(call); i < count; i++)
        y[i] = (float)ed_ref_activate(call->node->attr.activation.kind, call->node->attr.activation.slope, x[i]);
    return ENCDIFF_OK;
}

static encdiff_status run_activation_grad(const ed_call *call)
{
    const float *x = call->in[0], *dy = call->in[1];
    float *dx = call->out[0];
    for (int64_t i = 0, count = count_of(call); i < count; i++)
        dx[i] = (float)(dy[i] * ed_ref_activate_derivative(call->node->attr.activation.kind,
                                                           call->node->attr.activation.slope, x[i]));
    return ENCDIFF_OK;
}

/* gelu(x) = x Phi(x) with the normal distribution function (Hendrycks and Gimpel 2016) */
static double normal_cdf(double x) { return 0.5 * (1 + erf(x / sqrt(2))); }
static double normal_density(double x) { return exp(-0.5 * x * x) / sqrt(2 * 3.14159265358979323846); }

/* GEGLU (Shazeer 2020): y = x[..., :c] * gelu(x[..., c:]) */
static encdiff_status run_geglu(const ed_call *call)
{
    int64_t rows = ed_shape_rows(ed_ref_out_shape(call, 0)), channels = ed_shape_last(ed_ref_out_shape(call, 0));
    const float *x = call->in[0];
    float *y = call->out[0];
    for (int64_t row = 0; row < rows; row++)
        for (int64_t c = 0; c < channels; c++) {
            double value = x[row * 2 * channels + c], gate = x[(row * 2 + 1) * channels + c];
            y[row * channels + c] = (float)(value * gate * normal_cdf(gate));
        }
    return ENCDIFF_OK;
}

static encdiff_status run_geglu_grad(const ed_call *call)
{
    int64_t rows = ed_shape_rows(ed_ref_shape(call, 1)), channels = ed_shape_last(ed_ref_shape(call, 1));
    const float *x = call->in[0], *dy = call->in[1];
    float *dx = call->out[0];
    for (int64_t row = 0; row < rows; row++)
        for (int64_t c = 0; c < channels; c++) {
            double value = x[row * 2 * channels + c], gate = x[(row * 2 + 1) * channels + c];
            double d = dy[row * channels + c], slope = normal_cdf(gate) + gate * normal_density(gate);
            dx[row * 2 * channels + c] = (float)(d * gate * normal_cdf(gate));
            dx[(row * 2 + 1) * channels + c] = (float)(d * value * slope);
        }
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- sums and scales */

static encdiff_status run_add(const ed_call *call)
{
    const float *a = call->in[0], *b = call->in[1];
    float *y = call->out[0];
    for (int64_t i = 0, count = count_of(call); i < count; i++) y[i] = a[i] + b[i];
    return ENCDIFF_OK;
}

/* y[n,p,c] = x[n,p,c] + e[n,c] */
static encdiff_status run_add_vector(const ed_call *call)
{
    ed_ref_extent s = ed_ref_split(ed_ref_shape(call, 0));
    const float *x = call->in[0], *e = call->in[1];
    float *y = call->out[0];
    for (int64_t n = 0; n < s.images; n++)
        for (int64_t p = 0; p < s.positions; p++)
            for (int64_t c = 0; c < s.channels; c++) {
                int64_t at = (n * s.positions + p) * s.channels + c;
                y[at] = x[at] + e[n * s.channels + c];
            }
    return ENCDIFF_OK;
}

/* de[n,c] = sum_p dy[n,p,c] */
static encdiff_status run_sum_positions(const ed_call *call)
{
    ed_ref_extent s = ed_ref_split(ed_ref_shape(call, 0));
    const float *dy = call->in[0];
    float *de = call->out[0];
    for (int64_t n = 0; n < s.images; n++)
        for (int64_t c = 0; c < s.channels; c++) {
            double sum = 0;
            for (int64_t p = 0; p < s.positions; p++) sum += dy[(n * s.positions + p) * s.channels + c];
            de[n * s.channels + c] = (float)sum;
        }
    return ENCDIFF_OK;
}

static encdiff_status run_channel_affine(const ed_call *call)
{
    int64_t channels = ed_shape_last(ed_ref_shape(call, 0));
    const float *x = call->in[0], *s = call->in[1], *t = call->in[2];
    float *y = call->out[0];
    for (int64_t i = 0, count = count_of(call); i < count; i++)
        y[i] = (float)((double)x[i] * s[i % channels] + t[i % channels]);
    return ENCDIFF_OK;
}

static encdiff_status run_channel_scale(const ed_call *call)
{
    int64_t channels = ed_shape_last(ed_ref_shape(call, 0));
    const float *dy = call->in[0], *s = call->in[1];
    float *dx = call->out[0];
    for (int64_t i = 0, count = count_of(call); i < count; i++) dx[i] = dy[i] * s[i % channels];
    return ENCDIFF_OK;
}

static encdiff_status run_scale(const ed_call *call)
{
    const float *x = call->in[0];
    float *y = call->out[0];
    for (int64_t i = 0, count = count_of(call); i < count; i++) y[i] = call->node->attr.scale.alpha * x[i];
    return ENCDIFF_OK;
}

static encdiff_status run_scale_by(const ed_call *call)
{
    const float *x = call->in[0], *s = call->in[1];
    float *y = call->out[0];
    for (int64_t i = 0, count = count_of(call); i < count; i++) y[i] = s[0] * x[i];
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- diffusion */

/* Sinusoidal embedding of the step (Vaswani et al. 2017; Ho et al. 2020), cosines first. */
static encdiff_status run_timestep_embedding(const ed_call *call)
{
    int64_t n = ed_ref_out_shape(call, 0)->dim[0], dim = ed_ref_out_shape(call, 0)->dim[1], half = dim / 2;
    const float *t = call->in[0];
    float *e = call->out[0];
    for (int64_t i = 0; i < n; i++) {
        for (int64_t k = 0; k < half; k++) {
            double frequency = pow(10000, -(double)k / (double)half);
            e[i * dim + k] = (float)cos(t[i] * frequency);
            e[i * dim + half + k] = (float)sin(t[i] * frequency);
        }
        if (dim % 2) e[i * dim + dim - 1] = 0;
    }
    return ENCDIFF_OK;
}

/* x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) noise (Ho et al. 2020, equation 4); k has both factors */
static encdiff_status run_q_sample(const ed_call *call)
{
    int64_t count = count_of(call), items = count / ed_ref_shape(call, 0)->dim[0];
    const float *x0 = call->in[0], *noise = call->in[1], *k = call->in[2];
    float *y = call->out[0];
    for (int64_t i = 0; i < count; i++) {
        const float *factors = k + i / items * 2;
        y[i] = (float)((double)factors[0] * x0[i] + (double)factors[1] * noise[i]);
    }
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- the rest */

/* Whether an item is kept depends on its place in the whole batch, so shards and gradients agree. */
static encdiff_status run_dropout(const ed_call *call)
{
    const ed_run *run = call->run;
    int64_t count = count_of(call), items = count / ed_ref_shape(call, 0)->dim[0];
    uint64_t stream = run->step * 4096 + (uint64_t)call->node->attr.dropout.stream;
    float rate = call->node->attr.dropout.rate;
    const float *x = call->in[0];
    float *y = call->out[0];
    for (int64_t i = 0; i < count; i++) {
        uint64_t index = (uint64_t)(run->first_image * items + i);
        y[i] = ed_uniform(run->seed, ED_RANDOM_DROPOUT, stream, index) < rate ? 0 : x[i] / (1 - rate);
    }
    return ENCDIFF_OK;
}

static encdiff_status run_zeros(const ed_call *call)
{
    const ed_value_info *y = ed_graph_value(call->graph, call->node->out[0]);
    memset(call->out[0], 0, (size_t)ed_shape_count(&y->shape) * ed_type_size(y->type));
    return ENCDIFF_OK;
}

/* The same numbers, rounded to nearest where they become bf16. */
static encdiff_status run_convert(const ed_call *call)
{
    bool from = ed_graph_value(call->graph, call->node->in[0])->type == ED_BF16;
    bool to = ed_graph_value(call->graph, call->node->out[0])->type == ED_BF16;
    for (int64_t i = 0; i < count_of(call); i++) {
        float x = from ? ed_f32_from_bf16(((const uint16_t *)call->in[0])[i]) : ((const float *)call->in[0])[i];
        if (to)
            ((uint16_t *)call->out[0])[i] = ed_bf16_from_f32(x);
        else
            ((float *)call->out[0])[i] = x;
    }
    return ENCDIFF_OK;
}

/* Input and output are the same memory, and executors pass over it. */
static encdiff_status run_reshape(const ed_call *call)
{
    (void)call;
    return ENCDIFF_OK;
}

const ed_kernel ed_ref_activation = {.run = run_activation};
const ed_kernel ed_ref_activation_grad = {.run = run_activation_grad};
const ed_kernel ed_ref_geglu = {.run = run_geglu};
const ed_kernel ed_ref_geglu_grad = {.run = run_geglu_grad};
const ed_kernel ed_ref_add = {.run = run_add};
const ed_kernel ed_ref_add_vector = {.run = run_add_vector};
const ed_kernel ed_ref_sum_positions = {.run = run_sum_positions};
const ed_kernel ed_ref_channel_affine = {.run = run_channel_affine};
const ed_kernel ed_ref_channel_scale = {.run = run_channel_scale};
const ed_kernel ed_ref_scale = {.run = run_scale};
const ed_kernel ed_ref_scale_by = {.run = run_scale_by};
const ed_kernel ed_ref_timestep_embedding = {.run = run_timestep_embedding};
const ed_kernel ed_ref_q_sample = {.run = run_q_sample};
const ed_kernel ed_ref_dropout = {.run = run_dropout};
const ed_kernel ed_ref_zeros = {.run = run_zeros};
const ed_kernel ed_ref_convert = {.run = run_convert};
const ed_kernel ed_ref_reshape = {.run = run_reshape};
