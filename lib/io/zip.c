/*
 * Reading zip files: the directory at the end, then members by it.
 *
 *   ... [local header, name, extra, content] ...
 *   directory: [entry: 46 bytes, name, extra, comment] ...
 *   [zip64 end: 56 bytes] [zip64 locator: 20 bytes]   when a number needs 64 bits
 *   end: 22 bytes, comment
 *
 * PKWARE APPNOTE.TXT 6.3.10, sections 4.3 and 4.5.3.
 */
#include <unistd.h>
#include <zlib.h>

#include "io/zip.h"

enum { END_SIZE = 22, LOCATOR_SIZE = 20, END64_SIZE = 56, ENTRY_SIZE = 46, LOCAL_SIZE = 30 };
#define DIRECTORY_LIMIT ((uint64_t)64 << 20)
#define CHUNK 65536

struct ed_zip {
    ed_source source;
    uint8_t *directory;
    char *names; /* terminated copies, back to back */
    ed_zip_member *members;
    size_t count;
    uint64_t directory_offset;
};

static uint16_t get16(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }
static uint32_t get32(const uint8_t *p) { return get16(p) | (uint32_t)get16(p + 2) << 16; }
static uint64_t get64(const uint8_t *p) { return get32(p) | (uint64_t)get32(p + 4) << 32; }

void ed_zip_close(ed_env *env, ed_zip *zip)
{
    if (!zip) return;
    ed_source_close(env, &zip->source);
    ed_free(env, zip->directory);
    ed_free(env, zip->names);
    ed_free(env, zip->members);
    ed_free(env, zip);
}

/* ---------------------------------------------------------------- directory */

static encdiff_status damaged(ed_env *env, const ed_zip *zip, const char *what)
{
    return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: not a zip file, or a truncated one: %s", zip->source.name, what);
}

typedef struct directory {
    uint64_t offset, size, count;
} directory;

/* The zip64 end record, when the locator before the end record is there. */
static encdiff_status read_end64(ed_env *env, const ed_zip *zip, uint64_t end_offset, directory *d)
{
    uint8_t bytes[END64_SIZE];
    if (end_offset < LOCATOR_SIZE) return ENCDIFF_OK;
    ED_TRY(ed_source_read(env, &zip->source, end_offset - LOCATOR_SIZE, bytes, LOCATOR_SIZE));
    if (get32(bytes) != 0x07064b50) return ENCDIFF_OK;
    uint64_t offset = get64(bytes + 8);
    if (zip->source.size < END64_SIZE || offset > zip->source.size - END64_SIZE)
        return damaged(env, zip, "its zip64 end lies outside");
    ED_TRY(ed_source_read(env, &zip->source, offset, bytes, END64_SIZE));
    if (get32(bytes) != 0x06064b50) return damaged(env, zip, "its zip64 end is missing");
    if (get32(bytes + 16) || get32(bytes + 20) || get64(bytes + 24) != get64(bytes + 32))
        return damaged(env, zip, "it spans several files");
    *d = (directory){.count = get64(bytes + 32), .size = get64(bytes + 40), .offset = get64(bytes + 48)};
    return ENCDIFF_OK;
}

/* The end record is the last one whose comment reaches exactly to the end of the file. */
static encdiff_status find_directory(ed_env *env, const ed_zip *zip, directory *d)
{
    uint64_t size = zip->source.size, room = ED_MIN(size, (uint64_t)END_SIZE + 65535);
    if (size < END_SIZE) return damaged(env, zip, "too short");
    uint8_t *tail = ed_alloc(env, (size_t)room, 1);
    if (!tail) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    encdiff_status status = ed_source_read(env, &zip->source, size - room, tail, (size_t)room);
    uint64_t at = room - END_SIZE;
    if (status == ENCDIFF_OK)
        while (get32(tail + at) != 0x06054b50 || at + END_SIZE + get16(tail + at + 20) != room)
            if (at-- == 0) break;
    if (status == ENCDIFF_OK && at > room) status = damaged(env, zip, "no end record");
    if (status == ENCDIFF_OK) {
        const uint8_t *end = tail + at;
        *d = (directory){.count = get16(end + 10), .size = get32(end + 12), .offset = get32(end + 16)};
        bool split = get16(end + 4) != get16(end + 6) || get16(end + 8) != get16(end + 10);
        status = split ? damaged(env, zip, "it spans several files") : read_end64(env, zip, size - room + at, d);
    }
    ed_free(env, tail);
    return status;
}

/* Fields that are all ones stand, in this order, in the zip64 extra field. */
static bool apply_zip64(const uint8_t *extra, size_t length, ed_zip_member *m)
{
    uint64_t *fields[3] = {&m->size, &m->packed, &m->header_offset};
    while (length >= 4) {
        size_t id = get16(extra), n = get16(extra + 2);
        extra += 4, length -= 4;
        if (n > length) return false;
        if (id == 1) {
            for (int i = 0; i < 3; i++) {
                if (*fields[i] != 0xFFFFFFFFu) continue;
                if (n < 8) return false;
                *fields[i] = get64(extra);
                extra += 8, length -= 8, n -= 8;
            }
            return true;
        }
        extra += n, length -= n;
    }
    return true; /* a size may really be 0xFFFFFFFF; the checks against the file follow */
}

static encdiff_status check_member(ed_env *env, const ed_zip *zip, const ed_zip_member *m, int flags, int method)
{
    const char *file = zip->source.name;
    if (flags & 0x41) return ed_fail(env, ENCDIFF_ERROR_UNSUPPORTED, "%s: \"%s\" is encrypted", file, m->name);
    if (method != 0 && method != 8)
        return ed_fail(env, ENCDIFF_ERROR_UNSUPPORTED, "%s: \"%s\" is packed by method %d, not stored or deflated",
                       file, m->name, method);
    if (m->header_offset > zip->directory_offset || m->packed > zip->directory_offset - m->header_offset)
        return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: \"%s\" lies beyond its part of the file", file, m->name);
    /* deflate cannot shrink more than 1032 times */
    if (m->deflated ? m->size / 1032 > m->packed : m->size != m->packed)
        return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: \"%s\" cannot have %llu bytes", file, m->name,
                       (unsigned long long)m->size);
    return ENCDIFF_OK;
}

/* One entry; *used is its length. `names` has room for the name and a zero. */
static encdiff_status read_entry(ed_env *env, const ed_zip *zip, const uint8_t *p, size_t left, char *names,
                                 ed_zip_member *m, size_t *used)
{
    if (left < ENTRY_SIZE || get32(p) != 0x02014b50) return damaged(env, zip, "its directory is damaged");
    size_t name = get16(p + 28), extra = get16(p + 30), comment = get16(p + 32);
    *used = ENTRY_SIZE + name + extra + comment;
    if (*used > left) return damaged(env, zip, "its directory is damaged");
    memcpy(names, p + ENTRY_SIZE, name);
    names[name] = 0;
    *m = (ed_zip_member){.name = names,
                         .deflated = get16(p + 10) == 8,
                         .crc = get32(p + 16),
                         .packed = get32(p + 20),
                         .size = get32(p + 24),
                         .header_offset = get32(p + 42)};
    if (strlen(names) != name || !apply_zip64(p + ENTRY_SIZE + name, extra, m))
        return damaged(env, zip, "its directory is damaged");
    return check_member(env, zip, m, get16(p + 8), get16(p + 10));
}

static encdiff_status read_directory(ed_env *env, ed_zip *zip)
{
    directory d = {0};
    ED_TRY(find_directory(env, zip, &d));
    if (d.offset > zip->source.size || d.size > zip->source.size - d.offset || d.size > DIRECTORY_LIMIT ||
        d.count > d.size / ENTRY_SIZE)
        return damaged(env, zip, "its directory lies outside");
    zip->directory_offset = d.offset;
    size_t size = (size_t)d.size, count = (size_t)d.count, at = 0, text = 0;
    if (!(zip->directory = ed_alloc(env, size, 1)) || !(zip->names = ed_alloc(env, size + count, 1)) ||
        !(zip->members = ed_alloc(env, count, sizeof *zip->members)))
        return ENCDIFF_ERROR_OUT_OF_MEMORY;
    ED_TRY(ed_source_read(env, &zip->source, d.offset, zip->directory, size));
    for (zip->count = 0; zip->count < count; zip->count++) {
        size_t used = 0;
        ED_TRY(
            read_entry(env, zip, zip->directory + at, size - at, zip->names + text, &zip->members[zip->count], &used));
        text += strlen(zip->members[zip->count].name) + 1;
        at += used;
    }
    return ENCDIFF_OK;
}

encdiff_status ed_zip_open(ed_env *env, const char *path, ed_zip **out)
{
    *out = NULL;
    ed_zip *zip = ed_alloc(env, 1, sizeof *zip);
    if (!zip) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    encdiff_status status = ed_source_open(env, path, &zip->source);
    if (status == ENCDIFF_OK) status = read_directory(env, zip);
    if (status == ENCDIFF_OK)
        *out = zip;
    else
        ed_zip_close(env, zip);
    return status;
}

size_t ed_zip_count(const ed_zip *zip) { return zip->count; }
const ed_zip_member *ed_zip_at(const ed_zip *zip, size_t index) { return &zip->members[index]; }
const char *ed_zip_path(const ed_zip *zip) { return zip->source.name; }

const ed_zip_member *ed_zip_find(const ed_zip *zip, const char *name)
{
    for (size_t i = zip->count; i-- > 0;) /* of several the last one, which replaced the others */
        if (strcmp(zip->members[i].name, name) == 0) return &zip->members[i];
    return NULL;
}

/* ---------------------------------------------------------------- content */

static encdiff_status content_offset(ed_env *env, const ed_zip *zip, const ed_zip_member *m, uint64_t *offset)
{
    uint8_t local[LOCAL_SIZE];
    ED_TRY(ed_source_read(env, &zip->source, m->header_offset, local, LOCAL_SIZE));
    if (get32(local) != 0x04034b50) return damaged(env, zip, "a member's header is missing");
    *offset = m->header_offset + LOCAL_SIZE + get16(local + 26) + get16(local + 28);
    if (*offset > zip->directory_offset || m->packed > zip->directory_offset - *offset)
        return damaged(env, zip, "a member overlaps the directory");
    return ENCDIFF_OK;
}

/* Where inflated bytes go; called with pieces in order. */
typedef encdiff_status receive(ed_env *env, void *user, const uint8_t *data, size_t size);

static void *zlib_allocate(void *env, unsigned count, unsigned size) { return ed_alloc(env, count, size); }
static void zlib_release(void *env, void *pointer) { ed_free(env, pointer); }

typedef struct inflation {
    z_stream stream;
    uint64_t offset, left; /* packed bytes that were not read yet */
    uint8_t in[CHUNK], out[CHUNK];
} inflation;

static encdiff_status refill(ed_env *env, const ed_zip *zip, inflation *f)
{
    if (f->stream.avail_in || !f->left) return ENCDIFF_OK;
    size_t n = (size_t)ED_MIN(f->left, (uint64_t)CHUNK);
    ED_TRY(ed_source_read(env, &zip->source, f->offset, f->in, n));
    f->offset += n;
    f->left -= n;
    f->stream.next_in = f->in;
    f->stream.avail_in = (unsigned)n;
    return ENCDIFF_OK;
}

/* The first `want` bytes of the content; they must end there when that is the whole. */
static encdiff_status inflate_pieces(ed_env *env, const ed_zip *zip, const ed_zip_member *m, uint64_t want,
                                     inflation *f, receive *to, void *user)
{
    uint64_t done = 0;
    for (int result = Z_OK; result != Z_STREAM_END && (done < want || want == m->size);) {
        ED_TRY(refill(env, zip, f));
        f->stream.next_out = f->out;
        f->stream.avail_out = CHUNK;
        result = inflate(&f->stream, Z_NO_FLUSH);
        uint64_t n = CHUNK - f->stream.avail_out;
        if ((result != Z_OK && result != Z_STREAM_END) || n > m->size - done)
            return ed_fail(env, result == Z_MEM_ERROR ? ENCDIFF_ERROR_OUT_OF_MEMORY : ENCDIFF_ERROR_FORMAT,
                           "%s: \"%s\" cannot be inflated", zip->source.name, m->name);
        ED_TRY(to(env, user, f->out, (size_t)ED_MIN(n, want - done)));
        done += n;
        ED_TRY(ed_check_cancel(env));
    }
    if (done < want) return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: \"%s\" ends too early", zip->source.name, m->name);
    return ENCDIFF_OK;
}

static encdiff_status inflate_member(ed_env *env, const ed_zip *zip, const ed_zip_member *m, uint64_t offset,
                                     uint64_t want, receive *to, void *user)
{
    inflation *f = ed_alloc(env, 1, sizeof *f);
    if (!f) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    f->offset = offset;
    f->left = m->packed;
    f->stream.zalloc = zlib_allocate;
    f->stream.zfree = zlib_release;
    f->stream.opaque = env;
    encdiff_status status = ENCDIFF_ERROR_OUT_OF_MEMORY;
    if (inflateInit2(&f->stream, -15) == Z_OK)
        status = inflate_pieces(env, zip, m, want, f, to, user);
    else
        ed_fail(env, status, "%s: no memory to inflate", zip->source.name);
    inflateEnd(&f->stream);
    ed_free(env, f);
    return status;
}

static encdiff_status copy_stored(ed_env *env, const ed_zip *zip, uint64_t offset, uint64_t want, receive *to,
                                  void *user)
{
    uint8_t chunk[16384];
    for (uint64_t done = 0; done < want;) {
        size_t n = (size_t)ED_MIN(want - done, (uint64_t)sizeof chunk);
        ED_TRY(ed_source_read(env, &zip->source, offset + done, chunk, n));
        ED_TRY(to(env, user, chunk, n));
        done += n;
    }
    return ENCDIFF_OK;
}

typedef struct target {
    uint8_t *memory; /* or */
    int descriptor;
    const char *name;
    uint32_t crc;
} target;

static encdiff_status receive_bytes(ed_env *env, void *user, const uint8_t *data, size_t size)
{
    target *t = user;
    t->crc = (uint32_t)crc32(t->crc, data, (unsigned)size);
    if (!t->memory) return ed_write_all(env, t->descriptor, data, size, t->name);
    memcpy(t->memory, data, size);
    t->memory += size;
    return ENCDIFF_OK;
}

static encdiff_status extract(ed_env *env, const ed_zip *zip, const ed_zip_member *m, uint64_t want, target *t)
{
    uint64_t offset = 0;
    ED_TRY(content_offset(env, zip, m, &offset));
    ED_TRY(m->deflated ? inflate_member(env, zip, m, offset, want, receive_bytes, t)
                       : copy_stored(env, zip, offset, want, receive_bytes, t));
    if (want == m->size && t->crc != m->crc)
        return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: \"%s\" is damaged (its checksum differs)", zip->source.name,
                       m->name);
    return ENCDIFF_OK;
}

encdiff_status ed_zip_read(ed_env *env, const ed_zip *zip, const ed_zip_member *member, void *out)
{
    target t = {.memory = out};
    return extract(env, zip, member, member->size, &t);
}

encdiff_status ed_zip_peek(ed_env *env, const ed_zip *zip, const ed_zip_member *member, void *out, size_t size)
{
    target t = {.memory = out};
    return extract(env, zip, member, ED_MIN((uint64_t)size, member->size), &t);
}

/* ---------------------------------------------------------------- random access */

static encdiff_status inflate_to_memory(ed_env *env, const ed_zip *zip, const ed_zip_member *m, ed_source *out)
{
    void *memory = ed_alloc_raw(env, (size_t)m->size + 1);
    if (!memory) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    encdiff_status status = ed_zip_read(env, zip, m, memory);
    if (status == ENCDIFF_OK) status = ed_source_from_memory(env, zip->source.name, memory, (size_t)m->size, out);
    if (status == ENCDIFF_OK)
        out->owned_memory = memory;
    else
        ed_free(env, memory);
    return status;
}

static encdiff_status inflate_to_file(ed_env *env, const ed_zip *zip, const ed_zip_member *m, ed_source *out)
{
    target t = {.name = "temporary file"};
    ED_TRY(ed_temporary_file(env, &t.descriptor));
    encdiff_status status = extract(env, zip, m, m->size, &t);
    char *name = status == ENCDIFF_OK ? ed_strdup(env, zip->source.name) : NULL;
    if (!name) {
        close(t.descriptor);
        return status == ENCDIFF_OK ? ENCDIFF_ERROR_OUT_OF_MEMORY : status;
    }
    *out = (ed_source){.name = name, .descriptor = t.descriptor, .owns_descriptor = true, .size = m->size};
    return ENCDIFF_OK;
}

encdiff_status ed_zip_source(ed_env *env, const ed_zip *zip, const ed_zip_member *member, uint64_t memory_limit,
                             ed_source *out)
{
    uint64_t offset = 0;
    *out = (ed_source){0};
    if (member->deflated && member->size <= memory_limit) return inflate_to_memory(env, zip, member, out);
    if (member->deflated) return inflate_to_file(env, zip, member, out);
    ED_TRY(content_offset(env, zip, member, &offset));
    return ed_source_part(env, &zip->source, zip->source.name, offset, member->size, out);
}

encdiff_status ed_zip_packed(ed_env *env, const ed_zip *zip, const ed_zip_member *member, ed_source *out)
{
    uint64_t offset = 0;
    ED_TRY(content_offset(env, zip, member, &offset));
    return ed_source_part(env, &zip->source, zip->source.name, offset, member->packed, out);
}
