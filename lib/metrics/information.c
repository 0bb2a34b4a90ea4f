/*
 * Mutual information between discretised codes and factors, and the two scores read off it.
 *
 * MIG: Chen et al., "Isolating sources of disentanglement in VAEs", NeurIPS 2018. Modularity: Ridgeway and Mozer,
 * "Learning deep disentangled embeddings with the F-statistic loss", NeurIPS 2018.
 */
#include <math.h>

#include "metrics/internal.h"

/* Equal-width bins between minimum and maximum; an edge belongs to the bin above it, the maximum to the last. */
static void bin_edges(const ed_representation *r, int32_t code, int32_t bins, float *edges)
{
    double low = (double)r->codes[code], high = low;
    for (int64_t i = 1; i < r->n; i++) {
        double v = (double)r->codes[i * r->size + code];
        low = ED_MIN(low, v);
        high = ED_MAX(high, v);
    }
    if (low == high) low -= 0.5, high += 0.5;
    /* Edges are rounded to the type of the codes, so that codes on a lattice fall where they do in NumPy. */
    for (int32_t b = 0; b < bins; b++) edges[b] = (float)(low + b * ((high - low) / bins));
}

static int32_t bin_of(const float *edges, int32_t bins, float value)
{
    int32_t low = 0, high = bins; /* the last edge that is not above the value */
    while (high - low > 1) {
        int32_t middle = (low + high) / 2;
        if (edges[middle] <= value)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* In nats, from a table of counts [rows][columns] of `n` samples. */
static double information_of_counts(const int64_t *counts, int32_t rows, int32_t columns, int64_t n)
{
    double sum = 0;
    for (int32_t i = 0; i < rows; i++) {
        int64_t row = 0;
        for (int32_t j = 0; j < columns; j++) row += counts[(int64_t)i * columns + j];
        for (int32_t j = 0; row && j < columns; j++) {
            int64_t both = counts[(int64_t)i * columns + j], column = 0;
            if (!both) continue;
            for (int32_t k = 0; k < rows; k++) column += counts[(int64_t)k * columns + j];
            sum += (double)both / (double)n * log((double)both * (double)n / ((double)row * (double)column));
        }
    }
    return ED_MAX(sum, 0);
}

typedef struct scratch {
    float *edges;    /* [bins] */
    int64_t *counts; /* [bins][most classes] */
    int32_t *bin;    /* [n] */
} scratch;

typedef struct job {
    const ed_representation *r;
    const ed_classes *classes; /* [factor_count] */
    int32_t bins;
    scratch *scratch; /* [ranks] */
    double *out;      /* [size][factor_count] */
} job;

static encdiff_status code_information(ed_env *env, void *argument, int rank, int64_t first, int64_t last)
{
    job *j = argument;
    const ed_representation *r = j->r;
    scratch *s = &j->scratch[rank];
    for (int32_t code = (int32_t)first; code < last; code++) {
        bin_edges(r, code, j->bins, s->edges);
        for (int64_t i = 0; i < r->n; i++) s->bin[i] = bin_of(s->edges, j->bins, r->codes[i * r->size + code]);
        for (int32_t f = 0; f < r->factor_count; f++) {
            int32_t classes = j->classes[f].count;
            ED_TRY(ed_check_cancel(env));
            memset(s->counts, 0, (size_t)j->bins * (size_t)classes * sizeof *s->counts);
            for (int64_t i = 0; i < r->n; i++) s->counts[(int64_t)s->bin[i] * classes + j->classes[f].label[i]]++;
            j->out[(int64_t)code * r->factor_count + f] = information_of_counts(s->counts, j->bins, classes, r->n);
        }
    }
    return ENCDIFF_OK;
}

static double entropy_of(const ed_classes *classes, int64_t n, int64_t *counts)
{
    double sum = 0;
    memset(counts, 0, (size_t)classes->count * sizeof *counts);
    for (int64_t i = 0; i < n; i++) counts[classes->label[i]]++;
    for (int32_t c = 0; c < classes->count; c++) {
        double p = (double)counts[c] / (double)n;
        sum -= p * log(p);
    }
    return sum;
}

static encdiff_status scratch_create(ed_env *env, scratch *s, int64_t n, int32_t bins, int32_t most)
{
    s->edges = ed_alloc(env, (size_t)bins, sizeof *s->edges);
    s->counts = ed_alloc(env, (size_t)bins * (size_t)most, sizeof *s->counts);
    s->bin = ed_alloc(env, (size_t)n, sizeof *s->bin);
    return s->edges && s->counts && s->bin ? ENCDIFF_OK : env->status;
}

encdiff_status ed_metric_mutual_information(ed_env *env, const ed_metric_run *run, const ed_representation *r,
                                            int32_t bins, double *information, double *entropy)
{
    int ranks = ed_metric_ranks(run);
    int32_t most = 1;
    encdiff_status status = ENCDIFF_OK;
    job j = {.r = r, .bins = bins, .out = information};
    ed_classes *classes = NULL;
    ED_TRY(ed_representation_check(env, r, "mutual information"));
    if (bins < 1 || bins > 65536) return ed_fail(env, ENCDIFF_ERROR_CONFIG, "a code cannot be cut into %d bins", bins);
    ED_TRY(ed_classes_create_all(env, r, &classes));
    j.classes = classes;
    j.scratch = ed_alloc(env, (size_t)ranks, sizeof *j.scratch);
    if (!j.scratch) {
        status = env->status;
        goto fail;
    }
    for (int32_t f = 0; f < r->factor_count; f++) most = ED_MAX(most, classes[f].count);
    for (int t = 0; t < ranks; t++) ED_TRY_OR_FAIL(scratch_create(env, &j.scratch[t], r->n, bins, most));
    ED_TRY_OR_FAIL(ed_metric_for(env, run, "mutual information", r->size, 1, code_information, &j));
    for (int32_t f = 0; f < r->factor_count && entropy; f++)
        entropy[f] = entropy_of(&classes[f], r->n, j.scratch[0].counts);
fail:
    for (int t = 0; t < ranks && j.scratch; t++) {
        ed_free(env, j.scratch[t].edges);
        ed_free(env, j.scratch[t].counts);
        ed_free(env, j.scratch[t].bin);
    }
    ed_free(env, j.scratch);
    ed_classes_free_all(env, classes, r->factor_count);
    return status;
}

encdiff_status ed_metric_mig(ed_env *env, const double *information, const double *entropy, int32_t size,
                             int32_t factor_count, double *out)
{
    double sum = 0;
    if (size < 2) return ed_fail(env, ENCDIFF_ERROR_SHAPE, "MIG compares two codes; there is only %d", size);
    for (int32_t f = 0; f < factor_count; f++) {
        double best = -INFINITY, second = -INFINITY;
        if (!(entropy[f] > 0)) return ed_fail(env, ENCDIFF_ERROR_SHAPE, "factor %d has one value alone", f);
        for (int32_t d = 0; d < size; d++) {
            double v = information[(int64_t)d * factor_count + f];
            second = ED_MAX(second, ED_MIN(v, best));
            best = ED_MAX(best, v);
        }
        sum += (best - second) / entropy[f];
    }
    *out = sum / factor_count;
    return ENCDIFF_OK;
}

encdiff_status ed_metric_modularity(ed_env *env, const double *information, int32_t size, int32_t factor_count,
                                    double *out)
{
    double sum = 0;
    if (factor_count < 2) return ed_fail(env, ENCDIFF_ERROR_SHAPE, "modularity needs two factors");
    for (int32_t d = 0; d < size; d++) {
        double top = 0, all = 0;
        for (int32_t f = 0; f < factor_count; f++) {
            double v = information[(int64_t)d * factor_count + f];
            top = ED_MAX(top, v * v);
            all += v * v;
        }
        if (top > 0) sum += 1 - (all - top) / (top * (factor_count - 1));
    }
    *out = sum / size;
    return ENCDIFF_OK;
}
