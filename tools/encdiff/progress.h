/* progress: one line on a terminal, with a bar, the rate, what is left, and the loss where there is one. */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#include <encdiff/encdiff.h>

typedef struct progress {
    bool on;             /* stderr is a terminal, and not --quiet */
    bool drawn;          /* the line is on the screen */
    char activity[48];   /* that the clock below belongs to */
    const char *title;   /* shown instead of the library's word for the activity; or NULL */
    int64_t first, done; /* where the activity began, where it was last */
    double start, shown; /* seconds */
    int64_t total_steps; /* of a training stage */
} progress;

void progress_start(progress *p, bool quiet);
/* Takes the line away, so that something else can be printed. */
void progress_clear(progress *p);

/* encdiff_progress and encdiff_train_progress; user is the progress. */
int32_t progress_step(const encdiff_progress_info *info, void *user);
int32_t progress_train(const encdiff_train_report *report, void *user);
/* For loops of the program's own. */
void progress_show(progress *p, const char *activity, int64_t done, int64_t total);

/* Seconds of a clock that is never set. */
double progress_now(void);

#endif
