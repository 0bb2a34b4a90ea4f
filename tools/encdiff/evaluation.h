/* evaluation: what commands that score share. */
#ifndef CLI_EVALUATION_H
#define CLI_EVALUATION_H

#include "cli.h"

typedef struct metric_args {
    const char *metrics, *settings;
    int64_t train, test, batch, bins, repeats;
    double prune;
} metric_args;

/* Weights that a user brings for metrics of images. */
typedef struct weight_args {
    const char *lpips, *lpips_heads, *fid;
    const char *statistics; /* of FID's reference, in its place; no option of its own */
    const char *usual;      /* metrics beside these where none are named; NULL: all of codes, and mse, psnr, ssim */
} weight_args;

#define WEIGHT_OPTIONS(type, field)                                                                                    \
    {"lpips",  0,                                                                                                      \
     CLI_TEXT, "FILE",                                                                                                 \
     NULL,     offsetof(type, field.lpips),                                                                            \
     0,        0,                                                                                                      \
     false,    "LPIPS too, with these weights of VGG16, .pth or .safetensors"},                                        \
        {"lpips-heads",                                                                                                \
         0,                                                                                                            \
         CLI_TEXT,                                                                                                     \
         "FILE",                                                                                                       \
         NULL,                                                                                                         \
         offsetof(type, field.lpips_heads),                                                                            \
         0,                                                                                                            \
         0,                                                                                                            \
         false,                                                                                                        \
         "LPIPS' linear heads where they are not in that file"},                                                       \
    {                                                                                                                  \
        "fid", 0, CLI_TEXT, "FILE", NULL, offsetof(type, field.fid), 0, 0, false,                                      \
            "FID too, with these weights of Inception (pt_inception-2015-12-05), .pth or .safetensors"                 \
    }

#define METRIC_OPTIONS(type, field)                                                                                      \
    {"metrics", 'm',                                                                                                     \
     CLI_TEXT,  "NAME,...",                                                                                              \
     NULL,      offsetof(type, field.metrics),                                                                           \
     0,         0,                                                                                                       \
     false,     "which (default: all that factors allow)"},                                                              \
        {"train-samples",                                                                                                \
         0,                                                                                                              \
         CLI_INT,                                                                                                        \
         "N",                                                                                                            \
         "10000",                                                                                                        \
         offsetof(type, field.train),                                                                                    \
         1,                                                                                                              \
         1e9,                                                                                                            \
         false,                                                                                                          \
         "samples or votes to learn from"},                                                                              \
        {"test-samples",                                                                                                 \
         0,                                                                                                              \
         CLI_INT,                                                                                                        \
         "N",                                                                                                            \
         "5000",                                                                                                         \
         offsetof(type, field.test),                                                                                     \
         1,                                                                                                              \
         1e9,                                                                                                            \
         false,                                                                                                          \
         "samples or votes to test on"},                                                                                 \
        {"batch", 0,                                                                                                     \
         CLI_INT, "N",                                                                                                   \
         "64",    offsetof(type, field.batch),                                                                           \
         2,       1e6,                                                                                                   \
         false,   "images of a vote or a difference"},                                                                   \
        {"bins", 0, CLI_INT, "N", "20", offsetof(type, field.bins), 2, 65536, false, "of a code that is made discrete"}, \
        {"prune",  0,                                                                                                    \
         CLI_REAL, "X",                                                                                                  \
         "0.05",   offsetof(type, field.prune),                                                                          \
         0,        1e30,                                                                                                 \
         false,    "FactorVAE: codes of a smaller standard deviation are left out; 0: none"},                            \
        {"repeats", 0,                                                                                                   \
         CLI_INT,   "N",                                                                                                 \
         "1",       offsetof(type, field.repeats),                                                                       \
         1,         10000,                                                                                               \
         false,     "evaluations with further seeds: means, and deviations beside them"},                                \
    {                                                                                                                    \
        "settings", 0, CLI_TEXT, "JSON", NULL, offsetof(type, field.settings), 0, 0, false,                              \
            "of single metrics: '{\"dci\": {\"stages\": 50}}'"                                                           \
    }

/* An unknown metric ends the program before any work, with the names of those that exist. */
void evaluation_check_names(cli *c, const char *list);
/* weights: NULL where no images are compared. */
encdiff_metrics_options evaluation_options(cli *c, const metric_args *a, const weight_args *weights);
void evaluation_own(cli *c, encdiff_scores *scores);
/* Standard deviation of a score over repeats; NaN where there is none. */
double evaluation_deviation(const encdiff_scores *scores, const char *name);
/* Whether a score is the deviation of another. */
bool evaluation_is_deviation(const char *name);
/* A table on stdout, and the scores' JSON as what --json writes. */
void evaluation_print(cli *c, const encdiff_scores *scores);

#endif
