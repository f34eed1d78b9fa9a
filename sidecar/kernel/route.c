/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rtnetlink requests, and what concerns rules and routes both.
 */
#include "route.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "route_internal.h"

#ifndef NETLINK_GET_STRICT_CHK
#define NETLINK_GET_STRICT_CHK 12
#endif

/* A dump torn by a change is repeated this often. */
#define DUMP_TRIES 5

const int route_families[2] = { AF_INET, AF_INET6 };

bool route_path_has(const struct path *path, int family)
{
	for (unsigned i = 0; path->table != 0 && i < path->via_count; i++)
		if (path->via[i].family == family)
			return true;
	return false;
}

static int from_libnl(int err)
{
	if (err >= 0)
		return 0;
	switch (-err) {
	case NLE_NOMEM:
		return -ENOMEM;
	case NLE_PERM:
		return -EPERM;
	case NLE_AGAIN:
		return -EAGAIN;
	case NLE_DUMP_INTR:
		return -EINTR;
	default:
		return -EIO;
	}
}

int route_open(const struct settings *settings, struct route **ret_route)
{
	struct route *route = calloc(1, sizeof(*route));
	int on = 1;
	int err;

	if (route == NULL)
		return -ENOMEM;
	route->settings = settings;
	route->socket = nl_socket_alloc();
	if (route->socket == NULL) {
		err = -ENOMEM;
		goto fail;
	}
	err = from_libnl(nl_connect(route->socket, NETLINK_ROUTE));
	if (err < 0)
		goto fail;
	/* Without it the kernel dumps every table; what is not asked for is then left out here. */
	setsockopt(nl_socket_get_fd(route->socket), SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on,
		   sizeof(on));
	*ret_route = route;
	return 0;
fail:
	route_close(route);
	return err;
}

void route_close(struct route *route)
{
	if (route == NULL)
		return;
	if (route->socket != NULL)
		nl_socket_free(route->socket);
	free(route);
}

void route_observed_clear(struct observed *observed)
{
	for (size_t i = 0; i < observed->count; i++)
		nlmsg_free(observed->messages[i]);
	free(observed->messages);
	*observed = (struct observed){ 0 };
}

static int keep(struct observed *observed, struct nlmsghdr *nlh)
{
	struct nl_msg *copy;

	if (observed->limit != 0 && observed->count >= observed->limit)
		return 0;
	if (observed->count == observed->room) {
		size_t room = observed->room == 0 ? 16 : observed->room * 2;
		struct nl_msg **messages;

		if (room > ROUTE_OBSERVED_MAX)
			return -EOVERFLOW;
		messages = reallocarray(observed->messages, room, sizeof(*messages));
		if (messages == NULL)
			return -ENOMEM;
		observed->messages = messages;
		observed->room = room;
	}
	copy = nlmsg_convert(nlh);
	if (copy == NULL)
		return -ENOMEM;
	observed->messages[observed->count++] = copy;
	return 0;
}

/* One request under way. libnl's own error numbers lose most of the kernel's, so keep those. */
struct exchange {
	route_filter filter;
	void *user;
	struct observed *observed;
	bool done; /* its last message was seen */
	int err;
};

static int on_valid(struct nl_msg *msg, void *user)
{
	struct exchange *exchange = user;
	struct nlmsghdr *nlh = nlmsg_hdr(msg);

	if (exchange->observed != NULL && exchange->err == 0 &&
	    exchange->filter(nlh, exchange->user))
		exchange->err = keep(exchange->observed, nlh);
	return NL_OK;
}

static int on_error(struct sockaddr_nl *from, struct nlmsgerr *error, void *user)
{
	struct exchange *exchange = user;

	(void)from;
	exchange->err = error->error;
	exchange->done = true;
	return NL_STOP;
}

/* A dump that the kernel gave up reports why in its last message. */
static int on_finish(struct nl_msg *msg, void *user)
{
	struct exchange *exchange = user;
	int32_t err;

	if (nlmsg_datalen(nlmsg_hdr(msg)) >= (int)sizeof(err)) {
		memcpy(&err, nlmsg_data(nlmsg_hdr(msg)), sizeof(err));
		if (err < 0 && exchange->err == 0)
			exchange->err = err;
	}
	exchange->done = true;
	return NL_STOP;
}

static int on_ack(struct nl_msg *msg, void *user)
{
	struct exchange *exchange = user;

	(void)msg;
	exchange->done = true;
	return NL_STOP;
}

static int converse(struct route *route, struct nl_msg *msg, struct exchange *exchange)
{
	struct nl_cb *cb = nl_cb_alloc(NL_CB_DEFAULT);
	int err;

	if (cb == NULL)
		return -ENOMEM;
	nl_cb_set(cb, NL_CB_VALID, NL_CB_CUSTOM, on_valid, exchange);
	nl_cb_set(cb, NL_CB_FINISH, NL_CB_CUSTOM, on_finish, exchange);
	nl_cb_set(cb, NL_CB_ACK, NL_CB_CUSTOM, on_ack, exchange);
	nl_cb_err(cb, NL_CB_CUSTOM, on_error, exchange);
	exchange->err = 0;
	exchange->done = false;
	err = nl_send_auto(route->socket, msg);
	/* a question for one thing gets its answer and its acknowledgement each for itself */
	while (err >= 0 && !exchange->done)
		err = nl_recvmsgs(route->socket, cb);
	nl_cb_put(cb);
	if (exchange->err != 0)
		return exchange->err;
	return from_libnl(err);
}

int route_change(struct route *route, struct nl_msg *msg)
{
	struct exchange exchange = { 0 };
	int err = converse(route, msg, &exchange);

	nlmsg_free(msg);
	return err;
}

int route_delete(struct route *route, struct nl_msg *seen, uint16_t type)
{
	struct nl_msg *msg = nlmsg_convert(nlmsg_hdr(seen));
	struct nlmsghdr *nlh;

	if (msg == NULL)
		return -ENOMEM;
	nlh = nlmsg_hdr(msg);
	nlh->nlmsg_type = type;
	nlh->nlmsg_flags = NLM_F_REQUEST;
	nlh->nlmsg_seq = NL_AUTO_SEQ;
	nlh->nlmsg_pid = NL_AUTO_PORT;
	return route_change(route, msg);
}

int route_dump(struct route *route, struct nl_msg *request, route_filter filter, void *user,
	       struct observed *observed)
{
	struct exchange exchange = { .filter = filter, .user = user, .observed = observed };
	size_t before = observed->count;
	int err = -EINTR;

	for (unsigned i = 0; i < DUMP_TRIES && err == -EINTR; i++) {
		while (observed->count > before)
			nlmsg_free(observed->messages[--observed->count]);
		nlmsg_hdr(request)->nlmsg_seq = NL_AUTO_SEQ;
		err = converse(route, request, &exchange);
	}
	nlmsg_free(request);
	return err;
}

int route_check_free(struct route *route, char error[ROUTE_ERROR_MAX])
{
	char fix[ROUTE_ERROR_MAX];
	int err = route_rules_check(route, error, fix);

	return err < 0 ? err : route_tables_check(route, error, fix);
}

int route_find_conflict(struct route *route, struct route_conflict *ret_conflict)
{
	int err = route_rules_check(route, ret_conflict->what, ret_conflict->fix);

	if (err == 0)
		err = route_tables_check(route, ret_conflict->what, ret_conflict->fix);
	return err == -EBUSY ? 1 : err;
}

/* Routes come before the rules that lead to them, and go after them. */
int route_ensure(struct route *route, enum steering_mode mode, unsigned *ret_changed)
{
	unsigned changed = 0;
	int routes = route_tables_ensure(route, &changed);
	int rules = route_rules_ensure(route, mode, &changed);

	*ret_changed = changed;
	return rules < 0 ? rules : routes;
}

int route_remove(struct route *route)
{
	int rules = route_rules_remove(route);
	int routes = route_tables_remove(route);

	return rules < 0 ? rules : routes;
}

/* A value of net.ipv4.conf; -1 when it cannot be read. */
static int read_conf(const char *interface, const char *name)
{
	char path[sizeof("/proc/sys/net/ipv4/conf///") + IFNAMSIZ + 32];
	int value = -1;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/sys/net/ipv4/conf/%s/%s", interface, name);
	file = fopen(path, "re");
	if (file == NULL)
		return -1;
	if (fscanf(file, "%d", &value) != 1)
		value = -1;
	fclose(file);
	return value;
}

/*
 * The kernel takes the larger rp_filter of "all" and the interface, and either's src_valid_mark.
 * The mark helps only where replies have one. An interface not named: what goes for all is all
 * that can be said.
 */
bool route_drops_replies(const struct settings *settings, const struct path *path)
{
	const char *interface = path->interface[0] != '\0' ? path->interface : "all";
	int all = read_conf("all", "rp_filter");
	int own = read_conf(interface, "rp_filter");

	if (!route_path_has(path, AF_INET) || (all > own ? all : own) != 1)
		return false;
	return !settings->pinning || path->interface[0] == '\0' ||
	       (read_conf("all", "src_valid_mark") <= 0 &&
		read_conf(interface, "src_valid_mark") <= 0);
}

bool route_rp_filter_problem(const struct settings *settings, char error[ROUTE_ERROR_MAX])
{
	for (unsigned i = 0; i < settings->path_count; i++) {
		const struct path *path = &settings->paths[i];
		const char *interface = path->interface[0] != '\0' ? path->interface : "all";

		if (!route_drops_replies(settings, path))
			continue;
		snprintf(error, ROUTE_ERROR_MAX,
			 "path %s: strict reverse-path filtering on %s drops the replies; set "
			 "net.ipv4.conf.%s.%s",
			 path->name, interface, interface,
			 settings->pinning && path->interface[0] != '\0'
				 ? "src_valid_mark=1, or rp_filter to 2"
				 : "rp_filter=2");
		return true;
	}
	return false;
}
