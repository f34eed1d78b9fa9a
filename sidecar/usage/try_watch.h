/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which flows use what is tried (steerctl try). While there is something to watch, the kernel's
 * conntrack table is read every TRY_WATCH_MS, of the entries only those with a path's mark. A flow is
 * one of a try if its mark is the path's and its original source is in the try's ranges. An entry does
 * not say whose it is: another exempt tenant's flow from the same address counts as well.
 *
 * A walk of a large table takes milliseconds in the kernel, so a thread of its own does it, which is
 * started with the first try. What was seen of a try is kept in memory until TRY_WATCH_KEPT_MAX others
 * have come after it. Nothing is steered by it, and nothing waits for it.
 */
#ifndef TENANT_STEER_TRY_WATCH_H
#define TENANT_STEER_TRY_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "settings/address_range.h"
#include "settings/settings.h"

/* Watched at a time; ranges of each; the latest whose report is kept. */
#define TRY_WATCH_MAX 64
#define TRY_WATCH_RANGES_MAX 16
#define TRY_WATCH_KEPT_MAX 128
/* Flows of a try, and destinations in a report; what is beyond them is counted. */
#define TRY_WATCH_FLOWS_MAX 1024
#define TRY_WATCH_SEEN_MAX 64
#define TRY_WATCH_MS 1000

struct try_watch;

struct try_target {
	uint64_t id;   /* of the exception */
	uint32_t mark; /* of its path */
	struct address_range ranges[TRY_WATCH_RANGES_MAX];
	unsigned range_count;
};

/* Flows to one port of one destination. */
struct try_seen {
	struct address destination;
	uint8_t protocol;
	uint16_t port; /* host byte order; 0: the protocol has none */
	uint64_t flows;
	uint64_t answered; /* of these */
	uint64_t packets,
		bytes; /* in both directions; 0: the kernel does not count (nf_conntrack_acct) */
};

struct try_report {
	bool watched;          /* still */
	uint64_t walks;        /* that were read to their end */
	uint64_t flows_missed; /* for which there was no room */
	uint64_t seen_missed;  /* destinations for which there was none */
	unsigned count;
	struct try_seen seen[TRY_WATCH_SEEN_MAX]; /* the most flows first */
};

/* NULL: no memory. */
struct try_watch *try_watch_new(void);
void try_watch_free(struct try_watch *watch); /* takes NULL */

/*
 * Watch these, at most TRY_WATCH_MAX, from now on, and no others; mask: the bits of a ct mark that are
 * steerd's. Never blocks. Without a thread or memory for a try nothing is seen of it, and that is logged.
 */
void try_watch_set(struct try_watch *watch, uint32_t mask, const struct try_target *targets,
		   unsigned count);

/* What was seen of a try; -ENOENT: nothing is known of it (any more). */
int try_watch_report(struct try_watch *watch, uint64_t id, struct try_report *ret_report);

#endif
