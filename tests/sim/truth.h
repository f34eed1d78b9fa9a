/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is true, whatever steerd knows: which SAs the kernel has and whose they are, which exceptions
 * stand in the book. From it follows, after every step:
 *
 *   the promise    no packet of an SA bypasses by a profile's path without its tenant's exception for
 *                  it: not the first of a flow, not one of a flow that somebody else left pinned
 *   the skeleton   does with any packet what the documentation says (packets.h)
 *   pinning        a flow never changes its path
 *
 * and, some time after the last fault, that every exempt tenant is steered and the kernel holds nothing
 * but what it should.
 *
 * Windows are the exceptions to the promise that the documentation names. A check that meets one is
 * counted, with its age; one that lasts longer than it may is a failure.
 */
#ifndef TENANT_STEER_SIM_TRUTH_H
#define TENANT_STEER_SIM_TRUTH_H

#include <stdbool.h>
#include <stdint.h>

#include "exceptions/store.h"
#include "kernel/conntrack.h"
#include "sim.h"

#define TRUTH_SAS 64
#define TRUTH_RANGES 2

enum truth_window {
	WINDOW_OWNER, /* an address, or an SPI at another local address, has a new owner of whom steerd
			  has not read yet */
	WINDOW_KERNEL,   /* the kernel refused the withdrawal: the lease ends it */
	WINDOW_LATE,     /* the kernel came late to an element: the next commit sets it right */
	WINDOW_CLOCK,    /* the wall clock was put forward over the end of an exception */
	WINDOW_STRANGER, /* somebody else put an element into the table */
};

struct truth_sa {
	bool live;       /* the kernel decrypts its packets */
	bool left;       /* by a charon that is no more */
	bool leaving;    /* charon has given it up */
	bool twin;       /* another SA has, or had, the SPI at another local address */
	bool twin_of;    /* and this one is at that other address */
	bool reassigned; /* it has been another tenant's */
	uint8_t peer;    /* last octet of the peer's outer address */
	uint32_t reqid;
	uint32_t spi;
	int tenant; /* -1: unidentified */
	unsigned user;
	struct address_range ranges[TRUTH_RANGES];
	unsigned range_count;
	int64_t since; /* when it came, or became its tenant's; or when charon gave it up */
};

struct truth *truth_new(void);
void truth_free(struct truth *truth);

/* An SA is in the kernel; returns its handle. */
unsigned truth_add(struct sim *sim, const struct truth_sa *sa);
/* charon has given it up: its addresses may be another's, though the kernel has it still. */
void truth_leave(struct sim *sim, unsigned handle);
void truth_remove(struct sim *sim, unsigned handle);
/* The configuration says that it is another tenant's now. */
void truth_reassign(struct sim *sim, unsigned handle, int tenant);
/* charon died: with ESP in the kernel the SAs stay, with its own they are gone. */
void truth_orphan(struct sim *sim, bool stay);
/* The peer has moved: for a moment the kernel has no such SA, then it has one with another source. */
void truth_move(struct sim *sim, unsigned handle, uint8_t peer);
void truth_each_live(struct sim *sim, void (*each)(void *, const struct truth_sa *), void *user);
bool truth_spi_used(struct sim *sim, uint32_t spi);
/* A live SA at random, or NULL. */
const struct truth_sa *truth_any(struct sim *sim);
void truth_lose_orphan(struct sim *sim);

/* The book of exceptions: what is on steerd's disk. */
#define TRUTH_BOOK 256
struct truth_book {
	struct exception rows[TRUTH_BOOK];
	unsigned count;
};
struct truth_book *truth_book(struct sim *sim);
/* A row was written; it got another end; it has ended. */
void truth_granted(struct sim *sim, unsigned row);
void truth_changed(struct sim *sim, unsigned row);
/* steerd said that a changed end is in the kernel too. */
void truth_settled(struct sim *sim, unsigned row);
void truth_ended(struct sim *sim, unsigned row);
/* steerd said that all exceptions of a tenant, or that of a row, are revoked, in the kernel too (0) or
 * not (negative). */
void truth_revoked(struct sim *sim, unsigned tenant, int kernel);
void truth_revoked_one(struct sim *sim, unsigned row, int kernel);
/* steerd was started: what it did not write is not known any more. */
void truth_forget_revocations(struct sim *sim);

/* Is one over that steerd has not ended yet? Its tick will. */
bool truth_expiring(struct sim *sim);

const char *truth_tenant(unsigned tenant);

void truth_check(struct sim *sim);
void truth_check_live(struct sim *sim);

#endif
