/*
 * safetensors: tensors under names, with a map of strings as metadata.
 *
 *   8 bytes   length of the header, u64 little-endian, at most 100 MB
 *   header    JSON: {"__metadata__": {"key": "text"}, "name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0,
 * 24]}} data      the tensors, row-major, little-endian, back to back and nothing else
 *
 * https://github.com/huggingface/safetensors#format
 */
#ifndef ED_IO_SAFETENSORS_H
#define ED_IO_SAFETENSORS_H

#include "io/io.h"

#define ED_ST_MAX_RANK 8

typedef enum ed_st_type {
    ED_ST_BOOL,
    ED_ST_U8,
    ED_ST_I8,
    ED_ST_F8_E5M2,
    ED_ST_F8_E4M3,
    ED_ST_I16,
    ED_ST_U16,
    ED_ST_F16,
    ED_ST_BF16,
    ED_ST_I32,
    ED_ST_U32,
    ED_ST_F32,
    ED_ST_F64,
    ED_ST_I64,
    ED_ST_U64,
    ED_ST_TYPES
} ed_st_type;

size_t ed_st_type_size(ed_st_type type);
const char *ed_st_type_name(ed_st_type type); /* "F32" */
/* Elements as they lie in a file, of any alignment, to f32; false: this type (F8) does not convert. */
bool ed_st_to_f32(ed_st_type type, const uint8_t *bytes, size_t count, float *out);

typedef struct ed_st_tensor {
    const char *name;
    ed_st_type type;
    int rank;
    int64_t dim[ED_ST_MAX_RANK];
    int64_t count;          /* elements */
    uint64_t offset, bytes; /* in the file */
} ed_st_tensor;

typedef struct ed_st_pair {
    const char *key, *value;
} ed_st_pair;

typedef struct ed_safetensors ed_safetensors;

/* Reads and checks the header; the tensors stay in the file, which several threads may read from. */
encdiff_status ed_safetensors_open(ed_env *env, const char *path, ed_safetensors **out);
/* `data` is borrowed until the file is closed; `name` is for messages. */
encdiff_status ed_safetensors_open_memory(ed_env *env, const char *name, const void *data, size_t size,
                                          ed_safetensors **out);
void ed_safetensors_close(ed_env *env, ed_safetensors *file); /* NULL is fine */
size_t ed_safetensors_count(const ed_safetensors *file);
const ed_st_tensor *ed_safetensors_at(const ed_safetensors *file, size_t index);       /* in the order of the header */
const ed_st_tensor *ed_safetensors_find(const ed_safetensors *file, const char *name); /* NULL when absent */
const char *ed_safetensors_metadata(const ed_safetensors *file, const char *key);      /* NULL when absent */
const ed_st_pair *ed_safetensors_pairs(const ed_safetensors *file, size_t *count);

/* All elements: as f32 (from any type but F8); as i64 (from integers and BOOL; U64 up to 2^63 - 1); as they are. */
encdiff_status ed_safetensors_read_f32(ed_env *env, const ed_safetensors *file, const ed_st_tensor *tensor, float *out);
encdiff_status ed_safetensors_read_i64(ed_env *env, const ed_safetensors *file, const ed_st_tensor *tensor,
                                       int64_t *out);
encdiff_status ed_safetensors_read_raw(ed_env *env, const ed_safetensors *file, const ed_st_tensor *tensor, void *out);

/* A tensor to write: `data`, or a function that puts it into a buffer when its turn comes. */
typedef struct ed_st_item {
    const char *name;
    ed_st_type type;
    int rank;
    int64_t dim[ED_ST_MAX_RANK];
    const void *data;
    encdiff_status (*fill)(ed_env *env, void *user, void *buffer);
    void *user;
} ed_st_item;

/*
 * Write a file, which appears whole or not at all. Tensors are laid out from the widest type to the narrowest, so
 * that each is aligned to its type, otherwise in the order given.
 */
encdiff_status ed_safetensors_write(ed_env *env, const char *path, const ed_st_item *items, size_t count,
                                    const ed_st_pair *metadata, size_t metadata_count);
/* The same into memory, owned by the caller. */
encdiff_status ed_safetensors_write_memory(ed_env *env, const ed_st_item *items, size_t count,
                                           const ed_st_pair *metadata, size_t metadata_count, uint8_t **data,
                                           size_t *size);

#endif
