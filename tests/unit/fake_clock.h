/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A clock that stands still until the test moves it: the functions of clock.h, in place of those of
 * clock.c, for a program that has fake_clock.c among its sources.
 */
#ifndef TENANT_STEER_TEST_FAKE_CLOCK_H
#define TENANT_STEER_TEST_FAKE_CLOCK_H

#include "base/clock.h"

#define MINUTE INT64_C(60000000)

/* What it says from now on: clock_monotonic_us() is boottime_us, too. The boot stays what it is. */
void fake_clock_set(int64_t wall_us, int64_t boottime_us);

#endif
