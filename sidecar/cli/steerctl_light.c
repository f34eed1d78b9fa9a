/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stddef.h>

#include "steerctl_commands.h"

int steerctl_run(int argc, char *const *argv, FILE *out, FILE *err)
{
	return steerctl_run_with(argc, argv, NULL, out, err);
}
