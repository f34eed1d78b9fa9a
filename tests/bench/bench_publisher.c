/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The plugin's side of the protocol without charon: a publisher that announces, rekeys and ends as
 * many child SAs as it is told to, with the project's own encoder and the plugin's limits.
 *
 *     bench_publisher PUBLISH SNAPSHOT TENANTS CHILDREN QUEUE VICTIMS [ESP]
 *
 * Child SA n belongs to tenant tNNNNN, n modulo TENANTS. Behind the last one are those of VICTIMS
 * more tenants, vNNNNN, 10 child SAs each. QUEUE is the plugin's option of that name. With ESP
 * "userspace" a child SA has one address and no network. Orders come one a line on stdin; each is
 * answered by one JSON line when it is done:
 *     hold FIRST COUNT      they exist, but only a snapshot tells
 *     up FIRST COUNT        announce as fast as possible, one event each (child-up)
 *     setup FIRST COUNT     the same with the two events of a real set-up (child-installing first)
 *     down FIRST COUNT
 *     load RATE FIRST COUNT from now on rekey these in turn, RATE events a second (0: stop);
 *                           a rekey is child-installing, child-rekey and child-down
 *     mark, unmark          announce one more child SA, of tenant "marker", and take it down
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

#include "event.h"
#include "snapshot.h"

#define VICTIM_CHILDREN 10
#define HEARTBEAT_US 1000000
#define EVENTS_PER_REKEY 3
/* After a pause longer than this, a load is not caught up with. */
#define CATCH_UP_US 100000
#define ORDER_MAX 128

struct child {
	bool known;
	uint32_t id;
};

struct load {
	uint64_t rate;
	size_t first, count, next;
	int64_t started_us;
	uint64_t sent;
};

struct publisher {
	void *zmq, *events, *snapshot;
	struct child *children; /* the last one is the marker's */
	size_t count, tenants, loaded, victims, known;
	int queue; /* events to buffer for a subscriber */
	const char *esp;
	uint64_t seq;
	uint32_t last_id;
	char epoch[EVENT_EPOCH_LEN + 1];
	int64_t heartbeat_us;
	int64_t asked_us; /* first page of the last snapshot asked for */
	struct load load;
	char order[ORDER_MAX];
	size_t order_len;
	char json[EVENT_SIZE_MAX];
};

/* One child SA's event, with the texts it points to. */
struct record {
	struct event ev;
	char tenant[32], identity[48], remote[32], ts4[32], ts6[48];
};

static int64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

/* Spread like charon's random SPIs and, like those, never twice: the factor is odd. */
static uint32_t spi_of(uint32_t id)
{
	return UINT32_C(0xc0000000) | ((id * UINT32_C(2654435761)) & UINT32_C(0x0fffffff));
}

static void describe(const struct publisher *pub, size_t n, struct record *ret)
{
	const struct child *child = &pub->children[n];
	unsigned address = (unsigned)(n & 0x1ffff);

	if (n == pub->count)
		snprintf(ret->tenant, sizeof(ret->tenant), "marker");
	else if (n >= pub->loaded)
		snprintf(ret->tenant, sizeof(ret->tenant), "v%05zu", n % pub->victims);
	else
		snprintf(ret->tenant, sizeof(ret->tenant), "t%05zu", n % pub->tenants);
	snprintf(ret->identity, sizeof(ret->identity), "gw%zu.%s.example", n, ret->tenant);
	snprintf(ret->remote, sizeof(ret->remote), "203.0.113.%u[4500]", 1 + address % 250);
	snprintf(ret->ts4, sizeof(ret->ts4), "198.%u.%u.%u/32", 18 + (address >> 16),
		 address >> 8 & 255, address & 255);
	snprintf(ret->ts6, sizeof(ret->ts6), "2001:db8:%x:%x::/64", address >> 16,
		 address & 0xffff);
	ret->ev = (struct event){
		.tenant = ret->tenant,
		.identity = ret->identity,
		.identity_source = "id",
		.connection = "site-psk",
		.child = "site-psk",
		.mode = "tunnel",
		.esp = pub->esp,
		.remote_host = ret->remote,
		.spi_in = spi_of(child->id),
		.spi_out = spi_of(child->id) ^ 1,
		.reqid = (uint32_t)n + 1,
		.ike_id = (uint32_t)n + 1,
		.child_id = child->id,
		.local_ts = { "0.0.0.0/0", "::/0" },
		.local_ts_count = 2,
		.remote_ts = { ret->ts4, ret->ts6 },
		/* Networks would go into an interval set, which takes seconds to fill. */
		.remote_ts_count = strcmp(pub->esp, "kernel") == 0 ? 2 : 1,
	};
}

static void publish(struct publisher *pub, struct event *ev, enum event_type type)
{
	char topic[EVENT_TOPIC_MAX];
	size_t len;

	ev->type = type;
	ev->epoch = pub->epoch;
	ev->seq = type == EVENT_HEARTBEAT ? pub->seq : ++pub->seq;
	ev->time_us = now_us();
	len = event_encode(ev, pub->json, sizeof(pub->json));
	if (zmq_send(pub->events, topic, event_topic(ev, topic), ZMQ_SNDMORE | ZMQ_DONTWAIT) >= 0)
		zmq_send(pub->events, pub->json, len, ZMQ_DONTWAIT);
}

static void publish_child(struct publisher *pub, size_t n, enum event_type type)
{
	struct record record;

	describe(pub, n, &record);
	publish(pub, &record.ev, type);
}

static void heartbeat(struct publisher *pub)
{
	struct event ev = { .interval_ms = HEARTBEAT_US / 1000,
			    .esp = pub->esp,
			    .children = pub->known };

	publish(pub, &ev, EVENT_HEARTBEAT);
	pub->heartbeat_us = now_us() + HEARTBEAT_US;
}

static void add(struct publisher *pub, size_t n)
{
	pub->known += !pub->children[n].known;
	pub->children[n] = (struct child){ true, ++pub->last_id };
}

static void remove_child(struct publisher *pub, size_t n)
{
	if (!pub->children[n].known)
		return;
	publish_child(pub, n, EVENT_CHILD_DOWN);
	pub->children[n].known = false;
	pub->known--;
}

static void rekey(struct publisher *pub, size_t n)
{
	struct record old, new;

	describe(pub, n, &old);
	add(pub, n);
	describe(pub, n, &new);
	publish(pub, &new.ev, EVENT_CHILD_INSTALLING);
	new.ev.old_child_id = old.ev.child_id;
	new.ev.old_spi_in = old.ev.spi_in;
	publish(pub, &new.ev, EVENT_CHILD_REKEY);
	publish(pub, &old.ev, EVENT_CHILD_DOWN);
}

/* What is due of the load by now; a thousandth of a second's worth at least is sent at once. */
static void run_load(struct publisher *pub)
{
	struct load *load = &pub->load;
	int64_t now = now_us();
	uint64_t due;

	if (!load->rate)
		return;
	due = (uint64_t)(now - load->started_us) * load->rate / 1000000;
	if (due > load->sent + load->rate * CATCH_UP_US / 1000000) {
		load->started_us = now;
		load->sent = due = 0;
	}
	for (; load->sent + EVENTS_PER_REKEY <= due; load->sent += EVENTS_PER_REKEY) {
		rekey(pub, load->first + load->next);
		load->next = (load->next + 1) % load->count;
	}
}

static void start_load(struct publisher *pub, uint64_t rate, size_t first, size_t count)
{
	pub->load = (struct load){
		.rate = count ? rate : 0, .first = first, .count = count, .started_us = now_us()
	};
}

static bool send_page(struct publisher *pub, size_t first)
{
	struct snapshot_header header = { .seq = pub->seq, .children = pub->known };
	size_t page[SNAPSHOT_PAGE_MAX], n = first;
	unsigned count = 0;
	struct record record;
	size_t len;

	for (; n <= pub->count && count < SNAPSHOT_PAGE_MAX; n++)
		if (pub->children[n].known)
			page[count++] = n;
	header.cursor = n;
	header.more = n <= pub->count;
	strcpy(header.epoch, pub->epoch);
	len = snapshot_header_encode(&header, pub->json, sizeof(pub->json));
	zmq_send(pub->snapshot, pub->json, len, count ? ZMQ_SNDMORE : 0);
	for (unsigned i = 0; i < count; i++) {
		describe(pub, page[i], &record);
		record.ev.type = EVENT_CHILD_UP;
		record.ev.epoch = pub->epoch;
		record.ev.seq = pub->seq;
		record.ev.time_us = now_us();
		len = event_encode(&record.ev, pub->json, sizeof(pub->json));
		zmq_send(pub->snapshot, pub->json, len, i + 1 < count ? ZMQ_SNDMORE : 0);
	}
	return header.more;
}

static void answer_snapshot(struct publisher *pub)
{
	char client[256], request[SNAPSHOT_REQUEST_MAX];
	int client_len = zmq_recv(pub->snapshot, client, sizeof(client), ZMQ_DONTWAIT);
	int len;
	uint64_t cursor;

	if (client_len < 0)
		return;
	len = zmq_recv(pub->snapshot, request, sizeof(request), 0);
	if (len < 0 || snapshot_request_decode(request, (size_t)len, &cursor) < 0)
		return;
	if (cursor == 0)
		pub->asked_us = now_us();
	zmq_send(pub->snapshot, client, (size_t)client_len, ZMQ_SNDMORE);
	if (!send_page(pub, cursor))
		printf("{\"done\":\"snapshot\",\"asked_us\":%" PRId64 ",\"sent_us\":%" PRId64 "}\n",
		       pub->asked_us, now_us());
}

static void greet_subscribers(struct publisher *pub)
{
	char message[256];

	while (zmq_recv(pub->events, message, sizeof(message), ZMQ_DONTWAIT) >= 0)
		heartbeat(pub);
}

static void run_range(struct publisher *pub, const char *verb, size_t first, size_t count)
{
	for (size_t n = first; n < first + count; n++) {
		if (!strcmp(verb, "down")) {
			remove_child(pub, n);
			continue;
		}
		add(pub, n);
		if (!strcmp(verb, "setup"))
			publish_child(pub, n, EVENT_CHILD_INSTALLING);
		if (strcmp(verb, "hold") != 0)
			publish_child(pub, n, EVENT_CHILD_UP);
	}
}

static void run_order(struct publisher *pub, const char *order)
{
	char verb[16] = "";
	size_t a = 0, b = 0, c = 0;
	int64_t started = now_us();

	sscanf(order, "%15s %zu %zu %zu", verb, &a, &b, &c);
	if (!strcmp(verb, "load")) {
		start_load(pub, a, b, b + c <= pub->count ? c : 0);
	} else if (!strcmp(verb, "mark")) {
		add(pub, pub->count);
		publish_child(pub, pub->count, EVENT_CHILD_UP);
	} else if (!strcmp(verb, "unmark")) {
		remove_child(pub, pub->count);
	} else if (a + b <= pub->count) {
		run_range(pub, verb, a, b);
	}
	printf("{\"done\":\"%s\",\"first_us\":%" PRId64 ",\"last_us\":%" PRId64 ",\"seq\":%" PRIu64
	       "}\n",
	       verb, started, now_us(), pub->seq);
}

/* Returns false at the end of stdin. */
static bool read_orders(struct publisher *pub)
{
	ssize_t got = read(STDIN_FILENO, pub->order + pub->order_len,
			   sizeof(pub->order) - pub->order_len - 1);
	char *end;

	if (got <= 0)
		return false;
	pub->order_len += (size_t)got;
	pub->order[pub->order_len] = '\0';
	while ((end = strchr(pub->order, '\n'))) {
		*end = '\0';
		run_order(pub, pub->order);
		pub->order_len -= (size_t)(end + 1 - pub->order);
		memmove(pub->order, end + 1, pub->order_len + 1);
	}
	return pub->order_len + 1 < sizeof(pub->order);
}

static void serve(struct publisher *pub)
{
	zmq_pollitem_t items[] = {
		{ .fd = STDIN_FILENO, .events = ZMQ_POLLIN },
		{ .socket = pub->events, .events = ZMQ_POLLIN },
		{ .socket = pub->snapshot, .events = ZMQ_POLLIN },
	};

	for (;;) {
		if (zmq_poll(items, 3, pub->load.rate ? 1 : 100) < 0 && errno != EINTR)
			return;
		if (items[0].revents && !read_orders(pub))
			return;
		greet_subscribers(pub);
		answer_snapshot(pub);
		run_load(pub);
		if (now_us() >= pub->heartbeat_us)
			heartbeat(pub);
	}
}

static int open_sockets(struct publisher *pub, const char *publish_at, const char *snapshot_at)
{
	const int linger = 0, hwm = pub->queue, pages = 16;

	pub->zmq = zmq_ctx_new();
	pub->events = zmq_socket(pub->zmq, ZMQ_XPUB);
	pub->snapshot = zmq_socket(pub->zmq, ZMQ_ROUTER);
	if (!pub->events || !pub->snapshot)
		return -errno;
	zmq_setsockopt(pub->events, ZMQ_LINGER, &linger, sizeof(linger));
	zmq_setsockopt(pub->events, ZMQ_SNDHWM, &hwm, sizeof(hwm));
	zmq_setsockopt(pub->snapshot, ZMQ_LINGER, &linger, sizeof(linger));
	zmq_setsockopt(pub->snapshot, ZMQ_SNDHWM, &pages, sizeof(pages));
	if (zmq_bind(pub->events, publish_at) < 0 || zmq_bind(pub->snapshot, snapshot_at) < 0)
		return -errno;
	return 0;
}

static void close_publisher(struct publisher *pub)
{
	if (pub->events)
		zmq_close(pub->events);
	if (pub->snapshot)
		zmq_close(pub->snapshot);
	if (pub->zmq)
		zmq_ctx_term(pub->zmq);
	free(pub->children);
	free(pub);
}

int main(int argc, char **argv)
{
	struct publisher *pub = calloc(1, sizeof(*pub));
	int status = 1;

	if (argc < 7 || argc > 8 || !pub) {
		fprintf(stderr, "usage: bench_publisher PUBLISH SNAPSHOT TENANTS CHILDREN QUEUE "
				"VICTIMS [ESP]\n");
		free(pub);
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	pub->tenants = strtoul(argv[3], NULL, 10);
	pub->loaded = strtoul(argv[4], NULL, 10);
	pub->queue = atoi(argv[5]);
	pub->victims = strtoul(argv[6], NULL, 10);
	pub->esp = argc > 7 ? argv[7] : "kernel";
	pub->count = pub->loaded + pub->victims * VICTIM_CHILDREN;
	pub->children = calloc(pub->count + 1, sizeof(*pub->children));
	snprintf(pub->epoch, sizeof(pub->epoch), "%016" PRIx64, (uint64_t)now_us());
	if (!pub->children || !pub->tenants || open_sockets(pub, argv[1], argv[2]) < 0) {
		perror("bench_publisher");
	} else {
		serve(pub);
		status = 0;
	}
	close_publisher(pub);
	return status;
}
