/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * steerd's nft table in the real kernel, in a network namespace of its own for each test; packets that
 * go through it; and what is in it. One at a time. What fails in here fails the test. Needs netns.c.
 */
#ifndef TENANT_STEER_TEST_KERNEL_TABLE_H
#define TENANT_STEER_TEST_KERNEL_TABLE_H

#include "kernel/nft.h"

#define TABLE "steerd"
/* Elements that a dump may find. */
#define TABLE_SEEN_MAX 8192
/* Where the packets of the neighbour (netns_add_peer()) come in, and from where to where they go. */
#define TABLE_INTERFACE "steer0"
#define PEER_ADDRESS "198.51.100.1"
#define OUR_ADDRESS "198.51.100.2"
#define FAR_ADDRESS "203.0.113.10"
/* Ends of a range that is everything. */
#define ALL4 "0.0.0.0", "255.255.255.255"
#define ALL6 "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"

struct kernel_table {
	struct settings settings;
	struct nft *nft;
	struct element seen[TABLE_SEEN_MAX]; /* by the last table_dump() */
	size_t seen_count;
};

extern struct kernel_table table;

/* One path; profiles skype (tcp/443) and quic (tcp/443, udp/443); pinning, a lease of 3 s, interface lo. */
void table_default_settings(void);
/* A fresh namespace without the table. 0 or -errno. */
int table_open(void);
/* Before and after each test, for cmocka: the two above, and nft_close(). */
int table_setup(void **state);
int table_teardown(void **state);

/* nft_ensure(), which must do it; was it adopted? */
bool table_ensure(enum steering_mode mode);

/* An element of the first profile, without an end; NULL or 0: its set has no such field. */
struct element table_element(unsigned set, uint32_t spi, const char *lo, const char *hi,
			     const char *dst_lo, const char *dst_hi);
/* One of SET_SA. expires_us: CLOCK_BOOTTIME, or 0. */
struct element table_sa(unsigned profile, uint32_t spi, int64_t expires_us);
/* One of addresses: a range, or a host when hi is NULL. */
struct element table_address(unsigned set, const char *lo, const char *hi);

/* nft_apply() of at most one of each; NULL: none. */
int table_apply_one(const struct element *removal, const struct element *addition);

/* Read all elements back into table.seen, as often as it takes until two looks agree, in the order of their
 * keys; how many. */
size_t table_dump(void);
/* For netns_wait(): is there no element? */
bool table_is_empty(void *unused);
/* Of the last dump, or NULL. */
const struct element *table_find_seen(const struct element_key *key);
/* Does nft(8) name it in its listing of the set? */
bool table_set_lists(const char *set, const char *what);

struct nft_counters table_counters(void);

/*
 * A neighbour whose connections to anywhere end here, after they have passed the table. Its file
 * descriptor, as netns_add_peer()'s; the caller closes it.
 */
int table_add_far_peer(void);

/* A TCP connection of the neighbour's. */
struct flow {
	int server;
	int client;
};

void table_connect(int peer, struct flow *flow, const char *address, uint16_t port);
void table_disconnect(const struct flow *flow);

#endif
