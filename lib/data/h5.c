/*
 * HDF5 files with images u8 [n][h][w][3] and, beside them, labels [n][k] (or [n]): 3dshapes.h5 and everything like it.
 *
 * h5py's own choice of chunks for the published 3dshapes.h5 is 15,000 images x 4 x 4 pixels x 1 channel: one image lies
 * in 768 chunks, and reading it inflates 184 MB. Reading in order that is fine, with a cache of that size; such a file
 * is opened behind ed_unpacked_open(), for when images are read here and there.
 */
#include <stdlib.h>

#include "data/h5.h"
#include "io/image.h"

#define CHUNK_LIMIT ((uint64_t)1 << 30)   /* bytes; HDF5 takes that much memory to read one image of it */
#define CACHE_LIMIT ((uint64_t)512 << 20) /* for files whose chunks hold many images */
#define CACHE_DEFAULT ((uint64_t)64 << 20)
#define SCATTERED 64 /* images inflated to read one, from which on a file is unpacked when it is read at random */

typedef struct h5_set {
    ed_dataset base;
    hid_t file, driver, images, space, properties; /* negative when not open */
    ed_h5_shape shape;
    bool scattered;
    int64_t run; /* images that share chunks */
} h5_set;

static bool are_images(const ed_h5_shape *s)
{
    return s->rank == 4 && s->dim[3] == 3 && s->is_unsigned && s->size == 1 && s->dim[0] && s->dim[1] && s->dim[2];
}

/* "images", or else the first dataset of the root group that has them. */
static bool find_images(hid_t file, char name[256])
{
    H5G_info_t group;
    strcpy(name, "images");
    if (ed_h5_is_inside(file, name)) return true;
    if (H5Gget_info(file, &group) < 0) return false;
    for (hsize_t i = 0; i < group.nlinks && i < 1000; i++) {
        ed_h5_shape s;
        ssize_t length = H5Lget_name_by_idx(file, ".", H5_INDEX_NAME, H5_ITER_INC, i, name, 256, H5P_DEFAULT);
        hid_t dataset = length > 0 && length < 256 ? ed_h5_open_inside(file, name, H5P_DEFAULT) : -1;
        if (dataset < 0) continue;
        bool found = ed_h5_inspect(dataset, &s) && are_images(&s);
        H5Dclose(dataset);
        if (found) return true;
    }
    return false;
}

/*
 * The chunk cache holds the chunks that a run of images lies in, so that reading in order inflates each once whatever
 * the file's chunks are.
 */
static encdiff_status plan_cache(ed_env *env, h5_set *set, const char *path, const ed_h5_shape *s, const hsize_t *chunk,
                                 uint64_t wanted, hid_t access)
{
    uint64_t chunk_bytes = 1, run_bytes = 1, image_bytes = s->dim[1] * s->dim[2] * 3, needed = 1;
    for (int i = 0; i < 4; i++) {
        uint64_t count = i ? (s->dim[i] + chunk[i] - 1) / chunk[i] : 1;
        if (chunk[i] > CHUNK_LIMIT || (chunk_bytes *= chunk[i]) > CHUNK_LIMIT)
            return ed_fail(env, ENCDIFF_ERROR_UNSUPPORTED, "%s: chunks of more than %llu bytes", path,
                           (unsigned long long)CHUNK_LIMIT);
        needed = ED_MIN(needed * chunk[i] * count, (uint64_t)1 << 40); /* below 2^63: no overflow */
    }
    run_bytes = ED_MIN(needed, CACHE_LIMIT);
    set->run = (int64_t)chunk[0];
    set->scattered = needed / image_bytes >= SCATTERED && s->dim[0] > chunk[0];
    uint64_t bytes = ED_MAX(ED_MAX(wanted, run_bytes), chunk_bytes);
    size_t slots = (size_t)ED_MIN(bytes / chunk_bytes * 10, (uint64_t)1 << 20) | 1;
    return H5Pset_chunk_cache(access, ED_MAX(slots, (size_t)521), (size_t)bytes, 0.75) < 0
               ? ed_h5_fail(env, ENCDIFF_ERROR_FORMAT, path, "its cache could not be set up")
               : ENCDIFF_OK;
}

/* What the dataset says of itself decides how it is opened. */
static encdiff_status examine_images(ed_env *env, h5_set *set, const char *path, hid_t dataset, uint64_t cache,
                                     hid_t access, ed_h5_shape *s)
{
    if (!ed_h5_inspect(dataset, s) || !are_images(s))
        return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: its images are not u8 [n][height][width][3]", path);
    if (s->dim[1] > ED_IMAGE_MAX_SIDE || s->dim[2] > ED_IMAGE_MAX_SIDE)
        return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: images of %llu x %llu pixels are not read", path,
                       (unsigned long long)s->dim[2], (unsigned long long)s->dim[1]);
    ED_TRY(ed_h5_check_amount(env, path, dataset, s));
    hid_t properties = H5Dget_create_plist(dataset);
    if (properties < 0) return ed_h5_fail(env, ENCDIFF_ERROR_FORMAT, path, "its properties cannot be read");
    hsize_t chunk[4];
    encdiff_status status = ed_h5_check_storage(env, path, properties);
    if (status == ENCDIFF_OK && H5Pget_layout(properties) == H5D_CHUNKED)
        status = H5Pget_chunk(properties, 4, chunk) == 4
                     ? plan_cache(env, set, path, s, chunk, cache, access)
                     : ed_h5_fail(env, ENCDIFF_ERROR_FORMAT, path, "its chunks cannot be read");
    H5Pclose(properties);
    return status;
}

/* ---------------------------------------------------------------- opening */

static encdiff_status open_images(ed_env *env, const char *path, const ed_dataset_options *options, h5_set *set)
{
    char name[256];
    ed_h5_shape s;
    if ((set->file = ed_h5_open_file(path, &set->driver)) < 0)
        return ed_h5_fail(env, ENCDIFF_ERROR_FORMAT, path, "cannot be opened");
    if (!find_images(set->file, name))
        return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: no images u8 [n][height][width][3] are in it", path);
    hid_t access = H5Pcreate(H5P_DATASET_ACCESS), first = ed_h5_open_inside(set->file, name, H5P_DEFAULT);
    encdiff_status status = first < 0 ? ed_h5_fail(env, ENCDIFF_ERROR_FORMAT, path, "its images cannot be opened")
                                      : examine_images(env, set, path, first,
                                                       options->cache_bytes ? options->cache_bytes : CACHE_DEFAULT,
                                                       access, &s);
    if (first >= 0) H5Dclose(first);
    if (status == ENCDIFF_OK && (set->images = H5Dopen2(set->file, name, access)) < 0)
        status = ed_h5_fail(env, ENCDIFF_ERROR_FORMAT, path, "its images cannot be opened");
    if (access >= 0) H5Pclose(access);
    if (status != ENCDIFF_OK) return status;
    if ((set->space = H5Dget_space(set->images)) < 0)
        return ed_h5_fail(env, ENCDIFF_ERROR_FORMAT, path, "its images cannot be opened");
    if ((set->properties = H5Dget_create_plist(set->images)) < 0)
        return ed_h5_fail(env, ENCDIFF_ERROR_FORMAT, path, "its properties cannot be read");
    set->shape = s;
    set->base.size = (int64_t)s.dim[0];
    set->base.height = (int)s.dim[1];
    set->base.width = (int)s.dim[2];
    return ENCDIFF_OK;
}

static encdiff_status read_labels(ed_env *env, const char *path, h5_set *set, hid_t dataset)
{
    ed_h5_shape s;
    if (!ed_h5_inspect(dataset, &s) || s.rank > 2 || (s.type != H5T_INTEGER && s.type != H5T_FLOAT) ||
        s.dim[0] != (hsize_t)set->base.size)
        return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: its labels are not numbers [n][factors]", path);
    ED_TRY(ed_h5_check_amount(env, path, dataset, &s));
    hid_t properties = H5Dget_create_plist(dataset);
    encdiff_status status = properties < 0
                                ? ed_h5_fail(env, ENCDIFF_ERROR_FORMAT, path, "its labels' properties cannot be read")
                                : ed_h5_check_storage(env, path, properties);
    if (status == ENCDIFF_OK) status = ed_h5_check_sums(env, path, dataset, properties, &s, 0, s.dim[0]);
    if (properties >= 0) H5Pclose(properties);
    if (status != ENCDIFF_OK) return status;
    hsize_t factors = s.rank == 2 ? s.dim[1] : 1;
    double *values = ed_alloc(env, (size_t)s.dim[0], (size_t)factors * sizeof(double));
    if (!values) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    status = H5Dread(dataset, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) < 0
                 ? ed_h5_fail(env, ENCDIFF_ERROR_FORMAT, path, "its labels cannot be read")
                 : ed_dataset_set_values(env, &set->base, (int)ED_MIN(factors, (hsize_t)INT32_MAX), NULL, values);
    ed_free(env, values);
    return status;
}

static encdiff_status open_labels(ed_env *env, const char *path, h5_set *set)
{
    hid_t labels = ed_h5_open_inside(set->file, "labels", H5P_DEFAULT);
    if (labels < 0) {
        H5Eclear2(H5E_DEFAULT);
        return ENCDIFF_OK;
    }
    encdiff_status status = read_labels(env, path, set, labels);
    H5Dclose(labels);
    return status;
}

static void h5_close(ed_env *env, ed_dataset *dataset)
{
    h5_set *set = (h5_set *)dataset;
    ed_h5_guard g;
    (void)env;
    ed_h5_enter(&g);
    if (set->properties >= 0) H5Pclose(set->properties);
    if (set->space >= 0) H5Sclose(set->space);
    if (set->images >= 0) H5Dclose(set->images);
    ed_h5_close_file(set->file, set->driver);
    ed_h5_leave(&g);
}

/* ---------------------------------------------------------------- reading */

enum { BLOCK = 512 }; /* indices sorted at once, on the stack */

typedef struct place {
    int64_t index, at; /* in the file and in the output */
} place;

static int compare_places(const void *a, const void *b)
{
    const place *x = a, *y = b;
    if (x->index != y->index) return x->index < y->index ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

/* `n` images from `index` on. */
static encdiff_status read_run(ed_env *env, const h5_set *set, int64_t index, int64_t n, uint8_t *out)
{
    const ed_dataset *base = &set->base;
    ED_TRY(ed_h5_check_sums(env, base->name, set->images, set->properties, &set->shape, (hsize_t)index, (hsize_t)n));
    hsize_t start[4] = {(hsize_t)index, 0, 0, 0};
    hsize_t count[4] = {(hsize_t)n, (hsize_t)base->height, (hsize_t)base->width, 3};
    hid_t memory = H5Screate_simple(4, count, NULL);
    bool good = memory >= 0 && H5Sselect_hyperslab(set->space, H5S_SELECT_SET, start, NULL, count, NULL) >= 0 &&
                H5Dread(set->images, H5T_NATIVE_UINT8, memory, set->space, H5P_DEFAULT, out) >= 0;
    encdiff_status status = good ? ENCDIFF_OK
                                 : ed_h5_fail(env, ENCDIFF_ERROR_FORMAT, base->name,
                                              "an image cannot be read (truncated?)");
    if (!good) ed_fail_within(env, "image %lld", (long long)index);
    if (memory >= 0) H5Sclose(memory);
    return status;
}

/* Neighbours in the file that are neighbours in the output too are read at once. */
static encdiff_status read_block(ed_env *env, const h5_set *set, int64_t n, place *places, uint8_t *out)
{
    size_t bytes = (size_t)set->base.height * (size_t)set->base.width * 3;
    qsort(places, (size_t)n, sizeof *places, compare_places);
    for (int64_t i = 0, run; i < n; i += run) {
        run = 1;
        while (i + run < n && places[i + run].index == places[i].index + run &&
               places[i + run].at == places[i].at + run)
            run++;
        ED_TRY(read_run(env, set, places[i].index, run, out + (size_t)places[i].at * bytes));
    }
    return ENCDIFF_OK;
}

static encdiff_status h5_read(ed_env *env, ed_dataset *dataset, int64_t n, const int64_t *indices, uint8_t *out)
{
    const h5_set *set = (const h5_set *)dataset;
    place places[BLOCK];
    encdiff_status status = ENCDIFF_OK;
    for (int64_t first = 0; first < n && status == ENCDIFF_OK; first += BLOCK) {
        int64_t some = ED_MIN((int64_t)BLOCK, n - first);
        for (int64_t i = 0; i < some; i++) places[i] = (place){indices[first + i], first + i};
        ed_h5_guard g;
        ed_h5_enter(&g);
        status = read_block(env, set, some, places, out);
        ed_h5_leave(&g);
        if (status == ENCDIFF_OK) status = ed_check_cancel(env);
    }
    return status;
}

static const ed_dataset_class h5_class = {.read = h5_read, .close = h5_close};

encdiff_status ed_h5_open(ed_env *env, const char *path, const ed_dataset_options *options, ed_dataset **out)
{
    ed_dataset *base;
    const char *slash = strrchr(path, '/');
    *out = NULL;
    ED_TRY(ed_dataset_create(env, sizeof(h5_set), &h5_class, slash ? slash + 1 : path, "h5", &base));
    h5_set *set = (h5_set *)base;
    set->file = set->driver = set->images = set->space = set->properties = -1;
    ed_h5_guard g;
    ed_h5_enter(&g);
    encdiff_status status = open_images(env, path, options, set);
    if (status == ENCDIFF_OK) status = open_labels(env, path, set);
    ed_h5_leave(&g);
    if (status == ENCDIFF_OK && base->factor_names && !strcmp(base->factor_names[0], ed_shapes3d_names[0]))
        base->format = "3dshapes.h5";
    if (status == ENCDIFF_OK && set->scattered) return ed_unpacked_open(env, base, &(ed_storage){.run = set->run}, out);
    if (status == ENCDIFF_OK)
        *out = base;
    else
        ed_dataset_free(env, base);
    return status;
}
