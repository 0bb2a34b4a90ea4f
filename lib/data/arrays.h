/* Images that lie in one array of bytes or floats: what .npy and .npz files share. */
#ifndef ED_DATA_ARRAYS_H
#define ED_DATA_ARRAYS_H

#include <pthread.h>

#include "data/dataset.h"
#include "io/npy.h"

typedef struct ed_array_set {
    ed_dataset base;
    ed_source source;
    ed_zip_stream *stream; /* instead of it, for a large deflated member; behind the lock */
    pthread_mutex_t lock;
    bool has_lock;
    ed_npy npy;
    bool planar; /* [3][h][w] */
    bool grey;   /* one channel */
    bool binary; /* 0 and 1, shown as black and white */
} ed_array_set;

/* false: no images. u8 [n][h][w][3], [n][h][w][1] or [n][h][w], f32 [n][h][w][3] or [n][3][h][w]. */
bool ed_are_images(const ed_npy *npy, bool *planar);
/* An empty set; `path` gives the name. */
encdiff_status ed_array_set_create(ed_env *env, const char *path, const char *format, ed_array_set **out);
/* What a->npy says, checked. Reads nothing. `name` is for messages. */
encdiff_status ed_array_set_shape(ed_env *env, ed_array_set *a, const char *name);
/* The first image's values, where the source is open: floats must be about [-1, 1]. */
encdiff_status ed_array_set_check(ed_env *env, ed_array_set *a);

#endif
