#include "pictures.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---------------------------------------------------------------- sampling */

static void release_sampler(cli *c, void *thing)
{
    (void)c;
    encdiff_sampler_free(thing);
}

encdiff_sampler *sampling_create(cli *c, encdiff_model *model, const sampling_args *args)
{
    encdiff_sampler *sampler;
    encdiff_sampler_options options;
    encdiff_sampler_options_init(&options, sizeof options);
    options.method = args->method + 1;
    options.steps = (int32_t)args->steps;
    options.eta = args->eta;
    options.seed = c->common.seed;
    options.preview_every = args->preview_every;
    options.use_ema = args->raw_weights ? ENCDIFF_OFF : ENCDIFF_DEFAULT;
    cli_check(c, encdiff_sampler_create(model, &options, &sampler));
    cli_own(c, sampler, release_sampler);
    return sampler;
}

const float *sampling_noise(cli *c, encdiff_model *model, const sampling_args *args, int64_t n)
{
    if (!args->noise) return NULL;
    encdiff_model_info info = cli_model_info(c, model);
    encdiff_array a = array_load(c, args->noise, ENCDIFF_TYPE_F32, 4, 4, "latents");
    if (a.shape[0] != n || a.shape[1] != info.latent_channels || a.shape[2] != info.latent_height ||
        a.shape[3] != info.latent_width)
        cli_fail(c, "%s: has the shape [%lld, %lld, %lld, %lld], expected [%lld, %d, %d, %d]", args->noise,
                 (long long)a.shape[0], (long long)a.shape[1], (long long)a.shape[2], (long long)a.shape[3],
                 (long long)n, info.latent_channels, info.latent_height, info.latent_width);
    return a.data;
}

static const char *method_name(const sampling_args *args)
{
    static const char *const names[] = {"ddim", "ddpm", "plms", "dpm"};
    return names[args->method];
}

const char *sampling_describe(cli *c, const sampling_args *args)
{
    bool every = args->method + 1 == ENCDIFF_SAMPLER_DDPM && !args->steps;
    const char *steps = every ? "every timestep"
                              : cli_format(c, "%lld steps", args->steps ? (long long)args->steps : 50);
    bool has_eta = args->method + 1 == ENCDIFF_SAMPLER_DDIM;
    return has_eta ? cli_format(c, "%s, %s, eta %g", method_name(args), steps, args->eta)
                   : cli_format(c, "%s, %s", method_name(args), steps);
}

void sampling_json(cli *c, const sampling_args *args)
{
    json_open(&c->json, "sampler", '{');
    json_string(&c->json, "method", method_name(args));
    json_integer(&c->json, "steps", args->steps ? args->steps : args->method + 1 == ENCDIFF_SAMPLER_DDPM ? 0 : 50);
    json_number(&c->json, "eta", args->eta);
    json_integer(&c->json, "seed", (int64_t)c->common.seed);
    json_string(&c->json, "noise", args->noise);
    json_close(&c->json, '}');
}

/* ---------------------------------------------------------------- grids */

grid grid_new(cli *c, int32_t rows, int32_t columns, int32_t height, int32_t width)
{
    grid g = {.rows = rows, .columns = columns};
    g.images = images_new(c, rows * columns, height, width);
    float *pixels = g.images.data;
    size_t count = (size_t)g.images.n * image_floats(&g.images);
    for (size_t i = 0; i < count; i++) pixels[i] = 1;
    g.row_labels = cli_alloc(c, (size_t)rows, sizeof *g.row_labels);
    g.column_labels = cli_alloc(c, (size_t)columns, sizeof *g.column_labels);
    return g;
}

void grid_put(grid *g, int32_t row, int32_t column, const float *pixels)
{
    memcpy(image_at(&g->images, row * g->columns + column), pixels, image_floats(&g->images) * sizeof *pixels);
}

static const char *const *labels_or_null(const char **labels, int32_t count)
{
    for (int32_t i = 0; i < count; i++)
        if (labels[i]) return labels;
    return NULL;
}

void grid_write(cli *c, const grid *g, const char *path, int64_t scale)
{
    encdiff_grid_options options;
    encdiff_grid_options_init(&options, sizeof options);
    options.columns = g->columns;
    options.scale = (int32_t)scale;
    options.row_labels = labels_or_null(g->row_labels, g->rows);
    options.column_labels = labels_or_null(g->column_labels, g->columns);
    cli_check(c, encdiff_image_write_grid(c->context, path, &g->images, &options));
}

/* `groups` rows of labels for n images in columns of at most PICTURE_COLUMNS, and the images put below each other. */
static void write_groups(cli *c, const encdiff_image_view *const *views, const char *const *labels, int32_t groups,
                         const char *path, int64_t scale)
{
    int32_t n = views[0]->n, columns = n < PICTURE_COLUMNS ? n : PICTURE_COLUMNS;
    int32_t blocks = (n + columns - 1) / columns;
    grid g = grid_new(c, blocks * groups, columns, views[0]->height, views[0]->width);
    for (int32_t i = 0; i < n; i++)
        for (int32_t k = 0; k < groups; k++) grid_put(&g, i / columns * groups + k, i % columns, image_at(views[k], i));
    for (int32_t row = 0; row < g.rows; row++) g.row_labels[row] = labels[row % groups];
    grid_write(c, &g, path, scale);
}

/* ---------------------------------------------------------------- reconstruction */

image_scores compare_images(cli *c, const encdiff_image_view *reference, const encdiff_image_view *images)
{
    encdiff_scores *scores;
    encdiff_metrics_options options;
    image_scores out = {0};
    encdiff_metrics_options_init(&options, sizeof options);
    options.metrics = "mse,psnr";
    cli_check(c, encdiff_metrics_from_images(c->context, reference, images, &options, &scores, NULL, NULL));
    encdiff_status found = encdiff_scores_find(scores, "mse", &out.mse);
    if (found == ENCDIFF_OK) found = encdiff_scores_find(scores, "psnr", &out.psnr);
    encdiff_scores_free(scores);
    if (found != ENCDIFF_OK) cli_fail(c, "the library gives no mean squared error");
    return out;
}

void picture_reconstruction(cli *c, const encdiff_image_view *images, const encdiff_image_view *reconstructed,
                            const char *path, int64_t scale)
{
    const encdiff_image_view *views[] = {images, reconstructed};
    static const char *const labels[] = {"input", "reconstructed"};
    write_groups(c, views, labels, 2, path, scale);
}

/* ---------------------------------------------------------------- swap */

void picture_swap(cli *c, const encdiff_image_view *a, const encdiff_image_view *b, const encdiff_image_view *swapped,
                  const char *path, int64_t scale)
{
    const encdiff_image_view *views[] = {a, b, swapped};
    static const char *const labels[] = {"A", "B", "swapped"};
    write_groups(c, views, labels, 3, path, scale);
}

void picture_swap_all(cli *c, encdiff_sampler *sampler, int32_t concepts, const encdiff_image_view *a,
                      const encdiff_image_view *b, const float *noise, const char *path, int64_t scale)
{
    grid g = grid_new(c, a->n, concepts + 3, a->height, a->width);
    encdiff_image_view out = images_new(c, a->n, a->height, a->width);
    g.column_labels[0] = "A";
    g.column_labels[1] = "A again";
    g.column_labels[2] = "B";
    for (int32_t k = -1; k < concepts; k++) { /* first without any concept of b */
        char title[48];
        snprintf(title, sizeof title, "swapping %d/%d", k + 2, concepts + 1);
        c->progress.title = title;
        cli_check(c, encdiff_sampler_swap(sampler, a, b, &k, k < 0 ? 0 : 1, noise, &out, progress_step, &c->progress));
        int32_t column = k < 0 ? 1 : k + 3;
        if (k >= 0) g.column_labels[column] = cli_format(c, "%d", k);
        for (int32_t i = 0; i < a->n; i++) grid_put(&g, i, column, image_at(&out, i));
        c->progress.title = NULL;
    }
    for (int32_t i = 0; i < a->n; i++) {
        grid_put(&g, i, 0, image_at(a, i));
        grid_put(&g, i, 2, image_at(b, i));
    }
    grid_write(c, &g, path, scale);
}

/* ---------------------------------------------------------------- traversal */

/* Mean absolute difference of two images in levels of 0..255. */
static double difference(const float *a, const float *b, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++) sum += fabs((double)a[i] - (double)b[i]);
    return sum / (double)count * 127.5;
}

void run_traversal(cli *c, encdiff_sampler *sampler, const encdiff_image_view *image, traversal *t)
{
    float *values = cli_alloc(c, (size_t)t->values, sizeof *values);
    t->images = images_new(c, t->concept_count * t->values, image->height, image->width);
    t->change = cli_alloc(c, (size_t)t->concept_count, sizeof *t->change);
    for (int32_t k = 0; k < t->concept_count; k++) {
        char title[48];
        encdiff_image_view row = images_part(&t->images, k * t->values, t->values);
        for (int32_t i = 0; i < t->values; i++)
            values[i] = t->low[k] + (t->high[k] - t->low[k]) * (float)i / (float)(t->values > 1 ? t->values - 1 : 1);
        snprintf(title, sizeof title, "traversing %d/%d", k + 1, t->concept_count);
        c->progress.title = title;
        cli_check(c, encdiff_sampler_traverse(sampler, image, t->concepts[k], values, t->values, t->noise, &row,
                                              progress_step, &c->progress));
        c->progress.title = NULL;
        for (int32_t i = 1; i < t->values; i++)
            t->change[k] += difference(image_at(&row, i - 1), image_at(&row, i), image_floats(&row)) / (t->values - 1);
    }
}

void picture_traversal(cli *c, const encdiff_image_view *image, const traversal *t, const char *path, int64_t scale)
{
    grid g = grid_new(c, t->concept_count, t->values + 1, image->height, image->width);
    g.column_labels[0] = "input";
    for (int32_t i = 0; i < t->values; i++) {
        double part = t->values > 1 ? (double)i / (t->values - 1) : 0;
        double value = (double)t->low[0] + part * ((double)t->high[0] - (double)t->low[0]);
        bool shared = true; /* all concepts have the same range */
        for (int32_t k = 1; k < t->concept_count; k++)
            shared = shared && !(t->low[k] < t->low[0] || t->low[k] > t->low[0] || t->high[k] < t->high[0] ||
                                 t->high[k] > t->high[0]);
        if (shared) g.column_labels[i + 1] = cli_format(c, "%.3g", value);
    }
    for (int32_t k = 0; k < t->concept_count; k++) {
        const char *name = t->names && t->names[k] ? cli_format(c, " %s", t->names[k]) : "";
        g.row_labels[k] = cli_format(c, "%d%s: %.2g to %.2g", t->concepts[k], name, (double)t->low[k],
                                     (double)t->high[k]);
        grid_put(&g, k, 0, image->data);
        for (int32_t i = 0; i < t->values; i++) grid_put(&g, k, i + 1, image_at(&t->images, k * t->values + i));
    }
    grid_write(c, &g, path, scale);
}

/* ---------------------------------------------------------------- interpolation */

encdiff_image_view interpolate_pairs(cli *c, encdiff_sampler *sampler, const encdiff_image_view *a,
                                     const encdiff_image_view *b, int32_t values, const float *noise)
{
    encdiff_image_view out = images_new(c, a->n * values, a->height, a->width);
    float *weights = cli_alloc(c, (size_t)values, sizeof *weights);
    for (int32_t i = 0; i < values; i++) weights[i] = (float)i / (float)(values - 1);
    for (int32_t k = 0; k < a->n; k++) {
        char title[48];
        encdiff_image_view x = images_part(a, k, 1), y = images_part(b, k, 1),
                           row = images_part(&out, k * values, values);
        snprintf(title, sizeof title, "interpolating %d/%d", k + 1, a->n);
        c->progress.title = title;
        cli_check(
            c, encdiff_sampler_interpolate(sampler, &x, &y, weights, values, noise, &row, progress_step, &c->progress));
        c->progress.title = NULL;
    }
    return out;
}

void picture_interpolation(cli *c, const encdiff_image_view *a, const encdiff_image_view *b,
                           const encdiff_image_view *between, const char *path, int64_t scale)
{
    int32_t values = between->n / a->n;
    grid g = grid_new(c, a->n, values + 2, a->height, a->width);
    g.column_labels[0] = "A";
    g.column_labels[values + 1] = "B";
    for (int32_t i = 0; i < values; i++) g.column_labels[i + 1] = cli_format(c, "%.2f", (double)i / (values - 1));
    for (int32_t k = 0; k < a->n; k++) {
        grid_put(&g, k, 0, image_at(a, k));
        grid_put(&g, k, values + 1, image_at(b, k));
        for (int32_t i = 0; i < values; i++) grid_put(&g, k, i + 1, image_at(between, k * values + i));
    }
    grid_write(c, &g, path, scale);
}
