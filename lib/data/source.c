/* What stands in a source beside its path. */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "data/source.h"
#include "io/image.h"

/* Digits, or nothing for `otherwise`. */
static bool parse_bound(const char **p, int64_t otherwise, int64_t *out)
{
    *out = otherwise;
    if (**p < '0' || **p > '9') return true;
    errno = 0;
    char *end;
    long long value = strtoll(*p, &end, 10);
    *p = end;
    *out = value;
    return errno == 0;
}

static bool exists(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0;
}

/* "[begin:end]" at the end of the path, either bound may be left out. */
static encdiff_status take_range(ed_env *env, const char *source, ed_source_text *out)
{
    size_t length = strlen(out->path);
    char *open = length && out->path[length - 1] == ']' ? strrchr(out->path, '[') : NULL;
    if (!open) return ENCDIFF_OK;
    const char *p = open + 1;
    bool good = parse_bound(&p, 0, &out->begin) && *p == ':';
    if (good) p++;
    good = good && parse_bound(&p, -1, &out->end) && strcmp(p, "]") == 0;
    if (!good) return ed_fail(env, ENCDIFF_ERROR_ARGUMENT, "\"%s\": a range is written [begin:end]", source);
    *open = 0;
    out->ranged = true;
    return ENCDIFF_OK;
}

static encdiff_status take_option(ed_env *env, const char *source, const char *key, const char *value,
                                  ed_dataset_options *options)
{
    const struct {
        const char *key;
        const char **text;
        int *number;
    } known[] = {{"format", &options->format, NULL}, {"crop", &options->crop, NULL},
                 {"filter", &options->filter, NULL}, {"split", &options->split, NULL},
                 {"height", NULL, &options->height}, {"width", NULL, &options->width}};
    for (size_t i = 0; i < ED_COUNT(known); i++) {
        if (strcmp(key, known[i].key) != 0) continue;
        int64_t number = 0;
        if (known[i].text) *known[i].text = value;
        if (known[i].text) return ENCDIFF_OK;
        if (!parse_bound(&value, 0, &number) || *value || number < 1 || number > ED_IMAGE_MAX_SIDE)
            return ed_fail(env, ENCDIFF_ERROR_ARGUMENT, "\"%s\": %s is not a number of pixels", source, key);
        *known[i].number = (int)number;
        return ENCDIFF_OK;
    }
    return ed_fail(env, ENCDIFF_ERROR_ARGUMENT,
                   "\"%s\": \"%s\" is not an option of a source: format, crop, filter, split, height, width", source,
                   key);
}

static encdiff_status take_options(ed_env *env, const char *source, ed_source_text *out)
{
    char *mark = strrchr(out->path, '?');
    if (!mark) return ENCDIFF_OK;
    *mark = 0;
    for (char *at = mark + 1, *next; at; at = next) {
        if ((next = strchr(at, '&'))) *next++ = 0;
        char *equals = strchr(at, '=');
        if (!equals)
            return ed_fail(env, ENCDIFF_ERROR_ARGUMENT, "\"%s\": options are written ?key=value&key=value", source);
        *equals = 0;
        ED_TRY(take_option(env, source, at, equals + 1, &out->options));
    }
    return ENCDIFF_OK;
}

encdiff_status ed_source_parse(ed_env *env, const char *source, const ed_dataset_options *options, ed_source_text *out)
{
    static const ed_dataset_options defaults = {0};
    *out = (ed_source_text){.options = options ? *options : defaults};
    if (!(out->path = ed_strdup(env, source))) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    encdiff_status status = exists(out->path) ? ENCDIFF_OK : take_range(env, source, out);
    if (status == ENCDIFF_OK && !exists(out->path)) status = take_options(env, source, out);
    if (status == ENCDIFF_OK) return status;
    ed_free(env, out->path);
    out->path = NULL;
    return status;
}
