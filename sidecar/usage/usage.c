/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "usage.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

#define IS_OFF "it is switched off, by store.accounting or steering.pinning"

/* What tells an entry of conntrack from all others. Bytes only, no gaps. */
struct live_key {
	uint8_t source[16], destination[16];
	uint32_t id;
	uint16_t source_port, port;
	uint8_t six, protocol, nothing[2];
};

struct live {
	struct live_key key;
	uint64_t exception_id;
	UT_hash_handle hh; /* in the order in which they began */
};

struct usage {
	int fd;
	uint32_t mark_mask;
	usage_attribute attribute;
	void *user;
	struct live *flows;
	struct usage_batch batch;
	int64_t written_us; /* monotonic */
	struct usage_store *store;
	struct usage_counters counters;
	struct log_limit limit;
	const char *problem;
	char text[USAGE_ERROR_MAX];
	char *file;
};

/* Flows that are there */

static struct live_key live_key(const struct conntrack_flow *flow)
{
	struct live_key key = { .id = flow->id,
				.source_port = flow->source_port,
				.port = flow->port,
				.six = flow->source.family == AF_INET6,
				.protocol = flow->protocol };
	const size_t len = key.six ? 16 : 4;

	memcpy(key.source, flow->source.bytes, len);
	memcpy(key.destination, flow->destination.bytes, len);
	return key;
}

static void forget(struct usage *usage, struct live *live)
{
	HASH_DELETE(hh, usage->flows, live); /* NOLINT: uthash */
	free(live);
}

static struct live *find(struct usage *usage, const struct live_key *key)
{
	struct live *live;

	HASH_FIND(hh, usage->flows, key, sizeof(*key), live); /* NOLINT: uthash */
	return live;
}

static void lose_untracked(struct usage *usage)
{
	usage->counters.losses.untracked++;
	usage->batch.losses.untracked++;
}

/* One whose end was lost is the oldest some day. */
static void remember(struct usage *usage, const struct live_key *key, uint64_t exception_id)
{
	struct live *live = find(usage, key);

	if (live) {
		live->exception_id = exception_id;
		return;
	}
	if (HASH_COUNT(usage->flows) >= USAGE_FLOWS_MAX) {
		forget(usage, usage->flows);
		lose_untracked(usage);
	}
	live = calloc(1, sizeof(*live));
	if (!live) {
		lose_untracked(usage);
		return;
	}
	live->key = *key;
	live->exception_id = exception_id;
	HASH_ADD(hh, usage->flows, key, sizeof(live->key), live);
}

/* What is to be written */

static struct usage_delta *get_delta(struct usage *usage, const struct usage_delta_key *key)
{
	struct usage_delta *delta;

	HASH_FIND(hh, usage->batch.deltas, key, sizeof(*key), delta); /* NOLINT: uthash */
	if (delta || HASH_COUNT(usage->batch.deltas) >= USAGE_DELTAS_MAX)
		return delta;
	delta = calloc(1, sizeof(*delta));
	if (!delta)
		return NULL;
	delta->key = *key;
	tally_init(&delta->tally, USAGE_DESTINATIONS_MAX);
	HASH_ADD(hh, usage->batch.deltas, key, sizeof(delta->key), delta);
	return delta;
}

static void add(struct usage *usage, uint64_t exception_id, const struct conntrack_flow *flow,
		const struct tally_sums *sums)
{
	const struct usage_delta_key key = { exception_id, usage_month(clock_wall_us()) };
	const struct tally_key destination = tally_key(flow);
	struct usage_delta *delta = get_delta(usage, &key);

	if (!delta) {
		usage->counters.losses.dropped++;
		usage->batch.losses.dropped++;
		return;
	}
	tally_sums_add(&delta->sums, sums);
	tally_add(&delta->tally, &destination, sums);
}

static void begin(struct usage *usage, const struct conntrack_flow *flow)
{
	const int64_t now = clock_wall_us();
	const struct tally_sums sums = { .flows = 1, .first_us = now, .last_us = now };
	const struct live_key key = live_key(flow);
	const uint64_t exception_id = usage->attribute(usage->user, flow);

	usage->counters.flows++;
	usage->counters.unattributed += exception_id == USAGE_UNATTRIBUTED;
	remember(usage, &key, exception_id);
	add(usage, exception_id, flow, &sums);
}

/* Whose one was that began unseen is not known any more. */
static void end(struct usage *usage, const struct conntrack_flow *flow)
{
	struct tally_sums sums = tally_end(flow, clock_wall_us());
	const struct live_key key = live_key(flow);
	struct live *live = find(usage, &key);

	if (!live) {
		usage->counters.unattributed++;
		sums.flows = 1;
		sums.first_us = sums.last_us;
	}
	add(usage, live ? live->exception_id : USAGE_UNATTRIBUTED, flow, &sums);
	if (live)
		forget(usage, live);
}

void usage_note(struct usage *usage, const struct conntrack_flow *flow,
		enum conntrack_flow_kind kind)
{
	if (!(flow->mark & usage->mark_mask))
		return;
	if (kind == CONNTRACK_FLOW_NEW)
		begin(usage, flow);
	else
		end(usage, flow);
}

/* The kernel */

static void lose(struct usage *usage)
{
	usage->counters.losses.lost++;
	usage->batch.losses.lost++;
	log_limited(&usage->limit, LOG_LEVEL_WARNING, "usage",
		    "the kernel told of more flows than were read, going on; what was used is a "
		    "lower bound");
}

void usage_dispatch(struct usage *usage)
{
	struct conntrack_flow flow;
	enum conntrack_flow_kind kind;
	int r = 1;

	for (unsigned i = 0; i < USAGE_TURN && r; i++) {
		r = conntrack_flow_next(usage->fd, &flow, &kind);
		if (r > 0)
			usage_note(usage, &flow, kind);
		else if (r == -ENOBUFS)
			lose(usage);
		else if (r < 0)
			usage->counters.unreadable++;
	}
}

static int hear(struct usage *usage)
{
	const bool wanted = usage->mark_mask != 0;
	int r = 0;

	if (wanted)
		r = conntrack_flow_filter(usage->fd, usage->mark_mask);
	if (r == 0)
		r = conntrack_flow_hear(usage->fd, CONNTRACK_FLOW_NEW, wanted);
	if (r == 0)
		r = conntrack_flow_hear(usage->fd, CONNTRACK_FLOW_DESTROY, wanted);
	return r;
}

/* Without the kernel's help nothing is counted, and that is all. */
static void hear_or_tell(struct usage *usage)
{
	int r = usage->fd < 0 ? usage->fd : hear(usage);

	usage->problem = usage->mark_mask ? NULL : IS_OFF;
	if (r == 0)
		return;
	snprintf(usage->text, sizeof(usage->text), "the kernel does not tell of flows: %s",
		 strerror(-r));
	usage->problem = usage->text;
	log_warning("usage", "%s; what exceptions are used for is not counted", usage->problem);
}

int usage_open(const char *file, uint32_t mark_mask, usage_attribute attribute, void *user,
	       struct usage **ret_usage)
{
	struct usage *usage = calloc(1, sizeof(*usage));
	int r;

	if (!usage)
		return -ENOMEM;
	usage->mark_mask = mark_mask;
	usage->attribute = attribute;
	usage->user = user;
	usage->written_us = clock_monotonic_us();
	usage->file = strdup(file);
	r = usage->file ? usage_store_start(file, &usage->store) : -ENOMEM;
	if (r < 0) {
		free(usage->file);
		free(usage);
		return r;
	}
	usage->fd = conntrack_flow_socket(USAGE_BUFFER_BYTES);
	hear_or_tell(usage);
	*ret_usage = usage;
	return 0;
}

void usage_close(struct usage *usage)
{
	struct live *live, *next;

	if (!usage)
		return;
	if (usage->fd >= 0)
		close(usage->fd);
	usage->batch.month = usage_month(clock_wall_us());
	usage_store_stop(usage->store, &usage->batch);
	HASH_ITER(hh, usage->flows, live, next)
		forget(usage, live);
	free(usage->file);
	free(usage);
}

const char *usage_file(const struct usage *usage)
{
	return usage->file;
}

int usage_fd(const struct usage *usage)
{
	return usage->fd;
}

void usage_tick(struct usage *usage)
{
	const int64_t now = clock_monotonic_us();

	if (now - usage->written_us < USAGE_WRITE_US || usage_batch_empty(&usage->batch))
		return;
	usage->batch.month = usage_month(clock_wall_us());
	usage->written_us = now;
	usage_store_take(usage->store, &usage->batch);
}

void usage_set_mask(struct usage *usage, uint32_t mark_mask)
{
	usage->mark_mask = mark_mask;
	hear_or_tell(usage);
}

const char *usage_problem(struct usage *usage)
{
	if (usage->problem)
		return usage->problem;
	usage_store_error(usage->store, usage->text);
	return *usage->text ? usage->text : NULL;
}

struct usage_counters usage_counters(const struct usage *usage)
{
	return usage->counters;
}
