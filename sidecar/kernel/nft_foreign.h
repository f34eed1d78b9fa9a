/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What others have in nftables, as far as it concerns steerd: rules that use marks or zones, and
 * flowtables, whose flows pass no rules. iptables-nft's rules are among them. Sockets are opened
 * for each call and closed before it returns. One thread.
 */
#ifndef TENANT_STEER_NFT_FOREIGN_H
#define TENANT_STEER_NFT_FOREIGN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "settings/settings.h"

/*
 * Rules looked at in one call; a namespace may have any number, and the kernel walks a long chain
 * from its start for each part of a dump: 10,000 rules in one take it 60 ms.
 */
#define NFT_FOREIGN_RULES_MAX 10000
/* So long does nft_each_rule() take at the most. */
#define NFT_FOREIGN_TIME_US 100000
#define NFT_FOREIGN_NAME_MAX 256
#define NFT_FOREIGN_ERROR_MAX 256

/* Bits of a mark: looked at; that may become 1; that may become 0. */
struct nft_mark_use {
	uint32_t read, set, cleared;
};

/* What one rule does. Names are valid during the call. */
struct nft_rule_use {
	uint8_t family; /* NFPROTO_ */
	const char *table, *chain;
	uint64_t handle;
	struct nft_mark_use packet, flow; /* meta mark, ct mark */
	bool zone;                        /* sets the conntrack zone */
	const char *flowtable;            /* that it adds flows to, or NULL */
	uint32_t unoffloaded;             /* it adds none whose ct mark has one of these bits */
};

/* "inet", "ip", ...: as nft(8) writes a family; "?" for an unknown one. */
const char *nft_family_name(uint8_t family);

/*
 * Each rule of every table but inet except (NULL: none), at most NFT_FOREIGN_RULES_MAX and for no
 * longer than NFT_FOREIGN_TIME_US. 0, 1 if there were more, or a negative errno.
 */
int nft_each_rule(const char *except, void (*each)(const struct nft_rule_use *, void *),
		  void *user);

/* The same for one table, with no regard to time. */
int nft_each_rule_of(uint8_t family, const char *table,
		     void (*each)(const struct nft_rule_use *, void *), void *user);

/* A rule that takes tenants' flows off the rules. */
struct nft_offload {
	uint8_t family;
	char table[NFT_FOREIGN_NAME_MAX];
	char flowtable[NFT_FOREIGN_NAME_MAX];
	char chain[NFT_FOREIGN_NAME_MAX];
	uint64_t handle; /* 0: not known, there are too many rules to look at */
};

/*
 * Is there a flowtable whose flows could be tenants' own? One that a rule adds flows to without
 * leaving those out that steerd pinned, and on an interface that tenants' packets may come in on:
 * in address mode the configured one; in SA mode, where any may be, all but those of paths.
 * 1 and *ret_offload filled, 0, or a negative errno. Costs one round trip where there is none.
 */
int nft_find_offload(const struct settings *settings, enum steering_mode mode,
		     struct nft_offload *ret_offload);

/* The sentence about it. */
void nft_describe_offload(const struct nft_offload *offload, char *buf, size_t size);

/*
 * Would the kernel take this rule (nft(8)'s words) in a table of family inet? Nothing is changed:
 * the transaction is never finished. 0, -ENOTSUP with nftables' words in error, or an errno.
 */
int nft_try_rule(const char *rule, char error[NFT_FOREIGN_ERROR_MAX]);

#endif
