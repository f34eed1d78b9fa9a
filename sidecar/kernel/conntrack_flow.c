/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "conntrack_flow.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/filter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* The attributes of one level, by their number. */
struct attributes {
	const struct nlattr *at[CTA_MAX + 1];
};

static int on_attribute(const struct nlattr *attribute, void *user)
{
	struct attributes *attributes = user;
	const uint16_t type = mnl_attr_get_type(attribute);

	if (type <= CTA_MAX)
		attributes->at[type] = attribute;
	return MNL_CB_OK;
}

static bool read_nested(const struct nlattr *nest, struct attributes *ret)
{
	*ret = (struct attributes){ { NULL } };
	return nest && mnl_attr_parse_nested(nest, on_attribute, ret) >= 0;
}

static bool read_bytes(const struct nlattr *attribute, void *to, size_t len)
{
	if (!attribute || mnl_attr_get_payload_len(attribute) != len)
		return false;
	memcpy(to, mnl_attr_get_payload(attribute), len);
	return true;
}

static bool read_address(const struct attributes *ip, int v4, int v6, struct address *ret)
{
	*ret = (struct address){ .family = ip->at[v4] ? AF_INET : AF_INET6 };
	return ip->at[v4] ? read_bytes(ip->at[v4], ret->bytes, 4)
			  : read_bytes(ip->at[v6], ret->bytes, 16);
}

static bool read_tuple(const struct nlattr *tuple, struct conntrack_flow *flow)
{
	struct attributes parts, ip, proto;
	uint16_t port, zone;

	if (!read_nested(tuple, &parts) || !read_nested(parts.at[CTA_TUPLE_IP], &ip) ||
	    !read_nested(parts.at[CTA_TUPLE_PROTO], &proto) ||
	    !read_address(&ip, CTA_IP_V4_SRC, CTA_IP_V6_SRC, &flow->source) ||
	    !read_address(&ip, CTA_IP_V4_DST, CTA_IP_V6_DST, &flow->destination) ||
	    !read_bytes(proto.at[CTA_PROTO_NUM], &flow->protocol, 1))
		return false;
	if (read_bytes(proto.at[CTA_PROTO_SRC_PORT], &port, sizeof(port)))
		flow->source_port = ntohs(port);
	if (read_bytes(proto.at[CTA_PROTO_DST_PORT], &port, sizeof(port)))
		flow->port = ntohs(port);
	if (read_bytes(parts.at[CTA_TUPLE_ZONE], &zone, sizeof(zone)))
		flow->zone = ntohs(zone);
	return true;
}

static bool read_counter(const struct nlattr *nest, uint64_t *ret, uint64_t *ret_packets)
{
	struct attributes counters;
	uint64_t bytes, packets;

	if (!read_nested(nest, &counters) ||
	    !read_bytes(counters.at[CTA_COUNTERS_BYTES], &bytes, sizeof(bytes)))
		return false;
	*ret = be64toh(bytes);
	if (read_bytes(counters.at[CTA_COUNTERS_PACKETS], &packets, sizeof(packets)))
		*ret_packets += be64toh(packets);
	return true;
}

/* Nothing but stray packets is to be expected of it. */
static bool is_over(const struct nlattr *protocol)
{
	struct attributes info, tcp;
	uint8_t state;

	if (!read_nested(protocol, &info) || !read_nested(info.at[CTA_PROTOINFO_TCP], &tcp) ||
	    !read_bytes(tcp.at[CTA_PROTOINFO_TCP_STATE], &state, sizeof(state)))
		return false;
	return state == TCP_CONNTRACK_LAST_ACK || state == TCP_CONNTRACK_TIME_WAIT ||
	       state == TCP_CONNTRACK_CLOSE;
}

static int64_t read_begin(const struct nlattr *nest)
{
	struct attributes times;
	uint64_t ns;

	if (!read_nested(nest, &times) ||
	    !read_bytes(times.at[CTA_TIMESTAMP_START], &ns, sizeof(ns)))
		return 0;
	return (int64_t)(be64toh(ns) / 1000);
}

int conntrack_flow_parse(const struct nlmsghdr *message, size_t len,
			 struct conntrack_flow *ret_flow, enum conntrack_flow_kind *ret_kind)
{
	struct conntrack_flow flow = { .protocol = 0 };
	struct attributes entry = { { NULL } };
	uint32_t number;
	uint16_t zone;

	if (!mnl_nlmsg_ok(message, (int)len) ||
	    NFNL_SUBSYS_ID(message->nlmsg_type) != NFNL_SUBSYS_CTNETLINK ||
	    mnl_nlmsg_get_payload_len(message) < sizeof(struct nfgenmsg) ||
	    mnl_attr_parse(message, sizeof(struct nfgenmsg), on_attribute, &entry) < 0 ||
	    !read_tuple(entry.at[CTA_TUPLE_ORIG], &flow))
		return -EBADMSG;
	if (read_bytes(entry.at[CTA_ID], &number, sizeof(number)))
		flow.id = ntohl(number);
	if (read_bytes(entry.at[CTA_MARK], &number, sizeof(number)))
		flow.mark = ntohl(number);
	if (read_bytes(entry.at[CTA_STATUS], &number, sizeof(number)))
		flow.answered = (ntohl(number) & IPS_SEEN_REPLY) != 0;
	if (read_bytes(entry.at[CTA_ZONE], &zone, sizeof(zone)))
		flow.zone = ntohs(zone);
	flow.over = is_over(entry.at[CTA_PROTOINFO]);
	flow.began_us = read_begin(entry.at[CTA_TIMESTAMP]);
	flow.counted = read_counter(entry.at[CTA_COUNTERS_ORIG], &flow.sent, &flow.packets) &&
		       read_counter(entry.at[CTA_COUNTERS_REPLY], &flow.received, &flow.packets);
	*ret_flow = flow;
	*ret_kind = NFNL_MSG_TYPE(message->nlmsg_type) == IPCTNL_MSG_CT_DELETE
			    ? CONNTRACK_FLOW_DESTROY
			    : CONNTRACK_FLOW_NEW;
	return 0;
}

int conntrack_flow_socket(int buffer_bytes)
{
	const struct sockaddr_nl address = { .nl_family = AF_NETLINK };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_NETFILTER), r;

	if (fd < 0)
		return -errno;
	/* Privileged first: the plain option is cut to net.core.rmem_max. */
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer_bytes, sizeof(buffer_bytes)) < 0)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer_bytes, sizeof(buffer_bytes));
	if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	return fd;
}

int conntrack_flow_hear(int fd, enum conntrack_flow_kind kind, bool hear)
{
	const int group = kind == CONNTRACK_FLOW_NEW ? NFNLGRP_CONNTRACK_NEW
						     : NFNLGRP_CONNTRACK_DESTROY;
	const int what = hear ? NETLINK_ADD_MEMBERSHIP : NETLINK_DROP_MEMBERSHIP;

	return setsockopt(fd, SOL_NETLINK, what, &group, sizeof(group)) < 0 ? -errno : 0;
}

/*
 * Classic BPF with the kernel's help for attributes (SKF_AD_NLATTR): the offset of CTA_MARK, or 0. A
 * word is loaded as the network has it, as the mark is written.
 */
int conntrack_flow_filter(int fd, uint32_t mark_mask)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LDX | BPF_IMM, CTA_MARK),
		BPF_STMT(BPF_LD | BPF_IMM, NLMSG_HDRLEN + sizeof(struct nfgenmsg)),
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_NLATTR)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 3, 0),
		BPF_STMT(BPF_MISC | BPF_TAX, 0),
		BPF_STMT(BPF_LD | BPF_W | BPF_IND, NLA_HDRLEN),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, mark_mask, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, 0),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
	};
	const struct sock_fprog program = { sizeof(code) / sizeof(code[0]), code };

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) < 0 ? -errno
											   : 0;
}

int conntrack_flow_next(int fd, struct conntrack_flow *ret_flow, enum conntrack_flow_kind *ret_kind)
{
	_Alignas(struct nlmsghdr) char buffer[CONNTRACK_MESSAGE_MAX];
	struct sockaddr_nl from = { .nl_pid = 1 };
	socklen_t from_len = sizeof(from);
	ssize_t len;
	int r;

	do {
		len = recvfrom(fd, buffer, sizeof(buffer), MSG_TRUNC, (struct sockaddr *)&from,
			       &from_len);
	} while (len < 0 && errno == EINTR);
	if (len < 0)
		return errno == EAGAIN ? 0 : -errno;
	/* Only the kernel's word counts. */
	if (from.nl_pid != 0 || (size_t)len > sizeof(buffer))
		return -EBADMSG;
	r = conntrack_flow_parse((const struct nlmsghdr *)buffer, (size_t)len, ret_flow, ret_kind);
	return r < 0 ? r : 1;
}
