/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "usage_store.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "usage_sql.h"

struct usage_store {
	pthread_t thread;
	pthread_mutex_t lock; /* for what follows; never held over a system call but the wait */
	pthread_cond_t wake;
	bool stop;
	bool busy;
	char error[USAGE_ERROR_MAX];
	struct usage_batch batch; /* the thread's, while busy */
	/* the thread's own */
	struct usage_db *db;
	int64_t purged; /* the month in which old ones were last removed */
	char *file;
};

void usage_batch_done(struct usage_batch *batch)
{
	struct usage_delta *delta, *next;

	HASH_ITER(hh, batch->deltas, delta, next) {
		HASH_DELETE(hh, batch->deltas, delta); /* NOLINT: uthash */
		tally_done(&delta->tally);
		free(delta);
	}
	*batch = (struct usage_batch){ .deltas = NULL };
}

bool usage_batch_empty(const struct usage_batch *batch)
{
	return !batch->deltas && !batch->losses.lost && !batch->losses.untracked &&
	       !batch->losses.dropped;
}

/* The writing thread */

static void set_error(struct usage_store *store, const char *error)
{
	bool changed;

	pthread_mutex_lock(&store->lock);
	changed = strcmp(store->error, error) != 0;
	snprintf(store->error, sizeof(store->error), "%s", error);
	pthread_mutex_unlock(&store->lock);
	if (changed && *error)
		log_warning("usage", "%s: %s; what flows used is not written", store->file, error);
	else if (changed)
		log_info("usage", "%s: is written again", store->file);
}

static int write_batch(struct usage_store *store, char error[USAGE_ERROR_MAX])
{
	const int64_t month = usage_month(clock_wall_us());
	int r = 0;

	if (!store->db)
		r = usage_db_open(store->file, true, &store->db, error);
	if (r == 0 && store->purged != month)
		r = usage_db_purge(store->db, month, error);
	if (r == 0) {
		store->purged = month;
		r = usage_db_write(store->db, &store->batch, error);
	}
	/* Another file may be in its place the next time. */
	if (r < 0) {
		usage_db_close(store->db);
		store->db = NULL;
	}
	return r;
}

/* With the lock held: until there is something to do, or it is time to try again, or the end. */
static void wait_for_work(struct usage_store *store)
{
	struct timespec until;

	if (*store->error && store->busy && !store->stop) {
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec += USAGE_RETRY_S;
		while (!store->stop &&
		       pthread_cond_timedwait(&store->wake, &store->lock, &until) == 0)
			;
	}
	while (!store->busy && !store->stop)
		pthread_cond_wait(&store->wake, &store->lock);
}

static void *run(void *user)
{
	struct usage_store *store = user;
	char error[USAGE_ERROR_MAX];
	bool stop = false;

	while (!stop) {
		bool busy;
		int r;

		pthread_mutex_lock(&store->lock);
		wait_for_work(store);
		busy = store->busy;
		stop = store->stop;
		pthread_mutex_unlock(&store->lock);
		if (!busy)
			continue;
		r = write_batch(store, error);
		set_error(store, r < 0 ? error : "");
		if (r < 0)
			continue;
		usage_batch_done(&store->batch);
		pthread_mutex_lock(&store->lock);
		store->busy = false;
		pthread_mutex_unlock(&store->lock);
	}
	return NULL;
}

static void release(struct usage_store *store)
{
	pthread_cond_destroy(&store->wake);
	pthread_mutex_destroy(&store->lock);
	usage_batch_done(&store->batch);
	usage_db_close(store->db);
	free(store->file);
	free(store);
}

int usage_store_start(const char *file, struct usage_store **ret_store)
{
	struct usage_store *store = calloc(1, sizeof(*store));
	int r = -ENOMEM;

	if (!store)
		return r;
	pthread_mutex_init(&store->lock, NULL);
	thread_init_wake(&store->wake);
	store->file = strdup(file);
	if (store->file)
		r = thread_start(&store->thread, run, store);
	if (r < 0) {
		release(store);
		return r;
	}
	*ret_store = store;
	return 0;
}

bool usage_store_take(struct usage_store *store, struct usage_batch *batch)
{
	bool taken = false;

	pthread_mutex_lock(&store->lock);
	if (!store->busy && !store->stop) {
		store->batch = *batch;
		*batch = (struct usage_batch){ .deltas = NULL };
		store->busy = taken = true;
		pthread_cond_signal(&store->wake);
	}
	pthread_mutex_unlock(&store->lock);
	return taken;
}

void usage_store_stop(struct usage_store *store, struct usage_batch *last)
{
	char error[USAGE_ERROR_MAX];

	if (!store)
		return;
	pthread_mutex_lock(&store->lock);
	store->stop = true;
	pthread_cond_signal(&store->wake);
	pthread_mutex_unlock(&store->lock);
	pthread_join(store->thread, NULL);
	if (!store->busy) {
		store->batch = *last;
		*last = (struct usage_batch){ .deltas = NULL };
		if (!usage_batch_empty(&store->batch) && write_batch(store, error) < 0)
			set_error(store, error);
	}
	usage_batch_done(last);
	release(store);
}

void usage_store_error(struct usage_store *store, char error[USAGE_ERROR_MAX])
{
	pthread_mutex_lock(&store->lock);
	memcpy(error, store->error, USAGE_ERROR_MAX);
	pthread_mutex_unlock(&store->lock);
}

/* Reading */

struct usage_reader {
	struct usage_db *db; /* NULL: there is no file */
	char error[USAGE_ERROR_MAX];
};

int usage_reader_open(const char *file, struct usage_reader **ret_reader,
		      char error[USAGE_ERROR_MAX])
{
	struct usage_reader *reader = calloc(1, sizeof(*reader));
	int r = 0;

	if (!reader) {
		strcpy(error, "no memory");
		return -ENOMEM;
	}
	if (access(file, F_OK) == 0 || errno != ENOENT)
		r = usage_db_open(file, false, &reader->db, error);
	if (r == -ENOENT)
		r = 0;
	if (r < 0)
		free(reader);
	else
		*ret_reader = reader;
	return r;
}

void usage_reader_close(struct usage_reader *reader)
{
	if (reader)
		usage_db_close(reader->db);
	free(reader);
}

int usage_read(struct usage_reader *reader, uint64_t exception_id, int64_t month,
	       struct usage_record *ret)
{
	int r = 0;

	*ret = (struct usage_record){ .ever = false };
	tally_init(&ret->destinations, USAGE_DESTINATIONS_MAX);
	if (reader->db)
		r = usage_db_read(reader->db, exception_id, month, ret);
	tally_sort(&ret->destinations);
	return r;
}

int usage_read_losses(struct usage_reader *reader, int64_t month, struct usage_losses *ret)
{
	*ret = (struct usage_losses){ 0 };
	return reader->db ? usage_db_read_losses(reader->db, month, ret) : 0;
}
