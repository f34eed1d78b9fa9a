/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The default routes in steerd's tables, by value: family, table, and the set of next hops.
 */
#include <errno.h>
#include <linux/ipv6_route.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netlink/addr.h>
#include <netlink/route/nexthop.h>
#include <netlink/route/route.h>
#include <stdio.h>
#include <string.h>

#include "route_internal.h"

struct hop {
	uint8_t address[16];
	unsigned index; /* of the interface; 0: the kernel finds it from the address */
};

/* A default route. */
struct gateway {
	int family;
	uint32_t table;
	struct hop hops[SETTINGS_VIA_MAX];
	unsigned hop_count;
	bool plain; /* default, unicast, of usual priority, and no hop beyond these */
};

static int length_of(int family)
{
	return family == AF_INET6 ? 16 : 4;
}

static struct gateway desire(const struct path *path, int family)
{
	struct gateway gateway = { .family = family, .table = path->table, .plain = true };
	unsigned index = path->interface[0] != '\0' ? if_nametoindex(path->interface) : 0;

	for (unsigned i = 0; i < path->via_count; i++) {
		struct hop *hop = &gateway.hops[gateway.hop_count];

		if (path->via[i].family != family)
			continue;
		memcpy(hop->address, path->via[i].bytes, (size_t)length_of(family));
		hop->index = index;
		gateway.hop_count++;
	}
	return gateway;
}

static bool same_hop(const struct hop *observed, const struct hop *desired)
{
	return memcmp(observed->address, desired->address, sizeof(observed->address)) == 0 &&
	       (desired->index == 0 || desired->index == observed->index);
}

static bool same_key(const struct gateway *observed, const struct gateway *desired)
{
	return observed->plain && observed->family == desired->family &&
	       observed->table == desired->table;
}

/* Next hops in any order. */
static bool equal(const struct gateway *observed, const struct gateway *desired)
{
	if (!same_key(observed, desired) || observed->hop_count != desired->hop_count)
		return false;
	for (unsigned i = 0; i < observed->hop_count; i++) {
		bool found = false;

		for (unsigned j = 0; j < desired->hop_count && !found; j++)
			found = same_hop(&observed->hops[i], &desired->hops[j]);
		if (!found)
			return false;
	}
	return true;
}

static bool parse_hop(struct rtnl_nexthop *nh, int family, struct hop *hop)
{
	struct nl_addr *address = rtnl_route_nh_get_gateway(nh);

	*hop = (struct hop){ .index = (unsigned)rtnl_route_nh_get_ifindex(nh) };
	if (address == NULL || nl_addr_get_len(address) != (unsigned)length_of(family))
		return false;
	memcpy(hop->address, nl_addr_get_binary_addr(address), (size_t)length_of(family));
	return true;
}

/* What the kernel gives a route added without one. */
static uint32_t usual_priority(int family)
{
	return family == AF_INET6 ? IP6_RT_PRIO_USER : 0;
}

static bool parse(struct nl_msg *msg, struct gateway *gateway)
{
	struct rtnl_route *r = NULL;
	int hops;

	if (rtnl_route_parse(nlmsg_hdr(msg), &r) < 0)
		return false;
	*gateway = (struct gateway){ .family = rtnl_route_get_family(r),
				     .table = rtnl_route_get_table(r) };
	hops = rtnl_route_get_nnexthops(r);
	gateway->plain = nl_addr_get_prefixlen(rtnl_route_get_dst(r)) == 0 &&
			 rtnl_route_get_type(r) == RTN_UNICAST && rtnl_route_get_tos(r) == 0 &&
			 rtnl_route_get_priority(r) == usual_priority(gateway->family) &&
			 hops <= SETTINGS_VIA_MAX;
	for (int i = 0; i < hops && gateway->plain; i++)
		gateway->plain = parse_hop(rtnl_route_nexthop_n(r, i), gateway->family,
					   &gateway->hops[gateway->hop_count++]);
	rtnl_route_put(r);
	return true;
}

static int add_hop(struct rtnl_route *r, int family, const struct hop *hop)
{
	struct rtnl_nexthop *nh = rtnl_route_nh_alloc();
	struct nl_addr *address = nl_addr_build(family, hop->address, (size_t)length_of(family));

	if (nh == NULL || address == NULL) {
		if (nh != NULL)
			rtnl_route_nh_free(nh);
		nl_addr_put(address);
		return -ENOMEM;
	}
	rtnl_route_nh_set_gateway(nh, address);
	nl_addr_put(address);
	if (hop->index != 0)
		rtnl_route_nh_set_ifindex(nh, (int)hop->index);
	rtnl_route_add_nexthop(r, nh);
	return 0;
}

static int set_destination(struct rtnl_route *r, int family)
{
	static const uint8_t zero[16];
	struct nl_addr *any = nl_addr_build(family, zero, (size_t)length_of(family));
	int err;

	if (any == NULL)
		return -ENOMEM;
	nl_addr_set_prefixlen(any, 0);
	err = rtnl_route_set_dst(r, any);
	nl_addr_put(any);
	return err < 0 ? -ENOMEM : 0;
}

/* ip route add|replace default table TABLE protocol 93 nexthop via A dev D nexthop via B dev D */
static int add(struct route *route, const struct gateway *gateway, bool replace)
{
	struct rtnl_route *r = rtnl_route_alloc();
	struct nl_msg *msg = NULL;
	int err;

	if (r == NULL)
		return -ENOMEM;
	rtnl_route_set_family(r, (uint8_t)gateway->family);
	rtnl_route_set_table(r, gateway->table);
	rtnl_route_set_protocol(r, ROUTE_PROTOCOL);
	rtnl_route_set_scope(r, RT_SCOPE_UNIVERSE);
	rtnl_route_set_type(r, RTN_UNICAST);
	err = set_destination(r, gateway->family);
	for (unsigned i = 0; i < gateway->hop_count && err == 0; i++)
		err = add_hop(r, gateway->family, &gateway->hops[i]);
	if (err == 0 &&
	    rtnl_route_build_add_request(r, replace ? NLM_F_REPLACE : NLM_F_EXCL, &msg) < 0)
		err = -ENOMEM;
	rtnl_route_put(r);
	return err < 0 ? err : route_change(route, msg);
}

/* Which routes of one dump are meant; 0: any. */
struct which {
	uint32_t table;
	bool ours;
};

static bool is_meant(struct nlmsghdr *nlh, void *user)
{
	const struct which *which = user;
	struct rtmsg *rtm = nlmsg_data(nlh);
	struct nlattr *table = nlmsg_find_attr(nlh, sizeof(*rtm), RTA_TABLE);
	uint32_t number = rtm->rtm_table;

	if (nlh->nlmsg_type != RTM_NEWROUTE || (rtm->rtm_flags & RTM_F_CLONED))
		return false;
	if (table != NULL && nla_len(table) >= 4)
		number = nla_get_u32(table);
	return (which->table == 0 || which->table == number) &&
	       (rtm->rtm_protocol == ROUTE_PROTOCOL) == which->ours;
}

/* ip route show table TABLE [protocol 93] */
static int dump(struct route *route, int family, const struct which *which,
		struct observed *observed)
{
	struct rtmsg rtm = { .rtm_family = (uint8_t)family,
			     .rtm_protocol = which->ours ? ROUTE_PROTOCOL : RTPROT_UNSPEC };
	struct nl_msg *msg = nlmsg_alloc_simple(RTM_GETROUTE, NLM_F_DUMP);
	int err;

	if (msg == NULL)
		return -ENOMEM;
	if (nlmsg_append(msg, &rtm, sizeof(rtm), NLMSG_ALIGNTO) < 0 ||
	    (which->table != 0 && nla_put_u32(msg, RTA_TABLE, which->table) < 0)) {
		nlmsg_free(msg);
		return -ENOMEM;
	}
	err = route_dump(route, msg, is_meant, (void *)which, observed);
	/* no such table yet, or no IPv6 in this kernel: nothing there */
	return err == -ENOENT || err == -EAFNOSUPPORT || err == -EOPNOTSUPP ? 0 : err;
}

/* What the kernel answers when it cannot use a next hop now. */
static bool is_refusal(int err)
{
	return err == -ENETUNREACH || err == -EHOSTUNREACH || err == -ENETDOWN || err == -ENODEV ||
	       err == -EINVAL;
}

static void drop(struct observed *observed, size_t i)
{
	nlmsg_free(observed->messages[i]);
	observed->messages[i] = NULL;
}

/* The first observed route that is desired, or could be replaced by it. Its index or count. */
static size_t find(const struct observed *observed, const struct gateway *desired,
		   bool (*match)(const struct gateway *, const struct gateway *))
{
	struct gateway seen;
	size_t i;

	for (i = 0; i < observed->count; i++)
		if (observed->messages[i] != NULL && parse(observed->messages[i], &seen) &&
		    match(&seen, desired))
			break;
	return i;
}

/*
 * Make one desired route; what of the observed is dealt with leaves the list. A route of ours
 * that is to change is replaced in place, so that no packet finds the table empty; if the kernel
 * refuses the new one, the old one stays in the list and goes: it leads where it should not.
 */
static int settle(struct route *route, struct observed *observed, const struct gateway *desired,
		  unsigned *changed)
{
	size_t i = find(observed, desired, equal);
	int err;

	if (i < observed->count) {
		drop(observed, i);
		return 0;
	}
	i = find(observed, desired, same_key);
	err = add(route, desired, i < observed->count);
	if (err == 0) {
		(*changed)++;
		if (i < observed->count)
			drop(observed, i);
		return 0;
	}
	return is_refusal(err) ? -ENETUNREACH : err;
}

/* Our routes in our tables; the first time also those a former configuration left elsewhere. */
static int dump_ours(struct route *route, bool everywhere, struct observed *observed)
{
	unsigned tables = everywhere ? 1 : route->settings->path_count;
	int err = 0;

	for (unsigned i = 0; i < tables && err == 0; i++) {
		const struct which which = {
			.table = everywhere ? 0 : route->settings->paths[i].table,
			.ours = true,
		};

		if (!everywhere && which.table == 0)
			continue;
		for (unsigned f = 0; f < 2 && err == 0; f++)
			err = dump(route, route_families[f], &which, observed);
	}
	return err;
}

static int delete_all(struct route *route, const struct observed *observed, unsigned *changed)
{
	int first = 0;

	for (size_t i = 0; i < observed->count; i++) {
		int err;

		if (observed->messages[i] == NULL)
			continue;
		err = route_delete(route, observed->messages[i], RTM_DELROUTE);
		if (err == 0)
			(*changed)++;
		else if (first == 0 && err != -ESRCH)
			first = err;
	}
	return first;
}

/* Goes on after a refusal, so that one broken path does not cost the others theirs. */
static int settle_all(struct route *route, struct observed *observed, unsigned *changed)
{
	int first = 0;

	for (unsigned i = 0; i < route->settings->path_count; i++) {
		const struct path *path = &route->settings->paths[i];
		bool ready = path->interface[0] == '\0' || if_nametoindex(path->interface) != 0;

		for (unsigned f = 0; f < 2; f++) {
			struct gateway desired;
			int err;

			if (!route_path_has(path, route_families[f]))
				continue;
			desired = desire(path, route_families[f]);
			/* no such interface: whatever route there is, it is not the desired one */
			err = ready ? settle(route, observed, &desired, changed) : -ENETUNREACH;
			if (first == 0)
				first = err;
		}
	}
	return first;
}

int route_tables_ensure(struct route *route, unsigned *changed)
{
	struct observed observed = { 0 };
	int err = dump_ours(route, !route->swept, &observed);
	int result = err;

	if (err == 0) {
		result = settle_all(route, &observed, changed);
		err = delete_all(route, &observed, changed);
		route->swept = route->swept || err == 0;
	}
	route_observed_clear(&observed);
	return err < 0 ? err : result;
}

int route_tables_remove(struct route *route)
{
	struct observed observed = { 0 };
	unsigned changed = 0;
	int err = dump_ours(route, true, &observed);

	if (err == 0)
		err = delete_all(route, &observed, &changed);
	route_observed_clear(&observed);
	return err;
}

int route_path_ready(struct route *route, const struct path *path, int family)
{
	const struct which which = { .table = path->table, .ours = true };
	const struct gateway desired = desire(path, family);
	struct observed observed = { 0 };
	int err = dump(route, family, &which, &observed);

	if (err == 0)
		err = find(&observed, &desired, equal) < observed.count;
	route_observed_clear(&observed);
	return err;
}

static void name_conflict(struct nl_msg *msg, uint32_t table, int family,
			  char error[ROUTE_ERROR_MAX], char fix[ROUTE_ERROR_MAX])
{
	char text[64] = "a route";
	struct rtnl_route *r = NULL;

	if (rtnl_route_parse(nlmsg_hdr(msg), &r) == 0) {
		if (nl_addr_get_prefixlen(rtnl_route_get_dst(r)) == 0)
			snprintf(text, sizeof(text), "default");
		else
			nl_addr2str(rtnl_route_get_dst(r), text, sizeof(text));
		rtnl_route_put(r);
	}
	snprintf(fix, ROUTE_ERROR_MAX, "ip %sroute del %s table %u",
		 family == AF_INET6 ? "-6 " : "", text, table);
	snprintf(error, ROUTE_ERROR_MAX,
		 "routing table %u is in use, it has the route \"%s\"; set the path's table to a "
		 "free one",
		 table, text);
}

static int check_table(struct route *route, uint32_t table, int family, char error[ROUTE_ERROR_MAX],
		       char fix[ROUTE_ERROR_MAX])
{
	const struct which which = { .table = table, .ours = false };
	struct observed observed = { .limit = 1 };
	int err = dump(route, family, &which, &observed);

	if (err < 0)
		snprintf(error, ROUTE_ERROR_MAX, "cannot read routing table %u: %s", table,
			 strerror(-err));
	if (err == 0 && observed.count > 0) {
		name_conflict(observed.messages[0], table, family, error, fix);
		err = -EBUSY;
	}
	route_observed_clear(&observed);
	return err;
}

int route_tables_check(struct route *route, char error[ROUTE_ERROR_MAX], char fix[ROUTE_ERROR_MAX])
{
	int err = 0;

	for (unsigned i = 0; i < route->settings->path_count && err == 0; i++) {
		uint32_t table = route->settings->paths[i].table;

		for (unsigned f = 0; f < 2 && err == 0 && table != 0; f++)
			err = check_table(route, table, route_families[f], error, fix);
	}
	return err;
}
