/*
 * Arrays of images: u8 [n][h][w][3] or, grey, [n][h][w][1] and [n][h][w]; f32 [n][h][w][3] or [n][3][h][w] in [-1, 1].
 * Stored data is read where it lies.
 */
#include "data/arrays.h"
#include "io/image.h"

/* ---------------------------------------------------------------- reading */

enum { BLOCK = 1024 }; /* pixels of a float image converted at once, on the stack */

static encdiff_status read_bytes(ed_env *env, ed_array_set *a, uint64_t offset, void *out, size_t size)
{
    if (!a->stream) return ed_source_read(env, &a->source, offset, out, size);
    pthread_mutex_lock(&a->lock);
    encdiff_status status = ed_zip_stream_read(env, a->stream, offset, out, size);
    pthread_mutex_unlock(&a->lock);
    return status;
}

/* Pixels first .. first+n-1 of an image, interleaved. */
static encdiff_status read_floats(ed_env *env, ed_array_set *a, int64_t image, size_t first, size_t n, float *out)
{
    size_t pixels = (size_t)a->base.height * (size_t)a->base.width;
    uint64_t begin = a->npy.offset + (uint64_t)image * pixels * 12;
    if (!a->planar) return read_bytes(env, a, begin + first * 12, out, n * 12);
    float planes[3 * BLOCK];
    for (size_t c = 0; c < 3; c++) ED_TRY(read_bytes(env, a, begin + (c * pixels + first) * 4, planes + c * n, n * 4));
    ed_pixels_interleave(planes, n, out);
    return ENCDIFF_OK;
}

static encdiff_status read_float_image(ed_env *env, ed_array_set *a, int64_t image, uint8_t *u8, float *f32)
{
    size_t pixels = (size_t)a->base.height * (size_t)a->base.width;
    float block[3 * BLOCK];
    for (size_t first = 0; first < pixels; first += BLOCK) {
        size_t n = ED_MIN((size_t)BLOCK, pixels - first);
        float *to = f32 ? f32 + 3 * first : block;
        ED_TRY(read_floats(env, a, image, first, n, to));
        if (u8 && ed_pixels_to_u8(env, block, 1, 3 * n, image, u8 + 3 * first) != ENCDIFF_OK)
            return ed_fail_within(env, "%s", a->base.name);
    }
    return ENCDIFF_OK;
}

static encdiff_status read_grey_image(ed_env *env, ed_array_set *a, int64_t image, uint8_t *out)
{
    size_t pixels = (size_t)a->base.height * (size_t)a->base.width;
    uint8_t *grey = out + 2 * pixels;
    ED_TRY(read_bytes(env, a, a->npy.offset + (uint64_t)image * pixels, grey, pixels));
    for (size_t i = 0; a->binary && i < pixels; i++) {
        if (grey[i] > 1)
            return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: image %lld has a pixel %d, expected 0 and 1", a->base.name,
                           (long long)image, grey[i]);
        grey[i] = (uint8_t)(grey[i] * 255);
    }
    ed_pixels_spread_grey(out, pixels);
    return ENCDIFF_OK;
}

static encdiff_status array_read(ed_env *env, ed_dataset *dataset, int64_t n, const int64_t *indices, uint8_t *out)
{
    ed_array_set *a = (ed_array_set *)dataset;
    size_t count = (size_t)dataset->height * (size_t)dataset->width * 3;
    for (int64_t i = 0; i < n; i++, out += count) {
        if (a->npy.kind == 'f')
            ED_TRY(read_float_image(env, a, indices[i], out, NULL));
        else if (a->grey)
            ED_TRY(read_grey_image(env, a, indices[i], out));
        else
            ED_TRY(read_bytes(env, a, a->npy.offset + (uint64_t)indices[i] * count, out, count));
    }
    return ENCDIFF_OK;
}

static encdiff_status array_read_f32(ed_env *env, ed_dataset *dataset, int64_t n, const int64_t *indices, float *out)
{
    ed_array_set *a = (ed_array_set *)dataset;
    size_t count = (size_t)dataset->height * (size_t)dataset->width * 3;
    for (int64_t i = 0; i < n; i++, out += count) ED_TRY(read_float_image(env, a, indices[i], NULL, out));
    return ENCDIFF_OK;
}

static void array_close(ed_env *env, ed_dataset *dataset)
{
    ed_array_set *a = (ed_array_set *)dataset;
    ed_zip_stream_close(env, a->stream);
    ed_source_close(env, &a->source);
    if (a->has_lock) pthread_mutex_destroy(&a->lock);
}

static const ed_dataset_class bytes_class = {.read = array_read, .close = array_close};
static const ed_dataset_class floats_class = {.read = array_read, .read_f32 = array_read_f32, .close = array_close};

/* ---------------------------------------------------------------- what an array is */

/* Channels last where both places have 3. */
bool ed_are_images(const ed_npy *npy, bool *planar)
{
    *planar = false;
    if (npy->fortran || npy->count == 0) return false;
    bool floats = npy->kind == 'f' && npy->size == 4, bytes = npy->kind == 'u' && npy->size == 1;
    /* [h][w][3] would be one picture */
    if (bytes && ((npy->rank == 3 && npy->dim[2] != 3) || (npy->rank == 4 && npy->dim[3] == 1))) return true;
    if (npy->rank != 4) return false;
    *planar = npy->dim[3] != 3;
    return (floats || bytes) && npy->dim[*planar ? 1 : 3] == 3 && (floats || !*planar);
}

encdiff_status ed_array_set_create(ed_env *env, const char *path, const char *format, ed_array_set **out)
{
    ed_dataset *base;
    const char *slash = strrchr(path, '/');
    *out = NULL;
    ED_TRY(ed_dataset_create(env, sizeof **out, &bytes_class, slash ? slash + 1 : path, format, &base));
    ed_array_set *a = (ed_array_set *)base;
    a->has_lock = pthread_mutex_init(&a->lock, NULL) == 0;
    if (!a->has_lock) {
        ed_dataset_free(env, base);
        return ed_fail(env, ENCDIFF_ERROR_OUT_OF_MEMORY, "%s: no mutex", path);
    }
    *out = a;
    return ENCDIFF_OK;
}

encdiff_status ed_array_set_shape(ed_env *env, ed_array_set *a, const char *name)
{
    char text[192];
    ed_dataset *base = &a->base;
    if (!ed_are_images(&a->npy, &a->planar))
        return ed_fail(env, ENCDIFF_ERROR_FORMAT,
                       "%s: expected images as u8 [n, height, width, 3] or f32 [n, height, width, 3] or "
                       "[n, 3, height, width] in C order, found %s%s",
                       name, ed_npy_text(&a->npy, text), a->npy.fortran ? " in Fortran order" : "");
    int64_t height = a->npy.dim[a->planar ? 2 : 1], width = a->npy.dim[a->planar ? 3 : 2];
    if (height > ED_IMAGE_MAX_SIDE || width > ED_IMAGE_MAX_SIDE)
        return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: images of %lld x %lld pixels are not read", name,
                       (long long)width, (long long)height);
    a->grey = a->npy.rank == 3 || a->npy.dim[3] == 1;
    if (a->npy.kind == 'f') a->grey = false;
    base->size = a->npy.dim[0];
    base->height = (int)height;
    base->width = (int)width;
    base->grey = a->grey;
    base->exact = a->npy.kind == 'f';
    base->class = base->exact ? &floats_class : &bytes_class;
    return ENCDIFF_OK;
}

/* Values of 0..255 or worse; samples may lie somewhat outside of [-1, 1]. */
encdiff_status ed_array_set_check(ed_env *env, ed_array_set *a)
{
    float block[3 * BLOCK];
    size_t n = ED_MIN((size_t)BLOCK, (size_t)a->base.height * (size_t)a->base.width);
    if (!a->base.exact) return ENCDIFF_OK;
    ED_TRY(read_floats(env, a, 0, 0, n, block));
    for (size_t i = 0; i < 3 * n; i++)
        if (block[i] > 16 || block[i] < -16)
            return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: pixels as floats are in [-1, 1], but there is %g",
                           a->base.name, (double)block[i]);
    return ENCDIFF_OK;
}

static encdiff_status open_array(ed_env *env, const char *path, ed_array_set *a)
{
    ED_TRY(ed_source_open(env, path, &a->source));
    ED_TRY(ed_npy_parse_source(env, &a->source, &a->npy));
    ED_TRY(ed_array_set_shape(env, a, path));
    return ed_array_set_check(env, a);
}

encdiff_status ed_npy_dataset_open(ed_env *env, const char *path, const ed_dataset_options *options, ed_dataset **out)
{
    ed_array_set *a;
    (void)options;
    *out = NULL;
    ED_TRY(ed_array_set_create(env, path, "npy", &a));
    encdiff_status status = open_array(env, path, a);
    if (status == ENCDIFF_OK)
        *out = &a->base;
    else
        ed_dataset_free(env, &a->base);
    return status;
}
