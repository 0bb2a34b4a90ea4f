/* Sampling and the edits that are made of it: each finds tokens, then samples from them. */
#include "api/handles.h"

/* Work space that is kept between calls, so that only the first one with a number of images takes memory. */
typedef enum slot { PIXELS, SCALARS, TOKENS, OTHER_SCALARS, OTHER_TOKENS, VERSIONS, VERSION_TOKENS, NOISE, SLOTS } slot;

struct encdiff_sampler {
    encdiff_model *model;
    ed_generator *generator;
    ed_generator_options options;
    encdiff_switch use_ema;
    float *buffers[SLOTS];
    size_t capacities[SLOTS];
};

/* The host's callback, and what it is told. */
typedef struct forward {
    encdiff_progress progress;
    void *user;
    const encdiff_model *model;
    const char *activity;
} forward;

static int forward_progress(void *user, int done, int total, int n, const float *preview)
{
    const forward *f = user;
    if (!f->progress) return 0;
    int side = ed_model_config(f->model)->image.resolution;
    encdiff_image_view view = {
        .data = (void *)(uintptr_t)preview, .format = ENCDIFF_IMAGE_F32_NHWC, .n = n, .height = side, .width = side};
    encdiff_progress_info info = {.struct_size = sizeof info,
                                  .activity = f->activity,
                                  .done = done,
                                  .total = total,
                                  .preview = preview ? &view : NULL};
    return f->progress(&info, f->user);
}

void encdiff_sampler_options_init(encdiff_sampler_options *options, size_t struct_size)
{
    ed_api_init_options(options, struct_size);
}

static encdiff_status make_generator(encdiff_sampler *s)
{
    encdiff_model *m = s->model;
    return ed_generator_create(m->infer, m->context->team, ed_model_networks(m), &s->options, &s->generator);
}

/* The model may have got averages, or another choice of weights, since the generator was made. */
static encdiff_status follow_model(encdiff_sampler *s)
{
    bool ema = ed_model_ema(s->model, s->use_ema);
    if (s->generator && s->options.use_ema == ema) return ENCDIFF_OK;
    ed_generator_free(s->generator);
    s->generator = NULL;
    s->options.use_ema = ema;
    return make_generator(s);
}

static encdiff_status create(encdiff_model *m, const encdiff_sampler_options *options, encdiff_sampler **out)
{
    encdiff_sampler_options o;
    ED_REQUIRE(m->context, out);
    *out = NULL;
    ED_TRY(ed_api_read_options(m->context, "encdiff_sampler_create", &o, sizeof o, options));
    ED_REQUIRE(m->context, o.use_ema >= ENCDIFF_OFF && o.use_ema <= ENCDIFF_ON);
    ED_REQUIRE(m->context, o.preview_every >= 0);
    if (o.use_ema == ENCDIFF_ON && !ed_model_ema(m, ENCDIFF_ON))
        return ed_fail(&m->context->env, ENCDIFF_ERROR_STATE, "use_ema: the model holds no moving averages");
    encdiff_sampler *s = ed_alloc(&m->context->env, 1, sizeof *s);
    if (!s) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    s->model = ed_model_retain(m);
    s->use_ema = (encdiff_switch)o.use_ema;
    s->options = (ed_generator_options){.sampler = {.method = o.method ? (ed_sampler_method)o.method : ED_SAMPLER_DDIM,
                                                    .steps = o.steps,
                                                    .eta = o.eta,
                                                    .seed = o.seed},
                                        .quantize_denoised = o.quantize_denoised == ENCDIFF_ON,
                                        .quantize_latents = o.quantize_latents != ENCDIFF_OFF,
                                        .use_ema = ed_model_ema(m, s->use_ema),
                                        .preview_every = o.preview_every};
    encdiff_status status = make_generator(s);
    if (status != ENCDIFF_OK)
        encdiff_sampler_free(s);
    else
        *out = s;
    return status;
}

encdiff_status encdiff_sampler_create(encdiff_model *model, const encdiff_sampler_options *options,
                                      encdiff_sampler **sampler)
{
    ED_API_BEGIN;
    return model ? create(model, options, sampler) : ENCDIFF_ERROR_ARGUMENT;
}

int32_t encdiff_sampler_step_count(const encdiff_sampler *s)
{
    return s && s->generator ? (int32_t)ed_generator_step_count(s->generator) : 0;
}

void encdiff_sampler_free(encdiff_sampler *s)
{
    if (!s) return;
    encdiff_model *m = s->model;
    for (int i = 0; i < SLOTS; i++) ed_free(&m->context->env, s->buffers[i]);
    ed_generator_free(s->generator);
    ed_free(&m->context->env, s);
    encdiff_model_free(m);
}

/* ---------------------------------------------------------------- from tokens to images */

static ed_env *env_of(encdiff_sampler *s) { return &s->model->context->env; }

static size_t token_floats(const encdiff_sampler *s)
{
    const ed_config *c = ed_model_config(s->model);
    return (size_t)c->encoder.latent_unit * (size_t)c->encoder.context_dim;
}

static size_t image_floats(const encdiff_sampler *s)
{
    size_t side = (size_t)ed_model_config(s->model)->image.resolution;
    return side * side * 3;
}

/* Room for `count` items of `size` floats in a slot. */
static encdiff_status take(encdiff_sampler *s, slot which, int32_t count, size_t size, float **out)
{
    size_t floats = (size_t)count * size;
    if (floats > s->capacities[which]) {
        ed_free(env_of(s), s->buffers[which]);
        s->buffers[which] = ed_alloc(env_of(s), floats, sizeof(float));
        s->capacities[which] = s->buffers[which] ? floats : 0;
    }
    *out = s->buffers[which];
    return *out ? ENCDIFF_OK : ENCDIFF_ERROR_OUT_OF_MEMORY;
}

/* Sample n images with given tokens, and write what is wanted of them. */
static encdiff_status sample(encdiff_sampler *s, ed_generate_args *args, encdiff_image_view *images, const forward *f)
{
    encdiff_model *m = s->model;
    float *pixels = NULL;
    ED_TRY(ed_check_cancel(env_of(s)));
    ED_TRY(follow_model(s));
    ED_TRY(ed_api_check_finite(m->context, "tokens", args->tokens, (size_t)args->n * token_floats(s)));
    if (args->x_T)
        ED_TRY(ed_api_check_finite(m->context, "x_T", args->x_T, (size_t)args->n * ed_model_latent_floats(m)));
    if (images) {
        ED_TRY(ed_api_check_images(m, "the output images", images));
        if (images->n != args->n)
            return ed_fail(env_of(s), ENCDIFF_ERROR_SHAPE, "the output has room for %d images, but %d are sampled",
                           (int)images->n, args->n);
        ED_TRY(take(s, PIXELS, args->n, image_floats(s), &pixels));
    }
    args->images = pixels;
    args->progress = f->progress ? forward_progress : NULL;
    args->user = (void *)(uintptr_t)f;
    ED_TRY(ed_generate(s->generator, args));
    return images ? ed_api_images_out(env_of(s), pixels, images) : ENCDIFF_OK;
}

static encdiff_status sample_tokens(encdiff_sampler *s, int32_t n, const float *tokens, const float *x_T,
                                    encdiff_image_view *images, const forward *f)
{
    ed_generate_args args = {.n = n, .tokens = tokens, .x_T = x_T};
    return sample(s, &args, images, f);
}

static encdiff_status sample_given(encdiff_sampler *s, int32_t n, const float *tokens, const float *x_T,
                                   const float *step_noise, float *latents, encdiff_image_view *images,
                                   encdiff_progress progress, void *user)
{
    forward f = {progress, user, s->model, "denoising"};
    ED_REQUIRE(s->model->context, n >= 1 && tokens && (latents || images));
    ed_generate_args args = {.n = n, .tokens = tokens, .x_T = x_T, .step_noise = step_noise, .latents = latents};
    return sample(s, &args, images, &f);
}

encdiff_status encdiff_sampler_sample(encdiff_sampler *s, int32_t n, const float *tokens, const float *x_T,
                                      const float *step_noise, float *latents, encdiff_image_view *images,
                                      encdiff_progress progress, void *user)
{
    ED_API_BEGIN;
    if (!s) return ENCDIFF_ERROR_ARGUMENT;
    return ed_api_done(s->model->context, sample_given(s, n, tokens, x_T, step_noise, latents, images, progress, user));
}

/* ---------------------------------------------------------------- from images to tokens */

/* Scalars and tokens of images, with the sampler's choice of weights, in two slots. */
static encdiff_status encode(encdiff_sampler *s, const char *what, const encdiff_image_view *images, slot scalar_slot,
                             float **scalars, slot token_slot, float **tokens)
{
    encdiff_model *m = s->model;
    float *pixels;
    ED_TRY(ed_api_check_images(m, what, images));
    ED_TRY(take(s, PIXELS, images->n, image_floats(s), &pixels));
    ED_TRY(take(s, scalar_slot, images->n, (size_t)ed_model_config(m)->encoder.latent_unit, scalars));
    ED_TRY(take(s, token_slot, images->n, token_floats(s), tokens));
    ED_TRY(ed_api_images_in(m, what, images, pixels));
    ed_infer_use_ema(m->infer, ed_model_ema(m, s->use_ema));
    const float *input = pixels;
    return ed_infer_run(m->infer, ED_INFER_ENCODE, images->n, &input, (float *[]){*scalars, *tokens});
}

static encdiff_status tokens_of(encdiff_sampler *s, int64_t n, const float *scalars, float *tokens)
{
    ed_infer_use_ema(s->model->infer, ed_model_ema(s->model, s->use_ema));
    return ed_infer_run(s->model->infer, ED_INFER_TOKENS, n, &scalars, &tokens);
}

static encdiff_status reconstruct(encdiff_sampler *s, const encdiff_image_view *images, const float *x_T,
                                  encdiff_image_view *out, const forward *f)
{
    float *scalars, *tokens;
    ED_REQUIRE(s->model->context, out);
    ED_TRY(encode(s, "encdiff_sampler_reconstruct", images, SCALARS, &scalars, TOKENS, &tokens));
    return sample_tokens(s, images->n, tokens, x_T, out, f);
}

encdiff_status encdiff_sampler_reconstruct(encdiff_sampler *s, const encdiff_image_view *images, const float *x_T,
                                           encdiff_image_view *reconstructed, encdiff_progress progress, void *user)
{
    ED_API_BEGIN;
    if (!s) return ENCDIFF_ERROR_ARGUMENT;
    forward f = {progress, user, s->model, "reconstructing"};
    return ed_api_done(s->model->context, reconstruct(s, images, x_T, reconstructed, &f));
}

/* ---------------------------------------------------------------- edits */

static encdiff_status check_concept(encdiff_sampler *s, int32_t number)
{
    int count = ed_model_config(s->model)->encoder.latent_unit;
    if (number >= 0 && number < count) return ENCDIFF_OK;
    return ed_fail(env_of(s), ENCDIFF_ERROR_ARGUMENT, "concept %d: the model has 0 .. %d", (int)number, count - 1);
}

static encdiff_status swap(encdiff_sampler *s, const encdiff_image_view *a, const encdiff_image_view *b,
                           const int32_t *concepts, int32_t count, const float *x_T, encdiff_image_view *out,
                           const forward *f)
{
    float *scalars, *tokens, *other_scalars, *other;
    size_t dim = (size_t)ed_model_config(s->model)->encoder.context_dim;
    ED_REQUIRE(s->model->context, a && b && out && count >= 0 && (concepts || count == 0));
    if (a->n != b->n) return ed_fail(env_of(s), ENCDIFF_ERROR_SHAPE, "a has %d images, b %d", (int)a->n, (int)b->n);
    for (int32_t k = 0; k < count; k++) ED_TRY(check_concept(s, concepts[k]));
    ED_TRY(encode(s, "images a", a, SCALARS, &scalars, TOKENS, &tokens));
    ED_TRY(encode(s, "images b", b, OTHER_SCALARS, &other_scalars, OTHER_TOKENS, &other));
    for (int32_t i = 0; i < a->n; i++)
        for (int32_t k = 0; k < count; k++) {
            size_t at = (size_t)i * token_floats(s) + (size_t)concepts[k] * dim;
            memcpy(tokens + at, other + at, dim * sizeof *tokens);
        }
    return sample_tokens(s, a->n, tokens, x_T, out, f);
}

encdiff_status encdiff_sampler_swap(encdiff_sampler *s, const encdiff_image_view *a, const encdiff_image_view *b,
                                    const int32_t *concepts, int32_t count, const float *x_T,
                                    encdiff_image_view *swapped, encdiff_progress progress, void *user)
{
    ED_API_BEGIN;
    if (!s) return ENCDIFF_ERROR_ARGUMENT;
    forward f = {progress, user, s->model, "swapping"};
    return ed_api_done(s->model->context, swap(s, a, b, concepts, count, x_T, swapped, &f));
}

/* Many versions of one image's scalars, all from the same starting noise; `vary` writes version i. */
typedef struct versions {
    const float *a, *b, *values; /* scalars of one or two images; a value or weight per version */
    int32_t concept_index;       /* -1: interpolate all */
} versions;

static float version_scalar(const versions *v, int32_t i, int32_t k)
{
    if (v->concept_index < 0) return v->a[k] + v->values[i] * (v->b[k] - v->a[k]);
    return k == v->concept_index ? v->values[i] : v->a[k];
}

static encdiff_status sample_versions(encdiff_sampler *s, const versions *v, int32_t count, const float *x_T,
                                      encdiff_image_view *out, const forward *f)
{
    int32_t concepts = ed_model_config(s->model)->encoder.latent_unit;
    size_t item = ed_model_latent_floats(s->model);
    float *scalars, *tokens, *noise;
    ED_TRY(follow_model(s));
    ED_TRY(take(s, VERSIONS, count, (size_t)concepts, &scalars));
    ED_TRY(take(s, VERSION_TOKENS, count, token_floats(s), &tokens));
    ED_TRY(take(s, NOISE, count, item, &noise));
    for (int32_t i = 0; i < count; i++)
        for (int32_t k = 0; k < concepts; k++)
            scalars[(size_t)i * (size_t)concepts + (size_t)k] = version_scalar(v, i, k);
    if (x_T)
        memcpy(noise, x_T, item * sizeof *noise);
    else
        ed_generator_draw(s->generator, 0, 1, noise);
    for (int32_t i = 1; i < count; i++) memcpy(noise + (size_t)i * item, noise, item * sizeof *noise);
    ED_TRY(tokens_of(s, count, scalars, tokens));
    return sample_tokens(s, count, tokens, noise, out, f);
}

static encdiff_status one_image(encdiff_sampler *s, const char *what, const encdiff_image_view *view)
{
    ED_TRY(ed_api_check_images(s->model, what, view));
    if (view->n == 1) return ENCDIFF_OK;
    return ed_fail(env_of(s), ENCDIFF_ERROR_SHAPE, "%s: one image is needed, not %d", what, (int)view->n);
}

static encdiff_status traverse(encdiff_sampler *s, const encdiff_image_view *image, int32_t concept_index,
                               const float *values, int32_t count, const float *x_T, encdiff_image_view *out,
                               const forward *f)
{
    float *scalars, *tokens;
    ED_REQUIRE(s->model->context, values && count >= 1 && out);
    ED_TRY(one_image(s, "encdiff_sampler_traverse", image));
    ED_TRY(check_concept(s, concept_index));
    ED_TRY(ed_api_check_finite(s->model->context, "values", values, (size_t)count));
    ED_TRY(encode(s, "encdiff_sampler_traverse", image, SCALARS, &scalars, TOKENS, &tokens));
    versions v = {.a = scalars, .values = values, .concept_index = concept_index};
    return sample_versions(s, &v, count, x_T, out, f);
}

encdiff_status encdiff_sampler_traverse(encdiff_sampler *s, const encdiff_image_view *image, int32_t concept_index,
                                        const float *values, int32_t count, const float *x_T,
                                        encdiff_image_view *varied, encdiff_progress progress, void *user)
{
    ED_API_BEGIN;
    if (!s) return ENCDIFF_ERROR_ARGUMENT;
    forward f = {progress, user, s->model, "traversing"};
    return ed_api_done(s->model->context, traverse(s, image, concept_index, values, count, x_T, varied, &f));
}

static encdiff_status interpolate(encdiff_sampler *s, const encdiff_image_view *a, const encdiff_image_view *b,
                                  const float *weights, int32_t count, const float *x_T, encdiff_image_view *out,
                                  const forward *f)
{
    float *scalars, *tokens, *other_scalars, *other;
    ED_REQUIRE(s->model->context, weights && count >= 1 && out);
    ED_TRY(one_image(s, "image a", a));
    ED_TRY(one_image(s, "image b", b));
    ED_TRY(ed_api_check_finite(s->model->context, "weights", weights, (size_t)count));
    ED_TRY(encode(s, "image a", a, SCALARS, &scalars, TOKENS, &tokens));
    ED_TRY(encode(s, "image b", b, OTHER_SCALARS, &other_scalars, OTHER_TOKENS, &other));
    versions v = {.a = scalars, .b = other_scalars, .values = weights, .concept_index = -1};
    return sample_versions(s, &v, count, x_T, out, f);
}

encdiff_status encdiff_sampler_interpolate(encdiff_sampler *s, const encdiff_image_view *a, const encdiff_image_view *b,
                                           const float *weights, int32_t count, const float *x_T,
                                           encdiff_image_view *interpolated, encdiff_progress progress, void *user)
{
    ED_API_BEGIN;
    if (!s) return ENCDIFF_ERROR_ARGUMENT;
    forward f = {progress, user, s->model, "interpolating"};
    return ed_api_done(s->model->context, interpolate(s, a, b, weights, count, x_T, interpolated, &f));
}

/* ---------------------------------------------------------------- inversion and attention */

static encdiff_status invert(encdiff_sampler *s, const encdiff_image_view *images, const float *tokens, float *x_T,
                             const forward *f)
{
    float *scalars, *own, *pixels;
    ED_REQUIRE(s->model->context, x_T);
    ED_TRY(follow_model(s));
    ED_TRY(encode(s, "encdiff_sampler_invert", images, SCALARS, &scalars, TOKENS, &own));
    if (tokens) ED_TRY(ed_api_check_finite(s->model->context, "tokens", tokens, (size_t)images->n * token_floats(s)));
    ED_TRY(take(s, PIXELS, images->n, image_floats(s), &pixels)); /* where encode() left them */
    ed_generate_args args = {.n = images->n,
                             .tokens = tokens ? tokens : own,
                             .latents = x_T,
                             .progress = f->progress ? forward_progress : NULL,
                             .user = (void *)(uintptr_t)f};
    return ed_generate_inverse(s->generator, pixels, &args);
}

encdiff_status encdiff_sampler_invert(encdiff_sampler *s, const encdiff_image_view *images, const float *tokens,
                                      float *x_T, encdiff_progress progress, void *user)
{
    ED_API_BEGIN;
    if (!s) return ENCDIFF_ERROR_ARGUMENT;
    forward f = {progress, user, s->model, "inverting"};
    return ed_api_done(s->model->context, invert(s, images, tokens, x_T, &f));
}

static encdiff_status attention(encdiff_sampler *s, int32_t n, const float *tokens, const float *x_T, int32_t height,
                                int32_t width, float *maps, encdiff_image_view *images, const forward *f)
{
    ED_REQUIRE(s->model->context, n >= 1 && tokens && maps);
    ED_REQUIRE(s->model->context, height >= 1 && width >= 1 && height <= 65536 && width <= 65536);
    ed_generate_args args = {
        .n = n, .tokens = tokens, .x_T = x_T, .maps = maps, .map_height = height, .map_width = width};
    return sample(s, &args, images, f);
}

encdiff_status encdiff_sampler_attention(encdiff_sampler *s, int32_t n, const float *tokens, const float *x_T,
                                         int32_t height, int32_t width, float *maps, encdiff_image_view *images,
                                         encdiff_progress progress, void *user)
{
    ED_API_BEGIN;
    if (!s) return ENCDIFF_ERROR_ARGUMENT;
    forward f = {progress, user, s->model, "denoising"};
    return ed_api_done(s->model->context, attention(s, n, tokens, x_T, height, width, maps, images, &f));
}
