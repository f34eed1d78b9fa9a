/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "steerctl_apply.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control/control.h"
#include "json_writer.h"
#include "steerctl_client.h"
#include "steerctl_commands.h"
#include "steerctl_list.h"
#include "steerctl_text.h"

/* Exceptions that change all the time cannot be read page by page. */
#define EXPORT_TRIES 5
#define READ_STEP ((size_t)1 << 20)
#define ENTRIES_BEGIN "{\"v\":1,\"command\":\"apply-add\",\"entries\":["
#define ENTRIES_END "]}"

static int fail(FILE *err, int code, const char *sentence)
{
	fprintf(err, "steerctl: %s\n", sentence);
	return code;
}

/* steerd said no, or it said nothing. */
static int code_of(int r)
{
	return r == -EREMOTEIO || r == -ENOMEM ? STEERCTL_FAILED : STEERCTL_UNREACHABLE;
}

/* Export */

/* What steerd writes is what a file may say; anything else is another release's. */
static int add_exported(struct list *list, yajl_val object)
{
	struct exception wish = { 0 };
	char why[WISH_ERROR_MAX];
	int r = 0;

	for (size_t i = 0; r == 0 && wish_members[i]; i++) {
		const struct record_field *field = wish_field(wish_members[i]);
		yajl_val value = text_member(object, wish_members[i]);

		if (YAJL_IS_INTEGER(value))
			r = wish_set_number(&wish, field, YAJL_GET_INTEGER(value), why);
		else
			r = wish_set_text(&wish, field, YAJL_GET_STRING(value), why);
	}
	if (r == 0)
		r = wish_complete(&wish, why);
	return r < 0 ? -EPROTO : list_add(list, &wish, 0);
}

/* Returns the generation of the page, or an errno. */
static int export_page(int fd, struct list *list, uint64_t *after, uint64_t *ret_generation,
		       bool *ret_more, char error[CLIENT_ERROR_MAX])
{
	struct answer answer = { NULL, NULL };
	char request[128];
	yajl_val exceptions;
	int r;

	snprintf(request, sizeof(request), "{\"v\":1,\"command\":\"export\",\"after\":%llu}",
		 (unsigned long long)*after);
	r = client_request(fd, request, &answer, error);
	if (r < 0)
		return r;
	exceptions = text_member(answer.tree, "exceptions");
	for (size_t i = 0; YAJL_IS_ARRAY(exceptions) && r == 0; i++) {
		if (i == YAJL_GET_ARRAY(exceptions)->len)
			break;
		r = add_exported(list, YAJL_GET_ARRAY(exceptions)->values[i]);
	}
	*after = (uint64_t)text_number(answer.tree, "last");
	*ret_generation = (uint64_t)text_number(answer.tree, "generation");
	*ret_more = text_true(answer.tree, "more");
	client_free_answer(&answer);
	if (r < 0)
		snprintf(error, CLIENT_ERROR_MAX, "%s",
			 r == -EPROTO ? "this is not steerd's answer: it may be another release"
				      : "out of memory");
	return r;
}

/* 0, 1 if something was changed between two pages, or an errno. */
static int export_all(int fd, struct list *list, char error[CLIENT_ERROR_MAX])
{
	uint64_t after = 0, first = 0, generation = 0;
	bool more = true;
	int r = 0;

	for (unsigned page = 0; r == 0 && more; page++) {
		r = export_page(fd, list, &after, &generation, &more, error);
		if (!page)
			first = generation;
		if (r == 0 && generation != first)
			return 1;
	}
	return r;
}

int apply_export(const char *socket_path, FILE *out, FILE *err)
{
	char error[CLIENT_ERROR_MAX] = "exceptions change while they are read; try again";
	struct list list = { 0 };
	int fd = -1, r = client_open(socket_path, &fd, error), changed = 1;

	for (unsigned i = 0; r == 0 && changed && i < EXPORT_TRIES; i++) {
		list_free(&list);
		r = changed = export_all(fd, &list, error);
		if (r > 0)
			r = 0;
	}
	if (fd >= 0)
		close(fd);
	if (r == 0 && !changed) {
		list_sort(&list);
		r = list_write(out, &list);
	}
	list_free(&list);
	if (r == 0 && !changed)
		return STEERCTL_OK;
	return fail(err, r == 0 ? STEERCTL_FAILED : code_of(r), error);
}

/* The file */

static int read_all(FILE *in, char **ret_text, size_t *ret_len)
{
	size_t size = 0, len = 0, got = 1;
	char *text = NULL, *moved;

	while (got) {
		if (size - len < READ_STEP) {
			size = 2 * size + READ_STEP;
			moved = realloc(text, size);
			if (!moved || len > LIST_FILE_MAX) {
				free(moved ? moved : text);
				return moved ? -EFBIG : -ENOMEM;
			}
			text = moved;
		}
		got = fread(text + len, 1, size - len, in);
		len += got;
	}
	if (ferror(in)) {
		free(text);
		return errno ? -errno : -EIO;
	}
	*ret_text = text;
	*ret_len = len;
	return 0;
}

static int load(const struct apply_request *request, struct list *ret)
{
	const bool standard = strcmp(request->file, "-") == 0;
	FILE *in = standard ? stdin : fopen(request->file, "re");
	char error[LIST_ERROR_MAX] = "", *text = NULL;
	size_t len = 0;
	int r = in ? read_all(in, &text, &len) : -errno;

	if (in && !standard)
		fclose(in);
	if (r < 0)
		snprintf(error, sizeof(error), "%s", strerror(-r));
	else
		r = list_parse(text, len, ret, error);
	free(text);
	if (r == 0)
		return STEERCTL_OK;
	fprintf(request->err, "steerctl: %s: %s; nothing was applied\n",
		standard ? "standard input" : request->file, error);
	return STEERCTL_FAILED;
}

/* Talking to steerd */

struct applying {
	const struct apply_request *request;
	int fd;
	struct list list;
	FILE *changes; /* the difference, one on a line, as it is to be printed */
	char *text;
	size_t text_len;
	long long granted, changed, revoked, over, unchanged, left_alone;
	char message[TEXT_MAX];
};

/* steerd names an entry by its number; the file has lines. */
static int refuse(const struct applying *a, int r, const char *error)
{
	const unsigned long number = strncmp(error, "entry ", 6) == 0 ? strtoul(error + 6, NULL, 10)
								      : 0;

	if (number && number <= a->list.count)
		fprintf(a->request->err, "steerctl: line %zu, %s; nothing was applied\n",
			a->list.entries[number - 1].line, error);
	else
		fail(a->request->err, 0, error);
	return code_of(r);
}

static int ask(const struct applying *a, const char *request, struct answer *ret)
{
	char error[CLIENT_ERROR_MAX];
	const char *conflict;
	int r = client_request(a->fd, request, ret, error);

	if (r < 0)
		return refuse(a, r, error);
	conflict = text_string(ret->tree, "conflict");
	if (!conflict)
		return STEERCTL_OK;
	fail(a->request->err, 0, conflict);
	client_free_answer(ret);
	return STEERCTL_CONFLICT;
}

static int begin(struct applying *a)
{
	struct answer answer = { NULL, NULL };
	char buf[CONTROL_REQUEST_MAX], error[CLIENT_ERROR_MAX];
	struct json_writer w;
	int code, r = client_open(a->request->socket_path, &a->fd, error);

	if (r < 0)
		return fail(a->request->err, STEERCTL_UNREACHABLE, error);
	json_init(&w, buf, sizeof(buf));
	json_object_begin(&w, NULL);
	json_uint(&w, "v", 1);
	json_string(&w, "command", "apply-begin");
	json_bool(&w, "prune", a->request->prune);
	if (a->request->reason)
		json_string(&w, "reason", a->request->reason);
	json_object_end(&w);
	if (json_finish(&w) == 0)
		return fail(a->request->err, STEERCTL_FAILED, "--reason: too long");
	code = ask(a, buf, &answer);
	client_free_answer(&answer);
	return code;
}

/* As many entries from *at on as fit into one request. */
static int send_some(const struct applying *a, size_t *at)
{
	char buf[CONTROL_REQUEST_MAX] = ENTRIES_BEGIN;
	size_t len = strlen(buf), room = sizeof(buf) - sizeof(ENTRIES_END) - 1, first = *at, size;
	struct answer answer = { NULL, NULL };
	int code;

	for (; *at < a->list.count; ++*at) {
		size = strlen(a->list.entries[*at].json) + 1;
		if (len + size > room)
			break;
		if (*at > first)
			buf[len++] = ',';
		memcpy(buf + len, a->list.entries[*at].json, size);
		len += size - 1;
	}
	if (*at == first) {
		fprintf(a->request->err, "steerctl: line %zu, entry %zu is too long\n",
			a->list.entries[first].line, first + 1);
		return STEERCTL_FAILED;
	}
	strcpy(buf + len, ENTRIES_END);
	code = ask(a, buf, &answer);
	client_free_answer(&answer);
	return code;
}

static void print_member(FILE *out, const char *before, yajl_val change, const char *member)
{
	char text[TEXT_MAX];

	text_of(text_member(change, member), text);
	fprintf(out, "%s%s", before, text);
}

static void print_change(FILE *out, yajl_val change)
{
	static const char *const actions[][2] = { { "change", "~ change" },
						  { "revoke", "- revoke" },
						  { "over", "  over  " },
						  { "grant", "+ grant " } };
	const char *action = text_string(change, "action"), *scope = text_string(change, "scope");
	size_t i = 0;

	while (i < 3 && (!action || strcmp(action, actions[i][0]) != 0))
		i++;
	fprintf(out, "%s", actions[i][1]);
	print_member(out, " ", change, "tenant");
	print_member(out, " ", change, "profile");
	if (scope && strcmp(scope, RECORD_SCOPE_TENANT) != 0)
		print_member(out, " scope ", change, "scope");
	if (text_string(change, "destinations"))
		print_member(out, " destinations ", change, "destinations");
	if (text_number(change, "id"))
		print_member(out, ", exception ", change, "id");
	if (i == 0) {
		print_member(out, ": ", change, "difference");
	} else {
		print_member(out, ": until ", change, "expires_at");
		print_member(out, ", risk accepted by ", change, "accepted_by");
		print_member(out, ", ", change, "change_request");
		print_member(out, ": ", change, "reason");
	}
	putc('\n', out);
}

static int fetch_page(struct applying *a, uint64_t *after, bool *ret_more)
{
	struct answer answer = { NULL, NULL };
	char request[128];
	yajl_val list;
	int code;

	snprintf(request, sizeof(request), "{\"v\":1,\"command\":\"apply-diff\",\"after\":%llu}",
		 (unsigned long long)*after);
	code = ask(a, request, &answer);
	if (code != STEERCTL_OK)
		return code;
	list = text_member(answer.tree, "changes");
	for (size_t i = 0; YAJL_IS_ARRAY(list) && i < YAJL_GET_ARRAY(list)->len; i++) {
		if (a->request->json)
			text_write_json(a->changes, YAJL_GET_ARRAY(list)->values[i]);
		else
			print_change(a->changes, YAJL_GET_ARRAY(list)->values[i]);
	}
	*after = (uint64_t)text_number(answer.tree, "next");
	*ret_more = text_true(answer.tree, "more");
	a->granted = text_number(answer.tree, "granted");
	a->changed = text_number(answer.tree, "changed");
	a->revoked = text_number(answer.tree, "revoked");
	a->over = text_number(answer.tree, "over");
	a->unchanged = text_number(answer.tree, "unchanged");
	a->left_alone = text_number(answer.tree, "left_alone");
	client_free_answer(&answer);
	return STEERCTL_OK;
}

static int fetch_difference(struct applying *a)
{
	int code = STEERCTL_OK;
	uint64_t after = 0;
	bool more = true;

	while (code == STEERCTL_OK && more)
		code = fetch_page(a, &after, &more);
	if (fflush(a->changes) != 0 && code == STEERCTL_OK)
		return fail(a->request->err, STEERCTL_FAILED, "out of memory");
	return code;
}

static int commit(struct applying *a)
{
	struct answer answer = { NULL, NULL };
	bool done = false;
	int code = STEERCTL_OK;

	while (code == STEERCTL_OK && !done) {
		code = ask(a, "{\"v\":1,\"command\":\"apply-commit\"}", &answer);
		done = code == STEERCTL_OK && text_true(answer.tree, "done");
		if (done)
			text_of(text_member(answer.tree, "message"), a->message);
		client_free_answer(&answer);
	}
	if (code == STEERCTL_UNREACHABLE)
		fail(a->request->err, 0,
		     "it is all applied or not at all, and it was not heard which: compare again, "
		     "with --dry-run");
	return code;
}

/* Printing */

static void print_json(const struct applying *a, bool applied)
{
	FILE *out = a->request->out;
	char buf[2 * TEXT_MAX];
	struct json_writer w;

	fprintf(out, "{\"v\":1,\"ok\":true,\"apply\":{\"changes\":[");
	for (size_t i = 0; i < a->text_len; i++)
		if (a->text[i] != '\n')
			putc(a->text[i], out);
		else if (i + 1 < a->text_len)
			putc(',', out);
	fprintf(out, "],");
	json_init(&w, buf, sizeof(buf));
	json_object_begin(&w, NULL);
	json_bool(&w, "dry_run", a->request->dry_run);
	json_bool(&w, "applied", applied);
	json_int(&w, "granted", a->granted);
	json_int(&w, "changed", a->changed);
	json_int(&w, "revoked", a->revoked);
	json_int(&w, "over", a->over);
	json_int(&w, "unchanged", a->unchanged);
	json_int(&w, "left_alone", a->left_alone);
	json_string(&w, "message", a->message);
	json_object_end(&w);
	json_finish(&w);
	fprintf(out, "%s}\n", buf + 1);
}

static void print_difference(const struct applying *a)
{
	fwrite(a->text, 1, a->text_len, a->request->out);
	fprintf(a->request->out,
		"grant %lld, change %lld, revoke %lld, over %lld, unchanged %lld, not in the file "
		"and left alone %lld\n",
		a->granted, a->changed, a->revoked, a->over, a->unchanged, a->left_alone);
	fflush(a->request->out);
}

static int finish(struct applying *a)
{
	const bool different = a->granted || a->changed || a->revoked;
	const bool doing = different && !a->request->dry_run;
	int code = STEERCTL_OK;

	strcpy(a->message, different ? "Dry run: nothing was changed." : "Nothing to do.");
	if (!a->request->json)
		print_difference(a);
	if (doing)
		code = commit(a);
	if (code != STEERCTL_OK)
		return code;
	if (a->request->json)
		print_json(a, doing);
	else
		fprintf(a->request->out, "%s\n", a->message);
	return different && !doing ? STEERCTL_DIFFERENT : STEERCTL_OK;
}

int apply_file(const struct apply_request *request)
{
	struct applying a = { .request = request, .fd = -1 };
	size_t sent = 0;
	int code = load(request, &a.list);

	a.changes = open_memstream(&a.text, &a.text_len);
	if (code == STEERCTL_OK && !a.changes)
		code = fail(request->err, STEERCTL_FAILED, "out of memory");
	if (code == STEERCTL_OK)
		code = begin(&a);
	while (code == STEERCTL_OK && sent < a.list.count)
		code = send_some(&a, &sent);
	if (code == STEERCTL_OK)
		code = fetch_difference(&a);
	if (code == STEERCTL_OK)
		code = finish(&a);
	if (a.changes)
		fclose(a.changes);
	if (a.fd >= 0)
		close(a.fd);
	free(a.text);
	list_free(&a.list);
	return code;
}
