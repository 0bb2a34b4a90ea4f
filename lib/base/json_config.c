/* Typed reading of configuration objects: every message has the key's full path, what was expected and what was there.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "base/json.h"

static bool was_asked(const ed_json *object, const char *key)
{
    for (size_t i = 0; i < object->asked_count; i++)
        if (strcmp(object->asked[i], key) == 0) return true;
    return false;
}

/* The member, or NULL when absent; the key becomes a known one. */
static encdiff_status take(ed_env *env, ed_json *object, const char *key, ed_json **out)
{
    *out = NULL;
    if (!object) return ENCDIFF_OK;
    if (object->kind != ED_JSON_OBJECT) return ed_fail(env, ENCDIFF_ERROR_CONFIG, "a configuration is a JSON object");
    if (!was_asked(object, key)) {
        ED_TRY(ed_reserve(env, &object->asked, &object->asked_capacity, object->asked_count + 1, sizeof(char *)));
        char *copy = ed_strdup(env, key);
        if (!copy) return ENCDIFF_ERROR_OUT_OF_MEMORY;
        object->asked[object->asked_count++] = copy;
    }
    *out = ed_json_find(object, key);
    return ENCDIFF_OK;
}

/* "path: expected <expected>, got <value>", long values cut short. */
static encdiff_status refuse(ed_env *env, const ed_json *value, const char *expected)
{
    char path[256];
    ed_text found = {0};
    encdiff_status status = ed_json_print(env, value, false, &found);
    if (status == ENCDIFF_OK)
        status = ed_fail(env, ENCDIFF_ERROR_CONFIG, "%s: expected %s, got %.80s%s", ed_json_path(value, path), expected,
                         found.data, found.length > 80 ? "..." : "");
    ed_text_free(env, &found);
    return status;
}

encdiff_status ed_json_require(ed_env *env, const ed_json *object, const char *key)
{
    if (ed_json_find(object, key)) return ENCDIFF_OK;
    char path[256] = "";
    if (object) ed_json_path(object, path);
    return ed_fail(env, ENCDIFF_ERROR_CONFIG, "%s%s%s: is missing", path, *path ? "." : "", key);
}

encdiff_status ed_json_group(ed_env *env, ed_json *object, const char *key, ed_json **value)
{
    ED_TRY(take(env, object, key, value));
    if (!*value) return ENCDIFF_OK;
    if ((*value)->kind != ED_JSON_OBJECT) {
        ed_json *wrong = *value;
        *value = NULL;
        return refuse(env, wrong, "a group of keys");
    }
    (*value)->opened = true;
    return ENCDIFF_OK;
}

static bool is_int(const ed_json *json, int64_t low, int64_t high)
{
    if (json->kind != ED_JSON_NUMBER || json->number != floor(json->number) || fabs(json->number) >= 0x1p53)
        return false;
    int64_t number = (int64_t)json->number;
    return number >= low && number <= high;
}

encdiff_status ed_json_int(ed_env *env, ed_json *object, const char *key, int64_t low, int64_t high, int64_t *value)
{
    ed_json *json;
    ED_TRY(take(env, object, key, &json));
    if (!json) return ENCDIFF_OK;
    if (!is_int(json, low, high)) {
        char expected[96];
        snprintf(expected, sizeof expected, "an integer in [%" PRId64 ", %" PRId64 "]", low, high);
        return refuse(env, json, expected);
    }
    *value = (int64_t)json->number;
    return ENCDIFF_OK;
}

encdiff_status ed_json_int32(ed_env *env, ed_json *object, const char *key, int low, int high, int *value)
{
    int64_t wide = *value;
    ED_TRY(ed_json_int(env, object, key, low, high, &wide));
    *value = (int)wide;
    return ENCDIFF_OK;
}

encdiff_status ed_json_float(ed_env *env, ed_json *object, const char *key, double low, double high, double *value)
{
    ed_json *json;
    ED_TRY(take(env, object, key, &json));
    if (!json) return ENCDIFF_OK;
    if (json->kind != ED_JSON_NUMBER || json->number < low || json->number > high) {
        char expected[96];
        snprintf(expected, sizeof expected, "a number in [%g, %g]", low, high);
        return refuse(env, json, expected);
    }
    *value = json->number;
    return ENCDIFF_OK;
}

encdiff_status ed_json_bool(ed_env *env, ed_json *object, const char *key, bool *value)
{
    ed_json *json;
    ED_TRY(take(env, object, key, &json));
    if (!json) return ENCDIFF_OK;
    if (json->kind != ED_JSON_BOOL) return refuse(env, json, "true or false");
    *value = json->number != 0;
    return ENCDIFF_OK;
}

encdiff_status ed_json_string(ed_env *env, ed_json *object, const char *key, const char **value)
{
    ed_json *json;
    ED_TRY(take(env, object, key, &json));
    if (!json) return ENCDIFF_OK;
    if (json->kind != ED_JSON_STRING) return refuse(env, json, "a string");
    *value = json->string;
    return ENCDIFF_OK;
}

static encdiff_status refuse_name(ed_env *env, const ed_json *json, const char *const *names, int count)
{
    ed_text expected = {0};
    encdiff_status status = ed_text_add(env, &expected, "one of ");
    for (int i = 0; i < count && status == ENCDIFF_OK; i++)
        status = ed_text_add(env, &expected, i ? ", \"%s\"" : "\"%s\"", names[i]);
    if (status == ENCDIFF_OK) status = refuse(env, json, expected.data);
    ed_text_free(env, &expected);
    return status;
}

encdiff_status ed_json_enum(ed_env *env, ed_json *object, const char *key, const char *const *names, int names_count,
                            int *value)
{
    ed_json *json;
    ED_TRY(take(env, object, key, &json));
    if (!json) return ENCDIFF_OK;
    for (int i = 0; i < names_count && json->kind == ED_JSON_STRING; i++)
        if (strcmp(names[i], json->string) == 0) {
            *value = i;
            return ENCDIFF_OK;
        }
    return refuse_name(env, json, names, names_count);
}

encdiff_status ed_json_ints(ed_env *env, ed_json *object, const char *key, int64_t low, int64_t high, int min_count,
                            int max_count, int64_t *values, int *count)
{
    ed_json *json;
    ED_TRY(take(env, object, key, &json));
    if (!json) return ENCDIFF_OK;
    bool good = json->kind == ED_JSON_ARRAY && json->count >= (size_t)min_count && json->count <= (size_t)max_count;
    for (size_t i = 0; good && i < json->count; i++) good = is_int(json->items[i], low, high);
    if (!good) {
        char expected[160];
        snprintf(expected, sizeof expected, "a list of %d to %d integers in [%" PRId64 ", %" PRId64 "]", min_count,
                 max_count, low, high);
        return refuse(env, json, expected);
    }
    for (size_t i = 0; i < json->count; i++) values[i] = (int64_t)json->items[i]->number;
    *count = (int)json->count;
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- unknown keys */

#define LONGEST_KEY 63

/* Levenshtein's edit distance; longer keys count as far apart. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b), row[LONGEST_KEY + 1];
    if (n > LONGEST_KEY || m > LONGEST_KEY) return SIZE_MAX;
    for (size_t j = 0; j <= m; j++) row[j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t above = row[j], change = diagonal + (a[i - 1] != b[j - 1]);
            row[j] = ED_MIN(change, ED_MIN(above, row[j - 1]) + 1);
            diagonal = above;
        }
    }
    return row[m];
}

static const char *nearest(const ed_json *object, const char *key)
{
    size_t best = ED_MIN(ED_MAX((size_t)2, strlen(key) / 3) + 1, strlen(key));
    const char *found = NULL;
    for (size_t i = 0; i < object->asked_count; i++) {
        size_t distance = edit_distance(key, object->asked[i]);
        if (distance < best) best = distance, found = object->asked[i];
    }
    return found;
}

static encdiff_status refuse_key(ed_env *env, const ed_json *object, const ed_json *item)
{
    char path[256];
    const char *near = nearest(object, item->key);
    ed_text known = {0};
    encdiff_status status = ed_text_add(env, &known, "%s", "");
    for (size_t i = 0; i < object->asked_count && status == ENCDIFF_OK; i++)
        status = ed_text_add(env, &known, i ? ", %s" : "%s", object->asked[i]);
    if (status == ENCDIFF_OK)
        status = ed_fail(env, ENCDIFF_ERROR_CONFIG, "%s: unknown key%s%s%s; known here: %s", ed_json_path(item, path),
                         near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "", known.data);
    ed_text_free(env, &known);
    return status;
}

encdiff_status ed_json_check_known(ed_env *env, const ed_json *object)
{
    for (size_t i = 0; object && i < object->count; i++) {
        const ed_json *item = object->items[i];
        if (!was_asked(object, item->key)) return refuse_key(env, object, item);
        if (item->opened) ED_TRY(ed_json_check_known(env, item));
    }
    return ENCDIFF_OK;
}
