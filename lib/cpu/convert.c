/*
 * Between f32 and bf16, the upper half of an f32: y = x, to bf16 rounded to nearest even. An operator, and what the
 * backend has for operators that have no kernel in bf16.
 */
#include "cpu/kernel.h"

void ED_CPU(widen)(const uint16_t *from, float *to, size_t count)
{
    const ed_bf16 *items = (const ed_bf16 *)from;
    size_t i = 0;
    for (; i + ED_LANES <= count; i += ED_LANES) ed_store(to + i, ed_load(items + i));
    for (; i < count; i++) to[i] = ed_get(items + i);
}

void ED_CPU(narrow)(const float *from, uint16_t *to, size_t count)
{
    ed_bf16 *items = (ed_bf16 *)to;
    size_t i = 0;
    for (; i + ED_LANES <= count; i += ED_LANES) ed_store(items + i, ed_load(from + i));
    for (; i < count; i++) ed_put(items + i, from[i]);
}

static encdiff_status run(const ed_call *call)
{
    ed_range part = ed_part_of_items(call);
    ed_type from = call->graph->values[call->node->in[0]].type, to = call->graph->values[call->node->out[0]].type;
    size_t count = (size_t)(part.last - part.first), size = ed_type_size(to);
    const char *x = (const char *)call->in[0] + (size_t)part.first * ed_type_size(from);
    char *y = (char *)call->out[0] + (size_t)part.first * size;
    if (from == to)
        memcpy(y, x, count * size);
    else if (to == ED_BF16)
        ED_CPU(narrow)((const float *)x, (uint16_t *)y, count);
    else
        ED_CPU(widen)((const uint16_t *)x, (float *)y, count);
    return ENCDIFF_OK;
}

const ed_kernel ED_CPU(convert) = {.run = run, .parts = true};
