/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "steerctl_text.h"

#include <errno.h>
#include <string.h>
#include <yajl/yajl_gen.h>

/* Length of the UTF-8 sequence at s that must not reach a terminal, or 0. */
static size_t harmful(const unsigned char *s)
{
	if (s[0] < 0x20 || s[0] == 0x7f)
		return 1;
	if (s[0] == 0xc2 && s[1] >= 0x80 && s[1] <= 0x9f)
		return 2; /* U+0080..U+009F: C1, some terminals obey them */
	if (s[0] == 0xe2 && s[1] == 0x80 &&
	    ((s[2] >= 0x8e && s[2] <= 0x8f) || (s[2] >= 0xa8 && s[2] <= 0xae)))
		return 3; /* marks, separators and overrides of direction */
	if (s[0] == 0xe2 && s[1] == 0x81 && s[2] >= 0xa6 && s[2] <= 0xa9)
		return 3; /* isolates */
	return 0;
}

/* Bytes of the character that starts here; JSON from steerd is UTF-8. */
static size_t character(const unsigned char *s)
{
	size_t len = s[0] < 0x80 ? 1 : s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
	size_t i;

	for (i = 1; i < len && (s[i] & 0xc0) == 0x80; i++)
		;
	return i;
}

void text_clean(const char *text, char buf[TEXT_MAX])
{
	const unsigned char *s = (const unsigned char *)text;
	size_t len = 0, skip;

	while (*s) {
		size_t size = character(s);

		if (len + size > TEXT_MAX - 4) {
			memcpy(buf + len, "...", 3);
			len += 3;
			break;
		}
		skip = harmful(s);
		if (skip) {
			buf[len++] = '?';
			s += skip;
		} else {
			memcpy(buf + len, s, size);
			len += size;
			s += size;
		}
	}
	buf[len] = '\0';
}

yajl_val text_member(yajl_val object, const char *name)
{
	const char *path[] = { name, NULL };

	return object ? yajl_tree_get(object, path, yajl_t_any) : NULL;
}

const char *text_string(yajl_val object, const char *name)
{
	return YAJL_GET_STRING(text_member(object, name));
}

bool text_true(yajl_val object, const char *name)
{
	return YAJL_IS_TRUE(text_member(object, name));
}

long long text_number(yajl_val object, const char *name)
{
	yajl_val value = text_member(object, name);

	return YAJL_IS_INTEGER(value) ? YAJL_GET_INTEGER(value) : 0;
}

static void text_of_list(yajl_val value, char buf[TEXT_MAX])
{
	char item[TEXT_MAX], joined[TEXT_MAX] = "";
	size_t i, len = 0;

	for (i = 0; i < YAJL_GET_ARRAY(value)->len && len < TEXT_MAX - 1; i++) {
		text_of(YAJL_GET_ARRAY(value)->values[i], item);
		len += (size_t)snprintf(joined + len, TEXT_MAX - len, "%s%s", i ? "," : "", item);
	}
	memcpy(buf, joined, TEXT_MAX);
	if (len >= TEXT_MAX)
		strcpy(buf + TEXT_MAX - 4, "...");
}

void text_of(yajl_val value, char buf[TEXT_MAX])
{
	buf[0] = '\0';
	if (YAJL_IS_STRING(value))
		text_clean(YAJL_GET_STRING(value), buf);
	else if (YAJL_IS_NUMBER(value))
		text_clean(YAJL_GET_NUMBER(value), buf);
	else if (YAJL_IS_TRUE(value) || YAJL_IS_FALSE(value))
		strcpy(buf, YAJL_IS_TRUE(value) ? "true" : "false");
	else if (YAJL_IS_ARRAY(value))
		text_of_list(value, buf);
	if (!buf[0])
		strcpy(buf, "-");
}

static void generate(yajl_gen gen, yajl_val value);

static void generate_string(yajl_gen gen, const char *text)
{
	yajl_gen_string(gen, (const unsigned char *)text, strlen(text));
}

static void generate_object(yajl_gen gen, yajl_val value)
{
	size_t i;

	yajl_gen_map_open(gen);
	for (i = 0; i < YAJL_GET_OBJECT(value)->len; i++) {
		generate_string(gen, YAJL_GET_OBJECT(value)->keys[i]);
		generate(gen, YAJL_GET_OBJECT(value)->values[i]);
	}
	yajl_gen_map_close(gen);
}

static void generate(yajl_gen gen, yajl_val value)
{
	size_t i;

	if (YAJL_IS_OBJECT(value)) {
		generate_object(gen, value);
	} else if (YAJL_IS_ARRAY(value)) {
		yajl_gen_array_open(gen);
		for (i = 0; i < YAJL_GET_ARRAY(value)->len; i++)
			generate(gen, YAJL_GET_ARRAY(value)->values[i]);
		yajl_gen_array_close(gen);
	} else if (YAJL_IS_STRING(value)) {
		generate_string(gen, YAJL_GET_STRING(value));
	} else if (YAJL_IS_NUMBER(value)) {
		yajl_gen_number(gen, YAJL_GET_NUMBER(value), strlen(YAJL_GET_NUMBER(value)));
	} else if (YAJL_IS_NULL(value)) {
		yajl_gen_null(gen);
	} else {
		yajl_gen_bool(gen, YAJL_IS_TRUE(value));
	}
}

int text_write_json(FILE *out, yajl_val value)
{
	yajl_gen gen = yajl_gen_alloc(NULL);
	const unsigned char *text;
	size_t len;

	if (!gen)
		return -ENOMEM;
	generate(gen, value);
	if (yajl_gen_get_buf(gen, &text, &len) == yajl_gen_status_ok) {
		fwrite(text, 1, len, out);
		putc('\n', out);
	}
	yajl_gen_free(gen);
	return 0;
}
