/* Gradient boosted classification trees (Friedman, Annals of Statistics 2001), several problems side by side. */
#ifndef ED_METRICS_BOOSTING_H
#define ED_METRICS_BOOSTING_H

#include "metrics/tree.h"

/* One factor to be predicted from the codes. */
typedef struct ed_boosted {
    const int32_t *label, *test_label; /* [n], [test n]; -1 for a value that the training set has not */
    int32_t classes;
    uint64_t number; /* of the problem: its trees' choices among equal splits depend on it */

    double *importance; /* out, [size], sum 1 (or 0 without any split) */
    double train, test; /* out, accuracy */

    /* Work. One output, the log-odds of class 1, for two classes; else one per class. */
    int32_t outputs;
    double *score, *test_score; /* [outputs][n], [outputs][test n] */
    double *log_sum;            /* [n]: log of the sum over the classes of exp(score) */
    double *gains;              /* [outputs][size] */
} ed_boosted;

typedef struct ed_boosting {
    const ed_presorted *features;
    const ed_representation *test;
    int32_t stages, depth;
    double rate;
    uint64_t seed;
    int64_t trees_done, trees; /* for progress, over all calls */
} ed_boosting;

/* How many trees one stage of a problem has. */
static inline int32_t ed_boosted_outputs(int32_t classes) { return classes == 2 ? 1 : classes; }

/* Fit `count` problems together, stage by stage; each tree of a stage is a task of its own. */
encdiff_status ed_boosting_fit(ed_env *env, const ed_metric_run *run, ed_boosting *boosting, ed_boosted *problems,
                               int32_t count);

#endif
