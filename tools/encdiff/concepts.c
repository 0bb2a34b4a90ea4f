#include "concepts.h"

#include <string.h>

#include "inputs.h"

#define BATCH 64
#define TELLING 0.25 /* of a factor's entropy, before a concept is named after it */

int32_t concepts_read(cli *c, const char *option, const char *list, int32_t tokens, int32_t **concepts, bool *all)
{
    *all = strcmp(list, "all") == 0;
    if (!*all) {
        int32_t count = options_integers(c, option, list, concepts);
        for (int32_t i = 0; i < count; i++)
            if ((*concepts)[i] >= tokens)
                cli_fail(c, "--%s %s: concept %d: the model has 0 .. %d", option, list, (*concepts)[i], tokens - 1);
        return count;
    }
    *concepts = cli_alloc(c, (size_t)tokens, sizeof **concepts);
    for (int32_t i = 0; i < tokens; i++) (*concepts)[i] = i;
    return tokens;
}

/* ---------------------------------------------------------------- codes */

static void encode(cli *c, encdiff_model *model, encdiff_dataset *dataset, coded_set *set)
{
    encdiff_dataset_info info = cli_dataset_info(c, dataset);
    size_t tokens = (size_t)set->tokens, dim = (size_t)set->dim;
    encdiff_image_view images = images_new(c, BATCH, info.height, info.width);
    int64_t indices[BATCH];
    for (int32_t at = 0; at < set->n; at += BATCH) {
        images.n = set->n - at < BATCH ? set->n - at : BATCH;
        for (int32_t i = 0; i < images.n; i++) indices[i] = at + i;
        cli_check(c, encdiff_dataset_read(dataset, indices, &images));
        cli_check(c, encdiff_model_encode(model, &images, set->scalars ? set->scalars + (size_t)at * tokens : NULL,
                                          set->vectors + (size_t)at * tokens * dim));
        progress_show(&c->progress, "encoding", at + images.n, set->n);
    }
}

coded_set coded_set_make(cli *c, encdiff_model *model, encdiff_dataset *dataset)
{
    encdiff_model_info m = cli_model_info(c, model);
    encdiff_dataset_info info = cli_dataset_info(c, dataset);
    if (info.size > 1 << 20) cli_fail(c, "%lld images are too many for a picture", (long long)info.size);
    if (info.height != m.height || info.width != m.width)
        cli_fail(c, "%s: images are %dx%d, the model's are %dx%d (--resize fits them)", info.name, info.width,
                 info.height, m.width, m.height);
    coded_set set = {.n = (int32_t)info.size, .tokens = m.tokens, .dim = m.token_dim, .factors = info.factors};
    size_t n = (size_t)set.n, tokens = (size_t)set.tokens, factors = (size_t)set.factors;
    if (m.has_scalars) set.scalars = cli_alloc(c, n * tokens, sizeof *set.scalars);
    set.vectors = cli_alloc(c, n * tokens, (size_t)set.dim * sizeof *set.vectors);
    encode(c, model, dataset, &set);
    if (!factors) return set;
    set.labels = cli_alloc(c, n, factors * sizeof *set.labels);
    cli_check(c, encdiff_dataset_labels(dataset, set.n, NULL, set.labels));
    set.factor_names = cli_alloc(c, factors, sizeof *set.factor_names);
    set.factor_sizes = cli_alloc(c, factors, sizeof *set.factor_sizes);
    for (int32_t f = 0; f < set.factors; f++) {
        set.factor_names[f] = encdiff_dataset_factor_name(dataset, f);
        set.factor_sizes[f] = encdiff_dataset_factor_size(dataset, f);
    }
    return set;
}

void coded_set_ranges(const coded_set *set, float *low, float *high)
{
    for (int32_t k = 0; k < set->tokens; k++) {
        low[k] = high[k] = set->scalars[k];
        for (int32_t i = 1; i < set->n; i++) {
            float value = set->scalars[(size_t)i * (size_t)set->tokens + (size_t)k];
            if (value < low[k]) low[k] = value;
            if (value > high[k]) high[k] = value;
        }
    }
}

/* ---------------------------------------------------------------- what concepts are about */

double *matrix_from_json(cli *c, const char *json, const char *path, int32_t *rows, int32_t *columns)
{
    int32_t count = 0;
    const char *matrix = json_member(json, path);
    *rows = *columns = 0;
    for (const char *row = json_first(matrix); row; row = json_next(row)) {
        ++*rows;
        int32_t wide = 0;
        for (const char *item = json_first(row); item; item = json_next(item)) wide++;
        *columns = wide ? wide : 1; /* a vector is a column */
    }
    if (!*rows) return NULL;
    double *values = cli_alloc(c, (size_t)*rows, (size_t)*columns * sizeof *values);
    for (const char *row = json_first(matrix); row; row = json_next(row)) {
        const char *first = json_first(row);
        if (!first) values[count++] = json_as_number(row, 0);
        for (const char *item = first; item && count < *rows * *columns; item = json_next(item))
            values[count++] = json_as_number(item, 0);
    }
    return values;
}

double *concept_information(cli *c, const coded_set *set)
{
    encdiff_scores *scores;
    encdiff_metrics_options options;
    int32_t rows, columns, entropies;
    if (!set->factors) return NULL;
    encdiff_metrics_options_init(&options, sizeof options);
    options.metrics = "mig";
    options.train_samples = set->n;
    encdiff_codes codes = {.codes = set->scalars ? set->scalars : set->vectors,
                           .factors = set->labels,
                           .n = set->n,
                           .size = set->tokens,
                           .dim = set->scalars ? 1 : set->dim,
                           .factor_count = set->factors};
    encdiff_status status = encdiff_metrics_from_codes(c->context, &codes, &codes, &options, &scores, NULL, NULL);
    if (status == ENCDIFF_ERROR_SHAPE) return NULL; /* a factor of one value */
    cli_check(c, status);
    double *table = matrix_from_json(c, encdiff_scores_json(scores), "mutual_information", &rows, &columns);
    double *entropy = matrix_from_json(c, encdiff_scores_json(scores), "factor_entropy", &entropies, &columns);
    encdiff_scores_free(scores);
    if (!table || !entropy || rows != set->tokens || entropies != set->factors)
        cli_fail(c, "the library gives no mutual information");
    for (int32_t k = 0; k < rows; k++)
        for (int32_t f = 0; f < entropies; f++)
            table[k * entropies + f] = entropy[f] > 0 ? table[k * entropies + f] / entropy[f] : 0;
    return table;
}

int32_t concept_factor(const double *information, int32_t factors, int32_t concept_index)
{
    int32_t best = -1;
    const double *row = information + (size_t)concept_index * (size_t)factors;
    for (int32_t f = 0; information && f < factors; f++)
        if (row[f] >= TELLING && (best < 0 || row[f] > row[best])) best = f;
    return best;
}

int32_t factor_concept(const double *information, int32_t tokens, int32_t factors, int32_t factor)
{
    int32_t best = 0;
    for (int32_t k = 1; k < tokens; k++)
        if (information[k * factors + factor] > information[best * factors + factor]) best = k;
    return best;
}
