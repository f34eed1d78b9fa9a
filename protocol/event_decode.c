/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The decoder feeds yajl and accepts only what the state below allows: one flat object whose
 * known keys hold what event_fields says. Unknown keys may hold anything, nested at most
 * DEPTH_MAX deep.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yajl/yajl_parse.h>

#include "event.h"
#include "event_fields.h"
#include "rfc3339.h"

#define DEPTH_MAX 8
/* yajl takes lengths as size_t and hands numbers over as text. */
#define NUMBER_MAX 20

/* The five keys that every event has, beside those of event_fields. */
enum head_key { KEY_V, KEY_EPOCH, KEY_SEQ, KEY_TIME, KEY_TYPE, KEY_TENANT, KEY_HEAD_COUNT };

static const char *const head_keys[KEY_HEAD_COUNT] = {
	[KEY_V] = "v",       [KEY_EPOCH] = "epoch", [KEY_SEQ] = "seq",
	[KEY_TIME] = "time", [KEY_TYPE] = "type",   [KEY_TENANT] = "tenant",
};

struct decoder {
	struct event_decoded *out;
	const char *error;
	bool started;
	unsigned skip_depth;             /* inside the value of an unknown key */
	int head;                        /* enum head_key, or -1 */
	const struct event_field *field; /* or NULL */
	bool in_list;
	unsigned seen_head; /* bit per enum head_key */
	uint64_t seen_fields;
};

static int fail(struct decoder *d, const char *error)
{
	if (!d->error)
		d->error = error;
	return 0;
}

static bool skipping(const struct decoder *d)
{
	return d->skip_depth || (d->head < 0 && !d->field);
}

/* The text is at most EVENT_SIZE_MAX and every string ends with a byte of JSON: it always fits. */
static const char *keep(struct decoder *d, const unsigned char *s, size_t len)
{
	char *copy = d->out->text + d->out->used;

	if (len > EVENT_STRING_MAX || memchr(s, 0, len) || d->out->used + len + 1 > EVENT_SIZE_MAX)
		return NULL;
	memcpy(copy, s, len);
	copy[len] = '\0';
	d->out->used += len + 1;
	return copy;
}

static int parse_number(const char *s, size_t len, uint64_t max, uint64_t *ret_value)
{
	uint64_t value = 0;

	if (!len || len > NUMBER_MAX)
		return -EINVAL;
	for (size_t i = 0; i < len; i++) {
		uint64_t digit = (uint64_t)(s[i] - '0');

		if (s[i] < '0' || s[i] > '9' || value > (max - digit) / 10)
			return -EINVAL;
		value = value * 10 + digit;
	}
	*ret_value = value;
	return 0;
}

static int parse_spi(const char *s, uint32_t *ret_spi)
{
	uint32_t spi = 0;

	for (size_t i = 0; i < 8; i++) {
		const char *at = s[i] ? strchr("0123456789abcdef", s[i]) : NULL;

		if (!at)
			return -EINVAL;
		spi = spi << 4 | (uint32_t)(at - "0123456789abcdef");
	}
	if (s[8])
		return -EINVAL;
	*ret_spi = spi;
	return 0;
}

/* As json_time() writes it, with six decimals always. */
static int parse_time(const char *s, int64_t *ret_usec)
{
	return strlen(s) == sizeof("2026-01-31T12:00:00.000001Z") - 1 ? rfc3339_parse(s, ret_usec)
								      : -EINVAL;
}

static int set_epoch(struct decoder *d, const char *epoch)
{
	if (strlen(epoch) != EVENT_EPOCH_LEN ||
	    strspn(epoch, "0123456789abcdef") != EVENT_EPOCH_LEN)
		return fail(d, "epoch is not 16 lower-case hex digits");
	d->out->ev.epoch = epoch;
	return 1;
}

static int head_string(struct decoder *d, const char *value)
{
	struct event *ev = &d->out->ev;

	switch (d->head) {
	case KEY_EPOCH:
		return set_epoch(d, value);
	case KEY_TIME:
		return parse_time(value, &ev->time_us) ? fail(d, "time is not RFC 3339 in UTC") : 1;
	case KEY_TYPE:
		ev->type = event_type_from_name(value);
		return ev->type == EVENT_TYPE_COUNT ? fail(d, "type is unknown") : 1;
	case KEY_TENANT:
		ev->tenant = value;
		return tenant_name_valid(value) ? 1 : fail(d, "tenant is not a tenant name");
	default:
		return fail(d, "a string stands where a number was expected");
	}
}

static int field_string(struct decoder *d, const char *value)
{
	char *at = (char *)&d->out->ev + d->field->offset;

	switch (d->field->kind) {
	case FIELD_STRING:
		*(const char **)at = value;
		return 1;
	case FIELD_SPI:
		return parse_spi(value, (uint32_t *)at) ? fail(d, "an SPI is not 8 hex digits") : 1;
	case FIELD_TIME:
		return parse_time(value, (int64_t *)at) ? fail(d, "a time is not RFC 3339 in UTC")
							: 1;
	case FIELD_LIST: {
		unsigned *count = (void *)((char *)&d->out->ev + d->field->count_offset);

		if (!d->in_list)
			return fail(d, "a string stands where a list was expected");
		if (*count >= d->field->count_max)
			return fail(d, "a list is too long");
		((const char **)at)[(*count)++] = value;
		return 1;
	}
	default:
		return fail(d, "a string stands where a number was expected");
	}
}

static int on_string(void *user, const unsigned char *s, size_t len)
{
	struct decoder *d = user;
	const char *value;

	if (skipping(d))
		return 1;
	value = keep(d, s, len);
	if (!value)
		return fail(d, "a string is too long or holds a NUL");
	return d->head >= 0 ? head_string(d, value) : field_string(d, value);
}

static int on_number(void *user, const char *s, size_t len)
{
	struct decoder *d = user;
	uint64_t value;

	if (skipping(d))
		return 1;
	if (d->head >= 0) {
		if (d->head != KEY_V && d->head != KEY_SEQ)
			return fail(d, "a number stands where a string was expected");
		if (parse_number(s, len, UINT64_MAX, &value))
			return fail(d, "v or seq is not a whole number");
		if (d->head == KEY_V)
			return value == EVENT_VERSION ? 1 : fail(d, "v is not 1");
		d->out->ev.seq = value;
		return 1;
	}
	char *at = (char *)&d->out->ev + d->field->offset;

	if (d->field->kind != FIELD_U32 && d->field->kind != FIELD_U64)
		return fail(d, "a number stands where something else was expected");
	if (parse_number(s, len, d->field->kind == FIELD_U32 ? UINT32_MAX : UINT64_MAX, &value))
		return fail(d, "a number is out of range");
	if (d->field->kind == FIELD_U32)
		*(uint32_t *)at = (uint32_t)value;
	else
		*(uint64_t *)at = value;
	return 1;
}

static int on_null(void *user)
{
	struct decoder *d = user;

	/* Only a tenant is told to be unknown; other fields that are unknown are left out. */
	if (skipping(d) || d->head == KEY_TENANT)
		return 1;
	return fail(d, "null stands where a value was expected");
}

static int on_boolean(void *user, int value)
{
	struct decoder *d = user;

	(void)value;
	return skipping(d) ? 1 : fail(d, "a boolean stands where something else was expected");
}

/* Inside the value of an unknown key nothing counts but its end. */
static int skip_begin(struct decoder *d, const char *error)
{
	if (!skipping(d))
		return fail(d, error);
	return ++d->skip_depth > DEPTH_MAX ? fail(d, "nested too deep") : 1;
}

static int on_map_begin(void *user)
{
	struct decoder *d = user;

	if (d->started)
		return skip_begin(d, "an object stands where a value was expected");
	d->started = true;
	return 1;
}

static int on_map_end(void *user)
{
	struct decoder *d = user;

	if (d->skip_depth)
		d->skip_depth--;
	return 1;
}

static int on_array_begin(void *user)
{
	struct decoder *d = user;

	if (!d->started)
		return fail(d, "an event is not an object");
	if (skipping(d) || !d->field || d->field->kind != FIELD_LIST || d->in_list)
		return skip_begin(d, "a list stands where a value was expected");
	d->in_list = true;
	return 1;
}

static int on_array_end(void *user)
{
	struct decoder *d = user;

	if (d->skip_depth)
		d->skip_depth--;
	else
		d->in_list = false;
	return 1;
}

static bool same(const char *name, const unsigned char *key, size_t len)
{
	return strlen(name) == len && !memcmp(name, key, len);
}

static int select_head(struct decoder *d, int head)
{
	if (d->seen_head & 1u << head)
		return fail(d, "a key stands twice");
	d->seen_head |= 1u << head;
	d->head = head;
	return 1;
}

static int select_field(struct decoder *d, size_t index)
{
	if (d->seen_fields & UINT64_C(1) << index)
		return fail(d, "a key stands twice");
	d->seen_fields |= UINT64_C(1) << index;
	d->field = &event_fields[index];
	return 1;
}

static int on_key(void *user, const unsigned char *key, size_t len)
{
	struct decoder *d = user;

	if (d->skip_depth)
		return 1;
	d->head = -1;
	d->field = NULL;
	for (int i = 0; i < KEY_HEAD_COUNT; i++)
		if (same(head_keys[i], key, len))
			return select_head(d, i);
	for (size_t i = 0; i < event_field_count; i++)
		if (same(event_fields[i].key, key, len))
			return select_field(d, i);
	return 1;
}

/* What each type must carry for its reader to act on it. */
static const char *missing(const struct decoder *d)
{
	const struct event *ev = &d->out->ev;
	const unsigned head = 1u << KEY_V | 1u << KEY_EPOCH | 1u << KEY_SEQ | 1u << KEY_TIME |
			      1u << KEY_TYPE;

	if ((d->seen_head & head) != head)
		return "one of v, epoch, seq, time, type is missing";
	if (event_is_child(ev->type) && (!ev->spi_in || !ev->child_id || !ev->ike_id))
		return "a child event lacks spi_in, child_id or ike_id";
	if (ev->type == EVENT_CHILD_REKEY && !ev->old_spi_in)
		return "child-rekey lacks old_spi_in";
	if (ev->type == EVENT_IKE_UPDATE && !ev->ike_id)
		return "ike-update lacks ike_id";
	if (ev->type == EVENT_HEARTBEAT && !ev->interval_ms)
		return "heartbeat lacks interval_ms";
	return NULL;
}

static const yajl_callbacks callbacks = {
	.yajl_null = on_null,
	.yajl_boolean = on_boolean,
	.yajl_number = on_number,
	.yajl_string = on_string,
	.yajl_start_map = on_map_begin,
	.yajl_map_key = on_key,
	.yajl_end_map = on_map_end,
	.yajl_start_array = on_array_begin,
	.yajl_end_array = on_array_end,
};

static const char *parse(struct decoder *d, const char *json, size_t len)
{
	yajl_handle handle = yajl_alloc(&callbacks, NULL, d);
	yajl_status status;

	if (!handle)
		return "no memory";
	status = yajl_parse(handle, (const unsigned char *)json, len);
	if (status == yajl_status_ok)
		status = yajl_complete_parse(handle);
	yajl_free(handle);
	if (d->error)
		return d->error;
	return status == yajl_status_ok ? missing(d) : "not JSON";
}

int event_decode(const char *json, size_t len, struct event_decoded *ret, const char **ret_error)
{
	struct decoder d = { .out = ret, .head = -1 };
	const char *error;

	memset(&ret->ev, 0, sizeof(ret->ev));
	ret->used = 0;
	error = len > EVENT_SIZE_MAX ? "longer than 65536 bytes" : parse(&d, json, len);
	if (!error)
		return 0;
	*ret_error = error;
	return -EINVAL;
}
