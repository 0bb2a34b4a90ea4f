/*
 * Recomputation (Chen et al. 2016, Training Deep Nets with Sublinear Memory Cost). What the backward pass reads of the
 * forward pass is made again just before, by the same operators from the same operands, so with the same bits. What is
 * kept is what takes long to make: convolutions, attention, and linear layers that end a residual branch; the rest is
 * a step or two away from those.
 */
#include "graph/graph.h"

static bool made_again(const ed_node *node)
{
    switch (node->op) {
    case ED_OP_GROUP_NORM:
    case ED_OP_LAYER_NORM:
    case ED_OP_ACTIVATION:
    case ED_OP_GEGLU:
    case ED_OP_ADD_VECTOR:
    case ED_OP_CHANNEL_AFFINE:
    case ED_OP_CONCAT:
    case ED_OP_SLICE:
    case ED_OP_UPSAMPLE:
    case ED_OP_CONVERT:
    case ED_OP_RESHAPE: return true;
    case ED_OP_LINEAR: return node->in[3] == ED_NONE;
    default: return false;
    }
}

encdiff_status ed_graph_start_recomputing(ed_graph *graph)
{
    graph->again = ed_alloc(graph->env, graph->value_count, sizeof *graph->again);
    if (!graph->again) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    graph->again_count = graph->value_count;
    for (size_t i = 0; i < graph->again_count; i++) graph->again[i] = ED_NONE;
    return ENCDIFF_OK;
}

void ed_graph_stop_recomputing(ed_graph *graph)
{
    ed_free(graph->env, graph->again);
    graph->again = NULL;
    graph->again_count = 0;
}

ed_value ed_graph_again(ed_graph *graph, ed_value value)
{
    if (value < 0 || (size_t)value >= graph->again_count) return value; /* the backward pass's own */
    const ed_value_info *v = &graph->values[value];
    if (graph->again[value] != ED_NONE) return graph->again[value];
    if (v->node < 0 || v->output || !made_again(&graph->nodes[v->node])) return value;
    ed_node node = graph->nodes[v->node]; /* appending may move the nodes */
    ed_shape shape = v->shape;
    ed_value outputs[ED_MAX_OUTPUTS];
    ed_graph_node(graph, node.op, node.in, &node.attr, node.op == ED_OP_RESHAPE ? &shape : NULL, outputs);
    for (int k = 0; k < ed_op_describe(node.op)->outputs && graph->status == ENCDIFF_OK; k++)
        if (node.out[k] != ED_NONE) graph->again[node.out[k]] = outputs[k];
    return graph->status == ENCDIFF_OK ? graph->again[value] : ED_NONE;
}
