/*
 * What the kernels ask of memory, as the checked emulation counts it (tests/cuda_emulation/trace.h), against the cost
 * rules of lib/graph/ops.c, which `encdiff bench` and the predicted times of docs/gpu.md go by. The rule counts each
 * operand once, which is what must come from the device's memory when the caches hold the rest:
 *
 *   touched  bytes that are read before they are written, and bytes that are written, each once: within 10 % of the
 * rule moved    sectors of 32 bytes over all requests, most of which the caches serve: within 10 % of what is noted
 * below
 *
 *     budgets             the check, one line for each operator that fails
 *     budgets --table     the table of docs/gpu.md
 */
#include "../cuda_emulation/trace.h"
#include "../unit/op_run.h"
#include "../unit/test.h"
#include "device.h"

#define SHAPE(...)                                                                                                     \
    {                                                                                                                  \
        sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), { __VA_ARGS__ }                                            \
    }
#define OPERAND(kind_, ...)                                                                                            \
    {                                                                                                                  \
        .kind = kind_, .shape = SHAPE(__VA_ARGS__)                                                                     \
    }
#define ABOVE_ZERO(kind_, ...)                                                                                         \
    {                                                                                                                  \
        .kind = kind_, .shape = SHAPE(__VA_ARGS__), .fill = UNIFORM, .low = 0.5f, .high = 1.5f                         \
    }

/* The networks' sizes at a small batch. */
static const op_case cases[] = {
    {.op = ED_OP_GROUP_NORM,
     .in = {OPERAND(BATCH, 4, 16, 16, 64), OPERAND(PARAM, 64), OPERAND(PARAM, 64), OPERAND(BATCH, 4, 128)},
     .attr.group_norm = {32, 1e-5f, ED_ACT_SILU}},
    {.op = ED_OP_LAYER_NORM,
     .in = {OPERAND(BATCH, 4, 256, 64), OPERAND(PARAM, 64), OPERAND(PARAM, 64)},
     .attr.layer_norm = {1e-5f}},
    {.op = ED_OP_BATCH_NORM,
     .in = {OPERAND(BATCH, 8, 16, 16, 64), OPERAND(PARAM, 64), OPERAND(PARAM, 64), OPERAND(RUNNING, 64),
            ABOVE_ZERO(RUNNING, 64)},
     .attr.batch_norm = {1e-5f, 0.1f, true, ED_ACT_NONE, 0}},
    {.op = ED_OP_ATTENTION,
     .in = {OPERAND(BATCH, 2, 256, 64), OPERAND(BATCH, 2, 256, 64), OPERAND(BATCH, 2, 256, 64)},
     .attr.attention = {8, 0.353553f}},
    {.op = ED_OP_ATTENTION_MAP,
     .in = {OPERAND(DATA, 2, 256, 64), OPERAND(DATA, 2, 20, 64)},
     .attr.attention = {8, 0.353553f},
     .flags = NO_GRADIENT},
    {.op = ED_OP_ACTIVATION, .in = {OPERAND(BATCH, 4, 16, 16, 64)}, .attr.activation = {ED_ACT_SILU, 0}},
    {.op = ED_OP_GEGLU, .in = {OPERAND(BATCH, 2, 256, 512)}},
    {.op = ED_OP_ADD, .in = {OPERAND(BATCH, 4, 16, 16, 64), OPERAND(BATCH, 4, 16, 16, 64)}},
    {.op = ED_OP_ADD_VECTOR, .in = {OPERAND(BATCH, 4, 16, 16, 64), OPERAND(BATCH, 4, 64)}},
    {.op = ED_OP_CONCAT, .in = {OPERAND(BATCH, 4, 16, 16, 64), OPERAND(BATCH, 4, 16, 16, 128)}},
    {.op = ED_OP_SLICE, .in = {OPERAND(BATCH, 4, 16, 16, 128)}, .attr.slice = {0, 64}},
    {.op = ED_OP_UPSAMPLE, .in = {OPERAND(BATCH, 2, 8, 8, 128)}, .attr.resample = {2, 1}},
    {.op = ED_OP_POOL, .in = {OPERAND(BATCH, 2, 16, 16, 64)}, .attr.resample = {2, 0.25f}},
    {.op = ED_OP_MAX_POOL, .in = {OPERAND(BATCH, 2, 16, 16, 64)}},
    {.op = ED_OP_WINDOW_POOL,
     .in = {OPERAND(DATA, 1, 35, 35, 64)},
     .attr.window = {ED_WINDOW_MEAN, 3, 1, 1},
     .flags = NO_GRADIENT},
    {.op = ED_OP_Q_SAMPLE,
     .in = {OPERAND(DATA, 32, 16, 16, 3), OPERAND(DATA, 32, 16, 16, 3), OPERAND(DATA, 32, 2)},
     .flags = NO_GRADIENT},
    {.op = ED_OP_DIFFERENCE_LOSS, .in = {OPERAND(BATCH, 32, 16, 16, 3), OPERAND(DATA, 32, 16, 16, 3)}},
    {.op = ED_OP_DROPOUT, .in = {OPERAND(BATCH, 4, 16, 16, 64)}, .attr.dropout = {0.1f, 1}},
    {.op = ED_OP_QUANTIZE,
     .in = {OPERAND(BATCH, 2, 16, 16, 3), OPERAND(PARAM, 2048, 3)},
     .attr.quantize = {0.25f, 1},
     .seeded = 5},
    {.op = ED_OP_LPIPS_DISTANCE,
     .in = {ABOVE_ZERO(DATA, 2, 16, 16, 64), ABOVE_ZERO(BATCH, 2, 16, 16, 64), ABOVE_ZERO(FROZEN, 64)}},
};

/* Both as parts of the rule's bytes, where they are not 1; and why. */
static const struct note {
    int op;
    double touched, moved;
    const char *why;
} notes[] = {
    {ED_OP_GROUP_NORM, 1, 2.37,
     "x for the statistics and again for the map; gain, shift and scale one channel at a time at each position"},
    {ED_OP_LAYER_NORM, 1, 4.00, "x for mean, variance and map; gain and shift one channel at a time at each row"},
    {ED_OP_BATCH_NORM, 1, 2.16, "x for the statistics and again for the map"},
    {ED_OP_ATTENTION, 1, 1.97, "keys and values for each block of queries"},
    {ED_OP_ATTENTION_MAP, 1, 60.67,
     "each lane walks along a key of its own, 16 bytes at a time, and does so twice: from the caches"},
    {ED_OP_ADD_VECTOR, 1, 1.12, "the vector at each position"},
    {ED_OP_SLICE, 0.5, 0.50,
     "the rule counts all of x, of which a part is read: 64 of 192 channels and as many written"},
    {ED_OP_UPSAMPLE, 1, 1.60, "x for each of the four pixels that it becomes"},
    {ED_OP_WINDOW_POOL, 1, 4.80, "x for each of the nine windows that it is in"},
    {ED_OP_QUANTIZE, 1, 9.92, "the codebook for each block, z and the chosen code again for the loss"},
    {ED_OP_LPIPS_DISTANCE, 1, 3.04, "x and y for their lengths and for the distance"},
    {ED_OP_DROPOUT, 1, 1.10, "the run's numbers by each thread"},
    {ED_OP_GROUP_NORM_GRAD, 1, 2.91, "x and dy for the sums and for the map; gain, shift and scale at each position"},
    {ED_OP_LAYER_NORM_GRAD, 1, 3.73, "x and dy for the sums of a row, for dx, and for the gradients of gain and shift"},
    {ED_OP_BATCH_NORM_GRAD, 1, 2.52, "x and dy for the sums and for the map"},
    {ED_OP_ATTENTION_GRAD, 1, 3.05, "keys and values for each block of queries, and queries for each block of keys"},
    {ED_OP_MAX_POOL_GRAD, 0.9, 1.40, "x only as far as to the first maximum; y and dy for each pixel of a window"},
    {ED_OP_QUANTIZE_GRAD, 1, 48.0, "each code looks at the indices of all positions, so that its sum has one order"},
    {ED_OP_LPIPS_DISTANCE_GRAD, 1, 3.69, "x and y for their lengths, for sums and for the gradient"},
};

static struct note note_of(int op)
{
    for (size_t i = 0; i < ED_COUNT(notes); i++)
        if (notes[i].op == op) return notes[i];
    return (struct note){op, 1, 1, ""};
}

typedef struct sums {
    bool seen;
    ed_shape shape;
    double bytes, flops;                /* the rule's */
    double asked, moved, read, written; /* the trace's: by lanes; in sectors; each byte once */
    double passes, least_passes;        /* of the shared memory's banks */
    int kernels;
} sums;

static gpu device;
static ed_emulation_trace *trace;
static ed_emulation_traced *traced;
static ed_emulation_touched *touched;
static const ed_kernel *originals[ED_OP_COUNT];
static ed_kernel counted[ED_OP_COUNT];
static sums of_op[ED_OP_COUNT + 1]; /* the last: AdamW */

static void add_counts(sums *s)
{
    ed_emulation_counts c;
    ed_emulation_footprint f;
    for (int i = 0; traced(i, &c); i++) {
        s->asked += c.bytes;
        s->moved += 32 * c.sectors;
        s->passes += c.shared_passes;
        s->least_passes += c.shared_least;
        s->kernels++;
    }
    touched(&f);
    s->read += f.read;
    s->written += f.written;
}

/* In place of an operator's run: the same with the counters on, the first time that it runs. */
static encdiff_status run_counted(const ed_call *call)
{
    const ed_node *node = call->node;
    sums *s = &of_op[node->op];
    if (s->seen) return originals[node->op]->run(call);
    ed_cost cost = ed_op_cost(call->graph, node);
    ed_value first = node->in[0] == ED_NONE ? node->out[0] : node->in[0];
    *s = (sums){.seen = true, .shape = call->graph->values[first].shape, .bytes = cost.bytes, .flops = cost.flops};
    ED_TRY(call->backend->synchronise(call->backend, call->env));
    trace(1);
    ED_TRY(originals[node->op]->run(call));
    ED_TRY(call->backend->synchronise(call->backend, call->env));
    trace(0);
    add_counts(s);
    return ENCDIFF_OK;
}

static void count_operators(void)
{
    for (int op = 0; op < ED_OP_COUNT; op++) {
        if (!(originals[op] = device.backend->kernels[op])) continue;
        counted[op] = *originals[op];
        counted[op].run = run_counted;
        device.backend->kernels[op] = &counted[op];
    }
}

static void run_case(op_case c)
{
    const op_mode mode = {.backend = device.backend, .ranks = 1, .backward = !(c.flags & NO_GRADIENT)};
    float *data[ED_MAX_INPUTS];
    op_result result;
    c.name = ed_op_describe(c.op)->name; /* from which its numbers are made */
    if (CHECK_EQUAL(op_data_create(&device.env, &c, data), ENCDIFF_OK)) {
        encdiff_status status = op_run(&device.env, &c, &mode, data, &result);
        CHECK_THAT(status == ENCDIFF_OK, "%s: %s", ed_op_describe(c.op)->name, device.env.message);
        if (status == ENCDIFF_OK) op_result_free(&device.env, &result);
    }
    op_data_free(&device.env, data);
}

/* p, m, v, the average and g are read and written: ten floats a parameter. */
static void count_adamw(void)
{
    const size_t count = 1 << 16;
    const ed_adamw options = {2.5e-4f, 0.9f, 0.999f, 1e-8f, 0.01f, 0.271f, 0.002996f, 0.7f, 0.9999f};
    ed_backend *b = device.backend;
    ed_env *env = &device.env;
    float *there[5];
    sums *s = &of_op[ED_OP_COUNT];
    for (int i = 0; i < 5; i++) there[i] = b->allocate(b, env, count * sizeof(float));
    CHECK_EQUAL(b->synchronise(b, env), ENCDIFF_OK);
    *s = (sums){
        .seen = true, .shape = {1, {(int64_t)count}}, .bytes = 40.0 * (double)count, .flops = 18.0 * (double)count};
    trace(1);
    ed_span span = {there[0], there[1], there[2], there[3], &there[4], 1, 0, count};
    CHECK_EQUAL(b->adamw(b, env, &options, &span, 1), ENCDIFF_OK);
    CHECK_EQUAL(b->synchronise(b, env), ENCDIFF_OK);
    trace(0);
    add_counts(s);
    for (int i = 0; i < 5; i++) b->release(b, env, there[i]);
}

static const char *name_of(int op) { return op == ED_OP_COUNT ? "adamw" : ed_op_describe((ed_op)op)->name; }

static void print_row(int op, const sums *s)
{
    char shape[64];
    printf("| %s | %s | %.2f | %.3f | %.3f | %.3f | %.2f | %.0f%% | %d | ", name_of(op),
           ed_shape_text(&s->shape, shape), 1e-6 * s->flops, 1e-6 * s->bytes, 1e-6 * (s->read + s->written),
           1e-6 * s->moved, s->moved / s->bytes, 100 * s->asked / s->moved, s->kernels);
    if (s->least_passes > 0)
        printf("%.2f", s->passes / s->least_passes);
    else
        printf("-");
    printf(" | %s |\n", note_of(op).why);
}

static void check_row(int op, const sums *s)
{
    const struct note n = note_of(op);
    double touched_part = (s->read + s->written) / s->bytes, moved_part = s->moved / s->bytes;
    CHECK_THAT(fabs(touched_part - n.touched) <= 0.1 * n.touched,
               "%s touches %.3f of the rule's bytes, not %.3f within 10 %%", name_of(op), touched_part, n.touched);
    CHECK_THAT(fabs(moved_part - n.moved) <= 0.1 * n.moved,
               "%s moves %.3f of the rule's bytes in sectors of 32, not %.3f within 10 %%", name_of(op), moved_part,
               n.moved);
}

int main(int argc, char **argv)
{
    bool table = argc > 1 && strcmp(argv[1], "--table") == 0;
    test_start(1, argv);
    if (!gpu_open(&device)) return 77;
    gpu_symbol(&device, "encdiff_emulation_trace", &trace);
    gpu_symbol(&device, "encdiff_emulation_traced", &traced);
    gpu_symbol(&device, "encdiff_emulation_touched", &touched);
    if (!trace || !traced || !touched) {
        printf("SKIPPED: the plugin is not the checked emulation, which counts\n");
        gpu_close(&device);
        return 77;
    }
    count_operators();
    test_begin("what kernels move is what the cost rules say");
    for (size_t i = 0; i < ED_COUNT(cases); i++) run_case(cases[i]);
    count_adamw();
    if (table)
        printf("| operator | first operand | MFLOP | rule, MB | touched, MB | moved, MB | moved / rule | used | "
               "kernels | banks | |\n"
               "|---|---|---|---|---|---|---|---|---|---|---|\n");
    for (int op = 0; op <= ED_OP_COUNT; op++) {
        const sums *s = &of_op[op];
        if (!s->seen || s->moved == 0 || op == ED_OP_CONVERT) continue;
        if (table) print_row(op, s);
        check_row(op, s);
    }
    test_end();
    gpu_close(&device);
    return test_finish();
}
