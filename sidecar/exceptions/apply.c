/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "apply.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "active.h"
#include "base/clock.h"
#include "record/risk.h"

/* What of a record an entry has, as texts one after the other; the first KEY_TEXTS are the key. */
static const struct {
	const char *name;
	size_t offset;
} packed[] = {
#define PLACE(member)                                                                              \
	{                                                                                          \
#member, offsetof(struct exception, member)                                        \
	}
	PLACE(tenant),         PLACE(profile),     PLACE(scope),  PLACE(destinations),
	PLACE(change_request), PLACE(accepted_by), PLACE(reason), PLACE(risk_sha256),
#undef PLACE
};
#define KEY_TEXTS 4
#define TEXTS (sizeof(packed) / sizeof(packed[0]))
#define KEY_MAX                                                                                    \
	(TENANT_NAME_MAX + SETTINGS_NAME_MAX + RECORD_TEXT_MAX + RECORD_DESTINATIONS_MAX + 4)

struct entry {
	enum apply_action action;
	uint64_t id, version; /* of the exception that is there; of a grant once it is written */
	int64_t expires_at_us;
	uint64_t risk_version;
	size_t number; /* from 1 on */
	size_t size, key_len;
	UT_hash_handle hh;
	char texts[];
};

enum phase { STAGING, COMPARING, WRITING, OVER };

struct apply {
	struct apply_options options;
	enum phase phase;
	uint64_t generation; /* of the exceptions, at the first comparison */
	struct entry **entries;
	size_t entry_room;
	size_t step_count; /* in entries: those that were staged, then the revocations */
	struct entry *keys;
	size_t bytes;
	struct apply_count count;
	struct clock_reading at;   /* of all that is written */
	enum apply_action writing; /* now; then each one after it */
	size_t written;            /* index of the next one to look at */
};

struct apply *apply_new(const struct apply_options *options)
{
	struct apply *apply = calloc(1, sizeof(*apply));

	if (apply)
		apply->options = *options;
	return apply;
}

/* What was not committed never was. */
static int give_up(struct apply *apply, int r)
{
	if (apply->phase == WRITING &&
	    apply->generation == exceptions_generation(apply->options.exceptions))
		exceptions_end_batch(apply->options.exceptions);
	apply->phase = OVER;
	return r;
}

void apply_free(struct apply *apply)
{
	if (!apply)
		return;
	give_up(apply, 0);
	HASH_CLEAR(hh, apply->keys);
	for (size_t i = 0; i < apply->step_count; i++)
		free(apply->entries[i]);
	free(apply->entries);
	free(apply);
}

const struct apply_options *apply_options(const struct apply *apply)
{
	return &apply->options;
}

struct apply_count apply_count(const struct apply *apply)
{
	struct apply_count count = apply->count;

	count.steps = apply->step_count;
	return count;
}

/* Entries */

static const char *text_of(const struct exception *exception, size_t text)
{
	return (const char *)exception + packed[text].offset;
}

static struct entry *pack(const struct exception *wish)
{
	struct entry *entry;
	size_t len = 0;

	for (size_t i = 0; i < TEXTS; i++)
		len += strlen(text_of(wish, i)) + 1;
	entry = calloc(1, sizeof(*entry) + len);
	if (!entry)
		return NULL;
	entry->size = sizeof(*entry) + len;
	len = 0;
	for (size_t i = 0; i < TEXTS; i++) {
		len += strlen(strcpy(entry->texts + len, text_of(wish, i))) + 1;
		if (i + 1 == KEY_TEXTS)
			entry->key_len = len;
	}
	entry->expires_at_us = wish->expires_at_us;
	entry->risk_version = wish->risk_version;
	return entry;
}

/* The texts fit: they come from such a record. */
static void unpack(const struct entry *entry, struct exception *ret)
{
	const char *text = entry->texts;

	*ret = (struct exception){ .id = entry->id,
				   .version = entry->version,
				   .expires_at_us = entry->expires_at_us,
				   .risk_version = entry->risk_version };
	for (size_t i = 0; i < TEXTS; i++, text += strlen(text) + 1)
		strcpy((char *)ret + packed[i].offset, text);
}

/* Takes the entry; NULL: there was no memory for it. */
static int add_step(struct apply *apply, struct entry *entry, char error[EXCEPTIONS_ERROR_MAX])
{
	const size_t room = apply->entry_room ? 2 * apply->entry_room : 1024;
	struct entry **entries;

	if (entry && apply->step_count == apply->entry_room) {
		entries = realloc(apply->entries, room * sizeof(*entries));
		if (!entries) {
			free(entry);
			entry = NULL;
		} else {
			apply->entries = entries;
			apply->entry_room = room;
		}
	}
	if (!entry) {
		exceptions_refuse(error, -ENOMEM, "no memory for so many entries");
		return -ENOMEM;
	}
	apply->bytes += entry->size;
	apply->entries[apply->step_count++] = entry;
	entry->number = apply->step_count;
	return 0;
}

static struct entry *find_key(const struct apply *apply, const char *key, size_t len)
{
	struct entry *entry;

	HASH_FIND(hh, apply->keys, key, len, entry);
	return entry;
}

int apply_add(struct apply *apply, const struct exception *wish, char error[EXCEPTIONS_ERROR_MAX])
{
	struct entry *entry, *twin;
	int r;

	if (apply->phase != STAGING)
		return exceptions_refuse(error, -EBUSY,
					 "the entries are being compared: begin anew");
	if (apply->step_count >= EXCEPTIONS_MAX || apply->bytes >= APPLY_BYTES_MAX)
		return exceptions_refuse(error, -ENOBUFS,
					 "expected at most %d entries, of %zu bytes together",
					 EXCEPTIONS_MAX, APPLY_BYTES_MAX);
	entry = pack(wish);
	twin = entry ? find_key(apply, entry->texts, entry->key_len) : NULL;
	if (twin) {
		free(entry);
		return exceptions_refuse(
			error, -EEXIST,
			"the same tenant, profile, scope and destinations as entry %zu",
			twin->number);
	}
	r = add_step(apply, entry, error);
	if (r != 0)
		return r;
	HASH_ADD_KEYPTR(hh, apply->keys, entry->texts, entry->key_len, entry);
	apply->count.entries++;
	return 0;
}

/* Comparing */

static int check_generation(const struct apply *apply, char error[EXCEPTIONS_ERROR_MAX])
{
	if (apply->generation == exceptions_generation(apply->options.exceptions))
		return 0;
	return exceptions_refuse(
		error, -ESTALE,
		"exceptions were granted, changed or revoked meanwhile; nothing was done: "
		"look at the difference again");
}

static bool is_as_wished(const struct exception *record, const struct exception *wish)
{
	bool same = record->expires_at_us == wish->expires_at_us;

	for (size_t i = KEY_TEXTS; i < TEXTS; i++)
		same = same && strcmp(text_of(record, i), text_of(wish, i)) == 0;
	return same;
}

/* Whoever accepted the risk must have read this text and no other. */
static int check_wish(const struct exception *wish, char error[EXCEPTIONS_ERROR_MAX])
{
	char ours[DIGEST_HEX_LEN + 1];

	for (size_t i = KEY_TEXTS; i < TEXTS; i++)
		if (!*text_of(wish, i))
			return exceptions_refuse(error, -EINVAL, "%s: expected 1 to %d bytes",
						 packed[i].name, RECORD_TEXT_MAX - 1);
	if (!wish->expires_at_us)
		return exceptions_refuse(error, -EINVAL, "expires_at: an exception needs an end");
	risk_sha256(ours);
	if (strcmp(wish->risk_sha256, ours) != 0)
		return exceptions_refuse(
			error, -EINVAL,
			"risk_sha256: not the hash of steerd's text of the risk, which is "
			"version %d, %s: read it with steerctl risk",
			RISK_VERSION, ours);
	if (wish->risk_version && wish->risk_version != RISK_VERSION)
		return exceptions_refuse(error, -EINVAL,
					 "risk_version: expected %d, as the hash says",
					 RISK_VERSION);
	return 0;
}

static int make_grant(const struct apply *apply, const struct exception *wish,
		      struct exception *ret, char error[EXCEPTIONS_ERROR_MAX])
{
	int r = check_wish(wish, error);

	*ret = *wish;
	ret->granted_by = apply->options.actor;
	return r < 0 ? r : exceptions_check_grant(apply->options.exceptions, ret, error);
}

static int make_change(const struct apply *apply, const struct exception *before,
		       const struct exception *wish, struct exception *ret,
		       char error[EXCEPTIONS_ERROR_MAX])
{
	const bool same_end = wish->expires_at_us == before->expires_at_us;
	const struct exceptions_change change = {
		.expires_at_us = same_end ? 0 : wish->expires_at_us,
		.reason = wish->reason,
		.change_request = wish->change_request,
		.accepted_by = wish->accepted_by,
		.risk_accepted = true,
		.if_version = before->version,
	};
	int r = check_wish(wish, error);

	return r != 0 ? r
		      : exceptions_check_change(apply->options.exceptions, before->id, &change, ret,
						error);
}

static int read_record(const struct apply *apply, uint64_t id, struct exception *ret,
		       char error[EXCEPTIONS_ERROR_MAX])
{
	struct store *store = exceptions_store(apply->options.exceptions);
	int r = store ? store_find(store, id, ret) : -EUCLEAN;

	if (r != 0)
		exceptions_refuse(error, r, "%s",
				  store ? store_error(store)
					: exceptions_store_error(apply->options.exceptions));
	return r;
}

static int compare_entry(const struct apply *apply, const struct entry *entry,
			 struct apply_step *ret, char error[EXCEPTIONS_ERROR_MAX])
{
	const struct active *active;
	struct exception wish;
	int r = 0;

	unpack(entry, &wish);
	active = exceptions_find(apply->options.exceptions, &wish);
	ret->action = APPLY_GRANT;
	if (!active && wish.expires_at_us && wish.expires_at_us <= clock_wall_us()) {
		ret->action = APPLY_OVER;
		ret->after = wish;
		return 0;
	}
	if (!active)
		return make_grant(apply, &wish, &ret->after, error);
	if (active->is_try)
		return exceptions_refuse(
			error, -EEXIST,
			"exception %llu tries the same now; revoke it, or wait for its end",
			(unsigned long long)active->id);
	r = read_record(apply, active->id, &ret->before, error);
	if (r < 0)
		return r;
	ret->action = is_as_wished(&ret->before, &wish) ? APPLY_NOTHING : APPLY_CHANGE;
	return ret->action == APPLY_NOTHING
		       ? 0
		       : make_change(apply, &ret->before, &wish, &ret->after, error);
}

/* What is in force and not among the entries; they are all compared. */
static int add_revocation(struct apply *apply, const struct active *active,
			  char error[EXCEPTIONS_ERROR_MAX])
{
	struct exception record = { .id = active->id };
	struct entry *entry;

	/* A try ends by itself soon, and what is no scope cannot be said in a file. */
	if (active->is_try || active->unreadable)
		return 0;
	strcpy(record.tenant, active->tenant->name);
	strcpy(record.profile, active->profile_name);
	scope_text(active->scope, record.scope);
	scope_destinations_text(active->scope, record.destinations);
	entry = pack(&record);
	if (entry && find_key(apply, entry->texts, entry->key_len)) {
		free(entry);
		return 0;
	}
	if (!apply->options.prune) {
		apply->count.left_alone++;
		free(entry);
		return 0;
	}
	if (entry)
		entry->id = active->id;
	return add_step(apply, entry, error);
}

static int end_entries(struct apply *apply, char error[EXCEPTIONS_ERROR_MAX])
{
	const struct active *active = exceptions_first(apply->options.exceptions);
	size_t after;
	int r = 0;

	for (; active && r == 0; active = active->hh.next)
		r = add_revocation(apply, active, error);
	if (r < 0)
		return r;
	after = exceptions_count(apply->options.exceptions) + apply->count.actions[APPLY_GRANT] -
		(apply->step_count - apply->count.entries);
	if (after > EXCEPTIONS_MAX)
		return exceptions_refuse(error, -ENOBUFS,
					 "%zu exceptions would be active, more than %d", after,
					 EXCEPTIONS_MAX);
	return 0;
}

int apply_staged(struct apply *apply, char error[EXCEPTIONS_ERROR_MAX])
{
	if (apply->phase != STAGING)
		return 0;
	apply->generation = exceptions_generation(apply->options.exceptions);
	apply->phase = COMPARING;
	return apply->count.entries ? 0 : end_entries(apply, error);
}

int apply_compare(struct apply *apply, size_t index, struct apply_step *ret,
		  char error[EXCEPTIONS_ERROR_MAX])
{
	struct entry *entry;
	int r;

	if (apply->phase != COMPARING || index > apply->count.compared ||
	    index >= apply->step_count)
		return exceptions_refuse(error, -EBUSY, "there is nothing to compare at %zu",
					 index);
	r = check_generation(apply, error);
	if (r < 0)
		return r;
	entry = apply->entries[index];
	*ret = (struct apply_step){ .action = APPLY_REVOKE };
	r = index < apply->count.entries ? compare_entry(apply, entry, ret, error)
					 : read_record(apply, entry->id, &ret->before, error);
	if (r < 0 || index < apply->count.compared)
		return r;
	entry->action = ret->action;
	entry->id = ret->before.id;
	entry->version = ret->before.version;
	apply->count.actions[entry->action]++;
	apply->count.compared++;
	return apply->count.compared == apply->count.entries ? end_entries(apply, error) : 0;
}

/* Writing */

static int check_phase(const struct apply *apply, char error[EXCEPTIONS_ERROR_MAX])
{
	if (apply->phase == WRITING ||
	    (apply->phase == COMPARING && apply->count.compared == apply->step_count))
		return 0;
	return exceptions_refuse(error, -EBUSY,
				 "the entries are not all compared yet, or it is over");
}

static int begin_writing(struct apply *apply, char error[EXCEPTIONS_ERROR_MAX])
{
	int settled = 1;

	if (apply->phase == WRITING)
		return 0;
	/* One that has ended is in the way of another of the same until that is on disk. */
	while (settled > 0)
		settled = exceptions_settle(apply->options.exceptions);
	if (settled < 0)
		return exceptions_refuse(error, settled, "%s",
					 exceptions_store_error(apply->options.exceptions));
	apply->phase = WRITING;
	apply->writing = APPLY_REVOKE;
	apply->at = clock_read();
	return exceptions_begin_batch(apply->options.exceptions, error);
}

static int write_grant(struct apply *apply, struct store *batch, struct entry *entry,
		       char error[EXCEPTIONS_ERROR_MAX])
{
	struct exception wish, record;
	int r;

	unpack(entry, &wish);
	r = make_grant(apply, &wish, &record, error);
	if (r < 0)
		return r;
	record.granted = record.end_set = apply->at;
	r = store_grant(batch, &record);
	if (r < 0)
		return exceptions_batch_failed(apply->options.exceptions, r, error);
	entry->id = record.id;
	entry->version = record.version;
	return 0;
}

static int write_change(struct apply *apply, struct store *batch, const struct entry *entry,
			char error[EXCEPTIONS_ERROR_MAX])
{
	struct exception wish, before, record;
	int r;

	unpack(entry, &wish);
	r = read_record(apply, entry->id, &before, error);
	if (r == 0)
		r = make_change(apply, &before, &wish, &record, error);
	if (r != 0)
		return r;
	if (record.expires_at_us != before.expires_at_us)
		record.end_set = apply->at;
	r = store_change(batch, &record, apply->at.wall_us, &apply->options.actor);
	return r < 0 ? exceptions_batch_failed(apply->options.exceptions, r, error) : 0;
}

static int write_revocation(struct apply *apply, struct store *batch, const struct entry *entry,
			    char error[EXCEPTIONS_ERROR_MAX])
{
	int r = store_end(batch, entry->id, AUDIT_REVOKE, apply->at.wall_us, &apply->options.actor,
			  apply->options.reason);

	return r < 0 ? exceptions_batch_failed(apply->options.exceptions, r, error) : 0;
}

static int write_entry(struct apply *apply, struct entry *entry, char error[EXCEPTIONS_ERROR_MAX])
{
	struct store *batch = exceptions_batch(apply->options.exceptions);

	switch (entry->action) {
	case APPLY_REVOKE:
		return write_revocation(apply, batch, entry, error);
	case APPLY_CHANGE:
		return write_change(apply, batch, entry, error);
	case APPLY_GRANT:
		return write_grant(apply, batch, entry, error);
	default:
		return 0;
	}
}

/* The next one to be written, in the order of the actions; NULL: there is none. */
static struct entry *next_entry(struct apply *apply)
{
	for (; apply->writing < APPLY_ACTIONS; apply->writing++, apply->written = 0)
		while (apply->written < apply->step_count) {
			struct entry *entry = apply->entries[apply->written++];

			if (entry->action == apply->writing)
				return entry;
		}
	return NULL;
}

int apply_write(struct apply *apply, char error[EXCEPTIONS_ERROR_MAX])
{
	const int64_t begun = clock_monotonic_us();
	struct entry *entry = NULL;
	bool more = true;
	int r = check_phase(apply, error);

	if (r == 0)
		r = check_generation(apply, error);
	if (r == 0)
		r = begin_writing(apply, error);
	for (unsigned i = 0; r == 0 && more && i < APPLY_WRITE_MAX; i++) {
		entry = next_entry(apply);
		if (entry)
			r = write_entry(apply, entry, error);
		more = entry && clock_monotonic_us() - begun < APPLY_WRITE_US;
	}
	return r < 0 ? give_up(apply, r) : entry != NULL;
}

/* Committing */

static int check_targets(const struct apply *apply, char error[EXCEPTIONS_ERROR_MAX])
{
	for (size_t i = 0; i < apply->step_count; i++) {
		const struct entry *entry = apply->entries[i];

		if ((entry->action == APPLY_REVOKE || entry->action == APPLY_CHANGE) &&
		    !exceptions_active(apply->options.exceptions, entry->id))
			return exceptions_refuse(
				error, -ESTALE,
				"exception %llu has ended meanwhile; nothing was done: "
				"look at the difference again",
				(unsigned long long)entry->id);
	}
	return 0;
}

static void take(const struct apply *apply, const struct entry *entry, apply_done done, void *user)
{
	struct exception record;

	unpack(entry, &record);
	record.granted = record.end_set = apply->at;
	record.risk_version = RISK_VERSION;
	record.version += entry->action == APPLY_CHANGE;
	if (entry->action == APPLY_REVOKE) {
		record.ended_at_us = apply->at.wall_us;
		strcpy(record.end_reason, apply->options.reason);
	}
	exceptions_take(apply->options.exceptions, &record);
	done(user, entry->action, &record);
}

static int commit(struct apply *apply, char error[EXCEPTIONS_ERROR_MAX])
{
	int r = 0;

	if (apply->phase != WRITING || apply->writing != APPLY_ACTIONS)
		r = exceptions_refuse(error, -EBUSY, "the entries are not all written yet");
	if (r == 0)
		r = check_generation(apply, error);
	if (r == 0)
		r = check_targets(apply, error);
	if (r < 0)
		return r;
	r = store_commit(exceptions_batch(apply->options.exceptions));
	return r < 0 ? exceptions_batch_failed(apply->options.exceptions, r, error) : 0;
}

int apply_commit(struct apply *apply, apply_done done, void *user, char error[EXCEPTIONS_ERROR_MAX])
{
	int r = commit(apply, error);

	give_up(apply, r);
	for (int action = APPLY_REVOKE; r == 0 && action < APPLY_ACTIONS; action++)
		for (size_t i = 0; i < apply->step_count; i++)
			if ((int)apply->entries[i]->action == action)
				take(apply, apply->entries[i], done, user);
	return r;
}
