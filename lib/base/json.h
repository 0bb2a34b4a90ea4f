/*
 * json: trees of JSON values, and typed reading of configuration objects.
 *
 * cJSON parses; what the rest of the library holds is this tree, which lives in the context's memory, knows the path of
 * every value ("unet.model_channels") and remembers which keys were asked for, so that a misspelt key is an error
 * that names the keys there are. Numbers are doubles: integers are exact up to 2^53, and printing and parsing again
 * gives the same double. A key occurs once in an object.
 */
#ifndef ED_JSON_H
#define ED_JSON_H

#include "base/base.h"

typedef enum ed_json_kind {
    ED_JSON_NULL,
    ED_JSON_BOOL,
    ED_JSON_NUMBER,
    ED_JSON_STRING,
    ED_JSON_ARRAY,
    ED_JSON_OBJECT
} ed_json_kind;

/* Read the fields freely; change them through the functions below. */
typedef struct ed_json ed_json;
struct ed_json {
    ed_json_kind kind;
    char *key;       /* in the object that holds it, else NULL */
    ed_json *parent; /* NULL for a root */
    double number;   /* of ED_JSON_NUMBER; 0 or 1 of ED_JSON_BOOL */
    char *string;    /* of ED_JSON_STRING, UTF-8 */
    ed_json **items; /* of arrays and objects, in the order of the text */
    size_t count, capacity;
    char **asked; /* keys that the getters below asked this object for */
    size_t asked_count, asked_capacity;
    bool opened; /* taken by ed_json_group(): ed_json_check_known() looks inside */
};

/* ---------------------------------------------------------------- trees */

/* Parse a text. `name` ("config.json", "--set") begins the message, which has line and column. */
encdiff_status ed_json_parse(ed_env *env, const char *name, const char *text, size_t length, ed_json **out);
/* Parse a file of at most 16 MiB. */
encdiff_status ed_json_read(ed_env *env, const char *path, ed_json **out);
void ed_json_free(ed_env *env, ed_json *json); /* a root; NULL is fine */
ed_json *ed_json_copy(ed_env *env, const ed_json *json);
/* The member with that key; NULL when there is none, or when `object` is NULL or no object. Not counted as asked for.
 */
ed_json *ed_json_find(const ed_json *object, const char *key);
/* "unet.channel_mult[2]" into `path`, and returns it; "" for a root. */
const char *ed_json_path(const ed_json *json, char path[256]);
/* Append the text: on one line, or indented with short arrays on one line. */
encdiff_status ed_json_print(ed_env *env, const ed_json *json, bool pretty, ed_text *out);

/* ---------------------------------------------------------------- building */

ed_json *ed_json_new(ed_env *env, ed_json_kind kind);
/*
 * Put `value` into an object under `key` (replacing what was there), or at the end of an array (`key` is NULL). Takes
 * `value`, also on failure; a NULL value is a failure to make it that was recorded already.
 */
encdiff_status ed_json_put(ed_env *env, ed_json *holder, const char *key, ed_json *value);
encdiff_status ed_json_put_number(ed_env *env, ed_json *holder, const char *key, double value);
encdiff_status ed_json_put_bool(ed_env *env, ed_json *holder, const char *key, bool value);
encdiff_status ed_json_put_string(ed_env *env, ed_json *holder, const char *key, const char *value);
/* A new empty object or array in `holder`. */
encdiff_status ed_json_put_new(ed_env *env, ed_json *holder, const char *key, ed_json_kind kind, ed_json **out);
/* "a.b=c": the value is JSON if it parses as such, else a string. Groups on the way are made when absent. */
encdiff_status ed_json_assign(ed_env *env, ed_json *root, const char *assignment);
/* Members of `changes` replace those of `base`; objects are merged member by member. */
encdiff_status ed_json_merge(ed_env *env, ed_json *base, const ed_json *changes);

/* ---------------------------------------------------------------- reading a configuration
 *
 * An absent key leaves *value as it is, so the caller puts the default there first. A wrong type or a value out of
 * range is ENCDIFF_ERROR_CONFIG with the full path, what was expected and what was found. `object` may be NULL (the
 * group is absent): then all keys are.
 */

/* ENCDIFF_ERROR_CONFIG when `key` is absent. */
encdiff_status ed_json_require(ed_env *env, const ed_json *object, const char *key);
/* The object under `key`, or NULL when absent. */
encdiff_status ed_json_group(ed_env *env, ed_json *object, const char *key, ed_json **value);
encdiff_status ed_json_int(ed_env *env, ed_json *object, const char *key, int64_t low, int64_t high, int64_t *value);
encdiff_status ed_json_int32(ed_env *env, ed_json *object, const char *key, int low, int high, int *value);
encdiff_status ed_json_float(ed_env *env, ed_json *object, const char *key, double low, double high, double *value);
encdiff_status ed_json_bool(ed_env *env, ed_json *object, const char *key, bool *value);
/* *value points into the tree. */
encdiff_status ed_json_string(ed_env *env, ed_json *object, const char *key, const char **value);
/* *value is the position among `names`. */
encdiff_status ed_json_enum(ed_env *env, ed_json *object, const char *key, const char *const *names, int names_count,
                            int *value);
/* min_count to max_count integers; `values` has room for max_count. */
encdiff_status ed_json_ints(ed_env *env, ed_json *object, const char *key, int64_t low, int64_t high, int min_count,
                            int max_count, int64_t *values, int *count);
/*
 * ENCDIFF_ERROR_CONFIG for a key of `object` that no getter asked for, and so on in the groups that were taken. The
 * message has the nearest known key and all known ones.
 */
encdiff_status ed_json_check_known(ed_env *env, const ed_json *object);

#endif
