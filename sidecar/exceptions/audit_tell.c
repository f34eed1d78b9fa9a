/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "audit_tell.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

struct told {
	bool good;
	struct actor by;
	int64_t time_us;
	char action[32];
	struct exception record;
};

static void keep(void *user, const struct audit_entry *entry)
{
	struct told *told = user;

	told->good = record_read(entry->record, &told->record) == 0;
	told->by = entry->actor;
	told->time_us = entry->time_us;
	snprintf(told->action, sizeof(told->action), "%s", entry->action);
}

static bool find(struct store *store, uint64_t id, uint64_t version, struct told *ret)
{
	ret->good = false;
	return store_find_entry(store, id, version, keep, ret) == 0 && ret->good;
}

static void write_time(int64_t time_us, char *buf, size_t size)
{
	char json[64];
	struct json_writer w;

	json_init(&w, json, sizeof(json));
	json_time(&w, NULL, time_us);
	json_finish(&w);
	snprintf(buf, size, "%.19sZ", json + 1); /* whole seconds, no quotes */
}

void audit_tell_since(struct store *store, uint64_t exception_id, uint64_t version, char *buf,
		      size_t size)
{
	char time[32], difference[RECORD_DIFFERENCE_MAX];
	struct told then, last;

	buf[0] = '\0';
	if (!find(store, exception_id, version, &then) ||
	    !find(store, exception_id, UINT64_MAX, &last))
		return;
	write_time(last.time_us, time, sizeof(time));
	record_difference(&then.record, &last.record, difference);
	snprintf(buf, size, "%s by %s at %s: %s", last.action, last.by.name, time, difference);
}

void audit_tell_change(struct store *store, const struct audit_entry *entry,
		       char buf[RECORD_DIFFERENCE_MAX])
{
	struct exception after;
	struct told before;

	buf[0] = '\0';
	if (record_read(entry->record, &after) == 0 && after.version > 1 &&
	    find(store, entry->exception_id, after.version - 1, &before))
		record_difference(&before.record, &after, buf);
}
