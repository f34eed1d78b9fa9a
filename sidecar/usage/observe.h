/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a grant would let through, before anybody accepts its risk: the flows of a tenant that its profile
 * covers, those that are there and those that begin within a while, by where they go. Conntrack is read and
 * nothing is changed: no rule, no set, no flow.
 *
 * A flow is the tenant's if its source is an address of the tenant's and of nobody else's. Those of
 * addresses that several tenants have are counted and left out; so are those to destinations that the
 * profile does not lead to. What the gateway drops before it is forwarded is no flow to conntrack.
 *
 * One socket for new flows, joined while anybody observes, and one look at the whole table at a time
 * (flow_dump.h); both stay open once they were used. At most OBSERVE_MAX observations at once, one for
 * each process that asks; one that is not asked about for OBSERVE_IDLE_US is dropped. In the loop it is
 * given, when nothing else waits. One thread.
 */
#ifndef TENANT_STEER_OBSERVE_H
#define TENANT_STEER_OBSERVE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "core.h"
#include "tally.h"

#define OBSERVE_MAX 4
/* Destinations and ports of one; the others are added up. */
#define OBSERVE_GROUPS_MAX 1000
#define OBSERVE_SECONDS_MAX 3600
#define OBSERVE_IDLE_US 10000000
/* Flows that begin before the table has been read; more of them count as there, and as lost. */
#define OBSERVE_BEGAN_MAX 256
/* Flows that are handled in one turn of the loop. */
#define OBSERVE_TURN 128
#define OBSERVE_BUFFER_BYTES (16 << 20)
#define OBSERVE_ERROR_MAX 512

struct observe_question {
	char tenant[TENANT_NAME_MAX + 1];
	char profile[SETTINGS_NAME_MAX + 1];
	struct address_range source; /* only flows from here; family AF_UNSPEC: all */
	int64_t duration_us;
	pid_t asker;
};

struct observe_left_out {
	uint64_t reserved;   /* to a reserved destination */
	uint64_t own;        /* to an address of the gateway's */
	uint64_t not_listed; /* to a destination that the profile does not have */
	uint64_t ambiguous;  /* from an address that several tenants have */
};

/* What was seen until now. */
struct observe_result {
	const struct observe_question *question;
	bool done;
	int64_t remaining_us;
	struct tally *groups; /* flows: those that began */
	struct observe_left_out left_out;
	uint64_t lost;          /* times that new flows did not fit into the buffer */
	uint64_t live_left_out; /* flows that were there and too many */
	bool live_torn;         /* the table was changed while it was read */
};

struct observe;

struct observe *observe_new(sd_event *loop, struct core *core); /* NULL: no memory */
void observe_free(struct observe *observe);                     /* takes NULL */

/*
 * Begin; *ret_id is its number. -ENOENT: there is no such profile, or the tenant is not connected;
 * -EBUSY: too many, or the asker has one; or the kernel's errno. error is a sentence.
 */
int observe_begin(struct observe *observe, const struct observe_question *question,
		  uint64_t *ret_id, char error[OBSERVE_ERROR_MAX]);

/* Ask about one, which keeps it; the pointers last until the next call. -ENOENT: there is none, or none
 * any more; an errno of the kernel's: it could not be read. */
int observe_ask(struct observe *observe, uint64_t id, struct observe_result *ret_result);

struct observe_counters {
	unsigned under_way;
	uint64_t refused; /* because there were too many */
	uint64_t lost;    /* times that new flows did not fit into the buffer */
};
struct observe_counters observe_counters(const struct observe *observe);

/* About once a second: drop what nobody asks about. */
void observe_tick(struct observe *observe);
/* After a reload: profiles may be others, so all observations end. */
void observe_drop_all(struct observe *observe);

#endif
