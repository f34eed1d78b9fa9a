/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "settings.h"
#include "settings_parse.h"
#include "settings_schema.h"

/* What every file needs at least. */
#define MINIMAL "path p { mark = 0x01000000 }\nprofile s { path = p; services = [\"tcp/443\"] }\n"

static char file[] = "/tmp/test_settings.XXXXXX";

static int make_file(void **state)
{
	int fd = mkstemp(file);

	(void)state;
	if (fd < 0)
		return -1;
	close(fd);
	return 0;
}

static int remove_file(void **state)
{
	(void)state;
	return unlink(file);
}

static void write_file(const char *text, size_t len)
{
	FILE *f = fopen(file, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

static struct settings *load(const char *text)
{
	struct settings *settings = NULL;
	char error[SETTINGS_ERROR_MAX] = "";

	write_file(text, strlen(text));
	if (settings_load(file, &settings, error) < 0)
		fail_msg("%s", error);
	return settings;
}

static void test_defaults(void **state)
{
	struct settings *s = load(MINIMAL);

	(void)state;
	assert_string_equal(s->publish, "ipc:///run/tenant-steer/charon-events");
	assert_string_equal(s->snapshot, "ipc:///run/tenant-steer/charon-snapshot");
	assert_int_equal(s->lost_after_ms, 3000);
	assert_int_equal(s->bind_count, 1);
	assert_string_equal(s->bind[0], "ipc:///run/tenant-steer/stream");
	assert_string_equal(s->control_socket, "/run/tenant-steer/control");
	assert_string_equal(s->control_group, "tenant-steer");
	assert_string_equal(s->sqlite, "/var/lib/tenant-steer/exceptions.db");
	assert_int_equal(s->mode, STEERING_AUTO);
	assert_true(s->pinning);
	assert_true(s->verify_sa);
	assert_int_equal(s->lease_ms, 3000);
	assert_int_equal(s->mark_mask, 0x0f000000);
	assert_int_equal(s->rule_priority, 5200);
	assert_string_equal(s->interface, "ipsec0");
	assert_int_equal(s->max_child_sas, 131072);
	assert_string_equal(s->nft_table, "tenant-steer");
	assert_string_equal(s->user, "tenant-steer");
	assert_int_equal(s->paths[0].table, 0);
	assert_int_equal(s->paths[0].reply_mark, 0x09000000);
	assert_int_equal(s->profiles[0].max_lifetime_s, 0);
	settings_free(s);
}

static void check_full(const struct settings *s)
{
	struct in6_addr six;

	assert_string_equal(s->user, "");
	assert_string_equal(s->publish, "ipc:///run/x/events");
	assert_int_equal(s->lost_after_ms, 500);
	assert_int_equal(s->bind_count, 2);
	assert_string_equal(s->bind[1], "ipc:///run/x/b");
	assert_string_equal(s->control_group, "");
	assert_int_equal(s->mode, STEERING_ADDRESS);
	assert_false(s->pinning);
	assert_false(s->verify_sa);
	assert_int_equal(s->lease_ms, 60000);
	assert_int_equal(s->mark_mask, 255);
	assert_string_equal(s->nft_table, "steer_2");
	assert_int_equal(s->path_count, 2);
	assert_int_equal(s->paths[0].mark, 0x01);
	assert_int_equal(s->paths[0].reply_mark, 0x81);
	assert_int_equal(s->paths[0].table, 5443);
	assert_int_equal(s->paths[0].via_count, 2);
	assert_int_equal(s->paths[0].via[0].family, AF_INET);
	assert_memory_equal(s->paths[0].via[0].bytes, "\xc0\x00\x02\x01", 4);
	assert_int_equal(s->paths[0].via[1].family, AF_INET6);
	assert_int_equal(inet_pton(AF_INET6, "2001:db8::1", &six), 1);
	assert_memory_equal(s->paths[0].via[1].bytes, &six, 16);
	assert_string_equal(s->paths[0].interface, "byp0");
	assert_int_equal(s->paths[1].table, 0);
	assert_int_equal(s->profile_count, 2);
	assert_int_equal(s->profiles[0].path, 1);
	assert_int_equal(s->profiles[0].service_count, 2);
	assert_int_equal(s->profiles[0].services[1].protocol, IPPROTO_UDP);
	assert_int_equal(s->profiles[0].services[1].port, 3478);
	assert_int_equal(s->profiles[0].max_lifetime_s, 90 * 86400);
	assert_int_equal(s->profiles[1].path, 0);
	assert_int_equal(settings_profile_index(s, "ssh"), 1);
	assert_int_equal(settings_profile_index(s, "none"), -1);
}

/* Every key, and every way to write one: profiles before their paths, lists over lines, quotes. */
static void test_every_key(void **state)
{
	struct settings *s = load(
		"user = \"\"\n"
		"charon { publish = \"ipc:///run/x/events\"; snapshot = ipc:///run/x/snapshot\n"
		"\tlost_after = 500ms }\n"
		"stream { bind = [\"ipc:///run/x/a\",\n\t\"ipc:///run/x/b\", # the second\n\t]; }\n"
		"control { socket = \"/run/x/control\"; group = \"\"; }\n"
		"store\n{\n\tsqlite = /run/x/db;\n}\n"
		"steering { mode = address; pinning = none; on_death = lease; lease = 60s;\r\n"
		"\tverify_sa = no;"
		"\tmark_mask = 255; rule_priority = 1; interface = ipsec1; max_child_sas = 4\n"
		"\tnft_table = steer_2 }\n"
		"profile skype { path = local; services = [\"tcp/443\", udp/3478]; max_lifetime = "
		"90d; }\n"
		"profile ssh { path = bypass; services = tcp/22 }\n"
		"path bypass { mark = 0x01; table = 5443; via = [192.0.2.1, \"2001:db8::1\"];\n"
		"\tinterface = \"byp0\"; };\n"
		"path local { mark = 2 }");

	(void)state;
	check_full(s);
	settings_free(s);
}

#define STEERING(text) "steering { " text " }\n" MINIMAL
#define PATH(text) "path q { " text " }\n" MINIMAL
#define PROFILE(text) "profile t { " text " }\n" MINIMAL

/* clang-format off */
static const struct {
	const char *text;
	const char *error; /* after "FILE:" */
} refused[] = {
	/* meaning */
	{ "", "1: profile: there is none; expected at least one" },
	{ "nonsense { }", "1: nonsense: unknown section; expected charon," },
	{ "\n\ncolour = red", "3: colour: unknown key" },
	{ STEERING("colour = red"), "1: steering.colour: unknown key" },
	{ "stream {\n curve { public = x }\n}", "2: stream.curve: unknown key" },
	{ "stream {\n curve = x\n}", "2: stream.curve: unknown key" },
	{ "stream { }\nstream { }", "2: stream: given twice, first in line 1" },
	{ "steering x { }", "1: steering: this section takes no name" },
	{ "steering { lease = 1s\n lease = 2s }", "2: steering.lease: given twice, first in line 1" },
	{ "user = a\nuser = b", "2: user: given twice, first in line 1" },
	{ "user = \"a b\"", "1: user: \"a b\" is not a user name" },
	{ "user = [a]", "1: user: a list is not a user name" },
	{ STEERING("\n\nlease = x"),
	  "3: steering.lease: \"x\" is not a duration; expected a duration such as 3s" },
	{ STEERING("lease = 3"), "1: steering.lease: \"3\" is not a duration" },
	{ STEERING("lease = 499ms"), "1: steering.lease: \"499ms\" is out of range" },
	{ STEERING("lease = 61s"), "1: steering.lease: \"61s\" is out of range" },
	{ STEERING("lease = [1s]"), "1: steering.lease: a list is not a duration" },
	{ STEERING("mode = SA"), "1: steering.mode: \"SA\" is not a mode; expected auto, sa or" },
	{ STEERING("pinning = yes"), "1: steering.pinning: \"yes\" is not a kind of pinning" },
	{ STEERING("verify_sa = 1"), "1: steering.verify_sa: \"1\" is not yes or no; expected yes or no" },
	{ STEERING("on_death = never"),
	  "1: steering.on_death: \"never\" is not known; expected lease or at-once" },
	{ STEERING("mark_mask = 0"), "1: steering.mark_mask: \"0\" is out of range" },
	{ STEERING("mark_mask = 0x0f00000g"), "1: steering.mark_mask: \"0x0f00000g\" is not a number" },
	{ STEERING("mark_mask = 0x100000000"), "1: steering.mark_mask: \"0x100000000\" is out of" },
	{ STEERING("mark_mask = 0x01000000"), "1: steering.mark_mask: 0x01000000 has one bit only" },
	{ STEERING("mark_mask = -1"), "1: steering.mark_mask: \"-1\" is not a number" },
	{ STEERING("rule_priority = 32766"), "1: steering.rule_priority: \"32766\" is out of range" },
	{ STEERING("interface = a_name_too_long_"), "1: steering.interface: \"a_name_too_long_\" is out" },
	{ STEERING("interface = \"a b\""), "1: steering.interface: \"a b\" is not an interface" },
	{ STEERING("max_child_sas = 0"), "1: steering.max_child_sas: \"0\" is out of range" },
	{ STEERING("nft_table = \"x; flush ruleset\""), "1: steering.nft_table: \"x; flush ruleset\"" },
	{ "charon { publish = \"tcp://127.0.0.1:5\" }", "1: charon.publish: \"tcp://127.0.0.1:5\" is not" },
	{ "charon { lost_after = 100ms }", "1: charon.lost_after: \"100ms\" is out of range" },
	{ "charon { publish = ipc:///a; snapshot = ipc:///a }\n" MINIMAL,
	  "1: charon.snapshot: \"ipc:///a\" is charon.publish already" },
	{ "stream {\nbind = [ipc:///a, ipc:///a] }\n" MINIMAL, "2: stream.bind: \"ipc:///a\" is in use" },
	{ "stream { bind = [ipc:///a, ipc:///b, ipc:///c, ipc:///d, ipc:///e] }",
	  "1: stream.bind: \"ipc:///a, ...\" is out of range" },
	{ "control { socket = relative }", "1: control.socket: \"relative\" is not a file name" },
	{ "store { sqlite = /var/lib/ }", "1: store.sqlite: \"/var/lib/\" is not a file name" },
	{ "path { mark = 1 }", "1: path: \"\" is not a name" },
	{ "path Upper { mark = 1 }", "1: path: \"Upper\" is not a name" },
	{ "path a23456789_123456789_12345 { }", "1: path: \"a23456789_123456789_12345\" is not a name" },
	{ MINIMAL "path p { }", "3: path p: given twice, first in line 1" },
	{ MINIMAL "profile s { }", "3: profile s: given twice, first in line 2" },
	{ PATH(""), "1: path.mark: missing in path q" },
	{ PATH("mark = 0"), "1: path.mark: \"0\" is out of range" },
	{ PATH("mark = 1"), "1: path.mark: 0x00000001 has bits outside steering.mark_mask" },
	{ PATH("mark = 0x08000000"), "1: path.mark: 0x08000000 has the highest bit" },
	{ MINIMAL "path q { mark = 0x01000000 }", "3: path.mark: 0x01000000 is that of path p already" },
	{ PATH("mark = 0x02000000; table = 5"), "1: path.table: given without path.via" },
	{ PATH("mark = 0x02000000\nvia = 192.0.2.1"), "2: path.via: given without path.table" },
	{ PATH("mark = 0x02000000; interface = x"), "1: path.interface: given without path.via" },
	{ PATH("mark = 0x02000000; table = 0; via = 192.0.2.1"), "1: path.table: \"0\" is out of range" },
	{ PATH("mark = 0x02000000; table = 254; via = 192.0.2.1"), "1: path.table: 254 is one of" },
	{ PATH("via = 192.0.2.300"), "1: path.via: \"192.0.2.300\" is not a next hop" },
	{ PATH("via = []"), "1: path.via: \"[]\" is out of range" },
	{ PATH("via = 0.0.0.0"), "1: path.via: \"0.0.0.0\" is not a next hop" },
	{ PATH("via = [192.0.2.1, 192.0.2.1]"), "1: path.via: \"192.0.2.1, ...\" is given with" },
	{ "path a { mark = 0x01000000; table = 5; via = 192.0.2.1 }\n"
	  "path b { mark = 0x02000000; table = 5; via = 192.0.2.2 }\n"
	  "profile s { path = a; services = tcp/1 }", "2: path.table: 5 is that of path a already" },
	{ PROFILE("services = tcp/443"), "1: profile.path: missing in profile t" },
	{ PROFILE("path = p"), "1: profile.services: missing in profile t" },
	{ PROFILE("\npath = none; services = tcp/443"), "2: profile.path: there is no path \"none\"" },
	{ PROFILE("path = p; services = sctp/443"), "1: profile.services: \"sctp/443\" is not a service" },
	{ PROFILE("path = p; services = tcp/0"), "1: profile.services: \"tcp/0\" is out of range" },
	{ PROFILE("path = p; services = tcp/70000"), "1: profile.services: \"tcp/70000\" is out of" },
	{ PROFILE("path = p; services = [tcp/443, tcp/443]"), "1: profile.services: \"tcp/443, ...\" is" },
	{ PROFILE("path = p; services = tcp/443; max_lifetime = 1500ms"), "1: profile.max_lifetime:" },
	/* syntax */
	{ "steering {\n", "2: the last section has no closing brace" },
	{ "}", "1: this closing brace closes nothing" },
	{ "user = \"a\n\"", "1: this string has no closing quote" },
	{ "user = \"a\\n\"", "1: only \\\" and \\\\ may follow a backslash" },
	{ "user = ", "1: expected a value" },
	{ "user = a b", "1: expected a semicolon or the end of the line" },
	{ "user", "1: expected \"key = value\" or \"section {\"" },
	{ "user: a", "1: expected \"key = value\" or \"section {\"" },
	{ "\n.include \"/etc/passwd\"", "2: expected the name of a key or section" },
	{ "stream { bind = [\n a", "2: expected a comma or a closing bracket" },
	{ "stream { bind = [\n", "1: this list has no closing bracket" },
	{ "stream { bind = [a b] }", "1: expected a comma or a closing bracket" },
	{ "user = $HOME", "1: expected a value" },
};
/* clang-format on */

static void test_refused(void **state)
{
	char expected[SETTINGS_ERROR_MAX];
	char error[SETTINGS_ERROR_MAX];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		struct settings *settings = (struct settings *)&i;

		write_file(refused[i].text, strlen(refused[i].text));
		error[0] = '\0';
		snprintf(expected, sizeof(expected), "%s:%s", file, refused[i].error);
		if (settings_load(file, &settings, error) != -EINVAL)
			fail_msg("accepted: %s", refused[i].text);
		if (strncmp(error, expected, strlen(expected)) != 0)
			fail_msg("for: %s\ngot: %s\nexpected: %s", refused[i].text, error,
				 expected);
		assert_ptr_equal(settings, &i);
	}
}

static void test_limits(void **state)
{
	struct settings *settings = NULL;
	char error[SETTINGS_ERROR_MAX];
	static char big[SETTINGS_FILE_MAX + 1];
	size_t len, i;

	(void)state;
	memset(big, '#', SETTINGS_FILE_MAX + 1);
	write_file(big, SETTINGS_FILE_MAX + 1);
	assert_int_equal(settings_load(file, &settings, error), -EFBIG);

	/* a value, a name and a list that are too long */
	len = (size_t)sprintf(big, "user = ");
	memset(big + len, 'a', 300);
	write_file(big, len + 300);
	assert_int_equal(settings_load(file, &settings, error), -EINVAL);
	assert_non_null(strstr(error, ":1: this value is too long"));
	memset(big, 'a', 300);
	write_file(big, 300);
	assert_int_equal(settings_load(file, &settings, error), -EINVAL);
	assert_non_null(strstr(error, ":1: this name is too long"));
	len = (size_t)sprintf(big, "stream { bind = [");
	for (i = 0; i <= SETTINGS_VALUES_MAX; i++)
		len += (size_t)sprintf(big + len, "a,");
	write_file(big, len);
	assert_int_equal(settings_load(file, &settings, error), -EINVAL);
	assert_non_null(strstr(error, ":1: this list has too many values"));

	write_file("user = \"a\0b\"\n", 13);
	assert_int_equal(settings_load(file, &settings, error), -EINVAL);
	assert_non_null(strstr(error, ":1: a control character"));
	assert_null(settings);
}

static void load_many(unsigned paths, unsigned profiles, const char *expected)
{
	struct settings *settings = NULL;
	char error[SETTINGS_ERROR_MAX] = "";
	char text[4096];
	size_t len = 0;
	unsigned i;
	int r;

	len += (size_t)sprintf(text, "steering { mark_mask = 0xff }\n");
	for (i = 1; i <= paths; i++)
		len += (size_t)sprintf(text + len, "path p%u { mark = %u }\n", i, i);
	for (i = 1; i <= profiles; i++)
		len += (size_t)sprintf(text + len, "profile s%u { path = p1; services = tcp/1 }\n",
				       i);
	write_file(text, len);
	r = settings_load(file, &settings, error);
	assert_int_equal(r, expected ? -EINVAL : 0);
	if (expected)
		assert_non_null(strstr(error, expected));
	else
		assert_int_equal(settings->profile_count, profiles);
	settings_free(settings);
}

static void test_counts(void **state)
{
	(void)state;
	load_many(SETTINGS_PATHS_MAX, SETTINGS_PROFILES_MAX, NULL);
	load_many(SETTINGS_PATHS_MAX + 1, 1, "path p9: too many paths");
	load_many(1, SETTINGS_PROFILES_MAX + 1, "profile s17: too many profiles");
}

static void test_files_that_cannot_be_read(void **state)
{
	struct settings *settings = NULL;
	char error[SETTINGS_ERROR_MAX];

	(void)state;
	assert_int_equal(settings_load("/nonexistent", &settings, error), -ENOENT);
	assert_string_equal(error, "/nonexistent: cannot be read: No such file or directory");
	assert_int_equal(settings_load("/", &settings, error), -EISDIR);
	assert_int_equal(settings_load("/dev/zero", &settings, error), -EINVAL);
	assert_null(settings);
}

/* The tests may be built and started anywhere: srcdir is what automake tells them. */
static FILE *open_example(void)
{
	static const char *const places[] = { "sidecar", "../../sidecar" };
	const char *srcdir = getenv("srcdir") ? getenv("srcdir") : ".";
	char name[PATH_MAX];
	FILE *f = NULL;
	size_t i;

	for (i = 0; i < sizeof(places) / sizeof(places[0]) && !f; i++) {
		snprintf(name, sizeof(name), "%s/%s/steerd.conf", srcdir, places[i]);
		f = fopen(name, "r");
	}
	return f;
}

/* The file that is shipped says what the code does: as it is, and with every default spelled out.
 */
static void test_shipped_example(void **state)
{
	struct settings *shipped, *spelled_out, *plain;
	char text[16384], spelled[16384];
	size_t len, at, out = 0;
	FILE *f;

	(void)state;
	f = open_example();
	assert_non_null(f);
	len = fread(text, 1, sizeof(text) - 1, f);
	text[len] = '\0';
	fclose(f);
	shipped = load(text);

	/* Uncomment "# key = value" but not prose: a key is one word before the equals sign. */
	for (at = 0; at < len; at++) {
		char word[64];
		int end = 0;

		if (text[at] == '#' && sscanf(text + at, "# %63[a-z_] = %n", word, &end) == 1 &&
		    end > 0)
			at++;
		spelled[out++] = text[at];
	}
	spelled[out] = '\0';
	spelled_out = load(spelled);
	plain = load(MINIMAL);
	/* everything before the paths is the same three times, but for what the paths need */
	assert_memory_equal(shipped, spelled_out, offsetof(struct settings, paths));
	assert_memory_equal(shipped, plain, offsetof(struct settings, paths));
	assert_string_equal(spelled_out->paths[0].interface, "byp0");
	for (at = 0; at < settings_keys_count; at++) {
		char needle[80];

		snprintf(needle, sizeof(needle), "%s = ", settings_keys[at].name);
		assert_non_null(strstr(text, needle));
	}
	settings_free(shipped);
	settings_free(spelled_out);
	settings_free(plain);
}

static void test_durations(void **state)
{
	static const struct {
		const char *text;
		int64_t ms; /* 0: refused */
	} cases[] = {
		{ "500ms", 500 },
		{ "3s", 3000 },
		{ "15m", 900000 },
		{ "2h", 7200000 },
		{ "30d", 2592000000 },
		{ "2w", 1209600000 },
		{ "3650d", 315360000000 },
		{ "3651d", 0 },
		{ "0s", 0 },
		{ "", 0 },
		{ "s", 0 },
		{ "3", 0 },
		{ "-3s", 0 },
		{ "3 s", 0 },
		{ " 3s", 0 },
		{ "3s ", 0 },
		{ "1.5s", 0 },
		{ "1y", 0 },
		{ "99999999999999999999999s", 0 },
		{ "9223372036854775807ms", 0 },
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int64_t ms = 0;

		assert_int_equal(settings_parse_duration(cases[i].text, &ms),
				 cases[i].ms ? 0 : -EINVAL);
		assert_int_equal(ms, cases[i].ms);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_every_key),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_counts),
		cmocka_unit_test(test_files_that_cannot_be_read),
		cmocka_unit_test(test_shipped_example),
		cmocka_unit_test(test_durations),
	};

	settings_free(NULL);
	return cmocka_run_group_tests_name("settings", tests, make_file, remove_file);
}
