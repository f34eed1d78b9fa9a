/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * When exceptions end: by which clock, and whatever is done to the wall clock, to the store or to steerd
 * meanwhile. The clocks are the test's; the store is a real one.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "book.h"

/* From the first grant on, by whichever clock says more. */
static void test_longest_lifetime(void **state)
{
	const uint64_t id = book_grant("acme", "short", 30);
	struct exceptions_change later = { .risk_accepted = true, .accepted_by = "cso" };
	struct exception e;

	(void)state;
	book_tick(20, 20);
	later.expires_at_us = clock_wall_us() + 41 * MINUTE;
	assert_int_equal(book_change(id, &later, &e), -EINVAL);
	book_expect_error("at most 3600 seconds (max_lifetime) from the first grant on");
	book_tick(-100, 21);
	later.expires_at_us = clock_wall_us() + 40 * MINUTE;
	assert_int_equal(book_change(id, &later, &e), -EINVAL);
	book_start_again();
	assert_int_equal(book_change(id, &later, &e), -EINVAL);
	later.expires_at_us = clock_wall_us() + 39 * MINUTE;
	assert_int_equal(book_change(id, &later, &e), 0);
	book_tick(-100 + 39, 21 + 39);
	assert_int_equal(book.expired, 1);
}

/* The next one can be granted at once, although the disk has not heard of the end yet. */
static void test_grant_after_the_end(void **state)
{
	(void)state;
	book_grant("acme", "skype", 30);
	book_tick(30, 30);
	assert_int_equal(book.expired, 1);
	book_grant("acme", "skype", 30);
	assert_int_equal(book_until("acme"), clock_wall_us() + 30 * MINUTE);
}

static void test_set_back(void **state)
{
	(void)state;
	book_grant("acme", "skype", 30);
	book_tick(0, 0);
	/* half a second is adjusting, not setting */
	fake_clock_set(START + MINUTE - 500000, BOOT_START + MINUTE);
	book_expire();
	assert_int_equal(exceptions_clock_step(book.exceptions), 0);
	assert_int_equal(book_kernel_until("acme"), BOOT_START + 30 * MINUTE);
	/* an hour back, two minutes later: 28 minutes are left, whatever the clock says */
	book_tick(2 - 60, 2);
	assert_int_equal(exceptions_clock_step(book.exceptions), -60 * MINUTE);
	assert_int_equal(book_until("acme"), START + (30 - 60) * MINUTE);
	book_tick(29 - 60, 29);
	assert_int_equal(book.expired, 0);
	book_tick(30 - 60, 30);
	assert_int_equal(book.expired, 1);
	assert_int_equal(book_until("acme"), 0);
}

/* Set right again, it ends when it should have. */
static void test_set_back_and_right_again(void **state)
{
	(void)state;
	book_grant("acme", "skype", 30);
	book_tick(2 - 60, 2);
	book_tick(3, 3);
	assert_int_equal(book_until("acme"), START + 30 * MINUTE);
}

/* Nor does reading the store again bring the later end back, whenever the clock was set. */
static void test_set_back_and_read_again(void **state)
{
	void (*const read_again[])(void) = { book_load_again, book_start_again };

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		const char *const tenant = i % 2 ? "acme" : "globex";

		fake_clock_set(START, BOOT_START);
		book_load_again();
		book_grant(tenant, "skype", 90);
		if (i < 2) {
			book_tick(1 - 60, 1);
		} else {
			fake_clock_set(START + (1 - 60) * MINUTE, BOOT_START + MINUTE);
		}
		read_again[i % 2]();
		assert_int_equal(book_until(tenant), START + (90 - 60) * MINUTE);
		book_tick(89 - 60, 89);
		assert_int_not_equal(book_until(tenant), 0);
		book_tick(90 - 60, 90);
		assert_int_equal(book_until(tenant), 0);
		assert_int_equal(exceptions_settle(book.exceptions), 0);
	}
}

/* What the disk does not know yet is over all the same. */
static void test_ended_and_read_again(void **state)
{
	struct exceptions_revocation revocation = { .tenant = "acme", .reason = "over" };
	unsigned ids;

	(void)state;
	book_grant("acme", "skype", 90);
	book_grant("globex", "skype", 10);
	assert_int_equal(book_take_back(&revocation, &ids), 1);
	book_tick(10, 10);
	book_load_again();
	assert_int_equal(book_until("acme"), 0);
	assert_int_equal(book_until("globex"), 0);
	assert_int_equal(exceptions_settle(book.exceptions), 0);
	book_start_again();
	assert_int_equal(exceptions_count(book.exceptions), 0);
}

/* Nor a change of something else, nor of the end itself. */
static void test_set_back_and_changed(void **state)
{
	const uint64_t id = book_grant("acme", "skype", 90);
	struct exceptions_change words = { .reason = "more calls" };
	struct exceptions_change sooner = { .expires_at_us = START - 40 * MINUTE };
	struct exception e;

	(void)state;
	book_tick(1 - 60, 1);
	assert_int_equal(book_change(id, &words, &e), 0);
	assert_int_equal(book_until("acme"), START + 30 * MINUTE);
	book_start_again();
	assert_int_equal(book_until("acme"), START + 30 * MINUTE);
	assert_int_equal(book_change(id, &sooner, &e), 1);
	assert_int_equal(book_until("acme"), START - 40 * MINUTE);
	/* and back again by another hour */
	book_tick(2 - 120, 2);
	assert_int_equal(book_until("acme"), START - 100 * MINUTE);
	book_start_again();
	assert_int_equal(book_until("acme"), START - 100 * MINUTE);
	/* a later end than the one it has by now is a later one, whatever is on disk */
	sooner.expires_at_us = START - 90 * MINUTE;
	assert_int_equal(book_change(id, &sooner, &e), -EINVAL);
	book_expect_error("not inspected");
}

static void test_set_forward(void **state)
{
	(void)state;
	book_grant("acme", "skype", 30);
	book_tick(21, 1);
	assert_int_equal(exceptions_clock_step(book.exceptions), 20 * MINUTE);
	assert_int_equal(book_until("acme"), START + 30 * MINUTE);
	book_tick(30, 10);
	assert_int_equal(book.expired, 1);
}

/* From before version 2 of the store: nothing says when its end was set. */
static void test_set_back_with_an_old_one(void **state)
{

	(void)state;
	book_stop();
	book_run_sql("DROP TRIGGER exception_complete; INSERT INTO exception (tenant, profile,"
		     " change_request, accepted_by, granted_by, granted_at_us, expires_at_us)"
		     " VALUES ('acme', 'skype', 'CR-1', 'ciso', 'op', %lld, %lld),"
		     " ('forever', 'skype', 'CR-1', 'ciso', 'op', %lld, 0)",
		     (long long)START, (long long)(START + 90 * MINUTE), (long long)START);
	book_start();
	book_tick(1 - 60, 1);
	assert_int_equal(book_until("acme"), START + 30 * MINUTE);
	assert_int_equal(book_until("forever"), EXEMPT_FOREVER);
	book_load_again();
	assert_int_equal(book_until("acme"), START + 30 * MINUTE);
	assert_int_equal(book_until("forever"), EXEMPT_FOREVER);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, book_setup, book_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_longest_lifetime),
		TEST(test_grant_after_the_end),
		TEST(test_set_back),
		TEST(test_set_back_and_right_again),
		TEST(test_set_back_and_read_again),
		TEST(test_ended_and_read_again),
		TEST(test_set_back_and_changed),
		TEST(test_set_forward),
		TEST(test_set_back_with_an_old_one),
	};

	return cmocka_run_group_tests_name("exceptions and clocks", tests, NULL, NULL);
}
