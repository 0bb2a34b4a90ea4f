/*
 * Operators that several threads compute together, each a part of the outputs: what all parts make is what one thread
 * makes, for every case of cases.c whose kernel has parts, at every level of instructions that the machine has.
 */
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "cpu/cpu.h"
#include "model/infer.h"
#include "op_run.h"
#include "test.h"

/*
 * Relative L2 errors. Kernels cut their loops between the items that a loop makes, which may put an item at the end of
 * one, where a compiler rounds products and sums together differently: 2^-24 of each. A matrix product of another size
 * sums in another order, and so does a convolution that goes another way: as in test_ops.c.
 */
static const double loop_tolerance = 2e-7, product_tolerance = 3e-6;

static ed_memory memory;
static ed_env env;
static int cases_run[ED_OP_COUNT];

static double relative(const float *a, const float *b, size_t count, double scale)
{
    double off = 0, size = scale * scale * (double)count;
    for (size_t i = 0; i < count; i++) {
        off += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        size += (double)b[i] * b[i];
    }
    return off == 0 ? 0 : isfinite(off) ? sqrt(off / size) : INFINITY;
}

static double tolerance_of(ed_op op)
{
    bool product = op == ED_OP_CONV2D || op == ED_OP_LINEAR || op == ED_OP_BATCHED_LINEAR || op == ED_OP_ATTENTION;
    return product ? product_tolerance : loop_tolerance;
}

static void compare(const op_case *c, const op_result *parts, const op_result *whole, int together)
{
    double most = tolerance_of(c->op);
    for (int k = 0; k < ED_MAX_OUTPUTS; k++) {
        if (!CHECK_EQUAL(parts->out_count[k], whole->out_count[k]) || !whole->out[k]) continue;
        double error = relative(parts->out[k], whole->out[k], whole->out_count[k], c->scale);
        CHECK_THAT(error <= most, "%d parts: output %d has a relative error of %.3g", together, k, error);
    }
    for (int i = 0; i < ED_MAX_INPUTS; i++) {
        if (!whole->after[i]) continue;
        double error = relative(parts->after[i], whole->after[i], (size_t)ed_shape_count(&c->in[i].shape), 0);
        CHECK_THAT(error == 0, "%d parts: operand %d has a relative error of %.3g", together, i, error);
    }
}

/* `staged`: the operator's inputs are made by another, so that it works in place where it may. */
static void check_mode(const op_case *c, op_mode mode, float *const *data)
{
    op_result whole, parts;
    if (!CHECK_THAT(op_run(&env, c, &mode, data, &whole) == ENCDIFF_OK, "%s", env.message)) return;
    for (int together = 2; together <= 3; together++) {
        encdiff_status status = op_run_together(&env, c, &mode, together, data, &parts);
        if (!CHECK_THAT(status == ENCDIFF_OK, "%d parts: %s", together, env.message)) break;
        compare(c, &parts, &whole, together);
        op_result_free(&env, &parts);
    }
    op_result_free(&env, &whole);
    cases_run[c->op]++;
}

static void check_case(const op_case *c)
{
    float *data[ED_MAX_INPUTS];
    if (CHECK_EQUAL(op_data_create(&env, c, data), ENCDIFF_OK))
        for (int level = 0; level < ED_CPU_LEVELS; level++) {
            ed_backend *backend = ed_backend_cpu_at((ed_cpu_level)level);
            if (!backend || !backend->kernels[c->op]->parts) continue;
            check_mode(c, (op_mode){.backend = backend, .ranks = 1}, data);
            check_mode(c, (op_mode){.backend = backend, .ranks = 1, .staged = true}, data);
            if (backend->kernels[c->op]->packing)
                check_mode(c, (op_mode){.backend = backend, .ranks = 1, .packed = true}, data);
        }
    op_data_free(&env, data);
}

/* What takes the time of an encoder's, a U-Net's or a decoder's run is divided. */
static void the_operators_of_inference_have_parts(void)
{
    static const ed_op ops[] = {ED_OP_CONV2D,     ED_OP_LINEAR,     ED_OP_BATCHED_LINEAR, ED_OP_GROUP_NORM,
                                ED_OP_LAYER_NORM, ED_OP_BATCH_NORM, ED_OP_ATTENTION,      ED_OP_ACTIVATION,
                                ED_OP_GEGLU,      ED_OP_ADD,        ED_OP_CONCAT,         ED_OP_UPSAMPLE,
                                ED_OP_POOL};
    for (size_t i = 0; i < ED_COUNT(ops); i++)
        CHECK_THAT(cases_run[ops[i]] > 0, "operator %s was not run in parts", ed_op_describe(ops[i])->name);
}

/* ---------------------------------------------------------------- failures */

static encdiff_status fail_in_the_last_part(const ed_call *call)
{
    if (call->part < call->parts - 1) return ENCDIFF_OK;
    return ed_fail(call->env, ENCDIFF_ERROR_INTERNAL, "part %d", call->part);
}

/* The others do not wait forever, and the part's message says which node it was. */
static void a_part_that_fails_keeps_step(void)
{
    static const op_case c = {.op = ED_OP_SCALE, .in = {{.kind = DATA, .shape = {2, {3, 40}}}}, .attr.scale = {2}};
    static const ed_kernel failing = {.run = fail_in_the_last_part, .parts = true};
    ed_backend backend = *ed_backend_cpu();
    op_mode mode = {.backend = &backend, .ranks = 1, .staged = true};
    op_case named = c;
    float *data[ED_MAX_INPUTS];
    op_result result;
    named.name = "failing";
    backend.kernels[ED_OP_SCALE] = &failing;
    if (!CHECK_EQUAL(op_data_create(&env, &named, data), ENCDIFF_OK)) return;
    CHECK_EQUAL(op_run_together(&env, &named, &mode, 3, data, &result), ENCDIFF_ERROR_INTERNAL);
    CHECK_THAT(strstr(env.message, "operator scale: part 2") != NULL, "%s", env.message);
    op_data_free(&env, data);
}

/* ---------------------------------------------------------------- a whole network */

enum { IMAGES = 8 };

typedef struct unet {
    ed_networks networks;
    float *operands[3], *out; /* of IMAGES images: latents, timesteps, tokens */
    size_t item;              /* floats of an image's output */
} unet;

static float *numbers(size_t count, uint64_t stream, float scale)
{
    float *x = ed_alloc(&env, count, sizeof *x);
    if (!CHECK(x != NULL)) return NULL;
    ed_fill_uniform(3, ED_RANDOM_DATA, stream, 0, count, x);
    for (size_t i = 0; i < count; i++) x[i] = scale * (2 * x[i] - 1);
    return x;
}

static bool unet_create(unet *u)
{
    ed_config config;
    bool good = CHECK_EQUAL(ed_config_resolve(&env, "shapes3d-official", NULL, 0, &config), ENCDIFF_OK) &&
                CHECK_EQUAL(ed_networks_create(&env, &config, 0, &u->networks), ENCDIFF_OK);
    if (!good) return false;
    size_t size = (size_t)ed_config_latent_size(&config), channels = (size_t)ed_config_latent_channels(&config);
    size_t tokens = (size_t)(config.encoder.latent_unit * config.encoder.context_dim);
    u->item = size * size * channels;
    u->operands[0] = numbers(IMAGES * u->item, 1, 1);
    u->operands[1] = numbers(IMAGES, 2, 500);
    u->operands[2] = numbers(IMAGES * tokens, 3, 1);
    u->out = numbers(IMAGES * u->item, 4, 1);
    float *values = u->networks.sets[ED_SET_UNET].values; /* as they begin, but without the layers of zeros */
    for (size_t i = 0; i < u->networks.sets[ED_SET_UNET].total; i++)
        if (values[i] == 0) values[i] = 0.02f * (2 * ed_uniform(3, ED_RANDOM_INIT, 0, i) - 1);
    return u->operands[0] && u->operands[1] && u->operands[2] && u->out;
}

static void unet_free(unet *u)
{
    for (int i = 0; i < 3; i++) ed_free(&env, u->operands[i]);
    ed_free(&env, u->out);
    ed_networks_free(&u->networks);
}

/* The first `n` images on `threads` threads, twice: the same bits, and nothing allocated the second time. */
static bool predict(unet *u, int threads, int64_t n, float *out)
{
    ed_team *team;
    ed_infer *infer;
    float *again = numbers((size_t)n * u->item, 5, 1);
    if (!CHECK_EQUAL(ed_team_create(&env, ed_backend_cpu(), threads, &team), ENCDIFF_OK)) return false;
    bool good = CHECK_EQUAL(ed_infer_create(team, &u->networks, &infer), ENCDIFF_OK) && again &&
                CHECK_EQUAL(ed_infer_run(infer, ED_INFER_PREDICT, n, (const float *const *)u->operands, &out),
                            ENCDIFF_OK);
    size_t calls = atomic_load(&memory.calls);
    good = good &&
           CHECK_EQUAL(ed_infer_run(infer, ED_INFER_PREDICT, n, (const float *const *)u->operands, &again), ENCDIFF_OK);
    CHECK_EQUAL(atomic_load(&memory.calls), calls);
    CHECK(good && memcmp(out, again, (size_t)n * u->item * sizeof *out) == 0);
    ed_infer_free(infer);
    ed_team_free(team);
    ed_free(&env, again);
    return good;
}

static void few_images_on_many_threads_are_as_in_a_batch(void)
{
    unet u = {0};
    float *few = NULL;
    if (unet_create(&u) && (few = numbers(2 * u.item, 6, 1)) && predict(&u, 2, IMAGES, u.out))
        for (int threads = 2; threads <= 5; threads++)
            for (int64_t n = 1; n <= 2 && n < threads; n++) {
                if (!predict(&u, threads, n, few)) break;
                double error = relative(few, u.out, (size_t)n * u.item, 0);
                CHECK_THAT(error < 1e-5, "%d images on %d threads: %.3g", (int)n, threads, error);
            }
    ed_free(&env, few);
    unet_free(&u);
}

/* ---------------------------------------------------------------- arithmetic */

static encdiff_status multiply_small(ed_env *rank_env, void *argument, int rank)
{
    (void)rank_env;
    volatile float small = 1e-20f;
    ((float *)argument)[rank] = small * small;
    return ENCDIFF_OK;
}

/* A pointer that the compiler does not know, for it would move a product out of the mode that it is for. */
static encdiff_status (*volatile multiply)(ed_env *, void *, int) = multiply_small;

/* valgrind does not. */
static bool processor_flushes(void)
{
    float product = 1;
#if defined(__SSE2__)
    unsigned before = _mm_getcsr();
    _mm_setcsr(before | 0x8000);
    (void)multiply(&env, &product, 0);
    _mm_setcsr(before);
#endif
    return product == 0;
}

static void denormals_are_zero_while_a_team_runs(void)
{
    enum { RANKS = 3 };
    ed_team *team;
    float products[RANKS];
    if (!processor_flushes()) {
        test_skip("denormal numbers are not flushed here");
        return;
    }
    if (!CHECK_EQUAL(ed_team_create(&env, ed_backend_cpu(), RANKS, &team), ENCDIFF_OK)) return;
    CHECK_EQUAL(ed_team_run(team, RANKS, multiply_small, products), ENCDIFF_OK);
    for (int r = 0; r < RANKS; r++) CHECK_THAT(products[r] == 0, "rank %d: %g", r, products[r]);
    (void)multiply(&env, products, 0);
    CHECK_THAT(products[0] > 0, "after the run: %g", products[0]);
    ed_team_free(team);
}

static void nothing_is_left_allocated(void) { CHECK_EQUAL(atomic_load(&memory.in_use), 0); }

int main(int argc, char **argv)
{
    test_start(argc, argv);
    ed_memory_init(&memory, NULL);
    env = (ed_env){.memory = &memory};
    for (size_t i = 0; i < op_case_count; i++) {
        char name[128];
        snprintf(name, sizeof name, "%s, %s", ed_op_describe(op_cases[i].op)->name, op_cases[i].name);
        if (!test_begin(name)) continue;
        check_case(&op_cases[i]);
        test_end();
    }
    if (argc == 1 && test_begin("the operators of inference have parts")) {
        the_operators_of_inference_have_parts();
        test_end();
    }
    static const test_case others[] = {TEST(a_part_that_fails_keeps_step),
                                       TEST(few_images_on_many_threads_are_as_in_a_batch),
                                       TEST(denormals_are_zero_while_a_team_runs), TEST(nothing_is_left_allocated)};
    for (size_t i = 0; i < ED_COUNT(others); i++) {
        if (!test_begin(others[i].name)) continue;
        others[i].run();
        test_end();
    }
    return test_finish();
}
