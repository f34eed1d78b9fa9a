/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The store: what stands behind store.h is the book of truth.h, and may refuse to be written. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "exceptions/store.h"
#include "sim.h"
#include "steerd.h"
#include "truth.h"

/* A row as it was before the transaction. */
struct undo {
	unsigned row;
	struct exception before;
	struct undo *prev, *next;
};

struct store {
	const char *error;
	bool in_transaction;
	struct undo *undo;
};

int store_open(const char *file, struct store **ret_store, const char **ret_error)
{
	(void)file;
	*ret_error = "no memory";
	*ret_store = calloc(1, sizeof(**ret_store));
	return *ret_store ? 0 : -ENOMEM;
}

int store_open_beside(struct store *store, struct store **ret_store)
{
	(void)store;
	*ret_store = calloc(1, sizeof(**ret_store));
	return *ret_store ? 0 : -ENOMEM;
}

void store_close(struct store *store)
{
	if (store)
		store_rollback(store);
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

int store_each_active_after(struct store *store, uint64_t after, unsigned limit,
			    void (*each)(const struct exception *, void *), void *user)
{
	(void)after;
	(void)limit;
	return store_each_active(store, each, user);
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

static struct exception *find(uint64_t id)
{
	struct truth_book *book = truth_book(sim_now());

	return id && id <= book->count ? &book->rows[id - 1] : NULL;
}

int store_find(struct store *store, uint64_t id, struct exception *ret)
{
	(void)store;
	if (!find(id))
		return -ENOENT;
	*ret = *find(id);
	return 0;
}

static int enter(struct sim *sim, struct store *store)
{
	if (!steerd_call(sim))
		return -EIO;
	store->error = "the disk is full";
	return sim_chance(sim, sim->faults.disk * 5) ? -ENOSPC : 0;
}

/* Before a row is written. */
static struct exception *touch(struct store *store, unsigned row)
{
	struct exception *exception = &truth_book(sim_now())->rows[row];
	struct undo *undo = calloc(1, sizeof(*undo));

	if (!undo)
		abort();
	undo->row = row;
	undo->before = *exception;
	DL_APPEND(store->undo, undo);
	return exception;
}

static void forget(struct store *store)
{
	struct undo *undo, *next;

	DL_FOREACH_SAFE(store->undo, undo, next) {
		DL_DELETE(store->undo, undo);
		free(undo);
	}
	store->in_transaction = false;
}

int store_probe(struct store *store)
{
	return enter(sim_now(), store);
}

int store_begin(struct store *store)
{
	store->in_transaction = true;
	return 0;
}

void store_rollback(struct store *store)
{
	struct truth_book *book = truth_book(sim_now());

	while (store->undo) {
		struct undo *last = store->undo->prev;

		book->rows[last->row] = last->before;
		if (!last->before.id)
			book->count--;
		DL_DELETE(store->undo, last);
		free(last);
	}
	store->in_transaction = false;
}

/* Whoever judges hears of it when it is durable. */
static void tell(struct sim *sim, const struct undo *undo)
{
	const struct exception *now = &truth_book(sim)->rows[undo->row];

	if (!undo->before.id)
		truth_granted(sim, undo->row);
	else if (now->expires_at_us != undo->before.expires_at_us)
		truth_changed(sim, undo->row);
	if (now->ended_at_us)
		truth_ended(sim, undo->row);
}

int store_commit(struct store *store)
{
	struct sim *sim = sim_now();
	const struct undo *undo;
	int r = enter(sim, store);

	if (r < 0) {
		store_rollback(store);
		return r;
	}
	DL_FOREACH(store->undo, undo)
		tell(sim, undo);
	forget(store);
	return 0;
}

/* A change that is a transaction of its own. */
static int leave(struct store *store)
{
	return store->in_transaction ? 0 : store_commit(store);
}

int store_grant(struct store *store, struct exception *exception)
{
	struct truth_book *book = truth_book(sim_now());

	for (unsigned i = 0; i < book->count; i++)
		if (!book->rows[i].ended_at_us &&
		    !strcmp(book->rows[i].tenant, exception->tenant) &&
		    !strcmp(book->rows[i].profile, exception->profile) &&
		    !strcmp(book->rows[i].scope, exception->scope) &&
		    !strcmp(book->rows[i].destinations, exception->destinations))
			return -EEXIST;
	if (book->count == TRUTH_BOOK)
		return -ENOSPC;
	memset(&book->rows[book->count], 0, sizeof(book->rows[0]));
	touch(store, book->count);
	exception->id = book->count + 1;
	exception->version = 1;
	book->rows[book->count++] = *exception;
	return leave(store);
}

int store_change(struct store *store, const struct exception *changed, int64_t at_us,
		 const struct actor *by)
{
	const struct exception *now = find(changed->id);

	(void)at_us;
	(void)by;
	if (!now || now->ended_at_us || now->version + 1 != changed->version)
		return -ESTALE;
	*touch(store, (unsigned)changed->id - 1) = *changed;
	return leave(store);
}

int store_end(struct store *store, uint64_t id, enum audit_action action, int64_t at_us,
	      const struct actor *by, const char *reason)
{
	struct exception *row = find(id);

	(void)action;
	(void)by;
	(void)reason;
	if (!row || row->ended_at_us)
		return -ENOENT;
	row = touch(store, (unsigned)id - 1);
	row->version++;
	row->ended_at_us = at_us;
	return leave(store);
}

/* There is no log: nobody reads it here. */

int store_each_after(struct store *store, uint64_t after, unsigned limit, store_each_entry each,
		     void *user)
{
	(void)store;
	(void)after;
	(void)limit;
	(void)each;
	(void)user;
	return 0;
}

int store_each_latest(struct store *store, const char *tenant, uint64_t before, unsigned limit,
		      store_each_entry each, void *user)
{
	(void)tenant;
	return store_each_after(store, before, limit, each, user);
}

int store_each_next(struct store *store, const char *tenant, uint64_t after, unsigned limit,
		    store_each_entry each, void *user)
{
	(void)tenant;
	return store_each_after(store, after, limit, each, user);
}

int store_each_at(struct store *store, const char *tenant, int64_t at_us, store_each_entry each,
		  void *user)
{
	(void)tenant;
	(void)at_us;
	return store_each_after(store, 0, 0, each, user);
}

int store_find_entry(struct store *store, uint64_t exception_id, uint64_t version,
		     store_each_entry each, void *user)
{
	(void)store;
	(void)exception_id;
	(void)version;
	(void)each;
	(void)user;
	return -ENOENT;
}

int store_audit_head(struct store *store, uint64_t *ret_seq, char ret_hash[DIGEST_HEX_LEN + 1])
{
	(void)store;
	*ret_seq = 0;
	memcpy(ret_hash, audit_start, DIGEST_HEX_LEN + 1);
	return 0;
}

int store_last_id(struct store *store, uint64_t *ret_id)
{
	(void)store;
	*ret_id = truth_book(sim_now())->count;
	return 0;
}
