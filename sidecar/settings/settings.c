/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "settings.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "settings_destinations.h"
#include "settings_parse.h"
#include "settings_schema.h"

/* Which line gave each key of one section; 0: not given. */
struct lines {
	unsigned section;
	unsigned keys[SETTINGS_KEYS_MAX];
};

static const char *const single_sections[] = { "charon", "stream", "control", "store", "steering" };
#define SINGLE_SECTIONS (sizeof(single_sections) / sizeof(single_sections[0]))

struct loader {
	const char *file;
	struct settings *settings;
	struct settings_profile_draft drafts[SETTINGS_PROFILES_MAX];
	struct lines single; /* of the sections that exist once, and of the top level */
	unsigned single_lines[SINGLE_SECTIONS];
	struct lines paths[SETTINGS_PATHS_MAX];
	struct lines profiles[SETTINGS_PROFILES_MAX];
	/* where the parser is */
	char section[SETTINGS_KEY_MAX + 1]; /* "" : top level */
	struct lines *lines;
	void *target;
};

static int refuse(const struct loader *l, char *error, unsigned line, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

static int refuse(const struct loader *l, char *error, unsigned line, const char *format, ...)
{
	int len = snprintf(error, SETTINGS_ERROR_MAX, "%s:%u: ", l->file, line);
	va_list args;

	if (len >= 0 && len < SETTINGS_ERROR_MAX) {
		va_start(args, format);
		vsnprintf(error + len, SETTINGS_ERROR_MAX - (size_t)len, format, args);
		va_end(args);
	}
	return -EINVAL;
}

/* "steering.lease" or, at the top level, "user". */
static const char *dot(const char *section)
{
	return *section ? "." : "";
}

/* Line of a key of one section, or of the section itself if the key was not given. */
static unsigned line_of(const struct lines *lines, const char *section, const char *name)
{
	int row = settings_key_find(section, name);

	return row >= 0 && lines->keys[row] ? lines->keys[row] : lines->section;
}

static int begin_path(struct loader *l, const struct settings_item *item, char *error)
{
	struct settings *s = l->settings;
	unsigned i;

	for (i = 0; i < s->path_count; i++) {
		if (strcmp(s->paths[i].name, item->title) == 0)
			return refuse(l, error, item->line,
				      "path %s: given twice, first in line %u", item->title,
				      l->paths[i].section);
	}
	if (s->path_count >= SETTINGS_PATHS_MAX)
		return refuse(l, error, item->line, "path %s: too many paths; expected at most %d",
			      item->title, SETTINGS_PATHS_MAX);
	strcpy(s->paths[i].name, item->title);
	l->target = &s->paths[i];
	l->lines = &l->paths[i];
	s->path_count++;
	return 0;
}

static int begin_profile(struct loader *l, const struct settings_item *item, char *error)
{
	struct settings *s = l->settings;
	unsigned i;

	for (i = 0; i < s->profile_count; i++) {
		if (strcmp(l->drafts[i].profile.name, item->title) == 0)
			return refuse(l, error, item->line,
				      "profile %s: given twice, first in line %u", item->title,
				      l->profiles[i].section);
	}
	if (s->profile_count >= SETTINGS_PROFILES_MAX)
		return refuse(l, error, item->line,
			      "profile %s: too many profiles; expected at most %d", item->title,
			      SETTINGS_PROFILES_MAX);
	strcpy(l->drafts[i].profile.name, item->title);
	l->target = &l->drafts[i];
	l->lines = &l->profiles[i];
	s->profile_count++;
	return 0;
}

static int begin_titled(struct loader *l, const struct settings_item *item, char *error)
{
	int r;

	if (!item->title || !settings_name_valid(item->title))
		return refuse(
			l, error, item->line,
			"%s: \"%s\" is not a name; expected %s NAME { with a lower-case letter, "
			"then letters, digits, - and _, at most %d",
			item->name, item->title ? item->title : "", item->name, SETTINGS_NAME_MAX);
	r = strcmp(item->name, "path") == 0 ? begin_path(l, item, error)
					    : begin_profile(l, item, error);
	if (r == 0)
		l->lines->section = item->line;
	return r;
}

static int begin_single(struct loader *l, const struct settings_item *item, char *error)
{
	unsigned *given, i;

	for (i = 0; i < SINGLE_SECTIONS - 1 && strcmp(single_sections[i], item->name) != 0; i++)
		;
	given = &l->single_lines[i];
	if (item->title)
		return refuse(l, error, item->line, "%s: this section takes no name; expected %s {",
			      item->name, item->name);
	if (*given)
		return refuse(l, error, item->line, "%s: given twice, first in line %u", item->name,
			      *given);
	*given = item->line;
	return 0;
}

static int begin_section(struct loader *l, const struct settings_item *item, char *error)
{
	bool titled = strcmp(item->name, "path") == 0 || strcmp(item->name, "profile") == 0;
	int r;

	if (*l->section)
		return refuse(l, error, item->line, "%s.%s: unknown key", l->section, item->name);
	if (!settings_section_exists(item->name))
		return refuse(l, error, item->line,
			      "%s: unknown section; expected charon, stream, control, store, "
			      "steering, path NAME or profile NAME",
			      item->name);
	r = titled ? begin_titled(l, item, error) : begin_single(l, item, error);
	if (r == 0)
		strcpy(l->section, item->name);
	return r;
}

static void at_top_level(struct loader *l)
{
	l->section[0] = '\0';
	l->target = l->settings;
	l->lines = &l->single;
}

static int refuse_value(struct loader *l, const struct settings_item *item,
			const struct settings_key *key, int why, char *error)
{
	const char *what = why == -ERANGE   ? "out of range"
			   : why == -EEXIST ? "given with a value that is there already"
					    : NULL;
	char text[SETTINGS_STRING_MAX] = "[]";

	if (item->count)
		snprintf(text, sizeof(text), "%s%s", item->values[0],
			 item->count > 1 ? ", ..." : "");
	if (what)
		return refuse(l, error, item->line, "%s%s%s: \"%s\" is %s; expected %s",
			      key->section, dot(key->section), key->name, text, what,
			      key->expected);
	return refuse(l, error, item->line, "%s%s%s: \"%s\" is not %s; expected %s", key->section,
		      dot(key->section), key->name, text, key->kind, key->expected);
}

static int read_key(struct loader *l, const struct settings_item *item, char *error)
{
	int row = settings_key_find(l->section, item->name);
	const struct settings_key *key;
	int r;

	if (row < 0)
		return refuse(l, error, item->line, "%s%s%s: unknown key", l->section,
			      dot(l->section), item->name);
	key = &settings_keys[row];
	if (l->lines->keys[row])
		return refuse(l, error, item->line, "%s%s%s: given twice, first in line %u",
			      l->section, dot(l->section), item->name, l->lines->keys[row]);
	if (item->list && !key->list)
		return refuse(l, error, item->line, "%s%s%s: a list is not %s; expected %s",
			      l->section, dot(l->section), item->name, key->kind, key->expected);
	l->lines->keys[row] = item->line;
	r = key->convert(key, item->values, item->count, (char *)l->target + key->offset);
	return r < 0 ? refuse_value(l, item, key, r, error) : 0;
}

static int read_item(void *user, const struct settings_item *item, char error[SETTINGS_ERROR_MAX])
{
	struct loader *l = user;

	switch (item->kind) {
	case SETTINGS_SECTION_BEGIN:
		return begin_section(l, item, error);
	case SETTINGS_SECTION_END:
		at_top_level(l);
		return 0;
	case SETTINGS_KEY:
		return read_key(l, item, error);
	}
	return -EINVAL;
}

/* The defaults go through the same converters as the file: they cannot be ones it may not say. */
static int set_defaults(struct loader *l)
{
	unsigned i;

	for (i = 0; i < settings_keys_count; i++) {
		const struct settings_key *key = &settings_keys[i];

		if (key->fallback &&
		    key->convert(key, &key->fallback, 1, (char *)l->settings + key->offset) < 0)
			return -EINVAL;
	}
	return 0;
}

static int check_required(const struct loader *l, const struct lines *lines, const char *section,
			  const char *name, char *error)
{
	unsigned i;

	for (i = 0; i < settings_keys_count; i++) {
		const struct settings_key *key = &settings_keys[i];

		if (strcmp(key->section, section) == 0 && key->required && !lines->keys[i])
			return refuse(l, error, lines->section,
				      "%s.%s: missing in %s %s; expected %s", section, key->name,
				      section, name, key->expected);
	}
	return 0;
}

static uint32_t highest_bit(uint32_t mask)
{
	return mask ? UINT32_C(1) << (31 - __builtin_clz(mask)) : 0;
}

static int check_path_mark(const struct loader *l, unsigned index, char *error)
{
	const struct settings *s = l->settings;
	const struct path *path = &s->paths[index];
	unsigned line = line_of(&l->paths[index], "path", "mark");
	unsigned i;

	if (path->mark & ~s->mark_mask)
		return refuse(l, error, line,
			      "path.mark: 0x%08x has bits outside steering.mark_mask; "
			      "expected a mark within 0x%08x",
			      path->mark, s->mark_mask);
	if (path->mark & highest_bit(s->mark_mask))
		return refuse(
			l, error, line,
			"path.mark: 0x%08x has the highest bit of "
			"steering.mark_mask, which is kept for replies; expected a mark within "
			"0x%08x",
			path->mark, s->mark_mask & ~highest_bit(s->mark_mask));
	for (i = 0; i < index; i++) {
		if (s->paths[i].mark == path->mark)
			return refuse(l, error, line,
				      "path.mark: 0x%08x is that of path %s already; "
				      "expected another mark",
				      path->mark, s->paths[i].name);
	}
	return 0;
}

static int check_path_table(const struct loader *l, unsigned index, char *error)
{
	const struct settings *s = l->settings;
	const struct path *path = &s->paths[index];
	const struct lines *lines = &l->paths[index];
	unsigned line = line_of(lines, "path", "table");
	unsigned i;

	if (path->table >= 253 && path->table <= 255)
		return refuse(l, error, line,
			      "path.table: %u is one of the system's tables; expected a "
			      "routing table of its own",
			      path->table);
	for (i = 0; path->table && i < index; i++) {
		if (s->paths[i].table == path->table)
			return refuse(l, error, line,
				      "path.table: %u is that of path %s already; "
				      "expected a routing table of its own",
				      path->table, s->paths[i].name);
	}
	if (path->table && !path->via_count)
		return refuse(l, error, line,
			      "path.table: given without path.via; expected both or none");
	if (!path->table && path->via_count)
		return refuse(l, error, line_of(lines, "path", "via"),
			      "path.via: given without path.table; expected both or none");
	if (path->interface[0] && !path->via_count)
		return refuse(
			l, error, line_of(lines, "path", "interface"),
			"path.interface: given without path.via; expected the interface of the "
			"next hops");
	return 0;
}

static int check_paths(struct loader *l, char *error)
{
	struct settings *s = l->settings;
	unsigned i;
	int r;

	for (i = 0; i < s->path_count; i++) {
		struct path *path = &s->paths[i];

		r = check_required(l, &l->paths[i], "path", path->name, error);
		if (r == 0)
			r = check_path_mark(l, i, error);
		if (r == 0)
			r = check_path_table(l, i, error);
		if (r < 0)
			return r;
		path->reply_mark = path->mark | highest_bit(s->mark_mask);
	}
	return 0;
}

static int path_index(const struct settings *s, const char *name)
{
	unsigned i;

	for (i = 0; i < s->path_count; i++) {
		if (strcmp(s->paths[i].name, name) == 0)
			return (int)i;
	}
	return -1;
}

static int check_profile_path(struct loader *l, unsigned index, char *error)
{
	struct settings_profile_draft *draft = &l->drafts[index];
	int path = path_index(l->settings, draft->path);

	if (path < 0)
		return refuse(l, error, line_of(&l->profiles[index], "profile", "path"),
			      "profile.path: there is no path \"%s\"; expected the name of a "
			      "path section",
			      draft->path);
	draft->profile.path = (unsigned)path;
	return 0;
}

static int check_profile_flows(struct loader *l, unsigned index, char *error)
{
	struct settings_profile_draft *draft = &l->drafts[index];
	const struct lines *lines = &l->profiles[index];
	char why[SETTINGS_WHY_MAX];
	const char *key;

	if (!draft->profile.service_count && !draft->listeners.count)
		return refuse(l, error, lines->section,
			      "profile.services: missing in profile %s; expected services, or an "
			      "explicit_proxy",
			      draft->profile.name);
	if (!draft->profile.service_count && draft->destinations.count)
		return refuse(l, error, line_of(lines, "profile", "destinations"),
			      "profile.destinations: given without profile.services; expected the "
			      "services at these destinations");
	if (settings_read_destinations(draft, &key, why) < 0)
		return refuse(l, error, line_of(lines, "profile", key), "profile.%s: %s", key, why);
	return 0;
}

static int check_profile_lifetime(struct loader *l, unsigned index, char *error)
{
	struct profile *profile = &l->drafts[index].profile;

	if (!profile->only_try)
		return 0;
	if (profile->max_lifetime_s > SETTINGS_TRY_MAX_S)
		return refuse(l, error, line_of(&l->profiles[index], "profile", "max_lifetime"),
			      "profile.max_lifetime: longer than 60m in profile %s, which is only "
			      "for try; expected at most 60m",
			      profile->name);
	if (!profile->max_lifetime_s)
		profile->max_lifetime_s = SETTINGS_TRY_MAX_S;
	return 0;
}

static int check_profiles(struct loader *l, char *error)
{
	struct settings *s = l->settings;
	unsigned i;
	int r = 0;

	for (i = 0; i < s->profile_count && r == 0; i++) {
		r = check_required(l, &l->profiles[i], "profile", l->drafts[i].profile.name, error);
		if (r == 0)
			r = check_profile_path(l, i, error);
		if (r == 0)
			r = check_profile_flows(l, i, error);
		if (r == 0)
			r = check_profile_lifetime(l, i, error);
		s->profiles[i] = l->drafts[i].profile;
	}
	return r;
}

/* Whoever binds an ipc endpoint takes it over silently, so two owners of one are an error here. */
static int check_endpoints(struct loader *l, char *error)
{
	const struct settings *s = l->settings;
	unsigned i, j;

	if (strcmp(s->publish, s->snapshot) == 0)
		return refuse(l, error, line_of(&l->single, "charon", "snapshot"),
			      "charon.snapshot: \"%s\" is charon.publish already; expected another "
			      "endpoint",
			      s->snapshot);
	for (i = 0; i < s->bind_count; i++) {
		bool taken = strcmp(s->bind[i], s->publish) == 0 ||
			     strcmp(s->bind[i], s->snapshot) == 0 ||
			     strcmp(s->bind[i] + strlen("ipc://"), s->control_socket) == 0;

		for (j = 0; j < i; j++)
			taken = taken || strcmp(s->bind[i], s->bind[j]) == 0;
		if (taken)
			return refuse(l, error, line_of(&l->single, "stream", "bind"),
				      "stream.bind: \"%s\" is in use for something else already; "
				      "expected an endpoint of its own",
				      s->bind[i]);
	}
	return 0;
}

static int check_across_keys(struct loader *l, char *error)
{
	uint32_t mask = l->settings->mark_mask;
	int r;

	if (mask == highest_bit(mask))
		return refuse(
			l, error, line_of(&l->single, "steering", "mark_mask"),
			"steering.mark_mask: 0x%08x has one bit only; expected two or more: the "
			"highest is kept for replies",
			mask);
	if (l->settings->profile_count == 0)
		return refuse(l, error, 1,
			      "profile: there is none; expected at least one profile NAME { }");
	r = check_endpoints(l, error);
	if (r == 0)
		r = check_paths(l, error);
	return r < 0 ? r : check_profiles(l, error);
}

/* The whole file in memory: 0, or a negative errno with error filled. */
static int read_file(const char *file, char **ret_text, size_t *ret_len, char *error)
{
	int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	char *text = NULL;
	struct stat st;
	size_t len = 0;
	ssize_t got = 0;
	int r = 0;

	if (fd < 0 || fstat(fd, &st) < 0)
		r = -errno;
	else if (!S_ISREG(st.st_mode))
		r = S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	else if (st.st_size > (off_t)SETTINGS_FILE_MAX)
		r = -EFBIG;
	else if (!(text = malloc(SETTINGS_FILE_MAX + 1)))
		r = -ENOMEM;
	while (r == 0 && (got = read(fd, text + len, SETTINGS_FILE_MAX + 1 - len)) != 0) {
		if (got < 0 && errno != EINTR)
			r = -errno;
		else if (got > 0 && (len += (size_t)got) > SETTINGS_FILE_MAX)
			r = -EFBIG;
	}
	if (fd >= 0)
		close(fd);
	if (r < 0) {
		snprintf(error, SETTINGS_ERROR_MAX, "%s: cannot be read: %s", file, strerror(-r));
		free(text);
		return r;
	}
	*ret_text = text;
	*ret_len = len;
	return 0;
}

int settings_load(const char *file, struct settings **ret_settings, char error[SETTINGS_ERROR_MAX])
{
	struct loader *l = calloc(1, sizeof(*l));
	struct settings *settings = calloc(1, sizeof(*settings));
	char *text = NULL;
	size_t len = 0;
	int r = -ENOMEM;

	if (!l || !settings) {
		snprintf(error, SETTINGS_ERROR_MAX, "%s: out of memory", file);
		goto out;
	}
	l->file = file;
	l->settings = settings;
	l->single.section = 1;
	at_top_level(l);
	r = read_file(file, &text, &len, error);
	if (r < 0)
		goto out;
	r = set_defaults(l);
	if (r < 0) {
		snprintf(error, SETTINGS_ERROR_MAX, "%s: a built-in default is wrong", file);
		goto out;
	}
	r = settings_parse(file, text, len, read_item, l, error);
	if (r == 0)
		r = check_across_keys(l, error);
	if (r == 0) {
		*ret_settings = settings;
		settings = NULL;
	}
out:
	free(text);
	free(settings);
	free(l);
	return r;
}

void settings_free(struct settings *settings)
{
	free(settings);
}

int settings_profile_index(const struct settings *settings, const char *name)
{
	unsigned i;

	for (i = 0; i < settings->profile_count; i++) {
		if (strcmp(settings->profiles[i].name, name) == 0)
			return (int)i;
	}
	return -1;
}

enum strength settings_strength(const struct settings *settings, const struct profile *profile)
{
	if (settings->paths[profile->path].enforces_tls)
		return STRENGTH_NON_TLS_ONLY;
	if (profile->destination_count || !profile->service_count)
		return STRENGTH_DESTINATIONS;
	return STRENGTH_ANY_443;
}

static const struct {
	const char *name, *risk;
} strengths[STRENGTH_COUNT] = {
	[STRENGTH_ANY_443] = { "any-443", "high" },
	[STRENGTH_DESTINATIONS] = { "destinations", "medium" },
	[STRENGTH_NON_TLS_ONLY] = { "non-tls-only", "low" },
};

const char *settings_strength_name(enum strength strength)
{
	return strengths[strength].name;
}

const char *settings_strength_risk(enum strength strength)
{
	return strengths[strength].risk;
}
