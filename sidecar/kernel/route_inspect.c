/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is around our routes: links, and whether a next hop can be one. Questions only.
 */
#include <errno.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <string.h>

#include "route_internal.h"

/* net/if.h, which knows if_nametoindex(), lacks it. */
#ifndef IFF_LOWER_UP
#define IFF_LOWER_UP 0x10000
#endif
#ifndef RTM_F_FIB_MATCH
#define RTM_F_FIB_MATCH 0x2000
#endif

static bool any(struct nlmsghdr *nlh, void *user)
{
	(void)nlh;
	(void)user;
	return true;
}

/* A request with one answer; takes the message. observed has it, or is empty. */
static int ask(struct route *route, struct nl_msg *msg, struct observed *observed)
{
	return route_dump(route, msg, any, NULL, observed);
}

/* ip link show dev INTERFACE */
int route_link_state(struct route *route, const char *interface)
{
	struct ifinfomsg ifm = { .ifi_family = AF_UNSPEC };
	struct nl_msg *msg = nlmsg_alloc_simple(RTM_GETLINK, 0);
	struct observed observed = { .limit = 1 };
	unsigned flags = 0;
	int err = -ENOMEM;

	if (msg == NULL)
		return err;
	if (nlmsg_append(msg, &ifm, sizeof(ifm), NLMSG_ALIGNTO) < 0 ||
	    nla_put_string(msg, IFLA_IFNAME, interface) < 0) {
		nlmsg_free(msg);
		return err;
	}
	err = ask(route, msg, &observed);
	if (err == 0 && observed.count > 0)
		flags = ((struct ifinfomsg *)nlmsg_data(nlmsg_hdr(observed.messages[0])))
				->ifi_flags;
	route_observed_clear(&observed);
	if (err == -ENODEV)
		return ROUTE_LINK_MISSING;
	if (err < 0)
		return err;
	if (!(flags & IFF_UP))
		return ROUTE_LINK_DOWN;
	return flags & IFF_LOWER_UP ? ROUTE_LINK_UP : ROUTE_LINK_NO_CARRIER;
}

static int address_length(const struct address *address)
{
	return address->family == AF_INET6 ? 16 : 4;
}

/*
 * ip route get fibmatch HOP oif INTERFACE. Without "fibmatch" IPv4 takes any address for one on
 * the link, if only the interface is named.
 */
static int route_to(struct route *route, const struct address *hop, unsigned index,
		    struct observed *observed)
{
	struct rtmsg rtm = { .rtm_family = (uint8_t)hop->family,
			     .rtm_dst_len = (uint8_t)(address_length(hop) * 8),
			     .rtm_flags = RTM_F_FIB_MATCH };
	struct nl_msg *msg = nlmsg_alloc_simple(RTM_GETROUTE, 0);

	if (msg == NULL)
		return -ENOMEM;
	if (nlmsg_append(msg, &rtm, sizeof(rtm), NLMSG_ALIGNTO) < 0 ||
	    nla_put(msg, RTA_DST, address_length(hop), hop->bytes) < 0 ||
	    (index != 0 && nla_put_u32(msg, RTA_OIF, index) < 0)) {
		nlmsg_free(msg);
		return -ENOMEM;
	}
	return ask(route, msg, observed);
}

/* An enum route_hop without a look at the neighbour. *ret_index: the interface it is on. */
static int placed(struct route *route, const struct address *hop, unsigned index,
		  unsigned *ret_index)
{
	struct observed observed = { .limit = 1 };
	int state = route_to(route, hop, index, &observed);

	if (state == 0 && observed.count > 0) {
		struct nlmsghdr *nlh = nlmsg_hdr(observed.messages[0]);
		const struct rtmsg *rtm = nlmsg_data(nlh);
		struct nlattr *oif = nlmsg_find_attr(nlh, sizeof(*rtm), RTA_OIF);

		if (rtm->rtm_type == RTN_LOCAL)
			state = ROUTE_HOP_OWN;
		else if (rtm->rtm_type != RTN_UNICAST || oif == NULL ||
			 nlmsg_find_attr(nlh, sizeof(*rtm), RTA_GATEWAY) != NULL ||
			 nlmsg_find_attr(nlh, sizeof(*rtm), RTA_VIA) != NULL)
			state = ROUTE_HOP_OFF_LINK;
		else
			*ret_index = nla_get_u32(oif);
	} else if (state == -ENETUNREACH || state == -EHOSTUNREACH || state == 0) {
		state = ROUTE_HOP_OFF_LINK;
	}
	route_observed_clear(&observed);
	return state;
}

static bool is_hop(struct nlmsghdr *nlh, void *user)
{
	const struct address *hop = user;
	struct nlattr *dst = nlmsg_find_attr(nlh, sizeof(struct ndmsg), NDA_DST);

	return nlh->nlmsg_type == RTM_NEWNEIGH && dst != NULL &&
	       nla_len(dst) == address_length(hop) &&
	       memcmp(nla_data(dst), hop->bytes, (size_t)nla_len(dst)) == 0;
}

/* ip neighbour show to HOP dev INTERFACE */
static int answers(struct route *route, const struct address *hop, unsigned index)
{
	struct ndmsg ndm = { .ndm_family = (uint8_t)hop->family };
	struct nl_msg *msg = nlmsg_alloc_simple(RTM_GETNEIGH, NLM_F_DUMP);
	struct observed observed = { .limit = 1 };
	int state;

	if (msg == NULL)
		return -ENOMEM;
	if (nlmsg_append(msg, &ndm, sizeof(ndm), NLMSG_ALIGNTO) < 0 ||
	    nla_put_u32(msg, NDA_IFINDEX, index) < 0) {
		nlmsg_free(msg);
		return -ENOMEM;
	}
	state = route_dump(route, msg, is_hop, (void *)hop, &observed);
	if (state == 0 && observed.count > 0) {
		const struct ndmsg *seen = nlmsg_data(nlmsg_hdr(observed.messages[0]));

		/* one that answers does so at once: nobody sees its entry incomplete */
		if (seen->ndm_state & (NUD_FAILED | NUD_INCOMPLETE))
			state = ROUTE_HOP_SILENT;
	}
	route_observed_clear(&observed);
	return state;
}

int route_hop_state(struct route *route, const struct address *hop, const char *interface)
{
	unsigned index = interface[0] != '\0' ? if_nametoindex(interface) : 0;
	int state = placed(route, hop, index, &index);

	return state == ROUTE_HOP_OK ? answers(route, hop, index) : state;
}
