/*
 * Networks that measure images and belong to no model: Inception v3 for FID, LPIPS. The images are dealt out to the
 * team's ranks and run in chunks. Weights come from a user's file.
 */
#ifndef ED_EXTRACTOR_H
#define ED_EXTRACTOR_H

#include "graph/team.h"
#include "io/tensor_file.h"
#include "model/networks.h"

typedef enum ed_extractor_kind {
    ED_EXTRACT_INCEPTION, /* images of any size -> [n, 2048] */
    ED_EXTRACT_LPIPS,     /* pairs of images of one size -> distances [n] */
} ed_extractor_kind;

typedef struct ed_extractor ed_extractor;

/* The network with the weights of a file. LPIPS: `more` holds what is not in `file` (the heads), or is NULL. */
encdiff_status ed_extractor_create(ed_team *team, ed_extractor_kind kind, const char *path, const char *more,
                                   ed_extractor **out);
void ed_extractor_free(ed_extractor *extractor); /* NULL is fine */

typedef struct ed_extraction {
    const float *images[2]; /* f32 [n, height, width, 3] in [-1, 1]; the second for LPIPS */
    int64_t n;
    int height, width;
    /* Inception is to see (v + 1) * 255 - 1: what it sees where pixels of 0..255 are taken for ones of 0..1. */
    bool published_range;
    float *out;
} ed_extraction;

encdiff_status ed_extractor_run(ed_extractor *extractor, const ed_extraction *job);

/* f32 [height, width, 3] -> [size, size, 3]: bilinear between pixel centres, without antialiasing, as PyTorch's
 * interpolate(align_corners=False). */
void ed_resize_bilinear(const float *in, int height, int width, int size, float *out);

#endif
