/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The operators' stream: charon's events and steerd's own, published under steerd's epoch and
 * seq on ZeroMQ XPUB sockets. The last STREAM_RING_MAX events are also kept, so that somebody who
 * comes later can ask for them over the control socket. A subscriber that does not read loses
 * events beyond STREAM_HWM and sees it by the gap in seq. Sends a heartbeat every second. One
 * thread.
 */
#ifndef TENANT_STEER_STREAM_H
#define TENANT_STEER_STREAM_H

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "event.h"
#include "json_writer.h"
#include "settings/settings.h"

#define STREAM_RING_MAX 4096
#define STREAM_HWM 10000

struct stream;

int stream_open(sd_event *loop, void *zmq_context, const struct settings *settings,
		struct stream **ret_stream);
void stream_close(struct stream *stream); /* takes NULL */

/* Publish; epoch, seq and (if it is 0) time are filled in here. */
void stream_publish(struct stream *stream, const struct event *ev);

/* Write the kept events with seq > since, of one tenant or of all (NULL), as "events":[…], and
 * "next": the seq to ask from next time. */
void stream_write_since(const struct stream *stream, uint64_t since, const char *tenant,
			struct json_writer *w);

const char *stream_epoch(const struct stream *stream);
uint64_t stream_seq(const struct stream *stream);

#endif
