/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * steerctl plan: let steerd observe, ask until it has seen all, and print what a grant would let through,
 * with the command that would grant it. Progress goes to err, if that is a terminal.
 */
#ifndef TENANT_STEER_STEERCTL_PLAN_H
#define TENANT_STEER_STEERCTL_PLAN_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "steerctl_client.h"

#define PLAN_DEFAULT_S 60

struct plan_options {
	const char *socket_path;
	const char *tenant, *profile;
	const char *host, *prefix; /* NULL: the whole tenant */
	int64_t seconds;
	bool json;
	FILE *out, *err;
};

/* 0, or an errno with a sentence in error. */
int plan_run(const struct plan_options *options, char error[CLIENT_ERROR_MAX]);

#endif
