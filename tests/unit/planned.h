/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A model whose child SAs are planned as they change, and the elements that follow; without a kernel.
 * One at a time. What fails in here fails the test.
 */
#ifndef TENANT_STEER_TEST_PLANNED_H
#define TENANT_STEER_TEST_PLANNED_H

#include "steering/plan.h"

#define PROFILES 2

struct planned {
	struct model model;
	struct elements *elements;
	bool address_mode; /* the test itself calls plan_addresses() */
	uint32_t next_id;  /* of the next child SA and its IKE SA */
};

extern struct planned planned;

/* Before each test, for cmocka: in SA mode, in address mode; and after it. */
int planned_setup(void **state);
int planned_setup_address(void **state);
int planned_teardown(void **state);

/* A child SA is up; identity and ts, its one selector, may be NULL. Returns its id. */
uint32_t planned_up(const char *tenant, const char *identity, uint32_t spi, const char *ts);

#endif
