/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A store in a directory of the test program's own, and exceptions to keep in it. One at a time. What
 * fails in here fails the test.
 */
#ifndef TENANT_STEER_TEST_STORE_FILE_H
#define TENANT_STEER_TEST_STORE_FILE_H

#include "exceptions/store.h"
#include "record/record.h"

struct store_file {
	char dir[32];
	char name[64]; /* of the database, in dir */
};

extern struct store_file store_file;

/* Before and after the group, and after each test: without the files a store starts anew. For cmocka. */
int store_file_make_dir(void **state);
int store_file_remove_dir(void **state);
int store_file_clean(void **state);
/* The database, and what SQLite puts beside it. */
void store_file_remove(void);

struct store *store_file_open(void);
/* store_open() returns this, and says so. */
void store_file_refused(int expected, const char *sentence);

/* Do it to the database as somebody with sqlite3(1) would. */
void store_file_run_sql(const char *sql);

/* An exception to grant, of a whole tenant, with all that it must have. */
struct exception store_file_example(const char *tenant, const char *profile);
/* Grant another one like it; returns its id. */
uint64_t store_file_grant(struct store *store, const struct exception *like);
/* An operator who has granted nothing of it. */
extern const struct actor store_file_somebody;

#define STORED_MAX 16

struct stored {
	unsigned count; /* of all, even if there are more than are kept */
	struct exception items[STORED_MAX];
};

/* For store_each_active() and its like; user is a struct stored. */
void store_file_collect(const struct exception *exception, void *user);

#endif
