/*
 * SSIM, the structural similarity: Wang et al., "Image quality assessment: from error visibility to structural
 * similarity", IEEE TIP 2004. Gaussian window, zero padding, channel by channel, averaged over everything.
 */
#include <math.h>

#include "metrics/internal.h"

void ed_ssim_defaults(ed_ssim_options *options)
{
    *options = (ed_ssim_options){.window = 11, .sigma = 1.5, .k1 = 0.01, .k2 = 0.03, .low = 0, .high = 1};
}

/* How the planes that the window runs over lie in an image [c, h, w]. */
typedef struct layout {
    int64_t planes, rows, columns;
    int64_t plane_stride, row_stride, column_stride;
} layout;

static layout layout_of(int32_t c, int32_t h, int32_t w, bool published_axes)
{
    int64_t area = (int64_t)h * w;
    if (published_axes) return (layout){h, w, c, w, 1, area};
    return (layout){c, h, w, area, w, 1};
}

/* Work arrays of one plane. */
typedef struct planes {
    double *x, *y;   /* scaled to [0, 1] */
    double *row;     /* between the two passes */
    double *product; /* x x, y y, x y in turn */
    double *mean[2], *moment[3];
    double *window; /* [window] */
} planes;

/* One pass of the window along an axis of `length` items `step` apart, for `lines` lines `next` apart. */
static void filter_axis(const double *in, double *out, int64_t lines, int64_t next, int64_t length, int64_t step,
                        const double *window, int32_t size)
{
    for (int64_t line = 0; line < lines; line++)
        for (int64_t i = 0; i < length; i++) {
            double sum = 0;
            int64_t from = ED_MAX(0, size / 2 - i), to = ED_MIN(size, length - i + size / 2);
            for (int64_t k = from; k < to; k++) sum += window[k] * in[line * next + (i + k - size / 2) * step];
            out[line * next + i * step] = sum;
        }
}

static void filter(const planes *p, const double *in, double *out, const layout *l, int32_t size)
{
    filter_axis(in, p->row, l->columns, 1, l->rows, l->columns, p->window, size);
    filter_axis(p->row, out, l->rows, l->columns, l->columns, 1, p->window, size);
}

static void filter_product(const planes *p, const double *a, const double *b, double *out, const layout *l,
                           int32_t size)
{
    for (int64_t i = 0; i < l->rows * l->columns; i++) p->product[i] = a[i] * b[i];
    filter(p, p->product, out, l, size);
}

/* Sum over a plane of the similarity at every pixel. */
static double plane_sum(const planes *p, const layout *l, const ed_ssim_options *o)
{
    double c1 = o->k1 * o->k1, c2 = o->k2 * o->k2, sum = 0;
    filter(p, p->x, p->mean[0], l, o->window);
    filter(p, p->y, p->mean[1], l, o->window);
    filter_product(p, p->x, p->x, p->moment[0], l, o->window);
    filter_product(p, p->y, p->y, p->moment[1], l, o->window);
    filter_product(p, p->x, p->y, p->moment[2], l, o->window);
    for (int64_t i = 0; i < l->rows * l->columns; i++) {
        double mx = p->mean[0][i], my = p->mean[1][i];
        double vx = p->moment[0][i] - mx * mx, vy = p->moment[1][i] - my * my, both = p->moment[2][i] - mx * my;
        sum += (2 * mx * my + c1) * (2 * both + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2));
    }
    return sum;
}

static double image_ssim(const planes *p, const layout *l, const float *x, const float *y, const ed_ssim_options *o)
{
    double scale = 1 / (o->high - o->low), sum = 0;
    for (int64_t plane = 0; plane < l->planes; plane++) {
        for (int64_t r = 0; r < l->rows; r++)
            for (int64_t c = 0; c < l->columns; c++) {
                int64_t at = plane * l->plane_stride + r * l->row_stride + c * l->column_stride;
                p->x[r * l->columns + c] = ((double)x[at] - o->low) * scale;
                p->y[r * l->columns + c] = ((double)y[at] - o->low) * scale;
            }
        sum += plane_sum(p, l, o);
    }
    return sum / (double)(l->planes * l->rows * l->columns);
}

static encdiff_status planes_create(ed_env *env, planes *p, int64_t area, const ed_ssim_options *o, double **block)
{
    double sum = 0;
    *block = ed_alloc(env, 9, (size_t)area * sizeof **block);
    p->window = ed_alloc(env, (size_t)o->window, sizeof *p->window);
    if (!*block || !p->window) return env->status;
    double **members[] = {&p->x,       &p->y,         &p->row,       &p->product,  &p->mean[0],
                          &p->mean[1], &p->moment[0], &p->moment[1], &p->moment[2]};
    for (size_t i = 0; i < ED_COUNT(members); i++) *members[i] = *block + (int64_t)i * area;
    for (int32_t i = 0; i < o->window; i++) {
        double off = i - o->window / 2;
        sum += p->window[i] = exp(-off * off / (2 * o->sigma * o->sigma));
    }
    for (int32_t i = 0; i < o->window; i++) p->window[i] /= sum;
    return ENCDIFF_OK;
}

typedef struct job {
    const float *x, *y;
    int64_t size; /* of an image */
    layout layout;
    const ed_ssim_options *options;
    double *value; /* [n] */
} job;

static encdiff_status some_images(ed_env *env, void *argument, int rank, int64_t first, int64_t last)
{
    (void)rank;
    const job *j = argument;
    planes p = {0};
    double *block = NULL;
    encdiff_status status = planes_create(env, &p, j->layout.rows * j->layout.columns, j->options, &block);
    for (int64_t i = first; i < last && status == ENCDIFF_OK; i++) {
        j->value[i] = image_ssim(&p, &j->layout, j->x + i * j->size, j->y + i * j->size, j->options);
        if (!isfinite(j->value[i]))
            status = ed_fail(env, ENCDIFF_ERROR_NUMERIC, "image %lld has pixels that are not finite", (long long)i);
    }
    ed_free(env, block);
    ed_free(env, p.window);
    return status;
}

static encdiff_status check(ed_env *env, const ed_ssim_options *o)
{
    if (o->window < 1 || o->window % 2 == 0 || o->window > 4095)
        return ed_fail(env, ENCDIFF_ERROR_CONFIG, "SSIM: window %d is not an odd number of pixels", o->window);
    if (!(o->sigma > 0) || !(o->k1 > 0) || !(o->k2 > 0) || !(o->high > o->low))
        return ed_fail(env, ENCDIFF_ERROR_CONFIG,
                       "SSIM: sigma %g, k1 %g and k2 %g must be positive, low %g below high %g", o->sigma, o->k1, o->k2,
                       o->low, o->high);
    return ENCDIFF_OK;
}

encdiff_status ed_metric_ssim(ed_env *env, const ed_metric_run *run, const float *x, const float *y, int64_t n,
                              int32_t channels, int32_t height, int32_t width, const ed_ssim_options *options,
                              double *per_image, double *mean)
{
    ed_ssim_options defaults;
    ed_ssim_defaults(&defaults);
    const ed_ssim_options *o = options ? options : &defaults;
    ED_TRY(check(env, o));
    if (!x || !y) return ed_fail(env, ENCDIFF_ERROR_ARGUMENT, "images are NULL");
    if (n < 1 || channels < 1 || height < 1 || width < 1)
        return ed_fail(env, ENCDIFF_ERROR_SHAPE, "images [%lld, %d, %d, %d] cannot be compared", (long long)n, channels,
                       height, width);
    ED_TRY(ed_shape_check(env, &ED_SHAPE4(n, channels, height, width), ED_F64, "images"));
    double *value = ed_alloc(env, (size_t)n, sizeof *value), sum = 0;
    if (!value) return env->status;
    job j = {x, y, (int64_t)channels * height * width, layout_of(channels, height, width, o->published_axes), o, value};
    encdiff_status status = ed_metric_for(env, run, "SSIM", n, 8, some_images, &j);
    for (int64_t i = 0; i < n && status == ENCDIFF_OK; i++) {
        sum += value[i];
        if (per_image) per_image[i] = value[i];
    }
    if (mean && status == ENCDIFF_OK) *mean = sum / (double)n;
    ed_free(env, value);
    return status;
}
