/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"

static FILE *captured;
static int saved_stderr;

static int capture(void **state)
{
	(void)state;
	captured = tmpfile();
	saved_stderr = dup(STDERR_FILENO);
	log_set_level(LOG_LEVEL_INFO);
	unsetenv("JOURNAL_STREAM");
	return captured && saved_stderr >= 0 && dup2(fileno(captured), STDERR_FILENO) >= 0 ? 0 : -1;
}

static int restore(void **state)
{
	(void)state;
	dup2(saved_stderr, STDERR_FILENO);
	close(saved_stderr);
	return fclose(captured);
}

static void expect(const char *text)
{
	char buf[8192];
	size_t len;

	rewind(captured);
	len = fread(buf, 1, sizeof(buf) - 1, captured);
	buf[len] = '\0';
	assert_string_equal(buf, text);
}

static void test_lines(void **state)
{
	(void)state;
	log_error("store", "cannot write: %s", "disk full");
	log_warning("nft", "went on");
	log_debug("nft", "not shown");
	log_set_level(LOG_LEVEL_DEBUG);
	log_debug("nft", "shown");
	log_set_level(LOG_LEVEL_ERROR);
	log_info("nft", "not shown");
	expect("error: store: cannot write: disk full\nwarning: nft: went on\ndebug: nft: shown\n");
}

static void test_journal(void **state)
{
	(void)state;
	setenv("JOURNAL_STREAM", "1:2", 1);
	log_error("store", "a");
	log_info("store", "b");
	expect("<3>store: a\n<6>store: b\n");
}

/* What a peer sent cannot end the line, start another one or drive a terminal. */
static void test_untrusted_text(void **state)
{
	(void)state;
	log_info("model", "identity \"%s\"", "a\nerror: forged\r\t\x1b[2J\x7f%n");
	expect("info: model: identity \"a?error: forged???[2J?%n\"\n");
}

static void test_long_message_keeps_its_line_end(void **state)
{
	char text[8000], buf[8192];
	size_t len;

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	log_info("model", "%s", text);
	rewind(captured);
	len = fread(buf, 1, sizeof(buf), captured);
	assert_in_range(len, 1000, 3000);
	assert_int_equal(buf[len - 1], '\n');
}

static void test_limit(void **state)
{
	struct log_limit limit = { 0, 0 }, other = { 0, 0 };
	int i;

	(void)state;
	for (i = 0; i < 100; i++)
		log_limited(&limit, LOG_LEVEL_WARNING, "follow", "event %d", i);
	log_limited(&other, LOG_LEVEL_WARNING, "follow", "another");
	limit.next_us = 0; /* a minute later */
	log_limited(&limit, LOG_LEVEL_WARNING, "follow", "event %d", i);
	limit.next_us = 0;
	log_limited(&limit, LOG_LEVEL_WARNING, "follow", "event %d", i);
	expect("warning: follow: event 0\nwarning: follow: another\nwarning: follow: event 100\n"
	       "warning: follow: 99 more of these were held back\nwarning: follow: event 100\n");
}

static void test_errno_is_kept(void **state)
{
	(void)state;
	close(STDERR_FILENO);
	errno = ENOENT;
	log_error("store", "nobody reads this");
	assert_int_equal(errno, ENOENT);
	dup2(saved_stderr, STDERR_FILENO);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, capture, restore)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_lines),          TEST(test_journal),
		TEST(test_untrusted_text), TEST(test_long_message_keeps_its_line_end),
		TEST(test_limit),          TEST(test_errno_is_kept),
	};

	return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
