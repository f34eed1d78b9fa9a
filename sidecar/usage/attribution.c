/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "attribution.h"

#include <string.h>

#include "exceptions/active.h"
#include "settings/settings_destinations.h"
#include "usage_store.h"

struct tenant *attribution_tenant(struct core *core, const struct address *source,
				  bool *ret_several)
{
	struct tenant *tenant = NULL;
	enum owner owner = OWNER_SEVERAL;

	/* A child SA that was too many to keep may have the address, too. */
	if (!core->model.incomplete)
		owner = owners_find(core->owners, source, &tenant);
	if (ret_several)
		*ret_several = owner == OWNER_SEVERAL;
	return owner == OWNER_ONE && *tenant->name ? tenant : NULL;
}

static int find_path(const struct settings *settings, uint32_t mark)
{
	for (unsigned i = 0; i < settings->path_count; i++)
		if (settings->paths[i].mark == (mark & settings->mark_mask))
			return (int)i;
	return -1;
}

/* With more child SAs than that nobody looks at each for its identity, flow after flow. */
#define CHILDREN_MAX 1024

/* May the flow be one of these child SAs', and is it for certain? */
static enum owner find_user(const struct tenant *tenant, const char *identity,
			    const struct address *source)
{
	const struct child_sa *child = tenant->children;
	unsigned his = 0, others = 0;

	if (tenant->child_count > CHILDREN_MAX)
		return OWNER_SEVERAL;
	for (; child; child = child->tenant_next) {
		bool has = false;

		for (unsigned i = 0; i < child->range_count; i++)
			has = has || model_range_holds(&child->ranges[i], source);
		his += has && strcmp(child->identity, identity) == 0;
		others += has && strcmp(child->identity, identity) != 0;
	}
	if (his && others)
		return OWNER_SEVERAL;
	return his ? OWNER_ONE : OWNER_NONE;
}

static enum owner find_part(const struct tenant *tenant, const struct scope *scope,
			    const struct conntrack_flow *flow)
{
	bool to = !scope || !scope->destination_count;

	for (unsigned i = 0; scope && i < scope->destination_count; i++)
		to = to || model_range_holds(&scope->destinations[i], &flow->destination);
	if (!to)
		return OWNER_NONE;
	if (!scope || scope->kind == SCOPE_TENANT)
		return OWNER_ONE;
	if (scope->kind == SCOPE_USER)
		return find_user(tenant, scope->identity, &flow->source);
	return model_range_holds(&scope->range, &flow->source) ? OWNER_ONE : OWNER_NONE;
}

/* May this exception have let the flow through, and is it for certain? */
static enum owner lets_through(const struct settings *settings, const struct active *active,
			       int path, const struct conntrack_flow *flow)
{
	const struct profile *profile;

	if (active->profile < 0 || active->unreadable)
		return OWNER_NONE;
	profile = &settings->profiles[active->profile];
	if ((int)profile->path != path ||
	    !settings_profile_covers(profile, flow->protocol, flow->port, &flow->destination))
		return OWNER_NONE;
	return find_part(active->tenant, active->scope, flow);
}

static bool is_before(const struct active *a, const struct active *b)
{
	return a->profile != b->profile ? a->profile < b->profile : a->id < b->id;
}

uint64_t attribution_find(void *user, const struct conntrack_flow *flow)
{
	struct core *core = user;
	const struct tenant *tenant = attribution_tenant(core, &flow->source, NULL);
	const int path = find_path(core->settings, flow->mark);
	const struct active *found = NULL, *active;

	if (!tenant || path < 0)
		return USAGE_UNATTRIBUTED;
	active = exceptions_of(core->exceptions, tenant->name);
	for (; active; active = active->tenant_next) {
		const enum owner lets = lets_through(core->settings, active, path, flow);

		if (lets == OWNER_SEVERAL)
			return USAGE_UNATTRIBUTED;
		if (lets == OWNER_ONE && (!found || is_before(active, found)))
			found = active;
	}
	return found ? found->id : USAGE_UNATTRIBUTED;
}
