/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fake_clock.h"

static struct clock_reading now = { .boot = "boot-1" };

void fake_clock_set(int64_t wall_us, int64_t boottime_us)
{
	now.wall_us = wall_us;
	now.boottime_us = boottime_us;
}

int64_t clock_wall_us(void)
{
	return now.wall_us;
}

int64_t clock_boottime_us(void)
{
	return now.boottime_us;
}

int64_t clock_monotonic_us(void)
{
	return now.boottime_us;
}

struct clock_reading clock_read(void)
{
	return now;
}
