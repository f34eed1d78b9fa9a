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

#include <arpa/inet.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "netns.h"
#include "nft.h"

#define TABLE "steerd"
#define SEEN_MAX 8192
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static struct settings settings;
static struct nft *nft;
static struct element seen[SEEN_MAX];
static size_t seen_count;

static void fill_settings(void)
{
	settings = (struct settings){
		.mark_mask = 0x0f000000,
		.max_child_sas = 6000,
		.pinning = true,
		.lease_ms = 60000,
		.interface = "steer0",
		.nft_table = TABLE,
		.path_count = 1,
		.profile_count = 2,
	};
	settings.paths[0] = (struct path){
		.name = "bypass", .mark = 0x01000000, .reply_mark = 0x09000000, .table = 5443
	};
	for (unsigned p = 0; p < 2; p++) {
		settings.profiles[p].service_count = 1;
		settings.profiles[p].services[0] = (struct service){ IPPROTO_TCP, 443 };
	}
	strcpy(settings.profiles[0].name, "skype");
	strcpy(settings.profiles[1].name, "quic");
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

static void ensure(enum steering_mode mode)
{
	const char *error;
	bool adopted;

	assert_int_equal(nft_ensure(nft, mode, &adopted, &error), 0);
}

static int64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

/* NULL: the element's set has no such field. */
static struct element element(unsigned set, uint32_t spi, const char *lo, const char *hi,
			      const char *dst_lo, const char *dst_hi)
{
	const struct element_shape *shape = element_shape(set);
	struct element el = { .key = { .set = (uint8_t)set } };
	const char *const texts[] = { lo, hi, dst_lo, dst_hi };
	uint8_t *const to[] = { el.key.lo, el.key.hi, el.key.dst_lo, el.key.dst_hi };
	const uint32_t wire = htonl(spi);

	if (shape->spi)
		memcpy(el.key.spi, &wire, sizeof(wire));
	if (!shape->family)
		memcpy(el.key.lo, &wire, sizeof(wire));
	for (unsigned i = 0; i < 4; i++)
		if (texts[i])
			assert_int_equal(inet_pton(shape->family, texts[i], to[i]), 1);
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

static const struct element *find_seen(const struct element *el)
{
	for (size_t i = 0; i < seen_count; i++)
		if (!memcmp(&seen[i].key, &el->key, sizeof(el->key)))
			return &seen[i];
	return NULL;
}

static int apply_one(const struct element *removal, const struct element *addition)
{
	return nft_apply(nft, removal, removal != NULL, addition, addition != NULL);
}

static bool listed(const char *what, const char *set)
{
	static char listing[1 << 16];

	assert_int_equal(
		netns_read(listing, sizeof(listing), "nft list set inet " TABLE " %s", set), 0);
	return strstr(listing, what) != NULL;
}

static void in_and_out(const struct element *elements, size_t count)
{
	assert_int_equal(nft_apply(nft, NULL, 0, elements, count), 0);
	assert_int_equal(dump(), count);
	for (size_t i = 0; i < count; i++) {
		assert_non_null(find_seen(&elements[i]));
		assert_int_equal(find_seen(&elements[i])->expires_us, 0);
		assert_int_equal(nft_has_element(nft, &elements[i].key), 1);
		assert_int_equal(nft_holds(nft, &elements[i].key), 1);
	}
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(apply_one(&elements[i], NULL), 0);
		assert_int_equal(nft_has_element(nft, &elements[i].key), 0);
		assert_int_equal(nft_holds(nft, &elements[i].key), 0);
		assert_int_equal(dump(), count - 1 - i);
	}
}

#define ALL4 "0.0.0.0", "255.255.255.255"
#define ALL6 "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"

static void test_sa_mode(void **state)
{
	struct element all[] = {
		element(SET_SA, 0xc0000001, NULL, NULL, NULL, NULL),
		element(SET_PART, 0xc0000001, NULL, NULL, NULL, NULL),
		element(SET_PART_HOST4, 0xc0000001, "198.18.1.5", NULL, NULL, NULL),
		element(SET_PART_HOST4, 0xc0000002, "198.18.1.5", NULL, NULL, NULL),
		element(SET_PART_HOST6, 0xc0000001, "2001:db8::5", NULL, NULL, NULL),
		element(SET_PART_NET4, 0xc0000001, "198.18.1.0", "198.18.1.255", ALL4),
		element(SET_PART_NET4, 0xc0000002, "198.18.1.0", "198.18.1.255", ALL4),
		element(SET_PART_NET4, 0xc0000003, ALL4, "203.0.113.0", "203.0.113.127"),
		element(SET_PART_NET4, 0xc0000003, ALL4, "203.0.113.128", "255.255.255.255"),
		element(SET_PART_NET4, 0xc0000004, "198.18.1.5", "198.18.1.5", "192.0.2.1",
			"192.0.2.1"),
		element(SET_PART_NET6, 0xc0000001, ALL6, ALL6),
		element(SET_PART_NET6, 0xc0000002, "2001:db8::3", "2001:db8::77",
			"2001:db8:1::", "2001:db8:1:ffff:ffff:ffff:ffff:ffff"),
	};

	(void)state;
	all[3].key.profile = all[8].key.profile = 1;
	ensure(STEERING_SA);
	assert_int_equal(nft_apply(nft, NULL, 0, all, COUNT(all)), 0);
	assert_true(listed("3221225473 . 198.18.1.5", "sah4_skype"));
	assert_true(listed("3221225473 . 198.18.1.0/24 . 0.0.0.0/0", "san4_skype"));
	assert_true(listed("3221225476 . 198.18.1.5 . 192.0.2.1", "san4_skype"));
	assert_true(listed("203.0.113.128-255.255.255.255", "san4_quic"));
	assert_true(listed("3221225473", "sas_skype"));
	assert_int_equal(nft_apply(nft, all, COUNT(all), NULL, 0), 0);
	assert_int_equal(nft_foreign_commit(nft), 0);
	in_and_out(all, COUNT(all));
}

static void test_address_mode(void **state)
{
	struct element all[] = {
		element(SET_HOST4, 0, "198.18.1.5", NULL, NULL, NULL),
		element(SET_NET4, 0, "198.18.1.3", "198.18.1.9", NULL, NULL),
		element(SET_PAIR4, 0, "198.18.1.0", "198.18.1.255", "203.0.113.0", "203.0.113.255"),
		element(SET_PAIR4, 0, "198.18.2.7", "198.18.2.7", ALL4),
		element(SET_PAIR6, 0, "2001:db8::", "2001:db8::ffff", ALL6),
	};

	(void)state;
	all[3].key.profile = 1;
	ensure(STEERING_ADDRESS);
	in_and_out(all, COUNT(all));
	all[0] = element(SET_PART, 1, NULL, NULL, NULL, NULL);
	assert_int_equal(apply_one(NULL, &all[0]), -EINVAL);
}

/* An element that holds a packet is not thereby the one that was asked for. */
static void test_holds(void **state)
{
	const struct element net = element(SET_PART_NET4, 0xc0000001, "198.18.1.3", "198.18.1.9",
					   "203.0.113.0", "203.0.113.255");
	const struct element range = element(SET_NET4, 0, "198.18.1.3", "198.18.1.9", NULL, NULL);
	const struct element others[] = {
		element(SET_PART_NET4, 0xc0000001, "198.18.1.3", "198.18.1.9", "203.0.113.0",
			"203.0.113.254"),
		element(SET_PART_NET4, 0xc0000001, "198.18.1.4", "198.18.1.9", "203.0.113.0",
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
	ensure(STEERING_SA);
	assert_int_equal(apply_one(NULL, &net), 0);
	for (size_t i = 0; i < COUNT(others); i++)
		assert_int_equal(nft_has_element(nft, &others[i].key), 0);
	for (size_t i = 0; i < COUNT(packets); i++) {
		const struct element packet = element(SET_PART_NET4, packets[i].spi,
						      packets[i].source, NULL,
						      packets[i].destination, NULL);

		assert_int_equal(nft_holds(nft, &packet.key), packets[i].held);
	}
	ensure(STEERING_ADDRESS);
	assert_int_equal(apply_one(NULL, &range), 0);
	for (size_t i = 0; i < COUNT(packets); i++) {
		const struct element packet = element(SET_NET4, 0, packets[i].source, NULL, NULL,
						      NULL);
		const bool inside = strcmp(packets[i].source, "198.18.1.10") != 0 &&
				    strcmp(packets[i].source, "198.18.1.2") != 0;

		assert_int_equal(nft_holds(nft, &packet.key), inside);
	}
}

/* The reason why boxes are cut; and a batch that replaces some need not care. */
static void test_overlaps(void **state)
{
	const struct element large = element(SET_PART_NET4, 0xc0000001, "198.18.1.0",
					     "198.18.1.255", ALL4);
	const struct element small[] = {
		element(SET_PART_NET4, 0xc0000001, "198.18.1.0", "198.18.1.127", ALL4),
		element(SET_PART_NET4, 0xc0000001, "198.18.1.128", "198.18.1.255", "203.0.113.0",
			"203.0.113.255"),
	};

	(void)state;
	ensure(STEERING_SA);
	assert_int_equal(apply_one(NULL, &large), 0);
	assert_true(apply_one(NULL, &large) < 0);
	assert_true(apply_one(NULL, &small[0]) < 0);
	assert_true(apply_one(NULL, &small[1]) < 0);
	assert_int_equal(dump(), 1);
	assert_int_equal(nft_apply(nft, &large, 1, small, 2), 0);
	assert_int_equal(dump(), 2);
	assert_int_equal(nft_apply(nft, small, 2, &large, 1), 0);
	assert_int_equal(dump(), 1);
}

static bool nothing_left(void *user)
{
	(void)user;
	return dump() == 0;
}

static void test_expiry(void **state)
{
	struct element both[] = {
		element(SET_PART_HOST4, 0xc0000001, "198.18.1.5", NULL, NULL, NULL),
		element(SET_PART_NET4, 0xc0000001, "198.18.1.0", "198.18.1.255", ALL4),
	};

	(void)state;
	ensure(STEERING_SA);
	for (unsigned i = 0; i < 2; i++)
		both[i].expires_us = now_us() + 300000;
	assert_int_equal(nft_apply(nft, NULL, 0, both, 2), 0);
	assert_int_equal(dump(), 2);
	for (unsigned i = 0; i < 2; i++)
		assert_true(llabs(find_seen(&both[i])->expires_us - both[i].expires_us) < 50000);
	assert_true(netns_wait(nothing_left, NULL, 3000));
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(nft_holds(nft, &both[i].key), 0);
		both[i].expires_us = 0;
	}
	/* expired ones are in nobody's way */
	assert_int_equal(nft_apply(nft, NULL, 0, both, 2), 0);
	assert_int_equal(dump(), 2);
}

/* As many as are ever wanted, in the largest transactions there can be. */
static void test_many(void **state)
{
	static struct element many[ELEMENTS_INTERVALS_MAX];

	(void)state;
	ensure(STEERING_SA);
	for (unsigned i = 0; i < COUNT(many); i++) {
		many[i] = element(SET_PART_NET6, 0xc0000000 + i, "2001:db8::", "2001:db8::1", ALL6);
		many[i].expires_us = now_us() + 600000000;
	}
	for (unsigned i = 0; i < COUNT(many); i += NFT_BATCH_MAX)
		assert_int_equal(nft_apply(nft, NULL, 0, many + i,
					   COUNT(many) - i < NFT_BATCH_MAX ? COUNT(many) - i
									   : NFT_BATCH_MAX),
				 0);
	assert_int_equal(dump(), COUNT(many));
	for (unsigned i = 0; i < COUNT(many); i += 77)
		assert_non_null(find_seen(&many[i]));
	for (unsigned i = 0; i < 500; i++) {
		many[500 + i] = many[i];
		many[500 + i].expires_us += 1000000;
	}
	assert_int_equal(nft_apply(nft, many, 500, many + 500, 500), 0);
	assert_int_equal(dump(), COUNT(many));
}

/* A neighbour whose connections to anywhere end here, after they have passed our table. */
static int add_far_peer(void)
{
	int peer = netns_add_peer();

	assert_true(peer >= 0);
	assert_int_equal(
		netns_run("nsenter --net=/proc/%d/fd/%d ip route add default via 198.51.100.2",
			  getpid(), peer),
		0);
	assert_int_equal(netns_run("nft 'table ip far { chain nat { type nat hook prerouting "
				   "priority dstnat; dnat to 198.51.100.2; }; }'"),
			 0);
	return peer;
}

static int connect_from(int peer, const char *to, uint16_t port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct sockaddr_in own = address;
	int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1, client;

	inet_pton(AF_INET, to, &address.sin_addr);
	inet_pton(AF_INET, "198.51.100.2", &own.sin_addr);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	assert_int_equal(bind(listener, (struct sockaddr *)&own, sizeof(own)), 0);
	assert_int_equal(listen(listener, 1), 0);
	client = netns_peer_socket(peer, AF_INET, SOCK_STREAM);
	assert_true(client >= 0);
	assert_int_equal(connect(client, (struct sockaddr *)&address, sizeof(address)), 0);
	close(listener);
	return client;
}

static uint64_t first_packets(void)
{
	struct nft_counters now;

	assert_int_equal(nft_read_counters(nft, &now), 0);
	return now.first_packets;
}

/* Real packets: of the service, to the destination, from the source. */
static void test_packets(void **state)
{
	const struct element pair = element(SET_PAIR4, 0, "198.51.100.1", "198.51.100.1",
					    "203.0.113.3", "203.0.113.3");
	const struct element elsewhere = element(SET_PAIR4, 0, "198.51.100.4", "198.51.100.9",
						 ALL4);
	int peer = add_far_peer(), flows[4];

	(void)state;
	ensure(STEERING_ADDRESS);
	assert_int_equal(nft_renew(nft, 3), 0);
	assert_int_equal(apply_one(NULL, &pair), 0);
	assert_int_equal(apply_one(NULL, &elsewhere), 0);
	flows[0] = connect_from(peer, "203.0.113.2", 443);
	flows[1] = connect_from(peer, "203.0.113.3", 80);
	assert_int_equal(first_packets(), 0);
	flows[2] = connect_from(peer, "203.0.113.3", 443);
	assert_int_equal(first_packets(), 1);
	assert_int_equal(apply_one(&pair, NULL), 0);
	flows[3] = connect_from(peer, "203.0.113.3", 443);
	assert_int_equal(first_packets(), 1);
	for (unsigned i = 0; i < COUNT(flows); i++)
		close(flows[i]);
	close(peer);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_sa_mode),  TEST(test_address_mode), TEST(test_holds),
		TEST(test_overlaps), TEST(test_expiry),       TEST(test_many),
		TEST(test_packets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
