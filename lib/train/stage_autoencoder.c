/*
 * The first stage (Esser et al. 2021, section 3.1; Rombach et al. 2022, appendix G). The generator's loss is
 *
 *     nll + w * adversarial + codebook (vq) or kl_weight * KL (kl),   nll = |x - y| + perceptual_weight * LPIPS(x, y)
 *
 * where w = disc_weight * |d nll / d last| / (|d adversarial / d last| + 1e-4) and `last` is the decoder's last weight.
 * The gradients of both at the reconstruction y are found first, then the weight, then one pass back through the
 * decoder. Each rank holds a shard of the batch; the discriminator's batch norm and w look at all of it.
 */
#include <math.h>

#include "model/place.h"
#include "train/stages.h"

typedef struct generator_graph {
    ed_graph graph;
    ed_exec *exec;
    ed_value images, noise;
    ed_value seed_nll, seed_perceptual, seed_adversarial, seed_latent, factor; /* [n] each; factor [1] */
    ed_value l1, perceptual, latent_loss, adversarial, weight;
} generator_graph;

typedef struct critic_graph {
    ed_graph graph;
    ed_exec *exec;
    ed_value images, noise, seed;
    ed_value loss_real, loss_fake, logit_real, logit_fake; /* [n] */
} critic_graph;

typedef struct shard {
    int64_t first, count;
    generator_graph plain, adversarial; /* without and with the discriminator; made when first needed */
    critic_graph critic;
    float *scratch; /* [count] */
    double sums[ED_MAX_TERMS];
    int64_t bad_image;
} shard;

struct ed_stage_autoencoder {
    ed_team *team;
    ed_networks *networks;
    ed_optimizer *generator, *discriminator;
    int64_t batch;
    int ranks;
    shard *shards;
};

/* ---------------------------------------------------------------- graphs */

static ed_value per_image(ed_graph *g, const char *name, int64_t n)
{
    return ed_graph_input(g, name, ED_SHAPE1(n), ED_F32, false);
}

/* Images -> reconstruction; out: the latent's loss per image (codebook, or KL). */
static ed_value reconstruct(ed_networks *n, ed_graph *g, ed_value images, ed_value noise, ed_value *latent_loss)
{
    const ed_config *c = &n->config;
    ed_nn nn = ed_networks_nn(n, g, ED_SET_FIRST_STAGE, true);
    ed_value z = ed_autoencoder_encode(&nn, c, images), out[ED_MAX_OUTPUTS] = {ED_NONE, ED_NONE, ED_NONE};
    if (c->autoencoder.kind == ED_AE_VQ) {
        ed_autoencoder_quantize(&nn, c, z, out);
        *latent_loss = out[2];
    } else {
        ed_gaussian_sample(g, z, noise, out);
        *latent_loss = out[1];
    }
    return ed_autoencoder_decode(&nn, c, out[0]);
}

static void add_inputs(const ed_networks *networks, ed_graph *g, int64_t count, ed_value *images, ed_value *noise)
{
    const ed_config *c = &networks->config;
    int s = c->image.resolution, z = ed_config_latent_size(c);
    *images = ed_graph_input(g, "images", ED_SHAPE4(count, s, s, 3), ED_F32, false);
    *noise = c->autoencoder.kind == ED_AE_KL
                 ? ed_graph_input(g, "noise", ED_SHAPE4(count, z, z, ed_config_latent_channels(c)), ED_F32, false)
                 : ED_NONE;
}

/* d nll / dy + w * d adversarial / dy, where y is the reconstruction. */
static ed_value add_adversarial(ed_networks *networks, generator_graph *v, ed_value y, ed_value from_nll)
{
    const ed_config *c = &networks->config;
    ed_graph *g = &v->graph;
    ed_nn nn = ed_networks_nn(networks, g, ED_SET_DISCRIMINATOR, true);
    ed_value logits = ed_discriminator(&nn, c->train_autoencoder.disc_ndf, c->train_autoencoder.disc_num_layers, y);
    v->adversarial = ed_mean_loss(g, logits, ED_MEAN_NEGATIVE);
    ed_value from_critic = ed_graph_gradient_at(g, 1, &v->adversarial, &v->seed_adversarial, y);
    if (g->status != ENCDIFF_OK) return ED_NONE;
    ed_last_layer last = ed_autoencoder_last_layer(g, y);
    ed_attributes attr = g->nodes[g->values[y].node].attr;
    ed_shape shape = *ed_graph_shape(g, last.weight);
    ed_value a = ed_zeros(g, shape, ED_F32), b = ed_zeros(g, shape, ED_F32);
    ed_conv2d_grad_weight(g, last.input, from_nll, a, ED_NONE, &attr);
    ed_conv2d_grad_weight(g, last.input, from_critic, b, ED_NONE, &attr);
    v->weight = ed_adaptive_weight(g, a, b, v->factor);
    ed_graph_output(g, v->adversarial);
    ed_graph_output(g, v->weight);
    return ed_add_values(g, ed_scale_by(g, from_critic, v->weight), from_nll);
}

static void build_generator(ed_env *env, ed_networks *networks, generator_graph *v, int64_t count, bool adversarial)
{
    const ed_config *c = &networks->config;
    ed_graph *g = &v->graph;
    ed_graph_init(g, env);
    ed_graph_train(g, ED_SET_FIRST_STAGE, true);
    v->perceptual = v->adversarial = v->weight = ED_NONE;
    add_inputs(networks, g, count, &v->images, &v->noise);
    v->seed_nll = per_image(g, "nll weight", count);
    v->seed_perceptual = per_image(g, "perceptual weight", count);
    v->seed_adversarial = per_image(g, "adversarial weight", count);
    v->seed_latent = per_image(g, "latent weight", count);
    v->factor = ed_graph_input(g, "discriminator weight", ED_SHAPE1(1), ED_F32, false);

    ed_value y = reconstruct(networks, g, v->images, v->noise, &v->latent_loss);
    v->l1 = ed_difference_loss(g, y, v->images, ED_LOSS_L1);
    ed_value values[2] = {v->l1}, seeds[2] = {v->seed_nll, v->seed_perceptual};
    if (c->train_autoencoder.perceptual_weight > 0) {
        ed_nn nn = ed_networks_nn(networks, g, ED_SET_LPIPS, false);
        values[1] = v->perceptual = ed_lpips(&nn, v->images, y);
        ed_graph_output(g, v->perceptual);
    }
    ed_value dy = ed_graph_gradient_at(g, v->perceptual == ED_NONE ? 1 : 2, values, seeds, y);
    if (adversarial) dy = add_adversarial(networks, v, y, dy);
    ed_graph_output(g, v->l1);
    ed_graph_output(g, v->latent_loss);
    ed_graph_backward(g, 2, (const ed_value[]){y, v->latent_loss}, (const ed_value[]){dy, v->seed_latent});
}

encdiff_status ed_stage_autoencoder_graph(ed_env *env, ed_networks *networks, int64_t count, ed_graph *graph)
{
    generator_graph v = {.exec = NULL};
    build_generator(env, networks, &v, count, networks->config.train_autoencoder.discriminator);
    *graph = v.graph;
    return graph->status;
}

static ed_value critic_loss(ed_graph *g, const ed_config *c, ed_value logits, bool real)
{
    bool hinge = c->train_autoencoder.disc_loss == ED_DISC_HINGE;
    if (real) return ed_mean_loss(g, logits, hinge ? ED_MEAN_HINGE_REAL : ED_MEAN_SOFTPLUS_REAL);
    return ed_mean_loss(g, logits, hinge ? ED_MEAN_HINGE_FAKE : ED_MEAN_SOFTPLUS_FAKE);
}

static encdiff_status build_critic(ed_stage_autoencoder *stage, critic_graph *v, int64_t count)
{
    const ed_config *c = &stage->networks->config;
    ed_graph *g = &v->graph;
    ed_graph_init(g, stage->team->env);
    ed_graph_train(g, ED_SET_DISCRIMINATOR, true);
    add_inputs(stage->networks, g, count, &v->images, &v->noise);
    v->seed = per_image(g, "weight", count);
    ed_value unused, y = reconstruct(stage->networks, g, v->images, v->noise, &unused);
    ed_nn nn = ed_networks_nn(stage->networks, g, ED_SET_DISCRIMINATOR, true);
    int ndf = c->train_autoencoder.disc_ndf, layers = c->train_autoencoder.disc_num_layers;
    ed_value real = ed_discriminator(&nn, ndf, layers, v->images), fake = ed_discriminator(&nn, ndf, layers, y);
    v->loss_real = critic_loss(g, c, real, true);
    v->loss_fake = critic_loss(g, c, fake, false);
    v->logit_real = ed_mean_loss(g, real, ED_MEAN_NEGATIVE);
    v->logit_fake = ed_mean_loss(g, fake, ED_MEAN_NEGATIVE);
    const ed_value kept[] = {v->loss_real, v->loss_fake, v->logit_real, v->logit_fake};
    for (int i = 0; i < 4; i++) ed_graph_output(g, kept[i]);
    ed_graph_backward(g, 2, kept, (const ed_value[]){v->seed, v->seed});
    return ed_exec_create(stage->team->env, stage->team->backend, g, &v->exec);
}

/* ---------------------------------------------------------------- life */

encdiff_status ed_stage_autoencoder_create(ed_team *team, ed_networks *networks, ed_optimizer *generator,
                                           ed_optimizer *discriminator, int64_t batch, ed_stage_autoencoder **out)
{
    *out = NULL;
    ed_stage_autoencoder *stage = ed_alloc(team->env, 1, sizeof *stage);
    if (!stage) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    *stage = (ed_stage_autoencoder){.team = team,
                                    .networks = networks,
                                    .generator = generator,
                                    .discriminator = discriminator,
                                    .batch = batch,
                                    .ranks = (int)ED_MIN(batch, (int64_t)team->ranks)};
    stage->shards = ed_alloc(team->env, (size_t)stage->ranks, sizeof *stage->shards);
    encdiff_status status = stage->shards ? ENCDIFF_OK : ENCDIFF_ERROR_OUT_OF_MEMORY;
    for (int r = 0; r < stage->ranks && status == ENCDIFF_OK; r++) {
        shard *s = &stage->shards[r];
        int64_t last;
        ed_shard(batch, stage->ranks, r, &s->first, &last);
        s->count = last - s->first;
        s->scratch = ed_alloc(team->env, (size_t)s->count, sizeof(float));
        if (!s->scratch) status = ENCDIFF_ERROR_OUT_OF_MEMORY;
    }
    if (status != ENCDIFF_OK)
        ed_stage_autoencoder_free(stage);
    else
        *out = stage;
    return status;
}

static void free_generator(generator_graph *v)
{
    ed_exec_free(v->exec);
    ed_graph_free(&v->graph);
    *v = (generator_graph){0};
}

static void free_critic(critic_graph *v)
{
    ed_exec_free(v->exec);
    ed_graph_free(&v->graph);
    *v = (critic_graph){0};
}

void ed_stage_autoencoder_free(ed_stage_autoencoder *stage)
{
    if (!stage) return;
    for (int r = 0; stage->shards && r < stage->ranks; r++) {
        free_generator(&stage->shards[r].plain);
        free_generator(&stage->shards[r].adversarial);
        free_critic(&stage->shards[r].critic);
        ed_free(stage->team->env, stage->shards[r].scratch);
    }
    ed_free(stage->team->env, stage->shards);
    ed_free(stage->team->env, stage);
}

/* The graphs that the batch needs. With the first adversarial batch the plain graph's memory is given back. */
static encdiff_status prepare_generator(ed_stage_autoencoder *stage, bool adversarial)
{
    for (int r = 0; r < stage->ranks; r++) {
        shard *s = &stage->shards[r];
        generator_graph *wanted = adversarial ? &s->adversarial : &s->plain,
                        *other = adversarial ? &s->plain : &s->adversarial;
        free_generator(other);
        if (wanted->exec) continue;
        build_generator(stage->team->env, stage->networks, wanted, s->count, adversarial);
        encdiff_status status = ed_exec_create(stage->team->env, stage->team->backend, &wanted->graph, &wanted->exec);
        if (status != ENCDIFF_OK) {
            free_generator(wanted);
            return status;
        }
    }
    return ENCDIFF_OK;
}

static encdiff_status prepare_critic(ed_stage_autoencoder *stage)
{
    for (int r = 0; r < stage->ranks; r++) {
        shard *s = &stage->shards[r];
        if (s->critic.exec) continue;
        encdiff_status status = build_critic(stage, &s->critic, s->count);
        if (status != ENCDIFF_OK) {
            free_critic(&s->critic);
            return status;
        }
    }
    return ENCDIFF_OK;
}

ed_exec *ed_stage_autoencoder_exec(ed_stage_autoencoder *stage)
{
    shard *s = &stage->shards[0];
    return s->adversarial.exec ? s->adversarial.exec : s->plain.exec;
}

/* ---------------------------------------------------------------- running */

typedef struct job {
    ed_stage_autoencoder *stage;
    const ed_autoencoder_batch *batch;
} job;

static encdiff_status bind(const ed_stage_autoencoder *stage, ed_exec *exec, int rank)
{
    ed_networks *n = stage->networks;
    for (int set = ED_SET_FIRST_STAGE; set < ED_SET_COUNT; set++) {
        ed_optimizer *o = set == ED_SET_FIRST_STAGE     ? stage->generator
                          : set == ED_SET_DISCRIMINATOR ? stage->discriminator
                                                        : NULL;
        float *values;
        ED_TRY(ed_networks_place(stage->team, n, (ed_set)set, false, &values));
        ed_exec_bind(exec, set, values, o ? o->sets[0].grads[rank] : NULL, n->sets[set].version);
        /* batch norms write their running statistics */
        if (o) ed_networks_changed(stage->team, n, (ed_set)set, n->sets[set].version);
    }
    return ENCDIFF_OK;
}

static encdiff_status put_images(ed_env *env, const job *j, ed_exec *exec, const shard *s, ed_value images,
                                 ed_value noise)
{
    const ed_config *c = &j->stage->networks->config;
    size_t pixels = (size_t)c->image.resolution * (size_t)c->image.resolution * 3, z = (size_t)ed_config_latent_size(c);
    size_t latent = z * z * (size_t)ed_config_latent_channels(c), n = (size_t)s->count;
    ED_TRY(ed_exec_write(env, exec, images, j->batch->images + (size_t)s->first * pixels, n * pixels * sizeof(float)));
    if (noise == ED_NONE) return ENCDIFF_OK;
    return ed_exec_write(env, exec, noise, j->batch->noise + (size_t)s->first * latent, n * latent * sizeof(float));
}

static encdiff_status put_constant(ed_env *env, shard *s, ed_exec *exec, ed_value value, double x)
{
    for (int64_t i = 0; i < s->count; i++) s->scratch[i] = (float)x;
    return ed_exec_write(env, exec, value, s->scratch, (size_t)s->count * sizeof(float));
}

/* Weights of an image in the generator's gradient. The kl stage sums over an image where the vq stage takes the mean.
 */
typedef struct weights {
    double nll, perceptual, latent, offset;
} weights;

static weights image_weights(const ed_config *c, int64_t n)
{
    double each = 1.0 / (double)n, elements = 3.0 * c->image.resolution * c->image.resolution;
    if (c->autoencoder.kind == ED_AE_VQ)
        return (weights){each * c->train_autoencoder.pixelloss_weight, each * c->train_autoencoder.perceptual_weight,
                         each * c->train_autoencoder.codebook_weight, 0};
    double sum = each * elements / exp(c->train_autoencoder.logvar_init);
    return (weights){sum * c->train_autoencoder.pixelloss_weight, sum * c->train_autoencoder.perceptual_weight,
                     each * c->train_autoencoder.kl_weight, elements * c->train_autoencoder.logvar_init};
}

static encdiff_status add_up(ed_env *env, shard *s, ed_exec *exec, ed_value value, int term)
{
    s->sums[term] = 0;
    if (value == ED_NONE) return ENCDIFF_OK;
    ED_TRY(ed_exec_read(env, exec, value, s->scratch, (size_t)s->count * sizeof(float)));
    for (int64_t i = 0; i < s->count; i++) {
        s->sums[term] += (double)s->scratch[i];
        if (!isfinite(s->scratch[i]) && s->bad_image < 0) s->bad_image = s->first + i;
    }
    return ENCDIFF_OK;
}

static encdiff_status fill_generator(ed_env *env, const job *j, shard *s, generator_graph *v)
{
    const ed_config *c = &j->stage->networks->config;
    weights w = image_weights(c, j->batch->n);
    float factor = (float)(c->train_autoencoder.disc_weight * c->train_autoencoder.disc_factor);
    ED_TRY(put_images(env, j, v->exec, s, v->images, v->noise));
    ED_TRY(put_constant(env, s, v->exec, v->seed_nll, w.nll));
    ED_TRY(put_constant(env, s, v->exec, v->seed_perceptual, w.perceptual));
    ED_TRY(put_constant(env, s, v->exec, v->seed_adversarial, 1.0 / (double)j->batch->n));
    ED_TRY(put_constant(env, s, v->exec, v->seed_latent, w.latent));
    return ed_exec_write(env, v->exec, v->factor, &factor, sizeof factor);
}

static encdiff_status generator_rank(ed_env *env, void *argument, int rank)
{
    job *j = argument;
    shard *s = &j->stage->shards[rank];
    generator_graph *v = j->batch->adversarial ? &s->adversarial : &s->plain;
    ed_run run = {.rank = rank, .comm = j->stage->team->comm[j->stage->ranks], .first_image = s->first};
    s->bad_image = -1;
    encdiff_status filled = fill_generator(env, j, s, v);
    ED_TRY(ed_exec_run(env, v->exec, &run, 0, -1)); /* runs in any case: the others wait in its sums */
    ED_TRY(filled);
    const ed_value terms[] = {v->l1, v->perceptual, v->latent_loss, v->adversarial};
    for (int i = 0; i < 4; i++) ED_TRY(add_up(env, s, v->exec, terms[i], i));
    if (v->weight == ED_NONE) return ENCDIFF_OK;
    float weight;
    ED_TRY(ed_exec_read(env, v->exec, v->weight, &weight, sizeof weight));
    s->sums[4] = (double)weight;
    return ENCDIFF_OK;
}

static double mean_of(const ed_stage_autoencoder *stage, int term)
{
    double sum = 0;
    for (int r = 0; r < stage->ranks; r++) sum += stage->shards[r].sums[term];
    return sum / (double)stage->batch;
}

static void find_bad_image(const ed_stage_autoencoder *stage, ed_losses *losses)
{
    for (int r = stage->ranks - 1; r >= 0; r--)
        if (stage->shards[r].bad_image >= 0) losses->bad_image = stage->shards[r].bad_image;
}

static void add_term(ed_losses *losses, const char *name, double value)
{
    losses->names[losses->count] = name;
    losses->values[losses->count++] = value;
}

encdiff_status ed_stage_autoencoder_generator(ed_stage_autoencoder *stage, const ed_autoencoder_batch *batch,
                                              ed_losses *losses)
{
    job j = {stage, batch};
    const ed_config *c = &stage->networks->config;
    ED_TRY(prepare_generator(stage, batch->adversarial));
    for (int r = 0; r < stage->ranks; r++) {
        shard *s = &stage->shards[r];
        ED_TRY(bind(stage, batch->adversarial ? s->adversarial.exec : s->plain.exec, r));
    }
    ED_TRY(ed_team_run(stage->team, stage->ranks, generator_rank, &j));
    weights w = image_weights(c, 1);
    double l1 = mean_of(stage, 0), perceptual = mean_of(stage, 1), latent = mean_of(stage, 2),
           adversarial = mean_of(stage, 3);
    double weight = batch->adversarial ? stage->shards[0].sums[4] : 0;
    *losses = (ed_losses){.bad_image = -1};
    add_term(losses, "loss",
             w.nll * l1 + w.perceptual * perceptual + w.offset + w.latent * latent + weight * adversarial);
    add_term(losses, "reconstruction", l1);
    if (c->train_autoencoder.perceptual_weight > 0) add_term(losses, "perceptual", perceptual);
    add_term(losses, c->autoencoder.kind == ED_AE_VQ ? "codebook" : "kl", latent);
    if (c->train_autoencoder.discriminator) {
        add_term(losses, "adversarial", adversarial);
        add_term(losses, "adaptive_weight", weight);
    }
    find_bad_image(stage, losses);
    return ENCDIFF_OK;
}

static encdiff_status critic_rank(ed_env *env, void *argument, int rank)
{
    job *j = argument;
    shard *s = &j->stage->shards[rank];
    critic_graph *v = &s->critic;
    ed_run run = {.rank = rank, .comm = j->stage->team->comm[j->stage->ranks], .first_image = s->first};
    s->bad_image = -1;
    double half = 0.5 * j->stage->networks->config.train_autoencoder.disc_factor / (double)j->batch->n;
    encdiff_status filled = put_images(env, j, v->exec, s, v->images, v->noise);
    if (filled == ENCDIFF_OK) filled = put_constant(env, s, v->exec, v->seed, half);
    ED_TRY(ed_exec_run(env, v->exec, &run, 0, -1));
    ED_TRY(filled);
    const ed_value terms[] = {v->loss_real, v->loss_fake, v->logit_real, v->logit_fake};
    for (int i = 0; i < 4; i++) ED_TRY(add_up(env, s, v->exec, terms[i], i));
    return ENCDIFF_OK;
}

encdiff_status ed_stage_autoencoder_discriminator(ed_stage_autoencoder *stage, const ed_autoencoder_batch *batch,
                                                  ed_losses *losses)
{
    job j = {stage, batch};
    ED_TRY(prepare_critic(stage));
    for (int r = 0; r < stage->ranks; r++) ED_TRY(bind(stage, stage->shards[r].critic.exec, r));
    ED_TRY(ed_team_run(stage->team, stage->ranks, critic_rank, &j));
    *losses = (ed_losses){.bad_image = -1};
    add_term(losses, "discriminator", 0.5 * (mean_of(stage, 0) + mean_of(stage, 1)));
    add_term(losses, "logits_real", -mean_of(stage, 2));
    add_term(losses, "logits_fake", -mean_of(stage, 3));
    find_bad_image(stage, losses);
    return ENCDIFF_OK;
}
