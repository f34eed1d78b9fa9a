/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside usage_store: one connection to the file, its schema and its statements. Of one thread at a time.
 * Whatever fails says why in error and returns an errno; a write is one transaction, wholly done or not.
 */
#ifndef TENANT_STEER_USAGE_SQL_H
#define TENANT_STEER_USAGE_SQL_H

#include "usage_store.h"

struct usage_db;

/* For writing: make the file, bring its schema up to date. For reading neither: -ENOENT, if
 * there is no schema in it. */
int usage_db_open(const char *file, bool write, struct usage_db **ret_db,
		  char error[USAGE_ERROR_MAX]);
void usage_db_close(struct usage_db *db); /* takes NULL */

/* Remove what is older than USAGE_MONTHS_KEPT months in this one. */
int usage_db_purge(struct usage_db *db, int64_t month, char error[USAGE_ERROR_MAX]);
int usage_db_write(struct usage_db *db, const struct usage_batch *batch,
		   char error[USAGE_ERROR_MAX]);

int usage_db_read(struct usage_db *db, uint64_t exception_id, int64_t month,
		  struct usage_record *ret);
int usage_db_read_losses(struct usage_db *db, int64_t month, struct usage_losses *ret);

#endif
