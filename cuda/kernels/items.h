/*
 * Maps of one or two tensors item by item, y[i] = f(a[i], b[i]), by images where f depends on the image. Four items a
 * thread with 16-byte access as far as that goes, the rest one by one.
 *
 * F is passed by value and has
 *     __device__ void image(int64_t image)                        before the first item of an image
 *     __device__ float operator()(float a, float b, int64_t i)    i: of the item in its image; b is 0 where not given
 */
#ifndef ED_CUDA_ITEMS_H
#define ED_CUDA_ITEMS_H

#include "cuda/kernels/columns.h"

#define ED_ITEM_THREADS 256
#define ED_ITEM_DEPTH 4 /* packs of a thread, unless there are too many */

/* wide: whole packs of an image that may be taken at once; y may be a or b. */
template <class T, class F>
__global__ void ED_THREADS(ED_ITEM_THREADS)
    ed_map_items(const T *a, const T *b, T *y, int64_t items, int64_t wide, unsigned blocks, F f)
{
    int64_t image = blockIdx.x / blocks, start = image * items,
            me = (int64_t)(blockIdx.x % blocks) * ED_ITEM_THREADS + threadIdx.x,
            stride = (int64_t)blocks * ED_ITEM_THREADS;
    f.image(image);
    for (int64_t p = me; p < wide; p += stride) {
        float u[4], v[4] = {};
        ed_load_pack(a + start + p * 4, u);
        if (b) ed_load_pack(b + start + p * 4, v);
        for (int k = 0; k < 4; k++) u[k] = f(u[k], v[k], p * 4 + k);
        ed_store_pack(y + start + p * 4, u);
    }
    for (int64_t i = wide * 4 + me; i < items; i += stride)
        ed_store(y + start + i, f(ed_load(a + start + i), b ? ed_load(b + start + i) : 0.0f, i));
}

template <class T, class F>
static inline encdiff_status ed_map(const ed_call *call, const T *a, const T *b, T *y, int64_t images, int64_t items,
                                    const F &f)
{
    if (images * items == 0) return ENCDIFF_OK;
    bool aligned = ed_wide(images == 1 ? 0 : items, a, b, y);
    int64_t wide = aligned ? items / 4 : 0, each = ED_ITEM_THREADS * ED_ITEM_DEPTH;
    unsigned blocks = ed_blocks(aligned ? (items + 3) / 4 : items, each, ED_MAX(132 * 16 / images, 1));
    return ED_LAUNCH(call, (ed_map_items<T, F>), (unsigned)(images * blocks), ED_ITEM_THREADS, 0, a, b, y, items, wide,
                     blocks, f);
}

/* The items of a node's first operand, as one image. */
static inline int64_t ed_items(const ed_call *call) { return ed_shape_count(ed_in_shape(call, 0)); }
static inline int64_t ed_images(const ed_call *call) { return ed_in_shape(call, 0)->dim[0]; }

/* For functions that do not depend on the image. */
struct ed_same_for_all {
    __device__ void image(int64_t) {}
};

#endif
