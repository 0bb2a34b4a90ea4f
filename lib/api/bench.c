/* What a run costs: plans, memory, and the time of each operator. */
#include <stdlib.h>

#include "api/handles.h"
#include "model/place.h"
#include "train/stages.h"

/* ---------------------------------------------------------------- graphs of a run */

#define MAX_GRAPHS 2

typedef struct run_graphs {
    ed_graph graphs[MAX_GRAPHS];
    int count;
    int64_t images; /* that the first graph holds at once */
    int ranks;
} run_graphs;

static void free_graphs(run_graphs *g)
{
    for (int i = 0; i < g->count; i++) ed_graph_free(&g->graphs[i]);
}

/* The largest share of n images that a rank has. */
static int64_t share_of(const ed_team *team, int64_t n, int *ranks)
{
    *ranks = (int)ED_MIN(n, (int64_t)team->ranks);
    return (n + *ranks - 1) / *ranks;
}

static encdiff_status training_graphs(ed_env *env, const ed_team *team, ed_networks *networks, encdiff_run run,
                                      int64_t n, run_graphs *out)
{
    out->images = share_of(team, n, &out->ranks);
    if (run == ENCDIFF_RUN_TRAIN_ENCDIFF) {
        out->count = 2;
        return ed_stage_encdiff_graphs(team, networks, out->images, &out->graphs[0], &out->graphs[1]);
    }
    ed_autoencoder_kind kind = networks->config.autoencoder.kind;
    if (kind != ED_AE_VQ && kind != ED_AE_KL)
        return ed_fail(env, ENCDIFF_ERROR_UNSUPPORTED, "the configuration has no autoencoder to train");
    if (networks->config.train_autoencoder.perceptual_weight > 0) ED_TRY(ed_networks_add_lpips(networks));
    out->count = 1;
    return ed_stage_autoencoder_graph(env, networks, out->images, &out->graphs[0]);
}

static bool infer_kind(encdiff_run run, ed_infer_kind *kind)
{
    switch (run) {
    case ENCDIFF_RUN_ENCODE: *kind = ED_INFER_ENCODE; return true;
    case ENCDIFF_RUN_LATENTS: *kind = ED_INFER_LATENTS; return true;
    case ENCDIFF_RUN_DECODE: *kind = ED_INFER_DECODE_QUANTIZED; return true;
    case ENCDIFF_RUN_PREDICT: *kind = ED_INFER_PREDICT; return true;
    case ENCDIFF_RUN_TRAIN_AUTOENCODER:
    case ENCDIFF_RUN_TRAIN_ENCDIFF: break;
    }
    return false;
}

static encdiff_status graphs_of(ed_env *env, const ed_team *team, ed_networks *networks, encdiff_run run, int64_t n,
                                run_graphs *out)
{
    ed_infer_kind kind;
    *out = (run_graphs){.count = 0};
    if (!infer_kind(run, &kind)) return training_graphs(env, team, networks, run, n, out);
    share_of(team, n, &out->ranks);
    out->images = ed_infer_chunk(team, n, out->ranks);
    out->count = 1;
    return ed_infer_graph(env, networks, team->compute, kind, (int)out->images, &out->graphs[0]);
}

/* ---------------------------------------------------------------- memory */

static encdiff_status arenas_of(encdiff_model *m, const run_graphs *g, ed_plan plans[MAX_GRAPHS])
{
    ed_env *env = &m->context->env;
    for (int i = 0; i < g->count; i++)
        ED_TRY(ed_exec_plan_only(env, m->context->team->backend, (ed_graph *)(uintptr_t)&g->graphs[i], &plans[i]));
    return ENCDIFF_OK;
}

/* Moments and the ranks' gradients of what the stage trains. */
static uint64_t optimizer_bytes(const ed_networks *n, encdiff_run run, int ranks)
{
    ed_set sets[2] = {ED_SET_FIRST_STAGE, ED_SET_DISCRIMINATOR};
    if (run == ENCDIFF_RUN_TRAIN_ENCDIFF) sets[0] = ED_SET_UNET, sets[1] = ED_SET_ENCODER;
    if (run < ENCDIFF_RUN_TRAIN_AUTOENCODER) return 0;
    return (uint64_t)(n->sets[sets[0]].total + n->sets[sets[1]].total) * sizeof(float) * (uint64_t)(2 + ranks);
}

static encdiff_status memory_of(encdiff_model *m, encdiff_run run, int32_t n, uint64_t *bytes)
{
    run_graphs g;
    ed_plan plans[MAX_GRAPHS] = {{0}};
    ED_REQUIRE(m->context, run >= ENCDIFF_RUN_ENCODE && run <= ENCDIFF_RUN_TRAIN_ENCDIFF && n >= 1 && bytes);
    encdiff_status status = graphs_of(&m->context->env, m->context->team, ed_model_networks(m), run, n, &g);
    if (status == ENCDIFF_OK) status = arenas_of(m, &g, plans);
    *bytes = optimizer_bytes(ed_model_networks(m), run, g.ranks);
    for (int i = 0; i < MAX_GRAPHS; i++) {
        *bytes += (uint64_t)plans[i].arena * (uint64_t)g.ranks;
        ed_plan_free(&m->context->env, &plans[i]);
    }
    free_graphs(&g);
    return status;
}

encdiff_status encdiff_model_get_memory(encdiff_model *model, encdiff_run run, int32_t n, uint64_t *bytes)
{
    ED_API_BEGIN;
    return model ? memory_of(model, run, n, bytes) : ENCDIFF_ERROR_ARGUMENT;
}

/* ---------------------------------------------------------------- plans */

static encdiff_status print_shape(ed_env *env, ed_text *out, const ed_shape *s)
{
    ED_TRY(ed_text_add(env, out, "["));
    for (int i = 0; i < s->rank; i++) ED_TRY(ed_text_add(env, out, i ? ", %lld" : "%lld", (long long)s->dim[i]));
    return ed_text_add(env, out, "]");
}

/* "inputs": [{"value": 3, "shape": [..], "offset": 64}, ...]; an offset of -1 is a parameter. */
static encdiff_status print_values(ed_env *env, ed_text *out, const char *name, const ed_graph *g, const ed_plan *plan,
                                   const ed_value *values, int count)
{
    bool first = true;
    ED_TRY(ed_text_add(env, out, ", \"%s\": [", name));
    for (int i = 0; i < count; i++) {
        if (values[i] == ED_NONE) continue;
        size_t offset = plan->offsets[values[i]];
        ED_TRY(ed_text_add(env, out, "%s{\"value\": %d, \"offset\": %lld, \"shape\": ", first ? "" : ", ",
                           (int)values[i], offset == SIZE_MAX ? -1LL : (long long)offset));
        ED_TRY(print_shape(env, out, ed_graph_shape(g, values[i])));
        ED_TRY(ed_text_add(env, out, "}"));
        first = false;
    }
    return ed_text_add(env, out, "]");
}

static encdiff_status print_graph(ed_env *env, ed_text *out, const ed_graph *g, const ed_plan *plan)
{
    ED_TRY(ed_text_add(env, out, "{\"arena\": %zu, \"lower_bound\": %zu, \"operators\": [", plan->arena,
                       plan->lower_bound));
    for (size_t i = 0; i < g->node_count; i++) {
        const ed_node *node = &g->nodes[i];
        ed_cost cost = ed_op_cost(g, node);
        ED_TRY(ed_text_add(env, out, "%s\n  {\"operator\": \"%s\", \"flops\": %.0f, \"bytes\": %.0f, \"scratch\": %lld",
                           i ? "," : "", ed_op_describe(node->op)->name, cost.flops, cost.bytes,
                           (long long)node->scratch));
        ED_TRY(print_values(env, out, "inputs", g, plan, node->in, ED_MAX_INPUTS));
        ED_TRY(print_values(env, out, "outputs", g, plan, node->out, ED_MAX_OUTPUTS));
        ED_TRY(ed_text_add(env, out, "}"));
    }
    return ed_text_add(env, out, "]}");
}

static encdiff_status print_plan(encdiff_model *m, const run_graphs *g, const ed_plan *plans, ed_text *out)
{
    ed_env *env = &m->context->env;
    ED_TRY(ed_text_add(env, out, "{\"ranks\": %d, \"images\": %lld, \"graphs\": [", g->ranks, (long long)g->images));
    for (int i = 0; i < g->count; i++) {
        if (i) ED_TRY(ed_text_add(env, out, ",\n"));
        ED_TRY(print_graph(env, out, &g->graphs[i], &plans[i]));
    }
    return ed_text_add(env, out, "]}\n");
}

static encdiff_status plan_of(encdiff_model *m, encdiff_run run, int32_t n, char **json)
{
    run_graphs g;
    ed_text text = {0};
    ed_plan plans[MAX_GRAPHS] = {{0}};
    ED_REQUIRE(m->context, run >= ENCDIFF_RUN_ENCODE && run <= ENCDIFF_RUN_TRAIN_ENCDIFF && n >= 1 && json);
    *json = NULL;
    encdiff_status status = graphs_of(&m->context->env, m->context->team, ed_model_networks(m), run, n, &g);
    if (status == ENCDIFF_OK) status = arenas_of(m, &g, plans);
    if (status == ENCDIFF_OK) status = print_plan(m, &g, plans, &text);
    if (status == ENCDIFF_OK)
        *json = text.data;
    else
        ed_text_free(&m->context->env, &text);
    for (int i = 0; i < MAX_GRAPHS; i++) ed_plan_free(&m->context->env, &plans[i]);
    free_graphs(&g);
    return status;
}

encdiff_status encdiff_model_get_plan(encdiff_model *model, encdiff_run run, int32_t n, char **json)
{
    ED_API_BEGIN;
    return model ? plan_of(model, run, n, json) : ENCDIFF_ERROR_ARGUMENT;
}

/* ---------------------------------------------------------------- time per operator */

#define MAX_RUNS 64

void encdiff_bench_options_init(encdiff_bench_options *options, size_t struct_size)
{
    ed_api_init_options(options, struct_size);
}

typedef struct bench {
    encdiff_context *context;
    encdiff_bench_options options;
    ed_networks networks;
    float *grads[ED_SET_COUNT];
    ed_text text;
    bool first;
    encdiff_progress progress;
    void *user;
} bench;

/* Names in a comma-separated list. */
static bool listed(const char *list, const char *name)
{
    size_t n = strlen(name);
    for (const char *at = list; (at = strstr(at, name)); at += n)
        if ((at == list || at[-1] == ',') && (!at[n] || at[n] == ',')) return true;
    return false;
}

static encdiff_status check_names(bench *b)
{
    const char *list = b->options.operators;
    for (const char *at = list; at && *at;) {
        size_t n = strcspn(at, ",");
        bool known = false;
        for (int op = 0; op < ED_OP_COUNT; op++) {
            const char *name = ed_op_describe((ed_op)op)->name;
            known |= strlen(name) == n && strncmp(name, at, n) == 0;
        }
        if (!known) return ed_fail(&b->context->env, ENCDIFF_ERROR_NOT_FOUND, "\"%.*s\" is no operator", (int)n, at);
        at += n + (at[n] == ',');
    }
    return ENCDIFF_OK;
}

static bool same_case(const ed_graph *g, const ed_node *a, const ed_node *b)
{
    if (a->op != b->op || ed_op_type(g, a) != ed_op_type(g, b)) return false;
    if (a->op == ED_OP_CONVERT && a->attr.typed.type != b->attr.typed.type) return false;
    for (int i = 0; i < ED_MAX_INPUTS; i++) {
        if ((a->in[i] == ED_NONE) != (b->in[i] == ED_NONE)) return false;
        if (a->in[i] != ED_NONE && !ed_shape_equal(ed_graph_shape(g, a->in[i]), ed_graph_shape(g, b->in[i])))
            return false;
    }
    return true;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, ascending);
    return values[count / 2];
}

static encdiff_status print_case(bench *b, const char *run, const ed_graph *g, const ed_node *node, int count,
                                 double seconds)
{
    ed_env *env = &b->context->env;
    ed_cost cost = ed_op_cost(g, node);
    ED_TRY(ed_text_add(env, &b->text, "%s\n{\"run\": \"%s\", \"operator\": \"%s\", \"shape\": ", b->first ? "" : ",",
                       run, ed_op_describe(node->op)->name));
    b->first = false;
    ED_TRY(ed_text_add(env, &b->text, "["));
    bool first = true;
    for (int i = 0; i < ED_MAX_INPUTS; i++) {
        if (node->in[i] == ED_NONE) continue;
        if (!first) ED_TRY(ed_text_add(env, &b->text, ", "));
        ED_TRY(print_shape(env, &b->text, ed_graph_shape(g, node->in[i])));
        first = false;
    }
    return ed_text_add(env, &b->text, "], \"count\": %d, \"seconds\": %.9g, \"flops\": %.0f, \"bytes\": %.0f}", count,
                       seconds, cost.flops, cost.bytes);
}

/* Nodes of the same operator and shapes are one case: its seconds are the median over all of them and all runs. */
static encdiff_status print_cases(bench *b, const char *run, const ed_graph *g, const double *times, int runs,
                                  double *work, bool *done)
{
    memset(done, 0, g->node_count * sizeof *done);
    for (size_t i = 0; i < g->node_count; i++) {
        const ed_node *node = &g->nodes[i];
        const char *name = ed_op_describe(node->op)->name;
        if (done[i] || node->op == ED_OP_RESHAPE || (b->options.operators && !listed(b->options.operators, name)))
            continue;
        int count = 0, samples = 0;
        for (size_t k = i; k < g->node_count; k++) {
            if (done[k] || !same_case(g, node, &g->nodes[k])) continue;
            done[k] = true;
            count++;
            for (int r = 0; r < runs; r++) work[samples++] = times[(size_t)r * g->node_count + k];
        }
        ED_TRY(print_case(b, run, g, node, count, median(work, samples)));
    }
    return ENCDIFF_OK;
}

/* Numbers that no operator chokes on: uniform in [-1, 1); timesteps and indices are as good. */
static encdiff_status fill_input(ed_env *env, ed_exec *exec, ed_value value, size_t count)
{
    float *data = ed_alloc_raw(env, ED_MAX(count, 1) * sizeof *data);
    if (!data) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    ed_fill_uniform(0, ED_RANDOM_DATA, (uint64_t)value, 0, count, data);
    for (size_t k = 0; k < count; k++) data[k] = 2 * data[k] - 1;
    encdiff_status status = ed_exec_write(env, exec, value, data, count * sizeof *data);
    ed_free(env, data);
    return status;
}

static encdiff_status fill_inputs(ed_env *env, const ed_graph *g, ed_exec *exec)
{
    for (size_t i = 0; i < g->value_count; i++)
        if (g->values[i].storage == ED_INPUT && g->values[i].type == ED_F32)
            ED_TRY(fill_input(env, exec, (ed_value)i, (size_t)ed_shape_count(&g->values[i].shape)));
    return ENCDIFF_OK;
}

static encdiff_status bind_all(bench *b, ed_exec *exec)
{
    for (int set = 0; set < ED_SET_COUNT; set++) {
        float *values;
        ED_TRY(ed_networks_place(b->context->team, &b->networks, (ed_set)set, false, &values));
        ed_exec_bind(exec, set, values, b->grads[set], 2);
    }
    return ENCDIFF_OK;
}

/* On this thread, with the arithmetic that a team's ranks have. */
static encdiff_status run_once(bench *b, ed_exec *exec)
{
    unsigned before = ed_float_enter(ED_FLUSH_DENORMALS);
    encdiff_status status = ed_exec_run(&b->context->env, exec, NULL, 0, -1);
    ed_float_leave(before);
    return status;
}

static encdiff_status time_runs(bench *b, ed_exec *exec, const ed_graph *g, double *times, int *runs)
{
    double start = ed_now(), limit = 20 * b->options.seconds;
    ED_TRY(run_once(b, exec)); /* warm-up: weights are brought into the kernels' formats */
    for (*runs = 0; *runs < MAX_RUNS && (*runs < 3 || ed_now() - start < limit); ++*runs) {
        ED_TRY(ed_check_cancel(&b->context->env));
        ed_exec_profile(exec, true);
        ED_TRY(run_once(b, exec));
        memcpy(times + (size_t)*runs * g->node_count, ed_exec_times(exec), g->node_count * sizeof *times);
    }
    return ENCDIFF_OK;
}

static encdiff_status time_graph(bench *b, const char *run, ed_graph *g)
{
    ed_env *env = &b->context->env;
    ed_exec *exec = NULL;
    int runs = 0;
    double *times = NULL, *work = NULL;
    bool *done = NULL;
    encdiff_status status = ed_exec_create(env, b->context->team->backend, g, &exec);
    if (status != ENCDIFF_OK) return status;
    times = ed_alloc(env, g->node_count * MAX_RUNS, sizeof *times);
    work = ed_alloc(env, g->node_count * MAX_RUNS, sizeof *work);
    done = ed_alloc(env, g->node_count, sizeof *done);
    status = times && work && done ? ENCDIFF_OK : ENCDIFF_ERROR_OUT_OF_MEMORY;
    if (status == ENCDIFF_OK) status = bind_all(b, exec);
    if (status == ENCDIFF_OK) status = fill_inputs(env, g, exec);
    if (status == ENCDIFF_OK) status = time_runs(b, exec, g, times, &runs);
    if (status == ENCDIFF_OK) status = print_cases(b, run, g, times, runs, work, done);
    ed_free(env, done);
    ed_free(env, work);
    ed_free(env, times);
    ed_exec_free(exec);
    return status;
}

static encdiff_status bench_runs(bench *b)
{
    static const struct {
        encdiff_run run;
        const char *name;
    } runs[] = {{ENCDIFF_RUN_TRAIN_ENCDIFF, "train_encdiff"},
                {ENCDIFF_RUN_LATENTS, "latents"},
                {ENCDIFF_RUN_DECODE, "decode"},
                {ENCDIFF_RUN_ENCODE, "encode"},
                {ENCDIFF_RUN_PREDICT, "predict"}};
    for (size_t i = 0; i < ED_COUNT(runs); i++) {
        run_graphs g;
        encdiff_status status = graphs_of(&b->context->env, b->context->team, &b->networks, runs[i].run,
                                          b->options.batch, &g);
        for (int k = 0; k < g.count && status == ENCDIFF_OK; k++)
            if (g.graphs[k].node_count) status = time_graph(b, runs[i].name, &g.graphs[k]);
        free_graphs(&g);
        ED_TRY(status);
        encdiff_progress_info info = {
            .struct_size = sizeof info, .activity = "timing", .done = (int64_t)i + 1, .total = ED_COUNT(runs)};
        if (b->progress && b->progress(&info, b->user))
            return ed_fail(&b->context->env, ENCDIFF_CANCELLED, "stopped by the progress callback");
    }
    return ENCDIFF_OK;
}

static encdiff_status run_bench(bench *b)
{
    ed_env *env = &b->context->env;
    ed_config config;
    ED_TRY(check_names(b));
    ED_TRY(ed_config_resolve(env, b->options.config ? b->options.config : "shapes3d-official", NULL, 0, &config));
    ED_TRY(ed_networks_create(env, &config, 0, &b->networks));
    for (int set = 0; set < ED_SET_COUNT; set++) {
        ed_backend *backend = b->context->team->backend;
        b->grads[set] = backend->allocate(backend, env, ED_MAX(b->networks.sets[set].total, 1) * sizeof(float));
        if (!b->grads[set]) return env->status;
    }
    ED_TRY(ed_text_add(env, &b->text, "["));
    ED_TRY(bench_runs(b));
    return ed_text_add(env, &b->text, "\n]\n");
}

encdiff_status encdiff_context_bench(encdiff_context *context, const encdiff_bench_options *options, char **json,
                                     encdiff_progress progress, void *user)
{
    ED_API_BEGIN;
    if (!context) return ENCDIFF_ERROR_ARGUMENT;
    ED_REQUIRE(context, json);
    *json = NULL;
    bench b = {.context = context, .first = true, .progress = progress, .user = user};
    ED_TRY(ed_api_read_options(context, __func__, &b.options, sizeof b.options, options));
    ED_REQUIRE(context, b.options.batch >= 0 && b.options.seconds >= 0);
    if (!b.options.batch) b.options.batch = 32;
    if (!(b.options.seconds > 0)) b.options.seconds = 0.2;
    encdiff_status status = run_bench(&b);
    ed_backend *backend = context->team->backend;
    for (int set = 0; set < ED_SET_COUNT; set++)
        if (b.grads[set]) backend->release(backend, &context->env, b.grads[set]);
    ed_networks_forget(context->team, &b.networks);
    ed_networks_free(&b.networks);
    if (status == ENCDIFF_OK)
        *json = b.text.data;
    else
        ed_text_free(&context->env, &b.text);
    return ed_api_done(context, status);
}
