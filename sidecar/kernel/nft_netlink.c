/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Netlink transport for nf_tables: requests with answers, and transactions.
 */
#include "nft_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libnftnl/common.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>

/* Large enough for any part of a dump: the kernel makes them at most 32 KiB. */
#define RECEIVE_BYTES (64u << 10)

/* The kernel answers within the send; only a stuck commit mutex makes us wait at all. */
#define ANSWER_TIMEOUT_S 10

/* Privileged first: the plain option is cut to net.core.?mem_max. */
static void grow(int fd, int forced, int plain)
{
	int size = NFT_SOCKET_BUFFER;

	if (setsockopt(fd, SOL_SOCKET, forced, &size, sizeof(size)) < 0)
		setsockopt(fd, SOL_SOCKET, plain, &size, sizeof(size));
}

int nft_link_open(struct nft_link *link)
{
	struct timeval timeout = { .tv_sec = ANSWER_TIMEOUT_S };
	int on = 1;
	int fd;
	int err;

	link->socket = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
	if (link->socket == NULL)
		return errno == EPROTONOSUPPORT ? -EOPNOTSUPP : -errno;
	fd = mnl_socket_get_fd(link->socket);
	if (mnl_socket_bind(link->socket, 0, MNL_SOCKET_AUTOPID) < 0 ||
	    /* without it, each error carries the whole message that caused it */
	    mnl_socket_setsockopt(link->socket, NETLINK_CAP_ACK, &on, sizeof(on)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) < 0) {
		err = -errno;
		nft_link_close(link);
		return err;
	}
	grow(fd, SO_SNDBUFFORCE, SO_SNDBUF);
	grow(fd, SO_RCVBUFFORCE, SO_RCVBUF);
	link->port = mnl_socket_get_portid(link->socket);
	link->seq = 1;
	return 0;
}

void nft_link_close(struct nft_link *link)
{
	if (link->socket != NULL)
		mnl_socket_close(link->socket);
	link->socket = NULL;
}

/* -EAGAIN when there is nothing and flags say not to wait, -ETIMEDOUT when waiting was in vain. */
static ssize_t receive(struct nft_link *link, char *buf, int flags)
{
	ssize_t n;

	do {
		n = recv(mnl_socket_get_fd(link->socket), buf, RECEIVE_BYTES, flags);
	} while (n < 0 && errno == EINTR);
	if (n >= 0)
		return n;
	if (errno == EAGAIN && !(flags & MSG_DONTWAIT))
		return -ETIMEDOUT;
	return -errno;
}

/* Answers that a failed request left behind must not meet the next one. */
static void drain(struct nft_link *link, char *buf)
{
	ssize_t n;

	do {
		n = receive(link, buf, MSG_DONTWAIT);
	} while (n > 0 || n == -ENOBUFS);
}

struct nlmsghdr *nft_link_request(struct nft_link *link, char *buf, uint16_t type, uint16_t flags)
{
	return nftnl_nlmsg_build_hdr(buf, type, NFPROTO_INET, flags, ++link->seq);
}

int nft_link_ask(struct nft_link *link, struct nlmsghdr *request, mnl_cb_t each, void *user)
{
	char *buf = malloc(RECEIVE_BYTES);
	ssize_t n;
	int err = 0;
	int more;

	if (buf == NULL)
		return -ENOMEM;
	if (mnl_socket_sendto(link->socket, request, request->nlmsg_len) < 0) {
		err = -errno;
		goto out;
	}
	do {
		n = receive(link, buf, 0);
		if (n < 0) {
			err = (int)n;
			break;
		}
		more = mnl_cb_run(buf, (size_t)n, request->nlmsg_seq, link->port, each, user);
		if (more < 0)
			err = -errno;
	} while (more > 0);
	if (err < 0)
		drain(link, buf);
out:
	free(buf);
	return err;
}

void nft_batch_begin(struct nft_batch *batch, struct nft_link *link, char *buf)
{
	batch->link = link;
	batch->buf = buf;
	batch->first_seq = ++link->seq;
	batch->len = nftnl_batch_begin(buf, batch->first_seq)->nlmsg_len;
	batch->last = NULL;
}

struct nlmsghdr *nft_batch_message(struct nft_batch *batch, uint16_t type, uint16_t flags)
{
	return nft_link_request(batch->link, batch->buf + batch->len, type, flags);
}

void nft_batch_done(struct nft_batch *batch, struct nlmsghdr *message)
{
	batch->len += message->nlmsg_len;
	batch->last = message;
}

/*
 * Look at one datagram of results. The kernel queues all of them before the send returns: an
 * error for each message it refused and, because only the last message asks for it, one
 * acknowledgement. If the transaction as a whole failed, its first message gets that error.
 */
static void read_results(const struct nft_batch *batch, const char *buf, ssize_t n, bool *answered,
			 int *first_error)
{
	const struct nlmsghdr *nlh = (const struct nlmsghdr *)buf;
	int left = (int)n;

	for (; mnl_nlmsg_ok(nlh, left); nlh = mnl_nlmsg_next(nlh, &left)) {
		const struct nlmsgerr *result = mnl_nlmsg_get_payload(nlh);

		if (nlh->nlmsg_type != NLMSG_ERROR ||
		    mnl_nlmsg_get_payload_len(nlh) < sizeof(*result) ||
		    nlh->nlmsg_seq - batch->first_seq > batch->link->seq - batch->first_seq)
			continue;
		*answered = true;
		if (*first_error == 0)
			*first_error = result->error;
	}
}

int nft_batch_commit(struct nft_batch *batch)
{
	struct nft_link *link = batch->link;
	bool answered = false;
	char *buf;
	int first_error = 0;
	ssize_t n;

	if (batch->last == NULL)
		return 0;
	buf = malloc(RECEIVE_BYTES);
	if (buf == NULL)
		return -ENOMEM;
	batch->last->nlmsg_flags |= NLM_F_ACK;
	batch->len += nftnl_batch_end(batch->buf + batch->len, ++link->seq)->nlmsg_len;
	if (mnl_socket_sendto(link->socket, batch->buf, batch->len) < 0) {
		first_error = -errno;
		goto out;
	}
	for (;;) {
		n = receive(link, buf, answered ? MSG_DONTWAIT : 0);
		if (n == -EAGAIN)
			break;
		if (n < 0) {
			first_error = first_error != 0 ? first_error : (int)n;
			break;
		}
		read_results(batch, buf, n, &answered, &first_error);
	}
out:
	if (first_error != 0)
		drain(link, buf);
	free(buf);
	return first_error;
}

static int take_generation(const struct nlmsghdr *nlh, void *user)
{
	uint32_t *generation = user;
	const struct nlattr *attr;

	mnl_attr_for_each(attr, nlh,
			  sizeof(struct nfgenmsg)) if (mnl_attr_get_type(attr) == NFTA_GEN_ID &&
						       mnl_attr_validate(attr, MNL_TYPE_U32) >=
							       0) *generation =
		ntohl(mnl_attr_get_u32(attr));
	return MNL_CB_OK;
}

int nft_link_generation(struct nft_link *link, uint32_t *ret_generation)
{
	char buf[MNL_NLMSG_HDRLEN + 64];
	uint32_t generation = 0;
	int err;

	err = nft_link_ask(link, nft_link_request(link, buf, NFT_MSG_GETGEN, NLM_F_ACK),
			   take_generation, &generation);
	if (err < 0)
		return err;
	*ret_generation = generation;
	return 0;
}
