/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which flows use what is tried: real flows between two network namespaces, marked by nft.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <unistd.h>

#include "addresses.h"
#include "netns.h"
#include "usage/try_watch.h"

#define MASK 0x0f000000
#define BYPASS 0x01000000
#define OTHER 0x02000000
#define SERVER4 "198.51.100.2"
#define SERVER6 "2001:db8::2"
#define WAIT_MS 4000

static struct try_watch *watch;
static int peer = -1;

static int setup(void **state)
{
	(void)state;
	peer = netns_enter_marking("udp dport 443 ct mark set 0x01000000;"
				   " udp dport 444 ct mark set 0x02000000;"
				   " udp dport 445 ct mark set 0x01300007;"
				   " udp dport 446 ct mark set 0x00300007;"
				   " udp dport 1000-1999 ct mark set 0x01000000;");
	if (peer < 0)
		return peer;
	watch = try_watch_new();
	return watch ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	try_watch_free(watch);
	watch = NULL;
	close(peer);
	return 0;
}

/* A datagram from the neighbour, from a port of its own. */
static void make_flow(const char *from, uint16_t port)
{
	assert_int_equal(netns_peer_send(peer, from, 0, port), 0);
}

static void add_address(const char *address)
{
	assert_int_equal(netns_add_peer_address(peer, address), 0);
}

static void add_range(struct try_target *target, const char *lo, const char *hi)
{
	target->ranges[target->range_count++] = range_of(lo, hi);
}

static struct try_report report;

struct wanted {
	uint64_t id;
	unsigned count;
};

static bool has_seen(void *user)
{
	const struct wanted *wanted = user;

	return try_watch_report(watch, wanted->id, &report) == 0 && report.walks > 0 &&
	       report.count >= wanted->count;
}

static void expect_seen(uint64_t id, unsigned count)
{
	struct wanted wanted = { id, count };

	if (!netns_wait(has_seen, &wanted, WAIT_MS))
		fail_msg("try %u: %u destinations after %u walks, expected %u", (unsigned)id,
			 report.count, (unsigned)report.walks, count);
}

static const struct try_seen *find(const char *destination, uint16_t port)
{
	char text[INET6_ADDRSTRLEN];

	for (unsigned i = 0; i < report.count; i++) {
		const struct try_seen *seen = &report.seen[i];

		inet_ntop(seen->destination.family, seen->destination.bytes, text, sizeof(text));
		if (seen->port == port && strcmp(text, destination) == 0)
			return seen;
	}
	return NULL;
}

/* Of the host's flows those on the path, whatever else is in their mark; of nobody else's any. */
static void test_one_host(void **state)
{
	struct try_target target = { .id = 7, .mark = BYPASS };

	(void)state;
	add_address("198.51.100.10");
	add_address("198.51.100.20");
	add_address("2001:db8::10");
	add_range(&target, "198.51.100.10", "198.51.100.10");
	add_range(&target, "2001:db8::10", "2001:db8::10");
	make_flow("198.51.100.10", 443);
	make_flow("198.51.100.10", 443);
	make_flow("198.51.100.20", 443);
	make_flow("198.51.100.10", 444);
	make_flow("198.51.100.10", 445);
	make_flow("198.51.100.10", 446);
	make_flow("2001:db8::10", 443);
	assert_int_equal(try_watch_report(watch, 7, &report), -ENOENT);
	try_watch_set(watch, MASK, &target, 1);
	expect_seen(7, 3);
	assert_int_equal(report.count, 3);
	assert_true(report.watched);
	assert_int_equal(report.seen[0].port, 443); /* the most flows */
	assert_int_equal(find(SERVER4, 443)->flows, 2);
	assert_int_equal(find(SERVER4, 443)->packets, 2);
	assert_true(find(SERVER4, 443)->bytes > 2 * 28);
	assert_int_equal(find(SERVER4, 443)->protocol, IPPROTO_UDP);
	assert_int_equal(find(SERVER4, 445)->flows, 1);
	assert_int_equal(find(SERVER6, 443)->flows, 1);
	assert_null(find(SERVER4, 444));
	assert_null(find(SERVER4, 446));
	assert_int_equal(report.flows_missed + report.seen_missed, 0);
}

/* A new flow is one more; the same one is not, however often it is seen. */
static void test_each_flow_once(void **state)
{
	struct try_target target = { .id = 1, .mark = BYPASS };

	(void)state;
	add_address("198.51.100.10");
	add_range(&target, "198.51.100.0", "198.51.100.255");
	make_flow("198.51.100.10", 443);
	try_watch_set(watch, MASK, &target, 1);
	expect_seen(1, 1);
	make_flow("198.51.100.10", 445);
	expect_seen(1, 2);
	assert_true(report.walks >= 2);
	assert_int_equal(find(SERVER4, 443)->flows, 1);
	assert_int_equal(find(SERVER4, 443)->packets, 1);
}

/* Two at a time, each its own; when one is over, what was seen of it stays. */
static void test_two_and_the_end(void **state)
{
	struct try_target targets[2] = { { .id = 1, .mark = BYPASS }, { .id = 2, .mark = OTHER } };

	(void)state;
	add_address("198.51.100.10");
	add_range(&targets[0], "198.51.100.10", "198.51.100.10");
	add_range(&targets[1], "198.51.100.10", "198.51.100.10");
	make_flow("198.51.100.10", 443);
	make_flow("198.51.100.10", 444);
	try_watch_set(watch, MASK, targets, 2);
	expect_seen(1, 1);
	assert_non_null(find(SERVER4, 443));
	expect_seen(2, 1);
	assert_non_null(find(SERVER4, 444));
	try_watch_set(watch, MASK, &targets[1], 1);
	make_flow("198.51.100.10", 445); /* the first one's */
	add_range(&targets[1], "198.51.100.20", "198.51.100.20");
	add_address("198.51.100.20");
	make_flow("198.51.100.20", 444);
	try_watch_set(watch, MASK, &targets[1], 1);
	while (report.seen[0].flows < 2) {
		expect_seen(2, 1);
		usleep(10000);
	}
	assert_int_equal(try_watch_report(watch, 1, &report), 0);
	assert_false(report.watched);
	assert_int_equal(report.count, 1);
	try_watch_set(watch, MASK, NULL, 0);
	assert_int_equal(try_watch_report(watch, 2, &report), 0);
	assert_false(report.watched);
}

static void test_limits(void **state)
{
	struct try_target target = { .id = 1, .mark = BYPASS };

	(void)state;
	add_address("198.51.100.10");
	add_range(&target, "198.51.100.10", "198.51.100.10");
	for (uint16_t port = 1000; port < 1000 + TRY_WATCH_SEEN_MAX + 5; port++)
		make_flow("198.51.100.10", port);
	try_watch_set(watch, MASK, &target, 1);
	expect_seen(1, TRY_WATCH_SEEN_MAX);
	assert_int_equal(report.count, TRY_WATCH_SEEN_MAX);
	assert_int_equal(report.seen_missed, 5);
	/* the oldest report makes room */
	for (uint64_t id = 2; id <= TRY_WATCH_KEPT_MAX; id++) {
		target.id = id;
		try_watch_set(watch, MASK, &target, 1);
	}
	assert_int_equal(try_watch_report(watch, 1, &report), 0);
	target.id = TRY_WATCH_KEPT_MAX + 1;
	try_watch_set(watch, MASK, &target, 1);
	assert_int_equal(try_watch_report(watch, 1, &report), -ENOENT);
	assert_int_equal(try_watch_report(watch, 2, &report), 0);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_one_host),
		TEST(test_each_flow_once),
		TEST(test_two_and_the_end),
		TEST(test_limits),
	};

	return cmocka_run_group_tests_name("try_watch", tests, NULL, NULL);
}
