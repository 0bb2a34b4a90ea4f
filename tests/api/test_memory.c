/*
 * Memory that fails and memory that is not asked for. For everything that takes memory: the n-th allocation fails, for
 * n from the first to the last; each time there is a status, nothing is lost, and the context works on.
 */
#include "api.h"

enum { N = 2, POINTS = 16 }; /* failures tried of each action, spread over its allocations */

/* What actions work on, made before memory fails. */
typedef struct scene {
    counted_memory memory;
    encdiff_context *context;
    encdiff_model *model;
    encdiff_dataset *data;
    encdiff_trainer *trainer;
    encdiff_sampler *sampler;
    void *saved;
    size_t saved_size;
    float pixels[N * PIXELS], noise[N * LATENT], tokens[N * TOKENS * TOKEN_DIM], out[N * PIXELS];
    encdiff_image_view images, result;
} scene;

typedef encdiff_status action(scene *s);

static void open_scene(scene *s)
{
    encdiff_sampler_options options;
    encdiff_sampler_options_init(&options, sizeof options);
    options.steps = 2;
    s->context = open_context(&s->memory, 2);
    s->model = make_model(s->context, TINY, 0);
    s->data = open_shapes(s->context, "procedural:shapes3d[0:64]");
    OK(s->context, encdiff_trainer_create(s->model, s->data, NULL, &s->trainer));
    OK(s->context, encdiff_sampler_create(s->model, &options, &s->sampler));
    OK(s->context, encdiff_model_save_memory(s->model, &s->saved, &s->saved_size));
    fill_floats(s->pixels, N * PIXELS, 1);
    fill_floats(s->noise, N * LATENT, 2);
    fill_floats(s->tokens, N * TOKENS * TOKEN_DIM, 3);
    s->images = view_f32(s->pixels, N);
    s->result = view_f32(s->out, N);
}

static void close_scene(scene *s)
{
    encdiff_context_release(s->context, s->saved);
    encdiff_sampler_free(s->sampler);
    encdiff_trainer_free(s->trainer);
    encdiff_dataset_free(s->data);
    encdiff_model_free(s->model);
    close_context(s->context, &s->memory);
}

/* ---------------------------------------------------------------- actions; each gives back what it was given */

static encdiff_status create_model(scene *s)
{
    encdiff_model *model = NULL;
    encdiff_status status = encdiff_model_create(s->context, TINY_VQ, 1, &model);
    CHECK((status == ENCDIFF_OK) == (model != NULL));
    encdiff_model_free(model);
    return status;
}

static encdiff_status load_model(scene *s)
{
    encdiff_model *model = NULL;
    encdiff_status status = encdiff_model_load_memory(s->context, s->saved, s->saved_size, &model);
    CHECK((status == ENCDIFF_OK) == (model != NULL));
    encdiff_model_free(model);
    return status;
}

static encdiff_status save_model(scene *s)
{
    void *data = NULL;
    size_t size;
    encdiff_status status = encdiff_model_save_memory(s->model, &data, &size);
    encdiff_context_release(s->context, data);
    return status;
}

static encdiff_status resolve(scene *s)
{
    static const char *const overrides[] = {"unet.num_heads=4"};
    char *json = NULL;
    encdiff_status status = encdiff_config_resolve(s->context, "shapes3d-tiny", overrides, 1, &json);
    CHECK((status == ENCDIFF_OK) == (json != NULL));
    encdiff_context_release(s->context, json);
    return status;
}

/* Onto a context whose memory fails too. */
static encdiff_status share_model(scene *s)
{
    encdiff_context *other = NULL;
    encdiff_model *shared = NULL;
    encdiff_context_options options;
    encdiff_context_options_init(&options, sizeof options);
    options.threads = 1;
    options.allocate = counted_allocate;
    options.deallocate = counted_deallocate;
    options.allocator_user = &s->memory;
    encdiff_trainer_free(s->trainer);
    s->trainer = NULL;
    encdiff_status status = encdiff_context_create(&options, &other);
    if (status == ENCDIFF_OK) status = encdiff_model_share(s->model, other, &shared);
    CHECK((status == ENCDIFF_OK) == (shared != NULL));
    encdiff_model_free(shared);
    encdiff_context_free(other);
    return status;
}

static encdiff_status encode(scene *s) { return encdiff_model_encode(s->model, &s->images, NULL, s->out); }

static encdiff_status decode(scene *s)
{
    return encdiff_model_images_from_latents(s->model, s->noise, ENCDIFF_DEFAULT, &s->result);
}

static encdiff_status predict(scene *s)
{
    static const int32_t timesteps[N] = {3, 700};
    return encdiff_model_predict_noise(s->model, N, s->noise, timesteps, s->tokens, s->out);
}

static encdiff_status plan(scene *s)
{
    char *json = NULL;
    encdiff_status status = encdiff_model_get_plan(s->model, ENCDIFF_RUN_TRAIN_ENCDIFF, 4, &json);
    CHECK((status == ENCDIFF_OK) == (json != NULL));
    encdiff_context_release(s->context, json);
    return status;
}

static encdiff_status open_data(scene *s)
{
    encdiff_dataset *data = NULL, *shuffled = NULL, *first = NULL, *second = NULL;
    encdiff_dataset_options options;
    encdiff_dataset_options_init(&options, sizeof options);
    options.height = SIDE;
    encdiff_status status = encdiff_dataset_open(s->context, "procedural:shapes3d[0:8]", &options, &data);
    if (status == ENCDIFF_OK) status = encdiff_dataset_shuffle(data, 1, &shuffled);
    if (status == ENCDIFF_OK) status = encdiff_dataset_split(shuffled, 3, 1, &first, &second);
    if (status == ENCDIFF_OK) status = encdiff_dataset_read(second, NULL, &s->result);
    CHECK((status == ENCDIFF_OK) == (second != NULL) || first);
    encdiff_dataset_free(data);
    encdiff_dataset_free(shuffled);
    encdiff_dataset_free(first);
    encdiff_dataset_free(second);
    return status;
}

static encdiff_status create_trainer(scene *s)
{
    encdiff_trainer_free(s->trainer);
    s->trainer = NULL;
    return encdiff_trainer_create(s->model, s->data, NULL, &s->trainer);
}

static encdiff_status train(scene *s) { return encdiff_trainer_step(s->trainer, NULL); }

static encdiff_status evaluate(scene *s) { return encdiff_trainer_evaluate(s->trainer, &s->images, NULL, NULL, NULL); }

static encdiff_status create_sampler(scene *s)
{
    encdiff_sampler *sampler = NULL;
    encdiff_status status = encdiff_sampler_create(s->model, NULL, &sampler);
    encdiff_sampler_free(sampler);
    return status;
}

static encdiff_status swap(scene *s)
{
    static const int32_t concept = 1;
    return encdiff_sampler_swap(s->sampler, &s->images, &s->images, &concept, 1, s->noise, &s->result, NULL, NULL);
}

static encdiff_status traverse(scene *s)
{
    static const float values[N] = {-1, 1};
    encdiff_image_view one = view_f32(s->pixels, 1);
    return encdiff_sampler_traverse(s->sampler, &one, 0, values, N, NULL, &s->result, NULL, NULL);
}

static encdiff_status attend(scene *s)
{
    return encdiff_sampler_attention(s->sampler, N, s->tokens, NULL, 4, 4, s->out, NULL, NULL, NULL);
}

static encdiff_status invert(scene *s)
{
    return encdiff_sampler_invert(s->sampler, &s->images, NULL, s->out, NULL, NULL);
}

static encdiff_status score(scene *s)
{
    static float codes[200][3];
    static int32_t factors[200][2];
    encdiff_codes all = {&codes[0][0], &factors[0][0], 200, 3, 1, 2, 0};
    encdiff_metrics_options options;
    encdiff_scores *scores = NULL;
    encdiff_metrics_options_init(&options, sizeof options);
    options.metrics = "factor_vae,mig,modularity,irs";
    options.train_samples = options.test_samples = 100;
    fill_floats(&codes[0][0], 600, 1);
    for (int i = 0; i < 200; i++) factors[i][0] = i % 3, factors[i][1] = i / 3 % 4;
    encdiff_status status = encdiff_metrics_from_codes(s->context, &all, NULL, &options, &scores, NULL, NULL);
    CHECK((status == ENCDIFF_OK) == (scores != NULL));
    encdiff_scores_free(scores);
    return status;
}

static encdiff_status write_picture(scene *s)
{
    const char *path = temporary("memory.png");
    encdiff_status status = encdiff_image_write_grid(s->context, path, &s->images, NULL);
    unlink(path);
    return status;
}

static encdiff_status array_file(scene *s)
{
    const char *path = temporary("memory.npy");
    encdiff_array array = {.data = s->pixels, .type = ENCDIFF_TYPE_F32, .rank = 1, .shape = {PIXELS}}, read = {0};
    encdiff_status status = encdiff_array_write(s->context, path, &array);
    if (status == ENCDIFF_OK) status = encdiff_array_read(s->context, path, NULL, ENCDIFF_TYPE_F64, &read);
    encdiff_context_release(s->context, read.data);
    unlink(path);
    return status;
}

/* ---------------------------------------------------------------- failures */

static long calls_of(action *run)
{
    static scene s;
    open_scene(&s);
    long before = atomic_load(&s.memory.calls);
    OK(s.context, run(&s));
    long calls = atomic_load(&s.memory.calls) - before;
    close_scene(&s);
    return calls;
}

static void fail_at(action *run, const char *name, long call, bool once)
{
    static scene s;
    open_scene(&s);
    atomic_store(&s.memory.fail_once, once);
    atomic_store(&s.memory.fail_from, atomic_load(&s.memory.calls) + call);
    encdiff_status status = run(&s);
    atomic_store(&s.memory.fail_from, 0);
    /* Success is possible: what was asked for ahead of its use, or by a thread that reads ahead, may not be needed. */
    if (status != ENCDIFF_OK)
        CHECK_THAT(status == ENCDIFF_ERROR_OUT_OF_MEMORY, "%s, allocation %ld: %s: %s", name, call,
                   encdiff_status_name(status), encdiff_context_error(s.context));
    if (!s.trainer) OK(s.context, encdiff_trainer_create(s.model, s.data, NULL, &s.trainer));
    status = run(&s);
    if (status == ENCDIFF_ERROR_OUT_OF_MEMORY) status = run(&s); /* a batch read ahead had failed */
    CHECK_THAT(status == ENCDIFF_OK, "%s after allocation %ld failed: %s", name, call,
               encdiff_context_error(s.context));
    close_scene(&s);
}

static void sweep(action *run, const char *name)
{
    long calls = calls_of(run);
    CHECK_THAT(calls > 0, "%s takes no memory", name);
    long stride = calls / POINTS + 1;
    for (long call = 1; call <= calls; call += stride) fail_at(run, name, call, call / stride % 2 == 1);
}

#define SWEEP(ACTION)                                                                                                  \
    static void ACTION##_without_memory(void) { sweep(ACTION, #ACTION); }
SWEEP(create_model)
SWEEP(load_model)
SWEEP(save_model)
SWEEP(resolve)
SWEEP(share_model)
SWEEP(encode)
SWEEP(decode)
SWEEP(predict)
SWEEP(plan)
SWEEP(open_data)
SWEEP(create_trainer)
SWEEP(train)
SWEEP(evaluate)
SWEEP(create_sampler)
SWEEP(swap)
SWEEP(traverse)
SWEEP(attend)
SWEEP(invert)
SWEEP(score)
SWEEP(write_picture)
SWEEP(array_file)

/* ---------------------------------------------------------------- memory that is not asked for */

static uint64_t allocations(const scene *s)
{
    encdiff_memory_info info = {.struct_size = sizeof info};
    OK(s->context, encdiff_context_get_memory(s->context, &info));
    return info.allocations;
}

/* Each is run six times, of which the last four take nothing. */
static void runs_after_the_first_take_no_memory(void)
{
    static scene s;
    static const struct {
        const char *name;
        action *run;
    } actions[] = {
        {"encode", encode}, {"decode", decode},     {"predict", predict},
        {"swap", swap},     {"traverse", traverse}, {"invert", invert},
    };
    open_scene(&s);
    for (size_t i = 0; i < sizeof actions / sizeof *actions; i++) {
        uint64_t before = 0;
        for (int k = 0; k < 6; k++) {
            if (k == 2) before = allocations(&s);
            OK(s.context, actions[i].run(&s));
        }
        CHECK_THAT(allocations(&s) == before, "%s: %lld allocations in four runs", actions[i].name,
                   (long long)(allocations(&s) - before));
    }
    uint64_t before = 0;
    for (int k = 0; k < 4; k++) {
        if (k == 2) before = allocations(&s);
        OK(s.context, encdiff_trainer_step_given(s.trainer, &s.images, NULL, s.noise, NULL));
    }
    CHECK_EQUAL(allocations(&s), before);
    close_scene(&s);
}

/* Scenes rendered at their own size, read ahead by threads of the trainer: steps 3 to 6 take nothing. */
static void training_steps_take_no_memory(void)
{
    static const char *const overrides[] = {"image.resolution=64", "train_encdiff.batch_size=2"};
    static scene s;
    char *json = NULL;
    uint64_t before = 0;
    s.context = open_context(&s.memory, 2);
    s.trainer = NULL;
    s.data = NULL;
    OK(s.context, encdiff_config_resolve(s.context, TINY, overrides, 2, &json));
    s.model = make_model(s.context, json, 0);
    encdiff_context_release(s.context, json);
    OK(s.context, encdiff_dataset_open(s.context, "procedural:shapes3d", NULL, &s.data));
    OK(s.context, encdiff_trainer_create(s.model, s.data, NULL, &s.trainer));
    for (int k = 0; k < 6; k++) {
        if (k == 2) before = allocations(&s);
        OK(s.context, train(&s));
    }
    CHECK_EQUAL(allocations(&s), before);
    encdiff_trainer_free(s.trainer);
    encdiff_dataset_free(s.data);
    encdiff_model_free(s.model);
    close_context(s.context, &s.memory);
}

/* ---------------------------------------------------------------- memory that is traded for time */

/* What a model makes of the scene's numbers. */
typedef struct outcome {
    double losses[3];
    float tokens[N * TOKENS * TOKEN_DIM], noise[N * LATENT];
} outcome;

/* Three steps of training, with recomputation or without. */
static void train_with(const char *recompute, encdiff_precision precision, outcome *out)
{
    static const int32_t timesteps[N] = {3, 700};
    static scene s;
    char *json = NULL;
    encdiff_train_report report = {.struct_size = sizeof report};
    s.context = open_context_in(&s.memory, 2, precision);
    fill_floats(s.pixels, N * PIXELS, 1);
    fill_floats(s.noise, N * LATENT, 2);
    fill_floats(s.tokens, N * TOKENS * TOKEN_DIM, 3);
    s.images = view_f32(s.pixels, N);
    OK(s.context, encdiff_config_resolve(s.context, TINY, &recompute, 1, &json));
    s.model = make_model(s.context, json, 0);
    encdiff_context_release(s.context, json);
    s.data = open_shapes(s.context, "procedural:shapes3d[0:64]");
    OK(s.context, encdiff_trainer_create(s.model, s.data, NULL, &s.trainer));
    for (int k = 0; k < 3; k++) {
        OK(s.context, encdiff_trainer_step(s.trainer, &report));
        out->losses[k] = report.loss;
    }
    OK(s.context, encdiff_model_encode(s.model, &s.images, NULL, out->tokens));
    OK(s.context, encdiff_model_predict_noise(s.model, N, s.noise, timesteps, s.tokens, out->noise));
    encdiff_trainer_free(s.trainer);
    encdiff_dataset_free(s.data);
    encdiff_model_free(s.model);
    close_context(s.context, &s.memory);
}

static void recomputation_has_the_same_bits(void)
{
    static const encdiff_precision precisions[] = {ENCDIFF_PRECISION_F32, ENCDIFF_PRECISION_BF16};
    static outcome kept, again;
    for (int i = 0; i < 2; i++) {
        train_with("train_encdiff.recompute=false", precisions[i], &kept);
        train_with("train_encdiff.recompute=true", precisions[i], &again);
        CHECK(memcmp(&kept, &again, sizeof kept) == 0);
        CHECK_NEAR(kept.losses[2], again.losses[2], 0, "the same operators of the same operands");
    }
}

/* Bytes of the U-Net's arena in a training step of eight images. */
static double unet_arena(encdiff_context *context, const char *recompute)
{
    encdiff_model *model = NULL;
    char *config = NULL, *plan = NULL;
    double bytes = 0;
    OK(context, encdiff_config_resolve(context, "shapes3d-official", &recompute, 1, &config));
    OK(context, encdiff_model_create(context, config, 0, &model));
    OK(context, encdiff_model_get_plan(model, ENCDIFF_RUN_TRAIN_ENCDIFF, 8, &plan));
    for (const char *at = plan; at && (at = strstr(at, "\"arena\":")); at++) bytes = atof(at + 8); /* the second */
    encdiff_context_release(context, plan);
    encdiff_context_release(context, config);
    encdiff_model_free(model);
    return bytes;
}

static void recomputation_halves_the_activations(void)
{
    counted_memory memory;
    encdiff_context *context = open_context(&memory, 1);
    double kept = unet_arena(context, "train_encdiff.recompute=false");
    double again = unet_arena(context, "train_encdiff.recompute=true");
    CHECK(kept > 0 && again > 0);
    CHECK_THAT(again <= kept / 2, "%.0f bytes instead of %.0f", again, kept);
    close_context(context, &memory);
}

/* Everything given back: the same use ten times holds as much as twice. The trainer's threads read ahead, and each may
 * be holding a block of its own at the moment. */
static void use_does_not_grow_with_time(void)
{
    static scene s;
    long held = 0;
    open_scene(&s);
    for (int round = 0; round < 10; round++) {
        OK(s.context, create_model(&s));
        OK(s.context, encode(&s));
        OK(s.context, train(&s));
        OK(s.context, swap(&s));
        OK(s.context, attend(&s));
        OK(s.context, score(&s));
        OK(s.context, plan(&s));
        if (round == 1) held = atomic_load(&s.memory.blocks);
    }
    CHECK_NEAR((double)atomic_load(&s.memory.blocks), (double)held, 4, "a leak would be eight blocks or more");
    close_scene(&s);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        TEST(create_model_without_memory),
        TEST(load_model_without_memory),
        TEST(save_model_without_memory),
        TEST(resolve_without_memory),
        TEST(share_model_without_memory),
        TEST(encode_without_memory),
        TEST(decode_without_memory),
        TEST(predict_without_memory),
        TEST(plan_without_memory),
        TEST(open_data_without_memory),
        TEST(create_trainer_without_memory),
        TEST(train_without_memory),
        TEST(evaluate_without_memory),
        TEST(create_sampler_without_memory),
        TEST(swap_without_memory),
        TEST(traverse_without_memory),
        TEST(attend_without_memory),
        TEST(invert_without_memory),
        TEST(score_without_memory),
        TEST(write_picture_without_memory),
        TEST(array_file_without_memory),
        TEST(runs_after_the_first_take_no_memory),
        TEST(training_steps_take_no_memory),
        TEST(use_does_not_grow_with_time),
        TEST(recomputation_has_the_same_bits),
        TEST(recomputation_halves_the_activations),
    };
    return test_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
