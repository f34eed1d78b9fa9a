/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "priv.h"

#include <cap-ng.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define GROUPS_MAX 1024
#define DIRECTORY_MODE 0750

struct account {
	uid_t uid;
	gid_t gid;
	gid_t groups[GROUPS_MAX];
	int group_count;
};

static int refuse(char *error, int r, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static int refuse(char *error, int r, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(error, PRIV_ERROR_MAX, format, args);
	va_end(args);
	return r;
}

static int look_up(const char *user, struct account *ret_account, char *error)
{
	struct passwd pw, *found = NULL;
	char buf[16384];

	getpwnam_r(user, &pw, buf, sizeof(buf), &found);
	if (!found)
		return refuse(error, -ESRCH,
			      "the user \"%s\" does not exist on this system: make it "
			      "with systemd-sysusers, or name another with \"user\" in steerd.conf",
			      user);
	ret_account->uid = pw.pw_uid;
	ret_account->gid = pw.pw_gid;
	ret_account->group_count = GROUPS_MAX;
	if (getgrouplist(user, pw.pw_gid, ret_account->groups, &ret_account->group_count) < 0)
		return refuse(error, -E2BIG, "the user \"%s\" is in more than %d groups", user,
			      GROUPS_MAX);
	return 0;
}

static bool in_group(const struct account *account, gid_t gid)
{
	int i;

	for (i = 0; i < account->group_count; i++) {
		if (account->groups[i] == gid)
			return true;
	}
	return false;
}

/*
 * Would the kernel let the account make files here? Asked by root, so access(2) cannot tell. No
 * exception for root: what it keeps is no CAP_DAC_OVERRIDE.
 */
static bool may_write(const struct account *account, const struct stat *st)
{
	mode_t needed = 03;

	if (st->st_uid == account->uid)
		needed <<= 6;
	else if (in_group(account, st->st_gid))
		needed <<= 3;
	return (st->st_mode & needed) == needed;
}

static bool is_empty(int fd)
{
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = copy >= 0 ? fdopendir(copy) : NULL;
	const struct dirent *entry;
	bool empty = true;

	if (!dir) {
		if (copy >= 0)
			close(copy);
		return false;
	}
	while (empty && (entry = readdir(dir)))
		empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
	closedir(dir);
	return empty;
}

/* What is open here cannot be exchanged for a link while we look at it. */
static int give_directory(const char *path, int fd, bool made, const struct account *account,
			  char *error)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return refuse(error, -errno, "cannot look at %s: %s", path, strerror(errno));
	if (made || (st.st_uid == 0 && !may_write(account, &st) && is_empty(fd))) {
		if (fchown(fd, account->uid, account->gid) < 0 || fchmod(fd, DIRECTORY_MODE) < 0)
			return refuse(error, -errno, "cannot give %s to steerd's user: %s", path,
				      strerror(errno));
		return 0;
	}
	if (!may_write(account, &st))
		return refuse(error, -EACCES,
			      "%s exists, is in use, and steerd's user may not write "
			      "there: make it with systemd-tmpfiles, or change its owner",
			      path);
	return 0;
}

static int prepare_directory(const char *file, const struct account *account, char *error)
{
	char path[SETTINGS_STRING_MAX];
	bool made;
	char *slash;
	int fd, r;

	snprintf(path, sizeof(path), "%s", file);
	slash = strrchr(path, '/');
	if (!slash || slash == path)
		return 0;
	*slash = '\0';
	made = mkdir(path, DIRECTORY_MODE) == 0;
	if (!made && errno != EEXIST)
		return refuse(error, -errno, "cannot make %s: %s", path, strerror(errno));
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | (made ? O_NOFOLLOW : 0));
	if (fd < 0)
		return refuse(error, -errno, "cannot open %s: %s", path, strerror(errno));
	r = give_directory(path, fd, made, account, error);
	close(fd);
	return r;
}

int priv_prepare(const struct settings *settings, char error[PRIV_ERROR_MAX])
{
	struct account account = { .uid = 0, .group_count = 1 };
	unsigned i;
	int r = 0;

	if (geteuid() != 0)
		return 0;
	if (settings->user[0])
		r = look_up(settings->user, &account, error);
	if (r == 0)
		r = prepare_directory(settings->control_socket, &account, error);
	for (i = 0; r == 0 && i < settings->bind_count; i++)
		r = prepare_directory(settings->bind[i] + strlen("ipc://"), &account, error);
	return r < 0 ? r : prepare_directory(settings->sqlite, &account, error);
}

/* Become the user. libcap-ng keeps CAP_NET_ADMIN over the change and empties the bounding set. */
static int drop_root(const char *user, char *error)
{
	struct account account = { 0 };
	int r;

	capng_clear(CAPNG_SELECT_ALL);
	capng_update(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED, CAP_NET_ADMIN);
	if (!*user) {
		r = capng_apply(CAPNG_SELECT_ALL);
		return r == 0 ? 0 : refuse(error, -EPERM, "cannot drop capabilities (step %d)", -r);
	}
	r = look_up(user, &account, error);
	if (r < 0)
		return r;
	r = capng_change_id((int)account.uid, (int)account.gid,
			    CAPNG_INIT_SUPP_GRP | CAPNG_CLEAR_BOUNDING | CAPNG_CLEAR_AMBIENT);
	return r == 0 ? 0
		      : refuse(error, -EPERM, "cannot become the user \"%s\" (step %d)", user, -r);
}

/* The bounding set can be emptied with CAP_SETPCAP only; systemd has done so for its services. */
static int keep_net_admin(char *error)
{
	int r;

	capng_clear(CAPNG_SELECT_CAPS);
	capng_update(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED, CAP_NET_ADMIN);
	r = capng_apply(CAPNG_SELECT_CAPS);
	if (r == 0 && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		r = -1;
	return r == 0 ? 0 : refuse(error, -EPERM, "cannot drop capabilities (step %d)", -r);
}

int priv_drop(const char *user, char error[PRIV_ERROR_MAX])
{
	int r;

	if (capng_get_caps_process() < 0)
		return refuse(error, -EPERM, "cannot read this process's capabilities");
	if (!capng_have_capability(CAPNG_PERMITTED, CAP_NET_ADMIN))
		return refuse(error, -EPERM,
			      "CAP_NET_ADMIN is missing: start steerd as root or through "
			      "its systemd unit");
	r = geteuid() == 0 ? drop_root(user, error) : keep_net_admin(error);
	if (r == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		r = refuse(error, -errno, "cannot set no_new_privs: %s", strerror(errno));
	return r;
}
