/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which exception a flow uses: as the rules would say, and nobody's when it is not certain. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>

#include "base/clock.h"
#include "ignoring.h"
#include "settings/destinations.h"
#include "usage/attribution.h"

#define BYPASS 0x01000000
#define SECOND 0x02000000

static char directory[64];
static struct settings settings;
static struct core core;

static void on_placed(void *user, const struct child_sa *child, bool placed)
{
	(void)user;
	owners_place(core.owners, child, placed);
}

/* skype and listed lead to one path, second to another. */
static void make_settings(void)
{
	static const char *const names[] = { "skype", "listed", "second" };

	settings = (struct settings){ .mark_mask = 0x0f000000, .path_count = 2 };
	settings.paths[0].mark = BYPASS;
	settings.paths[1].mark = SECOND;
	for (unsigned i = 0; i < 3; i++) {
		struct profile *profile = &settings.profiles[settings.profile_count++];

		strcpy(profile->name, names[i]);
		profile->path = i == 2;
		profile->services[profile->service_count++] =
			(struct service){ IPPROTO_TCP, i == 1 ? 8443 : 443 };
	}
	settings.profiles[1].services[settings.profiles[1].service_count++] =
		(struct service){ IPPROTO_TCP, 443 };
	assert_int_equal(destination_parse("203.0.113.0/24", settings.profiles[1].destinations), 0);
	settings.profiles[1].destination_count = 1;
	snprintf(settings.sqlite, sizeof(settings.sqlite), "%s/db", directory);
}

static int setup(void **state)
{
	const struct model_callbacks callbacks = { .changed = ignore_changed,
						   .leaving = ignore_leaving,
						   .placed = on_placed };

	(void)state;
	strcpy(directory, "/tmp/test-attribution-XXXXXX");
	if (!mkdtemp(directory))
		return -1;
	make_settings();
	core = (struct core){ .settings = &settings };
	model_init(&core.model, 8, &callbacks, &core);
	core.owners = owners_new();
	core.exceptions = exceptions_new(&core.model);
	return exceptions_load(core.exceptions, &settings);
}

static int teardown(void **state)
{
	char command[128];

	(void)state;
	exceptions_free(core.exceptions);
	model_done(&core.model);
	owners_free(core.owners);
	snprintf(command, sizeof(command), "rm -r %s", directory);
	return system(command); /* NOLINT: a name of our own */
}

static void connect_user(const char *tenant, const char *identity, uint32_t id, const char *ts)
{
	const struct event ev = { .type = EVENT_CHILD_UP,
				  .tenant = tenant,
				  .ike_id = id,
				  .child_id = id,
				  .spi_in = 0xc0000000 + id,
				  .identity = identity,
				  .identity_source = "id",
				  .remote_ts = { ts },
				  .remote_ts_count = 1 };

	assert_int_equal(model_apply(&core.model, &ev), 0);
}

static void connect_tenant(const char *tenant, uint32_t id, const char *ts)
{
	connect_user(tenant, "gw@acme.example", id, ts);
}

static uint64_t grant_part(const char *tenant, const char *profile, const char *scope,
			   const char *destinations)
{
	struct exception exception = { .change_request = "CR-1",
				       .accepted_by = "A. Officer",
				       .reason = "calls",
				       .granted_by = { .name = "op" },
				       .expires_at_us = clock_wall_us() + 3600000000 };
	char error[EXCEPTIONS_ERROR_MAX];

	strcpy(exception.tenant, tenant);
	strcpy(exception.profile, profile);
	strcpy(exception.scope, scope);
	strcpy(exception.destinations, destinations);
	if (exceptions_grant(core.exceptions, &exception, error) < 0)
		fail_msg("%s", error);
	return exception.id;
}

static uint64_t grant(const char *tenant, const char *profile)
{
	return grant_part(tenant, profile, "", "");
}

static uint64_t find(const char *source, const char *destination, uint16_t port, uint32_t mark)
{
	struct conntrack_flow flow = { .protocol = IPPROTO_TCP, .port = port, .mark = mark };

	flow.source.family = flow.destination.family = AF_INET;
	inet_pton(AF_INET, source, flow.source.bytes);
	inet_pton(AF_INET, destination, flow.destination.bytes);
	return attribution_find(&core, &flow);
}

static void test_the_tenants_exception(void **state)
{
	uint64_t acme, globex;

	(void)state;
	connect_tenant("acme", 1, "198.18.1.0/24");
	connect_tenant("globex", 2, "198.18.2.0/24");
	assert_int_equal(find("198.18.1.5", "203.0.113.10", 443, BYPASS), 0);
	acme = grant("acme", "skype");
	globex = grant("globex", "skype");
	assert_int_equal(find("198.18.1.5", "203.0.113.10", 443, BYPASS), acme);
	assert_int_equal(find("198.18.2.5", "203.0.113.10", 443, BYPASS | 7), globex);
	assert_int_equal(find("198.18.3.5", "203.0.113.10", 443, BYPASS), 0);
	assert_int_equal(find("198.18.1.5", "203.0.113.10", 444, BYPASS), 0);
	assert_int_equal(find("198.18.1.5", "203.0.113.10", 443, SECOND), 0);
	assert_int_equal(find("198.18.1.5", "203.0.113.10", 443, 0x04000000), 0);
	assert_int_equal(find("198.18.1.5", "10.0.0.1", 443, BYPASS), 0);
}

/* As the table's rules come in the order of the profiles. */
static void test_the_first_rule_that_matches(void **state)
{
	uint64_t listed, skype, second;

	(void)state;
	connect_tenant("acme", 1, "198.18.1.0/24");
	listed = grant("acme", "listed");
	assert_int_equal(find("198.18.1.5", "203.0.113.10", 443, BYPASS), listed);
	assert_int_equal(find("198.18.1.5", "198.51.100.1", 443, BYPASS), 0);
	skype = grant("acme", "skype");
	second = grant("acme", "second");
	assert_int_equal(find("198.18.1.5", "203.0.113.10", 443, BYPASS), skype);
	assert_int_equal(find("198.18.1.5", "203.0.113.10", 8443, BYPASS), listed);
	assert_int_equal(find("198.18.1.5", "203.0.113.10", 443, SECOND), second);
}

static void test_a_part_of_the_tenant(void **state)
{
	uint64_t host, there, whole;

	(void)state;
	connect_tenant("acme", 1, "198.18.1.0/24");
	host = grant_part("acme", "skype", "host 198.18.1.5", "");
	there = grant_part("acme", "skype", "tenant", "203.0.113.0/24");
	assert_int_equal(find("198.18.1.5", "198.51.100.1", 443, BYPASS), host);
	assert_int_equal(find("198.18.1.6", "198.51.100.1", 443, BYPASS), 0);
	assert_int_equal(find("198.18.1.6", "203.0.113.10", 443, BYPASS), there);
	assert_int_equal(find("198.18.1.5", "203.0.113.10", 443, BYPASS), host);
	whole = grant("acme", "skype");
	assert_int_equal(find("198.18.1.6", "198.51.100.1", 443, BYPASS), whole);
}

/* Two users with one address: whose flow it is cannot be told. */
static void test_a_user_of_the_tenant(void **state)
{
	uint64_t id;

	(void)state;
	connect_user("acme", "ann@acme.example", 1, "198.18.1.5/32");
	connect_user("acme", "bob@acme.example", 2, "198.18.1.6/32");
	id = grant_part("acme", "skype", "user ann@acme.example", "");
	assert_int_equal(find("198.18.1.5", "203.0.113.10", 443, BYPASS), id);
	assert_int_equal(find("198.18.1.6", "203.0.113.10", 443, BYPASS), 0);
	connect_user("acme", "bob@acme.example", 3, "198.18.1.0/24");
	assert_int_equal(find("198.18.1.5", "203.0.113.10", 443, BYPASS), 0);
}

/* One of them has no exception: it could still be its address that was taken over just now. */
static void test_two_tenants_with_one_address(void **state)
{
	const struct address address = { AF_INET, { 198, 18, 1, 5 } };
	uint64_t acme;
	bool several = false;

	(void)state;
	connect_tenant("acme", 1, "198.18.1.0/24");
	acme = grant("acme", "skype");
	connect_tenant("globex", 2, "198.18.1.5/32");
	assert_int_equal(find("198.18.1.5", "203.0.113.10", 443, BYPASS), 0);
	assert_int_equal(find("198.18.1.6", "203.0.113.10", 443, BYPASS), acme);
	assert_null(attribution_tenant(&core, &address, &several));
	assert_true(several);
}

static void test_more_child_sas_than_are_known(void **state)
{
	(void)state;
	connect_tenant("acme", 1, "198.18.1.0/24");
	grant("acme", "skype");
	core.model.incomplete = true;
	assert_int_equal(find("198.18.1.5", "203.0.113.10", 443, BYPASS), 0);
}

static void test_an_unidentified_peer(void **state)
{
	const struct address address = { AF_INET, { 198, 18, 9, 5 } };

	(void)state;
	connect_tenant(NULL, 1, "198.18.9.0/24");
	assert_null(attribution_tenant(&core, &address, NULL));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_the_tenants_exception),        TEST(test_the_first_rule_that_matches),
		TEST(test_a_part_of_the_tenant),         TEST(test_a_user_of_the_tenant),
		TEST(test_two_tenants_with_one_address), TEST(test_more_child_sas_than_are_known),
		TEST(test_an_unidentified_peer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
