/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "follow.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#include "clock.h"
#include "log.h"
#include "snapshot.h"

#define TICK_US 250000
#define RECONNECT_MS 50

enum state { WAITING, SNAPSHOT, LIVE };

struct follow {
	const struct settings *settings;
	struct follow_callbacks call;
	void *user;
	void *zmq;
	void *sub, *dealer;
	sd_event *loop;
	sd_event_source *sub_io, *dealer_io, *ready, *tick;
	enum state state;
	bool contact;    /* heard within lost_after */
	bool retry;      /* a snapshot is wanted, at retry_us */
	bool stale_told; /* FOLLOW_DOUBT_STALE, since the last snapshot */
	uint64_t heard_us, asked_us, retry_us;
	uint64_t doubt_us; /* since when the state is not certain; 0: it is */
	uint64_t cursor;   /* asked for */
	struct follow_status status;
	struct log_limit unreadable_limit;
	struct event_decoded decoded;
};

static uint64_t monotonic_us(void)
{
	return (uint64_t)clock_monotonic_us();
}

static bool readable(void *socket)
{
	int events = 0;
	size_t len = sizeof(events);

	return socket && zmq_getsockopt(socket, ZMQ_EVENTS, &events, &len) == 0 &&
	       events & ZMQ_POLLIN;
}

/*
 * ZMQ_FD only signals that something may have changed, once (zmq_getsockopt(3)): before each wait
 * the sockets themselves are asked, and a defer source runs while they have something.
 */
static int on_prepare(sd_event_source *source, void *user)
{
	struct follow *follow = user;
	bool work = readable(follow->dealer) ||
		    (follow->state != SNAPSHOT && readable(follow->sub));

	(void)source;
	return sd_event_source_set_enabled(follow->ready, work ? SD_EVENT_ON : SD_EVENT_OFF);
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *user)
{
	(void)source;
	(void)fd;
	(void)revents;
	(void)user;
	return 0;
}

static int watch(struct follow *follow, void *socket, sd_event_source **ret_source)
{
	int fd, r;
	size_t len = sizeof(fd);

	if (zmq_getsockopt(socket, ZMQ_FD, &fd, &len) < 0)
		return -errno;
	r = sd_event_add_io(follow->loop, ret_source, fd, EPOLLIN, on_io, follow);
	return r < 0 ? r : sd_event_source_set_prepare(*ret_source, on_prepare);
}

static int connect_socket(struct follow *follow, int type, const char *endpoint, void **ret_socket)
{
	const int linger = 0, hwm = FOLLOW_HWM, reconnect = RECONNECT_MS;
	const int64_t largest = EVENT_SIZE_MAX;
	void *socket = zmq_socket(follow->zmq, type);

	if (!socket)
		return -errno;
	zmq_setsockopt(socket, ZMQ_LINGER, &linger, sizeof(linger));
	zmq_setsockopt(socket, ZMQ_RCVHWM, &hwm, sizeof(hwm));
	zmq_setsockopt(socket, ZMQ_RECONNECT_IVL, &reconnect, sizeof(reconnect));
	zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &largest, sizeof(largest));
	if (zmq_connect(socket, endpoint) < 0 ||
	    (type == ZMQ_SUB && zmq_setsockopt(socket, ZMQ_SUBSCRIBE, "", 0) < 0)) {
		int r = -errno;

		zmq_close(socket);
		return r;
	}
	*ret_socket = socket;
	return 0;
}

static void close_dealer(struct follow *follow)
{
	follow->dealer_io = sd_event_source_disable_unref(follow->dealer_io);
	if (follow->dealer)
		zmq_close(follow->dealer);
	follow->dealer = NULL;
}

/* A fresh socket for each snapshot: a late answer to an old question cannot be taken for it. */
static int open_dealer(struct follow *follow)
{
	int r;

	close_dealer(follow);
	r = connect_socket(follow, ZMQ_DEALER, follow->settings->snapshot, &follow->dealer);
	if (r == 0)
		r = watch(follow, follow->dealer, &follow->dealer_io);
	if (r < 0)
		close_dealer(follow);
	return r;
}

static void ask_page(struct follow *follow)
{
	char request[SNAPSHOT_REQUEST_MAX];
	size_t len = snapshot_request_encode(follow->cursor, request, sizeof(request));

	follow->asked_us = monotonic_us();
	zmq_send(follow->dealer, request, len, ZMQ_DONTWAIT);
}

static void begin_snapshot(struct follow *follow)
{
	int r = open_dealer(follow);

	if (r < 0) {
		log_error("follow", "cannot ask for a snapshot: %s", strerror(-r));
		follow->state = WAITING;
		return;
	}
	follow->state = SNAPSHOT;
	follow->retry = false;
	follow->cursor = 0;
	follow->status.resyncs++;
	ask_page(follow);
}

void follow_resync(struct follow *follow)
{
	if (follow->contact)
		begin_snapshot(follow);
}

static void note_doubt(struct follow *follow, enum follow_doubt doubt)
{
	if (!follow->doubt_us)
		follow->doubt_us = monotonic_us();
	follow->call.doubt(follow->user, doubt);
}

static void doubt(struct follow *follow, enum follow_doubt doubt)
{
	follow->status.gaps += doubt == FOLLOW_DOUBT_GAP;
	note_doubt(follow, doubt);
	if (doubt != FOLLOW_DOUBT_LOST)
		begin_snapshot(follow);
}

/* What could not be read may have been anything, so it counts as missed. */
static void unreadable(struct follow *follow, const char *what)
{
	follow->status.unreadable++;
	log_limited(&follow->unreadable_limit, LOG_LEVEL_WARNING, "follow",
		    "charon's plugin sent something unreadable (%s), resynchronising", what);
	follow->state = WAITING;
	follow->retry = true;
	follow->retry_us = monotonic_us() + FOLLOW_RETRY_US;
	close_dealer(follow);
	note_doubt(follow, FOLLOW_DOUBT_GAP);
}

static void take_heartbeat(struct follow *follow, const struct event *ev)
{
	follow->status.publisher_dropped = ev->dropped;
	if (ev->seq > follow->status.seq)
		doubt(follow, FOLLOW_DOUBT_GAP);
}

static void take_event(struct follow *follow, const struct event *ev)
{
	if (follow->state == WAITING) {
		if (!follow->retry)
			begin_snapshot(follow);
		return;
	}
	if (strcmp(ev->epoch, follow->status.epoch)) {
		doubt(follow, FOLLOW_DOUBT_EPOCH);
	} else if (ev->type == EVENT_HEARTBEAT) {
		take_heartbeat(follow, ev);
	} else if (ev->seq > follow->status.seq + 1) {
		doubt(follow, FOLLOW_DOUBT_GAP);
	} else if (ev->seq == follow->status.seq + 1) {
		follow->status.seq = ev->seq;
		follow->status.events++;
		follow->call.event(follow->user, ev);
	}
}

static bool more_frames(void *socket)
{
	int more = 0;
	size_t len = sizeof(more);

	return zmq_getsockopt(socket, ZMQ_RCVMORE, &more, &len) == 0 && more;
}

static void drop_rest(void *socket)
{
	while (more_frames(socket))
		zmq_recv(socket, NULL, 0, ZMQ_DONTWAIT);
}

static void heard(struct follow *follow)
{
	follow->heard_us = monotonic_us();
	follow->contact = true;
}

/* Returns whether there was a message. */
static bool read_sub(struct follow *follow)
{
	const char *error = "not two frames";
	zmq_msg_t message;
	int r = -EINVAL;

	zmq_msg_init(&message);
	if (zmq_msg_recv(&message, follow->sub, ZMQ_DONTWAIT) < 0) {
		zmq_msg_close(&message);
		return false;
	}
	if (more_frames(follow->sub) && zmq_msg_recv(&message, follow->sub, ZMQ_DONTWAIT) >= 0)
		r = event_decode(zmq_msg_data(&message), zmq_msg_size(&message), &follow->decoded,
				 &error);
	drop_rest(follow->sub);
	zmq_msg_close(&message);
	heard(follow);
	if (r < 0)
		unreadable(follow, error);
	else
		take_event(follow, &follow->decoded.ev);
	return true;
}

static int take_header(struct follow *follow, const struct snapshot_header *header)
{
	if (follow->cursor == 0) {
		memcpy(follow->status.epoch, header->epoch, sizeof(follow->status.epoch));
		follow->status.seq = header->seq;
		follow->call.snapshot_begin(follow->user, header->userspace_esp);
		return 0;
	}
	return strcmp(follow->status.epoch, header->epoch) ? -ESTALE : 0;
}

static int read_record(struct follow *follow)
{
	const char *error;
	zmq_msg_t message;
	int r = 0;

	zmq_msg_init(&message);
	if (zmq_msg_recv(&message, follow->dealer, ZMQ_DONTWAIT) < 0)
		r = -errno;
	if (r == 0)
		r = event_decode(zmq_msg_data(&message), zmq_msg_size(&message), &follow->decoded,
				 &error);
	zmq_msg_close(&message);
	if (r == 0 && !event_is_child(follow->decoded.ev.type))
		r = -EINVAL;
	if (r == 0)
		follow->call.snapshot_record(follow->user, &follow->decoded.ev);
	return r;
}

static int read_page(struct follow *follow, struct snapshot_header *ret_header)
{
	char text[SNAPSHOT_HEADER_MAX];
	int len = zmq_recv(follow->dealer, text, sizeof(text), ZMQ_DONTWAIT);
	int r = len < 0 ? -errno : -EINVAL;

	if (len >= 0 && len <= (int)sizeof(text))
		r = snapshot_header_decode(text, (size_t)len, ret_header);
	if (r == 0)
		r = take_header(follow, ret_header);
	while (r == 0 && more_frames(follow->dealer))
		r = read_record(follow);
	if (len >= 0)
		drop_rest(follow->dealer);
	/* A page that does not move on would be asked for for ever. */
	if (r == 0 && ret_header->more && ret_header->cursor <= follow->cursor)
		r = -EINVAL;
	return r;
}

static void end_snapshot(struct follow *follow)
{
	follow->state = LIVE;
	follow->doubt_us = 0;
	follow->stale_told = false;
	close_dealer(follow);
	follow->call.snapshot_end(follow->user);
}

static bool read_dealer(struct follow *follow)
{
	struct snapshot_header header = { 0 };
	int r = read_page(follow, &header);

	if (r == -EAGAIN)
		return false;
	heard(follow);
	if (r == -ESTALE) {
		begin_snapshot(follow);
	} else if (r < 0) {
		unreadable(follow, "a snapshot page");
	} else if (header.more) {
		follow->cursor = header.cursor;
		ask_page(follow);
	} else {
		end_snapshot(follow);
	}
	return true;
}

static int on_ready(sd_event_source *source, void *user)
{
	struct follow *follow = user;
	unsigned budget = FOLLOW_BUDGET;
	bool any = false;

	(void)source;
	/* A page holds many records: one page is a turn of its own. */
	if (follow->state == SNAPSHOT && follow->dealer)
		any = read_dealer(follow);
	while (follow->state != SNAPSHOT && budget-- && read_sub(follow))
		any = true;
	if (any)
		follow->call.turn_end(follow->user);
	return 0;
}

static void check_silence(struct follow *follow, uint64_t now)
{
	if (!follow->contact ||
	    now - follow->heard_us <= (uint64_t)follow->settings->lost_after_ms * 1000)
		return;
	/* What waits unread in the socket was heard all the same; a stalled daemon is not a lost
	 * publisher. */
	if (follow->state != SNAPSHOT && readable(follow->sub))
		return;
	follow->contact = false;
	follow->retry = false;
	follow->state = WAITING;
	close_dealer(follow);
	doubt(follow, FOLLOW_DOUBT_LOST);
}

/* A publisher that talks but cannot be understood is as good as a silent one. */
static void check_stale(struct follow *follow, uint64_t now)
{
	if (!follow->contact || !follow->doubt_us || follow->stale_told ||
	    now - follow->doubt_us <= (uint64_t)follow->settings->lost_after_ms * 1000)
		return;
	follow->stale_told = true;
	note_doubt(follow, FOLLOW_DOUBT_STALE);
}

static int on_tick(sd_event_source *source, uint64_t usec, void *user)
{
	struct follow *follow = user;
	uint64_t now = monotonic_us();

	check_silence(follow, now);
	check_stale(follow, now);
	if (follow->retry && now >= follow->retry_us)
		begin_snapshot(follow);
	if (follow->state == SNAPSHOT && now - follow->asked_us > FOLLOW_PAGE_TIMEOUT_US)
		begin_snapshot(follow);
	sd_event_source_set_time(source, usec + TICK_US);
	return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

struct follow_status follow_status(const struct follow *follow)
{
	struct follow_status status = follow->status;

	status.live = follow->state == LIVE;
	status.heard = follow->contact;
	status.silent_ms = follow->heard_us ? (int64_t)(monotonic_us() - follow->heard_us) / 1000
					    : -1;
	return status;
}

void follow_close(struct follow *follow)
{
	if (!follow)
		return;
	close_dealer(follow);
	sd_event_source_disable_unref(follow->sub_io);
	sd_event_source_disable_unref(follow->ready);
	sd_event_source_disable_unref(follow->tick);
	if (follow->sub)
		zmq_close(follow->sub);
	free(follow);
}

static int start(struct follow *follow)
{
	int r = connect_socket(follow, ZMQ_SUB, follow->settings->publish, &follow->sub);

	if (r == 0)
		r = sd_event_add_defer(follow->loop, &follow->ready, on_ready, follow);
	if (r >= 0)
		r = sd_event_source_set_enabled(follow->ready, SD_EVENT_OFF);
	if (r >= 0)
		r = watch(follow, follow->sub, &follow->sub_io);
	if (r >= 0)
		r = sd_event_add_time_relative(follow->loop, &follow->tick, CLOCK_MONOTONIC,
					       TICK_US, 0, on_tick, follow);
	return r;
}

int follow_open(sd_event *loop, void *zmq_context, const struct settings *settings,
		const struct follow_callbacks *callbacks, void *user, struct follow **ret_follow)
{
	struct follow *follow = calloc(1, sizeof(*follow));
	int r;

	if (!follow)
		return -ENOMEM;
	follow->loop = loop;
	follow->zmq = zmq_context;
	follow->settings = settings;
	follow->call = *callbacks;
	follow->user = user;
	r = start(follow);
	if (r < 0) {
		follow_close(follow);
		return r;
	}
	*ret_follow = follow;
	return 0;
}
