/*
 * HDF5 files with images u8 [n][h][w][3] and, beside them, labels [n][k] (or [n]): 3dshapes.h5 and everything like it.
 * HDF5 appears in this file alone.
 *
 * The library that Debian ships is not thread-safe, so every use of it here, by whatever context, is behind one
 * process-wide lock: the only state of this library that is shared between contexts. The host's error printing is
 * switched off inside the lock and put back. A host that calls HDF5 itself from other threads must arrange that too.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <hdf5.h>

#include "data/dataset.h"
#include "io/image.h"

#define CHUNK_LIMIT ((uint64_t)1 << 30)   /* bytes; HDF5 takes that much memory to read one image of it */
#define CACHE_LIMIT ((uint64_t)512 << 20) /* for files whose chunks hold many images */
#define CACHE_DEFAULT ((uint64_t)64 << 20)
#define UNPACK_BYTES ((uint64_t)64 << 20)
enum {
    WRITE_BLOCK = 64, /* images */
    SCATTERED = 64,   /* images inflated to read one, from which on a file is unpacked */
    MOST_JUMPS = 4,   /* between distant images before it is */
};

/*
 * Images in a chunk of the files written here. Training reads single images at random, and each costs the inflation of
 * its chunk; larger chunks compress no better.
 */
#define WRITE_CHUNK 1

/* ---------------------------------------------------------------- lock and errors */

static pthread_mutex_t library_lock = PTHREAD_MUTEX_INITIALIZER;

typedef struct guard {
    H5E_auto2_t print;
    void *print_data;
} guard;

static void enter(guard *g)
{
    pthread_mutex_lock(&library_lock);
    H5Eget_auto2(H5E_DEFAULT, &g->print, &g->print_data);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

static void leave(const guard *g)
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

static encdiff_status h5_fail(ed_env *env, encdiff_status kind, const char *path, const char *what)
{
    const char *reason = "no reason given";
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_innermost, &reason);
    encdiff_status status = ed_fail(env, kind, "%s: %s: %s", path, what, reason);
    H5Eclear2(H5E_DEFAULT);
    return status;
}

/* ---------------------------------------------------------------- looking into a file */

typedef struct h5_set {
    ed_dataset base;
    hid_t file, images, space; /* negative when not open */

    /* Where reading one image inflates many: see unpack(). */
    bool scattered;
    int64_t run; /* images that share chunks */
    pthread_mutex_t lock;
    bool has_lock;
    int64_t last_run;
    int jumps; /* reads that went neither on nor to the next run */
    bool refused;
    atomic_bool unpacked;
    ed_source copy;
} h5_set;

/* What a dataset in the file is. */
typedef struct shape {
    int rank;
    hsize_t dim[4];
    H5T_class_t type;
    size_t size;
    bool is_unsigned;
} shape;

/* false: not a dataset of rank 1 to 4. */
static bool inspect(hid_t dataset, shape *out)
{
    hid_t space = H5Dget_space(dataset), type = H5Dget_type(dataset);
    *out = (shape){.rank = H5Sget_simple_extent_ndims(space)};
    bool good = space >= 0 && type >= 0 && out->rank >= 1 && out->rank <= 4;
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

static bool are_images(const shape *s)
{
    return s->rank == 4 && s->dim[3] == 3 && s->is_unsigned && s->size == 1 && s->dim[0] && s->dim[1] && s->dim[2];
}

/* Only links within the file: a file must not make the reader open others. */
static bool is_inside(hid_t file, const char *name)
{
    H5L_info_t info;
    return H5Lexists(file, name, H5P_DEFAULT) > 0 && H5Lget_info(file, name, &info, H5P_DEFAULT) >= 0 &&
           info.type == H5L_TYPE_HARD;
}

static hid_t open_inside(hid_t file, const char *name, hid_t access)
{
    return is_inside(file, name) ? H5Dopen2(file, name, access) : -1;
}

/* "images", or else the first dataset of the root group that has them. */
static bool find_images(hid_t file, char name[256])
{
    H5G_info_t group;
    strcpy(name, "images");
    if (is_inside(file, name)) return true;
    if (H5Gget_info(file, &group) < 0) return false;
    for (hsize_t i = 0; i < group.nlinks && i < 1000; i++) {
        shape s;
        ssize_t length = H5Lget_name_by_idx(file, ".", H5_INDEX_NAME, H5_ITER_INC, i, name, 256, H5P_DEFAULT);
        hid_t dataset = length > 0 && length < 256 ? open_inside(file, name, H5P_DEFAULT) : -1;
        if (dataset < 0) continue;
        bool found = inspect(dataset, &s) && are_images(&s);
        H5Dclose(dataset);
        if (found) return true;
    }
    return false;
}

/* ---------------------------------------------------------------- storage */

/* External files, virtual datasets and filters that this HDF5 lacks. */
static encdiff_status check_storage(ed_env *env, const char *path, hid_t properties)
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

/* An unwritten dataset can claim any size; what is stored bounds what can be there (deflate shrinks 1032 times). */
static encdiff_status check_amount(ed_env *env, const char *path, hid_t dataset, const shape *s)
{
    size_t bytes = s->size;
    for (int i = 0; i < s->rank; i++)
        if (!ed_mul(bytes, (size_t)s->dim[i], &bytes))
            return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: the size of its data overflows", path);
    if (bytes / 1100 > H5Dget_storage_size(dataset) || bytes > INT64_MAX / 8)
        return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: most of the data it claims was never written", path);
    return ENCDIFF_OK;
}

/*
 * The chunk cache holds the chunks that a run of images lies in, so that reading in order inflates each once whatever
 * the file's chunks are.
 */
static encdiff_status plan_cache(ed_env *env, h5_set *set, const char *path, const shape *s, const hsize_t *chunk,
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
               ? h5_fail(env, ENCDIFF_ERROR_FORMAT, path, "its cache could not be set up")
               : ENCDIFF_OK;
}

/* What the dataset says of itself decides how it is opened. */
static encdiff_status examine_images(ed_env *env, h5_set *set, const char *path, hid_t dataset, uint64_t cache,
                                     hid_t access, shape *s)
{
    if (!inspect(dataset, s) || !are_images(s))
        return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: its images are not u8 [n][height][width][3]", path);
    if (s->dim[1] > ED_IMAGE_MAX_SIDE || s->dim[2] > ED_IMAGE_MAX_SIDE)
        return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: images of %llu x %llu pixels are not read", path,
                       (unsigned long long)s->dim[2], (unsigned long long)s->dim[1]);
    ED_TRY(check_amount(env, path, dataset, s));
    hid_t properties = H5Dget_create_plist(dataset);
    if (properties < 0) return h5_fail(env, ENCDIFF_ERROR_FORMAT, path, "its properties cannot be read");
    hsize_t chunk[4];
    encdiff_status status = check_storage(env, path, properties);
    if (status == ENCDIFF_OK && H5Pget_layout(properties) == H5D_CHUNKED)
        status = H5Pget_chunk(properties, 4, chunk) == 4
                     ? plan_cache(env, set, path, s, chunk, cache, access)
                     : h5_fail(env, ENCDIFF_ERROR_FORMAT, path, "its chunks cannot be read");
    H5Pclose(properties);
    return status;
}

/* ---------------------------------------------------------------- opening */

static encdiff_status open_images(ed_env *env, const char *path, const ed_dataset_options *options, h5_set *set)
{
    char name[256];
    shape s;
    if ((set->file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT)) < 0)
        return h5_fail(env, ENCDIFF_ERROR_FORMAT, path, "cannot be opened");
    if (!find_images(set->file, name))
        return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: no images u8 [n][height][width][3] are in it", path);
    hid_t access = H5Pcreate(H5P_DATASET_ACCESS), first = open_inside(set->file, name, H5P_DEFAULT);
    encdiff_status status = first < 0 ? h5_fail(env, ENCDIFF_ERROR_FORMAT, path, "its images cannot be opened")
                                      : examine_images(env, set, path, first,
                                                       options->cache_bytes ? options->cache_bytes : CACHE_DEFAULT,
                                                       access, &s);
    if (first >= 0) H5Dclose(first);
    if (status == ENCDIFF_OK && (set->images = H5Dopen2(set->file, name, access)) < 0)
        status = h5_fail(env, ENCDIFF_ERROR_FORMAT, path, "its images cannot be opened");
    if (access >= 0) H5Pclose(access);
    if (status != ENCDIFF_OK) return status;
    if ((set->space = H5Dget_space(set->images)) < 0)
        return h5_fail(env, ENCDIFF_ERROR_FORMAT, path, "its images cannot be opened");
    set->base.size = (int64_t)s.dim[0];
    set->base.height = (int)s.dim[1];
    set->base.width = (int)s.dim[2];
    return ENCDIFF_OK;
}

static encdiff_status read_labels(ed_env *env, const char *path, h5_set *set, hid_t dataset)
{
    shape s;
    if (!inspect(dataset, &s) || s.rank > 2 || (s.type != H5T_INTEGER && s.type != H5T_FLOAT) ||
        s.dim[0] != (hsize_t)set->base.size)
        return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: its labels are not numbers [n][factors]", path);
    ED_TRY(check_amount(env, path, dataset, &s));
    hid_t properties = H5Dget_create_plist(dataset);
    encdiff_status status = properties < 0
                                ? h5_fail(env, ENCDIFF_ERROR_FORMAT, path, "its labels' properties cannot be read")
                                : check_storage(env, path, properties);
    if (properties >= 0) H5Pclose(properties);
    if (status != ENCDIFF_OK) return status;
    hsize_t factors = s.rank == 2 ? s.dim[1] : 1;
    double *values = ed_alloc(env, (size_t)s.dim[0], (size_t)factors * sizeof(double));
    if (!values) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    status = H5Dread(dataset, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) < 0
                 ? h5_fail(env, ENCDIFF_ERROR_FORMAT, path, "its labels cannot be read")
                 : ed_dataset_set_values(env, &set->base, (int)ED_MIN(factors, (hsize_t)INT32_MAX), values);
    ed_free(env, values);
    return status;
}

static encdiff_status open_labels(ed_env *env, const char *path, h5_set *set)
{
    hid_t labels = open_inside(set->file, "labels", H5P_DEFAULT);
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
    guard g;
    ed_source_close(env, &set->copy);
    if (set->has_lock) pthread_mutex_destroy(&set->lock);
    enter(&g);
    if (set->space >= 0) H5Sclose(set->space);
    if (set->images >= 0) H5Dclose(set->images);
    if (set->file >= 0) H5Fclose(set->file);
    leave(&g);
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
    hsize_t start[4] = {(hsize_t)index, 0, 0, 0};
    hsize_t count[4] = {(hsize_t)n, (hsize_t)base->height, (hsize_t)base->width, 3};
    hid_t memory = H5Screate_simple(4, count, NULL);
    bool good = memory >= 0 && H5Sselect_hyperslab(set->space, H5S_SELECT_SET, start, NULL, count, NULL) >= 0 &&
                H5Dread(set->images, H5T_NATIVE_UINT8, memory, set->space, H5P_DEFAULT, out) >= 0;
    encdiff_status status = good ? ENCDIFF_OK
                                 : h5_fail(env, ENCDIFF_ERROR_FORMAT, base->name,
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

static encdiff_status read_sorted(ed_env *env, const h5_set *set, int64_t n, const int64_t *indices, uint8_t *out)
{
    place places[BLOCK];
    encdiff_status status = ENCDIFF_OK;
    for (int64_t first = 0; first < n && status == ENCDIFF_OK; first += BLOCK) {
        int64_t some = ED_MIN((int64_t)BLOCK, n - first);
        for (int64_t i = 0; i < some; i++) places[i] = (place){indices[first + i], first + i};
        guard g;
        enter(&g);
        status = read_block(env, set, some, places, out);
        leave(&g);
        if (status == ENCDIFF_OK) status = ed_check_cancel(env);
    }
    return status;
}

/* ---------------------------------------------------------------- unpacking
 *
 * h5py's own choice of chunks for the published 3dshapes.h5 is 15,000 images x 4 x 4 pixels x 1 channel: one image lies
 * in 768 chunks, and reading it inflates 184 MB. Reading in order that is fine, with a cache of that size. When images
 * are read here and there, the file is inflated once into a temporary file that is gone when the set is closed.
 */

static encdiff_status copy_images(ed_env *env, const h5_set *set, int descriptor, uint8_t *buffer, int64_t room)
{
    size_t bytes = (size_t)set->base.height * (size_t)set->base.width * 3;
    for (int64_t first = 0; first < set->base.size; first += room) {
        int64_t n = ED_MIN(room, set->base.size - first);
        guard g;
        enter(&g);
        encdiff_status status = read_run(env, set, first, n, buffer);
        leave(&g);
        if (status != ENCDIFF_OK) return status;
        ED_TRY(ed_write_all(env, descriptor, buffer, (size_t)n * bytes, "temporary file"));
        ED_TRY(ed_check_cancel(env));
    }
    return ENCDIFF_OK;
}

static bool has_room(int descriptor, uint64_t bytes)
{
    struct statvfs info;
    return fstatvfs(descriptor, &info) != 0 || info.f_bavail >= bytes / info.f_frsize;
}

static encdiff_status unpack_into(ed_env *env, h5_set *set, int descriptor)
{
    uint64_t bytes = (uint64_t)set->base.height * (uint64_t)set->base.width * 3, all = bytes * (uint64_t)set->base.size;
    if (!has_room(descriptor, all)) {
        set->refused = true;
        ed_log(env, ED_LOG_WARNING, "%s: no room for a temporary file of %llu bytes: reading at random stays slow",
               set->base.name, (unsigned long long)all);
        return ENCDIFF_OK;
    }
    ed_log(env, ED_LOG_INFO, "%s: unpacking %llu bytes into a temporary file; a converted file would not need it",
           set->base.name, (unsigned long long)all);
    uint64_t room = ED_MAX(UNPACK_BYTES / bytes, (uint64_t)1);
    uint8_t *buffer = ed_alloc_raw(env, (size_t)(room * bytes));
    if (!buffer) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    encdiff_status status = copy_images(env, set, descriptor, buffer, (int64_t)room);
    ed_free(env, buffer);
    char *name = status == ENCDIFF_OK ? ed_strdup(env, set->base.name) : NULL;
    if (!name) return status == ENCDIFF_OK ? ENCDIFF_ERROR_OUT_OF_MEMORY : status;
    set->copy = (ed_source){.name = name, .descriptor = descriptor, .owns_descriptor = true, .size = all};
    atomic_store_explicit(&set->unpacked, true, memory_order_release);
    return ENCDIFF_OK;
}

static encdiff_status unpack(ed_env *env, h5_set *set)
{
    int descriptor;
    ED_TRY(ed_temporary_file(env, &descriptor));
    encdiff_status status = unpack_into(env, set, descriptor);
    if (!set->copy.name) close(descriptor);
    return status;
}

static encdiff_status consider_unpacking(ed_env *env, h5_set *set, int64_t n, const int64_t *indices)
{
    encdiff_status status = ENCDIFF_OK;
    pthread_mutex_lock(&set->lock);
    for (int64_t i = 0; i < n; i++) {
        int64_t run = indices[i] / set->run;
        if (run != set->last_run && run != set->last_run + 1) set->jumps++;
        set->last_run = run;
    }
    bool wanted = set->jumps > MOST_JUMPS && !set->refused;
    if (wanted && !atomic_load_explicit(&set->unpacked, memory_order_relaxed)) status = unpack(env, set);
    pthread_mutex_unlock(&set->lock);
    return status;
}

static encdiff_status h5_read(ed_env *env, ed_dataset *dataset, int64_t n, const int64_t *indices, uint8_t *out)
{
    h5_set *set = (h5_set *)dataset;
    if (set->scattered && !atomic_load_explicit(&set->unpacked, memory_order_acquire))
        ED_TRY(consider_unpacking(env, set, n, indices));
    if (!atomic_load_explicit(&set->unpacked, memory_order_acquire)) return read_sorted(env, set, n, indices, out);
    size_t bytes = (size_t)dataset->height * (size_t)dataset->width * 3;
    for (int64_t i = 0; i < n; i++, out += bytes)
        ED_TRY(ed_source_read(env, &set->copy, (uint64_t)indices[i] * bytes, out, bytes));
    return ENCDIFF_OK;
}

static const ed_dataset_class h5_class = {.read = h5_read, .close = h5_close};

encdiff_status ed_h5_open(ed_env *env, const char *path, const ed_dataset_options *options, ed_dataset **out)
{
    ed_dataset *base;
    const char *slash = strrchr(path, '/');
    *out = NULL;
    ED_TRY(ed_dataset_create(env, sizeof(h5_set), &h5_class, slash ? slash + 1 : path, "h5", &base));
    h5_set *set = (h5_set *)base;
    set->file = set->images = set->space = -1;
    set->has_lock = pthread_mutex_init(&set->lock, NULL) == 0;
    guard g;
    enter(&g);
    encdiff_status status = set->has_lock ? open_images(env, path, options, set)
                                          : ed_fail(env, ENCDIFF_ERROR_OUT_OF_MEMORY, "%s: no mutex", path);
    if (status == ENCDIFF_OK) status = open_labels(env, path, set);
    leave(&g);
    if (status == ENCDIFF_OK && base->factor_names && !strcmp(base->factor_names[0], ed_shapes3d_names[0]))
        base->format = "3dshapes.h5";
    if (status == ENCDIFF_OK)
        *out = base;
    else
        ed_dataset_free(env, base);
    return status;
}

/* ---------------------------------------------------------------- writing */

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
    if (w->file < 0) return h5_fail(env, ENCDIFF_ERROR_IO, w->path, "cannot be written");
    w->images = create_dataset(w->file, "images", H5T_STD_U8LE, 4, images, level ? chunk : NULL, level);
    if (w->images >= 0 && d->factors) w->labels = create_dataset(w->file, "labels", H5T_IEEE_F64LE, 2, labels, NULL, 0);
    if (w->images < 0 || (d->factors && w->labels < 0))
        return h5_fail(env, ENCDIFF_ERROR_IO, w->path, "cannot be written");
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
    guard g;
    enter(&g);
    bool good = write_slab(w->images, H5T_NATIVE_UINT8, 4, start, images, w->pixels) &&
                (!d->factors || write_slab(w->labels, H5T_NATIVE_DOUBLE, 2, start, labels, w->values));
    encdiff_status status = good ? ENCDIFF_OK : h5_fail(env, ENCDIFF_ERROR_IO, w->path, "writing failed");
    leave(&g);
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
    guard g;
    enter(&g);
    if (w->images >= 0) good = H5Dclose(w->images) >= 0 && good;
    if (w->labels >= 0) good = H5Dclose(w->labels) >= 0 && good;
    if (w->file >= 0) good = H5Fclose(w->file) >= 0 && good;
    encdiff_status status = good ? ENCDIFF_OK : h5_fail(env, ENCDIFF_ERROR_IO, w->path, "writing failed");
    leave(&g);
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
    guard g;
    enter(&g);
    encdiff_status status = create_file(env, temporary, level, w);
    leave(&g);
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
