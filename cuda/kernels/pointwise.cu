/*
 * Operators without neighbours. All shapes any; all =; y may be the first operand, dx of activation_grad may be dy.
 *
 *   activation       y = f(x)                   activation_grad   dx = f'(x) dy
 *   add              y = a + b                  scale             y = alpha x
 *   scale_by         y = s[0] x                 q_sample          y = k[n,0] x0 + k[n,1] noise
 *   zeros            y = 0                      convert           y = x as f32 or bf16, rounded to nearest even
 *
 * q_sample is equation 4 of Ho et al. 2020, with both factors in k (N, 2).
 */
#include "cuda/kernels/activate.h"
#include "cuda/kernels/items.h"

struct activation_of : ed_same_for_all {
    ed_activation kind;
    float slope;
    __device__ float operator()(float x, float, int64_t) const { return ed_activate(kind, slope, x); }
};

struct activation_grad_of : ed_same_for_all {
    ed_activation kind;
    float slope;
    __device__ float operator()(float x, float dy, int64_t) const { return dy * ed_activate_slope(kind, slope, x); }
};

struct sum_of : ed_same_for_all {
    __device__ float operator()(float a, float b, int64_t) const { return a + b; }
};

struct multiple_of : ed_same_for_all {
    float alpha;
    __device__ float operator()(float x, float, int64_t) const { return alpha * x; }
};

/* The factor is in device memory. */
struct product_of {
    const float *factor;
    float s;
    __device__ void image(int64_t) { s = factor[0]; }
    __device__ float operator()(float x, float, int64_t) const { return s * x; }
};

struct mixture_of {
    const float *factors;
    float k0, k1;
    __device__ void image(int64_t n) { k0 = factors[2 * n], k1 = factors[2 * n + 1]; }
    __device__ float operator()(float x0, float noise, int64_t) const { return k0 * x0 + k1 * noise; }
};

/* ---------------------------------------------------------------- launchers */

template <class T> static encdiff_status launch_activation(const ed_call *call)
{
    activation_of f;
    f.kind = call->node->attr.activation.kind;
    f.slope = call->node->attr.activation.slope;
    return ed_map<T>(call, ed_in<T>(call, 0), nullptr, ed_out<T>(call, 0), 1, ed_items(call), f);
}

template <class T> static encdiff_status launch_activation_grad(const ed_call *call)
{
    activation_grad_of f;
    f.kind = call->node->attr.activation.kind;
    f.slope = call->node->attr.activation.slope;
    return ed_map<T>(call, ed_in<T>(call, 0), ed_in<T>(call, 1), ed_out<T>(call, 0), 1, ed_items(call), f);
}

template <class T> static encdiff_status launch_add(const ed_call *call)
{
    return ed_map<T>(call, ed_in<T>(call, 0), ed_in<T>(call, 1), ed_out<T>(call, 0), 1, ed_items(call), sum_of());
}

template <class T> static encdiff_status launch_scale(const ed_call *call)
{
    multiple_of f;
    f.alpha = call->node->attr.scale.alpha;
    return ed_map<T>(call, ed_in<T>(call, 0), nullptr, ed_out<T>(call, 0), 1, ed_items(call), f);
}

template <class T> static encdiff_status launch_scale_by(const ed_call *call)
{
    product_of f = {ed_in<float>(call, 1), 0};
    return ed_map<T>(call, ed_in<T>(call, 0), nullptr, ed_out<T>(call, 0), 1, ed_items(call), f);
}

/* Of f32 alone, like all of the diffusion. */
static encdiff_status run_q_sample(const ed_call *call)
{
    mixture_of f = {ed_in<float>(call, 2), 0, 0};
    int64_t images = ed_images(call);
    if (images == 0) return ENCDIFF_OK;
    return ed_map<float>(call, ed_in<float>(call, 0), ed_in<float>(call, 1), ed_out<float>(call, 0), images,
                         ed_items(call) / images, f);
}

/* The type of x is the other one where there is something to convert. */
template <class From, class To>
static __global__ void ED_THREADS(ED_ITEM_THREADS) convert_items(const From *x, To *y, int64_t items, int64_t packs)
{
    int64_t me = (int64_t)blockIdx.x * ED_ITEM_THREADS + threadIdx.x, stride = (int64_t)gridDim.x * ED_ITEM_THREADS;
    for (int64_t p = me; p < packs; p += stride) {
        float v[4];
        ed_load_pack(x + p * 4, v);
        ed_store_pack(y + p * 4, v);
    }
    for (int64_t i = packs * 4 + me; i < items; i += stride) ed_store(y + i, ed_load(x + i));
}

template <class From, class To> static encdiff_status launch_convert(const ed_call *call)
{
    const From *x = ed_in<From>(call, 0);
    To *y = ed_out<To>(call, 0);
    int64_t items = ed_items(call), packs = ed_wide(0, x, y) ? items / 4 : 0;
    if (items == 0) return ENCDIFF_OK;
    return ED_LAUNCH(call, (convert_items<From, To>), ed_blocks(packs ? packs + 3 : items, ED_ITEM_THREADS),
                     ED_ITEM_THREADS, 0, x, y, items, packs);
}

template <class From> static encdiff_status launch_convert_from(const ed_call *call)
{
    return ed_out_type(call, 0) == ED_BF16 ? launch_convert<From, __nv_bfloat16>(call)
                                           : launch_convert<From, float>(call);
}

static encdiff_status run_convert(const ed_call *call)
{
    return ED_DISPATCH(ed_in_type(call, 0), launch_convert_from, call);
}

static encdiff_status run_activation(const ed_call *call)
{
    return ED_DISPATCH(ed_in_type(call, 0), launch_activation, call);
}
static encdiff_status run_activation_grad(const ed_call *call)
{
    return ED_DISPATCH(ed_in_type(call, 0), launch_activation_grad, call);
}
static encdiff_status run_add(const ed_call *call) { return ED_DISPATCH(ed_in_type(call, 0), launch_add, call); }
static encdiff_status run_scale(const ed_call *call) { return ED_DISPATCH(ed_in_type(call, 0), launch_scale, call); }
static encdiff_status run_scale_by(const ed_call *call)
{
    return ED_DISPATCH(ed_in_type(call, 0), launch_scale_by, call);
}
static encdiff_status run_zeros(const ed_call *call)
{
    size_t bytes = (size_t)ed_shape_count(ed_out_shape(call, 0)) * ed_type_size(ed_out_type(call, 0));
    return bytes ? call->backend->zero(call->backend, call->env, call->out[0], bytes) : ENCDIFF_OK;
}

/* Input and output are the same memory, and executors pass over it. */
static encdiff_status run_reshape(const ed_call *) { return ENCDIFF_OK; }

ED_CUDA_KERNEL(activation, nullptr, run_activation);
ED_CUDA_KERNEL(activation_grad, nullptr, run_activation_grad);
ED_CUDA_KERNEL(add, nullptr, run_add);
ED_CUDA_KERNEL(scale, nullptr, run_scale);
ED_CUDA_KERNEL(scale_by, nullptr, run_scale_by);
ED_CUDA_KERNEL(q_sample, nullptr, run_q_sample);
ED_CUDA_KERNEL(zeros, nullptr, run_zeros);
ED_CUDA_KERNEL(convert, nullptr, run_convert);
ED_CUDA_KERNEL(reshape, nullptr, run_reshape);
