/*
 * Counted allocation. Each block has a 64-byte header with its size, so that use and peak are exact whatever
 * allocator the host gave; blocks are 64-byte aligned for the widest vectors.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/base.h"

#define HUGE_PAGE ((size_t)2 << 20)

typedef struct header {
    void *block; /* what the allocator gave */
    size_t size; /* what the caller asked for */
} header;

_Static_assert(sizeof(header) <= ED_ALIGNMENT, "the header fits in front of an aligned block");

static void *c_allocate(size_t size, size_t alignment, void *user)
{
    (void)user;
    void *block = NULL;
    return posix_memalign(&block, alignment, size) == 0 ? block : NULL;
}

static void c_release(void *pointer, size_t size, void *user)
{
    (void)size;
    (void)user;
    free(pointer);
}

void ed_memory_init(ed_memory *memory, const ed_allocator *allocator)
{
    *memory = (ed_memory){.allocator = {c_allocate, c_release, NULL}};
    if (allocator && allocator->allocate) memory->allocator = *allocator;
}

bool ed_mul(size_t a, size_t b, size_t *product) { return !__builtin_mul_overflow(a, b, product); }

bool ed_add(size_t a, size_t b, size_t *sum) { return !__builtin_add_overflow(a, b, sum); }

static void count(ed_memory *memory, size_t size)
{
    size_t now = atomic_fetch_add(&memory->in_use, size) + size;
    size_t peak = atomic_load(&memory->peak);
    while (now > peak && !atomic_compare_exchange_weak(&memory->peak, &peak, now)) {}
    atomic_fetch_add(&memory->calls, 1);
}

static void *allocate(ed_env *env, size_t size)
{
    ed_memory *memory = env->memory;
    bool huge = size >= HUGE_PAGE;
    size_t alignment = huge ? HUGE_PAGE : ED_ALIGNMENT, total;
    /* Host allocators promise at most 4096; huge-page alignment is asked of our own only. */
    if (huge && memory->allocator.allocate != c_allocate) alignment = 4096, huge = false;
    void *block = ed_add(size, ED_ALIGNMENT, &total)
                      ? memory->allocator.allocate(total, alignment, memory->allocator.user)
                      : NULL;
    if (!block) {
        ed_fail(env, ENCDIFF_ERROR_OUT_OF_MEMORY, "out of memory: %zu bytes asked for, %zu in use", size,
                atomic_load(&memory->in_use));
        return NULL;
    }
    if (huge) madvise(block, total, MADV_HUGEPAGE); /* only advice: failure changes nothing */
    header *head = block;
    head->block = block;
    head->size = size;
    count(memory, size);
    return (char *)block + ED_ALIGNMENT;
}

void *ed_alloc_raw(ed_env *env, size_t bytes) { return allocate(env, bytes); }

void *ed_alloc(ed_env *env, size_t count_, size_t size)
{
    size_t bytes;
    if (!ed_mul(count_, size, &bytes)) {
        ed_fail(env, ENCDIFF_ERROR_OUT_OF_MEMORY, "out of memory: %zu x %zu bytes overflow", count_, size);
        return NULL;
    }
    void *pointer = allocate(env, bytes);
    if (pointer) memset(pointer, 0, bytes);
    return pointer;
}

void ed_free(ed_env *env, void *pointer)
{
    if (!pointer) return;
    header *head = (header *)(void *)((char *)pointer - ED_ALIGNMENT);
    atomic_fetch_sub(&env->memory->in_use, head->size);
    env->memory->allocator.release(head->block, head->size + ED_ALIGNMENT, env->memory->allocator.user);
}

void *ed_realloc(ed_env *env, void *pointer, size_t count_, size_t size)
{
    void *fresh = ed_alloc(env, count_, size);
    if (!fresh || !pointer) return fresh;
    header *head = (header *)(void *)((char *)pointer - ED_ALIGNMENT);
    memcpy(fresh, pointer, ED_MIN(head->size, count_ * size));
    ed_free(env, pointer);
    return fresh;
}

char *ed_strdup(ed_env *env, const char *text)
{
    size_t n = strlen(text) + 1;
    char *copy = ed_alloc(env, n, 1);
    if (copy) memcpy(copy, text, n);
    return copy;
}

char *ed_format(ed_env *env, const char *format, ...)
{
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int n = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    char *text = n < 0 ? NULL : ed_alloc(env, (size_t)n + 1, 1);
    if (text) vsnprintf(text, (size_t)n + 1, format, again);
    va_end(again);
    return text;
}

encdiff_status ed_reserve(ed_env *env, void *items, size_t *capacity, size_t need, size_t size)
{
    if (need <= *capacity) return ENCDIFF_OK;
    size_t grown = ED_MAX(need, *capacity + *capacity / 2 + 8);
    void *old, *fresh;
    memcpy(&old, items, sizeof old);
    fresh = ed_realloc(env, old, grown, size);
    if (!fresh) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    memcpy(items, &fresh, sizeof fresh);
    *capacity = grown;
    return ENCDIFF_OK;
}
