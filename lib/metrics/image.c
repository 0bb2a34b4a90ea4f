/* Image metrics, pair by pair: mean squared error and peak signal-to-noise ratio. */
#include <math.h>

#include "metrics/internal.h"

static double mean_square(const float *x, const float *y, int64_t size)
{
    double sum = 0;
    for (int64_t i = 0; i < size; i++) {
        double off = (double)x[i] - (double)y[i];
        sum += off * off;
    }
    return sum / (double)size;
}

static encdiff_status check_images(ed_env *env, const float *x, const float *y, int64_t n, int64_t size)
{
    if (!x || !y) return ed_fail(env, ENCDIFF_ERROR_ARGUMENT, "images are NULL");
    if (n < 1 || size < 1)
        return ed_fail(env, ENCDIFF_ERROR_SHAPE, "%lld images of %lld numbers cannot be compared", (long long)n,
                       (long long)size);
    return ed_shape_check(env, &ED_SHAPE2(n, size), ED_F32, "images");
}

static encdiff_status compare(ed_env *env, const float *x, const float *y, int64_t n, int64_t size, double range,
                              double *per_image, double *mean)
{
    double sum = 0;
    ED_TRY(check_images(env, x, y, n, size));
    for (int64_t i = 0; i < n; i++) {
        double value = mean_square(x + i * size, y + i * size, size);
        ED_TRY(ed_check_cancel(env));
        if (!isfinite(value))
            return ed_fail(env, ENCDIFF_ERROR_NUMERIC, "image %lld has pixels that are not finite", (long long)i);
        if (range > 0) value = 10 * log10(range * range / value);
        if (per_image) per_image[i] = value;
        sum += value;
    }
    if (mean) *mean = sum / (double)n;
    return ENCDIFF_OK;
}

encdiff_status ed_metric_mse(ed_env *env, const float *x, const float *y, int64_t n, int64_t size, double *per_image,
                             double *mean)
{
    return compare(env, x, y, n, size, 0, per_image, mean);
}

encdiff_status ed_metric_psnr(ed_env *env, const float *x, const float *y, int64_t n, int64_t size, double range,
                              double *per_image, double *mean)
{
    if (!(range > 0))
        return ed_fail(env, ENCDIFF_ERROR_ARGUMENT, "PSNR needs a positive range of values, not %g", range);
    return compare(env, x, y, n, size, range, per_image, mean);
}
