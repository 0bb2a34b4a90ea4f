/*
 * What the programs of suite gpu share that use the device as applications do, through libencdiff.so: sessions of a
 * context with a model and a trainer, what a model computes, and the emulation's switches, which are NULL on a GPU.
 */
#ifndef GPU_SESSION_H
#define GPU_SESSION_H

#include <dlfcn.h>

#include "../api/api.h"

enum { N = 3 };

/* ---------------------------------------------------------------- the emulation */

static struct {
    void (*control)(const char *settings);
    size_t (*allocations)(void);
    int (*current_device)(void);
    void (*set_current_device)(int device);
    void *(*stream)(void);
    size_t (*waiting)(void *stream);
    void (*destroy_stream)(void *stream);
} emulation;

static inline void find(void *library, const char *name, void *to)
{
    void *symbol = dlsym(library, name);
    memcpy(to, &symbol, sizeof symbol);
}

/* The plugin that the library has loaded; it stays in memory. */
static inline void find_emulation(void)
{
    const char *path = getenv("ENCDIFF_CUDA_PLUGIN");
    void *library = path ? dlopen(path, RTLD_NOW | RTLD_NOLOAD) : NULL;
    if (!library) return;
    find(library, "encdiff_emulation_control", &emulation.control);
    find(library, "encdiff_emulation_allocations", &emulation.allocations);
    find(library, "encdiff_emulation_current_device", &emulation.current_device);
    find(library, "encdiff_emulation_set_current_device", &emulation.set_current_device);
    find(library, "encdiff_emulation_stream", &emulation.stream);
    find(library, "encdiff_emulation_waiting", &emulation.waiting);
    find(library, "encdiff_emulation_destroy_stream", &emulation.destroy_stream);
}

/* False, and the case is skipped, on a GPU. */
static inline bool emulated(void)
{
    if (!emulation.control) test_skip("only on the emulation");
    return emulation.control != NULL;
}

/* ---------------------------------------------------------------- contexts */

typedef struct session {
    counted_memory memory;
    encdiff_context *context;
    encdiff_model *model;
    encdiff_dataset *data;
    encdiff_trainer *trainer;
} session;

static inline encdiff_context_options options_for(session *s, const char *device)
{
    encdiff_context_options options;
    encdiff_context_options_init(&options, sizeof options);
    options.device = device;
    options.threads = 1;
    options.allocate = counted_allocate;
    options.deallocate = counted_deallocate;
    options.allocator_user = &s->memory;
    return options;
}

static inline bool open_with(session *s, const encdiff_context_options *options, const char *config)
{
    if (!CHECK_EQUAL(encdiff_context_create(options, &s->context), ENCDIFF_OK)) return false;
    s->model = make_awake_model(s->context, config);
    return s->model != NULL;
}

static inline bool open_on(session *s, const char *device, const char *config)
{
    memset(s, 0, sizeof *s);
    encdiff_context_options options = options_for(s, device);
    return open_with(s, &options, config);
}

static inline void close_session(session *s)
{
    encdiff_trainer_free(s->trainer);
    encdiff_dataset_free(s->data);
    encdiff_model_free(s->model);
    close_context(s->context, &s->memory);
}

static inline bool start_training(session *s, encdiff_stage stage)
{
    encdiff_trainer_options options;
    encdiff_trainer_options_init(&options, sizeof options);
    options.stage = stage;
    s->data = open_shapes(s->context, "procedural:shapes3d[0:64]");
    return s->data && OK(s->context, encdiff_trainer_create(s->model, s->data, &options, &s->trainer));
}

/* ---------------------------------------------------------------- what a model computes */

enum { MOST_LATENT = 3 * 8 * 8 }; /* of TINY_VQ and TINY_KL; of TINY the rest stays zero */

typedef struct results {
    float scalars[N * TOKENS], tokens[N * TOKENS * TOKEN_DIM], latents[N * MOST_LATENT], predicted[N * MOST_LATENT],
        sampled[N * MOST_LATENT], images[N * PIXELS];
} results;

static inline void compute(session *s, results *r)
{
    static float pixels[N * PIXELS], noise[N * MOST_LATENT];
    static const int32_t timesteps[N] = {3, 400, 999};
    encdiff_image_view in = view_f32(pixels, N), out = view_f32(r->images, N);
    encdiff_sampler_options options;
    encdiff_sampler *sampler = NULL;
    encdiff_sampler_options_init(&options, sizeof options);
    options.steps = 5;
    fill_floats(pixels, N * PIXELS, 1);
    fill_floats(noise, N * MOST_LATENT, 2);
    OK(s->context, encdiff_model_encode(s->model, &in, r->scalars, r->tokens));
    OK(s->context, encdiff_model_latents_from_images(s->model, &in, r->latents));
    OK(s->context, encdiff_model_predict_noise(s->model, N, noise, timesteps, r->tokens, r->predicted));
    OK(s->context, encdiff_sampler_create(s->model, &options, &sampler));
    OK(s->context, encdiff_sampler_sample(sampler, N, r->tokens, noise, NULL, r->sampled, NULL, NULL, NULL));
    OK(s->context, encdiff_model_images_from_latents(s->model, r->sampled, ENCDIFF_DEFAULT, &out));
    encdiff_sampler_free(sampler);
}

static inline bool same_models(session *a, session *b)
{
    size_t n, m;
    float *x = read_all(a->context, a->model, &n), *y = read_all(b->context, b->model, &m);
    bool same = n == m && n && memcmp(x, y, n * sizeof *x) == 0;
    free(x);
    free(y);
    return same;
}

static inline void print_reason(encdiff_log_level level, const char *message, void *user)
{
    (void)user;
    if (level == ENCDIFF_LOG_ERROR) printf("SKIPPED: %s\n", message);
}

/* False, having said why, where there is no device; then the program's exit status is 77. */
static inline bool there_is_a_device(void)
{
    encdiff_context *context = NULL;
    encdiff_context_options options;
    encdiff_context_options_init(&options, sizeof options);
    options.device = "cuda";
    options.log = print_reason;
    if (encdiff_context_create(&options, &context) != ENCDIFF_OK) return false;
    find_emulation();
    encdiff_context_free(context);
    return true;
}

#endif
