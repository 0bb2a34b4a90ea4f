/* A host's floating-point modes: they are its own after a call, and change nothing of what is computed. */
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "training.h"

/* Rounding, traps, and what else the processor has of modes, without the flags of what has happened. */
typedef struct modes {
    int rounding, traps;
    unsigned control;
} modes;

static modes modes_now(void)
{
    modes m = {fegetround(), fegetexcept(), 0};
#if defined(__SSE2__)
    m.control = _mm_getcsr() & ~0x3fu;
#endif
    return m;
}

enum { PLAIN, UPWARD_WITH_TRAPS, WAYS };

static void set_modes(int way)
{
    fesetenv(FE_DFL_ENV);
    if (way == PLAIN) return;
    fesetround(FE_UPWARD);
    feenableexcept(FE_DIVBYZERO | FE_INVALID);
}

static void two_steps_and_an_encoding(int way, float *tokens, double *losses)
{
    bench b;
    given g;
    encdiff_train_report report = {.struct_size = sizeof report};
    set_modes(PLAIN);
    make_given(&g);
    begin(&b, TINY, 2, NULL);
    set_modes(way);
    modes before = modes_now();
    for (int i = 0; i < 2; i++) {
        OK(b.context, encdiff_trainer_step_given(b.trainer, &g.images, g.timesteps, g.noise, &report));
        losses[i] = report.loss;
    }
    OK(b.context, encdiff_model_encode(b.model, &g.images, tokens, NULL));
    modes after = modes_now();
    set_modes(PLAIN);
    CHECK_EQUAL(after.rounding, before.rounding);
    CHECK_EQUAL(after.traps, before.traps);
    CHECK_EQUAL(after.control, before.control);
    end(&b);
}

static void a_hosts_modes_are_its_own_and_change_nothing(void)
{
    float tokens[WAYS][BATCH * TOKENS];
    double losses[WAYS][2];
    for (int way = 0; way < WAYS; way++) two_steps_and_an_encoding(way, tokens[way], losses[way]);
    for (int i = 0; i < 2; i++)
        CHECK_THAT(losses[0][i] == losses[1][i], "step %d: %.17g and %.17g", i + 1, losses[0][i], losses[1][i]);
    CHECK(memcmp(tokens[0], tokens[1], sizeof tokens[0]) == 0);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {TEST(a_hosts_modes_are_its_own_and_change_nothing)};
    return test_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
