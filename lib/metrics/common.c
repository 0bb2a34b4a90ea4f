/* Loops over the pool, checks of representations, classes of a factor. */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>

#include "metrics/internal.h"

/* ---------------------------------------------------------------- loops */

typedef struct loop {
    const ed_metric_run *run;
    const char *activity;
    int64_t count, grain;
    ed_metric_body *body;
    void *argument;
    _Atomic int64_t next;
    ed_env *children; /* one per rank */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int64_t done; /* under lock, as are the next two */
    int working;  /* ranks that have not finished */
    bool stop;
    int64_t told; /* pieces done that were reported last */
} loop;

/* Tell the others how far this rank is: `items` done, or, at its end, its status. True: go on. */
static bool tell(loop *l, int64_t items, bool finished, encdiff_status status)
{
    pthread_mutex_lock(&l->lock);
    l->done += items;
    l->working -= finished;
    l->stop = l->stop || status != ENCDIFF_OK;
    bool on = !l->stop;
    pthread_cond_signal(&l->changed);
    pthread_mutex_unlock(&l->lock);
    return on;
}

/* Pieces of the loop until there are none. */
static encdiff_status take_pieces(loop *l, ed_env *env, int rank, encdiff_status (*after)(loop *l, ed_env *env))
{
    for (;;) {
        int64_t first = atomic_fetch_add(&l->next, l->grain);
        if (first >= l->count) return ENCDIFF_OK;
        int64_t last = ED_MIN(first + l->grain, l->count);
        ED_TRY(l->body(env, l->argument, rank, first, last));
        ED_TRY(ed_check_cancel(env));
        if (!tell(l, last - first, false, ENCDIFF_OK)) return ENCDIFF_OK;
        if (after) ED_TRY(after(l, env));
    }
}

static encdiff_status report(loop *l, ed_env *env)
{
    if (!l->run || !l->run->progress) return ENCDIFF_OK;
    pthread_mutex_lock(&l->lock);
    int64_t done = l->done;
    pthread_mutex_unlock(&l->lock);
    l->told = done;
    if (done == 0 || l->run->progress(l->run->user, l->activity, done, l->count)) return ENCDIFF_OK;
    return ed_fail(env, ENCDIFF_CANCELLED, "%s was stopped by the progress callback", l->activity);
}

/* The calling thread has no piece left: it reports what the others do until they are through. */
static encdiff_status watch(loop *l, ed_env *env)
{
    int64_t seen = l->told; /* of the calling thread alone; 0 where the others were faster than its first piece */
    for (bool over = false; !over;) {
        pthread_mutex_lock(&l->lock);
        while (l->working > 1 && l->done == seen && !l->stop) pthread_cond_wait(&l->changed, &l->lock);
        over = l->working <= 1 || l->stop;
        bool news = l->done != seen && !l->stop;
        seen = l->done;
        pthread_mutex_unlock(&l->lock);
        if (news) ED_TRY(report(l, env));
    }
    return ENCDIFF_OK;
}

static void loop_rank(void *argument, int rank)
{
    loop *l = argument;
    ed_env *env = &l->children[rank];
    encdiff_status status = take_pieces(l, env, rank, rank == 0 ? report : NULL);
    if (status == ENCDIFF_OK && rank == 0) status = watch(l, env);
    tell(l, 0, true, status);
}

int ed_metric_ranks(const ed_metric_run *run) { return run && run->pool ? ed_pool_size(run->pool) : 1; }

encdiff_status ed_metric_for(ed_env *env, const ed_metric_run *run, const char *activity, int64_t count, int64_t grain,
                             ed_metric_body *body, void *argument)
{
    int ranks = ed_metric_ranks(run);
    loop l = {.run = run,
              .activity = activity,
              .count = count,
              .grain = ED_MAX(grain, 1),
              .body = body,
              .argument = argument,
              .lock = PTHREAD_MUTEX_INITIALIZER,
              .changed = PTHREAD_COND_INITIALIZER,
              .working = ranks};
    l.children = ed_alloc(env, (size_t)ranks, sizeof *l.children);
    if (!l.children) return env->status;
    for (int r = 0; r < ranks; r++) ed_env_child(&l.children[r], env);
    if (ranks > 1)
        ed_pool_run(run->pool, ranks, loop_rank, &l);
    else
        loop_rank(&l, 0);
    encdiff_status status = ENCDIFF_OK;
    for (int r = 0; r < ranks && status == ENCDIFF_OK; r++)
        if (l.children[r].status != ENCDIFF_OK)
            status = ed_fail(env, l.children[r].status, "%s", l.children[r].message);
    ed_free(env, l.children);
    return status;
}

/* ---------------------------------------------------------------- checks */

static encdiff_status check_finite(ed_env *env, const ed_representation *r, const char *what)
{
    for (int64_t i = 0; i < r->n; i++)
        for (int32_t j = 0; j < r->size; j++)
            if (!isfinite(r->codes[i * r->size + j]))
                return ed_fail(env, ENCDIFF_ERROR_NUMERIC, "%s: code %d of sample %lld is not finite", what, j,
                               (long long)i);
    return ENCDIFF_OK;
}

encdiff_status ed_representation_check(ed_env *env, const ed_representation *r, const char *what)
{
    if (!r || !r->codes || !r->factors)
        return ed_fail(env, ENCDIFF_ERROR_ARGUMENT, "%s: codes or factors are NULL", what);
    if (r->n < 1 || r->n > INT32_MAX || r->size < 1 || r->factor_count < 1)
        return ed_fail(env, ENCDIFF_ERROR_SHAPE,
                       "%s: codes are [%lld, %d] and factors [%lld, %d]; at least one of each is needed", what,
                       (long long)r->n, r->size, (long long)r->n, r->factor_count);
    ED_TRY(ed_shape_check(env, &ED_SHAPE2(r->n, r->size), ED_F64, what));
    ED_TRY(ed_shape_check(env, &ED_SHAPE2(r->n, r->factor_count), ED_F64, what));
    return check_finite(env, r, what);
}

encdiff_status ed_representation_check_pair(ed_env *env, const ed_representation *train, const ed_representation *test)
{
    ED_TRY(ed_representation_check(env, train, "train"));
    ED_TRY(ed_representation_check(env, test, "test"));
    if (train->size == test->size && train->factor_count == test->factor_count) return ENCDIFF_OK;
    return ed_fail(env, ENCDIFF_ERROR_SHAPE, "train has %d codes and %d factors, test has %d and %d", train->size,
                   train->factor_count, test->size, test->factor_count);
}

/* ---------------------------------------------------------------- classes */

static int compare_int32(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

int32_t ed_classes_find(const ed_classes *classes, int32_t value)
{
    int32_t low = 0, high = classes->count;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (classes->values[middle] < value)
            low = middle + 1;
        else
            high = middle;
    }
    return low < classes->count && classes->values[low] == value ? low : -1;
}

encdiff_status ed_classes_create(ed_env *env, const ed_representation *r, int32_t factor, ed_classes *out)
{
    *out = (ed_classes){0};
    out->label = ed_alloc(env, (size_t)r->n, sizeof *out->label);
    out->values = ed_alloc(env, (size_t)r->n, sizeof *out->values);
    if (!out->label || !out->values) {
        ed_classes_free(env, out);
        return env->status;
    }
    for (int64_t i = 0; i < r->n; i++) out->values[i] = r->factors[i * r->factor_count + factor];
    qsort(out->values, (size_t)r->n, sizeof *out->values, compare_int32);
    for (int64_t i = 0; i < r->n; i++)
        if (i == 0 || out->values[i] != out->values[out->count - 1]) out->values[out->count++] = out->values[i];
    for (int64_t i = 0; i < r->n; i++) out->label[i] = ed_classes_find(out, r->factors[i * r->factor_count + factor]);
    return ENCDIFF_OK;
}

void ed_classes_free(ed_env *env, ed_classes *classes)
{
    ed_free(env, classes->label);
    ed_free(env, classes->values);
    *classes = (ed_classes){0};
}

void ed_classes_free_all(ed_env *env, ed_classes *classes, int32_t count)
{
    for (int32_t f = 0; classes && f < count; f++) ed_classes_free(env, &classes[f]);
    ed_free(env, classes);
}

encdiff_status ed_classes_create_all(ed_env *env, const ed_representation *r, ed_classes **out)
{
    *out = ed_alloc(env, (size_t)r->factor_count, sizeof **out);
    if (!*out) return env->status;
    for (int32_t f = 0; f < r->factor_count; f++) {
        encdiff_status status = ed_check_cancel(env);
        if (status == ENCDIFF_OK) status = ed_classes_create(env, r, f, &(*out)[f]);
        if (status == ENCDIFF_OK) continue;
        ed_classes_free_all(env, *out, r->factor_count);
        *out = NULL;
        return status;
    }
    return ENCDIFF_OK;
}

encdiff_status ed_classes_relabel(ed_env *env, const ed_classes *classes, const ed_representation *other,
                                  int32_t factor, int32_t **label)
{
    *label = ed_alloc(env, (size_t)other->n, sizeof **label);
    if (!*label) return env->status;
    for (int64_t i = 0; i < other->n; i++)
        (*label)[i] = ed_classes_find(classes, other->factors[i * other->factor_count + factor]);
    return ENCDIFF_OK;
}

encdiff_status ed_classes_check_varied(ed_env *env, const ed_classes *classes, int32_t count)
{
    for (int32_t f = 0; f < count; f++)
        if (classes[f].count < 2)
            return ed_fail(env, ENCDIFF_ERROR_SHAPE, "factor %d has one value alone, so nothing can be learned of it",
                           f);
    return ENCDIFF_OK;
}

encdiff_status ed_classes_group(ed_env *env, const ed_classes *classes, int64_t n, int64_t **start, int32_t **rows)
{
    *start = ed_alloc(env, (size_t)classes->count + 2, sizeof **start);
    *rows = ed_alloc(env, (size_t)n, sizeof **rows);
    if (!*start || !*rows) {
        ed_free(env, *start);
        ed_free(env, *rows);
        *start = NULL;
        *rows = NULL;
        return env->status;
    }
    /* Counting sort: start[c + 1] is where class c goes on, and ends as the start of class c + 1. */
    for (int64_t i = 0; i < n; i++) (*start)[classes->label[i] + 2]++;
    for (int32_t c = 0; c < classes->count; c++) (*start)[c + 2] += (*start)[c + 1];
    for (int64_t i = 0; i < n; i++) (*rows)[(*start)[classes->label[i] + 1]++] = (int32_t)i;
    return ENCDIFF_OK;
}
