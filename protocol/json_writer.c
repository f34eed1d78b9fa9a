/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "json_writer.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define USEC_PER_SEC 1000000

void json_init(struct json_writer *w, char *buf, size_t size)
{
	*w = (struct json_writer){ .buf = buf, .size = size };
}

/* One byte is always kept for the NUL of json_finish(). */
static void put(struct json_writer *w, const char *text, size_t len)
{
	if (w->full || len >= w->size - w->len) {
		w->full = true;
		return;
	}
	memcpy(w->buf + w->len, text, len);
	w->len += len;
}

static void put_char(struct json_writer *w, char c)
{
	put(w, &c, 1);
}

/*
 * Length of the well-formed UTF-8 sequence at s (RFC 3629: no overlong forms, no surrogates,
 * nothing above U+10FFFF), or 0. The string's NUL ends a sequence that is cut short.
 */
static size_t utf8_length(const unsigned char *s)
{
	static const struct {
		unsigned char lead_min, lead_max, next_min, next_max, len;
	} forms[] = {
		{ 0xc2, 0xdf, 0x80, 0xbf, 2 }, { 0xe0, 0xe0, 0xa0, 0xbf, 3 },
		{ 0xe1, 0xec, 0x80, 0xbf, 3 }, { 0xed, 0xed, 0x80, 0x9f, 3 },
		{ 0xee, 0xef, 0x80, 0xbf, 3 }, { 0xf0, 0xf0, 0x90, 0xbf, 4 },
		{ 0xf1, 0xf3, 0x80, 0xbf, 4 }, { 0xf4, 0xf4, 0x80, 0x8f, 4 },
	};
	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		if (s[0] < forms[i].lead_min || s[0] > forms[i].lead_max)
			continue;
		if (s[1] < forms[i].next_min || s[1] > forms[i].next_max)
			return 0;
		for (size_t k = 2; k < forms[i].len; k++)
			if (s[k] < 0x80 || s[k] > 0xbf)
				return 0;
		return forms[i].len;
	}
	return 0;
}

static size_t put_escaped(struct json_writer *w, const unsigned char *s)
{
	static const char hex[] = "0123456789abcdef";
	char escape[6] = { '\\', 'u', '0', '0', hex[*s >> 4], hex[*s & 15] };

	if (*s == '"' || *s == '\\') {
		put(w, (char[]){ '\\', (char)*s }, 2);
	} else if (*s < 0x20 || *s == 0x7f) {
		put(w, escape, sizeof(escape));
	} else {
		size_t len = utf8_length(s);

		put(w, len ? (const char *)s : "\xef\xbf\xbd", len ? len : 3);
		return len ? len : 1;
	}
	return 1;
}

static bool plain(unsigned char c)
{
	return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

static void put_string(struct json_writer *w, const char *value)
{
	const unsigned char *s = (const unsigned char *)value;

	put_char(w, '"');
	while (*s && !w->full) {
		size_t run = 0;

		while (plain(s[run]))
			run++;
		put(w, (const char *)s, run);
		s += run;
		if (*s)
			s += put_escaped(w, s);
	}
	put_char(w, '"');
}

/* Keys are words of ours: nothing in them is escaped. */
static void put_key(struct json_writer *w, const char *key)
{
	put_char(w, '"');
	put(w, key, strlen(key));
	put(w, "\":", 2);
}

static void begin_value(struct json_writer *w, const char *key)
{
	if (w->comma)
		put_char(w, ',');
	w->comma = true;
	if (key)
		put_key(w, key);
}

static void open_container(struct json_writer *w, const char *key, char c)
{
	begin_value(w, key);
	put_char(w, c);
	w->comma = false;
}

static void close_container(struct json_writer *w, char c)
{
	put_char(w, c);
	w->comma = true;
}

void json_object_begin(struct json_writer *w, const char *key)
{
	open_container(w, key, '{');
}

void json_object_end(struct json_writer *w)
{
	close_container(w, '}');
}

void json_array_begin(struct json_writer *w, const char *key)
{
	open_container(w, key, '[');
}

void json_array_end(struct json_writer *w)
{
	close_container(w, ']');
}

void json_string(struct json_writer *w, const char *key, const char *value)
{
	begin_value(w, key);
	if (value)
		put_string(w, value);
	else
		put(w, "null", 4);
}

/* printf costs more than the rest of an event together; numbers are most of its fields. */
static void put_uint(struct json_writer *w, uint64_t value)
{
	char digits[20];
	size_t at = sizeof(digits);

	do {
		digits[--at] = (char)('0' + value % 10);
		value /= 10;
	} while (value);
	put(w, digits + at, sizeof(digits) - at);
}

void json_uint(struct json_writer *w, const char *key, uint64_t value)
{
	begin_value(w, key);
	put_uint(w, value);
}

void json_int(struct json_writer *w, const char *key, int64_t value)
{
	begin_value(w, key);
	if (value < 0)
		put_char(w, '-');
	put_uint(w, value < 0 ? -(uint64_t)value : (uint64_t)value);
}

void json_bool(struct json_writer *w, const char *key, bool value)
{
	begin_value(w, key);
	put(w, value ? "true" : "false", value ? 4 : 5);
}

void json_raw(struct json_writer *w, const char *key, const char *json, size_t len)
{
	begin_value(w, key);
	put(w, json, len);
}

void json_spi(struct json_writer *w, const char *key, uint32_t spi)
{
	char text[8];

	for (int i = 7; i >= 0; i--, spi >>= 4)
		text[i] = "0123456789abcdef"[spi & 15];
	begin_value(w, key);
	put_char(w, '"');
	put(w, text, sizeof(text));
	put_char(w, '"');
}

static void put_digits(char *at, int count, int value)
{
	while (count--) {
		at[count] = (char)('0' + value % 10);
		value /= 10;
	}
}

void json_time(struct json_writer *w, const char *key, int64_t usec)
{
	time_t seconds = usec / USEC_PER_SEC;
	char text[] = "\"0000-00-00T00:00:00.000000Z\"";
	struct tm tm;

	begin_value(w, key);
	if (usec < 0 || !gmtime_r(&seconds, &tm) || tm.tm_year > 9999 - 1900) {
		put(w, "null", 4);
		return;
	}
	put_digits(text + 1, 4, tm.tm_year + 1900);
	put_digits(text + 6, 2, tm.tm_mon + 1);
	put_digits(text + 9, 2, tm.tm_mday);
	put_digits(text + 12, 2, tm.tm_hour);
	put_digits(text + 15, 2, tm.tm_min);
	put_digits(text + 18, 2, tm.tm_sec);
	put_digits(text + 21, 6, (int)(usec % USEC_PER_SEC));
	put(w, text, sizeof(text) - 1);
}

size_t json_finish(struct json_writer *w)
{
	if (w->full)
		return 0;
	w->buf[w->len] = '\0';
	return w->len;
}
