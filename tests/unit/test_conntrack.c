/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Real flows between two network namespaces, marked by nft, looked at with conntrack(8).
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
#include "kernel/conntrack.h"
#include "netns.h"

#define MASK 0x0f000000
/* Ports that nft marks with a path, with something of somebody else's, with both, and not. */
#define PORT_PINNED 443
#define PORT_FOREIGN 444
#define PORT_BOTH 445
#define PORT_PLAIN 446

static struct conntrack *conntrack;
static int peer = -1;

static int setup(void **state)
{
	(void)state;
	peer = netns_enter_marking("udp dport 443 ct mark set 0x01000000;"
				   " udp dport 444 ct mark set 0x00f00001;"
				   " udp dport 445 ct mark set 0x06000007;");
	if (peer < 0)
		return peer;
	return conntrack_start(MASK, &conntrack);
}

/* Forgets it too: a test that fails afterwards must not stop it twice. */
static void stop(void)
{
	conntrack_stop(conntrack);
	conntrack = NULL;
}

static int teardown(void **state)
{
	(void)state;
	stop();
	close(peer);
	return 0;
}

/* One datagram from the neighbour is a flow; from is its source, given to the neighbour. */
static void make_flow(const char *from, uint16_t port)
{
	assert_int_equal(netns_add_peer_address(peer, from), 0);
	assert_int_equal(netns_peer_send(peer, from, 0, port), 0);
}

struct flow {
	const char *source;
	uint16_t port;
};

static bool has_flow(const struct flow *flow)
{
	char text[4096];

	assert_int_equal(netns_read(text, sizeof(text),
				    "conntrack -L -f %s -p udp -s %s"
				    " --dport %u 2>/dev/null",
				    strchr(flow->source, ':') ? "ipv6" : "ipv4", flow->source,
				    flow->port),
			 0);
	return text[0] != '\0';
}

static bool is_there(void *user)
{
	return has_flow(user);
}

static bool is_gone(void *user)
{
	return !has_flow(user);
}

static const struct flow flows[] = {
	{ "198.51.100.10", PORT_PINNED }, { "198.51.100.20", PORT_PINNED },
	{ "198.51.100.10", PORT_BOTH },   { "198.51.100.10", PORT_FOREIGN },
	{ "198.51.100.10", PORT_PLAIN },  { "2001:db8::10", PORT_PINNED },
	{ "2001:db8::20", PORT_PINNED },
};
#define FLOWS (sizeof(flows) / sizeof(flows[0]))

static void make_flows(void)
{
	for (size_t i = 0; i < FLOWS; i++) {
		make_flow(flows[i].source, flows[i].port);
		assert_true(netns_wait(is_there, (void *)&flows[i], 2000));
	}
}

static unsigned left(void)
{
	unsigned bits = 0;

	for (size_t i = 0; i < FLOWS; i++)
		bits |= (unsigned)has_flow(&flows[i]) << i;
	return bits;
}

static bool is_left(void *user)
{
	return left() == *(unsigned *)user;
}

/* bits: which of the flows are left, if not now then soon: they go one after the other. */
static void expect_left(unsigned bits)
{
	if (!netns_wait(is_left, &bits, 2000))
		assert_int_equal(left(), bits);
}

static void test_one_address(void **state)
{
	const struct address_range r = range_of("198.51.100.10", "198.51.100.10");

	(void)state;
	make_flows();
	conntrack_forget(conntrack, &r);
	assert_true(netns_wait(is_gone, (void *)&flows[0], 2000));
	assert_true(netns_wait(is_gone, (void *)&flows[2], 2000));
	/* a stranger's mark, an unmarked flow, another address, another family */
	expect_left(0x7a);
	assert_int_equal(conntrack_counters(conntrack).removed, 2);
	assert_int_equal(conntrack_counters(conntrack).failed, 0);
}

static void test_ranges(void **state)
{
	const struct address_range some[] = {
		range_of("198.51.100.15", "198.51.100.20"),
		range_of("198.51.100.0", "198.51.100.9"),
		range_of("2001:db8::", "2001:db8::10"),
		range_of("198.51.100.18", "198.51.100.19"),
		range_of("203.0.113.0", "203.0.113.255"),
	};

	(void)state;
	make_flows();
	for (size_t i = 0; i < sizeof(some) / sizeof(some[0]); i++)
		conntrack_forget(conntrack, &some[i]);
	assert_true(netns_wait(is_gone, (void *)&flows[1], 2000));
	assert_true(netns_wait(is_gone, (void *)&flows[5], 2000));
	expect_left(0x5d);
}

static void test_all_pinned(void **state)
{
	(void)state;
	make_flows();
	conntrack_forget(conntrack, NULL);
	assert_true(netns_wait(is_gone, (void *)&flows[0], 2000));
	assert_true(netns_wait(is_gone, (void *)&flows[6], 2000));
	expect_left(0x18);
}

static void test_kept_addresses_keep_their_flows(void **state)
{
	const struct address_range wide = range_of("198.51.100.0", "198.51.100.255"),
				   kept = range_of("198.51.100.16", "198.51.100.31");

	(void)state;
	make_flows();
	conntrack_keep(conntrack, &kept, true);
	conntrack_forget(conntrack, &wide);
	assert_true(netns_wait(is_gone, (void *)&flows[0], 2000));
	expect_left(0x7a);
	conntrack_forget(conntrack, NULL);
	assert_true(netns_wait(is_gone, (void *)&flows[6], 2000));
	expect_left(0x1a);
	conntrack_keep(conntrack, &kept, false);
	conntrack_forget(conntrack, &wide);
	assert_true(netns_wait(is_gone, (void *)&flows[1], 2000));
}

static void test_all_means_the_kept_ones_too(void **state)
{
	const struct address_range kept = range_of("198.51.100.16", "198.51.100.31");

	(void)state;
	make_flows();
	conntrack_keep(conntrack, &kept, true);
	conntrack_forget_all(conntrack);
	assert_true(netns_wait(is_gone, (void *)&flows[1], 2000));
	expect_left(0x18);
	conntrack_keep(conntrack, &kept, false);
}

/* After a reload there may be other paths; the flows of those before are still found. */
static void test_marks_of_more_paths(void **state)
{
	const struct address_range r = range_of("198.51.100.10", "198.51.100.10");

	(void)state;
	stop();
	assert_int_equal(conntrack_start(0x01000000, &conntrack), 0);
	make_flows();
	conntrack_forget(conntrack, &r);
	assert_true(netns_wait(is_gone, (void *)&flows[0], 2000));
	expect_left(0x7e);
	conntrack_add_marks(conntrack, 0x04000000);
	conntrack_forget(conntrack, NULL);
	assert_true(netns_wait(is_gone, (void *)&flows[2], 2000));
	expect_left(0x18);
}

/* What was asked for is done before the thread ends, whatever it is busy with. */
static void test_stop_finishes(void **state)
{
	const struct address_range r = range_of("203.0.113.0", "203.0.113.0");

	(void)state;
	for (unsigned i = 0; i < 20; i++) {
		make_flow(flows[0].source, flows[0].port);
		assert_true(netns_wait(is_there, (void *)&flows[0], 2000));
		conntrack_forget(conntrack, &r);
		for (volatile unsigned spin = 0; spin < i * 10000; spin++)
			continue;
		conntrack_forget(conntrack, NULL);
		stop();
		assert_false(has_flow(&flows[0]));
		assert_int_equal(conntrack_start(MASK, &conntrack), 0);
	}
}

/* The queue is full while the thread is busy at most: then everything pinned goes. */
static void test_full_queue(void **state)
{
	struct address_range r = range_of("203.0.113.0", "203.0.113.0");

	(void)state;
	make_flows();
	for (unsigned i = 0; i < 2000000 && conntrack_counters(conntrack).collapsed == 0; i++) {
		r.lo[2] = r.hi[2] = (uint8_t)(i >> 8);
		r.lo[3] = r.hi[3] = (uint8_t)i;
		conntrack_forget(conntrack, &r);
	}
	assert_true(conntrack_counters(conntrack).collapsed > 0);
	assert_true(netns_wait(is_gone, (void *)&flows[0], 5000));
	stop();
	expect_left(0x18);
	assert_int_equal(conntrack_start(MASK, &conntrack), 0);
}

/* An entry in a zone of its own is found and removed; its twin in another, not pinned, stays. */
static void test_zone(void **state)
{
	const struct address_range r = range_of("198.51.100.10", "198.51.100.10");
	char text[4096];

	(void)state;
	assert_int_equal(
		netns_run("conntrack -I -w 9 -s 198.51.100.10 -d 198.51.100.2 -p udp --sport 5"
			  " --dport 443 -t 60 -m 0x01000000 >/dev/null 2>&1 &&"
			  " conntrack -I -w 8 -s 198.51.100.10 -d 198.51.100.2 -p udp --sport 5"
			  " --dport 443 -t 60 -m 0x1 >/dev/null 2>&1"),
		0);
	conntrack_forget(conntrack, &r);
	stop();
	assert_int_equal(netns_read(text, sizeof(text), "conntrack -L 2>/dev/null"), 0);
	assert_null(strstr(text, "zone=9"));
	assert_non_null(strstr(text, "zone=8"));
	assert_int_equal(conntrack_start(MASK, &conntrack), 0);
}

/* The thread takes no signal: one sent to the process waits for whoever unblocks it. */
static void test_signals_blocked(void **state)
{
	char blocked[256] = "";

	(void)state;
	assert_int_equal(netns_read(blocked, sizeof(blocked),
				    "grep -h SigBlk /proc/%d/task/*/status"
				    " | sort -u | tail -1",
				    getpid()),
			 0);
	assert_non_null(strstr(blocked, "fffffff"));
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_one_address),
		TEST(test_ranges),
		TEST(test_all_pinned),
		TEST(test_kept_addresses_keep_their_flows),
		TEST(test_stop_finishes),
		TEST(test_full_queue),
		TEST(test_zone),
		TEST(test_signals_blocked),
		TEST(test_marks_of_more_paths),
		TEST(test_all_means_the_kept_ones_too),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
