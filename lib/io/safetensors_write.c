/* Writing safetensors files: the header is known before the data, so the data streams. */
#include "base/json.h"
#include "io/safetensors.h"

typedef struct writer {
    const ed_st_item *items;
    size_t count;
    const ed_st_pair *metadata;
    size_t metadata_count;
    size_t *order; /* of the items in the file */
    size_t *bytes; /* of each item */
} writer;

static encdiff_status measure(ed_env *env, const ed_st_item *item, size_t *bytes)
{
    if ((unsigned)item->type >= ED_ST_TYPES || item->rank < 0 || item->rank > ED_ST_MAX_RANK)
        return ed_fail(env, ENCDIFF_ERROR_SHAPE, "tensor \"%s\" has no type or shape that can be written", item->name);
    *bytes = ed_st_type_size(item->type);
    for (int i = 0; i < item->rank; i++)
        if (item->dim[i] < 0 || !ed_mul(*bytes, (size_t)item->dim[i], bytes))
            return ed_fail(env, ENCDIFF_ERROR_SHAPE, "tensor \"%s\" has an impossible shape", item->name);
    return ENCDIFF_OK;
}

/* From the widest type to the narrowest, otherwise as given. */
static encdiff_status plan(ed_env *env, writer *w)
{
    size_t placed = 0;
    if (!(w->order = ed_alloc(env, w->count, sizeof *w->order)) ||
        !(w->bytes = ed_alloc(env, w->count, sizeof *w->bytes)))
        return ENCDIFF_ERROR_OUT_OF_MEMORY;
    for (size_t i = 0; i < w->count; i++) ED_TRY(measure(env, &w->items[i], &w->bytes[i]));
    for (size_t size = 8; size; size /= 2)
        for (size_t i = 0; i < w->count; i++)
            if (ed_st_type_size(w->items[i].type) == size) w->order[placed++] = i;
    return ENCDIFF_OK;
}

static encdiff_status add_string(ed_env *env, const char *text, ed_text *out)
{
    ed_json value = {.kind = ED_JSON_STRING, .string = (char *)(uintptr_t)text}; /* only printed */
    return ed_json_print(env, &value, false, out);
}

static encdiff_status add_metadata(ed_env *env, const writer *w, ed_text *out)
{
    ED_TRY(ed_text_add(env, out, "\"__metadata__\":{"));
    for (size_t i = 0; i < w->metadata_count; i++) {
        if (i) ED_TRY(ed_text_add_bytes(env, out, ",", 1));
        ED_TRY(add_string(env, w->metadata[i].key, out));
        ED_TRY(ed_text_add_bytes(env, out, ":", 1));
        ED_TRY(add_string(env, w->metadata[i].value, out));
    }
    return ed_text_add_bytes(env, out, "}", 1);
}

static encdiff_status add_item(ed_env *env, const ed_st_item *item, uint64_t begin, uint64_t end, ed_text *out)
{
    ED_TRY(add_string(env, item->name, out));
    ED_TRY(ed_text_add(env, out, ":{\"dtype\":\"%s\",\"shape\":[", ed_st_type_name(item->type)));
    for (int i = 0; i < item->rank; i++) ED_TRY(ed_text_add(env, out, i ? ",%lld" : "%lld", (long long)item->dim[i]));
    return ed_text_add(env, out, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)begin, (unsigned long long)end);
}

/* Eight bytes for the length, then the JSON, then spaces up to a multiple of eight. */
static encdiff_status write_header(ed_env *env, const writer *w, ed_sink *sink)
{
    ed_text text = {0};
    encdiff_status status;
    uint64_t at = 0;
    ED_TRY_OR_FAIL(ed_text_add_bytes(env, &text, "\0\0\0\0\0\0\0\0{", 9));
    if (w->metadata_count) ED_TRY_OR_FAIL(add_metadata(env, w, &text));
    for (size_t i = 0; i < w->count; i++) {
        size_t item = w->order[i];
        if (i || w->metadata_count) ED_TRY_OR_FAIL(ed_text_add_bytes(env, &text, ",", 1));
        ED_TRY_OR_FAIL(add_item(env, &w->items[item], at, at + w->bytes[item], &text));
        at += w->bytes[item];
    }
    ED_TRY_OR_FAIL(ed_text_add_bytes(env, &text, "}", 1));
    while (text.length % 8) ED_TRY_OR_FAIL(ed_text_add_bytes(env, &text, " ", 1));
    uint64_t length = text.length - 8;
    memcpy(text.data, &length, 8);
    status = ed_sink_write(env, sink, text.data, text.length);
fail:
    ed_text_free(env, &text);
    return status;
}

static encdiff_status write_item(ed_env *env, const ed_st_item *item, size_t bytes, void *buffer, ed_sink *sink)
{
    if (!item->fill) return ed_sink_write(env, sink, item->data, bytes);
    ED_TRY(item->fill(env, item->user, buffer));
    return ed_sink_write(env, sink, buffer, bytes);
}

static encdiff_status write_data(ed_env *env, const writer *w, ed_sink *sink)
{
    size_t largest = 0;
    for (size_t i = 0; i < w->count; i++)
        if (w->items[i].fill) largest = ED_MAX(largest, w->bytes[i]);
    void *buffer = NULL;
    if (largest && !(buffer = ed_alloc_raw(env, largest))) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    encdiff_status status = ENCDIFF_OK;
    for (size_t i = 0; i < w->count && status == ENCDIFF_OK; i++) {
        status = write_item(env, &w->items[w->order[i]], w->bytes[w->order[i]], buffer, sink);
        if (status == ENCDIFF_OK) status = ed_check_cancel(env);
    }
    ed_free(env, buffer);
    return status;
}

static encdiff_status write_all(ed_env *env, writer *w, ed_sink *sink)
{
    encdiff_status status = plan(env, w);
    if (status == ENCDIFF_OK) status = write_header(env, w, sink);
    if (status == ENCDIFF_OK) status = write_data(env, w, sink);
    ed_free(env, w->order);
    ed_free(env, w->bytes);
    return status;
}

encdiff_status ed_safetensors_write(ed_env *env, const char *path, const ed_st_item *items, size_t count,
                                    const ed_st_pair *metadata, size_t metadata_count)
{
    writer w = {.items = items, .count = count, .metadata = metadata, .metadata_count = metadata_count};
    ed_sink sink;
    ED_TRY(ed_sink_open(env, path, &sink));
    encdiff_status status = write_all(env, &w, &sink);
    if (status == ENCDIFF_OK) return ed_sink_commit(env, &sink);
    ed_sink_discard(env, &sink);
    return status;
}

encdiff_status ed_safetensors_write_memory(ed_env *env, const ed_st_item *items, size_t count,
                                           const ed_st_pair *metadata, size_t metadata_count, uint8_t **data,
                                           size_t *size)
{
    writer w = {.items = items, .count = count, .metadata = metadata, .metadata_count = metadata_count};
    ed_sink sink;
    ed_sink_to_memory(&sink);
    encdiff_status status = write_all(env, &w, &sink);
    if (status == ENCDIFF_OK)
        ed_sink_take(&sink, data, size);
    else
        ed_sink_discard(env, &sink);
    return status;
}
