/*
 * Every operator from one table of cases (cases.c): the CPU backend, at every level of instructions that the machine
 * has, against the plain reference; the reference's gradients against finite differences; in place against not;
 * several ranks against one. Every operator of ops.def must have been reached. ENCDIFF_TEST_VERBOSE=1 prints the errors
 * of every case.
 */
#include <stdlib.h>

#include "cpu/cpu.h"
#include "op_run.h"
#include "test.h"

/*
 * Relative L2 errors. The kernels sum in f32 what the reference sums in double: n terms give at most sqrt(n) 2^-24,
 * 3e-6 for the few thousand terms of the largest cases. Measured: 5e-7.
 */
static const double forward_tolerance = 3e-6;
/* Gradients chain two or three such sums. Measured: 7e-7. */
static const double gradient_tolerance = 5e-6;
/* The same kernels on other shards: only the order of sums changes. Measured: 4e-7. */
static const double rank_tolerance = 2e-6;
/*
 * Activations in bf16 are rounded to 2^-9 of themselves; where the sum that is rounded differs in its last bits, that
 * may move one by twice as much. Inside a kernel everything is f32, and so are sums of parameters. Measured: 4e-3.
 */
static const double bf16_tolerance = 1e-2;
/* The operands are rounded as well, and gradients may change sides of a kink or of two near maxima. */
static const double bf16_against_f32 = 0.1;
/*
 * Central differences with steps 1/32 and 1/64, extrapolated: the next term of the series is below 1e-5 for these
 * functions, and the rounding of f32 outputs, 2^-24 of each, is allowed for separately.
 */
static const double difference_tolerance = 1e-3;
static const double step = 1.0 / 32;

static const char *const level_names[ED_CPU_LEVELS] = {"portable cpu", "cpu with avx2", "cpu with avx512",
                                                       "cpu with avx512bf16"};

static ed_memory memory;
static ed_env env;
static bool verbose;
static bool ran[ED_OP_COUNT], ran_in_place[ED_OP_COUNT];
static bool bf16; /* the runs' activations */

/* |a - b| / |b|, |b| at least that of items of size `scale`; infinite where either has no number. */
static double relative(const float *a, const float *b, size_t count, double scale)
{
    double off = 0, size = 0;
    for (size_t i = 0; i < count; i++) {
        off += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        size += (double)b[i] * b[i];
    }
    double error = off == 0 ? 0 : sqrt(off / ED_MAX(size, scale * scale * (double)count));
    return isfinite(off) && isfinite(size) ? error : INFINITY;
}

static size_t operand_count(const op_case *c, int i) { return (size_t)ed_shape_count(&c->in[i].shape); }

static bool run(const op_case *c, op_mode mode, float *const *data, op_result *result)
{
    encdiff_status status = op_run(&env, c, &mode, data, result);
    CHECK_THAT(status == ENCDIFF_OK, "%s on %s: %s: %s", ed_op_describe(c->op)->name, mode.backend->name,
               encdiff_status_name(status), env.message);
    for (int op = 0; status == ENCDIFF_OK && op < ED_OP_COUNT; op++) {
        ran[op] |= result->ran[op];
        ran_in_place[op] |= result->ran_in_place[op];
    }
    return status == ENCDIFF_OK;
}

/* ---------------------------------------------------------------- comparing two runs */

static void compare_array(const float *a, const float *b, size_t count, double scale, double tolerance,
                          const char *what, char kind, int i)
{
    if (!a && !b) return;
    if (!CHECK_THAT(a && b, "%s: %s %c%d is missing", what, a ? "the other's" : "its", kind, i)) return;
    double error = relative(a, b, count, scale);
    if (verbose) printf("  %s: %c%d %.2g\n", what, kind, i, error);
    CHECK_THAT(error <= tolerance, "%s: %c%d has a relative error of %.3g, more than %.3g", what, kind, i, error,
               tolerance);
}

/* o: outputs, g: gradients of the operands, r: running parameters. */
static void compare(const op_case *c, const op_result *a, const op_result *b, double forward, double gradient,
                    const char *what)
{
    double rounding = c->bf16_tolerance > 0 ? c->bf16_tolerance : bf16_tolerance;
    if (bf16 && forward > 0) forward = ED_MAX(forward, rounding);
    if (bf16 && gradient > 0) gradient = ED_MAX(gradient, rounding);
    for (int k = 0; k < ED_MAX_OUTPUTS; k++) {
        if (!CHECK_EQUAL(a->out_count[k], b->out_count[k])) return;
        compare_array(a->out[k], b->out[k], b->out_count[k], c->scale, forward, what, 'o', k);
    }
    for (int i = 0; i < ED_MAX_INPUTS; i++) {
        compare_array(a->grad[i], b->grad[i], operand_count(c, i), c->scale, gradient, what, 'g', i);
        compare_array(a->after[i], b->after[i], operand_count(c, i), c->scale, forward, what, 'r', i);
    }
}

/* ---------------------------------------------------------------- finite differences */

/* sum of <output, seed>, and the root of its terms' squares, which is what rounding acts on. */
static bool loss_of(const op_case *c, float *const *data, double *loss, double *size)
{
    op_result result;
    double sum = 0, squares = 0;
    if (!run(c, (op_mode){.backend = ed_backend_reference(), .ranks = 1}, data, &result)) return false;
    for (int k = -1; k < ED_MAX_OUTPUTS; k++) {
        if (k < 0 ? !(c->flags & SEED_INPUT) : !result.out[k] || !op_seeded(c, k)) continue;
        const float *value = k < 0 ? data[0] : result.out[k];
        size_t count = k < 0 ? operand_count(c, 0) : result.out_count[k];
        for (size_t i = 0; i < count; i++) {
            float seed;
            op_seed(c, k, i, 1, &seed);
            sum += (double)value[i] * seed;
            squares += (double)value[i] * seed * value[i] * seed;
        }
    }
    op_result_free(&env, &result);
    *loss = sum;
    *size = sqrt(squares);
    return true;
}

/* (loss(x + h d) - loss(x - h d)) / 2h with d of signs; x is restored. */
static bool slope_along(const op_case *c, float **data, int i, const float *direction, double h, double *slope,
                        double *noise)
{
    double at[2] = {0}, size = 0;
    size_t count = operand_count(c, i);
    float *moved = ed_alloc(&env, count, sizeof *moved), *kept = data[i];
    bool good = moved != NULL;
    data[i] = moved;
    for (int side = 0; side < 2 && good; side++) {
        for (size_t k = 0; k < count; k++) moved[k] = kept[k] + (float)(side ? -h : h) * direction[k];
        good = loss_of(c, data, &at[side], &size);
    }
    data[i] = kept;
    ed_free(&env, moved);
    *slope = (at[0] - at[1]) / (2 * h);
    *noise = size * 0x1p-24 / h;
    return good;
}

/*
 * <gradient, d> against the difference along d. A random d of signs sees an error e of the gradient as about |e|, so
 * the bound on the difference is one on the gradient's relative L2 error.
 */
static void check_direction(const op_case *c, float **data, int i, const float *gradient, uint64_t number)
{
    size_t count = operand_count(c, i);
    double along = 0, squares = 0, wide, narrow, noise;
    float *direction = ed_alloc(&env, count, sizeof *direction);
    if (!CHECK(direction != NULL)) return;
    for (size_t k = 0; k < count; k++) {
        direction[k] = ed_below(77, ED_RANDOM_DATA, number, k, 2) ? 1 : -1;
        along += (double)gradient[k] * direction[k];
        squares += (double)gradient[k] * gradient[k];
    }
    if (slope_along(c, data, i, direction, step, &wide, &noise) &&
        slope_along(c, data, i, direction, step / 2, &narrow, &noise)) {
        double slope = (4 * narrow - wide) / 3, error = fabs(slope - along);
        if (verbose) printf("  difference: g%d %.2g of %.3g\n", i, error, sqrt(squares));
        CHECK_THAT(error <= difference_tolerance * sqrt(squares) + 4 * noise,
                   "operand %d: the slope along direction %d is %.6g, the gradient says %.6g (its length is %.3g)", i,
                   (int)number, slope, along, sqrt(squares));
    }
    ed_free(&env, direction);
}

static void check_differences(const op_case *c, float **data, const op_result *result)
{
    if (c->flags & (NO_GRADIENT | NO_DIFFERENCE)) return;
    for (int i = 0; i < ED_MAX_INPUTS; i++)
        for (uint64_t number = 0; result->grad[i] && number < 3; number++)
            check_direction(c, data, i, result->grad[i], number);
}

/* ---------------------------------------------------------------- what is asked of each case on each backend */

static void check_every_operand_has_its_gradient(const op_case *c, const op_result *result)
{
    for (int i = 0; i < ED_MAX_INPUTS && !(c->flags & NO_GRADIENT); i++) {
        bool wanted = c->in[i].kind == BATCH || c->in[i].kind == SHARED || c->in[i].kind == PARAM;
        CHECK_THAT(wanted == (result->grad[i] != NULL), "operand %d %s", i, wanted ? "got no gradient" : "got one");
    }
}

/* An operator may overwrite the input that in_place names, when it is made by another and not needed later. */
static void check_in_place(const op_case *c, ed_backend *backend, float *const *data, const op_result *plain)
{
    op_result forward, both;
    bool backward = !(c->flags & NO_GRADIENT);
    if (run(c, (op_mode){backend, 1, false, true, 0, bf16, false}, data, &forward)) {
        for (int k = 0; k < ED_MAX_OUTPUTS; k++)
            compare_array(forward.out[k], plain->out[k], plain->out_count[k], 0, 0, "forward in place", 'o', k);
        op_result_free(&env, &forward);
    }
    if (backward && run(c, (op_mode){backend, 1, true, true, 0, bf16, false}, data, &both)) {
        compare(c, &both, plain, 0, 0, "in place");
        op_result_free(&env, &both);
    }
}

/* Divided over ranks, the images' results stay what they were, and so do sums over the batch. */
static void check_ranks(const op_case *c, ed_backend *backend, float *const *data, const op_result *plain)
{
    static const char *const names[] = {"2 ranks", "3 ranks"};
    double tolerance = ED_MAX(rank_tolerance, c->forward_tolerance);
    for (int ranks = 2; ranks <= 3; ranks++) {
        op_result result;
        if (op_images(c) < ranks && c->op != ED_OP_ADAPTIVE_WEIGHT) continue;
        if (!run(c, (op_mode){backend, ranks, !(c->flags & NO_GRADIENT), false, 0, bf16, false}, data, &result)) return;
        compare(c, &result, plain, tolerance, ED_MAX(tolerance, c->gradient_tolerance), names[ranks - 2]);
        op_result_free(&env, &result);
    }
}

/* Gradients of parameters are added to what is there. */
static void check_addition(const op_case *c, ed_backend *backend, float *const *data, const op_result *plain)
{
    const float prior = 0.75f;
    op_result result;
    if (c->flags & NO_GRADIENT) return;
    if (!run(c, (op_mode){backend, 1, true, false, prior, bf16, false}, data, &result)) return;
    for (int i = 0; i < ED_MAX_INPUTS; i++) {
        size_t count = operand_count(c, i);
        float *wanted = c->in[i].kind == PARAM ? ed_alloc(&env, count, sizeof *wanted) : NULL;
        if (!wanted) continue;
        for (size_t k = 0; k < count; k++) wanted[k] = prior + plain->grad[i][k];
        compare_array(result.grad[i], wanted, count, 0, 1e-6 /* where it is added: once, or term by term */,
                      "added to what is there", 'g', i);
        ed_free(&env, wanted);
    }
    op_result_free(&env, &result);
}

static void check_repeats(const op_case *c, ed_backend *backend, float *const *data, const op_result *plain)
{
    op_result result;
    if (!run(c, (op_mode){backend, 1, !(c->flags & NO_GRADIENT), false, 0, bf16, false}, data, &result)) return;
    compare(c, &result, plain, 0, 0, "run again");
    op_result_free(&env, &result);
}

/* With packed parameters, which may be added up in another order. */
static void check_packed(const op_case *c, ed_backend *backend, float *const *data, const op_result *reference)
{
    op_result packed;
    if (!backend->kernels[c->op]->packing) return;
    if (!run(c, (op_mode){.backend = backend, .ranks = 1, .bf16 = bf16, .packed = true}, data, &packed)) return;
    double tolerance = c->forward_tolerance > 0 ? c->forward_tolerance : forward_tolerance;
    if (bf16) tolerance = ED_MAX(tolerance, c->bf16_tolerance > 0 ? c->bf16_tolerance : bf16_tolerance);
    for (int k = 0; k < ED_MAX_OUTPUTS; k++)
        compare_array(packed.out[k], reference->out[k], reference->out_count[k], c->scale, tolerance, "packed", 'o', k);
    op_result_free(&env, &packed);
}

static void check_backend(const op_case *c, ed_backend *backend, float *const *data, const op_result *plain)
{
    check_repeats(c, backend, data, plain);
    check_in_place(c, backend, data, plain);
    check_ranks(c, backend, data, plain);
    check_addition(c, backend, data, plain);
}

static void check_fast(const op_case *c, ed_cpu_level level, float *const *data, const op_result *reference)
{
    op_result fast;
    ed_backend *backend = ed_backend_cpu_at(level);
    if (!backend || !run(c, (op_mode){backend, 1, !(c->flags & NO_GRADIENT), false, 0, bf16, false}, data, &fast))
        return;
    compare(c, &fast, reference, c->forward_tolerance > 0 ? c->forward_tolerance : forward_tolerance,
            c->gradient_tolerance > 0 ? c->gradient_tolerance : gradient_tolerance, level_names[level]);
    check_backend(c, backend, data, &fast);
    check_packed(c, backend, data, reference);
    op_result_free(&env, &fast);
}

/* The same in bf16, where the operator has activations: the reference against itself in f32, the levels against it. */
static void check_bf16(const op_case *c, float *const *data, const op_result *f32)
{
    op_mode mode = {.backend = ed_backend_reference(), .ranks = 1, .backward = !(c->flags & NO_GRADIENT), .bf16 = true};
    op_result reference;
    if (ed_op_f32_operands(c->op) & 1) return;
    bf16 = true;
    if (run(c, mode, data, &reference)) {
        compare(c, &reference, f32, bf16_against_f32, bf16_against_f32, "bf16 against f32");
        check_backend(c, mode.backend, data, &reference);
        for (int level = 0; level < ED_CPU_LEVELS; level++) check_fast(c, (ed_cpu_level)level, data, &reference);
        op_result_free(&env, &reference);
    }
    bf16 = false;
}

static void check_case(const op_case *c)
{
    op_mode mode = {.backend = ed_backend_reference(), .ranks = 1, .backward = !(c->flags & NO_GRADIENT)};
    float *data[ED_MAX_INPUTS];
    op_result reference;
    if (CHECK_EQUAL(op_data_create(&env, c, data), ENCDIFF_OK) && run(c, mode, data, &reference)) {
        check_every_operand_has_its_gradient(c, &reference);
        check_differences(c, data, &reference);
        check_backend(c, mode.backend, data, &reference);
        for (int level = 0; level < ED_CPU_LEVELS; level++) check_fast(c, (ed_cpu_level)level, data, &reference);
        check_bf16(c, data, &reference);
        op_result_free(&env, &reference);
    }
    op_data_free(&env, data);
}

/* ---------------------------------------------------------------- beside the table */

static void every_operator_is_tested(void)
{
    for (int op = 0; op < ED_OP_COUNT; op++) {
        const ed_op_info *info = ed_op_describe((ed_op)op);
        CHECK_THAT(ran[op], "operator %s is in no case", info->name);
        if (info->in_place >= 0 && op != ED_OP_RESHAPE)
            CHECK_THAT(ran_in_place[op], "operator %s never ran in place", info->name);
    }
}

/* The gradient of the quantised latent arrives at the latent as it is. */
static void quantize_passes_the_gradient_straight_through(void)
{
    static const op_case c = {.op = ED_OP_QUANTIZE,
                              .name = "straight through",
                              .in = {{BATCH, {4, {2, 3, 3, 4}}, UNIFORM, 0, 0}, {FROZEN, {2, {9, 4}}, UNIFORM, 0, 0}},
                              .attr.quantize = {0.25f, 1},
                              .seeded = 1};
    float *data[ED_MAX_INPUTS], seed[72];
    op_result result;
    op_seed(&c, 0, 0, ED_COUNT(seed), seed);
    if (CHECK_EQUAL(op_data_create(&env, &c, data), ENCDIFF_OK) &&
        run(&c, (op_mode){ed_backend_reference(), 1, true, false, 0, bf16, false}, data, &result)) {
        CHECK(memcmp(result.grad[0], seed, sizeof seed) == 0);
        op_result_free(&env, &result);
    }
    op_data_free(&env, data);
}

/* One optimiser step on `backend`; arrays p, m, v, ema, then the gradient parts. */
static void optimise(ed_backend *backend, const ed_adamw *options, size_t count, int part_count, bool averaged,
                     float *arrays[7])
{
    for (uint64_t i = 0; i < 7; i++) {
        arrays[i] = ed_alloc(&env, count, sizeof(float));
        ed_fill_uniform(5, ED_RANDOM_DATA, i, 0, count, arrays[i]);
        for (size_t k = 0; i != 2 && k < count; k++) arrays[i][k] = 2 * arrays[i][k] - 1; /* v stays positive */
    }
    /* in two spans, of which the second begins where no vector does */
    float *average = averaged ? arrays[3] : NULL;
    ed_span spans[2] = {
        {arrays[0], arrays[1], arrays[2], average, arrays + 4, part_count, 0, count / 3},
        {arrays[0], arrays[1], arrays[2], average, arrays + 4, part_count, count / 3, count - count / 3}};
    CHECK_EQUAL(backend->adamw(backend, &env, options, spans, 2), ENCDIFF_OK);
    size_t left = 0;
    for (int i = 0; i < part_count; i++)
        for (size_t k = 0; k < count; k++) left += arrays[4 + i][k] != 0;
    CHECK_EQUAL(left, 0); /* of the gradients */
}

/* p, m, v and the average after a step; sums over one to three gradient parts. */
static void check_adamw(ed_backend *backend, size_t count, int parts, const char *what)
{
    const ed_adamw options = {2.5e-4f, 0.9f, 0.999f, 1e-8f, 0.01f, 0.271f, 0.002996f, 0.7f, 0.9999f};
    float *a[7], *b[7];
    bool averaged = parts != 2;
    optimise(backend, &options, count, parts, averaged, a);
    optimise(ed_backend_reference(), &options, count, parts, averaged, b);
    for (int k = 0; k < 4; k++)
        compare_array(a[k], b[k], count, 0, 1e-6 /* one rounding of each factor */, what, "pmve"[k], parts);
    for (int k = 0; k < 7; k++) ed_free(&env, a[k]), ed_free(&env, b[k]);
}

static void check_sum_squares(ed_backend *backend, size_t count, int parts)
{
    ed_backend *reference = ed_backend_reference();
    float *x[3];
    double fast = -1, plain = -1;
    for (uint64_t k = 0; k < 3; k++) {
        x[k] = ed_alloc(&env, count, sizeof(float));
        ed_fill_normal(6, ED_RANDOM_DATA, k, 0, count, x[k]);
    }
    ed_span spans[2] = {{.grads = x, .grad_count = parts, .count = count / 3},
                        {.grads = x, .grad_count = parts, .first = count / 3, .count = count - count / 3}};
    CHECK_EQUAL(backend->sum_squares(backend, &env, spans, 2, &fast), ENCDIFF_OK);
    CHECK_EQUAL(reference->sum_squares(reference, &env, spans, 2, &plain), ENCDIFF_OK);
    CHECK_NEAR(fast, plain, 1e-6 * plain, "each summed gradient is rounded to f32");
    for (int k = 0; k < 3; k++) ed_free(&env, x[k]);
}

static void the_optimiser_equals_the_reference(void)
{
    static const size_t counts[] = {0, 1, 7, 16, 33, 1000, 70001};
    for (int level = 0; level < ED_CPU_LEVELS; level++) {
        ed_backend *backend = ed_backend_cpu_at((ed_cpu_level)level);
        for (size_t i = 0; backend && i < ED_COUNT(counts); i++)
            for (int parts = 1; parts <= 3; parts++) {
                check_adamw(backend, counts[i], parts, level_names[level]);
                check_sum_squares(backend, counts[i], parts);
            }
    }
}

static void nothing_is_left_allocated(void) { CHECK_EQUAL(atomic_load(&memory.in_use), 0); }

int main(int argc, char **argv)
{
    static const test_case others[] = {
        TEST(quantize_passes_the_gradient_straight_through),
        TEST(the_optimiser_equals_the_reference),
        TEST(nothing_is_left_allocated),
    };
    test_start(argc, argv);
    verbose = getenv("ENCDIFF_TEST_VERBOSE") != NULL;
    ed_memory_init(&memory, NULL);
    env = (ed_env){.memory = &memory};
    for (int level = 0; level < ED_CPU_LEVELS; level++)
        if (!ed_backend_cpu_at((ed_cpu_level)level)) printf("%s: not on this machine\n", level_names[level]);
    for (size_t i = 0; i < op_case_count; i++) {
        char name[128];
        snprintf(name, sizeof name, "%s, %s", ed_op_describe(op_cases[i].op)->name, op_cases[i].name);
        if (!test_begin(name)) continue;
        if (verbose) printf("%s\n", name);
        check_case(&op_cases[i]);
        test_end();
    }
    for (size_t i = 0; i < ED_COUNT(others); i++) {
        if (!test_begin(others[i].name)) continue;
        others[i].run();
        test_end();
    }
    if (argc == 1 && test_begin("every operator is tested")) {
        every_operator_is_tested();
        test_end();
    }
    return test_finish();
}
