/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The model kernel: what stands behind nft.h, route.h and conntrack.h. One table with its sets, whose
 * elements and lease end by the simulated monotonic clock; FIB rules, there or not; conntrack entries.
 * A transaction happens as a whole or not at all, but its answer may be lost. It outlives steerd.
 *
 * Every call first asks steerd_call(), where steerd may be stopped, killed, or just take long.
 */
#ifndef TENANT_STEER_SIM_KERNEL_H
#define TENANT_STEER_SIM_KERNEL_H

#include <stdbool.h>
#include <stdint.h>

#include "kernel/conntrack.h"
#include "kernel/element.h"
#include "packets.h"
#include "settings/settings.h"
#include "sim.h"

#define KERNEL_FLOWS 64

struct kernel_flow {
	bool used;
	int family;
	uint8_t source[16];
	unsigned to;
	uint16_t source_port, port;
	uint8_t protocol;
	uint32_t mark; /* ct mark */
	bool replied;
	int path; /* where its first packet went: a profile's index, or -1 */
};

struct flows *flows_new(void);
void flows_free(struct flows *flows);

struct kernel *kernel_new(struct sim *sim);
void kernel_free(struct kernel *kernel);

/* AUTO: there is no table. */
enum steering_mode kernel_mode(struct sim *sim);
bool kernel_rules(struct sim *sim);
/* Is this service, or an explicit proxy's port, in the profile's service set, its lease not over? */
bool kernel_serves(struct sim *sim, unsigned profile, uint8_t protocol, uint16_t port);
/* Does an element of the set, not over, hold the packet? */
bool kernel_holds(struct sim *sim, unsigned set, unsigned profile, const struct packet *packet);
void kernel_each_element(struct sim *sim, void (*each)(struct sim *, const struct element_key *));
/* When a stranger's hand was last seen in the table and not yet undone; 0: not. */
int64_t kernel_tampered_at(struct sim *sim);
/* When a commit was last refused, or its answer lost. */
int64_t kernel_refused_at(struct sim *sim);
/* When it last came so late to elements that they may outlive what they are for; 0: not since. */
int64_t kernel_late_at(struct sim *sim);

/* A stranger does something to nf_tables or to our rules; key may serve as an element of his. */
void kernel_tamper(struct sim *sim, const struct element_key *key);

/* Unless the kernel has just refused to end it, there is no lease now. */
void kernel_expect_no_lease(struct sim *sim);

/* Another steerd: what the former one could not read is none of its business. */
void kernel_new_owner(struct sim *sim);

/* The strangers tidy up what steerd cannot. */
void kernel_calm(struct sim *sim);

/* Send a packet of a flow (source, ports; state, reply and ct_mark are filled in): through
 * conntrack, the table, and back. Returns what became of it; *ret_flow is its entry. */
struct packet_fate kernel_send(struct sim *sim, struct packet *packet, uint16_t source_port,
			       struct kernel_flow **ret_flow);

#endif
