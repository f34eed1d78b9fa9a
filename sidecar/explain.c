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

#include "commands.h"
#include "daemon.h"
#include "destinations.h"
#include "plan.h"
#include "settings_destinations.h"

struct question {
	struct daemon *daemon;
	struct json_writer *w;
	const char *subject;
	struct tenant *tenant;
	const struct child_sa *child; /* by address; NULL when a tenant was named */
	struct address address;
	uint8_t protocol; /* 0: not asked */
	uint16_t port;
	struct address destination;
	bool all_met;
};

static void reason(struct question *q, bool met, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static void reason(struct question *q, bool met, const char *format, ...)
{
	char text[512];
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

static bool covers(const struct profile *profile, const struct question *q)
{
	return !q->protocol ||
	       settings_profile_covers(profile, q->protocol, q->port, &q->destination);
}

/* The profile by which the flow could bypass, or -1. */
static int find_profile(const struct question *q)
{
	const struct settings *settings = q->daemon->core.settings;

	for (unsigned p = 0; q->tenant && p < settings->profile_count; p++)
		if (model_exempt_until(q->tenant, p) && covers(&settings->profiles[p], q))
			return (int)p;
	return -1;
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
		reason(q, false, "no active exception covers %s %s", protocol, text);
}

static void explain_exception(struct question *q, int profile)
{
	const struct settings *settings = q->daemon->core.settings;

	if (profile >= 0)
		reason(q, true, "an exception for profile %s is active, path %s",
		       settings->profiles[profile].name,
		       settings->paths[settings->profiles[profile].path].name);
	else if (q->protocol)
		explain_uncovered(q);
	else
		reason(q, false, "no exception is active");
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

static void explain_child(struct question *q, const struct child_sa *child, int profile)
{
	struct element_key key = plan_sa_key((unsigned)profile, child->spi_in);
	int found = steering_has_element(q->daemon->core.steering, &key);

	reason(q, found == 1, "child SA %s, inbound SPI %08x: %s in the kernel's set", child->name,
	       child->spi_in, found == 1 ? "is" : "is not");
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

static void explain_sa(struct question *q, int profile)
{
	const struct child_sa *child = choose_child(q);
	const char *sentence = sa_check_sentence(child->verdict);

	if (sentence)
		reason(q, child->verdict == SA_UNSURE && child->steered,
		       "child SA %s, inbound SPI %08x: %s", child->name, child->spi_in, sentence);
	if (profile >= 0)
		explain_child(q, child, profile);
}

static void explain_kernel(struct question *q, int profile)
{
	if (!q->tenant || !q->tenant->child_count)
		return;
	if (q->tenant->conflict)
		reason(q, false, "another tenant uses an address of this one, both are enforced");
	if (steering_mode(q->daemon->core.steering) == STEERING_SA)
		explain_sa(q, profile);
	else if (profile >= 0)
		reason(q, q->child ? q->child->steered : q->tenant->steered > 0,
		       "its inner addresses are%s in the kernel's sets",
		       q->tenant->steered ? "" : " not");
}

int commands_explain(void *user, const struct control_caller *caller, yajl_val request,
		     struct json_writer *w, char error[CONTROL_ERROR_MAX])
{
	struct question q = { .daemon = user, .w = w, .all_met = true };
	int profile, r = read_subject(&q, control_string(request, "subject"), error);

	(void)caller;
	if (r == 0)
		r = read_destination(&q, control_string(request, "dst"),
				     control_string(request, "proto"), error);
	if (r < 0)
		return r;
	profile = find_profile(&q);
	json_object_begin(w, "explain");
	json_string(w, "subject", q.subject);
	json_string(w, "tenant", q.tenant && *q.tenant->name ? q.tenant->name : NULL);
	json_array_begin(w, "reasons");
	explain_tenant(&q);
	explain_exception(&q, profile);
	explain_kernel(&q, profile);
	explain_steering(&q, profile);
	json_array_end(w);
	json_string(w, "path", q.all_met ? "bypass" : "enforce");
	json_string(w, "summary",
		    q.all_met ? "New flows go around the enforcement stage."
			      : "Flows go through the enforcement stage.");
	json_object_end(w);
	return 0;
}
