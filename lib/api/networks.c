/* Running a model's networks on the caller's arrays: layouts are converted here, the rest is lib/model/infer.h. */
#include <math.h>

#include "api/handles.h"

/* ---------------------------------------------------------------- checks and conversions */

size_t ed_model_latent_floats(const encdiff_model *m)
{
    const ed_config *c = ed_model_config(m);
    size_t z = (size_t)ed_config_latent_size(c);
    return z * z * (size_t)ed_config_latent_channels(c);
}

static size_t token_floats(const encdiff_model *m)
{
    const ed_config *c = ed_model_config(m);
    return (size_t)c->encoder.latent_unit * (size_t)c->encoder.context_dim;
}

static size_t image_floats(const encdiff_model *m)
{
    size_t side = (size_t)ed_model_config(m)->image.resolution;
    return side * side * 3;
}

float *ed_model_buffer(encdiff_model *m, int slot, size_t count)
{
    if (count > m->capacities[slot] || !m->buffers[slot]) {
        ed_free(&m->context->env, m->buffers[slot]);
        m->buffers[slot] = ed_alloc(&m->context->env, ED_MAX(count, 1), sizeof(float));
        m->capacities[slot] = m->buffers[slot] ? count : 0;
    }
    return m->buffers[slot];
}

encdiff_status ed_api_check_finite(encdiff_context *context, const char *what, const float *values, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!isfinite(values[i]))
            return ed_fail(&context->env, ENCDIFF_ERROR_NUMERIC, "%s: number %zu is %g", what, i, (double)values[i]);
    return ENCDIFF_OK;
}

encdiff_status ed_api_check_view(encdiff_context *context, const char *what, const encdiff_image_view *view)
{
    if (!view || !view->data) return ed_fail(&context->env, ENCDIFF_ERROR_ARGUMENT, "%s: no images are given", what);
    if (view->format < ENCDIFF_IMAGE_U8_NHWC || view->format > ENCDIFF_IMAGE_F32_NCHW)
        return ed_fail(&context->env, ENCDIFF_ERROR_ARGUMENT, "%s: format %d is not an encdiff_image_format", what,
                       (int)view->format);
    if (view->n < 1 || encdiff_image_view_bytes(view) == 0)
        return ed_fail(&context->env, ENCDIFF_ERROR_SHAPE, "%s: %d images of %dx%d are impossible", what, (int)view->n,
                       (int)view->height, (int)view->width);
    return ENCDIFF_OK;
}

encdiff_status ed_api_check_images(encdiff_model *m, const char *what, const encdiff_image_view *view)
{
    int side = ed_model_config(m)->image.resolution;
    ED_TRY(ed_api_check_view(m->context, what, view));
    if (view->height == side && view->width == side) return ENCDIFF_OK;
    return ed_fail(&m->context->env, ENCDIFF_ERROR_SHAPE, "%s: images are %dx%d, the model's are %dx%d", what,
                   (int)view->height, (int)view->width, side, side);
}

encdiff_status ed_api_images_in(encdiff_model *m, const char *what, const encdiff_image_view *view, float *out)
{
    ED_TRY(ed_api_check_images(m, what, view));
    size_t count = (size_t)view->n * image_floats(m);
    if (view->format == ENCDIFF_IMAGE_U8_NHWC) {
        ed_pixels_to_f32(view->data, count, out);
        return ENCDIFF_OK;
    }
    if (view->format == ENCDIFF_IMAGE_F32_NCHW)
        ed_nchw_to_nhwc(view->data, out, view->n, 3, view->height, view->width);
    else
        memcpy(out, view->data, count * sizeof *out);
    for (size_t i = 0; i < count; i++)
        if (!isfinite(out[i]))
            return ed_fail(&m->context->env, ENCDIFF_ERROR_NUMERIC, "%s: image %zu has a pixel that is %g", what,
                           i / image_floats(m), (double)out[i]);
    return ENCDIFF_OK;
}

/* The caller's images as f32 NHWC in a work buffer. */
static encdiff_status take_images(encdiff_model *m, const char *what, const encdiff_image_view *view, const float **out)
{
    ED_TRY(ed_api_check_images(m, what, view));
    float *buffer = ed_model_buffer(m, 0, (size_t)view->n * image_floats(m));
    if (!buffer) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    *out = buffer;
    return ed_api_images_in(m, what, view, buffer);
}

static void latents_in(encdiff_model *m, int64_t n, const float *planar, float *out)
{
    const ed_config *c = ed_model_config(m);
    ed_nchw_to_nhwc(planar, out, n, ed_config_latent_channels(c), ed_config_latent_size(c), ed_config_latent_size(c));
}

static void latents_out(encdiff_model *m, int64_t n, const float *last, float *out)
{
    const ed_config *c = ed_model_config(m);
    ed_nhwc_to_nchw(last, out, n, ed_config_latent_channels(c), ed_config_latent_size(c), ed_config_latent_size(c));
}

static encdiff_status begin(encdiff_model *m)
{
    ed_infer_use_ema(m->infer, ed_model_ema(m, ENCDIFF_DEFAULT));
    return ed_check_cancel(&m->context->env);
}

/* ---------------------------------------------------------------- encoder */

static encdiff_status encode(encdiff_model *m, const encdiff_image_view *images, float *scalars, float *tokens)
{
    const float *pixels;
    ED_TRY(begin(m));
    ED_TRY(take_images(m, "encdiff_model_encode", images, &pixels));
    return ed_infer_run(m->infer, ED_INFER_ENCODE, images->n, &pixels, (float *[]){scalars, tokens});
}

encdiff_status encdiff_model_encode(encdiff_model *m, const encdiff_image_view *images, float *scalars, float *tokens)
{
    ED_API_BEGIN;
    return m ? ed_api_done(m->context, encode(m, images, scalars, tokens)) : ENCDIFF_ERROR_ARGUMENT;
}

static encdiff_status tokens_from_scalars(encdiff_model *m, int32_t n, const float *scalars, float *tokens)
{
    ED_REQUIRE(m->context, n >= 1 && scalars && tokens);
    ED_TRY(begin(m));
    ED_TRY(ed_api_check_finite(m->context, "scalars", scalars,
                               (size_t)n * (size_t)ed_model_config(m)->encoder.latent_unit));
    return ed_infer_run(m->infer, ED_INFER_TOKENS, n, &scalars, &tokens);
}

encdiff_status encdiff_model_tokens_from_scalars(encdiff_model *m, int32_t n, const float *scalars, float *tokens)
{
    ED_API_BEGIN;
    return m ? ed_api_done(m->context, tokens_from_scalars(m, n, scalars, tokens)) : ENCDIFF_ERROR_ARGUMENT;
}

/* ---------------------------------------------------------------- autoencoder */

static encdiff_status latents_from_images(encdiff_model *m, const encdiff_image_view *images, float *latents)
{
    const float *pixels;
    ED_REQUIRE(m->context, latents);
    ED_TRY(begin(m));
    ED_TRY(take_images(m, "encdiff_model_latents_from_images", images, &pixels));
    float *last = ed_model_buffer(m, 1, (size_t)images->n * ed_model_latent_floats(m));
    if (!last) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    ED_TRY(ed_latents_of_images(m->infer, ed_model_networks(m), images->n, pixels, last));
    latents_out(m, images->n, last, latents);
    return ENCDIFF_OK;
}

encdiff_status encdiff_model_latents_from_images(encdiff_model *m, const encdiff_image_view *images, float *latents)
{
    ED_API_BEGIN;
    return m ? ed_api_done(m->context, latents_from_images(m, images, latents)) : ENCDIFF_ERROR_ARGUMENT;
}

static encdiff_status images_from_latents(encdiff_model *m, const float *latents, encdiff_switch quantize,
                                          encdiff_image_view *images)
{
    ED_REQUIRE(m->context, latents);
    ED_TRY(begin(m));
    ED_TRY(ed_api_check_images(m, "encdiff_model_images_from_latents", images));
    size_t count = (size_t)images->n * ed_model_latent_floats(m);
    ED_TRY(ed_api_check_finite(m->context, "latents", latents, count));
    float *pixels = ed_model_buffer(m, 0, (size_t)images->n * image_floats(m));
    float *last = ed_model_buffer(m, 1, count), *scratch = ed_model_buffer(m, 2, count);
    if (!pixels || !last || !scratch) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    latents_in(m, images->n, latents, last);
    ED_TRY(ed_images_of_latents(m->infer, ed_model_networks(m), images->n, last, scratch, quantize != ENCDIFF_OFF,
                                pixels));
    return ed_api_images_out(&m->context->env, pixels, images);
}

encdiff_status encdiff_model_images_from_latents(encdiff_model *m, const float *latents, encdiff_switch quantize,
                                                 encdiff_image_view *images)
{
    ED_API_BEGIN;
    return m ? ed_api_done(m->context, images_from_latents(m, latents, quantize, images)) : ENCDIFF_ERROR_ARGUMENT;
}

/* ---------------------------------------------------------------- U-Net */

/* Latents and timesteps in work buffers 1 and 2. */
static encdiff_status take_unet_inputs(encdiff_model *m, int32_t n, const float *latents, const int32_t *timesteps,
                                       const float *tokens, const float *out[3])
{
    int total = ed_model_config(m)->diffusion.timesteps;
    for (int32_t i = 0; i < n; i++)
        if (timesteps[i] < 0 || timesteps[i] >= total)
            return ed_fail(&m->context->env, ENCDIFF_ERROR_ARGUMENT, "timestep %d of image %d is not in 0 .. %d",
                           (int)timesteps[i], (int)i, total - 1);
    ED_TRY(ed_api_check_finite(m->context, "latents", latents, (size_t)n * ed_model_latent_floats(m)));
    ED_TRY(ed_api_check_finite(m->context, "tokens", tokens, (size_t)n * token_floats(m)));
    float *last = ed_model_buffer(m, 1, (size_t)n * ed_model_latent_floats(m)),
          *steps = ed_model_buffer(m, 2, (size_t)n);
    if (!last || !steps) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    latents_in(m, n, latents, last);
    for (int32_t i = 0; i < n; i++) steps[i] = (float)timesteps[i];
    out[0] = last;
    out[1] = steps;
    out[2] = tokens;
    return ENCDIFF_OK;
}

static encdiff_status predict(encdiff_model *m, int32_t n, const float *latents, const int32_t *timesteps,
                              const float *tokens, float *noise)
{
    const float *inputs[3];
    ED_REQUIRE(m->context, n >= 1 && latents && timesteps && tokens && noise);
    ED_TRY(begin(m));
    ED_TRY(take_unet_inputs(m, n, latents, timesteps, tokens, inputs));
    float *last = ed_model_buffer(m, 0, (size_t)n * ed_model_latent_floats(m));
    if (!last) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    ED_TRY(ed_infer_run(m->infer, ED_INFER_PREDICT, n, inputs, &last));
    latents_out(m, n, last, noise);
    return ENCDIFF_OK;
}

encdiff_status encdiff_model_predict_noise(encdiff_model *m, int32_t n, const float *latents, const int32_t *timesteps,
                                           const float *tokens, float *noise)
{
    ED_API_BEGIN;
    return m ? ed_api_done(m->context, predict(m, n, latents, timesteps, tokens, noise)) : ENCDIFF_ERROR_ARGUMENT;
}

static encdiff_status attention(encdiff_model *m, int32_t n, const float *latents, const int32_t *timesteps,
                                const float *tokens, int32_t height, int32_t width, float *maps)
{
    const float *inputs[3];
    ED_REQUIRE(m->context, n >= 1 && latents && timesteps && tokens && maps);
    ED_REQUIRE(m->context, height >= 1 && width >= 1 && height <= 65536 && width <= 65536);
    ED_TRY(begin(m));
    ED_TRY(take_unet_inputs(m, n, latents, timesteps, tokens, inputs));
    return ed_attention_maps(m->infer, m->context->team, ed_model_networks(m), n, inputs, NULL, height, width, false,
                             maps);
}

encdiff_status encdiff_model_attention(encdiff_model *m, int32_t n, const float *latents, const int32_t *timesteps,
                                       const float *tokens, int32_t height, int32_t width, float *maps)
{
    ED_API_BEGIN;
    return m ? ed_api_done(m->context, attention(m, n, latents, timesteps, tokens, height, width, maps))
             : ENCDIFF_ERROR_ARGUMENT;
}
