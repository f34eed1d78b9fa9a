/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The store: what stands behind store.h is the book of truth.h, and may refuse to be written. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"
#include "steerd.h"
#include "store.h"
#include "truth.h"

struct store {
	const char *error;
};

int store_open(const char *file, struct store **ret_store, const char **ret_error)
{
	(void)file;
	*ret_error = "no memory";
	*ret_store = calloc(1, sizeof(**ret_store));
	return *ret_store ? 0 : -ENOMEM;
}

void store_close(struct store *store)
{
	free(store);
}

const char *store_error(const struct store *store)
{
	return store->error ? store->error : "";
}

bool store_damaged(const struct store *store)
{
	(void)store;
	return false;
}

int store_each_active(struct store *store, void (*each)(const struct exception *, void *),
		      void *user)
{
	const struct truth_book *book = truth_book(sim_now());

	(void)store;
	for (unsigned i = 0; i < book->count; i++)
		if (!book->rows[i].ended_at_us)
			each(&book->rows[i], user);
	return 0;
}

int store_each_ended(struct store *store, unsigned limit,
		     void (*each)(const struct exception *, void *), void *user)
{
	(void)store;
	(void)limit;
	(void)each;
	(void)user;
	return 0;
}

static int enter(struct sim *sim, struct store *store)
{
	if (!steerd_call(sim))
		return -EIO;
	store->error = "the disk is full";
	return sim_chance(sim, sim->faults.disk * 5) ? -ENOSPC : 0;
}

int store_grant(struct store *store, const struct exception *exception, uint64_t *ret_id)
{
	struct sim *sim = sim_now();
	struct truth_book *book = truth_book(sim);
	int r = enter(sim, store);

	if (r < 0)
		return r;
	for (unsigned i = 0; i < book->count; i++)
		if (!book->rows[i].ended_at_us &&
		    !strcmp(book->rows[i].tenant, exception->tenant) &&
		    !strcmp(book->rows[i].profile, exception->profile))
			return -EEXIST;
	if (book->count == TRUTH_BOOK)
		return -ENOSPC;
	*ret_id = book->count + 1;
	book->rows[book->count] = *exception;
	book->rows[book->count++].id = *ret_id;
	truth_granted(sim, book->count - 1);
	return 0;
}

int store_end(struct store *store, uint64_t id, int64_t at_us, const char *by, const char *reason)
{
	struct sim *sim = sim_now();
	struct truth_book *book = truth_book(sim);
	int r = enter(sim, store);

	(void)by;
	(void)reason;
	if (r < 0)
		return r;
	if (!id || id > book->count || book->rows[id - 1].ended_at_us)
		return -ENOENT;
	book->rows[id - 1].ended_at_us = at_us;
	truth_ended(sim, (unsigned)id - 1);
	return 0;
}
