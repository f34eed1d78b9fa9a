/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "steerctl_doctor.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "control/doctor.h"
#include "steerctl_client.h"
#include "steerctl_legacy.h"
#include "steerctl_render.h"
#include "steerctl_text.h"

/* Every check with as many findings as it may have, each as long as it may be, is less. */
#define ANSWER_MAX (1u << 20)

struct visit {
	const struct doctor_options *options;
	struct json_writer w;
	enum doctor_severity worst;
};

static void note(struct visit *visit, enum doctor_severity severity)
{
	if (severity > visit->worst)
		visit->worst = severity;
}

static void take(void *user, const struct doctor_finding *finding)
{
	struct visit *visit = user;

	note(visit, finding->severity);
	doctor_write(&visit->w, finding);
}

/* As steerd wrote it, with names that this steerctl does not know. */
static int take_raw(struct visit *visit, yajl_val finding)
{
	const char *severity = text_string(finding, "severity");
	char *text = NULL;
	size_t len = 0;
	FILE *memory = open_memstream(&text, &len);
	int r = memory ? text_write_json(memory, finding) : -ENOMEM;

	if (memory && fclose(memory) != 0)
		r = -ENOMEM;
	if (r == 0)
		json_raw(&visit->w, NULL, text, strcspn(text, "\n"));
	free(text);
	for (enum doctor_severity s = DOCTOR_OK; severity && s <= DOCTOR_ERROR; s++)
		if (strcmp(severity, doctor_severity_name(s)) == 0)
			note(visit, s);
	return r;
}

static int take_answer(struct visit *visit, yajl_val answer)
{
	yajl_val doctor = text_member(answer, "doctor");
	yajl_val list = text_member(doctor, "findings");
	int r = 0;

	for (size_t i = 0; YAJL_IS_ARRAY(list) && i < YAJL_GET_ARRAY(list)->len && r == 0; i++)
		r = take_raw(visit, YAJL_GET_ARRAY(list)->values[i]);
	if (r == 0)
		legacy_check((uint32_t)text_number(doctor, "mark_mask"), take, visit);
	return r;
}

static int ask_steerd(struct visit *visit)
{
	char error[CLIENT_ERROR_MAX] = "";
	struct answer answer = { NULL, NULL };
	int r = client_ask(visit->options->socket_path, "{\"v\":1,\"command\":\"doctor\"}", &answer,
			   error);

	if (r < 0) {
		const struct doctor_finding finding = {
			.id = "steerd",
			.severity = DOCTOR_ERROR,
			.what = error,
			.why = "while it is away, everything is enforced; steerctl doctor --config "
			       "FILE looks without it",
			.fix = "systemctl start steerd",
		};

		take(visit, &finding);
		return 0;
	}
	r = take_answer(visit, answer.tree);
	client_free_answer(&answer);
	return r;
}

static int look_here(struct visit *visit)
{
	char error[SETTINGS_ERROR_MAX];
	struct doctor_question question = { .settings_file = visit->options->config };
	struct settings *settings = NULL;

	if (settings_load(visit->options->config, &settings, error) < 0) {
		const struct doctor_finding finding = { .id = "settings",
							.severity = DOCTOR_ERROR,
							.what = error,
							.why = "steerd does not start with it" };

		take(visit, &finding);
		return 0;
	}
	question.settings = settings;
	doctor_run(&question, take, visit);
	legacy_check(settings->mark_mask, take, visit);
	settings_free(settings);
	return 0;
}

static int print(const struct visit *visit, const char *text)
{
	yajl_val tree;
	char error[64];
	int r;

	if (visit->options->json) {
		fprintf(visit->options->out, "%s\n", text);
		return 0;
	}
	tree = yajl_tree_parse(text, error, sizeof(error));
	r = tree ? render_doctor(visit->options->out, tree) : -ENOMEM;
	yajl_tree_free(tree);
	return r;
}

int doctor_visit(const struct doctor_options *options)
{
	struct visit visit = { .options = options, .worst = DOCTOR_OK };
	char *text = malloc(ANSWER_MAX);
	int r;

	if (!text)
		return -ENOMEM;
	json_init(&visit.w, text, ANSWER_MAX);
	json_object_begin(&visit.w, NULL);
	json_uint(&visit.w, "v", 1);
	json_bool(&visit.w, "ok", true);
	json_object_begin(&visit.w, "doctor");
	json_uint(&visit.w, "version", DOCTOR_VERSION);
	json_array_begin(&visit.w, "findings");
	r = options->config ? look_here(&visit) : ask_steerd(&visit);
	json_array_end(&visit.w);
	json_string(&visit.w, "worst", doctor_severity_name(visit.worst));
	json_object_end(&visit.w);
	json_object_end(&visit.w);
	if (r == 0 && json_finish(&visit.w) == 0)
		r = -ENOBUFS;
	if (r == 0)
		r = print(&visit, text);
	free(text);
	return r < 0 ? r : visit.worst > DOCTOR_INFO;
}
