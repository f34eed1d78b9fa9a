/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The record of an exception as JSON, the digest, and the text of the risk, letter by letter. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "record/record.h"
#include "record/risk.h"

static void test_digest(void **state)
{
	char hex[DIGEST_HEX_LEN + 1];

	(void)state;
	digest_sha256("abc", 3, hex); /* FIPS 180-4's own example */
	assert_string_equal(hex,
			    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	digest_sha256("", 0, hex);
	assert_string_equal(hex,
			    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

/* What was accepted is known by it: another letter is another version. */
static void test_risk(void **state)
{
	char hex[DIGEST_HEX_LEN + 1];

	(void)state;
	risk_sha256(hex);
	assert_int_equal(RISK_VERSION, 1);
	assert_string_equal(hex,
			    "3d21e818327c1a0ea8f99a32fbc398a75c9490215110cdc9d82be02d863adb2d");
}

static void test_json(void **state)
{
	struct exception e = {
		.id = 7,
		.version = 2,
		.tenant = "acme",
		.profile = "skype",
		.kind = "grant",
		.scope = "tenant",
		.change_request = "CR \"1\"",
		.accepted_by = "A. Officer",
		.reason = "calls\n",
		.risk_version = 1,
		.risk_sha256 = "ab",
		.granted_by = { 0, "root" },
		.granted = { "b", 1700000000000001, 5 },
		.expires_at_us = 1700000060000000,
		.end_set = { "c", 1700000000000002, 6 },
		.ended_by.uid = -1,
	};
	char buf[RECORD_JSON_MAX] = "";
	size_t len = record_json(&e, buf);

	(void)state;
	assert_int_equal(len, strlen(buf));
	assert_string_equal(
		buf,
		"{\"id\":7,\"version\":2,\"tenant\":\"acme\",\"profile\":\"skype\",\"kind\":"
		"\"grant\",\"scope\":"
		"\"tenant\","
		"\"destinations\":null,\"change_request\":\"CR "
		"\\\"1\\\"\",\"accepted_by\":\"A. Officer\","
		"\"reason\":\"calls\\u000a\",\"risk_version\":1,\"risk_sha256\":\"ab\",\"granted_"
		"by\":\"root\","
		"\"granted_by_uid\":0,\"granted_at\":\"2023-11-14T22:13:20.000001Z\","
		"\"granted_boot\":\"b\","
		"\"granted_boottime_us\":5,\"expires_at\":\"2023-11-14T22:14:20.000000Z\","
		"\"end_set_at\":\"2023-11-14T22:13:20.000002Z\",\"end_set_boot\":\"c\","
		"\"end_set_boottime_us\":6,\"ended_at\":null,\"ended_by\":null,\"ended_by_"
		"uid\":null,"
		"\"end_reason\":null}");
}

static void test_read(void **state)
{
	struct exception e = { .id = 7,
			       .version = 3,
			       .tenant = "acme",
			       .profile = "skype",
			       .scope = "tenant",
			       .reason = "x",
			       .granted_by = { 0, "root" },
			       .granted = { "b", 1700000000000001, 5 },
			       .ended_by.uid = -1 };
	struct exception back;
	char buf[RECORD_JSON_MAX];

	(void)state;
	record_json(&e, buf);
	assert_int_equal(record_read(buf, &back), 0);
	assert_memory_equal(&back, &e, sizeof(e));
	assert_int_equal(record_read("", &back), -EINVAL);
	assert_int_equal(record_read("[]", &back), -EINVAL);
	assert_int_equal(record_read("{\"id\":7}", &back), -EINVAL);
	memcpy(strstr(buf, "2023"), "2o23", 4);
	assert_int_equal(record_read(buf, &back), -EINVAL);
	record_json(&e, buf);
	memcpy(strstr(buf, "\"id\":7"), "\"id\":x", 6);
	assert_int_equal(record_read(buf, &back), -EINVAL);
}

static void test_difference(void **state)
{
	struct exception a = { .id = 7, .version = 1, .reason = "a \"b\"", .ended_by.uid = -1 };
	struct exception b = a;
	char buf[RECORD_DIFFERENCE_MAX];

	(void)state;
	b.version = 2;
	b.end_set.boottime_us = 9;
	record_difference(&a, &b, buf);
	assert_string_equal(buf, "");
	strcpy(b.reason, "c");
	b.expires_at_us = 1700000000000000;
	b.ended_by.uid = 0;
	record_difference(&a, &b, buf);
	assert_string_equal(buf, "reason \"a \\\"b\\\"\" -> \"c\", expires_at null -> "
				 "\"2023-11-14T22:13:20.000000Z\", ended_by_uid null -> 0");
	/* as long as it gets */
	for (size_t i = 0; i < record_field_count; i++)
		if (record_fields[i].kind == RECORD_TEXT)
			memset((char *)&b + record_fields[i].offset, 1, record_fields[i].size - 1);
	record_difference(&a, &b, buf);
	assert_true(strlen(buf) < RECORD_DIFFERENCE_MAX);
}

/* Whatever the texts hold, it fits. */
static void test_longest(void **state)
{
	char buf[RECORD_JSON_MAX];
	struct exception e;

	(void)state;
	memset(&e, 0xff, sizeof(e));
	for (size_t i = 0; i < record_field_count; i++)
		if (record_fields[i].kind == RECORD_TEXT) {
			char *text = (char *)&e + record_fields[i].offset;

			memset(text, 1, record_fields[i].size - 1);
			text[record_fields[i].size - 1] = '\0';
		}
	assert_true(record_json(&e, buf) > 6 * RECORD_DESTINATIONS_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_digest), cmocka_unit_test(test_risk),
		cmocka_unit_test(test_json),   cmocka_unit_test(test_longest),
		cmocka_unit_test(test_read),   cmocka_unit_test(test_difference),
	};

	return cmocka_run_group_tests_name("record", tests, NULL, NULL);
}
