/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "conntrack_netlink.h"

#include <arpa/inet.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <netlink/netfilter/nfnl.h>

/* One part of a dump; the kernel never makes larger ones. */
#define RECEIVE_BYTES 32768

struct nl_sock *conntrack_socket(void)
{
	struct nl_sock *socket = nl_socket_alloc();

	if (socket == NULL)
		return NULL;
	nl_socket_disable_msg_peek(socket);
	if (nl_socket_set_msg_buf_size(socket, RECEIVE_BYTES) < 0 ||
	    nl_connect(socket, NETLINK_NETFILTER) < 0) {
		nl_socket_free(socket);
		return NULL;
	}
	return socket;
}

int conntrack_list(struct nl_sock *socket, uint32_t mark, uint32_t mask)
{
	struct nl_msg *msg = nfnlmsg_alloc_simple(NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET,
						  NLM_F_DUMP, AF_UNSPEC, 0);
	int err = -NLE_NOMEM;

	if (msg == NULL)
		return err;
	if (nla_put_u32(msg, CTA_MARK, htonl(mark)) == 0 &&
	    nla_put_u32(msg, CTA_MARK_MASK, htonl(mask)) == 0)
		err = nl_send_auto(socket, msg);
	nlmsg_free(msg);
	return err < 0 ? err : nl_recvmsgs_default(socket);
}
