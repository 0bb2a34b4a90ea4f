/* The context: memory, log, errors, device, threads. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "api/handles.h"

/* ---------------------------------------------------------------- shared checks */

encdiff_status ed_api_refuse(encdiff_context *context, const char *where, const char *what)
{
    if (!context) return ENCDIFF_ERROR_ARGUMENT;
    return ed_fail(&context->env, ENCDIFF_ERROR_ARGUMENT, "%s: needs %s", where, what);
}

encdiff_status ed_api_done(encdiff_context *context, encdiff_status status)
{
    if (status == ENCDIFF_CANCELLED) atomic_store(&context->cancel, false);
    return status;
}

encdiff_status ed_api_read_options(encdiff_context *context, const char *where, void *to, size_t size,
                                   const void *options)
{
    size_t given;
    memset(to, 0, size);
    if (!options) return ENCDIFF_OK;
    memcpy(&given, options, sizeof given);
    if (given < sizeof given) {
        if (!context) return ENCDIFF_ERROR_ARGUMENT;
        return ed_fail(&context->env, ENCDIFF_ERROR_ARGUMENT,
                       "%s: options->struct_size is %zu; call the options' _init function first", where, given);
    }
    memcpy(to, options, ED_MIN(given, size));
    return ENCDIFF_OK;
}

encdiff_status ed_api_fill_info(encdiff_context *context, const char *where, void *info, const void *filled,
                                size_t size)
{
    size_t given;
    memcpy(&given, info, sizeof given);
    if (given < sizeof given)
        return ed_fail(&context->env, ENCDIFF_ERROR_ARGUMENT, "%s: info->struct_size is %zu; set it to sizeof *info",
                       where, given);
    size_t copied = ED_MIN(given, size);
    memcpy((char *)info + sizeof given, (const char *)filled + sizeof given, copied - sizeof given);
    memset((char *)info + copied, 0, given - copied);
    return ENCDIFF_OK;
}

void ed_api_init_options(void *options, size_t struct_size)
{
    if (!options || struct_size < sizeof struct_size) return;
    memset(options, 0, struct_size);
    memcpy(options, &struct_size, sizeof struct_size);
}

/* ---------------------------------------------------------------- creation */

static void forward_log(void *user, ed_log_level level, const char *message)
{
    encdiff_context *context = user;
    if ((int32_t)level + 1 <= context->log_level)
        context->log((encdiff_log_level)(level + 1), message, context->log_user);
}

static int usable_processors(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return ED_MAX(CPU_COUNT(&set), 1);
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (int)n : 1;
}

void encdiff_context_options_init(encdiff_context_options *options, size_t struct_size)
{
    ed_api_init_options(options, struct_size);
}

/* The record of a context that could not be made goes to the caller's log. */
static void report_failure(encdiff_context *context)
{
    if (context->log) context->log(ENCDIFF_LOG_ERROR, context->env.message, context->log_user);
}

/* The host's allocator with the context's own memory taken from it. */
static encdiff_context *allocate_context(const encdiff_context_options *o)
{
    ed_memory memory;
    ed_allocator allocator = {o->allocate, o->deallocate, o->allocator_user};
    ed_memory_init(&memory, o->allocate ? &allocator : NULL);
    encdiff_context *context = memory.allocator.allocate(sizeof *context, ED_ALIGNMENT, memory.allocator.user);
    if (!context) return NULL;
    memset(context, 0, sizeof *context);
    ed_memory_init(&context->memory, o->allocate ? &allocator : NULL);
    return context;
}

static void release_context(encdiff_context *context)
{
    ed_allocator allocator = context->memory.allocator;
    ed_team_free(context->team);
    ed_device_close(context);
    allocator.release(context, sizeof *context, allocator.user);
}

/* Before there is a context to keep the message, it goes to the caller's log alone. */
static encdiff_status check_options(const encdiff_context_options *o)
{
    char message[160] = "";
    if (!o->allocate != !o->deallocate)
        snprintf(message, sizeof message, "allocate and deallocate: set both or neither");
    else if (o->threads < 0 || o->threads > ED_TEAM_MAX_RANKS)
        snprintf(message, sizeof message, "threads %d: expected 0 .. %d", (int)o->threads, ED_TEAM_MAX_RANKS);
    else if (o->log_level < 0)
        snprintf(message, sizeof message, "log_level %d: expected an encdiff_log_level or 0", (int)o->log_level);
    else if (o->precision < 0 || o->precision > ENCDIFF_PRECISION_TF32)
        snprintf(message, sizeof message, "precision %d: expected an encdiff_precision or 0", (int)o->precision);
    if (!message[0]) return ENCDIFF_OK;
    if (o->log) o->log(ENCDIFF_LOG_ERROR, message, o->log_user);
    return ENCDIFF_ERROR_ARGUMENT;
}

encdiff_status encdiff_context_create(const encdiff_context_options *options, encdiff_context **out)
{
    ED_API_BEGIN;
    encdiff_context_options o;
    if (!out) return ENCDIFF_ERROR_ARGUMENT;
    *out = NULL;
    ED_TRY(ed_api_read_options(NULL, __func__, &o, sizeof o, options));
    ED_TRY(check_options(&o));
    encdiff_context *context = allocate_context(&o);
    if (!context) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    atomic_init(&context->references, 1);
    context->log = o.log;
    context->log_user = o.log_user;
    context->log_level = o.log_level ? o.log_level : ENCDIFF_LOG_WARNING;
    context->env = (ed_env){
        .memory = &context->memory, .cancel = &context->cancel, .log = o.log ? forward_log : NULL, .log_user = context};
    ed_backend_options backend = {
        .stream = o.stream, .tf32 = o.precision == ENCDIFF_PRECISION_TF32, .plain = o.cuda_graphs == ENCDIFF_OFF};
    encdiff_status status = ed_device_open(context, o.device, &backend);
    int threads = o.threads ? o.threads : ED_MIN(usable_processors(), ED_TEAM_MAX_RANKS);
    if (status == ENCDIFF_OK) status = ed_team_create(&context->env, context->backend, threads, &context->team);
    if (status == ENCDIFF_OK) context->team->compute = o.precision == ENCDIFF_PRECISION_BF16 ? ED_BF16 : ED_F32;
    if (status != ENCDIFF_OK) {
        report_failure(context);
        release_context(context);
        return status;
    }
    *out = context;
    return ENCDIFF_OK;
}

void ed_context_retain(encdiff_context *context) { atomic_fetch_add(&context->references, 1); }

void encdiff_context_free(encdiff_context *context)
{
    if (context && atomic_fetch_sub(&context->references, 1) == 1) release_context(context);
}

/* ---------------------------------------------------------------- what it knows */

const char *encdiff_context_error(const encdiff_context *context) { return context ? context->env.message : ""; }

void encdiff_context_release(encdiff_context *context, void *memory)
{
    if (context) ed_free(&context->env, memory);
}

void encdiff_cancel(encdiff_context *context)
{
    if (context) atomic_store(&context->cancel, true);
}

void encdiff_cancel_reset(encdiff_context *context)
{
    if (context) atomic_store(&context->cancel, false);
}

int32_t encdiff_context_device_count(encdiff_context *context)
{
    if (!context) return 0;
    if (!context->device_count) ed_device_list(context);
    return context->device_count;
}

encdiff_status encdiff_context_get_device(encdiff_context *context, int32_t index, encdiff_device_info *info)
{
    ED_API_BEGIN;
    if (!context) return ENCDIFF_ERROR_ARGUMENT;
    ED_REQUIRE(context, info != NULL);
    ED_REQUIRE(context, index >= -1 && (index <= 0 || index < encdiff_context_device_count(context)));
    if (index < 0) index = context->device;
    if (index > 0) ed_device_list(context);
    const ed_device *d = &context->devices[index];
    encdiff_device_info filled = {.name = d->name,
                                  .description = d->description,
                                  .kind = d->kind,
                                  .available = d->available,
                                  .reason = d->available ? NULL : d->reason,
                                  .memory_total = d->memory_total,
                                  .memory_free = d->memory_free};
    if (d->kind == ENCDIFF_DEVICE_CPU) {
        uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
        filled.memory_total = page * (uint64_t)sysconf(_SC_PHYS_PAGES);
        filled.memory_free = page * (uint64_t)sysconf(_SC_AVPHYS_PAGES);
    }
    return ed_api_fill_info(context, __func__, info, &filled, sizeof filled);
}

encdiff_status encdiff_context_get_memory(const encdiff_context *context, encdiff_memory_info *info)
{
    ED_API_BEGIN;
    if (!context || !info) return ENCDIFF_ERROR_ARGUMENT;
    encdiff_memory_info filled = {.host_in_use = atomic_load(&context->memory.in_use),
                                  .host_peak = atomic_load(&context->memory.peak),
                                  .allocations = atomic_load(&context->memory.calls)};
    size_t in_use = 0, peak = 0;
    if (context->backend->memory) context->backend->memory(context->backend, false, &in_use, &peak);
    filled.device_in_use = in_use;
    filled.device_peak = peak;
    /* A const context cannot record a misuse; it is returned all the same. */
    size_t given;
    memcpy(&given, info, sizeof given);
    if (given < sizeof given) return ENCDIFF_ERROR_ARGUMENT;
    size_t copied = ED_MIN(given, sizeof filled);
    memcpy((char *)info + sizeof given, (char *)&filled + sizeof given, copied - sizeof given);
    memset((char *)info + copied, 0, given - copied);
    return ENCDIFF_OK;
}

void encdiff_context_reset_peak(encdiff_context *context)
{
    size_t in_use, peak;
    if (!context) return;
    atomic_store(&context->memory.peak, atomic_load(&context->memory.in_use));
    if (context->backend->memory) context->backend->memory(context->backend, true, &in_use, &peak);
}
