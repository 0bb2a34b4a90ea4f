#define _GNU_SOURCE
#include "text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void reserve(text *t, size_t more)
{
    if (t->length + more + 1 <= t->capacity) return;
    size_t capacity = 2 * t->capacity > t->length + more + 1 ? 2 * t->capacity : t->length + more + 256;
    char *data = realloc(t->data, capacity);
    if (!data) {
        fputs("encdiff: out of memory\n", stderr);
        exit(1);
    }
    t->data = data;
    t->capacity = capacity;
}

void text_add_bytes(text *t, const void *bytes, size_t count)
{
    reserve(t, count);
    memcpy(t->data + t->length, bytes, count);
    t->length += count;
    t->data[t->length] = 0;
}

void text_add(text *t, const char *format, ...)
{
    va_list list, again;
    va_start(list, format);
    va_copy(again, list);
    int length = vsnprintf(NULL, 0, format, list);
    va_end(list);
    reserve(t, (size_t)length);
    vsnprintf(t->data + t->length, (size_t)length + 1, format, again);
    va_end(again);
    t->length += (size_t)length;
}

void text_add_html(text *t, const char *string)
{
    for (const char *s = string; *s; s++) {
        if (*s == '<')
            text_add(t, "&lt;");
        else if (*s == '>')
            text_add(t, "&gt;");
        else if (*s == '&')
            text_add(t, "&amp;");
        else if (*s == '"')
            text_add(t, "&quot;");
        else
            text_add_bytes(t, s, 1);
    }
}

void text_add_base64(text *t, const void *bytes, size_t count)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *b = bytes;
    for (size_t i = 0; i < count; i += 3) {
        size_t left = count - i;
        unsigned value = (unsigned)b[i] << 16 | (left > 1 ? (unsigned)b[i + 1] << 8 : 0) | (left > 2 ? b[i + 2] : 0u);
        char four[4] = {digits[value >> 18], digits[value >> 12 & 63], left > 1 ? digits[value >> 6 & 63] : '=',
                        left > 2 ? digits[value & 63] : '='};
        text_add_bytes(t, four, 4);
    }
}

void text_free(text *t)
{
    free(t->data);
    *t = (text){0};
}

/* ---------------------------------------------------------------- files */

char *text_read_file(const char *path, size_t *size)
{
    text t = {0};
    char block[65536];
    size_t got;
    FILE *file = fopen(path, "rb");
    if (!file) return NULL;
    while ((got = fread(block, 1, sizeof block, file)) > 0) text_add_bytes(&t, block, got);
    int failed = ferror(file);
    fclose(file);
    if (failed || !t.data) {
        text_free(&t);
        return NULL;
    }
    if (size) *size = t.length;
    return t.data;
}

static int write_all(int file, const char *data, size_t count)
{
    while (count > 0) {
        ssize_t written = write(file, data, count);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return errno;
        data += written;
        count -= (size_t)written;
    }
    return 0;
}

/* What is no regular file (a pipe, /dev/null) cannot be renamed to; it is written as it is. */
static int write_special(const text *t, const char *path)
{
    FILE *file = fopen(path, "wb");
    if (!file) return errno;
    int error = fwrite(t->data, 1, t->length, file) == t->length ? 0 : EIO;
    if (fclose(file) != 0 && !error) error = errno;
    return error;
}

int text_write_file(const text *t, const char *path)
{
    struct stat info;
    char temporary[4096];
    if (stat(path, &info) == 0 && !S_ISREG(info.st_mode))
        return S_ISDIR(info.st_mode) ? EISDIR : write_special(t, path);
    if ((size_t)snprintf(temporary, sizeof temporary, "%s.XXXXXX", path) >= sizeof temporary) return ENAMETOOLONG;
    int file = mkstemp(temporary);
    if (file < 0) return errno;
    mode_t mask = umask(0);
    umask(mask);
    int error = write_all(file, t->data, t->length);
    if (!error && (fchmod(file, 0666 & ~mask) != 0 || fsync(file) != 0)) error = errno;
    if (close(file) != 0 && !error) error = errno;
    if (!error && rename(temporary, path) != 0) error = errno;
    if (error) unlink(temporary);
    return error;
}

/* ---------------------------------------------------------------- numbers for people */

const char *text_duration(double seconds, char buffer[32])
{
    long long whole = (long long)(seconds + 0.5);
    if (seconds < 10)
        snprintf(buffer, 32, "%.1f s", seconds);
    else if (whole < 60)
        snprintf(buffer, 32, "%lld s", whole);
    else if (whole < 3600)
        snprintf(buffer, 32, "%lld min %lld s", whole / 60, whole % 60);
    else
        snprintf(buffer, 32, "%lld h %lld min", whole / 3600, whole / 60 % 60);
    return buffer;
}

const char *text_thousands(long long number, char buffer[32])
{
    char digits[32], *to = buffer;
    int length = snprintf(digits, sizeof digits, "%lld", number);
    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0 && digits[i - 1] != '-') *to++ = ',';
        *to++ = digits[i];
    }
    *to = 0;
    return buffer;
}

const char *text_bytes(double bytes, char buffer[32])
{
    static const char *const units[] = {"bytes", "kB", "MB", "GB", "TB"};
    int unit = 0;
    for (; bytes >= 999.5 && unit < 4; unit++) bytes /= 1000;
    snprintf(buffer, 32, unit == 0 || bytes >= 99.5 ? "%.0f %s" : "%.1f %s", bytes, units[unit]);
    return buffer;
}
