/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The destinations and explicit proxies of a profile: from their texts to values, with the rules
 * for each. Reads this machine's addresses from the kernel when there are any, because none of
 * them is a destination.
 */
#ifndef TENANT_STEER_SETTINGS_DESTINATIONS_H
#define TENANT_STEER_SETTINGS_DESTINATIONS_H

#include "settings_schema.h"

#define SETTINGS_WHY_MAX 384

/*
 * Fill draft->profile from its texts. 0, or -EINVAL with the key and "VALUE is what is wrong;
 * expected what"; the profile is not to be used then. A kernel that does not tell its addresses
 * does not refuse: its own rules have the last word (nft_skeleton.c).
 */
int settings_read_destinations(struct settings_profile_draft *draft, const char **ret_key,
			       char why[SETTINGS_WHY_MAX]);

/*
 * Would the profile's rules take a flow to this port of this address? Of family AF_UNSPEC: to some
 * address. An address of the gateway's own, which is never a destination, is told by the kernel only.
 */
bool settings_profile_covers(const struct profile *profile, uint8_t protocol, uint16_t port,
			     const struct address *destination);

#endif
