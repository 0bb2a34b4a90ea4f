/* The context: options, devices, memory, errors, log, cancelling; and structs of other sizes than this header's. */
#include <pthread.h>

#include "api.h"

/* ---------------------------------------------------------------- life */

static void context_is_made_with_defaults(void)
{
    encdiff_context *context = NULL;
    CHECK_EQUAL(encdiff_context_create(NULL, &context), ENCDIFF_OK);
    CHECK(context);
    CHECK_TEXT(encdiff_context_error(context), "");
    encdiff_context_free(context);
}

static void null_context_is_refused_everywhere(void)
{
    encdiff_device_info device = {.struct_size = sizeof device};
    encdiff_memory_info memory = {.struct_size = sizeof memory};
    char *json;
    CHECK_EQUAL(encdiff_context_create(NULL, NULL), ENCDIFF_ERROR_ARGUMENT);
    encdiff_context_free(NULL);
    encdiff_context_release(NULL, NULL);
    encdiff_cancel(NULL);
    encdiff_cancel_reset(NULL);
    encdiff_context_reset_peak(NULL);
    encdiff_context_options_init(NULL, sizeof(encdiff_context_options));
    CHECK_TEXT(encdiff_context_error(NULL), "");
    CHECK_EQUAL(encdiff_context_device_count(NULL), 0);
    CHECK_EQUAL(encdiff_context_get_device(NULL, 0, &device), ENCDIFF_ERROR_ARGUMENT);
    CHECK_EQUAL(encdiff_context_get_memory(NULL, &memory), ENCDIFF_ERROR_ARGUMENT);
    CHECK_EQUAL(encdiff_context_bench(NULL, NULL, &json, NULL, NULL), ENCDIFF_ERROR_ARGUMENT);
}

typedef struct log_record {
    int messages;
    encdiff_log_level level;
    char last[512];
} log_record;

static void record_log(encdiff_log_level level, const char *message, void *user)
{
    log_record *record = user;
    record->messages++;
    record->level = level;
    snprintf(record->last, sizeof record->last, "%s", message);
}

static encdiff_status try_device(const char *device, log_record *record)
{
    encdiff_context_options options;
    encdiff_context *context = (encdiff_context *)(uintptr_t)1;
    memset(record, 0, sizeof *record);
    encdiff_context_options_init(&options, sizeof options);
    options.device = device;
    options.threads = 1;
    options.log = record_log;
    options.log_user = record;
    encdiff_status status = encdiff_context_create(&options, &context);
    if (status == ENCDIFF_OK)
        encdiff_context_free(context);
    else
        CHECK(context == NULL); /* output handles are NULL after a failure */
    return status;
}

static void device_names_are_checked(void)
{
    log_record record;
    static const char *const unknown[] = {"", "gpu", "cpu:0", "cuda:", "cuda:x", "cuda:1x", "cudax", "CPU"};
    CHECK_EQUAL(try_device("cpu", &record), ENCDIFF_OK);
    CHECK_EQUAL(try_device("auto", &record), ENCDIFF_OK);
    CHECK_EQUAL(try_device("cuda:4000", &record), ENCDIFF_ERROR_DEVICE);
    CHECK_EQUAL(record.messages, 1);
    CHECK_EQUAL(record.level, ENCDIFF_LOG_ERROR);
    CHECK(strstr(record.last, "cuda:4000"));
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        CHECK_THAT(try_device(unknown[i], &record) == ENCDIFF_ERROR_ARGUMENT, "device \"%s\" is taken", unknown[i]);
        CHECK_THAT(record.messages == 1, "device \"%s\": no reason in the log", unknown[i]);
    }
}

/* The header: "the reason of a failure goes to options->log". */
static void impossible_options_are_refused_with_a_reason(void)
{
    log_record record = {0};
    encdiff_context *context;
    encdiff_context_options base, options;
    encdiff_context_options_init(&base, sizeof base);
    base.log = record_log;
    base.log_user = &record;
    for (int i = 0; i < 7; i++) {
        options = base;
        if (i == 0) options.threads = -1;
        if (i == 1) options.threads = INT32_MAX;
        if (i == 2) options.log_level = -1;
        if (i == 3) options.allocate = counted_allocate;
        if (i == 4) options.deallocate = counted_deallocate;
        if (i == 5) options.precision = -1;
        if (i == 6) options.precision = ENCDIFF_PRECISION_TF32 + 1;
        record.messages = 0;
        CHECK_EQUAL(encdiff_context_create(&options, &context), ENCDIFF_ERROR_ARGUMENT);
        CHECK_THAT(record.messages == 1, "options %d: %d messages", i, record.messages);
    }
}

/* Each of the first allocations fails in turn: a status, no leak. */
static void out_of_memory_makes_no_context(void)
{
    counted_memory memory;
    encdiff_context_options options;
    encdiff_context_options_init(&options, sizeof options);
    options.threads = 2;
    options.allocate = counted_allocate;
    options.deallocate = counted_deallocate;
    options.allocator_user = &memory;
    for (int n = 1; n < 1000; n++) {
        encdiff_context *context = NULL;
        memset(&memory, 0, sizeof memory);
        atomic_store(&memory.fail_from, n);
        encdiff_status status = encdiff_context_create(&options, &context);
        if (status == ENCDIFF_OK) {
            CHECK(n > 1);
            close_context(context, &memory);
            return;
        }
        CHECK_EQUAL(status, ENCDIFF_ERROR_OUT_OF_MEMORY);
        CHECK(!context);
        check_returned(&memory);
    }
    CHECK(!"a context is made in fewer than 1000 allocations");
}

/* ---------------------------------------------------------------- what it tells */

static void devices_are_listed_with_reasons(void)
{
    counted_memory memory;
    encdiff_context *context = open_context(&memory, 1);
    int32_t count = encdiff_context_device_count(context), in_use = 0;
    CHECK(count >= 1);
    for (int32_t i = -1; i < count; i++) {
        encdiff_device_info info = {.struct_size = sizeof info};
        OK(context, encdiff_context_get_device(context, i, &info));
        CHECK(info.name && info.name[0]);
        CHECK(info.description && info.description[0]);
        CHECK(info.kind == ENCDIFF_DEVICE_CPU || info.kind == ENCDIFF_DEVICE_CUDA);
        CHECK(info.available ? !info.reason : info.reason && info.reason[0]);
        if (info.kind == ENCDIFF_DEVICE_CPU) CHECK(info.memory_total >= info.memory_free && info.memory_free > 0);
        if (i < 0) in_use += strcmp(info.name, "cpu") == 0;
    }
    CHECK_EQUAL(in_use, 1);
    encdiff_device_info info = {.struct_size = sizeof info};
    FAILS(context, encdiff_context_get_device(context, count, &info), ENCDIFF_ERROR_ARGUMENT, "index");
    FAILS(context, encdiff_context_get_device(context, -2, &info), ENCDIFF_ERROR_ARGUMENT,
          "encdiff_context_get_device");
    FAILS(context, encdiff_context_get_device(context, 0, NULL), ENCDIFF_ERROR_ARGUMENT, "info");
    close_context(context, &memory);
}

static void memory_is_the_allocators(void)
{
    counted_memory memory;
    encdiff_context *context = open_context(&memory, 1);
    encdiff_memory_info before = {.struct_size = sizeof before}, info = {.struct_size = sizeof info};
    OK(context, encdiff_context_get_memory(context, &before));
    encdiff_model *model = make_model(context, TINY, 0);
    OK(context, encdiff_context_get_memory(context, &info));
    CHECK(info.host_in_use > before.host_in_use);
    CHECK(info.host_peak >= info.host_in_use);
    CHECK(info.allocations > before.allocations);
    CHECK_EQUAL(info.device_in_use, 0);
    CHECK((long long)info.host_in_use <= atomic_load(&memory.bytes)); /* the allocator also sees headers */
    encdiff_model_free(model);
    OK(context, encdiff_context_get_memory(context, &info));
    CHECK_EQUAL(info.host_in_use, before.host_in_use);
    CHECK(info.host_peak > info.host_in_use);
    encdiff_context_reset_peak(context);
    OK(context, encdiff_context_get_memory(context, &info));
    CHECK_EQUAL(info.host_peak, info.host_in_use);
    close_context(context, &memory);
}

static void errors_name_what_was_wrong_and_last(void)
{
    counted_memory memory;
    encdiff_context *context = open_context(&memory, 1);
    encdiff_model *model = (encdiff_model *)(uintptr_t)1;
    FAILS(context, encdiff_model_create(context, "no-such-preset", 0, &model), ENCDIFF_ERROR_NOT_FOUND,
          "no-such-preset");
    CHECK(!model);
    model = make_model(context, TINY, 0); /* success keeps the last failure's sentence */
    CHECK(strstr(encdiff_context_error(context), "no-such-preset"));
    encdiff_model_free(model);
    close_context(context, &memory);
}

static void versions_agree_with_the_header(void)
{
    CHECK_TEXT(encdiff_version(), ENCDIFF_VERSION_STRING);
    CHECK_EQUAL(encdiff_abi_version(), ENCDIFF_ABI_MAJOR);
    CHECK(encdiff_build_info() && strlen(encdiff_build_info()) > 10);
    CHECK(!strchr(encdiff_build_info(), '\n'));
}

static void every_status_has_a_name(void)
{
    static const encdiff_status all[] = {
        ENCDIFF_OK,           ENCDIFF_ERROR_ARGUMENT,    ENCDIFF_ERROR_SHAPE,         ENCDIFF_ERROR_STATE,
        ENCDIFF_ERROR_CONFIG, ENCDIFF_ERROR_UNSUPPORTED, ENCDIFF_ERROR_OUT_OF_MEMORY, ENCDIFF_ERROR_IO,
        ENCDIFF_CANCELLED,    ENCDIFF_ERROR_NOT_FOUND,   ENCDIFF_ERROR_DEVICE,        ENCDIFF_ERROR_INTERNAL,
        ENCDIFF_ERROR_FORMAT, ENCDIFF_ERROR_NUMERIC};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        for (size_t k = 0; k < i; k++) CHECK(strcmp(encdiff_status_name(all[i]), encdiff_status_name(all[k])) != 0);
    CHECK(encdiff_status_name((encdiff_status)-1000)[0]);
}

/* ---------------------------------------------------------------- structs of another version */

static void older_options_leave_new_fields_at_their_default(void)
{
    encdiff_context *context = NULL;
    encdiff_context_options options;
    memset(&options, 0xff, sizeof options); /* behind the old struct is not ours to read */
    encdiff_context_options_init(&options, offsetof(encdiff_context_options, log_level));
    options.threads = 1;
    CHECK_EQUAL(options.log_level, -1); /* nor to write */
    CHECK_EQUAL(encdiff_context_create(&options, &context), ENCDIFF_OK);
    encdiff_context_free(context);
}

static void newer_options_are_taken(void)
{
    struct {
        encdiff_context_options known;
        uint64_t later[4];
    } options;
    encdiff_context *context = NULL;
    encdiff_context_options_init(&options.known, sizeof options);
    CHECK_EQUAL(options.known.struct_size, sizeof options);
    CHECK_EQUAL(options.later[3], 0);
    options.known.threads = 1;
    CHECK_EQUAL(encdiff_context_create(&options.known, &context), ENCDIFF_OK);
    encdiff_context_free(context);
}

static void unusable_struct_sizes_are_refused(void)
{
    counted_memory memory;
    encdiff_context *context = open_context(&memory, 1), *other;
    encdiff_context_options options = {.struct_size = 0};
    encdiff_memory_info info = {.struct_size = 3};
    encdiff_device_info device = {.struct_size = 0};
    CHECK_EQUAL(encdiff_context_create(&options, &other), ENCDIFF_ERROR_ARGUMENT);
    CHECK_EQUAL(encdiff_context_get_memory(context, &info), ENCDIFF_ERROR_ARGUMENT);
    FAILS(context, encdiff_context_get_device(context, 0, &device), ENCDIFF_ERROR_ARGUMENT, "struct_size");
    close_context(context, &memory);
}

/* An info shorter than the library's is filled as far as it goes; behind a longer one are zeros. */
static void infos_are_filled_as_far_as_they_go(void)
{
    counted_memory memory;
    encdiff_context *context = open_context(&memory, 1);
    struct {
        encdiff_memory_info known;
        uint64_t later[2];
    } info;
    memset(&info, 0xff, sizeof info);
    info.known.struct_size = offsetof(encdiff_memory_info, host_peak);
    OK(context, encdiff_context_get_memory(context, &info.known));
    CHECK(info.known.host_in_use > 0 && info.known.host_in_use != UINT64_MAX);
    CHECK_EQUAL(info.known.host_peak, UINT64_MAX);
    info.known.struct_size = sizeof info;
    OK(context, encdiff_context_get_memory(context, &info.known));
    CHECK(info.known.allocations != UINT64_MAX);
    CHECK_EQUAL(info.later[0] | info.later[1], 0);
    CHECK_EQUAL(info.known.struct_size, sizeof info);
    struct {
        encdiff_device_info known;
        uint64_t later[2];
    } device;
    memset(&device, 0xff, sizeof device);
    device.known.struct_size = sizeof device;
    OK(context, encdiff_context_get_device(context, 0, &device.known));
    CHECK_EQUAL(device.later[0] | device.later[1], 0);
    close_context(context, &memory);
}

/* ---------------------------------------------------------------- cancelling */

static void a_stop_waits_for_the_next_long_call_and_ends_with_it(void)
{
    counted_memory memory;
    encdiff_context *context = open_context(&memory, 1);
    encdiff_model *model = make_model(context, TINY, 0);
    float pixels[PIXELS], scalars[TOKENS];
    encdiff_image_view image = view_f32(pixels, 1);
    fill_floats(pixels, PIXELS, 0);
    encdiff_cancel(context);
    FAILS(context, encdiff_model_encode(model, &image, scalars, NULL), ENCDIFF_CANCELLED, "stopped");
    OK(context, encdiff_model_encode(model, &image, scalars, NULL));
    encdiff_cancel(context);
    encdiff_cancel_reset(context);
    OK(context, encdiff_model_encode(model, &image, scalars, NULL));
    encdiff_model_free(model);
    close_context(context, &memory);
}

static void *cancel_later(void *context)
{
    usleep(30000);
    encdiff_cancel(context);
    return NULL;
}

static void a_stop_from_another_thread_ends_training(void)
{
    counted_memory memory;
    encdiff_context *context = open_context(&memory, 2);
    encdiff_model *model = make_model(context, TINY, 0);
    encdiff_dataset *data = open_shapes(context, "procedural:shapes3d");
    encdiff_trainer *trainer = NULL;
    pthread_t thread;
    OK(context, encdiff_trainer_create(model, data, NULL, &trainer));
    pthread_create(&thread, NULL, cancel_later, context);
    FAILS(context, encdiff_trainer_run(trainer, 1000000, NULL, NULL), ENCDIFF_CANCELLED, "stopped");
    pthread_join(thread, NULL);
    encdiff_cancel_reset(context);
    OK(context, encdiff_trainer_step(trainer, NULL));
    encdiff_trainer_free(trainer);
    encdiff_dataset_free(data);
    encdiff_model_free(model);
    close_context(context, &memory);
}

/* ---------------------------------------------------------------- operator timings */

static int32_t count_calls(const encdiff_progress_info *info, void *user)
{
    CHECK(info->struct_size >= sizeof(size_t) && info->activity && info->done >= 1 && info->done <= info->total);
    return ++*(int *)user >= 3;
}

static void bench_times_operators_and_stops(void)
{
    counted_memory memory;
    encdiff_context *context = open_context(&memory, 1);
    encdiff_bench_options options;
    char *json = NULL;
    int calls = 0;
    encdiff_bench_options_init(&options, sizeof options);
    options.config = TINY;
    options.operators = "activation";
    options.batch = 1;
    options.seconds = 0.001;
    if (OK(context, encdiff_context_bench(context, &options, &json, NULL, NULL)))
        CHECK(json[0] == '[' && strstr(json, "\"activation\"") && strstr(json, "\"seconds\""));
    encdiff_context_release(context, json);
    options.operators = "no-such-operator";
    FAILS(context, encdiff_context_bench(context, &options, &json, NULL, NULL), ENCDIFF_ERROR_NOT_FOUND,
          "no-such-operator");
    CHECK(!json);
    options.operators = NULL;
    FAILS(context, encdiff_context_bench(context, &options, &json, count_calls, &calls), ENCDIFF_CANCELLED, "");
    CHECK(!json);
    CHECK_EQUAL(calls, 3);
    FAILS(context, encdiff_context_bench(context, &options, NULL, NULL, NULL), ENCDIFF_ERROR_ARGUMENT, "json");
    close_context(context, &memory);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        TEST(context_is_made_with_defaults),
        TEST(null_context_is_refused_everywhere),
        TEST(device_names_are_checked),
        TEST(impossible_options_are_refused_with_a_reason),
        TEST(out_of_memory_makes_no_context),
        TEST(devices_are_listed_with_reasons),
        TEST(memory_is_the_allocators),
        TEST(errors_name_what_was_wrong_and_last),
        TEST(versions_agree_with_the_header),
        TEST(every_status_has_a_name),
        TEST(older_options_leave_new_fields_at_their_default),
        TEST(newer_options_are_taken),
        TEST(unusable_struct_sizes_are_refused),
        TEST(infos_are_filled_as_far_as_they_go),
        TEST(a_stop_waits_for_the_next_long_call_and_ends_with_it),
        TEST(a_stop_from_another_thread_ends_training),
        TEST(bench_times_operators_and_stops),
    };
    return test_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
