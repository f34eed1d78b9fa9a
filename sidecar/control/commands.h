/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What steerctl may ask, one handler each; user is the struct daemon. See steerctl(1) for the JSON.
 */
#ifndef TENANT_STEER_COMMANDS_H
#define TENANT_STEER_COMMANDS_H

#include "control.h"
#include "event.h"
#include "exceptions/store.h"
#include "record/record.h"

struct daemon;

/* Ends with a NULL name. */
extern const struct control_command commands[];

/* Handlers in files of their own. */
#define COMMANDS_HANDLER(name)                                                                     \
	int name(void *user, const struct control_caller *caller, yajl_val request,                \
		 struct json_writer *w, char error[CONTROL_ERROR_MAX])

COMMANDS_HANDLER(commands_risk); /* commands_exceptions.c */
COMMANDS_HANDLER(commands_exceptions);
COMMANDS_HANDLER(commands_grant);
COMMANDS_HANDLER(commands_change);
COMMANDS_HANDLER(commands_revoke);
COMMANDS_HANDLER(commands_export); /* commands_apply.c */
COMMANDS_HANDLER(commands_apply_begin);
COMMANDS_HANDLER(commands_apply_add);
COMMANDS_HANDLER(commands_apply_diff);
COMMANDS_HANDLER(commands_apply_commit);
COMMANDS_HANDLER(commands_try); /* commands_try.c */
COMMANDS_HANDLER(commands_try_result);
COMMANDS_HANDLER(commands_history); /* commands_audit.c */
COMMANDS_HANDLER(commands_audit);
COMMANDS_HANDLER(commands_audit_records);
COMMANDS_HANDLER(commands_explain); /* explain.c */
COMMANDS_HANDLER(commands_doctor);
COMMANDS_HANDLER(commands_profiles);
COMMANDS_HANDLER(commands_report); /* commands_report.c */
COMMANDS_HANDLER(commands_plan);   /* commands_plan.c */
COMMANDS_HANDLER(commands_plan_result);

/* With "at": from the audit log (explain_at.c). */
int explain_at(struct daemon *daemon, yajl_val request, struct json_writer *w,
	       char error[CONTROL_ERROR_MAX]);
/* An entry of the audit log, as history has it. */
void commands_write_entry(struct store *store, struct json_writer *w,
			  const struct audit_entry *entry);

/* For control_on_end(): forget what that connection has staged, and asked about flows. */
void commands_end(void *user, uint64_t connection);

/* Why a command is refused, made as by printf; returns r. */
int commands_refuse(char error[CONTROL_ERROR_MAX], int r, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* What grants have in common, wherever they come from. May it be granted, by its settings? */
int commands_check_profile(const struct daemon *daemon, const char *name,
			   char error[CONTROL_ERROR_MAX]);
void commands_publish_record(struct daemon *daemon, enum event_type type,
			     const struct exception *exception, const char *actor);

/*
 * What a grant and a try have in common. Read a request: what ret has already of profile and end is taken
 * if the request does not say it. Then grant it, tell the operators, and write the answer.
 */
int commands_read_grant(yajl_val request, struct exception *ret, char error[CONTROL_ERROR_MAX]);
int commands_grant_record(struct daemon *daemon, const struct control_caller *caller,
			  struct exception *exception, struct json_writer *w,
			  char error[CONTROL_ERROR_MAX]);
void commands_write_exception(struct json_writer *w, const char *key,
			      const struct exception *exception);

#endif
