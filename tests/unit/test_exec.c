/* Executions that share a workspace: each computes what it does alone, and the memory is that of the largest. */
#define _GNU_SOURCE
#include <stdlib.h>

#include "cpu/cpu.h"
#include "graph/build.h"
#include "graph/workspace.h"
#include "test.h"

static ed_memory memory;
static ed_env env;

/* y = 1.5x + x: there is something between input and output. */
typedef struct doubling {
    ed_graph graph;
    ed_value in, out;
    int count;
    ed_exec *exec;
} doubling;

static void build(doubling *d, int count)
{
    *d = (doubling){.count = count};
    ed_graph_init(&d->graph, &env);
    d->in = ed_graph_input(&d->graph, "x", ED_SHAPE2(1, count), ED_F32, false);
    d->out = ed_add_values(&d->graph, ed_scale(&d->graph, ed_scale(&d->graph, d->in, 3), .5f), d->in);
    ed_graph_output(&d->graph, d->out);
}

static encdiff_status create(doubling *d, int count, ed_workspace *workspace)
{
    build(d, count);
    return ed_exec_create_in(&env, workspace, &d->graph, 1, &d->exec);
}

static void destroy(doubling *d)
{
    ed_exec_free(d->exec);
    ed_graph_free(&d->graph);
}

/* 2.5 times what goes in. */
static void check_run(doubling *d, float first)
{
    float x[600], y[600];
    for (int i = 0; i < d->count; i++) x[i] = first + (float)i;
    CHECK_EQUAL(ed_exec_write(&env, d->exec, d->in, x, (size_t)d->count * sizeof *x), ENCDIFF_OK);
    CHECK_EQUAL(ed_exec_run(&env, d->exec, NULL, 0, -1), ENCDIFF_OK);
    CHECK_EQUAL(ed_exec_read(&env, d->exec, d->out, y, (size_t)d->count * sizeof *y), ENCDIFF_OK);
    int wrong = 0;
    for (int i = 0; i < d->count; i++) wrong += y[i] != 2.5f * x[i];
    CHECK_EQUAL(wrong, 0);
}

static void executions_take_turns_in_a_workspace(void)
{
    ed_workspace w = {.backend = ed_backend_cpu()};
    doubling small, large, middle;
    CHECK_EQUAL(create(&small, 10, &w), ENCDIFF_OK);
    check_run(&small, 1);
    size_t first = w.bytes;
    CHECK_EQUAL(create(&large, 600, &w), ENCDIFF_OK);
    CHECK(w.bytes > first);
    check_run(&small, 2); /* after the memory has moved */
    check_run(&large, 3);
    check_run(&small, 4);
    CHECK_EQUAL(w.bytes, ed_exec_plan(large.exec)->arena);
    CHECK_EQUAL(create(&middle, 300, &w), ENCDIFF_OK);
    CHECK_EQUAL(w.bytes, ed_exec_plan(large.exec)->arena);
    size_t before = atomic_load(&memory.calls);
    check_run(&middle, 5);
    check_run(&large, 6);
    CHECK_EQUAL(atomic_load(&memory.calls), before); /* runs take nothing */
    destroy(&large);
    CHECK_EQUAL(w.bytes, ed_exec_plan(middle.exec)->arena);
    check_run(&middle, 7);
    check_run(&small, 8);
    destroy(&small);
    CHECK_EQUAL(w.bytes, ed_exec_plan(middle.exec)->arena);
    check_run(&middle, 9);
    destroy(&middle);
    CHECK(w.bytes == 0 && !w.memory && !w.users);
}

/* An allocator that can be made to fail. */
static void *scarce_allocate(size_t size, size_t alignment, void *user)
{
    void *block = NULL;
    return !*(bool *)user && posix_memalign(&block, alignment, size) == 0 ? block : NULL;
}

static void scarce_release(void *pointer, size_t size, void *user)
{
    (void)size, (void)user;
    free(pointer);
}

/* A larger one that finds no memory leaves the others as they are; so does a largest one that goes when there is none.
 */
static void a_workspace_survives_failures(void)
{
    bool scarce = false;
    ed_memory own;
    ed_memory_init(&own, &(ed_allocator){scarce_allocate, scarce_release, &scarce});
    ed_env limited = {.memory = &own};
    ed_backend *b = ed_backend_cpu();
    ed_workspace w = {.backend = b};
    ed_workspace_user small = {.bytes = 1000}, large = {.bytes = 5000}, larger = {.bytes = 9000};
    CHECK_EQUAL(ed_workspace_join(&limited, &w, &small), ENCDIFF_OK);
    CHECK_EQUAL(ed_workspace_join(&limited, &w, &large), ENCDIFF_OK);
    void *memory_then = w.memory;
    scarce = true;
    CHECK_EQUAL(ed_workspace_join(&limited, &w, &larger), ENCDIFF_ERROR_OUT_OF_MEMORY);
    ed_workspace_leave(&limited, &w, &larger); /* never joined */
    CHECK(w.memory == memory_then && w.bytes == 5000);
    ed_workspace_leave(&limited, &w, &large);
    CHECK(w.memory == memory_then && w.bytes == 5000);
    CHECK_EQUAL(ed_workspace_join(&limited, &w, &large), ENCDIFF_OK); /* still fits */
    scarce = false;
    ed_workspace_leave(&limited, &w, &large);
    CHECK_EQUAL(w.bytes, 1000);
    ed_workspace_leave(&limited, &w, &small);
    CHECK_EQUAL(atomic_load(&own.in_use), 0);
}

static void nothing_is_left_allocated(void) { CHECK_EQUAL(atomic_load(&memory.in_use), 0); }

int main(int argc, char **argv)
{
    ed_memory_init(&memory, NULL);
    env = (ed_env){.memory = &memory};
    static const test_case cases[] = {TEST(executions_take_turns_in_a_workspace), TEST(a_workspace_survives_failures),
                                      TEST(nothing_is_left_allocated)};
    return test_main(argc, argv, cases, ED_COUNT(cases));
}
