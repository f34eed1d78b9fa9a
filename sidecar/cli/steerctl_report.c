/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "steerctl_report.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "control/control.h"
#include "json_writer.h"
#include "steerctl_render.h"
#include "steerctl_text.h"

/* Pages of an answer, all of which are kept until the end: 256 exceptions each. */
#define PAGES_MAX 1024

struct report {
	const struct report_options *options;
	struct answer pages[PAGES_MAX];
	size_t page_count;
	yajl_val *exceptions; /* of all pages, tenant by tenant */
	size_t count;
};

static int refuse(char *error, int r, const char *sentence)
{
	snprintf(error, CLIENT_ERROR_MAX, "%s", sentence);
	return r;
}

static yajl_val report_of(const struct answer *answer)
{
	return text_member(answer->tree, "report");
}

static yajl_val last_page(const struct report *report)
{
	return report_of(&report->pages[report->page_count - 1]);
}

/* Fetching */

static int ask(struct report *report, long long after, char error[CLIENT_ERROR_MAX])
{
	char request[CONTROL_REQUEST_MAX - 1];
	struct json_writer w;

	if (report->page_count == PAGES_MAX)
		return refuse(error, -E2BIG, "the report is too long; name a tenant");
	json_init(&w, request, sizeof(request));
	json_object_begin(&w, NULL);
	json_uint(&w, "v", 1);
	json_string(&w, "command", "report");
	if (report->options->tenant)
		json_string(&w, "tenant", report->options->tenant);
	if (report->options->month)
		json_string(&w, "month", report->options->month);
	json_int(&w, "after", after);
	json_object_end(&w);
	if (!json_finish(&w))
		return refuse(error, -E2BIG, "the arguments are too long");
	return client_ask(report->options->socket_path, request, &report->pages[report->page_count],
			  error);
}

static int take_page(struct report *report, char error[CLIENT_ERROR_MAX])
{
	yajl_val list, *grown;
	size_t more;

	report->page_count++;
	list = text_member(last_page(report), "exceptions");
	more = YAJL_IS_ARRAY(list) ? YAJL_GET_ARRAY(list)->len : 0;
	grown = realloc(report->exceptions, (report->count + more + 1) * sizeof(*grown));
	if (!grown)
		return refuse(error, -ENOMEM, "out of memory");
	report->exceptions = grown;
	for (size_t i = 0; i < more; i++)
		report->exceptions[report->count++] = YAJL_GET_ARRAY(list)->values[i];
	return 0;
}

static int fetch(struct report *report, char error[CLIENT_ERROR_MAX])
{
	long long after = 0, before;
	int r;

	do {
		before = after;
		r = ask(report, after, error);
		if (r == 0)
			r = take_page(report, error);
		if (r < 0)
			return r;
		after = text_number(last_page(report), "last");
	} while (text_true(last_page(report), "more") && after > before);
	return 0;
}

static int compare(const void *a, const void *b)
{
	const yajl_val *x = a, *y = b;
	const char *of_x = text_string(*x, "tenant"), *of_y = text_string(*y, "tenant");
	const long long id_x = text_number(*x, "id"), id_y = text_number(*y, "id");
	const int order = strcmp(of_x ? of_x : "", of_y ? of_y : "");

	return order ? order : (id_x > id_y) - (id_x < id_y);
}

/* For a person */

static void print_line(FILE *out, const char *title, yajl_val object, const char *member)
{
	char text[TEXT_MAX];

	text_of(text_member(object, member), text);
	fprintf(out, "  %-16s %s\n", title, text);
}

/* Bytes as they are: a report is compared with other figures. */
static void print_bytes(FILE *out, yajl_val sums)
{
	const long long uncounted = text_number(sums, "uncounted");

	if (YAJL_IS_NULL(text_member(sums, "bytes_sent"))) {
		fprintf(out, "bytes not counted");
		return;
	}
	fprintf(out, "%lld bytes sent, %lld received", text_number(sums, "bytes_sent"),
		text_number(sums, "bytes_received"));
	if (uncounted)
		fprintf(out, " (of %lld flows not counted)", uncounted);
}

static void print_use(FILE *out, yajl_val sums)
{
	char first[TEXT_MAX], last[TEXT_MAX];

	text_of(text_member(sums, "first_use"), first);
	text_of(text_member(sums, "last_use"), last);
	fprintf(out, "  %-16s %lld flows, %lld ended, ", "used by", text_number(sums, "flows"),
		text_number(sums, "ended"));
	print_bytes(out, sums);
	fprintf(out, "\n  %-16s %s to %s\n", "used from", first, last);
}

static void print_destination(FILE *out, const char *title, yajl_val row)
{
	char address[TEXT_MAX], protocol[TEXT_MAX];

	text_of(text_member(row, "address"), address);
	text_of(text_member(row, "protocol"), protocol);
	fprintf(out, "  %-16s %s %s port %lld: %lld flows, ", title, protocol, address,
		text_number(row, "port"), text_number(row, "flows"));
	print_bytes(out, row);
	putc('\n', out);
}

static void print_destinations(FILE *out, yajl_val exception)
{
	yajl_val list = text_member(exception, "destinations");
	yajl_val other = text_member(exception, "other_destinations");

	for (size_t i = 0; YAJL_IS_ARRAY(list) && i < YAJL_GET_ARRAY(list)->len; i++)
		print_destination(out, i ? "" : "destinations", YAJL_GET_ARRAY(list)->values[i]);
	if (text_number(other, "flows") || text_number(other, "ended")) {
		fprintf(out, "  %-16s others: %lld flows, ", "", text_number(other, "flows"));
		print_bytes(out, other);
		putc('\n', out);
	}
}

static void print_exception(FILE *out, yajl_val exception)
{
	static const char *const lines[][2] = {
		{ "scope", "scope" },
		{ "change request", "change_request" },
		{ "reason", "reason" },
		{ "accepted by", "accepted_by" },
		{ "granted by", "granted_by" },
		{ "from", "from" },
		{ "to", "to" },
	};
	char id[TEXT_MAX], profile[TEXT_MAX];

	text_of(text_member(exception, "id"), id);
	text_of(text_member(exception, "profile"), profile);
	fprintf(out, "\n  exception %s    profile %s, %s\n", id, profile,
		text_true(exception, "active") ? "active" : "ended");
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		print_line(out, lines[i][0], exception, lines[i][1]);
	if (!text_number(exception, "flows") && !text_number(exception, "ended")) {
		fprintf(out, "  %-16s %s\n", "used by",
			text_true(exception, "ever_used") ? "nobody in this month"
							  : "nobody, never");
		return;
	}
	print_use(out, exception);
	print_destinations(out, exception);
}

static void print_accounting(FILE *out, yajl_val report)
{
	yajl_val accounting = text_member(report, "accounting");
	yajl_val unattributed = text_member(report, "unattributed");
	char text[TEXT_MAX];

	if (!text_true(accounting, "ok")) {
		text_of(text_member(accounting, "error"), text);
		fprintf(out, "NOT COUNTED NOW: %s\n", text);
	}
	if (text_true(accounting, "lower_bound"))
		fprintf(out,
			"The figures are a LOWER BOUND: notifications lost %lld times, flows not "
			"followed %lld, not written %lld.\n",
			text_number(accounting, "lost"), text_number(accounting, "untracked"),
			text_number(accounting, "dropped"));
	if (text_number(unattributed, "flows") || text_number(unattributed, "ended")) {
		fprintf(out,
			"Of all tenants together, %lld flows could not be attributed to an "
			"exception: ",
			text_number(unattributed, "flows"));
		print_bytes(out, unattributed);
		fprintf(out, ".\n");
	}
}

static void print_unused(const struct report *report)
{
	FILE *out = report->options->out;
	size_t unused = 0;

	for (size_t i = 0; i < report->count; i++) {
		yajl_val exception = report->exceptions[i];

		if (text_number(exception, "flows") || text_number(exception, "ended"))
			continue;
		fprintf(out, "%s%lld", unused++ ? ", " : "\nNot used in this month: exceptions ",
			text_number(exception, "id"));
	}
	if (unused)
		putc('\n', out);
}

static void print_report(const struct report *report)
{
	FILE *out = report->options->out;
	char month[TEXT_MAX], tenant[TEXT_MAX], before[TEXT_MAX] = "";

	text_of(text_member(last_page(report), "month"), month);
	fprintf(out, "Exceptions in %s (UTC) and what they were used for\n", month);
	print_accounting(out, last_page(report));
	if (!report->count)
		fprintf(out, "\nNo exception was in force.\n");
	for (size_t i = 0; i < report->count; i++) {
		text_of(text_member(report->exceptions[i], "tenant"), tenant);
		if (strcmp(tenant, before) != 0)
			fprintf(out, "\ntenant %s\n", tenant);
		strcpy(before, tenant);
		print_exception(out, report->exceptions[i]);
	}
	print_unused(report);
}

/* As JSON */

/* The value as it came, without the line's end. */
static int copy_json(FILE *out, yajl_val value)
{
	char *text = NULL;
	size_t len = 0;
	FILE *memory = open_memstream(&text, &len);
	int r = memory ? text_write_json(memory, value) : -ENOMEM;

	if (memory && fclose(memory) != 0)
		r = -ENOMEM;
	if (r == 0 && len)
		fwrite(text, 1, len - 1, out);
	free(text);
	return r;
}

static int print_json(const struct report *report)
{
	static const char *const members[] = { "month", "tenant", "accounting", "unattributed" };
	FILE *out = report->options->out;
	int r = 0;

	fprintf(out, "{\"v\":1,\"ok\":true,\"report\":{");
	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]) && r == 0; i++) {
		fprintf(out, "\"%s\":", members[i]);
		r = copy_json(out, text_member(last_page(report), members[i]));
		putc(',', out);
	}
	fprintf(out, "\"exceptions\":[");
	for (size_t i = 0; i < report->count && r == 0; i++) {
		if (i)
			putc(',', out);
		r = copy_json(out, report->exceptions[i]);
	}
	fprintf(out, "]}}\n");
	return r;
}

int report_run(const struct report_options *options, char error[CLIENT_ERROR_MAX])
{
	struct report *report = calloc(1, sizeof(*report));
	int r;

	if (!report)
		return refuse(error, -ENOMEM, "out of memory");
	report->options = options;
	r = fetch(report, error);
	if (r == 0 && report->count)
		qsort(report->exceptions, report->count, sizeof(yajl_val), compare);
	if (r == 0 && !options->json)
		print_report(report);
	else if (r == 0 && print_json(report) < 0)
		r = refuse(error, -ENOMEM, "out of memory");
	for (size_t i = 0; i < report->page_count; i++)
		client_free_answer(&report->pages[i]);
	free(report->exceptions);
	free(report);
	return r;
}
