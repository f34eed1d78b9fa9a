/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A network namespace of the test's own, so that tests use the real kernel and disturb nobody.
 * Needs no root where user namespaces are allowed.
 */
#ifndef TENANT_STEER_TEST_NETNS_H
#define TENANT_STEER_TEST_NETNS_H

#include <stdbool.h>
#include <stdint.h>

/* Move the calling process (single-threaded) into a fresh one and bring lo up. 0 or -errno. */
int netns_enter(void);

/*
 * Make a neighbour: a second namespace, linked with this one by a veth pair, "steer0" here with
 * 198.51.100.2/24 and 2001:db8::2/64, "peer0" there with .1 and ::1. Its file descriptor or -errno.
 */
int netns_add_peer(void);

/* A socket that lives in the neighbour's namespace. */
int netns_peer_socket(int peer, int domain, int type);

/* Give the neighbour one more address, of 198.51.100.0/24 or 2001:db8::/64. As netns_run(). */
int netns_add_peer_address(int peer, const char *address);

/*
 * Send a datagram of NETNS_DATA bytes from the neighbour: from an address of its own and a port (0: any)
 * to a port of this side's address of the same family. 0 or -errno.
 */
#define NETNS_DATA 5
int netns_peer_send(int peer, const char *from, uint16_t from_port, uint16_t to_port);

/*
 * netns_enter() and netns_add_peer(), and conntrack follows what comes in, with counters, and gives its
 * entries marks: rules are nft(8)'s, such as "udp dport 443 ct mark set 1;". The neighbour or -errno.
 */
int netns_enter_marking(const char *rules);

/* Run a shell command made as by printf; its exit status, or -1. Output goes to stderr. */
int netns_run(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Run a command and keep the start of its standard output. 0, or -1 if it failed. */
int netns_read(char *buf, unsigned size, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/*
 * Wait until the kernel has seen that a link is up: it may take its time (linkwatch is rate-limited
 * for the whole machine), and IPv6 does not work before.
 */
bool netns_wait_link(const char *name);

/* Poll until check(user) is true; false when it is not within timeout_ms. */
bool netns_wait(bool (*check)(void *), void *user, int64_t timeout_ms);

#endif
