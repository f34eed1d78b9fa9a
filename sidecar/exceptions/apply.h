/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A whole list of exceptions as they shall be, applied at once: staged entry by entry, compared with what
 * is in force, then written in one transaction: all of it or nothing.
 *
 *   apply_new, apply_add ..., apply_staged, apply_compare(0), apply_compare(1) ... for all steps that
 *   apply_count() tells, apply_write ... until it has no more, apply_commit, apply_free
 *
 * Each call takes some milliseconds, so that the loop goes on in between; only the commit waits for the
 * disk, and then puts all into memory. An exception is found by tenant, profile, scope and destinations.
 *
 * Compare-and-set: what was granted, changed or revoked by somebody else since the first comparison ends it
 * (-ESTALE), nothing is done then. So does the end of an exception that it was to change or to revoke. After
 * a failure of apply_write() or apply_commit() it is over, too.
 *
 * Limits: EXCEPTIONS_MAX entries, APPLY_BYTES_MAX of memory; -ENOBUFS beyond. One thread.
 */
#ifndef TENANT_STEER_APPLY_H
#define TENANT_STEER_APPLY_H

#include <stdbool.h>
#include <stddef.h>

#include "exceptions.h"

#define APPLY_BYTES_MAX ((size_t)128 << 20)
/* One call of apply_write() writes at most so many, and ends after so long. */
#define APPLY_WRITE_MAX 256
#define APPLY_WRITE_US 5000

/* OVER: it is not in force, and its end has passed: so it is as it shall be. */
enum apply_action {
	APPLY_NOTHING,
	APPLY_OVER,
	APPLY_REVOKE,
	APPLY_CHANGE,
	APPLY_GRANT,
	APPLY_ACTIONS
};

struct apply;

struct apply_options {
	struct exceptions *exceptions; /* must outlive it */
	struct actor actor;
	bool prune;                   /* revoke what is in force and not among the entries */
	char reason[RECORD_TEXT_MAX]; /* of these revocations */
	uint64_t connection;          /* the caller's, for the caller */
};

struct apply *apply_new(const struct apply_options *options); /* NULL: no memory */
void apply_free(struct apply *apply); /* takes NULL; what was not committed never was */
const struct apply_options *apply_options(const struct apply *apply);

/*
 * Stage one: tenant, profile, scope, destinations, change_request, accepted_by, reason, expires_at_us,
 * risk_version and risk_sha256 of it; an empty one counts only if it is in force like that. -EEXIST: there
 * was such an entry already; -EBUSY: comparing has begun. error is a sentence.
 */
int apply_add(struct apply *apply, const struct exception *wish, char error[EXCEPTIONS_ERROR_MAX]);

/* There are no more entries: from now on compare with what is in force now. */
int apply_staged(struct apply *apply, char error[EXCEPTIONS_ERROR_MAX]);

/* What is to be done for an entry; or, beyond the entries, one of the exceptions to be revoked. */
struct apply_step {
	enum apply_action action;
	struct exception before; /* of a change or a revocation */
	struct exception after;  /* of a grant or a change, or of one that is over */
};

/*
 * Compare one, in their order: index is at most the number of those that were compared before, which may be
 * asked for again. -EINVAL: an entry breaks a rule of a grant or a change, error names field and rule;
 * -ESTALE, -ENOBUFS, or of the store.
 */
int apply_compare(struct apply *apply, size_t index, struct apply_step *ret,
		  char error[EXCEPTIONS_ERROR_MAX]);

struct apply_count {
	size_t entries; /* staged */
	size_t steps;   /* to compare: the entries and, once these are, the revocations */
	size_t compared;
	size_t actions[APPLY_ACTIONS]; /* of those compared */
	size_t left_alone;             /* in force, not among the entries, and not to be revoked */
};

struct apply_count apply_count(const struct apply *apply);

/* Write some of it, revocations first. 1: there is more, 0: all is written, and apply_commit() can follow;
 * or an errno with nothing done and a sentence in error. */
int apply_write(struct apply *apply, char error[EXCEPTIONS_ERROR_MAX]);

/* record: as it is now; of a revocation only id, tenant, profile, ended_at_us and end_reason. */
typedef void (*apply_done)(void *user, enum apply_action action, const struct exception *record);

/*
 * Make it durable, then put it into memory and the model: revocations, then changes, then grants; done is
 * called for each. 0, or an errno with nothing done and a sentence in error.
 */
int apply_commit(struct apply *apply, apply_done done, void *user,
		 char error[EXCEPTIONS_ERROR_MAX]);

#endif
