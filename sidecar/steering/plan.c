/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "plan.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <utlist.h>

#include "plan_part.h"

static unsigned address_len(int family)
{
	return family == AF_INET ? 4 : 16;
}

struct element_key plan_sa_key(unsigned profile, uint32_t spi)
{
	struct element_key key = { .set = SET_SA, .profile = (uint8_t)profile };
	uint32_t wire = htonl(spi);

	memcpy(key.lo, &wire, sizeof(wire));
	return key;
}

struct element_key plan_range_key(unsigned profile, const struct address_range *range)
{
	struct element_key key = { .profile = (uint8_t)profile };
	const unsigned len = address_len(range->family);
	const bool single = !memcmp(range->lo, range->hi, len);

	memcpy(key.lo, range->lo, len);
	if (!single)
		memcpy(key.hi, range->hi, len);
	if (range->family == AF_INET)
		key.set = single ? SET_HOST4 : SET_NET4;
	else
		key.set = single ? SET_HOST6 : SET_NET6;
	return key;
}

/* An nft element's expiry: 0 for ever. */
static int64_t element_expiry(int64_t exempt_until)
{
	return exempt_until == EXEMPT_FOREVER ? 0 : exempt_until;
}

/* Are all child SAs of one SPI of one tenant? */
static bool of_one_tenant(const struct child_sa *first)
{
	const struct child_sa *child;

	for (child = first; child; child = child->spi_next)
		if (child->tenant != first->tenant)
			return false;
	return true;
}

/* Two tenants with one SPI is a conflict whatever the kernel says. */
static enum sa_verdict judge(struct sa_check *check, struct child_sa *first)
{
	if (!of_one_tenant(first))
		return SA_CONFLICT;
	return check && first ? sa_check_judge(check, first) : SA_NOT_JUDGED;
}

/* Whose exemptions count, or NULL: nobody's; nor is a number that an IPComp state may have as well. */
static struct tenant *only_tenant(const struct child_sa *first)
{
	if (!first || !*first->tenant->name || first->spi_in <= PLAN_CPI_MAX)
		return NULL;
	return of_one_tenant(first) ? first->tenant : NULL;
}

/* May packets of this SPI bypass, as far as its SA is concerned? What cannot be told just now stays
 * as it is: there is no SA then, or it was this tenant's a moment ago. */
static bool passes(enum sa_verdict verdict, const struct child_sa *first)
{
	return verdict == SA_OK || verdict == SA_EARLY || verdict == SA_NOT_JUDGED ||
	       (verdict == SA_UNSURE && first->steered);
}

/*
 * A child SA whose SA may just be moving is not steered in the kernel but stays so in the books:
 * its flows wait for a moment, dropped, instead of being forgotten.
 */
static bool stays_in_books(enum sa_verdict verdict, const struct child_sa *first)
{
	return verdict == SA_MOVED && first->steered;
}

void plan_spi(struct model *model, struct elements *elements, unsigned profiles,
	      struct sa_check *check, uint32_t spi)
{
	struct child_sa *first = model_find_spi(model, spi), *child;
	const struct tenant *tenant = only_tenant(first);
	const enum sa_verdict verdict = judge(check, first);
	const bool pass = passes(verdict, first), keep = pass || stays_in_books(verdict, first);
	bool steered = plan_part_spi(elements, profiles, tenant, first, spi, pass) && keep;

	for (unsigned p = 0; p < profiles; p++) {
		struct element_key key = plan_sa_key(p, spi);
		int64_t until = tenant ? plan_part_whole(tenant, first, p) : 0;

		if (until && pass)
			elements_want(elements, &key, element_expiry(until));
		else
			elements_unwant(elements, &key);
		steered = steered || (until && keep);
	}
	for (child = first; child; child = child->spi_next) {
		model_set_verdict(model, child, verdict);
		model_set_steered(model, child, steered);
	}
}

static int compare_ranges(const void *a, const void *b)
{
	const struct child_range *x = a, *y = b;
	int r = x->range.family - y->range.family;

	if (!r)
		r = memcmp(x->range.lo, y->range.lo, sizeof(x->range.lo));
	return r ? r : memcmp(x->range.hi, y->range.hi, sizeof(x->range.hi));
}

static size_t collect_ranges(struct model *model, struct child_range **ret_ranges)
{
	struct child_sa *child, *next;
	size_t count = 0, used = 0;
	struct child_range *ranges;

	HASH_ITER(hh, model->children, child, next)
		count += child->range_count;
	ranges = calloc(count + 1, sizeof(*ranges));
	if (!ranges)
		return 0;
	HASH_ITER(hh, model->children, child, next)
		for (unsigned i = 0; i < child->range_count; i++)
			ranges[used++] = (struct child_range){ child->ranges[i], child };
	qsort(ranges, used, sizeof(*ranges), compare_ranges);
	*ret_ranges = ranges;
	return used;
}

/*
 * One group: ranges that overlap one another, directly or through others, hence without a
 * common address with any other group. Returns its length and how far it reaches.
 */
static size_t group_length(const struct child_range *ranges, size_t count,
			   struct address_range *ret_whole)
{
	struct address_range whole = ranges[0].range;
	size_t n = 1;

	while (n < count && ranges[n].range.family == whole.family &&
	       memcmp(ranges[n].range.lo, whole.hi, sizeof(whole.hi)) <= 0) {
		if (memcmp(ranges[n].range.hi, whole.hi, sizeof(whole.hi)) > 0)
			memcpy(whole.hi, ranges[n].range.hi, sizeof(whole.hi));
		n++;
	}
	*ret_whole = whole;
	return n;
}

/* The tenant of the whole group, or NULL after marking each of its tenants as in conflict. */
static struct tenant *group_tenant(const struct child_range *ranges, size_t count)
{
	struct tenant *tenant = ranges[0].child->tenant;
	bool shared = false;

	for (size_t i = 1; i < count; i++)
		shared = shared || ranges[i].child->tenant != tenant;
	for (size_t i = 0; shared && i < count; i++)
		ranges[i].child->tenant->conflict_found = true;
	return shared || !*tenant->name ? NULL : tenant;
}

/* Child SAs of a group that is its tenant's to the whole. */
static bool plan_whole_group(struct elements *elements, unsigned profiles,
			     const struct tenant *tenant, const struct address_range *whole)
{
	bool steered = false;

	for (unsigned p = 0; p < profiles; p++) {
		struct element_key key = plan_range_key(p, whole);
		int64_t until = model_exempt_until(tenant, p);

		if (until && elements_want(elements, &key, element_expiry(until)))
			steered = true;
	}
	return steered;
}

static void plan_group(struct elements *elements, unsigned profiles, const struct tenant *tenant,
		       const struct child_range *ranges, size_t count,
		       const struct address_range *whole)
{
	bool steered;

	if (tenant && tenant->partial) {
		plan_part_group(elements, profiles, tenant, ranges, count, whole);
		return;
	}
	steered = tenant && plan_whole_group(elements, profiles, tenant, whole);
	for (size_t i = 0; i < count; i++)
		ranges[i].child->steered_found |= steered;
}

/* One range in conflict takes nothing from a child SA's others. */
static void settle_steered(struct model *model)
{
	struct child_sa *child, *next;

	HASH_ITER(hh, model->children, child, next) {
		model_set_steered(model, child, child->steered_found);
		child->steered_found = false;
	}
}

static void settle_conflicts(struct model *model)
{
	struct tenant *tenant, *next;

	HASH_ITER(hh, model->tenants, tenant, next) {
		if (tenant->conflict != tenant->conflict_found)
			model_touch(model, tenant);
		tenant->conflict = tenant->conflict_found;
		tenant->conflict_found = false;
	}
}

/* An address that somebody uses unknown to us could be anybody's: then none is safe to exempt. */
static bool all_addresses_known(const struct model *model)
{
	const struct child_sa *child;

	if (model->incomplete)
		return false;
	for (child = model->children; child; child = child->hh.next)
		if (child->ranges_unknown)
			return false;
	return true;
}

static void sweep(struct model *model, struct elements *elements, unsigned profiles,
		  struct child_range *ranges, size_t count)
{
	for (size_t at = 0, n; at < count; at += n) {
		struct address_range whole;

		n = group_length(ranges + at, count - at, &whole);
		plan_group(elements, profiles, group_tenant(ranges + at, n), ranges + at, n,
			   &whole);
	}
	settle_steered(model);
	settle_conflicts(model);
}

static void none_steered(struct model *model)
{
	struct child_sa *child, *next;

	HASH_ITER(hh, model->children, child, next)
		model_set_steered(model, child, false);
}

int plan_addresses(struct model *model, struct elements *elements, unsigned profiles)
{
	struct child_range *ranges = NULL;
	size_t count;
	int r = 0;

	elements_plan_begin(elements);
	if (!all_addresses_known(model)) {
		r = -EBADMSG;
	} else {
		count = collect_ranges(model, &ranges);
		if (ranges)
			sweep(model, elements, profiles, ranges, count);
		else
			r = -ENOMEM;
	}
	elements_plan_end(elements);
	free(ranges);
	if (r < 0)
		none_steered(model);
	return r;
}
