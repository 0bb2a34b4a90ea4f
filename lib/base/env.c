/* The error record, the log and the cancel flag that a call works under. */
#include <stdio.h>

#include "base/base.h"

void ed_env_child(ed_env *child, const ed_env *parent)
{
    *child = (ed_env){
        .memory = parent->memory, .cancel = parent->cancel, .log = parent->log, .log_user = parent->log_user};
}

encdiff_status ed_fail(ed_env *env, encdiff_status status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    env->status = status;
    vsnprintf(env->message, sizeof env->message, format, arguments);
    va_end(arguments);
    return status;
}

encdiff_status ed_fail_within(ed_env *env, const char *format, ...)
{
    char inner[sizeof env->message];
    memcpy(inner, env->message, sizeof inner);
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(env->message, sizeof env->message, format, arguments);
    va_end(arguments);
    if (n >= 0 && (size_t)n < sizeof env->message) {
        size_t room = sizeof env->message - (size_t)n;
        int m = snprintf(env->message + n, room, ": %.*s", (int)room, inner);
        (void)m; /* a truncated message is still a message */
    }
    return env->status;
}

void ed_log(const ed_env *env, ed_log_level level, const char *format, ...)
{
    if (!env->log) return;
    char message[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    env->log(env->log_user, level, message);
}

encdiff_status ed_check_cancel(ed_env *env)
{
    if (env->cancel && atomic_load_explicit(env->cancel, memory_order_relaxed))
        return ed_fail(env, ENCDIFF_CANCELLED, "stopped on request");
    return ENCDIFF_OK;
}

const char *encdiff_status_name(encdiff_status status)
{
    switch (status) {
    case ENCDIFF_OK: return "ok";
    case ENCDIFF_ERROR_ARGUMENT: return "invalid argument";
    case ENCDIFF_ERROR_SHAPE: return "wrong shape";
    case ENCDIFF_ERROR_STATE: return "wrong state";
    case ENCDIFF_ERROR_CONFIG: return "invalid configuration";
    case ENCDIFF_ERROR_UNSUPPORTED: return "unsupported";
    case ENCDIFF_ERROR_OUT_OF_MEMORY: return "out of memory";
    case ENCDIFF_ERROR_IO: return "input or output failed";
    case ENCDIFF_ERROR_NOT_FOUND: return "not found";
    case ENCDIFF_ERROR_DEVICE: return "device failed";
    case ENCDIFF_ERROR_INTERNAL: return "internal error";
    case ENCDIFF_ERROR_FORMAT: return "malformed data";
    case ENCDIFF_ERROR_NUMERIC: return "not a number";
    case ENCDIFF_CANCELLED: return "cancelled";
    }
    return "unknown status";
}
