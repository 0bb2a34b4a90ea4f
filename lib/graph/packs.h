/*
 * The store behind ed_exec_pack (graph.h): packed parameters by what they are made of.
 */
#ifndef ED_PACKS_H
#define ED_PACKS_H

#include "graph/backend.h"

/* A parameter of a set, seen with a shape, in one form. */
typedef struct ed_pack_key {
    const ed_packing *packing;
    int set;
    size_t offset;
    ed_shape shape;
} ed_pack_key;

/* *packed is valid until ed_packs_free, and its content until the key is asked for with another version. */
encdiff_status ed_packs_get(ed_env *env, ed_packs *packs, const ed_pack_key *key, const float *values, uint64_t version,
                            const void **packed);

#endif
