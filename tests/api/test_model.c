/* Models: configuration, life, files, parameters, sharing. Running the networks: test_networks.c. */
#include "api.h"

static encdiff_context *context;
static counted_memory memory;

static void begin(void) { context = open_context(&memory, 1); }
static void end(void) { close_context(context, &memory); }

/* ---------------------------------------------------------------- configuration */

static void presets_are_listed_and_resolve(void)
{
    int32_t count = encdiff_preset_count();
    begin();
    CHECK(count >= 7);
    for (int32_t i = 0; i < count; i++) {
        char *json = NULL;
        const char *description = encdiff_preset_description(i);
        CHECK(description && description[0] && !strchr(description, '\n'));
        if (OK(context, encdiff_config_resolve(context, encdiff_preset_name(i), NULL, 0, &json))) CHECK(json[0] == '{');
        encdiff_context_release(context, json);
    }
    CHECK(!encdiff_preset_name(-1) && !encdiff_preset_name(count));
    CHECK(!encdiff_preset_description(-1) && !encdiff_preset_description(count));
    end();
}

static void overrides_win_in_order_and_defaults_fill_in(void)
{
    static const char *const overrides[] = {"unet.num_heads=1", "diffusion.beta_schedule=linear", "unet.num_heads=4",
                                            "unet.channel_mult=[1]", "unet.attention_resolutions=[1]"};
    char *json = NULL, *again = NULL;
    begin();
    if (OK(context, encdiff_config_resolve(context, TINY, overrides, 5, &json))) {
        CHECK(strstr(json, "\"num_heads\": 4"));
        CHECK(strstr(json, "\"linear\""));
        CHECK(strstr(json, "\"weight_decay\""));
        OK(context, encdiff_config_resolve(context, json, NULL, 0, &again));
        CHECK_TEXT(again, json); /* a complete configuration is its own completion */
    }
    encdiff_context_release(context, json);
    encdiff_context_release(context, again);
    end();
}

static void configurations_are_read_from_files(void)
{
    const char *path = temporary("config.json");
    FILE *file = fopen(path, "w");
    char *json = NULL;
    begin();
    if (CHECK(file)) {
        fputs(TINY, file);
        fclose(file);
    }
    OK(context, encdiff_config_resolve(context, path, NULL, 0, &json));
    encdiff_context_release(context, json);
    unlink(path);
    FAILS(context, encdiff_config_resolve(context, path, NULL, 0, &json), ENCDIFF_ERROR_NOT_FOUND, path);
    CHECK(!json);
    end();
}

static void bad_configurations_are_refused_by_name(void)
{
    static const struct {
        const char *override;
        encdiff_status status;
        const char *named;
    } cases[] = {
        {"unet.depth=3", ENCDIFF_ERROR_CONFIG, "depth"},
        {"unett.num_heads=3", ENCDIFF_ERROR_CONFIG, "unett"},
        {"unet.num_heads=\"two\"", ENCDIFF_ERROR_CONFIG, "num_heads"},
        {"unet.num_heads=0", ENCDIFF_ERROR_CONFIG, "num_heads"},
        {"unet.model_channels=33", ENCDIFF_ERROR_CONFIG, "model_channels"},
        {"unet.channel_mult=[]", ENCDIFF_ERROR_CONFIG, "channel_mult"},
        {"image.resolution=24", ENCDIFF_ERROR_CONFIG, "resolution"},
        {"diffusion.beta_schedule=quadratic", ENCDIFF_ERROR_CONFIG, "beta_schedule"},
        {"train_encdiff.base_learning_rate=1e400", ENCDIFF_ERROR_CONFIG, "base_learning_rate"},
        {"unet", ENCDIFF_ERROR_CONFIG, "unet"},
        {"unet.num_heads", ENCDIFF_ERROR_CONFIG, "num_heads"},
        {"", ENCDIFF_ERROR_CONFIG, ""},
    };
    begin();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *json = (char *)(uintptr_t)1;
        const char *override = cases[i].override;
        encdiff_status status = encdiff_config_resolve(context, TINY, &override, 1, &json);
        CHECK_THAT(status == cases[i].status && strstr(encdiff_context_error(context), cases[i].named),
                   "override %s: %s: %s", override, encdiff_status_name(status), encdiff_context_error(context));
        CHECK(!json);
    }
    end();
}

static void text_that_is_no_json_is_refused(void)
{
    static const char *const texts[] = {"{", "{]", "{\"unet\": 1}", "{\"unet\": {}} x", "{\"unet\": null}"};
    begin();
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        encdiff_model *model = (encdiff_model *)(uintptr_t)1;
        encdiff_status status = encdiff_model_create(context, texts[i], 0, &model);
        CHECK_THAT(status == ENCDIFF_ERROR_FORMAT || status == ENCDIFF_ERROR_CONFIG, "%s: %s", texts[i],
                   encdiff_status_name(status));
        CHECK(!model);
    }
    end();
}

/* ---------------------------------------------------------------- arguments */

static void null_arguments_are_named(void)
{
    encdiff_model *model = NULL, *other = NULL;
    void *data;
    size_t size;
    char *json;
    const char *null_override = NULL;
    begin();
    FAILS(context, encdiff_model_create(context, NULL, 0, &model), ENCDIFF_ERROR_ARGUMENT, "encdiff_model_create");
    FAILS(context, encdiff_model_create(context, TINY, 0, NULL), ENCDIFF_ERROR_ARGUMENT, "model");
    FAILS(context, encdiff_model_load(context, NULL, &model), ENCDIFF_ERROR_ARGUMENT, "path");
    FAILS(context, encdiff_model_load_memory(context, NULL, 1, &model), ENCDIFF_ERROR_ARGUMENT, "data");
    FAILS(context, encdiff_config_resolve(context, TINY, NULL, 1, &json), ENCDIFF_ERROR_ARGUMENT, "overrides");
    FAILS(context, encdiff_config_resolve(context, TINY, &null_override, 1, &json), ENCDIFF_ERROR_ARGUMENT,
          "overrides");
    FAILS(context, encdiff_config_resolve(context, TINY, NULL, -1, &json), ENCDIFF_ERROR_ARGUMENT, "count");
    FAILS(context, encdiff_config_resolve(context, NULL, NULL, 0, &json), ENCDIFF_ERROR_ARGUMENT, "config");
    CHECK_EQUAL(encdiff_model_create(NULL, TINY, 0, &model), ENCDIFF_ERROR_ARGUMENT);
    CHECK_EQUAL(encdiff_config_resolve(NULL, TINY, NULL, 0, &json), ENCDIFF_ERROR_ARGUMENT);
    model = make_model(context, TINY, 0);
    FAILS(context, encdiff_model_save(model, NULL), ENCDIFF_ERROR_ARGUMENT, "path");
    FAILS(context, encdiff_model_export(model, NULL), ENCDIFF_ERROR_ARGUMENT, "path");
    FAILS(context, encdiff_model_import(context, "x.ckpt", NULL, NULL, &other), ENCDIFF_ERROR_ARGUMENT, "config");
    FAILS(context, encdiff_model_save_memory(model, NULL, &size), ENCDIFF_ERROR_ARGUMENT, "data");
    FAILS(context, encdiff_model_save_memory(model, &data, NULL), ENCDIFF_ERROR_ARGUMENT, "size");
    FAILS(context, encdiff_model_share(model, NULL, &model), ENCDIFF_ERROR_ARGUMENT, "context");
    FAILS(context, encdiff_model_share(model, context, NULL), ENCDIFF_ERROR_ARGUMENT, "shared");
    FAILS(context, encdiff_model_get_info(model, NULL), ENCDIFF_ERROR_ARGUMENT, "info");
    FAILS(context, encdiff_model_get_parameter(model, 0, NULL), ENCDIFF_ERROR_ARGUMENT, "info");
    FAILS(context, encdiff_model_read_parameter(model, NULL, 1, (float[1]){0}), ENCDIFF_ERROR_ARGUMENT, "name");
    FAILS(context, encdiff_model_read_parameter(model, "x", 1, NULL), ENCDIFF_ERROR_ARGUMENT, "values");
    FAILS(context, encdiff_model_write_parameter(model, NULL, 1, (float[1]){0}), ENCDIFF_ERROR_ARGUMENT, "name");
    FAILS(context, encdiff_model_use_ema(model, (encdiff_switch)7), ENCDIFF_ERROR_ARGUMENT, "use_ema");
    encdiff_model_free(model);
    end();
}

static void a_null_model_is_refused(void)
{
    encdiff_model_info info = {.struct_size = sizeof info};
    encdiff_parameter_info parameter = {.struct_size = sizeof parameter};
    encdiff_model *shared;
    void *data;
    size_t size;
    uint64_t bytes;
    char *json;
    float f = 0;
    int32_t t = 0;
    encdiff_image_view view = view_f32(&f, 1);
    encdiff_model_free(NULL);
    CHECK_EQUAL(encdiff_model_save(NULL, "x"), ENCDIFF_ERROR_ARGUMENT);
    CHECK_EQUAL(encdiff_model_export(NULL, "x"), ENCDIFF_ERROR_ARGUMENT);
    CHECK_EQUAL(encdiff_model_save_memory(NULL, &data, &size), ENCDIFF_ERROR_ARGUMENT);
    CHECK_EQUAL(encdiff_model_share(NULL, NULL, &shared), ENCDIFF_ERROR_ARGUMENT);
    CHECK_EQUAL(encdiff_model_get_info(NULL, &info), ENCDIFF_ERROR_ARGUMENT);
    CHECK(!encdiff_model_config_json(NULL));
    CHECK_EQUAL(encdiff_model_get_memory(NULL, ENCDIFF_RUN_ENCODE, 1, &bytes), ENCDIFF_ERROR_ARGUMENT);
    CHECK_EQUAL(encdiff_model_get_plan(NULL, ENCDIFF_RUN_ENCODE, 1, &json), ENCDIFF_ERROR_ARGUMENT);
    CHECK_EQUAL(encdiff_model_parameter_count(NULL), 0);
    CHECK_EQUAL(encdiff_model_get_parameter(NULL, 0, &parameter), ENCDIFF_ERROR_ARGUMENT);
    CHECK_EQUAL(encdiff_model_read_parameter(NULL, "x", 1, &f), ENCDIFF_ERROR_ARGUMENT);
    CHECK_EQUAL(encdiff_model_write_parameter(NULL, "x", 1, &f), ENCDIFF_ERROR_ARGUMENT);
    CHECK_EQUAL(encdiff_model_use_ema(NULL, ENCDIFF_ON), ENCDIFF_ERROR_ARGUMENT);
    CHECK_EQUAL(encdiff_model_encode(NULL, &view, &f, NULL), ENCDIFF_ERROR_ARGUMENT);
    CHECK_EQUAL(encdiff_model_tokens_from_scalars(NULL, 1, &f, &f), ENCDIFF_ERROR_ARGUMENT);
    CHECK_EQUAL(encdiff_model_latents_from_images(NULL, &view, &f), ENCDIFF_ERROR_ARGUMENT);
    CHECK_EQUAL(encdiff_model_images_from_latents(NULL, &f, ENCDIFF_DEFAULT, &view), ENCDIFF_ERROR_ARGUMENT);
    CHECK_EQUAL(encdiff_model_predict_noise(NULL, 1, &f, &t, &f, &f), ENCDIFF_ERROR_ARGUMENT);
    CHECK_EQUAL(encdiff_model_attention(NULL, 1, &f, &t, &f, 1, 1, &f), ENCDIFF_ERROR_ARGUMENT);
}

/* ---------------------------------------------------------------- what it is */

static void infos_describe_the_configuration(void)
{
    begin();
    encdiff_model *model = make_model(context, TINY, 0);
    encdiff_model_info info = {.struct_size = sizeof info};
    OK(context, encdiff_model_get_info(model, &info));
    CHECK_EQUAL(info.height, SIDE);
    CHECK_EQUAL(info.width, SIDE);
    CHECK_EQUAL(info.tokens, TOKENS);
    CHECK_EQUAL(info.token_dim, TOKEN_DIM);
    CHECK_EQUAL(info.has_scalars, 1);
    CHECK_EQUAL(info.has_ema, 0);
    CHECK_EQUAL(info.latent_channels * info.latent_height * info.latent_width, LATENT);
    CHECK_EQUAL(info.timesteps, TIMESTEPS);
    CHECK_EQUAL(info.steps, 0);
    CHECK_EQUAL(info.autoencoder_parameters, 0);
    int64_t trainable = 0;
    for (int32_t i = 0; i < encdiff_model_parameter_count(model); i++) {
        encdiff_parameter_info parameter = {.struct_size = sizeof parameter};
        OK(context, encdiff_model_get_parameter(model, i, &parameter));
        trainable += parameter.trainable ? parameter.count : 0;
    }
    CHECK_EQUAL(info.encoder_parameters + info.unet_parameters, trainable);
    CHECK(strstr(encdiff_model_config_json(model), "\"latent_unit\": 4"));

    encdiff_model_info older = {.struct_size = offsetof(encdiff_model_info, tokens), .tokens = -5};
    OK(context, encdiff_model_get_info(model, &older));
    CHECK_EQUAL(older.width, SIDE);
    CHECK_EQUAL(older.tokens, -5);
    older.struct_size = 1;
    FAILS(context, encdiff_model_get_info(model, &older), ENCDIFF_ERROR_ARGUMENT, "struct_size");
    encdiff_model_free(model);
    end();
}

static void parameters_have_published_names_and_shapes(void)
{
    static const struct {
        const char *name;
        int32_t rank;
        int64_t shape[4];
        int32_t trainable;
    } wanted[] = {
        {"model.diffusion_model.time_embed.0.weight", 2, {128, 32, 0, 0}, 1},
        {"model.diffusion_model.input_blocks.0.0.weight", 4, {32, 3, 3, 3}, 1},
        {"model.diffusion_model.out.2.weight", 4, {3, 32, 3, 3}, 1},
        {"model.diffusion_model.out.2.bias", 1, {3, 0, 0, 0}, 1},
    };
    int statistics = 0;
    begin();
    encdiff_model *model = make_model(context, TINY, 0);
    int32_t count = encdiff_model_parameter_count(model);
    encdiff_parameter_info info = {.struct_size = sizeof info};
    for (size_t k = 0; k < sizeof wanted / sizeof *wanted; k++) {
        bool found = false;
        for (int32_t i = 0; i < count && !found; i++) {
            OK(context, encdiff_model_get_parameter(model, i, &info));
            found = strcmp(info.name, wanted[k].name) == 0;
        }
        if (!CHECK_THAT(found, "%s is missing", wanted[k].name)) continue;
        CHECK_EQUAL(info.rank, wanted[k].rank);
        for (int32_t d = 0; d < info.rank; d++) CHECK_EQUAL(info.shape[d], wanted[k].shape[d]);
        CHECK_EQUAL(info.trainable, wanted[k].trainable);
    }
    for (int32_t i = 0; i < count; i++) {
        int64_t product = 1;
        OK(context, encdiff_model_get_parameter(model, i, &info));
        for (int32_t d = 0; d < info.rank; d++) product *= info.shape[d];
        CHECK_EQUAL(info.count, product);
        statistics += !info.trainable;
        CHECK(strncmp(info.name, "ema.", 4) != 0); /* an untrained model holds no averages */
    }
    CHECK(statistics > 0);
    FAILS(context, encdiff_model_get_parameter(model, count, &info), ENCDIFF_ERROR_ARGUMENT, "index");
    FAILS(context, encdiff_model_get_parameter(model, -1, &info), ENCDIFF_ERROR_ARGUMENT, "index");
    encdiff_model_free(model);
    end();
}

static void parameters_are_read_and_written(void)
{
    static const char name[] = "model.diffusion_model.out.2.bias";
    float values[3] = {0.5f, -2, 3}, read[3], *nothing = values;
    begin();
    encdiff_model *model = make_model(context, TINY, 0);
    OK(context, encdiff_model_write_parameter(model, name, 3, values));
    OK(context, encdiff_model_read_parameter(model, name, 3, read));
    CHECK(memcmp(read, values, sizeof read) == 0);
    FAILS(context, encdiff_model_read_parameter(model, name, 4, read), ENCDIFF_ERROR_SHAPE, "3");
    FAILS(context, encdiff_model_write_parameter(model, name, -1, nothing), ENCDIFF_ERROR_SHAPE, name);
    FAILS(context, encdiff_model_read_parameter(model, "model.nothing", 3, read), ENCDIFF_ERROR_NOT_FOUND,
          "model.nothing");
    for (int i = 0; i < 2; i++) {
        float bad[3] = {1, i ? INFINITY : NAN, 1};
        FAILS(context, encdiff_model_write_parameter(model, name, 3, bad), ENCDIFF_ERROR_NUMERIC, name);
        OK(context, encdiff_model_read_parameter(model, name, 3, read));
        CHECK(memcmp(read, values, sizeof read) == 0); /* as before */
    }
    encdiff_model_free(model);
    end();
}

static void initial_parameters_depend_on_the_seed_alone(void)
{
    begin();
    encdiff_model *a = make_model(context, TINY_VQ, 5), *b = make_model(context, TINY_VQ, 5),
                  *c = make_model(context, TINY_VQ, 6);
    CHECK(same_parameters(context, a, b));
    CHECK(!same_parameters(context, a, c));
    encdiff_model_free(a);
    encdiff_model_free(b);
    encdiff_model_free(c);
    end();
}

static void averages_are_refused_where_there_are_none(void)
{
    begin();
    encdiff_model *model = make_model(context, TINY, 0);
    FAILS(context, encdiff_model_use_ema(model, ENCDIFF_ON), ENCDIFF_ERROR_STATE, "averages");
    OK(context, encdiff_model_use_ema(model, ENCDIFF_OFF));
    OK(context, encdiff_model_use_ema(model, ENCDIFF_DEFAULT));
    encdiff_model_free(model);
    end();
}

/* ---------------------------------------------------------------- files */

static void models_survive_files_and_memory_bit_for_bit(void)
{
    const char *path = temporary("model.safetensors");
    void *data = NULL;
    size_t size = 0;
    begin();
    encdiff_model *model = make_awake_model(context, TINY_VQ), *from_file = NULL, *from_memory = NULL;
    OK(context, encdiff_model_save(model, path));
    OK(context, encdiff_model_load(context, path, &from_file));
    OK(context, encdiff_model_save_memory(model, &data, &size));
    char *copy = malloc(size);
    memcpy(copy, data, size);
    OK(context, encdiff_model_load_memory(context, copy, size, &from_memory));
    memset(copy, 0xff, size); /* it may be freed afterwards */
    free(copy);
    if (from_file && from_memory) {
        CHECK(same_parameters(context, model, from_file));
        CHECK(same_parameters(context, model, from_memory));
        CHECK_TEXT(encdiff_model_config_json(from_file), encdiff_model_config_json(model));
        CHECK_TEXT(encdiff_model_config_json(from_memory), encdiff_model_config_json(model));
    }
    FILE *file = fopen(path, "rb"); /* both forms are the same bytes */
    if (CHECK(file)) {
        char *bytes = malloc(size + 1);
        CHECK_EQUAL(fread(bytes, 1, size + 1, file), size);
        CHECK(memcmp(bytes, data, size) == 0);
        free(bytes);
        fclose(file);
    }
    encdiff_context_release(context, data);
    unlink(path);
    encdiff_model_free(from_file);
    encdiff_model_free(from_memory);
    encdiff_model_free(model);
    end();
}

/* Overwrite the first value of a tensor in the file by a NaN. */
static void spoil(const char *path, const char *name)
{
    char bytes[200000], key[128];
    FILE *file = fopen(path, "r+b");
    if (!CHECK(file)) return;
    size_t size = fread(bytes, 1, sizeof bytes - 1, file);
    bytes[size] = 0;
    snprintf(key, sizeof key, "\"%s\":", name);
    uint64_t header;
    memcpy(&header, bytes, sizeof header);
    long long begin = -1;
    char *entry = strstr(bytes + 8, key), *offsets = entry ? strstr(entry, "\"data_offsets\":[") : NULL;
    if (CHECK(offsets)) sscanf(offsets, "\"data_offsets\":[%lld", &begin);
    if (CHECK(begin >= 0)) {
        fseek(file, (long)(8 + header) + (long)begin, SEEK_SET);
        fwrite(&(float){NAN}, sizeof(float), 1, file);
    }
    fclose(file);
}

/* What is wrong with a network is said by the first call that needs it, again and again, and by no other. */
static void networks_are_read_when_they_are_needed(void)
{
    const char *path = temporary("model.safetensors"), *copy = temporary("copy.safetensors");
    static float pixels[PIXELS], latents[LATENT], noise[LATENT], tokens[TOKENS * TOKEN_DIM], scalars[TOKENS];
    int32_t t = 5;
    begin();
    encdiff_model *model = make_awake_model(context, TINY), *loaded = NULL, *other = NULL, *whole = NULL;
    encdiff_context *second = NULL;
    encdiff_image_view image = view_f32(pixels, 1);
    OK(context, encdiff_model_save(model, path));
    spoil(path, "model.diffusion_model.out.0.weight");
    OK(context, encdiff_model_load(context, path, &loaded));
    fill_floats(pixels, PIXELS, 1);
    OK(context, encdiff_model_encode(loaded, &image, scalars, tokens));
    for (int i = 0; i < 2; i++)
        FAILS(context, encdiff_model_predict_noise(loaded, 1, latents, &t, tokens, noise), ENCDIFF_ERROR_NUMERIC,
              "model.diffusion_model.out.0.weight");
    FAILS(context, encdiff_model_save(loaded, copy), ENCDIFF_ERROR_NUMERIC, "out.0.weight");
    CHECK(access(copy, F_OK) != 0);
    FAILS(context, encdiff_model_read_parameter(loaded, "model.diffusion_model.out.2.bias", 3, noise),
          ENCDIFF_ERROR_NUMERIC, "out.0.weight");
    if (OK(context, encdiff_context_create(NULL, &second)))
        FAILS(context, encdiff_model_share(loaded, second, &other), ENCDIFF_ERROR_NUMERIC, "out.0.weight");
    encdiff_trainer *trainer = NULL;
    FAILS(context, encdiff_trainer_create(loaded, NULL, NULL, &trainer), ENCDIFF_ERROR_NUMERIC, "out.0.weight");
    OK(context, encdiff_model_encode(loaded, &image, scalars, tokens));
    encdiff_context_free(second);
    encdiff_model_free(loaded);

    OK(context, encdiff_model_save(model, path)); /* a file that is gone, or another, is still read as it was */
    OK(context, encdiff_model_load(context, path, &loaded));
    OK(context, encdiff_model_load(context, path, &whole));
    OK(context, encdiff_model_save(loaded, path));
    unlink(path);
    CHECK(same_parameters(context, model, loaded));
    CHECK(same_parameters(context, model, whole));
    encdiff_model_free(loaded);
    encdiff_model_free(whole);
    encdiff_model_free(model);
    end();
}

/* Where a model file is cut, what is missing is found, and nothing is held on to. */
static void damaged_models_are_refused(void)
{
    void *data = NULL;
    size_t size = 0;
    begin();
    encdiff_model *model = make_model(context, TINY, 0), *loaded;
    OK(context, encdiff_model_save_memory(model, &data, &size));
    encdiff_model_free(model);
    size_t cuts[] = {0, 1, 7, 8, 9, 200, size / 2, size - 1};
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        loaded = (encdiff_model *)(uintptr_t)1;
        FAILS(context, encdiff_model_load_memory(context, data, cuts[i], &loaded), ENCDIFF_ERROR_FORMAT, "memory");
        CHECK(!loaded);
    }
    char *bytes = data, saved[8];
    memcpy(saved, bytes, 8);
    memset(bytes, 0xff, 8); /* a header of 2^64 bytes */
    FAILS(context, encdiff_model_load_memory(context, data, size, &loaded), ENCDIFF_ERROR_FORMAT, "memory");
    memcpy(bytes, saved, 8);
    memset(bytes + size - 4, 0xff, 4); /* a NaN at the end of the last tensor */
    FAILS(context, encdiff_model_load_memory(context, data, size, &loaded), ENCDIFF_ERROR_NUMERIC, "");
    char *name = strstr(bytes + 8, "out.2.bias");
    if (CHECK(name)) name[0] = 'x'; /* a tensor that is missing under its name */
    FAILS(context, encdiff_model_load_memory(context, data, size, &loaded), ENCDIFF_ERROR_FORMAT, "out.2.bias");
    encdiff_context_release(context, data);
    end();
}

static void files_that_cannot_be_are_named(void)
{
    encdiff_model *loaded;
    begin();
    encdiff_model *model = make_model(context, TINY, 0);
    FAILS(context, encdiff_model_load(context, "/nonexistent/m.safetensors", &loaded), ENCDIFF_ERROR_NOT_FOUND,
          "/nonexistent/m.safetensors");
    CHECK(!loaded);
    FAILS(context, encdiff_model_load(context, "/", &loaded), ENCDIFF_ERROR_IO, "/");
    FAILS(context, encdiff_model_save(model, "/nonexistent/m.safetensors"), ENCDIFF_ERROR_IO,
          "/nonexistent/m.safetensors");
    FAILS(context, encdiff_model_save(model, ""), ENCDIFF_ERROR_IO, "");
    encdiff_model_free(model);
    end();
}

/* ---------------------------------------------------------------- life and sharing */

/* Handles hold what they stand on: every order of freeing model, sampler, trainer, dataset and context is fine. */
static void handles_are_freed_in_any_order(void)
{
    enum { HANDLES = 6 };
    for (int order = 0; order < 12; order++) {
        encdiff_dataset *data, *slice = NULL;
        encdiff_trainer *trainer = NULL;
        encdiff_sampler *sampler = NULL;
        begin();
        encdiff_model *model = make_model(context, TINY, 0);
        data = open_shapes(context, "procedural:shapes3d[0:64]");
        OK(context, encdiff_dataset_slice(data, 0, 32, &slice));
        OK(context, encdiff_trainer_create(model, slice, NULL, &trainer));
        OK(context, encdiff_sampler_create(model, NULL, &sampler));
        if (order % 4 == 0) OK(context, encdiff_trainer_step(trainer, NULL)); /* the loader's threads are running */
        for (int k = 0; k < HANDLES; k++) {
            switch ((order < HANDLES ? order + k : 2 * HANDLES + order - k) % HANDLES) {
            case 0: encdiff_context_free(context); break;
            case 1: encdiff_model_free(model); break;
            case 2: encdiff_dataset_free(data); break;
            case 3: encdiff_trainer_free(trainer); break;
            case 4: encdiff_sampler_free(sampler); break;
            case 5: encdiff_dataset_free(slice); break;
            }
        }
        check_returned(&memory);
    }
}

static void a_sampler_outlives_the_callers_hold_on_its_model(void)
{
    encdiff_sampler *sampler = NULL;
    encdiff_sampler_options options;
    float tokens[TOKENS * TOKEN_DIM] = {0}, latents[LATENT];
    begin();
    encdiff_model *model = make_model(context, TINY, 0);
    encdiff_sampler_options_init(&options, sizeof options);
    options.steps = 2;
    OK(context, encdiff_sampler_create(model, &options, &sampler));
    encdiff_model_free(model);
    OK(context, encdiff_sampler_sample(sampler, 1, tokens, NULL, NULL, latents, NULL, NULL, NULL));
    encdiff_sampler_free(sampler);
    end();
}

static void shared_weights_are_read_only_until_they_are_not_shared(void)
{
    static const char name[] = "model.diffusion_model.out.2.bias";
    float values[3] = {1, 2, 3}, read[3], pixels[PIXELS], a[TOKENS], b[TOKENS];
    encdiff_image_view image = view_f32(pixels, 1);
    counted_memory other_memory;
    encdiff_trainer *trainer = (encdiff_trainer *)(uintptr_t)1;
    encdiff_model *shared = NULL;
    begin();
    encdiff_context *other = open_context(&other_memory, 1);
    encdiff_model *model = make_model(context, TINY, 0);
    fill_floats(pixels, PIXELS, 0);
    OK(context, encdiff_model_share(model, other, &shared));
    FAILS(context, encdiff_model_write_parameter(model, name, 3, values), ENCDIFF_ERROR_STATE, "shared");
    FAILS(other, encdiff_model_write_parameter(shared, name, 3, values), ENCDIFF_ERROR_STATE, "shared");
    FAILS(context, encdiff_trainer_create(model, NULL, NULL, &trainer), ENCDIFF_ERROR_STATE, "shared");
    CHECK(!trainer);
    FAILS(other, encdiff_trainer_create(shared, NULL, NULL, &trainer), ENCDIFF_ERROR_STATE, "shared");
    OK(other, encdiff_model_read_parameter(shared, name, 3, read));
    OK(context, encdiff_model_encode(model, &image, a, NULL));
    OK(other, encdiff_model_encode(shared, &image, b, NULL));
    CHECK(memcmp(a, b, sizeof a) == 0);
    encdiff_model_free(shared);
    OK(context, encdiff_model_write_parameter(model, name, 3, values));
    OK(context, encdiff_trainer_create(model, NULL, NULL, &trainer));
    FAILS(context, encdiff_model_share(model, other, &shared), ENCDIFF_ERROR_STATE, "trainer");
    CHECK(!shared);
    encdiff_trainer_free(trainer);
    OK(context, encdiff_model_share(model, other, &shared));

    encdiff_model_free(model); /* the weights live on, and with them the memory of their context */
    encdiff_context_free(context);
    OK(other, encdiff_model_encode(shared, &image, b, NULL));
    OK(other, encdiff_model_write_parameter(shared, name, 3, values));
    encdiff_model_free(shared);
    close_context(other, &other_memory);
    check_returned(&memory);
}

/* ---------------------------------------------------------------- plans */

static void runs_tell_their_memory_and_their_plan(void)
{
    uint64_t one = 0, many = 0;
    char *json = NULL;
    begin();
    encdiff_model *model = make_model(context, TINY, 0), *vq = make_model(context, TINY_VQ, 0);
    for (int run = ENCDIFF_RUN_ENCODE; run <= ENCDIFF_RUN_TRAIN_ENCDIFF; run++) {
        encdiff_model *m = run == ENCDIFF_RUN_TRAIN_AUTOENCODER ? vq : model;
        OK(context, encdiff_model_get_memory(m, (encdiff_run)run, 1, &one));
        OK(context, encdiff_model_get_memory(m, (encdiff_run)run, 8, &many));
        CHECK(one > 0 && many >= one);
        if (OK(context, encdiff_model_get_plan(m, (encdiff_run)run, 2, &json)))
            CHECK((json[0] == '{' || json[0] == '[') && strstr(json, "\"offset\""));
        encdiff_context_release(context, json);
    }
    FAILS(context, encdiff_model_get_memory(model, ENCDIFF_RUN_TRAIN_AUTOENCODER, 1, &one), ENCDIFF_ERROR_UNSUPPORTED,
          "autoencoder");
    FAILS(context, encdiff_model_get_plan(model, ENCDIFF_RUN_TRAIN_AUTOENCODER, 1, &json), ENCDIFF_ERROR_UNSUPPORTED,
          "autoencoder");
    CHECK(!json);
    FAILS(context, encdiff_model_get_memory(model, (encdiff_run)0, 1, &one), ENCDIFF_ERROR_ARGUMENT, "run");
    FAILS(context, encdiff_model_get_memory(model, (encdiff_run)99, 1, &one), ENCDIFF_ERROR_ARGUMENT, "run");
    FAILS(context, encdiff_model_get_memory(model, ENCDIFF_RUN_ENCODE, 0, &one), ENCDIFF_ERROR_ARGUMENT, "n");
    FAILS(context, encdiff_model_get_memory(model, ENCDIFF_RUN_ENCODE, 1, NULL), ENCDIFF_ERROR_ARGUMENT, "bytes");
    FAILS(context, encdiff_model_get_plan(model, ENCDIFF_RUN_ENCODE, 1, NULL), ENCDIFF_ERROR_ARGUMENT, "json");
    FAILS(context, encdiff_model_get_plan(model, ENCDIFF_RUN_ENCODE, 0, &json), ENCDIFF_ERROR_ARGUMENT, "n");
    encdiff_model_free(model);
    encdiff_model_free(vq);
    end();
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        TEST(presets_are_listed_and_resolve),
        TEST(overrides_win_in_order_and_defaults_fill_in),
        TEST(configurations_are_read_from_files),
        TEST(bad_configurations_are_refused_by_name),
        TEST(text_that_is_no_json_is_refused),
        TEST(null_arguments_are_named),
        TEST(a_null_model_is_refused),
        TEST(infos_describe_the_configuration),
        TEST(parameters_have_published_names_and_shapes),
        TEST(parameters_are_read_and_written),
        TEST(initial_parameters_depend_on_the_seed_alone),
        TEST(averages_are_refused_where_there_are_none),
        TEST(models_survive_files_and_memory_bit_for_bit),
        TEST(networks_are_read_when_they_are_needed),
        TEST(damaged_models_are_refused),
        TEST(files_that_cannot_be_are_named),
        TEST(handles_are_freed_in_any_order),
        TEST(a_sampler_outlives_the_callers_hold_on_its_model),
        TEST(shared_weights_are_read_only_until_they_are_not_shared),
        TEST(runs_tell_their_memory_and_their_plan),
    };
    return test_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
