/* Reading safetensors files: the header is checked against the file before anything is read by it. */
#include <stdlib.h>

#include "io/safetensors_header.h"

#define HEADER_LIMIT 100000000u /* the format's own */

static const struct {
    const char *name;
    size_t size;
} types[ED_ST_TYPES] = {
    [ED_ST_BOOL] = {"BOOL", 1},       [ED_ST_U8] = {"U8", 1},           [ED_ST_I8] = {"I8", 1},
    [ED_ST_F8_E5M2] = {"F8_E5M2", 1}, [ED_ST_F8_E4M3] = {"F8_E4M3", 1}, [ED_ST_I16] = {"I16", 2},
    [ED_ST_U16] = {"U16", 2},         [ED_ST_F16] = {"F16", 2},         [ED_ST_BF16] = {"BF16", 2},
    [ED_ST_I32] = {"I32", 4},         [ED_ST_U32] = {"U32", 4},         [ED_ST_F32] = {"F32", 4},
    [ED_ST_F64] = {"F64", 8},         [ED_ST_I64] = {"I64", 8},         [ED_ST_U64] = {"U64", 8},
};

size_t ed_st_type_size(ed_st_type type) { return types[type].size; }
const char *ed_st_type_name(ed_st_type type) { return types[type].name; }

struct ed_safetensors {
    ed_source source;
    char *text; /* the header, which names and metadata point into */
    ed_st_header header;
    const ed_st_tensor **by_name; /* sorted */
};

void ed_safetensors_close(ed_env *env, ed_safetensors *file)
{
    if (!file) return;
    ed_source_close(env, &file->source);
    ed_free(env, file->text);
    ed_free(env, file->header.tensors);
    ed_free(env, file->header.pairs);
    ed_free(env, file->by_name);
    ed_free(env, file);
}

/* ---------------------------------------------------------------- opening */

static int compare_offsets(const void *a, const void *b)
{
    const ed_st_tensor *x = *(const ed_st_tensor *const *)a, *y = *(const ed_st_tensor *const *)b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes; /* empty tensors first */
}

static int compare_names(const void *a, const void *b)
{
    return strcmp((*(const ed_st_tensor *const *)a)->name, (*(const ed_st_tensor *const *)b)->name);
}

static int compare_keys(const void *a, const void *b)
{
    return strcmp(((const ed_st_pair *)a)->key, ((const ed_st_pair *)b)->key);
}

/* Tensors fill the data from its start to its end: no overlap, no hole, nothing after the last. */
static encdiff_status check_layout(ed_env *env, const ed_safetensors *file, uint64_t data_size)
{
    uint64_t at = 0;
    for (size_t i = 0; i < file->header.count; i++) {
        const ed_st_tensor *t = file->by_name[i];
        if (t->offset != at)
            return ed_fail(env, ENCDIFF_ERROR_FORMAT, "tensor \"%s\" %s", t->name,
                           t->offset < at ? "overlaps another one" : "leaves a gap before it");
        if (t->bytes > data_size - at)
            return ed_fail(env, ENCDIFF_ERROR_FORMAT, "tensor \"%s\" ends beyond the end of the file (truncated?)",
                           t->name);
        at += t->bytes;
    }
    if (at != data_size)
        return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%llu bytes follow the last tensor",
                       (unsigned long long)(data_size - at));
    return ENCDIFF_OK;
}

static encdiff_status check_names(ed_env *env, ed_safetensors *file)
{
    ed_st_header *h = &file->header;
    if (h->count) qsort(file->by_name, h->count, sizeof *file->by_name, compare_names);
    for (size_t i = 1; i < h->count; i++)
        if (compare_names(&file->by_name[i - 1], &file->by_name[i]) == 0)
            return ed_fail(env, ENCDIFF_ERROR_FORMAT, "tensor \"%s\" is there twice", file->by_name[i]->name);
    if (h->pair_count) qsort(h->pairs, h->pair_count, sizeof *h->pairs, compare_keys);
    for (size_t i = 1; i < h->pair_count; i++)
        if (compare_keys(&h->pairs[i - 1], &h->pairs[i]) == 0)
            return ed_fail(env, ENCDIFF_ERROR_FORMAT, "the metadata \"%s\" is there twice", h->pairs[i].key);
    return ENCDIFF_OK;
}

static encdiff_status read_header(ed_env *env, ed_safetensors *file)
{
    const ed_source *source = &file->source;
    uint64_t length;
    if (source->size < 8) return ed_fail(env, ENCDIFF_ERROR_FORMAT, "too short for a safetensors file");
    ED_TRY(ed_source_read(env, source, 0, &length, 8));
    if (length > HEADER_LIMIT)
        return ed_fail(env, ENCDIFF_ERROR_FORMAT, "not a safetensors file (a header of %llu bytes)",
                       (unsigned long long)length);
    if (length > source->size - 8)
        return ed_fail(env, ENCDIFF_ERROR_FORMAT, "the header ends beyond the end of the file (truncated?)");
    if (!(file->text = ed_alloc(env, (size_t)length + 1, 1))) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    ED_TRY(ed_source_read(env, source, 8, file->text, (size_t)length));
    ED_TRY(ed_st_header_parse(env, file->text, (size_t)length, &file->header));
    ed_st_header *h = &file->header;
    if (!(file->by_name = ed_alloc(env, h->count, sizeof *file->by_name))) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    for (size_t i = 0; i < h->count; i++) file->by_name[i] = &h->tensors[i];
    if (h->count) qsort(file->by_name, h->count, sizeof *file->by_name, compare_offsets);
    ED_TRY(check_layout(env, file, source->size - 8 - length));
    for (size_t i = 0; i < h->count; i++) h->tensors[i].offset += 8 + length;
    return check_names(env, file);
}

/* Takes the source. */
static encdiff_status open_source(ed_env *env, ed_source *source, ed_safetensors **out)
{
    ed_safetensors *file = ed_alloc(env, 1, sizeof *file);
    if (!file) {
        ed_source_close(env, source);
        return ENCDIFF_ERROR_OUT_OF_MEMORY;
    }
    file->source = *source;
    encdiff_status status = read_header(env, file);
    if (status == ENCDIFF_OK) {
        *out = file;
        return ENCDIFF_OK;
    }
    if (status == ENCDIFF_ERROR_FORMAT) ed_fail_within(env, "%s", source->name);
    ed_safetensors_close(env, file);
    return status;
}

encdiff_status ed_safetensors_open(ed_env *env, const char *path, ed_safetensors **out)
{
    ed_source source;
    *out = NULL;
    ED_TRY(ed_source_open(env, path, &source));
    return open_source(env, &source, out);
}

encdiff_status ed_safetensors_open_memory(ed_env *env, const char *name, const void *data, size_t size,
                                          ed_safetensors **out)
{
    ed_source source;
    *out = NULL;
    ED_TRY(ed_source_from_memory(env, name, data, size, &source));
    return open_source(env, &source, out);
}

/* ---------------------------------------------------------------- looking up */

size_t ed_safetensors_count(const ed_safetensors *file) { return file->header.count; }

const ed_st_tensor *ed_safetensors_at(const ed_safetensors *file, size_t index) { return &file->header.tensors[index]; }

const ed_st_tensor *ed_safetensors_find(const ed_safetensors *file, const char *name)
{
    ed_st_tensor wanted = {.name = name};
    const ed_st_tensor *key = &wanted;
    if (!file->header.count) return NULL;
    const ed_st_tensor **found = bsearch(&key, file->by_name, file->header.count, sizeof *file->by_name, compare_names);
    return found ? *found : NULL;
}

const char *ed_safetensors_metadata(const ed_safetensors *file, const char *key)
{
    ed_st_pair wanted = {.key = key};
    if (!file->header.pair_count) return NULL;
    const ed_st_pair *found = bsearch(&wanted, file->header.pairs, file->header.pair_count, sizeof wanted,
                                      compare_keys);
    return found ? found->value : NULL;
}

const ed_st_pair *ed_safetensors_pairs(const ed_safetensors *file, size_t *count)
{
    *count = file->header.pair_count;
    return file->header.pairs;
}

/* ---------------------------------------------------------------- reading */

#define ELEMENT(type, at)                                                                                              \
    type element;                                                                                                      \
    memcpy(&element, bytes + (at) * sizeof element, sizeof element)

#define CONVERT(type, expression)                                                                                      \
    for (size_t i = 0; i < count; i++) {                                                                               \
        ELEMENT(type, i);                                                                                              \
        out[i] = (expression);                                                                                         \
    }                                                                                                                  \
    return true

bool ed_st_to_f32(ed_st_type type, const uint8_t *bytes, size_t count, float *out)
{
    switch (type) {
    case ED_ST_BOOL: CONVERT(uint8_t, element != 0);
    case ED_ST_U8: CONVERT(uint8_t, element);
    case ED_ST_I8: CONVERT(int8_t, element);
    case ED_ST_I16: CONVERT(int16_t, element);
    case ED_ST_U16: CONVERT(uint16_t, element);
    case ED_ST_F16: CONVERT(uint16_t, ed_f32_from_f16(element));
    case ED_ST_BF16: CONVERT(uint16_t, ed_f32_from_bf16(element));
    case ED_ST_I32: CONVERT(int32_t, (float)element);
    case ED_ST_U32: CONVERT(uint32_t, (float)element);
    case ED_ST_F32: CONVERT(float, element);
    case ED_ST_F64: CONVERT(double, (float)element);
    case ED_ST_I64: CONVERT(int64_t, (float)element);
    case ED_ST_U64: CONVERT(uint64_t, (float)element);
    default: return false;
    }
}

static bool to_i64(ed_st_type type, const uint8_t *bytes, size_t count, int64_t *out)
{
    switch (type) {
    case ED_ST_BOOL: CONVERT(uint8_t, element != 0);
    case ED_ST_U8: CONVERT(uint8_t, element);
    case ED_ST_I8: CONVERT(int8_t, element);
    case ED_ST_I16: CONVERT(int16_t, element);
    case ED_ST_U16: CONVERT(uint16_t, element);
    case ED_ST_I32: CONVERT(int32_t, element);
    case ED_ST_U32: CONVERT(uint32_t, element);
    case ED_ST_I64: CONVERT(int64_t, element);
    case ED_ST_U64:
        for (size_t i = 0; i < count; i++) {
            ELEMENT(uint64_t, i);
            if (element > INT64_MAX) return false;
            out[i] = (int64_t)element;
        }
        return true;
    default: return false;
    }
}

encdiff_status ed_safetensors_read_raw(ed_env *env, const ed_safetensors *file, const ed_st_tensor *tensor, void *out)
{
    return ed_source_read(env, &file->source, tensor->offset, out, (size_t)tensor->bytes);
}

static encdiff_status fail_conversion(ed_env *env, const ed_safetensors *file, const ed_st_tensor *tensor,
                                      const char *to)
{
    return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: tensor \"%s\" of type %s cannot be read as %s", file->source.name,
                   tensor->name, ed_st_type_name(tensor->type), to);
}

encdiff_status ed_safetensors_read_f32(ed_env *env, const ed_safetensors *file, const ed_st_tensor *tensor, float *out)
{
    if (tensor->type == ED_ST_F32) return ed_safetensors_read_raw(env, file, tensor, out);
    uint8_t chunk[16384];
    size_t size = ed_st_type_size(tensor->type), room = sizeof chunk / size;
    for (size_t done = 0, n; done < (size_t)tensor->count; done += n) {
        n = ED_MIN(room, (size_t)tensor->count - done);
        ED_TRY(ed_source_read(env, &file->source, tensor->offset + done * size, chunk, n * size));
        if (!ed_st_to_f32(tensor->type, chunk, n, out + done)) return fail_conversion(env, file, tensor, "f32");
    }
    return ENCDIFF_OK;
}

encdiff_status ed_safetensors_read_i64(ed_env *env, const ed_safetensors *file, const ed_st_tensor *tensor,
                                       int64_t *out)
{
    uint8_t chunk[16384];
    size_t size = ed_st_type_size(tensor->type), room = sizeof chunk / size;
    for (size_t done = 0, n; done < (size_t)tensor->count; done += n) {
        n = ED_MIN(room, (size_t)tensor->count - done);
        ED_TRY(ed_source_read(env, &file->source, tensor->offset + done * size, chunk, n * size));
        if (!to_i64(tensor->type, chunk, n, out + done)) return fail_conversion(env, file, tensor, "integers");
    }
    return ENCDIFF_OK;
}
