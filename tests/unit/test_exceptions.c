/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is in force: grants, changes, ends, two operators at once, and clocks that are set. The clocks
 * are the test's; the store is a real one.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "active.h"
#include "clock.h"
#include "exceptions.h"
#include "risk.h"

#define MINUTE INT64_C(60000000)
#define START (INT64_C(1700000000) * 1000000)
#define BOOT_START (1000 * MINUTE)

static struct clock_reading now;
static struct settings settings;
static struct model model;
static struct exceptions *exceptions;
static char dir[32], error[EXCEPTIONS_ERROR_MAX];
static unsigned expired;
static const struct actor first = { 1000, "op" }, second = { 1001, "second" };

/* In place of those in clock.c. */
int64_t clock_wall_us(void)
{
	return now.wall_us;
}

int64_t clock_boottime_us(void)
{
	return now.boottime_us;
}

int64_t clock_monotonic_us(void)
{
	return now.boottime_us;
}

struct clock_reading clock_read(void)
{
	return now;
}

static void on_changed(void *user, uint32_t spi)
{
	(void)user;
	(void)spi;
}

static void on_leaving(void *user, const struct child_sa *child)
{
	(void)user;
	(void)child;
}

static void start(void)
{
	static const struct model_callbacks callbacks = { .changed = on_changed,
							  .leaving = on_leaving };

	model_init(&model, 100, &callbacks, NULL);
	exceptions = exceptions_new(&model);
	assert_int_equal(exceptions_load(exceptions, &settings), 0);
}

static void stop(void)
{
	exceptions_free(exceptions);
	model_done(&model);
}

static int setup(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/test_exceptions.XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	settings = (struct settings){ .profile_count = 2, .path_count = 1 };
	strcpy(settings.profiles[0].name, "skype");
	strcpy(settings.profiles[1].name, "short");
	settings.profiles[1].max_lifetime_s = 3600;
	snprintf(settings.sqlite, sizeof(settings.sqlite), "%s/exceptions.db", dir);
	expired = 0;
	now = (struct clock_reading){ "boot-1", START, BOOT_START };
	start();
	return 0;
}

static int teardown(void **state)
{
	char command[64];

	(void)state;
	stop();
	snprintf(command, sizeof(command), "rm -r %s", dir);
	return system(command);
}

static struct exception wish(const char *tenant, const char *profile, int64_t minutes)
{
	struct exception exception = { .change_request = "CR-1",
				       .accepted_by = "ciso",
				       .reason = "calls",
				       .granted_by = first,
				       .expires_at_us = now.wall_us + minutes * MINUTE };

	strcpy(exception.tenant, tenant);
	strcpy(exception.profile, profile);
	return exception;
}

static uint64_t grant(const char *tenant, const char *profile, int64_t minutes)
{
	struct exception exception = wish(tenant, profile, minutes);

	if (exceptions_grant(exceptions, &exception, error) < 0)
		fail_msg("%s", error);
	return exception.id;
}

static uint64_t grant_part(const char *tenant, const char *scope, const char *destinations)
{
	struct exception exception = wish(tenant, "skype", 30);

	strcpy(exception.scope, scope);
	strcpy(exception.destinations, destinations);
	return exceptions_grant(exceptions, &exception, error) == 0 ? exception.id : 0;
}

static void count_expired(void *user, const char *tenant, const char *profile, uint64_t id)
{
	(void)user;
	(void)tenant;
	(void)profile;
	(void)id;
	expired++;
}

/* As the kernel is told. */
static int64_t kernel_until(const char *tenant)
{
	const struct tenant *t = model_find_tenant(&model, tenant);

	return t ? model_exempt_until(t, 0) : 0;
}

/* By the time of day; 0: not at all. */
static int64_t until(const char *tenant)
{
	const int64_t end = kernel_until(tenant);

	return end && end != EXEMPT_FOREVER ? end + (now.wall_us - now.boottime_us) : end;
}

static void tick(int64_t wall_minutes, int64_t boot_minutes)
{
	now.wall_us = START + wall_minutes * MINUTE;
	now.boottime_us = BOOT_START + boot_minutes * MINUTE;
	exceptions_expire(exceptions, count_expired, NULL);
}

static void expect_error(const char *text)
{
	if (!strstr(error, text))
		fail_msg("got: %s\nexpected: %s", error, text);
}

/* Grants and changes */

static void test_grant(void **state)
{
	struct exception e = wish("acme", "skype", 30);
	char hash[DIGEST_HEX_LEN + 1];
	struct exception twin;

	(void)state;
	risk_sha256(hash);
	assert_int_equal(exceptions_grant(exceptions, &e, error), 0);
	assert_int_equal(e.version, 1);
	assert_string_equal(e.scope, "tenant");
	assert_int_equal(e.risk_version, RISK_VERSION);
	assert_string_equal(e.risk_sha256, hash);
	assert_int_equal(e.granted.wall_us, START);
	assert_int_equal(until("acme"), e.expires_at_us);
	twin = wish("acme", "skype", 10);
	assert_int_equal(exceptions_grant(exceptions, &twin, error), -EEXIST);
	expect_error("already: 1; ");
	assert_int_equal(until("acme"), e.expires_at_us);
	twin = wish("acme", "nonsense", 10);
	assert_int_equal(exceptions_grant(exceptions, &twin, error), -EINVAL);
	expect_error("no profile \"nonsense\"");
	twin = wish("acme", "short", 61);
	assert_int_equal(exceptions_grant(exceptions, &twin, error), -EINVAL);
	expect_error("at most 3600 seconds (max_lifetime)");
	twin = wish("acme", "short", 0);
	assert_int_equal(exceptions_grant(exceptions, &twin, error), -EINVAL);
	expect_error("an end to come");
	twin = wish("acme", "short", 5);
	strcpy(twin.scope, "198.18.1.5/32");
	assert_int_equal(exceptions_grant(exceptions, &twin, error), -EINVAL);
	expect_error("scope: \"198.18.1.5/32\" is no scope; expected tenant, host");
	twin = wish("acme", "short", 5);
	strcpy(twin.destinations, "203.0.113.1/24");
	assert_int_equal(exceptions_grant(exceptions, &twin, error), -EINVAL);
	expect_error("destinations: ");
	assert_int_equal(exceptions_count(exceptions), 1);
}

static int change(uint64_t id, const struct exceptions_change *change, struct exception *ret)
{
	return exceptions_change(exceptions, id, change, &second, ret, error);
}

static void test_change(void **state)
{
	const uint64_t id = grant("acme", "skype", 30);
	struct exceptions_change later = { .expires_at_us = START + 40 * MINUTE },
				 sooner = { .expires_at_us = START + 20 * MINUTE },
				 words = { .reason = "more calls", .change_request = "CR-2" };
	struct exception e;

	(void)state;
	assert_int_equal(change(99, &words, &e), -ENOENT);
	expect_error("exception 99 is not active");
	assert_int_equal(change(id, &words, &e), 0);
	assert_int_equal(e.version, 2);
	assert_string_equal(e.reason, "more calls");
	assert_string_equal(e.change_request, "CR-2");
	assert_string_equal(e.accepted_by, "ciso");
	assert_string_equal(e.granted_by.name, "op");
	assert_int_equal(until("acme"), START + 30 * MINUTE);
	/* a later end needs both: the risk accepted again, and by whom */
	assert_int_equal(change(id, &later, &e), -EINVAL);
	expect_error("not inspected");
	later.risk_accepted = true;
	assert_int_equal(change(id, &later, &e), -EINVAL);
	later.accepted_by = "cso";
	assert_int_equal(change(id, &later, &e), 0);
	assert_int_equal(e.version, 3);
	assert_string_equal(e.accepted_by, "cso");
	assert_int_equal(until("acme"), START + 40 * MINUTE);
	/* an earlier one does not */
	assert_int_equal(change(id, &sooner, &e), 1);
	assert_int_equal(until("acme"), START + 20 * MINUTE);
	/* it was kept */
	stop();
	start();
	assert_int_equal(until("acme"), START + 20 * MINUTE);
	tick(20, 20);
	assert_int_equal(expired, 1);
	assert_int_equal(change(id, &words, &e), -ENOENT);
	expect_error("is not active");
}

/* From the first grant on, by whichever clock says more. */
static void test_longest_lifetime(void **state)
{
	const uint64_t id = grant("acme", "short", 30);
	struct exceptions_change later = { .risk_accepted = true, .accepted_by = "cso" };
	struct exception e;

	(void)state;
	tick(20, 20);
	later.expires_at_us = now.wall_us + 41 * MINUTE;
	assert_int_equal(change(id, &later, &e), -EINVAL);
	expect_error("at most 3600 seconds (max_lifetime) from the first grant on");
	tick(-100, 21);
	later.expires_at_us = now.wall_us + 40 * MINUTE;
	assert_int_equal(change(id, &later, &e), -EINVAL);
	stop();
	start();
	assert_int_equal(change(id, &later, &e), -EINVAL);
	later.expires_at_us = now.wall_us + 39 * MINUTE;
	assert_int_equal(change(id, &later, &e), 0);
	tick(-100 + 39, 21 + 39);
	assert_int_equal(expired, 1);
}

/* Ends */

static void count_revoked(void *user, const struct revoked *revoked)
{
	*(unsigned *)user += (unsigned)revoked->id;
}

static int take_back(const struct exceptions_revocation *revocation, unsigned *ids)
{
	*ids = 0;
	return exceptions_revoke(exceptions, revocation, &second, count_revoked, ids, error);
}

static void collect(const struct exception *exception, void *user)
{
	struct exception *last = user;

	if (exception->ended_at_us && !last->id)
		*last = *exception;
}

static void test_revoke(void **state)
{
	struct exceptions_revocation revocation = { .tenant = "acme", .reason = "over" };
	struct exception last = { 0 };
	unsigned ids;

	(void)state;
	assert_int_equal(take_back(&revocation, &ids), -ENOENT);
	grant("acme", "skype", 30);
	grant("acme", "short", 30);
	grant("globex", "skype", 30);
	revocation.profile = "nonsense";
	assert_int_equal(take_back(&revocation, &ids), -ENOENT);
	revocation.profile = NULL;
	revocation.id = 3; /* somebody else's */
	assert_int_equal(take_back(&revocation, &ids), -ENOENT);
	expect_error("exception 3 is another tenant's");
	revocation.id = 99;
	assert_int_equal(take_back(&revocation, &ids), -ENOENT);
	expect_error("exception 99 is not active");
	revocation.id = 0;
	revocation.if_version = 1;
	assert_int_equal(take_back(&revocation, &ids), -EINVAL);
	expect_error("if_version: the tenant has 2 such exceptions");
	revocation.id = 2;
	revocation.if_version = 2;
	assert_int_equal(take_back(&revocation, &ids), -ESTALE);
	assert_int_equal(exceptions_count(exceptions), 3);
	revocation.if_version = 1;
	assert_int_equal(take_back(&revocation, &ids), 1);
	assert_int_equal(ids, 2);
	revocation = (struct exceptions_revocation){ .tenant = "acme", .reason = "over" };
	assert_int_equal(take_back(&revocation, &ids), 1);
	assert_int_equal(ids, 1);
	assert_int_equal(until("acme"), 0);
	assert_int_not_equal(until("globex"), 0);
	assert_int_equal(exceptions_settle(exceptions), 0);
	stop();
	start();
	assert_int_equal(exceptions_count(exceptions), 1);
	assert_int_equal(exceptions_each(exceptions, true, collect, &last), 0);
	assert_int_equal(last.version, 2);
	assert_string_equal(last.end_reason, "over");
	assert_string_equal(last.ended_by.name, "second");
	assert_int_equal(last.ended_by.uid, 1001);
}

/* Two operators at once: the second is told, and nothing of the first's is lost. */
static void test_compare_and_set(void **state)
{
	const uint64_t id = grant("acme", "skype", 30);
	struct exceptions_change mine = { .reason = "mine", .if_version = 1 },
				 theirs = { .reason = "theirs", .if_version = 1 };
	struct exceptions_revocation revocation = { .tenant = "acme", .reason = "over" };
	struct exception e;
	unsigned ids;

	(void)state;
	assert_int_equal(change(id, &mine, &e), 0);
	assert_int_equal(change(id, &theirs, &e), -ESTALE);
	expect_error("exception 1 has version 2 by now, not 1: change by second at "
		     "2023-11-14T22:13:20Z: reason \"calls\" -> \"mine\"");
	theirs.if_version = 2;
	assert_int_equal(change(id, &theirs, &e), 0);
	assert_string_equal(e.reason, "theirs");
	/* two changes: who made the last one, and all that differs */
	mine.change_request = "CR-2";
	mine.if_version = 1;
	assert_int_equal(change(id, &mine, &e), -ESTALE);
	expect_error("version 3 by now, not 1: change by second");
	expect_error("reason \"calls\" -> \"theirs\"");
	/* or it was ended */
	revocation.if_version = 3;
	assert_int_equal(take_back(&revocation, &ids), 1);
	assert_int_equal(exceptions_settle(exceptions), 0);
	mine.if_version = 3;
	assert_int_equal(change(id, &mine, &e), -ENOENT);
	expect_error("exception 1 is not active; steerctl exceptions lists those that are; "
		     "revoke by second at ");
	expect_error("end_reason null -> \"over\"");
}

/* As many as end at once go to disk in a few transactions, a revocation in the first. */
static void test_many_ends(void **state)
{
	struct exceptions_revocation revocation = { .tenant = "acme", .reason = "over" };
	struct exception last = { 0 };
	char tenant[32];
	unsigned ids;

	(void)state;
	for (unsigned i = 0; i < 2 * EXCEPTIONS_SETTLE_MAX; i++) {
		snprintf(tenant, sizeof(tenant), "tenant-%u", i);
		grant(tenant, "skype", 30);
	}
	grant("acme", "skype", 40);
	tick(30, 30);
	assert_int_equal(expired, 2 * EXCEPTIONS_SETTLE_MAX);
	assert_int_equal(take_back(&revocation, &ids), 1);
	assert_int_equal(exceptions_settle(exceptions), 1);
	assert_int_equal(exceptions_each(exceptions, true, collect, &last), 0);
	assert_string_equal(last.tenant, "acme");
	assert_int_equal(exceptions_settle(exceptions), 1);
	assert_int_equal(exceptions_settle(exceptions), 0);
	stop();
	start();
	assert_int_equal(exceptions_settle(exceptions), 0);
	assert_int_equal(exceptions_count(exceptions), 0);
}

/* Clocks */

/* The next one can be granted at once, although the disk has not heard of the end yet. */
static void test_grant_after_the_end(void **state)
{
	(void)state;
	grant("acme", "skype", 30);
	tick(30, 30);
	assert_int_equal(expired, 1);
	grant("acme", "skype", 30);
	assert_int_equal(until("acme"), now.wall_us + 30 * MINUTE);
}

static void test_set_back(void **state)
{
	(void)state;
	grant("acme", "skype", 30);
	tick(0, 0);
	/* half a second is adjusting, not setting */
	now.wall_us = START + MINUTE - 500000;
	now.boottime_us = BOOT_START + MINUTE;
	exceptions_expire(exceptions, count_expired, NULL);
	assert_int_equal(exceptions_clock_step(exceptions), 0);
	assert_int_equal(kernel_until("acme"), BOOT_START + 30 * MINUTE);
	/* an hour back, two minutes later: 28 minutes are left, whatever the clock says */
	tick(2 - 60, 2);
	assert_int_equal(exceptions_clock_step(exceptions), -60 * MINUTE);
	assert_int_equal(until("acme"), START + (30 - 60) * MINUTE);
	tick(29 - 60, 29);
	assert_int_equal(expired, 0);
	tick(30 - 60, 30);
	assert_int_equal(expired, 1);
	assert_int_equal(until("acme"), 0);
}

/* Set right again, it ends when it should have. */
static void test_set_back_and_right_again(void **state)
{
	(void)state;
	grant("acme", "skype", 30);
	tick(2 - 60, 2);
	tick(3, 3);
	assert_int_equal(until("acme"), START + 30 * MINUTE);
}

static void load_again(void)
{
	assert_int_equal(exceptions_load(exceptions, &settings), 0);
}

static void start_again(void)
{
	stop();
	start();
}

/* Nor does reading the store again bring the later end back, whenever the clock was set. */
static void test_set_back_and_read_again(void **state)
{
	void (*const read_again[])(void) = { load_again, start_again };

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		const char *const tenant = i % 2 ? "acme" : "globex";

		now = (struct clock_reading){ "boot-1", START, BOOT_START };
		load_again();
		grant(tenant, "skype", 90);
		if (i < 2) {
			tick(1 - 60, 1);
		} else {
			now.wall_us = START + (1 - 60) * MINUTE;
			now.boottime_us += MINUTE;
		}
		read_again[i % 2]();
		assert_int_equal(until(tenant), START + (90 - 60) * MINUTE);
		tick(89 - 60, 89);
		assert_int_not_equal(until(tenant), 0);
		tick(90 - 60, 90);
		assert_int_equal(until(tenant), 0);
		assert_int_equal(exceptions_settle(exceptions), 0);
	}
}

/* What the disk does not know yet is over all the same. */
static void test_ended_and_read_again(void **state)
{
	struct exceptions_revocation revocation = { .tenant = "acme", .reason = "over" };
	unsigned ids;

	(void)state;
	grant("acme", "skype", 90);
	grant("globex", "skype", 10);
	assert_int_equal(take_back(&revocation, &ids), 1);
	tick(10, 10);
	load_again();
	assert_int_equal(until("acme"), 0);
	assert_int_equal(until("globex"), 0);
	assert_int_equal(exceptions_settle(exceptions), 0);
	start_again();
	assert_int_equal(exceptions_count(exceptions), 0);
}

/* Nor a change of something else, nor of the end itself. */
static void test_set_back_and_changed(void **state)
{
	const uint64_t id = grant("acme", "skype", 90);
	struct exceptions_change words = { .reason = "more calls" };
	struct exceptions_change sooner = { .expires_at_us = START - 40 * MINUTE };
	struct exception e;

	(void)state;
	tick(1 - 60, 1);
	assert_int_equal(change(id, &words, &e), 0);
	assert_int_equal(until("acme"), START + 30 * MINUTE);
	start_again();
	assert_int_equal(until("acme"), START + 30 * MINUTE);
	assert_int_equal(change(id, &sooner, &e), 1);
	assert_int_equal(until("acme"), START - 40 * MINUTE);
	/* and back again by another hour */
	tick(2 - 120, 2);
	assert_int_equal(until("acme"), START - 100 * MINUTE);
	start_again();
	assert_int_equal(until("acme"), START - 100 * MINUTE);
	/* a later end than the one it has by now is a later one, whatever is on disk */
	sooner.expires_at_us = START - 90 * MINUTE;
	assert_int_equal(change(id, &sooner, &e), -EINVAL);
	expect_error("not inspected");
}

static void test_set_forward(void **state)
{
	(void)state;
	grant("acme", "skype", 30);
	tick(21, 1);
	assert_int_equal(exceptions_clock_step(exceptions), 20 * MINUTE);
	assert_int_equal(until("acme"), START + 30 * MINUTE);
	tick(30, 10);
	assert_int_equal(expired, 1);
}

/* From before version 2 of the store: nothing says when its end was set. */
static void test_set_back_with_an_old_one(void **state)
{
	sqlite3 *db = NULL;
	char sql[512];

	(void)state;
	stop();
	snprintf(sql, sizeof(sql),
		 "DROP TRIGGER exception_complete; INSERT INTO exception (tenant, profile,"
		 " change_request, accepted_by, granted_by, granted_at_us, expires_at_us)"
		 " VALUES ('acme', 'skype', 'CR-1', 'ciso', 'op', %lld, %lld),"
		 " ('forever', 'skype', 'CR-1', 'ciso', 'op', %lld, 0)",
		 (long long)START, (long long)(START + 90 * MINUTE), (long long)START);
	assert_int_equal(sqlite3_open(settings.sqlite, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
	start();
	tick(1 - 60, 1);
	assert_int_equal(until("acme"), START + 30 * MINUTE);
	assert_int_equal(until("forever"), EXEMPT_FOREVER);
	load_again();
	assert_int_equal(until("acme"), START + 30 * MINUTE);
	assert_int_equal(until("forever"), EXEMPT_FOREVER);
}

/* Damage that comes while it runs: nobody is exempt any more, and nothing is granted by what is whole. */
static void test_damage(void **state)
{
	sqlite3 *db = NULL;
	struct exception e;
	char tenant[32];
	struct stat st;
	unsigned changes;
	int fd;

	(void)state;
	for (unsigned i = 0; i < 200; i++) {
		snprintf(tenant, sizeof(tenant), "tenant-%u", i);
		grant(tenant, "skype", 30);
	}
	start_again();
	assert_int_equal(exceptions_count(exceptions), 200);
	changes = exceptions_store_changes(exceptions);
	/* somebody else's commit: what SQLite has cached counts no more */
	assert_int_equal(sqlite3_open(settings.sqlite, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "CREATE TABLE other (a); PRAGMA wal_checkpoint(TRUNCATE)",
				      NULL, NULL, NULL),
			 SQLITE_OK);
	sqlite3_close(db);
	fd = open(settings.sqlite, O_WRONLY | O_CLOEXEC);
	assert_true(fd >= 0 && fstat(fd, &st) == 0);
	for (off_t at = 4096; at < st.st_size; at++)
		assert_int_equal(pwrite(fd, "\xa5", 1, at), 1);
	close(fd);
	e = wish("late", "skype", 30);
	assert_int_equal(exceptions_grant(exceptions, &e, error), -EUCLEAN);
	expect_error("malformed");
	assert_int_equal(exceptions_count(exceptions), 0);
	assert_int_equal(until("tenant-7"), 0);
	assert_true(exceptions_store_unusable(exceptions));
	assert_int_equal(exceptions_store_changes(exceptions), changes + 1);
	/* it is not tried again by itself */
	exceptions_try_store(exceptions);
	assert_null(exceptions_store(exceptions));
	e = wish("later", "skype", 30);
	assert_int_equal(exceptions_grant(exceptions, &e, error), -EUCLEAN);
	expect_error("malformed");
	assert_int_equal(exceptions_store_changes(exceptions), changes + 1);
	/* put right, it is told */
	unlink(settings.sqlite);
	load_again();
	assert_null(exceptions_store_error(exceptions));
	assert_int_equal(exceptions_store_changes(exceptions), changes + 2);
	grant("later", "skype", 30);
}

static void keep_last(const struct exception *exception, void *user)
{
	*(struct exception *)user = *exception;
}

static int revoke_id(uint64_t id, const char *profile)
{
	const struct exceptions_revocation revocation = {
		.tenant = "acme", .profile = profile, .id = id, .reason = "over"
	};
	unsigned ids;

	return take_back(&revocation, &ids);
}

/* Each is one exception: written, read back, ended for itself. */
static void test_parts(void **state)
{
	const uint64_t host = grant_part("acme", "host 198.18.1.5", "");
	const uint64_t net = grant_part("acme", "prefix 198.18.1.5/32", "203.0.113.7,192.0.2.0/24");
	struct exception last = { .id = 0 };
	const struct tenant *tenant = model_find_tenant(&model, "acme");

	(void)state;
	assert_true(host && net);
	assert_int_equal(grant_part("acme", "prefix 198.18.1.5/32", ""), 0); /* the same host */
	expect_error("for this profile and scope already: 1;");
	assert_int_equal(grant_part("acme", "host 127.0.0.1", ""), 0);
	expect_error("scope: \"127.0.0.1\"");
	assert_int_equal(grant_part("acme", "", "10.0.0.0/8"), 0);
	expect_error("destinations: \"10.0.0.0/8\"");
	exceptions_each(exceptions, false, keep_last, &last);
	assert_string_equal(last.scope, "host 198.18.1.5");
	assert_string_equal(last.destinations, "192.0.2.0/24,203.0.113.7");
	assert_int_equal(tenant->exemption_count, 2);
	assert_int_equal(until("acme"), 0);
	assert_true(tenant->partial);
	load_again();
	assert_int_equal(tenant->exemption_count, 2);
	assert_int_equal(revoke_id(host, NULL), 1);
	assert_int_equal(tenant->exemption_count, 1);
	assert_int_equal(tenant->exemptions[0].scope->destination_count, 2);
	grant("acme", "skype", 30);
	assert_int_equal(until("acme"), START + 30 * MINUTE);
	assert_int_equal(revoke_id(0, "skype"), 2);
	assert_int_equal(tenant->exemption_count, 0);
	assert_false(tenant->partial);
}

/* What this release cannot read grants nothing, is nobody's twin, and can be revoked. */
static void test_unreadable_scope(void **state)
{
	sqlite3 *db = NULL;
	char sql[512];

	(void)state;
	stop();
	snprintf(sql, sizeof(sql),
		 "DROP TRIGGER exception_complete; INSERT INTO exception (tenant, profile, scope,"
		 " change_request, accepted_by, granted_by, granted_at_us, expires_at_us)"
		 " VALUES ('acme', 'skype', 'weekday monday', 'CR-1', 'ciso', 'op', %lld, %lld)",
		 (long long)START, (long long)(START + 90 * MINUTE));
	assert_int_equal(sqlite3_open(settings.sqlite, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
	start();
	assert_int_equal(exceptions_count(exceptions), 1);
	assert_int_equal(model_find_tenant(&model, "acme")->exemption_count, 0);
	grant("acme", "skype", 30);
	assert_int_equal(until("acme"), START + 30 * MINUTE);
	assert_int_equal(revoke_id(1, NULL), 1);
	assert_int_equal(until("acme"), START + 30 * MINUTE);
}

/* As many of one tenant as the model keeps. */
static void test_many_of_one_tenant(void **state)
{
	char scope[64];

	(void)state;
	for (unsigned i = 0; i < EXEMPTIONS_MAX; i++) {
		snprintf(scope, sizeof(scope), "host 198.18.%u.%u", i / 256, i % 256);
		assert_true(grant_part("acme", scope, ""));
	}
	assert_int_equal(grant_part("acme", "host 198.18.9.9", ""), 0);
	assert_true(grant_part("globex", "host 198.18.9.9", ""));
}

/* A try */

static int try(const char *tenant, const char *profile, const char *scope, int64_t minutes)
{
	struct exception exception = wish(tenant, profile, minutes);

	strcpy(exception.kind, RECORD_KIND_TRY);
	strcpy(exception.scope, scope);
	return exceptions_grant(exceptions, &exception, error);
}

static void count_try(void *user, uint64_t id, const struct tenant *tenant, int profile,
		      const struct scope *scope)
{
	(void)id;
	(void)tenant;
	(void)profile;
	assert_int_equal(scope->kind, SCOPE_HOST);
	(*(unsigned *)user)++;
}

static unsigned tries(void)
{
	unsigned count = 0;

	exceptions_each_try(exceptions, count_try, &count);
	return count;
}

static void test_try(void **state)
{
	struct exceptions_change later = { .expires_at_us = START + 61 * MINUTE,
					   .risk_accepted = true,
					   .accepted_by = "ciso" };
	struct exception last = { .id = 0 };

	(void)state;
	assert_int_equal(try("acme", "skype", "host 198.18.1.5", 61), -EINVAL);
	expect_error("a try lasts at most 60 minutes");
	assert_int_equal(try("acme", "skype", "", 10), -EINVAL);
	expect_error("scope: a try is of one host or one user");
	assert_int_equal(try("acme", "skype", "prefix 198.18.1.0/24", 10), -EINVAL);
	expect_error("scope: a try is of one host or one user");
	assert_int_equal(try("acme", "skype", "prefix 198.18.1.5/32", 60), 0);
	/* whatever the profile is; another tenant's is another host */
	assert_int_equal(try("acme", "short", "host 198.18.1.5", 10), -EEXIST);
	expect_error("exception 1 tries this host or user already, with profile \"skype\"");
	assert_int_equal(try("globex", "short", "host 198.18.1.5", 10), 0);
	exceptions_each(exceptions, false, keep_last, &last);
	assert_string_equal(last.kind, "try");
	assert_int_equal(tries(), 2);
	assert_int_equal(change(1, &later, &last), -EINVAL);
	expect_error("a try lasts at most 60 minutes");
	load_again();
	assert_int_equal(tries(), 2);
	/* what is granted is no try */
	assert_true(grant_part("acme", "host 198.18.1.6", ""));
	assert_int_equal(tries(), 2);
	tick(10, 10);
	assert_int_equal(tries(), 1);
	tick(60, 60);
	assert_int_equal(tries(), 0);
	assert_int_equal(try("acme", "short", "host 198.18.1.5", 10), 0);
}

static void test_many_tries(void **state)
{
	char scope[64];

	(void)state;
	for (unsigned i = 0; i < ACTIVES_TRIES_MAX; i++) {
		snprintf(scope, sizeof(scope), "host 198.18.0.%u", i);
		assert_int_equal(try("acme", "skype", scope, 10), 0);
	}
	assert_int_equal(try("acme", "skype", "host 198.18.1.1", 10), -ENOBUFS);
	expect_error("64 tries are under way");
	assert_int_equal(revoke_id(7, NULL), 1);
	assert_int_equal(try("acme", "skype", "host 198.18.1.1", 10), 0);
	assert_int_equal(tries(), ACTIVES_TRIES_MAX);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_grant),
		TEST(test_change),
		TEST(test_longest_lifetime),
		TEST(test_compare_and_set),
		TEST(test_revoke),
		TEST(test_many_ends),
		TEST(test_grant_after_the_end),
		TEST(test_set_back),
		TEST(test_set_back_and_right_again),
		TEST(test_set_back_and_read_again),
		TEST(test_ended_and_read_again),
		TEST(test_set_back_and_changed),
		TEST(test_set_forward),
		TEST(test_set_back_with_an_old_one),
		TEST(test_damage),
		TEST(test_parts),
		TEST(test_unreadable_scope),
		TEST(test_many_of_one_tenant),
		TEST(test_try),
		TEST(test_many_tries),
	};

	return cmocka_run_group_tests_name("exceptions", tests, NULL, NULL);
}
