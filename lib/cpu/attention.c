/*
 * Multi-head attention (Vaswani et al. 2017): s = scale q k^T, p = softmax(s), y = p v for every head, and
 * lse = log sum exp(s), from which the gradient recomputes p = exp(s - lse) (Dao et al. 2022).
 *
 * Gradient, with delta = sum_c dy y for every query:
 *   dp = dy v^T,  ds = p (dp - delta),  dq = scale ds k,  dk = scale ds^T q,  dv = p^T dy
 *
 * attention_map is p averaged over the heads. This file chooses between the two ways that attention.h names.
 */
#include "cpu/attention.h"

static encdiff_status prepare(ed_env *env, const ed_graph *graph, const ed_node *node, size_t *scratch, void **state)
{
    (void)env, (void)state;
    ed_attention a = ed_attention_of(graph, node);
    *scratch = ed_attention_is_large(&a) ? ED_CPU(attention_large_scratch)(&a) : ED_CPU(attention_small_scratch)(&a);
    return ENCDIFF_OK;
}

static encdiff_status run(const ed_call *call)
{
    ed_attention a = ed_attention_of(call->graph, call->node);
    if (ed_attention_is_large(&a)) return ED_CPU(attention_large)(&a, call);
    ED_CPU(attention_small)(&a, call);
    return ENCDIFF_OK;
}

static encdiff_status prepare_grad(ed_env *env, const ed_graph *graph, const ed_node *node, size_t *scratch,
                                   void **state)
{
    (void)env, (void)state;
    ed_attention a = ed_attention_of(graph, node);
    *scratch = ed_attention_is_large(&a) ? ED_CPU(attention_large_grad_scratch)(&a)
                                         : ED_CPU(attention_small_grad_scratch)(&a);
    return ENCDIFF_OK;
}

static encdiff_status run_grad(const ed_call *call)
{
    ed_attention a = ed_attention_of(call->graph, call->node);
    if (ed_attention_is_large(&a)) return ED_CPU(attention_large_grad)(&a, call);
    ED_CPU(attention_small_grad)(&a, call);
    return ENCDIFF_OK;
}

/* Maps are for looking at: the fused loops serve every head size. */
static encdiff_status prepare_map(ed_env *env, const ed_graph *graph, const ed_node *node, size_t *scratch,
                                  void **state)
{
    (void)env, (void)state;
    ed_attention a = ed_attention_of(graph, node);
    *scratch = ED_CPU(attention_small_map_scratch)(&a);
    return ENCDIFF_OK;
}

static encdiff_status run_map(const ed_call *call)
{
    ed_attention a = ed_attention_of(call->graph, call->node);
    ED_CPU(attention_small_map)(&a, call);
    return ENCDIFF_OK;
}

const ed_kernel ED_CPU(attention) = {.prepare = prepare, .run = run, .parts = true};
const ed_kernel ED_CPU(attention_grad) = {.prepare = prepare_grad, .run = run_grad};
const ed_kernel ED_CPU(attention_map) = {.prepare = prepare_map, .run = run_map};
