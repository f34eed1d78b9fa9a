/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "steerd.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yajl/yajl_tree.h>

#include "base/log.h"
#include "control/commands.h"
#include "daemon.h"
#include "kernel.h"
#include "kernel/xfrm.h"
#include "record/risk.h"
#include "scopes.h"
#include "tenants/follow_state.h"
#include "truth.h"
#include "wire.h"

#define ANSWER_MAX 16384
/* A subscriber that finds no publisher tries again this often. */
#define RECONNECT_US (50 * SIM_MS)

struct steerd {
	struct daemon *daemon; /* NULL: not running */
	struct follow_state follow;
	uint64_t boot;
	bool busy, dead;
	int64_t busy_until, went_on_at;
	unsigned kill_in, stop_in; /* calls; 0: not */
	int64_t stop_us;
	bool waking, rest, notified;
	bool doubtful, unknown;
	int64_t snapshot_at; /* when one was last read */
	unsigned budget;     /* events in a turn */
	uint64_t told[SIM_TENANTS];
	struct event_decoded decoded;
};

struct stream {
	int unused;
};

struct steerd *steerd_new(struct sim *sim)
{
	struct steerd *steerd = calloc(1, sizeof(*steerd));

	if (!steerd)
		abort();
	steerd->budget = sim_below(sim, 3) ? 500 : 2;
	return steerd;
}

static void destroy(struct sim *sim)
{
	struct steerd *steerd = sim->steerd;

	core_close(&steerd->daemon->core);
	free(steerd->daemon->core.stream);
	free(steerd->daemon);
	steerd->daemon = NULL;
	steerd->dead = false;
	steerd->kill_in = steerd->stop_in = 0;
	wire_subscribe(sim, false);
}

void steerd_free(struct steerd *steerd)
{
	if (steerd->daemon)
		destroy(sim_now());
	free(steerd);
}

bool steerd_running(const struct sim *sim)
{
	return sim->steerd->daemon && !sim->steerd->dead;
}

uint64_t steerd_boot(const struct sim *sim)
{
	return steerd_running(sim) ? sim->steerd->boot : 0;
}

int64_t steerd_went_on_at(const struct sim *sim)
{
	return sim->steerd->went_on_at;
}

int64_t steerd_awake_since(const struct sim *sim)
{
	const struct steerd *steerd = sim->steerd;

	return steerd->busy_until > steerd->went_on_at ? steerd->busy_until : steerd->went_on_at;
}

bool steerd_stopped(const struct sim *sim)
{
	return !steerd_running(sim) || sim->steerd->busy_until > sim->mono_us;
}

struct core *steerd_core(struct sim *sim)
{
	return &sim->steerd->daemon->core;
}

bool steerd_live(const struct sim *sim)
{
	return steerd_running(sim) && sim->steerd->follow.phase == FOLLOW_LIVE;
}

static void die(struct sim *sim)
{
	sim_note(sim, "  steerd is killed");
	sim->stats.crashes++;
	sim->steerd->dead = true;
}

bool steerd_call(struct sim *sim)
{
	struct steerd *steerd = sim->steerd;
	int64_t wait = 0;

	if (steerd->dead)
		return false;
	if (steerd->kill_in && --steerd->kill_in == 0)
		die(sim);
	else if (steerd->stop_in && --steerd->stop_in == 0)
		wait = steerd->stop_us;
	else if (sim_chance(sim, sim->faults.slow))
		wait = sim_delay(sim, 20, 50 * SIM_MS);
	if (wait && steerd->busy) {
		if (wait > SIM_S)
			sim_note(sim, "  steerd is stopped within a call");
		steerd->busy_until = sim->mono_us + wait;
		sim_run_until(sim, steerd->busy_until);
		steerd->went_on_at = sim->mono_us;
	}
	return !steerd->dead;
}

/* A step of steerd's begins: unless it is no more, or cannot now and does it later. */
static bool begin(struct sim *sim, uint64_t boot, sim_run run, const char *name)
{
	struct steerd *steerd = sim->steerd;

	if (!steerd_running(sim) || steerd->boot != boot)
		return false;
	if (steerd->busy || steerd->busy_until > sim->mono_us) {
		sim_after(sim, steerd->busy_until - sim->mono_us + sim_delay(sim, 1, 100), run,
			  name, boot);
		return false;
	}
	steerd->busy = true;
	return true;
}

static void end(struct sim *sim)
{
	sim->steerd->busy = false;
	if (!sim->steerd->dead && sim->steerd->daemon->core.snapshot == SNAPSHOT_READ &&
	    !sim->steerd->rest)
		sim_fail(sim, "REST: a snapshot is to be gone through, but not with the next turn");
	if (sim->steerd->dead)
		destroy(sim);
}

static int follow_connect(void *user)
{
	wire_connect(user);
	return 0;
}

static void follow_ask(void *user, uint64_t cursor)
{
	char request[SNAPSHOT_REQUEST_MAX];

	wire_ask(user, request, snapshot_request_encode(cursor, request, sizeof(request)));
}

static void follow_disconnect(void *user)
{
	wire_disconnect(user);
}

static bool follow_unread(void *user)
{
	return wire_waiting(user);
}

static const struct follow_transport transport = { follow_connect, follow_ask, follow_disconnect,
						   follow_unread };

static void read_event(struct sim *sim)
{
	struct steerd *steerd = sim->steerd;
	struct wire_text text;
	const char *error;

	wire_receive(sim, &text);
	if (event_decode(text.text, text.len, &steerd->decoded, &error) < 0) {
		sim_note(sim, "  steerd cannot read an event");
		follow_state_unreadable(&steerd->follow, error);
	} else {
		sim_mix(sim, steerd->decoded.ev.seq);
		sim_note(sim, "  steerd reads %s seq %llu child %u spi %08x of %s",
			 event_type_name(steerd->decoded.ev.type),
			 (unsigned long long)steerd->decoded.ev.seq, steerd->decoded.ev.child_id,
			 steerd->decoded.ev.spi_in,
			 steerd->decoded.ev.tenant ? steerd->decoded.ev.tenant : "nobody");
		follow_state_event(&steerd->follow, &steerd->decoded.ev);
	}
	free(text.text);
}

static int read_record(struct steerd *steerd, const struct wire_text *frame)
{
	const char *error;
	int r = event_decode(frame->text, frame->len, &steerd->decoded, &error);

	return r < 0 ? r : follow_state_page_record(&steerd->follow, &steerd->decoded.ev);
}

/* As read_page() of follow.c. */
static void read_page(struct sim *sim)
{
	struct steerd *steerd = sim->steerd;
	struct wire_page *page = wire_receive_page(sim);
	struct snapshot_header header = { 0 };
	int r = snapshot_header_decode(page->frames[0].text, page->frames[0].len, &header);

	if (r == 0)
		r = follow_state_page_header(&steerd->follow, &header);
	for (unsigned i = 1; r == 0 && i < page->count; i++)
		r = read_record(steerd, &page->frames[i]);
	sim_note(sim, "  steerd reads a page, %u records, seq %llu: %d", page->count - 1,
		 (unsigned long long)header.seq, r);
	wire_page_free(page);
	follow_state_page_end(&steerd->follow, &header, r);
}

/* As on_ready() of follow.c. */
static void turn(struct sim *sim, uint64_t boot)
{
	struct steerd *steerd = sim->steerd;
	unsigned budget = steerd->budget;
	bool any = false;

	if (!begin(sim, boot, turn, "steerd: turn"))
		return;
	steerd->waking = false;
	if (steerd->follow.phase == FOLLOW_SNAPSHOT && wire_page_waiting(sim)) {
		read_page(sim);
		any = true;
	}
	while (!steerd->dead && steerd->follow.phase != FOLLOW_SNAPSHOT && wire_waiting(sim) &&
	       budget--) {
		read_event(sim);
		any = true;
	}
	if (any)
		core_follow_callbacks.turn_end(&steerd->daemon->core);
	end(sim);
	if (steerd_running(sim) && (wire_page_waiting(sim) ||
				    (steerd->follow.phase != FOLLOW_SNAPSHOT && wire_waiting(sim))))
		steerd_wake(sim);
}

void steerd_wake(struct sim *sim)
{
	struct steerd *steerd = sim->steerd;

	if (!steerd_running(sim) || steerd->waking)
		return;
	steerd->waking = true;
	sim_after(sim, sim_delay(sim, 5, 500), turn, "steerd: turn", steerd->boot);
}

/* As on_xfrm() of daemon.c. */
static void look_at_sas(struct sim *sim, uint64_t boot)
{
	if (!begin(sim, boot, look_at_sas, "steerd: SAs changed"))
		return;
	sim->steerd->notified = false;
	if (sim->steerd->daemon->core.xfrm) {
		xfrm_dispatch(sim->steerd->daemon->core.xfrm);
		core_settle(&sim->steerd->daemon->core);
	}
	end(sim);
}

void steerd_notify(struct sim *sim)
{
	if (!steerd_running(sim) || sim->steerd->notified)
		return;
	sim->steerd->notified = true;
	sim_after(sim, sim_delay(sim, 5, 500), look_at_sas, "steerd: SAs changed",
		  sim->steerd->boot);
}

static void take_rest(struct sim *sim, uint64_t boot)
{
	if (!begin(sim, boot, take_rest, "steerd: rest of a flush"))
		return;
	if (sim->steerd->rest) {
		sim->steerd->rest = false;
		core_settle(&sim->steerd->daemon->core);
	}
	end(sim);
}

static void note_rest(void *user, bool left)
{
	struct sim *sim = user;

	if (left && !sim->steerd->rest)
		sim_after(sim, 10, take_rest, "steerd: rest of a flush", sim->steerd->boot);
	sim->steerd->rest = left;
}

static void tick(struct sim *sim, uint64_t boot)
{
	if (!begin(sim, boot, tick, "steerd: tick"))
		return;
	core_tick(&sim->steerd->daemon->core);
	sim_after(sim, (int64_t)core_tick_us(&sim->settings), tick, "steerd: tick", boot);
	end(sim);
}

static void follow_tick(struct sim *sim, uint64_t boot)
{
	if (!begin(sim, boot, follow_tick, "steerd: follower's tick"))
		return;
	follow_state_tick(&sim->steerd->follow);
	sim_after(sim, FOLLOW_TICK_US, follow_tick, "steerd: follower's tick", boot);
	end(sim);
	/* What the prepare handlers of the loop would see. */
	if (steerd_running(sim) && wire_waiting(sim))
		steerd_wake(sim);
}

static void subscribe(struct sim *sim, uint64_t boot)
{
	if (steerd_running(sim) && sim->steerd->boot == boot && !wire_subscribed(sim))
		wire_subscribe(sim, true);
}

/*
 * What the follower says goes to the core as it is, and is noted on the way: from a start and from a doubt
 * on, no lease may be given or renewed before a snapshot was read.
 */
static void on_event(void *user, const struct event *ev)
{
	core_follow_callbacks.event(user, ev);
}

static void on_doubt(void *user, enum follow_doubt doubt)
{
	struct steerd *steerd = sim_now()->steerd;
	const enum steering_mode mode = steering_mode(steerd->daemon->core.steering);
	const bool grave = doubt != FOLLOW_DOUBT_GAP || mode == STEERING_ADDRESS;

	steerd->doubtful = true;
	core_follow_callbacks.doubt(user, doubt);
	/* Withdrawn before it returns, but for what a former steerd left, which runs out. */
	if (grave && mode != STEERING_AUTO)
		kernel_expect_no_lease(sim_now());
}

static void on_snapshot_begin(void *user, bool userspace_esp)
{
	core_follow_callbacks.snapshot_begin(user, userspace_esp);
}

static void on_snapshot_record(void *user, const struct event *ev)
{
	core_follow_callbacks.snapshot_record(user, ev);
}

static void on_snapshot_end(void *user)
{
	sim_now()->steerd->doubtful = sim_now()->steerd->unknown = false;
	sim_now()->steerd->snapshot_at = sim_now()->mono_us;
	core_follow_callbacks.snapshot_end(user);
}

static const struct follow_callbacks callbacks = {
	.event = on_event,
	.doubt = on_doubt,
	.snapshot_begin = on_snapshot_begin,
	.snapshot_record = on_snapshot_record,
	.snapshot_end = on_snapshot_end,
};

bool steerd_doubtful(const struct sim *sim)
{
	return sim->steerd->doubtful;
}

int64_t steerd_snapshot_at(const struct sim *sim)
{
	return sim->steerd->snapshot_at;
}

bool steerd_unknown(const struct sim *sim)
{
	return sim->steerd->unknown;
}

static void start_following(struct sim *sim)
{
	struct steerd *steerd = sim->steerd;

	wire_subscribe(sim, false);
	steerd->waking = false;
	steerd->doubtful = steerd->unknown = true;
	follow_state_init(&steerd->follow, sim->settings.lost_after_ms, &callbacks,
			  &steerd->daemon->core, &transport, sim);
	sim_after(sim, sim_delay(sim, SIM_MS, RECONNECT_US), subscribe, "steerd: subscribe",
		  steerd->boot);
}

void steerd_start(struct sim *sim)
{
	struct steerd *steerd = sim->steerd;
	char error[ROUTE_ERROR_MAX];

	if (steerd->daemon)
		return;
	steerd->daemon = calloc(1, sizeof(*steerd->daemon));
	if (!steerd->daemon)
		abort();
	steerd->boot++;
	steerd->rest = steerd->notified = false;
	steerd->busy_until = 0;
	memset(steerd->told, 0, sizeof(steerd->told));
	steerd->daemon->settings = &sim->settings;
	steerd->daemon->core.stream = calloc(1, sizeof(struct stream));
	truth_forget_revocations(sim);
	kernel_new_owner(sim);
	if (core_open(&steerd->daemon->core, &sim->settings, note_rest, sim, error) < 0)
		abort();
	start_following(sim);
	sim_after(sim, (int64_t)core_tick_us(&sim->settings), tick, "steerd: tick", steerd->boot);
	sim_after(sim, FOLLOW_TICK_US, follow_tick, "steerd: follower's tick", steerd->boot);
}

void steerd_kill(struct sim *sim)
{
	if (!steerd_running(sim))
		return;
	die(sim);
	if (!sim->steerd->busy)
		destroy(sim);
}

void steerd_kill_at(struct sim *sim, unsigned calls)
{
	sim->steerd->kill_in = calls;
}

void steerd_stop_at(struct sim *sim, unsigned calls, int64_t us)
{
	sim->steerd->stop_in = calls;
	sim->steerd->stop_us = us;
	sim->stats.freezes++;
}

void steerd_stop(struct sim *sim, int64_t us)
{
	sim->stats.freezes++;
	if (!sim->steerd->busy && sim->steerd->busy_until < sim->mono_us + us)
		sim->steerd->busy_until = sim->mono_us + us;
}

static void reload(struct sim *sim, uint64_t boot)
{
	char error[ROUTE_ERROR_MAX];

	if (!begin(sim, boot, reload, "steerd: reload"))
		return;
	if (core_reload(&sim->steerd->daemon->core, &sim->settings, error) == 0)
		start_following(sim);
	end(sim);
}

void steerd_reload(struct sim *sim)
{
	sim_after(sim, 1, reload, "steerd: reload", sim->steerd->boot);
}

/* Ask as steerctl does. Returns the handler's result; answer is JSON. */
static int ask(struct sim *sim, const char *name, const char *request, char answer[ANSWER_MAX])
{
	static const struct control_caller caller = { .name = "operator" };
	char error[CONTROL_ERROR_MAX] = "";
	yajl_val tree = yajl_tree_parse(request, NULL, 0);
	struct json_writer w;
	unsigned i = 0;
	int r;

	while (strcmp(commands[i].name, name))
		i++;
	json_init(&w, answer, ANSWER_MAX);
	json_object_begin(&w, NULL);
	r = commands[i].handle(sim->steerd->daemon, &caller, tree, &w, error);
	json_object_end(&w);
	json_finish(&w);
	yajl_tree_free(tree);
	return r;
}

/* Statistics decide nothing, so the simulation has none. */
struct usage_counters usage_counters(const struct usage *usage)
{
	(void)usage;
	return (struct usage_counters){ .flows = 0 };
}

struct observe_counters observe_counters(const struct observe *observe)
{
	(void)observe;
	return (struct observe_counters){ .under_way = 0 };
}

const char *usage_problem(struct usage *usage)
{
	(void)usage;
	return NULL;
}

COMMANDS_HANDLER(commands_report)
{
	(void)user;
	(void)caller;
	(void)request;
	(void)w;
	(void)error;
	return -ENOSYS;
}

COMMANDS_HANDLER(commands_plan)
{
	(void)user;
	(void)caller;
	(void)request;
	(void)w;
	(void)error;
	return -ENOSYS;
}

COMMANDS_HANDLER(commands_plan_result)
{
	(void)user;
	(void)caller;
	(void)request;
	(void)w;
	(void)error;
	return -ENOSYS;
}

/* Looks at the machine it runs on, so it has no place here. */
int commands_doctor(void *user, const struct control_caller *caller, yajl_val request,
		    struct json_writer *w, char error[CONTROL_ERROR_MAX])
{
	(void)user;
	(void)caller;
	(void)request;
	(void)w;
	(void)error;
	return -ENOSYS;
}

/* An operator who waits behind a stopped steerd gives up. */
static bool listens(struct sim *sim)
{
	struct steerd *steerd = sim->steerd;

	if (!steerd_running(sim) || steerd->busy || steerd->busy_until > sim->mono_us)
		return false;
	steerd->busy = true;
	return true;
}

void steerd_grant(struct sim *sim, unsigned tenant, unsigned profile, unsigned scope,
		  int64_t seconds)
{
	char request[512], answer[ANSWER_MAX], hash[DIGEST_HEX_LEN + 1];
	int r;

	if (!listens(sim))
		return;
	risk_sha256(hash);
	snprintf(request, sizeof(request),
		 "{\"tenant\":\"%s\",\"profile\":\"profile%u\",\"accept_risk\":true,"
		 "\"risk_sha256\":\"%s\",\"change_request\":\"CR-1\",\"accepted_by\":\"Anna\","
		 "\"reason\":\"calls\",\"expires_s\":%lld%s}",
		 truth_tenant(tenant), profile, hash, (long long)seconds, scopes_request(scope));
	r = ask(sim, "grant", request, answer);
	sim_note(sim, "  grant %s profile%u%s for %lld s: %d", truth_tenant(tenant), profile,
		 scopes_request(scope), (long long)seconds, r);
	end(sim);
}

/* Its number is known to whoever asks; it may be over. */
void steerd_change(struct sim *sim, unsigned id, int64_t seconds)
{
	char request[512], answer[ANSWER_MAX], hash[DIGEST_HEX_LEN + 1];
	int r;

	if (!listens(sim))
		return;
	risk_sha256(hash);
	snprintf(request, sizeof(request),
		 "{\"id\":%u,\"accept_risk\":true,\"risk_sha256\":\"%s\",\"accepted_by\":\"Anna\","
		 "\"expires_s\":%lld}",
		 id, hash, (long long)seconds);
	r = ask(sim, "change", request, answer);
	sim_note(sim, "  change exception %u to %lld s: %d", id, (long long)seconds, r);
	if (r == 0 && !sim->steerd->dead && !strstr(answer, "The kernel refused"))
		truth_settled(sim, id - 1);
	end(sim);
}

/* Returns whether it was done, and *ret_kernel is negative if the kernel refused. */
static bool ask_to_revoke(struct sim *sim, const char *tenant, const char *more, int *ret_kernel)
{
	const int64_t asked = sim->mono_us;
	char request[256], answer[ANSWER_MAX];
	bool refused;
	int r;

	snprintf(request, sizeof(request), "{\"tenant\":\"%s\",\"reason\":\"over\"%s}", tenant,
		 more);
	r = ask(sim, "revoke", request, answer);
	sim_note(sim, "  revoke %s%s: %d", tenant, more, r);
	refused = r == 0 && strstr(answer, "The kernel refused");
	if (refused && !sim->steerd->dead && kernel_refused_at(sim) < asked)
		sim_fail(sim, "REVOKE: it is said to be refused, but the kernel was not asked");
	*ret_kernel = refused ? -1 : 0;
	return r == 0 && !sim->steerd->dead;
}

void steerd_revoke(struct sim *sim, unsigned tenant)
{
	int kernel;

	if (!listens(sim))
		return;
	if (ask_to_revoke(sim, truth_tenant(tenant), "", &kernel))
		truth_revoked(sim, tenant, kernel);
	end(sim);
}

void steerd_revoke_one(struct sim *sim, unsigned row)
{
	const struct exception *exception = &truth_book(sim)->rows[row];
	char more[32];
	int kernel;

	if (!listens(sim))
		return;
	snprintf(more, sizeof(more), ",\"id\":%llu", (unsigned long long)exception->id);
	if (ask_to_revoke(sim, exception->tenant, more, &kernel))
		truth_revoked_one(sim, row, kernel);
	end(sim);
}

/* The operators' stream, without anybody: what it says is kept and hashed. */
void stream_publish(struct stream *stream, const struct event *ev)
{
	struct sim *sim = sim_now();

	(void)stream;
	if (!steerd_call(sim))
		return;
	sim_mix(sim, (uint64_t)ev->type << 32 | ev->count);
	for (unsigned t = 0; ev->tenant && t < SIM_TENANTS; t++)
		if ((ev->type == EVENT_STEERING_APPLIED || ev->type == EVENT_STEERING_WITHDRAWN) &&
		    !strcmp(ev->tenant, truth_tenant(t)))
			sim->steerd->told[t] = ev->count;
	if (!event_is_child(ev->type) && ev->type != EVENT_IKE_UPDATE)
		sim_note(sim, "  stream: %s %s %llu", event_type_name(ev->type),
			 ev->tenant ? ev->tenant : "", (unsigned long long)ev->count);
}

void stream_write_since(const struct stream *stream, uint64_t since, const char *tenant,
			struct json_writer *w)
{
	(void)stream;
	(void)since;
	(void)tenant;
	(void)w;
}

const char *stream_epoch(const struct stream *stream)
{
	(void)stream;
	return "";
}

uint64_t stream_seq(const struct stream *stream)
{
	(void)stream;
	return 0;
}

uint64_t steerd_told(const struct sim *sim, const char *tenant)
{
	for (unsigned t = 0; t < SIM_TENANTS; t++)
		if (!strcmp(tenant, truth_tenant(t)))
			return sim->steerd->told[t];
	return 0;
}

static void log_line(const char *subsystem, const char *format, va_list args)
{
	char text[512];

	if (!sim_now() || sim_now()->voice == SIM_MUTE)
		return;
	vsnprintf(text, sizeof(text), format, args);
	sim_note(sim_now(), "  log: %s: %s", subsystem, text);
}

void log_write(enum log_level level, const char *subsystem, const char *format, ...)
{
	va_list args;

	(void)level;
	va_start(args, format);
	log_line(subsystem, format, args);
	va_end(args);
}

void log_limited(struct log_limit *limit, enum log_level level, const char *subsystem,
		 const char *format, ...)
{
	va_list args;

	(void)limit;
	(void)level;
	va_start(args, format);
	log_line(subsystem, format, args);
	va_end(args);
}

void log_set_level(enum log_level level)
{
	(void)level;
}
