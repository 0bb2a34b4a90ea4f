/* What tests of files need: an env whose memory is counted and can run out, and a folder of their own. */
#ifndef WORKPLACE_H
#define WORKPLACE_H

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/base.h"
#include "test.h"

typedef struct workplace {
    ed_env env;
    ed_memory memory;
    atomic_long allowed; /* allocations until the first failure; negative: never */
    atomic_long held;    /* blocks not given back */
    char folder[64];
    char path[128]; /* of the last in_folder() */
} workplace;

static inline void *workplace_allocate(size_t size, size_t alignment, void *user)
{
    workplace *w = user;
    void *block = NULL;
    if (atomic_load(&w->allowed) == 0 || posix_memalign(&block, alignment, size) != 0) return NULL;
    if (atomic_load(&w->allowed) > 0) atomic_fetch_sub(&w->allowed, 1);
    atomic_fetch_add(&w->held, 1);
    return block;
}

static inline void workplace_release(void *pointer, size_t size, void *user)
{
    (void)size;
    atomic_fetch_sub(&((workplace *)user)->held, 1);
    free(pointer);
}

static inline ed_env *workplace_open(workplace *w)
{
    memset(w, 0, sizeof *w);
    atomic_init(&w->allowed, -1);
    ed_memory_init(&w->memory, &(ed_allocator){workplace_allocate, workplace_release, w});
    w->env.memory = &w->memory;
    strcpy(w->folder, "/tmp/encdiff-test-XXXXXX");
    CHECK(mkdtemp(w->folder) != NULL);
    return &w->env;
}

static inline int workplace_remove(const char *path, const struct stat *info, int kind, struct FTW *at)
{
    (void)info, (void)kind, (void)at;
    return remove(path);
}

/* Everything was given back, and nothing lies about. */
static inline void workplace_close(workplace *w)
{
    CHECK_EQUAL(atomic_load(&w->held), 0);
    CHECK_EQUAL(atomic_load(&w->memory.in_use), 0);
    nftw(w->folder, workplace_remove, 8, FTW_DEPTH | FTW_PHYS);
}

/* A path in the folder; valid until the next call. */
static inline const char *in_folder(workplace *w, const char *name)
{
    snprintf(w->path, sizeof w->path, "%s/%s", w->folder, name);
    return w->path;
}

static inline void put_file(const char *path, const void *data, size_t size)
{
    FILE *file = fopen(path, "wb");
    if (!CHECK(file != NULL)) return;
    CHECK_EQUAL(fwrite(data, 1, size, file), size);
    fclose(file);
}

/* Files in the workplace's folder whose names contain `part`. */
static inline int count_files(const char *folder, const char *part)
{
    char command[160], line[256];
    int count = 0;
    snprintf(command, sizeof command, "ls -A '%s'", folder);
    FILE *list = popen(command, "r");
    while (list && fgets(line, sizeof line, list)) count += strstr(line, part) != NULL;
    if (list) pclose(list);
    return count;
}

/* A function to try with less and less memory: it opens, reads and closes something. */
typedef encdiff_status attempt(ed_env *env, void *user);

/*
 * Let the first, second, ... allocation fail until the attempt succeeds: each failure is reported as such and leaves
 * nothing behind.
 */
static inline void try_without_memory(workplace *w, attempt *run, void *user)
{
    for (long allowed = 0; allowed < 10000; allowed++) {
        long held = atomic_load(&w->held);
        atomic_store(&w->allowed, allowed);
        encdiff_status status = run(&w->env, user);
        atomic_store(&w->allowed, -1);
        CHECK_EQUAL(atomic_load(&w->held), held);
        if (status == ENCDIFF_OK) return;
        if (!CHECK_EQUAL(status, ENCDIFF_ERROR_OUT_OF_MEMORY)) return;
    }
    CHECK(!"the attempt never succeeds");
}

#endif
