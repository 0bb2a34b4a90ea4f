/* Crops by name, and working memory that reading threads take turns with. */
#include "data/fit.h"

static const struct {
    const char *name;
    ed_crop crop;
} crops[] = {{"none", ED_CROP_NONE}, {"centre", ED_CROP_CENTRE}, {"center", ED_CROP_CENTRE}, {"d2c", ED_CROP_D2C}};

static const struct {
    const char *name;
    ed_filter filter;
} filter_names[] = {{"bicubic", ED_FILTER_BICUBIC},
                    {"bilinear", ED_FILTER_BILINEAR},
                    {"lanczos", ED_FILTER_LANCZOS},
                    {"box", ED_FILTER_BOX}};

enum { D2C_SIDE = 128, D2C_TOP = 121 - 64, D2C_LEFT = 89 - 64 };

encdiff_status ed_fit_parse(ed_env *env, const ed_dataset_options *options, ed_fit *out)
{
    const char *crop = options->crop ? options->crop : "none", *filter = options->filter ? options->filter : "bicubic";
    size_t c = 0, f = 0;
    while (c < ED_COUNT(crops) && strcmp(crop, crops[c].name) != 0) c++;
    while (f < ED_COUNT(filter_names) && strcmp(filter, filter_names[f].name) != 0) f++;
    if (c == ED_COUNT(crops))
        return ed_fail(env, ENCDIFF_ERROR_ARGUMENT, "\"%s\" is not a crop: none, centre, d2c", crop);
    if (f == ED_COUNT(filter_names))
        return ed_fail(env, ENCDIFF_ERROR_ARGUMENT, "\"%s\" is not a filter: bicubic, bilinear, lanczos, box", filter);
    *out = (ed_fit){.crop = crops[c].crop,
                    .filter = filter_names[f].filter,
                    .height = options->height ? options->height : options->width,
                    .width = options->width ? options->width : options->height};
    return ENCDIFF_OK;
}

void ed_fit_size(const ed_fit *fit, int height, int width, int *out_height, int *out_width)
{
    if (fit->crop == ED_CROP_CENTRE) height = width = ED_MIN(height, width);
    if (fit->crop == ED_CROP_D2C) height = width = D2C_SIDE;
    *out_height = fit->height ? fit->height : height;
    *out_width = fit->width ? fit->width : width;
}

encdiff_status ed_fit_window(ed_env *env, const char *name, const ed_fit *fit, const uint8_t *rgb, int height,
                             int width, ed_window *out)
{
    int out_height, out_width;
    *out = (ed_window){.rgb = rgb, .stride = (size_t)width, .height = height, .width = width};
    if (fit->crop == ED_CROP_CENTRE) {
        ed_fit_size(fit, height, width, &out_height, &out_width);
        *out = ed_crop_centre(rgb, height, width, out_height, out_width);
    } else if (fit->crop == ED_CROP_D2C) {
        if (height < D2C_TOP + D2C_SIDE || width < D2C_LEFT + D2C_SIDE)
            return ed_fail(env, ENCDIFF_ERROR_SHAPE,
                           "%s: %d x %d pixels, too small for the crop d2c, which is made for CelebA's 178 x 218", name,
                           width, height);
        out->top = D2C_TOP, out->left = D2C_LEFT;
        out->height = out->width = D2C_SIDE;
    }
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- working memory */

encdiff_status ed_scratch_pool_open(ed_env *env, ed_scratch_pool *pool, size_t bytes)
{
    *pool = (ed_scratch_pool){.bytes = bytes};
    pool->has_lock = pthread_mutex_init(&pool->lock, NULL) == 0;
    return pool->has_lock ? ENCDIFF_OK : ed_fail(env, ENCDIFF_ERROR_OUT_OF_MEMORY, "no mutex for a dataset");
}

static void free_scratch(ed_env *env, ed_scratch *scratch)
{
    ed_resizer_free(env, &scratch->resizer);
    ed_free(env, scratch->pixels);
    ed_free(env, scratch);
}

void ed_scratch_pool_close(ed_env *env, ed_scratch_pool *pool)
{
    for (ed_scratch *s = pool->idle, *next; s; s = next) {
        next = s->next;
        free_scratch(env, s);
    }
    if (pool->has_lock) pthread_mutex_destroy(&pool->lock);
    *pool = (ed_scratch_pool){0};
}

encdiff_status ed_scratch_take(ed_env *env, ed_scratch_pool *pool, ed_scratch **out)
{
    pthread_mutex_lock(&pool->lock);
    *out = pool->idle;
    if (*out) pool->idle = (*out)->next;
    pthread_mutex_unlock(&pool->lock);
    if (*out) return ENCDIFF_OK;
    ed_scratch *made = ed_alloc(env, 1, sizeof *made);
    if (made && pool->bytes && !(made->pixels = ed_alloc_raw(env, pool->bytes))) {
        ed_free(env, made);
        made = NULL;
    }
    *out = made;
    return made ? ENCDIFF_OK : ENCDIFF_ERROR_OUT_OF_MEMORY;
}

void ed_scratch_give(ed_scratch_pool *pool, ed_scratch *scratch)
{
    pthread_mutex_lock(&pool->lock);
    scratch->next = pool->idle;
    pool->idle = scratch;
    pthread_mutex_unlock(&pool->lock);
}
