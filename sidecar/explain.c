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

#include "active.h"
#include "clock.h"
#include "commands.h"
#include "daemon.h"
#include "destinations.h"
#include "plan.h"
#include "settings_destinations.h"

/* A scope in a sentence is cut to this; and so many of a tenant are told of. */
#define EXPLAIN_PART_MAX 420
#define EXPLAIN_PARTS_MAX 8
#define EXPLAIN_LEFT_MAX 64
/* A sentence, with three texts of a record in it. */
#define EXPLAIN_REASON_MAX 1024

struct question {
	struct daemon *daemon;
	struct json_writer *w;
	const char *subject;
	struct tenant *tenant;
	const struct child_sa *child; /* by address; NULL when a tenant was named */
	struct address address;       /* AF_UNSPEC: a tenant was named */
	struct address destination;   /* AF_UNSPEC: not asked */
	uint8_t protocol;             /* 0: not asked */
	uint16_t port;
	bool all_met;
};

static void reason(struct question *q, bool met, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static void reason(struct question *q, bool met, const char *format, ...)
{
	char text[EXPLAIN_REASON_MAX];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	json_object_begin(q->w, NULL);
	json_bool(q->w, "ok", met);
	json_string(q->w, "text", text);
	json_object_end(q->w);
	q->all_met = q->all_met && met;
}

static int refuse(char error[CONTROL_ERROR_MAX], const char *sentence)
{
	snprintf(error, CONTROL_ERROR_MAX, "%s", sentence);
	return -EINVAL;
}

static bool parse_address(const char *text, struct address *ret)
{
	ret->family = strchr(text, ':') ? AF_INET6 : AF_INET;
	return inet_pton(ret->family, text, ret->bytes) == 1;
}

/* The child SA that may use an address. With two tenants on it the first shows; the conflict is
 * told. */
static const struct child_sa *find_by_address(struct daemon *daemon, const struct address *address)
{
	const struct child_sa *child;

	for (child = daemon->core.model.children; child; child = child->hh.next)
		for (unsigned i = 0; i < child->range_count; i++)
			if (model_range_holds(&child->ranges[i], address))
				return child;
	return NULL;
}

static int read_subject(struct question *q, const char *subject, char error[CONTROL_ERROR_MAX])
{
	if (!subject)
		return refuse(error, "subject: expected a tenant name or an inner address");
	q->subject = subject;
	if (parse_address(subject, &q->address)) {
		q->child = find_by_address(q->daemon, &q->address);
		q->tenant = q->child ? q->child->tenant : NULL;
		return 0;
	}
	q->address.family = AF_UNSPEC;
	if (!tenant_name_valid(subject))
		return refuse(error, "subject: expected a tenant name or an inner address");
	q->tenant = model_find_tenant(&q->daemon->core.model, subject);
	return 0;
}

static int read_destination(struct question *q, const char *dst, const char *proto,
			    char error[CONTROL_ERROR_MAX])
{
	struct address_range range;

	if (!dst)
		return 0;
	if (proto && strcmp(proto, "tcp") && strcmp(proto, "udp"))
		return refuse(error, "proto: expected tcp or udp");
	if (destination_parse_listener(dst, &range, &q->port) < 0)
		return refuse(error, "dst: expected ADDRESS:PORT, [ADDRESS]:PORT for IPv6");
	q->destination.family = range.family;
	memcpy(q->destination.bytes, range.lo, sizeof(q->destination.bytes));
	q->protocol = proto && !strcmp(proto, "udp") ? IPPROTO_UDP : IPPROTO_TCP;
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

/* The one that covers the flow for the longest time, or NULL. */
static const struct exemption *find_exemption(const struct question *q)
{
	const struct exemption *found = NULL;

	for (unsigned i = 0; q->tenant && i < q->tenant->exemption_count; i++)
		if (covers(q, &q->tenant->exemptions[i]) &&
		    (!found || found->until < q->tenant->exemptions[i].until))
			found = &q->tenant->exemptions[i];
	return found;
}

static void explain_tenant(struct question *q)
{
	if (!q->tenant) {
		reason(q, false, "no child SA of charon belongs to %s", q->subject);
	} else if (!*q->tenant->name) {
		reason(q, false, "the peer's tenant is not identified: %s",
		       q->child && *q->child->reason ? q->child->reason : "no proven identity");
	} else if (!q->tenant->child_count) {
		reason(q, false, "tenant %s is not connected", q->tenant->name);
	} else {
		const struct child_sa *child = q->child ? q->child : q->tenant->children;

		reason(q, true, "tenant %s, by %s \"%s\", child SAs: %zu", q->tenant->name,
		       child->identity_source, child->identity, q->tenant->child_count);
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
		reason(q, false, "the exception for profile %s covers only: %s%s",
		       settings->profiles[exemption->profile].name, part,
		       model_scope_connected(exemption->scope, q->tenant)
			       ? ""
			       : "; no child SA of the tenant has it, so it is not steered");
	}
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
		reason(q, false, "%s is never a destination: %s is %s (%s)", text, reserved->prefix,
		       reserved->what, reserved->source);
	else
		reason(q, false, "no active exception covers %s %s%s", protocol, text,
		       q->tenant && q->tenant->partial ? " from there" : "");
}

/* The record behind an exemption; false: the store does not say. */
static bool find_record(const struct question *q, const struct exemption *exemption,
			struct exception *ret)
{
	struct exceptions *exceptions = q->daemon->core.exceptions;
	const struct active *active = exceptions_of(exceptions, q->tenant->name);

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
static void explain_record(struct question *q, const struct exemption *exemption)
{
	struct exception record;
	char left[EXPLAIN_LEFT_MAX];

	if (!find_record(q, exemption, &record))
		return;
	write_left(exemption->until, left);
	reason(q, true, "exception %llu: risk accepted by %s, granted by %s for %s, %s",
	       (unsigned long long)record.id, record.accepted_by, record.granted_by.name,
	       record.change_request, left);
	if (q->daemon->core.settings->pinning)
		reason(q, true,
		       "flows that began before it was granted, %lld min ago, stay enforced",
		       (long long)(clock_wall_us() - record.granted.wall_us) / 60000000);
}

static void explain_exception(struct question *q, const struct exemption *exemption)
{
	const struct settings *settings = q->daemon->core.settings;
	char part[EXPLAIN_PART_MAX];

	if (exemption) {
		const struct profile *profile = &settings->profiles[exemption->profile];

		write_scope(exemption->scope, part);
		reason(q, true, "an exception for profile %s is active (%s), path %s",
		       profile->name, part, settings->paths[profile->path].name);
		explain_record(q, exemption);
		return;
	}
	if (q->protocol)
		explain_uncovered(q);
	else
		reason(q, false,
		       q->tenant && q->tenant->partial
			       ? "no exception covers all of it; ask for an inner address and --dst"
			       : "no exception is active");
	explain_others(q);
}

static void explain_steering(struct question *q, int profile)
{
	const char *why;

	if (!steering_active(q->daemon->core.steering, &why)) {
		reason(q, false, "steerd enforces for everybody: %s", why);
		return;
	}
	if (q->daemon->core.plan_problem)
		reason(q, false, "steerd enforces for everybody: %s", q->daemon->core.plan_problem);
	if (profile >= 0) {
		int left = steering_lease_remaining(q->daemon->core.steering, (unsigned)profile);

		reason(q, left > 0, "the kernel holds the lease for another %d ms",
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

static void explain_child(struct question *q, const struct child_sa *child, unsigned profile)
{
	struct element_key key = plan_sa_key(profile, child->spi_in);
	int found = steering_has_element(q->daemon->core.steering, &key);
	bool part = false;

	key.set = SET_PART;
	if (found != 1 && steering_has_element(q->daemon->core.steering, &key) == 1)
		part = is_held(q, profile, child, SET_PART_HOST4, SET_PART_NET6);
	reason(q, found == 1 || part, "child SA %s, inbound SPI %08x: %s", child->name,
	       child->spi_in,
	       found == 1 ? "is in the kernel's set"
	       : part     ? "with this address is in the kernel's sets"
			  : "is not in the kernel's set");
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

static void explain_sa(struct question *q, const struct exemption *exemption)
{
	const struct child_sa *child = choose_child(q);
	const char *sentence = sa_check_sentence(child->verdict);

	if (sentence)
		reason(q, child->verdict == SA_UNSURE && child->steered,
		       "child SA %s, inbound SPI %08x: %s", child->name, child->spi_in, sentence);
	if (exemption)
		explain_child(q, child, exemption->profile);
}

/* Without an address to ask the kernel about, what the plan says. */
static void explain_address(struct question *q, unsigned profile)
{
	const bool held = q->child ? is_held(q, profile, NULL, SET_HOST4, SET_PAIR6)
				   : q->tenant->steered > 0;

	reason(q, held, "its inner addresses are%s in the kernel's sets", held ? "" : " not");
}

static void explain_kernel(struct question *q, const struct exemption *exemption)
{
	if (!q->tenant || !q->tenant->child_count)
		return;
	if (q->tenant->conflict)
		reason(q, false, "another tenant uses an address of this one, both are enforced");
	if (steering_mode(q->daemon->core.steering) == STEERING_SA)
		explain_sa(q, exemption);
	else if (exemption)
		explain_address(q, exemption->profile);
}

int commands_explain(void *user, const struct control_caller *caller, yajl_val request,
		     struct json_writer *w, char error[CONTROL_ERROR_MAX])
{
	struct question q = { .daemon = user, .w = w, .all_met = true };
	const struct exemption *exemption;
	int r;

	(void)caller;
	if (control_string(request, "at"))
		return explain_at(user, request, w, error);
	r = read_subject(&q, control_string(request, "subject"), error);
	if (r == 0)
		r = read_destination(&q, control_string(request, "dst"),
				     control_string(request, "proto"), error);
	if (r < 0)
		return r;
	exemption = find_exemption(&q);
	json_object_begin(w, "explain");
	json_string(w, "subject", q.subject);
	json_string(w, "tenant", q.tenant && *q.tenant->name ? q.tenant->name : NULL);
	json_array_begin(w, "reasons");
	explain_tenant(&q);
	explain_exception(&q, exemption);
	explain_kernel(&q, exemption);
	explain_steering(&q, exemption ? (int)exemption->profile : -1);
	json_array_end(w);
	json_string(w, "path", q.all_met ? "bypass" : "enforce");
	json_string(w, "summary",
		    q.all_met ? "New flows go around the enforcement stage."
			      : "Flows go through the enforcement stage.");
	json_object_end(w);
	return 0;
}
