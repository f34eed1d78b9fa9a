/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "boxes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define ADDRESS 16
/* Where some box begins, or the first address behind one. */
#define POINTS_MAX (2 * BOXES_MAX)

/* A stretch of destinations that is covered until one time. */
struct stretch {
	struct address_range range;
	int64_t until;
};

struct stretches {
	struct stretch list[POINTS_MAX];
	size_t count;
};

struct work {
	const struct box *boxes;
	size_t count;
	uint8_t points[POINTS_MAX][ADDRESS], across[POINTS_MAX][ADDRESS];
	const struct box *covering[BOXES_MAX];
	struct stretches both[2], *now, *before; /* of this and of the last range of sources */
	struct address_range source;             /* of before */
	struct box *cut;
	size_t cut_count;
};

static size_t length_of(int family)
{
	return family == AF_INET ? 4 : ADDRESS;
}

static void copy(uint8_t to[ADDRESS], const uint8_t from[ADDRESS])
{
	memcpy(to, from, ADDRESS);
}

bool boxes_address_behind(const struct address_range *range, uint8_t ret_address[16])
{
	size_t at = length_of(range->family);
	uint8_t address[ADDRESS];

	copy(address, range->hi);
	while (at && ++address[at - 1] == 0)
		at--;
	if (at)
		copy(ret_address, address);
	return at;
}

bool boxes_address_before(const struct address_range *range, uint8_t ret_address[16])
{
	size_t at = length_of(range->family);
	uint8_t address[ADDRESS];

	copy(address, range->lo);
	while (at && address[at - 1]-- == 0)
		at--;
	if (at)
		copy(ret_address, address);
	return at;
}

struct address_range boxes_everything(int family)
{
	struct address_range range = { .family = family };

	memset(range.hi, 0xff, length_of(family));
	return range;
}

bool boxes_intersect(const struct address_range *a, const struct address_range *b,
		     struct address_range *ret_range)
{
	struct address_range range = { .family = a->family };

	if (a->family != b->family)
		return false;
	copy(range.lo, memcmp(a->lo, b->lo, ADDRESS) > 0 ? a->lo : b->lo);
	copy(range.hi, memcmp(a->hi, b->hi, ADDRESS) < 0 ? a->hi : b->hi);
	if (memcmp(range.lo, range.hi, ADDRESS) > 0)
		return false;
	*ret_range = range;
	return true;
}

static int compare_points(const void *a, const void *b)
{
	return memcmp(a, b, ADDRESS);
}

static size_t add_points(uint8_t points[][ADDRESS], size_t count, const struct address_range *range)
{
	copy(points[count++], range->lo);
	if (boxes_address_behind(range, points[count]))
		count++;
	return count;
}

static size_t sort_points(uint8_t points[][ADDRESS], size_t count)
{
	size_t kept = 0;

	qsort(points, count, ADDRESS, compare_points);
	for (size_t i = 0; i < count; i++)
		if (!kept || memcmp(points[kept - 1], points[i], ADDRESS) != 0)
			memmove(points[kept++], points[i], ADDRESS);
	return kept;
}

/* From a point up to the next one, or to the last address there is. */
static struct address_range range_at(int family, uint8_t points[][ADDRESS], size_t count, size_t i)
{
	struct address_range range = boxes_everything(family);

	copy(range.lo, points[i]);
	if (i + 1 < count) {
		struct address_range next = { .family = family };

		copy(next.lo, points[i + 1]);
		boxes_address_before(&next, range.hi);
	}
	return range;
}

static bool holds(const struct address_range *range, const uint8_t address[ADDRESS])
{
	return memcmp(range->lo, address, ADDRESS) <= 0 && memcmp(address, range->hi, ADDRESS) <= 0;
}

/* Does the second begin where the first ends? */
static bool adjoin(const struct address_range *first, const struct address_range *second)
{
	uint8_t behind[ADDRESS];

	return boxes_address_behind(first, behind) && !memcmp(behind, second->lo, ADDRESS);
}

static void add_stretch(struct stretches *stretches, const struct address_range *range,
			int64_t until)
{
	struct stretch *last = stretches->count ? &stretches->list[stretches->count - 1] : NULL;

	if (last && last->until == until && adjoin(&last->range, range))
		copy(last->range.hi, range->hi);
	else
		stretches->list[stretches->count++] = (struct stretch){ *range, until };
}

/* The destinations of the boxes in work->covering. */
static void cut_destinations(struct work *work, size_t covering)
{
	const int family = work->covering[0]->source.family;
	size_t count = 0;

	for (size_t i = 0; i < covering; i++)
		count = add_points(work->across, count, &work->covering[i]->destination);
	count = sort_points(work->across, count);
	for (size_t p = 0; p < count; p++) {
		const struct address_range range = range_at(family, work->across, count, p);
		int64_t until = 0;

		for (size_t i = 0; i < covering; i++)
			if (holds(&work->covering[i]->destination, range.lo) &&
			    work->covering[i]->until > until)
				until = work->covering[i]->until;
		if (until)
			add_stretch(work->now, &range, until);
	}
}

static bool same_stretches(const struct stretches *a, const struct stretches *b)
{
	if (a->count != b->count)
		return false;
	for (size_t i = 0; i < a->count; i++)
		if (a->list[i].until != b->list[i].until ||
		    memcmp(&a->list[i].range, &b->list[i].range, sizeof(a->list[i].range)) != 0)
			return false;
	return true;
}

/* What is known of the sources so far is as wide as it gets. */
static int put_before(struct work *work)
{
	if (work->cut_count + work->before->count > BOXES_CUT_MAX)
		return -E2BIG;
	for (size_t i = 0; i < work->before->count; i++)
		work->cut[work->cut_count++] = (struct box){ work->source,
							     work->before->list[i].range,
							     work->before->list[i].until };
	work->before->count = 0;
	return 0;
}

static void swap_stretches(struct work *work)
{
	struct stretches *before = work->before;

	work->before = work->now;
	work->now = before;
}

static int cut_source(struct work *work, const struct address_range *source)
{
	size_t covering = 0;
	int r;

	for (size_t i = 0; i < work->count; i++)
		if (holds(&work->boxes[i].source, source->lo))
			work->covering[covering++] = &work->boxes[i];
	work->now->count = 0;
	if (covering)
		cut_destinations(work, covering);
	if (work->before->count && work->now->count && adjoin(&work->source, source) &&
	    same_stretches(work->before, work->now)) {
		copy(work->source.hi, source->hi);
		return 0;
	}
	r = put_before(work);
	swap_stretches(work);
	work->source = *source;
	return r;
}

static int cut(struct work *work)
{
	size_t count = 0;
	int r = 0;

	for (size_t i = 0; i < work->count; i++)
		count = add_points(work->points, count, &work->boxes[i].source);
	count = sort_points(work->points, count);
	for (size_t p = 0; r == 0 && p < count; p++) {
		const struct address_range source = range_at(work->boxes[0].source.family,
							     work->points, count, p);

		r = cut_source(work, &source);
	}
	return r < 0 ? r : put_before(work);
}

int boxes_cut(const struct box *boxes, size_t count, struct box *ret_cut, size_t *ret_count)
{
	struct work *work;
	int r;

	*ret_count = 0;
	if (count > BOXES_MAX)
		return -E2BIG;
	/* The usual case. */
	if (count == 1)
		ret_cut[(*ret_count)++] = boxes[0];
	if (count <= 1)
		return 0;
	work = malloc(sizeof(*work));
	if (!work)
		return -ENOMEM;
	work->boxes = boxes;
	work->count = count;
	work->cut = ret_cut;
	work->cut_count = 0;
	work->now = &work->both[0];
	work->before = &work->both[1];
	work->before->count = 0;
	r = cut(work);
	*ret_count = work->cut_count;
	free(work);
	return r;
}
