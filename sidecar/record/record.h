/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The record of an exception: who let which flows of whom go where, until when, and who accepted the
 * risk. One table of its fields (record_fields) says how each is named in JSON and on disk; store,
 * audit log and answers all go by it. Plain values; any thread.
 */
#ifndef TENANT_STEER_RECORD_H
#define TENANT_STEER_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "digest.h"
#include "json_writer.h"
#include "scope.h"
#include "settings/settings.h"
#include "tenant_name.h"

/* A text with its NUL, in UTF-8; a list of destinations. */
#define RECORD_TEXT_MAX 256
#define RECORD_DESTINATIONS_MAX 2048
/* A record as JSON, whatever it holds: a byte of a text may need six. */
#define RECORD_JSON_MAX 32768

/* What was it for: to stay until its end, or a test of one host or user (steerctl try). */
#define RECORD_KIND_MAX 8
#define RECORD_KIND_GRANT "grant"
#define RECORD_KIND_TRY "try"

/* The scope of a whole tenant. */
#define RECORD_SCOPE_TENANT "tenant"

/* Who does something: a user as the kernel says (SO_PEERCRED), or steerd itself. */
struct actor {
	int64_t uid; /* -1: not known, before uids were recorded */
	char name[RECORD_TEXT_MAX];
};

struct exception {
	uint64_t id;      /* never given twice */
	uint64_t version; /* 1 with the grant; each change and the end raise it by one */
	char tenant[TENANT_NAME_MAX + 1];
	char profile[SETTINGS_NAME_MAX + 1];
	char kind[RECORD_KIND_MAX];                 /* "": it becomes a grant */
	char scope[RECORD_TEXT_MAX];                /* canonical (scope.h) */
	char destinations[RECORD_DESTINATIONS_MAX]; /* canonical; "": as the profile says */
	char change_request[RECORD_TEXT_MAX];
	char accepted_by[RECORD_TEXT_MAX];
	char reason[RECORD_TEXT_MAX];         /* of the grant; "" before version 2 of the store */
	uint64_t risk_version;                /* of the text that was accepted; 0: not recorded */
	char risk_sha256[DIGEST_HEX_LEN + 1]; /* of its bytes; "": not recorded */
	struct actor granted_by;
	struct clock_reading granted; /* when */
	int64_t expires_at_us;        /* 0: never, before version 2 of the store */
	struct clock_reading end_set; /* when the end was, by the grant or by a later change */
	int64_t ended_at_us;          /* 0: active */
	struct actor ended_by;
	char end_reason[RECORD_TEXT_MAX];
};

bool record_is_try(const struct exception *exception);

/* Give scope ("": all of the tenant) and destinations the form that tells whether two cover the same. As
 * scope_parse(): -EINVAL and which is wrong, -ENOMEM. */
int record_canonical_scope(struct exception *exception, char error[SCOPE_ERROR_MAX]);

enum record_kind {
	RECORD_TEXT, /* char[size] */
	RECORD_UINT, /* uint64_t */
	RECORD_INT,  /* int64_t */
	RECORD_UID,  /* int64_t; -1: not known */
	RECORD_TIME, /* int64_t, microseconds since 1970 */
};

/* Who may set a field after the grant. */
enum record_change { RECORD_FIXED, RECORD_CHANGED, RECORD_ENDED };

/* Is it for a person, or to compute with? */
enum record_reader { RECORD_TOLD, RECORD_INNER };

struct record_field {
	const char *name;   /* in JSON */
	const char *column; /* on disk */
	enum record_kind kind;
	enum record_change change;
	enum record_reader reader;
	size_t offset; /* in struct exception */
	size_t size;   /* of a text */
};

/* In the order of the columns, of the JSON, and of the values of statements. */
extern const struct record_field record_fields[];
extern const size_t record_field_count;

/*
 * Write the members of the record: each field, in the order of the table. What is not there is null:
 * an empty text, a number or time of 0, a uid that is not known.
 */
void record_write(struct json_writer *w, const struct exception *exception);

/*
 * The canonical JSON of a record: one object of these members, no blanks, escaped as json_writer.h
 * does. NUL-terminated; returns its length.
 */
size_t record_json(const struct exception *exception, char buf[RECORD_JSON_MAX]);

/*
 * Read such a JSON back; -EINVAL: a member is missing, or is not what it should be. Others are left out.
 */
int record_read(const char *json, struct exception *ret);

/* What can be said of one record beside another of the same exception, with its NUL. */
#define RECORD_DIFFERENCE_MAX 4096

/*
 * What differs, for a person: `expires_at 2026-01-31T12:00:00Z -> never, reason "a" -> "b"`. The version
 * and what only the clocks say is left out. "" if nothing differs; cut off with "..." if it is long.
 */
void record_difference(const struct exception *before, const struct exception *after,
		       char buf[RECORD_DIFFERENCE_MAX]);

#endif
