/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which elements follow from exemptions of parts. A packet is judged by the elements that are wanted,
 * as the rules would; the simulation does the same with many more.
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

#include "planned.h"

#define WANTED_MAX 8192
#define SCOPES_MAX 2048
#define END INT64_C(1000000)

static struct element wanted[WANTED_MAX];
static size_t wanted_count;
static struct scope *scopes[SCOPES_MAX];
static unsigned scope_count;

static int teardown(void **state)
{
	wanted_count = 0;
	planned_teardown(state);
	while (scope_count)
		scope_free(scopes[--scope_count]);
	return 0;
}

static void exempt_by(unsigned profile, const char *tenant, const char *scope,
		      const char *destinations, int64_t until)
{
	struct tenant *t = model_tenant(&planned.model, tenant);
	char error[SCOPE_ERROR_MAX];

	assert_int_equal(scope_parse(scope, destinations, &scopes[scope_count], error), 0);
	t->exception_count++;
	model_set_exempt(&planned.model, t, profile, scopes[scope_count], until);
	scope_count++;
}

static void exempt(const char *tenant, const char *scope, const char *destinations, int64_t until)
{
	exempt_by(0, tenant, scope, destinations, until);
}

/* What the kernel would hold after all was carried to it. */
static void carry(void)
{
	static struct element removals[WANTED_MAX], additions[WANTED_MAX];
	struct element_batch batch = { .removals = removals, .additions = additions };

	if (planned.address_mode)
		assert_int_equal(plan_addresses(&planned.model, planned.elements, PROFILES), 0);
	while (elements_next_batch(planned.elements, WANTED_MAX, 0, &batch)) {
		for (size_t i = 0; i < batch.removal_count; i++)
			for (size_t w = 0; w < wanted_count; w++)
				if (!memcmp(&wanted[w].key, &removals[i].key,
					    sizeof(removals[i].key)))
					wanted[w--] = wanted[--wanted_count];
		for (size_t i = 0; i < batch.addition_count; i++)
			wanted[wanted_count++] = additions[i];
		elements_committed(planned.elements, &batch, 0);
	}
	assert_int_equal(wanted_count, elements_wanted(planned.elements));
}

static size_t count_of(unsigned set)
{
	size_t count = 0;

	for (size_t i = 0; i < wanted_count; i++)
		count += wanted[i].key.set == set;
	return count;
}

static bool between(const uint8_t *lo, const uint8_t *address, const uint8_t *hi)
{
	return memcmp(lo, address, 16) <= 0 && memcmp(address, hi, 16) <= 0;
}

struct packet {
	uint32_t spi;
	int family;
	uint8_t source[16], destination[16];
};

static bool holds(const struct element_key *key, unsigned set, const struct packet *packet)
{
	const struct element_shape *shape = element_shape(key->set);
	const uint32_t spi = htonl(packet->spi);

	if (key->set != set || key->profile != 0)
		return false;
	if (!shape->family)
		return !memcmp(key->lo, &spi, 4);
	return shape->family == packet->family && (!shape->spi || !memcmp(key->spi, &spi, 4)) &&
	       between(key->lo, packet->source, shape->range ? key->hi : key->lo) &&
	       (!shape->destination || between(key->dst_lo, packet->destination, key->dst_hi));
}

/* When the last element that lets it pass ends: INT64_MAX never, 0: there is none. */
static int64_t found(unsigned set, const struct packet *packet)
{
	int64_t until = 0;

	for (size_t i = 0; i < wanted_count; i++) {
		const int64_t told = wanted[i].expires_us;
		const int64_t ends = told ? told + ELEMENTS_LEAD_US : INT64_MAX;

		if (holds(&wanted[i].key, set, packet) && ends > until)
			until = ends;
	}
	return until;
}

static int64_t later(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static int64_t passes(uint32_t spi, const char *source, const char *destination)
{
	struct packet packet = { .spi = spi, .family = strchr(source, ':') ? AF_INET6 : AF_INET };
	int64_t gate, part = 0;

	carry();
	inet_pton(packet.family, source, packet.source);
	inet_pton(packet.family, destination, packet.destination);
	for (unsigned set = SET_PART_HOST4; set <= SET_PART_NET6; set++)
		part = later(part, found(set, &packet));
	gate = found(SET_PART, &packet);
	if (gate < part)
		fail_msg("the gate ends before what is behind it");
	part = later(part, found(SET_SA, &packet));
	for (unsigned set = SET_HOST4; set <= SET_PAIR6; set++)
		part = later(part, found(set, &packet));
	return part;
}

#define A 0xc0000001
#define B 0xc0000002
#define C 0xc0000003

static void test_host(void **state)
{
	(void)state;
	planned_up("acme", "a", A, "198.18.1.0/24");
	planned_up("acme", "b", B, "198.18.2.0/24");
	planned_up("globex", "c", C, "198.18.1.0/24");
	exempt("acme", "host 198.18.1.5", "", END);
	assert_int_equal(passes(A, "198.18.1.5", "203.0.113.1"), END);
	assert_int_equal(passes(A, "198.18.1.6", "203.0.113.1"), 0);
	assert_int_equal(passes(B, "198.18.1.5", "203.0.113.1"), 0);
	assert_int_equal(passes(C, "198.18.1.5", "203.0.113.1"), 0);
	assert_int_equal(count_of(SET_PART), 1);
	assert_int_equal(count_of(SET_PART_HOST4), 1);
	assert_int_equal(wanted_count, 2);
	assert_int_equal(model_find_tenant(&planned.model, "acme")->steered, 1);
	exempt("acme", "host 198.18.1.5", "", 0);
	carry();
	assert_int_equal(wanted_count, 0);
	assert_int_equal(model_find_tenant(&planned.model, "acme")->steered, 0);
}

static void test_host_of_nobody(void **state)
{
	(void)state;
	planned_up("acme", "a", A, "198.18.1.0/24");
	exempt("acme", "host 198.18.9.9", "", END);
	carry();
	assert_int_equal(wanted_count, 0);
	assert_int_equal(model_find_tenant(&planned.model, "acme")->steered, 0);
	planned_up("acme", "a", B, "198.18.9.0/24");
	assert_int_equal(passes(B, "198.18.9.9", "203.0.113.1"), END);
}

static void test_prefix(void **state)
{
	(void)state;
	planned_up("acme", "a", A, "198.18.1.0/24");
	planned_up("acme", "a", B, "198.18.1.7/32");
	planned_up("acme", "a", C, "2001:db8::/64");
	exempt("acme", "prefix 198.18.0.0/16", "", EXEMPT_FOREVER);
	exempt("acme", "prefix 2001:db8::/96", "2001:db8:1::/48", END);
	assert_int_equal(passes(A, "198.18.1.255", "203.0.113.1"), INT64_MAX);
	assert_int_equal(passes(A, "198.18.2.0", "203.0.113.1"), 0); /* the child SA has it not */
	assert_int_equal(passes(B, "198.18.1.7", "203.0.113.1"), INT64_MAX);
	assert_int_equal(passes(B, "198.18.1.8", "203.0.113.1"), 0);
	assert_int_equal(passes(C, "2001:db8::5", "2001:db8:1::5"), END);
	assert_int_equal(passes(C, "2001:db8::5", "2001:db8:2::5"), 0);
	assert_int_equal(passes(C, "2001:db8::1:0:0:0", "2001:db8:1::5"), 0);
	/* what is one address of the child SA needs no interval */
	assert_int_equal(count_of(SET_PART_HOST4), 1);
}

static void test_user(void **state)
{
	(void)state;
	planned_up("acme", "anna", A, "198.18.1.1/32");
	planned_up("acme", "bob", B, "198.18.1.2/32");
	exempt("acme", "user anna", "", END);
	assert_int_equal(passes(A, "198.18.1.1", "203.0.113.1"), END);
	assert_int_equal(passes(B, "198.18.1.2", "203.0.113.1"), 0);
	/* her SPI is in the set of those that are exempt to the whole: nothing new in the kernel */
	assert_int_equal(wanted_count, 1);
	assert_int_equal(count_of(SET_SA), 1);
	assert_int_equal(model_find_tenant(&planned.model, "acme")->steered, 1);
	exempt("acme", "user bob", "203.0.113.0/24", END);
	assert_int_equal(passes(B, "198.18.1.2", "203.0.113.1"), END);
	assert_int_equal(passes(B, "198.18.1.2", "203.0.114.1"), 0);
	exempt("acme", "user anna", "", 0);
	assert_int_equal(passes(A, "198.18.1.1", "203.0.113.1"), 0);
}

/* Two child SAs with one SPI, of two users: whose a packet is cannot be told. */
static void test_one_spi_of_two_users(void **state)
{
	(void)state;
	exempt("acme", "user anna", "", END);
	exempt("acme", "user anna", "203.0.113.0/24", END);
	exempt("acme", "host 198.18.1.1", "", END);
	exempt("acme", "tenant", "192.0.2.0/24", END);
	planned_up("acme", "anna", A, "198.18.1.1/32");
	assert_int_equal(passes(A, "198.18.1.1", "203.0.113.1"), END);
	planned_up("acme", "bob", A, "198.18.1.2/32");
	assert_int_equal(passes(A, "198.18.1.1", "203.0.113.1"), 0);
	/* but the tenant is the same */
	assert_int_equal(passes(A, "198.18.1.1", "192.0.2.1"), END);
	assert_int_equal(count_of(SET_SA), 0);
}

static void test_destinations_of_a_tenant(void **state)
{
	(void)state;
	planned_up("acme", "a", A, "198.18.1.0/24");
	exempt("acme", "tenant", "203.0.113.0/24,2001:db8::/32", END);
	assert_int_equal(passes(A, "198.18.1.7", "203.0.113.1"), END);
	assert_int_equal(passes(A, "198.18.1.7", "203.0.112.255"), 0);
	/* the child SA has no such addresses */
	assert_int_equal(passes(A, "2001:db8:9::1", "2001:db8:8::1"), 0);
	planned_up("acme", "b", B, "2001:db8:9::/64");
	assert_int_equal(passes(B, "2001:db8:9::1", "2001:db8:8::1"), END);
	assert_int_equal(passes(B, "198.18.1.7", "203.0.113.1"), 0);
	assert_int_equal(count_of(SET_SA), 0);
	assert_int_equal(count_of(SET_PART_NET4), 1);
	assert_int_equal(count_of(SET_PART_NET6), 1);
}

/* Of what overlaps, each stays until the last that covers it ends; and what remains, remains. */
static void test_overlap(void **state)
{
	(void)state;
	planned_up("acme", "a", A, "198.18.1.0/24");
	exempt("acme", "prefix 198.18.1.0/25", "", END);
	exempt("acme", "prefix 198.18.1.0/24", "203.0.113.0/24", 3 * END);
	exempt("acme", "host 198.18.1.5", "", 2 * END);
	assert_int_equal(passes(A, "198.18.1.7", "192.0.2.1"), END);
	assert_int_equal(passes(A, "198.18.1.7", "203.0.113.1"), 3 * END);
	assert_int_equal(passes(A, "198.18.1.5", "192.0.2.1"), 2 * END);
	assert_int_equal(passes(A, "198.18.1.200", "192.0.2.1"), 0);
	exempt("acme", "prefix 198.18.1.0/24", "203.0.113.0/24", 0);
	assert_int_equal(passes(A, "198.18.1.7", "203.0.113.1"), END);
	assert_int_equal(passes(A, "198.18.1.200", "203.0.113.1"), 0);
	exempt("acme", "prefix 198.18.1.0/25", "", 0);
	assert_int_equal(passes(A, "198.18.1.7", "203.0.113.1"), 0);
	assert_int_equal(passes(A, "198.18.1.5", "203.0.113.1"), 2 * END);
	assert_int_equal(wanted_count, 2);
}

/* Two that come to the same element. */
static void test_one_address_by_two(void **state)
{
	(void)state;
	planned_up("acme", "a", A, "198.18.1.7/32");
	exempt("acme", "host 198.18.1.7", "", END);
	exempt("acme", "prefix 198.18.1.0/24", "", 2 * END);
	exempt("acme", "prefix 198.18.1.0/25", "", END);
	assert_int_equal(passes(A, "198.18.1.7", "192.0.2.1"), 2 * END);
	assert_int_equal(wanted_count, 2);
	exempt("acme", "prefix 198.18.1.0/24", "", 0);
	assert_int_equal(passes(A, "198.18.1.7", "192.0.2.1"), END);
}

/* All of a tenant for longer makes its parts needless, for shorter not. */
static void test_part_and_whole(void **state)
{
	(void)state;
	planned_up("acme", "a", A, "198.18.1.0/24");
	exempt("acme", "host 198.18.1.5", "", 2 * END);
	exempt("acme", "tenant", "", 3 * END);
	assert_int_equal(passes(A, "198.18.1.5", "192.0.2.1"), 3 * END);
	assert_int_equal(wanted_count, 1);
	exempt("acme", "tenant", "", END);
	assert_int_equal(passes(A, "198.18.1.5", "192.0.2.1"), 2 * END);
	assert_int_equal(passes(A, "198.18.1.6", "192.0.2.1"), END);
	exempt("acme", "tenant", "", 0);
	assert_int_equal(passes(A, "198.18.1.5", "192.0.2.1"), 2 * END);
	assert_int_equal(passes(A, "198.18.1.6", "192.0.2.1"), 0);
	assert_int_equal(count_of(SET_SA), 0);
}

static void test_rekey_and_end(void **state)
{
	struct event down = { .type = EVENT_CHILD_DOWN, .child_id = 1, .ike_id = 1, .spi_in = A };
	const struct event moved = { .type = EVENT_CHILD_UP,
				     .tenant = "acme",
				     .identity = "a",
				     .ike_id = 2,
				     .child_id = 2,
				     .spi_in = B,
				     .remote_ts = { "198.18.7.0/24" },
				     .remote_ts_count = 1 };

	(void)state;
	exempt("acme", "host 198.18.1.5", "", END);
	planned_up("acme", "a", A, "198.18.1.0/24");
	planned_up("acme", "a", B, "198.18.1.0/24");
	assert_int_equal(passes(A, "198.18.1.5", "192.0.2.1"), END);
	assert_int_equal(passes(B, "198.18.1.5", "192.0.2.1"), END);
	model_apply(&planned.model, &down);
	assert_int_equal(passes(A, "198.18.1.5", "192.0.2.1"), 0);
	assert_int_equal(passes(B, "198.18.1.5", "192.0.2.1"), END);
	/* other addresses than before */
	assert_int_equal(model_apply(&planned.model, &moved), 0);
	assert_int_equal(passes(B, "198.18.1.5", "192.0.2.1"), 0);
	assert_int_equal(wanted_count, 0);
}

static void test_shared_spi(void **state)
{
	(void)state;
	exempt("acme", "host 198.18.1.5", "", END);
	planned_up("acme", "a", A, "198.18.1.0/24");
	assert_int_equal(passes(A, "198.18.1.5", "192.0.2.1"), END);
	planned_up("globex", "b", A, "198.18.1.0/24");
	assert_int_equal(passes(A, "198.18.1.5", "192.0.2.1"), 0);
	assert_int_equal(wanted_count, 0);
}

static void test_profiles(void **state)
{
	(void)state;
	planned_up("acme", "a", A, "198.18.1.0/24");
	exempt_by(1, "acme", "host 198.18.1.5", "", END);
	assert_int_equal(passes(A, "198.18.1.5", "192.0.2.1"), 0);
	assert_int_equal(wanted_count, 2);
	exempt_by(0, "acme", "prefix 198.18.1.0/24", "", END);
	assert_int_equal(passes(A, "198.18.1.5", "192.0.2.1"), END);
	assert_int_equal(wanted_count, 4);
}

/* More than the sets may hold: what fits is there, the rest when something has gone. */
static void test_no_room(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ELEMENTS_INTERVALS_MAX / 2; i++) {
		char scope[64];

		snprintf(scope, sizeof(scope), "t%u", i % 100);
		if (i < 100)
			exempt(scope, "tenant", "203.0.113.0/24,192.0.2.0/24", END);
		if (i < 900)
			planned_up(scope, "a", 0xc1000000 + i, "198.18.1.0/24");
	}
	exempt("t0", "tenant", "198.51.100.0/24", END);
	exempt("t0", "tenant", "198.18.0.0/24", END);
	carry();
	assert_int_equal(elements_refused(planned.elements), 0);
	for (unsigned i = 1; i < 100; i++) {
		char tenant[16];

		snprintf(tenant, sizeof(tenant), "t%u", i);
		exempt(tenant, "tenant", "198.51.100.0/24", END);
	}
	carry();
	assert_int_equal(count_of(SET_PART_NET4), ELEMENTS_INTERVALS_MAX);
	assert_true(elements_refused(planned.elements) > 0);
	assert_false(elements_room_again(planned.elements));
	exempt("t1", "tenant", "203.0.113.0/24,192.0.2.0/24", 0);
	assert_true(elements_room_again(planned.elements));
	assert_false(elements_room_again(planned.elements));
}

static void test_too_many_networks(void **state)
{
	(void)state;
	planned_up("acme", "a", A, "198.18.0.0/16");
	for (unsigned i = 0; i < 300; i++) {
		char scope[64];

		snprintf(scope, sizeof(scope), "prefix 198.18.%u.%u/31", i / 64, i % 64 * 4);
		exempt("acme", scope, "", END + i);
	}
	exempt("acme", "host 198.18.9.9", "", END);
	assert_int_equal(passes(A, "198.18.0.0", "192.0.2.1"), 0);
	assert_int_equal(passes(A, "198.18.9.9", "192.0.2.1"), END);
	assert_true(elements_refused(planned.elements) > 0);
	/* of all of it for longer, nothing is too many */
	exempt("acme", "tenant", "", EXEMPT_FOREVER);
	assert_int_equal(passes(A, "198.18.0.0", "192.0.2.1"), INT64_MAX);
}

static void test_too_many_exemptions(void **state)
{
	(void)state;
	planned_up("acme", "a", A, "198.18.0.0/16");
	for (unsigned i = 0; i <= EXEMPTIONS_MAX; i++) {
		char scope[64];

		snprintf(scope, sizeof(scope), "host 198.18.%u.%u", i / 256, i % 256);
		exempt("acme", scope, "", END);
	}
	carry();
	assert_int_equal(count_of(SET_PART_HOST4), EXEMPTIONS_MAX);
}

/* Address mode */

static void test_address_parts(void **state)
{
	(void)state;
	planned_up("acme", "a", A, "198.18.1.0/24");
	planned_up("acme", "a", B, "2001:db8::/64");
	planned_up("globex", "b", C, "198.18.2.0/24");
	exempt("acme", "host 198.18.1.5", "", 2 * END);
	exempt("acme", "prefix 198.18.1.0/25", "", END);
	exempt("acme", "prefix 198.18.2.0/24", "", END); /* is globex's */
	exempt("acme", "tenant", "203.0.113.0/24,2001:db8:1::/48", 3 * END);
	assert_int_equal(passes(0, "198.18.1.5", "192.0.2.1"), 2 * END);
	assert_int_equal(passes(0, "198.18.1.6", "192.0.2.1"), END);
	assert_int_equal(passes(0, "198.18.1.200", "192.0.2.1"), 0);
	assert_int_equal(passes(0, "198.18.1.200", "203.0.113.1"), 3 * END);
	assert_int_equal(passes(0, "198.18.2.1", "203.0.113.1"), 0);
	assert_int_equal(passes(0, "2001:db8::1", "2001:db8:1::1"), 3 * END);
	assert_int_equal(passes(0, "2001:db8::1", "2001:db8:2::1"), 0);
	assert_int_equal(model_find_tenant(&planned.model, "acme")->steered, 2);
	exempt("acme", "prefix 198.18.1.0/25", "", 0);
	assert_int_equal(passes(0, "198.18.1.6", "192.0.2.1"), 0);
	assert_int_equal(passes(0, "198.18.1.5", "192.0.2.1"), 2 * END);
}

static void test_address_whole_and_part(void **state)
{
	(void)state;
	planned_up("acme", "a", A, "198.18.1.0/24");
	planned_up("acme", "a", B, "198.18.1.64..198.18.2.10");
	exempt("acme", "tenant", "", END);
	exempt("acme", "prefix 198.18.1.64/26", "", 2 * END);
	assert_int_equal(passes(0, "198.18.1.0", "192.0.2.1"), END);
	assert_int_equal(passes(0, "198.18.1.64", "192.0.2.1"), 2 * END);
	assert_int_equal(passes(0, "198.18.2.10", "192.0.2.1"), END);
	assert_int_equal(passes(0, "198.18.2.11", "192.0.2.1"), 0);
	assert_int_equal(model_find_tenant(&planned.model, "acme")->steered, 2);
}

/* What may be another user's address is not this one's. */
static void test_address_users(void **state)
{
	(void)state;
	planned_up("acme", "anna", A, "198.18.1.0/24");
	planned_up("acme", "bob", B, "198.18.1.10..198.18.1.20");
	planned_up("acme", "bob", C, "198.18.1.15..198.18.1.30");
	exempt("acme", "user anna", "", END);
	assert_int_equal(passes(0, "198.18.1.9", "192.0.2.1"), END);
	assert_int_equal(passes(0, "198.18.1.10", "192.0.2.1"), 0);
	assert_int_equal(passes(0, "198.18.1.30", "192.0.2.1"), 0);
	assert_int_equal(passes(0, "198.18.1.31", "192.0.2.1"), END);
	assert_int_equal(model_find_tenant(&planned.model, "acme")->steered, 1);
	exempt("acme", "user bob", "203.0.113.0/24", END);
	assert_int_equal(passes(0, "198.18.1.15", "203.0.113.1"), 0); /* anna's as well */
}

static void test_address_conflict(void **state)
{
	(void)state;
	planned_up("acme", "a", A, "198.18.1.0/24");
	planned_up("globex", "b", B, "198.18.1.128/25");
	exempt("acme", "host 198.18.1.5", "", END);
	exempt("acme", "user a", "203.0.113.0/24", END);
	carry();
	assert_int_equal(wanted_count, 0);
	assert_true(model_find_tenant(&planned.model, "acme")->conflict);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, planned_setup, teardown)
#define TEST_ADDRESS(name) cmocka_unit_test_setup_teardown(name, planned_setup_address, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_host),
		TEST(test_host_of_nobody),
		TEST(test_prefix),
		TEST(test_user),
		TEST(test_one_spi_of_two_users),
		TEST(test_destinations_of_a_tenant),
		TEST(test_overlap),
		TEST(test_one_address_by_two),
		TEST(test_part_and_whole),
		TEST(test_rekey_and_end),
		TEST(test_shared_spi),
		TEST(test_profiles),
		TEST(test_no_room),
		TEST(test_too_many_networks),
		TEST(test_too_many_exemptions),
		TEST_ADDRESS(test_address_parts),
		TEST_ADDRESS(test_address_whole_and_part),
		TEST_ADDRESS(test_address_users),
		TEST_ADDRESS(test_address_conflict),
	};

	return cmocka_run_group_tests_name("plan_part", tests, NULL, NULL);
}
