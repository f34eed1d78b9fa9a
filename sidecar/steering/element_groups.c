/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "element_groups.h"

#include <stdlib.h>
#include <string.h>
#include <uthash.h>

struct element_group {
	uint32_t owner;
	size_t count;
	UT_hash_handle hh;
	struct element_key keys[]; /* in order */
};

static void drop(struct element_group **groups, struct element_group *group)
{
	HASH_DELETE(hh, *groups, group); /* NOLINT: uthash */
	free(group);
}

/* Both are in order. */
static void unwant_others(struct elements *elements, const struct element_group *group,
			  const struct element *wanted, size_t count)
{
	size_t at = 0;

	for (size_t i = 0; i < group->count; i++) {
		int r = -1;

		while (at < count &&
		       (r = memcmp(&wanted[at].key, &group->keys[i], sizeof(wanted[at].key))) < 0)
			at++;
		if (at == count || r > 0)
			elements_unwant(elements, &group->keys[i]);
	}
}

static struct element_group *new_group(struct elements *elements, uint32_t owner,
				       const struct element *wanted, size_t count)
{
	struct element_group *group = calloc(1, sizeof(*group) + count * sizeof(group->keys[0]));

	if (!group)
		return NULL;
	group->owner = owner;
	for (size_t i = 0; i < count; i++)
		if (elements_want(elements, &wanted[i].key, wanted[i].expires_us))
			group->keys[group->count++] = wanted[i].key;
	return group;
}

size_t element_groups_want(struct element_group **groups, struct elements *elements, uint32_t owner,
			   const struct element *wanted, size_t count)
{
	struct element_group *before, *group;

	HASH_FIND(hh, *groups, &owner, sizeof(owner), before);
	if (!before && !count)
		return 0;
	/* What goes makes room for what comes. */
	if (before)
		unwant_others(elements, before, wanted, count);
	group = count ? new_group(elements, owner, wanted, count) : NULL;
	if (before && count && !group)
		unwant_others(elements, before, NULL, 0);
	if (before)
		drop(groups, before);
	if (!group)
		return 0;
	HASH_ADD(hh, *groups, owner, sizeof(group->owner), group);
	return group->count;
}

void element_groups_free(struct element_group **groups)
{
	struct element_group *group, *next;

	HASH_ITER(hh, *groups, group, next)
		drop(groups, group);
}
