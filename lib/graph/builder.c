/* Values and nodes. A graph is append-only; the first failure sticks, so that layers need no checks of their own. */
#include "graph/graph.h"

void ed_graph_init(ed_graph *graph, ed_env *env) { *graph = (ed_graph){.env = env}; }

void ed_graph_free(ed_graph *graph)
{
    if (!graph->env) return;
    ed_free(graph->env, graph->nodes);
    ed_free(graph->env, graph->values);
    ed_free(graph->env, graph->grads);
    *graph = (ed_graph){0};
}

static ed_value add_value(ed_graph *graph, const ed_value_info *info)
{
    if (graph->status == ENCDIFF_OK)
        graph->status = ed_shape_check(graph->env, &info->shape, info->type, info->name ? info->name : "a graph value");
    if (graph->status == ENCDIFF_OK)
        graph->status = ed_reserve(graph->env, &graph->values, &graph->value_capacity, graph->value_count + 1,
                                   sizeof *graph->values);
    if (graph->status != ENCDIFF_OK) return ED_NONE;
    ed_value value = (ed_value)graph->value_count++;
    graph->values[value] = *info;
    if (info->root == ED_NONE) graph->values[value].root = value;
    return value;
}

ed_value ed_graph_input(ed_graph *graph, const char *name, ed_shape shape, ed_type type, bool needs_grad)
{
    return add_value(graph, &(ed_value_info){.shape = shape,
                                             .type = type,
                                             .storage = ED_INPUT,
                                             .needs_grad = needs_grad,
                                             .root = ED_NONE,
                                             .node = -1,
                                             .name = name});
}

static ed_value find_stored(const ed_graph *graph, ed_storage storage, int set, size_t offset)
{
    for (size_t i = 0; i < graph->value_count; i++) {
        const ed_value_info *v = &graph->values[i];
        if (v->storage == storage && v->set == set && v->offset == offset) return (ed_value)i;
    }
    return ED_NONE;
}

ed_value ed_graph_param(ed_graph *graph, const char *name, ed_shape shape, int set, size_t offset, bool trainable)
{
    if (graph->status != ENCDIFF_OK) return ED_NONE;
    ed_value found = find_stored(graph, ED_PARAM, set, offset);
    if (found != ED_NONE) return found;
    return add_value(graph, &(ed_value_info){.shape = shape,
                                             .type = ED_F32,
                                             .storage = ED_PARAM,
                                             .needs_grad = trainable && graph->trainable[set],
                                             .root = ED_NONE,
                                             .set = set,
                                             .offset = offset,
                                             .node = -1,
                                             .name = name});
}

ed_value ed_graph_param_grad(ed_graph *graph, ed_value param)
{
    if (graph->status != ENCDIFF_OK || param == ED_NONE || !graph->values[param].needs_grad) return ED_NONE;
    ed_value_info info = graph->values[param];
    ed_value found = find_stored(graph, ED_GRAD, info.set, info.offset);
    if (found != ED_NONE) return found;
    info.storage = ED_GRAD;
    info.needs_grad = false;
    info.root = ED_NONE;
    return add_value(graph, &info);
}

void ed_graph_output(ed_graph *graph, ed_value value)
{
    if (graph->status == ENCDIFF_OK && value != ED_NONE) graph->values[value].output = true;
}

void ed_graph_train(ed_graph *graph, int set, bool trainable) { graph->trainable[set] = trainable; }

/* Whether a gradient can flow from the outputs of `op` at all. */
static bool differentiable(ed_op op)
{
    return op < ED_OP_CONV2D_GRAD_INPUT && op != ED_OP_ATTENTION_MAP && op != ED_OP_ADAPTIVE_WEIGHT &&
           op != ED_OP_ZEROS && op != ED_OP_TIMESTEP_EMBEDDING;
}

ed_value ed_graph_node(ed_graph *graph, ed_op op, const ed_value *in, const ed_attributes *attr, const ed_shape *shape,
                       ed_value *outputs)
{
    const ed_op_info *info = ed_op_describe(op);
    for (int i = 0; outputs && i < info->outputs; i++) outputs[i] = ED_NONE;
    if (graph->status != ENCDIFF_OK) return ED_NONE;
    ed_node node = {.op = op};
    bool needs_grad = false;
    for (int i = 0; i < ED_MAX_INPUTS; i++) {
        node.in[i] = i < info->inputs ? ed_graph_again(graph, in[i]) : ED_NONE;
        if (differentiable(op)) needs_grad |= ed_graph_needs_grad(graph, node.in[i]);
    }
    for (int i = 0; i < ED_MAX_OUTPUTS; i++) node.out[i] = ED_NONE;
    if (attr) node.attr = *attr;

    ed_shape shapes[ED_MAX_OUTPUTS];
    ed_type types[ED_MAX_OUTPUTS];
    for (int i = 0; i < ED_MAX_OUTPUTS; i++) shapes[i].rank = -1; /* absent, unless the rule sets it */
    graph->status = ed_op_infer(graph, &node, shape, shapes, types);
    if (graph->status == ENCDIFF_OK)
        graph->status = ed_reserve(graph->env, &graph->nodes, &graph->node_capacity, graph->node_count + 1,
                                   sizeof *graph->nodes);
    for (int i = 0; i < info->outputs && graph->status == ENCDIFF_OK; i++) {
        if (shapes[i].rank < 0) continue;
        ed_value root = op == ED_OP_RESHAPE ? graph->values[node.in[0]].root : ED_NONE;
        node.out[i] = add_value(
            graph, &(ed_value_info){.shape = shapes[i],
                                    .type = types[i],
                                    .storage = ED_TEMP,
                                    .needs_grad = needs_grad && (types[i] == ED_F32 || types[i] == ED_BF16),
                                    .root = root,
                                    .node = (int)graph->node_count,
                                    .name = info->name});
        if (outputs) outputs[i] = node.out[i];
    }
    if (graph->status != ENCDIFF_OK) return ED_NONE;
    graph->nodes[graph->node_count++] = node;
    return node.out[0];
}
