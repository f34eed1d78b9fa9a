/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "steerctl_client.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "control/control.h"
#include "steerctl_text.h"

#define ANSWER_START 65536

static int refuse(char *error, int r, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static int refuse(char *error, int r, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(error, CLIENT_ERROR_MAX, format, args);
	va_end(args);
	return r;
}

static const char *connect_hint(int number)
{
	switch (number) {
	case EACCES:
		return "; you need to be root or a member of steerd's control group";
	case ENOENT:
	case ECONNREFUSED:
		return "; is steerd running?";
	default:
		return "";
	}
}

int client_open(const char *path, int *ret_fd, char error[CLIENT_ERROR_MAX])
{
	struct timeval wait = { .tv_sec = CLIENT_WAIT_MS / 1000 };
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = -1, r;

	if (strlen(path) >= sizeof(address.sun_path))
		return refuse(error, -ENAMETOOLONG, "%s: this name is too long for a socket", path);
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return refuse(error, -errno, "cannot make a socket: %s", strerror(errno));
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait)) < 0 ||
	    connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		r = -errno;
		close(fd);
		return refuse(error, r, "cannot connect to %s: %s%s", path, strerror(-r),
			      connect_hint(-r));
	}
	*ret_fd = fd;
	return 0;
}

/*
 * steerd may have closed already, because it denies us or has too many clients: if it said why,
 * that is still to be read, so a broken pipe is no error here.
 */
static int transmit(int fd, const char *text, size_t len, char *error)
{
	while (len > 0) {
		ssize_t sent = send(fd, text, len, MSG_NOSIGNAL);

		if (sent < 0 && (errno == EPIPE || errno == ECONNRESET))
			return 0;
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0)
			return refuse(error, -errno, "steerd does not take the request: %s",
				      strerror(errno));
		text += sent;
		len -= (size_t)sent;
	}
	return 0;
}

static int grow(char **text, size_t *size, char *error)
{
	size_t bigger = *size ? *size * 4 : ANSWER_START;
	char *moved = bigger <= 4 * (size_t)CONTROL_REPLY_MAX ? realloc(*text, bigger) : NULL;

	if (!moved) {
		refuse(error, -ENOMEM, "steerd's answer is too long");
		return -ENOMEM;
	}
	*text = moved;
	*size = bigger;
	return 0;
}

/* Up to the line end, for which a NUL is put. */
static int receive_line(int fd, char **ret_text, char *error)
{
	size_t size = 0, len = 0;
	char *text = NULL;
	ssize_t got;
	int r = 0;

	while (r == 0) {
		if (len == size && (r = grow(&text, &size, error)) < 0)
			break;
		got = recv(fd, text + len, size - len, 0);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && errno == EAGAIN)
			r = refuse(error, -ETIMEDOUT, "steerd does not answer");
		else if (got <= 0)
			r = refuse(error, -ECONNRESET,
				   "steerd closed the connection without an answer; "
				   "it may be busy with other clients");
		else if (text[(len += (size_t)got) - 1] == '\n')
			break;
	}
	if (r < 0) {
		free(text);
		return r;
	}
	text[len - 1] = '\0';
	*ret_text = text;
	return 0;
}

static int read_answer(char *text, struct answer *ret_answer, char *error)
{
	char parse_error[64], clean[TEXT_MAX];
	yajl_val tree = yajl_tree_parse(text, parse_error, sizeof(parse_error));
	int r = 0;

	if (!YAJL_IS_OBJECT(tree) || text_number(tree, "v") != 1) {
		r = refuse(error, -EPROTO,
			   "this is not steerd's answer: it may be another release");
	} else if (!text_true(tree, "ok")) {
		text_of(text_member(tree, "error"), clean);
		r = refuse(error, -EREMOTEIO, "%s", clean);
	}
	if (r < 0) {
		yajl_tree_free(tree);
		return r;
	}
	ret_answer->text = text;
	ret_answer->tree = tree;
	return 0;
}

int client_request(int fd, const char *request, struct answer *ret_answer,
		   char error[CLIENT_ERROR_MAX])
{
	char *text = NULL;
	int r = transmit(fd, request, strlen(request), error);

	if (r == 0)
		r = transmit(fd, "\n", 1, error);
	if (r == 0)
		r = receive_line(fd, &text, error);
	if (r == 0)
		r = read_answer(text, ret_answer, error);
	if (r < 0)
		free(text);
	return r;
}

int client_ask(const char *socket_path, const char *request, struct answer *ret_answer,
	       char error[CLIENT_ERROR_MAX])
{
	int fd = -1, r = client_open(socket_path, &fd, error);

	if (r < 0)
		return r;
	r = client_request(fd, request, ret_answer, error);
	close(fd);
	return r;
}

void client_free_answer(struct answer *answer)
{
	free(answer->text);
	yajl_tree_free(answer->tree);
	*answer = (struct answer){ NULL, NULL };
}
