/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store_schema.h"

/* Somebody looking with sqlite3(1) may hold a lock for a moment; the event loop waits no longer. */
#define BUSY_MS 250
#define ERROR_MAX 512

enum { ACTIVE, ENDED, GRANT, END, STATEMENTS };

#define COLUMNS                                                                                    \
	"id, tenant, profile, change_request, accepted_by, granted_by, granted_at_us,"             \
	" expires_at_us, ended_at_us, ended_by, end_reason"

static const char *const statement_texts[STATEMENTS] = {
	[ACTIVE] = "SELECT " COLUMNS " FROM exception WHERE ended_at_us = 0 ORDER BY id",
	[ENDED] = "SELECT " COLUMNS " FROM exception WHERE ended_at_us <> 0"
		  " ORDER BY ended_at_us DESC, id DESC LIMIT ?1",
	[GRANT] = "INSERT INTO exception (tenant, profile, change_request, accepted_by, granted_by,"
		  " granted_at_us, expires_at_us) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
	[END] = "UPDATE exception SET ended_at_us = ?2, ended_by = ?3, end_reason = ?4"
		" WHERE id = ?1 AND ended_at_us = 0",
};

struct store {
	sqlite3 *db;
	sqlite3_stmt *statements[STATEMENTS];
	bool damaged;
	char error[ERROR_MAX];
};

static int errno_of(int code)
{
	switch (code & 0xff) {
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
	case SQLITE_SCHEMA:
	case SQLITE_MISMATCH:
		return -EUCLEAN;
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_READONLY:
		return -EROFS;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EBUSY;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_PERM:
	case SQLITE_AUTH:
	case SQLITE_CANTOPEN:
		return -EACCES;
	default:
		return -EIO;
	}
}

/* Keep the sentence about what just failed and turn SQLite's code into an errno. */
static int note(struct store *store, const char *doing, int code)
{
	int base = code & 0xff;

	store->damaged = base == SQLITE_CORRUPT || base == SQLITE_NOTADB;
	snprintf(store->error, sizeof(store->error), "cannot %s: %s", doing,
		 (sqlite3_errcode(store->db) & 0xff) == base ? sqlite3_errmsg(store->db)
							     : sqlite3_errstr(code));
	return errno_of(code);
}

static int note_damage(struct store *store, const char *what)
{
	store->damaged = true;
	snprintf(store->error, sizeof(store->error), "the database is damaged: %s", what);
	return -EUCLEAN;
}

/*
 * Make the file before SQLite does: with our mode, which -wal and -shm inherit, and not through a
 * link that somebody put there.
 */
static int make_file(struct store *store, const char *file)
{
	int fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0640);
	struct stat st;
	int r = 0;

	if (fd < 0 || fstat(fd, &st) < 0)
		r = -errno;
	else if (!S_ISREG(st.st_mode))
		r = -EINVAL;
	else if ((st.st_mode & 0137) && fchmod(fd, st.st_mode & 0640) < 0)
		r = -errno;
	if (fd >= 0)
		close(fd);
	if (r < 0)
		snprintf(store->error, sizeof(store->error), "cannot open the file: %s",
			 r == -EINVAL ? "not a regular file" : strerror(-r));
	return r;
}

/* The first row of PRAGMA quick_check is "ok" or the first thing found wrong. */
static int check(struct store *store)
{
	sqlite3_stmt *statement = NULL;
	int code = sqlite3_prepare_v2(store->db, "PRAGMA quick_check(1)", -1, &statement, NULL);
	int r = 0;

	if (code == SQLITE_OK)
		code = sqlite3_step(statement);
	if (code != SQLITE_ROW)
		r = note(store, "check the database", code);
	else if (strcmp((const char *)sqlite3_column_text(statement, 0), "ok") != 0)
		r = note_damage(store, (const char *)sqlite3_column_text(statement, 0));
	sqlite3_finalize(statement);
	return r;
}

static int set_up(struct store *store)
{
	int code = sqlite3_exec(store->db,
				"PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
				"PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;",
				NULL, NULL, NULL);

	if (code == SQLITE_OK)
		code = sqlite3_db_config(store->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	return code == SQLITE_OK ? 0 : note(store, "set up the database", code);
}

static int migrate(struct store *store)
{
	int code = store_migrate(store->db, store_migrations, store_migrations_count);

	if (code == SQLITE_OK)
		return 0;
	note(store, "bring the database's schema up to date", code);
	if (code == SQLITE_SCHEMA)
		strcpy(store->error, "the database is from a newer release; it was left alone");
	else if (code == SQLITE_MISMATCH)
		strcpy(store->error, "the file is another program's database; it was left alone");
	return errno_of(code);
}

/* A file whose tables are not what its version says fails here. */
static int prepare(struct store *store)
{
	int i, code;

	for (i = 0; i < STATEMENTS; i++) {
		code = sqlite3_prepare_v3(store->db, statement_texts[i], -1,
					  SQLITE_PREPARE_PERSISTENT, &store->statements[i], NULL);
		if (code == SQLITE_ERROR)
			return note_damage(store, sqlite3_errmsg(store->db));
		if (code != SQLITE_OK)
			return note(store, "use the database", code);
	}
	return 0;
}

static int open_database(struct store *store, const char *file)
{
	int code, r;

	r = make_file(store, file);
	if (r < 0)
		return r;
	code = sqlite3_open_v2(file, &store->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
	if (code != SQLITE_OK)
		return note(store, "open the database", code);
	sqlite3_extended_result_codes(store->db, 1);
	sqlite3_busy_timeout(store->db, BUSY_MS);
	/* SQLite falls back to reading only, which would surface at the first grant. */
	if (sqlite3_db_readonly(store->db, "main")) {
		strcpy(store->error, "cannot open the database: it can only be read");
		return -EROFS;
	}
	r = check(store);
	if (r == 0)
		r = set_up(store);
	if (r == 0)
		r = migrate(store);
	return r < 0 ? r : prepare(store);
}

int store_open(const char *file, struct store **ret_store, const char **ret_error)
{
	static _Thread_local char error[ERROR_MAX];
	struct store *store = calloc(1, sizeof(*store));
	int r;

	if (!store) {
		*ret_error = "out of memory";
		return -ENOMEM;
	}
	r = open_database(store, file);
	if (r < 0) {
		memcpy(error, store->error, sizeof(error));
		*ret_error = error;
		store_close(store);
		return r;
	}
	*ret_store = store;
	return 0;
}

void store_close(struct store *store)
{
	int i;

	if (!store)
		return;
	for (i = 0; i < STATEMENTS; i++)
		sqlite3_finalize(store->statements[i]);
	sqlite3_close(store->db);
	free(store);
}

const char *store_error(const struct store *store)
{
	return store->error;
}

bool store_damaged(const struct store *store)
{
	return store->damaged;
}

/* A text that does not fit is refused: a shortened tenant's name could be another tenant's. */
static bool read_text(sqlite3_stmt *row, int column, char *buf, size_t size)
{
	const char *text = (const char *)sqlite3_column_text(row, column);
	size_t len = text ? (size_t)sqlite3_column_bytes(row, column) : 0;

	if (!text || len >= size || strlen(text) != len)
		return false;
	memcpy(buf, text, len + 1);
	return true;
}

static bool read_row(sqlite3_stmt *row, struct exception *ret)
{
	*ret = (struct exception){ 0 };
	ret->id = (uint64_t)sqlite3_column_int64(row, 0);
	ret->granted_at_us = sqlite3_column_int64(row, 6);
	ret->expires_at_us = sqlite3_column_int64(row, 7);
	ret->ended_at_us = sqlite3_column_int64(row, 8);
	return read_text(row, 1, ret->tenant, sizeof(ret->tenant)) &&
	       read_text(row, 2, ret->profile, sizeof(ret->profile)) &&
	       read_text(row, 3, ret->change_request, sizeof(ret->change_request)) &&
	       read_text(row, 4, ret->accepted_by, sizeof(ret->accepted_by)) &&
	       read_text(row, 5, ret->granted_by, sizeof(ret->granted_by)) &&
	       read_text(row, 9, ret->ended_by, sizeof(ret->ended_by)) &&
	       read_text(row, 10, ret->end_reason, sizeof(ret->end_reason)) &&
	       tenant_name_valid(ret->tenant);
}

static void finish(sqlite3_stmt *statement)
{
	sqlite3_reset(statement);
	sqlite3_clear_bindings(statement);
}

static int each_row(struct store *store, sqlite3_stmt *statement,
		    void (*each)(const struct exception *, void *), void *user)
{
	struct exception exception;
	int code, r = 0;

	while (r == 0 && (code = sqlite3_step(statement)) != SQLITE_DONE) {
		if (code != SQLITE_ROW)
			r = note(store, "read the exceptions", code);
		else if (!read_row(statement, &exception))
			r = note_damage(store, "an exception has impossible values");
		else
			each(&exception, user);
	}
	finish(statement);
	return r;
}

int store_each_active(struct store *store, void (*each)(const struct exception *, void *),
		      void *user)
{
	return each_row(store, store->statements[ACTIVE], each, user);
}

int store_each_ended(struct store *store, unsigned limit,
		     void (*each)(const struct exception *, void *), void *user)
{
	sqlite3_bind_int64(store->statements[ENDED], 1, limit);
	return each_row(store, store->statements[ENDED], each, user);
}

static int bind_text(sqlite3_stmt *statement, int index, const char *text)
{
	return sqlite3_bind_text(statement, index, text, -1, SQLITE_TRANSIENT);
}

int store_grant(struct store *store, const struct exception *exception, uint64_t *ret_id)
{
	sqlite3_stmt *statement = store->statements[GRANT];
	const char *const texts[] = { exception->tenant, exception->profile,
				      exception->change_request, exception->accepted_by,
				      exception->granted_by };
	int code = SQLITE_OK, r = 0, i;

	for (i = 0; i < 5 && code == SQLITE_OK; i++)
		code = bind_text(statement, i + 1, texts[i]);
	if (code == SQLITE_OK)
		code = sqlite3_bind_int64(statement, 6, exception->granted_at_us);
	if (code == SQLITE_OK)
		code = sqlite3_bind_int64(statement, 7, exception->expires_at_us);
	if (code == SQLITE_OK)
		code = sqlite3_step(statement);
	if (code == SQLITE_DONE)
		*ret_id = (uint64_t)sqlite3_last_insert_rowid(store->db);
	else
		r = note(store, "record the exception", code);
	if (code == SQLITE_CONSTRAINT_UNIQUE)
		r = -EEXIST;
	else if ((code & 0xff) == SQLITE_CONSTRAINT)
		r = -EINVAL;
	finish(statement);
	return r;
}

int store_end(struct store *store, uint64_t id, int64_t at_us, const char *by, const char *reason)
{
	sqlite3_stmt *statement = store->statements[END];
	int code, r = 0;

	if (at_us <= 0)
		return -EINVAL;
	code = sqlite3_bind_int64(statement, 1, (sqlite3_int64)id);
	if (code == SQLITE_OK)
		code = sqlite3_bind_int64(statement, 2, at_us);
	if (code == SQLITE_OK)
		code = bind_text(statement, 3, by);
	if (code == SQLITE_OK)
		code = bind_text(statement, 4, reason);
	if (code == SQLITE_OK)
		code = sqlite3_step(statement);
	if (code != SQLITE_DONE) {
		r = note(store, "record the end of the exception", code);
	} else if (sqlite3_changes(store->db) == 0) {
		snprintf(store->error, sizeof(store->error), "exception %llu is not active",
			 (unsigned long long)id);
		store->damaged = false;
		r = -ENOENT;
	}
	finish(statement);
	return r;
}
