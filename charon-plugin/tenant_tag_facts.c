/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "tenant_tag_facts.h"

#include <collections/array.h>
#include <credentials/certificates/certificate.h>
#include <eap/eap.h>

/**
 * Facts kept per peer.  RADIUS servers may assign any number of groups, beyond
 * this the peer counts as ambiguous anyway.
 */
#define MAX_FACTS 64

typedef struct private_tenant_tag_facts_t private_tenant_tag_facts_t;

/**
 * Private data of a tenant_tag_facts_t object.
 */
struct private_tenant_tag_facts_t {

	/**
	 * Public tenant_tag_facts_t interface.
	 */
	tenant_tag_facts_t public;

	/**
	 * Proven facts, as fact_t
	 */
	array_t *facts;

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
 * A proven fact
 */
typedef struct {
	/** how it was proven */
	tenant_tag_source_t source;
	/** proven identity */
	identification_t *id;
} fact_t;

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
void tenant_tag_tenant_destroy(tenant_tag_tenant_t *tenant)
{
	if (tenant)
	{
		free(tenant->name);
		free(tenant->identity);
		free(tenant->reason);
		free(tenant);
	}
}

METHOD(tenant_tag_facts_t, add, void,
	private_tenant_tag_facts_t *this, tenant_tag_source_t source,
	identification_t *id)
{
	enumerator_t *enumerator;
	fact_t *known, fact = {
		.source = source,
	};
	bool found = FALSE;

	enumerator = array_create_enumerator(this->facts);
	while (enumerator->enumerate(enumerator, &known))
	{
		if (known->source == source && known->id->equals(known->id, id))
		{
			found = TRUE;
			break;
		}
	}
	enumerator->destroy(enumerator);
	if (!found && array_count(this->facts) < MAX_FACTS)
	{
		fact.id = id->clone(id);
		array_insert(this->facts, ARRAY_TAIL, &fact);
	}
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

CALLBACK(filter_source, bool,
	tenant_tag_source_t *source, enumerator_t *orig, va_list args)
{
	identification_t **out;
	fact_t *fact;

	VA_ARGS_VGET(args, out);

	while (orig->enumerate(orig, &fact))
	{
		if (fact->source == *source)
		{
			*out = fact->id;
			return TRUE;
		}
	}
	return FALSE;
}

METHOD(tenant_tag_facts_t, create_enumerator, enumerator_t*,
	private_tenant_tag_facts_t *this, tenant_tag_source_t source)
{
	tenant_tag_source_t *data;

	data = malloc_thing(tenant_tag_source_t);
	*data = source;
	return enumerator_create_filter(array_create_enumerator(this->facts),
									filter_source, data, free);
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
	fact_t fact;

	if (ref_put(&this->ref))
	{
		while (array_remove(this->facts, ARRAY_TAIL, &fact))
		{
			fact.id->destroy(fact.id);
		}
		array_destroy(this->facts);
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
		.facts = array_create(sizeof(fact_t), 0),
		.connection = strdupnull(connection),
		.ref = 1,
	);

	return &this->public;
}
