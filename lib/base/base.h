/*
 * base: what every other folder stands on. It depends on nothing inside the library.
 *
 *   env      the surroundings of a call: error record, memory, log, cancel flag, thread count
 *   memory   counted, aligned allocation through the host's allocator
 *   threads  a fork-join pool, a barrier, and sums over the pool's ranks
 *   philox   counter-based random numbers, the same for every thread count and device
 *   json     cJSON behind accessors that name the offending key
 *   text     growing strings, paths, UTF-8-safe formatting
 *
 * Everybody may call it. A function that can fail takes the env first, returns a status, and has
 * recorded a message with ed_fail() when the status is not ENCDIFF_OK.
 */
#ifndef ED_BASE_H
#define ED_BASE_H

#ifdef __cplusplus /* the kernels in cuda/ */
#include <atomic>
using std::atomic_bool;
using std::atomic_size_t;
#else
#include <stdatomic.h>
#endif
#include <stdbool.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <encdiff/status.h>

#define ED_COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define ED_MIN(a, b) ((a) < (b) ? (a) : (b))
#define ED_MAX(a, b) ((a) > (b) ? (a) : (b))

/* Return the status of `call` when it failed. For places that own nothing yet. */
#define ED_TRY(call)                                                                                                   \
    do {                                                                                                               \
        encdiff_status ed_try_status_ = (call);                                                                        \
        if (ed_try_status_ != ENCDIFF_OK) return ed_try_status_;                                                       \
    } while (0)

/* Go to `fail` with `status` set when `call` failed. For places that own something. */
#define ED_TRY_OR_FAIL(call)                                                                                           \
    do {                                                                                                               \
        status = (call);                                                                                               \
        if (status != ENCDIFF_OK) goto fail;                                                                           \
    } while (0)

/* ---------------------------------------------------------------- env */

typedef enum ed_log_level { ED_LOG_ERROR, ED_LOG_WARNING, ED_LOG_INFO, ED_LOG_DEBUG } ed_log_level;

typedef struct ed_memory ed_memory;

typedef struct ed_env {
    ed_memory *memory;   /* shared with children */
    atomic_bool *cancel; /* set by encdiff_cancel(); shared with children; may be NULL */
    void (*log)(void *user, ed_log_level level, const char *message); /* may be NULL */
    void *log_user;
    encdiff_status status; /* of the last failure */
    char message[1024];
} ed_env;

/* A child for another thread: it shares memory, log and cancel flag and has an error record of its own. */
void ed_env_child(ed_env *child, const ed_env *parent);
/* Record a failure and return its status. The first sentence should name the value, the file or the shape. */
encdiff_status ed_fail(ed_env *env, encdiff_status status, const char *format, ...) ENCDIFF_FORMAT(3, 4);
/* Put "prefix: " before the recorded message, for a caller who knows more. Returns env->status. */
encdiff_status ed_fail_within(ed_env *env, const char *format, ...) ENCDIFF_FORMAT(2, 3);
void ed_log(const ed_env *env, ed_log_level level, const char *format, ...) ENCDIFF_FORMAT(3, 4);
/* ENCDIFF_CANCELLED when a stop was asked for. */
encdiff_status ed_check_cancel(ed_env *env);

/* ---------------------------------------------------------------- memory */

/* Host-supplied allocation; both NULL means the C library. Alignment is a power of two, at most 4096. */
typedef struct ed_allocator {
    void *(*allocate)(size_t size, size_t alignment, void *user);
    void (*release)(void *pointer, size_t size, void *user);
    void *user;
} ed_allocator;

struct ed_memory {
    ed_allocator allocator;
    atomic_size_t in_use, peak, calls; /* bytes, bytes, allocations ever made */
};

#define ED_ALIGNMENT 64

void ed_memory_init(ed_memory *memory, const ed_allocator *allocator);
/* `count` items of `size` bytes, zeroed, 64-byte aligned. NULL after recording the failure. count * size may be 0. */
void *ed_alloc(ed_env *env, size_t count, size_t size);
/* The same without zeroing and, from 2 MiB on, aligned to and advised for huge pages. */
void *ed_alloc_raw(ed_env *env, size_t bytes);
void *ed_realloc(ed_env *env, void *pointer, size_t count,
                 size_t size);            /* new bytes are zero; old block kept on failure */
void ed_free(ed_env *env, void *pointer); /* NULL is fine */
char *ed_strdup(ed_env *env, const char *text);
char *ed_format(ed_env *env, const char *format, ...) ENCDIFF_FORMAT(2, 3); /* owned by the caller */

/* false on overflow. */
bool ed_mul(size_t a, size_t b, size_t *product);
bool ed_add(size_t a, size_t b, size_t *sum);

/* Make room for `need` items of `size` bytes in *items (grows geometrically). */
encdiff_status ed_reserve(ed_env *env, void *items, size_t *capacity, size_t need, size_t size);

/* ---------------------------------------------------------------- threads */

typedef struct ed_pool ed_pool;
typedef void (*ed_pool_function)(void *argument, int rank);

/* A pool of `threads` ranks; rank 0 is the calling thread, so one thread means no thread is made. */
encdiff_status ed_pool_create(ed_env *env, int threads, ed_pool **out);
void ed_pool_free(ed_env *env, ed_pool *pool);
int ed_pool_size(const ed_pool *pool);
/* Call function(argument, rank) once for every rank below `ranks` (at most the pool's size), and wait for all. */
void ed_pool_run(ed_pool *pool, int ranks, ed_pool_function function, void *argument);

/*
 * A communicator sums over the ranks that run one step together (threads now; MPI ranks and devices fit the same
 * table). Sums are taken in the order of the ranks, so that the result is the same on every rank and every run.
 */
typedef struct ed_comm {
    int ranks;
    void (*barrier)(struct ed_comm *comm);
    void (*sum_f64)(struct ed_comm *comm, int rank, double *data, size_t count); /* in place, on every rank */
} ed_comm;

/* The communicator of a pool's ranks; `ranks` at most the pool's size. One rank needs none. */
encdiff_status ed_thread_comm_create(ed_env *env, int ranks, ed_comm **out);
void ed_thread_comm_free(ed_env *env, ed_comm *comm);

/* The part [first, last) of `count` items that rank `rank` of `ranks` has: sizes differ by at most one. */
void ed_shard(int64_t count, int ranks, int rank, int64_t *first, int64_t *last);

/* ---------------------------------------------------------------- floating point */

/*
 * The arithmetic of the calling thread, whatever its caller has set: rounded to nearest and without traps, with
 * denormal numbers as they are or, while graphs run, flushed to zero. On x86; elsewhere the caller's stays.
 * ed_float_leave gives that back, with the flags of what has happened as they were. Threads begin with the arithmetic
 * of who makes them.
 */
typedef enum ed_denormals { ED_KEEP_DENORMALS, ED_FLUSH_DENORMALS } ed_denormals;
unsigned ed_float_enter(ed_denormals denormals);
void ed_float_leave(unsigned before);

/* ---------------------------------------------------------------- random numbers */

/* What a random number is for. Part of the key, so that streams never overlap. Values are stable: they shape results.
 */
typedef enum ed_purpose {
    ED_RANDOM_INIT = 1,
    ED_RANDOM_NOISE = 2,
    ED_RANDOM_TIMESTEP = 3,
    ED_RANDOM_SHUFFLE = 4,
    ED_RANDOM_DROPOUT = 5,
    ED_RANDOM_SAMPLER = 6,
    ED_RANDOM_POSTERIOR = 7,
    ED_RANDOM_METRIC = 8,
    ED_RANDOM_DATA = 9,
} ed_purpose;

/* Philox4x32-10 (Salmon et al. 2011): four words for (seed, purpose, step, index). */
void ed_philox(uint64_t seed, ed_purpose purpose, uint64_t step, uint64_t index, uint32_t out[4]);
/* Item `index` of the stream: uniform in [0, 1) with 24 bits; standard normal by Box-Muller; integer below `bound`. */
float ed_uniform(uint64_t seed, ed_purpose purpose, uint64_t step, uint64_t index);
float ed_normal(uint64_t seed, ed_purpose purpose, uint64_t step, uint64_t index);
uint32_t ed_below(uint64_t seed, ed_purpose purpose, uint64_t step, uint64_t index, uint32_t bound);
/* Items first .. first+count-1 of the streams above, faster. */
void ed_fill_uniform(uint64_t seed, ed_purpose purpose, uint64_t step, uint64_t first, size_t count, float *out);
void ed_fill_normal(uint64_t seed, ed_purpose purpose, uint64_t step, uint64_t first, size_t count, float *out);
/* Item `index` of a random permutation of [0, count), without storing it (a Feistel network, cycle-walking). */
uint64_t ed_permute(uint64_t seed, ed_purpose purpose, uint64_t step, uint64_t index, uint64_t count);

/* ---------------------------------------------------------------- text and files */

typedef struct ed_text {
    char *data; /* always terminated once something was added */
    size_t length, capacity;
} ed_text;

encdiff_status ed_text_add(ed_env *env, ed_text *text, const char *format, ...) ENCDIFF_FORMAT(3, 4);
encdiff_status ed_text_add_bytes(ed_env *env, ed_text *text, const void *bytes, size_t count);
void ed_text_free(ed_env *env, ed_text *text);

bool ed_ends_with(const char *text, const char *end); /* ignores case in ASCII */
/* The whole of a small file, one zero byte after it; refuses more than `limit` bytes. Owned by the caller. */
encdiff_status ed_read_file(ed_env *env, const char *path, size_t limit, char **data, size_t *size);
/* Write to `path`.tmp-<pid>, flush to disk, rename: the file is whole or as before. */
encdiff_status ed_write_file(ed_env *env, const char *path, const void *data, size_t size);
encdiff_status ed_make_directories(ed_env *env, const char *path);
double ed_now(void); /* seconds of a monotonic clock */

#endif
