/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tally.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void tally_init(struct tally *tally, unsigned limit)
{
	*tally = (struct tally){ .limit = limit };
}

static void drop(struct tally *tally, struct tally_row *row)
{
	HASH_DELETE(hh, tally->rows, row); /* NOLINT: uthash */
	free(row);
}

void tally_done(struct tally *tally)
{
	struct tally_row *row, *next;

	HASH_ITER(hh, tally->rows, row, next)
		drop(tally, row);
}

struct tally_key tally_key(const struct conntrack_flow *flow)
{
	struct tally_key key = { .six = flow->destination.family == AF_INET6,
				 .protocol = flow->protocol };

	memcpy(key.address, flow->destination.bytes, key.six ? 16 : 4);
	key.port[0] = (uint8_t)(flow->port >> 8);
	key.port[1] = (uint8_t)flow->port;
	return key;
}

static void add_times(struct tally_sums *to, const struct tally_sums *from)
{
	if (from->first_us && (!to->first_us || from->first_us < to->first_us))
		to->first_us = from->first_us;
	if (from->last_us > to->last_us)
		to->last_us = from->last_us;
}

void tally_sums_add(struct tally_sums *to, const struct tally_sums *from)
{
	to->flows += from->flows;
	to->live += from->live;
	to->bypassed += from->bypassed;
	to->ended += from->ended;
	to->uncounted += from->uncounted;
	to->sent += from->sent;
	to->received += from->received;
	add_times(to, from);
}

struct tally_sums tally_end(const struct conntrack_flow *flow, int64_t at_us)
{
	return (struct tally_sums){
		.ended = 1,
		.uncounted = !flow->counted,
		.sent = flow->sent,
		.received = flow->received,
		.last_us = at_us,
	};
}

static bool is_less(const struct tally_row *a, const struct tally_row *b)
{
	const uint64_t of_a = a->sums.flows + a->sums.live, of_b = b->sums.flows + b->sums.live;

	return of_a != of_b ? of_a < of_b : a->sums.last_us < b->sums.last_us;
}

static void make_room(struct tally *tally)
{
	struct tally_row *least = tally->rows;

	for (struct tally_row *row = tally->rows; row; row = row->hh.next)
		if (is_less(row, least))
			least = row;
	tally_sums_add(&tally->other, &least->sums);
	tally->folded++;
	drop(tally, least);
}

/* The end of a flow whose destination has made room already makes none anew. */
static struct tally_row *add_row(struct tally *tally, const struct tally_key *key, uint64_t flows)
{
	const bool full = tally_count(tally) >= tally->limit;
	struct tally_row *row = full && !flows ? NULL : calloc(1, sizeof(*row));

	if (!row)
		return NULL;
	if (full)
		make_room(tally);
	row->key = *key;
	HASH_ADD(hh, tally->rows, key, sizeof(row->key), row);
	return row;
}

void tally_add(struct tally *tally, const struct tally_key *key, const struct tally_sums *sums)
{
	struct tally_row *row;

	HASH_FIND(hh, tally->rows, key, sizeof(*key), row); /* NOLINT: uthash */
	if (!row)
		row = add_row(tally, key, sums->flows + sums->live);
	tally_sums_add(row ? &row->sums : &tally->other, sums);
}

unsigned tally_count(const struct tally *tally)
{
	return HASH_COUNT(tally->rows);
}

static int compare(const struct tally_row *a, const struct tally_row *b)
{
	if (is_less(b, a))
		return -1;
	return is_less(a, b) ? 1 : memcmp(&a->key, &b->key, sizeof(a->key));
}

void tally_sort(struct tally *tally)
{
	HASH_SORT(tally->rows, compare); /* NOLINT: uthash */
}

void tally_write_key(struct json_writer *w, const struct tally_key *key)
{
	char address[INET6_ADDRSTRLEN], protocol[8];

	inet_ntop(key->six ? AF_INET6 : AF_INET, key->address, address, sizeof(address));
	snprintf(protocol, sizeof(protocol), "%u", key->protocol);
	json_string(w, "address", address);
	json_string(w, "protocol",
		    key->protocol == IPPROTO_TCP   ? "tcp"
		    : key->protocol == IPPROTO_UDP ? "udp"
						   : protocol);
	json_uint(w, "port", (uint64_t)key->port[0] << 8 | key->port[1]);
}

void tally_write(struct json_writer *w, const struct tally *tally,
		 void (*sums)(struct json_writer *w, const struct tally_sums *sums))
{
	json_array_begin(w, "destinations");
	for (const struct tally_row *row = tally->rows; row; row = row->hh.next) {
		json_object_begin(w, NULL);
		tally_write_key(w, &row->key);
		sums(w, &row->sums);
		json_object_end(w);
	}
	json_array_end(w);
	json_object_begin(w, "other_destinations");
	sums(w, &tally->other);
	json_object_end(w);
}
