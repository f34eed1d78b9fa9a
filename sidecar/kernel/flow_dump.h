/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A look at the flows that conntrack has, in a thread of its own: the kernel walks its whole table for it,
 * 9 ms if that is large and empty, longer if it is full (conntrack.h). One look at a time, begun and taken
 * in the caller's thread; what is wanted is decided in the other, so that it keeps few.
 *
 * With a filter the kernel tells only of the flows that are meant (CTA_FILTER, since Linux 5.8; what it
 * tells too many is left out here: with an older one all, and of IPv6 all with these ports). It walks its table all the same, but for one exact flow.
 */
#ifndef TENANT_STEER_FLOW_DUMP_H
#define TENANT_STEER_FLOW_DUMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conntrack_flow.h"

/* Flows that one look keeps; the others that were wanted are counted. 1.5 MB. */
#define FLOW_DUMP_MAX 16384
/* The same of a look with a filter. */
#define FLOW_DUMP_FILTERED_MAX 1024

struct flow_dump;

struct flow_dump_filter {
	struct address source, destination;
	uint8_t protocol;     /* one that has ports */
	uint16_t source_port; /* host byte order, as is port; 0: any */
	uint16_t port;
	/* No walk, but one question: for the flow with this source port in conntrack's zone 0, microseconds.
	 * Not 0 then. The other zones are not looked at. */
	bool exact;
};

/* Called in the thread; user must not change until the look has been taken. */
typedef bool (*flow_dump_wants)(void *user, const struct conntrack_flow *flow);

struct flow_dump_result {
	struct conntrack_flow *flows; /* free() */
	size_t count;
	uint64_t left_out; /* beyond the limit */
	uint64_t told;     /* flows that the kernel told of, wanted or not */
	bool torn; /* the table was changed under it: some may be missing, or be there twice */
	int error; /* an errno: the kernel did not tell; 0 */
	int64_t walked_us; /* processor time of a walk; 0: there was none */
};

/* Start the thread. 0 or an errno. */
int flow_dump_start(struct flow_dump **ret_dump);
/* Waits for a look under way; takes NULL. */
void flow_dump_stop(struct flow_dump *dump);

/* Readable when a look is done; flow_dump_take() then. */
int flow_dump_fd(const struct flow_dump *dump);

/* Begin; false: another is under way, or has not been taken. The filter is copied; NULL: all flows. */
bool flow_dump_begin(struct flow_dump *dump, const struct flow_dump_filter *filter,
		     flow_dump_wants wants, void *user);
/* False: it is not done. */
bool flow_dump_take(struct flow_dump *dump, struct flow_dump_result *ret_result);

#endif
