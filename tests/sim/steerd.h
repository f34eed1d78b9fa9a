/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * steerd without its process: core, commands and follow_state as they ship, their store, stream and log
 * modelled, their turns taken when the wire has something, their ticks when it is time. It may be killed or
 * stopped between two steps, and within one at any call of the kernel, the store or the stream: then
 * nothing it does after that happens.
 */
#ifndef TENANT_STEER_SIM_STEERD_H
#define TENANT_STEER_SIM_STEERD_H

#include "core.h"
#include "sim.h"

struct steerd *steerd_new(struct sim *sim);
void steerd_free(struct steerd *steerd);

void steerd_start(struct sim *sim);
void steerd_kill(struct sim *sim);
/* Die, or stop for so long, at the n-th call from now. */
void steerd_kill_at(struct sim *sim, unsigned calls);
void steerd_stop_at(struct sim *sim, unsigned calls, int64_t us);
void steerd_stop(struct sim *sim, int64_t us);
void steerd_reload(struct sim *sim);
bool steerd_running(const struct sim *sim);
/* Which start of it this is. */
uint64_t steerd_boot(const struct sim *sim);

/* Something has arrived. */
void steerd_wake(struct sim *sim);
/* The kernel has something to say about its SAs. */
void steerd_notify(struct sim *sim);
/* steerd calls the kernel; whatever else happens meanwhile, happens. False: it is no more. */
bool steerd_call(struct sim *sim);

/* When a call that had been stopped or slow last went on. */
int64_t steerd_went_on_at(const struct sim *sim);
/* Or when it was, that had been stopped between two calls. */
int64_t steerd_awake_since(const struct sim *sim);
/* Is it stopped again, or slow again, or killed? */
bool steerd_stopped(const struct sim *sim);

/* Has no snapshot been read since a doubt, or since the start? */
bool steerd_doubtful(const struct sim *sim);
bool steerd_unknown(const struct sim *sim);
/* When one was last read to its end. */
int64_t steerd_snapshot_at(const struct sim *sim);

/* What an operator asks. */
void steerd_grant(struct sim *sim, unsigned tenant, unsigned profile, unsigned scope,
		  int64_t seconds);
void steerd_change(struct sim *sim, unsigned id, int64_t seconds);
/* All of a tenant's, or that one; row: of the book. */
void steerd_revoke(struct sim *sim, unsigned tenant);
void steerd_revoke_one(struct sim *sim, unsigned row);

/* For the last check. */
struct core *steerd_core(struct sim *sim);
bool steerd_live(const struct sim *sim);
/* How many child SAs of the tenant the stream said are steered. */
uint64_t steerd_told(const struct sim *sim, const char *tenant);

#endif
