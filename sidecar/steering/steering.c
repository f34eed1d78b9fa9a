/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "steering.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"

/* Rules and routes are looked at every n-th tick: nobody but an admin removes them. */
#define ROUTE_TICKS 2
/* Batches with grants in one flush; about a millisecond. */
#define GRANT_BATCHES 1
/* After elements were read back, at least so many ticks pass before they are again. */
#define OBSERVE_TICKS 10
/* What still differs after so many looks is being changed meanwhile: it counts as not read. */
#define OBSERVE_LOOKS 5

struct steering {
	const struct settings *settings;
	struct elements *elements;
	struct nft *nft;
	struct route *route;
	steering_repaired repaired;
	void *user;
	enum steering_mode mode; /* wanted */
	bool skeleton;           /* is in the kernel, and elements were observed */
	bool allowed;
	bool leased; /* the last renewal was for somebody */
	bool seen_failing;
	const char *reason; /* why not, while not allowed */
	bool suspicious;    /* somebody else committed, elements not read back since */
	bool unread;        /* they could not be: what is there may be anything */
	bool offload_asked; /* since somebody else committed */
	bool offloaded;     /* a flowtable takes tenants' flows off the rules; offload says which */
	bool flows_unchecked; /* some may have been offloaded; not told yet */
	char offload[NFT_SENTENCE_MAX];
	unsigned ticks, observed_at;
	struct steering_counters counters;
	struct element removals[NFT_BATCH_MAX], additions[NFT_BATCH_MAX];
};

static int open_nft(struct steering *steering, char error[ROUTE_ERROR_MAX])
{
	int r = nft_open(steering->settings, &steering->nft);

	if (r == -EPERM)
		strcpy(error, "CAP_NET_ADMIN is missing: steerd cannot program nftables");
	else if (r == -EOPNOTSUPP)
		strcpy(error,
		       "this kernel has no nf_tables (CONFIG_NF_TABLES, CONFIG_NF_TABLES_INET)");
	else if (r < 0)
		snprintf(error, ROUTE_ERROR_MAX, "cannot open nf_tables: %s", strerror(-r));
	return r;
}

static int open_route(struct steering *steering, char error[ROUTE_ERROR_MAX])
{
	int r = route_open(steering->settings, &steering->route);

	if (r < 0) {
		snprintf(error, ROUTE_ERROR_MAX, "cannot open rtnetlink: %s", strerror(-r));
		return r;
	}
	return route_check_free(steering->route, error);
}

int steering_open(const struct settings *settings, struct elements *elements,
		  steering_repaired repaired, void *user, struct steering **ret_steering,
		  char error[ROUTE_ERROR_MAX])
{
	struct steering *steering = calloc(1, sizeof(*steering));
	int r;

	if (!steering) {
		strcpy(error, "no memory");
		return -ENOMEM;
	}
	steering->settings = settings;
	steering->elements = elements;
	steering->repaired = repaired;
	steering->user = user;
	steering->mode = STEERING_AUTO;
	steering->reason = "charon's plugin has not been heard yet";
	r = open_nft(steering, error);
	if (r == 0)
		r = open_route(steering, error);
	if (r < 0) {
		steering_close(steering);
		return r;
	}
	*ret_steering = steering;
	return 0;
}

void steering_close(struct steering *steering)
{
	if (!steering)
		return;
	nft_close(steering->nft);
	route_close(steering->route);
	free(steering);
}

void steering_hand_over(struct steering *from, struct steering *to)
{
	nft_hand_over(from->nft, to->nft);
}

static const char *reason(int r)
{
	return r == -ESTALE ? "each look at its elements found others" : strerror(-r);
}

/* Say once that the kernel refuses, and once that it does no longer. */
static int note_result(struct steering *steering, int r, const char *what)
{
	if (r < 0)
		steering->counters.failures++;
	if (r < 0 && !steering->seen_failing)
		log_error("steering", "the kernel refused %s (%s); enforcing, trying again", what,
			  reason(r));
	if (r == 0 && steering->seen_failing)
		log_info("steering", "the kernel accepts %s again", what);
	steering->seen_failing = r < 0;
	return r;
}

static void observe_one(const struct element *element, void *user)
{
	elements_observe(user, element);
}

static int observe(struct steering *steering, uint64_t *ret_wrong)
{
	bool last = false;
	int r = 0;

	elements_observe_begin(steering->elements);
	for (unsigned i = 0; i < OBSERVE_LOOKS && r == 0 && !last; i++) {
		elements_set_clock(steering->elements, clock_boottime_us(), clock_monotonic_us());
		r = nft_each_element(steering->nft, observe_one, steering->elements);
		if (r == 0)
			last = elements_observe_end(steering->elements, ret_wrong);
	}
	if (r == 0 && !last)
		r = -ESTALE;
	steering->unread = r < 0;
	return r;
}

static int ensure_skeleton(struct steering *steering, bool *ret_adopted)
{
	const char *error = "";
	uint64_t wrong;
	int r;

	/* Commits of others so far are no longer counted after this. */
	steering->offload_asked = false;
	r = nft_ensure(steering->nft, steering->mode, ret_adopted, &error);

	if (r < 0 && !steering->seen_failing)
		log_error("steering", "nftables refuses the table: %s", error);
	if (r == 0)
		r = observe(steering, &wrong);
	steering->skeleton = r == 0;
	return r;
}

static int ensure_routes(struct steering *steering, unsigned *ret_changed)
{
	unsigned changed = 0;
	int r = route_ensure(steering->route, steering->mode, &changed);

	steering->counters.routes_changed += changed;
	*ret_changed = changed;
	return r;
}

int steering_set_mode(struct steering *steering, enum steering_mode mode)
{
	char problem[ROUTE_ERROR_MAX];
	bool adopted = false;
	unsigned changed;
	int r;

	if (steering->mode == mode && steering->skeleton)
		return 0;
	steering->mode = mode;
	r = ensure_skeleton(steering, &adopted);
	if (r == 0)
		log_info("steering", "%s mode, table inet %s %s",
			 mode == STEERING_SA ? "SA" : "address", steering->settings->nft_table,
			 adopted ? "taken over as it is" : "made");
	ensure_routes(steering, &changed);
	if (route_rp_filter_problem(steering->settings, problem))
		log_warning("route", "%s", problem);
	return note_result(steering, r, "the nft table");
}

enum steering_mode steering_mode(const struct steering *steering)
{
	return steering->mode;
}

static void note_offload(struct steering *steering, bool offloaded)
{
	if (offloaded && !steering->offloaded)
		log_error("steering", "%s; enforcing, steerctl doctor says how to mend it",
			  steering->offload);
	if (!offloaded && steering->offloaded)
		log_info("steering", "no flowtable takes tenants' flows off the rules any more");
	if (offloaded && !steering->offloaded)
		steering->flows_unchecked = true;
	steering->offloaded = offloaded;
}

/*
 * Packets of an offloaded flow pass no rules, so neither a revocation nor the lease would end it.
 * What cannot be read may be one. A dump that others' commits tore is repeated at the next tick.
 */
static bool is_offloaded(struct steering *steering)
{
	int r;

	if (steering->offload_asked)
		return steering->offloaded;
	r = nft_offload_problem(steering->nft, steering->mode, steering->offload);
	if (r == -EINTR)
		return steering->offloaded;
	if (r < 0)
		snprintf(steering->offload, sizeof(steering->offload),
			 "whether flowtables take tenants' flows off the rules cannot be read (%s)",
			 strerror(-r));
	steering->offload_asked = r >= 0;
	note_offload(steering, r != 0);
	return steering->offloaded;
}

static int renew(struct steering *steering, bool enable)
{
	int r;

	enable = enable && !is_offloaded(steering);
	r = nft_renew(steering->nft, enable ? (1u << steering->settings->profile_count) - 1 : 0);

	/* A table that is gone lets nothing pass: that is what was asked for. */
	if (r == -ENOENT && !enable)
		r = 0;
	steering->counters.renewals += r == 0;
	if (r == 0)
		steering->leased = enable;
	return r;
}

/*
 * A stranger's commit, or one of ours refused: look at what is there, put it right. Elements are
 * read back, so the next flush works from what the kernel really holds.
 */
static int repair(struct steering *steering)
{
	bool adopted = false, lost = nft_check(steering->nft) != 1;
	uint64_t wrong = 0;
	int r;

	if (lost) {
		steering->leased = false;
		r = ensure_skeleton(steering, &adopted);
	} else {
		r = observe(steering, &wrong);
	}
	steering->suspicious = r < 0;
	if (r == 0)
		steering->observed_at = steering->ticks;
	if (r == 0 && (lost || wrong)) {
		steering->counters.repairs++;
		steering->repaired(steering->user,
				   lost ? "the nft table was gone or changed"
					: "elements were changed",
				   lost ? elements_wanted(steering->elements) : wrong);
	}
	return r;
}

/*
 * All withdrawals, and then some grants: a caller that waits behind us may want to withdraw.
 * Returns 1 if there are more.
 */
static int flush_batches(struct steering *steering)
{
	struct element_batch batch = { .removals = steering->removals,
				       .additions = steering->additions };
	unsigned grants = 0;
	int r = 0;

	elements_set_clock(steering->elements, clock_boottime_us(), clock_monotonic_us());
	while (r == 0 && elements_next_batch(steering->elements, NFT_BATCH_MAX, clock_boottime_us(),
					     &batch)) {
		int64_t began = clock_monotonic_us();

		if (batch.addition_count && grants++ == GRANT_BATCHES)
			return 1;
		r = nft_apply(steering->nft, batch.removals, batch.removal_count, batch.additions,
			      batch.addition_count);
		if (r == 0) {
			steering->counters.commits++;
			elements_committed(steering->elements, &batch,
					   clock_monotonic_us() - began);
		}
	}
	return r;
}

int steering_flush(struct steering *steering)
{
	int r;

	/* Nothing heard yet: what is left in the kernel from before dies with its lease. */
	if (steering->mode == STEERING_AUTO)
		return 0;
	if (!steering->skeleton)
		return -ENOENT;
	r = flush_batches(steering);
	if (r >= 0)
		return r;
	steering->counters.failures++;
	r = repair(steering);
	if (r == 0)
		r = flush_batches(steering);
	/* What cannot be brought in order cannot be trusted with a lease either. */
	if (note_result(steering, r < 0 ? r : 0, "set elements") < 0) {
		steering->skeleton = false;
		renew(steering, false);
	}
	return r;
}

int steering_withdraw(struct steering *steering)
{
	int r = nft_renew(steering->nft, 0);

	/* There is no table, or one with other profiles, as before a reload. */
	if (r == -ENOENT)
		r = nft_remove(steering->nft);
	if (r == 0)
		steering->leased = false;
	return r;
}

void steering_allow(struct steering *steering, bool allow, const char *reason)
{
	steering->allowed = allow;
	steering->reason = allow ? NULL : reason;
	/* A tick gives the lease when the elements have been read. */
	if (allow && steering->unread)
		return;
	/* A table that was taken over may have its former owner's lease, though none is ours. */
	if (steering->skeleton || steering->leased || (!allow && steering->mode != STEERING_AUTO))
		note_result(steering, renew(steering, allow && steering->skeleton), "the lease");
}

bool steering_active(const struct steering *steering, const char **ret_reason)
{
	*ret_reason = steering->reason;
	if (!steering->allowed)
		return false;
	if (!steering->skeleton)
		*ret_reason = "the kernel refuses steerd's nft table";
	else if (steering->offloaded)
		*ret_reason = steering->offload;
	else if (!steering->leased)
		*ret_reason = "the kernel refuses to renew the lease";
	return steering->skeleton && steering->leased;
}

/*
 * On a gateway where others commit all the time, only the cheap question whether our table is
 * still whole is asked each time; reading back its elements is put off for a while.
 */
static void look_after_strangers(struct steering *steering)
{
	if (nft_foreign_commit(steering->nft) != 0) {
		steering->suspicious = true;
		steering->offload_asked = false;
	}
	if (!steering->suspicious)
		return;
	if (!steering->unread && steering->ticks - steering->observed_at < OBSERVE_TICKS &&
	    nft_check(steering->nft) == 1)
		return;
	if (note_result(steering, repair(steering), "the nft table") == 0)
		steering_flush(steering);
}

static void look_after_routes(struct steering *steering)
{
	unsigned changed;

	ensure_routes(steering, &changed);
	if (!changed)
		return;
	steering->counters.repairs++;
	steering->repaired(steering->user, "rules or routes were gone or changed", changed);
}

static void restore_skeleton(struct steering *steering)
{
	bool adopted;

	if (note_result(steering, ensure_skeleton(steering, &adopted), "the nft table") == 0)
		steering_flush(steering);
}

/* A dump that fails once or twice costs no flow anything: the lease lasts longer. */
static bool shall_renew(const struct steering *steering, bool may)
{
	return steering->allowed ? may && !steering->unread : steering->leased;
}

void steering_tick(struct steering *steering, bool may_renew)
{
	if (steering->mode == STEERING_AUTO)
		return;
	if (!steering->skeleton)
		restore_skeleton(steering);
	if (steering->skeleton)
		look_after_strangers(steering);
	if (steering->skeleton && shall_renew(steering, may_renew) &&
	    note_result(steering, renew(steering, steering->allowed), "the lease") < 0)
		steering->skeleton = false;
	if (++steering->ticks % ROUTE_TICKS == 0)
		look_after_routes(steering);
}

bool steering_flows_unchecked(struct steering *steering)
{
	bool unchecked = steering->flows_unchecked && !steering->leased;

	if (unchecked)
		steering->flows_unchecked = false;
	return unchecked;
}

int steering_remove(const struct settings *settings)
{
	struct nft *nft = NULL;
	struct route *route = NULL;
	int r = nft_open(settings, &nft), s;

	if (r == 0)
		r = nft_remove(nft);
	nft_close(nft);
	s = route_open(settings, &route);
	if (s == 0)
		s = route_remove(route);
	route_close(route);
	return r < 0 ? r : s;
}

int steering_has_element(struct steering *steering, const struct element_key *key)
{
	return nft_has_element(steering->nft, key);
}

int steering_holds(struct steering *steering, const struct element_key *packet)
{
	return nft_holds(steering->nft, packet);
}

int steering_lease_remaining(struct steering *steering, unsigned profile)
{
	return nft_lease_remaining(steering->nft, profile);
}

struct steering_counters steering_counters(const struct steering *steering)
{
	return steering->counters;
}

int steering_packet_counters(struct steering *steering, struct nft_counters *ret_counters)
{
	return steering->skeleton ? nft_read_counters(steering->nft, ret_counters) : -ENOENT;
}
