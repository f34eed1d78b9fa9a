/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "sim.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actions.h"
#include "base/clock.h"
#include "gateway.h"
#include "kernel.h"
#include "settings/destinations.h"
#include "steerd.h"
#include "truth.h"
#include "wire.h"

#define WALL_START (INT64_C(1700000000) * SIM_S)
#define MONO_START (INT64_C(1000) * SIM_S)
/* After the last fault, so long until everything has to be as it should. */
#define QUIET_US (20 * SIM_S)
/* What has expired just then is ended by the next tick. */
#define TICK_US (600 * SIM_MS)

static struct sim *now_playing;

struct sim *sim_now(void)
{
	return now_playing;
}

int64_t clock_monotonic_us(void)
{
	return now_playing->mono_us;
}

int64_t clock_boottime_us(void)
{
	return now_playing->mono_us;
}

int64_t clock_wall_us(void)
{
	return sim_wall_us(now_playing);
}

/* The machine is never booted anew. */
struct clock_reading clock_read(void)
{
	return (struct clock_reading){ .boot = "simulated",
				       .wall_us = clock_wall_us(),
				       .boottime_us = clock_monotonic_us() };
}

int64_t sim_wall_us(const struct sim *sim)
{
	return sim->mono_us + sim->wall_offset_us;
}

/* splitmix64 */
uint64_t sim_random(struct sim *sim)
{
	uint64_t z = sim->random += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

uint32_t sim_below(struct sim *sim, uint32_t n)
{
	return (uint32_t)((sim_random(sim) >> 32) * n >> 32);
}

bool sim_chance(struct sim *sim, unsigned permille)
{
	return permille && !sim->quiet && sim_below(sim, 1000) < permille;
}

int64_t sim_delay(struct sim *sim, int64_t least, int64_t most)
{
	int64_t range = (most - least) >> sim_below(sim, 12);

	return least + (int64_t)(sim_random(sim) % (uint64_t)(range + 1));
}

static bool sooner(const struct sim_step *a, const struct sim_step *b)
{
	return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void sift_up(struct sim_step *steps, size_t i)
{
	while (i && sooner(&steps[i], &steps[(i - 1) / 2])) {
		struct sim_step swap = steps[i];

		steps[i] = steps[(i - 1) / 2];
		steps[(i - 1) / 2] = swap;
		i = (i - 1) / 2;
	}
}

static void sift_down(struct sim_step *steps, size_t count)
{
	for (size_t i = 0, child; (child = 2 * i + 1) < count; i = child) {
		struct sim_step swap;

		if (child + 1 < count && sooner(&steps[child + 1], &steps[child]))
			child++;
		if (!sooner(&steps[child], &steps[i]))
			return;
		swap = steps[i];
		steps[i] = steps[child];
		steps[child] = swap;
	}
}

void sim_after(struct sim *sim, int64_t delay_us, sim_run run, const char *name, uint64_t arg)
{
	if (sim->step_count == sim->step_room) {
		sim->step_room = sim->step_room ? 2 * sim->step_room : 64;
		sim->steps = reallocarray(sim->steps, sim->step_room, sizeof(*sim->steps));
		if (!sim->steps)
			abort();
	}
	sim->steps[sim->step_count] = (struct sim_step){ .at = sim->mono_us + delay_us,
							 .order = sim->order++,
							 .run = run,
							 .name = name,
							 .arg = arg };
	sift_up(sim->steps, sim->step_count++);
}

static struct sim_step take_step(struct sim *sim)
{
	struct sim_step step = sim->steps[0];

	sim->steps[0] = sim->steps[--sim->step_count];
	sift_down(sim->steps, sim->step_count);
	return step;
}

void sim_mix(struct sim *sim, uint64_t value)
{
	sim->hash = (sim->hash ^ value) * UINT64_C(0x100000001b3);
	sim->hash ^= sim->hash >> 29;
}

void sim_note(struct sim *sim, const char *format, ...)
{
	static char kept[SIM_TIMELINE][SIM_LINE];
	char text[SIM_LINE - 24];
	va_list args;

	if (sim->voice == SIM_MUTE)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	sim->timeline = kept;
	snprintf(kept[sim->lines++ % SIM_TIMELINE], SIM_LINE, "%10.6f %5" PRIu64 " %s",
		 (double)(sim->mono_us - MONO_START) / 1e6, sim->stats.steps, text);
	if (sim->voice == SIM_PRINT)
		printf("# %s\n", kept[(sim->lines - 1) % SIM_TIMELINE]);
}

void sim_print_timeline(const struct sim *sim)
{
	unsigned first = sim->lines > SIM_TIMELINE ? sim->lines - SIM_TIMELINE : 0;

	for (unsigned i = first; i < sim->lines; i++)
		printf("# %s\n", sim->timeline[i % SIM_TIMELINE]);
}

void sim_fail(struct sim *sim, const char *format, ...)
{
	va_list args;

	if (sim->failed)
		return;
	sim->failed = true;
	va_start(args, format);
	vsnprintf(sim->why, sizeof(sim->why), format, args);
	va_end(args);
	sim_note(sim, "FAILED: %s", sim->why);
}

static void run_step(struct sim *sim)
{
	struct sim_step step = take_step(sim);

	if (step.at > sim->mono_us)
		sim->mono_us = step.at;
	sim->stats.steps++;
	sim_mix(sim, (uint64_t)sim->mono_us);
	sim_mix(sim, step.arg);
	sim_note(sim, "%s", step.name);
	step.run(sim, step.arg);
	truth_check(sim);
}

void sim_run_until(struct sim *sim, int64_t at)
{
	while (!sim->failed && sim->step_count && sim->steps[0].at <= at)
		run_step(sim);
	if (sim->mono_us < at)
		sim->mono_us = at;
}

static void add_service(struct profile *profile, uint8_t protocol, uint16_t port)
{
	profile->services[profile->service_count++] = (struct service){ protocol, port };
}

bool sim_bound(const struct settings *settings)
{
	return settings->profiles[0].listener_count;
}

void sim_bind(struct settings *settings, bool bound)
{
	static const char *const list[] = { "203.0.113.0/24", "198.51.100.7", "2001:db8:443::/48",
					    "2001:db8:444::7" };
	static const char *const proxies[] = { "198.51.100.80:80", "[2001:db8:445::80]:80" };
	struct profile *open = &settings->profiles[0], *listed = &settings->profiles[1];

	open->listener_count = listed->destination_count = 0;
	for (unsigned i = 0; bound && i < 2; i++) {
		struct listener *to = &open->listeners[open->listener_count++];

		destination_parse_listener(proxies[i], &to->address, &to->port);
	}
	for (unsigned i = 0; bound && i < 4; i++)
		destination_parse(list[i], &listed->destinations[listed->destination_count++]);
}

void sim_settings(struct sim *sim)
{
	struct settings *s = &sim->settings;

	s->mode = STEERING_AUTO;
	s->lost_after_ms = 3000;
	s->lease_ms = 3000;
	s->pinning = sim_below(sim, 5) != 0;
	s->mark_mask = 0x0f000000;
	s->rule_priority = 5200;
	s->verify_sa = sim_below(sim, 2);
	s->max_child_sas = sim_below(sim, 20) ? 64 : 12;
	strcpy(s->nft_table, "tenant-steer");
	strcpy(s->interface, "ipsec0");
	s->path_count = SIM_PROFILES;
	s->profile_count = SIM_PROFILES;
	for (unsigned p = 0; p < SIM_PROFILES; p++) {
		snprintf(s->paths[p].name, sizeof(s->paths[p].name), "path%u", p);
		s->paths[p].mark = (p + 1) << 24;
		s->paths[p].reply_mark = s->paths[p].mark | 0x08000000;
		/* The second one only marks. */
		s->paths[p].table = p ? 0 : 5443;
		snprintf(s->profiles[p].name, sizeof(s->profiles[p].name), "profile%u", p);
		s->profiles[p].path = p;
		add_service(&s->profiles[p], IPPROTO_TCP, 443);
	}
	add_service(&s->profiles[1], IPPROTO_UDP, 3478);
	/* Not drawn: the rest of a run does not depend on it. */
	sim_bind(s, sim->seed & 1);
}

/* Half of the runs have few faults: the more goes wrong, the less gets far. */
static void choose_faults(struct sim *sim)
{
	struct sim_faults *f = &sim->faults;
	const unsigned scale = sim_below(sim, 4);
	unsigned *const all[] = { &f->lose,  &f->repeat,    &f->swap,   &f->garble,
				  &f->stall, &f->lose_page, &f->refuse, &f->refuse_late,
				  &f->slow,  &f->torn,      &f->disk };

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		*all[i] = sim_below(sim, 3) ? 0 : sim_below(sim, 5 + 40 * scale);
	/* A kernel that refuses nearly everything. */
	if (!sim_below(sim, 30))
		f->refuse = 900;
	f->crash_charon = sim_below(sim, 2) ? 0 : sim_below(sim, 20);
	f->crash_steerd = sim_below(sim, 2) ? 0 : sim_below(sim, 40);
	f->freeze = sim_below(sim, 2) ? 0 : sim_below(sim, 40);
	f->foreign = sim_below(sim, 2) ? 0 : sim_below(sim, 40);
	f->jump = sim_below(sim, 4) ? 0 : sim_below(sim, 20);
	f->reload = sim_below(sim, 2) ? 0 : sim_below(sim, 40);
	f->reuse_addresses = sim_below(sim, 2);
}

static void set_up(struct sim *sim)
{
	sim->mono_us = MONO_START;
	sim->wall_offset_us = WALL_START - MONO_START;
	sim_settings(sim);
	choose_faults(sim);
	sim->kernel = kernel_new(sim);
	sim->flows = flows_new();
	sim->wire = wire_new();
	sim->truth = truth_new();
	sim->gateway = gateway_new(sim);
	sim->steerd = steerd_new(sim);
	gateway_start(sim);
	steerd_start(sim);
	actions_start(sim);
}

static void tear_down(struct sim *sim)
{
	steerd_free(sim->steerd);
	gateway_free(sim->gateway);
	truth_free(sim->truth);
	wire_free(sim->wire);
	flows_free(sim->flows);
	kernel_free(sim->kernel);
	free(sim->steps);
}

void sim_enter(struct sim *sim)
{
	*sim = (struct sim){ .mono_us = MONO_START, .wall_offset_us = WALL_START - MONO_START };
	sim_settings(sim);
	now_playing = sim;
	sim->kernel = kernel_new(sim);
	sim->flows = flows_new();
	sim->steerd = steerd_new(sim);
}

void sim_leave(struct sim *sim)
{
	steerd_free(sim->steerd);
	flows_free(sim->flows);
	kernel_free(sim->kernel);
	now_playing = NULL;
}

bool sim_play(uint64_t seed, unsigned steps, enum sim_voice voice, struct sim *ret_sim)
{
	struct sim *sim = ret_sim;

	*sim = (struct sim){ .seed = seed, .random = seed * 2 + 1, .voice = voice };

	sim->hash = UINT64_C(0xcbf29ce484222325);
	now_playing = sim;
	set_up(sim);
	while (!sim->failed && sim->stats.steps < steps)
		run_step(sim);
	if (!sim->failed) {
		sim->quiet = true;
		actions_quiet(sim);
		sim_run_until(sim, sim->mono_us + QUIET_US);
		for (unsigned i = 0; i < 10 && truth_expiring(sim); i++)
			sim_run_until(sim, sim->mono_us + TICK_US);
		truth_check_live(sim);
		/* An exception may just be ending, in the kernel first. */
		if (sim->failed) {
			sim->failed = false;
			sim_run_until(sim, sim->mono_us + TICK_US);
			truth_check_live(sim);
		}
	}
	tear_down(sim);
	now_playing = NULL;
	return !sim->failed;
}
