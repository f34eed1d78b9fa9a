/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The skeleton's rules against the manual (packets.h), packet by packet, over everything that a rule
 * can tell apart: mode, conntrack, leases, sets, services, destinations, conntrack states, marks. And each rule taken
 * away, and each part of one, to see that this would be noticed.
 */
#ifndef TENANT_STEER_SIM_RULES_H
#define TENANT_STEER_SIM_RULES_H

#include <stdbool.h>
#include <stdint.h>

/* Compare all; false, after printing the first packet that differs, if any does. */
bool rules_compare(uint64_t *ret_packets);

/*
 * Weaken the rules in every way, one at a time. A way that makes no difference to any packet has to be
 * one that is known to make none. Prints each with verbose; false if one is not noticed that should be.
 */
bool rules_weaken(bool verbose, unsigned *ret_ways, unsigned *ret_same);

#endif
