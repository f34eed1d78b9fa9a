/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "store_schema.h"

#include <stddef.h>

#include "store_internal.h"

/*
 * AUTOINCREMENT: an id is never given twice, since other records may name it. The partial unique
 * index holds "one active exception for a tenant, profile, scope and destinations" whatever a caller
 * does; the triggers hold that a row is complete when it comes, that its owner and its grant stay as
 * they were, that each change has a version of its own, and that a row is ended once.
 *
 * Nor can anything be taken out of the audit log, changed in it, or put between, but behind SQLite's
 * back: then the hashes tell (audit.h).
 *
 * Rows from before version 2 lack what was not recorded then: a reason, the risk's text, an end.
 */
static const char *const version_1 =
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
	" BEGIN SELECT RAISE(ABORT, 'a granted exception is never changed'); END;";

static const char *const version_2 =
	"ALTER TABLE exception ADD COLUMN version INTEGER NOT NULL DEFAULT 1;"
	"ALTER TABLE exception ADD COLUMN kind TEXT NOT NULL DEFAULT 'grant'"
	" CHECK (kind IN ('grant', 'try'));"
	"ALTER TABLE exception ADD COLUMN scope TEXT NOT NULL DEFAULT 'tenant' CHECK (scope <> '');"
	"ALTER TABLE exception ADD COLUMN destinations TEXT NOT NULL DEFAULT '';"
	"ALTER TABLE exception ADD COLUMN reason TEXT NOT NULL DEFAULT '';"
	"ALTER TABLE exception ADD COLUMN risk_version INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE exception ADD COLUMN risk_sha256 TEXT NOT NULL DEFAULT '';"
	"ALTER TABLE exception ADD COLUMN granted_by_uid INTEGER NOT NULL DEFAULT -1;"
	"ALTER TABLE exception ADD COLUMN granted_boot TEXT NOT NULL DEFAULT '';"
	"ALTER TABLE exception ADD COLUMN granted_boottime_us INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE exception ADD COLUMN end_set_at_us INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE exception ADD COLUMN end_set_boot TEXT NOT NULL DEFAULT '';"
	"ALTER TABLE exception ADD COLUMN end_set_boottime_us INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE exception ADD COLUMN ended_by_uid INTEGER NOT NULL DEFAULT -1;"
	"DROP INDEX exception_active;"
	"CREATE UNIQUE INDEX exception_active ON exception (tenant, profile, scope, destinations)"
	" WHERE ended_at_us = 0;"
	"CREATE TRIGGER exception_complete BEFORE INSERT ON exception WHEN NEW.change_request = ''"
	" OR NEW.accepted_by = '' OR NEW.reason = '' OR NEW.risk_version < 1"
	" OR length(NEW.risk_sha256) <> 64 OR NEW.granted_by = '' OR NEW.granted_at_us <= 0"
	" OR NEW.expires_at_us <= NEW.granted_at_us OR NEW.version <> 1 OR NEW.ended_at_us <> 0"
	" BEGIN SELECT RAISE(ABORT, 'an exception that lacks something is not kept'); END;"
	"DROP TRIGGER exception_written_once;"
	"CREATE TRIGGER exception_written_once BEFORE UPDATE OF id, tenant, profile, kind, scope,"
	" destinations, granted_by, granted_by_uid, granted_at_us, granted_boot,"
	" granted_boottime_us ON exception"
	" BEGIN SELECT RAISE(ABORT, 'whose an exception is, and its grant, are never changed'); "
	"END;"
	"CREATE TRIGGER exception_versions BEFORE UPDATE ON exception"
	" WHEN NEW.version <> OLD.version + 1"
	" BEGIN SELECT RAISE(ABORT, 'a change of an exception raises its version by one'); END;"

	"CREATE TABLE audit_action (action TEXT PRIMARY KEY) WITHOUT ROWID;"
	"INSERT INTO audit_action VALUES ('import'), ('grant'), ('try'), ('change'), ('revoke'),"
	" ('expire');"
	"CREATE TABLE audit ("
	" seq INTEGER PRIMARY KEY,"
	" time_us INTEGER NOT NULL,"
	" actor_uid INTEGER NOT NULL,"
	" actor TEXT NOT NULL,"
	" action TEXT NOT NULL REFERENCES audit_action (action),"
	" exception_id INTEGER NOT NULL,"
	" tenant TEXT NOT NULL,"
	" record TEXT NOT NULL,"
	" previous TEXT NOT NULL,"
	" hash TEXT NOT NULL);"
	"CREATE INDEX audit_tenant ON audit (tenant, seq);"
	"CREATE INDEX audit_exception ON audit (exception_id, seq);"
	"CREATE TRIGGER audit_appended BEFORE INSERT ON audit"
	" WHEN NEW.seq <> coalesce((SELECT max(seq) FROM audit), 0) + 1"
	" BEGIN SELECT RAISE(ABORT, 'the audit log is only appended to'); END;"
	"CREATE TRIGGER audit_kept BEFORE DELETE ON audit"
	" BEGIN SELECT RAISE(ABORT, 'nothing is deleted from the audit log'); END;"
	"CREATE TRIGGER audit_written_once BEFORE UPDATE ON audit"
	" BEGIN SELECT RAISE(ABORT, 'nothing in the audit log is changed'); END;";

const struct store_migration store_migrations[] = {
	{ version_1, NULL },
	{ version_2, store_audit_import },
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

static int run_migration(sqlite3 *db, const struct store_migration *migration)
{
	int r = sqlite3_exec(db, migration->sql, NULL, NULL, NULL);

	return r == SQLITE_OK && migration->run ? migration->run(db) : r;
}

int store_migrate(sqlite3 *db, const struct store_migration *migrations, int count)
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
		r = run_migration(db, &migrations[version]);
	if (r == SQLITE_OK)
		r = write_version(db, count);
	if (r == SQLITE_OK)
		r = sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
	if (r != SQLITE_OK)
		sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
	return r;
}
