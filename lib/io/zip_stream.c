/*
 * A deflated member read at any offset. While the content is inflated for the first time, copies of the inflater's
 * state are kept at even distances; going back means to go on from the copy before. A copy is about 40 KiB (zlib's
 * window and tables), so their number is bounded and their distance grows with the content.
 */
#include <zlib.h>

#include "io/zip.h"

#define MARK_BYTES ((uint64_t)48 << 10) /* of a copy, generously */
#define LEAST_DISTANCE ((uint64_t)1 << 20)
#define CHUNK 65536

/* Where the inflater stood. zlib keeps a pointer back to the z_stream, so that neither may be moved. */
typedef struct state {
    z_stream z;
    bool open;
    uint64_t position; /* of the content */
    uint64_t consumed; /* packed bytes */
} state;

struct ed_zip_stream {
    ed_source packed;
    char *member;
    uint64_t size, distance;
    uint32_t crc, wanted_crc; /* of what was inflated so far, `front` bytes */
    uint64_t front;
    state now;
    state *marks;
    size_t count, room;
    uint8_t in[CHUNK], skipped[CHUNK];
};

static void *zlib_allocate(void *env, unsigned count, unsigned size) { return ed_alloc(env, count, size); }
static void zlib_release(void *env, void *pointer) { ed_free(env, pointer); }

static void close_state(ed_env *env, state *s)
{
    s->z.opaque = env;
    if (s->open) inflateEnd(&s->z);
    s->open = false;
}

void ed_zip_stream_close(ed_env *env, ed_zip_stream *s)
{
    if (!s) return;
    close_state(env, &s->now);
    for (size_t i = 0; i < s->count; i++) close_state(env, &s->marks[i]);
    ed_free(env, s->marks);
    ed_free(env, s->member);
    ed_source_close(env, &s->packed);
    ed_free(env, s);
}

/* The copy goes on with packed bytes that are read again. */
static encdiff_status copy_state(ed_env *env, const ed_zip_stream *s, state *from, state *to)
{
    close_state(env, to);
    from->z.opaque = env;
    if (inflateCopy(&to->z, &from->z) != Z_OK)
        return ed_fail(env, ENCDIFF_ERROR_OUT_OF_MEMORY, "%s: no memory to inflate \"%s\"", s->packed.name, s->member);
    to->open = true;
    to->position = from->position;
    to->consumed = from->consumed - from->z.avail_in;
    to->z.avail_in = 0;
    return ENCDIFF_OK;
}

static encdiff_status begin(ed_env *env, ed_zip_stream *s)
{
    close_state(env, &s->now);
    s->now = (state){.z = {.zalloc = zlib_allocate, .zfree = zlib_release, .opaque = env}};
    if (inflateInit2(&s->now.z, -15) != Z_OK)
        return ed_fail(env, ENCDIFF_ERROR_OUT_OF_MEMORY, "%s: no memory to inflate", s->packed.name);
    s->now.open = true;
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- going forward */

static encdiff_status refill(ed_env *env, ed_zip_stream *s)
{
    state *n = &s->now;
    size_t size = (size_t)ED_MIN((uint64_t)CHUNK, s->packed.size - n->consumed);
    if (n->z.avail_in || !size) return ENCDIFF_OK;
    ED_TRY(ed_source_read(env, &s->packed, n->consumed, s->in, size));
    n->consumed += size;
    n->z.next_in = s->in;
    n->z.avail_in = (unsigned)size;
    return ENCDIFF_OK;
}

/* Bytes that were never inflated before are checked, when all of them were seen. */
static encdiff_status check_new(ed_env *env, ed_zip_stream *s, const uint8_t *data, uint64_t from, uint64_t to)
{
    if (to <= s->front) return ENCDIFF_OK;
    s->crc = (uint32_t)crc32(s->crc, data + (s->front - from), (unsigned)(to - s->front));
    s->front = to;
    if (to < s->size || s->crc == s->wanted_crc) return ENCDIFF_OK;
    return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: \"%s\" is damaged (its checksum differs)", s->packed.name,
                   s->member);
}

static encdiff_status add_mark(ed_env *env, ed_zip_stream *s)
{
    uint64_t last = s->count ? s->marks[s->count - 1].position : 0;
    if (s->count == s->room || s->now.position < last + s->distance) return ENCDIFF_OK;
    ED_TRY(copy_state(env, s, &s->now, &s->marks[s->count]));
    s->count++;
    return ENCDIFF_OK;
}

/* The next `size` bytes, at most CHUNK. */
static encdiff_status inflate_some(ed_env *env, ed_zip_stream *s, uint8_t *out, size_t size)
{
    state *n = &s->now;
    n->z.opaque = env;
    n->z.next_out = out;
    n->z.avail_out = (unsigned)size;
    while (n->z.avail_out) {
        ED_TRY(refill(env, s));
        int result = inflate(&n->z, Z_NO_FLUSH);
        if (result == Z_MEM_ERROR)
            return ed_fail(env, ENCDIFF_ERROR_OUT_OF_MEMORY, "%s: no memory to inflate", s->packed.name);
        bool ended = result == Z_STREAM_END || result == Z_BUF_ERROR;
        if ((result != Z_OK && !ended) || (ended && n->z.avail_out))
            return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: \"%s\" %s", s->packed.name, s->member,
                           ended ? "ends too early" : "cannot be inflated");
    }
    ED_TRY(check_new(env, s, out, n->position, n->position + size));
    n->position += size;
    return add_mark(env, s);
}

static encdiff_status forward(ed_env *env, ed_zip_stream *s, uint64_t offset, uint8_t *out, size_t size)
{
    while (s->now.position < offset) {
        ED_TRY(inflate_some(env, s, s->skipped, (size_t)ED_MIN((uint64_t)CHUNK, offset - s->now.position)));
        ED_TRY(ed_check_cancel(env));
    }
    for (size_t n; size; out += n, size -= n) {
        n = ED_MIN(size, (size_t)CHUNK);
        ED_TRY(inflate_some(env, s, out, n));
    }
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- anywhere */

/* To the nearest place before `offset` that is known. */
static encdiff_status move_to(ed_env *env, ed_zip_stream *s, uint64_t offset)
{
    size_t low = 0, high = s->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (s->marks[middle].position <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    state *mark = low ? &s->marks[low - 1] : NULL;
    if (s->now.open && s->now.position <= offset && (!mark || mark->position <= s->now.position)) return ENCDIFF_OK;
    return mark ? copy_state(env, s, mark, &s->now) : begin(env, s);
}

encdiff_status ed_zip_stream_read(ed_env *env, ed_zip_stream *s, uint64_t offset, void *out, size_t size)
{
    if (offset > s->size || size > s->size - offset)
        return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: truncated: %zu bytes at offset %llu of \"%s\", which has %llu",
                       s->packed.name, size, (unsigned long long)offset, s->member, (unsigned long long)s->size);
    encdiff_status status = move_to(env, s, offset);
    if (status == ENCDIFF_OK) status = forward(env, s, offset, out, size);
    if (status != ENCDIFF_OK) close_state(env, &s->now); /* half a step was taken */
    return status;
}

encdiff_status ed_zip_stream_open(ed_env *env, const ed_zip *zip, const ed_zip_member *member, uint64_t memory,
                                  ed_zip_stream **out)
{
    *out = NULL;
    ed_zip_stream *s = ed_alloc(env, 1, sizeof *s);
    if (!s) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    s->size = member->size;
    s->wanted_crc = member->crc;
    s->room = (size_t)ED_MAX(memory / MARK_BYTES, (uint64_t)4);
    s->distance = ED_MAX(LEAST_DISTANCE, member->size / s->room + 1);
    s->room = (size_t)ED_MIN((uint64_t)s->room, member->size / s->distance + 1);
    encdiff_status status = ed_zip_packed(env, zip, member, &s->packed);
    if (status == ENCDIFF_OK &&
        (!(s->member = ed_strdup(env, member->name)) || !(s->marks = ed_alloc(env, s->room, sizeof *s->marks))))
        status = ENCDIFF_ERROR_OUT_OF_MEMORY;
    if (status == ENCDIFF_OK)
        *out = s;
    else
        ed_zip_stream_close(env, s);
    return status;
}
