/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "xfrm.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/xfrm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/local_addresses.h"
#include "base/log.h"
#include "xfrm_message.h"

/* A notification comes alone. The largest has two keys, a replay window and a security context. */
#define NOTIFICATION_BYTES 8192
#define NOTIFICATIONS 32
/* The kernel makes the parts of a dump as large as 32 KiB. */
#define PART_BYTES (NOTIFICATION_BYTES * NOTIFICATIONS)
/* Parts of a dump in one xfrm_read(): some 2,000 SAs, 3 ms. */
#define PARTS 64
/* From the begin of a dump to the next because notifications were lost. */
#define LOST_REST_US 200000
/* At the start, an unlucky moment is not a reason to begin without. */
#define FIRST_TRIES 3

struct xfrm {
	struct sa_check *check;
	int epoll;
	int changes, dump, links; /* sockets: notifications, answers, addresses; -1: none */
	uint32_t dump_seq;
	bool dumping, wanted; /* a dump is under way, shall be */
	bool done;            /* the one under way was read to its end */
	bool addresses_stale;
	bool lost;                       /* notifications, since the last dump began */
	int64_t dump_us, dump_length_us; /* when the last one began, how long it took */
	int64_t trusted_us;              /* when the table was last known to be right */
	int64_t retry_us;
	size_t suspects; /* at the last tick */
	const char *problem;
	struct local_addresses addresses;
	struct xfrm_counters counters;
	struct log_limit limit;
	char *buffer;
};

static int64_t now_us(void)
{
	return clock_monotonic_us();
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* Privileged: net.core.rmem_max does not count. */
static void grow_buffer(int fd, int size)
{
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
}

static int join(int fd, const unsigned *groups)
{
	for (; *groups; groups++)
		if (setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, groups, sizeof(*groups)) <
		    0)
			return -errno;
	return 0;
}

/* A socket that hears these groups (ending with 0), in the epoll. */
static int open_socket(struct xfrm *xfrm, int protocol, const unsigned *groups, int *ret_fd)
{
	const struct sockaddr_nl address = { .nl_family = AF_NETLINK };
	struct epoll_event event = { .events = EPOLLIN };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol), r;

	if (fd < 0)
		return -errno;
	r = bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
	if (r == 0)
		r = join(fd, groups);
	if (r == 0 && epoll_ctl(xfrm->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
		r = -errno;
	if (r < 0)
		close(fd);
	else
		*ret_fd = fd;
	return r;
}

static void close_sockets(struct xfrm *xfrm)
{
	close_fd(&xfrm->changes);
	close_fd(&xfrm->dump);
	close_fd(&xfrm->links);
	xfrm->dumping = false;
}

static const char *open_problem(int r)
{
	switch (r) {
	case -EPROTONOSUPPORT:
	case -EAFNOSUPPORT:
		return "this kernel has no NETLINK_XFRM (CONFIG_XFRM_USER), so it cannot be asked "
		       "for its SAs";
	case -EPERM:
		return "CAP_NET_ADMIN is missing, so the kernel does not tell its SAs";
	default:
		return "the kernel's SAs cannot be read";
	}
}

static void fail(struct xfrm *xfrm, const char *problem)
{
	xfrm->counters.failures++;
	xfrm->problem = problem;
	xfrm->retry_us = now_us() + XFRM_RETRY_US;
	close_sockets(xfrm);
	sa_check_lose(xfrm->check);
}

static int open_sockets(struct xfrm *xfrm)
{
	static const unsigned none[] = { 0 };
	static const unsigned sas[] = { XFRMNLGRP_SA, XFRMNLGRP_EXPIRE, XFRMNLGRP_MIGRATE, 0 };
	static const unsigned addresses[] = { RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR, 0 };
	int r = open_socket(xfrm, NETLINK_XFRM, sas, &xfrm->changes);

	if (r == 0)
		r = open_socket(xfrm, NETLINK_XFRM, none, &xfrm->dump);
	if (r == 0)
		r = open_socket(xfrm, NETLINK_ROUTE, addresses, &xfrm->links);
	if (r < 0)
		return r;
	grow_buffer(xfrm->changes, XFRM_RECEIVE_BUFFER);
	grow_buffer(xfrm->dump, 4 * PART_BYTES);
	return 0;
}

static void read_addresses(struct xfrm *xfrm)
{
	bool changed = false;

	xfrm->addresses_stale = false;
	if (local_addresses_read(&xfrm->addresses, &changed) < 0)
		xfrm->counters.failures++;
	/* What was left out with the addresses of before may have to be kept. */
	xfrm->wanted = xfrm->wanted || changed;
}

/* ip xfrm state list */
static int begin_dump(struct xfrm *xfrm)
{
	char request[MNL_NLMSG_HDRLEN] = { 0 };
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(request);

	nlh->nlmsg_type = XFRM_MSG_GETSA;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	nlh->nlmsg_seq = ++xfrm->dump_seq;
	sa_check_dump_begin(xfrm->check);
	xfrm->dumping = true;
	xfrm->wanted = xfrm->lost = false;
	xfrm->dump_us = now_us();
	return send(xfrm->dump, request, nlh->nlmsg_len, 0) < 0 ? -errno : 0;
}

/* A socket in the middle of a dump refuses another; a fresh one knows of none. */
static void start_dump(struct xfrm *xfrm)
{
	static const unsigned none[] = { 0 };
	int r = 0;

	if (xfrm->dumping) {
		close_fd(&xfrm->dump);
		r = open_socket(xfrm, NETLINK_XFRM, none, &xfrm->dump);
		if (r == 0)
			grow_buffer(xfrm->dump, 4 * PART_BYTES);
	}
	if (r == 0)
		r = begin_dump(xfrm);
	if (r < 0)
		fail(xfrm, open_problem(r));
}

static bool leaves(const struct xfrm *xfrm, const struct xfrm_change *change)
{
	const struct sa_state *state = &change->state;

	return change->outbound ||
	       (local_addresses_have(&xfrm->addresses, state->family, state->src) &&
		!local_addresses_have(&xfrm->addresses, state->family, state->dst));
}

static void make_no_sense(struct xfrm *xfrm)
{
	xfrm->counters.failures++;
	log_limited(&xfrm->limit, LOG_LEVEL_WARNING, "xfrm",
		    "a message of the kernel about its SAs makes no sense, asking for all of them");
	sa_check_doubt(xfrm->check);
}

static void apply(struct xfrm *xfrm, const struct xfrm_change *change)
{
	switch (change->kind) {
	case XFRM_CHANGE_ADDED:
	case XFRM_CHANGE_UPDATED:
		if (!change->larval && !leaves(xfrm, change))
			sa_check_observe(xfrm->check, &change->state,
					 change->kind == XFRM_CHANGE_UPDATED);
		break;
	case XFRM_CHANGE_GONE:
		sa_check_forget(xfrm->check, &change->state);
		break;
	case XFRM_CHANGE_FLUSHED:
		sa_check_flush(xfrm->check, change->state.protocol);
		break;
	case XFRM_CHANGE_UNTOLD:
		sa_check_doubt(xfrm->check);
		break;
	case XFRM_CHANGE_NONE:
		break;
	}
}

static void on_notification(struct xfrm *xfrm, const char *buffer, size_t size)
{
	const struct nlmsghdr *nlh = (const struct nlmsghdr *)buffer;
	struct xfrm_change change;
	int left = (int)size;

	xfrm->counters.notifications++;
	for (; mnl_nlmsg_ok(nlh, left); nlh = mnl_nlmsg_next(nlh, &left)) {
		if (xfrm_message_parse(nlh, &change) < 0)
			make_no_sense(xfrm);
		else
			apply(xfrm, &change);
	}
}

/* Some notifications at once; the number read, 0 when there are none, or an errno. */
static int receive_notifications(struct xfrm *xfrm)
{
	struct mmsghdr messages[NOTIFICATIONS];
	struct sockaddr_nl from[NOTIFICATIONS];
	struct iovec parts[NOTIFICATIONS];
	int count;

	for (unsigned i = 0; i < NOTIFICATIONS; i++) {
		parts[i] = (struct iovec){ xfrm->buffer + (size_t)i * NOTIFICATION_BYTES,
					   NOTIFICATION_BYTES };
		messages[i] = (struct mmsghdr){ .msg_hdr = { .msg_name = &from[i],
							     .msg_namelen = sizeof(from[i]),
							     .msg_iov = &parts[i],
							     .msg_iovlen = 1 } };
	}
	count = recvmmsg(xfrm->changes, messages, NOTIFICATIONS, MSG_DONTWAIT, NULL);
	if (count < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	for (int i = 0; i < count; i++) {
		/* Only the kernel has port 0; everybody with its privileges may send. */
		if (messages[i].msg_hdr.msg_flags & MSG_TRUNC)
			make_no_sense(xfrm);
		else if (from[i].nl_pid == 0)
			on_notification(xfrm, parts[i].iov_base, messages[i].msg_len);
		explicit_bzero(parts[i].iov_base, messages[i].msg_len < NOTIFICATION_BYTES
							  ? messages[i].msg_len
							  : NOTIFICATION_BYTES);
	}
	return count;
}

static void lose_notifications(struct xfrm *xfrm)
{
	xfrm->counters.overruns++;
	log_limited(&xfrm->limit, LOG_LEVEL_WARNING, "xfrm",
		    "changes of the kernel's SAs were lost, asking for all of them");
	sa_check_doubt(xfrm->check);
	xfrm->lost = true;
}

static void read_notifications(struct xfrm *xfrm)
{
	int done = 0, r = 1;

	while (r > 0 && done < XFRM_BUDGET) {
		r = receive_notifications(xfrm);
		if (r == -ENOBUFS) {
			lose_notifications(xfrm);
			r = 1;
		}
		done += r;
	}
	if (r < 0)
		fail(xfrm, "the kernel's SAs cannot be read");
}

static void finish_dump(struct xfrm *xfrm)
{
	xfrm->dumping = xfrm->done = false;
	/* First what was notified meanwhile: it may be what the dump has seen too late or too early. */
	read_notifications(xfrm);
	if (xfrm->changes < 0)
		return;
	if (!sa_check_dump_end(xfrm->check)) {
		xfrm->wanted = true;
		return;
	}
	xfrm->dump_length_us = now_us() - xfrm->dump_us;
	xfrm->trusted_us = now_us();
	xfrm->problem = NULL;
}

/* One message of a dump. False at its end. */
static bool on_answer(struct xfrm *xfrm, const struct nlmsghdr *nlh)
{
	struct xfrm_change change;

	if (nlh->nlmsg_seq != xfrm->dump_seq)
		return true;
	if (nlh->nlmsg_flags & NLM_F_DUMP_INTR)
		sa_check_doubt(xfrm->check);
	if (nlh->nlmsg_type == NLMSG_ERROR) {
		fail(xfrm, "the kernel refuses to list its SAs");
		return false;
	}
	if (nlh->nlmsg_type == NLMSG_DONE) {
		xfrm->done = true;
		return false;
	}
	if (xfrm_message_parse(nlh, &change) < 0)
		make_no_sense(xfrm);
	else if (change.kind == XFRM_CHANGE_ADDED && !change.larval && !leaves(xfrm, &change))
		sa_check_dump_state(xfrm->check, &change.state);
	return true;
}

/* One part of a dump. False when there is none now, or no more. */
static bool read_part(struct xfrm *xfrm)
{
	struct sockaddr_nl from = { 0 };
	socklen_t from_len = sizeof(from);
	const ssize_t size = recvfrom(xfrm->dump, xfrm->buffer, PART_BYTES,
				      MSG_DONTWAIT | MSG_TRUNC, (struct sockaddr *)&from,
				      &from_len);
	const struct nlmsghdr *nlh = (const struct nlmsghdr *)xfrm->buffer;
	int left = (int)size;
	bool more = true;

	if (size < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (size < 0 || size > PART_BYTES) {
		fail(xfrm, "the kernel refuses to list its SAs");
		return false;
	}
	for (; from.nl_pid == 0 && more && mnl_nlmsg_ok(nlh, left);
	     nlh = mnl_nlmsg_next(nlh, &left))
		more = on_answer(xfrm, nlh);
	explicit_bzero(xfrm->buffer, (size_t)size);
	if (xfrm->done)
		finish_dump(xfrm);
	return more;
}

/* Only that something has changed; what, is asked for at the next tick. */
static void read_links(struct xfrm *xfrm)
{
	while (recv(xfrm->links, xfrm->buffer, PART_BYTES, MSG_DONTWAIT) >= 0 || errno == ENOBUFS)
		xfrm->addresses_stale = true;
}

void xfrm_read(struct xfrm *xfrm)
{
	if (xfrm && xfrm->changes >= 0)
		read_notifications(xfrm);
}

void xfrm_dispatch(struct xfrm *xfrm)
{
	unsigned parts = PARTS;

	xfrm_read(xfrm);
	/* Each of these may fail, and then there are no sockets. */
	while (xfrm->dumping && parts-- && read_part(xfrm))
		;
	if (xfrm->links >= 0)
		read_links(xfrm);
	if (xfrm->lost && !xfrm->dumping && now_us() - xfrm->dump_us > LOST_REST_US)
		start_dump(xfrm);
}

static void open_again(struct xfrm *xfrm)
{
	int r = open_sockets(xfrm);

	if (r < 0) {
		fail(xfrm, open_problem(r));
		return;
	}
	read_addresses(xfrm);
	start_dump(xfrm);
}

/* A suspicion waits for a tick at the least, and longer where dumps take long. */
static bool suspicious(struct xfrm *xfrm)
{
	const size_t before = xfrm->suspects;
	const int64_t rested = xfrm->dump_us + (1 + XFRM_REST_FACTOR) * xfrm->dump_length_us;

	xfrm->suspects = sa_check_suspects(xfrm->check);
	return before && xfrm->suspects && now_us() >= rested;
}

void xfrm_tick(struct xfrm *xfrm)
{
	bool wanted;

	if (!xfrm)
		return;
	if (xfrm->changes < 0) {
		if (now_us() >= xfrm->retry_us)
			open_again(xfrm);
		return;
	}
	xfrm_read(xfrm);
	if (xfrm->addresses_stale)
		read_addresses(xfrm);
	if (!sa_check_doubtful(xfrm->check))
		xfrm->trusted_us = now_us();
	else if (now_us() - xfrm->trusted_us > XFRM_DOUBT_MAX_US)
		sa_check_lose(xfrm->check);
	wanted = suspicious(xfrm) || xfrm->wanted || sa_check_wants_dump(xfrm->check);
	if (wanted && !xfrm->dumping && xfrm->changes >= 0)
		start_dump(xfrm);
}

void xfrm_resync(struct xfrm *xfrm)
{
	if (xfrm)
		xfrm->wanted = true;
}

/* The kernel makes each part as it is read, so there is always one. */
static void read_first_dump(struct xfrm *xfrm)
{
	for (unsigned i = 1; xfrm->dumping; i++) {
		while (xfrm->dumping && read_part(xfrm))
			;
		if (i < FIRST_TRIES && xfrm->changes >= 0 && !xfrm->dumping &&
		    sa_check_doubtful(xfrm->check))
			start_dump(xfrm);
		else
			break;
	}
}

int xfrm_open(struct sa_check *check, struct xfrm **ret_xfrm)
{
	struct xfrm *xfrm = calloc(1, sizeof(*xfrm));
	int r;

	if (!xfrm)
		return -ENOMEM;
	xfrm->check = check;
	xfrm->changes = xfrm->dump = xfrm->links = -1;
	xfrm->epoll = epoll_create1(EPOLL_CLOEXEC);
	r = xfrm->epoll < 0 ? -errno : 0;
	xfrm->buffer = malloc(PART_BYTES);
	if (r == 0 && !xfrm->buffer)
		r = -ENOMEM;
	if (r < 0) {
		xfrm_close(xfrm);
		return r;
	}
	open_again(xfrm);
	read_first_dump(xfrm);
	*ret_xfrm = xfrm;
	return 0;
}

void xfrm_close(struct xfrm *xfrm)
{
	if (!xfrm)
		return;
	close_sockets(xfrm);
	close_fd(&xfrm->epoll);
	local_addresses_done(&xfrm->addresses);
	free(xfrm->buffer);
	free(xfrm);
}

int xfrm_fd(const struct xfrm *xfrm)
{
	return xfrm->epoll;
}

const char *xfrm_problem(const struct xfrm *xfrm)
{
	return xfrm->problem;
}

struct xfrm_counters xfrm_counters(const struct xfrm *xfrm)
{
	return xfrm->counters;
}
