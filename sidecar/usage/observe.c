/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "observe.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "attribution.h"
#include "base/clock.h"
#include "base/local_addresses.h"
#include "kernel/conntrack_flow.h"
#include "kernel/flow_dump.h"
#include "kernel/prefixes.h"
#include "settings/destinations.h"
#include "settings/settings_destinations.h"

/* The look at what is there: WAITING for its turn, LOOKING, ADDING what was found, READ. */
enum look { WAITING, LOOKING, ADDING, READ };

/* What the look's thread may know; it is not changed while that runs. */
struct wanted {
	struct profile profile;
	struct prefixes *sources;
};

struct observation {
	uint64_t id; /* 0: free */
	struct observe_question question;
	struct wanted wanted;
	struct local_addresses own;
	uint32_t mark_mask;
	int64_t ends_us, asked_us; /* monotonic */
	enum look look;
	struct flow_dump_result found;
	size_t added;                      /* of these */
	uint32_t began[OBSERVE_BEGAN_MAX]; /* until then: the kernel's numbers of new flows */
	unsigned began_count;
	int error;
	struct tally groups;
	struct observe_left_out left_out;
	uint64_t lost;
	bool dropped; /* while its look is under way */
	bool told;    /* all of it, so that its place can be taken */
};

struct observe {
	sd_event *loop;
	struct core *core;
	int fd; /* of new flows; -1: not open */
	bool hearing;
	struct flow_dump *dump;
	sd_event_source *new_flows, *look_done, *rest;
	uint64_t last_id;
	struct observe_counters counters;
	struct observation slots[OBSERVE_MAX];
};

static int refuse(char error[OBSERVE_ERROR_MAX], int r, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static int refuse(char error[OBSERVE_ERROR_MAX], int r, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(error, OBSERVE_ERROR_MAX, format, args);
	va_end(args);
	return r;
}

/* One flow */

static struct address_range single(const struct address *address)
{
	struct address_range range = { .family = address->family };
	const size_t len = address->family == AF_INET ? 4 : 16;

	memcpy(range.lo, address->bytes, len);
	memcpy(range.hi, address->bytes, len);
	return range;
}

static bool is_served(const struct profile *profile, const struct conntrack_flow *flow)
{
	const struct address anywhere = { .family = AF_UNSPEC };

	return settings_profile_covers(profile, flow->protocol, flow->port, &anywhere);
}

/* In the look's thread. */
static bool is_wanted(void *user, const struct conntrack_flow *flow)
{
	const struct wanted *wanted = user;
	const struct address_range source = single(&flow->source);

	return is_served(&wanted->profile, flow) && prefixes_cover(wanted->sources, &source);
}

/* Why its destination keeps a flow from being let through; NULL: it does not. */
static uint64_t *find_obstacle(struct observation *o, const struct conntrack_flow *flow)
{
	const struct address_range to = single(&flow->destination);

	if (local_addresses_have(&o->own, (uint8_t)to.family, to.lo))
		return &o->left_out.own;
	if (settings_profile_covers(&o->wanted.profile, flow->protocol, flow->port,
				    &flow->destination))
		return NULL;
	return destination_reserved(&to) ? &o->left_out.reserved : &o->left_out.not_listed;
}

/* Whose addresses are whose may have changed since the beginning. */
static bool is_tenants(struct observe *observe, struct observation *o,
		       const struct conntrack_flow *flow)
{
	const struct tenant *tenant;
	bool several;

	if (o->question.source.family != AF_UNSPEC &&
	    !model_range_holds(&o->question.source, &flow->source))
		return false;
	tenant = attribution_tenant(observe->core, &flow->source, &several);
	if (several) {
		const struct address_range source = single(&flow->source);

		o->left_out.ambiguous += prefixes_cover(o->wanted.sources, &source);
	}
	return tenant && strcmp(tenant->name, o->question.tenant) == 0;
}

static void add(struct observation *o, const struct conntrack_flow *flow, struct tally_sums sums)
{
	const struct tally_key key = tally_key(flow);
	uint64_t *obstacle = find_obstacle(o, flow);

	if (obstacle) {
		(*obstacle)++;
		return;
	}
	sums.bypassed = (flow->mark & o->mark_mask) != 0;
	sums.last_us = clock_wall_us();
	tally_add(&o->groups, &key, &sums);
}

/* A flow that begins before the table has been read is in it, and is new. false: no room for it. */
static bool note_began(struct observation *o, const struct conntrack_flow *flow)
{
	if (o->look == READ)
		return true;
	if (o->began_count == OBSERVE_BEGAN_MAX)
		return false;
	o->began[o->began_count++] = flow->id;
	return true;
}

static bool has_begun(const struct observation *o, const struct conntrack_flow *flow)
{
	for (unsigned i = 0; i < o->began_count; i++)
		if (o->began[i] == flow->id)
			return true;
	return false;
}

static void add_live(struct observe *observe, struct observation *o,
		     const struct conntrack_flow *flow)
{
	if (has_begun(o, flow) || !is_tenants(observe, o, flow))
		return;
	add(o, flow,
	    (struct tally_sums){ .live = 1,
				 .uncounted = !flow->counted,
				 .sent = flow->sent,
				 .received = flow->received });
}

/* Observations */

static void release(struct observation *o)
{
	prefixes_free(o->wanted.sources);
	local_addresses_done(&o->own);
	tally_done(&o->groups);
	free(o->found.flows);
	*o = (struct observation){ .id = 0 };
}

/* The look's thread may still want to know what is wanted. */
static void drop(struct observation *o)
{
	if (o->look == LOOKING)
		o->dropped = true;
	else
		release(o);
}

static bool is_open(const struct observation *o, int64_t now)
{
	return o->id && !o->dropped && now < o->ends_us;
}

/* Join the group of new flows as long as somebody observes. */
static void follow(struct observe *observe)
{
	const int64_t now = clock_monotonic_us();
	bool wanted = false;

	for (unsigned i = 0; i < OBSERVE_MAX; i++)
		wanted = wanted || is_open(&observe->slots[i], now);
	if (wanted != observe->hearing &&
	    conntrack_flow_hear(observe->fd, CONNTRACK_FLOW_NEW, wanted) == 0)
		observe->hearing = wanted;
}

/* The next one that waits for its look. */
static void look(struct observe *observe)
{
	for (unsigned i = 0; i < OBSERVE_MAX; i++) {
		struct observation *o = &observe->slots[i];

		if (!o->id || o->look != WAITING)
			continue;
		if (flow_dump_begin(observe->dump, NULL, is_wanted, &o->wanted))
			o->look = LOOKING;
		return;
	}
}

static void note_new(struct observe *observe, const struct conntrack_flow *flow)
{
	const int64_t now = clock_monotonic_us();

	for (unsigned i = 0; i < OBSERVE_MAX; i++) {
		struct observation *o = &observe->slots[i];

		if (!is_open(o, now) || !is_served(&o->wanted.profile, flow) ||
		    !is_tenants(observe, o, flow))
			continue;
		if (note_began(o, flow))
			add(o, flow, (struct tally_sums){ .flows = 1 });
		else
			o->lost++;
	}
}

static void note_lost(struct observe *observe)
{
	observe->counters.lost++;
	for (unsigned i = 0; i < OBSERVE_MAX; i++)
		observe->slots[i].lost += observe->slots[i].id != 0;
}

static int on_new_flows(sd_event_source *source, int fd, uint32_t revents, void *user)
{
	struct observe *observe = user;
	struct conntrack_flow flow;
	enum conntrack_flow_kind kind;
	int r = 1;

	(void)source;
	(void)revents;
	for (unsigned i = 0; i < OBSERVE_TURN && r; i++) {
		r = conntrack_flow_next(fd, &flow, &kind);
		if (r > 0)
			note_new(observe, &flow);
		else if (r == -ENOBUFS)
			note_lost(observe);
	}
	return 0;
}

/* What a look found, a few at a time. */
static int on_rest(sd_event_source *source, void *user)
{
	struct observe *observe = user;
	unsigned left = OBSERVE_TURN;

	for (unsigned i = 0; i < OBSERVE_MAX; i++) {
		struct observation *o = &observe->slots[i];

		if (!o->id || o->look != ADDING)
			continue;
		for (; left && o->added < o->found.count; left--)
			add_live(observe, o, &o->found.flows[o->added++]);
		if (o->added < o->found.count)
			return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
		o->look = READ;
		free(o->found.flows);
		o->found.flows = NULL;
	}
	return 0;
}

static int on_look_done(sd_event_source *source, int fd, uint32_t revents, void *user)
{
	struct observe *observe = user;
	struct flow_dump_result result;

	(void)source;
	(void)fd;
	(void)revents;
	if (!flow_dump_take(observe->dump, &result))
		return 0;
	for (unsigned i = 0; i < OBSERVE_MAX; i++) {
		struct observation *o = &observe->slots[i];

		if (!o->id || o->look != LOOKING)
			continue;
		o->found = result;
		o->error = result.error;
		o->look = ADDING;
		if (o->dropped)
			release(o);
		break;
	}
	sd_event_source_set_enabled(observe->rest, SD_EVENT_ONESHOT);
	look(observe);
	return 0;
}

/* Once, when it is first needed. */
static int watch(struct observe *observe, int fd, sd_event_io_handler_t handler,
		 sd_event_source **ret_source)
{
	int r = sd_event_add_io(observe->loop, ret_source, fd, EPOLLIN, handler, observe);

	return r < 0 ? r : sd_event_source_set_priority(*ret_source, SD_EVENT_PRIORITY_IDLE);
}

static int open_kernel(struct observe *observe)
{
	int r = 0;

	if (!observe->rest) {
		r = sd_event_add_defer(observe->loop, &observe->rest, on_rest, observe);
		if (r >= 0)
			r = sd_event_source_set_priority(observe->rest, SD_EVENT_PRIORITY_IDLE);
		if (r >= 0)
			r = sd_event_source_set_enabled(observe->rest, SD_EVENT_OFF);
	}
	if (r >= 0 && observe->fd < 0)
		r = observe->fd = conntrack_flow_socket(OBSERVE_BUFFER_BYTES);
	if (r >= 0 && !observe->new_flows)
		r = watch(observe, observe->fd, on_new_flows, &observe->new_flows);
	if (r >= 0 && !observe->dump)
		r = flow_dump_start(&observe->dump);
	if (r >= 0 && !observe->look_done)
		r = watch(observe, flow_dump_fd(observe->dump), on_look_done, &observe->look_done);
	return r < 0 ? r : 0;
}

struct observe *observe_new(sd_event *loop, struct core *core)
{
	struct observe *observe = calloc(1, sizeof(*observe));

	if (!observe)
		return NULL;
	observe->loop = sd_event_ref(loop);
	observe->core = core;
	observe->fd = -1;
	return observe;
}

void observe_free(struct observe *observe)
{
	if (!observe)
		return;
	/* The thread first: it may look at what is wanted. */
	sd_event_source_disable_unref(observe->look_done);
	flow_dump_stop(observe->dump);
	sd_event_source_disable_unref(observe->new_flows);
	sd_event_source_disable_unref(observe->rest);
	for (unsigned i = 0; i < OBSERVE_MAX; i++)
		release(&observe->slots[i]);
	if (observe->fd >= 0)
		close(observe->fd);
	sd_event_unref(observe->loop);
	free(observe);
}

/* Begin */

/* A free one, or NULL with a sentence in error. */
static struct observation *find_slot(struct observe *observe, pid_t asker,
				     char error[OBSERVE_ERROR_MAX])
{
	struct observation *free_slot = NULL;

	for (unsigned i = 0; i < OBSERVE_MAX; i++) {
		struct observation *o = &observe->slots[i];

		if (o->told)
			release(o);
		if (!o->id) {
			free_slot = o;
		} else if (!o->dropped && o->question.asker == asker) {
			refuse(error, -EBUSY, "this process observes already; one at a time");
			return NULL;
		}
	}
	if (free_slot)
		return free_slot;
	observe->counters.refused++;
	refuse(error, -EBUSY, "%d observations are under way, more are not taken", OBSERVE_MAX);
	return NULL;
}

/* The tenant's addresses, or those of them that were asked for. */
static int collect_sources(const struct tenant *tenant, const struct address_range *asked,
			   struct prefixes **ret)
{
	struct prefixes *sources = prefixes_new();
	const struct child_sa *child = tenant->children;

	if (!sources)
		return -ENOMEM;
	if (asked->family != AF_UNSPEC)
		prefixes_add(sources, asked);
	for (; asked->family == AF_UNSPEC && child; child = child->tenant_next)
		for (unsigned i = 0; i < child->range_count; i++)
			prefixes_add(sources, &child->ranges[i]);
	*ret = sources;
	return 0;
}

static int fill(struct observe *observe, struct observation *o,
		const struct observe_question *question, char error[OBSERVE_ERROR_MAX])
{
	const struct settings *settings = observe->core->settings;
	const struct tenant *tenant = model_find_tenant(&observe->core->model, question->tenant);
	const int profile = settings_profile_index(settings, question->profile);
	bool changed;

	if (profile < 0)
		return refuse(error, -ENOENT,
			      "there is no profile \"%s\"; steerctl profiles lists them",
			      question->profile);
	if (!tenant || !tenant->child_count)
		return refuse(error, -ENOENT, "tenant %s is not connected", question->tenant);
	if (collect_sources(tenant, &question->source, &o->wanted.sources) < 0)
		return refuse(error, -ENOMEM, "no memory");
	local_addresses_read(&o->own, &changed);
	o->question = *question;
	o->wanted.profile = settings->profiles[profile];
	o->mark_mask = settings->mark_mask;
	tally_init(&o->groups, OBSERVE_GROUPS_MAX);
	return 0;
}

int observe_begin(struct observe *observe, const struct observe_question *question,
		  uint64_t *ret_id, char error[OBSERVE_ERROR_MAX])
{
	struct observation *o;
	int r;

	observe_tick(observe);
	o = find_slot(observe, question->asker, error);
	if (!o)
		return -EBUSY;
	r = fill(observe, o, question, error);
	if (r < 0)
		return r;
	r = open_kernel(observe);
	if (r < 0) {
		release(o);
		return refuse(error, r, "the kernel does not tell of flows: %s", strerror(-r));
	}
	o->id = *ret_id = ++observe->last_id;
	o->asked_us = clock_monotonic_us();
	o->ends_us = o->asked_us + question->duration_us;
	follow(observe);
	look(observe);
	return 0;
}

int observe_ask(struct observe *observe, uint64_t id, struct observe_result *ret_result)
{
	const int64_t now = clock_monotonic_us();
	struct observation *o = NULL;

	for (unsigned i = 0; id && i < OBSERVE_MAX; i++)
		if (observe->slots[i].id == id && !observe->slots[i].dropped)
			o = &observe->slots[i];
	if (!o)
		return -ENOENT;
	o->asked_us = now;
	if (o->error)
		return o->error;
	o->told = now >= o->ends_us && o->look == READ;
	tally_sort(&o->groups);
	*ret_result = (struct observe_result){
		.question = &o->question,
		.done = o->told,
		.remaining_us = now < o->ends_us ? o->ends_us - now : 0,
		.groups = &o->groups,
		.left_out = o->left_out,
		.lost = o->lost,
		.live_left_out = o->found.left_out,
		.live_torn = o->found.torn,
	};
	return 0;
}

struct observe_counters observe_counters(const struct observe *observe)
{
	struct observe_counters counters = observe->counters;

	for (unsigned i = 0; i < OBSERVE_MAX; i++)
		counters.under_way += observe->slots[i].id && !observe->slots[i].told;
	return counters;
}

void observe_tick(struct observe *observe)
{
	const int64_t now = clock_monotonic_us();

	if (observe->fd < 0)
		return;
	for (unsigned i = 0; i < OBSERVE_MAX; i++)
		if (observe->slots[i].id && now - observe->slots[i].asked_us > OBSERVE_IDLE_US)
			drop(&observe->slots[i]);
	follow(observe);
}

void observe_drop_all(struct observe *observe)
{
	for (unsigned i = 0; i < OBSERVE_MAX; i++)
		if (observe->slots[i].id)
			drop(&observe->slots[i]);
	observe_tick(observe);
}
