/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Rules and routes in the real kernel, in a fresh network namespace for each test; read back with
 * ip(8), which knows nothing of steerd.
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

#include "addresses.h"
#include "kernel/route.h"
#include "netns.h"

static struct settings settings;
static struct route *route;
static char text[65536];
static char error[ROUTE_ERROR_MAX];

static void add_via(struct path *path, const char *address)
{
	path->via[path->via_count++] = address_of(address);
}

/* One path with next hops of both families, one that only marks. */
static void fill_settings(void)
{
	settings = (struct settings){ .mark_mask = 0x0f000000,
				      .rule_priority = 5200,
				      .pinning = true,
				      .interface = "ipsec0",
				      .path_count = 2 };
	settings.paths[0] = (struct path){ .name = "bypass",
					   .mark = 0x01000000,
					   .interface = "byp0",
					   .reply_mark = 0x09000000,
					   .table = 5443 };
	add_via(&settings.paths[0], "192.0.2.2");
	add_via(&settings.paths[0], "2001:db8::2");
	settings.paths[1] =
		(struct path){ .name = "local", .mark = 0x02000000, .reply_mark = 0x0a000000 };
}

static int setup(void **state)
{
	(void)state;
	fill_settings();
	if (netns_enter() < 0)
		return -1;
	if (netns_run("ip link add byp0 type veth peer name byp1 && ip link set byp1 up &&"
		      " ip link set byp0 up && ip addr add 192.0.2.1/24 dev byp0 &&"
		      " ip addr add 2001:db8::1/64 dev byp0 nodad") != 0)
		return -1;
	return netns_wait_link("byp0") ? route_open(&settings, &route) : -1;
}

static int teardown(void **state)
{
	(void)state;
	route_close(route);
	route = NULL;
	return 0;
}

static unsigned ensure(enum steering_mode mode)
{
	unsigned changed = 0;

	assert_int_equal(route_ensure(route, mode, &changed), 0);
	return changed;
}

static bool shows(const char *what, const char *command)
{
	assert_int_equal(netns_read(text, sizeof(text), "%s", command), 0);
	return strstr(text, what) != NULL;
}

static unsigned lines(const char *command)
{
	unsigned count = 0;

	netns_read(text, sizeof(text), "%s", command);
	for (const char *at = text; (at = strchr(at, '\n')) != NULL; at++)
		count++;
	return count;
}

#define RULES4 "ip -N rule show | grep -E 'proto 93|^5200' || true"
#define RULES6 "ip -N -6 rule show | grep -E 'proto 93|^5200' || true"
#define ROUTES4 "ip -N route show table 5443 2>/dev/null || true"
#define ROUTES6 "ip -N -6 route show table 5443 2>/dev/null || true"

static void test_desired(void **state)
{
	(void)state;
	assert_int_equal(route_check_free(route, error), 0);
	assert_int_equal(ensure(STEERING_SA), 10);
	for (unsigned i = 0; i < 2; i++) {
		const char *rules = i == 0 ? RULES4 : RULES6;

		assert_int_equal(lines(rules), 4);
		assert_true(
			shows("5200:\tfrom all fwmark 0x1000000/0xf000000 lookup 5443 proto 93\n",
			      rules));
		assert_true(shows(
			"5200:\tfrom all fwmark 0x9000000/0xf000000 iif byp0 goto 5202 proto 93\n",
			rules));
		assert_true(
			shows("5201:\tfrom all fwmark 0x9000000/0xf000000 lookup 5443 proto 93\n",
			      rules));
		assert_true(shows("5202:\tfrom all iif lo nop proto 93\n", rules));
	}
	assert_int_equal(lines(ROUTES4), 1);
	assert_true(shows("default via 192.0.2.2 dev byp0 proto 93", ROUTES4));
	assert_int_equal(lines(ROUTES6), 1);
	assert_true(shows("default via 2001:db8::2 dev byp0 proto 93", ROUTES6));

	/* the same again, by this and by another process: nothing to do, nothing in the way */
	assert_int_equal(ensure(STEERING_SA), 0);
	route_close(route);
	assert_int_equal(route_open(&settings, &route), 0);
	assert_int_equal(route_check_free(route, error), 0);
	assert_int_equal(ensure(STEERING_SA), 0);
	assert_int_equal(ensure(STEERING_SA), 0);
}

static void test_only_one_family(void **state)
{
	(void)state;
	settings.paths[0].via_count = 1;
	/* without a table a next hop means nothing */
	add_via(&settings.paths[1], "192.0.2.9");
	assert_int_equal(ensure(STEERING_SA), 5);
	assert_int_equal(lines(RULES4), 4);
	assert_int_equal(lines(RULES6), 0);
	assert_int_equal(lines(ROUTES6), 0);
}

static void test_address_mode(void **state)
{
	(void)state;
	ensure(STEERING_SA);
	assert_int_equal(ensure(STEERING_ADDRESS), 4);
	assert_int_equal(lines(RULES4), 4);
	assert_true(shows("fwmark 0x1000000/0xf000000 iif ipsec0 ", RULES4));
	assert_true(shows("5201:\tfrom all fwmark 0x9000000/0xf000000 lookup", RULES4));
	assert_int_equal(ensure(STEERING_SA), 4);
	assert_false(shows("ipsec0", RULES4));
}

static void test_multipath(void **state)
{
	(void)state;
	add_via(&settings.paths[0], "192.0.2.3");
	add_via(&settings.paths[0], "2001:db8::3");
	assert_int_equal(ensure(STEERING_SA), 10);
	assert_true(shows("nexthop via 192.0.2.2 dev byp0", ROUTES4));
	assert_true(shows("nexthop via 192.0.2.3 dev byp0", ROUTES4));
	assert_true(shows("nexthop via 2001:db8::2 dev byp0", ROUTES6));
	assert_true(shows("nexthop via 2001:db8::3 dev byp0", ROUTES6));
	assert_int_equal(ensure(STEERING_SA), 0);

	/* one hop fewer, then another one */
	settings.paths[0].via_count = 2;
	assert_int_equal(ensure(STEERING_SA), 2);
	assert_false(shows("192.0.2.3", ROUTES4));
	assert_false(shows("2001:db8::3", ROUTES6));
	settings.paths[0].via[0].bytes[3] = 9;
	settings.paths[0].via[1].bytes[15] = 9;
	assert_int_equal(ensure(STEERING_SA), 2);
	assert_int_equal(lines(ROUTES4), 1);
	assert_true(shows("default via 192.0.2.9 dev byp0", ROUTES4));
	assert_int_equal(lines(ROUTES6), 1);
	assert_true(shows("default via 2001:db8::9 dev byp0", ROUTES6));
	assert_int_equal(ensure(STEERING_SA), 0);
	/* one more */
	add_via(&settings.paths[0], "192.0.2.3");
	add_via(&settings.paths[0], "2001:db8::3");
	assert_int_equal(ensure(STEERING_SA), 2);
	assert_true(shows("nexthop via 192.0.2.3 dev byp0", ROUTES4));
	assert_true(shows("nexthop via 2001:db8::3 dev byp0", ROUTES6));
}

/* The kernel passes over a hop whose link is down; the route stays. */
static void test_one_hop_down(void **state)
{
	unsigned changed;

	(void)state;
	assert_int_equal(
		netns_run("ip link add two0 type veth peer name two1 && ip link set two1 up &&"
			  " ip link set two0 up &&"
			  " ip addr add 2001:db8:2::1/64 dev two0 nodad"),
		0);
	assert_true(netns_wait_link("two0"));
	settings.paths[0].interface[0] = '\0';
	settings.paths[0].via_count = 0;
	add_via(&settings.paths[0], "2001:db8::2");
	add_via(&settings.paths[0], "2001:db8:2::2");
	assert_int_equal(ensure(STEERING_SA), 2);
	assert_int_equal(netns_run("ip link set two0 down"), 0);
	assert_int_equal(ensure(STEERING_SA), 0);
	assert_true(shows("nexthop via 2001:db8::2 dev byp0", ROUTES6));
	/* an old hop that is not desired any more goes, even if the new one is refused */
	settings.paths[0].via_count = 0;
	add_via(&settings.paths[0], "2001:db8:2::2");
	assert_int_equal(route_ensure(route, STEERING_SA, &changed), -ENETUNREACH);
	assert_int_equal(lines(ROUTES6), 0);
}

static void test_kernel_finds_device(void **state)
{
	(void)state;
	settings.paths[0].interface[0] = '\0';
	add_via(&settings.paths[0], "192.0.2.3");
	assert_int_equal(ensure(STEERING_SA), 4);
	/* without an interface a reply cannot be told from its reverse-path lookup */
	assert_int_equal(lines(RULES4), 1);
	assert_true(shows("nexthop via 192.0.2.2 dev byp0", ROUTES4));
	assert_true(shows("default via 2001:db8::2 dev byp0", ROUTES6));
	assert_int_equal(ensure(STEERING_SA), 0);
}

static void test_repair(void **state)
{
	static const struct {
		const char *command;
		unsigned changes;
	} damages[] = {
		{ "ip rule del priority 5200 fwmark 0x1000000/0xf000000", 1 },
		{ "ip -6 rule del priority 5201", 1 },
		{ "ip rule del priority 5200 iif byp0", 1 },
		{ "ip rule del priority 5202", 1 },
		{ "ip route flush table 5443", 1 },
		{ "ip -6 route flush table 5443", 1 },
		{ "ip route replace default via 192.0.2.77 table 5443 proto 93", 1 },
		{ "ip route add 203.0.113.0/24 via 192.0.2.2 table 5443 proto 93", 1 },
		{ "ip -6 route add default via 2001:db8::2 metric 7 table 5443 proto 93", 1 },
		{ "ip rule add priority 5200 fwmark 0x1000000/0xf000000 lookup 77 proto 93", 1 },
		{ "ip rule add priority 77 lookup 5443 proto 93", 1 },
		{ "ip rule add priority 5200 fwmark 0x1000000/0xf000000 ipproto udp lookup 5443 "
		  "proto 93",
		  1 },
		{ "ip rule add priority 5200 from 192.0.2.0/24 fwmark 0x1000000/0xf000000 lookup "
		  "5443 "
		  "proto 93",
		  1 },
		{ "ip rule del priority 5201 && ip rule add priority 5201"
		  " fwmark 0x9000000/0xf000000 ipproto udp lookup 5443 proto 93",
		  2 },
		{ "ip rule add priority 5201 not fwmark 0x1000000/0xf000000 lookup 5443 proto 93",
		  1 },
	};

	(void)state;
	ensure(STEERING_SA);
	for (size_t i = 0; i < sizeof(damages) / sizeof(damages[0]); i++) {
		assert_int_equal(netns_run("%s", damages[i].command), 0);
		assert_int_equal(ensure(STEERING_SA), damages[i].changes);
		assert_int_equal(lines(RULES4), 4);
		assert_int_equal(lines("ip rule"), 7);
		assert_int_equal(lines(ROUTES4), 1);
		assert_int_equal(lines(ROUTES6), 1);
		assert_true(shows("default via 192.0.2.2 dev byp0 proto 93", ROUTES4));
		assert_true(shows("metric 1024", ROUTES6));
	}
}

/* What a former configuration left goes, wherever it is, when steerd starts. */
static void test_former_configuration(void **state)
{
	(void)state;
	ensure(STEERING_SA);
	route_close(route);
	settings.paths[0].table = 6000;
	settings.paths[0].mark = 0x04000000;
	settings.rule_priority = 6200;
	assert_int_equal(route_open(&settings, &route), 0);
	assert_int_equal(route_check_free(route, error), 0);
	assert_int_equal(ensure(STEERING_SA), 20);
	assert_false(shows("5200:", RULES4));
	assert_int_equal(lines(ROUTES4), 0);
	assert_int_equal(lines(ROUTES6), 0);
	assert_int_equal(lines("ip route show table 6000"), 1);
}

static void test_link_down_and_up(void **state)
{
	unsigned changed = 77;

	(void)state;
	ensure(STEERING_SA);
	assert_int_equal(netns_run("ip link set byp0 down"), 0);
	assert_int_equal(lines(ROUTES4), 0);
	assert_int_equal(route_ensure(route, STEERING_SA, &changed), -ENETUNREACH);
	assert_int_equal(lines(RULES4), 4);
	assert_int_equal(lines(ROUTES4), 0);
	assert_int_equal(netns_run("ip link set byp0 up &&"
				   " ip addr replace 2001:db8::1/64 dev byp0 nodad"),
			 0);
	assert_true(netns_wait_link("byp0"));
	assert_int_equal(ensure(STEERING_SA), 2);
	assert_true(shows("default via 192.0.2.2 dev byp0 proto 93", ROUTES4));
	assert_true(shows("default via 2001:db8::2 dev byp0 proto 93", ROUTES6));

	/* an interface that is not there at all, and a bad path beside a good one */
	settings.paths[1] = settings.paths[0];
	settings.paths[1].table = 5444;
	settings.paths[1].mark = 0x02000000;
	settings.paths[1].reply_mark = 0x0a000000;
	snprintf(settings.paths[0].interface, sizeof(settings.paths[0].interface), "none0");
	assert_int_equal(route_ensure(route, STEERING_SA, &changed), -ENETUNREACH);
	assert_int_equal(lines(ROUTES4), 0);
	assert_int_equal(lines("ip route show table 5444"), 1);
	assert_int_equal(lines(RULES4), 7);
}

static void test_foreign_is_kept(void **state)
{
	(void)state;
	assert_int_equal(netns_run("ip rule add priority 100 fwmark 0x1 lookup 100 &&"
				   " ip route add default via 192.0.2.5 table 100 &&"
				   " ip -6 route add default via 2001:db8::5 table 100"),
			 0);
	assert_int_equal(route_check_free(route, error), 0);
	ensure(STEERING_SA);
	/* somebody comes later: not ours to remove, even at our place */
	assert_int_equal(netns_run("ip rule add priority 5200 fwmark 0x5 lookup 100 &&"
				   " ip route add 203.0.113.0/24 via 192.0.2.5 table 5443"),
			 0);
	assert_int_equal(ensure(STEERING_SA), 0);
	assert_int_equal(route_remove(route), 0);
	assert_true(shows("fwmark 0x5 lookup 100", RULES4));
	assert_int_equal(lines(RULES4), 1);
	assert_int_equal(lines(RULES6), 0);
	assert_true(shows("203.0.113.0/24 via 192.0.2.5", ROUTES4));
	assert_int_equal(lines(ROUTES4), 1);
	assert_int_equal(lines(ROUTES6), 0);
	assert_int_equal(lines("ip route show table 100"), 1);
	assert_int_equal(lines("ip -6 route show table 100"), 1);
	assert_true(shows("100:\tfrom all fwmark 0x1 lookup 100", "ip -N rule"));
	assert_int_equal(route_remove(route), 0);
}

static void conflict(const char *add, const char *del, const char *message)
{
	assert_int_equal(netns_run("%s", add), 0);
	error[0] = '\0';
	assert_int_equal(route_check_free(route, error), -EBUSY);
	assert_string_equal(error, message);
	assert_int_equal(netns_run("%s", del), 0);
	assert_int_equal(route_check_free(route, error), 0);
}

static void test_conflicts(void **state)
{
	(void)state;
	conflict("ip rule add priority 5200 fwmark 0x1 lookup 100", "ip rule del priority 5200",
		 "rule priority 5200 is taken by \"from all fwmark 0x1 lookup 100\";"
		 " set steering.rule_priority to the first of 3 free ones");
	conflict("ip -6 rule add priority 5200 from 2001:db8::/32 iif lo prohibit",
		 "ip -6 rule del priority 5200",
		 "IPv6 rule priority 5200 is taken by \"from 2001:db8::/32 iif lo prohibit\";"
		 " set steering.rule_priority to the first of 3 free ones");
	conflict("ip rule add priority 9 fwmark 0x3000000/0x3000000 lookup 100",
		 "ip rule del priority 9",
		 "mark bits of 0x0f000000 are used by the rule 9"
		 " \"from all fwmark 0x3000000/0x3000000 lookup 100\";"
		 " set steering.mark_mask to free bits");
	conflict("ip route add 203.0.113.0/24 dev byp0 table 5443", "ip route flush table 5443",
		 "routing table 5443 is in use, it has the route \"203.0.113.0/24\";"
		 " set the path's table to a free one");
	conflict("ip -6 route add default via 2001:db8::9 table 5443",
		 "ip -6 route flush table 5443",
		 "routing table 5443 is in use, it has the route \"default\";"
		 " set the path's table to a free one");
	/* these only look alike */
	assert_int_equal(netns_run("ip rule add priority 9 fwmark 0x3000000/0x30 lookup 100 &&"
				   " ip rule add priority 10 fwmark 0x0/0x0f000000 lookup 100"),
			 0);
	assert_int_equal(route_check_free(route, error), 0);
}

/* Thousands of routes elsewhere are neither touched nor in the way. */
static void test_large_foreign_table(void **state)
{
	(void)state;
	assert_int_equal(netns_run("for i in $(seq 0 79); do for j in $(seq 0 99); do"
				   " echo route add 198.18.$i.$j/32 dev byp0; done; done"
				   " | ip -batch -"),
			 0);
	assert_int_equal(ensure(STEERING_SA), 10);
	assert_int_equal(ensure(STEERING_SA), 0);
	assert_int_equal(route_remove(route), 0);
	assert_true(shows("8000\n", "ip route show table main | grep -cF 198.18."));
}

static void set_conf(const char *interface, int rp_filter, int src_valid_mark)
{
	assert_int_equal(netns_run("echo %d >/proc/sys/net/ipv4/conf/%s/rp_filter;"
				   "echo %d >/proc/sys/net/ipv4/conf/%s/src_valid_mark",
				   rp_filter, interface, src_valid_mark, interface),
			 0);
}

static void test_rp_filter(void **state)
{
	static const struct {
		int all, all_mark, own, own_mark;
		bool problem;
	} cases[] = {
		{ 0, 0, 0, 0, false }, { 1, 0, 0, 0, true },  { 0, 0, 1, 0, true },
		{ 1, 1, 0, 0, false }, { 0, 0, 1, 1, false }, { 2, 0, 1, 0, false },
		{ 1, 0, 2, 0, false }, { 0, 1, 1, 0, false }, { 1, 0, 1, 0, true },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		set_conf("all", cases[i].all, cases[i].all_mark);
		set_conf("byp0", cases[i].own, cases[i].own_mark);
		assert_int_equal(route_rp_filter_problem(&settings, error), cases[i].problem);
	}
	assert_string_equal(error,
			    "path bypass: strict reverse-path filtering on byp0 drops the replies;"
			    " set net.ipv4.conf.byp0.src_valid_mark=1, or rp_filter to 2");
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_desired),          TEST(test_only_one_family),
		TEST(test_address_mode),     TEST(test_multipath),
		TEST(test_one_hop_down),     TEST(test_kernel_finds_device),
		TEST(test_repair),           TEST(test_former_configuration),
		TEST(test_link_down_and_up), TEST(test_foreign_is_kept),
		TEST(test_conflicts),        TEST(test_large_foreign_table),
		TEST(test_rp_filter),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
