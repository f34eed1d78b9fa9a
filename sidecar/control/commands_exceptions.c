/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What may be asked about exceptions: list, grant, change, revoke. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "commands.h"
#include "daemon.h"
#include "record/risk.h"

/* 0 s or less would be an exception that never was; ten years is longer than any change request. */
#define EXPIRES_MAX_S (INT64_C(10) * 366 * 86400)
/* A revocation that ends more names so many of them: its answer must fit. */
#define REVOKED_LISTED_MAX 32

/* Answers */

static const char *state_of(const struct exception *exception)
{
	if (exception->expires_at_us && exception->expires_at_us <= clock_wall_us() &&
	    (!exception->ended_at_us || exception->ended_at_us >= exception->expires_at_us))
		return "expired";
	return exception->ended_at_us ? "revoked" : "active";
}

void commands_write_exception(struct json_writer *w, const char *key,
			      const struct exception *exception)
{
	json_object_begin(w, key);
	record_write(w, exception);
	json_string(w, "state", state_of(exception));
	json_object_end(w);
}

static void write_item(const struct exception *exception, void *w)
{
	commands_write_exception(w, NULL, exception);
}

int commands_exceptions(void *user, const struct control_caller *caller, yajl_val request,
			struct json_writer *w, char error[CONTROL_ERROR_MAX])
{
	struct daemon *daemon = user;
	int r;

	(void)caller;
	json_array_begin(w, "exceptions");
	r = exceptions_each(daemon->core.exceptions, control_bool(request, "all"), write_item, w);
	json_array_end(w);
	return r < 0 ? commands_refuse(error, r, "%s",
				       exceptions_store_error(daemon->core.exceptions))
		     : 0;
}

int commands_risk(void *user, const struct control_caller *caller, yajl_val request,
		  struct json_writer *w, char error[CONTROL_ERROR_MAX])
{
	char hash[DIGEST_HEX_LEN + 1];

	(void)user;
	(void)caller;
	(void)request;
	(void)error;
	risk_sha256(hash);
	json_object_begin(w, "risk");
	json_uint(w, "version", RISK_VERSION);
	json_string(w, "sha256", hash);
	json_string(w, "text", RISK_TEXT);
	json_object_end(w);
	return 0;
}

/* Members of requests */

static struct actor actor_of(const struct control_caller *caller)
{
	struct actor actor = { .uid = caller->uid };

	snprintf(actor.name, sizeof(actor.name), "%s", caller->name);
	return actor;
}

/* A text that the request must have. */
static int read_text(yajl_val request, const char *name, char *ret, size_t size,
		     char error[CONTROL_ERROR_MAX])
{
	const char *text = control_string(request, name);

	if (!text || !*text || strlen(text) >= size)
		return commands_refuse(error, -EINVAL, "%s: expected 1 to %zu bytes", name,
				       size - 1);
	strcpy(ret, text);
	return 0;
}

/* One that it may have; *ret stays as it is if it has not. */
static int read_sized(yajl_val request, const char *name, size_t size, const char **ret,
		      char error[CONTROL_ERROR_MAX])
{
	const char *text = control_string(request, name);

	if (text && (!*text || strlen(text) >= size))
		return commands_refuse(error, -EINVAL, "%s: expected 1 to %zu bytes", name,
				       size - 1);
	if (text)
		*ret = text;
	return 0;
}

static int read_optional(yajl_val request, const char *name, const char **ret,
			 char error[CONTROL_ERROR_MAX])
{
	return read_sized(request, name, RECORD_TEXT_MAX, ret, error);
}

static int read_tenant(yajl_val request, char error[CONTROL_ERROR_MAX])
{
	if (tenant_name_valid(control_string(request, "tenant")))
		return 0;
	return commands_refuse(
		error, -EINVAL,
		"tenant: not a tenant name; expected 1 to 128 characters of A-Za-z0-9._@:- or "
		"%%XX");
}

/* A whole number of at least 1; 0 if there is none. */
static int read_number(yajl_val request, const char *name, uint64_t *ret,
		       char error[CONTROL_ERROR_MAX])
{
	const int64_t number = control_int(request, name, 0);

	if (number < 0)
		return commands_refuse(error, -EINVAL, "%s: expected a number of at least 1", name);
	*ret = (uint64_t)number;
	return 0;
}

/* The end, from now on; 0 if the request has none. */
static int read_end(yajl_val request, int64_t *ret_us, char error[CONTROL_ERROR_MAX])
{
	const int64_t seconds = control_int(request, "expires_s", INT64_MIN);

	if (seconds == INT64_MIN)
		return 0;
	if (seconds <= 0 || seconds > EXPIRES_MAX_S)
		return commands_refuse(error, -EINVAL, "expires_s: expected 1 second to 10 years");
	*ret_us = clock_wall_us() + seconds * 1000000;
	return 0;
}

/* Whoever accepted it must have read this text and no other. */
static int check_risk(yajl_val request, char error[CONTROL_ERROR_MAX])
{
	const char *theirs = control_string(request, "risk_sha256");
	const int64_t version = control_int(request, "risk_version", 0);
	char ours[DIGEST_HEX_LEN + 1];

	risk_sha256(ours);
	if (theirs && strcmp(theirs, ours) == 0)
		return 0;
	return commands_refuse(
		error, -EINVAL,
		"risk_sha256: the text of the risk that was accepted is version %lld, SHA-256 "
		"%.64s; steerd's is version %d, SHA-256 %s: read it with steerctl risk and "
		"accept that one",
		(long long)version, theirs ? theirs : "(none)", RISK_VERSION, ours);
}

/* Grant */

static int check_member(const char *name, yajl_val value, char error[CONTROL_ERROR_MAX])
{
	static const struct {
		const char *name;
		bool text;
	} members[] = { { "v", false },
			{ "command", true },
			{ "tenant", true },
			{ "profile", true },
			{ "scope", true },
			{ "destinations", true },
			{ "change_request", true },
			{ "accepted_by", true },
			{ "reason", true },
			{ "accept_risk", false },
			{ "risk_sha256", true },
			{ "risk_version", false },
			{ "expires_s", false } };

	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
		if (strcmp(name, members[i].name) != 0)
			continue;
		if (members[i].text && !YAJL_IS_STRING(value))
			return commands_refuse(error, -EINVAL, "%s: expected a text", name);
		return 0;
	}
	return commands_refuse(
		error, -EINVAL,
		"%.64s: is not a member of this command; expected those in docs/control.md", name);
}

/* What is misspelt, or no text, may have been meant to limit the grant: it is not left out. */
static int check_members(yajl_val request, char error[CONTROL_ERROR_MAX])
{
	const size_t count = YAJL_IS_OBJECT(request) ? YAJL_GET_OBJECT(request)->len : 0;
	int r = 0;

	for (size_t i = 0; r == 0 && i < count; i++)
		r = check_member(YAJL_GET_OBJECT(request)->keys[i],
				 YAJL_GET_OBJECT(request)->values[i], error);
	return r;
}

int commands_read_grant(yajl_val request, struct exception *ret, char error[CONTROL_ERROR_MAX])
{
	static const struct {
		const char *name;
		size_t offset, size;
	} texts[] = {
#define PLACE(member) { #member, offsetof(struct exception, member), sizeof(ret->member) }
		PLACE(tenant),
		PLACE(change_request),
		PLACE(accepted_by),
		PLACE(reason),
#undef PLACE
	};
	const char *scope = RECORD_SCOPE_TENANT, *destinations = "";
	int r = check_members(request, error);

	if (r == 0)
		r = read_tenant(request, error);
	if (r == 0 && !control_bool(request, "accept_risk"))
		r = commands_refuse(error, -EINVAL, "accept_risk: %s", RISK_NEEDED);
	if (r == 0)
		r = check_risk(request, error);
	for (size_t i = 0; r == 0 && i < sizeof(texts) / sizeof(texts[0]); i++)
		r = read_text(request, texts[i].name, (char *)ret + texts[i].offset, texts[i].size,
			      error);
	if (r == 0 && (!*ret->profile || control_string(request, "profile")))
		r = read_text(request, "profile", ret->profile, sizeof(ret->profile), error);
	if (r == 0)
		r = read_optional(request, "scope", &scope, error);
	if (r == 0)
		r = read_sized(request, "destinations", RECORD_DESTINATIONS_MAX, &destinations,
			       error);
	if (r == 0)
		r = read_end(request, &ret->expires_at_us, error);
	if (r == 0 && !ret->expires_at_us)
		r = commands_refuse(error, -EINVAL, "expires_s: an exception needs an end");
	if (r < 0)
		return r;
	snprintf(ret->scope, sizeof(ret->scope), "%s", scope);
	snprintf(ret->destinations, sizeof(ret->destinations), "%s", destinations);
	return 0;
}

/* Of such a profile only a test, which ends by itself, can be made. */
int commands_check_profile(const struct daemon *daemon, const char *name,
			   char error[CONTROL_ERROR_MAX])
{
	const int profile = settings_profile_index(daemon->core.settings, name);

	if (profile < 0 || !daemon->core.settings->profiles[profile].only_try)
		return 0;
	return commands_refuse(
		error, -EINVAL,
		"profile: this one is only for steerctl try (only_for); expected another one, "
		"steerctl profiles lists them");
}

void commands_publish_record(struct daemon *daemon, enum event_type type,
			     const struct exception *exception, const char *actor)
{
	const struct settings *settings = daemon->core.settings;
	const int profile = settings_profile_index(settings, exception->profile);
	const struct event ev = {
		.type = type,
		.tenant = exception->tenant,
		.profile = exception->profile,
		.scope = exception->scope,
		.destinations = *exception->destinations ? exception->destinations : NULL,
		.path = profile < 0 ? NULL : settings->paths[settings->profiles[profile].path].name,
		.actor = actor,
		.reason = *exception->reason ? exception->reason : NULL,
		.change_request = exception->change_request,
		.accepted_by = exception->accepted_by,
		.expires_us = exception->expires_at_us,
		.exception_id = exception->id,
	};

	stream_publish(daemon->core.stream, &ev);
}

/* Does some child SA of the tenant have what the exception covers? */
static bool is_connected(const struct exception *exception, const struct tenant *tenant)
{
	struct scope *scope = NULL;
	char why[SCOPE_ERROR_MAX];
	bool connected;

	if (scope_parse(exception->scope, exception->destinations, &scope, why) < 0)
		return false;
	connected = model_scope_connected(scope, tenant);
	scope_free(scope);
	return connected;
}

/* The tenant's own words, in a sentence an operator can act on. */
static const char *grant_message(struct daemon *daemon, const struct tenant *tenant,
				 const struct exception *exception)
{
	const char *reason;

	if (!tenant || !tenant->child_count)
		return "This tenant is not connected now and may never have been: check the name. "
		       "The "
		       "exception takes effect when it connects.";
	if (!steering_active(daemon->core.steering, &reason))
		return "Granted, but nothing is steered now; see steerctl status.";
	if (tenant->conflict)
		return "Granted, but another tenant uses the same address: both are enforced.";
	if (tenant->disputed)
		return "Granted, but an SPI of the tenant is also somebody else's: both are "
		       "enforced.";
	if (!is_connected(exception, tenant))
		return "Granted, but no child SA of the tenant has this address or identity now, "
		       "so nothing of it is steered. It takes effect when one has.";
	return "New flows of the profile take the path from now on; flows that run stay where they "
	       "are.";
}

int commands_grant_record(struct daemon *daemon, const struct control_caller *caller,
			  struct exception *exception, struct json_writer *w,
			  char error[CONTROL_ERROR_MAX])
{
	char why[EXCEPTIONS_ERROR_MAX] = "";
	const struct tenant *tenant;
	int r;

	exception->granted_by = actor_of(caller);
	core_expire(&daemon->core);
	r = exceptions_grant(daemon->core.exceptions, exception, why);
	if (r < 0) {
		/* A store that turned out to be damaged has ended everything. */
		core_settle(&daemon->core);
		return commands_refuse(error, r, "%s: %s", exception->tenant, why);
	}
	commands_publish_record(daemon, EVENT_EXCEPTION_GRANTED, exception, caller->name);
	core_settle(&daemon->core);
	log_info("exceptions", "%llu: \"%s\" granted to \"%s\" by %s",
		 (unsigned long long)exception->id, exception->profile, exception->tenant,
		 caller->name);
	tenant = model_find_tenant(&daemon->core.model, exception->tenant);
	commands_write_exception(w, "exception", exception);
	json_bool(w, "tenant_known", tenant && tenant->child_count);
	json_uint(w, "child_sas", tenant ? tenant->child_count : 0);
	json_string(w, "message", grant_message(daemon, tenant, exception));
	return 0;
}

int commands_grant(void *user, const struct control_caller *caller, yajl_val request,
		   struct json_writer *w, char error[CONTROL_ERROR_MAX])
{
	struct exception exception = { 0 };
	int r = commands_read_grant(request, &exception, error);

	if (r == 0)
		r = commands_check_profile(user, exception.profile, error);
	return r == 0 ? commands_grant_record(user, caller, &exception, w, error) : r;
}

/* Change */

static int read_change(yajl_val request, struct exceptions_change *ret,
		       char error[CONTROL_ERROR_MAX])
{
	int r = read_end(request, &ret->expires_at_us, error);

	if (r == 0)
		r = read_optional(request, "reason", &ret->reason, error);
	if (r == 0)
		r = read_optional(request, "change_request", &ret->change_request, error);
	if (r == 0)
		r = read_optional(request, "accepted_by", &ret->accepted_by, error);
	if (r == 0)
		r = read_number(request, "if_version", &ret->if_version, error);
	if (r < 0)
		return r;
	ret->risk_accepted = control_bool(request, "accept_risk");
	if (ret->risk_accepted)
		r = check_risk(request, error);
	if (r == 0 && !ret->expires_at_us && !ret->reason && !ret->change_request &&
	    !ret->accepted_by)
		r = commands_refuse(
			error, -EINVAL,
			"nothing to change: expected expires_s, reason, change_request or "
			"accepted_by");
	return r;
}

static const char *change_message(int kernel)
{
	if (kernel < 0)
		return "Changed. The kernel refused the change; the lease ends all bypassing "
		       "within seconds.";
	return "Changed. Flows that run stay where they are.";
}

int commands_change(void *user, const struct control_caller *caller, yajl_val request,
		    struct json_writer *w, char error[CONTROL_ERROR_MAX])
{
	struct daemon *daemon = user;
	const struct actor actor = actor_of(caller);
	struct exceptions_change change = { 0 };
	char why[EXCEPTIONS_ERROR_MAX] = "";
	struct exception exception;
	uint64_t id = 0;
	int r = read_number(request, "id", &id, error), kernel;

	if (r == 0 && !id)
		r = commands_refuse(error, -EINVAL, "id: expected the number of an exception");
	if (r == 0)
		r = read_change(request, &change, error);
	if (r < 0)
		return r;
	core_expire(&daemon->core);
	r = exceptions_change(daemon->core.exceptions, id, &change, &actor, &exception, why);
	if (r < 0) {
		core_settle(&daemon->core);
		return commands_refuse(error, r, "%s", why);
	}
	commands_publish_record(daemon, EVENT_EXCEPTION_CHANGED, &exception, caller->name);
	kernel = r > 0 ? core_settle_revocation(&daemon->core) : core_settle(&daemon->core);
	log_info("exceptions", "%llu: \"%s\" of \"%s\" changed by %s, version %llu",
		 (unsigned long long)exception.id, exception.profile, exception.tenant,
		 caller->name, (unsigned long long)exception.version);
	commands_write_exception(w, "exception", &exception);
	json_string(w, "message", change_message(kernel));
	return 0;
}

/* Revoke */

struct revoking {
	struct daemon *daemon;
	struct json_writer *w;
	const char *tenant, *reason, *actor;
	unsigned count;
};

static void on_revoked(void *user, const struct revoked *revoked)
{
	struct revoking *revoking = user;
	const struct event ev = { .type = EVENT_EXCEPTION_REVOKED,
				  .tenant = revoking->tenant,
				  .profile = revoked->profile,
				  .reason = revoking->reason,
				  .actor = revoking->actor,
				  .exception_id = revoked->id };

	stream_publish(revoking->daemon->core.stream, &ev);
	if (revoking->count++ >= REVOKED_LISTED_MAX)
		return;
	json_object_begin(revoking->w, NULL);
	json_uint(revoking->w, "id", revoked->id);
	json_string(revoking->w, "tenant", revoking->tenant);
	json_string(revoking->w, "profile", revoked->profile);
	json_object_end(revoking->w);
}

static const char *revoke_message(int kernel, int disk)
{
	if (kernel < 0)
		return "Revoked. The kernel refused the change; the lease ends all bypassing "
		       "within seconds.";
	if (disk < 0)
		return "Revoked in the kernel, but NOT YET ON DISK: steerd goes on trying. If it "
		       "is "
		       "restarted before it succeeds, the exception is back. See steerctl status.";
	return "Revoked: the next packet of every flow concerned is enforced.";
}

static int read_revocation(yajl_val request, struct exceptions_revocation *ret,
			   char error[CONTROL_ERROR_MAX])
{
	int r = read_tenant(request, error);

	if (r == 0)
		r = read_optional(request, "profile", &ret->profile, error);
	if (r == 0)
		r = read_number(request, "id", &ret->id, error);
	if (r == 0)
		r = read_number(request, "if_version", &ret->if_version, error);
	if (r == 0)
		r = read_optional(request, "reason", &ret->reason, error);
	if (r == 0 && !ret->reason)
		r = commands_refuse(error, -EINVAL, "reason: expected 1 to %d bytes",
				    RECORD_TEXT_MAX - 1);
	ret->tenant = control_string(request, "tenant");
	return r;
}

/* The kernel first: a disk may take milliseconds, or not answer at all. */
static void settle_revocation(struct daemon *daemon, unsigned count, int *ret_kernel, int *ret_disk)
{
	unsigned turns = count / EXCEPTIONS_SETTLE_MAX + 1;

	*ret_kernel = core_settle_revocation(&daemon->core);
	do
		*ret_disk = exceptions_settle(daemon->core.exceptions);
	while (*ret_disk > 0 && --turns);
}

int commands_revoke(void *user, const struct control_caller *caller, yajl_val request,
		    struct json_writer *w, char error[CONTROL_ERROR_MAX])
{
	struct revoking revoking = { .daemon = user, .w = w, .actor = caller->name };
	const struct actor actor = actor_of(caller);
	struct exceptions_revocation revocation = { 0 };
	char why[EXCEPTIONS_ERROR_MAX] = "";
	int kernel, disk, r;

	r = read_revocation(request, &revocation, error);
	if (r < 0)
		return r;
	revoking.tenant = revocation.tenant;
	revoking.reason = revocation.reason;
	json_array_begin(w, "revoked");
	r = exceptions_revoke(revoking.daemon->core.exceptions, &revocation, &actor, on_revoked,
			      &revoking, why);
	if (r < 0)
		return commands_refuse(error, r, "%s", why);
	json_array_end(w);
	settle_revocation(revoking.daemon, revoking.count, &kernel, &disk);
	if (disk < 0)
		core_settle(&revoking.daemon->core);
	json_uint(w, "count", revoking.count);
	json_string(w, "message", revoke_message(kernel, disk));
	log_info("exceptions", "%u of \"%s\" revoked by %s", revoking.count, revocation.tenant,
		 caller->name);
	return 0;
}
