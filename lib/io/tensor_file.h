/* A file of named tensors of either kind: safetensors, or what torch.save() wrote. The first bytes tell. */
#ifndef ED_IO_TENSOR_FILE_H
#define ED_IO_TENSOR_FILE_H

#include "io/safetensors.h"
#include "io/torch.h"

/* One of the two is set; a zeroed one is closed. */
typedef struct ed_tensor_file {
    ed_safetensors *safetensors;
    ed_torch *torch;
} ed_tensor_file;

encdiff_status ed_tensor_file_open(ed_env *env, const char *path, ed_tensor_file *out);
void ed_tensor_file_close(ed_env *env, ed_tensor_file *file);
size_t ed_tensor_file_count(const ed_tensor_file *file);
const ed_st_tensor *ed_tensor_file_at(const ed_tensor_file *file, size_t index);
const ed_st_tensor *ed_tensor_file_find(const ed_tensor_file *file, const char *name); /* NULL when absent */
/* All elements; a torch file is read by one thread at a time. */
encdiff_status ed_tensor_file_read_f32(ed_env *env, const ed_tensor_file *file, const ed_st_tensor *tensor, float *out);

#endif
