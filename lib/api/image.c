/* Images in the caller's memory, grids, arrays in files. */
#include "api/handles.h"
#include "io/grid.h"
#include "io/npy.h"
#include "io/pixels.h"

size_t encdiff_image_view_bytes(const encdiff_image_view *view)
{
    size_t count;
    if (!view || view->n < 1 || view->height < 1 || view->width < 1) return 0;
    if (view->format < ENCDIFF_IMAGE_U8_NHWC || view->format > ENCDIFF_IMAGE_F32_NCHW) return 0;
    size_t item = view->format == ENCDIFF_IMAGE_U8_NHWC ? 3 : 3 * sizeof(float);
    bool fits = ed_mul((size_t)view->height, (size_t)view->width, &count) && ed_mul(count, item, &count) &&
                ed_mul(count, (size_t)view->n, &count);
    return fits && count <= PTRDIFF_MAX ? count : 0;
}

encdiff_status ed_api_images_out(ed_env *env, const float *pixels, const encdiff_image_view *view)
{
    size_t each = (size_t)view->height * (size_t)view->width * 3;
    switch (view->format) {
    case ENCDIFF_IMAGE_U8_NHWC: return ed_pixels_to_u8(env, pixels, view->n, each, 0, view->data);
    case ENCDIFF_IMAGE_F32_NCHW: ed_nhwc_to_nchw(pixels, view->data, view->n, 3, view->height, view->width); break;
    default: memcpy(view->data, pixels, (size_t)view->n * each * sizeof *pixels); break;
    }
    return ENCDIFF_OK;
}

/* One image at a time, so that little memory is needed whatever n is. */
encdiff_status encdiff_image_convert(encdiff_context *context, const encdiff_image_view *source,
                                     encdiff_image_view *target)
{
    ED_API_BEGIN;
    if (!context) return ENCDIFF_ERROR_ARGUMENT;
    ED_TRY(ed_api_check_view(context, "source", source));
    ED_TRY(ed_api_check_view(context, "target", target));
    if (source->n != target->n || source->height != target->height || source->width != target->width)
        return ed_fail(&context->env, ENCDIFF_ERROR_SHAPE, "%d images of %dx%d do not fit %d of %dx%d", (int)source->n,
                       (int)source->height, (int)source->width, (int)target->n, (int)target->height,
                       (int)target->width);
    if (source->format == target->format) {
        memcpy(target->data, source->data, encdiff_image_view_bytes(source));
        return ENCDIFF_OK;
    }
    size_t pixels = (size_t)source->height * (size_t)source->width, each = pixels * 3;
    size_t source_bytes = encdiff_image_view_bytes(source) / (size_t)source->n;
    size_t target_bytes = encdiff_image_view_bytes(target) / (size_t)target->n;
    float *image = ed_alloc(&context->env, each, sizeof *image);
    if (!image) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    encdiff_status status = ENCDIFF_OK;
    for (int32_t i = 0; i < source->n && status == ENCDIFF_OK; i++) {
        const char *from = (const char *)source->data + (size_t)i * source_bytes;
        encdiff_image_view one = *target;
        one.n = 1;
        one.data = (char *)target->data + (size_t)i * target_bytes;
        if (source->format == ENCDIFF_IMAGE_U8_NHWC)
            ed_pixels_to_f32((const uint8_t *)from, each, image);
        else if (source->format == ENCDIFF_IMAGE_F32_NCHW)
            ed_pixels_interleave((const float *)(const void *)from, pixels, image);
        else
            memcpy(image, from, each * sizeof *image);
        status = ed_api_images_out(&context->env, image, &one);
        if (status == ENCDIFF_ERROR_NUMERIC) ed_fail(&context->env, status, "image %d has a pixel that is NaN", (int)i);
    }
    ed_free(&context->env, image);
    return status;
}

/* ---------------------------------------------------------------- arrays */

static const struct type_pair {
    encdiff_type outer;
    ed_type inner;
} types[] = {{ENCDIFF_TYPE_U8, ED_U8},
             {ENCDIFF_TYPE_I32, ED_I32},
             {ENCDIFF_TYPE_I64, ED_I64},
             {ENCDIFF_TYPE_F32, ED_F32},
             {ENCDIFF_TYPE_F64, ED_F64}};

static const struct type_pair *type_of_outer(int32_t outer)
{
    for (size_t i = 0; i < ED_COUNT(types); i++)
        if ((int32_t)types[i].outer == outer) return &types[i];
    return NULL;
}

encdiff_status encdiff_array_read(encdiff_context *context, const char *path, const char *member, encdiff_type type,
                                  encdiff_array *array)
{
    ED_API_BEGIN;
    ed_array read;
    if (!context) return ENCDIFF_ERROR_ARGUMENT;
    ED_REQUIRE(context, path && array);
    const struct type_pair *wanted = type_of_outer((int32_t)type);
    ED_REQUIRE(context, type == ENCDIFF_TYPE_ANY || wanted);
    *array = (encdiff_array){0};
    ED_TRY(ed_array_read(&context->env, path, member, wanted ? (int)wanted->inner : ED_ARRAY_ANY, &read));
    array->data = read.data;
    array->rank = read.rank;
    for (int i = 0; i < read.rank; i++) array->shape[i] = read.dim[i];
    for (size_t i = 0; i < ED_COUNT(types); i++)
        if (types[i].inner == read.type) array->type = types[i].outer;
    return ENCDIFF_OK;
}

encdiff_status encdiff_array_write(encdiff_context *context, const char *path, const encdiff_array *array)
{
    ED_API_BEGIN;
    if (!context) return ENCDIFF_ERROR_ARGUMENT;
    ED_REQUIRE(context, path && array && array->data);
    const struct type_pair *type = type_of_outer(array->type);
    ED_REQUIRE(context, type != NULL);
    ed_array a = {.type = type->inner, .rank = array->rank, .count = 1, .data = array->data};
    if (array->rank < 0 || array->rank > ED_NPY_MAX_RANK)
        return ed_fail(&context->env, ENCDIFF_ERROR_SHAPE, "%s: an array of rank %d", path, (int)array->rank);
    for (int i = 0; i < array->rank; i++) {
        a.dim[i] = array->shape[i];
        if (a.dim[i] < 0 || __builtin_mul_overflow(a.count, a.dim[i], &a.count))
            return ed_fail(&context->env, ENCDIFF_ERROR_SHAPE, "%s: dimension %d of the array is %lld", path, i,
                           (long long)a.dim[i]);
    }
    return ed_array_write(&context->env, path, &a);
}

/* ---------------------------------------------------------------- grids */

void encdiff_grid_options_init(encdiff_grid_options *options, size_t struct_size)
{
    ed_api_init_options(options, struct_size);
}

encdiff_status encdiff_image_write_grid(encdiff_context *context, const char *path, const encdiff_image_view *images,
                                        const encdiff_grid_options *options)
{
    ED_API_BEGIN;
    encdiff_grid_options o;
    if (!context) return ENCDIFF_ERROR_ARGUMENT;
    ED_REQUIRE(context, path);
    ED_TRY(ed_api_check_view(context, "the grid's images", images));
    ED_TRY(ed_api_read_options(context, __func__, &o, sizeof o, options));
    ED_REQUIRE(context, o.columns >= 0 && o.scale >= 0 && o.scale <= 64 && o.gap >= -1 && o.gap <= 1024);
    encdiff_image_view u8 = *images;
    u8.format = ENCDIFF_IMAGE_U8_NHWC;
    u8.data = ed_alloc_raw(&context->env, encdiff_image_view_bytes(&u8));
    if (!u8.data) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    ed_grid_options grid = {.columns = o.columns,
                            .scale = o.scale,
                            .gap = o.gap,
                            .column_labels = o.column_labels,
                            .row_labels = o.row_labels};
    encdiff_status status = encdiff_image_convert(context, images, &u8);
    if (status == ENCDIFF_OK) status = ed_grid_write(&context->env, path, u8.data, u8.n, u8.height, u8.width, &grid);
    ed_free(&context->env, u8.data);
    return status;
}
