/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inside the store: store.c, store_audit.c, store_schema.c, store_statements.c. */
#ifndef TENANT_STEER_STORE_INTERNAL_H
#define TENANT_STEER_STORE_INTERNAL_H

#include <sqlite3.h>
#include <stdbool.h>

#include "store.h"

#define STORE_ERROR_MAX 512
/* A statement with the names of all columns in it. */
#define STORE_SQL_MAX 4096

enum store_statement {
	STORE_BEGIN,
	STORE_COMMIT,
	STORE_ROLLBACK,
	STORE_ALL,
	STORE_ACTIVE,
	STORE_ACTIVE_AFTER,
	STORE_ENDED,
	STORE_IN_FORCE,
	STORE_FIND,
	STORE_GRANT,
	STORE_CHANGE,
	STORE_END,
	STORE_AUDIT_ADD,
	STORE_AUDIT_HEAD,
	STORE_AUDIT_AFTER,
	STORE_AUDIT_LATEST,
	STORE_AUDIT_OF_TENANT,
	STORE_AUDIT_NEXT,
	STORE_AUDIT_AT,
	STORE_AUDIT_VERSION,
	STORE_AUDIT_LAST,
	STORE_LAST_ID,
	STORE_STATEMENTS
};

struct store {
	sqlite3 *db;
	sqlite3_stmt *statements[STORE_STATEMENTS];
	bool damaged;
	bool in_transaction; /* the caller's */
	char error[STORE_ERROR_MAX];
};

/*
 * The text of a statement. Its values are numbered: those of the record's fields as in
 * record_fields[] from 1 on, where it takes a record; others as said beside it. NUL-terminated.
 */
void store_statement_text(enum store_statement which, char buf[STORE_SQL_MAX]);

/* Give a statement the record's fields. An SQLite code. */
int store_bind_record(sqlite3_stmt *statement, const struct exception *exception);
/* Read the record that a row begins with. false: no grant or change could have written it. */
bool store_read_record(sqlite3_stmt *row, struct exception *ret);

/*
 * Write what was done to the log, inside of the transaction that does it: record is the exception as it
 * is now. An SQLite code. head and add are the statements.
 */
int store_audit_append(sqlite3_stmt *head, sqlite3_stmt *add, enum audit_action action,
		       int64_t at_us, const struct actor *by, const struct exception *record);

/* An entry for each exception that is there before the log; an SQLite code. */
int store_audit_import(sqlite3 *db);

/* Read a text of a row; false: it does not fit, or has a NUL within. */
bool store_read_text(sqlite3_stmt *row, int column, char *buf, size_t size);

/* Reset, and forget the values. */
void store_finish(sqlite3_stmt *statement);

/* Keep the sentence about what just failed and turn SQLite's code into an errno. */
int store_note(struct store *store, const char *doing, int code);
int store_note_damage(struct store *store, const char *what);

#endif
