/*
 * Logistic regression: minimise 1/2 |W|^2 + C sum_i loss_i, intercepts not penalised, by Newton steps whose systems
 * are solved by conjugate gradients with a diagonal preconditioner, so that no Hessian is stored.
 *
 * Trained to the optimum, which is the only one (up to a shift of the softmax intercepts, which changes no
 * probability); scikit-learn's LogisticRegression stops near it.
 */
#include <math.h>

#include "metrics/linear.h"

#define NEWTON_STEPS 200
#define CG_STEPS 400

/*
 * Samples go in blocks of BLOCK, transposed, so that every loop runs over the samples of a block: features and scores
 * of a block are [features][BLOCK] and [outputs][BLOCK]. The last block is filled up with samples of weight 0.
 */
#define BLOCK 64

/* One problem and its work arrays; vectors of parameters are [features + 1][outputs], the intercepts last. */
typedef struct logistic_fit {
    int64_t blocks, parameters;
    int32_t d, outputs;
    double c;
    double *x;           /* [blocks][d][BLOCK] */
    int32_t *label;      /* [blocks][BLOCK]; -1 fills up */
    double *weight;      /* [blocks][BLOCK]: c, or 0 to fill up */
    double *probability; /* [blocks][outputs][BLOCK] at the last evaluation */
    double *scores;      /* [outputs][BLOCK] */
    double *gradient, *diagonal, *step, *residual, *direction, *product, *trial;
} logistic_fit;

/* scores = (x, 1) W of a block */
static inline __attribute__((always_inline)) void affine_block(const double *restrict x, const double *restrict w,
                                                               int32_t d, int32_t outputs, double *restrict scores)
{
    for (int32_t k = 0; k < outputs; k++) {
        double sum[BLOCK];
        for (int i = 0; i < BLOCK; i++) sum[i] = w[(int64_t)d * outputs + k];
        for (int32_t j = 0; j < d; j++) {
            double weight = w[(int64_t)j * outputs + k];
            for (int i = 0; i < BLOCK; i++) sum[i] += weight * x[(int64_t)j * BLOCK + i];
        }
        memcpy(scores + (int64_t)k * BLOCK, sum, sizeof sum);
    }
}

static inline __attribute__((always_inline)) double lanes_total(const double lane[8])
{
    return ((lane[0] + lane[4]) + (lane[1] + lane[5])) + ((lane[2] + lane[6]) + (lane[3] + lane[7]));
}

/* W += (x, 1)^T rows of a block; `squared`: of x^2. */
static inline __attribute__((always_inline)) void outer_add_block(const double *restrict x, const double *restrict rows,
                                                                  int32_t d, int32_t outputs, bool squared,
                                                                  double *restrict w)
{
    for (int32_t k = 0; k < outputs; k++) {
        const double *row = rows + (int64_t)k * BLOCK;
        for (int32_t j = 0; j <= d; j++) {
            const double *column = x + (int64_t)(j < d ? j : 0) * BLOCK;
            double lane[8] = {0};
            for (int i = 0; i < BLOCK; i += 8)
                for (int l = 0; l < 8; l++) {
                    double v = column[i + l];
                    lane[l] += j == d ? row[i + l] : squared ? row[i + l] * v * v : row[i + l] * v;
                }
            w[(int64_t)j * outputs + k] += lanes_total(lane);
        }
    }
}

ED_CLONES static void score_block(const double *x, const double *w, int32_t d, int32_t outputs, double *scores)
{
    affine_block(x, w, d, outputs, scores);
}

/* Scores in `z` become probabilities; returns the loss of `label`. One output is the log-odds of class 1. */
static double soft(double *z, int64_t pitch, int32_t outputs, int32_t label)
{
    if (outputs == 1) {
        double margin = label ? z[0] : -z[0];
        double loss = margin > 0 ? log1p(exp(-margin)) : log1p(exp(margin)) - margin;
        z[0] = 1 / (1 + exp(-z[0]));
        return loss;
    }
    double top = z[0], sum = 0, own = z[label * pitch];
    for (int32_t k = 1; k < outputs; k++) top = ED_MAX(top, z[k * pitch]);
    for (int32_t k = 0; k < outputs; k++) sum += z[k * pitch] = exp(z[k * pitch] - top);
    for (int32_t k = 0; k < outputs; k++) z[k * pitch] /= sum;
    return log(sum) + top - own;
}

static double objective(logistic_fit *f, const double *w)
{
    double loss = 0, norm = 0;
    for (int64_t b = 0; b < f->blocks; b++) {
        double *p = f->probability + b * f->outputs * BLOCK;
        score_block(f->x + b * f->d * BLOCK, w, f->d, f->outputs, p);
        for (int i = 0; i < BLOCK; i++) {
            int32_t label = f->label[b * BLOCK + i];
            if (label < 0) continue;
            loss += soft(p + i, BLOCK, f->outputs, label);
        }
    }
    for (int64_t j = 0; j < (int64_t)f->d * f->outputs; j++) norm += w[j] * w[j];
    return 0.5 * norm + f->c * loss;
}

/* Gradient and the Hessian's diagonal of the losses, from the stored probabilities. */
ED_CLONES static void loss_derivatives(logistic_fit *f)
{
    for (int64_t b = 0; b < f->blocks; b++) {
        const double *p = f->probability + b * f->outputs * BLOCK, *weight = f->weight + b * BLOCK;
        const double *x = f->x + b * f->d * BLOCK;
        const int32_t *label = f->label + b * BLOCK;
        for (int32_t k = 0; k < f->outputs; k++)
            for (int i = 0; i < BLOCK; i++)
                f->scores[k * BLOCK + i] = weight[i] * (p[k * BLOCK + i] - (label[i] == (f->outputs == 1 ? 1 : k)));
        outer_add_block(x, f->scores, f->d, f->outputs, false, f->gradient);
        for (int32_t k = 0; k < f->outputs; k++)
            for (int i = 0; i < BLOCK; i++)
                f->scores[k * BLOCK + i] = weight[i] * p[k * BLOCK + i] * (1 - p[k * BLOCK + i]);
        outer_add_block(x, f->scores, f->d, f->outputs, true, f->diagonal);
    }
}

static void derivatives(logistic_fit *f, const double *w)
{
    int64_t penalised = (int64_t)f->d * f->outputs;
    memset(f->gradient, 0, (size_t)f->parameters * sizeof *f->gradient);
    memset(f->diagonal, 0, (size_t)f->parameters * sizeof *f->diagonal);
    loss_derivatives(f);
    for (int64_t j = 0; j < penalised; j++) {
        f->gradient[j] += w[j];
        f->diagonal[j] += 1;
    }
    for (int64_t j = penalised; j < f->parameters; j++) f->diagonal[j] = ED_MAX(f->diagonal[j], 1e-12);
}

/* out = Hessian v */
ED_CLONES static void hessian_times(logistic_fit *f, const double *v, double *out)
{
    memset(out, 0, (size_t)f->parameters * sizeof *out);
    for (int64_t b = 0; b < f->blocks; b++) {
        const double *p = f->probability + b * f->outputs * BLOCK, *weight = f->weight + b * BLOCK;
        double mean[BLOCK] = {0};
        affine_block(f->x + b * f->d * BLOCK, v, f->d, f->outputs, f->scores);
        for (int32_t k = 0; k < f->outputs; k++)
            for (int i = 0; i < BLOCK; i++) mean[i] += p[k * BLOCK + i] * f->scores[k * BLOCK + i];
        for (int32_t k = 0; k < f->outputs; k++)
            for (int i = 0; i < BLOCK; i++)
                f->scores[k * BLOCK + i] = weight[i] * p[k * BLOCK + i] * (f->scores[k * BLOCK + i] - mean[i]);
        outer_add_block(f->x + b * f->d * BLOCK, f->scores, f->d, f->outputs, false, out);
    }
    for (int64_t j = 0; j < (int64_t)f->d * f->outputs; j++) out[j] += v[j];
}

static double dot(const double *a, const double *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* Solve Hessian step = -gradient until the residual has shrunk by `tolerance`. */
static encdiff_status newton_step(ed_env *env, logistic_fit *f, double tolerance)
{
    int64_t n = f->parameters;
    double rho = 0;
    memset(f->step, 0, (size_t)n * sizeof *f->step);
    for (int64_t j = 0; j < n; j++) {
        f->residual[j] = -f->gradient[j];
        f->direction[j] = f->residual[j] / f->diagonal[j];
        rho += f->residual[j] * f->direction[j];
    }
    double goal = tolerance * tolerance * rho;
    for (int it = 0; it < CG_STEPS && rho > goal; it++) {
        ED_TRY(ed_check_cancel(env));
        hessian_times(f, f->direction, f->product);
        double curvature = dot(f->direction, f->product, n), next = 0;
        if (curvature <= 0) break;
        for (int64_t j = 0; j < n; j++) {
            f->step[j] += rho / curvature * f->direction[j];
            f->residual[j] -= rho / curvature * f->product[j];
            next += f->residual[j] * f->residual[j] / f->diagonal[j];
        }
        for (int64_t j = 0; j < n; j++)
            f->direction[j] = f->residual[j] / f->diagonal[j] + next / rho * f->direction[j];
        rho = next;
    }
    return ENCDIFF_OK;
}

/* Halve the step until the objective has sunk as much as its slope promises. False when it cannot sink any more. */
static bool line_search(logistic_fit *f, double *w, double *value)
{
    double slope = dot(f->gradient, f->step, f->parameters), length = 1;
    bool blind = -slope <= 1e-10 * fabs(*value); /* less than the objective's rounding: near enough for a full step */
    for (int halving = 0; halving < 40; halving++, length /= 2) {
        for (int64_t j = 0; j < f->parameters; j++) f->trial[j] = w[j] + length * f->step[j];
        double now = objective(f, f->trial);
        if (!blind && now > *value + 1e-4 * length * slope) continue;
        memcpy(w, f->trial, (size_t)f->parameters * sizeof *w);
        *value = now;
        return true;
    }
    return false;
}

/* The penalty makes the distance to the optimum at most the gradient's length, but for the intercepts. */
static encdiff_status newton(ed_env *env, logistic_fit *f, double *w)
{
    double value = objective(f, w), first = 0;
    for (int step = 0; step < NEWTON_STEPS; step++) {
        derivatives(f, w);
        double norm = sqrt(dot(f->gradient, f->gradient, f->parameters));
        if (step == 0) first = norm;
        if (norm <= ED_MAX(1e-6 * ED_MIN(f->c, 1), 1e-12 * first)) break;
        ED_TRY(newton_step(env, f, ED_MIN(0.1, sqrt(norm / first))));
        if (!line_search(f, w, &value)) break;
    }
    return ENCDIFF_OK;
}

static encdiff_status fit_create(ed_env *env, logistic_fit *f, int64_t n)
{
    size_t blocks = (size_t)((n + BLOCK - 1) / BLOCK);
    f->blocks = (int64_t)blocks;
    f->parameters = ((int64_t)f->d + 1) * f->outputs;
    f->x = ed_alloc(env, blocks, (size_t)f->d * BLOCK * sizeof *f->x);
    f->label = ed_alloc(env, blocks, BLOCK * sizeof *f->label);
    f->weight = ed_alloc(env, blocks, BLOCK * sizeof *f->weight);
    f->probability = ed_alloc(env, blocks, (size_t)f->outputs * BLOCK * sizeof *f->probability);
    f->scores = ed_alloc(env, (size_t)f->outputs, BLOCK * sizeof *f->scores);
    f->gradient = ed_alloc(env, 7 * (size_t)f->parameters, sizeof *f->gradient);
    if (!f->x || !f->label || !f->weight || !f->probability || !f->scores || !f->gradient) return env->status;
    f->diagonal = f->gradient + f->parameters;
    f->step = f->diagonal + f->parameters;
    f->residual = f->step + f->parameters;
    f->direction = f->residual + f->parameters;
    f->product = f->direction + f->parameters;
    f->trial = f->product + f->parameters;
    return ENCDIFF_OK;
}

static void fit_free(ed_env *env, logistic_fit *f)
{
    ed_free(env, f->x);
    ed_free(env, f->label);
    ed_free(env, f->weight);
    ed_free(env, f->probability);
    ed_free(env, f->scores);
    ed_free(env, f->gradient);
}

static void fill_blocks(logistic_fit *f, const double *x, const int32_t *label, int64_t n)
{
    for (int64_t i = 0; i < f->blocks * BLOCK; i++) {
        f->label[i] = i < n ? label[i] : -1;
        f->weight[i] = i < n ? f->c : 0;
        for (int32_t j = 0; j < f->d && i < n; j++) f->x[(i / BLOCK * f->d + j) * BLOCK + i % BLOCK] = x[i * f->d + j];
    }
}

encdiff_status ed_logistic_fit(ed_env *env, const double *x, const int32_t *label, int64_t n, int32_t d,
                               int32_t classes, double c, ed_logistic *out)
{
    logistic_fit f = {.d = d, .outputs = classes == 2 ? 1 : classes, .c = c};
    encdiff_status status = ENCDIFF_OK;
    *out = (ed_logistic){.classes = classes, .features = d, .outputs = f.outputs};
    ED_TRY_OR_FAIL(fit_create(env, &f, n));
    out->weight = ed_alloc(env, (size_t)f.parameters, sizeof *out->weight);
    if (!out->weight) {
        status = env->status;
        goto fail;
    }
    fill_blocks(&f, x, label, n);
    ED_TRY_OR_FAIL(newton(env, &f, out->weight));
fail:
    fit_free(env, &f);
    if (status != ENCDIFF_OK) ed_logistic_free(env, out);
    return status;
}

void ed_logistic_free(ed_env *env, ed_logistic *model)
{
    ed_free(env, model->weight);
    *model = (ed_logistic){0};
}

/* out = (x, 1) W of one sample */
static void affine(const double *x, const ed_logistic *model, double *out)
{
    int32_t d = model->features, outputs = model->outputs;
    for (int32_t k = 0; k < outputs; k++) out[k] = model->weight[(int64_t)d * outputs + k];
    for (int32_t j = 0; j < d; j++)
        for (int32_t k = 0; k < outputs; k++) out[k] += x[j] * model->weight[(int64_t)j * outputs + k];
}

void ed_logistic_probabilities(const ed_logistic *model, const double *x, double *out)
{
    affine(x, model, out);
    soft(out, 1, model->outputs, 0);
    if (model->outputs > 1) return;
    out[1] = out[0];
    out[0] = 1 - out[1];
}

/* The first of the largest, as NumPy's argmax. */
static int32_t largest(const double *score, int32_t count)
{
    int32_t best = 0;
    for (int32_t k = 1; k < count; k++)
        if (score[k] > score[best]) best = k;
    return best;
}

int32_t ed_logistic_predict(const ed_logistic *model, const double *x, double *scratch)
{
    affine(x, model, scratch);
    return model->outputs == 1 ? scratch[0] > 0 : largest(scratch, model->outputs);
}
