/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A range of addresses of one family, in network byte order. IPv4 uses the first 4 bytes, the
 * others are 0, so that two ranges are compared with memcmp().
 */
#ifndef TENANT_STEER_ADDRESS_RANGE_H
#define TENANT_STEER_ADDRESS_RANGE_H

#include <stdint.h>

struct address_range {
	int family; /* AF_INET, AF_INET6 */
	uint8_t lo[16];
	uint8_t hi[16]; /* inclusive */
};

#endif
