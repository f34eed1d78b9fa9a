/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Boxes: a range of source addresses by a range of destinations, until a time. The kernel's interval
 * sets refuse elements that overlap, so boxes that do are cut into ones that do not; what several
 * cover is covered until the last of them ends. Pure memory, any thread.
 */
#ifndef TENANT_STEER_BOXES_H
#define TENANT_STEER_BOXES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "settings/address_range.h"

/* Boxes to be cut at once, and what comes of it; beyond, -E2BIG. The work grows with the square. */
#define BOXES_MAX 256
#define BOXES_CUT_MAX 1024

struct box {
	struct address_range source, destination; /* of one family */
	int64_t until;                            /* positive; the later, the greater */
};

/*
 * Cut boxes of one family. Each result is as large as can be: neighbours that cover the same
 * destinations until the same times are one. Writes to ret_cut (room for BOXES_CUT_MAX), in the order
 * of sources, then destinations, and *ret_count. -E2BIG, or -ENOMEM: then ret_cut is of no use.
 */
int boxes_cut(const struct box *boxes, size_t count, struct box *ret_cut, size_t *ret_count);

/* Every address of a family. */
struct address_range boxes_everything(int family);
/* What two ranges share; false: nothing. */
bool boxes_intersect(const struct address_range *a, const struct address_range *b,
		     struct address_range *ret_range);
/* The address behind, or before, the range's end; false: there is none. */
bool boxes_address_behind(const struct address_range *range, uint8_t ret_address[16]);
bool boxes_address_before(const struct address_range *range, uint8_t ret_address[16]);

#endif
