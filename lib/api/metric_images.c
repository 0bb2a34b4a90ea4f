/*
 * Metrics of images. Sets are read in pieces, from memory or from a dataset, so that they may be of any size: errors
 * and similarities are means over pairs, and FID fits its Gaussians piece by piece.
 */
#include <math.h>

#include "api/scoring.h"
#include "io/npy.h"
#include "model/extractor.h"

#define PIECE 64 /* images of each set that are held at once */

typedef struct pieces {
    ed_scoring *scoring;
    float *pixels[2]; /* room for a piece of each set; NULL for a set in memory */
    int64_t *indices;
} pieces;

static int64_t image_floats(const ed_image_set *set) { return (int64_t)set->height * set->width * 3; }

static void pieces_close(pieces *p)
{
    ed_free(p->scoring->env, p->pixels[0]);
    ed_free(p->scoring->env, p->pixels[1]);
    ed_free(p->scoring->env, p->indices);
}

/* pieces_close() is due whatever is returned. */
static encdiff_status pieces_open(ed_scoring *s, pieces *p)
{
    *p = (pieces){.scoring = s, .indices = ed_alloc(s->env, PIECE, sizeof *p->indices)};
    if (!p->indices) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    for (int k = 0; k < 2; k++) {
        if (!s->sets[k].dataset) continue;
        p->pixels[k] = ed_alloc(s->env, PIECE * (size_t)image_floats(&s->sets[k]), sizeof(float));
        if (!p->pixels[k]) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    }
    return ENCDIFF_OK;
}

typedef struct reading {
    const pieces *pieces;
    int set;
    int64_t n;
} reading;

static encdiff_status read_rank(ed_env *env, void *argument, int rank)
{
    const reading *r = argument;
    const ed_scoring *s = r->pieces->scoring;
    const ed_image_set *set = &s->sets[r->set];
    int64_t first, last;
    ed_shard(r->n, s->context->team->ranks, rank, &first, &last);
    if (first == last) return ENCDIFF_OK;
    return ed_dataset_read_f32(env, set->dataset, last - first, r->pieces->indices + first,
                               r->pieces->pixels[r->set] + first * image_floats(set));
}

/* n images of a set from `at` on, f32 NHWC in [-1, 1]. */
static encdiff_status pieces_read(pieces *p, int which, int64_t at, int64_t n, const float **out)
{
    const ed_image_set *set = &p->scoring->sets[which];
    ed_team *team = p->scoring->context->team;
    *out = set->pixels ? set->pixels + at * image_floats(set) : p->pixels[which];
    if (set->pixels) return ENCDIFF_OK;
    for (int64_t i = 0; i < n; i++) p->indices[i] = at + i;
    reading r = {p, which, n};
    return ed_team_run(team, team->ranks, read_rank, &r);
}

/* ---------------------------------------------------------------- means over pairs */

/* The mean of n pairs; `own` is the metric's. */
typedef encdiff_status (*mean_of_piece)(ed_scoring *s, const float *x, const float *y, int64_t n, void *own,
                                        double *mean);

static encdiff_status add_pieces(pieces *p, const char *metric, mean_of_piece mean, void *own, double *out)
{
    ed_scoring *s = p->scoring;
    int64_t pairs = s->sets[1].n;
    *out = 0;
    for (int64_t at = 0; at < pairs; at += PIECE) {
        int64_t n = ED_MIN(PIECE, pairs - at);
        const float *x, *y;
        double value;
        ED_TRY(pieces_read(p, 0, at, n, &x));
        ED_TRY(pieces_read(p, 1, at, n, &y));
        ED_TRY(mean(s, x, y, n, own, &value));
        *out += value * ((double)n / (double)pairs);
        if (!ed_scoring_progress(s, metric, at + n, pairs))
            return ed_fail(s->env, ENCDIFF_CANCELLED, "stopped by the progress callback");
    }
    return ENCDIFF_OK;
}

static encdiff_status check_pairs(const ed_scoring *s)
{
    const ed_image_set *a = &s->sets[0], *b = &s->sets[1];
    if (a->n == b->n && a->height == b->height && a->width == b->width) return ENCDIFF_OK;
    return ed_fail(s->env, ENCDIFF_ERROR_SHAPE, "%lld images of %dx%d have no partners in %lld of %dx%d",
                   (long long)b->n, b->height, b->width, (long long)a->n, a->height, a->width);
}

static encdiff_status put_mean(ed_scoring *s, const char *metric, mean_of_piece mean, void *own)
{
    pieces p;
    double value = 0;
    ED_TRY(check_pairs(s));
    encdiff_status status = pieces_open(s, &p);
    if (status == ENCDIFF_OK) status = add_pieces(&p, metric, mean, own, &value);
    pieces_close(&p);
    ED_TRY(status);
    return ed_json_put_number(s->env, s->tree, metric, value);
}

static encdiff_status piece_mse(ed_scoring *s, const float *x, const float *y, int64_t n, void *own, double *mean)
{
    (void)own;
    return ed_metric_mse(s->env, x, y, n, image_floats(&s->sets[0]), NULL, mean);
}

encdiff_status ed_score_mse(ed_scoring *s) { return put_mean(s, "mse", piece_mse, NULL); }

static encdiff_status piece_psnr(ed_scoring *s, const float *x, const float *y, int64_t n, void *own, double *mean)
{
    (void)own;
    return ed_metric_psnr(s->env, x, y, n, image_floats(&s->sets[0]), 2.0, NULL, mean);
}

encdiff_status ed_score_psnr(ed_scoring *s) { return put_mean(s, "psnr", piece_psnr, NULL); }

static encdiff_status piece_ssim(ed_scoring *s, const float *nhwc_x, const float *nhwc_y, int64_t n, void *own,
                                 double *mean)
{
    const ed_image_set *set = &s->sets[0];
    size_t count = (size_t)n * (size_t)image_floats(set);
    float *x = ed_alloc(s->env, count, sizeof *x), *y = ed_alloc(s->env, count, sizeof *y);
    encdiff_status status = x && y ? ENCDIFF_OK : ENCDIFF_ERROR_OUT_OF_MEMORY;
    if (status == ENCDIFF_OK) {
        ed_nhwc_to_nchw(nhwc_x, x, n, 3, set->height, set->width);
        ed_nhwc_to_nchw(nhwc_y, y, n, 3, set->height, set->width);
        status = ed_metric_ssim(s->env, &s->run, x, y, n, 3, set->height, set->width, own, NULL, mean);
    }
    ed_free(s->env, x);
    ed_free(s->env, y);
    return status;
}

encdiff_status ed_score_ssim(ed_scoring *s)
{
    ed_json *settings, *used;
    ed_ssim_options o;
    ed_ssim_defaults(&o);
    o.low = -1;
    o.high = 1;
    ED_TRY(ed_scoring_settings(s, "ssim", &settings));
    ED_TRY(ed_json_int32(s->env, settings, "window", 1, 1023, &o.window));
    ED_TRY(ed_json_float(s->env, settings, "sigma", 1e-6, 1e6, &o.sigma));
    ED_TRY(ed_json_bool(s->env, settings, "published_axes", &o.published_axes));
    ED_TRY(ed_scoring_used(s, "ssim", &used));
    ED_TRY(ed_json_put_number(s->env, used, "window", o.window));
    ED_TRY(ed_json_put_number(s->env, used, "sigma", o.sigma));
    ED_TRY(ed_json_put_bool(s->env, used, "published_axes", o.published_axes));
    return put_mean(s, "ssim", piece_ssim, &o);
}

/* ---------------------------------------------------------------- networks with a user's weights */

/* settings.METRIC.KEY: the path of a file; NULL when it is not given and need not be. */
static encdiff_status weights_of(ed_scoring *s, const char *metric, const char *key, bool needed, const char **path)
{
    ed_json *settings;
    *path = NULL;
    ED_TRY(ed_scoring_settings(s, metric, &settings));
    if (settings) ED_TRY(ed_json_string(s->env, settings, key, path));
    if (*path || !needed) return ENCDIFF_OK;
    return ed_fail(s->env, ENCDIFF_ERROR_CONFIG,
                   "settings.%s.%s: expected a file of weights, .pth or .safetensors, which the library does not bring",
                   metric, key);
}

static encdiff_status piece_lpips(ed_scoring *s, const float *x, const float *y, int64_t n, void *own, double *mean)
{
    float distances[PIECE];
    ed_extraction job = {{x, y}, n, s->sets[0].height, s->sets[0].width, false, distances};
    ED_TRY(ed_extractor_run(own, &job));
    *mean = 0;
    for (int64_t i = 0; i < n; i++) *mean += (double)distances[i] / (double)n;
    return ENCDIFF_OK;
}

/* Zhang et al. 2018; VGG16 with the linear heads. */
encdiff_status ed_score_lpips(ed_scoring *s)
{
    const char *weights, *heads;
    ed_extractor *network;
    ED_TRY(weights_of(s, "lpips", "weights", true, &weights));
    ED_TRY(weights_of(s, "lpips", "heads", false, &heads));
    ED_TRY(check_pairs(s));
    ED_TRY(ed_extractor_create(s->context->team, ED_EXTRACT_LPIPS, weights, heads, &network));
    encdiff_status status = put_mean(s, "lpips", piece_lpips, network);
    ed_extractor_free(network);
    return status;
}

/* ---------------------------------------------------------------- FID */

static encdiff_status fit_features(pieces *p, int which, ed_extractor *network, bool published_range, float *features,
                                   ed_gaussian *out)
{
    ed_scoring *s = p->scoring;
    const ed_image_set *set = &s->sets[which];
    for (int64_t at = 0; at < set->n; at += PIECE) {
        int64_t n = ED_MIN(PIECE, set->n - at);
        const float *pixels;
        ED_TRY(pieces_read(p, which, at, n, &pixels));
        ed_extraction job = {{pixels, NULL}, n, set->height, set->width, published_range, features};
        ED_TRY(ed_extractor_run(network, &job));
        ED_TRY(ed_gaussian_add(s->env, &s->run, out, features, n));
        if (!ed_scoring_progress(s, which ? "features of the images" : "features of the reference", at + n, set->n))
            return ed_fail(s->env, ENCDIFF_CANCELLED, "stopped by the progress callback");
    }
    return ENCDIFF_OK;
}

/* An array of `size` numbers of an .npz; f64. */
static encdiff_status read_statistic(ed_env *env, const char *path, const char *name, int64_t rows, int64_t columns,
                                     ed_array *out)
{
    ED_TRY(ed_array_read(env, path, name, ED_F64, out));
    bool fits = out->rank == (columns ? 2 : 1) && out->dim[0] == rows && (!columns || out->dim[1] == columns);
    if (fits) return ENCDIFF_OK;
    return ed_fail(env, ENCDIFF_ERROR_SHAPE, "%s: %s has not the shape that %lld features have", path, name,
                   (long long)rows);
}

/* Mean and covariance as others computed them: "mu" and "sigma" of an .npz. They stand for two samples without a sum.
 */
static encdiff_status read_gaussian(ed_env *env, const char *path, ed_gaussian *out)
{
    ed_array mu = {.data = NULL}, sigma = {.data = NULL};
    size_t size = (size_t)out->size;
    encdiff_status status = read_statistic(env, path, "mu", out->size, 0, &mu);
    if (status == ENCDIFF_OK) status = read_statistic(env, path, "sigma", out->size, out->size, &sigma);
    for (size_t i = 0; status == ENCDIFF_OK && i < size * (size + 1); i++) {
        const double *numbers = i < size ? mu.data : sigma.data;
        size_t at = i < size ? i : i - size;
        if (!isfinite(numbers[at]))
            status = ed_fail(env, ENCDIFF_ERROR_NUMERIC, "%s: number %zu of %s is not finite", path, at,
                             i < size ? "mu" : "sigma");
    }
    if (status == ENCDIFF_OK) {
        out->n = 2;
        memcpy(out->shift, mu.data, size * sizeof(double));
        memcpy(out->products, sigma.data, size * size * sizeof(double));
    }
    ed_free(env, mu.data);
    ed_free(env, sigma.data);
    return status;
}

/* statistics: of the reference, in its place; or NULL. */
static encdiff_status distance_of_features(ed_scoring *s, ed_extractor *network, const char *statistics,
                                           bool published_range, double *out)
{
    ed_gaussian a = {0}, b = {0};
    pieces p = {.scoring = s};
    float *features = ed_alloc(s->env, PIECE * ED_INCEPTION_FEATURES, sizeof *features);
    encdiff_status status = features ? ENCDIFF_OK : ENCDIFF_ERROR_OUT_OF_MEMORY;
    ED_TRY_OR_FAIL(status);
    ED_TRY_OR_FAIL(ed_gaussian_create(s->env, ED_INCEPTION_FEATURES, &a));
    ED_TRY_OR_FAIL(ed_gaussian_create(s->env, ED_INCEPTION_FEATURES, &b));
    if (statistics) ED_TRY_OR_FAIL(read_gaussian(s->env, statistics, &a)); /* told before the images are read */
    ED_TRY_OR_FAIL(pieces_open(s, &p));
    if (!statistics) ED_TRY_OR_FAIL(fit_features(&p, 0, network, published_range, features, &a));
    ED_TRY_OR_FAIL(fit_features(&p, 1, network, published_range, features, &b));
    ED_TRY_OR_FAIL(ed_metric_frechet(s->env, &s->run, &a, &b, out));
fail:
    pieces_close(&p);
    ed_gaussian_free(s->env, &a);
    ed_gaussian_free(s->env, &b);
    ed_free(s->env, features);
    return status;
}

/* Heusel et al. 2017; published_range: pixels of 0..255 are taken for ones of 0..1, as the published evaluation does.
 */
encdiff_status ed_score_fid(ed_scoring *s)
{
    const char *weights, *statistics;
    bool published_range = false;
    ed_json *settings, *used;
    ed_extractor *network;
    double score = 0;
    ED_TRY(weights_of(s, "fid", "weights", true, &weights));
    ED_TRY(weights_of(s, "fid", "statistics", false, &statistics));
    if (!statistics && !s->sets[0].n)
        return ed_fail(s->env, ENCDIFF_ERROR_CONFIG, "settings.fid.statistics: expected a file, or reference images");
    ED_TRY(ed_scoring_settings(s, "fid", &settings));
    ED_TRY(ed_json_bool(s->env, settings, "published_range", &published_range));
    ED_TRY(ed_scoring_used(s, "fid", &used));
    ED_TRY(ed_json_put_bool(s->env, used, "published_range", published_range));
    ED_TRY(ed_extractor_create(s->context->team, ED_EXTRACT_INCEPTION, weights, NULL, &network));
    encdiff_status status = distance_of_features(s, network, statistics, published_range, &score);
    ed_extractor_free(network);
    ED_TRY(status);
    return ed_json_put_number(s->env, s->tree, "fid", score);
}
