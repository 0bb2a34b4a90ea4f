/*
 * LMDB databases of encoded pictures under the keys "<resolution>-<index>", the index padded with zeros, as DiffAE and
 * its followers keep CelebA and FFHQ; the key "length" may say how many. A list_attr_celeba.txt beside the data gives
 * labels.
 *
 * The file is read as data and not through liblmdb, which maps it and trusts what it finds: a damaged file would end
 * the host. Only the newest committed tree of the main database is walked.
 *
 *   page    [number u64, pad u16, flags u16, lower u16, upper u16 | overflow pages u32], then offsets u16 of its nodes
 *   node    [low u16, high u16, flags u16, key size u16, key, value]; in a branch, low, high and flags are a page
 *   meta    at 16 of the first two pages: magic, version, ..., two trees of 48 bytes, last page, transaction
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "data/celeba.h"

enum { PAGE_HEAD = 16, NODE_HEAD = 8, BRANCH = 1, LEAF = 2, DEEPEST = 32 };
enum { NODE_BIG = 1, NODE_OTHER = 6 }; /* the value lies on pages of its own; a tree or duplicates */

typedef struct entry {
    int64_t resolution, index;
    uint64_t offset, size;
} entry;

typedef struct database {
    ed_source source;
    uint32_t page_size;
    uint64_t pages, visited;
    uint8_t *stack; /* [DEEPEST][page_size] */
    entry *entries;
    size_t count, capacity;
    int64_t length; /* by the key of that name; -1: there is none */
} database;

static uint64_t get(const uint8_t *p, int bytes)
{
    uint64_t value = 0;
    memcpy(&value, p, (size_t)bytes);
    return value;
}

static encdiff_status damaged(ed_env *env, const database *d, const char *what)
{
    return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: damaged LMDB file: %s", d->source.name, what);
}

/* ---------------------------------------------------------------- keys */

/* "128-00042"; anything else is not a picture. */
static bool parse_key(const uint8_t *key, size_t size, entry *out)
{
    size_t at = 0;
    int64_t *numbers[2] = {&out->resolution, &out->index};
    for (int i = 0; i < 2; i++) {
        size_t begin = at;
        *numbers[i] = 0;
        for (; at < size && key[at] >= '0' && key[at] <= '9' && at - begin < 12; at++)
            *numbers[i] = *numbers[i] * 10 + (key[at] - '0');
        if (at == begin || (i == 0 && (at >= size || key[at++] != '-'))) return false;
    }
    return at == size;
}

static encdiff_status add_leaf(ed_env *env, database *d, const uint8_t *page, size_t at)
{
    const uint8_t *node = page + at;
    size_t key = (size_t)get(node + 6, 2), value = at + NODE_HEAD + key;
    uint64_t size = get(node, 2) | get(node + 2, 2) << 16;
    unsigned flags = (unsigned)get(node + 4, 2);
    entry e = {.size = size};
    if (value > d->page_size) return damaged(env, d, "a key reaches beyond its page");
    bool big = flags & NODE_BIG, picture = parse_key(node + NODE_HEAD, key, &e);
    if (flags & NODE_OTHER) return ENCDIFF_OK;
    if ((big ? 8 : size) > d->page_size - value) return damaged(env, d, "a value reaches beyond its page");
    if (!big && key == 6 && memcmp(node + NODE_HEAD, "length", 6) == 0 && size < 16) {
        char text[16] = "";
        memcpy(text, page + value, (size_t)size);
        d->length = strtoll(text, NULL, 10);
    }
    if (!picture) return ENCDIFF_OK;
    uint64_t number = big ? get(page + value, 8) : 0;
    if (number > d->pages) return damaged(env, d, "a value lies beyond the end");
    e.offset = big ? number * d->page_size + PAGE_HEAD
                   : get(page, 8) * d->page_size + value; /* the page's number was compared */
    if (e.offset > d->source.size || size > d->source.size - e.offset)
        return damaged(env, d, "a value lies beyond the end");
    ED_TRY(ed_reserve(env, &d->entries, &d->capacity, d->count + 1, sizeof e));
    d->entries[d->count++] = e;
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- the tree */

static encdiff_status walk(ed_env *env, database *d, uint64_t number, int depth)
{
    uint8_t *page = d->stack + (size_t)depth * d->page_size;
    if (number >= d->pages || ++d->visited > d->pages) return damaged(env, d, "its pages lead astray");
    ED_TRY(ed_source_read(env, &d->source, number * d->page_size, page, d->page_size));
    size_t lower = (size_t)get(page + 12, 2), flags = (size_t)get(page + 10, 2);
    if (get(page, 8) != number || lower < PAGE_HEAD || lower > d->page_size || !(flags & (BRANCH | LEAF)))
        return damaged(env, d, "a page is not what it should be");
    for (size_t i = 0; i < (lower - PAGE_HEAD) / 2; i++) {
        size_t at = (size_t)get(page + PAGE_HEAD + 2 * i, 2);
        if (at + NODE_HEAD > d->page_size) return damaged(env, d, "a node reaches beyond its page");
        if (flags & LEAF)
            ED_TRY(add_leaf(env, d, page, at));
        else if (depth + 1 == DEEPEST)
            return damaged(env, d, "its tree is too deep");
        else
            ED_TRY(
                walk(env, d, get(page + at, 2) | get(page + at + 2, 2) << 16 | get(page + at + 4, 2) << 32, depth + 1));
    }
    return ed_check_cancel(env);
}

typedef struct meta {
    uint64_t root, last_page, transaction;
    uint32_t page_size;
} meta;

static encdiff_status read_meta(ed_env *env, const database *d, uint64_t offset, meta *out)
{
    uint8_t m[152];
    ED_TRY(ed_source_read(env, &d->source, offset, m, sizeof m));
    if (get(m + 16, 4) != 0xBEEFC0DEu || get(m + 20, 4) != 1) return damaged(env, d, "its head");
    *out = (meta){.page_size = (uint32_t)get(m + 40, 4),
                  .root = get(m + 128, 8),
                  .last_page = get(m + 136, 8),
                  .transaction = get(m + 144, 8)};
    return ENCDIFF_OK;
}

static encdiff_status read_tree(ed_env *env, database *d)
{
    meta a, b;
    ED_TRY(read_meta(env, d, 0, &a));
    d->page_size = a.page_size;
    if (a.page_size < 512 || a.page_size > 65536 || (a.page_size & (a.page_size - 1)))
        return damaged(env, d, "its page size");
    ED_TRY(read_meta(env, d, a.page_size, &b));
    if (b.transaction > a.transaction) a = b;
    d->pages = d->source.size / d->page_size;
    if (a.last_page >= d->pages) return damaged(env, d, "truncated");
    if (a.root == UINT64_MAX) return ENCDIFF_OK; /* empty */
    if (!(d->stack = ed_alloc_raw(env, (size_t)DEEPEST * d->page_size))) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    return walk(env, d, a.root, 0);
}

/* ---------------------------------------------------------------- which pictures */

static int compare_entries(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    if (x->resolution != y->resolution) return x->resolution < y->resolution ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

/* The resolution that is asked for, where it is there, else the largest; in the order of the indices, without gaps. */
static encdiff_status choose(ed_env *env, database *d, int wanted)
{
    size_t kept = 0;
    if (!d->count)
        return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: no pictures under keys \"<resolution>-<index>\"",
                       d->source.name);
    qsort(d->entries, d->count, sizeof *d->entries, compare_entries);
    int64_t resolution = d->entries[d->count - 1].resolution;
    for (size_t i = 0; i < d->count; i++)
        if (d->entries[i].resolution == wanted) resolution = wanted;
    for (size_t i = 0; i < d->count; i++)
        if (d->entries[i].resolution == resolution) d->entries[kept++] = d->entries[i];
    d->count = kept;
    for (size_t i = 0; i < kept; i++)
        if (d->entries[i].index != d->entries[0].index + (int64_t)i || d->entries[0].index > 1)
            return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: picture %lld-%lld is missing", d->source.name,
                           (long long)resolution,
                           (long long)(d->entries[0].index > 1 ? 0 : d->entries[0].index + (int64_t)i));
    if (d->length < 0 || d->length == (int64_t)kept) return ENCDIFF_OK;
    return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: %zu pictures, but its \"length\" is %lld", d->source.name, kept,
                   (long long)d->length);
}

static encdiff_status apply_list(ed_env *env, database *d, const char *folder, ed_celeba_list *list, ed_split wanted)
{
    size_t kept = 0;
    if (list->files.count != d->count)
        return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: %zu pictures, but the list of attributes has %zu",
                       d->source.name, d->count, list->files.count);
    for (size_t i = 0; i < d->count; i++)
        if (wanted == ED_SPLIT_ALL || list->splits[i] == wanted) d->entries[kept++] = d->entries[i];
    d->count = kept;
    return ed_celeba_choose(env, folder, list, wanted);
}

/* ---------------------------------------------------------------- the store */

static const char *store_name(const void *self, int64_t index, char text[256])
{
    const database *d = self;
    snprintf(text, 256, "%.200s: %lld-%05lld", d->source.name, (long long)d->entries[index].resolution,
             (long long)d->entries[index].index);
    return text;
}

static encdiff_status store_fetch(ed_env *env, void *self, int64_t index, uint8_t **data, size_t *size)
{
    const database *d = self;
    const entry *e = &d->entries[index];
    *size = (size_t)e->size;
    if (!(*data = ed_alloc_raw(env, *size + 1))) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    encdiff_status status = ed_source_read(env, &d->source, e->offset, *data, *size);
    if (status != ENCDIFF_OK) ed_free(env, *data);
    return status;
}

static encdiff_status store_measure(ed_env *env, void *self, int64_t index, ed_image *out)
{
    char text[256];
    uint8_t *data;
    size_t size;
    ED_TRY(store_fetch(env, self, index, &data, &size));
    const char *name = store_name(self, index, text);
    encdiff_status status;
    if (ed_image_kind_of(data, size) == ED_IMAGE_JPEG)
        status = ed_jpeg_decode(env, name, data, size, true, out);
    else if (ed_image_kind_of(data, size) == ED_IMAGE_PNG)
        status = ed_png_decode(env, name, data, size, true, out);
    else
        status = ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: neither PNG nor JPEG", name);
    ed_free(env, data);
    return status;
}

static void store_close(ed_env *env, void *self)
{
    database *d = self;
    ed_source_close(env, &d->source);
    ed_free(env, d->stack);
    ed_free(env, d->entries);
    ed_free(env, d);
}

/* ---------------------------------------------------------------- opening */

static encdiff_status open_file(ed_env *env, const char *path, database *d)
{
    struct stat info;
    if (stat(path, &info) != 0 || !S_ISDIR(info.st_mode)) return ed_source_open(env, path, &d->source);
    char *file = ed_format(env, "%s/data.mdb", path);
    if (!file) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    encdiff_status status = ed_source_open(env, file, &d->source);
    ed_free(env, file);
    return status;
}

static encdiff_status prepare(ed_env *env, const char *path, const ed_dataset_options *options, database *d,
                              ed_celeba_list *list, bool *listed)
{
    ed_split wanted;
    char *attributes;
    d->length = -1;
    ED_TRY(ed_split_parse(env, options->split, &wanted));
    ED_TRY(open_file(env, path, d));
    ED_TRY(read_tree(env, d));
    ED_TRY(choose(env, d, options->height));
    ED_TRY(ed_celeba_find_list(env, path, &attributes));
    *listed = attributes != NULL;
    if (!attributes) return ENCDIFF_OK;
    encdiff_status status = ed_celeba_read_list(env, path, attributes, list);
    ed_free(env, attributes);
    return status == ENCDIFF_OK ? apply_list(env, d, path, list, wanted) : status;
}

encdiff_status ed_lmdb_open(ed_env *env, const char *path, const ed_dataset_options *options, ed_dataset **out)
{
    ed_celeba_list list = {0};
    bool listed = false;
    *out = NULL;
    database *d = ed_alloc(env, 1, sizeof *d);
    if (!d) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    encdiff_status status = prepare(env, path, options, d, &list, &listed);
    ed_free(env, d->stack);
    d->stack = NULL;
    if (status == ENCDIFF_OK) {
        ed_picture_store store = {.self = d,
                                  .count = (int64_t)d->count,
                                  .fetch = store_fetch,
                                  .measure = store_measure,
                                  .name = store_name,
                                  .close = store_close};
        status = ed_pictures_open(env, path, "lmdb", &store, options, out);
    } else {
        store_close(env, d);
    }
    if (status == ENCDIFF_OK) (*out)->splits = listed;
    if (status == ENCDIFF_OK && listed) status = ed_celeba_set_labels(env, *out, &list, 0);
    ed_celeba_free_list(env, &list);
    if (status == ENCDIFF_OK) return status;
    ed_dataset_free(env, *out);
    *out = NULL;
    return status;
}
