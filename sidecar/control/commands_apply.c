/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * All exceptions as a list: read page by page (export), and applied as a whole (apply.h), in requests that
 * take some milliseconds each. What is staged belongs to the connection that staged it, and dies with it.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "commands.h"
#include "daemon.h"
#include "exceptions/active.h"
#include "exceptions/apply.h"
#include "record/wish.h"

/* Exceptions, entries, in a page. */
#define PAGE_MAX 128
#define REASON_DEFAULT "not in the list that was applied"

/* Export */

struct exporting {
	const struct exceptions *exceptions;
	struct json_writer *w;
	uint64_t last;
	unsigned count;
};

static void export_one(const struct exception *exception, void *user)
{
	struct exporting *exporting = user;
	const struct active *active = exceptions_active(exporting->exceptions, exception->id);

	exporting->last = exception->id;
	exporting->count++;
	if (!active || active->is_try || active->unreadable)
		return;
	json_object_begin(exporting->w, NULL);
	wish_write(exporting->w, exception);
	json_object_end(exporting->w);
}

int commands_export(void *user, const struct control_caller *caller, yajl_val request,
		    struct json_writer *w, char error[CONTROL_ERROR_MAX])
{
	struct daemon *daemon = user;
	struct exceptions *exceptions = daemon->core.exceptions;
	struct exporting exporting = { .exceptions = exceptions, .w = w };
	const int64_t after = control_int(request, "after", 0);
	struct store *store = exceptions_store(exceptions);
	int r;

	(void)caller;
	if (!store)
		return commands_refuse(error, -EUCLEAN, "%s", exceptions_store_error(exceptions));
	if (after < 0)
		return commands_refuse(error, -EINVAL, "after: expected a number, 0 or greater");
	core_expire(&daemon->core);
	json_array_begin(w, "exceptions");
	r = store_each_active_after(store, (uint64_t)after, PAGE_MAX, export_one, &exporting);
	json_array_end(w);
	if (r < 0)
		return commands_refuse(error, r, "%s", store_error(store));
	json_uint(w, "last", exporting.last);
	json_bool(w, "more", exporting.count == PAGE_MAX);
	json_uint(w, "generation", exceptions_generation(exceptions));
	return 0;
}

/* Staging */

void commands_end(void *user, uint64_t connection)
{
	struct daemon *daemon = user;

	flow_find_end(daemon->find, connection);
	if (!daemon->apply || apply_options(daemon->apply)->connection != connection)
		return;
	apply_free(daemon->apply);
	daemon->apply = NULL;
}

/* The caller's own one. */
static int get_apply(const struct daemon *daemon, const struct control_caller *caller,
		     char error[CONTROL_ERROR_MAX])
{
	if (daemon->apply && apply_options(daemon->apply)->connection == caller->connection)
		return 0;
	return commands_refuse(error, -ENOENT,
			       "nothing was begun on this connection: apply-begin does");
}

int commands_apply_begin(void *user, const struct control_caller *caller, yajl_val request,
			 struct json_writer *w, char error[CONTROL_ERROR_MAX])
{
	struct daemon *daemon = user;
	const char *reason = control_string(request, "reason");
	struct apply_options options = { .exceptions = daemon->core.exceptions,
					 .actor = { .uid = caller->uid },
					 .prune = control_bool(request, "prune"),
					 .connection = caller->connection };

	if (reason && (!*reason || strlen(reason) >= RECORD_TEXT_MAX))
		return commands_refuse(error, -EINVAL, "reason: expected 1 to %d bytes",
				       RECORD_TEXT_MAX - 1);
	commands_end(daemon, caller->connection);
	if (daemon->apply)
		return commands_refuse(error, -EBUSY, "%s is applying a list just now; try again",
				       apply_options(daemon->apply)->actor.name);
	strcpy(options.actor.name, caller->name);
	strcpy(options.reason, reason ? reason : REASON_DEFAULT);
	daemon->apply = apply_new(&options);
	if (!daemon->apply)
		return -ENOMEM;
	json_uint(w, "entries_max", EXCEPTIONS_MAX);
	return 0;
}

static int read_member(const char *name, yajl_val value, struct exception *wish,
		       char why[WISH_ERROR_MAX])
{
	const struct record_field *field = wish_field(name);

	if (!field) {
		snprintf(why, WISH_ERROR_MAX, "unknown member \"%.64s\"", name);
		return -EINVAL;
	}
	if (YAJL_IS_STRING(value))
		return wish_set_text(wish, field, YAJL_GET_STRING(value), why);
	if (YAJL_IS_INTEGER(value))
		return wish_set_number(wish, field, YAJL_GET_INTEGER(value), why);
	return YAJL_IS_NULL(value) ? 0 : wish_refuse(field, why);
}

static int read_wish(yajl_val object, struct exception *ret, char why[WISH_ERROR_MAX])
{
	int r = 0;

	*ret = (struct exception){ 0 };
	if (!YAJL_IS_OBJECT(object)) {
		snprintf(why, WISH_ERROR_MAX, "expected an object");
		return -EINVAL;
	}
	for (size_t i = 0; r == 0 && i < YAJL_GET_OBJECT(object)->len; i++)
		r = read_member(YAJL_GET_OBJECT(object)->keys[i],
				YAJL_GET_OBJECT(object)->values[i], ret, why);
	return r < 0 ? r : wish_complete(ret, why);
}

static int add_entry(struct apply *apply, yajl_val object, char error[CONTROL_ERROR_MAX])
{
	char why[WISH_ERROR_MAX] = "", too[EXCEPTIONS_ERROR_MAX] = "";
	const size_t number = apply_count(apply).entries + 1;
	struct exception wish;
	int r = read_wish(object, &wish, why);

	if (r < 0)
		return commands_refuse(error, r, "entry %zu: %s", number, why);
	r = apply_add(apply, &wish, too);
	return r < 0 ? commands_refuse(error, r, "entry %zu: %s", number, too) : 0;
}

int commands_apply_add(void *user, const struct control_caller *caller, yajl_val request,
		       struct json_writer *w, char error[CONTROL_ERROR_MAX])
{
	struct daemon *daemon = user;
	const char *path[] = { "entries", NULL };
	yajl_val list = yajl_tree_get(request, path, yajl_t_array);
	int r = get_apply(daemon, caller, error);

	if (r == 0 && !list)
		r = commands_refuse(error, -EINVAL, "entries: expected a list");
	for (size_t i = 0; r == 0 && YAJL_IS_ARRAY(list) && i < YAJL_GET_ARRAY(list)->len; i++)
		r = add_entry(daemon->apply, YAJL_GET_ARRAY(list)->values[i], error);
	if (r < 0) {
		commands_end(daemon, caller->connection);
		return r;
	}
	json_uint(w, "entries", apply_count(daemon->apply).entries);
	return 0;
}

/* The difference */

static void write_step(struct json_writer *w, size_t index, const struct apply_step *step,
		       size_t entries)
{
	static const char *const names[APPLY_ACTIONS] = { [APPLY_OVER] = "over",
							  [APPLY_GRANT] = "grant",
							  [APPLY_CHANGE] = "change",
							  [APPLY_REVOKE] = "revoke" };
	const struct exception *record = step->action == APPLY_REVOKE ? &step->before
								      : &step->after;
	char difference[RECORD_DIFFERENCE_MAX];

	if (step->action == APPLY_NOTHING)
		return;
	json_object_begin(w, NULL);
	json_string(w, "action", names[step->action]);
	if (index < entries)
		json_uint(w, "entry", index + 1);
	if (record->id)
		json_uint(w, "id", record->id);
	wish_write(w, record);
	if (step->action == APPLY_CHANGE) {
		record_difference(&step->before, &step->after, difference);
		json_string(w, "difference", difference);
	}
	json_object_end(w);
}

static int refuse_entry(const struct apply *apply, size_t index, const struct apply_step *step,
			int r, const char *why, char error[CONTROL_ERROR_MAX])
{
	if (index >= apply_count(apply).entries || (r != -EINVAL && r != -EEXIST && r != -ENOBUFS))
		return commands_refuse(error, r, "%s", why);
	return commands_refuse(error, r, "entry %zu: %s: %s", index + 1,
			       *step->after.tenant ? step->after.tenant : step->before.tenant, why);
}

/* A page of it. */
static int write_page(struct daemon *daemon, size_t index, struct json_writer *w, size_t *ret_next,
		      char error[CONTROL_ERROR_MAX])
{
	const size_t end = index + PAGE_MAX;
	char why[CONTROL_ERROR_MAX] = "";
	struct apply_step step;
	int r = 0;

	for (; r == 0 && index < end && index < apply_count(daemon->apply).steps; index++) {
		r = apply_compare(daemon->apply, index, &step, why);
		if (r == 0 && step.action == APPLY_GRANT)
			r = commands_check_profile(daemon, step.after.profile, why);
		if (r < 0)
			return refuse_entry(daemon->apply, index, &step, r, why, error);
		write_step(w, index, &step, apply_count(daemon->apply).entries);
	}
	*ret_next = index;
	return 0;
}

static void write_count(struct json_writer *w, const struct apply *apply)
{
	const struct apply_count count = apply_count(apply);

	json_uint(w, "granted", count.actions[APPLY_GRANT]);
	json_uint(w, "changed", count.actions[APPLY_CHANGE]);
	json_uint(w, "revoked", count.actions[APPLY_REVOKE]);
	json_uint(w, "over", count.actions[APPLY_OVER]);
	json_uint(w, "unchanged", count.actions[APPLY_NOTHING]);
	json_uint(w, "left_alone", count.left_alone);
}

/* What was staged is gone after an error. That somebody was quicker is an answer, not a refusal: whoever
 * asked may ask again. */
static int give_up(struct daemon *daemon, const struct control_caller *caller, int r,
		   struct json_writer *w, const char *sentence)
{
	commands_end(daemon, caller->connection);
	if (r != -ESTALE)
		return r;
	json_string(w, "conflict", sentence);
	return 0;
}

int commands_apply_diff(void *user, const struct control_caller *caller, yajl_val request,
			struct json_writer *w, char error[CONTROL_ERROR_MAX])
{
	struct daemon *daemon = user;
	const int64_t after = control_int(request, "after", 0);
	char why[EXCEPTIONS_ERROR_MAX] = "";
	int r = get_apply(daemon, caller, error);
	size_t next = 0;

	if (r < 0)
		return r;
	if (after < 0)
		return commands_refuse(error, -EINVAL, "after: expected a number, 0 or greater");
	core_expire(&daemon->core);
	r = apply_staged(daemon->apply, why);
	if (r < 0)
		commands_refuse(error, r, "%s", why);
	json_array_begin(w, "changes");
	if (r == 0)
		r = write_page(daemon, (size_t)after, w, &next, error);
	json_array_end(w);
	if (r < 0)
		return give_up(daemon, caller, r, w, error);
	json_uint(w, "next", next);
	json_bool(w, "more", next < apply_count(daemon->apply).steps);
	write_count(w, daemon->apply);
	return 0;
}

/* Doing it */

struct publishing {
	struct daemon *daemon;
	const char *actor;
};

static void publish(void *user, enum apply_action action, const struct exception *record)
{
	struct publishing *publishing = user;
	const struct event ev = { .type = EVENT_EXCEPTION_REVOKED,
				  .tenant = record->tenant,
				  .profile = record->profile,
				  .reason = record->end_reason,
				  .actor = publishing->actor,
				  .exception_id = record->id };

	if (action == APPLY_REVOKE)
		stream_publish(publishing->daemon->core.stream, &ev);
	else
		commands_publish_record(publishing->daemon,
					action == APPLY_GRANT ? EVENT_EXCEPTION_GRANTED
							      : EVENT_EXCEPTION_CHANGED,
					record, publishing->actor);
}

static const char *commit_message(int kernel)
{
	return kernel < 0 ? "Applied. The kernel refused the change; the lease ends all bypassing "
			    "within seconds."
			  : "Applied. New flows take the path from now on, the next packet of what "
			    "was "
			    "revoked is enforced, other flows that run stay where they are.";
}

static int commit(struct daemon *daemon, const struct control_caller *caller, struct json_writer *w,
		  char error[CONTROL_ERROR_MAX])
{
	struct publishing publishing = { daemon, caller->name };
	char why[EXCEPTIONS_ERROR_MAX] = "";
	const struct apply_count count = apply_count(daemon->apply);
	int r = apply_commit(daemon->apply, publish, &publishing, why), kernel;

	if (r < 0)
		return commands_refuse(error, r, "%s", why);
	/* Withdrawals go to the kernel before grants. */
	kernel = count.actions[APPLY_REVOKE] || count.actions[APPLY_CHANGE]
			 ? core_settle_revocation(&daemon->core)
			 : core_settle(&daemon->core);
	log_info("exceptions", "a list was applied by %s: %zu granted, %zu changed, %zu revoked",
		 caller->name, count.actions[APPLY_GRANT], count.actions[APPLY_CHANGE],
		 count.actions[APPLY_REVOKE]);
	json_bool(w, "done", true);
	write_count(w, daemon->apply);
	json_string(w, "message", commit_message(kernel));
	return 0;
}

int commands_apply_commit(void *user, const struct control_caller *caller, yajl_val request,
			  struct json_writer *w, char error[CONTROL_ERROR_MAX])
{
	struct daemon *daemon = user;
	char why[EXCEPTIONS_ERROR_MAX] = "";
	int r = get_apply(daemon, caller, error);

	(void)request;
	if (r < 0)
		return r;
	core_expire(&daemon->core);
	r = apply_write(daemon->apply, why);
	if (r > 0) {
		json_bool(w, "done", false);
		return 0;
	}
	r = r < 0 ? commands_refuse(error, r, "%s", why) : commit(daemon, caller, w, error);
	if (r < 0)
		core_settle(
			&daemon->core); /* a store that turned out to be damaged ends everything */
	if (r < 0)
		return give_up(daemon, caller, r, w, error);
	commands_end(daemon, caller->connection);
	return 0;
}
