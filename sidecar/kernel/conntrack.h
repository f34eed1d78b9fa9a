/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Removing the conntrack entries of flows that may no longer bypass, so that they end soon and a
 * reused address inherits nothing. Housekeeping, never the enforcement: the nft re-check drops
 * such packets at once. It walks the kernel's whole table, so a thread of its own does it, and rests
 * between two walks: a walk of an empty table with 262,144 buckets takes 9 ms in the kernel, which
 * not every kernel may preempt. The first request after a while is carried out at once.
 *
 * Requests are address ranges. The queue is bounded; when it is full it collapses into one
 * request for all pinned flows.
 *
 * An entry does not say whose it is, and two tenants may have the same addresses. So flows from
 * addresses that an exempt tenant has now are kept, whoever they belong to: without its entry, a
 * flow that is still exempt would lose its translated address, and be sent the ordinary way if a
 * reply were the first packet to come. Somebody else's flow that is kept so is dropped by the
 * re-check until it times out.
 */
#ifndef TENANT_STEER_CONNTRACK_H
#define TENANT_STEER_CONNTRACK_H

#include <stdbool.h>
#include <stdint.h>

#include "settings/address_range.h"

#define CONNTRACK_QUEUE_MAX 4096

struct conntrack;

struct conntrack_counters {
	uint64_t removed;
	uint64_t failed;
	uint64_t collapsed; /* times the queue was full */
};

/* Start the thread. marks: the ct mark bits that pinned flows can have; a walk for each, so no more
 * than the paths use. */
int conntrack_start(uint32_t marks, struct conntrack **ret_conntrack);
/* Other paths use these bits too from now on. Any thread. */
void conntrack_add_marks(struct conntrack *conntrack, uint32_t marks);
/* Finish the requests under way, then stop and free; takes NULL. */
void conntrack_stop(struct conntrack *conntrack);

/* Ask for the removal of pinned flows (ct mark & marks != 0) whose original source is in range;
 * NULL means all pinned flows that are not kept. Never blocks. Any thread. */
void conntrack_forget(struct conntrack *conntrack, const struct address_range *range);

/* Ask for the removal of all pinned flows, those that are kept too: the rules do not see them. Never
 * blocks. Any thread. */
void conntrack_forget_all(struct conntrack *conntrack);

/* From now on keep (or, the other way, no longer keep) the flows from this range. Each keeping is
 * undone by one of the same range. Any thread. */
void conntrack_keep(struct conntrack *conntrack, const struct address_range *range, bool keep);

struct conntrack_counters conntrack_counters(struct conntrack *conntrack);

#endif
