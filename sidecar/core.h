/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What steerd does about an event, a doubt, a snapshot, a command and a tick: the modules that hold
 * its state and its kernel, wired together. No loop, no socket of its own, no process: daemon.c
 * has those, and a simulation drives the same code with a clock and a kernel of its own.
 *
 *   follow_state --events--> model --changed SPIs--> plan --> elements --batches--> steering --> kernel
 *   control --> commands --> exceptions --> model          all of them --> stream
 *
 * One thread.
 */
#ifndef TENANT_STEER_CORE_H
#define TENANT_STEER_CORE_H

#include <stdbool.h>

#include "control/stream.h"
#include "exceptions/exceptions.h"
#include "kernel/conntrack.h"
#include "kernel/xfrm.h"
#include "settings/settings.h"
#include "steering/elements.h"
#include "steering/steering.h"
#include "tenants/follow_state.h"
#include "tenants/model.h"
#include "usage/owners.h"
#include "usage/try_watch.h"

/* Ranges whose flows are to be forgotten after the next flush; beyond it, all pinned flows are. */
#define CORE_FORGET_MAX CONNTRACK_QUEUE_MAX

/* Ranges of child SAs that left; beyond it, the oldest are not waited for any longer. */
#define CORE_DEPARTED_MAX 4096

struct departed {
	struct address_range range;
	int64_t due_us; /* monotonic */
};

/* Something is left (true): call core_settle() again after whatever else there is to do. */
typedef void (*core_rest)(void *user, bool left);

/* What a snapshot that was read did not name goes in steps, then steering is allowed. */
enum core_snapshot { SNAPSHOT_NONE, SNAPSHOT_READING, SNAPSHOT_READ, SNAPSHOT_SWEPT };

struct core {
	const struct settings *settings; /* the caller's */
	struct model model;
	struct owners *owners; /* of the child SAs' addresses, for the record */
	struct elements *elements;
	struct sa_check *check; /* NULL, as is xfrm: the kernel's SAs are not looked at */
	struct xfrm *xfrm;
	struct steering *steering;
	struct conntrack *conntrack;
	struct try_watch *tries;
	struct exceptions *exceptions;
	struct stream *stream; /* the caller's, set before the first event */
	core_rest rest;
	void *rest_user;
	bool userspace_esp; /* as the last snapshot said */
	bool addresses_changed;
	bool grants_left; /* after the last flush */
	enum core_snapshot snapshot;
	/*
	 * Since the start: no snapshot was read to its end. Half of one would exempt an address whose
	 * other owner is in the other half, and withdraw what a former steerd had rightly granted. So
	 * until then nothing goes to the kernel, where the lease of that steerd runs out.
	 */
	bool unknown;
	bool missed; /* events: no lease is renewed until a snapshot tells what they said */
	struct address_range forget[CORE_FORGET_MAX];
	unsigned forget_count;
	bool forget_all;
	struct departed departed[CORE_DEPARTED_MAX]; /* a ring */
	unsigned departed_first, departed_count;
	int64_t ticked_us;        /* monotonic; of the last tick, or the start */
	unsigned settle_wait;     /* ticks until the store is tried again */
	unsigned store_changes;   /* of exceptions_store_changes(), as last told */
	const char *plan_problem; /* why nobody is exempt, though all else is well */
};

/* What a follower hands over; user is the struct core. */
extern const struct follow_callbacks core_follow_callbacks;

/* Open kernel and store; programs nothing. Takes a zeroed core. 0, or an errno and a sentence in
 * error; core_close() in either case. */
int core_open(struct core *core, const struct settings *settings, core_rest rest, void *user,
	      char error[ROUTE_ERROR_MAX]);
/* Leaves the kernel's state: the lease runs out. Takes a zeroed core. */
void core_close(struct core *core);

/*
 * Go on with other settings, which must then outlive the core instead of those before. All of the
 * new is made before any of the old goes: on failure (an errno, and a sentence in error) nothing
 * has changed. The kernel keeps steering by the lease until a new follower has its snapshot.
 */
int core_reload(struct core *core, const struct settings *settings, char error[ROUTE_ERROR_MAX]);

/* Call every core_tick_us(): renew the lease, look after the kernel, end what has expired. */
void core_tick(struct core *core);
uint64_t core_tick_us(const struct settings *settings);

/* Watch which flows use what is tried, from now on; also after a try has begun. */
void core_watch_tries(struct core *core);

/* End what has expired, and follow the clock. Also before a grant: what is granted after the clock was
 * set is by the new time, and not to be moved with what was there before. */
void core_expire(struct core *core);

/* After the model or the exceptions changed, bring the kernel up to date and tell
 * the operators. When it returns, every withdrawal is in the kernel; grants may follow in the next
 * turns of the loop (1), unless there are few (0). Negative: the kernel refused, and enforces. */
int core_settle(struct core *core);

/* The same after a revocation. If the kernel refuses it, or between a start and the first snapshot,
 * when nobody knows what the kernel holds from before, all bypassing ends for as long as that takes.
 * Negative: it does not, before the lease has run out. */
int core_settle_revocation(struct core *core);

#endif
