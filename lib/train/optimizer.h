/* AdamW over parameter sets, with gradients per rank and moving averages, sharded over the ranks. */
#ifndef ED_OPTIMIZER_H
#define ED_OPTIMIZER_H

#include "graph/team.h"
#include "nn/nn.h"

#define ED_OPTIMIZER_SETS 2

/* A run of trainable floats of one set and the zeros between them: running statistics in between are not touched. */
typedef struct ed_segment {
    int set;
    size_t offset, count;
} ed_segment;

typedef struct ed_optimizer_set {
    ed_params *params;
    float *ema;              /* moving average, or NULL; belongs to the networks */
    float *m, *v;            /* moments, laid out like the values; these and the gradients in the backend's memory */
    float **grads;           /* one buffer per rank; zero between steps */
    float *values, *average; /* where the backend has params->values and ema, during a step */
} ed_optimizer_set;

typedef struct ed_optimizer {
    ed_team *team;
    int count;
    ed_optimizer_set sets[ED_OPTIMIZER_SETS];
    ed_segment *segments;
    size_t segment_count, segment_capacity;
    ed_span *spans;   /* one per segment: a device's */
    size_t total;     /* floats of all segments */
    int64_t updates;  /* done */
    double grad_norm; /* of the last update, when it was clipped */
    double *partial;  /* one per rank */
} ed_optimizer;

typedef struct ed_update {
    double lr, beta1, beta2, eps, weight_decay;
    double grad_scale; /* 1 / number of accumulated batches */
    double grad_clip;  /* largest norm of the scaled gradient; 0: any */
    double ema_decay;
} ed_update;

/* `ema` has one entry per set, or is NULL. */
encdiff_status ed_optimizer_create(ed_team *team, int count, ed_params *const *params, float *const *ema,
                                   ed_optimizer **out);
void ed_optimizer_free(ed_optimizer *optimizer);
/* One update from the accumulated gradients, which are zero afterwards. */
encdiff_status ed_optimizer_step(ed_optimizer *optimizer, const ed_update *update);
/* Forget the accumulated gradients. */
void ed_optimizer_clear(ed_optimizer *optimizer);

#endif
