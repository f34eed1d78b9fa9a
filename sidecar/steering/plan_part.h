/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The elements of exemptions that are of a part of a tenant, or limited to destinations: the plan's
 * (plan.h) second half. What it lets pass is always a part of what the same exemption of all of the
 * tenant would: in SA mode every element names the SPI, in address mode it is cut out of a range that
 * belongs to this tenant alone. Pure memory, one thread.
 *
 * What several exemptions cover is covered until the last of them ends. An inner address that is in no
 * range of the tenant's child SAs has no element. A child SA (in address mode: a range) with more
 * than BOXES_MAX networks, or of more than BOXES_CUT_MAX pieces, is enforced but for its single hosts,
 * and that is logged.
 */
#ifndef TENANT_STEER_PLAN_PART_H
#define TENANT_STEER_PLAN_PART_H

#include "elements.h"
#include "tenants/model.h"

/* Until when all packets of an SPI are exempt, by an exemption of the tenant or of the user; 0: they
 * are not. first: of the list of child SAs with this SPI, all the tenant's. */
int64_t plan_part_whole(const struct tenant *tenant, const struct child_sa *first,
			unsigned profile);

/*
 * SA mode: desire what else lets packets of the SPI pass, and nothing else of it any more; with pass
 * false nothing. Returns whether there is, or with pass false would be, anything. tenant NULL: nothing.
 */
bool plan_part_spi(struct elements *elements, unsigned profiles, const struct tenant *tenant,
		   const struct child_sa *first, uint32_t spi, bool pass);

/*
 * Address mode: desire what lets packets of a group of ranges pass which are all the tenant's; whole is
 * what they make together. Sets steered_found of the child SAs concerned.
 */
void plan_part_group(struct elements *elements, unsigned profiles, const struct tenant *tenant,
		     const struct child_range *ranges, size_t count,
		     const struct address_range *whole);

#endif
