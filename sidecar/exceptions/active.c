/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "active.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

/* The tables grow; at first there may be one exception, or none again. */
#undef HASH_INITIAL_NUM_BUCKETS
#undef HASH_INITIAL_NUM_BUCKETS_LOG2
#define HASH_INITIAL_NUM_BUCKETS 256U
#define HASH_INITIAL_NUM_BUCKETS_LOG2 8U
#define HEAP_START 1024
#define NOT_IN_HEAP SIZE_MAX

/* A tenant's list; a tenant's name stays where it is as long as it has exceptions. */
struct holder {
	struct active *first;
	UT_hash_handle hh;
	const char *name;
};

struct actives {
	struct active *ids;
	struct holder *holders;
	struct active **heap; /* those with an end; the first of all ends at [0] */
	size_t heap_count, heap_size;
	struct active *tries[ACTIVES_TRIES_MAX];
	unsigned try_count;
};

struct actives *actives_new(void)
{
	return calloc(1, sizeof(struct actives));
}

size_t actives_count(const struct actives *actives)
{
	return HASH_CNT(hh, actives->ids);
}

/* The heap */

static void place(struct actives *actives, struct active *active, size_t at)
{
	actives->heap[at] = active;
	active->heap_at = at;
}

static void sift_up(struct actives *actives, struct active *active)
{
	size_t at = active->heap_at;

	while (at > 0 && actives->heap[(at - 1) / 2]->expires_at_us > active->expires_at_us) {
		place(actives, actives->heap[(at - 1) / 2], at);
		at = (at - 1) / 2;
	}
	place(actives, active, at);
}

static void sift_down(struct actives *actives, struct active *active)
{
	size_t at = active->heap_at, child;

	while ((child = 2 * at + 1) < actives->heap_count) {
		if (child + 1 < actives->heap_count &&
		    actives->heap[child + 1]->expires_at_us < actives->heap[child]->expires_at_us)
			child++;
		if (actives->heap[child]->expires_at_us >= active->expires_at_us)
			break;
		place(actives, actives->heap[child], at);
		at = child;
	}
	place(actives, active, at);
}

/* For one more, whether or not it has an end: it may be given one. */
static bool make_room(struct actives *actives)
{
	size_t size = actives->heap_size ? 2 * actives->heap_size : HEAP_START;
	struct active **heap;

	if (actives_count(actives) < actives->heap_size)
		return true;
	heap = realloc(actives->heap, size * sizeof(struct active *));
	if (!heap)
		return false;
	actives->heap = heap;
	actives->heap_size = size;
	return true;
}

static void push(struct actives *actives, struct active *active)
{
	place(actives, active, actives->heap_count++);
	sift_up(actives, active);
}

static void pull(struct actives *actives, struct active *active)
{
	struct active *last = actives->heap[--actives->heap_count];

	if (last != active) {
		place(actives, last, active->heap_at);
		sift_up(actives, last);
		sift_down(actives, last);
	}
	active->heap_at = NOT_IN_HEAP;
}

/* The tenants */

static struct holder *find_holder(const struct actives *actives, const char *tenant)
{
	struct holder *holder;

	HASH_FIND_STR(actives->holders, tenant, holder);
	return holder;
}

static struct holder *get_holder(struct actives *actives, const struct tenant *tenant)
{
	struct holder *holder = find_holder(actives, tenant->name);

	if (holder)
		return holder;
	holder = calloc(1, sizeof(*holder));
	if (!holder)
		return NULL;
	holder->name = tenant->name;
	HASH_ADD_KEYPTR(hh, actives->holders, holder->name, strlen(holder->name), holder);
	return holder;
}

static void leave_holder(struct actives *actives, struct active *active)
{
	struct holder *holder = find_holder(actives, active->tenant->name);

	DL_DELETE2(holder->first, active, tenant_prev, tenant_next);
	if (holder->first)
		return;
	HASH_DEL(actives->holders, holder);
	free(holder);
}

static void free_active(struct active *active)
{
	if (active)
		scope_free(active->scope);
	free(active);
}

static struct active *copy(const struct exception *exception)
{
	struct active *active = calloc(1, sizeof(*active) + strlen(exception->profile) + 1);
	char error[SCOPE_ERROR_MAX];
	int r;

	if (!active)
		return NULL;
	r = scope_parse(exception->scope, exception->destinations, &active->scope, error);
	if (r == -ENOMEM) {
		free(active);
		return NULL;
	}
	active->unreadable = r < 0;
	active->is_try = record_is_try(exception);
	strcpy(active->profile_name, exception->profile);
	return active;
}

/* The clocks */

static bool same_boot(const struct clock_reading *a, const struct clock_reading *b)
{
	return *a->boot && strcmp(a->boot, b->boot) == 0;
}

static int64_t least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/*
 * How old this boot is when the lifetime is over. Of one that was set in an earlier boot only the time
 * of day says how much is left, and no more than it ever was.
 */
static int64_t boot_end(const struct exception *exception, const struct clock_reading *now)
{
	const int64_t left = exception->expires_at_us - now->wall_us;
	const int64_t lifetime = exception->expires_at_us - exception->end_set.wall_us;

	if (same_boot(&exception->end_set, now))
		return exception->end_set.boottime_us + lifetime;
	return now->boottime_us + (exception->end_set.wall_us ? least(left, lifetime) : left);
}

static int64_t granted_boottime(const struct exception *exception, const struct clock_reading *now)
{
	const int64_t age = now->wall_us - exception->granted.wall_us;

	if (same_boot(&exception->granted, now))
		return exception->granted.boottime_us;
	return now->boottime_us - (age > 0 ? age : 0);
}

static int64_t end_by_now(const struct active *active, const struct clock_reading *now)
{
	const int64_t end = active->boot_end_us + (now->wall_us - now->boottime_us);

	return end <= active->wall_end_us - CLOCK_STEP_MIN_US ? end : active->wall_end_us;
}

/* The ends, with the time of day as it goes now. */
static void set_ends(struct active *active, const struct clock_reading *now)
{
	active->expires_at_us = end_by_now(active, now);
	active->kernel_end_us = least(active->boot_end_us,
				      active->wall_end_us - (now->wall_us - now->boottime_us));
}

int64_t active_age_us(const struct active *active, const struct clock_reading *now)
{
	const int64_t wall = now->wall_us - active->granted_at_us;
	const int64_t boottime = now->boottime_us - active->granted_boottime_us;

	return wall > boottime ? wall : boottime;
}

static void read_ends(struct active *active, const struct exception *exception,
		      const struct clock_reading *now)
{
	active->version = exception->version;
	active->wall_end_us = exception->expires_at_us;
	if (!exception->expires_at_us)
		return;
	active->boot_end_us = boot_end(exception, now);
	set_ends(active, now);
}

static void sort(struct actives *actives, struct active *active)
{
	if (!active->wall_end_us)
		return;
	if (active->heap_at == NOT_IN_HEAP)
		push(actives, active);
	sift_up(actives, active);
	sift_down(actives, active);
}

void actives_change(struct actives *actives, struct active *active, const struct exception *changed,
		    const struct clock_reading *now)
{
	active->version = changed->version;
	if (changed->expires_at_us == active->wall_end_us)
		return;
	read_ends(active, changed, now);
	sort(actives, active);
}

void actives_limit(struct actives *actives, struct active *active, int64_t boot_end_us,
		   const struct clock_reading *now)
{
	if (!active->wall_end_us || active->boot_end_us <= boot_end_us)
		return;
	active->boot_end_us = boot_end_us;
	set_ends(active, now);
	sort(actives, active);
}

void actives_set_clock(struct actives *actives, const struct clock_reading *now,
		       void (*each)(void *user, const struct active *active), void *user)
{
	struct active *active;
	size_t i;

	for (active = actives->ids; active; active = active->hh.next) {
		if (!active->wall_end_us)
			continue;
		set_ends(active, now);
		each(user, active);
	}
	for (i = actives->heap_count / 2; i > 0; i--)
		sift_down(actives, actives->heap[i - 1]);
}

/* The tries */

static bool has_room_for(const struct actives *actives, const struct active *active)
{
	return !active->is_try || actives->try_count < ACTIVES_TRIES_MAX;
}

static void leave_tries(struct actives *actives, const struct active *active)
{
	unsigned i = 0;

	while (actives->tries[i] != active)
		i++;
	actives->tries[i] = actives->tries[--actives->try_count];
}

struct active *const *actives_tries(const struct actives *actives, unsigned *ret_count)
{
	*ret_count = actives->try_count;
	return actives->tries;
}

struct active *actives_add(struct actives *actives, const struct exception *exception,
			   struct tenant *tenant, int profile, const struct clock_reading *now)
{
	struct active *active = actives_find(actives, exception->id) ? NULL : copy(exception);
	struct holder *holder = NULL;

	if (active && has_room_for(actives, active) && make_room(actives))
		holder = get_holder(actives, tenant);
	if (!holder) {
		free_active(active);
		return NULL;
	}
	active->id = exception->id;
	active->tenant = tenant;
	active->profile = active->unreadable ? -1 : profile;
	active->heap_at = NOT_IN_HEAP;
	active->granted_at_us = exception->granted.wall_us;
	active->granted_boottime_us = granted_boottime(exception, now);
	read_ends(active, exception, now);
	DL_APPEND2(holder->first, active, tenant_prev, tenant_next);
	if (active->is_try)
		actives->tries[actives->try_count++] = active;
	HASH_ADD(hh, actives->ids, id, sizeof(active->id), active);
	sort(actives, active);
	return active;
}

void actives_remove(struct actives *actives, struct active *active)
{
	if (active->heap_at != NOT_IN_HEAP)
		pull(actives, active);
	if (active->is_try)
		leave_tries(actives, active);
	leave_holder(actives, active);
	HASH_DEL(actives->ids, active);
	free_active(active);
}

struct active *actives_find(const struct actives *actives, uint64_t id)
{
	struct active *active;

	HASH_FIND(hh, actives->ids, &id, sizeof(id), active);
	return active;
}

struct active *actives_of(const struct actives *actives, const char *tenant)
{
	const struct holder *holder = find_holder(actives, tenant);

	return holder ? holder->first : NULL;
}

struct active *actives_first(const struct actives *actives)
{
	return actives->ids;
}

struct active *actives_next_end(const struct actives *actives)
{
	return actives->heap_count ? actives->heap[0] : NULL;
}

void actives_free(struct actives *actives)
{
	if (!actives)
		return;
	while (actives->ids)
		actives_remove(actives, actives->ids); /* NOLINT: uthash */
	free(actives->heap);
	free(actives);
}
