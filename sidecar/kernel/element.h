/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One element of one of steerd's nft sets, as a plain value. A profile has sets
 * in SA mode:
 *     sa_<profile>                      inbound SPIs, exempt to the whole
 *     sas_<profile>                     inbound SPIs with elements in the following sets
 *     sah4_<profile> sah6_<profile>     SPI and inner address (hash sets)
 *     san4_<profile> san6_<profile>     SPI, inner addresses and destinations (interval sets)
 * and in address mode:
 *     host4_<profile> host6_<profile>   single inner addresses (hash sets)
 *     net4_<profile>  net6_<profile>    ranges of them (interval sets)
 *     pair4_<profile> pair6_<profile>   inner addresses and destinations (interval sets)
 * The skeleton makes only the sets its mode needs.
 */
#ifndef TENANT_STEER_ELEMENT_H
#define TENANT_STEER_ELEMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* In the order in which the rules of a profile ask for them. */
enum element_set {
	SET_SA,
	SET_PART, /* sas */
	SET_PART_HOST4,
	SET_PART_HOST6,
	SET_PART_NET4,
	SET_PART_NET6,
	SET_HOST4,
	SET_HOST6,
	SET_NET4,
	SET_NET6,
	SET_PAIR4,
	SET_PAIR6,
	SET_COUNT
};

/*
 * How many elements of a set of a profile are ever wanted, beside those that are as many as child
 * SAs. A transaction copies all of an interval set of several fields: 4 ms for so many.
 */
#define ELEMENTS_PARTS_MAX 8192
#define ELEMENTS_INTERVALS_MAX 2048

struct element_key {
	uint8_t set;     /* enum element_set */
	uint8_t profile; /* index into settings.profiles */
	uint8_t pad[2];  /* zero: keys are compared and hashed bytewise */
	uint8_t lo[16];  /* SPI (network order, 4 bytes), address, or first address of a range; rest
			    0 */
	uint8_t hi[16];  /* last address of a range (inclusive); 0 for the others */
	/* Of sets with several fields only; 0 for the others, which keep nothing of it. */
	uint8_t spi[4];
	uint8_t dst_lo[16], dst_hi[16];
};
#define ELEMENT_KEY_SHORT offsetof(struct element_key, spi)

/* What the elements of a set say. */
struct element_shape {
	int family;       /* of their addresses; 0: they have none, lo is an SPI */
	bool spi;         /* in its field, beside an address */
	bool range;       /* of inner addresses, lo to hi; otherwise lo is one */
	bool destination; /* dst_lo to dst_hi */
};
const struct element_shape *element_shape(unsigned set);

/* How many bytes of a key count: what is behind is not kept, and not to be looked at. */
size_t element_key_size(const struct element_key *key);
/* How many of them are ever wanted in a set of a profile. */
size_t element_limit(unsigned set, size_t max_child_sas);

/* What the kernel shall hold, or was seen to hold. */
struct element {
	struct element_key key;
	int64_t expires_us; /* clock_boottime_us(), which nobody can set back; 0: never */
};

#endif
