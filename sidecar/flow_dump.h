/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A look at all flows that conntrack has, in a thread of its own: the kernel walks its whole table for it,
 * 9 ms if that is large and empty, longer if it is full (conntrack.h). One look at a time, begun and taken
 * in the caller's thread; what is wanted is decided in the other, so that it keeps few.
 */
#ifndef TENANT_STEER_FLOW_DUMP_H
#define TENANT_STEER_FLOW_DUMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conntrack_flow.h"

/* Flows that one look keeps; the others that were wanted are counted. 1.5 MB. */
#define FLOW_DUMP_MAX 16384

struct flow_dump;

/* Called in the thread; user must not change until the look has been taken. */
typedef bool (*flow_dump_wants)(void *user, const struct conntrack_flow *flow);

struct flow_dump_result {
	struct conntrack_flow *flows; /* free() */
	size_t count;
	uint64_t left_out; /* beyond FLOW_DUMP_MAX */
	bool torn; /* the table was changed under it: some may be missing, or be there twice */
	int error; /* an errno: the kernel did not tell; 0 */
};

/* Start the thread. 0 or an errno. */
int flow_dump_start(struct flow_dump **ret_dump);
/* Waits for a look under way; takes NULL. */
void flow_dump_stop(struct flow_dump *dump);

/* Readable when a look is done; flow_dump_take() then. */
int flow_dump_fd(const struct flow_dump *dump);

/* Begin; false: another is under way, or has not been taken. */
bool flow_dump_begin(struct flow_dump *dump, flow_dump_wants wants, void *user);
/* False: it is not done. */
bool flow_dump_take(struct flow_dump *dump, struct flow_dump_result *ret_result);

#endif
