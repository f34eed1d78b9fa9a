/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The elements the kernel shall hold and those it was last seen to hold, compared by value. The
 * difference comes out in batches, withdrawals first. No I/O: steering.c carries the batches to
 * the kernel and reports back. One thread.
 */
#ifndef TENANT_STEER_ELEMENTS_H
#define TENANT_STEER_ELEMENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel/element.h"

struct elements;

/* max_child_sas: as many elements as these there may be, where there is one for each (element.h).
 * NULL: no memory. */
struct elements *elements_new(size_t max_child_sas);
void elements_free(struct elements *elements);

/* Desire an element (expires_us 0: for ever). False: it is not desired after this, because there is no
 * memory, or the set would have too many (counted; elements_room_again()). */
bool elements_want(struct elements *elements, const struct element_key *key, int64_t expires_us);
/* No longer; whether it was. */
bool elements_unwant(struct elements *elements, const struct element_key *key);

/*
 * Desire these on behalf of an owner, and none of its former ones any more. They are in the order of
 * their keys, bytewise, no two of one key, and no other owner's. Returns how many are desired.
 */
size_t elements_want_group(struct elements *elements, uint32_t owner, const struct element *wanted,
			   size_t count);

/* Was an element refused for want of room, and has there been room since? True once for each time. */
bool elements_room_again(struct elements *elements);
/* How often one was refused; and count one that is not even asked for, because there are too many. */
uint64_t elements_refused(const struct elements *elements);
void elements_refuse(struct elements *elements);

/* Say the whole desired set anew: what is not wanted between begin and end is unwanted. */
void elements_plan_begin(struct elements *elements);
void elements_plan_end(struct elements *elements);

/*
 * Say how late it is by both clocks, before anything is observed and before each batch. Expiries are by
 * CLOCK_BOOTTIME, but the kernel counts down by the monotonic clock, which stands still while the machine
 * sleeps: what the kernel held before a sleep ends later.
 */
void elements_set_clock(struct elements *elements, int64_t boottime_us, int64_t monotonic_us);

/*
 * Say what the kernel holds: begin; each element, end; each element again and end, until that returns
 * true. One look is not enough: a hash table that the kernel resizes during a dump is walked in part twice
 * (lib/rhashtable.c, rhashtable_walk_next()), and a dump of several messages goes on behind as many elements
 * as it has seen, whichever they were and however many it has dropped since for having expired
 * (nft_rhash_walk()). So what was not seen is gone only if it was not seen twice in a row, and a look that
 * found anything new, or one element twice, is not the last. *ret_wrong, from the last end, counts elements
 * that were there and unknown, or gone before their time and thought to be there.
 */
void elements_observe_begin(struct elements *elements);
void elements_observe(struct elements *elements, const struct element *element);
bool elements_observe_end(struct elements *elements, uint64_t *ret_wrong);

/*
 * The kernel is told an expiry that much sooner than is desired: it counts from when it comes to
 * an element, its jiffies may be late, and what it let through last is still on its way.
 */
#define ELEMENTS_LEAD_US 20000

/*
 * The next batch of at most max removals and additions together. Withdrawals of the whole
 * difference come before the first grant; a changed expiry is a removal and an addition in one
 * batch. now_us: CLOCK_BOOTTIME; what has expired by then is gone from the kernel by itself.
 * Returns how many there are; 0 when kernel and desire agree.
 */
struct element_batch {
	struct element *removals, *additions; /* room for max each, the caller's */
	size_t removal_count, addition_count;
};
size_t elements_next_batch(struct elements *elements, size_t max, int64_t now_us,
			   struct element_batch *batch);

/*
 * The kernel took the batch. (If it did not: observe again, then ask for the next batch.) took_us:
 * how long that was. A timeout counts from when the kernel comes to it, and it may have had to
 * wait for somebody else's transaction: what may outlive its expiry by that, as it was longer
 * than ELEMENTS_LEAD_US, is given again by a next batch, a few times at the most.
 */
void elements_committed(struct elements *elements, const struct element_batch *batch,
			int64_t took_us);

/* How many are wanted. */
size_t elements_wanted(const struct elements *elements);

#endif
