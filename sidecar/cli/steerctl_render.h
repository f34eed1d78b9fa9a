/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * steerd's answers as text. Each takes the answer's tree; what is missing in it is shown as "-",
 * so that steerctl can talk to a newer or an older steerd. 0 or a negative errno.
 */
#ifndef TENANT_STEER_STEERCTL_RENDER_H
#define TENANT_STEER_STEERCTL_RENDER_H

#include <stdio.h>
#include <yajl/yajl_tree.h>

int render_status(FILE *out, yajl_val answer);
int render_tenants(FILE *out, yajl_val answer);
int render_exceptions(FILE *out, yajl_val answer);
int render_profiles(FILE *out, yajl_val answer);
int render_risk(FILE *out, yajl_val answer);
int render_grant(FILE *out, yajl_val answer);
int render_try_result(FILE *out, yajl_val answer);
int render_change(FILE *out, yajl_val answer);
int render_revoke(FILE *out, yajl_val answer);
int render_history(FILE *out, yajl_val answer);
int render_explain(FILE *out, yajl_val answer);
int render_doctor(FILE *out, yajl_val answer);
int render_resync(FILE *out, yajl_val answer);

/* Of "plan": the destinations. */
int render_plan(FILE *out, yajl_val plan);

/* One event as one line: time, type, tenant, then key=value. */
int render_event(FILE *out, yajl_val event);

#endif
