/*
 * Reverse-mode differentiation: the nodes are walked backwards, and each appends the operators that turn the gradients
 * of its outputs into contributions to the gradients of its inputs.
 */
#include "graph/graph.h"
#include "graph/build.h"

static encdiff_status reset(ed_graph *graph)
{
    ED_TRY(ed_reserve(graph->env, &graph->grads, &graph->grad_capacity, graph->value_count, sizeof *graph->grads));
    for (size_t i = 0; i < graph->grad_capacity; i++) graph->grads[i] = ED_NONE;
    return ENCDIFF_OK;
}

ed_value ed_graph_grad(const ed_graph *graph, ed_value value)
{
    return value >= 0 && (size_t)value < graph->grad_capacity ? graph->grads[value] : ED_NONE;
}

void ed_graph_add_grad(ed_graph *graph, ed_value value, ed_value contribution)
{
    if (graph->status != ENCDIFF_OK || contribution == ED_NONE || !ed_graph_needs_grad(graph, value)) return;
    ed_value *grad = &graph->grads[value];
    *grad = *grad == ED_NONE ? contribution : ed_add_values(graph, contribution, *grad);
}

ed_value ed_graph_take_grad(ed_graph *graph, ed_value value)
{
    ed_value grad = graph->grads[value];
    graph->grads[value] = ED_NONE;
    return grad;
}

static encdiff_status walk(ed_graph *graph, size_t from, size_t to)
{
    for (size_t i = from; i-- > to;) {
        ed_value out[ED_MAX_OUTPUTS];
        bool reached = false, wanted = false;
        for (int k = 0; k < ED_MAX_OUTPUTS; k++) {
            ed_value v = graph->nodes[i].out[k];
            out[k] = v == ED_NONE ? ED_NONE : graph->grads[v];
            reached |= out[k] != ED_NONE;
            wanted |= ed_graph_needs_grad(graph, v);
        }
        if (reached && wanted) ED_TRY(ed_op_gradient(graph, (int)i, out));
        if (graph->status != ENCDIFF_OK) return graph->status;
    }
    return ENCDIFF_OK;
}

encdiff_status ed_graph_backward(ed_graph *graph, int count, const ed_value *values, const ed_value *seeds)
{
    if (graph->status != ENCDIFF_OK) return graph->status;
    size_t nodes = graph->node_count;
    graph->status = reset(graph);
    for (int i = 0; i < count; i++) ed_graph_add_grad(graph, values[i], seeds[i]);
    if (graph->status == ENCDIFF_OK && graph->recompute) graph->status = ed_graph_start_recomputing(graph);
    if (graph->status == ENCDIFF_OK) graph->status = walk(graph, nodes, 0);
    ed_graph_stop_recomputing(graph);
    return graph->status;
}

ed_value ed_graph_gradient_at(ed_graph *graph, int count, const ed_value *values, const ed_value *seeds, ed_value stop)
{
    if (graph->status != ENCDIFF_OK) return ED_NONE;
    size_t nodes = graph->node_count;
    graph->status = reset(graph);
    for (int i = 0; i < count; i++) ed_graph_add_grad(graph, values[i], seeds[i]);
    if (graph->status == ENCDIFF_OK) graph->status = walk(graph, nodes, (size_t)graph->values[stop].node + 1);
    return graph->status == ENCDIFF_OK ? graph->grads[stop] : ED_NONE;
}
