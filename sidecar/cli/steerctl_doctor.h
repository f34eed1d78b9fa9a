/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * steerctl doctor: steerd's findings (doctor.h) and what needs other programs, as one answer. With
 * a configuration file the checks run here instead, for a steerd that is not running: a preflight,
 * which needs what steerd needs, CAP_NET_ADMIN.
 */
#ifndef TENANT_STEER_STEERCTL_DOCTOR_H
#define TENANT_STEER_STEERCTL_DOCTOR_H

#include <stdbool.h>
#include <stdio.h>

struct doctor_options {
	const char *socket_path;
	const char *config; /* NULL: ask steerd */
	bool json;
	FILE *out;
};

/* Look, and print what was found. 0: nothing above info, 1: something is, or a negative errno. */
int doctor_visit(const struct doctor_options *options);

#endif
