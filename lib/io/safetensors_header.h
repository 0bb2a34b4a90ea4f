/* The JSON of a safetensors header, parsed in place. For safetensors.c alone. */
#ifndef ED_IO_SAFETENSORS_HEADER_H
#define ED_IO_SAFETENSORS_HEADER_H

#include "io/safetensors.h"

typedef struct ed_st_header {
    ed_st_tensor *tensors; /* names point into the text; offsets count from the start of the data */
    size_t count, capacity;
    ed_st_pair *pairs;
    size_t pair_count, pair_capacity;
} ed_st_header;

/*
 * Parse `text`, which is changed: strings are unescaped where they stand. A tree of JSON values would take thirty times
 * the header's size, which a hostile file could use; this takes at most four. Sizes are checked against the shapes, not
 * yet against the file. The caller frees tensors and pairs, also on failure.
 */
encdiff_status ed_st_header_parse(ed_env *env, char *text, size_t length, ed_st_header *out);

#endif
