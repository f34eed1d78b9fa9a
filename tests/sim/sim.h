/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A whole gateway in one process, with a clock and a seed of its own: charon with the plugin's real
 * registry, queue and encoder; a wire that loses, repeats, swaps, delays and garbles; steerd's real
 * core, commands, follower, model, plan, elements and steering; a model of the kernel whose verdict on
 * a packet is found by running the real nft skeleton's text. What must hold is checked after every
 * step (truth.h).
 *
 * Nothing depends on anything but the seed: the same seed is the same run, to the last step.
 */
#ifndef TENANT_STEER_SIM_H
#define TENANT_STEER_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "settings/settings.h"

#define SIM_TENANTS 6
#define SIM_PROFILES 2
#define SIM_TIMELINE 60 /* lines; a step takes one and more */
#define SIM_LINE 240
#define SIM_WINDOWS 5 /* enum truth_window */
#define SIM_MS INT64_C(1000)
#define SIM_S INT64_C(1000000)

struct sim;

enum sim_voice { SIM_MUTE, SIM_KEEP, SIM_PRINT };

typedef void (*sim_run)(struct sim *sim, uint64_t arg);

struct sim_step {
	int64_t at;
	uint64_t order; /* of steps at one time */
	sim_run run;
	const char *name;
	uint64_t arg;
};

/* What may go wrong in this run, each in so many of a thousand opportunities. */
struct sim_faults {
	unsigned lose, repeat, swap, garble, stall; /* a message */
	unsigned lose_page;                         /* a question or an answer */
	unsigned refuse, refuse_late; /* a commit: before it is made, after it is made */
	unsigned slow;                /* a call of the kernel: others act meanwhile */
	unsigned torn;                /* a dump */
	unsigned disk;                /* a write of the store */
	unsigned crash_charon, crash_steerd, freeze, foreign, jump, reload; /* an action */
	bool reuse_addresses; /* address mode: at once, while the old owner's withdrawal travels */
};

struct sim_stats {
	uint64_t steps, probes, packets, bypassed, commits, crashes, freezes, resyncs;
	uint64_t windows[SIM_WINDOWS];  /* checks that met an allowed window, by kind (truth.h) */
	int64_t window_us[SIM_WINDOWS]; /* and the longest */
};

struct sim {
	uint64_t seed, random;
	int64_t mono_us, wall_offset_us;
	int64_t jumped_at; /* the wall clock last went forward; 0: never */
	struct sim_step *steps;
	size_t step_count, step_room;
	uint64_t order;
	uint64_t hash;
	bool quiet; /* no more actions, no more faults */
	enum sim_voice voice;
	char (*timeline)[SIM_LINE]; /* the last SIM_TIMELINE lines, if SIM_KEEP */
	unsigned lines;
	bool failed;
	char why[512];
	struct settings settings;
	struct sim_faults faults;
	struct sim_stats stats;
	struct kernel *kernel;
	struct flows *flows;
	struct wire *wire;
	struct gateway *gateway;
	struct steerd *steerd;
	struct truth *truth;
};

/* The run that is under way: what stands in for steerd's clock and kernel gets no argument. */
struct sim *sim_now(void);

uint64_t sim_random(struct sim *sim);
/* 0 to n - 1. */
uint32_t sim_below(struct sim *sim, uint32_t n);
/* In so many of a thousand cases; never once it is quiet. */
bool sim_chance(struct sim *sim, unsigned permille);
/* Microseconds, mostly near least, seldom up to most. */
int64_t sim_delay(struct sim *sim, int64_t least, int64_t most);
int64_t sim_wall_us(const struct sim *sim);

void sim_after(struct sim *sim, int64_t delay_us, sim_run run, const char *name, uint64_t arg);
/* Run what is due by then, and be there. Used from within a step too: what steerd calls may take
 * time. */
void sim_run_until(struct sim *sim, int64_t at);
/* Into the hash that tells two runs apart, and when asked for onto the timeline. */
void sim_note(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));
void sim_mix(struct sim *sim, uint64_t value);
void sim_fail(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Draw the settings of a run: names, marks and services are always the same. */
void sim_settings(struct sim *sim);
/* Whether the first profile has an explicit proxy and the second a list of destinations. */
void sim_bind(struct settings *settings, bool bound);
bool sim_bound(const struct settings *settings);

/* A world at rest, without charon and with a steerd that does nothing: for rules.c. */
void sim_enter(struct sim *sim);
void sim_leave(struct sim *sim);

/* One run. Returns whether all held; *ret_sim's failed, why, hash and stats say more. */
bool sim_play(uint64_t seed, unsigned steps, enum sim_voice voice, struct sim *ret_sim);
/* The lines that were kept. */
void sim_print_timeline(const struct sim *sim);

#endif
