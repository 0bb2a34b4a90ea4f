/*
 * What puts time into a diffusion model.
 *
 *   timestep_embedding  t [n] -> e [n, dim]: cos(t f_i) then sin(t f_i), f_i = 10000^(-i / (dim/2)) (Vaswani et al.
 *                       2017; Ho et al. 2020); a last zero when dim is odd
 *   q_sample            x0, noise [n, ...], k [n, 2] -> k[:,0] x0 + k[:,1] noise (Ho et al. 2020, equation 4)
 */
#include "cpu/kernel.h"

/*
 * The frequencies and the angle are rounded to f32 as published: at t = 1000 the rounding moves the angle by 6e-5, and
 * networks were trained with exactly that.
 */
static float frequency(int64_t i, int64_t half)
{
    float exponent = -9.210340371976184f * (float)i / (float)half; /* ln 10000 */
    return (float)exp(exponent);
}

static encdiff_status run_timestep_embedding(const ed_call *call)
{
    int64_t n = ed_shape_count(ed_in_shape(call, 0));
    int64_t dim = ed_shape_last(&call->graph->values[call->node->out[0]].shape), half = dim / 2;
    for (int64_t i = 0; i < n; i++) {
        float *e = OUT(0) + i * dim;
        for (int64_t j = 0; j < half; j++) {
            float angle = IN(0)[i] * frequency(j, half);
            e[j] = (float)cos(angle);
            e[half + j] = (float)sin(angle);
        }
        if (dim % 2) e[dim - 1] = 0;
    }
    return ENCDIFF_OK;
}

static encdiff_status run_q_sample(const ed_call *call)
{
    const ed_shape *shape = ed_in_shape(call, 0);
    int64_t n = ed_images(shape), count = ed_per_image(shape);
    for (int64_t i = 0; i < n; i++) {
        const float *x0 = IN(0) + i * count, *noise = IN(1) + i * count;
        float *y = OUT(0) + i * count, signal = IN(2)[2 * i], spread = IN(2)[2 * i + 1];
        ED_VECTORISE for (int64_t j = 0; j < count; j++) y[j] = signal * x0[j] + spread * noise[j];
    }
    return ENCDIFF_OK;
}

const ed_kernel ED_CPU(timestep_embedding) = {.run = run_timestep_embedding};
const ed_kernel ED_CPU(q_sample) = {.run = run_q_sample};
