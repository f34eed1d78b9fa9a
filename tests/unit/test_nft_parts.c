/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Elements of several fields in the real kernel: what goes in comes out, what overlaps is refused, and
 * packets match what they should. In a network namespace of its own for each test.
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
#include <unistd.h>

#include "base/clock.h"
#include "kernel_table.h"
#include "netns.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static int setup(void **state)
{
	int err = table_setup(state);

	table.settings.lease_ms = 60000;
	strcpy(table.settings.interface, TABLE_INTERFACE);
	return err;
}

static void in_and_out(const struct element *elements, size_t count)
{
	assert_int_equal(nft_apply(table.nft, NULL, 0, elements, count), 0);
	assert_int_equal(table_dump(), count);
	for (size_t i = 0; i < count; i++) {
		assert_non_null(table_find_seen(&elements[i].key));
		assert_int_equal(table_find_seen(&elements[i].key)->expires_us, 0);
		assert_int_equal(nft_has_element(table.nft, &elements[i].key), 1);
		assert_int_equal(nft_holds(table.nft, &elements[i].key), 1);
	}
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(table_apply_one(&elements[i], NULL), 0);
		assert_int_equal(nft_has_element(table.nft, &elements[i].key), 0);
		assert_int_equal(nft_holds(table.nft, &elements[i].key), 0);
		assert_int_equal(table_dump(), count - 1 - i);
	}
}

static void test_sa_mode(void **state)
{
	struct element all[] = {
		table_element(SET_SA, 0xc0000001, NULL, NULL, NULL, NULL),
		table_element(SET_PART, 0xc0000001, NULL, NULL, NULL, NULL),
		table_element(SET_PART_HOST4, 0xc0000001, "198.18.1.5", NULL, NULL, NULL),
		table_element(SET_PART_HOST4, 0xc0000002, "198.18.1.5", NULL, NULL, NULL),
		table_element(SET_PART_HOST6, 0xc0000001, "2001:db8::5", NULL, NULL, NULL),
		table_element(SET_PART_NET4, 0xc0000001, "198.18.1.0", "198.18.1.255", ALL4),
		table_element(SET_PART_NET4, 0xc0000002, "198.18.1.0", "198.18.1.255", ALL4),
		table_element(SET_PART_NET4, 0xc0000003, ALL4, "203.0.113.0", "203.0.113.127"),
		table_element(SET_PART_NET4, 0xc0000003, ALL4, "203.0.113.128", "255.255.255.255"),
		table_element(SET_PART_NET4, 0xc0000004, "198.18.1.5", "198.18.1.5", "192.0.2.1",
			      "192.0.2.1"),
		table_element(SET_PART_NET6, 0xc0000001, ALL6, ALL6),
		table_element(SET_PART_NET6, 0xc0000002, "2001:db8::3", "2001:db8::77",
			      "2001:db8:1::", "2001:db8:1:ffff:ffff:ffff:ffff:ffff"),
	};

	(void)state;
	all[3].key.profile = all[8].key.profile = 1;
	table_ensure(STEERING_SA);
	assert_int_equal(nft_apply(table.nft, NULL, 0, all, COUNT(all)), 0);
	assert_true(table_set_lists("sah4_skype", "3221225473 . 198.18.1.5"));
	assert_true(table_set_lists("san4_skype", "3221225473 . 198.18.1.0/24 . 0.0.0.0/0"));
	assert_true(table_set_lists("san4_skype", "3221225476 . 198.18.1.5 . 192.0.2.1"));
	assert_true(table_set_lists("san4_quic", "203.0.113.128-255.255.255.255"));
	assert_true(table_set_lists("sas_skype", "3221225473"));
	assert_int_equal(nft_apply(table.nft, all, COUNT(all), NULL, 0), 0);
	assert_int_equal(nft_foreign_commit(table.nft), 0);
	in_and_out(all, COUNT(all));
}

static void test_address_mode(void **state)
{
	struct element all[] = {
		table_element(SET_HOST4, 0, "198.18.1.5", NULL, NULL, NULL),
		table_element(SET_NET4, 0, "198.18.1.3", "198.18.1.9", NULL, NULL),
		table_element(SET_PAIR4, 0, "198.18.1.0", "198.18.1.255", "203.0.113.0",
			      "203.0.113.255"),
		table_element(SET_PAIR4, 0, "198.18.2.7", "198.18.2.7", ALL4),
		table_element(SET_PAIR6, 0, "2001:db8::", "2001:db8::ffff", ALL6),
	};

	(void)state;
	all[3].key.profile = 1;
	table_ensure(STEERING_ADDRESS);
	in_and_out(all, COUNT(all));
	all[0] = table_element(SET_PART, 1, NULL, NULL, NULL, NULL);
	assert_int_equal(table_apply_one(NULL, &all[0]), -EINVAL);
}

/* An element that holds a packet is not thereby the one that was asked for. */
static void test_holds(void **state)
{
	const struct element net = table_element(SET_PART_NET4, 0xc0000001, "198.18.1.3",
						 "198.18.1.9", "203.0.113.0", "203.0.113.255");
	const struct element range = table_element(SET_NET4, 0, "198.18.1.3", "198.18.1.9", NULL,
						   NULL);
	const struct element others[] = {
		table_element(SET_PART_NET4, 0xc0000001, "198.18.1.3", "198.18.1.9", "203.0.113.0",
			      "203.0.113.254"),
		table_element(SET_PART_NET4, 0xc0000001, "198.18.1.4", "198.18.1.9", "203.0.113.0",
			      "203.0.113.255"),
	};
	const struct {
		uint32_t spi;
		const char *source, *destination;
		int held;
	} packets[] = {
		{ 0xc0000001, "198.18.1.3", "203.0.113.0", 1 },
		{ 0xc0000001, "198.18.1.9", "203.0.113.255", 1 },
		{ 0xc0000002, "198.18.1.9", "203.0.113.255", 0 },
		{ 0xc0000001, "198.18.1.10", "203.0.113.255", 0 },
		{ 0xc0000001, "198.18.1.2", "203.0.113.255", 0 },
		{ 0xc0000001, "198.18.1.9", "203.0.114.0", 0 },
	};

	(void)state;
	table_ensure(STEERING_SA);
	assert_int_equal(table_apply_one(NULL, &net), 0);
	for (size_t i = 0; i < COUNT(others); i++)
		assert_int_equal(nft_has_element(table.nft, &others[i].key), 0);
	for (size_t i = 0; i < COUNT(packets); i++) {
		const struct element packet = table_element(SET_PART_NET4, packets[i].spi,
							    packets[i].source, NULL,
							    packets[i].destination, NULL);

		assert_int_equal(nft_holds(table.nft, &packet.key), packets[i].held);
	}
	table_ensure(STEERING_ADDRESS);
	assert_int_equal(table_apply_one(NULL, &range), 0);
	for (size_t i = 0; i < COUNT(packets); i++) {
		const struct element packet = table_element(SET_NET4, 0, packets[i].source, NULL,
							    NULL, NULL);
		const bool inside = strcmp(packets[i].source, "198.18.1.10") != 0 &&
				    strcmp(packets[i].source, "198.18.1.2") != 0;

		assert_int_equal(nft_holds(table.nft, &packet.key), inside);
	}
}

/* The reason why boxes are cut; and a batch that replaces some need not care. */
static void test_overlaps(void **state)
{
	const struct element large = table_element(SET_PART_NET4, 0xc0000001, "198.18.1.0",
						   "198.18.1.255", ALL4);
	const struct element small[] = {
		table_element(SET_PART_NET4, 0xc0000001, "198.18.1.0", "198.18.1.127", ALL4),
		table_element(SET_PART_NET4, 0xc0000001, "198.18.1.128", "198.18.1.255",
			      "203.0.113.0", "203.0.113.255"),
	};

	(void)state;
	table_ensure(STEERING_SA);
	assert_int_equal(table_apply_one(NULL, &large), 0);
	assert_true(table_apply_one(NULL, &large) < 0);
	assert_true(table_apply_one(NULL, &small[0]) < 0);
	assert_true(table_apply_one(NULL, &small[1]) < 0);
	assert_int_equal(table_dump(), 1);
	assert_int_equal(nft_apply(table.nft, &large, 1, small, 2), 0);
	assert_int_equal(table_dump(), 2);
	assert_int_equal(nft_apply(table.nft, small, 2, &large, 1), 0);
	assert_int_equal(table_dump(), 1);
}

static void test_expiry(void **state)
{
	struct element both[] = {
		table_element(SET_PART_HOST4, 0xc0000001, "198.18.1.5", NULL, NULL, NULL),
		table_element(SET_PART_NET4, 0xc0000001, "198.18.1.0", "198.18.1.255", ALL4),
	};

	(void)state;
	table_ensure(STEERING_SA);
	for (unsigned i = 0; i < 2; i++)
		both[i].expires_us = clock_boottime_us() + 300000;
	assert_int_equal(nft_apply(table.nft, NULL, 0, both, 2), 0);
	assert_int_equal(table_dump(), 2);
	for (unsigned i = 0; i < 2; i++)
		assert_true(llabs(table_find_seen(&both[i].key)->expires_us - both[i].expires_us) <
			    50000);
	assert_true(netns_wait(table_is_empty, NULL, 3000));
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(nft_holds(table.nft, &both[i].key), 0);
		both[i].expires_us = 0;
	}
	/* expired ones are in nobody's way */
	assert_int_equal(nft_apply(table.nft, NULL, 0, both, 2), 0);
	assert_int_equal(table_dump(), 2);
}

/* As many as are ever wanted, in the largest transactions there can be. */
static void test_many(void **state)
{
	static struct element many[ELEMENTS_INTERVALS_MAX];

	(void)state;
	table_ensure(STEERING_SA);
	for (unsigned i = 0; i < COUNT(many); i++) {
		many[i] = table_element(SET_PART_NET6, 0xc0000000 + i, "2001:db8::", "2001:db8::1",
					ALL6);
		many[i].expires_us = clock_boottime_us() + 600000000;
	}
	for (unsigned i = 0; i < COUNT(many); i += NFT_BATCH_MAX)
		assert_int_equal(nft_apply(table.nft, NULL, 0, many + i,
					   COUNT(many) - i < NFT_BATCH_MAX ? COUNT(many) - i
									   : NFT_BATCH_MAX),
				 0);
	assert_int_equal(table_dump(), COUNT(many));
	for (unsigned i = 0; i < COUNT(many); i += 77)
		assert_non_null(table_find_seen(&many[i].key));
	for (unsigned i = 0; i < 500; i++) {
		many[500 + i] = many[i];
		many[500 + i].expires_us += 1000000;
	}
	assert_int_equal(nft_apply(table.nft, many, 500, many + 500, 500), 0);
	assert_int_equal(table_dump(), COUNT(many));
}

/* Real packets: of the service, to the destination, from the source. */
static void test_packets(void **state)
{
	const struct element pair = table_element(SET_PAIR4, 0, "198.51.100.1", "198.51.100.1",
						  "203.0.113.3", "203.0.113.3");
	const struct element elsewhere = table_element(SET_PAIR4, 0, "198.51.100.4", "198.51.100.9",
						       ALL4);
	int peer = table_add_far_peer();
	struct flow flows[4];

	(void)state;
	table_ensure(STEERING_ADDRESS);
	assert_int_equal(nft_renew(table.nft, 3), 0);
	assert_int_equal(table_apply_one(NULL, &pair), 0);
	assert_int_equal(table_apply_one(NULL, &elsewhere), 0);
	table_connect(peer, &flows[0], "203.0.113.2", 443);
	table_connect(peer, &flows[1], "203.0.113.3", 80);
	assert_int_equal(table_counters().first_packets, 0);
	table_connect(peer, &flows[2], "203.0.113.3", 443);
	assert_int_equal(table_counters().first_packets, 1);
	assert_int_equal(table_apply_one(&pair, NULL), 0);
	table_connect(peer, &flows[3], "203.0.113.3", 443);
	assert_int_equal(table_counters().first_packets, 1);
	for (unsigned i = 0; i < COUNT(flows); i++)
		table_disconnect(&flows[i]);
	close(peer);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, table_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_sa_mode),  TEST(test_address_mode), TEST(test_holds),
		TEST(test_overlaps), TEST(test_expiry),       TEST(test_many),
		TEST(test_packets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
