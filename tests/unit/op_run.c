/* One operator in a graph, run whole or divided over ranks. */
#include <math.h>

#include "graph/build.h"
#include "op_run.h"

/* ---------------------------------------------------------------- operands */

static bool is_divided(operand_kind kind) { return kind == BATCH || kind == DATA; }
static bool is_parameter(operand_kind kind) { return kind == PARAM || kind == FROZEN || kind == RUNNING; }
static bool gets_gradient(operand_kind kind) { return kind == BATCH || kind == SHARED || kind == PARAM; }

/* Where the next parameter begins: close behind on the host; on a device aligned, as the parameters of a model are. */
static size_t parameter_size(const ed_backend *backend, size_t count)
{
    return backend->host_memory ? count : (count + 15) / 16 * 16;
}

static size_t operand_count(const op_case *c, int i) { return (size_t)ed_shape_count(&c->in[i].shape); }

int64_t op_images(const op_case *c)
{
    for (int i = 0; i < ED_MAX_INPUTS; i++)
        if (is_divided(c->in[i].kind)) return c->in[i].shape.dim[0];
    return c->given.rank ? c->given.dim[0] : 1;
}

/* Numbers are a function of the case's name, so that a case keeps its numbers when others come and go. */
static uint64_t seed_of(const op_case *c)
{
    uint64_t hash = 14695981039346656037u + (uint64_t)c->op;
    for (const char *p = c->name; *p; p++) hash = (hash ^ (unsigned char)*p) * 1099511628211u;
    return hash;
}

static float filled(const operand *o, uint64_t seed, int i, uint64_t item, float u)
{
    float low = o->low, high = o->high;
    if (low == 0 && high == 0) low = -1, high = 1;
    switch (o->fill) {
    case UNIFORM: return low + (high - low) * u;
    case APART: {
        float magnitude = low + (high - low) * u;
        return ed_below(seed, ED_RANDOM_INIT, (uint64_t)i, item, 2) ? magnitude : -magnitude;
    }
    case DISTINCT: {
        uint64_t count = (uint64_t)ed_shape_count(&o->shape);
        uint64_t place = ed_permute(seed, ED_RANDOM_SHUFFLE, (uint64_t)i, item, count);
        return low + (high - low) * (float)place / (float)ED_MAX(count - 1, 1);
    }
    case WHOLE: return floorf(low + (high - low) * u);
    }
    return 0;
}

encdiff_status op_data_create(ed_env *env, const op_case *c, float *data[ED_MAX_INPUTS])
{
    uint64_t seed = seed_of(c);
    for (int i = 0; i < ED_MAX_INPUTS; i++) data[i] = NULL;
    for (int i = 0; i < ED_MAX_INPUTS; i++) {
        if (c->in[i].kind == ABSENT) continue;
        data[i] = ed_alloc(env, operand_count(c, i), sizeof(float));
        if (!data[i]) return ENCDIFF_ERROR_OUT_OF_MEMORY;
        ed_fill_uniform(seed, ED_RANDOM_DATA, (uint64_t)i, 0, operand_count(c, i), data[i]);
        for (size_t k = 0; k < operand_count(c, i); k++) data[i][k] = filled(&c->in[i], seed, i, k, data[i][k]);
    }
    if (c->tune) c->tune(c, data);
    return ENCDIFF_OK;
}

void op_data_free(ed_env *env, float *data[ED_MAX_INPUTS])
{
    for (int i = 0; i < ED_MAX_INPUTS; i++) ed_free(env, data[i]);
}

void op_seed(const op_case *c, int output, size_t first, size_t count, float *seed)
{
    ed_fill_uniform(seed_of(c), ED_RANDOM_DATA, 100 + (uint64_t)(output + 1), first, count, seed);
    for (size_t i = 0; i < count; i++) seed[i] = 2 * seed[i] - 1;
}

bool op_seeded(const op_case *c, int output) { return (c->seeded ? c->seeded : 1) >> output & 1; }

/* ---------------------------------------------------------------- one rank's graph */

typedef struct part {
    const op_case *c;
    const op_mode *mode;
    int together;        /* threads that run this graph */
    int64_t first, last; /* images */
    ed_env env;
    ed_graph graph;
    ed_exec *exec;
    ed_packs *packs;
    ed_value operand[ED_MAX_INPUTS], out[ED_MAX_OUTPUTS], grad[ED_MAX_INPUTS];
    ed_value read[ED_MAX_OUTPUTS];     /* the outputs in f32 */
    ed_value seed[ED_MAX_OUTPUTS + 1]; /* of the outputs, then of input 0 */
    float *grads;
    ed_run run;
    encdiff_status status;
} part;

/* The rank's share of a shape whose first dimension are the images. */
static ed_shape share(const part *p, ed_shape shape)
{
    shape.dim[0] = shape.dim[0] / op_images(p->c) * (p->last - p->first);
    return shape;
}

/* An input in the type that the run gives the operator's activations, which may be another value. */
static ed_value typed(part *p, ed_value value, ed_type type)
{
    value = ed_convert(&p->graph, value, type);
    if (!p->mode->staged || value == ED_NONE) return value;
    ed_attributes attr = {.scale = {1}};
    return ed_graph_node(&p->graph, ED_OP_SCALE, &value, &attr, NULL, NULL);
}

static ed_value add_operand(part *p, int i, size_t offset)
{
    const operand *o = &p->c->in[i];
    if (o->kind == ABSENT) return ED_NONE;
    if (is_parameter(o->kind))
        return ed_graph_param(&p->graph, "parameter", o->shape, 0, offset, o->kind == PARAM && p->mode->backward);
    ed_shape shape = is_divided(o->kind) ? share(p, o->shape) : o->shape;
    return ed_graph_input(&p->graph, "input", shape, ED_F32, gets_gradient(o->kind) && p->mode->backward);
}

static void add_backward(part *p, ed_value first_input)
{
    ed_graph *g = &p->graph;
    ed_value values[ED_MAX_OUTPUTS + 1], seeds[ED_MAX_OUTPUTS + 1];
    int count = 0;
    for (int k = 0; k <= ED_MAX_OUTPUTS && g->status == ENCDIFF_OK; k++) {
        bool input = k == ED_MAX_OUTPUTS;
        ed_value value = input ? first_input : p->out[k];
        if (input ? !(p->c->flags & SEED_INPUT) : value == ED_NONE || !op_seeded(p->c, k)) continue;
        p->seed[k] = ed_graph_input(g, "seed", *ed_graph_shape(g, value), ED_F32, false);
        values[count] = value;
        seeds[count++] = typed(p, p->seed[k], ed_graph_value(g, value)->type);
    }
    ed_graph_backward(g, count, values, seeds);
    for (int i = 0; i < ED_MAX_INPUTS && g->status == ENCDIFF_OK; i++) {
        if (p->operand[i] == ED_NONE || is_parameter(p->c->in[i].kind)) continue;
        p->grad[i] = ed_graph_grad(g, p->operand[i]);
        ed_graph_output(g, p->grad[i]);
    }
}

static encdiff_status build(part *p)
{
    ed_graph *g = &p->graph;
    const op_case *c = p->c;
    size_t offset = 0;
    ed_value used[ED_MAX_INPUTS];
    for (int k = 0; k <= ED_MAX_OUTPUTS; k++) p->seed[k] = ED_NONE;
    ed_graph_init(g, &p->env);
    ed_graph_train(g, 0, true);
    for (int i = 0; i < ED_MAX_INPUTS; i++) {
        p->operand[i] = add_operand(p, i, offset);
        bool plain = p->operand[i] == ED_NONE || is_parameter(c->in[i].kind);
        bool f32 = !p->mode->bf16 || ed_op_f32_operands(c->op) >> i & 1;
        used[i] = plain ? p->operand[i] : typed(p, p->operand[i], f32 ? ED_F32 : ED_BF16);
        p->grad[i] = ED_NONE;
        if (is_parameter(c->in[i].kind)) offset += parameter_size(p->mode->backend, operand_count(c, i));
    }
    ed_shape given = c->given.rank ? share(p, c->given) : c->given;
    for (int k = 0; k < ED_MAX_OUTPUTS; k++) p->out[k] = ED_NONE;
    ed_graph_node(g, c->op, used, &c->attr, c->given.rank ? &given : NULL, p->out);
    for (int k = 0; k < ED_MAX_OUTPUTS; k++) {
        bool bf16 = p->out[k] != ED_NONE && ed_graph_value(g, p->out[k])->type == ED_BF16;
        p->read[k] = bf16 ? ed_to_f32(g, p->out[k]) : p->out[k];
        ed_graph_output(g, p->read[k]);
    }
    if (p->mode->backward) add_backward(p, used[0]);
    if (g->status == ENCDIFF_OK) g->status = ed_exec_create_parts(&p->env, p->mode->backend, g, p->together, &p->exec);
    return g->status;
}

/* ---------------------------------------------------------------- inputs */

static size_t value_count(const part *p, ed_value value)
{
    return (size_t)ed_shape_count(ed_graph_shape(&p->graph, value));
}

/* The part of a sum that a rank has: parts that make the whole, unequal, and in another order for each operand. */
static float fraction(const op_mode *mode, int i, int rank)
{
    if (i % 2) rank = mode->ranks - 1 - rank;
    return 2.0f * (float)(rank + 1) / (float)(mode->ranks * (mode->ranks + 1));
}

static encdiff_status write_part(part *p, int i, const float *data)
{
    size_t count = value_count(p, p->operand[i]);
    float *copy = ed_alloc(&p->env, count, sizeof *copy);
    if (!copy) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    for (size_t k = 0; k < count; k++) copy[k] = data[k] * fraction(p->mode, i, p->run.rank);
    encdiff_status status = ed_exec_write(&p->env, p->exec, p->operand[i], copy, count * sizeof *copy);
    ed_free(&p->env, copy);
    return status;
}

static encdiff_status write_operands(part *p, float *const *data)
{
    for (int i = 0; i < ED_MAX_INPUTS; i++) {
        if (p->operand[i] == ED_NONE || is_parameter(p->c->in[i].kind)) continue;
        size_t count = value_count(p, p->operand[i]);
        size_t from = is_divided(p->c->in[i].kind) ? count / (size_t)(p->last - p->first) * (size_t)p->first : 0;
        if (p->c->in[i].kind == PART && p->mode->ranks > 1)
            ED_TRY(write_part(p, i, data[i]));
        else
            ED_TRY(ed_exec_write(&p->env, p->exec, p->operand[i], data[i] + from, count * sizeof(float)));
    }
    return ENCDIFF_OK;
}

static encdiff_status write_seeds(part *p)
{
    for (int k = 0; k <= ED_MAX_OUTPUTS; k++) {
        if (p->seed[k] == ED_NONE) continue;
        size_t count = value_count(p, p->seed[k]);
        float *seed = ed_alloc(&p->env, count, sizeof *seed);
        if (!seed) return ENCDIFF_ERROR_OUT_OF_MEMORY;
        op_seed(p->c, k == ED_MAX_OUTPUTS ? -1 : k, count / (size_t)(p->last - p->first) * (size_t)p->first, count,
                seed);
        encdiff_status status = ed_exec_write(&p->env, p->exec, p->seed[k], seed, count * sizeof *seed);
        ed_free(&p->env, seed);
        ED_TRY(status);
    }
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- results */

/* Outputs that every rank has whole. */
static bool is_replicated(ed_op op, int output)
{
    return (op == ED_OP_BATCH_NORM && output == 1) || op == ED_OP_ADAPTIVE_WEIGHT;
}

static encdiff_status read_value(part *p, ed_value value, float *to)
{
    size_t count = value_count(p, value);
    ED_TRY(ed_exec_read(&p->env, p->exec, value, to, count * sizeof *to));
    if (ed_graph_value(&p->graph, value)->type != ED_I32) return ENCDIFF_OK;
    for (size_t i = 0; i < count; i++) {
        int32_t whole;
        memcpy(&whole, to + i, sizeof whole);
        to[i] = (float)whole;
    }
    return ENCDIFF_OK;
}

static encdiff_status gather_outputs(ed_env *env, part *parts, int ranks, op_result *result)
{
    for (int k = 0; k < ED_MAX_OUTPUTS; k++) {
        if (parts[0].out[k] == ED_NONE) continue;
        int from = is_replicated(parts[0].c->op, k) ? ranks - 1
                                                    : 0; /* any rank's; the last is the least likely right */
        for (int r = from; r < ranks; r++) result->out_count[k] += value_count(&parts[r], parts[r].out[k]);
        result->out[k] = ed_alloc(env, result->out_count[k], sizeof(float));
        if (!result->out[k]) return ENCDIFF_ERROR_OUT_OF_MEMORY;
        size_t at = 0;
        for (int r = from; r < ranks; at += value_count(&parts[r], parts[r].out[k]), r++)
            ED_TRY(read_value(&parts[r], parts[r].read[k], result->out[k] + at));
    }
    return ENCDIFF_OK;
}

/* A rank's gradient of operand i into `to`: its images' place, or added where all ranks have the whole. */
static encdiff_status gather_gradient(part *p, int i, size_t offset, float *to)
{
    const op_case *c = p->c;
    if (is_divided(c->in[i].kind))
        return read_value(p, p->grad[i], to + operand_count(c, i) / (size_t)op_images(c) * (size_t)p->first);
    size_t count = operand_count(c, i);
    float *one = ed_alloc(&p->env, count, sizeof *one);
    if (!one) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    ed_backend *backend = p->mode->backend;
    encdiff_status status = c->in[i].kind == PARAM
                                ? backend->download(backend, &p->env, one, p->grads + offset, count * sizeof *one)
                                : read_value(p, p->grad[i], one);
    for (size_t k = 0; k < count && status == ENCDIFF_OK; k++) to[k] += one[k];
    ed_free(&p->env, one);
    return status;
}

static encdiff_status gather_operands(ed_env *env, part *parts, int ranks, const float *params, op_result *result)
{
    const op_case *c = parts[0].c;
    ed_backend *backend = parts[0].mode->backend;
    size_t offset = 0;
    for (int i = 0; i < ED_MAX_INPUTS; i++) {
        operand_kind kind = c->in[i].kind;
        size_t count = operand_count(c, i);
        if (kind == RUNNING) {
            if (!(result->after[i] = ed_alloc(env, count, sizeof(float)))) return ENCDIFF_ERROR_OUT_OF_MEMORY;
            ED_TRY(backend->download(backend, env, result->after[i], params + offset, count * sizeof(float)));
        }
        if (parts[0].mode->backward && (kind == PARAM || parts[0].grad[i] != ED_NONE)) {
            if (!(result->grad[i] = ed_alloc(env, count, sizeof(float)))) return ENCDIFF_ERROR_OUT_OF_MEMORY;
            for (int r = 0; r < ranks; r++) ED_TRY(gather_gradient(&parts[r], i, offset, result->grad[i]));
        }
        if (is_parameter(kind)) offset += parameter_size(backend, count);
    }
    return ENCDIFF_OK;
}

static void note_operators(const part *p, op_result *result)
{
    const ed_plan *plan = ed_exec_plan(p->exec);
    for (size_t n = 0; n < p->graph.node_count; n++) {
        const ed_node *node = &p->graph.nodes[n];
        int place = ed_op_describe(node->op)->in_place;
        result->ran[node->op] = true;
        if (place >= 0 && node->in[place] != ED_NONE && plan->offsets[node->in[place]] == plan->offsets[node->out[0]])
            result->ran_in_place[node->op] = true;
    }
}

/* ---------------------------------------------------------------- the run */

static void run_part(void *argument, int rank)
{
    part *p = &((part *)argument)[rank];
    p->status = ed_exec_run(&p->env, p->exec, &p->run, 0, -1);
}

static encdiff_status run_parts(ed_env *env, part *parts, int ranks)
{
    ed_pool *pool = NULL;
    ed_comm *comm = NULL;
    encdiff_status status;
    ED_TRY_OR_FAIL(ed_pool_create(env, ranks, &pool));
    if (ranks > 1) ED_TRY_OR_FAIL(ed_thread_comm_create(env, ranks, &comm));
    for (int r = 0; r < ranks; r++) parts[r].run.comm = comm;
    ed_pool_run(pool, ranks, run_part, parts);
    for (int r = ranks - 1; r >= 0; r--)
        if (parts[r].status != ENCDIFF_OK) status = ed_fail(env, parts[r].status, "%s", parts[r].env.message);
fail:
    ed_thread_comm_free(env, comm);
    ed_pool_free(env, pool);
    return status;
}

typedef struct thread {
    part *part;
    ed_env env;
    ed_comm *comm;
    encdiff_status status;
} thread;

static void run_thread(void *argument, int rank)
{
    thread *t = &((thread *)argument)[rank];
    t->status = ed_exec_run_part(&t->env, t->part->exec, rank, t->comm);
}

static encdiff_status run_together(ed_env *env, part *p)
{
    ed_pool *pool = NULL;
    ed_comm *comm = NULL;
    encdiff_status status = ENCDIFF_ERROR_OUT_OF_MEMORY;
    thread *threads = ed_alloc(env, (size_t)p->together, sizeof *threads);
    if (!threads) return status;
    ED_TRY_OR_FAIL(ed_pool_create(env, p->together, &pool));
    ED_TRY_OR_FAIL(ed_thread_comm_create(env, p->together, &comm));
    for (int r = 0; r < p->together; r++) {
        threads[r].part = p;
        threads[r].comm = comm;
        ed_env_child(&threads[r].env, env);
    }
    ed_pool_run(pool, p->together, run_thread, threads);
    for (int r = p->together - 1; r >= 0; r--)
        if (threads[r].status != ENCDIFF_OK) status = ed_fail(env, threads[r].status, "%s", threads[r].env.message);
fail:
    ed_thread_comm_free(env, comm);
    ed_pool_free(env, pool);
    ed_free(env, threads);
    return status;
}

/* Packs of `values`, while they are zeros. */
static encdiff_status pack_zeros(part *p, float *values)
{
    if (!p->mode->packed) return ENCDIFF_OK;
    ED_TRY(ed_packs_create(&p->env, &p->packs));
    ed_exec_bind(p->exec, 0, values, NULL, 1);
    return ed_exec_pack(&p->env, p->exec, p->packs);
}

/* All parameters of the case one behind the other, as a model's set has them. */
static encdiff_status bind_parameters(ed_env *env, const op_case *c, const op_mode *mode, float *const *data,
                                      part *parts, float **params)
{
    ed_backend *backend = mode->backend;
    size_t total = 0, at = 0;
    for (int i = 0; i < ED_MAX_INPUTS; i++)
        if (is_parameter(c->in[i].kind)) total += parameter_size(backend, operand_count(c, i));
    if (!total) return ENCDIFF_OK;
    if (!(*params = backend->allocate(backend, env, total * sizeof(float)))) return env->status;
    for (int r = 0; r < mode->ranks; r++) ED_TRY(pack_zeros(&parts[r], *params));
    for (int i = 0; i < ED_MAX_INPUTS; i++) {
        if (!is_parameter(c->in[i].kind)) continue;
        ED_TRY(backend->upload(backend, env, *params + at, data[i], operand_count(c, i) * sizeof(float)));
        at += parameter_size(backend, operand_count(c, i));
    }
    float *prior = ed_alloc(env, total, sizeof *prior);
    if (!prior) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    encdiff_status status = ENCDIFF_OK;
    for (size_t i = 0; i < total; i++) prior[i] = mode->prior;
    for (int r = 0; r < mode->ranks && status == ENCDIFF_OK; r++) {
        parts[r].grads = backend->allocate(backend, env, total * sizeof(float));
        if (!parts[r].grads) {
            status = env->status;
            break;
        }
        status = backend->upload(backend, env, parts[r].grads, prior, total * sizeof *prior);
        ed_exec_bind(parts[r].exec, 0, *params, parts[r].grads, 2);
        if (status == ENCDIFF_OK && mode->packed) status = ed_exec_pack(&parts[r].env, parts[r].exec, parts[r].packs);
    }
    ed_free(env, prior);
    return status;
}

static void part_free(part *p, ed_backend *backend)
{
    ed_exec_free(p->exec);
    ed_packs_free(p->packs);
    ed_graph_free(&p->graph);
    if (p->grads) backend->release(backend, &p->env, p->grads);
}

encdiff_status op_run(ed_env *env, const op_case *c, const op_mode *mode, float *const data[ED_MAX_INPUTS],
                      op_result *result)
{
    return op_run_together(env, c, mode, 1, data, result);
}

encdiff_status op_run_together(ed_env *env, const op_case *c, const op_mode *mode, int together,
                               float *const data[ED_MAX_INPUTS], op_result *result)
{
    float *params = NULL;
    encdiff_status status = ENCDIFF_ERROR_OUT_OF_MEMORY;
    *result = (op_result){0};
    part *parts = ed_alloc(env, (size_t)mode->ranks, sizeof *parts);
    if (!parts) return status;
    for (int r = 0; r < mode->ranks; r++) {
        part *p = &parts[r];
        p->c = c;
        p->mode = mode;
        p->together = together;
        ed_shard(op_images(c), mode->ranks, r, &p->first, &p->last);
        ed_env_child(&p->env, env);
        p->run = (ed_run){.rank = r, .seed = seed_of(c), .step = 3, .first_image = p->first};
        if ((status = build(p)) != ENCDIFF_OK) {
            ed_fail(env, status, "%s", p->env.message);
            goto fail;
        }
    }
    ED_TRY_OR_FAIL(bind_parameters(env, c, mode, data, parts, &params));
    for (int r = 0; r < mode->ranks; r++) {
        ED_TRY_OR_FAIL(write_operands(&parts[r], data));
        ED_TRY_OR_FAIL(write_seeds(&parts[r]));
    }
    ED_TRY_OR_FAIL(together > 1 ? run_together(env, &parts[0]) : run_parts(env, parts, mode->ranks));
    ED_TRY_OR_FAIL(gather_outputs(env, parts, mode->ranks, result));
    ED_TRY_OR_FAIL(gather_operands(env, parts, mode->ranks, params, result));
    note_operators(&parts[0], result);
fail:
    for (int r = 0; r < mode->ranks; r++) part_free(&parts[r], mode->backend);
    if (params) mode->backend->release(mode->backend, env, params);
    ed_free(env, parts);
    if (status != ENCDIFF_OK) op_result_free(env, result);
    return status;
}

void op_result_free(ed_env *env, op_result *result)
{
    for (int i = 0; i < ED_MAX_INPUTS; i++) ed_free(env, result->grad[i]), ed_free(env, result->after[i]);
    for (int k = 0; k < ED_MAX_OUTPUTS; k++) ed_free(env, result->out[k]);
    *result = (op_result){0};
}
