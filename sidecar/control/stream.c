/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "stream.h"

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

#include "base/clock.h"
#include "base/log.h"

#define HEARTBEAT_MS 1000
#define IPC_PREFIX "ipc://"

struct kept {
	uint64_t seq;
	char tenant[TENANT_NAME_MAX + 1];
	char *json;
	size_t len, size;
};

struct stream {
	void *socket;
	int locks[SETTINGS_BIND_MAX];
	unsigned lock_count;
	char epoch[EVENT_EPOCH_LEN + 1];
	uint64_t seq;
	sd_event_source *heartbeat;
	struct kept ring[STREAM_RING_MAX];
	char json[EVENT_SIZE_MAX];
};

/* A slot keeps its memory for the next event, most of which are of a size. */
static bool make_room(struct kept *slot, size_t len)
{
	char *json = slot->json;

	if (slot->size >= len && slot->size < 4 * len)
		return true;
	slot->json = NULL;
	slot->size = 0;
	free(json);
	slot->json = malloc(len);
	slot->size = slot->json ? len : 0;
	return slot->json;
}

static void keep(struct stream *stream, const struct event *ev, size_t len)
{
	struct kept *slot = &stream->ring[ev->seq % STREAM_RING_MAX];
	const char *tenant = ev->tenant ? ev->tenant : "";
	const size_t tenant_len = strnlen(tenant, TENANT_NAME_MAX);

	slot->seq = 0;
	if (!make_room(slot, len))
		return;
	memcpy(slot->json, stream->json, len);
	slot->seq = ev->seq;
	slot->len = len;
	memcpy(slot->tenant, tenant, tenant_len);
	slot->tenant[tenant_len] = '\0';
}

static void send_event(struct stream *stream, const struct event *ev, size_t len)
{
	char topic[EVENT_TOPIC_MAX];
	size_t topic_len = event_topic(ev, topic);

	/* XPUB drops for a slow subscriber and never blocks; nobody else is concerned. */
	if (zmq_send(stream->socket, topic, topic_len, ZMQ_SNDMORE | ZMQ_DONTWAIT) >= 0)
		zmq_send(stream->socket, stream->json, len, ZMQ_DONTWAIT);
}

void stream_publish(struct stream *stream, const struct event *ev)
{
	struct event out = *ev;
	size_t len;

	out.epoch = stream->epoch;
	out.seq = ev->type == EVENT_HEARTBEAT ? stream->seq : ++stream->seq;
	if (!out.time_us)
		out.time_us = clock_wall_us();
	len = event_encode(&out, stream->json, sizeof(stream->json));
	if (!len) {
		log_warning("stream", "an event of %u bytes and more does not fit, dropping it",
			    EVENT_SIZE_MAX);
		return;
	}
	if (out.type != EVENT_HEARTBEAT)
		keep(stream, &out, len);
	send_event(stream, &out, len);
}

void stream_write_since(const struct stream *stream, uint64_t since, const char *tenant,
			struct json_writer *w)
{
	uint64_t first = stream->seq < STREAM_RING_MAX ? 1 : stream->seq - STREAM_RING_MAX + 1;

	if (since + 1 > first)
		first = since + 1;
	json_array_begin(w, "events");
	for (uint64_t seq = first; seq <= stream->seq; seq++) {
		const struct kept *slot = &stream->ring[seq % STREAM_RING_MAX];

		if (slot->seq == seq && (!tenant || !strcmp(slot->tenant, tenant)))
			json_raw(w, NULL, slot->json, slot->len);
	}
	json_array_end(w);
	json_uint(w, "next", stream->seq);
}

const char *stream_epoch(const struct stream *stream)
{
	return stream->epoch;
}

uint64_t stream_seq(const struct stream *stream)
{
	return stream->seq;
}

static int on_heartbeat(sd_event_source *source, uint64_t usec, void *user)
{
	const struct event ev = { .type = EVENT_HEARTBEAT, .interval_ms = HEARTBEAT_MS };

	stream_publish(user, &ev);
	sd_event_source_set_time(source, usec + HEARTBEAT_MS * 1000);
	return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

/* libzmq silently takes over an ipc path that is bound already; a lock beside it says no. */
static int lock_path(struct stream *stream, const char *path)
{
	char name[SETTINGS_STRING_MAX + 8];
	int fd;

	snprintf(name, sizeof(name), "%s.lock", path);
	fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		close(fd);
		return -EADDRINUSE;
	}
	stream->locks[stream->lock_count++] = fd;
	return 0;
}

static void give_to_group(const char *path, const char *group)
{
	const struct group *entry = *group ? getgrnam(group) : NULL;

	if (chmod(path, entry ? 0660 : 0600) < 0 ||
	    (entry && chown(path, (uid_t)-1, entry->gr_gid) < 0))
		log_warning("stream", "cannot give %s to group \"%s\": %s", path, group,
			    strerror(errno));
}

static int bind_one(struct stream *stream, const char *endpoint, const char *group)
{
	const char *path = endpoint + strlen(IPC_PREFIX);
	int r = lock_path(stream, path);

	if (r == 0 && zmq_bind(stream->socket, endpoint) < 0)
		r = -errno;
	if (r < 0)
		log_error("stream", "cannot bind %s: %s", endpoint, strerror(-r));
	else
		give_to_group(path, group);
	return r;
}

static int bind_all(struct stream *stream, void *zmq_context, const struct settings *settings)
{
	const int linger = 0, hwm = STREAM_HWM;
	int r = 0;

	stream->socket = zmq_socket(zmq_context, ZMQ_XPUB);
	if (!stream->socket)
		return -errno;
	zmq_setsockopt(stream->socket, ZMQ_LINGER, &linger, sizeof(linger));
	zmq_setsockopt(stream->socket, ZMQ_SNDHWM, &hwm, sizeof(hwm));
	for (unsigned i = 0; r == 0 && i < settings->bind_count; i++)
		r = bind_one(stream, settings->bind[i], settings->control_group);
	return r;
}

static int draw_epoch(struct stream *stream)
{
	uint64_t random;

	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		return -EIO;
	snprintf(stream->epoch, sizeof(stream->epoch), "%016llx", (unsigned long long)random);
	return 0;
}

void stream_close(struct stream *stream)
{
	if (!stream)
		return;
	sd_event_source_disable_unref(stream->heartbeat);
	if (stream->socket)
		zmq_close(stream->socket);
	for (unsigned i = 0; i < stream->lock_count; i++)
		close(stream->locks[i]);
	for (unsigned i = 0; i < STREAM_RING_MAX; i++)
		free(stream->ring[i].json);
	free(stream);
}

int stream_open(sd_event *loop, void *zmq_context, const struct settings *settings,
		struct stream **ret_stream)
{
	struct stream *stream = calloc(1, sizeof(*stream));
	int r = stream ? draw_epoch(stream) : -ENOMEM;

	if (r == 0)
		r = bind_all(stream, zmq_context, settings);
	if (r == 0)
		r = sd_event_add_time_relative(loop, &stream->heartbeat, CLOCK_MONOTONIC,
					       HEARTBEAT_MS * 1000, 0, on_heartbeat, stream);
	if (r < 0) {
		stream_close(stream);
		return r;
	}
	*ret_stream = stream;
	return 0;
}
