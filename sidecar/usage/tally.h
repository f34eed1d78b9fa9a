/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Flows added up by where they go, in a table with a limit. When it is full, the destination with the
 * fewest flows, of several the one not used for longest, makes room: its figures are added to those of
 * all others together. So a destination that comes often stays, whenever it comes first; figures of one
 * that went and came back are too low, the sum of all is right. Plain memory, one thread.
 */
#ifndef TENANT_STEER_TALLY_H
#define TENANT_STEER_TALLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uthash.h>

#include "json_writer.h"
#include "kernel/conntrack_flow.h"

/* Bytes only, so that it can be a key as it is. */
struct tally_key {
	uint8_t address[16];
	uint8_t port[2]; /* network byte order */
	uint8_t six;     /* IPv6 */
	uint8_t protocol;
};

struct tally_sums {
	uint64_t flows;            /* that began */
	uint64_t live;             /* that were there when somebody looked */
	uint64_t bypassed;         /* of both, those on a path */
	uint64_t ended;            /* whose bytes are in */
	uint64_t uncounted;        /* whose bytes nobody counted */
	uint64_t sent, received;   /* bytes, by the tenant */
	int64_t first_us, last_us; /* since 1970; 0: never */
};

struct tally_row {
	struct tally_key key;
	struct tally_sums sums;
	UT_hash_handle hh;
};

struct tally {
	struct tally_row *rows; /* all of them by hh.next */
	unsigned limit;
	struct tally_sums other;
	uint64_t folded; /* times that a destination had to make room */
};

void tally_init(struct tally *tally, unsigned limit);
void tally_done(struct tally *tally);

struct tally_key tally_key(const struct conntrack_flow *flow);
/* Without memory for a row, or if there is no room and no flow begins, they are added to the others. */
void tally_add(struct tally *tally, const struct tally_key *key, const struct tally_sums *sums);
unsigned tally_count(const struct tally *tally);
/* The most flows first. */
void tally_sort(struct tally *tally);

void tally_sums_add(struct tally_sums *to, const struct tally_sums *from);

/* What an end of a flow adds: its bytes, or that nobody counted them. */
struct tally_sums tally_end(const struct conntrack_flow *flow, int64_t at_us);

/* "address", "protocol" ("tcp", "udp" or its number) and "port" of a destination. */
void tally_write_key(struct json_writer *w, const struct tally_key *key);
/* "destinations", an object each, and "other_destinations"; sums writes members of what has them. */
void tally_write(struct json_writer *w, const struct tally *tally,
		 void (*sums)(struct json_writer *w, const struct tally_sums *sums));

#endif
