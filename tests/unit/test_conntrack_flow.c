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

#include "kernel/conntrack_flow.h"
#include "kernel/flow_dump.h"
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
	if (netns_run("nft 'add chain inet t z { type filter hook prerouting priority raw; };"
		      " add rule inet t z udp sport 4014 ct zone set 7'") != 0)
		return -1;
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
		assert_true(flow_dump_begin(dump, NULL, is_any, (void *)&wanted));
		assert_false(flow_dump_begin(dump, NULL, is_any, (void *)&wanted));
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

static struct flow_dump_filter filter_for(uint16_t port, uint16_t source_port, bool exact)
{
	struct flow_dump_filter filter = { .source.family = AF_INET,
					   .destination.family = AF_INET,
					   .protocol = IPPROTO_UDP,
					   .port = port,
					   .source_port = source_port,
					   .exact = exact };

	inet_pton(AF_INET, "198.51.100.1", filter.source.bytes);
	inet_pton(AF_INET, "198.51.100.2", filter.destination.bytes);
	return filter;
}

static bool wants_all(void *user, const struct conntrack_flow *flow)
{
	(void)user;
	(void)flow;
	return true;
}

static void look_for(struct flow_dump *dump, const struct flow_dump_filter *filter, uint64_t count)
{
	assert_true(flow_dump_begin(dump, filter, wants_all, NULL));
	assert_true(netns_wait(take, dump, WAIT_MS));
	assert_int_equal(result.error, 0);
	assert_int_equal(result.count, count);
	/* The kernel itself has left the others out. */
	assert_int_equal(result.told, count);
	assert_true((result.walked_us == 0) == filter->exact);
}

static void test_filtered_look(void **state)
{
	struct flow_dump_filter filter = filter_for(PLAIN, 0, false);
	struct flow_dump *dump = NULL;
	bool in_zone = false;

	(void)state;
	forget();
	for (uint16_t from = 4010; from < 4013; from++)
		send_one(false, PLAIN, from);
	send_one(false, PLAIN, 4014);
	send_one(false, FOREIGN, 4010);
	send_one(true, PLAIN, 4010);
	assert_int_equal(flow_dump_start(&dump), 0);
	look_for(dump, &filter, 4);
	for (size_t i = 0; i < result.count; i++) {
		assert_int_equal(result.flows[i].zone, result.flows[i].source_port == 4014 ? 7 : 0);
		in_zone = in_zone || result.flows[i].zone;
	}
	assert_true(in_zone);
	free(result.flows);
	for (int exact = 0; exact < 2; exact++) {
		filter = filter_for(PLAIN, 4011, exact);
		look_for(dump, &filter, 1);
		assert_int_equal(result.flows[0].source_port, 4011);
		free(result.flows);
		filter = filter_for(PLAIN, 4099, exact);
		look_for(dump, &filter, 0);
	}
	/* One question is for zone 0 alone, a walk for all. */
	filter = filter_for(PLAIN, 4014, true);
	look_for(dump, &filter, 0);
	filter.exact = false;
	look_for(dump, &filter, 1);
	free(result.flows);
	flow_dump_stop(dump);
	forget();
}

static void test_filtered_look_ipv6(void **state)
{
	struct flow_dump_filter filter = filter_for(PLAIN, 4010, true);
	struct flow_dump *dump = NULL;

	(void)state;
	send_one(true, PLAIN, 4010);
	send_one(true, FOREIGN, 4010);
	filter.source.family = filter.destination.family = AF_INET6;
	inet_pton(AF_INET6, "2001:db8::1", filter.source.bytes);
	inet_pton(AF_INET6, "2001:db8::2", filter.destination.bytes);
	assert_int_equal(flow_dump_start(&dump), 0);
	for (int exact = 1; exact >= 0; exact--) {
		filter.exact = exact;
		look_for(dump, &filter, 1);
		assert_int_equal(result.flows[0].port, PLAIN);
		free(result.flows);
	}
	flow_dump_stop(dump);
	forget();
}

struct tcp_look {
	struct flow_dump *dump;
	struct flow_dump_filter filter;
	bool over;
};

static bool is_tcp_over(void *user)
{
	struct tcp_look *look = user;
	bool as_wanted;

	if (!flow_dump_begin(look->dump, &look->filter, wants_all, NULL) ||
	    !netns_wait(take, look->dump, WAIT_MS))
		return false;
	as_wanted = result.count == 1 && result.flows[0].over == look->over;
	free(result.flows);
	return as_wanted;
}

/* A connection that both ends have closed stays in the table, but it is over. */
static void test_over(void **state)
{
	struct tcp_look look = { .filter = filter_for(PLAIN, 4020, true) };
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(PLAIN) };
	const struct sockaddr_in from = { .sin_family = AF_INET, .sin_port = htons(4020) };
	int listener = socket(AF_INET, SOCK_STREAM, 0), accepted;
	int fd = netns_peer_socket(peer, AF_INET, SOCK_STREAM);

	(void)state;
	inet_pton(AF_INET, "198.51.100.2", &to.sin_addr);
	assert_int_equal(bind(listener, (void *)&to, sizeof(to)), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(bind(fd, (const void *)&from, sizeof(from)), 0);
	assert_int_equal(connect(fd, (void *)&to, sizeof(to)), 0);
	accepted = accept(listener, NULL, NULL);
	assert_true(accepted >= 0);
	look.filter.protocol = IPPROTO_TCP;
	assert_int_equal(flow_dump_start(&look.dump), 0);
	assert_true(netns_wait(is_tcp_over, &look, WAIT_MS));
	close(fd);
	close(accepted);
	look.over = true;
	assert_true(netns_wait(is_tcp_over, &look, WAIT_MS));
	close(listener);
	flow_dump_stop(look.dump);
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
		cmocka_unit_test(test_begin_and_end),
		cmocka_unit_test(test_ipv6),
		cmocka_unit_test(test_filter),
		cmocka_unit_test(test_look),
		cmocka_unit_test(test_filtered_look),
		cmocka_unit_test(test_filtered_look_ipv6),
		cmocka_unit_test(test_over),
		cmocka_unit_test(test_lost),
		cmocka_unit_test(test_what_is_no_flow),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
