/*
 * A dataset of which reading one image costs the unpacking of many: large chunks, one deflated stream, files of several
 * images. Read in order that is no loss, and it is passed through. When images are read here and there, as training
 * does, all are unpacked once into a temporary file that is gone when the set is closed, where there is room for it.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "data/dataset.h"
#include "io/pixels.h"

#define COPY_BYTES ((uint64_t)8 << 20) /* read at once while unpacking */
enum { MOST_JUMPS = 4 };               /* between distant images before the set is unpacked */

typedef struct unpacked {
    ed_wrapped base;
    ed_storage storage;
    size_t image_bytes; /* in the copy: u8, of one channel for grey; f32 of an exact source */
    pthread_mutex_t lock;
    bool has_lock;
    int64_t last_run;
    int jumps; /* reads that went neither on nor to the next run */
    bool refused;
    atomic_bool done;
    ed_source copy;
} unpacked;

/* ---------------------------------------------------------------- unpacking */

static int64_t position_of(const unpacked *u, int64_t index)
{
    return u->storage.position_of ? u->storage.position_of(u->base.source, index) : index;
}

static int64_t index_at(const unpacked *u, int64_t position)
{
    return u->storage.index_at ? u->storage.index_at(u->base.source, position) : position;
}

static encdiff_status read_some(ed_env *env, const unpacked *u, int64_t n, const int64_t *indices, void *out)
{
    ed_dataset *from = u->base.source;
    return from->exact ? from->class->read_f32(env, from, n, indices, out)
                       : from->class->read(env, from, n, indices, out);
}

static void drop_channels(uint8_t *pixels, size_t count)
{
    for (size_t i = 0; i < count; i++) pixels[i] = pixels[3 * i];
}

/* The images in the order in which they are stored, so that everything is unpacked once. */
static encdiff_status copy_images(ed_env *env, const unpacked *u, int descriptor, int64_t room, int64_t *indices,
                                  uint8_t *buffer)
{
    int64_t size = u->base.source->size;
    for (int64_t first = 0; first < size; first += room) {
        int64_t n = ED_MIN(room, size - first);
        for (int64_t i = 0; i < n; i++) indices[i] = index_at(u, first + i);
        ED_TRY(read_some(env, u, n, indices, buffer));
        if (u->base.base.grey) drop_channels(buffer, (size_t)n * u->image_bytes);
        ED_TRY(ed_write_all(env, descriptor, buffer, (size_t)n * u->image_bytes, "temporary file"));
        ED_TRY(ed_check_cancel(env));
    }
    return ENCDIFF_OK;
}

static bool has_room(int descriptor, uint64_t bytes)
{
    struct statvfs info;
    return fstatvfs(descriptor, &info) != 0 || info.f_bavail >= bytes / info.f_frsize;
}

static encdiff_status unpack_into(ed_env *env, unpacked *u, int descriptor)
{
    const ed_dataset *from = u->base.source;
    uint64_t all = u->image_bytes * (uint64_t)from->size;
    if (!has_room(descriptor, all)) {
        u->refused = true;
        ed_log(env, ED_LOG_WARNING, "%s: no room for a temporary file of %llu bytes: reading at random stays slow",
               from->name, (unsigned long long)all);
        return ENCDIFF_OK;
    }
    ed_log(env, ED_LOG_INFO, "%s: unpacking %llu bytes into a temporary file; a converted file would not need it",
           from->name, (unsigned long long)all);
    int64_t room = (int64_t)ED_MIN(ED_MAX(COPY_BYTES / u->image_bytes, (uint64_t)1), (uint64_t)from->size);
    uint8_t *buffer = ed_alloc_raw(env, (size_t)room * u->image_bytes * (from->grey ? 3 : 1));
    int64_t *indices = ed_alloc(env, (size_t)room, sizeof *indices);
    char *name = ed_strdup(env, from->name);
    encdiff_status status = buffer && indices && name ? copy_images(env, u, descriptor, room, indices, buffer)
                                                      : ENCDIFF_ERROR_OUT_OF_MEMORY;
    ed_free(env, buffer);
    ed_free(env, indices);
    if (status != ENCDIFF_OK) {
        ed_free(env, name);
        return status;
    }
    u->copy = (ed_source){.name = name, .descriptor = descriptor, .owns_descriptor = true, .size = all};
    atomic_store_explicit(&u->done, true, memory_order_release);
    return ENCDIFF_OK;
}

static encdiff_status unpack(ed_env *env, unpacked *u)
{
    int descriptor;
    ED_TRY(ed_temporary_file(env, &descriptor));
    encdiff_status status = unpack_into(env, u, descriptor);
    if (!u->copy.name) close(descriptor);
    return status;
}

static encdiff_status consider(ed_env *env, unpacked *u, int64_t n, const int64_t *indices)
{
    encdiff_status status = ENCDIFF_OK;
    pthread_mutex_lock(&u->lock);
    for (int64_t i = 0; i < n; i++) {
        int64_t run = position_of(u, indices[i]) / u->storage.run;
        if (run != u->last_run && run != u->last_run + 1) u->jumps++;
        u->last_run = run;
    }
    bool wanted = u->jumps > MOST_JUMPS && !u->refused;
    if (wanted && !atomic_load_explicit(&u->done, memory_order_relaxed)) status = unpack(env, u);
    pthread_mutex_unlock(&u->lock);
    return status;
}

/* ---------------------------------------------------------------- reading */

static encdiff_status prepare(ed_env *env, unpacked *u, int64_t n, const int64_t *indices, bool *done)
{
    *done = atomic_load_explicit(&u->done, memory_order_acquire);
    if (*done) return ENCDIFF_OK;
    ED_TRY(consider(env, u, n, indices));
    *done = atomic_load_explicit(&u->done, memory_order_acquire);
    return ENCDIFF_OK;
}

static encdiff_status read_copy(ed_env *env, const unpacked *u, int64_t n, const int64_t *indices, uint8_t *out)
{
    for (int64_t i = 0; i < n; i++, out += u->image_bytes)
        ED_TRY(
            ed_source_read(env, &u->copy, (uint64_t)position_of(u, indices[i]) * u->image_bytes, out, u->image_bytes));
    return ENCDIFF_OK;
}

static encdiff_status spread_copy(ed_env *env, const unpacked *u, int64_t n, const int64_t *indices, uint8_t *out)
{
    for (int64_t i = 0; i < n; i++, out += 3 * u->image_bytes) {
        ED_TRY(read_copy(env, u, 1, indices + i, out + 2 * u->image_bytes));
        ed_pixels_spread_grey(out, u->image_bytes);
    }
    return ENCDIFF_OK;
}

/* Floats through a block on the stack: reading allocates nothing. */
static encdiff_status round_copy(ed_env *env, const unpacked *u, int64_t n, const int64_t *indices, uint8_t *out)
{
    float block[3072];
    for (int64_t i = 0; i < n; i++)
        for (size_t at = 0, some; at < u->image_bytes; at += some) {
            some = ED_MIN(sizeof block, u->image_bytes - at);
            ED_TRY(
                ed_source_read(env, &u->copy, (uint64_t)position_of(u, indices[i]) * u->image_bytes + at, block, some));
            if (ed_pixels_to_u8(env, block, 1, some / sizeof *block, indices[i], out) != ENCDIFF_OK)
                return ed_fail_within(env, "%s", u->base.base.name);
            out += some / sizeof *block;
        }
    return ENCDIFF_OK;
}

static encdiff_status unpacked_read(ed_env *env, ed_dataset *dataset, int64_t n, const int64_t *indices, uint8_t *out)
{
    unpacked *u = (unpacked *)dataset;
    bool done;
    ED_TRY(prepare(env, u, n, indices, &done));
    if (!done) return u->base.source->class->read(env, u->base.source, n, indices, out);
    if (dataset->exact) return round_copy(env, u, n, indices, out);
    return dataset->grey ? spread_copy(env, u, n, indices, out) : read_copy(env, u, n, indices, out);
}

static encdiff_status unpacked_read_f32(ed_env *env, ed_dataset *dataset, int64_t n, const int64_t *indices, float *out)
{
    unpacked *u = (unpacked *)dataset;
    bool done;
    ED_TRY(prepare(env, u, n, indices, &done));
    return done ? read_copy(env, u, n, indices, (uint8_t *)out) : read_some(env, u, n, indices, out);
}

static void unpacked_close(ed_env *env, ed_dataset *dataset)
{
    unpacked *u = (unpacked *)dataset;
    ed_source_close(env, &u->copy);
    if (u->has_lock) pthread_mutex_destroy(&u->lock);
    ed_wrapped_close(env, dataset);
}

static const ed_dataset_class bytes_class = {
    .read = unpacked_read, .labels = ed_wrapped_labels, .close = unpacked_close};
static const ed_dataset_class floats_class = {
    .read = unpacked_read, .read_f32 = unpacked_read_f32, .labels = ed_wrapped_labels, .close = unpacked_close};

encdiff_status ed_unpacked_open(ed_env *env, ed_dataset *source, const ed_storage *storage, ed_dataset **out)
{
    ed_dataset *base;
    *out = NULL;
    ED_TRY(ed_wrapped_create(env, sizeof(unpacked), source->exact ? &floats_class : &bytes_class, source, &base));
    unpacked *u = (unpacked *)base;
    u->storage = *storage;
    u->image_bytes = (size_t)base->height * (size_t)base->width *
                     (base->exact  ? 3 * sizeof(float)
                      : base->grey ? 1
                                   : 3);
    u->has_lock = pthread_mutex_init(&u->lock, NULL) == 0;
    if (!u->has_lock) {
        encdiff_status status = ed_fail(env, ENCDIFF_ERROR_OUT_OF_MEMORY, "%s: no mutex", base->name);
        ed_dataset_free(env, base);
        return status;
    }
    *out = base;
    return ENCDIFF_OK;
}
