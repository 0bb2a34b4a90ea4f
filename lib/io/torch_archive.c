/*
 * The two containers of torch.save().
 *
 *   zip      NAME/data.pkl, NAME/data/KEY for each storage, NAME/byteorder, NAME/version
 *   legacy   pickle(magic number) pickle(1001) pickle(system) pickle(value) pickle([key, ...])
 *            then for each key in that order: elements u64, data
 */
#include <stdlib.h>

#include "io/torch_archive.h"

#define PICKLE_LIMIT ((size_t)64 << 20)
#define INFLATED_LIMIT ((uint64_t)1 << 30) /* torch.save() stores; what was packed again must be of a sane size */
#define FIRST_PREFIX ((size_t)1 << 20)

/* pickle of 0x1950a86a20f9469cfc6c, protocol 2 */
static const uint8_t legacy_magic[] = {0x80, 2,    0x8a, 10,   0x6c, 0xfc, 0x9c, 0x46,
                                       0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, '.'};

static bool begins_with(ed_env *env, const ed_source *source, const void *magic, size_t size)
{
    uint8_t head[16];
    return source->size >= size && ed_source_read(env, source, 0, head, size) == ENCDIFF_OK &&
           memcmp(head, magic, size) == 0;
}

bool ed_torch_detect(ed_env *env, const ed_source *source)
{
    return begins_with(env, source, "PK\3\4", 4) || begins_with(env, source, legacy_magic, sizeof legacy_magic);
}

void ed_torch_archive_close(ed_env *env, ed_torch_archive *a)
{
    for (size_t i = 0; i < a->storage_count; i++) ed_free(env, a->storages[i]);
    ed_free(env, a->storages);
    ed_free(env, a->places);
    ed_pickle_free(env, a->pickle);
    ed_free(env, a->data);
    ed_zip_close(env, a->zip);
    ed_source_close(env, &a->source);
    *a = (ed_torch_archive){0};
}

static void forget_data(ed_env *env, ed_torch_archive *a)
{
    ed_free(env, a->data);
    a->data = NULL;
}

/* ---------------------------------------------------------------- places */

static int compare_places(const void *a, const void *b)
{
    return strcmp(((const ed_torch_place *)a)->key, ((const ed_torch_place *)b)->key);
}

static encdiff_status sort_places(ed_env *env, ed_torch_archive *a, const char *path)
{
    if (a->place_count) qsort(a->places, a->place_count, sizeof *a->places, compare_places);
    for (size_t i = 1; i < a->place_count; i++)
        if (compare_places(&a->places[i - 1], &a->places[i]) == 0)
            return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: storage \"%.60s\" is there twice", path, a->places[i].key);
    return ENCDIFF_OK;
}

const ed_torch_place *ed_torch_archive_find(const ed_torch_archive *a, const char *key)
{
    ed_torch_place wanted = {.key = key};
    if (!a->place_count) return NULL;
    return bsearch(&wanted, a->places, a->place_count, sizeof wanted, compare_places);
}

encdiff_status ed_torch_archive_read(ed_env *env, const ed_torch_archive *a, const ed_torch_place *place, void *out)
{
    if (!a->zip) return ed_source_read(env, &a->source, place->offset, out, (size_t)place->bytes);
    if (place->member->deflated && place->bytes > INFLATED_LIMIT)
        return ed_fail(env, ENCDIFF_ERROR_UNSUPPORTED,
                       "%s: storage \"%.60s\" inflates to %llu bytes, which is refused: torch.save() does not deflate",
                       ed_zip_path(a->zip), place->key, (unsigned long long)place->bytes);
    return ed_zip_read(env, a->zip, place->member, out);
}

/* ---------------------------------------------------------------- zip */

/* The members of the folder that data.pkl is in; *prefix is its length. */
static const ed_zip_member *find_data(const ed_zip *zip, size_t *prefix)
{
    for (size_t i = 0; i < ed_zip_count(zip); i++) {
        const char *name = ed_zip_at(zip, i)->name, *slash = strchr(name, '/');
        if (!slash || strcmp(slash, "/data.pkl") != 0) continue;
        *prefix = (size_t)(slash - name) + 1;
        return ed_zip_at(zip, i);
    }
    return NULL;
}

static encdiff_status check_byte_order(ed_env *env, const ed_zip *zip, const ed_zip_member *m)
{
    char order[8] = "";
    if (m->size >= sizeof order) return ENCDIFF_OK;
    ED_TRY(ed_zip_read(env, zip, m, order));
    if (strncmp(order, "big", 3) != 0) return ENCDIFF_OK;
    return ed_fail(env, ENCDIFF_ERROR_UNSUPPORTED, "%s: its numbers are big-endian", ed_zip_path(zip));
}

static encdiff_status list_members(ed_env *env, ed_torch_archive *a, const char *folder, size_t prefix)
{
    size_t count = ed_zip_count(a->zip);
    if (!(a->places = ed_alloc(env, ED_MAX(count, 1), sizeof *a->places))) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    for (size_t i = 0; i < count; i++) {
        const ed_zip_member *m = ed_zip_at(a->zip, i);
        if (strncmp(m->name, folder, prefix) != 0) continue;
        if (strcmp(m->name + prefix, "byteorder") == 0) ED_TRY(check_byte_order(env, a->zip, m));
        if (strncmp(m->name + prefix, "data/", 5) == 0)
            a->places[a->place_count++] = (ed_torch_place){.key = m->name + prefix + 5, .member = m, .bytes = m->size};
    }
    return sort_places(env, a, ed_zip_path(a->zip));
}

static encdiff_status open_zip(ed_env *env, ed_torch_archive *a, const char *path, const ed_pickle_host *host)
{
    size_t prefix = 0, used = 0;
    ED_TRY(ed_zip_open(env, path, &a->zip));
    const ed_zip_member *m = find_data(a->zip, &prefix);
    if (!m)
        return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: a zip without data.pkl: torch.save() did not write it", path);
    if (m->size > PICKLE_LIMIT)
        return ed_fail(env, ENCDIFF_ERROR_UNSUPPORTED, "%s: its pickle has %llu bytes, more than %zu", path,
                       (unsigned long long)m->size, PICKLE_LIMIT);
    if (!(a->data = ed_alloc_raw(env, (size_t)m->size + 1))) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    ED_TRY(ed_zip_read(env, a->zip, m, a->data));
    ED_TRY(ed_pickle_create(env, host, &a->pickle));
    ED_TRY(ed_pickle_read(env, a->pickle, a->data, (size_t)m->size, &used, NULL, &a->root));
    forget_data(env, a);
    return list_members(env, a, m->name, prefix);
}

/* ---------------------------------------------------------------- legacy */

enum { PROTOCOL, SYSTEM, VALUE, KEYS, PICKLES };

static encdiff_status check_system(ed_env *env, const char *path, ed_py *const values[PICKLES])
{
    const ed_py *little = ed_py_get(values[SYSTEM], "little_endian");
    if (values[PROTOCOL]->kind != ED_PY_INT || values[PROTOCOL]->integer != 1001)
        return ed_fail(env, ENCDIFF_ERROR_UNSUPPORTED, "%s: not version 1001 of torch.save()'s format", path);
    if (little && little->kind == ED_PY_BOOL && !little->integer)
        return ed_fail(env, ENCDIFF_ERROR_UNSUPPORTED, "%s: its numbers are big-endian", path);
    return ENCDIFF_OK;
}

/* The pickles in the first `size` bytes. */
static encdiff_status read_pickles(ed_env *env, ed_torch_archive *a, size_t size, bool *truncated, size_t *end,
                                   ed_py *values[PICKLES])
{
    size_t at = sizeof legacy_magic, used = 0;
    for (int i = 0; i < PICKLES; i++, at += used)
        ED_TRY(ed_pickle_read(env, a->pickle, (const uint8_t *)a->data + at, size - at, &used, truncated, &values[i]));
    *end = at;
    return ENCDIFF_OK;
}

static void forget(ed_env *env, ed_torch_archive *a)
{
    for (size_t i = 0; i < a->storage_count; i++) ed_free(env, a->storages[i]);
    a->storage_count = 0;
    ed_pickle_free(env, a->pickle);
    a->pickle = NULL;
    forget_data(env, a);
}

/* Nothing says how long the pickles are: a longer and longer part of the file is read until they are in it. */
static encdiff_status read_prefix(ed_env *env, ed_torch_archive *a, const ed_pickle_host *host, size_t *end,
                                  ed_py *values[PICKLES])
{
    size_t most = (size_t)ED_MIN(a->source.size, (uint64_t)PICKLE_LIMIT);
    for (size_t size = ED_MIN(FIRST_PREFIX, most);; size = ED_MIN(8 * size, most)) {
        bool truncated = false;
        if (!(a->data = ed_alloc_raw(env, size + 1))) return ENCDIFF_ERROR_OUT_OF_MEMORY;
        ED_TRY(ed_source_read(env, &a->source, 0, a->data, size));
        ED_TRY(ed_pickle_create(env, host, &a->pickle));
        encdiff_status status = read_pickles(env, a, size, &truncated, end, values);
        if (status == ENCDIFF_OK || !truncated || size == most) return status;
        forget(env, a);
    }
}

static int compare_storages(const void *a, const void *b)
{
    return strcmp((*(ed_torch_storage *const *)a)->key, (*(ed_torch_storage *const *)b)->key);
}

static encdiff_status place_storages(ed_env *env, ed_torch_archive *a, const char *path, const ed_py *keys, uint64_t at)
{
    if (keys->kind != ED_PY_LIST) return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: its storages are not listed", path);
    if (!(a->places = ed_alloc(env, ED_MAX(keys->count, 1), sizeof *a->places))) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    if (a->storage_count) qsort(a->storages, a->storage_count, sizeof *a->storages, compare_storages);
    for (size_t i = 0; i < keys->count; i++) {
        uint64_t count = 0, bytes;
        ed_torch_storage wanted = {.key = keys->items[i]->kind == ED_PY_TEXT ? keys->items[i]->text : ""};
        ed_torch_storage *key = &wanted, **found = NULL;
        if (a->storage_count)
            found = bsearch(&key, a->storages, a->storage_count, sizeof *a->storages, compare_storages);
        if (!found) return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: no tensor has storage \"%.60s\"", path, wanted.key);
        ED_TRY(ed_source_read(env, &a->source, at, &count, 8));
        at += 8;
        if (__builtin_mul_overflow(count, ed_st_type_size((*found)->type), &bytes) || bytes > a->source.size - at)
            return ed_fail(env, ENCDIFF_ERROR_FORMAT,
                           "%s: storage \"%.60s\" ends beyond the end of the file "
                           "(truncated?)",
                           path, wanted.key);
        a->places[a->place_count++] = (ed_torch_place){.key = wanted.key, .offset = at, .bytes = bytes};
        at += bytes;
    }
    return sort_places(env, a, path);
}

static encdiff_status open_legacy(ed_env *env, ed_torch_archive *a, const char *path, const ed_pickle_host *host)
{
    size_t end = 0;
    ed_py *values[PICKLES];
    ED_TRY(read_prefix(env, a, host, &end, values));
    forget_data(env, a);
    ED_TRY(check_system(env, path, values));
    a->root = values[VALUE];
    return place_storages(env, a, path, values[KEYS], end);
}

encdiff_status ed_torch_archive_open(ed_env *env, const char *path, const ed_pickle_host *host, ed_torch_archive *a)
{
    ED_TRY(ed_source_open(env, path, &a->source));
    if (begins_with(env, &a->source, legacy_magic, sizeof legacy_magic)) return open_legacy(env, a, path, host);
    if (begins_with(env, &a->source, "PK\3\4", 4)) return open_zip(env, a, path, host);
    return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: torch.save() did not write it: neither a zip nor its older format",
                   path);
}
