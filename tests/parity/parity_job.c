/* A graph on the shards of a batch, one rank each, as training runs them. */
#include "model/place.h"
#include "parity.h"

void parity_job_free(parity_job *job)
{
    ed_env *env = job->p->env;
    for (int r = 0; r < job->ranks; r++) {
        parity_shard *s = &job->shards[r];
        ed_exec_free(s->exec);
        ed_graph_free(&s->graph);
        for (int set = 0; set < ED_SET_COUNT; set++)
            if (s->grads[set]) job->p->backend->release(job->p->backend, env, s->grads[set]);
    }
    ed_team_free(job->team);
    *job = (parity_job){0};
}

encdiff_status parity_job_bind(parity_job *job, int rank, ed_set set)
{
    float *values;
    parity_shard *s = &job->shards[rank];
    ED_TRY(ed_networks_place(job->team, job->networks, set, false, &values));
    ed_exec_bind(s->exec, (int)set, values, s->grads[set], job->networks->sets[set].version);
    return ENCDIFF_OK;
}

static encdiff_status create_shard(parity_job *job, int rank, uint32_t trained, parity_build *build, void *values)
{
    parity_shard *s = &job->shards[rank];
    ed_env *env = job->p->env;
    int64_t last;
    ed_shard(job->images, job->ranks, rank, &s->first, &last);
    s->count = last - s->first;
    ed_graph_init(&s->graph, env);
    for (int set = 0; set < ED_SET_COUNT; set++) ed_graph_train(&s->graph, set, trained >> set & 1);
    build(job->networks, &s->graph, s->count, values);
    ED_TRY(ed_exec_create(env, job->p->backend, &s->graph, &s->exec));
    for (int set = 0; set < ED_SET_COUNT; set++) {
        ed_backend *b = job->p->backend;
        if (trained >> set & 1) {
            s->grads[set] = b->allocate(b, env, job->networks->sets[set].total * sizeof(float));
            if (!s->grads[set]) return ENCDIFF_ERROR_OUT_OF_MEMORY;
        }
        ED_TRY(parity_job_bind(job, rank, (ed_set)set));
    }
    return ENCDIFF_OK;
}

encdiff_status parity_job_create(parity *p, ed_networks *networks, int64_t images, uint32_t trained,
                                 parity_build *build, void *values, parity_job *out)
{
    *out = (parity_job){.p = p, .networks = networks, .images = images, .ranks = (int)ED_MIN(p->ranks, images)};
    encdiff_status status = ed_team_create(p->env, p->backend, out->ranks, &out->team);
    for (int r = 0; r < out->ranks && status == ENCDIFF_OK; r++) status = create_shard(out, r, trained, build, values);
    if (status != ENCDIFF_OK) parity_job_free(out);
    return status;
}

/* ---------------------------------------------------------------- operands */

static size_t item_size(const parity_shard *s, ed_value value)
{
    return (size_t)(ed_shape_count(ed_graph_shape(&s->graph, value)) / s->count);
}

/* Copy a shard's images, rank 4 between NCHW (`there`, the first image of the batch) and NHWC (`here`, of the shard).
 */
static void turn(const parity_shard *s, ed_value value, float *there, float *here, bool to_graph)
{
    const ed_shape *shape = ed_graph_shape(&s->graph, value);
    size_t item = item_size(s, value);
    float *outside = there + (size_t)s->first * item;
    const int64_t *d = shape->dim;
    if (shape->rank == 4 && to_graph)
        ed_nchw_to_nhwc(outside, here, d[0], d[3], d[1], d[2]);
    else if (shape->rank == 4)
        ed_nhwc_to_nchw(here, outside, d[0], d[3], d[1], d[2]);
    else
        memcpy(to_graph ? here : outside, to_graph ? outside : here, (size_t)s->count * item * sizeof(float));
}

static encdiff_status put_shard(parity_job *job, parity_shard *s, ed_value input, float *all)
{
    size_t bytes = (size_t)s->count * item_size(s, input) * sizeof(float);
    float *part = ed_alloc_raw(job->p->env, bytes);
    if (!part) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    turn(s, input, all, part, true);
    encdiff_status status = ed_exec_write(job->p->env, s->exec, input, part, bytes);
    ed_free(job->p->env, part);
    return status;
}

encdiff_status parity_job_put(parity_job *job, ed_value input, const char *name)
{
    float *all = NULL;
    int64_t count = 0;
    encdiff_status status = parity_read(job->p, name, &all, &count);
    if (status == ENCDIFF_OK && count != job->images * (int64_t)item_size(&job->shards[0], input))
        status = ed_fail(job->p->env, ENCDIFF_ERROR_SHAPE, "%s: %s has another size than the graph's input",
                         job->p->name, name);
    if (status == ENCDIFF_OK && ed_graph_shape(&job->shards[0].graph, input)->rank == 4)
        parity_move(job->p, all, count);
    for (int r = 0; r < job->ranks && status == ENCDIFF_OK; r++) status = put_shard(job, &job->shards[r], input, all);
    ed_free(job->p->env, all);
    return status;
}

encdiff_status parity_job_fill(parity_job *job, ed_value input, double x)
{
    for (int r = 0; r < job->ranks; r++) {
        parity_shard *s = &job->shards[r];
        size_t count = (size_t)ed_shape_count(ed_graph_shape(&s->graph, input));
        float *values = ed_alloc(job->p->env, count, sizeof *values);
        if (!values) return ENCDIFF_ERROR_OUT_OF_MEMORY;
        for (size_t i = 0; i < count; i++) values[i] = (float)x;
        encdiff_status status = ed_exec_write(job->p->env, s->exec, input, values, count * sizeof *values);
        ed_free(job->p->env, values);
        ED_TRY(status);
    }
    return ENCDIFF_OK;
}

static encdiff_status run_rank(ed_env *env, void *argument, int rank)
{
    parity_job *job = argument;
    parity_shard *s = &job->shards[rank];
    ed_backend *b = job->p->backend;
    for (int set = 0; set < ED_SET_COUNT; set++)
        if (s->grads[set]) ED_TRY(b->zero(b, env, s->grads[set], job->networks->sets[set].total * sizeof(float)));
    ed_run run = {.rank = rank, .comm = job->team->comm[job->ranks], .first_image = s->first};
    return ed_exec_run(env, s->exec, &run, 0, -1);
}

/* Batch norms write their running statistics, which the cases look at. */
encdiff_status parity_job_run(parity_job *job)
{
    ED_TRY(ed_team_run(job->team, job->ranks, run_rank, job));
    for (int set = 0; set < ED_SET_COUNT; set++)
        ed_networks_changed(job->team, job->networks, (ed_set)set, job->networks->sets[set].version);
    return ed_networks_fetch(job->team, job->networks);
}

encdiff_status parity_job_get(parity_job *job, ed_value output, void **out, int64_t *count)
{
    ed_env *env = job->p->env;
    size_t item = item_size(&job->shards[0], output);
    *count = job->images * (int64_t)item;
    float *all = *out = ed_alloc(env, (size_t)*count, sizeof(float));
    if (!all) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    for (int r = 0; r < job->ranks; r++) {
        parity_shard *s = &job->shards[r];
        size_t bytes = (size_t)s->count * item * sizeof(float);
        float *part = ed_alloc_raw(env, bytes);
        if (!part) return ENCDIFF_ERROR_OUT_OF_MEMORY;
        encdiff_status status = ed_exec_read(env, s->exec, output, part, bytes);
        if (status == ENCDIFF_OK) turn(s, output, all, part, false);
        ed_free(env, part);
        ED_TRY(status);
    }
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- results */

encdiff_status parity_job_mean(parity_job *job, ed_value output, double *mean)
{
    void *values = NULL;
    int64_t count;
    encdiff_status status = parity_job_get(job, output, &values, &count);
    *mean = 0;
    for (int64_t i = 0; i < count && status == ENCDIFF_OK; i++) *mean += (double)((float *)values)[i];
    *mean /= (double)count;
    ed_free(job->p->env, values);
    return status;
}

encdiff_status parity_job_compare(parity_job *job, ed_value output, const char *name, double bound)
{
    void *values = NULL;
    int64_t count;
    encdiff_status status = parity_job_get(job, output, &values, &count);
    if (status == ENCDIFF_OK) status = parity_compare(job->p, name, values, count, bound);
    ed_free(job->p->env, values);
    return status;
}

encdiff_status parity_job_compare_gradients(parity_job *job, ed_set set)
{
    float *parts[PARITY_MAX_RANKS];
    for (int r = 0; r < job->ranks; r++) parts[r] = job->shards[r].grads[set];
    return parity_compare_gradients(job->p, &job->networks->sets[set], parts, job->ranks);
}
