/*
 * What the files of the attention kernels share. Small heads (attention_small.c) run fused in registers; large ones
 * (attention_large.c) through matrix products over blocks of queries. Neither stores all scores.
 *
 * q, y [n, l, c]; k, v [n, m, c]; head h has the channels h d .. h d + d - 1, d = c / heads; lse [n, heads, l].
 */
#ifndef ED_CPU_ATTENTION_H
#define ED_CPU_ATTENTION_H

#include "cpu/kernel.h"

typedef struct ed_attention {
    int64_t n, l, m, c, d, heads;
    float scale;
} ed_attention;

ED_INLINE ed_attention ed_attention_of(const ed_graph *graph, const ed_node *node)
{
    const ed_shape *q = &graph->values[node->in[0]].shape, *k = &graph->values[node->in[1]].shape;
    int64_t heads = node->attr.attention.heads;
    return (ed_attention){.n = q->dim[0],
                          .l = q->dim[1],
                          .m = k->dim[1],
                          .c = q->dim[2],
                          .d = q->dim[2] / heads,
                          .heads = heads,
                          .scale = node->attr.attention.scale};
}

/*
 * The queries of head `i` (counted over the batch) that a part of the call has: the queries of all heads, one head
 * behind the other in blocks of `block`, are divided.
 */
ED_INLINE ed_range ed_attention_queries(const ed_attention *a, const ed_call *call, int64_t block, int64_t i)
{
    int64_t blocks = (a->l + block - 1) / block;
    ed_range part = ed_call_range(call, a->n * a->heads * blocks, 1);
    int64_t first = ED_MAX(part.first - i * blocks, 0) * block, last = (part.last - i * blocks) * block;
    return (ed_range){ED_MIN(first, a->l), ED_MAX(ED_MIN(last, a->l), 0)};
}

/* From some head size on a matrix product on whole blocks is faster than the fused loops. It reads f32. */
ED_INLINE bool ed_attention_is_large(const ed_attention *a)
{
#ifdef ED_CPU_BF16
    (void)a;
    return false;
#else
    return a->d >= 96;
#endif
}

/* Bytes of scratch, and one call for the whole batch or the call's part of it. */
size_t ED_CPU(attention_small_scratch)(const ed_attention *a);
void ED_CPU(attention_small)(const ed_attention *a, const ed_call *call);
size_t ED_CPU(attention_small_grad_scratch)(const ed_attention *a);
void ED_CPU(attention_small_grad)(const ed_attention *a, const ed_call *call);
size_t ED_CPU(attention_small_map_scratch)(const ed_attention *a);
void ED_CPU(attention_small_map)(const ed_attention *a, const ed_call *call);

size_t ED_CPU(attention_large_scratch)(const ed_attention *a);
encdiff_status ED_CPU(attention_large)(const ed_attention *a, const ed_call *call);
size_t ED_CPU(attention_large_grad_scratch)(const ed_attention *a);
encdiff_status ED_CPU(attention_large_grad)(const ed_attention *a, const ed_call *call);

#endif
