/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whose a flow is, and which exception let it take its path: as far as that is certain. What is not is
 * nobody's, because a report must not say of a customer what another one did. One thread.
 */
#ifndef TENANT_STEER_ATTRIBUTION_H
#define TENANT_STEER_ATTRIBUTION_H

#include "core.h"
#include "kernel/conntrack_flow.h"

/*
 * The only tenant whose child SAs have this inner address; NULL: nobody's, several tenants', or an
 * unidentified peer's. *ret_several, unless NULL: it may be several tenants'.
 */
struct tenant *attribution_tenant(struct core *core, const struct address *source,
				  bool *ret_several);

/*
 * The exception by which a flow that begins now, with this ct mark, takes its path: the tenant's for the
 * first profile that leads there and covers the flow, as in the kernel's rules; of several of one profile
 * (parts that overlap) the oldest. 0 (USAGE_UNATTRIBUTED) if that is not certain. user is the struct core.
 */
uint64_t attribution_find(void *user, const struct conntrack_flow *flow);

#endif
