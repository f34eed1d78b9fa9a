/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * steerctl plan: begin to observe what a grant would let through, and tell what was seen. Two commands,
 * because an observation takes longer than a connection may wait.
 */
#include <errno.h>
#include <string.h>

#include "commands.h"
#include "daemon.h"
#include "settings/destinations.h"

#define DURATION_DEFAULT_S 60

static int read_source(yajl_val request, struct address_range *ret, char error[CONTROL_ERROR_MAX])
{
	const char *host = control_string(request, "host");
	const char *prefix = control_string(request, "prefix");
	char text[DESTINATION_TEXT_MAX];
	int r;

	*ret = (struct address_range){ .family = AF_UNSPEC };
	if (host && prefix)
		return commands_refuse(error, -EINVAL, "host, prefix: expected one of them");
	if (!host && !prefix)
		return 0;
	r = destination_parse(host ? host : prefix, ret);
	if (r == -ERANGE) {
		destination_text(ret, text);
		return commands_refuse(error, r,
				       "prefix: bits are set behind the length; expected %s", text);
	}
	if (host && (r < 0 || !destination_is_single(ret)))
		return commands_refuse(error, -EINVAL, "host: expected an inner address");
	return r < 0 ? commands_refuse(error, r, "prefix: expected ADDRESS/LENGTH") : 0;
}

static int read_question(yajl_val request, struct observe_question *question,
			 char error[CONTROL_ERROR_MAX])
{
	const char *tenant = control_string(request, "tenant");
	const char *profile = control_string(request, "profile");
	const int64_t seconds = control_int(request, "duration_s", DURATION_DEFAULT_S);

	if (!tenant_name_valid(tenant))
		return commands_refuse(error, -EINVAL, "tenant: expected a tenant name");
	if (!profile || !*profile || strlen(profile) > SETTINGS_NAME_MAX)
		return commands_refuse(error, -EINVAL, "profile: expected the name of a profile");
	if (seconds < 1 || seconds > OBSERVE_SECONDS_MAX)
		return commands_refuse(error, -EINVAL,
				       "duration_s: expected 1 second to an hour (%d)",
				       OBSERVE_SECONDS_MAX);
	strcpy(question->tenant, tenant);
	strcpy(question->profile, profile);
	question->duration_us = seconds * 1000000;
	return read_source(request, &question->source, error);
}

int commands_plan(void *user, const struct control_caller *caller, yajl_val request,
		  struct json_writer *w, char error[CONTROL_ERROR_MAX])
{
	struct daemon *daemon = user;
	struct observe_question question = { .asker = caller->pid };
	char why[OBSERVE_ERROR_MAX];
	uint64_t id;
	int r = read_question(request, &question, error);

	if (r < 0)
		return r;
	r = observe_begin(daemon->observe, &question, &id, why);
	if (r < 0)
		return commands_refuse(error, r, "%s", why);
	json_object_begin(w, "plan");
	json_uint(w, "id", id);
	json_int(w, "seconds", question.duration_us / 1000000);
	json_object_end(w);
	return 0;
}

/* Answers */

static void write_bytes(struct json_writer *w, const struct tally_sums *sums)
{
	const bool counted = sums->live && sums->live > sums->uncounted;

	if (counted) {
		json_uint(w, "bytes_sent", sums->sent);
		json_uint(w, "bytes_received", sums->received);
		return;
	}
	json_string(w, "bytes_sent", NULL);
	json_string(w, "bytes_received", NULL);
}

static void write_sums(struct json_writer *w, const struct tally_sums *sums)
{
	const uint64_t all = sums->live + sums->flows;

	json_uint(w, "live", sums->live);
	json_uint(w, "new", sums->flows);
	json_uint(w, "bypassed", sums->bypassed);
	json_string(w, "now",
		    !sums->bypassed         ? "enforce"
		    : sums->bypassed == all ? "bypass"
					    : "both");
	write_bytes(w, sums);
}

static void write_left_out(struct json_writer *w, const struct observe_left_out *left_out)
{
	json_object_begin(w, "left_out");
	json_uint(w, "reserved", left_out->reserved);
	json_uint(w, "own", left_out->own);
	json_uint(w, "not_listed", left_out->not_listed);
	json_uint(w, "ambiguous", left_out->ambiguous);
	json_object_end(w);
}

static void write_question(struct json_writer *w, const struct observe_question *question)
{
	char source[DESTINATION_TEXT_MAX];

	json_string(w, "tenant", question->tenant);
	json_string(w, "profile", question->profile);
	if (question->source.family != AF_UNSPEC)
		destination_text(&question->source, source);
	json_string(w, "source", question->source.family != AF_UNSPEC ? source : NULL);
	json_int(w, "seconds", question->duration_us / 1000000);
}

int commands_plan_result(void *user, const struct control_caller *caller, yajl_val request,
			 struct json_writer *w, char error[CONTROL_ERROR_MAX])
{
	struct daemon *daemon = user;
	const int64_t id = control_int(request, "id", 0);
	struct observe_result result;
	int r = observe_ask(daemon->observe, (uint64_t)id, &result);

	(void)caller;
	if (r == -ENOENT)
		return commands_refuse(error, r,
				       "id: there is no such observation; one that nobody asks "
				       "about is dropped, and all are with a reload");
	if (r < 0)
		return commands_refuse(error, r, "the kernel's flows cannot be read: %s",
				       strerror(-r));
	json_object_begin(w, "plan");
	json_int(w, "id", id);
	json_string(w, "state", result.done ? "done" : "observing");
	json_int(w, "remaining_ms", result.remaining_us / 1000);
	write_question(w, result.question);
	json_bool(w, "lower_bound", result.lost || result.live_left_out || result.live_torn);
	json_uint(w, "lost", result.lost);
	json_uint(w, "live_left_out", result.live_left_out);
	write_left_out(w, &result.left_out);
	tally_write(w, result.groups, write_sums);
	json_object_end(w);
	return 0;
}
