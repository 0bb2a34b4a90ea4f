/* evaluation: scores while a trainer runs, what they are of, and the best checkpoints by them. */
#ifndef ED_API_EVALUATION_H
#define ED_API_EVALUATION_H

#include "api/handles.h"
#include "train/trainer.h"

typedef struct ed_evaluation ed_evaluation;

encdiff_status ed_evaluation_create(encdiff_model *model, ed_trainer *trainer,
                                    const encdiff_evaluation_options *options, ed_evaluation **out);
void ed_evaluation_free(ed_env *env, ed_evaluation *evaluation); /* NULL is fine */
/* The trainer evaluates so; NULL: no longer. */
void ed_evaluation_set(ed_evaluation *evaluation, ed_trainer_options *options);
/* Before a run: a training that begins forgets older scores; one that was stopped while it scored makes up for it. */
encdiff_status ed_evaluation_begin(ed_evaluation *evaluation);
/* Score now; an ed_evaluation as `user`. */
encdiff_status ed_evaluation_run(void *evaluation);

#endif
