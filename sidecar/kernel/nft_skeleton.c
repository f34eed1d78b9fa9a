/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The text of steerd's nft table. What decides is always a positive match in two sets, one that
 * carries the lease (svc_*) and one that names the tenant (sa_*, host*_*, net*_*) or a part of it
 * (sah*_*, san*_*, pair*_*). After that comes where the packet goes (nft_destinations.c), so that it
 * costs nothing to other packets.
 *
 * A jump costs a packet as much as three or four tests, so the rules that most packets need stand
 * in the chain where they come by.
 *
 * No anonymous sets: a terse listing does not show what is in them, so a stranger's change of
 * one would go unseen.
 */
#include "nft.h"

#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>

#include "nft_internal.h"
#include "nft_skeleton.h"

#define FLAGS "timeout"
#define INTERVALS "interval, timeout"

/* How each set is called and made, and what of a packet is looked up in it. */
static const struct {
	const char *prefix;
	enum steering_mode mode;
	const char *type;
	const char *flags;
	const char *match;
} sets[SET_COUNT] = {
	[SET_SA] = { "sa", STEERING_SA, "typeof ipsec in spi", FLAGS, "ipsec in spi" },
	[SET_PART] = { "sas", STEERING_SA, "typeof ipsec in spi", FLAGS, NULL },
	[SET_PART_HOST4] = { "sah4", STEERING_SA, "typeof ipsec in spi . ip saddr", FLAGS,
			     "ipsec in spi . ip saddr" },
	[SET_PART_HOST6] = { "sah6", STEERING_SA, "typeof ipsec in spi . ip6 saddr", FLAGS,
			     "ipsec in spi . ip6 saddr" },
	[SET_PART_NET4] = { "san4", STEERING_SA, "typeof ipsec in spi . ip saddr . ip daddr",
			    INTERVALS, "ipsec in spi . ip saddr . ip daddr" },
	[SET_PART_NET6] = { "san6", STEERING_SA, "typeof ipsec in spi . ip6 saddr . ip6 daddr",
			    INTERVALS, "ipsec in spi . ip6 saddr . ip6 daddr" },
	[SET_HOST4] = { "host4", STEERING_ADDRESS, "type ipv4_addr", FLAGS, "ip saddr" },
	[SET_HOST6] = { "host6", STEERING_ADDRESS, "type ipv6_addr", FLAGS, "ip6 saddr" },
	[SET_NET4] = { "net4", STEERING_ADDRESS, "type ipv4_addr", INTERVALS, "ip saddr" },
	[SET_NET6] = { "net6", STEERING_ADDRESS, "type ipv6_addr", INTERVALS, "ip6 saddr" },
	[SET_PAIR4] = { "pair4", STEERING_ADDRESS, "type ipv4_addr . ipv4_addr", INTERVALS,
			"ip saddr . ip daddr" },
	[SET_PAIR6] = { "pair6", STEERING_ADDRESS, "type ipv6_addr . ipv6_addr", INTERVALS,
			"ip6 saddr . ip6 daddr" },
};

/* Whole tenants, found by one value: of a pinned flow's packets nearly all match here. */
static bool is_common(unsigned set)
{
	return set == SET_SA || set == SET_HOST4 || set == SET_HOST6;
}

/* The chains of the profiles, one for each stage: PREFIX_PROFILE. */
static const char *const stage_names[] = {
	[STAGE_FIRST] = "first",
	[STAGE_PINNED] = "pinned",
	[STAGE_UNPINNED] = "each",
};

void nft_set_name(const struct settings *settings, unsigned set, unsigned profile,
		  char name[NFT_SET_NAME_MAX])
{
	snprintf(name, NFT_SET_NAME_MAX, "%s_%s", set == SET_SERVICE ? "svc" : sets[set].prefix,
		 settings->profiles[profile].name);
}

bool nft_set_used(enum steering_mode mode, unsigned set)
{
	return set < SET_COUNT && sets[set].mode == mode;
}

/*
 * A range takes two kernel elements: its first address and the one behind its last. Of sets that need
 * not hold something of each child SA there is room for twice as many as are wanted, because the
 * kernel counts those that have expired until it gets round to removing them.
 */
uint64_t nft_set_size(const struct settings *settings, unsigned set)
{
	const struct element_shape *shape = element_shape(set);
	const bool twice = shape->range || shape->spi || set == SET_PART;
	uint64_t size = (uint64_t)element_limit(set, settings->max_child_sas) * (twice ? 2 : 1);

	return size > UINT32_MAX ? UINT32_MAX : size;
}

void nft_text_add(struct text *t, const char *format, va_list args)
{
	int n;

	if (t->full)
		return;
	n = vsnprintf(t->buf + t->len, t->size - t->len, format, args);
	if (n < 0 || (size_t)n >= t->size - t->len)
		t->full = true;
	else
		t->len += (size_t)n;
}

static void __attribute__((format(printf, 2, 3))) add(struct text *t, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	nft_text_add(t, format, args);
	va_end(args);
}

static void add_sets(const struct skeleton *sk, unsigned profile)
{
	char name[NFT_SET_NAME_MAX];

	for (unsigned set = 0; set < SET_COUNT; set++) {
		if (!nft_set_used(sk->mode, set))
			continue;
		nft_set_name(sk->settings, set, profile, name);
		add(sk->text, "\n\tset %s {\n\t\t%s\n\t\tsize %" PRIu64 "\n\t\tflags %s\n\t}\n",
		    name, sets[set].type, nft_set_size(sk->settings, set), sets[set].flags);
	}
	nft_set_name(sk->settings, SET_SERVICE, profile, name);
	add(sk->text,
	    "\n\tset %s {\n\t\ttype inet_proto . inet_service\n\t\tsize %u\n"
	    "\t\tflags timeout\n\t}\n",
	    name, NFT_SERVICE_SET_SIZE);
}

static void add_set_mark(const struct skeleton *sk, const char *which, uint32_t mark)
{
	add(sk->text, "%s mark set %s mark & 0x%08x ", which, which, ~sk->settings->mark_mask);
	if (mark)
		add(sk->text, "| 0x%08x ", mark);
}

void nft_skeleton_add_verdict(const struct skeleton *sk, unsigned profile, enum stage stage)
{
	static const char *const what[] = {
		[STAGE_FIRST] = "a new flow",
		[STAGE_PINNED] = "checked again",
		[STAGE_UNPINNED] = "each packet",
	};
	const struct profile *p = &sk->settings->profiles[profile];
	uint32_t mark = sk->settings->paths[p->path].mark;

	if (stage == STAGE_FIRST)
		add_set_mark(sk, "ct", mark);
	add_set_mark(sk, "meta", mark);
	add(sk->text, "counter name \"%s\" accept comment \"%s: %s\"\n",
	    stage == STAGE_FIRST ? "first" : "bypassed", p->name, what[stage]);
}

/*
 * An address names a tenant only inside its tunnel. A pinned flow began there, and the FIB rule of a
 * path with a table of its own takes nothing that came in elsewhere (route_rule.c), so of such
 * packets it need not be asked again; comparing names is dear.
 */
static bool needs_interface(const struct skeleton *sk, unsigned profile, enum stage stage)
{
	const struct path *path = &sk->settings->paths[sk->settings->profiles[profile].path];

	return sk->mode == STEERING_ADDRESS && (stage != STAGE_PINNED || path->table == 0);
}

static void add_tenant_match(const struct skeleton *sk, unsigned profile, unsigned set,
			     enum stage stage)
{
	char name[NFT_SET_NAME_MAX];

	nft_set_name(sk->settings, set, profile, name);
	if (needs_interface(sk, profile, stage))
		add(sk->text, "iifname \"%s\" ", sk->settings->interface);
	add(sk->text, "%s @%s ", sets[set].match, name);
}

static void add_service_match(const struct skeleton *sk, unsigned profile)
{
	char name[NFT_SET_NAME_MAX];

	nft_set_name(sk->settings, SET_SERVICE, profile, name);
	add(sk->text, "meta l4proto . th dport @%s ", name);
}

/* What becomes of a packet that is an exempt tenant's and for a service. */
static void add_outcome(const struct skeleton *sk, unsigned profile, enum stage stage)
{
	if (nft_destinations_have_chain(sk, profile, stage))
		nft_destinations_add_jump(sk, profile, stage);
	else
		nft_skeleton_add_verdict(sk, profile, stage);
}

/*
 * Of the packets that are for a service of the profile, those of an exempt tenant. Whatever SA is not in
 * the set "sas" needs no further look-up; being in it lets nothing pass.
 */
static void add_tenant_rule(const struct skeleton *sk, unsigned profile, unsigned set,
			    enum stage stage)
{
	char name[NFT_SET_NAME_MAX];

	add(sk->text, "\t\t");
	if (set == SET_PART) {
		nft_set_name(sk->settings, set, profile, name);
		add(sk->text, "ipsec in spi != @%s return comment \"no part of it is exempt\"\n",
		    name);
		return;
	}
	add_tenant_match(sk, profile, set, stage);
	add_outcome(sk, profile, stage);
}

static void add_profile_chains(const struct skeleton *sk, enum stage stage)
{
	for (unsigned p = 0; p < sk->settings->profile_count; p++) {
		add(sk->text, "\n\tchain %s_%s {\n", stage_names[stage],
		    sk->settings->profiles[p].name);
		for (unsigned set = 0; set < SET_COUNT; set++)
			if (nft_set_used(sk->mode, set) &&
			    !(stage == STAGE_PINNED && is_common(set)))
				add_tenant_rule(sk, p, set, stage);
		add(sk->text, "\t}\n");
		if (nft_destinations_have_chain(sk, p, stage))
			nft_destinations_add_chain(sk, p, stage);
	}
}

/* Packets of other services come no further than this. */
static void add_service_rule(const struct skeleton *sk, unsigned profile, enum stage stage)
{
	add(sk->text, "\t\t");
	add_service_match(sk, profile);
	add(sk->text, "jump %s_%s\n", stage_names[stage], sk->settings->profiles[profile].name);
}

/*
 * The key is the first SA that a packet came by, the outermost one. It has to be the only one of
 * charon's, else the packet is that of the tenant whose SA is further in. With IPComp there is a
 * second state, which decrypts nothing: charon's own for compressed packets, its number at most
 * 0xffff (RFC 3173), or one of the kernel's for those too short to be compressed. That one is IP
 * in IP, has an IPv4 address for a number, and no reqid. Neither is ever a key: plan_spi() leaves
 * small numbers out.
 */
static void add_layer_rules(const struct skeleton *sk, const char *verdict)
{
	static const char *const layers[][2] = {
		{ "ipsec in reqid 0", "not by an SA of charon's" },
		{ "ipsec in spnum 1 reqid != 0 ipsec in spnum 1 spi > 0xffff",
		  "a tunnel within a tunnel" },
		{ "ipsec in spnum 2 spi >= 0", "a tunnel within a compressed one" },
	};

	for (unsigned i = 0; sk->mode == STEERING_SA && i < 3; i++)
		add(sk->text, "\t\t%s %s comment \"%s\"\n", layers[i][0], verdict, layers[i][1]);
}

static void add_bypass_rules(const struct skeleton *sk, enum stage stage)
{
	add_layer_rules(sk, "return");
	for (unsigned p = 0; p < sk->settings->profile_count; p++)
		add_service_rule(sk, p, stage);
}

static void add_clear_mark(const struct skeleton *sk)
{
	add(sk->text, "\t\tmeta mark & 0x%08x != 0 ", sk->settings->mark_mask);
	add_set_mark(sk, "meta", 0);
	add(sk->text, "comment \"these bits are ours\"\n");
}

/* Any other mark is not our decision: the flow goes the ordinary way. */
static void add_pinned_rules(const struct skeleton *sk)
{
	for (unsigned i = 0; i < sk->settings->path_count; i++) {
		const struct path *path = &sk->settings->paths[i];

		add(sk->text,
		    "\t\tct mark & 0x%08x == 0x%08x goto path_%s"
		    " comment \"decided: check again\"\n",
		    sk->settings->mark_mask, path->mark, path->name);
	}
}

/*
 * The base chain. Every packet of the gateway comes by here, so what most of them need is decided
 * with the fewest expressions: a flow that is known and has no path's mark leaves after a test for
 * each path and two more.
 */
static void add_prerouting(const struct skeleton *sk)
{
	add(sk->text, "\n\tchain prerouting {\n"
		      "\t\ttype filter hook prerouting priority mangle; policy accept;\n");
	if (sk->settings->pinning)
		add_pinned_rules(sk);
	add_clear_mark(sk);
	if (sk->settings->pinning)
		add(sk->text, "\t\tct status ! confirmed goto fresh"
			      " comment \"nothing is decided yet\"\n");
	else
		add_bypass_rules(sk, STAGE_UNPINNED);
	add(sk->text, "\t}\n");
}

/*
 * Only a flow's very first packet finds its entry unconfirmed: a repeated SYN stays where the
 * first one went. Nobody has decided about it: an expected connection (a helper's) gets its
 * master's ct mark from the kernel, and what somebody else's rule has just set may lead anywhere.
 * (An ICMP error is "related" too, but to an entry that is confirmed.) It may have come from a
 * path's chain by way of "unsettled", so it must not fall off the end of this one.
 */
static void add_fresh(const struct skeleton *sk)
{
	add(sk->text, "\n\tchain fresh {\n\t\tct mark & 0x%08x != 0 ", sk->settings->mark_mask);
	add_set_mark(sk, "ct", 0);
	add(sk->text, "comment \"not our decision\"\n");
	add(sk->text, "\t\tct state new jump first comment \"the first packet decides\"\n"
		      "\t\taccept comment \"enforced\"\n\t}\n");
	add(sk->text, "\n\tchain first {\n");
	add_bypass_rules(sk, STAGE_FIRST);
	add(sk->text, "\t}\n");
}

/*
 * With a path's mark, but not of a flow that is answered already: what of it is to be told apart is
 * kept out of the way of those that are. What returns is checked like them.
 */
static void add_unsettled(const struct skeleton *sk)
{
	/* Numbers: names would need /etc/protocols, which a minimal system does not have. */
	static const unsigned icmp[] = { IPPROTO_ICMP, IPPROTO_ICMPV6 };

	add(sk->text, "\n\tchain unsettled {\n");
	add_clear_mark(sk);
	add(sk->text, "\t\tct status ! confirmed goto fresh"
		      " comment \"nothing is decided yet\"\n"
		      "\t\tct direction reply return\n");
	for (unsigned i = 0; i < 2; i++)
		add(sk->text,
		    "\t\tmeta l4proto %u ct state related accept"
		    " comment \"errors go the ordinary way\"\n",
		    icmp[i]);
	add(sk->text, "\t}\n");
}

static void add_reply_rule(const struct skeleton *sk, const struct path *path)
{
	add(sk->text, "\t\tct direction reply ");
	add_set_mark(sk, "meta", path->table ? path->reply_mark : 0);
	add(sk->text, "accept comment \"for reverse-path lookups\"\n");
}

/* By the tenant first: of several profiles that share a service it is in one. */
static void add_common_rules(const struct skeleton *sk, unsigned profile)
{
	for (unsigned set = 0; set < SET_COUNT; set++) {
		if (!nft_set_used(sk->mode, set) || !is_common(set))
			continue;
		add(sk->text, "\t\t");
		add_tenant_match(sk, profile, set, STAGE_PINNED);
		add_service_match(sk, profile);
		add_outcome(sk, profile, STAGE_PINNED);
	}
}

static void add_path_chain(const struct skeleton *sk, unsigned path)
{
	const struct settings *s = sk->settings;

	add(sk->text,
	    "\n\tchain path_%s {\n"
	    "\t\tct state != established jump unsettled comment \"not answered, or an error\"\n",
	    s->paths[path].name);
	add_reply_rule(sk, &s->paths[path]);
	add_layer_rules(sk, "counter name \"denied\" drop");
	for (unsigned p = 0; p < s->profile_count; p++)
		if (s->profiles[p].path == path)
			add_common_rules(sk, p);
	for (unsigned p = 0; p < s->profile_count; p++)
		if (s->profiles[p].path == path)
			add_service_rule(sk, p, STAGE_PINNED);
	add(sk->text, "\t\tcounter name \"denied\" drop"
		      " comment \"no exception or lease any more\"\n\t}\n");
}

static void add_chains(const struct skeleton *sk)
{
	add_prerouting(sk);
	if (!sk->settings->pinning) {
		add_profile_chains(sk, STAGE_UNPINNED);
		return;
	}
	add_fresh(sk);
	add_unsettled(sk);
	for (unsigned path = 0; path < sk->settings->path_count; path++)
		add_path_chain(sk, path);
	add_profile_chains(sk, STAGE_FIRST);
	add_profile_chains(sk, STAGE_PINNED);
}

int nft_skeleton_text(const struct settings *settings, enum steering_mode mode, const char *table,
		      char *buf, size_t size)
{
	struct text text = { .buf = buf, .size = size };
	struct skeleton sk = { &text, settings, mode };

	if (mode != STEERING_SA && (mode != STEERING_ADDRESS || settings->interface[0] == '\0'))
		return -EINVAL;
	add(&text, "table inet %s {\n\tcomment \"made by steerd; changes are undone\"\n", table);
	add(&text,
	    "\n\tcounter first {\n\t}\n\n\tcounter bypassed {\n\t}\n\n\tcounter denied {\n\t}\n");
	nft_destinations_add_reserved(&sk);
	for (unsigned p = 0; p < settings->profile_count; p++) {
		add_sets(&sk, p);
		nft_destinations_add_sets(&sk, p);
	}
	add_chains(&sk);
	add(&text, "}\n");
	return text.full || text.len > INT32_MAX ? -ENOBUFS : (int)text.len;
}
