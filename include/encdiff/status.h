/*
 * Status codes. Every function of the library that can fail returns one; the sentence that names the
 * value, the file or the shape is kept with the context (encdiff_context_error).
 *
 * Values are part of the ABI: they are never renumbered, new ones are only added. The tens tell the
 * kind: -1 the call is wrong, -20 the environment failed, -40 the data is bad, -60 stopped on request.
 */
#ifndef ENCDIFF_STATUS_H
#define ENCDIFF_STATUS_H

#include <encdiff/export.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum encdiff_status {
    ENCDIFF_OK = 0,

    /* Misuse: the caller can mend the call. */
    ENCDIFF_ERROR_ARGUMENT = -1,    /* NULL, out of range, or contradicting arguments */
    ENCDIFF_ERROR_SHAPE = -2,       /* an array's shape does not fit */
    ENCDIFF_ERROR_STATE = -3,       /* the handle is not in a state that allows the call */
    ENCDIFF_ERROR_CONFIG = -4,      /* a configuration key is unknown, missing or impossible */
    ENCDIFF_ERROR_UNSUPPORTED = -5, /* understood, but this build or device cannot do it */

    /* Environment. */
    ENCDIFF_ERROR_OUT_OF_MEMORY = -20,
    ENCDIFF_ERROR_IO = -21,        /* reading or writing failed; the message has the system's reason */
    ENCDIFF_ERROR_NOT_FOUND = -22, /* a file, parameter, preset or name does not exist */
    ENCDIFF_ERROR_DEVICE = -23,    /* the device or its driver failed or is absent */
    ENCDIFF_ERROR_INTERNAL = -24,  /* a defect of the library; please report it with the message */

    /* Data. */
    ENCDIFF_ERROR_FORMAT = -40,  /* a file is malformed, truncated or of another kind */
    ENCDIFF_ERROR_NUMERIC = -41, /* NaN or infinity where a number is needed */

    ENCDIFF_CANCELLED = -60 /* encdiff_cancel() or a callback asked to stop */
} encdiff_status;

/* A short constant English name of the status ("out of memory"); never NULL. */
ENCDIFF_API const char *encdiff_status_name(encdiff_status status);

#ifdef __cplusplus
}
#endif
#endif
