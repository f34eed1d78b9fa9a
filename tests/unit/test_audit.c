/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The audit log: everything that is done is in it, and whatever is done to it behind SQLite's back is
 * found, at its first entry.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "exceptions/audit_tell.h"
#include "exceptions/store.h"
#include "exceptions/store_schema.h"
#include "record/audit.h"

#define ENTRIES 6

static char dir[32], file[64], error[AUDIT_ERROR_MAX];
static struct store *store;
static const struct actor first = { 1000, "first" }, second = { 1001, "second" };

static void open_store(void)
{
	const char *why = "";

	store = NULL;
	if (store_open(file, &store, &why) < 0)
		fail_msg("%s", why);
}

static void close_store(void)
{
	store_close(store);
	store = NULL;
}

static int run_sql(const char *sql)
{
	sqlite3 *db = NULL;
	int code;

	assert_int_equal(sqlite3_open(file, &db), SQLITE_OK);
	code = sqlite3_exec(db, sql, NULL, NULL, NULL);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
	return code;
}

static uint64_t grant(const char *tenant)
{
	struct exception e = {
		.profile = "skype",
		.scope = RECORD_SCOPE_TENANT,
		.change_request = "CR-1",
		.accepted_by = "ciso",
		.reason = "calls",
		.risk_version = 1,
		.granted_by = first,
		.granted = { "b00t", 1700000000000000, 5000000 },
		.expires_at_us = 1900000000000000,
		.end_set = { "b00t", 1700000000000000, 5000000 },
	};

	memset(e.risk_sha256, 'a', DIGEST_HEX_LEN);
	strcpy(e.tenant, tenant);
	assert_int_equal(store_grant(store, &e), 0);
	return e.id;
}

static void change(uint64_t id, const char *reason)
{
	struct exception e;

	assert_int_equal(store_find(store, id, &e), 0);
	e.version++;
	strcpy(e.reason, reason);
	assert_int_equal(store_change(store, &e, 1700000001000000, &second), 0);
}

/* Two exceptions, ENTRIES entries. */
static int setup(void **state)
{
	uint64_t id;

	(void)state;
	strcpy(dir, "/tmp/test_audit.XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(file, sizeof(file), "%s/exceptions.db", dir);
	open_store();
	id = grant("acme");
	grant("globex");
	change(id, "more calls");
	assert_int_equal(store_end(store, id, AUDIT_REVOKE, 1700000002000000, &second, "over"), 0);
	id = grant("acme");
	assert_int_equal(store_end(store, id, AUDIT_EXPIRE, 1900000000000000, &first, "expired"),
			 0);
	return 0;
}

static int teardown(void **state)
{
	char command[64];

	(void)state;
	close_store();
	snprintf(command, sizeof(command), "rm -r %s", dir);
	return system(command);
}

/* Reading */

struct chain {
	struct audit_chain chain;
	int r;
};

static void add(void *user, const struct audit_entry *entry)
{
	struct chain *chain = user;
	char text[AUDIT_TEXT_MAX];
	const struct audit_link link = { entry->seq, text, entry->previous, entry->hash };

	audit_text(entry, text);
	if (chain->r == 0)
		chain->r = audit_chain_add(&chain->chain, &link, error);
}

/* In pages of two. */
static int verify(struct audit_chain *ret)
{
	struct chain chain = { .r = 0 };
	uint64_t before;

	audit_chain_begin(&chain.chain);
	do {
		before = chain.chain.seq;
		if (store_each_after(store, before, 2, add, &chain) < 0)
			return -EUCLEAN;
	} while (chain.r == 0 && chain.chain.seq > before);
	*ret = chain.chain;
	return chain.r;
}

struct list {
	unsigned count;
	struct {
		uint64_t seq, exception_id, version;
		char action[16], actor[16], tenant[16];
		int64_t uid, time_us;
	} items[2 * ENTRIES];
};

static void collect(void *user, const struct audit_entry *entry)
{
	struct list *list = user;
	struct exception record;
	unsigned n = list->count++;

	assert_int_equal(record_read(entry->record, &record), 0);
	assert_int_equal(record.id, entry->exception_id);
	assert_string_equal(record.tenant, entry->tenant);
	list->items[n].seq = entry->seq;
	list->items[n].exception_id = entry->exception_id;
	list->items[n].version = record.version;
	list->items[n].uid = entry->actor.uid;
	list->items[n].time_us = entry->time_us;
	strcpy(list->items[n].action, entry->action);
	strcpy(list->items[n].actor, entry->actor.name);
	strcpy(list->items[n].tenant, entry->tenant);
}

static void test_entries(void **state)
{
	static const struct {
		const char *action, *actor, *tenant;
		int64_t uid, time_us;
		uint64_t exception_id, version;
	} expected[ENTRIES] = {
		{ "grant", "first", "acme", 1000, 1700000000000000, 1, 1 },
		{ "grant", "first", "globex", 1000, 1700000000000000, 2, 1 },
		{ "change", "second", "acme", 1001, 1700000001000000, 1, 2 },
		{ "revoke", "second", "acme", 1001, 1700000002000000, 1, 3 },
		{ "grant", "first", "acme", 1000, 1700000000000000, 3, 1 },
		{ "expire", "first", "acme", 1000, 1900000000000000, 3, 2 },
	};
	struct list list = { 0 };

	(void)state;
	assert_int_equal(store_each_after(store, 0, 100, collect, &list), 0);
	assert_int_equal(list.count, ENTRIES);
	for (unsigned i = 0; i < ENTRIES; i++) {
		assert_int_equal(list.items[i].seq, i + 1);
		assert_string_equal(list.items[i].action, expected[i].action);
		assert_string_equal(list.items[i].actor, expected[i].actor);
		assert_string_equal(list.items[i].tenant, expected[i].tenant);
		assert_int_equal(list.items[i].uid, expected[i].uid);
		assert_int_equal(list.items[i].time_us, expected[i].time_us);
		assert_int_equal(list.items[i].exception_id, expected[i].exception_id);
		assert_int_equal(list.items[i].version, expected[i].version);
	}
	/* the latest, newest last; of one tenant; before one */
	list.count = 0;
	assert_int_equal(store_each_latest(store, NULL, UINT64_MAX, 2, collect, &list), 0);
	assert_int_equal(list.count, 2);
	assert_int_equal(list.items[0].seq, 5);
	assert_int_equal(list.items[1].seq, 6);
	list.count = 0;
	assert_int_equal(store_each_latest(store, "acme", 5, 2, collect, &list), 0);
	assert_int_equal(list.count, 2);
	assert_int_equal(list.items[0].seq, 3);
	assert_int_equal(list.items[1].seq, 4);
	list.count = 0;
	assert_int_equal(store_each_latest(store, "nobody", UINT64_MAX, 2, collect, &list), 0);
	assert_int_equal(list.count, 0);
	/* by exception and version */
	assert_int_equal(store_find_entry(store, 1, 2, collect, &list), 0);
	assert_int_equal(list.items[0].seq, 3);
	assert_int_equal(store_find_entry(store, 1, UINT64_MAX, collect, &list), 0);
	assert_int_equal(list.items[1].seq, 4);
	assert_int_equal(store_find_entry(store, 1, 4, collect, &list), -ENOENT);
	assert_int_equal(store_find_entry(store, 9, UINT64_MAX, collect, &list), -ENOENT);
}

static void test_whole(void **state)
{
	char head[DIGEST_HEX_LEN + 1];
	struct audit_chain chain;
	uint64_t seq;

	(void)state;
	assert_int_equal(verify(&chain), 0);
	assert_int_equal(chain.seq, ENTRIES);
	assert_int_equal(store_audit_head(store, &seq, head), 0);
	assert_int_equal(seq, ENTRIES);
	assert_string_equal(head, chain.hash);
	/* it goes on after the store was opened again */
	close_store();
	open_store();
	grant("late");
	assert_int_equal(verify(&chain), 0);
	assert_int_equal(chain.seq, ENTRIES + 1);
	assert_string_not_equal(head, chain.hash);
}

/* What is hashed, letter by letter, so that others can do it. */
static void test_text(void **state)
{
	const struct audit_entry entry = { .seq = 3,
					   .time_us = 1700000001000000,
					   .actor = { 1001, "a \"b\"" },
					   .action = "change",
					   .exception_id = 1,
					   .tenant = "acme",
					   .record = "{\"id\":1}",
					   .previous = "00" };
	char text[AUDIT_TEXT_MAX], hash[DIGEST_HEX_LEN + 1], own[DIGEST_HEX_LEN + 1];

	(void)state;
	audit_text(&entry, text);
	assert_string_equal(
		text, "{\"seq\":3,\"time\":\"2023-11-14T22:13:21.000000Z\",\"actor_uid\":1001,"
		      "\"actor\":\"a \\\"b\\\"\",\"action\":\"change\",\"exception_id\":1,"
		      "\"tenant\":\"acme\",\"record\":{\"id\":1},\"previous\":\"00\"}");
	audit_hash(&entry, hash);
	digest_sha256(text, strlen(text), own);
	assert_string_equal(hash, own);
}

/* With SQLite nothing but appending can be done. */
static void test_forbidden(void **state)
{
	static const char *const attempts[] = {
		"UPDATE audit SET actor = 'x' WHERE seq = 3",
		"UPDATE audit SET hash = hash",
		"DELETE FROM audit WHERE seq = 6",
		"DELETE FROM audit",
		"INSERT INTO audit SELECT 3, time_us, actor_uid, actor, action, exception_id, "
		"tenant,"
		" record, previous, hash FROM audit WHERE seq = 3",
		"INSERT INTO audit SELECT 9, time_us, actor_uid, actor, action, exception_id, "
		"tenant,"
		" record, previous, hash FROM audit WHERE seq = 3",
		"INSERT OR REPLACE INTO audit SELECT 3, time_us, actor_uid, 'x', action,"
		" exception_id, tenant, record, previous, hash FROM audit WHERE seq = 3",
		/* a kind that nobody has added */
		"PRAGMA foreign_keys = ON; INSERT INTO audit SELECT 7, time_us, actor_uid, actor,"
		" 'nonsense', exception_id, tenant, record, previous, hash FROM audit WHERE seq = "
		"3",
	};
	struct audit_chain chain;

	(void)state;
	for (unsigned i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++)
		assert_int_equal(run_sql(attempts[i]), SQLITE_CONSTRAINT);
	assert_int_equal(verify(&chain), 0);
	assert_int_equal(chain.seq, ENTRIES);
}

#define UNGUARDED                                                                                  \
	"DROP TRIGGER audit_appended; DROP TRIGGER audit_kept; DROP TRIGGER audit_written_once;"

/* Behind its back anything can: the first entry that does not hold is named. */
static void test_tampered(void **state)
{
	static const struct {
		const char *sql, *says;
	} attempts[] = {
		/* a row changed, each column of it */
		{ "UPDATE audit SET time_us = time_us + 1 WHERE seq = 3", "entry 3 was changed" },
		{ "UPDATE audit SET actor_uid = 0 WHERE seq = 3", "entry 3 was changed" },
		{ "UPDATE audit SET actor = 'first' WHERE seq = 3", "entry 3 was changed" },
		{ "UPDATE audit SET action = 'grant' WHERE seq = 3", "entry 3 was changed" },
		{ "UPDATE audit SET exception_id = 2 WHERE seq = 3", "entry 3 was changed" },
		{ "UPDATE audit SET tenant = 'globex' WHERE seq = 3", "entry 3 was changed" },
		{ "UPDATE audit SET record = replace(record, 'more', 'less') WHERE seq = 3",
		  "entry 3 was changed" },
		{ "UPDATE audit SET previous = hash WHERE seq = 3", "entry 3 was changed" },
		{ "UPDATE audit SET hash = previous WHERE seq = 3", "entry 3 was changed" },
		{ "UPDATE audit SET record = '{}' WHERE seq = 1", "entry 1 was changed" },
		{ "UPDATE audit SET record = '{}' WHERE seq = 6", "entry 6 was changed" },
		/* removed */
		{ "DELETE FROM audit WHERE seq = 1", "entry 1 is missing" },
		{ "DELETE FROM audit WHERE seq = 3", "entry 3 is missing" },
		{ "DELETE FROM audit WHERE seq = 3; UPDATE audit SET seq = seq - 1 WHERE seq > 3",
		  "entry 3 was changed" },
		/* inserted */
		{ "UPDATE audit SET seq = -seq WHERE seq > 3; UPDATE audit SET seq = 1 - seq WHERE"
		  " seq < 0; INSERT INTO audit SELECT 4, time_us, actor_uid, actor, action,"
		  " exception_id, tenant, record, previous, hash FROM audit WHERE seq = 2",
		  "entry 4 was changed" },
		/* put elsewhere */
		{ "UPDATE audit SET seq = -2 WHERE seq = 2; UPDATE audit SET seq = 2 WHERE seq = 3;"
		  "UPDATE audit SET seq = 3 WHERE seq = -2",
		  "entry 2 was changed" },
	};
	struct audit_chain chain;

	(void)state;
	for (unsigned i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++) {
		char sql[1024];

		teardown(NULL);
		setup(NULL);
		snprintf(sql, sizeof(sql), UNGUARDED "%s", attempts[i].sql);
		assert_int_equal(run_sql(sql), SQLITE_OK);
		assert_int_equal(verify(&chain), -EBADMSG);
		if (!strstr(error, attempts[i].says))
			fail_msg("%s\ngot: %s\nexpected: %s", attempts[i].sql, error,
				 attempts[i].says);
	}
}

/* Nor does it help to compute the entry's own hash anew. */
static void rehash(void *user, const struct audit_entry *entry)
{
	struct audit_entry changed = *entry;

	changed.actor.uid = 0;
	audit_hash(&changed, user);
}

static void test_tampered_with_its_hash(void **state)
{
	char hash[DIGEST_HEX_LEN + 1], sql[1024];
	struct audit_chain chain;

	(void)state;
	assert_int_equal(store_find_entry(store, 1, 2, rehash, hash), 0);
	snprintf(sql, sizeof(sql),
		 UNGUARDED "UPDATE audit SET actor_uid = 0, hash = '%s' WHERE seq = 3", hash);
	assert_int_equal(run_sql(sql), SQLITE_OK);
	assert_int_equal(verify(&chain), -EBADMSG);
	if (!strstr(error, "entry 4 does not follow the entry before it"))
		fail_msg("%s", error);
	assert_int_equal(chain.seq, 3);
}

/* The chain alone does not show it; the head does, to whoever noted it. */
static void test_tail_cut_off(void **state)
{
	struct audit_chain whole, cut;

	(void)state;
	assert_int_equal(verify(&whole), 0);
	assert_int_equal(run_sql(UNGUARDED "DELETE FROM audit WHERE seq > 4"), SQLITE_OK);
	assert_int_equal(verify(&cut), 0);
	assert_int_equal(cut.seq, 4);
	assert_string_not_equal(cut.hash, whole.hash);
}

/* Bytes of the file itself, without SQLite. */
static void test_file_edited(void **state)
{
	static const char was[] = "more calls", is[] = "less calls";
	struct audit_chain chain;
	unsigned changed = 0;
	struct stat st;
	char *bytes;
	int fd;

	(void)state;
	close_store(); /* writes all of it into the one file */
	fd = open(file, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0 && fstat(fd, &st) == 0);
	bytes = malloc((size_t)st.st_size);
	assert_int_equal(pread(fd, bytes, (size_t)st.st_size, 0), st.st_size);
	for (off_t at = 0; at + (off_t)strlen(was) < st.st_size; at++) {
		if (memcmp(bytes + at, was, strlen(was)) != 0)
			continue;
		assert_int_equal(pwrite(fd, is, strlen(is), at), strlen(is));
		changed++;
	}
	free(bytes);
	close(fd);
	assert_true(changed > 0);
	open_store();
	assert_int_equal(verify(&chain), -EBADMSG);
	if (!strstr(error, "entry 3 was changed"))
		fail_msg("%s", error);
}

/* Something that no release could have written is damage, not an entry. */
static void test_impossible(void **state)
{
	static const char *const attempts[] = {
		"UPDATE audit SET record = record || char(0) || 'x' WHERE seq = 3",
		"UPDATE audit SET previous = previous || 'a' WHERE seq = 3",
		"UPDATE audit SET actor = printf('%.*c', 300, 'a') WHERE seq = 3",
		"UPDATE audit SET record = printf('%.*c', 40000, 'a') WHERE seq = 3",
	};
	struct audit_chain chain;

	(void)state;
	for (unsigned i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++) {
		char sql[512];

		teardown(NULL);
		setup(NULL);
		snprintf(sql, sizeof(sql), UNGUARDED "%s", attempts[i]);
		assert_int_equal(run_sql(sql), SQLITE_OK);
		assert_int_equal(verify(&chain), -EUCLEAN);
		assert_true(store_damaged(store));
	}
}

/* What is not in the log was not done, and what was not done is not in the log. */
static void test_one_transaction(void **state)
{
	struct audit_chain chain;
	struct exception e, twin;

	(void)state;
	assert_int_equal(store_find(store, 2, &e), 0);
	twin = e;
	assert_int_equal(store_grant(store, &twin), -EEXIST);
	e.version += 2;
	assert_int_equal(store_change(store, &e, 1700000001000000, &second), -ESTALE);
	assert_int_equal(store_end(store, 1, AUDIT_REVOKE, 1700000001000000, &second, "x"),
			 -ENOENT);
	assert_int_equal(verify(&chain), 0);
	assert_int_equal(chain.seq, ENTRIES);
	assert_int_equal(store_begin(store), 0);
	grant("rolled-back");
	store_rollback(store);
	assert_int_equal(verify(&chain), 0);
	assert_int_equal(chain.seq, ENTRIES);
	/* the log cannot be written */
	assert_int_equal(run_sql("CREATE TRIGGER no BEFORE INSERT ON audit BEGIN"
				 " SELECT RAISE(ABORT, 'no'); END"),
			 SQLITE_OK);
	e.version--;
	assert_true(store_change(store, &e, 1700000001000000, &second) < 0);
	assert_non_null(strstr(store_error(store), "cannot write the audit log"));
	assert_true(store_end(store, 2, AUDIT_REVOKE, 1700000001000000, &second, "x") < 0);
	assert_int_equal(store_find(store, 2, &twin), 0);
	assert_int_equal(twin.version, 1);
	assert_int_equal(twin.ended_at_us, 0);
	assert_int_equal(run_sql("DROP TRIGGER no"), SQLITE_OK);
	change(2, "again");
	assert_int_equal(verify(&chain), 0);
	assert_int_equal(chain.seq, ENTRIES + 1);
}

static void test_import(void **state)
{
	struct list list = { 0 };
	struct audit_chain chain;
	sqlite3 *db = NULL;

	(void)state;
	close_store();
	unlink(file);
	assert_int_equal(sqlite3_open(file, &db), SQLITE_OK);
	assert_int_equal(store_migrate(db, store_migrations, 1), SQLITE_OK);
	sqlite3_close(db);
	assert_int_equal(
		run_sql("INSERT INTO exception (tenant, profile, change_request, accepted_by,"
			" granted_by, granted_at_us, ended_at_us) VALUES"
			" ('acme', 'skype', 'CR-1', 'ciso', 'op', 7, 8),"
			" ('globex', 'ssh', 'CR-2', 'ciso', 'op', 8, 0)"),
		SQLITE_OK);
	open_store();
	change(2, "calls");
	assert_int_equal(store_each_after(store, 0, 100, collect, &list), 0);
	assert_int_equal(list.count, 3);
	assert_string_equal(list.items[0].action, "import");
	assert_string_equal(list.items[0].tenant, "acme");
	assert_string_equal(list.items[0].actor, "steerd");
	assert_string_equal(list.items[1].action, "import");
	assert_string_equal(list.items[2].action, "change");
	assert_int_equal(verify(&chain), 0);
}

/* The names in the code are those on disk. */
static void test_actions(void **state)
{
	char sql[256];

	(void)state;
	for (int a = 0; a < AUDIT_ACTIONS; a++) {
		snprintf(sql, sizeof(sql), "INSERT INTO audit_action VALUES ('%s')",
			 audit_action_name((enum audit_action)a));
		assert_int_equal(run_sql(sql), SQLITE_CONSTRAINT);
	}
}

static void test_telling(void **state)
{
	char text[512];

	(void)state;
	audit_tell_since(store, 1, 1, text, sizeof(text));
	assert_string_equal(text,
			    "revoke by second at 2023-11-14T22:13:22Z: reason \"calls\" -> \"more "
			    "calls\", ended_at null -> \"2023-11-14T22:13:22.000000Z\", "
			    "ended_by null -> \"second\", ended_by_uid null -> 1001, end_reason "
			    "null -> \"over\"");
	audit_tell_since(store, 1, 9, text, sizeof(text));
	assert_string_equal(text, "");
	audit_tell_since(store, 99, 1, text, sizeof(text));
	assert_string_equal(text, "");
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_entries),          TEST(test_whole),
		cmocka_unit_test(test_text), TEST(test_forbidden),
		TEST(test_tampered),         TEST(test_tampered_with_its_hash),
		TEST(test_tail_cut_off),     TEST(test_file_edited),
		TEST(test_impossible),       TEST(test_one_transaction),
		TEST(test_import),           TEST(test_actions),
		TEST(test_telling),
	};

	return cmocka_run_group_tests_name("audit", tests, NULL, NULL);
}
