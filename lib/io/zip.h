/*
 * zip: the container of .npz files and of PyTorch checkpoints. Members are stored or deflated, of any size (zip64), on
 * one disk, not encrypted. Names are only compared, never used as paths. zlib appears in zip.c, zip_stream.c,
 * zip_write.c and mat.c alone.
 */
#ifndef ED_IO_ZIP_H
#define ED_IO_ZIP_H

#include "io/io.h"

typedef struct ed_zip_member {
    const char *name;
    bool deflated;
    uint32_t crc;
    uint64_t packed, size;  /* bytes in the file, and of the content */
    uint64_t header_offset; /* of the member's local header */
} ed_zip_member;

typedef struct ed_zip ed_zip;

encdiff_status ed_zip_open(ed_env *env, const char *path, ed_zip **out);
void ed_zip_close(ed_env *env, ed_zip *zip); /* NULL is fine */
size_t ed_zip_count(const ed_zip *zip);
const ed_zip_member *ed_zip_at(const ed_zip *zip, size_t index);
const ed_zip_member *ed_zip_find(const ed_zip *zip, const char *name); /* NULL when absent */
const char *ed_zip_path(const ed_zip *zip);

/* The first bytes of the content: min(size, member->size) of them. */
encdiff_status ed_zip_peek(ed_env *env, const ed_zip *zip, const ed_zip_member *member, void *out, size_t size);
/*
 * The content for random access, independent of the zip afterwards. A stored member is read where it lies, its checksum
 * unread; a deflated one is inflated and checked, into memory up to `memory_limit` bytes, else into a temporary file.
 */
encdiff_status ed_zip_source(ed_env *env, const ed_zip *zip, const ed_zip_member *member, uint64_t memory_limit,
                             ed_source *out);
/* The whole content, checksum verified. `out` has room for member->size bytes. */
encdiff_status ed_zip_read(ed_env *env, const ed_zip *zip, const ed_zip_member *member, void *out);

/* The packed bytes of a member, independent of the zip afterwards. */
encdiff_status ed_zip_packed(ed_env *env, const ed_zip *zip, const ed_zip_member *member, ed_source *out);

/*
 * A deflated member for random access without unpacking it whole, independent of the zip afterwards; one thread at a
 * time. Going on is as fast as inflating; going back goes on from the last place that was kept, of which there are as
 * many as fit `memory` bytes, so that it costs up to size * 48 KiB / memory bytes of inflating. The checksum is
 * compared when everything has been seen once.
 */
typedef struct ed_zip_stream ed_zip_stream;

encdiff_status ed_zip_stream_open(ed_env *env, const ed_zip *zip, const ed_zip_member *member, uint64_t memory,
                                  ed_zip_stream **out);
encdiff_status ed_zip_stream_read(ed_env *env, ed_zip_stream *stream, uint64_t offset, void *out, size_t size);
void ed_zip_stream_close(ed_env *env, ed_zip_stream *stream); /* NULL is fine */

/* ---------------------------------------------------------------- writing */

typedef struct ed_zip_writer ed_zip_writer;

/* The file appears when ed_zip_writer_finish() succeeds. */
encdiff_status ed_zip_writer_create(ed_env *env, const char *path, ed_zip_writer **out);
/* Begin a member whose content is written by the calls of ed_zip_writer_add(); level 0 stores, 1..9 deflates. */
encdiff_status ed_zip_writer_begin(ed_env *env, ed_zip_writer *writer, const char *name, int level);
encdiff_status ed_zip_writer_add(ed_env *env, ed_zip_writer *writer, const void *data, size_t size);
encdiff_status ed_zip_writer_end(ed_env *env, ed_zip_writer *writer);
/* Writes the directory and frees the writer, also on failure. */
encdiff_status ed_zip_writer_finish(ed_env *env, ed_zip_writer *writer);
void ed_zip_writer_discard(ed_env *env, ed_zip_writer *writer); /* NULL is fine */

#endif
