/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Logging to stderr, one line each: "<level>subsystem: message" under systemd (sd-daemon(3)
 * prefixes when JOURNAL_STREAM is set), "level: subsystem: message" elsewhere.
 * Levels say the consequence: error, gave up; warning, went on; info, a state change; debug.
 * Untrusted text goes in quotes and never into the format. Thread-safe.
 */
#ifndef TENANT_STEER_LOG_H
#define TENANT_STEER_LOG_H

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

void log_set_level(enum log_level level);
void log_write(enum log_level level, const char *subsystem, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#define log_error(subsystem, ...) log_write(LOG_LEVEL_ERROR, subsystem, __VA_ARGS__)
#define log_warning(subsystem, ...) log_write(LOG_LEVEL_WARNING, subsystem, __VA_ARGS__)
#define log_info(subsystem, ...) log_write(LOG_LEVEL_INFO, subsystem, __VA_ARGS__)
#define log_debug(subsystem, ...) log_write(LOG_LEVEL_DEBUG, subsystem, __VA_ARGS__)

/* For what a peer can cause: at most one line a minute for each limiter; says how many it held
 * back. */
struct log_limit {
	long long next_us; /* CLOCK_MONOTONIC */
	unsigned long held_back;
};
void log_limited(struct log_limit *limit, enum log_level level, const char *subsystem,
		 const char *format, ...) __attribute__((format(printf, 4, 5)));

#endif
