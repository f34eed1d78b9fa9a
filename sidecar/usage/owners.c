/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "owners.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "kernel/prefixes.h"

#define BITS_MAX 128

/* One tenant's claim to a prefix, by so many ranges. */
struct claim {
	struct tenant *tenant;
	unsigned count;
	struct claim *next;
};

struct place {
	struct prefix_key key;
	struct claim *claims;
	UT_hash_handle hh;
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

static void drop(struct owners *owners, struct place *place)
{
	owners->with_length[place->key.six][place->key.length]--;
	HASH_DELETE(hh, owners->places, place); /* NOLINT: uthash */
	free(place);
}

void owners_free(struct owners *owners)
{
	struct place *place, *next;

	if (!owners)
		return;
	HASH_ITER(hh, owners->places, place, next) {
		for (struct claim *claim = place->claims, *after; claim; claim = after) {
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

	HASH_FIND(hh, owners->places, key, sizeof(*key), place); /* NOLINT: uthash */
	return place;
}

static struct place *get(struct owners *owners, const struct prefix_key *key)
{
	struct place *place = find(owners, key);

	if (place)
		return place;
	place = calloc(1, sizeof(*place));
	if (!place)
		return NULL;
	place->key = *key;
	HASH_ADD(hh, owners->places, key, sizeof(place->key), place);
	owners->with_length[key->six][key->length]++;
	return place;
}

static struct claim **find_claim(struct place *place, const struct tenant *tenant)
{
	struct claim **claim = &place->claims;

	while (*claim && (*claim)->tenant != tenant)
		claim = &(*claim)->next;
	return claim;
}

static bool claim(void *user, const struct prefix_key *key)
{
	const struct placing *placing = user;
	struct place *place = get(placing->owners, key);
	struct claim **at = place ? find_claim(place, placing->tenant) : NULL;

	if (at && !*at) {
		*at = calloc(1, sizeof(**at));
		if (*at)
			(*at)->tenant = placing->tenant;
	}
	if (!at || !*at) {
		placing->owners->incomplete = true;
		return true;
	}
	(*at)->count++;
	return true;
}

static bool give_up(void *user, const struct prefix_key *key)
{
	const struct placing *placing = user;
	struct place *place = find(placing->owners, key);
	struct claim **at = place ? find_claim(place, placing->tenant) : NULL, *gone;

	if (!at || !*at || --(*at)->count)
		return true;
	gone = *at;
	*at = gone->next;
	free(gone);
	if (!place->claims)
		drop(placing->owners, place);
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
		for (const struct claim *c = place ? place->claims : NULL; c; c = c->next) {
			if (tenant && tenant != c->tenant)
				return OWNER_SEVERAL;
			tenant = c->tenant;
		}
	}
	if (tenant)
		*ret_tenant = tenant;
	return tenant ? OWNER_ONE : OWNER_NONE;
}
