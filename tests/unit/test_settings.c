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

#include "addresses.h"
#include "netns.h"
#include "settings/destinations.h"
#include "settings/settings.h"
#include "settings/settings_destinations.h"
#include "settings/settings_parse.h"
#include "settings/settings_schema.h"

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
	assert_true(s->accounting);
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

static void check_destinations(const struct settings *s)
{
	const struct profile *skype = &s->profiles[0], *test = &s->profiles[2];
	char text[DESTINATION_TEXT_MAX];

	assert_int_equal(s->profile_count, 3);
	assert_false(s->paths[0].enforces_tls);
	assert_true(s->paths[1].enforces_tls);
	assert_int_equal(skype->destination_count, 3);
	destination_text(&skype->destinations[0], text);
	assert_string_equal(text, "203.0.113.0/24");
	destination_text(&skype->destinations[1], text);
	assert_string_equal(text, "198.51.100.7");
	assert_true(destination_is_single(&skype->destinations[1]));
	destination_text(&skype->destinations[2], text);
	assert_string_equal(text, "2001:db8:443::/48");
	assert_int_equal(skype->listener_count, 2);
	destination_listener_text(&skype->listeners[1].address, skype->listeners[1].port, text);
	assert_string_equal(text, "[2001:db8:443::80]:8080");
	assert_int_equal(skype->listeners[0].port, 80);
	assert_false(skype->only_try);
	assert_int_equal(test->service_count, 0);
	assert_true(test->only_try);
	assert_int_equal(test->max_lifetime_s, 3600);
	assert_int_equal(settings_strength(s, skype), STRENGTH_NON_TLS_ONLY);
	assert_int_equal(settings_strength(s, &s->profiles[1]), STRENGTH_ANY_443);
	assert_int_equal(settings_strength(s, test), STRENGTH_DESTINATIONS);
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
	assert_int_equal(s->profiles[0].path, 1);
	assert_int_equal(s->profiles[0].service_count, 2);
	assert_int_equal(s->profiles[0].services[1].protocol, IPPROTO_UDP);
	assert_int_equal(s->profiles[0].services[1].port, 3478);
	assert_int_equal(s->profiles[0].max_lifetime_s, 90 * 86400);
	assert_int_equal(s->profiles[1].path, 0);
	assert_int_equal(settings_profile_index(s, "ssh"), 1);
	check_destinations(s);
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
		"90d;\n\tdestinations = [203.0.113.0/24, "
		"\"198.51.100.7\",\n\t\t2001:db8:443::/48]\n"
		"\texplicit_proxy = [203.0.113.80:80, \"[2001:db8:443::80]:8080\"] }\n"
		"profile ssh { path = bypass; services = tcp/22 }\n"
		"profile test { path = bypass; only_for = try; explicit_proxy = 203.0.113.80:80 }\n"
		"path bypass { mark = 0x01; table = 5443; via = [192.0.2.1, \"2001:db8::1\"];\n"
		"\tinterface = \"byp0\"; };\n"
		"path local { mark = 2; enforces_tls = yes }");

	(void)state;
	check_full(s);
	settings_free(s);
}

#define STEERING(text) "steering { " text " }\n" MINIMAL
#define PATH(text) "path q { " text " }\n" MINIMAL
#define PROFILE(text) "profile t { " text " }\n" MINIMAL
#define TO(text) PROFILE("path = p; services = tcp/443\ndestinations = " text)
#define BY(text) PROFILE("path = p; services = tcp/443\nexplicit_proxy = " text)

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
	{ "store { accounting = 1; }", "1: store.accounting: \"1\" is not yes or no; expected yes or no" },
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
	{ PROFILE("path = p"), "1: profile.services: missing in profile t; expected services, or" },
	{ PROFILE("\npath = none; services = tcp/443"), "2: profile.path: there is no path \"none\"" },
	{ PROFILE("path = p; services = sctp/443"), "1: profile.services: \"sctp/443\" is not a service" },
	{ PROFILE("path = p; services = tcp/0"), "1: profile.services: \"tcp/0\" is out of range" },
	{ PROFILE("path = p; services = tcp/70000"), "1: profile.services: \"tcp/70000\" is out of" },
	{ PROFILE("path = p; services = [tcp/443, tcp/443]"), "1: profile.services: \"tcp/443, ...\" is" },
	{ PROFILE("path = p; services = tcp/443; max_lifetime = 1500ms"), "1: profile.max_lifetime:" },
	{ PROFILE("path = p; services = tcp/443; max_lifetime = 61m\nonly_for = try"),
	  "1: profile.max_lifetime: longer than 60m in profile t, which is only for try" },
	{ PROFILE("path = p; services = tcp/443; only_for = grant"),
	  "1: profile.only_for: \"grant\" is not known; expected try" },
	{ PATH("mark = 0x02000000; enforces_tls = maybe"), "1: path.enforces_tls: \"maybe\" is not yes" },
	/* destinations */
	{ PROFILE("path = p; destinations = 203.0.113.1\nexplicit_proxy = 203.0.113.80:80"),
	  "1: profile.destinations: given without profile.services" },
	{ TO("[]"), "2: profile.destinations: \"[]\" is out of range; expected 1 to 256 prefixes" },
	{ TO("here"), "2: profile.destinations: \"here\" is not a prefix; expected ADDRESS or" },
	{ TO("[203.0.113.1, 203.0.113.300]"), "2: profile.destinations: \"203.0.113.300\" is not a pre" },
	{ TO("203.0.113.0/33"), "2: profile.destinations: \"203.0.113.0/33\" is not a prefix" },
	{ TO("203.0.113.0/"), "2: profile.destinations: \"203.0.113.0/\" is not a prefix" },
	{ TO("203.0.113.0/08"), "2: profile.destinations: \"203.0.113.0/08\" is not a prefix" },
	{ TO("203.0.113.0/24/3"), "2: profile.destinations: \"203.0.113.0/24/3\" is not a prefix" },
	{ TO("203.0.113.9/24"), "2: profile.destinations: \"203.0.113.9/24\" has bits behind its length; "
				"expected 203.0.113.0/24" },
	{ TO("2001:db8::1/64"), "2: profile.destinations: \"2001:db8::1/64\" has bits behind its length; "
				"expected 2001:db8::/64" },
	{ TO("2001:db8::/129"), "2: profile.destinations: \"2001:db8::/129\" is not a prefix" },
	{ TO("[203.0.113.0/24, 203.0.113.7]"), "2: profile.destinations: \"203.0.113.7\" is within "
					       "203.0.113.0/24, which is there already" },
	{ TO("[203.0.113.7, 203.0.113.0/24]"), "2: profile.destinations: \"203.0.113.0/24\" holds "
					       "203.0.113.7, which is there already" },
	{ TO("[2001:db8::1, 2001:db8::1]"), "2: profile.destinations: \"2001:db8::1\" is within" },
	{ TO("0.0.0.0/0"), "2: profile.destinations: \"0.0.0.0/0\" has addresses of 0.0.0.0/8" },
	{ TO("10.1.0.0/16"), "2: profile.destinations: \"10.1.0.0/16\" has addresses of 10.0.0.0/8, "
			     "private (RFC 1918); expected unicast addresses of the internet" },
	{ TO("100.127.255.255"), "2: profile.destinations: \"100.127.255.255\" has addresses of "
				 "100.64.0.0/10, shared address space (RFC 6598)" },
	{ TO("127.0.0.1"), "2: profile.destinations: \"127.0.0.1\" has addresses of 127.0.0.0/8" },
	{ TO("169.254.1.0/24"), "2: profile.destinations: \"169.254.1.0/24\" has addresses of 169" },
	{ TO("172.16.0.0/11"), "2: profile.destinations: \"172.16.0.0/11\" has bits behind" },
	{ TO("172.0.0.0/11"), "2: profile.destinations: \"172.0.0.0/11\" has addresses of 172.16.0.0/12" },
	{ TO("192.168.7.7"), "2: profile.destinations: \"192.168.7.7\" has addresses of 192.168.0.0/16" },
	{ TO("239.1.1.1"), "2: profile.destinations: \"239.1.1.1\" has addresses of 224.0.0.0/4, multi" },
	{ TO("255.255.255.255"), "2: profile.destinations: \"255.255.255.255\" has addresses of 240" },
	{ TO("::/0"), "2: profile.destinations: \"::/0\" has addresses of ::/96" },
	{ TO("\"::1\""), "2: profile.destinations: \"::1\" has addresses of ::/96, unspecified, loop" },
	{ TO("::ffff:203.0.113.1"), "2: profile.destinations: \"::ffff:203.0.113.1\" has addresses of ::ff" },
	{ TO("fd00::/8"), "2: profile.destinations: \"fd00::/8\" has addresses of fc00::/7, unique local" },
	{ TO("fe80::1"), "2: profile.destinations: \"fe80::1\" has addresses of fe80::/10, link-local" },
	{ TO("ff02::1"), "2: profile.destinations: \"ff02::1\" has addresses of ff00::/8, multicast" },
	{ BY("203.0.113.80"), "2: profile.explicit_proxy: \"203.0.113.80\" is not a listener; expected" },
	{ BY("203.0.113.80:0"), "2: profile.explicit_proxy: \"203.0.113.80:0\" is not a listener" },
	{ BY("203.0.113.80:65536"), "2: profile.explicit_proxy: \"203.0.113.80:65536\" is not a list" },
	{ BY("proxy.example:80"), "2: profile.explicit_proxy: \"proxy.example:80\" is not a listener" },
	{ BY("\"[2001:db8::80]\""), "2: profile.explicit_proxy: \"[2001:db8::80]\" is not a listener" },
	{ BY("2001:db8::80:80"), "2: profile.explicit_proxy: \"2001:db8::80:80\" is not a listener" },
	{ BY("\"[203.0.113.80]:80\""), "2: profile.explicit_proxy: \"[203.0.113.80]:80\" is not a" },
	{ BY("[203.0.113.80:80, 203.0.113.80:80]"),
	  "2: profile.explicit_proxy: \"203.0.113.80:80\" is there already" },
	{ BY("10.0.0.80:80"), "2: profile.explicit_proxy: \"10.0.0.80:80\" has addresses of 10.0.0.0/8" },
	{ BY("[203.0.113.1:1, 203.0.113.1:2, 203.0.113.1:3, 203.0.113.1:4, 203.0.113.1:5, 203.0.113.1:6, "
	     "203.0.113.1:7, 203.0.113.1:8, 203.0.113.1:9]"),
	  "2: profile.explicit_proxy: \"203.0.113.1:1, ...\" is out of range; expected 1 to 8" },
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

/* An address that this machine has. Not run as root on the machine itself: in a namespace of its own. */
static void test_own_addresses(void **state)
{
	struct settings *settings = NULL;
	char error[SETTINGS_ERROR_MAX] = "", expected[SETTINGS_ERROR_MAX];
	static const char *const refused_here[] = { TO("203.0.113.77"), BY("203.0.113.77:80") };

	(void)state;
	if (netns_enter() < 0)
		skip();
	assert_int_equal(netns_run("ip address add 203.0.113.77/24 dev lo"), 0);
	for (unsigned i = 0; i < 2; i++) {
		write_file(refused_here[i], strlen(refused_here[i]));
		assert_int_equal(settings_load(file, &settings, error), -EINVAL);
		snprintf(expected, sizeof(expected), "\"%s\" is an address of this machine",
			 i ? "203.0.113.77:80" : "203.0.113.77");
		assert_non_null(strstr(error, expected));
	}
	/* within a prefix it is the kernel's rules that leave it out */
	settings_free(load(TO("203.0.113.0/24")));
	settings_free(load(BY("203.0.113.78:80")));
}

static void test_as_many_destinations_as_there_may_be(void **state)
{
	char *text = malloc(SETTINGS_FILE_MAX);
	size_t len = (size_t)sprintf(text, "path p { mark = 0x01000000 }\nprofile s { path = p\n"
					   "services = tcp/443\ndestinations = [");
	struct settings *s;

	(void)state;
	for (unsigned i = 0; i < SETTINGS_DESTINATIONS_MAX; i++)
		len += (size_t)sprintf(text + len, "198.51.100.%u, ", i);
	strcpy(text + len, "] }");
	s = load(text);
	assert_int_equal(s->profiles[0].destination_count, SETTINGS_DESTINATIONS_MAX);
	settings_free(s);
	free(text);
}

/* Which flows a profile covers, as steerctl explain tells it. */
static void test_covers(void **state)
{
	static const struct {
		const char *to;
		uint8_t protocol;
		uint16_t port;
		bool any, listed, listeners;
	} flows[] = {
		{ "203.0.113.7", IPPROTO_TCP, 443, true, true, false },
		{ "203.0.113.7", IPPROTO_UDP, 443, false, false, false },
		{ "203.0.113.7", IPPROTO_TCP, 80, false, false, false },
		{ "198.51.100.7", IPPROTO_TCP, 443, true, false, false },
		{ "2001:db8:443::7", IPPROTO_TCP, 443, true, true, false },
		{ "2001:db8:444::7", IPPROTO_TCP, 443, true, false, false },
		{ "192.168.0.7", IPPROTO_TCP, 443, false, false, false },
		{ "203.0.113.80", IPPROTO_TCP, 80, false, false, true },
		{ "203.0.113.80", IPPROTO_UDP, 80, false, false, false },
		{ "203.0.113.81", IPPROTO_TCP, 80, false, false, false },
	};
	struct settings *s = load(
		"path p { mark = 0x01000000 }\nprofile any { path = p; services = tcp/443 }\n"
		"profile listed { path = p; services = tcp/443; destinations = "
		"[203.0.113.0/24, 2001:db8:443::/48] }\n"
		"profile proxy { path = p; explicit_proxy = 203.0.113.80:80 }\n");
	const struct address anywhere = { .family = AF_UNSPEC };

	(void)state;
	for (size_t i = 0; i < sizeof(flows) / sizeof(flows[0]); i++) {
		const struct address to = address_of(flows[i].to);
		const bool wanted[] = { flows[i].any, flows[i].listed, flows[i].listeners };

		for (unsigned p = 0; p < 3; p++)
			if (settings_profile_covers(&s->profiles[p], flows[i].protocol,
						    flows[i].port, &to) != wanted[p])
				fail_msg("flow %zu, profile %u", i, p);
	}
	assert_true(settings_profile_covers(&s->profiles[1], IPPROTO_TCP, 443, &anywhere));
	assert_true(settings_profile_covers(&s->profiles[2], IPPROTO_TCP, 80, &anywhere));
	assert_false(settings_profile_covers(&s->profiles[2], IPPROTO_TCP, 443, &anywhere));
	settings_free(s);
}

/* Disjoint, ascending, and none of what laboratories are made of. */
static void test_reserved_prefixes(void **state)
{
	static const char *const usable[] = { "192.0.2.0/24",  "198.51.100.0/24", "203.0.113.0/24",
					      "198.18.0.0/15", "2001:db8::/32",   "64:ff9b::/96" };
	struct address_range previous = { 0 }, range;

	(void)state;
	for (unsigned i = 0; i < reserved_prefix_count; i++) {
		assert_int_equal(destination_parse(reserved_prefixes[i].prefix, &range), 0);
		assert_true(range.family != previous.family ||
			    memcmp(previous.hi, range.lo, sizeof(range.lo)) < 0);
		assert_ptr_equal(destination_reserved(&range), &reserved_prefixes[i]);
		assert_int_equal(reserved_prefix_is_ipv4(&reserved_prefixes[i]),
				 range.family == AF_INET);
		previous = range;
	}
	for (size_t i = 0; i < sizeof(usable) / sizeof(usable[0]); i++) {
		assert_int_equal(destination_parse(usable[i], &range), 0);
		assert_null(destination_reserved(&range));
	}
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

/* What docs/profiles.md says of them. */
static void test_shipped_profiles(void **state)
{
	static const struct {
		const char *name;
		enum strength strength;
		unsigned services, destinations;
		int64_t days;
	} shipped[] = {
		{ "skype", STRENGTH_ANY_443, 1, 0, 90 },
		{ "whatsapp", STRENGTH_ANY_443, 1, 0, 90 },
		{ "telegram", STRENGTH_DESTINATIONS, 1, 14, 180 },
		{ "ssh-443", STRENGTH_ANY_443, 1, 0, 30 },
		{ "teams-media", STRENGTH_DESTINATIONS, 5, 3, 180 },
		{ "zoom", STRENGTH_DESTINATIONS, 15, 49, 180 },
		{ "any", STRENGTH_ANY_443, 2, 0, 0 },
	};
	const struct address anywhere = { .family = AF_UNSPEC };
	struct settings *s;
	char text[16384];
	FILE *f = open_example();

	(void)state;
	assert_non_null(f);
	text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
	fclose(f);
	s = load(text);
	assert_int_equal(s->profile_count, sizeof(shipped) / sizeof(shipped[0]));
	for (unsigned i = 0; i < s->profile_count; i++) {
		const struct profile *p = &s->profiles[i];
		const bool any = strcmp(p->name, "any") == 0;

		assert_string_equal(p->name, shipped[i].name);
		assert_int_equal(settings_strength(s, p), shipped[i].strength);
		assert_int_equal(p->service_count, shipped[i].services);
		assert_int_equal(p->destination_count, shipped[i].destinations);
		assert_int_equal(p->max_lifetime_s, any ? 3600 : shipped[i].days * 86400);
		assert_int_equal(p->only_try, any);
		assert_int_equal(settings_profile_covers(p, IPPROTO_UDP, 443, &anywhere), any);
	}
	settings_free(s);
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
		cmocka_unit_test(test_as_many_destinations_as_there_may_be),
		cmocka_unit_test(test_covers),
		cmocka_unit_test(test_reserved_prefixes),
		cmocka_unit_test(test_files_that_cannot_be_read),
		cmocka_unit_test(test_shipped_example),
		cmocka_unit_test(test_shipped_profiles),
		cmocka_unit_test(test_durations),
		/* the last one: it leaves for another network namespace */
		cmocka_unit_test(test_own_addresses),
	};

	settings_free(NULL);
	return cmocka_run_group_tests_name("settings", tests, make_file, remove_file);
}
