/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The follower against a publisher that can be told to fail: to lose events, to start anew, to talk
 * nonsense, to fall silent. It speaks the real protocol over real ZeroMQ sockets.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

#include <cmocka.h>

#include "snapshot.h"
#include "tenants/follow.h"

#define LOST_AFTER_MS 600
#define DEADLINE_MS 5000

static struct {
	void *context, *xpub, *router;
	char epoch[EVENT_EPOCH_LEN + 1];
	uint64_t seq;
	unsigned children; /* child SAs in the snapshot */
	bool nonsense;     /* in the snapshot */
	unsigned pages;
	sd_event *loop;
	struct follow *follow;
	struct settings settings;
	char dir[64];
} t;

static struct {
	unsigned events, records, begins, ends, doubts[FOLLOW_DOUBT_STALE + 1];
	uint64_t last_seq;
	bool userspace;
} seen;

static void on_event(void *user, const struct event *ev)
{
	(void)user;
	seen.events++;
	seen.last_seq = ev->seq;
}

static void on_doubt(void *user, enum follow_doubt doubt)
{
	(void)user;
	seen.doubts[doubt]++;
}

static void on_begin(void *user, bool userspace_esp)
{
	(void)user;
	seen.begins++;
	seen.records = 0;
	seen.userspace = userspace_esp;
}

static void on_record(void *user, const struct event *ev)
{
	(void)user;
	assert_true(event_is_child(ev->type));
	seen.records++;
}

static void on_end(void *user)
{
	(void)user;
	seen.ends++;
}

static void on_turn(void *user)
{
	(void)user;
}

static const struct follow_callbacks callbacks = { on_event,  on_doubt, on_begin,
						   on_record, on_end,   on_turn };

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * INT64_C(1000) + ts.tv_nsec / 1000000;
}

static size_t encode_child(char *json, uint64_t seq, uint32_t id, enum event_type type)
{
	const struct event ev = { .type = type,
				  .epoch = t.epoch,
				  .seq = seq,
				  .time_us = 1,
				  .tenant = "acme",
				  .child_id = id,
				  .ike_id = id,
				  .spi_in = id };

	return event_encode(&ev, json, EVENT_SIZE_MAX);
}

static void send_text(const char *json, size_t len)
{
	zmq_send(t.xpub, "topic", 5, ZMQ_SNDMORE);
	zmq_send(t.xpub, json, len, 0);
}

static void publish(void)
{
	char json[EVENT_SIZE_MAX];

	t.seq++;
	send_text(json, encode_child(json, t.seq, (uint32_t)t.seq, EVENT_CHILD_UP));
}

static void heartbeat(void)
{
	const struct event ev = { .type = EVENT_HEARTBEAT,
				  .epoch = t.epoch,
				  .seq = t.seq,
				  .time_us = 1,
				  .interval_ms = 100 };
	char json[1024];

	send_text(json, event_encode(&ev, json, sizeof(json)));
}

/* Answer one page of at most ten records; the cursor is the next child. */
static void serve_page(uint64_t cursor)
{
	struct snapshot_header header = { .seq = t.seq, .userspace_esp = true };
	unsigned last = cursor + 10 < t.children ? (unsigned)cursor + 10 : t.children;
	char text[EVENT_SIZE_MAX];

	strcpy(header.epoch, t.epoch);
	header.cursor = last;
	header.more = last < t.children;
	t.pages++;
	zmq_send(t.router, text, snapshot_header_encode(&header, text, sizeof(text)),
		 cursor < last ? ZMQ_SNDMORE : 0);
	for (unsigned i = (unsigned)cursor; i < last; i++) {
		size_t len = encode_child(text, 1, i + 1, EVENT_CHILD_UP);

		zmq_send(t.router, t.nonsense ? "nonsense" : text, t.nonsense ? 8 : len,
			 i + 1 < last ? ZMQ_SNDMORE : 0);
	}
}

static void serve(void)
{
	char id[256], text[SNAPSHOT_REQUEST_MAX];
	uint64_t cursor;
	int id_len, len;

	while ((id_len = zmq_recv(t.router, id, sizeof(id), ZMQ_DONTWAIT)) > 0) {
		len = zmq_recv(t.router, text, sizeof(text), 0);
		assert_int_equal(snapshot_request_decode(text, (size_t)len, &cursor), 0);
		zmq_send(t.router, id, (size_t)id_len, ZMQ_SNDMORE);
		serve_page(cursor);
	}
	while (zmq_recv(t.xpub, text, sizeof(text), ZMQ_DONTWAIT) > 0)
		heartbeat();
}

/* Run both ends until *counter reaches target; beat says whether the publisher is alive. */
static bool reaches(const unsigned *counter, unsigned target, bool beat)
{
	int64_t end = now_ms() + DEADLINE_MS, next = 0;

	while (*counter < target && now_ms() < end) {
		serve();
		if (beat && now_ms() >= next) {
			heartbeat();
			next = now_ms() + 100;
		}
		assert_true(sd_event_run(t.loop, 5000) >= 0);
	}
	return *counter >= target;
}

static void *bind_socket(int type, const char *endpoint)
{
	const int linger = 0, verbose = 1;
	void *socket = zmq_socket(t.context, type);

	zmq_setsockopt(socket, ZMQ_LINGER, &linger, sizeof(linger));
	if (type == ZMQ_XPUB)
		zmq_setsockopt(socket, ZMQ_XPUB_VERBOSE, &verbose, sizeof(verbose));
	assert_int_equal(zmq_bind(socket, endpoint), 0);
	return socket;
}

static int setup(void **state)
{
	(void)state;
	memset(&t, 0, sizeof(t));
	memset(&seen, 0, sizeof(seen));
	strcpy(t.dir, "/tmp/test_follow.XXXXXX");
	assert_non_null(mkdtemp(t.dir));
	strcpy(t.epoch, "00000000000000a1");
	snprintf(t.settings.publish, sizeof(t.settings.publish), "ipc://%s/events", t.dir);
	snprintf(t.settings.snapshot, sizeof(t.settings.snapshot), "ipc://%s/snapshot", t.dir);
	t.settings.lost_after_ms = LOST_AFTER_MS;
	t.context = zmq_ctx_new();
	t.xpub = bind_socket(ZMQ_XPUB, t.settings.publish);
	t.router = bind_socket(ZMQ_ROUTER, t.settings.snapshot);
	assert_true(sd_event_new(&t.loop) >= 0);
	return follow_open(t.loop, t.context, &t.settings, &callbacks, NULL, &t.follow);
}

static int teardown(void **state)
{
	char path[128];

	(void)state;
	follow_close(t.follow);
	sd_event_unref(t.loop);
	zmq_close(t.xpub);
	zmq_close(t.router);
	zmq_ctx_term(t.context);
	snprintf(path, sizeof(path), "%s/events", t.dir);
	unlink(path);
	snprintf(path, sizeof(path), "%s/snapshot", t.dir);
	unlink(path);
	return rmdir(t.dir);
}

static void go_live(void)
{
	assert_true(reaches(&seen.ends, 1, true));
	assert_true(follow_status(t.follow).live);
}

static void test_snapshot_first_then_events(void **state)
{
	(void)state;
	t.children = 25;
	t.seq = 40;
	go_live();
	assert_int_equal(seen.records, 25);
	assert_int_equal(t.pages, 3);
	assert_true(seen.userspace);
	publish();
	publish();
	assert_true(reaches(&seen.events, 2, true));
	assert_int_equal(seen.last_seq, 42);
	assert_int_equal(seen.begins, 1);
}

static void test_lost_event_in_between(void **state)
{
	(void)state;
	go_live();
	t.seq++;
	publish();
	assert_true(reaches(&seen.ends, 2, true));
	assert_int_equal(seen.doubts[FOLLOW_DOUBT_GAP], 1);
	assert_int_equal(seen.events, 0);
}

static void test_lost_last_event_shows_in_the_heartbeat(void **state)
{
	(void)state;
	go_live();
	t.seq++;
	assert_true(reaches(&seen.ends, 2, true));
	assert_int_equal(seen.doubts[FOLLOW_DOUBT_GAP], 1);
}

static void test_new_epoch(void **state)
{
	(void)state;
	go_live();
	strcpy(t.epoch, "00000000000000b2");
	t.seq = 0;
	assert_true(reaches(&seen.ends, 2, true));
	assert_int_equal(seen.doubts[FOLLOW_DOUBT_EPOCH], 1);
	assert_string_equal(follow_status(t.follow).epoch, "00000000000000b2");
}

static void test_unreadable_event(void **state)
{
	(void)state;
	go_live();
	send_text("{\"v\":1}", 7);
	assert_true(reaches(&seen.ends, 2, true));
	assert_int_equal(seen.doubts[FOLLOW_DOUBT_GAP], 1);
	assert_int_equal(follow_status(t.follow).unreadable, 1);
}

/* Not a storm of requests, and in the end as bad as silence. */
static void test_unreadable_snapshot(void **state)
{
	(void)state;
	go_live();
	t.children = 3;
	t.nonsense = true;
	t.pages = 0;
	t.seq++;
	assert_true(reaches(&seen.doubts[FOLLOW_DOUBT_STALE], 1, true));
	assert_in_range(t.pages, 1, 10);
	t.nonsense = false;
	assert_true(reaches(&seen.ends, 2, true));
}

static void test_silence(void **state)
{
	(void)state;
	go_live();
	assert_true(reaches(&seen.doubts[FOLLOW_DOUBT_LOST], 1, false));
	assert_false(follow_status(t.follow).heard);
	assert_true(reaches(&seen.ends, 2, true));
}

static void test_resync_on_demand(void **state)
{
	(void)state;
	go_live();
	follow_resync(t.follow);
	assert_int_equal(seen.doubts[FOLLOW_DOUBT_ASKED], 1);
	assert_true(reaches(&seen.ends, 2, true));
	assert_int_equal(seen.doubts[FOLLOW_DOUBT_GAP], 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_snapshot_first_then_events),
		TEST(test_lost_event_in_between),
		TEST(test_lost_last_event_shows_in_the_heartbeat),
		TEST(test_new_epoch),
		TEST(test_unreadable_event),
		TEST(test_unreadable_snapshot),
		TEST(test_silence),
		TEST(test_resync_on_demand),
	};

	return cmocka_run_group_tests_name("follow", tests, NULL, NULL);
}
