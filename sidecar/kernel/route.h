/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * steerd's FIB rules and routes, by libnl-route. For every path with a table, IPv4 and IPv6 each
 * (only families that have a next hop in via):
 *
 *     ip rule add priority P   fwmark MARK/MASK [iif IF] lookup TABLE protocol 93
 *     ip rule add priority P   fwmark REPLY_MARK/MASK iif PATH_IF goto P+2 protocol 93
 *     ip rule add priority P+1 fwmark REPLY_MARK/MASK lookup TABLE protocol 93
 *     ip rule add priority P+2 iif lo nop protocol 93
 *     ip route add default table TABLE protocol 93 nexthop via A dev D nexthop via B dev D
 *
 * P+1 answers only reverse-path lookups: with net.ipv4.conf.*.src_valid_mark a reply that comes in
 * from the path passes strict filtering, while the reply itself jumps over it and is never routed
 * by TABLE (route_rule.c says how they are told apart). A path that names no interface has no such
 * rules. iif IF (settings->interface) is used in address mode for the same reason: the tenant's
 * own packets must not be looked up backwards in TABLE. (In SA mode the kernel does not filter
 * decapsulated packets by reverse path.)
 *
 * Observed and desired are compared by value; what is missing is added, what carries our
 * protocol id and is not desired is removed, everything else is foreign and left alone. One thread.
 */
#ifndef TENANT_STEER_ROUTE_H
#define TENANT_STEER_ROUTE_H

#include <stdbool.h>

#include "settings/settings.h"

/* rtm_protocol and FRA_PROTOCOL of everything we make; unassigned in linux/rtnetlink.h. */
#define ROUTE_PROTOCOL 93

/* What is added to steering.rule_priority: three priorities in a row are ours. */
#define ROUTE_PRIORITY_REPLY 1
#define ROUTE_PRIORITY_END 2

#define ROUTE_ERROR_MAX 256

struct route;

int route_open(const struct settings *settings, struct route **ret_route);
void route_close(struct route *route); /* takes NULL; leaves rules and routes */

/*
 * Before anything is programmed: is what we are about to use free? -EBUSY with a sentence that
 * names it: a foreign rule at our priority, a foreign rule that matches on a mark bit of
 * ours, a foreign route in one of our tables.
 */
int route_check_free(struct route *route, char error[ROUTE_ERROR_MAX]);

/*
 * The same question, with the ip(8) command that removes what is in the way. 1 and *ret_conflict
 * filled with the first one, 0, or a negative errno.
 */
struct route_conflict {
	char what[ROUTE_ERROR_MAX];
	char fix[ROUTE_ERROR_MAX];
};
int route_find_conflict(struct route *route, struct route_conflict *ret_conflict);

/*
 * Make the kernel's rules and routes the desired ones. *ret_changed counts what had to be added
 * or removed. A next hop that the kernel refuses (interface down) leaves that route out, returns
 * -ENETUNREACH and is to be tried again: without a route the rule finds nothing and the flow is
 * enforced. Dumps only our tables (NETLINK_GET_STRICT_CHK).
 */
int route_ensure(struct route *route, enum steering_mode mode, unsigned *ret_changed);

/* Remove every rule and route that carries our protocol id. */
int route_remove(struct route *route);

/* Does the path's table lead to its next hops of this family, and nowhere else? 1, 0, errno. */
int route_path_ready(struct route *route, const struct path *path, int family);

enum route_link { ROUTE_LINK_MISSING, ROUTE_LINK_DOWN, ROUTE_LINK_NO_CARRIER, ROUTE_LINK_UP };
/* An enum route_link or a negative errno. */
int route_link_state(struct route *route, const char *interface);

enum route_hop {
	ROUTE_HOP_OK,       /* or nothing was sent to it yet */
	ROUTE_HOP_OFF_LINK, /* the interface has no route to it that needs no gateway */
	ROUTE_HOP_OWN,      /* an address of this machine */
	ROUTE_HOP_SILENT,   /* it does not answer address resolution */
};
/* An enum route_hop or a negative errno; interface may be "": any. */
int route_hop_state(struct route *route, const struct address *hop, const char *interface);

/*
 * Would strict reverse-path filtering drop the path's replies? When rp_filter is 1 (strict) on
 * its interface or for all, and src_valid_mark is 0 for both or the replies carry no mark.
 */
bool route_drops_replies(const struct settings *settings, const struct path *path);

/* The same for all paths; fills the sentence to warn with. */
bool route_rp_filter_problem(const struct settings *settings, char error[ROUTE_ERROR_MAX]);

#endif
