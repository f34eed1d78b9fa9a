/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A bounded JSON writer. It allocates nothing, never writes past the buffer it was given and
 * needs no library, because it also runs inside charon. Its output is valid JSON (RFC 8259) for
 * any input bytes: what is not UTF-8 is replaced by U+FFFD.
 *
 * A writer that ran out of room stays in that state; the caller looks once, at the end.
 * Not thread-safe: one writer belongs to one thread.
 */
#ifndef TENANT_STEER_JSON_WRITER_H
#define TENANT_STEER_JSON_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json_writer {
	char *buf;
	size_t size;
	size_t len;
	bool full;
	bool comma;
};

/* Start writing into buf, which the caller keeps and which must hold at least one byte. */
void json_init(struct json_writer *w, char *buf, size_t size);

/* Containers. key is NULL inside an array and for the outermost value; it is written as it is: a word
 * of ours, with nothing to be escaped. */
void json_object_begin(struct json_writer *w, const char *key);
void json_object_end(struct json_writer *w);
void json_array_begin(struct json_writer *w, const char *key);
void json_array_end(struct json_writer *w);

/* Values; a NULL string is written as null. */
void json_string(struct json_writer *w, const char *key, const char *value);
void json_uint(struct json_writer *w, const char *key, uint64_t value);
void json_int(struct json_writer *w, const char *key, int64_t value);
void json_bool(struct json_writer *w, const char *key, bool value);
/* A value that is JSON already. */
void json_raw(struct json_writer *w, const char *key, const char *json, size_t len);
/* An SPI: a string of 8 lower-case hex digits, as charon and `ip xfrm` print it. */
void json_spi(struct json_writer *w, const char *key, uint32_t spi);
/* RFC 3339, UTC, microseconds: "2026-01-31T12:00:00.000001Z"; usec since the epoch. */
void json_time(struct json_writer *w, const char *key, int64_t usec);

/* Terminate the text with a NUL. Returns its length, or 0 if it did not fit. */
size_t json_finish(struct json_writer *w);

#endif
