/*
 * Encode images to concept scalars: one line an image, one number a concept.
 *
 *     encode MODEL IMAGES          encode model.safetensors photos/      encode model.safetensors '3dshapes.h5[0:8]'
 */
#include <stdio.h>
#include <stdlib.h>

#include <encdiff/encdiff.h>

/* Everything the program holds; zeros are fine to free. */
typedef struct program {
    encdiff_context *context;
    encdiff_model *model;
    encdiff_dataset *images;
    void *pixels;
    float *scalars;
} program;

static int finish(program *p, encdiff_status status)
{
    if (status != ENCDIFF_OK)
        fprintf(stderr, "encode: %s\n", p->context ? encdiff_context_error(p->context) : encdiff_status_name(status));
    free(p->pixels);
    free(p->scalars);
    encdiff_dataset_free(p->images);
    encdiff_model_free(p->model);
    encdiff_context_free(p->context);
    return status == ENCDIFF_OK ? 0 : 1;
}

int main(int argc, char **argv)
{
    program p = {0};
    if (argc != 3) {
        fprintf(stderr, "usage: encode MODEL IMAGES\n");
        return 2;
    }
    encdiff_status status = encdiff_context_create(NULL, &p.context);
    if (status == ENCDIFF_OK) status = encdiff_model_load(p.context, argv[1], &p.model);

    /* Pictures of any size are brought to the model's. */
    encdiff_model_info model = {.struct_size = sizeof model};
    encdiff_dataset_info data = {.struct_size = sizeof data};
    encdiff_dataset_options options;
    if (status == ENCDIFF_OK) status = encdiff_model_get_info(p.model, &model);
    encdiff_dataset_options_init(&options, sizeof options);
    options.height = model.height;
    options.width = model.width;
    if (status == ENCDIFF_OK) status = encdiff_dataset_open(p.context, argv[2], &options, &p.images);
    if (status == ENCDIFF_OK) status = encdiff_dataset_get_info(p.images, &data);
    if (status != ENCDIFF_OK) return finish(&p, status);

    int32_t n = data.size < 4096 ? (int32_t)data.size : 4096;
    encdiff_image_view view = {.format = ENCDIFF_IMAGE_U8_NHWC, .n = n, .height = model.height, .width = model.width};
    view.data = p.pixels = malloc(encdiff_image_view_bytes(&view));
    p.scalars = malloc((size_t)n * (size_t)model.tokens * sizeof *p.scalars);
    if (!p.pixels || !p.scalars) {
        fprintf(stderr, "encode: out of memory\n");
        finish(&p, ENCDIFF_OK);
        return 1;
    }
    status = encdiff_dataset_read(p.images, NULL, &view);
    if (status == ENCDIFF_OK) status = encdiff_model_encode(p.model, &view, p.scalars, NULL);
    for (int32_t i = 0; i < n && status == ENCDIFF_OK; i++)
        for (int32_t k = 0; k < model.tokens; k++)
            printf("%.6g%c", (double)p.scalars[i * model.tokens + k], k + 1 < model.tokens ? ' ' : '\n');
    return finish(&p, status);
}
