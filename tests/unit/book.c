/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "book.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "ignoring.h"

struct book book;

static const struct actor second = { 1001, "second" };

void book_start(void)
{
	static const struct model_callbacks callbacks = { .changed = ignore_changed,
							  .leaving = ignore_leaving };

	model_init(&book.model, 100, &callbacks, NULL);
	book.exceptions = exceptions_new(&book.model);
	book_load_again();
}

void book_stop(void)
{
	exceptions_free(book.exceptions);
	model_done(&book.model);
}

void book_start_again(void)
{
	book_stop();
	book_start();
}

void book_load_again(void)
{
	assert_int_equal(exceptions_load(book.exceptions, &book.settings), 0);
}

int book_setup(void **state)
{
	struct settings *settings = &book.settings;

	(void)state;
	memset(&book, 0, sizeof(book));
	strcpy(book.dir, "/tmp/test_book.XXXXXX");
	if (!mkdtemp(book.dir))
		return -1;
	settings->path_count = 1;
	settings->profile_count = 2;
	strcpy(settings->profiles[0].name, "skype");
	strcpy(settings->profiles[1].name, "short");
	settings->profiles[1].max_lifetime_s = 3600;
	snprintf(settings->sqlite, sizeof(settings->sqlite), "%s/exceptions.db", book.dir);
	fake_clock_set(START, BOOT_START);
	book_start();
	return 0;
}

int book_teardown(void **state)
{
	char command[64];

	(void)state;
	book_stop();
	snprintf(command, sizeof(command), "rm -r %s", book.dir);
	return system(command); /* NOLINT: a name of our own */
}

void book_run_sql(const char *format, ...)
{
	sqlite3 *db = NULL;
	char sql[512];
	va_list args;

	va_start(args, format);
	assert_true(vsnprintf(sql, sizeof(sql), format, args) < (int)sizeof(sql));
	va_end(args);
	assert_int_equal(sqlite3_open(book.settings.sqlite, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

struct exception book_wish(const char *tenant, const char *profile, int64_t minutes)
{
	struct exception exception = { .change_request = "CR-1",
				       .accepted_by = "ciso",
				       .reason = "calls",
				       .granted_by = { 1000, "op" },
				       .expires_at_us = clock_wall_us() + minutes * MINUTE };

	strcpy(exception.tenant, tenant);
	strcpy(exception.profile, profile);
	return exception;
}

uint64_t book_grant(const char *tenant, const char *profile, int64_t minutes)
{
	struct exception exception = book_wish(tenant, profile, minutes);

	if (exceptions_grant(book.exceptions, &exception, book.error) < 0)
		fail_msg("%s", book.error);
	return exception.id;
}

int book_change(uint64_t id, const struct exceptions_change *change, struct exception *ret)
{
	return exceptions_change(book.exceptions, id, change, &second, ret, book.error);
}

static void add_id(void *user, const struct revoked *revoked)
{
	*(unsigned *)user += (unsigned)revoked->id;
}

int book_take_back(const struct exceptions_revocation *revocation, unsigned *ids)
{
	*ids = 0;
	return exceptions_revoke(book.exceptions, revocation, &second, add_id, ids, book.error);
}

int64_t book_kernel_until(const char *tenant)
{
	const struct tenant *found = model_find_tenant(&book.model, tenant);

	return found ? model_exempt_until(found, 0) : 0;
}

int64_t book_until(const char *tenant)
{
	const int64_t end = book_kernel_until(tenant);

	return end && end != EXEMPT_FOREVER ? end + (clock_wall_us() - clock_boottime_us()) : end;
}

static void count_expired(void *user, const char *tenant, const char *profile, uint64_t id)
{
	(void)user;
	(void)tenant;
	(void)profile;
	(void)id;
	book.expired++;
}

void book_expire(void)
{
	exceptions_expire(book.exceptions, count_expired, NULL);
}

void book_tick(int64_t wall_minutes, int64_t boot_minutes)
{
	fake_clock_set(START + wall_minutes * MINUTE, BOOT_START + boot_minutes * MINUTE);
	book_expire();
}

void book_expect_error(const char *text)
{
	if (!strstr(book.error, text))
		fail_msg("got: %s\nexpected: %s", book.error, text);
}
