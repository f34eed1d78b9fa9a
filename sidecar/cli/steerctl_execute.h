/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * steerctl-full: all commands in one program, with the libraries that some of them need. steerctl
 * executes it for those, with the same arguments, so that the others start without.
 */
#ifndef TENANT_STEER_STEERCTL_EXECUTE_H
#define TENANT_STEER_STEERCTL_EXECUTE_H

#include <limits.h>

#define EXECUTE_ERROR_MAX (PATH_MAX + 128)

/*
 * Become steerctl-full: the one beside this program, as in a build tree, or else the one in
 * PKGLIBEXECDIR; PATH and the current directory do not count, and neither does a sticky directory,
 * such as /tmp. Returns only if that fails: a negative errno with error filled.
 */
int execute_full(char *const *argv, char error[EXECUTE_ERROR_MAX]);

#endif
