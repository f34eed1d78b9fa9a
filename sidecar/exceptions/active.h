/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The exceptions in force, in memory: found by id and by tenant in constant time, and the next one
 * to end without looking at the others (a heap). What they mean for the kernel is exceptions.h's
 * business. At most as many as the caller adds; about 300 bytes each, and 80
 * more for one of a part of its tenant. One thread.
 */
#ifndef TENANT_STEER_ACTIVE_H
#define TENANT_STEER_ACTIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "record/record.h"
#include "record/scope.h"
#include "tenants/model.h"

/* Tries at a time. */
#define ACTIVES_TRIES_MAX 64

struct active {
	uint64_t id;
	uint64_t version;
	int64_t expires_at_us; /* by the clock as it goes now, so maybe earlier than on disk; 0: never */
	int64_t wall_end_us;         /* as on disk: it ends when the time of day gets there, */
	int64_t boot_end_us;         /* or when this boot is so old, whichever comes first */
	int64_t kernel_end_us;       /* which that is when this boot is so old; 0: never */
	int64_t granted_at_us;       /* as on disk */
	int64_t granted_boottime_us; /* in this boot; before it: negative */
	struct tenant *tenant;
	int profile; /* index, or -1: no such profile now */
	size_t heap_at;
	struct active *tenant_prev, *tenant_next;
	UT_hash_handle hh;
	struct scope *scope; /* NULL: all of the tenant to any destination */
	bool is_try;
	bool unreadable;     /* what it covers on disk is no scope: it grants nothing */
	char profile_name[]; /* as on disk */
};

struct actives;

struct actives *actives_new(void);          /* NULL: no memory */
void actives_free(struct actives *actives); /* with all that are in it; takes NULL */
size_t actives_count(const struct actives *actives);

/*
 * Add what the record says, of a tenant of the model, which must stay as long as it is here.
 * profile is its index in the settings, not kept if it is unreadable. NULL: no memory, or the id is here
 * already, or it is one try too many.
 */
struct active *actives_add(struct actives *actives, const struct exception *exception,
			   struct tenant *tenant, int profile, const struct clock_reading *now);
void actives_remove(struct actives *actives, struct active *active);

struct active *actives_find(const struct actives *actives, uint64_t id);
/* The first of a tenant's (tenant_next), by name; NULL: it has none. */
struct active *actives_of(const struct actives *actives, const char *tenant);
/* The first of all (hh.next), in the order in which they were added. */
struct active *actives_first(const struct actives *actives);
/* All tries. */
struct active *const *actives_tries(const struct actives *actives, unsigned *ret_count);
/* The one that ends first; NULL if none has an end. */
struct active *actives_next_end(const struct actives *actives);

/* How long it has had its exception, by the clock that says more. */
int64_t active_age_us(const struct active *active, const struct clock_reading *now);

/* Take over the end (and the version) of a record that was changed. */
void actives_change(struct actives *actives, struct active *active, const struct exception *changed,
		    const struct clock_reading *now);
/* It ends no later than this boot is so old. */
void actives_limit(struct actives *actives, struct active *active, int64_t boot_end_us,
		   const struct clock_reading *now);
/* The time of day was set: each end is another time of day now. each is called for those with one. */
void actives_set_clock(struct actives *actives, const struct clock_reading *now,
		       void (*each)(void *user, const struct active *active), void *user);

#endif
