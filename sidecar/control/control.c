/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "control.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define PROTOCOL_VERSION 1
#define PROGRESS_US (10 * 1000000ULL)
#define PRIORITY (-10)
#define GROUPS_MAX 1024
/* Room for "v", "ok" and the braces around a handler's CONTROL_SMALL_REPLY. */
#define REPLY_START (4 * CONTROL_SMALL_REPLY)
/* All replies under way together; each client's small one comes on top. */
#define PENDING_MAX (2 * (size_t)CONTROL_REPLY_MAX + CONTROL_CLIENTS_MAX * (size_t)REPLY_START)

struct client {
	struct control *control;
	int fd;
	struct control_caller caller;
	sd_event_source *io;
	sd_event_source *timer;
	bool closing; /* after the reply */
	bool waiting; /* for control_resume(), with the request still in the buffer */
	size_t in_len;
	char *out; /* NULL: no reply under way */
	size_t out_len;
	size_t out_done;
	char in[CONTROL_REQUEST_MAX + 1];
};

struct control {
	sd_event *loop;
	sd_event_source *io;
	int fd;
	int spare; /* a descriptor to give up when there are no others */
	gid_t gid;
	bool has_group;
	struct sockaddr_un address;
	struct stat made; /* the socket's file as we made it */
	const struct control_command *commands;
	void *user;
	void (*ended)(void *user, uint64_t connection); /* or NULL */
	uint64_t connections;
	uint64_t requests;
	struct control_counters counters;
	struct client *clients[CONTROL_CLIENTS_MAX];
};

/* Who may ask */

static void name_caller(struct control_caller *caller)
{
	char buf[4096];
	struct passwd pw, *found = NULL;

	if (getpwuid_r(caller->uid, &pw, buf, sizeof(buf), &found) == 0 && found &&
	    strlen(pw.pw_name) < sizeof(caller->name))
		strcpy(caller->name, pw.pw_name);
	else
		snprintf(caller->name, sizeof(caller->name), "uid %lu", (unsigned long)caller->uid);
}

/* The groups the peer had when it connected, from the kernel and not from the user database. */
static bool peer_in_group(int fd, gid_t gid)
{
	gid_t groups[GROUPS_MAX];
	socklen_t len = sizeof(groups);
	size_t i;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len) < 0)
		return false;
	for (i = 0; i < len / sizeof(groups[0]); i++) {
		if (groups[i] == gid)
			return true;
	}
	return false;
}

static bool peer_allowed(const struct control *control, int fd, struct control_caller *ret_caller)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return false;
	ret_caller->uid = cred.uid;
	ret_caller->pid = cred.pid;
	name_caller(ret_caller);
	if (cred.uid == 0 || cred.uid == geteuid())
		return true;
	return control->has_group && (cred.gid == control->gid || peer_in_group(fd, control->gid));
}

/* Replies */

static void client_free(struct client *client)
{
	struct control *control;
	size_t i;

	if (!client)
		return;
	control = client->control;
	for (i = 0; i < CONTROL_CLIENTS_MAX; i++) {
		if (control->clients[i] == client)
			control->clients[i] = NULL;
	}
	if (control->ended)
		control->ended(control->user, client->caller.connection);
	sd_event_source_disable_unref(client->io);
	sd_event_source_disable_unref(client->timer);
	close(client->fd);
	free(client->out);
	free(client);
}

/* There was progress: the clock starts again. */
static int restart_timer(struct client *client)
{
	return sd_event_source_set_time_relative(client->timer, PROGRESS_US);
}

/* Hand over a finished reply; takes text. */
static void set_reply(struct client *client, char *text, size_t len)
{
	client->out = text;
	client->out_len = len;
	client->out_done = 0;
}

/* An error of at most CONTROL_ERROR_MAX bytes: every one of them may need \u00XX. */
static int reply_error(struct client *client, const char *error)
{
	size_t size = 6 * CONTROL_ERROR_MAX + 128;
	char *text = malloc(size + 1);
	struct json_writer w;
	size_t len;

	if (!text)
		return -ENOMEM;
	json_init(&w, text, size);
	json_object_begin(&w, NULL);
	json_uint(&w, "v", PROTOCOL_VERSION);
	json_bool(&w, "ok", false);
	json_string(&w, "error", error);
	json_object_end(&w);
	len = json_finish(&w);
	text[len++] = '\n';
	set_reply(client, text, len);
	return 0;
}

static int reply_refused(struct client *client, const char *error)
{
	client->control->counters.refused_requests++;
	return reply_error(client, error);
}

/* One try with a buffer of size bytes. -ENOSPC: did not fit. */
static int try_handler(struct client *client, const struct control_command *command,
		       yajl_val request, size_t size)
{
	char error[CONTROL_ERROR_MAX] = "";
	char *text = malloc(size + 1), *shrunk;
	struct json_writer w;
	size_t len;
	int r;

	if (!text)
		return -ENOMEM;
	json_init(&w, text, size);
	json_object_begin(&w, NULL);
	json_uint(&w, "v", PROTOCOL_VERSION);
	json_bool(&w, "ok", true);
	r = command->handle(client->control->user, &client->caller, request, &w, error);
	if (r == -EINPROGRESS) {
		free(text);
		client->waiting = true;
		return 0;
	}
	if (r < 0) {
		free(text);
		error[CONTROL_ERROR_MAX - 1] = '\0';
		return reply_error(client, *error ? error : strerror(-r));
	}
	json_object_end(&w);
	len = json_finish(&w);
	if (len == 0) {
		free(text);
		return -ENOSPC;
	}
	text[len++] = '\n';
	shrunk = realloc(text, len);
	set_reply(client, shrunk ? shrunk : text, len);
	return 0;
}

static size_t bytes_under_way(const struct control *control)
{
	size_t i, sum = 0;

	for (i = 0; i < CONTROL_CLIENTS_MAX; i++) {
		if (control->clients[i] && control->clients[i]->out)
			sum += control->clients[i]->out_len;
	}
	return sum;
}

static int run_command(struct client *client, const struct control_command *command,
		       yajl_val request)
{
	size_t room = PENDING_MAX - bytes_under_way(client->control);
	size_t size;
	int r = -ENOSPC;

	for (size = REPLY_START; r == -ENOSPC && size <= CONTROL_REPLY_MAX; size *= 4) {
		if (size > REPLY_START && size > room)
			return reply_refused(client,
					     "too many long answers are under way; try again");
		r = try_handler(client, command, request, size);
	}
	if (r == -ENOSPC)
		return reply_refused(client, "the answer is too long");
	return r;
}

/* Requests */

static int refuse_command(struct client *client, const char *name)
{
	const struct control_command *command;
	char error[CONTROL_ERROR_MAX];
	int len;

	len = snprintf(error, sizeof(error), "unknown command \"%.64s\"; known are", name);
	for (command = client->control->commands; command->name; command++) {
		if (len > 0 && (size_t)len < sizeof(error))
			len += snprintf(error + len, sizeof(error) - (size_t)len, "%s %s",
					command == client->control->commands ? "" : ",",
					command->name);
	}
	return reply_refused(client, error);
}

static int run_request(struct client *client, yajl_val request)
{
	const struct control_command *command;
	const char *name;

	if (!YAJL_IS_OBJECT(request))
		return reply_refused(client, "the request is not a JSON object");
	if (control_int(request, "v", 0) != PROTOCOL_VERSION)
		return reply_refused(client, "the request's \"v\" is not 1");
	name = control_string(request, "command");
	if (!name)
		return reply_refused(client, "the request has no \"command\"");
	for (command = client->control->commands; command->name; command++) {
		if (strcmp(command->name, name) == 0)
			return run_command(client, command, request);
	}
	return refuse_command(client, name);
}

/* One line of len bytes, with a NUL in the place of its line end. */
static int handle_line(struct client *client, char *line, size_t len)
{
	char parse_error[128], error[CONTROL_ERROR_MAX];
	yajl_val request;
	int r;

	/* Nor an escaped one: it would end a string for C and not for JSON. */
	if (strlen(line) != len || strstr(line, "\\u0000"))
		return reply_refused(client, "the request has a NUL byte");
	request = yajl_tree_parse(line, parse_error, sizeof(parse_error));
	if (!request) {
		parse_error[strcspn(parse_error, "\n")] = '\0';
		snprintf(error, sizeof(error), "the request is not JSON: %s", parse_error);
		return reply_refused(client, error);
	}
	r = run_request(client, request);
	yajl_tree_free(request);
	return r;
}

/*
 * Answer the first whole line, if there is one; one for each turn of the loop, so that a client
 * which sends many at once does not keep the others waiting. One that has to wait stays as it was.
 */
static int handle_input(struct client *client)
{
	char *end = memchr(client->in, '\n', client->in_len);
	size_t len;
	int r;

	if (!end) {
		if (client->in_len < CONTROL_REQUEST_MAX)
			return 0;
		client->closing = true;
		return reply_refused(client, "the request is too long");
	}
	*end = '\0';
	len = (size_t)(end - client->in);
	r = handle_line(client, client->in, len);
	if (client->waiting) {
		*end = '\n';
		return r;
	}
	client->in_len -= len + 1;
	memmove(client->in, end + 1, client->in_len);
	return r;
}

/* A request that is handled for the first time. */
static int begin_request(struct client *client)
{
	if (memchr(client->in, '\n', client->in_len)) {
		client->control->counters.requests++;
		client->caller.request = ++client->control->requests;
	}
	return handle_input(client);
}

/* The loop */

/* -ECONNRESET: the peer is gone. */
static int receive(struct client *client)
{
	ssize_t got = recv(client->fd, client->in + client->in_len,
			   CONTROL_REQUEST_MAX - client->in_len, 0);

	if (got == 0)
		return -ECONNRESET;
	if (got < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	client->in_len += (size_t)got;
	return restart_timer(client);
}

static int transmit(struct client *client)
{
	ssize_t sent = send(client->fd, client->out + client->out_done,
			    client->out_len - client->out_done, MSG_NOSIGNAL);

	if (sent < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	client->out_done += (size_t)sent;
	if (client->out_done == client->out_len) {
		free(client->out);
		client->out = NULL;
	}
	return restart_timer(client);
}

/* While a reply is under way nothing is read: the peer's own socket buffer is its queue. */
static int wait_for_more(struct client *client)
{
	bool pending = client->out || memchr(client->in, '\n', client->in_len);

	if (client->waiting)
		return sd_event_source_set_io_events(client->io, 0);
	return sd_event_source_set_io_events(client->io, pending ? EPOLLOUT : EPOLLIN);
}

static int reply(struct client *client)
{
	int r = client->out ? transmit(client) : 0;

	if (r == 0 && client->closing && !client->out)
		r = -ESHUTDOWN;
	return r < 0 ? r : wait_for_more(client);
}

static int serve(struct client *client, uint32_t events)
{
	int r = 0;

	if ((events & (EPOLLERR | EPOLLHUP)) && !(events & EPOLLIN))
		return -ECONNRESET;
	if (!client->out && (events & EPOLLIN))
		r = receive(client);
	if (r == 0 && !client->out)
		r = begin_request(client);
	return r < 0 ? r : reply(client);
}

static int on_client(sd_event_source *source, int fd, uint32_t events, void *user)
{
	struct client *client = user;

	(void)source;
	(void)fd;
	if (serve(client, events) < 0)
		client_free(client);
	return 0;
}

static int on_timeout(sd_event_source *source, uint64_t usec, void *user)
{
	struct client *client = user;

	(void)source;
	(void)usec;
	client->control->counters.timeouts++;
	client_free(client);
	return 0;
}

static int watch_client(struct client *client)
{
	sd_event *loop = client->control->loop;
	int r;

	r = sd_event_add_io(loop, &client->io, client->fd, EPOLLIN, on_client, client);
	if (r >= 0)
		r = sd_event_source_set_priority(client->io, PRIORITY);
	if (r >= 0)
		r = sd_event_add_time_relative(loop, &client->timer, CLOCK_MONOTONIC, PROGRESS_US,
					       0, on_timeout, client);
	if (r >= 0)
		r = sd_event_source_set_priority(client->timer, PRIORITY);
	return r;
}

static int client_new(struct control *control, int fd, struct client **ret_client)
{
	struct client *client = NULL;
	size_t i;

	for (i = 0; i < CONTROL_CLIENTS_MAX && control->clients[i]; i++)
		;
	if (i == CONTROL_CLIENTS_MAX) {
		control->counters.refused_clients++;
		return -EMFILE;
	}
	client = calloc(1, sizeof(*client));
	if (!client)
		return -ENOMEM;
	client->control = control;
	client->caller.connection = ++control->connections;
	client->fd = fd;
	control->clients[i] = client;
	*ret_client = client;
	return 0;
}

static void admit(struct control *control, int fd)
{
	struct client *client;
	int r;

	if (client_new(control, fd, &client) < 0) {
		close(fd);
		return;
	}
	r = watch_client(client);
	if (r >= 0 && !peer_allowed(control, fd, &client->caller)) {
		control->counters.denied_callers++;
		client->closing = true;
		r = reply_error(client,
				"permission denied: only root, steerd's own user and members of "
				"its control group may use this socket");
		if (r >= 0)
			r = wait_for_more(client);
	}
	if (r < 0)
		client_free(client);
}

/*
 * Out of descriptors: a connection that is not accepted would wake the loop for ever. The spare
 * one lets us take it and close it.
 */
static void turn_away(struct control *control)
{
	int client;

	if (control->spare >= 0)
		close(control->spare);
	client = accept4(control->fd, NULL, NULL, SOCK_CLOEXEC);
	if (client >= 0)
		close(client);
	control->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
	control->counters.refused_clients++;
}

static int on_connection(sd_event_source *source, int fd, uint32_t events, void *user)
{
	struct control *control = user;
	int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)source;
	(void)events;
	if (client >= 0)
		admit(control, client);
	else if (errno == EMFILE || errno == ENFILE)
		turn_away(control);
	return 0;
}

/* Opening */

/* Is somebody listening on the socket that is there? If not, it is left over: remove it. */
static int clear_stale(const struct sockaddr_un *address)
{
	struct stat st;
	int fd, r = 0;

	if (lstat(address->sun_path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -ENOTSOCK;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 || errno == EAGAIN)
		r = -EADDRINUSE;
	else if (errno != ECONNREFUSED && errno != ENOENT)
		r = -errno;
	else if (unlink(address->sun_path) < 0 && errno != ENOENT)
		r = -errno;
	close(fd);
	return r;
}

/*
 * The mode of a unix socket's file is that of its descriptor when it is bound: nobody can come
 * in before the group is set, without touching the umask of the other threads.
 */
static int bind_socket(struct control *control)
{
	const char *path = control->address.sun_path;

	if (fchmod(control->fd, 0600) < 0 ||
	    bind(control->fd, (struct sockaddr *)&control->address, sizeof(control->address)) < 0)
		return -errno;
	if (lstat(path, &control->made) < 0)
		return -errno;
	if (control->has_group &&
	    (chown(path, (uid_t)-1, control->gid) < 0 || chmod(path, 0660) < 0))
		return -errno;
	return listen(control->fd, CONTROL_CLIENTS_MAX) < 0 ? -errno : 0;
}

static int look_up_group(struct control *control, const char *group)
{
	struct group gr, *found = NULL;
	char buf[65536];
	int r;

	if (!*group)
		return 0;
	r = getgrnam_r(group, &gr, buf, sizeof(buf), &found);
	if (!found)
		return r ? -r : -ESRCH;
	control->gid = gr.gr_gid;
	control->has_group = true;
	return 0;
}

static int start(struct control *control, const char *path, const char *group)
{
	int r;

	control->address.sun_family = AF_UNIX;
	if (strlen(path) >= sizeof(control->address.sun_path))
		return -ENAMETOOLONG;
	strcpy(control->address.sun_path, path);
	r = look_up_group(control, group);
	if (r == 0)
		r = clear_stale(&control->address);
	if (r < 0)
		return r;
	control->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (control->fd < 0)
		return -errno;
	r = bind_socket(control);
	if (r == 0)
		r = sd_event_add_io(control->loop, &control->io, control->fd, EPOLLIN,
				    on_connection, control);
	return r < 0 ? r : sd_event_source_set_priority(control->io, PRIORITY);
}

int control_open(sd_event *loop, const char *path, const char *group,
		 const struct control_command *commands, void *user, struct control **ret_control)
{
	struct control *control = calloc(1, sizeof(*control));
	int r;

	if (!control)
		return -ENOMEM;
	control->loop = sd_event_ref(loop);
	control->fd = -1;
	control->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
	control->commands = commands;
	control->user = user;
	r = start(control, path, group);
	if (r < 0) {
		control_close(control);
		return r;
	}
	*ret_control = control;
	return 0;
}

/* Remove the file if it is still the one we made, and not that of a steerd that came after us. */
static void remove_file(const struct control *control)
{
	struct stat st;

	if (control->made.st_ino && lstat(control->address.sun_path, &st) == 0 &&
	    st.st_ino == control->made.st_ino && st.st_dev == control->made.st_dev)
		unlink(control->address.sun_path);
}

void control_close(struct control *control)
{
	size_t i;

	if (!control)
		return;
	for (i = 0; i < CONTROL_CLIENTS_MAX; i++)
		client_free(control->clients[i]);
	sd_event_source_disable_unref(control->io);
	if (control->fd >= 0) {
		remove_file(control);
		close(control->fd);
	}
	if (control->spare >= 0)
		close(control->spare);
	sd_event_unref(control->loop);
	free(control);
}

void control_on_end(struct control *control, void (*ended)(void *user, uint64_t connection))
{
	control->ended = ended;
}

void control_resume(struct control *control, uint64_t connection)
{
	struct client *client = NULL;
	int r;

	for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++)
		if (control->clients[i] && control->clients[i]->caller.connection == connection)
			client = control->clients[i];
	if (!client || !client->waiting)
		return;
	client->waiting = false;
	r = handle_input(client);
	if (r == 0)
		r = reply(client);
	if (r < 0)
		client_free(client);
}

struct control_counters control_counters(const struct control *control)
{
	return control->counters;
}

/* Members of requests */

static yajl_val member(yajl_val request, const char *name)
{
	const char *path[] = { name, NULL };

	return yajl_tree_get(request, path, yajl_t_any);
}

const char *control_string(yajl_val request, const char *name)
{
	return YAJL_GET_STRING(member(request, name));
}

bool control_bool(yajl_val request, const char *name)
{
	return YAJL_IS_TRUE(member(request, name));
}

int64_t control_int(yajl_val request, const char *name, int64_t fallback)
{
	yajl_val value = member(request, name);

	return YAJL_IS_INTEGER(value) ? YAJL_GET_INTEGER(value) : fallback;
}
