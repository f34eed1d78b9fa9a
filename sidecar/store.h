/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The exceptions on disk: SQLite, WAL, synchronous=FULL. A row is never deleted or rewritten but
 * to end it, so the table is also the record of who accepted which risk. One thread.
 *
 * Every call may fail for good reasons (full disk, damaged file). The store then reports them
 * and stays usable for a later try; it never overwrites a damaged file. The caller enforces.
 */
#ifndef TENANT_STEER_STORE_H
#define TENANT_STEER_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "settings.h"
#include "tenant_name.h"

#define STORE_TEXT_MAX 256

struct exception {
	uint64_t id;
	char tenant[TENANT_NAME_MAX + 1];
	char profile[SETTINGS_NAME_MAX + 1];
	char change_request[STORE_TEXT_MAX];
	char accepted_by[STORE_TEXT_MAX];
	char granted_by[STORE_TEXT_MAX]; /* user name from SO_PEERCRED */
	int64_t granted_at_us;
	int64_t expires_at_us; /* 0: never */
	int64_t ended_at_us;   /* 0: not ended */
	char ended_by[STORE_TEXT_MAX];
	char end_reason[STORE_TEXT_MAX];
};

struct store;

/*
 * Open or create the database, migrate its schema (PRAGMA user_version) in one transaction and
 * check it (PRAGMA quick_check). Returns 0 or a negative errno: -EUCLEAN the file is damaged or
 * is from a newer release, others from the file system. On failure *ret_error is a static or
 * thread-local sentence.
 */
int store_open(const char *file, struct store **ret_store, const char **ret_error);
void store_close(struct store *store); /* takes NULL */

/* Sentence about the last failure, for the caller's log and answer. */
const char *store_error(const struct store *store);
/* Did the last failure mean that the file's contents cannot be trusted (SQLITE_CORRUPT, NOTADB)? */
bool store_damaged(const struct store *store);

/* Call back for each exception not ended (expired ones included: the caller looks at the clock). */
int store_each_active(struct store *store, void (*each)(const struct exception *, void *),
		      void *user);

/* Call back for the exceptions that have ended, the latest first, at most limit of them. */
int store_each_ended(struct store *store, unsigned limit,
		     void (*each)(const struct exception *, void *), void *user);

/*
 * Add exception; durable on return. At most one active exception for a tenant and profile:
 * -EEXIST otherwise. Fills *ret_id.
 */
int store_grant(struct store *store, const struct exception *exception, uint64_t *ret_id);

/* End one; durable on return. -ENOENT if it is not active. */
int store_end(struct store *store, uint64_t id, int64_t at_us, const char *by, const char *reason);

#endif
