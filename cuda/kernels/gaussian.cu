/*
 * The latent of a KL autoencoder (Kingma and Welling 2014): moments (N, ..., 2C), noise, z (N, ..., C), kl (N) f32.
 *
 *   gaussian_sample        mean = moments[..., :C],  v = clamp(moments[..., C:], -30, 20),  z = mean + exp(v/2) noise
 *                          kl[n] = 1/2 sum over an image of (mean^2 + exp(v) - 1 - v)
 *   gaussian_sample_grad   dmean = dz + dkl mean,  dv = (dz noise exp(v/2) + dkl (exp(v) - 1)) / 2, zero where clamped
 *
 * All =; dz, dkl may be absent. Latents are small: a block per image, one item at a time.
 */
#include "cuda/kernels/reduce.h"

#define BLOCK 256
#define LOWEST (-30.0f)
#define HIGHEST 20.0f

__device__ static inline float clamped(float v) { return v < LOWEST ? LOWEST : v > HIGHEST ? HIGHEST : v; }

static __global__ void ED_THREADS(BLOCK)
    gaussian_sample(const float *moments, const float *noise, float *z, float *kl, int64_t items, int64_t channels)
{
    float sum = 0;
    for (int64_t i = threadIdx.x; i < items; i += BLOCK) {
        int64_t at = blockIdx.x * items + i, from = at / channels * 2 * channels + at % channels;
        float mean = moments[from], v = clamped(moments[from + channels]);
        z[at] = mean + expf(0.5f * v) * noise[at];
        sum += mean * mean + (expm1f(v) - v);
    }
    sum = ed_sum_block<BLOCK>(sum);
    if (threadIdx.x == 0) kl[blockIdx.x] = 0.5f * sum;
}

static __global__ void ED_THREADS(BLOCK)
    gaussian_sample_grad(const float *moments, const float *noise, const float *dz, const float *dkl, float *dmoments,
                         int64_t count, int64_t items, int64_t channels)
{
    int64_t stride = (int64_t)gridDim.x * BLOCK;
    for (int64_t at = (int64_t)blockIdx.x * BLOCK + threadIdx.x; at < count; at += stride) {
        int64_t from = at / channels * 2 * channels + at % channels;
        float mean = moments[from], v = moments[from + channels], kept = clamped(v);
        float d = dz ? dz[at] : 0.0f, d_kl = dkl ? dkl[at / items] : 0;
        float slope = 0.5f * (d * noise[at] * expf(0.5f * kept) + d_kl * expm1f(kept));
        dmoments[from] = d + d_kl * mean;
        dmoments[from + channels] = v < LOWEST || v > HIGHEST ? 0.0f : slope;
    }
}

static encdiff_status run(const ed_call *call)
{
    const ed_shape *shape = ed_in_shape(call, 1);
    int64_t count = ed_shape_count(shape), images = shape->dim[0];
    if (count == 0) return ENCDIFF_OK;
    return ED_LAUNCH(call, gaussian_sample, (unsigned)images, BLOCK, 0, ed_in<float>(call, 0), ed_in<float>(call, 1),
                     ed_out<float>(call, 0), ed_out<float>(call, 1), count / images, ed_shape_last(shape));
}

/* moments noise dz? dkl? -> dmoments */
static encdiff_status run_grad(const ed_call *call)
{
    const ed_shape *shape = ed_in_shape(call, 1);
    int64_t count = ed_shape_count(shape), images = shape->dim[0];
    if (count == 0) return ENCDIFF_OK;
    return ED_LAUNCH(call, gaussian_sample_grad, ed_blocks(count, BLOCK), BLOCK, 0, ed_in<float>(call, 0),
                     ed_in<float>(call, 1), ed_in<float>(call, 2), ed_in<float>(call, 3), ed_out<float>(call, 0), count,
                     count / images, ed_shape_last(shape));
}

ED_CUDA_KERNEL(gaussian_sample, nullptr, run);
ED_CUDA_KERNEL(gaussian_sample_grad, nullptr, run_grad);
