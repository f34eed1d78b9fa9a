/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every field of an event once: its JSON key, kind and place. Encoder and decoder walk the same
 * table, so they cannot disagree. Private to protocol/.
 */
#ifndef TENANT_STEER_EVENT_FIELDS_H
#define TENANT_STEER_EVENT_FIELDS_H

#include <stddef.h>

#include "event.h"

enum event_field_kind {
	FIELD_STRING,
	FIELD_U32,
	FIELD_U64,
	FIELD_SPI,
	FIELD_TIME,
	FIELD_LIST,
};

struct event_field {
	const char *key;
	enum event_field_kind kind;
	size_t offset;
	size_t count_offset; /* FIELD_LIST */
	unsigned count_max;  /* FIELD_LIST */
};

extern const struct event_field event_fields[];
extern const size_t event_field_count;

#endif
