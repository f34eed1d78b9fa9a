/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Many address ranges, and the question whether an address is in one of them, in a time that does
 * not depend on their number. A range is kept as the prefixes it is made of: one, almost always.
 * Ranges may overlap, and one may be in it several times. Not thread-safe.
 */
#ifndef TENANT_STEER_PREFIXES_H
#define TENANT_STEER_PREFIXES_H

#include <stdbool.h>
#include <stdint.h>

#include "settings/address_range.h"

/* Bytes only, so that it can be a key as it is; what comes behind the length is 0. */
struct prefix_key {
	uint8_t six; /* IPv6 */
	uint8_t length;
	uint8_t address[16];
};

/* Call back with each prefix that the range is made of, ascending, until it says false. Returns what it
 * said last. */
bool prefixes_each(const struct address_range *range,
		   bool (*each)(void *user, const struct prefix_key *key), void *user);

/* The prefix of this length, no longer than its own, that holds the prefix. */
struct prefix_key prefixes_wider(const struct prefix_key *key, unsigned length);

struct prefixes;

/* NULL: no memory. */
struct prefixes *prefixes_new(void);
/* Takes NULL. */
void prefixes_free(struct prefixes *prefixes);

/* Without memory the range, or a part of it, is not kept. */
void prefixes_add(struct prefixes *prefixes, const struct address_range *range);
/* Undo one prefixes_add() of this very range; one that is not there is ignored. */
void prefixes_remove(struct prefixes *prefixes, const struct address_range *range);

/* Is all of the range kept? Exact for a single address; for a larger range, false does not say
 * that a part is missing: several ranges might cover it together. */
bool prefixes_cover(struct prefixes *prefixes, const struct address_range *range);

#endif
