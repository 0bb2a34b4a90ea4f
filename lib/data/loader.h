/*
 * loader: batches of a dataset in shuffled order, read ahead by background threads.
 *
 * Sample number s of training (0, 1, 2, ... through all epochs) is the image ed_permute(seed, epoch, s % size) with
 * epoch = s / size: nothing is stored, so a run resumes exactly from the number of samples it has taken. A batch may
 * straddle two epochs. Batches come in order whatever the number of threads.
 */
#ifndef ED_DATA_LOADER_H
#define ED_DATA_LOADER_H

#include "data/data.h"

typedef struct ed_loader_options {
    int batch;       /* images */
    int depth;       /* batches in the ring; 0: 4 */
    int threads;     /* that read; 0: 1 */
    uint64_t seed;   /* of the order */
    uint64_t cursor; /* samples taken before the first batch */
    bool in_order;   /* no shuffling: sample s is image s % size */
    bool labels;     /* also read labels */
    bool floats;     /* also give f32 pixels in [-1, 1] */
} ed_loader_options;

typedef struct ed_batch {
    const uint8_t *images;  /* [batch][h][w][3]; NULL with `floats` */
    const float *floats;    /* [batch][h][w][3] or NULL */
    const int64_t *indices; /* [batch] */
    const int32_t *labels;  /* [batch][factors] or NULL */
    uint64_t cursor;        /* samples taken when this batch is done: what a checkpoint keeps */
    double waited;          /* seconds that the caller had to wait for it */
} ed_batch;

typedef struct ed_loader ed_loader;

/* Holds the dataset. Memory is taken here; nothing is allocated later but by formats that decode. */
encdiff_status ed_loader_create(ed_env *env, ed_dataset *dataset, const ed_loader_options *options, ed_loader **out);
/*
 * The next batch, valid until the next call. A failed read is reported when its batch's turn comes and by each call
 * after it; ENCDIFF_CANCELLED when the env's flag is set while waiting.
 */
encdiff_status ed_loader_next(ed_env *env, ed_loader *loader, ed_batch *batch);
/* Samples taken by batches that were returned, and all seconds waited for them. */
uint64_t ed_loader_cursor(const ed_loader *loader);
double ed_loader_waited(const ed_loader *loader);
/* Stops and joins the threads. NULL is fine. */
void ed_loader_free(ed_env *env, ed_loader *loader);

/* The image of sample `sample`. */
int64_t ed_loader_index(uint64_t seed, uint64_t sample, int64_t size);

#endif
