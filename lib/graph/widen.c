/* bf16 operands as f32 copies. */
#include "graph/widen.h"

static size_t aligned(size_t bytes) { return (bytes + ED_ALIGNMENT - 1) / ED_ALIGNMENT * ED_ALIGNMENT; }

static size_t count_of(const ed_graph *graph, ed_value value)
{
    return (size_t)ed_shape_count(ed_graph_shape(graph, value));
}

static bool is_copied(const ed_graph *graph, ed_value value)
{
    return value != ED_NONE && ed_graph_value(graph, value)->type == ED_BF16;
}

static size_t copy_size(const ed_graph *graph, ed_value value)
{
    return is_copied(graph, value) ? aligned(count_of(graph, value) * sizeof(float)) : 0;
}

/* Scratch: what the kernel asks for, then the copies. */
static size_t with_copies(size_t scratch, const ed_graph *graph, const ed_node *node)
{
    scratch = aligned(scratch);
    for (int i = 0; i < ED_MAX_INPUTS; i++) scratch += copy_size(graph, node->in[i]);
    for (int k = 0; k < ED_MAX_OUTPUTS; k++) scratch += copy_size(graph, node->out[k]);
    return scratch;
}

typedef struct widened {
    ed_widening how;
    void *state; /* the kernel's */
    size_t scratch;
} widened;

static void release(ed_env *env, void *state)
{
    widened *w = state;
    if (w->state && w->how.kernel->release) w->how.kernel->release(env, w->state);
    ed_free(env, w);
}

encdiff_status ed_widened_create(ed_env *env, const ed_widening *how, const ed_graph *graph, const ed_node *node,
                                 size_t *scratch, void **state)
{
    widened *w = ed_alloc(env, 1, sizeof *w);
    if (!w) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    w->how = *how;
    encdiff_status status = ENCDIFF_OK;
    if (how->kernel->prepare) status = how->kernel->prepare(env, graph, node, &w->scratch, &w->state);
    if (status != ENCDIFF_OK) {
        release(env, w);
        return status;
    }
    *scratch = with_copies(w->scratch, graph, node);
    *state = w;
    return ENCDIFF_OK;
}

static encdiff_status run(const ed_call *call)
{
    const widened *w = call->state;
    const ed_widening *how = &w->how;
    ed_call inner = *call;
    char *copy = (char *)call->scratch + aligned(w->scratch);
    inner.state = w->state;
    for (int i = 0; i < ED_MAX_INPUTS; i++) {
        ed_value value = call->node->in[i];
        if (!is_copied(call->graph, value)) continue;
        how->widen(call->in[i], (float *)copy, count_of(call->graph, value));
        inner.in[i] = copy;
        copy += copy_size(call->graph, value);
    }
    for (int k = 0; k < ED_MAX_OUTPUTS; k++) {
        if (!is_copied(call->graph, call->node->out[k])) continue;
        inner.out[k] = copy;
        copy += copy_size(call->graph, call->node->out[k]);
    }
    ED_TRY(how->kernel->run(&inner));
    for (int k = 0; k < ED_MAX_OUTPUTS; k++)
        if (is_copied(call->graph, call->node->out[k]))
            how->narrow(inner.out[k], call->out[k], count_of(call->graph, call->node->out[k]));
    return ENCDIFF_OK;
}

const ed_kernel ed_widened = {.run = run, .release = release};
