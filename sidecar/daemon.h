/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The process steerd: core and its ends in one sd-event loop, one thread (ZeroMQ and the
 * conntrack cleaner have threads of their own, which share nothing with it but their queues).
 */
#ifndef TENANT_STEER_DAEMON_H
#define TENANT_STEER_DAEMON_H

#include <systemd/sd-event.h>

#include "control/control.h"
#include "core.h"
#include "kernel/flow_find.h"
#include "tenants/follow.h"
#include "usage/observe.h"
#include "usage/usage.h"

struct daemon {
	const char *settings_file;
	struct settings *settings;
	sd_event *loop;
	void *zmq;
	struct core core;
	struct follow *follow;
	struct control *control;
	struct apply *apply; /* NULL: nobody applies a list; of the connection that it names */
	struct usage *usage;
	struct observe *observe;
	struct flow_find *find;
	sd_event_source *tick, *rest, *xfrm, *flows;
};

/* The whole life of the process after its options are read. Returns the exit status. */
int daemon_run(const char *settings_file);

/* `steerd --flush`: remove everything from the kernel. Returns the exit status. */
int daemon_flush(const char *settings_file);

#endif
