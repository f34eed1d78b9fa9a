/* SPDX-License-Identifier: GPL-2.0-or-later */

/**
 * @defgroup tenant_tag_endpoint tenant_tag_endpoint
 * @{ @ingroup tenant_tag
 */

#ifndef TENANT_TAG_ENDPOINT_H_
#define TENANT_TAG_ENDPOINT_H_

#include <library.h>

typedef struct tenant_tag_endpoint_t tenant_tag_endpoint_t;

/**
 * A path in the file system that a ZeroMQ socket gets bound to.
 *
 * Only ipc:// with an absolute path is accepted: there is no encryption, and
 * abstract sockets have no permissions.  ZeroMQ takes over a path that is bound
 * already without a word, hence the lock on <path>.lock.
 */
struct tenant_tag_endpoint_t {

	/**
	 * Bind a socket, unless that has been done already.
	 *
	 * Logs the first failure, to be called again until it succeeds.
	 *
	 * @param socket	ZeroMQ socket
	 * @return			TRUE if bound
	 */
	bool (*bind)(tenant_tag_endpoint_t *this, void *socket);

	/**
	 * Destroy the endpoint, after its socket is closed.
	 */
	void (*destroy)(tenant_tag_endpoint_t *this);
};

/**
 * Create an endpoint.
 *
 * @param uri			where to bind
 * @param group			group that may connect, ignored if it does not exist
 * @return				endpoint, not bound yet
 */
tenant_tag_endpoint_t *tenant_tag_endpoint_create(char *uri, char *group);

#endif /** TENANT_TAG_ENDPOINT_H_ @}*/
