/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "tenant_tag_facts.h"

#include <credentials/certificates/certificate.h>
#include <eap/eap.h>

/**
 * Facts kept per peer.  RADIUS servers may assign any number of groups, beyond
 * this the peer counts as ambiguous anyway.
 */
#define MAX_FACTS 64

/**
 * Facts to have room for at first, most peers have fewer; what a bus hook costs
 * is memory allocation mostly
 */
#define FEW_FACTS 4

typedef struct private_tenant_tag_facts_t private_tenant_tag_facts_t;

/**
 * A proven fact
 */
typedef struct {
	/** how it was proven */
	tenant_tag_source_t source;
	/** proven identity */
	identification_t *id;
} fact_t;

/**
 * Private data of a tenant_tag_facts_t object.
 */
struct private_tenant_tag_facts_t {

	/**
	 * Public tenant_tag_facts_t interface.
	 */
	tenant_tag_facts_t public;

	/**
	 * Proven facts
	 */
	fact_t *facts;

	/**
	 * Number of facts
	 */
	u_int count;

	/**
	 * Room for facts where they are
	 */
	u_int room;

	/**
	 * Where they are at first
	 */
	fact_t few[FEW_FACTS];

	/**
	 * Name of the connection
	 */
	char *connection;

	/**
	 * Number of authentication rounds
	 */
	u_int rounds;

	/**
	 * Reference counter
	 */
	refcount_t ref;
};

/**
 * What of an authentication round matters here, not owned
 */
typedef struct {
	auth_class_t class;
	identification_t *id;
	identification_t *eap_id;
	identification_t *xauth_id;
	certificate_t *cert;
	eap_type_t eap_type;
	uint32_t eap_vendor;
} round_t;

/*
 * Described in header
 */
char *tenant_tag_source_name(tenant_tag_source_t source)
{
	static char *names[] = {
		[TENANT_TAG_EAP] = "eap",
		[TENANT_TAG_CERT] = "cert",
		[TENANT_TAG_ID] = "id",
		[TENANT_TAG_GROUP] = "group",
		[TENANT_TAG_CONNECTION] = "connection",
		[TENANT_TAG_NONE] = "none",
	};

	return names[min(source, TENANT_TAG_NONE)];
}

/*
 * Described in header
 */
void tenant_tag_tenant_compare(tenant_tag_tenant_t *tenant,
							   tenant_tag_tenant_t *old)
{
	if (!old)
	{
		return;
	}
	if (old->name && (!tenant->name || !streq(old->name, tenant->name)))
	{
		free(tenant->before);
		tenant->before = strdup(old->name);
	}
	/* an exception may be for one user of a tenant, who is told by the identity */
	tenant->changed = tenant->before || (tenant->name && !old->name) ||
					  tenant->source != old->source ||
					  !tenant->identity != !old->identity ||
					  (tenant->identity && !streq(tenant->identity, old->identity));
}

/*
 * Described in header
 */
void tenant_tag_tenant_destroy(tenant_tag_tenant_t *tenant)
{
	if (tenant)
	{
		free(tenant->name);
		free(tenant->identity);
		free(tenant->reason);
		free(tenant->before);
		free(tenant);
	}
}

/**
 * Move the facts to where there is room for all there can be
 */
static void make_room(private_tenant_tag_facts_t *this)
{
	fact_t *facts;

	facts = malloc(sizeof(*facts) * MAX_FACTS);
	memcpy(facts, this->facts, sizeof(*facts) * this->count);
	this->facts = facts;
	this->room = MAX_FACTS;
}

METHOD(tenant_tag_facts_t, add, void,
	private_tenant_tag_facts_t *this, tenant_tag_source_t source,
	identification_t *id)
{
	u_int i;

	for (i = 0; i < this->count; i++)
	{
		if (this->facts[i].source == source &&
			this->facts[i].id->equals(this->facts[i].id, id))
		{
			return;
		}
	}
	if (this->count == MAX_FACTS)
	{
		return;
	}
	if (this->count == this->room)
	{
		make_room(this);
	}
	this->facts[this->count++] = (fact_t){
		.source = source,
		.id = id->clone(id),
	};
}

/**
 * Collect the rules of interest in one pass, groups are added as we go.  For
 * rules that can only have one value the enumerator yields the latest only.
 */
static void scan_round(private_tenant_tag_facts_t *this, auth_cfg_t *cfg,
					   round_t *round)
{
	enumerator_t *enumerator;
	auth_rule_t rule;
	void *value;

	enumerator = cfg->create_enumerator(cfg);
	while (enumerator->enumerate(enumerator, &rule, &value))
	{
		switch (rule)
		{
			case AUTH_RULE_AUTH_CLASS:
				round->class = (uintptr_t)value;
				break;
			case AUTH_RULE_IDENTITY:
				round->id = value;
				break;
			case AUTH_RULE_EAP_IDENTITY:
				round->eap_id = value;
				break;
			case AUTH_RULE_XAUTH_IDENTITY:
				round->xauth_id = value;
				break;
			case AUTH_RULE_EAP_TYPE:
				round->eap_type = (uintptr_t)value;
				break;
			case AUTH_RULE_EAP_VENDOR:
				round->eap_vendor = (uintptr_t)value;
				break;
			case AUTH_RULE_SUBJECT_CERT:
				/* the first is the one whose key verified the signature */
				round->cert = round->cert ?: value;
				break;
			case AUTH_RULE_GROUP:
				add(this, TENANT_TAG_GROUP, value);
				break;
			default:
				break;
		}
	}
	enumerator->destroy(enumerator);
}

/**
 * Get the identity a completed EAP method authenticated, if any.
 *
 * An EAP-Identity response is a mere claim, what it is worth depends on the
 * method that followed.  MD5, GTC and MSCHAPv2 look up the secret of that very
 * identity (MSCHAPv2 that of its own user name, with which it then replaces the
 * EAP-Identity).  TLS looks for a certificate with that identity, but only our
 * own implementation does so, AAA servers usually accept any certificate they
 * trust.  TTLS and PEAP authenticate an inner identity we never get to see, the
 * outer one may be anything.  SIM and AKA may switch to another identity.
 *
 * Without EAP-Identity exchange our own methods authenticate IDi.
 */
static identification_t *get_eap_identity(round_t *round, bool local)
{
	if (round->eap_vendor)
	{
		return NULL;
	}
	switch (round->eap_type)
	{
		case EAP_MSCHAPV2:
		case EAP_MD5:
		case EAP_GTC:
			break;
		case EAP_TLS:
			if (local)
			{
				break;
			}
			/* fall-through */
		default:
			return NULL;
	}
	if (!round->eap_id)
	{
		return local ? round->id : NULL;
	}
	if (round->eap_id->get_type(round->eap_id) == ID_ANY)
	{
		return NULL;
	}
	return round->eap_id;
}

METHOD(tenant_tag_facts_t, add_round, void,
	private_tenant_tag_facts_t *this, auth_cfg_t *cfg, bool local_eap)
{
	identification_t *id;
	round_t round = {
		.class = AUTH_CLASS_ANY,
		.eap_type = EAP_NAK,
	};

	this->rounds++;
	scan_round(this, cfg, &round);

	switch (round.class)
	{
		case AUTH_CLASS_EAP:
			id = get_eap_identity(&round, local_eap);
			if (id)
			{
				add(this, TENANT_TAG_EAP, id);
			}
			break;
		case AUTH_CLASS_XAUTH:
			/* recorded after the back end verified the password of this user,
			 * xauth-noauth, which verifies nothing, records %any */
			if (round.xauth_id &&
				round.xauth_id->get_type(round.xauth_id) != ID_ANY)
			{
				add(this, TENANT_TAG_EAP, round.xauth_id);
			}
			break;
		case AUTH_CLASS_PUBKEY:
			/* raw public keys also come as certificate, but without subject */
			if (round.cert && round.cert->get_type(round.cert) == CERT_X509)
			{
				add(this, TENANT_TAG_CERT, round.cert->get_subject(round.cert));
			}
			/* fall-through */
		case AUTH_CLASS_PSK:
			if (round.id)
			{
				add(this, TENANT_TAG_ID, round.id);
			}
			break;
		default:
			break;
	}
}

/**
 * Enumerator over the identities proven in one way
 */
typedef struct {
	/** implements enumerator_t */
	enumerator_t public;
	/** facts to look through */
	private_tenant_tag_facts_t *facts;
	/** how they were proven */
	tenant_tag_source_t source;
	/** next fact to look at */
	u_int next;
} fact_enumerator_t;

METHOD(enumerator_t, enumerate_facts, bool,
	fact_enumerator_t *this, va_list args)
{
	identification_t **out;
	fact_t *fact;

	VA_ARGS_VGET(args, out);

	while (this->next < this->facts->count)
	{
		fact = &this->facts->facts[this->next++];
		if (fact->source == this->source)
		{
			*out = fact->id;
			return TRUE;
		}
	}
	return FALSE;
}

METHOD(enumerator_t, destroy_enumerator, void,
	fact_enumerator_t *this)
{
	free(this);
}

METHOD(tenant_tag_facts_t, create_enumerator, enumerator_t*,
	private_tenant_tag_facts_t *this, tenant_tag_source_t source)
{
	fact_enumerator_t *enumerator;

	INIT(enumerator,
		.public = {
			.enumerate = enumerator_enumerate_default,
			.venumerate = _enumerate_facts,
			.destroy = _destroy_enumerator,
		},
		.facts = this,
		.source = source,
	);
	return &enumerator->public;
}

METHOD(tenant_tag_facts_t, get_connection, char*,
	private_tenant_tag_facts_t *this)
{
	return this->connection;
}

METHOD(tenant_tag_facts_t, get_rounds, u_int,
	private_tenant_tag_facts_t *this)
{
	return this->rounds;
}

METHOD(tenant_tag_facts_t, get_ref, tenant_tag_facts_t*,
	private_tenant_tag_facts_t *this)
{
	ref_get(&this->ref);
	return &this->public;
}

METHOD(tenant_tag_facts_t, destroy, void,
	private_tenant_tag_facts_t *this)
{
	if (ref_put(&this->ref))
	{
		while (this->count--)
		{
			this->facts[this->count].id->destroy(this->facts[this->count].id);
		}
		if (this->facts != this->few)
		{
			free(this->facts);
		}
		tenant_tag_tenant_destroy(this->public.tenant);
		free(this->connection);
		free(this);
	}
}

/*
 * Described in header
 */
tenant_tag_facts_t *tenant_tag_facts_create(char *connection)
{
	private_tenant_tag_facts_t *this;

	INIT(this,
		.public = {
			.add_round = _add_round,
			.add = _add,
			.create_enumerator = _create_enumerator,
			.get_connection = _get_connection,
			.get_rounds = _get_rounds,
			.get_ref = _get_ref,
			.destroy = _destroy,
		},
		.room = FEW_FACTS,
		.connection = strdupnull(connection),
		.ref = 1,
	);
	this->facts = this->few;

	return &this->public;
}
