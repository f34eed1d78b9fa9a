/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "steerctl_execute.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FULL "/steerctl-full"

/*
 * Whoever may write in our directory could have replaced us; but for a sticky one, where everybody
 * may add files, and nobody replaces another's.
 */
static bool find_beside(char path[PATH_MAX])
{
	const ssize_t len = readlink("/proc/self/exe", path, PATH_MAX - sizeof(FULL));
	struct stat directory;
	char *end;

	if (len <= 0 || len == PATH_MAX - sizeof(FULL))
		return false;
	path[len] = '\0';
	end = strrchr(path, '/');
	if (!end)
		return false;
	*end = '\0';
	if (stat(path, &directory) < 0 || directory.st_mode & S_ISVTX)
		return false;
	strcpy(end, FULL);
	return access(path, F_OK) == 0;
}

int execute_full(char *const *argv, char error[EXECUTE_ERROR_MAX])
{
	char path[PATH_MAX];
	int r;

	if (!find_beside(path))
		strcpy(path, PKGLIBEXECDIR FULL);
	execv(path, argv);
	r = -errno;
	snprintf(error, EXECUTE_ERROR_MAX, "cannot execute %s, which has this command: %s", path,
		 strerror(-r));
	return r;
}
