/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Killed at every write that is done to the store's files, before it and halfway through it: whatever was
 * being done, be it a list of exceptions, is wholly there afterwards or wholly absent, with its entries in the audit log; what was
 * acknowledged is there; and the chain holds. A child process does the work with the modules as they
 * ship, on the test's clock; the parent looks at a copy of the files and lets the next child go on with
 * what this one left, so that it may be killed while it recovers, too.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "exceptions/apply.h"
#include "exceptions/exceptions.h"
#include "exceptions/store_schema.h"
#include "fake_clock.h"
#include "ignoring.h"
#include "kill_at.h"
#include "record/audit.h"
#include "record/risk.h"

#define START (INT64_C(1700000000) * 1000000)
/* Writes of a child that is not killed; more would be a loop. */
#define WRITES_MAX 2000
/* The files start anew after so many children, so that copying them stays quick. */
#define CHILDREN_MAX 60
#define OLD_ROWS 3
/* Granted by a list. */
#define LISTED 12

static struct settings settings;
static char dir[64], copy[80];
static unsigned kills;

/* The child */

static struct exceptions *exceptions;
static int acknowledge;

/* What goes to the parent: so many entries are about to be written, or they have been. */
struct word {
	enum { BEGIN, DONE, LOADED } what;
	unsigned entries;
};

static void say(int what, unsigned entries)
{
	const struct word word = { what, entries };

	if (write(acknowledge, &word, sizeof(word)) != sizeof(word))
		_exit(3);
}

static void expect(bool good)
{
	if (!good)
		_exit(4);
}

static uint64_t grant(const char *tenant, const char *profile, int64_t minutes)
{
	struct exception e = { .change_request = "CR-1",
			       .accepted_by = "ciso",
			       .reason = "calls",
			       .granted_by = { 1000, "op" },
			       .expires_at_us = clock_wall_us() + minutes * MINUTE };
	char error[EXCEPTIONS_ERROR_MAX];

	strcpy(e.tenant, tenant);
	strcpy(e.profile, profile);
	say(BEGIN, 1);
	expect(exceptions_grant(exceptions, &e, error) == 0);
	say(DONE, 1);
	return e.id;
}

static void change(uint64_t id, int64_t minutes)
{
	const struct exceptions_change change = { .expires_at_us = clock_wall_us() +
								   minutes * MINUTE,
						  .reason = "more calls",
						  .accepted_by = "cso",
						  .risk_accepted = true };
	const struct actor actor = { 1001, "second" };
	char error[EXCEPTIONS_ERROR_MAX];
	struct exception e;

	say(BEGIN, 1);
	expect(exceptions_change(exceptions, id, &change, &actor, &e, error) >= 0);
	say(DONE, 1);
}

static void count_revoked(void *user, const struct revoked *revoked)
{
	(void)revoked;
	++*(unsigned *)user;
}

/* All of a tenant's end in one transaction. */
static void take_back(const char *tenant)
{
	const struct exceptions_revocation revocation = { .tenant = tenant, .reason = "over" };
	const struct actor actor = { 1001, "second" };
	char error[EXCEPTIONS_ERROR_MAX];
	unsigned count = 0;

	expect(exceptions_revoke(exceptions, &revocation, &actor, count_revoked, &count, error) >
	       0);
	say(BEGIN, count);
	expect(exceptions_settle(exceptions) == 0);
	say(DONE, count);
}

static void count_expired(void *user, const char *tenant, const char *profile, uint64_t id)
{
	(void)tenant;
	(void)profile;
	(void)id;
	++*(unsigned *)user;
}

static void expire(int64_t minutes)
{
	unsigned count = 0;

	fake_clock_set(clock_wall_us() + minutes * MINUTE, clock_boottime_us() + minutes * MINUTE);
	exceptions_expire(exceptions, count_expired, &count);
	say(BEGIN, count);
	expect(exceptions_settle(exceptions) == 0);
	say(DONE, count);
}

static void no_more(void *user, enum apply_action action, const struct exception *record)
{
	(void)user;
	(void)action;
	(void)record;
}

static void add_wish(struct apply *apply, const char *tenant, const char *profile, int64_t minutes)
{
	struct exception wish = { .scope = RECORD_SCOPE_TENANT,
				  .change_request = "CR-2",
				  .accepted_by = "ciso",
				  .reason = "a list",
				  .expires_at_us = clock_wall_us() + minutes * MINUTE };
	char error[EXCEPTIONS_ERROR_MAX];

	strcpy(wish.tenant, tenant);
	strcpy(wish.profile, profile);
	risk_sha256(wish.risk_sha256);
	expect(apply_add(apply, &wish, error) == 0);
}

/* One is changed, others come, and whatever else there is ends: all in one transaction. */
static void apply_list(const char *changed, unsigned grants)
{
	const struct apply_options options = { .exceptions = exceptions,
					       .actor = { 1001, "second" },
					       .prune = true,
					       .reason = "not in the list" };
	struct apply *apply = apply_new(&options);
	char error[EXCEPTIONS_ERROR_MAX], tenant[32];
	struct apply_step step;
	struct apply_count count;
	int r = 1;

	add_wish(apply, changed, "skype", 300);
	for (unsigned i = 0; i < grants; i++) {
		snprintf(tenant, sizeof(tenant), "%s-%u", changed, i);
		add_wish(apply, tenant, "ssh", 100);
	}
	expect(apply_staged(apply, error) == 0);
	for (size_t i = 0; i < apply_count(apply).steps; i++)
		expect(apply_compare(apply, i, &step, error) == 0);
	count = apply_count(apply);
	expect(count.actions[APPLY_CHANGE] == 1 && count.actions[APPLY_GRANT] == grants);
	say(BEGIN, (unsigned)(count.steps - count.actions[APPLY_NOTHING]));
	while (r > 0)
		r = apply_write(apply, error);
	expect(r == 0 && apply_commit(apply, no_more, NULL, error) == 0);
	say(DONE, (unsigned)(count.steps - count.actions[APPLY_NOTHING]));
	apply_free(apply);
}

static void work(unsigned round)
{
	char acme[32], globex[32];
	uint64_t id;

	snprintf(acme, sizeof(acme), "acme-%u", round);
	snprintf(globex, sizeof(globex), "globex-%u", round);
	id = grant(acme, "skype", 100);
	grant(acme, "ssh", 100);
	change(id, 200);
	grant(globex, "skype", 5);
	take_back(acme);
	id = grant(acme, "skype", 100);
	expire(10);
	change(id, 50);
	apply_list(acme, LISTED);
	take_back(acme);
}

static void child(unsigned round, unsigned n, bool half)
{
	static const struct model_callbacks callbacks = { .changed = ignore_changed,
							  .leaving = ignore_leaving };
	struct model model;

	kill_at_arm(settings.sqlite, n, half);
	model_init(&model, 100, &callbacks, NULL);
	exceptions = exceptions_new(&model);
	expect(exceptions_load(exceptions, &settings) == 0);
	say(LOADED, exceptions_count(exceptions));
	work(round);
	exceptions_free(exceptions);
	model_done(&model);
	_exit(0);
}

/* The parent: what a child left */

static void run_command(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void run_command(const char *format, ...)
{
	char command[512];
	va_list args;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	assert_int_equal(system(command), 0);
}

struct chain {
	struct audit_chain chain;
	int r;
	char error[AUDIT_ERROR_MAX];
};

static void add(void *user, const struct audit_entry *entry)
{
	struct chain *chain = user;
	char text[AUDIT_TEXT_MAX];
	const struct audit_link link = { entry->seq, text, entry->previous, entry->hash };

	audit_text(entry, text);
	if (chain->r == 0)
		chain->r = audit_chain_add(&chain->chain, &link, chain->error);
}

static void compare(void *user, const struct audit_entry *entry)
{
	assert_string_equal(entry->record, user);
}

/* Every exception is what its last entry says, and there is none without, nor one too many. */
static void expect_consistent(struct store *store)
{
	char json[RECORD_JSON_MAX];
	struct exception e;
	uint64_t last;

	assert_int_equal(store_last_id(store, &last), 0);
	for (uint64_t id = 1; id <= last; id++) {
		assert_int_equal(store_find(store, id, &e), 0);
		record_json(&e, json);
		assert_int_equal(store_find_entry(store, id, UINT64_MAX, compare, json), 0);
	}
}

/* Returns how many entries there are. */
static uint64_t look(void)
{
	struct chain chain = { .r = 0 };
	struct store *store = NULL;
	const char *why = "";

	run_command("rm -rf %s && mkdir %s && cp %s/exceptions.db* %s/ && rm -f %s/*-shm", copy,
		    copy, dir, copy, copy);
	snprintf(chain.error, sizeof(chain.error), "%s/exceptions.db", copy);
	if (store_open(chain.error, &store, &why) < 0)
		fail_msg("%s", why);
	audit_chain_begin(&chain.chain);
	assert_int_equal(store_each_after(store, 0, UINT32_MAX, add, &chain), 0);
	if (chain.r < 0)
		fail_msg("%s", chain.error);
	expect_consistent(store);
	store_close(store);
	return chain.chain.seq;
}

struct outcome {
	bool killed, loaded;
	unsigned done, under_way; /* entries */
};

static struct outcome run_child(unsigned round, unsigned n, bool half)
{
	struct outcome outcome = { 0 };
	struct word word;
	int fds[2], status;
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		acknowledge = fds[1];
		child(round, n, half);
	}
	close(fds[1]);
	while (read(fds[0], &word, sizeof(word)) == sizeof(word)) {
		outcome.loaded = true;
		outcome.under_way = word.what == BEGIN ? word.entries : 0;
		outcome.done += word.what == DONE ? word.entries : 0;
	}
	close(fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	outcome.killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
	if (!outcome.killed)
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	kills += outcome.killed;
	return outcome;
}

/* before: how many entries there were before it ran. Returns how many there are. */
static uint64_t expect_all_or_nothing(const struct outcome *outcome, uint64_t before)
{
	const uint64_t entries = look();

	if (entries != before + outcome->done &&
	    entries != before + outcome->done + outcome->under_way)
		fail_msg("%llu entries, there were %llu, %u done, %u under way",
			 (unsigned long long)entries, (unsigned long long)before, outcome->done,
			 outcome->under_way);
	return entries;
}

static void start_anew(void)
{
	run_command("rm -rf %s && mkdir %s", dir, dir);
}

/* Children go on with what those before them left. */
static void test_going_on(void **state)
{
	bool *half = *state;
	unsigned children = 0, n = 1;
	uint64_t entries = 0;
	struct outcome outcome;

	do {
		if (children++ % CHILDREN_MAX == 0) {
			start_anew();
			outcome = run_child(0, 0, false);
			assert_false(outcome.killed);
			entries = look();
			assert_int_equal(entries, outcome.done);
		}
		outcome = run_child(n, n, *half);
		entries = expect_all_or_nothing(&outcome, entries);
		assert_true(++n < WRITES_MAX);
	} while (outcome.killed);
}

/* The file is made, and all is done for the first time. */
static void test_first_start(void **state)
{
	bool *half = *state;
	struct outcome outcome;
	unsigned n = 1;

	do {
		start_anew();
		run_command("touch %s/exceptions.db", dir);
		outcome = run_child(0, n, *half);
		expect_all_or_nothing(&outcome, 0);
		assert_true(++n < WRITES_MAX);
	} while (outcome.killed);
}

static void make_old_database(void)
{
	sqlite3 *db = NULL;

	start_anew();
	assert_int_equal(sqlite3_open(settings.sqlite, &db), SQLITE_OK);
	assert_int_equal(store_migrate(db, store_migrations, 1), SQLITE_OK);
	assert_int_equal(
		sqlite3_exec(db,
			     "INSERT INTO exception (tenant, profile, change_request, accepted_by,"
			     " granted_by, granted_at_us) VALUES ('a', 'skype', 'CR', 'x', 'y', 7),"
			     " ('b', 'skype', 'CR', 'x', 'y', 7), ('c', 'ssh', 'CR', 'x', 'y', 7)",
			     NULL, NULL, NULL),
		SQLITE_OK);
	sqlite3_close(db);
}

/* An old database is brought up to date: its exceptions are there, and in the log. */
static void test_migration(void **state)
{
	bool *half = *state;
	struct outcome outcome;
	unsigned n = 1;

	do {
		make_old_database();
		outcome = run_child(0, n, *half);
		expect_all_or_nothing(&outcome, OLD_ROWS);
		assert_true(++n < WRITES_MAX);
	} while (outcome.killed);
}

static int make_dir(void **state)
{
	/* In memory if there is such a place: what a process has written is there when it is killed. */
	const char *base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";

	(void)state;
	snprintf(dir, sizeof(dir), "%s/test_nothing_lost.XXXXXX", base);
	if (!mkdtemp(dir))
		return -1;
	snprintf(copy, sizeof(copy), "%s.copy", dir);
	settings = (struct settings){ .profile_count = 2, .path_count = 1 };
	strcpy(settings.profiles[0].name, "skype");
	strcpy(settings.profiles[1].name, "ssh");
	snprintf(settings.sqlite, sizeof(settings.sqlite), "%s/exceptions.db", dir);
	fake_clock_set(START, 1000 * MINUTE);
	return 0;
}

static int remove_dir(void **state)
{
	char command[512];

	(void)state;
	print_message("killed %u times\n", kills);
	snprintf(command, sizeof(command), "rm -rf %s %s", dir, copy);
	return system(command) != 0 || kills < 500;
}

int main(void)
{
	bool before = false, half = true;
	const struct CMUnitTest tests[] = {
		{ "going on, before a write", test_going_on, NULL, NULL, &before },
		{ "going on, halfway through a write", test_going_on, NULL, NULL, &half },
		{ "the first start, before a write", test_first_start, NULL, NULL, &before },
		{ "the first start, halfway through a write", test_first_start, NULL, NULL, &half },
		{ "a migration, before a write", test_migration, NULL, NULL, &before },
		{ "a migration, halfway through a write", test_migration, NULL, NULL, &half },
	};

	return cmocka_run_group_tests_name("nothing lost", tests, make_dir, remove_dir);
}
