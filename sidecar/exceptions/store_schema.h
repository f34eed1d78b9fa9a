/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The database's schema and how an older one becomes the current one. PRAGMA user_version is the
 * number of migrations that a file has seen; a new release appends rows and changes none.
 */
#ifndef TENANT_STEER_STORE_SCHEMA_H
#define TENANT_STEER_STORE_SCHEMA_H

#include <sqlite3.h>

/* PRAGMA application_id of every file that is ours: "tstr". */
#define STORE_APPLICATION_ID 0x74737472

/* Statements, and then, if not NULL, what needs more than them; an SQLite code. */
struct store_migration {
	const char *sql;
	int (*run)(sqlite3 *db);
};

/* Row n takes a database from version n to n + 1. */
extern const struct store_migration store_migrations[];
extern const int store_migrations_count;

/*
 * Run the missing migrations in one transaction: all of them or none. Returns SQLITE_OK, the
 * failing statement's code; SQLITE_SCHEMA when the file has seen more than count (a newer
 * release's file), SQLITE_MISMATCH when it is another program's: both are left alone.
 */
int store_migrate(sqlite3 *db, const struct store_migration *migrations, int count);

#endif
