/*
 * SAP, the separated attribute predictability: Kumar et al., "Variational inference of disentangled latent concepts",
 * ICLR 2018. How much better the best single code predicts a factor than the second best.
 */
#include <math.h>

#include "metrics/linear.h"

void ed_sap_defaults(ed_sap_options *options) { *options = (ed_sap_options){.continuous = false, .c = 0.01}; }

typedef struct job {
    const ed_representation *train, *test;
    const ed_sap_options *options;
    const ed_classes *classes;
    int32_t **test_label; /* [factor_count] */
    float **code;         /* [ranks]: one code of the training set */
    double *score;        /* [size][factor_count] */
} job;

/* Squared correlation of a code with a factor's values; 0 for a code that hardly varies. */
static double squared_correlation(const ed_representation *r, int32_t code, int32_t factor)
{
    double mean[2] = {0}, sum[3] = {0}, n = (double)r->n;
    for (int64_t i = 0; i < r->n; i++) {
        mean[0] += (double)r->codes[i * r->size + code] / n;
        mean[1] += (double)r->factors[i * r->factor_count + factor] / n;
    }
    for (int64_t i = 0; i < r->n; i++) {
        double a = (double)r->codes[i * r->size + code] - mean[0];
        double b = (double)r->factors[i * r->factor_count + factor] - mean[1];
        sum[0] += a * a;
        sum[1] += a * b;
        sum[2] += b * b;
    }
    return sum[0] / (n - 1) > 1e-12 ? sum[1] * sum[1] / (sum[0] * sum[2]) : 0;
}

static encdiff_status svm_accuracy(ed_env *env, const job *j, int32_t code, int32_t factor, const float *x, double *out)
{
    const ed_classes *classes = &j->classes[factor];
    const ed_representation *test = j->test;
    int64_t right = 0, *count = ed_alloc(env, (size_t)classes->count, sizeof *count);
    double *weight = ed_alloc(env, (size_t)classes->count, 2 * sizeof *weight);
    if (count && weight) {
        for (int64_t i = 0; i < j->train->n; i++) count[classes->label[i]]++;
        ed_svm_fit(x, classes->label, j->train->n, count, classes->count, j->options->c, weight);
        for (int64_t i = 0; i < test->n; i++)
            right += ed_svm_predict(weight, classes->count, test->codes[i * test->size + code]) ==
                     j->test_label[factor][i];
        *out = (double)right / (double)test->n;
    }
    encdiff_status status = count && weight ? ENCDIFF_OK : env->status;
    ed_free(env, count);
    ed_free(env, weight);
    return status;
}

static encdiff_status some_codes(ed_env *env, void *argument, int rank, int64_t first, int64_t last)
{
    job *j = argument;
    const ed_representation *train = j->train;
    for (int32_t code = (int32_t)first; code < last; code++) {
        double *row = j->score + (int64_t)code * train->factor_count;
        for (int64_t i = 0; i < train->n; i++) j->code[rank][i] = train->codes[i * train->size + code];
        for (int32_t f = 0; f < train->factor_count; f++) {
            ED_TRY(ed_check_cancel(env));
            if (j->options->continuous)
                row[f] = squared_correlation(train, code, f);
            else
                ED_TRY(svm_accuracy(env, j, code, f, j->code[rank], &row[f]));
        }
    }
    return ENCDIFF_OK;
}

/* Mean over the factors of the lead that the best code has. */
static double mean_lead(const double *score, int32_t size, int32_t factors)
{
    double sum = 0;
    for (int32_t f = 0; f < factors; f++) {
        double best = -INFINITY, second = -INFINITY;
        for (int32_t d = 0; d < size; d++) {
            double v = score[(int64_t)d * factors + f];
            second = ED_MAX(second, ED_MIN(v, best));
            best = ED_MAX(best, v);
        }
        sum += best - second;
    }
    return sum / factors;
}

static encdiff_status prepare(ed_env *env, const ed_metric_run *run, job *j, ed_classes **classes)
{
    size_t factors = (size_t)j->train->factor_count;
    ED_TRY(ed_classes_create_all(env, j->train, classes));
    j->classes = *classes;
    ED_TRY(ed_classes_check_varied(env, *classes, j->train->factor_count));
    j->test_label = ed_alloc(env, factors, sizeof *j->test_label);
    j->code = ed_alloc(env, (size_t)ed_metric_ranks(run), sizeof *j->code);
    j->score = ed_alloc(env, (size_t)j->train->size, factors * sizeof *j->score);
    if (!j->test_label || !j->code || !j->score) return env->status;
    for (int r = 0; r < ed_metric_ranks(run); r++)
        if (!(j->code[r] = ed_alloc(env, (size_t)j->train->n, sizeof *j->code[r]))) return env->status;
    for (int32_t f = 0; f < j->train->factor_count; f++)
        ED_TRY(ed_classes_relabel(env, &(*classes)[f], j->test, f, &j->test_label[f]));
    return ENCDIFF_OK;
}

encdiff_status ed_metric_sap(ed_env *env, const ed_metric_run *run, const ed_representation *train,
                             const ed_representation *test, const ed_sap_options *options, double *out)
{
    ed_sap_options defaults;
    ed_sap_defaults(&defaults);
    job j = {.train = train, .test = test, .options = options ? options : &defaults};
    ed_classes *classes = NULL;
    encdiff_status status = ENCDIFF_OK;
    ED_TRY(ed_representation_check_pair(env, train, test));
    if (train->size < 2) return ed_fail(env, ENCDIFF_ERROR_SHAPE, "SAP compares two codes; there is only one");
    if (!(j.options->c > 0))
        return ed_fail(env, ENCDIFF_ERROR_CONFIG, "SAP: C is %g and must be positive", j.options->c);
    ED_TRY_OR_FAIL(prepare(env, run, &j, &classes));
    ED_TRY_OR_FAIL(ed_metric_for(env, run, "SAP", train->size, 1, some_codes, &j));
    *out = mean_lead(j.score, train->size, train->factor_count);
fail:
    for (int32_t f = 0; j.test_label && f < train->factor_count; f++) ed_free(env, j.test_label[f]);
    for (int r = 0; j.code && r < ed_metric_ranks(run); r++) ed_free(env, j.code[r]);
    ed_free(env, j.test_label);
    ed_free(env, j.code);
    ed_free(env, j.score);
    ed_classes_free_all(env, classes, train->factor_count);
    return status;
}
