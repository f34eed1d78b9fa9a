/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Records as topic and JSON: charon-plugin/tenant_tag_message.c. */
#include <library.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tenant_tag_message.h"

#define EPOCH "0123456789abcdef"

static tenant_tag_sa_t *make_sa(void)
{
	host_t *host = host_create_from_string("192.0.2.10", 4500);
	host_t *vip = host_create_from_string("198.18.1.1", 0);
	tenant_tag_sa_t *sa;

	sa = tenant_tag_sa_create(7, 3, tenant_tag_facts_create("road"));
	sa->spi_in = 0xc0000007;
	sa->mode = MODE_TUNNEL;
	sa->child = strdup("net");
	tenant_tag_sa_set_remote(sa, host);
	tenant_tag_sa_set_vips(sa, enumerator_create_single(vip, NULL));
	vip->destroy(vip);
	host->destroy(host);
	return sa;
}

static void add_ts(tenant_tag_sa_t *sa, traffic_selector_t *ts)
{
	tenant_tag_sa_set_ts(sa, FALSE, enumerator_create_single(ts, NULL));
	ts->destroy(ts);
}

static char *encode(tenant_tag_message_t *message, tenant_tag_sa_t *sa, enum event_type type,
		    char *tenant)
{
	tenant_tag_change_t change = { .type = type, .seq = 17, .time_us = 1, .sa = sa };
	tenant_tag_tenant_t result = { .name = tenant,
				       .identity = "bob",
				       .source = TENANT_TAG_EAP };

	if (!tenant)
		result.reason = "why not";
	assert_true(message->encode_change(message, &change, &result));
	return (char *)message->get_text(message).ptr;
}

static void expect_text(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("%s lacks %s", text, part);
}

static void test_child(void **state)
{
	tenant_tag_message_t *message = tenant_tag_message_create(EPOCH);
	tenant_tag_sa_t *sa = make_sa();
	chunk_t topic;
	char *text;

	text = encode(message, sa, EVENT_CHILD_UP, "acme");
	topic = message->get_topic(message);
	assert_int_equal(topic.len, strlen("tenant.acme.child-up"));
	assert_memory_equal(topic.ptr, "tenant.acme.child-up", topic.len);
	assert_int_equal(strlen(text), message->get_text(message).len);
	expect_text(text, "\"epoch\":\"" EPOCH "\"");
	expect_text(text, "\"seq\":17");
	expect_text(text, "\"spi_in\":\"c0000007\"");
	expect_text(text, "\"remote_host\":\"192.0.2.10[4500]\"");
	expect_text(text, "\"vips\":[\"198.18.1.1\"]");
	expect_text(text, "\"connection\":\"road\"");
	expect_text(text, "\"mode\":\"tunnel\"");
	expect_text(text, "\"identity_source\":\"eap\"");
	tenant_tag_sa_destroy(sa);
	message->destroy(message);
}

/* It is told to the one who had it. */
static void test_reassigned(void **state)
{
	tenant_tag_message_t *message = tenant_tag_message_create(EPOCH);
	tenant_tag_sa_t *sa = make_sa();
	tenant_tag_change_t change = { .type = EVENT_CHILD_REASSIGNED, .seq = 18, .sa = sa };
	tenant_tag_tenant_t result = { .name = "globex",
				       .identity = "bob",
				       .source = TENANT_TAG_EAP,
				       .before = "acme" };
	chunk_t topic;
	char *text;

	assert_true(message->encode_change(message, &change, &result));
	topic = message->get_topic(message);
	text = (char *)message->get_text(message).ptr;
	assert_int_equal(topic.len, strlen("tenant.acme.child-reassigned"));
	assert_memory_equal(topic.ptr, "tenant.acme.child-reassigned", topic.len);
	expect_text(text, "\"type\":\"child-reassigned\"");
	expect_text(text, "\"tenant\":\"acme\"");
	expect_text(text, "\"spi_in\":\"c0000007\"");
	expect_text(text, "\"child_id\":7");
	assert_null(strstr(text, "globex"));
	assert_null(strstr(text, "bob"));
	tenant_tag_sa_destroy(sa);
	message->destroy(message);
}

static void test_unidentified(void **state)
{
	tenant_tag_message_t *message = tenant_tag_message_create(EPOCH);
	tenant_tag_sa_t *sa = make_sa();
	char *text = encode(message, sa, EVENT_CHILD_UP, NULL);

	expect_text(text, "\"reason\":\"why not\"");
	assert_null(strstr(text, "\"tenant\":\""));
	assert_non_null(strstr((char *)message->get_topic(message).ptr, EVENT_TOPIC_UNIDENTIFIED));
	tenant_tag_sa_destroy(sa);
	message->destroy(message);
}

static void test_ike_update_is_about_no_child(void **state)
{
	tenant_tag_message_t *message = tenant_tag_message_create(EPOCH);
	tenant_tag_sa_t *sa = make_sa();
	char *text = encode(message, sa, EVENT_IKE_UPDATE, "acme");

	expect_text(text, "\"ike_id\":3");
	assert_null(strstr(text, "spi_in"));
	assert_null(strstr(text, "child_id"));
	tenant_tag_sa_destroy(sa);
	message->destroy(message);
}

static void check_ts(traffic_selector_t *ts, const char *expected)
{
	tenant_tag_message_t *message = tenant_tag_message_create(EPOCH);
	tenant_tag_sa_t *sa = make_sa();
	char part[256];

	add_ts(sa, ts);
	snprintf(part, sizeof(part), "\"remote_ts\":[\"%s\"]", expected);
	expect_text(encode(message, sa, EVENT_CHILD_UP, "acme"), part);
	tenant_tag_sa_destroy(sa);
	message->destroy(message);
}

static traffic_selector_t *range(const char *from, const char *to, ts_type_t type)
{
	return traffic_selector_create_from_string(0, type, (char *)from, 0, (char *)to, 65535);
}

static void test_traffic_selectors(void **state)
{
	check_ts(traffic_selector_create_from_cidr("198.18.1.0/24", 0, 0, 65535), "198.18.1.0/24");
	check_ts(traffic_selector_create_from_cidr("0.0.0.0/0", 0, 0, 65535), "0.0.0.0/0");
	check_ts(traffic_selector_create_from_cidr("198.18.1.0/24", 6, 443, 443),
		 "198.18.1.0/24[tcp/443]");
	check_ts(traffic_selector_create_from_cidr("198.18.1.0/24", 17, 1000, 2000),
		 "198.18.1.0/24[udp/1000-2000]");
	check_ts(traffic_selector_create_from_cidr("198.18.1.0/24", 6, 0, 65535),
		 "198.18.1.0/24[tcp]");
	check_ts(traffic_selector_create_from_cidr("198.18.1.0/24", 47, 0, 65535),
		 "198.18.1.0/24[47]");
	check_ts(traffic_selector_create_from_cidr("198.18.1.0/24", 6, 65535, 0),
		 "198.18.1.0/24[tcp/OPAQUE]");
	check_ts(traffic_selector_create_from_cidr("2001:db8::/32", 0, 0, 65535), "2001:db8::/32");
	check_ts(range("198.18.1.1", "198.18.1.9", TS_IPV4_ADDR_RANGE), "198.18.1.1..198.18.1.9");
	check_ts(range("2001:db8::1", "2001:db8::9", TS_IPV6_ADDR_RANGE),
		 "2001:db8::1..2001:db8::9");
}

/* As many and as long selectors as a peer can negotiate still make an event. */
static void test_largest_record(void **state)
{
	tenant_tag_message_t *message = tenant_tag_message_create(EPOCH);
	linked_list_t *list = linked_list_create();
	tenant_tag_sa_t *sa = make_sa();
	traffic_selector_t *ts;
	char *text;
	int i;

	for (i = 0; i < 300; i++) {
		ts = traffic_selector_create_from_string(
			6, TS_IPV6_ADDR_RANGE, "2001:db8:1111:2222:3333:4444:5555:6661", 10000,
			"2001:db8:1111:2222:3333:4444:5555:fff2", 20000);
		list->insert_last(list, ts);
	}
	tenant_tag_sa_set_ts(sa, TRUE, list->create_enumerator(list));
	tenant_tag_sa_set_ts(sa, FALSE, list->create_enumerator(list));
	assert_int_equal(sa->local_ts_count, EVENT_TS_MAX);
	text = encode(message, sa, EVENT_CHILD_UP, "acme");
	expect_text(text, "\"spi_in\":\"c0000007\"");
	assert_true(message->get_text(message).len < EVENT_SIZE_MAX);
	list->destroy_offset(list, offsetof(traffic_selector_t, destroy));
	tenant_tag_sa_destroy(sa);
	message->destroy(message);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_child),
		cmocka_unit_test(test_reassigned),
		cmocka_unit_test(test_unidentified),
		cmocka_unit_test(test_ike_update_is_about_no_child),
		cmocka_unit_test(test_traffic_selectors),
		cmocka_unit_test(test_largest_record),
	};
	int failed;

	if (!library_init("", "test"))
		return 1;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	library_deinit();
	return failed;
}
