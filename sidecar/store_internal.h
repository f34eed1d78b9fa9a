/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inside the store: store.c, store_statements.c. */
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
	STORE_ACTIVE,
	STORE_ENDED,
	STORE_FIND,
	STORE_GRANT,
	STORE_CHANGE,
	STORE_END,
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

/* Keep the sentence about what just failed and turn SQLite's code into an errno. */
int store_note(struct store *store, const char *doing, int code);
int store_note_damage(struct store *store, const char *what);

#endif
