/* SPDX-License-Identifier: GPL-2.0-or-later */

/**
 * @defgroup tenant_tag_sa tenant_tag_sa
 * @{ @ingroup tenant_tag
 */

#ifndef TENANT_TAG_SA_H_
#define TENANT_TAG_SA_H_

#include <library.h>
#include <ipsec/ipsec_types.h>
#include <networking/host.h>
#include <selectors/traffic_selector.h>

#include "tenant_tag_facts.h"

typedef struct tenant_tag_sa_t tenant_tag_sa_t;

/**
 * What is known about a CHILD_SA, copied from charon's objects in a bus hook.
 *
 * Immutable once it is in the registry: a change makes a new one, so that an
 * event that is still queued tells what was true when it happened, and so that
 * the publisher can read it without a lock.
 */
struct tenant_tag_sa_t {

	/** unique id of the CHILD_SA */
	uint32_t child_id;

	/** unique id of its IKE_SA */
	uint32_t ike_id;

	/** reqid, 0 before it is installed */
	uint32_t reqid;

	/** inbound SPI, host order */
	uint32_t spi_in;

	/** outbound SPI, host order, 0 before it is known */
	uint32_t spi_out;

	/** IPsec mode */
	ipsec_mode_t mode;

	/** name of the CHILD_SA's configuration */
	char *child;

	/** what the peer proved */
	tenant_tag_facts_t *facts;

	/** address and port of the peer */
	host_t *remote;

	/** virtual IPs assigned to the peer */
	host_t **vips;

	/** number of virtual IPs */
	u_int vip_count;

	/** local traffic selectors */
	traffic_selector_t **local_ts;

	/** number of local traffic selectors */
	u_int local_ts_count;

	/** remote traffic selectors */
	traffic_selector_t **remote_ts;

	/** number of remote traffic selectors */
	u_int remote_ts_count;

	/** reference counter */
	refcount_t ref;
};

/**
 * Create a CHILD_SA record, only identified yet.
 *
 * @param child_id		unique id of the CHILD_SA
 * @param ike_id		unique id of its IKE_SA
 * @param facts			what the peer proved, adopted
 * @return				record, with one reference
 */
tenant_tag_sa_t *tenant_tag_sa_create(uint32_t child_id, uint32_t ike_id,
									  tenant_tag_facts_t *facts);

/**
 * Copy a record, to change the copy.
 *
 * @param sa			record to copy
 * @return				copy, with one reference
 */
tenant_tag_sa_t *tenant_tag_sa_clone(tenant_tag_sa_t *sa);

/**
 * Set the virtual IPs, replacing those set before.
 *
 * @param sa			record that is not shared yet
 * @param enumerator	enumerator over host_t*, gets destroyed
 */
void tenant_tag_sa_set_vips(tenant_tag_sa_t *sa, enumerator_t *enumerator);

/**
 * Set the traffic selectors, must not be set yet.
 *
 * @param sa			record that is not shared yet
 * @param local			TRUE for local selectors, FALSE for remote
 * @param enumerator	enumerator over traffic_selector_t*, gets destroyed
 */
void tenant_tag_sa_set_ts(tenant_tag_sa_t *sa, bool local,
						  enumerator_t *enumerator);

/**
 * Set the peer's address and port, replacing what was set before.
 *
 * @param sa			record that is not shared yet
 * @param remote		address, gets cloned
 */
void tenant_tag_sa_set_remote(tenant_tag_sa_t *sa, host_t *remote);

/**
 * Get another reference to a record.
 *
 * @param sa			record
 * @return				same record
 */
tenant_tag_sa_t *tenant_tag_sa_get_ref(tenant_tag_sa_t *sa);

/**
 * Release a reference to a record.
 *
 * @param sa			record, may be NULL
 */
void tenant_tag_sa_destroy(tenant_tag_sa_t *sa);

#endif /** TENANT_TAG_SA_H_ @}*/
