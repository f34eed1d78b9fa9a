/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "follow.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#include "snapshot.h"

#define RECONNECT_MS 50

struct follow {
	const struct settings *settings;
	struct follow_state state;
	void *zmq;
	void *sub, *dealer;
	sd_event *loop;
	sd_event_source *sub_io, *dealer_io, *ready, *tick;
	struct event_decoded decoded;
};

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
		    (follow->state.phase != FOLLOW_SNAPSHOT && readable(follow->sub));

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

static void close_dealer(void *user)
{
	struct follow *follow = user;

	follow->dealer_io = sd_event_source_disable_unref(follow->dealer_io);
	if (follow->dealer)
		zmq_close(follow->dealer);
	follow->dealer = NULL;
}

static int open_dealer(void *user)
{
	struct follow *follow = user;
	int r;

	close_dealer(follow);
	r = connect_socket(follow, ZMQ_DEALER, follow->settings->snapshot, &follow->dealer);
	if (r == 0)
		r = watch(follow, follow->dealer, &follow->dealer_io);
	if (r < 0)
		close_dealer(follow);
	return r;
}

static void ask_page(void *user, uint64_t cursor)
{
	struct follow *follow = user;
	char request[SNAPSHOT_REQUEST_MAX];
	size_t len = snapshot_request_encode(cursor, request, sizeof(request));

	zmq_send(follow->dealer, request, len, ZMQ_DONTWAIT);
}

static bool unread(void *user)
{
	struct follow *follow = user;

	return readable(follow->sub);
}

static const struct follow_transport transport = {
	.connect = open_dealer,
	.ask = ask_page,
	.disconnect = close_dealer,
	.unread = unread,
};

void follow_resync(struct follow *follow)
{
	follow_state_resync(&follow->state);
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
	if (r < 0)
		follow_state_unreadable(&follow->state, error);
	else
		follow_state_event(&follow->state, &follow->decoded.ev);
	return true;
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
	if (r == 0)
		r = follow_state_page_record(&follow->state, &follow->decoded.ev);
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
		r = follow_state_page_header(&follow->state, ret_header);
	while (r == 0 && more_frames(follow->dealer))
		r = read_record(follow);
	if (len >= 0)
		drop_rest(follow->dealer);
	return r;
}

static bool read_dealer(struct follow *follow)
{
	struct snapshot_header header = { 0 };
	int r = read_page(follow, &header);

	if (r == -EAGAIN)
		return false;
	follow_state_page_end(&follow->state, &header, r);
	return true;
}

static int on_ready(sd_event_source *source, void *user)
{
	struct follow *follow = user;
	unsigned budget = FOLLOW_BUDGET;
	bool any = false;

	(void)source;
	/* A page holds many records: one page is a turn of its own. */
	if (follow->state.phase == FOLLOW_SNAPSHOT && follow->dealer)
		any = read_dealer(follow);
	while (follow->state.phase != FOLLOW_SNAPSHOT && budget-- && read_sub(follow))
		any = true;
	if (any)
		follow->state.call->turn_end(follow->state.user);
	return 0;
}

static int on_tick(sd_event_source *source, uint64_t usec, void *user)
{
	struct follow *follow = user;

	follow_state_tick(&follow->state);
	sd_event_source_set_time(source, usec + FOLLOW_TICK_US);
	return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

struct follow_status follow_status(const struct follow *follow)
{
	return follow_state_status(&follow->state);
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
					       FOLLOW_TICK_US, 0, on_tick, follow);
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
	follow_state_init(&follow->state, settings->lost_after_ms, callbacks, user, &transport,
			  follow);
	r = start(follow);
	if (r < 0) {
		follow_close(follow);
		return r;
	}
	*ret_follow = follow;
	return 0;
}
