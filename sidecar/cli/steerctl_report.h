/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * steerctl report: fetch the exceptions of a month and what they were used for, page by page, and print
 * them tenant by tenant, for a person or as one JSON object.
 */
#ifndef TENANT_STEER_STEERCTL_REPORT_H
#define TENANT_STEER_STEERCTL_REPORT_H

#include <stdbool.h>
#include <stdio.h>

#include "steerctl_client.h"

struct report_options {
	const char *socket_path;
	const char *tenant; /* NULL: all */
	const char *month;  /* "2026-01"; NULL: the current one */
	bool json;
	FILE *out;
};

/* 0, or an errno with a sentence in error. */
int report_run(const struct report_options *options, char error[CLIENT_ERROR_MAX]);

#endif
