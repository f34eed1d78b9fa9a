/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * steerctl try: begin one, wait for its end if told to, and print which flows used it and the grant that
 * fits. Whoever waits may stop waiting: the try goes on and ends by itself.
 */
#ifndef TENANT_STEER_STEERCTL_TRY_H
#define TENANT_STEER_STEERCTL_TRY_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "steerctl_client.h"

struct try_options {
	const char *socket_path;
	const char *request; /* that begins it; NULL: only print the report of id */
	uint64_t id;
	bool wait;
	bool json; /* each answer on a line */
	FILE *out;
};

/* 0, or an errno with a sentence in error. */
int try_run(const struct try_options *options, char error[CLIENT_ERROR_MAX]);

#endif
