/*
 * DCI: Eastwood and Williams, "A framework for the quantitative evaluation of disentangled representations", ICLR 2018.
 *
 * Each factor is predicted from the codes by boosted trees. From the matrix of importances: disentanglement (a code
 * serves one factor), completeness (a factor needs one code), and informativeness (accuracy).
 */
#include <math.h>

#include "metrics/boosting.h"

void ed_dci_defaults(ed_dci_options *options) { *options = (ed_dci_options){.stages = 100, .depth = 3, .rate = 0.1}; }

/* 1 - the entropy of `count` importances `step` apart, relative to its largest possible value. */
static double entropy_gap(const double *importance, int32_t count, int64_t step)
{
    double sum = 0, entropy = 0;
    if (count < 2) return 1;
    for (int32_t i = 0; i < count; i++) sum += importance[i * step] + 1e-11;
    for (int32_t i = 0; i < count; i++) {
        double p = (importance[i * step] + 1e-11) / sum;
        entropy -= p * log(p);
    }
    return 1 - entropy / log(count);
}

/* Gaps of `lines` lines, weighted by their share of the importance. */
static double weighted_gap(const double *importance, int32_t lines, int64_t line_step, int32_t count, int64_t step)
{
    double all = 0, result = 0;
    for (int32_t line = 0; line < lines; line++) {
        double sum = 0;
        for (int32_t i = 0; i < count; i++) sum += importance[line * line_step + i * step];
        all += sum;
        result += sum * entropy_gap(importance + line * line_step, count, step);
    }
    return all > 0 ? result / all : 0;
}

void ed_dci_of_importance(const double *importance, int32_t size, int32_t factor_count, double *disentanglement,
                          double *completeness)
{
    *disentanglement = weighted_gap(importance, size, factor_count, factor_count, 1);
    *completeness = weighted_gap(importance, factor_count, 1, size, factor_count);
}

/* How many problems, from `first` on, to fit side by side: enough trees in a stage to keep the threads busy. */
static int32_t wave(const ed_boosted *problems, int32_t first, int32_t count, int ranks)
{
    int32_t next = first;
    for (int64_t trees = 0; next < count && trees < 8 * (int64_t)ranks; next++)
        trees += ed_boosted_outputs(problems[next].classes);
    return next - first;
}

static encdiff_status fit(ed_env *env, const ed_metric_run *run, ed_boosting *b, ed_boosted *problems, int32_t count)
{
    for (int32_t i = 0; i < count; i++) b->trees += (int64_t)ed_boosted_outputs(problems[i].classes) * b->stages;
    for (int32_t first = 0; first < count;) {
        int32_t together = wave(problems, first, count, ed_metric_ranks(run));
        ED_TRY(ed_boosting_fit(env, run, b, problems + first, together));
        first += together;
    }
    return ENCDIFF_OK;
}

static void gather(const ed_boosted *problems, int32_t size, int32_t factors, double *matrix, ed_dci_score *out)
{
    *out = (ed_dci_score){0};
    for (int32_t f = 0; f < factors; f++) {
        for (int32_t d = 0; d < size; d++) matrix[(int64_t)d * factors + f] = problems[f].importance[d];
        out->informativeness_train += problems[f].train / factors;
        out->informativeness_test += problems[f].test / factors;
    }
    ed_dci_of_importance(matrix, size, factors, &out->disentanglement, &out->completeness);
}

/* Labels and room for the results of every factor. */
static encdiff_status problems_create(ed_env *env, const ed_representation *train, const ed_representation *test,
                                      const ed_classes *classes, ed_boosted *problems)
{
    for (int32_t f = 0; f < train->factor_count; f++) {
        int32_t *label;
        ED_TRY(ed_classes_relabel(env, &classes[f], test, f, &label));
        problems[f] = (ed_boosted){
            .label = classes[f].label, .test_label = label, .classes = classes[f].count, .number = (uint64_t)f};
        problems[f].importance = ed_alloc(env, (size_t)train->size, sizeof *problems[f].importance);
        if (!problems[f].importance) return env->status;
    }
    return ENCDIFF_OK;
}

static encdiff_status check_options(ed_env *env, const ed_dci_options *o)
{
    if (o->stages < 1 || o->stages > 100000 || !(o->rate > 0))
        return ed_fail(env, ENCDIFF_ERROR_CONFIG, "DCI: %d stages of rate %g cannot be boosted", o->stages, o->rate);
    if (o->depth < 1 || o->depth > ED_TREE_MAX_DEPTH)
        return ed_fail(env, ENCDIFF_ERROR_CONFIG, "DCI: a tree's depth is 1 to %d, not %d", ED_TREE_MAX_DEPTH,
                       o->depth);
    return ENCDIFF_OK;
}

encdiff_status ed_metric_dci(ed_env *env, const ed_metric_run *run, const ed_representation *train,
                             const ed_representation *test, const ed_dci_options *options, double *importance,
                             ed_dci_score *out)
{
    ed_dci_options defaults;
    ed_dci_defaults(&defaults);
    const ed_dci_options *o = options ? options : &defaults;
    encdiff_status status = ENCDIFF_OK;
    ed_classes *classes = NULL;
    ed_boosted *problems = NULL;
    ed_presorted features = {0};
    ED_TRY(ed_representation_check_pair(env, train, test));
    ED_TRY(check_options(env, o));
    int32_t size = train->size, factors = train->factor_count;
    double *matrix = ed_alloc(env, (size_t)size, (size_t)factors * sizeof *matrix);
    problems = ed_alloc(env, (size_t)factors, sizeof *problems);
    if (!matrix || !problems) {
        status = env->status;
        goto fail;
    }
    ED_TRY_OR_FAIL(ed_classes_create_all(env, train, &classes));
    ED_TRY_OR_FAIL(ed_classes_check_varied(env, classes, factors));
    ED_TRY_OR_FAIL(problems_create(env, train, test, classes, problems));
    ED_TRY_OR_FAIL(ed_presorted_create(env, run, train, &features));
    ed_boosting boosting = {.features = &features,
                            .test = test,
                            .stages = o->stages,
                            .depth = o->depth,
                            .rate = o->rate,
                            .seed = run ? run->seed : 0};
    ED_TRY_OR_FAIL(fit(env, run, &boosting, problems, factors));
    gather(problems, size, factors, matrix, out);
    if (importance) memcpy(importance, matrix, (size_t)size * (size_t)factors * sizeof *matrix);
fail:
    for (int32_t f = 0; problems && f < factors; f++) {
        ed_free(env, (void *)problems[f].test_label);
        ed_free(env, problems[f].importance);
    }
    ed_free(env, problems);
    ed_free(env, matrix);
    ed_presorted_free(env, &features);
    ed_classes_free_all(env, classes, factors);
    return status;
}
