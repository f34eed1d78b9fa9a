/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What nftables does to a packet: the text of nft_skeleton_text() parsed and run, rule by rule. It knows
 * the words that the skeleton uses; a new one makes packets_load() fail, so that a rule cannot be
 * left out by oversight. Beside it, written from the documentation and not from the rules, what is
 * to happen to a packet: the two must agree on every packet.
 */
#ifndef TENANT_STEER_SIM_PACKETS_H
#define TENANT_STEER_SIM_PACKETS_H

#include <stdbool.h>
#include <stdint.h>

#include "settings/settings.h"
#include "sim.h"

enum packet_state {
	PACKET_FIRST,    /* new, conntrack entry not confirmed */
	PACKET_AGAIN,    /* new, confirmed: no reply was seen */
	PACKET_LATER,    /* established */
	PACKET_EXPECTED, /* related, not confirmed: a helper's connection */
	PACKET_ERROR,    /* related, confirmed: about a flow */
	PACKET_STATES
};

struct packet {
	uint32_t mark;
	uint32_t spi;   /* of the SA it came in by, the outermost one, 0: none */
	uint32_t reqid; /* and its reqid, 0: not charon's */
	struct {
		bool there;
		uint32_t spi, reqid;
	} second, third;  /* further in */
	bool from_tunnel; /* userspace ESP: came from its interface */
	int family;
	uint8_t source[16];
	unsigned to; /* where to, of packet_destinations */
	uint8_t protocol;
	uint16_t port;
	enum packet_state state;
	bool reply;
	uint32_t ct_mark;
};

/* Places that the rules can tell apart; the settings list those that are. */
struct packet_destination {
	const char *ipv4, *ipv6;
	bool listed;   /* in the list of a profile that has one */
	bool proxy;    /* its PACKET_PROXY_PORT is an explicit proxy's */
	bool reserved; /* of one network only */
	bool local;    /* of the gateway itself */
};
#define PACKET_PROXY_PORT 80
extern const struct packet_destination packet_destinations[];
extern const unsigned packet_destination_count;

enum packet_counter { COUNTED_NOT, COUNTED_FIRST, COUNTED_BYPASSED, COUNTED_DENIED };

struct packet_fate {
	bool dropped;
	enum packet_counter counted;
	uint32_t mark, ct_mark;
};

/* Parse the skeleton for both modes, with conntrack and without, for profiles that may go anywhere and
 * such that may not. 0, or -1 after saying what it does
 * not know. */
int packets_load(void);
/* Take a rule away (part 0), or one of its parts (1 and on), and put it back. */
void packets_weaken(unsigned rule, unsigned part);
void packets_restore(unsigned rule);

struct packets_part {
	bool pinning, bound; /* as the settings have to be */
	enum steering_mode mode;
	const char *rule, *what;
	bool idle; /* without it the rules do the same, only more slowly or by another way */
};

/* Rules are numbered from 1, parts from 1, part 0 is the rule. False if there is none. */
bool packets_part(unsigned rule, unsigned part, struct packets_part *ret_part);

/* What the kernel does now, and what it should do. */
struct packet_fate packets_run(struct sim *sim, const struct packet *packet);
struct packet_fate packets_expect(struct sim *sim, const struct packet *packet);

/* The address that a packet goes to. */
const uint8_t *packets_destination(const struct packet *packet);
/* By the manual: does the profile take what goes there, a flow's first packet or (not deciding) a later
 * one? */
bool packets_covered(struct sim *sim, unsigned profile, const struct packet *packet, bool deciding);

/* The path that a packet with this mark takes: a profile's index, or -1. */
int packets_path(const struct settings *settings, uint32_t mark);

#endif
