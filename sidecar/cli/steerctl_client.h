/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * steerctl's end of the control socket: one request, one answer. Blocks, at most CLIENT_WAIT_MS
 * without progress. The answer is at most CONTROL_REPLY_MAX bytes.
 */
#ifndef TENANT_STEER_STEERCTL_CLIENT_H
#define TENANT_STEER_STEERCTL_CLIENT_H

#include <yajl/yajl_tree.h>

#define CLIENT_WAIT_MS 30000
#define CLIENT_ERROR_MAX 1280

struct answer {
	char *text;    /* one line, without its end */
	yajl_val tree; /* an object with "v":1 and "ok":true */
};

/* One connection for several requests: *ret_fd is the caller's to close. */
int client_open(const char *socket_path, int *ret_fd, char error[CLIENT_ERROR_MAX]);
/* As client_ask(), on that connection. */
int client_request(int fd, const char *request, struct answer *ret_answer,
		   char error[CLIENT_ERROR_MAX]);

/*
 * Ask; request is one line without its end. 0 and *ret_answer (client_free_answer), or a negative
 * errno with error filled, for the person: steerd's own words if it refused (-EPROTO is any
 * answer that is not one; -EREMOTEIO that it refused).
 */
int client_ask(const char *socket_path, const char *request, struct answer *ret_answer,
	       char error[CLIENT_ERROR_MAX]);
void client_free_answer(struct answer *answer);

#endif
