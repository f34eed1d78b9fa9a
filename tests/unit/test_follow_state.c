/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the follower does about each message, each page and each tick, at once and not a second later:
 * without a transport, and with a clock that this test moves. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "tenants/follow_state.h"

#define MS 1000
#define LOST_AFTER_MS 3000
#define EPOCH "00000000000000a1"
#define OTHER_EPOCH "00000000000000b2"

static struct {
	int64_t now_us;
	struct follow_state state;
	unsigned events, begins, records, ends, doubts[FOLLOW_DOUBT_STALE + 1];
	unsigned connects, asks, disconnects;
	uint64_t cursor;
	bool unread;
} t;

int64_t clock_monotonic_us(void)
{
	return t.now_us;
}

int64_t clock_wall_us(void)
{
	return t.now_us;
}

static void on_event(void *user, const struct event *ev)
{
	(void)user;
	(void)ev;
	t.events++;
}

static void on_doubt(void *user, enum follow_doubt doubt)
{
	(void)user;
	t.doubts[doubt]++;
}

static void on_begin(void *user, bool userspace_esp)
{
	(void)user;
	(void)userspace_esp;
	t.begins++;
}

static void on_record(void *user, const struct event *ev)
{
	(void)user;
	(void)ev;
	t.records++;
}

static void on_end(void *user)
{
	(void)user;
	t.ends++;
}

static int do_connect(void *user)
{
	(void)user;
	t.connects++;
	return 0;
}

static void do_ask(void *user, uint64_t cursor)
{
	(void)user;
	t.asks++;
	t.cursor = cursor;
}

static void do_disconnect(void *user)
{
	(void)user;
	t.disconnects++;
}

static bool is_unread(void *user)
{
	(void)user;
	return t.unread;
}

static const struct follow_callbacks callbacks = {
	.event = on_event,
	.doubt = on_doubt,
	.snapshot_begin = on_begin,
	.snapshot_record = on_record,
	.snapshot_end = on_end,
};
static const struct follow_transport transport = { do_connect, do_ask, do_disconnect, is_unread };

static int setup(void **state)
{
	(void)state;
	memset(&t, 0, sizeof(t));
	t.now_us = 1000 * MS;
	follow_state_init(&t.state, LOST_AFTER_MS, &callbacks, NULL, &transport, NULL);
	return 0;
}

static void hear(enum event_type type, const char *epoch, uint64_t seq)
{
	const struct event ev = { .type = type, .epoch = epoch, .seq = seq };

	follow_state_event(&t.state, &ev);
}

static void get_page(const char *epoch, uint64_t seq, uint64_t cursor, bool more)
{
	struct snapshot_header header = { .seq = seq, .cursor = cursor, .more = more };
	int r;

	strcpy(header.epoch, epoch);
	r = follow_state_page_header(&t.state, &header);
	follow_state_page_end(&t.state, &header, r);
}

static void go_live(void)
{
	hear(EVENT_HEARTBEAT, EPOCH, 10);
	get_page(EPOCH, 10, 1, false);
	assert_true(follow_state_status(&t.state).live);
}

static void pass(int64_t ms)
{
	t.now_us += ms * MS;
	follow_state_tick(&t.state);
}

static void test_first_message_asks(void **state)
{
	(void)state;
	hear(EVENT_CHILD_UP, EPOCH, 5);
	assert_int_equal(t.events, 0);
	assert_int_equal(t.asks, 1);
	assert_int_equal(t.state.phase, FOLLOW_SNAPSHOT);
	get_page(EPOCH, 5, 1, false);
	assert_int_equal(t.begins, 1);
	assert_int_equal(t.ends, 1);
	assert_int_equal(t.disconnects, 1);
}

static void test_next_event_is_handed_over(void **state)
{
	(void)state;
	go_live();
	hear(EVENT_CHILD_UP, EPOCH, 11);
	hear(EVENT_CHILD_UP, EPOCH, 11);
	hear(EVENT_CHILD_UP, EPOCH, 9);
	hear(EVENT_CHILD_UP, EPOCH, 12);
	assert_int_equal(t.events, 2);
	assert_int_equal(t.doubts[FOLLOW_DOUBT_GAP], 0);
}

static void test_event_shows_a_gap_of_one(void **state)
{
	(void)state;
	go_live();
	hear(EVENT_CHILD_UP, EPOCH, 12);
	assert_int_equal(t.doubts[FOLLOW_DOUBT_GAP], 1);
	assert_int_equal(t.events, 0);
	assert_int_equal(t.state.phase, FOLLOW_SNAPSHOT);
	assert_int_equal(t.cursor, 0);
}

static void test_heartbeat_shows_a_gap(void **state)
{
	(void)state;
	go_live();
	hear(EVENT_HEARTBEAT, EPOCH, 10);
	assert_int_equal(t.doubts[FOLLOW_DOUBT_GAP], 0);
	hear(EVENT_HEARTBEAT, EPOCH, 11);
	assert_int_equal(t.doubts[FOLLOW_DOUBT_GAP], 1);
}

static void test_new_epoch(void **state)
{
	(void)state;
	go_live();
	hear(EVENT_CHILD_UP, OTHER_EPOCH, 11);
	assert_int_equal(t.doubts[FOLLOW_DOUBT_EPOCH], 1);
	assert_int_equal(t.events, 0);
	assert_int_equal(t.state.phase, FOLLOW_SNAPSHOT);
}

static void test_unreadable_is_tried_again_after_a_while(void **state)
{
	(void)state;
	go_live();
	follow_state_unreadable(&t.state, "nonsense");
	assert_int_equal(t.doubts[FOLLOW_DOUBT_GAP], 1);
	hear(EVENT_CHILD_UP, EPOCH, 11);
	pass(FOLLOW_RETRY_US / MS - 1);
	assert_int_equal(t.asks, 1);
	pass(1);
	assert_int_equal(t.asks, 2);
	assert_int_equal(t.events, 0);
}

static void test_pages(void **state)
{
	(void)state;
	hear(EVENT_HEARTBEAT, EPOCH, 10);
	get_page(EPOCH, 10, 64, true);
	assert_int_equal(t.cursor, 64);
	assert_int_equal(t.ends, 0);
	/* the first page's number counts */
	get_page(EPOCH, 20, 128, false);
	assert_int_equal(t.ends, 1);
	assert_int_equal(t.begins, 1);
	assert_int_equal(follow_state_status(&t.state).seq, 10);
}

static void test_page_of_another_epoch_begins_anew(void **state)
{
	(void)state;
	hear(EVENT_HEARTBEAT, EPOCH, 10);
	get_page(EPOCH, 10, 64, true);
	get_page(OTHER_EPOCH, 3, 128, false);
	assert_int_equal(t.ends, 0);
	assert_int_equal(t.cursor, 0);
	assert_int_equal(t.connects, 2);
}

static void test_page_that_does_not_move_on(void **state)
{
	(void)state;
	hear(EVENT_HEARTBEAT, EPOCH, 10);
	get_page(EPOCH, 10, 64, true);
	get_page(EPOCH, 10, 64, true);
	assert_int_equal(follow_state_status(&t.state).unreadable, 1);
	assert_int_equal(t.state.phase, FOLLOW_WAITING);
}

static void test_only_child_sas_are_records(void **state)
{
	struct event ev = { .type = EVENT_HEARTBEAT };

	(void)state;
	assert_int_equal(follow_state_page_record(&t.state, &ev), -EINVAL);
	ev.type = EVENT_CHILD_UP;
	assert_int_equal(follow_state_page_record(&t.state, &ev), 0);
	assert_int_equal(t.records, 1);
}

static void test_question_is_repeated(void **state)
{
	(void)state;
	hear(EVENT_HEARTBEAT, EPOCH, 10);
	pass(FOLLOW_PAGE_TIMEOUT_US / MS);
	assert_int_equal(t.asks, 1);
	pass(1);
	assert_int_equal(t.asks, 2);
	assert_int_equal(t.connects, 2);
}

static void test_silence(void **state)
{
	(void)state;
	go_live();
	pass(LOST_AFTER_MS);
	assert_int_equal(t.doubts[FOLLOW_DOUBT_LOST], 0);
	t.unread = true;
	pass(1);
	assert_int_equal(t.doubts[FOLLOW_DOUBT_LOST], 0);
	t.unread = false;
	pass(1);
	assert_int_equal(t.doubts[FOLLOW_DOUBT_LOST], 1);
	assert_false(follow_state_status(&t.state).heard);
	pass(LOST_AFTER_MS);
	assert_int_equal(t.doubts[FOLLOW_DOUBT_LOST], 1);
}

static void test_never_understood_is_stale_once(void **state)
{
	(void)state;
	go_live();
	follow_state_unreadable(&t.state, "nonsense");
	for (unsigned i = 0; i < 20; i++) {
		pass(FOLLOW_RETRY_US / MS);
		follow_state_unreadable(&t.state, "nonsense");
	}
	assert_int_equal(t.doubts[FOLLOW_DOUBT_STALE], 1);
	pass(FOLLOW_RETRY_US / MS);
	get_page(EPOCH, 10, 1, false);
	assert_int_equal(t.ends, 2);
}

static void test_resync_on_demand(void **state)
{
	(void)state;
	follow_state_resync(&t.state);
	assert_int_equal(t.asks, 0);
	go_live();
	follow_state_resync(&t.state);
	assert_int_equal(t.asks, 2);
	assert_int_equal(t.doubts[FOLLOW_DOUBT_GAP], 0);
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_first_message_asks),
		TEST(test_next_event_is_handed_over),
		TEST(test_event_shows_a_gap_of_one),
		TEST(test_heartbeat_shows_a_gap),
		TEST(test_new_epoch),
		TEST(test_unreadable_is_tried_again_after_a_while),
		TEST(test_pages),
		TEST(test_page_of_another_epoch_begins_anew),
		TEST(test_page_that_does_not_move_on),
		TEST(test_only_child_sas_are_records),
		TEST(test_question_is_repeated),
		TEST(test_silence),
		TEST(test_never_understood_is_stale_once),
		TEST(test_resync_on_demand),
	};

	return cmocka_run_group_tests_name("follow_state", tests, NULL, NULL);
}
