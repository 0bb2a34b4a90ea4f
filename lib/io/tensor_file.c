#include "io/tensor_file.h"

encdiff_status ed_tensor_file_open(ed_env *env, const char *path, ed_tensor_file *out)
{
    ed_source source;
    *out = (ed_tensor_file){0};
    ED_TRY(ed_source_open(env, path, &source));
    bool torch = ed_torch_detect(env, &source);
    ed_source_close(env, &source);
    return torch ? ed_torch_open(env, path, &out->torch) : ed_safetensors_open(env, path, &out->safetensors);
}

void ed_tensor_file_close(ed_env *env, ed_tensor_file *file)
{
    ed_torch_close(env, file->torch);
    ed_safetensors_close(env, file->safetensors);
    *file = (ed_tensor_file){0};
}

size_t ed_tensor_file_count(const ed_tensor_file *file)
{
    return file->torch ? ed_torch_count(file->torch) : ed_safetensors_count(file->safetensors);
}

const ed_st_tensor *ed_tensor_file_at(const ed_tensor_file *file, size_t index)
{
    return file->torch ? ed_torch_at(file->torch, index) : ed_safetensors_at(file->safetensors, index);
}

const ed_st_tensor *ed_tensor_file_find(const ed_tensor_file *file, const char *name)
{
    return file->torch ? ed_torch_find(file->torch, name) : ed_safetensors_find(file->safetensors, name);
}

encdiff_status ed_tensor_file_read_f32(ed_env *env, const ed_tensor_file *file, const ed_st_tensor *tensor, float *out)
{
    return file->torch ? ed_torch_read_f32(env, file->torch, tensor, out)
                       : ed_safetensors_read_f32(env, file->safetensors, tensor, out);
}
