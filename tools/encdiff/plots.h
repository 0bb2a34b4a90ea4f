/* plots: pictures of what concepts are about: attention over images, tokens as points, matrices as heat maps. */
#ifndef CLI_PLOTS_H
#define CLI_PLOTS_H

#include "concepts.h"
#include "pictures.h"

/* Where the tokens of images act, maps[n][tokens][height][width]: `over` the greyed image, or alone. */
void plot_attention(cli *c, const encdiff_image_view *images, const encdiff_image_view *sampled, const float *maps,
                    int32_t tokens, bool over, const char *path, int64_t scale);
/* Encodes and samples images while it gathers the maps; sampled is made. NULL for a model without cross attention. */
float *attention_maps(cli *c, encdiff_model *model, encdiff_sampler *sampler, const encdiff_image_view *images,
                      const float *noise, encdiff_image_view *sampled);

/* Concepts of a scatter plot beside those that are named. */
enum { SCATTER_BEST = -1, SCATTER_ALL = -2 };

/*
 * Two principal components of tokens, coloured by factors: `concepts` and `factors` are crossed. A concept may be
 * SCATTER_BEST (of the factor, by `information`) or SCATTER_ALL (all tokens of an image as one vector).
 */
void plot_scatter(cli *c, const coded_set *set, const double *information, const int32_t *concepts,
                  int32_t concept_count, const int32_t *factors, int32_t factor_count, const char *path);

/* [rows][columns] of a file of scores, under "dci.importance" or the like; false: it is not there. */
bool plot_scores_matrix(cli *c, const char *json, const char *member, const char *title,
                        const char *const *factor_names, const char *path);

/* One column for each of `shown` moments of sampling: the clean image that the model expects then. */
void plot_denoising(cli *c, encdiff_model *model, const sampling_args *sampling, const encdiff_image_view *images,
                    const float *noise, int32_t shown, const char *path, int64_t scale);

#endif
