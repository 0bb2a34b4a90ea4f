/* Running a model's networks: shapes and layouts, ranges, threads, NaN. */
#include "api.h"

static encdiff_context *context;
static counted_memory memory;

static void begin(void) { context = open_context(&memory, 1); }
static void end(void) { close_context(context, &memory); }

enum { N = 5, VQ_LATENT = 3 * 8 * 8 };

/* ---------------------------------------------------------------- layouts */

/* The same images as u8 NHWC, f32 NHWC and f32 NCHW. */
typedef struct same_images {
    uint8_t u8[N * PIXELS];
    float last[N * PIXELS], planar[N * PIXELS];
    encdiff_image_view views[3];
} same_images;

static void make_same_images(same_images *s)
{
    for (size_t i = 0; i < N * PIXELS; i++) {
        size_t image = i / PIXELS, pixel = i % PIXELS / 3, channel = i % 3;
        s->u8[i] = (uint8_t)((i * 37 + i / 50 * 11 + image * 90) % 256);
        s->last[i] = (float)s->u8[i] / 127.5f - 1;
        s->planar[image * PIXELS + channel * (PIXELS / 3) + pixel] = s->last[i];
    }
    void *data[] = {s->u8, s->last, s->planar};
    for (int k = 0; k < 3; k++) {
        s->views[k] = view_f32(NULL, N);
        s->views[k].data = data[k];
        s->views[k].format = ENCDIFF_IMAGE_U8_NHWC + k;
    }
}

static void image_formats_encode_the_same(void)
{
    static same_images images;
    float scalars[3][N * TOKENS], tokens[3][N * TOKENS * TOKEN_DIM], latents[3][N * VQ_LATENT];
    begin();
    encdiff_model *model = make_awake_model(context, TINY_VQ);
    make_same_images(&images);
    for (int k = 0; k < 3; k++) {
        OK(context, encdiff_model_encode(model, &images.views[k], scalars[k], tokens[k]));
        OK(context, encdiff_model_latents_from_images(model, &images.views[k], latents[k]));
    }
    for (int k = 1; k < 3; k++) {
        CHECK_NEAR(largest_difference(scalars[0], scalars[k], N * TOKENS), 0, 1e-6, "the same pixels");
        CHECK_NEAR(largest_difference(tokens[0], tokens[k], N * TOKENS * TOKEN_DIM), 0, 1e-6, "the same pixels");
        CHECK_NEAR(largest_difference(latents[0], latents[k], N * VQ_LATENT), 0, 1e-6, "the same pixels");
    }
    CHECK(largest_difference(scalars[0], scalars[0] + TOKENS, TOKENS) > 1e-4); /* images differ */
    encdiff_model_free(model);
    end();
}

static void images_come_out_in_the_format_asked_for(void)
{
    static same_images out;
    float latents[N * LATENT];
    begin();
    encdiff_model *model = make_model(context, TINY, 0);
    make_same_images(&out);
    fill_floats(latents, N * LATENT, 2);
    for (int k = 0; k < 3; k++)
        OK(context, encdiff_model_images_from_latents(model, latents, ENCDIFF_DEFAULT, &out.views[k]));
    for (size_t i = 0; i < N * PIXELS; i++) {
        size_t image = i / PIXELS, pixel = i % PIXELS / 3, channel = i % 3;
        if (!CHECK_NEAR(out.planar[image * PIXELS + channel * (PIXELS / 3) + pixel], out.last[i], 0, "moved")) break;
        if (!CHECK_NEAR(out.u8[i] / 127.5 - 1, out.last[i], 0.5 / 127.5 + 1e-6, "rounded")) break;
    }
    encdiff_model_free(model);
    end();
}

/* The "average" autoencoder says what layouts are: means of 4x4 pixels as float[channel][y][x], times the scale. */
static void latents_are_planar_and_scaled(void)
{
    float pixels[PIXELS], latents[LATENT], back[PIXELS];
    encdiff_image_view image = view_f32(pixels, 1), decoded = view_f32(back, 1);
    encdiff_model_info info = {.struct_size = sizeof info};
    begin();
    encdiff_model *model = make_model(context, TINY, 0);
    OK(context, encdiff_model_get_info(model, &info));
    fill_floats(pixels, PIXELS, 1);
    OK(context, encdiff_model_latents_from_images(model, &image, latents));
    OK(context, encdiff_model_images_from_latents(model, latents, ENCDIFF_DEFAULT, &decoded));
    for (int c = 0; c < 3; c++)
        for (int y = 0; y < 4; y++)
            for (int x = 0; x < 4; x++) {
                double mean = 0;
                for (int k = 0; k < 16; k++)
                    mean += (double)pixels[((4 * y + k / 4) * SIDE + 4 * x + k % 4) * 3 + c] / 16;
                CHECK_NEAR(latents[(c * 4 + y) * 4 + x], mean * (double)info.latent_scale, 1e-6, "a mean of 16");
                CHECK_NEAR(back[((4 * y + 1) * SIDE + 4 * x + 3) * 3 + c], mean, 1e-6, "nearest upsampling");
            }
    encdiff_model_free(model);
    end();
}

static void tokens_come_from_scalars(void)
{
    float pixels[N * PIXELS], scalars[N * TOKENS], tokens[N * TOKENS * TOKEN_DIM], again[N * TOKENS * TOKEN_DIM];
    encdiff_image_view images = view_f32(pixels, N);
    begin();
    encdiff_model *model = make_awake_model(context, TINY);
    fill_floats(pixels, N * PIXELS, 1);
    OK(context, encdiff_model_encode(model, &images, scalars, tokens));
    OK(context, encdiff_model_tokens_from_scalars(model, N, scalars, again));
    CHECK_NEAR(largest_difference(tokens, again, N * TOKENS * TOKEN_DIM), 0, 1e-6, "the second half of encoding");
    OK(context, encdiff_model_encode(model, &images, NULL, again)); /* either output alone */
    CHECK(memcmp(tokens, again, sizeof tokens) == 0);
    OK(context, encdiff_model_encode(model, &images, again, NULL));
    CHECK(memcmp(scalars, again, sizeof scalars) == 0);
    OK(context, encdiff_model_encode(model, &images, NULL, NULL));

    float changed[TOKENS]; /* a scalar moves its own token only */
    memcpy(changed, scalars, sizeof changed);
    changed[2] += 1;
    OK(context, encdiff_model_tokens_from_scalars(model, 1, changed, again));
    for (int k = 0; k < TOKENS; k++) {
        double moved = largest_difference(tokens + k * TOKEN_DIM, again + k * TOKEN_DIM, TOKEN_DIM);
        CHECK(k == 2 ? moved > 1e-3 : moved < 1e-6);
    }
    encdiff_model_free(model);
    end();
}

static void an_image_is_encoded_the_same_alone_and_among_others(void)
{
    static float pixels[20 * PIXELS], all[20 * TOKENS], one[TOKENS];
    encdiff_image_view images = view_f32(pixels, 20);
    begin();
    encdiff_model *model = make_awake_model(context, TINY);
    fill_floats(pixels, 20 * PIXELS, 1);
    OK(context, encdiff_model_encode(model, &images, all, NULL));
    for (int i = 0; i < 20; i += 19) {
        encdiff_image_view image = view_f32(pixels + i * PIXELS, 1);
        OK(context, encdiff_model_encode(model, &image, one, NULL));
        CHECK_NEAR(largest_difference(one, all + i * TOKENS, TOKENS), 0, 1e-5, "other chunk sizes");
    }
    encdiff_model_free(model);
    end();
}

/* ---------------------------------------------------------------- the U-Net */

typedef struct unet_inputs {
    float latents[N * LATENT], tokens[N * TOKENS * TOKEN_DIM];
    int32_t timesteps[N];
} unet_inputs;

static void make_unet_inputs(unet_inputs *in)
{
    fill_floats(in->latents, N * LATENT, 3);
    fill_floats(in->tokens, N * TOKENS * TOKEN_DIM, 4);
    for (int i = 0; i < N; i++) in->timesteps[i] = i * (TIMESTEPS - 1) / (N - 1);
}

static void predictions_depend_on_every_input(void)
{
    unet_inputs in;
    float noise[4][N * LATENT];
    begin();
    encdiff_model *model = make_awake_model(context, TINY);
    for (int k = 0; k < 4; k++) {
        make_unet_inputs(&in);
        if (k == 1) in.latents[0] += 0.5f;
        if (k == 2) in.tokens[0] += 0.5f;
        if (k == 3) in.timesteps[0] += 100;
        OK(context, encdiff_model_predict_noise(model, N, in.latents, in.timesteps, in.tokens, noise[k]));
    }
    for (int k = 1; k < 4; k++) {
        CHECK_THAT(largest_difference(noise[0], noise[k], LATENT) > 1e-6, "input %d changes nothing", k);
        CHECK_NEAR(largest_difference(noise[0] + LATENT, noise[k] + LATENT, (N - 1) * LATENT), 0, 0,
                   "other images are not concerned");
    }
    encdiff_model_free(model);
    end();
}

static void timesteps_out_of_range_are_named(void)
{
    unet_inputs in;
    float noise[N * LATENT], maps[N * TOKENS];
    static const int32_t bad[] = {-1, TIMESTEPS, INT32_MAX, INT32_MIN};
    begin();
    encdiff_model *model = make_model(context, TINY, 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[32];
        make_unet_inputs(&in);
        in.timesteps[2] = bad[i];
        snprintf(text, sizeof text, "%d", bad[i]);
        FAILS(context, encdiff_model_predict_noise(model, N, in.latents, in.timesteps, in.tokens, noise),
              ENCDIFF_ERROR_ARGUMENT, text);
        FAILS(context, encdiff_model_attention(model, N, in.latents, in.timesteps, in.tokens, 1, 1, maps),
              ENCDIFF_ERROR_ARGUMENT, text);
    }
    encdiff_model_free(model);
    end();
}

static void attention_maps_sum_to_one_at_every_size(void)
{
    static const int32_t sizes[][2] = {{4, 4}, {1, 1}, {7, 3}, {16, 16}};
    unet_inputs in;
    static float maps[N * TOKENS * 16 * 16];
    begin();
    encdiff_model *model = make_awake_model(context, TINY);
    make_unet_inputs(&in);
    for (int k = 0; k < 4; k++) {
        int32_t h = sizes[k][0], w = sizes[k][1];
        double worst = 0, lowest = 1;
        OK(context, encdiff_model_attention(model, N, in.latents, in.timesteps, in.tokens, h, w, maps));
        for (int i = 0; i < N; i++)
            for (int p = 0; p < h * w; p++) {
                double sum = 0;
                for (int t = 0; t < TOKENS; t++) {
                    double value = (double)maps[(i * TOKENS + t) * h * w + p];
                    sum += value;
                    lowest = fmin(lowest, value);
                }
                worst = fmax(worst, fabs(sum - 1));
            }
        CHECK_NEAR(worst, 0, 1e-5, "a softmax, averaged and resized");
        CHECK(lowest >= 0);
    }
    FAILS(context, encdiff_model_attention(model, N, in.latents, in.timesteps, in.tokens, 0, 4, maps),
          ENCDIFF_ERROR_ARGUMENT, "height");
    encdiff_model_free(model);
    end();
}

/* ---------------------------------------------------------------- wrong inputs */

static void numbers_that_are_none_are_found(void)
{
    unet_inputs in;
    float pixels[2 * PIXELS], out[N * LATENT + 2 * PIXELS];
    encdiff_image_view images = view_f32(pixels, 2), decoded = view_f32(out, 2);
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    begin();
    encdiff_model *model = make_model(context, TINY, 0);
    for (int k = 0; k < 3; k++) {
        fill_floats(pixels, 2 * PIXELS, 0);
        pixels[PIXELS + 3] = bad[k];
        FAILS(context, encdiff_model_encode(model, &images, out, NULL), ENCDIFF_ERROR_NUMERIC, "image 1");
        FAILS(context, encdiff_model_latents_from_images(model, &images, out), ENCDIFF_ERROR_NUMERIC, "image 1");
        images.format = ENCDIFF_IMAGE_F32_NCHW;
        FAILS(context, encdiff_model_encode(model, &images, out, NULL), ENCDIFF_ERROR_NUMERIC, "image 1");
        images.format = ENCDIFF_IMAGE_F32_NHWC;
        make_unet_inputs(&in);
        in.latents[LATENT + 1] = bad[k];
        FAILS(context, encdiff_model_images_from_latents(model, in.latents, ENCDIFF_DEFAULT, &decoded),
              ENCDIFF_ERROR_NUMERIC, "latents");
        FAILS(context, encdiff_model_predict_noise(model, N, in.latents, in.timesteps, in.tokens, out),
              ENCDIFF_ERROR_NUMERIC, "latents");
        make_unet_inputs(&in);
        in.tokens[5] = bad[k];
        FAILS(context, encdiff_model_predict_noise(model, N, in.latents, in.timesteps, in.tokens, out),
              ENCDIFF_ERROR_NUMERIC, "tokens");
        FAILS(context, encdiff_model_tokens_from_scalars(model, 2, in.tokens, out), ENCDIFF_ERROR_NUMERIC, "scalars");
    }
    fill_floats(pixels, 2 * PIXELS, 0);
    OK(context, encdiff_model_encode(model, &images, out, NULL));
    encdiff_model_free(model);
    end();
}

static void views_that_do_not_fit_are_refused(void)
{
    float pixels[2 * PIXELS], out[2 * TOKENS];
    static const struct {
        int32_t format, n, height, width;
        bool data;
        encdiff_status status;
    } cases[] = {
        {ENCDIFF_IMAGE_F32_NHWC, 0, SIDE, SIDE, true, ENCDIFF_ERROR_SHAPE},
        {ENCDIFF_IMAGE_F32_NHWC, -1, SIDE, SIDE, true, ENCDIFF_ERROR_SHAPE},
        {ENCDIFF_IMAGE_F32_NHWC, 1, SIDE, SIDE + 1, true, ENCDIFF_ERROR_SHAPE},
        {ENCDIFF_IMAGE_F32_NHWC, 1, SIDE / 2, SIDE, true, ENCDIFF_ERROR_SHAPE},
        {ENCDIFF_IMAGE_F32_NHWC, 1, -SIDE, -SIDE, true, ENCDIFF_ERROR_SHAPE},
        {ENCDIFF_IMAGE_F32_NHWC, INT32_MAX, INT32_MAX, INT32_MAX, true, ENCDIFF_ERROR_SHAPE},
        {0, 1, SIDE, SIDE, true, ENCDIFF_ERROR_ARGUMENT},
        {4, 1, SIDE, SIDE, true, ENCDIFF_ERROR_ARGUMENT},
        {ENCDIFF_IMAGE_F32_NHWC, 1, SIDE, SIDE, false, ENCDIFF_ERROR_ARGUMENT},
    };
    begin();
    encdiff_model *model = make_model(context, TINY, 0);
    fill_floats(pixels, 2 * PIXELS, 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        encdiff_image_view view = {cases[i].data ? pixels : NULL, cases[i].format, cases[i].n, cases[i].height,
                                   cases[i].width};
        FAILS(context, encdiff_model_encode(model, &view, out, NULL), cases[i].status, "encdiff_model_encode");
        FAILS(context, encdiff_model_images_from_latents(model, out, ENCDIFF_DEFAULT, &view), cases[i].status,
              "encdiff_model_images_from_latents");
    }
    encdiff_image_view image = view_f32(pixels, 1);
    FAILS(context, encdiff_model_encode(model, NULL, out, NULL), ENCDIFF_ERROR_ARGUMENT, "encdiff_model_encode");
    FAILS(context, encdiff_model_latents_from_images(model, &image, NULL), ENCDIFF_ERROR_ARGUMENT, "latents");
    FAILS(context, encdiff_model_images_from_latents(model, NULL, ENCDIFF_DEFAULT, &image), ENCDIFF_ERROR_ARGUMENT,
          "latents");
    FAILS(context, encdiff_model_tokens_from_scalars(model, 0, out, out), ENCDIFF_ERROR_ARGUMENT, "n");
    FAILS(context, encdiff_model_tokens_from_scalars(model, 1, NULL, out), ENCDIFF_ERROR_ARGUMENT, "scalars");
    FAILS(context, encdiff_model_predict_noise(model, 1, out, NULL, out, out), ENCDIFF_ERROR_ARGUMENT, "timesteps");
    FAILS(context, encdiff_model_predict_noise(model, -3, out, (int32_t[1]){0}, out, out), ENCDIFF_ERROR_ARGUMENT, "n");
    encdiff_model_free(model);
    end();
}

/* ---------------------------------------------------------------- threads */

typedef struct outputs {
    float scalars[N * TOKENS], tokens[N * TOKENS * TOKEN_DIM], latents[N * VQ_LATENT], noise[N * VQ_LATENT],
        images[N * PIXELS];
} outputs;

/* Everything that a model computes, with so many threads. */
static void compute(int32_t threads, outputs *out)
{
    static float pixels[N * PIXELS];
    unet_inputs in;
    counted_memory own;
    encdiff_context *own_context = open_context(&own, threads);
    encdiff_model *model = make_awake_model(own_context, TINY_VQ);
    encdiff_image_view images = view_f32(pixels, N), decoded = view_f32(out->images, N);
    fill_floats(pixels, N * PIXELS, 1);
    make_unet_inputs(&in);
    OK(own_context, encdiff_model_encode(model, &images, out->scalars, out->tokens));
    OK(own_context, encdiff_model_latents_from_images(model, &images, out->latents));
    OK(own_context, encdiff_model_predict_noise(model, N, out->latents, in.timesteps, out->tokens, out->noise));
    OK(own_context, encdiff_model_images_from_latents(model, out->latents, ENCDIFF_OFF, &decoded));
    encdiff_model_free(model);
    close_context(own_context, &own);
}

static void results_do_not_depend_on_the_thread_count(void)
{
    static outputs one, again, many;
    size_t count = sizeof one / sizeof(float);
    compute(1, &one);
    compute(1, &again);
    CHECK(memcmp(&one, &again, sizeof one) == 0);
    for (int32_t threads = 2; threads <= 7; threads += threads == 3 ? 4 : 1) {
        compute(threads, &many);
        CHECK_NEAR(largest_difference((float *)&one, (float *)&many, count), 0, 1e-5, "sums in another order");
        compute(threads, &again);
        CHECK_THAT(memcmp(&many, &again, sizeof many) == 0, "two runs with %d threads differ", threads);
    }
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        TEST(image_formats_encode_the_same),
        TEST(images_come_out_in_the_format_asked_for),
        TEST(latents_are_planar_and_scaled),
        TEST(tokens_come_from_scalars),
        TEST(an_image_is_encoded_the_same_alone_and_among_others),
        TEST(predictions_depend_on_every_input),
        TEST(timesteps_out_of_range_are_named),
        TEST(attention_maps_sum_to_one_at_every_size),
        TEST(numbers_that_are_none_are_found),
        TEST(views_that_do_not_fit_are_refused),
        TEST(results_do_not_depend_on_the_thread_count),
    };
    return test_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
