/* A GPU that is asked for where there is none: why it cannot be used is told, and "auto" takes the CPU. */
#include "api.h"

/* Where the plugin is looked for in the environment; NULL: nowhere there. */
static void set_plugin(const char *path)
{
    if (path)
        setenv("ENCDIFF_CUDA_PLUGIN", path, 1);
    else
        unsetenv("ENCDIFF_CUDA_PLUGIN");
}

static char logged[1024];

static void keep(encdiff_log_level level, const char *message, void *user)
{
    (void)user;
    if (level == ENCDIFF_LOG_ERROR) snprintf(logged, sizeof logged, "%s", message);
}

/* Asking for it fails for the reason, which is in the list of devices too. */
static void refused(const char *path, const char *reason)
{
    counted_memory memory;
    encdiff_context *context = NULL;
    encdiff_context_options options;
    set_plugin(path);
    memset(&memory, 0, sizeof memory);
    encdiff_context_options_init(&options, sizeof options);
    options.device = "cuda";
    options.threads = 1;
    options.log = keep;
    options.allocate = counted_allocate;
    options.deallocate = counted_deallocate;
    options.allocator_user = &memory;
    CHECK_EQUAL(encdiff_context_create(&options, &context), ENCDIFF_ERROR_DEVICE);
    CHECK_THAT(!context && strstr(logged, "device cuda") && strstr(logged, reason), "\"%s\" does not tell %s", logged,
               reason);
    check_returned(&memory);
    options.device = "auto";
    if (!CHECK_EQUAL(encdiff_context_create(&options, &context), ENCDIFF_OK)) return;
    CHECK(encdiff_context_error(context)[0] == '\0');
    encdiff_device_info info = {.struct_size = sizeof info};
    OK(context, encdiff_context_get_device(context, -1, &info));
    CHECK(info.kind == ENCDIFF_DEVICE_CPU && info.available);
    CHECK_EQUAL(encdiff_context_device_count(context), 2);
    OK(context, encdiff_context_get_device(context, 1, &info));
    CHECK_THAT(!info.available && info.reason && strstr(info.reason, reason), "\"%s\" does not tell %s",
               info.reason ? info.reason : "", reason);
    CHECK(info.kind == ENCDIFF_DEVICE_CUDA && strcmp(info.name, "cuda:0") == 0);
    encdiff_model *model = make_model(context, TINY, 0); /* and everything works */
    encdiff_model_free(model);
    close_context(context, &memory);
}

static void without_the_plugin(void) { refused("/nonexistent/libencdiff-cuda.so", "cannot open shared object file"); }

static void with_hidden_libraries(void) { refused(HIDDEN_LIBRARIES, "libcublasLt.so.hidden"); }

static void with_another_library(void) { refused(OTHER_LIBRARY, "is not a backend"); }

static void with_a_plugin_of_another_build(void) { refused(OTHER_BUILD, "of another build"); }

/* The CPU's contexts load nothing until they are asked what there is. */
static void the_cpu_does_not_look_for_devices(void)
{
    counted_memory memory;
    encdiff_device_info info = {.struct_size = sizeof info};
    set_plugin(HIDDEN_LIBRARIES);
    encdiff_context *context = open_context(&memory, 1);
    long before = atomic_load(&memory.calls);
    OK(context, encdiff_context_get_device(context, 0, &info));
    CHECK(info.kind == ENCDIFF_DEVICE_CPU && info.memory_free > 0);
    CHECK_EQUAL(atomic_load(&memory.calls), before);
    close_context(context, &memory);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        TEST(without_the_plugin),
        TEST(with_hidden_libraries),
        TEST(with_another_library),
        TEST(with_a_plugin_of_another_build),
        TEST(the_cpu_does_not_look_for_devices),
    };
    return test_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
