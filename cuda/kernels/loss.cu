/*
 * Losses per image, of f32:
 *
 *   difference_loss   loss[n] = mean of |x - y| or (x - y)^2      difference_loss_grad   dx = dloss[n] f' / items
 *   mean_loss         loss[n] = mean of f(x), see ed_mean_kind    mean_loss_grad         dx = dloss[n] f' / items
 *
 * x, y, dx (N, ...); loss, dloss (N). All =; dx may be x. The gradient of difference_loss goes to x only. A block sums
 * an image: threads their share, then the block in a fixed order.
 */
#include "cuda/kernels/items.h"
#include "cuda/kernels/reduce.h"

/* ---------------------------------------------------------------- what is averaged */

struct difference_of {
    bool squares;
    __device__ float operator()(float x, float y) const
    {
        float off = x - y;
        return squares ? off * off : fabsf(off);
    }
};

/* log(1 + exp(x)) without overflow */
__device__ static inline float softplus(float x) { return (x > 0 ? x : x != x ? x : 0) + log1pf(__expf(-fabsf(x))); }

struct mean_of {
    ed_mean_kind kind;
    __device__ float operator()(float x, float) const
    {
        switch (kind) {
        case ED_MEAN_NEGATIVE: return -x;
        case ED_MEAN_HINGE_REAL: return 1 - x < 0 ? 0 : 1 - x;
        case ED_MEAN_HINGE_FAKE: return 1 + x < 0 ? 0 : 1 + x;
        case ED_MEAN_SOFTPLUS_REAL: return softplus(-x);
        case ED_MEAN_SOFTPLUS_FAKE: return softplus(x);
        }
        return 0;
    }
};

struct difference_grad_of {
    bool squares;
    const float *dloss;
    float items, factor;
    __device__ void image(int64_t n) { factor = dloss[n] / items; }
    __device__ float operator()(float x, float y, int64_t) const
    {
        float off = x - y;
        return factor * (squares ? 2 * off : (float)(off > 0) - (float)(off < 0));
    }
};

struct mean_grad_of {
    ed_mean_kind kind;
    const float *dloss;
    float items, factor;
    __device__ void image(int64_t n) { factor = dloss[n] / items; }
    __device__ float operator()(float x, float, int64_t) const
    {
        switch (kind) {
        case ED_MEAN_NEGATIVE: return -factor;
        case ED_MEAN_HINGE_REAL: return x < 1 ? -factor : 0;
        case ED_MEAN_HINGE_FAKE: return x > -1 ? factor : 0;
        case ED_MEAN_SOFTPLUS_REAL: return -factor / (1 + __expf(x));
        case ED_MEAN_SOFTPLUS_FAKE: return factor / (1 + __expf(-x));
        }
        return 0;
    }
};

/* ---------------------------------------------------------------- the mean over an image */

#define BLOCK 256

/* out[n] = mean of f(x, y); packs: of four items that may be read at once; y may be nullptr */
template <class F>
__global__ void ED_THREADS(BLOCK)
    image_means(const float *x, const float *y, float *out, int64_t items, int64_t packs, F f)
{
    int64_t start = (int64_t)blockIdx.x * items;
    float sum = 0;
    for (int64_t p = threadIdx.x; p < packs; p += BLOCK) {
        float u[4], v[4] = {}, four = 0;
        ed_load_pack(x + start + p * 4, u);
        if (y) ed_load_pack(y + start + p * 4, v);
        for (int k = 0; k < 4; k++) four += f(u[k], v[k]);
        sum += four;
    }
    for (int64_t i = packs * 4 + threadIdx.x; i < items; i += BLOCK) sum += f(x[start + i], y ? y[start + i] : 0);
    sum = ed_sum_block<BLOCK>(sum);
    if (threadIdx.x == 0) out[blockIdx.x] = sum / (float)items;
}

template <class F> static encdiff_status launch_means(const ed_call *call, const float *x, const float *y, const F &f)
{
    int64_t images = ed_images(call), items = images ? ed_items(call) / images : 0;
    if (images * items == 0) return ENCDIFF_OK;
    return ED_LAUNCH(call, image_means<F>, (unsigned)images, BLOCK, 0, x, y, ed_out<float>(call, 0), items,
                     ed_wide(items, x, y) ? items / 4 : (int64_t)0, f);
}

/* ---------------------------------------------------------------- launchers */

static encdiff_status run_difference(const ed_call *call)
{
    difference_of f = {call->node->attr.difference.kind == ED_LOSS_L2};
    return launch_means(call, ed_in<float>(call, 0), ed_in<float>(call, 1), f);
}

static encdiff_status run_mean(const ed_call *call)
{
    mean_of f = {call->node->attr.mean.kind};
    return launch_means(call, ed_in<float>(call, 0), nullptr, f);
}

/* x y dloss -> dx */
static encdiff_status run_difference_grad(const ed_call *call)
{
    int64_t images = ed_images(call), items = images ? ed_items(call) / images : 0;
    difference_grad_of f = {call->node->attr.difference.kind == ED_LOSS_L2, ed_in<float>(call, 2), (float)items, 0};
    return ed_map<float>(call, ed_in<float>(call, 0), ed_in<float>(call, 1), ed_out<float>(call, 0), images, items, f);
}

/* x dloss -> dx */
static encdiff_status run_mean_grad(const ed_call *call)
{
    int64_t images = ed_images(call), items = images ? ed_items(call) / images : 0;
    mean_grad_of f = {call->node->attr.mean.kind, ed_in<float>(call, 1), (float)items, 0};
    return ed_map<float>(call, ed_in<float>(call, 0), nullptr, ed_out<float>(call, 0), images, items, f);
}

ED_CUDA_KERNEL(difference_loss, nullptr, run_difference);
ED_CUDA_KERNEL(difference_loss_grad, nullptr, run_difference_grad);
ED_CUDA_KERNEL(mean_loss, nullptr, run_mean);
ED_CUDA_KERNEL(mean_loss_grad, nullptr, run_mean_grad);
