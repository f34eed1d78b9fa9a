/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The exceptions in force: the store on disk, and the tenants' exemptions in the model that follow
 * from it. What is on disk decides: a grant or a change counts once it is durable. A revocation
 * counts at once, whether or not the disk takes it; what the disk did not take is kept and tried
 * again.
 *
 * An exception ends when the time of day gets to its end, or when as much time has passed since the
 * end was set as there was to it then, by a clock that nobody sets (clock.h): whichever comes first. So
 * none lives longer because the clock was set back, be it while steerd runs or while it does not; set
 * forward, exceptions end by the new time. After a reboot only the time of day is left to go by.
 *
 * A store that cannot be read or is damaged means: no exceptions, everything is enforced. One that
 * cannot be written means: nothing new; what is in force ends as it should, and is written down when
 * that works again. One thread.
 */
#ifndef TENANT_STEER_EXCEPTIONS_H
#define TENANT_STEER_EXCEPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "record/record.h"
#include "settings/settings.h"
#include "store.h"
#include "tenants/model.h"

/* Active exceptions in memory, and of one tenant EXEMPTIONS_MAX; further grants are refused. */
#define EXCEPTIONS_MAX 200000
/* Of those that have ended, the latest so many are listed. */
#define EXCEPTIONS_ENDED_MAX 1000
/* Ends that are written to disk in one transaction. */
#define EXCEPTIONS_SETTLE_MAX 256
#define EXCEPTIONS_ERROR_MAX 512

/* Why something is refused, made as by printf; returns r. Any thread. */
int exceptions_refuse(char error[EXCEPTIONS_ERROR_MAX], int r, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

struct active;
struct exceptions;

struct exceptions *exceptions_new(struct model *model); /* NULL: no memory */
void exceptions_free(struct exceptions *exceptions);

/* Open the store and put what is active into the model. Called again to try again, and after a
 * reload: profiles are matched by name. 0 or an errno; exceptions_store_error() says why. */
int exceptions_load(struct exceptions *exceptions, const struct settings *settings);

/*
 * Grant: all texts and the end set; id, version, risk and times filled in, scope ("": all of the tenant)
 * and destinations made canonical here.
 * max_lifetime_s of the profile limits the end, that of a try SETTINGS_TRY_MAX_S as well; it is of one host
 * or user, and the only one of it. On failure error is a sentence: -EINVAL, -EEXIST,
 * -ENOBUFS (one too many), or of the store.
 */
int exceptions_grant(struct exceptions *exceptions, struct exception *exception,
		     char error[EXCEPTIONS_ERROR_MAX]);

/* What shall be otherwise; NULL and 0 leave it as it is. */
struct exceptions_change {
	int64_t expires_at_us;
	const char *reason, *change_request, *accepted_by;
	bool risk_accepted; /* again, and by accepted_by: without it no end is put off */
	uint64_t if_version;
};

/*
 * Change an active one; *ret is the record afterwards. The end is at most the profile's
 * max_lifetime_s after the first grant. 0; 1: it ends sooner than before, which the kernel has to be told as
 * it is told a revocation. -ENOENT: no such exception is active; -ESTALE: its version is
 * not if_version; -EINVAL; or of the store; error is a sentence.
 */
int exceptions_change(struct exceptions *exceptions, uint64_t id,
		      const struct exceptions_change *change, const struct actor *actor,
		      struct exception *ret, char error[EXCEPTIONS_ERROR_MAX]);

/* Which ones are to end: those of a tenant, of one profile (NULL: of all), of one id (0: of all). */
struct exceptions_revocation {
	const char *tenant, *profile;
	uint64_t id;
	uint64_t if_version; /* 0: whatever it is; otherwise exactly one may be meant */
	const char *reason;
};

struct revoked {
	uint64_t id;
	const char *profile; /* for the call */
};

/*
 * Take exceptions out of the model now; then on disk with exceptions_settle(), after the kernel has
 * been told. each is called for every one, after which it is gone. Returns how many there were, or
 * -ENOENT, -ESTALE, -EINVAL with nothing done and a sentence in error.
 */
int exceptions_revoke(struct exceptions *exceptions, const struct exceptions_revocation *revocation,
		      const struct actor *actor,
		      void (*each)(void *user, const struct revoked *revoked), void *user,
		      char error[EXCEPTIONS_ERROR_MAX]);

/*
 * Write to disk what waits for it, the revocations first, at most EXCEPTIONS_SETTLE_MAX. 0: all is
 * written, 1: call again for the rest, or an errno if the disk does not take it.
 */
int exceptions_settle(struct exceptions *exceptions);

/*
 * End what has expired by now; each is called for every one. Also follow the clock, if it was set by
 * a second or more since the last time; so call it before a grant or a change, too.
 */
void exceptions_expire(struct exceptions *exceptions,
		       void (*each)(void *user, const char *tenant, const char *profile,
				    uint64_t id),
		       void *user);

/*
 * Several at once (apply.h): what each one shall be is checked, with nothing done; then they are written
 * as one batch, a transaction on a connection of its own, so that nobody sees half of it; and what is on
 * disk then is taken into memory, one after the other.
 *
 * exceptions_grant(), exceptions_change(), exceptions_revoke() and exceptions_load() raise the generation
 * and end a batch that is open: its writer has to start again, and they need not wait. While one is open
 * exceptions_settle() writes nothing. What expires raises no generation.
 */
uint64_t exceptions_generation(const struct exceptions *exceptions);
/* As exceptions_grant(), but for a second one of the same, and nothing is written. */
int exceptions_check_grant(const struct exceptions *exceptions, struct exception *exception,
			   char error[EXCEPTIONS_ERROR_MAX]);
/* As exceptions_change(), but nothing is written; *ret is what is to be. */
int exceptions_check_change(struct exceptions *exceptions, uint64_t id,
			    const struct exceptions_change *change, struct exception *ret,
			    char error[EXCEPTIONS_ERROR_MAX]);
/* Begin one, when none is open: written to with store.h, ended with store_commit() and
 * exceptions_end_batch(). */
int exceptions_begin_batch(struct exceptions *exceptions, char error[EXCEPTIONS_ERROR_MAX]);
/* The one that is open; NULL: there is none, or none any more. */
struct store *exceptions_batch(const struct exceptions *exceptions);
/* The batch could not be written (r): note it as for any other write, end it, and say why. Returns r. */
int exceptions_batch_failed(struct exceptions *exceptions, int r, char error[EXCEPTIONS_ERROR_MAX]);
/* What was not committed never was. Also when there is none. */
void exceptions_end_batch(struct exceptions *exceptions);
/* Go by a record that is on disk as it is: a new one, one that was changed, or one that has ended.
 * Returns whether it ends sooner than before. */
bool exceptions_take(struct exceptions *exceptions, const struct exception *record);

/* The active one with this tenant, profile, scope and destinations, or NULL. */
const struct active *exceptions_find(const struct exceptions *exceptions,
				     const struct exception *key);
/* The active one with this id, or NULL. */
const struct active *exceptions_active(const struct exceptions *exceptions, uint64_t id);
/* The first of the active ones (hh.next), or NULL. */
const struct active *exceptions_first(const struct exceptions *exceptions);

/* Call back with each try; scope lasts for the call. */
void exceptions_each_try(const struct exceptions *exceptions,
			 void (*each)(void *user, uint64_t id, const struct tenant *tenant,
				      int profile, const struct scope *scope),
			 void *user);

/* Call back with each exception from disk, with all the latest ended ones too. */
int exceptions_each(struct exceptions *exceptions, bool all,
		    void (*each)(const struct exception *, void *), void *user);

/* For reading the audit log; NULL: there is none, as exceptions_store_error() says. */
struct store *exceptions_store(const struct exceptions *exceptions);

/* The first of a tenant's that are in force (active.h, tenant_next), by name; NULL: it has none. */
const struct active *exceptions_of(const struct exceptions *exceptions, const char *tenant);

unsigned exceptions_count(const struct exceptions *exceptions);
/* NULL when the store is in order. */
const char *exceptions_store_error(const struct exceptions *exceptions);
/* Counts the times that there was another error than before, or none any more. */
unsigned exceptions_store_changes(const struct exceptions *exceptions);
/*
 * If the store is not in order, see whether it is again: open it, or write something that changes nothing.
 * A file that is damaged or of a newer release is left alone until exceptions_load().
 */
void exceptions_try_store(struct exceptions *exceptions);
/* Is it damaged, or of a newer release? */
bool exceptions_store_unusable(const struct exceptions *exceptions);
/* By how much the clock was set the last time that exceptions_expire() noticed; 0: never. */
int64_t exceptions_clock_step(const struct exceptions *exceptions);

#endif
