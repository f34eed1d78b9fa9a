/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The exceptions on disk, and the audit log: SQLite, WAL, synchronous=FULL. A row is never deleted,
 * and once it has ended never changed; before that each change raises its version. Whatever is done
 * is written to the log in the same transaction. One thread.
 *
 * What changes something is durable on return, each call in a transaction of its own; or all of
 * those between store_begin() and store_commit() in one.
 *
 * Every call may fail for good reasons (full disk, damaged file). The store then reports them
 * and stays usable for a later try; it never overwrites a damaged file. The caller enforces.
 */
#ifndef TENANT_STEER_STORE_H
#define TENANT_STEER_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "record/audit.h"
#include "record/record.h"

struct store;

/*
 * Open or create the database, migrate its schema (PRAGMA user_version) in one transaction and
 * check it (PRAGMA quick_check). Returns 0 or a negative errno: -EUCLEAN the file is damaged or
 * is from a newer release, others from the file system. On failure *ret_error is a static or
 * thread-local sentence.
 */
int store_open(const char *file, struct store **ret_store, const char **ret_error);
/* Another connection to the same file, which is not checked again: what is between its store_begin() and
 * store_commit() is not seen by the first, and nobody else can write meanwhile. On failure
 * store_error(store) says why. */
int store_open_beside(struct store *store, struct store **ret_store);
void store_close(struct store *store); /* takes NULL; what was not committed never was */

/* Write something that changes nothing; durable on return: does the disk take it? */
int store_probe(struct store *store);

/* Sentence about the last failure, for the caller's log and answer. */
const char *store_error(const struct store *store);
/* Did the last failure mean that the file's contents cannot be trusted (SQLITE_CORRUPT, NOTADB)? */
bool store_damaged(const struct store *store);

/* Call back for each exception not ended (expired ones included: the caller looks at the clock). */
int store_each_active(struct store *store, void (*each)(const struct exception *, void *),
		      void *user);

/* The same for those with ids after one, in their order, at most limit of them. */
int store_each_active_after(struct store *store, uint64_t after, unsigned limit,
			    void (*each)(const struct exception *, void *), void *user);

/* Call back for the exceptions that have ended, the latest first, at most limit of them. */
int store_each_ended(struct store *store, unsigned limit,
		     void (*each)(const struct exception *, void *), void *user);

/*
 * Call back for the exceptions after an id (0: from the first on) up to another, of a tenant or all
 * (NULL), that were in force at some time in this span, in the order of their ids, at most limit of
 * them. Takes the time of looking at all ids between.
 */
struct store_span {
	uint64_t after, last;
	int64_t from_us, to_us;
	const char *tenant;
	unsigned limit;
};
int store_each_in_force(struct store *store, const struct store_span *span,
			void (*each)(const struct exception *, void *), void *user);

/* Read one, active or ended; -ENOENT. */
int store_find(struct store *store, uint64_t id, struct exception *ret);

/*
 * Several changes in one transaction. After a failure of one of them, or to give it up,
 * store_rollback(), which nothing follows from. While it is open nothing of it is durable.
 */
int store_begin(struct store *store);
int store_commit(struct store *store); /* on failure it is rolled back */
void store_rollback(struct store *store);

/*
 * Add exception. At most one active exception for a tenant, profile, scope and destinations:
 * -EEXIST otherwise; -EINVAL: something is missing in it. id and version are filled in.
 */
int store_grant(struct store *store, struct exception *exception);

/*
 * Change one: changed is the whole record as it shall be, its version one more than that on disk.
 * -ESTALE if there is no active exception with that id and the version before it.
 */
int store_change(struct store *store, const struct exception *changed, int64_t at_us,
		 const struct actor *by);

/* End one: AUDIT_REVOKE, AUDIT_EXPIRE. -ENOENT if it is not active. */
int store_end(struct store *store, uint64_t id, enum audit_action action, int64_t at_us,
	      const struct actor *by, const char *reason);

/*
 * The audit log. What is handed to a callback lasts for the call. -EUCLEAN: an entry has values that
 * no release could have written.
 */
typedef void (*store_each_entry)(void *user, const struct audit_entry *entry);

/* The entries after one (0: from the first on), in their order, at most limit. */
int store_each_after(struct store *store, uint64_t after, unsigned limit, store_each_entry each,
		     void *user);

/* The latest entries before one (UINT64_MAX: of all), of a tenant or all (NULL), at most limit; in their
 * order, so the newest is the last. */
int store_each_latest(struct store *store, const char *tenant, uint64_t before, unsigned limit,
		      store_each_entry each, void *user);

/* A tenant's entries after one, in their order, at most limit. */
int store_each_next(struct store *store, const char *tenant, uint64_t after, unsigned limit,
		    store_each_entry each, void *user);

/* Of each of a tenant's exceptions the last entry up to a time, in their order. */
int store_each_at(struct store *store, const char *tenant, int64_t at_us, store_each_entry each,
		  void *user);

/* The entry that made a version of an exception, UINT64_MAX: the last one; -ENOENT. */
int store_find_entry(struct store *store, uint64_t exception_id, uint64_t version,
		     store_each_entry each, void *user);

/* The number and hash of the last entry; 0 and audit_start if there is none. */
int store_audit_head(struct store *store, uint64_t *ret_seq, char ret_hash[DIGEST_HEX_LEN + 1]);

/* The greatest id that an exception has, or that the log names. */
int store_last_id(struct store *store, uint64_t *ret_id);

#endif
