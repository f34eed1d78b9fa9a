/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "control/control.h"

#define DEADLINE_S 20
#define NOBODY 65534
#define SOME_GROUP_ID 54321

static char dir[] = "/tmp/test_control.XXXXXX";
static char path[64];
static sd_event *loop;
static struct control *control;

/* Handlers */

static int handle_echo(void *user, const struct control_caller *caller, yajl_val request,
		       struct json_writer *w, char error[CONTROL_ERROR_MAX])
{
	const char *text = control_string(request, "text");

	(void)error;
	++*(unsigned *)user;
	json_string(w, "text", text);
	json_bool(w, "flag", control_bool(request, "flag"));
	json_int(w, "number", control_int(request, "number", -1));
	json_uint(w, "uid", caller->uid);
	json_string(w, "name", caller->name);
	json_uint(w, "connection", caller->connection);
	return 0;
}

static int handle_refuse(void *user, const struct control_caller *caller, yajl_val request,
			 struct json_writer *w, char error[CONTROL_ERROR_MAX])
{
	(void)user;
	(void)caller;
	json_string(w, "half", "written");
	if (control_bool(request, "explain"))
		snprintf(error, CONTROL_ERROR_MAX, "tenant \"a\" has a \"quote\"");
	return -EBUSY;
}

/* An answer of "number" bytes, and a bit. */
static int handle_long(void *user, const struct control_caller *caller, yajl_val request,
		       struct json_writer *w, char error[CONTROL_ERROR_MAX])
{
	static char text[1025];
	int64_t i, count = control_int(request, "number", 0) / 1024;

	(void)caller;
	(void)error;
	++*(unsigned *)user;
	memset(text, 'x', 1024);
	json_array_begin(w, "lines");
	for (i = 0; i < count; i++)
		json_string(w, NULL, text);
	json_array_end(w);
	return 0;
}

static struct {
	uint64_t connection, request;
	unsigned calls;
	bool ready;
} later;

/* Waits until it is ready; long then, so that it is called again for a larger buffer. */
static int handle_later(void *user, const struct control_caller *caller, yajl_val request,
			struct json_writer *w, char error[CONTROL_ERROR_MAX])
{
	if (later.request != caller->request)
		later.calls = 0;
	later.connection = caller->connection;
	later.request = caller->request;
	later.calls++;
	if (!later.ready)
		return -EINPROGRESS;
	return handle_long(user, caller, request, w, error);
}

static const struct control_command commands[] = {
	{ "echo", handle_echo }, { "refuse", handle_refuse },
	{ "long", handle_long }, { "later", handle_later },
	{ NULL, NULL },
};

/* Fixture */

static unsigned calls;

static int open_control(void **state)
{
	(void)state;
	calls = 0;
	if (sd_event_new(&loop) < 0)
		return -1;
	return control_open(loop, path, "", commands, &calls, &control);
}

static int close_control(void **state)
{
	(void)state;
	control_close(control);
	control = NULL;
	loop = sd_event_unref(loop);
	return access(path, F_OK) == 0 ? -1 : 0;
}

static int make_dir(void **state)
{
	(void)state;
	if (!mkdtemp(dir) || chmod(dir, 0755) < 0)
		return -1;
	snprintf(path, sizeof(path), "%s/control", dir);
	return 0;
}

static int remove_dir(void **state)
{
	(void)state;
	return rmdir(dir);
}

/* Run the loop a little; -1 at the deadline. */
static int turn(time_t deadline)
{
	sd_event_run(loop, 20000);
	return time(NULL) < deadline ? 0 : -1;
}

static int connect_client(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	strcpy(address.sun_path, path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		fail_msg("connect: %s", strerror(errno));
	return fd;
}

static void send_bytes(int fd, const char *bytes, size_t len)
{
	time_t deadline = time(NULL) + DEADLINE_S;

	while (len > 0) {
		ssize_t sent = send(fd, bytes, len, MSG_NOSIGNAL);

		if (sent < 0 && errno != EAGAIN)
			return; /* it has closed: what it said tells why */
		if (sent > 0) {
			bytes += sent;
			len -= (size_t)sent;
		}
		assert_int_equal(turn(deadline), 0);
	}
}

/* One line without its end; the length, or -1 when the peer closed. */
static ssize_t receive_line(int fd, char *buf, size_t size)
{
	time_t deadline = time(NULL) + DEADLINE_S;
	size_t len = 0;

	for (;;) {
		ssize_t got = recv(fd, buf + len, 1, 0);

		if (got == 0 || (got < 0 && errno != EAGAIN))
			return -1;
		if (got < 0) {
			assert_int_equal(turn(deadline), 0);
			continue;
		}
		if (buf[len] == '\n') {
			buf[len] = '\0';
			return (ssize_t)len;
		}
		assert_true(++len < size);
	}
}

static void expect(int fd, const char *request, const char *answer)
{
	char line[8192];

	send_bytes(fd, request, strlen(request));
	assert_true(receive_line(fd, line, sizeof(line)) > 0);
	if (strncmp(line, answer, strlen(answer)) != 0)
		fail_msg("request: %s\ngot: %s\nexpected: %s", request, line, answer);
}

static void expect_closed(int fd)
{
	char line[8192];

	assert_int_equal(receive_line(fd, line, sizeof(line)), -1);
	close(fd);
}

/* Tests */

static void test_answers(void **state)
{
	int fd = connect_client();
	struct passwd *pw = getpwuid(geteuid());
	char answer[512];

	(void)state;
	snprintf(answer, sizeof(answer),
		 "{\"v\":1,\"ok\":true,\"text\":\"hello\",\"flag\":true,\"number\":42,\"uid\":%u,"
		 "\"name\":\"%s\",\"connection\":1}",
		 geteuid(), pw ? pw->pw_name : "?");
	expect(fd,
	       "{\"v\":1,\"command\":\"echo\",\"text\":\"hello\",\"flag\":true,\"number\":42}\n",
	       answer);
	/* absent, and of another type */
	expect(fd, "{\"v\":1,\"command\":\"echo\"}\n",
	       "{\"v\":1,\"ok\":true,\"text\":null,\"flag\":false,\"number\":-1,");
	expect(fd, "{\"v\":1,\"command\":\"echo\",\"text\":5,\"flag\":\"true\",\"number\":\"5\"}\n",
	       "{\"v\":1,\"ok\":true,\"text\":null,\"flag\":false,\"number\":-1,");
	/* nothing half-written of a refusal */
	expect(fd, "{\"v\":1,\"command\":\"refuse\",\"explain\":true}\n",
	       "{\"v\":1,\"ok\":false,\"error\":\"tenant \\\"a\\\" has a \\\"quote\\\"\"}");
	expect(fd, "{\"v\":1,\"command\":\"refuse\"}\n",
	       "{\"v\":1,\"ok\":false,\"error\":\"Device or resource busy\"}");
	assert_int_equal(control_counters(control).requests, 5);
	assert_int_equal(control_counters(control).refused_requests, 0);
	close(fd);
}

static uint64_t ended[2];

static void note_end(void *user, uint64_t connection)
{
	assert_ptr_equal(user, &calls);
	ended[1] = ended[0];
	ended[0] = connection;
}

/* Each has a number of its own, and its end is told, but not that of a request. */
static void test_connections(void **state)
{
	int first = connect_client(), second = connect_client();
	time_t deadline = time(NULL) + DEADLINE_S;

	(void)state;
	ended[0] = ended[1] = 0;
	control_on_end(control, note_end);
	for (unsigned i = 0; i < 2; i++)
		expect(first, "{\"v\":1,\"command\":\"echo\"}\n", "{\"v\":1,\"ok\":true");
	expect(second, "{\"v\":1,\"command\":\"echo\"}\n", "{\"v\":1,\"ok\":true");
	assert_int_equal(ended[0], 0);
	close(second);
	while (!ended[0])
		assert_int_equal(turn(deadline), 0);
	assert_int_equal(ended[0], 2);
	expect(first, "{\"v\":1,\"command\":\"echo\"}\n", "{\"v\":1,\"ok\":true");
	close(first);
	while (!ended[1])
		assert_int_equal(turn(deadline), 0);
	assert_int_equal(ended[0], 1);
}

/* An answer that has to wait: what was sent after it waits too, others do not. */
static void test_later(void **state)
{
	static const char request[] = "{\"v\":1,\"command\":\"later\",\"number\":100000}\n"
				      "{\"v\":1,\"command\":\"echo\"}\n";
	int fd = connect_client(), other = connect_client(), gone = connect_client();
	time_t deadline = time(NULL) + DEADLINE_S;
	static char line[200000];
	uint64_t first;

	(void)state;
	later.ready = false;
	later.calls = 0;
	send_bytes(fd, request, strlen(request));
	expect(other, "{\"v\":1,\"command\":\"echo\"}\n", "{\"v\":1,\"ok\":true");
	assert_int_equal(recv(fd, line, 1, 0), -1);
	assert_int_equal(calls, 1);
	first = later.request;
	assert_int_equal(later.calls, 1);
	control_resume(control, later.connection + 1000);
	control_resume(control, later.connection);
	assert_int_equal(later.request, first);
	assert_int_equal(later.calls, 2);
	assert_int_equal(recv(fd, line, 1, 0), -1);

	later.ready = true;
	control_resume(control, later.connection);
	assert_true(receive_line(fd, line, sizeof(line)) > 99000);
	assert_memory_equal(line, "{\"v\":1,\"ok\":true,\"lines\":[", 26);
	assert_int_equal(later.request, first);
	assert_true(later.calls > 3);
	assert_true(receive_line(fd, line, sizeof(line)) > 0);
	assert_non_null(strstr(line, "\"text\":null"));
	/* It does not wait any more. */
	control_resume(control, later.connection);
	assert_int_equal(control_counters(control).requests, 3);

	/* One that goes while it waits is not called again, and its end is told. */
	ended[0] = 0;
	control_on_end(control, note_end);
	later.ready = false;
	send_bytes(gone, request, strlen(request));
	while (later.request == first)
		assert_int_equal(turn(deadline), 0);
	close(gone);
	while (!ended[0])
		assert_int_equal(turn(deadline), 0);
	assert_int_equal(ended[0], later.connection);
	control_resume(control, later.connection);
	assert_int_equal(later.calls, 1);
	close(fd);
	close(other);
	while (!ended[1])
		assert_int_equal(turn(deadline), 0);
}

static void test_bad_requests(void **state)
{
	static const char *const cases[][2] = {
		{ "\n", "the request is not JSON" },
		{ "{\n", "the request is not JSON" },
		{ "nonsense\n", "the request is not JSON: lexical error" },
		{ "{\"v\":1,\"command\":\"echo\"} x\n", "the request is not JSON" },
		{ "[]\n", "the request is not a JSON object" },
		{ "null\n", "the request is not a JSON object" },
		{ "{}\n", "the request's \\\"v\\\" is not 1" },
		{ "{\"v\":2,\"command\":\"echo\"}\n", "the request's \\\"v\\\" is not 1" },
		{ "{\"v\":\"1\",\"command\":\"echo\"}\n", "the request's \\\"v\\\" is not 1" },
		{ "{\"v\":1}\n", "the request has no \\\"command\\\"" },
		{ "{\"v\":1,\"command\":7}\n", "the request has no \\\"command\\\"" },
		{ "{\"v\":1,\"command\":\"Echo\"}\n",
		  "unknown command \\\"Echo\\\"; known are echo, refuse, long, later\"}" },
		{ "{\"v\":1,\"command\":\"echo\",\"text\":\"a\\u0000b\"}\n",
		  "the request has a NUL" },
		{ "\xff\xfe\n", "the request is not JSON" },
	};
	int fd = connect_client();
	char answer[256];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		snprintf(answer, sizeof(answer), "{\"v\":1,\"ok\":false,\"error\":\"%s",
			 cases[i][1]);
		expect(fd, cases[i][0], answer);
	}
	send_bytes(fd, "{\"v\":1}\0\n", 9);
	assert_true(receive_line(fd, answer, sizeof(answer)) > 0);
	assert_non_null(strstr(answer, "NUL byte"));
	assert_int_equal(control_counters(control).refused_requests, i + 1);
	assert_int_equal(calls, 0);
	/* and the connection still works */
	expect(fd, "{\"v\":1,\"command\":\"echo\"}\n", "{\"v\":1,\"ok\":true");
	close(fd);
}

static void test_deep_nesting(void **state)
{
	char request[CONTROL_REQUEST_MAX];
	int fd = connect_client();

	(void)state;
	memset(request, '[', sizeof(request));
	memset(request + sizeof(request) / 2, ']', sizeof(request) / 2);
	request[sizeof(request) - 1] = '\n';
	send_bytes(fd, request, sizeof(request));
	expect(fd, "", "{\"v\":1,\"ok\":false,\"error\":\"");
	expect(fd, "{\"v\":1,\"command\":\"echo\"}\n", "{\"v\":1,\"ok\":true");
	close(fd);
}

static void test_byte_by_byte_and_at_once(void **state)
{
	static const char one[] = "{\"v\":1,\"command\":\"echo\"}\n";
	char many[100 * sizeof(one)] = "";
	int fd = connect_client();
	size_t i;

	(void)state;
	for (i = 0; i < strlen(one) - 1; i++)
		send_bytes(fd, one + i, 1);
	assert_int_equal(calls, 0);
	expect(fd, "\n", "{\"v\":1,\"ok\":true");
	assert_int_equal(calls, 1);
	/* a hundred in one packet, and the head of another */
	for (i = 0; i < 100; i++)
		strcat(many, one);
	send_bytes(fd, many, strlen(many));
	send_bytes(fd, one, 10);
	for (i = 0; i < 100; i++)
		expect(fd, "", "{\"v\":1,\"ok\":true");
	assert_int_equal(calls, 101);
	expect(fd, one + 10, "{\"v\":1,\"ok\":true");
	close(fd);
}

static void test_half_closed(void **state)
{
	int fd = connect_client();
	char line[1024];

	(void)state;
	send_bytes(fd, "{\"v\":1,\"command\":\"echo\"}\n", 25);
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	assert_true(receive_line(fd, line, sizeof(line)) > 0);
	expect_closed(fd);
}

static void test_oversize_request(void **state)
{
	char request[CONTROL_REQUEST_MAX + 1];
	char line[1024];
	int fd = connect_client();

	(void)state;
	/* the longest that is allowed */
	memset(request, ' ', sizeof(request));
	memcpy(request, "{\"v\":1,\"command\":\"echo\"}", 24);
	request[CONTROL_REQUEST_MAX - 1] = '\n';
	send_bytes(fd, request, CONTROL_REQUEST_MAX);
	assert_true(receive_line(fd, line, sizeof(line)) > 0);
	assert_int_equal(calls, 1);
	/* one more */
	request[CONTROL_REQUEST_MAX - 1] = ' ';
	send_bytes(fd, request, CONTROL_REQUEST_MAX);
	assert_true(receive_line(fd, line, sizeof(line)) > 0);
	assert_string_equal(line, "{\"v\":1,\"ok\":false,\"error\":\"the request is too long\"}");
	expect_closed(fd);
	assert_int_equal(control_counters(control).refused_requests, 1);
}

static void test_too_many_clients(void **state)
{
	int fds[CONTROL_CLIENTS_MAX];
	int i, extra;

	(void)state;
	for (i = 0; i < CONTROL_CLIENTS_MAX; i++) {
		fds[i] = connect_client();
		expect(fds[i], "{\"v\":1,\"command\":\"echo\"}\n", "{\"v\":1,\"ok\":true");
	}
	extra = connect_client();
	expect_closed(extra);
	assert_int_equal(control_counters(control).refused_clients, 1);
	/* the others are not disturbed, and one that leaves makes room */
	expect(fds[0], "{\"v\":1,\"command\":\"echo\"}\n", "{\"v\":1,\"ok\":true");
	close(fds[0]);
	turn(time(NULL) + DEADLINE_S);
	fds[0] = connect_client();
	expect(fds[0], "{\"v\":1,\"command\":\"echo\"}\n", "{\"v\":1,\"ok\":true");
	for (i = 0; i < CONTROL_CLIENTS_MAX; i++)
		close(fds[i]);
}

/* With no descriptor left the loop must not spin, and must go on afterwards. */
static void test_no_descriptors(void **state)
{
	time_t deadline = time(NULL) + DEADLINE_S;
	struct rlimit limit, none;
	int fd = connect_client();

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = limit;
	none.rlim_cur = (rlim_t)fd + 1;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	while (control_counters(control).refused_clients == 0)
		assert_int_equal(turn(deadline), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	expect_closed(fd);
	fd = connect_client();
	expect(fd, "{\"v\":1,\"command\":\"echo\"}\n", "{\"v\":1,\"ok\":true");
	close(fd);
}

/* Read a whole answer and count its bytes. */
static size_t drain(int fd)
{
	time_t deadline = time(NULL) + DEADLINE_S;
	char buf[65536];
	size_t total = 0;

	for (;;) {
		ssize_t got = recv(fd, buf, sizeof(buf), 0);

		assert_int_not_equal(got, 0);
		if (got > 0) {
			total += (size_t)got;
			if (buf[got - 1] == '\n')
				return total;
		} else {
			assert_int_equal(turn(deadline), 0);
		}
	}
}

static void test_long_answers(void **state)
{
	int fd = connect_client();
	int other = connect_client();
	char line[1024];

	(void)state;
	send_bytes(fd, "{\"v\":1,\"command\":\"long\",\"number\":20000000}\n", 43);
	/* while it waits in our socket buffer, others are answered */
	expect(other, "{\"v\":1,\"command\":\"echo\"}\n", "{\"v\":1,\"ok\":true");
	assert_true(drain(fd) > 20000000);
	assert_true(calls > 2); /* it was asked again with more room */
	send_bytes(fd, "{\"v\":1,\"command\":\"long\",\"number\":80000000}\n", 43);
	assert_true(receive_line(fd, line, sizeof(line)) > 0);
	assert_string_equal(line, "{\"v\":1,\"ok\":false,\"error\":\"the answer is too long\"}");
	assert_int_equal(control_counters(control).refused_requests, 1);
	close(fd);
	close(other);
}

static void test_many_long_answers(void **state)
{
	int fds[8], i, refused = 0;
	char head[64] = "";

	(void)state;
	for (i = 0; i < 8; i++) {
		fds[i] = connect_client();
		send_bytes(fds[i], "{\"v\":1,\"command\":\"long\",\"number\":60000000}\n", 43);
	}
	for (i = 0; i < 8; i++) {
		time_t deadline = time(NULL) + DEADLINE_S;

		while (recv(fds[i], head, 40, MSG_PEEK) <= 0)
			assert_int_equal(turn(deadline), 0);
		refused += strncmp(head, "{\"v\":1,\"ok\":false,\"error\":\"too many", 35) == 0;
	}
	assert_int_equal(refused, 6);
	for (i = 0; i < 8; i++)
		close(fds[i]);
}

/* Who asks and never reads, and who never asks: both are gone after ten seconds without progress.
 */
static void test_slow_clients(void **state)
{
	time_t start = time(NULL), deadline = start + DEADLINE_S;
	int reader = connect_client(), silent = connect_client(), half = connect_client();

	(void)state;
	send_bytes(reader, "{\"v\":1,\"command\":\"long\",\"number\":9000000}\n", 42);
	send_bytes(half, "{\"v\":1", 6);
	while (control_counters(control).timeouts < 3)
		assert_int_equal(turn(deadline), 0);
	assert_true(time(NULL) - start >= 9);
	expect_closed(silent);
	expect_closed(half);
	close(reader);
}

/* As another user, in a child: the first word of what comes back, as its exit status. */
static int ask_as(uid_t uid, gid_t gid, gid_t supplementary)
{
	time_t deadline = time(NULL) + DEADLINE_S;
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		static const char request[] = "{\"v\":1,\"command\":\"echo\"}\n";
		struct sockaddr_un address = { .sun_family = AF_UNIX };
		char answer[512];
		size_t len = 0;
		ssize_t got;
		int fd;

		if (setgroups(supplementary ? 1 : 0, &supplementary) < 0 || setgid(gid) < 0 ||
		    setuid(uid) < 0)
			_exit(9);
		fd = socket(AF_UNIX, SOCK_STREAM, 0);
		strcpy(address.sun_path, path);
		if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
			_exit(errno == EACCES ? 3 : 8);
		send(fd, request, strlen(request), MSG_NOSIGNAL);
		while (len < sizeof(answer) - 1 &&
		       (got = recv(fd, answer + len, sizeof(answer) - 1 - len, 0)) > 0) {
			len += (size_t)got;
			if (answer[len - 1] == '\n')
				break;
		}
		answer[len] = '\0';
		if (strstr(answer, "\"ok\":true"))
			_exit(1);
		_exit(strstr(answer, "permission denied") ? 2 : 7);
	}
	while (waitpid(pid, &status, WNOHANG) == 0)
		assert_int_equal(turn(deadline), 0);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void test_callers(void **state)
{
	struct group *group = getgrnam("daemon");
	struct stat st;

	(void)state;
	if (geteuid() != 0 || !group)
		skip();
	/* no group: the file itself refuses, and if it did not, we do */
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(ask_as(NOBODY, NOBODY, 0), 3);
	assert_int_equal(chmod(path, 0666), 0);
	assert_int_equal(ask_as(NOBODY, NOBODY, 0), 2);
	assert_int_equal(control_counters(control).denied_callers, 1);
	assert_int_equal(calls, 0);
	control_close(control);
	control = NULL;
	/* with a group: its members, by primary and by supplementary group */
	assert_int_equal(control_open(loop, path, "daemon", commands, &calls, &control), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0660);
	assert_int_equal(st.st_gid, group->gr_gid);
	assert_int_equal(ask_as(NOBODY, group->gr_gid, 0), 1);
	assert_int_equal(ask_as(NOBODY, NOBODY, group->gr_gid), 1);
	assert_int_equal(ask_as(NOBODY, NOBODY, SOME_GROUP_ID), 3);
	assert_int_equal(chmod(path, 0666), 0);
	assert_int_equal(ask_as(NOBODY, NOBODY, SOME_GROUP_ID), 2);
}

static void test_opening(void **state)
{
	struct control *second = NULL;
	char name[200];
	struct stat before, after;
	int fd;

	(void)state;
	/* one that answers is left alone */
	assert_int_equal(stat(path, &before), 0);
	assert_int_equal(control_open(loop, path, "", commands, &calls, &second), -EADDRINUSE);
	assert_int_equal(stat(path, &after), 0);
	assert_int_equal(before.st_ino, after.st_ino);
	/* a stale one is replaced */
	snprintf(name, sizeof(name), "%s/stale", dir);
	{
		struct sockaddr_un address = { .sun_family = AF_UNIX };

		fd = socket(AF_UNIX, SOCK_STREAM, 0);
		strcpy(address.sun_path, name);
		assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
		close(fd);
	}
	assert_int_equal(control_open(loop, name, "", commands, &calls, &second), 0);
	/* ours only is removed when we close */
	assert_int_equal(unlink(name), 0);
	fd = open(name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
	control_close(second);
	second = NULL;
	assert_int_equal(access(name, F_OK), 0);
	/* a file that is no socket is not ours to remove */
	assert_int_equal(control_open(loop, name, "", commands, &calls, &second), -ENOTSOCK);
	assert_int_equal(unlink(name), 0);
	assert_int_equal(control_open(loop, name, "no-such-group", commands, &calls, &second),
			 -ESRCH);
	assert_int_equal(access(name, F_OK), -1);
	memset(name, 'a', sizeof(name) - 1);
	name[0] = '/';
	name[sizeof(name) - 1] = '\0';
	assert_int_equal(control_open(loop, name, "", commands, &calls, &second), -ENAMETOOLONG);
	assert_int_equal(control_open(loop, "/nonexistent/x", "", commands, &calls, &second),
			 -ENOENT);
	assert_null(second);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_control, close_control)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_answers),
		TEST(test_connections),
		TEST(test_later),
		TEST(test_bad_requests),
		TEST(test_deep_nesting),
		TEST(test_byte_by_byte_and_at_once),
		TEST(test_half_closed),
		TEST(test_oversize_request),
		TEST(test_too_many_clients),
		TEST(test_no_descriptors),
		TEST(test_long_answers),
		TEST(test_many_long_answers),
		TEST(test_slow_clients),
		TEST(test_callers),
		TEST(test_opening),
	};

	control_close(NULL);
	return cmocka_run_group_tests_name("control", tests, make_dir, remove_dir);
}
