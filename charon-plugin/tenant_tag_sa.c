/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "tenant_tag_sa.h"

#include "event.h"

/**
 * Destroy virtual IPs
 */
static void clear_vips(tenant_tag_sa_t *sa)
{
	while (sa->vip_count)
	{
		sa->vip_count--;
		sa->vips[sa->vip_count]->destroy(sa->vips[sa->vip_count]);
	}
	free(sa->vips);
	sa->vips = NULL;
}

/**
 * Destroy traffic selectors
 */
static void clear_ts(traffic_selector_t **ts, u_int count)
{
	while (count--)
	{
		ts[count]->destroy(ts[count]);
	}
	free(ts);
}

/**
 * Clone an array of traffic selectors
 */
static traffic_selector_t **clone_ts(traffic_selector_t **ts, u_int count)
{
	traffic_selector_t **clone;
	u_int i;

	if (!count)
	{
		return NULL;
	}
	clone = malloc(sizeof(*clone) * count);
	for (i = 0; i < count; i++)
	{
		clone[i] = ts[i]->clone(ts[i]);
	}
	return clone;
}

/*
 * Described in header
 */
void tenant_tag_sa_set_vips(tenant_tag_sa_t *sa, enumerator_t *enumerator)
{
	host_t *host, *vips[EVENT_VIPS_MAX];
	u_int count = 0;

	clear_vips(sa);
	while (count < countof(vips) && enumerator->enumerate(enumerator, &host))
	{
		vips[count++] = host->clone(host);
	}
	enumerator->destroy(enumerator);
	if (count)
	{
		sa->vips = malloc(sizeof(*vips) * count);
		memcpy(sa->vips, vips, sizeof(*vips) * count);
		sa->vip_count = count;
	}
}

/*
 * Described in header
 */
void tenant_tag_sa_set_ts(tenant_tag_sa_t *sa, bool local,
						  enumerator_t *enumerator)
{
	traffic_selector_t *ts, *all[EVENT_TS_MAX], **copy = NULL;
	u_int count = 0;

	while (count < countof(all) && enumerator->enumerate(enumerator, &ts))
	{
		all[count++] = ts->clone(ts);
	}
	enumerator->destroy(enumerator);
	if (count)
	{
		copy = malloc(sizeof(*all) * count);
		memcpy(copy, all, sizeof(*all) * count);
	}
	if (local)
	{
		sa->local_ts = copy;
		sa->local_ts_count = count;
	}
	else
	{
		sa->remote_ts = copy;
		sa->remote_ts_count = count;
	}
}

/*
 * Described in header
 */
void tenant_tag_sa_set_remote(tenant_tag_sa_t *sa, host_t *remote)
{
	DESTROY_IF(sa->remote);
	sa->remote = remote->clone(remote);
}

/*
 * Described in header
 */
tenant_tag_sa_t *tenant_tag_sa_clone(tenant_tag_sa_t *sa)
{
	tenant_tag_sa_t *clone;
	u_int i;

	clone = malloc_thing(tenant_tag_sa_t);
	*clone = *sa;
	clone->ref = 1;
	clone->child = strdupnull(sa->child);
	clone->facts = sa->facts->get_ref(sa->facts);
	clone->remote = sa->remote ? sa->remote->clone(sa->remote) : NULL;
	clone->local_ts = clone_ts(sa->local_ts, sa->local_ts_count);
	clone->remote_ts = clone_ts(sa->remote_ts, sa->remote_ts_count);
	if (sa->vip_count)
	{
		clone->vips = malloc(sizeof(*sa->vips) * sa->vip_count);
		for (i = 0; i < sa->vip_count; i++)
		{
			clone->vips[i] = sa->vips[i]->clone(sa->vips[i]);
		}
	}
	return clone;
}

/*
 * Described in header
 */
tenant_tag_sa_t *tenant_tag_sa_get_ref(tenant_tag_sa_t *sa)
{
	ref_get(&sa->ref);
	return sa;
}

/*
 * Described in header
 */
void tenant_tag_sa_destroy(tenant_tag_sa_t *sa)
{
	if (sa && ref_put(&sa->ref))
	{
		clear_vips(sa);
		clear_ts(sa->local_ts, sa->local_ts_count);
		clear_ts(sa->remote_ts, sa->remote_ts_count);
		DESTROY_IF(sa->remote);
		sa->facts->destroy(sa->facts);
		free(sa->child);
		free(sa);
	}
}

/*
 * Described in header
 */
tenant_tag_sa_t *tenant_tag_sa_create(uint32_t child_id, uint32_t ike_id,
									  tenant_tag_facts_t *facts)
{
	tenant_tag_sa_t *sa;

	INIT(sa,
		.child_id = child_id,
		.ike_id = ike_id,
		.facts = facts,
		.ref = 1,
	);
	return sa;
}
