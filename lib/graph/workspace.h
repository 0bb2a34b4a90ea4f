/*
 * A workspace: the arena of executions that run one after another on a rank and keep nothing in it between their runs.
 * It has the size of the largest, where arenas of their own would take the sum of all.
 */
#ifndef ED_WORKSPACE_H
#define ED_WORKSPACE_H

#include "graph/backend.h"

typedef struct ed_workspace_user {
    size_t bytes;
    struct ed_workspace_user *next;
} ed_workspace_user;

struct ed_workspace {
    ed_backend *backend;
    void *memory; /* moves when a larger user comes or the largest leaves */
    size_t bytes;
    ed_workspace_user *users;
};

/* `user->bytes` is set. After a failure nothing has changed. */
encdiff_status ed_workspace_join(ed_env *env, ed_workspace *workspace, ed_workspace_user *user);
/* Nothing happens for one that has not joined. The last one takes the memory along. */
void ed_workspace_leave(ed_env *env, ed_workspace *workspace, ed_workspace_user *user);

#endif
