/*
 * Frechet distance between Gaussians fitted to two sets of features: Heusel et al., "GANs trained by a two time-scale
 * update rule converge to a local Nash equilibrium", NeurIPS 2017.
 *
 *   |ma - mb|^2 + tr Ca + tr Cb - 2 tr (Ca Cb)^(1/2)
 *
 * With Ca = L L', the eigenvalues of Ca Cb are those of the symmetric L' Cb L, so that the trace of the root is the
 * sum of their roots. L comes from a Cholesky factorisation with pivoting, which ends at the rank of Ca.
 */
#include <math.h>

#include "metrics/eigen.h"

/* ---------------------------------------------------------------- Gaussians */

#define BLOCK 64 /* rows whose products are added at once */

encdiff_status ed_gaussian_create(ed_env *env, int32_t size, ed_gaussian *out)
{
    *out = (ed_gaussian){.size = size};
    if (size < 1) return ed_fail(env, ENCDIFF_ERROR_SHAPE, "features of %d numbers cannot be compared", size);
    ED_TRY(ed_shape_check(env, &ED_SHAPE2(size, size), ED_F64, "covariance"));
    out->shift = ed_alloc(env, (size_t)size, sizeof *out->shift);
    out->sum = ed_alloc(env, (size_t)size, sizeof *out->sum);
    out->products = ed_alloc(env, (size_t)size, (size_t)size * sizeof *out->products);
    out->block = ed_alloc(env, (size_t)size, BLOCK * sizeof *out->block);
    if (out->shift && out->sum && out->products && out->block) return ENCDIFF_OK;
    ed_gaussian_free(env, out);
    return env->status;
}

void ed_gaussian_free(ed_env *env, ed_gaussian *g)
{
    ed_free(env, g->shift);
    ed_free(env, g->sum);
    ed_free(env, g->products);
    ed_free(env, g->block);
    *g = (ed_gaussian){0};
}

/* products[i][j] += block[i] . block[j] for i in [first, last) and j <= i; block is [size][BLOCK]. */
ED_CLONES static void add_products(const double *restrict block, double *restrict products, int32_t size, int64_t first,
                                   int64_t last)
{
    for (int64_t i = first; i < last; i++)
        for (int64_t j = 0; j <= i; j++) {
            double sums[8] = {0};
            for (int r = 0; r < BLOCK; r += 8)
                for (int k = 0; k < 8; k++) sums[k] += block[i * BLOCK + r + k] * block[j * BLOCK + r + k];
            products[i * size + j] += ((sums[0] + sums[4]) + (sums[1] + sums[5])) +
                                      ((sums[2] + sums[6]) + (sums[3] + sums[7]));
        }
}

static encdiff_status some_products(ed_env *env, void *argument, int rank, int64_t first, int64_t last)
{
    (void)env, (void)rank;
    ed_gaussian *g = argument;
    add_products(g->block, g->products, g->size, first, last);
    return ENCDIFF_OK;
}

/* A block of at most BLOCK rows, from double or float, less the shift (the first row: it keeps the sums small). */
static encdiff_status add_block(ed_env *env, const ed_metric_run *run, ed_gaussian *g, const double *wide,
                                const float *narrow, int64_t rows)
{
    memset(g->block, 0, (size_t)g->size * BLOCK * sizeof *g->block);
    for (int64_t r = 0; r < rows; r++)
        for (int32_t d = 0; d < g->size; d++) {
            double v = wide ? wide[r * g->size + d] : (double)narrow[r * g->size + d];
            if (!isfinite(v))
                return ed_fail(env, ENCDIFF_ERROR_NUMERIC, "feature %d of row %lld is not finite", d,
                               (long long)(g->n + r));
            if (g->n == 0 && r == 0) g->shift[d] = v;
            g->block[(int64_t)d * BLOCK + r] = v - g->shift[d];
            g->sum[d] += v - g->shift[d];
        }
    g->n += rows;
    ed_metric_run quiet = {.pool = run ? run->pool : NULL};
    return ed_metric_for(env, &quiet, "covariance", g->size, 16, some_products, g);
}

static encdiff_status add(ed_env *env, const ed_metric_run *run, ed_gaussian *g, const double *wide,
                          const float *narrow, int64_t n)
{
    for (int64_t at = 0; at < n; at += BLOCK)
        ED_TRY(add_block(env, run, g, wide ? wide + at * g->size : NULL, narrow ? narrow + at * g->size : NULL,
                         ED_MIN(BLOCK, n - at)));
    return ENCDIFF_OK;
}

encdiff_status ed_gaussian_add(ed_env *env, const ed_metric_run *run, ed_gaussian *g, const float *features, int64_t n)
{
    return add(env, run, g, NULL, features, n);
}

encdiff_status ed_gaussian_add_f64(ed_env *env, const ed_metric_run *run, ed_gaussian *g, const double *features,
                                   int64_t n)
{
    return add(env, run, g, features, NULL, n);
}

/* Unbiased covariance, full. */
static void covariance(const ed_gaussian *g, double *out)
{
    for (int64_t i = 0; i < g->size; i++)
        for (int64_t j = 0; j <= i; j++)
            out[i * g->size + j] = out[j * g->size + i] = (g->products[i * g->size + j] -
                                                           g->sum[i] * g->sum[j] / (double)g->n) /
                                                          (double)(g->n - 1);
}

/* ---------------------------------------------------------------- the root of the product */

static void swap_symmetric(double *a, double *b, int32_t n, int32_t i, int32_t j)
{
    for (int pass = 0; pass < 2; pass++) {
        double *m = pass ? b : a;
        for (int64_t k = 0; k < n; k++) {
            double t = m[i * (int64_t)n + k];
            m[i * (int64_t)n + k] = m[j * (int64_t)n + k];
            m[j * (int64_t)n + k] = t;
        }
        for (int64_t k = 0; k < n; k++) {
            double t = m[k * n + i];
            m[k * n + i] = m[k * n + j];
            m[k * n + j] = t;
        }
    }
}

/* row -= x * other over `count` items. */
ED_CLONES static void subtract(double *restrict row, const double *restrict other, double x, int64_t count)
{
    for (int64_t i = 0; i < count; i++) row[i] -= x * other[i];
}

/*
 * A = U' U with the largest remaining diagonal element as pivot: row k of U from column k on, in place. `b` is
 * reordered alike. Returns the rank: the pivots that are more than rounding.
 */
static encdiff_status cholesky(ed_env *env, double *a, double *b, int32_t n, int32_t *rank)
{
    double largest = 0;
    for (int32_t k = 0; k < n; k++) {
        int32_t pivot = k;
        for (int32_t i = k + 1; i < n; i++)
            if (a[(int64_t)i * n + i] > a[(int64_t)pivot * n + pivot]) pivot = i;
        double top = a[(int64_t)pivot * n + pivot];
        if (k == 0) largest = top;
        *rank = k;
        if (!(top > n * 0x1p-52 * largest)) return ENCDIFF_OK;
        ED_TRY(ed_check_cancel(env));
        if (pivot != k) swap_symmetric(a, b, n, k, pivot);
        double *row = a + (int64_t)k * n, root = sqrt(top);
        for (int32_t j = k; j < n; j++) row[j] /= root;
        for (int32_t i = k + 1; i < n; i++) subtract(a + (int64_t)i * n + k + 1, row + k + 1, row[i], n - k - 1);
    }
    *rank = n;
    return ENCDIFF_OK;
}

typedef struct product {
    const double *u, *b; /* U [rank][n] upper, B [n][n] */
    double *ub, *out;    /* [rank][n], [rank][rank] */
    int32_t n, rank;
} product;

/* out[0..count) += x * row */
ED_CLONES static void accumulate(double *restrict out, const double *restrict row, double x, int64_t count)
{
    for (int64_t i = 0; i < count; i++) out[i] += x * row[i];
}

static encdiff_status some_ub(ed_env *env, void *argument, int rank, int64_t first, int64_t last)
{
    (void)env, (void)rank;
    product *p = argument;
    for (int64_t i = first; i < last; i++)
        for (int64_t k = i; k < p->n; k++) accumulate(p->ub + i * p->n, p->b + k * p->n, p->u[i * p->n + k], p->n);
    return ENCDIFF_OK;
}

ED_CLONES static double dot(const double *restrict a, const double *restrict b, int64_t count)
{
    double sums[8] = {0}, rest = 0;
    int64_t i = 0;
    for (; i + 8 <= count; i += 8)
        for (int k = 0; k < 8; k++) sums[k] += a[i + k] * b[i + k];
    for (; i < count; i++) rest += a[i] * b[i];
    return rest + ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7]));
}

static encdiff_status some_out(ed_env *env, void *argument, int rank, int64_t first, int64_t last)
{
    (void)env, (void)rank;
    product *p = argument;
    for (int64_t i = first; i < last; i++)
        for (int64_t j = 0; j < p->rank; j++)
            p->out[i * p->rank + j] = dot(p->ub + i * p->n + j, p->u + j * p->n + j, p->n - j);
    return ENCDIFF_OK;
}

/* tr (A B)^(1/2); both are overwritten. */
static encdiff_status trace_of_root(ed_env *env, const ed_metric_run *run, double *a, double *b, int32_t n, double *out)
{
    double *work = ed_alloc(env, 2 * (size_t)n + 1, (size_t)n * sizeof *work);
    encdiff_status status = ENCDIFF_OK;
    product p = {.u = a, .b = b, .n = n};
    *out = 0;
    if (!work) return env->status;
    p.ub = work;
    p.out = work + (int64_t)n * n;
    double *values = work + 2 * (int64_t)n * n;
    ED_TRY_OR_FAIL(cholesky(env, a, b, n, &p.rank));
    if (p.rank == 0) goto fail;
    ED_TRY_OR_FAIL(ed_metric_for(env, run, "square root", p.rank, 8, some_ub, &p));
    ED_TRY_OR_FAIL(ed_metric_for(env, run, "square root", p.rank, 8, some_out, &p));
    for (int64_t i = 0; i < p.rank; i++)
        for (int64_t j = 0; j < i; j++) p.out[j * p.rank + i] = p.out[i * p.rank + j];
    ED_TRY_OR_FAIL(ed_eigenvalues(env, p.out, p.rank, values));
    for (int32_t i = 0; i < p.rank; i++) *out += values[i] > 0 ? sqrt(values[i]) : 0;
fail:
    ed_free(env, work);
    return status;
}

encdiff_status ed_metric_frechet(ed_env *env, const ed_metric_run *run, const ed_gaussian *a, const ed_gaussian *b,
                                 double *out)
{
    int32_t n = a->size;
    double between = 0, traces = 0, root = 0;
    if (b->size != n) return ed_fail(env, ENCDIFF_ERROR_SHAPE, "features of %d and of %d numbers", n, b->size);
    if (a->n < 2 || b->n < 2)
        return ed_fail(env, ENCDIFF_ERROR_SHAPE, "a covariance needs two rows or more, not %lld and %lld",
                       (long long)a->n, (long long)b->n);
    double *ca = ed_alloc(env, 2 * (size_t)n, (size_t)n * sizeof *ca);
    if (!ca) return env->status;
    double *cb = ca + (int64_t)n * n;
    covariance(a, ca);
    covariance(b, cb);
    for (int32_t i = 0; i < n; i++) {
        double off = (a->shift[i] + a->sum[i] / (double)a->n) - (b->shift[i] + b->sum[i] / (double)b->n);
        between += off * off;
        traces += ca[(int64_t)i * (n + 1)] + cb[(int64_t)i * (n + 1)];
    }
    encdiff_status status = trace_of_root(env, run, ca, cb, n, &root);
    if (status == ENCDIFF_OK) *out = between + traces - 2 * root;
    ed_free(env, ca);
    return status;
}
