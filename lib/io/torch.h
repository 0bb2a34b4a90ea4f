/*
 * torch: what torch.save() wrote, as tensors under names. Both of its formats are read: a zip with data.pkl and a
 * member per storage (since 1.6), and a row of pickles followed by the storages (before, and many published weights).
 *
 * The value must be a dictionary; its tensors have their keys as names, those of dictionaries inside the keys joined
 * by dots. Where it has a "state_dict", as Lightning's checkpoints do, only the tensors of that one count. Whatever is
 * neither a tensor nor a plain container is refused (pickle.h).
 */
#ifndef ED_IO_TORCH_H
#define ED_IO_TORCH_H

#include "io/safetensors.h"

typedef struct ed_torch ed_torch;

/* Whether the file begins like one of torch.save()'s; false also for one that cannot be read. */
bool ed_torch_detect(ed_env *env, const ed_source *source);
encdiff_status ed_torch_open(ed_env *env, const char *path, ed_torch **out);
void ed_torch_close(ed_env *env, ed_torch *file); /* NULL is fine */
size_t ed_torch_count(const ed_torch *file);
const ed_st_tensor *ed_torch_at(const ed_torch *file, size_t index);       /* sorted by name */
const ed_st_tensor *ed_torch_find(const ed_torch *file, const char *name); /* NULL when absent */
/* All elements, row-major whatever the strides are in the file. One thread at a time: a storage is kept between calls.
 */
encdiff_status ed_torch_read_f32(ed_env *env, ed_torch *file, const ed_st_tensor *tensor, float *out);
/* A whole number beside the tensors ("global_step"); false when there is none. */
bool ed_torch_integer(const ed_torch *file, const char *key, int64_t *out);

#endif
