/*
 * Encoder and U-Net on one batch (Yang et al. 2024, section 3.4). A rank runs the encoder forward on its whole shard,
 * since batch norm looks at all images of all ranks; then the U-Net, forward and backward, in micro-batches that fit
 * the caches; then the encoder backward from the tokens' gradients. Memory does not grow with the batch but for the
 * encoder's part.
 */
#include <math.h>

#include "model/place.h"
#include "train/stages.h"

/* What one rank has. */
typedef struct shard {
    int64_t first, count; /* of the batch's images */
    ed_graph encoder, unet;
    ed_exec *encoder_exec, *unet_exec;
    ed_value images, tokens, token_grad;
    int backward; /* the encoder's first backward node */
    ed_value x0, noise, coefficients, velocity, timesteps, unet_tokens, weight, loss; /* velocity: of x_t; v alone */
    int micro;
    float *loss_values, *buffer;       /* [count]; [micro, 2] */
    float *token_values, *token_grads; /* [count, N, dim] */
} shard;

struct ed_stage_encdiff {
    ed_team *team;
    ed_networks *networks;
    ed_optimizer *optimizer;
    const ed_schedule *schedule;
    int64_t batch;
    int ranks;
    shard *shards;
};

static void build_encoder(ed_networks *n, shard *s)
{
    const ed_config *c = &n->config;
    ed_graph *g = &s->encoder;
    ed_nn nn = ed_networks_nn(n, g, ED_SET_ENCODER, true);
    ed_graph_train(g, ED_SET_ENCODER, true);
    s->images = ed_graph_input(g, "images", ED_SHAPE4(s->count, c->image.resolution, c->image.resolution, 3), ED_F32,
                               false);
    s->token_grad = ed_graph_input(g, "token_grad", ED_SHAPE3(s->count, c->encoder.latent_unit, c->encoder.context_dim),
                                   ED_F32, false);
    s->tokens = ed_concept_tokens(&nn, c, ed_concept_scalars(&nn, c, s->images));
    ed_graph_output(g, s->tokens);
    s->backward = (int)g->node_count;
    ed_graph_backward(g, 1, &s->tokens, &s->token_grad);
}

static void build_unet(ed_networks *n, shard *s)
{
    const ed_config *c = &n->config;
    ed_graph *g = &s->unet;
    int size = ed_config_latent_size(c);
    ed_shape latent = ED_SHAPE4(s->micro, size, size, ed_config_latent_channels(c));
    ed_nn nn = ed_networks_nn(n, g, ED_SET_UNET, true);
    ed_graph_train(g, ED_SET_UNET, true);
    g->recompute = c->train_encdiff.recompute;
    s->x0 = ed_graph_input(g, "x0", latent, ED_F32, false);
    s->noise = ed_graph_input(g, "noise", latent, ED_F32, false);
    s->coefficients = ed_graph_input(g, "coefficients", ED_SHAPE2(s->micro, 2), ED_F32, false);
    s->timesteps = ed_graph_input(g, "timesteps", ED_SHAPE1(s->micro), ED_F32, false);
    s->unet_tokens = ed_graph_input(g, "tokens", ED_SHAPE3(s->micro, c->encoder.latent_unit, c->encoder.context_dim),
                                    ED_F32, true);
    s->weight = ed_graph_input(g, "weight", ED_SHAPE1(s->micro), ED_F32, false);
    ed_value x = ed_noise_latents(g, s->x0, s->noise, s->coefficients);
    ed_value predicted = ed_unet(&nn, c, x, s->timesteps, s->unet_tokens, NULL);
    ed_value target = c->diffusion.parameterization == ED_PREDICT_X0 ? s->x0 : s->noise;
    if (c->diffusion.parameterization == ED_PREDICT_V) {
        s->velocity = ed_graph_input(g, "velocity", ED_SHAPE2(s->micro, 2), ED_F32, false);
        target = ed_noise_latents(g, s->x0, s->noise, s->velocity);
    }
    ed_loss_kind kind = c->diffusion.loss_type == ED_CONFIG_L1 ? ED_LOSS_L1 : ED_LOSS_L2;
    s->loss = ed_difference_loss(g, predicted, target, kind);
    ed_graph_output(g, s->loss);
    ed_graph_backward(g, 1, &s->loss, &s->weight);
    ed_graph_output(g, ed_graph_grad(g, s->unet_tokens));
}

static int choose_micro(const ed_team *team, const ed_config *c, int64_t share)
{
    int64_t most = c->train_encdiff.micro_batch > 0 ? c->train_encdiff.micro_batch : team->backend->images;
    int64_t pieces = (share + most - 1) / most;
    return (int)((share + pieces - 1) / pieces);
}

static size_t token_size(const ed_config *c) { return (size_t)c->encoder.latent_unit * (size_t)c->encoder.context_dim; }

encdiff_status ed_stage_encdiff_graphs(const ed_team *team, ed_networks *networks, int64_t count, ed_graph *encoder,
                                       ed_graph *unet)
{
    shard s = {.count = count, .micro = choose_micro(team, &networks->config, count)};
    ed_graph_init(&s.encoder, team->env);
    ed_graph_init(&s.unet, team->env);
    s.encoder.compute = s.unet.compute = team->compute;
    build_encoder(networks, &s);
    build_unet(networks, &s);
    *encoder = s.encoder;
    *unet = s.unet;
    return encoder->status != ENCDIFF_OK ? encoder->status : unet->status;
}

static encdiff_status create_shard(ed_stage_encdiff *stage, int rank)
{
    ed_env *env = stage->team->env;
    shard *s = &stage->shards[rank];
    int64_t last;
    ed_shard(stage->batch, stage->ranks, rank, &s->first, &last);
    s->count = last - s->first;
    s->micro = choose_micro(stage->team, &stage->networks->config, s->count);
    s->loss_values = ed_alloc(env, (size_t)s->count, sizeof(float));
    s->buffer = ed_alloc(env, (size_t)s->micro, 2 * sizeof(float));
    size_t tokens = (size_t)s->count * token_size(&stage->networks->config);
    s->token_values = ed_alloc(env, tokens, sizeof(float));
    s->token_grads = ed_alloc(env, tokens, sizeof(float));
    if (!s->loss_values || !s->buffer || !s->token_values || !s->token_grads) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    ed_graph_init(&s->encoder, env);
    ed_graph_init(&s->unet, env);
    s->encoder.compute = s->unet.compute = stage->team->compute;
    build_encoder(stage->networks, s);
    build_unet(stage->networks, s);
    ED_TRY(ed_exec_create(env, stage->team->backend, &s->encoder, &s->encoder_exec));
    /* of a micro-batch nothing is kept; the encoder waits for the tokens' gradients */
    return ed_exec_create_in(env, &stage->team->workspaces[rank], &s->unet, 1, &s->unet_exec);
}

encdiff_status ed_stage_encdiff_create(ed_team *team, ed_networks *networks, ed_optimizer *optimizer, int64_t batch,
                                       const ed_schedule *schedule, ed_stage_encdiff **out)
{
    *out = NULL;
    ed_stage_encdiff *stage = ed_alloc(team->env, 1, sizeof *stage);
    if (!stage) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    *stage = (ed_stage_encdiff){
        .team = team, .networks = networks, .optimizer = optimizer, .schedule = schedule, .batch = batch};
    stage->ranks = (int)ED_MIN(batch, (int64_t)team->ranks);
    stage->shards = ed_alloc(team->env, (size_t)stage->ranks, sizeof *stage->shards);
    encdiff_status status = stage->shards ? ENCDIFF_OK : ENCDIFF_ERROR_OUT_OF_MEMORY;
    for (int r = 0; r < stage->ranks && status == ENCDIFF_OK; r++) status = create_shard(stage, r);
    if (status != ENCDIFF_OK)
        ed_stage_encdiff_free(stage);
    else
        *out = stage;
    return status;
}

void ed_stage_encdiff_free(ed_stage_encdiff *stage)
{
    if (!stage) return;
    ed_env *env = stage->team->env;
    for (int r = 0; stage->shards && r < stage->ranks; r++) {
        shard *s = &stage->shards[r];
        ed_exec_free(s->unet_exec);
        ed_exec_free(s->encoder_exec);
        ed_graph_free(&s->unet);
        ed_graph_free(&s->encoder);
        ed_free(env, s->token_grads);
        ed_free(env, s->token_values);
        ed_free(env, s->buffer);
        ed_free(env, s->loss_values);
    }
    ed_free(env, stage->shards);
    ed_free(env, stage);
}

ed_exec *ed_stage_encdiff_exec(ed_stage_encdiff *stage, bool encoder)
{
    return encoder ? stage->shards[0].encoder_exec : stage->shards[0].unet_exec;
}

/* ---------------------------------------------------------------- running */

typedef struct job {
    ed_stage_encdiff *stage;
    const ed_encdiff_batch *batch;
} job;

/* `index`: of the set in the optimizer. */
static encdiff_status bind(const ed_stage_encdiff *stage, ed_exec *exec, ed_set set, int index, int rank)
{
    float *values;
    ED_TRY(ed_networks_place(stage->team, stage->networks, set, false, &values));
    ed_exec_bind(exec, (int)set, values, stage->optimizer->sets[index].grads[rank], stage->networks->sets[set].version);
    return ENCDIFF_OK;
}

static encdiff_status bind_all(const ed_stage_encdiff *stage)
{
    for (int r = 0; r < stage->ranks; r++) {
        ED_TRY(bind(stage, stage->shards[r].unet_exec, ED_SET_UNET, 0, r));
        ED_TRY(bind(stage, stage->shards[r].encoder_exec, ED_SET_ENCODER, 1, r));
    }
    /* batch norms write their running statistics */
    ed_networks_changed(stage->team, stage->networks, ED_SET_ENCODER, stage->networks->sets[ED_SET_ENCODER].version);
    return ENCDIFF_OK;
}

/* Copy `count` images' floats at `from` of a batch operand and zeros behind, up to the micro-batch. */
static encdiff_status put(ed_env *env, ed_exec *exec, ed_value value, const float *data, int64_t from, int64_t count)
{
    const ed_shape *shape = ed_graph_shape(ed_exec_graph(exec), value);
    size_t item = (size_t)(ed_shape_count(shape) / shape->dim[0]);
    return ed_exec_write(env, exec, value, data + (size_t)from * item, (size_t)count * item * sizeof(float));
}

/* Schedule coefficients, timesteps and weights of the images; images beyond the batch weigh nothing. */
static encdiff_status put_scalars(ed_env *env, const job *j, shard *s, int64_t at, int64_t count)
{
    const ed_encdiff_batch *b = j->batch;
    size_t bytes = (size_t)s->micro * sizeof(float);
    float *values = s->buffer;
    for (int64_t i = 0; i < count; i++) {
        values[2 * i] = j->stage->schedule->signal[b->timesteps[at + i]];
        values[2 * i + 1] = j->stage->schedule->noise[b->timesteps[at + i]];
    }
    ED_TRY(ed_exec_write(env, s->unet_exec, s->coefficients, values, (size_t)count * 2 * sizeof(float)));
    if (j->stage->networks->config.diffusion.parameterization == ED_PREDICT_V) {
        for (int64_t i = 0; i < count; i++) {
            float signal = values[2 * i];
            values[2 * i] = -values[2 * i + 1];
            values[2 * i + 1] = signal;
        }
        ED_TRY(ed_exec_write(env, s->unet_exec, s->velocity, values, (size_t)count * 2 * sizeof(float)));
    }
    for (int64_t i = 0; i < count; i++) values[i] = (float)b->timesteps[at + i];
    ED_TRY(ed_exec_write(env, s->unet_exec, s->timesteps, values, (size_t)count * sizeof(float)));
    for (int64_t i = 0; i < s->micro; i++) values[i] = i < count ? b->weight : 0;
    return ed_exec_write(env, s->unet_exec, s->weight, values, bytes);
}

/* One micro-batch: images at .. at+count-1 of the shard. */
static encdiff_status run_micro(ed_env *env, const job *j, shard *s, const ed_run *run, int64_t at, int64_t count)
{
    const ed_encdiff_batch *b = j->batch;
    size_t item = token_size(&j->stage->networks->config), tokens = (size_t)count * item * sizeof(float);
    ed_exec *exec = s->unet_exec;
    ED_TRY(put(env, exec, s->x0, b->latents, s->first + at, count));
    ED_TRY(put(env, exec, s->noise, b->noise, s->first + at, count));
    ED_TRY(ed_exec_write(env, exec, s->unet_tokens, s->token_values + (size_t)at * item, tokens));
    ED_TRY(put_scalars(env, j, s, s->first + at, count));
    ED_TRY(ed_exec_run(env, exec, run, 0, -1));
    ED_TRY(ed_exec_read(env, exec, s->loss, s->loss_values + at, (size_t)count * sizeof(float)));
    return ed_exec_read(env, exec, ed_graph_grad(&s->unet, s->unet_tokens), s->token_grads + (size_t)at * item, tokens);
}

static void keep_first(encdiff_status *first, encdiff_status next)
{
    if (*first == ENCDIFF_OK) *first = next;
}

/* A rank that fails goes on, so that the others do not wait for it in a sum; its first failure is reported at the end.
 */
static encdiff_status run_rank(ed_env *env, void *argument, int rank)
{
    job *j = argument;
    ed_stage_encdiff *stage = j->stage;
    shard *s = &stage->shards[rank];
    ed_run run = {.rank = rank,
                  .comm = stage->team->comm[stage->ranks],
                  .seed = j->batch->seed,
                  .step = j->batch->step,
                  .first_image = s->first};
    size_t tokens = (size_t)s->count * token_size(&stage->networks->config) * sizeof(float);
    encdiff_status status = put(env, s->encoder_exec, s->images, j->batch->images, s->first, s->count);
    keep_first(&status, ed_exec_run(env, s->encoder_exec, &run, 0, s->backward));
    keep_first(&status, ed_exec_read(env, s->encoder_exec, s->tokens, s->token_values, tokens));
    for (int64_t at = 0; at < s->count && status == ENCDIFF_OK; at += s->micro) {
        run.first_image = s->first + at;
        keep_first(&status, run_micro(env, j, s, &run, at, ED_MIN(s->micro, s->count - at)));
    }
    run.first_image = s->first;
    keep_first(&status, ed_exec_write(env, s->encoder_exec, s->token_grad, s->token_grads, tokens));
    keep_first(&status, ed_exec_run(env, s->encoder_exec, &run, s->backward, -1));
    return status;
}

static void collect(const ed_stage_encdiff *stage, const ed_encdiff_batch *batch, ed_losses *losses)
{
    double sum = 0;
    *losses = (ed_losses){.count = 2, .names = {"loss", "simple"}, .bad_image = -1};
    for (int r = 0; r < stage->ranks; r++)
        for (int64_t i = 0; i < stage->shards[r].count; i++) {
            float loss = stage->shards[r].loss_values[i];
            sum += (double)loss;
            if (!isfinite(loss) && losses->bad_image < 0) losses->bad_image = stage->shards[r].first + i;
        }
    losses->values[0] = losses->values[1] = sum / (double)batch->n;
}

encdiff_status ed_stage_encdiff_run(ed_stage_encdiff *stage, const ed_encdiff_batch *batch, ed_losses *losses)
{
    job j = {stage, batch};
    ED_TRY(bind_all(stage));
    ED_TRY(ed_team_run(stage->team, stage->ranks, run_rank, &j));
    collect(stage, batch, losses);
    return ENCDIFF_OK;
}
