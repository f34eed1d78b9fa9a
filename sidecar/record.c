/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "record.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#define PLACE(member) offsetof(struct exception, member)
#define SIZE(member) sizeof(((struct exception *)NULL)->member)
#define TEXT(name, change, member)                                                                 \
	{                                                                                          \
		name, name, RECORD_TEXT, change, PLACE(member), SIZE(member)                       \
	}
#define NUMBER(name, kind, change, member)                                                         \
	{                                                                                          \
		name, name, kind, change, PLACE(member), 0                                         \
	}
#define TIME(name, change, member)                                                                 \
	{                                                                                          \
		name, name "_us", RECORD_TIME, change, PLACE(member), 0                            \
	}

/* clang-format off */
const struct record_field record_fields[] = {
	NUMBER("id", RECORD_UINT, RECORD_FIXED, id),
	NUMBER("version", RECORD_UINT, RECORD_CHANGED, version),
	TEXT("tenant", RECORD_FIXED, tenant),
	TEXT("profile", RECORD_FIXED, profile),
	TEXT("scope", RECORD_FIXED, scope),
	TEXT("destinations", RECORD_FIXED, destinations),
	TEXT("change_request", RECORD_CHANGED, change_request),
	TEXT("accepted_by", RECORD_CHANGED, accepted_by),
	TEXT("reason", RECORD_CHANGED, reason),
	NUMBER("risk_version", RECORD_UINT, RECORD_CHANGED, risk_version),
	TEXT("risk_sha256", RECORD_CHANGED, risk_sha256),
	TEXT("granted_by", RECORD_FIXED, granted_by.name),
	NUMBER("granted_by_uid", RECORD_UID, RECORD_FIXED, granted_by.uid),
	TIME("granted_at", RECORD_FIXED, granted.wall_us),
	TEXT("granted_boot", RECORD_FIXED, granted.boot),
	NUMBER("granted_boottime_us", RECORD_INT, RECORD_FIXED, granted.boottime_us),
	TIME("expires_at", RECORD_CHANGED, expires_at_us),
	TIME("end_set_at", RECORD_CHANGED, end_set.wall_us),
	TEXT("end_set_boot", RECORD_CHANGED, end_set.boot),
	NUMBER("end_set_boottime_us", RECORD_INT, RECORD_CHANGED, end_set.boottime_us),
	TIME("ended_at", RECORD_ENDED, ended_at_us),
	TEXT("ended_by", RECORD_ENDED, ended_by.name),
	NUMBER("ended_by_uid", RECORD_UID, RECORD_ENDED, ended_by.uid),
	TEXT("end_reason", RECORD_ENDED, end_reason),
};
/* clang-format on */
const size_t record_field_count = sizeof(record_fields) / sizeof(record_fields[0]);

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

int record_check_scope(const char *scope, const char *destinations, const char **ret_error)
{
	if (strcmp(scope, RECORD_SCOPE_TENANT) != 0)
		*ret_error = "scope: expected \"" RECORD_SCOPE_TENANT "\"";
	else if (*destinations)
		*ret_error = "destinations: expected none: those of the profile count";
	else
		return 0;
	return -EINVAL;
}
