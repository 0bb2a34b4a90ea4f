/* evaluation: what `evaluate`, `metrics` and the quickstart share. */
#ifndef CLI_EVALUATION_H
#define CLI_EVALUATION_H

#include "cli.h"

typedef struct metric_args {
    const char *metrics, *settings;
    int64_t train, test, batch, bins;
    double prune;
} metric_args;

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
    {                                                                                                                    \
        "settings", 0, CLI_TEXT, "JSON", NULL, offsetof(type, field.settings), 0, 0, false,                              \
            "of single metrics: '{\"dci\": {\"stages\": 50}}'"                                                           \
    }

encdiff_metrics_options evaluation_options(cli *c, const metric_args *a);
void evaluation_own(cli *c, encdiff_scores *scores);
/* A table on stdout, and the scores' JSON as what --json writes. */
void evaluation_print(cli *c, const encdiff_scores *scores);

#endif
