/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 2048
#define LIMIT_INTERVAL_US (60LL * 1000000)

static const struct {
	const char *journal;
	const char *name;
} levels[] = {
	[LOG_LEVEL_ERROR] = { SD_ERR, "error" },
	[LOG_LEVEL_WARNING] = { SD_WARNING, "warning" },
	[LOG_LEVEL_INFO] = { SD_INFO, "info" },
	[LOG_LEVEL_DEBUG] = { SD_DEBUG, "debug" },
};

static atomic_int threshold = LOG_LEVEL_INFO;

/*
 * A limiter belongs to its caller, but two threads may share one. One lock is enough: whoever is
 * limited does not log often.
 */
static atomic_flag limit_lock = ATOMIC_FLAG_INIT;

/* The message may quote what a peer sent: nothing in it may end the line or drive a terminal. */
static void defuse(char *text)
{
	for (; *text; text++) {
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			*text = '?';
	}
}

static void put(enum log_level level, const char *subsystem, const char *message)
{
	char line[LINE_MAX_BYTES + 128];
	ssize_t written;
	size_t done = 0;
	int len;

	if (getenv("JOURNAL_STREAM"))
		len = snprintf(line, sizeof(line), "%s%s: %s\n", levels[level].journal, subsystem,
			       message);
	else
		len = snprintf(line, sizeof(line), "%s: %s: %s\n", levels[level].name, subsystem,
			       message);
	if (len < 0)
		return;
	if ((size_t)len >= sizeof(line))
		len = sizeof(line) - 1;
	/* One write a line keeps the lines of two threads apart. */
	while (done < (size_t)len) {
		written = write(STDERR_FILENO, line + done, (size_t)len - done);
		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			return;
		done += (size_t)written;
	}
}

static void format_and_put(enum log_level level, const char *subsystem, const char *format,
			   va_list args) __attribute__((format(printf, 3, 0)));

static void format_and_put(enum log_level level, const char *subsystem, const char *format,
			   va_list args)
{
	char message[LINE_MAX_BYTES];
	int saved = errno;

	if (vsnprintf(message, sizeof(message), format, args) >= 0) {
		defuse(message);
		put(level, subsystem, message);
	}
	errno = saved;
}

void log_set_level(enum log_level level)
{
	atomic_store(&threshold, (int)level);
}

void log_write(enum log_level level, const char *subsystem, const char *format, ...)
{
	va_list args;

	if ((int)level > atomic_load(&threshold))
		return;
	va_start(args, format);
	format_and_put(level, subsystem, format, args);
	va_end(args);
}

static long long monotonic_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* May the limiter's owner write now? Then *ret_held_back is what it kept to itself before. */
static bool pass_limit(struct log_limit *limit, unsigned long *ret_held_back)
{
	long long now = monotonic_us();
	bool pass;

	while (atomic_flag_test_and_set_explicit(&limit_lock, memory_order_acquire))
		;
	pass = now >= limit->next_us;
	if (pass) {
		*ret_held_back = limit->held_back;
		limit->held_back = 0;
		limit->next_us = now + LIMIT_INTERVAL_US;
	} else {
		limit->held_back++;
	}
	atomic_flag_clear_explicit(&limit_lock, memory_order_release);
	return pass;
}

void log_limited(struct log_limit *limit, enum log_level level, const char *subsystem,
		 const char *format, ...)
{
	unsigned long held_back = 0;
	va_list args;

	if ((int)level > atomic_load(&threshold) || !pass_limit(limit, &held_back))
		return;
	va_start(args, format);
	format_and_put(level, subsystem, format, args);
	va_end(args);
	if (held_back)
		log_write(level, subsystem, "%lu more of these were held back", held_back);
}
