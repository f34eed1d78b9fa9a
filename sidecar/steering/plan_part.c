/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "plan_part.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/log.h"
#include "boxes.h"
#include "plan.h"

/* What is found for one SPI or group. While it is put together, ends are as in struct exemption. */
struct list {
	struct element *elements;
	size_t count, room;
	bool failed;
};

struct heap {
	struct box boxes[BOXES_MAX];
	size_t count;
	bool full;
};

/* Two heaps, because in address mode the sets for what is limited to destinations are others. */
enum { ANYWHERE, SOMEWHERE, HEAPS };

struct draft {
	struct elements *elements;
	const struct tenant *tenant;
	uint32_t spi;        /* 0: address mode */
	unsigned profile;    /* that is looked at, */
	int64_t whole_until; /* and until when everything is exempt by it anyhow */
	struct list list;
	struct heap heaps[HEAPS];
	struct box cut[BOXES_CUT_MAX];
};

static void empty(struct heap *heap)
{
	heap->count = 0;
	heap->full = false;
}

static struct draft *new_draft(struct elements *elements, const struct tenant *tenant, uint32_t spi)
{
	struct draft *draft = malloc(sizeof(*draft));

	if (!draft) {
		log_error("plan", "no memory for the parts of \"%s\", enforcing them",
			  tenant->name);
		return NULL;
	}
	draft->elements = elements;
	draft->tenant = tenant;
	draft->spi = spi;
	draft->list = (struct list){ 0 };
	for (unsigned i = 0; i < HEAPS; i++)
		empty(&draft->heaps[i]);
	return draft;
}

static void free_draft(struct draft *draft)
{
	free(draft->list.elements);
	free(draft);
}

static void put(struct list *list, const struct element_key *key, int64_t until)
{
	if (list->count == list->room) {
		const size_t room = list->room ? 2 * list->room : 16;
		struct element *grown = reallocarray(list->elements, room, sizeof(*grown));

		if (!grown) {
			list->failed = true;
			return;
		}
		list->elements = grown;
		list->room = room;
	}
	list->elements[list->count++] = (struct element){ *key, until };
}

static int compare_elements(const void *a, const void *b)
{
	const struct element *x = a, *y = b;

	return memcmp(&x->key, &y->key, sizeof(x->key));
}

/* Into order, of each key the one that ends last, with ends as elements have them. */
static void tidy(struct draft *draft)
{
	struct list *list = &draft->list;
	size_t kept = 0;

	if (list->failed) {
		log_error("plan", "no memory for the parts of \"%s\", enforcing them",
			  draft->tenant->name);
		list->count = 0;
	}
	if (list->count > 1)
		qsort(list->elements, list->count, sizeof(*list->elements), compare_elements);
	for (size_t i = 0; i < list->count; i++) {
		struct element *last = kept ? &list->elements[kept - 1] : NULL;

		if (!last || compare_elements(last, &list->elements[i]) != 0)
			list->elements[kept++] = list->elements[i];
		else if (last->expires_us < list->elements[i].expires_us)
			last->expires_us = list->elements[i].expires_us;
	}
	list->count = kept;
	for (size_t i = 0; i < kept; i++)
		if (list->elements[i].expires_us == EXEMPT_FOREVER)
			list->elements[i].expires_us = 0;
}

static struct element_key spi_key(unsigned set, unsigned profile, uint32_t spi)
{
	struct element_key key = { .set = (uint8_t)set, .profile = (uint8_t)profile };
	const uint32_t wire = htonl(spi);

	memcpy(key.spi, &wire, sizeof(wire));
	return key;
}

static void set_destinations(struct element_key *key, const struct address_range *destinations)
{
	memcpy(key->dst_lo, destinations->lo, sizeof(key->dst_lo));
	memcpy(key->dst_hi, destinations->hi, sizeof(key->dst_hi));
}

static struct element_key host_key(const struct draft *draft, const struct address_range *host)
{
	const bool six = host->family == AF_INET6;
	struct element_key key;

	if (!draft->spi)
		return plan_range_key(draft->profile, host);
	key = spi_key(six ? SET_PART_HOST6 : SET_PART_HOST4, draft->profile, draft->spi);
	memcpy(key.lo, host->lo, sizeof(key.lo));
	return key;
}

static struct element_key box_key(const struct draft *draft, unsigned heap, const struct box *box)
{
	const bool six = box->source.family == AF_INET6; /* NOLINT: boxes_cut() has filled it */
	struct element_key key;

	if (!draft->spi && heap == ANYWHERE)
		return plan_range_key(draft->profile, &box->source);
	key = spi_key(draft->spi ? (six ? SET_PART_NET6 : SET_PART_NET4)
				 : (six ? SET_PAIR6 : SET_PAIR4),
		      draft->profile, draft->spi);
	memcpy(key.lo, box->source.lo, sizeof(key.lo));
	memcpy(key.hi, box->source.hi, sizeof(key.hi));
	set_destinations(&key, &box->destination);
	return key;
}

static void put_box(struct heap *heap, const struct address_range *source,
		    const struct address_range *destination, int64_t until)
{
	if (heap->count == BOXES_MAX)
		heap->full = true;
	else
		heap->boxes[heap->count++] = (struct box){ *source, *destination, until };
}

/* The exemption covers packets from these sources, as far as their destinations go. */
static void cover(struct draft *draft, const struct exemption *exemption,
		  const struct address_range *source)
{
	const struct scope *scope = exemption->scope;
	const struct address_range everything = boxes_everything(source->family);
	struct heap *somewhere = &draft->heaps[draft->spi ? ANYWHERE : SOMEWHERE];

	for (unsigned i = 0; scope && i < scope->destination_count; i++)
		if (scope->destinations[i].family == source->family)
			put_box(somewhere, source, &scope->destinations[i], exemption->until);
	if (scope && scope->destination_count)
		return;
	if (!memcmp(source->lo, source->hi, sizeof(source->lo))) {
		const struct element_key key = host_key(draft, source);

		put(&draft->list, &key, exemption->until);
		return;
	}
	put_box(&draft->heaps[ANYWHERE], source, &everything, exemption->until);
}

/* Turn the boxes, of one family, into elements. */
static void cut_heap(struct draft *draft, unsigned heap)
{
	static struct log_limit limit;
	struct heap *from = &draft->heaps[heap];
	size_t count;
	int r = from->full ? -E2BIG : boxes_cut(from->boxes, from->count, draft->cut, &count);

	empty(from);
	for (size_t i = 0; r == 0 && i < count; i++) {
		const struct element_key key = box_key(draft, heap, &draft->cut[i]);

		put(&draft->list, &key, draft->cut[i].until);
	}
	if (r == 0)
		return;
	elements_refuse(draft->elements);
	log_limited(&limit, LOG_LEVEL_WARNING, "plan",
		    "the networks of \"%s\" cannot be cut for one of its child SAs (%s), "
		    "enforcing them there",
		    draft->tenant->name, strerror(-r));
}

/* SA mode */

static bool of_user(const struct scope *scope, const struct child_sa *first)
{
	const struct child_sa *child;

	for (child = first; child; child = child->spi_next)
		if (strcmp(child->identity, scope->identity) != 0)
			return false;
	return true;
}

/* Does it cover all packets of the SPI? */
static bool is_whole(const struct scope *scope, const struct child_sa *first)
{
	return !scope ||
	       (scope->kind == SCOPE_USER && !scope->destination_count && of_user(scope, first));
}

int64_t plan_part_whole(const struct tenant *tenant, const struct child_sa *first, unsigned profile)
{
	int64_t until = 0;

	for (unsigned i = 0; i < tenant->exemption_count; i++) {
		const struct exemption *exemption = &tenant->exemptions[i];

		if (exemption->profile == profile && exemption->until > until &&
		    is_whole(exemption->scope, first))
			until = exemption->until;
	}
	return until;
}

/* May packets of the SPI be of this family? */
static bool has_family(const struct child_sa *first, int family)
{
	const struct child_sa *child;

	for (child = first; child; child = child->spi_next) {
		if (child->ranges_unknown)
			return true;
		for (unsigned i = 0; i < child->range_count; i++)
			if (child->ranges[i].family == family)
				return true;
	}
	return false;
}

/* If several child SAs have one SPI, which of their addresses a packet may have is not told. */
static void cover_spi(struct draft *draft, const struct exemption *exemption, int family,
		      const struct child_sa *first)
{
	const struct scope *scope = exemption->scope;
	const struct address_range everything = boxes_everything(family);

	if (scope->kind == SCOPE_TENANT || (scope->kind == SCOPE_USER && of_user(scope, first)))
		cover(draft, exemption, &everything);
	if (scope->kind == SCOPE_TENANT || scope->kind == SCOPE_USER || first->spi_next)
		return;
	for (unsigned i = 0; i < first->range_count; i++) {
		struct address_range source;

		if (scope->range.family == family &&
		    boxes_intersect(&first->ranges[i], &scope->range, &source))
			cover(draft, exemption, &source);
	}
}

/* The SPI has elements in other sets of the profile from the n-th on. */
static void put_gate(struct draft *draft, size_t n)
{
	struct element_key key = plan_sa_key(draft->profile, draft->spi);
	int64_t until = 0;

	key.set = SET_PART;
	for (size_t i = n; i < draft->list.count; i++)
		if (draft->list.elements[i].expires_us > until)
			until = draft->list.elements[i].expires_us;
	if (until)
		put(&draft->list, &key, until);
}

static void draft_spi(struct draft *draft, const struct child_sa *first)
{
	static const int families[] = { AF_INET, AF_INET6 };
	const struct tenant *tenant = draft->tenant;
	const size_t n = draft->list.count;

	draft->whole_until = plan_part_whole(tenant, first, draft->profile);
	for (unsigned f = 0; f < 2; f++) {
		for (unsigned i = 0; i < tenant->exemption_count; i++) {
			const struct exemption *exemption = &tenant->exemptions[i];

			if (exemption->profile == draft->profile &&
			    exemption->until > draft->whole_until && has_family(first, families[f]))
				cover_spi(draft, exemption, families[f], first);
		}
		cut_heap(draft, ANYWHERE);
	}
	put_gate(draft, n);
}

bool plan_part_spi(struct elements *elements, unsigned profiles, const struct tenant *tenant,
		   const struct child_sa *first, uint32_t spi, bool pass)
{
	struct draft *draft = tenant && tenant->partial ? new_draft(elements, tenant, spi) : NULL;
	size_t count;

	if (!draft) {
		elements_want_group(elements, spi, NULL, 0);
		return false;
	}
	for (unsigned p = 0; p < profiles; p++) {
		draft->profile = p;
		draft_spi(draft, first);
	}
	tidy(draft);
	count = elements_want_group(elements, spi, draft->list.elements,
				    pass ? draft->list.count : 0);
	count = pass ? count : draft->list.count;
	free_draft(draft);
	return count;
}

/* Address mode */

/* The ranges of a group that are not the user's, sorted and joined. */
static size_t list_others(const struct child_range *ranges, size_t count, const char *identity,
			  struct address_range *ret_others)
{
	size_t n = 0;

	for (size_t i = 0; i < count; i++) {
		struct address_range *last = n ? &ret_others[n - 1] : NULL;

		if (!strcmp(ranges[i].child->identity, identity))
			continue;
		if (!last || memcmp(ranges[i].range.lo, last->hi, sizeof(last->hi)) > 0)
			ret_others[n++] = ranges[i].range;
		else if (memcmp(ranges[i].range.hi, last->hi, sizeof(last->hi)) > 0)
			memcpy(last->hi, ranges[i].range.hi, sizeof(last->hi));
	}
	return n;
}

/* Cover of a range what is in none of the others. */
static void cover_rest(struct draft *draft, const struct exemption *exemption,
		       const struct address_range *range, const struct address_range *others,
		       size_t count)
{
	struct address_range rest = *range;

	for (size_t i = 0; i < count; i++) {
		struct address_range piece = rest;

		if (memcmp(others[i].hi, rest.lo, sizeof(rest.lo)) < 0)
			continue;
		if (memcmp(others[i].lo, rest.hi, sizeof(rest.hi)) > 0)
			break;
		if (memcmp(others[i].lo, rest.lo, sizeof(rest.lo)) > 0) {
			boxes_address_before(&others[i], piece.hi);
			cover(draft, exemption, &piece);
		}
		if (memcmp(others[i].hi, rest.hi, sizeof(rest.hi)) >= 0 ||
		    !boxes_address_behind(&others[i], rest.lo))
			return;
	}
	cover(draft, exemption, &rest);
}

/* An address that may be another user's as well is not this one's. */
static void cover_user(struct draft *draft, const struct exemption *exemption,
		       const struct child_range *ranges, size_t count)
{
	const char *identity = exemption->scope->identity;
	struct address_range *others = calloc(count, sizeof(*others));
	size_t n;

	if (!others) {
		draft->list.failed = true;
		return;
	}
	n = list_others(ranges, count, identity, others);
	for (size_t i = 0; i < count; i++)
		if (!strcmp(ranges[i].child->identity, identity))
			cover_rest(draft, exemption, &ranges[i].range, others, n);
	free(others);
}

static void cover_group(struct draft *draft, const struct exemption *exemption,
			const struct child_range *ranges, size_t count,
			const struct address_range *whole)
{
	const struct scope *scope = exemption->scope;
	struct address_range source;

	if (!scope || scope->kind == SCOPE_TENANT)
		cover(draft, exemption, whole);
	else if (scope->kind == SCOPE_USER)
		cover_user(draft, exemption, ranges, count);
	else if (boxes_intersect(whole, &scope->range, &source))
		cover(draft, exemption, &source);
}

/* Desire what was found, and note which child SAs it concerns. */
static void want_all(struct draft *draft, const struct child_range *ranges, size_t count)
{
	const struct list *list = &draft->list;

	for (size_t e = 0; e < list->count; e++) {
		const struct element_key *key = &list->elements[e].key;
		const bool range = element_shape(key->set)->range;

		if (!elements_want(draft->elements, key, list->elements[e].expires_us))
			continue;
		for (size_t i = 0; i < count; i++)
			if (memcmp(ranges[i].range.lo, range ? key->hi : key->lo, 16) <= 0 &&
			    memcmp(key->lo, ranges[i].range.hi, 16) <= 0)
				ranges[i].child->steered_found = true;
	}
}

void plan_part_group(struct elements *elements, unsigned profiles, const struct tenant *tenant,
		     const struct child_range *ranges, size_t count,
		     const struct address_range *whole)
{
	struct draft *draft = new_draft(elements, tenant, 0);

	for (unsigned p = 0; draft && p < profiles; p++) {
		draft->profile = p;
		draft->whole_until = model_exempt_until(tenant, p);
		for (unsigned i = 0; i < tenant->exemption_count; i++) {
			const struct exemption *exemption = &tenant->exemptions[i];

			if (exemption->profile == p &&
			    (!exemption->scope || exemption->until > draft->whole_until))
				cover_group(draft, exemption, ranges, count, whole);
		}
		cut_heap(draft, ANYWHERE);
		cut_heap(draft, SOMEWHERE);
	}
	if (!draft)
		return;
	tidy(draft);
	want_all(draft, ranges, count);
	free_draft(draft);
}
