/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "exceptions.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "clock.h"
#include "log.h"

/* What adjusting a clock in small steps does is not setting it. */
#define CLOCK_STEP_MIN_US 1000000

struct active {
	uint64_t id;
	int64_t expires_at_us; /* 0: never; by the clock as it goes now, so it may be earlier than
				  granted */
	struct tenant *tenant;
	int profile; /* index, or -1: no such profile now */
	struct active *prev, *next;
	char profile_name[]; /* as on disk */
};

/* An end that the disk has not taken yet. */
struct ending {
	uint64_t id;
	int64_t at_us;
	char by[STORE_TEXT_MAX];
	char reason[STORE_TEXT_MAX];
	struct ending *next;
};

struct exceptions {
	struct model *model;
	const struct settings *settings;
	struct store *store;
	struct active *active;
	struct ending *endings;
	unsigned count;
	char error[SETTINGS_ERROR_MAX]; /* of the store; "": in order */
	int error_number;
	int64_t clock_ahead_us; /* time of day less the monotonic clock, as last seen; 0: not yet */
	int64_t clock_step_us;
};

struct exceptions *exceptions_new(struct model *model)
{
	struct exceptions *exceptions = calloc(1, sizeof(*exceptions));

	if (exceptions)
		exceptions->model = model;
	return exceptions;
}

/* The model's exemption of a tenant is what the active exceptions say, nothing else. */
static void drop_active(struct exceptions *exceptions, struct active *active)
{
	struct tenant *tenant = active->tenant;

	DL_DELETE(exceptions->active, active);
	exceptions->count--;
	tenant->exception_count--;
	if (active->profile >= 0)
		model_set_exempt(exceptions->model, tenant, (unsigned)active->profile, 0);
	model_touch(exceptions->model, tenant);
	free(active);
}

static void drop_all(struct exceptions *exceptions)
{
	struct active *active, *next;

	DL_FOREACH_SAFE(exceptions->active, active, next)
		drop_active(exceptions, active);
}

static void set_exempt(struct exceptions *exceptions, const struct active *active)
{
	if (active->profile >= 0)
		model_set_exempt(exceptions->model, active->tenant, (unsigned)active->profile,
				 active->expires_at_us ? active->expires_at_us : EXEMPT_FOREVER);
}

static int add_active(struct exceptions *exceptions, const struct exception *exception)
{
	struct tenant *tenant = model_tenant(exceptions->model, exception->tenant);
	struct active *active = calloc(1, sizeof(*active) + strlen(exception->profile) + 1);

	if (!tenant || !active) {
		free(active);
		return -ENOMEM;
	}
	active->id = exception->id;
	active->expires_at_us = exception->expires_at_us;
	active->tenant = tenant;
	active->profile = settings_profile_index(exceptions->settings, exception->profile);
	strcpy(active->profile_name, exception->profile);
	tenant->exception_count++;
	DL_APPEND(exceptions->active, active);
	exceptions->count++;
	set_exempt(exceptions, active);
	return 0;
}

static bool is_ending(const struct exceptions *exceptions, uint64_t id)
{
	const struct ending *ending;

	LL_FOREACH(exceptions->endings, ending)
		if (ending->id == id)
			return true;
	return false;
}

static void queue_ending(struct exceptions *exceptions, uint64_t id, const char *by,
			 const char *reason)
{
	struct ending *ending = calloc(1, sizeof(*ending));

	if (!ending) {
		log_error("exceptions", "no memory: the end of exception %llu is not on disk",
			  (unsigned long long)id);
		return;
	}
	ending->id = id;
	ending->at_us = clock_wall_us();
	snprintf(ending->by, sizeof(ending->by), "%s", by);
	snprintf(ending->reason, sizeof(ending->reason), "%s", reason);
	LL_APPEND(exceptions->endings, ending);
}

static void load_one(const struct exception *exception, void *user)
{
	struct exceptions *exceptions = user;

	if (is_ending(exceptions, exception->id))
		return;
	if (exception->expires_at_us && exception->expires_at_us <= clock_wall_us()) {
		queue_ending(exceptions, exception->id, "steerd", "expired");
		return;
	}
	if (exceptions->count >= EXCEPTIONS_MAX || add_active(exceptions, exception) < 0) {
		log_error("exceptions", "no room for exception %llu of \"%s\", enforcing it",
			  (unsigned long long)exception->id, exception->tenant);
		return;
	}
	if (settings_profile_index(exceptions->settings, exception->profile) < 0)
		log_warning(
			"exceptions",
			"exception %llu of \"%s\" names profile \"%s\", which steerd.conf does not "
			"have, enforcing it",
			(unsigned long long)exception->id, exception->tenant, exception->profile);
}

static int fail(struct exceptions *exceptions, int r, const char *doing, const char *why)
{
	snprintf(exceptions->error, sizeof(exceptions->error), "cannot %s %s: %s", doing,
		 exceptions->settings->sqlite, why);
	log_error("store", "%s", exceptions->error);
	exceptions->error_number = r;
	return r;
}

/* An end that was moved, because the clock was set back, while the store is read again. */
struct moved {
	uint64_t id;
	int64_t expires_at_us;
};

/* Both lists are in the order of ids. */
static void move_again(struct exceptions *exceptions, const struct moved *moved, size_t count)
{
	struct active *active;
	size_t i = 0;

	DL_FOREACH(exceptions->active, active) {
		while (i < count && moved[i].id < active->id)
			i++;
		if (i == count || moved[i].id != active->id ||
		    moved[i].expires_at_us >= active->expires_at_us)
			continue;
		active->expires_at_us = moved[i].expires_at_us;
		set_exempt(exceptions, active);
	}
}

static struct moved *ends_of(const struct exceptions *exceptions, size_t *ret_count)
{
	struct moved *moved = calloc(exceptions->count + 1, sizeof(*moved));
	const struct active *active;

	*ret_count = 0;
	if (moved)
		DL_FOREACH(exceptions->active, active)
			if (active->expires_at_us)
				moved[(*ret_count)++] = (struct moved){ active->id,
									active->expires_at_us };
	return moved;
}

static int load(struct exceptions *exceptions, const struct settings *settings)
{
	const char *why = "";
	int r;

	drop_all(exceptions);
	exceptions->settings = settings;
	store_close(exceptions->store);
	exceptions->store = NULL;
	exceptions->error[0] = '\0';
	r = store_open(settings->sqlite, &exceptions->store, &why);
	if (r < 0)
		return fail(exceptions, r, "use", why);
	r = store_each_active(exceptions->store, load_one, exceptions);
	if (r < 0) {
		drop_all(exceptions);
		return fail(exceptions, r, "read", store_error(exceptions->store));
	}
	return 0;
}

int exceptions_load(struct exceptions *exceptions, const struct settings *settings)
{
	size_t count;
	struct moved *moved = ends_of(exceptions, &count);
	int r = moved ? load(exceptions, settings) : -ENOMEM;

	if (r == 0)
		move_again(exceptions, moved, count);
	free(moved);
	return r;
}

/* A file whose contents cannot be trusted grants nothing. */
static int note_store(struct exceptions *exceptions, int r, const char *doing)
{
	if (r == 0 || r == -EEXIST || r == -ENOENT) {
		exceptions->error[0] = '\0';
		return r;
	}
	fail(exceptions, r, doing, store_error(exceptions->store));
	if (store_damaged(exceptions->store)) {
		log_error("store", "the database is damaged, enforcing for every tenant");
		drop_all(exceptions);
	}
	return r;
}

static int check_lifetime(const struct exceptions *exceptions, int profile,
			  const struct exception *exception, const char **ret_error)
{
	static char error[160];
	const int64_t max = exceptions->settings->profiles[profile].max_lifetime_s;

	if (!max || (exception->expires_at_us &&
		     exception->expires_at_us - exception->granted_at_us <= max * 1000000))
		return 0;
	snprintf(error, sizeof(error),
		 "profile \"%s\" allows exceptions of at most %lld seconds (max_lifetime); give "
		 "--expires",
		 exception->profile, (long long)max);
	*ret_error = error;
	return -EINVAL;
}

static bool has_active(const struct exceptions *exceptions, const struct exception *exception)
{
	const struct active *active;

	DL_FOREACH(exceptions->active, active)
		if (!strcmp(active->tenant->name, exception->tenant) &&
		    !strcmp(active->profile_name, exception->profile))
			return true;
	return false;
}

/* The disk may not have taken yet that the one before has ended. */
static int write_grant(struct exceptions *exceptions, struct exception *exception)
{
	int r = store_grant(exceptions->store, exception, &exception->id);

	if (r == -EEXIST && !has_active(exceptions, exception)) {
		r = exceptions_settle(exceptions);
		if (r == 0)
			r = store_grant(exceptions->store, exception, &exception->id);
	}
	return note_store(exceptions, r, "write");
}

int exceptions_grant(struct exceptions *exceptions, struct exception *exception,
		     const char **ret_error)
{
	int profile = settings_profile_index(exceptions->settings, exception->profile);
	int r;

	exception->granted_at_us = clock_wall_us();
	if (profile < 0) {
		*ret_error = "there is no such profile; steerctl profiles lists them";
		return -EINVAL;
	}
	r = check_lifetime(exceptions, profile, exception, ret_error);
	if (r < 0)
		return r;
	*ret_error = exceptions->error;
	if (!exceptions->store)
		return -EUCLEAN;
	if (exceptions->count >= EXCEPTIONS_MAX) {
		*ret_error = "too many exceptions are active";
		return -ENOSPC;
	}
	r = write_grant(exceptions, exception);
	if (r == -EEXIST)
		*ret_error = "this tenant has an active exception for this profile already";
	if (r == 0)
		r = add_active(exceptions, exception);
	return r;
}

unsigned exceptions_revoke(struct exceptions *exceptions, const char *tenant, const char *profile,
			   const char *by, const char *reason, struct revoked *ret_revoked)
{
	struct active *active, *next;
	unsigned count = 0;

	DL_FOREACH_SAFE(exceptions->active, active, next) {
		if (strcmp(active->tenant->name, tenant) ||
		    (profile && strcmp(active->profile_name, profile)) ||
		    count == SETTINGS_PROFILES_MAX)
			continue;
		ret_revoked[count].id = active->id;
		strcpy(ret_revoked[count++].profile, active->profile_name);
		queue_ending(exceptions, active->id, by, reason);
		drop_active(exceptions, active);
	}
	return count;
}

int exceptions_settle(struct exceptions *exceptions)
{
	while (exceptions->endings) {
		struct ending *ending = exceptions->endings;
		int r = exceptions->store ? store_end(exceptions->store, ending->id, ending->at_us,
						      ending->by, ending->reason)
					  : -EUCLEAN;

		if (exceptions->store)
			r = note_store(exceptions, r, "write");
		if (r < 0 && r != -ENOENT)
			return r;
		LL_DELETE(exceptions->endings, ending);
		free(ending);
	}
	return 0;
}

static void move_ends(struct exceptions *exceptions, int64_t step)
{
	struct active *active;

	DL_FOREACH(exceptions->active, active) {
		if (!active->expires_at_us)
			continue;
		active->expires_at_us += step;
		set_exempt(exceptions, active);
	}
}

/* The kernel's own timeouts do not follow the clock, so after this both end at the same moment. */
static void follow_clock(struct exceptions *exceptions, int64_t now, int64_t monotonic)
{
	const int64_t ahead = now - monotonic, step = ahead - exceptions->clock_ahead_us;
	const bool first = !exceptions->clock_ahead_us;

	if (first || step <= -CLOCK_STEP_MIN_US || step >= CLOCK_STEP_MIN_US)
		exceptions->clock_ahead_us = ahead;
	else
		return;
	if (first)
		return;
	log_warning("exceptions", "the clock was set %s by %lld s%s", step < 0 ? "back" : "forward",
		    (long long)(step < 0 ? -step : step) / 1000000,
		    step < 0 ? "; exceptions end as if it had not been" : "");
	exceptions->clock_step_us = step;
	if (step < 0)
		move_ends(exceptions, step);
}

void exceptions_expire(struct exceptions *exceptions, int64_t now, int64_t monotonic,
		       void (*each)(void *user, const char *tenant, const char *profile,
				    uint64_t id),
		       void *user)
{
	struct active *active, *next;

	follow_clock(exceptions, now, monotonic);
	DL_FOREACH_SAFE(exceptions->active, active, next) {
		if (!active->expires_at_us || active->expires_at_us > now)
			continue;
		each(user, active->tenant->name, active->profile_name, active->id);
		queue_ending(exceptions, active->id, "steerd", "expired");
		drop_active(exceptions, active);
	}
}

int exceptions_each(struct exceptions *exceptions, bool all,
		    void (*each)(const struct exception *, void *), void *user)
{
	int r = exceptions->store ? store_each_active(exceptions->store, each, user) : -EUCLEAN;

	if (r == 0 && all)
		r = store_each_ended(exceptions->store, EXCEPTIONS_ENDED_MAX, each, user);
	return r;
}

unsigned exceptions_count(const struct exceptions *exceptions)
{
	return exceptions->count;
}

const char *exceptions_store_error(const struct exceptions *exceptions)
{
	return *exceptions->error ? exceptions->error : NULL;
}

bool exceptions_store_unusable(const struct exceptions *exceptions)
{
	return *exceptions->error && exceptions->error_number == -EUCLEAN;
}

int64_t exceptions_clock_step(const struct exceptions *exceptions)
{
	return exceptions->clock_step_us;
}

void exceptions_free(struct exceptions *exceptions)
{
	struct ending *ending, *next;

	if (!exceptions)
		return;
	drop_all(exceptions);
	LL_FOREACH_SAFE(exceptions->endings, ending, next)
	free(ending);
	store_close(exceptions->store);
	free(exceptions);
}
