/*
 * Gradient boosting with deviance loss, as scikit-learn's GradientBoostingClassifier does it.
 *
 * Scores start at the log of the class shares. At each stage every class k gets a tree fitted to the residuals
 * y_k - p_k of the scores before the stage; a leaf's value is one Newton step,
 *
 *   (K - 1) / K  sum r / sum p (1 - p)      (two classes: one tree, without the factor)
 *
 * and `rate` times the value is added to the scores of its samples.
 */
#include <math.h>

#include "metrics/boosting.h"

#define CHUNK 4096 /* samples of one piece of the softmax */

typedef struct worker {
    ed_tree_work tree;
    double *residual;     /* [n] */
    double *top, *bottom; /* [nodes]: the sums of a leaf */
} worker;

typedef struct job {
    ed_boosting *boosting;
    ed_boosted *problems;
    int32_t count, stage;
    int64_t n, tests;
    worker *workers;                /* [ranks] */
    int32_t *problem_of, *class_of; /* [trees of a stage] */
} job;

/* ---------------------------------------------------------------- exponentials */

/* e^x to a few units in the last place, without branches so that loops over it become vector code. */
static inline __attribute__((always_inline)) double exponential(double x)
{
    x = ED_MAX(ED_MIN(x, 700.0), -700.0);
    double shifted = x * 0x1.71547652b82fep+0 + 0x1.8p52; /* x / ln 2, rounded, in the low bits */
    double whole = shifted - 0x1.8p52;
    double r = (x - whole * 0x1.62e42fefa3800p-1) - whole * 0x1.ef35793c76730p-45; /* ln 2 in two parts */
    static const double inverse_factorial[] = {1.0 / 6227020800, 1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800,
                                               1.0 / 362880,     1.0 / 40320,     1.0 / 5040,     1.0 / 720,
                                               1.0 / 120,        1.0 / 24,        1.0 / 6,        0.5};
    double sum = inverse_factorial[0], power;
    for (size_t i = 1; i < ED_COUNT(inverse_factorial); i++) sum = sum * r + inverse_factorial[i];
    sum = (sum * r + 1) * r + 1;
    uint64_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits + 1023) << 52;
    memcpy(&power, &bits, sizeof power);
    return sum * power;
}

/* out = log sum over the classes of exp(score[k]) for samples [first, last); sum is scratch of CHUNK. */
ED_CLONES static void log_sum_exp(const double *restrict score, int32_t classes, int64_t n, int64_t first, int64_t last,
                                  double *restrict out, double *restrict sum)
{
    for (int64_t i = first; i < last; i++) {
        out[i] = score[i];
        sum[i - first] = 0;
    }
    for (int32_t k = 1; k < classes; k++)
        for (int64_t i = first; i < last; i++) out[i] = ED_MAX(out[i], score[k * n + i]);
    for (int32_t k = 0; k < classes; k++)
        for (int64_t i = first; i < last; i++) sum[i - first] += exponential(score[k * n + i] - out[i]);
    for (int64_t i = first; i < last; i++) out[i] += log(sum[i - first]);
}

/* Residuals of a class; log_sum NULL: of the log-odds. */
ED_CLONES static void residuals(const double *restrict score, const double *restrict log_sum,
                                const int32_t *restrict label, int32_t class, int64_t n, double *restrict out)
{
    if (log_sum)
        for (int64_t i = 0; i < n; i++) out[i] = (label[i] == class) - exponential(score[i] - log_sum[i]);
    else
        for (int64_t i = 0; i < n; i++) out[i] = (label[i] == class) - 1 / (1 + exponential(-score[i]));
}

/* ---------------------------------------------------------------- a stage */

static encdiff_status some_softmax(ed_env *env, void *argument, int rank, int64_t first, int64_t last)
{
    (void)env, (void)rank;
    const job *j = argument;
    int64_t chunks = (j->n + CHUNK - 1) / CHUNK;
    double sum[CHUNK];
    for (int64_t item = first; item < last; item++) {
        const ed_boosted *p = &j->problems[item / chunks];
        int64_t from = item % chunks * CHUNK, to = ED_MIN(from + CHUNK, j->n);
        if (p->outputs > 1) log_sum_exp(p->score, p->outputs, j->n, from, to, p->log_sum, sum);
    }
    return ENCDIFF_OK;
}

/* Newton steps of the leaves, times the rate, into the nodes. */
static void set_leaves(const job *j, worker *w, const ed_boosted *p, int32_t class)
{
    int32_t nodes = (2 << j->boosting->depth) - 1;
    double factor = p->outputs > 1 ? (p->classes - 1.0) / p->classes : 1;
    memset(w->top, 0, (size_t)nodes * sizeof *w->top);
    memset(w->bottom, 0, (size_t)nodes * sizeof *w->bottom);
    for (int64_t i = 0; i < j->n; i++) {
        double r = w->residual[i], own = (p->label[i] == class) - r; /* the probability */
        w->top[w->tree.leaf[i]] += r;
        w->bottom[w->tree.leaf[i]] += own * (1 - own);
    }
    for (int32_t k = 0; k < nodes; k++)
        w->tree.nodes[k].value = fabs(w->bottom[k]) < 1e-150 ? 0
                                                             : j->boosting->rate * factor * w->top[k] / w->bottom[k];
}

static encdiff_status some_trees(ed_env *env, void *argument, int rank, int64_t first, int64_t last)
{
    (void)env;
    job *j = argument;
    worker *w = &j->workers[rank];
    const ed_boosting *b = j->boosting;
    for (int64_t t = first; t < last; t++) {
        ed_boosted *p = &j->problems[j->problem_of[t]];
        int32_t k = j->class_of[t];
        double *score = p->score + k * j->n, *test_score = p->test_score + k * j->tests;
        int32_t class = p->outputs == 1 ? 1 : k;
        residuals(score, p->outputs > 1 ? p->log_sum : NULL, p->label, class, j->n, w->residual);
        uint64_t number = (p->number << 40) | (uint64_t)j->stage << 20 | (uint64_t)k;
        ed_tree_grow(&w->tree, w->residual, b->seed, number, p->gains + (int64_t)k * b->features->size);
        set_leaves(j, w, p, class);
        for (int64_t i = 0; i < j->n; i++) score[i] += w->tree.nodes[w->tree.leaf[i]].value;
        for (int64_t i = 0; i < j->tests; i++)
            test_score[i] += w->tree.nodes[ed_tree_find(w->tree.nodes, b->test->codes + i * b->test->size)].value;
    }
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- problems */

/* Scores of the class shares, as far from 0 and 1 as f32 can tell. */
static void first_scores(const job *j, ed_boosted *p)
{
    for (int32_t k = 0; k < p->outputs; k++) {
        int32_t class = p->outputs == 1 ? 1 : k;
        int64_t count = 0;
        for (int64_t i = 0; i < j->n; i++) count += p->label[i] == class;
        double share = ED_MIN(ED_MAX((double)count / (double)j->n, 0x1p-23), 1 - 0x1p-23);
        double score = p->outputs == 1 ? log(share / (1 - share)) : log(share);
        for (int64_t i = 0; i < j->n; i++) p->score[k * j->n + i] = score;
        for (int64_t i = 0; i < j->tests; i++) p->test_score[k * j->tests + i] = score;
    }
}

static encdiff_status problem_begin(ed_env *env, const job *j, ed_boosted *p)
{
    p->outputs = ed_boosted_outputs(p->classes);
    size_t outputs = (size_t)p->outputs;
    p->score = ed_alloc(env, outputs, (size_t)j->n * sizeof *p->score);
    p->test_score = ed_alloc(env, outputs, (size_t)j->tests * sizeof *p->test_score);
    p->log_sum = ed_alloc(env, (size_t)j->n, sizeof *p->log_sum);
    p->gains = ed_alloc(env, outputs, (size_t)j->boosting->features->size * sizeof *p->gains);
    if (!p->score || !p->test_score || !p->log_sum || !p->gains) return env->status;
    first_scores(j, p);
    return ENCDIFF_OK;
}

static void problem_end(ed_env *env, ed_boosted *p)
{
    ed_free(env, p->score);
    ed_free(env, p->test_score);
    ed_free(env, p->log_sum);
    ed_free(env, p->gains);
    p->score = p->test_score = p->log_sum = p->gains = NULL;
}

static double accuracy(const double *score, int32_t outputs, const int32_t *label, int64_t n)
{
    int64_t right = 0;
    for (int64_t i = 0; i < n; i++) {
        int32_t best = outputs == 1 ? score[i] > 0 : 0;
        for (int32_t k = 1; k < outputs; k++)
            if (score[k * n + i] > score[best * n + i]) best = k;
        right += best == label[i];
    }
    return (double)right / (double)n;
}

static void problem_result(const job *j, ed_boosted *p)
{
    int32_t size = j->boosting->features->size;
    double sum = 0;
    memset(p->importance, 0, (size_t)size * sizeof *p->importance);
    for (int32_t k = 0; k < p->outputs; k++)
        for (int32_t f = 0; f < size; f++) p->importance[f] += p->gains[(int64_t)k * size + f];
    for (int32_t f = 0; f < size; f++) sum += p->importance[f];
    for (int32_t f = 0; f < size && sum > 0; f++) p->importance[f] /= sum;
    p->train = accuracy(p->score, p->outputs, p->label, j->n);
    p->test = accuracy(p->test_score, p->outputs, p->test_label, j->tests);
}

/* ---------------------------------------------------------------- all of it */

static encdiff_status workers_create(ed_env *env, const ed_metric_run *run, job *j)
{
    size_t ranks = (size_t)ed_metric_ranks(run), nodes = ((size_t)2 << j->boosting->depth) - 1;
    j->workers = ed_alloc(env, ranks, sizeof *j->workers);
    if (!j->workers) return env->status;
    for (size_t r = 0; r < ranks; r++) {
        worker *w = &j->workers[r];
        ED_TRY(ed_tree_work_create(env, j->boosting->features, j->boosting->depth, &w->tree));
        w->residual = ed_alloc(env, (size_t)j->n, sizeof *w->residual);
        w->top = ed_alloc(env, nodes, sizeof *w->top);
        w->bottom = ed_alloc(env, nodes, sizeof *w->bottom);
        if (!w->residual || !w->top || !w->bottom) return env->status;
    }
    return ENCDIFF_OK;
}

static void workers_free(ed_env *env, const ed_metric_run *run, job *j)
{
    for (int r = 0; j->workers && r < ed_metric_ranks(run); r++) {
        ed_tree_work_free(env, &j->workers[r].tree);
        ed_free(env, j->workers[r].residual);
        ed_free(env, j->workers[r].top);
        ed_free(env, j->workers[r].bottom);
    }
    ed_free(env, j->workers);
}

/* The trees of one stage as a list. */
static encdiff_status list_trees(ed_env *env, job *j, int64_t *trees)
{
    int64_t count = 0;
    for (int32_t i = 0; i < j->count; i++) count += j->problems[i].outputs;
    j->problem_of = ed_alloc(env, (size_t)count, sizeof *j->problem_of);
    j->class_of = ed_alloc(env, (size_t)count, sizeof *j->class_of);
    if (!j->problem_of || !j->class_of) return env->status;
    *trees = 0;
    for (int32_t i = 0; i < j->count; i++)
        for (int32_t k = 0; k < j->problems[i].outputs; k++) {
            j->problem_of[*trees] = i;
            j->class_of[(*trees)++] = k;
        }
    return ENCDIFF_OK;
}

static encdiff_status run_stages(ed_env *env, const ed_metric_run *run, job *j, int64_t trees)
{
    ed_boosting *b = j->boosting;
    ed_metric_run quiet = {.pool = run ? run->pool : NULL}; /* progress is told here, in trees */
    int64_t chunks = (j->n + CHUNK - 1) / CHUNK;
    for (j->stage = 0; j->stage < b->stages; j->stage++) {
        ED_TRY(ed_metric_for(env, &quiet, "softmax", j->count * chunks, 1, some_softmax, j));
        ED_TRY(ed_metric_for(env, &quiet, "trees", trees, 1, some_trees, j));
        b->trees_done += trees;
        if (run && run->progress && !run->progress(run->user, "boosted trees", b->trees_done, b->trees))
            return ed_fail(env, ENCDIFF_CANCELLED, "boosting was stopped by the progress callback");
    }
    return ENCDIFF_OK;
}

encdiff_status ed_boosting_fit(ed_env *env, const ed_metric_run *run, ed_boosting *boosting, ed_boosted *problems,
                               int32_t count)
{
    job j = {.boosting = boosting,
             .problems = problems,
             .count = count,
             .n = boosting->features->n,
             .tests = boosting->test->n};
    int64_t trees = 0;
    encdiff_status status = ENCDIFF_OK;
    ED_TRY_OR_FAIL(workers_create(env, run, &j));
    for (int32_t i = 0; i < count; i++) ED_TRY_OR_FAIL(problem_begin(env, &j, &problems[i]));
    ED_TRY_OR_FAIL(list_trees(env, &j, &trees));
    ED_TRY_OR_FAIL(run_stages(env, run, &j, trees));
    for (int32_t i = 0; i < count; i++) problem_result(&j, &problems[i]);
fail:
    for (int32_t i = 0; i < count; i++) problem_end(env, &problems[i]);
    workers_free(env, run, &j);
    ed_free(env, j.problem_of);
    ed_free(env, j.class_of);
    return status;
}
