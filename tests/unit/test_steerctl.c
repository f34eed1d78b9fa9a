/* SPDX-License-Identifier: GPL-2.0-or-later */
/* steerctl's command line against a real control socket and a real stream (canned_steerd.h). */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "canned_steerd.h"
#include "cli/steerctl_client.h"
#include "cli/steerctl_commands.h"
#include "cli/steerctl_text.h"

#define DEADLINE_S 20

/* One command line; what it printed is in out and err. */
static struct {
	char *out;
	char *err;
} printed;

static int run_argv(int argc, char *const *argv)
{
	size_t out_len, err_len;
	FILE *out, *err;
	int code;

	free(printed.out);
	free(printed.err);
	out = open_memstream(&printed.out, &out_len);
	err = open_memstream(&printed.err, &err_len);
	code = steerctl_run(argc, argv, out, err);
	fclose(out);
	fclose(err);
	return code;
}

/* The words are parted by '|'. */
static int run(const char *line)
{
	char *words = strdup(line), *argv[32] = { (char *)"steerctl" }, *save = NULL, *word;
	int argc = 1, code;

	argv[argc++] = (char *)"--socket";
	argv[argc++] = canned.socket_path;
	for (word = strtok_r(words, "|", &save); word; word = strtok_r(NULL, "|", &save))
		argv[argc++] = word;
	code = run_argv(argc, argv);
	free(words);
	return code;
}

static void expect_out(const char *line, const char *text)
{
	assert_int_equal(run(line), STEERCTL_OK);
	assert_string_equal(printed.err, "");
	if (strcmp(printed.out, text) != 0)
		fail_msg("%s\ngot:\n%s\nexpected:\n%s", line, printed.out, text);
}

/* clang-format off */
static void test_text(void **state)
{
	(void)state;
	expect_out("status",
		   "version            0.1.0\nmode               sa\nverify_sa          true\nstate              enforcing\n"
		   "reason             no snapshot yet\n"
		   "publisher          heard 40 ms ago, seq 17, gaps 1, resyncs 2\n"
		   "store              disk is full\naccounting         ok\nchild SAs          3\ntenants            2\n"
		   "exempt child SAs   1\nconflicts          0\nexceptions         1\n"
		   "lease (ms)         3000\ncounters\n  flows_bypassed                 12345678901234\n");
	expect_out("tenants",
		   "TENANT         CHILD-SAS STEERING PROFILES  REMOTE-HOSTS     ADDRESSES     SOURCE IDENTITY        PART-PROFILES\n"
		   "acme                   2 bypass   skype,ssh 192.0.2.10[4500] 198.18.1.0/24 id     gw@acme.example any\n"
		   "(unidentified)         1 enforce  -         192.0.2.11[500]  198.18.2.0/24 none   evil?[2Jname    -\n");
	expect_out("exceptions|--all",
		   "ID TENANT PROFILE STATE   GRANTED              EXPIRES CHANGE-REQUEST ACCEPTED-BY GRANTED-BY ENDED                ENDED-BY END-REASON VERSION SCOPE           DESTINATIONS             REASON KIND\n"
		   " 1 acme   skype   revoked 2026-01-31T12:00:00Z never   CR-1           A. Officer  op         2026-02-01T00:00:00Z op2      done             2 host 198.18.1.5 192.0.2.1,203.0.113.0/24 calls  grant\n");
	expect_out("profiles",
		   "PROFILE STRENGTH     RISK   PATH   SERVICES         DESTINATIONS                        EXPLICIT-PROXY  FOR   MAX-LIFETIME\n"
		   "skype   any-443      high   bypass tcp/443,udp/3478 any                                 203.0.113.80:80 grant 90d\n"
		   "zoom    destinations medium bypass tcp/443          203.0.113.0/24,2001:db8:443::/48,+2 -               try   unlimited\n"
		   "proxy   destinations medium bypass -                -                                   203.0.113.80:80 grant unlimited\n");
	expect_out("revoke|acme|--reason|over",
		   "exception 7: skype revoked for acme\nover id=-1 if=-1\n");
	expect_out("revoke|acme|--reason|over|--id|7|--if-version=2",
		   "exception 7: skype revoked for acme\nover id=7 if=2\n");
	expect_out("risk", "version            3\nsha256             abcd\ntext               the risk\n");
	expect_out("change|7|--reason|more calls",
		   "exception 7: skype of acme has version 2, expires 2026-01-31T12:00:00Z\n"
		   "for=more calls risk=0 hash=0 expires=-1 if=-1\n");
	expect_out("change|7|--expires|1h|--accept-risk|--accepted-by|x|--if-version|1",
		   "exception 7: skype of acme has version 2, expires 2026-01-31T12:00:00Z\n"
		   "for= risk=1 hash=1 expires=3600 if=1\n");
	expect_out("explain|acme|--dst|203.0.113.10:443|--proto=tcp",
		   "subject            acme\ntenant             acme\npath               bypass\n"
		   "summary            203.0.113.10:443\n  yes an exception is active\n"
		   "  no  the lease is over\n");
	expect_out("explain|acme|--dst|203.0.113.10:443|--source-port|51234",
		   "subject            acme\ntenant             acme\npath               bypass\n"
		   "summary            203.0.113.10:443\n  yes an exception is active\n"
		   "  no  the lease is over\nflows              1 flow runs\n"
		   "                   2 were not seen\n");
	expect_out("resync", "being fetched\n");
}
/* clang-format on */

static void test_grant(void **state)
{
	(void)state;
	expect_out("grant|acme|--profile|skype|--change-request|CR 1|--accepted-by|A. Officer|"
		   "--accept-risk|--reason|calls|--expires|30d",
		   "exception 7: skype granted to acme, expires never, child SAs 2\n"
		   "cr=CR 1 by=A. Officer for=calls risk=1/1/1 expires=2592000\n");
	expect_out("grant|--profile=skype|--change-request=a=b|--accepted-by=x|--accept-risk|"
		   "--expires=1h|--reason=y|--|acme",
		   "exception 7: skype granted to acme, expires never, child SAs 2\n"
		   "cr=a=b by=x for=y risk=1/1/1 expires=3600\n");
	expect_out("grant|acme|--profile|p|--change-request|c|--accepted-by|x|--accept-risk|"
		   "--reason|y|--expires|1h|--host|198.18.1.5",
		   "exception 7: p granted to acme (host 198.18.1.5), expires never, "
		   "child SAs 2\ncr=c by=x for=y risk=1/1/1 expires=3600\n");
	expect_out("grant|acme|--profile|p|--change-request|c|--accepted-by|x|--accept-risk|"
		   "--reason|y|--expires|1h|--destination|203.0.113.0/24|--destination=192.0.2.1|"
		   "--user|C=CH, CN=a",
		   "exception 7: p granted to acme (user C=CH, CN=a, to 203.0.113.0/24,192.0.2.1), "
		   "expires never, child SAs 2\ncr=c by=x for=y risk=1/1/1 expires=3600\n");
	/* steerd's refusal: its words, one line, nothing for the terminal, exit 1 */
	assert_int_equal(run("grant|nobody|--profile|p|--change-request|c|--accepted-by|x|"
			     "--accept-risk|--reason|r|--expires|1h"),
			 STEERCTL_FAILED);
	assert_string_equal(printed.err, "steerctl: tenant \"nobody\": refused?for?[2J the test\n");
	assert_string_equal(printed.out, "");
}

#define TRY                                                                                        \
	"try|acme|--host|198.18.1.5|--profile|any|--for|10m|--change-request|CR "                  \
	"1|--accepted-by|x|"                                                                       \
	"--accept-risk|--reason|y"
#define TRY_BEGUN                                                                                  \
	"exception 7: any granted to acme (host 198.18.1.5), expires never, child SAs 2\n"         \
	"cr=CR 1 by=x for=y risk=1/1/1 expires=600\n"
#define TRY_RESULT                                                                                 \
	"try 7: any for acme (host 198.18.1.5), expired, expires 2026-01-31T12:00:00Z\n"           \
	"These flows used it.\n"                                                                   \
	"PROTOCOL DESTINATION  PORT FLOWS ANSWERED PACKETS BYTES\n"                                \
	"tcp      203.0.113.10  443     2        1       9     -\n"                                \
	"Further ones: 4\n"                                                                        \
	"Profile skype covers 1 of 1. With --accept-risk, when the customer has accepted its "     \
	"risk:\n"                                                                                  \
	"  steerctl grant acme --profile skype\n"

static void test_try(void **state)
{
	(void)state;
	expect_out(TRY, TRY_BEGUN);
	expect_out(TRY "|--wait", TRY_BEGUN TRY_RESULT);
	expect_out("try|--result|7", TRY_RESULT);
	assert_int_equal(run("try|--result|8"), STEERCTL_FAILED);
	assert_non_null(strstr(printed.err, "there is no try 8"));
	/* nothing is sent without the risk accepted */
	assert_int_equal(run("try|acme|--host|198.18.1.5"), STEERCTL_USAGE);
	assert_non_null(strstr(printed.err, "missing: --accept-risk"));
}

static void test_json(void **state)
{
	(void)state;
	expect_out("--json|exceptions", "{\"v\":1,\"ok\":true,\"exceptions\":[]}\n");
	expect_out("exceptions|--json", "{\"v\":1,\"ok\":true,\"exceptions\":[]}\n");
	expect_out("resync|--json", "{\"v\":1,\"ok\":true,\"message\":\"being fetched\"}\n");
	assert_int_equal(run("tenants|--json"), STEERCTL_OK);
	assert_non_null(strstr(printed.out, "evil\\u001b[2Jname")); /* JSON says it, and safely */
}

static void test_usage(void **state)
{
	static const char *const cases[][2] = {
		{ "", "a command is missing" },
		{ "nonsense", "unknown command nonsense" },
		{ "status|more", "too many arguments: more" },
		{ "explain", "missing: TENANT|ADDRESS" },
		{ "explain|a|b", "too many arguments: b" },
		{ "status|--bogus", "unknown option --bogus" },
		{ "--profile|x|grant", "unknown option --profile" },
		{ "revoke|acme", "missing: --reason" },
		{ "revoke|acme|--reason=", "--reason: expected a text" },
		{ "exceptions|--all=1", "takes no value: --all" },
		{ "watch|--since|x", "--since: expected a number" },
		{ "watch|a b", "not a tenant name: a b" },
		{ "explain|a|--dst|x|--dst|y", "given twice: --dst" },
		{ "grant|a|--expires|soon", "--expires: expected a duration" },
		{ "change", "missing: ID" },
		{ "change|acme|--reason|x", "ID: expected a number" },
		{ "change|7|--if-version|x", "--if-version: expected a number" },
		{ "grant|a|--expires|500ms", "--expires: expected a duration" },
		{ "grant|a|--host|x|--host|y", "given twice: --host" },
		{ "grant|a|--destination=", "--destination: expected a text" },
		{ "try|--host|x", "missing: TENANT" },
		{ "try|a|--prefix|198.18.1.0/24", "unknown option --prefix" },
		{ "try|a|--result|7", "--result: expected no tenant" },
		{ "try|--result|x", "--result: expected a number" },
		{ "grant|a|--host|x|--user|y", "at most one of --host, --prefix and --user: y" },
		{ "revoke|a|--reason|x|--id|y", "--id: expected a number" },
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(run(cases[i][0]), STEERCTL_USAGE);
		assert_string_equal(printed.out, "");
		if (!strstr(printed.err, cases[i][1]))
			fail_msg("%s\ngot: %s\nexpected: %s", cases[i][0], printed.err,
				 cases[i][1]);
	}
	{
		char *argv[] = { (char *)"steerctl", (char *)"explain", (char *)"a",
				 (char *)"--dst" };

		assert_int_equal(run_argv(4, argv), STEERCTL_USAGE);
		assert_non_null(strstr(printed.err, "a value is missing after --dst"));
	}
}

/* Each that an exception cannot be without: nothing is sent, and it is told. */
static void test_risk(void **state)
{
	static const char *const lines[] = {
		"grant|acme|--profile|skype",
		"grant|acme|--profile|skype|--reason|r|--expires|1h|--accepted-by|x|--accept-risk",
		"grant|acme|--profile|skype|--reason|r|--expires|1h|--change-request|c|--accept-"
		"risk",
		"grant|acme|--profile|skype|--reason|r|--expires|1h|--change-request|c|--accepted-"
		"by|x",
		"grant|acme|--profile|skype|--reason|r|--change-request|c|--accepted-by|x|--accept-"
		"risk",
		"grant|acme|--profile|skype|--expires|1h|--change-request|c|--accepted-by|x|"
		"--accept-risk",
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		assert_int_equal(run(lines[i]), STEERCTL_USAGE);
		assert_non_null(strstr(printed.err, "not inspected"));
		assert_non_null(strstr(printed.err, "any software"));
		assert_non_null(strstr(printed.err, "without a rating"));
		assert_non_null(strstr(printed.err, "nothing was sent"));
		assert_string_equal(printed.out, "");
	}
}

static void test_help(void **state)
{
	static const char *const commands[] = { "status", "tenants", "exceptions", "profiles",
						"grant",  "revoke",  "explain",    "watch",
						"resync", "change",  "risk",       "try" };
	char line[64];
	size_t i;

	(void)state;
	assert_int_equal(run("--help"), STEERCTL_OK);
	for (i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		assert_non_null(strstr(printed.out, commands[i]));
	for (i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		snprintf(line, sizeof(line), "%s|--help", commands[i]);
		assert_int_equal(run(line), STEERCTL_OK);
		snprintf(line, sizeof(line), "usage: steerctl %s", commands[i]);
		assert_memory_equal(printed.out, line, strlen(line));
	}
	assert_int_equal(run("--version"), STEERCTL_OK);
	assert_memory_equal(printed.out, "steerctl ", 9);
}

static void test_nobody_there(void **state)
{
	char *argv[] = { (char *)"steerctl", (char *)"status",
			 (char *)"--socket=/nonexistent/control" };

	(void)state;
	assert_int_equal(run_argv(3, argv), STEERCTL_FAILED);
	assert_non_null(
		strstr(printed.err, "/nonexistent/control: No such file or directory; is steerd"));
	assert_string_equal(printed.out, "");
}

static void test_clean(void **state)
{
	char buf[TEXT_MAX], big[3 * TEXT_MAX];

	(void)state;
	text_clean("a\tb\x7f\xc2\x9b"
		   "31m\xe2\x80\xae"
		   "c\xe2\x81\xa6"
		   "d \xc3\xa9 \xe2\x82\xac",
		   buf);
	assert_string_equal(buf, "a?b??31m?c?d \xc3\xa9 \xe2\x82\xac");
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	text_clean(big, buf);
	assert_int_equal(strlen(buf), TEXT_MAX - 1);
	assert_string_equal(buf + TEXT_MAX - 4, "...");
	text_clean("\xe2\x80", buf); /* cut off in a character: no reading past the end */
	text_clean("\xf0", buf);
}

/* watch */

struct watcher {
	pid_t pid;
	FILE *out;
	int err;
};

static struct watcher start_watch(const char *a, const char *b, const char *c)
{
	char *argv[8] = { (char *)"steerctl", (char *)"--socket", canned.socket_path,
			  (char *)"watch" };
	struct watcher watcher;
	int out[2], err[2], argc = 4;

	argv[argc] = (char *)a;
	argc += a != NULL;
	argv[argc] = (char *)b;
	argc += b != NULL;
	argv[argc] = (char *)c;
	argc += c != NULL;
	assert_int_equal(pipe(out), 0);
	assert_int_equal(pipe(err), 0);
	watcher.pid = fork();
	assert_true(watcher.pid >= 0);
	if (watcher.pid == 0) {
		close(out[0]);
		close(err[0]);
		_exit(steerctl_run(argc, argv, fdopen(out[1], "w"), fdopen(err[1], "w")));
	}
	close(out[1]);
	close(err[1]);
	watcher.out = fdopen(out[0], "r");
	setvbuf(watcher.out, NULL, _IONBF, 0);
	watcher.err = err[0];
	return watcher;
}

/* The next line, which must come before the deadline and hold text. */
static void expect_line(struct watcher *watcher, const char *text)
{
	struct pollfd poll_out = { .fd = fileno(watcher->out), .events = POLLIN };
	char line[1024] = "";

	assert_int_equal(poll(&poll_out, 1, DEADLINE_S * 1000), 1);
	assert_non_null(fgets(line, sizeof(line), watcher->out));
	if (!strstr(line, text))
		fail_msg("got: %s\nexpected: %s", line, text);
}

/* Ended by a signal it handles: exit code 0, and nothing was left to print. */
static void end_watch(struct watcher *watcher, int signal)
{
	char rest[64];
	int status;

	assert_int_equal(kill(watcher->pid, signal), 0);
	assert_int_equal(waitpid(watcher->pid, &status, 0), watcher->pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_null(fgets(rest, sizeof(rest), watcher->out));
	fclose(watcher->out);
	close(watcher->err);
}

static void ask(const char *request)
{
	struct answer answer = { NULL, NULL };
	char error[CLIENT_ERROR_MAX];

	if (client_ask(canned.socket_path, request, &answer, error) < 0)
		fail_msg("%s", error);
	client_free_answer(&answer);
}

static void emit(const char *tenant, bool live, bool kept)
{
	char request[256];

	snprintf(request, sizeof(request),
		 "{\"v\":1,\"command\":\"emit\",\"tenant\":\"%s\",\"live\":%s,\"kept\":%s}", tenant,
		 live ? "true" : "false", kept ? "true" : "false");
	ask(request);
}

#define LINE(tenant)                                                                               \
	"2026-01-31T12:00:00.000001Z child-up             " tenant                                 \
	" child=\"net one\" spi_in=c1234567\n"

static void test_watch_text(void **state)
{
	struct pollfd poll_out = { .events = POLLIN };
	struct watcher watcher;
	int tries = 0;

	(void)state;
	emit("before", true, true);
	watcher = start_watch(NULL, NULL, NULL);
	poll_out.fd = fileno(watcher.out);
	/* from whatever moment it listens, and nothing from before */
	do {
		emit("early", false, true);
		assert_true(++tries < CANNED_EVENTS_MAX - 8);
	} while (poll(&poll_out, 1, 200) == 0);
	emit("second", true, true);
	for (;;) {
		char line[1024];

		assert_non_null(fgets(line, sizeof(line), watcher.out));
		if (strcmp(line, LINE("second")) == 0)
			break;
		assert_string_equal(line, LINE("early"));
	}
	emit("lost", false, true);
	emit("third", true, true);
	expect_line(&watcher, LINE("lost"));
	expect_line(&watcher, LINE("third"));
	end_watch(&watcher, SIGINT);
}

static void test_watch_since(void **state)
{
	struct watcher watcher;

	(void)state;
	emit("one", false, true);
	emit("two", false, true);
	watcher = start_watch("--since", "1", NULL);
	expect_line(&watcher, LINE("two"));
	emit("three", true, true);
	expect_line(&watcher, LINE("three"));
	emit("four", false, true); /* lost on the stream: the heartbeat tells */
	expect_line(&watcher, LINE("four"));
	emit("five", true, false); /* only live */
	expect_line(&watcher, LINE("five"));
	emit("six", false, false); /* lost for good; the next one is not */
	emit("seven", true, true);
	expect_line(&watcher, LINE("seven"));
	end_watch(&watcher, SIGTERM);
}

static void test_watch_tenant(void **state)
{
	struct watcher watcher;

	(void)state;
	emit("acme", false, true);
	emit("other", false, true);
	watcher = start_watch("acme", "--since", "0");
	expect_line(&watcher, LINE("acme"));
	emit("acme2", true, true);
	emit("acme", true, true);
	expect_line(&watcher, LINE("acme"));
	emit("other", true, true);
	emit("acme", false, true);
	expect_line(&watcher, LINE("acme"));
	end_watch(&watcher, SIGTERM);
}

static void test_watch_json_and_restart(void **state)
{
	struct watcher watcher;

	(void)state;
	emit("one", false, true);
	watcher = start_watch("--json", "--since", "0");
	expect_line(&watcher,
		    "{\"v\":1,\"epoch\":\"epoch-1\",\"seq\":1,\"time\":\"2026-01-31T12:00:00."
		    "000001Z\",\"type\":\"child-up\",\"tenant\":\"one\",\"child\":\"net one\","
		    "\"spi_in\":\"c1234567\"}\n");
	emit("two", true, true);
	expect_line(&watcher, "{\"v\":1,\"epoch\":\"epoch-1\",\"seq\":2,");
	ask("{\"v\":1,\"command\":\"restart\"}");
	emit("new", true, true);
	expect_line(&watcher, "{\"v\":1,\"epoch\":\"epoch-2\",\"seq\":1,");
	end_watch(&watcher, SIGTERM);
}

static int remove_dir(void **state)
{
	free(printed.out);
	free(printed.err);
	return canned_remove_dir(state);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, canned_start, canned_stop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_text),
		TEST(test_grant),
		TEST(test_try),
		TEST(test_json),
		TEST(test_usage),
		TEST(test_risk),
		TEST(test_help),
		cmocka_unit_test(test_nobody_there),
		cmocka_unit_test(test_clean),
		TEST(test_watch_text),
		TEST(test_watch_since),
		TEST(test_watch_tenant),
		TEST(test_watch_json_and_restart),
	};

	return cmocka_run_group_tests_name("steerctl", tests, canned_make_dir, remove_dir);
}
