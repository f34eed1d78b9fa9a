/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What peers, operators, strangers and fate do, at random, one after the other. */
#ifndef TENANT_STEER_SIM_ACTIONS_H
#define TENANT_STEER_SIM_ACTIONS_H

#include "sim.h"

void actions_start(struct sim *sim);
/* From now on all is well: what is down is started. */
void actions_quiet(struct sim *sim);

#endif
