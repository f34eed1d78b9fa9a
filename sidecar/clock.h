/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The two clocks, in microseconds. Any thread. Functions of a file of their own, so that a program
 * that simulates time can link others in their place.
 */
#ifndef TENANT_STEER_CLOCK_H
#define TENANT_STEER_CLOCK_H

#include <stdint.h>

/* Since 1970, UTC: what is stored, shown and compared with an expiry. */
int64_t clock_wall_us(void);

/* Since some start: what waits and deadlines are measured with. */
int64_t clock_monotonic_us(void);

#endif
