/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A whole list at once: what it would do, that all of it is done or nothing, and that whoever comes in
 * between is not overrun. The clock is the test's; the store is a real one.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "book.h"
#include "exceptions/apply.h"
#include "record/risk.h"

static struct apply *apply;
static unsigned done[APPLY_ACTIONS];
static enum apply_action last_done;
static const struct actor actor = { 1000, "op" };

static void begin(bool prune)
{
	struct apply_options options = { .exceptions = book.exceptions,
					 .actor = actor,
					 .prune = prune,
					 .reason = "not in the list" };

	apply_free(apply);
	apply = apply_new(&options);
	assert_non_null(apply);
	memset(done, 0, sizeof(done));
	last_done = APPLY_NOTHING;
}

static int teardown(void **state)
{
	apply_free(apply);
	apply = NULL;
	return book_teardown(state);
}

/* As a list has it: with an end that is the same whenever it is asked for. */
static struct exception wish(const char *tenant, const char *profile, int64_t minutes)
{
	struct exception wish = book_wish(tenant, profile, 0);

	wish.expires_at_us = START + minutes * MINUTE;
	strcpy(wish.scope, RECORD_SCOPE_TENANT);
	risk_sha256(wish.risk_sha256);
	return wish;
}

static uint64_t grant(const char *tenant, const char *profile, int64_t minutes)
{
	struct exception exception = wish(tenant, profile, minutes);

	if (exceptions_grant(book.exceptions, &exception, book.error) < 0)
		fail_msg("%s", book.error);
	return exception.id;
}

static void add(const struct exception *entry)
{
	if (apply_add(apply, entry, book.error) < 0)
		fail_msg("%s", book.error);
}

static void add_wish(const char *tenant, const char *profile, int64_t minutes)
{
	const struct exception entry = wish(tenant, profile, minutes);

	add(&entry);
}

/* Compare all; 0 or the first errno. */
static int compare(void)
{
	struct apply_step step;
	int r = apply_staged(apply, book.error);

	for (size_t i = 0; r == 0 && i < apply_count(apply).steps; i++)
		r = apply_compare(apply, i, &step, book.error);
	return r;
}

static void expect_counts(size_t grants, size_t changes, size_t revocations, size_t same)
{
	const struct apply_count count = apply_count(apply);

	assert_int_equal(count.actions[APPLY_GRANT], grants);
	assert_int_equal(count.actions[APPLY_CHANGE], changes);
	assert_int_equal(count.actions[APPLY_REVOKE], revocations);
	assert_int_equal(count.actions[APPLY_NOTHING], same);
}

static void count_done(void *user, enum apply_action action, const struct exception *record)
{
	(void)user;
	assert_true(action >= last_done);
	assert_true(record->id > 0);
	last_done = action;
	done[action]++;
}

static int write_all(void)
{
	int r = 1;

	while (r > 0)
		r = apply_write(apply, book.error);
	return r;
}

static int commit(void)
{
	int r = write_all();

	return r < 0 ? r : apply_commit(apply, count_done, NULL, book.error);
}

static void count_entry(void *user, const struct audit_entry *entry)
{
	(void)entry;
	++*(unsigned *)user;
}

static unsigned entries(void)
{
	unsigned count = 0;

	assert_int_equal(store_each_after(exceptions_store(book.exceptions), 0, UINT32_MAX,
					  count_entry, &count),
			 0);
	return count;
}

static void pass(int64_t minutes)
{
	fake_clock_set(clock_wall_us() + minutes * MINUTE, clock_boottime_us() + minutes * MINUTE);
	book_expire();
}

static void take_back(const char *tenant)
{
	const struct exceptions_revocation revocation = { .tenant = tenant, .reason = "over" };
	unsigned ids;

	if (book_take_back(&revocation, &ids) < 0)
		fail_msg("%s", book.error);
}

/* Grants, changes, what is the same, and what is not in the list. */
static void test_all_kinds(void **state)
{
	struct exception later = wish("globex", "skype", 200), found;
	uint64_t changed, revoked;

	(void)state;
	grant("acme", "skype", 100);
	changed = grant("globex", "skype", 100);
	revoked = grant("initech", "skype", 100);
	begin(true);
	add_wish("acme", "skype", 100);
	strcpy(later.reason, "more calls");
	add(&later);
	add_wish("umbrella", "skype", 50);
	assert_int_equal(compare(), 0);
	expect_counts(1, 1, 1, 1);
	assert_int_equal(entries(), 3);
	assert_int_equal(commit(), 0);
	assert_int_equal(entries(), 6);
	assert_int_equal(done[APPLY_GRANT] + done[APPLY_CHANGE] + done[APPLY_REVOKE], 3);
	assert_int_equal(book_until("acme"), START + 100 * MINUTE);
	assert_int_equal(book_until("globex"), START + 200 * MINUTE);
	assert_int_equal(book_until("umbrella"), START + 50 * MINUTE);
	assert_int_equal(book_until("initech"), 0);
	assert_int_equal(exceptions_count(book.exceptions), 3);
	assert_int_equal(store_find(exceptions_store(book.exceptions), changed, &found), 0);
	assert_string_equal(found.reason, "more calls");
	assert_int_equal(found.version, 2);
	assert_int_equal(store_find(exceptions_store(book.exceptions), revoked, &found), 0);
	assert_string_equal(found.end_reason, "not in the list");
	assert_string_equal(found.ended_by.name, "op");
	begin(true);
	add_wish("acme", "skype", 100);
	add(&later);
	add_wish("umbrella", "skype", 50);
	assert_int_equal(compare(), 0);
	expect_counts(0, 0, 0, 3);
}

/* What memory has after a commit is what a restart finds on disk. */
static void test_reload(void **state)
{
	(void)state;
	grant("globex", "skype", 100);
	begin(false);
	add_wish("acme", "skype", 100);
	add_wish("globex", "skype", 300);
	assert_int_equal(compare(), 0);
	assert_int_equal(commit(), 0);
	book_load_again();
	assert_int_equal(book_until("acme"), START + 100 * MINUTE);
	assert_int_equal(book_until("globex"), START + 300 * MINUTE);
	pass(100);
	assert_int_equal(book.expired, 1);
	assert_int_equal(book_until("acme"), 0);
}

static void test_left_alone(void **state)
{
	(void)state;
	grant("acme", "skype", 100);
	begin(false);
	assert_int_equal(compare(), 0);
	assert_int_equal(apply_count(apply).left_alone, 1);
	expect_counts(0, 0, 0, 0);
	begin(true);
	assert_int_equal(compare(), 0);
	expect_counts(0, 0, 1, 0);
	assert_int_equal(commit(), 0);
	assert_int_equal(exceptions_count(book.exceptions), 0);
	assert_int_equal(book_until("acme"), 0);
}

/* The list is refused, and says why. */
static void expect_refused(const struct exception *entry, const char *says)
{
	const unsigned before = entries();

	begin(false);
	add_wish("umbrella", "skype", 50);
	add(entry);
	assert_int_equal(compare(), -EINVAL);
	if (!strstr(book.error, says))
		fail_msg("\"%s\" does not say \"%s\"", book.error, says);
	assert_int_equal(apply_write(apply, book.error), -EBUSY);
	assert_int_equal(apply_commit(apply, count_done, NULL, book.error), -EBUSY);
	assert_int_equal(entries(), before);
	assert_int_equal(book_until("umbrella"), 0);
}

static void test_rules(void **state)
{
	struct exception entry = wish("acme", "nonsense", 100);

	(void)state;
	grant("globex", "short", 60);
	expect_refused(&entry, "no profile \"nonsense\"");
	entry = wish("acme", "short", 61);
	expect_refused(&entry, "max_lifetime");
	entry = wish("globex", "short", 61);
	expect_refused(&entry, "max_lifetime");
	entry = wish("globex", "short", -1);
	expect_refused(&entry, "expires");
	entry = wish("acme", "skype", 100);
	entry.expires_at_us = 0;
	expect_refused(&entry, "expires_at: ");
	entry = wish("acme", "skype", 100);
	strcpy(entry.reason, "");
	expect_refused(&entry, "reason: ");
	entry = wish("acme", "skype", 100);
	strcpy(entry.scope, "198.18.1.5");
	expect_refused(&entry, "scope: ");
	entry = wish("acme", "skype", 100);
	memset(entry.risk_sha256, 'a', DIGEST_HEX_LEN);
	expect_refused(&entry, "risk_sha256: ");
	entry = wish("acme", "skype", 100);
	entry.risk_version = RISK_VERSION + 1;
	expect_refused(&entry, "risk_version: ");
}

/* A file goes on to have what has ended by itself: that is how it shall be. */
static void test_over(void **state)
{
	(void)state;
	begin(false);
	add_wish("acme", "skype", 0);
	add_wish("globex", "skype", 1);
	assert_int_equal(compare(), 0);
	assert_int_equal(apply_count(apply).actions[APPLY_OVER], 1);
	assert_int_equal(commit(), 0);
	assert_int_equal(entries(), 1);
	assert_int_equal(book_until("acme"), 0);
}

/* Accepted under an older text, and left as it is; but not when something is to be otherwise. */
static void test_older_text(void **state)
{
	const uint64_t id = grant("acme", "skype", 100);
	struct exception entry = wish("acme", "skype", 100);

	(void)state;
	memset(entry.risk_sha256, 'a', DIGEST_HEX_LEN);
	book_run_sql("UPDATE exception SET risk_sha256 = '%s', version = 2 WHERE id = %llu",
		     entry.risk_sha256, (unsigned long long)id);
	book_load_again();
	begin(false);
	add(&entry);
	assert_int_equal(compare(), 0);
	expect_counts(0, 0, 0, 1);
	strcpy(entry.reason, "more calls");
	expect_refused(&entry, "risk_sha256: ");
}

static void test_twice(void **state)
{
	const struct exception entry = wish("acme", "skype", 100);

	(void)state;
	begin(false);
	add_wish("globex", "skype", 100);
	add(&entry);
	add_wish("acme", "short", 10);
	assert_int_equal(apply_add(apply, &entry, book.error), -EEXIST);
	assert_non_null(strstr(book.error, "entry 2"));
}

/* Nobody sees half of it; what expires meanwhile waits for the disk. */
static void test_unseen(void **state)
{
	const unsigned many = 3 * APPLY_WRITE_MAX;
	char tenant[16];

	(void)state;
	grant("acme", "skype", 1);
	begin(false);
	for (unsigned i = 0; i < many; i++) {
		snprintf(tenant, sizeof(tenant), "t%u", i);
		add_wish(tenant, "skype", 100);
	}
	assert_int_equal(compare(), 0);
	assert_int_equal(apply_write(apply, book.error), 1);
	assert_int_equal(apply_write(apply, book.error), 1);
	assert_int_equal(entries(), 1);
	assert_int_equal(exceptions_count(book.exceptions), 1);
	pass(2);
	assert_int_equal(book_until("acme"), 0);
	assert_int_equal(exceptions_settle(book.exceptions), 0);
	assert_int_equal(entries(), 1);
	assert_int_equal(commit(), 0);
	assert_int_equal(done[APPLY_GRANT], many);
	assert_int_equal(entries(), 1 + many);
	assert_int_equal(exceptions_settle(book.exceptions), 0);
	assert_int_equal(entries(), 2 + many);
}

static void test_given_up(void **state)
{
	(void)state;
	begin(false);
	add_wish("acme", "skype", 100);
	assert_int_equal(compare(), 0);
	assert_int_equal(write_all(), 0);
	apply_free(apply);
	apply = NULL;
	assert_int_equal(entries(), 0);
	book_load_again();
	assert_int_equal(exceptions_count(book.exceptions), 0);
	grant("acme", "skype", 100);
}

static void grant_another(void)
{
	grant("hooli", "skype", 100);
}

static void change_another(void)
{
	const struct exceptions_change change = { .reason = "more" };
	struct exception changed;

	assert_int_equal(
		exceptions_change(book.exceptions, 1, &change, &actor, &changed, book.error), 0);
}

static void revoke_another(void)
{
	take_back("globex");
	assert_int_equal(exceptions_settle(book.exceptions), 0);
}

static void reload(void)
{
	book_load_again();
}

/* Whatever somebody else does in between is done at once, and the list is not. */
static void test_somebody_else(void **state)
{
	static void (*const others[])(void) = { grant_another, change_another, revoke_another,
						reload };

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		for (int written = 0; written < 2; written++) {
			unsigned before;

			book_setup(state);
			grant("globex", "skype", 100);
			begin(false);
			add_wish("acme", "skype", 100);
			assert_int_equal(compare(), 0);
			if (written)
				assert_int_equal(write_all(), 0);
			others[i]();
			before = entries();
			if (written)
				assert_int_equal(apply_commit(apply, count_done, NULL, book.error),
						 -ESTALE);
			else
				assert_int_equal(commit(), -ESTALE);
			assert_non_null(strstr(book.error, "meanwhile"));
			assert_int_equal(apply_write(apply, book.error), -EBUSY);
			assert_int_equal(entries(), before);
			assert_int_equal(book_until("acme"), 0);
			teardown(state);
		}
	book_setup(state);
}

/* What it was to change or to revoke has ended. */
static void test_target_ended(void **state)
{
	(void)state;
	for (int prune = 0; prune < 2; prune++) {
		grant("acme", "skype", 10 + 2 * prune);
		begin(prune);
		if (!prune)
			add_wish("acme", "skype", 200);
		assert_int_equal(compare(), 0);
		assert_int_equal(write_all(), 0);
		pass(prune ? 2 : 10);
		assert_int_equal(apply_commit(apply, count_done, NULL, book.error), -ESTALE);
		assert_non_null(strstr(book.error, "has ended"));
		assert_int_equal(exceptions_settle(book.exceptions), 0);
		assert_int_equal(entries(), 2 + 2 * prune);
	}
}

/* Somebody holds the database with sqlite3(1). */
static void test_disk_refuses(void **state)
{
	sqlite3 *db;

	(void)state;
	begin(false);
	add_wish("acme", "skype", 100);
	assert_int_equal(compare(), 0);
	assert_int_equal(sqlite3_open(book.settings.sqlite, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(apply_write(apply, book.error), -EBUSY);
	assert_non_null(exceptions_store_error(book.exceptions));
	sqlite3_close(db);
	assert_int_equal(book_until("acme"), 0);
	assert_int_equal(apply_write(apply, book.error), -EBUSY); /* it is over */
	begin(false);
	add_wish("acme", "skype", 100);
	assert_int_equal(compare(), 0);
	assert_int_equal(commit(), 0);
	assert_int_equal(book_until("acme"), START + 100 * MINUTE);
}

/* A try goes on whatever is applied, and is no part of what is compared. */
static void test_tries(void **state)
{
	struct exception entry = wish("acme", "skype", 30);

	(void)state;
	strcpy(entry.scope, "host 198.18.1.5");
	strcpy(entry.kind, RECORD_KIND_TRY);
	assert_int_equal(exceptions_grant(book.exceptions, &entry, book.error), 0);
	grant("globex", "skype", 30);
	begin(true);
	assert_int_equal(compare(), 0);
	assert_int_equal(commit(), 0);
	assert_int_equal(done[APPLY_REVOKE], 1);
	assert_non_null(exceptions_active(book.exceptions, entry.id));
	begin(false);
	add(&entry);
	assert_int_equal(compare(), -EEXIST);
	assert_non_null(strstr(book.error, "tries the same now"));
}

static void test_too_many(void **state)
{
	struct exception entry = wish("acme", "skype", 100);

	(void)state;
	begin(false);
	for (unsigned i = 0; i < EXCEPTIONS_MAX; i++) {
		snprintf(entry.tenant, sizeof(entry.tenant), "t%u", i);
		add(&entry);
	}
	strcpy(entry.tenant, "one-more");
	assert_int_equal(apply_add(apply, &entry, book.error), -ENOBUFS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_all_kinds, book_setup, teardown),
		cmocka_unit_test_setup_teardown(test_reload, book_setup, teardown),
		cmocka_unit_test_setup_teardown(test_left_alone, book_setup, teardown),
		cmocka_unit_test_setup_teardown(test_rules, book_setup, teardown),
		cmocka_unit_test_setup_teardown(test_over, book_setup, teardown),
		cmocka_unit_test_setup_teardown(test_older_text, book_setup, teardown),
		cmocka_unit_test_setup_teardown(test_twice, book_setup, teardown),
		cmocka_unit_test_setup_teardown(test_unseen, book_setup, teardown),
		cmocka_unit_test_setup_teardown(test_given_up, book_setup, teardown),
		cmocka_unit_test_setup_teardown(test_somebody_else, NULL, teardown),
		cmocka_unit_test_setup_teardown(test_target_ended, book_setup, teardown),
		cmocka_unit_test_setup_teardown(test_disk_refuses, book_setup, teardown),
		cmocka_unit_test_setup_teardown(test_tries, book_setup, teardown),
		cmocka_unit_test_setup_teardown(test_too_many, book_setup, teardown),
	};

	return cmocka_run_group_tests_name("apply", tests, NULL, NULL);
}
