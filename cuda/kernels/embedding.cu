/*
 * timestep_embedding   e[n] = (cos(t f_0), .., cos(t f_h-1), sin(t f_0), .., sin(t f_h-1), 0 if D is odd),
 *                      f_i = 10000^(-i/h), h = D / 2      (Vaswani et al. 2017; Ho et al. 2020)
 *
 * t (N), e (N, D), =. Steps reach thousands, so that angles in f32 would be wrong in the fourth digit behind the
 * point: the number of turns is computed in f64 and its fraction alone goes on.
 */
#include "cuda/kernels/operand.h"

#define BLOCK 128

template <class T> __global__ void ED_THREADS(BLOCK) embed_timesteps(ed_operand t, T *e, int64_t n, int64_t dim)
{
    int64_t half = dim / 2, i = (int64_t)blockIdx.x * BLOCK + threadIdx.x;
    if (i >= n * (half + dim % 2)) return;
    int64_t image = i / (half + dim % 2), k = i % (half + dim % 2);
    T *row = e + image * dim;
    if (k == half) {
        ed_store(row + dim - 1, 0.0f);
        return;
    }
    double turns = t[image] * exp2(-13.28771237954945 * (double)k / (double)half) * 0.15915494309189535;
    float sine, cosine;
    sincospif(2 * (float)(turns - floor(turns)), &sine, &cosine);
    ed_store(row + k, cosine);
    ed_store(row + half + k, sine);
}

template <class T> static encdiff_status launch(const ed_call *call)
{
    int64_t n = ed_out_shape(call, 0)->dim[0], dim = ed_out_shape(call, 0)->dim[1], threads = n * (dim / 2 + dim % 2);
    if (threads == 0) return ENCDIFF_OK;
    return ED_LAUNCH(call, embed_timesteps<T>, (unsigned)((threads + BLOCK - 1) / BLOCK), BLOCK, 0,
                     ed_operand_of(call, 0), ed_out<T>(call, 0), n, dim);
}

static encdiff_status run(const ed_call *call) { return ED_DISPATCH(ed_out_type(call, 0), launch, call); }

ED_CUDA_KERNEL(timestep_embedding, nullptr, run);
