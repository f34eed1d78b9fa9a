/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "planned.h"

static void up(const char *tenant, uint32_t spi, const char *ts)
{
	planned_up(tenant, NULL, spi, ts);
}

static void exempt(const char *tenant, int64_t until)
{
	struct tenant *t = model_tenant(&planned.model, tenant);

	t->exception_count = until ? 1 : 0;
	model_set_exempt(&planned.model, t, 0, NULL, until);
}

/* How many elements of a set that start with this IPv4 address or SPI are to be added. */
static unsigned wanted(uint8_t set, uint32_t first)
{
	struct element removals[64], additions[64];
	struct element_batch batch = { .removals = removals, .additions = additions };
	unsigned found = 0;

	elements_next_batch(planned.elements, 64, 0, &batch);
	for (size_t i = 0; i < batch.addition_count; i++) {
		const uint8_t *lo = additions[i].key.lo;
		uint32_t value = (uint32_t)lo[0] << 24 | (uint32_t)lo[1] << 16 |
				 (uint32_t)lo[2] << 8 | lo[3];

		found += additions[i].key.set == set && value == first;
	}
	return found;
}

static size_t wanted_in_all(void)
{
	return elements_wanted(planned.elements);
}

/* What could be a CPI names no SA, even if an SA has it. */
static void test_numbers_of_ipcomp(void **state)
{
	(void)state;
	exempt("acme", EXEMPT_FOREVER);
	up("acme", 0x100, NULL);
	up("acme", PLAN_CPI_MAX, NULL);
	assert_int_equal(wanted_in_all(), 0);
	assert_int_equal(model_find_tenant(&planned.model, "acme")->steered, 0);
	up("acme", PLAN_CPI_MAX + 1, NULL);
	assert_int_equal(wanted(SET_SA, PLAN_CPI_MAX + 1), 1);
	assert_int_equal(wanted_in_all(), 1);
}

static void test_only_exempt_tenants(void **state)
{
	(void)state;
	up("acme", 0xc0000001, NULL);
	up("globex", 0xc0000002, NULL);
	assert_int_equal(wanted_in_all(), 0);
	exempt("acme", EXEMPT_FOREVER);
	assert_int_equal(wanted(SET_SA, 0xc0000001), 1);
	assert_int_equal(wanted_in_all(), 1);
	assert_int_equal(model_find_tenant(&planned.model, "acme")->steered, 1);
	up("acme", 0xc0000003, NULL);
	assert_int_equal(wanted_in_all(), 2);
	exempt("acme", 0);
	assert_int_equal(wanted_in_all(), 0);
	assert_int_equal(model_find_tenant(&planned.model, "acme")->steered, 0);
}

static void test_unidentified_is_never_exempt(void **state)
{
	(void)state;
	exempt("", EXEMPT_FOREVER);
	up(NULL, 0xc0000001, NULL);
	assert_int_equal(wanted_in_all(), 0);
}

static void test_one_spi_of_two_tenants_is_nobodys(void **state)
{
	const struct event down = {
		.type = EVENT_CHILD_DOWN, .child_id = 2, .ike_id = 2, .spi_in = 0xc0000001
	};

	(void)state;
	exempt("acme", EXEMPT_FOREVER);
	up("acme", 0xc0000001, NULL);
	assert_int_equal(wanted_in_all(), 1);
	up("globex", 0xc0000001, NULL);
	assert_int_equal(wanted_in_all(), 0);
	model_apply(&planned.model, &down);
	assert_int_equal(wanted_in_all(), 1);
}

static void test_changed_tenant_takes_its_exemption_along(void **state)
{
	struct event ev = { .type = EVENT_CHILD_UP,
			    .tenant = "globex",
			    .ike_id = 1,
			    .child_id = 1,
			    .spi_in = 0xc0000001 };

	(void)state;
	exempt("acme", EXEMPT_FOREVER);
	up("acme", 0xc0000001, NULL);
	model_apply(&planned.model, &ev);
	assert_int_equal(wanted_in_all(), 0);
}

static int plan(void)
{
	return plan_addresses(&planned.model, planned.elements, PROFILES);
}

static void test_addresses(void **state)
{
	(void)state;
	exempt("acme", EXEMPT_FOREVER);
	up("acme", 1, "198.18.1.0/24");
	up("acme", 2, "198.18.3.7/32");
	up("acme", 3, "2001:db8::/64");
	up("globex", 4, "198.18.2.0/24");
	assert_int_equal(plan(), 0);
	assert_int_equal(wanted(SET_NET4, 0xc6120100), 1);
	assert_int_equal(wanted(SET_HOST4, 0xc6120307), 1);
	assert_int_equal(wanted(SET_NET6, 0x20010db8), 1);
	assert_int_equal(wanted_in_all(), 3);
	assert_int_equal(model_find_tenant(&planned.model, "acme")->steered, 3);
	assert_int_equal(model_find_tenant(&planned.model, "globex")->steered, 0);
}

static void test_shared_address_enforces_both(void **state)
{
	(void)state;
	exempt("acme", EXEMPT_FOREVER);
	exempt("globex", EXEMPT_FOREVER);
	up("acme", 1, "198.18.1.0/24");
	up("acme", 2, "198.18.3.0/24");
	up("globex", 3, "198.18.1.128/25");
	assert_int_equal(plan(), 0);
	assert_int_equal(wanted_in_all(), 1);
	assert_int_equal(wanted(SET_NET4, 0xc6120300), 1);
	assert_true(model_find_tenant(&planned.model, "acme")->conflict);
	assert_true(model_find_tenant(&planned.model, "globex")->conflict);
}

/* The first range in order, or the last: the other one is steered all the same. */
static void test_conflict_of_one_range_leaves_the_other(void **state)
{
	struct event ev = { .type = EVENT_CHILD_UP,
			    .tenant = "acme",
			    .ike_id = 50,
			    .child_id = 50,
			    .spi_in = 50,
			    .remote_ts = { "198.18.1.0/24", "198.18.3.0/24" },
			    .remote_ts_count = 2 };

	(void)state;
	exempt("acme", EXEMPT_FOREVER);
	model_apply(&planned.model, &ev);
	up("globex", 1, "198.18.3.5/32");
	assert_int_equal(plan(), 0);
	assert_int_equal(wanted(SET_NET4, 0xc6120100), 1);
	assert_int_equal(wanted_in_all(), 1);
	assert_int_equal(model_find_tenant(&planned.model, "acme")->steered, 1);
}

static void test_unidentified_neighbour_is_a_conflict_too(void **state)
{
	(void)state;
	exempt("acme", EXEMPT_FOREVER);
	up("acme", 1, "198.18.3.1/32");
	up(NULL, 2, "198.18.3.1/32");
	assert_int_equal(plan(), 0);
	assert_int_equal(wanted_in_all(), 0);
}

static void test_unidentified_address_is_never_exempt(void **state)
{
	(void)state;
	exempt("", EXEMPT_FOREVER);
	up(NULL, 1, "198.18.1.0/24");
	assert_int_equal(plan(), 0);
	assert_int_equal(wanted_in_all(), 0);
}

/* The third does not meet the first, but the second meets both. */
static void test_conflict_reaches_through_others(void **state)
{
	(void)state;
	exempt("acme", EXEMPT_FOREVER);
	up("acme", 1, "198.18.1.0/25");
	up("acme", 2, "198.18.1.64..198.18.1.200");
	up("globex", 3, "198.18.1.190/32");
	assert_int_equal(plan(), 0);
	assert_int_equal(wanted_in_all(), 0);
}

static void test_refused_child_sa_exempts_nobody(void **state)
{
	const struct event more = {
		.type = EVENT_CHILD_UP, .tenant = "globex", .ike_id = 9, .child_id = 9, .spi_in = 9
	};

	(void)state;
	exempt("acme", EXEMPT_FOREVER);
	up("acme", 1, "198.18.1.0/24");
	planned.model.max = 1;
	assert_int_equal(model_apply(&planned.model, &more), -ENOSPC);
	assert_int_equal(plan(), -EBADMSG);
	assert_int_equal(wanted_in_all(), 0);
}

static void test_own_overlap_is_one_range(void **state)
{
	(void)state;
	exempt("acme", EXEMPT_FOREVER);
	up("acme", 1, "198.18.1.0/24");
	up("acme", 2, "198.18.1.0/24");
	up("acme", 3, "198.18.1.64/26");
	assert_int_equal(plan(), 0);
	assert_int_equal(wanted_in_all(), 1);
	assert_false(model_find_tenant(&planned.model, "acme")->conflict);
	assert_int_equal(model_find_tenant(&planned.model, "acme")->steered, 3);
}

static void test_neighbours_do_not_touch(void **state)
{
	(void)state;
	exempt("acme", EXEMPT_FOREVER);
	up("acme", 1, "198.18.0.0/24");
	up("globex", 2, "198.18.1.0/24");
	assert_int_equal(plan(), 0);
	assert_int_equal(wanted_in_all(), 1);
}

static void test_unknown_address_exempts_nobody(void **state)
{
	(void)state;
	exempt("acme", EXEMPT_FOREVER);
	up("acme", 1, "198.18.1.0/24");
	assert_int_equal(plan(), 0);
	assert_int_equal(wanted_in_all(), 1);
	up("globex", 2, "dynamic");
	assert_int_equal(plan(), -EBADMSG);
	assert_int_equal(wanted_in_all(), 0);
	assert_int_equal(model_find_tenant(&planned.model, "acme")->steered, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, planned_setup, planned_teardown)
#define TEST_ADDRESS(name)                                                                         \
	cmocka_unit_test_setup_teardown(name, planned_setup_address, planned_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_only_exempt_tenants),
		TEST(test_numbers_of_ipcomp),
		TEST(test_unidentified_is_never_exempt),
		TEST(test_one_spi_of_two_tenants_is_nobodys),
		TEST(test_changed_tenant_takes_its_exemption_along),
		TEST_ADDRESS(test_addresses),
		TEST_ADDRESS(test_shared_address_enforces_both),
		TEST_ADDRESS(test_conflict_of_one_range_leaves_the_other),
		TEST_ADDRESS(test_unidentified_neighbour_is_a_conflict_too),
		TEST_ADDRESS(test_unidentified_address_is_never_exempt),
		TEST_ADDRESS(test_conflict_reaches_through_others),
		TEST_ADDRESS(test_refused_child_sa_exempts_nobody),
		TEST_ADDRESS(test_own_overlap_is_one_range),
		TEST_ADDRESS(test_neighbours_do_not_touch),
		TEST_ADDRESS(test_unknown_address_exempts_nobody),
	};

	return cmocka_run_group_tests_name("plan", tests, NULL, NULL);
}
