/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What an exception covers: a part of its tenant, and the destinations that it is limited to.
 *
 * The part is written as one of
 *     tenant            all of it
 *     host ADDRESS      one inner address
 *     prefix NETWORK    the inner addresses of a network, "198.18.1.0/24", without host bits
 *     user IDENTITY     the child SAs whose authenticated identity is this, byte for byte; it is what
 *                       charon's plugin says as `identity`, and what the tenant was made from
 * and the destinations as "" (any) or networks with commas between them.
 *
 * Both have one canonical form, so that two texts mean the same exactly if they are the same:
 * addresses as inet_ntop(3) writes them; a prefix of full length is its address; destinations in order,
 * IPv4 first, without those that are within another one.
 *
 * Addresses that no packet of a tenant comes from (unspecified, loopback, link-local, multicast), or
 * that are never a destination (destinations.h), are refused, and so are networks that hold some.
 *
 * A scope never changes once it is made. NULL, everywhere a scope is taken or given, is all of a
 * tenant to any destination, which costs nothing. Any thread.
 */
#ifndef TENANT_STEER_SCOPE_H
#define TENANT_STEER_SCOPE_H

#include <stdbool.h>

#include "settings/address_range.h"

#define SCOPE_DESTINATIONS_MAX 16
/* So that the text fits into a record (RECORD_TEXT_MAX). */
#define SCOPE_IDENTITY_MAX 247
/* Buffers for the canonical texts. */
#define SCOPE_TEXT_MAX (8 + SCOPE_IDENTITY_MAX + 1)
#define SCOPE_NETWORK_MAX 56
#define SCOPE_DESTINATIONS_TEXT_MAX (SCOPE_DESTINATIONS_MAX * SCOPE_NETWORK_MAX)
#define SCOPE_ERROR_MAX 256

enum scope_kind { SCOPE_TENANT, SCOPE_HOST, SCOPE_PREFIX, SCOPE_USER };

struct scope {
	enum scope_kind kind;
	unsigned destination_count; /* 0: any */
	struct address_range range; /* host and prefix */
	const char *identity;       /* user, in the same block; "" otherwise */
	struct address_range destinations[];
};

/*
 * Read both texts; NULL or "" for the scope is "tenant", NULL for the destinations any. *ret_scope is
 * a new scope, or NULL for all of the tenant to any destination. On failure it is untouched and
 * error is a sentence that names what is wrong and what was expected: -EINVAL, -ENOMEM.
 */
int scope_parse(const char *scope, const char *destinations, struct scope **ret_scope,
		char error[SCOPE_ERROR_MAX]);
void scope_free(struct scope *scope); /* takes NULL */

/* The canonical texts. */
void scope_text(const struct scope *scope, char buf[SCOPE_TEXT_MAX]);
void scope_destinations_text(const struct scope *scope, char buf[SCOPE_DESTINATIONS_TEXT_MAX]);

/* An order: 0 exactly for two that cover the same. */
int scope_compare(const struct scope *a, const struct scope *b);

#endif
