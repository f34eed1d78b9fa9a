/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "wish.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "rfc3339.h"

const char *const wish_members[] = { "tenant",       "profile",    "scope",
				     "destinations", "expires_at", "change_request",
				     "accepted_by",  "reason",     "risk_version",
				     "risk_sha256",  NULL };

const struct record_field *wish_field(const char *name)
{
	size_t member = 0;

	while (wish_members[member] && strcmp(wish_members[member], name) != 0)
		member++;
	for (size_t i = 0; wish_members[member] && i < record_field_count; i++)
		if (strcmp(record_fields[i].name, name) == 0)
			return &record_fields[i];
	return NULL;
}

int wish_refuse(const struct record_field *field, char error[WISH_ERROR_MAX])
{
	if (field->kind == RECORD_TEXT)
		snprintf(error, WISH_ERROR_MAX, "%s: expected a text of at most %zu bytes",
			 field->name, field->size - 1);
	else
		snprintf(error, WISH_ERROR_MAX, "%s: expected %s", field->name,
			 field->kind == RECORD_TIME ? "a time such as \"2026-01-31T12:00:00Z\""
						    : "a whole number");
	return -EINVAL;
}

int wish_set_text(struct exception *wish, const struct record_field *field, const char *text,
		  char error[WISH_ERROR_MAX])
{
	void *at = (char *)wish + field->offset;

	if (!text)
		return 0;
	if (field->kind == RECORD_TIME)
		return rfc3339_parse(text, at) < 0 ? wish_refuse(field, error) : 0;
	if (field->kind != RECORD_TEXT || strlen(text) >= field->size)
		return wish_refuse(field, error);
	strcpy(at, text);
	return 0;
}

int wish_set_number(struct exception *wish, const struct record_field *field, int64_t number,
		    char error[WISH_ERROR_MAX])
{
	if (field->kind != RECORD_UINT || number < 0)
		return wish_refuse(field, error);
	*(uint64_t *)((char *)wish + field->offset) = (uint64_t)number;
	return 0;
}

int wish_complete(struct exception *wish, char error[WISH_ERROR_MAX])
{
	if (!tenant_name_valid(wish->tenant)) {
		snprintf(error, WISH_ERROR_MAX,
			 "tenant: expected 1 to 128 characters of A-Za-z0-9._@:- or %%XX");
		return -EINVAL;
	}
	if (!*wish->profile) {
		snprintf(error, WISH_ERROR_MAX, "profile: expected the name of a profile");
		return -EINVAL;
	}
	return record_canonical_scope(wish, error);
}

static void write_member(struct json_writer *w, const struct record_field *field, const void *at)
{
	if (field->kind == RECORD_TEXT)
		json_string(w, field->name, *(const char *)at ? at : NULL);
	else if (!*(const int64_t *)at)
		json_string(w, field->name, NULL);
	else if (field->kind == RECORD_TIME)
		json_time(w, field->name, *(const int64_t *)at);
	else
		json_uint(w, field->name, *(const uint64_t *)at);
}

void wish_write(struct json_writer *w, const struct exception *wish)
{
	for (size_t i = 0; wish_members[i]; i++) {
		const struct record_field *field = wish_field(wish_members[i]);

		write_member(w, field, (const char *)wish + field->offset);
	}
}
