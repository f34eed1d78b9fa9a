/* SPDX-License-Identifier: GPL-2.0-or-later */

/**
 * @defgroup tenant_tag_listener tenant_tag_listener
 * @{ @ingroup tenant_tag
 */

#ifndef TENANT_TAG_LISTENER_H_
#define TENANT_TAG_LISTENER_H_

#include <bus/listeners/listener.h>

#include "tenant_tag_registry.h"

typedef struct tenant_tag_listener_t tenant_tag_listener_t;

/**
 * Follows CHILD_SAs from before they are installed until they are gone.
 *
 * The bus calls with one mutex for the whole daemon held, so all that is done
 * here is to copy facts and to hand them to the registry.
 */
struct tenant_tag_listener_t {

	/**
	 * Implements listener_t interface.
	 */
	listener_t listener;

	/**
	 * Destroy a tenant_tag_listener_t.
	 */
	void (*destroy)(tenant_tag_listener_t *this);
};

/**
 * Create a listener.
 *
 * @param registry		where to record CHILD_SAs, not owned
 * @return				listener, to be added to the bus
 */
tenant_tag_listener_t *tenant_tag_listener_create(
									tenant_tag_registry_t *registry);

#endif /** TENANT_TAG_LISTENER_H_ @}*/
