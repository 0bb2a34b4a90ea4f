/* How a picture of any size becomes one of the dataset's: a crop, then a change of size. */
#ifndef ED_DATA_FIT_H
#define ED_DATA_FIT_H

#include <pthread.h>

#include "data/data.h"
#include "io/resize.h"

typedef enum ed_crop {
    ED_CROP_NONE,
    ED_CROP_CENTRE, /* the largest centred part of the target's proportions, square where no size is given */
    ED_CROP_D2C,    /* 128 x 128 around row 121, column 89: aligned CelebA in D2C, DiffAE and EncDiff */
} ed_crop;

typedef struct ed_fit {
    ed_crop crop;
    ed_filter filter;
    int height, width; /* 0: what the crop leaves */
} ed_fit;

/* From the options' size, crop and filter; ENCDIFF_ERROR_ARGUMENT for unknown names. */
encdiff_status ed_fit_parse(ed_env *env, const ed_dataset_options *options, ed_fit *out);
/* What becomes of height x width pixels. */
void ed_fit_size(const ed_fit *fit, int height, int width, int *out_height, int *out_width);
/* The part of a picture that is kept; ENCDIFF_ERROR_SHAPE where it has none. `name` is for messages. */
encdiff_status ed_fit_window(ed_env *env, const char *name, const ed_fit *fit, const uint8_t *rgb, int height,
                             int width, ed_window *out);

/* ---------------------------------------------------------------- working memory of reading threads */

/* What one thread needs while it reads. */
typedef struct ed_scratch {
    struct ed_scratch *next;
    ed_resizer resizer;
    uint8_t *pixels; /* of the pool's size */
} ed_scratch;

/* As many as threads ever read at once, so that reading allocates nothing when it has begun. */
typedef struct ed_scratch_pool {
    pthread_mutex_t lock;
    bool has_lock;
    size_t bytes;
    ed_scratch *idle;
} ed_scratch_pool;

encdiff_status ed_scratch_pool_open(ed_env *env, ed_scratch_pool *pool, size_t bytes);
void ed_scratch_pool_close(ed_env *env, ed_scratch_pool *pool); /* a zeroed one is fine */
encdiff_status ed_scratch_take(ed_env *env, ed_scratch_pool *pool, ed_scratch **out);
void ed_scratch_give(ed_scratch_pool *pool, ed_scratch *scratch);

#endif
