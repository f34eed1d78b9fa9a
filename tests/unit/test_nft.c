/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The table in the real kernel, as a whole: made, adopted, replaced, touched by strangers, and what it
 * does with packets. Its elements are in test_nft_elements.c and test_nft_parts.c.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <linux/capability.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel_table.h"
#include "netns.h"
#include "settings/destinations.h"

static void reopen(void)
{
	nft_close(table.nft);
	assert_int_equal(nft_open(&table.settings, &table.nft), 0);
}

static bool has_table(const char *name)
{
	char tables[1024];

	assert_int_equal(netns_read(tables, sizeof(tables), "nft list tables"), 0);
	return strstr(tables, name) != NULL;
}

static void test_adoption(void **state)
{
	const struct element el = table_sa(0, 0xc0000001, 0);
	static const enum steering_mode modes[] = { STEERING_SA, STEERING_ADDRESS };

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		table.settings.pinning = i & 1;
		assert_false(table_ensure(modes[i / 2]));
		reopen();
		assert_true(table_ensure(modes[i / 2]));
		assert_false(has_table("_probe"));
		assert_int_equal(nft_check(table.nft), 1);
		assert_int_equal(nft_foreign_commit(table.nft), 0);
	}
	assert_false(table_ensure(STEERING_SA));
	assert_int_equal(table_apply_one(NULL, &el), 0);
	assert_int_equal(nft_renew(table.nft, 3), 0);
	reopen();
	assert_true(table_ensure(STEERING_SA));
	assert_int_equal(nft_has_element(table.nft, &el.key), 1);
	assert_true(nft_lease_remaining(table.nft, 0) > 0);
	assert_int_equal(nft_check(table.nft), 1);
}

/* Each of these makes the table another one: it is replaced, and comes back empty. */
static void test_replacement(void **state)
{
	static const char *const changes[] = {
		"add rule inet " TABLE " first accept",
		"insert rule inet " TABLE " prerouting meta mark set 0x01000000",
		"flush chain inet " TABLE " unsettled",
		"add chain inet " TABLE " more",
		"add set inet " TABLE " more { type ipv4_addr; }",
		"add table inet " TABLE " { flags dormant; }",
		"add counter inet " TABLE " more",
		"add chain inet " TABLE " prerouting { policy drop; }",
		"delete table inet " TABLE "; add table inet " TABLE,
	};
	const struct element el = table_sa(0, 0xc0000001, 0);

	(void)state;
	table_ensure(STEERING_SA);
	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		if (table_apply_one(NULL, &el) < 0)
			fail();
		assert_int_equal(nft_check(table.nft), 1);
		assert_int_equal(nft_foreign_commit(table.nft), 0);
		assert_int_equal(netns_run("nft '%s'", changes[i]), 0);
		assert_int_equal(nft_foreign_commit(table.nft), 1);
		assert_int_equal(nft_foreign_commit(table.nft), 0);
		assert_int_equal(nft_check(table.nft), 0);
		assert_false(table_ensure(STEERING_SA));
		assert_int_equal(nft_check(table.nft), 1);
		assert_int_equal(table_dump(), 0);
	}
	table.settings.max_child_sas++;
	assert_false(table_ensure(STEERING_SA));
	table.settings.profiles[0].path = 0;
	table.settings.paths[0].mark = 0x02000000;
	assert_false(table_ensure(STEERING_SA));
	assert_true(table_ensure(STEERING_SA));
	assert_false(table_ensure(STEERING_ADDRESS));
	assert_int_equal(nft_check(table.nft), 1);
}

static void test_leftover_probe(void **state)
{
	(void)state;
	assert_int_equal(netns_run("nft add table inet " TABLE "_probe"), 0);
	assert_false(table_ensure(STEERING_SA));
	assert_false(has_table("_probe"));
	assert_int_equal(netns_run("nft add table inet " TABLE "_probe"), 0);
	assert_true(table_ensure(STEERING_SA));
	assert_false(has_table("_probe"));
}

static void test_strangers_flush(void **state)
{
	const struct element el = table_sa(0, 0xc0000001, 0);

	(void)state;
	table_ensure(STEERING_SA);
	assert_int_equal(table_apply_one(NULL, &el), 0);
	assert_int_equal(netns_run("nft flush ruleset"), 0);
	assert_int_equal(nft_foreign_commit(table.nft), 1);
	assert_int_equal(nft_check(table.nft), 0);
	assert_int_equal(table_apply_one(NULL, &el), -ENOENT);
	assert_int_equal(nft_renew(table.nft, 1), -ENOENT);
	assert_int_equal(nft_lease_remaining(table.nft, 0), 0);
	assert_int_equal(nft_has_element(table.nft, &el.key), 0);
	assert_false(table_ensure(STEERING_SA));
	assert_int_equal(table_apply_one(NULL, &el), 0);
	assert_int_equal(nft_renew(table.nft, 1), 0);
	assert_int_equal(nft_foreign_commit(table.nft), 0);
}

static void test_foreign_commit(void **state)
{
	const struct element el = table_sa(0, 0xc0000001, 0);

	(void)state;
	table_ensure(STEERING_SA);
	assert_int_equal(netns_run("nft add table inet other"), 0);
	assert_int_equal(table_apply_one(NULL, &el), 0);
	assert_int_equal(nft_foreign_commit(table.nft), 1);
	assert_int_equal(nft_check(table.nft), 1);
	/* withdrawing nothing changes nothing: it must not hide the commit that comes next */
	assert_int_equal(nft_renew(table.nft, 0), 0);
	nft_foreign_commit(table.nft);
	assert_int_equal(nft_renew(table.nft, 0), 0);
	assert_int_equal(netns_run("nft delete table inet other"), 0);
	assert_int_equal(nft_foreign_commit(table.nft), 1);
	assert_int_equal(netns_run("nft flush set inet " TABLE " sa_skype"), 0);
	assert_int_equal(nft_foreign_commit(table.nft), 1);
	assert_int_equal(nft_check(table.nft), 1);
	assert_int_equal(table_dump(), 0);
}

static void test_remove(void **state)
{
	(void)state;
	assert_int_equal(nft_remove(table.nft), 0);
	assert_int_equal(nft_check(table.nft), 0);
	table_ensure(STEERING_SA);
	assert_int_equal(netns_run("nft add table inet other"), 0);
	assert_int_equal(nft_foreign_commit(table.nft), 1);
	assert_int_equal(nft_remove(table.nft), 0);
	assert_int_equal(nft_foreign_commit(table.nft), 0);
	assert_false(has_table(TABLE));
	assert_true(has_table("other"));
	assert_int_equal(nft_check(table.nft), 0);
	assert_false(table_ensure(STEERING_SA));
}

static void test_refused_skeleton(void **state)
{
	const char *error = NULL;
	bool adopted = true;

	(void)state;
	table_ensure(STEERING_SA);
	assert_true(nft_ensure(table.nft, STEERING_AUTO, &adopted, &error) < 0);
	assert_non_null(error);
	snprintf(table.settings.profiles[0].name, sizeof(table.settings.profiles[0].name),
		 "no name");
	error = NULL;
	assert_int_equal(nft_ensure(table.nft, STEERING_SA, &adopted, &error), -EIO);
	assert_non_null(error);
	assert_null(strchr(error, '\n'));
	assert_true(strlen(error) > 5);
	assert_true(adopted);
	/* what was there stays */
	assert_int_equal(nft_check(table.nft), 1);
}

static void connect_far(int peer, struct flow *flow, uint16_t port)
{
	table_connect(peer, flow, FAR_ADDRESS, port);
}

static bool something_denied(void *user)
{
	(void)user;
	return table_counters().denied_packets > 0;
}

/* Through the whole skeleton: decided by the first packet, checked at each, ended by the lease. */
static void test_packets(void **state)
{
	const struct element host = table_address(SET_HOST4, PEER_ADDRESS, NULL);
	struct nft_counters before;
	struct flow early;
	struct flow other;
	struct flow pinned;
	int peer = table_add_far_peer();

	(void)state;
	table.settings.lease_ms = 60000;
	snprintf(table.settings.interface, sizeof(table.settings.interface), TABLE_INTERFACE);
	table_ensure(STEERING_ADDRESS);
	assert_int_equal(table_apply_one(NULL, &host), 0);
	connect_far(peer, &early, 443);
	assert_int_equal(table_counters().first_packets, 0);
	assert_int_equal(nft_renew(table.nft, 1), 0);

	/* a grant touches no flow that is there already */
	assert_int_equal(write(early.client, "x", 1), 1);
	assert_int_equal(table_counters().bypassed_packets, 0);
	connect_far(peer, &other, 80);
	assert_int_equal(table_counters().first_packets, 0);
	connect_far(peer, &pinned, 443);
	before = table_counters();
	assert_int_equal(before.first_packets, 1);
	assert_true(before.bypassed_packets >= 1);
	assert_int_equal(before.denied_packets, 0);
	assert_int_equal(write(pinned.client, "x", 1), 1);
	assert_true(table_counters().bypassed_packets > before.bypassed_packets);

	/* what the counters show makes it no other table */
	assert_int_equal(nft_check(table.nft), 1);
	assert_true(table_ensure(STEERING_ADDRESS));

	/* withdrawn: the next packet is dropped, and only that flow's */
	before = table_counters();
	assert_int_equal(nft_renew(table.nft, 0), 0);
	assert_int_equal(write(pinned.client, "x", 1), 1);
	assert_true(netns_wait(something_denied, NULL, 2000));
	assert_int_equal(table_counters().bypassed_packets, before.bypassed_packets);
	assert_int_equal(table_counters().first_packets, 1);
	assert_int_equal(write(early.client, "x", 1), 1);
	close(peer);
	table_disconnect(&early);
	table_disconnect(&other);
	table_disconnect(&pinned);
}

/* Where a flow of an exempt tenant goes decides, too. */
static void check_destinations(int peer, const char *const *addresses, const uint16_t *ports,
			       const bool *bypassed, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		struct nft_counters before = table_counters(), after;
		struct flow flow;

		table_connect(peer, &flow, addresses[i], ports[i]);
		assert_int_equal(write(flow.client, "x", 1), 1);
		after = table_counters();
		if ((after.first_packets - before.first_packets == 1) != bypassed[i] ||
		    (after.bypassed_packets > before.bypassed_packets) != bypassed[i] ||
		    after.denied_packets != before.denied_packets)
			fail_msg("%s:%u", addresses[i], ports[i]);
		table_disconnect(&flow);
	}
}

static void exempt_peer(void)
{
	const struct element host = table_address(SET_HOST4, PEER_ADDRESS, NULL);

	table.settings.lease_ms = 60000;
	snprintf(table.settings.interface, sizeof(table.settings.interface), TABLE_INTERFACE);
	assert_false(table_ensure(STEERING_ADDRESS));
	assert_int_equal(table_apply_one(NULL, &host), 0);
	assert_int_equal(nft_renew(table.nft, 1), 0);
}

static void add_listener(const char *text)
{
	struct profile *skype = &table.settings.profiles[0];
	struct listener *listener = &skype->listeners[skype->listener_count++];

	assert_int_equal(destination_parse_listener(text, &listener->address, &listener->port), 0);
}

static void add_destination(const char *text)
{
	struct profile *skype = &table.settings.profiles[0];

	assert_int_equal(destination_parse(text, &skype->destinations[skype->destination_count++]),
			 0);
}

static void test_reserved_destinations(void **state)
{
	static const char *const addresses[] = { FAR_ADDRESS,    "10.1.2.3",   "100.64.0.1",
						 "172.31.255.1", "172.32.0.1", "192.168.1.1",
						 OUR_ADDRESS };
	static const uint16_t ports[] = { 443, 443, 443, 443, 443, 443, 443 };
	static const bool bypassed[] = { true, false, false, false, true, false, false };
	int peer = table_add_far_peer();

	(void)state;
	exempt_peer();
	check_destinations(peer, addresses, ports, bypassed, 7);
	/* nor for who sees to the conntrack marks of new flows before us */
	assert_int_equal(netns_run("nft 'table ip early { chain c { type filter hook prerouting "
				   "priority -160; ct state new ct mark set 0x01000000; }; }'"),
			 0);
	check_destinations(peer, addresses, ports, bypassed, 7);
	assert_int_equal(nft_check(table.nft), 1);
	close(peer);
}

static void test_listed_destinations(void **state)
{
	static const char *const addresses[] = { FAR_ADDRESS,    "203.0.113.255", "203.0.114.0",
						 "198.51.100.7", "198.51.100.8",  OUR_ADDRESS,
						 FAR_ADDRESS };
	static const uint16_t ports[] = { 443, 443, 443, 443, 443, 443, 80 };
	static const bool bypassed[] = { true, true, false, true, false, false, false };
	int peer = table_add_far_peer();

	(void)state;
	assert_int_equal(
		netns_run("nsenter --net=/proc/%d/fd/%d ip route add 198.51.100.7 via " OUR_ADDRESS
			  " && nsenter --net=/proc/%d/fd/%d ip route add "
			  "198.51.100.8 via " OUR_ADDRESS,
			  getpid(), peer, getpid(), peer),
		0);
	add_destination("203.0.113.0/24");
	add_destination("198.51.100.7");
	/* holds the gateway's own address */
	add_destination("198.51.100.2/31");
	exempt_peer();
	check_destinations(peer, addresses, ports, bypassed, 7);
	close(peer);
}

static void test_explicit_proxy(void **state)
{
	static const char *const addresses[] = { "203.0.113.80", "203.0.113.80", "203.0.113.81",
						 FAR_ADDRESS,    "10.1.2.3",     "203.0.113.80" };
	static const uint16_t ports[] = { 80, 443, 80, 443, 443, 8080 };
	static const bool bypassed[] = { true, true, false, true, false, false };
	struct profile *skype = &table.settings.profiles[0];
	int peer = table_add_far_peer();

	(void)state;
	add_listener("203.0.113.80:80");
	exempt_peer();
	assert_true(nft_lease_remaining(table.nft, 0) > 0);
	check_destinations(peer, addresses, ports, bypassed, 6);
	/* beside a list */
	add_destination("203.0.113.10");
	exempt_peer();
	check_destinations(peer, addresses, ports, bypassed, 1);
	check_destinations(peer, addresses + 2, ports + 2, bypassed + 2, 4);
	/* without services */
	skype->service_count = skype->destination_count = 0;
	exempt_peer();
	check_destinations(peer, addresses, ports, bypassed, 1);
	assert_int_equal(nft_renew(table.nft, 0), 0);
	assert_int_equal(nft_lease_remaining(table.nft, 0), 0);
	check_destinations(peer, addresses, ports, (const bool[]){ false }, 1);
	close(peer);
}

/* A flow that a former configuration's list let through. */
static void test_list_is_shortened(void **state)
{
	int peer = table_add_far_peer();
	struct nft_counters before;
	struct flow flow;

	(void)state;
	add_destination("203.0.113.0/24");
	exempt_peer();
	connect_far(peer, &flow, 443);
	assert_int_equal(table_counters().first_packets, 1);
	table.settings.profiles[0].destination_count = 0;
	add_destination("203.0.113.0/29");
	exempt_peer();
	before = table_counters();
	assert_int_equal(write(flow.client, "x", 1), 1);
	assert_true(netns_wait(something_denied, NULL, 2000));
	assert_int_equal(table_counters().bypassed_packets, before.bypassed_packets);
	table_disconnect(&flow);
	close(peer);
}

/* What is in constant sets makes another table, and strangers cannot change it. */
static void test_constant_sets(void **state)
{
	(void)state;
	add_destination("203.0.113.0/24");
	add_destination("203.0.114.0/24");
	add_destination("198.51.100.7");
	assert_false(table_ensure(STEERING_SA));
	assert_true(table_ensure(STEERING_SA));
	assert_int_equal(nft_check(table.nft), 1);
	assert_true(netns_run("nft add element inet " TABLE " dst4_skype { 192.0.2.0/24 } 2>&-"));
	assert_true(netns_run("nft delete element inet " TABLE
			      " dsthost4_skype { 198.51.100.7 } 2>&-"));
	assert_true(netns_run("nft flush set inet " TABLE " never4 2>&-"));
	assert_int_equal(nft_check(table.nft), 1);
	/* one address, one prefix or one more */
	table.settings.profiles[0].destinations[2].lo[3] =
		table.settings.profiles[0].destinations[2].hi[3] = 8;
	assert_false(table_ensure(STEERING_SA));
	table.settings.profiles[0].destinations[1].lo[2] =
		table.settings.profiles[0].destinations[1].hi[2] = 115;
	assert_false(table_ensure(STEERING_SA));
	add_destination("198.51.100.9");
	assert_false(table_ensure(STEERING_SA));
	assert_true(table_ensure(STEERING_SA));
}

/* The same rules and sets by a stranger's hand, with something else in one set. */
static void test_strangers_constants(void **state)
{
	(void)state;
	add_destination("198.51.100.7");
	assert_false(table_ensure(STEERING_SA));
	assert_int_equal(netns_run("nft list table inet " TABLE " >/tmp/test_nft.$$ && "
				   "sed -i s/198.51.100.7/198.51.100.6/ /tmp/test_nft.$$ && "
				   "nft delete table inet " TABLE " && nft -f /tmp/test_nft.$$; "
				   "r=$?; rm /tmp/test_nft.$$; exit $r"),
			 0);
	assert_int_equal(nft_check(table.nft), 0);
	assert_false(table_ensure(STEERING_SA));
	assert_int_equal(nft_check(table.nft), 1);
}

/* Without CAP_NET_ADMIN: in a child, because capabilities do not come back. */
static void test_without_capability(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
		struct __user_cap_data_struct none[2] = { 0 };
		struct nft *other = NULL;

		if (syscall(SYS_capset, &header, none) < 0)
			_exit(1);
		_exit(nft_open(&table.settings, &other) == -EPERM && other == NULL ? 0 : 2);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, table_setup, table_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_adoption),
		TEST(test_replacement),
		TEST(test_leftover_probe),
		TEST(test_strangers_flush),
		TEST(test_foreign_commit),
		TEST(test_remove),
		TEST(test_refused_skeleton),
		TEST(test_packets),
		TEST(test_reserved_destinations),
		TEST(test_listed_destinations),
		TEST(test_explicit_proxy),
		TEST(test_list_is_shortened),
		TEST(test_constant_sets),
		TEST(test_strangers_constants),
		TEST(test_without_capability),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
