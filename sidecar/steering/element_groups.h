/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which elements are wanted on behalf of whom, for those of which there may be any number: so that
 * those which are no longer wanted can be found. An owner is an inbound SPI. One thread.
 */
#ifndef TENANT_STEER_ELEMENT_GROUPS_H
#define TENANT_STEER_ELEMENT_GROUPS_H

#include "elements.h"

/* NULL: none. */
struct element_group;

/* elements_want_group() of elements.h, with the groups it keeps. */
size_t element_groups_want(struct element_group **groups, struct elements *elements, uint32_t owner,
			   const struct element *wanted, size_t count);
void element_groups_free(struct element_group **groups);

#endif
