/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "prefixes.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <uthash.h>

/* From the start as many buckets as child SAs are expected: growing to them takes milliseconds. */
#undef HASH_INITIAL_NUM_BUCKETS
#undef HASH_INITIAL_NUM_BUCKETS_LOG2
#define HASH_INITIAL_NUM_BUCKETS 131072U
#define HASH_INITIAL_NUM_BUCKETS_LOG2 17U
#define NO_FAMILY 2

#define BITS_MAX 128

struct prefix {
	struct prefix_key key;
	unsigned count;
	UT_hash_handle hh;
};

struct prefixes {
	struct prefix *all;
	/* Always there, found by nobody: uthash gives its table back with the last entry, and making
	 * it anew would cost the only exempt child SA of a gateway 0.2 ms at each set-up. */
	struct prefix anchor;
	size_t with_length[2][BITS_MAX + 1]; /* so that only lengths in use are looked for */
};

struct prefixes *prefixes_new(void)
{
	struct prefixes *prefixes = calloc(1, sizeof(*prefixes));

	if (!prefixes)
		return NULL;
	prefixes->anchor.key.six = NO_FAMILY;
	HASH_ADD(hh, prefixes->all, key, sizeof(prefixes->anchor.key), &prefixes->anchor);
	return prefixes;
}

static void drop(struct prefixes *prefixes, struct prefix *prefix)
{
	prefixes->with_length[prefix->key.six][prefix->key.length]--;
	HASH_DELETE(hh, prefixes->all, prefix); /* NOLINT: uthash */
	free(prefix);
}

void prefixes_free(struct prefixes *prefixes)
{
	struct prefix *prefix, *next;

	if (!prefixes)
		return;
	HASH_ITER(hh, prefixes->all, prefix, next)
		if (prefix != &prefixes->anchor)
			drop(prefixes, prefix);
	HASH_DELETE(hh, prefixes->all, &prefixes->anchor); /* NOLINT: uthash */
	free(prefixes);
}

static void set_host_bits(const struct prefix_key *key, bool ones, uint8_t address[16])
{
	const unsigned bytes = key->six ? 16 : 4;
	const unsigned whole = key->length / 8;
	const uint8_t rest = (uint8_t)(0xff >> key->length % 8);

	memmove(address, key->address, 16);
	if (whole == bytes)
		return;
	address[whole] = (uint8_t)(ones ? address[whole] | rest : address[whole] & ~rest);
	memset(address + whole + 1, ones ? 0xff : 0, bytes - whole - 1);
}

/* Make the prefix at key->address as large as its address and the range's end allow. */
static void fit(struct prefix_key *key, const uint8_t hi[16], uint8_t last[16])
{
	const unsigned bits = key->six ? 128 : 32;
	unsigned length = bits;

	while (length && !(key->address[(length - 1) / 8] & 0x80 >> (length - 1) % 8))
		length--;
	for (;; length++) {
		key->length = (uint8_t)length;
		set_host_bits(key, true, last);
		if (memcmp(last, hi, 16) <= 0)
			return;
	}
}

struct prefix_key prefixes_wider(const struct prefix_key *key, unsigned length)
{
	struct prefix_key wider = *key;

	wider.length = (uint8_t)length;
	set_host_bits(&wider, false, wider.address);
	return wider;
}

/* To the next address. */
static void increment(uint8_t address[16], unsigned bytes)
{
	while (bytes && !++address[--bytes])
		;
}

bool prefixes_each(const struct address_range *range,
		   bool (*each)(void *user, const struct prefix_key *key), void *user)
{
	struct prefix_key key = { .six = range->family == AF_INET6 };
	uint8_t last[16];

	memcpy(key.address, range->lo, 16);
	for (;;) {
		fit(&key, range->hi, last);
		if (!each(user, &key))
			return false;
		if (!memcmp(last, range->hi, 16))
			return true;
		memcpy(key.address, last, 16);
		increment(key.address, key.six ? 16 : 4);
	}
}

static struct prefix *find(struct prefixes *prefixes, const struct prefix_key *key)
{
	struct prefix *prefix;

	HASH_FIND(hh, prefixes->all, key, sizeof(*key), prefix); /* NOLINT: uthash */
	return prefix;
}

static bool add(void *user, const struct prefix_key *key)
{
	struct prefixes *prefixes = user;
	struct prefix *prefix;
	unsigned hash;

	HASH_VALUE(key, sizeof(*key), hash);
	HASH_FIND_BYHASHVALUE(hh, prefixes->all, key, sizeof(*key), hash, prefix);
	if (!prefix) {
		prefix = calloc(1, sizeof(*prefix));
		if (!prefix)
			return false;
		prefix->key = *key;
		HASH_ADD_BYHASHVALUE(hh, prefixes->all, key, sizeof(prefix->key), hash, prefix);
		prefixes->with_length[key->six][key->length]++;
	}
	prefix->count++;
	return true;
}

void prefixes_add(struct prefixes *prefixes, const struct address_range *range)
{
	prefixes_each(range, add, prefixes);
}

static bool remove_one(void *user, const struct prefix_key *key)
{
	struct prefixes *prefixes = user;
	struct prefix *prefix = find(prefixes, key);

	if (prefix && !--prefix->count)
		drop(prefixes, prefix);
	return true;
}

void prefixes_remove(struct prefixes *prefixes, const struct address_range *range)
{
	prefixes_each(range, remove_one, prefixes);
}

/* Is this prefix, or one that it is a part of, kept? */
static bool covers(void *user, const struct prefix_key *key)
{
	struct prefixes *prefixes = user;
	struct prefix_key wider;

	for (unsigned length = 0; length <= key->length; length++) {
		if (!prefixes->with_length[key->six][length])
			continue;
		wider = prefixes_wider(key, length);
		if (find(prefixes, &wider))
			return true;
	}
	return false;
}

bool prefixes_cover(struct prefixes *prefixes, const struct address_range *range)
{
	return prefixes_each(range, covers, prefixes);
}
