/*
 * Times the official configuration through the public API: what bench/pytorch/time_pytorch.py times in PyTorch.
 *
 *     time_encdiff MEASUREMENT [--repeat 5] [--threads 2] [--bf16 0] [--model FILE] [--data SOURCE]
 *
 * MEASUREMENT is a name and a number of images, as train32:
 *
 *     train   a step of encoder and U-Net, encoding by the autoencoder included
 *     vq      a step of autoencoder and discriminator
 *     unet    one call
 *     encode  images to concepts
 *     ddim    50 steps
 *     start   nothing but the first tokens of a model, of grey images: what the whole process takes is for the caller
 * to measure load    a batch of random images of --data, as training reads them
 *
 * Prints one JSON object: the median and the least of the repetitions after one that is not counted, and the peak of
 * resident memory.
 */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include <encdiff/encdiff.h>

typedef struct bench {
    const char *name, *file, *source;
    int images_wanted, repeat, threads, bf16;
    encdiff_context *context;
    encdiff_model *model;
    encdiff_trainer *trainer;
    encdiff_sampler *sampler;
    encdiff_dataset *dataset;
    encdiff_dataset_info data;
    int64_t *indices;
    unsigned drawn;
    encdiff_model_info info;
    encdiff_image_view images;
    float *latents, *tokens, *scalars, *noise;
    int32_t *timesteps;
} bench;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void check(const bench *b, encdiff_status status)
{
    if (status == ENCDIFF_OK) return;
    fprintf(stderr, "time_encdiff: %s: %s\n", encdiff_status_name(status), encdiff_context_error(b->context));
    exit(1);
}

static float *numbers(size_t count)
{
    float *values = malloc(count * sizeof *values);
    unsigned state = 12345;
    for (size_t i = 0; values && i < count; i++) {
        state = state * 1664525u + 1013904223u;
        values[i] = (float)(state >> 8) / 8388608.0f - 1;
    }
    if (values) return values;
    fprintf(stderr, "time_encdiff: out of memory\n");
    exit(1);
}

/* ---------------------------------------------------------------- measurements */

static void train(bench *b)
{
    check(b, encdiff_trainer_step_given(b->trainer, &b->images, b->timesteps, b->noise, NULL));
}
static void vq(bench *b) { check(b, encdiff_trainer_step_given(b->trainer, &b->images, NULL, NULL, NULL)); }
static void encode(bench *b) { check(b, encdiff_model_encode(b->model, &b->images, b->scalars, b->tokens)); }

static void unet(bench *b)
{
    check(b, encdiff_model_predict_noise(b->model, b->images.n, b->latents, b->timesteps, b->tokens, b->noise));
}

static void ddim(bench *b)
{
    check(b, encdiff_sampler_sample(b->sampler, b->images.n, b->tokens, b->latents, NULL, b->noise, NULL, NULL, NULL));
}

static void load(bench *b)
{
    for (int i = 0; i < b->images.n; i++) {
        b->drawn = b->drawn * 1664525u + 1013904223u;
        b->indices[i] = (int64_t)((uint64_t)b->drawn * (uint64_t)b->data.size >> 32);
    }
    check(b, encdiff_dataset_read(b->dataset, b->indices, &b->images));
}

static const struct measurement {
    const char *name;
    void (*run)(bench *b);
    encdiff_stage stage;
} measurements[] = {
    {"train", train, ENCDIFF_STAGE_ENCDIFF},
    {"vq", vq, ENCDIFF_STAGE_AUTOENCODER},
    {"unet", unet, 0},
    {"encode", encode, 0},
    {"ddim", ddim, 0},
    {"start", encode, 0},
    {"load", load, 0},
};

/* The perceptual loss is left out on both sides: its network is not ours to time. */
static const char config[] = "{\"train_autoencoder\": {\"perceptual_weight\": 0, \"accumulate_grad_batches\": 1}}";

static void prepare_load(bench *b)
{
    b->data.struct_size = sizeof b->data;
    check(b, encdiff_dataset_open(b->context, b->source ? b->source : "procedural:shapes3d", NULL, &b->dataset));
    check(b, encdiff_dataset_get_info(b->dataset, &b->data));
    b->images = (encdiff_image_view){
        .format = ENCDIFF_IMAGE_U8_NHWC, .n = b->images_wanted, .height = b->data.height, .width = b->data.width};
    b->images.data = numbers((size_t)b->images.n * (size_t)(b->data.height * b->data.width));
    b->indices = calloc((size_t)b->images.n, sizeof *b->indices);
    if (!b->indices) exit(1);
}

static void prepare(bench *b, const struct measurement *m)
{
    encdiff_context_options options;
    encdiff_context_options_init(&options, sizeof options);
    options.threads = b->threads;
    options.precision = b->bf16 ? ENCDIFF_PRECISION_BF16 : ENCDIFF_PRECISION_F32;
    if (encdiff_context_create(&options, &b->context) != ENCDIFF_OK) exit(1);
    if (m->run == load) {
        prepare_load(b);
        return;
    }
    check(b, b->file ? encdiff_model_load(b->context, b->file, &b->model)
                     : encdiff_model_create(b->context, config, 0, &b->model));
    b->info.struct_size = sizeof b->info;
    check(b, encdiff_model_get_info(b->model, &b->info));
    size_t n = (size_t)b->images_wanted;
    size_t latent = (size_t)(b->info.latent_channels * b->info.latent_height * b->info.latent_width);
    b->images = (encdiff_image_view){
        .format = ENCDIFF_IMAGE_F32_NCHW, .n = (int32_t)n, .height = b->info.height, .width = b->info.width};
    b->images.data = numbers(n * 3 * (size_t)(b->info.height * b->info.width));
    b->latents = numbers(n * latent);
    b->noise = numbers(n * latent);
    b->tokens = numbers(n * (size_t)(b->info.tokens * b->info.token_dim));
    b->scalars = numbers(n * (size_t)b->info.tokens);
    b->timesteps = calloc(n, sizeof *b->timesteps);
    for (size_t i = 0; b->timesteps && i < n; i++) b->timesteps[i] = (int32_t)(i * 337 % 1000);
    if (m->run == ddim) check(b, encdiff_sampler_create(b->model, NULL, &b->sampler));
    if (!m->stage) return;
    encdiff_trainer_options trainer;
    encdiff_trainer_options_init(&trainer, sizeof trainer);
    trainer.stage = (int32_t)m->stage;
    trainer.batch_size = b->images_wanted;
    check(b, encdiff_trainer_create(b->model, NULL, &trainer, &b->trainer));
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void measure(bench *b, const struct measurement *m)
{
    double *seconds = calloc((size_t)b->repeat, sizeof *seconds);
    if (!seconds) exit(1);
    prepare(b, m);
    double start = now();
    m->run(b);
    double first = now() - start;
    for (int i = 0; i < b->repeat; i++) {
        start = now();
        m->run(b);
        seconds[i] = now() - start;
    }
    qsort(seconds, (size_t)b->repeat, sizeof *seconds, ascending);
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf("{\"name\": \"%s\", \"images\": %d, \"threads\": %d, \"seconds\": %.6f, \"least\": %.6f, \"first\": %.6f, "
           "\"peak_mb\": %.1f}\n",
           m->name, (int)b->images.n, b->threads, seconds[b->repeat / 2], seconds[0], first,
           (double)usage.ru_maxrss / 1e3);
    free(seconds);
}

static void clean_up(bench *b)
{
    encdiff_trainer_free(b->trainer);
    encdiff_sampler_free(b->sampler);
    encdiff_dataset_free(b->dataset);
    encdiff_model_free(b->model);
    encdiff_context_free(b->context);
    float *const owned[] = {b->images.data, b->latents, b->noise, b->tokens, b->scalars};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++) free(owned[i]);
    free(b->timesteps);
    free(b->indices);
}

/* "train32": the measurement, and how many images it treats. */
static const struct measurement *find(bench *b)
{
    size_t length = strcspn(b->name, "0123456789");
    b->images_wanted = atoi(b->name + length);
    for (size_t i = 0; i < sizeof measurements / sizeof *measurements; i++)
        if (strlen(measurements[i].name) == length && strncmp(measurements[i].name, b->name, length) == 0)
            return b->images_wanted > 0 ? &measurements[i] : NULL;
    return NULL;
}

int main(int argc, char **argv)
{
    bench b = {.name = argc > 1 ? argv[1] : "", .repeat = 5, .threads = 2};
    const struct measurement *m = find(&b);
    for (int i = 2; i + 1 < argc; i += 2) {
        int value = atoi(argv[i + 1]);
        if (strcmp(argv[i], "--repeat") == 0 && value > 0)
            b.repeat = value;
        else if (strcmp(argv[i], "--threads") == 0 && value > 0)
            b.threads = value;
        else if (strcmp(argv[i], "--bf16") == 0)
            b.bf16 = value;
        else if (strcmp(argv[i], "--model") == 0)
            b.file = argv[i + 1];
        else if (strcmp(argv[i], "--data") == 0)
            b.source = argv[i + 1];
        else
            m = NULL;
    }
    if (!m) {
        fprintf(stderr,
                "usage: time_encdiff train|vq|unet|encode|ddim|start|load followed by a number of images, as train32\n"
                "       [--repeat K] [--threads T] [--bf16 0|1] [--model FILE] [--data SOURCE]\n");
        return 2;
    }
    if (strncmp(b.name, "start", 5) == 0) {
        prepare(&b, m);
        memset(b.images.data, 0, (size_t)b.images.n * 3 * (size_t)(b.info.height * b.info.width) * sizeof(float));
        m->run(&b);
        printf("{\"code\": %.9g}\n", (double)b.tokens[0]);
    } else {
        measure(&b, m);
    }
    clean_up(&b);
    return 0;
}
