/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "store_file.h"

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

struct store_file store_file;
const struct actor store_file_somebody = { 1001, "operator2" };

void store_file_remove(void)
{
	static const char *const suffixes[] = { "", "-wal", "-shm", "-journal" };
	char name[80];
	size_t i;

	for (i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
		snprintf(name, sizeof(name), "%s%s", store_file.name, suffixes[i]);
		unlink(name);
	}
}

int store_file_make_dir(void **state)
{
	(void)state;
	strcpy(store_file.dir, "/tmp/test_store.XXXXXX");
	if (!mkdtemp(store_file.dir))
		return -1;
	snprintf(store_file.name, sizeof(store_file.name), "%s/exceptions.db", store_file.dir);
	return 0;
}

int store_file_remove_dir(void **state)
{
	(void)state;
	store_file_remove();
	return rmdir(store_file.dir);
}

int store_file_clean(void **state)
{
	(void)state;
	store_file_remove();
	return 0;
}

struct store *store_file_open(void)
{
	struct store *store = NULL;
	const char *error = "";

	if (store_open(store_file.name, &store, &error) < 0)
		fail_msg("%s", error);
	return store;
}

void store_file_refused(int expected, const char *sentence)
{
	struct store *store = NULL;
	const char *error = "";

	assert_int_equal(store_open(store_file.name, &store, &error), expected);
	assert_null(store);
	if (!strstr(error, sentence))
		fail_msg("got: %s\nexpected: %s", error, sentence);
}

void store_file_run_sql(const char *sql)
{
	sqlite3 *db = NULL;

	assert_int_equal(sqlite3_open(store_file.name, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

struct exception store_file_example(const char *tenant, const char *profile)
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

void store_file_collect(const struct exception *exception, void *user)
{
	struct stored *stored = user;

	if (stored->count < STORED_MAX)
		stored->items[stored->count] = *exception;
	stored->count++;
}

uint64_t store_file_grant(struct store *store, const struct exception *like)
{
	struct exception exception = *like;

	assert_int_equal(store_grant(store, &exception), 0);
	assert_int_equal(exception.version, 1);
	return exception.id;
}
