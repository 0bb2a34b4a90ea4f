/*
 * Vector codes to scalars: the published evaluation replaces each token by its first principal component over the
 * whole set. The component's sign is free; here its largest loading is positive.
 */
#include <math.h>

#include "metrics/eigen.h"

typedef struct job {
    const float *tokens;
    int64_t n;
    int32_t size, dim;
    float *codes;
} job;

/* Mean and scatter matrix of token t. */
static void moments(const job *j, int32_t t, double *mean, double *scatter)
{
    int64_t pitch = (int64_t)j->size * j->dim;
    memset(mean, 0, (size_t)j->dim * sizeof *mean);
    memset(scatter, 0, (size_t)j->dim * (size_t)j->dim * sizeof *scatter);
    const float *token = j->tokens + (int64_t)t * j->dim;
    for (int64_t i = 0; i < j->n; i++)
        for (int32_t a = 0; a < j->dim; a++) mean[a] += (double)token[i * pitch + a];
    for (int32_t a = 0; a < j->dim; a++) mean[a] /= (double)j->n;
    for (int64_t i = 0; i < j->n; i++)
        for (int32_t a = 0; a < j->dim; a++) {
            double off = (double)token[i * pitch + a] - mean[a];
            for (int32_t b = 0; b <= a; b++)
                scatter[(int64_t)a * j->dim + b] += off * ((double)token[i * pitch + b] - mean[b]);
        }
    for (int32_t a = 0; a < j->dim; a++)
        for (int32_t b = 0; b < a; b++) scatter[(int64_t)b * j->dim + a] = scatter[(int64_t)a * j->dim + b];
}

static const double *leading(const double *values, double *vectors, int32_t dim)
{
    int32_t best = 0, loading = 0;
    for (int32_t k = 1; k < dim; k++)
        if (values[k] > values[best]) best = k;
    double *v = vectors + (int64_t)best * dim;
    for (int32_t a = 1; a < dim; a++)
        if (fabs(v[a]) > fabs(v[loading])) loading = a;
    bool flip = v[loading] < 0;
    for (int32_t a = 0; flip && a < dim; a++) v[a] = -v[a];
    return v;
}

static encdiff_status project(ed_env *env, const job *j, int32_t t, double *work)
{
    int64_t pitch = (int64_t)j->size * j->dim, square = (int64_t)j->dim * j->dim;
    double *mean = work, *values = mean + j->dim, *scatter = values + j->dim, *vectors = scatter + square;
    moments(j, t, mean, scatter);
    for (int32_t a = 0; a < j->dim; a++)
        if (!isfinite(scatter[(int64_t)a * (j->dim + 1)]))
            return ed_fail(env, ENCDIFF_ERROR_NUMERIC, "token %d has numbers that are not finite", t);
    ED_TRY(ed_eigen_jacobi(env, scatter, j->dim, values, vectors));
    const double *v = leading(values, vectors, j->dim);
    for (int64_t i = 0; i < j->n; i++) {
        double sum = 0;
        for (int32_t a = 0; a < j->dim; a++)
            sum += v[a] * ((double)j->tokens[i * pitch + (int64_t)t * j->dim + a] - mean[a]);
        j->codes[i * j->size + t] = (float)sum;
    }
    return ENCDIFF_OK;
}

static encdiff_status some_tokens(ed_env *env, void *argument, int rank, int64_t first, int64_t last)
{
    (void)rank;
    const job *j = argument;
    double *work = ed_alloc(env, (size_t)j->dim, 2 * ((size_t)j->dim + 1) * sizeof *work);
    encdiff_status status = work ? ENCDIFF_OK : env->status;
    for (int64_t t = first; t < last && status == ENCDIFF_OK; t++) status = project(env, j, (int32_t)t, work);
    ed_free(env, work);
    return status;
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
