/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What may be granted: how long, to which part of a tenant, and how many at a time. Nothing is changed
 * but the texts of a scope, which are made canonical. One thread.
 */
#ifndef TENANT_STEER_GRANT_RULES_H
#define TENANT_STEER_GRANT_RULES_H

#include <stdbool.h>
#include <stdint.h>

#include "active.h"
#include "exceptions.h"
#include "settings/settings.h"
#include "tenants/model.h"

/* By what; the caller's. */
struct grant_rules {
	const struct settings *settings;
	const struct actives *actives;
	struct model *model; /* only looked at */
};

/*
 * May it be granted? 0; or with a sentence in error -EINVAL, -ENOMEM, -ENOBUFS (one too many), -EEXIST (a
 * second try of a host or user).
 */
int grant_rules_check(const struct grant_rules *rules, struct exception *exception,
		      char error[EXCEPTIONS_ERROR_MAX]);

/* May it last so long? age_us: how long the tenant has had it already. 0 or -EINVAL. */
int grant_rules_lifetime(const struct settings *settings, const char *profile, bool is_try,
			 int64_t age_us, int64_t left_us, char error[EXCEPTIONS_ERROR_MAX]);

#endif
