/*
 * The latent of a KL autoencoder (Kingma and Welling 2014): moments [n, h, w, 2c], noise [n, h, w, c].
 *
 *   mean = moments[..., :c],  logvar = clamp(moments[..., c:], -30, 20),  z = mean + exp(logvar/2) noise
 *   kl[n] = 0.5 sum (mean^2 + exp(logvar) - 1 - logvar)
 *
 * Gradient: dmean = dz + dkl mean,  dlogvar = dz noise exp(logvar/2)/2 + dkl (exp(logvar) - 1)/2, zero where clamped.
 * Latents are small, so that double precision costs nothing here.
 */
#include "cpu/kernel.h"

#define LOWEST (-30.0)
#define HIGHEST 20.0

static double clamp(double logvar) { return logvar < LOWEST ? LOWEST : logvar > HIGHEST ? HIGHEST : logvar; }

static encdiff_status run(const ed_call *call)
{
    const ed_shape *shape = ed_in_shape(call, 1);
    int64_t n = ed_images(shape), c = ed_shape_last(shape), positions = ed_per_image(shape) / c;
    for (int64_t i = 0; i < n; i++) {
        double kl = 0;
        for (int64_t p = i * positions; p < (i + 1) * positions; p++)
            for (int64_t j = 0; j < c; j++) {
                double mean = IN(0)[p * 2 * c + j], logvar = clamp(IN(0)[p * 2 * c + c + j]);
                if (OUT(0)) OUT(0)[p * c + j] = (float)(mean + exp(0.5 * logvar) * IN(1)[p * c + j]);
                kl += mean * mean + expm1(logvar) - logvar;
            }
        if (OUT(1)) OUT(1)[i] = (float)(0.5 * kl);
    }
    return ENCDIFF_OK;
}

static encdiff_status run_grad(const ed_call *call)
{
    const ed_shape *shape = ed_in_shape(call, 1);
    int64_t n = ed_images(shape), c = ed_shape_last(shape), positions = ed_per_image(shape) / c;
    for (int64_t i = 0; i < n; i++) {
        double dkl = IN(3) ? IN(3)[i] : 0;
        for (int64_t p = i * positions; p < (i + 1) * positions; p++)
            for (int64_t j = 0; j < c; j++) {
                const float *mean = IN(0) + p * 2 * c + j, *logvar = mean + c;
                float *dmean = OUT(0) + p * 2 * c + j, *dlogvar = dmean + c;
                double dz = IN(2) ? IN(2)[p * c + j] : 0, kept = clamp(*logvar);
                double slope = 0.5 * (dz * IN(1)[p * c + j] * exp(0.5 * kept) + dkl * expm1(kept));
                *dmean = (float)(dz + dkl * *mean);
                *dlogvar = *logvar < (float)LOWEST || *logvar > (float)HIGHEST ? 0 : (float)slope;
            }
    }
    return ENCDIFF_OK;
}

const ed_kernel ED_CPU(gaussian_sample) = {.run = run};
const ed_kernel ED_CPU(gaussian_sample_grad) = {.run = run_grad};
