/* The devices: which there are and why one cannot be used, and the backend of the one that a context works on. */
#include <stdio.h>
#include <stdlib.h>

#include "api/handles.h"
#include "cpu/cpu.h"

static void describe_cpu(ed_device *device)
{
    char line[256];
    *device = (ed_device){.name = "cpu", .description = "CPU", .kind = ENCDIFF_DEVICE_CPU, .available = true};
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file && fgets(line, sizeof line, file)) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !colon) continue;
        snprintf(device->description, sizeof device->description, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
        break;
    }
    if (file) fclose(file);
}

/* The plugin, and how many devices it finds: at least one, or a failure with the reason. */
static encdiff_status find_cuda(encdiff_context *context, ed_env *env, int *count)
{
    *count = 0;
    if (!context->plugin.table) ED_TRY(ed_plugin_load(env, &context->plugin));
    return context->plugin.table->devices(env, NULL, 0, count);
}

/* ---------------------------------------------------------------- listing */

static void describe_cuda(encdiff_context *context, int index, const ed_plugin_device *from)
{
    ed_device *d = &context->devices[1 + index];
    const char *reason = from->reason;
    if (!reason[0] && context->refused == 1 + index) reason = context->refusal;
    *d = (ed_device){.kind = ENCDIFF_DEVICE_CUDA,
                     .available = !reason[0],
                     .memory_total = from->memory_total,
                     .memory_free = from->memory_free};
    snprintf(d->name, sizeof d->name, "cuda:%d", index);
    snprintf(d->description, sizeof d->description, "%s", from->description[0] ? from->description : "CUDA");
    snprintf(d->reason, sizeof d->reason, "%s", reason);
}

void ed_device_list(encdiff_context *context)
{
    ed_plugin_device found[ED_MAX_DEVICES - 1];
    ed_env env; /* that there is none is no failure of the caller's */
    int count = 0;
    ed_env_child(&env, &context->env);
    memset(found, 0, sizeof found);
    encdiff_status status = find_cuda(context, &env, &count);
    if (status == ENCDIFF_OK) status = context->plugin.table->devices(&env, found, ED_COUNT(found), &count);
    if (status != ENCDIFF_OK) {
        count = 1;
        snprintf(found[0].reason, sizeof found[0].reason, "%.*s", (int)sizeof found[0].reason - 1, env.message);
    }
    count = ED_MIN(count, (int)ED_COUNT(found));
    for (int i = 0; i < count; i++) describe_cuda(context, i, &found[i]);
    context->device_count = 1 + count;
}

/* ---------------------------------------------------------------- choosing */

/* "cuda:N": N. "cuda" and "auto": -1, the first that works. */
static bool parse(const char *name, int *index)
{
    *index = -1;
    if (strcmp(name, "cuda") == 0 || strcmp(name, "auto") == 0) return true;
    if (strncmp(name, "cuda:", 5) != 0) return false;
    size_t digits = strspn(name + 5, "0123456789");
    *index = atoi(name + 5);
    return digits > 0 && digits < 6 && !name[5 + digits];
}

/* Of a device that was not insisted on. */
static void forget_failure(ed_env *env)
{
    env->status = ENCDIFF_OK;
    env->message[0] = '\0';
}

static encdiff_status open_cuda(encdiff_context *context, int index, const ed_backend_options *options)
{
    ed_env *env = &context->env; /* which the backend keeps */
    char message[sizeof env->message] = "";
    encdiff_status first = ENCDIFF_OK;
    int count;
    ED_TRY(find_cuda(context, env, &count));
    if (index >= 0 || count == 1) {
        context->device = 1 + ED_MAX(index, 0);
        return context->plugin.table->open(env, ED_MAX(index, 0), options, &context->backend);
    }
    for (int i = 0; i < count; i++) {
        encdiff_status status = context->plugin.table->open(env, i, options, &context->backend);
        context->device = 1 + i;
        if (status == ENCDIFF_OK) {
            forget_failure(env);
            return status;
        }
        if (i > 0) continue;
        first = status;
        memcpy(message, env->message, sizeof message);
    }
    context->device = 1; /* the first device's reason is told */
    return ed_fail(env, first, "%s", message);
}

encdiff_status ed_device_open(encdiff_context *context, const char *name, const ed_backend_options *options)
{
    ed_env *env = &context->env;
    int index;
    context->backend = ed_backend_cpu();
    describe_cpu(&context->devices[0]);
    if (!name || strcmp(name, "cpu") == 0) return ENCDIFF_OK;
    if (!parse(name, &index))
        return ed_fail(env, ENCDIFF_ERROR_ARGUMENT, "device \"%s\": expected cpu, cuda, cuda:N or auto", name);
    encdiff_status status = open_cuda(context, index, options);
    if (status == ENCDIFF_OK) return status;
    context->refused = context->device;
    context->device = 0;
    context->backend = ed_backend_cpu();
    if (strcmp(name, "auto") != 0) {
        ed_fail_within(env, "device %s", name);
        return status;
    }
    ed_log(env, ED_LOG_INFO, "the CPU is used: %s", env->message);
    snprintf(context->refusal, sizeof context->refusal, "%.*s", (int)sizeof context->refusal - 1, env->message);
    forget_failure(env);
    return ENCDIFF_OK;
}

void ed_device_close(encdiff_context *context)
{
    if (context->backend && context->device > 0) context->plugin.table->close(context->backend);
    ed_plugin_unload(&context->plugin);
    context->backend = NULL;
}
