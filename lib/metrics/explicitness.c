/*
 * Explicitness: Ridgeway and Mozer, NeurIPS 2018. How well a linear classifier tells each value of a factor from the
 * others: area under the ROC curve, averaged over values and factors. Codes are standardised with the training set's
 * mean and deviation.
 */
#include <math.h>
#include <stdlib.h>

#include "metrics/linear.h"

typedef struct ranked {
    double score;
    bool positive;
} ranked;

static int compare_ranked(const void *a, const void *b)
{
    double x = ((const ranked *)a)->score, y = ((const ranked *)b)->score;
    return (x > y) - (x < y);
}

/* Probability that a positive outranks a negative, ties counting one half. NaN when there is only one kind. */
static double area_under_curve(ranked *items, int64_t n)
{
    double sum = 0;
    int64_t below = 0, positives = 0;
    qsort(items, (size_t)n, sizeof *items, compare_ranked);
    for (int64_t i = 0; i < n;) {
        int64_t negative = 0, positive = 0, end = i;
        for (; end < n && items[end].score == items[i].score; end++) {
            positive += items[end].positive;
            negative += !items[end].positive;
        }
        sum += (double)positive * ((double)below + 0.5 * (double)negative);
        below += negative;
        positives += positive;
        i = end;
    }
    return sum / ((double)positives * (double)below);
}

/* Mean over the classes that occur in `label` and are not all of it. */
static double mean_area(const ed_logistic *model, const double *x, const int32_t *label, int64_t n, double *scores,
                        ranked *items)
{
    double sum = 0;
    int32_t counted = 0;
    for (int64_t i = 0; i < n; i++)
        ed_logistic_probabilities(model, x + i * model->features, scores + i * model->classes);
    for (int32_t k = 0; k < model->classes; k++) {
        for (int64_t i = 0; i < n; i++) items[i] = (ranked){scores[i * model->classes + k], label[i] == k};
        double area = area_under_curve(items, n);
        if (isnan(area)) continue;
        sum += area;
        counted++;
    }
    return counted ? sum / counted : NAN;
}

typedef struct job {
    const ed_representation *train, *test;
    const ed_classes *classes;
    const double *x, *x_test; /* standardised */
    double c;
    double *area; /* [factor_count][2]: train, test */
} job;

static encdiff_status one_factor(ed_env *env, const job *j, int32_t factor)
{
    const ed_classes *classes = &j->classes[factor];
    int64_t most = ED_MAX(j->train->n, j->test->n);
    int32_t *label = NULL;
    ed_logistic model = {0};
    encdiff_status status = ENCDIFF_OK;
    double *scores = ed_alloc(env, (size_t)most, (size_t)classes->count * sizeof *scores);
    ranked *items = ed_alloc(env, (size_t)most, sizeof *items);
    if (!scores || !items) {
        status = env->status;
        goto fail;
    }
    ED_TRY_OR_FAIL(ed_classes_relabel(env, classes, j->test, factor, &label));
    ED_TRY_OR_FAIL(
        ed_logistic_fit(env, j->x, classes->label, j->train->n, j->train->size, classes->count, j->c, &model));
    j->area[2 * factor] = mean_area(&model, j->x, classes->label, j->train->n, scores, items);
    j->area[2 * factor + 1] = mean_area(&model, j->x_test, label, j->test->n, scores, items);
    if (isnan(j->area[2 * factor + 1]))
        status = ed_fail(env, ENCDIFF_ERROR_SHAPE, "factor %d has one value alone in the test set", factor);
fail:
    ed_logistic_free(env, &model);
    ed_free(env, label);
    ed_free(env, scores);
    ed_free(env, items);
    return status;
}

static encdiff_status some_factors(ed_env *env, void *argument, int rank, int64_t first, int64_t last)
{
    (void)rank;
    for (int64_t f = first; f < last; f++) ED_TRY(one_factor(env, argument, (int32_t)f));
    return ENCDIFF_OK;
}

/* Mean and deviation of every code; a constant code gets deviation 1 and so becomes 0. */
static void moments(const ed_representation *r, double *mean, double *deviation)
{
    for (int32_t d = 0; d < r->size; d++) {
        double sum = 0, square = 0;
        for (int64_t i = 0; i < r->n; i++) sum += (double)r->codes[i * r->size + d];
        mean[d] = sum / (double)r->n;
        for (int64_t i = 0; i < r->n; i++) {
            double off = (double)r->codes[i * r->size + d] - mean[d];
            square += off * off;
        }
        deviation[d] = square > 0 ? sqrt(square / (double)r->n) : 1;
    }
}

static void standardise(const ed_representation *r, const double *mean, const double *deviation, double *out)
{
    for (int64_t i = 0; i < r->n; i++)
        for (int32_t d = 0; d < r->size; d++)
            out[i * r->size + d] = ((double)r->codes[i * r->size + d] - mean[d]) / deviation[d];
}

encdiff_status ed_metric_explicitness(ed_env *env, const ed_metric_run *run, const ed_representation *train,
                                      const ed_representation *test, double c, ed_explicitness_score *out)
{
    encdiff_status status = ENCDIFF_OK;
    ed_classes *classes = NULL;
    ED_TRY(ed_representation_check_pair(env, train, test));
    if (!(c > 0)) return ed_fail(env, ENCDIFF_ERROR_CONFIG, "explicitness: C is %g and must be positive", c);
    size_t size = (size_t)train->size;
    double *mean = ed_alloc(env, 2 * size, sizeof *mean);
    double *x = ed_alloc(env, (size_t)train->n, size * sizeof *x);
    double *x_test = ed_alloc(env, (size_t)test->n, size * sizeof *x);
    double *area = ed_alloc(env, (size_t)train->factor_count, 2 * sizeof *area);
    if (!mean || !x || !x_test || !area) {
        status = env->status;
        goto fail;
    }
    ED_TRY_OR_FAIL(ed_classes_create_all(env, train, &classes));
    ED_TRY_OR_FAIL(ed_classes_check_varied(env, classes, train->factor_count));
    moments(train, mean, mean + size);
    standardise(train, mean, mean + size, x);
    standardise(test, mean, mean + size, x_test);
    job j = {.train = train, .test = test, .classes = classes, .x = x, .x_test = x_test, .c = c, .area = area};
    ED_TRY_OR_FAIL(ed_metric_for(env, run, "explicitness", train->factor_count, 1, some_factors, &j));
    *out = (ed_explicitness_score){0};
    for (int32_t f = 0; f < train->factor_count; f++) {
        out->train += area[2 * f] / train->factor_count;
        out->test += area[2 * f + 1] / train->factor_count;
    }
fail:
    ed_classes_free_all(env, classes, train->factor_count);
    ed_free(env, mean);
    ed_free(env, x);
    ed_free(env, x_test);
    ed_free(env, area);
    return status;
}
