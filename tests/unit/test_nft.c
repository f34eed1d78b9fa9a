/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The table in the real kernel, in a fresh network namespace for each test. What steerd's code
 * says is in the kernel is compared with what nft(8) says.
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
#include <linux/capability.h>
#include <netinet/in.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "destinations.h"
#include "netns.h"
#include "nft.h"

#define TABLE "steerd"
#define SEEN_MAX 8192
#define LISTING_MAX (1u << 20)

static struct settings settings;
static struct nft *nft;
static struct element seen[SEEN_MAX];
static size_t seen_count;
static char listing[LISTING_MAX];

static void fill_settings(void)
{
	settings = (struct settings){
		.mark_mask = 0x0f000000,
		.max_child_sas = 6000,
		.pinning = true,
		.lease_ms = 3000,
		.interface = "lo",
		.nft_table = TABLE,
		.path_count = 1,
		.profile_count = 2,
	};
	settings.paths[0] = (struct path){
		.name = "bypass", .mark = 0x01000000, .reply_mark = 0x09000000, .table = 5443
	};
	settings.profiles[0] = (struct profile){ .name = "skype", .service_count = 1 };
	settings.profiles[0].services[0] = (struct service){ IPPROTO_TCP, 443 };
	settings.profiles[1] = (struct profile){ .name = "quic", .service_count = 2 };
	settings.profiles[1].services[0] = (struct service){ IPPROTO_TCP, 443 };
	settings.profiles[1].services[1] = (struct service){ IPPROTO_UDP, 443 };
}

static int setup(void **state)
{
	(void)state;
	fill_settings();
	if (netns_enter() < 0)
		return -1;
	return nft_open(&settings, &nft);
}

static int teardown(void **state)
{
	(void)state;
	nft_close(nft);
	nft = NULL;
	return 0;
}

static int64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static bool ensure(enum steering_mode mode)
{
	const char *error;
	bool adopted;

	assert_int_equal(nft_ensure(nft, mode, &adopted, &error), 0);
	assert_null(error);
	return adopted;
}

static struct element sa(unsigned profile, uint32_t spi, int64_t expires_us)
{
	struct element el = { .key = { .set = SET_SA, .profile = (uint8_t)profile },
			      .expires_us = expires_us };

	spi = htonl(spi);
	memcpy(el.key.lo, &spi, sizeof(spi));
	return el;
}

/* A host when hi is NULL. */
static struct element address(unsigned set, const char *lo, const char *hi)
{
	struct element el = { .key = { .set = (uint8_t)set } };
	int family = set == SET_HOST4 || set == SET_NET4 ? AF_INET : AF_INET6;

	assert_int_equal(inet_pton(family, lo, el.key.lo), 1);
	if (hi != NULL)
		assert_int_equal(inet_pton(family, hi, el.key.hi), 1);
	return el;
}

static void keep(const struct element *el, void *user)
{
	assert_ptr_equal(user, &seen_count);
	assert_true(seen_count < SEEN_MAX);
	seen[seen_count++] = *el;
}

static size_t dump(void)
{
	seen_count = 0;
	assert_int_equal(nft_each_element(nft, keep, &seen_count), 0);
	return seen_count;
}

static const struct element *find_seen(const struct element_key *key)
{
	for (size_t i = 0; i < seen_count; i++)
		if (memcmp(&seen[i].key, key, sizeof(*key)) == 0)
			return &seen[i];
	return NULL;
}

static int apply_one(const struct element *removal, const struct element *addition)
{
	return nft_apply(nft, removal, removal != NULL, addition, addition != NULL);
}

static bool listed(const char *what, const char *set)
{
	assert_int_equal(
		netns_read(listing, sizeof(listing), "nft list set inet " TABLE " %s", set), 0);
	return strstr(listing, what) != NULL;
}

static void test_elements_in_and_out(void **state)
{
	const struct element a = sa(0, 0xc1234567, 0);
	const struct element b = sa(1, 0xcfffffff, 0);

	(void)state;
	assert_false(ensure(STEERING_SA));
	assert_int_equal(dump(), 0);
	assert_int_equal(nft_has_element(nft, &a.key), 0);
	assert_int_equal(apply_one(NULL, &a), 0);
	assert_int_equal(apply_one(NULL, &b), 0);
	/* nft prints an SPI in decimal */
	assert_true(listed("3240314215", "sa_skype"));
	assert_true(listed("3489660927", "sa_quic"));
	assert_int_equal(dump(), 2);
	assert_non_null(find_seen(&a.key));
	assert_non_null(find_seen(&b.key));
	assert_int_equal(find_seen(&a.key)->expires_us, 0);
	assert_int_equal(nft_has_element(nft, &a.key), 1);

	assert_int_equal(apply_one(&a, NULL), 0);
	assert_int_equal(nft_has_element(nft, &a.key), 0);
	assert_false(listed("3240314215", "sa_skype"));
	assert_int_equal(dump(), 1);
	assert_int_equal(nft_apply(nft, NULL, 0, NULL, 0), 0);
}

static bool element_is_gone(void *user)
{
	const struct element *el = user;

	return nft_has_element(nft, &el->key) == 0;
}

static void test_expiry(void **state)
{
	int64_t start = now_us();
	struct element brief = sa(0, 0xc0000001, start + 300000);
	const struct element past = sa(0, 0xc0000002, start - 1);
	const struct element instant = sa(0, 0xc0000004, INT64_C(1));
	struct element both[2];

	(void)state;
	ensure(STEERING_SA);
	both[0] = brief;
	both[1] = past;
	assert_int_equal(nft_apply(nft, NULL, 0, both, 2), 0);
	assert_int_equal(apply_one(NULL, &instant), 0);
	assert_int_equal(nft_has_element(nft, &past.key), 0);
	assert_int_equal(nft_has_element(nft, &instant.key), 0);
	assert_int_equal(dump(), 1);
	assert_true(llabs(find_seen(&brief.key)->expires_us - brief.expires_us) < 50000);
	assert_true(netns_wait(element_is_gone, &brief, 2000));
	assert_true(now_us() - start >= 250000);
	assert_int_equal(dump(), 0);

	/* a changed expiry is a removal and an addition in one transaction */
	brief.expires_us = now_us() + 60000000;
	both[0] = brief;
	assert_int_equal(apply_one(NULL, &both[0]), 0);
	both[0].expires_us += 60000000;
	assert_int_equal(apply_one(&brief, &both[0]), 0);
	assert_int_equal(dump(), 1);
	assert_true(llabs(seen[0].expires_us - both[0].expires_us) < 50000);
	/* less than a millisecond is rounded up: 0 would mean for ever */
	both[1] = sa(0, 0xc0000003, now_us() + 900);
	assert_int_equal(apply_one(NULL, &both[1]), 0);
	assert_true(netns_wait(element_is_gone, &both[1], 1000));
}

/* 5000 elements need several transactions, and several messages in each. */
static void test_many(void **state)
{
	static struct element many[5000];

	(void)state;
	ensure(STEERING_SA);
	for (unsigned i = 0; i < 5000; i++)
		many[i] = sa(i & 1, 0xc0000000 + i, 0);
	assert_int_equal(nft_apply(nft, NULL, 0, many, NFT_BATCH_MAX + 1), -E2BIG);
	assert_int_equal(nft_apply(nft, many, 1, many, NFT_BATCH_MAX), -E2BIG);
	assert_int_equal(nft_apply(nft, many, SIZE_MAX, many, 2), -E2BIG);
	for (unsigned i = 0; i < 5000; i += NFT_BATCH_MAX)
		assert_int_equal(nft_apply(nft, NULL, 0, many + i, NFT_BATCH_MAX), 0);
	assert_int_equal(nft_foreign_commit(nft), 0);
	assert_int_equal(dump(), 5000);
	for (unsigned i = 0; i < 5000; i += 777)
		assert_non_null(find_seen(&many[i].key));
	for (unsigned i = 0; i < 5000; i += NFT_BATCH_MAX)
		assert_int_equal(nft_apply(nft, many + i, NFT_BATCH_MAX, NULL, 0), 0);
	assert_int_equal(dump(), 0);
}

/* The largest transaction there can be: ranges of 16 bytes, in alternating sets. */
static void test_largest_batch(void **state)
{
	static struct element many[NFT_BATCH_MAX];

	(void)state;
	for (unsigned p = 0; p < SETTINGS_PROFILES_MAX; p++) {
		settings.profiles[p] = settings.profiles[1];
		snprintf(settings.profiles[p].name, sizeof(settings.profiles[p].name), "p%023u", p);
	}
	settings.profile_count = SETTINGS_PROFILES_MAX;
	ensure(STEERING_ADDRESS);
	for (unsigned i = 0; i < NFT_BATCH_MAX; i++) {
		many[i] = address(SET_NET6, "2001:db8::", "2001:db8::1");
		many[i].key.profile = (uint8_t)(i % SETTINGS_PROFILES_MAX);
		many[i].key.lo[8] = many[i].key.hi[8] = (uint8_t)(i >> 8);
		many[i].key.lo[9] = many[i].key.hi[9] = (uint8_t)i;
		many[i].expires_us = now_us() + 600000000;
	}
	assert_int_equal(nft_apply(nft, NULL, 0, many, NFT_BATCH_MAX), 0);
	assert_int_equal(dump(), NFT_BATCH_MAX);
	assert_non_null(find_seen(&many[NFT_BATCH_MAX - 1].key));
	assert_int_equal(nft_apply(nft, many, NFT_BATCH_MAX, NULL, 0), 0);
	for (unsigned i = 0; i < NFT_BATCH_MAX; i++)
		many[i].key.profile = 0;
	assert_int_equal(nft_apply(nft, NULL, 0, many, NFT_BATCH_MAX), 0);
	assert_int_equal(dump(), NFT_BATCH_MAX);
}

static void test_ranges(void **state)
{
	const struct element ranges[] = {
		address(SET_NET4, "192.0.2.0", "192.0.2.255"),
		address(SET_NET4, "192.0.3.0", "192.0.3.0"), /* begins where the other ends */
		address(SET_NET4, "198.18.0.1", "198.18.0.9"),
		address(SET_NET4, "255.255.255.0", "255.255.255.255"),
		address(SET_NET6, "2001:db8::1", "2001:db8::ffff"),
		address(SET_NET6, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
			"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
		address(SET_HOST4, "198.51.100.7", NULL),
		address(SET_HOST6, "2001:db8::7", NULL),
	};
	const size_t count = sizeof(ranges) / sizeof(ranges[0]);
	const struct element others[] = {
		address(SET_NET4, "192.0.2.0", "192.0.3.0"),
		address(SET_NET4, "192.0.2.1", "192.0.2.255"),
		address(SET_NET4, "192.0.2.0", "192.0.2.254"),
		address(SET_NET4, "255.255.255.0", "255.255.255.254"),
		address(SET_NET4, "255.255.254.0", "255.255.255.255"),
		address(SET_NET6, "2001:db8::", "2001:db8::ffff"),
		address(SET_HOST4, "198.51.100.8", NULL),
	};

	(void)state;
	ensure(STEERING_ADDRESS);
	assert_int_equal(nft_apply(nft, NULL, 0, ranges, count), 0);
	assert_int_equal(dump(), count);
	for (size_t i = 0; i < count; i++) {
		assert_non_null(find_seen(&ranges[i].key));
		assert_int_equal(nft_has_element(nft, &ranges[i].key), 1);
	}
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		assert_int_equal(nft_has_element(nft, &others[i].key), 0);
	assert_true(listed("198.18.0.1-198.18.0.9", "net4_skype"));
	assert_true(listed("192.0.2.0/24", "net4_skype"));
	assert_true(listed("192.0.3.0", "net4_skype"));
	assert_true(listed("255.255.255.0/24", "net4_skype"));
	assert_true(listed("2001:db8::7", "host6_skype"));
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(apply_one(&ranges[i], NULL), 0);
		assert_int_equal(nft_has_element(nft, &ranges[i].key), 0);
		assert_int_equal(dump(), count - 1 - i);
	}
}

static void test_everything_is_a_range(void **state)
{
	const struct element all4 = address(SET_NET4, "0.0.0.0", "255.255.255.255");
	const struct element all6 = address(SET_NET6,
					    "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
	const struct element inside = address(SET_NET4, "192.0.2.0", "192.0.2.255");

	(void)state;
	ensure(STEERING_ADDRESS);
	assert_int_equal(apply_one(NULL, &all4), 0);
	assert_int_equal(apply_one(NULL, &all6), 0);
	assert_true(listed("0.0.0.0/0", "net4_skype"));
	assert_true(listed("::/0", "net6_skype"));
	assert_int_equal(nft_has_element(nft, &all4.key), 1);
	assert_int_equal(nft_has_element(nft, &inside.key), 0);
	assert_int_equal(dump(), 2);
	assert_non_null(find_seen(&all4.key));
	assert_non_null(find_seen(&all6.key));
	assert_true(apply_one(NULL, &inside) < 0);
	assert_int_equal(apply_one(&all4, &inside), 0);
	assert_int_equal(dump(), 2);
	assert_non_null(find_seen(&inside.key));
}

static bool nothing_left(void *user)
{
	(void)user;
	return dump() == 0;
}

static void test_range_expires(void **state)
{
	struct element el = address(SET_NET4, "192.0.2.0", "192.0.2.255");
	struct element last = address(SET_NET6,
				      "fe80::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
	struct element both[2];

	(void)state;
	ensure(STEERING_ADDRESS);
	el.expires_us = last.expires_us = now_us() + 200000;
	both[0] = el;
	both[1] = last;
	assert_int_equal(nft_apply(nft, NULL, 0, both, 2), 0);
	assert_int_equal(dump(), 2);
	assert_true(llabs(find_seen(&el.key)->expires_us - el.expires_us) < 50000);
	assert_true(netns_wait(nothing_left, NULL, 3000));
	assert_int_equal(nft_has_element(nft, &el.key), 0);
	assert_int_equal(nft_has_element(nft, &last.key), 0);
	both[0].expires_us = both[1].expires_us = 0;
	assert_int_equal(nft_apply(nft, NULL, 0, both, 2), 0);
	assert_int_equal(dump(), 2);
}

static void test_all_or_nothing(void **state)
{
	const struct element present = sa(0, 0xc0000001, 0);
	const struct element absent = sa(0, 0xc0000002, 0);
	const struct element more[] = { sa(0, 0xc0000003, 0), sa(1, 0xc0000004, 0), present };
	struct element invalid = present;

	(void)state;
	ensure(STEERING_SA);
	assert_int_equal(apply_one(NULL, &present), 0);
	assert_int_equal(nft_apply(nft, &absent, 1, more, 2), -ENOENT);
	assert_int_equal(dump(), 1);
	/* an addition of what is there already takes nothing else with it either */
	assert_int_equal(nft_apply(nft, NULL, 0, more, 3), -EEXIST);
	assert_int_equal(dump(), 1);
	assert_int_equal(nft_apply(nft, &present, 1, more, 2), 0);
	assert_int_equal(dump(), 2);
	assert_int_equal(nft_foreign_commit(nft), 0);

	invalid.key.profile = 2;
	assert_int_equal(apply_one(NULL, &invalid), -EINVAL);
	invalid.key.profile = 0;
	invalid.key.set = SET_HOST4;
	assert_int_equal(apply_one(NULL, &invalid), -EINVAL);
	assert_int_equal(nft_has_element(nft, &invalid.key), -EINVAL);
	assert_int_equal(dump(), 2);
}

static void test_full_set(void **state)
{
	const struct element more[] = { sa(0, 1, 0), sa(0, 2, 0), sa(0, 3, 0) };

	(void)state;
	settings.max_child_sas = 2;
	ensure(STEERING_SA);
	assert_int_equal(nft_apply(nft, NULL, 0, more, 3), -ENFILE);
	assert_int_equal(dump(), 0);
	assert_int_equal(nft_apply(nft, NULL, 0, more, 2), 0);
	assert_int_equal(dump(), 2);
}

static bool lease_is_over(void *user)
{
	(void)user;
	return nft_lease_remaining(nft, 0) == 0;
}

static void test_lease(void **state)
{
	int64_t start;
	int left;

	(void)state;
	settings.lease_ms = 400;
	ensure(STEERING_SA);
	assert_int_equal(nft_lease_remaining(nft, 0), 0);
	assert_int_equal(nft_lease_remaining(nft, 2), -EINVAL);
	start = now_us();
	for (unsigned i = 0; i < 50; i++) {
		assert_int_equal(nft_renew(nft, 3), 0);
		left = nft_lease_remaining(nft, 1);
		assert_true(left > 250 && left <= 410);
	}
	assert_int_equal(nft_foreign_commit(nft), 0);
	assert_true(listed("tcp . 443", "svc_skype"));
	assert_true(listed("tcp . 443", "svc_quic"));
	assert_true(listed("udp . 443", "svc_quic"));
	assert_true(netns_wait(lease_is_over, NULL, 3000));
	assert_true(now_us() - start >= 350000);
	assert_false(listed("tcp . 443", "svc_skype"));
}

static void test_withdraw(void **state)
{
	(void)state;
	ensure(STEERING_SA);
	assert_int_equal(nft_renew(nft, UINT32_MAX), 0);
	assert_true(nft_lease_remaining(nft, 0) > 0);
	/* one service missing is no lease, whichever it is */
	assert_int_equal(netns_run("nft delete element inet " TABLE " svc_quic '{ udp . 443 }'"),
			 0);
	assert_int_equal(nft_lease_remaining(nft, 1), 0);
	assert_int_equal(nft_renew(nft, 3), 0);
	assert_true(nft_lease_remaining(nft, 1) > 0);
	assert_int_equal(netns_run("nft delete element inet " TABLE " svc_quic '{ tcp . 443 }'"),
			 0);
	assert_int_equal(nft_lease_remaining(nft, 1), 0);
	assert_int_equal(nft_renew(nft, 1), 0);
	assert_true(nft_lease_remaining(nft, 0) > 0);
	assert_int_equal(nft_lease_remaining(nft, 1), 0);
	assert_false(listed("443", "svc_quic"));
	/* what a stranger put in goes with the next renewal */
	assert_int_equal(netns_run("nft add element inet " TABLE " svc_quic '{ tcp . 80 }'"), 0);
	assert_int_equal(nft_renew(nft, 0), 0);
	assert_int_equal(nft_lease_remaining(nft, 0), 0);
	assert_false(listed("elements", "svc_quic"));
	assert_int_equal(nft_renew(nft, 0), 0);
}

static void reopen(void)
{
	nft_close(nft);
	assert_int_equal(nft_open(&settings, &nft), 0);
}

static bool table_listed(const char *name)
{
	assert_int_equal(netns_read(listing, sizeof(listing), "nft list tables"), 0);
	return strstr(listing, name) != NULL;
}

static void test_adoption(void **state)
{
	const struct element el = sa(0, 0xc0000001, 0);
	static const enum steering_mode modes[] = { STEERING_SA, STEERING_ADDRESS };

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		settings.pinning = i & 1;
		assert_false(ensure(modes[i / 2]));
		reopen();
		assert_true(ensure(modes[i / 2]));
		assert_false(table_listed("_probe"));
		assert_int_equal(nft_check(nft), 1);
		assert_int_equal(nft_foreign_commit(nft), 0);
	}
	assert_false(ensure(STEERING_SA));
	assert_int_equal(apply_one(NULL, &el), 0);
	assert_int_equal(nft_renew(nft, 3), 0);
	reopen();
	assert_true(ensure(STEERING_SA));
	assert_int_equal(nft_has_element(nft, &el.key), 1);
	assert_true(nft_lease_remaining(nft, 0) > 0);
	assert_int_equal(nft_check(nft), 1);
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
	const struct element el = sa(0, 0xc0000001, 0);

	(void)state;
	ensure(STEERING_SA);
	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		if (apply_one(NULL, &el) < 0)
			fail();
		assert_int_equal(nft_check(nft), 1);
		assert_int_equal(nft_foreign_commit(nft), 0);
		assert_int_equal(netns_run("nft '%s'", changes[i]), 0);
		assert_int_equal(nft_foreign_commit(nft), 1);
		assert_int_equal(nft_foreign_commit(nft), 0);
		assert_int_equal(nft_check(nft), 0);
		assert_false(ensure(STEERING_SA));
		assert_int_equal(nft_check(nft), 1);
		assert_int_equal(dump(), 0);
	}
	settings.max_child_sas++;
	assert_false(ensure(STEERING_SA));
	settings.profiles[0].path = 0;
	settings.paths[0].mark = 0x02000000;
	assert_false(ensure(STEERING_SA));
	assert_true(ensure(STEERING_SA));
	assert_false(ensure(STEERING_ADDRESS));
	assert_int_equal(nft_check(nft), 1);
}

static void test_leftover_probe(void **state)
{
	(void)state;
	assert_int_equal(netns_run("nft add table inet " TABLE "_probe"), 0);
	assert_false(ensure(STEERING_SA));
	assert_false(table_listed("_probe"));
	assert_int_equal(netns_run("nft add table inet " TABLE "_probe"), 0);
	assert_true(ensure(STEERING_SA));
	assert_false(table_listed("_probe"));
}

static void test_strangers_flush(void **state)
{
	const struct element el = sa(0, 0xc0000001, 0);

	(void)state;
	ensure(STEERING_SA);
	assert_int_equal(apply_one(NULL, &el), 0);
	assert_int_equal(netns_run("nft flush ruleset"), 0);
	assert_int_equal(nft_foreign_commit(nft), 1);
	assert_int_equal(nft_check(nft), 0);
	assert_int_equal(apply_one(NULL, &el), -ENOENT);
	assert_int_equal(nft_renew(nft, 1), -ENOENT);
	assert_int_equal(nft_lease_remaining(nft, 0), 0);
	assert_int_equal(nft_has_element(nft, &el.key), 0);
	assert_false(ensure(STEERING_SA));
	assert_int_equal(apply_one(NULL, &el), 0);
	assert_int_equal(nft_renew(nft, 1), 0);
	assert_int_equal(nft_foreign_commit(nft), 0);
}

static void test_foreign_commit(void **state)
{
	const struct element el = sa(0, 0xc0000001, 0);

	(void)state;
	ensure(STEERING_SA);
	assert_int_equal(netns_run("nft add table inet other"), 0);
	assert_int_equal(apply_one(NULL, &el), 0);
	assert_int_equal(nft_foreign_commit(nft), 1);
	assert_int_equal(nft_check(nft), 1);
	/* withdrawing nothing changes nothing: it must not hide the commit that comes next */
	assert_int_equal(nft_renew(nft, 0), 0);
	nft_foreign_commit(nft);
	assert_int_equal(nft_renew(nft, 0), 0);
	assert_int_equal(netns_run("nft delete table inet other"), 0);
	assert_int_equal(nft_foreign_commit(nft), 1);
	assert_int_equal(netns_run("nft flush set inet " TABLE " sa_skype"), 0);
	assert_int_equal(nft_foreign_commit(nft), 1);
	assert_int_equal(nft_check(nft), 1);
	assert_int_equal(dump(), 0);
}

static void test_remove(void **state)
{
	(void)state;
	assert_int_equal(nft_remove(nft), 0);
	assert_int_equal(nft_check(nft), 0);
	ensure(STEERING_SA);
	assert_int_equal(netns_run("nft add table inet other"), 0);
	assert_int_equal(nft_foreign_commit(nft), 1);
	assert_int_equal(nft_remove(nft), 0);
	assert_int_equal(nft_foreign_commit(nft), 0);
	assert_false(table_listed(TABLE));
	assert_true(table_listed("other"));
	assert_int_equal(nft_check(nft), 0);
	assert_false(ensure(STEERING_SA));
}

static void test_refused_skeleton(void **state)
{
	const char *error = NULL;
	bool adopted = true;

	(void)state;
	ensure(STEERING_SA);
	assert_true(nft_ensure(nft, STEERING_AUTO, &adopted, &error) < 0);
	assert_non_null(error);
	snprintf(settings.profiles[0].name, sizeof(settings.profiles[0].name), "no name");
	error = NULL;
	assert_int_equal(nft_ensure(nft, STEERING_SA, &adopted, &error), -EIO);
	assert_non_null(error);
	assert_null(strchr(error, '\n'));
	assert_true(strlen(error) > 5);
	assert_true(adopted);
	/* what was there stays */
	assert_int_equal(nft_check(nft), 1);
}

struct flow {
	int server;
	int client;
};

#define OUR_ADDRESS "198.51.100.2"
#define FAR_ADDRESS "203.0.113.10"

/* A neighbour whose connections to anywhere end here, after they have passed our table. */
static int add_far_peer(void)
{
	int peer = netns_add_peer();

	assert_true(peer >= 0);
	assert_int_equal(
		netns_run("nsenter --net=/proc/%d/fd/%d ip route add default via " OUR_ADDRESS,
			  getpid(), peer),
		0);
	assert_int_equal(netns_run("nft 'table ip far { chain nat { type nat hook prerouting "
				   "priority dstnat; ip daddr != " OUR_ADDRESS
				   " dnat to " OUR_ADDRESS "; }; }'"),
			 0);
	return peer;
}

/* A TCP connection from the neighbour to a port of an address. */
static void connect_to(int peer, struct flow *flow, const char *address, uint16_t port)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(port) }, to = at;
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	int one = 1;

	inet_pton(AF_INET, OUR_ADDRESS, &at.sin_addr);
	inet_pton(AF_INET, address, &to.sin_addr);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	assert_int_equal(bind(listener, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(listener, 1), 0);
	flow->client = netns_peer_socket(peer, AF_INET, SOCK_STREAM);
	assert_true(flow->client >= 0);
	assert_int_equal(connect(flow->client, (struct sockaddr *)&to, sizeof(to)), 0);
	flow->server = accept(listener, NULL, NULL);
	assert_true(flow->server >= 0);
	close(listener);
}

static void connect_from(int peer, struct flow *flow, uint16_t port)
{
	connect_to(peer, flow, FAR_ADDRESS, port);
}

static struct nft_counters counters(void)
{
	struct nft_counters now;

	assert_int_equal(nft_read_counters(nft, &now), 0);
	return now;
}

static bool something_denied(void *user)
{
	(void)user;
	return counters().denied_packets > 0;
}

/* Through the whole skeleton: decided by the first packet, checked at each, ended by the lease. */
static void test_packets(void **state)
{
	const struct element host = address(SET_HOST4, "198.51.100.1", NULL);
	struct nft_counters before;
	struct flow early;
	struct flow other;
	struct flow pinned;
	int peer = add_far_peer();

	(void)state;
	settings.lease_ms = 60000;
	snprintf(settings.interface, sizeof(settings.interface), "steer0");
	ensure(STEERING_ADDRESS);
	assert_int_equal(apply_one(NULL, &host), 0);
	connect_from(peer, &early, 443);
	assert_int_equal(counters().first_packets, 0);
	assert_int_equal(nft_renew(nft, 1), 0);

	/* a grant touches no flow that is there already */
	assert_int_equal(write(early.client, "x", 1), 1);
	assert_int_equal(counters().bypassed_packets, 0);
	connect_from(peer, &other, 80);
	assert_int_equal(counters().first_packets, 0);
	connect_from(peer, &pinned, 443);
	before = counters();
	assert_int_equal(before.first_packets, 1);
	assert_true(before.bypassed_packets >= 1);
	assert_int_equal(before.denied_packets, 0);
	assert_int_equal(write(pinned.client, "x", 1), 1);
	assert_true(counters().bypassed_packets > before.bypassed_packets);

	/* what the counters show makes it no other table */
	assert_int_equal(nft_check(nft), 1);
	assert_true(ensure(STEERING_ADDRESS));

	/* withdrawn: the next packet is dropped, and only that flow's */
	before = counters();
	assert_int_equal(nft_renew(nft, 0), 0);
	assert_int_equal(write(pinned.client, "x", 1), 1);
	assert_true(netns_wait(something_denied, NULL, 2000));
	assert_int_equal(counters().bypassed_packets, before.bypassed_packets);
	assert_int_equal(counters().first_packets, 1);
	assert_int_equal(write(early.client, "x", 1), 1);
	close(peer);
	close(early.client), close(early.server);
	close(other.client), close(other.server);
	close(pinned.client), close(pinned.server);
}

/* Where a flow of an exempt tenant goes decides, too. */
static void check_destinations(int peer, const char *const *addresses, const uint16_t *ports,
			       const bool *bypassed, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		struct nft_counters before = counters(), after;
		struct flow flow;

		connect_to(peer, &flow, addresses[i], ports[i]);
		assert_int_equal(write(flow.client, "x", 1), 1);
		after = counters();
		if ((after.first_packets - before.first_packets == 1) != bypassed[i] ||
		    (after.bypassed_packets > before.bypassed_packets) != bypassed[i] ||
		    after.denied_packets != before.denied_packets)
			fail_msg("%s:%u", addresses[i], ports[i]);
		close(flow.client), close(flow.server);
	}
}

static void exempt_peer(void)
{
	const struct element host = address(SET_HOST4, "198.51.100.1", NULL);

	settings.lease_ms = 60000;
	snprintf(settings.interface, sizeof(settings.interface), "steer0");
	assert_false(ensure(STEERING_ADDRESS));
	assert_int_equal(apply_one(NULL, &host), 0);
	assert_int_equal(nft_renew(nft, 1), 0);
}

static void add_listener(const char *text)
{
	struct profile *skype = &settings.profiles[0];
	struct listener *listener = &skype->listeners[skype->listener_count++];

	assert_int_equal(destination_parse_listener(text, &listener->address, &listener->port), 0);
}

static void add_destination(const char *text)
{
	struct profile *skype = &settings.profiles[0];

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
	int peer = add_far_peer();

	(void)state;
	exempt_peer();
	check_destinations(peer, addresses, ports, bypassed, 7);
	/* nor for who sees to the conntrack marks of new flows before us */
	assert_int_equal(netns_run("nft 'table ip early { chain c { type filter hook prerouting "
				   "priority -160; ct state new ct mark set 0x01000000; }; }'"),
			 0);
	check_destinations(peer, addresses, ports, bypassed, 7);
	assert_int_equal(nft_check(nft), 1);
	close(peer);
}

static void test_listed_destinations(void **state)
{
	static const char *const addresses[] = { FAR_ADDRESS,    "203.0.113.255", "203.0.114.0",
						 "198.51.100.7", "198.51.100.8",  OUR_ADDRESS,
						 FAR_ADDRESS };
	static const uint16_t ports[] = { 443, 443, 443, 443, 443, 443, 80 };
	static const bool bypassed[] = { true, true, false, true, false, false, false };
	int peer = add_far_peer();

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
	struct profile *skype = &settings.profiles[0];
	int peer = add_far_peer();

	(void)state;
	add_listener("203.0.113.80:80");
	exempt_peer();
	assert_true(nft_lease_remaining(nft, 0) > 0);
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
	assert_int_equal(nft_renew(nft, 0), 0);
	assert_int_equal(nft_lease_remaining(nft, 0), 0);
	check_destinations(peer, addresses, ports, (const bool[]){ false }, 1);
	close(peer);
}

/* A flow that a former configuration's list let through. */
static void test_list_is_shortened(void **state)
{
	int peer = add_far_peer();
	struct nft_counters before;
	struct flow flow;

	(void)state;
	add_destination("203.0.113.0/24");
	exempt_peer();
	connect_from(peer, &flow, 443);
	assert_int_equal(counters().first_packets, 1);
	settings.profiles[0].destination_count = 0;
	add_destination("203.0.113.0/29");
	exempt_peer();
	before = counters();
	assert_int_equal(write(flow.client, "x", 1), 1);
	assert_true(netns_wait(something_denied, NULL, 2000));
	assert_int_equal(counters().bypassed_packets, before.bypassed_packets);
	close(flow.client), close(flow.server);
	close(peer);
}

/* What is in constant sets makes another table, and strangers cannot change it. */
static void test_constant_sets(void **state)
{
	(void)state;
	add_destination("203.0.113.0/24");
	add_destination("203.0.114.0/24");
	add_destination("198.51.100.7");
	assert_false(ensure(STEERING_SA));
	assert_true(ensure(STEERING_SA));
	assert_int_equal(nft_check(nft), 1);
	assert_true(netns_run("nft add element inet " TABLE " dst4_skype { 192.0.2.0/24 } 2>&-"));
	assert_true(netns_run("nft delete element inet " TABLE
			      " dsthost4_skype { 198.51.100.7 } 2>&-"));
	assert_true(netns_run("nft flush set inet " TABLE " never4 2>&-"));
	assert_int_equal(nft_check(nft), 1);
	/* one address, one prefix or one more */
	settings.profiles[0].destinations[2].lo[3] = settings.profiles[0].destinations[2].hi[3] = 8;
	assert_false(ensure(STEERING_SA));
	settings.profiles[0].destinations[1].lo[2] = settings.profiles[0].destinations[1].hi[2] =
		115;
	assert_false(ensure(STEERING_SA));
	add_destination("198.51.100.9");
	assert_false(ensure(STEERING_SA));
	assert_true(ensure(STEERING_SA));
}

/* The same rules and sets by a stranger's hand, with something else in one set. */
static void test_strangers_constants(void **state)
{
	(void)state;
	add_destination("198.51.100.7");
	assert_false(ensure(STEERING_SA));
	assert_int_equal(netns_run("nft list table inet " TABLE " >/tmp/test_nft.$$ && "
				   "sed -i s/198.51.100.7/198.51.100.6/ /tmp/test_nft.$$ && "
				   "nft delete table inet " TABLE " && nft -f /tmp/test_nft.$$; "
				   "r=$?; rm /tmp/test_nft.$$; exit $r"),
			 0);
	assert_int_equal(nft_check(nft), 0);
	assert_false(ensure(STEERING_SA));
	assert_int_equal(nft_check(nft), 1);
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
		_exit(nft_open(&settings, &other) == -EPERM && other == NULL ? 0 : 2);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

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
