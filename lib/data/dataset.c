/* What all datasets share: references, checks, labels and finding. */
#include <stdio.h>

#include "data/dataset.h"
#include "io/pixels.h"

encdiff_status ed_dataset_create(ed_env *env, size_t bytes, const ed_dataset_class *class, const char *name,
                                 const char *format, ed_dataset **out)
{
    ed_dataset *dataset = ed_alloc(env, 1, bytes);
    *out = NULL;
    if (!dataset) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    if (!(dataset->name = ed_strdup(env, name))) {
        ed_free(env, dataset);
        return ENCDIFF_ERROR_OUT_OF_MEMORY;
    }
    dataset->class = class;
    dataset->format = format;
    atomic_init(&dataset->references, 1);
    *out = dataset;
    return ENCDIFF_OK;
}

ed_dataset *ed_dataset_retain(ed_dataset *dataset)
{
    atomic_fetch_add(&dataset->references, 1);
    return dataset;
}

void ed_dataset_free(ed_env *env, ed_dataset *dataset)
{
    if (!dataset || atomic_fetch_sub(&dataset->references, 1) != 1) return;
    if (dataset->class->close) dataset->class->close(env, dataset);
    for (int i = 0; dataset->factor_names && i < dataset->factors; i++) ed_free(env, dataset->factor_names[i]);
    ed_free(env, dataset->factor_names);
    ed_free(env, dataset->factor_sizes);
    ed_free(env, dataset->labels);
    ed_free(env, dataset->name);
    ed_free(env, dataset);
}

void ed_dataset_get_info(const ed_dataset *dataset, ed_dataset_info *info)
{
    *info = (ed_dataset_info){.name = dataset->name,
                              .format = dataset->format,
                              .size = dataset->size,
                              .height = dataset->height,
                              .width = dataset->width,
                              .factors = dataset->factors,
                              .factor_names = (const char *const *)dataset->factor_names,
                              .factor_sizes = dataset->factor_sizes,
                              .complete = dataset->complete,
                              .exact = dataset->exact};
}

/* ---------------------------------------------------------------- reading */

static encdiff_status check_indices(ed_env *env, const ed_dataset *dataset, int64_t n, const int64_t *indices)
{
    for (int64_t i = 0; i < n; i++)
        if (indices[i] < 0 || indices[i] >= dataset->size)
            return ed_fail(env, ENCDIFF_ERROR_ARGUMENT, "index %lld is not in %s, which has %lld images",
                           (long long)indices[i], dataset->name, (long long)dataset->size);
    return ENCDIFF_OK;
}

encdiff_status ed_dataset_read(ed_env *env, ed_dataset *dataset, int64_t n, const int64_t *indices, uint8_t *out)
{
    ED_TRY(check_indices(env, dataset, n, indices));
    return dataset->class->read(env, dataset, n, indices, out);
}

/*
 * The u8 pixels are read into the last quarter of the floats and spread from the front: float i covers bytes 4i ..
 * 4i+3, and the pixels that are still needed begin at byte 3 count + i, which is not before 4i + 4 until the last ones.
 * Going by blocks through a small copy keeps the loop vectorisable.
 */
static void spread(uint8_t *pixels, size_t count, float *out)
{
    uint8_t block[1024];
    for (size_t i = 0; i < count; i += sizeof block) {
        size_t n = ED_MIN(sizeof block, count - i);
        memcpy(block, pixels + i, n);
        ed_pixels_to_f32(block, n, out + i);
    }
}

encdiff_status ed_dataset_read_f32(ed_env *env, ed_dataset *dataset, int64_t n, const int64_t *indices, float *out)
{
    ED_TRY(check_indices(env, dataset, n, indices));
    if (dataset->class->read_f32) return dataset->class->read_f32(env, dataset, n, indices, out);
    size_t count = (size_t)n * (size_t)dataset->height * (size_t)dataset->width * 3;
    uint8_t *pixels = (uint8_t *)out + 3 * count;
    ED_TRY(dataset->class->read(env, dataset, n, indices, pixels));
    spread(pixels, count, out);
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- labels */

static void count_labels(const ed_dataset *dataset, int64_t index, int32_t *out)
{
    for (int f = dataset->factors - 1; f >= 0; f--) {
        out[f] = (int32_t)(index % dataset->factor_sizes[f]);
        index /= dataset->factor_sizes[f];
    }
}

static encdiff_status get_labels(ed_env *env, ed_dataset *dataset, int64_t n, const int64_t *indices, int32_t *out)
{
    if (dataset->class->labels) return dataset->class->labels(env, dataset, n, indices, out);
    size_t k = (size_t)dataset->factors;
    for (int64_t i = 0; i < n; i++, out += k) {
        if (dataset->ordered)
            count_labels(dataset, indices[i], out);
        else
            memcpy(out, dataset->labels + (size_t)indices[i] * k, k * sizeof *out);
    }
    return ENCDIFF_OK;
}

encdiff_status ed_dataset_labels(ed_env *env, ed_dataset *dataset, int64_t n, const int64_t *indices, int32_t *out)
{
    if (!dataset->factors) return ed_fail(env, ENCDIFF_ERROR_UNSUPPORTED, "%s has no labels", dataset->name);
    ED_TRY(check_indices(env, dataset, n, indices));
    return get_labels(env, dataset, n, indices, out);
}

static encdiff_status scan(ed_env *env, ed_dataset *dataset, const int32_t *wanted, int64_t *found)
{
    enum { BLOCK = 64, MOST = 16 }; /* factors that fit the buffer at the full block */
    int64_t indices[BLOCK];
    int32_t labels[BLOCK * MOST];
    int64_t k = dataset->factors, block = ED_MAX(1, ED_MIN(BLOCK, BLOCK * MOST / k));
    for (int64_t first = 0; first < dataset->size; first += block) {
        int64_t n = ED_MIN(block, dataset->size - first);
        for (int64_t i = 0; i < n; i++) indices[i] = first + i;
        ED_TRY(get_labels(env, dataset, n, indices, labels));
        for (int64_t i = 0; i < n; i++)
            if (memcmp(labels + i * k, wanted, (size_t)k * sizeof *wanted) == 0) {
                *found = first + i;
                return ENCDIFF_OK;
            }
    }
    return ed_fail(env, ENCDIFF_ERROR_NOT_FOUND, "no image of %s has this combination of factors", dataset->name);
}

encdiff_status ed_dataset_find(ed_env *env, ed_dataset *dataset, const int32_t *labels, int64_t *index)
{
    if (!dataset->factors) return ed_fail(env, ENCDIFF_ERROR_UNSUPPORTED, "%s has no labels", dataset->name);
    int64_t counted = 0;
    for (int f = 0; f < dataset->factors; f++) {
        if (labels[f] < 0 || labels[f] >= dataset->factor_sizes[f])
            return ed_fail(env, ENCDIFF_ERROR_ARGUMENT, "label %d of factor \"%s\" is not in [0, %d)", labels[f],
                           dataset->factor_names[f], dataset->factor_sizes[f]);
        counted = counted * dataset->factor_sizes[f] + labels[f];
    }
    if (!dataset->ordered) return scan(env, dataset, labels, index);
    *index = counted;
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- factors */

static bool are_shapes3d(int factors, const int32_t *sizes)
{
    return factors == ED_SHAPES3D_FACTORS && memcmp(sizes, ed_shapes3d_sizes, sizeof ed_shapes3d_sizes) == 0;
}

encdiff_status ed_dataset_set_factors(ed_env *env, ed_dataset *dataset, int factors, const char *const *names,
                                      const int32_t *sizes)
{
    if (factors < 1 || factors > 1024)
        return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: %d factors, expected 1 to 1024", dataset->name, factors);
    if (!names && are_shapes3d(factors, sizes)) names = ed_shapes3d_names;
    dataset->factors = factors;
    if (!(dataset->factor_names = ed_alloc(env, (size_t)factors, sizeof(char *))) ||
        !(dataset->factor_sizes = ed_alloc(env, (size_t)factors, sizeof(int32_t))))
        return ENCDIFF_ERROR_OUT_OF_MEMORY;
    for (int i = 0; i < factors; i++) {
        dataset->factor_sizes[i] = sizes[i];
        dataset->factor_names[i] = names ? ed_strdup(env, names[i]) : ed_format(env, "factor %d", i);
        if (!dataset->factor_names[i]) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    }
    return ENCDIFF_OK;
}

double ed_shapes3d_value(int factor, int32_t label)
{
    switch (factor) {
    case 3: return 0.75 + label * (0.5 / 7);
    case 4: return label;
    case 5: return -30 + label * (60.0 / 14);
    default: return label / 10.0;
    }
}

double ed_dataset_value(const ed_dataset *dataset, int factor, int32_t label)
{
    return are_shapes3d(dataset->factors, dataset->factor_sizes) ? ed_shapes3d_value(factor, label) : label;
}

/* Which combinations occur, one bit each; sizes whose product is not the number of images cannot be complete. */
encdiff_status ed_dataset_examine(ed_env *env, ed_dataset *dataset)
{
    size_t product = 1, n = (size_t)dataset->size;
    int k = dataset->factors;
    dataset->complete = dataset->ordered = false;
    for (int f = 0; f < k; f++)
        if (!ed_mul(product, (size_t)dataset->factor_sizes[f], &product) || product > n) return ENCDIFF_OK;
    if (product != n) return ENCDIFF_OK;
    uint8_t *seen = ed_alloc(env, n / 8 + 1, 1);
    if (!seen) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    bool complete = true, ordered = true;
    for (size_t i = 0; i < n && complete; i++) {
        size_t at = 0;
        for (int f = 0; f < k; f++)
            at = at * (size_t)dataset->factor_sizes[f] + (size_t)dataset->labels[i * (size_t)k + (size_t)f];
        complete = !(seen[at / 8] >> at % 8 & 1);
        seen[at / 8] = (uint8_t)(seen[at / 8] | 1u << at % 8);
        ordered = ordered && at == i;
    }
    ed_free(env, seen);
    dataset->complete = complete;
    dataset->ordered = complete && ordered;
    if (dataset->ordered) {
        ed_free(env, dataset->labels);
        dataset->labels = NULL;
    }
    return ENCDIFF_OK;
}
