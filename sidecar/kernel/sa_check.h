/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel's own SAs against what charon says: does the inbound SPI of a child SA name this
 * child SA's state and no other? A table of the states that were seen, and the verdict on an SPI.
 * Pure memory: no I/O, no clock, one thread. xfrm.h fills it from the kernel.
 *
 * Whose a state is, is told by its source (the peer's outer address), its reqid and its mode
 * (once charon has said that the child SA is up: before, it may not know them yet). With IPComp the
 * SA of a tunnel is in transport mode. States of any protocol count, because nft's `ipsec in spi`
 * does not ask for the protocol. Two states with one SPI and different marks, which the kernel
 * allows, are both to be the child SA's.
 *
 * Where the verdict is not final (UNSURE, MOVED), the SPI becomes a suspect: the next complete
 * dump that starts afterwards makes the verdict final. So an SA that charon replaces because its
 * peer has moved, which is gone for a moment, is no reason to act, and what really is wrong is
 * confirmed by the kernel.
 *
 * At most `max` states are kept, 60 bytes each. Of those beyond it only a hash of the SPI is
 * remembered, one bit of SA_CHECK_BITS: an SPI with its bit set cannot be checked, and is not
 * steered. A later dump that fits forgets the bits.
 */
#ifndef TENANT_STEER_SA_CHECK_H
#define TENANT_STEER_SA_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tenants/model.h"

#define SA_CHECK_BITS (1u << 20)
/* Suspects beyond this are not kept one by one: the next dump decides every SPI anew. */
#define SA_CHECK_SUSPECTS_MAX 65536

/* What of struct xfrm_usersa_info matters. Addresses of IPv4 fill the first 4 bytes, rest 0. */
struct sa_state {
	uint32_t spi;  /* host byte order */
	uint32_t mark; /* XFRMA_MARK: value and mask, part of the kernel's key */
	uint32_t mark_mask;
	uint32_t reqid;
	uint8_t dst[16];
	uint8_t src[16];
	uint8_t family;   /* AF_INET, AF_INET6: of the addresses */
	uint8_t protocol; /* IPPROTO_ESP and others */
	uint8_t mode;     /* XFRM_MODE_... of linux/xfrm.h */
};

struct sa_check;

/* changed: the verdict on this SPI may be another now. From within the functions below; it may
 * call sa_check_judge(), and nothing else of this module. model is only looked at. */
struct sa_check *sa_check_new(struct model *model, size_t max,
			      void (*changed)(void *user, uint32_t spi), void *user);
void sa_check_free(struct sa_check *check); /* takes NULL */

/* A state is in the kernel now (`updated`: XFRM_MSG_UPDSA, which changes nothing that matters of a
 * state that is there already). */
void sa_check_observe(struct sa_check *check, const struct sa_state *state, bool updated);
/* A state is gone. Only the members that are the kernel's key are looked at: spi, dst, family,
 * protocol, mark and mask. */
void sa_check_forget(struct sa_check *check, const struct sa_state *key);
/* All states of a protocol are gone; 0 or IPPROTO_RAW: of every protocol. */
void sa_check_flush(struct sa_check *check, uint8_t protocol);

/*
 * A dump: begin before it is asked for, each state, end after the last. It may be begun again at
 * any time. What observe and forget say in between is newer than what the dump says. end
 * reports what the dump has changed and every suspect; all SPIs, if there was doubt before. It
 * returns false, and has done nothing, if the dump is of no use because of a doubt or a flush
 * meanwhile: begin again.
 */
void sa_check_dump_begin(struct sa_check *check);
void sa_check_dump_state(struct sa_check *check, const struct sa_state *state);
bool sa_check_dump_end(struct sa_check *check);

/* Changes were lost: until a dump is complete, nothing new is steered. */
void sa_check_doubt(struct sa_check *check);
/* The kernel cannot be read: until a dump is complete, nothing is steered. So it begins. */
void sa_check_lose(struct sa_check *check);

/* What the kernel's states say about all child SAs of one SPI, which must be of one tenant. first:
 * of their list. Changes its `suspect`, and their `moved_from`. */
enum sa_verdict sa_check_judge(struct sa_check *check, struct child_sa *first);

/* Is there a doubt, or nothing known at all? Only a dump ends it. */
bool sa_check_doubtful(const struct sa_check *check);
/* Is there reason for a dump: a doubt, or room again for what did not fit? */
bool sa_check_wants_dump(const struct sa_check *check);
/* How many suspects there are; those that are none any more are dropped first. */
size_t sa_check_suspects(struct sa_check *check);

/* For people: what is wrong. NULL where nothing is. */
const char *sa_check_sentence(enum sa_verdict verdict);

struct sa_check_counters {
	size_t states;
	uint64_t dumps;   /* complete ones */
	uint64_t doubts;  /* times changes were lost */
	uint64_t refused; /* states beyond max */
	bool overflowed;  /* some are beyond max now */
};
struct sa_check_counters sa_check_counters(const struct sa_check *check);

#endif
