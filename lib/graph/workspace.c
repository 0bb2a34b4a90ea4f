/* What was in the memory is never kept: a run writes its inputs first. */
#include "graph/workspace.h"

/* After a failure the memory is what it was. */
static encdiff_status resize(ed_env *env, ed_workspace *w, size_t bytes)
{
    void *memory = NULL;
    if (bytes && !(memory = ed_backend_allocate_raw(w->backend, env, bytes))) return env->status;
    if (w->memory) w->backend->release(w->backend, env, w->memory);
    w->memory = memory;
    w->bytes = bytes;
    return ENCDIFF_OK;
}

encdiff_status ed_workspace_join(ed_env *env, ed_workspace *w, ed_workspace_user *user)
{
    if (user->bytes > w->bytes) ED_TRY(resize(env, w, user->bytes));
    user->next = w->users;
    w->users = user;
    return ENCDIFF_OK;
}

void ed_workspace_leave(ed_env *env, ed_workspace *w, ed_workspace_user *user)
{
    ed_workspace_user **link = &w->users;
    while (*link && *link != user) link = &(*link)->next;
    if (!*link) return;
    *link = user->next;
    size_t bytes = 0;
    for (const ed_workspace_user *u = w->users; u; u = u->next) bytes = ED_MAX(bytes, u->bytes);
    ed_env later; /* where there is no room for less beside it, it stays */
    ed_env_child(&later, env);
    if (bytes < w->bytes) (void)resize(&later, w, bytes);
}
