/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where a bypassed flow may go: prefixes and listeners as steerd.conf writes them, and what is
 * never a destination, whoever asks for it. Pure, any thread.
 */
#ifndef TENANT_STEER_DESTINATIONS_H
#define TENANT_STEER_DESTINATIONS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "address_range.h"

/* The longest text of a prefix or listener: "[ADDRESS]:65535" and its NUL. */
#define DESTINATION_TEXT_MAX (INET6_ADDRSTRLEN + 8)

/* A prefix that is no destination of the internet. */
struct reserved_prefix {
	const char *prefix; /* as nft and destination_parse() take it */
	const char *what;   /* "private" */
	const char *source; /* the document that says so */
};

/*
 * Private, shared, link-local, loopback, multicast and the other addresses that mean something on
 * one network only; disjoint, ascending, IPv4 first. Not among them: what documents and laboratories
 * use (RFC 5737, RFC 3849, RFC 2544).
 */
extern const struct reserved_prefix reserved_prefixes[];
extern const unsigned reserved_prefix_count;

bool reserved_prefix_is_ipv4(const struct reserved_prefix *reserved);

/*
 * "203.0.113.0/24", "203.0.113.10" or the same of IPv6. 0, -EINVAL: is none, or -ERANGE: bits are
 * set behind the length; then *ret_range is the prefix that was probably meant.
 */
int destination_parse(const char *text, struct address_range *ret_range);

/* "203.0.113.80:80" or "[2001:db8::80]:80"; the range has one address. 0 or -EINVAL. */
int destination_parse_listener(const char *text, struct address_range *ret_range,
			       uint16_t *ret_port);

/* A prefix, or an address if it has only one. */
void destination_text(const struct address_range *range, char text[DESTINATION_TEXT_MAX]);
void destination_listener_text(const struct address_range *range, uint16_t port,
			       char text[DESTINATION_TEXT_MAX]);

bool destination_is_single(const struct address_range *range);
bool destinations_overlap(const struct address_range *a, const struct address_range *b);
/* Is every address of b one of a? */
bool destination_holds(const struct address_range *a, const struct address_range *b);

/* The reserved prefix that has an address in common with it, or NULL. */
const struct reserved_prefix *destination_reserved(const struct address_range *range);

#endif
