/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The list of what is in force: who ends next, whatever came, went, was changed or set. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "exceptions/active.h"

#define COUNT 2000
#define SECOND INT64_C(1000000)
#define START (INT64_C(1700000000) * SECOND)

static struct clock_reading at(int64_t wall_s, int64_t boottime_s)
{
	return (struct clock_reading){ .boot = "b",
				       .wall_us = START + wall_s * SECOND,
				       .boottime_us = boottime_s * SECOND };
}

static struct exception until(uint64_t id, const struct clock_reading *now, int64_t seconds)
{
	struct exception exception = { .id = id,
				       .version = 1,
				       .profile = "skype",
				       .scope = RECORD_SCOPE_TENANT,
				       .granted = *now,
				       .end_set = *now };

	exception.expires_at_us = seconds ? now->wall_us + seconds * SECOND : 0;
	return exception;
}

static struct tenant *tenant_called(const char *name)
{
	struct tenant *tenant = calloc(1, sizeof(*tenant) + strlen(name) + 1);

	assert_non_null(tenant);
	strcpy(tenant->name, name);
	return tenant;
}

static void test_finding(void **state)
{
	struct tenant *acme = tenant_called("acme"), *globex = tenant_called("globex");
	const struct clock_reading now = at(0, 5);
	struct actives *actives = actives_new();
	struct exception e = until(7, &now, 60);
	struct active *first, *second;

	(void)state;
	assert_null(actives_of(actives, "acme"));
	assert_null(actives_next_end(actives));
	first = actives_add(actives, &e, acme, 0, &now);
	assert_non_null(first);
	assert_null(actives_add(actives, &e, globex, 0, &now));
	e.id = 9;
	strcpy(e.profile, "ssh");
	strcpy(e.scope, "host 198.18.1.5");
	strcpy(e.destinations, "203.0.113.0/24");
	second = actives_add(actives, &e, acme, 1, &now);
	e.id = 8;
	strcpy(e.scope, "of a newer release");
	assert_non_null(actives_add(actives, &e, globex, 1, &now));
	assert_true(actives_find(actives, 8)->unreadable);
	assert_int_equal(actives_find(actives, 8)->profile, -1);
	assert_int_equal(actives_count(actives), 3);
	assert_ptr_equal(actives_find(actives, 9), second);
	assert_null(actives_find(actives, 10));
	assert_ptr_equal(actives_of(actives, "acme"), first);
	assert_ptr_equal(first->tenant_next, second);
	assert_null(second->tenant_next);
	assert_string_equal(second->profile_name, "ssh");
	assert_null(first->scope);
	assert_int_equal(second->profile, 1);
	assert_int_equal(second->scope->kind, SCOPE_HOST);
	assert_int_equal(second->scope->destination_count, 1);
	actives_remove(actives, first);
	assert_ptr_equal(actives_of(actives, "acme"), second);
	actives_remove(actives, second);
	assert_null(actives_of(actives, "acme"));
	assert_int_equal(actives_count(actives), 1);
	actives_free(actives);
	free(acme);
	free(globex);
}

/* The first end by looking at each. */
static int64_t first_end(const struct actives *actives)
{
	const struct active *active = actives_first(actives);
	int64_t first = 0;

	for (; active; active = active->hh.next)
		if (active->expires_at_us && (!first || active->expires_at_us < first))
			first = active->expires_at_us;
	return first;
}

static void expect_order(const struct actives *actives)
{
	const struct active *next = actives_next_end(actives);

	assert_int_equal(next ? next->expires_at_us : 0, first_end(actives));
}

static void ignore(void *user, const struct active *active)
{
	(void)user;
	(void)active;
}

static void test_next_end(void **state)
{
	struct tenant *tenant = tenant_called("acme");
	struct actives *actives = actives_new();
	struct clock_reading now = at(0, 1000);
	struct exception e;
	struct active *active;

	(void)state;
	srand(1);
	for (uint64_t id = 1; id <= COUNT; id++) {
		e = until(id, &now, rand() % 4 ? 1 + rand() % 5000 : 0);
		actives_add(actives, &e, tenant, 0, &now);
		active = actives_find(actives, 1 + (uint64_t)rand() % id);
		if (active && rand() % 3 == 0) {
			e = until(active->id, &now, 1 + rand() % 5000);
			e.version = active->version + 1;
			actives_change(actives, active, &e, &now);
			assert_int_equal(active->expires_at_us, e.expires_at_us);
		} else if (active && rand() % 4 == 0) {
			actives_remove(actives, active);
		}
		if (rand() % 50 == 0) {
			now.wall_us += (rand() % 2000 - 1000) * SECOND;
			actives_set_clock(actives, &now, ignore, NULL);
		}
		expect_order(actives);
	}
	while ((active = actives_next_end(actives))) {
		actives_remove(actives, active);
		expect_order(actives);
	}
	assert_true(actives_count(actives) > 0); /* those without an end */
	actives_free(actives);
	free(tenant);
}

static void test_clocks(void **state)
{
	struct tenant *tenant = tenant_called("acme");
	struct actives *actives = actives_new();
	struct clock_reading granted = at(0, 1000), now = at(10, 1010), other = at(10, 3);
	struct exception e = until(1, &granted, 100);
	struct active *active = actives_add(actives, &e, tenant, 0, &now);

	(void)state;
	assert_int_equal(active->expires_at_us, e.expires_at_us);
	assert_int_equal(active_age_us(active, &now), 10 * SECOND);
	/* read again after the clock was set back by an hour: 90 s are left, not an hour and 90 s */
	e.id = 2;
	now = at(10 - 3600, 1010);
	active = actives_add(actives, &e, tenant, 0, &now);
	assert_int_equal(active->expires_at_us, now.wall_us + 90 * SECOND);
	assert_int_equal(active_age_us(active, &now), 10 * SECOND);
	/* put forward it ends by the new time, and is older by it */
	e.id = 3;
	now = at(50, 1010);
	active = actives_add(actives, &e, tenant, 0, &now);
	assert_int_equal(active->expires_at_us, e.expires_at_us);
	assert_int_equal(active_age_us(active, &now), 50 * SECOND);
	/* in another boot there is the time of day, and no more than the whole lifetime */
	strcpy(other.boot, "c");
	e.id = 4;
	active = actives_add(actives, &e, tenant, 0, &other);
	assert_int_equal(active->expires_at_us, e.expires_at_us);
	assert_int_equal(active_age_us(active, &other), 10 * SECOND);
	other.wall_us -= 7200 * SECOND;
	e.id = 5;
	active = actives_add(actives, &e, tenant, 0, &other);
	assert_int_equal(active->expires_at_us, other.wall_us + 100 * SECOND);
	/* set right again, none has lost anything */
	other.wall_us += 7200 * SECOND;
	actives_set_clock(actives, &other, ignore, NULL);
	assert_int_equal(active->expires_at_us, e.expires_at_us);
	/* a limit from elsewhere holds, if it is the earlier one */
	actives_limit(actives, active, other.boottime_us + 5 * SECOND, &other);
	assert_int_equal(active->expires_at_us, other.wall_us + 5 * SECOND);
	actives_limit(actives, active, other.boottime_us + 9 * SECOND, &other);
	assert_int_equal(active->expires_at_us, other.wall_us + 5 * SECOND);
	actives_free(actives);
	free(tenant);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_finding),
		cmocka_unit_test(test_next_end),
		cmocka_unit_test(test_clocks),
	};

	actives_free(NULL);
	return cmocka_run_group_tests_name("active", tests, NULL, NULL);
}
