/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon.h"
#include "plan.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <utlist.h>
#include <zmq.h>

#include "clock.h"
#include "commands.h"
#include "log.h"
#include "priv.h"

#define TICK_MAX_MS 500
#define TICK_MIN_MS 50
/* The lease is renewed at least so many times before it runs out. */
#define RENEWALS_PER_LEASE 6
/* A store that refused is tried again after so many ticks. */
#define SETTLE_TICKS 20

static bool address_mode(const struct daemon *daemon)
{
	return steering_mode(daemon->steering) == STEERING_ADDRESS;
}

static void on_changed(void *user, uint32_t spi)
{
	struct daemon *daemon = user;

	if (address_mode(daemon))
		daemon->addresses_changed = true;
	else
		plan_spi(&daemon->model, daemon->elements, daemon->settings->profile_count, spi);
}

static void forget_range(struct daemon *daemon, const struct address_range *range)
{
	if (daemon->forget_count < DAEMON_FORGET_MAX)
		daemon->forget[daemon->forget_count++] = *range;
	else
		daemon->forget_all = true;
}

/* After a rekey the new child SA carries on the flows of the old one. */
static bool carried_on(struct daemon *daemon, const struct child_sa *child)
{
	const struct child_sa *other = model_find_ike(&daemon->model, child->ike_id);

	for (; other; other = other->ike_next)
		if (other != child && other->tenant == child->tenant &&
		    other->range_count == child->range_count &&
		    !memcmp(other->ranges, child->ranges,
			    child->range_count * sizeof(*child->ranges)))
			return true;
	return false;
}

static void on_leaving(void *user, const struct child_sa *child)
{
	struct daemon *daemon = user;

	if (!child->steered || !child->range_count || carried_on(daemon, child))
		return;
	for (unsigned i = 0; i < child->range_count; i++)
		forget_range(daemon, &child->ranges[i]);
}

static void forget_tenant(struct daemon *daemon, const struct tenant *tenant)
{
	const struct child_sa *child;

	DL_FOREACH2(tenant->children, child, tenant_next)
	for (unsigned i = 0; i < child->range_count; i++)
		forget_range(daemon, &child->ranges[i]);
}

static void publish_steering(struct daemon *daemon, const struct tenant *tenant)
{
	struct event ev = { .type = tenant->steered > tenant->reported ? EVENT_STEERING_APPLIED
								       : EVENT_STEERING_WITHDRAWN,
			    .tenant = tenant->name,
			    .count = tenant->steered };

	if (tenant->steered != tenant->reported)
		stream_publish(daemon->stream, &ev);
}

static bool report_tenant(void *user, struct tenant *tenant)
{
	struct daemon *daemon = user;
	const struct event conflict = {
		.type = EVENT_TENANT_CONFLICT,
		.tenant = *tenant->name ? tenant->name : NULL,
		.reason = "another tenant uses an address of this one, enforcing for both",
	};

	/* Not before the kernel has it. */
	if (daemon->grants_left && tenant->steered > tenant->reported)
		return false;
	publish_steering(daemon, tenant);
	if (!tenant->steered && tenant->reported)
		forget_tenant(daemon, tenant);
	if (tenant->conflict && !tenant->conflict_reported)
		stream_publish(daemon->stream, &conflict);
	tenant->conflict_reported = tenant->conflict;
	return true;
}

static void plan(struct daemon *daemon)
{
	int r;

	if (!daemon->addresses_changed || !address_mode(daemon))
		return;
	daemon->addresses_changed = false;
	r = plan_addresses(&daemon->model, daemon->elements, daemon->settings->profile_count);
	daemon->plan_problem = r == 0         ? NULL
			       : r == -ENOMEM ? "no memory to compare the tenants' addresses"
					      : "the addresses of some child SA are not known";
}

/* Flows are forgotten after the kernel's sets say no: before, they would be pinned again. */
static void forget_flows(struct daemon *daemon)
{
	if (daemon->forget_all)
		conntrack_forget(daemon->conntrack, NULL);
	for (unsigned i = 0; !daemon->forget_all && i < daemon->forget_count; i++)
		conntrack_forget(daemon->conntrack, &daemon->forget[i]);
	daemon->forget_all = false;
	daemon->forget_count = 0;
}

int daemon_settle(struct daemon *daemon)
{
	int r;

	plan(daemon);
	r = steering_flush(daemon->steering);
	daemon->grants_left = r > 0;
	sd_event_source_set_enabled(daemon->rest, r > 0 ? SD_EVENT_ONESHOT : SD_EVENT_OFF);
	model_each_touched(&daemon->model, report_tenant, daemon);
	forget_flows(daemon);
	return r;
}

/* The rest of a long flush, in turns with everything else. */
static int on_rest(sd_event_source *source, void *user)
{
	(void)source;
	daemon_settle(user);
	return 0;
}

static void publish_unidentified(struct daemon *daemon, const struct event *ev)
{
	struct event out;

	if (ev->tenant || (ev->type != EVENT_CHILD_INSTALLING && ev->type != EVENT_CHILD_UP))
		return;
	out = *ev;
	out.type = EVENT_TENANT_UNIDENTIFIED;
	out.time_us = 0;
	stream_publish(daemon->stream, &out);
}

static void apply(struct daemon *daemon, const struct event *ev)
{
	static struct log_limit limit;
	int r = model_apply(&daemon->model, ev);

	if (r < 0)
		log_limited(&limit, LOG_LEVEL_WARNING, "model",
			    "cannot keep a child SA of \"%s\" (%s), enforcing it",
			    ev->tenant ? ev->tenant : "", strerror(-r));
}

static void on_event(void *user, const struct event *ev)
{
	struct daemon *daemon = user;

	apply(daemon, ev);
	stream_publish(daemon->stream, ev);
	publish_unidentified(daemon, ev);
}

static void lose_publisher(struct daemon *daemon, const char *reason)
{
	const struct event lost = { .type = EVENT_PUBLISHER_LOST, .reason = reason };

	log_warning("follow", "%s, enforcing for every tenant", reason);
	steering_allow(daemon->steering, false, reason);
	stream_publish(daemon->stream, &lost);
}

static void on_doubt(void *user, enum follow_doubt doubt)
{
	struct daemon *daemon = user;

	switch (doubt) {
	case FOLLOW_DOUBT_LOST:
		lose_publisher(daemon, "charon's plugin is silent");
		break;
	case FOLLOW_DOUBT_STALE:
		lose_publisher(daemon, "charon's plugin cannot be understood");
		break;
	case FOLLOW_DOUBT_EPOCH:
		log_info("follow", "charon was started anew, fetching a snapshot");
		steering_allow(daemon->steering, false, "charon was started anew");
		break;
	case FOLLOW_DOUBT_GAP:
		/* A missed "down" leaves an address with the wrong tenant; an SPI is nobody else's.
		 */
		if (address_mode(daemon))
			steering_allow(daemon->steering, false, "events were missed");
		break;
	}
}

static void on_snapshot_begin(void *user, bool userspace_esp)
{
	struct daemon *daemon = user;
	enum steering_mode mode = daemon->settings->mode;

	if (mode == STEERING_AUTO)
		mode = userspace_esp ? STEERING_ADDRESS : STEERING_SA;
	if (mode == STEERING_SA && userspace_esp)
		log_warning("steering",
			    "charon handles ESP in user space: in SA mode nothing will match");
	if (mode != steering_mode(daemon->steering)) {
		elements_plan_begin(daemon->elements);
		elements_plan_end(daemon->elements);
		steering_set_mode(daemon->steering, mode);
	}
	model_snapshot_begin(&daemon->model);
}

static void on_snapshot_record(void *user, const struct event *ev)
{
	apply(user, ev);
}

static void on_snapshot_end(void *user)
{
	struct daemon *daemon = user;
	struct event resynced = { .type = EVENT_RESYNCED };

	model_snapshot_end(&daemon->model, SIZE_MAX);
	daemon->addresses_changed = true;
	/* Should the kernel refuse the elements, steering holds the lease back until it takes them.
	 */
	daemon_settle(daemon);
	steering_allow(daemon->steering, true, NULL);
	resynced.children = daemon->model.child_count;
	stream_publish(daemon->stream, &resynced);
	log_info("follow", "snapshot of %zu child SAs is in", daemon->model.child_count);
}

static void on_turn_end(void *user)
{
	daemon_settle(user);
}

static void on_repaired(void *user, const char *what, uint64_t count)
{
	struct daemon *daemon = user;
	const struct event ev = { .type = EVENT_KERNEL_REPAIRED, .reason = what, .count = count };

	log_warning("steering", "%s; restored", what);
	stream_publish(daemon->stream, &ev);
}

static const struct follow_callbacks follow_callbacks = {
	.event = on_event,
	.doubt = on_doubt,
	.snapshot_begin = on_snapshot_begin,
	.snapshot_record = on_snapshot_record,
	.snapshot_end = on_snapshot_end,
	.turn_end = on_turn_end,
};

static void on_expired(void *user, const char *tenant, const char *profile, uint64_t id)
{
	struct daemon *daemon = user;
	const struct event ev = { .type = EVENT_EXCEPTION_EXPIRED,
				  .tenant = tenant,
				  .profile = profile,
				  .exception_id = id };

	stream_publish(daemon->stream, &ev);
}

static void retry_store(struct daemon *daemon)
{
	if (daemon->settle_wait && --daemon->settle_wait)
		return;
	if (exceptions_settle(daemon->exceptions) < 0)
		daemon->settle_wait = SETTLE_TICKS;
}

static uint64_t tick_us(const struct settings *settings)
{
	int64_t ms = settings->lease_ms / RENEWALS_PER_LEASE;

	if (ms > TICK_MAX_MS)
		ms = TICK_MAX_MS;
	return (uint64_t)(ms < TICK_MIN_MS ? TICK_MIN_MS : ms) * 1000;
}

static int on_tick(sd_event_source *source, uint64_t usec, void *user)
{
	struct daemon *daemon = user;

	(void)usec;
	steering_tick(daemon->steering);
	exceptions_expire(daemon->exceptions, clock_wall_us(), on_expired, daemon);
	daemon_settle(daemon);
	retry_store(daemon);
	sd_event_source_set_time_relative(source, tick_us(daemon->settings));
	return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

/* Keys that only a restart can change keep their running values. */
static void keep_fixed(struct settings *next, const struct settings *now)
{
	if (strcmp(next->control_socket, now->control_socket) ||
	    strcmp(next->control_group, now->control_group) || strcmp(next->user, now->user) ||
	    strcmp(next->nft_table, now->nft_table) || next->max_child_sas != now->max_child_sas ||
	    next->bind_count != now->bind_count || memcmp(next->bind, now->bind, sizeof(now->bind)))
		log_warning("settings", "user, control, stream, steering.nft_table and "
					"steering.max_child_sas change "
					"with a restart only, keeping their running values");
	memcpy(next->control_socket, now->control_socket, sizeof(now->control_socket));
	memcpy(next->control_group, now->control_group, sizeof(now->control_group));
	memcpy(next->user, now->user, sizeof(now->user));
	memcpy(next->nft_table, now->nft_table, sizeof(now->nft_table));
	memcpy(next->bind, now->bind, sizeof(now->bind));
	next->bind_count = now->bind_count;
	next->max_child_sas = now->max_child_sas;
}

struct fresh {
	struct settings *settings;
	struct elements *elements;
	struct steering *steering;
	struct follow *follow;
};

static void drop_fresh(struct fresh *fresh)
{
	follow_close(fresh->follow);
	steering_close(fresh->steering);
	elements_free(fresh->elements);
	settings_free(fresh->settings);
}

static int make_fresh(struct daemon *daemon, struct fresh *fresh)
{
	char error[SETTINGS_ERROR_MAX] = "no memory";
	int r = settings_load(daemon->settings_file, &fresh->settings, error);

	if (r == 0) {
		keep_fixed(fresh->settings, daemon->settings);
		fresh->elements = elements_new();
		r = fresh->elements ? 0 : -ENOMEM;
	}
	if (r == 0)
		r = steering_open(fresh->settings, fresh->elements, on_repaired, daemon,
				  &fresh->steering, error);
	if (r == 0)
		r = follow_open(daemon->loop, daemon->zmq, fresh->settings, &follow_callbacks,
				daemon, &fresh->follow);
	if (r < 0)
		log_error("settings", "not reloaded, the running configuration stays: %s", error);
	return r;
}

/*
 * All of the new is made before any of the old goes. The kernel keeps steering by the lease until
 * the new follower has its snapshot, milliseconds later.
 */
static int on_reload(sd_event_source *source, const struct signalfd_siginfo *info, void *user)
{
	struct daemon *daemon = user;
	struct fresh fresh = { 0 },
		     old = { daemon->settings, daemon->elements, daemon->steering, daemon->follow };

	(void)source;
	(void)info;
	sd_notify(0, "RELOADING=1");
	if (make_fresh(daemon, &fresh) < 0) {
		drop_fresh(&fresh);
	} else {
		daemon->settings = fresh.settings;
		daemon->elements = fresh.elements;
		daemon->steering = fresh.steering;
		daemon->follow = fresh.follow;
		exceptions_load(daemon->exceptions, daemon->settings);
		drop_fresh(&old);
		log_info("settings", "%s is loaded anew", daemon->settings_file);
	}
	sd_notify(0, "READY=1");
	return 0;
}

static int on_stop(sd_event_source *source, const struct signalfd_siginfo *info, void *user)
{
	struct daemon *daemon = user;

	(void)source;
	(void)info;
	return sd_event_exit(daemon->loop, 0);
}

/* Before any thread is started: they inherit the mask, and the signals come through the loop. */
static int open_loop(struct daemon *daemon)
{
	sigset_t mask;
	int r;

	sigemptyset(&mask);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGINT);
	sigaddset(&mask, SIGHUP);
	if (sigprocmask(SIG_BLOCK, &mask, NULL) < 0)
		return -errno;
	r = sd_event_new(&daemon->loop);
	if (r >= 0)
		r = sd_event_add_signal(daemon->loop, NULL, SIGTERM, on_stop, daemon);
	if (r >= 0)
		r = sd_event_add_signal(daemon->loop, NULL, SIGINT, on_stop, daemon);
	if (r >= 0)
		r = sd_event_add_signal(daemon->loop, NULL, SIGHUP, on_reload, daemon);
	if (r >= 0)
		r = sd_event_add_time_relative(daemon->loop, &daemon->tick, CLOCK_MONOTONIC,
					       tick_us(daemon->settings), 0, on_tick, daemon);
	if (r >= 0)
		r = sd_event_add_defer(daemon->loop, &daemon->rest, on_rest, daemon);
	if (r >= 0)
		r = sd_event_source_set_enabled(daemon->rest, SD_EVENT_OFF);
	if (r >= 0)
		r = sd_event_set_watchdog(daemon->loop, true);
	return r < 0 ? r : 0;
}

static int fail(const char *what, int r)
{
	log_error("steerd", "%s: %s", what, strerror(-r));
	return r;
}

static int open_kernel(struct daemon *daemon)
{
	char error[ROUTE_ERROR_MAX];
	int r = steering_open(daemon->settings, daemon->elements, on_repaired, daemon,
			      &daemon->steering, error);

	if (r < 0)
		log_error("steering", "%s", error);
	if (r == 0)
		r = conntrack_start(daemon->settings->mark_mask, &daemon->conntrack);
	return r;
}

static int open_ends(struct daemon *daemon)
{
	int r = stream_open(daemon->loop, daemon->zmq, daemon->settings, &daemon->stream);

	if (r < 0)
		return fail("cannot open the operators' stream", r);
	r = control_open(daemon->loop, daemon->settings->control_socket,
			 daemon->settings->control_group, commands, daemon, &daemon->control);
	if (r < 0)
		return fail(daemon->settings->control_socket, r);
	r = follow_open(daemon->loop, daemon->zmq, daemon->settings, &follow_callbacks, daemon,
			&daemon->follow);
	return r < 0 ? fail("cannot follow charon's plugin", r) : 0;
}

static int open_all(struct daemon *daemon)
{
	static const struct model_callbacks callbacks = { on_changed, on_leaving };
	int r = open_loop(daemon);

	if (r < 0)
		return fail("cannot make the event loop", r);
	model_init(&daemon->model, daemon->settings->max_child_sas, &callbacks, daemon);
	daemon->elements = elements_new();
	daemon->zmq = zmq_ctx_new();
	daemon->exceptions = exceptions_new(&daemon->model);
	if (!daemon->elements || !daemon->zmq || !daemon->exceptions)
		return fail("cannot start", -ENOMEM);
	r = open_kernel(daemon);
	if (r < 0)
		return r;
	/* A store that cannot be used is said, shown by status, and means enforcing; steerd runs.
	 */
	exceptions_load(daemon->exceptions, daemon->settings);
	return open_ends(daemon);
}

static void close_all(struct daemon *daemon)
{
	follow_close(daemon->follow);
	control_close(daemon->control);
	exceptions_free(daemon->exceptions);
	model_done(&daemon->model);
	steering_close(daemon->steering);
	elements_free(daemon->elements);
	conntrack_stop(daemon->conntrack);
	stream_close(daemon->stream);
	if (daemon->zmq)
		zmq_ctx_term(daemon->zmq);
	sd_event_source_unref(daemon->tick);
	sd_event_source_unref(daemon->rest);
	sd_event_unref(daemon->loop);
	settings_free(daemon->settings);
	free(daemon);
}

static int become_unprivileged(const struct settings *settings)
{
	char error[PRIV_ERROR_MAX];
	int r = priv_prepare(settings, error);

	if (r == 0)
		r = priv_drop(settings->user, error);
	if (r < 0)
		log_error("steerd", "%s", error);
	return r;
}

static int load(const char *settings_file, struct settings **ret_settings)
{
	char error[SETTINGS_ERROR_MAX];
	int r = settings_load(settings_file, ret_settings, error);

	if (r < 0)
		log_error("settings", "%s", error);
	return r;
}

int daemon_run(const char *settings_file)
{
	struct daemon *daemon = calloc(1, sizeof(*daemon));
	int r = daemon ? load(settings_file, &daemon->settings) : -ENOMEM;

	if (r < 0) {
		free(daemon);
		return EXIT_FAILURE;
	}
	daemon->settings_file = settings_file;
	r = become_unprivileged(daemon->settings);
	if (r == 0)
		r = open_all(daemon);
	if (r == 0) {
		sd_notify(0, "READY=1");
		log_info("steerd", "running");
		r = sd_event_loop(daemon->loop);
		sd_notify(0, "STOPPING=1");
	}
	close_all(daemon);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int daemon_flush(const char *settings_file)
{
	struct settings *settings = NULL;
	int r = load(settings_file, &settings);

	if (r < 0)
		return EXIT_FAILURE;
	r = steering_remove(settings);
	if (r < 0)
		log_error("steerd", "cannot remove everything: %s", strerror(-r));
	settings_free(settings);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
