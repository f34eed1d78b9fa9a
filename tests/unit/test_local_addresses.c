/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The addresses of a fresh network namespace, set with ip(8). */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/local_addresses.h"
#include "netns.h"

static struct local_addresses addresses;

static int setup(void **state)
{
	(void)state;
	return netns_enter();
}

static int teardown(void **state)
{
	(void)state;
	local_addresses_done(&addresses);
	return 0;
}

static bool changed(void)
{
	bool ret = false;

	assert_int_equal(local_addresses_read(&addresses, &ret), 0);
	return ret;
}

static bool have(const char *text)
{
	const int family = strchr(text, ':') ? AF_INET6 : AF_INET;
	uint8_t bytes[16] = { 0 };

	assert_int_equal(inet_pton(family, text, bytes), 1);
	return local_addresses_have(&addresses, (uint8_t)family, bytes);
}

static void test_addresses_of_both_families(void **state)
{
	(void)state;
	assert_int_equal(
		netns_run("ip addr add 192.0.2.1/24 dev lo && ip addr add 192.0.2.2/32 dev "
			  "lo && ip addr add 2001:db8::1/64 dev lo"),
		0);
	assert_true(changed());
	assert_true(have("192.0.2.1"));
	assert_true(have("192.0.2.2"));
	assert_true(have("2001:db8::1"));
	assert_true(have("127.0.0.1"));
	assert_false(have("192.0.2.3"));
	assert_false(have("2001:db8::2"));
	/* the bytes of an IPv4 address as the start of another family's */
	assert_false(have("c000:201::"));
}

static void test_changes_are_noticed(void **state)
{
	(void)state;
	assert_true(changed());
	assert_false(changed());
	assert_int_equal(netns_run("ip addr add 192.0.2.1/32 dev lo"), 0);
	assert_true(changed());
	assert_false(changed());
	assert_int_equal(
		netns_run("ip addr del 192.0.2.1/32 dev lo && ip addr add 192.0.2.9/32 dev "
			  "lo"),
		0);
	assert_true(changed());
	assert_false(have("192.0.2.1"));
	assert_true(have("192.0.2.9"));
}

static void test_none_is_known_before(void **state)
{
	(void)state;
	assert_false(have("127.0.0.1"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_addresses_of_both_families),
		TEST(test_changes_are_noticed),
		TEST(test_none_is_known_before),
	};

	return cmocka_run_group_tests_name("local_addresses", tests, NULL, NULL);
}
