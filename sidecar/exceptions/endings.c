/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "endings.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <uthash.h>

#include "base/clock.h"
#include "base/log.h"

/* Few wait at a time as a rule; the table comes and goes with them. */
#undef HASH_INITIAL_NUM_BUCKETS
#undef HASH_INITIAL_NUM_BUCKETS_LOG2
#define HASH_INITIAL_NUM_BUCKETS 32U
#define HASH_INITIAL_NUM_BUCKETS_LOG2 5U

struct ending {
	uint64_t id;
	int64_t at_us;
	struct actor by;
	char reason[RECORD_TEXT_MAX];
	UT_hash_handle hh; /* by id; in the order in which they came */
};

bool endings_have(const struct endings *endings, uint64_t id)
{
	const struct ending *ending = NULL;

	for (int q = 0; q < ENDINGS_QUEUES && !ending; q++)
		HASH_FIND(hh, endings->queues[q], &id, sizeof(id), ending);
	return ending;
}

bool endings_none(const struct endings *endings)
{
	return !endings->queues[ENDINGS_REVOCATIONS] && !endings->queues[ENDINGS_EXPIRIES];
}

void endings_add(struct endings *endings, enum endings_queue queue, uint64_t id,
		 const struct actor *by, const char *reason)
{
	struct ending *ending = calloc(1, sizeof(*ending));

	if (!ending) {
		log_error("exceptions", "no memory: the end of exception %llu is not on disk",
			  (unsigned long long)id);
		return;
	}
	ending->id = id;
	ending->at_us = clock_wall_us();
	ending->by = *by;
	snprintf(ending->reason, sizeof(ending->reason), "%s", reason);
	HASH_ADD(hh, endings->queues[queue], id, sizeof(ending->id), ending);
}

static void drop(struct ending **queue, unsigned count)
{
	struct ending *ending, *next;

	HASH_ITER(hh, *queue, ending, next) {
		if (!count--)
			break;
		HASH_DEL(*queue, ending); /* NOLINT: uthash */
		free(ending);
	}
}

/* Somebody else may have ended it. */
static int write_one(struct store *store, const struct ending *ending, enum endings_queue queue)
{
	int r = store_end(store, ending->id,
			  queue == ENDINGS_EXPIRIES ? AUDIT_EXPIRE : AUDIT_REVOKE, ending->at_us,
			  &ending->by, ending->reason);

	return r == -ENOENT ? 0 : r;
}

int endings_write(struct endings *endings, struct store *store, unsigned max)
{
	unsigned counts[ENDINGS_QUEUES] = { 0 };
	int r = store_begin(store);

	for (int q = 0; q < ENDINGS_QUEUES; q++) {
		const struct ending *ending = endings->queues[q];

		for (; r == 0 && ending && max; max--, counts[q]++) {
			r = write_one(store, ending, (enum endings_queue)q);
			ending = ending->hh.next;
		}
	}
	if (r == 0)
		r = store_commit(store);
	else
		store_rollback(store);
	for (int q = 0; q < ENDINGS_QUEUES && r == 0; q++)
		drop(&endings->queues[q], counts[q]);
	return r;
}

void endings_drop(struct endings *endings)
{
	for (int q = 0; q < ENDINGS_QUEUES; q++)
		drop(&endings->queues[q], UINT_MAX);
}
