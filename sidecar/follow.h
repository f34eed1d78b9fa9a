/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Following the plugin's event stream. ZeroMQ PUB loses messages by design, so state is what
 * counts: a gap in seq, a new epoch or something unreadable makes the follower fetch a snapshot.
 *
 *   WAITING   nothing heard yet, or not for lost_after   -> first message -> SNAPSHOT
 *   SNAPSHOT  pages are being fetched; the SUB socket is not read, ZeroMQ holds what arrives
 *             (at most FOLLOW_HWM messages; beyond that a gap shows and it starts again)
 *   LIVE      events are applied as they come
 *
 * Runs in the sd-event loop it is given; one thread; never blocks. Handles at most FOLLOW_BUDGET
 * messages a turn, so that a flood delays neither the control socket nor the lease.
 */
#ifndef TENANT_STEER_FOLLOW_H
#define TENANT_STEER_FOLLOW_H

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "event.h"
#include "settings.h"

#define FOLLOW_HWM 10000
#define FOLLOW_BUDGET 200
/* A page that takes longer is asked for again, on a fresh socket. */
#define FOLLOW_PAGE_TIMEOUT_US 2000000
/* After something unreadable, so long passes before the next try: it may be unreadable again. */
#define FOLLOW_RETRY_US 500000

enum follow_doubt {
	FOLLOW_DOUBT_GAP,   /* events were missed; the same charon */
	FOLLOW_DOUBT_EPOCH, /* charon was started anew: nothing known holds any more */
	FOLLOW_DOUBT_LOST,  /* silent for lost_after */
	FOLLOW_DOUBT_STALE, /* heard, but no snapshot could be had for lost_after */
};

/* All called from the loop. event is valid during the call only. */
struct follow_callbacks {
	void (*event)(void *user, const struct event *ev); /* live child and ike events, in order */
	void (*doubt)(void *user, enum follow_doubt doubt);
	void (*snapshot_begin)(void *user, bool userspace_esp);
	void (*snapshot_record)(void *user, const struct event *ev);
	void (*snapshot_end)(void *user);
	void (*turn_end)(void *user); /* after each turn in which something was handed over */
};

struct follow_status {
	bool live;
	bool heard; /* within lost_after */
	char epoch[EVENT_EPOCH_LEN + 1];
	uint64_t seq;
	uint64_t events, gaps, resyncs, unreadable;
	uint64_t publisher_dropped; /* as the last heartbeat says */
	int64_t silent_ms;
};

struct follow;

int follow_open(sd_event *loop, void *zmq_context, const struct settings *settings,
		const struct follow_callbacks *callbacks, void *user, struct follow **ret_follow);
void follow_close(struct follow *follow); /* takes NULL */

/* Fetch a snapshot now. */
void follow_resync(struct follow *follow);

struct follow_status follow_status(const struct follow *follow);

#endif
