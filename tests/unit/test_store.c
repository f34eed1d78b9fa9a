/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the store keeps: exceptions word for word, in all or nothing, complete, and never rewritten. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "exceptions/store_schema.h"
#include "store_file.h"

static void test_grant_and_end(void **state)
{
	struct exception a = store_file_example("acme", "skype"), twin = a;
	struct exception b = store_file_example("acme", "ssh");
	struct store *store = store_file_open();
	struct stored list = { 0 };
	uint64_t id_a, id_b, id_again;

	(void)state;
	b.expires_at_us = 1700000000000001;
	id_a = store_file_grant(store, &a);
	id_b = store_file_grant(store, &b);
	assert_int_equal(store_grant(store, &twin), -EEXIST);
	assert_memory_equal(&twin, &a, sizeof(a));
	assert_false(store_damaged(store));
	assert_int_equal(store_end(store, id_a, AUDIT_REVOKE, 0, &store_file_somebody, "y"),
			 -EINVAL);
	assert_int_equal(store_end(store, id_a, AUDIT_REVOKE, 1800000000000000,
				   &store_file_somebody, "no longer needed"),
			 0);
	assert_int_equal(
		store_end(store, id_a, AUDIT_REVOKE, 1800000000000001, &store_file_somebody, "y"),
		-ENOENT);
	assert_int_equal(store_end(store, 999, AUDIT_REVOKE, 1, &store_file_somebody, "y"),
			 -ENOENT);
	assert_string_equal(store_error(store), "exception 999 is not active");
	id_again = store_file_grant(store, &a);
	assert_true(id_again > id_b);
	store_close(store);

	/* everything is there after opening again, word for word */
	store = store_file_open();
	assert_int_equal(store_each_active(store, store_file_collect, &list), 0);
	assert_int_equal(list.count, 2);
	b.id = id_b;
	b.version = 1;
	b.ended_by.uid = -1;
	assert_memory_equal(&list.items[0], &b, sizeof(b));
	assert_int_equal(list.items[1].id, id_again);
	list.count = 0;
	assert_int_equal(store_each_ended(store, 10, store_file_collect, &list), 0);
	assert_int_equal(list.count, 1);
	assert_int_equal(list.items[0].id, id_a);
	assert_int_equal(list.items[0].ended_at_us, 1800000000000000);
	assert_int_equal(list.items[0].version, 2);
	assert_memory_equal(&list.items[0].ended_by, &store_file_somebody,
			    sizeof(store_file_somebody));
	assert_string_equal(list.items[0].end_reason, "no longer needed");
	assert_int_equal(
		store_end(store, id_b, AUDIT_REVOKE, 1800000000000005, &store_file_somebody, "y"),
		0);
	list.count = 0;
	assert_int_equal(store_each_ended(store, 1, store_file_collect, &list), 0);
	assert_int_equal(list.count, 1);
	assert_int_equal(list.items[0].id, id_b);
	store_close(store);
}

/* One active exception for a tenant, profile, scope and destinations. */
static void test_scopes(void **state)
{
	struct exception whole = store_file_example("acme", "skype"), host = whole, list = whole,
			 again;
	struct store *store = store_file_open();

	(void)state;
	strcpy(host.scope, "host 198.18.1.5");
	strcpy(list.destinations, "203.0.113.0/24");
	store_file_grant(store, &whole);
	store_file_grant(store, &host);
	store_file_grant(store, &list);
	again = host;
	assert_int_equal(store_grant(store, &again), -EEXIST);
	again = list;
	assert_int_equal(store_grant(store, &again), -EEXIST);
	strcpy(again.scope, host.scope);
	store_file_grant(store, &again);
	store_close(store);
}

static void test_change(void **state)
{
	struct exception e = store_file_example("acme", "skype"), changed, found;
	struct store *store = store_file_open();

	(void)state;
	e.id = store_file_grant(store, &e);
	assert_int_equal(store_find(store, 999, &found), -ENOENT);
	assert_int_equal(store_find(store, e.id, &changed), 0);
	strcpy(changed.reason, "more calls");
	memset(changed.accepted_by, 0, sizeof(changed.accepted_by));
	strcpy(changed.accepted_by, "another officer");
	changed.expires_at_us = 1910000000000000;
	changed.end_set.wall_us = 1800000000000000;
	/* the version must be the next one */
	assert_int_equal(store_change(store, &changed, 1750000000000000, &store_file_somebody),
			 -ESTALE);
	changed.version = 3;
	assert_int_equal(store_change(store, &changed, 1750000000000000, &store_file_somebody),
			 -ESTALE);
	assert_string_equal(store_error(store),
			    "exception 1 is not active or was changed meanwhile");
	changed.version = 2;
	assert_int_equal(store_change(store, &changed, 1750000000000000, &store_file_somebody), 0);
	assert_int_equal(store_change(store, &changed, 1750000000000000, &store_file_somebody),
			 -ESTALE);
	store_close(store);

	store = store_file_open();
	assert_int_equal(store_find(store, e.id, &found), 0);
	assert_memory_equal(&found, &changed, sizeof(found));
	assert_int_equal(
		store_end(store, e.id, AUDIT_REVOKE, 1800000000000000, &store_file_somebody, "y"),
		0);
	changed.version = 4;
	assert_int_equal(store_change(store, &changed, 1750000000000000, &store_file_somebody),
			 -ESTALE);
	assert_int_equal(store_find(store, e.id, &found), 0);
	assert_int_equal(found.version, 3);
	assert_string_equal(found.reason, "more calls");
	store_close(store);
}

/* Several in one transaction: all of them or none. */
static void test_transaction(void **state)
{
	struct exception a = store_file_example("acme", "skype"),
			 b = store_file_example("globex", "skype"), twin = b;
	struct store *store = store_file_open(), *other = store_file_open();
	struct stored list = { 0 };

	(void)state;
	assert_int_equal(store_begin(store), 0);
	assert_int_equal(store_grant(store, &a), 0);
	assert_int_equal(store_each_active(other, store_file_collect, &list), 0);
	assert_int_equal(list.count, 0);
	store_rollback(store);
	assert_int_equal(store_begin(store), 0);
	assert_int_equal(store_grant(store, &b), 0);
	assert_int_equal(
		store_end(store, b.id, AUDIT_REVOKE, 1800000000000000, &store_file_somebody, "y"),
		0);
	assert_int_equal(store_grant(store, &b), 0);
	assert_int_equal(store_grant(store, &twin), -EEXIST);
	assert_int_equal(store_commit(store), 0);
	assert_int_equal(store_each_active(other, store_file_collect, &list), 0);
	assert_int_equal(list.count, 1);
	assert_string_equal(list.items[0].tenant, "globex");
	/* what was rolled back left no lock */
	store_file_grant(other, &a);
	store_close(store);
	store_close(other);
}

static void test_record_cannot_be_rewritten(void **state)
{
	static const char *const attempts[] = {
		"DELETE FROM exception",
		"UPDATE exception SET tenant = 'other' WHERE id = 1",
		"UPDATE exception SET tenant = 'other', version = 2 WHERE id = 1",
		"UPDATE exception SET scope = 'other', version = 2 WHERE id = 1",
		"UPDATE exception SET granted_at_us = 5, version = 2 WHERE id = 1",
		"UPDATE exception SET granted_by = 'x', version = 2 WHERE id = 1",
		"UPDATE exception SET expires_at_us = 5 WHERE id = 1",
		"UPDATE exception SET expires_at_us = 5, version = 3 WHERE id = 1",
		"UPDATE exception SET version = 0 WHERE id = 1",
		"UPDATE exception SET ended_at_us = 0 WHERE id = 2",
		"UPDATE exception SET end_reason = 'other' WHERE id = 2",
	};
	struct exception a = store_file_example("acme", "skype"),
			 b = store_file_example("acme", "ssh");
	struct store *store = store_file_open();
	sqlite3 *db = NULL;
	size_t i;

	(void)state;
	store_file_grant(store, &a);
	assert_int_equal(store_end(store, store_file_grant(store, &b), AUDIT_REVOKE, 1,
				   &store_file_somebody, "y"),
			 0);
	store_close(store);
	assert_int_equal(sqlite3_open(store_file.name, &db), SQLITE_OK);
	for (i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++)
		assert_int_equal(sqlite3_exec(db, attempts[i], NULL, NULL, NULL),
				 SQLITE_CONSTRAINT);
	sqlite3_close(db);
}

/* A row without something that an exception must have cannot be, whoever writes it. */
static void test_record_is_complete(void **state)
{
	static const size_t texts[] = { offsetof(struct exception, change_request),
					offsetof(struct exception, accepted_by),
					offsetof(struct exception, reason),
					offsetof(struct exception, scope),
					offsetof(struct exception, risk_sha256),
					offsetof(struct exception, granted_by.name) };
	const struct exception whole = store_file_example("acme", "skype");
	struct store *store = store_file_open();
	struct exception e;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		e = whole;
		((char *)&e)[texts[i]] = '\0';
		assert_int_equal(store_grant(store, &e), -EINVAL);
	}
	e = whole;
	e.expires_at_us = 0;
	assert_int_equal(store_grant(store, &e), -EINVAL);
	e = whole;
	e.expires_at_us = e.granted.wall_us;
	assert_int_equal(store_grant(store, &e), -EINVAL);
	e = whole;
	e.risk_version = 0;
	assert_int_equal(store_grant(store, &e), -EINVAL);
	store_file_grant(store, &whole);
	store_close(store);
}

/* As the first release left it. */
static void make_version_1(void)
{
	sqlite3 *db = NULL;

	assert_int_equal(sqlite3_open(store_file.name, &db), SQLITE_OK);
	assert_int_equal(store_migrate(db, store_migrations, 1), SQLITE_OK);
	sqlite3_close(db);
	store_file_run_sql(
		"INSERT INTO exception (tenant, profile, change_request, accepted_by, granted_by,"
		" granted_at_us, expires_at_us) VALUES ('acme', 'skype', 'CR-1', 'ciso', 'op', 7, "
		"9),"
		" ('acme', 'ssh', 'CR-2', 'ciso', 'op', 8, 0);"
		"INSERT INTO exception (tenant, profile, change_request, accepted_by, granted_by,"
		" granted_at_us, ended_at_us, ended_by, end_reason)"
		" VALUES ('globex', 'skype', 'CR-3', 'cso', 'op', 5, 6, 'op2', 'over')");
}

static void test_old_database(void **state)
{
	struct exception old = { .id = 1,
				 .version = 1,
				 .tenant = "acme",
				 .profile = "skype",
				 .kind = "grant",
				 .scope = "tenant",
				 .change_request = "CR-1",
				 .accepted_by = "ciso",
				 .granted_by = { -1, "op" },
				 .granted.wall_us = 7,
				 .expires_at_us = 9,
				 .ended_by.uid = -1 };
	struct stored list = { 0 };
	struct exception changed;
	struct store *store;

	(void)state;
	make_version_1();
	store = store_file_open();
	assert_int_equal(store_each_active(store, store_file_collect, &list), 0);
	assert_int_equal(list.count, 2);
	assert_memory_equal(&list.items[0], &old, sizeof(old));
	assert_int_equal(list.items[1].expires_at_us, 0);
	/* it can be given an end, and ended */
	changed = list.items[1];
	changed.version = 2;
	changed.expires_at_us = 1800000000000000;
	assert_int_equal(store_change(store, &changed, 1750000000000000, &store_file_somebody), 0);
	assert_int_equal(store_end(store, 1, AUDIT_REVOKE, 10, &store_file_somebody, "y"), 0);
	list.count = 0;
	assert_int_equal(store_each_ended(store, 10, store_file_collect, &list), 0);
	assert_int_equal(list.count, 2);
	assert_string_equal(list.items[1].tenant, "globex");
	assert_string_equal(list.items[1].end_reason, "over");
	assert_int_equal(list.items[1].ended_by.uid, -1);
	/* and what is new is as everywhere */
	old = store_file_example("acme", "skype");
	store_file_grant(store, &old);
	old = store_file_example("late", "skype");
	old.expires_at_us = 0;
	assert_int_equal(store_grant(store, &old), -EINVAL);
	store_close(store);
}

static int add_row(sqlite3 *db)
{
	return sqlite3_exec(db, "INSERT INTO t (a, b) VALUES (5, 6)", NULL, NULL, NULL);
}

static int add_nothing(sqlite3 *db)
{
	return sqlite3_exec(db, "INSERT INTO nonsense VALUES (5, 6)", NULL, NULL, NULL);
}

static void test_migrations(void **state)
{
	static const struct store_migration steps[] = {
		{ "PRAGMA application_id = 0x74737472; CREATE TABLE t (a); INSERT INTO t VALUES "
		  "(1);",
		  NULL },
		{ "ALTER TABLE t ADD COLUMN b DEFAULT 2;", add_row },
		{ "CREATE TABLE u (a); INSERT INTO u SELECT b FROM t;", NULL },
	};
	const struct store_migration failing[] = { steps[0],
						   steps[1],
						   steps[2],
						   { "CREATE TABLE v (a);", add_row },
						   { "CREATE TABLE t (a);", NULL } };
	const struct store_migration failing_run[] = {
		steps[0], steps[1], steps[2], { "CREATE TABLE v (a);", add_nothing }
	};
	sqlite3 *db = NULL;

	(void)state;
	assert_int_equal(sqlite3_open(store_file.name, &db), SQLITE_OK);
	/* one by one, over a release or two, and again */
	assert_int_equal(store_migrate(db, steps, 1), SQLITE_OK);
	assert_int_equal(store_migrate(db, steps, 1), SQLITE_OK);
	assert_int_equal(store_migrate(db, steps, 3), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "INSERT INTO u VALUES (3)", NULL, NULL, NULL), SQLITE_OK);
	/* one that fails leaves nothing of those before it */
	assert_int_equal(store_migrate(db, failing_run, 4), SQLITE_ERROR);
	assert_int_equal(sqlite3_exec(db, "SELECT * FROM v", NULL, NULL, NULL), SQLITE_ERROR);
	assert_int_equal(store_migrate(db, failing, 5), SQLITE_ERROR);
	assert_int_equal(sqlite3_exec(db, "SELECT * FROM v", NULL, NULL, NULL), SQLITE_ERROR);
	assert_int_equal(sqlite3_get_autocommit(db), 1);
	assert_int_equal(store_migrate(db, steps, 3), SQLITE_OK);
	/* newer than we know */
	assert_int_equal(store_migrate(db, steps, 2), SQLITE_SCHEMA);
	sqlite3_close(db);
}

#define TEST(function) cmocka_unit_test_teardown(function, store_file_clean)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_grant_and_end),
		TEST(test_scopes),
		TEST(test_change),
		TEST(test_transaction),
		TEST(test_record_cannot_be_rewritten),
		TEST(test_record_is_complete),
		TEST(test_old_database),
		TEST(test_migrations),
	};

	store_close(NULL);
	return cmocka_run_group_tests_name("store", tests, store_file_make_dir,
					   store_file_remove_dir);
}
