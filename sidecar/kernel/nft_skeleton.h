/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the writers of the skeleton's text share: nft_skeleton.c for chains and tenants,
 * nft_destinations.c for where their flows may go. Pure.
 */
#ifndef TENANT_STEER_NFT_SKELETON_H
#define TENANT_STEER_NFT_SKELETON_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include "settings/settings.h"

/* Text into a buffer of the caller's; what does not fit makes it full, for good. */
struct text {
	char *buf;
	size_t size;
	size_t len;
	bool full;
};

void nft_text_add(struct text *text, const char *format, va_list args)
	__attribute__((format(printf, 2, 0)));

/* How a bypass rule begins and ends depends on where it stands. */
enum stage {
	STAGE_FIRST,    /* pinning: the first packet decides and pins */
	STAGE_PINNED,   /* pinning: each later packet is checked again */
	STAGE_UNPINNED, /* no conntrack: each packet for itself */
};

struct skeleton {
	struct text *text;
	const struct settings *settings;
	enum steering_mode mode;
};

/* "MARKS counter accept comment" of a packet that passes, and the line's end. */
void nft_skeleton_add_verdict(const struct skeleton *sk, unsigned profile, enum stage stage);

/* The sets of reserved destinations, and those of one profile's destinations and listeners. */
void nft_destinations_add_reserved(const struct skeleton *sk);
void nft_destinations_add_sets(const struct skeleton *sk, unsigned profile);

/*
 * Does a packet of this stage, that matches in the lease and in the tenant, have to be looked at for
 * where it goes? Then there is a chain for it, which ends with a verdict or returns.
 */
bool nft_destinations_have_chain(const struct skeleton *sk, unsigned profile, enum stage stage);
void nft_destinations_add_chain(const struct skeleton *sk, unsigned profile, enum stage stage);
/* "jump CHAIN" there, and the line's end. */
void nft_destinations_add_jump(const struct skeleton *sk, unsigned profile, enum stage stage);

/*
 * What the profile's service set holds, each once: its services, and the ports of its listeners,
 * so that a packet of any other port costs one look-up, whatever the profile's destinations are.
 */
#define NFT_LEASED_MAX (SETTINGS_SERVICES_MAX + SETTINGS_LISTENERS_MAX)
unsigned nft_leased_services(const struct profile *profile,
			     struct service services[NFT_LEASED_MAX]);

#endif
