/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "attribution.h"

#include <string.h>
#include <utlist.h>

#include "active.h"
#include "settings_destinations.h"
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

static bool one_holds(const struct address_range *ranges, unsigned count,
		      const struct address *address)
{
	for (unsigned i = 0; i < count; i++)
		if (model_range_holds(&ranges[i], address))
			return true;
	return false;
}

/* An address of two users is neither's. */
static bool is_users(const struct tenant *tenant, const char *identity,
		     const struct address *address)
{
	const struct child_sa *child;
	bool found = false;

	DL_FOREACH2(tenant->children, child, tenant_next)
	{
		if (!one_holds(child->ranges, child->range_count, address))
			continue;
		if (strcmp(child->identity, identity) != 0)
			return false;
		found = true;
	}
	return found;
}

static bool covers(const struct active *active, const struct conntrack_flow *flow)
{
	const struct scope *scope = active->scope;

	if (active->unreadable)
		return false;
	if (!scope)
		return true;
	if (scope->destination_count &&
	    !one_holds(scope->destinations, scope->destination_count, &flow->destination))
		return false;
	if (scope->kind == SCOPE_USER)
		return is_users(active->tenant, scope->identity, &flow->source);
	return scope->kind == SCOPE_TENANT || model_range_holds(&scope->range, &flow->source);
}

static bool lets_through(const struct settings *settings, const struct active *active, int path,
			 const struct conntrack_flow *flow)
{
	const struct profile *profile;

	if (active->profile < 0)
		return false;
	profile = &settings->profiles[active->profile];
	return (int)profile->path == path &&
	       settings_profile_covers(profile, flow->protocol, flow->port, &flow->destination) &&
	       covers(active, flow);
}

/* What is only for a part is why it was granted; of two parts, the older one. */
static bool is_better(const struct active *active, const struct active *found)
{
	if (!found || active->profile != found->profile)
		return !found || active->profile < found->profile;
	if (!active->scope != !found->scope)
		return active->scope != NULL;
	return active->id < found->id;
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
	for (; active; active = active->tenant_next)
		if (lets_through(core->settings, active, path, flow) && is_better(active, found))
			found = active;
	return found ? found->id : USAGE_UNATTRIBUTED;
}
