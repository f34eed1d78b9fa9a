/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The store's file: whose it is, and what becomes of it when it is damaged, another's or of another
 * release, on a disk that is full or cannot be written, and when steerd is killed.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "child.h"
#include "store_file.h"

static void test_mode_of_the_files(void **state)
{
	static const char *const suffixes[] = { "", "-wal", "-shm" };
	struct exception e = store_file_example("acme", "skype");
	mode_t mask = umask(0);
	struct store *store = store_file_open();
	char name[80];
	struct stat st;
	size_t i;

	(void)state;
	umask(mask);
	store_file_grant(store, &e);
	for (i = 0; i < 3; i++) {
		snprintf(name, sizeof(name), "%s%s", store_file.name, suffixes[i]);
		assert_int_equal(stat(name, &st), 0);
		assert_int_equal(st.st_mode & 07777, 0640);
	}
	store_close(store);
	/* one that was opened to everybody is closed again */
	assert_int_equal(chmod(store_file.name, 0666), 0);
	store_close(store_file_open());
	assert_int_equal(stat(store_file.name, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
}

static void test_newer_and_foreign_files(void **state)
{
	(void)state;
	store_close(store_file_open());
	store_file_run_sql("PRAGMA user_version = 1000");
	store_file_refused(-EUCLEAN, "from a newer release");
	store_file_remove();
	store_file_run_sql("CREATE TABLE addresses (a)");
	store_file_refused(-EUCLEAN, "another program's database");
	store_file_run_sql("INSERT INTO addresses VALUES (1)");
	store_file_remove();
	/* right number, wrong tables */
	store_close(store_file_open());
	store_file_run_sql("DROP TABLE exception");
	store_file_refused(-EUCLEAN, "damaged");
	store_file_remove();
	/* an empty file is a new database */
	close(open(store_file.name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	store_close(store_file_open());
}

static void overwrite(off_t from, size_t len)
{
	int fd = open(store_file.name, O_WRONLY | O_CLOEXEC);
	size_t i;

	assert_true(fd >= 0);
	for (i = 0; i < len; i++)
		assert_int_equal(pwrite(fd, "\xa5", 1, from + (off_t)i), 1);
	close(fd);
}

static off_t file_size(void)
{
	struct stat st;

	assert_int_equal(stat(store_file.name, &st), 0);
	return st.st_size;
}

static void fill(struct store *store, unsigned count)
{
	char tenant[32];
	unsigned i;

	for (i = 0; i < count; i++) {
		struct exception e;

		snprintf(tenant, sizeof(tenant), "tenant-%u", i);
		e = store_file_example(tenant, "skype");
		assert_int_equal(store_grant(store, &e), 0);
	}
}

static void test_damaged_file(void **state)
{
	struct store *store;
	off_t size;

	(void)state;
	/* its head */
	store_close(store_file_open());
	overwrite(0, 16);
	size = file_size();
	store_file_refused(-EUCLEAN, "not a database");
	assert_int_equal(file_size(), size); /* left as it is, for whoever repairs it */
	store_file_remove();
	/* not a database at all */
	close(open(store_file.name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	overwrite(0, 5000);
	store_file_refused(-EUCLEAN, "not a database");
	store_file_remove();
	/* pages in its middle, found when opening */
	store = store_file_open();
	fill(store, 200);
	store_close(store);
	overwrite(8192, 20000);
	store_file_refused(-EUCLEAN, "damaged");
}

/* A row that somebody writes with sqlite3(1). */
#define INSERT_ROW(tenant, change_request)                                                         \
	"INSERT INTO exception (tenant, profile, change_request, accepted_by, reason,"             \
	" risk_version, risk_sha256, granted_by, granted_at_us, expires_at_us) VALUES (" tenant    \
	", 'skype', " change_request ", 'x', 'x', 1, printf('%.*c', 64, 'a'), 'x', 1, 2)"

/* Damage that comes while it is open: reported, remembered, and the store is still an object. */
static void test_damage_while_open(void **state)
{
	struct exception e = store_file_example("late", "skype");
	struct store *store;
	struct stored list = { 0 };

	(void)state;
	store = store_file_open();
	fill(store, 200);
	store_close(store);
	store = store_file_open();
	/* somebody else's commit: what SQLite has cached counts no more */
	store_file_run_sql(INSERT_ROW("'other'", "'CR-1'"));
	overwrite(4096, (size_t)file_size() - 4096);
	assert_int_equal(store_each_active(store, store_file_collect, &list), -EUCLEAN);
	assert_true(store_damaged(store));
	assert_non_null(strstr(store_error(store), "malformed"));
	assert_int_equal(store_grant(store, &e), -EUCLEAN);
	store_close(store);
}

/* Rows that somebody wrote with sqlite3(1) and that no grant could have written. */
static void test_impossible_rows(void **state)
{
	static const char *const rows[] = {
		INSERT_ROW("printf('%.*c', 200, 'a')", "'CR-1'"),
		INSERT_ROW("'a b'", "'CR-1'"),
		INSERT_ROW("'a'", "printf('%.*c', 300, 'a')"),
		INSERT_ROW("'a' || char(0) || 'b'", "'CR-1'"),
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct stored list = { 0 };
		struct store *store;

		store_file_remove();
		store_close(store_file_open());
		store_file_run_sql(rows[i]);
		store = store_file_open();
		assert_int_equal(store_each_active(store, store_file_collect, &list), -EUCLEAN);
		assert_int_equal(list.count, 0);
		assert_true(store_damaged(store));
		store_close(store);
	}
}

static void test_files_that_cannot_be_opened(void **state)
{
	char saved[sizeof(store_file.name)];
	char target[80];

	(void)state;
	strcpy(saved, store_file.name);
	strcpy(store_file.name, "/nonexistent/exceptions.db");
	store_file_refused(-ENOENT, "No such file or directory");
	strcpy(store_file.name, store_file.dir);
	store_file_refused(-EISDIR, "Is a directory");
	strcpy(store_file.name, saved);
	snprintf(target, sizeof(target), "%s/target", store_file.dir);
	assert_int_equal(symlink(target, store_file.name), 0);
	store_file_refused(-ELOOP, "symbolic");
	assert_int_equal(access(target, F_OK), -1);
}

#define CANNOT_MOUNT 77

static int mount_tmpfs(const char *options, unsigned long flags)
{
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("tmpfs", store_file.dir, "tmpfs", flags, options) < 0)
		return -1;
	return 0;
}

/* Until it is full; then nothing is lost, and when there is room again it goes on. */
static int fill_the_disk(void)
{
	struct exception e = store_file_example("acme", "skype");
	struct store *store = NULL;
	struct stored list = { 0 };
	unsigned granted = 0;
	const char *error;
	int r = 0;

	if (mount_tmpfs("size=512k", 0) < 0)
		return CANNOT_MOUNT;
	if (store_open(store_file.name, &store, &error) < 0)
		return 1;
	for (; r == 0 && granted < 100000; granted += r == 0) {
		snprintf(e.tenant, sizeof(e.tenant), "tenant-%u", granted);
		r = store_grant(store, &e);
	}
	if (r != -ENOSPC || store_damaged(store) || !strstr(store_error(store), "full"))
		return 2;
	if (store_each_active(store, store_file_collect, &list) < 0 || list.count != granted)
		return 3;
	if (mount("tmpfs", store_file.dir, "tmpfs", MS_REMOUNT, "size=4m") < 0)
		return 4;
	if (store_grant(store, &e) < 0)
		return 5;
	list.count = 0;
	if (store_each_active(store, store_file_collect, &list) < 0 || list.count != granted + 1)
		return 6;
	store_close(store);
	return 0;
}

static int read_only_disk(void)
{
	struct store *store = NULL;
	const char *error;

	if (mount_tmpfs("size=4m", 0) < 0)
		return CANNOT_MOUNT;
	if (store_open(store_file.name, &store, &error) < 0)
		return 1;
	store_close(store);
	if (mount("tmpfs", store_file.dir, "tmpfs", MS_REMOUNT | MS_RDONLY, NULL) < 0)
		return 2;
	return store_open(store_file.name, &store, &error) == -EROFS ? 0 : 3;
}

static void expect_on_tmpfs(int (*run)(void))
{
	int status = child_run(run);

	if (status == CANNOT_MOUNT)
		skip(); /* not root */
	assert_int_equal(status, 0);
}

static void test_full_disk(void **state)
{
	(void)state;
	expect_on_tmpfs(fill_the_disk);
}

static void test_read_only_disk(void **state)
{
	(void)state;
	expect_on_tmpfs(read_only_disk);
}

/* The same without privileges: the file may not grow. */
static int limit_the_file(void)
{
	struct rlimit limit = { 65536, 65536 };
	struct exception e = store_file_example("acme", "skype");
	struct store *store = NULL;
	const char *error;
	struct stored list = { 0 };
	unsigned granted = 0;
	int r = 0;

	signal(SIGXFSZ, SIG_IGN);
	if (store_open(store_file.name, &store, &error) < 0 || setrlimit(RLIMIT_FSIZE, &limit) < 0)
		return 1;
	for (; r == 0 && granted < 10000; granted += r == 0) {
		snprintf(e.tenant, sizeof(e.tenant), "tenant-%u", granted);
		r = store_grant(store, &e);
	}
	if ((r != -EIO && r != -ENOSPC) || store_damaged(store))
		return 2;
	if (store_each_active(store, store_file_collect, &list) < 0 || list.count != granted)
		return 3;
	store_close(store);
	return 0;
}

static void test_limited_file(void **state)
{
	(void)state;
	assert_int_equal(child_run(limit_the_file), 0);
	store_close(store_file_open());
}

static void grant_for_ever(int out)
{
	struct exception e = store_file_example("acme", "skype");
	struct store *store = NULL;
	const char *error;
	uint64_t i;

	if (store_open(store_file.name, &store, &error) < 0)
		_exit(1);
	for (i = 0;; i++) {
		snprintf(e.tenant, sizeof(e.tenant), "%s-%u-%llu", "tenant", (unsigned)getpid(),
			 (unsigned long long)i);
		if (store_grant(store, &e) < 0 || write(out, &e.id, sizeof(e.id)) != sizeof(e.id))
			_exit(1);
	}
}

static void note_id(const struct exception *exception, void *user)
{
	unsigned char *seen = user;

	if (exception->id < 100000)
		seen[exception->id] = 1;
}

/* A grant that was acknowledged survives kill -9 at any moment. */
static void test_kill(void **state)
{
	static unsigned char seen[100000];
	unsigned round, acknowledged = 0;
	uint64_t ids[4096], id;
	struct store *store;

	(void)state;
	for (round = 1; round <= 8; round++) {
		unsigned before = acknowledged;
		int fds[2], status;
		pid_t pid;

		assert_int_equal(pipe(fds), 0);
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0)
			grant_for_ever(fds[1]);
		close(fds[1]);
		while (acknowledged < before + 17 * round &&
		       read(fds[0], &id, sizeof(id)) == sizeof(id))
			ids[acknowledged++] = id;
		assert_int_equal(kill(pid, SIGKILL), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		/* those it acknowledged before it died */
		while (acknowledged < 4096 && read(fds[0], &id, sizeof(id)) == sizeof(id))
			ids[acknowledged++] = id;
		close(fds[0]);
	}
	store = store_file_open();
	assert_int_equal(store_each_active(store, note_id, seen), 0);
	store_close(store);
	assert_true(acknowledged > 600);
	while (acknowledged > 0)
		assert_int_equal(seen[ids[--acknowledged]], 1);
}

#define TEST(function) cmocka_unit_test_teardown(function, store_file_clean)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_mode_of_the_files), TEST(test_newer_and_foreign_files),
		TEST(test_damaged_file),      TEST(test_damage_while_open),
		TEST(test_impossible_rows),   TEST(test_files_that_cannot_be_opened),
		TEST(test_full_disk),         TEST(test_read_only_disk),
		TEST(test_limited_file),      TEST(test_kill),
	};

	return cmocka_run_group_tests_name("store file", tests, store_file_make_dir,
					   store_file_remove_dir);
}
