/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "steerctl_render.h"

#include <errno.h>
#include <libsmartcols/libsmartcols.h>
#include <string.h>

#include "steerctl_text.h"

struct column {
	const char *title;
	const char *member;
	int flags;
	void (*format)(yajl_val row, char buf[TEXT_MAX]); /* NULL: the member as it is */
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static int add_row(struct libscols_table *table, yajl_val row, const struct column *columns,
		   size_t count)
{
	struct libscols_line *line = scols_table_new_line(table, NULL);
	char text[TEXT_MAX];
	size_t i;
	int r = line ? 0 : -ENOMEM;

	for (i = 0; i < count && r == 0; i++) {
		if (columns[i].format)
			columns[i].format(row, text);
		else
			text_of(text_member(row, columns[i].member), text);
		r = scols_line_set_data(line, i, text);
	}
	return r;
}

/* A table of the objects in a list. Nothing is cut to the width of a terminal: it may be a pipe. */
static int print_table(FILE *out, yajl_val list, const struct column *columns, size_t count)
{
	struct libscols_table *table = scols_new_table();
	size_t i;
	int r = table ? 0 : -ENOMEM;

	if (r == 0)
		r = scols_table_set_stream(table, out);
	if (r == 0)
		r = scols_table_set_termforce(table, SCOLS_TERMFORCE_NEVER);
	for (i = 0; i < count && r == 0; i++)
		r = scols_table_new_column(table, columns[i].title, 0, columns[i].flags) ? 0
											 : -ENOMEM;
	for (i = 0; YAJL_IS_ARRAY(list) && i < YAJL_GET_ARRAY(list)->len && r == 0; i++)
		r = add_row(table, YAJL_GET_ARRAY(list)->values[i], columns, count);
	if (r == 0)
		r = scols_print_table(table);
	scols_unref_table(table);
	return r;
}

static void line(FILE *out, const char *title, yajl_val object, const char *member)
{
	char text[TEXT_MAX];

	text_of(text_member(object, member), text);
	fprintf(out, "%-18s %s\n", title, text);
}

static void print_publisher(FILE *out, yajl_val publisher)
{
	if (!text_true(publisher, "connected")) {
		fprintf(out, "%-18s not heard\n", "publisher");
		return;
	}
	fprintf(out, "%-18s heard %lld ms ago, seq %lld, gaps %lld, resyncs %lld\n", "publisher",
		text_number(publisher, "silent_ms"), text_number(publisher, "seq"),
		text_number(publisher, "gaps"), text_number(publisher, "resyncs"));
}

/* A part that is in order, or says why it is not. */
static void print_part(FILE *out, const char *title, yajl_val part)
{
	char text[TEXT_MAX] = "ok";

	if (!text_true(part, "ok"))
		text_of(text_member(part, "error"), text);
	fprintf(out, "%-18s %s\n", title, text);
}

static void print_counters(FILE *out, yajl_val counters)
{
	char name[TEXT_MAX], value[TEXT_MAX];
	size_t i;

	for (i = 0; YAJL_IS_OBJECT(counters) && i < YAJL_GET_OBJECT(counters)->len; i++) {
		text_clean(YAJL_GET_OBJECT(counters)->keys[i], name);
		text_of(YAJL_GET_OBJECT(counters)->values[i], value);
		fprintf(out, "  %-30s %s\n", name, value);
	}
}

int render_status(FILE *out, yajl_val answer)
{
	static const char *const members[] = { "version", "mode", "verify_sa", "state", "reason" };
	static const char *const totals[][2] = {
		{ "child SAs", "child_sas" },
		{ "tenants", "tenants" },
		{ "exempt child SAs", "exempt_child_sas" },
		{ "conflicts", "conflicts" },
		{ "exceptions", "exceptions" },
		{ "lease (ms)", "lease_ms" },
	};
	yajl_val status = text_member(answer, "status");
	size_t i;

	for (i = 0; i < COUNT(members); i++)
		line(out, members[i], status, members[i]);
	print_publisher(out, text_member(status, "publisher"));
	print_part(out, "store", text_member(status, "store"));
	print_part(out, "accounting", text_member(status, "accounting"));
	for (i = 0; i < COUNT(totals); i++)
		line(out, totals[i][0], status, totals[i][1]);
	fprintf(out, "counters\n");
	print_counters(out, text_member(status, "counters"));
	return 0;
}

static void format_tenant(yajl_val row, char buf[TEXT_MAX])
{
	if (text_string(row, "tenant"))
		text_of(text_member(row, "tenant"), buf);
	else
		strcpy(buf, "(unidentified)");
}

int render_tenants(FILE *out, yajl_val answer)
{
	static const struct column columns[] = {
		{ "TENANT", "tenant", 0, format_tenant },
		{ "CHILD-SAS", "child_sas", SCOLS_FL_RIGHT, NULL },
		{ "STEERING", "steering", 0, NULL },
		{ "PROFILES", "profiles", 0, NULL },
		{ "REMOTE-HOSTS", "remote_hosts", 0, NULL },
		{ "ADDRESSES", "addresses", 0, NULL },
		{ "SOURCE", "identity_source", 0, NULL },
		{ "IDENTITY", "identity", 0, NULL },
		{ "PART-PROFILES", "part_profiles", 0, NULL },
	};

	return print_table(out, text_member(answer, "tenants"), columns, COUNT(columns));
}

/* Seconds are enough for a person, and what comes after them is cut: 2026-01-31T12:00:00Z. */
static void format_time(yajl_val value, char buf[TEXT_MAX])
{
	char *dot;

	text_of(value, buf);
	dot = strchr(buf, '.');
	if (dot)
		strcpy(dot, "Z");
}

static void format_granted(yajl_val row, char buf[TEXT_MAX])
{
	format_time(text_member(row, "granted_at"), buf);
}

static void format_expires(yajl_val row, char buf[TEXT_MAX])
{
	if (text_string(row, "expires_at"))
		format_time(text_member(row, "expires_at"), buf);
	else
		strcpy(buf, "never");
}

static void format_ended(yajl_val row, char buf[TEXT_MAX])
{
	format_time(text_member(row, "ended_at"), buf);
}

int render_exceptions(FILE *out, yajl_val answer)
{
	static const struct column columns[] = {
		{ "ID", "id", SCOLS_FL_RIGHT, NULL },
		{ "TENANT", "tenant", 0, NULL },
		{ "PROFILE", "profile", 0, NULL },
		{ "STATE", "state", 0, NULL },
		{ "GRANTED", NULL, 0, format_granted },
		{ "EXPIRES", NULL, 0, format_expires },
		{ "CHANGE-REQUEST", "change_request", 0, NULL },
		{ "ACCEPTED-BY", "accepted_by", 0, NULL },
		{ "GRANTED-BY", "granted_by", 0, NULL },
		{ "ENDED", NULL, 0, format_ended },
		{ "ENDED-BY", "ended_by", 0, NULL },
		{ "END-REASON", "end_reason", 0, NULL },
		{ "VERSION", "version", SCOLS_FL_RIGHT, NULL },
		{ "SCOPE", "scope", 0, NULL },
		{ "DESTINATIONS", "destinations", 0, NULL },
		{ "REASON", "reason", 0, NULL },
		{ "KIND", "kind", 0, NULL },
	};

	return print_table(out, text_member(answer, "exceptions"), columns, COUNT(columns));
}

static void format_lifetime(yajl_val row, char buf[TEXT_MAX])
{
	static const struct {
		long long seconds;
		char unit;
	} units[] = { { 86400, 'd' }, { 3600, 'h' }, { 60, 'm' }, { 1, 's' } };
	long long seconds = text_number(row, "max_lifetime_s");
	size_t i;

	for (i = 0; seconds > 0 && i < COUNT(units); i++) {
		if (seconds % units[i].seconds == 0) {
			snprintf(buf, TEXT_MAX, "%lld%c", seconds / units[i].seconds,
				 units[i].unit);
			return;
		}
	}
	strcpy(buf, "unlimited");
}

/* A published list has dozens of prefixes, which --json prints all. */
#define DESTINATIONS_SHOWN 2

static void format_destinations(yajl_val row, char buf[TEXT_MAX])
{
	yajl_val list = text_member(row, "destinations"), services = text_member(row, "services");
	size_t count = YAJL_IS_ARRAY(list) ? YAJL_GET_ARRAY(list)->len : 0, i, len = 0;
	char item[TEXT_MAX];

	strcpy(buf, YAJL_IS_ARRAY(services) && YAJL_GET_ARRAY(services)->len ? "any" : "-");
	for (i = 0; i < count && i < DESTINATIONS_SHOWN && len < TEXT_MAX; i++) {
		text_of(YAJL_GET_ARRAY(list)->values[i], item);
		len += (size_t)snprintf(buf + len, TEXT_MAX - len, "%s%s", i ? "," : "", item);
	}
	if (count > DESTINATIONS_SHOWN && len < TEXT_MAX)
		snprintf(buf + len, TEXT_MAX - len, ",+%zu", count - DESTINATIONS_SHOWN);
}

static void format_only_for(yajl_val row, char buf[TEXT_MAX])
{
	if (text_string(row, "only_for"))
		text_of(text_member(row, "only_for"), buf);
	else
		strcpy(buf, "grant");
}

int render_profiles(FILE *out, yajl_val answer)
{
	static const struct column columns[] = {
		{ "PROFILE", "profile", 0, NULL },
		{ "STRENGTH", "strength", 0, NULL },
		{ "RISK", "risk", 0, NULL },
		{ "PATH", "path", 0, NULL },
		{ "SERVICES", "services", 0, NULL },
		{ "DESTINATIONS", NULL, 0, format_destinations },
		{ "EXPLICIT-PROXY", "explicit_proxy", 0, NULL },
		{ "FOR", NULL, 0, format_only_for },
		{ "MAX-LIFETIME", NULL, 0, format_lifetime },
	};

	return print_table(out, text_member(answer, "profiles"), columns, COUNT(columns));
}

static void print_message(FILE *out, yajl_val answer)
{
	char text[TEXT_MAX];

	text_of(text_member(answer, "message"), text);
	fprintf(out, "%s\n", text);
}

int render_risk(FILE *out, yajl_val answer)
{
	yajl_val risk = text_member(answer, "risk");

	line(out, "version", risk, "version");
	line(out, "sha256", risk, "sha256");
	line(out, "text", risk, "text");
	return 0;
}

/* " (host 198.18.1.5, to 203.0.113.0/24)", or nothing if it is all of the tenant without a limit. */
static void format_part(yajl_val exception, char buf[2 * TEXT_MAX + 16])
{
	const char *whole = text_string(exception, "scope");
	const bool limited = text_string(exception, "destinations");
	char scope[TEXT_MAX], destinations[TEXT_MAX];

	text_of(text_member(exception, "scope"), scope);
	if (limited)
		text_of(text_member(exception, "destinations"), destinations);
	buf[0] = '\0';
	if (whole && (strcmp(whole, "tenant") != 0 || limited))
		snprintf(buf, 2 * TEXT_MAX + 16, " (%s%s%s)", scope, limited ? ", to " : "",
			 limited ? destinations : "");
}

int render_grant(FILE *out, yajl_val answer)
{
	yajl_val exception = text_member(answer, "exception");
	char id[TEXT_MAX], tenant[TEXT_MAX], profile[TEXT_MAX], expires[TEXT_MAX];
	char part[2 * TEXT_MAX + 16];

	text_of(text_member(exception, "id"), id);
	text_of(text_member(exception, "tenant"), tenant);
	text_of(text_member(exception, "profile"), profile);
	format_expires(exception, expires);
	format_part(exception, part);
	fprintf(out, "exception %s: %s granted to %s%s, expires %s, child SAs %lld\n", id, profile,
		tenant, part, expires, text_number(answer, "child_sas"));
	print_message(out, answer);
	return 0;
}

static void print_offer(FILE *out, yajl_val try)
{
	yajl_val offer = text_member(try, "offer"), flows = text_member(try, "flows");
	const size_t count = YAJL_IS_ARRAY(flows) ? YAJL_GET_ARRAY(flows)->len : 0;
	char profile[TEXT_MAX], command[TEXT_MAX];

	if (!count)
		return;
	if (!text_string(offer, "command")) {
		fprintf(out, "No profile that can be granted covers any of these; see steerctl "
			     "profiles.\n");
		return;
	}
	text_of(text_member(offer, "profile"), profile);
	/* Half a command is worse than none. */
	if (strlen(text_string(offer, "command")) < TEXT_MAX)
		text_of(text_member(offer, "command"), command);
	else
		strcpy(command, "(too long to be shown here: see --json)");
	fprintf(out,
		"Profile %s covers %lld of %zu. With --accept-risk, when the customer has accepted "
		"its risk:\n  %s\n",
		profile, text_number(offer, "destinations_covered"), count, command);
}

int render_try_result(FILE *out, yajl_val answer)
{
	static const struct column columns[] = {
		{ "PROTOCOL", "protocol", 0, NULL },
		{ "DESTINATION", "destination", 0, NULL },
		{ "PORT", "port", SCOLS_FL_RIGHT, NULL },
		{ "FLOWS", "flows", SCOLS_FL_RIGHT, NULL },
		{ "ANSWERED", "answered", SCOLS_FL_RIGHT, NULL },
		{ "PACKETS", "packets", SCOLS_FL_RIGHT, NULL },
		{ "BYTES", "bytes", SCOLS_FL_RIGHT, NULL },
	};
	yajl_val try = text_member(answer, "try"), exception = text_member(try, "exception");
	char id[TEXT_MAX], tenant[TEXT_MAX], profile[TEXT_MAX], expires[TEXT_MAX], state[TEXT_MAX];
	char part[2 * TEXT_MAX + 16];
	int r = 0;

	text_of(text_member(exception, "id"), id);
	text_of(text_member(exception, "tenant"), tenant);
	text_of(text_member(exception, "profile"), profile);
	text_of(text_member(exception, "state"), state);
	format_part(exception, part);
	format_expires(exception, expires);
	fprintf(out, "try %s: %s for %s%s, %s, expires %s\n", id, profile, tenant, part, state,
		expires);
	print_message(out, answer);
	if (YAJL_IS_ARRAY(text_member(try, "flows")) &&
	    YAJL_GET_ARRAY(text_member(try, "flows"))->len)
		r = print_table(out, text_member(try, "flows"), columns, COUNT(columns));
	if (text_number(try, "flows_missed"))
		fprintf(out, "Further ones: %lld\n", text_number(try, "flows_missed"));
	print_offer(out, try);
	return r;
}

int render_change(FILE *out, yajl_val answer)
{
	yajl_val exception = text_member(answer, "exception");
	char id[TEXT_MAX], tenant[TEXT_MAX], profile[TEXT_MAX], expires[TEXT_MAX];

	text_of(text_member(exception, "id"), id);
	text_of(text_member(exception, "tenant"), tenant);
	text_of(text_member(exception, "profile"), profile);
	format_expires(exception, expires);
	fprintf(out, "exception %s: %s of %s has version %lld, expires %s\n", id, profile, tenant,
		text_number(exception, "version"), expires);
	print_message(out, answer);
	return 0;
}

int render_revoke(FILE *out, yajl_val answer)
{
	yajl_val list = text_member(answer, "revoked");
	char id[TEXT_MAX], tenant[TEXT_MAX], profile[TEXT_MAX];
	size_t i;

	for (i = 0; YAJL_IS_ARRAY(list) && i < YAJL_GET_ARRAY(list)->len; i++) {
		yajl_val exception = YAJL_GET_ARRAY(list)->values[i];

		text_of(text_member(exception, "id"), id);
		text_of(text_member(exception, "tenant"), tenant);
		text_of(text_member(exception, "profile"), profile);
		fprintf(out, "exception %s: %s revoked for %s\n", id, profile, tenant);
	}
	print_message(out, answer);
	return 0;
}

static void format_entry_time(yajl_val row, char buf[TEXT_MAX])
{
	format_time(text_member(row, "time"), buf);
}

static void format_entry_profile(yajl_val row, char buf[TEXT_MAX])
{
	text_of(text_member(text_member(row, "record"), "profile"), buf);
}

/* Of a grant: what was granted; of anything else: what is otherwise now. */
static void format_what(yajl_val row, char buf[TEXT_MAX])
{
	yajl_val record = text_member(row, "record");
	char expires[TEXT_MAX], accepted[TEXT_MAX], request[TEXT_MAX], reason[TEXT_MAX];

	if (text_string(row, "changes")) {
		text_of(text_member(row, "changes"), buf);
		return;
	}
	format_expires(record, expires);
	text_of(text_member(record, "accepted_by"), accepted);
	text_of(text_member(record, "change_request"), request);
	text_of(text_member(record, "reason"), reason);
	snprintf(buf, TEXT_MAX, "until %.32s, risk accepted by %.256s, %.256s: %.256s", expires,
		 accepted, request, reason);
}

static int print_entries(FILE *out, yajl_val list)
{
	static const struct column columns[] = {
		{ "SEQ", "seq", SCOLS_FL_RIGHT, NULL },
		{ "TIME", NULL, 0, format_entry_time },
		{ "ACTOR", "actor", 0, NULL },
		{ "ACTION", "action", 0, NULL },
		{ "ID", "exception_id", SCOLS_FL_RIGHT, NULL },
		{ "TENANT", "tenant", 0, NULL },
		{ "PROFILE", NULL, 0, format_entry_profile },
		{ "WHAT", NULL, 0, format_what },
	};

	return print_table(out, list, columns, COUNT(columns));
}

int render_history(FILE *out, yajl_val answer)
{
	return print_entries(out, text_member(answer, "history"));
}

static void print_sentences(FILE *out, const char *title, yajl_val list)
{
	char text[TEXT_MAX];

	for (size_t i = 0; YAJL_IS_ARRAY(list) && i < YAJL_GET_ARRAY(list)->len; i++) {
		text_of(YAJL_GET_ARRAY(list)->values[i], text);
		fprintf(out, "%-18s %s\n", i ? "" : title, text);
	}
}

int render_explain(FILE *out, yajl_val answer)
{
	yajl_val explain = text_member(answer, "explain");
	yajl_val list = text_member(explain, "reasons");
	char text[TEXT_MAX];
	size_t i;

	line(out, "subject", explain, "subject");
	line(out, "tenant", explain, "tenant");
	if (text_string(explain, "at")) {
		line(out, "at", explain, "at");
		line(out, "source", explain, "source");
	} else {
		line(out, "path", explain, "path");
	}
	line(out, "summary", explain, "summary");
	for (i = 0; YAJL_IS_ARRAY(list) && i < YAJL_GET_ARRAY(list)->len; i++) {
		yajl_val reason = YAJL_GET_ARRAY(list)->values[i];

		text_of(text_member(reason, "text"), text);
		fprintf(out, "  %-3s %s\n", text_true(reason, "ok") ? "yes" : "no", text);
	}
	print_sentences(out, "flows", text_member(text_member(explain, "flows"), "sentences"));
	list = text_member(explain, "entries");
	return YAJL_IS_ARRAY(list) && YAJL_GET_ARRAY(list)->len ? print_entries(out, list) : 0;
}

static void print_more(FILE *out, const char *title, yajl_val finding, const char *member)
{
	char text[TEXT_MAX];

	if (!text_string(finding, member))
		return;
	text_of(text_member(finding, member), text);
	fprintf(out, "%-8s %-16s %s\n", "", title, text);
}

/* Why is the same for all findings of a check, so it is said once, below the last of them. */
static void print_finding(FILE *out, yajl_val finding, yajl_val next)
{
	char severity[TEXT_MAX], id[TEXT_MAX], what[TEXT_MAX];
	const char *next_id = text_string(next, "id");

	text_of(text_member(finding, "severity"), severity);
	text_of(text_member(finding, "id"), id);
	text_of(text_member(finding, "what"), what);
	fprintf(out, "%-8s %-16s %s\n", severity, id, what);
	print_more(out, "mend", finding, "fix");
	if (!next_id || strcmp(next_id, id) != 0)
		print_more(out, "why", finding, "why");
}

int render_doctor(FILE *out, yajl_val answer)
{
	yajl_val list = text_member(text_member(answer, "doctor"), "findings");
	size_t count = YAJL_IS_ARRAY(list) ? YAJL_GET_ARRAY(list)->len : 0;

	for (size_t i = 0; i < count; i++)
		print_finding(out, YAJL_GET_ARRAY(list)->values[i],
			      i + 1 < count ? YAJL_GET_ARRAY(list)->values[i + 1] : NULL);
	return 0;
}

int render_plan(FILE *out, yajl_val plan)
{
	static const struct column columns[] = {
		{ "DESTINATION", "address", 0, NULL },
		{ "PROTOCOL", "protocol", 0, NULL },
		{ "PORT", "port", SCOLS_FL_RIGHT, NULL },
		{ "LIVE", "live", SCOLS_FL_RIGHT, NULL },
		{ "NEW", "new", SCOLS_FL_RIGHT, NULL },
		{ "NOW", "now", 0, NULL },
		{ "BYTES-SENT", "bytes_sent", SCOLS_FL_RIGHT, NULL },
		{ "BYTES-RECEIVED", "bytes_received", SCOLS_FL_RIGHT, NULL },
	};

	return print_table(out, text_member(plan, "destinations"), columns, COUNT(columns));
}

int render_resync(FILE *out, yajl_val answer)
{
	print_message(out, answer);
	return 0;
}

/* Quotes around what has blanks, so that a line can be taken apart again by eye and by script. */
static void print_field(FILE *out, yajl_val event, const char *member)
{
	yajl_val value = text_member(event, member);
	char text[TEXT_MAX], *c;

	if (!value || YAJL_IS_NULL(value))
		return;
	text_of(value, text);
	if (!strpbrk(text, " \"=")) {
		fprintf(out, " %s=%s", member, text);
		return;
	}
	fprintf(out, " %s=\"", member);
	for (c = text; *c; c++) {
		if (*c == '"' || *c == '\\')
			putc('\\', out);
		putc(*c, out);
	}
	putc('"', out);
}

int render_event(FILE *out, yajl_val event)
{
	static const char *const fields[] = {
		"connection",  "child",     "spi_in",         "old_spi_in",  "reqid",
		"remote_host", "remote_ts", "vips",           "identity",    "identity_source",
		"profile",     "scope",     "destinations",   "path",        "exception_id",
		"expires",     "actor",     "change_request", "accepted_by", "count",
		"children",    "reason",
	};
	char time[TEXT_MAX], type[TEXT_MAX], tenant[TEXT_MAX];
	size_t i;

	text_of(text_member(event, "time"), time);
	text_of(text_member(event, "type"), type);
	text_of(text_member(event, "tenant"), tenant);
	fprintf(out, "%s %-20s %s", time, type, tenant);
	for (i = 0; i < COUNT(fields); i++)
		print_field(out, event, fields[i]);
	putc('\n', out);
	return 0;
}
