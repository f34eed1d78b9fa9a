/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "kill_at.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct {
	char path[PATH_MAX];
	unsigned count, at;
	bool half;
} armed;

void kill_at_arm(const char *path, unsigned n, bool half)
{
	snprintf(armed.path, sizeof(armed.path), "%s", path);
	armed.count = 0;
	armed.at = n;
	armed.half = half;
}

unsigned kill_at_count(void)
{
	return armed.count;
}

static __attribute__((constructor)) void arm_from_environment(void)
{
	const char *at = getenv("KILL_AT"), *path = getenv("KILL_AT_PATH");

	if (at && path)
		kill_at_arm(path, (unsigned)strtoul(at, NULL, 10), getenv("KILL_AT_HALF") != NULL);
}

static void die(void)
{
	kill(getpid(), SIGKILL);
	pause();
}

static bool is_ours(const char *path)
{
	return *armed.path && strncmp(path, armed.path, strlen(armed.path)) == 0;
}

/* Is it the time? Not for a file that is not ours. */
static bool is_due(const char *path)
{
	return is_ours(path) && ++armed.count == armed.at;
}

static bool is_due_fd(int fd)
{
	char link[64], path[PATH_MAX];
	ssize_t len;

	if (!*armed.path)
		return false;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	len = readlink(link, path, sizeof(path) - 1);
	path[len > 0 ? len : 0] = '\0';
	return is_due(path);
}

static ssize_t put(int fd, const void *data, size_t size, off_t at)
{
	return syscall(SYS_pwrite64, fd, data, size, at);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at)
{
	if (is_due_fd(fd)) {
		if (armed.half)
			put(fd, data, size / 2, at);
		die();
	}
	return put(fd, data, size, at);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
	return pwrite64(fd, data, size, at);
}

ssize_t write(int fd, const void *data, size_t size)
{
	if (is_due_fd(fd)) {
		if (armed.half)
			syscall(SYS_write, fd, data, size / 2);
		die();
	}
	return syscall(SYS_write, fd, data, size);
}

int fsync(int fd)
{
	if (is_due_fd(fd))
		die();
	return (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
	if (is_due_fd(fd))
		die();
	return (int)syscall(SYS_fdatasync, fd);
}

int ftruncate64(int fd, off64_t size)
{
	if (is_due_fd(fd))
		die();
	return (int)syscall(SYS_ftruncate, fd, size);
}

int ftruncate(int fd, off_t size)
{
	return ftruncate64(fd, size);
}

int unlink(const char *path)
{
	if (is_due(path))
		die();
	return (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}
