/* The text that names a source: PATH?key=value&key=value[begin:end]. */
#ifndef ED_DATA_SOURCE_H
#define ED_DATA_SOURCE_H

#include "data/data.h"

typedef struct ed_source_text {
    char *path; /* owned; the options' strings point behind its end */
    ed_dataset_options options;
    bool ranged;
    int64_t begin, end; /* end -1: to the last image */
} ed_source_text;

/*
 * Take a source apart. What it says is added to `options`, and goes before it. What exists under the whole text, or
 * under the text up to the range, is that file. Free out->path.
 */
encdiff_status ed_source_parse(ed_env *env, const char *source, const ed_dataset_options *options, ed_source_text *out);

#endif
