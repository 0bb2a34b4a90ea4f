/* Networks to and from safetensors, under the published names and in PyTorch's layout. */
#ifndef ED_WEIGHTS_H
#define ED_WEIGHTS_H

#include "io/tensor_file.h"
#include "model/networks.h"

/* A growing list of tensors to write; names and fill arguments belong to it. */
typedef struct ed_weight_list {
    ed_st_item *items;
    size_t count, capacity;
    void **owned; /* names and arguments */
    size_t owned_count, owned_capacity;
} ed_weight_list;

void ed_weight_list_free(ed_env *env, ed_weight_list *list);
/* What a tensor is called in a file, from its published name; `size` of 360 holds any. */
typedef void (*ed_naming)(const char *published, char *name, size_t size);
void ed_name_published(const char *published, char *name, size_t size);
void ed_name_average(const char *published, char *name, size_t size); /* "ema." + published, in our own files */
/* Every tensor of a set; `values` is laid out like the set's. */
encdiff_status ed_weight_list_add(ed_env *env, ed_weight_list *list, const ed_params *params, const float *values,
                                  ed_naming naming);
/* Anything else; the name is copied, what the item points to is borrowed. */
encdiff_status ed_weight_list_add_item(ed_env *env, ed_weight_list *list, const char *name, ed_st_item item);
encdiff_status ed_weight_list_add_scalar(ed_env *env, ed_weight_list *list, const char *name, ed_st_type type,
                                         const void *data);
/* The networks' tensors: all sets but LPIPS, and the averages as "ema." + name. */
encdiff_status ed_weight_list_add_networks(ed_env *env, ed_weight_list *list, const ed_networks *networks);

/* Metadata keys of a model file. */
#define ED_META_FORMAT "encdiff.format"      /* "1" */
#define ED_META_CONFIG "encdiff.config"      /* the configuration's JSON */
#define ED_META_SCALE "encdiff.scale_factor" /* %.9g; absent until known */
#define ED_META_STEPS "encdiff.steps"        /* of the encdiff stage */

encdiff_status ed_networks_save(ed_env *env, ed_networks *networks, const char *path);
encdiff_status ed_networks_save_memory(ed_env *env, ed_networks *networks, uint8_t **data, size_t *size);
/* The metadata shared by model files and checkpoints; `text` owns the strings that `pairs` (at least 4) points to. */
encdiff_status ed_networks_metadata(ed_env *env, ed_networks *networks, ed_text text[4], ed_st_pair *pairs,
                                    size_t *count);
/*
 * Networks from an open file, which they take over, also on failure: then nothing else is owned. The metadata is read
 * and every tensor is there with its shape; the values of a network are read by the first ed_networks_need() of it, so
 * that a program that only encodes neither waits for the U-Net nor has memory for it. The file closes with the last.
 */
encdiff_status ed_networks_open(ed_env *env, ed_safetensors *file, const char *name, ed_networks *networks);
/* Read the values and averages of a set, or of all (ED_SET_COUNT), unless that is done. */
encdiff_status ed_networks_need(ed_networks *networks, ed_set set);
void ed_weight_file_close(ed_env *env, struct ed_weight_file *file); /* NULL is fine */
/* Fill a set from a file's tensors. Every one must be there with its shape and finite. */
encdiff_status ed_params_load(ed_env *env, const ed_tensor_file *file, const char *file_name, const ed_params *params,
                              float *values, ed_naming naming);
/* Whether the file has the first of a set's tensors, or the set has none. */
bool ed_params_in_file(const ed_tensor_file *file, const ed_params *params, ed_naming naming);

/*
 * VGG16 and the linear heads of LPIPS from a user's file: features.N.weight, features.N.bias and linK.model.1.weight,
 * with or without "perceptual_loss." (or the released code's "net.sliceS.N") before them. `heads` holds what `file` has
 * not, as where VGG16 and the heads are published apart, or is NULL.
 */
encdiff_status ed_lpips_load(ed_env *env, const ed_tensor_file *file, const char *file_name,
                             const ed_tensor_file *heads, ed_params *params);

#endif
