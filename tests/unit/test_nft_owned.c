/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The table that dies with the process that made it (on_death = at-once), in the real kernel.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "kernel/nft_internal.h"
#include "kernel_table.h"
#include "netns.h"
#include "settings/destinations.h"

#define LISTING_MAX (1u << 20)
#define MANY 100000
/* Generous: a machine with other work to do may take its time to end a process. */
#define GONE_MS 10000
#define RUNS 5
/* steerd commits twice a second. */
#define BETWEEN_COMMITS_US 200000

static char listing[LISTING_MAX], other[LISTING_MAX];

static int setup(void **state)
{
	struct profile *listed = &table.settings.profiles[1];

	(void)state;
	table_default_settings();
	table.settings.max_child_sas = 131072;
	table.settings.at_once = true;
	table.settings.lease_ms = 60000;
	/* constant sets, of both kinds, with ranges that follow one another */
	destination_parse("203.0.112.0/24", &listed->destinations[0]);
	destination_parse("203.0.113.0/24", &listed->destinations[1]);
	destination_parse("198.51.100.7", &listed->destinations[2]);
	destination_parse("2001:db8::/32", &listed->destinations[3]);
	listed->destination_count = 4;
	return table_open();
}

static bool ensure(struct nft *object, enum steering_mode mode)
{
	const char *error;
	bool adopted;

	assert_int_equal(nft_ensure(object, mode, &adopted, &error), 0);
	return adopted;
}

static bool is_there(void)
{
	char tables[1024];

	assert_int_equal(netns_read(tables, sizeof(tables), "nft list tables"), 0);
	assert_null(strstr(tables, "_probe"));
	return strstr(tables, "table inet " TABLE "\n") != NULL;
}

/* The listing without the line of the flags, which only the table with an owner has. */
static void list(char *buf)
{
	assert_int_equal(netns_read(buf, LISTING_MAX,
				    "nft --stateless list table inet " TABLE
				    " | sed -e 's/ # progname.*//' -e '/flags owner/d' -e '/^$/d'"),
			 0);
}

/* What is copied is what libnftables makes of the same text, in each mode. */
static void test_same_table(void **state)
{
	static const enum steering_mode modes[] = { STEERING_SA, STEERING_ADDRESS };
	char flags[256];

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		table.settings.pinning = i & 1;
		table.settings.at_once = true;
		assert_false(ensure(table.nft, modes[i / 2]));
		assert_int_equal(netns_read(flags, sizeof(flags),
					    "nft list table inet " TABLE " | grep flags.owner"),
				 0);
		assert_int_equal(nft_check(table.nft), 1);
		assert_int_equal(nft_foreign_commit(table.nft), 0);
		list(listing);
		/* and back to a lease, with the same object */
		table.settings.at_once = false;
		assert_false(ensure(table.nft, modes[i / 2]));
		assert_true(is_there());
		list(other);
		assert_string_equal(listing, other);
	}
}

static void test_elements_and_lease(void **state)
{
	const struct element el = table_sa(0, 0xc0000001, 0);
	struct nft_counters counters;

	(void)state;
	ensure(table.nft, STEERING_SA);
	assert_int_equal(nft_apply(table.nft, NULL, 0, &el, 1), 0);
	assert_int_equal(nft_renew(table.nft, 3), 0);
	assert_int_equal(nft_has_element(table.nft, &el.key), 1);
	assert_true(nft_lease_remaining(table.nft, 0) > 0);
	assert_int_equal(nft_read_counters(table.nft, &counters), 0);
	assert_int_equal(nft_apply(table.nft, &el, 1, NULL, 0), 0);
	assert_int_equal(nft_renew(table.nft, 0), 0);
	assert_int_equal(nft_lease_remaining(table.nft, 0), 0);
}

/* Nobody else changes it, and a stranger's flush passes it by. */
static void test_belongs_to_one(void **state)
{
	const struct element el = table_sa(0, 0xc0000001, 0);
	struct nft *stranger = NULL;
	const char *error;
	bool adopted;

	(void)state;
	ensure(table.nft, STEERING_SA);
	assert_int_equal(nft_apply(table.nft, NULL, 0, &el, 1), 0);
	assert_int_not_equal(netns_run("nft delete table inet " TABLE " 2>/dev/null"), 0);
	assert_int_equal(netns_run("nft flush ruleset"), 0);
	assert_int_equal(nft_has_element(table.nft, &el.key), 1);
	assert_int_equal(nft_open(&table.settings, &stranger), 0);
	assert_int_equal(nft_ensure(stranger, STEERING_SA, &adopted, &error), -EPERM);
	assert_non_null(strstr(error, "belongs to another process"));
	assert_int_equal(nft_remove(stranger), -EPERM);
	nft_close(stranger);
	assert_int_equal(nft_has_element(table.nft, &el.key), 1);
	assert_int_equal(nft_check(table.nft), 1);
}

static void test_ends_with_its_socket(void **state)
{
	(void)state;
	ensure(table.nft, STEERING_SA);
	assert_true(is_there());
	nft_close(table.nft);
	assert_false(is_there());
	assert_int_equal(nft_open(&table.settings, &table.nft), 0);
	assert_false(ensure(table.nft, STEERING_SA));
}

/* A reload: the next object goes on with the table, elements and lease. */
static void test_handed_over(void **state)
{
	const struct element el = table_sa(0, 0xc0000001, 0);
	struct nft *next = NULL;

	(void)state;
	ensure(table.nft, STEERING_SA);
	assert_int_equal(nft_apply(table.nft, NULL, 0, &el, 1), 0);
	assert_int_equal(nft_renew(table.nft, 3), 0);
	assert_int_equal(nft_open(&table.settings, &next), 0);
	nft_hand_over(table.nft, next);
	nft_close(table.nft);
	table.nft = next;
	assert_true(ensure(table.nft, STEERING_SA));
	assert_int_equal(nft_has_element(table.nft, &el.key), 1);
	assert_true(nft_lease_remaining(table.nft, 0) > 0);
}

/* A table without an owner, left by another configuration, is not what was asked for. */
static void test_not_adopted_without_owner(void **state)
{
	(void)state;
	table.settings.at_once = false;
	ensure(table.nft, STEERING_SA);
	table.settings.at_once = true;
	assert_false(ensure(table.nft, STEERING_SA));
	assert_true(ensure(table.nft, STEERING_SA));
	nft_close(table.nft);
	assert_false(is_there());
	assert_int_equal(nft_open(&table.settings, &table.nft), 0);
}

static void fill(unsigned count)
{
	static struct element batch[NFT_BATCH_MAX];

	for (unsigned i = 0; i < count; i += NFT_BATCH_MAX) {
		for (unsigned n = 0; n < NFT_BATCH_MAX; n++)
			batch[n] = table_sa(0, 0xc0000000 + i + n, 0);
		if (nft_apply(table.nft, NULL, 0, batch, NFT_BATCH_MAX) < 0)
			_exit(1);
	}
}

/* A process that has the table with so many elements; returns when it is ready. */
static pid_t start_owner(unsigned count)
{
	int ready[2];
	char byte;
	pid_t pid;

	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		struct nft *own = NULL;
		const char *error;
		bool adopted;

		if (nft_open(&table.settings, &own) < 0 ||
		    nft_ensure(own, STEERING_SA, &adopted, &error) < 0)
			_exit(1);
		table.nft = own;
		fill(count);
		if (write(ready[1], "", 1) != 1)
			_exit(1);
		pause();
		_exit(0);
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	return pid;
}

/*
 * From the signal until the kernel says that there is no such table. Just after a commit that took
 * something away, the kernel waits for its grace period first.
 */
static int64_t time_to_go(unsigned count, useconds_t since_commit)
{
	struct nft_link link = { 0 };
	pid_t pid = start_owner(count);
	int64_t begin, end;
	uint32_t owner;

	assert_int_equal(nft_link_open(&link), 0);
	assert_int_equal(nft_table_owner(&link, TABLE, &owner), 0);
	usleep(since_commit);
	begin = clock_monotonic_us();
	kill(pid, SIGKILL);
	do {
		end = clock_monotonic_us();
	} while (nft_table_owner(&link, TABLE, &owner) == 0 && end - begin < GONE_MS * 1000);
	nft_link_close(&link);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_false(is_there());
	return end - begin;
}

static int compare(const void *a, const void *b)
{
	const int64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static void report(unsigned count, useconds_t since_commit)
{
	int64_t took[RUNS];

	for (unsigned i = 0; i < RUNS; i++)
		took[i] = time_to_go(count, since_commit);
	qsort(took, RUNS, sizeof(*took), compare);
	print_message(
		"SIGKILL %u ms after a commit: a table with %u elements is gone within %lld us "
		"(median of %d; %lld to %lld)\n",
		since_commit / 1000, count, (long long)took[RUNS / 2], RUNS, (long long)took[0],
		(long long)took[RUNS - 1]);
	assert_true(took[RUNS - 1] < GONE_MS * 1000);
}

static void test_killed(void **state)
{
	(void)state;
	report(0, 0);
	report(0, BETWEEN_COMMITS_US);
	report(MANY, BETWEEN_COMMITS_US);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, table_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_same_table),     TEST(test_elements_and_lease),
		TEST(test_belongs_to_one), TEST(test_ends_with_its_socket),
		TEST(test_handed_over),    TEST(test_not_adopted_without_owner),
		TEST(test_killed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
