/* Training samples sorted by every feature, once for all trees. */
#include <math.h>
#include <stdlib.h>

#include "metrics/tree.h"

typedef struct item {
    float value;
    int32_t row;
} item;

static int compare_items(const void *a, const void *b)
{
    const item *x = a, *y = b;
    if (x->value != y->value) return x->value < y->value ? -1 : 1;
    return (x->row > y->row) - (x->row < y->row);
}

typedef struct sorting {
    const ed_representation *r;
    ed_presorted *out;
} sorting;

/* Bins of about equal numbers of samples, cut where any two samples on both sides can be told apart. */
static void cut_into_bins(ed_presorted *p, int32_t f)
{
    const int32_t *order = p->order + f * p->n;
    const float *sorted = p->sorted + f * p->n;
    uint8_t *bin = p->bin + f * p->n;
    int32_t *start = p->bin_start + (int64_t)f * (ED_TREE_BINS + 1), bins = 0;
    for (int64_t i = 0; i < p->n; i++) {
        if (i == 0 || (i >= p->n * bins / ED_TREE_BINS && sorted[i] > sorted[i - 1] + ED_TREE_SAME))
            start[bins++] = (int32_t)i;
        bin[order[i]] = (uint8_t)(bins - 1);
    }
    for (; bins <= ED_TREE_BINS; bins++) start[bins] = (int32_t)p->n;
}

static encdiff_status sort_features(ed_env *env, void *argument, int rank, int64_t first, int64_t last)
{
    (void)rank;
    const sorting *s = argument;
    int64_t n = s->r->n;
    item *items = ed_alloc(env, (size_t)n, sizeof *items);
    if (!items) return env->status;
    for (int64_t f = first; f < last; f++) {
        float *value = s->out->value + f * n, *sorted = s->out->sorted + f * n;
        int32_t *order = s->out->order + f * n;
        for (int64_t i = 0; i < n; i++) {
            value[i] = s->r->codes[i * s->r->size + f];
            items[i] = (item){value[i], (int32_t)i};
        }
        qsort(items, (size_t)n, sizeof *items, compare_items);
        for (int64_t i = 0; i < n; i++) {
            order[i] = items[i].row;
            sorted[i] = items[i].value;
        }
        s->out->varies[f] = sorted[n - 1] > sorted[0] + ED_TREE_SAME;
        cut_into_bins(s->out, (int32_t)f);
    }
    ed_free(env, items);
    return ENCDIFF_OK;
}

encdiff_status ed_presorted_create(ed_env *env, const ed_metric_run *run, const ed_representation *r, ed_presorted *out)
{
    size_t n = (size_t)r->n, size = (size_t)r->size;
    *out = (ed_presorted){.n = r->n, .size = r->size};
    if (r->n > ED_TREE_MAX_SAMPLES)
        return ed_fail(env, ENCDIFF_ERROR_SHAPE, "boosted trees learn from at most %d samples, not %lld",
                       ED_TREE_MAX_SAMPLES, (long long)r->n);
    out->value = ed_alloc(env, size, n * sizeof *out->value);
    out->order = ed_alloc(env, size, n * sizeof *out->order);
    out->sorted = ed_alloc(env, size, n * sizeof *out->sorted);
    out->varies = ed_alloc(env, size, sizeof *out->varies);
    out->bin = ed_alloc(env, size, n);
    out->bin_start = ed_alloc(env, size, (ED_TREE_BINS + 1) * sizeof *out->bin_start);
    out->reciprocal = ed_alloc(env, n + 1, sizeof *out->reciprocal);
    encdiff_status status = env->status;
    if (out->value && out->order && out->sorted && out->varies && out->bin && out->bin_start && out->reciprocal) {
        out->reciprocal[0] = -INFINITY; /* nothing on one side: 0 * -infinity is never a best gain */
        for (size_t i = 1; i <= n; i++) out->reciprocal[i] = 1 / (double)i;
        ed_metric_run quiet = {.pool = run ? run->pool : NULL};
        status = ed_metric_for(env, &quiet, "sorting", r->size, 1, sort_features, &(sorting){r, out});
    }
    if (status != ENCDIFF_OK) ed_presorted_free(env, out);
    return status;
}

void ed_presorted_free(ed_env *env, ed_presorted *p)
{
    ed_free(env, p->value);
    ed_free(env, p->order);
    ed_free(env, p->sorted);
    ed_free(env, p->varies);
    ed_free(env, p->bin);
    ed_free(env, p->bin_start);
    ed_free(env, p->reciprocal);
    *p = (ed_presorted){0};
}
