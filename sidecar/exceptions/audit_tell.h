/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the audit log says about an exception, in words for the operator who comes too late. One thread. */
#ifndef TENANT_STEER_AUDIT_TELL_H
#define TENANT_STEER_AUDIT_TELL_H

#include <stddef.h>
#include <stdint.h>

#include "store.h"

/*
 * What was done to an exception since it had this version: `change by ada at 2026-01-31T12:00:00Z: reason
 * "a" -> "b"`, the last action and all that differs by it. "" if the log says nothing, or cannot be read.
 * Cut off to size.
 */
void audit_tell_since(struct store *store, uint64_t exception_id, uint64_t version, char *buf,
		      size_t size);

/* What an entry's action changed, beside the entry before it of the same exception; "" for the first. */
void audit_tell_change(struct store *store, const struct audit_entry *entry,
		       char buf[RECORD_DIFFERENCE_MAX]);

#endif
