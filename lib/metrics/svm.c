/*
 * A linear SVM on one feature: L2-penalised squared hinge loss as in LIBLINEAR (Fan et al., JMLR 2008), solved to the
 * optimum by Newton steps in its two unknowns.
 */
#include <math.h>

#include "metrics/linear.h"

typedef struct svm_fit {
    const float *x;
    const int32_t *label;
    int64_t n;
    int32_t positive;
    double cost[2]; /* of the others, of the positive class */
} svm_fit;

/* 1/2 (w^2 + b^2) + sum cost max(0, 1 - y (w x + b))^2, its gradient and Hessian (w w, w b, b b). */
static double svm_objective(const svm_fit *f, const double w[2], double gradient[2], double hessian[3])
{
    double value = 0.5 * (w[0] * w[0] + w[1] * w[1]), sums[6] = {0};
    for (int64_t i = 0; i < f->n; i++) {
        bool own = f->label[i] == f->positive;
        double x = (double)f->x[i], y = own ? 1 : -1, slack = 1 - y * (w[0] * x + w[1]);
        if (slack <= 0) continue;
        double cost = f->cost[own];
        sums[0] += cost * slack * slack;
        sums[1] += cost * y * slack * x;
        sums[2] += cost * y * slack;
        sums[3] += cost * x * x;
        sums[4] += cost * x;
        sums[5] += cost;
    }
    gradient[0] = w[0] - 2 * sums[1];
    gradient[1] = w[1] - 2 * sums[2];
    hessian[0] = 1 + 2 * sums[3];
    hessian[1] = 2 * sums[4];
    hessian[2] = 1 + 2 * sums[5];
    return value + sums[0];
}

/* Newton on a piecewise quadratic: it ends exactly once the set of points inside the margin stays. */
static void svm_newton(const svm_fit *f, double w[2])
{
    double g[2], h[3], value = svm_objective(f, w, g, h);
    for (int step = 0; step < 200; step++) {
        double determinant = h[0] * h[2] - h[1] * h[1], length = 1;
        double s[2] = {-(h[2] * g[0] - h[1] * g[1]) / determinant, -(h[0] * g[1] - h[1] * g[0]) / determinant};
        double slope = s[0] * g[0] + s[1] * g[1];
        if (-slope <= 1e-24 * ED_MAX(value, 1)) return;
        for (int halving = 0; halving < 50; halving++, length /= 2) {
            double trial[2] = {w[0] + length * s[0], w[1] + length * s[1]};
            double now = svm_objective(f, trial, g, h);
            if (now > value + 1e-4 * length * slope && halving < 49) continue;
            if (now >= value) return;
            memcpy(w, trial, sizeof trial);
            value = now;
            break;
        }
    }
}

void ed_svm_fit(const float *x, const int32_t *label, int64_t n, const int64_t *class_count, int32_t classes, double c,
                double *weight)
{
    svm_fit f = {.x = x, .label = label, .n = n};
    for (int32_t k = 0; k < (classes == 2 ? 1 : classes); k++) {
        /* Balanced weights hold for the class itself; the others keep C, but for two classes both are weighted. */
        f.positive = classes == 2 ? 1 : k;
        f.cost[1] = c * (double)n / ((double)classes * (double)class_count[f.positive]);
        f.cost[0] = classes == 2 ? c * (double)n / (2.0 * (double)class_count[0]) : c;
        weight[2 * k] = weight[2 * k + 1] = 0;
        svm_newton(&f, weight + 2 * k);
    }
}

int32_t ed_svm_predict(const double *weight, int32_t classes, float x)
{
    if (classes == 2) return weight[0] * (double)x + weight[1] > 0;
    int32_t best = 0;
    double top = -INFINITY;
    for (int32_t k = 0; k < classes; k++) {
        double score = weight[2 * k] * (double)x + weight[2 * k + 1];
        if (score > top) top = score, best = k;
    }
    return best;
}
