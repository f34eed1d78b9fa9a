/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Flows as conntrack tells them: one message into plain values, and a socket on which the kernel tells
 * of flows that begin and end (ctnetlink, linux/netfilter/nfnetlink_conntrack.h). What is read here is
 * for the record; nothing is decided by it.
 */
#ifndef TENANT_STEER_CONNTRACK_FLOW_H
#define TENANT_STEER_CONNTRACK_FLOW_H

#include <linux/netlink.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "settings/settings.h"

/* A message with all that the kernel may put into it has less than 1 KiB. */
#define CONNTRACK_MESSAGE_MAX 4096

enum conntrack_flow_kind { CONNTRACK_FLOW_NEW, CONNTRACK_FLOW_DESTROY };

struct conntrack_flow {
	struct address source, destination; /* of the original direction */
	uint16_t source_port, port;         /* host byte order; 0: the protocol has none */
	uint8_t protocol;
	uint16_t zone; /* of the original direction; 0: the one that is always there */
	uint32_t id; /* the kernel's, for telling an entry from the next one with these addresses */
	uint32_t mark;
	bool counted;            /* there are counters (net.netfilter.nf_conntrack_acct) */
	uint64_t sent, received; /* bytes of the original and of the reply direction */
	uint64_t packets;        /* of both */
	bool answered;           /* there was a reply */
	bool over;        /* TCP, closed by both ends or reset; the entry waits for its timeout */
	int64_t began_us; /* time of day; 0: the kernel does not say (nf_conntrack_timestamp) */
};

/*
 * Read one message of ctnetlink, a notification or an entry of a dump. 0, or -EBADMSG: it is something
 * else, or has not what makes a flow.
 */
int conntrack_flow_parse(const struct nlmsghdr *message, size_t len,
			 struct conntrack_flow *ret_flow, enum conntrack_flow_kind *ret_kind);

/*
 * A socket, non-blocking, that hears nothing yet, with a receive buffer of this size. Keep it as long as
 * steerd lives: closing one stops nf_tables' commits for a moment (conntrack.c). A descriptor, or an
 * errno.
 */
int conntrack_flow_socket(int buffer_bytes);

/* From now on, or no longer, hear of new flows; of those that end. 0 or an errno. */
int conntrack_flow_hear(int fd, enum conntrack_flow_kind kind, bool hear);

/*
 * Let the kernel itself drop what carries no bit of the mask, so that others' flows take no room in the
 * buffer. 0 or an errno.
 */
int conntrack_flow_filter(int fd, uint32_t mark_mask);

/*
 * The next notification. 1 and *ret_flow; 0: there is none; -ENOBUFS: some were lost, go on; -EBADMSG:
 * this one was not understood, go on; or another errno.
 */
int conntrack_flow_next(int fd, struct conntrack_flow *ret_flow,
			enum conntrack_flow_kind *ret_kind);

#endif
