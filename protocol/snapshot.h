/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The snapshot protocol: how a subscriber that missed something gets the whole state.
 *
 * A DEALER asks the plugin's ROUTER for one page at a time:
 *     {"v":1,"request":"snapshot","cursor":0}
 * and gets a multipart answer: a header frame, then up to SNAPSHOT_PAGE_MAX frames, each an event
 * of type child-up (or child-installing, if it is not up yet) whose seq is that of the record's
 * last change:
 *     {"v":1,"epoch":"…","seq":S,"esp":"kernel","cursor":NEXT,"more":true,"children":N}
 * It goes on with cursor NEXT until "more" is false. The cursor is the publisher's business; it
 * keeps nothing between two requests. A record may change between pages: whoever reads applies
 * the records of all pages and then every event with seq > S of the *first* page, in order.
 * Events are absolute, so applying one twice changes nothing. If the epoch differs between
 * pages, start again.
 */
#ifndef TENANT_STEER_SNAPSHOT_H
#define TENANT_STEER_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SNAPSHOT_PAGE_MAX 256
#define SNAPSHOT_HEADER_MAX 512
#define SNAPSHOT_REQUEST_MAX 128

struct snapshot_header {
	char epoch[17];
	uint64_t seq;
	bool userspace_esp;
	uint64_t cursor;
	bool more;
	uint64_t children;
};

/* All four: length written or 0 if it did not fit; decoders return 0 or -EINVAL. */
size_t snapshot_request_encode(uint64_t cursor, char *buf, size_t size);
size_t snapshot_header_encode(const struct snapshot_header *header, char *buf, size_t size);
/* No library: accepts exactly what snapshot_request_encode writes, so it can run in charon. */
int snapshot_request_decode(const char *text, size_t len, uint64_t *ret_cursor);
/* Strict like event_decode (libprotocol-decode). */
int snapshot_header_decode(const char *json, size_t len, struct snapshot_header *ret);

#endif
