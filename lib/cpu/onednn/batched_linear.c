/* One linear layer per group: x[n,g,c] w[g,o,c] b[g,o] -> y[n,g,o]. A group's rows are g * c floats apart. */
#include "cpu/onednn/internal.h"

static ed_layer describe(const ed_graph *graph, ed_value x, ed_value y, int64_t *groups)
{
    const int64_t *xd = ed_graph_shape(graph, x)->dim, *yd = ed_graph_shape(graph, y)->dim;
    *groups = xd[1];
    return (ed_layer){
        .rows = xd[0], .in = xd[2], .out = yd[2], .ldx = xd[1] * xd[2], .ldy = yd[1] * yd[2], .ldw = xd[2]};
}

/* x w b -> y */
static encdiff_status run_batched_linear(const ed_call *call)
{
    int64_t groups;
    ed_layer l = describe(call->graph, call->node->in[0], call->node->out[0], &groups);
    const float *x = call->in[0], *w = call->in[1], *b = call->in[2];
    float *y = call->out[0];
    ed_range part = ed_call_range(call, groups, 1);
    for (int64_t k = part.first; k < part.last; k++)
        ED_TRY(ed_layer_forward(call->env, &l, x + k * l.in, w + k * l.out * l.in, b + k * l.out, NULL, y + k * l.out));
    return ENCDIFF_OK;
}

/* dy w -> dx */
static encdiff_status run_batched_linear_grad_input(const ed_call *call)
{
    int64_t groups;
    ed_layer l = describe(call->graph, call->node->out[0], call->node->in[0], &groups);
    const float *dy = call->in[0], *w = call->in[1];
    float *dx = call->out[0];
    for (int64_t k = 0; k < groups; k++, dy += l.out, w += l.out * l.in, dx += l.in)
        ED_TRY(ed_layer_grad_input(call->env, &l, dy, w, dx));
    return ENCDIFF_OK;
}

/* x dy dw+= db+= */
static encdiff_status run_batched_linear_grad_weight(const ed_call *call)
{
    int64_t groups;
    ed_layer l = describe(call->graph, call->node->in[0], call->node->in[1], &groups);
    const float *x = call->in[0], *dy = call->in[1];
    float *dw = call->in[2], *db = call->in[3];
    for (int64_t k = 0; k < groups; k++, x += l.in, dy += l.out, dw += l.out * l.in) {
        if (db) ed_layer_grad_bias(&l, dy, db + k * l.out);
        ED_TRY(ed_layer_grad_weight(call->env, &l, x, dy, dw, NULL));
    }
    return ENCDIFF_OK;
}

const ed_kernel ed_cpu_batched_linear = {.run = run_batched_linear, .parts = true};
const ed_kernel ed_cpu_batched_linear_grad_input = {.run = run_batched_linear_grad_input};
const ed_kernel ed_cpu_batched_linear_grad_weight = {.run = run_batched_linear_grad_weight};
