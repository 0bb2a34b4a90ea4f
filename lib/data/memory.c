/* Images in the caller's memory: u8 NHWC, f32 NHWC or f32 NCHW. */
#include "data/dataset.h"

typedef struct in_memory {
    ed_dataset base;
    const uint8_t *u8;
    const float *f32;
    bool planar;
    const int32_t *labels;
    size_t pixels; /* h * w */
} in_memory;

static encdiff_status memory_read_f32(ed_env *env, ed_dataset *dataset, int64_t n, const int64_t *indices, float *out)
{
    const in_memory *m = (const in_memory *)dataset;
    size_t count = 3 * m->pixels;
    (void)env;
    for (int64_t i = 0; i < n; i++, out += count) {
        size_t at = (size_t)indices[i] * count;
        if (m->u8)
            ed_pixels_to_f32(m->u8 + at, count, out);
        else if (m->planar)
            ed_pixels_interleave(m->f32 + at, m->pixels, out);
        else
            memcpy(out, m->f32 + at, count * sizeof *out);
    }
    return ENCDIFF_OK;
}

static void interleave_u8(const uint8_t *restrict planes, size_t pixels, uint8_t *restrict out)
{
    for (size_t i = 0; i < pixels; i++)
        for (size_t c = 0; c < 3; c++) out[3 * i + c] = planes[c * pixels + i];
}

/* One image, planes turned into interleaved pixels in blocks so that nothing is allocated. */
static encdiff_status round_planes(ed_env *env, const float *planes, size_t pixels, int64_t index, uint8_t *out)
{
    enum { BLOCK = 1024 };
    uint8_t block[3 * BLOCK];
    for (size_t first = 0; first < pixels; first += BLOCK) {
        size_t n = ED_MIN((size_t)BLOCK, pixels - first);
        for (size_t c = 0; c < 3; c++)
            ED_TRY(ed_pixels_to_u8(env, planes + c * pixels + first, 1, n, index, block + c * n));
        interleave_u8(block, n, out + 3 * first);
    }
    return ENCDIFF_OK;
}

static encdiff_status memory_read(ed_env *env, ed_dataset *dataset, int64_t n, const int64_t *indices, uint8_t *out)
{
    const in_memory *m = (const in_memory *)dataset;
    size_t count = 3 * m->pixels;
    for (int64_t i = 0; i < n; i++, out += count) {
        size_t at = (size_t)indices[i] * count;
        if (m->u8)
            memcpy(out, m->u8 + at, count);
        else if (m->planar)
            ED_TRY(round_planes(env, m->f32 + at, m->pixels, indices[i], out));
        else
            ED_TRY(ed_pixels_to_u8(env, m->f32 + at, 1, count, indices[i], out));
    }
    return ENCDIFF_OK;
}

static encdiff_status memory_labels(ed_env *env, ed_dataset *dataset, int64_t n, const int64_t *indices, int32_t *out)
{
    const in_memory *m = (const in_memory *)dataset;
    size_t k = (size_t)dataset->factors;
    (void)env;
    for (int64_t i = 0; i < n; i++) memcpy(out + (size_t)i * k, m->labels + (size_t)indices[i] * k, k * sizeof *out);
    return ENCDIFF_OK;
}

static const ed_dataset_class memory_class = {.read = memory_read, .read_f32 = memory_read_f32};
static const ed_dataset_class labelled_class = {
    .read = memory_read, .read_f32 = memory_read_f32, .labels = memory_labels};

/* ---------------------------------------------------------------- opening */

static encdiff_status check_labels(ed_env *env, const ed_dataset_arrays *arrays, int32_t *sizes)
{
    const int32_t *label = arrays->labels;
    for (int f = 0; f < arrays->factors; f++) sizes[f] = arrays->factor_sizes ? arrays->factor_sizes[f] : 0;
    for (int64_t i = 0; i < arrays->n; i++)
        for (int f = 0; f < arrays->factors; f++, label++) {
            if (*label < 0 || *label == INT32_MAX || (arrays->factor_sizes && *label >= sizes[f]))
                return ed_fail(env, ENCDIFF_ERROR_ARGUMENT, "label %d of factor %d of image %lld is out of range",
                               *label, f, (long long)i);
            sizes[f] = ED_MAX(sizes[f], *label + 1);
        }
    return ENCDIFF_OK;
}

static encdiff_status take_labels(ed_env *env, in_memory *m, const ed_dataset_arrays *arrays)
{
    int32_t sizes[1024];
    if (arrays->factors > 1024)
        return ed_fail(env, ENCDIFF_ERROR_ARGUMENT, "%d factors, expected at most 1024", arrays->factors);
    ED_TRY(check_labels(env, arrays, sizes));
    ED_TRY(ed_dataset_set_factors(env, &m->base, arrays->factors, arrays->factor_names, sizes));
    m->labels = arrays->labels;
    size_t count = (size_t)arrays->n * (size_t)arrays->factors;
    if (!(m->base.labels = ed_alloc(env, count, sizeof(int32_t)))) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    memcpy(m->base.labels, arrays->labels, count * sizeof(int32_t));
    ED_TRY(ed_dataset_examine(env, &m->base));
    ed_free(env, m->base.labels); /* the caller's serve */
    m->base.labels = NULL;
    return ENCDIFF_OK;
}

encdiff_status ed_dataset_from_arrays(ed_env *env, const ed_dataset_arrays *arrays, ed_dataset **out)
{
    size_t count;
    ed_dataset *base;
    *out = NULL;
    if ((!arrays->u8 == !arrays->f32) || arrays->n < 1 || arrays->height < 1 || arrays->width < 1)
        return ed_fail(env, ENCDIFF_ERROR_SHAPE, "%lld images of %d x %d cannot make a dataset", (long long)arrays->n,
                       arrays->height, arrays->width);
    if (!ed_mul((size_t)arrays->height * 3, (size_t)arrays->width, &count) || !ed_mul(count, 4, &count) ||
        !ed_mul(count, (size_t)arrays->n, &count))
        return ed_fail(env, ENCDIFF_ERROR_SHAPE, "the images' size overflows");
    bool labelled = arrays->labels && arrays->factors > 0;
    ED_TRY(ed_dataset_create(env, sizeof(in_memory), labelled ? &labelled_class : &memory_class, "memory", "memory",
                             &base));
    in_memory *m = (in_memory *)base;
    m->u8 = arrays->u8;
    m->f32 = arrays->f32;
    m->planar = arrays->planar;
    m->pixels = (size_t)arrays->height * (size_t)arrays->width;
    base->size = arrays->n;
    base->height = arrays->height;
    base->width = arrays->width;
    base->exact = arrays->f32 != NULL;
    encdiff_status status = labelled ? take_labels(env, m, arrays) : ENCDIFF_OK;
    if (status == ENCDIFF_OK)
        *out = base;
    else
        ed_dataset_free(env, base);
    return status;
}
