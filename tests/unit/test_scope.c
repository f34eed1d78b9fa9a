/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "record/scope.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static char error[SCOPE_ERROR_MAX];

static struct scope *parse(const char *scope, const char *destinations)
{
	struct scope *made = NULL;

	if (scope_parse(scope, destinations, &made, error) < 0)
		fail_msg("%s, %s: %s", scope, destinations, error);
	return made;
}

static void assert_text(const char *scope, const char *destinations, const char *scope_wanted,
			const char *destinations_wanted)
{
	struct scope *made = parse(scope, destinations), *again;
	char text[SCOPE_TEXT_MAX], networks[SCOPE_DESTINATIONS_TEXT_MAX];

	scope_text(made, text);
	scope_destinations_text(made, networks);
	assert_string_equal(text, scope_wanted);
	assert_string_equal(networks, destinations_wanted);
	again = parse(text, networks);
	assert_int_equal(scope_compare(made, again), 0);
	scope_free(made);
	scope_free(again);
}

static void test_canonical(void **state)
{
	static const struct {
		const char *scope, *destinations, *scope_wanted, *destinations_wanted;
	} rows[] = {
		{ NULL, NULL, "tenant", "" },
		{ "", "", "tenant", "" },
		{ "tenant", "", "tenant", "" },
		{ "host 198.18.1.5", "", "host 198.18.1.5", "" },
		{ "host 2001:DB8:0::0005", "", "host 2001:db8::5", "" },
		{ "prefix 198.18.1.0/24", "", "prefix 198.18.1.0/24", "" },
		{ "prefix 10.0.0.0/8", "", "prefix 10.0.0.0/8", "" },
		{ "prefix 198.18.1.5/32", "", "host 198.18.1.5", "" },
		{ "prefix 2001:db8::/128", "", "host 2001:db8::", "" },
		{ "prefix 198.18.1.7", "", "host 198.18.1.7", "" },
		{ "user C=CH, O=Acme Corp, CN=a", "", "user C=CH, O=Acme Corp, CN=a", "" },
		{ "user  two blanks", "", "user  two blanks", "" },
		{ "tenant", "203.0.113.7", "tenant", "203.0.113.7" },
		{ "tenant", "2001:db8::/32,203.0.113.0/24,192.0.2.0/24", "tenant",
		  "192.0.2.0/24,203.0.113.0/24,2001:db8::/32" },
		{ "host 198.18.1.5", "203.0.113.7,203.0.113.0/24,203.0.113.0/25,203.0.113.0/24",
		  "host 198.18.1.5", "203.0.113.0/24" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++)
		assert_text(rows[i].scope, rows[i].destinations, rows[i].scope_wanted,
			    rows[i].destinations_wanted);
	assert_null(parse("tenant", ""));
}

static void test_refused(void **state)
{
	static const struct {
		const char *scope, *destinations, *says;
	} rows[] = {
		{ "everybody", "", "scope: \"everybody\" is no scope; expected tenant, host" },
		{ "tenants", "", "is no scope" },
		{ "host", "", "is no scope" },
		{ "tenant ", "", "is no scope" },
		{ "hosts 198.18.1.5", "", "is no scope" },
		{ "host 198.18.1", "", "scope: \"198.18.1\" is no network" },
		{ "host 198.18.1.5/32", "", "is no address" },
		{ "host 198.018.1.5", "", "is no network" },
		{ "host  198.18.1.5", "", "is no network" },
		{ "host 2001:db8::1%eth0", "", "is no network" },
		{ "prefix 198.18.1.5/24", "", "has bits set behind its length" },
		{ "prefix 198.18.1.0/33", "", "is no network" },
		{ "prefix 198.18.1.0/", "", "is no network" },
		{ "prefix 198.18.1.0/+8", "", "is no network" },
		{ "prefix 198.18.1.0/24/8", "", "is no network" },
		{ "prefix 2001:db8::/0", "", "has bits set" },
		{ "prefix 0.0.0.0/0", "",
		  "is or holds addresses of 0.0.0.0/8, which are this network" },
		{ "prefix 64.0.0.0/2", "", "loopback" },
		{ "host 127.0.0.1", "", "loopback" },
		{ "host 224.0.0.1", "", "multicast" },
		{ "host 255.255.255.255", "", "reserved" },
		{ "host ::1", "", "loopback" },
		{ "host ::ffff:198.18.1.5", "", "IPv4-mapped" },
		{ "host fe80::1", "", "link-local" },
		{ "user ", "", "is no identity" },
		{ "user a\nb", "", "control characters" },
		{ "tenant", "203.0.113.0/24,", "missing after a comma" },
		{ "tenant", ",203.0.113.0/24", "is no network" },
		{ "tenant", "203.0.113.0/24, 192.0.2.0/24", "\" 192.0.2.0/24\" is no network" },
		{ "tenant", "203.0.113.1/24", "destinations: \"203.0.113.1/24\" has bits set" },
		{ "tenant", "10.1.0.0/16",
		  "is or holds addresses of 10.0.0.0/8, which are private" },
		{ "tenant", "172.31.255.255", "private" },
		{ "tenant", "128.0.0.0/1", "link-local" },
		{ "tenant", "192.168.0.0/24", "private" },
		{ "tenant", "100.64.0.0/10", "shared" },
		{ "tenant", "169.254.169.254", "link-local" },
		{ "tenant", "239.1.1.1", "multicast" },
		{ "tenant", "fd00::1", "unique local" },
		{ "tenant", "ff02::1", "multicast" },
		{ "tenant", "::/0", "unspecified" },
		{ "tenant", "2001:db8:1111:2222:3333:4444:5555:6666:7777:8888:9999/128",
		  "too long" },
	};
	struct scope *kept = (struct scope *)rows, *made;

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		made = kept;
		assert_int_equal(scope_parse(rows[i].scope, rows[i].destinations, &made, error),
				 -EINVAL);
		assert_ptr_equal(made, kept);
		if (!strstr(error, rows[i].says))
			fail_msg("%s, %s: \"%s\" does not say \"%s\"", rows[i].scope,
				 rows[i].destinations, error, rows[i].says);
	}
}

static void test_limits(void **state)
{
	char text[SCOPE_TEXT_MAX + 8] = "user ", networks[2048] = "", out[SCOPE_TEXT_MAX];
	char written[SCOPE_DESTINATIONS_TEXT_MAX];
	struct scope *made;

	(void)state;
	memset(text + 5, 'x', SCOPE_IDENTITY_MAX);
	made = parse(text, "");
	scope_text(made, out);
	assert_string_equal(out, text);
	scope_free(made);
	strcat(text, "x");
	assert_int_equal(scope_parse(text, "", &made, error), -EINVAL);
	for (unsigned i = 0; i < SCOPE_DESTINATIONS_MAX; i++)
		snprintf(networks + strlen(networks), sizeof(networks) - strlen(networks),
			 "%s2001:db8:1111:2222:3333:4444:5555:1%03u", i ? "," : "", i);
	made = parse("tenant", networks);
	assert_int_equal(made->destination_count, SCOPE_DESTINATIONS_MAX);
	scope_destinations_text(made, written);
	assert_string_equal(written, networks);
	scope_free(made);
	strcat(networks, ",203.0.113.1");
	assert_int_equal(scope_parse("tenant", networks, &made, error), -EINVAL);
	assert_non_null(strstr(error, "at most 16"));
}

/* Each differs from every other one, the same way round from both sides. */
static void test_compare(void **state)
{
	static const char *const rows[][2] = {
		{ "tenant", "" },
		{ "tenant", "203.0.113.0/24" },
		{ "tenant", "203.0.113.0/25" },
		{ "tenant", "203.0.113.0/24,2001:db8::/32" },
		{ "host 198.18.1.5", "" },
		{ "host 198.18.1.6", "" },
		{ "host 2001:db8::", "" },
		{ "prefix 198.18.1.0/24", "" },
		{ "prefix 198.18.1.0/25", "" },
		{ "prefix 2001:db8::/64", "" },
		{ "user a", "" },
		{ "user b", "" },
		{ "user b", "203.0.113.0/24" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++)
		for (size_t j = 0; j < COUNT(rows); j++) {
			struct scope *a = parse(rows[i][0], rows[i][1]);
			struct scope *b = parse(rows[j][0], rows[j][1]);
			const int r = scope_compare(a, b);

			assert_int_equal(r == 0, i == j);
			assert_int_equal(r<0, scope_compare(b, a)> 0);
			scope_free(a);
			scope_free(b);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_canonical),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_compare),
	};

	return cmocka_run_group_tests_name("scope", tests, NULL, NULL);
}
