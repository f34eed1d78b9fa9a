/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An entry of the audit log, and how its hash is made: what store_audit.c writes, and what whoever
 * verifies the log compares. Plain values; any thread.
 *
 * The entries are a chain: each holds the hash of the one before it (the first: 64 zeros) and its own,
 * the SHA-256 of its canonical JSON. Who knows the hash of the head knows that nothing before it was
 * changed, removed, inserted or put elsewhere since. That the tail was cut off cannot be seen from the
 * chain alone: compare it with a head that was noted elsewhere.
 */
#ifndef TENANT_STEER_AUDIT_H
#define TENANT_STEER_AUDIT_H

#include <stddef.h>
#include <stdint.h>

#include "record.h"

/* The canonical JSON of an entry, whatever it holds. */
#define AUDIT_TEXT_MAX (RECORD_JSON_MAX + 8192)

/* The kinds; the table audit_action on disk has their names, and a later release may add some. */
enum audit_action {
	AUDIT_IMPORT, /* it was there before there was a log */
	AUDIT_GRANT,
	AUDIT_TRY,
	AUDIT_CHANGE,
	AUDIT_REVOKE,
	AUDIT_EXPIRE,
	AUDIT_ACTIONS
};

struct audit_entry {
	uint64_t seq; /* 1, 2, 3, ... */
	int64_t time_us;
	struct actor actor;
	const char *action; /* a name */
	uint64_t exception_id;
	const char *tenant;
	const char *record; /* canonical JSON of the exception after the action (record_json()) */
	char previous[DIGEST_HEX_LEN + 1];
	char hash[DIGEST_HEX_LEN + 1];
};

const char *audit_action_name(enum audit_action action);

/* Of the first entry. */
extern const char audit_start[DIGEST_HEX_LEN + 1];

/*
 * The canonical JSON of an entry: all of it but the hash, in the order of the struct. NUL-terminated;
 * returns its length, or 0 if it did not fit, which no entry that was written here does.
 */
size_t audit_text(const struct audit_entry *entry, char buf[AUDIT_TEXT_MAX]);

/* The hash that an entry must have; "" if its text does not fit. */
void audit_hash(const struct audit_entry *entry, char ret_hex[DIGEST_HEX_LEN + 1]);

/* The chain, entry by entry. */
struct audit_chain {
	uint64_t seq; /* of the last entry, 0: none yet */
	char hash[DIGEST_HEX_LEN + 1];
};

/* What of an entry makes it a link: its canonical JSON with two members of it, and its hash. */
struct audit_link {
	uint64_t seq;
	const char *text, *previous, *hash;
};

#define AUDIT_ERROR_MAX 512

void audit_chain_begin(struct audit_chain *chain);

/*
 * Does the entry follow? 0, or -EBADMSG and a sentence that names the entry and what is wrong with it:
 * one that is missing or comes again, a hash that is not its own, or not that of the entry before.
 */
int audit_chain_add(struct audit_chain *chain, const struct audit_link *link,
		    char error[AUDIT_ERROR_MAX]);

#endif
