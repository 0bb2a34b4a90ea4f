/* Datasets made of another one's images: a range, a random order, a random part. Nothing is copied but indices. */
#include "data/dataset.h"

typedef enum view_kind { SLICE, SHUFFLE, LIST } view_kind;

typedef struct view {
    ed_wrapped base;
    view_kind kind;
    int64_t begin;   /* SLICE */
    uint64_t seed;   /* SHUFFLE */
    int64_t *chosen; /* LIST: indices in the source, ascending */
} view;

enum { SHUFFLE_STREAM = 0, SPLIT_STREAM = 1 }; /* the Philox step, so that the two draws differ */

static int64_t source_index(const view *v, int64_t index)
{
    switch (v->kind) {
    case SLICE: return v->begin + index;
    case LIST: return v->chosen[index];
    case SHUFFLE: break;
    }
    return (int64_t)ed_permute(v->seed, ED_RANDOM_DATA, SHUFFLE_STREAM, (uint64_t)index, (uint64_t)v->base.base.size);
}

enum { BLOCK = 512 }; /* indices translated at once, on the stack: reading allocates nothing */

static int64_t translate(const view *v, int64_t n, const int64_t *indices, int64_t out[BLOCK])
{
    n = ED_MIN(n, BLOCK);
    for (int64_t i = 0; i < n; i++) out[i] = source_index(v, indices[i]);
    return n;
}

static encdiff_status view_read(ed_env *env, ed_dataset *dataset, int64_t n, const int64_t *indices, uint8_t *out)
{
    const view *v = (const view *)dataset;
    int64_t from[BLOCK], pixels = (int64_t)dataset->height * dataset->width * 3;
    for (int64_t i = 0, some; i < n; i += some) {
        some = translate(v, n - i, indices + i, from);
        ED_TRY(v->base.source->class->read(env, v->base.source, some, from, out + i * pixels));
    }
    return ENCDIFF_OK;
}

static encdiff_status view_read_f32(ed_env *env, ed_dataset *dataset, int64_t n, const int64_t *indices, float *out)
{
    const view *v = (const view *)dataset;
    int64_t from[BLOCK], pixels = (int64_t)dataset->height * dataset->width * 3;
    for (int64_t i = 0, some; i < n; i += some) {
        some = translate(v, n - i, indices + i, from);
        ED_TRY(ed_dataset_read_f32(env, v->base.source, some, from, out + i * pixels));
    }
    return ENCDIFF_OK;
}

static encdiff_status view_labels(ed_env *env, ed_dataset *dataset, int64_t n, const int64_t *indices, int32_t *out)
{
    const view *v = (const view *)dataset;
    int64_t from[BLOCK];
    for (int64_t i = 0, some; i < n; i += some) {
        some = translate(v, n - i, indices + i, from);
        ED_TRY(ed_dataset_labels(env, v->base.source, some, from, out + i * dataset->factors));
    }
    return ENCDIFF_OK;
}

static void view_close(ed_env *env, ed_dataset *dataset)
{
    ed_free(env, ((view *)dataset)->chosen);
    ed_wrapped_close(env, dataset);
}

static const ed_dataset_class view_class = {view_read, view_read_f32, view_labels, view_close};

static encdiff_status make_view(ed_env *env, ed_dataset *source, view_kind kind, int64_t size, view **out)
{
    ed_dataset *base;
    *out = NULL;
    ED_TRY(ed_wrapped_create(env, sizeof(view), &view_class, ed_dataset_retain(source), &base));
    *out = (view *)base;
    (*out)->kind = kind;
    base->size = size;
    base->complete = source->complete && size == source->size;
    base->ordered = false;
    return ENCDIFF_OK;
}

encdiff_status ed_dataset_slice(ed_env *env, ed_dataset *dataset, int64_t begin, int64_t end, ed_dataset **out)
{
    view *v;
    *out = NULL;
    if (begin < 0 || begin >= end || end > dataset->size)
        return ed_fail(env, ENCDIFF_ERROR_ARGUMENT, "[%lld:%lld] is not a range of %s, which has %lld images",
                       (long long)begin, (long long)end, dataset->name, (long long)dataset->size);
    ED_TRY(make_view(env, dataset, SLICE, end - begin, &v));
    v->begin = begin;
    *out = &v->base.base;
    return ENCDIFF_OK;
}

encdiff_status ed_dataset_shuffle(ed_env *env, ed_dataset *dataset, uint64_t seed, ed_dataset **out)
{
    view *v;
    *out = NULL;
    ED_TRY(make_view(env, dataset, SHUFFLE, dataset->size, &v));
    v->seed = seed;
    *out = &v->base.base;
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- split */

/* The bit of an image is set when it belongs to the first part: the images of a permutation's first places. */
static uint8_t *draw_part(ed_env *env, int64_t size, int64_t first_size, uint64_t seed)
{
    uint8_t *part = ed_alloc(env, (size_t)size / 8 + 1, 1);
    for (int64_t i = 0; part && i < first_size; i++) {
        uint64_t at = ed_permute(seed, ED_RANDOM_DATA, SPLIT_STREAM, (uint64_t)i, (uint64_t)size);
        part[at / 8] = (uint8_t)(part[at / 8] | 1u << at % 8);
    }
    return part;
}

static encdiff_status make_part(ed_env *env, ed_dataset *dataset, const uint8_t *part, bool first, int64_t size,
                                ed_dataset **out)
{
    view *v;
    ED_TRY(make_view(env, dataset, LIST, size, &v));
    if (!(v->chosen = ed_alloc(env, (size_t)size, sizeof *v->chosen))) {
        ed_dataset_free(env, &v->base.base);
        return ENCDIFF_ERROR_OUT_OF_MEMORY;
    }
    for (int64_t i = 0, at = 0; i < dataset->size; i++)
        if ((part[i / 8] >> i % 8 & 1) == first) v->chosen[at++] = i;
    *out = &v->base.base;
    return ENCDIFF_OK;
}

encdiff_status ed_dataset_split(ed_env *env, ed_dataset *dataset, int64_t first_size, uint64_t seed, ed_dataset **first,
                                ed_dataset **second)
{
    *first = *second = NULL;
    if (first_size < 1 || first_size >= dataset->size)
        return ed_fail(env, ENCDIFF_ERROR_ARGUMENT, "a first part of %lld images cannot be split from the %lld of %s",
                       (long long)first_size, (long long)dataset->size, dataset->name);
    uint8_t *part = draw_part(env, dataset->size, first_size, seed);
    if (!part) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    encdiff_status status = make_part(env, dataset, part, true, first_size, first);
    if (status == ENCDIFF_OK) status = make_part(env, dataset, part, false, dataset->size - first_size, second);
    if (status != ENCDIFF_OK) {
        ed_dataset_free(env, *first);
        *first = NULL;
    }
    ed_free(env, part);
    return status;
}
