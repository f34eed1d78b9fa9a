/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One element of one of steerd's nft sets, as a plain value. A profile has five sets:
 *     sa_<profile>                      SA mode: inbound SPIs
 *     host4_<profile> host6_<profile>   address mode: single inner addresses (hash sets)
 *     net4_<profile>  net6_<profile>    address mode: ranges (interval sets)
 * The skeleton makes only the sets its mode needs.
 */
#ifndef TENANT_STEER_ELEMENT_H
#define TENANT_STEER_ELEMENT_H

#include <stdint.h>

enum element_set { SET_SA, SET_HOST4, SET_HOST6, SET_NET4, SET_NET6, SET_COUNT };

struct element_key {
	uint8_t set;     /* enum element_set */
	uint8_t profile; /* index into settings.profiles */
	uint8_t pad[2];  /* zero: keys are compared and hashed bytewise */
	uint8_t lo[16];  /* SPI (network order, 4 bytes), address, or first address of a range; rest
			    0 */
	uint8_t hi[16];  /* last address of a range (inclusive); 0 for the others */
};

/* What the kernel shall hold, or was seen to hold. */
struct element {
	struct element_key key;
	int64_t expires_us; /* clock_boottime_us(), which nobody can set back; 0: never */
};

#endif
