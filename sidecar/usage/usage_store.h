/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What bypassed flows used, on disk: an SQLite file of its own beside the exceptions'. A lock, a full
 * disk or damage there is never in the way of an exception: a revocation waits for no statistics, and
 * a file of statistics that cannot be read enforces nobody. WAL, synchronous=NORMAL: a kill loses what was
 * not written yet, a power failure the last writes too, and the file stays whole.
 *
 * A thread of its own opens and writes; it has the only connection that writes. A report is read by
 * another connection, in the caller's thread. Rows are added to and never changed otherwise; those of
 * months that are older than USAGE_MONTHS_KEPT are removed, when the thread starts and when the month
 * changes.
 */
#ifndef TENANT_STEER_USAGE_STORE_H
#define TENANT_STEER_USAGE_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "tally.h"

/* Behind the name of the exceptions' file. */
#define USAGE_STORE_SUFFIX ".usage"
#define USAGE_MONTHS_KEPT 24
/* Of an exception and a month. */
#define USAGE_DESTINATIONS_MAX 64
/* A write that failed is tried again after so long. */
#define USAGE_RETRY_S 10
#define USAGE_ERROR_MAX 512

/* In place of an exception: flows on a path that could not be attributed. */
#define USAGE_UNATTRIBUTED 0

/* What is not in the figures, which are a lower bound then. */
struct usage_losses {
	uint64_t lost;      /* times that the kernel's notifications did not fit into the buffer */
	uint64_t untracked; /* flows that were too many to remember until their end */
	uint64_t dropped;   /* begins and ends for which there was no room until the next write */
};

struct usage_delta_key {
	uint64_t exception_id;
	int64_t month; /* year * 100 + month, UTC */
};

/* What came to an exception in a month since the last write. */
struct usage_delta {
	struct usage_delta_key key;
	struct tally_sums sums;
	struct tally tally;
	UT_hash_handle hh;
};

/* What is written at once. */
struct usage_batch {
	struct usage_delta *deltas; /* a hash; owned */
	struct usage_losses losses;
	int64_t month; /* of the losses */
};

void usage_batch_done(struct usage_batch *batch);
bool usage_batch_empty(const struct usage_batch *batch);

/* Of a time since 1970. */
int64_t usage_month(int64_t time_us);
/* "2026-01"; -EINVAL: is none. */
int usage_month_parse(const char *text, int64_t *ret_month);
void usage_month_text(int64_t month, char text[16]);
/* Its begin and the next one's. */
void usage_month_span(int64_t month, int64_t *ret_from_us, int64_t *ret_to_us);

struct usage_store;

/* Start the thread. 0 or an errno. */
int usage_store_start(const char *file, struct usage_store **ret_store);
/* Write what was handed over, and last (which is emptied), then stop; takes NULL. */
void usage_store_stop(struct usage_store *store, struct usage_batch *last);

/* Hand over; the batch is empty then. False: the thread is still busy with the one before, or cannot
 * write; the caller goes on collecting. Never blocks. */
bool usage_store_take(struct usage_store *store, struct usage_batch *batch);

/* Why nothing can be written; "": all is well. */
void usage_store_error(struct usage_store *store, char error[USAGE_ERROR_MAX]);

/* One connection for reading. A file that is not there has no usage: 0 and a reader that finds none. */
struct usage_reader;
int usage_reader_open(const char *file, struct usage_reader **ret_reader,
		      char error[USAGE_ERROR_MAX]);
void usage_reader_close(struct usage_reader *reader); /* takes NULL */

struct usage_record {
	struct tally_sums sums;
	struct tally destinations; /* tally_done() by the caller, sorted */
	bool ever;                 /* is there anything of this exception, in any month kept */
};

/* Read what an exception used in a month; all 0 if there is nothing. 0 or an errno. */
int usage_read(struct usage_reader *reader, uint64_t exception_id, int64_t month,
	       struct usage_record *ret);
int usage_read_losses(struct usage_reader *reader, int64_t month, struct usage_losses *ret);

#endif
