/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * steerd itself: the modules wired together in one sd-event loop, one thread (ZeroMQ and the
 * conntrack cleaner have threads of their own, which share nothing with it but their queues).
 *
 *   follow --events--> model --changed SPIs--> plan --> elements --batches--> steering --> kernel
 *   control --> commands --> exceptions --> model          all of them --> stream
 */
#ifndef TENANT_STEER_DAEMON_H
#define TENANT_STEER_DAEMON_H

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "conntrack.h"
#include "control.h"
#include "elements.h"
#include "exceptions.h"
#include "follow.h"
#include "model.h"
#include "settings.h"
#include "steering.h"
#include "stream.h"

/* Ranges whose flows are to be forgotten after the next flush; beyond it, all pinned flows are. */
#define DAEMON_FORGET_MAX CONNTRACK_QUEUE_MAX

struct daemon {
	const char *settings_file;
	struct settings *settings;
	sd_event *loop;
	void *zmq;
	struct model model;
	struct elements *elements;
	struct steering *steering;
	struct conntrack *conntrack;
	struct exceptions *exceptions;
	struct follow *follow;
	struct stream *stream;
	struct control *control;
	sd_event_source *tick, *rest;
	bool addresses_changed;
	bool grants_left; /* after the last flush */
	struct address_range forget[DAEMON_FORGET_MAX];
	unsigned forget_count;
	bool forget_all;
	unsigned settle_wait; /* ticks until the store is tried again */
	const char *plan_problem;
};

/* The whole life of the process after its options are read. Returns the exit status. */
int daemon_run(const char *settings_file);

/* `steerd --flush`: remove everything from the kernel. Returns the exit status. */
int daemon_flush(const char *settings_file);

/* For commands.c: after the model or the exceptions changed, bring the kernel up to date and tell
 * the operators. When it returns, every withdrawal is in the kernel; grants may follow in the next
 * turns of the loop (1), unless there are few (0). Negative: the kernel refused, and enforces. */
int daemon_settle(struct daemon *daemon);

#endif
