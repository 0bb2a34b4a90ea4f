/* CelebA's lists, for its folder and for databases of its pictures. */
#ifndef ED_DATA_CELEBA_H
#define ED_DATA_CELEBA_H

#include "data/pictures.h"

typedef struct ed_celeba_list {
    int attributes;
    char **names;       /* [attributes] */
    ed_path_list files; /* as the list names them */
    int8_t *values;     /* [files][attributes], 0 or 1 */
    uint8_t *splits;    /* [files], ed_split */
    size_t value_capacity, split_capacity;
    int64_t expected; /* pictures by the list's first line; -1: it has none */
    bool has_splits;
} ed_celeba_list;

/* The list of attributes in the folder, to be freed; NULL when there is none. */
encdiff_status ed_celeba_find_list(ed_env *env, const char *folder, char **out);
/* Read it and, where there is one, the list of splits. */
encdiff_status ed_celeba_read_list(ed_env *env, const char *folder, const char *attributes, ed_celeba_list *out);
void ed_celeba_free_list(ed_env *env, ed_celeba_list *list);
/* Leave only the files of a split. */
encdiff_status ed_celeba_choose(ed_env *env, const char *path, ed_celeba_list *list, ed_split wanted);
/* The attributes of the pictures from `first` on become the dataset's factors. */
encdiff_status ed_celeba_set_labels(ed_env *env, ed_dataset *dataset, const ed_celeba_list *list, int64_t first);

#endif
