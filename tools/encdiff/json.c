#include "json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- writing */

void json_quote(text *t, const char *value)
{
    text_add(t, "\"");
    for (const char *s = value; *s; s++) {
        unsigned char byte = (unsigned char)*s;
        if (byte == '"' || byte == '\\')
            text_add(t, "\\%c", *s);
        else if (byte < 0x20)
            text_add(t, "\\u%04x", byte);
        else
            text_add_bytes(t, s, 1);
    }
    text_add(t, "\"");
}

static void begin(json_writer *j, const char *key)
{
    if (j->follows) text_add(&j->text, ",");
    if (j->depth > 0) text_add(&j->text, "\n%*s", 2 * j->depth, "");
    if (key) {
        json_quote(&j->text, key);
        text_add(&j->text, ": ");
    }
    j->follows = true;
}

void json_open(json_writer *j, const char *key, char bracket)
{
    begin(j, key);
    text_add_bytes(&j->text, &bracket, 1);
    j->depth++;
    j->follows = false;
}

void json_close(json_writer *j, char bracket)
{
    j->depth--;
    if (j->follows) text_add(&j->text, "\n%*s", 2 * j->depth, "");
    text_add_bytes(&j->text, &bracket, 1);
    j->follows = true;
}

void json_string(json_writer *j, const char *key, const char *value)
{
    begin(j, key);
    if (value)
        json_quote(&j->text, value);
    else
        text_add(&j->text, "null");
}

void json_number(json_writer *j, const char *key, double value)
{
    begin(j, key);
    if (isfinite(value))
        text_add(&j->text, "%.9g", value);
    else
        text_add(&j->text, "null");
}

void json_integer(json_writer *j, const char *key, int64_t value)
{
    begin(j, key);
    text_add(&j->text, "%lld", (long long)value);
}

void json_bool(json_writer *j, const char *key, bool value)
{
    begin(j, key);
    text_add(&j->text, value ? "true" : "false");
}

void json_raw(json_writer *j, const char *key, const char *json)
{
    size_t length = strlen(json);
    while (length && strchr(" \n\r\t", json[length - 1])) length--;
    begin(j, key);
    text_add_bytes(&j->text, json, length);
}

/* ---------------------------------------------------------------- reading */

static const char *blank(const char *s) { return s + strspn(s, " \t\r\n"); }

static const char *skip_string(const char *s)
{
    for (s++; *s && *s != '"'; s++)
        if (*s == '\\' && s[1]) s++;
    return *s ? s + 1 : s;
}

const char *json_skip(const char *s)
{
    if (*s == '"') return skip_string(s);
    if (*s != '{' && *s != '[') return s + strcspn(s, ",]} \t\r\n");
    for (int depth = 0; *s;) {
        if (*s == '"') {
            s = skip_string(s);
            continue;
        }
        if (*s == '{' || *s == '[') depth++;
        if (*s == '}' || *s == ']') depth--;
        s++;
        if (depth == 0) break;
    }
    return s;
}

const char *json_first(const char *array)
{
    if (!array) return NULL;
    array = blank(array);
    if (*array != '[' && *array != '{') return NULL;
    array = blank(array + 1);
    return *array && *array != ']' && *array != '}' ? array : NULL;
}

const char *json_next(const char *item)
{
    item = blank(json_skip(item));
    return *item == ',' ? blank(item + 1) : NULL;
}

/* The value behind a key, and through it the next member. */
static const char *value_of(const char *key)
{
    const char *s = blank(json_skip(key));
    return *s == ':' ? blank(s + 1) : NULL;
}

const char *json_member(const char *object, const char *path)
{
    size_t length = strcspn(path, ".");
    for (const char *key = json_first(object); key && *key == '"';) {
        const char *value = value_of(key);
        if (!value) return NULL;
        if (strncmp(key + 1, path, length) == 0 && key[length + 1] == '"')
            return path[length] ? json_member(value, path + length + 1) : value;
        key = json_next(value);
    }
    return NULL;
}

double json_as_number(const char *value, double otherwise)
{
    char *end;
    if (!value) return otherwise;
    double number = strtod(value, &end);
    return end == value ? otherwise : number;
}

const char *json_as_text(const char *value, char *buffer, size_t size)
{
    buffer[0] = 0;
    if (!value) return buffer;
    bool string = *value == '"';
    size_t length = (size_t)(json_skip(value) - value);
    if (string && length >= 2) {
        value++;
        length -= 2;
    }
    snprintf(buffer, size, "%.*s", (int)(length < size ? length : size - 1), value);
    return buffer;
}

bool json_is(const char *value, const char *string)
{
    char buffer[128];
    return value && *value == '"' && strcmp(json_as_text(value, buffer, sizeof buffer), string) == 0;
}
