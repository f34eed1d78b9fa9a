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

#include "store_internal.h"
#include "store_schema.h"

/* Somebody looking with sqlite3(1) may hold a lock for a moment; the event loop waits no longer. */
#define BUSY_MS 250

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

int store_note(struct store *store, const char *doing, int code)
{
	int base = code & 0xff;

	store->damaged = base == SQLITE_CORRUPT || base == SQLITE_NOTADB;
	snprintf(store->error, sizeof(store->error), "cannot %s: %s", doing,
		 (sqlite3_errcode(store->db) & 0xff) == base ? sqlite3_errmsg(store->db)
							     : sqlite3_errstr(code));
	return errno_of(code);
}

int store_note_damage(struct store *store, const char *what)
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
		r = store_note(store, "check the database", code);
	else if (strcmp((const char *)sqlite3_column_text(statement, 0), "ok") != 0)
		r = store_note_damage(store, (const char *)sqlite3_column_text(statement, 0));
	sqlite3_finalize(statement);
	return r;
}

static int set_up(struct store *store)
{
	int code = sqlite3_exec(store->db,
				"PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
				"PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;"
				"PRAGMA foreign_keys = ON;",
				NULL, NULL, NULL);

	if (code == SQLITE_OK)
		code = sqlite3_db_config(store->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	return code == SQLITE_OK ? 0 : store_note(store, "set up the database", code);
}

static int migrate(struct store *store)
{
	int code = store_migrate(store->db, store_migrations, store_migrations_count);

	if (code == SQLITE_OK)
		return 0;
	store_note(store, "bring the database's schema up to date", code);
	if (code == SQLITE_SCHEMA)
		strcpy(store->error, "the database is from a newer release; it was left alone");
	else if (code == SQLITE_MISMATCH)
		strcpy(store->error, "the file is another program's database; it was left alone");
	return errno_of(code);
}

/* A file whose tables are not what its version says fails here. */
static int prepare(struct store *store)
{
	char sql[STORE_SQL_MAX];
	int i, code;

	for (i = 0; i < STORE_STATEMENTS; i++) {
		store_statement_text((enum store_statement)i, sql);
		code = sqlite3_prepare_v3(store->db, sql, -1, SQLITE_PREPARE_PERSISTENT,
					  &store->statements[i], NULL);
		if (code == SQLITE_ERROR)
			return store_note_damage(store, sqlite3_errmsg(store->db));
		if (code != SQLITE_OK)
			return store_note(store, "use the database", code);
	}
	return 0;
}

static int open_connection(struct store *store, const char *file)
{
	int code = sqlite3_open_v2(file, &store->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX,
				   NULL);

	if (code != SQLITE_OK)
		return store_note(store, "open the database", code);
	sqlite3_extended_result_codes(store->db, 1);
	sqlite3_busy_timeout(store->db, BUSY_MS);
	return 0;
}

static int open_database(struct store *store, const char *file)
{
	int r = make_file(store, file);

	if (r == 0)
		r = open_connection(store, file);
	if (r < 0)
		return r;
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
	static _Thread_local char error[STORE_ERROR_MAX];
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

int store_open_beside(struct store *store, struct store **ret_store)
{
	struct store *beside = calloc(1, sizeof(*beside));
	int r;

	if (!beside) {
		strcpy(store->error, "out of memory");
		return -ENOMEM;
	}
	r = open_connection(beside, sqlite3_db_filename(store->db, "main"));
	if (r == 0)
		r = set_up(beside);
	if (r == 0)
		r = prepare(beside);
	if (r < 0) {
		memcpy(store->error, beside->error, sizeof(store->error));
		store_close(beside);
		return r;
	}
	/* A checkpoint takes as long as the commit: it is left to the first one's next, later on. */
	sqlite3_wal_autocheckpoint(beside->db, 0);
	*ret_store = beside;
	return 0;
}

void store_close(struct store *store)
{
	int i;

	if (!store)
		return;
	for (i = 0; i < STORE_STATEMENTS; i++)
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

/* There is no such row, which is nobody's damage. */
static int note_missing(struct store *store, uint64_t id, int r, const char *what)
{
	store->damaged = false;
	snprintf(store->error, sizeof(store->error), "exception %llu %s", (unsigned long long)id,
		 what);
	return r;
}

void store_finish(sqlite3_stmt *statement)
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
			r = store_note(store, "read the exceptions", code);
		else if (!store_read_record(statement, &exception))
			r = store_note_damage(store, "an exception has impossible values");
		else
			each(&exception, user);
	}
	store_finish(statement);
	return r;
}

int store_each_active(struct store *store, void (*each)(const struct exception *, void *),
		      void *user)
{
	return each_row(store, store->statements[STORE_ACTIVE], each, user);
}

int store_each_active_after(struct store *store, uint64_t after, unsigned limit,
			    void (*each)(const struct exception *, void *), void *user)
{
	sqlite3_stmt *statement = store->statements[STORE_ACTIVE_AFTER];

	sqlite3_bind_int64(statement, 1, (sqlite3_int64)after);
	sqlite3_bind_int64(statement, 2, limit);
	return each_row(store, statement, each, user);
}

int store_each_ended(struct store *store, unsigned limit,
		     void (*each)(const struct exception *, void *), void *user)
{
	sqlite3_bind_int64(store->statements[STORE_ENDED], 1, limit);
	return each_row(store, store->statements[STORE_ENDED], each, user);
}

int store_each_in_force(struct store *store, const struct store_span *span,
			void (*each)(const struct exception *, void *), void *user)
{
	sqlite3_stmt *statement = store->statements[STORE_IN_FORCE];

	sqlite3_bind_int64(statement, 1, (sqlite3_int64)span->after);
	sqlite3_bind_int64(statement, 2, span->from_us);
	sqlite3_bind_int64(statement, 3, span->to_us);
	if (span->tenant)
		sqlite3_bind_text(statement, 4, span->tenant, -1, SQLITE_TRANSIENT);
	sqlite3_bind_int64(statement, 5, span->limit);
	sqlite3_bind_int64(statement, 6, (sqlite3_int64)span->last);
	return each_row(store, statement, each, user);
}

int store_find(struct store *store, uint64_t id, struct exception *ret)
{
	sqlite3_stmt *statement = store->statements[STORE_FIND];
	int code = sqlite3_bind_int64(statement, 1, (sqlite3_int64)id), r = 0;

	if (code == SQLITE_OK)
		code = sqlite3_step(statement);
	if (code == SQLITE_DONE)
		r = note_missing(store, id, -ENOENT, "does not exist");
	else if (code != SQLITE_ROW)
		r = store_note(store, "read an exception", code);
	else if (!store_read_record(statement, ret))
		r = store_note_damage(store, "an exception has impossible values");
	store_finish(statement);
	return r;
}

/* Transactions */

static int run(struct store *store, enum store_statement which, const char *doing)
{
	int code = sqlite3_step(store->statements[which]);

	sqlite3_reset(store->statements[which]);
	return code == SQLITE_DONE ? 0 : store_note(store, doing, code);
}

/* SQLite may have rolled it back already, as when the disk is full. The failure's words stay. */
static void roll_back(struct store *store)
{
	if (sqlite3_get_autocommit(store->db))
		return;
	sqlite3_step(store->statements[STORE_ROLLBACK]);
	sqlite3_reset(store->statements[STORE_ROLLBACK]);
}

static int commit(struct store *store)
{
	int r = run(store, STORE_COMMIT, "write the change");

	if (r < 0)
		roll_back(store);
	return r;
}

int store_begin(struct store *store)
{
	int r = run(store, STORE_BEGIN, "begin a change");

	store->in_transaction = r == 0;
	return r;
}

int store_commit(struct store *store)
{
	store->in_transaction = false;
	return commit(store);
}

void store_rollback(struct store *store)
{
	store->in_transaction = false;
	roll_back(store);
}

/* SQLite writes the head of the file though it says the same. */
int store_probe(struct store *store)
{
	char *sql = sqlite3_mprintf("PRAGMA user_version = %d", store_migrations_count);
	int code = sql ? sqlite3_exec(store->db, sql, NULL, NULL, NULL) : SQLITE_NOMEM;

	sqlite3_free(sql);
	return code == SQLITE_OK ? 0 : store_note(store, "write to the database", code);
}

static int enter(struct store *store)
{
	return store->in_transaction ? 0 : run(store, STORE_BEGIN, "begin a change");
}

static int leave(struct store *store, int r)
{
	if (store->in_transaction)
		return r;
	if (r == 0)
		return commit(store);
	roll_back(store);
	return r;
}

/* Changes. Each has RETURNING: what is on disk now comes back, or nothing if no row was concerned. */

/* 0 and the record, 1 if there was no row, or an errno. */
static int step_change(struct store *store, sqlite3_stmt *statement, const char *doing,
		       struct exception *ret)
{
	int code = sqlite3_step(statement), r = 1;

	if (code == SQLITE_ROW) {
		r = store_read_record(statement, ret)
			    ? 0
			    : store_note_damage(store, "an exception has impossible values");
		code = sqlite3_step(statement);
	}
	if (code != SQLITE_DONE)
		r = store_note(store, doing, code);
	if (code == SQLITE_CONSTRAINT_UNIQUE)
		r = -EEXIST;
	else if ((code & 0xff) == SQLITE_CONSTRAINT)
		r = -EINVAL;
	return r;
}

/* What was done goes to the log; r is what came of doing it. */
static int log_action(struct store *store, int r, enum audit_action action, int64_t at_us,
		      const struct actor *by, const struct exception *record)
{
	int code;

	if (r != 0)
		return r;
	code = store_audit_append(store->statements[STORE_AUDIT_HEAD],
				  store->statements[STORE_AUDIT_ADD], action, at_us, by, record);
	return code == SQLITE_OK ? 0 : store_note(store, "write the audit log", code);
}

static int grant(struct store *store, struct exception *exception)
{
	sqlite3_stmt *statement = store->statements[STORE_GRANT];
	int code, r;

	exception->id = 0;
	exception->version = 1;
	if (!*exception->kind)
		strcpy(exception->kind, RECORD_KIND_GRANT);
	exception->ended_by.uid = -1;
	code = store_bind_record(statement, exception);
	r = code == SQLITE_OK ? step_change(store, statement, "record the exception", exception)
			      : store_note(store, "record the exception", code);
	store_finish(statement);
	return r;
}

int store_grant(struct store *store, struct exception *exception)
{
	struct exception granted = *exception;
	int r = enter(store);

	if (r < 0)
		return r;
	r = grant(store, &granted);
	r = log_action(store, r, record_is_try(&granted) ? AUDIT_TRY : AUDIT_GRANT,
		       granted.granted.wall_us, &granted.granted_by, &granted);
	r = leave(store, r);
	if (r == 0)
		*exception = granted;
	return r;
}

static int change(struct store *store, const struct exception *changed, struct exception *ret)
{
	sqlite3_stmt *statement = store->statements[STORE_CHANGE];
	int code = store_bind_record(statement, changed), r;

	r = code == SQLITE_OK ? step_change(store, statement, "record the change", ret)
			      : store_note(store, "record the change", code);
	store_finish(statement);
	return r == 1 ? note_missing(store, changed->id, -ESTALE,
				     "is not active or was changed meanwhile")
		      : r;
}

int store_change(struct store *store, const struct exception *changed, int64_t at_us,
		 const struct actor *by)
{
	struct exception now;
	int r = enter(store);

	if (r < 0)
		return r;
	r = change(store, changed, &now);
	return leave(store, log_action(store, r, AUDIT_CHANGE, at_us, by, &now));
}

static int end(struct store *store, uint64_t id, int64_t at_us, const struct actor *by,
	       const char *reason, struct exception *ret)
{
	sqlite3_stmt *statement = store->statements[STORE_END];
	int code, r;

	code = sqlite3_bind_int64(statement, 1, (sqlite3_int64)id);
	if (code == SQLITE_OK)
		code = sqlite3_bind_int64(statement, 2, at_us);
	if (code == SQLITE_OK)
		code = sqlite3_bind_text(statement, 3, by->name, -1, SQLITE_TRANSIENT);
	if (code == SQLITE_OK)
		code = sqlite3_bind_int64(statement, 4, by->uid);
	if (code == SQLITE_OK)
		code = sqlite3_bind_text(statement, 5, reason, -1, SQLITE_TRANSIENT);
	r = code == SQLITE_OK ? step_change(store, statement, "record the end", ret)
			      : store_note(store, "record the end", code);
	store_finish(statement);
	return r == 1 ? note_missing(store, id, -ENOENT, "is not active") : r;
}

int store_end(struct store *store, uint64_t id, enum audit_action action, int64_t at_us,
	      const struct actor *by, const char *reason)
{
	struct exception now;
	int r;

	if (at_us <= 0)
		return -EINVAL;
	r = enter(store);
	if (r < 0)
		return r;
	r = end(store, id, at_us, by, reason, &now);
	return leave(store, log_action(store, r, action, at_us, by, &now));
}
