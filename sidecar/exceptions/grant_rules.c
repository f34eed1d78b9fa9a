/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "grant_rules.h"

#include <errno.h>
#include <string.h>

int grant_rules_lifetime(const struct settings *settings, const char *profile, bool is_try,
			 int64_t age_us, int64_t left_us, char error[EXCEPTIONS_ERROR_MAX])
{
	const int index = settings_profile_index(settings, profile);
	int64_t max;

	if (index < 0)
		return exceptions_refuse(error, -EINVAL,
					 "there is no profile \"%s\"; steerctl profiles lists them",
					 profile);
	if (left_us <= 0)
		return exceptions_refuse(error, -EINVAL,
					 "expires: an exception needs an end to come");
	if (is_try && age_us + left_us > SETTINGS_TRY_MAX_S * 1000000)
		return exceptions_refuse(
			error, -EINVAL,
			"expires: a try lasts at most %lld minutes; then grant what it showed",
			(long long)SETTINGS_TRY_MAX_S / 60);
	max = settings->profiles[index].max_lifetime_s;
	if (!max || age_us + left_us <= max * 1000000)
		return 0;
	return exceptions_refuse(
		error, -EINVAL,
		"expires: profile \"%s\" allows exceptions of at most %lld seconds "
		"(max_lifetime)%s",
		profile, (long long)max, age_us ? " from the first grant on" : "");
}

static int check_room(const struct grant_rules *rules, const char *name,
		      char error[EXCEPTIONS_ERROR_MAX])
{
	const struct tenant *tenant = model_find_tenant(rules->model, name);

	if (actives_count(rules->actives) >= EXCEPTIONS_MAX)
		return exceptions_refuse(error, -ENOBUFS,
					 "%d exceptions are active, more are not taken",
					 EXCEPTIONS_MAX);
	if (tenant && tenant->exception_count >= EXEMPTIONS_MAX)
		return exceptions_refuse(
			error, -ENOBUFS,
			"%d exceptions of this tenant are active, more are not taken",
			EXEMPTIONS_MAX);
	return 0;
}

/* The scope is canonical. */
static int check_try(const struct grant_rules *rules, const struct exception *exception,
		     char error[EXCEPTIONS_ERROR_MAX])
{
	char scope[SCOPE_TEXT_MAX];
	struct active *const *tries;
	unsigned count;

	if (strncmp(exception->scope, "host ", 5) != 0 &&
	    strncmp(exception->scope, "user ", 5) != 0)
		return exceptions_refuse(error, -EINVAL, "scope: a try is of one host or one user");
	tries = actives_tries(rules->actives, &count);
	if (count == ACTIVES_TRIES_MAX)
		return exceptions_refuse(error, -ENOBUFS,
					 "%u tries are under way, more are not taken", count);
	for (unsigned i = 0; i < count; i++) {
		scope_text(tries[i]->scope, scope);
		if (strcmp(tries[i]->tenant->name, exception->tenant) == 0 &&
		    strcmp(scope, exception->scope) == 0)
			return exceptions_refuse(
				error, -EEXIST,
				"exception %llu tries this host or user already, with "
				"profile \"%s\"",
				(unsigned long long)tries[i]->id, tries[i]->profile_name);
	}
	return 0;
}

int grant_rules_check(const struct grant_rules *rules, struct exception *exception,
		      char error[EXCEPTIONS_ERROR_MAX])
{
	char why[SCOPE_ERROR_MAX];
	int r = grant_rules_lifetime(rules->settings, exception->profile, record_is_try(exception),
				     0, exception->expires_at_us - exception->granted.wall_us,
				     error);

	if (r < 0)
		return r;
	r = record_canonical_scope(exception, why);
	if (r < 0)
		return exceptions_refuse(error, r, "%s", why);
	r = check_room(rules, exception->tenant, error);
	return r == 0 && record_is_try(exception) ? check_try(rules, exception, error) : r;
}
