/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading rules: a rule is a list of expressions that work on registers. What a register holds is
 * followed as far as marks go: a constant, or (mark & AND) ^ XOR of either mark. All else is
 * unknown, which may be anything.
 */
#include "nft_foreign.h"

/* which libnftnl's headers need */
#include <stdio.h>

#include <arpa/inet.h>
#include <errno.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/xt_connmark.h>
#include <linux/netfilter/xt_mark.h>
#include <string.h>

#include "base/clock.h"
#include "nft_internal.h"

#define ALL UINT32_MAX
/* 4 registers of 16 bytes, or 16 of 4 bytes over the same room. */
#define REGISTERS 16
/* A dump torn by commits is repeated this often. */
#define TRIES 5

enum content { UNKNOWN, CONSTANT, PACKET_MARK, FLOW_MARK };

struct reg {
	enum content content;
	uint32_t and, xor; /* xor alone: the constant */
};

struct reading {
	struct nft_rule_use use;
	struct reg regs[REGISTERS];
	uint32_t zero_flow_bits; /* of the ct mark, compared with 0 so far */
};

const char *nft_family_name(uint8_t family)
{
	switch (family) {
	case NFPROTO_INET:
		return "inet";
	case NFPROTO_IPV4:
		return "ip";
	case NFPROTO_IPV6:
		return "ip6";
	case NFPROTO_ARP:
		return "arp";
	case NFPROTO_BRIDGE:
		return "bridge";
	case NFPROTO_NETDEV:
		return "netdev";
	default:
		return "?";
	}
}

/* The register a number stands for; NULL: the verdict or none that there is. */
static struct reg *reg_of(struct reading *reading, uint32_t number)
{
	if (number >= NFT_REG_1 && number <= NFT_REG_4)
		return &reading->regs[(number - NFT_REG_1) * 4];
	if (number >= NFT_REG32_00 && number <= NFT_REG32_15)
		return &reading->regs[number - NFT_REG32_00];
	return NULL;
}

static struct reg get(struct reading *reading, const struct nftnl_expr *e, uint16_t attr)
{
	const struct reg *reg = reg_of(reading, nftnl_expr_get_u32(e, attr));

	return reg != NULL ? *reg : (struct reg){ 0 };
}

static void put(struct reading *reading, const struct nftnl_expr *e, uint16_t attr,
		struct reg value)
{
	struct reg *reg = reg_of(reading, nftnl_expr_get_u32(e, attr));

	if (reg != NULL)
		*reg = value;
}

static bool word(const struct nftnl_expr *e, uint16_t attr, uint32_t *ret_word)
{
	uint32_t len = 0;
	const void *data = nftnl_expr_is_set(e, attr) ? nftnl_expr_get(e, attr, &len) : NULL;

	if (data == NULL || len < sizeof(*ret_word))
		return false;
	memcpy(ret_word, data, sizeof(*ret_word));
	return true;
}

/* A mark becomes what a register holds. */
static void write_mark(struct nft_mark_use *mark, enum content own, struct reg value)
{
	if (value.content == CONSTANT) {
		mark->set |= value.xor ;
		mark->cleared |= ~value.xor ;
	} else if (value.content == own) {
		/* outside "and" it becomes "xor"; within, "xor" turns bits round */
		mark->set |= value.xor ;
		mark->cleared |= (~value.and &~value.xor) | (value.and &value.xor);
	} else if (value.content != UNKNOWN) {
		mark->set |= value.and | value.xor ;
		mark->cleared |= ~(value.xor &~value.and);
	} else {
		mark->set = mark->cleared = ALL;
	}
}

static void read_mark(struct reading *reading, struct reg value)
{
	if (value.content == PACKET_MARK)
		reading->use.packet.read |= value.and;
	else if (value.content == FLOW_MARK)
		reading->use.flow.read |= value.and;
}

static void on_meta(struct reading *reading, const struct nftnl_expr *e)
{
	bool mark = nftnl_expr_get_u32(e, NFTNL_EXPR_META_KEY) == NFT_META_MARK;

	if (nftnl_expr_is_set(e, NFTNL_EXPR_META_DREG))
		put(reading, e, NFTNL_EXPR_META_DREG,
		    mark ? (struct reg){ PACKET_MARK, ALL, 0 } : (struct reg){ 0 });
	else if (mark)
		write_mark(&reading->use.packet, PACKET_MARK,
			   get(reading, e, NFTNL_EXPR_META_SREG));
}

static void on_ct(struct reading *reading, const struct nftnl_expr *e)
{
	uint32_t key = nftnl_expr_get_u32(e, NFTNL_EXPR_CT_KEY);

	if (nftnl_expr_is_set(e, NFTNL_EXPR_CT_DREG))
		put(reading, e, NFTNL_EXPR_CT_DREG,
		    key == NFT_CT_MARK ? (struct reg){ FLOW_MARK, ALL, 0 } : (struct reg){ 0 });
	else if (key == NFT_CT_MARK)
		write_mark(&reading->use.flow, FLOW_MARK, get(reading, e, NFTNL_EXPR_CT_SREG));
	else if (key == NFT_CT_ZONE)
		reading->use.zone = true;
}

static void on_immediate(struct reading *reading, const struct nftnl_expr *e)
{
	struct reg value = { 0 };

	if (word(e, NFTNL_EXPR_IMM_DATA, &value.xor))
		value.content = CONSTANT;
	put(reading, e, NFTNL_EXPR_IMM_DREG, value);
}

static void on_bitwise(struct reading *reading, const struct nftnl_expr *e)
{
	struct reg value = get(reading, e, NFTNL_EXPR_BITWISE_SREG);
	uint32_t mask, xor;

	if (nftnl_expr_get_u32(e, NFTNL_EXPR_BITWISE_OP) != NFT_BITWISE_BOOL ||
	    !word(e, NFTNL_EXPR_BITWISE_MASK, &mask) || !word(e, NFTNL_EXPR_BITWISE_XOR, &xor))
		value.content = UNKNOWN;
	if (value.content != UNKNOWN) {
		value.and &= mask;
		value.xor = (value.xor &mask) ^ xor;
	}
	put(reading, e, NFTNL_EXPR_BITWISE_DREG, value);
}

/* ct mark & M == 0 lets only flows go on that have none of these bits. */
static void on_cmp(struct reading *reading, const struct nftnl_expr *e)
{
	struct reg value = get(reading, e, NFTNL_EXPR_CMP_SREG);
	uint32_t with;

	read_mark(reading, value);
	if (value.content == FLOW_MARK && nftnl_expr_get_u32(e, NFTNL_EXPR_CMP_OP) == NFT_CMP_EQ &&
	    word(e, NFTNL_EXPR_CMP_DATA, &with))
		reading->zero_flow_bits |= value.and &~(with ^ value.xor);
}

static void on_lookup(struct reading *reading, const struct nftnl_expr *e)
{
	read_mark(reading, get(reading, e, NFTNL_EXPR_LOOKUP_SREG));
	if (nftnl_expr_is_set(e, NFTNL_EXPR_LOOKUP_DREG))
		put(reading, e, NFTNL_EXPR_LOOKUP_DREG, (struct reg){ 0 });
}

/* Ranges are compared in the network's order: the mark, turned round. */
static void on_byteorder(struct reading *reading, const struct nftnl_expr *e)
{
	read_mark(reading, get(reading, e, NFTNL_EXPR_BYTEORDER_SREG));
	put(reading, e, NFTNL_EXPR_BYTEORDER_DREG, (struct reg){ 0 });
}

static void on_range(struct reading *reading, const struct nftnl_expr *e)
{
	read_mark(reading, get(reading, e, NFTNL_EXPR_RANGE_SREG));
}

static void on_flow(struct reading *reading, const struct nftnl_expr *e)
{
	reading->use.flowtable = nftnl_expr_get_str(e, NFTNL_EXPR_FLOW_TABLE_NAME);
	reading->use.unoffloaded = reading->zero_flow_bits;
}

/* iptables-nft -j MARK, -j CONNMARK */
static void on_target(struct reading *reading, const struct nftnl_expr *e)
{
	const char *name = nftnl_expr_get_str(e, NFTNL_EXPR_TG_NAME);
	uint32_t len = 0;
	const void *info = nftnl_expr_get(e, NFTNL_EXPR_TG_INFO, &len);
	struct nft_mark_use *packet = &reading->use.packet, *flow = &reading->use.flow;
	struct xt_connmark_tginfo1 connmark;
	struct xt_mark_tginfo2 mark;

	if (name != NULL && strcmp(name, "MARK") == 0 && len >= sizeof(mark)) {
		memcpy(&mark, info, sizeof(mark));
		write_mark(packet, PACKET_MARK, (struct reg){ PACKET_MARK, ~mark.mask, mark.mark });
	} else if (name != NULL && strcmp(name, "CONNMARK") == 0 && len >= sizeof(connmark)) {
		memcpy(&connmark, info, sizeof(connmark));
		if (connmark.mode == XT_CONNMARK_SET) {
			write_mark(flow, FLOW_MARK,
				   (struct reg){ FLOW_MARK, ~connmark.ctmask, connmark.ctmark });
		} else if (connmark.mode == XT_CONNMARK_SAVE) {
			flow->set |= connmark.nfmask;
			flow->cleared |= connmark.ctmask | connmark.nfmask;
		} else {
			packet->set |= connmark.ctmask;
			packet->cleared |= connmark.nfmask | connmark.ctmask;
		}
	}
}

/* iptables-nft -m mark, -m connmark: both have their mask in the same place. */
static void on_match(struct reading *reading, const struct nftnl_expr *e)
{
	const char *name = nftnl_expr_get_str(e, NFTNL_EXPR_MT_NAME);
	uint32_t len = 0;
	const void *info = nftnl_expr_get(e, NFTNL_EXPR_MT_INFO, &len);
	struct xt_mark_mtinfo1 mark;

	if (name == NULL || len < sizeof(mark))
		return;
	memcpy(&mark, info, sizeof(mark));
	if (strcmp(name, "mark") == 0)
		reading->use.packet.read |= mark.mask;
	else if (strcmp(name, "connmark") == 0)
		reading->use.flow.read |= mark.mask;
}

/* Expressions that write no register. */
static void on_harmless(struct reading *reading, const struct nftnl_expr *e)
{
	(void)reading;
	(void)e;
}

static const struct {
	const char *name;
	void (*read)(struct reading *reading, const struct nftnl_expr *e);
} expressions[] = {
	{ "meta", on_meta },           { "ct", on_ct },
	{ "immediate", on_immediate }, { "bitwise", on_bitwise },
	{ "byteorder", on_byteorder }, { "cmp", on_cmp },
	{ "range", on_range },         { "lookup", on_lookup },
	{ "flow_offload", on_flow },   { "target", on_target },
	{ "match", on_match },         { "counter", on_harmless },
	{ "limit", on_harmless },      { "log", on_harmless },
	{ "objref", on_harmless },     { "quota", on_harmless },
};

static int read_expression(struct nftnl_expr *e, void *user)
{
	const char *name = nftnl_expr_get_str(e, NFTNL_EXPR_NAME);
	struct reading *reading = user;

	for (size_t i = 0; i < sizeof(expressions) / sizeof(expressions[0]); i++) {
		if (strcmp(expressions[i].name, name) != 0)
			continue;
		expressions[i].read(reading, e);
		return 0;
	}
	/* it may have written any register */
	memset(reading->regs, 0, sizeof(reading->regs));
	return 0;
}

struct walk {
	const char *except;
	unsigned left;
	int64_t deadline; /* 0: none */
	bool more;
	void (*each)(const struct nft_rule_use *, void *);
	void *user;
};

static void read_rule(const struct nftnl_rule *rule, struct walk *walk)
{
	struct reading reading = {
		.use = { .family = (uint8_t)nftnl_rule_get_u32(rule, NFTNL_RULE_FAMILY),
			 .table = nftnl_rule_get_str(rule, NFTNL_RULE_TABLE),
			 .chain = nftnl_rule_get_str(rule, NFTNL_RULE_CHAIN),
			 .handle = nftnl_rule_get_u64(rule, NFTNL_RULE_HANDLE) }
	};

	if (reading.use.table == NULL || reading.use.chain == NULL ||
	    (walk->except != NULL && reading.use.family == NFPROTO_INET &&
	     strcmp(reading.use.table, walk->except) == 0))
		return;
	nftnl_expr_foreach((struct nftnl_rule *)rule, read_expression, &reading);
	walk->each(&reading.use, walk->user);
}

static int on_rule(const struct nlmsghdr *nlh, void *user)
{
	struct walk *walk = user;
	struct nftnl_rule *rule;

	if (walk->left-- == 0 || (walk->deadline != 0 && clock_monotonic_us() > walk->deadline)) {
		walk->more = true;
		return MNL_CB_STOP;
	}
	rule = nftnl_rule_alloc();
	if (rule == NULL)
		return MNL_CB_ERROR;
	if (nftnl_rule_nlmsg_parse(nlh, rule) >= 0)
		read_rule(rule, walk);
	nftnl_rule_free(rule);
	return MNL_CB_OK;
}

/*
 * nft list ruleset, or the rules of one table. A torn dump is reported twice in part, which only
 * names a rule again. The link has unread answers when there were more, so it is closed.
 */
static int walk_rules(uint8_t family, const char *table, struct walk *walk)
{
	struct nft_link link = { 0 };
	char buf[512];
	int err = nft_link_open(&link);

	for (unsigned try = 0; err == 0 && try < TRIES; try++) {
		struct nlmsghdr *nlh = nft_link_request(&link, buf, NFT_MSG_GETRULE, NLM_F_DUMP);
		struct nfgenmsg *nfg = mnl_nlmsg_get_payload(nlh);

		nfg->nfgen_family = family;
		if (table != NULL)
			mnl_attr_put_strz(nlh, NFTA_RULE_TABLE, table);
		walk->left = NFT_FOREIGN_RULES_MAX;
		err = nft_link_ask(&link, nlh, on_rule, walk);
		if (err != -EINTR)
			break;
		err = 0;
	}
	nft_link_close(&link);
	return err;
}

int nft_each_rule(const char *except, void (*each)(const struct nft_rule_use *, void *), void *user)
{
	struct walk walk = { .except = except,
			     .deadline = clock_monotonic_us() + NFT_FOREIGN_TIME_US,
			     .each = each,
			     .user = user };
	int err = walk_rules(NFPROTO_UNSPEC, NULL, &walk);

	return err < 0 ? err : walk.more;
}

int nft_each_rule_of(uint8_t family, const char *table,
		     void (*each)(const struct nft_rule_use *, void *), void *user)
{
	struct walk walk = { .each = each, .user = user };
	int err = walk_rules(family, table, &walk);

	return err < 0 ? err : walk.more;
}
