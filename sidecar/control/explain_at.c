/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * steerctl explain --at: which exceptions of a tenant were in force at a time that has been, by the audit
 * log. It has what was decided; what the kernel did with it then, nobody has written down.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "commands.h"
#include "daemon.h"
#include "rfc3339.h"

/* Exceptions that are told, and entries of the log on either side. */
#define TOLD_MAX 32
#define AROUND 3

struct looking {
	struct store *store;
	struct json_writer *w;
	const char *tenant;
	int64_t at_us;
	int64_t log_begins_us; /* 0: it is empty */
	uint64_t last;         /* the tenant's last entry up to then; 0: there is none */
	unsigned in_force;
	bool records;           /* write those in force as they are, and no reasons */
	struct exception ended; /* the one that ended last before; id 0: none did */
};

static void reason(struct json_writer *w, bool met, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static void reason(struct json_writer *w, bool met, const char *format, ...)
{
	char text[4 * RECORD_TEXT_MAX];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	json_object_begin(w, NULL);
	json_bool(w, "ok", met);
	json_string(w, "text", text);
	json_object_end(w);
}

/* "2026-11-20 14:00" is "2026-11-20T14:00:00Z" */
static int read_time(const char *text, int64_t *ret_us)
{
	char time[40];
	size_t len = strlen(text);

	if (len < strlen("2026-11-20 14:00") || len > 32)
		return -EINVAL;
	snprintf(time, sizeof(time), "%s%s%s", text, len == 16 ? ":00" : "",
		 text[len - 1] == 'Z' ? "" : "Z");
	if (time[10] == ' ')
		time[10] = 'T';
	return rfc3339_parse(time, ret_us);
}

static void write_time(int64_t time_us, char buf[32])
{
	char json[64];
	struct json_writer w;

	json_init(&w, json, sizeof(json));
	json_time(&w, NULL, time_us);
	json_finish(&w);
	snprintf(buf, 32, "%.19sZ", json + 1);
}

/* One exception as it was then. */
static void look_at(void *user, const struct audit_entry *entry)
{
	struct looking *looking = user;
	char granted[32], expires[32] = "no end";
	struct exception record;

	looking->last = entry->seq > looking->last ? entry->seq : looking->last;
	if (record_read(entry->record, &record) < 0)
		return;
	if (record.ended_at_us ||
	    (record.expires_at_us && record.expires_at_us <= looking->at_us)) {
		looking->ended = record;
		return;
	}
	if (looking->in_force++ >= TOLD_MAX)
		return;
	if (looking->records) {
		json_raw(looking->w, NULL, entry->record, strlen(entry->record));
		return;
	}
	write_time(record.granted.wall_us, granted);
	if (record.expires_at_us)
		write_time(record.expires_at_us, expires);
	reason(looking->w, true,
	       "exception %llu, version %llu, for profile %s was in force: granted by %s at %s, "
	       "risk "
	       "accepted by %s (%s), end %s",
	       (unsigned long long)record.id, (unsigned long long)record.version, record.profile,
	       record.granted_by.name, granted, record.accepted_by, record.change_request, expires);
}

static void explain_ended(const struct looking *looking)
{
	const struct exception *record = &looking->ended;
	const bool by_somebody = record->ended_at_us && record->ended_at_us <= looking->at_us;
	char time[32];

	if (!record->id)
		return;
	write_time(by_somebody ? record->ended_at_us : record->expires_at_us, time);
	reason(looking->w, false, "exception %llu, for profile %s, had ended at %s%s%s%s%s",
	       (unsigned long long)record->id, record->profile, time, by_somebody ? ", by " : "",
	       by_somebody ? record->ended_by.name : "", by_somebody ? ": " : "",
	       by_somebody ? record->end_reason : "");
}

static void explain_missing(const struct looking *looking)
{
	char begins[32];

	if (looking->in_force)
		return;
	if (!looking->log_begins_us || looking->at_us < looking->log_begins_us) {
		write_time(looking->log_begins_us, begins);
		reason(looking->w, false, "the log begins at %s; it says nothing of before",
		       looking->log_begins_us ? begins : "the first grant, which is to come");
	}
	reason(looking->w, false, "no exception of %s was in force", looking->tenant);
	explain_ended(looking);
}

static void note_begin(void *user, const struct audit_entry *entry)
{
	*(int64_t *)user = entry->time_us;
}

static void write_entry(void *user, const struct audit_entry *entry)
{
	const struct looking *looking = user;

	commands_write_entry(looking->store, looking->w, entry);
}

static int each_in_force(struct looking *looking, const char *list, bool records)
{
	int r;

	looking->records = records;
	looking->in_force = 0;
	json_array_begin(looking->w, list);
	r = store_each_at(looking->store, looking->tenant, looking->at_us, look_at, looking);
	if (r == 0 && !records)
		explain_missing(looking);
	json_array_end(looking->w);
	return r;
}

static int write_around(struct looking *looking)
{
	int r = 0;

	json_array_begin(looking->w, "entries");
	if (looking->last)
		r = store_each_latest(looking->store, looking->tenant, looking->last + 1, AROUND,
				      write_entry, looking);
	if (r == 0)
		r = store_each_next(looking->store, looking->tenant, looking->last, AROUND,
				    write_entry, looking);
	json_array_end(looking->w);
	return r;
}

static int write_answer(struct looking *looking)
{
	struct json_writer *w = looking->w;
	int r;

	json_object_begin(w, "explain");
	json_string(w, "subject", looking->tenant);
	json_string(w, "tenant", looking->tenant);
	json_time(w, "at", looking->at_us);
	json_string(w, "source", "audit log");
	json_string(w, "path", NULL);
	r = each_in_force(looking, "reasons", false);
	json_string(
		w, "summary",
		looking->in_force
			? "By the audit log an exception was in force. That is what was decided; "
			  "what the kernel did then is not recorded."
			: "By the audit log no exception was in force. That is what was decided; "
			  "what the kernel did then is not recorded.");
	if (r == 0)
		r = each_in_force(looking, "in_force", true);
	if (r == 0)
		r = write_around(looking);
	json_object_end(w);
	return r;
}

/* An address may be a tenant's name, too, one that was proved by it. */
static int check_subject(const struct looking *looking, const char *subject,
			 char error[CONTROL_ERROR_MAX])
{
	unsigned char address[16];

	if (!tenant_name_valid(subject))
		return commands_refuse(error, -EINVAL, "subject: expected a tenant name");
	if (looking->last || (inet_pton(AF_INET, subject, address) != 1 &&
			      inet_pton(AF_INET6, subject, address) != 1))
		return 0;
	return commands_refuse(
		error, -EINVAL,
		"subject: addresses are not in the audit log, and who had one then is not "
		"recorded; expected a tenant name");
}

static void note_last(void *user, const struct audit_entry *entry)
{
	((struct looking *)user)->last = entry->seq;
}

int explain_at(struct daemon *daemon, yajl_val request, struct json_writer *w,
	       char error[CONTROL_ERROR_MAX])
{
	struct looking looking = { .store = exceptions_store(daemon->core.exceptions),
				   .w = w,
				   .tenant = control_string(request, "subject") };
	int r = read_time(control_string(request, "at"), &looking.at_us);

	if (r < 0)
		return commands_refuse(
			error, r,
			"at: expected a time in UTC, such as 2026-11-20T14:00:00Z or "
			"\"2026-11-20 14:00\"");
	if (looking.at_us > clock_wall_us())
		return commands_refuse(error, -EINVAL, "at: expected a time that has been");
	if (control_string(request, "dst") || control_string(request, "proto") ||
	    control_int(request, "source_port", 0))
		return commands_refuse(
			error, -EINVAL,
			"dst, proto, source_port: flows are not in the audit log; leave them out");
	if (!looking.store)
		return commands_refuse(error, -EUCLEAN, "%s",
				       exceptions_store_error(daemon->core.exceptions));
	r = looking.tenant ? store_each_latest(looking.store, looking.tenant, UINT64_MAX, 1,
					       note_last, &looking)
			   : 0;
	if (r == 0)
		r = check_subject(&looking, looking.tenant, error);
	if (r < 0)
		return *error ? r : commands_refuse(error, r, "%s", store_error(looking.store));
	looking.last = 0;
	r = store_each_after(looking.store, 0, 1, note_begin, &looking.log_begins_us);
	if (r == 0)
		r = write_answer(&looking);
	return r < 0 ? commands_refuse(error, r, "%s", store_error(looking.store)) : 0;
}
