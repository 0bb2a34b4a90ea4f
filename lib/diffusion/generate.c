/* The sampler works in C, H, W order on the host; the networks have channels last. This file is where the two meet. */
#include "diffusion/generate.h"

struct ed_generator {
    ed_env *env;
    ed_infer *infer;
    ed_team *team;
    ed_networks *networks;
    ed_generator_options options;
    ed_schedule schedule;
    ed_sampler *sampler;
    int size, channels, side; /* of latents; of images */
    size_t elements;
    int capacity; /* images that the buffers below hold */
    float *x, *prediction, *planar, *preview;
    const ed_generate_args *args; /* of the run */
    int calls;                    /* of the U-Net in the run */
};

/* ---------------------------------------------------------------- latents and images */

encdiff_status ed_latents_of_images(ed_infer *infer, ed_networks *n, int64_t count, const float *images, float *latents)
{
    size_t z = (size_t)ed_config_latent_size(&n->config),
           total = (size_t)count * z * z * (size_t)ed_config_latent_channels(&n->config);
    ED_TRY(ed_infer_run(infer, ED_INFER_LATENTS, count, &images, &latents));
    for (size_t i = 0; i < total; i++) latents[i] *= n->scale_factor;
    return ENCDIFF_OK;
}

encdiff_status ed_images_of_latents(ed_infer *infer, ed_networks *n, int64_t count, const float *latents,
                                    float *scratch, bool quantize, float *images)
{
    size_t z = (size_t)ed_config_latent_size(&n->config),
           total = (size_t)count * z * z * (size_t)ed_config_latent_channels(&n->config);
    for (size_t i = 0; i < total; i++) scratch[i] = latents[i] / n->scale_factor;
    const float *input = scratch;
    bool vq = n->config.autoencoder.kind == ED_AE_VQ;
    return ed_infer_run(infer, quantize && vq ? ED_INFER_DECODE_QUANTIZED : ED_INFER_DECODE, count, &input, &images);
}

/* ---------------------------------------------------------------- attention maps */

/* Add one layer's map [n, size*size, N], resized bilinearly (pixel centres, edges clamped), to maps
 * [n][N][height][width]. */
static void add_map(const float *map, int64_t n, int size, int tokens, float weight, int height, int width, float *maps)
{
    for (int64_t i = 0; i < n; i++)
        for (int y = 0; y < height; y++) {
            float sy = ED_MIN(ED_MAX(((float)y + 0.5f) * (float)size / (float)height - 0.5f, 0.0f), (float)(size - 1));
            int y0 = (int)sy, y1 = ED_MIN(y0 + 1, size - 1);
            for (int x = 0; x < width; x++) {
                float sx = ED_MIN(ED_MAX(((float)x + 0.5f) * (float)size / (float)width - 0.5f, 0.0f),
                                  (float)(size - 1));
                int x0 = (int)sx, x1 = ED_MIN(x0 + 1, size - 1);
                float fy = sy - (float)y0, fx = sx - (float)x0;
                const float *m = map + (size_t)i * (size_t)(size * size * tokens);
                for (int k = 0; k < tokens; k++) {
                    float top = m[(y0 * size + x0) * tokens + k] * (1 - fx) + m[(y0 * size + x1) * tokens + k] * fx;
                    float low = m[(y1 * size + x0) * tokens + k] * (1 - fx) + m[(y1 * size + x1) * tokens + k] * fx;
                    maps[(((size_t)i * (size_t)tokens + (size_t)k) * (size_t)height + (size_t)y) * (size_t)width +
                         (size_t)x] += weight * (top * (1 - fy) + low * fy);
                }
            }
        }
}

encdiff_status ed_attention_maps(ed_infer *infer, ed_team *team, ed_networks *networks, int64_t n,
                                 const float *const inputs[3], float *prediction, int height, int width, bool add,
                                 float *maps)
{
    ed_env *env = team->env;
    int count, sizes[ED_MAX_MAPS], tokens = networks->config.encoder.latent_unit;
    float *outputs[ED_INFER_MAX_OPERANDS] = {prediction};
    encdiff_status status = ENCDIFF_OK;
    ED_TRY(ed_infer_map_sizes(infer, &count, sizes));
    for (int i = 0; i < count && status == ENCDIFF_OK; i++) {
        outputs[i + 1] = ed_alloc(env, (size_t)n * (size_t)(sizes[i] * sizes[i] * tokens), sizeof(float));
        if (!outputs[i + 1]) status = ENCDIFF_ERROR_OUT_OF_MEMORY;
    }
    if (status == ENCDIFF_OK) status = ed_infer_run(infer, ED_INFER_MAPS, n, inputs, outputs);
    if (status == ENCDIFF_OK && !add)
        memset(maps, 0, (size_t)n * (size_t)tokens * (size_t)height * (size_t)width * sizeof *maps);
    for (int i = 0; i < count; i++) {
        if (status == ENCDIFF_OK)
            add_map(outputs[i + 1], n, sizes[i], tokens, 1.0f / (float)count, height, width, maps);
        ed_free(env, outputs[i + 1]);
    }
    return status;
}

/* ---------------------------------------------------------------- life */

encdiff_status ed_generator_create(ed_infer *infer, ed_team *team, ed_networks *networks,
                                   const ed_generator_options *options, ed_generator **out)
{
    *out = NULL;
    const ed_config *c = &networks->config;
    ed_generator *g = ed_alloc(team->env, 1, sizeof *g);
    if (!g) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    *g = (ed_generator){.env = team->env,
                        .infer = infer,
                        .team = team,
                        .networks = networks,
                        .options = *options,
                        .size = ed_config_latent_size(c),
                        .channels = ed_config_latent_channels(c),
                        .side = c->image.resolution};
    g->elements = (size_t)g->size * (size_t)g->size * (size_t)g->channels;
    g->options.sampler.elements = g->elements;
    g->options.sampler.parameterization = c->diffusion.parameterization;
    encdiff_status status = ed_schedule_from_config(g->env, c, &g->schedule);
    if (status == ENCDIFF_OK) status = ed_sampler_create(g->env, &g->schedule, &g->options.sampler, &g->sampler);
    if (status != ENCDIFF_OK)
        ed_generator_free(g);
    else
        *out = g;
    return status;
}

static void free_buffers(ed_generator *g)
{
    ed_free(g->env, g->x);
    ed_free(g->env, g->prediction);
    ed_free(g->env, g->planar);
    ed_free(g->env, g->preview);
    g->x = g->prediction = g->planar = g->preview = NULL;
    g->capacity = 0;
}

void ed_generator_free(ed_generator *g)
{
    if (!g) return;
    free_buffers(g);
    ed_sampler_free(g->env, g->sampler);
    ed_schedule_free(g->env, &g->schedule);
    ed_free(g->env, g);
}

int ed_generator_step_count(const ed_generator *g) { return ed_sampler_step_count(g->sampler); }

void ed_generator_draw(ed_generator *g, uint64_t first_image, int n, float *x_T)
{
    ed_sampler_draw(g->sampler, first_image, n, x_T);
}

static encdiff_status reserve(ed_generator *g, int n)
{
    if (n <= g->capacity) return ENCDIFF_OK;
    free_buffers(g);
    size_t latents = (size_t)n * g->elements, pixels = (size_t)n * (size_t)g->side * (size_t)g->side * 3;
    g->x = ed_alloc(g->env, latents, sizeof(float));
    g->prediction = ed_alloc(g->env, latents, sizeof(float));
    g->planar = ed_alloc(g->env, latents, sizeof(float));
    if (g->options.preview_every > 0) g->preview = ed_alloc(g->env, pixels, sizeof(float));
    if (!g->x || !g->prediction || !g->planar || (g->options.preview_every > 0 && !g->preview)) {
        free_buffers(g);
        return ENCDIFF_ERROR_OUT_OF_MEMORY;
    }
    g->capacity = n;
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- what the sampler asks */

static void to_last(const ed_generator *g, int n, const float *planar, float *out)
{
    ed_nchw_to_nhwc(planar, out, n, g->channels, g->size, g->size);
}

static void to_planar(const ed_generator *g, int n, const float *last, float *out)
{
    ed_nhwc_to_nchw(last, out, n, g->channels, g->size, g->size);
}

static encdiff_status predict(void *user, int n, const float *x, const float *timesteps, float *out)
{
    ed_generator *g = user;
    const ed_generate_args *a = g->args;
    to_last(g, n, x, g->x);
    const float *inputs[] = {g->x, timesteps, a->tokens};
    if (a->maps)
        ED_TRY(ed_attention_maps(g->infer, g->team, g->networks, n, inputs, g->prediction, a->map_height, a->map_width,
                                 true, a->maps));
    else
        ED_TRY(ed_infer_run(g->infer, ED_INFER_PREDICT, n, inputs, &g->prediction));
    g->calls++;
    to_planar(g, n, g->prediction, out);
    return ENCDIFF_OK;
}

/* The nearest codebook entries of clean latents, in place. */
static encdiff_status quantize(void *user, int n, float *x0)
{
    ed_generator *g = user;
    float scale = g->networks->scale_factor;
    to_last(g, n, x0, g->x);
    for (size_t i = 0; i < (size_t)n * g->elements; i++) g->x[i] /= scale;
    const float *input = g->x;
    ED_TRY(ed_infer_run(g->infer, ED_INFER_QUANTIZE, n, &input, &g->prediction));
    for (size_t i = 0; i < (size_t)n * g->elements; i++) g->prediction[i] *= scale;
    to_planar(g, n, g->prediction, x0);
    return ENCDIFF_OK;
}

static encdiff_status decode(ed_generator *g, int n, const float *planar, float *images)
{
    to_last(g, n, planar, g->x);
    return ed_images_of_latents(g->infer, g->networks, n, g->x, g->prediction, g->options.quantize_latents, images);
}

static int progressed(void *user, int done, int total, int n, const float *x0)
{
    ed_generator *g = user;
    int every = g->options.preview_every;
    const float *preview = NULL;
    if (every > 0 && (done % every == 0 || done == total) && decode(g, n, x0, g->preview) == ENCDIFF_OK)
        preview = g->preview;
    return g->args->progress ? g->args->progress(g->args->user, done, total, n, preview) : 0;
}

/* ---------------------------------------------------------------- runs */

static ed_denoiser denoiser_of(ed_generator *g)
{
    bool vq = g->networks->config.autoencoder.kind == ED_AE_VQ;
    return (ed_denoiser){
        .predict = predict, .quantize = g->options.quantize_denoised && vq ? quantize : NULL, .user = g};
}

static encdiff_status begin(ed_generator *g, const ed_generate_args *args)
{
    ED_TRY(reserve(g, args->n));
    ed_infer_use_ema(g->infer, g->options.use_ema);
    g->args = args;
    g->calls = 0;
    if (args->maps)
        memset(args->maps, 0,
               (size_t)args->n * (size_t)g->networks->config.encoder.latent_unit * (size_t)args->map_height *
                   (size_t)args->map_width * sizeof(float));
    return ENCDIFF_OK;
}

encdiff_status ed_generate(ed_generator *g, const ed_generate_args *args)
{
    ED_TRY(begin(g, args));
    ed_denoiser denoiser = denoiser_of(g);
    float *x = args->latents ? args->latents : g->planar;
    ed_sampler_run_args run = {.n = args->n,
                               .first_image = args->first_image,
                               .x_T = args->x_T,
                               .step_noise = args->step_noise,
                               .x = x,
                               .progress = args->progress || g->options.preview_every > 0 ? progressed : NULL,
                               .progress_user = g};
    ED_TRY(ed_sampler_run(g->env, g->sampler, &denoiser, &run));
    size_t maps = (size_t)args->n * (size_t)g->networks->config.encoder.latent_unit * (size_t)args->map_height *
                  (size_t)args->map_width;
    for (size_t i = 0; args->maps && i < maps; i++) args->maps[i] /= (float)ED_MAX(g->calls, 1);
    return args->images ? decode(g, args->n, x, args->images) : ENCDIFF_OK;
}

encdiff_status ed_generate_inverse(ed_generator *g, const float *images, const ed_generate_args *args)
{
    ED_TRY(begin(g, args));
    ed_denoiser denoiser = denoiser_of(g);
    ED_TRY(ed_latents_of_images(g->infer, g->networks, args->n, images, g->x));
    to_planar(g, args->n, g->x, g->planar);
    ed_sampler_run_args run = {.n = args->n,
                               .x_T = g->planar,
                               .x = args->latents,
                               .progress = args->progress ? progressed : NULL,
                               .progress_user = g};
    return ed_sampler_invert(g->env, g->sampler, &denoiser, &run);
}
