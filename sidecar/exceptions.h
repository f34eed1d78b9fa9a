/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The exceptions in force: the store on disk, and the tenants' exemptions in the model that follow
 * from it. What is on disk decides: a grant counts once it is durable. A revocation counts at
 * once, whether or not the disk takes it; what the disk did not take is kept and tried again.
 *
 * A store that cannot be read or is damaged means: no exceptions, everything is enforced. One
 * thread.
 */
#ifndef TENANT_STEER_EXCEPTIONS_H
#define TENANT_STEER_EXCEPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "model.h"
#include "settings.h"
#include "store.h"

/* Active exceptions in memory; further grants are refused. */
#define EXCEPTIONS_MAX 200000
/* Of those that have ended, the latest so many are listed. */
#define EXCEPTIONS_ENDED_MAX 1000

struct exceptions;

struct exceptions *exceptions_new(struct model *model); /* NULL: no memory */
void exceptions_free(struct exceptions *exceptions);

/* Open the store and put what is active into the model. Called again to try again, and after a
 * reload: profiles are matched by name. 0 or an errno; exceptions_store_error() says why. */
int exceptions_load(struct exceptions *exceptions, const struct settings *settings);

/*
 * Grant: all texts set, id and times filled in here. max_lifetime_s of the profile limits
 * expires_at_us. On failure *ret_error is a sentence: -EEXIST, -EINVAL, or of the store.
 */
int exceptions_grant(struct exceptions *exceptions, struct exception *exception,
		     const char **ret_error);

struct revoked {
	uint64_t id;
	char profile[SETTINGS_NAME_MAX + 1];
};

/*
 * Take a tenant's exceptions (of one profile, or all: NULL) out of the model now; then on disk
 * with exceptions_settle(), after the kernel has been told. Fills ret_revoked (at
 * most SETTINGS_PROFILES_MAX) and returns how many there were.
 */
unsigned exceptions_revoke(struct exceptions *exceptions, const char *tenant, const char *profile,
			   const char *by, const char *reason, struct revoked *ret_revoked);

/* Write to disk what waits for it; 0, or an errno if something still does. */
int exceptions_settle(struct exceptions *exceptions);

/*
 * End what has expired by now; each is called for every one. monotonic_us is the other clock: an end is a
 * time of day, but when the clock is set back, by a second or more, the ends of all exceptions
 * move with it, so that none lives longer than it would have. (Set forward, they end by the
 * new time.)
 */
void exceptions_expire(struct exceptions *exceptions, int64_t now_us, int64_t monotonic_us,
		       void (*each)(void *user, const char *tenant, const char *profile,
				    uint64_t id),
		       void *user);

/* Call back with each exception from disk, with all the latest ended ones too. */
int exceptions_each(struct exceptions *exceptions, bool all,
		    void (*each)(const struct exception *, void *), void *user);

unsigned exceptions_count(const struct exceptions *exceptions);
/* NULL when the store is in order. */
const char *exceptions_store_error(const struct exceptions *exceptions);
/* Is it damaged, or of a newer release? */
bool exceptions_store_unusable(const struct exceptions *exceptions);
/* By how much the clock was set the last time that exceptions_expire() noticed; 0: never. */
int64_t exceptions_clock_step(const struct exceptions *exceptions);

#endif
