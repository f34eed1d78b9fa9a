/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "exceptions.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "active.h"
#include "audit_tell.h"
#include "base/clock.h"
#include "base/log.h"
#include "endings.h"
#include "grant_rules.h"
#include "record/risk.h"

_Static_assert(SCOPE_TEXT_MAX <= RECORD_TEXT_MAX, "a record holds every scope");
_Static_assert(SCOPE_DESTINATIONS_TEXT_MAX <= RECORD_DESTINATIONS_MAX,
	       "a record holds every list of destinations");

struct exceptions {
	struct model *model;
	const struct settings *settings;
	struct store *store;
	struct store *batch; /* NULL: none is being written */
	uint64_t generation;
	struct actives *actives;
	struct actives *before; /* those of before, while the store is read again */
	struct endings endings;
	struct clock_reading at; /* when the clock was last looked at */
	int64_t clock_step_us;
	char error[SETTINGS_ERROR_MAX]; /* of the store; "": in order */
	int error_number;
	unsigned store_changes;
};

struct exceptions *exceptions_new(struct model *model)
{
	struct exceptions *exceptions = calloc(1, sizeof(*exceptions));

	if (!exceptions)
		return NULL;
	exceptions->model = model;
	exceptions->actives = actives_new();
	if (!exceptions->actives) {
		free(exceptions);
		return NULL;
	}
	exceptions->at = clock_read();
	return exceptions;
}

int exceptions_refuse(char error[EXCEPTIONS_ERROR_MAX], int r, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(error, EXCEPTIONS_ERROR_MAX, format, args);
	va_end(args);
	return r;
}

/* In memory and in the model */

/* The model's exemption of a tenant is what the active exceptions say, nothing else. */
static void withdraw(struct exceptions *exceptions, const struct active *active)
{
	struct tenant *tenant = active->tenant;

	tenant->exception_count--;
	if (active->profile >= 0)
		model_set_exempt(exceptions->model, tenant, (unsigned)active->profile,
				 active->scope, 0);
	model_touch(exceptions->model, tenant);
}

static void drop_active(struct exceptions *exceptions, struct active *active)
{
	withdraw(exceptions, active);
	actives_remove(exceptions->actives, active);
}

/* What is to be written at once was compared with what there was before this change. */
static void begin_change(struct exceptions *exceptions)
{
	exceptions->generation++;
	exceptions_end_batch(exceptions);
}

static void drop_all(struct exceptions *exceptions)
{
	begin_change(exceptions);
	while (actives_first(exceptions->actives))
		drop_active(exceptions, actives_first(exceptions->actives));
}

static void set_exempt(void *user, const struct active *active)
{
	struct exceptions *exceptions = user;

	if (active->profile >= 0)
		model_set_exempt(exceptions->model, active->tenant, (unsigned)active->profile,
				 active->scope,
				 active->kernel_end_us ? active->kernel_end_us : EXEMPT_FOREVER);
}

static int add_active(struct exceptions *exceptions, const struct exception *exception)
{
	struct tenant *tenant = model_tenant(exceptions->model, exception->tenant);
	const struct clock_reading now = clock_read();
	const struct active *before = NULL;
	struct active *active = NULL;

	if (tenant)
		active = actives_add(
			exceptions->actives, exception, tenant,
			settings_profile_index(exceptions->settings, exception->profile), &now);
	if (!active)
		return -ENOMEM;
	/* One from before version 2 of the store says nothing of when its end was set. */
	if (exceptions->before)
		before = actives_find(exceptions->before, exception->id);
	if (before && before->wall_end_us == active->wall_end_us)
		actives_limit(exceptions->actives, active, before->boot_end_us, &now);
	tenant->exception_count++;
	set_exempt(exceptions, active);
	return 0;
}

/* Ends that wait for the disk */

static void queue_expiry(struct exceptions *exceptions, uint64_t id)
{
	const struct actor steerd = { .uid = geteuid(), .name = "steerd" };

	endings_add(&exceptions->endings, ENDINGS_EXPIRIES, id, &steerd, "expired");
}

/* The store */

static int fail(struct exceptions *exceptions, int r, const char *doing, const char *why)
{
	char error[sizeof(exceptions->error)];

	snprintf(error, sizeof(error), "cannot %s %s: %s", doing, exceptions->settings->sqlite,
		 why);
	exceptions->error_number = r;
	if (strcmp(error, exceptions->error) == 0)
		return r;
	memcpy(exceptions->error, error, sizeof(error));
	exceptions->store_changes++;
	log_error("store", "%s", error);
	return r;
}

static void clear_error(struct exceptions *exceptions)
{
	if (!*exceptions->error)
		return;
	exceptions->error[0] = '\0';
	exceptions->store_changes++;
	log_info("store", "%s can be used again", exceptions->settings->sqlite);
}

/* No such exception, one too many: nothing is wrong with the disk. */
static bool is_answer(int r)
{
	return r == -EEXIST || r == -ENOENT || r == -ESTALE || r == -EINVAL;
}

/* A file whose contents cannot be trusted grants nothing, also if it seems to take a grant. */
static int note_read(struct exceptions *exceptions, int r, const char *doing)
{
	if (r == 0 || is_answer(r))
		return r;
	fail(exceptions, r, doing, store_error(exceptions->store));
	if (store_damaged(exceptions->store)) {
		log_error("store", "the database is damaged, enforcing for every tenant");
		drop_all(exceptions);
		store_close(exceptions->store);
		exceptions->store = NULL;
	}
	return r;
}

/* Only a write shows that the disk takes some. */
static int note_write(struct exceptions *exceptions, int r)
{
	if (r == 0)
		clear_error(exceptions);
	return note_read(exceptions, r, "write");
}

static void tell_no_force(const struct active *active, const struct exception *exception)
{
	char why[SCOPE_ERROR_MAX] = "steerd.conf has no such profile";
	struct scope *scope = NULL;

	if (active->profile >= 0)
		return;
	scope_parse(exception->scope, exception->destinations, &scope, why);
	scope_free(scope);
	log_warning("exceptions", "exception %llu of \"%s\" for profile \"%s\": %s; enforcing it",
		    (unsigned long long)exception->id, exception->tenant, exception->profile, why);
}

static void load_one(const struct exception *exception, void *user)
{
	struct exceptions *exceptions = user;
	struct active *active;

	if (endings_have(&exceptions->endings, exception->id))
		return;
	if (actives_count(exceptions->actives) >= EXCEPTIONS_MAX ||
	    add_active(exceptions, exception) < 0) {
		log_error("exceptions", "no room for exception %llu of \"%s\", enforcing it",
			  (unsigned long long)exception->id, exception->tenant);
		return;
	}
	active = actives_find(exceptions->actives, exception->id);
	tell_no_force(active, exception);
	if (active->expires_at_us && active->expires_at_us <= exceptions->at.wall_us) {
		queue_expiry(exceptions, exception->id);
		drop_active(exceptions, active);
	}
}

static int load(struct exceptions *exceptions)
{
	const char *why = "";
	int r;

	store_close(exceptions->store);
	exceptions->store = NULL;
	r = store_open(exceptions->settings->sqlite, &exceptions->store, &why);
	if (r < 0)
		return fail(exceptions, r, "use", why);
	r = store_each_active(exceptions->store, load_one, exceptions);
	if (r < 0) {
		drop_all(exceptions);
		return note_read(exceptions, r, "read");
	}
	clear_error(exceptions);
	return 0;
}

int exceptions_load(struct exceptions *exceptions, const struct settings *settings)
{
	struct actives *fresh = actives_new();
	struct active *active;
	int r;

	begin_change(exceptions);
	exceptions->at = clock_read();
	exceptions->settings = settings;
	if (!fresh) {
		drop_all(exceptions);
		return fail(exceptions, -ENOMEM, "read", "no memory");
	}
	for (active = actives_first(exceptions->actives); active; active = active->hh.next)
		withdraw(exceptions, active);
	exceptions->before = exceptions->actives;
	exceptions->actives = fresh;
	r = load(exceptions);
	actives_free(exceptions->before);
	exceptions->before = NULL;
	return r;
}

/* Grant and change */

static void accept_risk(struct exception *exception)
{
	exception->risk_version = RISK_VERSION;
	risk_sha256(exception->risk_sha256);
}

static int check_store(const struct exceptions *exceptions, char error[EXCEPTIONS_ERROR_MAX])
{
	return exceptions->store ? 0
				 : exceptions_refuse(error, exceptions->error_number, "%s",
						     exceptions->error);
}

/* What the disk said, with the name of the file if something is wrong with it. */
static int refuse_store(const struct exceptions *exceptions, int r,
			char error[EXCEPTIONS_ERROR_MAX])
{
	return exceptions_refuse(error, r, "%s",
				 *exceptions->error || !exceptions->store
					 ? exceptions->error
					 : store_error(exceptions->store));
}

static const struct active *find_twin(const struct exceptions *exceptions,
				      const struct exception *exception)
{
	const struct active *active = actives_of(exceptions->actives, exception->tenant);
	struct scope *scope = NULL;
	char why[SCOPE_ERROR_MAX];

	if (scope_parse(exception->scope, exception->destinations, &scope, why) < 0)
		return NULL;
	while (active && (active->unreadable || scope_compare(active->scope, scope) != 0 ||
			  strcmp(active->profile_name, exception->profile) != 0))
		active = active->tenant_next;
	scope_free(scope);
	return active;
}

/* Which one is in the way, so that it can be changed or revoked. */
static int refuse_twin(const struct active *twin, char error[EXCEPTIONS_ERROR_MAX])
{
	return exceptions_refuse(
		error, -EEXIST,
		"this tenant has an active exception for this profile and scope already: %llu; "
		"steerctl change can give it another end",
		(unsigned long long)twin->id);
}

/* The disk may not have taken yet that the one before has ended. */
static int write_grant(struct exceptions *exceptions, struct exception *exception)
{
	int r = note_write(exceptions, store_grant(exceptions->store, exception));
	int settled = 1;

	if (r != -EEXIST || find_twin(exceptions, exception))
		return r;
	while (settled > 0)
		settled = exceptions_settle(exceptions);
	return settled < 0 ? settled
			   : note_write(exceptions, store_grant(exceptions->store, exception));
}

int exceptions_check_grant(const struct exceptions *exceptions, struct exception *exception,
			   char error[EXCEPTIONS_ERROR_MAX])
{
	const struct grant_rules rules = { exceptions->settings, exceptions->actives,
					   exceptions->model };
	int r;

	exception->granted = exception->end_set = clock_read();
	accept_risk(exception);
	r = check_store(exceptions, error);
	return r < 0 ? r : grant_rules_check(&rules, exception, error);
}

int exceptions_grant(struct exceptions *exceptions, struct exception *exception,
		     char error[EXCEPTIONS_ERROR_MAX])
{
	int r = exceptions_check_grant(exceptions, exception, error);

	if (r < 0)
		return r;
	begin_change(exceptions);
	r = write_grant(exceptions, exception);
	if (r == -EEXIST && find_twin(exceptions, exception))
		return refuse_twin(find_twin(exceptions, exception), error);
	if (r == 0)
		r = add_active(exceptions, exception);
	return r == 0 ? 0 : refuse_store(exceptions, r, error);
}

/* Whoever comes second hears what the first did. */
static int check_version(const struct exceptions *exceptions, const struct active *active,
			 uint64_t if_version, char error[EXCEPTIONS_ERROR_MAX])
{
	char since[EXCEPTIONS_ERROR_MAX / 2] = "";

	if (!if_version || active->version == if_version)
		return 0;
	if (exceptions->store)
		audit_tell_since(exceptions->store, active->id, if_version, since, sizeof(since));
	return exceptions_refuse(
		error, -ESTALE, "exception %llu has version %llu by now, not %llu%s%s",
		(unsigned long long)active->id, (unsigned long long)active->version,
		(unsigned long long)if_version, *since ? ": " : "", since);
}

/* It may have been ended by somebody else just now. */
static int refuse_ended(const struct exceptions *exceptions, uint64_t id,
			char error[EXCEPTIONS_ERROR_MAX])
{
	char since[EXCEPTIONS_ERROR_MAX / 2] = "";

	if (exceptions->store)
		audit_tell_since(exceptions->store, id, 1, since, sizeof(since));
	return exceptions_refuse(
		error, -ENOENT,
		"exception %llu is not active; steerctl exceptions lists those that are%s%s",
		(unsigned long long)id, *since ? "; " : "", since);
}

static int check_change(const struct exceptions *exceptions, const struct active *active,
			const struct exceptions_change *change, char error[EXCEPTIONS_ERROR_MAX])
{
	const struct clock_reading now = clock_read();
	int r = check_version(exceptions, active, change->if_version, error);

	if (r == 0)
		r = check_store(exceptions, error);
	if (r < 0 || !change->expires_at_us)
		return r;
	if (active->expires_at_us && change->expires_at_us > active->expires_at_us &&
	    !(change->risk_accepted && change->accepted_by))
		return exceptions_refuse(error, -EINVAL, "%s", RISK_NEEDED_AGAIN);
	return grant_rules_lifetime(exceptions->settings, active->profile_name, active->is_try,
				    active_age_us(active, &now),
				    change->expires_at_us - now.wall_us, error);
}

static void set_text(char *field, const char *text)
{
	if (text)
		snprintf(field, RECORD_TEXT_MAX, "%s", text);
}

static void apply_change(struct exception *exception, const struct exceptions_change *change)
{
	exception->version++;
	set_text(exception->reason, change->reason);
	set_text(exception->change_request, change->change_request);
	set_text(exception->accepted_by, change->accepted_by);
	if (change->risk_accepted)
		accept_risk(exception);
	if (!change->expires_at_us)
		return;
	exception->expires_at_us = change->expires_at_us;
	exception->end_set = clock_read();
}

int exceptions_check_change(struct exceptions *exceptions, uint64_t id,
			    const struct exceptions_change *change, struct exception *ret,
			    char error[EXCEPTIONS_ERROR_MAX])
{
	struct active *active = actives_find(exceptions->actives, id);
	int r;

	if (!active)
		return refuse_ended(exceptions, id, error);
	r = check_change(exceptions, active, change, error);
	if (r < 0)
		return r;
	r = note_read(exceptions, store_find(exceptions->store, id, ret), "read");
	if (r < 0)
		return refuse_store(exceptions, r, error);
	apply_change(ret, change);
	return 0;
}

int exceptions_change(struct exceptions *exceptions, uint64_t id,
		      const struct exceptions_change *change, const struct actor *actor,
		      struct exception *ret, char error[EXCEPTIONS_ERROR_MAX])
{
	int r = exceptions_check_change(exceptions, id, change, ret, error);

	if (r < 0)
		return r;
	begin_change(exceptions);
	r = note_write(exceptions, store_change(exceptions->store, ret, clock_wall_us(), actor));
	if (r < 0)
		return refuse_store(exceptions, r, error);
	return exceptions_take(exceptions, ret);
}

/* Ends */

static bool is_meant(const struct active *active, const struct exceptions_revocation *revocation)
{
	return (!revocation->id || active->id == revocation->id) &&
	       (!revocation->profile || strcmp(active->profile_name, revocation->profile) == 0);
}

static int check_revocation(const struct exceptions *exceptions,
			    const struct exceptions_revocation *revocation,
			    char error[EXCEPTIONS_ERROR_MAX])
{
	const struct active *active = actives_of(exceptions->actives, revocation->tenant);
	const struct active *meant = NULL;
	unsigned count = 0;

	for (; active; active = active->tenant_next) {
		if (!is_meant(active, revocation))
			continue;
		meant = active;
		count++;
	}
	if (!count && revocation->id && actives_find(exceptions->actives, revocation->id))
		return exceptions_refuse(error, -ENOENT,
					 "exception %llu is another tenant's, or another profile's",
					 (unsigned long long)revocation->id);
	if (!count && revocation->id)
		return refuse_ended(exceptions, revocation->id, error);
	if (!count)
		return exceptions_refuse(
			error, -ENOENT,
			"the tenant has no active exception%s; steerctl exceptions lists them",
			revocation->profile ? " for this profile" : "");
	if (count > 1 && revocation->if_version)
		return exceptions_refuse(
			error, -EINVAL,
			"if_version: the tenant has %u such exceptions, and each has a version "
			"of its own; name one by its id",
			count);
	return check_version(exceptions, meant, revocation->if_version, error);
}

int exceptions_revoke(struct exceptions *exceptions, const struct exceptions_revocation *revocation,
		      const struct actor *actor,
		      void (*each)(void *user, const struct revoked *revoked), void *user,
		      char error[EXCEPTIONS_ERROR_MAX])
{
	struct active *active, *next;
	int count = 0, r;

	r = check_revocation(exceptions, revocation, error);
	if (r < 0)
		return r;
	begin_change(exceptions);
	for (active = actives_of(exceptions->actives, revocation->tenant); active; active = next) {
		next = active->tenant_next;
		if (!is_meant(active, revocation))
			continue;
		each(user, &(struct revoked){ active->id, active->profile_name });
		endings_add(&exceptions->endings, ENDINGS_REVOCATIONS, active->id, actor,
			    revocation->reason);
		drop_active(exceptions, active);
		count++;
	}
	return count;
}

int exceptions_settle(struct exceptions *exceptions)
{
	int r = -EUCLEAN;

	/* The disk is the batch's for a moment. */
	if (exceptions->batch || endings_none(&exceptions->endings))
		return 0;
	if (exceptions->store)
		r = note_write(exceptions, endings_write(&exceptions->endings, exceptions->store,
							 EXCEPTIONS_SETTLE_MAX));
	return r < 0 ? r : !endings_none(&exceptions->endings);
}

static void follow_clock(struct exceptions *exceptions)
{
	const struct clock_reading now = clock_read(), *at = &exceptions->at;
	const int64_t step = (now.wall_us - at->wall_us) - (now.boottime_us - at->boottime_us);

	if (step > -CLOCK_STEP_MIN_US && step < CLOCK_STEP_MIN_US)
		return;
	exceptions->at = now;
	log_warning("exceptions", "the clock was set %s by %lld s%s", step < 0 ? "back" : "forward",
		    (long long)(step < 0 ? -step : step) / 1000000,
		    step < 0 ? "; exceptions end as if it had not been" : "");
	exceptions->clock_step_us = step;
	actives_set_clock(exceptions->actives, &now, set_exempt, exceptions);
}

void exceptions_expire(struct exceptions *exceptions,
		       void (*each)(void *user, const char *tenant, const char *profile,
				    uint64_t id),
		       void *user)
{
	const int64_t now = clock_wall_us();
	struct active *active;

	follow_clock(exceptions);
	while ((active = actives_next_end(exceptions->actives)) && active->expires_at_us <= now) {
		each(user, active->tenant->name, active->profile_name, active->id);
		queue_expiry(exceptions, active->id);
		drop_active(exceptions, active);
	}
}

/* Several at once */

int exceptions_begin_batch(struct exceptions *exceptions, char error[EXCEPTIONS_ERROR_MAX])
{
	int r = check_store(exceptions, error);

	if (r < 0)
		return r;
	r = store_open_beside(exceptions->store, &exceptions->batch);
	if (r < 0)
		return exceptions_refuse(error, r, "%s", store_error(exceptions->store));
	r = store_begin(exceptions->batch);
	return r < 0 ? exceptions_batch_failed(exceptions, r, error) : 0;
}

struct store *exceptions_batch(const struct exceptions *exceptions)
{
	return exceptions->batch;
}

int exceptions_batch_failed(struct exceptions *exceptions, int r, char error[EXCEPTIONS_ERROR_MAX])
{
	if (!is_answer(r))
		fail(exceptions, r, "write", store_error(exceptions->batch));
	exceptions_refuse(error, r, "%s", store_error(exceptions->batch));
	exceptions_end_batch(exceptions);
	return r;
}

void exceptions_end_batch(struct exceptions *exceptions)
{
	store_close(exceptions->batch);
	exceptions->batch = NULL;
}

bool exceptions_take(struct exceptions *exceptions, const struct exception *record)
{
	struct active *active = actives_find(exceptions->actives, record->id);
	const struct clock_reading now = clock_read();
	int64_t end = active ? active->kernel_end_us : 0;

	exceptions->generation++;
	if (active && record->ended_at_us) {
		drop_active(exceptions, active);
	} else if (active) {
		actives_change(exceptions->actives, active, record, &now);
		set_exempt(exceptions, active);
		return active->kernel_end_us && (!end || active->kernel_end_us < end);
	} else if (!record->ended_at_us && add_active(exceptions, record) < 0) {
		log_error("exceptions", "no memory for exception %llu of \"%s\", enforcing it",
			  (unsigned long long)record->id, record->tenant);
	}
	return false;
}

/* Looking */

const struct active *exceptions_find(const struct exceptions *exceptions,
				     const struct exception *key)
{
	return find_twin(exceptions, key);
}

const struct active *exceptions_active(const struct exceptions *exceptions, uint64_t id)
{
	return actives_find(exceptions->actives, id);
}

const struct active *exceptions_first(const struct exceptions *exceptions)
{
	return actives_first(exceptions->actives);
}

uint64_t exceptions_generation(const struct exceptions *exceptions)
{
	return exceptions->generation;
}

void exceptions_each_try(const struct exceptions *exceptions,
			 void (*each)(void *user, uint64_t id, const struct tenant *tenant,
				      int profile, const struct scope *scope),
			 void *user)
{
	struct active *const *tries;
	unsigned count;

	tries = actives_tries(exceptions->actives, &count);
	for (unsigned i = 0; i < count; i++)
		if (tries[i]->profile >= 0)
			each(user, tries[i]->id, tries[i]->tenant, tries[i]->profile,
			     tries[i]->scope);
}

int exceptions_each(struct exceptions *exceptions, bool all,
		    void (*each)(const struct exception *, void *), void *user)
{
	int r = exceptions->store ? store_each_active(exceptions->store, each, user)
				  : exceptions->error_number;

	if (r == 0 && all)
		r = store_each_ended(exceptions->store, EXCEPTIONS_ENDED_MAX, each, user);
	return r;
}

struct store *exceptions_store(const struct exceptions *exceptions)
{
	return exceptions->store;
}

const struct active *exceptions_of(const struct exceptions *exceptions, const char *tenant)
{
	return actives_of(exceptions->actives, tenant);
}

unsigned exceptions_count(const struct exceptions *exceptions)
{
	return (unsigned)actives_count(exceptions->actives);
}

const char *exceptions_store_error(const struct exceptions *exceptions)
{
	return *exceptions->error ? exceptions->error : NULL;
}

unsigned exceptions_store_changes(const struct exceptions *exceptions)
{
	return exceptions->store_changes;
}

void exceptions_try_store(struct exceptions *exceptions)
{
	if (!*exceptions->error || exceptions->error_number == -EUCLEAN || exceptions->batch)
		return;
	if (exceptions->store)
		note_write(exceptions, store_probe(exceptions->store));
	else
		exceptions_load(exceptions, exceptions->settings);
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
	if (!exceptions)
		return;
	drop_all(exceptions);
	endings_drop(&exceptions->endings);
	store_close(exceptions->store);
	actives_free(exceptions->actives);
	free(exceptions);
}
