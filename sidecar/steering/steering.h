/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Keeping the kernel as the plan wants it: skeleton, elements, lease, rules and routes. Everything
 * that can go wrong ends in less steering: the lease is not renewed, and the kernel itself stops
 * all bypassing. One thread.
 *
 * Nothing is steered unless somebody said steering_allow(): the first snapshot is in, and the
 * publisher is heard. And nothing is while a flowtable takes tenants' flows off the rules: the lease
 * is withdrawn as soon as it is seen, at the next tick after the commit that made it.
 */
#ifndef TENANT_STEER_STEERING_H
#define TENANT_STEER_STEERING_H

#include <stdbool.h>
#include <stdint.h>

#include "elements.h"
#include "kernel/nft.h"
#include "kernel/route.h"
#include "settings/settings.h"

struct steering;

struct steering_counters {
	uint64_t commits;
	uint64_t failures; /* transactions the kernel refused */
	uint64_t renewals;
	uint64_t repairs; /* times the kernel's state was not what we had left */
	uint64_t routes_changed;
};

/* repaired: the kernel's state was put right; count elements or parts were wrong. */
typedef void (*steering_repaired)(void *user, const char *what, uint64_t count);

/*
 * Open sockets and check that everything we are about to use is free. Programs nothing. On
 * failure error says why, by name.
 */
int steering_open(const struct settings *settings, struct elements *elements,
		  steering_repaired repaired, void *user, struct steering **ret_steering,
		  char error[ROUTE_ERROR_MAX]);
/* Leaves the kernel's state: the lease runs out. (on_death = at-once: the table goes at once.) */
void steering_close(struct steering *steering);

/* Before closing "from": what belongs to its socket is now "to"'s (nft_hand_over). */
void steering_hand_over(struct steering *from, struct steering *to);

/* Choose the mode (SA or ADDRESS) and put skeleton, rules and routes in place. 0 or an errno;
 * tried again at each tick. */
int steering_set_mode(struct steering *steering, enum steering_mode mode);
enum steering_mode steering_mode(const struct steering *steering); /* AUTO: not decided */

/* Permit or forbid. Forbidding withdraws the lease in the kernel before it returns. */
void steering_allow(struct steering *steering, bool allow, const char *reason);

/* Is the kernel steering now; if not, *ret_reason says why. */
bool steering_active(const struct steering *steering, const char **ret_reason);

/*
 * Carry the difference between desired and observed elements to the kernel: every withdrawal, and
 * some of the grants, so that it takes a few milliseconds at the most. 0, 1 if grants are left
 * (call again), or an errno.
 */
int steering_flush(struct steering *steering);

/*
 * End all bypassing now, whatever the kernel holds, known or not: for what was started anew and has
 * to withdraw something before it knows what there is. 0 or an errno.
 */
int steering_withdraw(struct steering *steering);

/* Twice a second and more: renew the lease (or leave it to run out), notice strangers' commits,
 * restore what is gone. */
void steering_tick(struct steering *steering, bool may_renew);

/* Remove everything that steerd makes from the kernel. */
int steering_remove(const struct settings *settings);

/*
 * May flows that run pass unchecked, so that the kernel must forget them (conntrack.h), now that the
 * lease is withdrawn? True once for each time.
 */
bool steering_flows_unchecked(struct steering *steering);

/* The kernel's own word, for explain. */
int steering_has_element(struct steering *steering, const struct element_key *key);
int steering_holds(struct steering *steering, const struct element_key *packet); /* nft_holds() */
int steering_lease_remaining(struct steering *steering, unsigned profile);

struct steering_counters steering_counters(const struct steering *steering);
int steering_packet_counters(struct steering *steering, struct nft_counters *ret_counters);

#endif
