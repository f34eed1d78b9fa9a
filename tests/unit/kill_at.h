/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Kill the process (SIGKILL) at the n-th time that it would change a file: write, truncate,
 * synchronise, unlink. What kill_at.c defines takes the place of the C library's functions, in a program
 * that links it, and in any other with LD_PRELOAD (then KILL_AT is n, KILL_AT_PATH the path, and
 * KILL_AT_HALF, if there, asks for halves). Not for programs with threads that write such files.
 */
#ifndef TENANT_STEER_KILL_AT_H
#define TENANT_STEER_KILL_AT_H

#include <stdbool.h>

/*
 * From now on count what is done to files whose names begin with path. At number n (0: never) the
 * process is killed instead; or, if half is set and it is a write, after the first half of it.
 */
void kill_at_arm(const char *path, unsigned n, bool half);

/* How many there were. */
unsigned kill_at_count(void);

#endif
