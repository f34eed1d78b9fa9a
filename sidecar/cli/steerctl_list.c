/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "steerctl_list.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>
#include <yajl/yajl_parse.h>
#include <yajl/yajl_tree.h>

#define ROOM_START 1024
#define MEMBERS_MAX 16

void list_free(struct list *list)
{
	for (size_t i = 0; i < list->count; i++) {
		free(list->entries[i].key);
		free(list->entries[i].json);
	}
	free(list->entries);
	*list = (struct list){ 0 };
}

/* No text of a key has an end of line, which sorts before all that they have. */
static char *make_key(const struct exception *wish)
{
	const char *const texts[] = { wish->tenant, wish->profile, wish->scope,
				      wish->destinations };
	size_t size = 4;
	char *key;

	for (size_t i = 0; i < 4; i++)
		size += strlen(texts[i]);
	key = malloc(size);
	if (key)
		snprintf(key, size, "%s\n%s\n%s\n%s", texts[0], texts[1], texts[2], texts[3]);
	return key;
}

static char *make_json(const struct exception *wish)
{
	char buf[RECORD_JSON_MAX];
	struct json_writer w;

	json_init(&w, buf, sizeof(buf));
	json_object_begin(&w, NULL);
	wish_write(&w, wish);
	json_object_end(&w);
	return json_finish(&w) ? strdup(buf) : NULL;
}

int list_add(struct list *list, const struct exception *wish, size_t line)
{
	const size_t room = list->room ? 2 * list->room : ROOM_START;
	struct list_entry *entries, entry = { .line = line };

	if (list->count >= LIST_ENTRIES_MAX)
		return -ENOBUFS;
	if (list->count == list->room) {
		entries = realloc(list->entries, room * sizeof(*entries));
		if (!entries)
			return -ENOMEM;
		list->entries = entries;
		list->room = room;
	}
	entry.key = make_key(wish);
	entry.json = make_json(wish);
	list->entries[list->count++] = entry;
	return entry.key && entry.json ? 0 : -ENOMEM;
}

static int compare_entries(const void *a, const void *b)
{
	return strcmp(((const struct list_entry *)a)->key, ((const struct list_entry *)b)->key);
}

void list_sort(struct list *list)
{
	if (list->count)
		qsort(list->entries, list->count, sizeof(*list->entries), compare_entries);
}

/* Writing */

static void write_value(FILE *out, yajl_val value)
{
	char buf[6 * RECORD_DESTINATIONS_MAX + 16];
	struct json_writer w;

	if (!YAJL_IS_STRING(value)) {
		fputs(YAJL_IS_NUMBER(value) ? YAJL_GET_NUMBER(value) : "null", out);
		return;
	}
	json_init(&w, buf, sizeof(buf));
	json_string(&w, NULL, YAJL_GET_STRING(value));
	json_finish(&w);
	fputs(buf, out);
}

static int write_entry(FILE *out, const struct list_entry *entry)
{
	yajl_val tree = yajl_tree_parse(entry->json, NULL, 0);

	if (!YAJL_IS_OBJECT(tree))
		return -ENOMEM;
	for (size_t i = 0; i < YAJL_GET_OBJECT(tree)->len; i++) {
		fprintf(out, "%s      \"%s\": ", i ? ",\n" : "    {\n",
			YAJL_GET_OBJECT(tree)->keys[i]);
		write_value(out, YAJL_GET_OBJECT(tree)->values[i]);
	}
	fputs("\n    }", out);
	yajl_tree_free(tree);
	return 0;
}

int list_write(FILE *out, const struct list *list)
{
	int r = 0;

	fprintf(out, "{\n  \"version\": %d,\n  \"exceptions\": [", LIST_VERSION);
	for (size_t i = 0; i < list->count && r == 0; i++) {
		fputs(i ? ",\n" : "\n", out);
		r = write_entry(out, &list->entries[i]);
	}
	fprintf(out, "%s]\n}\n", list->count ? "\n  " : "");
	return r;
}

/* Reading */

enum place { OUTSIDE, DOCUMENT, ENTRIES, ENTRY, END };

struct keyed {
	size_t number, line;
	const char *key;
	UT_hash_handle hh;
};

struct parsing {
	yajl_handle yajl;
	const char *text;
	struct list *list;
	enum place place;
	size_t line, counted; /* lines up to this byte */
	char member[64];      /* of the document, after its name; "": none is expected */
	bool has_version, has_exceptions;
	const struct record_field *field, *seen[MEMBERS_MAX];
	size_t seen_count;
	struct exception wish;
	size_t wish_line;
	struct keyed *keys;
	char error[LIST_ERROR_MAX];
};

static size_t line_now(struct parsing *p)
{
	const size_t at = yajl_get_bytes_consumed(p->yajl);

	for (; p->counted < at; p->counted++)
		p->line += p->text[p->counted] == '\n';
	return p->line;
}

static int stop(struct parsing *p, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Returns what makes yajl stop. */
static int stop(struct parsing *p, const char *format, ...)
{
	char text[LIST_ERROR_MAX / 2 + 128];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (p->place == ENTRY)
		snprintf(p->error, sizeof(p->error), "line %zu, entry %zu: %s", line_now(p),
			 p->list->count + 1, text);
	else
		snprintf(p->error, sizeof(p->error), "line %zu: %s", line_now(p), text);
	return 0;
}

/* A value where none of its kind can be. */
static int stop_value(struct parsing *p)
{
	char why[WISH_ERROR_MAX];

	if (p->place == ENTRY) {
		wish_refuse(p->field, why);
		return stop(p, "%s", why);
	}
	if (p->place == ENTRIES)
		return stop(p, "exceptions: expected objects");
	if (p->place == DOCUMENT)
		return strcmp(p->member, "version") == 0
			       ? stop(p, "version: expected %d", LIST_VERSION)
			       : stop(p, "exceptions: expected a list");
	return stop(p, "expected an object with \"version\" and \"exceptions\"");
}

static int on_null(void *user)
{
	struct parsing *p = user;

	return p->place == ENTRY ? 1 : stop_value(p);
}

static int on_other(void *user, int value)
{
	(void)value;
	return stop_value(user);
}

static int on_double(void *user, double value)
{
	(void)value;
	return stop_value(user);
}

static int on_integer(void *user, long long value)
{
	struct parsing *p = user;
	char why[WISH_ERROR_MAX];

	if (p->place == DOCUMENT && strcmp(p->member, "version") == 0 && value == LIST_VERSION)
		return 1;
	if (p->place != ENTRY)
		return stop_value(p);
	return wish_set_number(&p->wish, p->field, value, why) < 0 ? stop(p, "%s", why) : 1;
}

static int on_string(void *user, const unsigned char *value, size_t len)
{
	char text[RECORD_DESTINATIONS_MAX], why[WISH_ERROR_MAX];
	struct parsing *p = user;

	if (p->place != ENTRY || len >= sizeof(text))
		return stop_value(p);
	memcpy(text, value, len);
	text[len] = '\0';
	if (strlen(text) != len)
		return stop(p, "%s: expected a text without NUL bytes", p->field->name);
	return wish_set_text(&p->wish, p->field, text, why) < 0 ? stop(p, "%s", why) : 1;
}

static int begin_member(struct parsing *p, const char *name)
{
	bool *has = strcmp(name, "version") == 0      ? &p->has_version
		    : strcmp(name, "exceptions") == 0 ? &p->has_exceptions
						      : NULL;

	if (!has)
		return stop(p, "unknown member \"%s\"; expected version and exceptions", name);
	if (*has)
		return stop(p, "%s is there twice", name);
	*has = true;
	snprintf(p->member, sizeof(p->member), "%s", name);
	return 1;
}

static int begin_entry_member(struct parsing *p, const char *name)
{
	p->field = wish_field(name);
	if (!p->field)
		return stop(p, "unknown member \"%s\"", name);
	for (size_t i = 0; i < p->seen_count; i++)
		if (p->seen[i] == p->field)
			return stop(p, "%s is there twice", name);
	p->seen[p->seen_count++] = p->field;
	return 1;
}

static int on_key(void *user, const unsigned char *key, size_t len)
{
	struct parsing *p = user;
	char name[64];

	snprintf(name, sizeof(name), "%.*s", (int)(len < sizeof(name) ? len : sizeof(name)),
		 (const char *)key);
	return p->place == DOCUMENT ? begin_member(p, name) : begin_entry_member(p, name);
}

static int on_start_map(void *user)
{
	struct parsing *p = user;

	if (p->place != OUTSIDE && p->place != ENTRIES)
		return stop_value(p);
	p->place = p->place == OUTSIDE ? DOCUMENT : ENTRY;
	p->seen_count = 0;
	p->wish = (struct exception){ 0 };
	p->wish_line = line_now(p);
	return 1;
}

/* A twin that comes later is the one that is wrong. */
static int note_key(struct parsing *p)
{
	const struct list_entry *entry = &p->list->entries[p->list->count - 1];
	struct keyed *keyed;

	HASH_FIND_STR(p->keys, entry->key, keyed);
	if (keyed) {
		p->list->count--;
		stop(p, "the same tenant, profile, scope and destinations as entry %zu, line %zu",
		     keyed->number, keyed->line);
		p->list->count++;
		return 0;
	}
	keyed = calloc(1, sizeof(*keyed));
	if (!keyed)
		return stop(p, "no memory");
	keyed->number = p->list->count;
	keyed->line = entry->line;
	keyed->key = entry->key;
	HASH_ADD_KEYPTR(hh, p->keys, keyed->key, strlen(keyed->key), keyed);
	return 1;
}

static int end_entry(struct parsing *p)
{
	char why[WISH_ERROR_MAX];
	int r = wish_complete(&p->wish, why);

	if (r < 0)
		return stop(p, "%s", why);
	r = list_add(p->list, &p->wish, p->wish_line);
	if (r < 0)
		return r == -ENOBUFS ? stop(p, "expected at most %d entries", LIST_ENTRIES_MAX)
				     : stop(p, "no memory");
	return note_key(p);
}

static int on_end_map(void *user)
{
	struct parsing *p = user;
	const int good = p->place == ENTRY ? end_entry(p) : 1;

	if (good)
		p->place = p->place == ENTRY ? ENTRIES : END;
	return good;
}

static int on_start_array(void *user)
{
	struct parsing *p = user;

	if (p->place != DOCUMENT || strcmp(p->member, "exceptions") != 0)
		return stop_value(p);
	p->place = ENTRIES;
	return 1;
}

static int on_end_array(void *user)
{
	struct parsing *p = user;

	p->place = DOCUMENT;
	return 1;
}

/* yajl's own words, without its picture of the place. */
static int refuse_syntax(struct parsing *p, size_t len)
{
	unsigned char *text = yajl_get_error(p->yajl, 0, (const unsigned char *)p->text, len);

	if (text)
		text[strcspn((char *)text, "\n")] = '\0';
	p->place = OUTSIDE;
	stop(p, "not JSON: %s", text ? (const char *)text : "no memory");
	yajl_free_error(p->yajl, text);
	return -EINVAL;
}

static int parse(struct parsing *p, size_t len)
{
	yajl_status status = yajl_parse(p->yajl, (const unsigned char *)p->text, len);

	if (status == yajl_status_ok)
		status = yajl_complete_parse(p->yajl);
	if (*p->error)
		return -EINVAL;
	if (status != yajl_status_ok)
		return refuse_syntax(p, len);
	if (p->place == END && p->has_version && p->has_exceptions)
		return 0;
	stop(p, "expected an object with \"version\" and \"exceptions\"");
	return -EINVAL;
}

int list_parse(const char *text, size_t len, struct list *ret, char error[LIST_ERROR_MAX])
{
	static const yajl_callbacks callbacks = {
		.yajl_null = on_null,
		.yajl_boolean = on_other,
		.yajl_integer = on_integer,
		.yajl_double = on_double,
		.yajl_string = on_string,
		.yajl_start_map = on_start_map,
		.yajl_map_key = on_key,
		.yajl_end_map = on_end_map,
		.yajl_start_array = on_start_array,
		.yajl_end_array = on_end_array,
	};
	struct parsing p = { .text = text, .list = ret, .line = 1 };
	struct keyed *keyed, *next;
	int r;

	p.yajl = yajl_alloc(&callbacks, NULL, &p);
	if (!p.yajl) {
		snprintf(error, LIST_ERROR_MAX, "no memory");
		return -ENOMEM;
	}
	r = parse(&p, len);
	if (r < 0)
		snprintf(error, LIST_ERROR_MAX, "%s", p.error);
	HASH_ITER(hh, p.keys, keyed, next) {
		HASH_DEL(p.keys, keyed); /* NOLINT: uthash */
		free(keyed);
	}
	yajl_free(p.yajl);
	return r;
}
