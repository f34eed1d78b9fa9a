/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A child process in steerd's place: a real control socket and a real stream, with canned answers, some of
 * which say back what was asked. Two commands are the tests' own: "emit" says what it publishes, "restart"
 * makes it another epoch without events.
 */
#ifndef TENANT_STEER_TEST_CANNED_STEERD_H
#define TENANT_STEER_TEST_CANNED_STEERD_H

#include <sys/types.h>

/* Events that it keeps; a test emits fewer. */
#define CANNED_EVENTS_MAX 64

struct canned_steerd {
	char dir[32];
	char socket_path[64]; /* the control socket's */
	char endpoint[80];    /* the stream's */
	pid_t pid;
};

extern struct canned_steerd canned;

/* Before and after the group, for cmocka. */
int canned_make_dir(void **state);
int canned_remove_dir(void **state);
/* Before and after each test: it answers when the first returns, and is gone when the second does. */
int canned_start(void **state);
int canned_stop(void **state);

#endif
