/* What the tests of trainers share: a model in training, and a batch that is given. */
#ifndef TRAINING_H
#define TRAINING_H

#include "api.h"

enum { BATCH = 4, VQ_LATENT = 3 * 8 * 8 };

/* A model with a trainer on the first images of the procedural set. */
typedef struct bench {
    counted_memory memory;
    encdiff_context *context;
    encdiff_model *model;
    encdiff_dataset *data;
    encdiff_trainer *trainer;
} bench;

static inline encdiff_trainer_options default_options(void)
{
    encdiff_trainer_options options;
    encdiff_trainer_options_init(&options, sizeof options);
    return options;
}

static inline void begin(bench *b, const char *config, int32_t threads, const encdiff_trainer_options *options)
{
    b->context = open_context(&b->memory, threads);
    b->model = make_model(b->context, config, 3);
    b->data = open_shapes(b->context, "procedural:shapes3d[0:50]");
    b->trainer = NULL;
    OK(b->context, encdiff_trainer_create(b->model, b->data, options, &b->trainer));
}

static inline void end(bench *b)
{
    encdiff_trainer_free(b->trainer);
    encdiff_dataset_free(b->data);
    encdiff_model_free(b->model);
    close_context(b->context, &b->memory);
}

static inline double step(bench *b)
{
    encdiff_train_report report = {.struct_size = sizeof report};
    OK(b->context, encdiff_trainer_step(b->trainer, &report));
    return report.loss;
}

/* A batch of the caller's. */
typedef struct given {
    float pixels[BATCH * PIXELS], noise[BATCH * VQ_LATENT];
    int32_t timesteps[BATCH];
    encdiff_image_view images;
} given;

static inline void make_given(given *g)
{
    fill_floats(g->pixels, BATCH * PIXELS, 5);
    fill_floats(g->noise, BATCH * VQ_LATENT, 6);
    for (int i = 0; i < BATCH; i++) g->timesteps[i] = 10 + 300 * i;
    g->images = view_f32(g->pixels, BATCH);
}

#endif
