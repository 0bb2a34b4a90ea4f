/* gallery: the pictures of one model on one dataset, in a folder and on a page. */
#ifndef CLI_GALLERY_H
#define CLI_GALLERY_H

#include "pictures.h"
#include "report.h"

typedef struct gallery {
    cli *c;
    encdiff_model *model;
    encdiff_dataset *dataset; /* at the model's resolution, with labels or not */
    const char *folder;
    int32_t images; /* rows of the pictures */
    sampling_args sampling;
    traversal traversal;            /* out: concept_count 0 where the model has vector tokens */
    bool has_attention, has_labels; /* out: which pictures there are */
} gallery;

/* reconstruction.png, swap.png, traversal.png, attention.png, scatter.png, as far as model and labels allow. */
void gallery_draw(gallery *g);
/* A section of the page for each. */
void gallery_add(gallery *g, report *r);

#endif
