/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "tenant_tag_listener.h"

#include <daemon.h>

/**
 * Other CHILD_SAs of an IKE_SA to ask for its facts before collecting them
 */
#define MAX_SIBLINGS 4

/**
 * CHILD_SAs of an IKE_SA to update with one event
 */
#define MAX_CHILDREN 256

typedef struct private_tenant_tag_listener_t private_tenant_tag_listener_t;

/**
 * Private data of a tenant_tag_listener_t object.
 */
struct private_tenant_tag_listener_t {

	/**
	 * Public tenant_tag_listener_t interface.
	 */
	tenant_tag_listener_t public;

	/**
	 * Where to record CHILD_SAs
	 */
	tenant_tag_registry_t *registry;
};

/**
 * Records of the CHILD_SAs of an IKE_SA, to be changed
 */
typedef struct {
	/** copies of the records */
	tenant_tag_sa_t *sas[MAX_CHILDREN];
	/** number of records */
	u_int count;
} family_t;

/**
 * Check if all EAP methods that may have been used are implemented here.
 *
 * The method recorded on the IKE_SA does not tell: eap-radius and eap-dynamic
 * report the type of what they relay or select.
 */
static bool uses_local_eap(peer_cfg_t *peer_cfg)
{
	enumerator_t *enumerator;
	auth_cfg_t *cfg;
	bool local = TRUE;

	enumerator = peer_cfg->create_auth_cfg_enumerator(peer_cfg, FALSE);
	while (local && enumerator->enumerate(enumerator, &cfg))
	{
		if ((uintptr_t)cfg->get(cfg, AUTH_RULE_AUTH_CLASS) != AUTH_CLASS_EAP)
		{
			continue;
		}
		switch ((uintptr_t)cfg->get(cfg, AUTH_RULE_EAP_TYPE))
		{
			case EAP_MD5:
			case EAP_GTC:
			case EAP_MSCHAPV2:
			case EAP_TLS:
				break;
			default:
				local = FALSE;
				break;
		}
	}
	enumerator->destroy(enumerator);
	return local;
}

/**
 * Collect what the peer proved
 */
static tenant_tag_facts_t *collect_facts(ike_sa_t *ike_sa)
{
	tenant_tag_facts_t *facts;
	enumerator_t *enumerator;
	peer_cfg_t *peer_cfg;
	auth_cfg_t *round;
	bool local;

	peer_cfg = ike_sa->get_peer_cfg(ike_sa);
	local = peer_cfg && uses_local_eap(peer_cfg);
	facts = tenant_tag_facts_create(peer_cfg ? peer_cfg->get_name(peer_cfg)
											 : NULL);
	enumerator = ike_sa->create_auth_cfg_enumerator(ike_sa, FALSE);
	while (enumerator->enumerate(enumerator, &round))
	{
		facts->add_round(facts, round, local);
	}
	enumerator->destroy(enumerator);
	return facts;
}

/**
 * Get the facts from a CHILD_SA, if it belongs to the given IKE_SA
 */
static tenant_tag_facts_t *get_facts_of(private_tenant_tag_listener_t *this,
										uint32_t ike_id, child_sa_t *child_sa)
{
	tenant_tag_facts_t *facts = NULL;
	tenant_tag_sa_t *sa;

	sa = this->registry->get(this->registry,
							 child_sa->get_unique_id(child_sa));
	if (sa)
	{
		if (sa->ike_id == ike_id && sa->facts->get_rounds(sa->facts))
		{
			facts = sa->facts->get_ref(sa->facts);
		}
		tenant_tag_sa_destroy(sa);
	}
	return facts;
}

/**
 * Get what the peer proved, from its other CHILD_SAs if there are any.
 *
 * This is not only cheaper: with charon.flush_auth_cfg the IKE_SA forgets.
 */
static tenant_tag_facts_t *get_facts(private_tenant_tag_listener_t *this,
									 ike_sa_t *ike_sa, child_sa_t *child_sa)
{
	tenant_tag_facts_t *facts;
	enumerator_t *enumerator;
	child_sa_t *sibling;
	uint32_t ike_id = ike_sa->get_unique_id(ike_sa);
	int tries = 0;

	facts = get_facts_of(this, ike_id, child_sa);
	if (!facts)
	{
		enumerator = ike_sa->create_child_sa_enumerator(ike_sa);
		while (!facts && tries++ < MAX_SIBLINGS &&
			   enumerator->enumerate(enumerator, &sibling))
		{
			facts = get_facts_of(this, ike_id, sibling);
		}
		enumerator->destroy(enumerator);
	}
	return facts ?: collect_facts(ike_sa);
}

/**
 * Collect what is known about a CHILD_SA, facts are adopted
 */
static tenant_tag_sa_t *collect(ike_sa_t *ike_sa, child_sa_t *child_sa,
								tenant_tag_facts_t *facts)
{
	tenant_tag_sa_t *sa;

	sa = tenant_tag_sa_create(child_sa->get_unique_id(child_sa),
							  ike_sa->get_unique_id(ike_sa), facts);
	sa->reqid = child_sa->get_reqid(child_sa);
	sa->spi_in = ntohl(child_sa->get_spi(child_sa, TRUE));
	sa->spi_out = ntohl(child_sa->get_spi(child_sa, FALSE));
	sa->mode = child_sa->get_mode(child_sa);
	sa->child = strdupnull(child_sa->get_name(child_sa));
	tenant_tag_sa_set_remote(sa, ike_sa->get_other_host(ike_sa));
	tenant_tag_sa_set_vips(sa,
						ike_sa->create_virtual_ip_enumerator(ike_sa, FALSE));
	tenant_tag_sa_set_ts(sa, TRUE,
						child_sa->create_ts_enumerator(child_sa, TRUE));
	tenant_tag_sa_set_ts(sa, FALSE,
						child_sa->create_ts_enumerator(child_sa, FALSE));
	return sa;
}

/**
 * Copy the records of the next CHILD_SAs of an IKE_SA, FALSE if there are none
 */
static bool next_family(private_tenant_tag_listener_t *this,
						enumerator_t *children, family_t *family)
{
	child_sa_t *child_sa;
	tenant_tag_sa_t *sa;

	family->count = 0;
	while (family->count < MAX_CHILDREN &&
		   children->enumerate(children, &child_sa))
	{
		sa = this->registry->get(this->registry,
								 child_sa->get_unique_id(child_sa));
		if (sa)
		{
			family->sas[family->count++] = tenant_tag_sa_clone(sa);
			tenant_tag_sa_destroy(sa);
		}
	}
	return family->count > 0;
}

/**
 * Update id and address of the IKE_SA for all its CHILD_SAs
 */
static void update_family(private_tenant_tag_listener_t *this, ike_sa_t *ike_sa,
						  uint32_t old_ike_id, host_t *remote)
{
	enumerator_t *enumerator;
	family_t family;
	u_int i;

	enumerator = ike_sa->create_child_sa_enumerator(ike_sa);
	while (next_family(this, enumerator, &family))
	{
		for (i = 0; i < family.count; i++)
		{
			family.sas[i]->ike_id = ike_sa->get_unique_id(ike_sa);
			tenant_tag_sa_set_remote(family.sas[i], remote);
		}
		this->registry->update(this->registry, family.sas, family.count,
							   old_ike_id);
	}
	enumerator->destroy(enumerator);
}

METHOD(listener_t, child_state_change, bool,
	private_tenant_tag_listener_t *this, ike_sa_t *ike_sa,
	child_sa_t *child_sa, child_sa_state_t state)
{
	switch (state)
	{
		case CHILD_INSTALLING:
			/* the peer is authenticated, but can't know the SPI yet */
			if (ike_sa && child_sa->get_spi(child_sa, TRUE))
			{
				this->registry->put(this->registry,
						collect(ike_sa, child_sa,
								get_facts(this, ike_sa, child_sa)),
						EVENT_CHILD_INSTALLING, 0, 0);
			}
			break;
		case CHILD_DESTROYING:
			/* ike_sa may be NULL or another one here */
			this->registry->remove(this->registry,
								   child_sa->get_unique_id(child_sa));
			break;
		default:
			break;
	}
	return TRUE;
}

METHOD(listener_t, child_updown, bool,
	private_tenant_tag_listener_t *this, ike_sa_t *ike_sa,
	child_sa_t *child_sa, bool up)
{
	uint32_t child_id = child_sa->get_unique_id(child_sa);

	if (up)
	{
		this->registry->put(this->registry,
							collect(ike_sa, child_sa,
									get_facts(this, ike_sa, child_sa)),
							EVENT_CHILD_UP, 0, 0);
	}
	else if (child_sa->get_state(child_sa) != CHILD_REKEYED &&
			 !this->registry->is_superseded(this->registry, child_id))
	{	/* a CHILD_SA that has been rekeyed still receives until it is
		 * destroyed, although up to 6.0.4 charon may call it down before, e.g.
		 * in child_delete.c if it is deleted in state CHILD_DELETING */
		this->registry->remove(this->registry, child_id);
	}
	return TRUE;
}

METHOD(listener_t, child_rekey, bool,
	private_tenant_tag_listener_t *this, ike_sa_t *ike_sa,
	child_sa_t *old, child_sa_t *new)
{
	/* there is no child_updown for the new one */
	this->registry->put(this->registry,
						collect(ike_sa, new, get_facts(this, ike_sa, new)),
						EVENT_CHILD_REKEY, old->get_unique_id(old),
						ntohl(old->get_spi(old, TRUE)));
	return TRUE;
}

METHOD(listener_t, ike_rekey, bool,
	private_tenant_tag_listener_t *this, ike_sa_t *old, ike_sa_t *new)
{
	/* the CHILD_SAs have been moved already */
	update_family(this, new, old->get_unique_id(old), new->get_other_host(new));
	return TRUE;
}

METHOD(listener_t, ike_update, bool,
	private_tenant_tag_listener_t *this, ike_sa_t *ike_sa,
	host_t *local, host_t *remote)
{
	/* the IKE_SA still has the old hosts */
	update_family(this, ike_sa, 0, remote);
	return TRUE;
}

/**
 * Record again the CHILD_SAs of an IKE_SA that are known already, with what the
 * peer proved for this IKE_SA
 */
static void authenticate_again(private_tenant_tag_listener_t *this,
							   ike_sa_t *ike_sa)
{
	tenant_tag_facts_t *facts;
	enumerator_t *enumerator;
	family_t family;
	u_int i;

	facts = collect_facts(ike_sa);
	enumerator = ike_sa->create_child_sa_enumerator(ike_sa);
	while (next_family(this, enumerator, &family))
	{
		for (i = 0; i < family.count; i++)
		{
			family.sas[i]->facts->destroy(family.sas[i]->facts);
			family.sas[i]->facts = facts->get_ref(facts);
			tenant_tag_sa_set_vips(family.sas[i],
						ike_sa->create_virtual_ip_enumerator(ike_sa, FALSE));
			this->registry->put(this->registry, family.sas[i],
								EVENT_CHILD_UP, 0, 0);
		}
	}
	enumerator->destroy(enumerator);
	facts->destroy(facts);
}

/**
 * Get the id of the IKE_SA that the CHILD_SAs are recorded for, 0 if none is
 */
static uint32_t get_recorded_ike_id(private_tenant_tag_listener_t *this,
									ike_sa_t *ike_sa)
{
	enumerator_t *enumerator;
	child_sa_t *child_sa;
	tenant_tag_sa_t *sa;
	uint32_t ike_id = 0;

	enumerator = ike_sa->create_child_sa_enumerator(ike_sa);
	while (!ike_id && enumerator->enumerate(enumerator, &child_sa))
	{
		sa = this->registry->get(this->registry,
								 child_sa->get_unique_id(child_sa));
		if (sa)
		{
			ike_id = sa->ike_id;
			tenant_tag_sa_destroy(sa);
		}
	}
	enumerator->destroy(enumerator);
	return ike_id;
}

METHOD(listener_t, children_migrate, bool,
	private_tenant_tag_listener_t *this, ike_sa_t *ike_sa, ike_sa_id_t *new,
	uint32_t unique)
{
	uint32_t old_ike_id;

	/* they get moved only after the first of two calls */
	if (!new && ike_sa)
	{
		old_ike_id = get_recorded_ike_id(this, ike_sa);
		if (old_ike_id)
		{
			update_family(this, ike_sa, old_ike_id,
						  ike_sa->get_other_host(ike_sa));
			authenticate_again(this, ike_sa);
		}
	}
	return TRUE;
}

/**
 * Check if CHILD_SAs were adopted before their IKE_SA was authenticated
 */
static bool is_unproven(private_tenant_tag_listener_t *this, ike_sa_t *ike_sa)
{
	enumerator_t *enumerator;
	child_sa_t *child_sa;
	tenant_tag_sa_t *sa;
	bool unproven = FALSE;

	enumerator = ike_sa->create_child_sa_enumerator(ike_sa);
	while (!unproven && enumerator->enumerate(enumerator, &child_sa))
	{
		sa = this->registry->get(this->registry,
								 child_sa->get_unique_id(child_sa));
		if (sa)
		{
			unproven = !sa->facts->get_rounds(sa->facts);
			tenant_tag_sa_destroy(sa);
		}
	}
	enumerator->destroy(enumerator);
	return unproven;
}

METHOD(listener_t, ike_updown, bool,
	private_tenant_tag_listener_t *this, ike_sa_t *ike_sa, bool up)
{
	enumerator_t *enumerator;
	child_sa_t *child_sa;

	if (up)
	{
		if (is_unproven(this, ike_sa))
		{	/* an initiator moves them when it starts IKEv1 reauthentication */
			authenticate_again(this, ike_sa);
		}
		return TRUE;
	}
	/* also those for which the bus won't call child_updown() after this */
	enumerator = ike_sa->create_child_sa_enumerator(ike_sa);
	while (enumerator->enumerate(enumerator, &child_sa))
	{
		this->registry->remove(this->registry,
							   child_sa->get_unique_id(child_sa));
	}
	enumerator->destroy(enumerator);
	return TRUE;
}

METHOD(listener_t, assign_vips, bool,
	private_tenant_tag_listener_t *this, ike_sa_t *ike_sa, bool assign)
{
	enumerator_t *enumerator;
	family_t family;
	u_int i;

	if (!assign)
	{	/* the CHILD_SAs are gone, or get the addresses back with a new IKE_SA */
		return TRUE;
	}
	enumerator = ike_sa->create_child_sa_enumerator(ike_sa);
	while (next_family(this, enumerator, &family))
	{
		for (i = 0; i < family.count; i++)
		{
			tenant_tag_sa_set_vips(family.sas[i],
						ike_sa->create_virtual_ip_enumerator(ike_sa, FALSE));
			this->registry->put(this->registry, family.sas[i],
								EVENT_CHILD_UP, 0, 0);
		}
	}
	enumerator->destroy(enumerator);
	return TRUE;
}

METHOD(tenant_tag_listener_t, destroy, void,
	private_tenant_tag_listener_t *this)
{
	free(this);
}

/*
 * Described in header
 */
tenant_tag_listener_t *tenant_tag_listener_create(
									tenant_tag_registry_t *registry)
{
	private_tenant_tag_listener_t *this;

	INIT(this,
		.public = {
			.listener = {
				.child_state_change = _child_state_change,
				.child_updown = _child_updown,
				.child_rekey = _child_rekey,
				.ike_rekey = _ike_rekey,
				.ike_update = _ike_update,
				.ike_updown = _ike_updown,
				.children_migrate = _children_migrate,
				.assign_vips = _assign_vips,
			},
			.destroy = _destroy,
		},
		.registry = registry,
	);

	return &this->public;
}
