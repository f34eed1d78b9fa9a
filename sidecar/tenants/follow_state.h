/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How charon's plugin is followed, apart from how its messages travel. State is what counts: a gap
 * in seq, a new epoch or something unreadable makes the follower fetch a snapshot.
 *
 *   WAITING   nothing heard yet, or not for lost_after   -> first message -> SNAPSHOT
 *   SNAPSHOT  pages are being fetched; events are left where they are, the transport holds what
 *             arrives (if it has to drop some, a gap shows and it starts again)
 *   LIVE      events are applied as they come
 *
 * Driven by what was received and by ticks; says what it wants by two tables of calls, one to the
 * transport and one to whoever uses the events. Reads clock_monotonic_us(); no I/O, one thread.
 */
#ifndef TENANT_STEER_FOLLOW_STATE_H
#define TENANT_STEER_FOLLOW_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/log.h"
#include "event.h"
#include "snapshot.h"

/* A page that takes longer is asked for again, on a fresh connection. */
#define FOLLOW_PAGE_TIMEOUT_US 2000000
/* After something unreadable, so long passes before the next try: it may be unreadable again. */
#define FOLLOW_RETRY_US 500000
/* follow_state_tick() is to be called this often. */
#define FOLLOW_TICK_US 250000

enum follow_doubt {
	FOLLOW_DOUBT_GAP,   /* events were missed; the same charon */
	FOLLOW_DOUBT_ASKED, /* a snapshot was asked for: until it is in, no events are read */
	FOLLOW_DOUBT_EPOCH, /* charon was started anew: nothing known holds any more */
	FOLLOW_DOUBT_LOST,  /* silent for lost_after */
	FOLLOW_DOUBT_STALE, /* heard, but no snapshot could be had for lost_after */
};

/* event is valid during the call only. */
struct follow_callbacks {
	void (*event)(void *user, const struct event *ev); /* live child and ike events, in order */
	void (*doubt)(void *user, enum follow_doubt doubt);
	void (*snapshot_begin)(void *user, bool userspace_esp);
	void (*snapshot_record)(void *user, const struct event *ev);
	void (*snapshot_end)(void *user);
	void (*turn_end)(void *user); /* after each turn in which something was handed over; the
					 transport's to call */
};

struct follow_transport {
	/* Drop the connection for pages, if there is one, and make a fresh one: a late answer to an
	 * old question cannot be taken for a new one's. 0 or an errno. */
	int (*connect)(void *user);
	void (*ask)(void *user, uint64_t cursor); /* for a page */
	void (*disconnect)(void *user);           /* no more pages are wanted */
	bool (*unread)(void *user); /* is there an event that was received and not read yet? */
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

enum follow_phase { FOLLOW_WAITING, FOLLOW_SNAPSHOT, FOLLOW_LIVE };

/* Private, but for phase: read events only while it is not FOLLOW_SNAPSHOT. */
struct follow_state {
	const struct follow_callbacks *call;
	void *user;
	const struct follow_transport *transport;
	void *transport_user;
	uint64_t lost_after_us;
	enum follow_phase phase;
	bool contact;    /* heard within lost_after */
	bool retry;      /* a snapshot is wanted, at retry_us */
	bool stale_told; /* FOLLOW_DOUBT_STALE, since the last snapshot */
	uint64_t heard_us, asked_us, retry_us;
	uint64_t doubt_us; /* since when the state is not certain; 0: it is */
	uint64_t cursor;   /* asked for */
	struct follow_status status;
	struct log_limit unreadable_limit;
};

void follow_state_init(struct follow_state *state, int64_t lost_after_ms,
		       const struct follow_callbacks *callbacks, void *user,
		       const struct follow_transport *transport, void *transport_user);

/* A message of the publisher: decoded, or not to be decoded for this reason. */
void follow_state_event(struct follow_state *state, const struct event *ev);
void follow_state_unreadable(struct follow_state *state, const char *what);

/*
 * An answer to a question: its header (or, if it could not be read, only the end), each of its
 * records while these return 0, its end with the last result or the decoder's error (negative).
 */
int follow_state_page_header(struct follow_state *state, const struct snapshot_header *header);
int follow_state_page_record(struct follow_state *state, const struct event *ev);
void follow_state_page_end(struct follow_state *state, const struct snapshot_header *header,
			   int result);

void follow_state_tick(struct follow_state *state);

/* Fetch a snapshot now, if the publisher is heard. */
void follow_state_resync(struct follow_state *state);

struct follow_status follow_state_status(const struct follow_state *state);

#endif
