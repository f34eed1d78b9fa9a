/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From what steerd knows (model) to what the kernel shall hold (elements). This is where the
 * decision is made whether a child SA may bypass; everything that is not clearly allowed is not
 * desired. Pure memory, one thread.
 *
 * SA mode: an inbound SPI is desired for a profile if every child SA with that SPI belongs to one
 * tenant, that tenant is exempt, and the kernel's own SA with it is that child SA's or is still to
 * come (sa_check.h). Decided anew for each SPI that changed. SPIs up to PLAN_CPI_MAX, which charon
 * draws only if it is told to (charon.spi_min), are never desired.
 *
 * Exemptions of a part of a tenant, or limited to destinations, have elements of their own (plan_part.h).
 *
 * Address mode: an inner address range is desired if the child SAs that may use it all belong to
 * one exempt tenant. A range shared by two tenants is a conflict: neither gets any of its
 * addresses of that child SA. Decided anew as a whole, by a sweep over all ranges.
 */
#ifndef TENANT_STEER_PLAN_H
#define TENANT_STEER_PLAN_H

#include "elements.h"
#include "kernel/sa_check.h"
#include "tenants/model.h"

/* The kernel keeps IPComp's CPIs, 16 bits wide (RFC 3173, 3.3), as SPIs of states of their own. */
#define PLAN_CPI_MAX 0xffffu

/* The element of a child SA's SPI for a profile. */
struct element_key plan_sa_key(unsigned profile, uint32_t spi);

/* Which element would let this address range pass; for address mode. */
struct element_key plan_range_key(unsigned profile, const struct address_range *range);

/* Decide one SPI anew. check: NULL means not to look at the kernel's SAs. */
void plan_spi(struct model *model, struct elements *elements, unsigned profiles,
	      struct sa_check *check, uint32_t spi);

/* Decide all addresses anew. Sets each tenant's conflict flag; a change touches the tenant.
 * On failure nothing is desired: -ENOMEM, or
 * -EBADMSG when the addresses of some child SA are not known. */
int plan_addresses(struct model *model, struct elements *elements, unsigned profiles);

#endif
