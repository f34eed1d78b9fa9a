/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whose an inner address is: the address ranges of all child SAs, and the tenants that they belong
 * to, looked up in a time that does not depend on their number. An address may be several tenants'
 * (overlapping customers); then it is nobody's for whoever asks here. Not more ranges than the
 * model's child SAs have. One thread.
 */
#ifndef TENANT_STEER_OWNERS_H
#define TENANT_STEER_OWNERS_H

#include <stdbool.h>

#include "tenants/model.h"

struct owners;

enum owner { OWNER_NONE, OWNER_ONE, OWNER_SEVERAL };

struct owners *owners_new(void);         /* NULL: no memory */
void owners_free(struct owners *owners); /* takes NULL */

/*
 * The ranges of a child SA are its tenant's from now on, or (placed false) no longer: as the model's
 * callback of this name says. While a child SA has a selector that could not be read, or when there
 * was no memory for one, every address may be several tenants'.
 */
void owners_place(struct owners *owners, const struct child_sa *child, bool placed);

/* *ret_tenant is set for OWNER_ONE only, and valid as long as the model is not changed. */
enum owner owners_find(const struct owners *owners, const struct address *address,
		       struct tenant **ret_tenant);

#endif
