/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading the kernel's conntrack table: what conntrack.c and try_watch.c have in common. */
#ifndef TENANT_STEER_CONNTRACK_NETLINK_H
#define TENANT_STEER_CONNTRACK_NETLINK_H

#include <netlink/netlink.h>
#include <stdint.h>

/*
 * A netfilter socket, or NULL. Keep it open: when one is closed, nf_tables waits for an RCU grace period
 * with its commit mutex held (nft_rcv_nl_event), and for 10 to 25 ms no withdrawal could be committed.
 */
struct nl_sock *conntrack_socket(void);

/*
 * conntrack -L -m MARK/MASK: the kernel leaves the others out. The socket's callback gets each entry.
 * 0 or a negative NLE_ number; -NLE_DUMP_INTR: torn by a change of the table's size.
 */
int conntrack_list(struct nl_sock *socket, uint32_t mark, uint32_t mask);

#endif
