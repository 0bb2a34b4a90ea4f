/* Datasets. */
#include <math.h>

#include "api/handles.h"

void encdiff_dataset_options_init(encdiff_dataset_options *options, size_t struct_size)
{
    ed_api_init_options(options, struct_size);
}

/* A handle that takes over one reference on `dataset`. */
static encdiff_status wrap(encdiff_context *context, ed_dataset *dataset, encdiff_dataset **out)
{
    encdiff_dataset *handle = ed_alloc(&context->env, 1, sizeof *handle);
    if (!handle) {
        ed_dataset_free(&context->env, dataset);
        return ENCDIFF_ERROR_OUT_OF_MEMORY;
    }
    *handle = (encdiff_dataset){context, dataset};
    ed_context_retain(context);
    *out = handle;
    return ENCDIFF_OK;
}

static encdiff_status open_source(encdiff_context *context, const char *source, const encdiff_dataset_options *options,
                                  encdiff_dataset **out)
{
    encdiff_dataset_options o;
    ed_dataset *dataset;
    ED_REQUIRE(context, source && out);
    *out = NULL;
    ED_TRY(ed_api_read_options(context, "encdiff_dataset_open", &o, sizeof o, options));
    ED_REQUIRE(context, o.height >= 0 && o.width >= 0 && o.height <= 16384 && o.width <= 16384);
    ed_dataset_options inner = {.format = o.format,
                                .height = o.height,
                                .width = o.width,
                                .cache_bytes = o.cache_bytes,
                                .crop = o.crop,
                                .filter = o.filter,
                                .split = o.split};
    ED_TRY(ed_dataset_open(&context->env, source, &inner, &dataset));
    return wrap(context, dataset, out);
}

encdiff_status encdiff_dataset_open(encdiff_context *context, const char *source,
                                    const encdiff_dataset_options *options, encdiff_dataset **dataset)
{
    ED_API_BEGIN;
    return context ? ed_api_done(context, open_source(context, source, options, dataset)) : ENCDIFF_ERROR_ARGUMENT;
}

encdiff_status encdiff_dataset_from_arrays(encdiff_context *context, const encdiff_dataset_arrays *arrays,
                                           encdiff_dataset **out)
{
    ED_API_BEGIN;
    encdiff_dataset_arrays a;
    ed_dataset *dataset;
    if (!context) return ENCDIFF_ERROR_ARGUMENT;
    ED_REQUIRE(context, arrays && out);
    *out = NULL;
    ED_TRY(ed_api_read_options(context, __func__, &a, sizeof a, arrays));
    ED_TRY(ed_api_check_view(context, __func__, a.images));
    ED_REQUIRE(context, a.factors >= 0 && (a.factors == 0 || a.labels));
    bool u8 = a.images->format == ENCDIFF_IMAGE_U8_NHWC;
    ed_dataset_arrays inner = {.u8 = u8 ? a.images->data : NULL,
                               .f32 = u8 ? NULL : a.images->data,
                               .planar = a.images->format == ENCDIFF_IMAGE_F32_NCHW,
                               .n = a.images->n,
                               .height = a.images->height,
                               .width = a.images->width,
                               .factors = a.factors,
                               .labels = a.labels,
                               .factor_sizes = a.factor_sizes,
                               .factor_names = a.factor_names};
    ED_TRY(ed_dataset_from_arrays(&context->env, &inner, &dataset));
    return wrap(context, dataset, out);
}

void encdiff_dataset_free(encdiff_dataset *d)
{
    if (!d) return;
    encdiff_context *context = d->context;
    ed_dataset_free(&context->env, d->dataset);
    ed_free(&context->env, d);
    encdiff_context_free(context);
}

/* ---------------------------------------------------------------- what it is */

encdiff_status encdiff_dataset_get_info(const encdiff_dataset *d, encdiff_dataset_info *info)
{
    ED_API_BEGIN;
    ed_dataset_info i;
    if (!d) return ENCDIFF_ERROR_ARGUMENT;
    ED_REQUIRE(d->context, info);
    ed_dataset_get_info(d->dataset, &i);
    encdiff_dataset_info filled = {.name = i.name,
                                   .format = i.format,
                                   .size = i.size,
                                   .height = i.height,
                                   .width = i.width,
                                   .factors = i.factors,
                                   .complete = i.complete};
    return ed_api_fill_info(d->context, __func__, info, &filled, sizeof filled);
}

const char *encdiff_dataset_factor_name(const encdiff_dataset *d, int32_t factor)
{
    ed_dataset_info i;
    if (!d) return NULL;
    ed_dataset_get_info(d->dataset, &i);
    return factor >= 0 && factor < i.factors ? i.factor_names[factor] : NULL;
}

int32_t encdiff_dataset_factor_size(const encdiff_dataset *d, int32_t factor)
{
    ed_dataset_info i;
    if (!d) return 0;
    ed_dataset_get_info(d->dataset, &i);
    return factor >= 0 && factor < i.factors ? i.factor_sizes[factor] : 0;
}

/* ---------------------------------------------------------------- reading */

/* The caller's indices checked, or 0 .. n-1 made; *made is to be freed. */
static encdiff_status take_indices(encdiff_dataset *d, int64_t n, const int64_t *indices, const int64_t **out,
                                   int64_t **made)
{
    ed_dataset_info i;
    ed_dataset_get_info(d->dataset, &i);
    *made = NULL;
    if (!indices && n > i.size)
        return ed_fail(&d->context->env, ENCDIFF_ERROR_ARGUMENT, "%s: %lld images are asked for and there are %lld",
                       i.name, (long long)n, (long long)i.size);
    for (int64_t k = 0; indices && k < n; k++)
        if (indices[k] < 0 || indices[k] >= i.size)
            return ed_fail(&d->context->env, ENCDIFF_ERROR_ARGUMENT, "%s: index %lld is not in 0 .. %lld", i.name,
                           (long long)indices[k], (long long)i.size - 1);
    *out = indices;
    if (indices) return ENCDIFF_OK;
    int64_t *all = ed_alloc(&d->context->env, (size_t)n, sizeof *all);
    if (!all) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    for (int64_t k = 0; k < n; k++) all[k] = k;
    *out = *made = all;
    return ENCDIFF_OK;
}

encdiff_status encdiff_dataset_labels(encdiff_dataset *d, int64_t n, const int64_t *indices, int32_t *labels)
{
    ED_API_BEGIN;
    const int64_t *taken;
    int64_t *made;
    if (!d) return ENCDIFF_ERROR_ARGUMENT;
    ED_REQUIRE(d->context, n >= 0 && labels);
    ED_TRY(take_indices(d, n, indices, &taken, &made));
    encdiff_status status = ed_dataset_labels(&d->context->env, d->dataset, n, taken, labels);
    ed_free(&d->context->env, made);
    return ed_api_done(d->context, status);
}

/* A float source may hold anything. */
static encdiff_status check_pixels(ed_env *env, const ed_dataset_info *info, const int64_t *indices,
                                   const float *pixels, size_t count)
{
    size_t each = (size_t)info->height * (size_t)info->width * 3;
    for (size_t i = 0; i < count; i++)
        if (!isfinite(pixels[i]))
            return ed_fail(env, ENCDIFF_ERROR_NUMERIC, "%s: image %lld has a pixel that is %g", info->name,
                           (long long)indices[i / each], (double)pixels[i]);
    return ENCDIFF_OK;
}

/* Floats through f32 NHWC, so that a float source stays as exact as it is. */
static encdiff_status read_floats(encdiff_dataset *d, const ed_dataset_info *info, const int64_t *indices,
                                  const encdiff_image_view *view)
{
    size_t count = (size_t)view->n * (size_t)view->height * (size_t)view->width * 3;
    ed_env *env = &d->context->env;
    bool planar = view->format == ENCDIFF_IMAGE_F32_NCHW;
    float *pixels = planar ? ed_alloc(env, count, sizeof *pixels) : view->data;
    if (!pixels) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    encdiff_status status = ed_dataset_read_f32(env, d->dataset, view->n, indices, pixels);
    if (status == ENCDIFF_OK) status = check_pixels(env, info, indices, pixels, count);
    if (planar && status == ENCDIFF_OK) ed_nhwc_to_nchw(pixels, view->data, view->n, 3, view->height, view->width);
    if (planar) ed_free(env, pixels);
    return status;
}

static encdiff_status read_images(encdiff_dataset *d, const int64_t *indices, const encdiff_image_view *view)
{
    ed_dataset_info i;
    const int64_t *taken;
    int64_t *made;
    ED_TRY(ed_api_check_view(d->context, "encdiff_dataset_read", view));
    ed_dataset_get_info(d->dataset, &i);
    if (view->height != i.height || view->width != i.width)
        return ed_fail(&d->context->env, ENCDIFF_ERROR_SHAPE, "%s: images are %dx%d, the view's are %dx%d", i.name,
                       i.height, i.width, (int)view->height, (int)view->width);
    ED_TRY(take_indices(d, view->n, indices, &taken, &made));
    encdiff_status status = view->format == ENCDIFF_IMAGE_U8_NHWC
                                ? ed_dataset_read(&d->context->env, d->dataset, view->n, taken, view->data)
                                : read_floats(d, &i, taken, view);
    ed_free(&d->context->env, made);
    return status;
}

encdiff_status encdiff_dataset_read(encdiff_dataset *d, const int64_t *indices, encdiff_image_view *images)
{
    ED_API_BEGIN;
    return d ? ed_api_done(d->context, read_images(d, indices, images)) : ENCDIFF_ERROR_ARGUMENT;
}

encdiff_status encdiff_dataset_find(encdiff_dataset *d, const int32_t *labels, int64_t *index)
{
    ED_API_BEGIN;
    if (!d) return ENCDIFF_ERROR_ARGUMENT;
    ED_REQUIRE(d->context, labels && index);
    return ed_dataset_find(&d->context->env, d->dataset, labels, index);
}

/* ---------------------------------------------------------------- views and files */

encdiff_status encdiff_dataset_slice(encdiff_dataset *d, int64_t begin, int64_t end, encdiff_dataset **slice)
{
    ED_API_BEGIN;
    ed_dataset *view;
    if (!d) return ENCDIFF_ERROR_ARGUMENT;
    ED_REQUIRE(d->context, slice);
    *slice = NULL;
    ED_TRY(ed_dataset_slice(&d->context->env, d->dataset, begin, end, &view));
    return wrap(d->context, view, slice);
}

encdiff_status encdiff_dataset_shuffle(encdiff_dataset *d, uint64_t seed, encdiff_dataset **shuffled)
{
    ED_API_BEGIN;
    ed_dataset *view;
    if (!d) return ENCDIFF_ERROR_ARGUMENT;
    ED_REQUIRE(d->context, shuffled);
    *shuffled = NULL;
    ED_TRY(ed_dataset_shuffle(&d->context->env, d->dataset, seed, &view));
    return wrap(d->context, view, shuffled);
}

encdiff_status encdiff_dataset_split(encdiff_dataset *d, int64_t first_size, uint64_t seed, encdiff_dataset **first,
                                     encdiff_dataset **second)
{
    ED_API_BEGIN;
    ed_dataset *a, *b;
    if (!d) return ENCDIFF_ERROR_ARGUMENT;
    ED_REQUIRE(d->context, first && second);
    *first = *second = NULL;
    ED_TRY(ed_dataset_split(&d->context->env, d->dataset, first_size, seed, &a, &b));
    encdiff_status status = wrap(d->context, a, first);
    if (status != ENCDIFF_OK) {
        ed_dataset_free(&d->context->env, b);
        return status;
    }
    status = wrap(d->context, b, second);
    if (status != ENCDIFF_OK) {
        encdiff_dataset_free(*first);
        *first = NULL;
    }
    return status;
}

typedef struct forward {
    encdiff_progress progress;
    void *user;
} forward;

static int forward_progress(void *user, int64_t done, int64_t total)
{
    const forward *f = user;
    encdiff_progress_info info = {
        .struct_size = sizeof info, .activity = "writing images", .done = done, .total = total};
    return f->progress(&info, f->user);
}

void encdiff_dataset_save_options_init(encdiff_dataset_save_options *options, size_t struct_size)
{
    ed_api_init_options(options, struct_size);
}

static encdiff_status save(encdiff_dataset *d, const char *path, const encdiff_dataset_save_options *options,
                           encdiff_progress progress, void *user)
{
    encdiff_dataset_save_options o;
    ED_REQUIRE(d->context, path);
    ED_TRY(ed_api_read_options(d->context, "encdiff_dataset_save_with", &o, sizeof o, options));
    ED_REQUIRE(d->context, o.compression >= -1 && o.compression <= 9);
    forward f = {progress, user};
    int level = o.compression ? ED_MAX(o.compression, 0) : -1; /* inside, -1 is the default */
    return ed_dataset_save(&d->context->env, d->dataset, path, level, progress ? forward_progress : NULL, &f);
}

encdiff_status encdiff_dataset_save_with(encdiff_dataset *d, const char *path,
                                         const encdiff_dataset_save_options *options, encdiff_progress progress,
                                         void *user)
{
    ED_API_BEGIN;
    return d ? ed_api_done(d->context, save(d, path, options, progress, user)) : ENCDIFF_ERROR_ARGUMENT;
}

encdiff_status encdiff_dataset_save(encdiff_dataset *d, const char *path, encdiff_progress progress, void *user)
{
    ED_API_BEGIN;
    return encdiff_dataset_save_with(d, path, NULL, progress, user);
}
