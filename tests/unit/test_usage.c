/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What flows used: attributed, added up by month, on disk. The kernel's own word: test_conntrack_flow. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "usage/usage.h"

#define MASK 0x0f000000
#define MARK 0x01000000

static char directory[64], file[96];
static struct usage *usage;
static uint64_t exception_id;

static uint64_t attribute(void *user, const struct conntrack_flow *flow)
{
	(void)user;
	(void)flow;
	return exception_id;
}

static void start(void)
{
	assert_int_equal(usage_open(file, MASK, attribute, NULL, &usage), 0);
}

static void stop(void)
{
	usage_close(usage);
	usage = NULL;
}

static int setup(void **state)
{
	(void)state;
	strcpy(directory, "/tmp/test-usage-XXXXXX");
	if (!mkdtemp(directory))
		return -1;
	snprintf(file, sizeof(file), "%s/exceptions.db.usage", directory);
	exception_id = 7;
	start();
	return 0;
}

static int teardown(void **state)
{
	char command[128];

	(void)state;
	stop();
	snprintf(command, sizeof(command), "rm -r %s", directory);
	return system(command); /* NOLINT: a name of our own */
}

static struct conntrack_flow make_flow(uint16_t source_port, uint32_t id)
{
	struct conntrack_flow flow = { .source_port = source_port,
				       .port = 443,
				       .protocol = IPPROTO_TCP,
				       .id = id,
				       .mark = MARK };

	flow.source.family = flow.destination.family = AF_INET;
	inet_pton(AF_INET, "198.18.1.10", flow.source.bytes);
	inet_pton(AF_INET, "203.0.113.10", flow.destination.bytes);
	return flow;
}

static void begin(uint16_t source_port)
{
	const struct conntrack_flow flow = make_flow(source_port, source_port);

	usage_note(usage, &flow, CONNTRACK_FLOW_NEW);
}

static void end(uint16_t source_port, uint64_t sent)
{
	struct conntrack_flow flow = make_flow(source_port, source_port);

	flow.counted = sent != 0;
	flow.sent = sent;
	flow.received = 2 * sent;
	usage_note(usage, &flow, CONNTRACK_FLOW_DESTROY);
}

static int64_t this_month(void)
{
	return usage_month(clock_wall_us());
}

static struct usage_record read_month(uint64_t id, int64_t month)
{
	struct usage_reader *reader = NULL;
	struct usage_record record;
	char error[USAGE_ERROR_MAX] = "";

	assert_int_equal(usage_reader_open(file, &reader, error), 0);
	assert_int_equal(usage_read(reader, id, month, &record), 0);
	usage_reader_close(reader);
	return record;
}

/* What is on disk once all is written. */
static struct usage_record written(uint64_t id)
{
	stop();
	start();
	return read_month(id, this_month());
}

static void test_flows_and_bytes(void **state)
{
	struct usage_record record;

	(void)state;
	for (uint16_t port = 1; port <= 3; port++)
		begin(port);
	end(1, 100);
	end(2, 50);
	record = written(7);
	assert_int_equal(record.sums.flows, 3);
	assert_int_equal(record.sums.ended, 2);
	assert_int_equal(record.sums.uncounted, 0);
	assert_int_equal(record.sums.sent, 150);
	assert_int_equal(record.sums.received, 300);
	assert_true(record.ever);
	assert_int_equal(tally_count(&record.destinations), 1);
	assert_int_equal(record.destinations.rows->sums.sent, 150);
	tally_done(&record.destinations);
	record = read_month(8, this_month());
	assert_false(record.ever);
	tally_done(&record.destinations);
}

static void test_adds_to_what_is_on_disk(void **state)
{
	struct usage_record record;

	(void)state;
	begin(1);
	record = written(7);
	tally_done(&record.destinations);
	begin(2);
	end(2, 5);
	record = written(7);
	assert_int_equal(record.sums.flows, 2);
	assert_int_equal(record.sums.sent, 5);
	assert_int_equal(record.destinations.rows->sums.flows, 2);
	tally_done(&record.destinations);
}

/* Whose it is is decided when it begins, and by what is known then. */
static void test_attributed_when_it_begins(void **state)
{
	struct usage_record record;

	(void)state;
	begin(1);
	exception_id = 8;
	end(1, 100);
	record = written(7);
	assert_int_equal(record.sums.sent, 100);
	tally_done(&record.destinations);
	record = read_month(8, this_month());
	assert_int_equal(record.sums.ended, 0);
	tally_done(&record.destinations);
}

static void test_who_began_unseen_is_nobodys(void **state)
{
	struct usage_record record;

	(void)state;
	end(1, 100);
	assert_int_equal(usage_counters(usage).unattributed, 1);
	record = written(USAGE_UNATTRIBUTED);
	assert_int_equal(record.sums.flows, 1);
	assert_int_equal(record.sums.sent, 100);
	tally_done(&record.destinations);
	record = read_month(7, this_month());
	assert_false(record.ever);
	tally_done(&record.destinations);
}

static void test_another_entry_with_the_same_addresses(void **state)
{
	struct conntrack_flow flow = make_flow(1, 99);

	(void)state;
	begin(1);
	usage_note(usage, &flow, CONNTRACK_FLOW_DESTROY);
	assert_int_equal(usage_counters(usage).unattributed, 1);
}

static void test_bytes_not_counted(void **state)
{
	struct usage_record record;

	(void)state;
	begin(1);
	end(1, 0);
	record = written(7);
	assert_int_equal(record.sums.ended, 1);
	assert_int_equal(record.sums.uncounted, 1);
	tally_done(&record.destinations);
}

static void test_flows_without_our_mark(void **state)
{
	struct conntrack_flow flow = make_flow(1, 1);

	(void)state;
	flow.mark = ~(uint32_t)MASK;
	usage_note(usage, &flow, CONNTRACK_FLOW_NEW);
	usage_note(usage, &flow, CONNTRACK_FLOW_DESTROY);
	assert_int_equal(usage_counters(usage).flows, 0);
	assert_int_equal(usage_counters(usage).unattributed, 0);
}

static void test_more_flows_than_are_remembered(void **state)
{
	struct usage_reader *reader = NULL;
	struct usage_losses losses;
	char error[USAGE_ERROR_MAX];

	(void)state;
	for (uint32_t i = 0; i <= USAGE_FLOWS_MAX; i++) {
		const struct conntrack_flow flow = make_flow((uint16_t)i, i);

		usage_note(usage, &flow, CONNTRACK_FLOW_NEW);
	}
	assert_int_equal(usage_counters(usage).losses.untracked, 1);
	stop();
	start();
	assert_int_equal(usage_reader_open(file, &reader, error), 0);
	assert_int_equal(usage_read_losses(reader, this_month(), &losses), 0);
	usage_reader_close(reader);
	assert_int_equal(losses.untracked, 1);
	assert_int_equal(losses.lost, 0);
}

static void test_more_exceptions_than_fit(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < USAGE_DELTAS_MAX + 5; i++) {
		exception_id = 1 + i;
		begin((uint16_t)i);
	}
	assert_int_equal(usage_counters(usage).losses.dropped, 5);
}

/* Old months go, newer ones stay; destinations of a month have a limit on disk, too. */
static void write_months(int64_t old, int64_t kept)
{
	char sql[512];
	sqlite3 *db;

	assert_int_equal(sqlite3_open(file, &db), SQLITE_OK);
	for (int i = 0; i < 2; i++) {
		snprintf(sql, sizeof(sql),
			 "INSERT INTO usage VALUES (7, %lld, 1,0,0,0,0,1,1, 0,0,0,0,0,0,0);"
			 "INSERT INTO usage_loss VALUES (%lld, 1, 0, 0);",
			 (long long)(i ? old : kept), (long long)(i ? old : kept));
		assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	}
	sqlite3_close(db);
}

static void test_old_months_are_removed(void **state)
{
	const int64_t kept = this_month() - 100 * (USAGE_MONTHS_KEPT / 12);
	const int64_t old = kept % 100 == 1 ? kept - 100 + 11 : kept - 1;
	struct usage_record record;

	(void)state;
	begin(1);
	stop();
	write_months(old, kept);
	start();
	begin(2);
	stop();
	start();
	record = read_month(7, old);
	assert_int_equal(record.sums.flows, 0);
	tally_done(&record.destinations);
	record = read_month(7, kept);
	assert_int_equal(record.sums.flows, 1);
	tally_done(&record.destinations);
}

static void test_destinations_on_disk_have_a_limit(void **state)
{
	struct usage_record record;
	uint64_t flows = 0;

	(void)state;
	for (unsigned batch = 0; batch < 3; batch++) {
		for (unsigned i = 0; i < 50; i++) {
			struct conntrack_flow flow = make_flow((uint16_t)(batch * 50 + i), i);

			flow.destination.bytes[3] = (uint8_t)(batch * 50 + i);
			usage_note(usage, &flow, CONNTRACK_FLOW_NEW);
		}
		stop();
		start();
	}
	record = read_month(7, this_month());
	assert_int_equal(tally_count(&record.destinations), USAGE_DESTINATIONS_MAX);
	for (struct tally_row *row = record.destinations.rows; row; row = row->hh.next)
		flows += row->sums.flows;
	assert_int_equal(flows + record.destinations.other.flows, 150);
	assert_int_equal(record.sums.flows, 150);
	tally_done(&record.destinations);
}

/* Nothing but the report suffers. */
static void test_a_file_that_is_no_database(void **state)
{
	FILE *out;

	(void)state;
	stop();
	out = fopen(file, "w");
	assert_non_null(out);
	for (int i = 0; i < 1000; i++)
		fprintf(out, "no database");
	fclose(out);
	start();
	begin(1);
	stop();
	start();
	assert_int_equal(usage_counters(usage).flows, 0);
}

static void test_no_file_is_no_use(void **state)
{
	struct usage_record record = read_month(7, this_month());

	(void)state;
	assert_false(record.ever);
	assert_int_equal(access(file, F_OK), -1);
	tally_done(&record.destinations);
}

static void test_without_pinning(void **state)
{
	(void)state;
	if (usage_fd(usage) < 0)
		skip(); /* no CAP_NET_ADMIN */
	assert_null(usage_problem(usage));
	usage_set_mask(usage, 0);
	assert_non_null(strstr(usage_problem(usage), "accounting"));
	begin(1);
	assert_int_equal(usage_counters(usage).flows, 0);
}

static void test_months(void **state)
{
	int64_t month = 0, from, to;
	char text[16];

	(void)state;
	assert_int_equal(usage_month(0), 197001);
	assert_int_equal(usage_month(1767225599999999), 202512);
	assert_int_equal(usage_month(1767225600000000), 202601);
	assert_int_equal(usage_month_parse("2026-01", &month), 0);
	assert_int_equal(month, 202601);
	usage_month_text(month, text);
	assert_string_equal(text, "2026-01");
	usage_month_span(202512, &from, &to);
	assert_int_equal(usage_month(from), 202512);
	assert_int_equal(usage_month(from - 1), 202511);
	assert_int_equal(to, 1767225600000000);
	static const char *const wrong[] = {
		"",        "2026",     "2026-1",  "2026-00", "2026-13",
		"26-01-1", "2026-01 ", "-026-01", "2026_01", "1969-12"
	};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(usage_month_parse(wrong[i], &month), -EINVAL);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_flows_and_bytes),
		TEST(test_adds_to_what_is_on_disk),
		TEST(test_attributed_when_it_begins),
		TEST(test_who_began_unseen_is_nobodys),
		TEST(test_another_entry_with_the_same_addresses),
		TEST(test_bytes_not_counted),
		TEST(test_flows_without_our_mark),
		TEST(test_more_flows_than_are_remembered),
		TEST(test_more_exceptions_than_fit),
		TEST(test_old_months_are_removed),
		TEST(test_destinations_on_disk_have_a_limit),
		TEST(test_a_file_that_is_no_database),
		TEST(test_no_file_is_no_use),
		TEST(test_without_pinning),
		cmocka_unit_test(test_months),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
