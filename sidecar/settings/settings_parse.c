/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "settings_parse.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct parser {
	const char *file;
	const char *at;
	const char *end;
	unsigned line;
	unsigned depth;
	settings_item_reader read;
	void *user;
	char *error;
	struct settings_item item;
	char name[SETTINGS_KEY_MAX + 1];
	char title[SETTINGS_STRING_MAX];
	char values[SETTINGS_VALUES_MAX][SETTINGS_STRING_MAX];
};

static int fail(struct parser *p, unsigned line, const char *sentence)
{
	snprintf(p->error, SETTINGS_ERROR_MAX, "%s:%u: %s", p->file, line, sentence);
	return -EINVAL;
}

static int peek(const struct parser *p)
{
	return p->at < p->end ? (unsigned char)*p->at : -1;
}

static int next(struct parser *p)
{
	int c = peek(p);

	if (c < 0)
		return c;
	p->at++;
	if (c == '\n')
		p->line++;
	return c;
}

static bool is_name(int c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '_' || c == '-';
}

/* What may stand in a value without quotes: everything that cannot be taken for syntax. */
static bool is_bare(int c)
{
	return is_name(c) || (c > 0 && strchr(".:/@%+*", c) != NULL);
}

/* Skip blanks and comments; with across_lines also line ends. */
static void skip(struct parser *p, bool across_lines)
{
	for (;;) {
		int c = peek(p);

		if (c == '#') {
			while (peek(p) >= 0 && peek(p) != '\n')
				next(p);
		} else if (c == ' ' || c == '\t' || c == '\r' || (c == '\n' && across_lines)) {
			next(p);
		} else {
			return;
		}
	}
}

static int parse_name(struct parser *p, char *buf, size_t size)
{
	size_t len = 0;

	while (is_name(peek(p))) {
		if (len + 1 >= size)
			return fail(p, p->line, "this name is too long");
		buf[len++] = (char)next(p);
	}
	buf[len] = '\0';
	return len ? 0 : fail(p, p->line, "expected the name of a key or section");
}

static int parse_quoted(struct parser *p, char *buf, size_t size)
{
	unsigned line = p->line;
	size_t len = 0;
	int c;

	next(p);
	while ((c = next(p)) != '"') {
		if (c < 0 || c == '\n')
			return fail(p, line, "this string has no closing quote");
		if (c == '\\') {
			c = next(p);
			if (c != '"' && c != '\\')
				return fail(p, line, "only \\\" and \\\\ may follow a backslash");
		}
		if (c < 0x20 || c == 0x7f)
			return fail(p, line, "a control character is in this string");
		if (len + 1 >= size)
			return fail(p, line, "this value is too long");
		buf[len++] = (char)c;
	}
	buf[len] = '\0';
	return 0;
}

static int parse_bare(struct parser *p, char *buf, size_t size)
{
	size_t len = 0;

	while (is_bare(peek(p))) {
		if (len + 1 >= size)
			return fail(p, p->line, "this value is too long");
		buf[len++] = (char)next(p);
	}
	buf[len] = '\0';
	return len ? 0
		   : fail(p, p->line,
			  "expected a value; put it in \"quotes\" if it has special "
			  "characters");
}

static int parse_value(struct parser *p)
{
	char *buf;
	int r;

	if (p->item.count >= SETTINGS_VALUES_MAX)
		return fail(p, p->line, "this list has too many values");
	buf = p->values[p->item.count];
	r = peek(p) == '"' ? parse_quoted(p, buf, SETTINGS_STRING_MAX)
			   : parse_bare(p, buf, SETTINGS_STRING_MAX);
	if (r == 0)
		p->item.values[p->item.count++] = buf;
	return r;
}

static int parse_list(struct parser *p)
{
	unsigned line = p->line;
	int r;

	next(p);
	for (;;) {
		skip(p, true);
		if (peek(p) == ']') {
			next(p);
			return 0;
		}
		if (peek(p) < 0)
			return fail(p, line, "this list has no closing bracket");
		r = parse_value(p);
		if (r < 0)
			return r;
		skip(p, true);
		if (peek(p) == ',')
			next(p);
		else if (peek(p) != ']')
			return fail(p, p->line,
				    "expected a comma or a closing bracket in this list");
	}
}

/* A key ends with ';', with its line, or before the brace that closes its section. */
static int parse_key_end(struct parser *p)
{
	skip(p, false);
	if (peek(p) == ';' || peek(p) == '\n')
		next(p);
	else if (peek(p) >= 0 && peek(p) != '}')
		return fail(p, p->line,
			    "expected a semicolon or the end of the line after this value");
	return 0;
}

static int parse_key(struct parser *p)
{
	int r;

	next(p);
	skip(p, false);
	p->item.kind = SETTINGS_KEY;
	p->item.title = NULL;
	p->item.count = 0;
	p->item.list = peek(p) == '[';
	r = p->item.list ? parse_list(p) : parse_value(p);
	if (r == 0)
		r = parse_key_end(p);
	return r < 0 ? r : p->read(p->user, &p->item, p->error);
}

static int parse_section_begin(struct parser *p)
{
	int r;

	p->item.kind = SETTINGS_SECTION_BEGIN;
	p->item.title = NULL;
	p->item.count = 0;
	if (peek(p) != '{') {
		r = peek(p) == '"' ? parse_quoted(p, p->title, sizeof(p->title))
				   : parse_name(p, p->title, sizeof(p->title));
		if (r < 0)
			return fail(p, p->item.line, "expected \"key = value\" or \"section {\"");
		p->item.title = p->title;
		skip(p, true);
	}
	if (peek(p) != '{')
		return fail(p, p->item.line, "expected \"key = value\" or \"section {\"");
	next(p);
	p->depth++;
	return p->read(p->user, &p->item, p->error);
}

static int parse_section_end(struct parser *p)
{
	if (p->depth == 0)
		return fail(p, p->line, "this closing brace closes nothing");
	next(p);
	p->depth--;
	p->item = (struct settings_item){ .kind = SETTINGS_SECTION_END, .line = p->line };
	return p->read(p->user, &p->item, p->error);
}

static int parse_item(struct parser *p)
{
	int r;

	if (peek(p) == ';') {
		next(p);
		return 0;
	}
	if (peek(p) == '}')
		return parse_section_end(p);
	p->item.line = p->line;
	p->item.name = p->name;
	r = parse_name(p, p->name, sizeof(p->name));
	if (r < 0)
		return r;
	skip(p, true);
	return peek(p) == '=' ? parse_key(p) : parse_section_begin(p);
}

int settings_parse(const char *file, const char *text, size_t len, settings_item_reader read,
		   void *user, char error[SETTINGS_ERROR_MAX])
{
	struct parser *p = calloc(1, sizeof(*p));
	int r = 0;

	if (!p) {
		snprintf(error, SETTINGS_ERROR_MAX, "%s: out of memory", file);
		return -ENOMEM;
	}
	p->file = file;
	p->at = text;
	p->end = text + len;
	p->line = 1;
	p->read = read;
	p->user = user;
	p->error = error;
	while (r == 0) {
		skip(p, true);
		if (peek(p) < 0)
			break;
		r = parse_item(p);
	}
	if (r == 0 && p->depth > 0)
		r = fail(p, p->line, "the last section has no closing brace");
	free(p);
	return r;
}
