/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Exceptions as steerd has them: a model without child SAs, a real store in a directory of the test's own,
 * and a clock that stands still until the test moves it (fake_clock.h, which a program with book.c needs,
 * too). One at a time. What fails in here fails the test.
 */
#ifndef TENANT_STEER_TEST_BOOK_H
#define TENANT_STEER_TEST_BOOK_H

#include "exceptions/exceptions.h"
#include "fake_clock.h"

/* What the clocks say at the start of each test. */
#define START (INT64_C(1700000000) * 1000000)
#define BOOT_START (1000 * MINUTE)

struct book {
	struct settings
		settings; /* profiles skype and short, which may last an hour; a test may add */
	struct model model;
	struct exceptions *exceptions;
	unsigned expired;                 /* of themselves, since the start of the test */
	char dir[32];                     /* where the store is, and what the test puts there */
	char error[EXCEPTIONS_ERROR_MAX]; /* why the last request was refused */
};

extern struct book book;

/* Before and after each test, for cmocka. */
int book_setup(void **state);
int book_teardown(void **state);

/* steerd is started anew: what the store has is read into an empty model. */
void book_start_again(void);
/* The two halves of it, for what is done to the store in between. */
void book_stop(void);
void book_start(void);
/* It is told to read its store again. */
void book_load_again(void);

/* Do it to the store as somebody with sqlite3(1) would. */
void book_run_sql(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* An exception of a whole tenant to ask for, by an operator "op" of uid 1000, that ends so many minutes
 * from now. */
struct exception book_wish(const char *tenant, const char *profile, int64_t minutes);
/* Grants it; its id. */
uint64_t book_grant(const char *tenant, const char *profile, int64_t minutes);

/* By another operator, "second" of uid 1001. As exceptions_change() and exceptions_revoke(). */
int book_change(uint64_t id, const struct exceptions_change *change, struct exception *ret);
/* ids: the sum of the ids of those that are revoked. */
int book_take_back(const struct exceptions_revocation *revocation, unsigned *ids);

/* Until when the kernel lets the tenant's packets pass by skype, by CLOCK_BOOTTIME; 0: not at all. */
int64_t book_kernel_until(const char *tenant);
/* The same by the time of day. EXEMPT_FOREVER stays that. */
int64_t book_until(const char *tenant);

/* What is over by the clocks ends. */
void book_expire(void);
/* The clocks stand so many minutes after the start; what is over ends. */
void book_tick(int64_t wall_minutes, int64_t boot_minutes);

/* The last refusal says so. */
void book_expect_error(const char *text);

#endif
