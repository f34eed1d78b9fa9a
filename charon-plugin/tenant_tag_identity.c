/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "tenant_tag_identity.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>

#include <collections/array.h>
#include <collections/linked_list.h>

#include "event.h"
#include "tenant_name.h"

/**
 * Order of sources if none is configured
 */
#define DEFAULT_ORDER "eap, cert, id, group, connection"

typedef struct private_tenant_tag_identity_t private_tenant_tag_identity_t;

/**
 * Private data of a tenant_tag_identity_t object.
 */
struct private_tenant_tag_identity_t {

	/**
	 * Public tenant_tag_identity_t interface.
	 */
	tenant_tag_identity_t public;

	/**
	 * Sources, in the order they are asked
	 */
	tenant_tag_source_t order[TENANT_TAG_NONE];

	/**
	 * Number of sources in order
	 */
	u_int sources;

	/**
	 * Tenants with their patterns, as entry_t
	 */
	array_t *tenants;

	/**
	 * Number of this configuration
	 */
	u_int generation;
};

/**
 * A configured tenant
 */
typedef struct {
	/** name of the tenant */
	char *name;
	/** identities it uses, identification_t */
	linked_list_t *patterns;
} entry_t;

/**
 * A match in the map of tenants
 */
typedef struct {
	/** best matching tenant, NULL if none matches */
	entry_t *tenant;
	/** another tenant that matches as well */
	entry_t *other;
	/** quality of the match */
	id_match_t quality;
} match_t;

/**
 * Generation of the last object created
 */
static refcount_t last_generation = 0;

/**
 * Remove leading and trailing space, in place
 */
static char *trim(char *str)
{
	char *end;

	while (isspace((u_char)*str))
	{
		str++;
	}
	end = str + strlen(str);
	while (end > str && isspace((u_char)end[-1]))
	{
		*--end = '\0';
	}
	return str;
}

/**
 * Check if a part of a value reads like an RDN, i.e. "CN=something"
 */
static bool is_rdn(char *part)
{
	size_t len;

	len = strspn(part, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
					   "0123456789.");
	return len && part[len] == '=';
}

/**
 * Add a pattern, or extend the previous one if both are parts of one DN
 */
static void add_part(linked_list_t *list, char *part, bool quoted, bool *open)
{
	char *last, *joined;
	size_t len;

	part = trim(part);
	if (!*part)
	{	/* nothing to match, but an empty identity would match everything */
		return;
	}
	if (!quoted && *open && is_rdn(part) &&
		list->remove_last(list, (void**)&last) == SUCCESS)
	{
		len = strlen(last) + strlen(", ") + strlen(part) + 1;
		joined = malloc(len);
		snprintf(joined, len, "%s, %s", last, part);
		list->insert_last(list, joined);
		free(last);
		return;
	}
	*open = !quoted && is_rdn(part);
	list->insert_last(list, strdup(part));
}

/*
 * Described in header
 */
linked_list_t *tenant_tag_identity_split(char *value)
{
	linked_list_t *list;
	char *copy, *part, *pos, *out, quote = '\0';
	bool quoted = FALSE, open = FALSE;

	list = linked_list_create();
	copy = strdup(value);
	for (pos = part = out = copy; *pos; pos++)
	{
		if (quote ? *pos == quote : (*pos == '"' || *pos == '\''))
		{
			quote = quote ? '\0' : *pos;
			quoted = TRUE;
		}
		else if (*pos == ',' && !quote)
		{
			*out = '\0';
			add_part(list, part, quoted, &open);
			part = out = pos + 1;
			quoted = FALSE;
		}
		else
		{
			*out++ = *pos;
		}
	}
	*out = '\0';
	add_part(list, part, quoted, &open);
	free(copy);
	return list;
}

/**
 * Create an unidentified result, with the reason printf()-like
 */
static tenant_tag_tenant_t *unidentified(tenant_tag_source_t source,
										 char *identity, char *fmt, ...)
{
	tenant_tag_tenant_t *tenant;
	va_list args;
	char buf[EVENT_STRING_MAX];

	va_start(args, fmt);
	vsnprintf(buf, sizeof(buf), fmt, args);
	va_end(args);
	INIT(tenant,
		.identity = strdupnull(identity),
		.source = source,
		.reason = strdup(buf),
	);
	return tenant;
}

/**
 * Create an identified result
 */
static tenant_tag_tenant_t *identified(tenant_tag_source_t source,
									   char *identity, char *name)
{
	tenant_tag_tenant_t *tenant;

	INIT(tenant,
		.name = strdup(name),
		.identity = strdup(identity),
		.source = source,
	);
	return tenant;
}

/**
 * Look for an identity in the map of tenants, keep the best match
 */
static void match_tenants(private_tenant_tag_identity_t *this,
						  identification_t *id, match_t *match)
{
	enumerator_t *tenants, *patterns;
	identification_t *pattern;
	id_match_t quality, best;
	entry_t *entry;

	tenants = array_create_enumerator(this->tenants);
	while (tenants->enumerate(tenants, &entry))
	{
		best = ID_MATCH_NONE;
		patterns = entry->patterns->create_enumerator(entry->patterns);
		while (patterns->enumerate(patterns, &pattern))
		{
			quality = id->matches(id, pattern);
			best = max(best, quality);
		}
		patterns->destroy(patterns);

		if (best > match->quality)
		{
			match->tenant = entry;
			match->other = NULL;
			match->quality = best;
		}
		else if (best != ID_MATCH_NONE && best == match->quality &&
				 entry != match->tenant)
		{
			match->other = entry;
		}
	}
	tenants->destroy(tenants);
}

/**
 * Check if a name is that of a configured tenant
 */
static bool is_configured(private_tenant_tag_identity_t *this, char *name)
{
	enumerator_t *enumerator;
	entry_t *entry;
	bool found = FALSE;

	enumerator = array_create_enumerator(this->tenants);
	while (enumerator->enumerate(enumerator, &entry))
	{
		if (strcaseeq(entry->name, name))
		{
			found = TRUE;
			break;
		}
	}
	enumerator->destroy(enumerator);
	return found;
}

/**
 * Get the bytes to make a name of, such that no two identities have the same.
 *
 * What %Y prints won't do: it replaces what is not printable, and a DN with the
 * single RDN CN="x, O=Acme" prints like one with two.  So strings are taken as
 * they are, and a DN only if its text, parsed, is the same DN again.
 */
static bool get_unique_text(identification_t *id, char *text, chunk_t *out)
{
	identification_t *parsed;
	bool unique;

	switch (id->get_type(id))
	{
		case ID_FQDN:
		case ID_RFC822_ADDR:
		case ID_KEY_ID:
			*out = id->get_encoding(id);
			return TRUE;
		case ID_IPV4_ADDR:
		case ID_IPV6_ADDR:
			*out = chunk_from_str(text);
			return TRUE;
		case ID_DER_ASN1_DN:
			parsed = identification_create_from_string(text);
			unique = parsed->get_type(parsed) == ID_DER_ASN1_DN &&
					 parsed->equals(parsed, id);
			parsed->destroy(parsed);
			*out = chunk_from_str(text);
			return unique;
		default:
			return FALSE;
	}
}

/**
 * Make the tenant's name from the identity itself
 */
static tenant_tag_tenant_t *name_after(private_tenant_tag_identity_t *this,
									   tenant_tag_source_t source,
									   identification_t *id, char *text)
{
	char name[TENANT_NAME_MAX + 1];
	chunk_t unique;

	if (!get_unique_text(id, text, &unique))
	{
		return unidentified(source, text, "this identity has no unambiguous "
							"name, match it with a pattern");
	}
	if (!tenant_name_encode((char*)unique.ptr, unique.len, name))
	{
		return unidentified(source, text, "the identity makes a name of more "
							"than %d characters, match it with a pattern",
							TENANT_NAME_MAX);
	}
	if (is_configured(this, name))
	{
		return unidentified(source, text, "the identity reads like the "
							"configured tenant %s, but does not match it", name);
	}
	return identified(source, text, name);
}

/**
 * Resolve a single identity
 */
static tenant_tag_tenant_t *resolve_id(private_tenant_tag_identity_t *this,
									   tenant_tag_source_t source,
									   identification_t *id)
{
	char text[EVENT_STRING_MAX];
	match_t match = {};

	snprintf(text, sizeof(text), "%Y", id);
	if (id->get_type(id) == ID_ANY || id->contains_wildcards(id))
	{	/* would match the patterns of others, or secrets and certificates */
		return unidentified(source, text, "the identity has wildcards");
	}
	match_tenants(this, id, &match);
	if (match.other)
	{
		return unidentified(source, text, "the identity matches both tenant %s "
							"and tenant %s", match.tenant->name,
							match.other->name);
	}
	if (match.tenant)
	{
		return identified(source, text, match.tenant->name);
	}
	return name_after(this, source, id, text);
}

/**
 * Resolve several groups: those the map does not know don't matter if it knows
 * another.
 */
static tenant_tag_tenant_t *resolve_groups(private_tenant_tag_identity_t *this,
										   tenant_tag_facts_t *facts)
{
	tenant_tag_tenant_t *found = NULL;
	enumerator_t *enumerator;
	identification_t *id;
	char text[EVENT_STRING_MAX] = "", other[TENANT_NAME_MAX + 1] = "";

	enumerator = facts->create_enumerator(facts, TENANT_TAG_GROUP);
	while (!*other && enumerator->enumerate(enumerator, &id))
	{
		match_t match = {};

		snprintf(text, sizeof(text), "%Y", id);
		if (id->get_type(id) == ID_ANY || id->contains_wildcards(id))
		{
			continue;
		}
		match_tenants(this, id, &match);
		if (match.other)
		{
			snprintf(other, sizeof(other), "%s", match.other->name);
		}
		else if (match.tenant && found &&
				 !streq(found->name, match.tenant->name))
		{
			snprintf(other, sizeof(other), "%s", found->name);
		}
		if (match.tenant)
		{
			tenant_tag_tenant_destroy(found);
			found = identified(TENANT_TAG_GROUP, text, match.tenant->name);
		}
	}
	enumerator->destroy(enumerator);

	if (*other)
	{
		tenant_tag_tenant_t *ambiguous;

		ambiguous = unidentified(TENANT_TAG_GROUP, text, "its groups belong to "
								 "both tenant %s and tenant %s", other,
								 found->name);
		tenant_tag_tenant_destroy(found);
		return ambiguous;
	}
	return found ?: unidentified(TENANT_TAG_GROUP, text, "it has several "
								 "groups and none is that of a configured "
								 "tenant");
}

/**
 * Combine the results for two identities from the same source
 */
static tenant_tag_tenant_t *combine(tenant_tag_tenant_t *a,
									tenant_tag_tenant_t *b)
{
	tenant_tag_tenant_t *both;

	if (!b->name || (a->name && streq(a->name, b->name)))
	{
		both = b;
		tenant_tag_tenant_destroy(a);
		return both;
	}
	if (!a->name)
	{
		tenant_tag_tenant_destroy(b);
		return a;
	}
	both = unidentified(b->source, b->identity, "it proved to be both tenant "
						"%s and tenant %s", a->name, b->name);
	tenant_tag_tenant_destroy(a);
	tenant_tag_tenant_destroy(b);
	return both;
}

/**
 * Resolve what one source yields, NULL if nothing
 */
static tenant_tag_tenant_t *resolve_source(private_tenant_tag_identity_t *this,
										   tenant_tag_source_t source,
										   tenant_tag_facts_t *facts)
{
	tenant_tag_tenant_t *tenant = NULL, *current;
	enumerator_t *enumerator;
	identification_t *id;
	u_int count = 0;

	if (source == TENANT_TAG_CONNECTION)
	{
		if (facts->get_connection(facts))
		{
			id = identification_create_from_string(facts->get_connection(facts));
			tenant = resolve_id(this, source, id);
			id->destroy(id);
		}
		return tenant;
	}
	enumerator = facts->create_enumerator(facts, source);
	while (enumerator->enumerate(enumerator, &id))
	{
		current = resolve_id(this, source, id);
		tenant = tenant ? combine(tenant, current) : current;
		count++;
	}
	enumerator->destroy(enumerator);

	if (source == TENANT_TAG_GROUP && count > 1)
	{
		tenant_tag_tenant_destroy(tenant);
		tenant = resolve_groups(this, facts);
	}
	return tenant;
}

METHOD(tenant_tag_identity_t, resolve, tenant_tag_tenant_t*,
	private_tenant_tag_identity_t *this, tenant_tag_facts_t *facts)
{
	tenant_tag_tenant_t *tenant = NULL;
	tenant_tag_source_t source;
	u_int i;

	for (i = 0; i < this->sources && !tenant; i++)
	{
		source = this->order[i];
		if (source != TENANT_TAG_CONNECTION && !facts->get_rounds(facts))
		{	/* don't fall back just because we can't tell */
			tenant = unidentified(TENANT_TAG_NONE, NULL, "no authentication is "
								  "on record for this IKE_SA");
			break;
		}
		tenant = resolve_source(this, source, facts);
	}
	if (!tenant)
	{
		tenant = unidentified(TENANT_TAG_NONE, NULL, "the authentication proved "
							  "no identity of the configured kinds");
	}
	tenant->generation = this->generation;
	return tenant;
}

METHOD(tenant_tag_identity_t, get_generation, u_int,
	private_tenant_tag_identity_t *this)
{
	return this->generation;
}

METHOD(tenant_tag_identity_t, destroy, void,
	private_tenant_tag_identity_t *this)
{
	entry_t entry;

	while (array_remove(this->tenants, ARRAY_TAIL, &entry))
	{
		entry.patterns->destroy_offset(entry.patterns,
									   offsetof(identification_t, destroy));
		free(entry.name);
	}
	array_destroy(this->tenants);
	free(this);
}

/**
 * Find a source by its name
 */
static tenant_tag_source_t get_source(char *name)
{
	tenant_tag_source_t source;

	for (source = 0; source < TENANT_TAG_NONE; source++)
	{
		if (strcaseeq(name, tenant_tag_source_name(source)))
		{
			break;
		}
	}
	return source;
}

/**
 * Read the order of sources
 */
static void load_order(private_tenant_tag_identity_t *this)
{
	enumerator_t *enumerator;
	tenant_tag_source_t source;
	bool seen[TENANT_TAG_NONE] = {};
	char *name;

	enumerator = enumerator_create_token(
					lib->settings->get_str(lib->settings,
						"%s.plugins.tenant-tag.identity", DEFAULT_ORDER, lib->ns),
					",", " ");
	while (enumerator->enumerate(enumerator, &name))
	{
		source = get_source(name);
		if (source == TENANT_TAG_NONE)
		{
			DBG1(DBG_CFG, "tenant-tag: unknown identity source '%s', ignoring",
				 name);
		}
		else if (!seen[source])
		{
			seen[source] = TRUE;
			this->order[this->sources++] = source;
		}
	}
	enumerator->destroy(enumerator);
	if (!this->sources)
	{
		DBG1(DBG_CFG, "tenant-tag: no identity source configured, no tenant "
			 "will be identified");
	}
}

/**
 * Parse the patterns of a tenant
 */
static linked_list_t *load_patterns(char *name, char *value)
{
	linked_list_t *parts, *patterns;
	identification_t *id;
	char *part;

	patterns = linked_list_create();
	parts = tenant_tag_identity_split(value);
	while (parts->remove_first(parts, (void**)&part) == SUCCESS)
	{
		id = identification_create_from_string(part);
		if (id->get_type(id) == ID_ANY)
		{
			DBG1(DBG_CFG, "tenant-tag: pattern '%s' of tenant %s would match "
				 "everybody, ignoring", part, name);
			id->destroy(id);
		}
		else
		{
			patterns->insert_last(patterns, id);
		}
		free(part);
	}
	parts->destroy(parts);
	return patterns;
}

/**
 * Read the map of tenants
 */
static void load_tenants(private_tenant_tag_identity_t *this)
{
	enumerator_t *enumerator;
	char *name, *value;
	entry_t entry;

	enumerator = lib->settings->create_section_enumerator(lib->settings,
								"%s.plugins.tenant-tag.tenants", lib->ns);
	while (enumerator->enumerate(enumerator, &name))
	{
		if (!tenant_name_valid(name))
		{
			DBG1(DBG_CFG, "tenant-tag: '%s' is no valid tenant name, ignoring",
				 name);
			continue;
		}
		value = lib->settings->get_str(lib->settings,
							"%s.plugins.tenant-tag.tenants.%s.match", "",
							lib->ns, name);
		entry = (entry_t){
			.name = strdup(name),
			.patterns = load_patterns(name, value),
		};
		if (!entry.patterns->get_count(entry.patterns))
		{	/* still listed, so that nobody else can be called that */
			DBG1(DBG_CFG, "tenant-tag: tenant %s has nothing to match", name);
		}
		array_insert(this->tenants, ARRAY_TAIL, &entry);
	}
	enumerator->destroy(enumerator);
}

/*
 * Described in header
 */
tenant_tag_identity_t *tenant_tag_identity_create()
{
	private_tenant_tag_identity_t *this;

	INIT(this,
		.public = {
			.resolve = _resolve,
			.get_generation = _get_generation,
			.destroy = _destroy,
		},
		.tenants = array_create(sizeof(entry_t), 0),
		.generation = ref_get(&last_generation),
	);

	load_order(this);
	load_tenants(this);

	return &this->public;
}
