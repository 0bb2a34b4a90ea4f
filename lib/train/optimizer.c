/*
 * The trainable floats of all sets form one line that is dealt out to the ranks; each adds up the gradients of all
 * ranks for its part in their order, so the result does not depend on timing.
 */
#include <math.h>

#include "train/optimizer.h"

#define BLOCK ((int64_t)8192) /* floats: p, m, v, average and gradients of a block stay in the second-level cache */

static encdiff_status add_segments(ed_optimizer *o, int set)
{
    const ed_params *params = o->sets[set].params;
    for (size_t i = 0; i < params->count; i++) {
        const ed_param *p = &params->items[i];
        size_t count = (size_t)ed_shape_count(&p->shape);
        bool follows = i > 0 && !params->items[i - 1].buffer;
        if (p->buffer || !count) continue;
        ed_segment *last = o->segment_count ? &o->segments[o->segment_count - 1] : NULL;
        if (last && last->set == set && follows) {
            o->total += p->offset + count - (last->offset + last->count);
            last->count = p->offset + count - last->offset;
            continue;
        }
        o->total += count;
        ED_TRY(ed_reserve(o->team->env, &o->segments, &o->segment_capacity, o->segment_count + 1, sizeof *o->segments));
        o->segments[o->segment_count++] = (ed_segment){set, p->offset, count};
    }
    return ENCDIFF_OK;
}

static encdiff_status add_set(ed_optimizer *o, ed_params *params, float *ema)
{
    ed_backend *b = o->team->backend;
    ed_env *env = o->team->env;
    ed_optimizer_set *set = &o->sets[o->count++];
    size_t bytes = ED_MAX(params->total, 1) * sizeof(float);
    *set = (ed_optimizer_set){.params = params, .ema = ema};
    set->grads = ed_alloc(env, (size_t)o->team->ranks, sizeof *set->grads);
    set->m = b->allocate(b, env, bytes);
    set->v = b->allocate(b, env, bytes);
    if (!set->grads || !set->m || !set->v) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    for (int r = 0; r < o->team->ranks; r++)
        if (!(set->grads[r] = b->allocate(b, env, bytes))) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    return add_segments(o, o->count - 1);
}

encdiff_status ed_optimizer_create(ed_team *team, int count, ed_params *const *params, float *const *ema,
                                   ed_optimizer **out)
{
    *out = NULL;
    ed_optimizer *o = ed_alloc(team->env, 1, sizeof *o);
    if (!o) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    o->team = team;
    o->partial = ed_alloc(team->env, (size_t)team->ranks, sizeof *o->partial);
    encdiff_status status = o->partial ? ENCDIFF_OK : ENCDIFF_ERROR_OUT_OF_MEMORY;
    for (int i = 0; i < count && status == ENCDIFF_OK; i++) status = add_set(o, params[i], ema ? ema[i] : NULL);
    if (status == ENCDIFF_OK && !(o->spans = ed_alloc(team->env, o->segment_count, sizeof *o->spans)))
        status = ENCDIFF_ERROR_OUT_OF_MEMORY;
    if (status != ENCDIFF_OK)
        ed_optimizer_free(o);
    else
        *out = o;
    return status;
}

void ed_optimizer_free(ed_optimizer *o)
{
    if (!o) return;
    ed_backend *b = o->team->backend;
    ed_env *env = o->team->env;
    for (int i = 0; i < o->count; i++) {
        ed_optimizer_set *set = &o->sets[i];
        for (int r = 0; set->grads && r < o->team->ranks; r++)
            if (set->grads[r]) b->release(b, env, set->grads[r]);
        if (set->m) b->release(b, env, set->m);
        if (set->v) b->release(b, env, set->v);
        ed_free(env, set->grads);
    }
    ed_free(env, o->spans);
    ed_free(env, o->segments);
    ed_free(env, o->partial);
    ed_free(env, o);
}

void ed_optimizer_clear(ed_optimizer *o)
{
    ed_backend *b = o->team->backend;
    ed_env env; /* a device that fails here failed before, which is what the caller is told */
    ed_env_child(&env, o->team->env);
    for (int i = 0; i < o->count; i++)
        for (int r = 0; r < o->team->ranks; r++)
            (void)b->zero(b, &env, o->sets[i].grads[r], o->sets[i].params->total * sizeof(float));
}

/* ---------------------------------------------------------------- one update */

typedef struct job {
    ed_optimizer *optimizer;
    ed_adamw adamw;
} job;

typedef encdiff_status span_function(ed_env *env, job *j, int rank, const ed_span *spans, int count);

static ed_span span_of(const ed_optimizer *o, const ed_segment *segment, int64_t from, int64_t count)
{
    const ed_optimizer_set *set = &o->sets[segment->set];
    return (ed_span){
        set->values,  set->m, set->v, set->average, set->grads, o->team->ranks, segment->offset + (size_t)from,
        (size_t)count};
}

/* Call the function for every block of this rank's part of the line. */
static encdiff_status for_blocks(ed_env *env, job *j, int rank, span_function *function)
{
    ed_optimizer *o = j->optimizer;
    int64_t first, last, at = 0;
    ed_shard((int64_t)o->total, o->team->ranks, rank, &first, &last);
    for (size_t s = 0; s < o->segment_count; s++) {
        const ed_segment *segment = &o->segments[s];
        int64_t from = ED_MAX(first - at, 0), to = ED_MIN(last - at, (int64_t)segment->count);
        at += (int64_t)segment->count;
        for (int64_t i = from; i < to; i += BLOCK) {
            ed_span span = span_of(o, segment, i, ED_MIN(BLOCK, to - i));
            ED_TRY(function(env, j, rank, &span, 1));
        }
    }
    return ENCDIFF_OK;
}

/* A device, which has one rank, takes the whole line at once. */
static encdiff_status for_rank(ed_env *env, job *j, int rank, span_function *function)
{
    ed_optimizer *o = j->optimizer;
    if (o->team->backend->host_memory) return for_blocks(env, j, rank, function);
    for (size_t s = 0; s < o->segment_count; s++)
        o->spans[s] = span_of(o, &o->segments[s], 0, (int64_t)o->segments[s].count);
    return function(env, j, rank, o->spans, (int)o->segment_count);
}

static encdiff_status add_squares(ed_env *env, job *j, int rank, const ed_span *spans, int count)
{
    ed_backend *b = j->optimizer->team->backend;
    double sum = 0;
    ED_TRY(b->sum_squares(b, env, spans, count, &sum));
    j->optimizer->partial[rank] += sum;
    return ENCDIFF_OK;
}

static encdiff_status update(ed_env *env, job *j, int rank, const ed_span *spans, int count)
{
    (void)rank;
    ed_backend *b = j->optimizer->team->backend;
    return b->adamw(b, env, &j->adamw, spans, count);
}

static encdiff_status squares_rank(ed_env *env, void *argument, int rank)
{
    job *j = argument;
    j->optimizer->partial[rank] = 0;
    return for_rank(env, j, rank, add_squares);
}

static encdiff_status update_rank(ed_env *env, void *argument, int rank)
{
    return for_rank(env, argument, rank, update);
}

/* Running statistics are part of an averaged network too, as they are now. */
static encdiff_status copy_buffers(ed_team *team, const ed_optimizer_set *set)
{
    ed_backend *b = team->backend;
    for (size_t i = 0; set->average && i < set->params->count; i++) {
        const ed_param *p = &set->params->items[i];
        if (p->buffer)
            ED_TRY(b->copy(b, team->env, set->average + p->offset, set->values + p->offset,
                           (size_t)ed_shape_count(&p->shape) * sizeof(float)));
    }
    return ENCDIFF_OK;
}

static encdiff_status place(ed_team *team, ed_optimizer_set *set)
{
    const ed_params *p = set->params;
    ED_TRY(ed_team_place(team, p->values, p->total, p->version, &set->values));
    return ed_team_place(team, set->ema, p->total, p->version, &set->average);
}

/* The values that an update has changed have a new version. */
static void finish(ed_team *team, ed_optimizer_set *set)
{
    uint64_t from = set->params->version++;
    ed_team_changed(team, set->params->values, from, from + 1);
    if (set->ema) ed_team_changed(team, set->ema, from, from + 1);
}

encdiff_status ed_optimizer_step(ed_optimizer *o, const ed_update *u)
{
    job j = {.optimizer = o};
    double t = (double)(o->updates + 1), scale = u->grad_scale;
    if (u->grad_clip > 0) {
        ED_TRY(ed_team_run(o->team, o->team->ranks, squares_rank, &j));
        double sum = 0;
        for (int r = 0; r < o->team->ranks; r++) sum += o->partial[r];
        o->grad_norm = scale * sqrt(sum);
        if (!isfinite(o->grad_norm))
            return ed_fail(o->team->env, ENCDIFF_ERROR_NUMERIC, "the gradient's norm is %g at update %lld",
                           o->grad_norm, (long long)o->updates + 1);
        if (o->grad_norm > u->grad_clip) scale *= u->grad_clip / (o->grad_norm + 1e-6);
    }
    j.adamw = (ed_adamw){.lr = (float)u->lr,
                         .beta1 = (float)u->beta1,
                         .beta2 = (float)u->beta2,
                         .eps = (float)u->eps,
                         .weight_decay = (float)u->weight_decay,
                         .correction1 = (float)(1 - pow(u->beta1, t)),
                         .correction2 = (float)(1 - pow(u->beta2, t)),
                         .grad_scale = (float)scale,
                         .ema_decay = (float)u->ema_decay};
    for (int i = 0; i < o->count; i++) ED_TRY(place(o->team, &o->sets[i]));
    encdiff_status status = ed_team_run(o->team, o->team->ranks, update_rank, &j);
    for (int i = 0; i < o->count && status == ENCDIFF_OK; i++) status = copy_buffers(o->team, &o->sets[i]);
    for (int i = 0; i < o->count; i++) finish(o->team, &o->sets[i]);
    if (status == ENCDIFF_OK) o->updates++;
    return status;
}
