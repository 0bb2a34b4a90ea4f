/*
 * Growing a regression tree level by level.
 *
 * At each level every feature is walked once in sorted order. A sample knows its node; per node the walk keeps the sum
 * and the number of what went by, so that splitting the node before the current sample gains
 *
 *   (sum - count * mean)^2 (1 / count + 1 / (size - count))
 *
 * with mean and size those of the node: Friedman's improvement up to a factor of the node, and the reduction of the
 * squared error. The best place per node is remembered.
 */
#include <math.h>
#include <stdlib.h>

#include "metrics/tree.h"

#define SAME_VALUE 1e-7f /* scikit-learn's: values no farther apart cannot be told apart */
#define PURE 0x1p-52     /* variance below which a node is not split */
#define RESIDUAL_BITS 30

typedef struct ed_tree_sample {
    int32_t residual; /* scaled to RESIDUAL_BITS */
    int32_t bucket;
} sample;

/* A node of the level being split. */
typedef struct ed_tree_bucket {
    int64_t sum; /* of what the walk has passed, as count and level */
    int32_t count, level;
    int32_t size;
    int32_t node; /* in the heap */
    double mean;
    double best; /* gain */
    int32_t feature, position;
    int64_t total; /* of residuals */
    double square; /* of residuals, unscaled */
} bucket;

/* ---------------------------------------------------------------- sorting */

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

static encdiff_status sort_features(ed_env *env, void *argument, int rank, int64_t first, int64_t last)
{
    (void)rank;
    const sorting *s = argument;
    int64_t n = s->r->n;
    item *items = ed_alloc(env, (size_t)n, sizeof *items);
    if (!items) return env->status;
    for (int64_t f = first; f < last; f++) {
        float *value = s->out->value + f * n;
        int32_t *order = s->out->order + f * n, *level = s->out->level + f * n;
        for (int64_t i = 0; i < n; i++) {
            value[i] = s->r->codes[i * s->r->size + f];
            items[i] = (item){value[i], (int32_t)i};
        }
        qsort(items, (size_t)n, sizeof *items, compare_items);
        for (int64_t i = 0; i < n; i++) {
            order[i] = items[i].row;
            level[i] = i == 0 ? 0 : level[i - 1] + (items[i].value > items[i - 1].value + SAME_VALUE);
        }
        s->out->levels[f] = level[n - 1] + 1;
    }
    ed_free(env, items);
    return ENCDIFF_OK;
}

encdiff_status ed_presorted_create(ed_env *env, const ed_metric_run *run, const ed_representation *r, ed_presorted *out)
{
    size_t n = (size_t)r->n, size = (size_t)r->size;
    *out = (ed_presorted){.n = r->n, .size = r->size};
    out->value = ed_alloc(env, size, n * sizeof *out->value);
    out->order = ed_alloc(env, size, n * sizeof *out->order);
    out->level = ed_alloc(env, size, n * sizeof *out->level);
    out->levels = ed_alloc(env, size, sizeof *out->levels);
    out->reciprocal = ed_alloc(env, n + 1, sizeof *out->reciprocal);
    encdiff_status status = env->status;
    if (out->value && out->order && out->level && out->levels && out->reciprocal) {
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
    ed_free(env, p->level);
    ed_free(env, p->levels);
    ed_free(env, p->reciprocal);
    *p = (ed_presorted){0};
}

encdiff_status ed_tree_work_create(ed_env *env, const ed_presorted *features, int32_t depth, ed_tree_work *out)
{
    *out = (ed_tree_work){.features = features, .depth = depth};
    out->samples = ed_alloc(env, (size_t)features->n, sizeof *out->samples);
    out->buckets = ed_alloc(env, ((size_t)1 << depth) + 1, sizeof *out->buckets);
    out->sequence = ed_alloc(env, (size_t)features->size, sizeof *out->sequence);
    out->leaf = ed_alloc(env, (size_t)features->n, sizeof *out->leaf);
    out->nodes = ed_alloc(env, ((size_t)2 << depth) - 1, sizeof *out->nodes);
    if (out->samples && out->buckets && out->sequence && out->leaf && out->nodes) return ENCDIFF_OK;
    ed_tree_work_free(env, out);
    return env->status;
}

void ed_tree_work_free(ed_env *env, ed_tree_work *work)
{
    ed_free(env, work->samples);
    ed_free(env, work->buckets);
    ed_free(env, work->sequence);
    ed_free(env, work->leaf);
    ed_free(env, work->nodes);
    *work = (ed_tree_work){0};
}

/* ---------------------------------------------------------------- finding splits */

/* Walk one feature; all buckets' walks start from nothing. `ties`: values repeat, and equal ones stay together. */
static inline __attribute__((always_inline)) void walk(const ed_presorted *p, int32_t f, const sample *samples,
                                                       bucket *buckets, bool ties)
{
    const int32_t *order = p->order + (int64_t)f * p->n, *level = p->level + (int64_t)f * p->n;
    for (int64_t i = 0; i < p->n; i++) {
        sample s = samples[order[i]];
        bucket *b = &buckets[s.bucket];
        int32_t count = b->count;
        if (!ties || level[i] != b->level) {
            double off = (double)b->sum - count * b->mean;
            double gain = off * off * (p->reciprocal[count] + p->reciprocal[b->size - count]);
            if (gain > b->best) {
                b->best = gain;
                b->feature = f;
                b->position = (int32_t)i;
            }
        }
        if (ties) b->level = level[i];
        b->sum += s.residual;
        b->count = count + 1;
    }
}

/* The same for the root, which has every sample: nothing to look up per sample. */
static void walk_root(const ed_presorted *p, int32_t f, const sample *samples, bucket *root, bool ties)
{
    const int32_t *order = p->order + (int64_t)f * p->n, *level = p->level + (int64_t)f * p->n;
    int64_t sum = 0;
    double best = root->best, mean = root->mean;
    for (int64_t i = 0; i < p->n; i++) {
        double off = (double)sum - (double)i * mean;
        double gain = off * off * (p->reciprocal[i] + p->reciprocal[p->n - i]);
        sum += samples[order[i]].residual;
        if (!(gain > best) || (ties && i > 0 && level[i] == level[i - 1])) continue;
        best = gain;
        root->feature = f;
        root->position = (int32_t)i;
    }
    root->best = best;
}

static void find_splits(const ed_tree_work *w, int32_t open)
{
    const ed_presorted *p = w->features;
    for (int32_t k = 0; k < p->size; k++) {
        int32_t f = w->sequence[k];
        bool ties = p->levels[f] < p->n;
        if (p->levels[f] < 2) continue;
        if (open == 1 && w->buckets[0].size == p->n) {
            walk_root(p, f, w->samples, w->buckets, ties);
            continue;
        }
        for (int32_t b = 0; b <= open; b++) {
            w->buckets[b].sum = 0;
            w->buckets[b].count = 0;
            w->buckets[b].level = -1;
        }
        if (ties)
            walk(p, f, w->samples, w->buckets, true);
        else
            walk(p, f, w->samples, w->buckets, false);
    }
}

/* The split of a bucket as a threshold: midway between its neighbours in the walk. */
static void set_threshold(const ed_tree_work *w, int32_t index, ed_tree_node *node)
{
    const bucket *b = &w->buckets[index];
    const float *value = w->features->value + (int64_t)b->feature * w->features->n;
    const int32_t *order = w->features->order + (int64_t)b->feature * w->features->n;
    int32_t before = b->position - 1;
    while (w->samples[order[before]].bucket != index) before--;
    double left = (double)value[order[before]], right = (double)value[order[b->position]];
    node->feature = b->feature;
    node->threshold = left / 2 + right / 2;
    if (node->threshold == right || !isfinite(node->threshold)) node->threshold = left;
}

/* ---------------------------------------------------------------- levels */

/* A bucket that is to be split: more than one sample, and residuals that differ. */
static bool splits(const bucket *b, double scale)
{
    double mean = (double)b->total / scale / b->size;
    return b->size >= 2 && b->square / b->size - mean * mean > PURE;
}

static void open_bucket(bucket *b, int32_t node) { *b = (bucket){.node = node, .best = -1, .feature = -1}; }

static void add_sample(bucket *b, sample s, double residual)
{
    b->size++;
    b->total += s.residual;
    b->square += residual * residual;
}

/* The bucket of samples whose node is finished: no gain is ever better than its best. */
static void close_bucket(bucket *b, int64_t n) { *b = (bucket){.size = (int32_t)n, .best = INFINITY, .feature = -1}; }

/* Buckets that cannot be split become leaves; the others move together. Returns how many stay. */
static int32_t keep_splittable(ed_tree_work *w, int32_t open, double scale)
{
    int32_t to[(1 << ED_TREE_MAX_DEPTH) + 1], kept = 0;
    for (int32_t b = 0; b < open; b++) to[b] = splits(&w->buckets[b], scale) ? kept++ : -1;
    if (kept == open) return open;
    for (int64_t i = 0; i < w->features->n; i++) {
        int32_t b = w->samples[i].bucket;
        w->samples[i].bucket = b < open && to[b] >= 0 ? to[b] : kept;
    }
    for (int32_t b = 0; b < open; b++)
        if (to[b] >= 0) w->buckets[to[b]] = w->buckets[b];
    return kept;
}

/* Split the open buckets; their children become the open buckets of the next level. Returns how many. */
static int32_t split_level(ed_tree_work *w, int32_t open, const double *residual, double scale, double *importance)
{
    const ed_presorted *p = w->features;
    int32_t child[(1 << ED_TREE_MAX_DEPTH) + 1], feature[(1 << ED_TREE_MAX_DEPTH) + 1], next = 0;
    double threshold[(1 << ED_TREE_MAX_DEPTH) + 1];
    int32_t heap[(1 << ED_TREE_MAX_DEPTH) + 1];
    for (int32_t b = 0; b < open; b++) {
        const bucket *from = &w->buckets[b];
        child[b] = -1;
        if (from->feature < 0) continue; /* every value is the same */
        ed_tree_node *node = &w->nodes[from->node];
        set_threshold(w, b, node);
        importance[from->feature] += from->best / (scale * scale) / (double)p->n;
        child[b] = next;
        feature[b] = node->feature;
        threshold[b] = node->threshold;
        heap[b] = from->node;
        next += 2;
    }
    for (int32_t b = 0; b < open; b++)
        for (int side = 0; side < 2 && child[b] >= 0; side++) {
            int32_t node = 2 * heap[b] + 1 + side;
            w->nodes[node].feature = -1;
            open_bucket(&w->buckets[child[b] + side], node);
        }
    for (int64_t i = 0; i < p->n; i++) {
        sample *s = &w->samples[i];
        int32_t b = s->bucket;
        if (b >= open || child[b] < 0) {
            s->bucket = next;
            continue;
        }
        s->bucket = child[b] + ((double)p->value[(int64_t)feature[b] * p->n + i] > threshold[b]);
        w->leaf[i] = w->buckets[s->bucket].node;
        add_sample(&w->buckets[s->bucket], *s, residual[i]);
    }
    return next;
}

/* All samples in the root. Returns the scale of the integers. */
static double start(ed_tree_work *w, const double *residual)
{
    int64_t n = w->features->n;
    double largest = 0;
    for (int64_t i = 0; i < n; i++) largest = ED_MAX(largest, fabs(residual[i]));
    double scale = largest > 0 ? (double)(1 << RESIDUAL_BITS) / largest : 1;
    w->nodes[0].feature = -1;
    open_bucket(&w->buckets[0], 0);
    for (int64_t i = 0; i < n; i++) {
        w->samples[i] = (sample){(int32_t)lrint(residual[i] * scale), 0};
        w->leaf[i] = 0;
        add_sample(&w->buckets[0], w->samples[i], residual[i]);
    }
    return scale;
}

void ed_tree_grow(ed_tree_work *w, const double *residual, uint64_t seed, uint64_t number, double *importance)
{
    double scale = start(w, residual);
    uint64_t stream = (uint64_t)ED_STREAM_DCI << 48 | number;
    for (int32_t f = 0; f < w->features->size; f++)
        w->sequence[f] = (int32_t)ed_permute(seed, ED_RANDOM_METRIC, stream, (uint64_t)f, (uint64_t)w->features->size);
    int32_t open = 1;
    for (int32_t depth = 0; depth < w->depth; depth++) {
        open = keep_splittable(w, open, scale);
        if (open == 0) break;
        for (int32_t b = 0; b < open; b++) w->buckets[b].mean = (double)w->buckets[b].total / w->buckets[b].size;
        close_bucket(&w->buckets[open], w->features->n);
        find_splits(w, open);
        open = split_level(w, open, residual, scale, importance);
    }
}
