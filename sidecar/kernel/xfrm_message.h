/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One message of the kernel about its SAs (NETLINK_XFRM: a notification, or a part of a dump) as a
 * plain value. Reads nothing else of it; the keys in it stay where they are, in the caller's
 * buffer.
 */
#ifndef TENANT_STEER_XFRM_MESSAGE_H
#define TENANT_STEER_XFRM_MESSAGE_H

#include <linux/netlink.h>
#include <stdbool.h>

#include "sa_check.h"

enum xfrm_change_kind {
	XFRM_CHANGE_NONE,    /* concerns no SA, or changes nothing that matters */
	XFRM_CHANGE_ADDED,   /* XFRM_MSG_NEWSA: also each SA of a dump */
	XFRM_CHANGE_UPDATED, /* XFRM_MSG_UPDSA */
	XFRM_CHANGE_GONE,    /* XFRM_MSG_DELSA, hard XFRM_MSG_EXPIRE */
	XFRM_CHANGE_FLUSHED, /* XFRM_MSG_FLUSHSA */
	XFRM_CHANGE_UNTOLD, /* something changed and the message does not say all: XFRM_MSG_MIGRATE */
};

struct xfrm_change {
	enum xfrm_change_kind kind;
	struct sa_state state; /* FLUSHED: only the protocol; GONE: only the key */
	/* No algorithm: the number is only reserved (`ip xfrm state allocspi`), no packet can match.
	 * Of a state of IPPROTO_IPIP, which has none either, this is never said. */
	bool larval;
	bool outbound; /* the kernel says so (Linux 6.10 and later, if whoever made it did) */
};

/* nlh: of nlmsg_len bytes in memory. 0, or -EBADMSG if it is too short for what it says it is. */
int xfrm_message_parse(const struct nlmsghdr *nlh, struct xfrm_change *ret_change);

#endif
