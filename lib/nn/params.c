/* A set of parameters: declared by the first graph, found again by name, converted to and from PyTorch's layout. */
#include <math.h>
#include <stdio.h>

#include "nn/nn.h"

#define OFFSET_UNIT 16 /* floats: every parameter starts on a cache line */

void ed_params_init(ed_params *params, ed_env *env) { *params = (ed_params){.env = env, .version = 1}; }

void ed_params_free(ed_params *params)
{
    if (!params->env) return;
    for (size_t i = 0; i < params->count; i++) ed_free(params->env, params->items[i].name);
    ed_free(params->env, params->items);
    ed_free(params->env, params->buckets);
    ed_free(params->env, params->values);
    *params = (ed_params){0};
}

/* ---------------------------------------------------------------- names */

/* FNV-1a, 64 bits. */
static uint64_t hash_name(const char *name)
{
    uint64_t h = 0xCBF29CE484222325u;
    for (; *name; name++) h = (h ^ (unsigned char)*name) * 0x100000001B3u;
    return h;
}

static void insert(ed_params *params, size_t index)
{
    size_t mask = params->bucket_count - 1, at = hash_name(params->items[index].name) & mask;
    while (params->buckets[at]) at = (at + 1) & mask;
    params->buckets[at] = (int32_t)index + 1;
}

static encdiff_status grow_table(ed_params *params)
{
    if (2 * (params->count + 1) <= params->bucket_count) return ENCDIFF_OK;
    size_t size = ED_MAX(64, 2 * params->bucket_count);
    int32_t *fresh = ed_alloc(params->env, size, sizeof *fresh);
    if (!fresh) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    ed_free(params->env, params->buckets);
    params->buckets = fresh;
    params->bucket_count = size;
    for (size_t i = 0; i < params->count; i++) insert(params, i);
    return ENCDIFF_OK;
}

int ed_params_find(const ed_params *params, const char *name)
{
    if (!params->bucket_count) return -1;
    size_t mask = params->bucket_count - 1;
    for (size_t at = hash_name(name) & mask; params->buckets[at]; at = (at + 1) & mask)
        if (strcmp(params->items[params->buckets[at] - 1].name, name) == 0) return params->buckets[at] - 1;
    return -1;
}

/* ---------------------------------------------------------------- declaration */

static ed_shape library_shape(ed_shape p, ed_layout layout, int pieces, bool stack)
{
    if (layout == ED_LAYOUT_CONV || layout == ED_LAYOUT_FLAT) return ED_SHAPE4(p.dim[0], p.dim[2], p.dim[3], p.dim[1]);
    if (!stack) return p;
    ed_shape s = {.rank = p.rank + 1, .dim = {pieces}};
    for (int i = 0; i < p.rank; i++) s.dim[i + 1] = p.dim[i];
    return s;
}

/* A flat layout is declared as [o, i, h, w] and lies in the file as [o, i * h * w]. */
static ed_shape file_shape(const ed_param *param)
{
    const ed_shape *p = &param->published;
    return param->layout == ED_LAYOUT_FLAT ? ED_SHAPE2(p->dim[0], p->dim[1] * p->dim[2] * p->dim[3]) : *p;
}

static int declare(ed_params *params, ed_param param)
{
    if (params->closed) {
        ed_fail(params->env, ENCDIFF_ERROR_INTERNAL, "parameter %s was not declared", param.name);
        return -1;
    }
    if (ed_reserve(params->env, &params->items, &params->capacity, params->count + 1, sizeof *params->items) !=
            ENCDIFF_OK ||
        grow_table(params) != ENCDIFF_OK || !(param.name = ed_strdup(params->env, param.name)))
        return -1;
    param.offset = params->total;
    params->total += ((size_t)ed_shape_count(&param.shape) + OFFSET_UNIT - 1) / OFFSET_UNIT * OFFSET_UNIT;
    params->items[params->count] = param;
    insert(params, params->count);
    return (int)params->count++;
}

static ed_value use(ed_nn *nn, const char *name, ed_param wanted, bool stack)
{
    ed_graph *graph = nn->graph;
    if (graph->status != ENCDIFF_OK) return ED_NONE;
    char full[256];
    snprintf(full, sizeof full, "%s%s", nn->prefix, name);
    wanted.name = full;
    wanted.shape = library_shape(wanted.published, wanted.layout, wanted.pieces, stack);
    int index = ed_params_find(nn->params, full);
    if (index < 0) index = declare(nn->params, wanted);
    if (index < 0) {
        graph->status = nn->params->env->status;
        return ED_NONE;
    }
    const ed_param *param = &nn->params->items[index];
    if (!ed_shape_equal(&param->shape, &wanted.shape)) {
        char has[64], needs[64];
        graph->status = ed_fail(graph->env, ENCDIFF_ERROR_INTERNAL, "parameter %s is %s, but %s is asked for", full,
                                ed_shape_text(&param->shape, has), ed_shape_text(&wanted.shape, needs));
        return ED_NONE;
    }
    return ed_graph_param(graph, param->name, param->shape, nn->set, param->offset, !param->buffer);
}

ed_value ed_nn_param(ed_nn *nn, const char *name, ed_shape published, ed_layout layout, ed_init init, int fan_in)
{
    return use(nn, name,
               (ed_param){.published = published, .layout = layout, .pieces = 1, .init = init, .fan_in = fan_in},
               false);
}

ed_value ed_nn_buffer(ed_nn *nn, const char *name, ed_shape published, ed_init init)
{
    return use(nn, name, (ed_param){.published = published, .pieces = 1, .init = init, .fan_in = 1, .buffer = true},
               false);
}

ed_value ed_nn_stack(ed_nn *nn, const char *name, int pieces, ed_shape published, int fan_in)
{
    return use(nn, name, (ed_param){.published = published, .pieces = pieces, .init = ED_INIT_FAN_IN, .fan_in = fan_in},
               true);
}

ed_nn ed_nn_at(const ed_nn *nn, const char *format, ...)
{
    ed_nn inner = *nn;
    size_t at = strlen(inner.prefix);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(inner.prefix + at, sizeof inner.prefix - at, format, arguments);
    va_end(arguments);
    return inner;
}

/* ---------------------------------------------------------------- initial values */

/* Streams are keyed by the name, so that a network's values do not depend on what else the model has. */
static void initialise(const ed_param *param, uint64_t seed, float *out)
{
    size_t count = (size_t)ed_shape_count(&param->shape);
    uint64_t stream = hash_name(param->name);
    float bound = 1.0f / sqrtf((float)param->fan_in);
    if (param->init == ED_INIT_CODEBOOK) bound = 1.0f / (float)param->published.dim[0];
    switch (param->init) {
    case ED_INIT_ZERO:
    case ED_INIT_ONE:
        for (size_t i = 0; i < count; i++) out[i] = param->init == ED_INIT_ONE;
        break;
    case ED_INIT_FAN_IN:
    case ED_INIT_CODEBOOK:
        ed_fill_uniform(seed, ED_RANDOM_INIT, stream, 0, count, out);
        for (size_t i = 0; i < count; i++) out[i] = (2 * out[i] - 1) * bound;
        break;
    case ED_INIT_NORMAL:
    case ED_INIT_NORMAL_ONE:
        ed_fill_normal(seed, ED_RANDOM_INIT, stream, 0, count, out);
        for (size_t i = 0; i < count; i++) out[i] = 0.02f * out[i] + (param->init == ED_INIT_NORMAL_ONE);
        break;
    }
}

encdiff_status ed_params_allocate(ed_params *params)
{
    params->closed = true;
    params->values = ed_alloc_raw(params->env, ED_MAX(params->total, 1) * sizeof *params->values);
    return params->values ? ENCDIFF_OK : ENCDIFF_ERROR_OUT_OF_MEMORY;
}

void ed_params_initialise(ed_params *params, uint64_t seed)
{
    ed_params_clear_gaps(params, params->values);
    for (size_t i = 0; i < params->count; i++)
        initialise(&params->items[i], seed, params->values + params->items[i].offset);
}

void ed_params_clear_gaps(const ed_params *params, float *values)
{
    for (size_t i = 0; i < params->count; i++) {
        size_t end = params->items[i].offset + (size_t)ed_shape_count(&params->items[i].shape);
        size_t next = i + 1 < params->count ? params->items[i + 1].offset : params->total;
        for (size_t at = end; at < next; at++) values[at] = 0;
    }
}

int64_t ed_params_trainable_count(const ed_params *params)
{
    int64_t count = 0;
    for (size_t i = 0; i < params->count; i++)
        if (!params->items[i].buffer) count += ed_shape_count(&params->items[i].shape);
    return count;
}

/* ---------------------------------------------------------------- published tensors */

size_t ed_params_tensor_count(const ed_params *params)
{
    size_t count = 0;
    for (size_t i = 0; i < params->count; i++) count += (size_t)params->items[i].pieces;
    return count;
}

ed_tensor_ref ed_params_tensor(const ed_params *params, size_t index)
{
    int param = 0;
    while (index >= (size_t)params->items[param].pieces) index -= (size_t)params->items[param++].pieces;
    return (ed_tensor_ref){param, (int)index};
}

void ed_params_tensor_name(const ed_params *params, ed_tensor_ref ref, char *name, size_t size)
{
    const char *pattern = params->items[ref.param].name, *mark = strstr(pattern, "%d");
    if (mark)
        snprintf(name, size, "%.*s%d%s", (int)(mark - pattern), pattern, ref.piece, mark + 2);
    else
        snprintf(name, size, "%s", pattern);
}

ed_shape ed_params_tensor_shape(const ed_params *params, ed_tensor_ref ref)
{
    return file_shape(&params->items[ref.param]);
}

static size_t piece_at(const ed_param *param, int piece)
{
    return param->offset + (size_t)piece * (size_t)ed_shape_count(&param->published);
}

void ed_params_to_published(const ed_params *params, const float *values, ed_tensor_ref ref, float *out)
{
    const ed_param *param = &params->items[ref.param];
    const ed_shape *p = &param->published;
    const float *in = values + piece_at(param, ref.piece);
    if (param->layout == ED_LAYOUT_PLAIN)
        memcpy(out, in, (size_t)ed_shape_count(p) * sizeof *out);
    else
        ed_nhwc_to_nchw(in, out, p->dim[0], p->dim[1], p->dim[2], p->dim[3]);
}

void ed_params_from_published(const ed_params *params, float *values, ed_tensor_ref ref, const float *in)
{
    const ed_param *param = &params->items[ref.param];
    const ed_shape *p = &param->published;
    float *out = values + piece_at(param, ref.piece);
    if (param->layout == ED_LAYOUT_PLAIN)
        memcpy(out, in, (size_t)ed_shape_count(p) * sizeof *out);
    else
        ed_nchw_to_nhwc(in, out, p->dim[0], p->dim[1], p->dim[2], p->dim[3]);
}
