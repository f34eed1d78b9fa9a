/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The file of steerctl export and apply: what is written can be read, and what is wrong is told. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/steerctl_list.h"

static struct list list;
static char error[LIST_ERROR_MAX];

static int setup(void **state)
{
	(void)state;
	list = (struct list){ 0 };
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	list_free(&list);
	return 0;
}

static void add(const char *tenant, const char *profile, const char *reason)
{
	struct exception wish = { .scope = RECORD_SCOPE_TENANT,
				  .change_request = "CR-1",
				  .accepted_by = "ciso",
				  .expires_at_us = INT64_C(1800000000123456),
				  .risk_version = 1,
				  .risk_sha256 = "ab" };

	strcpy(wish.tenant, tenant);
	strcpy(wish.profile, profile);
	strcpy(wish.reason, reason);
	assert_int_equal(list_add(&list, &wish, 0), 0);
}

static char *text_of_list(void)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	assert_non_null(out);
	assert_int_equal(list_write(out, &list), 0);
	fclose(out);
	return text;
}

static void test_written_and_read(void **state)
{
	struct list again = { 0 };
	char *text, *second;

	(void)state;
	add("b", "skype", "\x01 \"quoted\" \\ \x7f \xc3\xa9\nsecond line");
	add("a", "zoom", "x");
	add("a", "skype", "x");
	list_sort(&list);
	text = text_of_list();
	assert_int_equal(list_parse(text, strlen(text), &again, error), 0);
	assert_int_equal(again.count, 3);
	for (size_t i = 0; i < 3; i++) {
		assert_string_equal(again.entries[i].json, list.entries[i].json);
		assert_string_equal(again.entries[i].key, list.entries[i].key);
		assert_int_equal(again.entries[i].line, 4 + 12 * i);
	}
	assert_string_equal(again.entries[0].key, "a\nskype\ntenant\n");
	list_free(&list);
	list = again;
	second = text_of_list();
	assert_string_equal(second, text);
	free(text);
	free(second);
}

static void test_empty(void **state)
{
	struct list again = { 0 };
	char *text = text_of_list();

	(void)state;
	assert_int_equal(list_parse(text, strlen(text), &again, error), 0);
	assert_int_equal(again.count, 0);
	free(text);
}

/* By hand: what goes without saying is left out, members are in any order. */
static void test_by_hand(void **state)
{
	const char *const text = "{\"exceptions\":[{\"profile\":\"skype\",\"tenant\":\"acme\","
				 "\"destinations\":null,\"expires_at\":\"2027-01-15T08:00:00Z\"}],"
				 "\"version\":1}";

	(void)state;
	assert_int_equal(list_parse(text, strlen(text), &list, error), 0);
	assert_int_equal(list.count, 1);
	assert_non_null(strstr(list.entries[0].json, "\"scope\":\"tenant\""));
	assert_non_null(strstr(list.entries[0].json, "\"2027-01-15T08:00:00.000000Z\""));
}

#define DOCUMENT(entries) "{\"version\":1,\n\"exceptions\":[\n" entries "\n]}"
#define ACME "{\"tenant\":\"acme\",\"profile\":\"skype\""

static void test_wrong(void **state)
{
	static const struct {
		const char *text, *says;
	} rows[] = {
		{ "", "line 1: not JSON" },
		{ "[]", "line 1: expected an object" },
		{ "7", "line 1: expected an object" },
		{ "{}", "expected an object with \"version\" and \"exceptions\"" },
		{ "{\"version\":1}", "expected an object with" },
		{ "{\n\"version\":2,\"exceptions\":[]}", "line 2: version: expected 1" },
		{ "{\"version\":\"1\",\"exceptions\":[]}", "version: expected 1" },
		{ "{\"version\":1,\"exceptions\":{}}", "exceptions: expected a list" },
		{ "{\"version\":1,\"exceptions\":null}", "exceptions: expected a list" },
		{ "{\"version\":1,\n\"more\":1,\"exceptions\":[]}",
		  "line 2: unknown member \"more\"" },
		{ "{\"version\":1,\"version\":1,\"exceptions\":[]}", "version is there twice" },
		{ "{\"version\":1,\"exceptions\":[]} {}", "not JSON" },
		{ "{\"version\":1,\"exceptions\":[]", "not JSON" },
		{ DOCUMENT("7"), "line 3: exceptions: expected objects" },
		{ DOCUMENT("[]"), "exceptions: expected objects" },
		{ DOCUMENT(ACME ",\n\"colour\":1}"), "line 4, entry 1: unknown member \"colour\"" },
		{ DOCUMENT(ACME ",\"tenant\":\"a\"}"), "entry 1: tenant is there twice" },
		{ DOCUMENT(ACME ",\"reason\":7}"), "entry 1: reason: expected a text" },
		{ DOCUMENT(ACME ",\"reason\":true}"), "reason: expected a text" },
		{ DOCUMENT(ACME ",\"reason\":[]}"), "reason: expected a text" },
		{ DOCUMENT(ACME ",\"reason\":{}}"), "reason: expected a text" },
		{ DOCUMENT(ACME ",\"reason\":\"a\\u0000b\"}"), "reason: expected a text without" },
		{ DOCUMENT(ACME ",\"expires_at\":1}"), "expires_at: expected a time" },
		{ DOCUMENT(ACME ",\"expires_at\":\"soon\"}"), "expires_at: expected a time" },
		{ DOCUMENT(ACME ",\"expires_at\":\"2027-02-30T00:00:00Z\"}"),
		  "expires_at: expected a time" },
		{ DOCUMENT(ACME ",\"risk_version\":\"1\"}"), "risk_version: expected a whole" },
		{ DOCUMENT(ACME ",\"risk_version\":1.5}"), "risk_version: expected a whole" },
		{ DOCUMENT(ACME ",\"risk_version\":-1}"), "risk_version: expected a whole" },
		{ DOCUMENT("{\"profile\":\"skype\"}"), "tenant: expected" },
		{ DOCUMENT("{\"tenant\":\"no name\",\"profile\":\"skype\"}"), "tenant: expected" },
		{ DOCUMENT("{\"tenant\":\"acme\"}"), "profile: expected" },
		{ DOCUMENT(ACME "},\n" ACME ",\"scope\":\"tenant\"}"),
		  "line 4, entry 2: the same tenant, profile, scope and destinations as entry 1, "
		  "line 3" },
		{ DOCUMENT(ACME "},\n\n" ACME ",\"reason\":\"\xff\"}"), "line 5: not JSON" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(list_parse(rows[i].text, strlen(rows[i].text), &list, error),
				 -EINVAL);
		if (!strstr(error, rows[i].says))
			fail_msg("%s: \"%s\" does not say \"%s\"", rows[i].text, error,
				 rows[i].says);
		list_free(&list);
	}
}

static void test_too_long(void **state)
{
	char text[1024];
	int len;

	(void)state;
	len = snprintf(text, sizeof(text), DOCUMENT(ACME ",\"reason\":\"%0255d\"}"), 7);
	assert_int_equal(list_parse(text, (size_t)len, &list, error), 0);
	list_free(&list);
	len = snprintf(text, sizeof(text), DOCUMENT(ACME ",\"reason\":\"%0256d\"}"), 7);
	assert_int_equal(list_parse(text, (size_t)len, &list, error), -EINVAL);
	assert_non_null(strstr(error, "reason: expected a text of at most 255 bytes"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_written_and_read, setup, teardown),
		cmocka_unit_test_setup_teardown(test_empty, setup, teardown),
		cmocka_unit_test_setup_teardown(test_by_hand, setup, teardown),
		cmocka_unit_test_setup_teardown(test_wrong, setup, teardown),
		cmocka_unit_test_setup_teardown(test_too_long, setup, teardown),
	};

	return cmocka_run_group_tests_name("list", tests, NULL, NULL);
}
