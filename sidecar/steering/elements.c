/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "elements.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/buckets.h"
#include "element_groups.h"
#include "settings/settings.h"

#define NONE INT64_MIN /* neither an expiry nor 0, "for ever" */
/*
 * The kernel keeps a remaining time, in jiffies, and when it was read is not known exactly: an
 * element may go this much too soon. Too late is another expiry.
 */
#define TOO_SOON_US 2000000
/* A kernel that always takes long does so for every transaction: then once more is no better. */
#define LATE_TRIES 3
/* The two are not read at one time; every expiry would be looked at for nothing. */
#define STEP_US 10000

enum queue { QUEUE_NONE, QUEUE_WITHDRAW, QUEUE_GRANT };

struct entry {
	int64_t want; /* expiry, 0 for ever, NONE */
	int64_t have; /* the latest that the kernel drops it by itself, 0, NONE */
	uint32_t plan;
	bool seen;
	bool missed; /* by the last look, and not gone thereby */
	uint8_t queue;
	uint8_t late; /* commits in a row that took too long */
	struct entry *prev, *next;
	UT_hash_handle hh;
	uint8_t key[]; /* as much of a struct element_key as element_key_size() says */
};

struct elements {
	struct entry *entries;
	/* Always there: uthash gives its table back with the last entry, and making one of that many
	 * buckets again would cost the only exempt child SA of a gateway 0.2 ms at each set-up. */
	struct entry *anchor;
	struct entry *withdraw, *grant;
	struct element_group *groups;
	size_t wanted;
	size_t wanted_of[SET_COUNT][SETTINGS_PROFILES_MAX];
	size_t max_child_sas;
	uint64_t refused;
	bool short_of_room, room_again;
	uint32_t plan;
	uint64_t wrong;
	bool look_again;
	int64_t now_us; /* CLOCK_BOOTTIME, when it was last said */
	int64_t offset; /* of CLOCK_BOOTTIME to the monotonic clock */
};

static struct element_key key_of(const struct entry *entry)
{
	struct element_key key = { 0 };

	memcpy(&key, entry->key, entry->hh.keylen);
	return key;
}

static struct entry *add(struct elements *elements, const struct element_key *key, size_t size,
			 unsigned hash)
{
	struct entry *entry = calloc(1, sizeof(*entry) + size);

	if (!entry)
		return NULL;
	memcpy(entry->key, key, size);
	entry->want = entry->have = NONE;
	HASH_ADD_KEYPTR_BYHASHVALUE(hh, elements->entries, entry->key, size, hash, entry);
	return entry;
}

struct elements *elements_new(size_t max_child_sas)
{
	const struct element_key anchor = { .set = SET_COUNT };
	struct elements *elements = calloc(1, sizeof(*elements));
	unsigned hash;

	if (!elements)
		return NULL;
	elements->max_child_sas = max_child_sas;
	HASH_VALUE(&anchor, ELEMENT_KEY_SHORT, hash); /* NOLINT: uthash */
	elements->anchor = add(elements, &anchor, ELEMENT_KEY_SHORT, hash);
	if (!elements->anchor) {
		elements_free(elements);
		return NULL;
	}
	elements->anchor->seen = true;
	return elements;
}

void elements_free(struct elements *elements)
{
	struct entry *entry, *next;

	if (!elements)
		return;
	element_groups_free(&elements->groups);
	HASH_ITER(hh, elements->entries, entry, next) {
		HASH_DELETE(hh, elements->entries, entry); /* NOLINT: uthash */
		free(entry);
	}
	free(elements);
}

static struct entry *find(struct elements *elements, const struct element_key *key)
{
	struct entry *entry;

	HASH_FIND(hh, elements->entries, key, element_key_size(key), entry);
	return entry;
}

/* *ret_hash is for add(), if it is not there. */
static struct entry *find_hashed(struct elements *elements, const struct element_key *key,
				 unsigned *ret_hash)
{
	const size_t size = element_key_size(key);
	struct entry *entry;

	HASH_VALUE(key, size, *ret_hash);
	HASH_FIND_BYHASHVALUE(hh, elements->entries, key, size, *ret_hash, entry);
	return entry;
}

static struct entry *find_or_add(struct elements *elements, const struct element_key *key)
{
	unsigned hash;
	struct entry *entry = find_hashed(elements, key, &hash);

	return entry ? entry : add(elements, key, element_key_size(key), hash);
}

/* Make room for one more of a key's set, or say that there is none. */
static bool take_room(struct elements *elements, const struct element_key *key)
{
	size_t *wanted = &elements->wanted_of[key->set][key->profile];

	if (*wanted >= element_limit(key->set, elements->max_child_sas)) {
		elements->refused++;
		elements->short_of_room = true;
		return false;
	}
	++*wanted;
	elements->wanted++;
	return true;
}

static void give_room(struct elements *elements, const struct entry *entry)
{
	const struct element_key *key = (const struct element_key *)entry->key;

	elements->wanted_of[key->set][key->profile]--;
	elements->wanted--;
	elements->room_again = elements->short_of_room;
}

static bool same_expiry(int64_t want, int64_t have)
{
	if (want == have)
		return true;
	if (want == NONE || have == NONE || want == 0 || have == 0)
		return false;
	return have <= want && have >= want - TOO_SOON_US;
}

static void dequeue(struct elements *elements, struct entry *entry)
{
	if (entry->queue == QUEUE_WITHDRAW)
		DL_DELETE(elements->withdraw, entry);
	else if (entry->queue == QUEUE_GRANT)
		DL_DELETE(elements->grant, entry);
	entry->queue = QUEUE_NONE;
}

/* Put an entry where its difference belongs; one without a difference or a use is dropped. */
static void classify(struct elements *elements, struct entry *entry)
{
	dequeue(elements, entry);
	if (entry->want == NONE && entry->have == NONE) {
		HASH_DELETE(hh, elements->entries, entry);
		free(entry);
	} else if (entry->want == NONE) {
		entry->queue = QUEUE_WITHDRAW;
		DL_APPEND(elements->withdraw, entry);
	} else if (!same_expiry(entry->want, entry->have)) {
		entry->queue = QUEUE_GRANT;
		DL_APPEND(elements->grant, entry);
	}
}

bool elements_want(struct elements *elements, const struct element_key *key, int64_t expires_us)
{
	unsigned hash;
	struct entry *entry = find_hashed(elements, key, &hash);

	if ((!entry || entry->want == NONE) && !take_room(elements, key))
		return false;
	entry = entry ? entry : add(elements, key, element_key_size(key), hash);
	if (!entry) {
		elements->wanted_of[key->set][key->profile]--;
		elements->wanted--;
		return false;
	}
	entry->plan = elements->plan;
	if (entry->want == expires_us)
		return true;
	entry->want = expires_us;
	entry->late = 0;
	classify(elements, entry);
	return true;
}

bool elements_unwant(struct elements *elements, const struct element_key *key)
{
	struct entry *entry = find(elements, key);

	if (!entry || entry->want == NONE)
		return false;
	give_room(elements, entry);
	entry->want = NONE;
	classify(elements, entry);
	return true;
}

size_t elements_want_group(struct elements *elements, uint32_t owner, const struct element *wanted,
			   size_t count)
{
	return element_groups_want(&elements->groups, elements, owner, wanted, count);
}

bool elements_room_again(struct elements *elements)
{
	const bool again = elements->room_again;

	if (again)
		elements->room_again = elements->short_of_room = false;
	return again;
}

void elements_refuse(struct elements *elements)
{
	elements->refused++;
}

uint64_t elements_refused(const struct elements *elements)
{
	return elements->refused;
}

void elements_plan_begin(struct elements *elements)
{
	elements->plan++;
}

void elements_plan_end(struct elements *elements)
{
	struct entry *entry, *next;

	HASH_ITER(hh, elements->entries, entry, next) {
		if (entry->want == NONE || entry->plan == elements->plan)
			continue;
		give_room(elements, entry);
		entry->want = NONE;
		classify(elements, entry);
	}
}

/* The kernel has removed what has expired; asking it to would fail the whole batch. */
static bool expired(const struct entry *entry, int64_t now_us)
{
	return entry->have != NONE && entry->have != 0 && entry->have <= now_us;
}

void elements_observe_begin(struct elements *elements)
{
	struct entry *entry, *next;

	elements->wrong = 0;
	elements->look_again = false;
	HASH_ITER(hh, elements->entries, entry, next)
		entry->seen = entry->missed = false;
}

void elements_observe(struct elements *elements, const struct element *element)
{
	struct entry *entry = find_or_add(elements, &element->key);
	const bool news = !entry || entry->have == NONE;

	elements->wrong += news;
	elements->look_again |= news || entry->seen;
	if (!entry)
		return;
	entry->seen = true;
	entry->missed = false;
	entry->have = element->expires_us;
	classify(elements, entry);
}

static void note_unseen(struct elements *elements, struct entry *entry)
{
	const bool over = expired(entry, elements->now_us);

	if (!over && !entry->missed) {
		entry->missed = elements->look_again = true;
		return;
	}
	elements->wrong += !over;
	entry->have = NONE;
	classify(elements, entry);
}

bool elements_observe_end(struct elements *elements, uint64_t *ret_wrong)
{
	struct entry *entry, *next;
	bool last;

	HASH_ITER(hh, elements->entries, entry, next) {
		const bool seen = entry->seen;

		entry->seen = false;
		if (!seen && entry->have != NONE)
			note_unseen(elements, entry);
	}
	last = !elements->look_again;
	elements->look_again = false;
	*ret_wrong = elements->wrong;
	return last;
}

void elements_set_clock(struct elements *elements, int64_t boottime_us, int64_t monotonic_us)
{
	const int64_t step = boottime_us - monotonic_us - elements->offset;
	struct entry *entry, *next;

	elements->now_us = boottime_us;
	if (llabs((long long)step) < STEP_US)
		return;
	elements->offset += step;
	HASH_ITER(hh, elements->entries, entry, next) {
		if (entry->have == NONE || entry->have == 0)
			continue;
		entry->have += step;
		classify(elements, entry);
	}
}

static void add_removal(struct element_batch *batch, const struct entry *entry)
{
	batch->removals[batch->removal_count++] = (struct element){ key_of(entry), entry->have };
}

static void batch_withdrawals(struct elements *elements, size_t max, int64_t now_us,
			      struct element_batch *batch)
{
	struct entry *entry, *next;

	DL_FOREACH_SAFE(elements->withdraw, entry, next) {
		if (batch->removal_count == max)
			return;
		if (expired(entry, now_us)) {
			entry->have = NONE;
			classify(elements, entry);
		} else {
			add_removal(batch, entry);
		}
	}
}

static struct element addition(const struct entry *entry)
{
	const int64_t expires_us = entry->want ? entry->want - ELEMENTS_LEAD_US : 0;

	return (struct element){ key_of(entry), expires_us };
}

static void batch_grants(struct elements *elements, size_t max, int64_t now_us,
			 struct element_batch *batch)
{
	struct entry *entry, *next;

	DL_FOREACH_SAFE(elements->grant, entry, next) {
		if (batch->removal_count + batch->addition_count + 2 > max)
			return;
		if (expired(entry, now_us))
			entry->have = NONE;
		if (entry->have != NONE)
			add_removal(batch, entry);
		batch->additions[batch->addition_count++] = addition(entry);
	}
}

size_t elements_next_batch(struct elements *elements, size_t max, int64_t now_us,
			   struct element_batch *batch)
{
	batch->removal_count = batch->addition_count = 0;
	batch_withdrawals(elements, max, now_us, batch);
	batch_grants(elements, max, now_us, batch);
	return batch->removal_count + batch->addition_count;
}

static void note_removal(struct elements *elements, const struct element *removed)
{
	struct entry *entry = find(elements, &removed->key);

	if (!entry)
		return;
	entry->have = NONE;
	classify(elements, entry);
}

/* The kernel may have begun to count an element's time as late as when the took_us were over. */
static void note_addition(struct elements *elements, const struct element *added, int64_t took_us)
{
	struct entry *entry = find(elements, &added->key);

	if (!entry)
		return;
	entry->late = took_us > ELEMENTS_LEAD_US ? entry->late + 1 : 0;
	entry->have = added->expires_us;
	if (added->expires_us)
		entry->have += entry->late < LATE_TRIES ? took_us : ELEMENTS_LEAD_US;
	classify(elements, entry);
}

void elements_committed(struct elements *elements, const struct element_batch *batch,
			int64_t took_us)
{
	for (size_t i = 0; i < batch->removal_count; i++)
		note_removal(elements, &batch->removals[i]);
	for (size_t i = 0; i < batch->addition_count; i++)
		note_addition(elements, &batch->additions[i], took_us);
}

size_t elements_wanted(const struct elements *elements)
{
	return elements->wanted;
}
