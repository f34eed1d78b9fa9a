/* SPDX-License-Identifier: GPL-2.0-or-later */

/**
 * @defgroup tenant_tag_facts tenant_tag_facts
 * @{ @ingroup tenant_tag
 */

#ifndef TENANT_TAG_FACTS_H_
#define TENANT_TAG_FACTS_H_

#include <library.h>
#include <credentials/auth_cfg.h>

typedef struct tenant_tag_facts_t tenant_tag_facts_t;
typedef struct tenant_tag_tenant_t tenant_tag_tenant_t;
typedef enum tenant_tag_source_t tenant_tag_source_t;

/**
 * Where an identity comes from.
 */
enum tenant_tag_source_t {

	/** user name a completed EAP (or XAuth) method authenticated */
	TENANT_TAG_EAP,

	/** subject of the X.509 certificate that verified a signature */
	TENANT_TAG_CERT,

	/** IKE identity authenticated with a PSK or a public key */
	TENANT_TAG_ID,

	/** group assigned by the authentication, e.g. a RADIUS Class */
	TENANT_TAG_GROUP,

	/** name of the connection, configured by the administrator */
	TENANT_TAG_CONNECTION,

	/** not a source */
	TENANT_TAG_NONE,
};

/**
 * Name of a source as used in the configuration and in events.
 *
 * @param source		source to name
 * @return				"eap", "cert", "id", "group", "connection", or "none"
 */
char *tenant_tag_source_name(tenant_tag_source_t source);

/**
 * Result of resolving facts, see tenant_tag_identity_t.
 */
struct tenant_tag_tenant_t {

	/** name of the tenant, NULL if not identified */
	char *name;

	/** text of the deciding identity, NULL if there is none */
	char *identity;

	/** where that identity comes from */
	tenant_tag_source_t source;

	/** why there is no tenant, in one sentence, NULL if there is one */
	char *reason;

	/** generation of the configuration this was resolved with */
	u_int generation;

	/** whether this differs from the result of the generation before */
	bool changed;

	/** name of the tenant it was in the generation before, if it is another one
	 * now or none, NULL otherwise */
	char *before;
};

/**
 * Note how the result of resolving facts differs from the one before.
 *
 * @param tenant		new result
 * @param old			result of the generation before, NULL if there is none
 */
void tenant_tag_tenant_compare(tenant_tag_tenant_t *tenant,
							   tenant_tag_tenant_t *old);

/**
 * Destroy the result of resolving facts.
 *
 * @param tenant		result to destroy, may be NULL
 */
void tenant_tag_tenant_destroy(tenant_tag_tenant_t *tenant);

/**
 * What a peer proved when its IKE_SA was authenticated.
 *
 * Filled by one thread, immutable from the moment it is shared, then shared by
 * all CHILD_SAs of the IKE_SA and freed with the last reference.
 */
struct tenant_tag_facts_t {

	/**
	 * Result cached by, and accessed only by, the publisher's thread.
	 */
	tenant_tag_tenant_t *tenant;

	/**
	 * Derive facts from a completed remote authentication round.
	 *
	 * @param round		completed round, as recorded on the IKE_SA
	 * @param local_eap	TRUE if any EAP method in use is known to run in this
	 *					daemon, FALSE if it may have been run by an AAA server
	 */
	void (*add_round)(tenant_tag_facts_t *this, auth_cfg_t *round,
					  bool local_eap);

	/**
	 * Add a fact that was proven, unless it is known already.
	 *
	 * @param source	how it was proven
	 * @param id		proven identity, gets cloned
	 */
	void (*add)(tenant_tag_facts_t *this, tenant_tag_source_t source,
				identification_t *id);

	/**
	 * Enumerate the identities one source yielded.
	 *
	 * Does not work for TENANT_TAG_CONNECTION, see get_connection().
	 *
	 * @param source	source to enumerate
	 * @return			enumerator over identification_t*
	 */
	enumerator_t *(*create_enumerator)(tenant_tag_facts_t *this,
									   tenant_tag_source_t source);

	/**
	 * Get the name of the connection.
	 *
	 * @return			name, NULL if unknown
	 */
	char *(*get_connection)(tenant_tag_facts_t *this);

	/**
	 * Number of rounds given to add_round().
	 *
	 * @return			number of completed authentication rounds
	 */
	u_int (*get_rounds)(tenant_tag_facts_t *this);

	/**
	 * Get another reference.
	 *
	 * @return			this, with an increased reference count
	 */
	tenant_tag_facts_t *(*get_ref)(tenant_tag_facts_t *this);

	/**
	 * Release a reference.
	 */
	void (*destroy)(tenant_tag_facts_t *this);
};

/**
 * Create an empty collection of facts.
 *
 * @param connection	name of the connection, gets cloned, NULL if unknown
 * @return				facts without any completed round
 */
tenant_tag_facts_t *tenant_tag_facts_create(char *connection);

#endif /** TENANT_TAG_FACTS_H_ @}*/
