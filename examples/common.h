/* What the editing examples share: a model, a sampler on it, and images read at the model's size. */
#ifndef EXAMPLES_COMMON_H
#define EXAMPLES_COMMON_H

#include <stdio.h>
#include <stdlib.h>

#include <encdiff/encdiff.h>

typedef struct studio {
    encdiff_context *context;
    encdiff_model *model;
    encdiff_sampler *sampler;
    encdiff_model_info info;
} studio;

static inline encdiff_status open_studio(studio *s, const char *model)
{
    *s = (studio){.info = {.struct_size = sizeof s->info}};
    encdiff_status status = encdiff_context_create(NULL, &s->context);
    if (status == ENCDIFF_OK) status = encdiff_model_load(s->context, model, &s->model);
    if (status == ENCDIFF_OK) status = encdiff_model_get_info(s->model, &s->info);
    if (status == ENCDIFF_OK) status = encdiff_sampler_create(s->model, NULL, &s->sampler); /* DDIM, 50 steps */
    return status;
}

static inline int close_studio(studio *s, const char *program, encdiff_status status)
{
    if (status != ENCDIFF_OK)
        fprintf(stderr, "%s: %s\n", program,
                s->context ? encdiff_context_error(s->context) : encdiff_status_name(status));
    encdiff_sampler_free(s->sampler);
    encdiff_model_free(s->model);
    encdiff_context_free(s->context);
    return status == ENCDIFF_OK ? 0 : 1;
}

/* Memory for n images at the model's size, to be freed by the caller; data is NULL when there is none. */
static inline encdiff_image_view make_images(const studio *s, int32_t n)
{
    encdiff_image_view view = {
        .format = ENCDIFF_IMAGE_U8_NHWC, .n = n, .height = s->info.height, .width = s->info.width};
    view.data = malloc(encdiff_image_view_bytes(&view));
    return view;
}

/* The first images of a source, at most `most`. */
static inline encdiff_status read_images(studio *s, const char *source, int32_t most, encdiff_image_view *out)
{
    encdiff_dataset *data = NULL;
    encdiff_dataset_options options;
    encdiff_dataset_info info = {.struct_size = sizeof info};
    encdiff_dataset_options_init(&options, sizeof options);
    options.height = s->info.height;
    options.width = s->info.width;
    encdiff_status status = encdiff_dataset_open(s->context, source, &options, &data);
    if (status == ENCDIFF_OK) status = encdiff_dataset_get_info(data, &info);
    if (status == ENCDIFF_OK) *out = make_images(s, info.size < most ? (int32_t)info.size : most);
    if (status == ENCDIFF_OK && !out->data) status = ENCDIFF_ERROR_OUT_OF_MEMORY;
    if (status == ENCDIFF_OK) status = encdiff_dataset_read(data, NULL, out);
    encdiff_dataset_free(data);
    return status;
}

/* Views of n images each, one row a view, as one picture. */
static inline encdiff_status write_rows(studio *s, const char *path, const encdiff_image_view *rows,
                                        const char *const *labels, int32_t count)
{
    encdiff_grid_options options;
    encdiff_image_view all = make_images(s, rows[0].n * count);
    if (!all.data) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    encdiff_grid_options_init(&options, sizeof options);
    options.columns = rows[0].n;
    options.scale = 2;
    options.row_labels = labels;
    encdiff_status status = ENCDIFF_OK;
    for (int32_t r = 0; r < count && status == ENCDIFF_OK; r++) {
        encdiff_image_view part = rows[r];
        part.data = (char *)all.data + (size_t)r * encdiff_image_view_bytes(&rows[r]);
        status = encdiff_image_convert(s->context, &rows[r], &part);
    }
    if (status == ENCDIFF_OK) status = encdiff_image_write_grid(s->context, path, &all, &options);
    free(all.data);
    return status;
}

#endif
