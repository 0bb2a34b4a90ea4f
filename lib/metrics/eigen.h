/* Eigenvalues of symmetric matrices, double[n][n]. */
#ifndef ED_METRICS_EIGEN_H
#define ED_METRICS_EIGEN_H

#include "metrics/internal.h"

/* values, out: double[n] in no order. `a` is overwritten. For large matrices: 4/3 n^3 operations. */
encdiff_status ed_eigenvalues(ed_env *env, double *a, int32_t n, double *values);
/* With vectors, out: double[n][n], one a row. `a` is overwritten. For small matrices. */
encdiff_status ed_eigen_jacobi(ed_env *env, double *a, int32_t n, double *values, double *vectors);

#endif
