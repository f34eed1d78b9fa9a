/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * steerctl's command line: one table of commands gives parsing, help, the request and what
 * renders the answer.
 */
#ifndef TENANT_STEER_STEERCTL_COMMANDS_H
#define TENANT_STEER_STEERCTL_COMMANDS_H

#include <stdio.h>

#define STEERCTL_OK 0
#define STEERCTL_FAILED 1
#define STEERCTL_USAGE 2
/* Of export and apply: steerd is not there or does not answer; the dry run found differences; what it was
 * compared with has changed meanwhile, nothing was done. */
#define STEERCTL_UNREACHABLE 3
#define STEERCTL_DIFFERENT 4
#define STEERCTL_CONFLICT 5

struct watch_options;
struct doctor_options;

/*
 * What needs libraries that take longer to load than the other commands to run: ZeroMQ, and those
 * for the kernel. See watch_run() and doctor_visit().
 */
struct steerctl_apart {
	int (*watch)(const struct watch_options *options, char *error);
	int (*doctor)(const struct doctor_options *options);
};

/* Run one command line; answers go to out, everything else to err. Returns the exit code.
 * steerctl_full.c has all commands in this process, steerctl_light.c executes steerctl-full for some. */
int steerctl_run(int argc, char *const *argv, FILE *out, FILE *err);

/* The same. Without apart (NULL), the commands that need it do not return: see steerctl_execute.h. */
int steerctl_run_with(int argc, char *const *argv, const struct steerctl_apart *apart, FILE *out,
		      FILE *err);

#endif
