/*
 * Regression trees grown breadth first with exact splits, the weak learners of gradient boosting.
 *
 * Features are sorted once for all trees, and cut into bins of neighbouring ranks. Residuals are rounded to integers
 * (30 bits for up to 65,535 samples), so that their sums are exact and no result depends on the order of a sum.
 */
#ifndef ED_METRICS_TREE_H
#define ED_METRICS_TREE_H

#include "metrics/internal.h"

#define ED_TREE_MAX_DEPTH 10
#define ED_TREE_MAX_SAMPLES (1 << 22)
#define ED_TREE_SAME 1e-7f /* scikit-learn's: values no farther apart are not split between */
#define ED_TREE_BINS 128   /* of ranks, for each feature; at most 256 */

/* Training samples, feature by feature. Read by every thread. */
typedef struct ed_presorted {
    int64_t n;
    int32_t size;
    float *value;       /* [size][n], in the order of the samples */
    int32_t *order;     /* [size][n]: samples by increasing value */
    float *sorted;      /* [size][n]: the values in that order */
    bool *varies;       /* [size] */
    uint8_t *bin;       /* [size][n], in the order of the samples */
    int32_t *bin_start; /* [size][ED_TREE_BINS + 1]: where bins begin in `order`; empty ones are at the end */
    double *reciprocal; /* [n + 1]: 1 / i, and -infinity for 0 */
} ed_presorted;

encdiff_status ed_presorted_create(ed_env *env, const ed_metric_run *run, const ed_representation *r,
                                   ed_presorted *out);
void ed_presorted_free(ed_env *env, ed_presorted *p); /* a zeroed one is fine */

/* A tree as a heap: the children of node i are 2 i + 1 (not above the threshold) and 2 i + 2. */
typedef struct ed_tree_node {
    int32_t feature; /* -1: a leaf */
    double threshold;
    double value; /* of a leaf, set by who grows the tree for a purpose */
} ed_tree_node;

/* One thread's workshop for trees of a given depth. */
typedef struct ed_tree_work {
    const ed_presorted *features;
    int32_t depth;
    struct ed_splitter *splitter;
    struct ed_tree_bucket *next;     /* [rows + 1]: buckets of the next level */
    struct ed_tree_branch *branches; /* [rows + 1] */
    int32_t *leaf;                   /* out, [n]: the node where each training sample ends */
    ed_tree_node *nodes;             /* out */
} ed_tree_work;

encdiff_status ed_tree_work_create(ed_env *env, const ed_presorted *features, int32_t depth, ed_tree_work *out);
void ed_tree_work_free(ed_env *env, ed_tree_work *work); /* a zeroed one is fine */

/*
 * Grow work->nodes and work->leaf on `residual`, double[n]. Splits maximise Friedman's improvement (Annals of
 * Statistics 2001, equation 35). Equal improvements are chosen among at random, as a function of (seed, number).
 * importance[feature] grows by each split's reduction of the squared error, per sample of the training set.
 */
void ed_tree_grow(ed_tree_work *work, const double *residual, uint64_t seed, uint64_t number, double *importance);

/* The leaf of a sample. */
static inline int32_t ed_tree_find(const ed_tree_node *nodes, const float *code)
{
    int32_t i = 0;
    while (nodes[i].feature >= 0) i = 2 * i + 1 + ((double)code[nodes[i].feature] > nodes[i].threshold);
    return i;
}

#endif
