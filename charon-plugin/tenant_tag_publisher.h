/* SPDX-License-Identifier: GPL-2.0-or-later */

/**
 * @defgroup tenant_tag_publisher tenant_tag_publisher
 * @{ @ingroup tenant_tag
 */

#ifndef TENANT_TAG_PUBLISHER_H_
#define TENANT_TAG_PUBLISHER_H_

#include "tenant_tag_identity.h"
#include "tenant_tag_registry.h"

typedef struct tenant_tag_publisher_t tenant_tag_publisher_t;
typedef struct tenant_tag_options_t tenant_tag_options_t;

/**
 * Options of the publisher, they can't be changed later.
 */
struct tenant_tag_options_t {

	/** where to publish events */
	char *publish;

	/** where to answer snapshot requests */
	char *snapshot;

	/** group that may connect */
	char *group;

	/** seconds between two heartbeats */
	u_int heartbeat;

	/** events to buffer for each subscriber */
	u_int queue;
};

/**
 * Publishes the changes of a registry and answers snapshot requests.
 *
 * It owns a thread, and that thread owns all ZeroMQ objects and does everything
 * that takes time: it resolves identities, prints, encodes and sends.  No send
 * ever waits: what a slow or missing subscriber does not take is lost for it,
 * which it notices by the sequence numbers.
 */
struct tenant_tag_publisher_t {

	/**
	 * Replace the configuration of tenants.
	 *
	 * CHILD_SAs whose tenant is another one now get published again: first all
	 * of them as reassigned, then as their new tenants'.
	 *
	 * @param identity	new configuration, adopted
	 */
	void (*set_identity)(tenant_tag_publisher_t *this,
						 tenant_tag_identity_t *identity);

	/**
	 * Stop the thread and destroy the publisher.
	 */
	void (*destroy)(tenant_tag_publisher_t *this);
};

/**
 * Create a publisher and start its thread.
 *
 * @param registry		what to publish, not owned
 * @param identity		configuration of tenants, adopted
 * @param options		options, get copied
 * @return				publisher, NULL on failure
 */
tenant_tag_publisher_t *tenant_tag_publisher_create(
									tenant_tag_registry_t *registry,
									tenant_tag_identity_t *identity,
									tenant_tag_options_t *options);

#endif /** TENANT_TAG_PUBLISHER_H_ @}*/
