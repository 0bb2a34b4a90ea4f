/* Writing HDF5 files in the layout of 3dshapes.h5. */
#include "data/h5.h"

enum { WRITE_BLOCK = 64 }; /* images */

/*
 * Images in a chunk of the files written here. Training reads single images at random, and each costs the inflation of
 * its chunk; larger chunks compress no better.
 */
#define WRITE_CHUNK 1

typedef struct writing {
    ed_dataset *source;
    const char *path;
    hid_t file, images, labels;
    uint8_t *pixels; /* WRITE_BLOCK images */
    int32_t *classes;
    double *values;
} writing;

static hid_t create_dataset(hid_t file, const char *name, hid_t type, int rank, const hsize_t *dim,
                            const hsize_t *chunk, int level)
{
    hid_t space = H5Screate_simple(rank, dim, NULL), properties = H5Pcreate(H5P_DATASET_CREATE), dataset = -1;
    bool good = space >= 0 && properties >= 0;
    if (good && chunk) good = H5Pset_chunk(properties, rank, chunk) >= 0;
    if (good && chunk && level > 0) good = H5Pset_deflate(properties, (unsigned)level) >= 0;
    if (good) dataset = H5Dcreate2(file, name, type, space, H5P_DEFAULT, properties, H5P_DEFAULT);
    if (space >= 0) H5Sclose(space);
    if (properties >= 0) H5Pclose(properties);
    return dataset;
}

static encdiff_status create_file(ed_env *env, const char *temporary, int level, writing *w)
{
    const ed_dataset *d = w->source;
    hsize_t images[4] = {(hsize_t)d->size, (hsize_t)d->height, (hsize_t)d->width, 3}, chunk[4];
    hsize_t labels[2] = {(hsize_t)d->size, (hsize_t)d->factors};
    memcpy(chunk, images, sizeof chunk);
    chunk[0] = WRITE_CHUNK;
    w->file = H5Fcreate(temporary, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    if (w->file < 0) return ed_h5_fail(env, ENCDIFF_ERROR_IO, w->path, "cannot be written");
    w->images = create_dataset(w->file, "images", H5T_STD_U8LE, 4, images, level ? chunk : NULL, level);
    if (w->images >= 0 && d->factors) w->labels = create_dataset(w->file, "labels", H5T_IEEE_F64LE, 2, labels, NULL, 0);
    if (w->images < 0 || (d->factors && w->labels < 0))
        return ed_h5_fail(env, ENCDIFF_ERROR_IO, w->path, "cannot be written");
    return ENCDIFF_OK;
}

static bool write_slab(hid_t dataset, hid_t type, int rank, const hsize_t *start, const hsize_t *count,
                       const void *data)
{
    hid_t space = H5Dget_space(dataset), memory = H5Screate_simple(rank, count, NULL);
    bool good = space >= 0 && memory >= 0 &&
                H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL) >= 0 &&
                H5Dwrite(dataset, type, memory, space, H5P_DEFAULT, data) >= 0;
    if (space >= 0) H5Sclose(space);
    if (memory >= 0) H5Sclose(memory);
    return good;
}

/* Reading comes before the lock: the source may be an HDF5 file too. */
static encdiff_status write_block(ed_env *env, writing *w, int64_t first, int64_t n)
{
    ed_dataset *d = w->source;
    int64_t indices[WRITE_BLOCK];
    for (int64_t i = 0; i < n; i++) indices[i] = first + i;
    ED_TRY(ed_dataset_read(env, d, n, indices, w->pixels));
    if (d->factors) ED_TRY(ed_dataset_labels(env, d, n, indices, w->classes));
    for (int64_t i = 0; i < n * d->factors; i++)
        w->values[i] = ed_dataset_value(d, (int)(i % d->factors), w->classes[i]);
    hsize_t start[4] = {(hsize_t)first}, images[4] = {(hsize_t)n, (hsize_t)d->height, (hsize_t)d->width, 3};
    hsize_t labels[2] = {(hsize_t)n, (hsize_t)d->factors};
    ed_h5_guard g;
    ed_h5_enter(&g);
    bool good = write_slab(w->images, H5T_NATIVE_UINT8, 4, start, images, w->pixels) &&
                (!d->factors || write_slab(w->labels, H5T_NATIVE_DOUBLE, 2, start, labels, w->values));
    encdiff_status status = good ? ENCDIFF_OK : ed_h5_fail(env, ENCDIFF_ERROR_IO, w->path, "writing failed");
    ed_h5_leave(&g);
    return status;
}

static encdiff_status write_blocks(ed_env *env, writing *w, ed_data_progress progress, void *user)
{
    int64_t size = w->source->size;
    for (int64_t first = 0; first < size; first += WRITE_BLOCK) {
        int64_t n = ED_MIN((int64_t)WRITE_BLOCK, size - first);
        ED_TRY(write_block(env, w, first, n));
        ED_TRY(ed_check_cancel(env));
        if (progress && progress(user, first + n, size)) return ed_fail(env, ENCDIFF_CANCELLED, "stopped on request");
    }
    return ENCDIFF_OK;
}

/* Closing flushes, so that it can fail for want of space. */
static encdiff_status close_file(ed_env *env, writing *w)
{
    bool good = true;
    ed_h5_guard g;
    ed_h5_enter(&g);
    if (w->images >= 0) good = H5Dclose(w->images) >= 0 && good;
    if (w->labels >= 0) good = H5Dclose(w->labels) >= 0 && good;
    if (w->file >= 0) good = H5Fclose(w->file) >= 0 && good;
    encdiff_status status = good ? ENCDIFF_OK : ed_h5_fail(env, ENCDIFF_ERROR_IO, w->path, "writing failed");
    ed_h5_leave(&g);
    return status;
}

static encdiff_status allocate_block(ed_env *env, writing *w)
{
    const ed_dataset *d = w->source;
    size_t labels = (size_t)WRITE_BLOCK * (size_t)ED_MAX(d->factors, 1);
    w->pixels = ed_alloc_raw(env, (size_t)WRITE_BLOCK * (size_t)d->height * (size_t)d->width * 3);
    w->classes = ed_alloc(env, labels, sizeof *w->classes);
    w->values = ed_alloc(env, labels, sizeof *w->values);
    return w->pixels && w->classes && w->values ? ENCDIFF_OK : ENCDIFF_ERROR_OUT_OF_MEMORY;
}

static encdiff_status write_file(ed_env *env, writing *w, const char *temporary, int level, ed_data_progress progress,
                                 void *user)
{
    ED_TRY(allocate_block(env, w));
    ed_h5_guard g;
    ed_h5_enter(&g);
    encdiff_status status = create_file(env, temporary, level, w);
    ed_h5_leave(&g);
    if (status == ENCDIFF_OK) status = write_blocks(env, w, progress, user);
    encdiff_status recorded = status;
    if (status == ENCDIFF_OK) return close_file(env, w);
    ed_env aside; /* closing must not hide the first failure */
    ed_env_child(&aside, env);
    close_file(&aside, w);
    return recorded;
}

encdiff_status ed_h5_save(ed_env *env, ed_dataset *dataset, const char *path, int level, ed_data_progress progress,
                          void *user)
{
    writing w = {.source = dataset, .path = path, .file = -1, .images = -1, .labels = -1};
    ed_sink sink; /* takes the place, flushes and renames; HDF5 writes by the name */
    ED_TRY(ed_sink_open(env, path, &sink));
    encdiff_status status = write_file(env, &w, sink.temporary, level < 0 ? 4 : level, progress, user);
    ed_free(env, w.pixels);
    ed_free(env, w.classes);
    ed_free(env, w.values);
    if (status == ENCDIFF_OK) return ed_sink_commit(env, &sink);
    ed_sink_discard(env, &sink);
    return status;
}
