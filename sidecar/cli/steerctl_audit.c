/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "steerctl_audit.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include "json_writer.h"
#include "record/audit.h"
#include "steerctl_text.h"

struct verification {
	const struct audit_options *options;
	struct audit_chain chain;
	bool expected_found;
	uint64_t records;      /* compared with the log */
	char broken[TEXT_MAX]; /* the first link, or the first exception, that is; "": none */
};

static int note_broken(struct verification *v, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static int note_broken(struct verification *v, const char *format, ...)
{
	char text[2 * AUDIT_ERROR_MAX];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	text_clean(text, v->broken);
	return -EBADMSG;
}

/* The canonical JSON says its own number, and whom it follows. */
static int add_link(struct verification *v, yajl_val item)
{
	const char *text = text_string(item, "text"), *hash = text_string(item, "hash");
	yajl_val entry = text ? yajl_tree_parse(text, NULL, 0) : NULL;
	const char *previous = text_string(entry, "previous");
	char error[AUDIT_ERROR_MAX] = "";
	int r;

	if (hash && previous) {
		const struct audit_link link = { (uint64_t)text_number(entry, "seq"), text,
						 previous, hash };

		r = audit_chain_add(&v->chain, &link, error);
	} else {
		snprintf(error, sizeof(error), "entry %llu cannot be read",
			 (unsigned long long)v->chain.seq + 1);
		r = -EBADMSG;
	}
	yajl_tree_free(entry);
	if (r < 0)
		return note_broken(v, "%s", error);
	if (v->options->expect && strcmp(v->options->expect, v->chain.hash) == 0)
		v->expected_found = true;
	return 0;
}

static int check_record(struct verification *v, yajl_val item)
{
	const char *what = text_string(item, "what");

	return note_broken(v, "exception %lld %s", text_number(item, "id"), what ? what : "");
}

/* One page: member is the list in the answer, each looks at its items. *ret_more: there are others. */
static int read_page(struct verification *v, const char *command, const char *member,
		     uint64_t after, int (*each)(struct verification *, yajl_val), bool *ret_more,
		     char error[CLIENT_ERROR_MAX])
{
	struct answer answer = { NULL, NULL };
	char request[128];
	yajl_val list;
	int r;

	snprintf(request, sizeof(request), "{\"v\":1,\"command\":\"%s\",\"after\":%llu}", command,
		 (unsigned long long)after);
	r = client_ask(v->options->socket_path, request, &answer, error);
	if (r < 0)
		return r;
	list = text_member(answer.tree, member);
	for (size_t i = 0; YAJL_IS_ARRAY(list) && i < YAJL_GET_ARRAY(list)->len && r == 0; i++)
		r = each(v, YAJL_GET_ARRAY(list)->values[i]);
	*ret_more = text_true(answer.tree, "more");
	v->records = (uint64_t)text_number(answer.tree, "last");
	client_free_answer(&answer);
	return r;
}

static int verify(struct verification *v, char error[CLIENT_ERROR_MAX])
{
	bool more = true;
	uint64_t after;
	int r = 0;

	audit_chain_begin(&v->chain);
	while (r == 0 && more) {
		after = v->chain.seq;
		r = read_page(v, "audit", "entries", after, add_link, &more, error);
		more = more && v->chain.seq > after;
	}
	for (more = r == 0; r == 0 && more;)
		r = read_page(v, "audit-records", "wrong", v->records, check_record, &more, error);
	if (r == 0 && v->options->expect && !v->expected_found)
		r = note_broken(v, "no entry has the hash %s: the log was cut off, or made anew",
				v->options->expect);
	return r;
}

static void print_json(const struct verification *v)
{
	char buf[4 * TEXT_MAX + 1024];
	struct json_writer w;

	json_init(&w, buf, sizeof(buf));
	json_object_begin(&w, NULL);
	json_uint(&w, "v", 1);
	json_bool(&w, "ok", true);
	json_object_begin(&w, "audit");
	json_bool(&w, "whole", !*v->broken);
	json_string(&w, "broken", *v->broken ? v->broken : NULL);
	json_uint(&w, "entries", v->chain.seq);
	json_string(&w, "head", v->chain.hash);
	json_object_end(&w);
	json_object_end(&w);
	json_finish(&w);
	fprintf(v->options->out, "%s\n", buf);
}

static void print(const struct verification *v)
{
	if (v->options->json)
		print_json(v);
	else if (*v->broken)
		fprintf(v->options->out, "BROKEN  %s\nentries before it that hold: %llu\n",
			v->broken, (unsigned long long)v->chain.seq);
	else
		fprintf(v->options->out, "whole   entries %llu, exceptions %llu\nhead    %s\n",
			(unsigned long long)v->chain.seq, (unsigned long long)v->records,
			v->chain.hash);
}

int audit_verify(const struct audit_options *options, char error[CLIENT_ERROR_MAX])
{
	struct verification v = { .options = options };
	int r = verify(&v, error);

	if (r == 0 || r == -EBADMSG)
		print(&v);
	return r;
}
