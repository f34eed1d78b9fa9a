/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "attribution.h"

#include <string.h>

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

static bool lets_through(const struct settings *settings, const struct active *active, int path,
			 const struct conntrack_flow *flow)
{
	const struct profile *profile;

	if (active->profile < 0)
		return false;
	profile = &settings->profiles[active->profile];
	return (int)profile->path == path && strcmp(active->scope, RECORD_SCOPE_TENANT) == 0 &&
	       settings_profile_covers(profile, flow->protocol, flow->port, &flow->destination);
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
		if (lets_through(core->settings, active, path, flow) &&
		    (!found || active->profile < found->profile))
			found = active;
	return found ? found->id : USAGE_UNATTRIBUTED;
}
