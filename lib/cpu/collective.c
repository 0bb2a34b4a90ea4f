/*
 * adaptive_weight (Esser et al. 2021, equation 7): the weight that balances the adversarial loss against the
 * reconstruction loss by their gradients at the last layer, over the whole batch:
 *
 *   w = factor * min(|A| / (|B| + 1e-4), 1e4),  A and B the sums of a and b over the ranks, any shapes
 */
#include "cpu/kernel.h"

static size_t count_of(const ed_graph *graph, ed_value value)
{
    return (size_t)ed_shape_count(&graph->values[value].shape);
}

static encdiff_status prepare(ed_env *env, const ed_graph *graph, const ed_node *node, size_t *scratch, void **state)
{
    (void)env, (void)state;
    *scratch = (count_of(graph, node->in[0]) + count_of(graph, node->in[1])) * sizeof(double);
    return ENCDIFF_OK;
}

static double norm(const double *x, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++) sum += x[i] * x[i];
    return sqrt(sum);
}

static encdiff_status run(const ed_call *call)
{
    size_t a = count_of(call->graph, call->node->in[0]), b = count_of(call->graph, call->node->in[1]);
    double *sums = call->scratch;
    for (size_t i = 0; i < a; i++) sums[i] = IN(0)[i];
    for (size_t i = 0; i < b; i++) sums[a + i] = IN(1)[i];
    ed_comm *comm = call->run ? call->run->comm : NULL;
    if (comm) comm->sum_f64(comm, call->run->rank, sums, a + b);
    double ratio = norm(sums, a) / (norm(sums + a, b) + 1e-4);
    OUT(0)[0] = (float)(IN(2)[0] * (ratio > 1e4 ? 1e4 : ratio));
    return ENCDIFF_OK;
}

const ed_kernel ED_CPU(adaptive_weight) = {.prepare = prepare, .run = run};
