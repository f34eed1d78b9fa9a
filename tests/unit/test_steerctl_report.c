/* SPDX-License-Identifier: GPL-2.0-or-later */
/* steerctl report and plan against a control socket with answers of our own. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/steerctl_commands.h"
#include "control/control.h"

static char directory[64], path[96];
static pid_t server;
static char *out, *err;

#define HANDLER(name)                                                                              \
	static int name(void *user, const struct control_caller *caller, yajl_val request,         \
			struct json_writer *w, char error[CONTROL_ERROR_MAX])

static void raw(struct json_writer *w, const char *name, const char *json)
{
	json_raw(w, name, json, strlen(json));
}

#define SUMS(flows, ended, uncounted, sent, received)                                              \
	"\"flows\":" flows ",\"ended\":" ended ",\"uncounted\":" uncounted ",\"bytes_sent\":" sent \
	",\"bytes_received\":" received ",\"first_use\":\"2026-01-05T00:00:00.000000Z\","          \
	"\"last_use\":\"2026-01-06T00:00:00.000000Z\""
#define EXCEPTION(id, tenant, ever, sums, destinations)                                            \
	"{\"id\":" id ",\"tenant\":\"" tenant "\",\"profile\":\"skype\",\"scope\":\"tenant\","     \
	"\"change_request\":\"CR-1\",\"reason\":\"calls\",\"accepted_by\":\"A. Officer\","         \
	"\"granted_by\":\"op\",\"from\":\"2026-01-01T00:00:00.000000Z\",\"to\":null,"              \
	"\"active\":true," sums ",\"ever_used\":" ever ",\"destinations\":[" destinations          \
	"],\"other_destinations\":{" SUMS("0", "0", "0", "0", "0") "}}"
#define NOTHING SUMS("0", "0", "0", "0", "0")
#define PAGE(lower, exceptions, last, more)                                                        \
	"{\"month\":\"2026-01\",\"tenant\":null,\"accounting\":{\"ok\":true,\"error\":null,"       \
	"\"lower_bound\":" lower                                                                   \
	",\"lost\":2,\"untracked\":0,\"dropped\":0},\"exceptions\":[" exceptions                   \
	"],\"unattributed\":{" NOTHING "},\"last\":" last ",\"more\":" more "}"

/* Two pages, in the order of ids. */
HANDLER(do_report)
{
	const char *month = control_string(request, "month");

	(void)user;
	(void)caller;
	if (month && strcmp(month, "2026-01") != 0) {
		strcpy(error, "month: expected YYYY-MM, such as 2026-01");
		return -EINVAL;
	}
	if (control_int(request, "after", 0) == 0)
		raw(w, "report",
		    PAGE("false",
			 EXCEPTION("3", "globex", "false", NOTHING, "") "," EXCEPTION(
				 "5", "acme", "true", SUMS("2", "1", "0", "1234", "5678"),
				 "{\"address\":\"203.0.113.10\",\"protocol\":\"tcp\","
				 "\"port\":443," SUMS("2", "1", "0", "1234", "5678") "}"),
			 "5", "true"));
	else
		raw(w, "report",
		    PAGE("true",
			 EXCEPTION("9", "acme", "true", SUMS("4", "4", "4", "null", "null"), ""),
			 "9", "false"));
	return 0;
}

HANDLER(do_plan)
{
	(void)user;
	(void)caller;
	if (control_int(request, "duration_s", 0) > 3600) {
		strcpy(error, "duration_s: expected 1 second to an hour (3600)");
		return -EINVAL;
	}
	raw(w, "plan", "{\"id\":4,\"seconds\":1}");
	return 0;
}

/* Not done when it is asked for the first time. */
HANDLER(do_plan_result)
{
	static unsigned asked;

	(void)user;
	(void)caller;
	(void)error;
	assert_int_equal(control_int(request, "id", 0), 4);
	if (!asked++)
		raw(w, "plan", "{\"id\":4,\"state\":\"observing\",\"remaining_ms\":10}");
	else
		raw(w, "plan",
		    "{\"id\":4,\"state\":\"done\",\"remaining_ms\":0,\"tenant\":\"acme\","
		    "\"profile\":\"skype\",\"source\":null,\"seconds\":1,\"lower_bound\":false,"
		    "\"left_out\":{\"reserved\":3,\"own\":0,\"not_listed\":0,\"ambiguous\":2},"
		    "\"destinations\":[{\"address\":\"203.0.113.10\",\"protocol\":\"tcp\","
		    "\"port\":443,\"live\":1,\"new\":7,\"bypassed\":0,\"now\":\"enforce\","
		    "\"bytes_sent\":null,\"bytes_received\":null}],"
		    "\"other_destinations\":{\"live\":0,\"new\":0}}");
	return 0;
}

static const struct control_command handlers[] = { { "report", do_report },
						   { "plan", do_plan },
						   { "plan-result", do_plan_result },
						   { NULL, NULL } };

static void serve(int ready)
{
	struct control *control = NULL;
	sd_event *loop = NULL;

	if (sd_event_new(&loop) < 0 || control_open(loop, path, "", handlers, NULL, &control) < 0)
		_exit(1);
	close(ready);
	sd_event_loop(loop);
	_exit(0);
}

static int setup(void **state)
{
	int ready[2];
	char byte;

	(void)state;
	strcpy(directory, "/tmp/test-report-XXXXXX");
	if (!mkdtemp(directory) || pipe(ready) < 0)
		return -1;
	snprintf(path, sizeof(path), "%s/control", directory);
	server = fork();
	if (server == 0) {
		close(ready[0]);
		serve(ready[1]);
	}
	close(ready[1]);
	/* Closed when it listens. */
	if (server < 0 || read(ready[0], &byte, 1) != 0)
		return -1;
	close(ready[0]);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	kill(server, SIGKILL);
	waitpid(server, NULL, 0);
	unlink(path);
	free(out);
	free(err);
	out = err = NULL;
	return rmdir(directory);
}

/* Words, up to a NULL. */
static int run(char *const *words)
{
	char *argv[16] = { "steerctl", "--socket", path };
	size_t out_len, err_len;
	FILE *out_file, *err_file;
	int argc = 3, code;

	while (*words)
		argv[argc++] = *words++;
	free(out);
	free(err);
	out_file = open_memstream(&out, &out_len);
	err_file = open_memstream(&err, &err_len);
	code = steerctl_run(argc, argv, out_file, err_file);
	fclose(out_file);
	fclose(err_file);
	return code;
}

#define RUN(...) run((char *[]){ __VA_ARGS__, NULL })

static void expect(const char *words)
{
	if (!strstr(out, words))
		fail_msg("expected:\n%s\nin:\n%s", words, out);
}

static void test_report_text(void **state)
{
	(void)state;
	assert_int_equal(RUN("report"), STEERCTL_OK);
	assert_string_equal(err, "");
	expect("Exceptions in 2026-01 (UTC)");
	expect("LOWER BOUND: notifications lost 2 times");
	expect("  exception 5    profile skype, active\n");
	expect("  accepted by      A. Officer\n");
	expect("  used by          2 flows, 1 ended, 1234 bytes sent, 5678 received\n");
	expect("  destinations     tcp 203.0.113.10 port 443: 2 flows, 1234 bytes sent");
	expect("  used by          4 flows, 4 ended, bytes not counted\n");
	expect("  used by          nobody, never\n");
	expect("\nNot used in this month: exceptions 3\n");
	/* Tenant by tenant, across the pages. */
	assert_true(strstr(out, "tenant acme") < strstr(out, "exception 9"));
	assert_true(strstr(out, "exception 9") < strstr(out, "tenant globex"));
}

static void test_report_json(void **state)
{
	static const char *const list[] = { "report", "exceptions", NULL };
	static const char *const lower[] = { "report", "accounting", "lower_bound", NULL };
	yajl_val tree, exceptions;

	(void)state;
	assert_int_equal(RUN("report", "--json"), STEERCTL_OK);
	assert_ptr_equal(strchr(out, '\n'), out + strlen(out) - 1);
	tree = yajl_tree_parse(out, NULL, 0);
	assert_non_null(tree);
	exceptions = yajl_tree_get(tree, (const char **)list, yajl_t_array);
	assert_int_equal(YAJL_GET_ARRAY(exceptions)->len, 3);
	assert_true(YAJL_IS_TRUE(yajl_tree_get(tree, (const char **)lower, yajl_t_any)));
	yajl_tree_free(tree);
}

static void test_report_refused(void **state)
{
	(void)state;
	assert_int_equal(RUN("report", "--month", "2026"), STEERCTL_FAILED);
	assert_non_null(strstr(err, "expected YYYY-MM"));
	assert_string_equal(out, "");
}

static void test_plan(void **state)
{
	(void)state;
	assert_int_equal(RUN("plan", "acme", "--profile", "skype", "--for", "1s"), STEERCTL_OK);
	/* No progress to what is not a terminal. */
	assert_string_equal(err, "");
	expect("203.0.113.10 tcp       443    1   7 enforce          -              -\n");
	expect("Left out: 3 flows to reserved destinations");
	expect("Left out: 2 flows from addresses that another tenant has too");
	expect("  steerctl grant acme --profile skype \\\n");
	assert_null(strstr(out, "LOWER BOUND"));
	assert_int_equal(RUN("plan", "acme", "--profile", "skype", "--host", "198.18.1.5"),
			 STEERCTL_OK);
	expect("  steerctl grant acme --profile skype --host 198.18.1.5 \\\n");
}

static void test_plan_usage(void **state)
{
	(void)state;
	assert_int_equal(RUN("plan", "acme"), STEERCTL_USAGE);
	assert_int_equal(RUN("plan", "acme", "--profile", "p", "--host", "198.18.1.1", "--prefix",
			     "198.18.1.0/24"),
			 STEERCTL_USAGE);
	assert_int_equal(RUN("plan", "acme", "--profile", "p", "--for", "2h"), STEERCTL_FAILED);
	assert_non_null(strstr(err, "duration_s"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_report_text), TEST(test_report_json), TEST(test_report_refused),
		TEST(test_plan),        TEST(test_plan_usage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
