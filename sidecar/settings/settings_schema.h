/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What may stand in steerd.conf: one table with a row for each key. It gives the check, the
 * default, the place of the value and the text that says what was expected.
 */
#ifndef TENANT_STEER_SETTINGS_SCHEMA_H
#define TENANT_STEER_SETTINGS_SCHEMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "settings.h"

/* The values of a list as they were written, cut to what fits: no valid one is that long. */
struct settings_texts {
	char text[SETTINGS_DESTINATIONS_MAX][64];
	unsigned count;
};

/*
 * A path or profile while its file is read: settings names the path of a profile by index, which is
 * known only when all paths are; and of a long list a refusal has to name the one that is wrong.
 */
struct settings_profile_draft {
	struct profile profile;
	char path[SETTINGS_NAME_MAX + 1];
	struct settings_texts destinations, listeners;
};

struct settings_key {
	const char *section; /* "" for the top level */
	const char *name;
	/*
	 * Convert values into target + offset, where target is a struct settings, a struct path
	 * (section path) or a struct settings_profile_draft (section profile). 0, -EINVAL, -ERANGE.
	 */
	int (*convert)(const struct settings_key *key, const char *const *values, unsigned count,
		       void *at);
	size_t offset;
	int64_t min; /* of the number; text: shortest length */
	int64_t max;
	bool list;            /* may have several values */
	const char *fallback; /* the default, in the file's own words; NULL: nothing is set */
	bool required;
	const char *kind;     /* "a duration": what a value that cannot be read is not */
	const char *expected; /* the whole rule, for the reader of the error */
};

#define SETTINGS_KEYS_MAX 32
extern const struct settings_key settings_keys[];
extern const unsigned settings_keys_count;

/* Row of section.name or -1; does any row have this section? */
int settings_key_find(const char *section, const char *name);
bool settings_section_exists(const char *section);

/* Is this a name of a path or profile, [a-z][a-z0-9_-]*, at most SETTINGS_NAME_MAX? */
bool settings_name_valid(const char *name);

#endif
