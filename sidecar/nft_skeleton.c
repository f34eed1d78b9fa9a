/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The text of steerd's nft table. What decides is always a positive match in two sets, one that
 * carries the lease (svc_*) and one that names the tenant (sa_*, host*_*, net*_*). After that comes
 * where the packet goes (nft_destinations.c), so that it costs nothing to other packets.
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

static const struct {
	const char *type; /* what the set holds */
	const char *flags;
	bool range; /* a range takes two elements: its first address and the one behind its last */
} shapes[SET_COUNT] = {
	[SET_SA] = { "typeof ipsec in spi", "timeout", false },
	[SET_HOST4] = { "type ipv4_addr", "timeout", false },
	[SET_HOST6] = { "type ipv6_addr", "timeout", false },
	[SET_NET4] = { "type ipv4_addr", "interval, timeout", true },
	[SET_NET6] = { "type ipv6_addr", "interval, timeout", true },
};

static const char *const set_prefixes[SET_COUNT] = {
	[SET_SA] = "sa",     [SET_HOST4] = "host4", [SET_HOST6] = "host6",
	[SET_NET4] = "net4", [SET_NET6] = "net6",
};

void nft_set_name(const struct settings *settings, unsigned set, unsigned profile,
		  char name[NFT_SET_NAME_MAX])
{
	snprintf(name, NFT_SET_NAME_MAX, "%s_%s", set == SET_SERVICE ? "svc" : set_prefixes[set],
		 settings->profiles[profile].name);
}

bool nft_set_used(enum steering_mode mode, unsigned set)
{
	if (mode == STEERING_SA)
		return set == SET_SA;
	return mode == STEERING_ADDRESS && set > SET_SA && set < SET_COUNT;
}

uint64_t nft_set_size(const struct settings *settings, unsigned set)
{
	uint64_t size = (uint64_t)settings->max_child_sas * (shapes[set].range ? 2 : 1);

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
		    name, shapes[set].type, nft_set_size(sk->settings, set), shapes[set].flags);
	}
	nft_set_name(sk->settings, SET_SERVICE, profile, name);
	add(sk->text,
	    "\n\tset %s {\n\t\ttype inet_proto . inet_service\n\t\tsize %u\n"
	    "\t\tflags timeout\n\t}\n",
	    name, NFT_SERVICE_SET_SIZE);
}

static void add_set_mark(const struct skeleton *sk, const char *which, uint32_t mark)
{
	add(sk->text, "%s mark set %s mark & 0x%08x | 0x%08x ", which, which,
	    ~sk->settings->mark_mask, mark);
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

/* What makes a packet the tenant's own. */
static void add_tenant_match(const struct skeleton *sk, unsigned set, const char *set_name)
{
	static const char *const addresses[SET_COUNT] = {
		[SET_HOST4] = "ip",
		[SET_HOST6] = "ip6",
		[SET_NET4] = "ip",
		[SET_NET6] = "ip6",
	};

	if (set == SET_SA)
		add(sk->text, " ipsec in spi @%s", set_name);
	else
		add(sk->text, " iifname \"%s\" %s saddr @%s", sk->settings->interface,
		    addresses[set], set_name);
}

static void add_bypass_rule(const struct skeleton *sk, unsigned profile, unsigned set,
			    enum stage stage)
{
	const struct profile *p = &sk->settings->profiles[profile];
	uint32_t mark = sk->settings->paths[p->path].mark;
	char name[NFT_SET_NAME_MAX];

	add(sk->text, "\t\t");
	if (stage == STAGE_PINNED)
		add(sk->text, "ct mark & 0x%08x == 0x%08x ", sk->settings->mark_mask, mark);
	nft_set_name(sk->settings, SET_SERVICE, profile, name);
	add(sk->text, "meta l4proto . th dport @%s", name);
	nft_set_name(sk->settings, set, profile, name);
	add_tenant_match(sk, set, name);
	add(sk->text, " ");
	if (nft_destinations_have_chain(sk, profile, stage))
		nft_destinations_add_jump(sk, profile, stage);
	else
		nft_skeleton_add_verdict(sk, profile, stage);
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
	add_layer_rules(sk, stage == STAGE_PINNED ? "counter name \"denied\" drop" : "return");
	for (unsigned p = 0; p < sk->settings->profile_count; p++)
		for (unsigned set = 0; set < SET_COUNT; set++)
			if (nft_set_used(sk->mode, set))
				add_bypass_rule(sk, p, set, stage);
}

/*
 * The base chain. Every packet of the gateway comes by here, so what most of them need is decided
 * with the fewest expressions: a flow that is known and has no mark of ours leaves after three
 * tests.
 */
static void add_prerouting(const struct skeleton *sk)
{
	uint32_t mask = sk->settings->mark_mask;

	add(sk->text,
	    "\n\tchain prerouting {\n"
	    "\t\ttype filter hook prerouting priority mangle; policy accept;\n"
	    "\t\tmeta mark & 0x%08x != 0 meta mark set meta mark & 0x%08x"
	    " comment \"these bits are ours\"\n",
	    mask, ~mask);
	if (!sk->settings->pinning) {
		add_bypass_rules(sk, STAGE_UNPINNED);
		add(sk->text, "\t}\n");
		return;
	}
	add(sk->text, "\t\tct status ! confirmed goto fresh comment \"nothing is decided yet\"\n");
	add(sk->text,
	    "\t\tct mark & 0x%08x != 0 goto pinned comment \"decided: check again\"\n\t}\n", mask);
}

/*
 * Only a flow's very first packet finds its entry unconfirmed: a repeated SYN stays where the
 * first one went. Nobody has decided about it: an expected connection (a helper's) gets its
 * master's ct mark from the kernel, and what somebody else's rule has just set may lead anywhere.
 * (An ICMP error is "related" too, but to an entry that is confirmed.)
 */
static void add_fresh(const struct skeleton *sk)
{
	uint32_t mask = sk->settings->mark_mask;

	add(sk->text,
	    "\n\tchain fresh {\n"
	    "\t\tct mark & 0x%08x != 0 ct mark set ct mark & 0x%08x"
	    " comment \"not our decision\"\n",
	    mask, ~mask);
	add(sk->text, "\t\tct state new goto first comment \"the first packet decides\"\n\t}\n");
}

static void add_replies(const struct skeleton *sk)
{
	add(sk->text, "\n\tchain replies {\n");
	for (unsigned i = 0; i < sk->settings->path_count; i++) {
		const struct path *path = &sk->settings->paths[i];

		if (path->table == 0)
			continue;
		add(sk->text, "\t\tct mark & 0x%08x == 0x%08x ", sk->settings->mark_mask,
		    path->mark);
		add_set_mark(sk, "meta", path->reply_mark);
		add(sk->text, "comment \"%s: replies\"\n", path->name);
	}
	add(sk->text, "\t}\n");
}

static void add_pinned(const struct skeleton *sk)
{
	/* Numbers: names would need /etc/protocols, which a minimal system does not have. */
	static const unsigned icmp[] = { IPPROTO_ICMP, IPPROTO_ICMPV6 };

	add(sk->text, "\n\tchain pinned {\n"
		      "\t\tct direction reply goto replies comment \"for reverse-path lookups\"\n");
	for (unsigned i = 0; i < 2; i++)
		add(sk->text,
		    "\t\tmeta l4proto %u ct state related accept"
		    " comment \"errors go the ordinary way\"\n",
		    icmp[i]);
	add_bypass_rules(sk, STAGE_PINNED);
	add(sk->text, "\t\tcounter name \"denied\" drop"
		      " comment \"no exception or lease any more\"\n\t}\n");
}

static void add_destination_chains(const struct skeleton *sk, enum stage stage)
{
	for (unsigned p = 0; p < sk->settings->profile_count; p++)
		if (nft_destinations_have_chain(sk, p, stage))
			nft_destinations_add_chain(sk, p, stage);
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
	add_prerouting(&sk);
	if (!settings->pinning)
		add_destination_chains(&sk, STAGE_UNPINNED);
	if (settings->pinning) {
		add_fresh(&sk);
		add_replies(&sk);
		add(&text, "\n\tchain first {\n");
		add_bypass_rules(&sk, STAGE_FIRST);
		add(&text, "\t}\n");
		add_pinned(&sk);
		add_destination_chains(&sk, STAGE_FIRST);
		add_destination_chains(&sk, STAGE_PINNED);
	}
	add(&text, "}\n");
	return text.full || text.len > INT32_MAX ? -ENOBUFS : (int)text.len;
}
