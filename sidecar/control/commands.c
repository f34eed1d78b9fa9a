/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "commands.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <utlist.h>

#include "daemon.h"

/* A tenant with thousands of child SAs is listed with its first addresses only. */
#define LISTED_MAX 16

static const char *mode_name(enum steering_mode mode)
{
	return mode == STEERING_SA ? "sa" : mode == STEERING_ADDRESS ? "address" : "undecided";
}

static void write_publisher(struct daemon *daemon, struct json_writer *w)
{
	struct follow_status status = follow_status(daemon->follow);

	json_object_begin(w, "publisher");
	json_bool(w, "connected", status.heard);
	json_string(w, "epoch", *status.epoch ? status.epoch : NULL);
	json_uint(w, "seq", status.seq);
	json_uint(w, "gaps", status.gaps);
	json_uint(w, "resyncs", status.resyncs);
	json_int(w, "silent_ms", status.silent_ms);
	json_object_end(w);
}

static void write_counters(struct daemon *daemon, struct json_writer *w)
{
	const struct follow_status follow = follow_status(daemon->follow);
	const struct steering_counters steering = steering_counters(daemon->core.steering);
	const struct conntrack_counters conntrack = conntrack_counters(daemon->core.conntrack);
	const struct control_counters control = control_counters(daemon->control);
	const struct usage_counters usage = usage_counters(daemon->usage);
	const struct flow_find_counters looks = flow_find_counters(daemon->find);
	const struct observe_counters plans = observe_counters(daemon->observe);
	struct nft_counters packets = { 0 };
	struct sa_check_counters sas = { 0 };
	struct xfrm_counters xfrm = { 0 };

	if (daemon->core.check) {
		sas = sa_check_counters(daemon->core.check);
		xfrm = xfrm_counters(daemon->core.xfrm);
	}
	steering_packet_counters(daemon->core.steering, &packets);
	const struct {
		const char *name;
		uint64_t value;
	} rows[] = {
		{ "flows_bypassed", packets.first_packets },
		{ "packets_bypassed", packets.bypassed_packets },
		{ "packets_denied", packets.denied_packets },
		{ "events", follow.events },
		{ "events_unreadable", follow.unreadable },
		{ "events_dropped_by_publisher", follow.publisher_dropped },
		{ "child_sas_refused", daemon->core.model.refused },
		{ "kernel_commits", steering.commits },
		{ "kernel_failures", steering.failures },
		{ "kernel_repairs", steering.repairs },
		{ "elements_refused", elements_refused(daemon->core.elements) },
		{ "lease_renewals", steering.renewals },
		{ "routes_changed", steering.routes_changed },
		{ "kernel_sas", sas.states },
		{ "kernel_sas_refused", sas.refused },
		{ "kernel_sa_changes", xfrm.notifications },
		{ "kernel_sa_overruns", xfrm.overruns },
		{ "kernel_sa_failures", xfrm.failures },
		{ "kernel_sa_dumps", sas.dumps },
		{ "conntrack_removed", conntrack.removed },
		{ "conntrack_failed", conntrack.failed },
		{ "conntrack_collapsed", conntrack.collapsed },
		{ "accounting_flows", usage.flows },
		{ "accounting_unattributed", usage.unattributed },
		{ "accounting_lost", usage.losses.lost },
		{ "accounting_untracked", usage.losses.untracked },
		{ "accounting_dropped", usage.losses.dropped },
		{ "accounting_unreadable", usage.unreadable },
		{ "plan_observations", plans.under_way },
		{ "plan_refused", plans.refused },
		{ "plan_lost", plans.lost },
		{ "flow_lookups", looks.questions },
		{ "flow_lookup_walks", looks.walks },
		{ "flow_lookup_timeouts", looks.timeouts },
		{ "control_requests", control.requests },
		{ "control_refused_clients", control.refused_clients },
		{ "control_refused_requests", control.refused_requests },
		{ "control_denied_callers", control.denied_callers },
		{ "control_timeouts", control.timeouts },
	};
	json_object_begin(w, "counters");
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		json_uint(w, rows[i].name, rows[i].value);
	json_object_end(w);
}

static void write_totals(struct daemon *daemon, struct json_writer *w)
{
	size_t tenants = 0, steered = 0, conflicts = 0;
	const struct tenant *tenant;

	for (tenant = daemon->core.model.tenants; tenant; tenant = tenant->hh.next) {
		tenants += tenant->child_count && *tenant->name;
		steered += tenant->steered;
		conflicts += tenant->conflict || tenant->disputed;
	}
	json_uint(w, "child_sas", daemon->core.model.child_count);
	json_uint(w, "tenants", tenants);
	json_uint(w, "exempt_child_sas", steered);
	json_uint(w, "conflicts", conflicts);
	json_uint(w, "exceptions", exceptions_count(daemon->core.exceptions));
}

static void write_accounting(struct daemon *daemon, struct json_writer *w)
{
	const char *problem = usage_problem(daemon->usage);

	json_object_begin(w, "accounting");
	json_bool(w, "ok", !problem);
	json_string(w, "error", problem);
	json_object_end(w);
}

static int do_status(void *user, const struct control_caller *caller, yajl_val request,
		     struct json_writer *w, char error[CONTROL_ERROR_MAX])
{
	struct daemon *daemon = user;
	const char *reason, *store = exceptions_store_error(daemon->core.exceptions);
	bool active = steering_active(daemon->core.steering, &reason);

	(void)caller;
	(void)request;
	(void)error;
	json_object_begin(w, "status");
	json_string(w, "version", PACKAGE_VERSION);
	json_string(w, "mode", mode_name(steering_mode(daemon->core.steering)));
	json_string(w, "state", active && !daemon->core.plan_problem ? "steering" : "enforcing");
	json_string(w, "reason", active ? daemon->core.plan_problem : reason);
	json_bool(w, "verify_sa", daemon->core.check != NULL);
	write_publisher(daemon, w);
	write_totals(daemon, w);
	json_int(w, "lease_ms", daemon->core.settings->lease_ms);
	json_object_begin(w, "store");
	json_bool(w, "ok", !store);
	json_string(w, "error", store);
	json_object_end(w);
	write_accounting(daemon, w);
	write_counters(daemon, w);
	json_object_end(w);
	return 0;
}

/* The prefix length of a range that is a prefix, or -1. */
static int prefix_length(const struct address_range *range)
{
	const int bits = range->family == AF_INET ? 32 : 128;
	int length = 0;

	while (length < bits &&
	       !((range->lo[length / 8] ^ range->hi[length / 8]) & 0x80 >> length % 8))
		length++;
	for (int bit = length; bit < bits; bit++)
		if (range->lo[bit / 8] & 0x80 >> bit % 8 || !(range->hi[bit / 8] & 0x80 >> bit % 8))
			return -1;
	return length;
}

static void write_range(struct json_writer *w, const struct address_range *range)
{
	char lo[INET6_ADDRSTRLEN], hi[INET6_ADDRSTRLEN], text[2 * INET6_ADDRSTRLEN + 2];
	int length = prefix_length(range);

	inet_ntop(range->family, range->lo, lo, sizeof(lo));
	inet_ntop(range->family, range->hi, hi, sizeof(hi));
	if (!strcmp(lo, hi))
		snprintf(text, sizeof(text), "%s", lo);
	else if (length >= 0)
		snprintf(text, sizeof(text), "%s/%d", lo, length);
	else
		snprintf(text, sizeof(text), "%s-%s", lo, hi);
	json_string(w, NULL, text);
}

static void write_children(struct json_writer *w, const struct tenant *tenant)
{
	const struct child_sa *child;
	unsigned listed = 0;

	json_array_begin(w, "remote_hosts");
	for (child = tenant->children; child && listed < LISTED_MAX;
	     child = child->tenant_next, listed++)
		json_string(w, NULL, child->remote_host);
	json_array_end(w);
	listed = 0;
	json_array_begin(w, "addresses");
	for (child = tenant->children; child && listed < LISTED_MAX; child = child->tenant_next)
		for (unsigned i = 0; i < child->range_count && listed < LISTED_MAX; i++, listed++)
			write_range(w, &child->ranges[i]);
	json_array_end(w);
}

static bool is_exempt_in_part(const struct tenant *tenant, unsigned profile)
{
	for (unsigned i = 0; i < tenant->exemption_count; i++)
		if (tenant->exemptions[i].profile == profile && tenant->exemptions[i].scope)
			return true;
	return false;
}

static void write_tenant(struct daemon *daemon, struct json_writer *w, const struct tenant *tenant)
{
	const struct child_sa *first = tenant->children;

	json_object_begin(w, NULL);
	json_string(w, "tenant", *tenant->name ? tenant->name : NULL);
	json_uint(w, "child_sas", tenant->child_count);
	json_array_begin(w, "profiles");
	for (unsigned p = 0; p < daemon->core.settings->profile_count; p++)
		if (model_exempt_until(tenant, p))
			json_string(w, NULL, daemon->core.settings->profiles[p].name);
	json_array_end(w);
	json_array_begin(w, "part_profiles");
	for (unsigned p = 0; p < daemon->core.settings->profile_count; p++)
		if (is_exempt_in_part(tenant, p))
			json_string(w, NULL, daemon->core.settings->profiles[p].name);
	json_array_end(w);
	json_string(w, "steering",
		    tenant->conflict || tenant->disputed ? "conflict"
		    : tenant->steered                    ? "bypass"
							 : "enforce");
	write_children(w, tenant);
	json_string(w, "identity", first ? first->identity : NULL);
	json_string(w, "identity_source", first ? first->identity_source : NULL);
	json_object_end(w);
}

static int do_tenants(void *user, const struct control_caller *caller, yajl_val request,
		      struct json_writer *w, char error[CONTROL_ERROR_MAX])
{
	struct daemon *daemon = user;
	const struct tenant *tenant;

	(void)caller;
	(void)request;
	(void)error;
	json_array_begin(w, "tenants");
	for (tenant = daemon->core.model.tenants; tenant; tenant = tenant->hh.next)
		write_tenant(daemon, w, tenant);
	json_array_end(w);
	return 0;
}

int commands_refuse(char error[CONTROL_ERROR_MAX], int r, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(error, CONTROL_ERROR_MAX, format, args);
	va_end(args);
	return r;
}

static int do_events(void *user, const struct control_caller *caller, yajl_val request,
		     struct json_writer *w, char error[CONTROL_ERROR_MAX])
{
	struct daemon *daemon = user;
	int64_t since = control_int(request, "since", 0);

	(void)caller;
	if (since < 0)
		return commands_refuse(error, -EINVAL, "since: expected a seq, 0 or greater");
	stream_write_since(daemon->core.stream, (uint64_t)since, control_string(request, "tenant"),
			   w);
	return 0;
}

static int do_stream(void *user, const struct control_caller *caller, yajl_val request,
		     struct json_writer *w, char error[CONTROL_ERROR_MAX])
{
	struct daemon *daemon = user;

	(void)caller;
	(void)request;
	(void)error;
	json_object_begin(w, "stream");
	json_array_begin(w, "endpoints");
	for (unsigned i = 0; i < daemon->core.settings->bind_count; i++)
		json_string(w, NULL, daemon->core.settings->bind[i]);
	json_array_end(w);
	json_string(w, "epoch", stream_epoch(daemon->core.stream));
	json_uint(w, "seq", stream_seq(daemon->core.stream));
	json_object_end(w);
	return 0;
}

static int do_resync(void *user, const struct control_caller *caller, yajl_val request,
		     struct json_writer *w, char error[CONTROL_ERROR_MAX])
{
	struct daemon *daemon = user;

	(void)caller;
	(void)request;
	if (!follow_status(daemon->follow).heard)
		return commands_refuse(
			error, -EINVAL,
			"charon's plugin is silent; a snapshot is fetched when it is heard again");
	xfrm_resync(daemon->core.xfrm);
	follow_resync(daemon->follow);
	json_string(w, "message",
		    "A snapshot is being fetched and compared; steerctl watch shows resynced.");
	return 0;
}

/* clang-format off */
const struct control_command commands[] = {
	{ "status", do_status },
	{ "tenants", do_tenants },
	{ "exceptions", commands_exceptions },
	{ "profiles", commands_profiles },
	{ "risk", commands_risk },
	{ "grant", commands_grant },
	{ "try", commands_try },
	{ "try-result", commands_try_result },
	{ "change", commands_change },
	{ "revoke", commands_revoke },
	{ "export", commands_export },
	{ "apply-begin", commands_apply_begin },
	{ "apply-add", commands_apply_add },
	{ "apply-diff", commands_apply_diff },
	{ "apply-commit", commands_apply_commit },
	{ "history", commands_history },
	{ "audit", commands_audit },
	{ "audit-records", commands_audit_records },
	{ "explain", commands_explain },
	{ "doctor", commands_doctor },
	{ "report", commands_report },
	{ "plan", commands_plan },
	{ "plan-result", commands_plan_result },
	{ "events", do_events },
	{ "stream", do_stream },
	{ "resync", do_resync },
	{ NULL, NULL },
};
/* clang-format on */
