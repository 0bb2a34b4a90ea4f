/*
 * Growing a regression tree level by level.
 *
 * Splitting a node before a sample, in the order of a feature, gains
 *
 *   (sum - count * mean)^2 (1 / count + 1 / (size - count))
 *
 * with sum and count of the node's samples before it, and mean and size of the node: Friedman's improvement up to a
 * factor of the node, and the reduction of the squared error.
 *
 * The best split is found exactly without looking at every sample in order. For each feature, positive and negative
 * residuals of each node are summed per bin of ranks. Within a bin the sum cannot rise by more than its positive
 * part nor fall by more than its negative one, which bounds the gain there; only bins that could beat the best gain so
 * far are walked sample by sample.
 */
#include <math.h>
#include <stdlib.h>

#include "metrics/tree.h"

#define SAME_VALUE 1e-7f /* scikit-learn's: values no farther apart cannot be told apart */
#define PURE 0x1p-52     /* variance below which a node is not split */

/* A node of the level being split. */
typedef struct ed_tree_bucket {
    int64_t sum; /* of what a walk has passed, as count and level */
    int32_t count, level;
    int32_t size;
    int32_t node; /* in the heap */
    double mean;
    double best; /* gain */
    int32_t feature, position;
    int64_t total; /* of residuals */
    double square; /* of residuals, unscaled */
} bucket;

/* What a node has before each bin of a feature: sum - count * mean, count; and how far a bin may rise and fall. */
typedef struct ed_tree_prefix {
    double off[ED_TREE_BINS + 1], count[ED_TREE_BINS + 1];
    double rise[ED_TREE_BINS], fall[ED_TREE_BINS];
    double bound[ED_TREE_BINS]; /* on the gain of splits in the bin */
    int64_t sum[ED_TREE_BINS];
} prefix;

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

/* Bins of about equal numbers of samples. */
static void cut_into_bins(ed_presorted *p, int32_t f)
{
    const int32_t *order = p->order + f * p->n, *level = p->level + f * p->n;
    uint8_t *bin = p->bin + f * p->n;
    int32_t *start = p->bin_start + (int64_t)f * (ED_TREE_BINS + 1), bins = 0;
    for (int64_t i = 0; i < p->n; i++) {
        if (i == 0 || (i >= p->n * bins / ED_TREE_BINS && level[i] != level[i - 1])) start[bins++] = (int32_t)i;
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
    out->level = ed_alloc(env, size, n * sizeof *out->level);
    out->levels = ed_alloc(env, size, sizeof *out->levels);
    out->bin = ed_alloc(env, size, n);
    out->bin_start = ed_alloc(env, size, (ED_TREE_BINS + 1) * sizeof *out->bin_start);
    out->reciprocal = ed_alloc(env, n + 1, sizeof *out->reciprocal);
    encdiff_status status = env->status;
    if (out->value && out->order && out->level && out->levels && out->bin && out->bin_start && out->reciprocal) {
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
    ed_free(env, p->bin);
    ed_free(env, p->bin_start);
    ed_free(env, p->reciprocal);
    *p = (ed_presorted){0};
}

encdiff_status ed_tree_work_create(ed_env *env, const ed_presorted *features, int32_t depth, ed_tree_work *out)
{
    size_t n = (size_t)features->n, buckets = (size_t)1 << depth;
    *out = (ed_tree_work){.features = features, .depth = depth, .count_bits = 1};
    while ((int64_t)1 << out->count_bits <= features->n) out->count_bits++;
    out->packed = ed_alloc(env, n, sizeof *out->packed);
    out->slot = ed_alloc(env, n, sizeof *out->slot);
    out->sums = ed_alloc(env, 2 * (buckets + 1), ED_TREE_BINS * sizeof *out->sums);
    out->sequence = ed_alloc(env, (size_t)features->size, sizeof *out->sequence);
    out->buckets = ed_alloc(env, buckets + 1, sizeof *out->buckets);
    out->prefixes = ed_alloc(env, buckets, sizeof *out->prefixes);
    out->leaf = ed_alloc(env, n, sizeof *out->leaf);
    out->nodes = ed_alloc(env, 2 * buckets - 1, sizeof *out->nodes);
    if (out->packed && out->slot && out->sums && out->sequence && out->buckets && out->prefixes && out->leaf &&
        out->nodes)
        return ENCDIFF_OK;
    ed_tree_work_free(env, out);
    return env->status;
}

void ed_tree_work_free(ed_env *env, ed_tree_work *work)
{
    ed_free(env, work->packed);
    ed_free(env, work->slot);
    ed_free(env, work->sums);
    ed_free(env, work->sequence);
    ed_free(env, work->buckets);
    ed_free(env, work->prefixes);
    ed_free(env, work->leaf);
    ed_free(env, work->nodes);
    *work = (ed_tree_work){0};
}

static inline int64_t residual_of(const ed_tree_work *w, int64_t sample)
{
    int64_t size = w->packed[sample] >> w->count_bits;
    return w->slot[sample] & 1 ? -size : size;
}

/* ---------------------------------------------------------------- finding splits */

/* Sums of a feature by slot and bin. */
static void sum_bins(const ed_tree_work *w, int32_t f, int32_t open)
{
    const uint8_t *bin = w->features->bin + f * w->features->n;
    memset(w->sums, 0, (size_t)(2 * (open + 1)) * ED_TREE_BINS * sizeof *w->sums);
    for (int64_t i = 0; i < w->features->n; i++) w->sums[w->slot[i] * ED_TREE_BINS + bin[i]] += w->packed[i];
}

/* Running sums over the bins. */
static void run_prefix(const ed_tree_work *w, const bucket *b, const int64_t *positive, const int64_t *negative,
                       prefix *out)
{
    int64_t sum = 0, count = 0, mask = ((int64_t)1 << w->count_bits) - 1;
    double up = ED_MAX(-b->mean, 0), down = ED_MAX(b->mean, 0); /* what each sample adds besides its residual */
    for (int k = 0; k < ED_TREE_BINS; k++) {
        int64_t rise = positive[k] >> w->count_bits, fall = negative[k] >> w->count_bits;
        double here = (double)((positive[k] & mask) + (negative[k] & mask));
        out->sum[k] = sum;
        out->count[k] = (double)count;
        out->off[k] = (double)sum - (double)count * b->mean;
        out->rise[k] = (double)rise + here * up;
        out->fall[k] = (double)fall + here * down;
        sum += rise - fall;
        count += (positive[k] & mask) + (negative[k] & mask);
    }
    out->count[ED_TREE_BINS] = (double)count;
}

/* Bounds on the gain in every bin; returns the best gain at the bins' edges, which are splits themselves. */
ED_CLONES static double bound_bins(prefix *p, double size)
{
    double best[4] = {0};
    for (int k = 0; k < ED_TREE_BINS; k += 4)
        for (int l = 0; l < 4; l++) {
            double off = p->off[k + l], first = ED_MAX(p->count[k + l], 1.0);
            double last = ED_MIN(p->count[k + l + 1], size - 1), from = ED_MIN(first, size - 1);
            double widest = ED_MAX(off + p->rise[k + l], p->fall[k + l] - off);
            double weight = size * ED_MAX(1 / (from * (size - from)), 1 / (last * (size - last) + (last < 1)));
            p->bound[k + l] = p->count[k + l + 1] > p->count[k + l] ? widest * widest * weight : 0;
            double gain = off * off * (size / (from * (size - from)));
            best[l] = gain > best[l] ? gain : best[l];
        }
    return ED_MAX(ED_MAX(best[0], best[1]), ED_MAX(best[2], best[3]));
}

/* Walk samples [first, last) of a feature's order, from the sums and counts that the buckets have. */
static void walk(const ed_tree_work *w, int32_t f, int64_t first, int64_t last)
{
    const ed_presorted *p = w->features;
    const int32_t *order = p->order + f * p->n, *level = p->level + f * p->n;
    for (int64_t i = first; i < last; i++) {
        int32_t s = order[i];
        bucket *b = &w->buckets[w->slot[s] >> 1];
        int32_t count = b->count;
        if (level[i] != b->level) {
            double off = (double)b->sum - count * b->mean;
            double gain = off * off * (p->reciprocal[count] + p->reciprocal[b->size - count]);
            if (gain > b->best) {
                b->best = gain;
                b->feature = f;
                b->position = (int32_t)i;
            }
        }
        b->level = level[i];
        b->sum += residual_of(w, s);
        b->count = count + 1;
    }
}

/* Walk the bins where a bucket could do better than its best, or than the best edge of this feature. */
static void walk_promising(const ed_tree_work *w, int32_t f, int32_t open, const double *edge)
{
    const int32_t *start = w->features->bin_start + (int64_t)f * (ED_TREE_BINS + 1);
    for (int k = 0; k < ED_TREE_BINS; k++) {
        bool promising = false;
        for (int32_t b = 0; b < open; b++) {
            double bound = w->prefixes[b].bound[k] * (1 + 1e-9); /* the bound itself is rounded */
            promising |= bound > w->buckets[b].best && bound >= edge[b];
        }
        if (!promising) continue;
        for (int32_t b = 0; b < open; b++) {
            w->buckets[b].sum = w->prefixes[b].sum[k];
            w->buckets[b].count = (int32_t)w->prefixes[b].count[k];
            w->buckets[b].level = -1;
        }
        w->buckets[open].count = 0; /* of finished nodes, which gain nothing */
        walk(w, f, start[k], start[k + 1]);
    }
}

static void find_splits(const ed_tree_work *w, int32_t open)
{
    double edge[1 << ED_TREE_MAX_DEPTH];
    for (int32_t i = 0; i < w->features->size; i++) {
        int32_t f = w->sequence[i];
        if (w->features->levels[f] < 2) continue;
        sum_bins(w, f, open);
        for (int32_t b = 0; b < open; b++) {
            const int64_t *positive = w->sums + 2 * b * ED_TREE_BINS, *negative = positive + ED_TREE_BINS;
            run_prefix(w, &w->buckets[b], positive, negative, &w->prefixes[b]);
            edge[b] = bound_bins(&w->prefixes[b], w->buckets[b].size) * (1 - 1e-9);
        }
        walk_promising(w, f, open, edge);
    }
}

/* The split of a bucket as a threshold: midway between its neighbours in the order. */
static void set_threshold(const ed_tree_work *w, int32_t index, ed_tree_node *node)
{
    const bucket *b = &w->buckets[index];
    const float *value = w->features->value + (int64_t)b->feature * w->features->n;
    const int32_t *order = w->features->order + (int64_t)b->feature * w->features->n;
    int32_t before = b->position - 1;
    while (w->slot[order[before]] >> 1 != index) before--;
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

/* The bucket of samples whose node is finished: no gain is ever better than its best. */
static void close_bucket(bucket *b, int64_t n) { *b = (bucket){.size = (int32_t)n, .best = INFINITY, .feature = -1}; }

/* Buckets that cannot be split become leaves; the others move together. Returns how many stay. */
static int32_t keep_splittable(ed_tree_work *w, int32_t open, double scale)
{
    int32_t to[(1 << ED_TREE_MAX_DEPTH) + 1], kept = 0;
    for (int32_t b = 0; b < open; b++) to[b] = splits(&w->buckets[b], scale) ? kept++ : -1;
    if (kept == open) return open;
    for (int64_t i = 0; i < w->features->n; i++) {
        int32_t b = w->slot[i] >> 1;
        w->slot[i] = (uint16_t)((b < open && to[b] >= 0 ? to[b] : kept) << 1 | (w->slot[i] & 1));
    }
    for (int32_t b = 0; b < open; b++)
        if (to[b] >= 0) w->buckets[to[b]] = w->buckets[b];
    return kept;
}

/* How the samples of a bucket go on. */
typedef struct branch {
    const float *value; /* of the feature */
    double threshold;
    int32_t left;  /* bucket of the next level */
    int32_t right; /* the same as left: the node is finished */
    int32_t node;
} branch;

/* Give every sample its new bucket, and the buckets their sums. */
static void move_samples(ed_tree_work *w, const branch *branches, const double *residual)
{
    for (int64_t i = 0; i < w->features->n; i++) {
        const branch *to = &branches[w->slot[i] >> 1];
        int32_t sign = w->slot[i] & 1, next = (double)to->value[i] > to->threshold ? to->right : to->left;
        bucket *b = &w->buckets[next];
        w->slot[i] = (uint16_t)(next << 1 | sign);
        b->size++;
        b->total += residual_of(w, i);
        b->square += residual[i] * residual[i];
        if (to->left != to->right) w->leaf[i] = b->node;
    }
}

/* Split the open buckets; their children become the open buckets of the next level. Returns how many. */
static int32_t split_level(ed_tree_work *w, int32_t open, const double *residual, double scale, double *importance)
{
    const ed_presorted *p = w->features;
    branch branches[(1 << ED_TREE_MAX_DEPTH) + 1];
    int32_t next = 0;
    for (int32_t b = 0; b < open; b++) next += w->buckets[b].feature >= 0 ? 2 : 0;
    for (int32_t b = 0, child = 0; b <= open; b++) {
        const bucket *from = &w->buckets[b];
        branches[b] = (branch){.value = p->value, .left = next, .right = next, .node = from->node};
        if (from->feature < 0) continue; /* finished, or every value is the same */
        ed_tree_node *node = &w->nodes[from->node];
        set_threshold(w, b, node);
        importance[from->feature] += from->best / (scale * scale) / (double)p->n;
        branches[b].value = p->value + node->feature * p->n;
        branches[b].threshold = node->threshold;
        branches[b].left = child++;
        branches[b].right = child++;
    }
    for (int32_t b = 0; b <= open; b++)
        for (int side = 0; side < 2 && branches[b].left != branches[b].right; side++) {
            int32_t node = 2 * branches[b].node + 1 + side;
            w->nodes[node].feature = -1;
            open_bucket(&w->buckets[branches[b].left + side], node);
        }
    open_bucket(&w->buckets[next], 0);
    move_samples(w, branches, residual);
    return next;
}

/* All samples in the root. Returns the scale of the integers. */
static double start(ed_tree_work *w, const double *residual)
{
    int64_t n = w->features->n;
    int bits = ED_MIN(30, 62 - 2 * w->count_bits); /* a sum of all and their number fit one word */
    double largest = 0;
    for (int64_t i = 0; i < n; i++) largest = ED_MAX(largest, fabs(residual[i]));
    double scale = largest > 0 ? (double)(1 << bits) / largest : 1;
    bucket *root = &w->buckets[0];
    w->nodes[0].feature = -1;
    open_bucket(root, 0);
    root->size = (int32_t)n;
    for (int64_t i = 0; i < n; i++) {
        w->packed[i] = (int64_t)lrint(fabs(residual[i]) * scale) << w->count_bits | 1;
        w->slot[i] = residual[i] < 0;
        w->leaf[i] = 0;
        root->total += residual_of(w, i);
        root->square += residual[i] * residual[i];
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
