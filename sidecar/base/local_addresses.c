/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "local_addresses.h"

#include <errno.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static int compare(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct local_address));
}

/* The bytes of an address in a sockaddr, or NULL if it is of another family. */
static const void *address_bytes(const struct sockaddr *sockaddr, size_t *ret_len)
{
	if (sockaddr && sockaddr->sa_family == AF_INET) {
		*ret_len = sizeof(struct in_addr);
		return &((const struct sockaddr_in *)sockaddr)->sin_addr;
	}
	if (sockaddr && sockaddr->sa_family == AF_INET6) {
		*ret_len = sizeof(struct in6_addr);
		return &((const struct sockaddr_in6 *)sockaddr)->sin6_addr;
	}
	return NULL;
}

static int collect(const struct ifaddrs *all, struct local_addresses *ret_addresses)
{
	const struct ifaddrs *one;
	size_t room = 0, len;

	for (one = all; one; one = one->ifa_next)
		room += address_bytes(one->ifa_addr, &len) != NULL;
	if (room > LOCAL_ADDRESSES_MAX)
		return -ENOSPC;
	ret_addresses->list = calloc(room + 1, sizeof(*ret_addresses->list));
	if (!ret_addresses->list)
		return -ENOMEM;
	for (one = all; one; one = one->ifa_next) {
		const void *bytes = address_bytes(one->ifa_addr, &len);
		struct local_address *to = &ret_addresses->list[ret_addresses->count];

		if (!bytes)
			continue;
		to->family = (uint8_t)one->ifa_addr->sa_family;
		memcpy(to->bytes, bytes, len);
		ret_addresses->count++;
	}
	qsort(ret_addresses->list, ret_addresses->count, sizeof(*ret_addresses->list), compare);
	return 0;
}

int local_addresses_read(struct local_addresses *addresses, bool *ret_changed)
{
	struct local_addresses fresh = { 0 };
	struct ifaddrs *all = NULL;
	int r = getifaddrs(&all) < 0 ? -errno : 0;

	if (r == 0)
		r = collect(all, &fresh);
	freeifaddrs(all);
	*ret_changed = fresh.count != addresses->count ||
		       (fresh.count && memcmp(fresh.list, addresses->list,
					      fresh.count * sizeof(*fresh.list)) != 0);
	local_addresses_done(addresses);
	*addresses = fresh;
	return r;
}

void local_addresses_done(struct local_addresses *addresses)
{
	free(addresses->list);
	*addresses = (struct local_addresses){ 0 };
}

bool local_addresses_have(const struct local_addresses *addresses, uint8_t family,
			  const uint8_t bytes[16])
{
	struct local_address key = { .family = family };

	memcpy(key.bytes, bytes, sizeof(key.bytes));
	return addresses->count &&
	       bsearch(&key, addresses->list, addresses->count, sizeof(key), compare);
}
