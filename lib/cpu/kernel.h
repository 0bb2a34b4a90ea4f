/*
 * What the kernel files of this folder share: the names of a level, and the operands of a call.
 */
#ifndef ED_CPU_KERNEL_H
#define ED_CPU_KERNEL_H

#include "cpu/vector.h"
#include "graph/backend.h"

/* The suffix of this level's symbols: empty for the portable one, _avx2, _avx512; then _bf16. Set by the build. */
#ifndef ED_CPU_SUFFIX
#define ED_CPU_SUFFIX
#endif
#define ED_CPU_JOIN_(name, suffix) ed_cpu_##name##suffix
#define ED_CPU_JOIN(name, suffix) ED_CPU_JOIN_(name, suffix)
#define ED_CPU(name) ED_CPU_JOIN(name, ED_CPU_SUFFIX)

#define ED_CPU_OWN(id, name) extern const ed_kernel ED_CPU(name);
#define ED_CPU_ONEDNN(id, name)
#include "cpu/kernels.def"
#define ED_CPU_BOTH(id, name) extern const ed_kernel ED_CPU(name);
#include "cpu/kernels_bf16.def"
#undef ED_CPU_BOTH
void ED_CPU(widen)(const uint16_t *from, float *to, size_t count);
void ED_CPU(narrow)(const float *from, uint16_t *to, size_t count);
#undef ED_CPU_OWN
#undef ED_CPU_ONEDNN

/* A number of an activation. Kernels read and write them with ed_load, ed_get and the like and compute in f32. */
#ifdef ED_CPU_BF16
typedef ed_bf16 ed_item;
#else
typedef float ed_item;
#endif

/* Operand i, NULL where it is absent: an activation, and what is f32 always (ed_op_f32_operands). */
#define IN(i) ((ed_item *)call->in[i])
#define OUT(i) ((ed_item *)call->out[i])
#define IN_F32(i) ((float *)call->in[i])
#define OUT_F32(i) ((float *)call->out[i])

ED_INLINE const ed_shape *ed_in_shape(const ed_call *call, int i)
{
    return &call->graph->values[call->node->in[i]].shape;
}

/* Shapes seen as [images, positions, channels]. */
ED_INLINE int64_t ed_images(const ed_shape *shape) { return shape->dim[0]; }
ED_INLINE int64_t ed_per_image(const ed_shape *shape)
{
    int64_t count = 1;
    for (int i = 1; i < shape->rank; i++) count *= shape->dim[i];
    return count;
}

/* What the call computes of the rows of operand 0, and of its items one by one. */
ED_INLINE ed_range ed_part_of_rows(const ed_call *call)
{
    return ed_call_range(call, ed_shape_rows(ed_in_shape(call, 0)), 1);
}
ED_INLINE ed_range ed_part_of_items(const ed_call *call)
{
    return ed_call_range(call, ed_shape_count(ed_in_shape(call, 0)), 16);
}

/* Scratch memory as a row of arrays, each 64-byte aligned: the same calls in prepare() measure it and in run() cut it.
 */
ED_INLINE size_t ed_cut_size(size_t count, size_t size) { return (count * size + 63) & ~(size_t)63; }
ED_INLINE void *ed_cut(char **scratch, size_t count, size_t size)
{
    void *piece = *scratch;
    *scratch += ed_cut_size(count, size);
    return piece;
}

#endif
