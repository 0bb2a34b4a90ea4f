/* A team's copies of parameters on its device. There are a handful, so a list does. */
#include "graph/team.h"

typedef struct ed_mirror {
    struct ed_mirror *next;
    const float *host;
    float *device;
    size_t count;
    uint64_t version; /* of the values on the device */
    bool newer;       /* than the host's */
} ed_mirror;

static ed_mirror **find(ed_team *team, const float *host)
{
    ed_mirror **at = &team->mirrors;
    while (*at && (*at)->host != host) at = &(*at)->next;
    return at;
}

static encdiff_status create(ed_team *team, const float *host, size_t count, ed_mirror **out)
{
    ed_mirror *m = ed_alloc(team->env, 1, sizeof *m);
    if (!m) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    ed_backend *b = team->backend;
    *m = (ed_mirror){.host = host, .count = count};
    m->device = ed_backend_allocate_raw(b, team->env, ED_MAX(count, 1) * sizeof(float));
    if (!m->device) {
        ed_free(team->env, m);
        return team->env->status;
    }
    *out = m;
    return ENCDIFF_OK;
}

encdiff_status ed_team_place(ed_team *team, float *host, size_t count, uint64_t version, float **place)
{
    ed_backend *b = team->backend;
    *place = host;
    if (b->host_memory || !host) return ENCDIFF_OK;
    ed_mirror **at = find(team, host), *m = *at;
    if (m && m->count != count) return ed_fail(team->env, ENCDIFF_ERROR_INTERNAL, "an array of parameters has changed");
    if (!m) ED_TRY(create(team, host, count, &m));
    if (!*at || m->version != version) {
        encdiff_status status = b->upload(b, team->env, m->device, host, count * sizeof(float));
        if (status != ENCDIFF_OK) {
            if (!*at) b->release(b, team->env, m->device), ed_free(team->env, m);
            return status;
        }
        m->version = version;
        m->newer = false;
    }
    *at = m;
    *place = m->device;
    return ENCDIFF_OK;
}

void ed_team_changed(ed_team *team, const float *host, uint64_t from, uint64_t to)
{
    ed_mirror *m = *find(team, host);
    if (!m || m->version != from) return;
    m->version = to;
    m->newer = true;
}

encdiff_status ed_team_fetch(ed_team *team, float *host, uint64_t version)
{
    ed_mirror *m = *find(team, host);
    if (!m || !m->newer || m->version != version) return ENCDIFF_OK;
    ed_backend *b = team->backend;
    ED_TRY(b->download(b, team->env, host, m->device, m->count * sizeof(float)));
    m->newer = false;
    return ENCDIFF_OK;
}

static void forget(ed_team *team, ed_mirror **at)
{
    ed_mirror *m = *at;
    *at = m->next;
    team->backend->release(team->backend, team->env, m->device);
    ed_free(team->env, m);
}

void ed_team_forget(ed_team *team, const float *host)
{
    ed_mirror **at = find(team, host);
    if (*at) forget(team, at);
}

void ed_team_forget_all(ed_team *team)
{
    while (team->mirrors) forget(team, &team->mirrors);
}
