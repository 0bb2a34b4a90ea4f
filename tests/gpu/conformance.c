/*
 * Every case of tests/unit/cases.c on the CUDA backend against the plain reference: in f32 and in bf16, in place, added
 * to what is there, and twice with the same bits; convolutions by cuDNN and as matrix products; then the optimiser.
 * ENCDIFF_TEST_VERBOSE=1 prints the errors of every case.
 */
#include "../unit/op_run.h"
#include "../unit/test.h"
#include "device.h"

/* Relative L2 errors against sums in double; the kernels sum in f32, with the fast exp of the device. */
static const double f32_tolerance = 1e-5;
/* bf16 keeps 8 bits: 2^-9 a rounding, and a sum may round the other way. */
static const double bf16_tolerance = 1e-2;

static gpu device;
static bool verbose;
static bool ran[ED_OP_COUNT], ran_in_place[ED_OP_COUNT];

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
    encdiff_status status = op_run(&device.env, c, &mode, data, result);
    CHECK_THAT(status == ENCDIFF_OK, "%s on %s: %s: %s", ed_op_describe(c->op)->name, mode.backend->name,
               encdiff_status_name(status), device.env.message);
    if (status != ENCDIFF_OK && device.control) device.control("reset");
    for (int op = 0; status == ENCDIFF_OK && op < ED_OP_COUNT && mode.backend == device.backend; op++) {
        ran[op] |= result->ran[op];
        ran_in_place[op] |= result->ran_in_place[op];
    }
    return status == ENCDIFF_OK;
}

static void compare_array(const float *a, const float *b, size_t count, double scale, double tolerance,
                          const char *what, char kind, int i)
{
    if (!a && !b) return;
    if (!CHECK_THAT(a && b, "%s: %c%d is missing", what, kind, i)) return;
    double error = relative(a, b, count, scale);
    if (verbose) printf("  %s: %c%d %.2g\n", what, kind, i, error);
    CHECK_THAT(error <= tolerance, "%s: %c%d has a relative error of %.3g, more than %.3g", what, kind, i, error,
               tolerance);
}

/* o: outputs, g: gradients of the operands, r: running parameters. */
static void compare(const op_case *c, const op_result *a, const op_result *b, double forward, double gradient,
                    const char *what)
{
    for (int k = 0; k < ED_MAX_OUTPUTS; k++) {
        if (!CHECK_EQUAL(a->out_count[k], b->out_count[k])) return;
        compare_array(a->out[k], b->out[k], b->out_count[k], c->scale, forward, what, 'o', k);
    }
    for (int i = 0; i < ED_MAX_INPUTS; i++) {
        compare_array(a->grad[i], b->grad[i], operand_count(c, i), c->scale, gradient, what, 'g', i);
        compare_array(a->after[i], b->after[i], operand_count(c, i), c->scale, forward, what, 'r', i);
    }
}

/* A second run, one with operands whose memory may be taken over: the same bits. */
static void check_same_bits(const op_case *c, op_mode mode, float *const *data, const op_result *plain)
{
    op_result result;
    if (run(c, mode, data, &result)) {
        compare(c, &result, plain, 0, 0, "run again");
        op_result_free(&device.env, &result);
    }
    mode.staged = true;
    if (run(c, mode, data, &result)) {
        compare(c, &result, plain, 0, 0, "in place");
        op_result_free(&device.env, &result);
    }
    mode.backward = false; /* then more operands are free to be taken over */
    if (run(c, mode, data, &result)) {
        for (int k = 0; k < ED_MAX_OUTPUTS; k++)
            compare_array(result.out[k], plain->out[k], plain->out_count[k], 0, 0, "forward in place", 'o', k);
        op_result_free(&device.env, &result);
    }
}

static void check_addition(const op_case *c, op_mode mode, float *const *data, const op_result *plain)
{
    op_result result;
    mode.prior = 0.75f;
    if (!mode.backward || !run(c, mode, data, &result)) return;
    for (int i = 0; i < ED_MAX_INPUTS; i++) {
        size_t count = operand_count(c, i);
        if (c->in[i].kind != PARAM || !plain->grad[i] || !result.grad[i]) continue;
        for (size_t k = 0; k < count; k++) result.grad[i][k] -= mode.prior;
        compare_array(result.grad[i], plain->grad[i], count, 0.75, 1e-6 /* a rounding of the sum */,
                      "added to what is there", 'g', i);
    }
    op_result_free(&device.env, &result);
}

static void check_type(const op_case *c, float *const *data, bool bf16)
{
    op_mode mode = {.backend = ed_backend_reference(), .ranks = 1, .backward = !(c->flags & NO_GRADIENT), .bf16 = bf16};
    op_result reference, result;
    if (!run(c, mode, data, &reference)) return;
    mode.backend = device.backend;
    if (run(c, mode, data, &result)) {
        double forward = ED_MAX(f32_tolerance, c->forward_tolerance),
               gradient = ED_MAX(f32_tolerance, c->gradient_tolerance);
        if (bf16) forward = gradient = ED_MAX(bf16_tolerance, c->bf16_tolerance);
        compare(c, &result, &reference, forward, gradient, bf16 ? "bf16" : "f32");
        if (!getenv("ENCDIFF_TEST_BRIEF")) {
            check_same_bits(c, mode, data, &result);
            check_addition(c, mode, data, &result);
        }
        op_result_free(&device.env, &result);
    }
    op_result_free(&device.env, &reference);
}

static void check_case(const op_case *c)
{
    float *data[ED_MAX_INPUTS];
    if (!device.backend->kernels[c->op]) {
        test_skip("the backend has no kernel for it");
        return;
    }
    if (CHECK_EQUAL(op_data_create(&device.env, c, data), ENCDIFF_OK)) {
        check_type(c, data, false);
        if (!(ed_op_f32_operands(c->op) & 1)) check_type(c, data, true);
    }
    op_data_free(&device.env, data);
}

/* cuDNN's convolutions and the matrix products are two ways to one result. */
static void convolutions_as_products_agree(void)
{
    const ed_backend_options plain = {0}, im2col = {.im2col = true};
    gpu_close_device(&device);
    if (CHECK_EQUAL(gpu_open_device(&device, &im2col), ENCDIFF_OK)) {
        for (size_t i = 0; i < op_case_count; i++)
            if (op_cases[i].op == ED_OP_CONV2D) check_case(&op_cases[i]);
        gpu_close_device(&device);
    }
    CHECK_EQUAL(gpu_open_device(&device, &plain), ENCDIFF_OK);
}

static void every_operator_ran(void)
{
    for (int op = 0; op < ED_OP_COUNT; op++) {
        const ed_op_info *info = ed_op_describe((ed_op)op);
        if (op == ED_OP_RESHAPE || !device.backend->kernels[op]) continue;
        CHECK_THAT(ran[op], "operator %s ran in no case", info->name);
        if (info->in_place >= 0) CHECK_THAT(ran_in_place[op], "operator %s never ran in place", info->name);
    }
}

/* ---------------------------------------------------------------- the optimiser */

#define SPANS 40 /* more than a launch takes */

/* `count` floats in pieces of all sizes, with gaps of 0 to 3 floats between them; returns how many. */
static int cut(size_t count, const ed_span *buffers, ed_span spans[SPANS])
{
    int n = 0;
    for (size_t at = 0; at < count && n < SPANS; n++) {
        size_t size = n == SPANS - 1 ? count - at : ED_MIN((size_t)(n * n + 1), count - at);
        spans[n] = *buffers;
        spans[n].first = at;
        spans[n].count = size;
        at += size + (size_t)(n % 4);
    }
    return n;
}

/* p, m, v, average and gradient of `count` floats on the backend; read back after a step over all in one span, or in
 * many with gaps between. */
static void optimise(ed_backend *b, const ed_adamw *options, size_t count, bool averaged, bool many, float *host[5])
{
    ed_env *env = &device.env;
    float *there[5] = {0};
    for (uint64_t i = 0; i < 5; i++) {
        host[i] = ed_alloc(env, count, sizeof(float));
        ed_fill_uniform(5, ED_RANDOM_DATA, i, 0, count, host[i]);
        for (size_t k = 0; i != 2 && k < count; k++) host[i][k] = 2 * host[i][k] - 1; /* v stays positive */
        there[i] = b->allocate(b, env, count * sizeof(float));
        CHECK_EQUAL(b->upload(b, env, there[i], host[i], count * sizeof(float)), ENCDIFF_OK);
    }
    ed_span whole = {there[0], there[1], there[2], averaged ? there[3] : NULL, &there[4], 1, 0, count}, spans[SPANS];
    CHECK_EQUAL(b->adamw(b, env, options, many ? spans : &whole, many ? cut(count, &whole, spans) : 1), ENCDIFF_OK);
    for (int i = 0; i < 5; i++) {
        CHECK_EQUAL(b->download(b, env, host[i], there[i], count * sizeof(float)), ENCDIFF_OK);
        b->release(b, env, there[i]);
    }
}

static void check_sum_squares(size_t count)
{
    ed_env *env = &device.env;
    ed_backend *b = device.backend, *reference = ed_backend_reference();
    float *x = ed_alloc(env, count, sizeof *x), *there = b->allocate(b, env, count * sizeof *x);
    double ours = -1, theirs = -1;
    ed_fill_normal(6, ED_RANDOM_DATA, 0, 0, count, x);
    CHECK_EQUAL(b->upload(b, env, there, x, count * sizeof *x), ENCDIFF_OK);
    for (int many = 0; many < 2; many++) {
        ed_span whole = {.grads = &there, .grad_count = 1, .count = count}, spans[SPANS];
        ed_span here = {.grads = &x, .grad_count = 1, .count = count};
        int n = many ? cut(count, &whole, spans) : 1;
        CHECK_EQUAL(b->sum_squares(b, env, many ? spans : &whole, n, &ours), ENCDIFF_OK);
        n = many ? cut(count, &here, spans) : 1;
        CHECK_EQUAL(reference->sum_squares(reference, env, many ? spans : &here, n, &theirs), ENCDIFF_OK);
        CHECK_NEAR(ours, theirs, 1e-6 * theirs, "sums in f32 of four, in double of the rest");
    }
    b->release(b, env, there);
    ed_free(env, x);
}

static void the_optimiser_equals_the_reference(void)
{
    static const size_t counts[] = {1, 7, 33, 1000, 70001};
    const ed_adamw options = {2.5e-4f, 0.9f, 0.999f, 1e-8f, 0.01f, 0.271f, 0.002996f, 0.7f, 0.9999f};
    for (size_t i = 0; i < 2 * ED_COUNT(counts); i++) {
        float *ours[5], *theirs[5];
        size_t count = counts[i / 2];
        optimise(device.backend, &options, count, i / 2 % 2 == 0, i % 2, ours);
        optimise(ed_backend_reference(), &options, count, i / 2 % 2 == 0, i % 2, theirs);
        for (int k = 0; k < 5; k++)
            compare_array(ours[k], theirs[k], count, 0, 1e-6 /* a rounding of each factor */, "adamw", "pmveg"[k], 0);
        for (int k = 0; k < 5; k++) ed_free(&device.env, ours[k]), ed_free(&device.env, theirs[k]);
        if (i % 2) check_sum_squares(count);
    }
}

int main(int argc, char **argv)
{
    static const test_case others[] = {TEST(convolutions_as_products_agree), TEST(the_optimiser_equals_the_reference)};
    test_start(argc, argv);
    verbose = getenv("ENCDIFF_TEST_VERBOSE") != NULL;
    if (!gpu_open(&device)) return 77;
    for (size_t i = 0; i < op_case_count; i++) {
        char name[128];
        snprintf(name, sizeof name, "%s, %s", ed_op_describe(op_cases[i].op)->name, op_cases[i].name);
        if (!test_begin(name)) continue;
        if (verbose) printf("%s\n", name);
        double start = ed_now();
        check_case(&op_cases[i]);
        if (verbose) printf("  %.2f s\n", ed_now() - start);
        test_end();
    }
    for (size_t i = 0; i < ED_COUNT(others); i++) {
        if (!test_begin(others[i].name)) continue;
        others[i].run();
        test_end();
    }
    if (argc == 1 && !getenv("ENCDIFF_TEST_BRIEF") && test_begin("every operator ran")) {
        every_operator_ran();
        test_end();
    }
    gpu_close(&device);
    if (test_begin("nothing is left allocated")) {
        CHECK_EQUAL(atomic_load(&device.memory.in_use), 0);
        if (device.allocations) CHECK_EQUAL(device.allocations(), 0);
        test_end();
    }
    return test_finish();
}
