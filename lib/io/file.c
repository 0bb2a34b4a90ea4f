/* Random access to bytes, and files that appear whole or not at all. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/io.h"

/* ---------------------------------------------------------------- reading */

static encdiff_status fail_errno(ed_env *env, const char *path, const char *what)
{
    int reason = errno;
    return ed_fail(env, reason == ENOENT ? ENCDIFF_ERROR_NOT_FOUND : ENCDIFF_ERROR_IO, "%s: %s%s", path, what,
                   strerror(reason));
}

encdiff_status ed_source_open(ed_env *env, const char *path, ed_source *out)
{
    *out = (ed_source){0};
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not hang the host */
    if (descriptor < 0) return fail_errno(env, path, "");
    struct stat info;
    encdiff_status status = ENCDIFF_OK;
    if (fstat(descriptor, &info) != 0)
        status = fail_errno(env, path, "");
    else if (!S_ISREG(info.st_mode))
        status = ed_fail(env, ENCDIFF_ERROR_IO, "%s: not a regular file", path);
    char *name = status == ENCDIFF_OK ? ed_strdup(env, path) : NULL;
    if (!name) {
        close(descriptor);
        return status == ENCDIFF_OK ? ENCDIFF_ERROR_OUT_OF_MEMORY : status;
    }
    *out = (ed_source){.name = name, .descriptor = descriptor, .owns_descriptor = true, .size = (uint64_t)info.st_size};
    return ENCDIFF_OK;
}

encdiff_status ed_source_from_memory(ed_env *env, const char *name, const void *data, size_t size, ed_source *out)
{
    static const uint8_t nothing;
    *out = (ed_source){.memory = data ? data : &nothing, .size = size};
    if (!(out->name = ed_strdup(env, name))) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    return ENCDIFF_OK;
}

encdiff_status ed_source_part(ed_env *env, const ed_source *whole, const char *name, uint64_t start, uint64_t size,
                              ed_source *out)
{
    *out = (ed_source){0};
    if (start > whole->size || size > whole->size - start)
        return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: %s would end beyond the end of the file (truncated?)",
                       whole->name, name);
    ed_source part = {.memory = whole->memory, .start = whole->start + start, .size = size};
    if (!(part.name = ed_strdup(env, name))) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    if (!whole->memory) {
        part.descriptor = fcntl(whole->descriptor, F_DUPFD_CLOEXEC, 0);
        part.owns_descriptor = part.descriptor >= 0;
        if (part.descriptor < 0) {
            ed_free(env, part.name);
            return fail_errno(env, whole->name, "");
        }
    }
    *out = part;
    return ENCDIFF_OK;
}

encdiff_status ed_source_read(ed_env *env, const ed_source *source, uint64_t offset, void *out, size_t size)
{
    if (offset > source->size || size > source->size - offset)
        return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: truncated: %zu bytes at offset %llu, but the file has %llu",
                       source->name, size, (unsigned long long)offset, (unsigned long long)source->size);
    if (source->memory) {
        memcpy(out, source->memory + source->start + offset, size);
        return ENCDIFF_OK;
    }
    char *to = out;
    for (size_t done = 0; done < size;) {
        ssize_t n = pread(source->descriptor, to + done, ED_MIN(size - done, (size_t)1 << 30),
                          (off_t)(source->start + offset + done));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail_errno(env, source->name, "reading failed: ");
        if (n == 0) return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: became shorter while it was read", source->name);
        done += (size_t)n;
    }
    return ENCDIFF_OK;
}

void ed_source_close(ed_env *env, ed_source *source)
{
    if (source->owns_descriptor) close(source->descriptor);
    ed_free(env, source->owned_memory);
    ed_free(env, source->name);
    *source = (ed_source){0};
}

/* ---------------------------------------------------------------- writing */

static void free_names(ed_env *env, ed_sink *sink)
{
    ed_free(env, sink->path);
    ed_free(env, sink->temporary);
    ed_text_free(env, &sink->buffer);
    *sink = (ed_sink){0};
}

/* A new file beside `path`; a name left over from a killed process is stepped over, never followed. */
static int create_beside(char *temporary, size_t size, const char *path)
{
    int descriptor = -1;
    for (int attempt = 0; attempt < 100; attempt++) {
        snprintf(temporary, size, "%s.tmp-%ld-%d", path, (long)getpid(), attempt);
        descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (descriptor >= 0 || errno != EEXIST) break;
    }
    return descriptor;
}

encdiff_status ed_sink_open(ed_env *env, const char *path, ed_sink *out)
{
    *out = (ed_sink){0};
    struct stat info;
    if (stat(path, &info) == 0 && !S_ISREG(info.st_mode))
        return ed_fail(env, ENCDIFF_ERROR_IO, "%s: cannot be written: it is not a regular file", path);
    size_t size = strlen(path) + 48;
    if (!(out->path = ed_strdup(env, path)) || !(out->temporary = ed_alloc(env, size, 1))) {
        free_names(env, out);
        return ENCDIFF_ERROR_OUT_OF_MEMORY;
    }
    int descriptor = create_beside(out->temporary, size, path);
    if (descriptor >= 0 && !(out->file = fdopen(descriptor, "wb"))) {
        close(descriptor);
        unlink(out->temporary);
    }
    if (out->file) return ENCDIFF_OK;
    encdiff_status status = ed_fail(env, ENCDIFF_ERROR_IO, "%s: cannot be written: %s", path, strerror(errno));
    free_names(env, out);
    return status;
}

void ed_sink_to_memory(ed_sink *out) { *out = (ed_sink){0}; }

static encdiff_status fail_write(ed_env *env, const ed_sink *sink)
{
    return ed_fail(env, ENCDIFF_ERROR_IO, "%s: cannot be written: %s", sink->path, strerror(errno));
}

encdiff_status ed_sink_write(ed_env *env, ed_sink *sink, const void *data, size_t size)
{
    if (!sink->file)
        ED_TRY(ed_text_add_bytes(env, &sink->buffer, size ? data : "", size));
    else if (size && fwrite(data, 1, size, sink->file) != size)
        return fail_write(env, sink);
    sink->position += size;
    return ENCDIFF_OK;
}

encdiff_status ed_sink_patch(ed_env *env, ed_sink *sink, uint64_t offset, const void *data, size_t size)
{
    if (offset > sink->position || size > sink->position - offset)
        return ed_fail(env, ENCDIFF_ERROR_INTERNAL, "bytes were overwritten that had not been written");
    if (!sink->file) {
        memcpy(sink->buffer.data + offset, data, size);
        return ENCDIFF_OK;
    }
    FILE *file = sink->file;
    bool good = fseeko(file, (off_t)offset, SEEK_SET) == 0 && fwrite(data, 1, size, file) == size &&
                fseeko(file, (off_t)sink->position, SEEK_SET) == 0;
    return good ? ENCDIFF_OK : fail_write(env, sink);
}

encdiff_status ed_sink_commit(ed_env *env, ed_sink *sink)
{
    if (!sink->file) {
        ed_sink_discard(env, sink);
        return ENCDIFF_OK;
    }
    FILE *file = sink->file;
    bool good = fflush(file) == 0 && fsync(fileno(file)) == 0;
    int reason = errno;
    if (fclose(file) != 0 && good) good = false, reason = errno;
    if (good && rename(sink->temporary, sink->path) != 0) good = false, reason = errno;
    encdiff_status status = ENCDIFF_OK;
    if (!good) {
        unlink(sink->temporary);
        errno = reason;
        status = fail_write(env, sink);
    }
    free_names(env, sink);
    return status;
}

void ed_sink_take(ed_sink *sink, uint8_t **data, size_t *size)
{
    *data = (uint8_t *)sink->buffer.data;
    *size = sink->buffer.length;
    *sink = (ed_sink){0};
}

void ed_sink_discard(ed_env *env, ed_sink *sink)
{
    if (sink->file) {
        fclose(sink->file);
        unlink(sink->temporary);
    }
    free_names(env, sink);
}

encdiff_status ed_write_all(ed_env *env, int descriptor, const void *data, size_t size, const char *name)
{
    const char *from = data;
    while (size) {
        ssize_t n = write(descriptor, from, ED_MIN(size, (size_t)1 << 30));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail_errno(env, name, "writing failed: ");
        from += n;
        size -= (size_t)n;
    }
    return ENCDIFF_OK;
}

encdiff_status ed_temporary_file(ed_env *env, int *descriptor)
{
    const char *folder = getenv("TMPDIR");
    char *path = ed_format(env, "%s/encdiff-XXXXXX", folder && *folder ? folder : "/tmp");
    if (!path) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    *descriptor = mkostemp(path, O_CLOEXEC);
    encdiff_status status = ENCDIFF_OK;
    if (*descriptor < 0)
        status = ed_fail(env, ENCDIFF_ERROR_IO, "%s: no temporary file can be made: %s", path, strerror(errno));
    else
        unlink(path);
    ed_free(env, path);
    return status;
}

/* ---------------------------------------------------------------- half precision */

float ed_f32_from_f16(uint16_t bits)
{
    uint32_t sign = (uint32_t)(bits & 0x8000u) << 16, exponent = bits >> 10 & 31u, fraction = bits & 0x3FFu, word;
    if (exponent == 0) {
        float value = (float)fraction * 0x1p-24f; /* subnormal: exact */
        return sign ? -value : value;
    }
    word = sign | (exponent == 31 ? 0x7F800000u : (exponent + 112) << 23) | fraction << 13;
    float value;
    memcpy(&value, &word, sizeof value);
    return value;
}
