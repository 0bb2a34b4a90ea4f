#include <math.h>

#include "metrics/split.h"

#define SLACK 1e-9 /* relative; more than the rounding of bounds and gains */

encdiff_status ed_splitter_create(ed_env *env, const ed_presorted *features, int32_t rows, ed_splitter *out)
{
    size_t n = (size_t)features->n, size = (size_t)features->size, row = (size_t)rows * ED_TREE_BINS;
    *out = (ed_splitter){.features = features, .rows = rows, .count_bits = 1};
    while ((int64_t)1 << out->count_bits <= features->n) out->count_bits++;
    out->packed = ed_alloc(env, n, sizeof *out->packed);
    out->slot = ed_alloc(env, n, sizeof *out->slot);
    out->sums[0] = ed_alloc(env, size, 2 * row * sizeof *out->sums[0]);
    out->sums[1] = ed_alloc(env, size, 2 * row * sizeof *out->sums[1]);
    out->bound = ed_alloc(env, size, row * sizeof *out->bound);
    out->sequence = ed_alloc(env, size, sizeof *out->sequence);
    out->list.sample = ed_alloc(env, n, sizeof *out->list.sample);
    out->list.slot = ed_alloc(env, n, sizeof *out->list.slot);
    out->list.packed = ed_alloc(env, n, sizeof *out->list.packed);
    out->buckets = ed_alloc(env, (size_t)rows + 1, sizeof *out->buckets);
    if (out->packed && out->slot && out->sums[0] && out->sums[1] && out->bound && out->sequence && out->list.sample &&
        out->list.slot && out->list.packed && out->buckets)
        return ENCDIFF_OK;
    ed_splitter_free(env, out);
    return env->status;
}

void ed_splitter_free(ed_env *env, ed_splitter *s)
{
    ed_free(env, s->packed);
    ed_free(env, s->slot);
    ed_free(env, s->sums[0]);
    ed_free(env, s->sums[1]);
    ed_free(env, s->bound);
    ed_free(env, s->sequence);
    ed_free(env, s->list.sample);
    ed_free(env, s->list.slot);
    ed_free(env, s->list.packed);
    ed_free(env, s->buckets);
    *s = (ed_splitter){0};
}

/* ---------------------------------------------------------------- sums */

/* [2][ED_TREE_BINS] of a row */
static int64_t *row_sums(const ed_splitter *s, int level, int32_t f, int32_t row)
{
    return s->sums[level] + ((int64_t)f * s->rows + row) * 2 * ED_TREE_BINS;
}

static void sum_all(const uint8_t *restrict bin, const uint16_t *restrict slot, const int64_t *restrict packed,
                    int64_t n, int64_t *restrict sums)
{
    for (int64_t i = 0; i < n; i++) sums[slot[i] * ED_TREE_BINS + bin[i]] += packed[i];
}

static void sum_listed(const uint8_t *restrict bin, const int32_t *restrict sample, const uint16_t *restrict slot,
                       const int64_t *restrict packed, int64_t n, int64_t *restrict sums)
{
    for (int64_t i = 0; i < n; i++) sums[slot[i] * ED_TREE_BINS + bin[sample[i]]] += packed[i];
}

/* Sums of every row of a feature. */
static void sum_feature(const ed_splitter *s, int32_t f, bool root)
{
    const ed_presorted *p = s->features;
    const uint8_t *bin = p->bin + f * p->n;
    const ed_tree_list *l = &s->list;
    for (int32_t r = 0; r < s->used; r++)
        if (s->buckets[r].sibling < 0) memset(row_sums(s, 0, f, r), 0, 2 * ED_TREE_BINS * sizeof(int64_t));
    if (root)
        sum_all(bin, s->slot, s->packed, p->n, row_sums(s, 0, f, 0));
    else
        sum_listed(bin, l->sample, l->slot, l->packed, l->count, row_sums(s, 0, f, 0));
    for (int32_t r = 0; r < s->used; r++) {
        const ed_tree_bucket *b = &s->buckets[r];
        if (b->sibling < 0) continue;
        const int64_t *whole = row_sums(s, 1, f, b->parent), *other = row_sums(s, 0, f, b->sibling);
        int64_t *own = row_sums(s, 0, f, r);
        for (int k = 0; k < 2 * ED_TREE_BINS; k++) own[k] = whole[k] - other[k];
    }
}

/* ---------------------------------------------------------------- bounds */

/* What a node has before each bin of a feature, and how far the gain's root may rise and fall in the bin. */
typedef struct prefix {
    double off[ED_TREE_BINS]; /* sum - count * mean */
    double count[ED_TREE_BINS + 1];
    double rise[ED_TREE_BINS], fall[ED_TREE_BINS];
} prefix;

static void run_prefix(const ed_splitter *s, const ed_tree_bucket *b, const int64_t *positive, prefix *out)
{
    const int64_t *negative = positive + ED_TREE_BINS;
    int64_t sum = 0, count = 0, mask = ((int64_t)1 << s->count_bits) - 1;
    double up = ED_MAX(-b->mean, 0), down = ED_MAX(b->mean, 0); /* what each sample adds besides its residual */
    for (int k = 0; k < ED_TREE_BINS; k++) {
        int64_t rise = positive[k] >> s->count_bits, fall = negative[k] >> s->count_bits;
        int64_t here = (positive[k] & mask) + (negative[k] & mask);
        out->off[k] = (double)sum - (double)count * b->mean;
        out->count[k] = (double)count;
        out->rise[k] = (double)rise + (double)here * up;
        out->fall[k] = (double)fall + (double)here * down;
        sum += rise - fall;
        count += here;
    }
    out->count[ED_TREE_BINS] = (double)count;
}

/*
 * bound[k]: on the gain of splits in bin k, 0 where the node has nothing. Returns the best gain of the splits at the
 * bins' edges. size / (count (size - count)) is convex, so that it is largest at an end of the bin.
 */
ED_CLONES static double bound_bins(const prefix *restrict p, double size, double *restrict bound)
{
    double best[4] = {0};
    for (int k = 0; k < ED_TREE_BINS; k += 4)
        for (int l = 0; l < 4; l++) {
            double off = p->off[k + l], widest = ED_MAX(off + p->rise[k + l], p->fall[k + l] - off);
            double first = ED_MIN(ED_MAX(p->count[k + l], 1), size - 1);
            double last = ED_MIN(ED_MAX(p->count[k + l + 1], 1), size - 1);
            double at_first = size / (first * (size - first)), at_last = size / (last * (size - last));
            bool any = p->count[k + l + 1] > p->count[k + l];
            bound[k + l] = any ? widest * widest * ED_MAX(at_first, at_last) : 0;
            best[l] = ED_MAX(best[l], off * off * at_first);
        }
    return ED_MAX(ED_MAX(best[0], best[1]), ED_MAX(best[2], best[3]));
}

static double *row_bound(const ed_splitter *s, int32_t f, int32_t row)
{
    return s->bound + ((int64_t)f * s->rows + row) * ED_TREE_BINS;
}

/* ---------------------------------------------------------------- walks */

/* Samples [first, last) of a feature's order, from the sums and counts that the buckets have. */
static void walk(const ed_splitter *s, int32_t f, int64_t first, int64_t last)
{
    const ed_presorted *p = s->features;
    const int32_t *order = p->order + f * p->n;
    const float *sorted = p->sorted + f * p->n;
    for (int64_t i = first; i < last; i++) {
        int32_t sample = order[i];
        ed_tree_bucket *b = &s->buckets[s->slot[sample] >> 1];
        int32_t count = b->count;
        if (sorted[i] > b->value + ED_TREE_SAME) {
            double off = (double)b->sum - count * b->mean;
            double gain = off * off * (p->reciprocal[count] + p->reciprocal[b->size - count]);
            if (gain > b->best) {
                b->best = gain;
                b->feature = f;
                b->position = (int32_t)i;
                b->left_total = b->sum;
                b->left_size = count;
            }
        }
        b->value = sorted[i];
        b->sum += ed_splitter_residual(s, sample);
        b->count = count + 1;
    }
}

static bool promising(const ed_splitter *s, int32_t f, int bin)
{
    for (int32_t b = 0; b < s->open; b++) {
        double bound = row_bound(s, f, b)[bin] * (1 + SLACK);
        if (bound > s->buckets[b].best && bound >= s->buckets[b].edge) return true;
    }
    return false;
}

/* Move the buckets' `before` on by the bins [from, to). */
static void advance(const ed_splitter *s, int32_t f, int from, int to)
{
    int64_t mask = ((int64_t)1 << s->count_bits) - 1;
    for (int32_t b = 0; b < s->open; b++) {
        const int64_t *positive = row_sums(s, 0, f, b), *negative = positive + ED_TREE_BINS;
        ed_tree_bucket *bucket = &s->buckets[b];
        if (from == 0) bucket->before_total = bucket->before_size = 0;
        for (int k = from; k < to; k++) {
            bucket->before_total += (positive[k] >> s->count_bits) - (negative[k] >> s->count_bits);
            bucket->before_size += (int32_t)((positive[k] & mask) + (negative[k] & mask));
        }
    }
}

/* Walk the bins of a feature that could hold a bucket's best split. */
static void walk_promising(const ed_splitter *s, int32_t f)
{
    const int32_t *start = s->features->bin_start + (int64_t)f * (ED_TREE_BINS + 1);
    for (int k = 0, reached = 0; k < ED_TREE_BINS; k++) {
        if (!promising(s, f, k)) continue;
        advance(s, f, reached, k);
        reached = k;
        for (int32_t b = 0; b < s->used; b++) {
            ed_tree_bucket *bucket = &s->buckets[b];
            bucket->sum = bucket->before_total;
            bucket->count = bucket->before_size;
            bucket->value = -INFINITY; /* bins are cut where anything can be told apart */
        }
        s->buckets[s->rows].sum = s->buckets[s->rows].count = 0;
        walk(s, f, start[k], start[k + 1]);
    }
}

void ed_splitter_find(ed_splitter *s, bool root)
{
    prefix p;
    for (int32_t f = 0; f < s->features->size; f++) {
        if (!s->features->varies[f]) continue;
        sum_feature(s, f, root);
        for (int32_t b = 0; b < s->open; b++) {
            ed_tree_bucket *bucket = &s->buckets[b];
            run_prefix(s, bucket, row_sums(s, 0, f, b), &p);
            bucket->edge = ED_MAX(bucket->edge, bound_bins(&p, bucket->size, row_bound(s, f, b)) * (1 - SLACK));
        }
    }
    for (int32_t i = 0; i < s->features->size; i++)
        if (s->features->varies[s->sequence[i]]) walk_promising(s, s->sequence[i]);
}
