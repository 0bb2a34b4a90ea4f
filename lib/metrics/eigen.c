/*
 * Symmetric eigenproblems. Values alone: Householder reduction to tridiagonal form, then QR with implicit shifts.
 * Values and vectors of small matrices: cyclic Jacobi rotations. Both as in Golub and Van Loan, Matrix Computations,
 * sections 8.3 and 8.5.
 */
#include <math.h>

#include "metrics/eigen.h"

/* w = A v for the leading `m` rows and columns of a full symmetric matrix of pitch n. */
ED_CLONES static void symmetric_times(const double *restrict a, int32_t n, int32_t m, const double *restrict v,
                                      double *restrict w)
{
    for (int32_t i = 0; i < m; i++) w[i] = 0;
    for (int32_t j = 0; j < m; j++) {
        const double *row = a + (int64_t)j * n;
        double x = v[j];
        for (int32_t i = 0; i < m; i++) w[i] += x * row[i];
    }
}

/* A -= v w' + w v' */
ED_CLONES static void rank_two_update(double *restrict a, int32_t n, int32_t m, const double *restrict v,
                                      const double *restrict w)
{
    for (int32_t j = 0; j < m; j++) {
        double *row = a + (int64_t)j * n;
        double x = v[j], y = w[j];
        for (int32_t i = 0; i < m; i++) row[i] -= x * w[i] + y * v[i];
    }
}

/* Householder: row k loses all but its last element left of the diagonal, for k from the last row down; that element is
 * off[k - 1]. */
static encdiff_status tridiagonalise(ed_env *env, double *a, int32_t n, double *diagonal, double *off, double *w)
{
    for (int32_t k = n - 1; k > 0; k--) {
        double *v = a + (int64_t)k * n, scale = 0, square = 0;
        diagonal[k] = v[k];
        for (int32_t i = 0; i < k; i++) scale = ED_MAX(scale, fabs(v[i]));
        off[k - 1] = v[k - 1];
        if (k == 1 || scale == 0) continue;
        ED_TRY(ed_check_cancel(env));
        for (int32_t i = 0; i < k; i++) {
            v[i] /= scale;
            square += v[i] * v[i];
        }
        double alpha = v[k - 1] > 0 ? -sqrt(square) : sqrt(square);
        double beta = square - v[k - 1] * alpha; /* half of v'v once the last element is v - alpha */
        off[k - 1] = alpha * scale;
        v[k - 1] -= alpha;
        symmetric_times(a, n, k, v, w);
        double along = 0;
        for (int32_t i = 0; i < k; i++) along += v[i] * w[i] / beta;
        for (int32_t i = 0; i < k; i++) w[i] = w[i] / beta - along / (2 * beta) * v[i];
        rank_two_update(a, n, k, v, w);
    }
    diagonal[0] = a[0];
    return ENCDIFF_OK;
}

/*
 * One implicit QR step on the unreduced block first..last: the first rotation is that of T - mu, with mu the
 * eigenvalue of the last 2 x 2 block nearest its corner (Wilkinson); the rest chase the bulge down and out.
 */
static void qr_step(double *diagonal, double *off, int32_t first, int32_t last)
{
    double half = (diagonal[last - 1] - diagonal[last]) / 2, corner = off[last - 1];
    double mu = diagonal[last] - corner * (corner / (half + copysign(hypot(half, corner), half)));
    double keep = diagonal[first] - mu, vanish = off[first];
    for (int32_t k = first; k < last; k++) {
        double length = hypot(keep, vanish), c = length > 0 ? keep / length : 1, s = length > 0 ? vanish / length : 0;
        double upper = diagonal[k], lower = diagonal[k + 1], between = off[k];
        if (k > first) off[k - 1] = length;
        diagonal[k] = c * c * upper + 2 * c * s * between + s * s * lower;
        diagonal[k + 1] = s * s * upper - 2 * c * s * between + c * c * lower;
        off[k] = c * s * (lower - upper) + (c * c - s * s) * between;
        if (k + 1 == last) break;
        keep = off[k];
        vanish = s * off[k + 1];
        off[k + 1] *= c;
    }
}

static bool negligible(const double *diagonal, const double *off, int32_t k)
{
    return fabs(off[k]) <= 0x1p-52 * (fabs(diagonal[k]) + fabs(diagonal[k + 1]));
}

/* off[k] couples k and k + 1. Eigenvalues fall off at the end of the matrix, usually two steps each. */
static encdiff_status qr(ed_env *env, double *diagonal, double *off, int32_t n)
{
    int64_t steps = 0;
    for (int32_t last = n - 1; last > 0;) {
        int32_t first = last;
        while (first > 0 && !negligible(diagonal, off, first - 1)) first--;
        if (first == last) {
            last--;
            continue;
        }
        if (steps++ > 60 * (int64_t)n)
            return ed_fail(env, ENCDIFF_ERROR_NUMERIC, "the eigenvalues of a %d x %d matrix did not converge", n, n);
        qr_step(diagonal, off, first, last);
    }
    return ENCDIFF_OK;
}

encdiff_status ed_eigenvalues(ed_env *env, double *a, int32_t n, double *values)
{
    double *work = ed_alloc(env, 2 * (size_t)n, sizeof *work);
    if (!work) return env->status;
    encdiff_status status = tridiagonalise(env, a, n, values, work, work + n);
    if (status == ENCDIFF_OK) status = qr(env, values, work, n);
    ed_free(env, work);
    return status;
}

/* ---------------------------------------------------------------- Jacobi */

/* Rotate rows and columns p and q so that a[p][q] vanishes; the vectors' rows likewise. */
static void rotate(double *a, double *vectors, int32_t n, int32_t p, int32_t q)
{
    double apq = a[(int64_t)p * n + q];
    double theta = (a[(int64_t)q * n + q] - a[(int64_t)p * n + p]) / (2 * apq);
    double t = copysign(1, theta) / (fabs(theta) + hypot(theta, 1)), c = 1 / hypot(t, 1), s = t * c;
    for (int32_t k = 0; k < n; k++) {
        double *x = &a[(int64_t)k * n + p], *y = &a[(int64_t)k * n + q], old = *x;
        *x = c * old - s * *y;
        *y = s * old + c * *y;
    }
    for (int pass = 0; pass < 2; pass++) {
        double *matrix = pass ? vectors : a, *x = matrix + (int64_t)p * n, *y = matrix + (int64_t)q * n;
        for (int32_t k = 0; k < n; k++) {
            double old = x[k];
            x[k] = c * old - s * y[k];
            y[k] = s * old + c * y[k];
        }
    }
}

encdiff_status ed_eigen_jacobi(ed_env *env, double *a, int32_t n, double *values, double *vectors)
{
    double norm = 0;
    for (int64_t i = 0; i < (int64_t)n * n; i++) {
        norm += a[i] * a[i];
        vectors[i] = i % (n + 1) == 0;
    }
    for (int sweep = 0; sweep < 60; sweep++) {
        double off = 0;
        for (int32_t p = 0; p < n; p++)
            for (int32_t q = p + 1; q < n; q++) off += a[(int64_t)p * n + q] * a[(int64_t)p * n + q];
        if (off <= 1e-30 * norm) {
            for (int32_t i = 0; i < n; i++) values[i] = a[(int64_t)i * n + i];
            return ENCDIFF_OK;
        }
        ED_TRY(ed_check_cancel(env));
        for (int32_t p = 0; p < n; p++)
            for (int32_t q = p + 1; q < n; q++)
                if (a[(int64_t)p * n + q] != 0) rotate(a, vectors, n, p, q);
    }
    return ed_fail(env, ENCDIFF_ERROR_NUMERIC, "the eigenvectors of a %d x %d matrix did not converge", n, n);
}
