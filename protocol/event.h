/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tenant events, version 1: what travels from the plugin to steerd and from steerd to the
 * operators. docs/events.md describes the protocol, protocol/events.schema.json is its schema.
 *
 * A message has two frames: a topic, `tenant.<name>.<type>` (or `steerd.<type>`, `charon.<type>`
 * for what concerns no tenant), and one JSON object. Unknown JSON keys are skipped, so that a
 * newer writer can add some; everything known is checked strictly.
 */
#ifndef TENANT_STEER_EVENT_H
#define TENANT_STEER_EVENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tenant_name.h"

#define EVENT_VERSION 1
/* One encoded event never exceeds this; a longer message is refused before it is parsed. */
#define EVENT_SIZE_MAX 65536
#define EVENT_TOPIC_MAX (TENANT_NAME_MAX + 48)
/* RFC 7296, 3.13: the number of selectors in a TS payload is one octet. */
#define EVENT_TS_MAX 255
#define EVENT_VIPS_MAX 16
/* Longest single string field, in bytes. */
#define EVENT_STRING_MAX 1024
/* 64 random bits in hex; the publisher draws them when it starts. */
#define EVENT_EPOCH_LEN 16

/* Stands in the topic for a child SA whose tenant is unknown; never a valid tenant name. */
#define EVENT_TOPIC_UNIDENTIFIED "%unidentified"

enum event_type {
	/* from the plugin */
	EVENT_CHILD_INSTALLING, /* the inbound SPI is about to be installed */
	EVENT_CHILD_UP,         /* the child SA is up; all fields are known */
	EVENT_CHILD_DOWN,       /* this SPI has ended */
	EVENT_CHILD_REKEY, /* new child SA; old_spi_in and old_child_id name the one it replaces */
	EVENT_CHILD_REASSIGNED, /* is this tenant's no longer; a child-up says whose it is */
	EVENT_IKE_UPDATE, /* new ike_id (old_ike_id set) or new remote_host for its child SAs */
	EVENT_HEARTBEAT,  /* seq is that of the last event, not a new one */
	/* from steerd */
	EVENT_STEERING_APPLIED,
	EVENT_STEERING_WITHDRAWN,
	EVENT_EXCEPTION_GRANTED,
	EVENT_EXCEPTION_CHANGED,
	EVENT_EXCEPTION_REVOKED,
	EVENT_EXCEPTION_EXPIRED,
	EVENT_TENANT_CONFLICT,
	EVENT_TENANT_UNIDENTIFIED,
	EVENT_PUBLISHER_LOST,
	EVENT_RESYNCED,
	EVENT_KERNEL_REPAIRED,
	EVENT_STORE_FAILED,
	EVENT_STORE_RECOVERED,
	EVENT_TYPE_COUNT
};

/*
 * One event. Absent fields are NULL, 0 or empty. When encoding, strings belong to the caller;
 * after event_decode() they point into the struct event_decoded they came from.
 */
struct event {
	enum event_type type;
	const char *epoch;
	uint64_t seq;
	int64_t time_us; /* microseconds since 1970, UTC */

	const char *tenant; /* NULL: not identified */
	const char *identity;
	const char *identity_source; /* eap, cert, id, group, connection, none */
	const char *connection;
	const char *child;
	const char *mode;        /* tunnel, transport, beet, ... */
	const char *esp;         /* kernel or userspace: who handles ESP */
	const char *remote_host; /* outer address and port of the peer: "192.0.2.10[4500]" */
	uint32_t spi_in;         /* host byte order, 0: none */
	uint32_t spi_out;
	uint32_t reqid;
	uint32_t ike_id;
	uint32_t child_id;
	uint32_t old_spi_in;
	uint32_t old_child_id;
	uint32_t old_ike_id;
	const char *local_ts[EVENT_TS_MAX]; /* "198.18.1.0/24", "198.18.1.1..198.18.1.9[tcp/443]" */
	unsigned local_ts_count;
	const char *remote_ts[EVENT_TS_MAX];
	unsigned remote_ts_count;
	const char *vips[EVENT_VIPS_MAX];
	unsigned vips_count;

	uint32_t interval_ms; /* heartbeat: time to the next one */
	uint64_t dropped;     /* heartbeat: events lost to a full queue so far */
	uint64_t children;    /* heartbeat, resynced: child SAs the publisher knows */

	const char *profile;
	const char *scope;        /* what of the tenant: "host 198.18.1.5" */
	const char *destinations; /* networks with commas between them; absent: any */
	const char *path;
	const char *reason; /* one sentence for a person */
	const char *actor;  /* who granted or revoked */
	const char *change_request;
	const char *accepted_by;
	int64_t expires_us; /* 0: never */
	uint64_t exception_id;
	uint64_t count; /* steering-*: child SAs concerned; kernel-repaired: elements */
};

/* "child-up" and so on; event_type_from_name returns EVENT_TYPE_COUNT for an unknown name. */
const char *event_type_name(enum event_type type);
enum event_type event_type_from_name(const char *name);
/* Does this type describe one child SA (child-*)? */
bool event_is_child(enum event_type type);

/* Write the topic; returns its length. */
size_t event_topic(const struct event *ev, char buf[EVENT_TOPIC_MAX]);

/* Write the JSON, NUL-terminated. Returns its length, or 0 if size was too small. */
size_t event_encode(const struct event *ev, char *buf, size_t size);

/* Room for one decoded event and its strings. Reusable; no destructor. */
struct event_decoded {
	struct event ev;
	size_t used;
	char text[EVENT_SIZE_MAX];
};

/*
 * Decode one JSON text of len bytes (not NUL-terminated). Returns 0, or -EINVAL with *ret_error
 * set to a static sentence that says what is wrong. Strict: version, type and every known field's
 * type, range and length; required fields by type; a tenant name must be valid. No allocation
 * that outlives the call; at most EVENT_SIZE_MAX bytes are looked at.
 * (In libprotocol-decode, which uses yajl; the plugin does not link it.)
 */
int event_decode(const char *json, size_t len, struct event_decoded *ret, const char **ret_error);

#endif
