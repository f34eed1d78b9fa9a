/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The audit log: for a person (history), and page by page for whoever verifies it (audit,
 * audit-records), so that no request keeps the loop busy for more than some milliseconds.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "daemon.h"
#include "exceptions/audit_tell.h"

#define HISTORY_DEFAULT 50
#define HISTORY_MAX 1000
/* Entries, exceptions, in a page. */
#define PAGE_MAX 256

static int get_store(struct daemon *daemon, struct store **ret_store, char error[CONTROL_ERROR_MAX])
{
	*ret_store = exceptions_store(daemon->core.exceptions);
	return *ret_store ? 0
			  : commands_refuse(error, -EUCLEAN, "%s",
					    exceptions_store_error(daemon->core.exceptions));
}

/* A whole number from 0 on, or fallback. */
static int read_number(yajl_val request, const char *name, uint64_t fallback, uint64_t *ret,
		       char error[CONTROL_ERROR_MAX])
{
	const int64_t number = control_int(request, name, INT64_MIN);

	if (number < 0 && number != INT64_MIN) {
		snprintf(error, CONTROL_ERROR_MAX, "%s: expected a number, 0 or greater", name);
		return -EINVAL;
	}
	*ret = number < 0 ? fallback : (uint64_t)number;
	return 0;
}

struct telling {
	struct store *store;
	struct json_writer *w;
	uint64_t last; /* seq */
	bool verify;   /* for whoever computes the hash: the very text */
};

/* The members of the canonical JSON, with what follows it. */
void commands_write_entry(struct store *store, struct json_writer *w,
			  const struct audit_entry *entry)
{
	char changes[RECORD_DIFFERENCE_MAX];

	json_object_begin(w, NULL);
	json_uint(w, "seq", entry->seq);
	json_time(w, "time", entry->time_us);
	json_int(w, "actor_uid", entry->actor.uid);
	json_string(w, "actor", entry->actor.name);
	json_string(w, "action", entry->action);
	json_uint(w, "exception_id", entry->exception_id);
	json_string(w, "tenant", entry->tenant);
	json_raw(w, "record", entry->record, strlen(entry->record));
	json_string(w, "previous", entry->previous);
	json_string(w, "hash", entry->hash);
	audit_tell_change(store, entry, changes);
	json_string(w, "changes", *changes ? changes : NULL);
	json_object_end(w);
}

static void write_entry(void *user, const struct audit_entry *entry)
{
	struct telling *telling = user;
	char text[AUDIT_TEXT_MAX];

	telling->last = entry->seq;
	if (!telling->verify) {
		commands_write_entry(telling->store, telling->w, entry);
		return;
	}
	json_object_begin(telling->w, NULL);
	json_string(telling->w, "text", audit_text(entry, text) ? text : "");
	json_string(telling->w, "hash", entry->hash);
	json_object_end(telling->w);
}

int commands_history(void *user, const struct control_caller *caller, yajl_val request,
		     struct json_writer *w, char error[CONTROL_ERROR_MAX])
{
	struct telling telling = { .w = w };
	const char *tenant = control_string(request, "tenant");
	uint64_t limit = HISTORY_DEFAULT, before = UINT64_MAX;
	int r = get_store(user, &telling.store, error);

	(void)caller;
	if (r == 0 && tenant && !tenant_name_valid(tenant))
		r = commands_refuse(error, -EINVAL, "tenant: expected a tenant name");
	if (r == 0)
		r = read_number(request, "limit", HISTORY_DEFAULT, &limit, error);
	if (r == 0)
		r = read_number(request, "before", UINT64_MAX, &before, error);
	if (r == 0 && (limit < 1 || limit > HISTORY_MAX))
		r = commands_refuse(error, -EINVAL, "limit: expected 1 to 1000");
	if (r < 0)
		return r;
	json_array_begin(w, "history");
	r = store_each_latest(telling.store, tenant, before, (unsigned)limit, write_entry,
			      &telling);
	json_array_end(w);
	return r < 0 ? commands_refuse(error, r, "%s", store_error(telling.store)) : 0;
}

int commands_audit(void *user, const struct control_caller *caller, yajl_val request,
		   struct json_writer *w, char error[CONTROL_ERROR_MAX])
{
	struct telling telling = { .w = w, .verify = true };
	char head[DIGEST_HEX_LEN + 1];
	uint64_t after = 0, seq = 0;
	int r = get_store(user, &telling.store, error);

	(void)caller;
	if (r == 0)
		r = read_number(request, "after", 0, &after, error);
	if (r < 0)
		return r;
	json_array_begin(w, "entries");
	r = store_each_after(telling.store, after, PAGE_MAX, write_entry, &telling);
	json_array_end(w);
	if (r == 0)
		r = store_audit_head(telling.store, &seq, head);
	if (r < 0)
		return commands_refuse(error, r, "%s", store_error(telling.store));
	json_bool(w, "more", telling.last && telling.last < seq);
	return 0;
}

/* Is an exception what its last entry says? */

struct comparing {
	const char *record; /* as it is; NULL: there is no such exception */
	const char *wrong;
};

static void compare(void *user, const struct audit_entry *entry)
{
	struct comparing *comparing = user;

	if (!comparing->record)
		comparing->wrong = "is in the log, and not among the exceptions: it was removed";
	else if (strcmp(comparing->record, entry->record) != 0)
		comparing->wrong = "is not as its last entry in the log says: it was changed";
}

/* 0, or an errno of the store. */
static int compare_one(struct store *store, uint64_t id, struct json_writer *w)
{
	char json[RECORD_JSON_MAX] = "";
	struct comparing comparing = { 0 };
	struct exception exception;
	int found = store_find(store, id, &exception), r;

	if (found < 0 && found != -ENOENT)
		return found;
	if (found == 0) {
		record_json(&exception, json);
		comparing.record = json;
	}
	r = store_find_entry(store, id, UINT64_MAX, compare, &comparing);
	if (r == -ENOENT && found == 0)
		comparing.wrong = "is not in the log: it was inserted";
	if (comparing.wrong) {
		json_object_begin(w, NULL);
		json_uint(w, "id", id);
		json_string(w, "what", comparing.wrong);
		json_object_end(w);
	}
	return r == -ENOENT ? 0 : r;
}

int commands_audit_records(void *user, const struct control_caller *caller, yajl_val request,
			   struct json_writer *w, char error[CONTROL_ERROR_MAX])
{
	struct store *store = NULL;
	uint64_t after = 0, id, last = 0;
	int r = get_store(user, &store, error);

	(void)caller;
	if (r == 0)
		r = read_number(request, "after", 0, &after, error);
	if (r < 0)
		return r;
	r = store_last_id(store, &last);
	json_array_begin(w, "wrong");
	for (id = after + 1; r == 0 && id <= last && id <= after + PAGE_MAX; id++)
		r = compare_one(store, id, w);
	json_array_end(w);
	if (r < 0)
		return commands_refuse(error, r, "%s", store_error(store));
	json_uint(w, "last", id - 1);
	json_bool(w, "more", id <= last);
	return 0;
}
