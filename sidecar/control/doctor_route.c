/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Checks of the way: interfaces, next hops, rules, routes, and the way back.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "doctor_internal.h"
#include "kernel/route.h"

#define FIX_MAX 512

static const int families[2] = { AF_INET, AF_INET6 };

/* Open a socket for one check. NULL: it was reported. */
static struct route *open_route(struct doctor *doctor)
{
	struct route *route = NULL;
	int err = route_open(doctor->question->settings, &route);

	if (err < 0)
		doctor_unable(doctor, "rtnetlink", err);
	return route;
}

static bool has_family(const struct path *path, int family)
{
	for (unsigned i = 0; path->table != 0 && i < path->via_count; i++)
		if (path->via[i].family == family)
			return true;
	return false;
}

static void check_link(struct doctor *doctor, struct route *route, const char *interface,
		       const char *role)
{
	int state = route_link_state(route, interface);
	char fix[FIX_MAX];

	snprintf(fix, sizeof(fix), "ip link set %s up", interface);
	if (state < 0)
		doctor_unable(doctor, interface, state);
	else if (state == ROUTE_LINK_MISSING)
		doctor_report(doctor, DOCTOR_ERROR, NULL, "interface %s, %s, does not exist",
			      interface, role);
	else if (state == ROUTE_LINK_DOWN)
		doctor_report(doctor, DOCTOR_ERROR, fix, "interface %s, %s, is down", interface,
			      role);
	else if (state == ROUTE_LINK_NO_CARRIER)
		doctor_report(doctor, DOCTOR_ERROR, NULL,
			      "interface %s, %s, has no carrier: its other end is down", interface,
			      role);
}

void doctor_check_interfaces(struct doctor *doctor)
{
	const struct settings *s = doctor->question->settings;
	struct route *route = open_route(doctor);
	char role[64];

	if (!route)
		return;
	/* In the other modes nothing is said about where the tenants' packets come from. */
	if (doctor_mode(doctor) == STEERING_ADDRESS)
		check_link(doctor, route, s->interface, "where userspace ESP delivers");
	for (unsigned p = 0; p < s->path_count; p++) {
		if (!s->paths[p].interface[0])
			continue;
		snprintf(role, sizeof(role), "of path %s", s->paths[p].name);
		check_link(doctor, route, s->paths[p].interface, role);
	}
	route_close(route);
}

void doctor_check_rules(struct doctor *doctor)
{
	struct route *route = open_route(doctor);
	struct route_conflict conflict;
	int found;

	if (!route)
		return;
	found = route_find_conflict(route, &conflict);
	if (found > 0)
		doctor_report(doctor, DOCTOR_ERROR, conflict.fix, "%s", conflict.what);
	else if (found < 0)
		doctor_unable(doctor, "rules and routes", found);
	route_close(route);
}

static void report_off_link(struct doctor *doctor, const struct path *path, const char *hop)
{
	char fix[FIX_MAX];

	snprintf(fix, sizeof(fix), "ip route add %s dev %s", hop, path->interface);
	doctor_report(doctor, DOCTOR_ERROR, path->interface[0] ? fix : NULL,
		      "path %s: the next hop %s is not on %s: no address or route there leads to "
		      "it directly",
		      path->name, hop, path->interface[0] ? path->interface : "any interface");
}

static void check_hop(struct doctor *doctor, struct route *route, const struct path *path,
		      const struct address *address)
{
	int state = route_hop_state(route, address, path->interface);
	char hop[INET6_ADDRSTRLEN], fix[FIX_MAX];

	inet_ntop(address->family, address->bytes, hop, sizeof(hop));
	switch (state) {
	case ROUTE_HOP_OK:
		break;
	case ROUTE_HOP_OFF_LINK:
		report_off_link(doctor, path, hop);
		break;
	case ROUTE_HOP_OWN:
		doctor_report(doctor, DOCTOR_ERROR, NULL,
			      "path %s: the next hop %s is an address of this gateway", path->name,
			      hop);
		break;
	case ROUTE_HOP_SILENT:
		/* What can be done here is to try it again. */
		snprintf(fix, sizeof(fix), "ip neighbour replace %s dev %s use", hop,
			 path->interface);
		doctor_report(doctor, DOCTOR_ERROR, path->interface[0] ? fix : NULL,
			      "path %s: the next hop %s does not answer: it or the link to it is "
			      "down, or its address is another one",
			      path->name, hop);
		break;
	default:
		doctor_unable(doctor, "the way to a next hop", state);
	}
}

/* A path whose interface is not up is reported by another check. */
static bool usable(struct route *route, const struct path *path)
{
	return path->table != 0 && (path->interface[0] == '\0' ||
				    route_link_state(route, path->interface) == ROUTE_LINK_UP);
}

void doctor_check_next_hops(struct doctor *doctor)
{
	const struct settings *s = doctor->question->settings;
	struct route *route = open_route(doctor);

	if (!route)
		return;
	for (unsigned p = 0; p < s->path_count; p++)
		for (unsigned i = 0; usable(route, &s->paths[p]) && i < s->paths[p].via_count; i++)
			check_hop(doctor, route, &s->paths[p], &s->paths[p].via[i]);
	route_close(route);
}

/* The command is steerd's own, so that what the kernel says against it can be read. */
static void report_route(struct doctor *doctor, const struct path *path, int family)
{
	char fix[FIX_MAX], hop[INET6_ADDRSTRLEN];
	int len = snprintf(fix, sizeof(fix), "ip %sroute replace default table %u proto %d",
			   family == AF_INET6 ? "-6 " : "", path->table, ROUTE_PROTOCOL);

	for (unsigned i = 0; i < path->via_count && len < FIX_MAX; i++) {
		if (path->via[i].family != family)
			continue;
		inet_ntop(family, path->via[i].bytes, hop, sizeof(hop));
		len += snprintf(fix + len, FIX_MAX - (size_t)len, " nexthop via %s%s%s", hop,
				path->interface[0] ? " dev " : "", path->interface);
	}
	doctor_report(doctor, DOCTOR_ERROR, len < FIX_MAX ? fix : NULL,
		      "path %s: table %u has no %s route to its next hops", path->name, path->table,
		      family == AF_INET6 ? "IPv6" : "IPv4");
}

void doctor_check_routes(struct doctor *doctor)
{
	const struct settings *s = doctor->question->settings;
	struct route *route;

	/* Made when the mode is decided, not before; a steerd that is not there made none. */
	if (!doctor->question->daemon || doctor->question->daemon->mode == STEERING_AUTO)
		return;
	route = open_route(doctor);
	if (!route)
		return;
	for (unsigned p = 0; p < s->path_count; p++) {
		for (unsigned f = 0; f < 2 && usable(route, &s->paths[p]); f++) {
			int ready = 1;

			if (has_family(&s->paths[p], families[f]))
				ready = route_path_ready(route, &s->paths[p], families[f]);
			if (ready < 0)
				doctor_unable(doctor, "a routing table", ready);
			else if (!ready)
				report_route(doctor, &s->paths[p], families[f]);
		}
	}
	route_close(route);
}

/* Without a reply mark there is nothing that src_valid_mark could look at. */
static void report_rp_filter(struct doctor *doctor, const struct path *path)
{
	const char *interface = path->interface[0] ? path->interface : "all";
	const bool marked = doctor->question->settings->pinning && path->interface[0];
	char fix[FIX_MAX], word[IFNAMSIZ];

	doctor_sysctl_word(interface, word);
	snprintf(fix, sizeof(fix), "sysctl -w net.ipv4.conf.%s.%s", word,
		 marked ? "src_valid_mark=1" : "rp_filter=2");
	doctor_report(doctor, DOCTOR_ERROR, fix,
		      "path %s: strict reverse-path filtering on %s drops the replies%s",
		      path->name, interface,
		      marked ? ", because src_valid_mark is off"
			     : ", and without pinning or an interface they carry no mark");
}

void doctor_check_rp_filter(struct doctor *doctor)
{
	const struct settings *s = doctor->question->settings;

	for (unsigned p = 0; p < s->path_count; p++)
		if (route_drops_replies(s, &s->paths[p]))
			report_rp_filter(doctor, &s->paths[p]);
}
