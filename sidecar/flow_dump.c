/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "flow_dump.h"
#include "thread.h"

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
#include <unistd.h>

/* The kernel makes the parts of a dump at most as large. */
#define PART_BYTES 65536
#define ANSWER_TIMEOUT_S 10
#define FIRST_ROOM 256

enum state { IDLE, ASKED, DONE };

struct flow_dump {
	pthread_t thread;
	pthread_mutex_t lock; /* for state and stop */
	pthread_cond_t wake;
	enum state state;
	bool stop;
	int done_fd;
	flow_dump_wants wants;
	void *user;
	struct flow_dump_result result; /* the thread's while ASKED */
	/* the thread's own */
	size_t room;
	int fd; /* -1: not open */
};

static bool make_room(struct flow_dump *dump)
{
	struct flow_dump_result *result = &dump->result;
	size_t room = dump->room ? 2 * dump->room : FIRST_ROOM;
	struct conntrack_flow *flows;

	if (result->count < dump->room)
		return true;
	if (room > FLOW_DUMP_MAX)
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

	if (conntrack_flow_parse(message, message->nlmsg_len, &flow, &kind) < 0 ||
	    !dump->wants(dump->user, &flow))
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

/* conntrack -L */
static int ask(int fd)
{
	char buffer[MNL_NLMSG_HDRLEN + 64] = { 0 };
	struct nlmsghdr *message = mnl_nlmsg_put_header(buffer);
	struct nfgenmsg *family;

	message->nlmsg_type = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET;
	message->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	family = mnl_nlmsg_put_extra_header(message, sizeof(*family));
	family->nfgen_family = AF_UNSPEC;
	family->version = NFNETLINK_V0;
	return send(fd, message, message->nlmsg_len, 0) < 0 ? -errno : 0;
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
	int r = open_socket(dump);

	if (r == 0)
		r = ask(dump->fd);
	for (r = r < 0 ? r : 1; r > 0;) {
		ssize_t len = recv(dump->fd, part, sizeof(part), 0);

		if (len >= 0)
			r = read_part(dump, part, (int)len);
		else if (errno != EINTR)
			r = -errno;
	}
	/* What is left unread must not meet the next look. */
	if (r < 0 && dump->fd >= 0) {
		close(dump->fd);
		dump->fd = -1;
	}
	return r;
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
		dump->result.error = look(dump);
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

bool flow_dump_begin(struct flow_dump *dump, flow_dump_wants wants, void *user)
{
	bool idle;

	pthread_mutex_lock(&dump->lock);
	idle = dump->state == IDLE;
	if (idle) {
		dump->state = ASKED;
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
