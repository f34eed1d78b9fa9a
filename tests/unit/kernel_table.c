/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "kernel_table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "netns.h"

#define LISTING_MAX (1u << 20)
/* The kernel may say an element twice or leave one out (nft.h). */
#define LOOKS_MAX 10

struct kernel_table table;

void table_default_settings(void)
{
	struct settings *settings = &table.settings;

	*settings = (struct settings){
		.mark_mask = 0x0f000000,
		.max_child_sas = 6000,
		.pinning = true,
		.lease_ms = 3000,
		.interface = "lo",
		.nft_table = TABLE,
		.path_count = 1,
		.profile_count = 2,
	};
	settings->paths[0] = (struct path){
		.name = "bypass", .mark = 0x01000000, .reply_mark = 0x09000000, .table = 5443
	};
	settings->profiles[0] = (struct profile){ .name = "skype", .service_count = 1 };
	settings->profiles[0].services[0] = (struct service){ IPPROTO_TCP, 443 };
	settings->profiles[1] = (struct profile){ .name = "quic", .service_count = 2 };
	settings->profiles[1].services[0] = (struct service){ IPPROTO_TCP, 443 };
	settings->profiles[1].services[1] = (struct service){ IPPROTO_UDP, 443 };
}

int table_open(void)
{
	int err = netns_enter();

	return err < 0 ? err : nft_open(&table.settings, &table.nft);
}

int table_setup(void **state)
{
	(void)state;
	table_default_settings();
	return table_open();
}

int table_teardown(void **state)
{
	(void)state;
	nft_close(table.nft);
	table.nft = NULL;
	return 0;
}

bool table_ensure(enum steering_mode mode)
{
	const char *error;
	bool adopted;

	assert_int_equal(nft_ensure(table.nft, mode, &adopted, &error), 0);
	assert_null(error);
	return adopted;
}

struct element table_element(unsigned set, uint32_t spi, const char *lo, const char *hi,
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

struct element table_sa(unsigned profile, uint32_t spi, int64_t expires_us)
{
	struct element el = table_element(SET_SA, spi, NULL, NULL, NULL, NULL);

	el.key.profile = (uint8_t)profile;
	el.expires_us = expires_us;
	return el;
}

struct element table_address(unsigned set, const char *lo, const char *hi)
{
	return table_element(set, 0, lo, hi, NULL, NULL);
}

int table_apply_one(const struct element *removal, const struct element *addition)
{
	return nft_apply(table.nft, removal, removal != NULL, addition, addition != NULL);
}

static void keep(const struct element *el, void *user)
{
	assert_ptr_equal(user, &table);
	assert_true(table.seen_count < TABLE_SEEN_MAX);
	table.seen[table.seen_count++] = *el;
}

static int compare(const void *a, const void *b)
{
	return memcmp(&((const struct element *)a)->key, &((const struct element *)b)->key,
		      sizeof(struct element_key));
}

/* Did the look before this one, which was there in before, find the same, and this one nothing twice? */
static bool confirms(const struct element *before, size_t before_count)
{
	bool same = table.seen_count == before_count;

	for (size_t i = 0; i < table.seen_count && same; i++)
		same = compare(&table.seen[i], &before[i]) == 0 &&
		       (i == 0 || compare(&table.seen[i], &table.seen[i - 1]) != 0);
	return same;
}

size_t table_dump(void)
{
	static struct element before[TABLE_SEEN_MAX];
	size_t before_count;

	for (unsigned i = 0; i < LOOKS_MAX; i++) {
		before_count = i == 0 ? SIZE_MAX : table.seen_count;
		memcpy(before, table.seen, table.seen_count * sizeof(*before));
		table.seen_count = 0;
		assert_int_equal(nft_each_element(table.nft, keep, &table), 0);
		qsort(table.seen, table.seen_count, sizeof(*table.seen), compare);
		if (confirms(before, before_count))
			return table.seen_count;
	}
	fail_msg("what the kernel holds changes with each look");
	return 0;
}

bool table_is_empty(void *unused)
{
	(void)unused;
	return table_dump() == 0;
}

const struct element *table_find_seen(const struct element_key *key)
{
	for (size_t i = 0; i < table.seen_count; i++)
		if (memcmp(&table.seen[i].key, key, sizeof(*key)) == 0)
			return &table.seen[i];
	return NULL;
}

bool table_set_lists(const char *set, const char *what)
{
	static char listing[LISTING_MAX];

	assert_int_equal(
		netns_read(listing, sizeof(listing), "nft list set inet " TABLE " %s", set), 0);
	return strstr(listing, what) != NULL;
}

struct nft_counters table_counters(void)
{
	struct nft_counters now;

	assert_int_equal(nft_read_counters(table.nft, &now), 0);
	return now;
}

int table_add_far_peer(void)
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

void table_connect(int peer, struct flow *flow, const char *address, uint16_t port)
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

void table_disconnect(const struct flow *flow)
{
	close(flow->client);
	close(flow->server);
}
