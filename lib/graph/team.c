/* One fork and one join per call; each rank reports into its own error record. */
#include "graph/team.h"

typedef struct job {
    ed_team *team;
    ed_team_function function;
    void *argument;
} job;

encdiff_status ed_team_create(ed_env *env, ed_backend *backend, int threads, ed_team **out)
{
    *out = NULL;
    encdiff_status status = ENCDIFF_ERROR_OUT_OF_MEMORY;
    ed_team *team = ed_alloc(env, 1, sizeof *team);
    if (!team) return status;
    team->env = env;
    team->backend = backend;
    team->ranks = backend->host_memory ? ED_MIN(threads, ED_TEAM_MAX_RANKS) : 1;
    team->rank_env = ed_alloc(env, (size_t)team->ranks, sizeof *team->rank_env);
    team->comm = ed_alloc(env, (size_t)team->ranks + 1, sizeof *team->comm);
    team->workspaces = ed_alloc(env, (size_t)team->ranks, sizeof *team->workspaces);
    if (!team->rank_env || !team->comm || !team->workspaces) goto fail;
    for (int r = 0; r < team->ranks; r++) team->workspaces[r].backend = backend;
    ED_TRY_OR_FAIL(ed_pool_create(env, team->ranks, &team->pool));
    for (int n = 2; n <= team->ranks; n++) ED_TRY_OR_FAIL(ed_thread_comm_create(env, n, &team->comm[n]));
    *out = team;
    return ENCDIFF_OK;
fail:
    ed_team_free(team);
    return status;
}

void ed_team_free(ed_team *team)
{
    if (!team) return;
    ed_env *env = team->env;
    ed_team_forget_all(team);
    for (int n = 2; team->comm && n <= team->ranks; n++) ed_thread_comm_free(env, team->comm[n]);
    ed_pool_free(env, team->pool);
    ed_free(env, team->workspaces);
    ed_free(env, team->comm);
    ed_free(env, team->rank_env);
    ed_free(env, team);
}

static void run_rank(void *argument, int rank)
{
    job *j = argument;
    ed_env *env = &j->team->rank_env[rank];
    ed_env_child(env, j->team->env);
    unsigned before = ed_float_enter(ED_FLUSH_DENORMALS);
    env->status = j->function(env, j->argument, rank);
    ed_float_leave(before);
}

encdiff_status ed_team_run(ed_team *team, int ranks, ed_team_function function, void *argument)
{
    job j = {team, function, argument};
    ranks = ED_MIN(ranks, team->ranks);
    ed_pool_run(team->pool, ranks, run_rank, &j);
    for (int r = 0; r < ranks; r++)
        if (team->rank_env[r].status != ENCDIFF_OK)
            return ed_fail(team->env, team->rank_env[r].status, "%s", team->rank_env[r].message);
    return ENCDIFF_OK;
}
