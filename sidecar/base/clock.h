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

/* Since the machine was started, asleep or awake; nobody can set it: what exceptions' ends in the kernel are
 * reckoned by. */
int64_t clock_boottime_us(void);

/* sd_id128_t in hex */
#define CLOCK_BOOT_LEN 32

/*
 * The time of day, and beside it a clock that nobody can set: CLOCK_BOOTTIME, which goes on while
 * the machine sleeps, of one boot (sd_id128_get_boot(3); "": not known). Two readings of one boot
 * tell how long it really was between them.
 */
struct clock_reading {
	char boot[CLOCK_BOOT_LEN + 1];
	int64_t wall_us;
	int64_t boottime_us;
};

struct clock_reading clock_read(void);

/* What adjusting a clock in small steps does is not setting it. */
#define CLOCK_STEP_MIN_US 1000000

#endif
