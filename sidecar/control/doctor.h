/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The doctor: what on this gateway would keep bypassed flows from working, or make bypassing
 * unsafe, each with the command that mends it. One table of checks (doctor.c); a check reports
 * what is wrong, or nothing, which is reported as in order.
 *
 * Only netlink, /proc and the caller's own state are read, nothing is changed and nobody is waited
 * for; what others have in the kernel is looked at up to a limit that is named when it is reached.
 * So steerd runs it in its loop, on request. steerctl runs it too, for a steerd that is not
 * running, and adds what needs other programs (steerctl_doctor.h). One thread.
 */
#ifndef TENANT_STEER_DOCTOR_H
#define TENANT_STEER_DOCTOR_H

#include <stdbool.h>
#include <stdint.h>

#include "json_writer.h"
#include "settings/settings.h"

/* Of the answer's shape: names may be added within a version. */
#define DOCTOR_VERSION 1
#define DOCTOR_TEXT_MAX 512
/* Of one check; the last one says how many more there are. */
#define DOCTOR_FINDINGS_MAX 8

enum doctor_severity {
	DOCTOR_OK,
	DOCTOR_INFO,    /* good to know */
	DOCTOR_WARNING, /* something works less well than it should */
	DOCTOR_ERROR,   /* bypassing does not work, or would not be safe */
};

/* What only a running steerd knows. */
struct doctor_daemon {
	enum steering_mode mode; /* AUTO: not decided */
	int pid;
	bool heard; /* charon's plugin, within lost_after */
	uint64_t unreadable;
	bool userspace_esp;      /* as charon says */
	const char *store_error; /* NULL: in order */
	bool store_unusable;     /* damaged, or of a newer release: no use in trying again */
	int64_t clock_step_us;   /* the last one since start, 0: none */
};

struct doctor_question {
	const struct settings *settings;
	const char *settings_file;
	const struct doctor_daemon *daemon; /* NULL: steerd is not running */
};

struct doctor_finding {
	const char *id; /* of the check */
	enum doctor_severity severity;
	const char *what; /* one sentence */
	const char *why;  /* it matters; NULL when in order */
	const char *fix;  /* a command for a root shell on the gateway; NULL: there is none */
};

/* Valid during the call. */
typedef void (*doctor_each)(void *user, const struct doctor_finding *finding);

void doctor_run(const struct doctor_question *question, doctor_each each, void *user);

const char *doctor_severity_name(enum doctor_severity severity);

/* One finding as an object of an array. */
void doctor_write(struct json_writer *w, const struct doctor_finding *finding);

#endif
