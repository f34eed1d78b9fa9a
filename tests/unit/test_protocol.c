/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "event.h"
#include "json_writer.h"
#include "rfc3339.h"
#include "snapshot.h"

#define HEAD                                                                                       \
	"{\"v\":1,\"epoch\":\"0123456789abcdef\",\"seq\":17,\"time\":\"2026-01-31T12:00:00."       \
	"000001Z\","
#define CHILD "\"spi_in\":\"c1234567\",\"child_id\":3,\"ike_id\":2"

static struct event_decoded decoded;

static int decode(const char *json, const char **ret_error)
{
	*ret_error = "";
	return event_decode(json, strlen(json), &decoded, ret_error);
}

static struct event full_event(void)
{
	return (struct event){
		.type = EVENT_CHILD_REKEY,
		.epoch = "0123456789abcdef",
		.seq = UINT64_MAX,
		.time_us = 1769860800000001,
		.tenant = "acme",
		.identity = "C=CH, O=\"Acme\", CN=gw",
		.identity_source = "cert",
		.connection = "site",
		.child = "net",
		.mode = "tunnel",
		.remote_host = "192.0.2.10[4500]",
		.spi_in = 0xc1234567,
		.spi_out = 0x00000001,
		.old_spi_in = 0xcfffffff,
		.reqid = 1,
		.ike_id = 2,
		.child_id = 3,
		.old_child_id = 4,
		.local_ts = { "0.0.0.0/0", "::/0" },
		.local_ts_count = 2,
		.remote_ts = { "198.18.1.0/24" },
		.remote_ts_count = 1,
		.vips = { "198.18.3.1" },
		.vips_count = 1,
		.expires_us = 1769860800000000,
		.count = 5,
		.reason = "tab\t, quote \", backslash \\, newline \n, \xc3\xa9",
	};
}

static void test_round_trip(void **state)
{
	char json[EVENT_SIZE_MAX];
	const struct event ev = full_event();
	const struct event *got = &decoded.ev;
	const char *error;

	(void)state;
	assert_true(event_encode(&ev, json, sizeof(json)) > 0);
	assert_int_equal(decode(json, &error), 0);
	assert_int_equal(got->type, ev.type);
	assert_string_equal(got->epoch, ev.epoch);
	assert_int_equal(got->seq, ev.seq);
	assert_int_equal(got->time_us, ev.time_us);
	assert_string_equal(got->tenant, ev.tenant);
	assert_string_equal(got->identity, ev.identity);
	assert_string_equal(got->reason, ev.reason);
	assert_string_equal(got->remote_host, ev.remote_host);
	assert_int_equal(got->spi_in, ev.spi_in);
	assert_int_equal(got->spi_out, ev.spi_out);
	assert_int_equal(got->old_spi_in, ev.old_spi_in);
	assert_int_equal(got->old_child_id, ev.old_child_id);
	assert_int_equal(got->local_ts_count, 2);
	assert_string_equal(got->local_ts[1], "::/0");
	assert_int_equal(got->vips_count, 1);
	assert_int_equal(got->expires_us, ev.expires_us);
	assert_int_equal(got->count, 5);
}

static void test_unidentified_tenant_is_null(void **state)
{
	char json[4096], topic[EVENT_TOPIC_MAX];
	struct event ev = full_event();
	const char *error;

	(void)state;
	ev.tenant = NULL;
	assert_true(event_encode(&ev, json, sizeof(json)) > 0);
	assert_non_null(strstr(json, "\"tenant\":null"));
	assert_int_equal(decode(json, &error), 0);
	assert_null(decoded.ev.tenant);
	event_topic(&ev, topic);
	assert_string_equal(topic, "tenant.%unidentified.child-rekey");
	assert_false(tenant_name_valid(EVENT_TOPIC_UNIDENTIFIED));
}

static void test_topics(void **state)
{
	char topic[EVENT_TOPIC_MAX];

	(void)state;
	event_topic(&(struct event){ .type = EVENT_CHILD_UP, .tenant = "a.b" }, topic);
	assert_string_equal(topic, "tenant.a.b.child-up");
	event_topic(&(struct event){ .type = EVENT_HEARTBEAT }, topic);
	assert_string_equal(topic, "charon.heartbeat");
	event_topic(&(struct event){ .type = EVENT_RESYNCED }, topic);
	assert_string_equal(topic, "steerd.resynced");
}

static void test_type_names(void **state)
{
	(void)state;
	for (unsigned t = 0; t < EVENT_TYPE_COUNT; t++)
		assert_int_equal(event_type_from_name(event_type_name((enum event_type)t)), t);
	assert_int_equal(event_type_from_name("child-sideways"), EVENT_TYPE_COUNT);
}

static void test_writer_never_overflows(void **state)
{
	const struct event ev = full_event();
	char json[EVENT_SIZE_MAX];
	size_t len = event_encode(&ev, json, sizeof(json));

	(void)state;
	for (size_t size = 1; size <= len + 1; size++) {
		char *exact = malloc(size);

		assert_int_equal(event_encode(&ev, exact, size), size > len ? len : 0);
		free(exact);
	}
}

static void test_writer_replaces_what_is_not_utf8(void **state)
{
	static const char *const bad[] = { "\xff",         "\xc0\xaf",
					   "\xed\xa0\x80", "\xf4\x90\x80\x80",
					   "\xe2\x82",     "\x80" };
	char json[128];
	struct json_writer w;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		json_init(&w, json, sizeof(json));
		json_string(&w, NULL, bad[i]);
		assert_true(json_finish(&w) > 0);
		assert_memory_equal(json, "\"\xef\xbf\xbd", 4);
	}
}

static void test_refuses(void **state)
{
	static const struct {
		const char *json, *error;
	} cases[] = {
		{ "", "not JSON" },
		{ "[]", "an event is not an object" },
		{ "{}", "one of v, epoch, seq, time, type is missing" },
		{ HEAD "\"type\":\"child-sideways\"}", "type is unknown" },
		{ HEAD "\"type\":\"child-up\"}", "a child event lacks spi_in, child_id or ike_id" },
		{ HEAD "\"type\":\"child-rekey\"," CHILD "}", "child-rekey lacks old_spi_in" },
		{ HEAD "\"type\":\"ike-update\"}", "ike-update lacks ike_id" },
		{ HEAD "\"type\":\"heartbeat\"}", "heartbeat lacks interval_ms" },
		{ HEAD "\"type\":\"child-up\"," CHILD ",\"tenant\":\"a b\"}",
		  "tenant is not a tenant name" },
		{ HEAD "\"type\":\"child-up\"," CHILD ",\"tenant\":\"\"}",
		  "tenant is not a tenant name" },
		{ HEAD "\"type\":\"child-up\"," CHILD ",\"spi_out\":\"C1234567\"}",
		  "an SPI is not 8 hex digits" },
		{ HEAD "\"type\":\"child-up\"," CHILD ",\"spi_out\":3}",
		  "a number stands where something else was expected" },
		{ HEAD "\"type\":\"child-up\"," CHILD ",\"reqid\":4294967296}",
		  "a number is out of range" },
		{ HEAD "\"type\":\"child-up\"," CHILD ",\"reqid\":-1}",
		  "a number is out of range" },
		{ HEAD "\"type\":\"child-up\"," CHILD ",\"reqid\":1e3}",
		  "a number is out of range" },
		{ HEAD "\"type\":\"child-up\"," CHILD ",\"vips\":\"a\"}",
		  "a string stands where a list was expected" },
		{ HEAD "\"type\":\"child-up\"," CHILD ",\"child\":[\"a\"]}",
		  "a list stands where a value was expected" },
		{ HEAD "\"type\":\"child-up\"," CHILD ",\"child\":{}}",
		  "an object stands where a value was expected" },
		{ HEAD "\"type\":\"child-up\"," CHILD ",\"child\":\"a\\u0000b\"}",
		  "a string is too long or holds a NUL" },
		{ HEAD "\"seq\":18,\"type\":\"child-up\"}", "a key stands twice" },
		{ HEAD "\"type\":\"heartbeat\",\"interval_ms\":1}x", "not JSON" },
		{ "{\"v\":2,\"epoch\":\"0123456789abcdef\"}", "v is not 1" },
		{ "{\"v\":1,\"epoch\":\"0123456789ABCDEF\"}",
		  "epoch is not 16 lower-case hex digits" },
		{ "{\"v\":1,\"time\":\"2026-13-31T12:00:00.000001Z\"}",
		  "time is not RFC 3339 in UTC" },
		{ "{\"v\":1,\"time\":\"2026-01-31T12:00:00Z\"}", "time is not RFC 3339 in UTC" },
		{ HEAD "\"x\":[[[[[[[[[[]]]]]]]]]],\"type\":\"heartbeat\"}", "nested too deep" },
	};
	const char *error;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(decode(cases[i].json, &error), -EINVAL);
		assert_string_equal(error, cases[i].error);
	}
}

static void test_accepts_what_a_newer_writer_adds(void **state)
{
	const char *error;

	(void)state;
	assert_int_equal(
		decode(HEAD "\"new\":{\"a\":[1,null,{\"tenant\":\"x y\"}]},\"type\":\"child-up\","
			    "\"tenant\":\"acme\",\"more\":true," CHILD "}",
		       &error),
		0);
	assert_string_equal(decoded.ev.tenant, "acme");
}

static void test_bounds(void **state)
{
	char json[EVENT_SIZE_MAX + 2], *at = json;
	const char *error;

	(void)state;
	at += sprintf(at, HEAD "\"type\":\"child-up\"," CHILD ",\"vips\":[\"v\"");
	for (int i = 1; i < EVENT_VIPS_MAX; i++)
		at += sprintf(at, ",\"v\"");
	sprintf(at, "]}");
	assert_int_equal(decode(json, &error), 0);
	sprintf(at, ",\"v\"]}");
	assert_int_equal(decode(json, &error), -EINVAL);
	assert_string_equal(error, "a list is too long");
	memset(json, ' ', sizeof(json));
	assert_int_equal(event_decode(json, EVENT_SIZE_MAX + 1, &decoded, &error), -EINVAL);
	assert_string_equal(error, "longer than 65536 bytes");
}

/* Every cut and every changed byte of a good event is refused or read, never more. */
static void test_mutations(void **state)
{
	const struct event ev = full_event();
	char json[4096], *exact;
	size_t len = event_encode(&ev, json, sizeof(json));
	const char *error;

	(void)state;
	for (size_t cut = 0; cut < len; cut++) {
		exact = malloc(cut + 1);
		memcpy(exact, json, cut);
		assert_int_equal(event_decode(exact, cut, &decoded, &error), -EINVAL);
		free(exact);
	}
	for (size_t i = 0; i < len; i++)
		for (int bit = 0; bit < 8; bit++) {
			exact = malloc(len);
			memcpy(exact, json, len);
			exact[i] = (char)(exact[i] ^ 1 << bit);
			if (event_decode(exact, len, &decoded, &error) == 0 && decoded.ev.tenant)
				assert_true(tenant_name_valid(decoded.ev.tenant));
			free(exact);
		}
}

static void test_tenant_names(void **state)
{
	char name[TENANT_NAME_MAX + 1] = "untouched", longest[TENANT_NAME_MAX + 2];

	(void)state;
	assert_true(tenant_name_encode("acme", 4, name));
	assert_string_equal(name, "acme");
	assert_true(tenant_name_encode("C=CH, O=%", 9, name));
	assert_string_equal(name, "C%3DCH%2C%20O%3D%25");
	assert_true(tenant_name_valid(name));
	assert_false(tenant_name_encode("", 0, name));
	memset(longest, 'x', sizeof(longest));
	assert_true(tenant_name_encode(longest, TENANT_NAME_MAX, name));
	assert_true(tenant_name_valid(name));
	strcpy(name, "untouched");
	assert_false(tenant_name_encode(longest, TENANT_NAME_MAX + 1, name));
	assert_string_equal(name, "untouched");
	assert_false(tenant_name_encode(" ", 0, name));
	/* one spelling for each identity */
	assert_false(tenant_name_valid("%41"));
	assert_false(tenant_name_valid("%3d"));
	assert_false(tenant_name_valid("%"));
	assert_false(tenant_name_valid("a/b"));
	assert_false(tenant_name_valid(NULL));
}

static void test_snapshot_framing(void **state)
{
	const struct snapshot_header header = { "0123456789abcdef", 42, true, 256, true, 1000 };
	struct snapshot_header got;
	char text[SNAPSHOT_HEADER_MAX];
	uint64_t cursor = 7;
	size_t len;

	(void)state;
	len = snapshot_request_encode(UINT32_MAX, text, sizeof(text));
	assert_int_equal(snapshot_request_decode(text, len, &cursor), 0);
	assert_int_equal(cursor, UINT32_MAX);
	assert_int_equal(snapshot_request_decode(text, len - 1, &cursor), -EINVAL);
	assert_int_equal(snapshot_request_decode("", 0, &cursor), -EINVAL);
	len = snapshot_header_encode(&header, text, sizeof(text));
	assert_int_equal(snapshot_header_decode(text, len, &got), 0);
	assert_memory_equal(&got.seq, &header.seq, sizeof(got.seq));
	assert_string_equal(got.epoch, header.epoch);
	assert_true(got.userspace_esp && got.more);
	assert_int_equal(got.cursor, 256);
	assert_int_equal(got.children, 1000);
	assert_int_equal(snapshot_header_decode("{\"v\":1}", 7, &got), -EINVAL);
}

static void test_time(void **state)
{
	static const char *const bad[] = {
		"",
		"2026",
		"2026-01-31",
		"2026-01-31T12:00:00",
		"2026-01-31T12:00:00+01:00",
		"2026-01-31 12:00:00Z",
		"2026-01-31T12:00:00.Z",
		"2026-01-31T12:00:00.1234567Z",
		"2026-01-31T12:00:00ZZ",
		"2026-1-31T12:00:00Z",
		"2026-04-31T12:00:00Z",
		"2026-13-01T12:00:00Z",
		"2026-00-01T12:00:00Z",
		"2026-01-31T24:00:00Z",
		"2026-01-31T12:60:00Z",
		"2026-01-31T12:00:61Z",
		"1969-12-31T23:59:59Z",
		"+026-01-31T12:00:00Z",
	};
	int64_t us = 7;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(rfc3339_parse(bad[i], &us), -EINVAL);
	assert_int_equal(us, 7);
	assert_int_equal(rfc3339_parse("1970-01-01T00:00:00Z", &us), 0);
	assert_int_equal(us, 0);
	assert_int_equal(rfc3339_parse("2023-11-14T22:13:20.000001Z", &us), 0);
	assert_int_equal(us, 1700000000000001);
	assert_int_equal(rfc3339_parse("2023-11-14T22:13:20.5Z", &us), 0);
	assert_int_equal(us, 1700000000500000);
	assert_int_equal(rfc3339_parse("2024-02-29T00:00:00Z", &us), 0);
	assert_int_equal(rfc3339_parse("2016-12-31T23:59:60Z", &us), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_time),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_unidentified_tenant_is_null),
		cmocka_unit_test(test_topics),
		cmocka_unit_test(test_type_names),
		cmocka_unit_test(test_writer_never_overflows),
		cmocka_unit_test(test_writer_replaces_what_is_not_utf8),
		cmocka_unit_test(test_refuses),
		cmocka_unit_test(test_accepts_what_a_newer_writer_adds),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_mutations),
		cmocka_unit_test(test_tenant_names),
		cmocka_unit_test(test_snapshot_framing),
	};

	return cmocka_run_group_tests_name("protocol", tests, NULL, NULL);
}
