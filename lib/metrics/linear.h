/* Linear classifiers of the metrics; labels are classes 0 .. classes - 1, each of which occurs. */
#ifndef ED_METRICS_LINEAR_H
#define ED_METRICS_LINEAR_H

#include "metrics/internal.h"

typedef struct ed_logistic {
    int32_t classes, features;
    int32_t outputs; /* 1 for two classes, else classes */
    double *weight;  /* [features + 1][outputs], the intercepts last */
} ed_logistic;

/* Penalised as LogisticRegression(C=c): multinomial, or plain logistic for two classes. x is double[n][d]. */
encdiff_status ed_logistic_fit(ed_env *env, const double *x, const int32_t *label, int64_t n, int32_t d,
                               int32_t classes, double c, ed_logistic *out);
void ed_logistic_free(ed_env *env, ed_logistic *model);
/* out, double[classes] */
void ed_logistic_probabilities(const ed_logistic *model, const double *x, double *out);
/* scratch, double[outputs] */
int32_t ed_logistic_predict(const ed_logistic *model, const double *x, double *scratch);

/*
 * LinearSVC(C=c, class_weight="balanced") on one feature: squared hinge loss, one class against the rest, the
 * intercept penalised too. weight, out: double[classes][2].
 */
void ed_svm_fit(const float *x, const int32_t *label, int64_t n, const int64_t *class_count, int32_t classes, double c,
                double *weight);
int32_t ed_svm_predict(const double *weight, int32_t classes, float x);

#endif
