/* text: a string that grows, and the file that it becomes. */
#ifndef CLI_TEXT_H
#define CLI_TEXT_H

#include <stddef.h>

#include <encdiff/export.h>

/* A zeroed one is empty; data is NULL then. Running out of memory ends the program. */
typedef struct text {
    char *data;
    size_t length, capacity;
} text;

void text_add(text *t, const char *format, ...) ENCDIFF_FORMAT(2, 3);
void text_add_bytes(text *t, const void *bytes, size_t count);
/* With the characters that HTML gives a meaning escaped. */
void text_add_html(text *t, const char *string);
void text_add_base64(text *t, const void *bytes, size_t count);
void text_free(text *t);

/* A whole file, or NULL; freed by the caller with free(). A zero follows the content. */
char *text_read_file(const char *path, size_t *size);
/* Writes to a temporary name beside path and renames it. Returns 0, or an errno with nothing left behind. */
int text_write_file(const text *t, const char *path);

/* "3 min 20 s", "45 s", "1.5 s" */
const char *text_duration(double seconds, char buffer[32]);
/* "480,000" */
const char *text_thousands(long long number, char buffer[32]);
/* "1.5 MB" */
const char *text_bytes(double bytes, char buffer[32]);

#endif
