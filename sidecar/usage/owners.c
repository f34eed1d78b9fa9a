/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "owners.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "kernel/prefixes.h"

#define BITS_MAX 128

/* One tenant's claim to a prefix, by so many ranges. */
struct claim {
	struct tenant *tenant;
	struct claim *next;
	unsigned count;
};

/* There are as many as ranges, and hardly one is claimed by a second tenant. */
struct place {
	UT_hash_handle hh;
	struct claim first;
	uint8_t key[]; /* as much of a struct prefix_key as key_size() says */
};

struct owners {
	struct place *places;
	size_t with_length[2][BITS_MAX + 1]; /* so that only lengths in use are looked for */
	size_t unknown;                      /* child SAs with a selector that could not be read */
	bool incomplete;                     /* there was no memory */
};

/* What prefixes_each() needs to know. */
struct placing {
	struct owners *owners;
	struct tenant *tenant;
};

struct owners *owners_new(void)
{
	return calloc(1, sizeof(struct owners));
}

/* What is behind an IPv4 address is 0 in all of them. */
static size_t key_size(const struct prefix_key *key)
{
	return offsetof(struct prefix_key, address) + (key->six ? 16 : 4);
}

static size_t *with_length(struct owners *owners, const struct place *place)
{
	struct prefix_key key;

	memcpy(&key, place->key, offsetof(struct prefix_key, address));
	return &owners->with_length[key.six][key.length];
}

static void drop(struct owners *owners, struct place *place)
{
	--*with_length(owners, place);
	HASH_DELETE(hh, owners->places, place); /* NOLINT: uthash */
	free(place);
}

void owners_free(struct owners *owners)
{
	struct place *place, *next;

	if (!owners)
		return;
	HASH_ITER(hh, owners->places, place, next) {
		for (struct claim *claim = place->first.next, *after; claim; claim = after) {
			after = claim->next;
			free(claim);
		}
		drop(owners, place);
	}
	free(owners);
}

static struct place *find(const struct owners *owners, const struct prefix_key *key)
{
	struct place *place;

	HASH_FIND(hh, owners->places, key, key_size(key), place); /* NOLINT: uthash */
	return place;
}

static bool add(struct owners *owners, const struct prefix_key *key, struct tenant *tenant)
{
	const size_t size = key_size(key);
	struct place *place = malloc(sizeof(*place) + size);

	if (!place)
		return false;
	place->first = (struct claim){ tenant, NULL, 1 };
	memcpy(place->key, key, size);
	HASH_ADD_KEYPTR(hh, owners->places, place->key, size, place);
	++*with_length(owners, place);
	return true;
}

static struct claim *find_claim(struct place *place, const struct tenant *tenant)
{
	struct claim *claim = &place->first;

	while (claim && claim->tenant != tenant)
		claim = claim->next;
	return claim;
}

static bool add_claim(struct place *place, struct tenant *tenant)
{
	struct claim *claim = malloc(sizeof(*claim));

	if (!claim)
		return false;
	*claim = (struct claim){ tenant, place->first.next, 1 };
	place->first.next = claim;
	return true;
}

static bool claim(void *user, const struct prefix_key *key)
{
	const struct placing *placing = user;
	struct place *place = find(placing->owners, key);
	struct claim *claim = place ? find_claim(place, placing->tenant) : NULL;

	if (claim)
		claim->count++;
	else if (!(place ? add_claim(place, placing->tenant)
			 : add(placing->owners, key, placing->tenant)))
		placing->owners->incomplete = true;
	return true;
}

/* The first one's place is the next one's then. */
static void remove_claim(struct owners *owners, struct place *place, struct claim *claim)
{
	struct claim *before = &place->first, *gone = claim == before ? before->next : claim;

	if (!gone) {
		drop(owners, place);
		return;
	}
	if (gone != claim) {
		*claim = *gone;
	} else {
		while (before->next != gone)
			before = before->next;
		before->next = gone->next;
	}
	free(gone);
}

static bool give_up(void *user, const struct prefix_key *key)
{
	const struct placing *placing = user;
	struct place *place = find(placing->owners, key);
	struct claim *claim = place ? find_claim(place, placing->tenant) : NULL;

	if (claim && !--claim->count)
		remove_claim(placing->owners, place, claim);
	return true;
}

void owners_place(struct owners *owners, const struct child_sa *child, bool placed)
{
	struct placing placing = { owners, child->tenant };

	if (child->ranges_unknown)
		owners->unknown += placed ? 1 : (size_t)-1;
	for (unsigned i = 0; i < child->range_count; i++)
		prefixes_each(&child->ranges[i], placed ? claim : give_up, &placing);
}

enum owner owners_find(const struct owners *owners, const struct address *address,
		       struct tenant **ret_tenant)
{
	struct prefix_key key = { .six = address->family == AF_INET6 }, wider;
	const unsigned bits = key.six ? 128 : 32;
	struct tenant *tenant = NULL;
	const struct place *place;

	if (owners->incomplete || owners->unknown)
		return OWNER_SEVERAL;
	key.length = (uint8_t)bits;
	memcpy(key.address, address->bytes, bits / 8);
	for (unsigned length = 0; length <= bits; length++) {
		if (!owners->with_length[key.six][length])
			continue;
		wider = prefixes_wider(&key, length);
		place = find(owners, &wider);
		for (const struct claim *c = place ? &place->first : NULL; c; c = c->next) {
			if (tenant && tenant != c->tenant)
				return OWNER_SEVERAL;
			tenant = c->tenant;
		}
	}
	if (tenant)
		*ret_tenant = tenant;
	return tenant ? OWNER_ONE : OWNER_NONE;
}
