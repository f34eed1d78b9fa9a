/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "event.h"

#include <stdio.h>
#include <string.h>

#include "event_fields.h"
#include "json_writer.h"

static const char *const type_names[EVENT_TYPE_COUNT] = {
	[EVENT_CHILD_INSTALLING] = "child-installing",
	[EVENT_CHILD_UP] = "child-up",
	[EVENT_CHILD_DOWN] = "child-down",
	[EVENT_CHILD_REKEY] = "child-rekey",
	[EVENT_CHILD_REASSIGNED] = "child-reassigned",
	[EVENT_IKE_UPDATE] = "ike-update",
	[EVENT_HEARTBEAT] = "heartbeat",
	[EVENT_STEERING_APPLIED] = "steering-applied",
	[EVENT_STEERING_WITHDRAWN] = "steering-withdrawn",
	[EVENT_EXCEPTION_GRANTED] = "exception-granted",
	[EVENT_EXCEPTION_CHANGED] = "exception-changed",
	[EVENT_EXCEPTION_REVOKED] = "exception-revoked",
	[EVENT_EXCEPTION_EXPIRED] = "exception-expired",
	[EVENT_TENANT_CONFLICT] = "tenant-conflict",
	[EVENT_TENANT_UNIDENTIFIED] = "tenant-unidentified",
	[EVENT_PUBLISHER_LOST] = "publisher-lost",
	[EVENT_RESYNCED] = "resynced",
	[EVENT_KERNEL_REPAIRED] = "kernel-repaired",
	[EVENT_STORE_FAILED] = "store-failed",
	[EVENT_STORE_RECOVERED] = "store-recovered",
};

#define PLACE(member) offsetof(struct event, member)
#define STRING(member)                                                                             \
	{                                                                                          \
#member, FIELD_STRING, PLACE(member), 0, 0                                         \
	}
#define U32(member)                                                                                \
	{                                                                                          \
#member, FIELD_U32, PLACE(member), 0, 0                                            \
	}
#define U64(member)                                                                                \
	{                                                                                          \
#member, FIELD_U64, PLACE(member), 0, 0                                            \
	}
#define SPI(member)                                                                                \
	{                                                                                          \
#member, FIELD_SPI, PLACE(member), 0, 0                                            \
	}
#define LIST(member, max)                                                                          \
	{                                                                                          \
#member, FIELD_LIST, PLACE(member), PLACE(member##_count), max                     \
	}

/* clang-format off */
const struct event_field event_fields[] = {
	STRING(identity), STRING(identity_source), STRING(connection), STRING(child),
	STRING(mode), STRING(esp), STRING(remote_host),
	SPI(spi_in), SPI(spi_out), SPI(old_spi_in),
	U32(reqid), U32(ike_id), U32(child_id), U32(old_child_id), U32(old_ike_id),
	LIST(local_ts, EVENT_TS_MAX), LIST(remote_ts, EVENT_TS_MAX), LIST(vips, EVENT_VIPS_MAX),
	U32(interval_ms), U64(dropped), U64(children),
	STRING(profile), STRING(scope), STRING(destinations), STRING(path), STRING(reason),
	STRING(actor),
	STRING(change_request), STRING(accepted_by),
	{ "expires", FIELD_TIME, PLACE(expires_us), 0, 0 },
	U64(exception_id), U64(count),
};
/* clang-format on */
const size_t event_field_count = sizeof(event_fields) / sizeof(event_fields[0]);

const char *event_type_name(enum event_type type)
{
	return (unsigned)type < EVENT_TYPE_COUNT ? type_names[type] : "unknown";
}

enum event_type event_type_from_name(const char *name)
{
	unsigned type = 0;

	while (type < EVENT_TYPE_COUNT && strcmp(type_names[type], name))
		type++;
	return (enum event_type)type;
}

bool event_is_child(enum event_type type)
{
	return type <= EVENT_CHILD_REASSIGNED;
}

static bool about_tenant(const struct event *ev)
{
	return ev->tenant || event_is_child(ev->type) || ev->type == EVENT_IKE_UPDATE ||
	       ev->type == EVENT_TENANT_UNIDENTIFIED;
}

/* No printf: it would be a tenth of what an event costs. */
static size_t append(char *buf, size_t len, const char *text, size_t max)
{
	size_t more = strnlen(text, max);

	memcpy(buf + len, text, more);
	return len + more;
}

size_t event_topic(const struct event *ev, char buf[EVENT_TOPIC_MAX])
{
	size_t len = 0;

	if (about_tenant(ev)) {
		len = append(buf, len, "tenant.", EVENT_TOPIC_MAX);
		len = append(buf, len, ev->tenant ? ev->tenant : EVENT_TOPIC_UNIDENTIFIED,
			     TENANT_NAME_MAX);
	} else {
		len = append(buf, len, ev->type == EVENT_HEARTBEAT ? "charon" : "steerd",
			     EVENT_TOPIC_MAX);
	}
	len = append(buf, len, ".", 1);
	len = append(buf, len, event_type_name(ev->type), EVENT_TOPIC_MAX - len - 1);
	buf[len] = '\0';
	return len;
}

static void write_list(struct json_writer *w, const struct event_field *field, const void *ev)
{
	const char *const *items = (const void *)((const char *)ev + field->offset);
	unsigned count = *(const unsigned *)((const char *)ev + field->count_offset);

	if (!count)
		return;
	json_array_begin(w, field->key);
	for (unsigned i = 0; i < count && i < field->count_max; i++)
		json_string(w, NULL, items[i]);
	json_array_end(w);
}

/* Absent fields are not written: an event is half as long and as fast to parse. */
static void write_field(struct json_writer *w, const struct event_field *field,
			const struct event *ev)
{
	const void *at = (const char *)ev + field->offset;

	switch (field->kind) {
	case FIELD_STRING:
		if (*(const char *const *)at)
			json_string(w, field->key, *(const char *const *)at);
		break;
	case FIELD_U32:
		if (*(const uint32_t *)at)
			json_uint(w, field->key, *(const uint32_t *)at);
		break;
	case FIELD_U64:
		if (*(const uint64_t *)at)
			json_uint(w, field->key, *(const uint64_t *)at);
		break;
	case FIELD_SPI:
		if (*(const uint32_t *)at)
			json_spi(w, field->key, *(const uint32_t *)at);
		break;
	case FIELD_TIME:
		if (*(const int64_t *)at)
			json_time(w, field->key, *(const int64_t *)at);
		break;
	case FIELD_LIST:
		write_list(w, field, ev);
		break;
	}
}

size_t event_encode(const struct event *ev, char *buf, size_t size)
{
	struct json_writer w;

	json_init(&w, buf, size);
	json_object_begin(&w, NULL);
	json_uint(&w, "v", EVENT_VERSION);
	json_string(&w, "epoch", ev->epoch);
	json_uint(&w, "seq", ev->seq);
	json_time(&w, "time", ev->time_us);
	json_string(&w, "type", event_type_name(ev->type));
	if (about_tenant(ev))
		json_string(&w, "tenant", ev->tenant);
	for (size_t i = 0; i < event_field_count; i++)
		write_field(&w, &event_fields[i], ev);
	json_object_end(&w);
	return json_finish(&w);
}
