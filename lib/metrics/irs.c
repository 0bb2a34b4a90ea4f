/*
 * IRS, the interventional robustness score: Suter et al., "Robustly disentangled causal mechanisms", ICML 2019.
 *
 * With a factor held at a value, how far a code strays from its mean there (a high quantile of the distance), relative
 * to how far it strays over all samples. A code scores by the factor that keeps it still, weighted by its range.
 */
#include <math.h>

#include "metrics/internal.h"

typedef struct job {
    const ed_representation *r;
    const ed_classes *classes;
    int64_t **start; /* [factor_count] rows grouped by class */
    int32_t **rows;
    double **scratch; /* [ranks][n] */
    double quantile;
    double *top;   /* [size]: largest distance from the mean; 0 for a constant code */
    double *score; /* [size] */
} job;

/* Put the k-th smallest (from 0) at its place, smaller ones before it, larger ones behind (Hoare's quickselect). */
static double select_kth(double *v, int64_t n, int64_t k)
{
    int64_t low = 0, high = n - 1;
    while (low < high) {
        double pivot = v[low + (high - low) / 2];
        int64_t i = low, j = high;
        while (i <= j) {
            while (v[i] < pivot) i++;
            while (v[j] > pivot) j--;
            if (i > j) break;
            double swap = v[i];
            v[i++] = v[j];
            v[j--] = swap;
        }
        if (k <= j)
            high = j;
        else if (k >= i)
            low = i;
        else
            break;
    }
    return v[k];
}

/* Linear interpolation between the two nearest order statistics. */
static double quantile_of(double *v, int64_t n, double quantile)
{
    double position = quantile * (double)(n - 1);
    int64_t k = (int64_t)floor(position);
    double below = select_kth(v, n, k), part = position - (double)k;
    if (part <= 0 || k + 1 >= n) return below;
    double above = INFINITY;
    for (int64_t i = k + 1; i < n; i++) above = ED_MIN(above, v[i]);
    return below + part * (above - below);
}

static double code_at(const ed_representation *r, int64_t row, int32_t code)
{
    return (double)r->codes[row * r->size + code];
}

/* Distances from their mean of a code's values at `count` rows (NULL: all). */
static void distances(const ed_representation *r, int32_t code, const int32_t *rows, int64_t count, double *out)
{
    double mean = 0;
    for (int64_t i = 0; i < count; i++) mean += out[i] = code_at(r, rows ? rows[i] : i, code);
    mean /= (double)count;
    for (int64_t i = 0; i < count; i++) out[i] = fabs(out[i] - mean);
}

/* Deviation of a code under factor f, averaged over the factor's values. */
static double deviation(const job *j, int32_t code, int32_t f, double *scratch)
{
    double sum = 0;
    for (int32_t c = 0; c < j->classes[f].count; c++) {
        int64_t first = j->start[f][c], count = j->start[f][c + 1] - first;
        distances(j->r, code, j->rows[f] + first, count, scratch);
        sum += quantile_of(scratch, count, j->quantile);
    }
    return sum / j->classes[f].count;
}

static bool varies(const ed_representation *r, int32_t code)
{
    for (int64_t i = 1; i < r->n; i++)
        if (r->codes[i * r->size + code] != r->codes[code]) return true;
    return false;
}

static encdiff_status some_codes(ed_env *env, void *argument, int rank, int64_t first, int64_t last)
{
    job *j = argument;
    double *scratch = j->scratch[rank];
    for (int32_t code = (int32_t)first; code < last; code++) {
        if (!varies(j->r, code)) continue;
        distances(j->r, code, NULL, j->r->n, scratch);
        for (int64_t i = 0; i < j->r->n; i++) j->top[code] = ED_MAX(j->top[code], scratch[i]);
        j->score[code] = -INFINITY;
        for (int32_t f = 0; f < j->r->factor_count; f++) {
            ED_TRY(ed_check_cancel(env));
            j->score[code] = ED_MAX(j->score[code], 1 - deviation(j, code, f, scratch) / j->top[code]);
        }
    }
    return ENCDIFF_OK;
}

static encdiff_status prepare(ed_env *env, const ed_metric_run *run, job *j, ed_classes **classes)
{
    size_t factors = (size_t)j->r->factor_count, ranks = (size_t)ed_metric_ranks(run);
    ED_TRY(ed_classes_create_all(env, j->r, classes));
    j->classes = *classes;
    j->start = ed_alloc(env, factors, sizeof *j->start);
    j->rows = ed_alloc(env, factors, sizeof *j->rows);
    j->scratch = ed_alloc(env, ranks, sizeof *j->scratch);
    j->top = ed_alloc(env, 2 * (size_t)j->r->size, sizeof *j->top);
    if (!j->start || !j->rows || !j->scratch || !j->top) return env->status;
    j->score = j->top + j->r->size;
    for (size_t r = 0; r < ranks; r++)
        if (!(j->scratch[r] = ed_alloc(env, (size_t)j->r->n, sizeof *j->scratch[r]))) return env->status;
    for (size_t f = 0; f < factors; f++)
        ED_TRY(ed_classes_group(env, &(*classes)[f], j->r->n, &j->start[f], &j->rows[f]));
    return ENCDIFF_OK;
}

encdiff_status ed_metric_irs(ed_env *env, const ed_metric_run *run, const ed_representation *r, double quantile,
                             double *out)
{
    job j = {.r = r, .quantile = quantile};
    ed_classes *classes = NULL;
    double sum = 0, weight = 0;
    encdiff_status status = ENCDIFF_OK;
    ED_TRY(ed_representation_check(env, r, "IRS"));
    if (!(quantile > 0 && quantile <= 1))
        return ed_fail(env, ENCDIFF_ERROR_CONFIG, "IRS: quantile %g is not in (0, 1]", quantile);
    ED_TRY_OR_FAIL(prepare(env, run, &j, &classes));
    ED_TRY_OR_FAIL(ed_metric_for(env, run, "IRS", r->size, 1, some_codes, &j));
    for (int32_t d = 0; d < r->size; d++) {
        sum += j.top[d] * j.score[d];
        weight += j.top[d];
    }
    *out = weight > 0 ? sum / weight : 0;
fail:
    for (int32_t f = 0; f < r->factor_count; f++) {
        if (j.start) ed_free(env, j.start[f]);
        if (j.rows) ed_free(env, j.rows[f]);
    }
    for (int t = 0; j.scratch && t < ed_metric_ranks(run); t++) ed_free(env, j.scratch[t]);
    ed_free(env, j.start);
    ed_free(env, j.rows);
    ed_free(env, j.scratch);
    ed_free(env, j.top);
    ed_classes_free_all(env, classes, r->factor_count);
    return status;
}
