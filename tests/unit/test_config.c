/* Configurations: presets, defaults, reading, printing, overrides, and the message of every way to be wrong. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <unistd.h>

#include "model/config.h"
#include "test.h"

#ifndef CONFIGS
#define CONFIGS "configs"
#endif

typedef struct place {
    ed_memory memory;
    ed_env env;
} place;

static ed_env *place_init(place *p)
{
    *p = (place){0};
    ed_memory_init(&p->memory, NULL);
    p->env = (ed_env){.memory = &p->memory};
    return &p->env;
}

static void check_nothing_left(place *p) { CHECK_EQUAL(atomic_load(&p->memory.in_use), 0); }

static encdiff_status resolve(ed_env *env, const char *source, const char *override, ed_config *config)
{
    return ed_config_resolve(env, source, &override, override ? 1 : 0, config);
}

/* ---------------------------------------------------------------- presets */

static void presets_are_the_files_in_configs(void)
{
    place p;
    ed_env *env = place_init(&p);
    for (int i = 0; i < ed_preset_count(); i++) {
        char path[512], *text;
        snprintf(path, sizeof path, "%s/%s.json", CONFIGS, ed_preset_name(i));
        if (!CHECK_THAT(ed_read_file(env, path, 1 << 20, &text, NULL) == ENCDIFF_OK, "%s", env->message)) continue;
        CHECK_THAT(strcmp(text, ed_preset_json(i)) == 0, "%s differs from what is compiled in", path);
        ed_free(env, text);
    }
    check_nothing_left(&p);
}

static void presets_are_listed_once_with_a_description(void)
{
    static const char *const promised[] = {"shapes3d-quick", "shapes3d-tiny",  "shapes3d-small",  "shapes3d-official",
                                           "shapes3d-paper", "mpi3d-official", "cars3d-official", "celeba-official"};
    for (size_t i = 0; i < ED_COUNT(promised); i++)
        CHECK_THAT(ed_preset_find(promised[i]) >= 0, "no preset %s", promised[i]);
    for (int i = 0; i < ed_preset_count(); i++) {
        CHECK_EQUAL(ed_preset_find(ed_preset_name(i)), i);
        CHECK(strlen(ed_preset_description(i)) > 20);
    }
    CHECK(!ed_preset_name(-1) && !ed_preset_name(ed_preset_count()));
    CHECK(!ed_preset_json(-1) && !ed_preset_description(ed_preset_count()));
    CHECK_EQUAL(ed_preset_find("shapes3d"), -1);
}

static void every_preset_survives_printing_and_reading(void)
{
    place p;
    ed_env *env = place_init(&p);
    for (int i = 0; i < ed_preset_count(); i++)
        for (int pretty = 0; pretty < 2; pretty++) {
            ed_config first, second;
            ed_text text = {0};
            if (!CHECK_THAT(resolve(env, ed_preset_name(i), NULL, &first) == ENCDIFF_OK, "%s", env->message)) continue;
            CHECK_EQUAL(ed_config_print(env, &first, pretty, &text), ENCDIFF_OK);
            CHECK_THAT(resolve(env, text.data, NULL, &second) == ENCDIFF_OK, "%s", env->message);
            CHECK_THAT(memcmp(&first, &second, sizeof first) == 0, "%s changed", ed_preset_name(i));
            ed_text_free(env, &text);
        }
    check_nothing_left(&p);
}

static void the_official_preset_is_the_released_configuration(void)
{
    place p;
    ed_config c;
    CHECK_EQUAL(resolve(place_init(&p), "shapes3d-official", NULL, &c), ENCDIFF_OK);
    CHECK_EQUAL(c.autoencoder.kind, ED_AE_VQ);
    CHECK(c.autoencoder.ch == 32 && c.autoencoder.ch_mult.count == 3 && c.autoencoder.ch_mult.values[2] == 4);
    CHECK(c.autoencoder.n_embed == 2048 && c.autoencoder.embed_dim == 3 && c.autoencoder.legacy);
    CHECK(c.encoder.d == 128 && c.encoder.latent_unit == 20 && c.encoder.context_dim == 16);
    CHECK(c.unet.model_channels == 64 && c.unet.channel_mult.count == 4 && c.unet.num_heads == 8);
    CHECK_EQUAL(c.diffusion.beta_schedule, ED_SCHEDULE_LINEAR);
    CHECK_EQUAL(c.diffusion.loss_type, ED_CONFIG_L1);
    CHECK_NEAR(c.train_encdiff.base_learning_rate, 2e-6 * 128, 1e-18, "published as 2e-6 for each image of the batch");
    CHECK_NEAR(ed_config_autoencoder_learning_rate(&c), 4.5e-6 * 128 * 2, 1e-15, "rounding");
    CHECK_EQUAL(ed_config_latent_channels(&c), 3);
    CHECK_EQUAL(ed_config_latent_size(&c), 16);
    check_nothing_left(&p);
}

/* The official file is there to be read by people: it has every key, and the defaults are its values. */
static void the_official_file_is_complete_and_the_default(void)
{
    place p;
    ed_env *env = place_init(&p);
    ed_config official, defaults;
    ed_text text = {0};
    CHECK_EQUAL(resolve(env, "shapes3d-official", NULL, &official), ENCDIFF_OK);
    CHECK_EQUAL(ed_config_print(env, &official, true, &text), ENCDIFF_OK);
    CHECK_EQUAL(ed_text_add(env, &text, "\n"), ENCDIFF_OK);
    CHECK(strcmp(text.data, ed_preset_json(ed_preset_find("shapes3d-official"))) == 0);
    CHECK_EQUAL(resolve(env, "{}", "data.source=3dshapes.h5", &defaults), ENCDIFF_OK);
    CHECK(memcmp(&official, &defaults, sizeof official) == 0);
    ed_text_free(env, &text);
    check_nothing_left(&p);
}

static void presets_for_two_cores_train_without_files_from_elsewhere(void)
{
    static const char *const both_stages[] = {"shapes3d-tiny", "shapes3d-small"};
    place p;
    ed_env *env = place_init(&p);
    ed_config c;
    for (size_t i = 0; i < ED_COUNT(both_stages); i++) {
        CHECK_EQUAL(resolve(env, both_stages[i], NULL, &c), ENCDIFF_OK);
        CHECK_EQUAL(ed_config_check_autoencoder_training(env, &c, c.train_autoencoder.lpips_weights), ENCDIFF_OK);
        CHECK_TEXT(c.data.source, "procedural:shapes3d");
    }
    CHECK_EQUAL(resolve(env, "shapes3d-quick", NULL, &c), ENCDIFF_OK);
    CHECK_EQUAL(c.autoencoder.kind, ED_AE_AVERAGE);
    CHECK_EQUAL(ed_config_latent_size(&c), 16);
    CHECK_TEXT(c.data.source, "procedural:shapes3d");
}

/* ---------------------------------------------------------------- sources and overrides */

static void overrides_apply_in_order(void)
{
    place p;
    ed_env *env = place_init(&p);
    static const char *const overrides[] = {"unet.num_heads=4",
                                            "unet.channel_mult=[1,2]",
                                            "diffusion.beta_schedule=sqrt",
                                            "train_encdiff.ema_scope=\"all\"",
                                            "unet.attention_resolutions=[]",
                                            "train_autoencoder.lpips_weights=weights/vgg.pth",
                                            "unet.num_heads=2",
                                            "train_encdiff.use_ema=false",
                                            "data.seed=9007199254740991"};
    ed_config c;
    CHECK_THAT(ed_config_resolve(env, "shapes3d-tiny", overrides, ED_COUNT(overrides), &c) == ENCDIFF_OK, "%s",
               env->message);
    CHECK_EQUAL(c.unet.num_heads, 2);
    CHECK(c.unet.channel_mult.count == 2 && c.unet.channel_mult.values[1] == 2 && c.unet.channel_mult.values[2] == 0);
    CHECK_EQUAL(c.unet.attention_resolutions.count, 0);
    CHECK_EQUAL(c.diffusion.beta_schedule, ED_SCHEDULE_SQRT);
    CHECK_EQUAL(c.train_encdiff.ema_scope, ED_EMA_ALL);
    CHECK_TEXT(c.train_autoencoder.lpips_weights, "weights/vgg.pth");
    CHECK(!c.train_encdiff.use_ema && c.data.seed == 9007199254740991u);
    check_nothing_left(&p);
}

static void a_source_may_be_a_file_or_a_text(void)
{
    place p;
    ed_env *env = place_init(&p);
    ed_config c;
    char path[] = "config-XXXXXX";
    int file = mkstemp(path);
    if (!CHECK(file >= 0)) return;
    const char text[] = "\n {\"encoder\": {\"latent_unit\": 7}}";
    CHECK_EQUAL(write(file, text, strlen(text)), strlen(text));
    close(file);
    CHECK_EQUAL(resolve(env, path, NULL, &c), ENCDIFF_OK);
    CHECK_EQUAL(c.encoder.latent_unit, 7);
    CHECK_EQUAL(resolve(env, text, "encoder.latent_unit=8", &c), ENCDIFF_OK);
    CHECK_EQUAL(c.encoder.latent_unit, 8);
    unlink(path);
    check_nothing_left(&p);
}

static void a_wrong_source_is_named(void)
{
    place p;
    ed_env *env = place_init(&p);
    ed_config c;
    CHECK_EQUAL(resolve(env, "shapes3d-huge", NULL, &c), ENCDIFF_ERROR_NOT_FOUND);
    CHECK_THAT(strstr(env->message, "shapes3d-huge") && strstr(env->message, "shapes3d-tiny"), "%s", env->message);
    CHECK_EQUAL(resolve(env, "{\"unet\": ", NULL, &c), ENCDIFF_ERROR_FORMAT);
    CHECK_EQUAL(resolve(env, "{}", "no equals sign", &c), ENCDIFF_ERROR_CONFIG);
    CHECK_EQUAL(ed_config_read(env, NULL, &c), ENCDIFF_ERROR_CONFIG);
    ed_json *list = ed_json_new(env, ED_JSON_ARRAY);
    CHECK_EQUAL(ed_config_read(env, list, &c), ENCDIFF_ERROR_CONFIG);
    ed_json_free(env, list);
    check_nothing_left(&p);
}

/* ---------------------------------------------------------------- what is refused */

typedef struct wrong {
    const char *overrides[4];
    const char *key, *expected; /* both must be in the message */
} wrong;

static void check_refused(ed_env *env, const char *source, const wrong *w)
{
    ed_config c;
    int count = 0;
    while (count < 4 && w->overrides[count]) count++;
    CHECK_THAT(ed_config_resolve(env, source, w->overrides, count, &c) == ENCDIFF_ERROR_CONFIG, "%s was accepted",
               w->overrides[0]);
    CHECK_THAT(strncmp(env->message, w->key, strlen(w->key)) == 0 && strstr(env->message, w->expected),
               "%s: message %s", w->overrides[0], env->message);
}

static void wrong_keys_types_and_ranges_are_refused(void)
{
    static const wrong cases[] = {
        {{"unet.model_chanels=64"}, "unet.model_chanels", "did you mean \"model_channels\""},
        {{"unets.num_heads=4"}, "unets", "unet"},
        {{"unet=3"}, "unet", "a group of keys"},
        {{"unet.num_heads=many"}, "unet.num_heads", "an integer in [1, 256]"},
        {{"unet.num_heads=2.5"}, "unet.num_heads", "got 2.5"},
        {{"unet.num_heads=0"}, "unet.num_heads", "got 0"},
        {{"unet.dropout=1"}, "unet.dropout", "[0, 0.95]"},
        {{"unet.dropout=-0.1"}, "unet.dropout", "got -0.1"},
        {{"unet.use_scale_shift_norm=1"}, "unet.use_scale_shift_norm", "true or false"},
        {{"unet.channel_mult=2"}, "unet.channel_mult", "a list"},
        {{"unet.channel_mult=[]"}, "unet.channel_mult", "1 to 8"},
        {{"unet.channel_mult=[1,1,1,1,1,1,1,1,1]"}, "unet.channel_mult", "1 to 8"},
        {{"unet.channel_mult=[1,0]"}, "unet.channel_mult", "[1, 64]"},
        {{"autoencoder.kind=vae"}, "autoencoder.kind", "\"vq\", \"kl\", \"average\", \"none\""},
        {{"diffusion.beta_schedule=quadratic"}, "diffusion.beta_schedule", "\"sqrt_linear\""},
        {{"diffusion.linear_start=0"}, "diffusion.linear_start", "above 0"},
        {{"diffusion.linear_end=1"}, "diffusion.linear_end", "[0, 0.999]"},
        {{"diffusion.timesteps=1"}, "diffusion.timesteps", "[2, 100000]"},
        {{"train_encdiff.base_learning_rate=0"}, "train_encdiff.base_learning_rate", "above 0"},
        {{"train_encdiff.base_learning_rate=-1e-4"}, "train_encdiff.base_learning_rate", "got -0.0001"},
        {{"train_encdiff.base_learning_rate=1e999"}, "train_encdiff.base_learning_rate", "a number in"},
        {{"train_encdiff.base_learning_rate=nan"}, "train_encdiff.base_learning_rate", "a number in"},
        {{"train_encdiff.ema_decay=1"}, "train_encdiff.ema_decay", "got 1"},
        {{"train_encdiff.beta1=1"}, "train_encdiff.beta1", "got 1"},
        {{"train_encdiff.eps=0"}, "train_encdiff.eps", "above 0"},
        {{"train_encdiff.f_start=0"}, "train_encdiff.f_start", "above 0"},
        {{"train_encdiff.batch_size=0"}, "train_encdiff.batch_size", "[1, 65536]"},
        {{"train_encdiff.steps=1e10"}, "train_encdiff.steps", "[1, 1000000000]"},
        {{"train_autoencoder.disc_loss=wasserstein"}, "train_autoencoder.disc_loss", "\"hinge\", \"vanilla\""},
        {{"train_autoencoder.lpips_weights=7"}, "train_autoencoder.lpips_weights", "a string"},
        {{"data.seed=-1"}, "data.seed", "[0, 9007199254740991]"},
        {{"data.source=null"}, "data.source", "a string"},
    };
    place p;
    ed_env *env = place_init(&p);
    for (size_t i = 0; i < ED_COUNT(cases); i++) check_refused(env, "shapes3d-official", &cases[i]);
    check_nothing_left(&p);
}

static void impossible_combinations_are_refused(void)
{
    static const wrong cases[] = {
        {{"image.resolution=72"}, "image.resolution", "a multiple of 16"},
        {{"unet.model_channels=48"}, "unet.model_channels", "a multiple of 32"},
        {{"autoencoder.ch=40"}, "autoencoder.ch", "a multiple of 32"},
        {{"unet.model_channels=1024", "unet.channel_mult=[1,17]", "unet.num_heads=1"}, "unet.channel_mult[1]", "16384"},
        {{"unet.num_heads=24"}, "unet.num_heads", "64 channels of level 0"},
        {{"unet.num_heads=64", "unet.channel_mult=[1,1,1]", "unet.model_channels=96"}, "unet.num_heads", "level 0"},
        {{"unet.num_heads=7", "unet.attention_resolutions=[]"}, "unet.num_heads", "level 3"},
        {{"unet.attention_resolutions=[1,3]"}, "unet.attention_resolutions[1]", "a power of two"},
        {{"unet.attention_resolutions=[16]"}, "unet.attention_resolutions[0]", "at most 8"},
        {{"unet.attention_resolutions=[2,2]"}, "unet.attention_resolutions[1]", "once"},
        {{"image.resolution=16"}, "unet.channel_mult", "latents' size 4"},
        {{"image.resolution=48"}, "unet.channel_mult", "latents' size 12"},
        {{"autoencoder.ch_mult=[1,1,1,1,1,1,1,1]"}, "autoencoder.ch_mult", "divides image.resolution 64"},
        {{"autoencoder.kind=average", "autoencoder.factor=7"},
         "autoencoder.factor",
         "a divisor of image.resolution 64"},
        {{"autoencoder.kind=average", "autoencoder.factor=16"}, "unet.channel_mult", "latents' size 4"},
        {{"diffusion.linear_start=0.5"}, "diffusion.linear_start", "at most linear_end"},
        {{"diffusion.timesteps=100"}, "train_encdiff.ddim_steps", "at most diffusion.timesteps 100"},
        {{"train_encdiff.micro_batch=129"}, "train_encdiff.micro_batch", "at most batch_size 128"},
        {{"train_autoencoder.disc_num_layers=5"}, "train_autoencoder.disc_num_layers", "image.resolution 64"},
        {{"train_autoencoder.pixelloss_weight=0", "train_autoencoder.perceptual_weight=0"},
         "train_autoencoder.pixelloss_weight",
         "above 0"},
        {{"train_autoencoder.base_learning_rate=0.1"}, "train_autoencoder.base_learning_rate", "after scale_lr"},
        {{"image.resolution=16", "unet.channel_mult=[1,1]", "unet.attention_resolutions=[]",
          "train_encdiff.batch_size=1"},
         "train_autoencoder.disc_num_layers",
         "16"},
    };
    place p;
    ed_env *env = place_init(&p);
    for (size_t i = 0; i < ED_COUNT(cases); i++) check_refused(env, "shapes3d-official", &cases[i]);
    static const wrong batch = {{"image.resolution=16", "unet.channel_mult=[1]", "unet.attention_resolutions=[1]",
                                 "train_encdiff.batch_size=1"},
                                "train_encdiff.batch_size",
                                "at least 2"};
    check_refused(env, "{\"train_autoencoder\": {\"discriminator\": false}}", &batch);
    check_nothing_left(&p);
}

static void keys_of_unused_networks_do_not_matter(void)
{
    place p;
    ed_env *env = place_init(&p);
    static const char *const overrides[] = {"autoencoder.kind=none", "autoencoder.ch=40", "autoencoder.factor=7",
                                            "train_autoencoder.disc_num_layers=8"};
    ed_config c;
    CHECK_THAT(ed_config_resolve(env, "{}", overrides, ED_COUNT(overrides), &c) == ENCDIFF_OK, "%s", env->message);
    CHECK_EQUAL(ed_config_latent_size(&c), 64);
    CHECK_EQUAL(ed_config_latent_channels(&c), 3);
}

static void too_long_a_path_is_refused(void)
{
    place p;
    ed_env *env = place_init(&p);
    ed_config c;
    char override[1100] = "data.source=";
    size_t prefix = strlen(override);
    memset(override + prefix, 'a', 1023);
    CHECK_EQUAL(resolve(env, "{}", override, &c), ENCDIFF_OK);
    CHECK_EQUAL(strlen(c.data.source), 1023);
    override[prefix + 1023] = 'a';
    CHECK_EQUAL(resolve(env, "{}", override, &c), ENCDIFF_ERROR_CONFIG);
    CHECK_THAT(strstr(env->message, "data.source: expected at most 1023 bytes, got 1024"), "%s", env->message);
    check_nothing_left(&p);
}

static void training_the_autoencoder_has_demands_of_its_own(void)
{
    place p;
    ed_env *env = place_init(&p);
    ed_config c;
    CHECK_EQUAL(resolve(env, "shapes3d-official", NULL, &c), ENCDIFF_OK);
    CHECK_EQUAL(ed_config_check_autoencoder_training(env, &c, ""), ENCDIFF_ERROR_CONFIG);
    CHECK_THAT(strstr(env->message, "lpips_weights") && strstr(env->message, "perceptual_weight"), "%s", env->message);
    CHECK_EQUAL(ed_config_check_autoencoder_training(env, &c, NULL), ENCDIFF_ERROR_CONFIG);
    CHECK_EQUAL(ed_config_check_autoencoder_training(env, &c, "vgg.pth"), ENCDIFF_OK);
    CHECK_EQUAL(resolve(env, "shapes3d-quick", NULL, &c), ENCDIFF_OK);
    CHECK_EQUAL(ed_config_check_autoencoder_training(env, &c, NULL), ENCDIFF_ERROR_CONFIG);
    CHECK_THAT(strstr(env->message, "\"average\""), "%s", env->message);
}

/* ---------------------------------------------------------------- memory */

typedef struct host {
    long allowed, held;
} host;

static void *host_allocate(size_t size, size_t alignment, void *user)
{
    host *h = user;
    void *block = NULL;
    if (h->allowed-- <= 0 || posix_memalign(&block, alignment, size) != 0) return NULL;
    h->held++;
    return block;
}

static void host_release(void *pointer, size_t size, void *user)
{
    (void)size;
    ((host *)user)->held--;
    free(pointer);
}

static void running_out_of_memory_anywhere_is_reported_and_leaks_nothing(void)
{
    encdiff_status status = ENCDIFF_ERROR_OUT_OF_MEMORY;
    long allowed = 0;
    for (; status == ENCDIFF_ERROR_OUT_OF_MEMORY && allowed < 20000; allowed++) {
        host h = {.allowed = allowed};
        ed_memory memory;
        ed_memory_init(&memory, &(ed_allocator){host_allocate, host_release, &h});
        ed_env env = {.memory = &memory};
        ed_config c;
        ed_text text = {0};
        status = resolve(&env, "shapes3d-tiny", "unet.num_heads=4", &c);
        if (status == ENCDIFF_OK) status = ed_config_print(&env, &c, true, &text);
        ed_text_free(&env, &text);
        CHECK_EQUAL(h.held, 0);
    }
    CHECK_EQUAL(status, ENCDIFF_OK);
    CHECK(allowed > 100);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        TEST(presets_are_the_files_in_configs),
        TEST(presets_are_listed_once_with_a_description),
        TEST(every_preset_survives_printing_and_reading),
        TEST(the_official_preset_is_the_released_configuration),
        TEST(the_official_file_is_complete_and_the_default),
        TEST(presets_for_two_cores_train_without_files_from_elsewhere),
        TEST(overrides_apply_in_order),
        TEST(a_source_may_be_a_file_or_a_text),
        TEST(a_wrong_source_is_named),
        TEST(wrong_keys_types_and_ranges_are_refused),
        TEST(impossible_combinations_are_refused),
        TEST(keys_of_unused_networks_do_not_matter),
        TEST(too_long_a_path_is_refused),
        TEST(training_the_autoencoder_has_demands_of_its_own),
        TEST(running_out_of_memory_anywhere_is_reported_and_leaks_nothing),
    };
    return test_main(argc, argv, cases, ED_COUNT(cases));
}
