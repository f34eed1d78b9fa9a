/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "snapshot.h"

#include <errno.h>
#include <string.h>

#include "event.h"
#include "json_writer.h"

size_t snapshot_request_encode(uint64_t cursor, char *buf, size_t size)
{
	struct json_writer w;

	json_init(&w, buf, size);
	json_object_begin(&w, NULL);
	json_uint(&w, "v", EVENT_VERSION);
	json_string(&w, "request", "snapshot");
	json_uint(&w, "cursor", cursor);
	json_object_end(&w);
	return json_finish(&w);
}

size_t snapshot_header_encode(const struct snapshot_header *header, char *buf, size_t size)
{
	struct json_writer w;

	json_init(&w, buf, size);
	json_object_begin(&w, NULL);
	json_uint(&w, "v", EVENT_VERSION);
	json_string(&w, "epoch", header->epoch);
	json_uint(&w, "seq", header->seq);
	json_string(&w, "esp", header->userspace_esp ? "userspace" : "kernel");
	json_uint(&w, "cursor", header->cursor);
	json_bool(&w, "more", header->more);
	json_uint(&w, "children", header->children);
	json_object_end(&w);
	return json_finish(&w);
}

int snapshot_request_decode(const char *text, size_t len, uint64_t *ret_cursor)
{
	static const char head[] = "{\"v\":1,\"request\":\"snapshot\",\"cursor\":";
	const size_t digits = len - (sizeof(head) - 1) - 1;
	uint64_t cursor = 0;

	if (len < sizeof(head) + 1 || len > SNAPSHOT_REQUEST_MAX ||
	    memcmp(text, head, sizeof(head) - 1) || text[len - 1] != '}' || digits > 18)
		return -EINVAL;
	for (size_t i = sizeof(head) - 1; i < len - 1; i++) {
		if (text[i] < '0' || text[i] > '9')
			return -EINVAL;
		cursor = cursor * 10 + (uint64_t)(text[i] - '0');
	}
	*ret_cursor = cursor;
	return 0;
}
