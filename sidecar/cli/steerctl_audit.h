/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * steerctl audit verify: fetch the audit log page by page, compute the chain here, and let steerd
 * compare each exception with its last entry. Prints what was found.
 */
#ifndef TENANT_STEER_STEERCTL_AUDIT_H
#define TENANT_STEER_STEERCTL_AUDIT_H

#include <stdbool.h>
#include <stdio.h>

#include "steerctl_client.h"

struct audit_options {
	const char *socket_path;
	const char *expect; /* a hash that the log must hold, or NULL */
	bool json;
	FILE *out;
};

/*
 * 0: the log is whole; -EBADMSG: it is not, and that is printed; or an errno with a sentence in error:
 * it could not be read.
 */
int audit_verify(const struct audit_options *options, char error[CLIENT_ERROR_MAX]);

#endif
