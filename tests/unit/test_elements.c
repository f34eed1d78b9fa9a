/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "steering/elements.h"

#define SEC INT64_C(1000000)
#define NOW (INT64_C(1000) * SEC)

static struct elements *elements;
static struct element removals[16], additions[16];
static struct element_batch batch = { .removals = removals, .additions = additions };

static int setup(void **state)
{
	(void)state;
	elements = elements_new(1000);
	return elements ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	elements_free(elements);
	return 0;
}

static struct element_key key(uint8_t n)
{
	return (struct element_key){ .set = SET_SA, .lo = { 0xc0, 0, 0, n } };
}

static void want(uint8_t n, int64_t expires)
{
	const struct element_key k = key(n);

	elements_want(elements, &k, expires);
}

static void unwant(uint8_t n)
{
	const struct element_key k = key(n);

	elements_unwant(elements, &k);
}

static void observe(uint8_t n, int64_t expires)
{
	const struct element element = { key(n), expires };

	elements_observe(elements, &element);
}

static size_t next(size_t max)
{
	return elements_next_batch(elements, max, NOW, &batch);
}

static void commit_all(void)
{
	while (next(16))
		elements_committed(elements, &batch, 0);
}

static void test_grants_come_once(void **state)
{
	(void)state;
	want(1, 0);
	want(2, 0);
	want(1, 0);
	assert_int_equal(next(16), 2);
	assert_int_equal(batch.addition_count, 2);
	elements_committed(elements, &batch, 0);
	assert_int_equal(next(16), 0);
	assert_int_equal(elements_wanted(elements), 2);
}

static void test_uncommitted_comes_again(void **state)
{
	(void)state;
	want(1, 0);
	assert_int_equal(next(16), 1);
	assert_int_equal(next(16), 1);
}

static void test_withdrawals_come_before_all_grants(void **state)
{
	(void)state;
	for (uint8_t n = 1; n <= 6; n++)
		want(n, 0);
	commit_all();
	want(10, 0);
	want(11, 0);
	for (uint8_t n = 1; n <= 6; n++)
		unwant(n);
	assert_int_equal(next(4), 4);
	assert_int_equal(batch.removal_count, 4);
	assert_int_equal(batch.addition_count, 0);
	elements_committed(elements, &batch, 0);
	assert_int_equal(next(4), 3);
	assert_int_equal(batch.removal_count, 2);
}

static void test_batches_are_bounded(void **state)
{
	(void)state;
	for (uint8_t n = 0; n < 40; n++)
		want(n, 0);
	for (size_t left = 40, n; left; left -= n) {
		n = next(16);
		assert_true(n > 0 && n <= 16);
		elements_committed(elements, &batch, 0);
	}
	assert_int_equal(next(16), 0);
}

static void test_what_was_never_applied_needs_no_withdrawal(void **state)
{
	(void)state;
	want(1, 0);
	unwant(1);
	assert_int_equal(next(16), 0);
}

static void test_changed_expiry_is_removed_and_added(void **state)
{
	(void)state;
	want(1, NOW + 60 * SEC);
	commit_all();
	want(1, NOW + 61 * SEC);
	assert_int_equal(next(16), 0);
	want(1, NOW + 90 * SEC);
	assert_int_equal(next(16), 2);
	assert_int_equal(batch.removal_count, 1);
	assert_int_equal(batch.additions[0].expires_us, NOW + 90 * SEC - ELEMENTS_LEAD_US);
	elements_committed(elements, &batch, 0);
	want(1, 0);
	assert_int_equal(next(16), 2);
}

/* The kernel counts a timeout from when it comes to it: after the wait that was, it is too long. */
static void test_late_commit_is_made_again(void **state)
{
	(void)state;
	want(1, NOW + 60 * SEC);
	want(2, 0);
	assert_int_equal(next(16), 2);
	elements_committed(elements, &batch, SEC / 10);
	assert_int_equal(next(16), 2);
	assert_int_equal(batch.removal_count, 1);
	assert_int_equal(batch.additions[0].expires_us, NOW + 60 * SEC - ELEMENTS_LEAD_US);
	elements_committed(elements, &batch, SEC / 1000);
	assert_int_equal(next(16), 0);
}

/* However long a commit was, up to the lead, the element ends in time: nothing is left to do. */
static void test_the_lead_makes_up_for_the_commit(void **state)
{
	(void)state;
	want(1, NOW + 60 * SEC);
	assert_int_equal(next(16), 1);
	elements_committed(elements, &batch, ELEMENTS_LEAD_US);
	assert_int_equal(next(16), 0);
	want(1, NOW + 60 * SEC - 1);
	assert_int_equal(next(16), 2);
	elements_committed(elements, &batch, ELEMENTS_LEAD_US + 1);
	assert_int_equal(next(16), 2);
}

/* The last of an exception, which the lead takes: the kernel has no time to count any more. */
static void test_what_the_kernel_ended_is_not_given_again(void **state)
{
	const int64_t ends = NOW + 60 * SEC;

	(void)state;
	want(1, ends);
	commit_all();
	elements_set_clock(elements, ends - 1, ends - 1);
	elements_observe_begin(elements);
	assert_true(elements_observe_end(elements, &(uint64_t){ 0 }));
	while (elements_next_batch(elements, 16, ends - 1, &batch)) {
		assert_int_equal(batch.removal_count, 0);
		assert_true(batch.additions[0].expires_us <= ends - 1);
		elements_committed(elements, &batch, 0);
	}
	unwant(1);
	assert_int_equal(elements_next_batch(elements, 16, ends - 1, &batch), 0);
}

static void test_a_slow_kernel_is_not_asked_for_ever(void **state)
{
	unsigned times = 0;

	(void)state;
	want(1, NOW + 60 * SEC);
	for (; next(16); times++)
		elements_committed(elements, &batch, SEC / 10);
	assert_in_range(times, 2, 5);
}

/* What is found to stay for too long is put right, what goes a little soon is left. */
static void test_observed_expiry_may_not_be_late(void **state)
{
	uint64_t wrong;

	(void)state;
	want(1, NOW + 60 * SEC);
	want(2, NOW + 60 * SEC);
	commit_all();
	elements_observe_begin(elements);
	observe(1, NOW + 59 * SEC);
	observe(2, NOW + 60 * SEC + SEC / 10);
	assert_true(elements_observe_end(elements, &wrong));
	assert_int_equal(wrong, 0);
	assert_int_equal(next(16), 2);
	assert_int_equal(batch.additions[0].key.lo[3], 2);
}

/* Asking the kernel to remove what it has removed itself would fail the whole batch. */
static void test_expired_is_not_removed(void **state)
{
	(void)state;
	want(1, NOW + 60 * SEC);
	commit_all();
	unwant(1);
	assert_int_equal(elements_next_batch(elements, 16, NOW + 61 * SEC, &batch), 0);
	want(1, 0);
	assert_int_equal(next(16), 1);
	assert_int_equal(batch.removal_count, 0);
}

static void test_observation_corrects(void **state)
{
	uint64_t wrong;

	(void)state;
	want(1, 0);
	want(2, 0);
	commit_all();
	elements_observe_begin(elements);
	observe(2, 0);
	observe(9, 0);
	assert_false(elements_observe_end(elements, &wrong));
	observe(2, 0);
	observe(9, 0);
	assert_true(elements_observe_end(elements, &wrong));
	assert_int_equal(wrong, 2);
	assert_int_equal(next(16), 2);
	assert_memory_equal(&batch.removals[0].key, (&(struct element_key[]){ key(9) })[0],
			    sizeof(struct element_key));
	assert_memory_equal(&batch.additions[0].key, (&(struct element_key[]){ key(1) })[0],
			    sizeof(struct element_key));
	elements_committed(elements, &batch, 0);
	elements_observe_begin(elements);
	observe(1, 0);
	observe(2, 0);
	assert_true(elements_observe_end(elements, &wrong));
	assert_int_equal(wrong, 0);
}

/* The kernel was busy with its table: one twice, another not at all. */
static void test_one_look_is_not_believed(void **state)
{
	uint64_t wrong;

	(void)state;
	elements_observe_begin(elements);
	observe(1, 0);
	assert_false(elements_observe_end(elements, &wrong));
	observe(1, 0);
	observe(1, 0);
	assert_false(elements_observe_end(elements, &wrong));
	observe(2, 0);
	observe(1, 0);
	assert_false(elements_observe_end(elements, &wrong));
	observe(1, 0);
	assert_false(elements_observe_end(elements, &wrong));
	observe(1, 0);
	observe(2, 0);
	assert_true(elements_observe_end(elements, &wrong));
	assert_int_equal(wrong, 2);
	assert_int_equal(next(16), 2);
	assert_int_equal(batch.removal_count, 2);
}

/* Twice is twice in a row, and within one observation. */
static void test_missed_twice_is_gone(void **state)
{
	uint64_t wrong;

	(void)state;
	want(1, 0);
	commit_all();
	elements_observe_begin(elements);
	assert_false(elements_observe_end(elements, &wrong));
	observe(1, 0);
	assert_true(elements_observe_end(elements, &wrong));
	elements_observe_begin(elements);
	assert_false(elements_observe_end(elements, &wrong));
	elements_observe_begin(elements);
	assert_false(elements_observe_end(elements, &wrong));
	assert_int_equal(next(16), 0);
	assert_true(elements_observe_end(elements, &wrong));
	assert_int_equal(wrong, 1);
	assert_int_equal(next(16), 1);
}

static void test_what_has_expired_is_not_missed(void **state)
{
	uint64_t wrong;

	(void)state;
	want(1, NOW + 60 * SEC);
	commit_all();
	elements_set_clock(elements, NOW + 61 * SEC, NOW + 61 * SEC);
	elements_observe_begin(elements);
	assert_true(elements_observe_end(elements, &wrong));
	assert_int_equal(wrong, 0);
}

static void test_a_new_plan_unwants_the_rest(void **state)
{
	const struct element_key one = key(1);

	(void)state;
	want(1, 0);
	want(2, 0);
	commit_all();
	elements_plan_begin(elements);
	elements_want(elements, &one, 0);
	elements_plan_end(elements);
	assert_int_equal(next(16), 1);
	assert_int_equal(batch.removal_count, 1);
	assert_int_equal(elements_wanted(elements), 1);
}

static void test_kernel_may_end_early_not_late(void **state)
{
	(void)state;
	want(1, NOW + 60 * SEC);
	want(2, NOW + 60 * SEC);
	elements_observe_begin(elements);
	observe(1, NOW + 59 * SEC);
	observe(2, NOW + 61 * SEC);
	elements_observe_end(elements, &(uint64_t){ 0 });
	assert_int_equal(next(16), 2);
	assert_int_equal(batch.removals[0].key.lo[3], 2);
	assert_int_equal(batch.additions[0].key.lo[3], 2);
}

/* The kernel did not count meanwhile: what is over is still there. */
static void test_the_machine_slept(void **state)
{
	(void)state;
	elements_set_clock(elements, NOW, NOW);
	want(1, NOW + 60 * SEC);
	want(2, NOW + 3600 * SEC);
	commit_all();
	elements_set_clock(elements, NOW + 120 * SEC, NOW);
	unwant(1);
	elements_next_batch(elements, 16, NOW + 120 * SEC, &batch);
	assert_int_equal(batch.removal_count, 2);
	assert_int_equal(batch.removals[0].key.lo[3], 1);
	assert_int_equal(batch.addition_count, 1);
	assert_int_equal(batch.additions[0].key.lo[3], 2);
}

static void test_clocks_that_drift_apart(void **state)
{
	(void)state;
	elements_set_clock(elements, NOW, NOW);
	want(1, NOW + 60 * SEC);
	want(2, 0);
	commit_all();
	elements_set_clock(elements, NOW - 3600 * SEC, NOW);
	assert_int_equal(elements_next_batch(elements, 16, NOW - 3600 * SEC, &batch), 2);
	assert_int_equal(batch.additions[0].key.lo[3], 1);
	elements_committed(elements, &batch, 0);
	/* a little is not looked after all the time */
	elements_set_clock(elements, NOW - 3600 * SEC + 9000, NOW);
	assert_int_equal(elements_next_batch(elements, 16, NOW - 3600 * SEC, &batch), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_grants_come_once),
		TEST(test_uncommitted_comes_again),
		TEST(test_withdrawals_come_before_all_grants),
		TEST(test_batches_are_bounded),
		TEST(test_what_was_never_applied_needs_no_withdrawal),
		TEST(test_changed_expiry_is_removed_and_added),
		TEST(test_late_commit_is_made_again),
		TEST(test_the_lead_makes_up_for_the_commit),
		TEST(test_what_the_kernel_ended_is_not_given_again),
		TEST(test_a_slow_kernel_is_not_asked_for_ever),
		TEST(test_observed_expiry_may_not_be_late),
		TEST(test_expired_is_not_removed),
		TEST(test_observation_corrects),
		TEST(test_one_look_is_not_believed),
		TEST(test_missed_twice_is_gone),
		TEST(test_what_has_expired_is_not_missed),
		TEST(test_a_new_plan_unwants_the_rest),
		TEST(test_kernel_may_end_early_not_late),
		TEST(test_the_machine_slept),
		TEST(test_clocks_that_drift_apart),
	};

	return cmocka_run_group_tests_name("elements", tests, NULL, NULL);
}
