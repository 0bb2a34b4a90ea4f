/*
 * Latents of a batch. The autoencoder is frozen in this stage, so that the latent of an image never changes and may be
 * kept by dataset index; what a KL autoencoder samples from its moments is drawn anew each time.
 */
#include <math.h>

#include "train/trainer.h"

struct ed_latent_cache {
    int64_t images;
    size_t floats; /* of an image */
    float *data;
    uint8_t *known;                  /* one per image */
    float *missing_images, *missing; /* work space for the images of a batch that are not known */
    int64_t *places;
    size_t capacity;
};

encdiff_status ed_latent_cache_create(ed_env *env, int64_t images, size_t floats, ed_latent_cache **out)
{
    size_t count;
    *out = NULL;
    if (!ed_mul((size_t)images, floats, &count))
        return ed_fail(env, ENCDIFF_ERROR_OUT_OF_MEMORY, "latents of %lld images do not fit in memory",
                       (long long)images);
    ed_latent_cache *cache = ed_alloc(env, 1, sizeof *cache);
    if (!cache) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    cache->images = images;
    cache->floats = floats;
    cache->data = ed_alloc_raw(env, count * sizeof(float)); /* untouched pages cost nothing until they are filled */
    cache->known = ed_alloc(env, (size_t)images, 1);
    if (!cache->data || !cache->known) {
        ed_latent_cache_free(env, cache);
        return ENCDIFF_ERROR_OUT_OF_MEMORY;
    }
    *out = cache;
    return ENCDIFF_OK;
}

void ed_latent_cache_clear(ed_latent_cache *cache)
{
    if (cache) memset(cache->known, 0, (size_t)cache->images);
}

void ed_latent_cache_free(ed_env *env, ed_latent_cache *cache)
{
    if (!cache) return;
    ed_free(env, cache->data);
    ed_free(env, cache->known);
    ed_free(env, cache->missing_images);
    ed_free(env, cache->missing);
    ed_free(env, cache->places);
    ed_free(env, cache);
}

static encdiff_status reserve(ed_env *env, ed_latent_cache *cache, size_t n, size_t pixels)
{
    if (n <= cache->capacity) return ENCDIFF_OK;
    ed_free(env, cache->missing_images);
    ed_free(env, cache->missing);
    ed_free(env, cache->places);
    cache->missing_images = ed_alloc(env, n * pixels, sizeof(float));
    cache->missing = ed_alloc(env, n * cache->floats, sizeof(float));
    cache->places = ed_alloc(env, n, sizeof *cache->places);
    cache->capacity = cache->missing_images && cache->missing && cache->places ? n : 0;
    return cache->capacity ? ENCDIFF_OK : ENCDIFF_ERROR_OUT_OF_MEMORY;
}

static encdiff_status encode(ed_trainer *t, int64_t n, const float *images, float *out)
{
    return ed_infer_run(t->infer, ED_INFER_MOMENTS, n, &images, &out);
}

/* Encode the images that are not known yet, then copy all from the cache. */
static encdiff_status encode_cached(ed_trainer *t, int64_t n, const int64_t *indices, size_t pixels, float *out)
{
    ed_latent_cache *cache = t->cache;
    ED_TRY(reserve(t->env, cache, (size_t)n, pixels));
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++) {
        if (cache->known[indices[i]]) continue;
        cache->known[indices[i]] = 1; /* once, when an image occurs twice in a batch */
        cache->places[count] = indices[i];
        memcpy(cache->missing_images + (size_t)count++ * pixels, t->images + (size_t)i * pixels,
               pixels * sizeof(float));
    }
    encdiff_status status = count ? encode(t, count, cache->missing_images, cache->missing) : ENCDIFF_OK;
    for (int64_t i = 0; i < count; i++) {
        if (status != ENCDIFF_OK)
            cache->known[cache->places[i]] = 0;
        else
            memcpy(cache->data + (size_t)cache->places[i] * cache->floats, cache->missing + (size_t)i * cache->floats,
                   cache->floats * sizeof(float));
    }
    for (int64_t i = 0; i < n && status == ENCDIFF_OK; i++)
        memcpy(out + (size_t)i * cache->floats, cache->data + (size_t)indices[i] * cache->floats,
               cache->floats * sizeof(float));
    return status;
}

/* Moments [n, h, w, 2c] at the start of `latents`, which has room for them, become samples [n, h, w, c]. */
static void sample_posterior(ed_trainer *t, int64_t n, size_t positions, size_t c)
{
    size_t total = (size_t)n * positions;
    for (size_t p = 0; p < total; p++)
        for (size_t k = 0; k < c; k++) {
            float mean = t->latents[p * 2 * c + k], logvar = t->latents[p * 2 * c + c + k];
            float noise = ed_normal(t->options.seed, ED_RANDOM_POSTERIOR, (uint64_t)t->batches, p * c + k);
            t->latents[p * c + k] = mean + expf(0.5f * fminf(fmaxf(logvar, -30.0f), 20.0f)) * noise;
        }
}

/* 1 / standard deviation of the first batch (Rombach et al. 2022, appendix G), unbiased as PyTorch's. */
static encdiff_status measure_scale(ed_trainer *t, size_t count)
{
    double mean = 0, sum = 0;
    for (size_t i = 0; i < count; i++) mean += (double)t->latents[i];
    mean /= (double)count;
    for (size_t i = 0; i < count; i++) sum += ((double)t->latents[i] - mean) * ((double)t->latents[i] - mean);
    double deviation = sqrt(sum / (double)ED_MAX(count - 1, 1));
    if (!(deviation > 1e-8))
        return ed_fail(t->env, ENCDIFF_ERROR_NUMERIC,
                       "the first batch's latents have standard deviation %g: no scale follows from it", deviation);
    t->networks->scale_factor = (float)(1.0 / deviation);
    return ENCDIFF_OK;
}

encdiff_status ed_trainer_latents(ed_trainer *t, int64_t n, const int64_t *indices)
{
    const ed_config *c = &t->networks->config;
    size_t side = (size_t)c->image.resolution, z = (size_t)ed_config_latent_size(c),
           channels = (size_t)ed_config_latent_channels(c);
    if (t->cache && indices)
        ED_TRY(encode_cached(t, n, indices, side * side * 3, t->latents));
    else
        ED_TRY(encode(t, n, t->images, t->latents));
    if (c->autoencoder.kind == ED_AE_KL) sample_posterior(t, n, z * z, channels);
    size_t count = (size_t)n * z * z * channels;
    if (c->train_encdiff.scale_by_std && !t->networks->scale_known) {
        ED_TRY(measure_scale(t, count));
        t->networks->scale_known = true;
    }
    float scale = t->networks->scale_factor;
    for (size_t i = 0; i < count; i++) t->latents[i] *= scale;
    return ENCDIFF_OK;
}
