/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "steerctl_commands.h"
#include "steerctl_doctor.h"
#include "steerctl_watch.h"

int steerctl_run(int argc, char *const *argv, FILE *out, FILE *err)
{
	static const struct steerctl_apart apart = { .watch = watch_run, .doctor = doctor_visit };

	return steerctl_run_with(argc, argv, &apart, out, err);
}
