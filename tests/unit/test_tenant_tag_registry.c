/* SPDX-License-Identifier: GPL-2.0-or-later */
/* CHILD_SAs and the bounded queue of changes: charon-plugin/tenant_tag_registry.c. */
#include <library.h>

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tenant_tag_registry.h"

static tenant_tag_sa_t *make_sa(uint32_t child_id, uint32_t ike_id)
{
	tenant_tag_sa_t *sa;

	sa = tenant_tag_sa_create(child_id, ike_id, tenant_tag_facts_create("conn"));
	sa->spi_in = 0xc0000000 + child_id;
	return sa;
}

/* Take one change and check it; returns its sequence number. */
static uint64_t expect(tenant_tag_registry_t *reg, enum event_type type, uint32_t child_id)
{
	tenant_tag_change_t change;

	assert_int_equal(reg->dequeue(reg, &change, 1), 1);
	assert_int_equal(change.type, type);
	assert_int_equal(change.sa->child_id, child_id);
	assert_true(change.time_us > 0);
	tenant_tag_sa_destroy(change.sa);
	return change.seq;
}

static void expect_empty(tenant_tag_registry_t *reg)
{
	tenant_tag_change_t change;

	assert_int_equal(reg->dequeue(reg, &change, 1), 0);
}

static bool is_readable(tenant_tag_registry_t *reg)
{
	struct pollfd fd = { .fd = reg->get_fd(reg), .events = POLLIN };

	return poll(&fd, 1, 0) == 1;
}

static u_int count_children(tenant_tag_registry_t *reg)
{
	tenant_tag_stats_t stats;

	reg->get_stats(reg, &stats);
	return stats.children;
}

static void test_life_of_a_child(void **state)
{
	tenant_tag_registry_t *reg = tenant_tag_registry_create(16);

	reg->put(reg, make_sa(7, 1), EVENT_CHILD_INSTALLING, 0, 0);
	reg->put(reg, make_sa(7, 1), EVENT_CHILD_UP, 0, 0);
	assert_int_equal(count_children(reg), 1);
	reg->remove(reg, 7);
	assert_int_equal(count_children(reg), 0);
	assert_int_equal(expect(reg, EVENT_CHILD_INSTALLING, 7), 1);
	assert_int_equal(expect(reg, EVENT_CHILD_UP, 7), 2);
	assert_int_equal(expect(reg, EVENT_CHILD_DOWN, 7), 3);
	/* exactly one, whoever calls again, and none for what never was */
	reg->remove(reg, 7);
	reg->remove(reg, 8);
	expect_empty(reg);
	reg->destroy(reg);
}

static void test_rekey(void **state)
{
	tenant_tag_registry_t *reg = tenant_tag_registry_create(16);
	tenant_tag_change_t change;

	reg->put(reg, make_sa(1, 1), EVENT_CHILD_UP, 0, 0);
	assert_false(reg->is_superseded(reg, 1));
	reg->put(reg, make_sa(2, 1), EVENT_CHILD_REKEY, 1, 0xc0000001);
	assert_true(reg->is_superseded(reg, 1));
	assert_false(reg->is_superseded(reg, 2));
	assert_false(reg->is_superseded(reg, 3));
	assert_int_equal(count_children(reg), 2);
	expect(reg, EVENT_CHILD_UP, 1);
	assert_int_equal(reg->dequeue(reg, &change, 1), 1);
	assert_int_equal(change.type, EVENT_CHILD_REKEY);
	assert_int_equal(change.old_child_id, 1);
	assert_int_equal(change.old_spi_in, 0xc0000001);
	tenant_tag_sa_destroy(change.sa);
	reg->remove(reg, 1);
	expect(reg, EVENT_CHILD_DOWN, 1);
	/* the mark does not stick to the slot */
	reg->put(reg, make_sa(1, 1), EVENT_CHILD_UP, 0, 0);
	assert_false(reg->is_superseded(reg, 1));
	reg->destroy(reg);
}

static void test_update(void **state)
{
	tenant_tag_registry_t *reg = tenant_tag_registry_create(16);
	tenant_tag_sa_t *sas[2], *found;
	tenant_tag_change_t page[4];
	uint64_t cursor = 0;
	bool more;

	reg->put(reg, make_sa(1, 1), EVENT_CHILD_UP, 0, 0);
	reg->put(reg, make_sa(2, 1), EVENT_CHILD_UP, 0, 0);
	sas[0] = make_sa(1, 9);
	sas[1] = make_sa(2, 9);
	reg->update(reg, sas, 2, 1);
	expect(reg, EVENT_CHILD_UP, 1);
	expect(reg, EVENT_CHILD_UP, 2);
	assert_int_equal(expect(reg, EVENT_IKE_UPDATE, 1), 3);
	expect_empty(reg);
	found = reg->get(reg, 2);
	assert_int_equal(found->ike_id, 9);
	tenant_tag_sa_destroy(found);
	/* the one event changed both */
	assert_int_equal(reg->get_page(reg, &cursor, page, 4, &more), 2);
	assert_int_equal(page[0].seq, 3);
	assert_int_equal(page[1].seq, 3);
	tenant_tag_sa_destroy(page[0].sa);
	tenant_tag_sa_destroy(page[1].sa);
	reg->destroy(reg);
}

static void test_full_queue_drops_and_counts(void **state)
{
	tenant_tag_registry_t *reg = tenant_tag_registry_create(4);
	tenant_tag_stats_t stats;
	uint32_t i;

	for (i = 1; i <= 10; i++)
		reg->put(reg, make_sa(i, 1), EVENT_CHILD_UP, 0, 0);
	reg->get_stats(reg, &stats);
	assert_int_equal(stats.queued, 4);
	assert_int_equal(stats.dropped, 6);
	assert_int_equal(stats.seq, 10);
	/* the state is complete all the same */
	assert_int_equal(stats.children, 10);
	for (i = 1; i <= 4; i++)
		assert_int_equal(expect(reg, EVENT_CHILD_UP, i), i);
	expect_empty(reg);
	/* and the next event shows the gap */
	reg->remove(reg, 10);
	assert_int_equal(expect(reg, EVENT_CHILD_DOWN, 10), 11);
	reg->destroy(reg);
}

static void test_wakes_once_per_batch(void **state)
{
	tenant_tag_registry_t *reg = tenant_tag_registry_create(4);

	assert_false(is_readable(reg));
	reg->put(reg, make_sa(1, 1), EVENT_CHILD_UP, 0, 0);
	assert_true(is_readable(reg));
	reg->acknowledge(reg);
	reg->put(reg, make_sa(2, 1), EVENT_CHILD_UP, 0, 0);
	assert_false(is_readable(reg));
	expect(reg, EVENT_CHILD_UP, 1);
	expect(reg, EVENT_CHILD_UP, 2);
	reg->remove(reg, 1);
	assert_true(is_readable(reg));
	reg->acknowledge(reg);
	reg->wake(reg);
	assert_true(is_readable(reg));
	reg->destroy(reg);
}

static void test_does_not_wake_who_attends(void **state)
{
	tenant_tag_registry_t *reg = tenant_tag_registry_create(4);

	assert_false(reg->pending(reg, TRUE));
	reg->put(reg, make_sa(1, 1), EVENT_CHILD_UP, 0, 0);
	assert_false(is_readable(reg));
	/* what came meanwhile is seen by who wants to sleep */
	assert_true(reg->pending(reg, FALSE));
	expect(reg, EVENT_CHILD_UP, 1);
	assert_false(reg->pending(reg, FALSE));
	reg->put(reg, make_sa(2, 1), EVENT_CHILD_UP, 0, 0);
	assert_true(is_readable(reg));
	expect(reg, EVENT_CHILD_UP, 2);
	reg->destroy(reg);
}

static void test_repeat(void **state)
{
	tenant_tag_registry_t *reg = tenant_tag_registry_create(16);
	tenant_tag_sa_t *sa;

	reg->put(reg, make_sa(1, 1), EVENT_CHILD_INSTALLING, 0, 0);
	expect(reg, EVENT_CHILD_INSTALLING, 1);
	sa = reg->get(reg, 1);
	reg->repeat(reg, sa, FALSE);
	assert_int_equal(expect(reg, EVENT_CHILD_INSTALLING, 1), 2);
	/* is taken from its tenant, and then still what it was */
	reg->repeat(reg, sa, TRUE);
	assert_int_equal(expect(reg, EVENT_CHILD_REASSIGNED, 1), 3);
	reg->repeat(reg, sa, FALSE);
	assert_int_equal(expect(reg, EVENT_CHILD_INSTALLING, 1), 4);
	/* no longer what is known */
	reg->put(reg, make_sa(1, 1), EVENT_CHILD_UP, 0, 0);
	expect(reg, EVENT_CHILD_UP, 1);
	reg->repeat(reg, sa, FALSE);
	expect_empty(reg);
	reg->remove(reg, 1);
	expect(reg, EVENT_CHILD_DOWN, 1);
	reg->repeat(reg, sa, FALSE);
	reg->repeat(reg, sa, TRUE);
	expect_empty(reg);
	tenant_tag_sa_destroy(sa);
	reg->destroy(reg);
}

/* Read all pages; every id below max has to come once, if even. */
static void check_pages(tenant_tag_registry_t *reg, uint32_t max, u_int page_size)
{
	tenant_tag_change_t page[64];
	u_char seen[2000] = { 0 };
	uint64_t cursor = 0;
	u_int i, count, total = 0;
	bool more;

	do {
		count = reg->get_page(reg, &cursor, page, page_size, &more);
		assert_true(count <= page_size);
		for (i = 0; i < count; i++) {
			assert_int_equal(page[i].type, EVENT_CHILD_UP);
			seen[page[i].sa->child_id]++;
			tenant_tag_sa_destroy(page[i].sa);
		}
		total += count;
	} while (more);
	for (i = 0; i < max; i++)
		assert_int_equal(seen[i], i % 2 == 0);
	assert_int_equal(total, max / 2);
	/* any cursor a client makes up is harmless */
	cursor = UINT64_MAX;
	assert_int_equal(reg->get_page(reg, &cursor, page, 1, &more), 0);
	assert_false(more);
}

static void test_pages(void **state)
{
	tenant_tag_registry_t *reg = tenant_tag_registry_create(4);
	uint32_t i;

	for (i = 0; i < 2000; i++)
		reg->put(reg, make_sa(i, 1), EVENT_CHILD_UP, 0, 0);
	for (i = 1; i < 2000; i += 2)
		reg->remove(reg, i);
	assert_int_equal(count_children(reg), 1000);
	check_pages(reg, 2000, 64);
	check_pages(reg, 2000, 7);
	check_pages(reg, 2000, 1);
	reg->destroy(reg);
}

static void test_slots_are_reused(void **state)
{
	tenant_tag_registry_t *reg = tenant_tag_registry_create(4);
	tenant_tag_change_t page[1];
	uint64_t cursor = 0;
	uint32_t i;
	bool more = TRUE;

	for (i = 1; i < 100000; i++) {
		reg->put(reg, make_sa(i, 1), EVENT_CHILD_UP, 0, 0);
		reg->remove(reg, i);
	}
	while (more)
		assert_int_equal(reg->get_page(reg, &cursor, page, 1, &more), 0);
	assert_true(cursor <= 256);
	reg->destroy(reg);
}

static void test_records_are_copies(void **state)
{
	tenant_tag_sa_t *sa = make_sa(1, 1), *copy;
	host_t *host = host_create_from_string("192.0.2.7", 4500);
	host_t *vip = host_create_from_string("198.18.1.1", 0);
	linked_list_t *list = linked_list_create_with_items(vip, NULL);
	traffic_selector_t *ts = traffic_selector_create_from_cidr("198.18.0.0/24", 0, 0, 65535);

	tenant_tag_sa_set_remote(sa, host);
	tenant_tag_sa_set_vips(sa, list->create_enumerator(list));
	tenant_tag_sa_set_ts(sa, TRUE, enumerator_create_single(ts, NULL));
	ts->destroy(ts);
	copy = tenant_tag_sa_clone(sa);
	tenant_tag_sa_destroy(sa);
	assert_true(copy->remote->equals(copy->remote, host));
	assert_int_equal(copy->vip_count, 1);
	assert_true(copy->vips[0]->ip_equals(copy->vips[0], vip));
	assert_int_equal(copy->local_ts_count, 1);
	assert_int_equal(copy->remote_ts_count, 0);
	tenant_tag_sa_destroy(copy);
	list->destroy_offset(list, offsetof(host_t, destroy));
	host->destroy(host);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_life_of_a_child),
		cmocka_unit_test(test_rekey),
		cmocka_unit_test(test_update),
		cmocka_unit_test(test_full_queue_drops_and_counts),
		cmocka_unit_test(test_wakes_once_per_batch),
		cmocka_unit_test(test_does_not_wake_who_attends),
		cmocka_unit_test(test_repeat),
		cmocka_unit_test(test_pages),
		cmocka_unit_test(test_slots_are_reused),
		cmocka_unit_test(test_records_are_copies),
	};
	int failed;

	if (!library_init("", "test"))
		return 1;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	library_deinit();
	return failed;
}
