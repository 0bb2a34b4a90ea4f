/*
 * Checkpoints: a model file with the optimisers' moments and the position of training in it. Written whole or not at
 * all, and the two newest are kept, so that there is always one to go on from. Everything that training draws is a
 * function of the seed and of counters, so the counters are all the state there is.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "model/place.h"
#include "model/weights.h"
#include "train/trainer.h"

#define KEPT 2
#define META_STAGE "train.stage"
#define META_STATE "train.state" /* the counters, as "name=value" separated by spaces */

/* ---------------------------------------------------------------- moments */

typedef struct moment {
    char name[64];
    ed_backend *backend; /* that has the data in its memory */
    float *data;
    size_t count;
} moment;

#define MAX_MOMENTS 8

/* Every moment buffer of the trainer, with the name that it has in the file. */
static int list_moments(const ed_trainer *t, moment out[MAX_MOMENTS])
{
    const ed_optimizer *optimizers[] = {t->optimizer, t->discriminator};
    static const char *const names[] = {"optimizer", "discriminator"};
    int count = 0;
    for (int o = 0; o < 2; o++)
        for (int s = 0; optimizers[o] && s < optimizers[o]->count; s++)
            for (int k = 0; k < 2; k++) {
                const ed_optimizer_set *set = &optimizers[o]->sets[s];
                moment *m = &out[count++];
                snprintf(m->name, sizeof m->name, "train.%s.%d.%s", names[o], s, k ? "v" : "m");
                m->backend = t->team->backend;
                m->data = k ? set->v : set->m;
                m->count = set->params->total;
            }
    return count;
}

static encdiff_status fill(ed_env *env, void *user, void *buffer)
{
    const moment *m = user;
    return m->backend->download(m->backend, env, buffer, m->data, m->count * sizeof(float));
}

static ed_st_item item_of(moment *m)
{
    ed_st_item item = {.type = ED_ST_F32, .rank = 1, .dim = {(int64_t)m->count}};
    if (m->backend->host_memory)
        item.data = m->data;
    else
        item.fill = fill, item.user = m;
    return item;
}

/* ---------------------------------------------------------------- counters */

typedef struct state {
    int64_t step, batches, updates, discriminator_updates, epoch, batch;
    uint64_t samples, seed;
} state;

static state state_of(const ed_trainer *t)
{
    return (state){.step = t->step,
                   .batches = t->batches,
                   .updates = t->optimizer->updates,
                   .discriminator_updates = t->discriminator ? t->discriminator->updates : 0,
                   .epoch = t->report.epoch,
                   .batch = t->options.batch,
                   .samples = t->samples,
                   .seed = t->options.seed};
}

#define STATE_FORMAT                                                                                                   \
    "step=%" PRId64 " batches=%" PRId64 " updates=%" PRId64 " discriminator_updates=%" PRId64 " epoch=%" PRId64        \
    " batch=%" PRId64 " samples=%" PRIu64 " seed=%" PRIu64
#define STATE_SCAN                                                                                                     \
    "step=%" SCNd64 " batches=%" SCNd64 " updates=%" SCNd64 " discriminator_updates=%" SCNd64 " epoch=%" SCNd64        \
    " batch=%" SCNd64 " samples=%" SCNu64 " seed=%" SCNu64

static bool read_state(const char *text, state *s)
{
    return text &&
           sscanf(text, STATE_SCAN, &s->step, &s->batches, &s->updates, &s->discriminator_updates, &s->epoch, &s->batch,
                  &s->samples, &s->seed) == 8 &&
           s->step >= 0 && s->batches >= 0 && s->updates >= 0;
}

/* ---------------------------------------------------------------- the folder */

/* The step in "<stage>-<step>.safetensors", or -1. */
static int64_t step_in_name(const char *name, const char *stage)
{
    size_t n = strlen(stage);
    if (strncmp(name, stage, n) != 0 || name[n] != '-') return -1;
    char *end;
    long long step = strtoll(name + n + 1, &end, 10);
    return end != name + n + 1 && strcmp(end, ".safetensors") == 0 && step >= 0 ? step : -1;
}

/* The newest checkpoint below step `below`; -1 when there is none. */
static int64_t newest_below(const char *folder, const char *stage, int64_t below)
{
    int64_t best = -1;
    DIR *dir = opendir(folder);
    if (!dir) return -1;
    for (struct dirent *entry; (entry = readdir(dir));) {
        int64_t step = step_in_name(entry->d_name, stage);
        if (step < below && step > best) best = step;
    }
    closedir(dir);
    return best;
}

static char *checkpoint_path(ed_env *env, const char *folder, const char *stage, int64_t step)
{
    return ed_format(env, "%s/%s-%08lld.safetensors", folder, stage, (long long)step);
}

static void remove_old(ed_env *env, const char *folder, const char *stage)
{
    int64_t below = INT64_MAX;
    for (int kept = 0; (below = newest_below(folder, stage, below)) >= 0; kept++) {
        if (kept < KEPT) continue;
        char *path = checkpoint_path(env, folder, stage, below);
        if (path) unlink(path); /* one too many does no harm */
        ed_free(env, path);
    }
}

/* ---------------------------------------------------------------- saving */

static encdiff_status write_checkpoint(ed_trainer *t, const char *path, ed_weight_list *list, ed_text text[5])
{
    ed_env *env = t->env;
    ed_st_pair pairs[6];
    moment moments[MAX_MOMENTS];
    size_t count;
    state s = state_of(t);
    ED_TRY(ed_networks_fetch(t->team, t->networks));
    ED_TRY(ed_networks_metadata(env, t->networks, text, pairs, &count));
    ED_TRY(ed_text_add(env, &text[4], STATE_FORMAT, s.step, s.batches, s.updates, s.discriminator_updates, s.epoch,
                       s.batch, s.samples, s.seed));
    pairs[count++] = (ed_st_pair){META_STAGE, ed_stage_name(t->options.stage)};
    pairs[count++] = (ed_st_pair){META_STATE, text[4].data};
    ED_TRY(ed_weight_list_add_networks(env, list, t->networks));
    int n = list_moments(t, moments);
    for (int i = 0; i < n; i++) ED_TRY(ed_weight_list_add_item(env, list, moments[i].name, item_of(&moments[i])));
    return ed_safetensors_write(env, path, list->items, list->count, pairs, count);
}

encdiff_status ed_trainer_save_as(ed_trainer *t, const char *path)
{
    ed_weight_list list = {0};
    ed_text text[5] = {{0}};
    encdiff_status status = write_checkpoint(t, path, &list, text);
    for (int i = 0; i < 5; i++) ed_text_free(t->env, &text[i]);
    ed_weight_list_free(t->env, &list);
    return status;
}

encdiff_status ed_trainer_save(ed_trainer *t, const char *folder)
{
    ed_env *env = t->env;
    const char *stage = ed_stage_name(t->options.stage);
    ED_TRY(ed_make_directories(env, folder));
    char *path = checkpoint_path(env, folder, stage, t->step);
    if (!path) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    encdiff_status status = ed_trainer_save_as(t, path);
    ed_free(env, path);
    if (status == ENCDIFF_OK) remove_old(env, folder, stage);
    return status;
}

/* ---------------------------------------------------------------- resuming */

/* What was read, before anything of the trainer changes. */
typedef struct loaded {
    ed_networks networks;
    float *moments[MAX_MOMENTS];
    state state;
} loaded;

static void free_loaded(ed_env *env, loaded *l)
{
    ed_networks_free(&l->networks);
    for (int i = 0; i < MAX_MOMENTS; i++) ed_free(env, l->moments[i]);
}

/* The groups that say what the networks are; how they are trained may change between runs. */
static encdiff_status same_configuration(ed_trainer *t, const char *path, const loaded *l)
{
    ed_config theirs = l->networks.config;
    ed_text a = {0}, b = {0};
    theirs.train_autoencoder = t->networks->config.train_autoencoder;
    theirs.train_encdiff = t->networks->config.train_encdiff;
    theirs.data = t->networks->config.data;
    encdiff_status status = ed_config_print(t->env, &theirs, false, &a);
    if (status == ENCDIFF_OK) status = ed_config_print(t->env, &t->networks->config, false, &b);
    if (status == ENCDIFF_OK && strcmp(a.data, b.data) != 0)
        status = ed_fail(t->env, ENCDIFF_ERROR_CONFIG, "%s: belongs to another configuration: %s", path, a.data);
    ed_text_free(t->env, &a);
    ed_text_free(t->env, &b);
    return status;
}

static encdiff_status same_numbers(ed_trainer *t, const char *path, const loaded *l)
{
    if (l->state.batch != t->options.batch)
        return ed_fail(t->env, ENCDIFF_ERROR_CONFIG, "%s: was trained with batches of %lld, not of %lld", path,
                       (long long)l->state.batch, (long long)t->options.batch);
    if (l->state.seed != t->options.seed)
        return ed_fail(t->env, ENCDIFF_ERROR_CONFIG, "%s: was trained with seed %llu, not %llu", path,
                       (unsigned long long)l->state.seed, (unsigned long long)t->options.seed);
    for (int set = 0; set < ED_SET_LPIPS; set++)
        if (l->networks.sets[set].total != t->networks->sets[set].total ||
            l->networks.sets[set].count != t->networks->sets[set].count)
            return ed_fail(t->env, ENCDIFF_ERROR_CONFIG,
                           "%s: belongs to another configuration: %s has %zu parameters there and %zu here", path,
                           ed_set_prefix((ed_set)set), l->networks.sets[set].total, t->networks->sets[set].total);
    return same_configuration(t, path, l);
}

static encdiff_status read_moments(ed_trainer *t, const ed_safetensors *file, const char *path, loaded *l)
{
    moment moments[MAX_MOMENTS];
    int n = list_moments(t, moments);
    for (int i = 0; i < n; i++) {
        const ed_st_tensor *tensor = ed_safetensors_find(file, moments[i].name);
        if (!tensor || (size_t)tensor->count != moments[i].count)
            return ed_fail(t->env, ENCDIFF_ERROR_FORMAT, "%s: tensor %s is missing or of another size", path,
                           moments[i].name);
        l->moments[i] = ed_alloc(t->env, ED_MAX(moments[i].count, 1), sizeof(float));
        if (!l->moments[i]) return ENCDIFF_ERROR_OUT_OF_MEMORY;
        ED_TRY(ed_safetensors_read_f32(t->env, file, tensor, l->moments[i]));
    }
    return ENCDIFF_OK;
}

static encdiff_status check_stage(ed_trainer *t, const ed_safetensors *file, const char *path, loaded *l)
{
    const char *stage = ed_safetensors_metadata(file, META_STAGE);
    if (!stage || !read_state(ed_safetensors_metadata(file, META_STATE), &l->state))
        return ed_fail(t->env, ENCDIFF_ERROR_FORMAT, "%s: is no training checkpoint", path);
    if (strcmp(stage, ed_stage_name(t->options.stage)) != 0)
        return ed_fail(t->env, ENCDIFF_ERROR_CONFIG, "%s: is of the stage %s, not %s", path, stage,
                       ed_stage_name(t->options.stage));
    return ENCDIFF_OK;
}

/* Takes over the file. */
static encdiff_status read_checkpoint(ed_trainer *t, ed_safetensors *file, const char *path, loaded *l)
{
    encdiff_status status = check_stage(t, file, path, l);
    if (status != ENCDIFF_OK) {
        ed_safetensors_close(t->env, file);
        return status;
    }
    ED_TRY(ed_networks_open(t->env, file, path, &l->networks));
    ED_TRY(same_numbers(t, path, l));
    ED_TRY(read_moments(t, file, path, l));
    return ed_networks_need(&l->networks, ED_SET_COUNT); /* which closes the file */
}

static void take_average(float *to, const float *from, const ed_params *params)
{
    if (to) memcpy(to, from ? from : params->values, params->total * sizeof(float));
}

static encdiff_status adopt_moments(ed_trainer *t, const loaded *l)
{
    moment moments[MAX_MOMENTS];
    int count = list_moments(t, moments);
    for (int i = 0; i < count; i++) {
        moment *m = &moments[i];
        ED_TRY(m->backend->upload(m->backend, t->env, m->data, l->moments[i], m->count * sizeof(float)));
    }
    return ENCDIFF_OK;
}

/* Only a device that has failed makes this fail. */
static encdiff_status adopt(ed_trainer *t, loaded *l)
{
    ed_networks *n = t->networks;
    ED_TRY(adopt_moments(t, l));
    for (int set = 0; set < ED_SET_LPIPS; set++) {
        memcpy(n->sets[set].values, l->networks.sets[set].values, n->sets[set].total * sizeof(float));
        take_average(n->averages[set], l->networks.averages[set], &n->sets[set]);
        n->sets[set].version++;
    }
    n->scale_factor = l->networks.scale_factor;
    n->scale_known = l->networks.scale_known;
    n->steps = l->networks.steps;
    t->step = t->report.step = l->state.step;
    t->batches = l->state.batches;
    t->samples = l->state.samples;
    t->report.epoch = l->state.epoch;
    t->optimizer->updates = l->state.updates;
    if (t->discriminator) t->discriminator->updates = l->state.discriminator_updates;
    ed_optimizer_clear(t->optimizer);
    if (t->discriminator) ed_optimizer_clear(t->discriminator);
    ed_loader_free(t->env, t->loader); /* the next batch opens one at the new position */
    t->loader = NULL;
    ed_train_log_close(t->env, t->log); /* and the log is trimmed to it */
    t->log = NULL;
    ed_latent_cache_clear(t->cache);
    return ENCDIFF_OK;
}

static encdiff_status resume_file(ed_trainer *t, const char *path)
{
    ed_safetensors *file = NULL;
    loaded l = {.state = {0}};
    ED_TRY(ed_safetensors_open(t->env, path, &file));
    encdiff_status status = read_checkpoint(t, file, path, &l);
    if (status == ENCDIFF_OK) status = adopt(t, &l);
    free_loaded(t->env, &l);
    return status;
}

/* The newest whole checkpoint; a damaged one is passed over for the one before it, and said so in the log. */
static encdiff_status resume_folder(ed_trainer *t, const char *folder)
{
    const char *stage = ed_stage_name(t->options.stage);
    encdiff_status status = ENCDIFF_ERROR_NOT_FOUND;
    for (int64_t below = INT64_MAX; (below = newest_below(folder, stage, below)) >= 0;) {
        char *path = checkpoint_path(t->env, folder, stage, below);
        if (!path) return ENCDIFF_ERROR_OUT_OF_MEMORY;
        status = resume_file(t, path);
        ed_free(t->env, path);
        if (status != ENCDIFF_ERROR_FORMAT && status != ENCDIFF_ERROR_IO) return status;
        ed_log(t->env, ED_LOG_WARNING, "%s; the checkpoint before it is tried", t->env->message);
    }
    if (status != ENCDIFF_ERROR_NOT_FOUND) return status;
    return ed_fail(t->env, ENCDIFF_ERROR_NOT_FOUND, "%s: no checkpoint of the stage %s", folder, stage);
}

encdiff_status ed_trainer_resume(ed_trainer *t, const char *path)
{
    struct stat info;
    if (stat(path, &info) != 0)
        return ed_fail(t->env, errno == ENOENT ? ENCDIFF_ERROR_NOT_FOUND : ENCDIFF_ERROR_IO, "%s: %s", path,
                       strerror(errno));
    return S_ISDIR(info.st_mode) ? resume_folder(t, path) : resume_file(t, path);
}
