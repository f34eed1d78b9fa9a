/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Some time after the last fault: every packet, every element and the stream are as they should be. */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "gateway.h"
#include "kernel.h"
#include "packets.h"
#include "scopes.h"
#include "steerd.h"
#include "truth_internal.h"

/* What charon has up, and the ranges of it that meet one another, directly or through others. */
struct claim {
	const struct truth_sa *sa;
	struct address_range range;
};

struct live {
	struct truth_sa sas[TRUTH_SAS];
	unsigned count;
	struct claim claims[TRUTH_SAS * TRUTH_RANGES];
	unsigned claim_count;
};

static void list_live(struct sim *sim, const struct truth_sa *sa)
{
	struct live *live = sim->truth->live;

	if (live->count < TRUTH_SAS)
		live->sas[live->count++] = *sa;
}

static void list_claims(struct live *live)
{
	for (unsigned i = 0; i < live->count; i++)
		for (unsigned r = 0; r < live->sas[i].range_count; r++)
			live->claims[live->claim_count++] =
				(struct claim){ &live->sas[i], live->sas[i].ranges[r] };
}

static bool ranges_meet(const struct address_range *a, const struct address_range *b)
{
	return a->family == b->family && memcmp(a->lo, b->hi, 16) <= 0 &&
	       memcmp(b->lo, a->hi, 16) <= 0;
}

static void widen(struct address_range *range, const struct address_range *by)
{
	if (memcmp(by->lo, range->lo, 16) < 0)
		memcpy(range->lo, by->lo, 16);
	if (memcmp(by->hi, range->hi, 16) > 0)
		memcpy(range->hi, by->hi, 16);
}

/* The whole of the group that the range is in. False: two tenants share it. */
static bool find_group(const struct live *live, const struct truth_sa *sa,
		       struct address_range *range)
{
	bool alone = true, grown = true;

	while (grown) {
		const struct address_range before = *range;

		for (unsigned i = 0; i < live->claim_count; i++)
			if (ranges_meet(range, &live->claims[i].range)) {
				widen(range, &live->claims[i].range);
				alone = alone && live->claims[i].sa->tenant == sa->tenant;
			}
		grown = memcmp(&before, range, sizeof(before));
	}
	return alone;
}

/*
 * If steerd looks at the kernel's SAs, one that a former charon has left counts as well, and so does one
 * that has become the same tenant's.
 */
static bool has_twin(struct sim *sim, const struct truth_sa *sa)
{
	const struct live *live = sim->truth->live;

	for (unsigned i = 0; sim->settings.verify_sa && i < TRUTH_SAS; i++)
		if (sim->truth->sas[i].live && sim->truth->sas[i].left &&
		    sim->truth->sas[i].spi == sa->spi)
			return true;
	for (unsigned i = 0; i < live->count; i++)
		if (live->sas[i].spi == sa->spi && &live->sas[i] != sa &&
		    (live->sas[i].tenant != sa->tenant || sim->settings.verify_sa))
			return true;
	return false;
}

/* Of those who may have this address: in address mode it is not the packet that says who sent it. */
static bool is_only_users(struct sim *sim, const struct truth_sa *sa, const struct packet *packet)
{
	const struct live *live = sim->truth->live;

	for (unsigned i = 0; gateway_userspace(sim) && i < live->claim_count; i++)
		if (live->claims[i].range.family == packet->family &&
		    truth_in_range(&live->claims[i].range, packet->source) &&
		    live->claims[i].sa->user != sa->user)
			return false;
	return true;
}

/* Long after the last fault: does some exception by the profile let the packet pass? */
static bool is_steered(struct sim *sim, const struct truth_sa *sa, unsigned profile,
		       const struct packet *packet)
{
	for (unsigned s = 0; s < SIM_SCOPES; s++)
		if (truth_in_force(sim, sa->tenant, profile, s) && truth_covers(s, sa, packet) &&
		    (!scopes_is_of_user(s) || is_only_users(sim, sa, packet)))
			return true;
	return false;
}

static bool shall_pass(struct sim *sim, const struct truth_sa *sa, unsigned profile,
		       const struct packet *packet)
{
	return packets_covered(sim, profile, packet, true) && is_steered(sim, sa, profile, packet);
}

static void check_packet(struct sim *sim, const struct truth_sa *sa, struct packet *packet)
{
	static const struct service services[SIM_PROFILES] = { { IPPROTO_TCP, 443 },
							       { IPPROTO_UDP, 3478 } };
	char from[INET6_ADDRSTRLEN], to[INET6_ADDRSTRLEN];

	for (unsigned p = 0; p < SIM_PROFILES && !sim->failed; p++) {
		int path, wanted;

		packet->protocol = services[p].protocol;
		packet->port = services[p].port;
		wanted = shall_pass(sim, sa, p, packet) ? (int)p : -1;
		/* What the first profile leaves of its service is the second's. */
		if (p == 0 && wanted < 0 && shall_pass(sim, sa, 1, packet))
			wanted = 1;
		path = packets_path(&sim->settings, packets_run(sim, packet).mark);
		if (path == wanted)
			continue;
		inet_ntop(packet->family, packet->source, from, sizeof(from));
		inet_ntop(packet->family, packets_destination(packet), to, sizeof(to));
		sim_fail(sim,
			 "%s: %s %s (SPI %08x) from %s to %s takes path %d instead of %d, long "
			 "after the last fault",
			 path < 0 ? "NOT STEERED" : "LEAK", truth_tenant((unsigned)sa->tenant),
			 scopes_user(sa->user), sa->spi, from, to, path, wanted);
	}
}

/* To each destination. Returns whether any packet is steered, if its profile covers it. */
static bool check_source(struct sim *sim, const struct truth_sa *sa,
			 const struct address_range *range, const uint8_t *source)
{
	struct packet packet = { .family = range->family, .state = PACKET_FIRST };
	bool any = false;

	truth_fill_sa(sim, sa, &packet);
	memcpy(packet.source, source, 16);
	for (packet.to = 0; !sim->failed && packet.to < packet_destination_count; packet.to++) {
		check_packet(sim, sa, &packet);
		any = any || is_steered(sim, sa, 0, &packet) || is_steered(sim, sa, 1, &packet);
	}
	return any;
}

static bool check_range(struct sim *sim, const struct truth_sa *sa, unsigned index)
{
	const struct live *live = sim->truth->live;
	const struct address_range *range = &sa->ranges[index];
	struct address_range whole = *range;
	uint8_t source[16];
	bool any;

	if (gateway_userspace(sim) && !find_group(live, sa, &whole))
		return false;
	any = check_source(sim, sa, range, range->lo);
	any = check_source(sim, sa, range, range->hi) || any;
	for (unsigned i = 0; scopes_source(i); i++)
		if (truth_set_address(range->family, scopes_source(i), source) &&
		    truth_in_range(range, source))
			any = check_source(sim, sa, range, source) || any;
	for (unsigned i = 0; i < live->claim_count; i++)
		if (truth_in_range(range, live->claims[i].range.lo))
			any = check_source(sim, sa, range, live->claims[i].range.lo) || any;
	return any;
}

static void check_one(struct sim *sim, const struct truth_sa *sa)
{
	bool steered = false;

	if (sa->tenant < 0 || (!gateway_userspace(sim) && has_twin(sim, sa)))
		return;
	for (unsigned i = 0; i < sa->range_count; i++)
		steered = check_range(sim, sa, i) || steered;
	sim->truth->steered[sa->tenant] += steered;
}

static bool is_up(const struct truth_sa *sa, const struct element_key *key)
{
	const struct element_shape *shape = element_shape(key->set);
	const uint32_t spi = htonl(sa->spi);

	if (!shape->family || shape->spi)
		return !memcmp(shape->spi ? key->spi : key->lo, &spi, sizeof(spi));
	for (unsigned i = 0; i < sa->range_count; i++)
		if (sa->ranges[i].family == shape->family &&
		    truth_in_range(&sa->ranges[i], key->lo))
			return true;
	return false;
}

/* Does some exception cover the packets at this end of an element? */
static bool is_covered(struct sim *sim, const struct truth_sa *sa, const struct element_key *key,
		       const uint8_t *source, const uint8_t *destination)
{
	const struct element_shape *shape = element_shape(key->set);

	for (unsigned s = 0; s < SIM_SCOPES; s++)
		if (truth_in_force(sim, sa->tenant, key->profile, s) &&
		    scopes_cover_source(s, sa->user, shape->family, source) &&
		    (shape->destination ? scopes_cover_destination(s, shape->family, destination)
					: scopes_cover_everything(s)))
			return true;
	return false;
}

static bool is_right(struct sim *sim, const struct truth_sa *sa, const struct element_key *key)
{
	const struct element_shape *shape = element_shape(key->set);

	if (key->set == SET_PART) {
		for (unsigned s = 1; s < SIM_SCOPES; s++)
			if (truth_in_force(sim, sa->tenant, key->profile, s))
				return true;
		return false;
	}
	if (key->set == SET_SA)
		return truth_in_force(sim, sa->tenant, key->profile, 0) ||
		       truth_in_force(sim, sa->tenant, key->profile, SCOPES_WHOLE_USER(sa->user));
	return is_covered(sim, sa, key, key->lo, key->dst_lo) &&
	       is_covered(sim, sa, key, shape->range ? key->hi : key->lo, key->dst_hi);
}

/* What is in the kernel is there for some SA that is up. */
static void check_element(struct sim *sim, const struct element_key *key)
{
	const struct live *live = sim->truth->live;

	for (unsigned i = 0; i < live->count; i++)
		if (is_up(&live->sas[i], key) && live->sas[i].tenant >= 0 &&
		    is_right(sim, &live->sas[i], key))
			return;
	sim_fail(sim, "ELEMENTS: one of set %u of profile%u is in the kernel and should not be",
		 key->set, key->profile);
}

static void check_stream(struct sim *sim)
{
	for (unsigned t = 0; t < SIM_TENANTS && !sim->failed; t++)
		if (steerd_told(sim, truth_tenant(t)) != sim->truth->steered[t])
			sim_fail(sim,
				 "STREAM: of %s %llu child SAs are steered, the stream said %llu",
				 truth_tenant(t), (unsigned long long)sim->truth->steered[t],
				 (unsigned long long)steerd_told(sim, truth_tenant(t)));
}

void truth_check_live(struct sim *sim)
{
	const char *reason = "";
	struct live *live;

	if (sim->failed)
		return;
	if (!steerd_live(sim) || !steering_active(steerd_core(sim)->steering, &reason)) {
		sim_fail(sim, "NOT STEERING, 20 s after the last fault: %s", reason);
		return;
	}
	if (!kernel_rules(sim))
		sim_fail(sim, "RULES: ip rules are missing, 20 s after the last fault");
	/* Beyond its limit steerd exempts nobody more, or nobody at all. */
	if (steerd_core(sim)->model.incomplete)
		return;
	live = sim->truth->live = calloc(1, sizeof(*live));
	if (!live)
		abort();
	gateway_each_up(sim, list_live);
	list_claims(live);
	memset(sim->truth->steered, 0, sizeof(sim->truth->steered));
	for (unsigned i = 0; i < live->count && !sim->failed; i++)
		check_one(sim, &live->sas[i]);
	if (!sim->failed)
		kernel_each_element(sim, check_element);
	free(live);
	check_stream(sim);
}
