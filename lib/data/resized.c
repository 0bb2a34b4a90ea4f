/* A dataset whose images are cropped and resized when they are read, as Pillow does on 8 bits. */
#include "data/dataset.h"

typedef struct resized {
    ed_wrapped base;
    ed_fit fit;
    ed_scratch_pool pool; /* an image of the source, and the coefficients */
} resized;

static encdiff_status read_resized(ed_env *env, const resized *r, ed_scratch *scratch, int64_t n,
                                   const int64_t *indices, uint8_t *out)
{
    ed_dataset *from = r->base.source;
    const ed_dataset *to = &r->base.base;
    size_t bytes = (size_t)to->height * (size_t)to->width * 3;
    ed_window window;
    ED_TRY(ed_fit_window(env, to->name, &r->fit, scratch->pixels, from->height, from->width, &window));
    ED_TRY(
        ed_resizer_prepare(env, &scratch->resizer, window.height, window.width, r->fit.filter, to->height, to->width));
    for (int64_t i = 0; i < n; i++, out += bytes) {
        ED_TRY(from->class->read(env, from, 1, indices + i, scratch->pixels));
        ed_resizer_run(&scratch->resizer, &window, out);
    }
    return ENCDIFF_OK;
}

static encdiff_status resized_read(ed_env *env, ed_dataset *dataset, int64_t n, const int64_t *indices, uint8_t *out)
{
    resized *r = (resized *)dataset;
    ed_scratch *scratch;
    ED_TRY(ed_scratch_take(env, &r->pool, &scratch));
    encdiff_status status = read_resized(env, r, scratch, n, indices, out);
    ed_scratch_give(&r->pool, scratch);
    return status;
}

static void resized_close(ed_env *env, ed_dataset *dataset)
{
    ed_scratch_pool_close(env, &((resized *)dataset)->pool);
    ed_wrapped_close(env, dataset);
}

static const ed_dataset_class resized_class = {
    .read = resized_read, .labels = ed_wrapped_labels, .close = resized_close};

encdiff_status ed_resized_open(ed_env *env, ed_dataset *source, const ed_fit *fit, ed_dataset **out)
{
    ed_dataset *base;
    ed_window window;
    *out = NULL;
    ED_TRY(ed_wrapped_create(env, sizeof(resized), &resized_class, source, &base));
    resized *r = (resized *)base;
    r->fit = *fit;
    ed_fit_size(fit, source->height, source->width, &base->height, &base->width);
    base->exact = false;
    base->fitted = true;
    encdiff_status status = ed_fit_window(env, base->name, fit, NULL, source->height, source->width, &window);
    if (status == ENCDIFF_OK)
        status = ed_scratch_pool_open(env, &r->pool, (size_t)source->height * (size_t)source->width * 3);
    if (status == ENCDIFF_OK)
        *out = base;
    else
        ed_dataset_free(env, base);
    return status;
}
