/* Graphs per kind and chunk size, an execution of each per rank, or one that all ranks run together. */
#include "model/infer.h"
#include "model/place.h"
#include "model/weights.h"

#define MAX_PROGRAMS 24 /* graphs kept; the least recently used makes room */
#define MAX_PARTS 16    /* of an operator: the barriers between operators grow with them, what they divide shrinks */

/* A graph for one chunk size. */
typedef struct program {
    ed_infer_kind kind;
    int chunk, parts; /* parts > 1: all ranks run execution 0 together */
    uint64_t used;
    ed_graph graph;
    ed_value inputs[3], outputs[ED_INFER_MAX_OPERANDS];
    int input_count, output_count;
    ed_map_list maps;
    ed_exec **execs; /* one per rank, or the first alone; made when needed */
} program;

struct ed_infer {
    ed_team *team;
    ed_networks *networks;
    ed_packs *packs; /* of all programs */
    bool use_ema;
    uint64_t clock;
    program *programs[MAX_PROGRAMS];
};

encdiff_status ed_infer_create(ed_team *team, ed_networks *networks, ed_infer **out)
{
    *out = ed_alloc(team->env, 1, sizeof **out);
    if (!*out) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    (*out)->team = team;
    (*out)->networks = networks;
    encdiff_status status = ed_packs_create(team->env, &(*out)->packs);
    if (status != ENCDIFF_OK) {
        ed_free(team->env, *out);
        *out = NULL;
    }
    return status;
}

static void free_program(ed_infer *infer, program *p)
{
    if (!p) return;
    for (int r = 0; p->execs && r < infer->team->ranks; r++) ed_exec_free(p->execs[r]);
    ed_free(infer->team->env, p->execs);
    ed_graph_free(&p->graph);
    ed_free(infer->team->env, p);
}

void ed_infer_free(ed_infer *infer)
{
    if (!infer) return;
    for (int i = 0; i < MAX_PROGRAMS; i++) free_program(infer, infer->programs[i]);
    ed_packs_free(infer->packs);
    ed_networks_forget(infer->team, infer->networks);
    ed_free(infer->team->env, infer);
}

void ed_infer_use_ema(ed_infer *infer, bool use) { infer->use_ema = use; }

/* ---------------------------------------------------------------- graphs */

static ed_value input(program *p, const char *name, ed_shape shape)
{
    return p->inputs[p->input_count++] = ed_graph_input(&p->graph, name, shape, ED_F32, false);
}

static void output(program *p, ed_value value)
{
    ed_graph_output(&p->graph, value);
    p->outputs[p->output_count++] = value;
}

static ed_value image_input(program *p, const ed_config *c)
{
    return input(p, "images", ED_SHAPE4(p->chunk, c->image.resolution, c->image.resolution, 3));
}

static ed_value latent_input(program *p, const ed_config *c)
{
    int size = ed_config_latent_size(c);
    return input(p, "latents", ED_SHAPE4(p->chunk, size, size, ed_config_latent_channels(c)));
}

static void build_encode(ed_networks *n, program *p)
{
    ed_nn nn = ed_networks_nn(n, &p->graph, ED_SET_ENCODER, false);
    ed_value scalars = p->kind == ED_INFER_TOKENS
                           ? input(p, "scalars", ED_SHAPE2(p->chunk, n->config.encoder.latent_unit))
                           : ed_concept_scalars(&nn, &n->config, image_input(p, &n->config));
    if (p->kind == ED_INFER_ENCODE) output(p, scalars);
    output(p, ed_concept_tokens(&nn, &n->config, scalars));
}

static void build_latents(ed_networks *n, program *p)
{
    ed_nn nn = ed_networks_nn(n, &p->graph, ED_SET_FIRST_STAGE, false);
    ed_value z = ed_autoencoder_encode(&nn, &n->config, image_input(p, &n->config));
    if (p->kind == ED_INFER_LATENTS && n->config.autoencoder.kind == ED_AE_KL)
        z = ed_slice(&p->graph, z, 0, ed_config_latent_channels(&n->config));
    output(p, z);
}

static void build_decode(ed_networks *n, program *p)
{
    ed_nn nn = ed_networks_nn(n, &p->graph, ED_SET_FIRST_STAGE, false);
    ed_value z = latent_input(p, &n->config), quantized[3];
    if (p->kind != ED_INFER_DECODE && n->config.autoencoder.kind == ED_AE_VQ) {
        ed_autoencoder_quantize(&nn, &n->config, z, quantized);
        z = quantized[0];
    }
    output(p, p->kind == ED_INFER_QUANTIZE ? z : ed_autoencoder_decode(&nn, &n->config, z));
}

static void build_predict(ed_networks *n, program *p)
{
    const ed_config *c = &n->config;
    ed_nn nn = ed_networks_nn(n, &p->graph, ED_SET_UNET, false);
    ed_value x = latent_input(p, c), t = input(p, "timesteps", ED_SHAPE1(p->chunk));
    ed_value tokens = input(p, "tokens", ED_SHAPE3(p->chunk, c->encoder.latent_unit, c->encoder.context_dim));
    output(p, ed_unet(&nn, c, x, t, tokens, p->kind == ED_INFER_MAPS ? &p->maps : NULL));
    for (int i = 0; i < p->maps.count; i++) output(p, p->maps.maps[i]);
}

static void build(ed_networks *n, program *p)
{
    switch (p->kind) {
    case ED_INFER_ENCODE:
    case ED_INFER_TOKENS: build_encode(n, p); break;
    case ED_INFER_LATENTS:
    case ED_INFER_MOMENTS: build_latents(n, p); break;
    case ED_INFER_DECODE:
    case ED_INFER_DECODE_QUANTIZED:
    case ED_INFER_QUANTIZE: build_decode(n, p); break;
    case ED_INFER_PREDICT:
    case ED_INFER_MAPS: build_predict(n, p); break;
    case ED_INFER_KINDS: break;
    }
}

static encdiff_status get_program(ed_infer *infer, ed_infer_kind kind, int chunk, int parts, program **out)
{
    int slot = 0;
    for (int i = 0; i < MAX_PROGRAMS; i++) {
        program *p = infer->programs[i];
        if (p && p->kind == kind && p->chunk == chunk && p->parts == parts) {
            p->used = ++infer->clock;
            *out = p;
            return ENCDIFF_OK;
        }
        uint64_t used = p ? p->used : 0, lowest = infer->programs[slot] ? infer->programs[slot]->used : 0;
        if (used < lowest) slot = i;
    }
    ed_env *env = infer->team->env;
    program *p = ed_alloc(env, 1, sizeof *p);
    if (!p) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    p->kind = kind;
    p->chunk = chunk;
    p->parts = parts;
    p->used = ++infer->clock;
    ed_graph_init(&p->graph, env);
    p->graph.compute = parts > 1 ? ED_F32 : infer->team->compute; /* bf16 saves nothing there */
    build(infer->networks, p);
    encdiff_status status = p->graph.status;
    if (status == ENCDIFF_OK && !(p->execs = ed_alloc(env, (size_t)infer->team->ranks, sizeof *p->execs)))
        status = ENCDIFF_ERROR_OUT_OF_MEMORY;
    if (status != ENCDIFF_OK) {
        free_program(infer, p);
        return status;
    }
    free_program(infer, infer->programs[slot]);
    *out = infer->programs[slot] = p;
    return ENCDIFF_OK;
}

static ed_set set_of(ed_infer_kind kind)
{
    switch (kind) {
    case ED_INFER_ENCODE:
    case ED_INFER_TOKENS: return ED_SET_ENCODER;
    case ED_INFER_PREDICT:
    case ED_INFER_MAPS: return ED_SET_UNET;
    default: return ED_SET_FIRST_STAGE;
    }
}

/* Raw values and averages are told apart by the version's lowest bit, so that kernels renew what they derived. */
static encdiff_status bind(ed_infer *infer, ed_exec *exec, ed_set set)
{
    ed_networks *n = infer->networks;
    bool ema = infer->use_ema && n->averages[set];
    float *values;
    ED_TRY(ed_networks_place(infer->team, n, set, ema, &values));
    ed_exec_bind(exec, (int)set, values, NULL, 2 * n->sets[set].version + ema);
    return ENCDIFF_OK;
}

static encdiff_status prepare_rank(ed_infer *infer, program *p, int rank)
{
    ed_team *team = infer->team;
    if (!p->execs[rank])
        ED_TRY(ed_exec_create_in(team->env, &team->workspaces[rank], &p->graph, p->parts, &p->execs[rank]));
    ED_TRY(bind(infer, p->execs[rank], set_of(p->kind)));
    return ed_exec_pack(team->env, p->execs[rank], infer->packs);
}

/* ---------------------------------------------------------------- running */

typedef struct job {
    ed_infer *infer;
    program *program;
    int ranks;
    int64_t n;
    const float *const *inputs;
    float *const *outputs;
} job;

static size_t item_size(const program *p, ed_value value)
{
    const ed_shape *shape = ed_graph_shape(&p->graph, value);
    return (size_t)(ed_shape_count(shape) / shape->dim[0]);
}

/* Images at .. at+count-1; a short last chunk leaves old data in the rest, whose results nobody reads. */
static encdiff_status write_chunk(ed_env *env, const job *j, ed_exec *exec, int64_t at, int64_t count)
{
    const program *p = j->program;
    for (int i = 0; i < p->input_count; i++) {
        size_t item = item_size(p, p->inputs[i]);
        ED_TRY(ed_exec_write(env, exec, p->inputs[i], j->inputs[i] + (size_t)at * item,
                             (size_t)count * item * sizeof(float)));
    }
    return ENCDIFF_OK;
}

static encdiff_status read_chunk(ed_env *env, const job *j, ed_exec *exec, int64_t at, int64_t count)
{
    const program *p = j->program;
    for (int i = 0; i < p->output_count; i++) {
        size_t item = item_size(p, p->outputs[i]);
        if (!j->outputs[i]) continue;
        ED_TRY(ed_exec_read(env, exec, p->outputs[i], j->outputs[i] + (size_t)at * item,
                            (size_t)count * item * sizeof(float)));
    }
    return ENCDIFF_OK;
}

static encdiff_status run_rank(ed_env *env, void *argument, int rank)
{
    const job *j = argument;
    int64_t first, last, chunk = j->program->chunk;
    ed_shard(j->n, j->ranks, rank, &first, &last);
    for (int64_t at = first; at < last; at += chunk) {
        ED_TRY(ed_check_cancel(env));
        ed_exec *exec = j->program->execs[rank];
        int64_t count = ED_MIN(chunk, last - at);
        ED_TRY(write_chunk(env, j, exec, at, count));
        ED_TRY(ed_exec_run(env, exec, NULL, 0, -1));
        ED_TRY(read_chunk(env, j, exec, at, count));
    }
    return ENCDIFF_OK;
}

static encdiff_status run_part(ed_env *env, void *argument, int rank)
{
    const job *j = argument;
    const program *p = j->program;
    return ed_exec_run_part(env, p->execs[0], rank, j->infer->team->comm[p->parts]);
}

/* Chunk by chunk, each on all ranks together. */
static encdiff_status run_together(job *j)
{
    ed_team *team = j->infer->team;
    ed_exec *exec = j->program->execs[0];
    int64_t chunk = j->program->chunk;
    for (int64_t at = 0; at < j->n; at += chunk) {
        int64_t count = ED_MIN(chunk, j->n - at);
        ED_TRY(ed_check_cancel(team->env));
        ED_TRY(write_chunk(team->env, j, exec, at, count));
        ED_TRY(ed_team_run(team, j->program->parts, run_part, j));
        ED_TRY(read_chunk(team->env, j, exec, at, count));
    }
    return ENCDIFF_OK;
}

/* The largest share in equal chunks of at most as many images as the backend likes. */
int ed_infer_chunk(const ed_team *team, int64_t n, int ranks)
{
    int most = team->backend->images;
    int64_t share = (n + ranks - 1) / ranks, pieces = (share + most - 1) / most;
    return (int)((share + pieces - 1) / pieces);
}

/* Fewer images than ranks are not dealt out. A device has one rank. */
static int parts_of(const ed_infer *infer, int64_t n)
{
    int parts = ED_MIN(infer->team->ranks, MAX_PARTS);
    return n < parts ? parts : 1;
}

encdiff_status ed_infer_run(ed_infer *infer, ed_infer_kind kind, int64_t n, const float *const *inputs,
                            float *const *outputs)
{
    if (n < 1)
        return ed_fail(infer->team->env, ENCDIFF_ERROR_SHAPE, "%lld images: at least one is needed", (long long)n);
    int parts = parts_of(infer, n), ranks = parts > 1 ? 1 : (int)ED_MIN(n, (int64_t)infer->team->ranks);
    job j = {.infer = infer, .ranks = ranks, .n = n, .inputs = inputs, .outputs = outputs};
    ED_TRY(get_program(infer, kind, ed_infer_chunk(infer->team, n, ranks), parts, &j.program));
    ED_TRY(ed_networks_need(infer->networks, set_of(kind)));
    for (int r = 0; r < ranks; r++) ED_TRY(prepare_rank(infer, j.program, r));
    if (parts > 1) return run_together(&j);
    return ed_team_run(infer->team, ranks, run_rank, &j);
}

encdiff_status ed_infer_map_sizes(ed_infer *infer, int *count, int sizes[ED_MAX_MAPS])
{
    program *p;
    ED_TRY(get_program(infer, ED_INFER_MAPS, 1, parts_of(infer, 1), &p));
    *count = p->maps.count;
    memcpy(sizes, p->maps.sizes, (size_t)p->maps.count * sizeof *sizes);
    return ENCDIFF_OK;
}

encdiff_status ed_infer_graph(ed_env *env, ed_networks *networks, ed_type compute, ed_infer_kind kind, int chunk,
                              ed_graph *graph)
{
    program p = {.kind = kind, .chunk = chunk};
    ed_graph_init(&p.graph, env);
    p.graph.compute = compute;
    build(networks, &p);
    *graph = p.graph;
    return graph->status;
}
