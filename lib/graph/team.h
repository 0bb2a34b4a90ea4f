/*
 * A team: the ranks that run graphs together on one backend. On the CPU a rank is a worker thread that runs the whole
 * graph on its shard of the batch; a device has one rank.
 */
#ifndef ED_TEAM_H
#define ED_TEAM_H

#include "graph/backend.h"

#define ED_TEAM_MAX_RANKS 256

typedef struct ed_team {
    ed_env *env;
    ed_backend *backend;
    ed_pool *pool;
    int ranks;
    ed_type compute;  /* of the networks' activations; f32 until changed */
    ed_env *rank_env; /* one per rank, so that each has its own error record */
    ed_comm **comm;   /* comm[n]: of the first n ranks; NULL for n < 2 */
} ed_team;

typedef encdiff_status (*ed_team_function)(ed_env *env, void *argument, int rank);

encdiff_status ed_team_create(ed_env *env, ed_backend *backend, int threads, ed_team **out);
void ed_team_free(ed_team *team);
/* Call the function on ranks 0 .. ranks-1 and wait; returns the failure of the lowest rank, recorded in team->env. */
encdiff_status ed_team_run(ed_team *team, int ranks, ed_team_function function, void *argument);

#endif
