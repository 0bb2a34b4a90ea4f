/* A model file: published tensors, the configuration and what training measured in the metadata. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "model/weights.h"

/* ---------------------------------------------------------------- writing */

typedef struct source {
    const ed_params *params;
    const float *values;
    ed_tensor_ref ref;
} source;

static encdiff_status fill(ed_env *env, void *user, void *buffer)
{
    (void)env;
    const source *s = user;
    ed_params_to_published(s->params, s->values, s->ref, buffer);
    return ENCDIFF_OK;
}

/* The list owns `pointer` from here on, also on failure. */
static encdiff_status own(ed_env *env, ed_weight_list *list, void *pointer)
{
    if (!pointer) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    encdiff_status status = ed_reserve(env, &list->owned, &list->owned_capacity, list->owned_count + 1,
                                       sizeof *list->owned);
    if (status != ENCDIFF_OK)
        ed_free(env, pointer);
    else
        list->owned[list->owned_count++] = pointer;
    return status;
}

void ed_weight_list_free(ed_env *env, ed_weight_list *list)
{
    for (size_t i = 0; i < list->owned_count; i++) ed_free(env, list->owned[i]);
    ed_free(env, list->owned);
    ed_free(env, list->items);
    *list = (ed_weight_list){0};
}

static encdiff_status add_item(ed_env *env, ed_weight_list *list, char *name, ed_st_item item)
{
    ED_TRY(own(env, list, name));
    ED_TRY(ed_reserve(env, &list->items, &list->capacity, list->count + 1, sizeof *list->items));
    item.name = name;
    list->items[list->count++] = item;
    return ENCDIFF_OK;
}

void ed_name_published(const char *published, char *name, size_t size) { snprintf(name, size, "%s", published); }

void ed_name_average(const char *published, char *name, size_t size) { snprintf(name, size, "ema.%s", published); }

encdiff_status ed_weight_list_add(ed_env *env, ed_weight_list *list, const ed_params *params, const float *values,
                                  ed_naming naming)
{
    char published[320], name[360];
    for (size_t i = 0; i < params->count; i++)
        for (int piece = 0; piece < params->items[i].pieces; piece++) {
            source *s = ed_alloc(env, 1, sizeof *s);
            ED_TRY(own(env, list, s));
            *s = (source){params, values, {(int)i, piece}};
            ed_shape shape = ed_params_tensor_shape(params, s->ref);
            ed_st_item item = {.type = ED_ST_F32, .rank = shape.rank, .fill = fill, .user = s};
            memcpy(item.dim, shape.dim, sizeof shape.dim);
            ed_params_tensor_name(params, s->ref, published, sizeof published);
            naming(published, name, sizeof name);
            ED_TRY(add_item(env, list, ed_strdup(env, name), item));
        }
    return ENCDIFF_OK;
}

encdiff_status ed_weight_list_add_item(ed_env *env, ed_weight_list *list, const char *name, ed_st_item item)
{
    return add_item(env, list, ed_strdup(env, name), item);
}

encdiff_status ed_weight_list_add_scalar(ed_env *env, ed_weight_list *list, const char *name, ed_st_type type,
                                         const void *data)
{
    return add_item(env, list, ed_strdup(env, name), (ed_st_item){.type = type, .data = data});
}

encdiff_status ed_weight_list_add_networks(ed_env *env, ed_weight_list *list, const ed_networks *n)
{
    for (int set = 0; set < ED_SET_LPIPS; set++)
        ED_TRY(ed_weight_list_add(env, list, &n->sets[set], n->sets[set].values, ed_name_published));
    for (int set = 0; set < ED_SET_LPIPS; set++)
        if (n->averages[set]) ED_TRY(ed_weight_list_add(env, list, &n->sets[set], n->averages[set], ed_name_average));
    return ENCDIFF_OK;
}

encdiff_status ed_networks_metadata(ed_env *env, ed_networks *n, ed_text text[4], ed_st_pair *pairs, size_t *count)
{
    static const char *const keys[] = {ED_META_FORMAT, ED_META_CONFIG, ED_META_STEPS, ED_META_SCALE};
    ED_TRY(ed_text_add(env, &text[0], "1"));
    ED_TRY(ed_config_print(env, &n->config, false, &text[1]));
    ED_TRY(ed_text_add(env, &text[2], "%lld", (long long)n->steps));
    ED_TRY(ed_text_add(env, &text[3], "%.9g", (double)n->scale_factor));
    *count = n->scale_known ? 4 : 3;
    for (size_t i = 0; i < *count; i++) pairs[i] = (ed_st_pair){keys[i], text[i].data};
    return ENCDIFF_OK;
}

/* To a file, or to memory where `path` is NULL. */
static encdiff_status save(ed_env *env, ed_networks *n, const char *path, uint8_t **data, size_t *size)
{
    ed_weight_list list = {0};
    ed_text text[4] = {{0}};
    ed_st_pair pairs[4];
    size_t count = 0;
    encdiff_status status = ed_networks_metadata(env, n, text, pairs, &count);
    if (status == ENCDIFF_OK) status = ed_weight_list_add_networks(env, &list, n);
    if (status == ENCDIFF_OK)
        status = path ? ed_safetensors_write(env, path, list.items, list.count, pairs, count)
                      : ed_safetensors_write_memory(env, list.items, list.count, pairs, count, data, size);
    for (int i = 0; i < 4; i++) ed_text_free(env, &text[i]);
    ed_weight_list_free(env, &list);
    return status;
}

encdiff_status ed_networks_save(ed_env *env, ed_networks *n, const char *path)
{
    return save(env, n, path, NULL, NULL);
}

encdiff_status ed_networks_save_memory(ed_env *env, ed_networks *n, uint8_t **data, size_t *size)
{
    return save(env, n, NULL, data, size);
}

/* ---------------------------------------------------------------- reading */

static encdiff_status check_shape(ed_env *env, const char *file_name, const ed_st_tensor *tensor, const ed_shape *shape)
{
    bool same = tensor->rank == shape->rank;
    for (int i = 0; same && i < shape->rank; i++) same = tensor->dim[i] == shape->dim[i];
    if (same) return ENCDIFF_OK;
    char wanted[64], found[64];
    ed_shape has = {.rank = ED_MIN(tensor->rank, ED_MAX_RANK)};
    memcpy(has.dim, tensor->dim, (size_t)has.rank * sizeof has.dim[0]);
    return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: tensor %s is %s%s, the configuration needs %s", file_name,
                   tensor->name, ed_shape_text(&has, found), tensor->rank > ED_MAX_RANK ? " and more" : "",
                   ed_shape_text(shape, wanted));
}

static encdiff_status load_tensor(ed_env *env, const ed_tensor_file *file, const char *file_name,
                                  const ed_st_tensor *tensor, const ed_params *params, ed_tensor_ref ref, float *buffer,
                                  float *values)
{
    ed_shape shape = ed_params_tensor_shape(params, ref);
    ED_TRY(check_shape(env, file_name, tensor, &shape));
    ED_TRY(ed_tensor_file_read_f32(env, file, tensor, buffer));
    for (int64_t i = 0; i < tensor->count; i++)
        if (!isfinite(buffer[i]))
            return ed_fail(env, ENCDIFF_ERROR_NUMERIC, "%s: tensor %s, element %lld, is %g", file_name, tensor->name,
                           (long long)i, (double)buffer[i]);
    ed_params_from_published(params, values, ref, buffer);
    return ENCDIFF_OK;
}

/* Room for the largest tensor of a set. */
static float *tensor_buffer(ed_env *env, const ed_params *params)
{
    size_t most = 1;
    for (size_t i = 0; i < params->count; i++) most = ED_MAX(most, (size_t)ed_shape_count(&params->items[i].shape));
    return ed_alloc_raw(env, most * sizeof(float));
}

typedef encdiff_status (*tensor_visitor)(ed_env *env, const ed_tensor_file *file, const char *file_name,
                                         const ed_st_tensor *tensor, const ed_params *params, ed_tensor_ref ref,
                                         float *buffer, float *values);

/* Every tensor of a set, in its order. */
static encdiff_status visit(ed_env *env, const ed_tensor_file *file, const char *file_name, const ed_params *params,
                            ed_naming naming, tensor_visitor visitor, float *buffer, float *values)
{
    char name[320], full[360];
    for (size_t i = 0; i < params->count; i++)
        for (int piece = 0; piece < params->items[i].pieces; piece++) {
            ed_tensor_ref ref = {(int)i, piece};
            ed_params_tensor_name(params, ref, name, sizeof name);
            naming(name, full, sizeof full);
            const ed_st_tensor *tensor = ed_tensor_file_find(file, full);
            if (!tensor) return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: tensor %s is missing", file_name, full);
            ED_TRY(visitor(env, file, file_name, tensor, params, ref, buffer, values));
        }
    return ENCDIFF_OK;
}

static encdiff_status check_tensor(ed_env *env, const ed_tensor_file *file, const char *file_name,
                                   const ed_st_tensor *tensor, const ed_params *params, ed_tensor_ref ref,
                                   float *buffer, float *values)
{
    (void)file, (void)buffer, (void)values;
    ed_shape shape = ed_params_tensor_shape(params, ref);
    return check_shape(env, file_name, tensor, &shape);
}

encdiff_status ed_params_load(ed_env *env, const ed_tensor_file *file, const char *file_name, const ed_params *params,
                              float *values, ed_naming naming)
{
    float *buffer = tensor_buffer(env, params);
    if (!buffer) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    ed_params_clear_gaps(params, values);
    encdiff_status status = visit(env, file, file_name, params, naming, load_tensor, buffer, values);
    ed_free(env, buffer);
    return status;
}

bool ed_params_in_file(const ed_tensor_file *file, const ed_params *params, ed_naming naming)
{
    char name[320], full[360];
    if (!params->count) return true;
    ed_params_tensor_name(params, ed_params_tensor(params, 0), name, sizeof name);
    naming(name, full, sizeof full);
    return ed_tensor_file_find(file, full) != NULL;
}

/* ---------------------------------------------------------------- model files */

struct ed_weight_file {
    ed_tensor_file tensors;
    char *name;
    bool unread[ED_SET_COUNT];
};

void ed_weight_file_close(ed_env *env, struct ed_weight_file *file)
{
    if (!file) return;
    ed_safetensors_close(env, file->tensors.safetensors);
    ed_free(env, file->name);
    ed_free(env, file);
}

/* A discriminator that is not in the file keeps initial values. */
static encdiff_status read_set(ed_networks *n, int set)
{
    const ed_tensor_file *tensors = &n->file->tensors;
    ed_params *params = &n->sets[set];
    float *average = n->averages[set];
    if (!n->file->unread[set]) return ENCDIFF_OK;
    if (set == ED_SET_DISCRIMINATOR && !ed_params_in_file(tensors, params, ed_name_published))
        ed_params_initialise(params, 0);
    else
        ED_TRY(ed_params_load(n->env, tensors, n->file->name, params, params->values, ed_name_published));
    if (average) ED_TRY(ed_params_load(n->env, tensors, n->file->name, params, average, ed_name_average));
    params->version++;
    n->file->unread[set] = false;
    return ENCDIFF_OK;
}

encdiff_status ed_networks_need(ed_networks *n, ed_set set)
{
    if (!n->file) return ENCDIFF_OK;
    for (int i = 0; i < ED_SET_LPIPS; i++)
        if (set == ED_SET_COUNT || (int)set == i) ED_TRY(read_set(n, i));
    for (int i = 0; i < ED_SET_LPIPS; i++)
        if (n->file->unread[i]) return ENCDIFF_OK;
    ed_weight_file_close(n->env, n->file);
    n->file = NULL;
    return ENCDIFF_OK;
}

/* Its tensors are in the file with their shapes; room for the average where the file has one. */
static encdiff_status check_set(ed_networks *n, int set)
{
    const ed_tensor_file *tensors = &n->file->tensors;
    const ed_params *params = &n->sets[set];
    n->file->unread[set] = true;
    if (set != ED_SET_DISCRIMINATOR || ed_params_in_file(tensors, params, ed_name_published))
        ED_TRY(visit(n->env, tensors, n->file->name, params, ed_name_published, check_tensor, NULL, NULL));
    if (params->count == 0 || !ed_params_in_file(tensors, params, ed_name_average)) return ENCDIFF_OK;
    ED_TRY(visit(n->env, tensors, n->file->name, params, ed_name_average, check_tensor, NULL, NULL));
    n->averages[set] = ed_alloc_raw(n->env, params->total * sizeof(float));
    return n->averages[set] ? ENCDIFF_OK : ENCDIFF_ERROR_OUT_OF_MEMORY;
}

static encdiff_status load_numbers(ed_env *env, const ed_safetensors *file, const char *name, ed_networks *n)
{
    const char *scale = ed_safetensors_metadata(file, ED_META_SCALE),
               *steps = ed_safetensors_metadata(file, ED_META_STEPS);
    if (scale) {
        n->scale_factor = strtof(scale, NULL);
        n->scale_known = true;
        if (!isfinite(n->scale_factor) || n->scale_factor <= 0)
            return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: metadata %s is \"%.40s\", not a positive number", name,
                           ED_META_SCALE, scale);
    }
    n->steps = steps ? strtoll(steps, NULL, 10) : 0;
    if (n->steps < 0)
        return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: metadata %s is \"%.40s\"", name, ED_META_STEPS, steps);
    return ENCDIFF_OK;
}

static encdiff_status read_config(ed_env *env, const ed_safetensors *file, const char *name, ed_config *config)
{
    const char *text = ed_safetensors_metadata(file, ED_META_CONFIG);
    if (!text)
        return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: no %s in the metadata: not a model of this library", name,
                       ED_META_CONFIG);
    ed_json *json = NULL;
    ED_TRY(ed_json_parse(env, name, text, strlen(text), &json));
    encdiff_status status = ed_config_read(env, json, config);
    ed_json_free(env, json);
    return status;
}

static struct ed_weight_file *weight_file(ed_env *env, ed_safetensors *file, const char *name)
{
    struct ed_weight_file *f = ed_alloc(env, 1, sizeof *f);
    if (f && (f->name = ed_strdup(env, name))) {
        f->tensors.safetensors = file;
        return f;
    }
    ed_safetensors_close(env, file);
    ed_free(env, f);
    return NULL;
}

encdiff_status ed_networks_open(ed_env *env, ed_safetensors *safetensors, const char *name, ed_networks *n)
{
    ed_config config;
    struct ed_weight_file *file = weight_file(env, safetensors, name);
    if (!file) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    encdiff_status status = read_config(env, safetensors, name, &config);
    if (status == ENCDIFF_OK) status = ed_networks_declare(env, &config, n);
    if (status == ENCDIFF_ERROR_CONFIG) ed_fail_within(env, "%s", name);
    if (status != ENCDIFF_OK) {
        ed_weight_file_close(env, file);
        return status;
    }
    n->file = file;
    for (int set = 0; set < ED_SET_LPIPS && status == ENCDIFF_OK; set++) status = check_set(n, set);
    if (status == ENCDIFF_OK) status = ed_networks_allocate(n); /* not before the file has shown to hold as much */
    if (status == ENCDIFF_OK) status = load_numbers(env, safetensors, name, n);
    if (status != ENCDIFF_OK) ed_networks_free(n);
    return status;
}

/* ---------------------------------------------------------------- LPIPS */

/* The slice of the released LPIPS module that holds VGG layer N. */
static int slice_of(int layer)
{
    static const int ends[] = {4, 9, 16, 23, 30};
    int slice = 0;
    while (slice < 4 && layer >= ends[slice]) slice++;
    return slice + 1;
}

/* The tensor under one of the names it has in the files that are about. */
static const ed_st_tensor *find_lpips(const ed_tensor_file *file, const char *published)
{
    static const char prefix[] = "perceptual_loss.";
    const char *bare = published + sizeof prefix - 1;
    const ed_st_tensor *found = ed_tensor_file_find(file, published);
    if (!found) found = ed_tensor_file_find(file, bare);
    int layer, taken = 0;
    if (!found && sscanf(bare, "features.%d%n", &layer, &taken) == 1) {
        char name[64];
        snprintf(name, sizeof name, "net.slice%d.%d%.20s", slice_of(layer), layer, bare + taken);
        found = ed_tensor_file_find(file, name);
    }
    return found;
}

static encdiff_status load_lpips(ed_env *env, const ed_tensor_file *file, const char *file_name,
                                 const ed_tensor_file *heads, ed_params *params, float *buffer)
{
    char name[320];
    for (size_t i = 0; i < params->count; i++) {
        ed_tensor_ref ref = {(int)i, 0};
        if (params->items[i].buffer) continue; /* the input scaling, which is no weight */
        ed_params_tensor_name(params, ref, name, sizeof name);
        const ed_tensor_file *from = file;
        const ed_st_tensor *tensor = find_lpips(file, name);
        if (!tensor && heads) tensor = find_lpips(from = heads, name);
        if (!tensor)
            return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: tensor %s is missing", file_name,
                           name + strlen("perceptual_loss."));
        ED_TRY(load_tensor(env, from, file_name, tensor, params, ref, buffer, params->values));
    }
    return ENCDIFF_OK;
}

encdiff_status ed_lpips_load(ed_env *env, const ed_tensor_file *file, const char *file_name,
                             const ed_tensor_file *heads, ed_params *params)
{
    float *buffer = tensor_buffer(env, params);
    if (!buffer) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    encdiff_status status = load_lpips(env, file, file_name, heads, params, buffer);
    ed_free(env, buffer);
    if (status == ENCDIFF_OK) params->version++;
    return status;
}
