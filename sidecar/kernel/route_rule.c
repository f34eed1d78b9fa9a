/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * FIB rules by value. Rules are parsed here and not by libnl, because a rule that has more
 * selectors than libnl knows must not pass for ours.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <netlink/route/rule.h>
#include <stdio.h>
#include <string.h>

#include "route_internal.h"

/* In two families, three for a path and one for all of them. */
#define DESIRED_MAX (2 * (SETTINGS_PATHS_MAX * 3 + 1))

struct rule {
	int family;
	uint32_t priority;
	uint32_t mark;
	uint32_t mask;
	uint32_t table;
	uint32_t target; /* FR_ACT_GOTO: the priority to go on at */
	char iif[IFNAMSIZ];
	uint8_t action;
	uint8_t protocol;
	bool plain; /* nothing but what is above */
};

static uint32_t u32_or(struct nlattr *attr, uint32_t otherwise)
{
	return attr != NULL && nla_len(attr) >= 4 ? nla_get_u32(attr) : otherwise;
}

/* Is the attribute one that struct rule holds, or one that says nothing? */
static bool is_plain(struct nlattr *attr)
{
	switch (nla_type(attr)) {
	case FRA_PRIORITY:
	case FRA_FWMARK:
	case FRA_FWMASK:
	case FRA_TABLE:
	case FRA_IIFNAME:
	case FRA_GOTO:
	case FRA_PROTOCOL:
	case FRA_PAD:
		return true;
	case FRA_SUPPRESS_PREFIXLEN:
	case FRA_SUPPRESS_IFGROUP:
		return u32_or(attr, 0) == UINT32_MAX;
	default:
		return false;
	}
}

static bool parse(struct nlmsghdr *nlh, struct rule *rule)
{
	struct nlattr *tb[FRA_MAX + 1];
	struct fib_rule_hdr *frh = nlmsg_data(nlh);
	struct nlattr *attr;
	int left;

	if (nlmsg_parse(nlh, sizeof(*frh), tb, FRA_MAX, NULL) < 0)
		return false;
	*rule = (struct rule){ .family = frh->family };
	rule->priority = u32_or(tb[FRA_PRIORITY], 0);
	rule->mark = u32_or(tb[FRA_FWMARK], 0);
	rule->mask = u32_or(tb[FRA_FWMASK], rule->mark != 0 ? UINT32_MAX : 0);
	rule->table = u32_or(tb[FRA_TABLE], frh->table);
	rule->target = u32_or(tb[FRA_GOTO], 0);
	rule->action = frh->action;
	if (tb[FRA_PROTOCOL] != NULL && nla_len(tb[FRA_PROTOCOL]) >= 1)
		rule->protocol = nla_get_u8(tb[FRA_PROTOCOL]);
	if (tb[FRA_IIFNAME] != NULL)
		nla_strlcpy(rule->iif, tb[FRA_IIFNAME], sizeof(rule->iif));
	rule->plain = frh->tos == 0 && frh->src_len == 0 && frh->dst_len == 0 &&
		      !(frh->flags & FIB_RULE_INVERT);
	nlmsg_for_each_attr(attr, nlh, sizeof(*frh), left)
		rule->plain = rule->plain && is_plain(attr);
	return true;
}

static bool equal(const struct rule *a, const struct rule *b)
{
	return a->family == b->family && a->priority == b->priority && a->mark == b->mark &&
	       a->mask == b->mask && a->table == b->table && a->protocol == b->protocol &&
	       a->action == b->action && a->target == b->target && strcmp(a->iif, b->iif) == 0 &&
	       a->plain && b->plain;
}

/*
 * Replies carry a mark for one purpose: strict reverse-path filtering looks their source up as if
 * they went back, with that mark, and must find the interface they came from. The kernel makes that
 * lookup with iif set to the interface the packet will leave by (net/ipv4/route.c,
 * __mkroute_input), so a reply itself, whose iif is the path's interface, can be told apart: it
 * jumps over the rule, and is routed like any packet. Without the jump it would be sent back.
 */
static unsigned desire_reply(const struct settings *s, const struct path *path, struct rule rule,
			     struct rule *desired)
{
	rule.mark = path->reply_mark;
	rule.iif[0] = '\0';
	desired[0] = rule;
	memcpy(desired[0].iif, path->interface, sizeof(desired[0].iif));
	desired[0].action = FR_ACT_GOTO;
	desired[0].table = 0;
	desired[0].target = s->rule_priority + ROUTE_PRIORITY_END;
	desired[1] = rule;
	desired[1].priority = s->rule_priority + ROUTE_PRIORITY_REPLY;
	return 2;
}

static unsigned desire_path(const struct settings *s, const struct path *path, int family,
			    enum steering_mode mode, struct rule *desired)
{
	struct rule rule = { .family = family,
			     .action = FR_ACT_TO_TBL,
			     .priority = s->rule_priority,
			     .mark = path->mark,
			     .mask = s->mark_mask,
			     .table = path->table,
			     .protocol = ROUTE_PROTOCOL,
			     .plain = true };

	/* First: of the priority they share the kernel asks what was added first. */
	desired[0] = rule;
	if (mode == STEERING_ADDRESS)
		memcpy(desired[0].iif, s->interface, sizeof(desired[0].iif));
	return path->interface[0] == '\0' ? 1 : 1 + desire_reply(s, path, rule, desired + 1);
}

/*
 * Where the jumps end; added first, so that none ever leads nowhere. Every packet comes by here, and
 * every reverse-path lookup too: what is forwarded fails the test for "lo" with one comparison (and
 * goes on, as nop would say), where a rule for all would cost an indirect call.
 */
static unsigned desire_end(const struct settings *s, int family, struct rule *desired)
{
	for (unsigned i = 0; i < s->path_count; i++) {
		if (!route_path_has(&s->paths[i], family) || s->paths[i].interface[0] == '\0')
			continue;
		*desired = (struct rule){ .family = family,
					  .action = FR_ACT_NOP,
					  .priority = s->rule_priority + ROUTE_PRIORITY_END,
					  .protocol = ROUTE_PROTOCOL,
					  .iif = "lo",
					  .plain = true };
		return 1;
	}
	return 0;
}

static unsigned desire(const struct route *route, enum steering_mode mode,
		       struct rule desired[DESIRED_MAX])
{
	const struct settings *s = route->settings;
	unsigned count = 0;

	for (unsigned f = 0; f < 2; f++) {
		count += desire_end(s, route_families[f], desired + count);
		for (unsigned i = 0; i < s->path_count; i++)
			if (route_path_has(&s->paths[i], route_families[f]))
				count += desire_path(s, &s->paths[i], route_families[f], mode,
						     desired + count);
	}
	return count;
}

/* ip rule add priority P fwmark MARK/MASK [iif IF] lookup TABLE | goto PRIORITY | nop protocol 93
 */
static int add(struct route *route, const struct rule *rule)
{
	struct rtnl_rule *r = rtnl_rule_alloc();
	struct nl_msg *msg = NULL;
	int err;

	if (r == NULL)
		return -ENOMEM;
	rtnl_rule_set_family(r, rule->family);
	rtnl_rule_set_prio(r, rule->priority);
	if (rule->mask != 0) {
		rtnl_rule_set_mark(r, rule->mark);
		rtnl_rule_set_mask(r, rule->mask);
	}
	rtnl_rule_set_table(r, rule->table);
	rtnl_rule_set_action(r, rule->action);
	if (rule->action == FR_ACT_GOTO)
		rtnl_rule_set_goto(r, rule->target);
	rtnl_rule_set_protocol(r, rule->protocol);
	if (rule->iif[0] != '\0')
		rtnl_rule_set_iif(r, rule->iif);
	err = rtnl_rule_build_add_request(r, NLM_F_EXCL, &msg) < 0 ? -ENOMEM : 0;
	rtnl_rule_put(r);
	return err < 0 ? err : route_change(route, msg);
}

static int dump(struct route *route, int family, route_filter filter, void *user,
		struct observed *observed)
{
	struct fib_rule_hdr frh = { .family = (uint8_t)family };
	struct nl_msg *msg = nlmsg_alloc_simple(RTM_GETRULE, NLM_F_DUMP);

	if (msg == NULL)
		return -ENOMEM;
	if (nlmsg_append(msg, &frh, sizeof(frh), NLMSG_ALIGNTO) < 0) {
		nlmsg_free(msg);
		return -ENOMEM;
	}
	return route_dump(route, msg, filter, user, observed);
}

static bool is_ours(struct nlmsghdr *nlh, void *user)
{
	struct rule rule;

	(void)user;
	return nlh->nlmsg_type == RTM_NEWRULE && parse(nlh, &rule) &&
	       rule.protocol == ROUTE_PROTOCOL;
}

static int dump_ours(struct route *route, struct observed *observed)
{
	int err = 0;

	for (unsigned f = 0; f < 2 && err == 0; f++) {
		err = dump(route, route_families[f], is_ours, NULL, observed);
		/* no IPv6 in this kernel */
		if (err == -EAFNOSUPPORT || err == -EOPNOTSUPP)
			err = 0;
	}
	return err;
}

/* Of a rule that is there twice, one is enough. */
static bool take_desired(const struct rule *rule, const struct rule *desired, unsigned count,
			 bool *present)
{
	for (unsigned i = 0; i < count; i++) {
		if (present[i] || !equal(rule, &desired[i]))
			continue;
		present[i] = true;
		return true;
	}
	return false;
}

static int remove_all_but(struct route *route, const struct observed *observed,
			  const struct rule *desired, unsigned count, bool *present,
			  unsigned *changed)
{
	int first = 0;

	for (size_t i = 0; i < observed->count; i++) {
		struct rule rule;
		int err;

		if (!parse(nlmsg_hdr(observed->messages[i]), &rule) ||
		    take_desired(&rule, desired, count, present))
			continue;
		err = route_delete(route, observed->messages[i], RTM_DELRULE);
		if (err == 0)
			(*changed)++;
		else if (first == 0 && err != -ENOENT)
			first = err;
	}
	return first;
}

int route_rules_ensure(struct route *route, enum steering_mode mode, unsigned *changed)
{
	struct rule desired[DESIRED_MAX];
	bool present[DESIRED_MAX] = { false };
	struct observed observed = { 0 };
	unsigned count = desire(route, mode, desired);
	int first = dump_ours(route, &observed);

	if (first == 0)
		first = remove_all_but(route, &observed, desired, count, present, changed);
	for (unsigned i = 0; i < count && first == 0; i++) {
		if (present[i])
			continue;
		first = add(route, &desired[i]);
		if (first == 0)
			(*changed)++;
	}
	route_observed_clear(&observed);
	return first;
}

int route_rules_remove(struct route *route)
{
	struct observed observed = { 0 };
	unsigned changed = 0;
	int err = dump_ours(route, &observed);

	if (err == 0)
		err = remove_all_but(route, &observed, NULL, 0, NULL, &changed);
	route_observed_clear(&observed);
	return err;
}

static const char *action_name(uint8_t action)
{
	switch (action) {
	case FR_ACT_GOTO:
		return "goto";
	case FR_ACT_NOP:
		return "nop";
	case FR_ACT_BLACKHOLE:
		return "blackhole";
	case FR_ACT_UNREACHABLE:
		return "unreachable";
	case FR_ACT_PROHIBIT:
		return "prohibit";
	default:
		return "";
	}
}

/* As `ip rule` prints it, as far as a person needs it to find the rule. */
static void describe(struct nlmsghdr *nlh, const struct rule *rule, char *buf, size_t size)
{
	struct fib_rule_hdr *frh = nlmsg_data(nlh);
	struct nlattr *src = nlmsg_find_attr(nlh, sizeof(*frh), FRA_SRC);
	char address[INET6_ADDRSTRLEN] = "all";
	char length[8] = "";
	char mark[32] = "";
	char iif[IFNAMSIZ + 8] = "";

	if (src != NULL && nla_len(src) >= (frh->family == AF_INET6 ? 16 : 4)) {
		inet_ntop(frh->family, nla_data(src), address, sizeof(address));
		snprintf(length, sizeof(length), "/%u", frh->src_len);
	}
	if (rule->mask == UINT32_MAX)
		snprintf(mark, sizeof(mark), " fwmark 0x%x", rule->mark);
	else if (rule->mask != 0)
		snprintf(mark, sizeof(mark), " fwmark 0x%x/0x%x", rule->mark, rule->mask);
	if (rule->iif[0] != '\0')
		snprintf(iif, sizeof(iif), " iif %s", rule->iif);
	if (frh->action == FR_ACT_TO_TBL)
		snprintf(buf, size, "from %s%s%s%s lookup %u", address, length, mark, iif,
			 rule->table);
	else
		snprintf(buf, size, "from %s%s%s%s %s", address, length, mark, iif,
			 action_name(frh->action));
}

static bool is_our_priority(const struct settings *s, uint32_t priority)
{
	return priority >= s->rule_priority && priority <= s->rule_priority + ROUTE_PRIORITY_END;
}

/* A foreign rule that is in the way. */
static bool is_conflict(struct nlmsghdr *nlh, void *user)
{
	const struct settings *s = user;
	struct rule rule;

	if (nlh->nlmsg_type != RTM_NEWRULE || !parse(nlh, &rule) || rule.protocol == ROUTE_PROTOCOL)
		return false;
	return is_our_priority(s, rule.priority) || (rule.mark & rule.mask & s->mark_mask) != 0;
}

static int name_conflict(const struct settings *s, struct nlmsghdr *nlh, int family,
			 char error[ROUTE_ERROR_MAX], char fix[ROUTE_ERROR_MAX])
{
	const char *version = family == AF_INET6 ? "IPv6 " : "";
	struct rule rule = { 0 };
	char text[128];

	parse(nlh, &rule);
	describe(nlh, &rule, text, sizeof(text));
	snprintf(fix, ROUTE_ERROR_MAX, "ip %srule del priority %u %s",
		 family == AF_INET6 ? "-6 " : "", rule.priority, text);
	if (is_our_priority(s, rule.priority))
		snprintf(error, ROUTE_ERROR_MAX,
			 "%srule priority %u is taken by \"%s\"; set steering.rule_priority to the "
			 "first "
			 "of %u free ones",
			 version, rule.priority, text, ROUTE_PRIORITY_END + 1);
	else
		snprintf(error, ROUTE_ERROR_MAX,
			 "mark bits of 0x%08x are used by the %srule %u \"%s\"; set "
			 "steering.mark_mask to free bits",
			 s->mark_mask, version, rule.priority, text);
	return -EBUSY;
}

int route_rules_check(struct route *route, char error[ROUTE_ERROR_MAX], char fix[ROUTE_ERROR_MAX])
{
	int err = 0;

	for (unsigned f = 0; f < 2 && err == 0; f++) {
		struct observed observed = { .limit = 1 };

		err = dump(route, route_families[f], is_conflict, (void *)route->settings,
			   &observed);
		if (err == -EAFNOSUPPORT || err == -EOPNOTSUPP)
			err = 0;
		if (err < 0)
			snprintf(error, ROUTE_ERROR_MAX, "cannot read the routing rules: %s",
				 strerror(-err));
		else if (observed.count > 0)
			err = name_conflict(route->settings, nlmsg_hdr(observed.messages[0]),
					    route_families[f], error, fix);
		route_observed_clear(&observed);
	}
	return err;
}
