/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * steerctl doctor, as far as steerd can look: the doctor's checks with what this steerd knows.
 */
#include <unistd.h>

#include "commands.h"
#include "daemon.h"
#include "doctor.h"

static void write_finding(void *w, const struct doctor_finding *finding)
{
	doctor_write(w, finding);
}

int commands_doctor(void *user, const struct control_caller *caller, yajl_val request,
		    struct json_writer *w, char error[CONTROL_ERROR_MAX])
{
	struct daemon *daemon = user;
	const struct core *core = &daemon->core;
	const struct follow_status follow = follow_status(daemon->follow);
	const struct doctor_daemon facts = {
		.mode = steering_mode(core->steering),
		.pid = getpid(),
		.heard = follow.heard,
		.unreadable = follow.unreadable,
		.userspace_esp = core->userspace_esp,
		.store_error = exceptions_store_error(core->exceptions),
		.store_unusable = exceptions_store_unusable(core->exceptions),
		.clock_step_us = exceptions_clock_step(core->exceptions),
	};
	const struct doctor_question question = { daemon->settings, daemon->settings_file, &facts };

	(void)caller;
	(void)request;
	(void)error;
	json_object_begin(w, "doctor");
	json_uint(w, "version", DOCTOR_VERSION);
	/* for what steerctl looks at itself */
	json_uint(w, "mark_mask", daemon->settings->mark_mask);
	json_array_begin(w, "findings");
	doctor_run(&question, write_finding, w);
	json_array_end(w);
	json_object_end(w);
	return 0;
}
