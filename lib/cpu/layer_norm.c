/*
 * Layer normalisation (Ba et al. 2016): u = (x - mean) / sqrt(var + eps), y = u gamma + beta, over the c channels of
 * every row. x, y [rows, c]; gamma, beta [c]; stats [rows, 2] holds mean and 1/sqrt(var + eps).
 *
 * Gradient, with g = gamma dy:  dx = (g - mean(g) - u mean(g u)) / std + r,  dgamma += sum dy u,  dbeta += sum dy.
 */
#include "cpu/columns.h"

ED_INLINE float sum_of(const ed_item *x, int64_t c)
{
    ed_vec s0 = {0}, s1 = {0};
    int64_t j = 0;
    for (; j + 2 * ED_LANES <= c; j += 2 * ED_LANES) {
        s0 += ed_load(x + j);
        s1 += ed_load(x + j + ED_LANES);
    }
    for (; j + ED_LANES <= c; j += ED_LANES) s0 += ed_load(x + j);
    if (j < c) s1 += ed_load_some(x + j, (int)(c - j));
    return ed_sum_lanes(s0 + s1);
}

/* Sums of x - mean and of its square over the row. */
ED_INLINE void moments_about(const ed_item *x, int64_t c, float mean, float *sum, float *square)
{
    ed_vec s = {0}, q = {0};
    int64_t j = 0;
    for (; j + ED_LANES <= c; j += ED_LANES) {
        ed_vec d = ed_load(x + j) - mean;
        s += d;
        q += d * d;
    }
    *sum = ed_sum_lanes(s);
    *square = ed_sum_lanes(q);
    for (; j < c; j++) {
        float d = ed_get(x + j) - mean;
        *sum += d;
        *square += d * d;
    }
}

static encdiff_status run(const ed_call *call)
{
    const ed_shape *shape = ed_in_shape(call, 0);
    int64_t c = ed_shape_last(shape);
    ed_range part = ed_part_of_rows(call);
    float eps = call->node->attr.layer_norm.eps;
    const float *restrict gamma = IN_F32(1), *restrict beta = IN_F32(2);
    for (int64_t i = part.first; i < part.last; i++) {
        const ed_item *x = IN(0) + i * c;
        ed_item *y = OUT(0) + i * c;
        float *stats = OUT_F32(1) + 2 * i;
        float mean = sum_of(x, c) / (float)c, rest, square;
        /* What rounding left in the mean, where it is far from zero. */
        moments_about(x, c, mean, &rest, &square);
        rest /= (float)c;
        float variance = ED_MAX(square / (float)c - rest * rest, 0), inverse = 1 / sqrtf(variance + eps);
        ED_VECTORISE for (int64_t j = 0; j < c; j++)
            ed_put(y + j, (ed_get(x + j) - mean - rest) * inverse * gamma[j] + beta[j]);
        stats[0] = mean + rest;
        stats[1] = inverse;
    }
    return ENCDIFF_OK;
}

const ed_kernel ED_CPU(layer_norm) = {.run = run, .parts = true};

/* ---------------------------------------------------------------- gradient */

typedef struct sums {
    float *part_gamma, *part_beta; /* f32 over a chunk of rows */
    double *gamma, *beta;
} sums;

static encdiff_status prepare_grad(ed_env *env, const ed_graph *graph, const ed_node *node, size_t *scratch,
                                   void **state)
{
    (void)env, (void)state;
    size_t c = (size_t)ed_shape_last(&graph->values[node->in[0]].shape);
    *scratch = 2 * ed_cut_size(c, sizeof(double)) + 2 * ed_cut_size(c, sizeof(float));
    return ENCDIFF_OK;
}

static sums cut_sums(char *scratch, size_t c)
{
    sums s;
    s.part_gamma = ed_cut(&scratch, c, sizeof(float));
    s.part_beta = ed_cut(&scratch, c, sizeof(float));
    s.gamma = ed_cut(&scratch, c, sizeof(double));
    s.beta = ed_cut(&scratch, c, sizeof(double));
    return s;
}

static void clear(const sums *s, int64_t c)
{
    for (int64_t j = 0; j < c; j++) s->part_gamma[j] = s->part_beta[j] = 0;
}

static void flush(const sums *s, int64_t c)
{
    for (int64_t j = 0; j < c; j++) s->gamma[j] += s->part_gamma[j];
    for (int64_t j = 0; j < c; j++) s->beta[j] += s->part_beta[j];
    clear(s, c);
}

/* sum g and sum g u over the row, with the parameters' parts added on the way. */
ED_INLINE void row_sums(const sums *s, const ed_item *x, const ed_item *dy, const float *gamma, int64_t c, float mean,
                        float inverse, float out[2])
{
    ed_vec sum = {0}, product = {0};
    for (int64_t j = 0; j < c; j += ED_LANES) {
        int lanes = (int)ED_MIN(ED_LANES, c - j);
        bool whole = lanes == ED_LANES;
#define LOAD(p) (whole ? ed_load((p) + j) : ed_load_some((p) + j, lanes))
        ed_vec d = LOAD(dy), u = (LOAD(x) - mean) * inverse, g = d * LOAD(gamma);
        ed_vec part_gamma = LOAD(s->part_gamma) + d * u, part_beta = LOAD(s->part_beta) + d;
#undef LOAD
        sum += g;
        product += g * u;
        ed_store_some(s->part_gamma + j, part_gamma, lanes);
        ed_store_some(s->part_beta + j, part_beta, lanes);
    }
    out[0] = ed_sum_lanes(sum) / (float)c;
    out[1] = ed_sum_lanes(product) / (float)c;
}

static encdiff_status run_grad(const ed_call *call)
{
    const ed_shape *shape = ed_in_shape(call, 0);
    int64_t rows = ed_shape_rows(shape), c = ed_shape_last(shape);
    const float *gamma = IN_F32(1);
    sums s = cut_sums(call->scratch, (size_t)c);
    clear(&s, c);
    for (int64_t j = 0; j < c; j++) s.gamma[j] = s.beta[j] = 0;
    for (int64_t i = 0; i < rows; i++) {
        const ed_item *x = IN(0) + i * c, *dy = IN(3) + i * c, *r = IN(6) ? IN(6) + i * c : NULL;
        ed_item *dx = OUT(0) + i * c;
        float k[2], mean = IN_F32(2)[2 * i], inverse = IN_F32(2)[2 * i + 1];
        row_sums(&s, x, dy, gamma, c, mean, inverse, k);
        float k1 = k[0] * inverse, k2 = k[1] * inverse;
        if (r)
            ED_VECTORISE for (int64_t j = 0; j < c; j++)
                ed_put(dx + j, gamma[j] * ed_get(dy + j) * inverse - k1 - (ed_get(x + j) - mean) * inverse * k2 +
                                   ed_get(r + j));
        else
            ED_VECTORISE for (int64_t j = 0; j < c; j++)
                ed_put(dx + j, gamma[j] * ed_get(dy + j) * inverse - k1 - (ed_get(x + j) - mean) * inverse * k2);
        if ((i + 1) % ED_CHUNK_ROWS == 0) flush(&s, c);
    }
    flush(&s, c);
    for (int64_t j = 0; j < c; j++) {
        if (IN_F32(4)) IN_F32(4)[j] += (float)s.gamma[j];
        if (IN_F32(5)) IN_F32(5)[j] += (float)s.beta[j];
    }
    return ENCDIFF_OK;
}

const ed_kernel ED_CPU(layer_norm_grad) = {.prepare = prepare_grad, .run = run_grad};
