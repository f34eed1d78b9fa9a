/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The transport of follow_state.h: charon's plugin over ZeroMQ, SUB for its events and DEALER for
 * snapshots. While a snapshot is fetched the SUB socket is not read, ZeroMQ holds what arrives (at
 * most FOLLOW_HWM messages; beyond that a gap shows).
 *
 * Runs in the sd-event loop it is given; one thread; never blocks. Handles at most FOLLOW_BUDGET
 * messages a turn, so that a flood delays neither the control socket nor the lease.
 */
#ifndef TENANT_STEER_FOLLOW_H
#define TENANT_STEER_FOLLOW_H

#include <systemd/sd-event.h>

#include "follow_state.h"
#include "settings/settings.h"

#define FOLLOW_HWM 10000
#define FOLLOW_BUDGET 200
struct follow;

/* callbacks, all called from the loop, must outlive the follower. */
int follow_open(sd_event *loop, void *zmq_context, const struct settings *settings,
		const struct follow_callbacks *callbacks, void *user, struct follow **ret_follow);
void follow_close(struct follow *follow); /* takes NULL */

/* Fetch a snapshot now. */
void follow_resync(struct follow *follow);

struct follow_status follow_status(const struct follow *follow);

#endif
