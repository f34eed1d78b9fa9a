/* SPDX-License-Identifier: GPL-2.0-or-later */

/**
 * @defgroup tenant_tag_registry tenant_tag_registry
 * @{ @ingroup tenant_tag
 */

#ifndef TENANT_TAG_REGISTRY_H_
#define TENANT_TAG_REGISTRY_H_

#include "event.h"
#include "tenant_tag_sa.h"

/**
 * Slots get_page() looks at with the mutex held
 */
#define TENANT_TAG_REGISTRY_CHUNK 64

typedef struct tenant_tag_registry_t tenant_tag_registry_t;
typedef struct tenant_tag_change_t tenant_tag_change_t;
typedef struct tenant_tag_stats_t tenant_tag_stats_t;

/**
 * A change in the registry, waiting to be published, or an entry of a page.
 */
struct tenant_tag_change_t {

	/** kind of change */
	enum event_type type;

	/** sequence number */
	uint64_t seq;

	/** wall clock, microseconds */
	int64_t time_us;

	/** CHILD_SA concerned, a reference; any of those concerned for
	 * EVENT_IKE_UPDATE */
	tenant_tag_sa_t *sa;

	/** inbound SPI of the CHILD_SA that sa replaces */
	uint32_t old_spi_in;

	/** unique id of the CHILD_SA that sa replaces */
	uint32_t old_child_id;

	/** unique id of the IKE_SA that the CHILD_SA belonged to */
	uint32_t old_ike_id;
};

/**
 * State of the registry at one moment.
 */
struct tenant_tag_stats_t {

	/** sequence number of the last change */
	uint64_t seq;

	/** changes not dequeued yet */
	u_int queued;

	/** changes lost because the queue was full */
	uint64_t dropped;

	/** CHILD_SAs known */
	u_int children;
};

/**
 * All CHILD_SAs, and the queue of changes to be published.
 *
 * One mutex protects both, so the order of the queue is that of the sequence
 * numbers, and a page tells the state at one known sequence number.  It is held
 * for short and bounded times only, never while anything is sent or logged,
 * because the callers on one side are bus hooks.
 *
 * There are as many slots as charon has CHILD_SAs.  The queue is limited: if it
 * is full, a change is applied but not queued; its sequence number is lost, so
 * that subscribers notice and ask for the state.
 */
struct tenant_tag_registry_t {

	/**
	 * Add a CHILD_SA, or replace what is known about it.
	 *
	 * With an EVENT_CHILD_REKEY, the CHILD_SA it replaces is marked: both stay
	 * valid, but if that one goes down before it is destroyed, this means
	 * nothing, see is_superseded().
	 *
	 * @param sa			CHILD_SA, adopted
	 * @param type			kind of change to publish
	 * @param old_child_id	unique id of the CHILD_SA it replaces, or 0
	 * @param old_spi_in	inbound SPI of the CHILD_SA it replaces, or 0
	 */
	void (*put)(tenant_tag_registry_t *this, tenant_tag_sa_t *sa,
				enum event_type type, uint32_t old_child_id,
				uint32_t old_spi_in);

	/**
	 * Replace what is known about CHILD_SAs of one IKE_SA, with one change of
	 * type EVENT_IKE_UPDATE for all.
	 *
	 * @param sas			CHILD_SAs, all of them known, adopted
	 * @param count			number of CHILD_SAs, at least one
	 * @param old_ike_id	unique id of the IKE_SA before, 0 if still the same
	 */
	void (*update)(tenant_tag_registry_t *this, tenant_tag_sa_t **sas,
				   u_int count, uint32_t old_ike_id);

	/**
	 * Publish a CHILD_SA again, if this is still what is known about it.
	 *
	 * @param sa			CHILD_SA
	 * @param reassigned	TRUE to publish an EVENT_CHILD_REASSIGNED, FALSE to
	 *						publish it as what it is
	 */
	void (*repeat)(tenant_tag_registry_t *this, tenant_tag_sa_t *sa,
				   bool reassigned);

	/**
	 * Remove a CHILD_SA, and publish that, if it is known.
	 *
	 * @param child_id		unique id
	 */
	void (*remove)(tenant_tag_registry_t *this, uint32_t child_id);

	/**
	 * Get what is known about a CHILD_SA.
	 *
	 * @param child_id		unique id
	 * @return				reference, NULL if not known
	 */
	tenant_tag_sa_t *(*get)(tenant_tag_registry_t *this, uint32_t child_id);

	/**
	 * Check if a CHILD_SA has been replaced by rekeying it.
	 *
	 * @param child_id		unique id
	 * @return				TRUE if known and replaced
	 */
	bool (*is_superseded)(tenant_tag_registry_t *this, uint32_t child_id);

	/**
	 * Take changes from the queue.
	 *
	 * @param changes		receives changes, release each sa
	 * @param max			how many to take at most
	 * @return				number of changes taken
	 */
	u_int (*dequeue)(tenant_tag_registry_t *this, tenant_tag_change_t *changes,
					 u_int max);

	/**
	 * Get the CHILD_SAs in the slots from a cursor on, looking at no more than
	 * TENANT_TAG_REGISTRY_CHUNK slots.
	 *
	 * @param cursor		where to start, 0 for the first, gets advanced
	 * @param page			receives CHILD_SAs, release each sa
	 * @param max			how many to return at most
	 * @param more			FALSE if there are no more slots
	 * @return				number of CHILD_SAs returned
	 */
	u_int (*get_page)(tenant_tag_registry_t *this, uint64_t *cursor,
					  tenant_tag_change_t *page, u_int max, bool *more);

	/**
	 * Get sequence number and counters.
	 *
	 * @param stats			receives them
	 */
	void (*get_stats)(tenant_tag_registry_t *this, tenant_tag_stats_t *stats);

	/**
	 * Check if there are changes in the queue, and say who looks for the next
	 * ones: as long as the caller does so itself, the file descriptor does not
	 * get readable for them.  Waking a thread on an idle CPU is most of what
	 * putting a change costs, see tenant_tag_publisher.c.
	 *
	 * @param attending		TRUE if the caller will look again soon
	 * @return				TRUE if there are changes
	 */
	bool (*pending)(tenant_tag_registry_t *this, bool attending);

	/**
	 * Get a file descriptor that gets readable when the queue is no longer
	 * empty and nobody is attending, or wake() was called; acknowledge() makes
	 * it unreadable.
	 *
	 * @return				file descriptor
	 */
	int (*get_fd)(tenant_tag_registry_t *this);

	/**
	 * Make the file descriptor readable.
	 */
	void (*wake)(tenant_tag_registry_t *this);

	/**
	 * Make the file descriptor unreadable, before looking at the queue.
	 */
	void (*acknowledge)(tenant_tag_registry_t *this);

	/**
	 * Destroy a tenant_tag_registry_t.
	 */
	void (*destroy)(tenant_tag_registry_t *this);
};

/**
 * Create a registry.
 *
 * @param queue			changes the queue can hold
 * @return				registry, NULL on failure
 */
tenant_tag_registry_t *tenant_tag_registry_create(u_int queue);

#endif /** TENANT_TAG_REGISTRY_H_ @}*/
