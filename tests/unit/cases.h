/*
 * The cases that every operator is tested from (cases.c): one operator, its operands and attributes. A case is run by
 * op_run.h; what is asked of each is in test_ops.c.
 */
#ifndef CASES_H
#define CASES_H

#include "graph/graph.h"

typedef enum operand_kind {
    ABSENT,  /* an optional input that is not there */
    BATCH,   /* an input with the images first, which a run on several ranks divides; gets a gradient */
    DATA,    /* the same without a gradient */
    SHARED,  /* an input that every rank has whole; gets a gradient */
    FIXED,   /* the same without a gradient */
    PART,    /* an input that is the sum of what the ranks have; no gradient */
    PARAM,   /* a trainable parameter */
    FROZEN,  /* a parameter without a gradient */
    RUNNING, /* a frozen parameter that the operator itself updates */
} operand_kind;

typedef enum operand_fill {
    UNIFORM,  /* in [low, high); [-1, 1) where both are 0 */
    APART,    /* magnitude in [low, high), either sign: away from a kink at 0 */
    DISTINCT, /* a permutation of evenly spaced values in [low, high]: no two are near each other */
    WHOLE,    /* whole numbers in [low, high) */
} operand_fill;

typedef struct operand {
    operand_kind kind;
    ed_shape shape;
    operand_fill fill;
    float low, high;
} operand;

enum case_flags {
    NO_GRADIENT = 1,   /* forward only: nothing to differentiate, or no gradient exists there */
    NO_DIFFERENCE = 2, /* no finite differences: too large, or the gradient is not the derivative, by design */
    SEED_INPUT = 4,    /* input 0 gets a gradient from elsewhere too, which reaches norms as `r` */
};

typedef struct op_case {
    ed_op op;
    const char *name;
    operand in[ED_MAX_INPUTS];
    ed_attributes attr;
    ed_shape given; /* of output 0 where no rule can know it; rank 0 otherwise */
    unsigned flags;
    uint32_t seeded; /* outputs that get a gradient, a bit mask; 0: output 0 alone */
    double scale;    /* rms that errors are relative to at least, for results that cancel to zero; 0: none */
    /* Relative L2 error of the backend against the reference; 0: the defaults of test_ops.c. Said why where given. */
    double forward_tolerance, gradient_tolerance;
    double bf16_tolerance; /* of both in bf16, where the case hangs on digits that bf16 lacks; 0: the default */
    void (*tune)(const struct op_case *c, float *const *data); /* last touch to the random operands; may be NULL */
} op_case;

extern const op_case op_cases[];
extern const size_t op_case_count;

#endif
