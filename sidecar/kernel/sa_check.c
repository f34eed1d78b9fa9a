/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "sa_check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/xfrm.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <utlist.h>

#define NONE UINT32_MAX
#define SLOTS_FIRST 256
/* With so much less than max in the table, what did not fit may fit now. */
#define ROOM_AGAIN(max) ((max) - (max) / 4)

struct slot {
	struct sa_state state;
	uint8_t round; /* of the dump that saw it last, or during which it changed */
	bool used;
	bool dead;     /* gone during a dump, which may still name it */
	uint32_t next; /* in the bucket or in the free list */
};

struct sa_check {
	struct model *model;
	void (*changed)(void *user, uint32_t spi);
	void *user;
	size_t max, count;
	struct slot *slots;
	uint32_t room, top, unused; /* allocated, ever used, first of the free list */
	uint32_t *buckets;
	uint32_t bucket_mask;
	bool dumping, doubt, unread;
	bool spoilt; /* the dump under way */
	uint8_t round;
	uint32_t dumps_begun, dumps_done; /* numbers, from 1 */
	uint32_t all_suspect;             /* like child_sa.suspect, for every SPI; 0: no */
	uint32_t *suspects;
	size_t suspect_count, suspect_room;
	uint8_t overflow[SA_CHECK_BITS / 8], overflow_before[SA_CHECK_BITS / 8];
	struct sa_check_counters counters;
};

/* SPIs of charon are random, others need not be. */
static uint32_t hash_spi(uint32_t spi)
{
	return (spi * 2654435761u) >> 8;
}

struct sa_check *sa_check_new(struct model *model, size_t max,
			      void (*changed)(void *user, uint32_t spi), void *user)
{
	struct sa_check *check = calloc(1, sizeof(*check));
	uint32_t buckets = SLOTS_FIRST;

	while (buckets < max && buckets < 1u << 24)
		buckets *= 2;
	if (check)
		check->buckets = malloc(buckets * sizeof(*check->buckets));
	if (!check || !check->buckets) {
		free(check);
		return NULL;
	}
	memset(check->buckets, 0xff, buckets * sizeof(*check->buckets));
	check->bucket_mask = buckets - 1;
	check->model = model;
	check->changed = changed;
	check->user = user;
	check->max = max;
	check->unused = NONE;
	check->unread = true;
	return check;
}

void sa_check_free(struct sa_check *check)
{
	if (!check)
		return;
	free(check->slots);
	free(check->buckets);
	free(check->suspects);
	free(check);
}

static uint32_t *bucket(struct sa_check *check, uint32_t spi)
{
	return &check->buckets[hash_spi(spi) & check->bucket_mask];
}

static bool same_key(const struct sa_state *a, const struct sa_state *b)
{
	return a->spi == b->spi && a->protocol == b->protocol && a->family == b->family &&
	       a->mark == b->mark && a->mark_mask == b->mark_mask &&
	       !memcmp(a->dst, b->dst, sizeof(a->dst));
}

/* Dead ones too: the caller looks. */
static struct slot *find(struct sa_check *check, const struct sa_state *key)
{
	for (uint32_t i = *bucket(check, key->spi); i != NONE; i = check->slots[i].next)
		if (same_key(&check->slots[i].state, key))
			return &check->slots[i];
	return NULL;
}

static bool grow(struct sa_check *check)
{
	uint32_t room = check->room ? check->room * 2 : SLOTS_FIRST;
	struct slot *slots = reallocarray(check->slots, room, sizeof(*slots));

	if (!slots)
		return false;
	check->slots = slots;
	check->room = room;
	return true;
}

static void mark_overflow(struct sa_check *check, uint32_t spi)
{
	const uint32_t bit = hash_spi(spi) % SA_CHECK_BITS;

	check->overflow[bit / 8] |= (uint8_t)(1 << bit % 8);
	check->counters.refused++;
	check->counters.overflowed = true;
}

static bool beyond_max(const struct sa_check *check, uint32_t spi)
{
	const uint32_t bit = hash_spi(spi) % SA_CHECK_BITS;

	return (check->overflow[bit / 8] | check->overflow_before[bit / 8]) & 1 << bit % 8;
}

/* Whatever does not fit, for want of memory too, is remembered as not to be checked. */
static struct slot *add(struct sa_check *check, const struct sa_state *state)
{
	uint32_t *head = bucket(check, state->spi), at = check->unused;

	if (check->count >= check->max ||
	    (at == NONE && check->top == check->room && !grow(check))) {
		mark_overflow(check, state->spi);
		return NULL;
	}
	if (at == NONE)
		at = check->top++;
	else
		check->unused = check->slots[at].next;
	check->slots[at] = (struct slot){ .state = *state, .used = true, .next = *head };
	*head = at;
	check->count++;
	return &check->slots[at];
}

static void drop(struct sa_check *check, struct slot *slot)
{
	const uint32_t at = (uint32_t)(slot - check->slots);
	uint32_t *link = bucket(check, slot->state.spi);

	while (*link != at)
		link = &check->slots[*link].next;
	*link = slot->next;
	slot->used = false;
	slot->next = check->unused;
	check->unused = at;
	check->count--;
}

static bool same_owner(const struct sa_state *a, const struct sa_state *b)
{
	return a->reqid == b->reqid && a->mode == b->mode &&
	       !memcmp(a->src, b->src, sizeof(a->src));
}

/* Returns whether that was news. */
static bool put(struct sa_check *check, const struct sa_state *state, bool updated)
{
	struct slot *slot = find(check, state);
	bool news = !slot || slot->dead || (!updated && !same_owner(&slot->state, state));

	if (!slot)
		slot = add(check, state);
	if (!slot)
		return true;
	slot->round = check->round;
	if (news)
		slot->state = *state;
	slot->dead = false;
	return news;
}

void sa_check_observe(struct sa_check *check, const struct sa_state *state, bool updated)
{
	if (put(check, state, updated))
		check->changed(check->user, state->spi);
}

/* While a dump is under way a state that is gone leaves a stone, for the dump may name it. */
static void bury(struct sa_check *check, const struct sa_state *key)
{
	struct slot *slot = find(check, key);

	if (check->dumping && !slot)
		slot = add(check, key);
	if (!slot)
		return;
	slot->round = check->round;
	slot->dead = true;
	if (!check->dumping)
		drop(check, slot);
}

void sa_check_forget(struct sa_check *check, const struct sa_state *key)
{
	bury(check, key);
	check->changed(check->user, key->spi);
}

void sa_check_flush(struct sa_check *check, uint8_t protocol)
{
	/* Who knows whether the dump under way was taken before or after. */
	check->spoilt = true;
	for (uint32_t i = 0; i < check->top; i++) {
		const struct slot *slot = &check->slots[i];
		const struct sa_state state = slot->state;

		if (slot->used && !slot->dead &&
		    (!protocol || protocol == IPPROTO_RAW || protocol == state.protocol))
			sa_check_forget(check, &state);
	}
}

void sa_check_dump_begin(struct sa_check *check)
{
	/* 0 is what a fresh slot has, so it is never a round. */
	if (++check->round == 0)
		check->round = 1;
	check->dumps_begun++;
	check->dumping = true;
	check->spoilt = false;
	for (size_t i = 0; check->counters.overflowed && i < sizeof(check->overflow); i++)
		check->overflow_before[i] |= check->overflow[i];
	memset(check->overflow, 0, sizeof(check->overflow));
}

void sa_check_dump_state(struct sa_check *check, const struct sa_state *state)
{
	const struct slot *slot = find(check, state);

	if (slot && slot->round == check->round)
		return;
	if (put(check, state, false))
		check->changed(check->user, state->spi);
}

/* What the dump has not named is gone. */
static void sweep(struct sa_check *check)
{
	for (uint32_t i = 0; i < check->top; i++) {
		struct slot *slot = &check->slots[i];
		const uint32_t spi = slot->state.spi;
		const bool dead = slot->dead;

		if (!slot->used || (slot->round == check->round && !dead))
			continue;
		drop(check, slot);
		if (!dead)
			check->changed(check->user, spi);
	}
}

/* Returns whether any SPI could not be checked before. */
static bool settle_overflow(struct sa_check *check)
{
	bool before = false, still = false;

	for (size_t i = 0; check->counters.overflowed && i < sizeof(check->overflow); i++) {
		before = before || check->overflow_before[i];
		still = still || check->overflow[i];
	}
	memset(check->overflow_before, 0, sizeof(check->overflow_before));
	check->counters.overflowed = still;
	return before;
}

/* Has a dump of this number, or a later one, come to its end? */
static bool done(const struct sa_check *check, uint32_t number)
{
	return (int32_t)(check->dumps_done - number) >= 0;
}

static void decide_all(struct sa_check *check)
{
	const struct child_sa *child;

	for (child = check->model->children; child; child = child->hh.next)
		check->changed(check->user, child->spi_in);
}

/* Those that are no suspects any more, or are judged for good. */
static void drop_cleared(struct sa_check *check)
{
	size_t kept = 0;

	for (size_t i = 0; i < check->suspect_count; i++) {
		const struct child_sa *first = model_find_spi(check->model, check->suspects[i]);

		if (first && first->suspect && !done(check, first->suspect))
			check->suspects[kept++] = check->suspects[i];
	}
	check->suspect_count = kept;
}

static void decide_suspects(struct sa_check *check)
{
	const size_t count = check->suspect_count;

	for (size_t i = 0; i < count; i++)
		check->changed(check->user, check->suspects[i]);
	drop_cleared(check);
}

bool sa_check_doubtful(const struct sa_check *check)
{
	return check->doubt || check->unread;
}

bool sa_check_dump_end(struct sa_check *check)
{
	bool all = sa_check_doubtful(check);

	if (check->spoilt)
		return false;
	check->dumping = check->doubt = check->unread = false;
	check->dumps_done = check->dumps_begun;
	check->counters.dumps++;
	all = settle_overflow(check) || all;
	if (check->all_suspect && done(check, check->all_suspect)) {
		check->all_suspect = 0;
		all = true;
	}
	sweep(check);
	if (all)
		decide_all(check);
	decide_suspects(check);
	return true;
}

void sa_check_doubt(struct sa_check *check)
{
	check->counters.doubts++;
	check->doubt = true;
	check->spoilt = true;
}

void sa_check_lose(struct sa_check *check)
{
	const bool news = !check->unread;

	check->unread = true;
	if (news)
		decide_all(check);
}

static void suspect(struct sa_check *check, uint32_t spi)
{
	if (check->suspect_count == check->suspect_room) {
		size_t room = check->suspect_room ? check->suspect_room * 2 : SLOTS_FIRST;
		uint32_t *suspects = room > SA_CHECK_SUSPECTS_MAX
					     ? NULL
					     : reallocarray(check->suspects, room,
							    sizeof(*suspects));

		if (!suspects) {
			check->all_suspect = check->dumps_begun + 1;
			return;
		}
		check->suspects = suspects;
		check->suspect_room = room;
	}
	check->suspects[check->suspect_count++] = spi;
}

/* Has the kernel confirmed it since the doubt arose? */
static bool confirmed(struct sa_check *check, struct child_sa *first)
{
	if (!first->suspect) {
		first->suspect = check->dumps_begun + 1;
		suspect(check, first->spi_in);
	}
	return done(check, first->suspect);
}

/* "192.0.2.10[4500]" */
static bool is_host(const struct sa_state *state, const char *text, const uint8_t bytes[16])
{
	char copy[INET6_ADDRSTRLEN];
	const size_t len = text ? strcspn(text, "[") : 0;
	uint8_t host[16] = { 0 };

	if (!len || len >= sizeof(copy))
		return false;
	memcpy(copy, text, len);
	copy[len] = '\0';
	return inet_pton(state->family, copy, host) == 1 && !memcmp(host, bytes, sizeof(host));
}

static bool fits_mode(const struct sa_state *state, const struct child_sa *child)
{
	if (!child->up)
		return true;
	switch (child->mode) {
	case CHILD_MODE_TUNNEL:
		return state->mode == XFRM_MODE_TUNNEL || state->mode == XFRM_MODE_TRANSPORT;
	case CHILD_MODE_TRANSPORT:
		return state->mode == XFRM_MODE_TRANSPORT;
	case CHILD_MODE_BEET:
		return state->mode == XFRM_MODE_BEET;
	default:
		return state->mode != XFRM_MODE_TUNNEL && state->mode != XFRM_MODE_TRANSPORT;
	}
}

/* charon draws the reqid while it installs the SA. */
static bool fits_reqid(const struct sa_state *state, const struct child_sa *child)
{
	return state->reqid == child->reqid || (!child->up && !child->reqid);
}

enum owner { STRANGER, PERHAPS, OWNER };

static enum owner is_owner(const struct sa_state *state, struct child_sa *child)
{
	const bool here = is_host(state, child->remote_host, state->src);
	const bool before = !here && is_host(state, child->moved_from, state->src);

	if (!fits_mode(state, child) || (!here && !before && state->reqid != child->reqid))
		return STRANGER;
	if (!fits_reqid(state, child) || (!here && !before))
		return PERHAPS;
	if (here)
		model_settle_move(child);
	return OWNER;
}

static enum owner find_owner(const struct sa_state *state, struct child_sa *first)
{
	enum owner best = STRANGER;
	struct child_sa *child;

	DL_FOREACH2(first, child, spi_next)
	{
		enum owner owner = is_owner(state, child);

		best = owner > best ? owner : best;
	}
	return best;
}

struct finding {
	const struct sa_state *one; /* any of them */
	unsigned count[OWNER + 1];
	bool several; /* destinations */
};

static void look(struct sa_check *check, struct child_sa *first, struct finding *ret_finding)
{
	const uint32_t spi = first->spi_in;

	for (uint32_t i = *bucket(check, spi); i != NONE; i = check->slots[i].next) {
		const struct sa_state *state = &check->slots[i].state;

		if (state->spi != spi || check->slots[i].dead)
			continue;
		ret_finding->count[find_owner(state, first)]++;
		if (!ret_finding->one)
			ret_finding->one = state;
		else if (memcmp(ret_finding->one->dst, state->dst, sizeof(state->dst)) ||
			 ret_finding->one->family != state->family)
			ret_finding->several = true;
	}
}

static bool any_up(const struct child_sa *first)
{
	for (; first; first = first->spi_next)
		if (first->up)
			return true;
	return false;
}

static enum sa_verdict judge(struct sa_check *check, struct child_sa *first)
{
	struct finding finding = { 0 };

	if (check->unread)
		return SA_UNREAD;
	if (beyond_max(check, first->spi_in))
		return SA_UNCHECKED;
	look(check, first, &finding);
	if (finding.several ||
	    (finding.count[STRANGER] && (finding.count[OWNER] || finding.count[PERHAPS])))
		return SA_CONFLICT;
	if (finding.count[STRANGER])
		return SA_FOREIGN;
	if (finding.count[PERHAPS])
		return confirmed(check, first) ? SA_FOREIGN : SA_MOVED;
	if (check->doubt)
		return SA_UNSURE;
	if (finding.count[OWNER])
		return SA_OK;
	if (!any_up(first))
		return SA_EARLY;
	return confirmed(check, first) ? SA_MISSING : SA_UNSURE;
}

enum sa_verdict sa_check_judge(struct sa_check *check, struct child_sa *first)
{
	const enum sa_verdict verdict = judge(check, first);

	if (verdict == SA_OK || verdict == SA_EARLY)
		first->suspect = 0;
	return verdict;
}

bool sa_check_wants_dump(const struct sa_check *check)
{
	return sa_check_doubtful(check) ||
	       (check->counters.overflowed && check->count < ROOM_AGAIN(check->max));
}

size_t sa_check_suspects(struct sa_check *check)
{
	drop_cleared(check);
	return check->suspect_count + (check->all_suspect != 0);
}

const char *sa_check_sentence(enum sa_verdict verdict)
{
	switch (verdict) {
	case SA_UNSURE:
		return "the kernel's SA with this SPI is being looked for";
	case SA_MOVED:
		return "the kernel's SA with this SPI has another peer address or reqid";
	case SA_MISSING:
		return "the kernel has no SA with this SPI";
	case SA_FOREIGN:
		return "the kernel's SA with this SPI is somebody else's";
	case SA_CONFLICT:
		return "the SPI names more than one SA, enforcing all of them";
	case SA_UNCHECKED:
		return "the kernel has more SAs than steerd can check";
	case SA_UNREAD:
		return "the kernel's SAs cannot be read";
	default:
		return NULL;
	}
}

struct sa_check_counters sa_check_counters(const struct sa_check *check)
{
	struct sa_check_counters counters = check->counters;

	counters.states = check->count;
	return counters;
}
