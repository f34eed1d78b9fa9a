/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * steerd's nft table in the kernel. The skeleton (chains, rules, empty sets) goes in once as text
 * through libnftables, so that `nft list table` reads like the manual; elements go in and out
 * through libnftnl, 20 times faster. One thread; every call blocks for one netlink round trip.
 *
 * Errors are negative errnos from the kernel unless said otherwise. -ENOENT from apply or renew
 * means that somebody removed the table or a part of it (or that an element expired): check.
 * -EEXIST from apply: an addition is there already, -ENOTEMPTY: a range overlaps another one.
 */
#ifndef TENANT_STEER_NFT_H
#define TENANT_STEER_NFT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "element.h"
#include "settings/settings.h"

/* One transaction never carries more: a longer one delays every other writer of the namespace. */
#define NFT_BATCH_MAX 1000

struct nft;

/* Open the sockets. settings must outlive the object. -EPERM without CAP_NET_ADMIN,
 * -EOPNOTSUPP when the kernel has no nf_tables. */
int nft_open(const struct settings *settings, struct nft **ret_nft);
/* Takes NULL. Leaves the table in the kernel, unless settings->at_once: then the kernel removes it,
 * as it does when the process ends in any other way. */
void nft_close(struct nft *nft);

/*
 * Give the socket of one, and with it the table that belongs to it (on_death = at-once), to the
 * other, so that closing "from" does not end it. Both are for the same table.
 */
void nft_hand_over(struct nft *from, struct nft *to);

/*
 * The skeleton's text for a mode (STEERING_SA or STEERING_ADDRESS): pure, for golden tests.
 * table is the table's name. Returns the length or -ENOBUFS.
 */
int nft_skeleton_text(const struct settings *settings, enum steering_mode mode, const char *table,
		      char *buf, size_t size);

/*
 * Make the kernel's skeleton the wanted one. An existing table that already equals it, by value
 * and without elements (but those of constant sets) and counters, is adopted with its elements and lease (*ret_adopted =
 * true): a restart disturbs no flow. Otherwise it is replaced in one transaction, empty. On error
 * *ret_error says why (owned by nft, valid until the next call); -EIO: libnftables said it.
 */
int nft_ensure(struct nft *nft, enum steering_mode mode, bool *ret_adopted, const char **ret_error);

/* Is the table still what nft_ensure left? Elements, but those of constant sets, and counters do not
 * count. 1 yes, 0 no. */
int nft_check(struct nft *nft);

/* Delete the table and everything in it; 0 also if there was none. */
int nft_remove(struct nft *nft);

/*
 * One transaction: first the removals, then the additions; together at most NFT_BATCH_MAX.
 * An addition of an element that is to expire carries its remaining time as timeout; changing an
 * expiry is a removal and an addition. All or nothing.
 */
int nft_apply(struct nft *nft, const struct element *removals, size_t removal_count,
	      const struct element *additions, size_t addition_count);

/*
 * Renew the lease: in one transaction flush every profile's service set and fill it again with
 * the profile's services, and its listeners' ports, at timeout settings->lease_ms. Profiles whose bit is not set in
 * enabled are left empty: their bypassing ends with this commit. enabled = 0 withdraws all.
 */
int nft_renew(struct nft *nft, uint32_t enabled);

/* Call back for every element of every set of the current mode (expired ones are not listed). The kernel may
 * leave one out or say one twice, and does not say so: elements_observe_end() tells why, and asks for more
 * than one look. -EINTR: torn by commits, each time that it was repeated. */
int nft_each_element(struct nft *nft, void (*each)(const struct element *, void *), void *user);

/* Is exactly this element in the kernel now? 1, 0 or a negative errno. */
int nft_has_element(struct nft *nft, const struct element_key *key);

/* Does any element of the set let this packet pass? Of the key count lo, and the SPI and dst_lo if the set
 * has them: what a packet has. 1, 0 or a negative errno. */
int nft_holds(struct nft *nft, const struct element_key *packet);

/* Is the lease of the profile alive in the kernel now? Remaining milliseconds, 0 if not, or errno.
 */
int nft_lease_remaining(struct nft *nft, unsigned profile);

/*
 * Has anybody else committed to nf_tables of this namespace since the last call? The generation
 * id counts commits; the object counts its own. 1 yes, 0 no. Costs one small round trip.
 * May say 1 after nft_renew(nft, 0), and never misses one; nft_ensure starts the count anew.
 */
int nft_foreign_commit(struct nft *nft);

/*
 * Does a flowtable take tenants' flows off the rules (nft_foreign.h)? 1 and a sentence that says
 * which, 0, or a negative errno.
 */
#define NFT_SENTENCE_MAX 512
int nft_offload_problem(struct nft *nft, enum steering_mode mode, char sentence[NFT_SENTENCE_MAX]);

struct nft_counters {
	uint64_t first_packets;    /* flows sent to a path, by their first packet */
	uint64_t bypassed_packets; /* later packets that passed the re-check */
	uint64_t denied_packets;   /* packets of a pinned flow dropped by the re-check */
};
int nft_read_counters(struct nft *nft, struct nft_counters *ret_counters);

#endif
