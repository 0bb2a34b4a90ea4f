/*
 * Draws of the sampling metrics: functions of (seed, stream, position) through Philox counters, so that nothing depends
 * on the order or on the number of threads.
 */
#include "metrics/internal.h"

typedef struct source {
    uint64_t seed;
    ed_metric_stream stream;
} source;

static int64_t below(source s, uint64_t index, int64_t bound)
{
    return ed_below(s.seed, ED_RANDOM_METRIC, s.stream, index, (uint32_t)bound);
}

encdiff_status ed_metric_draw_rows(ed_env *env, uint64_t seed, ed_metric_stream stream, int64_t n, int64_t count,
                                   int32_t **rows)
{
    *rows = NULL;
    if (n < 1 || count < 1)
        return ed_fail(env, ENCDIFF_ERROR_SHAPE, "%lld rows cannot be drawn of %lld", (long long)count, (long long)n);
    *rows = ed_alloc(env, (size_t)count, sizeof **rows);
    if (!*rows) return env->status;
    for (int64_t i = 0; i < count; i++) (*rows)[i] = (int32_t)below((source){seed, stream}, (uint64_t)i, n);
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- points */

/* The rows of one factor by value. */
typedef struct group {
    ed_classes classes;
    int64_t *start;
    int32_t *rows;
} group;

static void groups_free(ed_env *env, group *groups, int32_t count)
{
    for (int32_t j = 0; groups && j < count; j++) {
        ed_classes_free(env, &groups[j].classes);
        ed_free(env, groups[j].start);
        ed_free(env, groups[j].rows);
    }
    ed_free(env, groups);
}

static encdiff_status groups_create(ed_env *env, const ed_representation *table, group **out)
{
    encdiff_status status = ENCDIFF_OK;
    *out = NULL;
    group *groups = ed_alloc(env, (size_t)table->factor_count, sizeof *groups);
    if (!groups) return env->status;
    for (int32_t j = 0; j < table->factor_count; j++) {
        ED_TRY_OR_FAIL(ed_check_cancel(env));
        ED_TRY_OR_FAIL(ed_classes_create(env, table, j, &groups[j].classes));
        ED_TRY_OR_FAIL(ed_classes_group(env, &groups[j].classes, table->n, &groups[j].start, &groups[j].rows));
    }
    *out = groups;
    return ENCDIFF_OK;
fail:
    groups_free(env, groups, table->factor_count);
    return status;
}

static int32_t row_of_class(source s, uint64_t index, const group *g, int64_t class)
{
    return g->rows[g->start[class] + below(s, index, g->start[class + 1] - g->start[class])];
}

/* Point p owns the counters from p * (2 + 2 * batch): the factor, its value, then the rows. */
static void draw_point(source s, const group *groups, ed_metric_points *p, int64_t point)
{
    uint64_t at = (uint64_t)point * (2 + 2 * (uint64_t)p->batch);
    int32_t factor = (int32_t)below(s, at, p->table->factor_count);
    const group *g = &groups[factor];
    int64_t class = below(s, at + 1, g->classes.count);
    p->factor[point] = factor;
    for (int64_t i = 0; i < p->batch; i++) {
        int64_t to = point * p->batch + i;
        uint64_t counter = at + 2 + 2 * (uint64_t)i;
        if (!p->second) {
            p->first[to] = row_of_class(s, counter, g, class);
            continue;
        }
        p->first[to] = (int32_t)below(s, counter, p->table->n);
        p->second[to] = row_of_class(s, counter + 1, g, g->classes.label[p->first[to]]);
    }
}

static encdiff_status points_create(ed_env *env, const ed_representation *table, int64_t count, int32_t batch,
                                    bool paired, ed_metric_points *out)
{
    size_t rows;
    *out = (ed_metric_points){.table = table, .count = count, .batch = batch};
    if (count < 1 || batch < 1 || !ed_mul((size_t)count, (size_t)batch, &rows))
        return ed_fail(env, ENCDIFF_ERROR_CONFIG, "%lld points of %d rows cannot be drawn", (long long)count, batch);
    out->factor = ed_alloc(env, (size_t)count, sizeof *out->factor);
    out->first = ed_alloc(env, rows, sizeof *out->first);
    out->second = paired ? ed_alloc(env, rows, sizeof *out->second) : NULL;
    if (out->factor && out->first && (out->second || !paired)) return ENCDIFF_OK;
    ed_metric_points_free(env, out);
    return env->status;
}

encdiff_status ed_metric_draw_points(ed_env *env, uint64_t seed, ed_metric_stream stream,
                                     const ed_representation *table, int64_t count, int32_t batch, bool paired,
                                     ed_metric_points *out)
{
    group *groups;
    ED_TRY(points_create(env, table, count, batch, paired, out));
    encdiff_status status = groups_create(env, table, &groups);
    if (status != ENCDIFF_OK) {
        ed_metric_points_free(env, out);
        return status;
    }
    for (int64_t p = 0; p < count; p++) draw_point((source){seed, stream}, groups, out, p);
    groups_free(env, groups, table->factor_count);
    return ENCDIFF_OK;
}

void ed_metric_points_free(ed_env *env, ed_metric_points *points)
{
    ed_free(env, points->factor);
    ed_free(env, points->first);
    ed_free(env, points->second);
    *points = (ed_metric_points){0};
}

encdiff_status ed_metric_rows_check(ed_env *env, const int32_t *rows, int64_t count, int64_t n)
{
    for (int64_t i = 0; i < count; i++)
        if (rows[i] < 0 || rows[i] >= n)
            return ed_fail(env, ENCDIFF_ERROR_ARGUMENT, "row %d is not one of the %lld samples", rows[i], (long long)n);
    return ENCDIFF_OK;
}

encdiff_status ed_metric_points_check(ed_env *env, const ed_metric_points *p, const char *what)
{
    ED_TRY(ed_representation_check(env, p->table, what));
    if (p->count < 1 || p->batch < 1)
        return ed_fail(env, ENCDIFF_ERROR_SHAPE, "%s: %lld points of %d rows", what, (long long)p->count, p->batch);
    for (int64_t i = 0; i < p->count; i++)
        if (p->factor[i] < 0 || p->factor[i] >= p->table->factor_count)
            return ed_fail(env, ENCDIFF_ERROR_ARGUMENT, "%s: factor %d of point %lld does not exist", what,
                           p->factor[i], (long long)i);
    ED_TRY(ed_metric_rows_check(env, p->first, p->count * p->batch, p->table->n));
    return p->second ? ed_metric_rows_check(env, p->second, p->count * p->batch, p->table->n) : ENCDIFF_OK;
}

/* ---------------------------------------------------------------- samples */

/* Samples at positions first .. first + count - 1 of a random order of the table. */
static encdiff_status copy_samples(ed_env *env, uint64_t seed, const ed_representation *table, int64_t first,
                                   int64_t count, ed_representation *out)
{
    size_t code_bytes = (size_t)table->size * sizeof *table->codes;
    size_t factor_bytes = (size_t)table->factor_count * sizeof *table->factors;
    float *codes = ed_alloc(env, (size_t)count, code_bytes);
    int32_t *factors = ed_alloc(env, (size_t)count, factor_bytes);
    *out = *table;
    out->n = count;
    out->codes = codes;
    out->factors = factors;
    if (!codes || !factors) {
        ed_metric_samples_free(env, out);
        return env->status;
    }
    for (int64_t i = 0; i < count; i++) {
        int64_t row = (int64_t)ed_permute(seed, ED_RANDOM_METRIC, ED_STREAM_SPLIT, (uint64_t)(first + i),
                                          (uint64_t)table->n);
        memcpy(codes + i * table->size, table->codes + row * table->size, code_bytes);
        memcpy(factors + i * table->factor_count, table->factors + row * table->factor_count, factor_bytes);
    }
    return ENCDIFF_OK;
}

encdiff_status ed_metric_draw_split(ed_env *env, uint64_t seed, const ed_representation *table, int64_t train_count,
                                    int64_t test_count, ed_representation *train, ed_representation *test)
{
    int64_t n = table->n;
    if (train_count < 1 || test_count < 1 || n < 2)
        return ed_fail(env, ENCDIFF_ERROR_SHAPE, "%lld samples cannot be split into %lld and %lld", (long long)n,
                       (long long)train_count, (long long)test_count);
    if (train_count > n || test_count > n - train_count) {
        double share = (double)train_count / ((double)train_count + (double)test_count);
        train_count = ED_MIN(ED_MAX((int64_t)((double)n * share), 1), n - 1);
        test_count = n - train_count;
    }
    ED_TRY(copy_samples(env, seed, table, 0, train_count, train));
    encdiff_status status = copy_samples(env, seed, table, train_count, test_count, test);
    if (status != ENCDIFF_OK) ed_metric_samples_free(env, train);
    return status;
}

void ed_metric_samples_free(ed_env *env, ed_representation *samples)
{
    ed_free(env, (void *)samples->codes);
    ed_free(env, (void *)samples->factors);
    *samples = (ed_representation){0};
}
