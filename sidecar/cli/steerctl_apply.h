/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * steerctl export and apply: all exceptions as one file (steerctl_list.h), out of steerd and back. The file
 * goes to steerd in many small requests on one connection, which it forgets if the connection ends before
 * the last of them.
 */
#ifndef TENANT_STEER_STEERCTL_APPLY_H
#define TENANT_STEER_STEERCTL_APPLY_H

#include <stdbool.h>
#include <stdio.h>

struct apply_request {
	const char *socket_path;
	const char *file;   /* "-": standard input */
	const char *reason; /* of revocations; NULL: steerd's own words */
	bool prune, dry_run;
	bool json;
	FILE *out, *err;
};

/* Each returns an exit code of steerctl's (steerctl_commands.h); what went wrong is on err. */
int apply_export(const char *socket_path, FILE *out, FILE *err);
int apply_file(const struct apply_request *request);

#endif
