/* What datasets that stand on another one share. */
#include "data/dataset.h"

encdiff_status ed_wrapped_create(ed_env *env, size_t bytes, const ed_dataset_class *class, ed_dataset *source,
                                 ed_dataset **out)
{
    ed_dataset *base;
    *out = NULL;
    encdiff_status status = ed_dataset_create(env, bytes, class, source->name, source->format, &base);
    if (status != ENCDIFF_OK) {
        ed_dataset_free(env, source);
        return status;
    }
    ((ed_wrapped *)base)->source = source;
    base->size = source->size;
    base->height = source->height;
    base->width = source->width;
    base->complete = source->complete;
    base->ordered = source->ordered;
    base->exact = source->exact;
    base->grey = source->grey;
    base->fitted = source->fitted;
    if (source->factors)
        status = ed_dataset_set_factors(env, base, source->factors, (const char *const *)source->factor_names,
                                        source->factor_sizes);
    if (status == ENCDIFF_OK)
        *out = base;
    else
        ed_dataset_free(env, base);
    return status;
}

encdiff_status ed_wrapped_labels(ed_env *env, ed_dataset *dataset, int64_t n, const int64_t *indices, int32_t *out)
{
    return ed_dataset_labels(env, ((ed_wrapped *)dataset)->source, n, indices, out);
}

void ed_wrapped_close(ed_env *env, ed_dataset *dataset) { ed_dataset_free(env, ((ed_wrapped *)dataset)->source); }
