/* Sampling and editing: what each result depends on, the identities that edits keep, progress and stopping. */
#include "api.h"

enum { N = 3, STEPS = 5, TOKEN_FLOATS = TOKENS * TOKEN_DIM };

/* A model whose every part has an effect, a sampler on it, images and noise. */
typedef struct bench {
    counted_memory memory;
    encdiff_context *context;
    encdiff_model *model;
    encdiff_sampler *sampler;
    float pixels[N * PIXELS], scalars[N * TOKENS], tokens[N * TOKEN_FLOATS], noise[N * LATENT];
    encdiff_image_view images;
} bench;

static encdiff_sampler_options default_options(void)
{
    encdiff_sampler_options options;
    encdiff_sampler_options_init(&options, sizeof options);
    options.steps = STEPS;
    return options;
}

static void set_sampler(bench *b, const encdiff_sampler_options *options)
{
    encdiff_sampler_free(b->sampler);
    b->sampler = NULL;
    OK(b->context, encdiff_sampler_create(b->model, options, &b->sampler));
}

static bench *begin(void)
{
    static bench b;
    encdiff_sampler_options options = default_options();
    b.context = open_context(&b.memory, 2);
    b.model = make_awake_model(b.context, TINY);
    b.sampler = NULL;
    b.images = view_f32(b.pixels, N);
    fill_floats(b.pixels, N * PIXELS, 1);
    fill_floats(b.noise, N * LATENT, 2);
    OK(b.context, encdiff_model_encode(b.model, &b.images, b.scalars, b.tokens));
    set_sampler(&b, &options);
    return &b;
}

static void end(bench *b)
{
    encdiff_sampler_free(b->sampler);
    encdiff_model_free(b->model);
    close_context(b->context, &b->memory);
}

static void sample(bench *b, int32_t n, const float *tokens, const float *x_T, float *latents)
{
    OK(b->context, encdiff_sampler_sample(b->sampler, n, tokens, x_T, NULL, latents, NULL, NULL, NULL));
}

/* ---------------------------------------------------------------- noise and seeds */

static void results_follow_from_tokens_noise_and_seed(void)
{
    bench *b = begin();
    encdiff_sampler_options options = default_options();
    float first[N * LATENT], again[N * LATENT], other[N * LATENT];
    sample(b, N, b->tokens, b->noise, first);
    sample(b, N, b->tokens, b->noise, again);
    CHECK(memcmp(first, again, sizeof first) == 0);
    sample(b, N, b->tokens, NULL, other); /* drawn from the seed */
    CHECK(largest_difference(first, other, N * LATENT) > 1e-3);
    sample(b, N, b->tokens, NULL, again);
    CHECK(memcmp(other, again, sizeof other) == 0);
    CHECK(largest_difference(other, other + LATENT, LATENT) > 1e-3); /* each image has noise of its own */
    set_sampler(b, &options);
    sample(b, N, b->tokens, NULL, again);
    CHECK(memcmp(other, again, sizeof other) == 0); /* the same seed in another sampler */
    sample(b, 1, b->tokens, NULL, again);
    CHECK_NEAR(relative_difference(other, again, LATENT), 0, 1e-5, "the noise of an image does not depend on n");
    options.seed = 9;
    set_sampler(b, &options);
    sample(b, N, b->tokens, NULL, again);
    CHECK(largest_difference(other, again, N * LATENT) > 1e-3);
    sample(b, N, b->tokens, b->noise, again); /* given noise leaves nothing to the seed: eta is 0 */
    CHECK(memcmp(first, again, sizeof first) == 0);
    end(b);
}

static void every_method_samples(void)
{
    static const int32_t methods[] = {ENCDIFF_SAMPLER_DDIM, ENCDIFF_SAMPLER_PLMS, ENCDIFF_SAMPLER_DPM_SOLVER_PP};
    float latents[3][N * LATENT];
    bench *b = begin();
    for (int k = 0; k < 3; k++) {
        encdiff_sampler_options options = default_options();
        options.method = methods[k];
        set_sampler(b, &options);
        sample(b, N, b->tokens, b->noise, latents[k]);
        for (int i = 0; i < N * LATENT; i++)
            if (!CHECK(isfinite(latents[k][i]))) break;
        if (k) CHECK(largest_difference(latents[0], latents[k], N * LATENT) > 1e-6);
    }
    end(b);
}

/* Every (timesteps / steps)-th timestep is taken, from the second one on, as published. */
static void the_number_of_steps_is_told(void)
{
    static const int32_t asked[] = {1, 5, 6, 300, 1000}, taken[] = {1, 5, 7, 333, 999};
    static float step_noise[7 * N * LATENT];
    float latents[N * LATENT];
    bench *b = begin();
    encdiff_sampler_options options = default_options();
    for (size_t i = 0; i < sizeof asked / sizeof asked[0]; i++) {
        options.steps = asked[i];
        set_sampler(b, &options);
        CHECK_EQUAL(encdiff_sampler_step_count(b->sampler), taken[i]);
    }
    options.steps = 6;
    options.eta = 1;
    set_sampler(b, &options);
    fill_floats(step_noise, 7 * N * LATENT, 4);
    OK(b->context, encdiff_sampler_sample(b->sampler, N, b->tokens, b->noise, step_noise, latents, NULL, NULL, NULL));
    CHECK_EQUAL(encdiff_sampler_step_count(NULL), 0);
    end(b);
}

static void ddpm_takes_every_timestep(void)
{
    static const char *const overrides[] = {"diffusion.timesteps=12", "train_encdiff.ddim_steps=4"};
    counted_memory memory;
    encdiff_context *context = open_context(&memory, 1);
    encdiff_sampler_options options = default_options();
    encdiff_sampler *sampler = NULL;
    char *json = NULL;
    float tokens[TOKEN_FLOATS], a[LATENT], c[LATENT], step_noise[12 * LATENT];
    fill_floats(tokens, TOKEN_FLOATS, 0);
    OK(context, encdiff_config_resolve(context, TINY, overrides, 2, &json));
    encdiff_model *model = make_awake_model(context, json);
    encdiff_context_release(context, json);
    options.method = ENCDIFF_SAMPLER_DDPM;
    FAILS(context, encdiff_sampler_create(model, &options, &sampler), ENCDIFF_ERROR_ARGUMENT, "5");
    CHECK(!sampler);
    options.steps = 0;
    OK(context, encdiff_sampler_create(model, &options, &sampler));
    OK(context, encdiff_sampler_sample(sampler, 1, tokens, NULL, NULL, a, NULL, NULL, NULL));
    OK(context, encdiff_sampler_sample(sampler, 1, tokens, NULL, NULL, c, NULL, NULL, NULL));
    CHECK(memcmp(a, c, sizeof a) == 0); /* noise of the steps is drawn from the seed too */
    fill_floats(step_noise, 12 * LATENT, 3);
    OK(context, encdiff_sampler_sample(sampler, 1, tokens, NULL, step_noise, c, NULL, NULL, NULL));
    CHECK(largest_difference(a, c, LATENT) > 1e-4);
    encdiff_sampler_free(sampler);
    encdiff_model_free(model);
    close_context(context, &memory);
}

static void eta_reads_the_step_noise(void)
{
    bench *b = begin();
    encdiff_sampler_options options = default_options();
    static float step_noise[STEPS * N * LATENT];
    float plain[N * LATENT], given[N * LATENT], again[N * LATENT];
    fill_floats(step_noise, STEPS * N * LATENT, 7);
    sample(b, N, b->tokens, b->noise, plain);
    OK(b->context, encdiff_sampler_sample(b->sampler, N, b->tokens, b->noise, step_noise, given, NULL, NULL, NULL));
    CHECK(memcmp(plain, given, sizeof plain) == 0); /* not read by deterministic samplers */
    options.eta = 1;
    set_sampler(b, &options);
    OK(b->context, encdiff_sampler_sample(b->sampler, N, b->tokens, b->noise, step_noise, given, NULL, NULL, NULL));
    OK(b->context, encdiff_sampler_sample(b->sampler, N, b->tokens, b->noise, step_noise, again, NULL, NULL, NULL));
    CHECK(memcmp(given, again, sizeof given) == 0);
    CHECK(largest_difference(plain, given, N * LATENT) > 1e-3);
    step_noise[0] = NAN;
    FAILS(b->context, encdiff_sampler_sample(b->sampler, N, b->tokens, b->noise, step_noise, again, NULL, NULL, NULL),
          ENCDIFF_ERROR_NUMERIC, "");
    sample(b, N, b->tokens, b->noise, again);
    end(b);
}

static void images_are_the_decoded_latents(void)
{
    bench *b = begin();
    float latents[N * LATENT];
    static float images[N * PIXELS], decoded[N * PIXELS];
    encdiff_image_view out = view_f32(images, N), expected = view_f32(decoded, N);
    OK(b->context, encdiff_sampler_sample(b->sampler, N, b->tokens, b->noise, NULL, latents, &out, NULL, NULL));
    OK(b->context, encdiff_model_images_from_latents(b->model, latents, ENCDIFF_DEFAULT, &expected));
    CHECK_NEAR(largest_difference(images, decoded, N * PIXELS), 0, 1e-6, "the same decoder");
    end(b);
}

/* ---------------------------------------------------------------- edits */

static void reconstruct(bench *b, const float *x_T, float *pixels)
{
    encdiff_image_view out = view_f32(pixels, N);
    OK(b->context, encdiff_sampler_reconstruct(b->sampler, &b->images, x_T, &out, NULL, NULL));
}

static void swapping_nothing_reconstructs_and_swapping_all_is_the_other(void)
{
    bench *b = begin();
    static float others[N * PIXELS], plain[N * PIXELS], of_others[N * PIXELS], swapped[N * PIXELS];
    encdiff_image_view other = view_f32(others, N), out = view_f32(swapped, N), second = view_f32(of_others, N);
    static const int32_t all[TOKENS] = {3, 0, 2, 1}, one[] = {2};
    fill_floats(others, N * PIXELS, 9);
    reconstruct(b, b->noise, plain);
    OK(b->context, encdiff_sampler_reconstruct(b->sampler, &other, b->noise, &second, NULL, NULL));
    OK(b->context, encdiff_sampler_swap(b->sampler, &b->images, &other, NULL, 0, b->noise, &out, NULL, NULL));
    CHECK(memcmp(plain, swapped, sizeof plain) == 0);
    OK(b->context, encdiff_sampler_swap(b->sampler, &b->images, &other, all, TOKENS, b->noise, &out, NULL, NULL));
    CHECK(memcmp(of_others, swapped, sizeof plain) == 0);
    OK(b->context, encdiff_sampler_swap(b->sampler, &b->images, &other, one, 1, b->noise, &out, NULL, NULL));
    CHECK(largest_difference(plain, swapped, N * PIXELS) > 1e-7);
    CHECK(largest_difference(of_others, swapped, N * PIXELS) > 1e-7);
    end(b);
}

static void a_concept_at_its_own_value_reconstructs(void)
{
    bench *b = begin();
    static float plain[N * PIXELS], varied[3 * PIXELS], noise[N * LATENT];
    encdiff_image_view image = view_f32(b->pixels, 1), out = view_f32(varied, 3);
    for (int i = 0; i < N; i++) memcpy(noise + i * LATENT, b->noise, LATENT * sizeof *noise);
    reconstruct(b, noise, plain);
    for (int32_t k = 0; k < TOKENS; k++) {
        float values[3] = {b->scalars[k], b->scalars[k] + 3, b->scalars[k]};
        OK(b->context, encdiff_sampler_traverse(b->sampler, &image, k, values, 3, b->noise, &out, NULL, NULL));
        CHECK_NEAR(relative_difference(plain, varied, PIXELS), 0, 1e-5, "tokens of the image's own scalars");
        CHECK_NEAR(relative_difference(varied, varied + 2 * PIXELS, PIXELS), 0, 1e-5, "one noise for every value");
        CHECK_THAT(largest_difference(varied, varied + PIXELS, PIXELS) > 1e-6, "concept %d has no effect", k);
    }
    end(b);
}

static void interpolation_goes_from_one_image_to_the_other(void)
{
    bench *b = begin();
    static float between[3 * PIXELS], plain[N * PIXELS], noise[N * LATENT];
    static const float weights[] = {0, 0.5f, 1};
    encdiff_image_view first = view_f32(b->pixels, 1), second = view_f32(b->pixels + PIXELS, 1),
                       out = view_f32(between, 3);
    for (int i = 0; i < N; i++) memcpy(noise + i * LATENT, b->noise, LATENT * sizeof *noise);
    reconstruct(b, noise, plain);
    OK(b->context, encdiff_sampler_interpolate(b->sampler, &first, &second, weights, 3, b->noise, &out, NULL, NULL));
    CHECK_NEAR(relative_difference(plain, between, PIXELS), 0, 1e-5, "weight 0 is a");
    CHECK_NEAR(relative_difference(plain + PIXELS, between + 2 * PIXELS, PIXELS), 0, 1e-5, "weight 1 is b");
    end(b);
}

/*
 * The image's latents, the noise that leads to them, and where that noise leads: close with enough steps. The model has
 * learnt a little, since a prediction that has nothing to do with the noise makes the equation as good as unsolvable.
 */
static void inversion_comes_back(void)
{
    bench *b = begin();
    encdiff_sampler_options options = default_options();
    encdiff_dataset *data = open_shapes(b->context, "procedural:shapes3d");
    encdiff_trainer *trainer = NULL;
    float latents[N * LATENT], x_T[N * LATENT], back[N * LATENT], other[N * LATENT];
    OK(b->context, encdiff_trainer_create(b->model, data, NULL, &trainer));
    OK(b->context, encdiff_trainer_run(trainer, 30, NULL, NULL));
    OK(b->context, encdiff_model_use_ema(b->model, ENCDIFF_OFF));
    OK(b->context, encdiff_dataset_read(data, (int64_t[N]){0, 100000, 300000}, &b->images));
    OK(b->context, encdiff_model_encode(b->model, &b->images, NULL, b->tokens));
    OK(b->context, encdiff_model_latents_from_images(b->model, &b->images, latents));
    options.steps = 50;
    set_sampler(b, &options);
    OK(b->context, encdiff_sampler_invert(b->sampler, &b->images, b->tokens, x_T, NULL, NULL));
    sample(b, N, b->tokens, x_T, back);
    sample(b, N, b->tokens, b->noise, other);
    double trip = relative_difference(latents, back, N * LATENT),
           elsewhere = relative_difference(latents, other, N * LATENT);
    CHECK_THAT(trip < 0.5 * elsewhere, "the round trip is off by %g, other noise by %g", trip, elsewhere);
    OK(b->context, encdiff_sampler_invert(b->sampler, &b->images, NULL, other, NULL, NULL));
    CHECK_NEAR(largest_difference(x_T, other, N * LATENT), 0, 1e-5, "tokens of the images");
    options.eta = 0.5;
    set_sampler(b, &options);
    FAILS(b->context, encdiff_sampler_invert(b->sampler, &b->images, NULL, x_T, NULL, NULL), ENCDIFF_ERROR_UNSUPPORTED,
          "DDIM");
    encdiff_trainer_free(trainer);
    encdiff_dataset_free(data);
    end(b);
}

static void attention_is_averaged_while_sampling(void)
{
    bench *b = begin();
    static float maps[N * TOKENS * 16], images[N * PIXELS], plain[N * PIXELS];
    encdiff_image_view out = view_f32(images, N);
    OK(b->context, encdiff_sampler_attention(b->sampler, N, b->tokens, b->noise, 4, 4, maps, &out, NULL, NULL));
    for (int i = 0; i < N; i++)
        for (int p = 0; p < 16; p++) {
            double sum = 0;
            for (int t = 0; t < TOKENS; t++) sum += (double)maps[(i * TOKENS + t) * 16 + p];
            CHECK_NEAR(sum, 1, 1e-5, "a mean of softmaxes");
        }
    reconstruct(b, b->noise, plain);
    CHECK_NEAR(relative_difference(plain, images, N * PIXELS), 0, 1e-5, "maps are a by-product");
    OK(b->context, encdiff_sampler_attention(b->sampler, N, b->tokens, NULL, 1, 1, maps, NULL, NULL, NULL));
    end(b);
}

/* ---------------------------------------------------------------- averages */

/* A sampler that was made before training follows what the model holds and chooses later. */
static void samplers_follow_the_models_choice_of_weights(void)
{
    bench *b = begin();
    encdiff_trainer *trainer = NULL;
    encdiff_sampler_options options = default_options();
    float averaged[N * LATENT], trained[N * LATENT], again[N * LATENT];
    options.use_ema = ENCDIFF_ON;
    encdiff_sampler *sampler = (encdiff_sampler *)(uintptr_t)1;
    FAILS(b->context, encdiff_sampler_create(b->model, &options, &sampler), ENCDIFF_ERROR_STATE, "averages");
    CHECK(!sampler);
    OK(b->context, encdiff_trainer_create(b->model, NULL, NULL, &trainer));
    for (int i = 0; i < 2; i++) OK(b->context, encdiff_trainer_step_given(trainer, &b->images, NULL, NULL, NULL));
    encdiff_trainer_free(trainer);
    sample(b, N, b->tokens, b->noise, averaged);
    OK(b->context, encdiff_model_use_ema(b->model, ENCDIFF_OFF));
    sample(b, N, b->tokens, b->noise, trained);
    CHECK(largest_difference(averaged, trained, N * LATENT) > 1e-6);
    set_sampler(b, &options);
    sample(b, N, b->tokens, b->noise, again);
    CHECK(memcmp(averaged, again, sizeof averaged) == 0);
    options.use_ema = ENCDIFF_OFF;
    OK(b->context, encdiff_model_use_ema(b->model, ENCDIFF_ON));
    set_sampler(b, &options);
    sample(b, N, b->tokens, b->noise, again);
    CHECK(memcmp(trained, again, sizeof trained) == 0);
    end(b);
}

/* ---------------------------------------------------------------- progress */

typedef struct watcher {
    int64_t calls, stop_at; /* 0: never */
    int previews;
    encdiff_context *cancel;
} watcher;

static int32_t watch(const encdiff_progress_info *info, void *user)
{
    watcher *w = user;
    w->calls++;
    CHECK(info->struct_size >= sizeof *info && info->activity && info->activity[0]);
    CHECK_EQUAL(info->done, w->calls);
    CHECK_EQUAL(info->total, STEPS);
    if (info->preview) {
        const float *pixels = info->preview->data;
        w->previews++;
        CHECK_EQUAL(info->preview->n, N);
        CHECK_EQUAL(info->preview->height, SIDE);
        CHECK(info->preview->format == ENCDIFF_IMAGE_F32_NHWC && isfinite(pixels[N * PIXELS - 1]));
    }
    if (info->done != w->stop_at) return 0;
    if (w->cancel) encdiff_cancel(w->cancel);
    return w->cancel ? 0 : 5;
}

static void progress_counts_previews_and_stops(void)
{
    bench *b = begin();
    encdiff_sampler_options options = default_options();
    float latents[N * LATENT], expected[N * LATENT];
    watcher w = {0};
    sample(b, N, b->tokens, b->noise, expected);
    OK(b->context, encdiff_sampler_sample(b->sampler, N, b->tokens, b->noise, NULL, latents, NULL, watch, &w));
    CHECK_EQUAL(w.calls, STEPS);
    CHECK_EQUAL(w.previews, 0);
    options.preview_every = 2;
    set_sampler(b, &options);
    w = (watcher){0};
    OK(b->context, encdiff_sampler_sample(b->sampler, N, b->tokens, b->noise, NULL, latents, NULL, watch, &w));
    CHECK_EQUAL(w.previews, 3);                            /* after steps 2, 4 and the last */
    CHECK(memcmp(latents, expected, sizeof latents) == 0); /* looking changes nothing */
    for (int way = 0; way < 2; way++) {
        w = (watcher){.stop_at = 3, .cancel = way ? b->context : NULL};
        FAILS(b->context, encdiff_sampler_sample(b->sampler, N, b->tokens, b->noise, NULL, latents, NULL, watch, &w),
              ENCDIFF_CANCELLED, "stopped");
        CHECK_EQUAL(w.calls, 3);
        sample(b, N, b->tokens, b->noise, latents);
        CHECK(memcmp(latents, expected, sizeof latents) == 0); /* usable after a stop */
    }
    end(b);
}

/* ---------------------------------------------------------------- arguments */

static void arguments_are_checked_by_name(void)
{
    bench *b = begin();
    static float out_pixels[N * PIXELS];
    float latents[N * LATENT], value = 0;
    encdiff_image_view one = view_f32(b->pixels, 1), two = view_f32(b->pixels, 2), out = view_f32(out_pixels, N),
                       large = view_f32(b->pixels, N);
    encdiff_sampler *s = b->sampler, *none;
    encdiff_context *c = b->context;
    large.height = SIDE * 2;
    FAILS(c, encdiff_sampler_sample(s, 0, b->tokens, NULL, NULL, latents, NULL, NULL, NULL), ENCDIFF_ERROR_ARGUMENT,
          "n");
    FAILS(c, encdiff_sampler_sample(s, 1, NULL, NULL, NULL, latents, NULL, NULL, NULL), ENCDIFF_ERROR_ARGUMENT,
          "tokens");
    FAILS(c, encdiff_sampler_sample(s, 1, b->tokens, NULL, NULL, NULL, NULL, NULL, NULL), ENCDIFF_ERROR_ARGUMENT,
          "images");
    FAILS(c, encdiff_sampler_sample(s, 1, b->tokens, NULL, NULL, NULL, &out, NULL, NULL), ENCDIFF_ERROR_SHAPE, "3");
    FAILS(c, encdiff_sampler_reconstruct(s, &large, NULL, &out, NULL, NULL), ENCDIFF_ERROR_SHAPE, "32x16");
    FAILS(c, encdiff_sampler_reconstruct(s, &b->images, NULL, &two, NULL, NULL), ENCDIFF_ERROR_SHAPE, "2");
    FAILS(c, encdiff_sampler_reconstruct(s, NULL, NULL, &out, NULL, NULL), ENCDIFF_ERROR_ARGUMENT, "reconstruct");
    FAILS(c, encdiff_sampler_reconstruct(s, &b->images, NULL, NULL, NULL, NULL), ENCDIFF_ERROR_ARGUMENT, "out");
    for (int32_t concept = -1; concept <= TOKENS; concept += TOKENS + 1) {
        FAILS(c, encdiff_sampler_swap(s, &one, &one, &concept, 1, NULL, &out, NULL, NULL), ENCDIFF_ERROR_ARGUMENT,
              "concept");
        FAILS(c, encdiff_sampler_traverse(s, &one, concept, &value, 1, NULL, &out, NULL, NULL), ENCDIFF_ERROR_ARGUMENT,
              "concept");
    }
    FAILS(c, encdiff_sampler_swap(s, &one, &two, NULL, 0, NULL, &out, NULL, NULL), ENCDIFF_ERROR_SHAPE, "2");
    FAILS(c, encdiff_sampler_swap(s, &one, &one, NULL, 1, NULL, &out, NULL, NULL), ENCDIFF_ERROR_ARGUMENT, "concepts");
    FAILS(c, encdiff_sampler_swap(s, &one, &one, NULL, -1, NULL, &out, NULL, NULL), ENCDIFF_ERROR_ARGUMENT, "count");
    FAILS(c, encdiff_sampler_traverse(s, &two, 0, &value, 1, NULL, &out, NULL, NULL), ENCDIFF_ERROR_SHAPE, "2");
    FAILS(c, encdiff_sampler_traverse(s, &one, 0, NULL, 1, NULL, &out, NULL, NULL), ENCDIFF_ERROR_ARGUMENT, "values");
    value = NAN;
    FAILS(c, encdiff_sampler_traverse(s, &one, 0, &value, 1, NULL, &one, NULL, NULL), ENCDIFF_ERROR_NUMERIC, "values");
    FAILS(c, encdiff_sampler_interpolate(s, &one, &one, &value, 1, NULL, &one, NULL, NULL), ENCDIFF_ERROR_NUMERIC,
          "weights");
    FAILS(c, encdiff_sampler_interpolate(s, &one, &two, &value, 1, NULL, &one, NULL, NULL), ENCDIFF_ERROR_SHAPE, "2");
    FAILS(c, encdiff_sampler_invert(s, &one, NULL, NULL, NULL, NULL), ENCDIFF_ERROR_ARGUMENT, "x_T");
    FAILS(c, encdiff_sampler_attention(s, 1, b->tokens, NULL, 4, 0, latents, NULL, NULL, NULL), ENCDIFF_ERROR_ARGUMENT,
          "width");
    float bad[N * LATENT] = {[5] = INFINITY};
    FAILS(c, encdiff_sampler_sample(s, N, b->tokens, bad, NULL, latents, NULL, NULL, NULL), ENCDIFF_ERROR_NUMERIC,
          "x_T");
    bad[5] = NAN;
    FAILS(c, encdiff_sampler_sample(s, 1, bad, NULL, NULL, latents, NULL, NULL, NULL), ENCDIFF_ERROR_NUMERIC, "tokens");
    FAILS(c, encdiff_sampler_invert(s, &one, bad, latents, NULL, NULL), ENCDIFF_ERROR_NUMERIC, "tokens");
    b->pixels[3] = NAN;
    FAILS(c, encdiff_sampler_reconstruct(s, &b->images, NULL, &out, NULL, NULL), ENCDIFF_ERROR_NUMERIC, "image 0");
    FAILS(c, encdiff_sampler_create(b->model, NULL, NULL), ENCDIFF_ERROR_ARGUMENT, "out");
    for (int i = 0; i < 8; i++) {
        encdiff_sampler_options options = default_options();
        if (i == 0) options.method = 5;
        if (i == 1) options.method = -1;
        if (i == 2) options.steps = -1;
        if (i == 3) options.steps = TIMESTEPS + 1;
        if (i == 4) options.eta = -0.1;
        if (i == 5) options.eta = NAN;
        if (i == 6) options.preview_every = -1;
        if (i == 7) options.struct_size = 1;
        none = (encdiff_sampler *)(uintptr_t)1;
        CHECK_THAT(encdiff_sampler_create(b->model, &options, &none) == ENCDIFF_ERROR_ARGUMENT, "options %d", i);
        CHECK(!none);
    }
    b->pixels[3] = 0;
    reconstruct(b, NULL, out_pixels); /* usable after all of these */
    end(b);
}

static void a_null_sampler_is_refused(void)
{
    float f = 0;
    int32_t k = 0;
    encdiff_image_view view = view_f32(&f, 1);
    encdiff_sampler *sampler;
    encdiff_sampler_free(NULL);
    CHECK_EQUAL(encdiff_sampler_create(NULL, NULL, &sampler), ENCDIFF_ERROR_ARGUMENT);
    CHECK_EQUAL(encdiff_sampler_sample(NULL, 1, &f, NULL, NULL, &f, NULL, NULL, NULL), ENCDIFF_ERROR_ARGUMENT);
    CHECK_EQUAL(encdiff_sampler_reconstruct(NULL, &view, NULL, &view, NULL, NULL), ENCDIFF_ERROR_ARGUMENT);
    CHECK_EQUAL(encdiff_sampler_swap(NULL, &view, &view, &k, 1, NULL, &view, NULL, NULL), ENCDIFF_ERROR_ARGUMENT);
    CHECK_EQUAL(encdiff_sampler_traverse(NULL, &view, 0, &f, 1, NULL, &view, NULL, NULL), ENCDIFF_ERROR_ARGUMENT);
    CHECK_EQUAL(encdiff_sampler_interpolate(NULL, &view, &view, &f, 1, NULL, &view, NULL, NULL),
                ENCDIFF_ERROR_ARGUMENT);
    CHECK_EQUAL(encdiff_sampler_invert(NULL, &view, NULL, &f, NULL, NULL), ENCDIFF_ERROR_ARGUMENT);
    CHECK_EQUAL(encdiff_sampler_attention(NULL, 1, &f, NULL, 1, 1, &f, NULL, NULL, NULL), ENCDIFF_ERROR_ARGUMENT);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        TEST(results_follow_from_tokens_noise_and_seed),
        TEST(every_method_samples),
        TEST(the_number_of_steps_is_told),
        TEST(ddpm_takes_every_timestep),
        TEST(eta_reads_the_step_noise),
        TEST(images_are_the_decoded_latents),
        TEST(swapping_nothing_reconstructs_and_swapping_all_is_the_other),
        TEST(a_concept_at_its_own_value_reconstructs),
        TEST(interpolation_goes_from_one_image_to_the_other),
        TEST(inversion_comes_back),
        TEST(attention_is_averaged_while_sampling),
        TEST(samplers_follow_the_models_choice_of_weights),
        TEST(progress_counts_previews_and_stops),
        TEST(arguments_are_checked_by_name),
        TEST(a_null_sampler_is_refused),
    };
    return test_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
