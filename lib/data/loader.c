/* A ring of batches: readers claim the next batch number, fill its slot, and the caller takes them in order. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <time.h>

#include "data/loader.h"

typedef struct slot {
    uint64_t number; /* of the batch that it holds when ready */
    bool ready;
    encdiff_status status;
    char message[sizeof((ed_env *)0)->message];
    uint8_t *images;
    float *floats;
    int64_t *indices;
    int32_t *labels;
} slot;

struct ed_loader {
    ed_dataset *dataset;
    ed_dataset_info info;
    ed_loader_options options;
    pthread_mutex_t lock;
    pthread_cond_t filled, emptied;
    bool has_lock, has_filled, has_emptied;
    slot *slots;
    uint64_t claimed; /* batch numbers given to readers; guarded by the lock, as all below */
    uint64_t taken;   /* batch numbers returned to the caller, of which the last is still in use */
    atomic_bool stop; /* also the readers' cancel flag */
    double waited;
    ed_env env; /* of the readers: a child of the creator's */
    pthread_t *threads;
    int started;
};

int64_t ed_loader_index(uint64_t seed, uint64_t sample, int64_t size)
{
    uint64_t n = (uint64_t)size;
    return (int64_t)ed_permute(seed, ED_RANDOM_SHUFFLE, sample / n, sample % n, n);
}

/* ---------------------------------------------------------------- readers */

static encdiff_status fill(ed_env *env, ed_loader *loader, uint64_t number, slot *s)
{
    const ed_loader_options *o = &loader->options;
    uint64_t first = o->cursor + number * (uint64_t)o->batch;
    for (int i = 0; i < o->batch; i++) {
        uint64_t sample = first + (uint64_t)i;
        s->indices[i] = o->in_order ? (int64_t)(sample % (uint64_t)loader->info.size)
                                    : ed_loader_index(o->seed, sample, loader->info.size);
    }
    if (o->floats)
        ED_TRY(ed_dataset_read_f32(env, loader->dataset, o->batch, s->indices, s->floats));
    else
        ED_TRY(ed_dataset_read(env, loader->dataset, o->batch, s->indices, s->images));
    return o->labels ? ed_dataset_labels(env, loader->dataset, o->batch, s->indices, s->labels) : ENCDIFF_OK;
}

/* The number of a batch to fill, when there is room for it; false when it is time to stop. */
static bool claim(ed_loader *loader, uint64_t *number)
{
    pthread_mutex_lock(&loader->lock);
    /* The slot of the batch that the caller holds (taken - 1) is not free. */
    while (!loader->stop &&
           loader->claimed + 1 >= loader->taken + (uint64_t)loader->options.depth + (loader->taken == 0))
        pthread_cond_wait(&loader->emptied, &loader->lock);
    bool go = !loader->stop;
    if (go) *number = loader->claimed++;
    pthread_mutex_unlock(&loader->lock);
    return go;
}

static void *reader(void *argument)
{
    ed_loader *loader = argument;
    ed_env env;
    uint64_t number;
    ed_env_child(&env, &loader->env);
    while (claim(loader, &number)) {
        slot *s = &loader->slots[number % (uint64_t)loader->options.depth];
        s->status = fill(&env, loader, number, s);
        if (s->status != ENCDIFF_OK) memcpy(s->message, env.message, sizeof s->message);
        pthread_mutex_lock(&loader->lock);
        s->number = number;
        s->ready = true;
        pthread_cond_broadcast(&loader->filled);
        pthread_mutex_unlock(&loader->lock);
    }
    return NULL;
}

/* ---------------------------------------------------------------- the caller */

/* Wakes every tenth of a second to look at the cancel flag. With the lock held. */
static encdiff_status await(ed_env *env, ed_loader *loader, const slot *s)
{
    while (!s->ready || s->number != loader->taken) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 100000000;
        if (until.tv_nsec >= 1000000000) until.tv_nsec -= 1000000000, until.tv_sec++;
        if (pthread_cond_timedwait(&loader->filled, &loader->lock, &until) == ETIMEDOUT) ED_TRY(ed_check_cancel(env));
    }
    return ENCDIFF_OK;
}

static encdiff_status take(ed_env *env, ed_loader *loader, slot **out)
{
    slot *s = &loader->slots[loader->taken % (uint64_t)loader->options.depth];
    double begin = ed_now();
    bool waits = !s->ready || s->number != loader->taken;
    if (waits) ED_TRY(await(env, loader, s));
    if (s->status != ENCDIFF_OK) return ed_fail(env, s->status, "%s", s->message); /* and again next time */
    loader->waited += waits ? ed_now() - begin : 0;
    s->ready = false;
    loader->taken++;
    pthread_cond_broadcast(&loader->emptied);
    *out = s;
    return ENCDIFF_OK;
}

encdiff_status ed_loader_next(ed_env *env, ed_loader *loader, ed_batch *batch)
{
    slot *s = NULL;
    pthread_mutex_lock(&loader->lock);
    double before = loader->waited;
    encdiff_status status = take(env, loader, &s);
    if (status == ENCDIFF_OK)
        *batch = (ed_batch){.images = s->images,
                            .floats = s->floats,
                            .indices = s->indices,
                            .labels = s->labels,
                            .cursor = ed_loader_cursor(loader),
                            .waited = loader->waited - before};
    pthread_mutex_unlock(&loader->lock);
    return status;
}

uint64_t ed_loader_cursor(const ed_loader *loader)
{
    return loader->options.cursor + loader->taken * (uint64_t)loader->options.batch;
}

double ed_loader_waited(const ed_loader *loader) { return loader->waited; }

/* ---------------------------------------------------------------- life */

static encdiff_status make_slot(ed_env *env, const ed_loader *loader, slot *s)
{
    const ed_loader_options *o = &loader->options;
    size_t n = (size_t)o->batch, count = (size_t)loader->info.height * (size_t)loader->info.width * 3, all;
    if (!ed_mul(count, n, &all) || !ed_mul(all, sizeof(float), &all))
        return ed_fail(env, ENCDIFF_ERROR_ARGUMENT, "a batch of %d images overflows", o->batch);
    if (!(s->indices = ed_alloc(env, n, sizeof *s->indices))) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    if (o->floats && !(s->floats = ed_alloc_raw(env, all))) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    if (!o->floats && !(s->images = ed_alloc_raw(env, n * count))) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    if (o->labels && !(s->labels = ed_alloc(env, n, sizeof(int32_t) * (size_t)loader->info.factors)))
        return ENCDIFF_ERROR_OUT_OF_MEMORY;
    return ENCDIFF_OK;
}

static encdiff_status make_locks(ed_env *env, ed_loader *loader)
{
    loader->has_lock = pthread_mutex_init(&loader->lock, NULL) == 0;
    loader->has_filled = pthread_cond_init(&loader->filled, NULL) == 0;
    loader->has_emptied = pthread_cond_init(&loader->emptied, NULL) == 0;
    if (loader->has_lock && loader->has_filled && loader->has_emptied) return ENCDIFF_OK;
    return ed_fail(env, ENCDIFF_ERROR_OUT_OF_MEMORY, "the loader's locks could not be made");
}

static encdiff_status start(ed_env *env, ed_loader *loader)
{
    ED_TRY(make_locks(env, loader));
    loader->slots = ed_alloc(env, (size_t)loader->options.depth, sizeof(slot));
    if (!loader->slots) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    for (int i = 0; i < loader->options.depth; i++) ED_TRY(make_slot(env, loader, &loader->slots[i]));
    loader->threads = ed_alloc(env, (size_t)loader->options.threads, sizeof(pthread_t));
    if (!loader->threads) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    for (; loader->started < loader->options.threads; loader->started++) {
        int error = pthread_create(&loader->threads[loader->started], NULL, reader, loader);
        if (error) return ed_fail(env, ENCDIFF_ERROR_OUT_OF_MEMORY, "the loader's thread: %s", strerror(error));
    }
    return ENCDIFF_OK;
}

static encdiff_status check_options(ed_env *env, const ed_loader *loader)
{
    const ed_loader_options *o = &loader->options;
    if (o->batch < 1 || o->depth < 2 || o->threads < 1 || o->threads > 64)
        return ed_fail(env, ENCDIFF_ERROR_ARGUMENT, "a loader of %d images a batch, %d batches, %d threads", o->batch,
                       o->depth, o->threads);
    if (o->labels && !loader->info.factors)
        return ed_fail(env, ENCDIFF_ERROR_UNSUPPORTED, "%s has no labels", loader->info.name);
    return ENCDIFF_OK;
}

encdiff_status ed_loader_create(ed_env *env, ed_dataset *dataset, const ed_loader_options *options, ed_loader **out)
{
    *out = NULL;
    ed_loader *loader = ed_alloc(env, 1, sizeof *loader);
    if (!loader) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    loader->dataset = ed_dataset_retain(dataset);
    loader->options = *options;
    if (!loader->options.depth) loader->options.depth = 4;
    if (!loader->options.threads) loader->options.threads = 1;
    ed_dataset_get_info(dataset, &loader->info);
    ed_env_child(&loader->env, env);
    /* A cancel stops the call, not the readers: batches that it would spoil are needed when the caller goes on. */
    loader->env.cancel = &loader->stop;
    loader->env.log = NULL; /* the host expects its callback in the calling thread */
    encdiff_status status = check_options(env, loader);
    if (status == ENCDIFF_OK) status = start(env, loader);
    if (status == ENCDIFF_OK)
        *out = loader;
    else
        ed_loader_free(env, loader);
    return status;
}

void ed_loader_free(ed_env *env, ed_loader *loader)
{
    if (!loader) return;
    if (loader->started) {
        pthread_mutex_lock(&loader->lock);
        loader->stop = true;
        pthread_cond_broadcast(&loader->emptied);
        pthread_mutex_unlock(&loader->lock);
    }
    for (int i = 0; i < loader->started; i++) pthread_join(loader->threads[i], NULL);
    for (int i = 0; loader->slots && i < loader->options.depth; i++) {
        ed_free(env, loader->slots[i].images);
        ed_free(env, loader->slots[i].floats);
        ed_free(env, loader->slots[i].indices);
        ed_free(env, loader->slots[i].labels);
    }
    if (loader->has_lock) pthread_mutex_destroy(&loader->lock);
    if (loader->has_filled) pthread_cond_destroy(&loader->filled);
    if (loader->has_emptied) pthread_cond_destroy(&loader->emptied);
    ed_free(env, loader->slots);
    ed_free(env, loader->threads);
    ed_dataset_free(env, loader->dataset);
    ed_free(env, loader);
}
