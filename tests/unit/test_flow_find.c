/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Questions for real flows, through an event loop: who is answered with what, and how much the kernel walks. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <unistd.h>

#include "base/clock.h"
#include "kernel/flow_find.h"
#include "netns.h"

#define PORT 443
#define ZONED 4014
#define DEADLINE_S 20
#define PATIENCE_US 10000000

static int peer = -1;
static sd_event *loop;
static struct flow_find *find;
static uint64_t answered[FLOW_FIND_MAX + 1]; /* how often, by connection */

static void note_done(void *user, uint64_t connection)
{
	assert_ptr_equal(user, answered);
	assert_in_range(connection, 1, FLOW_FIND_MAX);
	answered[connection]++;
}

static int open_all(void **state)
{
	(void)state;
	memset(answered, 0, sizeof(answered));
	if (sd_event_new(&loop) < 0)
		return -1;
	find = flow_find_new(loop, PATIENCE_US, note_done, answered);
	return find ? 0 : -1;
}

static int close_all(void **state)
{
	(void)state;
	flow_find_free(find);
	loop = sd_event_unref(loop);
	return 0;
}

static int setup(void **state)
{
	(void)state;
	if (netns_enter() < 0)
		return -1;
	peer = netns_add_peer();
	if (peer < 0)
		return peer;
	return netns_run("nft 'table inet t { chain c { type filter hook prerouting priority raw;"
			 " udp sport %d ct zone set 7; ct state new accept; }; }'",
			 ZONED);
}

static int teardown(void **state)
{
	(void)state;
	return close(peer);
}

static void send_one(uint16_t from)
{
	const struct sockaddr_in source = { .sin_family = AF_INET, .sin_port = htons(from) };
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(PORT) };
	int fd = netns_peer_socket(peer, AF_INET, SOCK_DGRAM);

	inet_pton(AF_INET, "198.51.100.2", &to.sin_addr);
	assert_int_equal(bind(fd, (const void *)&source, sizeof(source)), 0);
	assert_int_equal(sendto(fd, "12345", 5, 0, (const void *)&to, sizeof(to)), 5);
	close(fd);
}

static struct flow_dump_filter filter_for(uint16_t source_port)
{
	struct flow_dump_filter filter = { .source.family = AF_INET,
					   .destination.family = AF_INET,
					   .protocol = IPPROTO_UDP,
					   .port = PORT,
					   .source_port = source_port,
					   .exact = source_port != 0 };

	inet_pton(AF_INET, "198.51.100.1", filter.source.bytes);
	inet_pton(AF_INET, "198.51.100.2", filter.destination.bytes);
	return filter;
}

static void wait_answered(uint64_t connection, uint64_t times)
{
	const time_t deadline = time(NULL) + DEADLINE_S;

	while (answered[connection] < times) {
		assert_true(time(NULL) < deadline);
		sd_event_run(loop, 20000);
	}
	assert_int_equal(answered[connection], times);
}

static const struct flow_dump_result *ask(uint64_t connection, uint64_t request,
					  uint16_t source_port)
{
	const struct flow_dump_filter filter = filter_for(source_port);
	const struct flow_dump_result *result = NULL;
	const uint64_t before = answered[connection];

	assert_int_equal(flow_find_ask(find, connection, request, &filter, &result), -EINPROGRESS);
	assert_int_equal(flow_find_ask(find, connection, request, &filter, &result), -EINPROGRESS);
	wait_answered(connection, before + 1);
	assert_int_equal(flow_find_ask(find, connection, request, &filter, &result), 0);
	return result;
}

static void test_one_question_or_a_walk(void **state)
{
	const struct flow_dump_result *result;

	(void)state;
	send_one(4001);
	send_one(4002);
	send_one(ZONED);
	result = ask(1, 1, 4001);
	assert_int_equal(result->error, 0);
	assert_int_equal(result->count, 1);
	assert_int_equal(result->flows[0].source_port, 4001);
	assert_int_equal(flow_find_counters(find).walks, 0);

	/* The next question of the connection is looked up anew. */
	result = ask(1, 2, 0);
	assert_int_equal(result->count, 3);
	assert_int_equal(flow_find_counters(find).walks, 1);

	/* Not in zone 0: all zones are looked through; nor anywhere. */
	result = ask(1, 3, ZONED);
	assert_int_equal(result->count, 1);
	assert_int_equal(result->flows[0].zone, 7);
	assert_int_equal(flow_find_counters(find).walks, 2);
	result = ask(1, 4, 4099);
	assert_int_equal(result->error, 0);
	assert_int_equal(result->count, 0);
	assert_int_equal(flow_find_counters(find).questions, 4);
	assert_int_equal(flow_find_counters(find).timeouts, 0);
}

/* Between two walks it rests, so that whoever asks without a pause costs others little. */
static void test_rest(void **state)
{
	const struct flow_dump_result *result;
	int64_t began;

	(void)state;
	result = ask(1, 1, 0);
	began = clock_monotonic_us();
	assert_true(result->walked_us > 0);
	const int64_t walked_us = result->walked_us;
	ask(2, 2, 0);
	/* The first rest has begun before this. */
	assert_true(clock_monotonic_us() - began > walked_us * (FLOW_FIND_REST_TIMES - 1) ||
		    walked_us * FLOW_FIND_REST_TIMES > 1000000);
	/* One question does not wait for the rest. */
	began = clock_monotonic_us();
	result = ask(3, 3, 4001);
	assert_int_equal(result->walked_us, 0);
}

static void test_many_at_once(void **state)
{
	const struct flow_dump_filter filter = filter_for(4001);
	const struct flow_dump_result *result;

	(void)state;
	send_one(4001);
	for (uint64_t i = 1; i <= FLOW_FIND_MAX; i++)
		assert_int_equal(flow_find_ask(find, i, i, &filter, &result), -EINPROGRESS);
	assert_int_equal(flow_find_ask(find, FLOW_FIND_MAX + 1, 100, &filter, &result), -EBUSY);
	/* Who has gone is not answered, and makes room. */
	flow_find_end(find, 1);
	flow_find_end(find, 2);
	flow_find_end(find, 1000);
	for (uint64_t i = 3; i <= FLOW_FIND_MAX; i++) {
		wait_answered(i, 1);
		assert_int_equal(flow_find_ask(find, i, i, &filter, &result), 0);
		assert_int_equal(result->count, 1);
	}
	assert_int_equal(answered[1] + answered[2], 0);
	assert_int_equal(flow_find_ask(find, 1, 101, &filter, &result), -EINPROGRESS);
	wait_answered(1, 1);
}

/* Nobody waits for ever: the second one here is asked while the first one's walk, or the rest after it, lasts. */
static void test_timeout(void **state)
{
	const struct flow_dump_result *result;

	(void)state;
	flow_find_free(find);
	find = flow_find_new(loop, 1, note_done, answered);
	assert_non_null(find);
	ask(1, 1, 0);
	result = ask(2, 2, 0);
	assert_int_equal(result->error, -ETIMEDOUT);
	assert_int_equal(result->count, 0);
	assert_true(flow_find_counters(find).timeouts >= 1);
}

static void test_without(void **state)
{
	const struct flow_dump_filter filter = filter_for(4001);
	const struct flow_dump_result *result;

	(void)state;
	assert_int_equal(flow_find_ask(NULL, 1, 1, &filter, &result), -ENODEV);
	flow_find_end(NULL, 1);
	assert_int_equal(flow_find_counters(NULL).questions, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_all, close_all)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_one_question_or_a_walk),
		TEST(test_rest),
		TEST(test_many_at_once),
		TEST(test_timeout),
		TEST(test_without),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
