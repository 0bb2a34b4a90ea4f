/*
 * Runs a case of cases.h: builds the graph of its one operator, differentiates it, plans and executes it on a backend,
 * on one rank or divided over several, and gathers what came out as if one rank had done it all.
 */
#ifndef OP_RUN_H
#define OP_RUN_H

#include "cases.h"
#include "graph/backend.h"

typedef struct op_mode {
    ed_backend *backend;
    int ranks;     /* that divide the images; at least 1 */
    bool backward; /* with the gradients */
    bool staged;   /* inputs and seeds are made by an operator first, so that their memory may be taken over */
    float prior;   /* what gradient buffers hold before the run */
    bool bf16;     /* activations are bf16 */
    bool packed;   /* with packs that were made of other parameters before */
} op_mode;

typedef struct op_result {
    float *out[ED_MAX_OUTPUTS];  /* indices converted to f32; NULL where absent */
    float *grad[ED_MAX_INPUTS];  /* of each operand that got one; parameters' without the prior taken off */
    float *after[ED_MAX_INPUTS]; /* RUNNING parameters at the end of the run */
    size_t out_count[ED_MAX_OUTPUTS];
    bool ran[ED_OP_COUNT], ran_in_place[ED_OP_COUNT]; /* operators of the graph; those that took memory over */
} op_result;

/* Images of the case, 1 where it has none. */
int64_t op_images(const op_case *c);
/* Random operands, whole. data[i] is NULL for absent ones. */
encdiff_status op_data_create(ed_env *env, const op_case *c, float *data[ED_MAX_INPUTS]);
void op_data_free(ed_env *env, float *data[ED_MAX_INPUTS]);
/* Items first .. first+count-1 of the gradient that output `output` gets; output -1 is input 0 (SEED_INPUT). */
void op_seed(const op_case *c, int output, size_t first, size_t count, float *seed);
bool op_seeded(const op_case *c, int output);

encdiff_status op_run(ed_env *env, const op_case *c, const op_mode *mode, float *const data[ED_MAX_INPUTS],
                      op_result *result);
/* The same with one rank whose operators are each computed by `together` threads, forward only. */
encdiff_status op_run_together(ed_env *env, const op_case *c, const op_mode *mode, int together,
                               float *const data[ED_MAX_INPUTS], op_result *result);
void op_result_free(ed_env *env, op_result *result);

#endif
