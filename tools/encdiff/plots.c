#include "plots.h"

#include <math.h>
#include <string.h>

/* ---------------------------------------------------------------- attention */

/* Black, red, yellow, white: the level, 0..1, in one of three planes. */
static float heat(float level, size_t plane) { return fminf(fmaxf(3 * level - (float)plane, 0), 1); }

/* The map from its least to its largest; over an image that is greyed and darkened, or alone. CHW in [-1, 1]. */
static void draw_map(const float *map, const float *image, size_t pixels, bool over, float *out)
{
    float least = map[0], most = map[0];
    for (size_t i = 1; i < pixels; i++) {
        least = fminf(least, map[i]);
        most = fmaxf(most, map[i]);
    }
    for (size_t i = 0; i < pixels; i++) {
        float level = (map[i] - least) / fmaxf(most - least, 1e-20f);
        float grey = 0.299f * image[i] + 0.587f * image[pixels + i] + 0.114f * image[2 * pixels + i];
        float under = over ? 0.6f * (grey + 1) / 2 : 0, share = over ? 0.75f * level : 1;
        for (size_t plane = 0; plane < 3; plane++)
            out[plane * pixels + i] = 2 * (under + share * (heat(level, plane) - under)) - 1;
    }
}

void plot_attention(cli *c, const encdiff_image_view *images, const encdiff_image_view *sampled, const float *maps,
                    int32_t tokens, bool over, const char *path, int64_t scale)
{
    size_t pixels = (size_t)images->height * (size_t)images->width;
    grid g = grid_new(c, images->n, tokens + 2, images->height, images->width);
    float *drawn = cli_alloc(c, 3 * pixels, sizeof *drawn);
    g.column_labels[0] = "input";
    g.column_labels[1] = "sampled";
    for (int32_t k = 0; k < tokens; k++) g.column_labels[k + 2] = cli_format(c, "%d", k);
    for (int32_t i = 0; i < images->n; i++) {
        grid_put(&g, i, 0, image_at(images, i));
        grid_put(&g, i, 1, image_at(sampled, i));
        for (int32_t k = 0; k < tokens; k++) {
            const float *map = maps + ((size_t)i * (size_t)tokens + (size_t)k) * pixels;
            draw_map(map, image_at(sampled, i), pixels, over, drawn);
            grid_put(&g, i, k + 2, drawn);
        }
    }
    grid_write(c, &g, path, scale);
}

float *attention_maps(cli *c, encdiff_model *model, encdiff_sampler *sampler, const encdiff_image_view *images,
                      const float *noise, encdiff_image_view *sampled)
{
    encdiff_model_info info = cli_model_info(c, model);
    size_t n = (size_t)images->n, tokens = (size_t)info.tokens, pixels = (size_t)info.height * (size_t)info.width;
    float *codes = cli_alloc(c, n * tokens, (size_t)info.token_dim * sizeof *codes);
    float *maps = cli_alloc(c, n * tokens, pixels * sizeof *maps);
    *sampled = images_new(c, images->n, images->height, images->width);
    cli_check(c, encdiff_model_encode(model, images, NULL, codes));
    encdiff_status status = encdiff_sampler_attention(sampler, images->n, codes, noise, info.height, info.width, maps,
                                                      sampled, progress_step, &c->progress);
    if (status == ENCDIFF_ERROR_UNSUPPORTED) return NULL;
    cli_check(c, status);
    return maps;
}

/* ---------------------------------------------------------------- tokens as points */

/* Two components of the tokens of a concept, or of all of them; a token of one number is a line. */
static void token_points(cli *c, const coded_set *set, int32_t concept_index, float *points)
{
    size_t n = (size_t)set->n, pitch = (size_t)set->tokens * (size_t)set->dim;
    int32_t dim = concept_index == SCATTER_ALL ? set->tokens * set->dim : set->dim;
    int32_t count = dim < 2 ? dim : 2;
    size_t first = concept_index == SCATTER_ALL ? 0 : (size_t)concept_index * (size_t)set->dim;
    size_t mark = c->owned_count;
    float *vectors = cli_alloc(c, n, (size_t)dim * sizeof *vectors);
    float *components = cli_alloc(c, n, (size_t)count * sizeof *components);
    for (size_t i = 0; i < n; i++)
        memcpy(vectors + i * (size_t)dim, set->vectors + i * pitch + first, (size_t)dim * sizeof *vectors);
    cli_check(c, encdiff_metrics_principal_components(c->context, vectors, set->n, dim, count, components));
    for (size_t i = 0; i < n; i++) {
        points[2 * i] = components[i * (size_t)count];
        points[2 * i + 1] = count > 1 ? components[i * 2 + 1] : 0;
    }
    cli_release_to(c, mark);
}

void plot_scatter(cli *c, const coded_set *set, const double *information, const int32_t *concepts,
                  int32_t concept_count, const int32_t *factors, int32_t factor_count, const char *path)
{
    size_t n = (size_t)set->n, panels = (size_t)concept_count * (size_t)factor_count, panel = 0;
    float *points = cli_alloc(c, panels * n, 2 * sizeof *points);
    int32_t *classes = cli_alloc(c, panels * n, sizeof *classes), *counts = cli_alloc(c, panels, sizeof *counts);
    const char **titles = cli_alloc(c, panels, sizeof *titles);
    for (int32_t k = 0; k < concept_count; k++)
        for (int32_t f = 0; f < factor_count; f++, panel++) {
            int32_t factor = factors[f], which = concepts[k];
            if (which == SCATTER_BEST) which = factor_concept(information, set->tokens, set->factors, factor);
            token_points(c, set, which, points + panel * n * 2);
            for (size_t i = 0; i < n; i++)
                classes[panel * n + i] = set->labels[i * (size_t)set->factors + (size_t)factor];
            counts[panel] = set->factor_sizes[factor];
            titles[panel] = which == SCATTER_ALL ? cli_format(c, "all by %s", set->factor_names[factor])
                                                 : cli_format(c, "token %d by %s", which, set->factor_names[factor]);
        }
    encdiff_scatter s = {.struct_size = sizeof s,
                         .points = points,
                         .classes = classes,
                         .class_counts = counts,
                         .titles = titles,
                         .panels = (int32_t)panels,
                         .n = set->n,
                         .columns = factor_count > 1 && concept_count > 1 ? factor_count
                                    : panels > 4                          ? 3
                                                                          : 2};
    cli_check(c, encdiff_image_write_scatter(c->context, path, &s));
}

/* ---------------------------------------------------------------- matrices */

bool plot_scores_matrix(cli *c, const char *json, const char *member, const char *title,
                        const char *const *factor_names, const char *path)
{
    int32_t rows, columns;
    encdiff_matrix_options options;
    double *values = matrix_from_json(c, json, member, &rows, &columns);
    if (!values) return false;
    encdiff_matrix_options_init(&options, sizeof options);
    options.title = title;
    options.row_title = "concept";
    options.column_title = "factor";
    options.column_labels = factor_names;
    cli_check(c, encdiff_image_write_matrix(c->context, path, values, rows, columns, &options));
    return true;
}

/* ---------------------------------------------------------------- denoising */

typedef struct watched {
    cli *c;
    grid *g;
    int32_t shown, column; /* columns; the next one */
} watched;

static void put_preview(watched *w, const encdiff_image_view *preview, const char *label)
{
    encdiff_image_view planar = images_new(w->c, preview->n, preview->height, preview->width);
    const float *from = preview->data;
    size_t pixels = (size_t)preview->height * (size_t)preview->width;
    float *to = planar.data;
    for (size_t i = 0; i < (size_t)preview->n; i++)
        for (size_t p = 0; p < pixels; p++)
            for (size_t plane = 0; plane < 3; plane++)
                to[(i * 3 + plane) * pixels + p] = from[(i * pixels + p) * 3 + plane];
    for (int32_t i = 0; i < preview->n; i++) grid_put(w->g, i, w->column, image_at(&planar, i));
    w->g->column_labels[w->column++] = label;
}

/* The previews come as f32 NHWC; of those the ones nearest to equal distances are shown. */
static int32_t watch(const encdiff_progress_info *info, void *user)
{
    watched *w = user;
    progress_step(info, &w->c->progress);
    int64_t next = (info->total * w->column + w->shown / 2) / w->shown; /* of column 1 .. shown */
    if (info->preview && w->column <= w->shown && info->done >= (next < 1 ? 1 : next))
        put_preview(w, info->preview, cli_format(w->c, "%lld", (long long)info->done));
    return 0;
}

void plot_denoising(cli *c, encdiff_model *model, const sampling_args *sampling, const encdiff_image_view *images,
                    const float *noise, int32_t shown, const char *path, int64_t scale)
{
    sampling_args args = *sampling;
    args.preview_every = 1;
    encdiff_sampler *sampler = sampling_create(c, model, &args);
    int32_t steps = encdiff_sampler_step_count(sampler);
    if (shown > steps) shown = steps;
    grid g = grid_new(c, images->n, shown + 2, images->height, images->width);
    watched w = {.c = c, .g = &g, .shown = shown, .column = 1};
    encdiff_image_view out = images_new(c, images->n, images->height, images->width);
    g.column_labels[0] = "input";
    for (int32_t i = 0; i < images->n; i++) grid_put(&g, i, 0, image_at(images, i));
    cli_check(c, encdiff_sampler_reconstruct(sampler, images, noise, &out, watch, &w));
    for (int32_t i = 0; i < images->n; i++) grid_put(&g, i, shown + 1, image_at(&out, i));
    g.column_labels[shown + 1] = "result";
    grid_write(c, &g, path, scale);
}
