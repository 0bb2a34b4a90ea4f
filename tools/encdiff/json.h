/* json: writing an object key by key, and finding values in JSON that the library made. */
#ifndef CLI_JSON_H
#define CLI_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include "text.h"

typedef struct json_writer {
    text text;
    int depth;
    bool follows; /* something stands before in the innermost bracket */
} json_writer;

/* key is NULL inside arrays and for the outermost. bracket: '{' or '['. */
void json_open(json_writer *j, const char *key, char bracket);
void json_close(json_writer *j, char bracket); /* '}' or ']' */
void json_string(json_writer *j, const char *key, const char *value);
void json_number(json_writer *j, const char *key, double value); /* null where it is not finite */
void json_integer(json_writer *j, const char *key, int64_t value);
void json_bool(json_writer *j, const char *key, bool value);
void json_raw(json_writer *j, const char *key, const char *json); /* JSON text as it is */

/* A string in quotes, as overrides want it too. */
void json_quote(text *t, const char *value);

/*
 * Reading: a value is a pointer to its first character. The text is the library's, so it is not checked; whatever it
 * is, nothing beyond its end is read.
 */
const char *json_member(const char *object, const char *path); /* "group.key"; NULL when absent */
const char *json_first(const char *array);                     /* NULL when empty, or no array or object */
const char *json_next(const char *item);                       /* NULL after the last */
double json_as_number(const char *value, double otherwise);
bool json_is(const char *value, const char *string); /* a string of this content */
/* Copy a string, or the text of any other value, shortened to fit. Returns buffer. */
const char *json_as_text(const char *value, char *buffer, size_t size);
/* Behind a value. */
const char *json_skip(const char *value);

#endif
