/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * explain --at: what the audit log says of a time that has been, in each stretch of an exception's life,
 * and what it cannot say. The clocks are the test's; the store and its log are real ones.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "book.h"
#include "control/commands.h"
#include "daemon.h"

/* START, and so many minutes after it. */
#define AT_START "2023-11-14T22:13:20Z"
#define AT_5 "2023-11-14T22:18:20Z"
#define AT_10 "2023-11-14T22:23:20Z"
#define AT_12 "2023-11-14T22:25:20Z"
#define AT_15 "2023-11-14T22:28:20Z"
#define AT_20 "2023-11-14T22:33:20Z"
#define AT_25 "2023-11-14T22:38:20Z"
/* As many as are told of. */
#define TOLD 32

static char text[1 << 18], refusal[CONTROL_ERROR_MAX];
static yajl_val told;

static int setup(void **state)
{
	text[0] = refusal[0] = '\0';
	return book_setup(state);
}

static int teardown(void **state)
{
	yajl_tree_free(told);
	told = NULL;
	return book_teardown(state);
}

/* The request's members; what is told is in told, or in refusal. */
static int ask(const char *request)
{
	static struct daemon daemon;
	yajl_val tree = yajl_tree_parse(request, NULL, 0);
	struct json_writer w;
	int r;

	assert_non_null(tree);
	daemon.core.exceptions = book.exceptions;
	json_init(&w, text, sizeof(text));
	json_object_begin(&w, NULL);
	r = explain_at(&daemon, tree, &w, refusal);
	json_object_end(&w);
	assert_int_equal(json_finish(&w) > 0, 1);
	yajl_tree_free(tree);
	yajl_tree_free(told);
	told = yajl_tree_parse(text, NULL, 0);
	return r;
}

static void ask_at(const char *tenant, const char *at)
{
	char request[256];

	snprintf(request, sizeof(request), "{\"subject\":\"%s\",\"at\":\"%s\"}", tenant, at);
	if (ask(request) != 0)
		fail_msg("%s", refusal);
}

static void expect_refused(const char *request, int r, const char *sentence)
{
	refusal[0] = '\0';
	assert_int_equal(ask(request), r);
	if (!strstr(refusal, sentence))
		fail_msg("%s\ngot: %s\nexpected: %s", request, refusal, sentence);
}

static yajl_val member(yajl_val object, const char *name)
{
	const char *path[] = { name, NULL };

	return yajl_tree_get(object, path, yajl_t_any);
}

static const char *string(yajl_val value)
{
	assert_true(YAJL_IS_STRING(value));
	return value->u.string;
}

static yajl_val explained(const char *name)
{
	return member(member(told, "explain"), name);
}

static size_t count(const char *list)
{
	assert_true(YAJL_IS_ARRAY(explained(list)));
	return YAJL_GET_ARRAY(explained(list))->len;
}

static yajl_val item(const char *list, size_t index)
{
	assert_true(index < count(list));
	return YAJL_GET_ARRAY(explained(list))->values[index];
}

static void expect_text(yajl_val object, const char *name, const char *expected)
{
	assert_string_equal(string(member(object, name)), expected);
}

static void expect_reason(size_t index, bool met, const char *sentence)
{
	yajl_val reason = item("reasons", index);

	expect_text(reason, "text", sentence);
	assert_int_equal(YAJL_IS_TRUE(member(reason, "ok")), met);
}

static void expect_record(size_t index, long long id, long long version)
{
	yajl_val record = item("in_force", index);

	assert_int_equal(YAJL_GET_INTEGER(member(record, "id")), id);
	assert_int_equal(YAJL_GET_INTEGER(member(record, "version")), version);
}

/* The actions of the entries around, with commas. */
static void expect_entries(const char *expected)
{
	char actions[256] = "";

	for (size_t i = 0; i < count("entries"); i++) {
		yajl_val action = member(item("entries", i), "action");

		snprintf(actions + strlen(actions), sizeof(actions) - strlen(actions), "%s%s",
			 i ? "," : "", string(action));
	}
	assert_string_equal(actions, expected);
}

/* Exception 1: granted for 30 minutes, after 10 minutes for 20, revoked after 15. */
static void live(void)
{
	const struct exceptions_change sooner = { .expires_at_us = START + 20 * MINUTE };
	const struct exceptions_revocation over = { .tenant = "acme", .reason = "over" };
	struct exception changed;
	unsigned ids;

	book_grant("acme", "skype", 30);
	book_tick(10, 10);
	assert_true(book_change(1, &sooner, &changed) >= 0);
	book_tick(15, 15);
	assert_true(book_take_back(&over, &ids) >= 0);
	assert_int_equal(exceptions_settle(book.exceptions), 0);
	book_tick(60, 60);
}

static void test_in_force(void **state)
{
	(void)state;
	live();
	ask_at("acme", AT_5);
	expect_text(member(told, "explain"), "subject", "acme");
	expect_text(member(told, "explain"), "tenant", "acme");
	expect_text(member(told, "explain"), "source", "audit log");
	assert_true(YAJL_IS_NULL(explained("path")));
	assert_non_null(strstr(string(explained("summary")), "an exception was in force"));
	assert_int_equal(count("reasons"), 1);
	expect_reason(
		0, true,
		"exception 1, version 1, for profile skype was in force: granted by op at " AT_START
		", risk accepted by ciso (CR-1), end 2023-11-14T22:43:20Z");
	assert_int_equal(count("in_force"), 1);
	expect_record(0, 1, 1);
	expect_entries("grant,change,revoke");
	/* what it was changed to, from that moment on */
	ask_at("acme", AT_10);
	expect_record(0, 1, 2);
	ask_at("acme", AT_12);
	expect_record(0, 1, 2);
	assert_non_null(strstr(text, "end " AT_20));
}

/* At the moment itself, and ever after; by whom, and why. */
static void test_revoked(void **state)
{
	static const char *const times[] = { AT_15, AT_20, AT_25 };

	(void)state;
	live();
	for (unsigned i = 0; i < 3; i++) {
		ask_at("acme", times[i]);
		assert_int_equal(count("in_force"), 0);
		assert_int_equal(count("reasons"), 2);
		expect_reason(0, false, "no exception of acme was in force");
		expect_reason(1, false,
			      "exception 1, for profile skype, had ended at " AT_15
			      ", by second: over");
		assert_non_null(strstr(string(explained("summary")), "no exception was in force"));
	}
}

/* Of itself, also if nobody has written that down: steerd was away. */
static void test_expired(void **state)
{
	(void)state;
	book_grant("acme", "skype", 10);
	fake_clock_set(START + 60 * MINUTE, BOOT_START + 60 * MINUTE);
	ask_at("acme", AT_5);
	assert_int_equal(count("in_force"), 1);
	for (unsigned written = 0; written < 2; written++) {
		ask_at("acme", AT_10);
		assert_int_equal(count("in_force"), 0);
		expect_reason(1, false, "exception 1, for profile skype, had ended at " AT_10);
		book_expire();
		assert_int_equal(exceptions_settle(book.exceptions), 0);
	}
	expect_entries("grant,expire");
}

static void test_before_the_log(void **state)
{
	(void)state;
	ask_at("acme", AT_START);
	expect_reason(0, false,
		      "the log begins at the first grant, which is to come; it says nothing of "
		      "before");
	expect_reason(1, false, "no exception of acme was in force");
	live();
	ask_at("acme", "2023-11-14T22:13:19Z");
	assert_int_equal(count("reasons"), 2);
	expect_reason(0, false, "the log begins at " AT_START "; it says nothing of before");
	assert_int_equal(count("in_force"), 0);
	expect_entries("grant,change,revoke"); /* what comes next */
	ask_at("acme", AT_START);
	assert_int_equal(count("in_force"), 1);
}

/* Another tenant's exceptions are not this one's. */
static void test_other_tenants(void **state)
{
	(void)state;
	live();
	fake_clock_set(START + 61 * MINUTE, BOOT_START + 61 * MINUTE);
	book_grant("globex", "skype", 30);
	book_grant("globex", "short", 30);
	book_tick(62, 62);
	ask_at("acme", "2023-11-14T23:15:00Z");
	assert_int_equal(count("in_force"), 0);
	expect_entries("grant,change,revoke");
	ask_at("globex", "2023-11-14T23:15:00Z");
	assert_int_equal(count("in_force"), 2);
	assert_int_equal(count("reasons"), 2);
	expect_record(0, 2, 1);
	expect_record(1, 3, 1);
	ask_at("umbrella", AT_5);
	expect_reason(0, false, "no exception of umbrella was in force");
	expect_entries("");
}

/* Three entries before, and three after. */
static void test_entries_around(void **state)
{
	struct exception exception;

	(void)state;
	for (unsigned i = 0; i < 8; i++) {
		book_tick(i, i);
		exception = book_wish("acme", "skype", 60);
		snprintf(exception.scope, sizeof(exception.scope), "host 198.18.1.%u", i + 1);
		assert_int_equal(exceptions_grant(book.exceptions, &exception, book.error), 0);
	}
	book_tick(20, 20);
	ask_at("acme", "2023-11-14T22:17:30Z"); /* between the fifth and the sixth */
	assert_int_equal(count("in_force"), 5);
	assert_int_equal(count("entries"), 6);
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(YAJL_GET_INTEGER(member(item("entries", i), "seq")), 3 + i);
}

/* The answer has a limit; that an exception was in force stays true. */
static void test_many(void **state)
{
	struct exception exception;

	(void)state;
	for (unsigned i = 0; i < TOLD + 8; i++) {
		exception = book_wish("acme", "skype", 60);
		snprintf(exception.scope, sizeof(exception.scope), "host 198.18.1.%u", i);
		assert_int_equal(exceptions_grant(book.exceptions, &exception, book.error), 0);
	}
	book_tick(10, 10);
	ask_at("acme", AT_5);
	assert_int_equal(count("reasons"), TOLD);
	assert_int_equal(count("in_force"), TOLD);
	expect_record(TOLD - 1, TOLD, 1);
}

static void test_times(void **state)
{
	static const char *const same[] = { AT_5, "2023-11-14 22:18:20", "2023-11-14 22:18:20Z",
					    "2023-11-14T22:18:20", "2023-11-14T22:18:20.000000Z" };
	static const char *const bad[] = { "yesterday", "2023-11-14", "2023-11-14 22:18 +1",
					   "2023-11-14T22:18:20+01:00", "2023-13-14 22:18" };
	char request[128];

	(void)state;
	live();
	for (unsigned i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
		ask_at("acme", same[i]);
		expect_record(0, 1, 1);
	}
	/* without seconds: the first of that minute, before the change and after it */
	ask_at("acme", "2023-11-14 22:23");
	expect_record(0, 1, 1);
	ask_at("acme", "2023-11-14 22:24");
	expect_record(0, 1, 2);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(request, sizeof(request), "{\"subject\":\"acme\",\"at\":\"%s\"}", bad[i]);
		expect_refused(request, -EINVAL, "at: expected a time in UTC, such as ");
	}
	expect_refused("{\"subject\":\"acme\",\"at\":\"2023-11-14T23:13:21Z\"}", -EINVAL,
		       "at: expected a time that has been");
}

static void test_what_the_log_has_not(void **state)
{
	(void)state;
	live();
	expect_refused("{\"subject\":\"acme\",\"at\":\"" AT_5 "\",\"dst\":\"203.0.113.1:443\"}",
		       -EINVAL, "flows are not in the audit log");
	expect_refused("{\"subject\":\"acme\",\"at\":\"" AT_5 "\",\"proto\":\"tcp\"}", -EINVAL,
		       "flows are not in the audit log");
	expect_refused("{\"at\":\"" AT_5 "\"}", -EINVAL, "subject: expected a tenant name");
	expect_refused("{\"subject\":\"a b\",\"at\":\"" AT_5 "\"}", -EINVAL,
		       "subject: expected a tenant name");
	expect_refused("{\"subject\":\"198.18.1.5\",\"at\":\"" AT_5 "\"}", -EINVAL,
		       "subject: addresses are not in the audit log");
	expect_refused("{\"subject\":\"2001:db8::5\",\"at\":\"" AT_5 "\"}", -EINVAL, "subject: ");
	/* an address that is a tenant's name is a tenant */
	fake_clock_set(START + 61 * MINUTE, BOOT_START + 61 * MINUTE);
	book_grant("198.18.1.5", "skype", 30);
	ask_at("198.18.1.5", "2023-11-14T23:14:20Z");
	assert_int_equal(count("in_force"), 1);
}

/* A store that cannot be read says so, and nothing else. */
static void test_no_store(void **state)
{
	(void)state;
	live();
	book_run_sql("PRAGMA user_version = 1000");
	assert_int_equal(exceptions_load(book.exceptions, &book.settings), -EUCLEAN);
	expect_refused("{\"subject\":\"acme\",\"at\":\"" AT_5 "\"}", -EUCLEAN,
		       "from a newer release");
	assert_null(member(told, "explain"));
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_in_force),
		TEST(test_revoked),
		TEST(test_expired),
		TEST(test_before_the_log),
		TEST(test_other_tenants),
		TEST(test_entries_around),
		TEST(test_many),
		TEST(test_times),
		TEST(test_what_the_log_has_not),
		TEST(test_no_store),
	};

	return cmocka_run_group_tests_name("explain at", tests, NULL, NULL);
}
