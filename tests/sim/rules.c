/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "rules.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel.h"
#include "nft.h"
#include "packets.h"
#include "steerd.h"
#include "truth.h"

#define LEASES (1u << SIM_PROFILES)
#define MEMBERS (1u << SIM_PROFILES) /* in which profiles' sets a source is */

/* For each membership an SPI, and an address of each kind. */
static uint32_t spi_of(unsigned member)
{
	return 0xc0000001 + member;
}

static struct element_key key_of(enum element_set set, unsigned member, unsigned profile)
{
	struct element_key key = { .set = (uint8_t)set, .profile = (uint8_t)profile };
	const bool v6 = set == SET_HOST6 || set == SET_NET6;
	uint32_t spi = htonl(spi_of(member));

	if (set == SET_SA) {
		memcpy(key.lo, &spi, sizeof(spi));
		return key;
	}
	inet_pton(v6 ? AF_INET6 : AF_INET, v6 ? "2001:db8::" : "198.18.0.0", key.lo);
	key.lo[2] = v6 ? key.lo[2] : (uint8_t)set;
	key.lo[v6 ? 7 : 3] = (uint8_t)(member * 32 + set);
	if (set == SET_NET4 || set == SET_NET6) {
		memcpy(key.hi, key.lo, sizeof(key.hi));
		key.hi[v6 ? 15 : 3] |= 15;
		key.lo[v6 ? 15 : 3] &= 0xf0;
	}
	return key;
}

/* A configuration's rules: with conntrack or without, of a mode, for profiles that are bound or not. */
struct config {
	bool pinning, bound;
	enum steering_mode mode;
};

static struct sim *set_up(const struct config *config, unsigned leases)
{
	const enum steering_mode mode = config->mode;
	struct sim *sim = calloc(1, sizeof(*sim));
	struct element elements[SET_COUNT * MEMBERS * SIM_PROFILES];
	size_t count = 0;
	const char *error;
	struct nft *nft;
	bool adopted;

	if (!sim)
		abort();
	sim_enter(sim);
	sim->settings.pinning = config->pinning;
	sim_bind(&sim->settings, config->bound);
	for (unsigned set = 0; set < SET_COUNT; set++)
		for (unsigned m = 0; m < MEMBERS; m++)
			for (unsigned p = 0; p < SIM_PROFILES; p++)
				if (m >> p & 1 && (set == SET_SA) == (mode == STEERING_SA))
					elements[count++].key = key_of(set, m, p);
	for (size_t i = 0; i < count; i++)
		elements[i].expires_us = 0;
	if (nft_open(&sim->settings, &nft) < 0 || nft_ensure(nft, mode, &adopted, &error) < 0 ||
	    nft_apply(nft, NULL, 0, elements, count) < 0 || nft_renew(nft, leases) < 0)
		abort();
	nft_close(nft);
	return sim;
}

static void tear_down(struct sim *sim)
{
	sim_leave(sim);
	free(sim);
}

static bool differs(struct sim *sim, const struct packet *packet, bool verbose)
{
	const struct packet_fate does = packets_run(sim, packet);
	const struct packet_fate should = packets_expect(sim, packet);

	if (does.dropped == should.dropped && does.mark == should.mark &&
	    does.ct_mark == should.ct_mark && does.counted == should.counted)
		return false;
	if (verbose)
		printf("# pinning %d mode %d bound %d: spi %08x to %s protocol %u port %u state %u "
		       "reply %d mark %08x "
		       "ct %08x: the rules make it %08x, %08x, dropped %d, counter %u; the manual "
		       "%08x, %08x, dropped %d, counter %u\n",
		       sim->settings.pinning, kernel_mode(sim), sim_bound(&sim->settings),
		       packet->spi, packet_destinations[packet->to].ipv4, packet->protocol,
		       packet->port, packet->state, packet->reply, packet->mark, packet->ct_mark,
		       does.mark, does.ct_mark, does.dropped, does.counted, should.mark,
		       should.ct_mark, should.dropped, should.counted);
	return true;
}

/*
 * All marks, on the packet and on its conntrack entry; all destinations with one mark on the packet.
 * Returns how many packets, 0: one differs.
 */
static unsigned compare_marks(struct sim *sim, struct packet *packet, bool verbose)
{
	static const uint32_t marks[] = { 0, 0x01000000, 0x02000000, 0x0f000000, 0xa0345678 };
	static const uint32_t ct_marks[] = { 0,          0x01000000, 0x02000000,
					     0x41000007, 0x04000000, 0x00000007 };
	unsigned count = 0;

	for (unsigned m = 0; m < sizeof(marks) / sizeof(marks[0]); m++)
		for (unsigned c = 0; c < sizeof(ct_marks) / sizeof(ct_marks[0]); c++)
			for (unsigned to = 0; to < (m ? 1 : packet_destination_count); to++) {
				packet->mark = marks[m];
				packet->ct_mark = ct_marks[c];
				packet->to = to;
				if (differs(sim, packet, verbose))
					return 0;
				count++;
			}
	return count;
}

static unsigned compare_states(struct sim *sim, struct packet *packet, bool verbose)
{
	static const struct service services[] = { { IPPROTO_TCP, 443 }, { IPPROTO_UDP, 3478 },
						   { IPPROTO_TCP, 80 },  { IPPROTO_UDP, 443 },
						   { IPPROTO_ICMP, 0 },  { IPPROTO_ICMPV6, 0 } };
	unsigned count = 0, n;

	for (unsigned s = 0; s < sizeof(services) / sizeof(services[0]); s++)
		for (unsigned state = 0; state < PACKET_STATES; state++)
			for (unsigned reply = 0; reply < 2; reply++) {
				packet->protocol = services[s].protocol;
				packet->port = services[s].port;
				packet->state = state;
				packet->reply = reply;
				/* A new flow has no replies. */
				if (reply && state != PACKET_LATER && state != PACKET_ERROR)
					continue;
				n = compare_marks(sim, packet, verbose);
				if (!n)
					return 0;
				count += n;
			}
	return count;
}

/* What the SA was, and what came out of it. */
static unsigned compare_layers(struct sim *sim, struct packet *packet, bool verbose)
{
	static const struct {
		uint32_t reqid;
		bool second, third;
		uint32_t spi, second_reqid;
	} layers[] = {
		{ 7, false, false, 0, 0 },         { 0, false, false, 0, 0 },
		{ 7, true, false, 0xc0000099, 9 }, { 7, true, false, 0xc6336401, 0 },
		{ 7, true, false, 0x00000bad, 7 }, { 7, true, true, 0x00000bad, 7 },
		{ 7, true, true, 0xc6336401, 0 },
	};
	unsigned count = 0, n;

	for (unsigned l = 0; l < (packet->spi ? sizeof(layers) / sizeof(layers[0]) : 1); l++) {
		packet->reqid = packet->spi ? layers[l].reqid : 0;
		packet->second.there = layers[l].second;
		packet->second.spi = layers[l].spi;
		packet->second.reqid = layers[l].second_reqid;
		packet->third.there = layers[l].third;
		n = compare_states(sim, packet, verbose);
		if (!n)
			return 0;
		count += n;
	}
	return count;
}

static unsigned compare_sources(struct sim *sim, enum element_set set, bool verbose)
{
	unsigned count = 0, n;

	/* by one and by another; of SAs, with packets of either family */
	for (unsigned m = 0; m < MEMBERS; m++)
		for (unsigned way = 0; way < (set == SET_SA ? 4 : 2); way++) {
			struct element_key key = key_of(set, m, 0);
			struct packet packet = { .family = AF_INET };
			const bool inside = way & 1;

			if (set == SET_HOST6 || set == SET_NET6 || way & 2)
				packet.family = AF_INET6;
			memcpy(packet.source, set == SET_NET4 || set == SET_NET6 ? key.hi : key.lo,
			       sizeof(packet.source));
			if (inside && set == SET_SA)
				packet.spi = spi_of(m);
			packet.from_tunnel = inside && set != SET_SA;
			n = compare_layers(sim, &packet, verbose);
			if (!n)
				return 0;
			count += n;
		}
	return count;
}

/* 0: a packet differs. */
static uint64_t compare(const struct config *config, bool verbose)
{
	uint64_t count = 0;
	bool same = true;

	/* From all to none: most of what may go wrong shows with both. */
	for (unsigned leases = LEASES; same && leases-- > 0;) {
		struct sim *sim = set_up(config, leases);

		for (unsigned set = 0; same && set < SET_COUNT; set++) {
			unsigned n = (set == SET_SA) != (config->mode == STEERING_SA)
					     ? 1
					     : compare_sources(sim, set, verbose);

			same = n;
			count += n;
		}
		tear_down(sim);
	}
	return same ? count : 0;
}

bool rules_compare(uint64_t *ret_packets)
{
	*ret_packets = 0;
	for (unsigned c = 0; c < 8; c++) {
		const struct config config = { c & 1, c & 4,
					       c & 2 ? STEERING_ADDRESS : STEERING_SA };
		uint64_t n = compare(&config, true);

		if (!n)
			return false;
		*ret_packets += n;
	}
	return true;
}

bool rules_weaken(bool verbose, unsigned *ret_ways, unsigned *ret_same)
{
	struct packets_part part;
	bool good = true;

	*ret_ways = *ret_same = 0;
	for (unsigned rule = 1; packets_part(rule, 0, &part); rule++)
		for (unsigned i = 0; packets_part(rule, i, &part); i++) {
			const struct config config = { part.pinning, part.bound, part.mode };
			bool noticed;

			packets_weaken(rule, i);
			noticed = !compare(&config, false);
			packets_restore(rule);
			++*ret_ways;
			*ret_same += !noticed;
			good = good && noticed != part.idle;
			if (verbose || noticed == part.idle)
				printf("# %-14s %s, without %s\n",
				       noticed     ? "noticed"
				       : part.idle ? "no difference"
						   : "NOT NOTICED",
				       part.rule, part.what);
		}
	return good;
}
