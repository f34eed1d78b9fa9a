/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <netinet/in.h>

#include "addresses.h"
#include "usage/tally.h"

#define LIMIT 4

static struct tally tally;

static int setup(void **state)
{
	(void)state;
	tally_init(&tally, LIMIT);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	tally_done(&tally);
	return 0;
}

static struct conntrack_flow flow_to(const char *address, uint16_t port)
{
	return (struct conntrack_flow){ .protocol = IPPROTO_TCP,
					.destination = address_of(address),
					.port = port };
}

static void add_at(const char *address, uint16_t port, int64_t time)
{
	const struct conntrack_flow flow = flow_to(address, port);
	const struct tally_key key = tally_key(&flow);
	const struct tally_sums sums = { .flows = 1, .first_us = time, .last_us = time };

	tally_add(&tally, &key, &sums);
}

static const struct tally_sums *find(const char *address, uint16_t port)
{
	const struct conntrack_flow flow = flow_to(address, port);
	const struct tally_key key = tally_key(&flow);

	for (struct tally_row *row = tally.rows; row; row = row->hh.next)
		if (memcmp(&row->key, &key, sizeof(key)) == 0)
			return &row->sums;
	return NULL;
}

static uint64_t all_flows(void)
{
	uint64_t flows = tally.other.flows;

	for (struct tally_row *row = tally.rows; row; row = row->hh.next)
		flows += row->sums.flows;
	return flows;
}

static void test_adds_up_by_destination(void **state)
{
	(void)state;
	add_at("203.0.113.1", 443, 5);
	add_at("203.0.113.1", 443, 3);
	add_at("203.0.113.1", 80, 4);
	add_at("2001:db8::1", 443, 4);
	assert_int_equal(tally_count(&tally), 3);
	assert_int_equal(find("203.0.113.1", 443)->flows, 2);
	assert_int_equal(find("203.0.113.1", 443)->first_us, 3);
	assert_int_equal(find("203.0.113.1", 443)->last_us, 5);
	assert_int_equal(tally.other.flows, 0);
}

static void test_is_bounded(void **state)
{
	char address[32];

	(void)state;
	for (int i = 0; i < 1000; i++) {
		snprintf(address, sizeof(address), "203.0.%d.%d", i / 250, i % 250);
		add_at(address, 443, i + 1);
	}
	assert_int_equal(tally_count(&tally), LIMIT);
	assert_int_equal(all_flows(), 1000);
	assert_int_equal(tally.folded, 1000 - LIMIT);
	assert_int_equal(tally.other.first_us, 1);
}

/* It comes last and among many that come once, and stays. */
static void test_who_comes_often_stays(void **state)
{
	char address[32];

	(void)state;
	for (int i = 0; i < 200; i++) {
		snprintf(address, sizeof(address), "203.0.113.%d", i);
		add_at(address, 443, i + 1);
		if (i > 50)
			add_at("198.51.100.7", 443, i + 1);
	}
	assert_non_null(find("198.51.100.7", 443));
	assert_int_equal(find("198.51.100.7", 443)->flows, 149);
	tally_sort(&tally);
	assert_memory_equal(tally.rows->key.address, "\xc6\x33\x64\x07", 4);
}

static void test_an_end_makes_no_room(void **state)
{
	struct conntrack_flow flow = flow_to("198.51.100.7", 443);
	const struct tally_key key = tally_key(&flow);
	struct tally_sums sums;

	(void)state;
	for (int i = 0; i < LIMIT; i++) {
		char address[32];

		snprintf(address, sizeof(address), "203.0.113.%d", i);
		add_at(address, 443, 1);
	}
	flow.counted = true;
	flow.sent = 100;
	sums = tally_end(&flow, 9);
	tally_add(&tally, &key, &sums);
	assert_null(find("198.51.100.7", 443));
	assert_int_equal(tally.other.sent, 100);
	assert_int_equal(tally.other.uncounted, 0);
	assert_int_equal(tally.folded, 0);
	flow.counted = false;
	assert_int_equal(tally_end(&flow, 9).uncounted, 1);
}

static void write_flows(struct json_writer *w, const struct tally_sums *sums)
{
	json_uint(w, "flows", sums->flows);
}

/* Each destination, and what had no room. */
static void test_written(void **state)
{
	char text[1024];
	struct json_writer w;

	(void)state;
	add_at("198.51.100.1", 443, 1);
	add_at("2001:db8::1", 80, 2);
	tally.other.flows = 7;
	json_init(&w, text, sizeof(text));
	json_object_begin(&w, NULL);
	tally_write(&w, &tally, write_flows);
	json_object_end(&w);
	json_finish(&w);
	assert_string_equal(text, "{\"destinations\":["
				  "{\"address\":\"198.51.100.1\",\"protocol\":\"tcp\","
				  "\"port\":443,\"flows\":1},"
				  "{\"address\":\"2001:db8::1\",\"protocol\":\"tcp\",\"port\":80,"
				  "\"flows\":1}],\"other_destinations\":{\"flows\":7}}");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_adds_up_by_destination, setup, teardown),
		cmocka_unit_test_setup_teardown(test_is_bounded, setup, teardown),
		cmocka_unit_test_setup_teardown(test_who_comes_often_stays, setup, teardown),
		cmocka_unit_test_setup_teardown(test_an_end_makes_no_room, setup, teardown),
		cmocka_unit_test_setup_teardown(test_written, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
