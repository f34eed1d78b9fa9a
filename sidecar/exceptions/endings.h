/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Ends of exceptions that count already and that the disk has not taken yet: revocations, for which an
 * operator waits, before expiries, for which nobody does. As many as there are exceptions, about 650
 * bytes each. One thread.
 */
#ifndef TENANT_STEER_ENDINGS_H
#define TENANT_STEER_ENDINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "record/record.h"
#include "store.h"

enum endings_queue { ENDINGS_REVOCATIONS, ENDINGS_EXPIRIES, ENDINGS_QUEUES };

struct ending;

/* Zeroed: there are none. */
struct endings {
	struct ending *queues[ENDINGS_QUEUES];
};

/* Add one that ends now. Without memory it is logged, and never on disk. */
void endings_add(struct endings *endings, enum endings_queue queue, uint64_t id,
		 const struct actor *by, const char *reason);
bool endings_have(const struct endings *endings, uint64_t id);
bool endings_none(const struct endings *endings);

/* Write the first max of them in one transaction, and forget them. 0, or an errno of the store's: then
 * all of them are still there. */
int endings_write(struct endings *endings, struct store *store, unsigned max);

/* Forget them all. */
void endings_drop(struct endings *endings);

#endif
