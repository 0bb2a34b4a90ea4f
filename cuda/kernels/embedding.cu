/*
 * timestep_embedding   e[n] = (cos(t f_0), .., cos(t f_h-1), sin(t f_0), .., sin(t f_h-1), 0 if D is odd),
 *                      f_i = 10000^(-i/h), h = D / 2      (Vaswani et al. 2017; Ho et al. 2020)
 *
 * t (N), e (N, D), =. Steps reach thousands, so that angles in f32 would be wrong in the fourth digit behind the
 * point: the number of turns is computed in f64 and its fraction alone goes on.
 */
#include "cuda/gpu.h"

#define BLOCK 128

static __global__ void ED_THREADS(BLOCK) embed_timesteps(const float *t, float *e, int64_t n, int64_t dim)
{
    int64_t half = dim / 2, i = (int64_t)blockIdx.x * BLOCK + threadIdx.x;
    if (i >= n * (half + dim % 2)) return;
    int64_t image = i / (half + dim % 2), k = i % (half + dim % 2);
    float *row = e + image * dim;
    if (k == half) {
        row[dim - 1] = 0;
        return;
    }
    double turns = t[image] * exp2(-13.28771237954945 * (double)k / (double)half) * 0.15915494309189535;
    float sine, cosine;
    sincospif(2 * (float)(turns - floor(turns)), &sine, &cosine);
    row[k] = cosine;
    row[half + k] = sine;
}

static encdiff_status run(const ed_call *call)
{
    int64_t n = ed_out_shape(call, 0)->dim[0], dim = ed_out_shape(call, 0)->dim[1], threads = n * (dim / 2 + dim % 2);
    if (threads == 0) return ENCDIFF_OK;
    return ED_LAUNCH(call, embed_timesteps, (unsigned)((threads + BLOCK - 1) / BLOCK), BLOCK, 0, ed_in<float>(call, 0),
                     ed_out<float>(call, 0), n, dim);
}

ED_CUDA_KERNEL(timestep_embedding, nullptr, run);
