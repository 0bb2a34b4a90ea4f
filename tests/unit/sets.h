/* What tests of datasets share: opening, and being refused. */
#ifndef SETS_H
#define SETS_H

#include "data/data.h"
#include "workplace.h"

enum { PIXELS = 64 * 64 * 3 };

static inline ed_dataset *open_set(ed_env *env, const char *source, const ed_dataset_options *options)
{
    ed_dataset *set = NULL;
    CHECK_THAT(ed_dataset_open(env, source, options, &set) == ENCDIFF_OK, "%s: %s", source, env->message);
    return set;
}

static inline void check_refused(ed_env *env, const char *source, const ed_dataset_options *options,
                                 encdiff_status wanted, const char *part)
{
    ed_dataset *set = NULL;
    encdiff_status status = ed_dataset_open(env, source, options, &set);
    CHECK_THAT(status == wanted, "%s: status %d, not %d (%s)", source, status, wanted, env->message);
    CHECK(set == NULL);
    CHECK_THAT(strstr(env->message, part) != NULL, "\"%s\" is not in \"%s\"", part, env->message);
    ed_dataset_free(env, set);
}

static inline ed_dataset_info info_of(const ed_dataset *set)
{
    ed_dataset_info info;
    ed_dataset_get_info(set, &info);
    return info;
}

static inline uint64_t hash_bytes(uint64_t hash, const uint8_t *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++) hash = (hash ^ bytes[i]) * 1099511628211u;
    return hash;
}

static const char saved_source[] = "procedural:shapes3d[240000:240130]";

#endif
