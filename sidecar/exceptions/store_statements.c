/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The statements' texts, and the way of a record into a row and back: both go by record_fields[]. */
#include <stdio.h>
#include <string.h>

#include "store_internal.h"

#define ENTRY "seq, time_us, actor_uid, actor, action, exception_id, tenant, record, previous, hash"

/* In braces: the names of all columns; their values, as ?1, ?2, ...; what a change sets. */
static const char *const texts[STORE_STATEMENTS] = {
	[STORE_BEGIN] = "BEGIN IMMEDIATE",
	[STORE_COMMIT] = "COMMIT",
	[STORE_ROLLBACK] = "ROLLBACK",
	[STORE_ALL] = "SELECT {columns} FROM exception ORDER BY id",
	[STORE_ACTIVE] = "SELECT {columns} FROM exception WHERE ended_at_us = 0 ORDER BY id",
	/* ?1: after, ?2: limit. Through the index all of them would be sorted for each page. */
	[STORE_ACTIVE_AFTER] = "SELECT {columns} FROM exception NOT INDEXED WHERE ended_at_us = 0"
			       " AND id > ?1 ORDER BY id LIMIT ?2",
	/* ?1: limit */
	[STORE_ENDED] = "SELECT {columns} FROM exception WHERE ended_at_us <> 0"
			" ORDER BY ended_at_us DESC, id DESC LIMIT ?1",
	/* ?1: after this id, ?2 and ?3: from and to, ?4: tenant or null, ?5: limit, ?6: last id */
	[STORE_IN_FORCE] = "SELECT {columns} FROM exception WHERE id > ?1 AND id <= ?6"
			   " AND granted_at_us < ?3"
			   " AND (expires_at_us = 0 OR expires_at_us >= ?2)"
			   " AND (ended_at_us = 0 OR ended_at_us >= ?2)"
			   " AND (?4 IS NULL OR tenant = ?4) ORDER BY id LIMIT ?5",
	/* ?1: id */
	[STORE_FIND] = "SELECT {columns} FROM exception WHERE id = ?1",
	[STORE_GRANT] = "INSERT INTO exception ({columns}) VALUES ({values}) RETURNING {columns}",
	[STORE_CHANGE] = "UPDATE exception SET {changes} WHERE id = ?1 AND version = ?2 - 1"
			 " AND ended_at_us = 0 RETURNING {columns}",
	/* ?1: id, ?2: when, ?3 and ?4: by whom, ?5: reason */
	[STORE_END] = "UPDATE exception SET version = version + 1, ended_at_us = ?2, ended_by = ?3,"
		      " ended_by_uid = ?4, end_reason = ?5 WHERE id = ?1 AND ended_at_us = 0"
		      " RETURNING {columns}",
	[STORE_AUDIT_ADD] = "INSERT INTO audit (" ENTRY ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8,"
			    " ?9, ?10)",
	[STORE_AUDIT_HEAD] = "SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1",
	/* ?1: after, ?2: limit */
	[STORE_AUDIT_AFTER] = "SELECT " ENTRY " FROM audit WHERE seq > ?1 ORDER BY seq LIMIT ?2",
	/* ?1: before, ?2: limit */
	[STORE_AUDIT_LATEST] = "SELECT * FROM (SELECT " ENTRY " FROM audit WHERE seq < ?1"
			       " ORDER BY seq DESC LIMIT ?2) ORDER BY seq",
	/* and ?3: tenant */
	[STORE_AUDIT_OF_TENANT] = "SELECT * FROM (SELECT " ENTRY " FROM audit WHERE tenant = ?3"
				  " AND seq < ?1 ORDER BY seq DESC LIMIT ?2) ORDER BY seq",
	/* ?1: tenant, ?2: after, ?3: limit */
	[STORE_AUDIT_NEXT] = "SELECT " ENTRY " FROM audit WHERE tenant = ?1 AND seq > ?2"
			     " ORDER BY seq LIMIT ?3",
	/* ?1: tenant, ?2: time */
	[STORE_AUDIT_AT] = "SELECT " ENTRY " FROM audit WHERE seq IN (SELECT max(seq) FROM audit"
			   " WHERE tenant = ?1 AND time_us <= ?2 GROUP BY exception_id)"
			   " ORDER BY seq",
	/* ?1: exception, ?2: version: each entry of an exception is the next one */
	[STORE_AUDIT_VERSION] = "SELECT " ENTRY " FROM audit WHERE exception_id = ?1"
				" ORDER BY seq LIMIT 1 OFFSET ?2 - 1",
	[STORE_AUDIT_LAST] = "SELECT " ENTRY " FROM audit WHERE exception_id = ?1"
			     " ORDER BY seq DESC LIMIT 1",
	[STORE_LAST_ID] = "SELECT max(coalesce((SELECT max(id) FROM exception), 0),"
			  " coalesce((SELECT max(exception_id) FROM audit), 0))",
};

/* list: as in the braces. Returns the length. */
static size_t append_list(char *buf, size_t size, const char *list)
{
	const char *comma = "";
	size_t len = 0;

	for (size_t i = 0; i < record_field_count && len < size; i++) {
		const struct record_field *field = &record_fields[i];
		char item[80];

		if (*list == 'v')
			snprintf(item, sizeof(item), "?%zu", i + 1);
		else if (list[1] == 'h' && field->change == RECORD_CHANGED)
			snprintf(item, sizeof(item), "%s = ?%zu", field->column, i + 1);
		else if (list[1] == 'o')
			snprintf(item, sizeof(item), "%s", field->column);
		else
			continue;
		len += (size_t)snprintf(buf + len, size - len, "%s%s", comma, item);
		comma = ", ";
	}
	return len < size ? len : size - 1;
}

void store_statement_text(enum store_statement which, char buf[STORE_SQL_MAX])
{
	const char *text = texts[which];
	size_t len = 0;

	while (*text && len < STORE_SQL_MAX - 1) {
		if (*text != '{') {
			buf[len++] = *text++;
			continue;
		}
		len += append_list(buf + len, STORE_SQL_MAX - len, text + 1);
		text = strchr(text, '}') + 1;
	}
	buf[len] = '\0';
}

int store_bind_record(sqlite3_stmt *statement, const struct exception *exception)
{
	const int last = sqlite3_bind_parameter_count(statement);
	int code = SQLITE_OK;

	for (int i = 0; i < last && code == SQLITE_OK; i++) {
		const struct record_field *field = &record_fields[i];
		const void *at = (const char *)exception + field->offset;

		if (!sqlite3_bind_parameter_name(statement, i + 1))
			continue; /* one that a change does not set */
		if (field->kind == RECORD_TEXT)
			code = sqlite3_bind_text(statement, i + 1, at, -1, SQLITE_TRANSIENT);
		else
			code = sqlite3_bind_int64(statement, i + 1, *(const int64_t *)at);
	}
	/* SQLite then chooses the id. */
	if (code == SQLITE_OK && !exception->id)
		code = sqlite3_bind_null(statement, 1);
	return code;
}

/* It is not cut: a shortened tenant's name could be another tenant's. */
bool store_read_text(sqlite3_stmt *row, int column, char *buf, size_t size)
{
	const char *text = (const char *)sqlite3_column_text(row, column);
	size_t len = text ? (size_t)sqlite3_column_bytes(row, column) : 0;

	if (!text || len >= size || strlen(text) != len)
		return false;
	memcpy(buf, text, len + 1);
	return true;
}

bool store_read_record(sqlite3_stmt *row, struct exception *ret)
{
	*ret = (struct exception){ 0 };
	for (size_t i = 0; i < record_field_count; i++) {
		const struct record_field *field = &record_fields[i];
		void *at = (char *)ret + field->offset;

		if (field->kind != RECORD_TEXT)
			*(int64_t *)at = sqlite3_column_int64(row, (int)i);
		else if (!store_read_text(row, (int)i, at, field->size))
			return false;
	}
	return tenant_name_valid(ret->tenant);
}
