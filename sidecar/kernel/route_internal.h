/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the parts of route.h share: rtnetlink requests and the list of what was observed.
 */
#ifndef TENANT_STEER_ROUTE_INTERNAL_H
#define TENANT_STEER_ROUTE_INTERNAL_H

#include <netlink/msg.h>
#include <netlink/netlink.h>

#include "route.h"

/* Objects kept of one dump; only ours are, or the first one that is in the way. */
#define ROUTE_OBSERVED_MAX 4096

struct route {
	const struct settings *settings;
	struct nl_sock *socket;
	bool swept; /* were our routes in other tables looked for? */
};

/* What a dump showed, as the kernel sent it: sent back, it deletes exactly that object. */
struct observed {
	struct nl_msg **messages;
	size_t count;
	size_t room;
	size_t limit; /* keep no more than this; 0: keep all */
};
void route_observed_clear(struct observed *observed);

/* Send a change, wait for the answer, free the message. 0 or the kernel's errno. */
int route_change(struct route *route, struct nl_msg *msg);
/* Send what was observed back as type (RTM_DELRULE, RTM_DELROUTE). */
int route_delete(struct route *route, struct nl_msg *seen, uint16_t type);

/* Shall this object be kept? */
typedef bool (*route_filter)(struct nlmsghdr *nlh, void *user);
/* Send a dump request, keep what filter wants, free the request. A torn dump is repeated. */
int route_dump(struct route *route, struct nl_msg *request, route_filter filter, void *user,
	       struct observed *observed);

extern const int route_families[2];
/* Has the path a next hop of this family? */
bool route_path_has(const struct path *path, int family);

/* The rules (route_rule.c) and the routes (route_table.c). changed is added to; fix is filled
 * with error. */
int route_rules_check(struct route *route, char error[ROUTE_ERROR_MAX], char fix[ROUTE_ERROR_MAX]);
int route_rules_ensure(struct route *route, enum steering_mode mode, unsigned *changed);
int route_rules_remove(struct route *route);
int route_tables_check(struct route *route, char error[ROUTE_ERROR_MAX], char fix[ROUTE_ERROR_MAX]);
int route_tables_ensure(struct route *route, unsigned *changed);
int route_tables_remove(struct route *route);

#endif
