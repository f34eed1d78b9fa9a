/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Real flows, marked by nft, as the kernel tells of them; and messages that are none. */
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

#include "conntrack_flow.h"
#include "flow_dump.h"
#include "netns.h"

#define MASK 0x0f000000
#define MARKED 443
#define FOREIGN 444
#define PLAIN 446
#define WAIT_MS 5000

static int peer = -1, events = -1;
static struct conntrack_flow seen;
static enum conntrack_flow_kind kind;

static int setup(void **state)
{
	(void)state;
	peer = netns_enter_marking("udp dport 443 ct mark set 0x01000000;"
				   " udp dport 444 ct mark set 0x00f00001;");
	if (peer < 0)
		return peer;
	events = conntrack_flow_socket(1 << 20);
	if (events < 0)
		return -1;
	if (conntrack_flow_filter(events, MASK) < 0 ||
	    conntrack_flow_hear(events, CONNTRACK_FLOW_NEW, true) < 0)
		return -1;
	return conntrack_flow_hear(events, CONNTRACK_FLOW_DESTROY, true);
}

static int teardown(void **state)
{
	(void)state;
	close(events);
	close(peer);
	return 0;
}

static void send_one(bool six, uint16_t port, uint16_t from)
{
	assert_int_equal(netns_peer_send(peer, six ? "2001:db8::1" : "198.51.100.1", from, port),
			 0);
}

static bool next(void *user)
{
	(void)user;
	return conntrack_flow_next(events, &seen, &kind) == 1;
}

static void forget(void)
{
	assert_int_equal(netns_run("conntrack -F 2>/dev/null"), 0);
}

static void test_begin_and_end(void **state)
{
	uint32_t id;

	(void)state;
	send_one(false, MARKED, 4001);
	assert_true(netns_wait(next, NULL, WAIT_MS));
	assert_int_equal(kind, CONNTRACK_FLOW_NEW);
	assert_int_equal(seen.mark, 0x01000000);
	assert_int_equal(seen.protocol, IPPROTO_UDP);
	assert_int_equal(seen.port, MARKED);
	assert_int_equal(seen.source_port, 4001);
	assert_int_equal(seen.source.family, AF_INET);
	assert_memory_equal(seen.source.bytes, "\xc6\x33\x64\x01", 4);
	assert_memory_equal(seen.destination.bytes, "\xc6\x33\x64\x02", 4);
	id = seen.id;
	forget();
	assert_true(netns_wait(next, NULL, WAIT_MS));
	assert_int_equal(kind, CONNTRACK_FLOW_DESTROY);
	assert_int_equal(seen.id, id);
	assert_true(seen.counted);
	assert_int_equal(seen.sent, 20 + 8 + NETNS_DATA);
	assert_int_equal(seen.mark, 0x01000000);
}

static void test_ipv6(void **state)
{
	(void)state;
	send_one(true, MARKED, 4002);
	assert_true(netns_wait(next, NULL, WAIT_MS));
	assert_int_equal(seen.source.family, AF_INET6);
	assert_int_equal(seen.destination.bytes[15], 2);
	assert_int_equal(seen.source_port, 4002);
	forget();
	assert_true(netns_wait(next, NULL, WAIT_MS));
	assert_int_equal(kind, CONNTRACK_FLOW_DESTROY);
}

/* The kernel leaves out what has none of our bits: the next to come is the marked one. */
static void test_filter(void **state)
{
	(void)state;
	send_one(false, PLAIN, 4003);
	send_one(false, FOREIGN, 4004);
	send_one(false, MARKED, 4005);
	assert_true(netns_wait(next, NULL, WAIT_MS));
	assert_int_equal(seen.source_port, 4005);
	forget();
	assert_true(netns_wait(next, NULL, WAIT_MS));
	assert_int_equal(seen.source_port, 4005);
	assert_int_equal(conntrack_flow_next(events, &seen, &kind), 0);
}

static bool is_any(void *user, const struct conntrack_flow *flow)
{
	return flow->port == *(const uint16_t *)user;
}

static struct flow_dump_result result;

static bool take(void *user)
{
	return flow_dump_take(user, &result);
}

static void test_look(void **state)
{
	static const uint16_t wanted = PLAIN;
	struct flow_dump *dump = NULL;

	(void)state;
	forget();
	send_one(false, PLAIN, 4006);
	send_one(true, PLAIN, 4007);
	send_one(false, FOREIGN, 4008);
	assert_int_equal(flow_dump_start(&dump), 0);
	for (int round = 0; round < 2; round++) {
		assert_true(flow_dump_begin(dump, is_any, (void *)&wanted));
		assert_false(flow_dump_begin(dump, is_any, (void *)&wanted));
		assert_true(netns_wait(take, dump, WAIT_MS));
		assert_int_equal(result.error, 0);
		assert_int_equal(result.count, 2);
		assert_int_equal(result.left_out, 0);
		assert_true(result.flows[0].counted);
		free(result.flows);
	}
	assert_false(take(dump));
	flow_dump_stop(dump);
	forget();
}

/* A buffer that is too small loses, says so once, and goes on. */
static void test_lost(void **state)
{
	int fd = conntrack_flow_socket(4096), r;
	bool lost = false;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(conntrack_flow_hear(fd, CONNTRACK_FLOW_NEW, true), 0);
	for (uint16_t from = 5000; from < 5200; from++)
		send_one(false, PLAIN, from);
	while ((r = conntrack_flow_next(fd, &seen, &kind)) != 0) {
		lost = lost || r == -ENOBUFS;
		assert_true(r == 1 || r == -ENOBUFS);
	}
	assert_true(lost);
	assert_int_equal(conntrack_flow_hear(fd, CONNTRACK_FLOW_NEW, false), 0);
	send_one(false, PLAIN, 5300);
	assert_int_equal(conntrack_flow_next(fd, &seen, &kind), 0);
	close(fd);
	forget();
}

static void test_what_is_no_flow(void **state)
{
	_Alignas(struct nlmsghdr) uint8_t message[256];

	(void)state;
	srandom(1);
	for (int round = 0; round < 100000; round++) {
		struct nlmsghdr *header = (struct nlmsghdr *)message;

		for (size_t i = 0; i < sizeof(message); i++)
			message[i] = (uint8_t)(random() % 8 ? random() % 12 : random());
		header->nlmsg_len = (uint32_t)random() % (sizeof(message) + 8);
		header->nlmsg_type = 1 << 8;
		assert_true(conntrack_flow_parse(header, sizeof(message), &seen, &kind) <= 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_begin_and_end), cmocka_unit_test(test_ipv6),
		cmocka_unit_test(test_filter),        cmocka_unit_test(test_look),
		cmocka_unit_test(test_lost),          cmocka_unit_test(test_what_is_no_flow),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
