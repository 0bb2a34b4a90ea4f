/* concepts: which ones a user names, the codes of some images, and which factor each concept is about. */
#ifndef CLI_CONCEPTS_H
#define CLI_CONCEPTS_H

#include "cli.h"

/* "all", or numbers separated by commas, checked against the model. Returns how many; *all: every one, by "all". */
int32_t concepts_read(cli *c, const char *option, const char *list, int32_t tokens, int32_t **concepts, bool *all);

/* Codes of images, with what is known of the images. */
typedef struct coded_set {
    int32_t n, tokens, dim, factors; /* factors 0: no labels */
    float *scalars;                  /* [n][tokens]; NULL for a model of vector tokens */
    float *vectors;                  /* [n][tokens][dim] */
    int32_t *labels;                 /* [n][factors] */
    const char **factor_names;       /* [factors] */
    int32_t *factor_sizes;           /* [factors] */
} coded_set;

/* All images of a dataset. */
coded_set coded_set_make(cli *c, encdiff_model *model, encdiff_dataset *dataset);
/* Smallest and largest scalar of every concept. */
void coded_set_ranges(const coded_set *set, float *low, float *high);

/*
 * Mutual information of every concept and factor in parts of the factor's entropy, [tokens][factors]; NULL without
 * labels, or where a factor does not vary.
 */
double *concept_information(cli *c, const coded_set *set);
/* The factor that a concept tells most about, -1 where it tells less than a quarter of any. */
int32_t concept_factor(const double *information, int32_t factors, int32_t concept_index);
/* The concept that tells most about a factor. */
int32_t factor_concept(const double *information, int32_t tokens, int32_t factors, int32_t factor);

/* Numbers of a matrix in JSON, "dci.importance" of the scores; NULL when it is absent. */
double *matrix_from_json(cli *c, const char *json, const char *path, int32_t *rows, int32_t *columns);

#endif
