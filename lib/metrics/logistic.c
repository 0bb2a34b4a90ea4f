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

/* One problem and its work arrays; vectors of parameters are [features + 1][outputs], the intercepts last. */
typedef struct logistic_fit {
    const double *x; /* [n][d] */
    const int32_t *label;
    int64_t n, parameters;
    int32_t d, outputs;
    double c;
    double *probability; /* [n][outputs] at the last evaluation */
    double *row;         /* [outputs] */
    double *gradient, *diagonal, *step, *residual, *direction, *product, *trial;
} logistic_fit;

/* out = (x, 1) W */
ED_CLONES static void affine(const double *restrict x, const double *restrict w, int32_t d, int32_t outputs,
                             double *restrict out)
{
    const double *intercept = w + (int64_t)d * outputs;
    for (int32_t k = 0; k < outputs; k++) out[k] = intercept[k];
    for (int32_t j = 0; j < d; j++)
        for (int32_t k = 0; k < outputs; k++) out[k] += x[j] * w[(int64_t)j * outputs + k];
}

/* W += (x, 1)^T row */
ED_CLONES static void outer_add(const double *restrict x, const double *restrict row, int32_t d, int32_t outputs,
                                double *restrict w)
{
    for (int32_t j = 0; j < d; j++)
        for (int32_t k = 0; k < outputs; k++) w[(int64_t)j * outputs + k] += x[j] * row[k];
    for (int32_t k = 0; k < outputs; k++) w[(int64_t)d * outputs + k] += row[k];
}

/* Scores in `z` become probabilities; returns the loss of `label`. One output is the log-odds of class 1. */
static double soft(double *z, int32_t outputs, int32_t label)
{
    if (outputs == 1) {
        double margin = label ? z[0] : -z[0];
        double loss = margin > 0 ? log1p(exp(-margin)) : log1p(exp(margin)) - margin;
        z[0] = 1 / (1 + exp(-z[0]));
        return loss;
    }
    double top = z[0], sum = 0, own = z[label];
    for (int32_t k = 1; k < outputs; k++) top = ED_MAX(top, z[k]);
    for (int32_t k = 0; k < outputs; k++) sum += z[k] = exp(z[k] - top);
    for (int32_t k = 0; k < outputs; k++) z[k] /= sum;
    return log(sum) + top - own;
}

static double objective(logistic_fit *f, const double *w)
{
    double loss = 0, norm = 0;
    for (int64_t i = 0; i < f->n; i++) {
        double *p = f->probability + i * f->outputs;
        affine(f->x + i * f->d, w, f->d, f->outputs, p);
        loss += soft(p, f->outputs, f->label[i]);
    }
    for (int64_t j = 0; j < (int64_t)f->d * f->outputs; j++) norm += w[j] * w[j];
    return 0.5 * norm + f->c * loss;
}

/* Gradient and the Hessian's diagonal from the stored probabilities. */
static void derivatives(logistic_fit *f, const double *w)
{
    int64_t penalised = (int64_t)f->d * f->outputs;
    memset(f->gradient, 0, (size_t)f->parameters * sizeof *f->gradient);
    memset(f->diagonal, 0, (size_t)f->parameters * sizeof *f->diagonal);
    for (int64_t i = 0; i < f->n; i++) {
        const double *p = f->probability + i * f->outputs, *x = f->x + i * f->d;
        for (int32_t k = 0; k < f->outputs; k++) f->row[k] = f->c * p[k];
        f->row[f->outputs == 1 ? 0 : f->label[i]] -= f->outputs == 1 ? f->c * f->label[i] : f->c;
        outer_add(x, f->row, f->d, f->outputs, f->gradient);
        for (int32_t k = 0; k < f->outputs; k++) {
            double curvature = f->c * p[k] * (1 - p[k]);
            for (int32_t j = 0; j < f->d; j++) f->diagonal[(int64_t)j * f->outputs + k] += curvature * x[j] * x[j];
            f->diagonal[penalised + k] += curvature;
        }
    }
    for (int64_t j = 0; j < penalised; j++) {
        f->gradient[j] += w[j];
        f->diagonal[j] += 1;
    }
    for (int64_t j = penalised; j < f->parameters; j++) f->diagonal[j] = ED_MAX(f->diagonal[j], 1e-12);
}

/* out = Hessian v */
static void hessian_times(logistic_fit *f, const double *v, double *out)
{
    memset(out, 0, (size_t)f->parameters * sizeof *out);
    for (int64_t i = 0; i < f->n; i++) {
        const double *p = f->probability + i * f->outputs;
        double mean = 0;
        affine(f->x + i * f->d, v, f->d, f->outputs, f->row);
        for (int32_t k = 0; k < f->outputs; k++) mean += p[k] * f->row[k];
        for (int32_t k = 0; k < f->outputs; k++) f->row[k] = f->c * p[k] * (f->row[k] - mean);
        outer_add(f->x + i * f->d, f->row, f->d, f->outputs, out);
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
    for (int halving = 0; halving < 40; halving++, length /= 2) {
        for (int64_t j = 0; j < f->parameters; j++) f->trial[j] = w[j] + length * f->step[j];
        double now = objective(f, f->trial);
        if (now <= *value + 1e-4 * length * slope) {
            memcpy(w, f->trial, (size_t)f->parameters * sizeof *w);
            *value = now;
            return true;
        }
    }
    return false;
}

static encdiff_status newton(ed_env *env, logistic_fit *f, double *w)
{
    double value = objective(f, w), first = 0;
    for (int step = 0; step < NEWTON_STEPS; step++) {
        derivatives(f, w);
        double norm = sqrt(dot(f->gradient, f->gradient, f->parameters));
        if (step == 0) first = ED_MAX(norm, 1e-300);
        if (norm <= 1e-9 * ED_MAX(first, 1)) break;
        ED_TRY(newton_step(env, f, ED_MIN(0.1, norm / first)));
        if (!line_search(f, w, &value)) break; /* rounding is all that is left */
    }
    return ENCDIFF_OK;
}

encdiff_status ed_logistic_fit(ed_env *env, const double *x, const int32_t *label, int64_t n, int32_t d,
                               int32_t classes, double c, ed_logistic *out)
{
    logistic_fit f = {.x = x, .label = label, .n = n, .d = d, .outputs = classes == 2 ? 1 : classes, .c = c};
    encdiff_status status = ENCDIFF_OK;
    *out = (ed_logistic){.classes = classes, .features = d, .outputs = f.outputs};
    f.parameters = ((int64_t)d + 1) * f.outputs;
    out->weight = ed_alloc(env, (size_t)f.parameters, sizeof *out->weight);
    f.probability = ed_alloc(env, (size_t)n, (size_t)f.outputs * sizeof *f.probability);
    f.row = ed_alloc(env, (size_t)f.outputs, sizeof *f.row);
    f.gradient = ed_alloc(env, 7 * (size_t)f.parameters, sizeof *f.gradient);
    if (!out->weight || !f.probability || !f.row || !f.gradient) {
        status = env->status;
        goto fail;
    }
    f.diagonal = f.gradient + f.parameters;
    f.step = f.diagonal + f.parameters;
    f.residual = f.step + f.parameters;
    f.direction = f.residual + f.parameters;
    f.product = f.direction + f.parameters;
    f.trial = f.product + f.parameters;
    ED_TRY_OR_FAIL(newton(env, &f, out->weight));
fail:
    ed_free(env, f.probability);
    ed_free(env, f.row);
    ed_free(env, f.gradient);
    if (status != ENCDIFF_OK) ed_logistic_free(env, out);
    return status;
}

void ed_logistic_free(ed_env *env, ed_logistic *model)
{
    ed_free(env, model->weight);
    *model = (ed_logistic){0};
}

void ed_logistic_probabilities(const ed_logistic *model, const double *x, double *out)
{
    affine(x, model->weight, model->features, model->outputs, out);
    soft(out, model->outputs, 0);
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
    affine(x, model->weight, model->features, model->outputs, scratch);
    return model->outputs == 1 ? scratch[0] > 0 : largest(scratch, model->outputs);
}
