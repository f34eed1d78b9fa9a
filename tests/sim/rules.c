/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "rules.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel.h"
#include "kernel/nft.h"
#include "packets.h"
#include "steerd.h"
#include "truth.h"

#define LEASES (1u << SIM_PROFILES)
/* The first of packet_destinations: the others are alike for the rules. */
#define DESTINATIONS 8

/* What a profile has of an SPI, or of an address: in which sets it is. */
enum kind {
	KIND_NONE,
	KIND_WHOLE, /* sa_; host */
	KIND_HOST,  /* sas_ and sah_; net */
	KIND_NET,   /* sas_ and san_; pair */
	KIND_GATE,  /* sas_ alone; nothing */
	KIND_OPEN,  /* all but sas_; all */
};

/* Sets of a kind, of IPv4; those of IPv6 come behind each. */
static const struct {
	enum steering_mode mode;
	uint8_t set;
	uint8_t kinds; /* bits */
} memberships[] = {
	{ STEERING_SA, SET_SA, 1 << KIND_WHOLE },
	{ STEERING_SA, SET_PART, 1 << KIND_HOST | 1 << KIND_NET | 1 << KIND_GATE },
	{ STEERING_SA, SET_PART_HOST4, 1 << KIND_HOST | 1 << KIND_OPEN },
	{ STEERING_SA, SET_PART_NET4, 1 << KIND_NET | 1 << KIND_OPEN },
	{ STEERING_ADDRESS, SET_HOST4, 1 << KIND_WHOLE | 1 << KIND_OPEN },
	{ STEERING_ADDRESS, SET_NET4, 1 << KIND_HOST },
	{ STEERING_ADDRESS, SET_PAIR4, 1 << KIND_NET | 1 << KIND_OPEN },
};

/* Whose packets: what the two profiles have of them. All there is, but not all pairs. */
static const enum kind whos[][SIM_PROFILES] = {
	{ KIND_NONE, KIND_NONE },  { KIND_WHOLE, KIND_NONE }, { KIND_HOST, KIND_NONE },
	{ KIND_NET, KIND_NONE },   { KIND_GATE, KIND_NONE },  { KIND_OPEN, KIND_NONE },
	{ KIND_NONE, KIND_WHOLE }, { KIND_NONE, KIND_HOST },  { KIND_NONE, KIND_NET },
	{ KIND_NONE, KIND_GATE },  { KIND_NONE, KIND_OPEN },  { KIND_WHOLE, KIND_WHOLE },
	{ KIND_HOST, KIND_NET },   { KIND_NET, KIND_WHOLE },  { KIND_WHOLE, KIND_HOST },
};
#define WHOS (sizeof(whos) / sizeof(whos[0]))

/* Each has an SPI and a network of its own; hosts are 1, networks 0 to 15. */
static void address_of(unsigned who, int family, uint8_t host, uint8_t address[16])
{
	memset(address, 0, 16);
	inet_pton(family, family == AF_INET ? "198.18.0.0" : "2001:db8::", address);
	address[family == AF_INET ? 2 : 7] = (uint8_t)who;
	address[family == AF_INET ? 3 : 15] = host;
}

/* Some of packet_destinations, listed ones and others. */
static void destination_of(int family, bool last, uint8_t address[16])
{
	memset(address, 0, 16);
	inet_pton(family,
		  family == AF_INET ? (last ? "203.0.113.100" : "198.51.100.8")
				    : (last ? "2001:db8:445::ffff" : "2001:db8:443::8"),
		  address);
}

static uint32_t spi_of(unsigned who)
{
	return 0xc0000001 + who;
}

static struct element_key key_of(unsigned set, unsigned who, unsigned profile)
{
	const struct element_shape *shape = element_shape(set);
	struct element_key key = { .set = (uint8_t)set, .profile = (uint8_t)profile };
	const uint32_t spi = htonl(spi_of(who));

	if (!shape->family) {
		memcpy(key.lo, &spi, sizeof(spi));
		return key;
	}
	if (shape->spi)
		memcpy(key.spi, &spi, sizeof(spi));
	address_of(who, shape->family, shape->range ? 0 : 1, key.lo);
	if (shape->range)
		address_of(who, shape->family, 15, key.hi);
	if (shape->destination) {
		destination_of(shape->family, false, key.dst_lo);
		destination_of(shape->family, true, key.dst_hi);
	}
	return key;
}

static size_t add_elements(struct element *elements, enum steering_mode mode, unsigned who)
{
	size_t count = 0;

	for (size_t i = 0; i < sizeof(memberships) / sizeof(memberships[0]); i++)
		for (unsigned p = 0; p < SIM_PROFILES; p++) {
			const unsigned set = memberships[i].set;

			if (memberships[i].mode != mode ||
			    !(memberships[i].kinds >> whos[who][p] & 1))
				continue;
			elements[count++] = (struct element){ .key = key_of(set, who, p) };
			if (element_shape(set)->family)
				elements[count++] =
					(struct element){ .key = key_of(set + 1, who, p) };
		}
	return count;
}

/* A configuration's rules: with conntrack or without, of a mode, for profiles that are bound or not. */
struct config {
	bool pinning, bound;
	enum steering_mode mode;
};

static struct sim *set_up(const struct config *config, unsigned leases)
{
	static struct element elements[WHOS * 2 * SIM_PROFILES * 7];
	struct sim *sim = calloc(1, sizeof(*sim));
	size_t count = 0;
	const char *error;
	struct nft *nft;
	bool adopted;

	if (!sim)
		abort();
	sim_enter(sim);
	sim->settings.pinning = config->pinning;
	sim->settings.max_child_sas = 64;
	sim_bind(&sim->settings, config->bound);
	for (unsigned who = 0; who < WHOS; who++)
		count += add_elements(elements + count, config->mode, who);
	if (nft_open(&sim->settings, &nft) < 0 ||
	    nft_ensure(nft, config->mode, &adopted, &error) < 0 ||
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
			for (unsigned to = 0; to < (m ? 1 : DESTINATIONS); to++) {
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

/* From the host, from the rest of its network, from elsewhere. */
static unsigned compare_hosts(struct sim *sim, struct packet *packet, unsigned who, bool verbose)
{
	static const uint8_t hosts[] = { 1, 15, 16 };
	unsigned count = 0, n;

	for (unsigned h = 0; h < sizeof(hosts); h++) {
		address_of(who, packet->family, hosts[h], packet->source);
		n = compare_layers(sim, packet, verbose);
		if (!n)
			return 0;
		count += n;
	}
	return count;
}

static unsigned compare_sources(struct sim *sim, enum steering_mode mode, bool verbose)
{
	unsigned count = 0, n;

	for (unsigned who = 0; who < WHOS; who++)
		for (unsigned v6 = 0; v6 < 2; v6++)
			/* without an SA it does not matter who it would be */
			for (unsigned inside = who > 0 && mode == STEERING_SA; inside < 2;
			     inside++) {
				struct packet packet = { .family = v6 ? AF_INET6 : AF_INET };

				if (inside && mode == STEERING_SA)
					packet.spi = spi_of(who);
				packet.from_tunnel = inside && mode == STEERING_ADDRESS;
				n = compare_hosts(sim, &packet, who, verbose);
				if (!n)
					return 0;
				count += n;
			}
	return count;
}

/* With all leases first, down to `last` of them: most of what may go wrong shows with all. 0: a packet
 * differs. */
static uint64_t compare(const struct config *config, unsigned last, bool verbose)
{
	uint64_t count = 0;
	bool same = true;

	for (unsigned leases = LEASES; same && leases-- > last;) {
		struct sim *sim = set_up(config, leases);
		unsigned n = compare_sources(sim, config->mode, verbose);

		same = n;
		count += n;
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
		uint64_t n = compare(&config, 0, true);

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
			noticed = !compare(&config, part.idle ? LEASES - 1 : 0, false);
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
