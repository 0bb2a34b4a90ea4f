/* Runs a planned graph on a backend. All memory is taken in ed_exec_create. */
#include "graph/backend.h"
#include "graph/packs.h"
#include "graph/widen.h"
#include "graph/workspace.h"

typedef struct binding {
    float *values, *grads;
    uint64_t version;
} binding;

#define MAX_RECORDINGS 2 /* training runs a graph in two parts */

/* Nodes first .. last-1, replayed once `made`. */
typedef struct recording {
    int first, last; /* last 0: none */
    void *made;
} recording;

struct ed_exec {
    ed_env *env; /* for release only; runs use the caller's */
    ed_backend *backend;
    ed_graph *graph;
    ed_plan plan;
    int parts;
    char *arena;
    ed_workspace *workspace, own; /* whose memory the arena is: one that is shared, or its own */
    ed_workspace_user user;
    ed_call *calls; /* one per node, operands filled in */
    double *times;  /* one per node while profiling */
    bool profile;
    binding sets[ED_MAX_SETS];
    recording recordings[MAX_RECORDINGS];
    bool unrecorded; /* recording has failed once */
};

static void *address(const ed_exec *exec, ed_value value)
{
    const ed_value_info *v = &exec->graph->values[value];
    const ed_value_info *root = &exec->graph->values[v->root];
    if (root->storage == ED_PARAM) {
        float *values = exec->sets[root->set].values;
        return values ? values + root->offset : NULL;
    }
    if (root->storage == ED_GRAD) {
        float *grads = exec->sets[root->set].grads;
        return grads ? grads + root->offset : NULL;
    }
    return exec->arena + exec->plan.offsets[value];
}

static void resolve(ed_exec *exec, size_t n)
{
    ed_call *call = &exec->calls[n];
    for (int i = 0; i < ED_MAX_INPUTS; i++) {
        ed_value v = call->node->in[i];
        if (v == ED_NONE) continue;
        const ed_value_info *root = &exec->graph->values[exec->graph->values[v].root];
        call->in[i] = address(exec, v);
        call->version[i] = root->storage == ED_PARAM ? exec->sets[root->set].version : 0;
    }
    for (int i = 0; i < ED_MAX_OUTPUTS; i++)
        if (call->node->out[i] != ED_NONE) call->out[i] = address(exec, call->node->out[i]);
    call->packed = NULL; /* may be of another version */
}

/* By the type of the node; NULL where the backend has none. */
static const ed_kernel *kernel_of(const ed_exec *exec, const ed_node *node)
{
    const ed_backend *backend = exec->backend;
    const ed_kernel *plain = backend->kernels[node->op];
    if (ed_op_type(exec->graph, node) != ED_BF16) return plain;
    if (backend->bf16[node->op]) return backend->bf16[node->op];
    return plain && backend->widen ? &ed_widened : NULL;
}

/* Bytes of scratch and the state of one call. */
static encdiff_status prepare_call(ed_env *env, const ed_exec *exec, const ed_kernel *kernel, ed_call *call,
                                   size_t *scratch)
{
    *scratch = 0;
    if (kernel == &ed_widened) {
        const ed_backend *b = exec->backend;
        ed_widening how = {b->kernels[call->node->op], b->widen, b->narrow};
        return ed_widened_create(env, &how, call->graph, call->node, scratch, &call->state);
    }
    if (exec->parts > 1 && kernel->part_scratch) {
        *scratch = kernel->part_scratch(call->graph, call->node, exec->parts);
        return ENCDIFF_OK;
    }
    if (kernel->prepare_on)
        return kernel->prepare_on(exec->backend, env, call->graph, call->node, scratch, &call->state);
    return kernel->prepare ? kernel->prepare(env, call->graph, call->node, scratch, &call->state) : ENCDIFF_OK;
}

/* A part's scratch begins at a line of the cache. */
static size_t part_size(const ed_exec *exec, const ed_node *node)
{
    return (size_t)node->scratch / (size_t)exec->parts;
}

static encdiff_status prepare(ed_env *env, ed_exec *exec)
{
    ed_graph *graph = exec->graph;
    for (size_t n = 0; n < graph->node_count; n++) {
        ed_node *node = &graph->nodes[n];
        const ed_kernel *kernel = kernel_of(exec, node);
        if (!kernel || !kernel->run)
            return ed_fail(env, ENCDIFF_ERROR_UNSUPPORTED, "operator %s in %s is not available on %s",
                           ed_op_describe(node->op)->name, ed_type_name(ed_op_type(graph, node)), exec->backend->name);
        size_t scratch;
        exec->calls[n].backend = exec->backend;
        exec->calls[n].graph = graph;
        exec->calls[n].node = node;
        exec->calls[n].parts = 1;
        ED_TRY(prepare_call(env, exec, kernel, &exec->calls[n], &scratch));
        scratch = (scratch + ED_ALIGNMENT - 1) / ED_ALIGNMENT * ED_ALIGNMENT;
        node->scratch = (int64_t)(scratch * (size_t)(kernel->parts ? exec->parts : 1));
    }
    return ENCDIFF_OK;
}

static void release_states(ed_exec *exec)
{
    for (size_t n = 0; exec->calls && n < exec->graph->node_count; n++) {
        const ed_kernel *kernel = kernel_of(exec, &exec->graph->nodes[n]);
        if (kernel && kernel->release && exec->calls[n].state) kernel->release(exec->env, exec->calls[n].state);
    }
}

/* Recordings have operands' addresses in them. */
static void forget_recordings(ed_exec *exec)
{
    for (int i = 0; i < MAX_RECORDINGS; i++) {
        recording *r = &exec->recordings[i];
        if (r->made) exec->backend->forget(exec->backend, exec->env, r->made);
        *r = (recording){.last = 0};
    }
}

/* Follow the workspace, which moves when executions come and go. */
static void follow_workspace(ed_exec *exec)
{
    if (exec->arena == exec->workspace->memory) return;
    exec->arena = exec->workspace->memory;
    forget_recordings(exec);
    for (size_t n = 0; n < exec->graph->node_count; n++) {
        resolve(exec, n);
        if (exec->plan.scratch[n] != SIZE_MAX) exec->calls[n].scratch = exec->arena + exec->plan.scratch[n];
    }
}

static encdiff_status create(ed_env *env, ed_backend *backend, ed_workspace *workspace, ed_graph *graph, int parts,
                             ed_exec **out)
{
    *out = NULL;
    if (graph->status != ENCDIFF_OK) return graph->status;
    encdiff_status status = ENCDIFF_ERROR_OUT_OF_MEMORY;
    ed_exec *exec = ed_alloc(env, 1, sizeof *exec);
    if (!exec) return status;
    exec->env = env;
    exec->backend = backend;
    exec->own.backend = backend;
    exec->workspace = workspace ? workspace : &exec->own;
    exec->graph = graph;
    exec->parts = parts;
    exec->calls = ed_alloc(env, graph->node_count, sizeof *exec->calls);
    exec->times = ed_alloc(env, graph->node_count, sizeof *exec->times);
    if (!exec->calls || !exec->times) goto fail;
    ED_TRY_OR_FAIL(prepare(env, exec));
    ED_TRY_OR_FAIL(ed_plan_create(env, graph, &exec->plan));
    exec->user.bytes = ED_MAX(exec->plan.arena, 1);
    ED_TRY_OR_FAIL(ed_workspace_join(env, exec->workspace, &exec->user));
    follow_workspace(exec);
    *out = exec;
    return ENCDIFF_OK;
fail:
    ed_exec_free(exec);
    return status;
}

encdiff_status ed_exec_create(ed_env *env, ed_backend *backend, ed_graph *graph, ed_exec **out)
{
    return create(env, backend, NULL, graph, 1, out);
}

encdiff_status ed_exec_create_parts(ed_env *env, ed_backend *backend, ed_graph *graph, int parts, ed_exec **out)
{
    return create(env, backend, NULL, graph, parts, out);
}

encdiff_status ed_exec_create_in(ed_env *env, ed_workspace *workspace, ed_graph *graph, int parts, ed_exec **out)
{
    return create(env, workspace->backend, workspace, graph, parts, out);
}

encdiff_status ed_exec_plan_only(ed_env *env, ed_backend *backend, ed_graph *graph, ed_plan *plan)
{
    *plan = (ed_plan){0};
    if (graph->status != ENCDIFF_OK) return graph->status;
    ed_exec exec = {.env = env, .backend = backend, .graph = graph, .parts = 1};
    exec.calls = ed_alloc(env, graph->node_count, sizeof *exec.calls);
    if (!exec.calls) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    encdiff_status status = prepare(env, &exec);
    release_states(&exec);
    ed_free(env, exec.calls);
    return status == ENCDIFF_OK ? ed_plan_create(env, graph, plan) : status;
}

void ed_exec_free(ed_exec *exec)
{
    if (!exec) return;
    ed_env *env = exec->env;
    forget_recordings(exec);
    release_states(exec);
    ed_workspace_leave(env, exec->workspace, &exec->user);
    ed_plan_free(env, &exec->plan);
    ed_free(env, exec->times);
    ed_free(env, exec->calls);
    ed_free(env, exec);
}

void ed_exec_bind(ed_exec *exec, int set, float *values, float *grads, uint64_t version)
{
    follow_workspace(exec);
    binding *b = &exec->sets[set];
    if (b->values == values && b->grads == grads && b->version == version) return;
    if (b->values != values || b->grads != grads) forget_recordings(exec);
    *b = (binding){values, grads, version};
    for (size_t n = 0; n < exec->graph->node_count; n++) resolve(exec, n);
}

encdiff_status ed_exec_pack(ed_env *env, ed_exec *exec, ed_packs *packs)
{
    for (size_t n = 0; n < exec->graph->node_count; n++) {
        ed_call *call = &exec->calls[n];
        const ed_kernel *kernel = kernel_of(exec, call->node);
        const ed_packing *packing = kernel->packing ? kernel->packing(exec->graph, call->node) : NULL;
        const ed_value_info *v = packing ? &exec->graph->values[call->node->in[1]] : NULL;
        const ed_value_info *root = v ? &exec->graph->values[v->root] : NULL;
        if (!root || root->storage != ED_PARAM || !call->in[1]) continue;
        ed_pack_key key = {packing, root->set, root->offset, v->shape};
        ED_TRY(ed_packs_get(env, packs, &key, call->in[1], call->version[1], &call->packed));
    }
    return ENCDIFF_OK;
}

/* The first node whose stored operand has no buffer, or -1. Checked once a run, before anything is computed. */
static encdiff_status check_bound(ed_env *env, const ed_exec *exec)
{
    for (size_t i = 0; i < exec->graph->value_count; i++) {
        const ed_value_info *v = &exec->graph->values[i];
        bool missing = (v->storage == ED_PARAM && !exec->sets[v->set].values) ||
                       (v->storage == ED_GRAD && !exec->sets[v->set].grads);
        if (missing)
            return ed_fail(env, ENCDIFF_ERROR_INTERNAL, "parameter set %d, %s, is not bound", v->set,
                           v->name ? v->name : "?");
    }
    return ENCDIFF_OK;
}

static const ed_run plain = {0};

/* Keep the first failure, with the node's place before its message. */
static void note_failure(ed_env *env, encdiff_status status, size_t n, const ed_node *node, encdiff_status *first)
{
    if (status == ENCDIFF_OK || *first != ENCDIFF_OK) return;
    *first = status;
    ed_fail_within(env, "node %zu, operator %s", n, ed_op_describe(node->op)->name);
}

/* With the time that it took, on a device until it has finished. */
static encdiff_status run_timed(ed_exec *exec, ed_call *call, size_t n)
{
    double start = ed_now();
    encdiff_status status = kernel_of(exec, call->node)->run(call);
    if (!exec->backend->host_memory && status == ENCDIFF_OK)
        status = exec->backend->synchronise(exec->backend, call->env);
    exec->times[n] += ed_now() - start;
    return status;
}

static encdiff_status run_nodes(ed_env *env, ed_exec *exec, const ed_run *run, int first, int last)
{
    encdiff_status result = ENCDIFF_OK;
    ed_env later; /* where failures after the first are recorded */
    ed_env_child(&later, env);
    for (int n = first; n < last; n++) {
        ed_call *call = &exec->calls[n];
        if (call->node->op == ED_OP_RESHAPE) continue;
        call->env = result == ENCDIFF_OK ? env : &later;
        call->run = run;
        encdiff_status status = exec->profile ? run_timed(exec, call, (size_t)n)
                                              : kernel_of(exec, call->node)->run(call);
        note_failure(env, status, (size_t)n, call->node, &result);
    }
    return result;
}

static recording *find_recording(ed_exec *exec, int first, int last, bool *first_time)
{
    *first_time = false;
    for (int i = 0; i < MAX_RECORDINGS; i++) {
        recording *r = &exec->recordings[i];
        if (r->last == last && r->first == first) return r;
        if (r->last) continue;
        *first_time = true;
        *r = (recording){first, last, NULL};
        return r;
    }
    return NULL;
}

/* On failure nothing was done and nothing is owned. */
static encdiff_status make_recording(ed_env *env, ed_exec *exec, const ed_run *run, recording *r)
{
    ed_backend *b = exec->backend;
    ED_TRY(b->record(b, env));
    encdiff_status status = run_nodes(env, exec, run, r->first, r->last);
    ed_env later;
    ed_env_child(&later, env);
    encdiff_status ended = b->recorded(b, status == ENCDIFF_OK ? env : &later, &r->made);
    if (status == ENCDIFF_OK) return ended;
    if (r->made) b->forget(b, env, r->made);
    r->made = NULL;
    return status;
}

/*
 * The first run is a plain one, in which libraries do what they do once; the second is recorded, and replayed from
 * then on. Where recording fails, which is said, the runs are plain ones.
 */
static encdiff_status run_recorded(ed_env *env, ed_exec *exec, const ed_run *run, int first, int last)
{
    bool first_time;
    recording *r = find_recording(exec, first, last, &first_time);
    if (!r || first_time) return run_nodes(env, exec, run, first, last);
    if (!r->made) {
        ed_env later;
        ed_env_child(&later, env);
        if (make_recording(&later, exec, run, r) != ENCDIFF_OK) {
            ed_log(env, ED_LOG_WARNING, "a run is not recorded: %s", later.message);
            exec->unrecorded = true;
            return run_nodes(env, exec, run, first, last);
        }
        ed_log(env, ED_LOG_INFO, "a run of %d operators is recorded", last - first);
    }
    return exec->backend->replay(exec->backend, env, r->made);
}

encdiff_status ed_exec_run(ed_env *env, ed_exec *exec, const ed_run *run, int first, int last)
{
    if (last < 0) last = (int)exec->graph->node_count;
    ED_TRY(check_bound(env, exec));
    follow_workspace(exec);
    run = run ? run : &plain;
    ed_backend *backend = exec->backend;
    if (backend->begin) ED_TRY(backend->begin(backend, env, run));
    bool plain_run = !backend->record || exec->unrecorded || exec->profile || first == last;
    encdiff_status result = plain_run ? run_nodes(env, exec, run, first, last)
                                      : run_recorded(env, exec, run, first, last);
    if (!backend->end) return result;
    encdiff_status ended = backend->end(backend, env);
    return result == ENCDIFF_OK ? ended : result;
}

encdiff_status ed_exec_run_part(ed_env *env, ed_exec *exec, int part, ed_comm *comm)
{
    ED_TRY(check_bound(env, exec)); /* the same for all parts */
    encdiff_status result = ENCDIFF_OK;
    ed_env later;
    ed_env_child(&later, env);
    for (size_t n = 0; n < exec->graph->node_count; n++) {
        ed_call call = exec->calls[n];
        const ed_kernel *kernel = kernel_of(exec, call.node);
        if (call.node->op == ED_OP_RESHAPE) continue;
        call.env = result == ENCDIFF_OK ? env : &later;
        call.run = &plain;
        if (kernel->parts) {
            call.part = part;
            call.parts = exec->parts;
            if (call.scratch) call.scratch = (char *)call.scratch + (size_t)part * part_size(exec, call.node);
        }
        double start = exec->profile && part == 0 ? ed_now() : 0;
        if (part == 0 || kernel->parts) note_failure(env, kernel->run(&call), n, call.node, &result);
        comm->barrier(comm);
        if (exec->profile && part == 0) exec->times[n] += ed_now() - start;
    }
    return result;
}

void *ed_exec_data(ed_exec *exec, ed_value value)
{
    follow_workspace(exec);
    return address(exec, value);
}

static encdiff_status check_size(ed_env *env, const ed_exec *exec, ed_value value, size_t bytes)
{
    const ed_value_info *v = &exec->graph->values[value];
    size_t has = (size_t)ed_shape_count(&v->shape) * ed_type_size(v->type);
    if (bytes <= has) return ENCDIFF_OK;
    return ed_fail(env, ENCDIFF_ERROR_INTERNAL, "%s: %zu bytes for a value of %zu", v->name ? v->name : "a value",
                   bytes, has);
}

encdiff_status ed_exec_write(ed_env *env, ed_exec *exec, ed_value value, const void *host, size_t bytes)
{
    ED_TRY(check_size(env, exec, value, bytes));
    return exec->backend->upload(exec->backend, env, ed_exec_data(exec, value), host, bytes);
}

encdiff_status ed_exec_read(ed_env *env, ed_exec *exec, ed_value value, void *host, size_t bytes)
{
    ED_TRY(check_size(env, exec, value, bytes));
    return exec->backend->download(exec->backend, env, host, ed_exec_data(exec, value), bytes);
}

const ed_plan *ed_exec_plan(const ed_exec *exec) { return &exec->plan; }

const ed_graph *ed_exec_graph(const ed_exec *exec) { return exec->graph; }

void ed_exec_profile(ed_exec *exec, bool on)
{
    exec->profile = on;
    if (on) memset(exec->times, 0, exec->graph->node_count * sizeof *exec->times);
}

const double *ed_exec_times(const ed_exec *exec) { return exec->profile ? exec->times : NULL; }
