/* The type rule of the operator table: one type for the activations of an operator, f32 for everything else. */
#include "graph/graph.h"

#define OUT(k) (1u << (ED_F32_OUTPUT + (k)))
#define ALL 0xffffffffu

uint32_t ed_op_f32_operands(ed_op op)
{
    switch (op) {
    case ED_OP_CONV2D:
    case ED_OP_LINEAR:
    case ED_OP_BATCHED_LINEAR: return 0x6;
    case ED_OP_GROUP_NORM:
    case ED_OP_LAYER_NORM: return 0x6 | OUT(1);
    case ED_OP_BATCH_NORM: return 0x1E | OUT(1);
    case ED_OP_ATTENTION: return OUT(1);
    case ED_OP_ATTENTION_MAP: return OUT(0); /* for looking at */
    case ED_OP_CHANNEL_AFFINE: return 0x6;
    case ED_OP_SCALE_BY: return 0x2;
    case ED_OP_TIMESTEP_EMBEDDING:
    case ED_OP_Q_SAMPLE:
    case ED_OP_DIFFERENCE_LOSS:
    case ED_OP_MEAN_LOSS:
    case ED_OP_QUANTIZE:
    case ED_OP_GAUSSIAN_SAMPLE:
    case ED_OP_ADAPTIVE_WEIGHT:
    case ED_OP_DIFFERENCE_LOSS_GRAD:
    case ED_OP_MEAN_LOSS_GRAD:
    case ED_OP_QUANTIZE_GRAD:
    case ED_OP_GAUSSIAN_SAMPLE_GRAD: return ALL;
    case ED_OP_LPIPS_DISTANCE: return 0x4 | OUT(0);
    case ED_OP_CONV2D_GRAD_INPUT:
    case ED_OP_LINEAR_GRAD_INPUT:
    case ED_OP_BATCHED_LINEAR_GRAD_INPUT: return 0x2;
    case ED_OP_CONV2D_GRAD_WEIGHT:
    case ED_OP_LINEAR_GRAD_WEIGHT:
    case ED_OP_BATCHED_LINEAR_GRAD_WEIGHT: return 0xC;
    case ED_OP_GROUP_NORM_GRAD: return 0xD6;
    case ED_OP_LAYER_NORM_GRAD: return 0x36;
    case ED_OP_BATCH_NORM_GRAD: return 0x6E;
    case ED_OP_ATTENTION_GRAD: return 0x10;
    case ED_OP_CHANNEL_SCALE: return 0x2;
    case ED_OP_LPIPS_DISTANCE_GRAD: return 0xC;
    default: return 0;
    }
}

/* The first operand is an activation wherever there is one. Conversions and zeros have one kernel for both types. */
ed_type ed_op_type(const ed_graph *graph, const ed_node *node)
{
    bool plain = node->op == ED_OP_CONVERT || node->op == ED_OP_ZEROS || ed_op_f32_operands(node->op) & 1;
    return plain ? ED_F32 : graph->values[node->in[0]].type;
}

static bool is_activation(ed_type type) { return type == ED_F32 || type == ED_BF16; }

static encdiff_status check_typed(ed_graph *graph, const ed_node *node)
{
    if (is_activation(node->attr.typed.type)) return ENCDIFF_OK;
    return ed_fail(graph->env, ENCDIFF_ERROR_INTERNAL, "operator %s, node %zu: it makes f32 or bf16, not %s",
                   ed_op_describe(node->op)->name, graph->node_count, ed_type_name(node->attr.typed.type));
}

encdiff_status ed_op_infer_types(ed_graph *graph, const ed_node *node, ed_type *types)
{
    uint32_t f32 = ed_op_f32_operands(node->op);
    ed_type type = ed_op_type(graph, node);
    bool typed = node->op == ED_OP_CONVERT || node->op == ED_OP_ZEROS;
    for (int i = 0; i < ED_MAX_INPUTS; i++) {
        if (node->in[i] == ED_NONE || node->op == ED_OP_RESHAPE) continue;
        ed_type has = graph->values[node->in[i]].type, wanted = f32 >> i & 1 ? ED_F32 : type;
        bool index = node->op == ED_OP_QUANTIZE_GRAD && i == 2;
        if (index ? has == ED_I32 : is_activation(has) && (has == wanted || typed)) continue;
        return ed_fail(graph->env, ENCDIFF_ERROR_INTERNAL, "operator %s, node %zu: input %d is %s, expected %s",
                       ed_op_describe(node->op)->name, graph->node_count, i, ed_type_name(has),
                       ed_type_name(index ? ED_I32 : wanted));
    }
    if (typed) ED_TRY(check_typed(graph, node));
    for (int k = 0; k < ED_MAX_OUTPUTS; k++) types[k] = f32 & OUT(k) ? ED_F32 : type;
    if (typed) types[0] = node->attr.typed.type;
    return ENCDIFF_OK;
}
