/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "steerctl_try.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "steerctl_render.h"
#include "steerctl_text.h"

static int print(const struct try_options *options, const struct answer *answer,
		 int (*render)(FILE *out, yajl_val answer))
{
	if (options->json)
		return fprintf(options->out, "%s\n", answer->text) < 0 ? -EIO : 0;
	return render(options->out, answer->tree);
}

static int begin(const struct try_options *options, uint64_t *ret_id, char error[CLIENT_ERROR_MAX])
{
	struct answer answer = { NULL, NULL };
	int r = client_ask(options->socket_path, options->request, &answer, error);

	if (r < 0)
		return r;
	*ret_id = (uint64_t)text_number(text_member(answer.tree, "exception"), "id");
	r = print(options, &answer, render_grant);
	fflush(options->out);
	client_free_answer(&answer);
	return r;
}

static bool is_active(const struct answer *answer)
{
	const char *state = text_string(text_member(text_member(answer->tree, "try"), "exception"),
					"state");

	return state && strcmp(state, "active") == 0;
}

static void pause_a_second(void)
{
	const struct timespec second = { .tv_sec = 1 };

	nanosleep(&second, NULL);
}

/* Of the answers on the way only the last one is printed. */
static int report(const struct try_options *options, uint64_t id, char error[CLIENT_ERROR_MAX])
{
	struct answer answer = { NULL, NULL };
	char request[96];
	int r;

	snprintf(request, sizeof(request), "{\"v\":1,\"command\":\"try-result\",\"id\":%llu}",
		 (unsigned long long)id);
	while ((r = client_ask(options->socket_path, request, &answer, error)) == 0 &&
	       options->wait && is_active(&answer)) {
		client_free_answer(&answer);
		answer = (struct answer){ NULL, NULL };
		pause_a_second();
	}
	if (r < 0)
		return r;
	r = print(options, &answer, render_try_result);
	client_free_answer(&answer);
	return r;
}

int try_run(const struct try_options *options, char error[CLIENT_ERROR_MAX])
{
	uint64_t id = options->id;
	int r = 0;

	if (options->request)
		r = begin(options, &id, error);
	if (r == 0 && (!options->request || options->wait))
		r = report(options, id, error);
	return r;
}
