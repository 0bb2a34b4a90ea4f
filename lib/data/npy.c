/*
 * Arrays of images in .npy and .npz files: u8 [n][h][w][3], f32 [n][h][w][3] or f32 [n][3][h][w] in [-1, 1]; labels are
 * a member of the .npz beside the images. Stored data is read where it lies; deflated data is inflated once, into
 * memory or, above the limit, into a temporary file.
 */
#include "data/dataset.h"
#include "io/image.h"
#include "io/npy.h"

#define MEMORY_LIMIT ((uint64_t)256 << 20)

typedef struct array_set {
    ed_dataset base;
    ed_source source;
    ed_npy npy;
    bool planar; /* [3][h][w] */
} array_set;

/* ---------------------------------------------------------------- reading */

enum { BLOCK = 1024 }; /* pixels of a float image converted at once, on the stack */

/* Pixels first .. first+n-1 of an image, interleaved. */
static encdiff_status read_floats(ed_env *env, const array_set *a, int64_t image, size_t first, size_t n, float *out)
{
    size_t pixels = (size_t)a->base.height * (size_t)a->base.width;
    uint64_t begin = a->npy.offset + (uint64_t)image * pixels * 12;
    if (!a->planar) return ed_source_read(env, &a->source, begin + first * 12, out, n * 12);
    float planes[3 * BLOCK];
    for (size_t c = 0; c < 3; c++)
        ED_TRY(ed_source_read(env, &a->source, begin + (c * pixels + first) * 4, planes + c * n, n * 4));
    ed_pixels_interleave(planes, n, out);
    return ENCDIFF_OK;
}

static encdiff_status read_float_image(ed_env *env, const array_set *a, int64_t image, uint8_t *u8, float *f32)
{
    size_t pixels = (size_t)a->base.height * (size_t)a->base.width;
    float block[3 * BLOCK];
    for (size_t first = 0; first < pixels; first += BLOCK) {
        size_t n = ED_MIN((size_t)BLOCK, pixels - first);
        float *to = f32 ? f32 + 3 * first : block;
        ED_TRY(read_floats(env, a, image, first, n, to));
        if (u8) ED_TRY(ed_pixels_to_u8(env, block, 1, 3 * n, image, u8 + 3 * first));
    }
    return ENCDIFF_OK;
}

static encdiff_status array_read(ed_env *env, ed_dataset *dataset, int64_t n, const int64_t *indices, uint8_t *out)
{
    const array_set *a = (const array_set *)dataset;
    size_t count = (size_t)dataset->height * (size_t)dataset->width * 3;
    for (int64_t i = 0; i < n; i++, out += count) {
        if (a->npy.kind == 'f')
            ED_TRY(read_float_image(env, a, indices[i], out, NULL));
        else
            ED_TRY(ed_source_read(env, &a->source, a->npy.offset + (uint64_t)indices[i] * count, out, count));
    }
    return ENCDIFF_OK;
}

static encdiff_status array_read_f32(ed_env *env, ed_dataset *dataset, int64_t n, const int64_t *indices, float *out)
{
    const array_set *a = (const array_set *)dataset;
    size_t count = (size_t)dataset->height * (size_t)dataset->width * 3;
    for (int64_t i = 0; i < n; i++, out += count) ED_TRY(read_float_image(env, a, indices[i], NULL, out));
    return ENCDIFF_OK;
}

static void array_close(ed_env *env, ed_dataset *dataset) { ed_source_close(env, &((array_set *)dataset)->source); }

static const ed_dataset_class bytes_class = {.read = array_read, .close = array_close};
static const ed_dataset_class floats_class = {.read = array_read, .read_f32 = array_read_f32, .close = array_close};

/* ---------------------------------------------------------------- what an array is */

/* false: no images. Channels last where both places have 3. */
static bool are_images(const ed_npy *npy, bool *planar)
{
    if (npy->rank != 4 || npy->fortran || npy->count == 0) return false;
    bool floats = npy->kind == 'f' && npy->size == 4, bytes = npy->kind == 'u' && npy->size == 1;
    *planar = npy->dim[3] != 3;
    return (floats || bytes) && npy->dim[*planar ? 1 : 3] == 3 && (floats || !*planar);
}

/* Values of 0..255 or worse; samples may lie somewhat outside of [-1, 1]. */
static encdiff_status check_range(ed_env *env, const array_set *a)
{
    float block[3 * BLOCK];
    size_t n = ED_MIN((size_t)BLOCK, (size_t)a->base.height * (size_t)a->base.width);
    ED_TRY(read_floats(env, a, 0, 0, n, block));
    for (size_t i = 0; i < 3 * n; i++)
        if (block[i] > 16 || block[i] < -16)
            return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: pixels as floats are in [-1, 1], but there is %g",
                           a->source.name, (double)block[i]);
    return ENCDIFF_OK;
}

static encdiff_status set_images(ed_env *env, array_set *a)
{
    char text[192];
    ed_dataset *base = &a->base;
    if (!are_images(&a->npy, &a->planar))
        return ed_fail(env, ENCDIFF_ERROR_FORMAT,
                       "%s: expected images as u8 [n, height, width, 3] or f32 [n, height, width, 3] or "
                       "[n, 3, height, width] in C order, found %s%s",
                       a->source.name, ed_npy_text(&a->npy, text), a->npy.fortran ? " in Fortran order" : "");
    int64_t height = a->npy.dim[a->planar ? 2 : 1], width = a->npy.dim[a->planar ? 3 : 2];
    if (height > ED_IMAGE_MAX_SIDE || width > ED_IMAGE_MAX_SIDE)
        return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: images of %lld x %lld pixels are not read", a->source.name,
                       (long long)width, (long long)height);
    base->size = a->npy.dim[0];
    base->height = (int)height;
    base->width = (int)width;
    base->exact = a->npy.kind == 'f';
    base->class = base->exact ? &floats_class : &bytes_class;
    return base->exact ? check_range(env, a) : ENCDIFF_OK;
}

/* ---------------------------------------------------------------- members of an .npz */

static encdiff_status peek_npy(ed_env *env, const ed_zip *zip, const ed_zip_member *member, ed_npy *out)
{
    size_t size = (size_t)ED_MIN(member->size, (uint64_t)ED_NPY_HEADER_LIMIT);
    uint8_t *head = ed_alloc(env, size + 1, 1);
    if (!head) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    encdiff_status status = ed_zip_peek(env, zip, member, head, size);
    if (status == ENCDIFF_OK) status = ed_npy_parse(env, ed_zip_path(zip), head, size, member->size, out);
    ed_free(env, head);
    return status;
}

/* "images", or the first member that has images. */
static encdiff_status find_images(ed_env *env, const ed_zip *zip, const ed_zip_member **out)
{
    if ((*out = ed_npz_find(zip, "images"))) return ENCDIFF_OK;
    for (size_t i = 0; i < ed_zip_count(zip); i++) {
        ed_npy npy;
        bool planar;
        encdiff_status status = peek_npy(env, zip, ed_zip_at(zip, i), &npy);
        if (status != ENCDIFF_OK && status != ENCDIFF_ERROR_FORMAT) return status;
        if (status != ENCDIFF_OK || !are_images(&npy, &planar)) continue;
        *out = ed_zip_at(zip, i);
        return ENCDIFF_OK;
    }
    return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: none of its %zu arrays has images", ed_zip_path(zip),
                   ed_zip_count(zip));
}

static encdiff_status set_labels(ed_env *env, array_set *a, const ed_source *source)
{
    ed_npy npy;
    char text[192];
    ED_TRY(ed_npy_parse_source(env, source, &npy));
    if (npy.rank < 1 || npy.rank > 2 || npy.fortran || npy.dim[0] != a->base.size || npy.count == 0)
        return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: labels are %s, expected [%lld, factors] in C order",
                       source->name, ed_npy_text(&npy, text), (long long)a->base.size);
    int64_t factors = npy.rank == 2 ? npy.dim[1] : 1;
    double *values = ed_alloc(env, (size_t)npy.count, sizeof *values);
    if (!values) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    encdiff_status status = ed_npy_read_f64(env, source, &npy, 0, npy.count, values);
    if (status == ENCDIFF_OK)
        status = ed_dataset_set_values(env, &a->base, (int)ED_MIN(factors, (int64_t)INT32_MAX), NULL, values);
    ed_free(env, values);
    return status;
}

static encdiff_status open_members(ed_env *env, const ed_zip *zip, array_set *a)
{
    const ed_zip_member *images, *labels = ed_npz_find(zip, "labels");
    ED_TRY(find_images(env, zip, &images));
    ED_TRY(peek_npy(env, zip, images, &a->npy)); /* before gigabytes are inflated for nothing */
    ED_TRY(ed_zip_source(env, zip, images, MEMORY_LIMIT, &a->source));
    ED_TRY(ed_npy_parse_source(env, &a->source, &a->npy));
    ED_TRY(set_images(env, a));
    if (!labels || labels == images) return ENCDIFF_OK;
    ed_source source;
    ED_TRY(ed_zip_source(env, zip, labels, MEMORY_LIMIT, &source));
    encdiff_status status = set_labels(env, a, &source);
    ed_source_close(env, &source);
    return status;
}

static encdiff_status open_npz(ed_env *env, const char *path, array_set *a)
{
    ed_zip *zip;
    ED_TRY(ed_zip_open(env, path, &zip));
    encdiff_status status = open_members(env, zip, a);
    ed_zip_close(env, zip);
    return status;
}

static encdiff_status open_npy(ed_env *env, const char *path, array_set *a)
{
    ED_TRY(ed_source_open(env, path, &a->source));
    ED_TRY(ed_npy_parse_source(env, &a->source, &a->npy));
    return set_images(env, a);
}

encdiff_status ed_npy_dataset_open(ed_env *env, const char *path, const ed_dataset_options *options, ed_dataset **out)
{
    ed_dataset *base;
    const char *slash = strrchr(path, '/');
    bool zipped = options->format && strcmp(options->format, "npz") == 0;
    *out = NULL;
    ED_TRY(ed_dataset_create(env, sizeof(array_set), &bytes_class, slash ? slash + 1 : path, zipped ? "npz" : "npy",
                             &base));
    array_set *a = (array_set *)base;
    encdiff_status status = zipped ? open_npz(env, path, a) : open_npy(env, path, a);
    if (status == ENCDIFF_OK)
        *out = base;
    else
        ed_dataset_free(env, base);
    return status;
}

/* ---------------------------------------------------------------- writing */

enum { SAVE_BLOCK = 64 };

static encdiff_status save_images(ed_env *env, ed_dataset *dataset, ed_zip_writer *writer, uint8_t *pixels,
                                  ed_data_progress progress, void *user)
{
    int64_t indices[SAVE_BLOCK], size = dataset->size;
    size_t count = (size_t)dataset->height * (size_t)dataset->width * 3;
    for (int64_t first = 0; first < size; first += SAVE_BLOCK) {
        int64_t n = ED_MIN((int64_t)SAVE_BLOCK, size - first);
        for (int64_t i = 0; i < n; i++) indices[i] = first + i;
        ED_TRY(ed_dataset_read(env, dataset, n, indices, pixels));
        ED_TRY(ed_zip_writer_add(env, writer, pixels, (size_t)n * count));
        ED_TRY(ed_check_cancel(env));
        if (progress && progress(user, first + n, size)) return ed_fail(env, ENCDIFF_CANCELLED, "stopped on request");
    }
    return ENCDIFF_OK;
}

static encdiff_status save_labels(ed_env *env, ed_dataset *dataset, ed_zip_writer *writer)
{
    int32_t classes[1024];
    double values[1024];
    for (int64_t i = 0; i < dataset->size; i++) {
        ED_TRY(ed_dataset_labels(env, dataset, 1, &i, classes));
        for (int f = 0; f < dataset->factors; f++) values[f] = ed_dataset_value(dataset, f, classes[f]);
        ED_TRY(ed_zip_writer_add(env, writer, values, (size_t)dataset->factors * sizeof *values));
    }
    return ENCDIFF_OK;
}

static encdiff_status save_members(ed_env *env, ed_dataset *d, ed_zip_writer *writer, int level, uint8_t *pixels,
                                   ed_data_progress progress, void *user)
{
    ED_TRY(ed_npz_begin(env, writer, "images", ED_U8, 4, (int64_t[]){d->size, d->height, d->width, 3}, level));
    ED_TRY(save_images(env, d, writer, pixels, progress, user));
    ED_TRY(ed_zip_writer_end(env, writer));
    if (!d->factors) return ENCDIFF_OK;
    ED_TRY(ed_npz_begin(env, writer, "labels", ED_F64, 2, (int64_t[]){d->size, d->factors}, level));
    ED_TRY(save_labels(env, d, writer));
    return ed_zip_writer_end(env, writer);
}

/* Stored unless asked otherwise: a deflated file must be inflated whole before its first image can be read. */
encdiff_status ed_npz_save(ed_env *env, ed_dataset *dataset, const char *path, int level, ed_data_progress progress,
                           void *user)
{
    ed_zip_writer *writer;
    ED_TRY(ed_zip_writer_create(env, path, &writer));
    uint8_t *pixels = ed_alloc_raw(env, SAVE_BLOCK * (size_t)dataset->height * (size_t)dataset->width * 3);
    encdiff_status status = pixels ? save_members(env, dataset, writer, ED_MAX(level, 0), pixels, progress, user)
                                   : ENCDIFF_ERROR_OUT_OF_MEMORY;
    ed_free(env, pixels);
    if (status == ENCDIFF_OK) return ed_zip_writer_finish(env, writer);
    ed_zip_writer_discard(env, writer);
    return status;
}
