/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The addresses of this machine's interfaces in this network namespace, as a sorted array. One
 * thread. Reading them takes the kernel a dump of addresses: not for the path of an event.
 */
#ifndef TENANT_STEER_LOCAL_ADDRESSES_H
#define TENANT_STEER_LOCAL_ADDRESSES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* With more, none is known: the caller then cannot tell that an address is none of ours. */
#define LOCAL_ADDRESSES_MAX 65536

struct local_address {
	uint8_t family; /* AF_INET, AF_INET6 */
	uint8_t bytes[16];
};

struct local_addresses {
	struct local_address *list; /* owned */
	size_t count;
};

/* Read them anew. 0 and whether they are others than before, or an errno: then none is known. */
int local_addresses_read(struct local_addresses *addresses, bool *ret_changed);
void local_addresses_done(struct local_addresses *addresses);

/* bytes: 4 or 16, by family, in an array of 16 whose rest is 0. */
bool local_addresses_have(const struct local_addresses *addresses, uint8_t family,
			  const uint8_t bytes[16]);

#endif
