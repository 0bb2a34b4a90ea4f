/*
 * activation       y = f(x)             activation_grad    dx = f'(x) dy
 *
 * f: relu, leaky_relu (slope below zero), silu x/(1 + e^-x), elu (e^x - 1 below zero). x, y, dy, dx of any shape; =.
 */
#include "cuda/gpu.h"

enum { BLOCK = 256 };

__device__ static inline float activate(ed_activation kind, float slope, float x)
{
    switch (kind) {
    case ED_ACT_RELU: return x > 0 ? x : 0;
    case ED_ACT_LEAKY_RELU: return x > 0 ? x : slope * x;
    case ED_ACT_SILU: return x / (1 + __expf(-x));
    case ED_ACT_ELU: return x > 0 ? x : expm1f(x);
    default: return x;
    }
}

__device__ static inline float derivative(ed_activation kind, float slope, float x)
{
    float s;
    switch (kind) {
    case ED_ACT_RELU: return x > 0;
    case ED_ACT_LEAKY_RELU: return x > 0 ? 1 : slope;
    case ED_ACT_SILU: s = 1 / (1 + __expf(-x)); return s * (1 + x * (1 - s));
    case ED_ACT_ELU: return x > 0 ? 1 : __expf(x);
    default: return 1;
    }
}

template <class T> __global__ void activation(ed_activation kind, float slope, int64_t count, const T *x, T *y)
{
    int64_t stride = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += stride)
        ed_store(y + i, activate(kind, slope, ed_load(x + i)));
}

template <class T>
__global__ void activation_grad(ed_activation kind, float slope, int64_t count, const T *x, const T *dy, T *dx)
{
    int64_t stride = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += stride)
        ed_store(dx + i, derivative(kind, slope, ed_load(x + i)) * ed_load(dy + i));
}

template <class T> static encdiff_status launch(const ed_call *call)
{
    ed_attributes attr = call->node->attr;
    int64_t count = ed_shape_count(ed_in_shape(call, 0));
    return ED_LAUNCH(call, activation<T>, ed_blocks(count, BLOCK), BLOCK, 0, attr.activation.kind,
                     attr.activation.slope, count, ed_in<T>(call, 0), ed_out<T>(call, 0));
}

template <class T> static encdiff_status launch_grad(const ed_call *call)
{
    ed_attributes attr = call->node->attr;
    int64_t count = ed_shape_count(ed_in_shape(call, 0));
    return ED_LAUNCH(call, activation_grad<T>, ed_blocks(count, BLOCK), BLOCK, 0, attr.activation.kind,
                     attr.activation.slope, count, ed_in<T>(call, 0), ed_in<T>(call, 1), ed_out<T>(call, 0));
}

static encdiff_status run(const ed_call *call) { return ED_DISPATCH(ed_in_type(call, 0), launch, call); }
static encdiff_status run_grad(const ed_call *call) { return ED_DISPATCH(ed_in_type(call, 0), launch_grad, call); }

ED_CUDA_KERNEL(activation, nullptr, run);
ED_CUDA_KERNEL(activation_grad, nullptr, run_grad);
