/* What the files of lib/metrics share: loops over the pool, factor classes, small numeric helpers. */
#ifndef ED_METRICS_INTERNAL_H
#define ED_METRICS_INTERNAL_H

#include "metrics/metrics.h"

/* Hot loops are compiled for several instruction sets and chosen when the library is loaded. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) &&               \
    !defined(__SANITIZE_THREAD__)
#define ED_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define ED_CLONES
#endif

/* Items [first, last) of a loop, on thread `rank`. Fails through its own env. */
typedef encdiff_status ed_metric_body(ed_env *env, void *argument, int rank, int64_t first, int64_t last);

/* How many ranks ed_metric_for() uses: bodies index their scratch by rank. */
int ed_metric_ranks(const ed_metric_run *run);
/*
 * Run `body` over [0, count) in pieces of `grain` items, handed to the threads as they become free. Stops at the first
 * failure, when cancelled, and when the progress callback says so. A result must not depend on who did which piece.
 */
encdiff_status ed_metric_for(ed_env *env, const ed_metric_run *run, const char *activity, int64_t count, int64_t grain,
                             ed_metric_body *body, void *argument);

encdiff_status ed_metric_rows_check(ed_env *env, const int32_t *rows, int64_t count, int64_t n);
/* Everything about given points, after ed_representation_check() of their table. */
encdiff_status ed_metric_points_check(ed_env *env, const ed_metric_points *points, const char *what);

/* One factor with its values renamed 0, 1, ... in increasing order. */
typedef struct ed_classes {
    int32_t count;
    int32_t *label;  /* [n] */
    int32_t *values; /* [count] */
} ed_classes;

encdiff_status ed_classes_create(ed_env *env, const ed_representation *representation, int32_t factor, ed_classes *out);
void ed_classes_free(ed_env *env, ed_classes *classes);
/* Every factor's classes: [factor_count]. */
encdiff_status ed_classes_create_all(ed_env *env, const ed_representation *representation, ed_classes **out);
void ed_classes_free_all(ed_env *env, ed_classes *classes, int32_t count);
/* The classes of a factor in other samples: label[i], or -1 where the value did not occur. Owned by the caller. */
encdiff_status ed_classes_relabel(ed_env *env, const ed_classes *classes, const ed_representation *other,
                                  int32_t factor, int32_t **label);
/* A failure that names the first factor with fewer than two classes. */
encdiff_status ed_classes_check_varied(ed_env *env, const ed_classes *classes, int32_t count);
/* The class of a value; -1 when it did not occur. */
int32_t ed_classes_find(const ed_classes *classes, int32_t value);

/* Rows grouped by class: those of class c are rows[start[c]] .. rows[start[c + 1] - 1], in increasing order. */
encdiff_status ed_classes_group(ed_env *env, const ed_classes *classes, int64_t n, int64_t **start, int32_t **rows);

#endif
