/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "store_schema.h"

#include <stddef.h>

/*
 * AUTOINCREMENT: an id is never given twice, since other records may name it. The partial unique
 * index holds "one active exception for a tenant and profile" whatever a caller does; the trigger
 * holds that a row is written once and ended once.
 */
const char *const store_migrations[] = {
	"PRAGMA application_id = 0x74737472;" /* "tstr": file(1) and store_migrate() know it by that
					       */
	"CREATE TABLE exception ("
	" id INTEGER PRIMARY KEY AUTOINCREMENT,"
	" tenant TEXT NOT NULL CHECK (tenant <> ''),"
	" profile TEXT NOT NULL CHECK (profile <> ''),"
	" change_request TEXT NOT NULL,"
	" accepted_by TEXT NOT NULL,"
	" granted_by TEXT NOT NULL,"
	" granted_at_us INTEGER NOT NULL,"
	" expires_at_us INTEGER NOT NULL DEFAULT 0,"
	" ended_at_us INTEGER NOT NULL DEFAULT 0,"
	" ended_by TEXT NOT NULL DEFAULT '',"
	" end_reason TEXT NOT NULL DEFAULT '');"
	"CREATE UNIQUE INDEX exception_active ON exception (tenant, profile) WHERE ended_at_us = 0;"
	"CREATE INDEX exception_ended ON exception (ended_at_us) WHERE ended_at_us <> 0;"
	"CREATE TRIGGER exception_kept BEFORE DELETE ON exception BEGIN"
	" SELECT RAISE(ABORT, 'exceptions are never deleted'); END;"
	"CREATE TRIGGER exception_ended_once BEFORE UPDATE ON exception WHEN OLD.ended_at_us <> 0"
	" BEGIN SELECT RAISE(ABORT, 'an ended exception is never changed'); END;"
	"CREATE TRIGGER exception_written_once BEFORE UPDATE OF id, tenant, profile, "
	"change_request,"
	" accepted_by, granted_by, granted_at_us, expires_at_us ON exception"
	" BEGIN SELECT RAISE(ABORT, 'a granted exception is never changed'); END;",
};
const int store_migrations_count = sizeof(store_migrations) / sizeof(store_migrations[0]);

static int read_number(sqlite3 *db, const char *sql, int *ret_number)
{
	sqlite3_stmt *statement = NULL;
	int r = sqlite3_prepare_v2(db, sql, -1, &statement, NULL);

	if (r == SQLITE_OK)
		r = sqlite3_step(statement);
	if (r == SQLITE_ROW) {
		*ret_number = sqlite3_column_int(statement, 0);
		r = SQLITE_OK;
	}
	sqlite3_finalize(statement);
	return r;
}

/* PRAGMA takes no parameters; its write is part of the transaction like any other. */
static int write_version(sqlite3 *db, int version)
{
	char *sql = sqlite3_mprintf("PRAGMA user_version = %d", version);
	int r = sql ? sqlite3_exec(db, sql, NULL, NULL, NULL) : SQLITE_NOMEM;

	sqlite3_free(sql);
	return r;
}

int store_migrate(sqlite3 *db, const char *const *migrations, int count)
{
	int version = 0, objects = 0, application = 0, r;

	r = read_number(db, "PRAGMA user_version", &version);
	if (r == SQLITE_OK)
		r = read_number(db, "PRAGMA application_id", &application);
	if (r == SQLITE_OK)
		r = read_number(db, "SELECT count(*) FROM sqlite_master", &objects);
	if (r != SQLITE_OK)
		return r;
	if (version > count || version < 0)
		return SQLITE_SCHEMA;
	if (application != STORE_APPLICATION_ID && (application || objects || version))
		return SQLITE_MISMATCH;
	if (version == count)
		return SQLITE_OK;
	r = sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
	if (r != SQLITE_OK)
		return r;
	for (; r == SQLITE_OK && version < count; version++)
		r = sqlite3_exec(db, migrations[version], NULL, NULL, NULL);
	if (r == SQLITE_OK)
		r = write_version(db, count);
	if (r == SQLITE_OK)
		r = sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
	if (r != SQLITE_OK)
		sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
	return r;
}
