/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "planned.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ignoring.h"

struct planned planned;

static void on_changed(void *user, uint32_t spi)
{
	(void)user;
	if (!planned.address_mode)
		plan_spi(&planned.model, planned.elements, PROFILES, NULL, spi);
}

int planned_setup(void **state)
{
	static const struct model_callbacks callbacks = { .changed = on_changed,
							  .leaving = ignore_leaving };

	(void)state;
	planned.address_mode = false;
	planned.next_id = 1;
	planned.elements = elements_new(1000);
	model_init(&planned.model, 1000, &callbacks, NULL);
	return 0;
}

int planned_setup_address(void **state)
{
	planned_setup(state);
	planned.address_mode = true;
	return 0;
}

int planned_teardown(void **state)
{
	(void)state;
	model_done(&planned.model);
	elements_free(planned.elements);
	return 0;
}

uint32_t planned_up(const char *tenant, const char *identity, uint32_t spi, const char *ts)
{
	const struct event ev = { .type = EVENT_CHILD_UP,
				  .tenant = tenant,
				  .identity = identity,
				  .ike_id = planned.next_id,
				  .child_id = planned.next_id,
				  .spi_in = spi,
				  .remote_ts = { ts },
				  .remote_ts_count = ts ? 1 : 0 };

	assert_int_equal(model_apply(&planned.model, &ev), 0);
	return planned.next_id++;
}
