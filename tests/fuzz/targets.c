#include "targets.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* 16 x 16 pixels, 4 tokens of 8: a file of some 100 KB. */
static const char tiny[] = "{\"image\": {\"resolution\": 16}, \"autoencoder\": {\"kind\": \"average\", \"factor\": 4},"
                           " \"encoder\": {\"d\": 8, \"latent_unit\": 4, \"context_dim\": 8},"
                           " \"unet\": {\"model_channels\": 32, \"channel_mult\": [1], \"num_res_blocks\": 1,"
                           " \"attention_resolutions\": [], \"num_heads\": 2},"
                           " \"train_encdiff\": {\"batch_size\": 4, \"warm_up_steps\": 0}}";

/* ---------------------------------------------------------------- datasets */

enum { MOST_BYTES = 32 << 20, SIDE = 16 };

/* The first, the last, one in the middle, and back: as a stream and as random access. */
static encdiff_status read_images(encdiff_dataset *dataset, const encdiff_dataset_info *info)
{
    const int64_t indices[] = {0, info->size - 1, info->size / 2, 0};
    encdiff_image_view view = {.format = ENCDIFF_IMAGE_U8_NHWC, .n = 4, .height = info->height, .width = info->width};
    size_t bytes = encdiff_image_view_bytes(&view);
    if (!bytes || bytes > MOST_BYTES) return ENCDIFF_OK;
    if (!(view.data = malloc(bytes))) return ENCDIFF_OK;
    encdiff_status status = encdiff_dataset_read(dataset, indices, &view);
    if (status == ENCDIFF_OK && info->size >= 4) status = encdiff_dataset_read(dataset, NULL, &view);
    free(view.data);
    return status;
}

static encdiff_status read_labels(encdiff_dataset *dataset, const encdiff_dataset_info *info)
{
    const int64_t indices[] = {info->size - 1, 0};
    int64_t found = -1;
    if (!info->factors) return ENCDIFF_OK;
    int32_t *labels = malloc(2 * (size_t)info->factors * sizeof *labels);
    if (!labels) return ENCDIFF_OK;
    encdiff_status status = encdiff_dataset_labels(dataset, 2, indices, labels);
    for (int32_t i = 0; i < 2 * info->factors && status == ENCDIFF_OK; i++)
        if (labels[i] < 0 || labels[i] >= encdiff_dataset_factor_size(dataset, i % info->factors))
            status = ENCDIFF_ERROR_INTERNAL; /* promised to be in range */
    if (status == ENCDIFF_OK) status = encdiff_dataset_find(dataset, labels, &found);
    if (status == ENCDIFF_OK && (found < 0 || found >= info->size)) status = ENCDIFF_ERROR_INTERNAL;
    free(labels);
    return status;
}

static encdiff_status open_dataset(fuzz_place *place, const char *source)
{
    encdiff_dataset *dataset = NULL;
    encdiff_dataset_info info = {.struct_size = sizeof info};
    encdiff_status status = encdiff_dataset_open(place->context, source, NULL, &dataset);
    if (status != ENCDIFF_OK) return status;
    status = encdiff_dataset_get_info(dataset, &info);
    if (status == ENCDIFF_OK) status = read_labels(dataset, &info);
    if (status == ENCDIFF_OK) status = read_images(dataset, &info);
    encdiff_dataset_free(dataset);
    return status;
}

/* ---------------------------------------------------------------- arrays */

static encdiff_status read_array(fuzz_place *place, const char *source)
{
    static const struct {
        const char *member;
        encdiff_type type;
    } wanted[] = {{NULL, ENCDIFF_TYPE_ANY}, {NULL, ENCDIFF_TYPE_I32}, {"labels", ENCDIFF_TYPE_F64}};
    size_t length = strlen(source), count = length > 4 && strcmp(source + length - 4, ".npz") == 0 ? 3 : 2;
    encdiff_status status = ENCDIFF_OK;
    for (size_t i = count == 3 ? 2 : 0; i < count && status == ENCDIFF_OK; i++) {
        encdiff_array array = {0};
        status = encdiff_array_read(place->context, source, wanted[i].member, wanted[i].type, &array);
        if (status == ENCDIFF_OK) encdiff_context_release(place->context, array.data);
    }
    return status;
}

/* ---------------------------------------------------------------- models */

static encdiff_status load_model(fuzz_place *place, const char *source)
{
    encdiff_model *model = NULL;
    void *data = NULL;
    size_t size;
    encdiff_status status = encdiff_model_load(place->context, source, &model);
    if (status == ENCDIFF_OK) status = encdiff_model_save_memory(model, &data, &size); /* reads all values */
    encdiff_context_release(place->context, data);
    encdiff_model_free(model);
    return status;
}

static encdiff_status import_model(fuzz_place *place, const char *source)
{
    encdiff_model *model = NULL;
    encdiff_status status = encdiff_model_import(place->context, source, tiny, NULL, &model);
    encdiff_model_free(model);
    return status;
}

static encdiff_status resume(fuzz_place *place, const char *source)
{
    return encdiff_trainer_resume(place->trainer, source);
}

static encdiff_status resolve_config(fuzz_place *place, const char *source)
{
    char *json = NULL;
    encdiff_status status = encdiff_config_resolve(place->context, source, NULL, 0, &json);
    if (status == ENCDIFF_OK) encdiff_context_release(place->context, json);
    return status;
}

/* Whatever the file has, it has not all of VGG16: to be told so is the good end. */
static encdiff_status read_weights(fuzz_place *place, const char *source)
{
    uint8_t pixels[2 * 3 * SIDE * SIDE] = {0};
    char settings[PATH_MAX + 64];
    encdiff_image_view view = {pixels, ENCDIFF_IMAGE_U8_NHWC, 2, SIDE, SIDE};
    encdiff_metrics_options options;
    encdiff_scores *scores = NULL;
    encdiff_metrics_options_init(&options, sizeof options);
    snprintf(settings, sizeof settings, "{\"lpips\": {\"weights\": \"%s\"}}", source);
    options.metrics = "lpips";
    options.settings = settings;
    encdiff_status status = encdiff_metrics_from_images(place->context, &view, &view, &options, &scores, NULL, NULL);
    encdiff_scores_free(scores);
    const char *message = encdiff_context_error(place->context);
    return status != ENCDIFF_OK && strstr(message, "features.0.weight") ? ENCDIFF_OK : status;
}

fuzz_target *fuzz_find(const char *name)
{
    static const struct {
        const char *name;
        fuzz_target *target;
    } targets[] = {{"import", import_model},  {"dataset", open_dataset}, {"array", read_array},
                   {"model", load_model},     {"resume", resume},        {"weights", read_weights},
                   {"config", resolve_config}};
    for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++)
        if (strcmp(targets[i].name, name) == 0) return targets[i].target;
    return NULL;
}

/* ---------------------------------------------------------------- the context */

static void *allocate(size_t size, size_t alignment, void *user)
{
    fuzz_memory *memory = user;
    void *block = NULL;
    if (size > memory->limit - memory->bytes) return NULL;
    if (posix_memalign(&block, alignment < sizeof(void *) ? sizeof(void *) : alignment, size) != 0) return NULL;
    memory->bytes += size;
    return block;
}

static void deallocate(void *block, size_t size, void *user)
{
    ((fuzz_memory *)user)->bytes -= size;
    free(block);
}

int fuzz_open(fuzz_place *place, fuzz_memory *memory, size_t limit)
{
    encdiff_context_options options;
    encdiff_trainer_options training;
    *memory = (fuzz_memory){.limit = limit};
    encdiff_context_options_init(&options, sizeof options);
    options.threads = 1;
    options.allocate = allocate;
    options.deallocate = deallocate;
    options.allocator_user = memory;
    encdiff_trainer_options_init(&training, sizeof training);
    if (encdiff_context_create(&options, &place->context) == ENCDIFF_OK &&
        encdiff_model_create(place->context, tiny, 1, &place->model) == ENCDIFF_OK &&
        encdiff_trainer_create(place->model, NULL, &training, &place->trainer) == ENCDIFF_OK)
        return 1;
    printf("FAILED the context: %s\n", encdiff_context_error(place->context));
    return 0;
}

void fuzz_close(fuzz_place *place)
{
    encdiff_trainer_free(place->trainer);
    encdiff_model_free(place->model);
    encdiff_context_free(place->context);
}

int fuzz_write(const char *folder)
{
    fuzz_place place = {0};
    fuzz_memory memory;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    int good = fuzz_open(&place, &memory, SIZE_MAX) && encdiff_model_save(place.model, path) == ENCDIFF_OK &&
               encdiff_trainer_save(place.trainer, folder) == ENCDIFF_OK;
    snprintf(path, sizeof path, "%s/published.safetensors", folder);
    good = good && encdiff_model_export(place.model, path) == ENCDIFF_OK;
    if (!good) printf("FAILED %s: %s\n", folder, encdiff_context_error(place.context));
    fuzz_close(&place);
    return good;
}
