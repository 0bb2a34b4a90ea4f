/* The error record, the log and the cancel flag that a call works under. */
#include <stdio.h>

#include "base/base.h"

void ed_env_child(ed_env *child, const ed_env *parent)
{
    *child = (ed_env){
        .memory = parent->memory, .cancel = parent->cancel, .log = parent->log, .log_user = parent->log_user};
}

/* Bytes of the UTF-8 sequence at `p`; 0: it is not one, or no character that is printed. The text ends with a zero. */
static size_t sequence_length(const unsigned char *p)
{
    static const struct {
        unsigned char first, last, low, high; /* of the first byte, and of the second one */
        size_t length;
    } forms[] = {{0xC2, 0xDF, 0x80, 0xBF, 2}, {0xE0, 0xE0, 0xA0, 0xBF, 3}, {0xE1, 0xEC, 0x80, 0xBF, 3},
                 {0xED, 0xED, 0x80, 0x9F, 3}, {0xEE, 0xEF, 0x80, 0xBF, 3}, {0xF0, 0xF0, 0x90, 0xBF, 4},
                 {0xF1, 0xF3, 0x80, 0xBF, 4}, {0xF4, 0xF4, 0x80, 0x8F, 4}}; /* Unicode 15, table 3-7 */
    if (*p < 0x80) return *p >= 0x20 && *p != 0x7F;
    for (size_t i = 0; i < ED_COUNT(forms); i++) {
        if (*p < forms[i].first || *p > forms[i].last || p[1] < forms[i].low || p[1] > forms[i].high) continue;
        for (size_t k = 2; k < forms[i].length; k++)
            if ((p[k] & 0xC0) != 0x80) return 0;
        return forms[i].length;
    }
    return 0;
}

/* Messages quote files: what would end a line, steer a terminal or be no UTF-8 (a name cut short) becomes '?'. */
static void make_printable(char *message)
{
    for (char *p = message; *p;) {
        size_t n = sequence_length((const unsigned char *)p);
        if (!n) *p = '?';
        p += ED_MAX(n, (size_t)1);
    }
}

encdiff_status ed_fail(ed_env *env, encdiff_status status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    env->status = status;
    vsnprintf(env->message, sizeof env->message, format, arguments);
    va_end(arguments);
    make_printable(env->message);
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
    make_printable(env->message);
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
