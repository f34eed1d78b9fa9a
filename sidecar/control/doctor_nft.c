/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Checks of nftables: what the kernel can do, and what others do in it.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "doctor_internal.h"
#include "kernel/nft_foreign.h"

#define FIX_MAX 1024

static void try_rule(struct doctor *doctor, enum doctor_severity severity, const char *rule,
		     const char *module)
{
	char error[NFT_FOREIGN_ERROR_MAX], fix[64];
	int err = nft_try_rule(rule, error);

	snprintf(fix, sizeof(fix), "modprobe %s", module);
	if (err == -ENOTSUP)
		doctor_report(doctor, severity, fix,
			      "the kernel refuses \"%s\" (%s): %s is missing", rule, error, module);
	else if (err < 0)
		doctor_unable(doctor, "nftables", err);
}

/* As long as the mode may become either, it is only good to know. */
void doctor_check_nft_xfrm(struct doctor *doctor)
{
	enum steering_mode mode = doctor_mode(doctor);

	if (mode != STEERING_ADDRESS)
		try_rule(doctor, mode == STEERING_SA ? DOCTOR_ERROR : DOCTOR_INFO, "ipsec in spi 1",
			 "nft_xfrm");
}

void doctor_check_nft_conntrack(struct doctor *doctor)
{
	if (doctor->question->settings->pinning)
		try_rule(doctor, DOCTOR_ERROR, "ct mark 1 ct direction original", "nft_ct");
}

/* No such sysctl: the module is not loaded yet, which a rule of steerd's will do. */
void doctor_check_accounting(struct doctor *doctor)
{
	if (!doctor->question->settings->pinning || !doctor->question->settings->accounting)
		return;
	if (doctor_sysctl("net/netfilter/nf_conntrack_events") == 0)
		doctor_report(doctor, DOCTOR_INFO, "sysctl -w net.netfilter.nf_conntrack_events=1",
			      "conntrack does not tell of flows (net.netfilter.nf_conntrack_events "
			      "is 0): a report shows no use");
	if (doctor_sysctl("net/netfilter/nf_conntrack_acct") == 0)
		doctor_report(doctor, DOCTOR_INFO, "sysctl -w net.netfilter.nf_conntrack_acct=1",
			      "conntrack does not count bytes (net.netfilter.nf_conntrack_acct is "
			      "0): a report shows flows only");
}

void doctor_check_nft_fib(struct doctor *doctor)
{
	try_rule(doctor, DOCTOR_ERROR, "fib daddr type local", "nft_fib_inet");
}

void doctor_check_flowtables(struct doctor *doctor)
{
	const struct settings *s = doctor->question->settings;
	struct nft_offload offload = { 0 };
	const char *family;
	char fix[FIX_MAX], what[DOCTOR_TEXT_MAX];
	bool plain;
	int found = nft_find_offload(s, doctor_mode(doctor), &offload);

	if (found < 0)
		doctor_unable(doctor, "nftables", found);
	if (found <= 0)
		return;
	family = nft_family_name(offload.family);
	plain = offload.handle != 0 && doctor_plain_word(offload.table) &&
		doctor_plain_word(offload.chain);
	snprintf(fix, sizeof(fix), "nft delete rule %s %s %s handle %llu", family, offload.table,
		 offload.chain, (unsigned long long)offload.handle);
	nft_describe_offload(&offload, what, sizeof(what));
	doctor_report(doctor, DOCTOR_ERROR, plain ? fix : NULL, "%s", what);
}

static void report_rule(struct doctor *doctor, enum doctor_severity severity,
			const struct nft_rule_use *use, uint32_t bits, const char *what)
{
	const char *family = nft_family_name(use->family);
	bool plain = doctor_plain_word(use->table) && doctor_plain_word(use->chain);
	char fix[FIX_MAX];

	snprintf(fix, sizeof(fix), "nft delete rule %s %s %s handle %llu", family, use->table,
		 use->chain, (unsigned long long)use->handle);
	doctor_report(doctor, severity, plain ? fix : NULL,
		      "rule %llu of chain \"%s\" of table %s \"%s\" %s (0x%08x)",
		      (unsigned long long)use->handle, use->chain, family, use->table, what, bits);
}

/* What is only counted; everything else is reported as it is met. */
struct rule_look {
	struct doctor *doctor;
	unsigned readers;
};

/* The worst of what it does with marks. */
static void look_at_rule(const struct nft_rule_use *use, void *user)
{
	struct rule_look *look = user;
	const uint32_t mask = look->doctor->question->settings->mark_mask;
	const uint32_t flow = (use->flow.set | use->flow.cleared) & mask;

	look->doctor->zone_rules += use->zone;
	if (use->packet.set & mask)
		report_rule(look->doctor, DOCTOR_ERROR, use, use->packet.set & mask,
			    "may set steerd's bits of the packet mark");
	else if (use->packet.cleared & mask)
		report_rule(look->doctor, DOCTOR_WARNING, use, use->packet.cleared & mask,
			    "clears steerd's bits of the packet mark");
	else if (flow)
		report_rule(look->doctor, DOCTOR_WARNING, use, flow,
			    "changes steerd's bits of the conntrack mark");
	else if ((use->packet.read & mask) || (use->flow.read & mask && !use->flowtable))
		look->readers++;
}

/*
 * All rules are read once, zones are counted by the way. That a path's mark is looked at may be what
 * the path is for.
 */
void doctor_check_marks(struct doctor *doctor)
{
	struct rule_look look = { .doctor = doctor };
	int more = nft_each_rule(doctor->question->settings->nft_table, look_at_rule, &look);

	if (look.readers)
		doctor_report(doctor, DOCTOR_INFO, NULL, "%u rules look at steerd's bits of a mark",
			      look.readers);
	if (more < 0)
		doctor_unable(doctor, "nftables", more);
	else if (more)
		doctor_report(doctor, DOCTOR_INFO, NULL,
			      "there are too many rules to look at all of them; nft list ruleset "
			      "shows the others");
}

/* Comes after the marks. */
void doctor_check_zones(struct doctor *doctor)
{
	if (doctor->zone_rules && doctor->question->settings->pinning)
		doctor_report(doctor, DOCTOR_INFO, NULL, "%u rules put flows into conntrack zones",
			      doctor->zone_rules);
}
