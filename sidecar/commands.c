/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "commands.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <utlist.h>

#include "clock.h"
#include "daemon.h"
#include "log.h"
#include "risk.h"

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

static const char *exception_state(const struct exception *exception)
{
	if (exception->expires_at_us && exception->expires_at_us <= clock_wall_us() &&
	    (!exception->ended_at_us || exception->ended_at_us >= exception->expires_at_us))
		return "expired";
	return exception->ended_at_us ? "revoked" : "active";
}

static void write_time(struct json_writer *w, const char *key, int64_t usec)
{
	if (usec)
		json_time(w, key, usec);
	else
		json_string(w, key, NULL);
}

static void write_exception_members(struct json_writer *w, const struct exception *exception)
{
	const bool ended = exception->ended_at_us;

	json_uint(w, "id", exception->id);
	json_string(w, "tenant", exception->tenant);
	json_string(w, "profile", exception->profile);
	json_string(w, "state", exception_state(exception));
	json_string(w, "change_request", exception->change_request);
	json_string(w, "accepted_by", exception->accepted_by);
	json_string(w, "granted_by", exception->granted_by);
	write_time(w, "granted_at", exception->granted_at_us);
	write_time(w, "expires_at", exception->expires_at_us);
	write_time(w, "ended_at", exception->ended_at_us);
	json_string(w, "ended_by", ended ? exception->ended_by : NULL);
	json_string(w, "reason", ended ? exception->end_reason : NULL);
}

static void write_exception(const struct exception *exception, void *w)
{
	json_object_begin(w, NULL);
	write_exception_members(w, exception);
	json_object_end(w);
}

static int do_exceptions(void *user, const struct control_caller *caller, yajl_val request,
			 struct json_writer *w, char error[CONTROL_ERROR_MAX])
{
	struct daemon *daemon = user;
	int r;

	(void)caller;
	json_array_begin(w, "exceptions");
	r = exceptions_each(daemon->core.exceptions, control_bool(request, "all"), write_exception,
			    w);
	json_array_end(w);
	if (r < 0)
		snprintf(error, CONTROL_ERROR_MAX, "%s",
			 exceptions_store_error(daemon->core.exceptions));
	return r;
}

static int refuse(char error[CONTROL_ERROR_MAX], const char *sentence)
{
	snprintf(error, CONTROL_ERROR_MAX, "%s", sentence);
	return -EINVAL;
}

static int copy_text(char *out, size_t size, const char *text)
{
	if (!text || !*text || strlen(text) >= size)
		return -EINVAL;
	strcpy(out, text);
	return 0;
}

/* 0 s or less would be an exception that never was; ten years is longer than any change request. */
#define EXPIRES_MAX_S (INT64_C(10) * 366 * 86400)

static int read_grant(yajl_val request, struct exception *ret, char error[CONTROL_ERROR_MAX])
{
	int64_t expires_s = control_int(request, "expires_s", INT64_MIN);

	if (!tenant_name_valid(control_string(request, "tenant")))
		return refuse(error, "tenant: not a tenant name; expected 1 to 128 characters of "
				     "A-Za-z0-9._@:- or %XX");
	if (!control_bool(request, "accept_risk") || !control_string(request, "change_request") ||
	    !control_string(request, "accepted_by"))
		return refuse(error, RISK_NEEDED);
	if (copy_text(ret->tenant, sizeof(ret->tenant), control_string(request, "tenant")) ||
	    copy_text(ret->profile, sizeof(ret->profile), control_string(request, "profile")))
		return refuse(
			error,
			"profile: expected the name of a profile; steerctl profiles lists them");
	if (copy_text(ret->change_request, sizeof(ret->change_request),
		      control_string(request, "change_request")) ||
	    copy_text(ret->accepted_by, sizeof(ret->accepted_by),
		      control_string(request, "accepted_by")))
		return refuse(error, "change_request, accepted_by: expected 1 to 255 bytes each");
	if (expires_s == INT64_MIN)
		return 0;
	if (expires_s <= 0 || expires_s > EXPIRES_MAX_S)
		return refuse(error, "expires_s: expected 1 second to 10 years");
	ret->expires_at_us = clock_wall_us() + expires_s * 1000000;
	return 0;
}

/* Such a profile is one that only a test, which ends by itself, can be made of. */
static bool is_only_for_try(const struct daemon *daemon, const char *name)
{
	const int profile = settings_profile_index(daemon->core.settings, name);

	return profile >= 0 && daemon->core.settings->profiles[profile].only_try;
}

static void publish_grant(struct daemon *daemon, const struct exception *exception)
{
	const int profile = settings_profile_index(daemon->core.settings, exception->profile);
	const struct event ev = {
		.type = EVENT_EXCEPTION_GRANTED,
		.tenant = exception->tenant,
		.profile = exception->profile,
		.path = daemon->core.settings->paths[daemon->core.settings->profiles[profile].path]
				.name,
		.actor = exception->granted_by,
		.change_request = exception->change_request,
		.accepted_by = exception->accepted_by,
		.expires_us = exception->expires_at_us,
		.exception_id = exception->id,
	};

	stream_publish(daemon->core.stream, &ev);
}

/* The tenant's own words, in a sentence an operator can act on. */
static const char *grant_message(struct daemon *daemon, const struct tenant *tenant)
{
	const char *reason;

	if (!tenant || !tenant->child_count)
		return "This tenant is not connected now and may never have been: check the name. "
		       "The "
		       "exception takes effect when it connects.";
	if (!steering_active(daemon->core.steering, &reason))
		return "Granted, but nothing is steered now; see steerctl status.";
	if (tenant->conflict)
		return "Granted, but another tenant uses the same address: both are enforced.";
	if (tenant->disputed)
		return "Granted, but an SPI of the tenant is also somebody else's: both are "
		       "enforced.";
	return "New flows of the profile take the path from now on; flows that run stay where they "
	       "are.";
}

static int do_grant(void *user, const struct control_caller *caller, yajl_val request,
		    struct json_writer *w, char error[CONTROL_ERROR_MAX])
{
	struct daemon *daemon = user;
	struct exception exception = { 0 };
	const struct tenant *tenant;
	const char *why = "";
	int r = read_grant(request, &exception, error);

	if (r < 0)
		return r;
	if (is_only_for_try(daemon, exception.profile))
		return refuse(error,
			      "profile: this one is only for steerctl try (only_for); expected "
			      "another one, steerctl profiles lists them");
	snprintf(exception.granted_by, sizeof(exception.granted_by), "%s", caller->name);
	core_expire(&daemon->core);
	r = exceptions_grant(daemon->core.exceptions, &exception, &why);
	if (r < 0) {
		snprintf(error, CONTROL_ERROR_MAX, "%s: %s", exception.tenant, why);
		return r;
	}
	publish_grant(daemon, &exception);
	core_settle(&daemon->core);
	log_info("exceptions", "%llu: \"%s\" granted to \"%s\" by %s",
		 (unsigned long long)exception.id, exception.profile, exception.tenant,
		 caller->name);
	tenant = model_find_tenant(&daemon->core.model, exception.tenant);
	json_object_begin(w, "exception");
	write_exception_members(w, &exception);
	json_object_end(w);
	json_bool(w, "tenant_known", tenant && tenant->child_count);
	json_uint(w, "child_sas", tenant ? tenant->child_count : 0);
	json_string(w, "message", grant_message(daemon, tenant));
	return 0;
}

static void publish_revocation(struct daemon *daemon, const char *tenant,
			       const struct revoked *revoked, const char *reason, const char *actor)
{
	const struct event ev = { .type = EVENT_EXCEPTION_REVOKED,
				  .tenant = tenant,
				  .profile = revoked->profile,
				  .reason = reason,
				  .actor = actor,
				  .exception_id = revoked->id };

	stream_publish(daemon->core.stream, &ev);
}

static const char *revoke_message(int kernel, int disk)
{
	if (kernel < 0)
		return "Revoked. The kernel refused the change; the lease ends all bypassing "
		       "within seconds.";
	if (disk < 0)
		return "Revoked in the kernel, but NOT YET ON DISK: steerd goes on trying. If it "
		       "is "
		       "restarted before it succeeds, the exception is back. See steerctl status.";
	return "Revoked: the next packet of every flow concerned is enforced.";
}

static int do_revoke(void *user, const struct control_caller *caller, yajl_val request,
		     struct json_writer *w, char error[CONTROL_ERROR_MAX])
{
	struct daemon *daemon = user;
	const char *tenant = control_string(request, "tenant");
	const char *profile = control_string(request, "profile");
	const char *reason = control_string(request, "reason");
	struct revoked revoked[SETTINGS_PROFILES_MAX];
	unsigned count;
	int kernel, disk;

	if (!tenant_name_valid(tenant))
		return refuse(error, "tenant: expected a tenant name");
	if (!reason || !*reason || strlen(reason) >= STORE_TEXT_MAX)
		return refuse(error, "reason: expected 1 to 255 bytes");
	count = exceptions_revoke(daemon->core.exceptions, tenant, profile, caller->name, reason,
				  revoked);
	if (!count)
		return refuse(error,
			      profile ? "the tenant has no active exception for this profile; "
					"steerctl exceptions lists them"
				      : "the tenant has no active exception; steerctl exceptions "
					"lists them");
	/* The kernel first: a disk may take milliseconds, or not answer at all. */
	kernel = core_settle_revocation(&daemon->core);
	disk = exceptions_settle(daemon->core.exceptions);
	json_array_begin(w, "revoked");
	for (unsigned i = 0; i < count; i++) {
		json_object_begin(w, NULL);
		json_uint(w, "id", revoked[i].id);
		json_string(w, "tenant", tenant);
		json_string(w, "profile", revoked[i].profile);
		json_object_end(w);
		publish_revocation(daemon, tenant, &revoked[i], reason, caller->name);
	}
	json_array_end(w);
	json_string(w, "message", revoke_message(kernel, disk));
	log_info("exceptions", "%u of \"%s\" revoked by %s", count, tenant, caller->name);
	return 0;
}

static int do_events(void *user, const struct control_caller *caller, yajl_val request,
		     struct json_writer *w, char error[CONTROL_ERROR_MAX])
{
	struct daemon *daemon = user;
	int64_t since = control_int(request, "since", 0);

	(void)caller;
	if (since < 0)
		return refuse(error, "since: expected a seq, 0 or greater");
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
		return refuse(
			error,
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
	{ "exceptions", do_exceptions },
	{ "profiles", commands_profiles },
	{ "grant", do_grant },
	{ "revoke", do_revoke },
	{ "explain", commands_explain },
	{ "doctor", commands_doctor },
	{ "events", do_events },
	{ "stream", do_stream },
	{ "resync", do_resync },
	{ NULL, NULL },
};
/* clang-format on */
