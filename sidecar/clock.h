/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The two clocks, in microseconds. Any thread. */
#ifndef TENANT_STEER_CLOCK_H
#define TENANT_STEER_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline int64_t clock_us(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

/* Since 1970, UTC: what is stored, shown and compared with an expiry. */
static inline int64_t clock_wall_us(void)
{
	return clock_us(CLOCK_REALTIME);
}

/* Since some start: what waits and deadlines are measured with. */
static inline int64_t clock_monotonic_us(void)
{
	return clock_us(CLOCK_MONOTONIC);
}

#endif
