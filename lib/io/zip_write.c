/* Writing zip files, member by member. Sizes stand in zip64 fields throughout, as NumPy writes them. */
#include <zlib.h>

#include "io/zip.h"

#define CHUNK 65536

typedef struct entry {
    char *name;
    bool deflated;
    uint32_t crc;
    uint64_t packed, size, offset;
} entry;

struct ed_zip_writer {
    ed_sink sink;
    entry *entries;
    size_t count, capacity;
    bool open; /* a member is being written: the last entry */
    bool deflating;
    z_stream stream;
    uint8_t out[CHUNK];
};

static uint8_t *put16(uint8_t *p, unsigned v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
    return p + 2;
}
static uint8_t *put32(uint8_t *p, uint32_t v) { return put16(put16(p, v & 0xFFFF), v >> 16); }
static uint8_t *put64(uint8_t *p, uint64_t v) { return put32(put32(p, (uint32_t)v), (uint32_t)(v >> 32)); }

static void *zlib_allocate(void *env, unsigned count, unsigned size) { return ed_alloc(env, count, size); }
static void zlib_release(void *env, void *pointer) { ed_free(env, pointer); }

static void end_deflate(ed_zip_writer *w)
{
    if (w->deflating) deflateEnd(&w->stream);
    w->deflating = false;
}

void ed_zip_writer_discard(ed_env *env, ed_zip_writer *w)
{
    if (!w) return;
    w->stream.opaque = env;
    end_deflate(w);
    for (size_t i = 0; i < w->count; i++) ed_free(env, w->entries[i].name);
    ed_free(env, w->entries);
    ed_sink_discard(env, &w->sink);
    ed_free(env, w);
}

encdiff_status ed_zip_writer_create(ed_env *env, const char *path, ed_zip_writer **out)
{
    *out = NULL;
    ed_zip_writer *w = ed_alloc(env, 1, sizeof *w);
    if (!w) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    encdiff_status status = ed_sink_open(env, path, &w->sink);
    if (status == ENCDIFF_OK)
        *out = w;
    else
        ed_free(env, w);
    return status;
}

/* Flags: bit 11, names are UTF-8. Time: 1980-01-01, so that equal content makes equal files. */
static uint8_t *put_common(uint8_t *p, const entry *e)
{
    p = put16(p, 45); /* version that reads zip64 */
    p = put16(p, 0x800);
    p = put16(p, e->deflated ? 8 : 0);
    p = put16(p, 0);
    p = put16(p, 0x21);
    p = put32(p, e->crc);
    p = put32(p, 0xFFFFFFFFu);
    p = put32(p, 0xFFFFFFFFu);
    return put16(p, (unsigned)strlen(e->name));
}

/* The local header is written twice: first to take its place, then with checksum and sizes. */
static size_t local_header(const entry *e, uint8_t *to)
{
    uint8_t *p = put_common(put32(to, 0x04034b50), e);
    p = put16(p, 20);
    memcpy(p, e->name, strlen(e->name));
    p += strlen(e->name);
    p = put16(put16(p, 1), 16);
    p = put64(put64(p, e->size), e->packed);
    return (size_t)(p - to);
}

encdiff_status ed_zip_writer_begin(ed_env *env, ed_zip_writer *w, const char *name, int level)
{
    uint8_t header[512];
    if (w->open || strlen(name) > 255)
        return ed_fail(env, ENCDIFF_ERROR_INTERNAL, "a zip member was begun within another, or its name is long");
    ED_TRY(ed_reserve(env, &w->entries, &w->capacity, w->count + 1, sizeof(entry)));
    entry e = {.deflated = level > 0, .offset = w->sink.position};
    if (!(e.name = ed_strdup(env, name))) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    w->entries[w->count++] = e;
    if (e.deflated) {
        w->stream = (z_stream){.zalloc = zlib_allocate, .zfree = zlib_release, .opaque = env};
        if (deflateInit2(&w->stream, level, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY) != Z_OK)
            return ed_fail(env, ENCDIFF_ERROR_OUT_OF_MEMORY, "%s: no memory to deflate", w->sink.path);
        w->deflating = true;
    }
    w->open = true;
    return ed_sink_write(env, &w->sink, header, local_header(&e, header));
}

static encdiff_status deflate_some(ed_env *env, ed_zip_writer *w, int flush)
{
    int result;
    do {
        w->stream.next_out = w->out;
        w->stream.avail_out = CHUNK;
        result = deflate(&w->stream, flush);
        if (result == Z_STREAM_ERROR) return ed_fail(env, ENCDIFF_ERROR_INTERNAL, "%s: deflating failed", w->sink.path);
        size_t n = CHUNK - w->stream.avail_out;
        w->entries[w->count - 1].packed += n;
        ED_TRY(ed_sink_write(env, &w->sink, w->out, n));
    } while (w->stream.avail_out == 0 || (flush == Z_FINISH && result != Z_STREAM_END));
    return ENCDIFF_OK;
}

encdiff_status ed_zip_writer_add(ed_env *env, ed_zip_writer *w, const void *data, size_t size)
{
    entry *e = &w->entries[w->count - 1];
    const uint8_t *from = data;
    for (size_t n; size; from += n, size -= n) {
        n = ED_MIN(size, (size_t)1 << 30);
        e->crc = (uint32_t)crc32(e->crc, from, (unsigned)n);
        e->size += n;
        if (!e->deflated) {
            e->packed += n;
            ED_TRY(ed_sink_write(env, &w->sink, from, n));
            continue;
        }
        w->stream.next_in = (uint8_t *)(uintptr_t)from;
        w->stream.avail_in = (unsigned)n;
        ED_TRY(deflate_some(env, w, Z_NO_FLUSH));
    }
    return ENCDIFF_OK;
}

encdiff_status ed_zip_writer_end(ed_env *env, ed_zip_writer *w)
{
    uint8_t header[512];
    entry *e = &w->entries[w->count - 1];
    if (e->deflated) {
        w->stream.next_in = header; /* nothing to read, but zlib wants a pointer */
        w->stream.avail_in = 0;
        ED_TRY(deflate_some(env, w, Z_FINISH));
        end_deflate(w);
    }
    w->open = false;
    size_t n = local_header(e, header);
    return ed_sink_patch(env, &w->sink, e->offset, header, n);
}

static encdiff_status write_entry(ed_env *env, ed_zip_writer *w, const entry *e)
{
    uint8_t bytes[512], *p = put32(bytes, 0x02014b50);
    p = put_common(put16(p, 45), e);
    p = put16(p, 28); /* extra */
    p = put16(put16(put16(p, 0), 0), 0);
    p = put32(put32(p, 0), 0xFFFFFFFFu);
    memcpy(p, e->name, strlen(e->name));
    p += strlen(e->name);
    p = put16(put16(p, 1), 24);
    p = put64(put64(put64(p, e->size), e->packed), e->offset);
    return ed_sink_write(env, &w->sink, bytes, (size_t)(p - bytes));
}

static encdiff_status write_directory(ed_env *env, ed_zip_writer *w)
{
    uint8_t bytes[128], *p = bytes;
    uint64_t begin = w->sink.position;
    for (size_t i = 0; i < w->count; i++) ED_TRY(write_entry(env, w, &w->entries[i]));
    uint64_t end = w->sink.position;
    p = put64(put32(p, 0x06064b50), 44);
    p = put32(put32(put16(put16(p, 45), 45), 0), 0);
    p = put64(put64(put64(put64(p, w->count), w->count), end - begin), begin);
    p = put32(put64(put32(put32(p, 0x07064b50), 0), end), 1);
    p = put16(put16(put32(p, 0x06054b50), 0), 0);
    p = put16(put16(p, 0xFFFF), 0xFFFF);
    p = put16(put32(put32(p, 0xFFFFFFFFu), 0xFFFFFFFFu), 0);
    return ed_sink_write(env, &w->sink, bytes, (size_t)(p - bytes));
}

encdiff_status ed_zip_writer_finish(ed_env *env, ed_zip_writer *w)
{
    encdiff_status status = w->open ? ed_fail(env, ENCDIFF_ERROR_INTERNAL, "a zip member was not ended")
                                    : write_directory(env, w);
    if (status == ENCDIFF_OK) status = ed_sink_commit(env, &w->sink);
    ed_zip_writer_discard(env, w);
    return status;
}
