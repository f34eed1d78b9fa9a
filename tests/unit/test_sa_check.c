/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel's SAs against charon's word: model, plan and table as in steerd, the kernel played by
 * the test. What counts is whether an element is wanted.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/xfrm.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernel/sa_check.h"
#include "steering/plan.h"

#define GATEWAY "192.0.2.1"
#define OTHER_GATEWAY "198.51.100.1"
#define ACME "192.0.2.10"
#define GLOBEX "192.0.2.20"
#define SPI 0xc1020304
#define REQID 7
#define MAX 64

static struct model model;
static struct elements *elements;
static struct sa_check *check;
static unsigned changes;

static void on_changed(void *user, uint32_t spi)
{
	(void)user;
	changes++;
	plan_spi(&model, elements, 1, check, spi);
}

static void on_leaving(void *user, const struct child_sa *child)
{
	(void)user;
	(void)child;
}

static void exempt(const char *name)
{
	struct tenant *tenant = model_tenant(&model, name);

	tenant->exception_count = 1;
	model_set_exempt(&model, tenant, 0, NULL, EXEMPT_FOREVER);
}

static int setup_unread(void **state)
{
	static const struct model_callbacks callbacks = { .changed = on_changed,
							  .leaving = on_leaving };

	(void)state;
	changes = 0;
	elements = elements_new(1000);
	model_init(&model, 1000, &callbacks, NULL);
	check = sa_check_new(&model, MAX, on_changed, NULL);
	exempt("acme");
	return elements && check ? 0 : -1;
}

static int setup(void **state)
{
	if (setup_unread(state) < 0)
		return -1;
	sa_check_dump_begin(check);
	return sa_check_dump_end(check) ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	sa_check_free(check);
	check = NULL;
	model_done(&model);
	elements_free(elements);
	return 0;
}

/* What charon says. */

static void say(enum event_type type, const char *tenant, uint32_t id, uint32_t spi,
		const char *host)
{
	char text[64];
	const struct event ev = { .type = type,
				  .tenant = tenant,
				  .ike_id = id,
				  .child_id = id,
				  .spi_in = spi,
				  .reqid = type == EVENT_CHILD_INSTALLING ? 0 : REQID,
				  .mode = "tunnel",
				  .remote_host = text };

	snprintf(text, sizeof(text), "%s[4500]", host);
	assert_int_equal(model_apply(&model, &ev), 0);
}

static void installing(const char *tenant, const char *host)
{
	say(EVENT_CHILD_INSTALLING, tenant, 1, SPI, host);
}

static void up(const char *tenant, const char *host)
{
	say(EVENT_CHILD_UP, tenant, 1, SPI, host);
}

static void moves(const char *host)
{
	say(EVENT_IKE_UPDATE, "acme", 1, 0, host);
}

/* What the kernel says. */

static struct sa_state sa(const char *src, const char *dst)
{
	struct sa_state state = { .spi = SPI,
				  .family = strchr(dst, ':') ? AF_INET6 : AF_INET,
				  .protocol = IPPROTO_ESP,
				  .reqid = REQID,
				  .mode = XFRM_MODE_TUNNEL };

	assert_int_equal(inet_pton(state.family, src, state.src), 1);
	assert_int_equal(inet_pton(state.family, dst, state.dst), 1);
	return state;
}

static void added(const struct sa_state *state)
{
	sa_check_observe(check, state, false);
}

static void dump(const struct sa_state *states, unsigned count)
{
	sa_check_dump_begin(check);
	for (unsigned i = 0; i < count; i++)
		sa_check_dump_state(check, &states[i]);
	assert_true(sa_check_dump_end(check));
}

/* What comes of it. */

static bool wanted(void)
{
	return elements_wanted(elements) != 0;
}

static enum sa_verdict verdict(void)
{
	return model_find_spi(&model, SPI)->verdict;
}

static void test_early_then_there(void **state)
{
	struct sa_state own = sa(ACME, GATEWAY);

	(void)state;
	installing("acme", ACME);
	assert_true(wanted());
	assert_int_equal(verdict(), SA_EARLY);
	sa_check_observe(check, &own, true);
	assert_int_equal(verdict(), SA_OK);
	up("acme", ACME);
	assert_int_equal(verdict(), SA_OK);
	assert_true(wanted());
	assert_int_equal(sa_check_suspects(check), 0);
}

static void test_not_early_while_somebody_holds_it(void **state)
{
	struct sa_state foreign = sa(GLOBEX, GATEWAY);

	(void)state;
	added(&foreign);
	installing("acme", ACME);
	assert_false(wanted());
	assert_int_equal(verdict(), SA_FOREIGN);
	sa_check_forget(check, &foreign);
	assert_true(wanted());
}

static void test_somebody_takes_it_before_it_is_installed(void **state)
{
	struct sa_state foreign = sa(GLOBEX, GATEWAY);

	(void)state;
	installing("acme", ACME);
	assert_true(wanted());
	added(&foreign);
	assert_false(wanted());
	assert_int_equal(model_find_tenant(&model, "acme")->disputed, 1);
}

/* What is exempt in part is in the kernel on the same condition as what is to the whole. */
static void test_parts_are_refused_too(void **state)
{
	const struct sa_state own = sa("192.0.2.10", "192.0.2.1");
	const struct sa_state other = sa("192.0.2.66", "192.0.2.2");
	struct tenant *tenant = model_tenant(&model, "acme");
	char error[SCOPE_ERROR_MAX];
	struct scope *scope = NULL;

	(void)state;
	assert_int_equal(scope_parse("tenant", "203.0.113.0/24", &scope, error), 0);
	model_set_exempt(&model, tenant, 0, NULL, 0);
	model_set_exempt(&model, tenant, 0, scope, EXEMPT_FOREVER);
	installing("acme", "192.0.2.10");
	added(&own);
	up("acme", "192.0.2.10");
	assert_int_equal(elements_wanted(elements), 0); /* no address is known */
	tenant->children->ranges_unknown = true;
	on_changed(NULL, SPI);
	assert_int_equal(elements_wanted(elements), 2);
	assert_int_equal(tenant->steered, 1);
	added(&other);
	assert_int_equal(elements_wanted(elements), 0);
	assert_int_equal(tenant->steered, 0);
	model_set_exempt(&model, tenant, 0, scope, 0);
	scope_free(scope);
}

static void test_other_destination_is_a_conflict(void **state)
{
	struct sa_state own = sa(ACME, GATEWAY), other = sa(ACME, OTHER_GATEWAY);

	(void)state;
	added(&own);
	up("acme", ACME);
	assert_true(wanted());
	added(&other);
	assert_false(wanted());
	assert_int_equal(verdict(), SA_CONFLICT);
	sa_check_forget(check, &other);
	assert_true(wanted());
	assert_int_equal(model_find_tenant(&model, "acme")->disputed, 0);
}

static void test_foreign_beside_own(void **state)
{
	struct sa_state own = sa(ACME, GATEWAY), foreign = sa(GLOBEX, GATEWAY);

	(void)state;
	foreign.protocol = IPPROTO_AH;
	foreign.reqid = 99;
	added(&own);
	up("acme", ACME);
	added(&foreign);
	assert_false(wanted());
	assert_int_equal(verdict(), SA_CONFLICT);
}

static void test_marks_keep_states_apart(void **state)
{
	struct sa_state own = sa(ACME, GATEWAY), marked = own;

	(void)state;
	marked.mark = 0x2a;
	marked.mark_mask = 0xff;
	added(&own);
	up("acme", ACME);
	added(&marked);
	assert_true(wanted());
	sa_check_forget(check, &own);
	assert_true(wanted());
	marked.mark = 0x2b;
	assert_int_equal(inet_pton(AF_INET, GLOBEX, marked.src), 1);
	marked.reqid = 99;
	added(&marked);
	assert_false(wanted());
	assert_int_equal(verdict(), SA_CONFLICT);
}

static void test_two_tenants_with_one_spi(void **state)
{
	struct sa_state own = sa(ACME, GATEWAY);

	(void)state;
	added(&own);
	up("acme", ACME);
	say(EVENT_CHILD_UP, "globex", 2, SPI, GLOBEX);
	assert_false(wanted());
	assert_int_equal(model_find_tenant(&model, "acme")->disputed, 1);
	assert_int_equal(model_find_tenant(&model, "globex")->disputed, 1);
	say(EVENT_CHILD_DOWN, "globex", 2, SPI, GLOBEX);
	assert_true(wanted());
	assert_int_equal(model_find_tenant(&model, "acme")->disputed, 0);
}

static void test_reqid_and_mode_count(void **state)
{
	struct sa_state own = sa(ACME, GATEWAY);

	(void)state;
	added(&own);
	up("acme", ACME);
	assert_true(wanted());
	own.mode = XFRM_MODE_TRANSPORT; /* with IPComp */
	added(&own);
	assert_true(wanted());
	own.mode = XFRM_MODE_BEET;
	added(&own);
	assert_false(wanted());
	own.mode = XFRM_MODE_TUNNEL;
	added(&own);
	assert_true(wanted());
	own.reqid = REQID + 1;
	added(&own);
	assert_false(wanted());
}

static void test_missing_only_when_a_dump_says_so(void **state)
{
	struct sa_state own = sa(ACME, GATEWAY);

	(void)state;
	installing("acme", ACME);
	up("acme", ACME);
	/* Steered since before, and no SA to match: wait for the kernel's word. */
	assert_int_equal(verdict(), SA_UNSURE);
	assert_true(wanted());
	assert_int_equal(sa_check_suspects(check), 1);
	dump(NULL, 0);
	assert_int_equal(verdict(), SA_MISSING);
	assert_false(wanted());
	assert_int_equal(sa_check_suspects(check), 0);
	added(&own);
	assert_true(wanted());
}

static void test_missing_is_never_newly_steered(void **state)
{
	(void)state;
	up("acme", ACME);
	assert_int_equal(verdict(), SA_UNSURE);
	assert_false(wanted());
}

static void test_dump_under_way_confirms_nothing(void **state)
{
	(void)state;
	installing("acme", ACME);
	sa_check_dump_begin(check);
	up("acme", ACME);
	assert_true(sa_check_dump_end(check));
	assert_true(wanted());
	assert_int_equal(sa_check_suspects(check), 1);
	dump(NULL, 0);
	assert_false(wanted());
}

static void test_deleted_behind_charons_back(void **state)
{
	struct sa_state own = sa(ACME, GATEWAY);

	(void)state;
	added(&own);
	up("acme", ACME);
	sa_check_forget(check, &own);
	assert_true(wanted());
	dump(NULL, 0);
	assert_false(wanted());
	assert_int_equal(verdict(), SA_MISSING);
	assert_int_equal(model_find_tenant(&model, "acme")->disputed, 0);
	assert_int_equal(model_find_tenant(&model, "acme")->refused, 1);
}

static void test_replaced_by_a_strangers(void **state)
{
	struct sa_state own = sa(ACME, GATEWAY), foreign = sa(GLOBEX, GATEWAY);

	(void)state;
	foreign.reqid = 99;
	added(&own);
	up("acme", ACME);
	sa_check_forget(check, &own);
	added(&foreign);
	assert_false(wanted());
	assert_int_equal(verdict(), SA_FOREIGN);
}

/* charon says that the peer moves, then it replaces the SA. */
static void test_move_told_before_the_sa_is_replaced(void **state)
{
	struct sa_state before = sa(ACME, GATEWAY), after = sa("192.0.2.11", GATEWAY);

	(void)state;
	added(&before);
	up("acme", ACME);
	moves("192.0.2.11");
	assert_true(wanted());
	sa_check_forget(check, &before);
	assert_true(wanted());
	added(&after);
	assert_true(wanted());
	assert_int_equal(verdict(), SA_OK);
	/* The move is over: the old address is not the tenant's any more. */
	sa_check_forget(check, &after);
	added(&before);
	assert_false(wanted());
}

/* The same, but the kernel's word is read first. */
static void test_move_told_after_the_sa_is_replaced(void **state)
{
	struct sa_state before = sa(ACME, GATEWAY), after = sa("192.0.2.11", GATEWAY);
	struct tenant *acme = model_find_tenant(&model, "acme");

	(void)state;
	added(&before);
	up("acme", ACME);
	sa_check_forget(check, &before);
	added(&after);
	assert_int_equal(verdict(), SA_MOVED);
	assert_false(wanted());
	assert_int_equal(acme->steered, 1); /* flows are not forgotten */
	moves("192.0.2.11");
	assert_true(wanted());
	assert_int_equal(verdict(), SA_OK);
	assert_int_equal(sa_check_suspects(check), 0);
}

static void test_move_that_is_none(void **state)
{
	struct sa_state other = sa(GLOBEX, GATEWAY);
	struct tenant *acme = model_find_tenant(&model, "acme");

	(void)state;
	added(&other);
	up("acme", ACME);
	assert_int_equal(verdict(), SA_MOVED);
	assert_false(wanted());
	dump(&other, 1);
	assert_int_equal(verdict(), SA_FOREIGN);
	assert_int_equal(acme->steered, 0);
	assert_int_equal(acme->disputed, 1);
}

static void test_an_id_used_again_knows_no_move(void **state)
{
	struct sa_state old = sa(GLOBEX, GATEWAY);

	(void)state;
	say(EVENT_CHILD_UP, "globex", 1, 0xc9, GLOBEX);
	installing("acme", ACME);
	assert_int_equal(model_find_spi(&model, SPI)->up, false);
	added(&old);
	assert_false(wanted());
}

static void test_update_changes_no_owner(void **state)
{
	struct sa_state foreign = sa(GLOBEX, GATEWAY), own = sa(ACME, GATEWAY);

	(void)state;
	foreign.reqid = 99;
	added(&foreign);
	up("acme", ACME);
	/* The kernel keeps source and reqid of what it has, whatever an update says. */
	sa_check_observe(check, &own, true);
	assert_false(wanted());
}

static void test_flush(void **state)
{
	struct sa_state own = sa(ACME, GATEWAY);

	(void)state;
	added(&own);
	up("acme", ACME);
	sa_check_flush(check, IPPROTO_AH);
	assert_int_equal(verdict(), SA_OK);
	sa_check_flush(check, 0);
	assert_int_equal(verdict(), SA_UNSURE);
	dump(NULL, 0);
	assert_false(wanted());
}

static void test_unread_steers_nobody(void **state)
{
	struct sa_state own = sa(ACME, GATEWAY);

	(void)state;
	installing("acme", ACME);
	assert_int_equal(verdict(), SA_UNREAD);
	assert_false(wanted());
	assert_true(sa_check_wants_dump(check));
	dump(&own, 1);
	assert_true(wanted());
	up("acme", ACME);
	assert_true(wanted());
	sa_check_lose(check);
	assert_false(wanted());
}

static void test_doubt_keeps_what_is_and_adds_nothing(void **state)
{
	struct sa_state own = sa(ACME, GATEWAY);

	(void)state;
	added(&own);
	up("acme", ACME);
	sa_check_doubt(check);
	up("acme", ACME);
	assert_true(wanted());
	say(EVENT_CHILD_INSTALLING, "acme", 2, SPI + 1, ACME);
	assert_int_equal(elements_wanted(elements), 1);
	assert_true(sa_check_wants_dump(check));
	dump(&own, 1);
	assert_int_equal(elements_wanted(elements), 2);
	assert_false(sa_check_wants_dump(check));
}

static void test_doubt_during_a_dump_spoils_it(void **state)
{
	struct sa_state own = sa(ACME, GATEWAY);

	(void)state;
	added(&own);
	up("acme", ACME);
	sa_check_dump_begin(check);
	sa_check_doubt(check);
	assert_false(sa_check_dump_end(check));
	assert_true(wanted());
	dump(NULL, 0);
	assert_int_equal(verdict(), SA_UNSURE);
}

static void test_dump_is_older_than_what_is_told_meanwhile(void **state)
{
	struct sa_state own = sa(ACME, GATEWAY), gone = sa(GLOBEX, OTHER_GATEWAY);

	(void)state;
	added(&gone);
	installing("acme", ACME);
	assert_false(wanted());
	sa_check_dump_begin(check);
	added(&own);
	sa_check_forget(check, &gone);
	sa_check_dump_state(check, &gone);
	assert_true(wanted());
	assert_true(sa_check_dump_end(check));
	assert_true(wanted());
	assert_int_equal(verdict(), SA_OK);
	assert_int_equal(sa_check_counters(check).states, 1);
}

static void test_gone_and_back_during_a_dump(void **state)
{
	struct sa_state own = sa(ACME, GATEWAY);

	(void)state;
	added(&own);
	up("acme", ACME);
	sa_check_dump_begin(check);
	sa_check_forget(check, &own);
	assert_int_equal(verdict(), SA_UNSURE);
	added(&own);
	assert_int_equal(verdict(), SA_OK);
	assert_true(sa_check_dump_end(check));
	assert_int_equal(verdict(), SA_OK);
	assert_int_equal(sa_check_counters(check).states, 1);
}

static void test_dump_finds_what_was_never_told(void **state)
{
	struct sa_state own = sa(ACME, GATEWAY), foreign = sa(GLOBEX, OTHER_GATEWAY);
	struct sa_state both[] = { own, foreign };

	(void)state;
	added(&own);
	up("acme", ACME);
	dump(both, 2);
	assert_false(wanted());
	dump(&own, 1);
	assert_true(wanted());
}

static void test_full_table_enforces_what_it_cannot_check(void **state)
{
	struct sa_state own = sa(ACME, GATEWAY), other = sa(GLOBEX, GATEWAY);

	(void)state;
	for (uint32_t i = 0; i < MAX; i++) {
		other.spi = 0xc8000000 + i;
		added(&other);
	}
	assert_false(sa_check_counters(check).overflowed);
	/* One more, which is not kept: it could be anybody's. */
	other.spi = SPI;
	added(&other);
	assert_int_equal(sa_check_counters(check).refused, 1);
	assert_int_equal(sa_check_counters(check).states, MAX);
	installing("acme", ACME);
	assert_int_equal(verdict(), SA_UNCHECKED);
	assert_false(wanted());
	/* Others are not affected. */
	say(EVENT_CHILD_INSTALLING, "acme", 2, SPI + 1, ACME);
	assert_int_equal(elements_wanted(elements), 1);
	assert_false(sa_check_wants_dump(check));
	for (uint32_t i = 0; i < MAX / 2; i++) {
		other.spi = 0xc8000000 + i;
		sa_check_forget(check, &other);
	}
	assert_true(sa_check_wants_dump(check));
	dump(&own, 1);
	assert_int_equal(verdict(), SA_OK);
	assert_int_equal(elements_wanted(elements), 2);
	assert_int_equal(sa_check_counters(check).states, 1);
}

static void test_many_come_and_go(void **state)
{
	struct sa_state other = sa(GLOBEX, GATEWAY);

	(void)state;
	for (unsigned round = 0; round < 100; round++) {
		for (uint32_t i = 0; i < MAX; i++) {
			other.spi = 0xc8000000 + i * (round + 1);
			added(&other);
		}
		for (uint32_t i = 0; i < MAX; i++) {
			other.spi = 0xc8000000 + (MAX - 1 - i) * (round + 1);
			sa_check_forget(check, &other);
		}
	}
	assert_int_equal(sa_check_counters(check).states, 0);
	assert_int_equal(sa_check_counters(check).refused, 0);
}

static void test_more_suspects_than_are_kept(void **state)
{
	const uint32_t count = 1000;

	(void)state;
	for (uint32_t i = 0; i < count; i++) {
		say(EVENT_CHILD_INSTALLING, "acme", i + 1, 0xc2000000 + i, ACME);
		say(EVENT_CHILD_UP, "acme", i + 1, 0xc2000000 + i, ACME);
	}
	assert_int_equal(elements_wanted(elements), count);
	assert_int_equal(sa_check_suspects(check), count);
	dump(NULL, 0);
	assert_int_equal(elements_wanted(elements), 0);
	assert_int_equal(sa_check_suspects(check), 0);
}

static void test_ipv6(void **state)
{
	struct sa_state own = sa("2001:db8::10", "2001:db8::1"), other = sa(ACME, GATEWAY);

	(void)state;
	added(&own);
	up("acme", "2001:db8::10");
	assert_int_equal(verdict(), SA_OK);
	other.reqid = 99;
	added(&other);
	assert_int_equal(verdict(), SA_CONFLICT);
}

static void test_unknown_peer_address_is_not_trusted(void **state)
{
	struct sa_state own = sa(ACME, GATEWAY);

	(void)state;
	added(&own);
	say(EVENT_CHILD_UP, "acme", 1, SPI, "%any");
	assert_false(wanted());
	dump(&own, 1);
	assert_int_equal(verdict(), SA_FOREIGN);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_early_then_there),
		TEST(test_not_early_while_somebody_holds_it),
		TEST(test_somebody_takes_it_before_it_is_installed),
		TEST(test_other_destination_is_a_conflict),
		TEST(test_parts_are_refused_too),
		TEST(test_foreign_beside_own),
		TEST(test_marks_keep_states_apart),
		TEST(test_two_tenants_with_one_spi),
		TEST(test_reqid_and_mode_count),
		TEST(test_missing_only_when_a_dump_says_so),
		TEST(test_missing_is_never_newly_steered),
		TEST(test_dump_under_way_confirms_nothing),
		TEST(test_deleted_behind_charons_back),
		TEST(test_replaced_by_a_strangers),
		TEST(test_move_told_before_the_sa_is_replaced),
		TEST(test_move_told_after_the_sa_is_replaced),
		TEST(test_move_that_is_none),
		TEST(test_an_id_used_again_knows_no_move),
		TEST(test_update_changes_no_owner),
		TEST(test_flush),
		cmocka_unit_test_setup_teardown(test_unread_steers_nobody, setup_unread, teardown),
		TEST(test_doubt_keeps_what_is_and_adds_nothing),
		TEST(test_doubt_during_a_dump_spoils_it),
		TEST(test_dump_is_older_than_what_is_told_meanwhile),
		TEST(test_gone_and_back_during_a_dump),
		TEST(test_dump_finds_what_was_never_told),
		TEST(test_full_table_enforces_what_it_cannot_check),
		TEST(test_many_come_and_go),
		TEST(test_more_suspects_than_are_kept),
		TEST(test_ipv6),
		TEST(test_unknown_peer_address_is_not_trusted),
	};

	return cmocka_run_group_tests_name("sa_check", tests, NULL, NULL);
}
