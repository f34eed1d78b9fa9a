/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The audit log's part of the store. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "store_internal.h"

/* Writing */

static int read_head(sqlite3_stmt *head, struct audit_entry *next)
{
	int code = sqlite3_step(head);

	next->seq = 1;
	memcpy(next->previous, audit_start, sizeof(next->previous));
	if (code == SQLITE_ROW) {
		next->seq = (uint64_t)sqlite3_column_int64(head, 0) + 1;
		code = store_read_text(head, 1, next->previous, sizeof(next->previous))
			       ? SQLITE_DONE
			       : SQLITE_CORRUPT;
	}
	sqlite3_reset(head);
	return code == SQLITE_DONE ? SQLITE_OK : code;
}

/* The values last until the statement was stepped. */
static int bind_entry(sqlite3_stmt *add, const struct audit_entry *entry)
{
	const struct {
		int64_t number;
		const char *text; /* NULL: the number */
	} values[] = {
		{ (int64_t)entry->seq, NULL }, { entry->time_us, NULL },
		{ entry->actor.uid, NULL },    { 0, entry->actor.name },
		{ 0, entry->action },          { (int64_t)entry->exception_id, NULL },
		{ 0, entry->tenant },          { 0, entry->record },
		{ 0, entry->previous },        { 0, entry->hash },
	};
	int code = SQLITE_OK;

	for (int i = 0; i < (int)(sizeof(values) / sizeof(values[0])) && code == SQLITE_OK; i++)
		code = values[i].text
			       ? sqlite3_bind_text(add, i + 1, values[i].text, -1, SQLITE_STATIC)
			       : sqlite3_bind_int64(add, i + 1, values[i].number);
	return code;
}

int store_audit_append(sqlite3_stmt *head, sqlite3_stmt *add, enum audit_action action,
		       int64_t at_us, const struct actor *by, const struct exception *record)
{
	char json[RECORD_JSON_MAX];
	struct audit_entry entry = { .time_us = at_us,
				     .actor = *by,
				     .action = audit_action_name(action),
				     .exception_id = record->id,
				     .tenant = record->tenant,
				     .record = json };
	int code = read_head(head, &entry);

	record_json(record, json);
	audit_hash(&entry, entry.hash);
	if (code == SQLITE_OK)
		code = bind_entry(add, &entry);
	if (code == SQLITE_OK)
		code = sqlite3_step(add);
	store_finish(add);
	return code == SQLITE_DONE ? SQLITE_OK : code;
}

/* Before the store's own statements are there. */
static int prepare(sqlite3 *db, enum store_statement which, sqlite3_stmt **ret_statement)
{
	char sql[STORE_SQL_MAX];

	store_statement_text(which, sql);
	return sqlite3_prepare_v2(db, sql, -1, ret_statement, NULL);
}

static int import_rows(sqlite3_stmt *rows, sqlite3_stmt *head, sqlite3_stmt *add)
{
	const struct actor steerd = { .uid = geteuid(), .name = "steerd" };
	const int64_t now = clock_wall_us();
	struct exception record;
	int code;

	while ((code = sqlite3_step(rows)) == SQLITE_ROW) {
		if (!store_read_record(rows, &record))
			return SQLITE_CORRUPT;
		code = store_audit_append(head, add, AUDIT_IMPORT, now, &steerd, &record);
		if (code != SQLITE_OK)
			return code;
	}
	return code == SQLITE_DONE ? SQLITE_OK : code;
}

int store_audit_import(sqlite3 *db)
{
	sqlite3_stmt *rows = NULL, *head = NULL, *add = NULL;
	int code = prepare(db, STORE_ALL, &rows);

	if (code == SQLITE_OK)
		code = prepare(db, STORE_AUDIT_HEAD, &head);
	if (code == SQLITE_OK)
		code = prepare(db, STORE_AUDIT_ADD, &add);
	if (code == SQLITE_OK)
		code = import_rows(rows, head, add);
	sqlite3_finalize(rows);
	sqlite3_finalize(head);
	sqlite3_finalize(add);
	return code;
}

/* Reading */

static const char *text_at(sqlite3_stmt *row, int column)
{
	const char *text = (const char *)sqlite3_column_text(row, column);

	return text && strlen(text) == (size_t)sqlite3_column_bytes(row, column) ? text : NULL;
}

static bool read_entry(sqlite3_stmt *row, struct audit_entry *ret)
{
	*ret = (struct audit_entry){ .seq = (uint64_t)sqlite3_column_int64(row, 0),
				     .time_us = sqlite3_column_int64(row, 1),
				     .actor.uid = sqlite3_column_int64(row, 2),
				     .action = text_at(row, 4),
				     .exception_id = (uint64_t)sqlite3_column_int64(row, 5),
				     .tenant = text_at(row, 6),
				     .record = text_at(row, 7) };
	return ret->action && ret->tenant && ret->record && strlen(ret->record) < RECORD_JSON_MAX &&
	       store_read_text(row, 3, ret->actor.name, sizeof(ret->actor.name)) &&
	       store_read_text(row, 8, ret->previous, sizeof(ret->previous)) &&
	       store_read_text(row, 9, ret->hash, sizeof(ret->hash));
}

/* The statement has its values. Returns how many there were, or an errno. */
static int each_entry(struct store *store, sqlite3_stmt *statement, store_each_entry each,
		      void *user)
{
	struct audit_entry entry;
	int code = SQLITE_DONE, count = 0;

	while (count >= 0 && (code = sqlite3_step(statement)) == SQLITE_ROW) {
		if (read_entry(statement, &entry)) {
			each(user, &entry);
			count++;
		} else {
			count = store_note_damage(store, "an entry of the audit log has impossible "
							 "values");
		}
	}
	if (count >= 0 && code != SQLITE_DONE)
		count = store_note(store, "read the audit log", code);
	store_finish(statement);
	return count;
}

/* A number as SQLite has them. */
static int64_t clamp(uint64_t number)
{
	return number > INT64_MAX ? INT64_MAX : (int64_t)number;
}

int store_each_after(struct store *store, uint64_t after, unsigned limit, store_each_entry each,
		     void *user)
{
	sqlite3_stmt *statement = store->statements[STORE_AUDIT_AFTER];
	int r;

	sqlite3_bind_int64(statement, 1, clamp(after));
	sqlite3_bind_int64(statement, 2, limit);
	r = each_entry(store, statement, each, user);
	return r < 0 ? r : 0;
}

int store_each_latest(struct store *store, const char *tenant, uint64_t before, unsigned limit,
		      store_each_entry each, void *user)
{
	sqlite3_stmt *statement =
		store->statements[tenant ? STORE_AUDIT_OF_TENANT : STORE_AUDIT_LATEST];
	int r;

	sqlite3_bind_int64(statement, 1, clamp(before));
	sqlite3_bind_int64(statement, 2, limit);
	if (tenant)
		sqlite3_bind_text(statement, 3, tenant, -1, SQLITE_TRANSIENT);
	r = each_entry(store, statement, each, user);
	return r < 0 ? r : 0;
}

int store_each_next(struct store *store, const char *tenant, uint64_t after, unsigned limit,
		    store_each_entry each, void *user)
{
	sqlite3_stmt *statement = store->statements[STORE_AUDIT_NEXT];
	int r;

	sqlite3_bind_text(statement, 1, tenant, -1, SQLITE_TRANSIENT);
	sqlite3_bind_int64(statement, 2, clamp(after));
	sqlite3_bind_int64(statement, 3, limit);
	r = each_entry(store, statement, each, user);
	return r < 0 ? r : 0;
}

int store_each_at(struct store *store, const char *tenant, int64_t at_us, store_each_entry each,
		  void *user)
{
	sqlite3_stmt *statement = store->statements[STORE_AUDIT_AT];
	int r;

	sqlite3_bind_text(statement, 1, tenant, -1, SQLITE_TRANSIENT);
	sqlite3_bind_int64(statement, 2, at_us);
	r = each_entry(store, statement, each, user);
	return r < 0 ? r : 0;
}

int store_find_entry(struct store *store, uint64_t exception_id, uint64_t version,
		     store_each_entry each, void *user)
{
	const bool last = version == UINT64_MAX;
	sqlite3_stmt *statement = store->statements[last ? STORE_AUDIT_LAST : STORE_AUDIT_VERSION];
	int r;

	sqlite3_bind_int64(statement, 1, clamp(exception_id));
	if (!last)
		sqlite3_bind_int64(statement, 2, clamp(version));
	r = each_entry(store, statement, each, user);
	return r == 0 ? -ENOENT : r < 0 ? r : 0;
}

int store_audit_head(struct store *store, uint64_t *ret_seq, char ret_hash[DIGEST_HEX_LEN + 1])
{
	struct audit_entry next;
	int code = read_head(store->statements[STORE_AUDIT_HEAD], &next);

	if (code != SQLITE_OK)
		return store_note(store, "read the audit log", code);
	*ret_seq = next.seq - 1;
	memcpy(ret_hash, next.previous, sizeof(next.previous));
	return 0;
}

int store_last_id(struct store *store, uint64_t *ret_id)
{
	sqlite3_stmt *statement = store->statements[STORE_LAST_ID];
	int code = sqlite3_step(statement);

	if (code == SQLITE_ROW)
		*ret_id = (uint64_t)sqlite3_column_int64(statement, 0);
	store_finish(statement);
	return code == SQLITE_ROW ? 0 : store_note(store, "read the audit log", code);
}
