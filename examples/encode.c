/*
 * Encode images to concept scalars: one line an image, one number a concept.
 *
 *     encode MODEL IMAGES          encode model.safetensors photos/      encode model.safetensors '3dshapes.h5[0:8]'
 */
#include <stdio.h>
#include <stdlib.h>

#include <encdiff/encdiff.h>

#define BATCH 64 /* images that are in memory at once */

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

/* Images first .. first + view->n - 1: read, encoded, printed. */
static encdiff_status encode_batch(program *p, int64_t first, encdiff_image_view *view, int32_t concepts)
{
    int64_t indices[BATCH];
    for (int32_t i = 0; i < view->n; i++) indices[i] = first + i;
    encdiff_status status = encdiff_dataset_read(p->images, indices, view);
    if (status == ENCDIFF_OK) status = encdiff_model_encode(p->model, view, p->scalars, NULL);
    for (int32_t i = 0; i < view->n && status == ENCDIFF_OK; i++)
        for (int32_t k = 0; k < concepts; k++)
            printf("%.6g%c", (double)p->scalars[i * concepts + k], k + 1 < concepts ? ' ' : '\n');
    return status;
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

    encdiff_image_view view = {
        .format = ENCDIFF_IMAGE_U8_NHWC, .n = BATCH, .height = model.height, .width = model.width};
    view.data = p.pixels = malloc(encdiff_image_view_bytes(&view));
    p.scalars = malloc((size_t)BATCH * (size_t)model.tokens * sizeof *p.scalars);
    if (!p.pixels || !p.scalars) {
        fprintf(stderr, "encode: out of memory\n");
        finish(&p, ENCDIFF_OK);
        return 1;
    }
    for (int64_t first = 0; first < data.size && status == ENCDIFF_OK; first += BATCH) {
        view.n = data.size - first < BATCH ? (int32_t)(data.size - first) : BATCH;
        status = encode_batch(&p, first, &view, model.tokens);
    }
    return finish(&p, status);
}
