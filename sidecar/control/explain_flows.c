/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * steerctl explain, of flows that run: which there are, and which path each is pinned to by its ct mark. The
 * mark was given by the flow's first packet; whether that path still lets it pass is asked of the kernel.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "explain_internal.h"
#include "kernel/flow_find.h"

/* Flows that are listed, and that a sentence names; the others are counted. */
#define LISTED_MAX 16
#define NAMED_MAX 4
#define ENDPOINT_MAX (INET6_ADDRSTRLEN + 10)
#define SENTENCE_MAX 512
/* No mark, those of the paths, and any other one. */
#define GROUPS_MAX (SETTINGS_PATHS_MAX + 2)

/* Flows with one mark. */
struct group {
	uint32_t mark;
	const char *path;      /* "bypass", "enforce", "drop" */
	const char *path_name; /* NULL: no path has this mark */
	uint64_t count;
	const struct conntrack_flow *named[NAMED_MAX];
};

struct groups {
	unsigned count;
	struct group all[GROUPS_MAX];
};

int explain_flows_look(struct question *q, const struct control_caller *caller)
{
	struct flow_dump_filter filter = { .source = q->address,
					   .destination = q->destination,
					   .protocol = q->protocol,
					   .source_port = q->source_port,
					   .port = q->port };
	struct tenant *tenant;

	q->looked = q->protocol && q->address.family != AF_UNSPEC;
	if (!q->looked)
		return 0;
	/* Two tenants with one address may have the same flow in two zones. */
	filter.exact = q->source_port && !q->daemon->core.model.incomplete &&
		       owners_find(q->daemon->core.owners, &q->address, &tenant) != OWNER_SEVERAL;
	if (q->address.family != q->destination.family)
		q->look_error = -EAFNOSUPPORT;
	else
		q->look_error = flow_find_ask(q->daemon->find, caller->connection, caller->request,
					      &filter, &q->flows);
	if (q->look_error == 0)
		q->look_error = q->flows->error;
	return q->look_error == -EINPROGRESS ? -EINPROGRESS : 0;
}

static const char *path_name(const struct settings *settings, uint32_t mark)
{
	for (unsigned i = 0; i < settings->path_count; i++)
		if (settings->paths[i].mark == mark)
			return settings->paths[i].name;
	return NULL;
}

/* bypass: new flows do. */
static struct group group_of(const struct question *q, const struct conntrack_flow *flow,
			     bool bypass)
{
	const struct settings *settings = q->daemon->core.settings;
	struct group group = { .mark = flow->mark & settings->mark_mask };

	if (!settings->pinning)
		group.mark = 0;
	group.path_name = group.mark ? path_name(settings, group.mark) : NULL;
	if (!settings->pinning && bypass)
		group.path = "bypass";
	else if (!group.path_name)
		group.path = "enforce";
	else
		group.path = explain_carried(q, group.mark) ? "bypass" : "drop";
	return group;
}

static const struct group *get_group(const struct question *q, struct groups *groups,
				     const struct conntrack_flow *flow, bool bypass)
{
	const struct settings *settings = q->daemon->core.settings;
	const uint32_t mark = settings->pinning ? flow->mark & settings->mark_mask : 0;
	unsigned i = 0;

	while (i < groups->count && groups->all[i].mark != mark && i < GROUPS_MAX - 1)
		i++;
	if (i == groups->count) {
		groups->all[i] = group_of(q, flow, bypass);
		groups->count++;
	}
	if (groups->all[i].count < NAMED_MAX)
		groups->all[i].named[groups->all[i].count] = flow;
	groups->all[i].count++;
	return &groups->all[i];
}

static void write_endpoint(const struct conntrack_flow *flow, char buf[ENDPOINT_MAX])
{
	char address[INET6_ADDRSTRLEN];

	inet_ntop(flow->source.family, flow->source.bytes, address, sizeof(address));
	snprintf(buf, ENDPOINT_MAX, flow->source.family == AF_INET6 ? "[%s]:%u" : "%s:%u", address,
		 flow->source_port);
}

/* "2 flows from 198.18.1.5:50001, 198.18.1.5:50002 run" */
static void write_subject(const struct group *group, char buf[SENTENCE_MAX])
{
	char endpoint[ENDPOINT_MAX];
	size_t len = (size_t)snprintf(buf, SENTENCE_MAX, "%llu flow%s from",
				      (unsigned long long)group->count,
				      group->count == 1 ? "" : "s");

	for (unsigned i = 0; i < NAMED_MAX && i < group->count; i++) {
		write_endpoint(group->named[i], endpoint);
		len += (size_t)snprintf(buf + len, SENTENCE_MAX - len, "%s %s", i ? "," : "",
					endpoint);
		if (group->named[i]->zone)
			len += (size_t)snprintf(buf + len, SENTENCE_MAX - len, " in zone %u",
						group->named[i]->zone);
	}
	if (group->count > NAMED_MAX)
		len += (size_t)snprintf(buf + len, SENTENCE_MAX - len, " and others");
	snprintf(buf + len, SENTENCE_MAX - len, " run%s", group->count == 1 ? "s" : "");
}

/* To what it is pinned, and why. */
static void write_pinning(const struct question *q, const struct group *group, bool bypass,
			  char buf[SENTENCE_MAX])
{
	const struct settings *settings = q->daemon->core.settings;
	const char *they = group->count == 1 ? "it" : "they";

	if (!settings->pinning)
		snprintf(buf, SENTENCE_MAX,
			 "not pinned (pinning = none): each packet goes as that of a new flow");
	else if (!group->mark && bypass)
		snprintf(
			buf, SENTENCE_MAX,
			"pinned to enforcement since %s began before the kernel had the exception; "
			"new flows take bypass path %s",
			they, settings->paths[settings->profiles[q->exemption->profile].path].name);
	else if (!group->mark)
		snprintf(buf, SENTENCE_MAX, "pinned to enforcement: a grant changes nothing for %s",
			 group->count == 1 ? "it" : "them");
	else if (!group->path_name)
		snprintf(buf, SENTENCE_MAX, "enforced: no path has the conntrack mark 0x%08x",
			 group->mark);
	else
		snprintf(buf, SENTENCE_MAX, "pinned to bypass path %s%s", group->path_name,
			 strcmp(group->path, "drop")
				 ? ""
				 : " and dropped: no exception or lease lets its packets pass now");
}

/* One flow, that it runs, and why it goes where it goes. */
static void write_group(const struct question *q, const struct group *group, bool bypass,
			char buf[2 * SENTENCE_MAX + 2])
{
	char subject[SENTENCE_MAX], pinning[SENTENCE_MAX];

	write_subject(group, subject);
	write_pinning(q, group, bypass, pinning);
	snprintf(buf, 2 * SENTENCE_MAX + 2, "%s, %s", subject, pinning);
}

const char *explain_flows_pinned(struct question *q)
{
	const bool bypass = q->all_met;
	char text[2 * SENTENCE_MAX + 2];
	struct groups groups = { .count = 0 };
	const struct group *group;

	if (!q->source_port || q->look_error || !q->flows || q->flows->count != 1 ||
	    !q->daemon->core.settings->pinning)
		return NULL;
	group = get_group(q, &groups, &q->flows->flows[0], bypass);
	write_group(q, group, bypass, text);
	explain_reason(q, strcmp(group->path, "bypass") == 0, "pinning", "%s", text);
	return group->path;
}

/* The answer's member */

static void write_flow(const struct question *q, const struct conntrack_flow *flow,
		       const struct group *group)
{
	char address[INET6_ADDRSTRLEN];
	struct json_writer *w = q->w;

	json_object_begin(w, NULL);
	json_string(w, "source",
		    inet_ntop(flow->source.family, flow->source.bytes, address, sizeof(address)));
	json_uint(w, "source_port", flow->source_port);
	json_string(w, "destination",
		    inet_ntop(flow->destination.family, flow->destination.bytes, address,
			      sizeof(address)));
	json_uint(w, "port", flow->port);
	json_string(w, "protocol", flow->protocol == IPPROTO_UDP ? "udp" : "tcp");
	json_uint(w, "zone", flow->zone);
	json_string(w, "path", group->path);
	json_string(w, "path_name", group->path_name);
	json_bool(w, "pinned", q->daemon->core.settings->pinning);
	json_bool(w, "answered", flow->answered);
	if (flow->began_us)
		json_time(w, "began_at", flow->began_us);
	else
		json_string(w, "began_at", NULL);
	json_object_end(w);
}

static void write_list(const struct question *q, struct groups *groups, bool bypass)
{
	json_array_begin(q->w, "list");
	for (size_t i = 0; q->flows && i < q->flows->count; i++) {
		const struct conntrack_flow *flow = &q->flows->flows[i];
		const struct group *group = get_group(q, groups, flow, bypass);

		if (i < LISTED_MAX)
			write_flow(q, flow, group);
	}
	json_array_end(q->w);
}

static void write_counts(const struct question *q, const struct groups *groups)
{
	static const char *const paths[] = { "bypass", "enforce", "drop" };
	const uint64_t seen = q->flows ? q->flows->count : 0;
	const uint64_t count = seen + (q->flows ? q->flows->left_out : 0);

	json_uint(q->w, "count", count);
	json_uint(q->w, "not_listed", count - (seen < LISTED_MAX ? seen : LISTED_MAX));
	for (unsigned p = 0; p < 3; p++) {
		uint64_t of_path = 0;

		for (unsigned i = 0; i < groups->count; i++)
			if (!strcmp(groups->all[i].path, paths[p]))
				of_path += groups->all[i].count;
		json_uint(q->w, paths[p], of_path);
	}
}

/* What is missing in the answer, or NULL. */
static const char *find_problem(const struct question *q, char buf[SENTENCE_MAX])
{
	if (q->look_error == -ETIMEDOUT)
		snprintf(buf, SENTENCE_MAX,
			 "the look-up was cut short after %d s: conntrack's table is large, or "
			 "others "
			 "are asking; with --source-port it is one question",
			 FLOW_FIND_WAIT_US / 1000000);
	else if (q->look_error == -EAFNOSUPPORT)
		snprintf(buf, SENTENCE_MAX,
			 "no flow goes from an IPv4 to an IPv6 address, or the other way");
	else if (q->look_error)
		snprintf(buf, SENTENCE_MAX, "running flows could not be looked up: %s",
			 strerror(-q->look_error));
	else if (q->flows->left_out)
		snprintf(buf, SENTENCE_MAX, "%llu more run that were not looked at",
			 (unsigned long long)q->flows->left_out);
	else if (q->flows->torn)
		snprintf(buf, SENTENCE_MAX,
			 "conntrack's table was changed while it was read: some may be missing");
	else
		return NULL;
	return buf;
}

static void write_sentences(const struct question *q, const struct groups *groups, bool bypass,
			    const char *problem)
{
	char text[2 * SENTENCE_MAX + 2];

	json_array_begin(q->w, "sentences");
	for (unsigned i = 0; i < groups->count; i++) {
		write_group(q, &groups->all[i], bypass, text);
		json_string(q->w, NULL, text);
	}
	if (!groups->count && !q->look_error)
		json_string(q->w, NULL, "no such flow runs");
	if (problem)
		json_string(q->w, NULL, problem);
	json_array_end(q->w);
}

void explain_flows_write(const struct question *q, bool bypass)
{
	struct groups groups = { .count = 0 };
	char buf[SENTENCE_MAX];
	const char *problem;

	if (!q->looked) {
		json_string(q->w, "flows", NULL);
		return;
	}
	problem = find_problem(q, buf);
	json_object_begin(q->w, "flows");
	json_bool(q->w, "complete", !problem);
	json_string(q->w, "problem", problem);
	write_list(q, &groups, bypass);
	write_counts(q, &groups);
	write_sentences(q, &groups, bypass, problem);
	json_object_end(q->w);
}
