/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "addresses.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>

struct address address_of(const char *text)
{
	struct address address = { .family = strchr(text, ':') ? AF_INET6 : AF_INET };

	assert_int_equal(inet_pton(address.family, text, address.bytes), 1);
	return address;
}

struct address_range range_of(const char *lo, const char *hi)
{
	const struct address first = address_of(lo), last = address_of(hi);
	struct address_range range = { .family = first.family };

	assert_int_equal(first.family, last.family);
	memcpy(range.lo, first.bytes, sizeof(range.lo));
	memcpy(range.hi, last.bytes, sizeof(range.hi));
	return range;
}
