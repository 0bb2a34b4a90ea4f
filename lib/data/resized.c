/* A dataset whose images are cropped and resized when they are read, as Pillow's bicubic does on 8 bits. */
#include "data/dataset.h"
#include "io/resize.h"

typedef struct resized {
    ed_dataset base;
    ed_dataset *source;
    bool crops;
} resized;

static encdiff_status resized_read(ed_env *env, ed_dataset *dataset, int64_t n, const int64_t *indices, uint8_t *out)
{
    const resized *r = (const resized *)dataset;
    const ed_dataset *from = r->source;
    size_t bytes = (size_t)dataset->height * (size_t)dataset->width * 3;
    uint8_t *pixels = ed_alloc_raw(env, (size_t)from->height * (size_t)from->width * 3);
    if (!pixels) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    ed_window window = {.rgb = pixels, .stride = (size_t)from->width, .height = from->height, .width = from->width};
    if (r->crops) window = ed_crop_centre(pixels, from->height, from->width, dataset->height, dataset->width);
    encdiff_status status = ENCDIFF_OK;
    for (int64_t i = 0; i < n && status == ENCDIFF_OK; i++, out += bytes) {
        status = from->class->read(env, r->source, 1, indices + i, pixels);
        if (status == ENCDIFF_OK)
            status = ed_resize(env, &window, ED_FILTER_BICUBIC, dataset->height, dataset->width, out);
    }
    ed_free(env, pixels);
    return status;
}

static encdiff_status resized_labels(ed_env *env, ed_dataset *dataset, int64_t n, const int64_t *indices, int32_t *out)
{
    return ed_dataset_labels(env, ((resized *)dataset)->source, n, indices, out);
}

static void resized_close(ed_env *env, ed_dataset *dataset) { ed_dataset_free(env, ((resized *)dataset)->source); }

static const ed_dataset_class resized_class = {.read = resized_read, .labels = resized_labels, .close = resized_close};

encdiff_status ed_resized_open(ed_env *env, ed_dataset *source, const ed_dataset_options *options, ed_dataset **out)
{
    ed_dataset *base;
    *out = NULL;
    encdiff_status status = ed_dataset_create(env, sizeof(resized), &resized_class, source->name, source->format,
                                              &base);
    if (status != ENCDIFF_OK) {
        ed_dataset_free(env, source);
        return status;
    }
    resized *r = (resized *)base;
    r->source = source;
    r->crops = options->crop;
    base->size = source->size;
    base->height = options->height ? options->height : options->width;
    base->width = options->width ? options->width : options->height;
    base->complete = source->complete;
    base->ordered = source->ordered;
    if (source->factors)
        status = ed_dataset_set_factors(env, base, source->factors, (const char *const *)source->factor_names,
                                        source->factor_sizes);
    if (status == ENCDIFF_OK)
        *out = base;
    else
        ed_dataset_free(env, base);
    return status;
}
