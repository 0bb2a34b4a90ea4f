/*
 * Principal components of vectors: their coordinates along the directions of largest variance. The sign of a direction
 * is free; here its largest loading is positive.
 *
 * The published evaluation replaces each token by its first component over the whole set.
 */
#include <math.h>

#include "metrics/eigen.h"

/* n vectors of `dim` numbers that begin `pitch` numbers apart. */
typedef struct moments {
    const float *vectors;
    int64_t n, pitch;
    int32_t dim;
    double *mean, *scatter;
} moments;

static void find_mean(const moments *m)
{
    for (int64_t i = 0; i < m->n; i++)
        for (int32_t a = 0; a < m->dim; a++) m->mean[a] += (double)m->vectors[i * m->pitch + a];
    for (int32_t a = 0; a < m->dim; a++) m->mean[a] /= (double)m->n;
}

/* Rows [first, last) of the scatter matrix, lower half. */
static encdiff_status some_rows(ed_env *env, void *argument, int rank, int64_t first, int64_t last)
{
    const moments *m = argument;
    (void)env, (void)rank;
    for (int64_t i = 0; i < m->n; i++) {
        const float *v = m->vectors + i * m->pitch;
        for (int64_t a = first; a < last; a++) {
            double off = (double)v[a] - m->mean[a];
            for (int64_t b = 0; b <= a; b++) m->scatter[a * m->dim + b] += off * ((double)v[b] - m->mean[b]);
        }
    }
    return ENCDIFF_OK;
}

static void mirror(const moments *m)
{
    for (int64_t a = 0; a < m->dim; a++)
        for (int64_t b = 0; b < a; b++) m->scatter[b * m->dim + a] = m->scatter[a * m->dim + b];
}

static encdiff_status check_scatter(ed_env *env, const moments *m)
{
    for (int64_t a = 0; a < m->dim; a++)
        if (!isfinite(m->scatter[a * (m->dim + 1)]))
            return ed_fail(env, ENCDIFF_ERROR_NUMERIC, "numbers %lld of the vectors are not all finite", (long long)a);
    return ENCDIFF_OK;
}

/* The k-th largest eigenvalue's vector, each taken once. */
static double *next_direction(double *values, double *vectors, int32_t dim)
{
    int32_t best = 0, loading = 0;
    for (int32_t k = 1; k < dim; k++)
        if (values[k] > values[best]) best = k;
    values[best] = -INFINITY;
    double *v = vectors + (int64_t)best * dim;
    for (int32_t a = 1; a < dim; a++)
        if (fabs(v[a]) > fabs(v[loading])) loading = a;
    bool flip = v[loading] < 0;
    for (int32_t a = 0; flip && a < dim; a++) v[a] = -v[a];
    return v;
}

/* out: `count` numbers for each vector, `out_pitch` apart; `values` and `directions` are work space. */
static encdiff_status project(ed_env *env, const ed_metric_run *run, const moments *m, double *values,
                              double *directions, int32_t count, int64_t out_pitch, float *out)
{
    find_mean(m);
    ED_TRY(ed_metric_for(env, run, "principal components", m->dim, 8, some_rows, (void *)(uintptr_t)m));
    mirror(m);
    ED_TRY(check_scatter(env, m));
    ED_TRY(ed_eigen_jacobi(env, m->scatter, m->dim, values, directions));
    for (int32_t k = 0; k < count; k++) {
        const double *v = next_direction(values, directions, m->dim);
        for (int64_t i = 0; i < m->n; i++) {
            double sum = 0;
            for (int32_t a = 0; a < m->dim; a++) sum += v[a] * ((double)m->vectors[i * m->pitch + a] - m->mean[a]);
            out[i * out_pitch + k] = (float)sum;
        }
    }
    return ENCDIFF_OK;
}

static encdiff_status components(ed_env *env, const ed_metric_run *run, moments m, int32_t count, int64_t out_pitch,
                                 float *out)
{
    size_t dim = (size_t)m.dim;
    double *work = ed_alloc(env, 2 * dim, (dim + 1) * sizeof *work);
    if (!work) return env->status;
    m.mean = work;
    m.scatter = m.mean + dim;
    double *values = m.scatter + dim * dim;
    encdiff_status status = project(env, run, &m, values, values + dim, count, out_pitch, out);
    ed_free(env, work);
    return status;
}

encdiff_status ed_metric_principal_components(ed_env *env, const ed_metric_run *run, const float *vectors, int64_t n,
                                              int32_t dim, int32_t count, float *out)
{
    if (!vectors || !out) return ed_fail(env, ENCDIFF_ERROR_ARGUMENT, "vectors or components are NULL");
    if (n < 1 || dim < 1 || dim > 1024 || count < 1 || count > dim)
        return ed_fail(env, ENCDIFF_ERROR_SHAPE, "%lld vectors of %d numbers have no %d principal components",
                       (long long)n, dim, count);
    return components(env, run, (moments){.vectors = vectors, .n = n, .pitch = dim, .dim = dim}, count, count, out);
}

/* ---------------------------------------------------------------- tokens */

typedef struct job {
    const float *tokens;
    int64_t n;
    int32_t size, dim;
    float *codes;
} job;

static encdiff_status some_tokens(ed_env *env, void *argument, int rank, int64_t first, int64_t last)
{
    (void)rank;
    const job *j = argument;
    for (int64_t t = first; t < last; t++) {
        moments m = {.vectors = j->tokens + t * j->dim, .n = j->n, .pitch = (int64_t)j->size * j->dim, .dim = j->dim};
        if (components(env, NULL, m, 1, j->size, j->codes + t) != ENCDIFF_OK)
            return ed_fail_within(env, "token %lld", (long long)t);
    }
    return ENCDIFF_OK;
}

encdiff_status ed_metric_reduce_tokens(ed_env *env, const ed_metric_run *run, const float *tokens, int64_t n,
                                       int32_t size, int32_t dim, float *codes)
{
    job j = {tokens, n, size, dim, codes};
    if (!tokens || !codes) return ed_fail(env, ENCDIFF_ERROR_ARGUMENT, "tokens or codes are NULL");
    if (n < 1 || size < 1 || dim < 1 || dim > 4096)
        return ed_fail(env, ENCDIFF_ERROR_SHAPE, "tokens [%lld, %d, %d] have no principal components", (long long)n,
                       size, dim);
    ED_TRY(ed_shape_check(env, &ED_SHAPE3(n, size, dim), ED_F64, "tokens"));
    return ed_metric_for(env, run, "principal components", size, 1, some_tokens, &j);
}
