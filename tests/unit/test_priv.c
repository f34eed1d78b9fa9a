/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "child.h"
#include "priv.h"

#define USER "nobody"
#define NET_ADMIN_ONLY (1ULL << CAP_NET_ADMIN)

static char dir[] = "/tmp/test_priv.XXXXXX";

/* A line of /proc/self/status as a number. */
static unsigned long long status_value(const char *name, int base)
{
	unsigned long long value = ~0ULL;
	FILE *f = fopen("/proc/self/status", "r");
	char line[256];

	while (f && fgets(line, sizeof(line), f)) {
		if (strncmp(line, name, strlen(name)) == 0 && line[strlen(name)] == ':')
			value = strtoull(line + strlen(name) + 1, NULL, base);
	}
	if (f)
		fclose(f);
	return value;
}

static int only_net_admin(void)
{
	if (status_value("CapEff", 16) != NET_ADMIN_ONLY ||
	    status_value("CapPrm", 16) != NET_ADMIN_ONLY)
		return 10;
	if (status_value("CapInh", 16) != 0 || status_value("CapAmb", 16) != 0)
		return 11;
	return status_value("NoNewPrivs", 10) == 1 ? 0 : 12;
}

static int become_user(void)
{
	struct passwd *pw = getpwnam(USER);
	char error[PRIV_ERROR_MAX] = "";

	if (priv_drop(USER, error) < 0) {
		fprintf(stderr, "%s\n", error);
		return 1;
	}
	if (getuid() != pw->pw_uid || geteuid() != pw->pw_uid || getgid() != pw->pw_gid)
		return 2;
	if (status_value("CapBnd", 16) != 0)
		return 3;
	if (setuid(0) == 0 || setgid(0) == 0)
		return 4;
	return only_net_admin();
}

static int stay_root(void)
{
	char error[PRIV_ERROR_MAX] = "";

	if (priv_drop("", error) < 0)
		return 1;
	if (geteuid() != 0 || status_value("CapBnd", 16) != 0)
		return 2;
	return only_net_admin();
}

static int unknown_user(void)
{
	char error[PRIV_ERROR_MAX] = "";

	if (priv_drop("no-such-user", error) != -ESRCH)
		return 1;
	return strstr(error, "\"no-such-user\"") && strstr(error, "systemd-sysusers") ? 0 : 2;
}

static int without_net_admin(void)
{
	char error[PRIV_ERROR_MAX] = "";

	if (setuid(65534) < 0 || priv_drop(USER, error) != -EPERM)
		return 1;
	return strncmp(error, "CAP_NET_ADMIN is missing: ", 26) == 0 ? 0 : 2;
}

/* As systemd starts a service: another user with more than it needs. */
static int as_service(void)
{
	char error[PRIV_ERROR_MAX] = "";
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2] = { { .effective = 0 } };

	data[0].effective = data[0].permitted = data[0].inheritable = (1u << CAP_NET_ADMIN) |
								      (1u << CAP_NET_RAW);
	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0 || setuid(65534) < 0)
		return 1;
	if (syscall(SYS_capset, &header, data) < 0 ||
	    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_ADMIN, 0, 0) < 0)
		return 2;
	if (priv_drop("ignored", error) < 0)
		return 3;
	return geteuid() == 65534 ? only_net_admin() : 4;
}

static void test_drop(void **state)
{
	(void)state;
	if (geteuid() != 0 || !getpwnam(USER))
		skip();
	assert_int_equal(child_run(become_user), 0);
	assert_int_equal(child_run(stay_root), 0);
	assert_int_equal(child_run(unknown_user), 0);
	assert_int_equal(child_run(without_net_admin), 0);
	assert_int_equal(child_run(as_service), 0);
}

static struct settings in_directory(const char *run, const char *state)
{
	struct settings s = { .bind_count = 1, .user = USER };

	snprintf(s.control_socket, sizeof(s.control_socket), "%s/%s/control", dir, run);
	snprintf(s.bind[0], sizeof(s.bind[0]), "ipc://%s/%s/stream", dir, run);
	snprintf(s.sqlite, sizeof(s.sqlite), "%s/%s/exceptions.db", dir, state);
	return s;
}

static char *in_dir(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static void expect_owner(const char *name, uid_t uid, mode_t mode)
{
	struct stat st;

	assert_int_equal(stat(in_dir(name), &st), 0);
	assert_int_equal(st.st_uid, uid);
	assert_int_equal(st.st_mode & 07777, mode);
}

static void test_directories(void **state)
{
	struct passwd *pw = getpwnam(USER);
	char error[PRIV_ERROR_MAX] = "";
	struct settings s;
	FILE *f;

	(void)state;
	if (geteuid() != 0 || !pw)
		skip();
	/* missing: made; root's and empty: given */
	assert_int_equal(mkdir(in_dir("state"), 0700), 0);
	s = in_directory("run", "state");
	assert_int_equal(priv_prepare(&s, error), 0);
	expect_owner("run", pw->pw_uid, 0750);
	expect_owner("state", pw->pw_uid, 0750);
	assert_int_equal(priv_prepare(&s, error), 0);
	/* root's and in use: left alone, and said so */
	assert_int_equal(mkdir(in_dir("used"), 0755), 0);
	f = fopen(in_dir("used/file"), "w");
	assert_non_null(f);
	fclose(f);
	s = in_directory("run", "used");
	assert_int_equal(priv_prepare(&s, error), -EACCES);
	assert_non_null(strstr(error, "/used exists"));
	expect_owner("used", 0, 0755);
	expect_owner("used/file", 0, 0644);
	/* in use, but the user may write there by its group */
	assert_int_equal(chown(in_dir("used"), 0, pw->pw_gid), 0);
	assert_int_equal(chmod(in_dir("used"), 0775), 0);
	assert_int_equal(priv_prepare(&s, error), 0);
	expect_owner("used", 0, 0775);
	/* somebody else's and empty: left alone */
	assert_int_equal(mkdir(in_dir("foreign"), 0755), 0);
	assert_int_equal(chown(in_dir("foreign"), 1, 1), 0);
	s = in_directory("run", "foreign");
	assert_int_equal(priv_prepare(&s, error), -EACCES);
	expect_owner("foreign", 1, 0755);
	/* only the last component is made */
	s = in_directory("run", "a/b");
	assert_int_equal(priv_prepare(&s, error), -ENOENT);
	/* who stays root will not have CAP_DAC_OVERRIDE either */
	s = in_directory("used", "used");
	s.user[0] = '\0';
	assert_int_equal(priv_prepare(&s, error), 0);
	s = in_directory("used", "foreign");
	s.user[0] = '\0';
	assert_int_equal(priv_prepare(&s, error), -EACCES);
	expect_owner("foreign", 1, 0755);
	strcpy(s.user, "no-such-user");
	assert_int_equal(priv_prepare(&s, error), -ESRCH);
}

static int make_dir(void **state)
{
	(void)state;
	umask(022);
	return mkdtemp(dir) && chmod(dir, 0755) == 0 ? 0 : -1;
}

static int remove_dir(void **state)
{
	static const char *const names[] = { "run", "state", "used", "foreign" };
	size_t i;

	(void)state;
	unlink(in_dir("used/file"));
	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		rmdir(in_dir(names[i]));
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_drop),
		cmocka_unit_test(test_directories),
	};

	return cmocka_run_group_tests_name("priv", tests, make_dir, remove_dir);
}
