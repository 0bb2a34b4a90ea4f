/*
 * What must not change from one run to another on a GPU, through the shared library: recorded runs have the bits of
 * plain ones, a second context has the bits of the first, and memory of the device and of the host comes back. On the
 * emulation and, unchanged, on a GPU; without a device the exit status is 77.
 */
#include "session.h"

enum { STEPS = 3 }; /* plain, recorded, replayed */

/* ---------------------------------------------------------------- recorded runs */

static void recorded_runs_are_the_plain_ones(void)
{
    static session recorded, plain;
    static results ours, theirs;
    memset(&plain, 0, sizeof plain);
    encdiff_context_options options = options_for(&plain, "cuda");
    options.cuda_graphs = ENCDIFF_OFF;
    if (!open_on(&recorded, "cuda", TINY) || !open_with(&plain, &options, TINY)) return;
    for (int i = 0; i < 3; i++) { /* plain, recorded, replayed */
        compute(&recorded, &ours);
        compute(&plain, &theirs);
        CHECK(memcmp(&ours, &theirs, sizeof ours) == 0);
    }
    if (start_training(&recorded, ENCDIFF_STAGE_ENCDIFF) && start_training(&plain, ENCDIFF_STAGE_ENCDIFF)) {
        OK(recorded.context, encdiff_trainer_run(recorded.trainer, 4, NULL, NULL));
        OK(plain.context, encdiff_trainer_run(plain.trainer, 4, NULL, NULL));
        CHECK(same_models(&recorded, &plain));
    }
    encdiff_trainer_free(plain.trainer);
    encdiff_dataset_free(plain.data);
    encdiff_model_free(plain.model);
    close_context(plain.context, &plain.memory);
    close_session(&recorded);
}

/* ---------------------------------------------------------------- determinism */

/* A model computes and trains; in all contexts alike. */
static void work(session *s, const char *config, encdiff_precision precision, results *r)
{
    memset(s, 0, sizeof *s);
    encdiff_context_options options = options_for(s, "cuda");
    options.precision = (int32_t)precision;
    if (!open_with(s, &options, config)) return;
    for (int i = 0; i < 2; i++) compute(s, r); /* the sampler's steps are replayed in the first */
    if (start_training(s, ENCDIFF_STAGE_ENCDIFF)) OK(s->context, encdiff_trainer_run(s->trainer, STEPS, NULL, NULL));
}

static void check_twice(const char *config, encdiff_precision precision)
{
    static session first, second;
    static results ours, theirs;
    work(&first, config, precision, &theirs);
    work(&second, config, precision, &ours);
    CHECK(memcmp(&ours, &theirs, sizeof ours) == 0);
    CHECK(first.model && second.model && same_models(&first, &second));
    close_session(&second);
    close_session(&first);
}

static void two_contexts_have_the_same_bits(void)
{
    check_twice(TINY, ENCDIFF_PRECISION_F32);
    check_twice(TINY, ENCDIFF_PRECISION_BF16);
    check_twice(TINY, ENCDIFF_PRECISION_TF32);
}

/* ---------------------------------------------------------------- memory */

/* Bytes that are free on the first device, asked by a context that has none of them; its own are in the figure. */
static uint64_t free_bytes(void)
{
    static session s;
    encdiff_device_info info = {.struct_size = sizeof info};
    memset(&s, 0, sizeof s);
    encdiff_context_options options = options_for(&s, "cuda:0");
    if (!CHECK_EQUAL(encdiff_context_create(&options, &s.context), ENCDIFF_OK)) return 0;
    OK(s.context, encdiff_context_get_device(s.context, -1, &info));
    close_session(&s);
    return info.memory_free;
}

/* The driver and the vendor's libraries keep memory once they have been used, so the first session does not count. A
 * session here has some megabytes on the device; other programs may use it meanwhile, which a second try allows for. */
static void memory_of_the_device_comes_back(void)
{
    static const uint64_t slack = 4 << 20;
    static session s;
    static results r;
    uint64_t before, after = 0;
    bool kept = false;
    work(&s, TINY, ENCDIFF_PRECISION_F32, &r);
    close_session(&s);
    for (int attempt = 0; attempt < 2 && !kept; attempt++) {
        before = free_bytes();
        for (int i = 0; i < 3; i++) {
            work(&s, TINY, ENCDIFF_PRECISION_F32, &r);
            close_session(&s);
        }
        after = free_bytes();
        kept = after + (emulation.control ? 0 : slack) >= before;
    }
    CHECK_THAT(kept, "%llu bytes of the device are free, before three sessions %llu", (unsigned long long)after,
               (unsigned long long)before);
    if (emulation.allocations) CHECK_EQUAL(emulation.allocations(), 0);
}

/* Steps and samples take no memory that they do not give back before the next. */
static void a_step_takes_no_memory(void)
{
    static session s;
    static results r;
    encdiff_memory_info before = {.struct_size = sizeof before}, after = {.struct_size = sizeof after};
    work(&s, TINY, ENCDIFF_PRECISION_F32, &r);
    if (!s.trainer) return;
    compute(&s, &r);
    OK(s.context, encdiff_trainer_step(s.trainer, NULL));
    OK(s.context, encdiff_context_get_memory(s.context, &before));
    for (int i = 0; i < 3; i++) {
        compute(&s, &r);
        OK(s.context, encdiff_trainer_step(s.trainer, NULL));
    }
    OK(s.context, encdiff_context_get_memory(s.context, &after));
    CHECK(before.device_in_use > 0);
    CHECK_EQUAL(after.device_in_use, before.device_in_use);
    CHECK_EQUAL(after.host_in_use, before.host_in_use);
    close_session(&s);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        TEST(recorded_runs_are_the_plain_ones),
        TEST(two_contexts_have_the_same_bits),
        TEST(memory_of_the_device_comes_back),
        TEST(a_step_takes_no_memory),
    };
    if (!there_is_a_device()) return 77;
    return test_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
