/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "follow_state.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"

static uint64_t monotonic_us(void)
{
	return (uint64_t)clock_monotonic_us();
}

void follow_state_init(struct follow_state *state, int64_t lost_after_ms,
		       const struct follow_callbacks *callbacks, void *user,
		       const struct follow_transport *transport, void *transport_user)
{
	*state = (struct follow_state){ .call = callbacks,
					.user = user,
					.transport = transport,
					.transport_user = transport_user,
					.lost_after_us = (uint64_t)lost_after_ms * 1000 };
}

static void ask_page(struct follow_state *state)
{
	state->asked_us = monotonic_us();
	state->transport->ask(state->transport_user, state->cursor);
}

static void begin_snapshot(struct follow_state *state)
{
	int r = state->transport->connect(state->transport_user);

	if (r < 0) {
		log_error("follow", "cannot ask for a snapshot: %s", strerror(-r));
		state->phase = FOLLOW_WAITING;
		return;
	}
	state->phase = FOLLOW_SNAPSHOT;
	state->retry = false;
	state->cursor = 0;
	state->status.resyncs++;
	ask_page(state);
}

static void note_doubt(struct follow_state *state, enum follow_doubt doubt)
{
	if (!state->doubt_us)
		state->doubt_us = monotonic_us();
	state->call->doubt(state->user, doubt);
}

static void doubt(struct follow_state *state, enum follow_doubt doubt)
{
	state->status.gaps += doubt == FOLLOW_DOUBT_GAP;
	note_doubt(state, doubt);
	if (doubt != FOLLOW_DOUBT_LOST)
		begin_snapshot(state);
}

void follow_state_resync(struct follow_state *state)
{
	if (state->contact)
		doubt(state, FOLLOW_DOUBT_ASKED);
}

/* What could not be read may have been anything, so it counts as missed. */
static void unreadable(struct follow_state *state, const char *what)
{
	state->status.unreadable++;
	log_limited(&state->unreadable_limit, LOG_LEVEL_WARNING, "follow",
		    "charon's plugin sent something unreadable (%s), resynchronising", what);
	state->phase = FOLLOW_WAITING;
	state->retry = true;
	state->retry_us = monotonic_us() + FOLLOW_RETRY_US;
	state->transport->disconnect(state->transport_user);
	note_doubt(state, FOLLOW_DOUBT_GAP);
}

static void take_heartbeat(struct follow_state *state, const struct event *ev)
{
	state->status.publisher_dropped = ev->dropped;
	if (ev->seq > state->status.seq)
		doubt(state, FOLLOW_DOUBT_GAP);
}

static void heard(struct follow_state *state)
{
	state->heard_us = monotonic_us();
	state->contact = true;
}

void follow_state_event(struct follow_state *state, const struct event *ev)
{
	heard(state);
	if (state->phase == FOLLOW_WAITING) {
		if (!state->retry)
			begin_snapshot(state);
		return;
	}
	if (strcmp(ev->epoch, state->status.epoch)) {
		doubt(state, FOLLOW_DOUBT_EPOCH);
	} else if (ev->type == EVENT_HEARTBEAT) {
		take_heartbeat(state, ev);
	} else if (ev->seq > state->status.seq + 1) {
		doubt(state, FOLLOW_DOUBT_GAP);
	} else if (ev->seq == state->status.seq + 1) {
		state->status.seq = ev->seq;
		state->status.events++;
		state->call->event(state->user, ev);
	}
}

void follow_state_unreadable(struct follow_state *state, const char *what)
{
	heard(state);
	unreadable(state, what);
}

int follow_state_page_header(struct follow_state *state, const struct snapshot_header *header)
{
	if (state->cursor == 0) {
		memcpy(state->status.epoch, header->epoch, sizeof(state->status.epoch));
		state->status.seq = header->seq;
		state->call->snapshot_begin(state->user, header->userspace_esp);
		return 0;
	}
	return strcmp(state->status.epoch, header->epoch) ? -ESTALE : 0;
}

int follow_state_page_record(struct follow_state *state, const struct event *ev)
{
	if (!event_is_child(ev->type))
		return -EINVAL;
	state->call->snapshot_record(state->user, ev);
	return 0;
}

static void end_snapshot(struct follow_state *state)
{
	state->phase = FOLLOW_LIVE;
	state->doubt_us = 0;
	state->stale_told = false;
	state->transport->disconnect(state->transport_user);
	state->call->snapshot_end(state->user);
}

void follow_state_page_end(struct follow_state *state, const struct snapshot_header *header,
			   int result)
{
	heard(state);
	/* A page that does not move on would be asked for for ever. */
	if (result == 0 && header->more && header->cursor <= state->cursor)
		result = -EINVAL;
	if (result == -ESTALE) {
		begin_snapshot(state);
	} else if (result < 0) {
		unreadable(state, "a snapshot page");
	} else if (header->more) {
		state->cursor = header->cursor;
		ask_page(state);
	} else {
		end_snapshot(state);
	}
}

static void check_silence(struct follow_state *state, uint64_t now)
{
	if (!state->contact || now - state->heard_us <= state->lost_after_us)
		return;
	/* What waits unread was heard all the same; a stalled daemon is not a lost publisher. */
	if (state->phase != FOLLOW_SNAPSHOT && state->transport->unread(state->transport_user))
		return;
	state->contact = false;
	state->retry = false;
	state->phase = FOLLOW_WAITING;
	state->transport->disconnect(state->transport_user);
	doubt(state, FOLLOW_DOUBT_LOST);
}

/* A publisher that talks but cannot be understood is as good as a silent one. */
static void check_stale(struct follow_state *state, uint64_t now)
{
	if (!state->contact || !state->doubt_us || state->stale_told ||
	    now - state->doubt_us <= state->lost_after_us)
		return;
	state->stale_told = true;
	note_doubt(state, FOLLOW_DOUBT_STALE);
}

void follow_state_tick(struct follow_state *state)
{
	uint64_t now = monotonic_us();

	check_silence(state, now);
	check_stale(state, now);
	if (state->retry && now >= state->retry_us)
		begin_snapshot(state);
	if (state->phase == FOLLOW_SNAPSHOT && now - state->asked_us > FOLLOW_PAGE_TIMEOUT_US)
		begin_snapshot(state);
}

struct follow_status follow_state_status(const struct follow_state *state)
{
	struct follow_status status = state->status;

	status.live = state->phase == FOLLOW_LIVE;
	status.heard = state->contact;
	status.silent_ms = state->heard_us ? (int64_t)(monotonic_us() - state->heard_us) / 1000
					   : -1;
	return status;
}
