/*
 * Losses that are means over an image: x, y [n, ...] -> loss [n].
 *
 *   difference_loss  |x - y| or (x - y)^2; its gradient sign(x - y) or 2 (x - y), over the count, goes to x
 *   mean_loss        f(x): -x; the hinges max(0, 1 - x), max(0, 1 + x) (Lim and Ye 2017); the non-saturating
 *                    log(1 + exp(-x)), log(1 + exp(x)) (Goodfellow et al. 2014)
 */
#include "cpu/kernel.h"

#define BLOCK 4096 /* elements that are summed in f32 lanes before the sum joins a double */

ED_INLINE ed_vec distance(ed_vec d, ed_loss_kind kind) { return kind == ED_LOSS_L1 ? ed_select(d < 0, -d, d) : d * d; }

ED_INLINE double sum_distances(const float *x, const float *y, int64_t count, ed_loss_kind kind)
{
    double total = 0;
    for (int64_t first = 0; first < count; first += BLOCK) {
        int64_t last = ED_MIN(first + BLOCK, count), i = first;
        ed_vec s = {0};
        for (; i + ED_LANES <= last; i += ED_LANES) s += distance(ed_load(x + i) - ed_load(y + i), kind);
        if (i < last) {
            int lanes = (int)(last - i);
            s += distance(ed_load_some(x + i, lanes) - ed_load_some(y + i, lanes), kind);
        }
        total += ed_sum_lanes(s);
    }
    return total;
}

static encdiff_status run_difference(const ed_call *call)
{
    const ed_shape *shape = ed_in_shape(call, 0);
    int64_t n = ed_images(shape), count = ed_per_image(shape);
    bool l1 = call->node->attr.difference.kind == ED_LOSS_L1;
    for (int64_t i = 0; i < n; i++) {
        const float *x = IN(0) + i * count, *y = IN(1) + i * count;
        double sum = l1 ? sum_distances(x, y, count, ED_LOSS_L1) : sum_distances(x, y, count, ED_LOSS_L2);
        OUT(0)[i] = (float)(sum / (double)count);
    }
    return ENCDIFF_OK;
}

static encdiff_status run_difference_grad(const ed_call *call)
{
    const ed_shape *shape = ed_in_shape(call, 0);
    int64_t n = ed_images(shape), count = ed_per_image(shape);
    for (int64_t i = 0; i < n; i++) {
        const float *x = IN(0) + i * count, *y = IN(1) + i * count;
        float *dx = OUT(0) + i * count, each = IN(2)[i] / (float)count;
        if (call->node->attr.difference.kind == ED_LOSS_L1) ED_VECTORISE for (int64_t j = 0; j < count; j++)
            {
                float d = x[j] - y[j];
                dx[j] = d > 0 ? each : d < 0 ? -each : d * each; /* 0, or NaN */
            }
        else
            ED_VECTORISE for (int64_t j = 0; j < count; j++) dx[j] = 2 * each * (x[j] - y[j]);
    }
    return ENCDIFF_OK;
}

const ed_kernel ED_CPU(difference_loss) = {.run = run_difference};
const ed_kernel ED_CPU(difference_loss_grad) = {.run = run_difference_grad};

/* ---------------------------------------------------------------- mean_loss. Logits are few: clarity before speed */

static double softplus(double x) { return ED_MAX(x, 0) + log1p(exp(-fabs(x))); }

static double value(ed_mean_kind kind, double x)
{
    switch (kind) {
    case ED_MEAN_HINGE_REAL: return x > 1 ? 0 : 1 - x;
    case ED_MEAN_HINGE_FAKE: return x < -1 ? 0 : 1 + x;
    case ED_MEAN_SOFTPLUS_REAL: return softplus(-x);
    case ED_MEAN_SOFTPLUS_FAKE: return softplus(x);
    default: return -x;
    }
}

static double slope(ed_mean_kind kind, double x)
{
    switch (kind) {
    case ED_MEAN_HINGE_REAL: return x < 1 ? -1 : 0;
    case ED_MEAN_HINGE_FAKE: return x > -1 ? 1 : 0;
    case ED_MEAN_SOFTPLUS_REAL: return -1 / (1 + exp(x));
    case ED_MEAN_SOFTPLUS_FAKE: return 1 / (1 + exp(-x));
    default: return -1;
    }
}

static encdiff_status run_mean(const ed_call *call)
{
    const ed_shape *shape = ed_in_shape(call, 0);
    int64_t n = ed_images(shape), count = ed_per_image(shape);
    for (int64_t i = 0; i < n; i++) {
        double sum = 0;
        for (int64_t j = 0; j < count; j++) sum += value(call->node->attr.mean.kind, IN(0)[i * count + j]);
        OUT(0)[i] = (float)(sum / (double)count);
    }
    return ENCDIFF_OK;
}

static encdiff_status run_mean_grad(const ed_call *call)
{
    const ed_shape *shape = ed_in_shape(call, 0);
    int64_t n = ed_images(shape), count = ed_per_image(shape);
    for (int64_t i = 0; i < n; i++) {
        double each = IN(1)[i] / (double)count;
        for (int64_t j = i * count; j < (i + 1) * count; j++)
            OUT(0)[j] = (float)(each * slope(call->node->attr.mean.kind, IN(0)[j]));
    }
    return ENCDIFF_OK;
}

const ed_kernel ED_CPU(mean_loss) = {.run = run_mean};
const ed_kernel ED_CPU(mean_loss_grad) = {.run = run_mean_grad};
