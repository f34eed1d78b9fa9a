/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which flows from one address to one port of another run now: for steerctl explain, whose answer waits for
 * it. The kernel is asked in a thread of its own (flow_dump.h), so that no withdrawal waits for it:
 *
 *   - with a source port, for that one flow, which takes microseconds. That is enough if its address is
 *     one tenant's alone, and it is in conntrack's zone 0.
 *   - otherwise by a walk of the kernel's whole table. After one the thread rests FLOW_FIND_REST_TIMES as
 *     long as it took, a second at the most, as the conntrack cleaner does, whoever asks meanwhile.
 *
 * One question for each connection, FLOW_FIND_MAX at once, in the order in which they came, and none waits
 * for longer than the caller has said: it is answered with -ETIMEDOUT then. The thread is started by the first
 * question, and stays. In the loop it is given. One thread.
 */
#ifndef TENANT_STEER_FLOW_FIND_H
#define TENANT_STEER_FLOW_FIND_H

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "flow_dump.h"

#define FLOW_FIND_MAX 32
/* steerd's. */
#define FLOW_FIND_WAIT_US 2000000
#define FLOW_FIND_REST_TIMES 19

struct flow_find;

struct flow_find_counters {
	uint64_t questions;
	uint64_t walks;
	uint64_t timeouts; /* questions that waited too long */
};

/* No question waits longer than wait_us. done is called in the loop when one that had to wait can be answered.
 * NULL: no memory. */
struct flow_find *flow_find_new(sd_event *loop, int64_t wait_us,
				void (*done)(void *user, uint64_t connection), void *user);
void flow_find_free(struct flow_find *find); /* takes NULL; waits for a look under way */

/*
 * Ask, and ask again when done() was called. request tells the questions of a connection apart: the next one
 * forgets the one before. filter.exact says whether the flow is likely to be in zone 0; if it is not there
 * the others are looked through.
 *
 * 0 and *ret_result, of flows that are not over, valid until the next question of this connection or its end;
 * an error may be in it. -EINPROGRESS: wait. -EBUSY: too many; -ENODEV: find is NULL; or an errno: there is no
 * thread.
 */
int flow_find_ask(struct flow_find *find, uint64_t connection, uint64_t request,
		  const struct flow_dump_filter *filter,
		  const struct flow_dump_result **ret_result);
/* The connection has ended. Takes NULL. */
void flow_find_end(struct flow_find *find, uint64_t connection);

struct flow_find_counters flow_find_counters(const struct flow_find *find); /* takes NULL */

#endif
