/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which exception was used by how many flows, for how many bytes, to where: the kernel's conntrack tells
 * of flows that begin and end; those that carry a path's mark are attributed when they begin, remembered
 * until they end, and added up for usage_store.
 *
 * It only ever reads. Nothing waits for it, and without it everything is steered all the same: it has a
 * socket of its own, of which it reads USAGE_TURN messages at a time when there is nothing else to do,
 * and a thread of its own that writes. What does not fit is counted, and the figures are a lower bound
 * then.
 *
 * A flow counts for the month in which it began, its bytes for that in which conntrack forgets it. Flows
 * that end while steerd does not run are not known; the end of one that began before it did counts as
 * unattributed. One thread.
 */
#ifndef TENANT_STEER_USAGE_H
#define TENANT_STEER_USAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "kernel/conntrack_flow.h"
#include "usage_store.h"

/* Flows that are remembered until they end; beyond it the oldest is forgotten. */
#define USAGE_FLOWS_MAX 131072
/* Exceptions (and months) that are used between two writes; what others do then is dropped. */
#define USAGE_DELTAS_MAX 4096
/* Notifications in one turn of the loop, some 0.2 ms. */
#define USAGE_TURN 128
/* Of unread notifications, in the kernel; some 15,000. */
#define USAGE_BUFFER_BYTES (16 << 20)
/* From a write to the next. */
#define USAGE_WRITE_US 2000000

struct usage;

/* The exception that a flow on a path uses, as far as it is certain; USAGE_UNATTRIBUTED otherwise. */
typedef uint64_t (*usage_attribute)(void *user, const struct conntrack_flow *flow);

struct usage_counters {
	uint64_t flows;        /* on a path, that began */
	uint64_t unattributed; /* of these and of those that ended, whose exception is not known */
	uint64_t unreadable;   /* notifications that were not understood */
	struct usage_losses losses;
};

/* file: of usage_store. 0 or an errno; without the kernel's help it is 0, and usage_problem() says
 * why nothing is counted. */
int usage_open(const char *file, uint32_t mark_mask, usage_attribute attribute, void *user,
	       struct usage **ret_usage);
/* Writes what is left; takes NULL. */
void usage_close(struct usage *usage);

/* To wait for input on; -1: there is nothing to wait for. Then call usage_dispatch(). */
int usage_fd(const struct usage *usage);
void usage_dispatch(struct usage *usage);
/* About once a second: hand over what is to be written. */
void usage_tick(struct usage *usage);

/* After a reload; 0: nothing is to be counted, or there are no marks to tell flows by. The kernel then
 * tells nothing. */
void usage_set_mask(struct usage *usage, uint32_t mark_mask);

/* As given to usage_open(), for a usage_reader. */
const char *usage_file(const struct usage *usage);

/* Why nothing is counted, or nothing written; NULL: all is well. Valid until the next call. */
const char *usage_problem(struct usage *usage);
struct usage_counters usage_counters(const struct usage *usage);

/* For tests: what the kernel told. */
void usage_note(struct usage *usage, const struct conntrack_flow *flow,
		enum conntrack_flow_kind kind);

#endif
