/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Ends of exceptions when the clock is set. The clocks are the test's; the store is a real one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "clock.h"
#include "exceptions.h"

#define MINUTE INT64_C(60000000)

static struct settings settings;
static struct model model;
static struct exceptions *exceptions;
static char dir[32];
static unsigned expired;

static void on_changed(void *user, uint32_t spi)
{
	(void)user;
	(void)spi;
}

static void on_leaving(void *user, const struct child_sa *child)
{
	(void)user;
	(void)child;
}

static int setup(void **state)
{
	static const struct model_callbacks callbacks = { .changed = on_changed,
							  .leaving = on_leaving };

	(void)state;
	strcpy(dir, "/tmp/test_exceptions.XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	settings = (struct settings){ .profile_count = 1, .path_count = 1 };
	strcpy(settings.profiles[0].name, "skype");
	snprintf(settings.sqlite, sizeof(settings.sqlite), "%s/exceptions.db", dir);
	expired = 0;
	model_init(&model, 100, &callbacks, NULL);
	exceptions = exceptions_new(&model);
	return exceptions_load(exceptions, &settings);
}

static int teardown(void **state)
{
	char command[64];

	(void)state;
	exceptions_free(exceptions);
	model_done(&model);
	snprintf(command, sizeof(command), "rm -r %s", dir);
	return system(command);
}

static void grant(const char *tenant, int64_t expires_us)
{
	struct exception exception = { .change_request = "CR-1",
				       .accepted_by = "ciso",
				       .granted_by = "op",
				       .profile = "skype",
				       .expires_at_us = expires_us };
	const char *why;

	strcpy(exception.tenant, tenant);
	assert_int_equal(exceptions_grant(exceptions, &exception, &why), 0);
}

static void count_expired(void *user, const char *tenant, const char *profile, uint64_t id)
{
	(void)user;
	(void)tenant;
	(void)profile;
	(void)id;
	expired++;
}

static int64_t until(const char *tenant)
{
	const struct tenant *t = model_find_tenant(&model, tenant);

	return t ? model_exempt_until(t, 0) : 0;
}

static void tick(int64_t wall, int64_t monotonic)
{
	exceptions_expire(exceptions, wall, monotonic, count_expired, NULL);
}

static void test_set_back(void **state)
{
	const int64_t now = clock_wall_us(), end = now + 30 * MINUTE;

	(void)state;
	grant("acme", end);
	grant("forever", 0);
	tick(now, MINUTE);
	assert_int_equal(until("acme"), end);
	/* half a second is adjusting, not setting */
	tick(now + MINUTE - 500000, 2 * MINUTE);
	assert_int_equal(until("acme"), end);
	assert_int_equal(exceptions_clock_step(exceptions), 0);
	/* an hour back, one minute later: 28 minutes are left, whatever the clock says */
	tick(now - 58 * MINUTE, 3 * MINUTE);
	assert_int_equal(exceptions_clock_step(exceptions), -60 * MINUTE);
	assert_int_equal(until("acme"), end - 60 * MINUTE);
	assert_int_equal(until("forever"), EXEMPT_FOREVER);
	tick(now - 31 * MINUTE, 30 * MINUTE);
	assert_int_equal(expired, 0);
	tick(now - 30 * MINUTE, 31 * MINUTE);
	assert_int_equal(expired, 1);
	assert_int_equal(until("acme"), 0);
}

/* The next one can be granted at once, although the disk has not heard of the end yet. */
static void test_grant_after_the_end(void **state)
{
	const int64_t now = clock_wall_us(), end = now + 30 * MINUTE;

	(void)state;
	grant("acme", end);
	tick(now, MINUTE);
	tick(end, 31 * MINUTE);
	assert_int_equal(expired, 1);
	grant("acme", end + 30 * MINUTE);
	assert_int_equal(until("acme"), end + 30 * MINUTE);
}

/* Reading the store again, as a reload does, does not bring the later end back. */
static void test_set_back_and_reload(void **state)
{
	const int64_t now = clock_wall_us(), end = now + 90 * MINUTE;

	(void)state;
	grant("first", now + 300 * MINUTE);
	grant("acme", end);
	tick(now, MINUTE);
	tick(now - 60 * MINUTE, MINUTE);
	assert_int_equal(until("acme"), end - 60 * MINUTE);
	assert_int_equal(exceptions_load(exceptions, &settings), 0);
	assert_int_equal(until("acme"), end - 60 * MINUTE);
	assert_int_equal(until("first"), now + 240 * MINUTE);
}

static void test_set_forward(void **state)
{
	const int64_t now = clock_wall_us(), end = now + 30 * MINUTE;

	(void)state;
	grant("acme", end);
	tick(now, MINUTE);
	tick(now + 20 * MINUTE, MINUTE);
	assert_int_equal(exceptions_clock_step(exceptions), 20 * MINUTE);
	assert_int_equal(until("acme"), end);
	tick(now + 30 * MINUTE, 11 * MINUTE);
	assert_int_equal(expired, 1);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_set_back),
		TEST(test_grant_after_the_end),
		TEST(test_set_back_and_reload),
		TEST(test_set_forward),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
