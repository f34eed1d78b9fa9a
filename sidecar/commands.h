/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What steerctl may ask, one handler each; user is the struct daemon. See steerctl(1) for the JSON.
 */
#ifndef TENANT_STEER_COMMANDS_H
#define TENANT_STEER_COMMANDS_H

#include "control.h"

/* Ends with a NULL name. */
extern const struct control_command commands[];

/* explain, doctor and profiles have files of their own. */
int commands_explain(void *user, const struct control_caller *caller, yajl_val request,
		     struct json_writer *w, char error[CONTROL_ERROR_MAX]);
int commands_doctor(void *user, const struct control_caller *caller, yajl_val request,
		    struct json_writer *w, char error[CONTROL_ERROR_MAX]);
int commands_profiles(void *user, const struct control_caller *caller, yajl_val request,
		      struct json_writer *w, char error[CONTROL_ERROR_MAX]);

#endif
