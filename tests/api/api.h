/*
 * What the tests of the public interface share: contexts whose memory is counted and can be made to fail, checks that
 * print the library's message, a model small enough to train within a test, and images.
 *
 * Every case opens its contexts with open_context() and closes them with close_context(), which fails when a byte is
 * left or a block was given back with another size than it was asked for with.
 */
#ifndef API_H
#define API_H

#include <fenv.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <encdiff/encdiff.h>

#include "test.h"

/* ---------------------------------------------------------------- memory */

typedef struct counted_memory {
    atomic_llong bytes;     /* held by the library */
    atomic_long blocks;     /* held by the library */
    atomic_long calls;      /* allocations asked for */
    atomic_long fail_from;  /* number of the first call that fails; 0: none */
    atomic_bool fail_once;  /* only that call fails; false: all from there on */
    atomic_bool mismatched; /* a block came back with another size, or was written behind its end */
} counted_memory;

#define BLOCK_END UINT64_C(0x5ab0b10cced1ff01)

static inline void *counted_allocate(size_t size, size_t alignment, void *user)
{
    counted_memory *memory = user;
    void *block = NULL;
    uint64_t end = BLOCK_END ^ size;
    long call = atomic_fetch_add(&memory->calls, 1) + 1, from = atomic_load(&memory->fail_from);
    if (from && (atomic_load(&memory->fail_once) ? call == from : call >= from)) return NULL;
    if (posix_memalign(&block, alignment < sizeof(void *) ? sizeof(void *) : alignment, size + sizeof end)) return NULL;
    memset(block, 0x5a, size); /* what is read before it is written shows */
    memcpy((char *)block + size, &end, sizeof end);
    atomic_fetch_add(&memory->bytes, (long long)size);
    atomic_fetch_add(&memory->blocks, 1);
    return block;
}

static inline void counted_deallocate(void *block, size_t size, void *user)
{
    counted_memory *memory = user;
    uint64_t end;
    memcpy(&end, (char *)block + size, sizeof end);
    if (end != (BLOCK_END ^ size)) atomic_store(&memory->mismatched, true);
    atomic_fetch_sub(&memory->bytes, (long long)size);
    atomic_fetch_sub(&memory->blocks, 1);
    free(block);
}

/* ---------------------------------------------------------------- contexts */

static inline encdiff_context *open_context_in(counted_memory *memory, int32_t threads, encdiff_precision precision)
{
    encdiff_context *context = NULL;
    encdiff_context_options options;
    memset(memory, 0, sizeof *memory);
    encdiff_context_options_init(&options, sizeof options);
    options.device = getenv("ENCDIFF_TEST_DEVICE"); /* the programs run on a GPU, or its emulation, too */
    options.threads = threads;
    options.precision = (int32_t)precision;
    options.allocate = counted_allocate;
    options.deallocate = counted_deallocate;
    options.allocator_user = memory;
    CHECK_EQUAL(encdiff_context_create(&options, &context), ENCDIFF_OK);
    return context;
}

static inline encdiff_context *open_context(counted_memory *memory, int32_t threads)
{
    return open_context_in(memory, threads, (encdiff_precision)0);
}

static inline void check_returned(counted_memory *memory)
{
    CHECK_EQUAL(atomic_load(&memory->blocks), 0);
    CHECK_EQUAL(atomic_load(&memory->bytes), 0);
    CHECK(!atomic_load(&memory->mismatched));
}

static inline void close_context(encdiff_context *context, counted_memory *memory)
{
    encdiff_context_free(context);
    check_returned(memory);
}

/* ---------------------------------------------------------------- checks */

static inline bool api_ok(encdiff_context *context, encdiff_status status, const char *call, const char *file, int line)
{
    return test_check(status == ENCDIFF_OK, file, line, "%s: %s: %s", call, encdiff_status_name(status),
                      encdiff_context_error(context));
}

static inline bool api_fails(encdiff_context *context, encdiff_status got, encdiff_status wanted, const char *text,
                             const char *call, const char *file, int line)
{
    const char *message = encdiff_context_error(context);
    if (!test_check(got == wanted, file, line, "%s: is \"%s\", not \"%s\" (%s)", call, encdiff_status_name(got),
                    encdiff_status_name(wanted), message))
        return false;
    return test_check(strstr(message, text) != NULL, file, line, "%s: \"%s\" does not name %s", call, message, text);
}

/* The call succeeds; its message is printed otherwise. */
#define OK(context, call) api_ok(context, call, #call, __FILE__, __LINE__)
/* The call fails with the status, and the context's message has the text. */
#define FAILS(context, call, status, text) api_fails(context, call, status, text, #call, __FILE__, __LINE__)

/* ---------------------------------------------------------------- hosts with traps */

/* Some hosts have a division by zero end the process; ours shall not be what divides. */
__attribute__((constructor)) static void set_traps(void)
{
    if (getenv("ENCDIFF_TEST_TRAPS")) feenableexcept(FE_DIVBYZERO | FE_INVALID | FE_OVERFLOW);
}

/* ---------------------------------------------------------------- a tiny model */

/* KEYS are further members of groups, in JSON. 16x16 pixels, latents 4x4x3, 4 tokens of 8. */
#define TINY_WITH(AUTOENCODER, TRAIN)                                                                                  \
    "{\"image\": {\"resolution\": 16}, \"autoencoder\": {" AUTOENCODER "},"                                            \
    " \"encoder\": {\"d\": 8, \"latent_unit\": 4, \"context_dim\": 8},"                                                \
    " \"unet\": {\"model_channels\": 32, \"channel_mult\": [1, 1], \"num_res_blocks\": 1,"                             \
    " \"attention_resolutions\": [2], \"num_heads\": 2},"                                                              \
    " \"diffusion\": {\"beta_schedule\": \"linear\", \"loss_type\": \"l2\"},"                                          \
    " \"train_autoencoder\": {\"batch_size\": 4, \"accumulate_grad_batches\": 1, \"base_learning_rate\": 0.001,"       \
    " \"scale_lr\": false, \"perceptual_weight\": 0, \"disc_ndf\": 8, \"disc_num_layers\": 2},"                        \
    " \"train_encdiff\": {\"batch_size\": 4, \"base_learning_rate\": 0.001, \"warm_up_steps\": 0" TRAIN "}}"
#define TINY TINY_WITH("\"kind\": \"average\", \"factor\": 4", "")
#define TINY_VQ TINY_WITH("\"kind\": \"vq\", \"ch_mult\": [1, 1], \"num_res_blocks\": 1, \"n_embed\": 32", "")
#define TINY_KL TINY_WITH("\"kind\": \"kl\", \"ch_mult\": [1, 1], \"num_res_blocks\": 1", "")

enum { SIDE = 16, PIXELS = SIDE * SIDE * 3, TOKENS = 4, TOKEN_DIM = 8, LATENT = 3 * 4 * 4, TIMESTEPS = 1000 };

static inline encdiff_model *make_model(encdiff_context *context, const char *config, uint64_t seed)
{
    encdiff_model *model = NULL;
    OK(context, encdiff_model_create(context, config, seed, &model));
    return model;
}

/* Values in a layer that starts at zero, so that the U-Net's output depends on all that goes in. */
static inline void fill_parameter(encdiff_context *context, encdiff_model *model, const char *name, int64_t count)
{
    float *values = calloc((size_t)count, sizeof *values);
    for (int64_t i = 0; i < count; i++) values[i] = 0.01f * sinf((float)(i * 7 + 1));
    OK(context, encdiff_model_write_parameter(model, name, count, values));
    free(values);
}

/* Every parameter moves away from its initial value where that is zero. */
static inline encdiff_model *make_awake_model(encdiff_context *context, const char *config)
{
    encdiff_model *model = make_model(context, config, 1);
    encdiff_parameter_info info = {.struct_size = sizeof info};
    for (int32_t i = 0; model && i < encdiff_model_parameter_count(model); i++) {
        float first[2] = {1, 1};
        OK(context, encdiff_model_get_parameter(model, i, &info));
        if (!info.trainable || info.rank < 2 || info.count < 2) continue;
        float *values = malloc((size_t)info.count * sizeof *values);
        OK(context, encdiff_model_read_parameter(model, info.name, info.count, values));
        memcpy(first, values, sizeof first);
        free(values);
        if (fabsf(first[0]) + fabsf(first[1]) <= 0) fill_parameter(context, model, info.name, info.count);
    }
    return model;
}

static inline encdiff_dataset *open_shapes(encdiff_context *context, const char *source)
{
    encdiff_dataset *dataset = NULL;
    encdiff_dataset_options options;
    encdiff_dataset_options_init(&options, sizeof options);
    options.height = SIDE;
    OK(context, encdiff_dataset_open(context, source, &options, &dataset));
    return dataset;
}

/* All parameters, statistics and averages after one another; NULL after a failure. */
static inline float *read_all(encdiff_context *context, encdiff_model *model, size_t *count)
{
    encdiff_parameter_info info = {.struct_size = sizeof info};
    float *all = NULL;
    *count = 0;
    for (int32_t i = 0; i < encdiff_model_parameter_count(model); i++) {
        OK(context, encdiff_model_get_parameter(model, i, &info));
        all = realloc(all, (*count + (size_t)info.count) * sizeof *all);
        OK(context, encdiff_model_read_parameter(model, info.name, info.count, all + *count));
        *count += (size_t)info.count;
    }
    return all;
}

static inline bool same_parameters(encdiff_context *context, encdiff_model *a, encdiff_model *b)
{
    size_t n, m;
    float *x = read_all(context, a, &n), *y = read_all(context, b, &m);
    bool same = n == m && n && memcmp(x, y, n * sizeof *x) == 0;
    free(x);
    free(y);
    return same;
}

/* ---------------------------------------------------------------- arrays and images */

/* Smooth numbers in [-1, 1] that differ from image to image. */
static inline void fill_floats(float *out, size_t count, int seed)
{
    for (size_t i = 0; i < count; i++) out[i] = sinf(0.37f * (float)i + 1.7f * (float)seed) * cosf(0.011f * (float)i);
}

static inline encdiff_image_view view_f32(float *data, int32_t n)
{
    return (encdiff_image_view){.data = data, .format = ENCDIFF_IMAGE_F32_NHWC, .n = n, .height = SIDE, .width = SIDE};
}

static inline double largest_difference(const float *a, const float *b, size_t count)
{
    double largest = 0;
    for (size_t i = 0; i < count; i++) {
        double d = fabs((double)a[i] - (double)b[i]);
        if (!(d <= largest)) largest = d; /* NaN stays */
    }
    return largest;
}

/* The largest difference in parts of the largest number of `a`. */
static inline double relative_difference(const float *a, const float *b, size_t count)
{
    double largest = 1e-30;
    for (size_t i = 0; i < count; i++) largest = fmax(largest, fabs((double)a[i]));
    return largest_difference(a, b, count) / largest;
}

/* ---------------------------------------------------------------- files */

/* A path of this process in the temporary folder; four may be in use at once. */
static inline const char *temporary(const char *name)
{
    static char paths[4][PATH_MAX];
    static int next;
    const char *folder = getenv("TMPDIR");
    char *path = paths[next++ % 4];
    snprintf(path, PATH_MAX, "%s/encdiff-api-%ld-%s", folder ? folder : "/tmp", (long)getpid(), name);
    return path;
}

#endif
