/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the real kernel holds, read back while it rearranges what it holds: nothing may be overlooked. In
 * a network namespace of its own for each test.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/clock.h"
#include "kernel_table.h"
#include "netns.h"
#include "steering/elements.h"

/* Less than 30 % of the buckets that the set has from its beginning, 100,000 and a third: when one goes, the
 * kernel makes it smaller, which takes a while. More than go into one message of a dump. */
#define ROOM 100000
#define MANY 15000
#define ROUNDS 20
#define LOOKS 5

static struct element all[MANY];

static void apply_all(bool add, size_t from, size_t to)
{
	for (size_t i = from; i < to; i += NFT_BATCH_MAX) {
		const size_t count = to - i < NFT_BATCH_MAX ? to - i : NFT_BATCH_MAX;

		assert_int_equal(nft_apply(table.nft, add ? NULL : all + i, add ? 0 : count,
					   add ? all + i : NULL, add ? count : 0),
				 0);
	}
}

static void observe_one(const struct element *element, void *user)
{
	elements_observe(user, element);
}

/* As steering.c does. */
static void observe(struct elements *elements)
{
	uint64_t wrong;
	bool last = false;

	elements_observe_begin(elements);
	for (unsigned i = 0; i < LOOKS && !last; i++) {
		elements_set_clock(elements, clock_boottime_us(), clock_monotonic_us());
		assert_int_equal(nft_each_element(table.nft, observe_one, elements), 0);
		last = elements_observe_end(elements, &wrong);
	}
	assert_true(last);
}

/* One that has just begun: all it knows of is what it finds, and it wants nothing of it. */
static void withdraw_what_is_found(void)
{
	struct elements *elements = elements_new(MANY);
	struct element removals[NFT_BATCH_MAX], additions[NFT_BATCH_MAX];
	struct element_batch batch = { .removals = removals, .additions = additions };

	assert_non_null(elements);
	observe(elements);
	while (elements_next_batch(elements, NFT_BATCH_MAX, clock_boottime_us(), &batch)) {
		assert_int_equal(nft_apply(table.nft, batch.removals, batch.removal_count, NULL, 0),
				 0);
		elements_committed(elements, &batch, 0);
	}
	elements_free(elements);
}

static void fill(void)
{
	assert_int_equal(nft_remove(table.nft), 0);
	table.settings.max_child_sas = ROOM;
	table_ensure(STEERING_SA);
	for (uint32_t i = 0; i < MANY; i++)
		all[i] = table_sa(0, 0xc0000000 + i, 0);
	apply_all(true, 0, MANY);
}

static void test_a_set_is_made_smaller_meanwhile(void **state)
{
	(void)state;
	for (unsigned round = 0; round < ROUNDS; round++) {
		fill();
		apply_all(false, 0, 1);
		withdraw_what_is_found();
		assert_int_equal(table_dump(), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_set_is_made_smaller_meanwhile, table_setup,
						table_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
