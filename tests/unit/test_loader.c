/* The loader: order, prefetching without allocation, errors in their turn, freeing at any time. */
#define _GNU_SOURCE
#include <pthread.h>

#include "data/loader.h"
#include "sets.h"

/* ---------------------------------------------------------------- loader */

static void batches_follow_the_order_and_resume(void)
{
    workplace w;
    ed_env *env = workplace_open(&w);
    ed_dataset *set = open_set(env, "procedural:shapes3d[0:100]", NULL);
    uint8_t pixels[PIXELS];
    uint64_t hashes[2][20];
    for (int round = 0; round < 4; round++) {
        /* one thread, three, resumed in the middle, as floats */
        ed_loader_options o = {
            .batch = 7, .threads = round == 1 ? 3 : 1, .seed = 5, .labels = true, .cursor = round == 2 ? 70 : 0};
        ed_loader *loader;
        o.floats = round == 3;
        if (!CHECK_EQUAL(ed_loader_create(env, set, &o, &loader), ENCDIFF_OK)) continue;
        for (int b = round == 2 ? 10 : 0; b < 20; b++) { /* past the end of the first epoch, within a batch */
            ed_batch batch;
            if (!CHECK_EQUAL(ed_loader_next(env, loader, &batch), ENCDIFF_OK)) break;
            CHECK_EQUAL(batch.cursor, 7 * (b + 1));
            CHECK_EQUAL(ed_loader_cursor(loader), batch.cursor);
            for (int i = 0; i < 7; i++) {
                int32_t labels[6];
                CHECK_EQUAL(batch.indices[i], ed_loader_index(5, (uint64_t)(7 * b + i), 100));
                CHECK_EQUAL(ed_dataset_labels(env, set, 1, &batch.indices[i], labels), ENCDIFF_OK);
                CHECK(memcmp(labels, batch.labels + 6 * i, sizeof labels) == 0);
            }
            CHECK_EQUAL(ed_dataset_read(env, set, 1, &batch.indices[6], pixels), ENCDIFF_OK);
            if (round == 3) {
                CHECK(batch.floats[6 * PIXELS + 100] == (float)pixels[100] / 127.5f - 1);
                continue;
            }
            CHECK(memcmp(pixels, batch.images + 6 * PIXELS, PIXELS) == 0);
            hashes[round > 0][b] = hash_bytes(1, batch.images, 7 * PIXELS);
            if (round) CHECK(hashes[0][b] == hashes[1][b]);
        }
        ed_loader_free(env, loader);
    }
    ed_dataset_free(env, set);
    workplace_close(&w);
}

static void every_epoch_has_every_image_once(void)
{
    int seen[100];
    int64_t same = 0;
    for (uint64_t epoch = 0; epoch < 3; epoch++) {
        memset(seen, 0, sizeof seen);
        for (uint64_t i = 0; i < 100; i++) {
            seen[ed_loader_index(9, epoch * 100 + i, 100)]++;
            same += ed_loader_index(9, epoch * 100 + i, 100) == ed_loader_index(9, i, 100);
        }
        for (int i = 0; i < 100; i++) CHECK_EQUAL(seen[i], 1);
    }
    CHECK(same < 100 + 2 * 20); /* the epochs' orders differ */
}

static void loading_allocates_nothing_and_reports_waiting(void)
{
    workplace w;
    ed_env *env = workplace_open(&w);
    ed_dataset *set = open_set(env, saved_source, NULL), *mixed;
    CHECK_EQUAL(ed_dataset_save(env, set, in_folder(&w, "a.h5"), 1, NULL, NULL), ENCDIFF_OK);
    ed_dataset_free(env, set);
    set = open_set(env, w.path, NULL);
    CHECK_EQUAL(ed_dataset_shuffle(env, set, 1, &mixed), ENCDIFF_OK);
    ed_loader *loader;
    CHECK_EQUAL(ed_loader_create(env, mixed, &(ed_loader_options){.batch = 16, .depth = 3}, &loader), ENCDIFF_OK);
    size_t calls = atomic_load(&w.memory.calls);
    double waited = 0;
    for (int b = 0; b < 30; b++) {
        ed_batch batch;
        CHECK_EQUAL(ed_loader_next(env, loader, &batch), ENCDIFF_OK);
        waited += batch.waited;
        if (b == 20) usleep(200000); /* the readers get ahead */
        if (b == 21 || b == 22) CHECK_NEAR(batch.waited, 0, 0, "it was ready");
    }
    CHECK_EQUAL(atomic_load(&w.memory.calls), calls);
    CHECK_NEAR(ed_loader_waited(loader), waited, 1e-9, "sums in another order");
    ed_loader_free(env, loader);
    ed_dataset_free(env, mixed);
    ed_dataset_free(env, set);
    workplace_close(&w);
}

/* Coefficients and buffers are made once for each thread that reads. */
static void resizing_while_loading_allocates_only_at_the_start(void)
{
    workplace w;
    ed_env *env = workplace_open(&w);
    ed_dataset *set = open_set(env, saved_source, &(ed_dataset_options){.height = 48, .crop = "centre"});
    ed_loader *loader;
    ed_batch batch;
    ed_loader_options o = {.batch = 16, .depth = 4, .threads = 2};
    CHECK_EQUAL(ed_loader_create(env, set, &o, &loader), ENCDIFF_OK);
    size_t calls = atomic_load(&w.memory.calls);
    for (int b = 0; b < 40; b++) CHECK_EQUAL(ed_loader_next(env, loader, &batch), ENCDIFF_OK);
    size_t made = atomic_load(&w.memory.calls) - calls;
    CHECK_THAT(made <= 2 * 11, "%zu allocations for two threads", made); /* a thread's: 2, and 9 of its resizer */
    ed_loader_free(env, loader);
    ed_dataset_free(env, set);
    workplace_close(&w);
}

static void errors_travel_to_the_caller_in_their_turn(void)
{
    enum { N = 40 };
    workplace w;
    ed_env *env = workplace_open(&w);
    float *pixels = calloc(N * 12, sizeof *pixels);
    pixels[25 * 12 + 3] = NAN;
    ed_dataset *set;
    ed_loader *loader;
    ed_batch batch;
    CHECK_EQUAL(ed_dataset_from_arrays(env, &(ed_dataset_arrays){.f32 = pixels, .n = N, .height = 2, .width = 2}, &set),
                ENCDIFF_OK);
    ed_loader_options o = {.batch = 10, .in_order = true};
    CHECK_EQUAL(ed_loader_create(env, set, &o, &loader), ENCDIFF_OK);
    CHECK_EQUAL(ed_loader_next(env, loader, &batch), ENCDIFF_OK);
    CHECK_EQUAL(ed_loader_next(env, loader, &batch), ENCDIFF_OK);
    for (int i = 0; i < 2; i++) {
        CHECK_EQUAL(ed_loader_next(env, loader, &batch), ENCDIFF_ERROR_NUMERIC);
        CHECK(strstr(env->message, "image 25") != NULL);
        CHECK_EQUAL(ed_loader_cursor(loader), 20);
    }
    ed_loader_free(env, loader);
    CHECK_EQUAL(ed_loader_create(env, set, &(ed_loader_options){.batch = 0}, &loader), ENCDIFF_ERROR_ARGUMENT);
    CHECK_EQUAL(ed_loader_create(env, set, &(ed_loader_options){.batch = 1, .labels = true}, &loader),
                ENCDIFF_ERROR_UNSUPPORTED);
    ed_dataset_free(env, set);
    free(pixels);
    workplace_close(&w);
}

static void a_loader_can_be_freed_at_any_time(void)
{
    workplace w;
    ed_env *env = workplace_open(&w);
    ed_dataset *set = open_set(env, "procedural:shapes3d", NULL);
    for (int i = 0; i < 20; i++) {
        ed_loader *loader;
        ed_batch batch;
        CHECK_EQUAL(
            ed_loader_create(env, set, &(ed_loader_options){.batch = 4, .depth = 2, .threads = 1 + i % 3}, &loader),
            ENCDIFF_OK);
        for (int k = 0; k < i % 4; k++) CHECK_EQUAL(ed_loader_next(env, loader, &batch), ENCDIFF_OK);
        ed_loader_free(env, loader);
    }
    ed_loader_free(env, NULL);
    ed_dataset_free(env, set);
    workplace_close(&w);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        TEST(batches_follow_the_order_and_resume),           TEST(every_epoch_has_every_image_once),
        TEST(loading_allocates_nothing_and_reports_waiting), TEST(resizing_while_loading_allocates_only_at_the_start),
        TEST(errors_travel_to_the_caller_in_their_turn),     TEST(a_loader_can_be_freed_at_any_time),
    };
    return test_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
