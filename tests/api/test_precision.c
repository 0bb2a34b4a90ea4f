/* bf16 activations: near f32, with the same bits every time, in less memory, and with the same files. */
#include "api.h"

enum { IMAGES = 6 };

/* A context of a precision with a model on it, whose parameters are the same in both. */
typedef struct side {
    counted_memory memory;
    encdiff_context *context;
    encdiff_model *model;
} side;

static void begin(side *s, const char *config, int32_t threads, encdiff_precision precision)
{
    s->context = open_context_in(&s->memory, threads, precision);
    s->model = make_awake_model(s->context, config);
}

static void end(side *s)
{
    encdiff_model_free(s->model);
    close_context(s->context, &s->memory);
}

/* |a - b| / |b| */
static double relative(const float *a, const float *b, size_t count)
{
    double off = 0, size = 0;
    for (size_t i = 0; i < count; i++) {
        off += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        size += (double)b[i] * b[i];
    }
    return sqrt(off / size);
}

/*
 * Some ten operators, each of which rounds to 2^-9, one after another: independent errors add up to about 1e-2. Exactly
 * equal would say that nothing was rounded.
 */
static void check_near(const char *what, const float *bf16, const float *f32, size_t count)
{
    double error = relative(bf16, f32, count);
    CHECK_THAT(error > 1e-5 && error < 2e-2, "%s in bf16 is off by %.3g", what, error);
}

/* ---------------------------------------------------------------- inference */

typedef struct results {
    float scalars[IMAGES * TOKENS], tokens[IMAGES * TOKENS * TOKEN_DIM], noise[IMAGES * LATENT];
} results;

static void infer(int32_t threads, int32_t n, encdiff_precision precision, results *r)
{
    static float pixels[IMAGES * PIXELS], latents[IMAGES * LATENT], tokens[IMAGES * TOKENS * TOKEN_DIM];
    static const int32_t timesteps[IMAGES] = {0, 10, 100, 500, 700, 999};
    side s;
    begin(&s, TINY, threads, precision);
    fill_floats(pixels, IMAGES * PIXELS, 1);
    fill_floats(latents, IMAGES * LATENT, 2);
    fill_floats(tokens, IMAGES * TOKENS * TOKEN_DIM, 3);
    encdiff_image_view images = view_f32(pixels, n);
    OK(s.context, encdiff_model_encode(s.model, &images, r->scalars, r->tokens));
    OK(s.context, encdiff_model_predict_noise(s.model, n, latents, timesteps, tokens, r->noise));
    end(&s);
}

static void inference_is_near_f32(void)
{
    static results f32, bf16;
    infer(2, IMAGES, ENCDIFF_PRECISION_F32, &f32);
    infer(2, IMAGES, ENCDIFF_PRECISION_BF16, &bf16);
    check_near("the scalars", bf16.scalars, f32.scalars, IMAGES * TOKENS);
    check_near("the tokens", bf16.tokens, f32.tokens, IMAGES * TOKENS * TOKEN_DIM);
    check_near("the predicted noise", bf16.noise, f32.noise, IMAGES * LATENT);
}

static void runs_are_the_same_bits(void)
{
    static results once, again;
    infer(2, IMAGES, ENCDIFF_PRECISION_BF16, &once);
    infer(2, IMAGES, ENCDIFF_PRECISION_BF16, &again);
    CHECK(memcmp(&once, &again, sizeof once) == 0);
}

/* Where threads share one image, and where a batch is dealt out: the same but for roundings that fall the other way. */
static void few_images_on_many_threads_are_as_in_a_batch(void)
{
    static results batch, few;
    infer(1, IMAGES, ENCDIFF_PRECISION_BF16, &batch);
    for (int32_t threads = 2; threads <= 4; threads++) {
        infer(threads, 1, ENCDIFF_PRECISION_BF16, &few);
        double scalars = relative(few.scalars, batch.scalars, TOKENS), noise = relative(few.noise, batch.noise, LATENT);
        CHECK_THAT(scalars < 1e-2 && noise < 1e-2, "%d threads: %.3g, %.3g", (int)threads, scalars, noise);
    }
}

static void pictures_pass_through_the_autoencoder(void)
{
    static float pixels[2 * PIXELS], latents[2][2 * 3 * 8 * 8], decoded[2][2 * PIXELS];
    fill_floats(pixels, 2 * PIXELS, 4);
    encdiff_image_view images = view_f32(pixels, 2);
    for (int i = 0; i < 2; i++) {
        side s;
        begin(&s, TINY_VQ, 2, i ? ENCDIFF_PRECISION_BF16 : ENCDIFF_PRECISION_F32);
        encdiff_image_view out = view_f32(decoded[i], 2);
        OK(s.context, encdiff_model_latents_from_images(s.model, &images, latents[i]));
        OK(s.context, encdiff_model_images_from_latents(s.model, latents[0], ENCDIFF_OFF, &out));
        end(&s);
    }
    check_near("the latents", latents[1], latents[0], sizeof latents[0] / sizeof(float));
    check_near("the pictures", decoded[1], decoded[0], 2 * PIXELS);
}

/* ---------------------------------------------------------------- training */

typedef struct training {
    side side;
    encdiff_dataset *data;
    encdiff_trainer *trainer;
} training;

static void begin_training(training *t, encdiff_precision precision)
{
    encdiff_trainer_options options;
    encdiff_trainer_options_init(&options, sizeof options);
    begin(&t->side, TINY, 2, precision);
    t->data = open_shapes(t->side.context, "procedural:shapes3d[0:50]");
    OK(t->side.context, encdiff_trainer_create(t->side.model, t->data, &options, &t->trainer));
}

static void end_training(training *t)
{
    encdiff_trainer_free(t->trainer);
    encdiff_dataset_free(t->data);
    end(&t->side);
}

static double step(training *t)
{
    encdiff_train_report report = {.struct_size = sizeof report};
    OK(t->side.context, encdiff_trainer_step(t->trainer, &report));
    return report.loss;
}

static void losses_are_near_those_of_f32(void)
{
    training f32, bf16;
    double means[2] = {0};
    begin_training(&f32, ENCDIFF_PRECISION_F32);
    begin_training(&bf16, ENCDIFF_PRECISION_BF16);
    for (int i = 0; i < 30; i++) {
        double a = step(&f32), b = step(&bf16);
        if (i == 0) CHECK_THAT(fabs(a - b) > 0 && fabs(a - b) < 2e-3 * a, "first losses %.6g and %.6g", a, b);
        CHECK_THAT(fabs(a - b) < 3e-2 * a, "step %d: losses %.6g and %.6g", i, a, b);
        means[0] += a / 30, means[1] += b / 30;
    }
    CHECK_THAT(fabs(means[0] - means[1]) < 1e-2 * means[0], "mean losses %.6g and %.6g", means[0], means[1]);
    end_training(&bf16);
    end_training(&f32);
}

/* Parameters, moments and averages are f32, so that a checkpoint holds all there is. */
static void training_resumes_bit_for_bit(void)
{
    const char *path = temporary("precision");
    char command[PATH_MAX + 16];
    training a, b;
    double losses[6];
    begin_training(&a, ENCDIFF_PRECISION_BF16);
    for (int i = 0; i < 6; i++) {
        if (i == 3) OK(a.side.context, encdiff_trainer_save(a.trainer, path));
        losses[i] = step(&a);
    }
    begin_training(&b, ENCDIFF_PRECISION_BF16);
    OK(b.side.context, encdiff_trainer_resume(b.trainer, path));
    for (int i = 3; i < 6; i++) CHECK_THAT(step(&b) == losses[i], "step %d differs after resuming", i + 1);
    CHECK(same_parameters(a.side.context, a.side.model, b.side.model));
    end_training(&b);
    end_training(&a);
    snprintf(command, sizeof command, "rm -r '%s'", path);
    CHECK_EQUAL(system(command), 0);
}

/* ---------------------------------------------------------------- memory */

static void the_arena_of_a_run_is_smaller(void)
{
    uint64_t bytes[2] = {0};
    for (int i = 0; i < 2; i++) {
        side s;
        begin(&s, "{}", 1, i ? ENCDIFF_PRECISION_BF16 : ENCDIFF_PRECISION_F32);
        OK(s.context, encdiff_model_get_memory(s.model, ENCDIFF_RUN_PREDICT, 8, &bytes[i]));
        end(&s);
    }
    CHECK_THAT(bytes[1] < 0.8 * (double)bytes[0], "%llu bytes in bf16, %llu in f32", (unsigned long long)bytes[1],
               (unsigned long long)bytes[0]);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        TEST(inference_is_near_f32),
        TEST(runs_are_the_same_bits),
        TEST(few_images_on_many_threads_are_as_in_a_batch),
        TEST(pictures_pass_through_the_autoencoder),
        TEST(losses_are_near_those_of_f32),
        TEST(training_resumes_bit_for_bit),
        TEST(the_arena_of_a_run_is_smaller),
    };
    return test_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
