/*
 * A fork-join pool. A step forks once and joins once, so the pool favours low latency: a waiting thread spins
 * briefly before it sleeps, which costs nothing when the other ranks are about to arrive and gives the core away
 * when they are not.
 */
#include <pthread.h>

#include "base/base.h"

#define SPINS 4000

static inline void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

/* ---------------------------------------------------------------- a barrier that first spins, then sleeps */

typedef struct barrier {
    int ranks;
    atomic_int arrived;
    atomic_uint generation;
    pthread_mutex_t lock;
    pthread_cond_t changed;
} barrier;

static bool barrier_init(barrier *b, int ranks)
{
    *b = (barrier){.ranks = ranks};
    if (pthread_mutex_init(&b->lock, NULL) != 0) return false;
    if (pthread_cond_init(&b->changed, NULL) != 0) {
        pthread_mutex_destroy(&b->lock);
        return false;
    }
    return true;
}

static void barrier_destroy(barrier *b)
{
    pthread_cond_destroy(&b->changed);
    pthread_mutex_destroy(&b->lock);
}

static void barrier_wait(barrier *b)
{
    unsigned generation = atomic_load(&b->generation);
    if (atomic_fetch_add(&b->arrived, 1) + 1 == b->ranks) {
        atomic_store(&b->arrived, 0);
        pthread_mutex_lock(&b->lock);
        atomic_fetch_add(&b->generation, 1);
        pthread_cond_broadcast(&b->changed);
        pthread_mutex_unlock(&b->lock);
        return;
    }
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load(&b->generation) != generation) return;
        relax();
    }
    pthread_mutex_lock(&b->lock);
    while (atomic_load(&b->generation) == generation) pthread_cond_wait(&b->changed, &b->lock);
    pthread_mutex_unlock(&b->lock);
}

/* ---------------------------------------------------------------- the pool */

typedef struct worker {
    ed_pool *pool;
    int rank;
    pthread_t thread;
} worker;

struct ed_pool {
    int size, started;
    int ranks; /* of the current run */
    ed_pool_function function;
    void *argument;
    bool stop;
    unsigned run; /* number of the current run, under lock */
    int left;     /* workers that have not finished it */
    pthread_mutex_t lock;
    pthread_cond_t begin, end;
    worker *workers;
};

static void *worker_main(void *argument)
{
    worker *me = argument;
    ed_pool *pool = me->pool;
    unsigned seen = 0;
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        while (pool->run == seen && !pool->stop) pthread_cond_wait(&pool->begin, &pool->lock);
        if (pool->stop) break;
        seen = pool->run;
        if (me->rank < pool->ranks) {
            pthread_mutex_unlock(&pool->lock);
            pool->function(pool->argument, me->rank);
            pthread_mutex_lock(&pool->lock);
        }
        if (--pool->left == 0) pthread_cond_signal(&pool->end);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

encdiff_status ed_pool_create(ed_env *env, int threads, ed_pool **out)
{
    *out = NULL;
    ed_pool *pool = ed_alloc(env, 1, sizeof *pool);
    if (!pool) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    pool->size = threads;
    pool->workers = ed_alloc(env, (size_t)threads, sizeof *pool->workers);
    if (!pool->workers) {
        ed_free(env, pool);
        return ENCDIFF_ERROR_OUT_OF_MEMORY;
    }
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->begin, NULL);
    pthread_cond_init(&pool->end, NULL);
    for (int i = 1; i < threads; i++) {
        pool->workers[i] = (worker){.pool = pool, .rank = i};
        int error = pthread_create(&pool->workers[i].thread, NULL, worker_main, &pool->workers[i]);
        if (error) {
            ed_pool_free(env, pool);
            return ed_fail(env, ENCDIFF_ERROR_OUT_OF_MEMORY, "thread %d of %d cannot be started: %s", i + 1, threads,
                           strerror(error));
        }
        pool->started++;
    }
    *out = pool;
    return ENCDIFF_OK;
}

void ed_pool_free(ed_env *env, ed_pool *pool)
{
    if (!pool) return;
    pthread_mutex_lock(&pool->lock);
    pool->stop = true;
    pthread_cond_broadcast(&pool->begin);
    pthread_mutex_unlock(&pool->lock);
    for (int i = 1; i <= pool->started; i++) pthread_join(pool->workers[i].thread, NULL);
    pthread_cond_destroy(&pool->end);
    pthread_cond_destroy(&pool->begin);
    pthread_mutex_destroy(&pool->lock);
    ed_free(env, pool->workers);
    ed_free(env, pool);
}

int ed_pool_size(const ed_pool *pool) { return pool->size; }

void ed_pool_run(ed_pool *pool, int ranks, ed_pool_function function, void *argument)
{
    ranks = ED_MIN(ranks, pool->size);
    if (ranks > 1) {
        pthread_mutex_lock(&pool->lock);
        pool->function = function;
        pool->argument = argument;
        pool->ranks = ranks;
        pool->left = pool->size - 1;
        pool->run++;
        pthread_cond_broadcast(&pool->begin);
        pthread_mutex_unlock(&pool->lock);
    }
    function(argument, 0);
    if (ranks > 1) {
        pthread_mutex_lock(&pool->lock);
        while (pool->left) pthread_cond_wait(&pool->end, &pool->lock);
        pthread_mutex_unlock(&pool->lock);
    }
}

/* ---------------------------------------------------------------- sums over the ranks */

typedef struct thread_comm {
    ed_comm base;
    barrier gate;
    double *parts[]; /* one per rank, published before the first barrier */
} thread_comm;

static void thread_barrier(ed_comm *base) { barrier_wait(&((thread_comm *)base)->gate); }

/* Every rank adds all parts in the order of the ranks, piece by piece, so that all get the same bits. */
static void thread_sum(ed_comm *base, int rank, double *data, size_t count)
{
    thread_comm *comm = (thread_comm *)base;
    double piece[256];
    comm->parts[rank] = data;
    for (size_t at = 0; at < count; at += ED_COUNT(piece)) {
        size_t n = ED_MIN(ED_COUNT(piece), count - at);
        barrier_wait(&comm->gate);
        for (size_t i = 0; i < n; i++) {
            double sum = 0;
            for (int r = 0; r < base->ranks; r++) sum += comm->parts[r][at + i];
            piece[i] = sum;
        }
        barrier_wait(&comm->gate); /* nobody overwrites what another still reads */
        memcpy(data + at, piece, n * sizeof *piece);
    }
}

encdiff_status ed_thread_comm_create(ed_env *env, int ranks, ed_comm **out)
{
    *out = NULL;
    thread_comm *comm = ed_alloc(env, 1, sizeof *comm + (size_t)ranks * sizeof comm->parts[0]);
    if (!comm) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    comm->base = (ed_comm){.ranks = ranks, .barrier = thread_barrier, .sum_f64 = thread_sum};
    if (!barrier_init(&comm->gate, ranks)) {
        ed_free(env, comm);
        return ed_fail(env, ENCDIFF_ERROR_OUT_OF_MEMORY, "a barrier of %d threads cannot be made", ranks);
    }
    *out = &comm->base;
    return ENCDIFF_OK;
}

void ed_thread_comm_free(ed_env *env, ed_comm *comm)
{
    if (!comm) return;
    barrier_destroy(&((thread_comm *)comm)->gate);
    ed_free(env, comm);
}

void ed_shard(int64_t count, int ranks, int rank, int64_t *first, int64_t *last)
{
    int64_t each = count / ranks, more = count % ranks;
    *first = rank * each + ED_MIN(rank, more);
    *last = *first + each + (rank < more);
}
