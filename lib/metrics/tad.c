/*
 * TAD, the total AUROC difference: Yeats et al., "NashAE", ECCV 2022. For labelled faces, where factors are binary
 * attributes and depend on each other.
 *
 * For each attribute the lead of the best code over the second best as a detector, summed over the attributes that some
 * code detects and that no other attribute gives away.
 */
#include <math.h>

#include "metrics/internal.h"

#define THRESHOLDS 11 /* at 0, 0.1, ..., 1 of the code's range */

void ed_tad_defaults(ed_tad_options *options)
{
    *options = (ed_tad_options){.auroc_threshold = 0.75, .entropy_threshold = 0.2, .least_range = 0.2};
}

static bool is_positive(const ed_representation *r, int64_t row, int32_t attribute)
{
    return r->factors[row * r->factor_count + attribute] == 1;
}

typedef struct point {
    double false_positive, true_positive;
} point;

static bool before(point a, point b)
{
    return a.false_positive < b.false_positive ||
           (a.false_positive == b.false_positive && a.true_positive < b.true_positive);
}

/* Right-hand sum over the points, as the published evaluation takes it. */
static double area(point p[THRESHOLDS])
{
    double sum = 0;
    for (int i = 1; i < THRESHOLDS; i++)
        for (int k = i; k > 0 && before(p[k], p[k - 1]); k--) {
            point swap = p[k];
            p[k] = p[k - 1];
            p[k - 1] = swap;
        }
    for (int i = 1; i < THRESHOLDS; i++) sum += p[i].true_positive * (p[i].false_positive - p[i - 1].false_positive);
    return sum;
}

/* count[positive][level]: how many samples reach exactly `level` thresholds. The better of the two directions. */
static double auroc(int64_t count[2][THRESHOLDS + 1])
{
    point above[THRESHOLDS], below[THRESHOLDS];
    double total[2] = {0}, reach[2] = {0};
    for (int kind = 0; kind < 2; kind++)
        for (int level = 0; level <= THRESHOLDS; level++) total[kind] += (double)count[kind][level];
    for (int t = THRESHOLDS - 1; t >= 0; t--) {
        for (int kind = 0; kind < 2; kind++) reach[kind] += (double)count[kind][t + 1];
        above[t] = (point){reach[0] / total[0], reach[1] / total[1]};
        below[t] = (point){(total[0] - reach[0]) / total[0], (total[1] - reach[1]) / total[1]};
    }
    return ED_MAX(area(above), area(below));
}

typedef struct job {
    const ed_representation *r;
    const ed_tad_options *options;
    const int64_t *positives; /* [attributes] */
    uint8_t **level;          /* [ranks][n] */
    double *auroc;            /* [attributes][size] */
} job;

/* How many thresholds each sample reaches; false when the code's range is too small to be cut. */
static bool levels_of(const ed_representation *r, int32_t code, double least_range, uint8_t *level)
{
    float low = r->codes[code], high = low, threshold[THRESHOLDS];
    for (int64_t i = 0; i < r->n; i++) {
        low = fminf(low, r->codes[i * r->size + code]);
        high = fmaxf(high, r->codes[i * r->size + code]);
    }
    if ((double)(high - low) <= least_range) return false;
    for (int t = 0; t < THRESHOLDS; t++) threshold[t] = (float)(0.1 * t * (double)(high - low) + (double)low);
    for (int64_t i = 0; i < r->n; i++) {
        uint8_t reached = 0;
        for (int t = 0; t < THRESHOLDS; t++) reached += r->codes[i * r->size + code] >= threshold[t];
        level[i] = reached;
    }
    return true;
}

static encdiff_status some_codes(ed_env *env, void *argument, int rank, int64_t first, int64_t last)
{
    job *j = argument;
    const ed_representation *r = j->r;
    for (int32_t code = (int32_t)first; code < last; code++) {
        bool wide = levels_of(r, code, j->options->least_range, j->level[rank]);
        for (int32_t a = 0; a < r->factor_count; a++) {
            double *out = &j->auroc[(int64_t)a * r->size + code];
            *out = 0.5;
            if (!wide || j->positives[a] == 0 || j->positives[a] == r->n) continue;
            int64_t count[2][THRESHOLDS + 1] = {{0}};
            ED_TRY(ed_check_cancel(env));
            for (int64_t i = 0; i < r->n; i++) count[is_positive(r, i, a)][j->level[rank][i]]++;
            *out = auroc(count);
        }
    }
    return ENCDIFF_OK;
}

static double entropy_term(double p, double q, double both) { return both > 0 ? both * log(both / (p * q)) : 0; }

/* Mutual information of two binary attributes from the shares of positives of each and of both, in nats. */
static double binary_information(double p, double q, double both)
{
    return entropy_term(p, q, both) + entropy_term(p, 1 - q, p - both) + entropy_term(1 - p, q, q - both) +
           entropy_term(1 - p, 1 - q, 1 - p - q + both);
}

/* Largest share of an attribute's entropy that another attribute explains. */
static double explained(const ed_representation *r, const int64_t *positives, int32_t a)
{
    double n = (double)r->n, p = (double)positives[a] / n, most = 0;
    for (int32_t b = 0; b < r->factor_count; b++) {
        int64_t both = 0;
        if (b == a) continue;
        for (int64_t i = 0; i < r->n; i++) both += is_positive(r, i, a) && is_positive(r, i, b);
        most = ED_MAX(most, binary_information(p, (double)positives[b] / n, (double)both / n));
    }
    return most / binary_information(p, p, p);
}

/* Attributes with one value alone have no detector and are left out. */
static void total(const job *j, ed_tad_score *out)
{
    const ed_representation *r = j->r;
    *out = (ed_tad_score){0};
    for (int32_t a = 0; a < r->factor_count; a++) {
        double best = -INFINITY, second = -INFINITY;
        for (int32_t d = 0; d < r->size; d++) {
            double v = j->auroc[(int64_t)a * r->size + d];
            second = ED_MAX(second, ED_MIN(v, best));
            best = ED_MAX(best, v);
        }
        if (j->positives[a] == 0 || j->positives[a] == r->n || best < j->options->auroc_threshold) continue;
        if (explained(r, j->positives, a) > j->options->entropy_threshold) continue;
        out->tad += best - second;
        out->attributes++;
    }
}

static encdiff_status count_positives(ed_env *env, const ed_representation *r, int64_t *positives)
{
    for (int64_t i = 0; i < r->n; i++)
        for (int32_t a = 0; a < r->factor_count; a++) {
            int32_t value = r->factors[i * r->factor_count + a];
            if (value < -1 || value > 1)
                return ed_fail(env, ENCDIFF_ERROR_SHAPE,
                               "TAD is for binary attributes, and attribute %d has the value %d", a, value);
            positives[a] += value == 1;
        }
    return ENCDIFF_OK;
}

encdiff_status ed_metric_tad(ed_env *env, const ed_metric_run *run, const ed_representation *r,
                             const ed_tad_options *options, ed_tad_score *out)
{
    ed_tad_options defaults;
    ed_tad_defaults(&defaults);
    size_t ranks = (size_t)ed_metric_ranks(run), attributes;
    job j = {.r = r, .options = options ? options : &defaults};
    int64_t *positives = NULL;
    encdiff_status status = ENCDIFF_OK;
    ED_TRY(ed_representation_check(env, r, "TAD"));
    if (r->size < 2) return ed_fail(env, ENCDIFF_ERROR_SHAPE, "TAD compares two codes; there is only one");
    attributes = (size_t)r->factor_count;
    positives = ed_alloc(env, attributes, sizeof *positives);
    j.positives = positives;
    j.level = ed_alloc(env, ranks, sizeof *j.level);
    j.auroc = ed_alloc(env, attributes, (size_t)r->size * sizeof *j.auroc);
    if (!positives || !j.level || !j.auroc) {
        status = env->status;
        goto fail;
    }
    for (size_t t = 0; t < ranks; t++)
        if (!(j.level[t] = ed_alloc(env, (size_t)r->n, 1))) {
            status = env->status;
            goto fail;
        }
    ED_TRY_OR_FAIL(count_positives(env, r, positives));
    ED_TRY_OR_FAIL(ed_metric_for(env, run, "TAD", r->size, 1, some_codes, &j));
    total(&j, out);
fail:
    for (size_t t = 0; j.level && t < ranks; t++) ed_free(env, j.level[t]);
    ed_free(env, j.level);
    ed_free(env, j.auroc);
    ed_free(env, positives);
    return status;
}
