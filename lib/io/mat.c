/*
 * A file is a header of 128 bytes and elements: [type u32, bytes u32, data, padding to 8]. An element of at most four
 * bytes may be [bytes << 16 | type, data]. A variable is an element "matrix" whose data are elements: flags, sizes,
 * name, values; or an element "compressed" whose data, inflated, is one.
 */
#include <zlib.h>

#include "io/mat.h"

enum { INT8 = 1, UINT8 = 2, INT32 = 5, UINT32 = 6, MATRIX = 14, COMPRESSED = 15, CLASS_UINT8 = 9, HEADER = 128 };

typedef struct span {
    const uint8_t *at;
    size_t left;
} span;

typedef struct element {
    uint32_t type;
    span data;
} element;

static uint32_t get32(const uint8_t *p)
{
    uint32_t value;
    memcpy(&value, p, sizeof value);
    return value;
}

/* false: it does not fit what is left. Compressed elements are not padded. */
static bool take(span *from, element *out)
{
    if (from->left < 8) return false;
    uint32_t type = get32(from->at), small = type >> 16;
    size_t bytes = small ? small : get32(from->at + 4), head = small ? 4 : 8;
    out->type = small ? type & 0xFFFF : type;
    if ((small && small > 4) || bytes > from->left - head) return false;
    out->data = (span){from->at + head, bytes};
    size_t whole = small ? 8 : 8 + bytes;
    if (out->type != COMPRESSED) whole = (whole + 7) / 8 * 8;
    whole = ED_MIN(whole, from->left);
    from->at += whole;
    from->left -= whole;
    return true;
}

static encdiff_status damaged(ed_env *env, const char *path, const char *what)
{
    return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: damaged MATLAB file: %s", path, what);
}

/* ---------------------------------------------------------------- a variable */

static encdiff_status read_values(ed_env *env, const char *path, span flags, span sizes, const element *values,
                                  ed_mat *out)
{
    size_t count = 1;
    if (flags.left < 8 || (flags.at[0] != CLASS_UINT8) || (flags.at[1] & 8) || values->type != UINT8)
        return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: its variable is not an array of uint8", path);
    out->rank = (int)ED_MIN(sizes.left / 4, (size_t)ED_MAT_MAX_RANK + 1);
    if (out->rank < 2 || out->rank > ED_MAT_MAX_RANK) return damaged(env, path, "the number of dimensions");
    for (int i = 0; i < out->rank; i++) {
        int32_t dim = (int32_t)get32(sizes.at + 4 * i);
        if (dim < 1 || !ed_mul(count, (size_t)dim, &count)) return damaged(env, path, "its dimensions");
        out->dim[i] = dim;
    }
    if (count != values->data.left) return damaged(env, path, "its dimensions differ from its data");
    if (!(out->data = ed_alloc_raw(env, count))) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    memcpy(out->data, values->data.at, count);
    return ENCDIFF_OK;
}

static encdiff_status read_matrix(ed_env *env, const char *path, const char *name, span data, ed_mat *out, bool *found)
{
    element flags, sizes, title, values;
    if (!take(&data, &flags) || !take(&data, &sizes) || !take(&data, &title) || flags.type != UINT32 ||
        sizes.type != INT32 || title.type != INT8)
        return damaged(env, path, "a variable is cut off");
    *found = title.data.left == strlen(name) && memcmp(title.data.at, name, title.data.left) == 0;
    if (!*found) return ENCDIFF_OK;
    if (!take(&data, &values)) return damaged(env, path, "truncated");
    return read_values(env, path, flags.data, sizes.data, &values, out);
}

/* ---------------------------------------------------------------- inflating */

static void *zlib_allocate(void *env, unsigned count, unsigned size) { return ed_alloc(env, count, size); }
static void zlib_release(void *env, void *pointer) { ed_free(env, pointer); }

/* Exactly `size` bytes from the stream. */
static bool inflate_exactly(z_stream *z, uint8_t *out, size_t size)
{
    z->next_out = out;
    z->avail_out = (unsigned)size;
    int result = inflate(z, Z_SYNC_FLUSH);
    return (result == Z_OK || result == Z_STREAM_END) && z->avail_out == 0;
}

static encdiff_status inflate_matrix(ed_env *env, const char *path, const char *name, z_stream *z, size_t packed,
                                     ed_mat *out, bool *found)
{
    uint8_t tag[8];
    if (!inflate_exactly(z, tag, sizeof tag)) return damaged(env, path, "a variable cannot be inflated");
    size_t size = get32(tag + 4);
    if (get32(tag) != MATRIX) return ENCDIFF_OK;
    if (size > ED_MAT_LIMIT || size / 1032 > packed) return damaged(env, path, "a variable's size is impossible");
    uint8_t *data = ed_alloc_raw(env, size + 1);
    if (!data) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    encdiff_status status = inflate_exactly(z, data, size)
                                ? read_matrix(env, path, name, (span){data, size}, out, found)
                                : damaged(env, path, "a variable cannot be inflated");
    ed_free(env, data);
    return status;
}

static encdiff_status read_compressed(ed_env *env, const char *path, const char *name, span data, ed_mat *out,
                                      bool *found)
{
    z_stream z = {.zalloc = zlib_allocate, .zfree = zlib_release, .opaque = env};
    if (inflateInit(&z) != Z_OK) return ed_fail(env, ENCDIFF_ERROR_OUT_OF_MEMORY, "%s: no memory to inflate", path);
    z.next_in = (Bytef *)(uintptr_t)data.at; /* zlib does not write there */
    z.avail_in = (unsigned)data.left;
    encdiff_status status = inflate_matrix(env, path, name, &z, data.left, out, found);
    inflateEnd(&z);
    return status;
}

/* ---------------------------------------------------------------- the file */

static encdiff_status find(ed_env *env, const char *path, const char *name, span file, ed_mat *out)
{
    bool found = false;
    if (file.left < HEADER || memcmp(file.at + 124, "\x00\x01IM", 4) != 0)
        return damaged(env, path, "not of version 5, little-endian");
    file.at += HEADER, file.left -= HEADER;
    while (file.left && !found) {
        element e;
        if (!take(&file, &e)) return damaged(env, path, "truncated");
        if (e.type == MATRIX) ED_TRY(read_matrix(env, path, name, e.data, out, &found));
        if (e.type == COMPRESSED) ED_TRY(read_compressed(env, path, name, e.data, out, &found));
    }
    return found ? ENCDIFF_OK : ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: no variable \"%s\"", path, name);
}

encdiff_status ed_mat_read(ed_env *env, const char *path, const char *name, ed_mat *out)
{
    char *file;
    size_t size;
    *out = (ed_mat){0};
    ED_TRY(ed_read_file(env, path, ED_MAT_LIMIT, &file, &size));
    encdiff_status status = find(env, path, name, (span){(const uint8_t *)file, size}, out);
    ed_free(env, file);
    if (status != ENCDIFF_OK) {
        ed_free(env, out->data);
        out->data = NULL;
    }
    return status;
}
