/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "steerctl_watch.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>
#include <zmq.h>

#include "event.h"
#include "json_writer.h"
#include "steerctl_render.h"
#include "steerctl_text.h"

#define REQUEST_MAX 1024
#define RECEIVE_HWM 100000
/* steerd sends a heartbeat every second. */
#define SILENT_MS 5000

struct watch {
	const struct watch_options *options;
	void *context;
	void *socket;
	int signals;
	char epoch[EVENT_EPOCH_LEN + 1];
	uint64_t last; /* seq of the last event that is printed or not ours */
	bool silent;
	char message[EVENT_SIZE_MAX + 1];
};

static void print_event(struct watch *w, yajl_val event)
{
	if (w->options->json)
		text_write_json(w->options->out, event);
	else
		render_event(w->options->out, event);
	fflush(w->options->out);
}

static bool is_heartbeat(yajl_val event)
{
	const char *type = text_string(event, "type");

	return type && strcmp(type, "heartbeat") == 0;
}

static int ask_events(struct watch *w, struct answer *ret_answer, char *error)
{
	char request[REQUEST_MAX];
	struct json_writer writer;

	json_init(&writer, request, sizeof(request));
	json_object_begin(&writer, NULL);
	json_uint(&writer, "v", 1);
	json_string(&writer, "command", "events");
	json_uint(&writer, "since", w->last);
	if (w->options->tenant)
		json_string(&writer, "tenant", w->options->tenant);
	json_object_end(&writer);
	if (json_finish(&writer) == 0)
		return -ENAMETOOLONG;
	return client_ask(w->options->socket_path, request, ret_answer, error);
}

/* Only without a filter is every seq ours, and a missing one a loss. */
static void report_loss(struct watch *w, uint64_t seq)
{
	if (!w->options->tenant && seq > w->last + 1)
		fprintf(w->options->err,
			"steerctl: steerd no longer has %" PRIu64 " events before seq %" PRIu64
			"\n",
			seq - w->last - 1, seq);
}

/* Ask for all events after the last one and print them. */
static int catch_up(struct watch *w, char *error)
{
	struct answer answer = { NULL, NULL };
	yajl_val list;
	size_t i;
	int r = ask_events(w, &answer, error);

	if (r < 0)
		return r;
	list = text_member(answer.tree, "events");
	for (i = 0; YAJL_IS_ARRAY(list) && i < YAJL_GET_ARRAY(list)->len; i++) {
		yajl_val event = YAJL_GET_ARRAY(list)->values[i];
		uint64_t seq = (uint64_t)text_number(event, "seq");

		report_loss(w, seq);
		print_event(w, event);
		w->last = seq;
	}
	if ((uint64_t)text_number(answer.tree, "next") > w->last)
		w->last = (uint64_t)text_number(answer.tree, "next");
	client_free_answer(&answer);
	return 0;
}

static void follow_epoch(struct watch *w, const char *epoch)
{
	if (strcmp(epoch, w->epoch) == 0 || strlen(epoch) >= sizeof(w->epoch))
		return;
	fprintf(w->options->err, "steerctl: steerd was restarted\n");
	strcpy(w->epoch, epoch);
	w->last = 0;
}

/*
 * One live message. A gap before it is filled from the control socket, which then also has the
 * message itself. Should that fail now, the message is printed and the gap stays.
 */
static void handle_event(struct watch *w, yajl_val event)
{
	uint64_t seq = (uint64_t)text_number(event, "seq");
	const char *epoch = text_string(event, "epoch");
	bool heartbeat = is_heartbeat(event);
	char error[CLIENT_ERROR_MAX];

	if (!epoch)
		return;
	follow_epoch(w, epoch);
	if (heartbeat ? seq > w->last : seq > w->last + 1)
		catch_up(w, error);
	if (heartbeat || seq <= w->last)
		return;
	report_loss(w, seq);
	print_event(w, event);
	w->last = seq;
}

/* Read a whole message; its last frame is the event. false when there is none. */
static bool receive(struct watch *w)
{
	size_t more_len = sizeof(int);
	yajl_val event;
	int more, len;

	do {
		len = zmq_recv(w->socket, w->message, EVENT_SIZE_MAX, ZMQ_DONTWAIT);
		if (len < 0 || zmq_getsockopt(w->socket, ZMQ_RCVMORE, &more, &more_len) < 0)
			return false;
	} while (more);
	if (w->silent)
		fprintf(w->options->err, "steerctl: steerd is heard again\n");
	w->silent = false;
	if (len > EVENT_SIZE_MAX)
		return true;
	w->message[len] = '\0';
	event = yajl_tree_parse(w->message, NULL, 0);
	if (event)
		handle_event(w, event);
	yajl_tree_free(event);
	return true;
}

/* Heartbeats tell a filtered reader too that it is not cut off, and up to which seq it is complete.
 */
static int subscribe(struct watch *w)
{
	char topic[EVENT_TOPIC_MAX + 16];

	if (!w->options->tenant)
		return zmq_setsockopt(w->socket, ZMQ_SUBSCRIBE, "", 0);
	/* With its dot: tenant.acme must not match tenant.acme2. */
	snprintf(topic, sizeof(topic), "tenant.%s.", w->options->tenant);
	if (zmq_setsockopt(w->socket, ZMQ_SUBSCRIBE, topic, strlen(topic)) < 0 ||
	    zmq_setsockopt(w->socket, ZMQ_SUBSCRIBE, "charon.heartbeat", 16) < 0)
		return -1;
	return zmq_setsockopt(w->socket, ZMQ_SUBSCRIBE, "steerd.heartbeat", 16);
}

static int connect_stream(struct watch *w, const char *endpoint, char *error)
{
	int hwm = RECEIVE_HWM, linger = 0;

	w->context = zmq_ctx_new();
	w->socket = w->context ? zmq_socket(w->context, ZMQ_SUB) : NULL;
	if (!w->socket || zmq_setsockopt(w->socket, ZMQ_RCVHWM, &hwm, sizeof(hwm)) < 0 ||
	    zmq_setsockopt(w->socket, ZMQ_LINGER, &linger, sizeof(linger)) < 0 ||
	    subscribe(w) < 0 || zmq_connect(w->socket, endpoint) < 0) {
		snprintf(error, CLIENT_ERROR_MAX, "cannot connect to the stream: %s",
			 zmq_strerror(zmq_errno()));
		return -EIO;
	}
	return 0;
}

/* A seq that steerd has not reached is from before its restart: then everything it has is new. */
static uint64_t first_seq(const struct watch *w, uint64_t current)
{
	if (!w->options->has_since)
		return current;
	if (w->options->since <= current)
		return w->options->since;
	fprintf(w->options->err, "steerctl: steerd is at seq %" PRIu64 " only: it was restarted\n",
		current);
	return 0;
}

/* Where the stream is and where it stands, from steerd itself. */
static int find_stream(struct watch *w, char *error)
{
	struct answer answer = { NULL, NULL };
	yajl_val stream, endpoints;
	const char *epoch, *endpoint = NULL;
	int r;

	r = client_ask(w->options->socket_path, "{\"v\":1,\"command\":\"stream\"}", &answer, error);
	if (r < 0)
		return r;
	stream = text_member(answer.tree, "stream");
	endpoints = text_member(stream, "endpoints");
	epoch = text_string(stream, "epoch");
	if (YAJL_IS_ARRAY(endpoints) && YAJL_GET_ARRAY(endpoints)->len > 0)
		endpoint = YAJL_GET_STRING(YAJL_GET_ARRAY(endpoints)->values[0]);
	if (!endpoint || !epoch || strlen(epoch) >= sizeof(w->epoch)) {
		snprintf(error, CLIENT_ERROR_MAX,
			 "steerd offers no stream: see stream.bind in steerd.conf");
		r = -ENOENT;
	} else {
		strcpy(w->epoch, epoch);
		w->last = first_seq(w, (uint64_t)text_number(stream, "seq"));
		r = connect_stream(w, endpoint, error);
	}
	client_free_answer(&answer);
	return r;
}

/* Signals come as a descriptor: none can fall between looking and waiting. */
static int open_signals(struct watch *w, sigset_t *ret_before)
{
	sigset_t mask;

	sigemptyset(&mask);
	sigaddset(&mask, SIGINT);
	sigaddset(&mask, SIGTERM);
	if (sigprocmask(SIG_BLOCK, &mask, ret_before) < 0)
		return -errno;
	w->signals = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	return w->signals < 0 ? -errno : 0;
}

static void report_silence(struct watch *w)
{
	if (!w->silent)
		fprintf(w->options->err, "steerctl: steerd is silent, waiting\n");
	w->silent = true;
}

/* A signal that stays pending would end the process when its mask is put back. */
static void take_signals(struct watch *w)
{
	struct signalfd_siginfo info;

	while (read(w->signals, &info, sizeof(info)) == sizeof(info))
		;
}

static int loop(struct watch *w)
{
	zmq_pollitem_t items[] = {
		{ .socket = w->socket, .events = ZMQ_POLLIN },
		{ .fd = w->signals, .events = ZMQ_POLLIN },
	};

	for (;;) {
		int ready = zmq_poll(items, 2, SILENT_MS);

		if (ready < 0 && zmq_errno() != EINTR)
			return -zmq_errno();
		if (ready > 0 && items[1].revents)
			return 0;
		if (ready > 0 && items[0].revents)
			receive(w);
		else if (ready == 0)
			report_silence(w);
		if (ferror(w->options->out))
			return 0;
	}
}

static int start(struct watch *w, char *error)
{
	int r = find_stream(w, error);

	if (r == 0)
		r = catch_up(w, error);
	return r == 0 ? loop(w) : r;
}

int watch_run(const struct watch_options *options, char error[CLIENT_ERROR_MAX])
{
	static struct watch w;
	sigset_t before;
	int r;

	w = (struct watch){ .options = options, .signals = -1 };
	r = open_signals(&w, &before);
	if (r < 0) {
		snprintf(error, CLIENT_ERROR_MAX, "cannot wait for signals: %s", strerror(-r));
		return r;
	}
	r = start(&w, error);
	if (w.socket)
		zmq_close(w.socket);
	if (w.context)
		zmq_ctx_term(w.context);
	take_signals(&w);
	close(w.signals);
	sigprocmask(SIG_SETMASK, &before, NULL);
	return r;
}
