/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control socket: a unix stream socket on which steerctl asks. One request is one line of
 * JSON, {"v":1,"command":"grant",...}; its answer one line of JSON, {"v":1,"ok":true,...} or
 * {"v":1,"ok":false,"error":"…"}. Connections take one request after the other.
 *
 * Who asks is what the kernel says (SO_PEERCRED). Commands are a table: name, whether it
 * changes anything, handler. root, steerd's own user and members of control.group may use all;
 * everybody else none: the socket is 0660.
 *
 * Limits: CONTROL_CLIENTS_MAX connections (more are closed at once), CONTROL_REQUEST_MAX bytes a
 * request (then closed), CONTROL_REPLY_MAX bytes a reply and twice that for all replies under way
 * (an error instead), 10 s without progress (closed). Each has a counter. Runs in the sd-event
 * loop it is given; never blocks.
 */
#ifndef TENANT_STEER_CONTROL_H
#define TENANT_STEER_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>
#include <yajl/yajl_tree.h>

#include "json_writer.h"

#define CONTROL_CLIENTS_MAX 32
#define CONTROL_REQUEST_MAX 16384
#define CONTROL_REPLY_MAX (64u << 20)
#define CONTROL_ERROR_MAX 1024

struct control;

struct control_caller {
	uid_t uid;
	pid_t pid;
	char name[64];       /* user name, or "uid 1234" */
	uint64_t connection; /* from 1 on; never given twice by one process */
	uint64_t request;    /* the same of requests; one that is handled again keeps its number */
};

/*
 * Handle one request. Write the members of the answer (after "v" and "ok") into w and return 0,
 * or fill error and return a negative errno. If w runs full the handler is called again with
 * a larger buffer, so it must write before it changes anything, or change idempotently:
 * only commands that change nothing may write more than CONTROL_SMALL_REPLY bytes.
 *
 * -EINPROGRESS: the answer has to wait for something. The handler is called again after control_resume();
 * nothing else of that connection is handled meanwhile, and the 10 s go on.
 */
#define CONTROL_SMALL_REPLY 16384
typedef int (*control_handler)(void *user, const struct control_caller *caller, yajl_val request,
			       struct json_writer *w, char error[CONTROL_ERROR_MAX]);

struct control_command {
	const char *name;
	control_handler handle;
};

struct control_counters {
	uint64_t requests;
	uint64_t refused_clients;
	uint64_t refused_requests;
	uint64_t denied_callers;
	uint64_t timeouts;
};

/*
 * Listen. commands ends with a NULL name and, like user, must outlive the object. path is
 * replaced if a stale socket is there; -EADDRINUSE if somebody answers on it. group may be "";
 * -ESRCH if the system has no such group, -EPERM if this process may not give the socket to it.
 * Dispatched at sd-event priority -10, before the event stream: a revocation does not queue.
 */
int control_open(sd_event *loop, const char *path, const char *group,
		 const struct control_command *commands, void *user, struct control **ret_control);
void control_close(struct control *control); /* takes NULL */

/* From now on tell the end of each connection, after its last request; user is that of control_open(). */
void control_on_end(struct control *control, void (*ended)(void *user, uint64_t connection));

/* Call the handler that a connection waits for again. From the loop, not from a handler; a connection that
 * does not wait, or is gone, is left alone. */
void control_resume(struct control *control, uint64_t connection);

struct control_counters control_counters(const struct control *control);

/* Helpers for handlers: string member of the request or NULL; whole number or fallback. */
const char *control_string(yajl_val request, const char *name);
bool control_bool(yajl_val request, const char *name);
int64_t control_int(yajl_val request, const char *name, int64_t fallback);

#endif
