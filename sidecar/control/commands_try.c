/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What may be asked about tries: begin one, see which flows used it. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "commands.h"
#include "daemon.h"
#include "settings/settings_destinations.h"

#define DEFAULT_PROFILE "any"
#define DEFAULT_S 600
/* In the command that is offered, unless the profile allows less. */
#define OFFERED_DAYS 30
#define COMMAND_MAX 8192

int commands_try(void *user, const struct control_caller *caller, yajl_val request,
		 struct json_writer *w, char error[CONTROL_ERROR_MAX])
{
	struct exception exception = { .kind = RECORD_KIND_TRY,
				       .profile = DEFAULT_PROFILE,
				       .expires_at_us = clock_wall_us() +
							INT64_C(1000000) * DEFAULT_S };
	struct daemon *daemon = user;
	int r = commands_read_grant(request, &exception, error);

	if (r == 0)
		r = commands_grant_record(daemon, caller, &exception, w, error);
	if (r == 0)
		core_watch_tries(&daemon->core);
	return r;
}

/* The report */

static const char *protocol_name(uint8_t protocol, char buf[8])
{
	snprintf(buf, 8, "%u", protocol);
	return protocol == IPPROTO_TCP ? "tcp" : protocol == IPPROTO_UDP ? "udp" : buf;
}

static void write_count(struct json_writer *w, const char *name, uint64_t count)
{
	if (count)
		json_uint(w, name, count);
	else
		json_string(w, name, NULL);
}

static void write_flows(struct json_writer *w, const struct try_report *report)
{
	char address[INET6_ADDRSTRLEN], protocol[8];

	json_array_begin(w, "flows");
	for (unsigned i = 0; i < report->count; i++) {
		const struct try_seen *seen = &report->seen[i];

		inet_ntop(seen->destination.family, seen->destination.bytes, address,
			  sizeof(address));
		json_object_begin(w, NULL);
		json_string(w, "protocol", protocol_name(seen->protocol, protocol));
		json_string(w, "destination", address);
		json_uint(w, "port", seen->port);
		json_uint(w, "flows", seen->flows);
		json_uint(w, "answered", seen->answered);
		write_count(w, "packets", seen->packets);
		write_count(w, "bytes", seen->bytes);
		json_object_end(w);
	}
	json_array_end(w);
	json_uint(w, "flows_missed", report->flows_missed + report->seen_missed);
}

/* The grant that fits */

static unsigned count_covered(const struct profile *profile, const struct try_report *report)
{
	unsigned count = 0;

	for (unsigned i = 0; i < report->count; i++)
		count += settings_profile_covers(profile, report->seen[i].protocol,
						 report->seen[i].port,
						 &report->seen[i].destination);
	return count;
}

/* Of those that can be granted, the one that covers most; of several that which lets least through. */
static const struct profile *find_fitting(const struct settings *settings,
					  const struct try_report *report, unsigned *ret_covered)
{
	const struct profile *best = NULL;

	*ret_covered = 0;
	for (unsigned p = 0; p < settings->profile_count; p++) {
		const struct profile *profile = &settings->profiles[p];
		const unsigned covered = count_covered(profile, report);

		if (profile->only_try || !covered || covered < *ret_covered ||
		    (covered == *ret_covered &&
		     settings_strength(settings, profile) <= settings_strength(settings, best)))
			continue;
		best = profile;
		*ret_covered = covered;
	}
	return best;
}

/* An option and its value, in quotes for the shell if it needs them. */
static void append_option(char *buf, size_t size, const char *option, const char *value)
{
	static const char *const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
					 "0123456789@%+=:,./_-";
	const bool quoted = value[strspn(value, plain)];
	size_t len = strlen(buf);

	len += (size_t)snprintf(buf + len, size - len, " %s %s", option, quoted ? "'" : "");
	for (; *value && len + 6 < size; value++)
		len += (size_t)snprintf(buf + len, size - len, *value == '\'' ? "'\\''" : "%c",
					*value);
	if (quoted)
		snprintf(buf + len, size - len, "'");
}

static void write_command(const struct exception *exception, const struct profile *profile,
			  char buf[COMMAND_MAX])
{
	const int64_t offered = INT64_C(86400) * OFFERED_DAYS, max = profile->max_lifetime_s;
	const bool host = strncmp(exception->scope, "host ", 5) == 0;
	char expires[32];

	snprintf(expires, sizeof(expires), "%llds",
		 (long long)(max && max < offered ? max : offered));
	snprintf(buf, COMMAND_MAX, "steerctl grant %s", exception->tenant);
	append_option(buf, COMMAND_MAX, "--profile", profile->name);
	append_option(buf, COMMAND_MAX, host ? "--host" : "--user", exception->scope + 5);
	append_option(buf, COMMAND_MAX, "--change-request", exception->change_request);
	append_option(buf, COMMAND_MAX, "--accepted-by", exception->accepted_by);
	append_option(buf, COMMAND_MAX, "--reason", exception->reason);
	append_option(buf, COMMAND_MAX, "--expires", !max || max >= offered ? "30d" : expires);
}

static void write_offer(struct json_writer *w, const struct settings *settings,
			const struct exception *exception, const struct try_report *report)
{
	unsigned covered;
	const struct profile *profile = find_fitting(settings, report, &covered);
	char command[COMMAND_MAX];

	if (profile)
		write_command(exception, profile, command);
	json_object_begin(w, "offer");
	json_string(w, "profile", profile ? profile->name : NULL);
	json_uint(w, "destinations_covered", covered);
	json_string(w, "command", profile ? command : NULL);
	json_object_end(w);
}

static const char *result_message(const struct daemon *daemon, bool known,
				  const struct try_report *report)
{
	if (!daemon->core.settings->pinning)
		return "pinning = none: flows have no mark, so which ones used it cannot be seen.";
	if (!known)
		return "Nothing is known of what used it: steerd was started anew since, or many "
		       "tries came after it.";
	if (!report->walks)
		return "The kernel's table of flows has not been read since it began.";
	if (!report->count)
		return "No new flow has used it. Flows that ran before stay where they were: start "
		       "the software anew.";
	return "These flows used it.";
}

static int find_try(struct daemon *daemon, int64_t id, struct exception *ret,
		    char error[CONTROL_ERROR_MAX])
{
	struct store *store = exceptions_store(daemon->core.exceptions);
	int r = -ENOENT;

	if (!store) {
		snprintf(error, CONTROL_ERROR_MAX, "%s",
			 exceptions_store_error(daemon->core.exceptions));
		return -EIO;
	}
	if (id > 0)
		r = store_find(store, (uint64_t)id, ret);
	if (r == 0 && record_is_try(ret))
		return 0;
	snprintf(error, CONTROL_ERROR_MAX,
		 r == 0 ? "id: exception %lld is a grant, not a try"
			: "id: there is no try %lld; steerctl exceptions --all lists them",
		 (long long)id);
	return -EINVAL;
}

int commands_try_result(void *user, const struct control_caller *caller, yajl_val request,
			struct json_writer *w, char error[CONTROL_ERROR_MAX])
{
	struct try_report report = { 0 };
	struct daemon *daemon = user;
	struct exception exception;
	int r = find_try(daemon, control_int(request, "id", 0), &exception, error);
	bool known;

	(void)caller;
	if (r < 0)
		return r;
	known = try_watch_report(daemon->core.tries, exception.id, &report) == 0;
	json_object_begin(w, "try");
	commands_write_exception(w, "exception", &exception);
	json_uint(w, "walks", report.walks);
	write_flows(w, &report);
	write_offer(w, daemon->core.settings, &exception, &report);
	json_object_end(w);
	json_string(w, "message", result_message(daemon, known, &report));
	return 0;
}
