/* SPDX-License-Identifier: GPL-2.0-or-later */

/**
 * @defgroup tenant_tag_message tenant_tag_message
 * @{ @ingroup tenant_tag
 */

#ifndef TENANT_TAG_MESSAGE_H_
#define TENANT_TAG_MESSAGE_H_

#include "event.h"
#include "tenant_tag_registry.h"

typedef struct tenant_tag_message_t tenant_tag_message_t;

/**
 * Turns changes into the two frames of an event, reusing its buffers.
 *
 * Used by the publisher's thread only.
 */
struct tenant_tag_message_t {

	/**
	 * Encode a change.
	 *
	 * If a record does not fit in a message it goes without its traffic
	 * selectors. An EVENT_CHILD_REASSIGNED names the tenant before.
	 *
	 * @param change	change to encode
	 * @param tenant	whose CHILD_SA it is
	 * @return			FALSE if it can't be encoded
	 */
	bool (*encode_change)(tenant_tag_message_t *this,
						  tenant_tag_change_t *change,
						  tenant_tag_tenant_t *tenant);

	/**
	 * Encode an event that has no CHILD_SA, its epoch is filled in.
	 *
	 * @param event		event to encode
	 * @return			FALSE if it can't be encoded
	 */
	bool (*encode_event)(tenant_tag_message_t *this, struct event *event);

	/**
	 * Get the topic of the event encoded last.
	 *
	 * @return			topic, internal data
	 */
	chunk_t (*get_topic)(tenant_tag_message_t *this);

	/**
	 * Get the JSON text of the event encoded last.
	 *
	 * @return			text, internal data
	 */
	chunk_t (*get_text)(tenant_tag_message_t *this);

	/**
	 * Destroy a tenant_tag_message_t.
	 */
	void (*destroy)(tenant_tag_message_t *this);
};

/**
 * Create an encoder.
 *
 * @param epoch			epoch of all events, gets copied
 * @return				tenant_tag_message_t object
 */
tenant_tag_message_t *tenant_tag_message_create(char *epoch);

#endif /** TENANT_TAG_MESSAGE_H_ @}*/
