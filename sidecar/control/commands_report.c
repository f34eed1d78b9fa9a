/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * steerctl report: the exceptions that were in force in a month, page by page, each with what it was used
 * for, as far as that is known.
 */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "commands.h"
#include "daemon.h"

/* Exceptions in one answer. */
#define PAGE_MAX 256
/* Ids that are looked at for one: a few milliseconds, whoever's they are. */
#define PAGE_IDS 8192

struct reporting {
	struct json_writer *w;
	struct usage_reader *reader;
	const char *tenant; /* NULL: all */
	int64_t month;
	uint64_t last; /* id */
	unsigned count;
	int r;
};

static void write_time(struct json_writer *w, const char *key, int64_t time_us)
{
	if (time_us)
		json_time(w, key, time_us);
	else
		json_string(w, key, NULL);
}

/* Bytes that nobody counted are not 0. */
static void write_bytes(struct json_writer *w, const char *key, const struct tally_sums *sums,
			uint64_t bytes)
{
	if (sums->ended && sums->ended == sums->uncounted)
		json_string(w, key, NULL);
	else
		json_uint(w, key, bytes);
}

static void write_sums(struct json_writer *w, const struct tally_sums *sums)
{
	json_uint(w, "flows", sums->flows);
	json_uint(w, "ended", sums->ended);
	json_uint(w, "uncounted", sums->uncounted);
	write_bytes(w, "bytes_sent", sums, sums->sent);
	write_bytes(w, "bytes_received", sums, sums->received);
	write_time(w, "first_use", sums->first_us);
	write_time(w, "last_use", sums->last_us);
}

static void write_usage(struct reporting *reporting, uint64_t id)
{
	struct usage_record record;
	int r = usage_read(reporting->reader, id, reporting->month, &record);

	write_sums(reporting->w, &record.sums);
	json_bool(reporting->w, "ever_used", record.ever);
	/* What is not known to be this customer's is not for this customer's report. */
	if (id != USAGE_UNATTRIBUTED || !reporting->tenant)
		tally_write(reporting->w, &record.destinations, write_sums);
	tally_done(&record.destinations);
	if (r < 0)
		reporting->r = r;
}

static int64_t end_of(const struct exception *exception)
{
	if (exception->ended_at_us &&
	    (!exception->expires_at_us || exception->ended_at_us < exception->expires_at_us))
		return exception->ended_at_us;
	return exception->expires_at_us;
}

static void write_exception(const struct exception *exception, void *user)
{
	struct reporting *reporting = user;
	struct json_writer *w = reporting->w;

	json_object_begin(w, NULL);
	json_uint(w, "id", exception->id);
	json_string(w, "tenant", exception->tenant);
	json_string(w, "profile", exception->profile);
	json_string(w, "scope", exception->scope);
	json_string(w, "change_request", exception->change_request);
	json_string(w, "reason", *exception->reason ? exception->reason : NULL);
	json_string(w, "accepted_by", exception->accepted_by);
	json_string(w, "granted_by", exception->granted_by.name);
	json_time(w, "from", exception->granted.wall_us);
	write_time(w, "to", end_of(exception));
	json_bool(w, "active",
		  !exception->ended_at_us && (!exception->expires_at_us ||
					      exception->expires_at_us > clock_wall_us()));
	write_usage(reporting, exception->id);
	json_object_end(w);
	reporting->last = exception->id;
	reporting->count++;
}

/* Whether the figures can be relied on. */
static void write_accounting(struct reporting *reporting, struct daemon *daemon)
{
	const char *problem = usage_problem(daemon->usage);
	struct usage_losses losses;
	struct json_writer *w = reporting->w;

	if (usage_read_losses(reporting->reader, reporting->month, &losses) < 0)
		reporting->r = -EIO;
	json_object_begin(w, "accounting");
	json_bool(w, "ok", !problem);
	json_string(w, "error", problem);
	json_bool(w, "lower_bound", losses.lost || losses.untracked || losses.dropped);
	json_uint(w, "lost", losses.lost);
	json_uint(w, "untracked", losses.untracked);
	json_uint(w, "dropped", losses.dropped);
	json_object_end(w);
}

static int read_month(yajl_val request, int64_t *ret, char error[CONTROL_ERROR_MAX])
{
	const char *text = control_string(request, "month");

	*ret = usage_month(clock_wall_us());
	if (text && usage_month_parse(text, ret) < 0)
		return commands_refuse(error, -EINVAL, "month: expected YYYY-MM, such as 2026-01");
	return 0;
}

static int read_span(yajl_val request, struct store_span *span, char error[CONTROL_ERROR_MAX])
{
	const int64_t after = control_int(request, "after", 0);

	span->limit = PAGE_MAX;
	span->tenant = control_string(request, "tenant");
	if (after < 0)
		return commands_refuse(error, -EINVAL,
				       "after: expected an exception's id, 0 or greater");
	if (span->tenant && !tenant_name_valid(span->tenant))
		return commands_refuse(error, -EINVAL, "tenant: not a tenant name");
	span->after = (uint64_t)after;
	span->last = span->after + PAGE_IDS;
	return 0;
}

static int write_report(struct reporting *reporting, struct daemon *daemon,
			const struct store_span *span, char error[CONTROL_ERROR_MAX])
{
	struct store *store = exceptions_store(daemon->core.exceptions);
	uint64_t last = 0;
	char month[16];
	int r;

	usage_month_text(reporting->month, month);
	json_object_begin(reporting->w, "report");
	json_string(reporting->w, "month", month);
	json_string(reporting->w, "tenant", span->tenant);
	write_accounting(reporting, daemon);
	json_array_begin(reporting->w, "exceptions");
	r = store_each_in_force(store, span, write_exception, reporting);
	if (r == 0)
		r = store_last_id(store, &last);
	json_array_end(reporting->w);
	json_object_begin(reporting->w, "unattributed");
	write_usage(reporting, USAGE_UNATTRIBUTED);
	json_object_end(reporting->w);
	if (reporting->count < PAGE_MAX)
		reporting->last = span->last < last ? span->last : last;
	json_uint(reporting->w, "last", reporting->last);
	json_bool(reporting->w, "more", reporting->last < last);
	json_object_end(reporting->w);
	if (r < 0)
		return commands_refuse(error, r, "%s", store_error(store));
	return reporting->r < 0 ? commands_refuse(error, reporting->r, "%s cannot be read",
						  usage_file(daemon->usage))
				: 0;
}

int commands_report(void *user, const struct control_caller *caller, yajl_val request,
		    struct json_writer *w, char error[CONTROL_ERROR_MAX])
{
	struct daemon *daemon = user;
	struct reporting reporting = { .w = w };
	struct store_span span = { 0 };
	char why[USAGE_ERROR_MAX];
	int r = read_month(request, &reporting.month, error);

	(void)caller;
	if (r == 0)
		r = read_span(request, &span, error);
	if (r < 0)
		return r;
	if (!exceptions_store(daemon->core.exceptions))
		return commands_refuse(error, -EIO, "%s",
				       exceptions_store_error(daemon->core.exceptions));
	reporting.tenant = span.tenant;
	usage_month_span(reporting.month, &span.from_us, &span.to_us);
	r = usage_reader_open(usage_file(daemon->usage), &reporting.reader, why);
	if (r < 0)
		return commands_refuse(error, r, "%s: %s", usage_file(daemon->usage), why);
	r = write_report(&reporting, daemon, &span, error);
	usage_reader_close(reporting.reader);
	return r;
}
