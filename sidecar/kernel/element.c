/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "element.h"

#include <sys/socket.h>

static const struct element_shape shapes[SET_COUNT] = {
	[SET_SA] = { 0, false, false, false },
	[SET_PART] = { 0, false, false, false },
	[SET_PART_HOST4] = { AF_INET, true, false, false },
	[SET_PART_HOST6] = { AF_INET6, true, false, false },
	[SET_PART_NET4] = { AF_INET, true, true, true },
	[SET_PART_NET6] = { AF_INET6, true, true, true },
	[SET_HOST4] = { AF_INET, false, false, false },
	[SET_HOST6] = { AF_INET6, false, false, false },
	[SET_NET4] = { AF_INET, false, true, false },
	[SET_NET6] = { AF_INET6, false, true, false },
	[SET_PAIR4] = { AF_INET, false, true, true },
	[SET_PAIR6] = { AF_INET6, false, true, true },
};

const struct element_shape *element_shape(unsigned set)
{
	return &shapes[set];
}

size_t element_key_size(const struct element_key *key)
{
	const struct element_shape *shape = &shapes[key->set];

	return shape->spi || shape->destination ? sizeof(*key) : ELEMENT_KEY_SHORT;
}

size_t element_limit(unsigned set, size_t max_child_sas)
{
	if (shapes[set].destination)
		return ELEMENTS_INTERVALS_MAX;
	return shapes[set].spi || set == SET_PART ? ELEMENTS_PARTS_MAX : max_child_sas;
}
