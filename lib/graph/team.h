/*
 * A team: the ranks that run graphs together on one backend. On the CPU a rank is a worker thread that runs the whole
 * graph on its shard of the batch; a device has one rank.
 */
#ifndef ED_TEAM_H
#define ED_TEAM_H

#include "graph/workspace.h"

#define ED_TEAM_MAX_RANKS 256

typedef struct ed_team {
    ed_env *env;
    ed_backend *backend;
    ed_pool *pool;
    int ranks;
    ed_type compute;           /* of the networks' activations; f32 until changed */
    ed_env *rank_env;          /* one per rank, so that each has its own error record */
    ed_comm **comm;            /* comm[n]: of the first n ranks; NULL for n < 2 */
    ed_workspace *workspaces;  /* one per rank */
    struct ed_mirror *mirrors; /* mirror.c */
} ed_team;

typedef encdiff_status (*ed_team_function)(ed_env *env, void *argument, int rank);

encdiff_status ed_team_create(ed_env *env, ed_backend *backend, int threads, ed_team **out);
void ed_team_free(ed_team *team);
/* Call the function on ranks 0 .. ranks-1 and wait; returns the failure of the lowest rank, recorded in team->env. */
encdiff_status ed_team_run(ed_team *team, int ranks, ed_team_function function, void *argument);

/*
 * mirror.c: where the backend has the parameters. They are kept in arrays of the host, which files, the API and other
 * contexts read and write; a device works on copies that the team keeps, one for each array. `version` is the array's,
 * which changes with every change of the values on either side. On the host all of this is the array itself.
 */

/* The place of `count` floats in the backend's memory; they are brought there when the version is not the copy's. */
encdiff_status ed_team_place(ed_team *team, float *host, size_t count, uint64_t version, float **place);
/* Values of version `from` were changed in their place and have version `to` now. */
void ed_team_changed(ed_team *team, const float *host, uint64_t from, uint64_t to);
/* Bring the array up to date where values of this version were changed in their place. */
encdiff_status ed_team_fetch(ed_team *team, float *host, uint64_t version);
/* Before the array's memory is given back. */
void ed_team_forget(ed_team *team, const float *host);
void ed_team_forget_all(ed_team *team);

#endif
