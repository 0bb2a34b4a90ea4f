/*
 * What a backend provides: a kernel per operator and its memory. lib/cpu, lib/reference and cuda fill one table each;
 * exec.c is the only caller.
 */
#ifndef ED_BACKEND_H
#define ED_BACKEND_H

#include "graph/graph.h"

#define ED_BACKEND_VERSION 3

/* One call of a kernel. Pointers are NULL for absent operands. Accumulated inputs are written to. */
typedef struct ed_call {
    ed_env *env;
    ed_backend *backend; /* whose kernel it is */
    const ed_graph *graph;
    const ed_node *node;
    void *in[ED_MAX_INPUTS];
    void *out[ED_MAX_OUTPUTS];
    void *scratch;                   /* node->scratch bytes, 64-byte aligned, undefined content */
    void *state;                     /* what prepare made for this node of this execution */
    const void *packed;              /* operand 1 as the kernel's packing makes it, or NULL */
    uint64_t version[ED_MAX_INPUTS]; /* of parameter operands: changes when their values do; 0 for others */
    const ed_run *run;
    int part, parts; /* which part of the outputs this call computes, of how many; 0 of 1: everything */
} ed_call;

/* Items first .. last-1. */
typedef struct ed_range {
    int64_t first, last;
} ed_range;

/* What the call computes of `count` items. All but the last part are whole units, such as a line of the cache. */
static inline ed_range ed_call_range(const ed_call *call, int64_t count, int64_t unit)
{
    ed_range units;
    ed_shard((count + unit - 1) / unit, call->parts, call->part, &units.first, &units.last);
    return (ed_range){ED_MIN(units.first * unit, count), ED_MIN(units.last * unit, count)};
}

/* A form of a parameter that a kernel reads faster, such as weights in the order of a product's loops. */
typedef struct ed_packing {
    size_t (*bytes)(const ed_shape *shape);
    void (*make)(const ed_shape *shape, const float *from, void *to); /* `to` is 64-byte aligned */
} ed_packing;

typedef struct ed_kernel {
    /* Optional. Called once per node and execution: sets *scratch (bytes) and may make a state. */
    encdiff_status (*prepare)(ed_env *env, const ed_graph *graph, const ed_node *node, size_t *scratch, void **state);
    encdiff_status (*run)(const ed_call *call);
    void (*release)(ed_env *env, void *state); /* optional */
    /*
     * run computes the part of the outputs that the call asks for: several threads call it at once, each with scratch
     * of its own. Without it one thread does everything. The parts together write every output once, and none reads
     * what another writes.
     */
    bool parts;
    /* Optional, instead of prepare where there are several parts: bytes of scratch for each; there is no state then. */
    size_t (*part_scratch)(const ed_graph *graph, const ed_node *node, int parts);
    /* Optional, instead of prepare, for kernels whose state is made with their backend's handles. */
    encdiff_status (*prepare_on)(ed_backend *backend, ed_env *env, const ed_graph *graph, const ed_node *node,
                                 size_t *scratch, void **state);
    /* Optional, in host memory: how run would have operand 1, a parameter; NULL: as it is. Where the execution has no
     * packs (ed_exec_pack) call->packed is NULL, and run packs for itself. */
    const ed_packing *(*packing)(const ed_graph *graph, const ed_node *node);
} ed_kernel;

/* AdamW with decoupled decay (Loshchilov and Hutter 2019) and the moving average, in one pass over memory. */
typedef struct ed_adamw {
    float lr, beta1, beta2, eps, weight_decay;
    float correction1, correction2; /* 1 - beta^step */
    float grad_scale;               /* multiplied into every gradient: clipping, accumulation */
    float ema_decay;                /* ema -= (1 - decay) * (ema - p); used when ema is not NULL */
} ed_adamw;

/* Floats first .. first+count-1 of all buffers of a parameter set. */
typedef struct ed_span {
    float *p, *m, *v, *ema; /* values, moments, and their moving average or NULL */
    float *const *grads;    /* buffers whose sum, in their order, is the gradient */
    int grad_count;         /* the same for all spans of a call */
    size_t first, count;
} ed_span;

struct ed_backend {
    uint32_t version; /* ED_BACKEND_VERSION */
    const char *name;
    bool host_memory;                      /* its memory can be read and written directly */
    int images;                            /* that a graph holds at once, if nothing else says */
    const ed_kernel *kernels[ED_OP_COUNT]; /* NULL where the backend lacks the operator */
    const ed_kernel *bf16[ED_OP_COUNT];    /* for bf16 activations; NULL: see widen.h */
    void *(*allocate)(ed_backend *self, ed_env *env, size_t bytes); /* zeroed */
    void (*release)(ed_backend *self, ed_env *env, void *pointer);
    encdiff_status (*upload)(ed_backend *self, ed_env *env, void *to, const void *host, size_t bytes);
    encdiff_status (*download)(ed_backend *self, ed_env *env, void *host, const void *from, size_t bytes);
    encdiff_status (*copy)(ed_backend *self, ed_env *env, void *to, const void *from, size_t bytes); /* both its own */
    encdiff_status (*zero)(ed_backend *self, ed_env *env, void *pointer, size_t bytes);
    encdiff_status (*synchronise)(ed_backend *self, ed_env *env);
    /* bf16 to f32, and rounded back to nearest even. Where host_memory is. */
    void (*widen)(const uint16_t *from, float *to, size_t count);
    void (*narrow)(const float *from, uint16_t *to, size_t count);
    /* One step for the parameters of all spans, whose gradients are zero afterwards. */
    encdiff_status (*adamw)(ed_backend *self, ed_env *env, const ed_adamw *options, const ed_span *spans, int count);
    /* Sum of squares of the gradients of all spans. */
    encdiff_status (*sum_squares)(ed_backend *self, ed_env *env, const ed_span *spans, int count, double *out);
    /* Optional, both or neither: called around the kernels of a run, which only enqueue work then. */
    encdiff_status (*begin)(ed_backend *self, ed_env *env, const ed_run *run);
    encdiff_status (*end)(ed_backend *self, ed_env *env);
    /*
     * Optional, all or none: runs that are recorded once and then replayed. What kernels enqueue between record and
     * recorded is kept, not done; *recording is what replay enqueues, with the same operands, for any run.
     */
    encdiff_status (*record)(ed_backend *self, ed_env *env);
    encdiff_status (*recorded)(ed_backend *self, ed_env *env, void **recording);
    encdiff_status (*replay)(ed_backend *self, ed_env *env, void *recording);
    void (*forget)(ed_backend *self, ed_env *env, void *recording);
    /* Optional: memory of undefined content, for what is written before it is read. */
    void *(*allocate_raw)(ed_backend *self, ed_env *env, size_t bytes);
    /* Optional: bytes of the device's memory in use, and the most that were; `reset` starts the latter again. */
    void (*memory)(ed_backend *self, bool reset, size_t *in_use, size_t *peak);
};

/* For what is written before it is read. */
static inline void *ed_backend_allocate_raw(ed_backend *backend, ed_env *env, size_t bytes)
{
    return (backend->allocate_raw ? backend->allocate_raw : backend->allocate)(backend, env, bytes);
}

/* Constant tables; the returned backend holds no state and is never freed. */
ed_backend *ed_backend_cpu(void);
ed_backend *ed_backend_reference(void);

#endif
