/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * steerctl explain: which path a flow would take, and why. Each condition is asked of whoever
 * decides it (the model, the store's exceptions, the kernel itself) and written down as met or not;
 * all met means bypass, as in the kernel's rule.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/clock.h"
#include "commands.h"
#include "daemon.h"
#include "exceptions/active.h"
#include "explain_internal.h"
#include "settings/destinations.h"
#include "settings/settings_destinations.h"
#include "steering/plan.h"

/* A scope in a sentence is cut to this; and so many of a tenant are told of. */
#define EXPLAIN_PART_MAX 420
#define EXPLAIN_PARTS_MAX 8
#define EXPLAIN_LEFT_MAX 64
/* A sentence, with three texts of a record in it. */
#define EXPLAIN_REASON_MAX 1024

void explain_reason(struct question *q, bool met, const char *step, const char *format, ...)
{
	char text[EXPLAIN_REASON_MAX];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	json_object_begin(q->w, NULL);
	json_bool(q->w, "ok", met);
	json_string(q->w, "step", step);
	json_string(q->w, "text", text);
	json_object_end(q->w);
	q->all_met = q->all_met && met;
	if (!met && !q->missing)
		q->missing = step;
}

static bool parse_address(const char *text, struct address *ret)
{
	ret->family = strchr(text, ':') ? AF_INET6 : AF_INET;
	return inet_pton(ret->family, text, ret->bytes) == 1;
}

static bool has_address(const struct child_sa *child, const struct address *address)
{
	for (unsigned i = 0; i < child->range_count; i++)
		if (model_range_holds(&child->ranges[i], address))
			return true;
	return false;
}

/*
 * The child SA that may use an address. With two tenants on it the first shows; the conflict is told. All
 * child SAs are looked at only if the address is not one tenant's for certain.
 */
static const struct child_sa *find_by_address(struct daemon *daemon, const struct address *address)
{
	struct tenant *tenant = NULL;
	const enum owner owner = owners_find(daemon->core.owners, address, &tenant);
	const struct child_sa *child;

	if (owner == OWNER_NONE)
		return NULL;
	for (child = tenant ? tenant->children : NULL; child; child = child->tenant_next)
		if (has_address(child, address))
			return child;
	for (child = daemon->core.model.children; child; child = child->hh.next)
		if (has_address(child, address))
			return child;
	return NULL;
}

static int read_subject(struct question *q, const char *subject, char error[CONTROL_ERROR_MAX])
{
	if (!subject)
		return commands_refuse(error, -EINVAL,
				       "subject: expected a tenant name or an inner address");
	q->subject = subject;
	if (parse_address(subject, &q->address)) {
		q->child = find_by_address(q->daemon, &q->address);
		q->tenant = q->child ? q->child->tenant : NULL;
		return 0;
	}
	q->address.family = AF_UNSPEC;
	if (!tenant_name_valid(subject))
		return commands_refuse(error, -EINVAL,
				       "subject: expected a tenant name or an inner address");
	q->tenant = model_find_tenant(&q->daemon->core.model, subject);
	return 0;
}

static int read_destination(struct question *q, const char *dst, const char *proto,
			    char error[CONTROL_ERROR_MAX])
{
	struct address_range range;

	if (!dst)
		return proto ? commands_refuse(error, -EINVAL, "proto: needs dst") : 0;
	if (proto && strcmp(proto, "tcp") && strcmp(proto, "udp"))
		return commands_refuse(error, -EINVAL, "proto: expected tcp or udp");
	if (destination_parse_listener(dst, &range, &q->port) < 0)
		return commands_refuse(error, -EINVAL,
				       "dst: expected ADDRESS:PORT, [ADDRESS]:PORT for IPv6");
	q->destination.family = range.family;
	memcpy(q->destination.bytes, range.lo, sizeof(q->destination.bytes));
	q->protocol = proto && !strcmp(proto, "udp") ? IPPROTO_UDP : IPPROTO_TCP;
	return 0;
}

static int read_source_port(struct question *q, yajl_val request, char error[CONTROL_ERROR_MAX])
{
	const int64_t port = control_int(request, "source_port", -1);
	const char *path[] = { "source_port", NULL };

	if (!yajl_tree_get(request, path, yajl_t_any))
		return 0;
	if (port < 1 || port > UINT16_MAX)
		return commands_refuse(error, -EINVAL, "source_port: expected 1 to 65535");
	if (!q->protocol || q->address.family == AF_UNSPEC)
		return commands_refuse(error, -EINVAL,
				       "source_port: needs an inner address, and dst");
	q->source_port = (uint16_t)port;
	return 0;
}

static bool serves(const struct profile *profile, const struct question *q)
{
	return !q->protocol ||
	       settings_profile_covers(profile, q->protocol, q->port, &q->destination);
}

/* Does the exemption cover the flow, as far as the question says what flow it is? */
static bool covers(const struct question *q, const struct exemption *exemption)
{
	const struct scope *scope = exemption->scope;
	bool to = !scope || !scope->destination_count;

	if (!serves(&q->daemon->core.settings->profiles[exemption->profile], q))
		return false;
	for (unsigned i = 0; scope && i < scope->destination_count; i++)
		to = to || model_range_holds(&scope->destinations[i], &q->destination);
	if (!to)
		return false;
	if (!scope || scope->kind == SCOPE_TENANT)
		return true;
	if (scope->kind == SCOPE_USER)
		return q->child && !strcmp(q->child->identity, scope->identity);
	return model_range_holds(&scope->range, &q->address);
}

static bool is_before(const struct exemption *a, const struct exemption *b)
{
	return a->profile != b->profile ? a->profile < b->profile : a->until > b->until;
}

/* Of those that cover the flow the one whose rule comes first in the table, for the longest time; or NULL. */
static const struct exemption *find_exemption(const struct question *q)
{
	const struct exemption *found = NULL;

	for (unsigned i = 0; q->tenant && i < q->tenant->exemption_count; i++)
		if (covers(q, &q->tenant->exemptions[i]) &&
		    (!found || is_before(&q->tenant->exemptions[i], found)))
			found = &q->tenant->exemptions[i];
	return found;
}

static void explain_tenant(struct question *q)
{
	if (!q->tenant) {
		explain_reason(q, false, "connected", "no child SA of charon belongs to %s",
			       q->subject);
	} else if (!*q->tenant->name) {
		explain_reason(q, false, "identity", "the peer's tenant is not identified: %s",
			       q->child && *q->child->reason ? q->child->reason
							     : "no proven identity");
	} else if (!q->tenant->child_count) {
		explain_reason(q, false, "connected", "tenant %s is not connected",
			       q->tenant->name);
	} else {
		const struct child_sa *child = q->child ? q->child : q->tenant->children;

		explain_reason(q, true, "connected", "tenant %s, by %s \"%s\", child SAs: %zu",
			       q->tenant->name, child->identity_source, child->identity,
			       q->tenant->child_count);
	}
}

/* "host 198.18.1.5, to 203.0.113.0/24" */
static void write_scope(const struct scope *scope, char buf[EXPLAIN_PART_MAX])
{
	char part[SCOPE_TEXT_MAX], destinations[SCOPE_DESTINATIONS_TEXT_MAX];

	scope_text(scope, part);
	scope_destinations_text(scope, destinations);
	snprintf(buf, EXPLAIN_PART_MAX, "%.200s%s%.200s", part, *destinations ? ", to " : "",
		 destinations);
}

/* Exemptions that do not cover the flow, or only a part of what was asked about. */
static void explain_others(struct question *q)
{
	const struct settings *settings = q->daemon->core.settings;
	char part[EXPLAIN_PART_MAX];
	unsigned told = 0;

	for (unsigned i = 0; q->tenant && i < q->tenant->exemption_count; i++) {
		const struct exemption *exemption = &q->tenant->exemptions[i];

		if (!exemption->scope || told++ == EXPLAIN_PARTS_MAX)
			continue;
		write_scope(exemption->scope, part);
		explain_reason(
			q, false, "scope", "the exception for profile %s covers only: %s%s",
			settings->profiles[exemption->profile].name, part,
			model_scope_connected(exemption->scope, q->tenant)
				? ""
				: "; no child SA of the tenant has it, so it is not steered");
	}
}

/* Is there none, none for this service, or is it another part of the tenant, or another destination? */
static const char *uncovered_step(const struct question *q)
{
	if (!q->tenant || !q->tenant->exemption_count)
		return "exception";
	for (unsigned i = 0; i < q->tenant->exemption_count; i++)
		if (serves(&q->daemon->core.settings->profiles[q->tenant->exemptions[i].profile],
			   q))
			return "scope";
	return "service";
}

/* Of a flow that no exception covers. */
static void explain_uncovered(struct question *q)
{
	const char *protocol = q->protocol == IPPROTO_TCP ? "tcp" : "udp";
	struct address_range range = { .family = q->destination.family };
	const struct reserved_prefix *reserved;
	char text[DESTINATION_TEXT_MAX];

	memcpy(range.lo, q->destination.bytes, sizeof(range.lo));
	memcpy(range.hi, q->destination.bytes, sizeof(range.hi));
	destination_listener_text(&range, q->port, text);
	reserved = destination_reserved(&range);
	if (reserved)
		explain_reason(q, false, "destination", "%s is never a destination: %s is %s (%s)",
			       text, reserved->prefix, reserved->what, reserved->source);
	else
		explain_reason(q, false, uncovered_step(q), "no active exception covers %s %s%s",
			       protocol, text,
			       q->tenant && q->tenant->partial ? " from there" : "");
}

/* The record behind an exemption; false: the store does not say. */
static bool find_record(const struct question *q, struct exception *ret)
{
	const struct exemption *exemption = q->exemption;
	struct exceptions *exceptions = q->daemon->core.exceptions;
	const struct active *active = exemption ? exceptions_of(exceptions, q->tenant->name) : NULL;

	while (active && (active->unreadable || active->profile != (int)exemption->profile ||
			  scope_compare(active->scope, exemption->scope) != 0))
		active = active->tenant_next;
	return active && exceptions_store(exceptions) &&
	       store_find(exceptions_store(exceptions), active->id, ret) == 0;
}

static void write_left(int64_t until, char buf[EXPLAIN_LEFT_MAX])
{
	const long long min = (until - clock_boottime_us()) / 60000000;

	if (until == EXEMPT_FOREVER)
		strcpy(buf, "without an end");
	else
		snprintf(buf, EXPLAIN_LEFT_MAX, "%lld days %lld h %lld min left", min / 1440,
			 min / 60 % 24, min % 60);
}

/* Of the record as it is on disk: who answers for it, and for how long. */
static void explain_record(struct question *q, const struct exception *record)
{
	char left[EXPLAIN_LEFT_MAX];

	write_left(q->exemption->until, left);
	explain_reason(q, true, "exception",
		       "exception %llu: risk accepted by %s, granted by %s for %s, %s",
		       (unsigned long long)record->id, record->accepted_by, record->granted_by.name,
		       record->change_request, left);
	if (q->daemon->core.settings->pinning)
		explain_reason(
			q, true, "exception",
			"flows that began before it was granted, %lld min ago, stay enforced",
			(long long)(clock_wall_us() - record->granted.wall_us) / 60000000);
}

static void explain_exception(struct question *q, const struct exception *record)
{
	const struct settings *settings = q->daemon->core.settings;
	char part[EXPLAIN_PART_MAX];

	if (q->exemption) {
		const struct profile *profile = &settings->profiles[q->exemption->profile];

		write_scope(q->exemption->scope, part);
		explain_reason(q, true, "exception",
			       "an exception for profile %s is active (%s), path %s", profile->name,
			       part, settings->paths[profile->path].name);
		if (record)
			explain_record(q, record);
		return;
	}
	if (q->protocol)
		explain_uncovered(q);
	else
		explain_reason(
			q, false, q->tenant && q->tenant->partial ? "scope" : "exception", "%s",
			q->tenant && q->tenant->partial ? "no exception covers all of it; ask for "
							  "an inner address and --dst"
							: "no exception is active");
	explain_others(q);
}

static void explain_steering(struct question *q, int profile)
{
	const char *why;

	if (!steering_active(q->daemon->core.steering, &why)) {
		explain_reason(q, false, "steering", "steerd enforces for everybody: %s", why);
		return;
	}
	if (q->daemon->core.plan_problem)
		explain_reason(q, false, "steering", "steerd enforces for everybody: %s",
			       q->daemon->core.plan_problem);
	if (profile >= 0) {
		int left = steering_lease_remaining(q->daemon->core.steering, (unsigned)profile);

		explain_reason(q, left > 0, "lease", "the kernel holds the lease for another %d ms",
			       left > 0 ? left : 0);
	}
}

/* Of the sets of a profile in one mode, does one hold the flow's first packet? */
static bool is_held(const struct question *q, unsigned profile, const struct child_sa *child,
		    unsigned first, unsigned last)
{
	struct element_key packet = plan_sa_key(profile, child ? child->spi_in : 0);
	const uint32_t spi = htonl(child ? child->spi_in : 0);

	memcpy(packet.lo, q->address.bytes, sizeof(packet.lo));
	memcpy(packet.spi, &spi, sizeof(spi));
	if (q->destination.family == q->address.family)
		memcpy(packet.dst_lo, q->destination.bytes, sizeof(packet.dst_lo));
	for (packet.set = (uint8_t)first; packet.set <= last; packet.set++)
		if (element_shape(packet.set)->family == q->address.family &&
		    steering_holds(q->daemon->core.steering, &packet) == 1)
			return true;
	return false;
}

enum held { HELD_NOT, HELD_WHOLE, HELD_PART };

/* Is the child SA in the profile's sets, to the whole or with the address? */
static enum held child_held(const struct question *q, const struct child_sa *child,
			    unsigned profile)
{
	struct element_key key = plan_sa_key(profile, child->spi_in);

	if (steering_has_element(q->daemon->core.steering, &key) == 1)
		return HELD_WHOLE;
	key.set = SET_PART;
	return steering_has_element(q->daemon->core.steering, &key) == 1 &&
			       is_held(q, profile, child, SET_PART_HOST4, SET_PART_NET6)
		       ? HELD_PART
		       : HELD_NOT;
}

static void explain_child(struct question *q, const struct child_sa *child, unsigned profile)
{
	static const char *const sentences[] = {
		[HELD_NOT] = "is not in the kernel's set",
		[HELD_WHOLE] = "is in the kernel's set",
		[HELD_PART] = "with this address is in the kernel's sets",
	};
	const enum held held = child_held(q, child, profile);

	explain_reason(q, held != HELD_NOT, "kernel", "child SA %s, inbound SPI %08x: %s",
		       child->name, child->spi_in, sentences[held]);
}

bool explain_carried(const struct question *q, uint32_t mark)
{
	const struct settings *settings = q->daemon->core.settings;
	struct steering *steering = q->daemon->core.steering;

	for (unsigned i = 0; q->child && i < q->tenant->exemption_count; i++) {
		const struct exemption *exemption = &q->tenant->exemptions[i];
		const unsigned p = exemption->profile;

		if (settings->paths[settings->profiles[p].path].mark != mark ||
		    !covers(q, exemption) || steering_lease_remaining(steering, p) <= 0)
			continue;
		if (steering_mode(steering) == STEERING_SA
			    ? child_held(q, q->child, p) != HELD_NOT
			    : is_held(q, p, NULL, SET_HOST4, SET_PAIR6))
			return true;
	}
	return false;
}

/* Of a tenant that was named: a child SA that something is wrong with, if there is one. */
static const struct child_sa *choose_child(const struct question *q)
{
	const struct child_sa *child = q->child;

	if (!child && q->tenant->refused)
		DL_FOREACH2(q->tenant->children, child, tenant_next)
	if (child->spi_in == q->tenant->refused_spi)
		break;
	return child ? child : q->tenant->children;
}

static void explain_sa(struct question *q)
{
	const struct child_sa *child = choose_child(q);
	const char *sentence = sa_check_sentence(child->verdict);

	if (sentence)
		explain_reason(q, child->verdict == SA_UNSURE && child->steered, "sa",
			       "child SA %s, inbound SPI %08x: %s", child->name, child->spi_in,
			       sentence);
	if (q->exemption)
		explain_child(q, child, q->exemption->profile);
}

/* Without an address to ask the kernel about, what the plan says. */
static void explain_address(struct question *q, unsigned profile)
{
	const bool held = q->child ? is_held(q, profile, NULL, SET_HOST4, SET_PAIR6)
				   : q->tenant->steered > 0;

	explain_reason(q, held, "kernel", "its inner addresses are%s in the kernel's sets",
		       held ? "" : " not");
}

static void explain_kernel(struct question *q)
{
	if (!q->tenant || !q->tenant->child_count)
		return;
	if (q->tenant->conflict)
		explain_reason(q, false, "conflict",
			       "another tenant uses an address of this one, both are enforced");
	if (steering_mode(q->daemon->core.steering) == STEERING_SA)
		explain_sa(q);
	else if (q->exemption)
		explain_address(q, q->exemption->profile);
}

static int read_question(struct question *q, const struct control_caller *caller, yajl_val request,
			 char error[CONTROL_ERROR_MAX])
{
	int r = read_subject(q, control_string(request, "subject"), error);

	if (r == 0)
		r = read_destination(q, control_string(request, "dst"),
				     control_string(request, "proto"), error);
	if (r == 0)
		r = read_source_port(q, request, error);
	return r < 0 ? r : explain_flows_look(q, caller);
}

/* The exception as exceptions lists it, and what of it is for a machine, too. */
static void write_exception(const struct question *q, const struct exception *record)
{
	const struct settings *settings = q->daemon->core.settings;
	const struct exemption *exemption = q->exemption;
	const struct profile *profile = exemption ? &settings->profiles[exemption->profile] : NULL;

	json_string(q->w, "profile", profile ? profile->name : NULL);
	json_string(q->w, "path_name", profile ? settings->paths[profile->path].name : NULL);
	if (record)
		commands_write_exception(q->w, "exception", record);
	else
		json_string(q->w, "exception", NULL);
	if (exemption && exemption->until != EXEMPT_FOREVER)
		json_int(q->w, "remaining_s", (exemption->until - clock_boottime_us()) / 1000000);
	else
		json_string(q->w, "remaining_s", NULL);
}

/* flow: where the one flow that was asked about goes; NULL: it does not run, or is not pinned. */
static const char *summarise(const char *flow, bool bypass)
{
	if (!flow)
		return bypass ? "New flows go around the enforcement stage."
			      : "Flows go through the enforcement stage.";
	if (!strcmp(flow, "bypass"))
		return "The flow goes around the enforcement stage.";
	if (!strcmp(flow, "drop"))
		return "The flow is dropped.";
	return bypass ? "The flow goes through the enforcement stage, to its end; new flows go "
			"around it."
		      : "The flow goes through the enforcement stage.";
}

static void write_answer(struct question *q, const struct exception *record)
{
	const char *flow;
	bool bypass;

	json_string(q->w, "subject", q->subject);
	json_string(q->w, "tenant", q->tenant && *q->tenant->name ? q->tenant->name : NULL);
	json_array_begin(q->w, "reasons");
	explain_tenant(q);
	explain_exception(q, record);
	explain_kernel(q);
	explain_steering(q, q->exemption ? (int)q->exemption->profile : -1);
	bypass = q->all_met;
	flow = explain_flows_pinned(q);
	json_array_end(q->w);
	json_string(q->w, "path", flow ? flow : bypass ? "bypass" : "enforce");
	json_string(q->w, "new_flows", bypass ? "bypass" : "enforce");
	json_string(q->w, "missing_step", flow && !strcmp(flow, "bypass") ? NULL : q->missing);
	json_string(q->w, "summary", summarise(flow, bypass));
	write_exception(q, record);
	explain_flows_write(q, bypass);
}

int commands_explain(void *user, const struct control_caller *caller, yajl_val request,
		     struct json_writer *w, char error[CONTROL_ERROR_MAX])
{
	struct question q = { .daemon = user, .w = w, .all_met = true };
	struct exception record;
	int r;

	if (control_string(request, "at"))
		return explain_at(user, request, w, error);
	r = read_question(&q, caller, request, error);
	if (r < 0)
		return r;
	q.exemption = find_exemption(&q);
	json_object_begin(w, "explain");
	write_answer(&q, find_record(&q, &record) ? &record : NULL);
	json_object_end(w);
	return 0;
}
