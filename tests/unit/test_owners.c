/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whose an address is, as the model's child SAs come, change, move and go. */
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
#include "ignoring.h"
#include "usage/owners.h"

#define ROUNDS 20000
#define CHILDREN 24
#define ADDRESSES 64

static struct model model;
static struct owners *owners;

static void on_placed(void *user, const struct child_sa *child, bool placed)
{
	(void)user;
	owners_place(owners, child, placed);
}

static int setup(void **state)
{
	const struct model_callbacks callbacks = { .changed = ignore_changed,
						   .leaving = ignore_leaving,
						   .placed = on_placed };

	(void)state;
	model_init(&model, CHILDREN + 1, &callbacks, NULL);
	owners = owners_new();
	return owners ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	model_done(&model);
	owners_free(owners);
	return 0;
}

static void apply(enum event_type type, const char *tenant, uint32_t child, const char *ts)
{
	const struct event ev = { .type = type,
				  .tenant = tenant,
				  .ike_id = child,
				  .child_id = child,
				  .spi_in = 0xc0000000 + child,
				  .remote_ts = { ts },
				  .remote_ts_count = ts ? 1 : 0 };

	assert_int_equal(model_apply(&model, &ev), 0);
}

/* The only owner's name, "" for nobody, "*" for several. */
static const char *owner(const char *text)
{
	const struct address a = address_of(text);
	struct tenant *tenant = NULL;
	const enum owner found = owners_find(owners, &a, &tenant);

	return found == OWNER_ONE ? tenant->name : found == OWNER_NONE ? "" : "*";
}

static void test_one_owner(void **state)
{
	(void)state;
	assert_string_equal(owner("198.18.1.5"), "");
	apply(EVENT_CHILD_UP, "acme", 1, "198.18.1.0/24");
	apply(EVENT_CHILD_UP, "globex", 2, "2001:db8::/64");
	assert_string_equal(owner("198.18.1.0"), "acme");
	assert_string_equal(owner("198.18.1.255"), "acme");
	assert_string_equal(owner("198.18.2.0"), "");
	assert_string_equal(owner("2001:db8::5"), "globex");
	assert_string_equal(owner("2001:db8:0:1::5"), "");
	apply(EVENT_CHILD_DOWN, "acme", 1, NULL);
	assert_string_equal(owner("198.18.1.5"), "");
}

static void test_a_rekeyed_child_is_the_same_tenants(void **state)
{
	(void)state;
	apply(EVENT_CHILD_UP, "acme", 1, "198.18.1.0/24");
	apply(EVENT_CHILD_UP, "acme", 2, "198.18.1.0/24");
	assert_string_equal(owner("198.18.1.5"), "acme");
	apply(EVENT_CHILD_DOWN, "acme", 1, NULL);
	assert_string_equal(owner("198.18.1.5"), "acme");
}

static void test_several_owners(void **state)
{
	(void)state;
	apply(EVENT_CHILD_UP, "acme", 1, "198.18.1.0/24");
	apply(EVENT_CHILD_UP, "globex", 2, "198.18.1.5/32");
	assert_string_equal(owner("198.18.1.5"), "*");
	assert_string_equal(owner("198.18.1.6"), "acme");
	apply(EVENT_CHILD_DOWN, "globex", 2, NULL);
	assert_string_equal(owner("198.18.1.5"), "acme");
}

static void test_other_addresses_and_another_tenant(void **state)
{
	(void)state;
	apply(EVENT_CHILD_UP, "acme", 1, "198.18.1.0/24");
	apply(EVENT_CHILD_UP, "acme", 1, "198.18.2.3..198.18.2.9");
	assert_string_equal(owner("198.18.1.5"), "");
	assert_string_equal(owner("198.18.2.3"), "acme");
	assert_string_equal(owner("198.18.2.9"), "acme");
	assert_string_equal(owner("198.18.2.10"), "");
	apply(EVENT_CHILD_REASSIGNED, "acme", 1, NULL);
	assert_string_equal(owner("198.18.2.5"), "");
	apply(EVENT_CHILD_UP, "globex", 1, NULL);
	assert_string_equal(owner("198.18.2.5"), "globex");
}

static void test_what_cannot_be_read_may_be_anything(void **state)
{
	(void)state;
	apply(EVENT_CHILD_UP, "acme", 1, "198.18.1.0/24");
	apply(EVENT_CHILD_UP, "globex", 2, "dynamic");
	assert_string_equal(owner("198.18.1.5"), "*");
	apply(EVENT_CHILD_DOWN, "globex", 2, NULL);
	assert_string_equal(owner("198.18.1.5"), "acme");
}

/* As a search of all child SAs would say. */
static const char *slow_owner(const char *text)
{
	const struct address a = address_of(text);
	const struct tenant *tenant = NULL;

	for (const struct child_sa *child = model.children; child; child = child->hh.next)
		for (unsigned i = 0; i < child->range_count; i++) {
			if (!model_range_holds(&child->ranges[i], &a))
				continue;
			if (tenant && tenant != child->tenant)
				return "*";
			tenant = child->tenant;
		}
	return tenant ? tenant->name : "";
}

static void test_random(void **state)
{
	static const char *const tenants[] = { "acme", "globex", "initech" };
	char ts[64], text[32];

	(void)state;
	srandom(1);
	for (unsigned round = 0; round < ROUNDS; round++) {
		const uint32_t child = 1 + (uint32_t)random() % CHILDREN;
		const unsigned low = (unsigned)random() % ADDRESSES;
		const unsigned high = low + (unsigned)random() % 20;
		const bool there = model_find_spi(&model, 0xc0000000 + child) != NULL;

		snprintf(ts, sizeof(ts), "198.18.1.%u..198.18.1.%u", low, high);
		if (there && random() % 3 == 0)
			apply(EVENT_CHILD_DOWN, NULL, child, NULL);
		else if (there && random() % 3 == 0)
			apply(EVENT_CHILD_REASSIGNED, NULL, child, NULL);
		else
			apply(EVENT_CHILD_UP, tenants[random() % 3], child, ts);
		snprintf(text, sizeof(text), "198.18.1.%u", (unsigned)random() % ADDRESSES);
		assert_string_equal(owner(text), slow_owner(text));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_one_owner, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_rekeyed_child_is_the_same_tenants, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_several_owners, setup, teardown),
		cmocka_unit_test_setup_teardown(test_other_addresses_and_another_tenant, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_what_cannot_be_read_may_be_anything, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_random, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
