/*
 * A host that the library has never met: its own allocator, threads with a context each that share one model, a stop
 * from outside, callbacks with pointers of its own, and every kind of failure in between. At the end every byte is
 * back.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <encdiff/encdiff.h>

static int failures;

#define EXPECT(condition)                                                                                              \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            printf("host.c:%d: %s\n", __LINE__, #condition);                                                           \
            failures++;                                                                                                \
        }                                                                                                              \
    } while (0)

/* ---- the host's memory: a budget that can run out, with the size of each block before it */

typedef struct budget {
    atomic_llong held, limit;
} budget;

static void *take(size_t size, size_t alignment, void *user)
{
    budget *b = user;
    void *block = NULL;
    if (atomic_fetch_add(&b->held, (long long)size) + (long long)size > atomic_load(&b->limit) ||
        posix_memalign(&block, alignment, size) != 0) {
        atomic_fetch_sub(&b->held, (long long)size);
        return NULL;
    }
    return block;
}

static void give_back(void *block, size_t size, void *user)
{
    budget *b = user;
    atomic_fetch_sub(&b->held, (long long)size);
    free(block);
}

/* ---- a part of the host that uses the library: its budget, its context, what it was told */

typedef struct part {
    budget memory;
    encdiff_context *context;
    int messages, steps;
    char last[256];
} part;

static void listen(encdiff_log_level level, const char *message, void *user)
{
    part *p = user;
    EXPECT(level >= ENCDIFF_LOG_ERROR && level <= ENCDIFF_LOG_DEBUG);
    p->messages++;
    snprintf(p->last, sizeof p->last, "%s", message);
}

static void open_part(part *p)
{
    encdiff_context_options options;
    memset(p, 0, sizeof *p);
    atomic_store(&p->memory.limit, (long long)1 << 30);
    encdiff_context_options_init(&options, sizeof options);
    options.threads = 2;
    options.log = listen;
    options.log_user = p;
    options.allocate = take;
    options.deallocate = give_back;
    options.allocator_user = &p->memory;
    EXPECT(encdiff_context_create(&options, &p->context) == ENCDIFF_OK);
}

static void close_part(part *p)
{
    encdiff_context_free(p->context);
    EXPECT(atomic_load(&p->memory.held) == 0);
}

/* ---- a model that is made in no time: 16x16 pixels */

#define SIDE 16
#define TOKENS 4
#define TOKEN_DIM 8

static const char config[] =
    "{\"image\": {\"resolution\": 16}, \"autoencoder\": {\"kind\": \"average\", \"factor\": 4},"
    " \"encoder\": {\"d\": 8, \"latent_unit\": 4, \"context_dim\": 8},"
    " \"unet\": {\"model_channels\": 32, \"channel_mult\": [1, 1], \"num_res_blocks\": 1,"
    " \"attention_resolutions\": [2], \"num_heads\": 2},"
    " \"train_encdiff\": {\"batch_size\": 4, \"warm_up_steps\": 0}}";

static encdiff_dataset *open_scenes(encdiff_context *context)
{
    encdiff_dataset *scenes = NULL;
    encdiff_dataset_options options;
    encdiff_dataset_options_init(&options, sizeof options);
    options.height = SIDE;
    EXPECT(encdiff_dataset_open(context, "procedural:shapes3d", &options, &scenes) == ENCDIFF_OK);
    return scenes;
}

/* ---- one model in several threads at once */

typedef struct worker {
    part part;
    encdiff_model *model;
    encdiff_image_view images;
    float scalars[2 * TOKENS];
    unsigned char result[2 * SIDE * SIDE * 3];
    int progress;
} worker;

static int32_t count_progress(const encdiff_progress_info *info, void *user)
{
    worker *w = user;
    EXPECT(info->total == 5);
    w->progress++;
    return 0;
}

/* Encodes and reconstructs, then gives up its context and its share of the model, in this thread. */
static void *work(void *argument)
{
    worker *w = argument;
    encdiff_sampler *sampler = NULL;
    encdiff_sampler_options options;
    encdiff_image_view out = w->images;
    encdiff_sampler_options_init(&options, sizeof options);
    options.steps = 5;
    out.data = w->result;
    EXPECT(encdiff_sampler_create(w->model, &options, &sampler) == ENCDIFF_OK);
    for (int i = 0; i < 5; i++) {
        EXPECT(encdiff_model_encode(w->model, &w->images, w->scalars, NULL) == ENCDIFF_OK);
        EXPECT(encdiff_sampler_reconstruct(sampler, &w->images, NULL, &out, count_progress, w) == ENCDIFF_OK);
    }
    EXPECT(w->progress == 25);
    encdiff_context_free(w->part.context); /* the caller's hold; what is made on it lives on */
    encdiff_model_free(w->model);
    encdiff_sampler_free(sampler);
    return NULL;
}

static void share_a_model_among_threads(void)
{
    enum { WORKERS = 3 };
    static worker workers[WORKERS];
    static unsigned char pixels[2 * SIDE * SIDE * 3];
    pthread_t threads[WORKERS];
    encdiff_model *model = NULL;
    part home;
    open_part(&home);
    EXPECT(encdiff_model_create(home.context, config, 7, &model) == ENCDIFF_OK);
    for (size_t i = 0; i < sizeof pixels; i++) pixels[i] = (unsigned char)(i * 31 % 251);
    for (int k = 0; k < WORKERS; k++) { /* each share is a use of both contexts: made here, before the threads begin */
        worker *w = &workers[k];
        open_part(&w->part);
        w->images = (encdiff_image_view){pixels, ENCDIFF_IMAGE_U8_NHWC, 2, SIDE, SIDE};
        EXPECT(encdiff_model_share(model, w->part.context, &w->model) == ENCDIFF_OK);
    }
    for (int k = 0; k < WORKERS; k++) pthread_create(&threads[k], NULL, work, &workers[k]);
    /* Meanwhile the home context works too, and the host gives up its hold on the model before the others do. */
    encdiff_dataset *scenes = open_scenes(home.context);
    encdiff_model_free(model);
    encdiff_dataset_free(scenes);
    for (int k = 0; k < WORKERS; k++) pthread_join(threads[k], NULL);
    for (int k = 0; k < WORKERS; k++) {
        EXPECT(memcmp(workers[k].scalars, workers[0].scalars, sizeof workers[0].scalars) == 0);
        EXPECT(memcmp(workers[k].result, workers[0].result, sizeof workers[0].result) == 0);
        EXPECT(atomic_load(&workers[k].part.memory.held) == 0);
    }
    close_part(&home);
}

/* ---- a stop from another thread */

typedef struct training {
    part part;
    encdiff_trainer *trainer;
    encdiff_status status;
    atomic_int steps;
} training;

static int32_t count_steps(const encdiff_train_report *report, void *user)
{
    training *t = user;
    EXPECT(report->step == atomic_fetch_add(&t->steps, 1) + 1);
    return 0;
}

static void *train(void *argument)
{
    training *t = argument;
    t->status = encdiff_trainer_run(t->trainer, 100000000, count_steps, t);
    return NULL;
}

static void stop_training_from_another_thread(void)
{
    static training t;
    pthread_t thread;
    encdiff_model *model = NULL;
    open_part(&t.part);
    EXPECT(encdiff_model_create(t.part.context, config, 0, &model) == ENCDIFF_OK);
    encdiff_dataset *scenes = open_scenes(t.part.context);
    EXPECT(encdiff_trainer_create(model, scenes, NULL, &t.trainer) == ENCDIFF_OK);
    pthread_create(&thread, NULL, train, &t);
    struct timespec moment = {.tv_nsec = 2000000};
    while (atomic_load(&t.steps) < 3) nanosleep(&moment, NULL);
    encdiff_cancel(t.part.context);
    pthread_join(thread, NULL); /* it comes back, or the test never ends */
    EXPECT(t.status == ENCDIFF_CANCELLED);
    EXPECT(encdiff_trainer_step(t.trainer, NULL) == ENCDIFF_OK);
    encdiff_model_free(model);
    encdiff_dataset_free(scenes);
    encdiff_trainer_free(t.trainer);
    close_part(&t.part);
}

/* ---- failures, each followed by work that succeeds */

static void expect_usable(part *p)
{
    encdiff_model *model = NULL;
    float scalars[TOKENS];
    static float pixels[SIDE * SIDE * 3];
    encdiff_image_view image = {pixels, ENCDIFF_IMAGE_F32_NCHW, 1, SIDE, SIDE};
    EXPECT(encdiff_model_create(p->context, config, 0, &model) == ENCDIFF_OK);
    EXPECT(encdiff_model_encode(model, &image, scalars, NULL) == ENCDIFF_OK);
    encdiff_model_free(model);
}

static void go_on_after_failures(void)
{
    encdiff_model *model = NULL;
    encdiff_dataset *data = NULL;
    part p;
    open_part(&p);
    EXPECT(encdiff_model_load(p.context, "/no/such/model.safetensors", &model) == ENCDIFF_ERROR_NOT_FOUND && !model);
    EXPECT(strstr(encdiff_context_error(p.context), "/no/such/model.safetensors"));
    expect_usable(&p);
    EXPECT(encdiff_model_load_memory(p.context, "not a model", 11, &model) == ENCDIFF_ERROR_FORMAT && !model);
    expect_usable(&p);
    EXPECT(encdiff_model_create(p.context, "{\"unet\": {\"depth\": 1}}", 0, &model) == ENCDIFF_ERROR_CONFIG && !model);
    EXPECT(strstr(encdiff_context_error(p.context), "depth"));
    expect_usable(&p);
    EXPECT(encdiff_dataset_open(p.context, "procedural:nothing", NULL, &data) == ENCDIFF_ERROR_NOT_FOUND && !data);
    expect_usable(&p);
    EXPECT(encdiff_model_create(p.context, NULL, 0, &model) == ENCDIFF_ERROR_ARGUMENT && !model);
    expect_usable(&p);
    long long before = atomic_load(&p.memory.held);
    for (long long room = 1000; room < 2000000; room *= 3) {
        atomic_store(&p.memory.limit, before + room);
        EXPECT(encdiff_model_create(p.context, "shapes3d-tiny", 0, &model) == ENCDIFF_ERROR_OUT_OF_MEMORY && !model);
        EXPECT(atomic_load(&p.memory.held) == before);
    }
    atomic_store(&p.memory.limit, (long long)1 << 30);
    expect_usable(&p);
    close_part(&p);
}

/* The log of one part is not told what happens in another. */
static void tell_callbacks_apart(void)
{
    encdiff_context_options options;
    encdiff_context *none = NULL;
    part a, b;
    open_part(&a);
    open_part(&b);
    encdiff_context_options_init(&options, sizeof options);
    options.device = "abacus";
    options.log = listen;
    options.log_user = &b;
    EXPECT(encdiff_context_create(&options, &none) == ENCDIFF_ERROR_ARGUMENT && !none);
    EXPECT(a.messages == 0 && b.messages == 1 && strstr(b.last, "abacus"));
    close_part(&b);
    close_part(&a);
}

int main(void)
{
    EXPECT(encdiff_abi_version() == ENCDIFF_ABI_MAJOR);
    EXPECT(strcmp(encdiff_version(), ENCDIFF_VERSION_STRING) == 0);
    tell_callbacks_apart();
    go_on_after_failures();
    share_a_model_among_threads();
    stop_training_from_another_thread();
    printf("host: %s\n", failures ? "failed" : "ok");
    return failures ? 1 : 0;
}
