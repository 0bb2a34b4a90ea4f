/*
 * dropout   y = x / (1 - rate), or 0 where the item's uniform number is below the rate      (Srivastava et al. 2014)
 *
 * x, y (N, ...), =, y may be x. The number is that of item (first_image + n) * items + i in the stream of this step and
 * layer, so that shards, gradients and backends drop the same items. A thread takes the four items of one counter.
 */
#include "cuda/kernels/columns.h"
#include "cuda/kernels/random.h"

#define BLOCK 256

typedef struct dropout {
    int64_t count, items; /* of all images, of one */
    uint64_t stream;
    float rate, keep;
} dropout;

template <class T>
__global__ void ED_THREADS(BLOCK) dropout_items(const T *x, T *y, dropout d, const ed_cuda_run *run, bool aligned)
{
    uint64_t from = (uint64_t)(run->first_image * d.items), step = run->step * 4096 + d.stream, seed = run->seed;
    int before = (int)(from % 4); /* items of the first counter that belong to other images */
    int64_t counters = (d.count + before + 3) / 4, stride = (int64_t)gridDim.x * BLOCK;
    for (int64_t p = (int64_t)blockIdx.x * BLOCK + threadIdx.x; p < counters; p += stride) {
        uint4 w = ed_random_words(seed, ED_RANDOM_DROPOUT, step, from / 4 + (uint64_t)p);
        float unit[4] = {ed_unit(w.x), ed_unit(w.y), ed_unit(w.z), ed_unit(w.w)};
        int64_t first = p * 4 - before;
        if (aligned && before == 0 && first + 4 <= d.count) {
            float v[4];
            ed_load_pack(x + first, v);
            for (int k = 0; k < 4; k++) v[k] = unit[k] < d.rate ? 0 : v[k] * d.keep;
            ed_store_pack(y + first, v);
            continue;
        }
        for (int k = 0; k < 4; k++)
            if (first + k >= 0 && first + k < d.count)
                ed_store(y + first + k, unit[k] < d.rate ? 0.0f : ed_load(x + first + k) * d.keep);
    }
}

template <class T> static encdiff_status launch(const ed_call *call)
{
    const T *x = ed_in<T>(call, 0);
    T *y = ed_out<T>(call, 0);
    int64_t count = ed_shape_count(ed_in_shape(call, 0)), images = ed_in_shape(call, 0)->dim[0];
    float rate = call->node->attr.dropout.rate;
    if (count == 0) return ENCDIFF_OK;
    dropout d = {count, count / images, (uint64_t)call->node->attr.dropout.stream, rate, 1 / (1 - rate)};
    return ED_LAUNCH(call, dropout_items<T>, ed_blocks((count + 6) / 4, BLOCK), BLOCK, 0, x, y, d,
                     ed_cuda_device_run(call->backend), ed_wide(0, x, y));
}

static encdiff_status run(const ed_call *call) { return ED_DISPATCH(ed_in_type(call, 0), launch, call); }

ED_CUDA_KERNEL(dropout, nullptr, run);
