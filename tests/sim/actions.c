/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "actions.h"

#include <arpa/inet.h>
#include <string.h>

#include "gateway.h"
#include "kernel.h"
#include "scopes.h"
#include "steerd.h"
#include "steering/plan.h"

/* Between two actions: bursts, and silences. */
#define PAUSE_LEAST_US (1 * SIM_MS)
#define PAUSE_MOST_US (2 * SIM_S)

/* Some longer than any run, in seconds. */
static const int64_t lifetimes[] = { 9000000, 9000000, 1, 2, 3, 5, 20 };
#define LIFETIMES (sizeof(lifetimes) / sizeof(lifetimes[0]))

static void grant(struct sim *sim)
{
	steerd_grant(sim, sim_below(sim, SIM_TENANTS), sim_below(sim, SIM_PROFILES),
		     sim_below(sim, 2) ? 0 : sim_below(sim, SIM_SCOPES),
		     lifetimes[sim_below(sim, LIFETIMES)]);
}

/* One of the last few. */
static void change(struct sim *sim)
{
	const unsigned count = truth_book(sim)->count, back = sim_below(sim, 8);

	if (count > back)
		steerd_change(sim, count - back, lifetimes[sim_below(sim, LIFETIMES)]);
}

/* Half of the time one of a tenant's, so that the others remain. */
static void take_back(struct sim *sim)
{
	const struct truth_book *book = truth_book(sim);
	const unsigned row = book->count ? sim_below(sim, book->count) : 0;

	if (book->count && !book->rows[row].ended_at_us && sim_below(sim, 2))
		steerd_revoke_one(sim, row);
	else
		steerd_revoke(sim, sim_below(sim, SIM_TENANTS));
}

static void nothing(struct sim *sim)
{
	steerd_wake(sim);
}

static const struct {
	unsigned weight;
	void (*act)(struct sim *sim);
	const char *name;
} peers_do[] = {
	{ 30, gateway_connect, "peer: connect" },
	{ 16, gateway_disconnect, "peer: disconnect" },
	{ 16, gateway_rekey_child, "peer: rekey child" },
	{ 5, gateway_delete_child, "peer: delete child" },
	{ 6, gateway_add_child, "peer: another child" },
	{ 5, gateway_rekey_ike, "peer: rekey IKE_SA" },
	{ 5, gateway_move, "peer: MOBIKE" },
	{ 3, gateway_migrate, "peer: migrate children" },
	{ 3, truth_lose_orphan, "peer: an orphan goes" },
	{ 2, gateway_reassign, "admin: other tenants" },
	{ 26, grant, "operator: grant" },
	{ 10, take_back, "operator: revoke" },
	{ 6, change, "operator: change" },
	{ 1, nothing, "nothing" },
};

static void one_of_peers(struct sim *sim)
{
	unsigned total = 0, draw;

	for (size_t i = 0; i < sizeof(peers_do) / sizeof(peers_do[0]); i++)
		total += peers_do[i].weight;
	draw = sim_below(sim, total);
	for (size_t i = 0;; i++) {
		if (draw < peers_do[i].weight) {
			sim_note(sim, "%s", peers_do[i].name);
			peers_do[i].act(sim);
			return;
		}
		draw -= peers_do[i].weight;
	}
}

static void start_gateway(struct sim *sim, uint64_t arg)
{
	(void)arg;
	if (!gateway_running(sim))
		gateway_start(sim);
}

/* One that is being killed within a call is started when it is gone. */
static void start_steerd(struct sim *sim, uint64_t arg)
{
	if (!steerd_running(sim))
		steerd_start(sim);
	if (!steerd_running(sim))
		sim_after(sim, 100 * SIM_MS, start_steerd, "steerd: start", arg);
}

static void crash_charon(struct sim *sim)
{
	if (!gateway_running(sim))
		return;
	sim_note(sim, "charon is killed");
	gateway_kill(sim);
	sim_after(sim, sim_delay(sim, 50 * SIM_MS, 8 * SIM_S), start_gateway, "charon: start", 0);
}

/* Seen to by a supervisor, in a while or at once. */
static void crash_steerd(struct sim *sim)
{
	if (!steerd_running(sim))
		return;
	if (sim_below(sim, 2))
		steerd_kill(sim);
	else
		steerd_kill_at(sim, 1 + sim_below(sim, 12));
}

static void watch_steerd(struct sim *sim, uint64_t arg)
{
	if (!steerd_running(sim) && sim_below(sim, 2))
		start_steerd(sim, 0);
	sim_after(sim, sim_delay(sim, 100 * SIM_MS, 6 * SIM_S), watch_steerd, "supervisor", arg);
}

static void freeze(struct sim *sim)
{
	/* Often for longer than the lease. */
	const int64_t us = sim_below(sim, 2) ? sim_delay(sim, 10 * SIM_MS, 8 * SIM_S)
					     : (int64_t)(3000 + sim_below(sim, 6000)) * SIM_MS;

	sim_note(sim, "steerd is stopped for %.3f s", (double)us / 1e6);
	if (sim_below(sim, 2))
		steerd_stop(sim, us);
	else
		steerd_stop_at(sim, 1 + sim_below(sim, 12), us);
}

/* He may well know an SA, or make one up. */
static void tamper(struct sim *sim)
{
	const struct truth_sa *sa = truth_any(sim);
	struct element_key key = plan_sa_key(sim_below(sim, SIM_PROFILES), 0xdead0000);

	sim_note(sim, "a stranger");
	if (sa && kernel_mode(sim) == STEERING_SA)
		key = plan_sa_key(key.profile, sa->spi);
	else if (sa)
		key = plan_range_key(key.profile, &sa->ranges[0]);
	kernel_tamper(sim, &key);
}

static void jump(struct sim *sim)
{
	const int64_t us = sim_delay(sim, SIM_MS, 4000 * SIM_S);

	if (sim_below(sim, 2)) {
		sim->wall_offset_us += us;
		sim->jumped_at = sim->mono_us;
	} else {
		sim->wall_offset_us -= us;
	}
	sim_note(sim, "the wall clock jumps by %.3f s", (double)us / 1e6);
}

static void act(struct sim *sim, uint64_t arg)
{
	const struct sim_faults *f = &sim->faults;

	if (sim->quiet)
		return;
	if (sim_chance(sim, f->crash_charon))
		crash_charon(sim);
	else if (sim_chance(sim, f->crash_steerd))
		crash_steerd(sim);
	else if (sim_chance(sim, f->freeze))
		freeze(sim);
	else if (sim_chance(sim, f->foreign))
		tamper(sim);
	else if (sim_chance(sim, f->jump))
		jump(sim);
	else if (sim_chance(sim, f->reload) && steerd_running(sim))
		steerd_reload(sim);
	else
		one_of_peers(sim);
	sim_after(sim, sim_delay(sim, PAUSE_LEAST_US, PAUSE_MOST_US), act, "an action", arg);
}

void actions_start(struct sim *sim)
{
	sim_after(sim, sim_delay(sim, PAUSE_LEAST_US, PAUSE_MOST_US), act, "an action", 0);
	sim_after(sim, SIM_S, watch_steerd, "supervisor", 0);
}

void actions_quiet(struct sim *sim)
{
	sim_note(sim, "from now on all is well");
	if (!gateway_running(sim))
		gateway_start(sim);
	kernel_calm(sim);
	steerd_kill_at(sim, 0);
	steerd_stop_at(sim, 0, 0);
	start_steerd(sim, 0);
}
