/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "clock.h"

#include <systemd/sd-id128.h>
#include <time.h>

static int64_t read_us(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64_t clock_wall_us(void)
{
	return read_us(CLOCK_REALTIME);
}

int64_t clock_monotonic_us(void)
{
	return read_us(CLOCK_MONOTONIC);
}

int64_t clock_boottime_us(void)
{
	return read_us(CLOCK_BOOTTIME);
}

struct clock_reading clock_read(void)
{
	struct clock_reading reading = { .wall_us = read_us(CLOCK_REALTIME),
					 .boottime_us = read_us(CLOCK_BOOTTIME) };
	sd_id128_t boot;

	if (sd_id128_get_boot(&boot) >= 0)
		sd_id128_to_string(boot, reading.boot);
	return reading;
}
