/*
 * The best split of every node of a level, found exactly without looking at every sample in order.
 *
 * Splitting a node before a sample, in the order of a feature, gains
 *
 *   (sum - count * mean)^2 (1 / count + 1 / (size - count))
 *
 * with sum and count of the node's residuals before it, and mean and size of the node: Friedman's improvement up to a
 * factor of the node, and the reduction of the squared error.
 *
 * Positive and negative residuals of a node are summed per feature and bin of ranks. Within a bin the sum cannot rise
 * by more than the positive part nor fall by more than the negative one, which bounds the gain there; only bins that
 * could hold the best split are walked sample by sample. Of two siblings only the smaller is summed; the other is what
 * the parent has besides.
 */
#ifndef ED_METRICS_SPLIT_H
#define ED_METRICS_SPLIT_H

#include "metrics/tree.h"

/* A node of the level being split. */
typedef struct ed_tree_bucket {
    int32_t node; /* in the heap */
    int32_t size;
    int64_t total; /* of residuals */
    double mean;
    int32_t parent, sibling; /* rows: of the sums of the level before, and of this one; -1: summed itself */

    int64_t before_total; /* in the bins before the one that is looked at */
    int32_t before_size;
    int64_t sum; /* of what a walk has passed */
    int32_t count;
    float value; /* of the last sample it passed */
    double edge; /* least gain that the best split is known to have */

    double best; /* gain; the split is before `position` of the order of `feature`, -1: none */
    int32_t feature, position;
    int64_t left_total;
    int32_t left_size;
} ed_tree_bucket;

/* Samples whose residuals are to be summed. */
typedef struct ed_tree_list {
    int64_t count;
    int32_t *sample;
    uint16_t *slot;
    int64_t *packed;
} ed_tree_list;

/* One thread's workshop for finding splits. Rows are nodes of a level; a row has two slots, one for each sign. */
typedef struct ed_splitter {
    const ed_presorted *features;
    int32_t rows, count_bits;
    int32_t open, used; /* buckets to be split come first; others in use are only summed */
    int32_t next_open, next_used;
    int64_t *packed;         /* [n]: |residual| << count_bits | 1 */
    uint16_t *slot;          /* [n]: 2 * row + (residual < 0) */
    int64_t *sums[2];        /* [size][rows][2][ED_TREE_BINS] of `packed`: of this level and of the one before */
    double *bound;           /* [size][rows][ED_TREE_BINS] on the gain of splits in the bin */
    int32_t *sequence;       /* [size]: in which order features are tried */
    ed_tree_list list;       /* of a level below the root */
    ed_tree_bucket *buckets; /* [rows + 1]; the last is of the samples whose node is finished */
} ed_splitter;

/* For levels of at most `rows` nodes. */
encdiff_status ed_splitter_create(ed_env *env, const ed_presorted *features, int32_t rows, ed_splitter *out);
void ed_splitter_free(ed_env *env, ed_splitter *s); /* a zeroed one is fine */

/* Splits of the open buckets. Summed are all samples for the root, else those listed. */
void ed_splitter_find(ed_splitter *s, bool root);

static inline int64_t ed_splitter_residual(const ed_splitter *s, int64_t sample)
{
    int64_t size = s->packed[sample] >> s->count_bits;
    return s->slot[sample] & 1 ? -size : size;
}

#endif
