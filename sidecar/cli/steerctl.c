/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <locale.h>
#include <stdio.h>

#include "steerctl_commands.h"

int main(int argc, char **argv)
{
	int code;

	setlocale(LC_CTYPE, "");
	code = steerctl_run(argc, argv, stdout, stderr);
	if (fflush(stdout) != 0 && code == STEERCTL_OK) {
		perror("steerctl: stdout");
		return STEERCTL_FAILED;
	}
	return code;
}
