/* The networks' arrays in the memory of a team's backend. */
#include "model/place.h"

encdiff_status ed_networks_place(ed_team *team, ed_networks *n, ed_set set, bool average, float **place)
{
    const ed_params *p = &n->sets[set];
    return ed_team_place(team, average ? n->averages[set] : p->values, p->total, p->version, place);
}

void ed_networks_changed(ed_team *team, ed_networks *n, ed_set set, uint64_t from)
{
    const ed_params *p = &n->sets[set];
    float *average = n->averages[set];
    if (p->values) ed_team_changed(team, p->values, from, p->version);
    if (average) ed_team_changed(team, average, from, p->version);
}

encdiff_status ed_networks_fetch(ed_team *team, ed_networks *n)
{
    for (int set = 0; set < ED_SET_COUNT; set++) {
        const ed_params *p = &n->sets[set];
        float *average = n->averages[set];
        if (p->values) ED_TRY(ed_team_fetch(team, p->values, p->version));
        if (average) ED_TRY(ed_team_fetch(team, average, p->version));
    }
    return ENCDIFF_OK;
}

void ed_networks_forget(ed_team *team, const ed_networks *n)
{
    for (int set = 0; set < ED_SET_COUNT; set++) {
        const float *average = n->averages[set];
        if (n->sets[set].values) ed_team_forget(team, n->sets[set].values);
        if (average) ed_team_forget(team, average);
    }
}
