/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Marks in iptables-legacy's rules. The kernel tells them to nobody but iptables itself, so they
 * are read with iptables-legacy-save(8), which steerd, that starts no programs, cannot do. Needs
 * root; blocks as long as that program runs.
 */
#ifndef TENANT_STEER_STEERCTL_LEGACY_H
#define TENANT_STEER_STEERCTL_LEGACY_H

#include <stdbool.h>
#include <stdint.h>

#include "control/doctor.h"
#include "kernel/nft_foreign.h"

/* A line of iptables-save that is longer is not looked at. */
#define LEGACY_LINE_MAX 4096

struct legacy_use {
	struct nft_mark_use packet, flow;
};

/* What a rule, "-A CHAIN ...", does with marks. */
void legacy_read_rule(const char *rule, struct legacy_use *ret_use);

/* Report what rules use the bits of mask, as the check "legacy-marks". */
void legacy_check(uint32_t mask, doctor_each each, void *user);

#endif
