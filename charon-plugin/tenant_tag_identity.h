/* SPDX-License-Identifier: GPL-2.0-or-later */

/**
 * @defgroup tenant_tag_identity tenant_tag_identity
 * @{ @ingroup tenant_tag
 */

#ifndef TENANT_TAG_IDENTITY_H_
#define TENANT_TAG_IDENTITY_H_

#include "tenant_tag_facts.h"

typedef struct tenant_tag_identity_t tenant_tag_identity_t;

/**
 * Decides which tenant a peer is, from what it proved and the configuration.
 *
 * The first source in the configured order that yields anything decides; if
 * that does not lead to exactly one tenant, the peer is not identified, the
 * next source is not asked.
 *
 * Immutable, a changed configuration is a new object.
 */
struct tenant_tag_identity_t {

	/**
	 * Resolve facts to a tenant.
	 *
	 * @param facts		what the peer proved
	 * @return			result, to destroy with tenant_tag_tenant_destroy()
	 */
	tenant_tag_tenant_t *(*resolve)(tenant_tag_identity_t *this,
									tenant_tag_facts_t *facts);

	/**
	 * Get the number that sets the results of this object apart.
	 *
	 * @return			generation, never 0
	 */
	u_int (*get_generation)(tenant_tag_identity_t *this);

	/**
	 * Destroy a tenant_tag_identity_t.
	 */
	void (*destroy)(tenant_tag_identity_t *this);
};

/**
 * Read order and tenants from strongswan.conf, complaints are logged.
 *
 * @return				tenant_tag_identity_t object
 */
tenant_tag_identity_t *tenant_tag_identity_create();

/**
 * Split the value of a "match" option into patterns.
 *
 * Patterns are separated by commas, which single or double quotes protect.  As
 * the parser of strongswan.conf removes double quotes, parts of a value that
 * look like consecutive RDNs are put together again.
 *
 * @param value			value of the option
 * @return				list of char*, to free with the list
 */
linked_list_t *tenant_tag_identity_split(char *value);

#endif /** TENANT_TAG_IDENTITY_H_ @}*/
