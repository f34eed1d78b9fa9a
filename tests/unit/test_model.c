/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tenants/model.h"

static struct model model;
static unsigned changes, leavings;
static unsigned reassignments, reassigned_steered;

static void on_changed(void *user, uint32_t spi)
{
	(void)user;
	(void)spi;
	changes++;
}

static void on_leaving(void *user, const struct child_sa *child)
{
	(void)user;
	assert_non_null(child->tenant);
	leavings++;
}

static void on_reassigned(void *user, const struct child_sa *child)
{
	(void)user;
	assert_non_null(child->tenant);
	reassignments++;
	reassigned_steered += child->steered;
}

static int setup(void **state)
{
	static const struct model_callbacks callbacks = { on_changed, on_leaving, on_reassigned,
							  NULL, NULL };

	(void)state;
	model_init(&model, 4, &callbacks, NULL);
	changes = leavings = reassignments = reassigned_steered = 0;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	model_done(&model);
	return 0;
}

static int apply(enum event_type type, const char *tenant, uint32_t ike, uint32_t child,
		 uint32_t spi)
{
	const struct event ev = { .type = type,
				  .tenant = tenant,
				  .ike_id = ike,
				  .child_id = child,
				  .spi_in = spi,
				  .identity = "id",
				  .identity_source = "id",
				  .remote_ts = { "198.18.1.0/24" },
				  .remote_ts_count = 1 };

	return model_apply(&model, &ev);
}

static struct child_sa *find(uint32_t spi)
{
	return model_find_spi(&model, spi);
}

static void test_life_of_a_child(void **state)
{
	(void)state;
	assert_int_equal(apply(EVENT_CHILD_INSTALLING, "acme", 1, 1, 0xc1), 0);
	assert_non_null(find(0xc1));
	assert_false(find(0xc1)->up);
	assert_int_equal(apply(EVENT_CHILD_UP, "acme", 1, 1, 0xc1), 0);
	assert_true(find(0xc1)->up);
	assert_int_equal(model.child_count, 1);
	assert_int_equal(model_find_tenant(&model, "acme")->child_count, 1);
	apply(EVENT_CHILD_DOWN, "acme", 1, 1, 0xc1);
	assert_null(find(0xc1));
	assert_int_equal(model.child_count, 0);
	assert_int_equal(leavings, 1);
	assert_true(changes >= 3);
}

/* Taken from its tenant, it is nobody's and not steered; then it is another's. */
static void test_reassigned(void **state)
{
	(void)state;
	apply(EVENT_CHILD_UP, "acme", 1, 1, 0xc1);
	model_set_steered(&model, find(0xc1), true);
	/* of another SPI, or of a child SA that is not known */
	apply(EVENT_CHILD_REASSIGNED, "acme", 1, 1, 0xc9);
	apply(EVENT_CHILD_REASSIGNED, "acme", 1, 9, 0xc9);
	assert_true(find(0xc1)->steered);
	assert_int_equal(reassignments, 0);
	changes = 0;
	apply(EVENT_CHILD_REASSIGNED, "acme", 1, 1, 0xc1);
	assert_int_equal(reassignments, 1);
	assert_int_equal(reassigned_steered, 1);
	assert_int_equal(changes, 1);
	assert_string_equal(find(0xc1)->tenant->name, "");
	assert_false(find(0xc1)->steered);
	assert_true(find(0xc1)->up);
	assert_int_equal(find(0xc1)->range_count, 1);
	assert_int_equal(model_find_tenant(&model, "acme")->child_count, 0);
	apply(EVENT_CHILD_REASSIGNED, "acme", 1, 1, 0xc1);
	assert_int_equal(reassignments, 1);
	apply(EVENT_CHILD_UP, "globex", 1, 1, 0xc1);
	assert_int_equal(reassignments, 2);
	assert_int_equal(reassigned_steered, 1);
	assert_string_equal(find(0xc1)->tenant->name, "globex");
	assert_int_equal(leavings, 0);
	/* the same tenant again is no news */
	apply(EVENT_CHILD_UP, "globex", 1, 1, 0xc1);
	assert_int_equal(reassignments, 2);
}

static void test_rekey_keeps_both_until_the_old_is_gone(void **state)
{
	struct event ev = { .type = EVENT_CHILD_REKEY,
			    .tenant = "acme",
			    .ike_id = 1,
			    .child_id = 2,
			    .spi_in = 0xc2,
			    .old_spi_in = 0xc1,
			    .old_child_id = 1 };

	(void)state;
	apply(EVENT_CHILD_UP, "acme", 1, 1, 0xc1);
	assert_int_equal(model_apply(&model, &ev), 0);
	assert_non_null(find(0xc1));
	assert_non_null(find(0xc2));
	apply(EVENT_CHILD_DOWN, "acme", 1, 1, 0xc1);
	assert_null(find(0xc1));
	assert_non_null(find(0xc2));
}

/* A late or false "down" must not take what a rekey has put in its place. */
static void test_down_of_another_spi_revokes_nothing(void **state)
{
	(void)state;
	apply(EVENT_CHILD_UP, "acme", 1, 1, 0xc1);
	apply(EVENT_CHILD_DOWN, "acme", 1, 1, 0xc9);
	assert_non_null(find(0xc1));
	apply(EVENT_CHILD_DOWN, "acme", 1, 9, 0xc1);
	assert_non_null(find(0xc1));
}

static void test_ike_rekey_moves_all_its_children(void **state)
{
	const struct event ev = { .type = EVENT_IKE_UPDATE,
				  .ike_id = 7,
				  .old_ike_id = 1,
				  .remote_host = "192.0.2.99[4500]" };

	(void)state;
	apply(EVENT_CHILD_UP, "acme", 1, 1, 0xc1);
	apply(EVENT_CHILD_UP, "acme", 1, 2, 0xc2);
	apply(EVENT_CHILD_UP, "globex", 2, 3, 0xc3);
	assert_int_equal(model_apply(&model, &ev), 0);
	assert_int_equal(find(0xc1)->ike_id, 7);
	assert_int_equal(find(0xc2)->ike_id, 7);
	assert_int_equal(find(0xc3)->ike_id, 2);
	assert_string_equal(find(0xc2)->remote_host, "192.0.2.99[4500]");
	assert_null(model_find_ike(&model, 1));
}

static void test_a_child_may_change_its_tenant(void **state)
{
	(void)state;
	apply(EVENT_CHILD_UP, "acme", 1, 1, 0xc1);
	find(0xc1)->tenant->exception_count = 1;
	changes = 0;
	apply(EVENT_CHILD_UP, "globex", 1, 1, 0xc1);
	assert_string_equal(find(0xc1)->tenant->name, "globex");
	assert_int_equal(model_find_tenant(&model, "acme")->child_count, 0);
	assert_true(changes > 0);
}

static void test_snapshot_removes_what_it_does_not_name(void **state)
{
	(void)state;
	apply(EVENT_CHILD_UP, "acme", 1, 1, 0xc1);
	apply(EVENT_CHILD_UP, "acme", 1, 2, 0xc2);
	model_snapshot_begin(&model);
	apply(EVENT_CHILD_UP, "acme", 1, 2, 0xc2);
	assert_false(model_snapshot_end(&model, SIZE_MAX));
	assert_null(find(0xc1));
	assert_non_null(find(0xc2));
}

static void test_a_snapshot_ends_in_steps(void **state)
{
	(void)state;
	for (uint32_t i = 1; i <= 4; i++)
		apply(EVENT_CHILD_UP, "acme", i, i, 0xc0 + i);
	model_snapshot_begin(&model);
	apply(EVENT_CHILD_UP, "acme", 4, 4, 0xc4);
	assert_true(model_snapshot_end(&model, 1));
	assert_null(find(0xc1));
	assert_non_null(find(0xc2));
	/* what happens in between: the next one ends, another one comes, a third is heard of */
	apply(EVENT_CHILD_DOWN, "acme", 2, 2, 0xc2);
	apply(EVENT_CHILD_UP, "acme", 5, 5, 0xc5);
	apply(EVENT_CHILD_UP, "acme", 3, 3, 0xc3);
	while (model_snapshot_end(&model, 1))
		continue;
	assert_non_null(find(0xc3));
	assert_non_null(find(0xc4));
	assert_non_null(find(0xc5));
	assert_int_equal(model.child_count, 3);
}

static void test_a_new_snapshot_begins_before_the_last_has_ended(void **state)
{
	(void)state;
	for (uint32_t i = 1; i <= 3; i++)
		apply(EVENT_CHILD_UP, "acme", i, i, 0xc0 + i);
	model_snapshot_begin(&model);
	assert_true(model_snapshot_end(&model, 1));
	model_snapshot_begin(&model);
	apply(EVENT_CHILD_UP, "acme", 2, 2, 0xc2);
	assert_false(model_snapshot_end(&model, SIZE_MAX));
	assert_non_null(find(0xc2));
	assert_int_equal(model.child_count, 1);
}

static void test_beyond_the_limit_is_unknown(void **state)
{
	(void)state;
	for (uint32_t i = 1; i <= 4; i++)
		assert_int_equal(apply(EVENT_CHILD_UP, "acme", i, i, 0xc0 + i), 0);
	assert_int_equal(apply(EVENT_CHILD_UP, "acme", 5, 5, 0xc5), -ENOSPC);
	assert_int_equal(model.refused, 1);
	assert_true(model.incomplete);
	assert_null(find(0xc5));
}

static bool count_report(void *user, struct tenant *tenant)
{
	(void)tenant;
	return ++*(unsigned *)user > 1;
}

static void test_tenants_go_when_nobody_needs_them(void **state)
{
	unsigned reports = 0;

	(void)state;
	apply(EVENT_CHILD_UP, "acme", 1, 1, 0xc1);
	model_set_steered(&model, find(0xc1), true);
	apply(EVENT_CHILD_DOWN, "acme", 1, 1, 0xc1);
	assert_non_null(model_find_tenant(&model, "acme"));
	assert_int_equal(model_find_tenant(&model, "acme")->steered, 0);
	model_each_touched(&model, count_report, &reports);
	assert_int_equal(reports, 1);
	assert_non_null(model_find_tenant(&model, "acme"));
	model_each_touched(&model, count_report, &reports);
	assert_int_equal(reports, 2);
	assert_null(model_find_tenant(&model, "acme"));
}

static void test_traffic_selectors(void **state)
{
	static const struct {
		const char *text, *lo, *hi;
	} good[] = {
		{ "198.18.1.0/24", "198.18.1.0", "198.18.1.255" },
		{ "198.18.1.7/32", "198.18.1.7", "198.18.1.7" },
		{ "198.18.1.7", "198.18.1.7", "198.18.1.7" },
		{ "198.18.1.77/25", "198.18.1.0", "198.18.1.127" },
		{ "0.0.0.0/0", "0.0.0.0", "255.255.255.255" },
		{ "198.18.1.3..198.18.1.9", "198.18.1.3", "198.18.1.9" },
		{ "198.18.1.0/24[tcp/443]", "198.18.1.0", "198.18.1.255" },
		{ "2001:db8::/64", "2001:db8::", "2001:db8::ffff:ffff:ffff:ffff" },
		{ "::/0", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff" },
		{ "2001:db8::1..2001:db8::9[17]", "2001:db8::1", "2001:db8::9" },
	};
	static const char *const bad[] = { "",
					   "dynamic",
					   "198.18.1.0/33",
					   "198.18.1.0/",
					   "198.18.1.0/x",
					   "198.18.1",
					   "2001:db8::/129",
					   "198.18.1.9..198.18.1.3",
					   "198.18.1.9..",
					   "fe80::1%eth0" };
	struct address_range range;
	char text[INET6_ADDRSTRLEN];

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(model_parse_ts(good[i].text, &range), 0);
		assert_string_equal(inet_ntop(range.family, range.lo, text, sizeof(text)),
				    good[i].lo);
		assert_string_equal(inet_ntop(range.family, range.hi, text, sizeof(text)),
				    good[i].hi);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(model_parse_ts(bad[i], &range), -EINVAL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_life_of_a_child),
		TEST(test_reassigned),
		TEST(test_rekey_keeps_both_until_the_old_is_gone),
		TEST(test_down_of_another_spi_revokes_nothing),
		TEST(test_ike_rekey_moves_all_its_children),
		TEST(test_a_child_may_change_its_tenant),
		TEST(test_snapshot_removes_what_it_does_not_name),
		TEST(test_a_snapshot_ends_in_steps),
		TEST(test_a_new_snapshot_begins_before_the_last_has_ended),
		TEST(test_beyond_the_limit_is_unknown),
		TEST(test_tenants_go_when_nobody_needs_them),
		TEST(test_traffic_selectors),
	};

	return cmocka_run_group_tests_name("model", tests, NULL, NULL);
}
