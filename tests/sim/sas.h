/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel's SAs as steerd sees them: what stands behind xfrm.h. The truth says when one comes, goes or
 * changes its peer's address; steerd is notified after a while, or not, and then finds out that something
 * was lost. A dump says what is there, or fails.
 */
#ifndef TENANT_STEER_SIM_SAS_H
#define TENANT_STEER_SIM_SAS_H

#include "sim.h"
#include "truth.h"

void sas_changed(struct sim *sim, const struct truth_sa *sa, bool added);

#endif
