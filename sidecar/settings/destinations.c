/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "destinations.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * The IANA special-purpose registries (RFC 6890) list more. Left out are TEST-NETs, the benchmarking
 * networks and 2001:db8::/32, which do no harm and are what laboratories are made of; and
 * 64:ff9b::/96, behind which a translator must not hide private addresses (RFC 6052, 3.1).
 */
/* clang-format off */
const struct reserved_prefix reserved_prefixes[] = {
	{ "0.0.0.0/8", "this network", "RFC 1122, 3.2.1.3" },
	{ "10.0.0.0/8", "private", "RFC 1918" },
	{ "100.64.0.0/10", "shared address space", "RFC 6598" },
	{ "127.0.0.0/8", "loopback", "RFC 1122, 3.2.1.3" },
	{ "169.254.0.0/16", "link-local", "RFC 3927" },
	{ "172.16.0.0/12", "private", "RFC 1918" },
	{ "192.0.0.0/24", "for protocols", "RFC 6890" },
	{ "192.168.0.0/16", "private", "RFC 1918" },
	{ "224.0.0.0/4", "multicast", "RFC 5771" },
	{ "240.0.0.0/4", "reserved or broadcast", "RFC 1112, 4; RFC 919" },
	{ "::/96", "unspecified, loopback or IPv4-compatible", "RFC 4291, 2.5" },
	{ "::ffff:0:0/96", "IPv4-mapped", "RFC 4291, 2.5.5.2" },
	{ "64:ff9b:1::/48", "for local translation", "RFC 8215" },
	{ "100::/64", "discarded", "RFC 6666" },
	{ "fc00::/7", "unique local", "RFC 4193" },
	{ "fe80::/10", "link-local", "RFC 4291, 2.5.6" },
	{ "fec0::/10", "site-local", "RFC 3879" },
	{ "ff00::/8", "multicast", "RFC 4291, 2.7" },
};
/* clang-format on */
const unsigned reserved_prefix_count = sizeof(reserved_prefixes) / sizeof(reserved_prefixes[0]);

bool reserved_prefix_is_ipv4(const struct reserved_prefix *reserved)
{
	return !strchr(reserved->prefix, ':');
}

static unsigned address_bytes(int family)
{
	return family == AF_INET ? 4 : 16;
}

/* The whole text as a number from least to most. */
static bool read_number(const char *text, unsigned long least, unsigned long most,
			unsigned long *ret_number)
{
	size_t len = strspn(text, "0123456789");

	if (!len || len > 5 || text[len] || (*text == '0' && len > 1))
		return false;
	*ret_number = strtoul(text, NULL, 10);
	return *ret_number >= least && *ret_number <= most;
}

static bool read_address(const char *text, size_t len, int family, struct address_range *ret_range)
{
	char address[INET6_ADDRSTRLEN];

	if (len >= sizeof(address))
		return false;
	memcpy(address, text, len);
	address[len] = '\0';
	*ret_range = (struct address_range){ .family = family };
	if (inet_pton(family, address, ret_range->lo) != 1)
		return false;
	memcpy(ret_range->hi, ret_range->lo, sizeof(ret_range->hi));
	return true;
}

/* Clear in lo and set in hi what comes behind the first length bits; were some set in lo? */
static bool spread(struct address_range *range, unsigned length)
{
	bool had_bits = false;

	for (unsigned bit = length; bit < 8 * address_bytes(range->family); bit++) {
		uint8_t mask = (uint8_t)(0x80 >> bit % 8);

		had_bits = had_bits || (range->lo[bit / 8] & mask);
		range->lo[bit / 8] &= (uint8_t)~mask;
		range->hi[bit / 8] |= mask;
	}
	return had_bits;
}

int destination_parse(const char *text, struct address_range *ret_range)
{
	int family = strchr(text, ':') ? AF_INET6 : AF_INET;
	unsigned long length = 8 * address_bytes(family);
	size_t len = strcspn(text, "/");
	struct address_range range;

	if (text[len] && !read_number(text + len + 1, 0, length, &length))
		return -EINVAL;
	if (!read_address(text, len, family, &range))
		return -EINVAL;
	len = spread(&range, (unsigned)length);
	*ret_range = range;
	return len ? -ERANGE : 0;
}

int destination_parse_listener(const char *text, struct address_range *ret_range,
			       uint16_t *ret_port)
{
	bool six = *text == '[';
	const char *end = six ? strchr(text, ']') : strchr(text, ':');
	unsigned long port;

	if (!end || !read_address(text + six, (size_t)(end - text - six), six ? AF_INET6 : AF_INET,
				  ret_range))
		return -EINVAL;
	end += six;
	if (*end != ':' || !read_number(end + 1, 1, UINT16_MAX, &port))
		return -EINVAL;
	*ret_port = (uint16_t)port;
	return 0;
}

bool destination_is_single(const struct address_range *range)
{
	return !memcmp(range->lo, range->hi, sizeof(range->lo));
}

static unsigned prefix_length(const struct address_range *range)
{
	unsigned length = 0;

	while (length < 8 * address_bytes(range->family) &&
	       !((range->lo[length / 8] ^ range->hi[length / 8]) & 0x80 >> length % 8))
		length++;
	return length;
}

void destination_text(const struct address_range *range, char text[DESTINATION_TEXT_MAX])
{
	char address[INET6_ADDRSTRLEN];

	inet_ntop(range->family, range->lo, address, sizeof(address));
	if (destination_is_single(range))
		snprintf(text, DESTINATION_TEXT_MAX, "%s", address);
	else
		snprintf(text, DESTINATION_TEXT_MAX, "%s/%u", address, prefix_length(range));
}

void destination_listener_text(const struct address_range *range, uint16_t port,
			       char text[DESTINATION_TEXT_MAX])
{
	char address[INET6_ADDRSTRLEN];

	inet_ntop(range->family, range->lo, address, sizeof(address));
	snprintf(text, DESTINATION_TEXT_MAX, range->family == AF_INET ? "%s:%u" : "[%s]:%u",
		 address, port);
}

bool destinations_overlap(const struct address_range *a, const struct address_range *b)
{
	return a->family == b->family && memcmp(a->lo, b->hi, sizeof(a->lo)) <= 0 &&
	       memcmp(b->lo, a->hi, sizeof(b->lo)) <= 0;
}

bool destination_holds(const struct address_range *a, const struct address_range *b)
{
	return a->family == b->family && memcmp(a->lo, b->lo, sizeof(a->lo)) <= 0 &&
	       memcmp(b->hi, a->hi, sizeof(b->hi)) <= 0;
}

const struct reserved_prefix *destination_reserved(const struct address_range *range)
{
	struct address_range reserved;

	for (unsigned i = 0; i < reserved_prefix_count; i++)
		if (destination_parse(reserved_prefixes[i].prefix, &reserved) == 0 &&
		    destinations_overlap(range, &reserved))
			return &reserved_prefixes[i];
	return NULL;
}
