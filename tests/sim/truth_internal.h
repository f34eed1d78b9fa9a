/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What truth.c, which keeps the truth and checks after every step, and truth_live.c, which checks after
 * the last fault, both know.
 */
#ifndef TENANT_STEER_SIM_TRUTH_INTERNAL_H
#define TENANT_STEER_SIM_TRUTH_INTERNAL_H

#include "packets.h"
#include "scopes.h"
#include "truth.h"

/* An exception of a tenant by a profile, of one scope, as it was last granted. */
struct slot {
	bool granted, ended, revoked;
	bool refused; /* the kernel did not take the revocation, and whoever asked was told */
	int64_t granted_us, ended_us; /* monotonic */
	int64_t expires_us;           /* wall clock */
	int64_t lifetime_over_us;     /* monotonic: whatever is done to the wall clock */
	int64_t changed_us; /* when its end was, of which nobody said that the kernel has it; or 0 */
};

struct truth {
	struct truth_sa sas[TRUTH_SAS];
	struct truth_book book;
	struct slot slots[SIM_TENANTS][SIM_PROFILES][SIM_SCOPES];
	unsigned round;
	/* for the last check */
	struct live *live;
	uint64_t steered[SIM_TENANTS];
};

/* By the book, is this exception of the tenant's (-1: of nobody's) in force? */
bool truth_in_force(struct sim *sim, int tenant, unsigned profile, unsigned scope);
/* Is a packet of the SA one of the scope's? */
bool truth_covers(unsigned scope, const struct truth_sa *sa, const struct packet *packet);

/* The packet comes by the SA; its addresses are left alone. */
void truth_fill_sa(struct sim *sim, const struct truth_sa *sa, struct packet *packet);

/* False: the text is no address of the family. */
bool truth_set_address(int family, const char *text, uint8_t address[16]);
/* Of the range's family. */
bool truth_in_range(const struct address_range *range, const uint8_t *address);

#endif
