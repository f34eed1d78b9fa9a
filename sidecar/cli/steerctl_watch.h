/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * steerctl watch: the operators' stream, live, without gaps and without duplicates.
 *
 * steerd's stream may lose messages (a slow reader, a reconnect) and says so by the seq of the
 * next event or heartbeat; what is missing is then asked for on the control socket. What steerd
 * does not keep any more is reported on err.
 */
#ifndef TENANT_STEER_STEERCTL_WATCH_H
#define TENANT_STEER_STEERCTL_WATCH_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "steerctl_client.h"

struct watch_options {
	const char *socket_path;
	const char *tenant; /* NULL: all */
	bool has_since;
	uint64_t since; /* print the kept events after this seq first */
	bool json;
	FILE *out;
	FILE *err;
};

/* Until SIGINT or SIGTERM (0) or until out cannot be written any more (0). A negative errno with
 * error filled when steerd cannot be asked at the start. */
int watch_run(const struct watch_options *options, char error[CLIENT_ERROR_MAX]);

#endif
