/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "steerctl_plan.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "control/control.h"
#include "json_writer.h"
#include "steerctl_render.h"
#include "steerctl_text.h"

/* steerd drops what nobody asks about for ten seconds. */
#define ASK_MS 1000
#define ASK_MIN_MS 100

static int begin(const struct plan_options *options, long long *ret_id,
		 char error[CLIENT_ERROR_MAX])
{
	char request[CONTROL_REQUEST_MAX - 1];
	struct answer answer = { NULL, NULL };
	struct json_writer w;
	int r;

	json_init(&w, request, sizeof(request));
	json_object_begin(&w, NULL);
	json_uint(&w, "v", 1);
	json_string(&w, "command", "plan");
	json_string(&w, "tenant", options->tenant);
	json_string(&w, "profile", options->profile);
	if (options->host)
		json_string(&w, "host", options->host);
	if (options->prefix)
		json_string(&w, "prefix", options->prefix);
	json_int(&w, "duration_s", options->seconds);
	json_object_end(&w);
	if (!json_finish(&w)) {
		strcpy(error, "the arguments are too long");
		return -E2BIG;
	}
	r = client_ask(options->socket_path, request, &answer, error);
	if (r < 0)
		return r;
	*ret_id = text_number(text_member(answer.tree, "plan"), "id");
	client_free_answer(&answer);
	return 0;
}

static int ask(const struct plan_options *options, long long id, struct answer *ret,
	       char error[CLIENT_ERROR_MAX])
{
	char request[128];

	snprintf(request, sizeof(request), "{\"v\":1,\"command\":\"plan-result\",\"id\":%lld}", id);
	return client_ask(options->socket_path, request, ret, error);
}

static void show_progress(const struct plan_options *options, yajl_val plan, bool done)
{
	yajl_val list = text_member(plan, "destinations");

	if (!isatty(fileno(options->err)))
		return;
	fprintf(options->err, "\robserving, %lld s to go, destinations: %zu   %s",
		(text_number(plan, "remaining_ms") + 999) / 1000,
		YAJL_IS_ARRAY(list) ? YAJL_GET_ARRAY(list)->len : 0, done ? "\n" : "");
	fflush(options->err);
}

static void pause_ms(long long ms)
{
	const struct timespec time = { ms / 1000, ms % 1000 * 1000000 };

	nanosleep(&time, NULL);
}

static int wait_result(const struct plan_options *options, long long id, struct answer *ret,
		       char error[CLIENT_ERROR_MAX])
{
	const char *state;
	long long left;
	bool done;
	int r;

	for (;;) {
		r = ask(options, id, ret, error);
		if (r < 0)
			return r;
		state = text_string(text_member(ret->tree, "plan"), "state");
		left = text_number(text_member(ret->tree, "plan"), "remaining_ms");
		done = state && strcmp(state, "done") == 0;
		show_progress(options, text_member(ret->tree, "plan"), done);
		if (done)
			return 0;
		client_free_answer(ret);
		pause_ms(left < ASK_MIN_MS ? ASK_MIN_MS : left < ASK_MS ? left : ASK_MS);
	}
}

/* What does not stand for itself in a shell. */
static void print_word(FILE *out, const char *word)
{
	fprintf(out, strpbrk(word, " '\"\\$`&|;<>()*?[]#~!{}%") ? " '%s'" : " %s", word);
}

static void print_grant(const struct plan_options *options)
{
	FILE *out = options->out;

	fprintf(out, "\nNothing was let through. What would let it through:\n\n"
		     "  steerctl grant");
	print_word(out, options->tenant);
	fprintf(out, " --profile");
	print_word(out, options->profile);
	if (options->host || options->prefix) {
		fprintf(out, options->host ? " --host" : " --prefix");
		print_word(out, options->host ? options->host : options->prefix);
	}
	fprintf(out, " \\\n      --change-request CR --accepted-by WHO --accept-risk"
		     " --reason TEXT --expires 30d\n");
}

static void print_left_out(FILE *out, yajl_val plan)
{
	static const char *const lines[][2] = {
		{ "reserved", "to reserved destinations, which are never let through" },
		{ "own", "to the gateway itself, which are never let through" },
		{ "not_listed", "to destinations that the profile does not have" },
		{ "ambiguous", "from addresses that another tenant has too: whose they are "
			       "cannot be told" },
	};
	yajl_val left_out = text_member(plan, "left_out");

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		if (text_number(left_out, lines[i][0]))
			fprintf(out, "Left out: %lld flows %s.\n",
				text_number(left_out, lines[i][0]), lines[i][1]);
	if (text_true(plan, "lower_bound"))
		fprintf(out, "The figures are a LOWER BOUND: the kernel told of more flows than "
			     "were read.\n");
}

static int print_plan(const struct plan_options *options, yajl_val answer)
{
	yajl_val plan = text_member(answer, "plan"), list = text_member(plan, "destinations");
	yajl_val other = text_member(plan, "other_destinations");
	char tenant[TEXT_MAX], profile[TEXT_MAX], source[TEXT_MAX];
	FILE *out = options->out;
	int r = 0;

	text_of(text_member(plan, "tenant"), tenant);
	text_of(text_member(plan, "profile"), profile);
	text_of(text_member(plan, "source"), source);
	fprintf(out, "Profile %s would let these flows of tenant %s%s%s through, seen in %lld s:\n",
		profile, tenant, strcmp(source, "-") ? " from " : "",
		strcmp(source, "-") ? source : "", text_number(plan, "seconds"));
	if (YAJL_IS_ARRAY(list) && YAJL_GET_ARRAY(list)->len)
		r = render_plan(out, plan);
	else
		fprintf(out, "none\n");
	if (text_number(other, "live") || text_number(other, "new"))
		fprintf(out, "And to other destinations: %lld live, %lld new.\n",
			text_number(other, "live"), text_number(other, "new"));
	print_left_out(out, plan);
	print_grant(options);
	return r;
}

int plan_run(const struct plan_options *options, char error[CLIENT_ERROR_MAX])
{
	struct answer answer = { NULL, NULL };
	long long id = 0;
	int r = begin(options, &id, error);

	if (r == 0)
		r = wait_result(options, id, &answer, error);
	if (r < 0)
		return r;
	if (options->json)
		fprintf(options->out, "%s\n", answer.text);
	else
		r = print_plan(options, answer.tree);
	client_free_answer(&answer);
	if (r < 0)
		strcpy(error, "out of memory");
	return r;
}
