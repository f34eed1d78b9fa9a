/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The syntax of steerd.conf, without any meaning: sections and keys, with the line of each.
 *
 *     # a comment, to the end of the line
 *     key = value;
 *     section [name] { key = value; key = [value, "value"] }
 *
 * It is the subset of UCL that such files use: no macros, no variables, no includes, no numbers
 * with hidden meanings. Every value is text here; what kind it must be is the schema's business.
 * (The library that reads UCL is not in Debian 12, whose libucl is a compression library, and
 * keeps no line numbers.)
 *
 * Limits: a file of SETTINGS_FILE_MAX bytes, SETTINGS_VALUES_MAX values in a list,
 * SETTINGS_STRING_MAX - 1 bytes in a value. Nested sections are passed on; the reader refuses them.
 */
#ifndef TENANT_STEER_SETTINGS_PARSE_H
#define TENANT_STEER_SETTINGS_PARSE_H

#include <stdbool.h>
#include <stddef.h>

#include "settings.h"

#define SETTINGS_FILE_MAX (1u << 20)
#define SETTINGS_VALUES_MAX 256
#define SETTINGS_KEY_MAX 64

enum settings_item_kind { SETTINGS_SECTION_BEGIN, SETTINGS_SECTION_END, SETTINGS_KEY };

struct settings_item {
	enum settings_item_kind kind;
	unsigned line; /* of the key's or section's name */
	const char *name;
	const char *title; /* section: its own name, or NULL */
	bool list;
	unsigned count;
	const char *values[SETTINGS_VALUES_MAX];
};

/* 0, or a negative errno with error filled ("FILE:LINE: …"): it ends the parsing. */
typedef int (*settings_item_reader)(void *user, const struct settings_item *item,
				    char error[SETTINGS_ERROR_MAX]);

/*
 * Parse len bytes; file is only named in errors. Calls read for each item, whose texts live until
 * it returns. Returns 0, -EINVAL for a syntax error, -ENOMEM, or what read returned.
 */
int settings_parse(const char *file, const char *text, size_t len, settings_item_reader read,
		   void *user, char error[SETTINGS_ERROR_MAX]);

#endif
