/*
 * Dropout (Srivastava et al. 2014): x [n, ...]; item i of image j is dropped when the uniform number of
 * (run.first_image + j) * items + i in the stream of this step and layer is below the rate; the others are divided by
 * 1 - rate. The numbers depend on global indices alone, so that shards and gradients drop the same items.
 */
#include "cpu/kernel.h"

#define BLOCK 1024 /* random numbers made at once */

static encdiff_status prepare(ed_env *env, const ed_graph *graph, const ed_node *node, size_t *scratch, void **state)
{
    (void)env, (void)graph, (void)node, (void)state;
    *scratch = BLOCK * sizeof(float);
    return ENCDIFF_OK;
}

static encdiff_status run(const ed_call *call)
{
    const ed_shape *shape = ed_in_shape(call, 0);
    int64_t count = ed_shape_count(shape), items = ed_per_image(shape);
    float rate = call->node->attr.dropout.rate, keep = 1 / (1 - rate), *uniform = call->scratch;
    uint64_t step = call->run->step * 4096 + (uint64_t)call->node->attr.dropout.stream;
    uint64_t from = (uint64_t)(call->run->first_image * items); /* images of a shard follow one another */
    for (int64_t first = 0; first < count; first += BLOCK) {
        int64_t size = ED_MIN(BLOCK, count - first);
        const ed_item *x = IN(0) + first;
        ed_item *y = OUT(0) + first;
        ed_fill_uniform(call->run->seed, ED_RANDOM_DROPOUT, step, from + (uint64_t)first, (size_t)size, uniform);
        ED_VECTORISE for (int64_t i = 0; i < size; i++) ed_put(y + i, uniform[i] < rate ? 0 : ed_get(x + i) * keep);
    }
    return ENCDIFF_OK;
}

const ed_kernel ED_CPU(dropout) = {.prepare = prepare, .run = run};
