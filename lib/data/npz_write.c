/* Writing .npz files. */
#include "data/dataset.h"
#include "io/npy.h"

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
