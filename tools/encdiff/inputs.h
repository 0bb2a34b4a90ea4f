/* inputs: several sources of images as one sequence, and images in memory. */
#ifndef CLI_INPUTS_H
#define CLI_INPUTS_H

#include "cli.h"

typedef struct inputs {
    int32_t count;
    encdiff_dataset **datasets;
    int64_t *first; /* of each dataset in the sequence; first[count] is the size */
    int64_t size;
    int32_t height, width;
} inputs;

/* What a command that takes images lets the user choose. */
typedef struct input_args {
    bool resize;
    int64_t count;
} input_args;

#define MODEL_ARGUMENT(type)                                                                                           \
    {                                                                                                                  \
        "MODEL", false, false, offsetof(type, model), "a model file or training checkpoint"                            \
    }
#define INPUTS_ARGUMENT(type)                                                                                          \
    {                                                                                                                  \
        "INPUT", false, true, offsetof(type, sources), "images, from one source or several"                            \
    }

#define RESIZE_OPTION(type, field)                                                                                     \
    {                                                                                                                  \
        "resize", 0, CLI_FLAG, NULL, NULL, offsetof(type, field), 0, 0, false,                                         \
            "resize the images to the model's resolution (Pillow's bicubic)"                                           \
    }
#define RAW_WEIGHTS_OPTION(type, field)                                                                                \
    {                                                                                                                  \
        "raw-weights", 0, CLI_FLAG, NULL, NULL, offsetof(type, field), 0, 0, false,                                    \
            "the trained weights, not their moving averages"                                                           \
    }

#define INPUT_OPTIONS(type, field)                                                                                     \
    RESIZE_OPTION(type, field.resize),                                                                                 \
    {                                                                                                                  \
        "count", 'n', CLI_INT, "N", NULL, offsetof(type, field.count), 1, 1e12, false, "only the first N images"       \
    }

/* Open the sources for a model: images of another size are refused unless they are to be resized. */
inputs inputs_open(cli *c, encdiff_model *model, const cli_texts *sources, const input_args *args);
/* The images first .. first+n-1, float NCHW. */
encdiff_image_view inputs_read(cli *c, const inputs *in, int64_t first, int32_t n);
/* All images; ends the program where there are more than `limit`, naming what narrows them. */
encdiff_image_view inputs_load(cli *c, const inputs *in, int32_t limit, const char *source);
/* One image, the first of a source that must have only one (or a range of one). */
encdiff_image_view inputs_load_one(cli *c, encdiff_model *model, const char *source, bool resize);

/* Memory for n images, kept until the end of the program. */
encdiff_image_view images_new(cli *c, int32_t n, int32_t height, int32_t width);
/* The images of a view from `first` on. */
encdiff_image_view images_part(const encdiff_image_view *view, int32_t first, int32_t n);
float *image_at(const encdiff_image_view *view, int32_t index);
size_t image_floats(const encdiff_image_view *view);

/* An .npy array, or "file.npz:member", of the rank; kept until the end. what: for messages. */
encdiff_array array_load(cli *c, const char *path, encdiff_type type, int32_t low_rank, int32_t high_rank,
                         const char *what);
void array_save(cli *c, const char *path, encdiff_type type, void *data, int32_t rank, const int64_t *shape);

#endif
