/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <utlist.h>

#include "base/clock.h"
#include "base/log.h"
#include "steering/plan.h"

#define TICK_MAX_MS 500
#define TICK_MIN_MS 50
/* The lease is renewed at least so many times before it runs out. */
#define RENEWALS_PER_LEASE 6
/* A store that refused is tried again after so many ticks. */
#define SETTLE_TICKS 20
/* Child SAs to look at in one go when a snapshot has ended: 2 ms if all of them are gone. (A
 * simulation with a few dozen says fewer.) */
#ifndef SWEEP_STEP
#define SWEEP_STEP 300
#endif
/*
 * A tenant that left may be about to come back: reauthentication breaks a tunnel before it makes
 * the next one. Its flows go on if their conntrack entries are still there then.
 */
#define DEPARTED_US 3000000

static bool address_mode(const struct core *core)
{
	return steering_mode(core->steering) == STEERING_ADDRESS;
}

static void on_changed(void *user, uint32_t spi)
{
	struct core *core = user;

	if (address_mode(core))
		core->addresses_changed = true;
	else
		plan_spi(&core->model, core->elements, core->settings->profile_count, core->check,
			 spi);
}

/* The kernel's SAs with this SPI changed. */
static void on_sa_changed(void *user, uint32_t spi)
{
	struct core *core = user;

	if (!address_mode(core) && model_find_spi(&core->model, spi))
		on_changed(core, spi);
}

static void forget_range(struct core *core, const struct address_range *range)
{
	if (core->forget_count < CORE_FORGET_MAX)
		core->forget[core->forget_count++] = *range;
	else
		core->forget_all = true;
}

static void forget_oldest(struct core *core)
{
	forget_range(core, &core->departed[core->departed_first].range);
	core->departed_first = (core->departed_first + 1) % CORE_DEPARTED_MAX;
	core->departed_count--;
}

static void forget_later(struct core *core, const struct address_range *range)
{
	if (core->departed_count == CORE_DEPARTED_MAX)
		forget_oldest(core);
	core->departed[(core->departed_first + core->departed_count++) % CORE_DEPARTED_MAX] =
		(struct departed){ *range, clock_monotonic_us() + DEPARTED_US };
}

static void forget_departed(struct core *core)
{
	const int64_t now = clock_monotonic_us();

	while (core->departed_count && core->departed[core->departed_first].due_us <= now)
		forget_oldest(core);
}

/* After a rekey the new child SA carries on the flows of the old one. */
static bool carried_on(struct core *core, const struct child_sa *child)
{
	const struct child_sa *other = model_find_ike(&core->model, child->ike_id);

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
	struct core *core = user;

	if (!child->steered || !child->range_count || carried_on(core, child))
		return;
	for (unsigned i = 0; i < child->range_count; i++)
		forget_later(core, &child->ranges[i]);
}

/* It may be exempt again in a moment, by an exception of its new tenant's. */
static void on_reassigned(void *user, const struct child_sa *child)
{
	struct core *core = user;

	for (unsigned i = 0; child->steered && i < child->range_count; i++)
		forget_later(core, &child->ranges[i]);
}

static void on_steered(void *user, const struct child_sa *child, bool steered)
{
	struct core *core = user;

	for (unsigned i = 0; i < child->range_count; i++)
		conntrack_keep(core->conntrack, &child->ranges[i], steered);
}

static void on_placed(void *user, const struct child_sa *child, bool placed)
{
	struct core *core = user;

	owners_place(core->owners, child, placed);
}

static void forget_tenant(struct core *core, const struct tenant *tenant)
{
	const struct child_sa *child;

	DL_FOREACH2(tenant->children, child, tenant_next)
	for (unsigned i = 0; i < child->range_count; i++)
		forget_range(core, &child->ranges[i]);
}

static void publish_steering(struct core *core, const struct tenant *tenant)
{
	struct event ev = { .type = tenant->steered > tenant->reported ? EVENT_STEERING_APPLIED
								       : EVENT_STEERING_WITHDRAWN,
			    .tenant = tenant->name,
			    .count = tenant->steered };

	if (ev.type == EVENT_STEERING_WITHDRAWN && tenant->refused)
		ev.reason = sa_check_sentence(tenant->refused_verdict);
	if (tenant->steered != tenant->reported)
		stream_publish(core->stream, &ev);
}

static void publish_conflict(struct core *core, const struct tenant *tenant)
{
	struct event ev = {
		.type = EVENT_TENANT_CONFLICT,
		.tenant = *tenant->name ? tenant->name : NULL,
		.reason = "another tenant uses an address of this one, enforcing for both",
	};

	if (tenant->disputed) {
		ev.reason = sa_check_sentence(tenant->refused_verdict);
		ev.spi_in = tenant->refused_spi;
	}
	stream_publish(core->stream, &ev);
}

static bool report_tenant(void *user, struct tenant *tenant)
{
	struct core *core = user;
	const bool conflict = tenant->conflict || tenant->disputed;

	/* Not before the kernel has it. */
	if (core->grants_left && tenant->steered > tenant->reported)
		return false;
	publish_steering(core, tenant);
	if (!tenant->steered && tenant->reported)
		forget_tenant(core, tenant);
	if (conflict && !tenant->conflict_reported)
		publish_conflict(core, tenant);
	tenant->conflict_reported = conflict;
	return true;
}

/* Before anybody else's news: what was taken from one tenant may be another's now. */
static bool report_withdrawn(void *user, struct tenant *tenant)
{
	return tenant->steered < tenant->reported && report_tenant(user, tenant);
}

static void note_check(struct core *core)
{
	const char *problem = core->xfrm ? xfrm_problem(core->xfrm) : NULL;

	if (problem && problem != core->plan_problem)
		log_error("xfrm", "%s; nobody is exempt", problem);
	if (!problem && core->plan_problem)
		log_info("xfrm", "the kernel's SAs can be read");
	core->plan_problem = problem;
}

static void plan(struct core *core)
{
	int r;

	if (steering_mode(core->steering) == STEERING_SA)
		note_check(core);
	/* Half a snapshot is not worth comparing all addresses: nobody is exempt until it is in. */
	if (!core->addresses_changed || !address_mode(core) || core->snapshot == SNAPSHOT_READING)
		return;
	core->addresses_changed = false;
	r = plan_addresses(&core->model, core->elements, core->settings->profile_count);
	core->plan_problem = r == 0         ? NULL
			     : r == -ENOMEM ? "no memory to compare the tenants' addresses"
					    : "the addresses of some child SA are not known";
}

/* Flows are forgotten after the kernel's sets say no: before, they would be pinned again. */
static void forget_flows(struct core *core)
{
	if (core->forget_all)
		conntrack_forget(core->conntrack, NULL);
	for (unsigned i = 0; !core->forget_all && i < core->forget_count; i++)
		conntrack_forget(core->conntrack, &core->forget[i]);
	core->forget_all = false;
	core->forget_count = 0;
}

/* In address mode each step would compare all addresses anew. */
static void sweep(struct core *core)
{
	size_t limit = address_mode(core) ? SIZE_MAX : SWEEP_STEP;

	if (core->snapshot == SNAPSHOT_READ && !model_snapshot_end(&core->model, limit))
		core->snapshot = SNAPSHOT_SWEPT;
}

/* Should the kernel have refused the elements, steering holds the lease back until it takes them. */
static void end_resync(struct core *core)
{
	const struct event resynced = { .type = EVENT_RESYNCED,
					.children = core->model.child_count };

	core->snapshot = SNAPSHOT_NONE;
	core->missed = false;
	steering_allow(core->steering, true, NULL);
	stream_publish(core->stream, &resynced);
	log_info("follow", "snapshot of %zu child SAs is in", core->model.child_count);
}

static void report_store(struct core *core)
{
	const char *error = exceptions_store_error(core->exceptions);
	const struct event ev = { .type = error ? EVENT_STORE_FAILED : EVENT_STORE_RECOVERED,
				  .reason = error };

	if (core->store_changes == exceptions_store_changes(core->exceptions))
		return;
	core->store_changes = exceptions_store_changes(core->exceptions);
	stream_publish(core->stream, &ev);
}

int core_settle(struct core *core)
{
	int r;

	report_store(core);
	/* An SA that charon says is up was there before it said so. */
	xfrm_read(core->xfrm);
	sweep(core);
	if (core->unknown && core->snapshot != SNAPSHOT_SWEPT) {
		core->rest(core->rest_user, core->snapshot == SNAPSHOT_READ);
		return 0;
	}
	core->unknown = false;
	plan(core);
	r = steering_flush(core->steering);
	core->grants_left = r > 0;
	core->rest(core->rest_user, r > 0 || core->snapshot == SNAPSHOT_READ);
	model_each_touched(&core->model, report_withdrawn, core);
	model_each_touched(&core->model, report_tenant, core);
	forget_flows(core);
	if (core->snapshot == SNAPSHOT_SWEPT)
		end_resync(core);
	return r;
}

int core_settle_revocation(struct core *core)
{
	int r = core_settle(core);

	if (r < 0 || core->unknown)
		r = steering_withdraw(core->steering);
	return r;
}

static void publish_unidentified(struct core *core, const struct event *ev)
{
	struct event out;

	if (ev->tenant || (ev->type != EVENT_CHILD_INSTALLING && ev->type != EVENT_CHILD_UP))
		return;
	out = *ev;
	out.type = EVENT_TENANT_UNIDENTIFIED;
	out.time_us = 0;
	stream_publish(core->stream, &out);
}

static void apply(struct core *core, const struct event *ev)
{
	static struct log_limit limit;
	int r = model_apply(&core->model, ev);

	if (r < 0)
		log_limited(&limit, LOG_LEVEL_WARNING, "model",
			    "cannot keep a child SA of \"%s\" (%s), enforcing it",
			    ev->tenant ? ev->tenant : "", strerror(-r));
}

static void on_event(void *user, const struct event *ev)
{
	struct core *core = user;

	apply(core, ev);
	stream_publish(core->stream, ev);
	publish_unidentified(core, ev);
}

static void lose_publisher(struct core *core, const char *reason)
{
	const struct event lost = { .type = EVENT_PUBLISHER_LOST, .reason = reason };

	log_warning("follow", "%s, enforcing for every tenant", reason);
	steering_allow(core->steering, false, reason);
	stream_publish(core->stream, &lost);
}

static void on_doubt(void *user, enum follow_doubt doubt)
{
	struct core *core = user;

	/* Another snapshot follows; only at its end is everything known again. */
	core->snapshot = SNAPSHOT_NONE;
	switch (doubt) {
	case FOLLOW_DOUBT_LOST:
		lose_publisher(core, "charon's plugin is silent");
		break;
	case FOLLOW_DOUBT_STALE:
		lose_publisher(core, "charon's plugin cannot be understood");
		break;
	case FOLLOW_DOUBT_EPOCH:
		log_info("follow", "charon was started anew, fetching a snapshot");
		steering_allow(core->steering, false, "charon was started anew");
		break;
	case FOLLOW_DOUBT_GAP:
		/*
		 * A missed "down" leaves an address with the wrong tenant. An SPI is nobody else's, but
		 * for one whose tenant the admin has changed: the lease is not renewed until it is known.
		 */
		core->missed = true;
		if (address_mode(core))
			steering_allow(core->steering, false, "events were missed");
		break;
	case FOLLOW_DOUBT_ASKED:
		/* Events wait meanwhile, and charon may take long: an address may change hands. */
		if (address_mode(core))
			steering_allow(core->steering, false, "a snapshot is being fetched");
		break;
	}
}

static void on_snapshot_begin(void *user, bool userspace_esp)
{
	struct core *core = user;
	enum steering_mode mode = core->settings->mode;

	core->userspace_esp = userspace_esp;
	if (mode == STEERING_AUTO)
		mode = userspace_esp ? STEERING_ADDRESS : STEERING_SA;
	if (mode == STEERING_SA && userspace_esp)
		log_warning("steering",
			    "charon handles ESP in user space: in SA mode nothing will match");
	if (mode != steering_mode(core->steering)) {
		elements_plan_begin(core->elements);
		elements_plan_end(core->elements);
		steering_set_mode(core->steering, mode);
	}
	core->snapshot = SNAPSHOT_READING;
	model_snapshot_begin(&core->model);
}

static void on_snapshot_record(void *user, const struct event *ev)
{
	apply(user, ev);
}

static void on_snapshot_end(void *user)
{
	struct core *core = user;

	core->addresses_changed = true;
	core->snapshot = SNAPSHOT_READ;
	core_settle(core);
}

static void on_turn_end(void *user)
{
	core_settle(user);
}

static void on_repaired(void *user, const char *what, uint64_t count)
{
	struct core *core = user;
	const struct event ev = { .type = EVENT_KERNEL_REPAIRED, .reason = what, .count = count };

	log_warning("steering", "%s; restored", what);
	stream_publish(core->stream, &ev);
}

const struct follow_callbacks core_follow_callbacks = {
	.event = on_event,
	.doubt = on_doubt,
	.snapshot_begin = on_snapshot_begin,
	.snapshot_record = on_snapshot_record,
	.snapshot_end = on_snapshot_end,
	.turn_end = on_turn_end,
};

static void on_expired(void *user, const char *tenant, const char *profile, uint64_t id)
{
	struct core *core = user;
	const struct event ev = { .type = EVENT_EXCEPTION_EXPIRED,
				  .tenant = tenant,
				  .profile = profile,
				  .exception_id = id };

	stream_publish(core->stream, &ev);
}

static void retry_store(struct core *core)
{
	if (core->settle_wait && --core->settle_wait)
		return;
	if (exceptions_store_error(core->exceptions))
		exceptions_try_store(core->exceptions);
	if (exceptions_settle(core->exceptions) < 0 || exceptions_store_error(core->exceptions))
		core->settle_wait = SETTLE_TICKS;
}

uint64_t core_tick_us(const struct settings *settings)
{
	int64_t ms = settings->lease_ms / RENEWALS_PER_LEASE;

	if (ms > TICK_MAX_MS)
		ms = TICK_MAX_MS;
	return (uint64_t)(ms < TICK_MIN_MS ? TICK_MIN_MS : ms) * 1000;
}

void core_expire(struct core *core)
{
	exceptions_expire(core->exceptions, on_expired, core);
}

/*
 * Stopped for longer than the lease: it has run out, and what charon said meanwhile waits unread. An
 * address may be another tenant's by now, so the lease comes back with the next tick, not with this.
 */
static bool was_stopped(struct core *core)
{
	const int64_t now = clock_monotonic_us(), before = core->ticked_us;

	core->ticked_us = now;
	return now - before > core->settings->lease_ms * 1000;
}

/* The inner addresses of what is tried, as they are now. */
static void list_ranges(struct try_target *target, const struct tenant *tenant,
			const struct scope *scope)
{
	const struct child_sa *child;

	if (scope && scope->kind == SCOPE_HOST)
		target->ranges[target->range_count++] = scope->range;
	if (!scope || scope->kind != SCOPE_USER)
		return;
	DL_FOREACH2(tenant->children, child, tenant_next)
	for (unsigned i = 0; model_scope_concerns(scope, child) && i < child->range_count &&
			     target->range_count < TRY_WATCH_RANGES_MAX;
	     i++)
		target->ranges[target->range_count++] = child->ranges[i];
}

struct targets {
	const struct settings *settings;
	unsigned count;
	struct try_target list[TRY_WATCH_MAX];
};

static void add_target(void *user, uint64_t id, const struct tenant *tenant, int profile,
		       const struct scope *scope)
{
	struct targets *targets = user;
	const unsigned path = targets->settings->profiles[profile].path;
	struct try_target *target;

	if (targets->count == TRY_WATCH_MAX)
		return;
	target = &targets->list[targets->count++];
	*target = (struct try_target){ .id = id, .mark = targets->settings->paths[path].mark };
	list_ranges(target, tenant, scope);
}

void core_watch_tries(struct core *core)
{
	struct targets targets;

	targets.settings = core->settings;
	targets.count = 0;
	exceptions_each_try(core->exceptions, add_target, &targets);
	try_watch_set(core->tries, core->settings->mark_mask, targets.list, targets.count);
}

/* What the sets had no room for is decided again when they have. */
static void retry_refused(struct core *core)
{
	const struct tenant *tenant;
	const struct child_sa *child;

	if (!elements_room_again(core->elements))
		return;
	core->addresses_changed = true;
	for (tenant = core->model.tenants; tenant; tenant = tenant->hh.next)
		if (tenant->partial)
			DL_FOREACH2(tenant->children, child, tenant_next)
	on_changed(core, child->spi_in);
}

void core_tick(struct core *core)
{
	/* First, because ends may have moved with the clock, which steering compares with. */
	core_expire(core);
	steering_tick(core->steering, !was_stopped(core) && !core->missed);
	xfrm_tick(core->xfrm);
	if (steering_flows_unchecked(core->steering))
		conntrack_forget_all(core->conntrack);
	forget_departed(core);
	retry_refused(core);
	core_watch_tries(core);
	core_settle(core);
	retry_store(core);
	report_store(core);
}

static void close_check(struct core *core)
{
	xfrm_close(core->xfrm);
	sa_check_free(core->check);
	core->xfrm = NULL;
	core->check = NULL;
}

/* A rekey has two SAs for one child SA of the model, for a while. */
static int open_check(struct core *core)
{
	const struct settings *settings = core->settings;
	int r;

	if (!settings->verify_sa)
		return 0;
	core->check = sa_check_new(&core->model, 2 * (size_t)settings->max_child_sas, on_sa_changed,
				   core);
	r = core->check ? xfrm_open(core->check, &core->xfrm) : -ENOMEM;
	if (r < 0)
		close_check(core);
	return r;
}

static uint32_t path_marks(const struct settings *settings)
{
	uint32_t marks = 0;

	for (unsigned i = 0; i < settings->path_count; i++)
		marks |= settings->paths[i].mark;
	return marks;
}

int core_open(struct core *core, const struct settings *settings, core_rest rest, void *user,
	      char error[ROUTE_ERROR_MAX])
{
	static const struct model_callbacks callbacks = { on_changed, on_leaving, on_reassigned,
							  on_steered, on_placed };
	int r;

	core->settings = settings;
	core->rest = rest;
	core->rest_user = user;
	core->unknown = true;
	core->ticked_us = clock_monotonic_us();
	strcpy(error, "no memory");
	model_init(&core->model, settings->max_child_sas, &callbacks, core);
	core->owners = owners_new();
	core->elements = elements_new(settings->max_child_sas);
	core->exceptions = exceptions_new(&core->model);
	if (!core->owners || !core->elements || !core->exceptions)
		return -ENOMEM;
	r = steering_open(settings, core->elements, on_repaired, core, &core->steering, error);
	if (r < 0)
		return r;
	r = open_check(core);
	if (r < 0) {
		snprintf(error, ROUTE_ERROR_MAX, "cannot follow the kernel's SAs: %s",
			 strerror(-r));
		return r;
	}
	core->tries = try_watch_new();
	if (!core->tries)
		return -ENOMEM;
	r = conntrack_start(path_marks(settings), &core->conntrack);
	if (r < 0) {
		snprintf(error, ROUTE_ERROR_MAX, "cannot start the conntrack cleaner: %s",
			 strerror(-r));
		return r;
	}
	/* A store that cannot be used is said, shown by status, and means enforcing; steerd runs.
	 */
	exceptions_load(core->exceptions, settings);
	return 0;
}

int core_reload(struct core *core, const struct settings *settings, char error[ROUTE_ERROR_MAX])
{
	struct elements *elements = elements_new(settings->max_child_sas);
	struct steering *steering = NULL;
	int r = -ENOMEM;

	strcpy(error, "no memory");
	if (elements)
		r = steering_open(settings, elements, on_repaired, core, &steering, error);
	if (r < 0) {
		elements_free(elements);
		return r;
	}
	steering_hand_over(core->steering, steering);
	steering_close(core->steering);
	elements_free(core->elements);
	core->settings = settings;
	core->elements = elements;
	core->steering = steering;
	core->snapshot = SNAPSHOT_NONE;
	core->unknown = true;
	conntrack_add_marks(core->conntrack, path_marks(settings));
	exceptions_load(core->exceptions, settings);
	return 0;
}

void core_close(struct core *core)
{
	exceptions_free(core->exceptions);
	close_check(core);
	model_done(&core->model);
	owners_free(core->owners);
	steering_close(core->steering);
	elements_free(core->elements);
	conntrack_stop(core->conntrack);
	try_watch_free(core->tries);
}
