/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Elements of one field, and the lease, in the real kernel: what steerd's code says is there is compared
 * with what nft(8) says. Elements of several fields are in test_nft_parts.c.
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

#include "base/clock.h"
#include "kernel_table.h"
#include "netns.h"

static void test_elements_in_and_out(void **state)
{
	const struct element a = table_sa(0, 0xc1234567, 0);
	const struct element b = table_sa(1, 0xcfffffff, 0);

	(void)state;
	assert_false(table_ensure(STEERING_SA));
	assert_int_equal(table_dump(), 0);
	assert_int_equal(nft_has_element(table.nft, &a.key), 0);
	assert_int_equal(table_apply_one(NULL, &a), 0);
	assert_int_equal(table_apply_one(NULL, &b), 0);
	/* nft prints an SPI in decimal */
	assert_true(table_set_lists("sa_skype", "3240314215"));
	assert_true(table_set_lists("sa_quic", "3489660927"));
	assert_int_equal(table_dump(), 2);
	assert_non_null(table_find_seen(&a.key));
	assert_non_null(table_find_seen(&b.key));
	assert_int_equal(table_find_seen(&a.key)->expires_us, 0);
	assert_int_equal(nft_has_element(table.nft, &a.key), 1);

	assert_int_equal(table_apply_one(&a, NULL), 0);
	assert_int_equal(nft_has_element(table.nft, &a.key), 0);
	assert_false(table_set_lists("sa_skype", "3240314215"));
	assert_int_equal(table_dump(), 1);
	assert_int_equal(nft_apply(table.nft, NULL, 0, NULL, 0), 0);
}

static bool element_is_gone(void *user)
{
	const struct element *el = user;

	return nft_has_element(table.nft, &el->key) == 0;
}

static void test_expiry(void **state)
{
	int64_t start = clock_boottime_us();
	struct element brief = table_sa(0, 0xc0000001, start + 300000);
	const struct element past = table_sa(0, 0xc0000002, start - 1);
	const struct element instant = table_sa(0, 0xc0000004, INT64_C(1));
	struct element both[2];

	(void)state;
	table_ensure(STEERING_SA);
	both[0] = brief;
	both[1] = past;
	assert_int_equal(nft_apply(table.nft, NULL, 0, both, 2), 0);
	assert_int_equal(table_apply_one(NULL, &instant), 0);
	assert_int_equal(nft_has_element(table.nft, &past.key), 0);
	assert_int_equal(nft_has_element(table.nft, &instant.key), 0);
	assert_int_equal(table_dump(), 1);
	assert_true(llabs(table_find_seen(&brief.key)->expires_us - brief.expires_us) < 50000);
	assert_true(netns_wait(element_is_gone, &brief, 2000));
	assert_true(clock_boottime_us() - start >= 250000);
	assert_int_equal(table_dump(), 0);

	/* a changed expiry is a removal and an addition in one transaction */
	brief.expires_us = clock_boottime_us() + 60000000;
	both[0] = brief;
	assert_int_equal(table_apply_one(NULL, &both[0]), 0);
	both[0].expires_us += 60000000;
	assert_int_equal(table_apply_one(&brief, &both[0]), 0);
	assert_int_equal(table_dump(), 1);
	assert_true(llabs(table.seen[0].expires_us - both[0].expires_us) < 50000);
	/* less than a millisecond is rounded up: 0 would mean for ever */
	both[1] = table_sa(0, 0xc0000003, clock_boottime_us() + 900);
	assert_int_equal(table_apply_one(NULL, &both[1]), 0);
	assert_true(netns_wait(element_is_gone, &both[1], 1000));
}

/* 5000 elements need several transactions, and several messages in each. */
static void test_many(void **state)
{
	static struct element many[5000];

	(void)state;
	table_ensure(STEERING_SA);
	for (unsigned i = 0; i < 5000; i++)
		many[i] = table_sa(i & 1, 0xc0000000 + i, 0);
	assert_int_equal(nft_apply(table.nft, NULL, 0, many, NFT_BATCH_MAX + 1), -E2BIG);
	assert_int_equal(nft_apply(table.nft, many, 1, many, NFT_BATCH_MAX), -E2BIG);
	assert_int_equal(nft_apply(table.nft, many, SIZE_MAX, many, 2), -E2BIG);
	for (unsigned i = 0; i < 5000; i += NFT_BATCH_MAX)
		assert_int_equal(nft_apply(table.nft, NULL, 0, many + i, NFT_BATCH_MAX), 0);
	assert_int_equal(nft_foreign_commit(table.nft), 0);
	assert_int_equal(table_dump(), 5000);
	for (unsigned i = 0; i < 5000; i += 777)
		assert_non_null(table_find_seen(&many[i].key));
	for (unsigned i = 0; i < 5000; i += NFT_BATCH_MAX)
		assert_int_equal(nft_apply(table.nft, many + i, NFT_BATCH_MAX, NULL, 0), 0);
	assert_int_equal(table_dump(), 0);
}

/* The largest transaction there can be: ranges of 16 bytes, in alternating sets. */
static void test_largest_batch(void **state)
{
	static struct element many[NFT_BATCH_MAX];

	(void)state;
	for (unsigned p = 0; p < SETTINGS_PROFILES_MAX; p++) {
		table.settings.profiles[p] = table.settings.profiles[1];
		snprintf(table.settings.profiles[p].name, sizeof(table.settings.profiles[p].name),
			 "p%023u", p);
	}
	table.settings.profile_count = SETTINGS_PROFILES_MAX;
	table_ensure(STEERING_ADDRESS);
	for (unsigned i = 0; i < NFT_BATCH_MAX; i++) {
		many[i] = table_address(SET_NET6, "2001:db8::", "2001:db8::1");
		many[i].key.profile = (uint8_t)(i % SETTINGS_PROFILES_MAX);
		many[i].key.lo[8] = many[i].key.hi[8] = (uint8_t)(i >> 8);
		many[i].key.lo[9] = many[i].key.hi[9] = (uint8_t)i;
		many[i].expires_us = clock_boottime_us() + 600000000;
	}
	assert_int_equal(nft_apply(table.nft, NULL, 0, many, NFT_BATCH_MAX), 0);
	assert_int_equal(table_dump(), NFT_BATCH_MAX);
	assert_non_null(table_find_seen(&many[NFT_BATCH_MAX - 1].key));
	assert_int_equal(nft_apply(table.nft, many, NFT_BATCH_MAX, NULL, 0), 0);
	for (unsigned i = 0; i < NFT_BATCH_MAX; i++)
		many[i].key.profile = 0;
	assert_int_equal(nft_apply(table.nft, NULL, 0, many, NFT_BATCH_MAX), 0);
	assert_int_equal(table_dump(), NFT_BATCH_MAX);
}

static void test_ranges(void **state)
{
	const struct element ranges[] = {
		table_address(SET_NET4, "192.0.2.0", "192.0.2.255"),
		table_address(SET_NET4, "192.0.3.0", "192.0.3.0"), /* begins where the other ends */
		table_address(SET_NET4, "198.18.0.1", "198.18.0.9"),
		table_address(SET_NET4, "255.255.255.0", "255.255.255.255"),
		table_address(SET_NET6, "2001:db8::1", "2001:db8::ffff"),
		table_address(SET_NET6, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
			      "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
		table_address(SET_HOST4, "198.51.100.7", NULL),
		table_address(SET_HOST6, "2001:db8::7", NULL),
	};
	const size_t count = sizeof(ranges) / sizeof(ranges[0]);
	const struct element others[] = {
		table_address(SET_NET4, "192.0.2.0", "192.0.3.0"),
		table_address(SET_NET4, "192.0.2.1", "192.0.2.255"),
		table_address(SET_NET4, "192.0.2.0", "192.0.2.254"),
		table_address(SET_NET4, "255.255.255.0", "255.255.255.254"),
		table_address(SET_NET4, "255.255.254.0", "255.255.255.255"),
		table_address(SET_NET6, "2001:db8::", "2001:db8::ffff"),
		table_address(SET_HOST4, "198.51.100.8", NULL),
	};

	(void)state;
	table_ensure(STEERING_ADDRESS);
	assert_int_equal(nft_apply(table.nft, NULL, 0, ranges, count), 0);
	assert_int_equal(table_dump(), count);
	for (size_t i = 0; i < count; i++) {
		assert_non_null(table_find_seen(&ranges[i].key));
		assert_int_equal(nft_has_element(table.nft, &ranges[i].key), 1);
	}
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		assert_int_equal(nft_has_element(table.nft, &others[i].key), 0);
	assert_true(table_set_lists("net4_skype", "198.18.0.1-198.18.0.9"));
	assert_true(table_set_lists("net4_skype", "192.0.2.0/24"));
	assert_true(table_set_lists("net4_skype", "192.0.3.0"));
	assert_true(table_set_lists("net4_skype", "255.255.255.0/24"));
	assert_true(table_set_lists("host6_skype", "2001:db8::7"));
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(table_apply_one(&ranges[i], NULL), 0);
		assert_int_equal(nft_has_element(table.nft, &ranges[i].key), 0);
		assert_int_equal(table_dump(), count - 1 - i);
	}
}

static void test_everything_is_a_range(void **state)
{
	const struct element all4 = table_address(SET_NET4, "0.0.0.0", "255.255.255.255");
	const struct element all6 = table_address(SET_NET6,
						  "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
	const struct element inside = table_address(SET_NET4, "192.0.2.0", "192.0.2.255");

	(void)state;
	table_ensure(STEERING_ADDRESS);
	assert_int_equal(table_apply_one(NULL, &all4), 0);
	assert_int_equal(table_apply_one(NULL, &all6), 0);
	assert_true(table_set_lists("net4_skype", "0.0.0.0/0"));
	assert_true(table_set_lists("net6_skype", "::/0"));
	assert_int_equal(nft_has_element(table.nft, &all4.key), 1);
	assert_int_equal(nft_has_element(table.nft, &inside.key), 0);
	assert_int_equal(table_dump(), 2);
	assert_non_null(table_find_seen(&all4.key));
	assert_non_null(table_find_seen(&all6.key));
	assert_true(table_apply_one(NULL, &inside) < 0);
	assert_int_equal(table_apply_one(&all4, &inside), 0);
	assert_int_equal(table_dump(), 2);
	assert_non_null(table_find_seen(&inside.key));
}

static void test_range_expires(void **state)
{
	struct element el = table_address(SET_NET4, "192.0.2.0", "192.0.2.255");
	struct element last = table_address(SET_NET6,
					    "fe80::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
	struct element both[2];

	(void)state;
	table_ensure(STEERING_ADDRESS);
	el.expires_us = last.expires_us = clock_boottime_us() + 200000;
	both[0] = el;
	both[1] = last;
	assert_int_equal(nft_apply(table.nft, NULL, 0, both, 2), 0);
	assert_int_equal(table_dump(), 2);
	assert_true(llabs(table_find_seen(&el.key)->expires_us - el.expires_us) < 50000);
	assert_true(netns_wait(table_is_empty, NULL, 3000));
	assert_int_equal(nft_has_element(table.nft, &el.key), 0);
	assert_int_equal(nft_has_element(table.nft, &last.key), 0);
	both[0].expires_us = both[1].expires_us = 0;
	assert_int_equal(nft_apply(table.nft, NULL, 0, both, 2), 0);
	assert_int_equal(table_dump(), 2);
}

static void test_all_or_nothing(void **state)
{
	const struct element present = table_sa(0, 0xc0000001, 0);
	const struct element absent = table_sa(0, 0xc0000002, 0);
	const struct element more[] = { table_sa(0, 0xc0000003, 0), table_sa(1, 0xc0000004, 0),
					present };
	struct element invalid = present;

	(void)state;
	table_ensure(STEERING_SA);
	assert_int_equal(table_apply_one(NULL, &present), 0);
	assert_int_equal(nft_apply(table.nft, &absent, 1, more, 2), -ENOENT);
	assert_int_equal(table_dump(), 1);
	/* an addition of what is there already takes nothing else with it either */
	assert_int_equal(nft_apply(table.nft, NULL, 0, more, 3), -EEXIST);
	assert_int_equal(table_dump(), 1);
	assert_int_equal(nft_apply(table.nft, &present, 1, more, 2), 0);
	assert_int_equal(table_dump(), 2);
	assert_int_equal(nft_foreign_commit(table.nft), 0);

	invalid.key.profile = 2;
	assert_int_equal(table_apply_one(NULL, &invalid), -EINVAL);
	invalid.key.profile = 0;
	invalid.key.set = SET_HOST4;
	assert_int_equal(table_apply_one(NULL, &invalid), -EINVAL);
	assert_int_equal(nft_has_element(table.nft, &invalid.key), -EINVAL);
	assert_int_equal(table_dump(), 2);
}

static void test_full_set(void **state)
{
	const struct element more[] = { table_sa(0, 1, 0), table_sa(0, 2, 0), table_sa(0, 3, 0) };

	(void)state;
	table.settings.max_child_sas = 2;
	table_ensure(STEERING_SA);
	assert_int_equal(nft_apply(table.nft, NULL, 0, more, 3), -ENFILE);
	assert_int_equal(table_dump(), 0);
	assert_int_equal(nft_apply(table.nft, NULL, 0, more, 2), 0);
	assert_int_equal(table_dump(), 2);
}

static bool lease_is_over(void *user)
{
	(void)user;
	return nft_lease_remaining(table.nft, 0) == 0;
}

static void test_lease(void **state)
{
	int64_t start;
	int left;

	(void)state;
	table.settings.lease_ms = 400;
	table_ensure(STEERING_SA);
	assert_int_equal(nft_lease_remaining(table.nft, 0), 0);
	assert_int_equal(nft_lease_remaining(table.nft, 2), -EINVAL);
	start = clock_boottime_us();
	for (unsigned i = 0; i < 50; i++) {
		assert_int_equal(nft_renew(table.nft, 3), 0);
		left = nft_lease_remaining(table.nft, 1);
		assert_true(left > 250 && left <= 410);
	}
	assert_int_equal(nft_foreign_commit(table.nft), 0);
	assert_true(table_set_lists("svc_skype", "tcp . 443"));
	assert_true(table_set_lists("svc_quic", "tcp . 443"));
	assert_true(table_set_lists("svc_quic", "udp . 443"));
	assert_true(netns_wait(lease_is_over, NULL, 3000));
	assert_true(clock_boottime_us() - start >= 350000);
	assert_false(table_set_lists("svc_skype", "tcp . 443"));
}

static void test_withdraw(void **state)
{
	(void)state;
	table_ensure(STEERING_SA);
	assert_int_equal(nft_renew(table.nft, UINT32_MAX), 0);
	assert_true(nft_lease_remaining(table.nft, 0) > 0);
	/* one service missing is no lease, whichever it is */
	assert_int_equal(netns_run("nft delete element inet " TABLE " svc_quic '{ udp . 443 }'"),
			 0);
	assert_int_equal(nft_lease_remaining(table.nft, 1), 0);
	assert_int_equal(nft_renew(table.nft, 3), 0);
	assert_true(nft_lease_remaining(table.nft, 1) > 0);
	assert_int_equal(netns_run("nft delete element inet " TABLE " svc_quic '{ tcp . 443 }'"),
			 0);
	assert_int_equal(nft_lease_remaining(table.nft, 1), 0);
	assert_int_equal(nft_renew(table.nft, 1), 0);
	assert_true(nft_lease_remaining(table.nft, 0) > 0);
	assert_int_equal(nft_lease_remaining(table.nft, 1), 0);
	assert_false(table_set_lists("svc_quic", "443"));
	/* what a stranger put in goes with the next renewal */
	assert_int_equal(netns_run("nft add element inet " TABLE " svc_quic '{ tcp . 80 }'"), 0);
	assert_int_equal(nft_renew(table.nft, 0), 0);
	assert_int_equal(nft_lease_remaining(table.nft, 0), 0);
	assert_false(table_set_lists("svc_quic", "elements"));
	assert_int_equal(nft_renew(table.nft, 0), 0);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, table_setup, table_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_elements_in_and_out),
		TEST(test_expiry),
		TEST(test_many),
		TEST(test_largest_batch),
		TEST(test_ranges),
		TEST(test_everything_is_a_range),
		TEST(test_range_expires),
		TEST(test_all_or_nothing),
		TEST(test_full_set),
		TEST(test_lease),
		TEST(test_withdraw),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
