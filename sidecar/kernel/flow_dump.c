/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "flow_dump.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "base/thread.h"

/* The kernel makes the parts of a dump at most as large. */
#define PART_BYTES 65536
#define ANSWER_TIMEOUT_S 10
#define FIRST_ROOM 256

/* Of a tuple, what CTA_FILTER_ORIG_FLAGS names; the kernel has them in net/netfilter/nf_internals.h. */
#define FILTER_IP_SRC (1u << 0)
#define FILTER_IP_DST (1u << 1)
#define FILTER_PROTO_NUM (1u << 3)
#define FILTER_SRC_PORT (1u << 4)
#define FILTER_DST_PORT (1u << 5)

enum state { IDLE, ASKED, DONE };

struct flow_dump {
	pthread_t thread;
	pthread_mutex_t lock; /* for state and stop */
	pthread_cond_t wake;
	enum state state;
	bool stop;
	int done_fd;
	bool filtered;
	struct flow_dump_filter filter;
	flow_dump_wants wants;
	void *user;
	struct flow_dump_result result; /* the thread's while ASKED */
	/* the thread's own */
	size_t room;
	int fd; /* -1: not open */
};

static bool is_same(const struct address *a, const struct address *b)
{
	return a->family == b->family && memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

static bool is_meant(const struct flow_dump_filter *filter, const struct conntrack_flow *flow)
{
	return flow->protocol == filter->protocol && flow->port == filter->port &&
	       (!filter->source_port || flow->source_port == filter->source_port) &&
	       is_same(&flow->source, &filter->source) &&
	       is_same(&flow->destination, &filter->destination);
}

static bool make_room(struct flow_dump *dump)
{
	const size_t limit = dump->filtered ? FLOW_DUMP_FILTERED_MAX : FLOW_DUMP_MAX;
	struct flow_dump_result *result = &dump->result;
	size_t room = dump->room ? 2 * dump->room : FIRST_ROOM;
	struct conntrack_flow *flows;

	if (result->count < dump->room)
		return true;
	if (room > limit)
		return false;
	flows = realloc(result->flows, room * sizeof(*flows));
	if (!flows)
		return false;
	result->flows = flows;
	dump->room = room;
	return true;
}

static void take_entry(struct flow_dump *dump, const struct nlmsghdr *message)
{
	struct conntrack_flow flow;
	enum conntrack_flow_kind kind;

	if (conntrack_flow_parse(message, message->nlmsg_len, &flow, &kind) < 0)
		return;
	dump->result.told++;
	if ((dump->filtered && !is_meant(&dump->filter, &flow)) || !dump->wants(dump->user, &flow))
		return;
	if (make_room(dump))
		dump->result.flows[dump->result.count++] = flow;
	else
		dump->result.left_out++;
}

/* 1: there are more, 0: this was the end, or an errno. */
static int read_part(struct flow_dump *dump, const char *part, int len)
{
	const struct nlmsghdr *message = (const struct nlmsghdr *)part;
	const struct nlmsgerr *error;

	for (; mnl_nlmsg_ok(message, len); message = mnl_nlmsg_next(message, &len)) {
		if (message->nlmsg_flags & NLM_F_DUMP_INTR)
			dump->result.torn = true;
		if (message->nlmsg_type == NLMSG_DONE)
			return 0;
		error = mnl_nlmsg_get_payload(message);
		if (message->nlmsg_type == NLMSG_ERROR)
			return mnl_nlmsg_get_payload_len(message) < sizeof(*error) || !error->error
				       ? -EBADMSG
				       : error->error;
		take_entry(dump, message);
	}
	return 1;
}

static void put_tuple(struct nlmsghdr *message, const struct flow_dump_filter *filter)
{
	const bool six = filter->source.family == AF_INET6;
	const size_t len = six ? 16 : 4;
	struct nlattr *tuple = mnl_attr_nest_start(message, CTA_TUPLE_ORIG);
	struct nlattr *part = mnl_attr_nest_start(message, CTA_TUPLE_IP);

	mnl_attr_put(message, six ? CTA_IP_V6_SRC : CTA_IP_V4_SRC, len, filter->source.bytes);
	mnl_attr_put(message, six ? CTA_IP_V6_DST : CTA_IP_V4_DST, len, filter->destination.bytes);
	mnl_attr_nest_end(message, part);
	part = mnl_attr_nest_start(message, CTA_TUPLE_PROTO);
	mnl_attr_put_u8(message, CTA_PROTO_NUM, filter->protocol);
	if (filter->source_port)
		mnl_attr_put_u16(message, CTA_PROTO_SRC_PORT, htons(filter->source_port));
	mnl_attr_put_u16(message, CTA_PROTO_DST_PORT, htons(filter->port));
	mnl_attr_nest_end(message, part);
	mnl_attr_nest_end(message, tuple);
}

/*
 * Of IPv6 the kernel is not asked to compare the addresses: ctnetlink_filter_match_tuple() leaves out those
 * that are equal (Linux 5.8 up to at least 6.18).
 */
static void put_filter(struct nlmsghdr *message, const struct flow_dump_filter *filter)
{
	uint32_t flags = FILTER_PROTO_NUM | FILTER_DST_PORT;
	struct nlattr *nest;

	put_tuple(message, filter);
	if (filter->exact)
		return;
	if (filter->source.family == AF_INET)
		flags |= FILTER_IP_SRC | FILTER_IP_DST;
	if (filter->source_port)
		flags |= FILTER_SRC_PORT;
	nest = mnl_attr_nest_start(message, CTA_FILTER);
	mnl_attr_put_u32(message, CTA_FILTER_ORIG_FLAGS, flags);
	mnl_attr_put_u32(message, CTA_FILTER_REPLY_FLAGS, 0);
	mnl_attr_nest_end(message, nest);
}

/* conntrack -L, or -G */
static int ask(const struct flow_dump *dump, bool exact)
{
	_Alignas(struct nlmsghdr) char buffer[MNL_NLMSG_HDRLEN + 256] = { 0 };
	struct nlmsghdr *message = mnl_nlmsg_put_header(buffer);
	struct nfgenmsg *family;

	message->nlmsg_type = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET;
	message->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | (exact ? 0 : NLM_F_DUMP));
	family = mnl_nlmsg_put_extra_header(message, sizeof(*family));
	family->nfgen_family = dump->filtered ? (uint8_t)dump->filter.source.family : AF_UNSPEC;
	family->version = NFNETLINK_V0;
	if (dump->filtered)
		put_filter(message, &dump->filter);
	return send(dump->fd, message, message->nlmsg_len, 0) < 0 ? -errno : 0;
}

static int open_socket(struct flow_dump *dump)
{
	const struct timeval timeout = { .tv_sec = ANSWER_TIMEOUT_S };
	const struct sockaddr_nl address = { .nl_family = AF_NETLINK };
	int r;

	if (dump->fd >= 0)
		return 0;
	dump->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
	if (dump->fd < 0)
		return -errno;
	if (bind(dump->fd, (const struct sockaddr *)&address, sizeof(address)) == 0 &&
	    setsockopt(dump->fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) == 0)
		return 0;
	r = -errno;
	close(dump->fd);
	dump->fd = -1;
	return r;
}

static int look(struct flow_dump *dump)
{
	static _Thread_local _Alignas(struct nlmsghdr) char part[PART_BYTES];
	const bool exact = dump->filtered && dump->filter.exact;
	int r = open_socket(dump);

	if (r == 0)
		r = ask(dump, exact);
	for (r = r < 0 ? r : 1; r > 0;) {
		ssize_t len = recv(dump->fd, part, sizeof(part), 0);

		if (len >= 0)
			r = read_part(dump, part, (int)len);
		else if (errno != EINTR)
			r = -errno;
		if (exact && r > 0 && len >= 0)
			r = 0;
	}
	if (exact && r == -ENOENT)
		return 0;
	/* What is left unread must not meet the next look. */
	if (r < 0 && dump->fd >= 0) {
		close(dump->fd);
		dump->fd = -1;
	}
	return r;
}

/* Of this thread alone: it gives way to others, which is no work. */
static int64_t cpu_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void look_and_measure(struct flow_dump *dump)
{
	const int64_t began = cpu_us();

	dump->result.error = look(dump);
	if (!dump->filtered || !dump->filter.exact)
		dump->result.walked_us = cpu_us() - began + 1;
}

/* It gives way to all others, as the conntrack cleaner does. */
static void *run(void *user)
{
	struct flow_dump *dump = user;
	const uint64_t one = 1;

	setpriority(PRIO_PROCESS, (id_t)gettid(), 19);
	pthread_mutex_lock(&dump->lock);
	while (!dump->stop) {
		if (dump->state != ASKED) {
			pthread_cond_wait(&dump->wake, &dump->lock);
			continue;
		}
		pthread_mutex_unlock(&dump->lock);
		look_and_measure(dump);
		pthread_mutex_lock(&dump->lock);
		dump->state = DONE;
		if (write(dump->done_fd, &one, sizeof(one)) < 0)
			dump->result.error = -errno;
	}
	pthread_mutex_unlock(&dump->lock);
	return NULL;
}

static void release(struct flow_dump *dump)
{
	pthread_cond_destroy(&dump->wake);
	pthread_mutex_destroy(&dump->lock);
	if (dump->fd >= 0)
		close(dump->fd);
	if (dump->done_fd >= 0)
		close(dump->done_fd);
	free(dump->result.flows);
	free(dump);
}

int flow_dump_start(struct flow_dump **ret_dump)
{
	struct flow_dump *dump = calloc(1, sizeof(*dump));
	int r;

	if (!dump)
		return -ENOMEM;
	pthread_mutex_init(&dump->lock, NULL);
	pthread_cond_init(&dump->wake, NULL);
	dump->fd = -1;
	dump->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = dump->done_fd < 0 ? -errno : thread_start(&dump->thread, run, dump);
	if (r < 0)
		release(dump);
	else
		*ret_dump = dump;
	return r;
}

void flow_dump_stop(struct flow_dump *dump)
{
	if (!dump)
		return;
	pthread_mutex_lock(&dump->lock);
	dump->stop = true;
	pthread_cond_signal(&dump->wake);
	pthread_mutex_unlock(&dump->lock);
	pthread_join(dump->thread, NULL);
	release(dump);
}

int flow_dump_fd(const struct flow_dump *dump)
{
	return dump->done_fd;
}

bool flow_dump_begin(struct flow_dump *dump, const struct flow_dump_filter *filter,
		     flow_dump_wants wants, void *user)
{
	bool idle;

	pthread_mutex_lock(&dump->lock);
	idle = dump->state == IDLE;
	if (idle) {
		dump->state = ASKED;
		dump->filtered = filter != NULL;
		if (filter)
			dump->filter = *filter;
		dump->wants = wants;
		dump->user = user;
		dump->result = (struct flow_dump_result){ .flows = NULL };
		dump->room = 0;
		pthread_cond_signal(&dump->wake);
	}
	pthread_mutex_unlock(&dump->lock);
	return idle;
}

bool flow_dump_take(struct flow_dump *dump, struct flow_dump_result *ret_result)
{
	uint64_t count;
	bool done;

	pthread_mutex_lock(&dump->lock);
	done = dump->state == DONE && read(dump->done_fd, &count, sizeof(count)) > 0;
	if (done) {
		*ret_result = dump->result;
		dump->result = (struct flow_dump_result){ .flows = NULL };
		dump->state = IDLE;
	}
	pthread_mutex_unlock(&dump->lock);
	return done;
}
