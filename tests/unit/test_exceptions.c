/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is in force: grants, changes, ends, parts, tries, and two operators at once. The clocks are the
 * test's; the store is a real one.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "book.h"
#include "exceptions/active.h"
#include "record/risk.h"

static uint64_t grant_part(const char *tenant, const char *scope, const char *destinations)
{
	struct exception exception = book_wish(tenant, "skype", 30);

	strcpy(exception.scope, scope);
	strcpy(exception.destinations, destinations);
	return exceptions_grant(book.exceptions, &exception, book.error) == 0 ? exception.id : 0;
}

/* Grants and changes */

static void test_grant(void **state)
{
	struct exception e = book_wish("acme", "skype", 30);
	char hash[DIGEST_HEX_LEN + 1];
	struct exception twin;

	(void)state;
	risk_sha256(hash);
	assert_int_equal(exceptions_grant(book.exceptions, &e, book.error), 0);
	assert_int_equal(e.version, 1);
	assert_string_equal(e.scope, "tenant");
	assert_int_equal(e.risk_version, RISK_VERSION);
	assert_string_equal(e.risk_sha256, hash);
	assert_int_equal(e.granted.wall_us, START);
	assert_int_equal(book_until("acme"), e.expires_at_us);
	twin = book_wish("acme", "skype", 10);
	assert_int_equal(exceptions_grant(book.exceptions, &twin, book.error), -EEXIST);
	book_expect_error("already: 1; ");
	assert_int_equal(book_until("acme"), e.expires_at_us);
	twin = book_wish("acme", "nonsense", 10);
	assert_int_equal(exceptions_grant(book.exceptions, &twin, book.error), -EINVAL);
	book_expect_error("no profile \"nonsense\"");
	twin = book_wish("acme", "short", 61);
	assert_int_equal(exceptions_grant(book.exceptions, &twin, book.error), -EINVAL);
	book_expect_error("at most 3600 seconds (max_lifetime)");
	twin = book_wish("acme", "short", 0);
	assert_int_equal(exceptions_grant(book.exceptions, &twin, book.error), -EINVAL);
	book_expect_error("an end to come");
	twin = book_wish("acme", "short", 5);
	strcpy(twin.scope, "198.18.1.5/32");
	assert_int_equal(exceptions_grant(book.exceptions, &twin, book.error), -EINVAL);
	book_expect_error("scope: \"198.18.1.5/32\" is no scope; expected tenant, host");
	twin = book_wish("acme", "short", 5);
	strcpy(twin.destinations, "203.0.113.1/24");
	assert_int_equal(exceptions_grant(book.exceptions, &twin, book.error), -EINVAL);
	book_expect_error("destinations: ");
	assert_int_equal(exceptions_count(book.exceptions), 1);
}

static void test_change(void **state)
{
	const uint64_t id = book_grant("acme", "skype", 30);
	struct exceptions_change later = { .expires_at_us = START + 40 * MINUTE },
				 sooner = { .expires_at_us = START + 20 * MINUTE },
				 words = { .reason = "more calls", .change_request = "CR-2" };
	struct exception e;

	(void)state;
	assert_int_equal(book_change(99, &words, &e), -ENOENT);
	book_expect_error("exception 99 is not active");
	assert_int_equal(book_change(id, &words, &e), 0);
	assert_int_equal(e.version, 2);
	assert_string_equal(e.reason, "more calls");
	assert_string_equal(e.change_request, "CR-2");
	assert_string_equal(e.accepted_by, "ciso");
	assert_string_equal(e.granted_by.name, "op");
	assert_int_equal(book_until("acme"), START + 30 * MINUTE);
	/* a later end needs both: the risk accepted again, and by whom */
	assert_int_equal(book_change(id, &later, &e), -EINVAL);
	book_expect_error("not inspected");
	later.risk_accepted = true;
	assert_int_equal(book_change(id, &later, &e), -EINVAL);
	later.accepted_by = "cso";
	assert_int_equal(book_change(id, &later, &e), 0);
	assert_int_equal(e.version, 3);
	assert_string_equal(e.accepted_by, "cso");
	assert_int_equal(book_until("acme"), START + 40 * MINUTE);
	/* an earlier one does not */
	assert_int_equal(book_change(id, &sooner, &e), 1);
	assert_int_equal(book_until("acme"), START + 20 * MINUTE);
	/* it was kept */
	book_start_again();
	assert_int_equal(book_until("acme"), START + 20 * MINUTE);
	book_tick(20, 20);
	assert_int_equal(book.expired, 1);
	assert_int_equal(book_change(id, &words, &e), -ENOENT);
	book_expect_error("is not active");
}

/* Ends */

static void collect(const struct exception *exception, void *user)
{
	struct exception *last = user;

	if (exception->ended_at_us && !last->id)
		*last = *exception;
}

static void test_revoke(void **state)
{
	struct exceptions_revocation revocation = { .tenant = "acme", .reason = "over" };
	struct exception last = { 0 };
	unsigned ids;

	(void)state;
	assert_int_equal(book_take_back(&revocation, &ids), -ENOENT);
	book_grant("acme", "skype", 30);
	book_grant("acme", "short", 30);
	book_grant("globex", "skype", 30);
	revocation.profile = "nonsense";
	assert_int_equal(book_take_back(&revocation, &ids), -ENOENT);
	revocation.profile = NULL;
	revocation.id = 3; /* somebody else's */
	assert_int_equal(book_take_back(&revocation, &ids), -ENOENT);
	book_expect_error("exception 3 is another tenant's");
	revocation.id = 99;
	assert_int_equal(book_take_back(&revocation, &ids), -ENOENT);
	book_expect_error("exception 99 is not active");
	revocation.id = 0;
	revocation.if_version = 1;
	assert_int_equal(book_take_back(&revocation, &ids), -EINVAL);
	book_expect_error("if_version: the tenant has 2 such exceptions");
	revocation.id = 2;
	revocation.if_version = 2;
	assert_int_equal(book_take_back(&revocation, &ids), -ESTALE);
	assert_int_equal(exceptions_count(book.exceptions), 3);
	revocation.if_version = 1;
	assert_int_equal(book_take_back(&revocation, &ids), 1);
	assert_int_equal(ids, 2);
	revocation = (struct exceptions_revocation){ .tenant = "acme", .reason = "over" };
	assert_int_equal(book_take_back(&revocation, &ids), 1);
	assert_int_equal(ids, 1);
	assert_int_equal(book_until("acme"), 0);
	assert_int_not_equal(book_until("globex"), 0);
	assert_int_equal(exceptions_settle(book.exceptions), 0);
	book_start_again();
	assert_int_equal(exceptions_count(book.exceptions), 1);
	assert_int_equal(exceptions_each(book.exceptions, true, collect, &last), 0);
	assert_int_equal(last.version, 2);
	assert_string_equal(last.end_reason, "over");
	assert_string_equal(last.ended_by.name, "second");
	assert_int_equal(last.ended_by.uid, 1001);
}

/* Two operators at once: the second is told, and nothing of the first's is lost. */
static void test_compare_and_set(void **state)
{
	const uint64_t id = book_grant("acme", "skype", 30);
	struct exceptions_change mine = { .reason = "mine", .if_version = 1 },
				 theirs = { .reason = "theirs", .if_version = 1 };
	struct exceptions_revocation revocation = { .tenant = "acme", .reason = "over" };
	struct exception e;
	unsigned ids;

	(void)state;
	assert_int_equal(book_change(id, &mine, &e), 0);
	assert_int_equal(book_change(id, &theirs, &e), -ESTALE);
	book_expect_error("exception 1 has version 2 by now, not 1: change by second at "
			  "2023-11-14T22:13:20Z: reason \"calls\" -> \"mine\"");
	theirs.if_version = 2;
	assert_int_equal(book_change(id, &theirs, &e), 0);
	assert_string_equal(e.reason, "theirs");
	/* two changes: who made the last one, and all that differs */
	mine.change_request = "CR-2";
	mine.if_version = 1;
	assert_int_equal(book_change(id, &mine, &e), -ESTALE);
	book_expect_error("version 3 by now, not 1: change by second");
	book_expect_error("reason \"calls\" -> \"theirs\"");
	/* or it was ended */
	revocation.if_version = 3;
	assert_int_equal(book_take_back(&revocation, &ids), 1);
	assert_int_equal(exceptions_settle(book.exceptions), 0);
	mine.if_version = 3;
	assert_int_equal(book_change(id, &mine, &e), -ENOENT);
	book_expect_error("exception 1 is not active; steerctl exceptions lists those that are; "
			  "revoke by second at ");
	book_expect_error("end_reason null -> \"over\"");
}

/* As many as end at once go to disk in a few transactions, a revocation in the first. */
static void test_many_ends(void **state)
{
	struct exceptions_revocation revocation = { .tenant = "acme", .reason = "over" };
	struct exception last = { 0 };
	char tenant[32];
	unsigned ids;

	(void)state;
	for (unsigned i = 0; i < 2 * EXCEPTIONS_SETTLE_MAX; i++) {
		snprintf(tenant, sizeof(tenant), "tenant-%u", i);
		book_grant(tenant, "skype", 30);
	}
	book_grant("acme", "skype", 40);
	book_tick(30, 30);
	assert_int_equal(book.expired, 2 * EXCEPTIONS_SETTLE_MAX);
	assert_int_equal(book_take_back(&revocation, &ids), 1);
	assert_int_equal(exceptions_settle(book.exceptions), 1);
	assert_int_equal(exceptions_each(book.exceptions, true, collect, &last), 0);
	assert_string_equal(last.tenant, "acme");
	assert_int_equal(exceptions_settle(book.exceptions), 1);
	assert_int_equal(exceptions_settle(book.exceptions), 0);
	book_start_again();
	assert_int_equal(exceptions_settle(book.exceptions), 0);
	assert_int_equal(exceptions_count(book.exceptions), 0);
}

/* Damage that comes while it runs: nobody is exempt any more, and nothing is granted by what is whole. */
static void test_damage(void **state)
{
	struct exception e;
	char tenant[32];
	struct stat st;
	unsigned changes;
	int fd;

	(void)state;
	for (unsigned i = 0; i < 200; i++) {
		snprintf(tenant, sizeof(tenant), "tenant-%u", i);
		book_grant(tenant, "skype", 30);
	}
	book_start_again();
	assert_int_equal(exceptions_count(book.exceptions), 200);
	changes = exceptions_store_changes(book.exceptions);
	/* somebody else's commit: what SQLite has cached counts no more */
	book_run_sql("CREATE TABLE other (a); PRAGMA wal_checkpoint(TRUNCATE)");
	fd = open(book.settings.sqlite, O_WRONLY | O_CLOEXEC);
	assert_true(fd >= 0 && fstat(fd, &st) == 0);
	for (off_t at = 4096; at < st.st_size; at++)
		assert_int_equal(pwrite(fd, "\xa5", 1, at), 1);
	close(fd);
	e = book_wish("late", "skype", 30);
	assert_int_equal(exceptions_grant(book.exceptions, &e, book.error), -EUCLEAN);
	book_expect_error("malformed");
	assert_int_equal(exceptions_count(book.exceptions), 0);
	assert_int_equal(book_until("tenant-7"), 0);
	assert_true(exceptions_store_unusable(book.exceptions));
	assert_int_equal(exceptions_store_changes(book.exceptions), changes + 1);
	/* it is not tried again by itself */
	exceptions_try_store(book.exceptions);
	assert_null(exceptions_store(book.exceptions));
	e = book_wish("later", "skype", 30);
	assert_int_equal(exceptions_grant(book.exceptions, &e, book.error), -EUCLEAN);
	book_expect_error("malformed");
	assert_int_equal(exceptions_store_changes(book.exceptions), changes + 1);
	/* put right, it is told */
	unlink(book.settings.sqlite);
	book_load_again();
	assert_null(exceptions_store_error(book.exceptions));
	assert_int_equal(exceptions_store_changes(book.exceptions), changes + 2);
	book_grant("later", "skype", 30);
}

static void keep_last(const struct exception *exception, void *user)
{
	*(struct exception *)user = *exception;
}

static int revoke_id(uint64_t id, const char *profile)
{
	const struct exceptions_revocation revocation = {
		.tenant = "acme", .profile = profile, .id = id, .reason = "over"
	};
	unsigned ids;

	return book_take_back(&revocation, &ids);
}

/* Each is one exception: written, read back, ended for itself. */
static void test_parts(void **state)
{
	const uint64_t host = grant_part("acme", "host 198.18.1.5", "");
	const uint64_t net = grant_part("acme", "prefix 198.18.1.5/32", "203.0.113.7,192.0.2.0/24");
	struct exception last = { .id = 0 };
	const struct tenant *tenant = model_find_tenant(&book.model, "acme");

	(void)state;
	assert_true(host && net);
	assert_int_equal(grant_part("acme", "prefix 198.18.1.5/32", ""), 0); /* the same host */
	book_expect_error("for this profile and scope already: 1;");
	assert_int_equal(grant_part("acme", "host 127.0.0.1", ""), 0);
	book_expect_error("scope: \"127.0.0.1\"");
	assert_int_equal(grant_part("acme", "", "10.0.0.0/8"), 0);
	book_expect_error("destinations: \"10.0.0.0/8\"");
	exceptions_each(book.exceptions, false, keep_last, &last);
	assert_string_equal(last.scope, "host 198.18.1.5");
	assert_string_equal(last.destinations, "192.0.2.0/24,203.0.113.7");
	assert_int_equal(tenant->exemption_count, 2);
	assert_int_equal(book_until("acme"), 0);
	assert_true(tenant->partial);
	book_load_again();
	assert_int_equal(tenant->exemption_count, 2);
	assert_int_equal(revoke_id(host, NULL), 1);
	assert_int_equal(tenant->exemption_count, 1);
	assert_int_equal(tenant->exemptions[0].scope->destination_count, 2);
	book_grant("acme", "skype", 30);
	assert_int_equal(book_until("acme"), START + 30 * MINUTE);
	assert_int_equal(revoke_id(0, "skype"), 2);
	assert_int_equal(tenant->exemption_count, 0);
	assert_false(tenant->partial);
}

/* What this release cannot read grants nothing, is nobody's twin, and can be revoked. */
static void test_unreadable_scope(void **state)
{

	(void)state;
	book_stop();
	book_run_sql(
		"DROP TRIGGER exception_complete; INSERT INTO exception (tenant, profile, scope,"
		" change_request, accepted_by, granted_by, granted_at_us, expires_at_us)"
		" VALUES ('acme', 'skype', 'weekday monday', 'CR-1', 'ciso', 'op', %lld, %lld)",
		(long long)START, (long long)(START + 90 * MINUTE));
	book_start();
	assert_int_equal(exceptions_count(book.exceptions), 1);
	assert_int_equal(model_find_tenant(&book.model, "acme")->exemption_count, 0);
	book_grant("acme", "skype", 30);
	assert_int_equal(book_until("acme"), START + 30 * MINUTE);
	assert_int_equal(revoke_id(1, NULL), 1);
	assert_int_equal(book_until("acme"), START + 30 * MINUTE);
}

/* As many of one tenant as the model keeps. */
static void test_many_of_one_tenant(void **state)
{
	char scope[64];

	(void)state;
	for (unsigned i = 0; i < EXEMPTIONS_MAX; i++) {
		snprintf(scope, sizeof(scope), "host 198.18.%u.%u", i / 256, i % 256);
		assert_true(grant_part("acme", scope, ""));
	}
	assert_int_equal(grant_part("acme", "host 198.18.9.9", ""), 0);
	assert_true(grant_part("globex", "host 198.18.9.9", ""));
}

/* A try */

static int try(const char *tenant, const char *profile, const char *scope, int64_t minutes)
{
	struct exception exception = book_wish(tenant, profile, minutes);

	strcpy(exception.kind, RECORD_KIND_TRY);
	strcpy(exception.scope, scope);
	return exceptions_grant(book.exceptions, &exception, book.error);
}

static void count_try(void *user, uint64_t id, const struct tenant *tenant, int profile,
		      const struct scope *scope)
{
	(void)id;
	(void)tenant;
	(void)profile;
	assert_int_equal(scope->kind, SCOPE_HOST);
	(*(unsigned *)user)++;
}

static unsigned tries(void)
{
	unsigned count = 0;

	exceptions_each_try(book.exceptions, count_try, &count);
	return count;
}

static void test_try(void **state)
{
	struct exceptions_change later = { .expires_at_us = START + 61 * MINUTE,
					   .risk_accepted = true,
					   .accepted_by = "ciso" };
	struct exception last = { .id = 0 };

	(void)state;
	assert_int_equal(try("acme", "skype", "host 198.18.1.5", 61), -EINVAL);
	book_expect_error("a try lasts at most 60 minutes");
	assert_int_equal(try("acme", "skype", "", 10), -EINVAL);
	book_expect_error("scope: a try is of one host or one user");
	assert_int_equal(try("acme", "skype", "prefix 198.18.1.0/24", 10), -EINVAL);
	book_expect_error("scope: a try is of one host or one user");
	assert_int_equal(try("acme", "skype", "prefix 198.18.1.5/32", 60), 0);
	/* whatever the profile is; another tenant's is another host */
	assert_int_equal(try("acme", "short", "host 198.18.1.5", 10), -EEXIST);
	book_expect_error("exception 1 tries this host or user already, with profile \"skype\"");
	assert_int_equal(try("globex", "short", "host 198.18.1.5", 10), 0);
	exceptions_each(book.exceptions, false, keep_last, &last);
	assert_string_equal(last.kind, "try");
	assert_int_equal(tries(), 2);
	assert_int_equal(book_change(1, &later, &last), -EINVAL);
	book_expect_error("a try lasts at most 60 minutes");
	book_load_again();
	assert_int_equal(tries(), 2);
	/* what is granted is no try */
	assert_true(grant_part("acme", "host 198.18.1.6", ""));
	assert_int_equal(tries(), 2);
	book_tick(10, 10);
	assert_int_equal(tries(), 1);
	book_tick(60, 60);
	assert_int_equal(tries(), 0);
	assert_int_equal(try("acme", "short", "host 198.18.1.5", 10), 0);
}

static void test_many_tries(void **state)
{
	char scope[64];

	(void)state;
	for (unsigned i = 0; i < ACTIVES_TRIES_MAX; i++) {
		snprintf(scope, sizeof(scope), "host 198.18.0.%u", i);
		assert_int_equal(try("acme", "skype", scope, 10), 0);
	}
	assert_int_equal(try("acme", "skype", "host 198.18.1.1", 10), -ENOBUFS);
	book_expect_error("64 tries are under way");
	assert_int_equal(revoke_id(7, NULL), 1);
	assert_int_equal(try("acme", "skype", "host 198.18.1.1", 10), 0);
	assert_int_equal(tries(), ACTIVES_TRIES_MAX);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, book_setup, book_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_grant),  TEST(test_change),           TEST(test_compare_and_set),
		TEST(test_revoke), TEST(test_many_ends),        TEST(test_damage),
		TEST(test_parts),  TEST(test_unreadable_scope), TEST(test_many_of_one_tenant),
		TEST(test_try),    TEST(test_many_tries),
	};

	return cmocka_run_group_tests_name("exceptions", tests, NULL, NULL);
}
