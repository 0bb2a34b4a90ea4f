/* Trees of JSON values: parsing (through cJSON, which appears in this file alone), building, merging and printing. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <cjson/cJSON.h>

#include "base/json.h"

#define FILE_LIMIT ((size_t)16 << 20)

/* ---------------------------------------------------------------- nodes */

ed_json *ed_json_new(ed_env *env, ed_json_kind kind)
{
    ed_json *json = ed_alloc(env, 1, sizeof *json);
    if (json) json->kind = kind;
    return json;
}

void ed_json_free(ed_env *env, ed_json *json)
{
    if (!json) return;
    for (size_t i = 0; i < json->count; i++) ed_json_free(env, json->items[i]);
    for (size_t i = 0; i < json->asked_count; i++) ed_free(env, json->asked[i]);
    ed_free(env, json->items);
    ed_free(env, json->asked);
    ed_free(env, json->string);
    ed_free(env, json->key);
    ed_free(env, json);
}

static ed_json *new_string(ed_env *env, const char *text)
{
    ed_json *json = ed_json_new(env, ED_JSON_STRING);
    if (json && !(json->string = ed_strdup(env, text))) {
        ed_json_free(env, json);
        return NULL;
    }
    return json;
}

static ed_json *new_number(ed_env *env, ed_json_kind kind, double number)
{
    ed_json *json = ed_json_new(env, kind);
    if (json) json->number = number;
    return json;
}

static size_t position(const ed_json *object, const char *key)
{
    for (size_t i = 0; i < object->count; i++)
        if (strcmp(object->items[i]->key, key) == 0) return i;
    return SIZE_MAX;
}

ed_json *ed_json_find(const ed_json *object, const char *key)
{
    if (!object || object->kind != ED_JSON_OBJECT) return NULL;
    size_t at = position(object, key);
    return at == SIZE_MAX ? NULL : object->items[at];
}

/* At the end, without looking for the key. Takes `value`. */
static encdiff_status append(ed_env *env, ed_json *holder, const char *key, ed_json *value)
{
    encdiff_status status = ed_reserve(env, &holder->items, &holder->capacity, holder->count + 1, sizeof(ed_json *));
    if (status == ENCDIFF_OK && key && !value->key && !(value->key = ed_strdup(env, key)))
        status = ENCDIFF_ERROR_OUT_OF_MEMORY;
    if (status != ENCDIFF_OK) {
        ed_json_free(env, value);
        return status;
    }
    value->parent = holder;
    holder->items[holder->count++] = value;
    return ENCDIFF_OK;
}

encdiff_status ed_json_put(ed_env *env, ed_json *holder, const char *key, ed_json *value)
{
    if (!value) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    if (holder->kind != (key ? ED_JSON_OBJECT : ED_JSON_ARRAY)) {
        ed_json_free(env, value);
        return ed_fail(env, ENCDIFF_ERROR_INTERNAL, "a JSON value was put into something that cannot hold it");
    }
    size_t at = key ? position(holder, key) : SIZE_MAX;
    if (at == SIZE_MAX) return append(env, holder, key, value);
    ed_json *old = holder->items[at];
    value->key = old->key;
    value->parent = holder;
    holder->items[at] = value;
    old->key = NULL;
    ed_json_free(env, old);
    return ENCDIFF_OK;
}

encdiff_status ed_json_put_number(ed_env *env, ed_json *holder, const char *key, double value)
{
    return ed_json_put(env, holder, key, new_number(env, ED_JSON_NUMBER, value));
}

encdiff_status ed_json_put_bool(ed_env *env, ed_json *holder, const char *key, bool value)
{
    return ed_json_put(env, holder, key, new_number(env, ED_JSON_BOOL, value));
}

encdiff_status ed_json_put_string(ed_env *env, ed_json *holder, const char *key, const char *value)
{
    return ed_json_put(env, holder, key, new_string(env, value));
}

encdiff_status ed_json_put_new(ed_env *env, ed_json *holder, const char *key, ed_json_kind kind, ed_json **out)
{
    *out = ed_json_new(env, kind);
    encdiff_status status = ed_json_put(env, holder, key, *out);
    if (status != ENCDIFF_OK) *out = NULL;
    return status;
}

ed_json *ed_json_copy(ed_env *env, const ed_json *json)
{
    if (json->kind == ED_JSON_STRING) return new_string(env, json->string);
    ed_json *copy = new_number(env, json->kind, json->number);
    for (size_t i = 0; copy && i < json->count; i++) {
        ed_json *item = ed_json_copy(env, json->items[i]);
        if (!item || append(env, copy, json->items[i]->key, item) != ENCDIFF_OK) {
            ed_json_free(env, copy);
            copy = NULL;
        }
    }
    return copy;
}

static size_t write_path(const ed_json *json, char *path, size_t size)
{
    if (!json->parent) return 0;
    size_t at = write_path(json->parent, path, size);
    if (at >= size) return at;
    int n;
    if (json->key) {
        n = snprintf(path + at, size - at, at ? ".%s" : "%s", json->key);
    } else {
        size_t i = 0;
        while (i < json->parent->count && json->parent->items[i] != json) i++;
        n = snprintf(path + at, size - at, "[%zu]", i);
    }
    return n < 0 ? at : ED_MIN(at + (size_t)n, size - 1);
}

const char *ed_json_path(const ed_json *json, char path[256])
{
    path[0] = 0;
    write_path(json, path, 256);
    return path;
}

/* ---------------------------------------------------------------- parsing */

static int compare_keys(const void *a, const void *b)
{
    return strcmp((*(ed_json *const *)a)->key, (*(ed_json *const *)b)->key);
}

/* Sorting keeps an object with a million keys from taking 10^12 comparisons. */
static encdiff_status check_duplicates(ed_env *env, const ed_json *object)
{
    if (object->count < 2) return ENCDIFF_OK;
    ed_json **sorted = ed_alloc(env, object->count, sizeof(ed_json *));
    if (!sorted) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    memcpy(sorted, object->items, object->count * sizeof(ed_json *));
    qsort(sorted, object->count, sizeof(ed_json *), compare_keys);
    encdiff_status status = ENCDIFF_OK;
    char path[256];
    for (size_t i = 1; i < object->count && status == ENCDIFF_OK; i++)
        if (compare_keys(&sorted[i - 1], &sorted[i]) == 0)
            status = ed_fail(env, ENCDIFF_ERROR_FORMAT, "the key \"%s\" occurs twice", ed_json_path(sorted[i], path));
    ed_free(env, sorted);
    return status;
}

static encdiff_status import_value(ed_env *env, const cJSON *from, ed_json *parent, ed_json **out);

static encdiff_status import_items(ed_env *env, const cJSON *from, ed_json *holder)
{
    bool object = holder->kind == ED_JSON_OBJECT;
    for (const cJSON *item = from->child; item; item = item->next) {
        ed_json *value;
        ED_TRY(import_value(env, item, holder, &value));
        ED_TRY(append(env, holder, object ? item->string : NULL, value));
    }
    return object ? check_duplicates(env, holder) : ENCDIFF_OK;
}

static encdiff_status import_value(ed_env *env, const cJSON *from, ed_json *parent, ed_json **out)
{
    if (cJSON_IsNumber(from) && !isfinite(from->valuedouble))
        return ed_fail(env, ENCDIFF_ERROR_FORMAT, "a number is beyond the range of a double");
    if (cJSON_IsString(from)) {
        *out = new_string(env, from->valuestring);
    } else if (cJSON_IsNumber(from)) {
        *out = new_number(env, ED_JSON_NUMBER, from->valuedouble);
    } else if (cJSON_IsBool(from)) {
        *out = new_number(env, ED_JSON_BOOL, cJSON_IsTrue(from));
    } else {
        *out = ed_json_new(env, cJSON_IsObject(from)  ? ED_JSON_OBJECT
                                : cJSON_IsArray(from) ? ED_JSON_ARRAY
                                                      : ED_JSON_NULL);
    }
    if (!*out) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    (*out)->parent = parent; /* and the key below: so that messages have the path already */
    encdiff_status status = ENCDIFF_OK;
    if (parent && parent->kind == ED_JSON_OBJECT && !((*out)->key = ed_strdup(env, from->string)))
        status = ENCDIFF_ERROR_OUT_OF_MEMORY;
    if (status == ENCDIFF_OK) status = import_items(env, from, *out);
    if (status != ENCDIFF_OK) {
        ed_json_free(env, *out);
        *out = NULL;
    }
    return status;
}

static encdiff_status fail_at(ed_env *env, const char *name, const char *text, size_t length, size_t at)
{
    size_t line = 1, column = 1;
    at = ED_MIN(at, length);
    for (size_t i = 0; i < at; i++) {
        column++;
        if (text[i] == '\n') line++, column = 1;
    }
    if (at == length)
        return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s:%zu:%zu: not JSON: the text ends too early", name, line, column);
    size_t shown = 0;
    while (at + shown < length && shown < 20 && (unsigned char)text[at + shown] >= ' ') shown++;
    return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s:%zu:%zu: not JSON: unexpected \"%.*s\"", name, line, column,
                   (int)shown, text + at);
}

encdiff_status ed_json_parse(ed_env *env, const char *name, const char *text, size_t length, ed_json **out)
{
    *out = NULL;
    const char *end = text;
    cJSON *tree = cJSON_ParseWithLengthOpts(text, length, &end, 0);
    if (!tree) return fail_at(env, name, text, length, (size_t)(end - text));
    size_t at = (size_t)(end - text);
    while (at < length && strchr(" \t\r\n", text[at]) && text[at]) at++;
    encdiff_status status = at == length ? import_value(env, tree, NULL, out) : fail_at(env, name, text, length, at);
    cJSON_Delete(tree);
    if (status == ENCDIFF_ERROR_FORMAT && at == length) ed_fail_within(env, "%s", name);
    return status;
}

encdiff_status ed_json_read(ed_env *env, const char *path, ed_json **out)
{
    char *text;
    size_t length;
    *out = NULL;
    ED_TRY(ed_read_file(env, path, FILE_LIMIT, &text, &length));
    encdiff_status status = ed_json_parse(env, path, text, length, out);
    ed_free(env, text);
    return status;
}

/* ---------------------------------------------------------------- printing */

static encdiff_status print_string(ed_env *env, const char *text, ed_text *out)
{
    ED_TRY(ed_text_add_bytes(env, out, "\"", 1));
    const char *plain = text; /* start of what needs no escape */
    for (const char *p = text;; p++) {
        unsigned char c = (unsigned char)*p;
        if (c >= ' ' && c != '"' && c != '\\') continue;
        ED_TRY(ed_text_add_bytes(env, out, plain, (size_t)(p - plain)));
        if (!c) break;
        if (c == '"' || c == '\\')
            ED_TRY(ed_text_add(env, out, "\\%c", c));
        else if (c == '\n')
            ED_TRY(ed_text_add_bytes(env, out, "\\n", 2));
        else
            ED_TRY(ed_text_add(env, out, "\\u%04x", c));
        plain = p + 1;
    }
    return ed_text_add_bytes(env, out, "\"", 1);
}

/* The shortest of 15 to 17 digits that gives the same double; with a point whatever the host's locale. */
static encdiff_status print_number(ed_env *env, double number, ed_text *out)
{
    char text[40];
    if (!isfinite(number))
        return ed_fail(env, ENCDIFF_ERROR_NUMERIC, "%s cannot be written as JSON", isnan(number) ? "NaN" : "infinity");
    if (number == floor(number) && fabs(number) < 0x1p53 && !(number == 0 && signbit(number)))
        return ed_text_add(env, out, "%lld", (long long)number);
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, number);
        if (strtod(text, NULL) == number) break;
    }
    for (char *p = text; *p; p++)
        if (!strchr("0123456789+-e", *p)) *p = '.';
    return ed_text_add(env, out, "%s", text);
}

static encdiff_status new_line(ed_env *env, int depth, ed_text *out)
{
    ED_TRY(ed_text_add_bytes(env, out, "\n", 1));
    for (int i = 0; i < depth; i++) ED_TRY(ed_text_add_bytes(env, out, "  ", 2));
    return ENCDIFF_OK;
}

static bool fits_one_line(const ed_json *json)
{
    if (json->kind == ED_JSON_OBJECT) return json->count == 0;
    for (size_t i = 0; i < json->count; i++)
        if (json->items[i]->kind >= ED_JSON_ARRAY) return false;
    return true;
}

static encdiff_status print_value(ed_env *env, const ed_json *json, bool pretty, int depth, ed_text *out);

static encdiff_status print_items(ed_env *env, const ed_json *json, bool pretty, int depth, ed_text *out)
{
    bool object = json->kind == ED_JSON_OBJECT, lines = pretty && !fits_one_line(json);
    ED_TRY(ed_text_add_bytes(env, out, object ? "{" : "[", 1));
    for (size_t i = 0; i < json->count; i++) {
        if (i) ED_TRY(ed_text_add_bytes(env, out, ", ", pretty && !lines ? 2 : 1));
        if (lines) ED_TRY(new_line(env, depth + 1, out));
        if (object) {
            ED_TRY(print_string(env, json->items[i]->key, out));
            ED_TRY(ed_text_add_bytes(env, out, ": ", pretty ? 2 : 1));
        }
        ED_TRY(print_value(env, json->items[i], pretty, depth + 1, out));
    }
    if (lines) ED_TRY(new_line(env, depth, out));
    return ed_text_add_bytes(env, out, object ? "}" : "]", 1);
}

static encdiff_status print_value(ed_env *env, const ed_json *json, bool pretty, int depth, ed_text *out)
{
    switch (json->kind) {
    case ED_JSON_NULL: return ed_text_add(env, out, "null");
    case ED_JSON_BOOL: return ed_text_add(env, out, json->number != 0 ? "true" : "false");
    case ED_JSON_NUMBER: return print_number(env, json->number, out);
    case ED_JSON_STRING: return print_string(env, json->string, out);
    case ED_JSON_ARRAY:
    case ED_JSON_OBJECT: return print_items(env, json, pretty, depth, out);
    }
    return ed_fail(env, ENCDIFF_ERROR_INTERNAL, "a JSON value of no kind");
}

encdiff_status ed_json_print(ed_env *env, const ed_json *json, bool pretty, ed_text *out)
{
    return print_value(env, json, pretty, 0, out);
}

/* ---------------------------------------------------------------- changing */

static encdiff_status parse_loosely(ed_env *env, const char *text, ed_json **out)
{
    ed_env quiet; /* that it is no JSON is no failure */
    ed_env_child(&quiet, env);
    encdiff_status status = ed_json_parse(&quiet, "", text, strlen(text), out);
    if (status == ENCDIFF_ERROR_OUT_OF_MEMORY) return ed_fail(env, status, "%s", quiet.message);
    if (status != ENCDIFF_OK) *out = new_string(env, text);
    return *out ? ENCDIFF_OK : ENCDIFF_ERROR_OUT_OF_MEMORY;
}

/* The group that the first part of `path` names; made when absent. */
static encdiff_status descend(ed_env *env, ed_json *object, const char *key, const char *assignment, ed_json **out)
{
    *out = ed_json_find(object, key);
    if (!*out) return ed_json_put_new(env, object, key, ED_JSON_OBJECT, out);
    if ((*out)->kind != ED_JSON_OBJECT)
        return ed_fail(env, ENCDIFF_ERROR_CONFIG, "\"%s\": \"%s\" is not a group of keys", assignment, key);
    return ENCDIFF_OK;
}

encdiff_status ed_json_assign(ed_env *env, ed_json *root, const char *assignment)
{
    const char *equals = strchr(assignment, '=');
    if (!equals || equals == assignment)
        return ed_fail(env, ENCDIFF_ERROR_CONFIG, "\"%s\": expected key=value", assignment);
    if (root->kind != ED_JSON_OBJECT) return ed_fail(env, ENCDIFF_ERROR_CONFIG, "a configuration is a JSON object");
    char *path = ed_strdup(env, assignment);
    if (!path) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    path[equals - assignment] = 0;
    encdiff_status status = ENCDIFF_OK;
    char *key = path;
    for (char *dot; status == ENCDIFF_OK && (dot = strchr(key, '.')); key = dot + 1) {
        *dot = 0;
        status = *key ? descend(env, root, key, assignment, &root)
                      : ed_fail(env, ENCDIFF_ERROR_CONFIG, "\"%s\": a key is empty", assignment);
    }
    if (status == ENCDIFF_OK && !*key)
        status = ed_fail(env, ENCDIFF_ERROR_CONFIG, "\"%s\": a key is empty", assignment);
    ed_json *value = NULL;
    if (status == ENCDIFF_OK) status = parse_loosely(env, equals + 1, &value);
    if (status == ENCDIFF_OK) status = ed_json_put(env, root, key, value);
    ed_free(env, path);
    return status;
}

encdiff_status ed_json_merge(ed_env *env, ed_json *base, const ed_json *changes)
{
    if (base->kind != ED_JSON_OBJECT || changes->kind != ED_JSON_OBJECT)
        return ed_fail(env, ENCDIFF_ERROR_CONFIG, "a configuration is a JSON object");
    for (size_t i = 0; i < changes->count; i++) {
        const ed_json *item = changes->items[i];
        ed_json *old = ed_json_find(base, item->key);
        if (old && old->kind == ED_JSON_OBJECT && item->kind == ED_JSON_OBJECT)
            ED_TRY(ed_json_merge(env, old, item));
        else
            ED_TRY(ed_json_put(env, base, item->key, ed_json_copy(env, item)));
    }
    return ENCDIFF_OK;
}
