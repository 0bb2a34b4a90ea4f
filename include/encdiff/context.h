/*
 * The context: where work runs and where memory, messages and errors go. All other handles are made on one.
 */
#ifndef ENCDIFF_CONTEXT_H
#define ENCDIFF_CONTEXT_H

#include <stddef.h>
#include <stdint.h>

#include <encdiff/export.h>
#include <encdiff/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * A device with its threads, allocator, log and last error.
 *
 * Thread-safety: one thread at a time for a context and all handles made on it; different contexts are independent.
 * encdiff_cancel() alone may be called at any time from any thread.
 * Floating point: functions run, and call back, with C's default modes; the caller's own, traps and exception flags
 * included, are as they were when they return (on x86).
 */
typedef struct encdiff_context encdiff_context;

struct encdiff_image_view;

/* A choice whose zero leaves it to the configuration or the function's own default. */
typedef enum encdiff_switch { ENCDIFF_DEFAULT = 0, ENCDIFF_ON = 1, ENCDIFF_OFF = -1 } encdiff_switch;

typedef enum encdiff_log_level {
    ENCDIFF_LOG_ERROR = 1,
    ENCDIFF_LOG_WARNING = 2,
    ENCDIFF_LOG_INFO = 3,
    ENCDIFF_LOG_DEBUG = 4
} encdiff_log_level;

/* Receives one message without a line end. Called from the thread that uses the context. */
typedef void (*encdiff_log)(encdiff_log_level level, const char *message, void *user);

/* Returns size bytes aligned to alignment (a power of two), or NULL. Called from any thread of the context. */
typedef void *(*encdiff_allocate)(size_t size, size_t alignment, void *user);

/* Takes back what encdiff_allocate returned for the same size; never NULL. Called from any thread of the context. */
typedef void (*encdiff_deallocate)(void *memory, size_t size, void *user);

/*
 * The numbers of activations and of their gradients in a network's memory. Parameters, their gradients, moments,
 * statistics and losses are f32 always, and so is the arithmetic: bf16 halves the memory of a run and rounds what one
 * operator hands to the next to 8 bits. Models and checkpoints are the same for both. The autoencoder is trained in
 * f32.
 */
typedef enum encdiff_precision {
    ENCDIFF_PRECISION_F32 = 1,
    ENCDIFF_PRECISION_BF16 = 2,
    ENCDIFF_PRECISION_TF32 =
        3 /* f32, but a GPU may round the operands of matrix products and convolutions to 10 bits */
} encdiff_precision;

typedef struct encdiff_context_options {
    size_t struct_size;
    const char *device;        /* "cpu" (NULL), "cuda", "cuda:1", or "auto": a GPU where one works, else the CPU */
    int32_t threads;           /* worker threads on the CPU; 0: one for each processor that this process may use */
    int32_t log_level;         /* most detailed encdiff_log_level that is reported; 0: ENCDIFF_LOG_WARNING */
    encdiff_log log;           /* NULL: silence */
    void *log_user;            /* passed to log */
    encdiff_allocate allocate; /* host memory; NULL: the system's. Set allocate and deallocate both or neither */
    encdiff_deallocate deallocate;
    void *allocator_user; /* passed to allocate and deallocate */
    int32_t precision;    /* encdiff_precision; 0: ENCDIFF_PRECISION_F32 */
    int32_t cuda_graphs;  /* encdiff_switch: a GPU's runs are recorded and replayed; default: on */
    void *stream;         /* a GPU: the cudaStream_t to work on, which outlives the context; NULL: one of its own */
} encdiff_context_options;

/* Set every option to its default; struct_size is sizeof(encdiff_context_options) as the caller compiled it. */
ENCDIFF_API void encdiff_context_options_init(encdiff_context_options *options, size_t struct_size);

/**
 * Create a context.
 *
 * options  NULL for defaults; read during the call, the callbacks are kept
 * context  out, to be freed with encdiff_context_free()
 *
 * Returns ENCDIFF_OK; ENCDIFF_ERROR_ARGUMENT for a device name of unknown form; ENCDIFF_ERROR_DEVICE when the named
 * device is unavailable (with "auto" that only decides for the CPU: encdiff_context_get_device() has the reason).
 * "cuda" is the first GPU that works. The reason of a failure goes to options->log. The calling thread's current CUDA
 * device is never left changed.
 */
ENCDIFF_API encdiff_status encdiff_context_create(const encdiff_context_options *options, encdiff_context **context);

/* Give up the caller's hold; memory is returned when the last handle made on the context is freed. NULL is allowed. */
ENCDIFF_API void encdiff_context_free(encdiff_context *context);

/* What went wrong in the last call that failed; "" before any or for NULL. Valid until the next failure. */
ENCDIFF_API const char *encdiff_context_error(const encdiff_context *context);

/* Free what the library allocated for the caller (JSON text, saved models, array data) on this context. */
ENCDIFF_API void encdiff_context_release(encdiff_context *context, void *memory);

/**
 * Stop the call that is running on the context, from any thread or from a signal handler.
 *
 * That call returns ENCDIFF_CANCELLED soon. When none is running the next long one returns it at once, so a stop is
 * never lost to timing. The request ends when a call has reported it, or with encdiff_cancel_reset().
 * The context must not be freed before the stopped call has returned.
 */
ENCDIFF_API void encdiff_cancel(encdiff_context *context);

/* Withdraw a stop that no call has reported yet. */
ENCDIFF_API void encdiff_cancel_reset(encdiff_context *context);

/* How far a long call is. The library sets struct_size to what it filled; pointers are valid during the callback. */
typedef struct encdiff_progress_info {
    size_t struct_size;
    const char *activity; /* what is counted, for example "denoising" */
    int64_t done;         /* 1..total */
    int64_t total;
    const struct encdiff_image_view *preview; /* sampler with preview_every: images so far; otherwise NULL */
} encdiff_progress_info;

/**
 * Progress of a long call. Called from the thread that made the call; may call encdiff_cancel() but no other function
 * on the context. Returns 0 to go on, anything else to stop with ENCDIFF_CANCELLED.
 */
typedef int32_t (*encdiff_progress)(const encdiff_progress_info *info, void *user);

typedef enum encdiff_device_kind { ENCDIFF_DEVICE_CPU = 1, ENCDIFF_DEVICE_CUDA = 2 } encdiff_device_kind;

typedef struct encdiff_device_info {
    size_t struct_size;
    const char *name;        /* as in encdiff_context_options.device: "cpu", "cuda:0" */
    const char *description; /* the maker's name */
    int32_t kind;            /* encdiff_device_kind */
    int32_t available;       /* 1 or 0 */
    const char *reason;      /* why it is unavailable; NULL when it is available */
    uint64_t memory_total;   /* bytes; 0 when unknown */
    uint64_t memory_free;    /* bytes, now */
} encdiff_device_info;

/* How many devices are known, the unavailable ones included. Looks for them at the first call. */
ENCDIFF_API int32_t encdiff_context_device_count(encdiff_context *context);

/**
 * Describe a device.
 *
 * index  0 .. count-1, or -1 for the device that the context uses
 * info   out; set struct_size first. Strings belong to the context
 *
 * Returns ENCDIFF_OK; ENCDIFF_ERROR_ARGUMENT when index is out of range.
 */
ENCDIFF_API encdiff_status encdiff_context_get_device(encdiff_context *context, int32_t index,
                                                      encdiff_device_info *info);

typedef struct encdiff_memory_info {
    size_t struct_size;
    uint64_t host_in_use; /* bytes from the context's allocator */
    uint64_t host_peak;
    uint64_t device_in_use; /* bytes on the GPU; 0 on the CPU */
    uint64_t device_peak;
    uint64_t allocations; /* allocations so far, host and device */
} encdiff_memory_info;

/* Memory of the context and of everything made on it; set struct_size first. Returns ENCDIFF_OK. */
ENCDIFF_API encdiff_status encdiff_context_get_memory(const encdiff_context *context, encdiff_memory_info *info);

/* Start the peaks again from what is in use now. */
ENCDIFF_API void encdiff_context_reset_peak(encdiff_context *context);

typedef struct encdiff_bench_options {
    size_t struct_size;
    const char *config;    /* operators of this configuration's networks, as in encdiff_config_resolve(); NULL: preset
                              "shapes3d-official" */
    const char *operators; /* comma-separated names; NULL: all */
    int32_t batch;         /* images; 0: 32 */
    double seconds;        /* time spent on each case; 0: 0.2 */
} encdiff_bench_options;

/* Set every option to its default; struct_size is sizeof(encdiff_bench_options) as the caller compiled it. */
ENCDIFF_API void encdiff_bench_options_init(encdiff_bench_options *options, size_t struct_size);

/**
 * Time every operator on the context's device, at the shapes that a configuration gives it.
 *
 * options  NULL for defaults
 * json     out, array of {"operator", "shape", "count", "seconds", "flops", "bytes"}, seconds the median of one run;
 *          release with encdiff_context_release()
 *
 * Returns ENCDIFF_OK; ENCDIFF_ERROR_CONFIG; ENCDIFF_ERROR_NOT_FOUND for an unknown operator; ENCDIFF_CANCELLED.
 */
ENCDIFF_API encdiff_status encdiff_context_bench(encdiff_context *context, const encdiff_bench_options *options,
                                                 char **json, encdiff_progress progress, void *user);

#ifdef __cplusplus
}
#endif
#endif
