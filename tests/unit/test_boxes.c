/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Boxes cut: hand-made cases, and random ones against a map of every point of a small world.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>

#include "addresses.h"
#include "steering/boxes.h"

#define FOREVER INT64_MAX

static struct box cut[BOXES_CUT_MAX];
static size_t cut_count;

static struct box box(const char *lo, const char *hi, const char *dst_lo, const char *dst_hi,
		      int64_t until)
{
	return (struct box){ range_of(lo, hi), range_of(dst_lo, dst_hi), until };
}

static void expect(const struct box *boxes, size_t count, const struct box *wanted,
		   size_t wanted_count)
{
	assert_int_equal(boxes_cut(boxes, count, cut, &cut_count), 0);
	assert_int_equal(cut_count, wanted_count);
	for (size_t i = 0; i < wanted_count; i++)
		assert_memory_equal(&cut[i], &wanted[i], sizeof(cut[i]));
}

#define ALL4 "0.0.0.0", "255.255.255.255"

static void test_none_and_one(void **state)
{
	const struct box one = box("198.18.1.0", "198.18.1.255", ALL4, 7);

	(void)state;
	expect(NULL, 0, NULL, 0);
	expect(&one, 1, &one, 1);
}

static void test_the_longest_counts(void **state)
{
	const struct box boxes[] = {
		box("198.18.1.0", "198.18.1.255", ALL4, 7),
		box("198.18.1.5", "198.18.1.5", ALL4, 9),
		box("198.18.1.7", "198.18.1.7", ALL4, 6),
		box("198.18.1.200", "198.18.2.3", ALL4, FOREVER),
	};
	const struct box wanted[] = {
		box("198.18.1.0", "198.18.1.4", ALL4, 7),
		box("198.18.1.5", "198.18.1.5", ALL4, 9),
		box("198.18.1.6", "198.18.1.199", ALL4, 7),
		box("198.18.1.200", "198.18.2.3", ALL4, FOREVER),
	};

	(void)state;
	expect(boxes, 4, wanted, 4);
}

static void test_destinations(void **state)
{
	const struct box boxes[] = {
		box("198.18.1.0", "198.18.1.255", "203.0.113.0", "203.0.113.255", 7),
		box("198.18.1.0", "198.18.1.255", "203.0.113.128", "203.0.114.255", 9),
		box("198.18.1.5", "198.18.1.5", ALL4, 8),
	};
	const struct box wanted[] = {
		box("198.18.1.0", "198.18.1.4", "203.0.113.0", "203.0.113.127", 7),
		box("198.18.1.0", "198.18.1.4", "203.0.113.128", "203.0.114.255", 9),
		box("198.18.1.5", "198.18.1.5", "0.0.0.0", "203.0.113.127", 8),
		box("198.18.1.5", "198.18.1.5", "203.0.113.128", "203.0.114.255", 9),
		box("198.18.1.5", "198.18.1.5", "203.0.115.0", "255.255.255.255", 8),
		box("198.18.1.6", "198.18.1.255", "203.0.113.0", "203.0.113.127", 7),
		box("198.18.1.6", "198.18.1.255", "203.0.113.128", "203.0.114.255", 9),
	};

	(void)state;
	expect(boxes, 3, wanted, 7);
}

/* Neighbours with the same end are one, with a gap or another end they are not. */
static void test_joined(void **state)
{
	const struct box boxes[] = {
		box("2001:db8::", "2001:db8::ffff", "2001:db8:1::", "2001:db8:1::1", 7),
		box("2001:db8::1:0", "2001:db8::1:5", "2001:db8:1::", "2001:db8:1::1", 7),
		box("2001:db8::1:7", "2001:db8::1:8", "2001:db8:1::", "2001:db8:1::1", 7),
		box("2001:db8::1:9", "2001:db8::1:9", "2001:db8:1::", "2001:db8:1::1", 8),
	};
	const struct box wanted[] = {
		box("2001:db8::", "2001:db8::1:5", "2001:db8:1::", "2001:db8:1::1", 7),
		boxes[2],
		boxes[3],
	};

	(void)state;
	expect(boxes, 4, wanted, 3);
}

static void test_ends_of_the_world(void **state)
{
	const struct box boxes[] = {
		box(ALL4, ALL4, 7),
		box("0.0.0.0", "0.0.0.0", "255.255.255.255", "255.255.255.255", 8),
		box("255.255.255.255", "255.255.255.255", ALL4, 7),
	};
	const struct box wanted[] = {
		box("0.0.0.0", "0.0.0.0", "0.0.0.0", "255.255.255.254", 7),
		box("0.0.0.0", "0.0.0.0", "255.255.255.255", "255.255.255.255", 8),
		box("0.0.0.1", "255.255.255.255", ALL4, 7),
	};

	(void)state;
	expect(boxes, 3, wanted, 3);
}

static void test_too_many(void **state)
{
	static struct box many[BOXES_MAX + 1];

	(void)state;
	for (unsigned i = 0; i <= BOXES_MAX; i++)
		many[i] = box("198.18.0.0", "198.18.0.0", ALL4, 7);
	for (unsigned i = 0; i <= BOXES_MAX; i++)
		many[i].source.lo[3] = many[i].source.hi[3] = (uint8_t)i;
	assert_int_equal(boxes_cut(many, BOXES_MAX, cut, &cut_count), 0);
	assert_int_equal(cut_count, 1);
	assert_int_equal(boxes_cut(many, BOXES_MAX + 1, cut, &cut_count), -E2BIG);
	/* strips across strips: more pieces than there is room for */
	for (unsigned i = 0; i < BOXES_MAX; i++) {
		many[i] = box(ALL4, ALL4, i + 1);
		(i & 1 ? &many[i].source : &many[i].destination)->lo[0] = (uint8_t)i;
		(i & 1 ? &many[i].source : &many[i].destination)->hi[0] = (uint8_t)i;
	}
	assert_int_equal(boxes_cut(many, BOXES_MAX, cut, &cut_count), -E2BIG);
}

/* A world of 16 by 16 addresses. */
#define SIZE 16

static struct address_range small_range(void)
{
	struct address_range r = range_of("198.18.0.0", "198.18.0.0");
	uint8_t a = (uint8_t)(rand() % SIZE), b = (uint8_t)(rand() % SIZE);

	r.lo[3] = a < b ? a : b;
	r.hi[3] = a < b ? b : a;
	return r;
}

static bool holds(const struct address_range *r, unsigned address)
{
	return r->lo[3] <= address && address <= r->hi[3];
}

static void test_random(void **state)
{
	(void)state;
	srand(1);
	for (unsigned round = 0; round < 20000; round++) {
		struct box boxes[8];
		const size_t count = (size_t)rand() % 9;

		for (size_t i = 0; i < count; i++)
			boxes[i] = (struct box){ small_range(), small_range(), 1 + rand() % 3 };
		assert_int_equal(boxes_cut(boxes, count, cut, &cut_count), 0);
		for (unsigned s = 0; s < SIZE; s++)
			for (unsigned d = 0; d < SIZE; d++) {
				int64_t until = 0, found = 0;

				for (size_t i = 0; i < count; i++)
					if (holds(&boxes[i].source, s) &&
					    holds(&boxes[i].destination, d) &&
					    boxes[i].until > until)
						until = boxes[i].until;
				for (size_t i = 0; i < cut_count; i++)
					if (holds(&cut[i].source, s) &&
					    holds(&cut[i].destination, d)) {
						assert_int_equal(found, 0); /* no two overlap */
						found = cut[i].until;
					}
				assert_int_equal(found, until);
			}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_none_and_one),
		cmocka_unit_test(test_the_longest_counts),
		cmocka_unit_test(test_destinations),
		cmocka_unit_test(test_joined),
		cmocka_unit_test(test_ends_of_the_world),
		cmocka_unit_test(test_too_many),
		cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests_name("boxes", tests, NULL, NULL);
}
