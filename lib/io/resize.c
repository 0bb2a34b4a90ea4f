/*
 * An output pixel is a weighted sum of the input pixels under a filter centred on it. When shrinking, the filter is
 * stretched by the ratio, which antialiases. Rows first, then columns; an axis that keeps its size is skipped.
 */
#include <math.h>

#include "io/resize.h"

enum { BITS = 22 }; /* 8 for the pixel, 2 for sums beyond white, the rest of an int for the coefficient */

/* ---------------------------------------------------------------- filters */

static double box(double x) { return x > -0.5 && x <= 0.5 ? 1 : 0; }

static double bilinear(double x)
{
    x = fabs(x);
    return x < 1 ? 1 - x : 0;
}

/* Keys 1981 with a = -0.5. */
static double bicubic(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

static double sinc(double x)
{
    const double pi = 3.14159265358979323846;
    return x == 0 ? 1 : sin(x * pi) / (x * pi);
}

static double lanczos(double x) { return x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0; }

static const struct {
    double (*value)(double);
    double support; /* the filter is 0 beyond */
} filters[] = {
    [ED_FILTER_BOX] = {box, 0.5},
    [ED_FILTER_BILINEAR] = {bilinear, 1},
    [ED_FILTER_BICUBIC] = {bicubic, 2},
    [ED_FILTER_LANCZOS] = {lanczos, 3},
};

/* ---------------------------------------------------------------- coefficients of one axis */

static void free_axis(ed_env *env, ed_axis *a)
{
    ed_free(env, a->first);
    ed_free(env, a->count);
    ed_free(env, a->taps);
    ed_free(env, a->weight);
}

static int32_t fixed(double weight)
{
    double scaled = weight * (1 << BITS);
    return (int32_t)(scaled < 0 ? scaled - 0.5 : scaled + 0.5);
}

static void make_taps(ed_axis *a, int at, double scale, double stretch, double support, double (*filter)(double))
{
    double centre = (at + 0.5) * scale, sum = 0;
    int first = (int)(centre - support + 0.5), last = (int)(centre + support + 0.5);
    first = ED_MAX(first, 0);
    last = ED_MIN(last, a->in);
    int count = last - first;
    for (int i = 0; i < count; i++) {
        a->weight[i] = filter((i + first - centre + 0.5) / stretch);
        sum += a->weight[i];
    }
    a->first[at] = first;
    a->count[at] = count;
    for (int i = 0; i < count; i++)
        a->taps[(size_t)at * (size_t)a->room + (size_t)i] = fixed(sum != 0 ? a->weight[i] / sum : a->weight[i]);
}

static encdiff_status make_axis(ed_env *env, int in, int out, ed_filter filter, ed_axis *a)
{
    double scale = (double)in / out, stretch = scale < 1 ? 1 : scale, support = filters[filter].support * stretch;
    size_t size = (size_t)out;
    *a = (ed_axis){.in = in, .out = out, .room = (int)ceil(support) * 2 + 1};
    if (!(a->first = ed_alloc(env, size, sizeof(int))) || !(a->count = ed_alloc(env, size, sizeof(int))) ||
        !(a->weight = ed_alloc(env, (size_t)a->room, sizeof(double))) ||
        !(a->taps = ed_alloc(env, size * (size_t)a->room, sizeof(int32_t))))
        return ENCDIFF_ERROR_OUT_OF_MEMORY;
    for (int at = 0; at < out; at++) make_taps(a, at, scale, stretch, support, filters[filter].value);
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- passes */

static inline uint8_t rounded(int sum)
{
    sum >>= BITS;
    return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

static void resize_row(const ed_axis *a, const uint8_t *row, uint8_t *out)
{
    for (int x = 0; x < a->out; x++, out += 3) {
        const int32_t *taps = a->taps + (size_t)x * (size_t)a->room;
        const uint8_t *pixel = row + (size_t)a->first[x] * 3;
        int r = 1 << (BITS - 1), g = r, b = r;
        for (int i = 0; i < a->count[x]; i++, pixel += 3) {
            r += pixel[0] * taps[i];
            g += pixel[1] * taps[i];
            b += pixel[2] * taps[i];
        }
        out[0] = rounded(r);
        out[1] = rounded(g);
        out[2] = rounded(b);
    }
}

/* Output row `y` from rows of `bytes` bytes; sums by blocks so that the inner loops run along the row. */
static void resize_column(const ed_axis *a, int y, const uint8_t *rows, size_t stride, size_t bytes, uint8_t *out)
{
    enum { BLOCK = 256 };
    int sums[BLOCK];
    const int32_t *taps = a->taps + (size_t)y * (size_t)a->room;
    for (size_t first = 0; first < bytes; first += BLOCK) {
        size_t n = ED_MIN((size_t)BLOCK, bytes - first);
        for (size_t i = 0; i < n; i++) sums[i] = 1 << (BITS - 1);
        for (int t = 0; t < a->count[y]; t++) {
            const uint8_t *row = rows + (size_t)(a->first[y] + t) * stride + first;
            for (size_t i = 0; i < n; i++) sums[i] += row[i] * taps[t];
        }
        for (size_t i = 0; i < n; i++) out[first + i] = rounded(sums[i]);
    }
}

/* Widths differ: rows into `out`, which has in->height rows of the new width. */
static void resize_rows(const ed_window *in, const ed_axis *a, uint8_t *out)
{
    const uint8_t *row = in->rgb + ((size_t)in->top * in->stride + (size_t)in->left) * 3;
    for (int y = 0; y < in->height; y++, row += in->stride * 3)
        resize_row(a, row, out + (size_t)y * (size_t)a->out * 3);
}

static void resize_columns(const ed_axis *a, const uint8_t *rows, size_t stride, int width, uint8_t *out)
{
    size_t bytes = (size_t)width * 3;
    for (int y = 0; y < a->out; y++) resize_column(a, y, rows, stride, bytes, out + (size_t)y * bytes);
}

static void copy_window(const ed_window *in, uint8_t *out)
{
    size_t bytes = (size_t)in->width * 3;
    for (int y = 0; y < in->height; y++)
        memcpy(out + (size_t)y * bytes, in->rgb + ((size_t)(in->top + y) * in->stride + (size_t)in->left) * 3, bytes);
}

/* ---------------------------------------------------------------- resizers */

void ed_resizer_free(ed_env *env, ed_resizer *r)
{
    free_axis(env, &r->across);
    free_axis(env, &r->down);
    ed_free(env, r->between);
    *r = (ed_resizer){0};
}

static encdiff_status make_axes(ed_env *env, ed_resizer *r, int in_height, int in_width, int height, int width)
{
    bool wide = width != in_width, high = height != in_height;
    r->across = (ed_axis){.in = in_width, .out = width};
    r->down = (ed_axis){.in = in_height, .out = height};
    if (wide) ED_TRY(make_axis(env, in_width, width, r->filter, &r->across));
    if (high) ED_TRY(make_axis(env, in_height, height, r->filter, &r->down));
    if (wide && high && !(r->between = ed_alloc_raw(env, (size_t)in_height * (size_t)width * 3)))
        return ENCDIFF_ERROR_OUT_OF_MEMORY;
    return ENCDIFF_OK;
}

encdiff_status ed_resizer_prepare(ed_env *env, ed_resizer *r, int in_height, int in_width, ed_filter filter, int height,
                                  int width)
{
    if (height < 1 || width < 1 || in_height < 1 || in_width < 1)
        return ed_fail(env, ENCDIFF_ERROR_SHAPE, "a picture cannot be resized from %d x %d to %d x %d", in_width,
                       in_height, width, height);
    if (r->filter == filter && r->across.in == in_width && r->across.out == width && r->down.in == in_height &&
        r->down.out == height)
        return ENCDIFF_OK;
    ed_resizer_free(env, r);
    r->filter = filter;
    encdiff_status status = make_axes(env, r, in_height, in_width, height, width);
    if (status != ENCDIFF_OK) ed_resizer_free(env, r);
    return status;
}

void ed_resizer_run(const ed_resizer *r, const ed_window *in, uint8_t *out)
{
    const ed_axis *across = &r->across, *down = &r->down;
    const uint8_t *corner = in->rgb + ((size_t)in->top * in->stride + (size_t)in->left) * 3;
    if (r->between) {
        resize_rows(in, across, r->between);
        resize_columns(down, r->between, (size_t)across->out * 3, across->out, out);
    } else if (across->taps) {
        resize_rows(in, across, out);
    } else if (down->taps) {
        resize_columns(down, corner, in->stride * 3, across->out, out);
    } else {
        copy_window(in, out);
    }
}

encdiff_status ed_resize(ed_env *env, const ed_window *in, ed_filter filter, int height, int width, uint8_t *out)
{
    ed_resizer resizer = {0};
    ED_TRY(ed_resizer_prepare(env, &resizer, in->height, in->width, filter, height, width));
    ed_resizer_run(&resizer, in, out);
    ed_resizer_free(env, &resizer);
    return ENCDIFF_OK;
}

ed_window ed_crop_centre(const uint8_t *rgb, int in_height, int in_width, int height, int width)
{
    ed_window window = {.rgb = rgb, .stride = (size_t)in_width, .height = in_height, .width = in_width};
    if ((int64_t)in_width * height > (int64_t)in_height * width)
        window.width = (int)ED_MAX(1, (int64_t)in_height * width / height);
    else
        window.height = (int)ED_MAX(1, (int64_t)in_width * height / width);
    window.top = (in_height - window.height) / 2;
    window.left = (in_width - window.width) / 2;
    return window;
}
