/* HDF5: the lock, errors, and what a dataset in a file is. */
#include <pthread.h>

#include "data/h5.h"

static pthread_mutex_t library_lock = PTHREAD_MUTEX_INITIALIZER;

void ed_h5_enter(ed_h5_guard *g)
{
    pthread_mutex_lock(&library_lock);
    H5Eget_auto2(H5E_DEFAULT, &g->print, &g->print_data);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

void ed_h5_leave(const ed_h5_guard *g)
{
    H5Eset_auto2(H5E_DEFAULT, g->print, g->print_data);
    pthread_mutex_unlock(&library_lock);
}

/* The innermost error is the one that tells what happened. */
static herr_t keep_innermost(unsigned n, const H5E_error2_t *error, void *to)
{
    if (n == 0 && error->desc) *(const char **)to = error->desc;
    return 0;
}

encdiff_status ed_h5_fail(ed_env *env, encdiff_status kind, const char *path, const char *what)
{
    const char *reason = "no reason given";
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_innermost, &reason);
    encdiff_status status = ed_fail(env, kind, "%s: %s: %s", path, what, reason);
    H5Eclear2(H5E_DEFAULT);
    return status;
}

/* ---------------------------------------------------------------- looking into a file */

bool ed_h5_inspect(hid_t dataset, ed_h5_shape *out)
{
    hid_t space = H5Dget_space(dataset), type = H5Dget_type(dataset);
    *out = (ed_h5_shape){.rank = H5Sget_simple_extent_ndims(space)};
    bool good = space >= 0 && type >= 0 && out->rank >= 1 && out->rank <= ED_H5_MAX_RANK;
    if (good) good = H5Sget_simple_extent_dims(space, out->dim, NULL) == out->rank;
    if (good) {
        out->type = H5Tget_class(type);
        out->size = H5Tget_size(type);
        out->is_unsigned = out->type == H5T_INTEGER && H5Tget_sign(type) == H5T_SGN_NONE;
    }
    if (space >= 0) H5Sclose(space);
    if (type >= 0) H5Tclose(type);
    return good;
}

bool ed_h5_is_inside(hid_t file, const char *name)
{
    H5L_info_t info;
    return H5Lexists(file, name, H5P_DEFAULT) > 0 && H5Lget_info(file, name, &info, H5P_DEFAULT) >= 0 &&
           info.type == H5L_TYPE_HARD;
}

hid_t ed_h5_open_inside(hid_t file, const char *name, hid_t access)
{
    return ed_h5_is_inside(file, name) ? H5Dopen2(file, name, access) : -1;
}

/* ---------------------------------------------------------------- storage */

encdiff_status ed_h5_check_storage(ed_env *env, const char *path, hid_t properties)
{
    if (H5Pget_external_count(properties) > 0 || H5Pget_layout(properties) == H5D_VIRTUAL)
        return ed_fail(env, ENCDIFF_ERROR_UNSUPPORTED, "%s: its data is in other files, which are not followed", path);
    int filters = H5Pget_nfilters(properties);
    for (int i = 0; i < filters; i++) {
        unsigned flags, configuration;
        size_t values = 0;
        char name[64] = "";
        H5Z_filter_t id = H5Pget_filter2(properties, (unsigned)i, &flags, &values, NULL, sizeof name, name,
                                         &configuration);
        if (id < 0 || H5Zfilter_avail(id) <= 0)
            return ed_fail(env, ENCDIFF_ERROR_UNSUPPORTED,
                           "%s: packed by the filter \"%s\" (%d), which HDF5 lacks here", path, name, (int)id);
    }
    return ENCDIFF_OK;
}

static bool is_summed(hid_t properties)
{
    unsigned flags;
    size_t values = 0;
    return H5Pget_filter_by_id2(properties, H5Z_FILTER_FLETCHER32, &flags, &values, NULL, 0, NULL, NULL) >= 0;
}

/* Every chunk from row `first` on has room for its checksum; a chunk that was never written has no bytes at all. */
static encdiff_status check_sums(ed_env *env, const char *path, hid_t dataset, const ed_h5_shape *s,
                                 const hsize_t *chunk, hsize_t first, hsize_t rows)
{
    hsize_t at[ED_H5_MAX_RANK] = {first / chunk[0] * chunk[0]};
    for (int i = 0; at[0] < first + rows;) {
        hsize_t bytes = 0;
        herr_t found = H5Dget_chunk_storage_size(dataset, at, &bytes);
        if (found >= 0 && bytes > 0 && bytes < 4)
            return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: a chunk is too short for its checksum", path);
        for (i = s->rank - 1; (at[i] += chunk[i]) >= s->dim[i] && i > 0; i--) at[i] = 0;
    }
    H5Eclear2(H5E_DEFAULT);
    return ENCDIFF_OK;
}

encdiff_status ed_h5_check_sums(ed_env *env, const char *path, hid_t dataset, hid_t properties, const ed_h5_shape *s,
                                hsize_t first, hsize_t rows)
{
    hsize_t chunk[ED_H5_MAX_RANK];
    if (H5Pget_layout(properties) != H5D_CHUNKED || !is_summed(properties)) return ENCDIFF_OK;
    int last = H5Pget_nfilters(properties) - 1;
    unsigned flags, configuration;
    size_t values = 0;
    if (H5Pget_filter2(properties, (unsigned)last, &flags, &values, NULL, 0, NULL, &configuration) !=
        H5Z_FILTER_FLETCHER32)
        return ed_fail(env, ENCDIFF_ERROR_UNSUPPORTED, "%s: its checksums are not of what is stored", path);
    if (H5Pget_chunk(properties, ED_H5_MAX_RANK, chunk) != s->rank)
        return ed_h5_fail(env, ENCDIFF_ERROR_FORMAT, path, "its chunks cannot be read");
    return check_sums(env, path, dataset, s, chunk, first, rows);
}

encdiff_status ed_h5_check_amount(ed_env *env, const char *path, hid_t dataset, const ed_h5_shape *s)
{
    size_t bytes = s->size;
    for (int i = 0; i < s->rank; i++)
        if (!ed_mul(bytes, (size_t)s->dim[i], &bytes))
            return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: the size of its data overflows", path);
    if (bytes / 1100 > H5Dget_storage_size(dataset) || bytes > INT64_MAX / 8)
        return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: most of the data it claims was never written", path);
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- a whole array */

static encdiff_status read_dataset(ed_env *env, const char *path, hid_t dataset, ed_mat *out)
{
    ed_h5_shape s;
    size_t bytes = 1;
    if (!ed_h5_inspect(dataset, &s) || !s.is_unsigned || s.size != 1)
        return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: its variable is not an array of uint8", path);
    ED_TRY(ed_h5_check_amount(env, path, dataset, &s));
    hid_t properties = H5Dget_create_plist(dataset);
    encdiff_status status = properties < 0 ? ed_h5_fail(env, ENCDIFF_ERROR_FORMAT, path, "its properties")
                                           : ed_h5_check_storage(env, path, properties);
    if (status == ENCDIFF_OK) status = ed_h5_check_sums(env, path, dataset, properties, &s, 0, s.dim[0]);
    if (properties >= 0) H5Pclose(properties);
    if (status != ENCDIFF_OK) return status;
    out->rank = s.rank;
    for (int i = 0; i < s.rank; i++) {
        bytes *= (size_t)s.dim[i]; /* the amount was checked */
        out->dim[i] = (int64_t)s.dim[s.rank - 1 - i];
    }
    if (bytes > ED_MAT_LIMIT || !bytes) return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: %zu bytes", path, bytes);
    if (!(out->data = ed_alloc_raw(env, bytes))) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    if (H5Dread(dataset, H5T_NATIVE_UINT8, H5S_ALL, H5S_ALL, H5P_DEFAULT, out->data) >= 0) return ENCDIFF_OK;
    ed_free(env, out->data);
    out->data = NULL;
    return ed_h5_fail(env, ENCDIFF_ERROR_FORMAT, path, "its variable cannot be read");
}

encdiff_status ed_h5_read_bytes(ed_env *env, const char *path, const char *name, ed_mat *out)
{
    ed_h5_guard g;
    *out = (ed_mat){0};
    ed_h5_enter(&g);
    hid_t driver, file = ed_h5_open_file(path, &driver);
    hid_t dataset = file >= 0 ? ed_h5_open_inside(file, name, H5P_DEFAULT) : -1;
    encdiff_status status = file < 0      ? ed_h5_fail(env, ENCDIFF_ERROR_FORMAT, path, "cannot be opened")
                            : dataset < 0 ? ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: no variable \"%s\"", path, name)
                                          : read_dataset(env, path, dataset, out);
    if (dataset >= 0) H5Dclose(dataset);
    ed_h5_close_file(file, driver);
    ed_h5_leave(&g);
    return status;
}
