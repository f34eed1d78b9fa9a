/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sys/socket.h>

#include "kernel/prefixes.h"
#include "tenants/model.h"

#define RANGES 40
#define ROUNDS 20000

static struct prefixes *prefixes;

static int setup(void **state)
{
	(void)state;
	prefixes = prefixes_new();
	return prefixes ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	prefixes_free(prefixes);
	return 0;
}

static struct address_range range(const char *text)
{
	struct address_range r;

	assert_int_equal(model_parse_ts(text, &r), 0);
	return r;
}

static void add(const char *text)
{
	const struct address_range r = range(text);

	prefixes_add(prefixes, &r);
}

static void drop(const char *text)
{
	const struct address_range r = range(text);

	prefixes_remove(prefixes, &r);
}

static bool cover(const char *text)
{
	const struct address_range r = range(text);

	return prefixes_cover(prefixes, &r);
}

static void test_an_address_in_a_prefix(void **state)
{
	(void)state;
	assert_false(cover("198.18.1.1"));
	add("198.18.1.0/24");
	add("2001:db8:a1::/64");
	assert_true(cover("198.18.1.0"));
	assert_true(cover("198.18.1.255"));
	assert_false(cover("198.18.0.255"));
	assert_false(cover("198.18.2.0"));
	assert_true(cover("2001:db8:a1::ffff:1"));
	assert_false(cover("2001:db8:a1:1::"));
	assert_true(cover("198.18.1.128/25"));
	assert_false(cover("198.18.0.0/23"));
}

static void test_all_and_one(void **state)
{
	(void)state;
	add("0.0.0.0/0");
	assert_true(cover("255.255.255.255"));
	assert_true(cover("0.0.0.0/0"));
	assert_false(cover("::"));
	add("::/0");
	assert_true(cover("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"));
	drop("0.0.0.0/0");
	assert_false(cover("198.18.1.1"));
	add("198.18.1.1/32");
	assert_true(cover("198.18.1.1"));
	assert_false(cover("198.18.1.0"));
}

static void test_each_keeping_is_undone_once(void **state)
{
	(void)state;
	add("198.18.1.0/24");
	add("198.18.1.0/24");
	add("198.18.0.0/16");
	drop("198.18.1.0/24");
	drop("198.18.0.0/16");
	assert_true(cover("198.18.1.7"));
	assert_false(cover("198.18.2.7"));
	drop("198.18.1.0/24");
	assert_false(cover("198.18.1.7"));
	drop("198.18.1.0/24");
	assert_false(cover("198.18.1.7"));
}

static void test_a_range_that_is_no_prefix(void **state)
{
	(void)state;
	add("198.18.1.3..198.18.2.9");
	assert_false(cover("198.18.1.2"));
	assert_true(cover("198.18.1.3"));
	assert_true(cover("198.18.1.255"));
	assert_true(cover("198.18.2.9"));
	assert_false(cover("198.18.2.10"));
	assert_true(cover("198.18.1.3..198.18.2.9"));
	drop("198.18.1.3..198.18.2.9");
	assert_false(cover("198.18.1.3"));
}

/* The last bytes decide, of either family; the widest ranges reach its end. */
static struct address_range random_range(int family)
{
	struct address_range r = { .family = family };
	const unsigned last = family == AF_INET ? 3 : 15;
	int a = rand() % 256, b = rand() % 256;

	memset(r.lo, 0xff, last);
	memset(r.hi, 0xff, last);
	r.lo[last] = (uint8_t)(a < b ? a : b);
	r.hi[last] = (uint8_t)(a < b ? b : a);
	return r;
}

static bool in_any(const struct address_range *ranges, const bool *in,
		   const struct address_range *one)
{
	for (unsigned i = 0; i < RANGES; i++)
		if (in[i] && ranges[i].family == one->family &&
		    memcmp(ranges[i].lo, one->lo, 16) <= 0 &&
		    memcmp(one->lo, ranges[i].hi, 16) <= 0)
			return true;
	return false;
}

static void test_against_a_list(void **state)
{
	struct address_range ranges[RANGES];
	bool in[RANGES] = { false };

	(void)state;
	srand(1);
	for (unsigned i = 0; i < RANGES; i++)
		ranges[i] = random_range(i % 2 ? AF_INET : AF_INET6);
	for (unsigned n = 0; n < ROUNDS; n++) {
		unsigned i = (unsigned)rand() % RANGES;
		struct address_range one = random_range(n % 2 ? AF_INET : AF_INET6);

		if (in[i])
			prefixes_remove(prefixes, &ranges[i]);
		else
			prefixes_add(prefixes, &ranges[i]);
		in[i] = !in[i];
		memcpy(one.hi, one.lo, 16);
		assert_int_equal(prefixes_cover(prefixes, &one), in_any(ranges, in, &one));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_an_address_in_a_prefix, setup, teardown),
		cmocka_unit_test_setup_teardown(test_all_and_one, setup, teardown),
		cmocka_unit_test_setup_teardown(test_each_keeping_is_undone_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_range_that_is_no_prefix, setup, teardown),
		cmocka_unit_test_setup_teardown(test_against_a_list, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
