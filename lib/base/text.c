/* Growing strings, and files written whole or not at all. */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"

encdiff_status ed_text_add_bytes(ed_env *env, ed_text *text, const void *bytes, size_t n)
{
    size_t need;
    if (!ed_add(text->length, n, &need) || !ed_add(need, 1, &need))
        return ed_fail(env, ENCDIFF_ERROR_OUT_OF_MEMORY, "out of memory: a text of %zu bytes", text->length);
    ED_TRY(ed_reserve(env, &text->data, &text->capacity, need, 1));
    memcpy(text->data + text->length, bytes, n);
    text->length += n;
    text->data[text->length] = 0;
    return ENCDIFF_OK;
}

encdiff_status ed_text_add(ed_env *env, ed_text *text, const char *format, ...)
{
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int n = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    encdiff_status status = n < 0 ? ed_fail(env, ENCDIFF_ERROR_INTERNAL, "a text could not be formatted: %s", format)
                                  : ed_reserve(env, &text->data, &text->capacity, text->length + (size_t)n + 1, 1);
    if (status == ENCDIFF_OK) {
        vsnprintf(text->data + text->length, (size_t)n + 1, format, again);
        text->length += (size_t)n;
    }
    va_end(again);
    return status;
}

void ed_text_free(ed_env *env, ed_text *text)
{
    ed_free(env, text->data);
    *text = (ed_text){0};
}

bool ed_ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    if (m > n) return false;
    for (size_t i = 0; i < m; i++)
        if (tolower((unsigned char)text[n - m + i]) != tolower((unsigned char)end[i])) return false;
    return true;
}

encdiff_status ed_read_file(ed_env *env, const char *path, size_t limit, char **data, size_t *size)
{
    *data = NULL;
    FILE *file = fopen(path, "rb");
    if (!file)
        return ed_fail(env, errno == ENOENT ? ENCDIFF_ERROR_NOT_FOUND : ENCDIFF_ERROR_IO, "%s: %s", path,
                       strerror(errno));
    encdiff_status status = ENCDIFF_OK;
    struct stat info;
    char *bytes = NULL;
    if (fstat(fileno(file), &info) != 0 || !S_ISREG(info.st_mode))
        status = ed_fail(env, ENCDIFF_ERROR_IO, "%s: not a regular file", path);
    else if ((uint64_t)info.st_size > limit)
        status = ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: %lld bytes, more than the %zu allowed here", path,
                         (long long)info.st_size, limit);
    else if (!(bytes = ed_alloc(env, (size_t)info.st_size + 1, 1)))
        status = ENCDIFF_ERROR_OUT_OF_MEMORY;
    else if (fread(bytes, 1, (size_t)info.st_size, file) != (size_t)info.st_size)
        status = ed_fail(env, ENCDIFF_ERROR_IO, "%s: could not be read whole", path);
    fclose(file);
    if (status != ENCDIFF_OK) {
        ed_free(env, bytes);
        return status;
    }
    *data = bytes;
    if (size) *size = (size_t)info.st_size;
    return ENCDIFF_OK;
}

encdiff_status ed_write_file(ed_env *env, const char *path, const void *data, size_t size)
{
    char *temporary = ed_format(env, "%s.tmp-%ld", path, (long)getpid());
    if (!temporary) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    encdiff_status status = ENCDIFF_OK;
    FILE *file = fopen(temporary, "wb");
    if (!file) {
        status = ed_fail(env, ENCDIFF_ERROR_IO, "%s: cannot be written: %s", path, strerror(errno));
    } else {
        bool good = fwrite(data, 1, size, file) == size && fflush(file) == 0 && fsync(fileno(file)) == 0;
        int reason = errno;
        good = fclose(file) == 0 && good;
        if (good && rename(temporary, path) != 0) good = false, reason = errno;
        if (!good) {
            status = ed_fail(env, ENCDIFF_ERROR_IO, "%s: cannot be written: %s", path, strerror(reason));
            unlink(temporary);
        }
    }
    ed_free(env, temporary);
    return status;
}

encdiff_status ed_make_directories(ed_env *env, const char *path)
{
    char *copy = ed_strdup(env, path);
    if (!copy) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    encdiff_status status = ENCDIFF_OK;
    for (char *p = copy + 1;; p++) {
        if (*p != '/' && *p) continue;
        char kept = *p;
        *p = 0;
        if (mkdir(copy, 0777) != 0 && errno != EEXIST) {
            status = ed_fail(env, ENCDIFF_ERROR_IO, "%s: the folder cannot be made: %s", copy, strerror(errno));
            break;
        }
        *p = kept;
        if (!kept) break;
    }
    struct stat info;
    if (status == ENCDIFF_OK && (stat(copy, &info) != 0 || !S_ISDIR(info.st_mode)))
        status = ed_fail(env, ENCDIFF_ERROR_IO, "%s: is not a folder", path);
    ed_free(env, copy);
    return status;
}

double ed_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}
