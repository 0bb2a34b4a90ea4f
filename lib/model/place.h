/*
 * Where a team's backend has the networks (graph/team.h). Whoever reads the host's arrays of networks that a trainer
 * may hold fetches them first.
 */
#ifndef ED_PLACE_H
#define ED_PLACE_H

#include "graph/team.h"
#include "model/networks.h"

/* The values of a set, or their moving average. */
encdiff_status ed_networks_place(ed_team *team, ed_networks *networks, ed_set set, bool average, float **place);
/* The set's values and averages of version `from` were changed in their place; the version is the set's now. */
void ed_networks_changed(ed_team *team, ed_networks *networks, ed_set set, uint64_t from);
/* Bring all arrays of the host up to date. */
encdiff_status ed_networks_fetch(ed_team *team, ed_networks *networks);
/* Give back the device's copies; before the networks are freed, by everyone who placed them. */
void ed_networks_forget(ed_team *team, const ed_networks *networks);

#endif
