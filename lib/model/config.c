/* Reading and printing of configurations, both from the table of keys in config.def. */
#include <math.h>
#include <stdio.h>

#include "model/config.h"
#include "model/published_config.h"

static const char *const autoencoder_kinds[] = {"vq", "kl", "average", "none"};
static const char *const schedule_kinds[] = {"linear", "sqrt_linear", "sqrt", "cosine"};
static const char *const parameterizations[] = {"eps", "x0", "v"};
static const char *const losses[] = {"l1", "l2"};
static const char *const ema_scopes[] = {"unet", "all"};
static const char *const disc_losses[] = {"hinge", "vanilla"};

/* ---------------------------------------------------------------- the table */

typedef enum field_kind {
    FIELD_GROUP,
    FIELD_INT,
    FIELD_INT64,
    FIELD_UINT64,
    FIELD_DOUBLE,
    FIELD_POSITIVE,
    FIELD_BOOL,
    FIELD_ENUM,
    FIELD_LEVELS,
    FIELD_STRING
} field_kind;

typedef struct field {
    const char *group, *key;
    field_kind kind;
    size_t offset;
    double initial, low, high;
    const char *const *names; /* of FIELD_ENUM */
    int count;                /* of names; of FIELD_LEVELS the fewest entries */
    ed_levels levels;
} field;

/* The offset of a member, which must have the type: a row of the wrong kind does not compile. */
#define AT(type, group, key) _Generic(((ed_config *)0)->group.key, type : offsetof(ed_config, group.key))
#define ED_GROUP(g) {.group = #g, .kind = FIELD_GROUP},
#define ED_INT(g, k, value, least, most)                                                                               \
    {.group = #g, .key = #k, .kind = FIELD_INT, .offset = AT(int, g, k), .initial = value, .low = least, .high = most},
#define ED_INT64(g, k, value, least, most)                                                                             \
    {.group = #g,                                                                                                      \
     .key = #k,                                                                                                        \
     .kind = FIELD_INT64,                                                                                              \
     .offset = AT(int64_t, g, k),                                                                                      \
     .initial = value,                                                                                                 \
     .low = least,                                                                                                     \
     .high = most},
#define ED_UINT64(g, k, value, least, most)                                                                            \
    {.group = #g,                                                                                                      \
     .key = #k,                                                                                                        \
     .kind = FIELD_UINT64,                                                                                             \
     .offset = AT(uint64_t, g, k),                                                                                     \
     .initial = value,                                                                                                 \
     .low = least,                                                                                                     \
     .high = most},
#define ED_DOUBLE(g, k, value, least, most)                                                                            \
    {.group = #g,                                                                                                      \
     .key = #k,                                                                                                        \
     .kind = FIELD_DOUBLE,                                                                                             \
     .offset = AT(double, g, k),                                                                                       \
     .initial = value,                                                                                                 \
     .low = least,                                                                                                     \
     .high = most},
#define ED_POSITIVE(g, k, value, most)                                                                                 \
    {.group = #g, .key = #k, .kind = FIELD_POSITIVE, .offset = AT(double, g, k), .initial = value, .high = most},
#define ED_BOOL(g, k, value) {.group = #g, .key = #k, .kind = FIELD_BOOL, .offset = AT(bool, g, k), .initial = value},
#define ED_ENUM(g, k, value, texts)                                                                                    \
    {.group = #g,                                                                                                      \
     .key = #k,                                                                                                        \
     .kind = FIELD_ENUM,                                                                                               \
     .offset = offsetof(ed_config, g.k),                                                                               \
     .initial = value,                                                                                                 \
     .names = texts,                                                                                                   \
     .count = ED_COUNT(texts)},
#define ED_LEVELS(g, k, fewest, least, most, ...)                                                                      \
    {.group = #g,                                                                                                      \
     .key = #k,                                                                                                        \
     .kind = FIELD_LEVELS,                                                                                             \
     .offset = AT(ed_levels, g, k),                                                                                    \
     .low = least,                                                                                                     \
     .high = most,                                                                                                     \
     .count = fewest,                                                                                                  \
     .levels = {sizeof((int[]){__VA_ARGS__}) / sizeof(int), {__VA_ARGS__}}},
#define ED_STRING(g, k)                                                                                                \
    {.group = #g,                                                                                                      \
     .key = #k,                                                                                                        \
     .kind = FIELD_STRING,                                                                                             \
     .offset = offsetof(ed_config, g.k),                                                                               \
     .high = sizeof((ed_config *)0)->g.k - 1},

static const field fields[] = {
#include "model/config.def"
};

/* Enumerations are read and written as int. */
_Static_assert(sizeof(ed_autoencoder_kind) == sizeof(int) && sizeof(ed_schedule_kind) == sizeof(int) &&
                   sizeof(ed_parameterization) == sizeof(int) && sizeof(ed_config_loss) == sizeof(int) &&
                   sizeof(ed_ema_scope) == sizeof(int) && sizeof(ed_disc_loss) == sizeof(int),
               "enumerations have the size of int");

static void set_default(const field *f, void *at)
{
    switch (f->kind) {
    case FIELD_GROUP:
    case FIELD_STRING: break; /* zero already */
    case FIELD_INT:
    case FIELD_ENUM: *(int *)at = (int)f->initial; break;
    case FIELD_INT64: *(int64_t *)at = (int64_t)f->initial; break;
    case FIELD_UINT64: *(uint64_t *)at = (uint64_t)f->initial; break;
    case FIELD_DOUBLE:
    case FIELD_POSITIVE: *(double *)at = f->initial; break;
    case FIELD_BOOL: *(bool *)at = f->initial != 0; break;
    case FIELD_LEVELS: *(ed_levels *)at = f->levels; break;
    }
}

static void set_defaults(ed_config *config)
{
    memset(config, 0, sizeof *config); /* padding too, so that equal configurations are equal bytes */
    for (size_t i = 0; i < ED_COUNT(fields); i++) set_default(&fields[i], (char *)config + fields[i].offset);
}

/* ---------------------------------------------------------------- reading */

static encdiff_status read_levels(ed_env *env, ed_json *group, const field *f, ed_levels *levels)
{
    int64_t values[ED_MAX_LEVELS];
    int count = -1;
    ED_TRY(
        ed_json_ints(env, group, f->key, (int64_t)f->low, (int64_t)f->high, f->count, ED_MAX_LEVELS, values, &count));
    if (count < 0) return ENCDIFF_OK; /* absent */
    memset(levels, 0, sizeof *levels);
    levels->count = count;
    for (int i = 0; i < count; i++) levels->values[i] = (int)values[i];
    return ENCDIFF_OK;
}

static encdiff_status read_string(ed_env *env, ed_json *group, const field *f, char *at)
{
    const char *text = at;
    ED_TRY(ed_json_string(env, group, f->key, &text));
    if (text == at) return ENCDIFF_OK;
    size_t length = strlen(text), limit = (size_t)f->high;
    if (length > limit)
        return ed_fail(env, ENCDIFF_ERROR_CONFIG, "%s.%s: expected at most %zu bytes, got %zu", f->group, f->key, limit,
                       length);
    memset(at, 0, limit + 1);
    memcpy(at, text, length);
    return ENCDIFF_OK;
}

static encdiff_status read_positive(ed_env *env, ed_json *group, const field *f, double *value)
{
    ED_TRY(ed_json_float(env, group, f->key, 0, f->high, value));
    if (*value > 0) return ENCDIFF_OK;
    return ed_fail(env, ENCDIFF_ERROR_CONFIG, "%s.%s: expected a number above 0 and at most %g, got %g", f->group,
                   f->key, f->high, *value);
}

static encdiff_status read_field(ed_env *env, ed_json *group, const field *f, void *at)
{
    int64_t wide;
    switch (f->kind) {
    case FIELD_GROUP: return ENCDIFF_OK;
    case FIELD_INT: return ed_json_int32(env, group, f->key, (int)f->low, (int)f->high, at);
    case FIELD_INT64: return ed_json_int(env, group, f->key, (int64_t)f->low, (int64_t)f->high, at);
    case FIELD_UINT64:
        wide = (int64_t) * (uint64_t *)at;
        ED_TRY(ed_json_int(env, group, f->key, (int64_t)f->low, (int64_t)f->high, &wide));
        *(uint64_t *)at = (uint64_t)wide;
        return ENCDIFF_OK;
    case FIELD_DOUBLE: return ed_json_float(env, group, f->key, f->low, f->high, at);
    case FIELD_POSITIVE: return read_positive(env, group, f, at);
    case FIELD_BOOL: return ed_json_bool(env, group, f->key, at);
    case FIELD_ENUM: return ed_json_enum(env, group, f->key, f->names, f->count, at);
    case FIELD_LEVELS: return read_levels(env, group, f, at);
    case FIELD_STRING: return read_string(env, group, f, at);
    }
    return ed_fail(env, ENCDIFF_ERROR_INTERNAL, "%s.%s: a key of no kind", f->group, f->key);
}

static encdiff_status read_fields(ed_env *env, ed_json *root, ed_config *config)
{
    ed_json *group = NULL;
    for (size_t i = 0; i < ED_COUNT(fields); i++) {
        if (fields[i].kind == FIELD_GROUP)
            ED_TRY(ed_json_group(env, root, fields[i].group, &group));
        else
            ED_TRY(read_field(env, group, &fields[i], (char *)config + fields[i].offset));
    }
    return ed_json_check_known(env, root);
}

encdiff_status ed_config_read(ed_env *env, const ed_json *json, ed_config *config)
{
    if (!json || json->kind != ED_JSON_OBJECT)
        return ed_fail(env, ENCDIFF_ERROR_CONFIG, "a configuration is a JSON object of groups");
    ed_json *copy = ed_json_copy(env, json); /* the getters note in the tree which keys they asked for */
    if (!copy) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    set_defaults(config);
    encdiff_status status = read_fields(env, copy, config);
    ed_json_free(env, copy);
    return status == ENCDIFF_OK ? ed_config_check(env, config) : status;
}

/* ---------------------------------------------------------------- printing */

static encdiff_status put_levels(ed_env *env, ed_json *group, const char *key, const ed_levels *levels)
{
    ed_json *list;
    ED_TRY(ed_json_put_new(env, group, key, ED_JSON_ARRAY, &list));
    for (int i = 0; i < levels->count; i++) ED_TRY(ed_json_put_number(env, list, NULL, levels->values[i]));
    return ENCDIFF_OK;
}

static encdiff_status put_field(ed_env *env, ed_json *group, const field *f, const void *at)
{
    switch (f->kind) {
    case FIELD_GROUP: return ENCDIFF_OK;
    case FIELD_INT: return ed_json_put_number(env, group, f->key, *(const int *)at);
    case FIELD_INT64: return ed_json_put_number(env, group, f->key, (double)*(const int64_t *)at);
    case FIELD_UINT64: return ed_json_put_number(env, group, f->key, (double)*(const uint64_t *)at);
    case FIELD_DOUBLE:
    case FIELD_POSITIVE: return ed_json_put_number(env, group, f->key, *(const double *)at);
    case FIELD_BOOL: return ed_json_put_bool(env, group, f->key, *(const bool *)at);
    case FIELD_ENUM: return ed_json_put_string(env, group, f->key, f->names[*(const int *)at]);
    case FIELD_LEVELS: return put_levels(env, group, f->key, at);
    case FIELD_STRING: return ed_json_put_string(env, group, f->key, at);
    }
    return ed_fail(env, ENCDIFF_ERROR_INTERNAL, "%s.%s: a key of no kind", f->group, f->key);
}

static encdiff_status put_fields(ed_env *env, ed_json *root, const ed_config *config)
{
    ed_json *group = NULL;
    for (size_t i = 0; i < ED_COUNT(fields); i++) {
        if (fields[i].kind == FIELD_GROUP)
            ED_TRY(ed_json_put_new(env, root, fields[i].group, ED_JSON_OBJECT, &group));
        else
            ED_TRY(put_field(env, group, &fields[i], (const char *)config + fields[i].offset));
    }
    return ENCDIFF_OK;
}

encdiff_status ed_config_print(ed_env *env, const ed_config *config, bool pretty, ed_text *out)
{
    ed_json *root = ed_json_new(env, ED_JSON_OBJECT);
    if (!root) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    encdiff_status status = put_fields(env, root, config);
    if (status == ENCDIFF_OK) status = ed_json_print(env, root, pretty, out);
    ed_json_free(env, root);
    return status;
}

/* ---------------------------------------------------------------- from a name, a text or a file */

static encdiff_status no_such_source(ed_env *env, const char *source)
{
    ed_text names = {0};
    encdiff_status status = ENCDIFF_OK;
    for (int i = 0; i < ed_preset_count() && status == ENCDIFF_OK; i++)
        status = ed_text_add(env, &names, i ? ", %s" : "%s", ed_preset_name(i));
    if (status == ENCDIFF_OK)
        status = ed_fail(env, ENCDIFF_ERROR_NOT_FOUND, "\"%s\" is neither a file nor a preset; the presets are %s",
                         source, names.data);
    ed_text_free(env, &names);
    return status;
}

/* *file: whether it is one, which messages about keys have to name then. */
static encdiff_status parse_source(ed_env *env, const char *source, ed_json **out, bool *file)
{
    *file = false;
    const char *text = source + strspn(source, " \t\r\n");
    if (*text == '{') return ed_json_parse(env, "configuration", text, strlen(text), out);
    int preset = ed_preset_find(source);
    if (preset >= 0) return ed_json_parse(env, source, ed_preset_json(preset), strlen(ed_preset_json(preset)), out);
    *file = true;
    encdiff_status status = ed_published_config_detect(source) ? ed_published_config_read(env, source, out)
                                                               : ed_json_read(env, source, out);
    return status == ENCDIFF_ERROR_NOT_FOUND ? no_such_source(env, source) : status;
}

encdiff_status ed_config_resolve(ed_env *env, const char *source, const char *const *overrides, int count,
                                 ed_config *config)
{
    ed_json *json = NULL;
    bool file;
    encdiff_status status = parse_source(env, source, &json, &file);
    for (int i = 0; i < count && status == ENCDIFF_OK; i++) status = ed_json_assign(env, json, overrides[i]);
    if (status == ENCDIFF_OK && (status = ed_config_read(env, json, config)) == ENCDIFF_ERROR_CONFIG && file)
        ed_fail_within(env, count ? "%s with overrides" : "%s", source);
    ed_json_free(env, json);
    return status;
}
