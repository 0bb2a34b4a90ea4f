/* Parameters as functions of their names, and tensors of a parameter set against the file's. */
#include <math.h>
#include <stdio.h>

#include "parity.h"

/*
 * The i-th of the numbers in [0, 1) that belong to a name: with h = FNV-1a-64(name) + seed, the top 53 bits of
 * splitmix64(h + i) over 2^53.
 */
static uint64_t hash_name(const char *name, uint64_t seed)
{
    uint64_t h = 0xCBF29CE484222325u;
    for (; *name; name++) h = (h ^ (unsigned char)*name) * 0x100000001B3u;
    return h + seed;
}

static double hash_uniform(uint64_t h, uint64_t i)
{
    uint64_t z = h + i + 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    z = z ^ (z >> 31);
    return (double)(z >> 11) / 9007199254740992.0;
}

static bool ends_with(const char *name, const char *end)
{
    size_t length = strlen(name), tail = strlen(end);
    return length >= tail && strcmp(name + length - tail, end) == 0;
}

/* What becomes of a number u: (multiply * u + add) * scale. */
typedef struct range {
    double multiply, add, scale;
} range;

/* Weights have variance 1 / fan_in, so that every layer counts, also those that training starts from zero. */
static range range_of(const char *name, const ed_shape *shape)
{
    if (strncmp(name, "perceptual_loss.lin", 19) == 0) return (range){1, 0, 1}; /* LPIPS's heads are not negative */
    if (ends_with(name, ".running_var")) return (range){1, 0.5, 1};
    if (ends_with(name, ".running_mean") || ends_with(name, ".bias")) return (range){0.2, -0.1, 1};
    if (shape->rank == 1) return (range){0.4, 0.8, 1}; /* gains of norms */
    return (range){2, -1, sqrt(3.0 / (double)(ed_shape_count(shape) / shape->dim[0]))};
}

static encdiff_status fill(const parity *p, ed_params *params)
{
    for (size_t t = 0; t < ed_params_tensor_count(params); t++) {
        char name[256];
        ed_tensor_ref ref = ed_params_tensor(params, t);
        ed_shape shape = ed_params_tensor_shape(params, ref);
        size_t count = (size_t)ed_shape_count(&shape);
        ed_params_tensor_name(params, ref, name, sizeof name);
        if (strncmp(name, "perceptual_loss.scaling.", 24) == 0) continue; /* constants, set already */
        float *values = ed_alloc(p->env, count, sizeof *values);
        if (!values) return ENCDIFF_ERROR_OUT_OF_MEMORY;
        range r = range_of(name, &shape);
        uint64_t h = hash_name(name, p->seed);
        for (size_t i = 0; i < count; i++) values[i] = (float)((r.multiply * hash_uniform(h, i) + r.add) * r.scale);
        ed_params_from_published(params, params->values, ref, values);
        ed_free(p->env, values);
    }
    params->version++;
    return ENCDIFF_OK;
}

encdiff_status parity_networks(const parity *p, const ed_config *config, uint32_t sets, ed_networks *out)
{
    ED_TRY(ed_networks_create(p->env, config, 1, out));
    encdiff_status status = sets >> ED_SET_LPIPS & 1 ? ed_networks_add_lpips(out) : ENCDIFF_OK;
    for (int set = 0; set < ED_SET_COUNT && status == ENCDIFF_OK; set++)
        if (sets >> set & 1) status = fill(p, &out->sets[set]);
    if (status != ENCDIFF_OK) ed_networks_free(out);
    return status;
}

/* ---------------------------------------------------------------- tensors by name */

/* One tensor in the file's layout: ours (parts summed) and theirs. */
typedef struct pair {
    float *ours, *theirs;
    int64_t count;
    ed_tensor_ref ref;
    char name[256]; /* with the prefix */
} pair;

static void free_pair(const parity *p, pair *both)
{
    ed_free(p->env, both->ours);
    ed_free(p->env, both->theirs);
    both->ours = both->theirs = NULL;
}

static encdiff_status add_published(const parity *p, const ed_params *params, const float *part, pair *both)
{
    float *values = ed_alloc(p->env, (size_t)both->count, sizeof *values);
    if (!values) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    ed_params_to_published(params, part, both->ref, values);
    for (int64_t i = 0; i < both->count; i++) both->ours[i] += values[i];
    ed_free(p->env, values);
    return ENCDIFF_OK;
}

/* Tensor `t` of the set; count 0 where the file does not have it. */
static encdiff_status get_pair(const parity *p, const ed_params *params, float *const *parts, int part_count, size_t t,
                               const char *prefix, pair *out)
{
    *out = (pair){.ref = ed_params_tensor(params, t)};
    ed_shape shape = ed_params_tensor_shape(params, out->ref);
    size_t at = (size_t)snprintf(out->name, sizeof out->name, "%s", prefix);
    ed_params_tensor_name(params, out->ref, out->name + at, sizeof out->name - at);
    if (!ed_safetensors_find(p->file, out->name)) return ENCDIFF_OK;
    ED_TRY(parity_read(p, out->name, &out->theirs, &out->count));
    if (out->count != ed_shape_count(&shape))
        return ed_fail(p->env, ENCDIFF_ERROR_SHAPE, "%s: %s has another size in the file", p->name, out->name);
    out->ours = ed_alloc(p->env, (size_t)out->count, sizeof *out->ours);
    if (!out->ours) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    for (int i = 0; i < part_count; i++) ED_TRY(add_published(p, params, parts[i], out));
    return ENCDIFF_OK;
}

/* Tensors of the file under `prefix` that belong to the set: all of them must have been seen. */
static size_t count_in_file(const parity *p, const ed_params *params, const char *prefix)
{
    size_t count = 0, length = strlen(prefix);
    const char *first = params->count ? params->items[0].name : "";
    const char *end = strchr(first, '.');
    size_t shared = end ? (size_t)(end - first) + 1 : 0;
    for (size_t i = 0; i < ed_safetensors_count(p->file); i++) {
        const char *name = ed_safetensors_at(p->file, i)->name;
        count += strncmp(name, prefix, length) == 0 && strncmp(name + length, first, shared) == 0;
    }
    return count;
}

static encdiff_status check_complete(const parity *p, const ed_params *params, const char *prefix, size_t seen)
{
    size_t wanted = count_in_file(p, params, prefix);
    if (seen && seen == wanted) return ENCDIFF_OK;
    return ed_fail(p->env, ENCDIFF_ERROR_NOT_FOUND, "%s: the file has %zu tensors %s..., of which the set has %zu",
                   p->name, wanted, prefix, seen);
}

/* ---------------------------------------------------------------- gradients */

static double norm(const float *values, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += (double)values[i] * (double)values[i];
    return sqrt(sum);
}

/* The norm of the gradient of the weight beside a bias; 0 for what is no bias. Layouts do not matter to it. */
static encdiff_status weight_norm(const parity *p, const ed_params *params, float *const *parts, int part_count,
                                  ed_tensor_ref ref, double *out)
{
    char name[256];
    *out = 0;
    size_t length = (size_t)snprintf(name, sizeof name, "%s", params->items[ref.param].name);
    if (!ends_with(name, ".bias")) return ENCDIFF_OK;
    snprintf(name + length - 4, sizeof name - length + 4, "weight");
    ref.param = ed_params_find(params, name);
    if (ref.param < 0) return ENCDIFF_OK;
    pair both = {.ref = ref};
    ed_shape shape = ed_params_tensor_shape(params, ref);
    both.count = ed_shape_count(&shape);
    both.ours = ed_alloc(p->env, (size_t)both.count, sizeof *both.ours);
    encdiff_status status = both.ours ? ENCDIFF_OK : ENCDIFF_ERROR_OUT_OF_MEMORY;
    for (int i = 0; i < part_count && status == ENCDIFF_OK; i++) status = add_published(p, params, parts[i], &both);
    if (status == ENCDIFF_OK) *out = norm(both.ours, both.count);
    free_pair(p, &both);
    return status;
}

/*
 * Some gradients are zero in exact arithmetic and rounding noise on both sides, which no relative error can compare: of
 * a bias before a norm that subtracts the mean over just what the bias shifts (batch norm, or group norm with one
 * channel a group), and of the bias of attention's keys, which moves all scores of a softmax alike. There the
 * golden bias gradient is at least 1e5 times smaller than that of the weight beside it, and it is compared on the
 * weight's scale: ours must vanish as well.
 */
#define VANISHES 1e-5

static double gradient_error(const pair *both, double weight)
{
    if (norm(both->theirs, both->count) > VANISHES * weight) return parity_error(both->ours, both->theirs, both->count);
    double squares = 0;
    for (int64_t i = 0; i < both->count; i++) {
        double off = (double)both->ours[i] - (double)both->theirs[i];
        squares += off * off;
    }
    return sqrt(squares) / weight;
}

/* ---------------------------------------------------------------- tables */

/* What the tensors of a set under one prefix have in common: one row for all, and one for each that is too far off. */
typedef struct group {
    const char *prefix, *what;
    double bound;
    bool gradients;
    double drift; /* of running means, see parity_compare_values() */
    size_t seen;
    double worst;
    char worst_name[256];
} group;

static void note(parity *p, group *g, const char *name, double error)
{
    if (!(error <= g->bound)) parity_row(p, name, error, g->bound);
    if (g->seen++ && error <= g->worst) return;
    g->worst = error;
    snprintf(g->worst_name, sizeof g->worst_name, "%s", name + strlen(g->prefix));
}

/* Ours moves towards theirs by as much as may be put down to drift. */
static void take_drift(const pair *both, double drift)
{
    for (int64_t i = 0; i < both->count; i++) {
        double off = (double)both->theirs[i] - (double)both->ours[i];
        both->ours[i] += (float)ED_MIN(ED_MAX(off, -drift), drift);
    }
}

static encdiff_status compare_tensor(parity *p, const ed_params *params, float *const *parts, int part_count, size_t t,
                                     group *g)
{
    pair both;
    double weight = 0;
    encdiff_status status = get_pair(p, params, parts, part_count, t, g->prefix, &both);
    if (status == ENCDIFF_OK && both.count && g->gradients)
        status = weight_norm(p, params, parts, part_count, both.ref, &weight);
    if (status == ENCDIFF_OK && both.count) {
        if (ends_with(both.name, ".running_mean")) take_drift(&both, g->drift);
        note(p, g, both.name, gradient_error(&both, weight));
    }
    free_pair(p, &both);
    return status;
}

static encdiff_status compare_group(parity *p, const ed_params *params, float *const *parts, int part_count, group *g)
{
    char quantity[320];
    for (size_t t = 0; t < ed_params_tensor_count(params); t++)
        ED_TRY(compare_tensor(p, params, parts, part_count, t, g));
    ED_TRY(check_complete(p, params, g->prefix, g->seen));
    snprintf(quantity, sizeof quantity, "%zu %s, worst %s", g->seen, g->what, g->worst_name);
    parity_row(p, quantity, g->worst, g->bound);
    return ENCDIFF_OK;
}

encdiff_status parity_compare_gradients(parity *p, const ed_params *params, float *const *parts, int part_count)
{
    group g = {.prefix = "grad.", .what = "gradients", .bound = GRADIENT_BOUND, .gradients = true};
    float *host[PARITY_MAX_RANKS] = {NULL};
    encdiff_status status = ENCDIFF_OK;
    for (int i = 0; i < part_count && status == ENCDIFF_OK; i++) {
        size_t bytes = params->total * sizeof(float);
        host[i] = ed_alloc_raw(p->env, bytes);
        status = host[i] ? p->backend->download(p->backend, p->env, host[i], parts[i], bytes)
                         : ENCDIFF_ERROR_OUT_OF_MEMORY;
    }
    if (status == ENCDIFF_OK) status = compare_group(p, params, host, part_count, &g);
    for (int i = 0; i < part_count; i++) ed_free(p->env, host[i]);
    return status;
}

encdiff_status parity_compare_values(parity *p, const ed_params *params, const float *values, const char *prefix,
                                     const char *what, double bound, double drift)
{
    group g = {.prefix = prefix, .what = what, .bound = bound, .drift = drift};
    float *const part = (float *)values; /* only read */
    return compare_group(p, params, &part, 1, &g);
}
