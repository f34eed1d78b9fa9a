/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "record.h"
#include "store.h"
#include "store_schema.h"

static char dir[] = "/tmp/test_store.XXXXXX";
static char file[64];

static void remove_files(void)
{
	static const char *const suffixes[] = { "", "-wal", "-shm", "-journal" };
	char name[80];
	size_t i;

	for (i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
		snprintf(name, sizeof(name), "%s%s", file, suffixes[i]);
		unlink(name);
	}
}

static int make_dir(void **state)
{
	(void)state;
	if (!mkdtemp(dir))
		return -1;
	snprintf(file, sizeof(file), "%s/exceptions.db", dir);
	return 0;
}

static int remove_dir(void **state)
{
	(void)state;
	remove_files();
	return rmdir(dir);
}

static int clean(void **state)
{
	(void)state;
	remove_files();
	return 0;
}

static struct store *open_store(void)
{
	struct store *store = NULL;
	const char *error = "";

	if (store_open(file, &store, &error) < 0)
		fail_msg("%s", error);
	return store;
}

static void expect_open(int expected, const char *sentence)
{
	struct store *store = NULL;
	const char *error = "";

	assert_int_equal(store_open(file, &store, &error), expected);
	assert_null(store);
	if (!strstr(error, sentence))
		fail_msg("got: %s\nexpected: %s", error, sentence);
}

static void run_sql(const char *sql)
{
	sqlite3 *db = NULL;

	assert_int_equal(sqlite3_open(file, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static struct exception example(const char *tenant, const char *profile)
{
	struct exception e = {
		.change_request = "CR-1",
		.accepted_by = "customer's \"officer\"; DROP TABLE exception",
		.reason = "calls",
		.kind = RECORD_KIND_GRANT,
		.scope = RECORD_SCOPE_TENANT,
		.risk_version = 1,
		.granted_by = { 1000, "operator" },
		.granted = { "b00t", 1700000000000000, 5000000 },
		.expires_at_us = 1900000000000000,
		.end_set = { "b00t", 1700000000000000, 5000000 },
	};

	memset(e.risk_sha256, 'a', DIGEST_HEX_LEN);
	snprintf(e.tenant, sizeof(e.tenant), "%s", tenant);
	snprintf(e.profile, sizeof(e.profile), "%s", profile);
	return e;
}

struct list {
	unsigned count;
	struct exception items[16];
};

static void collect(const struct exception *exception, void *user)
{
	struct list *list = user;

	if (list->count < 16)
		list->items[list->count] = *exception;
	list->count++;
}

static const struct actor somebody = { 1001, "operator2" };

/* Grant another one like it; returns its id. */
static uint64_t grant(struct store *store, const struct exception *like)
{
	struct exception exception = *like;

	assert_int_equal(store_grant(store, &exception), 0);
	assert_int_equal(exception.version, 1);
	return exception.id;
}

static void test_grant_and_end(void **state)
{
	struct exception a = example("acme", "skype"), twin = a;
	struct exception b = example("acme", "ssh");
	struct store *store = open_store();
	struct list list = { 0 };
	uint64_t id_a, id_b, id_again;

	(void)state;
	b.expires_at_us = 1700000000000001;
	id_a = grant(store, &a);
	id_b = grant(store, &b);
	assert_int_equal(store_grant(store, &twin), -EEXIST);
	assert_memory_equal(&twin, &a, sizeof(a));
	assert_false(store_damaged(store));
	assert_int_equal(store_end(store, id_a, AUDIT_REVOKE, 0, &somebody, "y"), -EINVAL);
	assert_int_equal(store_end(store, id_a, AUDIT_REVOKE, 1800000000000000, &somebody,
				   "no longer needed"),
			 0);
	assert_int_equal(store_end(store, id_a, AUDIT_REVOKE, 1800000000000001, &somebody, "y"),
			 -ENOENT);
	assert_int_equal(store_end(store, 999, AUDIT_REVOKE, 1, &somebody, "y"), -ENOENT);
	assert_string_equal(store_error(store), "exception 999 is not active");
	id_again = grant(store, &a);
	assert_true(id_again > id_b);
	store_close(store);

	/* everything is there after opening again, word for word */
	store = open_store();
	assert_int_equal(store_each_active(store, collect, &list), 0);
	assert_int_equal(list.count, 2);
	b.id = id_b;
	b.version = 1;
	b.ended_by.uid = -1;
	assert_memory_equal(&list.items[0], &b, sizeof(b));
	assert_int_equal(list.items[1].id, id_again);
	list.count = 0;
	assert_int_equal(store_each_ended(store, 10, collect, &list), 0);
	assert_int_equal(list.count, 1);
	assert_int_equal(list.items[0].id, id_a);
	assert_int_equal(list.items[0].ended_at_us, 1800000000000000);
	assert_int_equal(list.items[0].version, 2);
	assert_memory_equal(&list.items[0].ended_by, &somebody, sizeof(somebody));
	assert_string_equal(list.items[0].end_reason, "no longer needed");
	assert_int_equal(store_end(store, id_b, AUDIT_REVOKE, 1800000000000005, &somebody, "y"), 0);
	list.count = 0;
	assert_int_equal(store_each_ended(store, 1, collect, &list), 0);
	assert_int_equal(list.count, 1);
	assert_int_equal(list.items[0].id, id_b);
	store_close(store);
}

/* One active exception for a tenant, profile, scope and destinations. */
static void test_scopes(void **state)
{
	struct exception whole = example("acme", "skype"), host = whole, list = whole, again;
	struct store *store = open_store();

	(void)state;
	strcpy(host.scope, "host 198.18.1.5");
	strcpy(list.destinations, "203.0.113.0/24");
	grant(store, &whole);
	grant(store, &host);
	grant(store, &list);
	again = host;
	assert_int_equal(store_grant(store, &again), -EEXIST);
	again = list;
	assert_int_equal(store_grant(store, &again), -EEXIST);
	strcpy(again.scope, host.scope);
	grant(store, &again);
	store_close(store);
}

static void test_change(void **state)
{
	struct exception e = example("acme", "skype"), changed, found;
	struct store *store = open_store();

	(void)state;
	e.id = grant(store, &e);
	assert_int_equal(store_find(store, 999, &found), -ENOENT);
	assert_int_equal(store_find(store, e.id, &changed), 0);
	strcpy(changed.reason, "more calls");
	memset(changed.accepted_by, 0, sizeof(changed.accepted_by));
	strcpy(changed.accepted_by, "another officer");
	changed.expires_at_us = 1910000000000000;
	changed.end_set.wall_us = 1800000000000000;
	/* the version must be the next one */
	assert_int_equal(store_change(store, &changed, 1750000000000000, &somebody), -ESTALE);
	changed.version = 3;
	assert_int_equal(store_change(store, &changed, 1750000000000000, &somebody), -ESTALE);
	assert_string_equal(store_error(store),
			    "exception 1 is not active or was changed meanwhile");
	changed.version = 2;
	assert_int_equal(store_change(store, &changed, 1750000000000000, &somebody), 0);
	assert_int_equal(store_change(store, &changed, 1750000000000000, &somebody), -ESTALE);
	store_close(store);

	store = open_store();
	assert_int_equal(store_find(store, e.id, &found), 0);
	assert_memory_equal(&found, &changed, sizeof(found));
	assert_int_equal(store_end(store, e.id, AUDIT_REVOKE, 1800000000000000, &somebody, "y"), 0);
	changed.version = 4;
	assert_int_equal(store_change(store, &changed, 1750000000000000, &somebody), -ESTALE);
	assert_int_equal(store_find(store, e.id, &found), 0);
	assert_int_equal(found.version, 3);
	assert_string_equal(found.reason, "more calls");
	store_close(store);
}

/* Several in one transaction: all of them or none. */
static void test_transaction(void **state)
{
	struct exception a = example("acme", "skype"), b = example("globex", "skype"), twin = b;
	struct store *store = open_store(), *other = open_store();
	struct list list = { 0 };

	(void)state;
	assert_int_equal(store_begin(store), 0);
	assert_int_equal(store_grant(store, &a), 0);
	assert_int_equal(store_each_active(other, collect, &list), 0);
	assert_int_equal(list.count, 0);
	store_rollback(store);
	assert_int_equal(store_begin(store), 0);
	assert_int_equal(store_grant(store, &b), 0);
	assert_int_equal(store_end(store, b.id, AUDIT_REVOKE, 1800000000000000, &somebody, "y"), 0);
	assert_int_equal(store_grant(store, &b), 0);
	assert_int_equal(store_grant(store, &twin), -EEXIST);
	assert_int_equal(store_commit(store), 0);
	assert_int_equal(store_each_active(other, collect, &list), 0);
	assert_int_equal(list.count, 1);
	assert_string_equal(list.items[0].tenant, "globex");
	/* what was rolled back left no lock */
	grant(other, &a);
	store_close(store);
	store_close(other);
}

static void test_mode_of_the_files(void **state)
{
	static const char *const suffixes[] = { "", "-wal", "-shm" };
	struct exception e = example("acme", "skype");
	mode_t mask = umask(0);
	struct store *store = open_store();
	char name[80];
	struct stat st;
	size_t i;

	(void)state;
	umask(mask);
	grant(store, &e);
	for (i = 0; i < 3; i++) {
		snprintf(name, sizeof(name), "%s%s", file, suffixes[i]);
		assert_int_equal(stat(name, &st), 0);
		assert_int_equal(st.st_mode & 07777, 0640);
	}
	store_close(store);
	/* one that was opened to everybody is closed again */
	assert_int_equal(chmod(file, 0666), 0);
	store_close(open_store());
	assert_int_equal(stat(file, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
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
	struct exception a = example("acme", "skype"), b = example("acme", "ssh");
	struct store *store = open_store();
	sqlite3 *db = NULL;
	size_t i;

	(void)state;
	grant(store, &a);
	assert_int_equal(store_end(store, grant(store, &b), AUDIT_REVOKE, 1, &somebody, "y"), 0);
	store_close(store);
	assert_int_equal(sqlite3_open(file, &db), SQLITE_OK);
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
	const struct exception whole = example("acme", "skype");
	struct store *store = open_store();
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
	grant(store, &whole);
	store_close(store);
}

/* As the first release left it. */
static void make_version_1(void)
{
	sqlite3 *db = NULL;

	assert_int_equal(sqlite3_open(file, &db), SQLITE_OK);
	assert_int_equal(store_migrate(db, store_migrations, 1), SQLITE_OK);
	sqlite3_close(db);
	run_sql("INSERT INTO exception (tenant, profile, change_request, accepted_by, granted_by,"
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
	struct list list = { 0 };
	struct exception changed;
	struct store *store;

	(void)state;
	make_version_1();
	store = open_store();
	assert_int_equal(store_each_active(store, collect, &list), 0);
	assert_int_equal(list.count, 2);
	assert_memory_equal(&list.items[0], &old, sizeof(old));
	assert_int_equal(list.items[1].expires_at_us, 0);
	/* it can be given an end, and ended */
	changed = list.items[1];
	changed.version = 2;
	changed.expires_at_us = 1800000000000000;
	assert_int_equal(store_change(store, &changed, 1750000000000000, &somebody), 0);
	assert_int_equal(store_end(store, 1, AUDIT_REVOKE, 10, &somebody, "y"), 0);
	list.count = 0;
	assert_int_equal(store_each_ended(store, 10, collect, &list), 0);
	assert_int_equal(list.count, 2);
	assert_string_equal(list.items[1].tenant, "globex");
	assert_string_equal(list.items[1].end_reason, "over");
	assert_int_equal(list.items[1].ended_by.uid, -1);
	/* and what is new is as everywhere */
	old = example("acme", "skype");
	grant(store, &old);
	old = example("late", "skype");
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
	assert_int_equal(sqlite3_open(file, &db), SQLITE_OK);
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

static void test_newer_and_foreign_files(void **state)
{
	(void)state;
	store_close(open_store());
	run_sql("PRAGMA user_version = 1000");
	expect_open(-EUCLEAN, "from a newer release");
	remove_files();
	run_sql("CREATE TABLE addresses (a)");
	expect_open(-EUCLEAN, "another program's database");
	run_sql("INSERT INTO addresses VALUES (1)");
	remove_files();
	/* right number, wrong tables */
	store_close(open_store());
	run_sql("DROP TABLE exception");
	expect_open(-EUCLEAN, "damaged");
	remove_files();
	/* an empty file is a new database */
	close(open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	store_close(open_store());
}

static void overwrite(off_t from, size_t len)
{
	int fd = open(file, O_WRONLY | O_CLOEXEC);
	size_t i;

	assert_true(fd >= 0);
	for (i = 0; i < len; i++)
		assert_int_equal(pwrite(fd, "\xa5", 1, from + (off_t)i), 1);
	close(fd);
}

static off_t file_size(void)
{
	struct stat st;

	assert_int_equal(stat(file, &st), 0);
	return st.st_size;
}

static void fill(struct store *store, unsigned count)
{
	char tenant[32];
	unsigned i;

	for (i = 0; i < count; i++) {
		struct exception e;

		snprintf(tenant, sizeof(tenant), "tenant-%u", i);
		e = example(tenant, "skype");
		assert_int_equal(store_grant(store, &e), 0);
	}
}

static void test_damaged_file(void **state)
{
	struct store *store;
	off_t size;

	(void)state;
	/* its head */
	store_close(open_store());
	overwrite(0, 16);
	size = file_size();
	expect_open(-EUCLEAN, "not a database");
	assert_int_equal(file_size(), size); /* left as it is, for whoever repairs it */
	remove_files();
	/* not a database at all */
	close(open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	overwrite(0, 5000);
	expect_open(-EUCLEAN, "not a database");
	remove_files();
	/* pages in its middle, found when opening */
	store = open_store();
	fill(store, 200);
	store_close(store);
	overwrite(8192, 20000);
	expect_open(-EUCLEAN, "damaged");
}

/* A row that somebody writes with sqlite3(1). */
#define INSERT_ROW(tenant, change_request)                                                         \
	"INSERT INTO exception (tenant, profile, change_request, accepted_by, reason,"             \
	" risk_version, risk_sha256, granted_by, granted_at_us, expires_at_us) VALUES (" tenant    \
	", 'skype', " change_request ", 'x', 'x', 1, printf('%.*c', 64, 'a'), 'x', 1, 2)"

/* Damage that comes while it is open: reported, remembered, and the store is still an object. */
static void test_damage_while_open(void **state)
{
	struct exception e = example("late", "skype");
	struct store *store;
	struct list list = { 0 };

	(void)state;
	store = open_store();
	fill(store, 200);
	store_close(store);
	store = open_store();
	/* somebody else's commit: what SQLite has cached counts no more */
	run_sql(INSERT_ROW("'other'", "'CR-1'"));
	overwrite(4096, (size_t)file_size() - 4096);
	assert_int_equal(store_each_active(store, collect, &list), -EUCLEAN);
	assert_true(store_damaged(store));
	assert_non_null(strstr(store_error(store), "malformed"));
	assert_int_equal(store_grant(store, &e), -EUCLEAN);
	store_close(store);
}

/* Rows that somebody wrote with sqlite3(1) and that no grant could have written. */
static void test_impossible_rows(void **state)
{
	static const char *const rows[] = {
		INSERT_ROW("printf('%.*c', 200, 'a')", "'CR-1'"),
		INSERT_ROW("'a b'", "'CR-1'"),
		INSERT_ROW("'a'", "printf('%.*c', 300, 'a')"),
		INSERT_ROW("'a' || char(0) || 'b'", "'CR-1'"),
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct list list = { 0 };
		struct store *store;

		remove_files();
		store_close(open_store());
		run_sql(rows[i]);
		store = open_store();
		assert_int_equal(store_each_active(store, collect, &list), -EUCLEAN);
		assert_int_equal(list.count, 0);
		assert_true(store_damaged(store));
		store_close(store);
	}
}

static void test_files_that_cannot_be_opened(void **state)
{
	char saved[sizeof(file)];
	char target[80];

	(void)state;
	strcpy(saved, file);
	strcpy(file, "/nonexistent/exceptions.db");
	expect_open(-ENOENT, "No such file or directory");
	strcpy(file, dir);
	expect_open(-EISDIR, "Is a directory");
	strcpy(file, saved);
	snprintf(target, sizeof(target), "%s/target", dir);
	assert_int_equal(symlink(target, file), 0);
	expect_open(-ELOOP, "symbolic");
	assert_int_equal(access(target, F_OK), -1);
}

/* What a child process found, as its exit status: the assertions of cmocka end in the parent. */
static int run_child(int (*run)(void))
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0)
		_exit(run());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

#define CANNOT_MOUNT 77

static int mount_tmpfs(const char *options, unsigned long flags)
{
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("tmpfs", dir, "tmpfs", flags, options) < 0)
		return -1;
	return 0;
}

/* Until it is full; then nothing is lost, and when there is room again it goes on. */
static int fill_the_disk(void)
{
	struct exception e = example("acme", "skype");
	struct store *store = NULL;
	struct list list = { 0 };
	unsigned granted = 0;
	const char *error;
	int r = 0;

	if (mount_tmpfs("size=512k", 0) < 0)
		return CANNOT_MOUNT;
	if (store_open(file, &store, &error) < 0)
		return 1;
	for (; r == 0 && granted < 100000; granted += r == 0) {
		snprintf(e.tenant, sizeof(e.tenant), "tenant-%u", granted);
		r = store_grant(store, &e);
	}
	if (r != -ENOSPC || store_damaged(store) || !strstr(store_error(store), "full"))
		return 2;
	if (store_each_active(store, collect, &list) < 0 || list.count != granted)
		return 3;
	if (mount("tmpfs", dir, "tmpfs", MS_REMOUNT, "size=4m") < 0)
		return 4;
	if (store_grant(store, &e) < 0)
		return 5;
	list.count = 0;
	if (store_each_active(store, collect, &list) < 0 || list.count != granted + 1)
		return 6;
	store_close(store);
	return 0;
}

static int read_only_disk(void)
{
	struct store *store = NULL;
	const char *error;

	if (mount_tmpfs("size=4m", 0) < 0)
		return CANNOT_MOUNT;
	if (store_open(file, &store, &error) < 0)
		return 1;
	store_close(store);
	if (mount("tmpfs", dir, "tmpfs", MS_REMOUNT | MS_RDONLY, NULL) < 0)
		return 2;
	return store_open(file, &store, &error) == -EROFS ? 0 : 3;
}

static void expect_on_tmpfs(int (*run)(void))
{
	int status = run_child(run);

	if (status == CANNOT_MOUNT)
		skip(); /* not root */
	assert_int_equal(status, 0);
}

static void test_full_disk(void **state)
{
	(void)state;
	expect_on_tmpfs(fill_the_disk);
}

static void test_read_only_disk(void **state)
{
	(void)state;
	expect_on_tmpfs(read_only_disk);
}

/* The same without privileges: the file may not grow. */
static int limit_the_file(void)
{
	struct rlimit limit = { 65536, 65536 };
	struct exception e = example("acme", "skype");
	struct store *store = NULL;
	const char *error;
	struct list list = { 0 };
	unsigned granted = 0;
	int r = 0;

	signal(SIGXFSZ, SIG_IGN);
	if (store_open(file, &store, &error) < 0 || setrlimit(RLIMIT_FSIZE, &limit) < 0)
		return 1;
	for (; r == 0 && granted < 10000; granted += r == 0) {
		snprintf(e.tenant, sizeof(e.tenant), "tenant-%u", granted);
		r = store_grant(store, &e);
	}
	if ((r != -EIO && r != -ENOSPC) || store_damaged(store))
		return 2;
	if (store_each_active(store, collect, &list) < 0 || list.count != granted)
		return 3;
	store_close(store);
	return 0;
}

static void test_limited_file(void **state)
{
	(void)state;
	assert_int_equal(run_child(limit_the_file), 0);
	store_close(open_store());
}

static void grant_for_ever(int out)
{
	struct exception e = example("acme", "skype");
	struct store *store = NULL;
	const char *error;
	uint64_t i;

	if (store_open(file, &store, &error) < 0)
		_exit(1);
	for (i = 0;; i++) {
		snprintf(e.tenant, sizeof(e.tenant), "%s-%u-%llu", "tenant", (unsigned)getpid(),
			 (unsigned long long)i);
		if (store_grant(store, &e) < 0 || write(out, &e.id, sizeof(e.id)) != sizeof(e.id))
			_exit(1);
	}
}

static void note_id(const struct exception *exception, void *user)
{
	unsigned char *seen = user;

	if (exception->id < 100000)
		seen[exception->id] = 1;
}

/* A grant that was acknowledged survives kill -9 at any moment. */
static void test_kill(void **state)
{
	static unsigned char seen[100000];
	unsigned round, acknowledged = 0;
	uint64_t ids[4096], id;
	struct store *store;

	(void)state;
	for (round = 1; round <= 8; round++) {
		unsigned before = acknowledged;
		int fds[2], status;
		pid_t pid;

		assert_int_equal(pipe(fds), 0);
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0)
			grant_for_ever(fds[1]);
		close(fds[1]);
		while (acknowledged < before + 17 * round &&
		       read(fds[0], &id, sizeof(id)) == sizeof(id))
			ids[acknowledged++] = id;
		assert_int_equal(kill(pid, SIGKILL), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		/* those it acknowledged before it died */
		while (acknowledged < 4096 && read(fds[0], &id, sizeof(id)) == sizeof(id))
			ids[acknowledged++] = id;
		close(fds[0]);
	}
	store = open_store();
	assert_int_equal(store_each_active(store, note_id, seen), 0);
	store_close(store);
	assert_true(acknowledged > 600);
	while (acknowledged > 0)
		assert_int_equal(seen[ids[--acknowledged]], 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_grant_and_end, clean),
		cmocka_unit_test_teardown(test_scopes, clean),
		cmocka_unit_test_teardown(test_change, clean),
		cmocka_unit_test_teardown(test_transaction, clean),
		cmocka_unit_test_teardown(test_mode_of_the_files, clean),
		cmocka_unit_test_teardown(test_record_cannot_be_rewritten, clean),
		cmocka_unit_test_teardown(test_record_is_complete, clean),
		cmocka_unit_test_teardown(test_old_database, clean),
		cmocka_unit_test_teardown(test_migrations, clean),
		cmocka_unit_test_teardown(test_newer_and_foreign_files, clean),
		cmocka_unit_test_teardown(test_damaged_file, clean),
		cmocka_unit_test_teardown(test_damage_while_open, clean),
		cmocka_unit_test_teardown(test_impossible_rows, clean),
		cmocka_unit_test_teardown(test_files_that_cannot_be_opened, clean),
		cmocka_unit_test_teardown(test_full_disk, clean),
		cmocka_unit_test_teardown(test_read_only_disk, clean),
		cmocka_unit_test_teardown(test_limited_file, clean),
		cmocka_unit_test_teardown(test_kill, clean),
	};

	store_close(NULL);
	return cmocka_run_group_tests_name("store", tests, make_dir, remove_dir);
}
