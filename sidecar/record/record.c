/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "record.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <yajl/yajl_tree.h>

#include "rfc3339.h"

#define PLACE(member) offsetof(struct exception, member)
#define SIZE(member) sizeof(((struct exception *)NULL)->member)
#define TEXT(name, change, reader, member)                                                         \
	{                                                                                          \
		name, name, RECORD_TEXT, change, reader, PLACE(member), SIZE(member)               \
	}
#define NUMBER(name, kind, change, reader, member)                                                 \
	{                                                                                          \
		name, name, kind, change, reader, PLACE(member), 0                                 \
	}
#define TIME(name, change, reader, member)                                                         \
	{                                                                                          \
		name, name "_us", RECORD_TIME, change, reader, PLACE(member), 0                    \
	}

/* clang-format off */
const struct record_field record_fields[] = {
	NUMBER("id", RECORD_UINT, RECORD_FIXED, RECORD_TOLD, id),
	NUMBER("version", RECORD_UINT, RECORD_CHANGED, RECORD_INNER, version),
	TEXT("tenant", RECORD_FIXED, RECORD_TOLD, tenant),
	TEXT("profile", RECORD_FIXED, RECORD_TOLD, profile),
	TEXT("kind", RECORD_FIXED, RECORD_TOLD, kind),
	TEXT("scope", RECORD_FIXED, RECORD_TOLD, scope),
	TEXT("destinations", RECORD_FIXED, RECORD_TOLD, destinations),
	TEXT("change_request", RECORD_CHANGED, RECORD_TOLD, change_request),
	TEXT("accepted_by", RECORD_CHANGED, RECORD_TOLD, accepted_by),
	TEXT("reason", RECORD_CHANGED, RECORD_TOLD, reason),
	NUMBER("risk_version", RECORD_UINT, RECORD_CHANGED, RECORD_TOLD, risk_version),
	TEXT("risk_sha256", RECORD_CHANGED, RECORD_TOLD, risk_sha256),
	TEXT("granted_by", RECORD_FIXED, RECORD_TOLD, granted_by.name),
	NUMBER("granted_by_uid", RECORD_UID, RECORD_FIXED, RECORD_TOLD, granted_by.uid),
	TIME("granted_at", RECORD_FIXED, RECORD_TOLD, granted.wall_us),
	TEXT("granted_boot", RECORD_FIXED, RECORD_INNER, granted.boot),
	NUMBER("granted_boottime_us", RECORD_INT, RECORD_FIXED, RECORD_INNER, granted.boottime_us),
	TIME("expires_at", RECORD_CHANGED, RECORD_TOLD, expires_at_us),
	TIME("end_set_at", RECORD_CHANGED, RECORD_INNER, end_set.wall_us),
	TEXT("end_set_boot", RECORD_CHANGED, RECORD_INNER, end_set.boot),
	NUMBER("end_set_boottime_us", RECORD_INT, RECORD_CHANGED, RECORD_INNER, end_set.boottime_us),
	TIME("ended_at", RECORD_ENDED, RECORD_TOLD, ended_at_us),
	TEXT("ended_by", RECORD_ENDED, RECORD_TOLD, ended_by.name),
	NUMBER("ended_by_uid", RECORD_UID, RECORD_ENDED, RECORD_TOLD, ended_by.uid),
	TEXT("end_reason", RECORD_ENDED, RECORD_TOLD, end_reason),
};
/* clang-format on */
const size_t record_field_count = sizeof(record_fields) / sizeof(record_fields[0]);

bool record_is_try(const struct exception *exception)
{
	return strcmp(exception->kind, RECORD_KIND_TRY) == 0;
}

int record_canonical_scope(struct exception *exception, char error[SCOPE_ERROR_MAX])
{
	struct scope *scope = NULL;
	int r = scope_parse(exception->scope, exception->destinations, &scope, error);

	if (r < 0)
		return r;
	scope_text(scope, exception->scope);
	scope_destinations_text(scope, exception->destinations);
	scope_free(scope);
	return 0;
}

static bool is_there(const struct record_field *field, const void *at)
{
	if (field->kind == RECORD_TEXT)
		return *(const char *)at;
	if (field->kind == RECORD_UID)
		return *(const int64_t *)at >= 0;
	return *(const int64_t *)at != 0;
}

static void write_field(struct json_writer *w, const struct record_field *field, const void *at)
{
	if (!is_there(field, at)) {
		json_string(w, field->name, NULL);
		return;
	}
	switch (field->kind) {
	case RECORD_TEXT:
		json_string(w, field->name, at);
		break;
	case RECORD_UINT:
		json_uint(w, field->name, *(const uint64_t *)at);
		break;
	case RECORD_INT:
	case RECORD_UID:
		json_int(w, field->name, *(const int64_t *)at);
		break;
	case RECORD_TIME:
		json_time(w, field->name, *(const int64_t *)at);
		break;
	}
}

void record_write(struct json_writer *w, const struct exception *exception)
{
	for (size_t i = 0; i < record_field_count; i++)
		write_field(w, &record_fields[i],
			    (const char *)exception + record_fields[i].offset);
}

size_t record_json(const struct exception *exception, char buf[RECORD_JSON_MAX])
{
	struct json_writer w;

	json_init(&w, buf, RECORD_JSON_MAX);
	json_object_begin(&w, NULL);
	record_write(&w, exception);
	json_object_end(&w);
	return json_finish(&w);
}

/* Reading */

static int read_text(yajl_val value, const struct record_field *field, char *at)
{
	const char *text = YAJL_GET_STRING(value);

	if (!text || strlen(text) >= field->size)
		return -EINVAL;
	strcpy(at, text);
	return 0;
}

static int read_field(yajl_val value, const struct record_field *field, void *at)
{
	if (!value)
		return -EINVAL;
	if (YAJL_IS_NULL(value)) {
		if (field->kind == RECORD_UID)
			*(int64_t *)at = -1;
		return 0;
	}
	if (field->kind == RECORD_TEXT)
		return read_text(value, field, at);
	if (field->kind == RECORD_TIME)
		return YAJL_IS_STRING(value) ? rfc3339_parse(YAJL_GET_STRING(value), at) : -EINVAL;
	if (!YAJL_IS_INTEGER(value))
		return -EINVAL;
	*(int64_t *)at = YAJL_GET_INTEGER(value);
	return 0;
}

int record_read(const char *json, struct exception *ret)
{
	yajl_val tree = yajl_tree_parse(json, NULL, 0);
	int r = YAJL_IS_OBJECT(tree) ? 0 : -EINVAL;

	*ret = (struct exception){ 0 };
	for (size_t i = 0; i < record_field_count && r == 0; i++) {
		const char *path[] = { record_fields[i].name, NULL };

		r = read_field(yajl_tree_get(tree, path, yajl_t_any), &record_fields[i],
			       (char *)ret + record_fields[i].offset);
	}
	yajl_tree_free(tree);
	return r;
}

/* Comparing */

static bool is_same(const struct record_field *field, const void *a, const void *b)
{
	return field->kind == RECORD_TEXT ? strcmp(a, b) == 0
					  : *(const int64_t *)a == *(const int64_t *)b;
}

/* A value as record_write() writes it, without the name. */
static void write_value(const struct record_field *field, const void *at, char *buf, size_t size)
{
	char json[6 * RECORD_DESTINATIONS_MAX + 64] = "";
	const size_t name = strlen(field->name) + strlen("\"\":");
	struct json_writer w;

	json_init(&w, json, sizeof(json));
	write_field(&w, field, at);
	snprintf(buf, size, "%s", json_finish(&w) ? json + name : "");
}

static size_t append_difference(char *buf, size_t len, const struct record_field *field,
				const char *before, const char *after)
{
	char old[RECORD_TEXT_MAX], new[RECORD_TEXT_MAX];
	int added;

	write_value(field, before, old, sizeof(old));
	write_value(field, after, new, sizeof(new));
	added = snprintf(buf + len, RECORD_DIFFERENCE_MAX - len, "%s%s %s -> %s", len ? ", " : "",
			 field->name, old, new);
	return len + (size_t)added;
}

void record_difference(const struct exception *before, const struct exception *after,
		       char buf[RECORD_DIFFERENCE_MAX])
{
	size_t len = 0;

	buf[0] = '\0';
	for (size_t i = 0; i < record_field_count && len < RECORD_DIFFERENCE_MAX; i++) {
		const struct record_field *field = &record_fields[i];
		const char *old = (const char *)before + field->offset;
		const char *new = (const char *)after + field->offset;

		if (field->reader == RECORD_TOLD && !is_same(field, old, new))
			len = append_difference(buf, len, field, old, new);
	}
	if (len >= RECORD_DIFFERENCE_MAX)
		strcpy(buf + RECORD_DIFFERENCE_MAX - sizeof("..."), "...");
}
