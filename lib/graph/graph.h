/*
 * graph: networks as lists of operators.
 *
 *   ops.def, ops.c   the operator table: shape, gradient and cost rules
 *   types.c          which operands have the activations' type and which are f32 always
 *   builder.c        values and nodes; one function per operator (build.h), shapes checked as they are added
 *   gradient.c       reverse-mode differentiation, appending nodes
 *   plan.c           lifetimes, offsets in one arena, reuse in place
 *   exec.c           runs a planned graph on a backend; nothing is allocated while it runs
 *   team.c mirror.c  the ranks that run graphs together, and their device's copies of parameters
 *   plugin.c         backends that are opened at run time
 *   widen.c          a bf16 operator by the f32 kernel, for backends that have no other
 *   backend.h        what a backend (lib/cpu, lib/reference, cuda) provides
 *
 * A graph is built once for a batch size; its nodes are in execution order. Stands on base and tensor. Layers (lib/nn)
 * build graphs; only exec.c calls a backend.
 */
#ifndef ED_GRAPH_H
#define ED_GRAPH_H

#include "tensor/tensor.h"

typedef int32_t ed_value; /* a tensor of a graph */
#define ED_NONE ((ed_value)-1)

typedef enum ed_op {
#define ED_OP(id, name, inputs, outputs, accumulated, in_place) ED_OP_##id,
#include "graph/ops.def"
#undef ED_OP
    ED_OP_COUNT
} ed_op;

typedef enum ed_activation { ED_ACT_NONE, ED_ACT_RELU, ED_ACT_LEAKY_RELU, ED_ACT_SILU, ED_ACT_ELU } ed_activation;

typedef enum ed_loss_kind { ED_LOSS_L1, ED_LOSS_L2 } ed_loss_kind;

/* f of mean_loss: what the adversarial losses need. */
typedef enum ed_mean_kind {
    ED_MEAN_NEGATIVE,      /* -x: the generator's loss */
    ED_MEAN_HINGE_REAL,    /* max(0, 1 - x) */
    ED_MEAN_HINGE_FAKE,    /* max(0, 1 + x) */
    ED_MEAN_SOFTPLUS_REAL, /* log(1 + exp(-x)) */
    ED_MEAN_SOFTPLUS_FAKE, /* log(1 + exp(x)) */
} ed_mean_kind;

typedef enum ed_window_kind { ED_WINDOW_MAX, ED_WINDOW_MEAN } ed_window_kind;

/* The attributes of an operator; which member counts is the operator's affair. */
typedef union ed_attributes {
    struct {
        int stride, pad_top, pad_left, pad_bottom, pad_right;
    } conv;
    struct {
        int groups;
        float eps;
        ed_activation activation;
    } group_norm;
    struct {
        float eps;
    } layer_norm;
    struct {
        float eps, momentum;
        bool training;
        ed_activation activation;
        float slope;
    } batch_norm;
    struct {
        int heads;
        float scale;
    } attention; /* scale: of the scores, 1/sqrt(c / heads) */
    struct {
        ed_activation kind;
        float slope;
    } activation;
    struct {
        int factor;
        float alpha;
    } resample;
    struct {
        ed_window_kind kind;
        int size, stride, pad;
    } window;
    struct {
        float alpha;
    } scale;
    struct {
        int from, to;
    } slice;
    struct {
        ed_loss_kind kind;
    } difference;
    struct {
        ed_mean_kind kind;
    } mean;
    struct {
        float commitment, codebook;
    } quantize;
    struct {
        float rate;
        int stream;
    } dropout;
    struct {
        ed_type type;
    } typed; /* of convert and zeros: the output's */
} ed_attributes;

#define ED_MAX_INPUTS 9
#define ED_MAX_OUTPUTS 3

typedef struct ed_node {
    ed_op op;
    ed_value in[ED_MAX_INPUTS]; /* ED_NONE where optional and absent, and beyond the operator's arity */
    ed_value out[ED_MAX_OUTPUTS];
    ed_attributes attr;
    int64_t scratch; /* bytes that the backend asked for while it runs, all parts; set by ed_exec_create */
} ed_node;

typedef enum ed_storage {
    ED_INPUT, /* written by the user before a run; kept for the whole run */
    ED_PARAM, /* in a parameter buffer bound to the execution */
    ED_GRAD,  /* in the gradient buffer of the same set, same offset; operators add to it */
    ED_TEMP,  /* in the arena while it lives */
} ed_storage;

typedef struct ed_value_info {
    ed_shape shape;
    ed_type type;
    ed_storage storage;
    bool needs_grad;  /* a trainable parameter or a marked input is upstream */
    bool output;      /* readable after the run */
    ed_value root;    /* whose memory it is: itself, or the source of a reshape */
    int set;          /* ED_PARAM and ED_GRAD: which bound buffer */
    size_t offset;    /* ED_PARAM and ED_GRAD: floats into it */
    int node;         /* that makes it, or -1 */
    const char *name; /* for plans and messages; not owned; may be NULL */
} ed_value_info;

#define ED_MAX_SETS 8

typedef struct ed_graph {
    ed_env *env;
    encdiff_status status; /* of the first builder call that failed; later calls do nothing */
    ed_node *nodes;
    size_t node_count, node_capacity;
    ed_value_info *values;
    size_t value_count, value_capacity;
    ed_value *grads; /* gradient of each value while differentiating, ED_NONE before */
    size_t grad_capacity;
    bool trainable[ED_MAX_SETS];
    ed_type compute; /* of activations: what ed_to_compute converts to. Default: f32 */
    bool recompute;  /* ed_graph_backward makes activations again instead of keeping them; set before it */
    ed_value *again; /* meanwhile, of each value of the forward pass: what was made again, or ED_NONE */
    size_t again_count;
} ed_graph;

/* ---- building. Functions that make a value return ED_NONE after a failure, which graph->status keeps. */

void ed_graph_init(ed_graph *graph, ed_env *env);
void ed_graph_free(ed_graph *graph);

ed_value ed_graph_input(ed_graph *graph, const char *name, ed_shape shape, ed_type type, bool needs_grad);
/* Floats offset .. of parameter set `set`. The same (set, offset) gives the same value. */
ed_value ed_graph_param(ed_graph *graph, const char *name, ed_shape shape, int set, size_t offset, bool trainable);
/* The accumulated gradient of a parameter, ED_NONE when it is frozen. */
ed_value ed_graph_param_grad(ed_graph *graph, ed_value param);
void ed_graph_output(ed_graph *graph, ed_value value); /* keep it readable until the end of the run */
/* Parameters of a set get gradients only when it is trainable; set before the first use. Default: false. */
void ed_graph_train(ed_graph *graph, int set, bool trainable);

/* Append an operator: checks, infers shapes, returns output 0 (others through `outputs`, which may be NULL). `in` has
 * the operator's arity. `shape` is the output's where no rule can know it (conv2d_grad_input, zeros, reshape), else
 * NULL. */
ed_value ed_graph_node(ed_graph *graph, ed_op op, const ed_value *in, const ed_attributes *attr, const ed_shape *shape,
                       ed_value *outputs);

static inline const ed_value_info *ed_graph_value(const ed_graph *graph, ed_value value)
{
    return &graph->values[value];
}
static inline const ed_shape *ed_graph_shape(const ed_graph *graph, ed_value value)
{
    return &graph->values[value].shape;
}

/* ---- differentiation */

/*
 * Append the gradient of sum_i <value_i, seed_i> with respect to everything that needs one; a seed has its value's
 * shape and type. Parameters' gradients are accumulated into their ED_GRAD buffers.
 */
encdiff_status ed_graph_backward(ed_graph *graph, int count, const ed_value *values, const ed_value *seeds);
/* As above, but only back to `stop`, whose gradient is returned; nodes before it add nothing. */
ed_value ed_graph_gradient_at(ed_graph *graph, int count, const ed_value *values, const ed_value *seeds, ed_value stop);
/* The gradient of a value (an input that needs one, or any intermediate) after ed_graph_backward; ED_NONE if nothing
 * reached it. */
ed_value ed_graph_grad(const ed_graph *graph, ed_value value);
/* For gradient rules: add a contribution to the gradient of `value`. */
void ed_graph_add_grad(ed_graph *graph, ed_value value, ed_value contribution);
/* recompute.c, for ed_graph_backward and ed_graph_node: between start and stop, nodes read what ed_graph_again returns,
 * the value itself where it is kept. */
encdiff_status ed_graph_start_recomputing(ed_graph *graph);
void ed_graph_stop_recomputing(ed_graph *graph);
ed_value ed_graph_again(ed_graph *graph, ed_value value);
static inline bool ed_graph_needs_grad(const ed_graph *graph, ed_value value)
{
    return value != ED_NONE && graph->values[value].needs_grad;
}

/* ---- the operator table */

typedef struct ed_cost {
    double flops, bytes; /* multiply and add are two; each operand is read or written once */
} ed_cost;

typedef struct ed_op_info {
    const char *name;
    int inputs, outputs;
    uint32_t accumulated;
    int in_place;
} ed_op_info;

const ed_op_info *ed_op_describe(ed_op op);
encdiff_status ed_op_infer(ed_graph *graph, ed_node *node, const ed_shape *given, ed_shape *shapes, ed_type *types);
encdiff_status ed_op_gradient(ed_graph *graph, int node, const ed_value *grad_out);
ed_cost ed_op_cost(const ed_graph *graph, const ed_node *node);

/*
 * Activations and their gradients are f32 or bf16, all of an operator alike: its type. Parameters, their gradients,
 * statistics, losses and what decides about them are f32 always: bit i stands for input i, bit ED_F32_OUTPUT + k for
 * output k.
 */
#define ED_F32_OUTPUT 16
uint32_t ed_op_f32_operands(ed_op op);
ed_type ed_op_type(const ed_graph *graph, const ed_node *node);
/* Refuse operands of other types; the outputs' types, which shape rules may change. */
encdiff_status ed_op_infer_types(ed_graph *graph, const ed_node *node, ed_type *types);

/* ---- planning */

typedef struct ed_plan {
    size_t *offsets;    /* of each value in the arena; SIZE_MAX for what lives elsewhere */
    size_t *scratch;    /* of each node's scratch in the arena; SIZE_MAX for none */
    size_t arena;       /* bytes */
    size_t lower_bound; /* the most bytes that live at one node */
} ed_plan;

encdiff_status ed_plan_create(ed_env *env, const ed_graph *graph, ed_plan *plan);
void ed_plan_free(ed_env *env, ed_plan *plan);

/* ---- execution */

typedef struct ed_backend ed_backend;
typedef struct ed_exec ed_exec;
typedef struct ed_workspace ed_workspace;

/* What a run depends on besides its inputs. */
typedef struct ed_run {
    int rank;
    ed_comm *comm;       /* NULL when one rank runs alone */
    uint64_t seed, step; /* of the random numbers */
    int64_t first_image; /* global index of image 0 of this batch */
} ed_run;

/* Plan the graph for the backend and take all memory that runs will need. The graph must outlive the execution. */
encdiff_status ed_exec_create(ed_env *env, ed_backend *backend, ed_graph *graph, ed_exec **out);
/* The same for ed_exec_run_part with so many parts. */
encdiff_status ed_exec_create_parts(ed_env *env, ed_backend *backend, ed_graph *graph, int parts, ed_exec **out);
/* The same with a memory that it shares with other executions, of which one runs at a time: what is read after a run
 * must be read before the next one of another, and what it needs be written again. The workspace must outlive it. */
encdiff_status ed_exec_create_in(ed_env *env, ed_workspace *workspace, ed_graph *graph, int parts, ed_exec **out);
/* The plan that ed_exec_create would make, without taking the arena. */
encdiff_status ed_exec_plan_only(ed_env *env, ed_backend *backend, ed_graph *graph, ed_plan *plan);
void ed_exec_free(ed_exec *exec);
/* Where parameter set `set` lives (floats of the backend's memory) and where its gradients are added (NULL: nowhere).
 * `version` changes whenever the values changed, so that kernels renew what they derived from them. */
void ed_exec_bind(ed_exec *exec, int set, float *values, float *grads, uint64_t version);
/*
 * Parameters in the forms that kernels asked for, kept from run to run and shared by the executions of one model: a
 * parameter is packed again when an execution that is bound to another version of it comes. Worth its memory where
 * parameters change rarely.
 */
typedef struct ed_packs ed_packs;
encdiff_status ed_packs_create(ed_env *env, ed_packs **out);
void ed_packs_free(ed_packs *packs);
/* Pack what `exec`, which is bound, is to read; called before every run that is to find it. Not while an execution with
 * the same packs runs. */
encdiff_status ed_exec_pack(ed_env *env, ed_exec *exec, ed_packs *packs);
/* Run nodes first .. last-1; last = -1 is the end. A failing node does not stop the others, so that the ranks of a
 * collective stay in step; the first failure is returned. Errors are recorded in `env`, which belongs to the calling
 * thread. */
encdiff_status ed_exec_run(ed_env *env, ed_exec *exec, const ed_run *run, int first, int last);
/*
 * Run all nodes together with the other parts' threads: each computes its part of every node and waits at the
 * barrier of `comm`, whose ranks are the parts. What a run of few images takes to be quick; sums over the ranks of
 * `run` have no place here. A part that fails keeps step with the others.
 */
encdiff_status ed_exec_run_part(ed_env *env, ed_exec *exec, int part, ed_comm *comm);
/* Memory of an input or output. On a backend whose memory is the host's it may be read and written directly. */
void *ed_exec_data(ed_exec *exec, ed_value value);
encdiff_status ed_exec_write(ed_env *env, ed_exec *exec, ed_value value, const void *host, size_t bytes);
encdiff_status ed_exec_read(ed_env *env, ed_exec *exec, ed_value value, void *host, size_t bytes);
const ed_plan *ed_exec_plan(const ed_exec *exec);
const ed_graph *ed_exec_graph(const ed_exec *exec);
/* Seconds each node took, summed over the runs since the last call with on = true; NULL while off. For bench. */
void ed_exec_profile(ed_exec *exec, bool on);
const double *ed_exec_times(const ed_exec *exec);

#endif
